"""The sample pictures that come with the package; the file NOTICE gives origins and licences."""

from pathlib import Path

from nst_jax import _checks
from nst_jax._types import HostImage
from nst_jax.images.reading import Picture, read

_FOLDER = Path(__file__).with_name("samples")

# Name of a sample picture -> path of its file.
SAMPLES = {name: _FOLDER / f"{name}.jpg" for name in ("chelsea", "gravel", "starry_night")}


def sample(name: str) -> HostImage:
    """Return a sample picture as an array.

    Args:
      name: `"chelsea"` (a cat, content), `"gravel"` (a texture) or `"starry_night"` (a painting).

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      ValueError: for another name.

    Example:
      >>> import nst_jax as nst
      >>> nst.images.sample("chelsea").shape
      (300, 451, 3)
    """
    return sample_picture(name).image


def sample_picture(name: str) -> Picture:
    """Read a sample picture, with the name and digest of its file.

    Args:
      name: a key of `SAMPLES`, such as "chelsea".

    Raises:
      ValueError: for another name.
    """
    _checks.one_of("name", name, SAMPLES, "sample picture")
    return read(SAMPLES[name], argument="name")
