"""ONNX and TensorFlow Lite: written with their converters, run by onnxruntime and ai-edge-litert.

By hand, before a release: `pytest -m export`, with what CONTRIBUTING.md says installed.
"""

import io
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import feed_forward
from nst_jax.export import flat
from nst_jax.feed_forward import johnson, style_files
from tests import browser, small

# Symbolic sizes are no numbers; and the warnings of other people's converters are not ours to fix.
pytestmark = [
    pytest.mark.export,
    pytest.mark.usefixtures("as_users_do"),
    pytest.mark.filterwarnings("ignore"),
]

SHAPE = (40, 48)


@pytest.fixture(scope="module")
def styles26():
    params = feed_forward.load_styles26()
    shares = np.zeros(26, np.float32)
    shares[[3, 19]] = 0.4, 0.6
    given = {"content": small.picture("chelsea", *SHAPE), "shares": shares}
    expected = feed_forward.stylize_mixture(params, given["content"], shares)
    return nst.export.styles26_model(params), given, np.asarray(expected)


@pytest.fixture(scope="module")
def arbitrary():
    params = feed_forward.load_arbitrary()
    given = {
        "content": small.picture("chelsea", *SHAPE),
        "style": small.picture("starry_night", 64, 50),
    }
    vector = feed_forward.style_vector(params, given["style"])
    expected = feed_forward.stylize_with(params, given["content"], vector)
    return nst.export.arbitrary_model(params), given, np.asarray(expected)


# --- ONNX -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnxruntime():
    pytest.importorskip("jax2onnx", reason="install the extra `onnx`")
    return pytest.importorskip("onnxruntime")


def run_onnx(onnxruntime, path, given):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True)), session.get_modelmeta()


@pytest.mark.parametrize(
    ("encoding", "largest", "bytes_at_most"),
    [("float32", 1e-4, 1.0e6), ("float16", 5e-3, 0.7e6), ("int8", 1e-4, 0.6e6)],
)
def test_the_26_styles_in_onnx(styles26, onnxruntime, tmp_path, encoding, largest, bytes_at_most):
    model, given, expected = styles26
    path = tmp_path / "model.onnx"
    nst.export.save(path, model, to="onnx", shape=SHAPE, encoding=encoding)
    assert path.stat().st_size < bytes_at_most
    found, meta = run_onnx(onnxruntime, path, given)
    np.testing.assert_allclose(found["image"], expected, atol=largest)
    assert "Apache-2.0" in json.loads(meta.custom_metadata_map["weights"])["licence"]
    assert len(json.loads(meta.custom_metadata_map["styles"])) == 26


def test_arbitrary_styles_in_onnx(arbitrary, onnxruntime, tmp_path):
    model, given, expected = arbitrary
    path = tmp_path / "model.onnx"
    style_shape = given["style"].shape[:2]
    nst.export.save(path, model, to="onnx", shape=SHAPE, style_shape=style_shape, encoding="int8")
    assert path.stat().st_size < 4e6
    found, _ = run_onnx(onnxruntime, path, given)
    np.testing.assert_allclose(found["image"], expected, atol=1e-4)


def python_of_the_page(number):
    """Return a block of Python of docs/export.md, by its number."""
    text = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number]


def test_the_pages_python_for_onnx_runs(arbitrary, onnxruntime, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nst.export.save("arbitrary.onnx", arbitrary[0], to="onnx")
    names = {}
    exec(compile(python_of_the_page(1), "docs/export.md", "exec"), names)
    assert names["image"].shape == (384, 384, 3)


def painted_by(networks, given):
    """Return the picture that this package paints from the inputs of a program."""
    if "shares" in given:
        return feed_forward.stylize_mixture(networks["styles26"], given["content"], given["shares"])
    vector = feed_forward.style_vector(networks["arbitrary"], given["style"])
    return feed_forward.stylize_with(networks["arbitrary"], given["content"], vector)


@pytest.mark.parametrize("name", ["styles26", "arbitrary"])
def test_networks_take_any_size_in_onnx(name, styles26, arbitrary, onnxruntime, tmp_path):
    networks = {
        "styles26": feed_forward.load_styles26(),
        "arbitrary": feed_forward.load_arbitrary(),
    }
    model, given, _ = {"styles26": styles26, "arbitrary": arbitrary}[name]
    path = tmp_path / "model.onnx"
    assert nst.export.save(path, model, to="onnx")["size"] == "any"
    for shape, style_shape in (((16, 16), (17, 30)), ((39, 22), (64, 41)), ((40, 48), (16, 16))):
        given = given | {"content": small.picture("chelsea", *shape)}
        if "style" in given:
            given |= {"style": small.picture("starry_night", *style_shape)}
        found, _ = run_onnx(onnxruntime, path, given)
        np.testing.assert_allclose(found["image"], painted_by(networks, given), atol=1e-4)


def test_a_trained_network_takes_any_size_in_onnx(onnxruntime, tmp_path):
    params = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1)
    network = johnson.StyleNetwork(params, ("wave", "mosaic"))
    path, shares = tmp_path / "model.onnx", np.float32([0.3, 0.7])
    model = nst.export.trained_model(style_files.ReadStyle(network, {}, ""))
    nst.export.save(path, model, to="onnx")
    for shape in ((16, 16), (39, 22)):
        content = small.picture("chelsea", *shape)
        found, _ = run_onnx(onnxruntime, path, {"content": content, "shares": shares})
        expected = johnson.stylize_trained(params, content, shares)
        np.testing.assert_allclose(found["image"], expected, atol=1e-4)


def test_features_of_any_size_in_onnx(params, onnxruntime, tmp_path):
    taps = ("relu1_1", "relu3_1")
    path = tmp_path / "features.onnx"
    model = nst.export.features_model(params, taps=taps)
    nst.export.save(path, model, to="onnx", shape="any")
    for shape in ((23, 31), (48, 20)):
        image = small.picture("chelsea", *shape)
        found, _ = run_onnx(onnxruntime, path, {"images": image})
        for tap, activations in nst.features(params, image, taps).items():
            np.testing.assert_allclose(found[tap] / 255, activations / 255, atol=1e-4)


def test_updates_in_onnx(params, onnxruntime, tmp_path):
    recipe = small.shallow()
    model = nst.export.step_model(params, recipe)
    path = tmp_path / "step.onnx"
    nst.export.save(path, model, to="onnx", shape=SHAPE)
    content, style = small.picture("chelsea", *SHAPE), small.picture("starry_night", 28, 20)
    programs, weights = model.programs, model.weights
    targets = flat.by_path(programs["measure"].call(weights, content, style))
    state = programs["init"].call(weights, jax.numpy.asarray(content))
    expected, step = state["state"], jax.jit(programs["step"].call)
    given = {name: np.asarray(array) for name, array in flat.by_path(state | targets).items()}
    for _ in range(4):
        expected = step(weights, expected, {n.split("/", 1)[1]: x for n, x in targets.items()})
        expected = expected["new_state"]
        found, _ = run_onnx(onnxruntime, path, given)
        given |= {name.replace("new_state", "state"): array for name, array in found.items()}
    np.testing.assert_allclose(given["state/canvas"], expected["canvas"], atol=1e-4)


def test_what_jax2onnx_cannot_convert_is_said(params, onnxruntime, tmp_path):
    model = nst.export.step_model(params, small.shallow())
    said = (
        r"`shape`: jax2onnx cannot convert 'step' for the size 'any' \(.*\); give a size, or take"
    )
    with pytest.raises(ValueError, match=said):
        nst.export.save(tmp_path / "model.onnx", model, to="onnx", shape="any")
    assert list(tmp_path.iterdir()) == []


# --- In a browser ---------------------------------------------------------------------------------


def test_the_page_paints_in_a_browser_without_network(styles26, onnxruntime, tmp_path):
    if not (browser.chromium() and browser.onnxruntime_web()):
        pytest.skip("needs chromium, and the npm package onnxruntime-web at $ONNXRUNTIME_WEB")
    model, given, _ = styles26
    nst.export.save(tmp_path / "model.onnx", model, to="onnx", shape=SHAPE, encoding="int8")
    picture = np.round(255 * given["content"]).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    found, asked = browser.painted(tmp_path, 7, timeout=120)
    found = json.loads(found)
    assert found["styles"] == model.facts["styles"] and "Apache-2.0" in found["ready"]
    assert found["said"].startswith("48x40 px in ")
    shares = np.zeros(26, np.float32)
    shares[7] = 1
    image = feed_forward.stylize_mixture(
        feed_forward.load_styles26(), (picture / 255).astype(np.float32), shares
    )
    painted = np.reshape(found["image"], (*SHAPE, 4))[..., :3]
    # Half a level of 8 bits for rounding, and 1e-4.
    np.testing.assert_allclose(painted / 255, image, atol=0.5 / 255 + 1e-4)
    package = f"/{browser.PACKAGE}/dist/ort"
    own = {
        "/harness.html",
        "/index.html",
        "/model.onnx",
        "/photo.png",
        "/style.png",
        "/favicon.ico",
    }
    assert all(path in own or path.startswith(package) for path in asked)


# --- TensorFlow Lite ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def litert():
    pytest.importorskip("tensorflow", reason="install the extra `tflite`")
    return pytest.importorskip("ai_edge_litert.interpreter")


def run_tflite(litert, path, given):
    return litert.Interpreter(model_path=str(path)).get_signature_runner()(**given)


@pytest.mark.parametrize(
    ("encoding", "largest", "mean", "bytes_at_most"),
    [
        ("float32", 1e-4, 1e-5, 0.8e6),
        ("float16", 2e-2, 2e-3, 0.5e6),
        ("int8", 0.3, 2e-2, 0.4e6),
    ],
)
def test_the_26_styles_in_tflite(
    styles26, litert, tmp_path, encoding, largest, mean, bytes_at_most
):
    model, given, expected = styles26
    path = tmp_path / "model.tflite"
    nst.export.save(path, model, to="tflite", shape=SHAPE, encoding=encoding)
    assert path.stat().st_size < bytes_at_most
    difference = np.abs(run_tflite(litert, path, given)["image"] - expected)
    assert difference.max() < largest and difference.mean() < mean


def test_the_pages_python_for_tflite_runs(styles26, litert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nst.export.save("styles26.tflite", styles26[0], to="tflite", encoding="int8")
    names = {}
    exec(compile(python_of_the_page(2), "docs/export.md", "exec"), names)
    assert names["image"].shape == (384, 384, 3)


def test_arbitrary_styles_in_tflite(arbitrary, litert, tmp_path):
    model, given, expected = arbitrary
    path = tmp_path / "model.tflite"
    style_shape = given["style"].shape[:2]
    nst.export.save(path, model, to="tflite", shape=SHAPE, style_shape=style_shape)
    found = run_tflite(litert, path, given)["image"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_tflite_file_says_where_its_weights_come_from(styles26, litert, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    model, _, _ = styles26
    path = tmp_path / "model.tflite"
    nst.export.save(path, model, to="tflite", shape=(16, 16))
    file = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    (entry,) = (entry for entry in file.metadata if entry.name == b"nst_jax")
    said = json.load(io.BytesIO(bytes(file.buffers[entry.buffer].data)))
    assert "Apache-2.0" in said["weights"]["licence"] and said["model"] == "styles26"
    assert file.description == model.summary.encode()
