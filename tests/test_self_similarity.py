"""The self-similarity content loss: against other code, its properties, and unusual inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import losses
from nst_jax.losses import self_similarity as module
from tests import small

LOSS = losses.CONTENT_SELF_SIMILARITY
# Compiled as wholes: eager operations would be compiled one by one.
compiled = jax.jit(lambda canvas, content: LOSS(canvas, content))
value_and_gradient = jax.jit(jax.value_and_grad(lambda canvas, content: LOSS(canvas, content)))


def features(seed, *shape):
    """Return random features, about half of them zero as after a ReLU."""
    return jnp.asarray(np.maximum(np.random.default_rng(seed).normal(size=shape), 0))


def expected(canvas, content):
    """Return the loss of features [n, c] in float64, column by column."""

    def columns(x):
        x = np.asarray(x, np.float64)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        distances = 1 - unit @ unit.T
        return distances / distances.sum(axis=0)

    return np.abs(columns(canvas) - columns(content)).mean() * len(canvas)


def test_self_similarity_is_numpys(x64):
    canvas, content = features(0, 5, 6, 8), features(1, 5, 6, 8)
    wanted = expected(canvas.reshape(30, 8), content.reshape(30, 8))
    assert_allclose(compiled(canvas, content), wanted, rtol=1e-12)


@pytest.mark.torch
def test_self_similarity_and_its_gradient_are_torchs(torch, x64):
    canvas, content = features(2, 5, 6, 8), features(3, 5, 6, 8)
    mine, other = (
        torch.tensor(np.asarray(x).reshape(30, 8), requires_grad=True) for x in (canvas, content)
    )

    def columns(x):
        distances = 1 - torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
        return distances / distances.sum(0, keepdim=True)

    wanted = torch.mean(torch.abs(columns(mine) - columns(other))) * 30
    wanted.backward()
    found, gradient = value_and_gradient(canvas, content)
    assert_allclose(found, wanted.item(), rtol=1e-10)
    assert_allclose(gradient.reshape(30, 8), mine.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_self_similarity_by_hand():
    # Three vectors at right angles: every column is (0, 1/2, 1/2). Two of them equal: the columns are
    # (0, 0, 1), (0, 0, 1) and (1/2, 1/2, 0).
    content = jnp.eye(3)
    canvas = content.at[1].set(content[0])
    columns = jnp.asarray([1.0, 1.0, 0.0])  # sum of the absolute differences of each column
    assert_allclose(losses.self_similarity_distance(canvas, content), columns.mean(), rtol=1e-6)


def test_self_similarity_sees_neither_scale_nor_rotation_of_features():
    content = features(4, 5, 6, 8)
    rotation = jnp.linalg.qr(small.noise(5, 8, 8))[0]
    turned = 3 * jnp.einsum("hwc,cd->hwd", content, rotation)
    assert compiled(turned, content) < 1e-4 < 0.1 < compiled(content[::-1], content)


def test_self_similarity_is_the_same_eager_compiled_and_mapped():
    canvas, content = features(6, 3, 5, 6, 8), features(7, 3, 5, 6, 8)
    eager = LOSS(canvas, content)
    assert eager.shape == (3,)
    for found in (
        compiled(canvas, content),
        jax.vmap(LOSS)(canvas, content),
        jnp.stack([LOSS(a, b) for a, b in zip(canvas, content, strict=True)]),
    ):
        assert_allclose(found, eager, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 31, 32, 33, 64, 65, 100, 257])
def test_a_grid_has_at_most_32_positions_along_a_side_and_is_centred(side):
    places = np.arange(side)[module._every(side)]
    assert len(places) <= module.GRID and len(places) > min(side, module.GRID) / 2
    assert set(np.diff(places)) <= {-(-side // module.GRID)}
    assert 0 <= (side - 1 - places[-1]) - places[0] <= 1


def test_memory_does_not_grow_with_the_picture():
    def largest(side):
        maps = jax.ShapeDtypeStruct((side, side, 4), jnp.float32)
        jaxpr = jax.make_jaxpr(jax.grad(LOSS))(maps, maps)
        inner = [v.aval.size for e in small.primitives(jaxpr) for v in e.outvars]
        return max(size for size in inner if size != side * side * 4)

    assert largest(320) == largest(1024) == 1024**2


@pytest.mark.parametrize("value", [0.0, 1e-3, 1e15])
def test_flat_features_have_finite_losses_and_gradients(value):
    flat, content = jnp.full((4, 5, 6), value), features(8, 4, 5, 6)
    for canvas, other in ((flat, content), (content, flat), (flat, flat)):
        found, gradient = value_and_gradient(canvas, other)
        assert np.isfinite(found) and np.isfinite(gradient).all()
    assert compiled(flat, flat * 2) < 1e-2


def test_equal_pictures_have_no_loss_and_no_gradient():
    content = features(9, 4, 5, 6)
    found, gradient = jax.value_and_grad(LOSS)(content, content)
    assert found == 0
    assert_array_equal(gradient, 0)


def test_features_in_bfloat16_are_compared_in_float32():
    canvas, content = (features(seed, 5, 6, 8).astype(jnp.bfloat16) for seed in (10, 11))
    found, gradient = value_and_gradient(canvas, content)
    assert found.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    exact = compiled(*(x.astype(jnp.float32) for x in (canvas, content)))
    assert_allclose(found, exact, rtol=1e-6)


def test_self_similarity_says_that_it_needs_whole_pictures():
    assert not LOSS.additive
