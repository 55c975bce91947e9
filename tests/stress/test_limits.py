"""A disk that fills, as a limit on the size of files: the last good file is kept, nothing is left."""

import contextlib
import resource
import signal

import numpy as np
import pytest

import nst_jax as nst
from nst_jax import checkpoints, images
from tests import small
from tests.stress import trials as stress


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


@pytest.fixture(scope="module")
def checkpoint(params, content, style):
    shots = nst.paint(params, content, style, recipe=small.shallow())
    next(shots)
    return shots.checkpoint()


@stress.counts(30, 600)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.h5"])
def test_what_was_there_is_kept(tmp_path, checkpoint, name, trials):
    path, picture = tmp_path / name, small.picture("chelsea", 24, 32)

    def save(value):
        if path.suffix == ".h5":
            checkpoints.save(path, checkpoint._replace(notes={"value": value}))
        else:
            images.save(path, np.clip(picture + value, 0, 1))

    save(0.0)
    before = path.read_bytes()

    def trial(rng, number):
        limit = int(rng.integers(0, int(1.3 * len(before))))
        refusal = None
        try:
            with largest_file(limit):
                save(0.1)
        except (OSError, ValueError) as error:
            refusal = str(error)
        if refusal is not None:
            assert path.name in refusal
            assert path.read_bytes() == before
            outcome = "refused, old file kept"
        else:
            assert len(path.read_bytes()) <= limit
            path.write_bytes(before)
            outcome = "fitted"
        assert [one.name for one in tmp_path.iterdir()] == [name]
        return outcome

    found = stress.run(f"limit on files {name}", trials, trial)
    assert found["refused, old file kept"] > 0
