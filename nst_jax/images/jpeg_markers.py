"""Detect an end marker in the middle of a JPEG's compressed data, which is a sign of damage.

Decoders stop at such a marker without an error, and leave the pixels that follow it grey.
"""

import re

# A marker is the byte 0xFF followed by a code. These are the codes of three markers: at a picture's
# start, at its end, and TEM, which decoders ignore and which has no data of its own.
_START, _END = 0xD8, 0xD9
_ALONE = 0x01

# Matches any marker (0xFF and its code) but a restart marker, whose code is 0xD0 to 0xD7. In intact
# compressed data, 0xFF is followed only by 0, by the code of a restart marker, or by another 0xFF.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def ends_early(data: bytes) -> bool:
    """Return whether a JPEG has an end marker in the middle of its compressed data.

    The result is True if data follow the first end marker, contain no start marker, and reach to a
    second end marker, with which the file ends. An intact picture may be followed by padding, by a
    video, or by further pictures, which begin with a start marker. For these, the result is False.
    """
    end = _end_from(data, 2)
    if end is None or not data[end:-2].strip(b"\0\xff"):
        return False
    return _end_from(data, end) == len(data)


def _end_from(data: bytes, start: int) -> int | None:
    """Return the position after the first end marker from `start` on.

    The result is None if there is no end marker, or if a start marker comes first: what follows it is
    another picture.
    """
    while found := _MARKER.search(data, start):
        marker, start = data[found.end() - 1], found.end()
        if marker == _END:
            return start
        if marker == _START:
            return None
        if marker == _ALONE:
            continue
        # All other markers begin a segment, whose first two bytes are its length. The search goes on
        # after the segment, where another marker or compressed data follow.
        start += max(2, int.from_bytes(data[start : start + 2], "big"))
    return None
