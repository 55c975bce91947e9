"""Precisions: what programs request from the device, dtypes of arrays, effects on the result."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, optimizers, recipes
from nst_jax.recipes import toml
from nst_jax.vgg import layers, precision, winograd
from tests import small
from tests.test_lowering import arguments

pytestmark = pytest.mark.optimized

BFLOAT16 = jnp.bfloat16


def at(name, recipe, **network):
    """Return a recipe whose network has this precision."""
    chosen = precision.PRECISIONS[name]
    return replace(recipe, network=replace(recipe.network, precision=chosen, **network))


def relative(found, exact):
    return float(np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact))


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "tensorfloat32", "bfloat16", "auto"])
def test_each_has_its_name(name):
    assert precision.precision_named(name).name == name


def test_other_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"`precision`: .*'float16'.*'bfloat16'"):
        precision.precision_named("float16")
    with pytest.raises(TypeError, match=r"`precision`: expected a name .*, got 32"):
        precision.precision_named(32)


def test_a_recipe_file_can_name_it():
    recipe = at("bfloat16", recipes.TF, remat=True)
    text = toml.to_toml(recipe)
    assert 'precision = "bfloat16"' in text and "remat = true" in text
    assert toml.from_toml(text) == recipe


# --- What programs request from the device --------------------------------------------------------


def products(params, recipe, platform):
    """Return the products of a lowered run, and its text."""
    lowered = export.export(jax.jit(nst.run), platforms=[platform])(*arguments(params, recipe))
    text = lowered.mlir_module()
    kinds = ("stablehlo.dot_general", "stablehlo.convolution")
    return [line for line in text.splitlines() if any(kind in line for kind in kinds)], text


@pytest.mark.parametrize("platform", ["cuda", pytest.param("tpu", marks=pytest.mark.long)])
def test_every_product_requests_tensorfloat32(params, platform):
    found, text = products(params, at("tensorfloat32", recipes.TF), platform)
    assert len(found) >= 2 * 13 + 2 * 5
    assert [line for line in found if len(re.findall(r"\bHIGH\b", line)) != 2] == []
    assert not re.search(r"bf16>", text)


@pytest.mark.parametrize("platform", [pytest.param("cuda", marks=pytest.mark.long), "tpu"])
def test_every_product_has_bfloat16_factors_and_statistics_are_summed_in_float32(params, platform):
    found, _ = products(params, at("bfloat16", recipes.TF), platform)
    assert len(found) >= 2 * 13 + 2 * 5
    wide, narrow = 0, 0
    for line in found:
        left, right, result = re.search(
            r": \(tensor<(\S+)>, tensor<(\S+)>\) -> tensor<(\S+)>", line
        ).groups()
        assert left.endswith("xbf16") and right.endswith("xbf16"), line
        assert "HIGH" not in line
        wide, narrow = wide + result.endswith("xf32"), narrow + result.endswith("xbf16")
    assert (wide, narrow) == (5, len(found) - 5)  # the Gram matrices


# --- Dtypes of arrays -----------------------------------------------------------------------------


def test_only_activations_and_kernels_are_bfloat16(params, content, style):
    recipe = at("bfloat16", small.shallow())
    core = recipes.as_arrays(recipe.bare())
    targets = jax.eval_shape(nst.measure, params, content, style, core)
    assert targets.content["relu2_1"].dtype == BFLOAT16
    state = jax.eval_shape(nst.init, content, core)
    state, history = jax.eval_shape(nst.run, params, state, targets, core, 2)
    kept = (targets.style, state.canvas, state.pending, state.losses, state.opt_state, history)
    floats = [x for x in jax.tree.leaves(kept) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    formed = nst.vgg.with_forms(params, ["relu2_1"], precision=precision.BFLOAT16)
    assert formed.layers["conv2_1"]["kernel"].dtype == BFLOAT16
    assert formed.layers["conv2_1"]["transposed"].dtype == BFLOAT16


def test_winograd_convolution_uses_the_rounded_kernel_of_direct_convolution(params):
    # Otherwise targets, which are measured by direct convolution, would be those of another network.
    formed = nst.vgg.with_forms(
        params, ["relu3_2"], shape=(256, 256), precision=precision.BFLOAT16
    ).layers["conv3_2"]
    for plain, form in (("kernel", "winograd"), ("transposed", "winograd_transposed")):
        assert formed[form].dtype == BFLOAT16
        assert_array_equal(formed[form], winograd.transform_kernel(formed[plain]))
    x = jnp.abs(small.noise(0, 1, 64, 64, 256)).astype(BFLOAT16)
    direct, fast = (
        np.asarray(layers.conv3x3(x, formed["kernel"], forms), np.float64)
        for forms in (None, formed)
    )
    assert np.linalg.norm(fast - direct) < 0.01 * np.linalg.norm(direct)
    # The sum of squares, as in Gram matrices. Kernels that are not rounded change it by 1.2e-3.
    assert_allclose(np.sum(fast**2), np.sum(direct**2), rtol=3e-4)


def test_a_gram_matrix_of_bfloat16_is_summed_in_float32():
    maps = small.noise(0, 40, 50, 8).astype(BFLOAT16)
    flat = np.asarray(maps, np.float64).reshape(-1, 8)
    found = losses.gram(maps, lax.Precision.DEFAULT)
    assert found.dtype == jnp.float32
    assert_allclose(found, flat.T @ flat, rtol=1e-5, atol=1e-3)
    gradient = jax.grad(lambda x: jnp.sum(losses.gram(x, lax.Precision.DEFAULT)))(maps)
    assert gradient.dtype == BFLOAT16


def test_a_mask_is_not_rounded_before_it_multiplies_bfloat16_features():
    maps = (2 + small.noise(1, 40, 50, 8)).astype(BFLOAT16)
    flat = np.asarray(maps, np.float64).reshape(-1, 8)
    # 0.7 rounded to bfloat16 is 0.6992. With it, the matrix would be too small by 2.2e-3.
    found = losses.masked_gram(maps, jnp.full((40, 50), 0.7))
    assert found.dtype == jnp.float32
    assert_allclose(found, 0.7**2 * flat.T @ flat, rtol=5e-4)


# --- Effects on the result ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def true_loss(params):
    """Return a function that computes a picture's total loss in float32."""
    content, style = (jnp.asarray(small.picture(n, 32, 48)) for n in ("chelsea", "starry_night"))
    core = recipes.as_arrays(recipes.TF.bare())
    targets = jax.jit(nst.measure)(params, content, style, core)
    losses_of = jax.jit(nst.losses_of)
    return content, style, lambda image: float(losses_of(params, image, targets, core).total)


@pytest.mark.long
def test_a_run_in_bfloat16_ends_at_the_loss_of_float32(params, true_loss):
    content, style, loss = true_loss
    options = {"recipe": recipes.TF, "size": "as-is", "steps": 25}
    ends = {
        name: loss(nst.stylize(params, content, style, precision=name, **options))
        for name in ("float32", "bfloat16")
    }
    assert ends["float32"] < loss(content) / 3
    assert ends["bfloat16"] != ends["float32"]
    assert 0.95 * ends["float32"] < ends["bfloat16"] < 1.01 * ends["float32"]


# --- Rematerialisation ----------------------------------------------------------------------------


def test_remat_repeats_convolutions_in_the_backward_pass(params):
    kept, again = (
        sum("convolution" in line for line in products(params, recipe, "cuda")[0])
        for recipe in (recipes.TF, at("float32", recipes.TF, remat=True))
    )
    assert kept == 2 * 14  # to relu5_2
    assert again >= kept + 10


def test_remat_changes_no_number(params, content, style):
    found = {}
    for remat in (False, True):
        recipe = at("float32", small.shallow(), remat=remat)
        core = recipes.as_arrays(recipe.bare())
        targets = jax.jit(nst.measure)(params, content, style, core)

        def total(image, targets=targets, core=core):
            return nst.losses_of(params, image, targets, core).total

        gradient = jax.jit(jax.grad(total))
        again = list(small.primitives(jax.make_jaxpr(gradient)(content).jaxpr))
        found[remat] = (
            np.asarray(gradient(content[::-1])),
            sum(e.primitive.name.startswith(("remat", "checkpoint")) for e in again),
        )
    assert relative(found[True][0], found[False][0]) < 1e-6
    assert (found[False][1] == 0) and found[True][1] >= 2


# --- Strict promotion of types --------------------------------------------------------------------


def value_of(loss, canvas, other):
    """Return the value of a loss for features at one tap, or for pixels."""
    if isinstance(loss, losses.Variation):
        return loss(canvas[..., :3])
    if isinstance(loss, losses.ContentLoss):
        return loss(canvas, other)
    extent = losses.Extent(20, 20, jnp.zeros((), jnp.int32))
    return loss.distance(loss.measure(canvas), loss.target(loss.measure(other)), extent)


ALL = {**losses.STYLE_LOSSES, **losses.CONTENT_LOSSES, **losses.VARIATIONS}
JOINT = losses.MatchingLoss, losses.JointContentLoss


@pytest.mark.parametrize("dtype", [jnp.float32, BFLOAT16])
@pytest.mark.parametrize("name", [name for name in ALL if not isinstance(ALL[name], JOINT)])
def test_losses_and_their_gradients_promote_no_types(name, dtype):
    features = jax.ShapeDtypeStruct((4, 5, 6), dtype)
    with jax.numpy_dtype_promotion("strict"):
        found, gradient = jax.eval_shape(
            jax.value_and_grad(lambda *pair: value_of(ALL[name], *pair).astype(jnp.float32)),
            *(features, features),
        )
    assert found.shape == () and gradient.dtype == dtype


@pytest.mark.parametrize("name", ["nnst", "strotss"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_losses_of_all_taps_promote_no_types(name, kind, params):
    recipe = at(kind, recipes.PRESETS[name].replace(optimizer=optimizers.RMSprop()))
    core = recipes.as_arrays(recipe.bare()).at(0, [(32, 40)] * 2)
    image = jax.ShapeDtypeStruct((32, 40, 3), jnp.float32)

    def stepped(picture):
        targets, state = nst.measure(params, picture, picture, core), nst.init(picture, core)
        if core.terms.style_loss.matches is not None:
            state = nst.match(params, state, targets, picture, core, first=True)
        return nst.step(params, state, targets, core)

    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(stepped, image).pending.dtype == jnp.float32


def test_strict_promotion_of_types_changes_no_picture(params, content, style):
    recipe = small.shallow(steps=2).replace(optimizer=optimizers.RMSprop(), average_decay=0.9)
    found = []
    for promotion in ("strict", "standard"):
        core = recipes.as_arrays(recipe.bare())

        def painted(content, style, core=core):
            targets, state = nst.measure(params, content, style, core), nst.init(content, core)
            return nst.run(params, state, targets, core, 2)[0].average

        with jax.numpy_dtype_promotion(promotion):
            found.append(jax.jit(painted)(content, style))
    assert_array_equal(*found)
    assert relative(found[0], np.asarray(content)) > 1e-3
