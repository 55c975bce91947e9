"""Verify the checksums of a PNG's chunks, and find text and EXIF that follow the pixels in the file.

Pillow does not verify the checksums of the pixels, nor of the chunks that follow them. To find text or
EXIF that follows the pixels, Pillow would first decode all pixels, which takes time and memory.
"""

import io
import struct
import zlib
from typing import Any, NamedTuple

from PIL import PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that may hold EXIF, or the metadata that this package embeds.
_TEXTS = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")


class Chunk(NamedTuple):
    """A chunk of a PNG: one of the blocks of bytes that follow the file's signature."""

    kind: bytes  # four letters, such as b"IDAT"
    content: memoryview
    whole: memoryview  # all bytes of the chunk: length, kind, content and checksum


def checked_chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of a PNG, up to and including its end chunk, after verifying their checksums.

    Raises:
      ValueError: if a checksum is wrong, or the file ends before its end chunk.
    """
    view, start, found = memoryview(data), len(SIGNATURE), []
    while True:
        if len(view) < start + 12:
            raise ValueError("it ends before its end chunk")
        length, kind = struct.unpack_from(">I4s", view, start)
        end = start + 12 + length
        if len(view) < end:
            raise ValueError(f"it ends within a chunk {_shown(kind)}")
        if zlib.crc32(view[start + 4 : end - 4]) != struct.unpack_from(">I", view, end - 4)[0]:
            raise ValueError(f"the checksum of a chunk {_shown(kind)} is wrong")
        found.append(Chunk(kind, view[start + 8 : end - 4], view[start:end]))
        if kind == b"IEND":
            return found
        start = end


def code_points(chunks: list[Chunk]) -> tuple[int, int] | None:
    """Return the colour primaries and the transfer function that the first cICP chunk states, or None.

    Both are numbers whose meaning ITU-T H.273 defines. None means that there is no such chunk, or that
    it has fewer than two bytes.
    """
    found = [bytes(chunk.content[:2]) for chunk in chunks if chunk.kind == b"cICP"]
    return (found[0][0], found[0][1]) if found and len(found[0]) == 2 else None


def late_information(chunks: list[Chunk]) -> dict[Any, Any]:
    """Return the text and EXIF that follow the pixels, under the keys of Pillow's `Image.info`."""
    kinds = [chunk.kind for chunk in chunks]
    after = chunks[kinds.index(b"IDAT") :] if b"IDAT" in kinds else []
    late = [chunk.whole for chunk in after if chunk.kind in _TEXTS]
    if not late:
        return {}
    # To reach these chunks, Pillow would decode the pixels. So it gets a PNG without pixels: only the
    # first chunk (the header), these chunks, and the end chunk.
    without = b"".join((SIGNATURE, chunks[0].whole, *late, chunks[-1].whole))
    with PngImagePlugin.PngImageFile(io.BytesIO(without)) as opened:
        return dict(opened.info)


def _shown(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))
