"""Write result pictures, whose paths were checked when the job was made."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from nst_jax import images
from nst_jax._types import Image
from nst_jax.images.resizing import antialiased


def write_picture(path: Path, image: Any, **options: Any) -> None:
    """Write a picture; its path was checked before the run, so every failure is an `OSError`.

    Args:
      path: path of the file.
      image: [h, w, 3] in [0, 1].
      **options: other arguments of `nst_jax.images.save`.

    Raises:
      OSError: if the file cannot be written, also where `save` raises ValueError.
    """
    try:
        images.save(path, image, **options)
    except ValueError as error:
        raise OSError(f"cannot write {str(path)!r}: {error}") from error


def resized_alpha(alpha: Any, image: Image) -> Any:
    """Return an alpha channel, [h, w] in [0, 1], resized to the size of `image`; None stays None."""
    height, width = image.shape[:2]
    if alpha is None or alpha.shape == (height, width):
        return alpha
    # `antialiased` needs three channels, so alpha is repeated.
    grey = jnp.repeat(jnp.asarray(alpha, jnp.float32)[..., None], 3, axis=-1)
    return np.asarray(antialiased(grey, (height, width))[..., 0])
