"""Limits of the operating system, set for a while: memory, sizes of files, small disks."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

if sys.platform != "win32":
    import resource


@contextlib.contextmanager
def _limited(kind, size):
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextlib.contextmanager
def memory(more):
    """Let this process allocate so many bytes more, and no more; without effect except on Linux."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    with _limited(resource.RLIMIT_AS, used + more):
        yield


@contextlib.contextmanager
def largest_file(size):
    """Let no file of this process grow beyond `size` bytes, as a full disk would."""
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with _limited(resource.RLIMIT_FSIZE, size):
            yield
    finally:
        signal.signal(signal.SIGXFSZ, old)


class Disk:
    """A small file system of its own, which can be filled and made read-only.

    Attributes:
      folder: where it is mounted.
    """

    def __init__(self, folder, size):
        """Mount it; the test is skipped where that is not permitted.

        Args:
          folder: where to mount it; made if it does not exist.
          size: its size in bytes.
        """
        self.folder = folder
        folder.mkdir(exist_ok=True)
        if sys.platform != "linux":
            pytest.skip("small disks are only made on Linux")
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            made = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("a small disk cannot be made: there is no command `mount`")
        if made.returncode:
            pytest.skip(f"a small disk cannot be made: {made.stderr.strip()}")

    def fill(self, free):
        """Let so many bytes be free (in whole pages), whatever was free before."""
        ballast = self.folder / ".ballast"
        ballast.unlink(missing_ok=True)
        found = os.statvfs(self.folder)
        room = found.f_bavail * found.f_frsize
        with ballast.open("wb") as file:
            file.write(bytes(max(0, room - free)))

    def names(self):
        """Return the names of its files, in order."""
        return sorted(set(os.listdir(self.folder)) - {".ballast"})

    def read_only(self, value=True):
        """Make it read-only or writable; return whether that worked: not while a file is written."""
        words = ["mount", "-o", f"remount,{'ro' if value else 'rw'}", str(self.folder)]
        return subprocess.run(words, capture_output=True).returncode == 0

    def remove(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True, capture_output=True)


@contextlib.contextmanager
def disk(folder, size):
    """Context manager: a `Disk` within the block."""
    made = Disk(folder, size)
    try:
        yield made
    finally:
        made.remove()
