"""The markers of a JPEG: whether an end marker, a sign of damage, comes before its data end.

Decoders stop there without an error, and leave the rest of the picture grey.
"""

import re

_START, _END = 0xD8, 0xD9

# In compressed data 0xFF is followed by 0, a restart marker or another 0xFF; otherwise it is a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def ends_early(data: bytes) -> bool:
    """Return whether what follows a JPEG's end marker continues its compressed data to the file's end.

    Other things may follow a sound picture: padding, further pictures, a film.
    """
    end = _end_from(data, 2)
    if end is None or not data[end:-2].strip(b"\0\xff"):
        return False
    return _end_from(data, end) == len(data)


def _end_from(data: bytes, start: int) -> int | None:
    """Return where the first end marker after `start` ends, or None; a next picture has none of it."""
    while found := _MARKER.search(data, start):
        marker, start = data[found.end() - 1], found.end()
        if marker == _END:
            return start
        if marker == _START:
            return None
        # All other markers have a length; compressed data follow that of a scan.
        start += max(2, int.from_bytes(data[start : start + 2], "big"))
    return None
