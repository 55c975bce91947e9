"""The pictures of the gallery: read from installed packages, checked, and written for its commands.

Photographs come from Python packages (`pip install scikit-image scikit-learn`), from Debian packages
(`apt-get install lomiri-wallpapers-16.04 gcompris-qt-data`) and from the samples of this package.
Paintings come from the puzzles of GCompris: a painting is there in pieces with interlocking edges,
inside a file of Qt's resource system. `SOURCES` says of each picture who made it, and its licence.
"""

import hashlib
import importlib.util
import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

import nst_jax as nst

LONGEST = 800  # px; larger photographs are reduced to it
BORDER = 2  # px that are cut off a painting on each side: there the edges of its pieces are soft


class Source(NamedTuple):
    """Where a picture comes from, and who may be thanked for it."""

    package: str  # a Python package with its version, or a Debian package with its version
    file: str  # in a Python package, below its folder; of a Debian package, below the root
    author: str
    licence: str
    sha256: str  # of the file, or of a painting's pieces one after the other
    board: str = ""  # of a painting: the file that says where its pieces belong


SKIMAGE = "scikit-image 0.26.0"
SKLEARN = "scikit-learn 1.9.1"
WALLPAPERS = "lomiri-wallpapers-16.04 20.04.0-2"
GCOMPRIS = "gcompris-qt-data 3.1-2"
SAMPLE = "nst-jax"  # its own samples, see NOTICE
FOLDERS = {SKIMAGE: "skimage", SKLEARN: "sklearn"}  # of the Python packages
RESOURCES = "usr/share/gcompris-qt/rcc"
BACKGROUNDS = "usr/share/backgrounds"
ANIMALS, PAINTINGS = f"{RESOURCES}/explore_world_animals.rcc", f"{RESOURCES}/paintings.rcc"


def _wallpaper(file: str, author: str, licence: str, sha256: str) -> Source:
    return Source(WALLPAPERS, f"{BACKGROUNDS}/{file}.jpg", author, licence, sha256)


def _painting(board: int, author: str, died: int, sha256: str) -> Source:
    licence = f"public domain: the painter died in {died}"
    return Source(GCOMPRIS, PAINTINGS, author, licence, sha256, f"board{board}_0.qml")


SOURCES: Mapping[str, Source] = {
    "chelsea": Source(SAMPLE, "chelsea", "Stefan van der Walt", "CC0 1.0", ""),
    "starry_night": Source(
        SAMPLE, "starry_night", "Vincent van Gogh, The Starry Night, 1889", "public domain", ""
    ),
    "gravel": Source(SAMPLE, "gravel", "CC0Textures", "CC0 1.0", ""),
    "astronaut": Source(
        SKIMAGE,
        "data/astronaut.png",
        "NASA",
        "public domain",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "coffee": Source(
        SKIMAGE,
        "data/coffee.png",
        "Rachel Michetti",
        "CC0 1.0",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    "rocket": Source(
        SKIMAGE,
        "data/rocket.jpg",
        "SpaceX",
        "public domain",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    "pagoda": Source(
        SKLEARN,
        "datasets/images/china.jpg",
        "danielbuechele",
        "CC BY 2.0",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    "dahlia": Source(
        SKLEARN,
        "datasets/images/flower.jpg",
        "vultilion",
        "CC BY 2.0",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
    "fig": _wallpaper(
        "Picture_0B_by_freespace",
        'Trevor "Freespace"',
        "CC BY 4.0",
        "c8c0ab18e48d9e0419fe42881112137f3afafc27dfddc29ec3a6d54c56d225ad",
    ),
    "mountain": _wallpaper(
        "picosdeeuropa_by_Aitzol_Berasategi",
        "Aitzol Berasategi",
        "CC BY 4.0",
        "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
    ),
    "stream": _wallpaper(
        "life_by_Aitzol_Berasategi",
        "Aitzol Berasategi",
        "CC BY 4.0",
        "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
    ),
    "sunset": _wallpaper(
        "sunset_by_Aitzol_Berasategi",
        "Aitzol Berasategi",
        "CC BY 4.0",
        "474dab6a4b9f94dc76c29dfe30e9f5db4af0fd2e33fe5d695f8152b371efca18",
    ),
    "autumn": _wallpaper(
        "aitzgorri_by_Aitzol_Berasategi",
        "Aitzol Berasategi",
        "CC BY 4.0",
        "66268e7b48f8854d36a28765fac6e23ec1aee251daa6da1f64715f201020ad36",
    ),
    "dandelion": _wallpaper(
        "seeding_by_Clements_Engelhardt",
        "Clemens Engelhardt",
        "CC0 1.0",
        "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
    ),
    "moose": Source(
        GCOMPRIS,
        f"{ANIMALS}:moose.webp",
        "Ryan Hagerty, U.S. Fish and Wildlife Service",
        "public domain",
        "2252a671c2e0ade9ce6ff6d41957348a81ebccfd952ba59bfddceff0b059ea48",
    ),
    "wave": _painting(
        7,
        "Katsushika Hokusai, The Great Wave off Kanagawa, 1831",
        1849,
        "6f61255e9ff56e0a3f835967d8f10bd5bc1780cff7f77a5631b4ca1e4b2354f5",
    ),
    "poppies": _painting(
        11,
        "Katsushika Hokusai, Poppies, 1834",
        1849,
        "105016b52a15cdbd62e081f4e1a71cf4c8a53fb36e03f6042182dcb157ae198a",
    ),
    "snow": _painting(
        8,
        "Utagawa Hiroshige, The Benzaiten Shrine at Inokashira in Snow",
        1858,
        "1526671b508b15143f80d6de7530df51af51c3989815e1ac0d170060f77bf3b9",
    ),
    "auvers": _painting(
        22,
        "Vincent van Gogh, Village Street in Auvers, 1890",
        1890,
        "f502a4c5ab5a714fc6f2a61f8dc23a9a759c196228ded567bdb8f67f6a778e61",
    ),
    "renoir": _painting(
        1,
        "Pierre-Auguste Renoir, Bal du moulin de la Galette, 1876",
        1919,
        "0084a8fe6daa3aa50413faba756d892916ee91a19b0eb9b84e52800e4e32d98a",
    ),
    "summertime": _painting(
        21,
        "Mary Cassatt, Summertime, 1894",
        1926,
        "ab0345c595b324b73033137c63aa7566493312bd1aa5e8768e409533995e1f8f",
    ),
    "ramparts": _painting(
        20,
        "Frédéric Bazille, The Ramparts at Aigues-Mortes, 1867",
        1870,
        "38929546c99c9cc25d067bf0aac5d46afc1440d0caec0e404db30c619942cde9",
    ),
    "kandinsky": _painting(
        19,
        "Wassily Kandinsky, Composition VIII, 1923",
        1944,
        "4e89c4bff2a838d7ef101939fa96193c94327e332017a59696fcbe0243106fbe",
    ),
    "lion": _painting(
        16,
        "Albrecht Dürer, Lion, 1494",
        1528,
        "e7d8742ded83e4158c5bf5324b7a9cdcfde13f18388cca1dccdb325694728622",
    ),
    "mona_lisa": _painting(
        14,
        "Leonardo da Vinci, Mona Lisa, 1519",
        1519,
        "8b8fcc4b0786e87bcb9a45ac65c2e82f58823297116ecab4e6df6fc6db622802",
    ),
}


def write(folder: Path, root: Path) -> None:
    """Write every picture into a folder as NAME.png.

    Args:
      folder: it is made if it does not exist.
      root: below it are the files of the Debian packages, `/` where they are installed.

    Raises:
      ValueError: a package is not there, or one of its files is not the one that was used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        read(name, root).save(folder / f"{name}.png")


def read(name: str, root: Path) -> Image.Image:
    """Return a picture as it is painted: RGB, upright, of at most `LONGEST` pixels on a side."""
    source = SOURCES[name]
    if source.package == SAMPLE:
        return Image.open(nst.images.SAMPLES[source.file]).convert("RGB")
    path, _, inner = str(_path(source, root)).partition(":")
    if source.board:
        return _jigsaw(name, Path(path))
    data = resources(Path(path).read_bytes())[inner] if inner else Path(path).read_bytes()
    _check(name, data)
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    return picture


def _path(source: Source, root: Path) -> Path:
    """Return the file of a source; raise ValueError, with the next move, if it is not there."""
    package = source.package.split()[0]
    if source.package in FOLDERS:
        found = importlib.util.find_spec(FOLDERS[source.package])
        if found is None or not found.submodule_search_locations:
            raise ValueError(f"the gallery needs {source.package}: `pip install {package}`")
        return Path(found.submodule_search_locations[0], source.file)
    path = root / source.file
    if not Path(str(path).partition(":")[0]).exists():
        raise ValueError(
            f"`--debian`: there is no {path}; `apt-get install {package}`, or unpack the package "
            "with `dpkg -x` and name that folder"
        )
    return path


def _check(name: str, data: bytes) -> None:
    found, expected = hashlib.sha256(data).hexdigest(), SOURCES[name].sha256
    if found != expected:
        raise ValueError(
            f"{name}: {SOURCES[name].package} has another picture than the one that was used "
            f"(sha256 {found}, not {expected})"
        )


# --- Qt's resource files --------------------------------------------------------------------------

COMPRESSED, FOLDER = 1, 2  # flags of an entry
ENTRY = {1: 14, 2: 22, 3: 22}  # bytes of an entry, by the version of the format


def resources(data: bytes) -> dict[str, bytes]:
    """Return the files in a file of Qt's resource system (`.rcc`), by their names without folders.

    Args:
      data: the whole file.

    Raises:
      ValueError: it is not such a file.

    References:
      Qt, `QResource` and the tool `rcc`: a header, a tree of entries, their names, their data.
    """
    if data[:4] != b"qres":
        raise ValueError("not a file of Qt's resource system: it does not begin with qres")
    version, tree, contents, names = struct.unpack(">IIII", data[4:20])
    return dict(_entries(data, (tree, contents, names), ENTRY[version], 0))


def _entries(
    data: bytes, places: tuple[int, int, int], size: int, index: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of an entry that is a file, or of all files below a folder."""
    tree, contents, names = places
    start = tree + size * index
    name, flags = struct.unpack(">IH", data[start : start + 6])
    if flags & FOLDER:
        count, first = struct.unpack(">II", data[start + 6 : start + 14])
        for child in range(first, first + count):
            yield from _entries(data, places, size, child)
        return
    (offset,) = struct.unpack(">I", data[start + 10 : start + 14])
    (length,) = struct.unpack(">I", data[contents + offset : contents + offset + 4])
    content = data[contents + offset + 4 : contents + offset + 4 + length]
    # Compressed content is preceded by its length before compression.
    yield _name(data, names + name), zlib.decompress(content[4:]) if flags & COMPRESSED else content


def _name(data: bytes, start: int) -> str:
    """Return a name: its length in characters, a hash, and the characters in UTF-16."""
    (length,) = struct.unpack(">H", data[start : start + 2])
    return data[start + 6 : start + 6 + 2 * length].decode("utf-16-be")


# --- Paintings in pieces --------------------------------------------------------------------------


class Piece(NamedTuple):
    """A piece of a painting: its file, and where its centre is, as shares of the board."""

    file: str
    x: float
    y: float


def pieces(board: str) -> tuple[tuple[int, int], list[Piece]]:
    """Return the size of a board in pixels and the pieces that belong on it."""
    width, height = re.findall(r'"(?:width|height)"\s*:\s*(\d+)', board)[:2]
    found = re.findall(
        r'"pixmapfile"\s*:\s*"image/([^"]+)",\s*"x"\s*:\s*"([\d.]+)",\s*"y"\s*:\s*"([\d.]+)"', board
    )
    return (int(width), int(height)), [Piece(file, float(x), float(y)) for file, x, y in found]


def _jigsaw(name: str, path: Path) -> Image.Image:
    """Return a painting: its pieces put together, and what is not covered cut off."""
    files = resources(path.read_bytes())
    size, found = pieces(files[SOURCES[name].board].decode())
    _check(name, b"".join(files[piece.file] for piece in found))
    return put_together(
        size, [(piece, Image.open(io.BytesIO(files[piece.file]))) for piece in found]
    )


def put_together(size: tuple[int, int], parts: list[tuple[Piece, Image.Image]]) -> Image.Image:
    """Return the picture of pieces on a board of that size, without a border of `BORDER` pixels."""
    board = Image.new("RGBA", size)
    for piece, part in parts:
        part = part.convert("RGBA")
        left, top = piece.x * size[0] - part.width / 2, piece.y * size[1] - part.height / 2
        board.paste(part, (round(left), round(top)), part)
    covered = np.asarray(board)[..., 3] > 0
    rows = np.flatnonzero(covered.mean(axis=1) > 0.3)
    columns = np.flatnonzero(covered.mean(axis=0) > 0.3)
    left, upper = int(columns[0]) + BORDER, int(rows[0]) + BORDER
    right, lower = int(columns[-1]) + 1 - BORDER, int(rows[-1]) + 1 - BORDER
    return board.crop((left, upper, right, lower)).convert("RGB")
