"""Make the sample pictures of the package.

    python tests/make_samples.py SKIMAGE_DATA STARRY_NIGHT_JPG

SKIMAGE_DATA is the `data` folder of an installed scikit-image; STARRY_NIGHT_JPG is
`examples/data/starry_night.jpg` of Debian's package opencv-doc. See NOTICE for their licences.
"""

import sys
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).parents[1] / "nst_jax" / "images" / "samples"
FRAME = (18, 18, 732, 580)  # the painting within its black frame: left, top, right, bottom


def save(image: Image.Image, name: str) -> None:
    """Write a sample as a JPEG of good quality, without metadata."""
    image.convert("RGB").save(SAMPLES / f"{name}.jpg", quality=90, subsampling=0, optimize=True)


def main(skimage_data: str, starry_night: str) -> None:
    """Write the three samples."""
    with Image.open(Path(skimage_data) / "chelsea.png") as cat:
        save(cat, "chelsea")
    with Image.open(Path(skimage_data) / "gravel.png") as stones:
        save(stones.resize((384, 384), Image.Resampling.LANCZOS), "gravel")
    with Image.open(starry_night) as painting:
        cropped = painting.crop(FRAME)
        save(cropped.resize((512, 403), Image.Resampling.LANCZOS), "starry_night")


if __name__ == "__main__":
    main(*sys.argv[1:])
