"""Damaged files: each is read as what it was, or refused in one line; nothing else may happen."""

import json

import jax
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import checkpoints, images, recipes
from nst_jax.app.batch import rows
from nst_jax.recipes import toml
from nst_jax.weights import convert
from tests import small, test_convert
from tests.stress import trials as stress


def test_damage_is_damage():
    seen = {stress.damaged(b"abc" * 50, np.random.default_rng([0, i])) for i in range(200)}
    assert b"abc" * 50 not in seen and len(seen) > 100


def test_an_input_that_fails_is_kept_and_named(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"x")

    def trial(rng, number):
        return stress.read_or_refuse(path, lambda: {}["missing"], never_read)

    with pytest.raises(KeyError) as failed:
        stress.run("failing", 3, trial, seed=5)
    assert path.exists()
    assert failed.value.__notes__ == [
        f"the input that failed is kept: {path}",
        "failing: trial 0 of seed 5",
    ]


@stress.counts(40, 2000)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_pictures(tmp_path, suffix, trials):
    sound = tmp_path / f"sound{suffix}"
    images.save(sound, small.picture("chelsea", 24, 32))
    data, pixels = sound.read_bytes(), images.load(sound)

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}{suffix}"
        path.write_bytes(stress.damaged(data, rng))

        def check(found):
            assert found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.float32
            assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
            same = np.array_equal(found, pixels)
            # PNG has checksums, so whatever is read is what was written.
            assert same or suffix != ".png"
            return "read, same pixels" if same else "read, other pixels"

        return stress.read_or_refuse(path, lambda: images.load(path), check)

    stress.run(f"pictures {suffix}", trials, trial)


@stress.counts(3, 60)
def test_weights(tmp_path, params, trials):
    sound = tmp_path / "sound.h5"
    nst.save_params(sound, params)
    data = sound.read_bytes()

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}.h5"
        path.write_bytes(stress.damaged(data, rng))
        return stress.read_or_refuse(path, lambda: nst.load_params(path), never_read)

    stress.run("weights", trials, trial)


def never_read(found):
    raise AssertionError(f"a damaged file was read: {type(found)}")


@stress.counts(40, 2000)
def test_checkpoints(tmp_path, params, content, style, trials):
    shots = nst.paint(params, content, style, recipe=small.shallow())
    next(shots)
    sound = tmp_path / "sound.h5"
    checkpoints.save(sound, shots.checkpoint())
    data = sound.read_bytes()

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}.h5"
        path.write_bytes(stress.damaged(data, rng))
        return stress.read_or_refuse(path, lambda: checkpoints.load(path), never_read)

    stress.run("checkpoints", trials, trial)


@stress.counts(60, 3000)
@pytest.mark.parametrize("write", [test_convert.write_zip, test_convert.write_legacy])
def test_torch_files(tmp_path, write, trials):
    state = {f"features.{i}.weight": np.zeros((4, 3, 3, 3), np.float32) for i in (0, 2)}
    write(tmp_path / "sound.pth", state)
    data = (tmp_path / "sound.pth").read_bytes()
    out = tmp_path / "out.h5"

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}.pth"
        path.write_bytes(stress.damaged(data, rng))
        # Even undamaged it is no VGG-19, so it must be refused, and nothing written.
        outcome = stress.read_or_refuse(path, lambda: convert.convert(path, out), never_read)
        assert not out.exists()
        return outcome

    stress.run(f"torch files {write.__name__}", trials, trial)


@stress.counts(60, 3000)
@pytest.mark.parametrize("name", ["default", "gatys-2015"])
def test_recipes(tmp_path, name, trials):
    data = toml.to_toml(recipes.PRESETS[name]).encode()

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}.toml"
        path.write_bytes(stress.damaged(data, rng))

        def check(found):
            again = toml.from_toml(toml.to_toml(found))
            assert jax.tree.leaves(again) == jax.tree.leaves(found)
            return "read, a sound recipe"

        return stress.read_or_refuse(path, lambda: toml.from_toml(path.read_text()), check)

    stress.run(f"recipes {name}", trials, trial)


@stress.counts(60, 3000)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_manifests(tmp_path, suffix, trials):
    cells = [
        {"content": f"p{i}.png", "style": "a.png:0.7;b.png:0.3", "output": f"o{i}.png"}
        for i in range(6)
    ]
    lines = [json.dumps(row) for row in cells]
    if suffix == ".csv":
        lines = ["content,style,output", *(",".join(row.values()) for row in cells)]
    data = "\n".join(lines).encode() + b"\n"

    def trial(rng, number):
        path = tmp_path / f"damaged-{number}{suffix}"
        path.write_bytes(stress.damaged(data, rng))

        def check(found):
            assert found and all(str(row.content) and row.styles for row in found)
            return "read, rows with pictures"

        return stress.read_or_refuse(path, lambda: rows.read_manifest(path), check)

    stress.run(f"manifests {suffix}", trials, trial)
