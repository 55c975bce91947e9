"""Locks between processes. The system releases them when a process ends, however it ends.

A lock belongs to an open file (the system call `flock`), not to the existence of a file. So a file that
a killed process leaves behind locks nothing. On a network disk other machines see the lock too, if the
disk supports locks. Where there are no locks, as on Windows and on some network disks, `lock` returns
None, and its callers go on without a lock.
"""

import os
import sys

if sys.platform != "win32":
    import fcntl


def lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed.

    Args:
      descriptor: file descriptor of the file. The file must be open for writing, since network disks
        require that.
      wait: whether to wait while the file is locked through another descriptor.

    Returns:
      True if this descriptor has the lock now. False if the file is locked through another descriptor,
      usually in another process. None if the system or the disk has no locks.
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
    """Return whether an open file is still the file at a path, and was not deleted or replaced.

    A lock on a deleted or replaced file does not keep other processes from locking the file that is at
    the path now.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
