"""Paint the pictures of `controls.md`, each with the command that stands below it on the page.

python -m docs.controls_page [NAME ...]    # some minutes on two cores
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nst_jax as nst

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "controls", HERE / "controls.md"

# Files of the page's commands, and the samples that are painted in their place.
FILES = {"photo.jpg": "chelsea", "painting.jpg": "starry_night"}

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
}
COMMON = "--size 256 --quality draft"


def command(name: str) -> str:
    """Return the command that paints a picture, as it stands on the page."""
    words = ["nst-jax", "stylize", *FILES, COMMON, OPTIONS[name], "-o", f"{name}.jpg"]
    return " ".join(filter(None, words))


def paint(name: str) -> None:
    """Paint one picture into the folder of the page."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for file, sample in FILES.items():
            Path(folder, file).write_bytes(nst.images.SAMPLES[sample].read_bytes())
        words = [sys.executable, "-m", *command(name).replace("nst-jax", "nst_jax").split()]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
        subprocess.run([*words, "--quiet"], cwd=folder, check=True, env=environment)
        (FOLDER / f"{name}.jpg").write_bytes(Path(folder, f"{name}.jpg").read_bytes())


if __name__ == "__main__":
    for chosen in sys.argv[1:] or OPTIONS:
        sys.stderr.write(f"{chosen}\n")
        paint(chosen)
