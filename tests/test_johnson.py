"""Johnson's network: against NumPy in float64, mixtures of styles, any size, batches, bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax.feed_forward import johnson
from nst_jax.vgg.precision import AUTO, BFLOAT16, precision_on
from tests import small


@pytest.fixture(scope="module")
def network():
    """Return a small network whose norms are not those of a fresh one."""
    fresh = johnson.fresh_params(jax.random.key(3), 3, width=0.1, blocks=2)
    draw = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: x + 0.3 * draw.normal(size=x.shape).astype("f4") * (x.ndim == 2), fresh
    )


@pytest.fixture(scope="module")
def paint():
    return jax.jit(johnson.stylize_trained, static_argnames="precision")


def by_hand(network, image, shares):
    """Compute the network in NumPy and float64, from the papers' description."""
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), network)
    shares = np.asarray(shares, np.float64)
    shares = shares / shares.sum()

    def layer(x, part, stride=1):
        kernel = part["conv"]["kernel"]
        margin = kernel.shape[0] // 2
        x = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (0, 1))
        y = np.einsum("hwikl,klio->hwo", windows[::stride, ::stride], kernel)
        y = (y - y.mean((0, 1))) / np.sqrt(y.var((0, 1)) + 1e-5)
        return y * (shares @ part["gamma"]) + shares @ part["beta"]

    def relu(x):
        return np.maximum(x, 0)

    def doubled(x):
        return x.repeat(2, 0).repeat(2, 1)

    height, width, _ = image.shape
    edges = ((0, -height % 4), (0, -width % 4), (0, 0))
    x = np.pad(np.asarray(image, np.float64), edges, mode="reflect")
    x = relu(layer(x, layers["encode1"]))
    x = relu(layer(x, layers["encode2"], 2))
    x = relu(layer(x, layers["encode3"], 2))
    for number in (1, 2):
        block = layers[f"block{number}"]
        x = x + layer(relu(layer(x, block["first"])), block["second"])
    x = relu(layer(doubled(x), layers["decode1"]))
    x = relu(layer(doubled(x), layers["decode2"]))
    return 1 / (1 + np.exp(-layer(x, layers["decode3"])))[:height, :width]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (19, 30)])
def test_the_network_is_that_of_the_papers(network, paint, height, width):
    image = small.picture("chelsea", height, width)
    shares = jnp.array([0.2, 0.5, 1.3])
    expected = by_hand(network, image, shares)
    assert expected.std() > 0.1
    assert_allclose(paint(network, image, shares), expected, atol=1e-4)


def test_a_style_alone_ignores_the_others(network, paint):
    image = small.picture("chelsea", 20, 24)
    alone = jax.tree.map(lambda x: x[1:2] if x.ndim == 2 else x, network)
    mixed = paint(network, image, jnp.array([0.0, 2.0, 0.0]))
    assert_allclose(mixed, paint(alone, image), atol=1e-6)
    assert np.abs(mixed - paint(network, image)).max() > 0.05  # equal shares of all three


def test_rows_of_a_batch_are_single_runs(network, paint):
    images = jnp.stack([small.picture(name, 17, 22) for name in ("chelsea", "starry_night")])
    shares = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    batch = paint(network, images, shares)
    mapped = jax.jit(jax.vmap(johnson.stylize_trained, in_axes=(None, 0, 0)))(
        network, images, shares
    )
    for row, image, share in zip(batch, images, shares, strict=True):
        assert_allclose(row, paint(network, image, share), atol=2e-6)
    assert_allclose(mapped, batch, atol=2e-6)


def test_other_shares_and_weights_compile_nothing(network, paint, compilations):
    image = small.picture("chelsea", 20, 24)
    paint(network, image, jnp.array([1.0, 0.0, 0.0]))
    doubled = jax.tree.map(lambda x: x * 2, network)
    shares = jnp.array([0.5, 0.5, 0.0])
    before = compilations()
    paint(network, image, shares)
    paint(doubled, image, shares)
    assert compilations() == before


def test_bfloat16_is_near(network, paint):
    image = small.picture("chelsea", 32, 32)
    exact, near = paint(network, image), paint(network, image, precision=BFLOAT16)
    assert near.dtype == jnp.float32
    assert 1e-4 < np.abs(near - exact).mean() < 2e-2


def test_the_platform_may_choose_the_precision(network, paint):
    image = small.picture("chelsea", 20, 24)
    chosen = precision_on(AUTO)
    found, expected = (paint(network, image, precision=one) for one in (AUTO, chosen))
    assert_array_equal(found, expected)


def test_a_gradient_reaches_every_weight(network):
    image = jnp.asarray(small.picture("chelsea", 16, 20))
    shares = jnp.array([1.0, 1.0, 1.0])

    def loss(network):
        return jnp.sum(jnp.square(johnson.stylize_trained(network, image, shares) - 0.2))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(network)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


def test_an_exported_program_takes_any_size(network):
    names = export.symbolic_shape("h, w", constraints=("h >= 16", "w >= 16"))
    image = jax.ShapeDtypeStruct((*names, 3), jnp.float32)
    one = jnp.array([0.0, 1.0, 0.0])
    program = export.export(jax.jit(johnson.stylize_trained))(network, image, one)
    for height, width in ((16, 16), (21, 34)):
        picture = jnp.asarray(small.picture("chelsea", height, width))
        expected = by_hand(network, picture, one)
        assert_allclose(program.call(network, picture, one), expected, atol=1e-4)


def test_the_same_key_gives_the_same_network():
    one, same, other = (
        johnson.fresh_params(jax.random.key(seed), 1, width=0.1, blocks=1) for seed in (1, 1, 2)
    )
    jax.tree.map(assert_array_equal, one, same)
    kernels = (params["encode1"]["conv"]["kernel"] for params in (one, other))
    assert np.abs(next(kernels) - next(kernels)).max() > 0.1


def test_a_network_of_width_1_has_johnsons_channels():
    shapes = johnson.expected_shapes(johnson.fresh_params(jax.random.key(0), 1))
    assert shapes["encode1"]["conv"]["kernel"].shape == (9, 9, 3, 32)
    assert shapes["block5"]["second"]["conv"]["kernel"].shape == (3, 3, 128, 128)
    assert shapes["decode3"]["conv"]["kernel"].shape == (9, 9, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros((15, 40, 3), "f4"),), "`content`: 40x15 px is too small"),
        ((np.zeros((20, 40, 3), "u1"),), "`content`: expected floating point"),
        ((np.zeros((20, 40), "f4"),), "`content`: expected an image"),
        ((np.zeros((20, 40, 3), "f4"), np.ones(2)), "`shares`: expected 3, one for each style"),
    ],
)
def test_bad_arguments_are_refused(as_users_do, network, arguments, said):
    with pytest.raises(ValueError, match=said):
        johnson.stylize_trained(network, *arguments)


def test_a_whole_network_in_place_of_its_parameters_is_refused(as_users_do, network):
    whole = johnson.StyleNetwork(network, ("a", "b", "c"))
    with pytest.raises(TypeError, match="`params`: .* got a StyleNetwork; give its field `params`"):
        johnson.stylize_trained(whole, np.zeros((16, 16, 3), "f4"))


@pytest.mark.parametrize(("styles", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_number_of_styles_that_is_none_is_refused(as_users_do, styles, kind):
    with pytest.raises(kind, match="^`styles`: expected "):
        johnson.fresh_params(jax.random.key(0), styles)
