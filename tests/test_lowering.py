"""The step lowers for platforms that this machine does not have, in full float32 precision."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

import nst_jax as nst
from nst_jax import recipes
from nst_jax._types import Targets

SHAPE = (32, 48, 3)


def arguments(params, recipe):
    """Describe the arguments of `run` by shape alone."""

    def shapes(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), tree)

    image = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    core = recipes.as_arrays(recipe.bare())
    targets = jax.eval_shape(nst.measure, params, image, image, core)
    state = jax.eval_shape(nst.init, image, core)
    steps = jax.ShapeDtypeStruct((), jnp.int32)
    return shapes(params), state, Targets(*targets), shapes(core), steps


PLATFORMS = ("cpu", "cuda", "tpu")
NAMES = ("default", "gatys-pytorch", "tf-tv")
# Each recipe and each platform, and both kinds of accelerator for the recipe with the most operations.
OFTEN = {("default", "cuda"), ("default", "tpu"), ("gatys-pytorch", "cpu"), ("tf-tv", "cuda")}


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        pytest.param(*pair, marks=() if pair in OFTEN else pytest.mark.long)
        for pair in itertools.product(NAMES, PLATFORMS)
    ],
)
def test_the_loop_lowers(params, name, platform):
    exported = export.export(jax.jit(nst.run), platforms=[platform])(
        *arguments(params, recipes.named(name))
    )
    module = exported.mlir_module()
    products = [
        line
        for line in module.splitlines()
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line
    ]
    # 13 convolutions to relu5_1 and their input gradients, 5 Grams and theirs.
    assert len(products) >= 2 * 13 + 2 * 5
    # Accelerators give float32 fewer bits unless every product asks for them.
    assert [line for line in products if line.count("HIGHEST") != 2] == []
    assert "callback" not in module
    assert not re.search(r"\bf64\b|xf64>|\bbf16\b|xf16>", module)


@pytest.mark.parametrize("platform", [pytest.param("cuda", marks=pytest.mark.long), "tpu"])
def test_a_batch_lowers(params, platform):
    values = arguments(params, recipes.DEFAULT)
    batched = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), (values[1], values[2])
    )
    many = jax.jit(jax.vmap(nst.run, in_axes=(None, 0, 0, None, None)))
    exported = export.export(many, platforms=[platform])(values[0], *batched, *values[3:])
    assert exported.out_avals[0].shape == (2,)


@pytest.mark.parametrize("platform", ["cuda", pytest.param("tpu", marks=pytest.mark.long)])
def test_a_batch_in_a_bucket_lowers(params, platform):
    values = arguments(params, recipes.DEFAULT)
    targets = values[2]._replace(size=jax.ShapeDtypeStruct((2,), jnp.int32))
    batched = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), (values[1], targets)
    )
    many = jax.jit(jax.vmap(nst.run, in_axes=(None, 0, 0, None, None)))
    exported = export.export(many, platforms=[platform])(values[0], *batched, *values[3:])
    module = exported.mlir_module()
    assert exported.out_avals[0].shape == (2,)
    assert "callback" not in module
    assert not re.search(r"\bf64\b|xf64>|\bbf16\b|xf16>", module)
