"""How weights files and checkpoints are stored as HDF5: unchanged bytes, checks, and messages."""

import hashlib
import os
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest

from nst_jax import _hdf5, checkpoints
from nst_jax._types import Checkpoint, Losses, Params
from nst_jax.vgg import LAYERS
from nst_jax.weights import params, save_params

# The format of files that exist. A new digest here means that both formats need a new version,
# unless only the arrangement of the same contents changed: by the HDF5 library, by its driver that
# writes them, by the storage of attributes, or by what follows the HDF5 file.
WEIGHTS = {
    "float32": "a661d01080caa48701d302ac5755a8a53598902f45bf0c4a91b17451a01bf792",
    "float16": "0d214560a6be5afe6bc51e7ec57ab9b373aeaad888334606e340587e3d74f1de",
    "codes": "29c616943bb16b557fcf67c4facd3fd43389ff89fda6d96e53ef5c032c92b90a",
}
CHECKPOINT = "81bf20922403f623e8ea741dd904557f90726f8083e12be1389a7382a634521b"

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

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


# --- Writing and reading --------------------------------------------------------------------------


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
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "is damaged or cut short; make it again (")


def test_a_file_cannot_declare_more_than_it_contains(tmp_path):
    with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
        file.create_dataset("d", (10**12,), "f4", chunks=(1024,))
    refused(tmp_path / "a.h5", "declares 4000")


# --- Full disks -----------------------------------------------------------------------------------

# HDF5 crashes the process if a write fails, so this is tried in a process of its own. There a file may
# have so many bytes and no more, and writing beyond fails as on a full disk.
FULL = """
import resource
import sys
from pathlib import Path
import numpy as np
from nst_jax import checkpoints
from nst_jax._types import Checkpoint, Losses, Params
from nst_jax.weights import params

folder = Path(sys.argv[1])
narrow = {name: (3, 8) for name in params.LAYERS}
params.LAYERS = narrow
layers = {name: {"kernel": np.ones((3, 3, 3, 8)), "bias": np.ones(8)} for name in narrow}
weights = Params(layers, "vgg19-caffe", "caffe-bgr")
one = np.ones(1, np.float32)
scales, device = [{"size": [40, 30], "steps": 4}], {"platform": "cpu", "kind": "cpu"}
canvas = {"canvas": np.ones((30, 40, 3), np.float32)}
losses = Losses(one, one, one, one, {})
checkpoint = Checkpoint(0, 0, canvas, losses, {}, scales, device)
writers = {
    "w.h5": lambda: params.save_params(folder / "w.h5", weights),
    "c.h5": lambda: checkpoints.save(folder / "c.h5", checkpoint),
}
for name, write in writers.items():
    write()
    before = (folder / name).read_bytes()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for limit in (0, 50, 1000, len(before) // 2, len(before) - 20, len(before) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            write()
            failed = "written in full"
        except (OSError, ValueError) as error:
            failed = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert (folder / name).read_bytes() == before
        print(failed)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_full_disk_is_an_error_and_the_old_file_stays(tmp_path):
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    child = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    assert child.returncode == 0, (child.returncode, child.stderr)
    weights_file = f"`path`: '{tmp_path / 'w.h5'}' cannot be written (File too large)"
    checkpoint_file = f"cannot write '{tmp_path / 'c.h5'}': File too large"
    assert child.stdout.splitlines() == [weights_file] * 6 + [checkpoint_file] * 6
    assert sorted(os.listdir(tmp_path)) == ["c.h5", "w.h5"]


def test_an_interrupt_during_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupted(file, length):
        raise KeyboardInterrupt

    before = written(tmp_path / "a.h5").read_bytes()
    monkeypatch.setattr(_hdf5, "_crc32", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == before


# --- Damaged files --------------------------------------------------------------------------------


def test_no_flipped_byte_reaches_hdf5(tmp_path, monkeypatch):
    path = written(tmp_path / "a.h5")
    whole, arrays = path.read_bytes(), read(path)
    end = len(whole) - _hdf5.LAST_LINE_LENGTH

    def open_nothing(*args, **options):
        raise AssertionError

    monkeypatch.setattr(h5py, "File", open_nothing)
    for at in range(0, end, 31):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        refused(path, "is damaged or cut short; make it again (its checksum differs)")
    monkeypatch.undo()
    # Without the whole last line, as in files of earlier versions, HDF5 reads the same arrays.
    for length in (end, end + 5):
        path.write_bytes(whole[:length])
        assert {name: array.tolist() for name, array in read(path).items()} == {
            name: array.tolist() for name, array in arrays.items()
        }


def test_a_known_checksum_is_verified_before_hdf5_opens_the_file(tmp_path):
    path = written(tmp_path / "a.h5")
    source = _hdf5.Source(path, "file", FORMAT, checksum=zlib.crc32(path.read_bytes()))
    with _hdf5.opened(source) as file:
        assert _hdf5.arrays_in(source, file)["a"] == 7
    other = source._replace(checksum=source.checksum ^ 1)
    with pytest.raises(ValueError, match="its checksum differs"), _hdf5.opened(other):
        pass


def test_a_file_cannot_name_other_files_to_be_opened(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(24))
    for kind in ("external", "virtual"):
        with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
            if kind == "external":
                file.create_dataset("d", (3,), "f8", external=[(str(secret), 0, 24)])
            else:
                layout = h5py.VirtualLayout((3,), "f8")
                layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
                file.create_virtual_dataset("d", layout)
        refused(tmp_path / "a.h5", "has dataset 'd' stored in other files; make it again")
    with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
        file["link"] = h5py.ExternalLink(str(secret), "/x")
    assert list(read(tmp_path / "a.h5")) == ["a", "b/c"]  # no link is followed


def test_only_arrays_of_numbers_are_read(tmp_path):
    for value in ("text", h5py.Empty("f4"), np.array([b"ab"])):
        with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
            file["d"] = value
        refused(tmp_path / "a.h5", "is damaged or cut short; make it again (dataset 'd' is not")
    with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
        file.attrs["format"] = [1, 2]
    refused(tmp_path / "a.h5", "is not a test file of nst-jax")


# --- Files without a checksum -----------------------------------------------------------------------


def without_checksum(path):
    """Write a file as an earlier version did."""
    data = written(path).read_bytes()
    path.write_bytes(data[: -_hdf5.LAST_LINE_LENGTH])
    return path


@pytest.mark.parametrize(
    ("doing", "said"),
    [
        ("while True: pass", "HDF5 had not read it after 1 s"),
        ("import os; os.abort()", "HDF5 crashes when it reads it"),
    ],
)
def test_what_hangs_or_crashes_hdf5_does_so_elsewhere(tmp_path, monkeypatch, doing, said):
    monkeypatch.setattr(_hdf5, "REHEARSAL_SECONDS", 1.0)
    monkeypatch.setattr(_hdf5, "_REHEARSAL", doing)
    path = tmp_path / "a.h5"
    refused(without_checksum(path), f"is damaged or cut short; make it again ({said})")
    written(path)
    assert list(read(path)) == ["a", "b/c"]  # its checksum was verified, so nothing is tried
    monkeypatch.setattr(_hdf5.sys, "executable", "")
    assert list(read(without_checksum(tmp_path / "b.h5"))) == ["a", "b/c"]


def test_a_file_without_a_checksum_is_read_once_by_another_process(tmp_path, monkeypatch):
    path, run, codes = without_checksum(tmp_path / "a.h5"), subprocess.run, []

    def counted(*words, **options):
        child = run(*words, **options)
        codes.append(child.returncode)
        return child

    monkeypatch.setattr(_hdf5.subprocess, "run", counted)
    assert list(read(path)) == list(read(path)) == ["a", "b/c"]
    assert codes == [0]
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "is damaged or cut short; make it again (")
    assert codes == [0, 1]


def test_too_little_memory_is_no_damage(tmp_path):
    def read_too_much(path):
        with _hdf5.opened(_hdf5.Source(path, "file", FORMAT)):
            raise MemoryError("Unable to allocate")

    with pytest.raises(MemoryError):
        read_too_much(written(tmp_path / "a.h5"))
    # Without a checksum, the size of an array may itself be the damage.
    with pytest.raises(ValueError, match="is damaged or cut short"):
        read_too_much(without_checksum(tmp_path / "b.h5"))


@pytest.mark.parametrize("text", ["nst-jax test", "größer", "", "two\nlines"])
def test_attributes_have_fixed_lengths_and_come_back(tmp_path, text):
    with _hdf5.created(tmp_path / "a.h5") as file:
        _hdf5.set_attributes(file, {"text": text, "number": 3})
    with h5py.File(tmp_path / "a.h5", "r") as file:
        stored = file.attrs.get_id("text").dtype
        assert stored == np.dtype(f"S{max(1, len(text.encode()))}")
        assert h5py.check_string_dtype(stored).encoding == "utf-8"
        assert _hdf5.attribute(file, "text") == text and _hdf5.attribute(file, "number") == 3


def test_attributes_of_variable_length_are_read(tmp_path):
    with h5py.File(written(tmp_path / "a.h5"), "r+") as file:
        file.attrs["format"] = "nst-jax test"
        assert h5py.check_string_dtype(file.attrs.get_id("format").dtype).length is None
    assert list(read(tmp_path / "a.h5")) == ["a", "b/c"]


def test_hdf5_reads_nothing_back_of_what_it_writes(tmp_path, monkeypatch):
    calls, arrays = [], {f"group {i % 9}/{i}": np.full(1000 * i, i) for i in range(200)}

    def counted(name):
        method = getattr(_hdf5._NeverFailing, name)

        def call(stream, *args):
            calls.append(name)
            return method(stream, *args)

        return call

    for name in ("readinto", "write"):
        monkeypatch.setattr(_hdf5._NeverFailing, name, counted(name))
    with _hdf5.created(tmp_path / "a.h5") as file:
        _hdf5.store(file, arrays)
    assert len(calls) > len(arrays) and set(calls) == {"write"}
    with h5py.File(tmp_path / "a.h5") as file:
        found = {name: dataset[()] for name, dataset in _hdf5.all_datasets(file).items()}
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


# --- Messages about layouts -----------------------------------------------------------------------


def test_differences_of_layouts_show_both_sides_and_are_few():
    expected = _hdf5.layout_of({name: np.zeros(2, np.float32) for name in "abcde"})
    found = {"a": ((2,), "int8"), "f": ((1, 2), "float32")}
    assert _hdf5.layout_differences(expected, found) == (
        "a is [2] int8, expected [2] float32; b is missing, expected [2] float32; "
        "c is missing, expected [2] float32; and 3 more"
    )
    assert _hdf5.layout_differences(expected, expected) == ""
