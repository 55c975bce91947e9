"""Controls of where and how a style is applied: colours, edges, regions, and protected parts.

    sky = controls.Region(mask, painting)
    image = nst_jax.stylize(params, photo, other, regions=[sky], protect=controls.Protect(face))

Here `photo`, `painting` and `other` are pictures, and `mask` and `face` are masks [h, w] drawn over
`photo`: 1 marks the pixels of the sky, or of the face. The sky gets the style of `painting`, the rest
that of `other`, and the face stays as it is.

`color` changes the colours of whole pictures. `guided_filter` keeps the edges of the photograph, and
`matting` measures how well they are kept. `finishing` changes content, styles and results as a recipe
(the settings of a style transfer) asks. `given` defines and checks what callers pass, such as `Region`;
`coded_maps` makes regions from colour-coded maps. `masks` checks masks, and reduces them to the size of
the network's feature maps; from these masks, `regions` computes the arrays that the losses need.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.controls import (
        coded_maps,
        color,
        finishing,
        given,
        guided_filter,
        masks,
        matting,
        regions,
    )
    from nst_jax.controls.coded_maps import regions_of_maps
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
    from nst_jax.controls.given import Protect, Region, checked_controls
    from nst_jax.controls.guided_filter import box_sums, filtered_by_guide
    from nst_jax.controls.matting import laplacian_product, matting_energy
    from nst_jax.controls.regions import Controls, controls_of, shares_of_pixels, with_kept
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "coded_maps",
            "color",
            "finishing",
            "given",
            "guided_filter",
            "masks",
            "matting",
            "regions",
        ),
        {
            "coded_maps": ("regions_of_maps",),
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
            "given": ("Protect", "Region", "checked_controls"),
            "guided_filter": ("box_sums", "filtered_by_guide"),
            "matting": ("laplacian_product", "matting_energy"),
            "regions": (
                "Controls",
                "controls_of",
                "shares_of_pixels",
                "with_kept",
            ),
        },
    )

__all__ = [
    "CHROMA_SPACES", "COLORS", "ColorMoments", "Controls", "MAPS", "Protect", "Region", "box_sums",
    "checked_controls", "coded_maps", "color", "color_moments", "controls_of", "filtered_by_guide",
    "finished", "finishing", "given", "guided_filter", "laplacian_product", "luminance", "masks",
    "matched_luminance", "matting", "matting_energy", "mixed_palette", "realistic", "recolored",
    "regions", "regions_of_maps", "shares_of_pixels", "with_chroma_of", "with_colors_of",
    "with_kept",
]  # fmt: skip
