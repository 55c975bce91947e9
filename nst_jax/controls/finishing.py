"""What the controls of colour and realism do to pictures before a run, and to results after it.

The canvas that is optimised is never changed by these: `recolored` changes what it is compared with,
and `finished` what is shown of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import AnyImage, Image, KeptContent, Scalar
from nst_jax.controls.color import luminance, matched_luminance, with_chroma_of, with_colors_of
from nst_jax.controls.guided_filter import filtered_by_guide
from nst_jax.controls.regions import with_kept
from nst_jax.images.palettes import Palette, palette_of, recoloured

# Whose colours a picture gets, and how: the values of `pictures.colors`. `recolored` and `finished` say
# what each does.
COLORS = ("style", "content", "luminance", "content-after", "palette")

# The guided filter: the radius of its windows as a share of the picture's longer side, and its ε, a
# variance. Differences of colour with a standard deviation below the root of ε, 0.01 (2.5 of 255
# levels), count as the photograph's noise; a smaller ε would bring this noise into the result.
RADIUS_SHARE = 1 / 32
EPSILON = 1e-4

# A picture of more than `MOST_PIXELS` pixels is filtered in strips of rows, to save memory: the filter
# keeps about `FILTER_NUMBERS` float32 numbers for each pixel.
MOST_PIXELS, FILTER_NUMBERS = 2**19, 90


def recolors(colors: str) -> bool:
    """Return whether `recolored` changes a picture for this choice of colours."""
    return colors in ("content", "luminance")


def colors_after(colors: str) -> bool:
    """Return whether `finished` changes a picture's colours for this choice of colours."""
    return colors in ("luminance", "content-after", "palette")


class Seen(NamedTuple):
    """The pictures that the network sees in place of those given."""

    content: Image
    styles: tuple[Any, ...]  # of any sizes


def recolored(
    content: Image,
    styles: Sequence[Array],
    colors: str,
    color_map: str,
    *,
    content_opacities: Sequence[Any] = (),
    style_opacities: Sequence[Any] = (),
) -> Seen:
    """Return the pictures that the network is to see, recoloured before a run.

    Args:
      content: [h, w, 3] in [0, 1].
      styles: one or several styles, [h', w', 3] in [0, 1].
      colors: one of `COLORS`. "content" gives each style the mean and covariance of the content's
        colours; "luminance" makes all pictures grey, and gives each style the mean and standard
        deviation of the content's luminance; the others change nothing here.
      color_map: the linear map of "content", a key of `color.MAPS`.
      content_opacities: for each style, how much each pixel of the content counts in the mean and
        covariance that this style gets, [h, w] in [0, 1] or None, which counts all alike. Transparent
        pixels count 0, and so do those outside the region of the style. (): all count for all styles.
      style_opacities: likewise for each style, how much each of its own pixels counts.

    Returns:
      The pictures, those that were changed clipped to [0, 1].
    """
    all_count = [None] * len(styles)
    triples = list(
        zip(styles, style_opacities or all_count, content_opacities or all_count, strict=True)
    )
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


def mixed_palette(
    styles: Sequence[Array], shares: Float[Array, " n"], opacities: Sequence[Any] = ()
) -> Palette:
    """Return the colours of one or several styles, each counted by its share.

    Args:
      styles: pictures [h, w, 3] in [0, 1].
      shares: a weight for each style, of any positive sum. A style of share 0 does not count,
        not even for the range of the colours.
      opacities: see `palette_of`.

    Returns:
      The palette of the mixture of all styles.
    """
    pairs = zip(styles, opacities or [None] * len(styles), strict=True)
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
    """Return how many rows of a picture are filtered at once, not counting those read around them."""
    return min(height, max(2 * filter_radius(height, width), MOST_PIXELS // width))


def filter_memory(height: int, width: int) -> int:
    """Return the bytes that filtering a picture takes."""
    rows = min(height, rows_at_once(height, width) + 4 * filter_radius(height, width))
    return 4 * FILTER_NUMBERS * rows * width


def realistic(
    image: AnyImage,
    content: AnyImage,
    realism: Scalar | float,
    *,
    shown: AnyImage | None = None,
) -> Image:
    """Return a picture brought back to the edges of a photograph.

    The picture is mixed with what the guided filter makes of it: a locally affine function of the
    photograph. A large picture is filtered in strips of rows; the result then differs from that of
    filtering the whole picture at once by rounding errors only.

    Args:
      image: the picture [h, w, 3] in [0, 1].
      content: the photograph, of the same size.
      realism: share of the filtered picture, from 0 to 1. 1: every edge is one of the photograph's.
      shown: what is filtered in place of `image`: the picture with what is protected in it.

    Returns:
      [h, w, 3] in [0, 1].

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.controls import realistic
      >>> cat = nst.images.sample("chelsea")[:64, :64]
      >>> bool((realistic(cat[:, ::-1], cat, 0.0) == cat[:, ::-1]).all())
      True
    """
    image, content = jnp.asarray(image), jnp.asarray(content)
    shown = image if shown is None else jnp.asarray(shown)
    height, width, _ = image.shape
    radius, rows = filter_radius(height, width), rows_at_once(height, width)
    whole = rows >= height
    filtered = (
        filtered_by_guide(shown, content, radius=radius, epsilon=EPSILON)
        if whole
        else _filtered_in_strips(shown, content, radius, rows)
    )
    filtered = jnp.clip(filtered, 0.0, 1.0)
    share = jnp.asarray(realism, image.dtype)
    return (1 - share) * image + share * filtered


def _filtered_in_strips(image: Image, content: Image, radius: int, rows: int) -> Image:
    """Filter a picture strip by strip, each with the rows beyond it on which its result depends."""
    height, halo = image.shape[0], 2 * radius  # a mean of fits reads a window, and each fit another
    count = -(-height // rows)
    below = count * rows - height + halo
    padded = [jnp.pad(one, ((halo, below), (0, 0), (0, 0))) for one in (image, content)]
    inside = jnp.pad(jnp.ones(image.shape[:2], image.dtype), ((halo, below), (0, 0)))

    def strip(first: Array) -> Image:
        parts = [lax.dynamic_slice_in_dim(one, first, rows + 2 * halo) for one in padded]
        counted = lax.dynamic_slice_in_dim(inside, first, rows + 2 * halo)
        found = filtered_by_guide(*parts, radius=radius, epsilon=EPSILON, inside=counted)
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
) -> Image:
    """Return the picture that is shown of a canvas: edges are changed first, then colours.

    The protected content is not mixed in here; `with_kept` does that afterwards.

    Args:
      image: the picture of the canvas, [h, w, 3] in [0, 1].
      content: the photograph in its own colours, of the same size.
      palette: the colours of the styles, from `mixed_palette`; only for `colors="palette"`.
      realism: as in `realistic`; None changes nothing.
      colors: one of `COLORS`. "luminance" and "content-after" give the picture the content's chroma,
        "palette" moves its colours to the palette of the styles.
      space: the space in which chroma is exchanged, a key of `color.CHROMA_SPACES`.
      kept: what is protected. The canvas behind it is not seen, and may be as it started, such as
        noise; so filters, which look at the pixels around, look at the picture with its content mixed
        in.
      opacity: of the content, [h, w] in [0, 1]; transparent pixels have no part in the mean and
        covariance of "palette". None: all pixels count.

    Returns:
      [h, w, 3] in [0, 1].
    """
    if realism is not None:
        image = realistic(image, content, realism, shown=with_kept(image, kept))
    if colors in ("luminance", "content-after"):
        return jnp.clip(with_chroma_of(image, content, space), 0.0, 1.0)
    if colors == "palette":
        assert palette is not None
        return recoloured(with_kept(image, kept), content, palette, opacity)
    return image
