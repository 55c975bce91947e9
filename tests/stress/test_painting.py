"""All recipes, precisions and starts at 48 px; names and links; pipes that nobody reads."""

import itertools
import os

import jax
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import images, recipes
from nst_jax.recipes import starts, toml
from tests import small
from tests.stress import trials as stress

STARTS = [None, starts.Noise(), starts.WhiteNoise()]
PRECISIONS = ["float32", "tensorfloat32", "bfloat16"]
COMBINATIONS = list(itertools.product(sorted(recipes.PRESETS), PRECISIONS, STARTS))
# The longest is 244 bytes: a temporary name beside it must not be longer than 255.
NAMES = [
    "-o.png",
    "a b.png",
    "n\u00e4me.png",
    "\U0001f408.png",
    "[x].png",
    "a;b.png",
    "a" * 240 + ".png",
]


@stress.counts(1, len(COMBINATIONS))
def test_all_recipes_precisions_and_starts(params, trials):
    content = small.picture("chelsea", 32, 48)
    style = small.picture("starry_night", 40, 48)

    def trial(rng, number):
        recipe, precision, init = COMBINATIONS[number]
        run = nst.paint(
            params,
            content,
            style,
            recipe=recipes.PRESETS[recipe],
            size=48,
            steps=2,
            precision=precision,
            init=init,
            key=jax.random.key(number),
        )
        last = run.finish()
        image = np.asarray(last.image)
        assert max(image.shape[:2]) >= 48 and image.shape[2] == 3
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
        assert np.isfinite(last.losses.total) or last.broke_at >= 0
        return "painted" if last.broke_at < 0 else "diverged, last finite canvas kept"

    stress.run("recipes, precisions and starts", trials, trial)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "fast.toml").write_text(toml.to_toml(small.shallow(steps=2)))
    images.save(tmp_path / "photo.png", small.picture("chelsea", 24, 32))
    images.save(tmp_path / "art.png", small.picture("starry_night", 28, 20))
    return tmp_path


@stress.counts(1, len(NAMES))
def test_names_and_links(here, trials):
    def trial(rng, number):
        folder = here / str(number)
        folder.mkdir()
        name, linked = NAMES[number], folder / "link.png"
        linked.symlink_to(here / "photo.png")
        argv = ["stylize", "-q", "--recipe", here / "fast.toml", "-o", f"./{name}", "--"]
        stress.finish(*argv, linked.name, here / "art.png", cwd=folder)
        assert images.load(folder / name).shape == (24, 32, 3)
        assert sorted(os.listdir(folder)) == sorted([name, "link.png"])
        return "painted"

    stress.run("names and links", trials, trial)


@stress.counts(1, 20)
def test_a_pipe_that_nobody_reads(here, trials):
    def trial(rng, number):
        process = stress.start(
            "stylize", "photo.png", "art.png", "--recipe", "fast.toml", "-o", "out.png", cwd=here
        )
        process.stderr.close()  # as `2>&1 | head` does
        if number % 2:
            process.stdout.close()
        process.wait(300)
        process.stdout.close()
        assert images.load(here / "out.png").shape == (24, 32, 3)
        (here / "out.png").unlink()
        # Progress is optional; the path of the result on standard output is not.
        assert process.returncode in ((0, 1) if number % 2 else (0,))
        return f"painted, exit code {process.returncode}"

    stress.run("pipes that nobody reads", trials, trial)
