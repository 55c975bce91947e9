"""Recolour the result of a style transfer with the palette of its style, in OKLab.

In OKLab, a colour has a lightness L and two axes of chroma, a and b. The new picture has the L of the
result. Its a and b are those of the content photograph, moved to the mean and covariance of the style's
a and b, and smoothed except across edges of L. With a grey style, L is moved to the mean and covariance
of the style, too. At last, L, a and b are limited to the style's ranges; see `recoloured`.

References:
  Kolkin, Kucera, Paris, Sykora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer", 2022;
  nkolkin13/NeuralNeighborStyleTransfer @ 290976ab.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import cut, inside
from nst_jax._types import Image, RealSize, sum_dtype
from nst_jax.images.oklab import linear_of_oklab, oklab_of_linear

RIDGE = 1e-4  # added to the diagonals of covariances, so that they can be inverted
# A style counts as grey if all entries of the covariance of its a and b (the chroma axes of OKLab) have
# absolute values below this number. With a grey style, `recoloured` moves the lightness L to the
# style's mean and covariance together with a and b.
GREY = 6e-5
ROUNDS = 5  # how many times the filter that smooths a and b is applied
# The filter that smooths a and b replaces them by a weighted mean over 3 x 3 pixels. The weight of a
# pixel is exp(-`SHARPNESS` |d|), where d is the difference between its lightness (the L of OKLab) and
# that of the pixel in the middle.
SHARPNESS = 10.0

# What is expected for a picture and for an opacity, as words for messages.
PICTURE, OPACITY = "an array [height, width, 3]", "an array [height, width]"


class Palette(NamedTuple):
    """Statistics of the colours of one or several styles together, in OKLab.

    In the mean and the covariance, the pixels of each style are weighted by their opacity, and with
    `finishing.mixed_palette`, each style by its share.
    """

    # The smallest and the largest values of L, a and b. Pixels whose opacity is less than half of the
    # largest opacity are left out.
    least: Float[Array, "*batch 3"]
    most: Float[Array, "*batch 3"]
    mean: Float[Array, "*batch 3"]  # of L, a and b
    covariance: Float[Array, "*batch 3 3"]  # of L, a and b


def palette_of(styles: Sequence[Array], opacities: Sequence[Any] = ()) -> Palette:
    """Compute the range, mean and covariance of the colours of one or several styles together.

    Args:
      styles: pictures [h, w, 3] in [0, 1].
      opacities: for each style its opacity, [h, w] in [0, 1], or None if it is opaque; () if all styles
        are opaque. A pixel's weight in the mean and covariance is its opacity. The smallest and largest
        values are those of the pixels whose opacity is at least half the largest opacity.

    Returns:
      The `Palette` of the pixels of all styles together.
    """
    for index, style in enumerate(styles):
        _checks.not_keys(f"styles[{index}]", style, PICTURE)
    for index, opacity in enumerate(opacities):
        _checks.not_keys(f"opacities[{index}]", opacity, OPACITY)
    colours = jnp.concatenate([_lab(style).reshape(-1, 3) for style in styles])
    if all(opacity is None for opacity in opacities):
        mean, covariance = _moments(colours)
        return Palette(jnp.min(colours, axis=0), jnp.max(colours, axis=0), mean, covariance)
    weights = jnp.concatenate(
        [
            jnp.ones(style.shape[0] * style.shape[1]) if opacity is None else opacity.reshape(-1)
            for style, opacity in zip(styles, opacities, strict=True)
        ]
    ).astype(colours.dtype)
    mean, covariance = _moments(colours, weights)
    counts = (weights >= jnp.max(weights) / 2)[:, None]
    return Palette(
        jnp.min(jnp.where(counts, colours, jnp.inf), axis=0),
        jnp.max(jnp.where(counts, colours, -jnp.inf), axis=0),
        mean,
        covariance,
    )


def recoloured(
    image: Image,
    content: Image,
    palette: Palette,
    opacity: Float[Array, "h w"] | None = None,
    size: RealSize | None = None,
) -> Image:
    """Return a stylised picture with the chroma of its content, moved to the palette of its style.

    The function works in OKLab, whose channels are the lightness L and two axes of chroma, a and b.
    The new L is that of `image`, limited to the style's range of L. The new a and b are those of
    `content`, moved to the mean and covariance of the style's a and b, and then smoothed by five rounds
    of a joint bilateral filter. In each round, a pixel becomes the weighted mean of the 3 x 3 pixels
    around it. Each of these has the weight exp(-10 |d|), where d is its new L minus that of the central
    pixel. Finally, L, a and b are limited to the style's ranges.

    If a and b of the style hardly vary, the style counts as grey. Then the limited L of `image` and the
    a and b of `content` are first moved together, as colours of three channels, to the style's mean and
    covariance.

    The formula of OKLab is meant for linear RGB; like the code of the paper's authors, this function
    applies it to sRGB.

    Departures from the authors' code: `image` is clipped to [0, 1] first, and border pixels are
    repeated beyond the border, where the filter reads them.

    Args:
      image: the stylised picture [h, w, 3] in [0, 1].
      content: the photograph, of the same size.
      palette: the style's colours, from `palette_of`.
      opacity: weight of each pixel of `content` in the mean and covariance of the content's colours,
        [h, w] in [0, 1]; None: all pixels have the same weight.
      size: the real (height, width) of both pictures, if they lie at the top left of larger arrays;
        the result outside this size has no meaning. None: the pictures fill their arrays.

    Returns:
      [h, w, 3] in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.images.palettes import palette_of, recoloured
      >>> red = jnp.full((4, 4, 3), 0.5).at[..., 1:].set(0.2)
      >>> blue = red[..., ::-1]
      >>> found = recoloured(red, red, palette_of([blue]))[0, 0]
      >>> bool(found[2] > found[0])
      True
    """
    _checks.not_keys("image", image, PICTURE)
    _checks.not_keys("content", content, PICTURE)
    _checks.not_keys("opacity", opacity, OPACITY)
    if size is not None:
        height, width, _ = image.shape
        real = inside(size, (height, width))
        opacity = real.astype(image.dtype) if opacity is None else jnp.where(real, opacity, 0)
        image, content = cut(image, size), cut(content, size)
    least, most = palette.least[None, None], palette.most[None, None]
    lab = jnp.clip(_lab(jnp.clip(image, 0.0, 1.0)), least, most)
    hues = _lab(jnp.clip(content, 0.0, 1.0))[..., 1:]
    mixed = jnp.concatenate([lab[..., :1], hues], axis=-1)
    in_colour = _moved(hues, palette.mean[1:], palette.covariance[1:, 1:], opacity)
    in_grey = _moved(mixed, palette.mean, palette.covariance, opacity)
    grey = jnp.max(jnp.abs(palette.covariance[1:, 1:])) < GREY
    light = jnp.where(grey, in_grey[..., :1], lab[..., :1])
    hues = jnp.where(grey, in_grey[..., 1:], in_colour)
    lab = jnp.concatenate([light, _smoothed(hues, light, size)], axis=-1)
    lab = jnp.clip(lab, least, most)
    return jnp.clip(linear_of_oklab(lab), 0.0, 1.0)


def _lab(image: Image) -> Image:
    # Computed in float32 at least: OKLab has cube roots, which bfloat16, with 8 significant bits, would
    # make coarse.
    return oklab_of_linear(image.astype(sum_dtype(image.dtype)))


def _moments(
    rows: Float[Array, "n c"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, " c"], Float[Array, "c c"]]:
    if weights is None:
        mean = jnp.mean(rows, axis=0)
        away = rows - mean[None]
        return mean, jnp.matmul(away.T, away, precision=lax.Precision.HIGHEST) / len(rows)
    weights = (weights / jnp.sum(weights))[:, None]
    mean = jnp.sum(rows * weights, axis=0)
    away = rows - mean[None]
    return mean, jnp.matmul((away * weights).T, away, precision=lax.Precision.HIGHEST)


def _moved(
    picture: Float[Array, "h w c"],
    mean: Float[Array, " c"],
    covariance: Float[Array, "c c"],
    opacity: Float[Array, "h w"] | None = None,
) -> Float[Array, "h w c"]:
    """Move the colours of a picture by a linear map, so that they have a given mean and covariance.

    In the picture's own mean and covariance, `opacity` is the weight of each pixel; with None, all
    pixels have the same weight.
    """
    rows = picture.reshape(-1, picture.shape[-1])
    own_mean, own = _moments(rows, None if opacity is None else opacity.reshape(-1))
    whiten, colour = _power(own, -0.5), _power(covariance, 0.5)
    map_ = jnp.matmul(colour, whiten, precision=lax.Precision.HIGHEST)
    moved = jnp.matmul(rows - own_mean[None], map_.T, precision=lax.Precision.HIGHEST)
    return (moved + mean[None]).reshape(picture.shape)


def _power(covariance: Float[Array, "c c"], exponent: float) -> Float[Array, "c c"]:
    """Return a power of a covariance matrix; the exponent may be negative or fractional.

    `RIDGE` is first added to the diagonal, so that the matrix can be inverted.
    """
    values, vectors = jnp.linalg.eigh(
        covariance + RIDGE * jnp.eye(len(covariance), dtype=covariance.dtype)
    )
    powers = values**exponent
    return jnp.matmul(vectors * powers[None], vectors.T, precision=lax.Precision.HIGHEST)


def _smoothed(
    hues: Float[Array, "h w 2"], light: Float[Array, "h w 1"], size: RealSize | None
) -> Float[Array, "h w 2"]:
    """Smooth the channels a and b, `hues`, except across edges of the channel L, `light`.

    This is a joint bilateral filter. `size` is the (height, width) of the picture, if it lies at the
    top left of larger arrays. None: the picture fills its arrays.
    """
    height, width, _ = light.shape

    def neighbours(plane: Array) -> list[Array]:
        wide = jnp.pad(plane, ((1, 1), (1, 1), (0, 0)), mode="edge")
        if size is not None:  # repeat the border of the picture, the array's top left part
            rows, columns = (
                jnp.clip(jnp.arange(-1, side + 1), 0, size[axis] - 1)
                for axis, side in enumerate((height, width))
            )
            wide = plane[rows][:, columns]
        return [wide[i : i + height, j : j + width] for i in range(3) for j in range(3)]

    weights = [jnp.exp(-SHARPNESS * jnp.abs(other - light)) for other in neighbours(light)]
    total = sum(weights[1:], weights[0])

    def once(_: Any, hues: Array) -> Array:
        parts = [w * other for w, other in zip(weights, neighbours(hues), strict=True)]
        return sum(parts[1:], parts[0]) / total

    found: Float[Array, "h w 2"] = lax.fori_loop(0, ROUNDS, once, hues)
    return found
