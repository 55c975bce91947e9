"""Limits on memory, open files and computing time: a run paints, or leaves what was there as it was."""

import signal

import numpy as np
import pytest

from nst_jax import images
from tests.stress import processes
from tests.stress import trials as stress

# Option of the shell's `ulimit`, and the range of limits: from too little to start, to enough to paint.
KINDS = {
    "memory": ("v", 200 * 2**10, 8 * 2**20),  # kilobytes
    "open files": ("n", 6, 64),
    "computing time": ("t", 1, 8),  # seconds
}
# XLA aborts where it gets no memory; the system sends SIGXCPU and then SIGKILL.
ABORTED = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGXCPU, -signal.SIGKILL, -signal.SIGTRAP}


@stress.counts(1, 15)
@pytest.mark.parametrize("kind", KINDS)
def test_limits_of_the_system(program, usual, kind, trials):
    out = program.folder / "out.png"
    argv = [
        "stylize",
        "photo.png",
        "art.png",
        "--recipe",
        "fast.toml",
        "-o",
        "out.png",
        "--overwrite",
    ]
    before = (program.folder / "art.png").read_bytes()
    option, low, high = KINDS[kind]

    def trial(rng, number):
        limit = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        out.write_bytes(before)
        process = program.start(*argv, after=f"ulimit -{option} {limit}")
        _, err = processes.ended(process, argv)
        code = process.returncode
        assert code in {0, 1, 2} | ABORTED, (limit, code, err)
        left = {path.name for path in program.folder.iterdir() if path.suffix == ".part"}
        assert not left or code in ABORTED
        for name in left:
            (program.folder / name).unlink()
        if code == 0:
            assert np.array_equal(images.load(out), usual)
            return "painted"
        if out.read_bytes() != before:  # ended right after the result was written
            assert code < 0 and np.array_equal(images.load(out), usual), (limit, code, err)
            return "ended by the system, painted"
        assert code < 0 or "nst-jax: error: " in err or "Error" in err, err
        return f"{'failed with a message' if code > 0 else 'ended by the system'}, old file kept"

    stress.run(f"limited {kind}", trials, trial)
