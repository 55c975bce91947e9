"""What the trials share: seeds, damage, counting, and keeping the input that failed."""

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from nst_jax.app import messages


def counts(quick, full):
    """Parametrize a test by its number of trials: few in every run, all by `pytest -m stress`."""
    marks = pytest.mark.stress
    return pytest.mark.parametrize(
        "trials", [pytest.param(quick, id="quick"), pytest.param(full, id="full", marks=marks)]
    )


def run(name, trials, trial, *, seed=0):
    """Run trials, each with its own generator; print how many had which outcome.

    Args:
      name: what is tried, for the printed line.
      trials: number of trials.
      trial: called with a generator and the trial's number; asserts, and says in words what happened.
      seed: seed of all trials; trial i draws from `default_rng([seed, i])`, whatever their number.
    """
    outcomes = Counter()
    for number in range(trials):
        try:
            outcome = trial(np.random.default_rng([seed, number]), number)
        except BaseException as error:
            error.add_note(f"{name}: trial {number} of seed {seed}")
            raise
        assert isinstance(outcome, str) and outcome, "a trial must say what happened"
        outcomes[outcome] += 1
    assert outcomes.total() == trials
    sys.stdout.write(f"{name}: {trials} trials: {dict(sorted(outcomes.items()))}\n")
    return outcomes


def damaged(data, rng):
    """Return bytes with one kind of damage, chosen at random; they always differ from `data`."""
    while True:
        found = bytearray(data)
        place = int(rng.integers(len(found)))
        length = int(rng.integers(1, 1 + min(64, len(found))))
        match int(rng.integers(6)):
            case 0:
                found[place] ^= 1 << int(rng.integers(8))
            case 1:
                found[place] = int(rng.integers(256))
            case 2:
                del found[place:]
            case 3:
                del found[place : place + length]
            case 4:
                found[place:place] = rng.bytes(length)
            case 5:
                found[place : place + length] = bytes(len(found[place : place + length]))
        if found != data:
            return bytes(found)


def read_or_refuse(path, read, check):
    """Read a damaged file, which is kept if anything but a sound result or a clear refusal comes.

    Args:
      path: the file; removed after a good trial.
      read: reads it, or raises ValueError.
      check: called with what was read; asserts, and returns the outcome.
    """
    try:
        try:
            found = read()
        except ValueError as error:
            # It may quote the file; control characters are escaped where it is shown.
            message = messages.printable(str(error))
            assert message and "\n" not in message, message
            assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in message), message
            outcome = "refused"
        else:
            outcome = check(found)
    except BaseException as error:
        error.add_note(f"the input that failed is kept: {path}")
        raise
    path.unlink()
    return outcome


def start(*argv, cwd):
    """Start the program in a process of its own, on one device."""
    environment = os.environ | {"XLA_FLAGS": "", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return subprocess.Popen(
        [sys.executable, "-m", "nst_jax", *map(str, argv)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*argv, cwd, code=0):
    """Run the program to its end; assert its exit code, and that no traceback is shown."""
    process = start(*argv, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, (process.returncode, err)
    assert "Traceback" not in err, err
    return out, err
