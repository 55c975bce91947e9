"""The envelope of weights files and checkpoints: the same bytes as ever, and one set of messages."""

import hashlib

import h5py
import numpy as np
import pytest

from nst_jax import _hdf5, checkpoints
from nst_jax._types import Checkpoint, Losses, Params
from nst_jax.vgg import LAYERS
from nst_jax.weights import params, save_params

# The format of files that exist. A new digest here means that both formats need a new version,
# unless only the HDF5 library changed how it arranges the same contents.
WEIGHTS = {
    "float32": "46e7fd558591eb89a847e266992a624647e523480f9c665cbf84737b29412dc9",
    "float16": "51c5e95bd7d49e637b07891ac840057fd413a0820308537a3ddefca834f7f7be",
    "codes": "65b57d8d0c548faa1533ebd7896aad8ced48f056e6bc727e949d0a2a77a2ae08",
}
CHECKPOINT = "db6474127d8daaf48bcc78703a2c123151024fa3ca59542109dd0908b968dfc3"

FORMAT = _hdf5.Format("nst-jax test", 3, "test file", "make it again", "not {name}", "update")


def ramp(*shape):
    """Return numbers that are exact in every floating-point type, and no more than 251 of them."""
    return (np.arange(np.prod(shape), dtype=np.float32) % 251 - 125).reshape(shape) / 128


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("encoding", WEIGHTS)
def test_the_bytes_of_a_weights_file_never_change(tmp_path, monkeypatch, encoding):
    narrow = {name: (max(3, i // 16), o // 16) for name, (i, o) in LAYERS.items()}
    monkeypatch.setattr(params, "LAYERS", narrow)
    layers = {n: {"kernel": ramp(3, 3, i, o), "bias": ramp(o)} for n, (i, o) in narrow.items()}
    weights, path = Params(layers, "vgg19-caffe", "caffe-bgr"), tmp_path / "a.h5"
    save_params(path, weights, encoding=encoding, origin="a ramp", licence="none")
    assert sha256(path) == WEIGHTS[encoding]


def test_the_bytes_of_a_checkpoint_never_change(tmp_path):
    layers = {"relu1_1": ramp(3) + 4, "relu2_1": ramp(3) + 5}
    checkpoint = Checkpoint(
        step=2,
        scale=0,
        arrays={
            "step": np.int32(2),
            "canvas": ramp(4, 5, 3),
            "opt_state/memory/filled": np.array([True, False]),
        },
        history=Losses(ramp(3), ramp(3) + 1, ramp(3) + 2, ramp(3) + 3, layers),
        facts={"terms.style_weight": 0.05, "name": "größer"},
        scales=[{"size": [5, 4], "steps": 4}],
        device={"platform": "cpu", "kind": "cpu"},
        notes={"seconds": [0.0, 0.5, 1.0]},
    )
    checkpoints.save(tmp_path / "run.h5", checkpoint)
    assert sha256(tmp_path / "run.h5") == CHECKPOINT


# --- Opening --------------------------------------------------------------------------------------


def written(path, *, version=3, name="nst-jax test"):
    with _hdf5.created(path) as file:
        file.attrs.update({"format": name, "version": version})
        _hdf5.store(file, {"b/c": np.arange(3.0), "a": np.int32(7)})
    return path


def read(path):
    source = _hdf5.Source(path, "file", FORMAT)
    with _hdf5.opened(source) as file:
        return _hdf5.arrays_in(source, file)


def test_what_is_stored_comes_back_in_the_order_of_names(tmp_path):
    found = read(written(tmp_path / "a.h5"))
    assert list(found) == ["a", "b/c"]
    assert found["a"] == 7 and found["a"].dtype == np.int32
    assert found["b/c"].tolist() == [0.0, 1.0, 2.0]


def test_each_array_is_passed_on_once_it_is_stored(tmp_path):
    seen = []
    with _hdf5.created(tmp_path / "a.h5") as file:
        arrays = {"b": np.zeros(2), "a": [1]}
        _hdf5.store(file, arrays, after_each=lambda name, array: seen.append((name, array.shape)))
    assert seen == [("a", (1,)), ("b", (2,))]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    before = written(tmp_path / "a.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt), _hdf5.created(tmp_path / "a.h5"):
        raise KeyboardInterrupt
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.h5"]


def refused(path, message):
    with pytest.raises(ValueError) as error:
        read(path)
    assert str(error.value).startswith(f"`file`: '{path}' {message}")
    assert "\n" not in str(error.value)


def test_every_file_of_another_kind_is_refused_by_what_it_is(tmp_path):
    path = tmp_path / "a.h5"
    refused(path, "does not exist; check the path")
    path.mkdir()
    refused(path, "is a folder; name a test file in it")
    path.rmdir()
    path.touch()
    refused(path, "is empty; make it again")
    path.write_bytes(b"something else")
    refused(path, "is not a test file of nst-jax; not a.h5")
    written(path, name="nst-jax other")
    refused(path, "is not a test file of nst-jax; not a.h5")
    written(path, version=4)
    refused(path, "has format version 4, expected 3; update")
    written(path)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "is damaged or cut short; make it again (")


def test_a_file_cannot_declare_more_than_it_contains(tmp_path):
    with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
        file.create_dataset("d", (10**12,), "f4", chunks=(1024,))
    refused(tmp_path / "a.h5", "declares 4000")


# --- Layouts --------------------------------------------------------------------------------------


def test_differences_of_layouts_show_both_sides_and_are_few():
    expected = _hdf5.layout_of({name: np.zeros(2, np.float32) for name in "abcde"})
    found = {"a": ((2,), "int8"), "f": ((1, 2), "float32")}
    assert _hdf5.layout_differences(expected, found) == (
        "a is [2] int8, expected [2] float32; b is missing, expected [2] float32; "
        "c is missing, expected [2] float32; and 3 more"
    )
    assert _hdf5.layout_differences(expected, expected) == ""
