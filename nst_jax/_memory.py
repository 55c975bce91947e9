"""The memory of this machine: how much a process can still allocate."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")  # where Linux tells how much memory there is
CGROUP = Path("/sys/fs/cgroup")  # where Linux describes control groups, which limit containers
# For each version of Linux control groups, 2 and 1: the files with the memory limit and the memory in
# use; the file of memory statistics, and the key in it for memory in use that can be freed.
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
    the control group at `CGROUP`; inside a container, this is the container's limit.
    """
    known = [amount for amount in (_system_memory(), _control_group_memory()) if amount is not None]
    return min(known, default=None)


def _system_memory() -> int | None:
    """Return the bytes that the operating system reports as available, or as installed; else None."""
    found = _numbers(MEMINFO)
    if "MemAvailable" in found:
        return found["MemAvailable"] * 1024
    try:  # outside Linux, only the installed memory is known
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group_memory() -> int | None:
    """Return the bytes that the control group at `CGROUP` can still use; None if it states no limit."""
    for limit, used, stat, freeable in CGROUPS:
        try:
            words = [(CGROUP / name).read_text("ascii").strip() for name in (limit, used)]
        except (OSError, ValueError):
            continue
        # If there is no limit, version 2 of control groups states "max", and version 1 a huge number.
        if all(word.isdigit() for word in words):
            return max(0, int(words[0]) - int(words[1]) + _numbers(CGROUP / stat).get(freeable, 0))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines are `name number` or `name: number unit`, by name."""
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
