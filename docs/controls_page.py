"""Paint the pictures of `controls.md`, each with the command that stands below it on the page.

python -m docs.controls_page [NAME ...]    # some minutes on two cores
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import nst_jax as nst
from benchmarks import strength

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
# The same photo cut out along a mask, so that the rest is transparent.
CUT_OUT, CUT_ALONG = "cut_out.png", "face.png"
# Colour-coded maps: for each, the sample over which it is drawn, and its parts as (colour, corners of a
# polygon in shares of width and height). The first colour fills the map.
RED, BLUE = (255, 0, 0), (0, 0, 255)
MAPS: Mapping[str, tuple[str, tuple[tuple[tuple[int, int, int], tuple[float, ...]], ...]]] = {
    "photo_map.png": (
        "chelsea",
        ((BLUE, (0, 0, 1, 0, 1, 1, 0, 1)), (RED, (0, 0, 0.9, 0, 0.7, 1, 0, 1))),
    ),
    "painting_map.png": (
        "starry_night",
        ((BLUE, (0, 0, 1, 0, 1, 1, 0, 1)), (RED, (0, 0.65, 1, 0.55, 1, 1, 0, 1))),
    ),
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
    "fine-strokes": "--style-scale 0.5",
    "large-strokes": "--style-scale 2",
    "taps": "--style-layer relu1_1=pebbles.jpg --style-layer relu2_1=pebbles.jpg",
    "region": "--region face.png:pebbles.jpg",
    "several": "--region face.png:pebbles.jpg --region eyes.png:photo.jpg:2",
    "maps": "--regions photo_map.png painting_map.png",
    "protect": "--protect eyes.png",
}
COMMON = "--size 256 --quality draft"

# Pictures by name that other words paint, or that have another size: the words before `-o NAME.jpg`.
OTHERS: Mapping[str, str] = {
    "texture": "texture painting.jpg --recipe gram --size 128x96 --steps 60",
    "tile": "texture pebbles.jpg --size 192 --style-size 384 --steps 200 --tile-seamless",
    "mixed": "stylize painting.jpg pebbles.jpg --recipe gatys-pytorch --size 128 --steps 100 "
    "--content-weight 0 --content-layer relu2_1 --style-layer relu1_1=500 "
    "--style-layer relu2_1=500 --colors content --set pictures.color_map=pca "
    "--set descent.optimizer=LBFGS --set descent.optimizer.history=20 --set descent.coordinates=raw",
    "two-stages": f"stylize photo.jpg mixed.jpg {COMMON}",
    "transparent": "stylize cut_out.png painting.jpg --size 128 --quality draft",
}
# The seamless texture, which the page shows as 2 x 2 copies beside its style.
TILE = "tile"
# A strip of pictures of a pair of the case `strength` of the benchmarks, side by side, at these
# strengths. The steps between them are equal.
STRIP, STRENGTHS = "strengths", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def file_of(name: str) -> str:
    """Return the name of a picture's file: PNG for the one with transparent parts, which JPEG lacks."""
    return f"{name}.png" if name == "transparent" else f"{name}.jpg"


def command(name: str) -> str:
    """Return the command that paints a picture, as it stands on the page."""
    words = OTHERS.get(name) or " ".join(
        filter(None, ["stylize", *FILES, COMMON, OPTIONS.get(name, "")])
    )
    return f"nst-jax {words} -o {file_of(name)}"


def mask(name: str) -> Image.Image:
    """Return a mask: white ellipses with soft edges, on black."""
    with Image.open(nst.images.SAMPLES["chelsea"]) as photo:
        found = Image.new("L", photo.size)
    for box in MASKS[name]:
        ImageDraw.Draw(found).ellipse(box, fill=255)
    return found.filter(ImageFilter.GaussianBlur(6))


def cut_out() -> Image.Image:
    """Return the photo with transparent pixels outside a mask."""
    with Image.open(nst.images.SAMPLES["chelsea"]) as photo:
        found = photo.convert("RGB")
    found.putalpha(mask(CUT_ALONG))
    return found


def coded_map(name: str) -> Image.Image:
    """Return a colour-coded map of the size of its sample."""
    sample, parts = MAPS[name]
    with Image.open(nst.images.SAMPLES[sample]) as picture:
        size = picture.size
    found = Image.new("RGB", size)
    for colour, shares in parts:
        corners = [share * size[index % 2] for index, share in enumerate(shares)]
        ImageDraw.Draw(found).polygon(corners, fill=colour)
    return found


def paint(*names: str) -> None:
    """Paint pictures into the folder of the page, one after the other in one folder of inputs.

    A later picture may be painted from an earlier one, as `two-stages` is from `mixed`.
    """
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        for file in MASKS:
            mask(file).save(folder / file)
        for file in MAPS:
            coded_map(file).save(folder / file)
        cut_out().save(folder / CUT_OUT)
        for file, sample in (FILES | OTHER_FILES).items():
            (folder / file).write_bytes(nst.images.SAMPLES[sample].read_bytes())
        if (FOLDER / "mixed.jpg").exists():
            shutil.copy(FOLDER / "mixed.jpg", folder)
        for name in names:
            sys.stderr.write(f"{name}\n")
            if name == STRIP:
                _paint_strip(folder)
            else:
                _run(command(name), folder)
            if name == TILE:
                _lay(folder / file_of(TILE), folder / "pebbles.jpg")
            shutil.copy(folder / file_of(name), FOLDER)


def _paint_strip(folder: Path) -> None:
    pair, recipe = strength.PAIRS[0], nst.recipes.DEFAULT.replace(steps=30)
    content, style = map(strength.picture, pair)
    exponents = np.log10(nst.recipes.strength.factor_of(np.array(STRENGTHS)))
    pictures = strength.painted(nst.load_params(), recipe, content, style, 128, list(exponents))
    save_strip(pictures, folder)


def save_strip(pictures: Sequence[Any], folder: Path) -> None:
    """Write the pictures of the strip side by side, with their strengths below."""
    labels = [f"{one:g}" for one in STRENGTHS]
    strip = nst.images.sheets.side_by_side(list(pictures), labels)
    nst.images.save(folder / f"{STRIP}.jpg", strip)


def _lay(tile: Path, style: Path) -> None:
    """Replace the picture of a tile by 2 x 2 copies of it, with its style at their right.

    The settings that are embedded in the picture of the tile stay in its file.
    """
    settings = nst.images.read_metadata(tile)
    copies = np.tile(nst.images.load(tile), (2, 2, 1))
    shown = nst.images.sheets.side_by_side(
        [copies, nst.images.load(style)], ["2 x 2 copies of the tile", "the style"]
    )
    nst.images.save(tile, shown, metadata=settings)


def _run(command: str, folder: Path) -> None:
    words = [sys.executable, "-m", *command.replace("nst-jax", "nst_jax").split(), "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    subprocess.run(words, cwd=folder, check=True, env=environment)


if __name__ == "__main__":
    paint(*(sys.argv[1:] or [*OPTIONS, *OTHERS, STRIP]))
