"""Runs programs in processes of their own, and measures their time and peak memory."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

# The peak memory of a process includes that of its parent at the fork, so the parent is a small one.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def launched(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run a program to its end.

    Args:
      command: the program and its arguments.
      environment: all of its variables.

    Returns:
      Seconds from its start to its end, its peak memory in GB, and what it printed.

    Raises:
      RuntimeError: if it fails; its error messages go to our standard error.
    """
    begun = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    if process.returncode:
        name = " ".join(command[:3])
        raise RuntimeError(f"`{name} ...` ended with exit code {process.returncode}")
    *printed, peak = process.stdout.splitlines()
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, int(peak) * unit / 1e9, "\n".join(printed)
