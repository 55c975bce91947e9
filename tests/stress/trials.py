"""What the trials share: seeds, damage, counting, and keeping the input that failed."""

from collections import Counter

import numpy as np
import pytest

import tests.conftest  # noqa: F401  # another process must be as strict as that of the tests
from tests.stress import limits

counted = []  # the lines about the trials of the test that runs now

READING_SECONDS = 60.0  # time limit for reading one damaged file


def counts(quick, full):
    """Parametrize a test by its number of trials: few in every run, all by `pytest -m stress`."""
    marks = pytest.mark.stress
    return pytest.mark.parametrize(
        "trials", [pytest.param(quick, id="quick"), pytest.param(full, id="full", marks=marks)]
    )


def run(name, trials, trial, *, seed=0):
    """Run trials, each with its own generator, and return how many had which outcome.

    The outcomes are printed at the end of the test run (`pytest_terminal_summary`).

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
    counted.append(described(name, trials, outcomes))
    return outcomes


def described(name, trials, outcomes):
    """Return the line about the trials of one kind.

    Example:
      >>> described("damaged PNG", 3, {"refused": 2, "read": 1})
      'damaged PNG: 3 trials: read 1, refused 2'
    """
    words = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
    return f"{name}: {trials} trials: {words}"


# --- Damage ---------------------------------------------------------------------------------------


def damaged(data, rng, *, within=None):
    """Return bytes with one kind of damage, chosen at random; they always differ from `data`.

    Args:
      data: the sound bytes.
      rng: the trial's generator.
      within: if given, the damage begins among the first so many bytes.
    """
    while True:
        found = bytearray(data)
        place = int(rng.integers(len(found) if within is None else min(within, len(found))))
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


def read_or_refuse(worker, path, read, check, *args, seconds=READING_SECONDS):
    """Let another process read a damaged file: the outcome must be a sound result or a clear refusal.

    The file is kept if anything else happens: an error of another kind, a crash, more memory than a
    small file may take, or no answer in time.

    Args:
      worker: the process (`processes.Worker`) in which `read` and `check` are called.
      path: the file; removed after a good trial.
      read: called with the path and `args`; reads it, or raises ValueError. As `check`, it is sent to
        another process, so it must be a function of a module.
      check: called with what was read and `args`; asserts, and returns the outcome.
      *args: what both get besides.
      seconds: time limit.
    """
    try:
        outcome = worker.call(_refused_or_checked, path, read, check, args, seconds=seconds)
    except BaseException as error:
        error.add_note(f"the input that failed is kept: {path}")
        raise
    path.unlink()
    return outcome


def _refused_or_checked(path, read, check, args):
    try:
        with limits.memory(2 * 2**30):
            found = read(path, *args)
    except ValueError as error:
        message = str(error)
        assert message.isprintable() and path.name in message, ascii(message)
        return "refused"
    return check(found, *args)
