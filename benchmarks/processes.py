"""Runs programs in processes of their own, and measures their time and peak memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks import harness

# Program of a small process that runs another one and prints the other's peak memory. The system counts
# the memory of the parent process at the fork as part of this peak. So the parent must be small, and
# cannot be the benchmark itself.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def keeping_programs(cache: str) -> dict[str, str]:
    """Return the environment variables of a command of nst-jax that keeps its programs in `cache`."""
    kept = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": cache,
        # As the command line sets it for its own cache folder; by default jax keeps fewer programs.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # By default, JAX reserves most of an accelerator's memory, and this process holds part of it.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    path = os.pathsep.join([str(harness.ROOT), *filter(None, sys.path)])
    environment = os.environ | kept | {"PYTHONPATH": path}
    # With this variable, a start from a checkout takes 0.3 s longer than that of an installed package,
    # since Python compiles all modules of the package anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def launched(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run a program to its end.

    Args:
      command: the program and its arguments.
      environment: all environment variables of the program.

    Returns:
      Seconds from the start to the end, the program's peak memory in GB, and what it printed.

    Raises:
      RuntimeError: if the program fails; its error messages go to standard error.
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
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    return seconds, int(peak) * unit / 1e9, "\n".join(printed)
