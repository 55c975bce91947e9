"""Damaged files: each is read as what it was, or refused in one line; nothing else may happen."""

import contextlib
import hashlib
import json
import os
import time
from unittest import mock

import h5py
import jax
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import _hdf5, checkpoints, images, recipes
from nst_jax._types import Params
from nst_jax.app import recipe_files
from nst_jax.app.batch import manifests
from nst_jax.recipes import toml
from nst_jax.vgg import LAYERS
from nst_jax.weights import convert
from nst_jax.weights import params as params_module
from tests import small, test_convert
from tests.stress import trials as stress

SAME, OTHER = "read, the same", "read, other numbers"


# --- The trials themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("within", [None, 5])
def test_damage_is_damage(within):
    sound = b"abc" * 50
    seen = {stress.damaged(sound, np.random.default_rng([0, i]), within=within) for i in range(200)}
    assert sound not in seen and len(seen) > 100
    if within:
        assert {one[:5] == sound[:5] for one in seen} == {False, True}


def _raise(path):
    raise KeyError("missing")


def _hang(path):
    time.sleep(60)


def _crash(path):
    os.abort()


def _take_memory(path):
    return bytes(8 * 2**30)


def _refuse(path):
    raise ValueError("two\nlines")


def _accept(path):
    return 1


def never_read(found):
    raise AssertionError(f"a damaged file was read: {found}")


FAULTS = {
    _raise: "KeyError",
    _hang: "_refused_or_checked has not returned after 2 s",
    _crash: "_refused_or_checked ended its process: -6",
    _take_memory: "MemoryError",
    _refuse: "two.*nlines",
    _accept: "a damaged file was read",
}
COSTLY = (_crash, _take_memory)  # their processes are started again


@pytest.mark.parametrize(
    "read",
    [pytest.param(f, marks=pytest.mark.long) if f in COSTLY else f for f in FAULTS],
    ids=lambda read: read.__name__,
)
def test_an_input_that_fails_is_kept_and_named(tmp_path, worker, read):
    path = tmp_path / "input"
    path.write_bytes(b"x")

    limit = {"seconds": 2} if read is _hang else {}  # only the hang is to be ended early

    def trial(rng, number):
        return stress.read_or_refuse(worker, path, read, never_read, **limit)

    with pytest.raises(AssertionError, match=FAULTS[read]) as failed:
        stress.run("failing", 3, trial, seed=5)
    assert path.exists()
    assert failed.value.__notes__ == [
        f"the input that failed is kept: {path}",
        "failing: trial 0 of seed 5",
    ]


def damage(worker, sound, trials, name, read, check, *args, within=None):
    """Damage a file again and again, and let it be read.

    Args:
      worker: the process that reads.
      sound: path of the sound file, which must be read as what `check` calls the same.
      trials: number of trials.
      name: what is tried.
      read: reads a file, or raises ValueError.
      check: asserts what was read; returns the outcome.
      *args: what both get besides the path.
      within: in every second trial the damage begins among the first so many bytes.
    """
    data = sound.read_bytes()

    def trial(rng, number):
        path = sound.with_name(f"damaged-{number}{sound.suffix}")
        near = within if number % 2 else None
        path.write_bytes(stress.damaged(data, rng, within=near))
        return stress.read_or_refuse(worker, path, read, check, *args)

    return stress.run(f"damaged {name}", trials, trial)


# --- Pictures -----------------------------------------------------------------------------------------

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".webp": "WebP", ".tif": "TIFF"}


def load_picture(path, pixels):
    return images.load(path)


def check_picture(found, pixels):
    assert found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    return SAME if np.array_equal(found, pixels) else OTHER


@stress.counts(40, 2000)
@pytest.mark.parametrize("suffix", PICTURES)
def test_pictures(tmp_path, worker, suffix, trials):
    sound = tmp_path / f"sound{suffix}"
    images.save(sound, small.picture("chelsea", 24, 32))
    pixels = images.load(sound)
    found = damage(
        worker, sound, trials, PICTURES[suffix], load_picture, check_picture, pixels, within=128
    )
    # PNG has checksums, so whatever is read is what was written.
    assert suffix != ".png" or found[OTHER] == 0


# --- Weights files and checkpoints --------------------------------------------------------------------


def layers_of(path):
    """Return the arrays of a weights file by the names of layers and of their parts."""
    return {
        f"{layer}/{part}": np.asarray(value)
        for layer, parts in nst.load_params(path).layers.items()
        for part, value in parts.items()
    }


def arrays_equal(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], value) for name, value in expected.items()
    )


def load_weights(path, expected):
    return layers_of(path)


def check_same(found, expected):
    """A check for files with a digest of their numbers: what is read must be what was written."""
    assert arrays_equal(found, expected)
    return SAME


def load_checkpoint(path, expected):
    return position_of(checkpoints.load(path))


def position_of(checkpoint):
    fields = checkpoint._asdict()
    history = jax.tree.map(np.asarray, fields.pop("history")._asdict())
    arrays = fields.pop("arrays") | history.pop("style_layers") | history
    return arrays | {"fields": np.asarray(json.dumps(fields, sort_keys=True))}


@stress.counts(3, 60)
def test_weights(tmp_path, worker, params, trials):
    sound = tmp_path / "sound.h5"
    nst.save_params(sound, params)
    damage(worker, sound, trials, "weights files", load_weights, check_same, layers_of(sound))


@pytest.fixture
def checkpoint(tmp_path, position):
    """A file with a position after one interval of updates."""
    checkpoints.save(tmp_path / "sound.h5", position)
    return tmp_path / "sound.h5"


@stress.counts(40, 1000)
def test_checkpoints(checkpoint, worker, trials):
    expected = position_of(checkpoints.load(checkpoint))
    damage(
        worker,
        checkpoint,
        trials,
        "checkpoints",
        load_checkpoint,
        check_same,
        expected,
        within=2048,
    )


# --- Files of HDF5 without a checksum of their bytes --------------------------------------------------

# A small file is read in a second, after some for the start of the process that reads it first.
REHEARSAL_SECONDS = 40.0

# The network with a 64th of the channels, so that files are small.
NARROW = {name: (max(3, i // 64), max(1, o // 64)) for name, (i, o) in LAYERS.items()}


@contextlib.contextmanager
def narrow():
    """Let weights files have the layers of the narrow network."""
    with (
        mock.patch.object(params_module, "LAYERS", NARROW),
        mock.patch.object(convert, "LAYERS", NARROW),
        mock.patch.object(_hdf5, "REHEARSAL_SECONDS", REHEARSAL_SECONDS),
    ):
        yield


def narrow_layers():
    """Return weights of the narrow network."""
    rng = np.random.default_rng(0)
    return {
        name: {
            "kernel": rng.normal(size=(3, 3, inputs, outputs)).astype(np.float32),
            "bias": rng.normal(size=outputs).astype(np.float32),
        }
        for name, (inputs, outputs) in NARROW.items()
    }


def without_last_line(path):
    """Remove the checksum of a file's bytes, as in files of earlier versions."""
    path.write_bytes(path.read_bytes()[: -_hdf5.LAST_LINE_LENGTH])


def load_narrow(path, expected):
    with narrow():
        return layers_of(path)


@stress.counts(1, 40)
def test_weights_of_earlier_versions(tmp_path, worker, trials):
    sound = tmp_path / "sound.h5"
    with narrow():
        nst.save_params(sound, Params(narrow_layers(), "vgg19-caffe", "caffe-bgr"))
        without_last_line(sound)
        expected = layers_of(sound)
    name = "weights files without a checksum of their bytes"
    damage(worker, sound, trials, name, load_narrow, check_same, expected, within=2048)


def rehearse_checkpoint(path, expected):
    with narrow():
        return load_checkpoint(path, expected)


@stress.counts(1, 40)
def test_checkpoints_of_earlier_versions(checkpoint, worker, trials):
    without_last_line(checkpoint)
    expected = position_of(checkpoints.load(checkpoint))
    name = "checkpoints without a checksum of their bytes"
    damage(worker, checkpoint, trials, name, rehearse_checkpoint, check_same, expected, within=2048)


def check_numbers(found, expected):
    """A check for files without a digest: numbers that are no others than they were, or the same."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype
    return SAME if arrays_equal(found, expected) else OTHER


def convert_narrow(path, expected):
    with narrow():
        return converted(path)


def converted(path, encoding=None):
    """Return the layers that a file becomes; a refused file leaves no weights file."""
    out = path.with_name(f"{path.name}-out.h5")
    try:
        convert.convert(path, out, encoding=encoding)
        return layers_of(out)
    except ValueError:
        assert not out.exists()
        raise
    finally:
        out.unlink(missing_ok=True)


@stress.counts(1, 60)
def test_keras_files(tmp_path, worker, trials):
    sound = tmp_path / "keras.h5"
    with h5py.File(sound, "w") as file:
        for name, layer in narrow_layers().items():
            for part, value in layer.items():
                file[f"{test_convert.KERAS[name]}/{part}:0"] = value
    expected = convert_narrow(sound, None)
    damage(
        worker, sound, trials, "Keras files", convert_narrow, check_numbers, expected, within=4096
    )


# --- Files of torch -----------------------------------------------------------------------------------

TORCH = {"zip": test_convert.write_zip, "legacy": test_convert.write_legacy}


def torch_checks(kind, found):
    """Assert what is promised of a kind of torch file: a zip file has checksums of its members."""
    assert kind == "legacy" or found[OTHER] == 0
    assert found["refused"] or found.total() < 10


@stress.counts(60, 3000)
@pytest.mark.parametrize("kind", TORCH)
def test_torch_files(tmp_path, worker, kind, trials):
    sound, layers = tmp_path / "sound.pth", narrow_layers()
    TORCH[kind](sound, test_convert.torchvision(layers))
    expected = convert_narrow(sound, None)
    for name, layer in layers.items():
        for part, value in layer.items():
            assert np.array_equal(expected[f"{name}/{part}"], value)
    name = f"torch files, {kind}"
    found = damage(
        worker, sound, trials, name, convert_narrow, check_numbers, expected, within=4096
    )
    torch_checks(kind, found)


def convert_whole(path, digest):
    """Convert a file; return the digest of what it became."""
    return digest_of(converted(path, "float16"))


def digest_of(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def check_digest(found, digest):
    return SAME if found == digest else OTHER


@stress.counts(1, 20)
@pytest.mark.parametrize("kind", TORCH)
def test_torch_files_of_the_whole_network(tmp_path, worker, params, kind, trials):
    layers = {
        name: {part: np.asarray(value, np.float16) for part, value in layer.items()}
        for name, layer in params.layers.items()
    }
    sound = tmp_path / "sound.pth"
    TORCH[kind](sound, test_convert.torchvision(layers))
    digest = worker.call(convert_whole, sound, None, seconds=stress.READING_SECONDS)
    assert digest == digest_of(
        {
            f"{name}/{part}": value.astype(np.float32)
            for name, layer in layers.items()
            for part, value in layer.items()
        }
    )
    found = damage(
        worker,
        sound,
        trials,
        f"torch files of 40 MB, {kind}",
        convert_whole,
        check_digest,
        digest,
        within=8192,
    )
    torch_checks(kind, found)


# --- Recipes and manifests ----------------------------------------------------------------------------


def check_recipe(found):
    again = toml.from_toml(toml.to_toml(found))
    assert jax.tree.leaves(again) == jax.tree.leaves(found)
    return "read, a sound recipe"


def load_recipe(path):
    return recipe_files.named_or_read(str(path))


@stress.counts(60, 3000)
@pytest.mark.parametrize("name", ["default", "gatys-2015"])
def test_recipes(tmp_path, worker, name, trials):
    sound = tmp_path / "sound.toml"
    sound.write_text(toml.to_toml(recipes.PRESETS[name]))
    damage(worker, sound, trials, f"recipes, {name}", load_recipe, check_recipe)


def check_rows(found):
    assert found and all(str(row.content) and row.styles for row in found)
    return "read, rows with pictures"


@stress.counts(60, 3000)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_manifests(tmp_path, worker, suffix, trials):
    cells = [
        {"content": f"p{i}.png", "style": "a.png:0.7;b.png:0.3", "output": f"o{i}.png"}
        for i in range(6)
    ]
    lines = [json.dumps(row) for row in cells]
    if suffix == ".csv":
        lines = ["content,style,output", *(",".join(row.values()) for row in cells)]
    sound = tmp_path / f"sound{suffix}"
    sound.write_text("\n".join(lines) + "\n")
    damage(worker, sound, trials, f"manifests, {suffix[1:]}", manifests.read_manifest, check_rows)
