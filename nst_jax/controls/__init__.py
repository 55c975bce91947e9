"""The artist's controls: the colours of a picture, and the edges of a photograph."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.controls import color, finishing, guided_filter, matting
    from nst_jax.controls.color import (
        CHROMA_SPACES,
        MAPS,
        ColorMoments,
        color_moments,
        luminance,
        matched_luminance,
        with_chroma_of,
        with_colors_of,
    )
    from nst_jax.controls.finishing import COLORS, finished, mixed_palette, realistic, recolored
    from nst_jax.controls.guided_filter import box_sums, filtered_by_guide
    from nst_jax.controls.matting import laplacian_product, matting_energy
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("color", "finishing", "guided_filter", "matting"),
        {
            "color": (
                "CHROMA_SPACES",
                "ColorMoments",
                "MAPS",
                "color_moments",
                "luminance",
                "matched_luminance",
                "with_chroma_of",
                "with_colors_of",
            ),
            "finishing": ("COLORS", "finished", "mixed_palette", "realistic", "recolored"),
            "guided_filter": ("box_sums", "filtered_by_guide"),
            "matting": ("laplacian_product", "matting_energy"),
        },
    )

__all__ = [
    "CHROMA_SPACES",
    "COLORS",
    "ColorMoments",
    "MAPS",
    "box_sums",
    "color",
    "color_moments",
    "filtered_by_guide",
    "finished",
    "finishing",
    "guided_filter",
    "laplacian_product",
    "luminance",
    "matched_luminance",
    "matting",
    "matting_energy",
    "mixed_palette",
    "realistic",
    "recolored",
    "with_chroma_of",
    "with_colors_of",
]
