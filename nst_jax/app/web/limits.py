"""How much a visitor of the page may ask of this machine, and texts that show none of its paths."""

import re
from pathlib import Path

from nst_jax._types import Shape
from nst_jax.images import decoding

MOST_BYTES = 64 * 10**6  # of one uploaded file
MOST_PICTURES = 16  # of one visitor at a time: photos, paintings, masks and starts
MOST_VISITORS = 16  # at a time; each has a folder of pictures on this machine
# Pages of one visitor that are kept up to date at a time. Each holds a connection, of which a browser
# opens no more than six to a server.
MOST_STREAMS = 4
MOST_RUNS = 8  # that wait or paint at a time, of all visitors
MOST_SNAPSHOTS = 48  # of one run that are kept on disk
MOST_POSITION_BYTES = 400 * 10**6  # of the positions of one run on disk, some 50 MB each at 512 px
MOST_STYLES = 4  # mixed in one picture
MOST_STEPS = 10_000  # updates of one run
MOST_SETTINGS = 20_000  # bytes of the settings that the page sends
LEAST_SIDE, LARGEST_SIDE = 32, 2048  # px, of the longer side of a result
UNWATCHED_SECONDS = 30.0  # after which a run that nobody looks at is paused
FORGOTTEN_SECONDS = 2 * 3600.0  # after which the pictures of a visitor who is away are deleted
STALLED_SECONDS = 30.0  # an upload may send nothing for this long

LONGEST_NAME = 60  # characters of the name of an uploaded file
# Names of the files that the server itself writes beside uploads and into archives.
OWN_NAMES = re.compile(
    r"(picture|instant)$|(painted_after|step|view|part|gallery)_", re.ASCII | re.IGNORECASE
)
# An absolute path; the slashes of https:// begin none.
_PATH = r"(?<![\w./\\])(?!(?<=:)//)(?:[A-Za-z]:)?[/\\]"
_QUOTED_PATH = re.compile(rf"(['\"]){_PATH}([^'\"]+)\1")
_BARE_PATH = re.compile(rf"{_PATH}([^\s'\",;:()]+)")


def safe_name(name: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """Return a file name that is safe in a folder and on a command line, and not taken yet.

    Only letters, digits, dots, dashes and underscores stay. A colon would be read as a share, and a
    name that ends in .h5 as a network, so a suffix that is not that of a picture gets .png behind it.
    A name that the server gives its own files gets `my_` before it. Some file systems do not tell
    capital letters from small ones, so names that differ by them only are the same.

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
    """Check the height and width of a result.

    A size may measure another side than the longer one, and a photo may have no size chosen.

    Raises:
      ValueError: if the longer side is larger than `LARGEST_SIDE`.
    """
    height, width = shape
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(
            f"size: the result would have {width} x {height} px, and the page paints at most "
            f"{LARGEST_SIDE} px; choose a smaller size"
        )


def without_paths(text: str, *folders: Path) -> str:
    """Return a message of one line without the folders of this machine and without backticks.

    Of every absolute path, only the last name stays.

    Args:
      text: the message.
      folders: of which the path is removed but nothing within.

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
    return " ".join(text.replace("`", "").split())


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
