"""The network `arbitrary` in NumPy: against onnxruntime, and against the same network in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax.feed_forward import arbitrary, arbitrary_on_host, given_styles, instant_painter
from nst_jax.feed_forward.layers import conv2d
from tests import instant_golden, small

GOLDEN = instant_golden.read()

style_vector = jax.jit(arbitrary.style_vector)
stylize_with = jax.jit(arbitrary.stylize_with)


@pytest.fixture(scope="module")
def on_host():
    return arbitrary_on_host.load_arbitrary_on_host()


@pytest.fixture(scope="module")
def magenta():
    return arbitrary.load_arbitrary()


def recorded(name, shape):
    """Return a corner of a recorded picture."""
    whole = instant_golden.decoded(GOLDEN[name]).astype(np.float32) / np.float32(255)
    return whole[: shape[0], : shape[1]]


def shapes(cases):
    return ["x".join(map(str, case["shape"])) for case in cases]


@pytest.mark.optimized
@pytest.mark.parametrize("case", GOLDEN["vectors"], ids=shapes(GOLDEN["vectors"]))
def test_style_vectors_are_those_of_onnxruntime(on_host, case):
    found = arbitrary_on_host.style_vector_on_host(on_host, recorded("style", case["shape"]))
    assert found.dtype == np.float32
    assert_allclose(found, instant_golden.decoded(case["is"]), rtol=0, atol=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("case", GOLDEN["arbitrary"], ids=shapes(GOLDEN["arbitrary"]))
def test_pictures_are_those_of_onnxruntime(on_host, case):
    vector = instant_golden.decoded(GOLDEN["vectors"][-1]["is"])
    content = recorded("content", case["shape"])
    found = arbitrary_on_host.stylize_on_host(on_host, content, vector)
    assert found.shape == (*case["shape"], 3) and found.dtype == np.float32
    stride = GOLDEN["stride"]
    expected = instant_golden.decoded(case["is"])
    assert_allclose(found[::stride, ::stride], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [(97, 130), pytest.param((256, 171), marks=pytest.mark.long)],
    ids="{0[0]}x{0[1]}".format,
)
def test_it_is_the_network_that_jax_compiles(on_host, magenta, shape):
    content, style = small.picture("chelsea", *shape), small.picture("starry_night", *shape[::-1])
    vector = np.asarray(style_vector(magenta, style))
    assert_allclose(
        arbitrary_on_host.style_vector_on_host(on_host, style), vector, rtol=0, atol=1e-5
    )
    assert_allclose(
        arbitrary_on_host.stylize_on_host(on_host, content, vector),
        stylize_with(magenta, content, vector),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3, 9])
def test_a_convolution_is_that_of_jax(stride, side):
    random = np.random.default_rng(side + stride)
    x = random.normal(size=(17, 20, 3)).astype(np.float32)
    kernel = random.normal(size=(side, side, 3, 5)).astype(np.float32)
    planes = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    found = np.moveaxis(arbitrary_on_host._convolved(planes, kernel, stride), 0, -1)
    expected = conv2d(jnp.asarray(x), jnp.asarray(kernel), stride=stride)
    assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_painter_on_the_host_blends_as_the_other_does_and_compiles_nothing(compilations):
    content = small.picture("chelsea", 43, 61)
    styles = [small.picture("starry_night", 50, 37), small.picture("gravel", 33, 48)]
    style = given_styles.ParsedStyle(tuple(styles), np.asarray([0.25, 0.75], np.float32))
    before, host = compilations(), instant_painter.HostPainter()
    (found,) = host.paint([host.request(content, style)])
    assert isinstance(found, np.ndarray) and compilations() == before
    painter = instant_painter.InstantPainter()
    (expected,) = painter.paint([painter.request(content, style)])
    assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_weights_on_the_host_are_those_of_the_device(on_host, magenta):
    leaves = jax.tree.leaves(on_host)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert jax.tree.structure(on_host) == jax.tree.structure(magenta)
    for one, other in zip(leaves, jax.tree.leaves(magenta), strict=True):
        assert np.array_equal(one, other)
