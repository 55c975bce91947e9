"""`-` in place of a file: pictures from standard input, results to standard output."""

import io
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nst_jax import images
from nst_jax.app import parsing, standard_streams
from nst_jax.app.chosen_options import picture_outputs
from nst_jax.app.outputs import STANDARD, default_name
from nst_jax.app.standard_streams import source

CHOSEN = {"output": STANDARD, "suffix": None, "every": None, "frames": None}
PIXELS = np.random.default_rng(0).integers(0, 256, (17, 20, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    yield tmp_path
    files = [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]
    assert not files, "a temporary file was left"


def data_of(pixels=PIXELS):
    file = io.BytesIO()
    images.save(file, pixels, format="png")
    return file.getvalue()


@pytest.fixture
def given(monkeypatch):
    """Return a function that lets standard input have these bytes."""

    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.fixture
def output(monkeypatch):
    """Return a function that lets standard output be a file, and gives one that reads it."""
    with open("stdout", "w") as file:

        def begin():  # not in the fixture, after which pytest puts its own stream in place
            monkeypatch.setattr(sys, "stdout", file)
            return Path("stdout").read_bytes

        yield begin


def painting(chosen):
    images.save(chosen["output"], PIXELS)
    return 0


# --- Standard input -------------------------------------------------------------------------------


def test_one_picture_is_read_from_standard_input(given):
    given(data_of())
    seen = []

    def command(chosen):
        # Twice, as `instant` does: to see the size, and to decode.
        seen.extend(images.read(source(path), argument="content") for path in (STANDARD, STANDARD))
        return 3

    chosen = CHOSEN | {"output": Path("out.png")}
    assert standard_streams.with_streams(command, {"content": [STANDARD], "style": []}, chosen) == 3
    assert [picture.name for picture in seen] == ["standard input"] * 2
    assert np.array_equal(images.to_uint8(seen[1].image), PIXELS)
    assert source(STANDARD) == STANDARD  # nothing is kept for the next command
    assert source(Path("a.png")) == Path("a.png")


def test_damaged_input_gets_the_sentence_of_a_file(given):
    given(b"no picture")
    with pytest.raises(
        ValueError, match="^`content`: 'standard input' is not a picture in a known"
    ):
        standard_streams.with_streams(
            lambda chosen: images.read(source(STANDARD), argument="content"),
            {"content": [STANDARD]},
            CHOSEN | {"output": None},
        )


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"content": [STANDARD], "style": [STANDARD]}, "`style`: only one picture can be `-`"),
        ({"style": [STANDARD, STANDARD]}, "`style`: only one picture can be `-`"),
        ({"guide": [STANDARD]}, "`guide`: standard input is empty; did the command before it fail"),
    ],
)
def test_input_that_is_refused(given, inputs, said):
    given(b"")
    with pytest.raises(ValueError, match=f"^{said}"):
        standard_streams.with_streams(painting, inputs, CHOSEN | {"output": None})
    assert os.listdir() == ["temporary"]


def test_a_terminal_is_neither_read_nor_written(monkeypatch):
    ours, theirs = pty.openpty()
    with open(theirs, "r+b", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(
            ValueError, match="^`content`: standard input is a terminal; pipe a pict"
        ):
            standard_streams.with_streams(
                painting, {"content": [STANDARD]}, CHOSEN | {"output": None}
            )
        monkeypatch.setattr(sys, "stdout", file)
        with pytest.raises(
            ValueError, match="^`output`: standard output is a terminal, which shows"
        ):
            standard_streams.with_streams(painting, {}, CHOSEN)
    os.close(ours)


def test_closed_streams_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="^`content`: standard input is closed; name a file"):
        standard_streams.with_streams(painting, {"content": [STANDARD]}, CHOSEN | {"output": None})
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ValueError, match="^`output`: standard output is closed; name a file"):
        standard_streams.with_streams(painting, {}, CHOSEN)


# --- Standard output ------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "format"), [(None, "png"), ("jpg", "jpeg"), ("tiff", "tiff")])
def test_only_the_picture_goes_to_standard_output(output, capfd, suffix, format):
    written = output()

    def command(chosen):
        sys.stdout.write("a line of Python\n")
        return painting(chosen)

    assert standard_streams.with_streams(command, {}, CHOSEN | {"suffix": suffix}) == 0
    expected = io.BytesIO()
    images.save(expected, PIXELS, format=format)
    assert written() == expected.getvalue()
    assert capfd.readouterr().err == "a line of Python\n"


def test_webp_on_standard_output_is_a_picture_and_no_film(output):
    written = output()

    def command(chosen):
        options = {"film": None, "film_seconds": None, "overwrite": True, "metadata": True}
        options |= {"every": None, "frames": None}
        found = picture_outputs(chosen | options, Path("out.png"))
        assert found["film"] is None and found["picture"] == chosen["output"]
        return painting(chosen)

    assert standard_streams.with_streams(command, {}, CHOSEN | {"suffix": "webp"}) == 0
    expected = io.BytesIO()
    images.save(expected, PIXELS, format="webp")
    assert written() == expected.getvalue()


def test_what_libraries_print_by_number_goes_to_standard_error(output, capfd):
    written = output()
    number = sys.stdout.fileno()

    def command(chosen):
        os.write(number, b"a line of C\n")
        return painting(chosen)

    assert standard_streams.with_streams(command, {}, CHOSEN) == 0
    assert written() == data_of() and capfd.readouterr().err == "a line of C\n"
    os.write(number, b"!")  # the number leads to standard output again
    assert written() == data_of() + b"!"


def test_an_interrupted_run_gives_its_picture_and_its_exit_code(output):
    written = output()

    def interrupted(chosen):
        painting(chosen)
        return 130

    assert standard_streams.with_streams(interrupted, {}, CHOSEN) == 130
    assert written() == data_of()


def test_a_failed_run_gives_the_canvas_it_saved(output):
    written = output()

    def failing(chosen):
        painting(chosen)
        raise OSError("the log is full")

    with pytest.raises(OSError, match="the log is full"):
        standard_streams.with_streams(failing, {}, CHOSEN)
    assert written() == data_of()


def test_a_run_without_a_picture_gives_nothing(output):
    written = output()
    assert standard_streams.with_streams(lambda chosen: 1, {}, CHOSEN) == 1
    assert written() == b""


def test_a_broken_pipe_ends_quietly(monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert standard_streams.with_streams(painting, {}, CHOSEN) == 141
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_loses_nothing(monkeypatch, capfd):
    with open("/dev/full", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert standard_streams.with_streams(painting, {}, CHOSEN) == 1
    err = capfd.readouterr().err
    assert "error: cannot write to standard output: No space left" in err and err.count("\n") == 1
    (kept,) = Path("temporary").rglob("picture.png")
    assert f"'{kept.absolute()}'" in err and kept.read_bytes() == data_of()
    kept.unlink()


# How the process ends: by the `first` signal, by the `second` one after a picture is written, or after
# a picture was written and `kept`, since it could not be copied.
ENDING = """
import os, signal, sys, time
from pathlib import Path
from nst_jax.app import interrupts, standard_streams

for number in interrupts.STOPPING:  # a shell may have started the tests with signals ignored
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.exit_on_interrupt()
how, number = sys.argv[1], getattr(signal, sys.argv[2])

def command(chosen):
    assert len(list(Path("temporary").iterdir())) == 1
    if how == "first":
        interrupts.exit_on_signals()
    else:
        Path(chosen["output"]).write_bytes(b"picture")
    if how == "kept":
        return 0
    if how == "second":
        interrupts.Interrupts(print).defer()
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    time.sleep(60)

chosen = {"output": standard_streams.STANDARD, "suffix": None, "every": None, "frames": None}
interrupts.exit_at_once(standard_streams.with_streams(command, {}, chosen))
"""


@pytest.mark.parametrize(
    ("how", "name"), [("first", "SIGINT"), ("first", "SIGTERM"), ("second", "SIGINT")]
)
def test_a_signal_that_ends_the_process_leaves_no_folder(here, how, name):
    found = ended(how, name)
    assert found.returncode == 128 + getattr(signal, name) and found.stdout == b""
    assert os.listdir("temporary") == []


def test_a_picture_that_could_not_be_copied_is_still_there_at_the_end(here):
    with open("/dev/full", "wb") as full:
        found = ended("kept", "SIGINT", stdout=full)
    (kept,) = Path("temporary").rglob("picture.png")
    assert (
        found.returncode == 1 and f"the picture is in '{kept.absolute()}'" in found.stderr.decode()
    )
    assert kept.read_bytes() == b"picture"
    kept.unlink()


def ended(*words, stdout=subprocess.PIPE):
    """Run `ENDING` with these words to its end."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "TMPDIR": str(Path("temporary").absolute()),
    }
    return subprocess.run(
        [sys.executable, "-c", ENDING, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=50,
        check=False,
    )


def test_an_option_that_does_not_suit_standard_output(output):
    written = output()
    said = "^`every`: standard output takes one picture, at the end; omit it, or add"
    with pytest.raises(ValueError, match=said):
        standard_streams.with_streams(painting, {}, CHOSEN | {"every": 5})
    assert written() == b"" and not Path("-").exists()


# --- Names ----------------------------------------------------------------------------------------


def test_names():
    assert default_name(STANDARD, [Path("a/wave.jpg")]) == Path("stdin_wave.png")
    assert default_name(Path("cat.jpg"), [STANDARD], "_x") == Path("cat_stdin_x.png")
    assert parsing.parse_style("-") == (STANDARD, None)
    assert parsing.parse_style("-:0.5") == (STANDARD, 0.5)
    for text in ("./-", ".//-"):
        assert parsing.parse_path(text) == Path.cwd() / "-" != STANDARD
        assert parsing.parse_style(text)[0] == Path.cwd() / "-"
