"""Change colours of content and styles before a style transfer, and colours and edges of results.

`recolored` changes the pictures with which the canvas (the picture being optimised) is compared, and
`finished` changes the picture that is shown to the user. Neither changes the canvas itself.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax import _checks
from nst_jax._real_size import cut, inside
from nst_jax._types import AnyImage, Image, KeptContent, RealSize, Scalar
from nst_jax.controls.color import luminance, matched_luminance, with_chroma_of, with_colors_of
from nst_jax.controls.guided_filter import Radius, filtered_by_guide
from nst_jax.controls.regions import with_kept
from nst_jax.images.palettes import Palette, palette_of, recoloured

# Values of the field `pictures.colors` of a recipe (the settings of a style transfer): whose colours
# the result gets, and how. The docstrings of `recolored` and `finished` say what each value does.
COLORS = ("style", "content", "luminance", "content-after", "palette")

# Parameters of the guided filter: the radius of its windows as a share of the picture's longer side,
# and its ε, a variance of colours in [0, 1]. Differences of colour with a standard deviation below the
# root of ε, which is 0.01 (2.5 of 255 levels), count as the photograph's noise and are smoothed; a
# smaller ε would bring this noise into the result.
RADIUS_SHARE = 1 / 32
EPSILON = 1e-4

# What the numbers of a `realism` mean, in messages.
REALISM = "0 is as painted, 1 has the photograph's edges"

# To save memory, a large picture is filtered in strips of rows. A strip has at most `STRIP_PIXELS`
# pixels, or more if it needs them to have at least as many rows as two radii of the filter. The filter
# keeps up to about `FILTER_NUMBERS` float32 numbers for each pixel of a strip and of the margin around
# it. If the filter's radius is static under `jax.jit`, these are fewer, about 95.
STRIP_PIXELS, FILTER_NUMBERS = 2**19, 110


def recolors(colors: str) -> bool:
    """Return whether `recolored` changes any picture, given a recipe's `colors`, one of `COLORS`."""
    return colors in ("content", "luminance")


def colors_after(colors: str) -> bool:
    """Return whether `finished` changes any colours, given a recipe's `colors`, one of `COLORS`."""
    return colors in ("luminance", "content-after", "palette")


class Seen(NamedTuple):
    """The pictures that the network gets in place of the content and styles that the caller gave."""

    content: Image
    styles: tuple[Any, ...]  # each [h', w', 3], of any size


def recolored(
    content: Image,
    styles: Sequence[Array],
    colors: str,
    color_map: str,
    *,
    content_opacities: Sequence[Any] = (),
    style_opacities: Sequence[Any] = (),
) -> Seen:
    """Return the content and the styles as the network gets them, recoloured before a run.

    Args:
      content: [h, w, 3] in [0, 1].
      styles: one or several styles, [h', w', 3] in [0, 1].
      colors: one of `COLORS`. "content" gives each style the mean and covariance of the content's
        colours; "luminance" makes all pictures grey, and gives each style the mean and standard
        deviation of the content's luminance; the other values change nothing here.
      color_map: the linear map for "content", a key of `color.MAPS`.
      content_opacities: for each style, how much each pixel of the content counts in the mean and
        covariance that this style gets: [h, w] in [0, 1], which is 0 for transparent pixels and for
        those outside the style's region; or None, if all count alike. () means None for all styles.
      style_opacities: for each style, how much each of its own pixels counts in its mean and
        covariance: [h', w'] in [0, 1], or None. () means None for all styles.

    Returns:
      The content and the styles. Pictures whose colours were matched are clipped to [0, 1].

    Raises:
      TypeError: if `styles` is a single picture, if opacities are not in a list or tuple, or if
        `colors` is not a string.
      ValueError: for unknown `colors`; if there is not one opacity for each style; and what
        `with_colors_of` and `matched_luminance` refuse.
    """
    _checks.one_of("colors", colors, COLORS, "choice of colours")
    _check_several(styles)
    all_count = [None] * len(styles)
    own_opacities, parts = style_opacities or all_count, content_opacities or all_count
    _checks.same_length("style_opacities", own_opacities, "styles", styles)
    _checks.same_length("content_opacities", parts, "styles", styles)
    triples = list(zip(styles, own_opacities, parts, strict=True))
    if colors == "content":
        found = [
            with_colors_of(style, content, color_map, opacity=own, other_opacity=part)
            for style, own, part in triples
        ]
        return Seen(content, tuple(jnp.clip(style, 0.0, 1.0) for style in found))
    if colors == "luminance":
        found = [
            matched_luminance(style, content, opacity=own, other_opacity=part)
            for style, own, part in triples
        ]
        return Seen(luminance(content), tuple(jnp.clip(style, 0.0, 1.0) for style in found))
    return Seen(content, tuple(styles))


def _check_several(styles: Any) -> None:
    """Refuse a single picture in place of several: its rows would count as pictures."""
    listed = isinstance(styles, Sequence) and not isinstance(styles, (str, bytes))
    if not listed and len(getattr(styles, "shape", ())) != 4:
        raise TypeError(f"`styles`: expected a list of pictures, got {_checks.in_words(styles)}")


def mixed_palette(
    styles: Sequence[Array], shares: Float[Array, " n"], opacities: Sequence[Any] = ()
) -> Palette:
    """Return the palette (range, mean and covariance of the colours) of one or several styles.

    Args:
      styles: pictures [h, w, 3] in [0, 1].
      shares: how much each style counts; only the ratios matter. A style of share 0 does not count at
        all, not even for the least and greatest values of the palette.
      opacities: for each style its opacity, [h, w] in [0, 1], or None; see `palette_of`.

    Returns:
      The palette of all styles together.

    Raises:
      TypeError: if `styles` is a single picture, or if `opacities` is no list or tuple.
      ValueError: if there is not one share, or not one opacity, for each style.
    """
    _check_several(styles)
    _checks.not_keys("shares", shares, "numbers")
    if jnp.shape(shares) != (len(styles),):  # an array of one share would count for every style
        raise ValueError(
            f"`shares`: expected one for each of the {len(styles)} `styles`, got an array of the shape "
            f"{list(jnp.shape(shares))}"
        )
    opacities = opacities if len(opacities) else [None] * len(styles)
    _checks.same_length("opacities", opacities, "styles", styles)
    pairs = zip(styles, opacities, strict=True)
    each = [palette_of([style], [opacity]) for style, opacity in pairs]
    if len(each) == 1:
        return each[0]
    weights = shares / jnp.sum(shares)
    means = jnp.stack([one.mean for one in each])
    mean = jnp.sum(weights[:, None] * means, axis=0)
    away = means - mean[None]
    within = jnp.stack([one.covariance for one in each])
    between = away[:, :, None] * away[:, None, :]
    counts = (shares > 0)[:, None]
    return Palette(
        jnp.min(jnp.where(counts, jnp.stack([one.least for one in each]), jnp.inf), axis=0),
        jnp.max(jnp.where(counts, jnp.stack([one.most for one in each]), -jnp.inf), axis=0),
        mean,
        jnp.sum(weights[:, None, None] * (within + between), axis=0),
    )


def filter_radius(height: int, width: int) -> int:
    """Return the radius of the guided filter's windows in a picture, in pixels."""
    return max(1, round(max(height, width) * RADIUS_SHARE))


def rows_at_once(height: int, width: int) -> int:
    """Return how many rows of a picture are filtered at once; all of them if the picture is small."""
    return min(height, max(2 * filter_radius(height, width), STRIP_PIXELS // width))


def filter_memory(height: int, width: int) -> int:
    """Return about how many bytes the guided filter needs for a picture of this size in pixels."""
    rows = min(height, rows_at_once(height, width) + 4 * filter_radius(height, width))
    return 4 * FILTER_NUMBERS * rows * width


def realistic(
    image: AnyImage,
    content: AnyImage,
    realism: Scalar | float,
    *,
    shown: AnyImage | None = None,
    size: RealSize | None = None,
    radius: Int[Array, ""] | None = None,
) -> Image:
    """Return a picture whose edges are moved towards those of a photograph.

    The picture is mixed with a filtered version of itself: (1 - `realism`) picture + `realism`
    filtered. The filter is the guided filter, with the photograph as the guide. It approximates the
    picture by a locally affine function of the photograph's colours, which has edges only where the
    photograph has edges. A large picture is filtered in strips of rows to save memory; this changes the
    result by rounding errors only.

    Args:
      image: the picture [h, w, 3] in [0, 1].
      content: the photograph, of the same size.
      realism: share of the filtered picture in the result, from 0 to 1. With 1, every edge of the
        result is an edge of the photograph.
      shown: the picture that is filtered, [h, w, 3]; None means `image`. If parts of the content are
        protected, it is `image` with the content mixed in there, since `image` itself may still be
        noise at these pixels, and the filter would spread this noise to the pixels around them.
      size: the real (height, width) of the pictures, if they lie at the top left of larger arrays; the
        result has arbitrary values outside. None: they fill their arrays.
      radius: radius of the filter's windows in px, as an array, so that one compiled program serves all
        radii; None computes it from the shape of `image`. With `size`, pass `filter_radius` of the real
        size.

    Returns:
      [h, w, 3] in [0, 1].

    Raises:
      TypeError: if a picture is not an array, or `realism` not a number.
      ValueError: if a picture is not [h, w, 3] or not floating point; if `content` or `shown` has
        another size than `image`; and for a `realism` outside 0 to 1 (a traced value is not checked).

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.controls import realistic
      >>> cat = nst.images.sample("chelsea")[:64, :64]
      >>> bool((realistic(cat[:, ::-1], cat, 0.0) == cat[:, ::-1]).all())
      True
    """
    _checks.two_images("image", image, "content", content)
    _checks.known_number("realism", realism, least=0, most=1, means=REALISM)
    image, content = jnp.asarray(image), jnp.asarray(content)
    _checks.not_keys("shown", shown, "an array [height, width, 3]")
    shown = image if shown is None else jnp.asarray(shown)
    _checks.same_shape("shown", shown.shape, "image", image.shape)
    height, width, _ = image.shape
    rows, largest = rows_at_once(height, width), filter_radius(height, width)
    windows = Windows(largest) if radius is None else Windows(radius, largest)
    real = None
    if size is not None:
        # Pixels outside `size` may be NaN. Their weight in the filter is 0, but 0 * NaN is NaN.
        # So `cut` replaces them by 0.
        real = inside(size, (height, width)).astype(image.dtype)
        image, shown, content = (cut(one, size) for one in (image, shown, content))
    filtered = (
        filtered_by_guide(shown, content, epsilon=EPSILON, inside=real, **windows._asdict())
        if rows >= height
        else _filtered_in_strips(shown, content, windows, rows, real)
    )
    filtered = jnp.clip(filtered, 0.0, 1.0)
    share = jnp.asarray(realism, image.dtype)
    return (1 - share) * image + share * filtered


class Windows(NamedTuple):
    """Two arguments of `filtered_by_guide`: the radius of its windows, and the largest such radius."""

    radius: Radius  # in px
    largest: int | None = None  # the largest value that `radius` may have; None if it is an int


def _filtered_in_strips(
    image: Image,
    content: Image,
    windows: Windows,
    rows: int,
    real: Float[Array, "h w"] | None = None,
) -> Image:
    """Apply the guided filter to `image`, with `content` as the guide, in strips of `rows` rows.

    Strips take less memory. Each is filtered together with the rows around it on which it depends. If
    the picture lies in a larger array, `real` is 1 for the picture's pixels, and 0 for the others.
    """
    # The guided filter fits a function to the pixels of each window. The result at a pixel is the mean
    # of the fits of all windows that contain it, so it depends on pixels up to two radii away.
    radius = windows.radius if windows.largest is None else windows.largest
    assert isinstance(radius, int)
    height, halo = image.shape[0], 2 * radius
    count = -(-height // rows)
    below = count * rows - height + halo
    padded = [jnp.pad(one, ((halo, below), (0, 0), (0, 0))) for one in (image, content)]
    all_count = jnp.ones(image.shape[:2], image.dtype) if real is None else real
    counted_rows = jnp.pad(all_count, ((halo, below), (0, 0)))

    def strip(first: Array) -> Image:
        parts = [lax.dynamic_slice_in_dim(one, first, rows + 2 * halo) for one in padded]
        counted = lax.dynamic_slice_in_dim(counted_rows, first, rows + 2 * halo)
        found = filtered_by_guide(*parts, epsilon=EPSILON, inside=counted, **windows._asdict())
        return found[halo : halo + rows]

    strips: Any = lax.map(strip, jnp.arange(count) * rows)
    return strips.reshape(-1, *image.shape[1:])[:height]


def finished(
    image: Image,
    content: Image,
    palette: Palette | None,
    realism: Scalar | float | None,
    *,
    colors: str,
    space: str,
    kept: KeptContent | None = None,
    opacity: Any = None,
    size: RealSize | None = None,
    radius: Int[Array, ""] | None = None,
) -> Image:
    """Return the picture that a user gets for a canvas: first its edges are changed, then its colours.

    At protected pixels, the result may differ from the content. So the caller mixes the content into
    the result there, by `with_kept`.

    Args:
      image: the canvas (the picture being optimised) as an image, [h, w, 3] in [0, 1].
      content: the photograph in its own colours, of the same size.
      palette: the colours of the styles, from `mixed_palette`, if `colors` is "palette", else None.
      realism: how far edges are moved to those of the content, from 0 to 1, as in `realistic`; None
        leaves them as they are.
      colors: one of `COLORS`. "luminance" and "content-after" give the picture the content's chroma.
        "palette" gives it the content's chroma, moved to the palette of the styles; see
        `images.palettes.recoloured`. The others change no colours here.
      space: the space in which chroma is exchanged, a key of `color.CHROMA_SPACES`.
      kept: the protected parts of the content, or None. Where a pixel is fully protected, the losses do
        not depend on the canvas, so it may still be the noise from which it started. Filters, which
        read the pixels around each pixel, therefore get the image with the protected parts mixed in.
      opacity: how much each pixel of the content counts in the mean and covariance of "palette",
        [h, w] in [0, 1], 0 for transparent pixels. None: all count alike.
      size: the real (height, width) of the pictures, if they lie at the top left of larger arrays; None
        means that they fill their arrays.
      radius: radius of the filter's windows in px, as an array; None computes it from the shape of
        `image`. With `size`, pass `filter_radius` of the real size.

    Returns:
      [h, w, 3] in [0, 1].

    Raises:
      TypeError, ValueError: as in `realistic`, if `realism` is not None.
      TypeError: if `colors` is not a string.
      ValueError: for unknown `colors`, for "palette" without a `palette`, and what `with_chroma_of`
        refuses.
    """
    _checks.one_of("colors", colors, COLORS, "choice of colours")
    if colors == "palette" and palette is None:
        raise ValueError("`palette`: is missing for these `colors`; `mixed_palette` computes it")
    if realism is not None:
        image = realistic(
            image, content, realism, shown=with_kept(image, kept), size=size, radius=radius
        )
    if colors in ("luminance", "content-after"):
        return jnp.clip(with_chroma_of(image, content, space), 0.0, 1.0)
    if colors == "palette":
        assert palette is not None
        return recoloured(with_kept(image, kept), content, palette, opacity, size)
    return image
