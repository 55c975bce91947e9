"""Paint the pictures of `controls.md`, each with the command that stands below it on the page.

python -m docs.controls_page [NAME ...]    # some minutes on two cores
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

import nst_jax as nst

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "controls", HERE / "controls.md"

# Files of the page's commands, and the samples that are painted in their place.
FILES = {"photo.jpg": "chelsea", "painting.jpg": "starry_night"}
OTHER_FILES = {"pebbles.jpg": "gravel"}

# Masks for the sample `chelsea`, of 451x300 px: ellipses, each as the corners of its box.
MASKS = {
    "face.png": ((20, -60, 420, 330),),
    "eyes.png": ((128, 68, 226, 162), (290, 90, 350, 160)),
}

# The pictures by name, and the options with which they are painted.
OPTIONS: Mapping[str, str] = {
    "style": "",
    "content": "--colors content",
    "luminance": "--colors luminance",
    "content-after": "--colors content-after",
    "palette": "--colors palette",
    "realism-half": "--realism 0.5",
    "realism": "--realism 1",
    "realism-colors": "--realism 1 --colors content-after",
    "matting": "--set terms.matting_weight=100",
    "region": "--region face.png:pebbles.jpg",
    "protect": "--protect eyes.png",
}
COMMON = "--size 256 --quality draft"

# Pictures by name that other words paint, or that have another size: the words before `-o NAME.jpg`.
SMALL = "--size 192 --quality draft"
OTHERS: Mapping[str, str] = {
    "fine-strokes": f"stylize photo.jpg painting.jpg {SMALL} --style-scale 0.5",
    "large-strokes": f"stylize photo.jpg painting.jpg {SMALL} --style-scale 2",
    "taps": f"stylize photo.jpg painting.jpg {SMALL} "
    "--style-layer relu1_1=pebbles.jpg --style-layer relu2_1=pebbles.jpg",
    "texture": "texture painting.jpg --recipe gram --size 192x128",
    "tile": "texture pebbles.jpg --recipe gram --size 96 --tile-seamless",
    "mixed": "stylize painting.jpg pebbles.jpg --recipe gatys-pytorch --size 128 --steps 100 "
    "--content-weight 0 --style-layer relu1_1=500 --style-layer relu2_1=500 "
    "--colors content --set pictures.color_map=pca",
    "two-stages": f"stylize photo.jpg mixed.jpg {SMALL}",
}
# The pictures of a strip, side by side: a name for each value of `--strength`.
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STRIP = "strengths"


def command(name: str) -> str:
    """Return the command that paints a picture, as it stands on the page."""
    words = OTHERS.get(name) or " ".join(
        filter(None, ["stylize", *FILES, COMMON, OPTIONS.get(name, "")])
    )
    return f"nst-jax {words} -o {name}.jpg"


def mask(name: str) -> Image.Image:
    """Return a mask: white ellipses with soft edges, on black."""
    with Image.open(nst.images.SAMPLES["chelsea"]) as photo:
        found = Image.new("L", photo.size)
    for box in MASKS[name]:
        ImageDraw.Draw(found).ellipse(box, fill=255)
    return found.filter(ImageFilter.GaussianBlur(6))


def paint(name: str) -> None:
    """Paint one picture into the folder of the page."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for file in MASKS:
            mask(file).save(Path(folder, file))
        for file, sample in (FILES | OTHER_FILES).items():
            Path(folder, file).write_bytes(nst.images.SAMPLES[sample].read_bytes())
        words = [sys.executable, "-m", *command(name).replace("nst-jax", "nst_jax").split()]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
        subprocess.run([*words, "--quiet"], cwd=folder, check=True, env=environment)
        (FOLDER / f"{name}.jpg").write_bytes(Path(folder, f"{name}.jpg").read_bytes())


if __name__ == "__main__":
    for chosen in sys.argv[1:] or OPTIONS:
        sys.stderr.write(f"{chosen}\n")
        paint(chosen)
