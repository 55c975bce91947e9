"""Runs that are killed or signalled at a random moment: what is there is whole, and starting again
finishes it."""

import json
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nst_jax import checkpoints, images
from nst_jax.feed_forward import style_files
from tests.stress import processes
from tests.stress import trials as stress
from tests.test_crops import picture


class Command(NamedTuple):
    """A command that writes files. A new one needs a line in `COMMANDS`, and trials include it."""

    words: str  # the command line; started again, it must finish what it had not finished
    results: tuple[str, ...]  # the files that it writes
    begun: str  # text on standard error once it works; "" for none
    signals: tuple[signal.Signals, ...]  # of trial i it is that of index i, again from the first
    handles: str = "device"  # text on standard error once it handles signals; "" for none
    starting: float = (
        6.0  # seconds in which it is signalled while it starts: imports, reads, compiles
    )
    working: float = 1.0  # the same after the text `begun`


KILL, TERM, HUP, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT
COMMANDS = {
    "stylize": Command(
        "stylize photo.png art.png --checkpoint run.h5 --checkpoint-every 1 --resume "
        "--log run.jsonl -o out.png --overwrite --recipe fast.toml",
        ("out.png",),
        "step 0 of 200",
        (KILL, TERM, KILL, HUP, KILL, INT),
    ),
    "texture": Command(
        "texture art.png --size 32 --tile-seamless --checkpoint run.h5 --checkpoint-every 1 --resume "
        "-o out.png --overwrite --recipe fast.toml",
        ("out.png",),
        "step 0 of 200",
        (KILL, INT, KILL, TERM, KILL, HUP),
    ),
    "batch": Command(
        "batch photo.png other.png --styles art.png -o out --chunk 1 --recipe fast.toml",
        ("out/photo_art.png", "out/other_art.png"),
        ", update 0 of 200",
        (KILL, INT, KILL, TERM, KILL, HUP),
    ),
    "sweep": Command(
        "sweep photo.png art.png --size 32 --tv-weight 0,1 -o grid.png --overwrite --recipe fast.toml",
        ("grid.png",),
        ", update 0 of 200",
        (KILL, HUP, KILL, INT, KILL, TERM),
    ),
    "train": Command(
        "train art.png --photos photos -o style.h5 --resume --recipe fast.toml --batch 2 --crop 16 "
        "--width 0.1 --blocks 1 --style-size as-is --steps 200 --every 20",
        ("style.h5", "style_samples.png"),
        "update 0 of 200",
        (KILL, TERM, KILL, INT, KILL, HUP),
    ),
    # It shows nothing before it ends, so it may be signalled before it handles signals.
    "export": Command(
        "export styles26 --to stablehlo -o styles.npz --overwrite",
        ("styles.npz",),
        "",
        (KILL, TERM, KILL, HUP, KILL, KILL),
        handles="",
        starting=2.0,
        working=2.0,
    ),
}
# A texture is stopped and resumed by the code of a picture, the cells of a sweep are painted by that of
# a batch, and all files are replaced by one function.
REPEATED = ("texture", "sweep", "export")
SETTLING = 60.0  # time limit for a process to end after a signal


def stop(process, rng, seconds, number, again):
    """Send a signal after a random part of `seconds`, perhaps twice; return the exit code."""
    try:
        process.wait(float(rng.uniform(0, seconds)))
        return process.returncode
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    if again:
        try:
            process.wait(float(rng.uniform(0, 0.3)))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    processes.ended(process, (number, "after the signal"), SETTLING)
    return process.returncode


def files_in(folder):
    return {
        str(path.relative_to(folder)): path for path in Path(folder).rglob("*") if path.is_file()
    }


READERS = {
    "run.h5": checkpoints.load,
    "style.h5": style_files.load_network,
    "style.checkpoint.h5": style_files.load_training,
}


def content_of(path):
    """Return the pixels of a picture, without its metadata, or the bytes of another file."""
    return images.load(path).tobytes() if path.suffix == ".png" else path.read_bytes()


def check_whole(path):
    """Assert that a file is complete, whatever happened to its writer."""
    match path.suffix:
        case ".png":
            images.load(path)
        case ".h5":
            READERS[path.name](path)
        case ".npz":
            with np.load(path) as file:
                assert all(file[name] is not None for name in file)
        case ".jsonl":
            data = path.read_text()
            assert data == "" or data.endswith("\n"), data[-200:]
            for line in data.splitlines():
                json.loads(line)
        case suffix:
            raise AssertionError(f"nobody asked for {path} ({suffix})")


def clean(folder, inputs):
    for name, path in files_in(folder).items():
        if name not in inputs:
            path.unlink()


@stress.counts(2, 18)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name in REPEATED else name for name in COMMANDS],
)
def test_a_run_that_is_stopped_leaves_whole_files_and_can_be_finished(program, name, trials):
    command, photos = COMMANDS[name], program.folder / "photos"
    photos.mkdir()
    for seed in range(4):
        images.save(photos / f"{seed}.png", picture(seed))
    inputs, argv = files_in(program.folder).keys(), command.words.split()
    program.finish(*argv)
    results = {one: content_of(program.folder / one) for one in command.results}
    clean(program.folder, inputs)

    def trial(rng, number):
        kind = command.signals[number % len(command.signals)]
        late, twice = rng.random() < 0.7, kind != KILL and rng.random() < 0.2
        began = command.begun if late else "" if kind == KILL else command.handles
        process, shown = program.begun(*argv, line=began)
        painting = late and process.poll() is None
        code = stop(process, rng, command.working if late else command.starting, kind, twice)
        text = shown.read_text("utf-8", "replace")
        assert code in {0, -kind} | ({130, 128 + kind} if kind != KILL else set()), (code, text)
        assert "Traceback" not in text, text
        left = files_in(program.folder)
        for one in left.keys() - inputs:
            if one.endswith((".part", ".lock")):
                assert kind == KILL, one
            else:
                check_whole(left[one])
        # After one signal the canvas is kept; a second one ends the process at once.
        if name == "stylize" and painting and code and kind != KILL and not twice:
            assert "out.png" in left, text
            assert images.read_metadata(left["out.png"])["finished"] is False
        if code:
            program.finish(*argv)
        for one, expected in results.items():
            assert content_of(program.folder / one) == expected, one
        found = files_in(program.folder).keys() - inputs
        assert not [one for one in found if one.endswith((".part", ".lock"))], found
        clean(program.folder, inputs)
        if code == 0:
            return "ended before"
        return f"{kind.name} {'twice, ' if twice else ''}finished to the same results"

    found = stress.run(f"{name} stopped by signals", trials, trial)
    assert found["ended before"] < max(2, trials // 2), "too late to be trials"
