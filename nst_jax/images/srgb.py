"""Convert the colours of a picture file to sRGB: by its ICC profile or, if it has none, by its gamma.

If neither is used, the colours are taken to be in Lab if Pillow's mode says so, otherwise in sRGB.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image as PilImage
from PIL import ImageCms

# Flag for black point compensation in Little CMS, the library with which Pillow converts colours.
# Pillow before 10.3 has no name for it.
_BLACK_TO_BLACK: Any = 0x2000

# CIE chromaticities x and y of sRGB's white, red, green and blue, in the order of a PNG's cHRM chunk.
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)

# Key under which `decoding` stores the result of `png_chunks.code_points` in `info`, the dictionary of
# an opened picture in which Pillow collects what the file states.
CODE_POINTS = "nst_jax cICP"

_PQ, _HLG = 16, 18  # the two transfer functions of HDR pictures, by their numbers in ITU-T H.273

# Primaries, and then transfer functions, that are read as sRGB's without a note, by their numbers in
# ITU-T H.273. The primaries are sRGB's own. Of the transfer functions, 13 is sRGB's own, 2 means "not
# specified", and the others differ little from sRGB's.
_LIKE_SRGB = ((1,), (1, 2, 6, 13, 14, 15))


def to_srgb(
    colours: PilImage.Image, info: Mapping[Any, Any], gamma: float | None, notes: list[str]
) -> PilImage.Image:
    """Return colours in sRGB, converted by the file's colour profile or by `gamma`.

    The profile is used if `info`, Pillow's dictionary of what the file states, has one. Without a
    profile, `gamma` is used if it is not None; see `gamma_to_srgb`. Otherwise the colours are taken to
    be in sRGB already, or in Lab if their mode is "LAB"; Pillow's `convert` makes RGB of grey and CMYK.
    `notes` gets a note if colours are converted by a profile, and if a profile is ignored since it
    cannot be used.
    """
    converted = None
    if profile := info.get("icc_profile"):
        converted = _with_profile(colours, profile, notes)
    elif gamma is not None:
        levels = np.rint(255 * gamma_to_srgb(np.linspace(0, 1, 256), gamma)).astype(int).tolist()
        converted = colours.point(levels * len(colours.getbands())).convert("RGB")
    if converted is None and colours.mode == "LAB":  # Pillow converts LAB only with a profile
        converted = _transformed(colours, ImageCms.createProfile("LAB"))
    return converted or colours.convert("RGB")


def gamma_of(info: Mapping[Any, Any], notes: list[str]) -> float | None:
    """Return the gamma by which a PNG is converted to sRGB; None if it is not converted by a gamma.

    A sample is the intensity of light to the power of the gamma. If a cICP chunk names the colour
    space, the gamma is ignored and the result is None. Primaries (the cHRM chunk) are ignored. A note
    is added to `notes` for a gamma that is returned, and for a colour space or primaries that are not
    sRGB's.
    """
    gamma = info.get("gamma")
    points = info.get(CODE_POINTS)
    if points is not None:  # a cICP chunk overrides a gamma
        primaries, transfer = points
        if not (primaries in _LIKE_SRGB[0] and transfer in _LIKE_SRGB[1]):
            kind = "HDR colours" if transfer in (_PQ, _HLG) else "colours of another space"
            notes.append(
                f"{kind} (cICP {primaries}, {transfer}) read as sRGB, so they look different"
            )
        return None
    if "srgb" in info:
        return None
    stated = info.get("chromaticity")
    if stated and np.abs(np.subtract(stated, _SRGB_PRIMARIES)).max() > 0.01:
        notes.append("primaries that are not sRGB's (cHRM) ignored, so colours may look different")
    # PNGs state 1/2.2 as sRGB's gamma. As in libpng, a difference of less than 5 % is ignored.
    if not gamma or abs(gamma * 2.2 - 1) < 0.05:
        return None
    notes.append(f"gamma {gamma:g} converted to sRGB")
    return gamma


def gamma_to_srgb(samples: Float[np.ndarray, "..."], gamma: float) -> Float[np.ndarray, "..."]:
    """Return sRGB in [0, 1] from samples in [0, 1], which are intensities to the power of `gamma`."""
    light = samples ** (1 / gamma)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _with_profile(
    colours: PilImage.Image, profile: bytes, notes: list[str]
) -> PilImage.Image | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if colours.mode == "L" and own.profile.xcolor_space.strip() == "RGB":
            colours = colours.convert("RGB")
        if colours.mode == "RGB" and _is_srgb(own):
            return None
        name = " ".join(ImageCms.getProfileDescription(own).split())[:60] or "unnamed"
        converted = _transformed(colours, own)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        assumed = "Lab" if colours.mode == "LAB" else "sRGB"
        notes.append(f"unusable colour profile ignored, assumed to be {assumed}")
        return None
    notes.append(f"colour profile {name!r} converted to sRGB")
    return converted


def _transformed(colours: PilImage.Image, profile: Any) -> PilImage.Image:
    # White is mapped to white and black to black, as in browsers and photo editors.
    converted = ImageCms.profileToProfile(
        colours,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=_BLACK_TO_BLACK,
    )
    assert converted is not None  # `profileToProfile` returns None only if it converts in place
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    # There are many sRGB profiles, which differ in name and bytes. So a profile counts as sRGB if it
    # changes no colour of a grid by more than one 8-bit level.
    grid = np.minimum(np.indices((9, 9, 9), np.int32).reshape(3, 27, 27) * 32, 255)
    colours = np.ascontiguousarray(np.moveaxis(grid, 0, -1).astype(np.uint8))
    converted = np.asarray(_transformed(PilImage.fromarray(colours), profile))
    return bool(np.abs(converted.astype(int) - colours).max() <= 1)
