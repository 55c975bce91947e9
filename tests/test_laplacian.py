"""The Laplacian pyramid of a canvas against torch: its levels, their gradients, and their updates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax.optimizers import Adam, RMSprop, collapse, decompose, over_pyramid
from tests import small

SHAPE = (37, 22, 3)  # odd sides, whose halves are rounded down
RULES = {"Adam": Adam(learning_rate=0.02), "RMSprop": RMSprop(learning_rate=0.002)}


def loss(image):
    """Return a smooth loss that couples pixels and is not quadratic; for jax and torch alike."""
    return (
        ((image - 0.3) ** 2).sum()
        + ((image[1:] - image[:-1] ** 2) ** 2).sum()
        + ((image[:, 1:] * image[:, :-1]) ** 2).sum()
    )


def resized(torch, x, height, width):
    return torch.nn.functional.interpolate(x, (height, width), mode="bilinear")


def torch_levels(torch, picture, levels):
    """Return torch's pyramid of a picture [1, 3, h, w], fine to coarse."""
    found = []
    for _ in range(levels):
        height, width = picture.shape[2:]
        half = resized(torch, picture, max(height // 2, 1), max(width // 2, 1))
        found.append(picture - resized(torch, half, height, width))
        picture = half
    return [*found, picture]


def torch_picture(torch, levels):
    picture = levels[-1]
    for detail in levels[-2::-1]:
        picture = detail + resized(torch, picture, *detail.shape[2:])
    return picture


def to_torch(torch, picture):
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None]


def from_torch(picture):
    return picture.detach()[0].permute(1, 2, 0).numpy()


@partial(jax.jit, static_argnames=("levels", "steps", "height"))
def trace(rule, start, *, levels, steps=12, height=None):
    """Return the canvases of a run over a pyramid, the start first."""
    transformation = over_pyramid(rule.transformation(), levels, height)

    def step(carry, _):
        x, state = carry
        value, gradient = jax.value_and_grad(lambda x: loss(x[:height]))(x)
        updates, state = transformation.update(gradient, state, x, value=value)
        return (optax.apply_updates(x, updates), state), x

    return jax.lax.scan(step, (start, transformation.init(start)), length=steps)[1]


# --- Levels ---------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("levels", [0, 1, 5, 8])
def test_levels_are_those_of_torch(torch, levels, x64):
    picture = small.noise(0, *SHAPE)
    found = decompose(picture, levels)
    theirs = torch_levels(torch, to_torch(torch, picture), levels)
    assert len(found) == len(theirs) == levels + 1
    for mine, other in zip(found, theirs, strict=True):
        assert_allclose(mine, from_torch(other), rtol=0, atol=1e-12)
    assert_allclose(collapse(found), from_torch(torch_picture(torch, theirs)), atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16, 3), SHAPE, (5, 1, 3)])
def test_a_pyramid_collapses_to_its_picture(shape, x64):
    picture = small.noise(1, *shape)
    for levels in (0, 2, 8):
        assert_allclose(collapse(decompose(picture, levels)), picture, rtol=0, atol=1e-13)


def test_an_even_picture_is_all_in_the_coarsest_level():
    *details, rest = decompose(jnp.full(SHAPE, 0.25), 3)
    assert all(np.abs(detail).max() < 1e-6 for detail in details)
    assert_allclose(rest, np.full((4, 2, 3), 0.25), rtol=1e-6)


# --- Updates --------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("name", RULES)
def test_updates_of_levels_are_those_of_torch(torch, name, x64):
    start, levels = jnp.asarray(small.noise(2, *SHAPE)), 4
    found = trace(RULES[name], start, levels=levels)
    variables = torch_levels(torch, to_torch(torch, start), levels)
    variables = [level.clone().requires_grad_() for level in variables]
    rule = getattr(torch.optim, name)(variables, lr=RULES[name].learning_rate)
    rule.param_groups[0].update(eps=1e-8)
    for canvas in found:
        image = torch_picture(torch, variables)
        assert_allclose(canvas, from_torch(image), rtol=0, atol=1e-9)
        rule.zero_grad()
        loss(image[0].permute(1, 2, 0)).backward()
        rule.step()
    assert np.abs(found[-1] - found[0]).max() > 0.01  # and it went somewhere


def test_a_level_is_moved_in_other_steps_than_pixels():
    start = jnp.asarray(small.noise(3, *SHAPE), jnp.float32)
    pixels, levels = (trace(RULES["Adam"], start, levels=n) for n in (0, 4))
    # Adam's first step is its rate in every variable, and five levels add up in a pixel.
    rate = RULES["Adam"].learning_rate
    assert_allclose(np.abs(pixels[1] - pixels[0]).max(), rate, rtol=1e-3)
    assert np.abs(levels[1] - levels[0]).max() > 2 * rate


@pytest.mark.parametrize("name", RULES)
def test_rows_of_padding_change_nothing_and_stay_zero(name, x64):
    start = jnp.asarray(small.noise(4, *SHAPE))
    whole = trace(RULES[name], start, levels=3)
    padded = jnp.pad(start, ((0, 11), (0, 0), (0, 0)))
    found = trace(RULES[name], padded, levels=3, height=SHAPE[0])
    assert_allclose(found[:, : SHAPE[0]], whole, rtol=0, atol=1e-12)
    assert_array_equal(found[:, SHAPE[0] :], 0)


def test_rows_of_a_vmap_are_single_runs(x64):
    starts = jnp.asarray(small.noise(5, 2, *SHAPE))
    together = jax.jit(jax.vmap(lambda x: trace(RULES["Adam"], x, levels=3)))(starts)
    for row, start in zip(together, starts, strict=True):
        assert_allclose(row, trace(RULES["Adam"], start, levels=3), rtol=0, atol=1e-10)


def test_a_rule_may_read_the_levels_of_the_canvas(x64):
    picture, seen = jnp.asarray(small.noise(6, *SHAPE)), []

    def update(updates, state, params=None, **extra):
        seen.append(params)
        return jax.tree.map(jnp.zeros_like, updates), state

    rule = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    over = over_pyramid(rule, 3)
    over.update(picture, over.init(picture), picture)
    for mine, expected in zip(seen[0], decompose(picture, 3), strict=True):
        assert_allclose(mine, expected)


def test_the_state_is_no_larger_than_four_thirds_of_that_of_pixels():
    canvas = jax.ShapeDtypeStruct((512, 512, 3), jnp.float32)

    def size(levels):
        rule = over_pyramid(Adam().transformation(), levels)
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(rule.init, canvas)))

    assert size(0) < size(8) < 1.34 * size(0)
