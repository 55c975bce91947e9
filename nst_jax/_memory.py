"""The memory of this machine: how much a process can still allocate."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")  # where Linux tells how much memory there is
CGROUP = Path("/sys/fs/cgroup")  # where Linux describes control groups, which limit containers
# One entry for version 2 of Linux control groups and one for version 1. An entry has the names of three
# files: of the memory limit, of the memory in use, and of statistics. Its last item is the name of a
# number in the statistics: how much of the memory in use can be freed.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def of_this_machine() -> int | None:
    """Return the bytes that can still be allocated; None if that is not known.

    The result is the smaller of two numbers. One is the memory that the operating system reports as
    available (outside Linux, all installed memory). The other is what is left of the memory limit of
    the control group at `CGROUP`. Inside a container, that control group is the container's.
    """
    known = [amount for amount in (_system_memory(), _control_group_memory()) if amount is not None]
    return min(known, default=None)


def _system_memory() -> int | None:
    """Return how many bytes of memory the operating system reports as available.

    Only Linux reports this number. On other systems, the result is the number of bytes that are
    installed, or None if the system does not tell that either.
    """
    found = _numbers(MEMINFO)
    if "MemAvailable" in found:
        return found["MemAvailable"] * 1024
    try:  # outside Linux, only the installed memory is known
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group_memory() -> int | None:
    """Return the bytes that the control group at `CGROUP` can still use; None if no limit is found."""
    for limit, used, stat, freeable in CGROUPS:
        try:
            words = [(CGROUP / name).read_text("ascii").strip() for name in (limit, used)]
        except (OSError, ValueError):
            continue
        # Without a limit, version 2 of control groups states "max", which is skipped here. Version 1
        # states a huge number, and `of_this_machine` returns the system's smaller number.
        if all(word.isdigit() for word in words):
            return max(0, int(words[0]) - int(words[1]) + _numbers(CGROUP / stat).get(freeable, 0))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """Read a file with Linux's statistics of memory into a dictionary name -> number.

    A line is `name: number unit`, as in /proc/meminfo, or `name number`, as in files of control groups.
    The dictionary is empty if the file cannot be read.
    """
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    return {
        words[0].rstrip(":"): int(words[1])
        for words in lines
        if len(words) > 1 and words[1].isdigit()
    }


def gigabytes(size: float) -> str:
    """Return a number of bytes as text in gigabytes (10^9 bytes), for messages."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"
