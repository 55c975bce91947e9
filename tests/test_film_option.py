"""Films on the command line: `--film`, and an output whose suffix is that of a film."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nst_jax import checkpoints, images, optimizers, recipes
from nst_jax.app.options import base
from nst_jax.images import film_encoding, films
from nst_jax.recipes import sizes
from tests.shell import caller, pixels, refused, write_pictures
from tests.test_films import read_back
from tests.test_resuming import interrupt_at

TINY = recipes.Recipe(
    name="tiny",
    pictures=recipes.Pictures(size=sizes.LongEdge(32)),
    terms=recipes.Terms(
        content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
    ),
    descent=recipes.Descent(optimizer=optimizers.Adam(learning_rate=0.05), clip=True, steps=8),
)
SCALED = replace(
    TINY,
    name="scaled",
    descent=replace(TINY.descent, schedule=recipes.CoarseToFine(smallest=16)),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a new folder with two pictures, and register two small recipes as presets."""
    monkeypatch.chdir(tmp_path)
    for recipe in (TINY, SCALED):
        monkeypatch.setitem(recipes.PRESETS, recipe.name, recipe)
    write_pictures(photo=(24, 32), art=(30, 30))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run the command line in this process; return its exit code, standard output and error."""
    return caller(capsys)


RUN = ("stylize", "photo.png", "art.png", "--no-cache", "-q")


def test_the_film_has_the_frames_of_the_run_in_the_final_size(call, here):
    words = ("--recipe", "scaled", "--every", "2", "--frames", "kept", "--film", "film.apng")
    assert call(*RUN, *words, "-o", "out.png")[0] == 0
    found, spans = read_back(here / "film.apng")
    frames = [pixels(f"kept/{name}") for name in sorted(os.listdir("kept"))]
    assert len(found) == len(frames) == 5
    assert sum(spans) == pytest.approx(1000 * films.SECONDS, abs=5)
    np.testing.assert_array_equal(found[-1], pixels("out.png"))
    # Frames of the coarser scale are enlarged by Pillow here, by JAX there.
    for one, other in zip(found, frames, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 3
    settings = images.read_metadata("film.apng")
    assert settings["steps_done"] == 8 and settings["finished"] is True


def test_an_output_with_the_suffix_of_a_film_gives_both(call):
    assert call(*RUN[:-1], "--recipe", "tiny", "-o", "out.gif")[1] == "out.png\nout.gif\n"
    with Image.open("out.gif") as film:
        assert film.n_frames == 9 and film.size == (32, 24)  # every update, and the start
    assert images.read_metadata("out.gif")["recipe"] == "tiny"
    assert images.read_metadata("out.png")["recipe"] == "tiny"


def test_an_output_in_webp_is_a_film_unless_the_command_says_that_it_is_a_picture(call):
    words = (*RUN[:-1], "--recipe", "tiny", "-o", "out.webp")
    assert call(*words)[1] == "out.png\nout.webp\n"
    with Image.open("out.webp") as film:
        assert film.n_frames == 9 and film.size == (32, 24)
    os.remove("out.png")
    for more in (["--format", "webp"], ["--film", "film.gif"]):
        assert "out.webp\n" in call(*words, *more)[1] and not os.path.exists("out.png")
        with Image.open("out.webp") as still:
            assert still.n_frames == 1 and images.read_metadata("out.webp")["recipe"] == "tiny"


def test_a_long_run_has_as_many_frames_as_the_film_shows(call):
    words = ("--recipe", "tiny", "--steps", "60", "--film", "film.gif", "--film-seconds", "1")
    assert call(*RUN, *words, "-o", "out.png")[0] == 0
    with Image.open("film.gif") as film:
        assert 8 <= film.n_frames <= films.most_frames(1.0) == 10


def test_a_film_shorter_than_two_frames_shows_the_result(call):
    words = ("--recipe", "tiny", "--film", "film.apng", "--film-seconds", "0.05")
    assert call(*RUN, *words, "-o", "out.png")[0] == 0
    np.testing.assert_array_equal(pixels("film.apng"), pixels("out.png"))


def test_an_interrupted_run_has_a_film_so_far_and_a_resumed_one_the_rest(call, here, monkeypatch):
    words = ("--recipe", "tiny", "-o", "out.png", "--film", "film.apng", "--checkpoint", "run.h5")
    interrupt_at(monkeypatch, 3)
    code, _, err = call(*RUN, *words, "--resume")
    assert code == 130 and "after 3 of 8 updates" in err
    found, _ = read_back(here / "film.apng")
    np.testing.assert_array_equal(found[-1], pixels("out.png"))
    assert len(found) == 4 and images.read_metadata("film.apng")["finished"] is False
    assert checkpoints.load("run.h5").step == 3
    code, _, err = call(*RUN[:-1], *words, "--resume")
    assert code == 0 and "the film begins after 3 updates, where the run resumes" in err
    rest, _ = read_back(here / "film.apng")
    assert len(rest) == 6
    np.testing.assert_array_equal(rest[0], found[-1])
    np.testing.assert_array_equal(rest[-1], pixels("out.png"))


def test_colours_and_protected_parts_are_in_every_frame(call, here):
    mask = np.zeros((24, 32), np.uint8)
    mask[:12] = 255
    Image.fromarray(mask).save("mask.png")
    words = ("--colors", "luminance", "--protect", "mask.png", "--every", "4", "--frames", "kept")
    words = ("--recipe", "tiny", "-o", "out.png", "--film", "film.apng", *words)
    assert call(*RUN, *words)[0] == 0
    found, _ = read_back(here / "film.apng")
    kept = [pixels(f"kept/{name}") for name in sorted(os.listdir("kept"))]
    assert len(kept) == 3
    np.testing.assert_array_equal(found, kept)
    assert np.abs(found[-1][:8].astype(int) - found[0][:8]).max() <= 1  # it stays as it is
    assert np.abs(found[-1][16:].astype(int) - found[0][16:]).mean() > 1


def test_a_full_disk_ends_the_film_and_not_the_run(call, monkeypatch):
    add = films.Film.add

    def adding(film, frame, **options):
        if film.seen == 3:
            raise OSError(28, "No space left on device")
        add(film, frame, **options)

    monkeypatch.setattr(films.Film, "add", adding)
    code, _, err = call(*RUN[:-1], "--recipe", "tiny", "-o", "out.gif")
    assert code == 0 and "note: the film ends after 2 updates: No space left on device" in err
    assert images.read_metadata("out.png")["finished"] is True
    with Image.open("out.gif") as film:
        assert film.n_frames == 3


def test_a_film_that_cannot_be_written_leaves_the_picture(call, monkeypatch):
    def failing(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(film_encoding.WRITERS, "gif", failing)
    code, _, err = call(*RUN, "--recipe", "tiny", "-o", "out.gif")
    assert code == 1 and re.search("cannot write 'out.gif': No space left on device", err)
    assert images.read_metadata("out.png")["finished"] is True and not os.path.exists("out.gif")


BAD = {
    "no film format": (["--film", "film.avi"], "`--film`", ".gif, .webp, .apng, .mp4"),
    "a still": (["--film", "film.png"], "`--film`", ".apng"),
    "another format": (["-o", "out.webp", "--format", "jpg"], "`--format`", "webp"),
    "no format of films": (["-o", "out.gif", "--format", "webp"], "`--format`", "suffix"),
    "the picture beside a film": (["-o", "photo.webp"], "`--output`", "`--format webp`"),
    "two films": (["--film", "a.gif", "-o", "b.gif"], "`--film`", "`--output`"),
    "a folder that is missing": (["--film", "no/film.gif"], "`--film`", "does not exist"),
    "the same as the output": (["--film", "out.webp", "-o", "out.webp"], "`--film`", "another"),
    "an input": (["--film", "photo.gif"], "`--film`", "another"),
    "seconds": (["--film", "film.gif", "--film-seconds", "0"], "`--film-seconds`", "more than 0"),
    "too long": (["--film", "a.gif", "--film-seconds", "1e4"], "`--film-seconds`", "600"),
    "seconds of nothing": (["--film-seconds", "3"], "`--film-seconds`", "`--film`"),
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD)
def test_bad_films_are_refused_before_the_run(call, here, words):
    arguments, *parts = words
    Image.open("photo.png").save("photo.gif")
    before = sorted(os.listdir())
    inputs = ["photo.gif", "art.png"] if "photo.gif" in arguments else ["photo.png", "art.png"]
    refused(call("stylize", *inputs, "--recipe", "tiny", *arguments), *parts)
    assert sorted(os.listdir()) == before


def test_an_existing_film_is_kept_if_asked(call):
    images.films.save("film.gif", [np.zeros((8, 8, 3))])
    words = ("--recipe", "tiny", "--film", "film.gif", "--no-overwrite")
    refused(call(*RUN, *words), "`--film`", "exists")


def test_the_help_states_the_length():
    assert base.FILM_SECONDS == films.SECONDS


@pytest.mark.parametrize("command", ["texture", "dream"])
def test_textures_and_dreams_have_films(call, here, command):
    words = {
        "texture": ("art.png", "--recipe", "tiny", "--size", "24"),
        "dream": (
            "photo.png",
            "--tap",
            "relu1_1",
            "--size",
            "40",
            "--octaves",
            "2",
            "--steps",
            "2",
        ),
    }[command]
    code, _, err = call(command, *words, "--no-cache", "-q", "-o", "out.apng")
    assert code == 0, err
    found, _ = read_back(here / "out.apng")
    assert len(found) > 3
    np.testing.assert_array_equal(found[-1], pixels("out.png"))
