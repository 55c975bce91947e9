"""Limits on what a visitor may ask of this machine; safe file names; messages that show no paths.

A visitor is somebody who uses the page in a browser. A run is the painting of one picture by
optimisation, which a visitor began.
"""

import re
from pathlib import Path

from nst_jax._types import Shape
from nst_jax.images import decoding

# The constants whose names begin with MOST are the largest numbers that are allowed.
MOST_BYTES = 64 * 10**6  # bytes of one uploaded file
# Input pictures of one visitor at a time: contents, styles, masks, and pictures from which runs start.
MOST_PICTURES = 16
MOST_VISITORS = 16  # visitors at a time; each has a folder of pictures on this machine
# Open pages of one visitor that are kept up to date. Each page holds a connection. A browser opens at
# most six connections to a server, so two are left for other requests.
MOST_STREAMS = 4
# Runs of all visitors together, waiting or painting, at a time. A run is the painting of one picture.
MOST_RUNS = 8
MOST_SNAPSHOTS = 48  # pictures of one run that are kept on disk
# Bytes of all positions of one run that are kept on disk. A position is a checkpoint in a file, to
# which the run can go back; at 512 px, it has some 50 MB.
MOST_POSITION_BYTES = 400 * 10**6
MOST_STYLES = 4  # styles blended in one picture
MOST_STEPS = 10_000  # updates of one run
MOST_SETTINGS = 20_000  # bytes of the settings that the page sends
# Limits for the size, in px, that a visitor chooses. The longer side of a result can exceed this
# size, and is limited to `LARGEST_SIDE`, too.
LEAST_SIDE, LARGEST_SIDE = 32, 2048
UNWATCHED_SECONDS = 30.0  # time after which a run is paused if no open page shows it
FORGOTTEN_SECONDS = 2 * 3600.0  # time after which a visitor who is away is deleted with all files
STALLED_SECONDS = 30.0  # longest time for which an upload may send nothing before it is refused

LONGEST_NAME = 60  # most characters of the name of an uploaded file, without its suffix
# Matches names, without suffix, that the server gives to pictures of its own: in the folder of the
# uploads, in the folder of a run, or in an archive. To keep these names for the server, `safe_name`
# changes the name of an upload that matches.
OWN_NAMES = re.compile(
    r"(picture|instant)$|(painted_after|step|view|part|gallery)(_|$)", re.ASCII | re.IGNORECASE
)
# These patterns find absolute paths in messages, for `without_paths`. `_PATH` matches the beginning of
# a path: a slash or backslash, before which there may be a drive such as C:. It does not match the
# slashes of an address such as https://example.org.
_PATH = r"(?<![\w./\\])(?!(?<=:)//)(?:[A-Za-z]:)?[/\\]"
_QUOTED_PATH = re.compile(rf"(['\"]){_PATH}([^'\"]+)\1")
_BARE_PATH = re.compile(rf"{_PATH}([^\s'\",;:()]+)")


def safe_name(name: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """Return a file name that is safe in a folder and on a command line, and not taken yet.

    Only ASCII letters, digits, dots, dashes and underscores are kept. A colon, for example, would be
    misread on the command line, where `a.jpg:2` gives the style `a.jpg` the share 2 in a blend of
    styles. A name whose suffix is not that of a picture gets the suffix .png, since a name that ends in
    .h5 would mean a trained network. A name that the server might give to a file of its own gets the
    prefix `my_`. Names that differ only in upper and lower case count as equal, since some file systems
    do not distinguish them.

    Args:
      name: the name that the browser gave the file.
      taken: names that are in use.

    Example:
      >>> safe_name("../my photo:2.JPG"), safe_name("a.jpg", {"a.jpg"}), safe_name("net.h5")
      ('my_photo_2.jpg', 'a_2.jpg', 'net_h5.png')
    """
    last = re.split(r"[/\\]", name)[-1]
    path = Path(re.sub(r"[^\w.-]+", "_", last, flags=re.ASCII))
    suffix = path.suffix.lower()
    stem = path.stem
    if suffix not in (*decoding.PICTURE_SUFFIXES, *decoding.HEIC_SUFFIXES):
        stem, suffix = path.name.replace(".", "_"), ".png"
    stem = stem.strip(".-_")[:LONGEST_NAME] or "picture"
    stem = f"my_{stem}" if OWN_NAMES.match(stem) else stem
    used = {one.lower() for one in taken}
    found, number = f"{stem}{suffix}", 1
    while found.lower() in used:
        number += 1
        found = f"{stem}_{number}{suffix}"
    return found


def check_side(shape: Shape) -> None:
    """Check that a result is not larger than the page allows.

    It would not be enough to check the size that a visitor chooses. In some recipes, this size is not
    the longer side but, for instance, the side of a square of the same area. If the visitor chooses no
    size, the recipe decides.

    Args:
      shape: height and width of the result.

    Raises:
      ValueError: if the longer side is larger than `LARGEST_SIDE`.
    """
    height, width = shape
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(
            f"size: the result would have {width} x {height} px, and the page paints at most "
            f"{LARGEST_SIDE} px; choose a smaller size"
        )


# Matches the advice on tiles at the end of a message that a picture does not fit in memory. Users of
# the command line and of Python can follow this advice, but a visitor of the page cannot choose tiles.
_ADVICE_ON_TILES = re.compile(r"; to try it anyway, set `(--)?tile` to off or a number")


def without_paths(text: str, *folders: Path) -> str:
    """Return a message as one line, without the folders of this machine and without backticks.

    Advice on tiles, which visitors cannot choose, is left out too.

    Args:
      text: the message.
      folders: folders whose own path is removed, so that paths within them become relative. Of any
        other absolute path, only the last name stays.

    Example:
      >>> without_paths("`style`: '/tmp/x/a.png' is empty", Path("/tmp/x"))
      "style: 'a.png' is empty"
      >>> without_paths("no space at /var/lib/cache, see https://example.org/help")
      'no space at cache, see https://example.org/help'
    """
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(str(folder), "")
    text = _QUOTED_PATH.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", text)
    text = _BARE_PATH.sub(lambda found: _last(found[1]), text)
    text = _ADVICE_ON_TILES.sub("", text)
    return " ".join(text.replace("`", "").split())


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
