"""Memory that reading the picture files of a run takes, and resizing the pictures that were read.

This is main memory of the machine, not that of the device on which a run computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nst_jax import vgg
from nst_jax._types import Shape
from nst_jax.images import resizing
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling.array_bytes import FLOAT32_BYTES, bytes_of_picture

# Bytes that resizing by a filter of Pillow takes for each pixel of the original picture. Most of them
# are for float32 copies that are made while the picture is rounded to 8 bits for Pillow.
PILLOW_BYTES = 40


def peak_of_resizing(old: Shape, new: Shape, resize: Any) -> int:
    """Return the bytes that resizing a picture takes besides the picture as it was read.

    Args:
      old: (height, width) of the picture as it was read.
      new: (height, width) of the resized picture.
      resize: the filter, a value of `recipes.filters.FILTERS`.
    """
    if old == new:
        return bytes_of_picture(old)  # nothing is resized, but the picture is copied to the device
    if resize not in (resizing.antialiased, resizing.bilinear):
        return PILLOW_BYTES * old[0] * old[1] + 2 * bytes_of_picture(new)
    # JAX resizes one axis after the other, each by a product with a matrix. For a product it may copy
    # a picture, so a copy of the larger picture is counted.
    between = min(bytes_of_picture((old[0], new[1])), bytes_of_picture((new[0], old[1])))
    matrices = FLOAT32_BYTES * (old[0] * new[0] + old[1] * new[1])
    sides = bytes_of_picture(old), bytes_of_picture(new)
    return sum(sides) + max(sides) + between + matrices


@dataclass(frozen=True)
class FileMemory:
    """The bytes of this machine's main memory that reading the picture files of a run takes.

    Attributes:
      kept: bytes of the pictures as they were read, which are kept during the run.
      peak: largest number of bytes at any time while the pictures are read and resized.
      least: the peak if the pictures were resized to the smallest size, of 16 px: what no choice of
        sizes avoids.
      largest: index of the picture whose decoding takes the most, in the order of `memory_of_files`.
    """

    kept: int
    peak: int
    least: int
    largest: int = 0


def memory_of_files(
    shapes: Sequence[Shape], decoding: Sequence[int], scale: Scale, recipe: Recipe
) -> FileMemory:
    """Return the memory that reading and resizing the pictures of a run takes.

    The peak is computed for this order: all pictures are read one after the other, and then resized one
    after the other.

    Args:
      shapes: (height, width) of the content and of each style, as they are read.
      decoding: bytes that decoding each of these files takes.
      scale: the final scale, whose sizes the pictures are resized to.
      recipe: the recipe, of which only the filter for resizing matters.
    """
    kept = reading = 0
    for shape, one in zip(shapes, decoding, strict=True):
        reading = max(reading, kept + one)
        kept += bytes_of_picture(shape)

    def peak(sizes: Sequence[Shape]) -> int:
        most, resized = reading, 0
        for old, new in zip(shapes, sizes, strict=True):
            most = max(most, kept + resized + peak_of_resizing(old, new, recipe.pictures.resize))
            resized += bytes_of_picture(new)
        return most

    found = peak((scale.shape, *scale.style_shapes))
    smallest = peak([(vgg.SMALLEST, vgg.SMALLEST)] * len(shapes))
    return FileMemory(
        kept,
        found,
        # Pictures that keep their size are not resized, which may take less than resizing to 16 px.
        least=min(found, smallest),
        largest=max(range(len(decoding)), key=decoding.__getitem__, default=0),
    )
