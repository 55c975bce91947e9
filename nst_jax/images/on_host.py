"""Resize pictures in NumPy by products with matrices, so that XLA compiles nothing for a new size.

The results are those of the filters of `images.resizing`, up to rounding: in float32 they differ by at
most 3e-6 of the range of the pixels.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nst_jax import _checks
from nst_jax._types import HostImage, Shape
from nst_jax.images.resizing import (
    LOBES,
    antialiased,
    bilinear,
    enlarge,
    keys_cubic,
    torch_bicubic,
)

# A function that returns the weights of old pixels in a new pixel. Its argument is an array of their
# distances (not negative) from the new pixel, in units of old pixels. If the kernel is widened to
# prevent aliasing, the unit is widened by the same factor.
Kernel = Callable[[np.ndarray], np.ndarray]


def _lanczos(distance: np.ndarray) -> np.ndarray:
    inside = np.abs(distance) <= LOBES
    return np.where(inside, np.sinc(distance) * np.sinc(distance / LOBES), 0)


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - distance)


def _cubic(distance: np.ndarray) -> np.ndarray:
    return np.where(distance < 2, keys_cubic(distance, a=-0.5), 0)


class _Filter(NamedTuple):
    """How a filter of `images.resizing` weighs old pixels by their distances from a new pixel."""

    kernel: Kernel
    widens: bool  # whether the kernel is wider when a picture is reduced, which prevents aliasing
    clips: bool = False  # whether results are clipped to [0, 1]


# Filter of `images.resizing` -> how it weighs pixels; None for `torch_bicubic`, whose weights come from
# `_torch_weights`.
KNOWN: Mapping[Any, _Filter | None] = {
    antialiased: _Filter(_lanczos, widens=True, clips=True),
    bilinear: _Filter(_linear, widens=False),
    enlarge: _Filter(_cubic, widens=True),
    torch_bicubic: None,
}


def resized_on_host(
    image: Any, shape: Shape, resize: Any, *, argument: str = "resize"
) -> Float[np.ndarray, "_ _ c"]:
    """Resize a picture as a filter of `images.resizing` does.

    Args:
      image: [h, w, c].
      shape: the new (height, width).
      resize: one of the functions in `KNOWN`, or any other function of (image, shape), which is then
        simply called.
      argument: the caller's name for `resize`, used in messages.

    Returns:
      [height, width, c] float32; a float32 picture that has this size already is returned itself.

    Raises:
      TypeError: if `image` has random keys of JAX.
      TypeError, ValueError: if a function that is not in `KNOWN` returns no picture of this size; see
        `_checks.returned_image`.

    Example:
      >>> import numpy as np
      >>> from nst_jax.images.resizing import bilinear
      >>> ramp = np.repeat(np.array([[0.0, 1.0]], np.float32)[..., None], 3, -1)
      >>> resized_on_host(ramp, (1, 4), bilinear)[0, :, 0].tolist()
      [0.0, 0.25, 0.75, 1.0]
    """
    _checks.not_keys("image", image, "an array [height, width, channels]")
    image = np.asarray(image, np.float32)
    if image.shape[:2] == tuple(shape):
        return image
    if resize not in KNOWN:
        new = (*shape, image.shape[-1])
        found = _checks.returned_image(argument, "filter", resize(image, shape), new)
        return np.asarray(found, np.float32)
    how = KNOWN[resize]
    rows, columns = (
        (_torch_weights(new, old) if how is None else _weights(new, old, how)).astype(np.float32)
        for new, old in zip(shape, image.shape[:2], strict=True)
    )
    planes = np.moveaxis(image, -1, 0)
    found = np.moveaxis(rows @ planes @ columns.T, 0, -1)
    return np.clip(found, 0, 1) if how is not None and how.clips else found


def at_scale_on_host(image: Any, shape: Shape) -> HostImage:
    """Resize a picture [h, w, 3], antialiased, and clip it to [0, 1], as `prepare.at_scale` does."""
    return np.clip(resized_on_host(image, shape, antialiased), 0, 1)


def _weights(new: int, old: int, how: _Filter) -> Float[np.ndarray, "new old"]:
    """Return, for each of `new` rows (or columns), the weights of the `old` ones, whose sum is 1.

    `how` is the filter that gives the weights.
    """
    if new == old:
        return np.eye(new)
    ratio = old / new
    width = max(ratio, 1.0) if how.widens else 1.0
    positions = (np.arange(new) + 0.5) * ratio - 0.5
    if not how.widens:
        positions = np.clip(positions, 0, old - 1)
    found = how.kernel(np.abs(positions[:, None] - np.arange(old)[None, :]) / width)
    return found / found.sum(axis=1, keepdims=True)


def _torch_weights(new: int, old: int) -> Float[np.ndarray, "new old"]:
    """Return, for each of `new` rows (or columns), the weights of the `old` ones in `torch_bicubic`.

    Beyond the border, the pixels of the border repeat. So weights of rows that would lie beyond it are
    added to the weight of the border row.
    """
    found = np.zeros((new, old))
    if new == old:
        return np.eye(new)
    positions = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(positions)
    for offset in range(-1, 3):
        lines = np.clip(first + offset, 0, old - 1).astype(int)
        weights = keys_cubic(np.abs(positions - first - offset), a=-0.75)
        np.add.at(found, (np.arange(new), lines), weights)
    return found
