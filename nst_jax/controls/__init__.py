"""The artist's controls: regions with styles of their own, and parts that stay as they are.

    sky = controls.Region(mask, painting)
    image = nst_jax.stylize(params, photo, other, regions=[sky], protect=controls.Protect(face))

`masks` checks masks and brings them to taps; `regions` has the values that callers give, and what is
measured with them.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.controls import masks, regions
    from nst_jax.controls.regions import (
        Controls,
        Protect,
        Region,
        controls_of,
        regions_of_maps,
        shares_of_pixels,
        with_kept,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("masks", "regions"),
        {
            "regions": (
                "Controls",
                "Protect",
                "Region",
                "controls_of",
                "regions_of_maps",
                "shares_of_pixels",
                "with_kept",
            )
        },
    )

__all__ = [
    "Controls", "Protect", "Region", "controls_of", "masks", "regions", "regions_of_maps",
    "shares_of_pixels", "with_kept",
]  # fmt: skip
