"""Locks between processes. The system releases them when a process ends, however it ends.

A lock is `flock` of an open file, so a file that a killed process leaves behind locks nothing. On a
network disk other machines see the lock too, if the disk supports locks. Where there are no locks, as
on Windows and on some network disks, `lock` returns None, and its callers go on without a lock.
"""

import os
import sys

if sys.platform != "win32":
    import fcntl


def lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed.

    Args:
      descriptor: descriptor of the file, open for writing, as network disks require.
      wait: whether to wait until nobody else has the lock.

    Returns:
      True if the file is locked, False if somebody else has the lock, None if there are no locks here.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Return whether an open file is still the one at a path; else it was deleted or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
