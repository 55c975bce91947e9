"""Paint the pictures of the gallery, and write `gallery.md`: each with its command and its time.

    python -m docs.gallery_page pictures FOLDER [--debian ROOT]    # the photographs and paintings
    python -m docs.gallery_page paint FOLDER [NAME ...]            # half an hour on two quiet cores
    python -m docs.gallery_page write FOLDER

`pictures` reads photographs and paintings from installed packages, see `docs/gallery_sources.py`.
`paint` paints from them, and records times in `gallery/measured.json`; all commands run one after
the other in one process, so that the times do not contain its start. `write` writes the page, and two
sheets of what was painted from.
"""

import argparse
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFilter

import nst_jax as nst
from benchmarks import harness
from docs import gallery_sources
from nst_jax.app import declarations

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "gallery", HERE / "gallery.md"
MEASURED = FOLDER / "measured.json"
LARGEST = 40_000  # bytes of a picture of the page
DRAFT = "--size 384 --quality draft"
SMALL = "--size 320 --quality draft"


class Entry(NamedTuple):
    """A picture of the gallery: what painted it, and what there is to see."""

    kind: str  # the section of the page
    words: str  # of its command, between `nst-jax` and the name of its file
    remark: str


ENTRIES: dict[str, Entry] = {
    "astronaut_renoir": Entry(
        "People",
        f"stylize astronaut.png renoir.png {SMALL} --protect face.png:0.6",
        "The colours and strokes of Renoir's dancers; a mask protects her face.",
    ),
    "astronaut_instant": Entry(
        "People",
        "instant astronaut.png impression --size 384",
        "By one pass, in one of the 26 styles; a face stays a face.",
    ),
    "chelsea_lion": Entry(
        "Animals",
        f"stylize chelsea.png lion.png {SMALL}",
        "A cat in the wash of Dürer's lion.",
    ),
    "moose_region": Entry(
        "Animals",
        f"stylize moose.png summertime.png {SMALL} --region animal.png:lion.png",
        "The animal after Dürer, what is around it after Cassatt; the mask is three "
        "ellipses, hence the brown air between the antlers.",
    ),
    "moose_instant": Entry(
        "Animals",
        "instant moose.png summertime.png --size 384",
        "By one pass: a blur of water and grass, quite unlike the picture above.",
    ),
    "chelsea_instant": Entry(
        "Animals",
        "instant chelsea.png charcoal --size 384",
        "By one pass, in one of the 26 styles: a drawing with two colours.",
    ),
    "pagoda_wave": Entry(
        "Buildings",
        f"stylize pagoda.png wave.png {DRAFT}",
        "As if printed from wood blocks: ochre sky and Prussian blue as in Hokusai's wave, and its "
        "foam in the leaves.",
    ),
    "pagoda_instant": Entry(
        "Buildings",
        "instant pagoda.png auvers.png --size 384",
        "By one pass, which takes any painting as the style: its palette and grain rather than its "
        "strokes.",
    ),
    "mountain_auvers": Entry(
        "Landscapes",
        f"stylize mountain.png auvers.png {DRAFT}",
        "Van Gogh's thick strokes; the orange of his roofs has become the path.",
    ),
    "autumn_snow": Entry(
        "Landscapes",
        f"stylize autumn.png snow.png {SMALL}",
        "Autumn as a quiet winter print.",
    ),
    "stream_summertime": Entry(
        "Landscapes",
        f"stylize stream.png summertime.png {SMALL}",
        "The stream in the colours and strokes of Cassatt's water.",
    ),
    "autumn_instant": Entry(
        "Landscapes",
        "instant autumn.png woodcut --size 384",
        "By one pass, in one of the 26 styles, whose black lines carve the forest.",
    ),
    "mountain_instant": Entry(
        "Landscapes",
        "instant mountain.png engraving --size 384",
        "By one pass, in one of the 26 styles.",
    ),
    "rocket_instant": Entry(
        "Night",
        "instant rocket.png starry waves --size 384",
        "By one pass, two of the 26 styles in equal parts.",
    ),
    "dahlia_poppies": Entry(
        "Flowers",
        f"stylize dahlia.png poppies.png {DRAFT}",
        "A dahlia after Hokusai's poppies.",
    ),
    "dahlia_instant": Entry(
        "Flowers",
        "instant dahlia.png cutout --size 384",
        "By one pass, in one of the 26 styles: cut paper.",
    ),
    "dandelion_instant": Entry(
        "Flowers",
        "instant dandelion.png starry_night.png --size 384",
        "By one pass: the night of the painting over a meadow.",
    ),
    "coffee_kandinsky": Entry(
        "Food and things",
        f"stylize coffee.png kandinsky.png {DRAFT}",
        "Flat colours, ink lines and circles where the cup has them already.",
    ),
    "coffee_instant": Entry(
        "Food and things",
        "instant coffee.png mosaic --size 384",
        "By one pass, in one of the 26 styles: the tiles follow the rim.",
    ),
    "fig_instant": Entry(
        "Food and things",
        "instant fig.png kandinsky.png --size 384",
        "By one pass: ink lines and a pale wash.",
    ),
}

# Masks by file name: the photograph, and white ellipses on black as the corners of their boxes.
MASKS: dict[str, tuple[str, tuple[tuple[int, int, int, int], ...]]] = {
    "face.png": ("astronaut", ((165, 20, 285, 215),)),
    "animal.png": ("moose", ((90, 320, 565, 510), (320, 170, 530, 390), (190, 70, 645, 275))),
}


def command(name: str) -> str:
    """Return the command that paints a picture, as it stands on the page."""
    return f"nst-jax {ENTRIES[name].words} -o {name}.png"


def mask(name: str, photograph: Path) -> Image.Image:
    """Return a mask: white ellipses with soft edges, on black."""
    with Image.open(photograph) as photo:
        found = Image.new("L", photo.size)
    for box in MASKS[name][1]:
        ImageDraw.Draw(found).ellipse(box, fill=255)
    return found.filter(ImageFilter.GaussianBlur(6))


# --- Painting -------------------------------------------------------------------------------------


def prepare(folder: Path, root: Path) -> None:
    """Write photographs, paintings and masks into a folder, where the page's commands find them."""
    gallery_sources.write(folder, root)
    for name, (photograph, _) in MASKS.items():
        mask(name, folder / f"{photograph}.png").save(folder / name)


def paint(names: Sequence[str], folder: Path) -> None:
    """Paint pictures in a folder that `prepare` wrote, and add them and their times to the page's."""
    FOLDER.mkdir(exist_ok=True)
    os.chdir(folder)
    for name in names:
        sys.stderr.write(f"{command(name)}\n")
        Path(f"{name}.png").unlink(missing_ok=True)  # of an earlier run
        load, wall, processor = os.getloadavg()[0], time.perf_counter(), time.process_time()
        words = [*shlex.split(command(name))[1:], "--quiet"]
        declarations.cli(words, standalone_mode=False, obj=wall)
        entry = {
            "seconds": round(time.perf_counter() - wall, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "command": command(name),
            "processor": harness.device()["processor"],
            "cores": harness.cores(),
            "versions": harness.versions(),
            "commit": harness.source()["commit"],
        }
        write_jpeg(Image.open(f"{name}.png"), FOLDER / f"{name}.jpg", LARGEST)
        _record(name, entry)


def _record(name: str, entry: dict[str, Any]) -> None:
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    MEASURED.write_text(json.dumps({**measured, name: entry}, indent=1) + "\n")


def write_jpeg(picture: Image.Image, path: Path, largest: int) -> None:
    """Write a picture as a JPEG of at most that many bytes, with the best quality that allows it."""
    for quality in range(92, 30, -4):
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= largest:
            path.write_bytes(buffer.getvalue())
            return
    raise ValueError(f"{path.name} does not fit into {largest} bytes")


# --- Writing --------------------------------------------------------------------------------------


PREFACE = """# Gallery

Photographs and paintings of several kinds, and what became of them. Both come from packages that anyone
can install, under free licences; the sheets at the end show them, with who made them. This page is
written by `python -m docs.gallery_page`; its step `pictures` writes the photographs and paintings into
a folder, in which each command below runs as it stands:

```sh
pip install scikit-image scikit-learn
apt-get install lomiri-wallpapers-16.04 gcompris-qt-data
python -m docs.gallery_page pictures pictures && cd pictures
```

`stylize` painted with few updates (`--quality draft`: 30 in place of 90) and at a small size, so that
these commands are quick to try. `--quality good`, which is the default, and `--size 1024` bring out
more. On this page the pictures are JPEGs of at most 40 kB.
"""


def sheets(folder: Path) -> None:
    """Write the two sheets of what was painted from: photographs and paintings."""
    for file, painted in (("photographs", False), ("paintings", True)):
        names = [name for name in used() if is_painting(name) == painted]
        pictures = [nst.images.load(folder / f"{name}.png") for name in names]
        sheet = nst.images.sheets.captioned(pictures, names, columns=5, cell=150)
        write_jpeg(Image.fromarray(nst.images.to_uint8(sheet)), FOLDER / f"{file}.jpg", LARGEST)


def used() -> list[str]:
    """Return the names of the photographs and paintings that the commands of the page name."""
    words = {Path(word.rpartition(":")[2]).stem for word in " ".join(_all_words()).split()}
    return [name for name in gallery_sources.SOURCES if name in words]


def _all_words() -> list[str]:
    return [entry.words for entry in ENTRIES.values()]


def is_painting(name: str) -> bool:
    """Return whether a picture is a painting rather than a photograph."""
    source = gallery_sources.SOURCES[name]
    return bool(source.board) or name == "starry_night"


def _masks() -> dict[str, tuple[str, Any]]:
    """Return the masks that the commands of the page name."""
    words = " ".join(_all_words())
    return {name: mask for name, mask in MASKS.items() if name in words}


def page() -> str:
    """Return the page as Markdown."""
    measured = json.loads(MEASURED.read_text())
    parts = [PREFACE, _conditions(measured)]
    kind = ""
    for name, entry in ENTRIES.items():
        if entry.kind != kind:
            kind = entry.kind
            parts.append(f"## {kind}\n")
        parts.append(_section(name, entry, measured[name]))
    return "\n".join([*parts, _origins()])


def _conditions(measured: dict[str, Any]) -> str:
    first = next(iter(measured.values()))
    loads = [load for entry in measured.values() for load in entry["load"]]
    versions = ", ".join(f"{name} {first['versions'][name]}" for name in ("python", "jax"))
    return (
        "Processor time is summed over the cores; it contains compiling, but not the start of the "
        f"program. All were painted on {first['cores']} cores of an {first['processor']} ({versions}) "
        f"that {min(loads):.0f} to {max(loads):.0f} processes shared. Where the cores were quiet, a "
        "picture took less time than that on the clock; where many processes shared them, it took "
        "many times as long. Both times are in `gallery/measured.json`.\n"
    )


def _section(name: str, entry: Entry, measured: dict[str, Any]) -> str:
    if measured["processor_seconds"] is not None:
        time_taken = f"Processor time: {measured['processor_seconds']:.2g} s."
    elif measured["seconds"] is not None:
        time_taken = f"On the clock, with its start: {measured['seconds']:.0f} s."
    else:
        time_taken = "Time: not measured."
    return (
        f"![{name}](gallery/{name}.jpg)\n\n```sh\n{command(name)}\n```\n\n"
        f"{entry.remark} {time_taken}\n"
    )


def _origins() -> str:
    """Return the last section: the two sheets, and a row for each picture that was painted from."""
    lines = [
        "## What was painted from\n",
        "![Photographs](gallery/photographs.jpg)\n",
        "![Paintings](gallery/paintings.jpg)\n",
        "| picture | by | licence | package |",
        "|---|---|---|---|",
    ]
    for name in used():
        source = gallery_sources.SOURCES[name]
        lines.append(f"| {name} | {source.author} | {source.licence} | {source.package} |")
    masks = ", ".join(f"`{name}` for {photograph}" for name, (photograph, _) in _masks().items())
    return "\n".join([*lines, "", f"Masks are ellipses that the script draws: {masks}.", ""])


def main() -> None:
    """Run one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    steps = parser.add_subparsers(dest="step", required=True)
    pictures = steps.add_parser(
        "pictures", help="write the photographs and paintings into a folder"
    )
    pictures.add_argument("--debian", type=Path, default=Path("/"), help="where its packages are")
    painting = steps.add_parser("paint", help="paint the pictures of the page, or those named")
    writing = steps.add_parser(
        "write", help="write the page and the sheets of what was painted from"
    )
    for step in (pictures, painting, writing):
        step.add_argument("folder", type=Path)
    painting.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    try:
        _run(given)
    except ValueError as error:
        parser.error(str(error))


def _run(given: argparse.Namespace) -> None:
    if given.step == "pictures":
        prepare(given.folder, given.debian)
    elif given.step == "paint":
        unknown = sorted(set(given.names) - set(ENTRIES))
        if unknown:
            raise ValueError(f"`NAME`: no picture {unknown[0]!r}; there are {', '.join(ENTRIES)}")
        paint(given.names or list(ENTRIES), given.folder.resolve())
    else:
        sheets(given.folder)
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
