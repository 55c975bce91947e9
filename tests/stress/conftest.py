"""What the stress tests share: another process, the program in a folder with pictures, and counting."""

import os

import pytest

import nst_jax as nst
from nst_jax import images
from nst_jax.recipes import toml
from tests import small
from tests.stress import processes, trials

if os.name == "nt":
    collect_ignore_glob = ["test_*.py"]  # signals, limits and small disks are those of Unix


@pytest.fixture(autouse=True)
def counted(record_property):
    """Report what was tried, for the summary at the end of the test run."""
    trials.counted.clear()
    yield
    for line in trials.counted:
        record_property("tried", line)


@pytest.fixture(scope="session")
def worker():
    started = processes.Worker()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Return the folder for compiled programs: one for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def program_in(folder, compiled):
    """Return the program, in a new folder with three pictures and a quick recipe."""
    folder.mkdir()
    (folder / "fast.toml").write_text(toml.to_toml(small.shallow(steps=200)))
    images.save(folder / "photo.png", small.picture("chelsea", 24, 32))
    images.save(folder / "other.png", small.picture("chelsea", 24, 32)[::-1])
    images.save(folder / "art.png", small.picture("starry_night", 28, 20))
    return processes.Program(folder, compiled)


@pytest.fixture
def program(tmp_path, compiled):
    return program_in(tmp_path / "here", compiled)


@pytest.fixture(scope="session")
def usual(tmp_path_factory, compiled):
    """Return the picture that an undisturbed run of `stylize` paints."""
    started = program_in(tmp_path_factory.mktemp("usual") / "here", compiled)
    started.finish("stylize", "photo.png", "art.png", "--recipe", "fast.toml", "-o", "usual.png")
    return images.load(started.folder / "usual.png")


@pytest.fixture(scope="session")
def position(params, content, style):
    """Return a checkpoint after one interval of updates."""
    shots = nst.paint(params, content, style, recipe=small.shallow())
    next(shots)
    return shots.checkpoint()
