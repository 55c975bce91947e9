"""Time from the shell to the first picture: of `instant`, and of the preview that `stylize` shows."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.processes import keeping_programs, launched

QUESTION = "Seconds from the shell to a picture by one pass of a network, imports included"
FULL = Plan(sizes=(512,), repeats=5)
QUICK = Plan(sizes=(48,), repeats=1)

PROGRAM = (sys.executable, "-m", "nst_jax")
PAIR = ("chelsea", "starry_night")
NAMED = "mosaic"  # which of the 26 styles does not matter to the time
LOOK = 0.005  # seconds between two looks whether the preview is there
LIMIT = 300.0  # seconds after which a preview is given up
END = 60.0  # seconds that a run has to end after Ctrl-C


def measure(plan: Plan) -> Findings:
    """Start each command twice in every round: with no kept programs, and with those of the first."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content, style = (str(_written(folder, each)) for each in PAIR)
        ways: dict[str, tuple[Callable[..., float], Sequence[str]]] = {
            "instant, any picture as the style": (until_end, ("instant", content, style)),
            "instant, one of the 26 styles": (until_end, ("instant", content, NAMED)),
            "preview of stylize": (until_shown, ("stylize", content, style)),
        }
        for size in plan.sizes:
            rows += [_row(what, *way, size, plan.repeats, folder) for what, way in ways.items()]
    notes = [
        "the preview is timed until its file appears, on a pseudo-terminal; then the run is stopped"
    ]
    return Findings(rows, notes)


def _row(
    what: str,
    timed: Callable[..., float],
    words: Sequence[str],
    size: int,
    repeats: int,
    folder: Path,
) -> dict[str, Any]:
    out = folder / "out.png"
    command = (*PROGRAM, *words, "--size", str(size), "-o", str(out))
    firsts: list[float] = []
    seconds: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            for samples in (firsts, seconds):
                out.unlink(missing_ok=True)
                samples.append(timed(command, keeping_programs(cache), out))
    shape = nst.images.load(out).shape[:2]
    return {
        "what": f"command: {what}",
        "asked": size,
        "size": list(shape),
        "first_start": harness.spread(firsts),
        "second_start": harness.spread(seconds),
    }


def _written(folder: Path, sample: str) -> Path:
    path = folder / f"{sample}.png"
    nst.images.save(path, nst.images.sample(sample))
    return path


def until_end(command: Sequence[str], environment: Any, out: Path) -> float:
    """Return the seconds from the start of a command to its end, at which its picture is written."""
    del out
    return launched(command, environment)[0]


def until_shown(command: Sequence[str], environment: Any, out: Path) -> float:
    """Return the seconds from the start of a command on a terminal until a file appears; end it.

    Args:
      command: the program and its arguments.
      environment: all environment variables of the program.
      out: path of the file, which does not exist yet.

    Raises:
      RuntimeError: if the command ends without the file, or takes longer than `LIMIT` seconds.
    """
    ours, terminal = os.openpty()
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    try:
        while not out.exists():
            _drain(ours, LOOK)
            if process.poll() is not None or time.perf_counter() - begun > LIMIT:
                raise RuntimeError(f"`{' '.join(command[2:5])} ...` has shown nothing")
        seconds = time.perf_counter() - begun
        shown = out.read_bytes()
    finally:
        _end(process, ours)
    out.write_bytes(shown)  # a run that is stopped before its first canvas may have removed it
    return seconds


def _drain(terminal: int, seconds: float) -> None:
    """Wait a while, and read what the command prints, so that it never waits for a reader."""
    if select.select([terminal], [], [], seconds)[0]:
        try:
            os.read(terminal, 65536)
        except OSError:  # the command has closed its terminal
            time.sleep(seconds)


def _end(process: "subprocess.Popen[bytes]", terminal: int) -> None:
    """Stop a command by Ctrl-C, or by a signal that it cannot refuse if it takes too long."""
    with process:
        process.send_signal(signal.SIGINT)
        last = time.perf_counter() + END
        while process.poll() is None and time.perf_counter() < last:
            _drain(terminal, LOOK)
        if process.poll() is None:
            process.kill()
    os.close(terminal)
