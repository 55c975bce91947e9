"""Writing result pictures, whose destinations were checked when the job was made."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from nst_jax import images
from nst_jax._types import Image
from nst_jax.images.resizing import antialiased


def write_picture(path: Path, image: Any, **options: Any) -> None:
    """Write a picture; since the destination was checked before, any failure is one of the disk.

    Args:
      path: where it goes.
      image: [h, w, 3] in [0, 1].
      **options: of `nst_jax.images.save`.

    Raises:
      OSError: if it cannot be written.
    """
    try:
        images.save(path, image, **options)
    except ValueError as error:
        raise OSError(f"cannot write {str(path)!r}: {error}") from error


def resized_alpha(alpha: Any, image: Image) -> Any:
    """Return the content's alpha [h, w] in [0, 1] at a picture's size; None stays None."""
    height, width = image.shape[:2]
    if alpha is None or alpha.shape == (height, width):
        return alpha
    # Repeated to three channels, so that the filter for colours serves.
    grey = jnp.repeat(jnp.asarray(alpha, jnp.float32)[..., None], 3, axis=-1)
    return np.asarray(antialiased(grey, (height, width))[..., 0])
