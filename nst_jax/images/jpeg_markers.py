"""Detect an end marker in the middle of a JPEG's compressed data, which is a sign of damage.

Decoders stop at such a marker without an error, and leave the pixels that follow it grey.
"""

import re

_START, _END = 0xD8, 0xD9  # codes of the markers at a picture's start and end; each follows a 0xFF
_ALONE = 0x01  # code of a marker without meaning, which like restart markers begins no segment

# Matches any marker (0xFF and its code) but a restart marker, whose code is 0xD0 to 0xD7. In intact
# compressed data, 0xFF is followed only by 0, by the code of a restart marker, or by another 0xFF.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def ends_early(data: bytes) -> bool:
    """Return whether a JPEG's data go on after its first end marker, up to another at the file's end.

    Padding, further pictures or a video may follow an intact picture, and do not count as its data.
    """
    end = _end_from(data, 2)
    if end is None or not data[end:-2].strip(b"\0\xff"):
        return False
    return _end_from(data, end) == len(data)


def _end_from(data: bytes, start: int) -> int | None:
    """Return the position after the next end marker; None if there is none before a start marker."""
    while found := _MARKER.search(data, start):
        marker, start = data[found.end() - 1], found.end()
        if marker == _END:
            return start
        if marker == _START:
            return None
        if marker == _ALONE:
            continue
        # Other markers begin a segment that states its length. The search goes on behind the segment;
        # compressed data follow a scan's segment.
        start += max(2, int.from_bytes(data[start : start + 2], "big"))
    return None
