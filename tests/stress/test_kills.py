"""Runs that are killed at a random moment: what is there is whole, and the next start finishes it."""

import json
import signal
import subprocess
import time

import pytest

from nst_jax import checkpoints, images
from nst_jax.recipes import toml
from tests import small
from tests.stress import trials as stress

RECIPE = small.shallow(steps=100)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "fast.toml").write_text(toml.to_toml(RECIPE))
    images.save(tmp_path / "photo.png", small.picture("chelsea", 24, 32))
    images.save(tmp_path / "other.png", small.picture("chelsea", 24, 32)[::-1])
    images.save(tmp_path / "art.png", small.picture("starry_night", 28, 20))
    return tmp_path


def killed(argv, rng, here, seconds, number=signal.SIGKILL, after=None):
    """Start a run and send it a signal after a random part of `seconds`; return its exit code.

    The seconds begin when the file `after` is there, if it is given.
    """
    process = stress.start(*argv, cwd=here)
    while after is not None and process.poll() is None and not after.exists():
        time.sleep(0.01)
    try:
        process.communicate(timeout=float(rng.uniform(0, seconds)))
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.communicate(timeout=300)
    return process.returncode


def leave_only(here, names):
    for path in here.iterdir():
        if path.name not in names:
            path.unlink()


@stress.counts(1, 25)
def test_a_killed_run_resumes_to_the_same_bytes(here, trials):
    argv = ["stylize", "photo.png", "art.png", "--recipe", "fast.toml", "-q"]
    argv += ["--checkpoint", "run.h5", "--checkpoint-every", "1", "--resume", "-o", "out.png"]
    stress.finish(*argv, cwd=here)
    whole = images.load(here / "out.png")
    inputs = {"fast.toml", "photo.png", "other.png", "art.png"}

    def trial(rng, number):
        leave_only(here, inputs)
        # Every second trial may also be killed while it starts or compiles.
        late = number % 2 == 0
        code = killed(argv, rng, here, 0.5 if late else 8, after=here / "run.h5" if late else None)
        assert code in (0, -signal.SIGKILL)
        had = (here / "run.h5").exists()
        if had:
            checkpoints.load(here / "run.h5")  # whole
        stress.finish(*argv, cwd=here)
        assert (images.load(here / "out.png") == whole).all()
        if code == 0:
            return "ended before"
        return "killed, resumed" if had else "killed before a checkpoint, painted anew"

    stress.run("kills of stylize", trials, trial)


@stress.counts(1, 15)
def test_a_killed_batch_is_completed_by_the_same_command(here, trials):
    argv = ["batch", "photo.png", "other.png", "--styles", "art.png", "--recipe", "fast.toml"]
    argv += ["-o", "out", "--chunk", "1", "-q"]

    def trial(rng, number):
        folder = here / "out"
        for path in folder.iterdir() if folder.exists() else ():
            path.unlink()
        code = killed(argv, rng, here, 8)
        assert code in (0, -signal.SIGKILL)
        for path in folder.glob("*.png"):
            images.load(path)  # whole
        stress.finish(*argv, cwd=here)
        found = sorted(path.name for path in folder.iterdir())
        assert found == ["other_art.png", "photo_art.png", "results.jsonl"]
        lines = (folder / "results.jsonl").read_text().splitlines()
        last = {one["row"]: one["status"] for one in map(json.loads, lines)}
        assert sorted(last) == [1, 2] and set(last.values()) <= {"done", "skipped"}
        return "ended before" if code == 0 else "killed, completed"

    stress.run("kills of batch", trials, trial)


@stress.counts(1, 15)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_sweep_that_is_stopped_leaves_a_whole_grid_or_none(here, trials, number):
    argv = ["sweep", "photo.png", "art.png", "--recipe", "fast.toml", "--tv-weight", "0,1"]
    argv += ["-o", "grid.png", "-q"]
    codes = {0, 130, 128 + number, -number}

    def trial(rng, _):
        code = killed(argv, rng, here, 8, number)
        assert code in codes
        if (here / "grid.png").exists():
            images.load(here / "grid.png")
        left = {path.name for path in here.iterdir()} - {"grid.png"}
        parts = {name for name in left if name.endswith(".part")}
        assert number == signal.SIGKILL or not parts
        assert left - parts == {"fast.toml", "photo.png", "other.png", "art.png"}
        there = (here / "grid.png").exists()
        leave_only(here, left - parts)
        return "a whole grid" if there else "no grid"

    stress.run(f"sweeps stopped by {number.name}", trials, trial)
