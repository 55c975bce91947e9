"""Checks for every recipe that compares positions of the canvas with positions of the style.

In these checks, `recipe` is a variant that costs little, `pair` a content and a style, and `painted`
the picture that `stylize` paints of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import checkpoints, correspondence, recipes


def check_resumed(params, pair, recipe, painted, stop, folder):
    """Check that a run which was stopped after `stop` updates and resumed ends with the same bits."""
    shots = nst.paint(params, *pair, recipe=recipe, every=[stop])
    next(shots)
    next(shots)
    checkpoints.save(folder / "run.h5", shots.checkpoint())
    again = checkpoints.load(folder / "run.h5")
    last = nst.paint(params, *pair, recipe=recipe, resume=again).finish()
    assert_array_equal(last.image, painted)


def check_batch(params, pair, recipe, painted):
    """Check that the pictures of a batch are those painted alone."""
    content, style = pair
    other = np.ascontiguousarray(content[:, ::-1]), np.ascontiguousarray(style[::-1])
    found = nst.stylize_many(params, [content, other[0]], [style, other[1]], recipe=recipe)
    assert_allclose(found[0], painted, atol=2e-3)
    assert_allclose(found[1], nst.stylize(params, *other, recipe=recipe), atol=2e-3)


def check_target_size(loss, pictures, shapes, **options):
    """Check that the costs of a loss say how many bytes its target has; return the target's shapes."""
    precise = jax.lax.Precision.HIGHEST
    target = jax.eval_shape(lambda found: loss.target(found, shapes, precise, **options), pictures)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(target))
    assert loss.costs(pictures[0], shapes[0], pictures, shapes).target_bytes == size
    return target


def check_memory_estimate(params, at_scale, shape):
    """Check that the estimate of a scale's memory is within a fifth of what XLA counts.

    Args:
      params: the network's weights.
      at_scale: the recipe of one scale, from `Recipe.at`.
      shape: (height, width) of that scale.
    """
    recipe, network = recipes.as_arrays(at_scale.bare()), at_scale.network
    formed = nst.vgg.with_forms(
        params, at_scale.terms.taps, shape=shape, precision=network.precision_on()
    )
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    targets = jax.eval_shape(nst.measure, formed, picture, picture, recipe)
    state = jax.eval_shape(nst.init, picture, recipe)
    if (count := correspondence.number_of_matches(shape, recipe)) is not None:
        state = state._replace(matches=jax.ShapeDtypeStruct((count,), jnp.int32))
    loop = jax.jit(nst.run, donate_argnums=1)
    found = loop.lower(formed, state, targets, recipe, jnp.asarray(1)).compile().memory_analysis()
    counted = (
        found.temp_size_in_bytes
        + found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
    )
    estimate = nst.estimate_memory(shape, recipe=at_scale, platform="cpu")
    assert estimate.total == pytest.approx(counted, rel=0.2)
