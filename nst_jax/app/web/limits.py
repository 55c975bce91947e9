"""How much a visitor of the page may ask of this machine, and texts that show none of its paths."""

import re
from pathlib import Path

from nst_jax.images import decoding

MOST_BYTES = 64 * 10**6  # of one uploaded file
MOST_PICTURES = 16  # of one visitor at a time: photos, paintings, masks and starts
MOST_VISITORS = 16  # at a time; each has a folder of pictures on this machine
MOST_STREAMS = 8  # pages of one visitor that are kept up to date at a time
MOST_RUNS = 8  # that wait or paint at a time, of all visitors
MOST_SNAPSHOTS = 48  # of one run that are kept on disk
MOST_STYLES = 4  # mixed in one picture
MOST_STEPS = 10_000  # updates of one run
MOST_SETTINGS = 20_000  # bytes of the settings that the page sends
LEAST_SIDE, LARGEST_SIDE = 32, 2048  # px, of the longer side of a result
UNWATCHED_SECONDS = 30.0  # after which a run that nobody looks at is paused
FORGOTTEN_SECONDS = 2 * 3600.0  # after which the pictures of a visitor who is away are deleted
STALLED_SECONDS = 30.0  # an upload may send nothing for this long

LONGEST_NAME = 60  # characters of the name of an uploaded file


def safe_name(name: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """Return a file name that is safe in a folder and on a command line, and not taken yet.

    Only letters, digits, dots, dashes and underscores stay. A colon would be read as a share, and a
    name that ends in .h5 as a network, so a suffix that is not that of a picture gets .png behind it.

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
    found, number = f"{stem}{suffix}", 1
    while found in taken:
        number += 1
        found = f"{stem}_{number}{suffix}"
    return found


def without_paths(text: str, *folders: Path) -> str:
    """Return a message of one line without the folders of this machine and without backticks.

    Example:
      >>> without_paths("`style`: '/tmp/x/a.png' is empty", Path("/tmp/x"))
      "style: 'a.png' is empty"
    """
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(str(folder), "")
    return " ".join(text.replace("`", "").split())
