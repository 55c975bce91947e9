"""Files that begin with a hash of their key and data, so that damage is found."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path


def read_sealed(path: Path, key: str) -> bytes | None:
    """Return the data, such as a traced program, that `write_sealed` has written to a file.

    The result is None if the file is missing, damaged or for another key.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[hashlib.sha256().digest_size :]
    return data if content == _sealed(key, data) else None


def write_sealed(path: Path, key: str, data: bytes) -> None:
    """Write data, such as a traced program, to a file, with a hash of its key and data.

    A failure to write is ignored, since it only makes the next start slower.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(_sealed(key, data))
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sealed(key: str, data: bytes) -> bytes:
    """Return the content of a file: a hash of the key and the data, then the data.

    By the hash, `read_sealed` recognises a file that is damaged or has another key.
    """
    return hashlib.sha256(key.encode() + data).digest() + data
