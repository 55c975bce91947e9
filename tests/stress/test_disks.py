"""Disks that fill or become read-only: the last good file is kept, and a picture is tried elsewhere."""

import json
import re

import numpy as np
import pytest

from nst_jax import checkpoints, images
from tests import small
from tests.stress import limits, processes
from tests.stress import trials as stress

NAMES = ["a.png", "a.jpg", "a.webp", "a.tif", "a.h5"]
SAVING_SECONDS = 60.0
DISK = 2**20  # bytes


def save(path, value, checkpoint):
    """Write a picture or a checkpoint, whose content and size depend on a number."""
    if path.suffix == ".h5":
        checkpoints.save(path, checkpoint._replace(notes={"value": value}))
    else:
        images.save(path, np.clip(small.picture("chelsea", 96, 128) + value, 0, 1))


def save_below(path, value, checkpoint, limit):
    """Write a file that must not be larger than a limit; return why that failed, else ""."""
    try:
        with limits.largest_file(limit):
            save(path, value, checkpoint)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def save_here(path, value, checkpoint):
    """Write a file; return why that failed, else ""."""
    try:
        save(path, value, checkpoint)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def kept_or_new(path, before, refusal):
    """Assert that a file is as it was if writing was refused, else new; return the outcome."""
    if not refusal:
        assert path.read_bytes() != before
        return "fitted"
    assert refusal.isprintable() and path.name in refusal, refusal
    assert path.read_bytes() == before
    return "refused, old file kept"


@stress.counts(10, 600)
@pytest.mark.parametrize("name", NAMES)
def test_files_below_a_limit(tmp_path, worker, position, name, trials):
    path = tmp_path / name
    save(path, 0.0, position)
    before = path.read_bytes()

    def trial(rng, number):
        limit = int(rng.integers(0, int(1.3 * len(before))))
        refusal = worker.call(save_below, path, 0.1, position, limit, seconds=SAVING_SECONDS)
        outcome = kept_or_new(path, before, refusal)
        assert refusal or len(path.read_bytes()) <= limit
        path.write_bytes(before)
        assert [one.name for one in tmp_path.iterdir()] == [name]
        return outcome

    found = stress.run(f"files below a limit, {name[2:]}", trials, trial)
    assert found["refused, old file kept"] > 0


@pytest.fixture
def disk(tmp_path):
    with limits.disk(tmp_path / "disk", DISK) as made:
        yield made


@stress.counts(5, 40)
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills(disk, worker, position, name, trials):
    path = disk.folder / name
    save(path, 0.0, position)
    before = path.read_bytes()

    def trial(rng, number):
        disk.fill(int(rng.integers(0, int(1.3 * len(before)))))
        refusal = worker.call(save_here, path, 0.1, position, seconds=SAVING_SECONDS)
        outcome = kept_or_new(path, before, refusal)
        assert not refusal or "No space left on device" in refusal
        assert disk.names() == [name]
        disk.fill(DISK)
        path.write_bytes(before)
        return outcome

    found = stress.run(f"disks that fill, {name[2:]}", trials, trial)
    assert found["refused, old file kept"] > 0


@stress.counts(1, 10)
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_read_only(disk, worker, position, name, trials):
    path = disk.folder / name
    save(path, 0.0, position)
    before = path.read_bytes()
    assert disk.read_only()

    def trial(rng, number):
        refusal = worker.call(save_here, path, 0.1, position, seconds=SAVING_SECONDS)
        assert refusal
        outcome = kept_or_new(path, before, refusal)
        assert disk.names() == [name]
        return outcome

    stress.run(f"read-only disks, {name[2:]}", trials, trial)


# --- The program --------------------------------------------------------------------------------------


def saved_elsewhere(text, folder):
    """Return the picture that a message says was written to another place, and remove it."""
    named = re.findall(r" (?:saved: |is in )'([^']+\.png)'", text)
    assert len(named) == 1, text
    path = folder / named[0]
    image = images.load(path)
    path.unlink()
    return image


@stress.counts(1, 20)
def test_a_run_on_a_disk_that_fills(disk, program, usual, trials):
    place = disk.folder
    plain = ["stylize", "photo.png", "art.png", "--recipe", "fast.toml", "-o", place / "out.png"]
    plain += ["--log", place / "run.jsonl"]
    resumable = ["--checkpoint", place / "run.h5", "--checkpoint-every", "20", "--resume"]

    def trial(rng, number):
        # A checkpoint has 250 kB, and is written beside the one before; a log has 50 kB.
        kinds = (200_000, 700_000, plain + resumable), (4096, 80_000, plain)
        low, high, argv = kinds[number % 2]
        disk.fill(int(rng.integers(low, high)))
        code, _, err = program.finish(*argv, codes=(0, 1, 2))
        if code == 0:
            assert np.array_equal(images.load(place / "out.png"), usual)
            outcome = "fitted"
        elif code == 2:  # before anything is painted: a checkpoint would not fit
            assert "run.h5" in err and not (place / "out.png").exists(), err
            outcome = "refused before the run"
        else:
            assert re.search(r"error: cannot write .*(run\.h5|run\.jsonl|out\.png)", err), err
            if (place / "out.png").exists():
                image = images.load(place / "out.png")
                outcome = "failed, the canvas is in its place"
            else:
                image = saved_elsewhere(err, program.folder)
                outcome = "failed, the canvas is in another place"
            assert image.shape == usual.shape
        if (place / "run.h5").exists():
            checkpoints.load(place / "run.h5")
        assert not [name for name in disk.names() if name.endswith((".part", ".lock"))]
        for name in disk.names():
            (place / name).unlink()
        return outcome

    stress.run("runs of stylize on disks that fill", trials, trial)


@stress.counts(1, 10)
def test_a_batch_on_a_disk_that_fills(disk, program, usual, trials):
    out = disk.folder / "out"
    argv = ["batch", "photo.png", "other.png", "--styles", "art.png", "--recipe", "fast.toml"]
    argv += ["-o", out, "--chunk", "1"]

    def trial(rng, number):
        disk.fill(int(rng.integers(4096, 40_000)))
        code, _, err = program.finish(*argv, codes=(0, 1))
        assert (code == 0) == ("No space left" not in err), err
        here = {path.name: path for path in out.glob("*.png")}
        assert here.keys() <= {"photo_art.png", "other_art.png"}
        elsewhere = sorted(set(re.findall(r"the picture is in '([^']+)'", err)))
        assert len(here) + len(elsewhere) == 2, err
        for path in [*here.values(), *(program.folder / name for name in elsewhere)]:
            assert images.load(path).shape == usual.shape
        listed = re.findall(r"the results are in '([^']+)'", err)
        place = program.folder / listed[0] if listed else out / "results.jsonl"
        last = {
            one["row"]: one["status"] for one in map(json.loads, place.read_text().splitlines())
        }
        assert sorted(last.values()) == sorted(["done"] * len(here) + ["failed"] * len(elsewhere))
        for path in [*out.iterdir(), *(program.folder / name for name in elsewhere + listed)]:
            path.unlink()
        if code == 0:
            return "fitted"
        where = "in another place" if listed else "in its place"
        return f"{len(elsewhere)} of 2 pictures in another place, the list of results {where}"

    stress.run("runs of batch on disks that fill", trials, trial)


@stress.counts(1, 10)
def test_a_disk_that_becomes_read_only_while_it_is_painted(disk, program, usual, trials):
    place = disk.folder / "out.png"
    argv = ["stylize", "photo.png", "art.png", "--recipe", "fast.toml", "-o", place]

    def trial(rng, number):
        at_once = number % 3 == 2
        if at_once:
            assert disk.read_only()
            _, _, err = program.finish(*argv, codes=(2,))
            assert "cannot write 'out.png'" in err and "Read-only file system" in err, err
            outcome = "refused before the run"
        else:
            process, shown = program.begun(*argv, line="step 0 of")
            assert disk.read_only()
            processes.ended(process, argv)
            assert process.returncode == 1
            err = shown.read_text()
            assert re.search(r"error: cannot write .*out\.png.*Read-only file system", err), err
            assert np.array_equal(saved_elsewhere(err, program.folder), usual)
            outcome = "painted, in another place"
        assert disk.read_only(False)
        assert disk.names() == []
        return outcome

    stress.run("runs of stylize on disks that become read-only", trials, trial)
