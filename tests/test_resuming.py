"""Interrupted and resumed runs at the command line write what one uninterrupted run writes."""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import _files, _hdf5, checkpoints, optimizers, recipes, run_scales
from nst_jax.app import autosave, cli, log, single, timing, watch, writing
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.recorder import Recorder
from nst_jax.recipes import sizes
from nst_jax.scaling import capacity
from tests.shell import caller, write_pictures

TINY = recipes.Recipe(
    name="tiny",
    pictures=recipes.Pictures(size=sizes.LongEdge(48)),
    terms=recipes.Terms(
        content_taps=("relu1_2",),
        style_taps=("relu1_1", "relu1_2"),
        style_layer_weights=(1.0, 1.0),
    ),
    descent=recipes.Descent(optimizer=optimizers.LBFGS(history=3)),
)
SCALED = replace(
    TINY,
    name="scaled",
    descent=replace(TINY.descent, schedule=recipes.CoarseToFine(smallest=24)),
)
PICTURES = ("photo.png", "art.png")
RUN = (
    "--recipe",
    "scaled",
    "--steps",
    "8",
    "--init",
    "noise",
    "--no-cache",
    "-q",
)  # 5 updates and 3
KEEP = ("--checkpoint", "run.h5")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a fresh folder with two pictures in it, and know the small recipes."""
    monkeypatch.chdir(tmp_path)
    for recipe in (TINY, SCALED):
        monkeypatch.setitem(recipes.PRESETS, recipe.name, recipe)
    write_pictures(photo=(45, 60), art=(50, 50))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run `nst-jax stylize` on the pictures; return exit code, standard output, standard error."""
    return caller(capsys, "stylize", *PICTURES)


def losses(path):
    """Return a log's lines of losses, without the clock's."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert lines[0]["event"] == "start" and lines[-1]["event"] == "end"
    assert all(line["event"] == "step" for line in lines[1:-1])
    seconds = [line.pop("seconds") for line in lines[1:-1]]
    assert seconds == sorted(seconds)
    return lines[1:-1]


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Let a signal come while the snapshot after so many updates is recorded, once."""
    record = Recorder.record

    def recording(recorder, shot):
        record(recorder, shot)
        if shot.step == step:
            monkeypatch.setattr(Recorder, "record", record)
            signal.raise_signal(number)

    monkeypatch.setattr(Recorder, "record", recording)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_signal_while_the_finer_scale_is_measured_keeps_the_coarser_canvas(call, monkeypatch):
    wait, pieces = watch.PollingWatch.wait, []

    def waiting(self, arrays):
        pieces.append(arrays)
        if len(pieces) == 3:  # after content and style of the coarser scale
            signal.raise_signal(signal.SIGTERM)
            self._look()
        wait(self, arrays)

    monkeypatch.setattr(watch.PollingWatch, "wait", waiting)
    monkeypatch.setattr(Ahead, "begin", lambda self, work: work)  # in this thread
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        code, _, err = call(*RUN, "-o", "out.png", *KEEP)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 143 and len(pieces) == 3
    assert re.search(r"after 4 of 8 updates; out.png is unfinished, at \d+x\d+ px of", err), err
    assert checkpoints.load("run.h5").step == 4 and Path("out.png").exists()


# --- Resuming -------------------------------------------------------------------------------------


def test_a_run_interrupted_twice_is_one_run(call, monkeypatch):
    logged = ("--log", "log.jsonl", "--frames", "kept", "--every", "2", "-o", "out.png", *KEEP)
    whole = ("--log", "whole.jsonl", "--frames", "all", "--every", "2", "-o", "whole.png")
    assert call(*RUN, *whole)[0] == 0
    for step in (2, 6):  # in the coarser scale, and in the finer
        interrupt_at(monkeypatch, step)
        code, _, err = call(*RUN, *logged, "--resume")
        assert code == 130
        assert f"after {step} of 8 updates" in err
        assert err.endswith("`--resume` continues it from run.h5\n")
        assert checkpoints.load("run.h5").step == step
        # Whatever became of the log: a line cut short, lines from after the checkpoint.
        with Path("log.jsonl").open("a") as log:
            log.write('{"event": "step", "step": 99}\n{"event": "st')
    assert call(*RUN, *logged, "--resume")[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert losses("log.jsonl") == losses("whole.jsonl")
    assert [line["step"] for line in losses("log.jsonl")] == list(range(9))
    assert json.loads(Path("log.jsonl").read_text().splitlines()[0])["resumed_at"] == 6
    assert sorted(os.listdir("kept")) == sorted(os.listdir("all"))
    for name in os.listdir("all"):
        assert Path("kept", name).read_bytes() == Path("all", name).read_bytes(), name
    # Once more finds nothing left to do, and says the same.
    Path("out.png").unlink()
    assert call(*RUN, *logged, "--resume")[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert losses("log.jsonl") == losses("whole.jsonl")


def test_more_steps_continue_from_the_end(call):
    at_one_scale = ("--recipe", "tiny", "--init", "noise", "--no-cache", "-q", "-o")
    assert call(*at_one_scale, "whole.png", "--steps", 8)[0] == 0
    for steps in (3, 8):
        assert call(*at_one_scale, "out.png", "--steps", steps, *KEEP, "--resume")[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


def test_a_resumed_run_keeps_its_tiles_whatever_memory_is_available_now(call, monkeypatch):
    argv = ("--recipe", "tiny", "--size", 200, "--no-cache", "-q", "-o")
    assert call(*argv, "whole.png", "--steps", 3, "--tile", 128)[0] == 0
    whole = nst.estimate_memory((150, 200), recipe=nst.recipes.named("tiny"))
    little = round(whole.total * 1.1)  # too little for all at once
    monkeypatch.setattr(capacity, "available", lambda device=None: little)
    assert call(*argv, "out.png", "--steps", 2, *KEEP)[0] == 0
    assert checkpoints.load("run.h5").facts["network.tile"] == 128
    monkeypatch.setattr(capacity, "available", lambda device=None: 10**12)
    assert call(*argv, "out.png", "--steps", 3, *KEEP, "--resume")[0] == 0
    assert np.array_equal(nst.images.load("out.png"), nst.images.load("whole.png"))


def test_says_where_it_begins(call):
    argv = [word for word in RUN if word != "-q"]
    code, _, err = call(*argv, *KEEP, "--resume")
    assert code == 0
    assert "note: there is no 'run.h5' yet: the run starts from its beginning" in err
    assert "checkpoint  run.h5, up to 0.2 MB, about every 30 s\n" in err
    code, _, err = call(*argv, *KEEP, "--resume", "--checkpoint-every", 4)
    assert code == 0 and "every 4 updates; resumes after 8 of 8 updates" in err
    elsewhere = checkpoints.load("run.h5")._replace(device={"platform": "tpu", "kind": "v5"})
    checkpoints.save("run.h5", elsewhere)
    said = " ".join(call(*argv, *KEEP, "--resume")[2].split())
    assert "note: the checkpoint was computed on tpu (v5) and this is cpu, so the result" in said


def test_checkpoints_are_written_every_so_many_updates_and_at_the_ends_of_scales(call, monkeypatch):
    seen = []
    save = checkpoints.save
    monkeypatch.setattr(
        checkpoints, "save", lambda path, made: (seen.append(made.step), save(path, made))
    )
    assert call(*RUN, *KEEP, "--checkpoint-every", 3)[0] == 0
    assert seen == [0, 3, 4, 6, 8]  # the update after the 4th enlarges the canvas
    assert len(checkpoints.load("run.h5").notes["seconds"]) == 9
    canvases = 2 + 2 + 2 * 3  # kept and pending, move and gradient, and pairs of L-BFGS
    expected = 36 * 48 * 3 * 4 * canvases
    assert expected < Path("run.h5").stat().st_size < expected + 50_000


def test_by_the_clock_a_checkpoint_is_rare_where_it_takes_long(monkeypatch, as_users_do):
    now, seen, taking = [0.0], [], [0.0]

    def save(path, made):
        seen.append(made.step)
        now[0] += taking[0]

    def checkpoint_now():
        return checkpoints.Checkpoint(shot.step, 0, {}, None, {}, [], {})

    monkeypatch.setattr(checkpoints, "save", save)
    job = type("Job", (), {"outputs": type("Outputs", (), {}), "resume": None})
    job.outputs.checkpoint, job.outputs.checkpoint_every = Path("run.h5"), None
    writer = autosave.CheckpointWriter(job, [1000], lambda: now[0])
    for step in range(0, 300, 10):  # a second an update
        now[0] = max(now[0], step)
        taking[0] = 0.1 if step < 100 else 5.0  # twenty times which is 100
        shot = nst.Snapshot(step, None, None, None, 0, -1)
        writer.write_if_due(shot, checkpoint_now, [], last=False)
    assert seen == [30, 70, 110, 220]
    broken = nst.Snapshot(1000, None, None, None, 0, 990)
    writer.write_if_due(broken, checkpoint_now, [], last=True)
    assert len(seen) == 4  # the last checkpoint before the divergence stays


def test_chunks_stop_at_both_strides():
    scales = (run_scales.Scale((10, 10), ((10, 10),), 13),)
    walk = timing.IntervalChooser(scales, 5, also=[3], done=4)
    steps = [4]
    walk.advance(4, 0.0)
    while steps[-1] < 13:
        steps.append(steps[-1] + next(walk))
        walk.advance(steps[-1], 1e-3)
    assert steps == [4, 5, 6, 9, 10, 12, 13]


# --- Bad input ------------------------------------------------------------------------------------


def refused(result, *words):
    """Check that a call was refused with one line that has these words."""
    code, out, err = result
    assert code == 2 and out == "" and err.count("\n") == 1, err
    for word in words:
        assert word in err


def test_what_cannot_be_meant_is_refused(call):
    refused(call(*RUN, "--resume"), "`--resume`: needs a checkpoint")
    refused(call(*RUN, "--checkpoint-every", 5), "`--checkpoint-every`: needs a checkpoint")
    refused(call(*RUN, *KEEP, "--checkpoint-every", 0), "`--checkpoint-every`: expected 1 or more")
    refused(call(*RUN, "--checkpoint", "photo.png"), "`--checkpoint`: 'photo.png' is also another")
    refused(call(*RUN, "--checkpoint", "no/run.h5"), "`--checkpoint`: the folder 'no' does not")
    refused(call(*RUN, "--checkpoint", "."), "`--checkpoint`: '.' is a folder")
    Path("run.h5").write_bytes(b"precious")
    refused(
        call(*RUN, *KEEP), "`--checkpoint`: 'run.h5' exists; add `--resume` to continue from it"
    )
    refused(
        call(*RUN, *KEEP, "--resume"), "`--checkpoint`: 'run.h5' is not a checkpoint of nst-jax"
    )
    assert Path("run.h5").read_bytes() == b"precious"


def test_another_run_is_refused_and_nothing_is_touched(call):
    logged = ("--log", "log.jsonl", "-o", "out.png", *KEEP)
    assert call(*RUN, *logged)[0] == 0
    before = {path: Path(path).read_bytes() for path in ("log.jsonl", "out.png", "run.h5")}
    for more, said in {
        ("--set", "terms.style_weight=3"): "`--resume`: the checkpoint is of another run: "
        "terms.style_weight was 1.0, is 3; resume with the same pictures, settings and versions, or "
        "begin a new run with another checkpoint file",
        ("--seed", "9"): "another run: key was [0, 0], is [0, 9]",
        ("--steps", "16"): "after 8 updates of 24x18 for 5, 48x36 for 3; a run of 16 updates has",
        ("--steps", "7"): "has had 8 updates, more than the 7 of this run",
    }.items():
        refused(call(*RUN, *logged, "--resume", *more), said)
    Image.open("photo.png").rotate(180).save("photo.png")
    refused(call(*RUN, *logged, "--resume"), "another run: content was ")
    assert {path: Path(path).read_bytes() for path in before} == before


def test_a_disk_without_space_is_refused(call, monkeypatch):
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(autosave.shutil, "disk_usage", lambda path: full)
    result = call(*RUN, *KEEP)
    refused(result, "`--checkpoint`: 'run.h5' takes about 0.2 MB and its disk has 1 kB left")
    assert not Path("photo_art.png").exists()


def test_a_failed_write_keeps_the_canvas_and_the_previous_checkpoint(call, monkeypatch):
    store = _hdf5.store

    def failing(file, arrays, **options):
        store(file, arrays, **options)
        if json.loads(arrays["told"].tobytes())["step"] == 6:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(_hdf5, "store", failing)
        code, _, err = call(*RUN, *KEEP, "--checkpoint-every", 3, "-o", "out.png")
    assert code == 1 and err.count("\n") == 1
    assert "cannot write 'run.h5': No space left on device" in err
    assert checkpoints.load("run.h5").step == 4
    assert nst.images.read_metadata("out.png")["steps_done"] == 6
    assert not [name for name in os.listdir() if "part" in name]
    assert call(*RUN, *KEEP, "--resume", "-o", "out.png")[0] == 0
    assert call(*RUN, "-o", "whole.png")[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


# --- One run at a time ------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--checkpoint", "--log"])
def test_two_runs_cannot_share_a_file(call, monkeypatch, flag):
    monkeypatch.setattr(nst.images, "read", None)  # nothing is read before
    with _files.reserved("there"):
        refused(call(*RUN, flag, "there"), f"`{flag}`: 'there' is in use by another run")
    assert sorted(os.listdir()) == ["art.png", "photo.png"]


def test_a_lock_lasts_as_long_as_the_run(call, monkeypatch):
    seen = []

    def failing(*_, **__):
        seen.extend(name for name in sorted(os.listdir()) if name.startswith("."))
        raise OSError("stop")

    monkeypatch.setattr(single.planned_painting, "paint_planned", failing)
    for name in (".run.h5.lock", ".run.h5.0123abcd.part", ".photo_art.png.0123abcd.part"):
        Path(name).touch()  # as a killed run leaves it
    assert call(*RUN, *KEEP, "--log", "log.jsonl")[0] == 1
    assert seen == [".log.jsonl.lock", ".run.h5.lock"]
    assert sorted(os.listdir()) == ["art.png", "photo.png"]


# --- Writes that fail -------------------------------------------------------------------------------


class FullStream:
    """A standard error that cannot be written to, such as a closed pipe or a file on a full disk."""

    encoding = "utf-8"

    def __init__(self, error):
        self._error = error

    def write(self, *_):
        raise self._error

    flush = write

    def isatty(self):
        return False

    def fileno(self):
        raise io.UnsupportedOperation


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "full"), None])
def test_a_run_does_not_need_its_progress(call, monkeypatch, error):
    argv = [word for word in RUN if word != "-q"]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None if error is None else FullStream(error))
        assert cli.main(["stylize", *PICTURES, *argv, "-o", "out.png"]) == 0
        assert cli.main(["stylize", *PICTURES, *argv, "-o", "out.nothing"]) == 2
    assert nst.images.read_metadata("out.png")["finished"] is True


def test_a_log_that_cannot_be_written_is_named_and_the_canvas_kept(call, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    write = log.RunLog.write

    def filling(run_log, event, **facts):
        if facts.get("step") == 6:
            run_log._file.close()
            run_log._file = type("File", (), {"write": full, "close": full})()
        write(run_log, event, **facts)

    monkeypatch.setattr(log.RunLog, "write", filling)
    argv = ("-o", "out.png", "--log", "log.jsonl", "--every", "2")
    code, _, err = call(*RUN, *argv)
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("nst-jax: error: cannot write 'log.jsonl': No space left on device")
    assert nst.images.read_metadata("out.png")["steps_done"] == 6


@pytest.mark.parametrize("here_too", [False, True])
def test_a_picture_that_cannot_be_written_goes_elsewhere(call, monkeypatch, tmp_path, here_too):
    save = nst.images.save
    there, temporary = tmp_path / "there", tmp_path / "temporary"
    there.mkdir()
    temporary.mkdir()
    full = {there, tmp_path} if here_too else {there}

    def failing(path, *args, **options):
        if Path(path).absolute().parent in full:
            raise OSError(28, "No space left on device")
        save(path, *args, **options)

    monkeypatch.setattr(writing.images, "save", failing)
    monkeypatch.setattr(writing.tempfile, "tempdir", str(temporary))
    code, _, err = call(*RUN, "-o", "there/out.png")
    (found,) = (temporary if here_too else tmp_path).glob("out-*.png")
    assert code == 1
    assert f"nst-jax: saved: '{found}' is the canvas after 8 updates\n" in err
    assert "nst-jax: error: cannot write 'there/out.png': No space left on device" in err
    assert nst.images.read_metadata(found)["finished"] is True
    assert not list(there.iterdir())


def test_what_can_be_written_nowhere_is_said_to_be_lost(call, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.images, "save", full)
    found = writing.where_instead(Path("there/out.png"), None, "the grid")
    assert found == "; the grid could not be written to the current or the temporary folder either"
    code, _, err = call(*RUN)
    lost, error = err.splitlines()
    assert code == 1 and error.startswith("nst-jax: error: cannot write 'photo_art.png': No space")
    assert lost == "nst-jax: lost: the canvas after 8 updates could not be saved in any folder"


def deleting_after(monkeypatch, step, happening):
    """Let something happen when a step of a run has been logged."""
    steps = log.RunLog.steps

    def logged(run_log, history, *, last, **options):
        steps(run_log, history, last=last, **options)
        if last == step:
            happening()

    monkeypatch.setattr(log.RunLog, "steps", logged)


@pytest.mark.parametrize("with_log", [True, False])
def test_a_folder_deleted_during_a_run_takes_no_picture_with_it(call, monkeypatch, with_log):
    Path("out").mkdir()
    deleting_after(monkeypatch, 8, lambda: shutil.rmtree("out"))
    more = ("--log", "out/log.jsonl") if with_log else ()
    code, _, err = call(*RUN, "-o", "out/a.png", *more)
    (found,) = Path().absolute().glob("a-*.png")
    assert code == 1 and f"nst-jax: saved: '{found}' is the canvas after 8 updates\n" in err
    assert "error: cannot write 'out/a.png': " in err.splitlines()[-1]
    assert "the folder 'out' does not exist" in err.splitlines()[-1]
    assert nst.images.read_metadata(found)["finished"] is True


def test_a_log_deleted_during_a_run_is_written_again_or_named(call, monkeypatch):
    Path("logs").mkdir()
    with monkeypatch.context() as patched:
        deleting_after(patched, 8, lambda: Path("logs/log.jsonl").unlink())
        assert call(*RUN, "--log", "logs/log.jsonl")[0] == 0
    text = Path("logs/log.jsonl").read_text()
    assert [json.loads(line)["event"] for line in text.splitlines()] == [
        "start",
        *["step"] * 9,
        "end",
    ]
    deleting_after(monkeypatch, 8, lambda: shutil.rmtree("logs"))
    code, _, err = call(*RUN, "--log", "logs/log.jsonl", "-o", "out.png")
    assert code == 1 and err.count("\n") == 1
    assert "cannot write 'logs/log.jsonl': No such file or directory" in err
    assert nst.images.read_metadata("out.png")["finished"] is True


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM"])
def test_a_closed_terminal_keeps_the_canvas(call, monkeypatch, number):
    before = signal.signal(getattr(signal, number), signal.SIG_DFL)  # `nohup` would ignore it
    interrupt_at(monkeypatch, 4, getattr(signal, number))
    try:
        code, _, err = call(*RUN, "--every", 2, "-o", "out.png")
    finally:
        signal.signal(getattr(signal, number), before)
    assert code == 128 + getattr(signal, number)
    assert "after 4 of 8 updates" in err
    assert nst.images.read_metadata("out.png")["steps_done"] == 4


# --- Killed runs ----------------------------------------------------------------------------------

MAIN = """
import sys
from dataclasses import replace
from nst_jax import optimizers, recipes
from nst_jax.app import cli
from nst_jax.recipes import sizes
recipes.PRESETS["killed"] = recipes.Recipe(
    name="killed",
    pictures=recipes.Pictures(size=sizes.LongEdge(96)),
    terms=recipes.Terms(
        content_taps=("relu1_2",), style_taps=("relu1_1", "relu1_2"), style_layer_weights=(1.0, 1.0)
    ),
    descent=recipes.Descent(
        optimizer=optimizers.LBFGS(history=5), schedule=recipes.CoarseToFine(smallest=48)
    ),
)
sys.exit(cli.main())
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def killed(*argv):
    """Begin a run in another process."""
    words = ["stylize", *PICTURES, "--recipe", "killed", "--steps", "300", "--init", "noise"]
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words, *argv],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )


def written():
    return Path("run.h5").stat().st_mtime_ns if Path("run.h5").exists() else 0


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_run_killed_at_any_moment_arrives_at_the_same_picture():
    whole = killed("-o", "whole.png", "--log", "whole.jsonl", "-q")
    _, err = whole.communicate()
    assert whole.returncode == 0, err
    argv = ("-o", "out.png", "--log", "log.jsonl", *KEEP, "--checkpoint-every", "1", "--resume")
    moments, steps = random.Random(0), []
    for kill in range(3):
        before = written()
        process = killed(*argv)
        if kill:  # once at any moment, else some time after it got going
            limit = time.monotonic() + 120
            while written() == before and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(0.3 * moments.random())
        else:
            time.sleep(6 * moments.random())
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        if Path("run.h5").exists():
            steps.append(checkpoints.load("run.h5").step)  # whole, whenever it was
    assert steps == sorted(steps) and len(set(steps)) > 1 and steps[-1] < 300, steps
    last = killed(*argv)
    _, err = last.communicate()
    assert last.returncode == 0, err
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert losses("log.jsonl") == losses("whole.jsonl")
    assert not [name for name in os.listdir() if name.startswith(".run.h5")]
