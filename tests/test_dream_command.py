"""`nst-jax dream`: its files, messages, exit codes, and what it embeds."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import dreaming, images
from nst_jax.app.options import dream as dream_options
from nst_jax.app.recorder import Recorder
from nst_jax.dreams import settings
from tests.shell import caller, pixels, refused, write_pictures

QUICK = ("--tap", "relu1_1", "--size", "40", "--octaves", "2", "--steps", "2", "--no-cache")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a new folder with a few pictures."""
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(45, 60), leaves=(50, 50))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run the command in this process; return its exit code, standard output and error."""
    return caller(capsys, "dream")


def test_it_writes_what_the_function_returns_and_how_it_was_made(call, params):
    words = ("--guide", "leaves.png", "--guide-size", "32", "--seed", "3")
    code, out, err = call("photo.png", *words, *QUICK)
    assert (code, out) == (0, "photo_dream.png\n"), err
    assert "octaves    2 updates at 29x21 px, 2 updates at 40x30 px" in err
    assert "guide      leaves.png, 50x50 px -> 32x32 px (longer side 32 px, antialiased)" in err
    assert "step 4 of 4: relu1_1" in err and "measuring the pictures" not in err
    content, guide = images.load("photo.png"), images.load("leaves.png")
    found = nst.dream(
        params, content, guide=guide, guide_size=32, taps="relu1_1", size=40, octaves=2, steps=2,
        key=jax.random.key(3),
    )  # fmt: skip
    assert np.abs(pixels("photo_dream.png") - np.asarray(found) * 255).max() < 0.51
    embedded = images.read_metadata("photo_dream.png")
    assert embedded["taps"] == {"relu1_1": 1.0}
    assert embedded["octaves"] == [[29, 21], [40, 30]] and embedded["guide_size"] == [32, 32]
    assert embedded["inputs"]["guide"]["name"] == "leaves.png"
    assert (embedded["steps_done"], embedded["finished"]) == (4, True)
    assert (embedded["seed"], embedded["jitter"], embedded["step_size"]) == (3, 32, 0.0075)
    assert embedded["excitement"]["relu1_1"] > 0 and "google/deepdream" in embedded["source"]
    assert not [key for key in embedded["settings"] if key.startswith(("terms", "descent"))]


def test_without_a_guide_nothing_is_said_of_one(call):
    code, _, err = call("photo.png", "-o", "out.png", *QUICK)
    assert code == 0 and "guide" not in err
    text = json.dumps(images.read_metadata("out.png"))
    assert "guide" not in text and "style" not in text


def test_several_taps_have_weights(call):
    words = ("--tap", "relu1_2=0.5", *QUICK, "-o", "out.png")
    assert call("photo.png", *words)[0] == 0
    assert images.read_metadata("out.png")["taps"] == {"relu1_2": 0.5, "relu1_1": 1.0}


def test_opacity_and_orientation_are_kept(call):
    rgba = np.full((60, 45, 4), 200, np.uint8)
    rgba[..., 3], rgba[:20, :, 3], rgba[:, :20, 0] = 255, 0, 90
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(rgba).save("turned.png", exif=exif)
    assert call("turned.png", "-o", "out.png", *QUICK)[0] == 0
    found = pixels("out.png")
    assert found.shape == (30, 40, 4)
    assert (found[:, 33:, 3] == 0).all() and (found[:, :20, 3] == 255).all()


def test_files_are_replaced_or_not_as_by_other_commands(call):
    assert call("photo.png", "-o", "out.png", "--no-metadata", *QUICK)[0] == 0
    assert images.read_metadata("out.png") is None
    before = pixels("out.png")
    refused(call("photo.png", "-o", "out.png", "--no-overwrite", *QUICK), "`--output`", "exists")
    np.testing.assert_array_equal(pixels("out.png"), before)
    assert call("photo.png", "-o", "out.png", "--quiet", *QUICK) == (0, "", "")
    os.mkdir("folder")
    assert call("photo.png", "-o", "folder", *QUICK)[1] == "folder/photo_dream.png\n"


def test_frames_have_the_final_size(call):
    words = ("--frames", "frames", "--every", "1", "-o", "out.png", *QUICK)
    assert call("photo.png", *words)[0] == 0
    names = sorted(os.listdir("frames"))
    assert names == [f"step_{step:05d}.png" for step in range(5)]
    assert {pixels(f"frames/{name}").shape for name in names} == {(30, 40, 3)}
    np.testing.assert_array_equal(pixels("frames/step_00004.png"), pixels("out.png"))
    err = " ".join(call("photo.png", *words, "--every", "4")[2].split())
    assert "does not replace, step_00001.png, step_00002.png, step_00003.png; remove them" in err
    assert sorted(os.listdir("frames")) == names


BAD = {
    "no such file": (["no.png"], ["`PHOTO`", "no file 'no.png'"]),
    "no such guide": (["photo.png", "--guide", "no.png"], ["`--guide`", "no file"]),
    "the picture itself": (["photo.png", "-o", "photo.png"], ["`--output`", "also another input"]),
    "its guide": (["photo.png", "--guide", "leaves.png", "-o", "leaves.png"], ["`--output`"]),
    "an unknown tap": (["photo.png", "--tap", "relu4_7"], ["`--tap`", "did you mean 'relu4_"]),
    "a tap twice": (["photo.png", "--tap", "r11", "--tap", "relu1_1=2"], ["`--tap`", "twice"]),
    "a weight of text": (["photo.png", "--tap", "relu1_1=x"], ["`--tap`", "NAME=WEIGHT"]),
    "no weight": (["photo.png", "--tap", "relu1_1=0"], ["`--tap`", "all weights are 0"]),
    "an infinite weight": (["photo.png", "--tap", "relu1_1=inf"], ["`--tap`", "finite"]),
    "no steps": (["photo.png", "--steps", "0"], ["`--steps`", "expected 1 or more"]),
    "a negative step": (["photo.png", "--step-size", "-1"], ["`--step-size`", "more than 0"]),
    "a scale of 1": (["photo.png", "--octave-scale", "1"], ["`--octave-scale`", "more than 1"]),
    "many octaves": (
        ["photo.png", "--octaves", "12"],
        ["`--octaves`", "choose 10 octaves at most, or a larger `--size`"],
    ),
    "no jitter": (["photo.png", "--jitter", "-1"], ["`--jitter`", "expected 0 or more"]),
    "no guide": (["photo.png", "--guide-size", "64"], ["`--guide-size`", "there is no guide"]),
    "a size": (["photo.png", "--size", "tiny"], ["`--size`", "expected a number of pixels"]),
    "a tile": (["photo.png", "--tile", "99"], ["`--tile`", "multiple of 16"]),
    "a precision": (["photo.png", "--precision", "half"], ["`--precision`"]),
    "a format": (["photo.png", "-o", "out.bmp"], ["`--output`", ".bmp"]),
    "an interval": (["photo.png", "--every", "0"], ["`--every`", "expected 1 or more"]),
    "two photos": (["photo.png", "leaves.png"], ["leaves.png", "--help"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_before_work(case, call, monkeypatch):
    monkeypatch.setattr(dreaming, "dream_planned", None)
    words, said = BAD[case]
    refused(call(*words), *said)
    assert sorted(os.listdir()) == ["leaves.png", "photo.png"]


def test_a_dream_that_changes_nothing_fails(call):
    code, out, err = call("photo.png", "--step-size", "1e-12", "-o", "out.png", *QUICK)
    assert (code, out) == (1, "")
    said = err.splitlines()[-1]
    assert said == (
        "nst-jax: error: none of 4 updates changed a pixel, so nothing was painted; out.png is as it "
        "started: try a larger step size or another tap"
    )
    assert images.read_metadata("out.png")["finished"] is False


def test_a_signal_keeps_the_picture_so_far(call, monkeypatch):
    record = Recorder.record

    def recording(self, shot):
        record(self, shot)
        if shot.step >= 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, "record", recording)
    code, out, err = call("photo.png", "-o", "out.png", *QUICK)
    assert (code, out) == (143, "")
    assert (
        "interrupted: after 1 of 4 updates; out.png is unfinished, at 29x21 px of 40x30 px" in err
    )
    assert pixels("out.png").shape == (21, 29, 3)
    embedded = images.read_metadata("out.png")
    assert (embedded["steps_done"], embedded["finished"]) == (1, False)


def test_a_disk_that_fills_up_loses_nothing(call, monkeypatch, tmp_path):
    save = images.save

    def failing(path, *arguments, **named):
        if path.name == "out.png":
            raise OSError(28, "No space left on device")
        save(path, *arguments, **named)

    monkeypatch.setattr(images, "save", failing)
    code, _, err = call("photo.png", "-o", "out.png", *QUICK)
    assert code == 1 and "is the canvas after 4 updates" in err
    (found,) = re.findall(r"saved: '(.+?)' is the canvas", err)
    assert pixels(found).shape == (30, 40, 3)


def test_the_defaults_that_help_states_are_those_of_the_function():
    function = inspect.signature(nst.dream).parameters
    stated = {
        "taps": dream_options.DREAM_TAP,
        "steps": dream_options.DREAM_STEPS,
        "step_size": dream_options.DREAM_STEP_SIZE,
        "octaves": dream_options.DREAM_OCTAVES,
        "octave_scale": dream_options.DREAM_OCTAVE_SCALE,
        "jitter": dream_options.DREAM_JITTER,
    }
    assert stated == {name: str(function[name].default) for name in stated}
    assert str(settings.SIZE.pixels) == dream_options.DREAM_SIZE
    assert str(settings.GUIDE_SIZE.pixels) == dream_options.DREAM_GUIDE_SIZE


@pytest.mark.slow
def test_a_second_start_uses_the_programs_that_the_first_kept(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "true"  # which is off in tests
    words = [sys.executable, "-m", "nst_jax", "dream", "photo.png", *QUICK[:-1]]
    written = []
    for _ in range(2):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "photo_dream.png\n"
        kept = sorted((tmp_path / "cache").rglob("ascend-*"))
        written.append({path: path.stat().st_mtime_ns for path in kept})
    assert len(written[0]) == 2
    assert written[0] == written[1]  # the second start wrote none
