"""The part `Pictures` of a recipe: how pictures are prepared, and how results are finished."""

from dataclasses import dataclass

import jax

from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.fields import added_later, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures are prepared before the first update, and how results are finished.

    Attributes:
      size: rule for the size of the content, and so of the canvas, the picture that is optimised.
      style_size: rule for the size of the style; None means that `size` holds for styles too.
      resize: the resize filter, a function (image, (height, width)) -> image. Static.
      start: the function that makes the initial canvas; see `nst_jax.recipes.starts`.
      style_scale: factors by which both sides of the styles are multiplied after the size rule: one
        factor for all styles, or one for each. Larger styles give larger strokes. None means the
        factor 1.
      colors: whose colours a result has, one of `nst_jax.controls.COLORS`. Static.
        "style": the style's colours.
        "content": before the run, the colours of the styles are changed to have the mean and covariance
        of the content's colours.
        "luminance": content and styles are made grey before the run, and the styles are given the mean
        and standard deviation of the content's luminance; after the run, the result gets the content's
        chroma.
        "content-after": after a run in the style's colours, the result gets the content's chroma.
        "palette": after the run, the result gets the content's chroma, moved to the mean and covariance
        of the styles' colours, and its lightness is limited to the range of the styles'; see
        `nst_jax.images.palettes.recoloured`.
      color_map: the linear map of colours that `colors="content"` uses: "transport", "cholesky" or
        "pca"; see `nst_jax.controls.color`. Static.
      chroma_space: the colour space in which `colors="luminance"` and `colors="content-after"` give the
        result the content's chroma: "oklab" or "ycbcr"; see `nst_jax.controls.with_chroma_of`. Static.
      realism: how far the edges of results are brought back to those of the content, from 0 (not at
        all) to 1; see `nst_jax.controls.realistic`.
    """

    size: sizes.SizeRule = sizes.LongEdge(512)
    style_size: sizes.SizeRule | None = None
    resize: filters.Resize = static(filters.antialiased)
    start: starts.Start = starts.FromContent()
    style_scale: tuple[float, ...] | None = added_later(None)
    colors: str = added_later("style", static=True)
    color_map: str = added_later("transport", static=True)
    chroma_space: str = added_later("oklab", static=True)
    realism: float = added_later(0.0)

    def scale_of_style(self, index: int) -> float:
        """Return the factor by which `style_scale` multiplies the sides of style number `index`."""
        factors = self.style_scale or (1.0,)
        return float(factors[index if len(factors) > 1 else 0])
