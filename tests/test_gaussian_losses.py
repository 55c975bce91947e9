"""Losses of Gaussians: matrix roots, distances, gradients, by eigendecomposition and by torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, optimizers, recipes
from tests import small

GAUSSIAN = {
    name: loss
    for name, loss in losses.names.STATISTIC_LOSSES.items()
    if loss.sums is losses.moment_sums
}


def features(seed, *shape):
    """Return random features of unequal channels, some of them zero as after a ReLU."""
    draw, other = np.random.default_rng(seed), np.random.default_rng(99)
    mixed = draw.normal(size=shape) @ (np.eye(shape[-1]) + 0.3 * other.normal(size=2 * shape[-1:]))
    return jnp.asarray(np.maximum(mixed * np.linspace(0.2, 2.0, shape[-1]), 0))


@partial(jax.jit, static_argnums=0)  # eager operations would be compiled one by one
def distance(loss, canvas, style):
    count = losses.positions(canvas)
    target = loss.target(loss.measure(style))
    return loss.distance(loss.measure(canvas), target, losses.Extent(count, count))


def power(matrix, exponent):
    """Return a power of a symmetric matrix, by eigendecomposition in float64."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return (vectors * np.maximum(values, 1e-300) ** exponent) @ vectors.T


def moments(maps):
    """Return the rows, their mean and their covariance, in float64."""
    rows = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    mean = rows.mean(axis=0)
    return rows, mean, (rows - mean).T @ (rows - mean) / len(rows)


def with_eigenvalues(*values):
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=2 * (len(values),)))
    return (rotation * np.asarray(values)) @ rotation.T


# --- Matrix roots ---------------------------------------------------------------------------------


def test_roots_are_those_of_the_eigenvalues(x64):
    matrix = with_eigenvalues(3.0, 1.0, 0.5, 0.2)
    for roots in (losses.plain_roots, losses.scaled_roots):
        root, inverse = roots(jnp.asarray(matrix))
        assert_allclose(root, power(matrix, 0.5), atol=1e-6)
        assert_allclose(inverse, power(matrix, -0.5), atol=1e-6)


def test_scaled_rounds_reach_eigenvalues_that_plain_rounds_do_not(x64):
    matrix = with_eigenvalues(1.0, 1e-2, 1e-4, 1e-6)
    exact = power(matrix, 0.5)
    (scaled, inverse), (plain, _) = (
        roots(jnp.asarray(matrix)) for roots in (losses.scaled_roots, losses.plain_roots)
    )
    assert_allclose(scaled, exact, atol=1e-7)
    assert_allclose(inverse, power(matrix, -0.5), rtol=1e-3)
    assert np.abs(plain - exact).max() > 1e-4


def test_the_gradient_of_a_trace_is_half_the_inverse_root(x64):
    matrix = with_eigenvalues(3.0, 1.0, 0.1, 1e-3)
    value, gradient = jax.value_and_grad(losses.trace_of_root)(jnp.asarray(matrix))
    assert_allclose(value, np.trace(power(matrix, 0.5)), rtol=1e-8)
    assert_allclose(gradient, power(matrix, -0.5) / 2, rtol=1e-6, atol=1e-8)


def gradient_of_trace_as_in_the_source(root, rounds):
    """Return the gradient of a root's trace by crowsonkb's iterations, in float64."""
    norm = np.sqrt(np.sum(root**2))
    a, q = root / norm, np.eye(len(root)) / norm
    for _ in range(rounds):
        factor = 3 * np.eye(len(root)) - a @ a
        q = (q @ factor - a.T @ (a.T @ q - q @ a)) / 2
        a = a @ factor / 2
    return q / 2


# With the smaller eigenvalues, 12 rounds do not converge: such errors have to be the source's, too.
@pytest.mark.parametrize("values", [(2.0, 1.0, 0.7, 0.5), (3.0, 1e-2, 1e-4, 1e-6)])
@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-10), ("float32", 1e-4)])
def test_the_gradient_of_a_trace_by_lyapunovs_equation_is_that_of_all_products(
    x64, values, dtype, close
):
    matrix = jnp.asarray(with_eigenvalues(*values), dtype)
    value, gradient = jax.value_and_grad(losses.trace_of_root_by_lyapunov)(matrix)
    root = np.asarray(losses.plain_roots(matrix)[0], np.float64)
    assert_allclose(value, np.trace(root), rtol=close / 100)
    expected = gradient_of_trace_as_in_the_source(root, 12)
    assert gradient.dtype == dtype
    assert_allclose(gradient, expected, rtol=0, atol=close * np.abs(expected).max())


def test_the_gradient_of_a_trace_by_lyapunovs_equation_solves_it(x64):
    matrix = jnp.asarray(with_eigenvalues(2.0, 1.0, 0.7, 0.5))
    root = losses.plain_roots(matrix)[0]
    gradient = jax.grad(losses.trace_of_root_by_lyapunov)(matrix)
    assert_allclose(root @ gradient + gradient @ root, np.eye(4), atol=1e-6)


def test_a_matrix_of_zeros_has_the_root_zero():
    for roots in (losses.plain_roots, losses.scaled_roots):
        root, inverse = roots(jnp.zeros((3, 3)))
        assert_array_equal(root, np.zeros((3, 3)))
        assert np.all(np.isfinite(inverse))


# --- The Wasserstein-2 distance -------------------------------------------------------------------


def relative_by_eigenvalues(canvas, style):
    """Return the relative distance and its gradient to the canvas' features, in float64."""
    rows, mean, cov = moments(canvas)
    style_rows, style_mean, style_cov = moments(style)
    count = len(mean)
    size = np.mean(style_rows**2)
    ours, theirs = (c / size + 1e-3 * np.eye(count) for c in (cov, style_cov))
    half = power(theirs, 0.5)
    inner = half @ ours @ half
    spread = np.trace(ours) + np.trace(theirs) - 2 * np.trace(power(inner, 0.5))
    value = np.mean((mean - style_mean) ** 2) / size + spread / count
    of_cov = (np.eye(count) - half @ power(inner, -0.5) @ half) / (count * size)
    of_mean = 2 * (mean - style_mean) / (count * size)
    gradient = (of_mean + 2 * (rows - mean) @ of_cov) / len(rows)
    return value, gradient.reshape(canvas.shape)


def test_the_relative_distance_and_its_gradient_are_those_of_eigenvalues(x64):
    canvas, style = features(1, 9, 8, 6), features(2, 7, 9, 6)
    value, gradient = jax.value_and_grad(lambda x: distance(losses.WASSERSTEIN_RELATIVE, x, style))(
        canvas
    )
    expected, by_eigenvalues = relative_by_eigenvalues(canvas, style)
    # 12 scaled rounds bring eigenvalues to 6e-10 of their limits.
    assert_allclose(value, expected, rtol=1e-7)
    largest = np.abs(by_eigenvalues).max()
    assert_allclose(gradient, by_eigenvalues, rtol=0, atol=1e-6 * largest)


def test_the_relative_distance_in_float32_with_more_channels_than_positions():
    canvas, style = features(3, 7, 9, 128), features(4, 8, 12, 128)
    value, gradient = jax.value_and_grad(lambda x: distance(losses.WASSERSTEIN_RELATIVE, x, style))(
        canvas
    )
    expected, by_eigenvalues = relative_by_eigenvalues(canvas, style)
    assert gradient.dtype == jnp.float32
    assert_allclose(value, expected, rtol=1e-3)
    error = np.linalg.norm(gradient - by_eigenvalues) / np.linalg.norm(by_eigenvalues)
    assert error < 0.03


def test_the_absolute_distance_is_that_of_eigenvalues_where_those_are_alike(x64):
    canvas, style = small.noise(5, 40, 40, 4) + 2, 1.2 * small.noise(6, 40, 40, 4) + 1
    _, mean, cov = moments(canvas)
    _, style_mean, style_cov = moments(style)
    ours, theirs = (c + 1e-4 * np.eye(4) for c in (cov, style_cov))
    half = power(theirs, 0.5)
    spread = np.trace(ours + theirs - 2 * power(half @ ours @ half, 0.5))
    expected = (np.sum((mean - style_mean) ** 2) + spread) / 4
    assert_allclose(distance(losses.WASSERSTEIN_ABSOLUTE, canvas, style), expected, rtol=1e-6)


@pytest.mark.torch
def test_the_absolute_distance_and_its_gradient_are_those_of_torch(torch, x64):
    """Written from the formulas of the source, with its rounds, in another framework."""
    matmul, eye = torch.matmul, torch.eye(8, dtype=torch.float64)

    def root_of(matrix):
        norm = (matrix**2).sum().sqrt()
        y, z = matrix / norm, eye
        for _ in range(12):
            step = (3 * eye - matmul(z, y)) / 2
            y, z = matmul(y, step), matmul(step, z)
        return y * norm.sqrt()

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, matrix):
            root = root_of(matrix)
            ctx.save_for_backward(root)
            return root

        @staticmethod
        def backward(ctx, cotangent):
            (root,) = ctx.saved_tensors
            norm = (root**2).sum().sqrt()
            a, q = root / norm, cotangent / norm
            for _ in range(12):
                inner = 3 * eye - matmul(a, a)
                q = (matmul(q, inner) - matmul(a.T, matmul(a.T, q) - matmul(q, a))) / 2
                a = matmul(a, inner) / 2
            return q / 2

    def gaussian(maps):  # [c, h, w]
        rows = maps.flatten(1)
        mean = rows.mean(1)
        second = matmul(rows, rows.T) / rows.shape[1]
        return mean, second - torch.outer(mean, mean) + 1e-4 * eye

    canvas, style = features(7, 9, 8, 8), features(8, 7, 9, 8)
    x, y = (torch.tensor(np.asarray(maps)).permute(2, 0, 1) for maps in (canvas, style))
    x.requires_grad_(True)
    (mean, cov), (style_mean, style_cov) = gaussian(x), gaussian(y)
    half = root_of(style_cov)
    spread = torch.diag(style_cov + cov - 2 * Root.apply(half @ cov @ half)).mean()
    expected = ((mean - style_mean) ** 2).mean() + spread
    expected.backward()

    value, gradient = jax.value_and_grad(lambda x: distance(losses.WASSERSTEIN_ABSOLUTE, x, style))(
        canvas
    )
    assert_allclose(value, expected.item(), rtol=1e-12)
    assert_allclose(gradient, x.grad.permute(1, 2, 0).numpy(), rtol=1e-9, atol=1e-15)


def test_of_one_channel_it_is_the_difference_of_means_and_of_deviations(x64):
    canvas = jnp.asarray([1.0, 3.0, 1.0, 3.0]).reshape(2, 2, 1)  # mean 2, variance 1
    style = jnp.asarray([2.0, 8.0, 2.0, 8.0]).reshape(2, 2, 1)  # mean 5, variance 9, mean square 34
    deviations = np.sqrt(1 + 1e-4) - np.sqrt(9 + 1e-4)
    assert_allclose(
        distance(losses.WASSERSTEIN_ABSOLUTE, canvas, style), 3**2 + deviations**2, rtol=1e-9
    )
    deviations = np.sqrt(1 / 34 + 1e-3) - np.sqrt(9 / 34 + 1e-3)
    assert_allclose(
        distance(losses.WASSERSTEIN_RELATIVE, canvas, style), 9 / 34 + deviations**2, rtol=1e-9
    )
    # Both are Gaussians of one channel, so covariances are variances: 1 and 9.
    assert_allclose(
        distance(losses.MEAN_AND_COVARIANCE, canvas, style), 9 / 34 + 64 / 34**2, rtol=1e-12
    )
    assert_allclose(
        distance(losses.MEAN_AND_COVARIANCE_GRADIENT_SCALED, canvas, style), 3 + 8, rtol=1e-6
    )


def test_relative_losses_do_not_depend_on_the_magnitude_of_the_features():
    canvas, style = features(9, 8, 8, 6), features(10, 8, 8, 6)
    for loss in (losses.WASSERSTEIN_RELATIVE, losses.MEAN_AND_COVARIANCE):
        once, larger = distance(loss, canvas, style), distance(loss, 100 * canvas, 100 * style)
        assert_allclose(larger, once, rtol=1e-4)
        assert distance(loss, style, style) == pytest.approx(0, abs=1e-5)
    assert distance(losses.WASSERSTEIN_RELATIVE, 0 * style, style) == pytest.approx(1, abs=0.15)


# --- Covariances without an inverse ---------------------------------------------------------------

FLAT = {
    "black": jnp.zeros((4, 5, 64)),
    "one value": jnp.full((4, 5, 64), 30.0),
    "one pattern": jnp.broadcast_to(1e3 * jnp.arange(64.0), (4, 5, 64)),
    "one position differs": jnp.zeros((4, 5, 64)).at[0, 0].set(100.0),
    "noise": 10 * jnp.maximum(small.noise(11, 4, 5, 64), 0),
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", GAUSSIAN)
def test_covariances_without_an_inverse_have_finite_losses_and_gradients(name):
    maps = jnp.stack(list(FLAT.values()))

    def value(canvas, style):
        return distance(GAUSSIAN[name], canvas, style)

    of_pair = jax.value_and_grad(value)
    of_all = jax.vmap(jax.vmap(of_pair, in_axes=(None, 0)), in_axes=(0, None))
    values, gradients = jax.jit(of_all)(maps, maps)
    assert np.all(np.isfinite(values)) and np.all(np.isfinite(gradients))
    # Equal pictures have the distance 0. Two cases are left out: plain rounds do not reach all
    # eigenvalues; and where one position differs, the covariance has rank one, and the others of the
    # product's eigenvalues are under the rounding errors of float32 (the distance is 0.005 there).
    if name != "wasserstein_absolute":
        equal = dict(zip(FLAT, np.diag(values), strict=True))
        del equal["one position differs"]
        assert_allclose(list(equal.values()), 0, atol=1e-3)


def test_two_colours_differ_by_their_means():
    canvas, style = jnp.full((4, 5, 8), 2.0), jnp.full((6, 5, 8), 5.0)
    assert_allclose(distance(losses.WASSERSTEIN_ABSOLUTE, canvas, style), 9.0, rtol=1e-4)
    assert_allclose(distance(losses.WASSERSTEIN_RELATIVE, canvas, style), 9 / 25, rtol=1e-4)
    assert_allclose(distance(losses.MEAN_AND_COVARIANCE, canvas, style), 9 / 25, rtol=1e-4)


# --- Sums, blends, batches ------------------------------------------------------------------------


def test_a_blend_is_the_gaussian_of_both_styles_pixels():
    one, other = features(12, 6, 7, 5), 3 + features(13, 6, 7, 5)
    for loss in GAUSSIAN.values():
        blended = jax.tree.map(lambda a, b: (a + b) / 2, loss.measure(one), loss.measure(other))
        together = loss.measure(jnp.concatenate([one, other]))
        for mine, expected in zip(
            jax.tree.leaves(loss.target(blended)),
            jax.tree.leaves(loss.target(together)),
            strict=True,
        ):
            assert_allclose(mine, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_features_are_summed_in_float32():
    maps = features(14, 60, 60, 4).astype(jnp.bfloat16)
    found = losses.moment_sums(maps)
    rows = np.asarray(maps, np.float64).reshape(-1, 4)
    assert found.first.dtype == found.second.dtype == jnp.float32
    assert_allclose(found.first, rows.sum(axis=0), rtol=1e-5)
    assert_allclose(found.second, rows.T @ rows, rtol=1e-5)


# Values of T: the same everywhere, or another at each position.
MASKS = {
    "0.7": np.full((9, 8), 0.7),
    "0.3": np.full((9, 8), 0.3),
    "soft": np.random.default_rng(15).uniform(size=(9, 8)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masked_moments_of_bfloat16_are_those_of_one_weighted_covariance(kind):
    mask, varied = jnp.asarray(MASKS[kind], jnp.float32), features(16, 9, 8, 6) + 1
    flat = jnp.broadcast_to(varied[:1, :1], varied.shape)
    weights = np.square(np.asarray(mask, np.float64)).reshape(-1, 1)

    def moments_of(maps):
        sums = losses.masked_moment_sums(maps, mask)
        return losses.mean_moments(sums, jnp.sum(jnp.square(mask)))

    for maps in (varied.astype(jnp.bfloat16), flat.astype(jnp.bfloat16)):
        found = jax.jit(moments_of)(maps)
        rows = np.asarray(maps, np.float64).reshape(-1, 6)
        mean = np.sum(weights * rows, axis=0) / weights.sum()
        centred = rows - mean
        expected = (weights * centred).T @ centred / weights.sum()
        # The products of T and the features are rounded to 8 bits, which is 2^-9 of them at most.
        assert_allclose(found.first, mean, rtol=2**-8)
        assert_allclose(found.second, expected + np.outer(mean, mean), rtol=2**-7)
        covariance = np.asarray(losses.covariance(found))
        size = np.trace(found.second)
        assert np.linalg.eigvalsh(covariance)[0] > -1e-6 * size
        assert_allclose(np.trace(covariance), np.trace(expected), rtol=0.02, atol=1e-5 * size)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_masked_losses_of_flat_bfloat16_features_are_those_of_float32(name):
    loss, style = GAUSSIAN[name], features(17, 9, 8, 64)
    target = loss.target(loss.measure(style))
    flat = jnp.broadcast_to(style[3, 4] + 0.2, style.shape).astype(jnp.bfloat16)
    several = jnp.asarray(np.stack(list(MASKS.values())), jnp.float32)

    def value(maps, mask):
        sums = loss.masked_sums(maps, mask, jax.lax.Precision.HIGHEST)
        mean = loss.statistic(sums, jnp.sum(jnp.square(mask)))
        return loss.distance(mean, target, losses.Extent(72, 72))

    of_all = jax.jit(jax.vmap(jax.value_and_grad(value), in_axes=(None, 0)))
    rounded, gradients = of_all(flat, several)
    exact, _ = of_all(flat.astype(jnp.float32), several)
    assert_allclose(rounded, exact, rtol=0.01)
    assert np.all(np.isfinite(np.asarray(gradients, np.float32)))


@pytest.mark.parametrize("name", GAUSSIAN)
def test_all_products_use_all_bits_of_float32(name):
    maps = jnp.ones((4, 4, 6))

    def loss(x):
        found = GAUSSIAN[name]
        moments = found.statistic(found.sums(x, jax.lax.Precision.DEFAULT), 16)
        target = found.target(found.measure(maps))
        return found.distance(moments, target, losses.Extent(16, 16))

    equations = small.primitives(jax.make_jaxpr(jax.grad(loss))(maps).jaxpr)
    precisions = {e.params["precision"] for e in equations if e.primitive.name == "dot_general"}
    assert precisions == {2 * (jax.lax.Precision.HIGHEST,)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.long if n.startswith("mean_and") else ()) for n in GAUSSIAN],
)
def test_losses_are_the_same_compiled_and_mapped(name):
    canvases, style = features(15, 3, 6, 7, 8), features(16, 5, 6, 8)

    def value(x):
        return distance.__wrapped__(GAUSSIAN[name], x, style)

    gradient = jax.value_and_grad(value)
    apart = [gradient(x) for x in canvases]
    values, gradients = jax.jit(jax.vmap(gradient))(canvases)
    assert_allclose(values, [v for v, _ in apart], rtol=1e-4)
    for mine, (_, expected) in zip(gradients, apart, strict=True):
        assert_allclose(mine, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.long
@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_picture_comes_nearer_to_the_style(name, params, content, style):
    recipe = small.shallow(
        steps=8,
        content_taps=("relu1_1",),
        style_taps=("relu1_1",),
        style_loss=GAUSSIAN[name],
        style_weight=1.0,
        style_layer_weights=(1.0,),
        content_weight=0.0,
        tv_weight=0.0,
    ).replace(optimizer=optimizers.Adam(learning_rate=0.02))
    *_, last = nst.paint(params, content, style, recipe=recipe, every=8)
    assert last.losses.style < 0.8 * last.history.style[0]


def test_other_weights_compile_nothing(params, content, style, compilations):
    run, measure = jax.jit(nst.run), jax.jit(nst.measure)
    counts = []
    for weight in (1.0, 3.0):
        recipe = small.shallow(
            content_taps=("relu1_1",),
            style_taps=("relu1_1",),
            style_layer_weights=(1.0,),
            style_loss=losses.WASSERSTEIN_RELATIVE,
            content_loss=losses.CONTENT_RELATIVE,
            style_weight=weight,
        )
        core = recipes.as_arrays(recipe.bare())
        targets = measure(params, content, style, core)
        run(params, nst.init(content, core), targets, core, 2)
        counts.append(compilations())
    assert counts[1] == counts[0]


# --- Gradient-scaled squares, content relative to its size ----------------------------------------


def test_gradient_scaled_squares_by_hand():
    canvas = jnp.asarray([[[1.0, 2.0], [3.0, 4.0]]])
    content = jnp.asarray([[[1.0, 0.0], [0.0, 8.0]]])  # differences 0, 2, 3, -4
    assert_allclose(losses.CONTENT_GRADIENT_SCALED(canvas, content), 29 / 9, rtol=1e-6)
    assert_allclose(losses.CONTENT_RELATIVE(canvas, content), 29 / 65, rtol=1e-6)
    # One position: dG = [[0, 2], [2, 4]].
    one, other = jnp.asarray([[[1.0, 2.0]]]), jnp.asarray([[[1.0, 0.0]]])
    assert_allclose(distance(losses.GRAM_GRADIENT_SCALED, one, other), 24 / 8, rtol=1e-6)
    edge = jnp.zeros((2, 3, 3)).at[:, 2].set(2.0)  # 6 differences of 2
    assert_allclose(losses.GRADIENT_SCALED_VARIATION(edge), 24 / 12, rtol=1e-6)


def test_the_gradient_of_a_gradient_scaled_square_is_that_of_the_ratio(x64):
    d = np.asarray(small.noise(17, 5, 6))
    squares, absolutes = np.sum(d**2), np.sum(np.abs(d)) + 1e-8
    expected = 2 * d / absolutes - squares * np.sign(d) / absolutes**2
    gradient = jax.grad(losses.gradient_scaled_square)(jnp.asarray(d))
    assert_allclose(gradient, expected, rtol=1e-10)


def test_equal_pictures_have_no_gradient_scaled_loss_and_no_gradient():
    for loss in (losses.CONTENT_GRADIENT_SCALED, losses.CONTENT_RELATIVE):
        for maps in (jnp.zeros((3, 4, 5)), jnp.ones((3, 4, 5))):
            value, gradient = jax.value_and_grad(loss)(maps, maps)
            assert value == 0
            assert_array_equal(gradient, np.zeros(maps.shape))


def test_content_relative_to_its_size_is_1_for_a_canvas_without_features():
    maps = features(18, 4, 5, 6)
    assert_allclose(losses.CONTENT_RELATIVE(0 * maps, maps), 1, rtol=1e-6)
    assert_allclose(
        losses.CONTENT_RELATIVE(1e3 * maps + 1, 1e3 * maps),
        losses.CONTENT_RELATIVE(maps + 1e-3, maps),
        rtol=1e-3,
    )
