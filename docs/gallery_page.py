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
from nst_jax.app import cli

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
    "pagoda_wave": Entry(
        "Buildings",
        f"stylize pagoda.png wave.png {DRAFT}",
        "Printed from wood blocks: the print's ochre sky and Prussian blue, its foam in the leaves.",
    ),
    "mountain_auvers": Entry(
        "Landscapes",
        f"stylize mountain.png auvers.png {DRAFT}",
        "Thick strokes, the orange roofs as a path.",
    ),
    "stream_summertime": Entry(
        "Landscapes",
        f"stylize stream.png summertime.png {SMALL}",
        "Cassatt's water, for water.",
    ),
    "moose_region": Entry(
        "Animals",
        f"stylize moose.png summertime.png {SMALL} --region animal.png:lion.png",
        "The animal after Dürer, what is around it after Cassatt.",
    ),
    "coffee_kandinsky": Entry(
        "Food and things",
        f"stylize coffee.png kandinsky.png {DRAFT}",
        "Flat colours, ink lines and circles where the cup has them already.",
    ),
    "dahlia_poppies": Entry(
        "Food and things",
        f"stylize dahlia.png poppies.png {DRAFT}",
        "A flower after flowers.",
    ),
    "pagoda_instant": Entry(
        "In one pass",
        "instant pagoda.png auvers.png --size 384",
        "Any painting as the style.",
    ),
    "moose_instant": Entry(
        "In one pass",
        "instant moose.png summertime.png --size 384",
        "Any painting as the style.",
    ),
    "coffee_instant": Entry(
        "In one pass",
        "instant coffee.png mosaic --size 384",
        "One of the 26 styles.",
    ),
    "astronaut_instant": Entry(
        "In one pass",
        "instant astronaut.png impression --size 384",
        "One of the 26 styles.",
    ),
    "rocket_instant": Entry(
        "In one pass",
        "instant rocket.png starry waves --size 384",
        "Two of the 26 styles in equal parts.",
    ),
    "dahlia_instant": Entry(
        "In one pass",
        "instant dahlia.png cutout --size 384",
        "One of the 26 styles.",
    ),
    "autumn_instant": Entry(
        "In one pass",
        "instant autumn.png woodcut --size 384",
        "One of the 26 styles.",
    ),
    "chelsea_instant": Entry(
        "In one pass",
        "instant chelsea.png charcoal --size 384",
        "One of the 26 styles.",
    ),
    "fig_instant": Entry(
        "In one pass",
        "instant fig.png kandinsky.png --size 384",
        "Any painting as the style.",
    ),
    "dandelion_instant": Entry(
        "In one pass",
        "instant dandelion.png starry_night.png --size 384",
        "Any painting as the style.",
    ),
    "mountain_instant": Entry(
        "In one pass",
        "instant mountain.png engraving --size 384",
        "One of the 26 styles.",
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
        cli.cli(words, standalone_mode=False, obj=wall)
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

All were painted with the smallest number of updates, `--quality draft`, and at a small size, so that
they are quick to try: `--quality good` and `--size 1024` bring out more. Here they are JPEGs of at most
40 kB.
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
        f"that {min(loads):.0f} to {max(loads):.0f} processes shared. On the clock it was therefore "
        "many times as long, as recorded in `gallery/measured.json`; on a quiet machine it is at most "
        "about the processor time, which was not measured.\n"
    )


def _section(name: str, entry: Entry, measured: dict[str, Any]) -> str:
    seconds = measured["processor_seconds"]
    time_taken = "not measured" if seconds is None else f"{seconds:.0f} s"
    return (
        f"![{name}](gallery/{name}.jpg)\n\n```sh\n{command(name)}\n```\n\n"
        f"{entry.remark} Processor time: {time_taken}.\n"
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
    masks = ", ".join(f"`{name}` for {photograph}" for name, (photograph, _) in MASKS.items())
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
    if given.step == "pictures":
        prepare(given.folder, given.debian)
    elif given.step == "paint":
        paint(given.names or list(ENTRIES), given.folder.resolve())
    else:
        sheets(given.folder)
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
