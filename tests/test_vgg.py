"""The network: taps against NumPy, gradient rules against autodiff, names of taps, odd sizes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import init, losses, vgg
from nst_jax.vgg import TAPS, Network, features, layers, sized_layers
from tests import reference, small

# Every pooling, edge and padding, and every pooling with every edge.
NETWORKS = {
    "max-floor-zero": (Network(), {}),
    "average-ceil-zero": (
        Network(pool=layers.average_pool, ceil=True),
        {"kind": "average", "ceil": True},
    ),
    "max-ceil-replicate": (
        Network(ceil=True, padding=layers.replicate_padded),
        {"ceil": True, "padding": "edge"},
    ),
    "average-floor-reflect": (
        Network(pool=layers.average_pool, padding=layers.reflect_padded),
        {"kind": "average", "padding": "reflect"},
    ),
    "scaled-floor-first": (
        Network(pool=layers.scaled_average_pool, padding=layers.replicate_first),
        {"kind": "scaled_average", "padding": "edge first"},
    ),
    "l2-ceil-first": (
        Network(pool=layers.l2_pool, padding=layers.replicate_first, ceil=True),
        {"kind": "l2", "ceil": True, "padding": "edge first"},
    ),
}


PUBLISHED = ("max-floor-zero", "average-ceil-zero")  # used by some recipe
# `test_parity.py` compares all of them with torch.
OTHERS = [pytest.param(n, marks=pytest.mark.long) for n in NETWORKS if n not in PUBLISHED]


@partial(jax.jit, static_argnums=2)
def all_taps(params, image, network):
    return features(params, image, TAPS, network=network)


@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_every_tap_agrees_with_numpy(name, params, params64, x64):
    network, settings = NETWORKS[name]
    picture = small.picture("chelsea", 37, 50)
    found = all_taps(params64, jnp.asarray(picture, jnp.float64), network)
    expected = reference.features(params, reference.pixels(picture), **settings)
    assert set(found) == set(expected) == set(TAPS)
    for tap in TAPS:
        # Float64 rounds at 1e-16; sixteen layers of sums of up to 4608 products.
        scale = np.abs(expected[tap]).max()
        assert_allclose(found[tap], expected[tap], rtol=0, atol=1e-12 * scale, err_msg=tap)


def test_every_tap_in_float32_agrees_up_to_rounding(params):
    picture = small.picture("chelsea", 37, 50)
    found = all_taps(params, jnp.asarray(picture), Network())
    expected = reference.features(params, reference.pixels(picture))
    for tap in TAPS:
        # Float32 rounds at 6e-8; after sixteen layers of such sums the error is about 1e-6.
        scale = np.abs(expected[tap]).max()
        assert_allclose(found[tap], expected[tap], rtol=0, atol=1e-5 * scale, err_msg=tap)


def test_the_reference_convolution_is_scipys_correlation(params, content):
    layer = params.layers["conv1_1"]
    kernel, bias = np.asarray(layer["kernel"], float)[..., :4], np.asarray(layer["bias"])[:4]
    ours = reference.convolve(np.asarray(content, float), kernel, bias, "constant")
    assert_allclose(ours, reference.convolve_by_scipy(content, kernel, bias), atol=1e-6)


def test_features_are_the_same_eager_compiled_and_mapped(params, content):
    taps = ("relu1_1",)
    batch = jnp.stack([content, content[::-1], content[:, ::-1]])
    eager = features(params, batch, taps)
    for found in (
        jax.jit(lambda x: features(params, x, taps))(batch),
        jax.vmap(lambda x: features(params, x, taps))(batch),
        jax.tree.map(lambda *x: jnp.stack(x), *(features(params, x, taps) for x in batch)),
    ):
        for tap in taps:
            # The same sums of 27 products, in another order.
            assert_allclose(found[tap], eager[tap], rtol=0, atol=1e-6 * np.abs(eager[tap]).max())


def test_batch_axes_lead(params, content):
    batch = jnp.broadcast_to(content, (2, 3, *content.shape))
    assert features(params, batch, ["relu2_1"])["relu2_1"].shape == (2, 3, 12, 16, 128)


# --- Depth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taps", "convolutions"),
    [(["relu1_1"], 1), (["preact2_1", "relu1_2"], 3), (["relu4_1", "relu4_2"], 10), (TAPS, 16)],
)
def test_nothing_is_computed_below_the_deepest_tap(params, content, taps, convolutions):
    jaxpr = jax.make_jaxpr(lambda image: features(params, image, taps))(content)
    names = [equation.primitive.name for equation in small.primitives(jaxpr.jaxpr)]
    assert names.count("conv_general_dilated") == convolutions


def test_a_preact_tap_needs_no_relu(params, content):
    jaxpr = jax.make_jaxpr(lambda image: features(params, image, ["preact1_1"]))(content)
    assert "relu" not in str(jaxpr) and "max" not in str(jaxpr)


# --- Dtypes and sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_features_follow_the_dtype_of_the_picture(params, dtype, x64):
    image = jax.ShapeDtypeStruct((16, 16, 3), dtype)
    found = jax.eval_shape(lambda x: features(params, x, ["relu5_4"]), image)
    assert found["relu5_4"].dtype == dtype


@pytest.mark.parametrize(
    ("ceil", "shapes"),
    [
        (False, [(37, 50), (18, 25), (9, 12), (4, 6), (2, 3)]),
        (True, [(37, 50), (19, 25), (10, 13), (5, 7), (3, 4)]),
    ],
)
def test_pooling_drops_or_keeps_an_odd_last_row(params, ceil, shapes):
    taps = [f"relu{block}_1" for block in range(1, 6)]
    image = jax.ShapeDtypeStruct((37, 50, 3), jnp.float32)
    found = jax.eval_shape(lambda x: features(params, x, taps, network=Network(ceil=ceil)), image)
    assert [x.shape[:2] for x in found.values()] == shapes


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("shape", [(37, 50), (16, 31), (33, 17), (63, 65)])
def test_feature_shape_is_that_of_the_networks_features(params, shape, ceil):
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    found = jax.eval_shape(lambda x: features(params, x, TAPS, network=Network(ceil=ceil)), image)
    for tap, activations in found.items():
        assert vgg.feature_shape(tap, *shape, ceil) == activations.shape[:2], tap


def test_sixteen_pixels_are_enough_and_fifteen_are_not(params):
    def deepest(height):
        image = jax.ShapeDtypeStruct((height, 40, 3), jnp.float32)
        return jax.eval_shape(lambda x: features(params, x, ["relu5_4"]), image)["relu5_4"]

    assert deepest(16).shape == (1, 2, 512)
    with pytest.raises(ValueError, match="`images`: 40x15 px is too small.*at least 16 px"):
        deepest(15)


def test_reflection_of_a_map_one_pixel_wide_repeats_it():
    x, kernel = small.noise(0, 1, 1, 4, 2), jnp.ones((3, 3, 2, 1))
    assert_array_equal(layers.reflect_padded(x, kernel), layers.replicate_padded(x, kernel))


@pytest.mark.parametrize("shape", [(16, 16), (16, 3), (3,), (16, 16, 4), (3, 16, 16)])
def test_arrays_that_are_no_images_are_refused(params, shape, as_users_do):
    with pytest.raises(ValueError, match=r"`images`: expected an image \[\.\.\., height, width, 3"):
        features(params, jnp.zeros(shape), ["relu1_1"])


@pytest.mark.parametrize(("dtype", "hint"), [("uint8", "divide it by 255"), ("int32", "scale it")])
def test_whole_numbers_are_refused(params, dtype, hint, as_users_do):
    with pytest.raises(
        ValueError, match=f"`images`: expected floating point .* got {dtype}; {hint}"
    ):
        features(params, jnp.zeros((16, 16, 3), dtype), ["relu1_1"])


# --- Gradients ------------------------------------------------------------------------------------


def test_the_gradient_rules_of_convolution_agree_with_autodiff(x64):
    x, kernel = small.noise(0, 2, 5, 7, 4), small.noise(1, 3, 3, 4, 6)
    cotangent = small.noise(2, 2, 5, 7, 6)

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def found(convolve):
        def both(x, kernel):
            value, pull = jax.vjp(convolve, x, kernel)
            return value, pull(cotangent)

        return jax.jit(both)(x, kernel)

    (ours, our_gradients), (theirs, their_gradients) = found(layers.conv3x3), found(plain)
    assert x.dtype == ours.dtype == jnp.float64
    assert_allclose(ours, theirs, rtol=1e-12)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        assert_allclose(mine, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("padding", [layers.replicate_padded, layers.reflect_padded])
def test_padded_convolutions_have_the_gradient_of_valid_ones(padding, x64):
    mode = {"replicate_padded": "edge", "reflect_padded": "reflect"}[padding.__name__]
    x, kernel = small.noise(0, 1, 5, 6, 3), small.noise(1, 3, 3, 3, 2)

    def plain(x, kernel):
        wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
        return lax.conv_general_dilated(
            wide, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def loss(convolve):
        return lambda *args: jnp.sum(jnp.sin(convolve(*args)))

    for mine, other in zip(
        jax.jit(jax.grad(loss(padding), (0, 1)))(x, kernel),
        jax.jit(jax.grad(loss(plain), (0, 1)))(x, kernel),
        strict=True,
    ):
        assert_allclose(mine, other, rtol=1e-11, atol=1e-11)


@jax.jit
def max_pool_gradient(x):
    return jax.grad(lambda x: jnp.sum(layers.max_pool(x, False)))(x)


@pytest.mark.parametrize(
    ("window", "winner"),
    [
        ([[1, 1], [1, 1]], (0, 0)),
        ([[0, 1], [1, 1]], (0, 1)),
        ([[0, 0], [1, 1]], (1, 0)),
        ([[0, 0], [0, 1]], (1, 1)),
    ],
)
def test_the_gradient_of_a_window_goes_to_the_first_of_its_maxima(window, winner):
    x = jnp.asarray(window, jnp.float32)[None, :, :, None]
    gradient = max_pool_gradient(x)[0, :, :, 0]
    expected = np.zeros((2, 2))
    expected[winner] = 1
    assert_array_equal(gradient, expected)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_max_pool_and_its_gradient_agree_with_reduce_window(shape, ceil, key):
    # All values differ, so each window has one maximum, and `reduce_window` has the same gradient.
    x = jax.random.permutation(key, jnp.arange(2.0 * shape[0] * shape[1])).reshape(1, *shape, 2)
    edges = ((0, 0), *((0, side % 2 if ceil else 0) for side in shape), (0, 0))

    def plain(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), edges)

    def weighted(pool):
        return lambda x: jnp.sum(jnp.cos(pool(x)) * pool(x))

    def found(pool):
        return jax.jit(lambda x: (pool(x), jax.grad(weighted(pool))(x)))(x)

    ours, theirs = found(lambda x: layers.max_pool(x, ceil)), found(plain)
    assert_array_equal(ours[0], theirs[0])
    assert_allclose(ours[1], theirs[1], rtol=1e-6)


def test_average_pool_with_ceil_averages_existing_pixels_only():
    x = jnp.asarray([[1.0, 3.0, 5.0], [1.0, 3.0, 7.0], [2.0, 4.0, 9.0]])[None, :, :, None]
    assert_allclose(layers.average_pool(x, True)[0, :, :, 0], [[2, 6], [3, 9]])
    assert_allclose(layers.average_pool(x, False)[0, :, :, 0], [[2]])


def test_l2_pool_by_hand():
    x = jnp.asarray([[3.0, 4, 1], [0, 0, 2], [5, 12, 7]])[None, :, :, None]
    assert_allclose(layers.l2_pool(x, False)[0, :, :, 0], [[0.78 * 5]])
    # A border window's mean square counts four times.
    expected = [[5, np.sqrt(2 * (1 + 4))], [np.sqrt(2 * (25 + 144)), 14]]
    assert_allclose(layers.l2_pool(x, True)[0, :, :, 0], 0.78 * np.asarray(expected), rtol=1e-6)


def test_a_window_of_zeros_gets_no_gradient_from_l2_pool():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(2.0)
    gradient = jax.grad(lambda x: jnp.sum(layers.l2_pool(x, False)))(x)[0, :, :, 0]
    expected = np.zeros((4, 4))
    expected[0, 0] = 0.78
    assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize("pool", layers.POOLS.values(), ids=layers.POOLS)
def test_pooling_follows_the_dtype_and_does_not_overflow(pool):
    x = jnp.full((1, 4, 4, 2), 300.0, jnp.float16)  # whose square float16 does not hold
    found, pull = jax.vjp(lambda x: pool(x, False), x)
    assert found.dtype == pull(found)[0].dtype == jnp.float16
    assert np.isfinite(found).all() and np.isfinite(pull(jnp.ones_like(found))[0]).all()


def test_the_first_layer_alone_repeats_the_border():
    picture, features = small.noise(0, 1, 5, 6, 3), small.noise(1, 1, 5, 6, 4)
    first, later = small.noise(2, 3, 3, 3, 2), small.noise(3, 3, 3, 4, 2)
    for x, kernel, plain, other in (
        (picture, first, layers.replicate_padded, layers.zero_padded),
        (features, later, layers.zero_padded, layers.replicate_padded),
    ):
        assert_array_equal(layers.replicate_first(x, kernel), plain(x, kernel))
        assert np.abs(plain(x, kernel) - other(x, kernel)).max() > 0.1


def test_the_gradient_of_relu_at_zero_is_zero(params):
    silent = jax.tree.map(jnp.zeros_like, params)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(features(silent, x, ["relu1_1"])["relu1_1"])))
    assert_array_equal(gradient(jnp.full((16, 16, 3), 0.5)), np.zeros((16, 16, 3)))


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("relu4_2", "relu4_2"),
        ("preact1_1", "preact1_1"),
        ("block4_conv2", "relu4_2"),
        ("block5_conv4", "relu5_4"),
        ("r11", "relu1_1"),
        ("r42", "relu4_2"),
    ],
)
def test_unambiguous_spellings_are_accepted(written, meant):
    assert vgg.resolve_tap(written) == meant


def test_features_are_returned_under_the_names_given(params, content):
    found = features(params, content, ["block1_conv2", "r21"])
    assert list(found) == ["block1_conv2", "r21"]
    resolved = features(params, content, ["relu1_2", "relu2_1"])
    assert_array_equal(found["r21"], resolved["relu2_1"])
    assert_array_equal(found["block1_conv2"], resolved["relu1_2"])
    assert list(features(params, content, iter(["r21"]))) == ["r21"]


def test_a_bare_conv4_2_is_refused_with_both_meanings():
    with pytest.raises(ValueError) as refusal:
        vgg.resolve_tap("conv4_2")
    assert str(refusal.value) == (
        "`taps`: 'conv4_2' is ambiguous: papers and courses write it for the activation after the "
        "ReLU, which is 'relu4_2' here; before the ReLU is 'preact4_2'"
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [("relu4_5", "relu4_"), ("Relu3_1", "relu3_1"), ("relu31", "relu3_1"), ("preact41", "preact4")],
)
def test_an_unknown_tap_is_refused_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"`taps`: there is no VGG-19 tap '{name}'; did.*'{near}"):
        vgg.resolve_tap(name)


@pytest.mark.parametrize("name", ["r63", "block1_conv3", "conv6_1", "zzz", ""])
def test_unknown_taps_are_refused(name):
    with pytest.raises(ValueError, match=f"there is no VGG-19 tap '{name}'"):
        vgg.resolve_tap(name)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (["relu1_1", "r11"], ValueError, "'relu1_1' is named twice"),
        ("relu1_1", TypeError, "expected a list"),
        ([3], TypeError, "a tap is a name"),
    ],
)
def test_lists_of_taps_are_checked(names, error, message, as_users_do):
    with pytest.raises(error, match=message):
        vgg.resolve_taps(names)


# --- Pixels ---------------------------------------------------------------------------------------


def test_caffe_pixels_are_bgr_minus_the_mean_of_imagenet():
    red = jnp.asarray([[[1.0, 0.0, 0.0]]])
    assert_allclose(vgg.CAFFE_BGR.encode(red)[0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-6)


def test_caffe_pixels_are_those_of_gatys_own_code():
    # Its shifts are these means over 255, subtracted before it multiplies by 255.
    shifts = np.array([0.40760392, 0.45795686, 0.48501961])
    assert_allclose(vgg.CAFFE_BGR.encode(jnp.zeros((1, 1, 3)))[0, 0], -255 * shifts, rtol=1e-6)


def test_torchvision_pixels_are_normalised_rgb():
    blue = jnp.asarray([[[0.0, 0.0, 1.0]]])
    expected = [-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225]
    assert_allclose(vgg.TORCHVISION.encode(blue)[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", vgg.PIXELS)
def test_decoding_inverts_encoding(name, content):
    pixels = vgg.PIXELS[name]
    # Float32 at 255 rounds at 1.5e-5, which is 6e-8 of the range.
    assert_allclose(pixels.decode(pixels.encode(content)), content, atol=3e-7)


@pytest.mark.parametrize("name", vgg.PIXELS)
def test_pixels_of_numpys_float64_are_those_of_float32(name, content, as_users_do):
    """Without a warning of JAX, which would be an error here."""
    pixels, wide = vgg.PIXELS[name], np.asarray(content, np.float64)
    for function in (pixels.encode, pixels.decode):
        assert_array_equal(function(wide), function(content), strict=True)


@pytest.mark.parametrize("size", [None, np.array([20, 24])])
def test_features_of_numpys_float64_are_those_of_float32(params, size, as_users_do):
    picture = small.picture("chelsea", 32, 32)
    wide = np.asarray(picture, np.float64)
    found, expected = (
        vgg.features(params, one, ["relu1_1"], size=size)["relu1_1"] for one in (wide, picture)
    )
    assert_array_equal(found, expected, strict=True)


class Half(vgg.Pixels):
    """A pixel convention of a user's own, which loses every second row, here or on the way back."""

    def encode(self, image):
        return super().encode(image)[..., :: 2 if self.name == "half" else 1, :, :]

    def decode(self, pixels):
        return super().decode(pixels)[..., ::2, :, :]


def test_a_pixel_convention_of_ones_own_keeps_the_shape(params, content, as_users_do):
    raw = vgg.RAW.scale, vgg.RAW.shift, vgg.RAW.spread, vgg.RAW.bgr
    height, width, _ = content.shape
    got = rf"returned an array of float32 of the shape \[{height // 2}, {width}, 3\], expected the"
    message = rf"{got} shape \[{height}, {width}, 3\]$"
    encoding = "the pixel convention's `encode`"
    with pytest.raises(ValueError, match=f"^`network.pixels`: {encoding} {message}"):
        features(params, content, ["preact1_1"], network=Network(pixels=Half("half", *raw)))
    for name, method in (("half", "encode"), ("back", "decode")):
        recipe = small.quickest().replace(coordinates=Half(name, *raw))
        said = f"^`coordinates`: the pixel convention's `{method}` {message}"
        with pytest.raises(ValueError, match=said):
            init(content, recipe)
    with pytest.raises(ValueError, match=r"^`shift`: expected three numbers, .* got \(0.5, 0.5\)$"):
        vgg.Pixels("two", 1.0, (0.5, 0.5), (1.0, 1.0, 1.0), False)


def test_the_numbers_of_a_pixel_convention_may_be_traced(content, as_users_do):
    def total(shift):
        for shifts in ((shift,) * 3, jnp.full(3, shift)):
            yield vgg.Pixels("mine", 255.0, shifts, (1.0,) * 3, True).encode(content).sum()

    for slope in jax.jacfwd(lambda shift: tuple(total(shift)))(100.0):
        assert slope == -content.size


@pytest.mark.parametrize("jitted", [False, True])
def test_a_layer_of_ones_own_returns_what_those_of_this_package_do(
    params, content, as_users_do, jitted
):
    def found(**chosen):
        compute = partial(features, taps=("preact1_1", "preact2_1"), network=Network(**chosen))
        return (jax.jit(compute) if jitted else compute)(params, content)

    pools = {
        r"returned a tuple, expected an array of the shape \[": lambda x, up: (x, up),
        r"returned .*, 1\], expected the shape \[1, .*, 64\]": lambda x, up: x[:, ::2, ::2, :1],
        r"returned .* of the shape \[1, 2\d, .*, expected the shape \[1, 1": lambda x, up: x,
        r"returned an array of int32 .*, expected floating-point numbers": lambda x, up: (
            layers.average_pool(x, up).astype(jnp.int32)
        ),
    }
    for message, pool in pools.items():
        with pytest.raises(
            (TypeError, ValueError),
            match=f"^`network.pool`: the pooling with ceil=False {message}",
        ):
            found(pool=pool)
    with pytest.raises(
        ValueError, match="^`network.padding`: the padding returned .*, expected th"
    ):
        found(padding=lambda *given: layers.zero_padded(*given)[:, 1:-1, 1:-1])
    own = found(
        pool=lambda x, up: layers.max_pool(x, up), padding=lambda *x: layers.zero_padded(*x)
    )
    for tap, expected in found().items():
        assert_allclose(own[tap], expected, atol=1e-4)


def test_a_recipe_may_set_other_pixels_than_those_of_the_weights(params, content):
    found = features(params, content, ["preact1_1"], network=Network(pixels=vgg.RAW))
    expected = reference.features(params, reference.pixels(content, "raw"), deepest="relu1_1")
    assert_allclose(found["preact1_1"], expected["preact1_1"], atol=1e-5)


# --- Parameters -----------------------------------------------------------------------------------


def test_the_modules_parameters_agree_with_the_layer_table(params):
    shapes = jax.eval_shape(
        lambda: vgg.Trunk(TAPS).init(
            jax.random.key(0), jnp.zeros((1, 16, 16, 3)), lambda tap, found: found
        )
    )["params"]
    assert {name: tuple(layer["kernel"].shape) for name, layer in shapes.items()} == {
        name: (3, 3, *channels) for name, channels in vgg.LAYERS.items()
    }
    assert jax.tree.map(jnp.shape, dict(params.layers)) == jax.tree.map(jnp.shape, dict(shapes))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("shape", [(1, 6, 8, 3), (2, 7, 5, 2)])
@pytest.mark.parametrize("pool", layers.POOLS.values(), ids=layers.POOLS)
def test_pooling_a_relu_in_one_equals_both_in_turn(pool, shape, ceil, key):
    # Rounded, so that windows have equal maxima and zeros.
    x = jax.random.normal(key, shape).round(1)

    def found(function):
        value, pull = jax.vjp(function, x)
        return value, pull(jnp.cos(jnp.arange(value.size, dtype=x.dtype)).reshape(value.shape))[0]

    together = found(lambda x: layers.pool_relu(x, pool, ceil))
    in_turn = found(lambda x: pool(layers.relu(x), ceil))
    for ours, plain in zip(together, in_turn, strict=True):
        assert_array_equal(ours, plain)


def test_a_pooling_layer_keeps_one_byte_for_each_window():
    x = jnp.ones((1, 8, 8, 4))
    _, pull = jax.vjp(lambda x: layers.pool_relu(x, layers.max_pool, False), x)
    kept = [leaf for leaf in jax.tree.leaves(pull) if np.size(leaf) > 1]
    assert [(leaf.shape, leaf.dtype) for leaf in kept] == [((1, 4, 4, 4), jnp.uint8)]


# Odd numbers of rows, whose halves overlap, and a single row.
@pytest.mark.parametrize("shape", [(1, 6, 8, 3), (2, 7, 5, 2), (1, 3, 4, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_cpu_stores_gives_the_same_gradients(shape, dtype, key):
    # Rounded, so that windows have equal maxima and zeros. There, second derivatives are arbitrary.
    x = jax.random.normal(key, shape).round(1).astype(dtype)
    others = jax.random.permutation(key, jnp.arange(x.size)).reshape(shape) - x.size // 2
    others = (others / 16).astype(dtype)

    def found(function):
        def loss(x):
            # A square, whose derivatives have no sums of products, which XLA rounds once or twice.
            return jnp.sum(jnp.square(function(x)))

        def second(x):
            return jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), x))(x)

        return jax.jit(lambda x, y: (function(x), jax.grad(loss)(x), second(y)))(x, others)

    pool = partial(layers.pool_relu, pool=layers.max_pool, ceil=False)
    for ours, plain in (
        (layers.relu_by_signs, layers.relu),
        (lambda x: layers.relu_in_place(x)[0], layers.relu),
        (lambda x: layers.relu_in_place(x)[1], layers.relu),
        (partial(pool, on_cpu=True), pool),
    ):
        for one, other in zip(found(ours), found(plain), strict=True):
            assert one.dtype == other.dtype == dtype
            assert_array_equal(one, other)


def test_what_a_cpu_stores_gives_the_same_gradients_of_a_batch_in_an_array(key):
    x = jax.random.normal(key, (3, 1, 6, 8, 2)).round(1)
    x, size = x.at[:, :, 5:].set(0), jnp.asarray([5, 8], jnp.int32)

    def found(on_cpu):
        def loss(x):
            pooled = sized_layers.pooled(
                layers.max_pool, x, True, size, after_relu=False, on_cpu=on_cpu
            )
            return jnp.sum(jnp.cos(pooled) * pooled)

        return jax.jit(jax.vmap(jax.grad(loss)))(x)

    assert_array_equal(found(True), found(False))
    assert np.any(found(True))


def over_devices(kind, *spec):
    """Return how an array lies on two devices, in a mesh with an axis of this kind."""
    types = (jax.sharding.AxisType[kind],)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("devices",), axis_types=types)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


def test_what_a_cpu_stores_for_relu_may_lie_on_several_devices(key):
    by_picture = over_devices("Explicit", "devices")
    x = jax.random.normal(key, (2, 5, 4, 3))

    def found(relu, x):
        return jax.jit(jax.grad(lambda x: jnp.sum(relu(x) ** 3)))(x)

    def in_turn(x):
        return layers.measured_in_turn(*layers.relu_in_place(x))[0]

    for relu in (layers.relu_by_signs, in_turn):
        ours = found(relu, jax.device_put(x, by_picture))
        assert ours.sharding.is_equivalent_to(by_picture, x.ndim)
        assert_array_equal(ours, found(layers.relu, x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_relu_in_place_adds_the_gradients_of_its_two_results(dtype, key):
    x = jax.random.normal(key, (1, 5, 4, 3)).round(1).astype(dtype)
    ones, twos = jnp.ones_like(x), jnp.full_like(x, 2)
    (first, second), pull = jax.vjp(layers.relu_in_place, x)
    assert_array_equal(first, jnp.maximum(x, 0))
    assert_array_equal(second, first)
    assert_array_equal(pull((ones, twos))[0], jnp.where(x > 0, 3, 0))


def test_what_is_measured_in_turn_has_the_same_gradient(key):
    x = jax.random.normal(key, (2, 4, 5, 3))

    def loss(x, in_turn):
        measured = {"sum": jnp.sum(x**2), "count": jnp.sum(x > 0), "none": None}
        x, measured = in_turn(x, measured)
        return jnp.sum(jnp.sin(x)) + measured["count"] * measured["sum"] ** 2

    ours = jax.jit(jax.grad(partial(loss, in_turn=layers.measured_in_turn)))(x)
    assert_allclose(ours, jax.grad(partial(loss, in_turn=lambda *both: both))(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("spec", [("devices",), (None, "devices")])
def test_gradients_of_poolings_may_lie_on_several_devices(key, kind, mapped, spec):
    """They lie where the features lie, which are distributed by picture or by rows."""
    layout, x = over_devices(kind, *spec), jax.random.normal(key, (2, 8, 5, 3))

    def loss(pool, x):
        return jnp.sum(jnp.cos(pool(x if x.ndim == 4 else x[None], False)))

    def pool_relu(x, ceil):
        return layers.pool_relu(x, layers.max_pool, ceil)

    for pool in (layers.max_pool, layers.l2_pool, pool_relu):
        gradient = jax.grad(partial(loss, pool))
        gradient = jax.jit(jax.vmap(gradient) if mapped else gradient)
        ours = gradient(jax.device_put(x, layout))
        assert ours.sharding.is_equivalent_to(layout, x.ndim)
        assert_array_equal(ours, gradient(x))


def test_the_gradient_of_a_picture_may_lie_on_several_devices(params):
    """The weights must lie on the devices of the mesh, too."""
    pictures = np.random.default_rng(0).random((2, 16, 18, 3), np.float32)
    by_picture = over_devices("Explicit", "devices")

    @jax.jit
    @jax.grad
    def gradient(pictures, params):
        return jnp.sum(jnp.cos(vgg.features(params, pictures, ["relu2_1"])["relu2_1"]))

    everywhere = over_devices("Explicit")
    ours = gradient(jax.device_put(pictures, by_picture), jax.device_put(params, everywhere))
    assert ours.sharding.is_equivalent_to(by_picture, pictures.ndim)
    wanted = gradient(pictures, params)
    assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5 * np.max(np.abs(wanted)))


def test_on_a_cpu_bytes_are_kept_instead_of_features(params, monkeypatch):
    shape = (128, 128)  # the smallest at which conv1_2 is computed by Winograd's method
    formed = vgg.with_forms(params, ["relu2_2"], shape=shape)
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)

    def temporaries():
        def loss(image, params):
            return jnp.sum(vgg.features(params, image, ["relu2_2"])["relu2_2"])

        compiled = jax.jit(jax.grad(loss)).lower(image, formed).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (128 * 128)

    stored = temporaries()
    monkeypatch.setattr(layers.pooling, "stored_bytes", lambda function, x, window=1: function(x))
    monkeypatch.setattr(layers.relus, "_relu_and_signs", lambda x: (jnp.maximum(x, 0), x > 0))
    # conv1_2 has 64 channels of 4 bytes for each pixel, and 16 bytes for its windows.
    assert temporaries() > stored + 200


# Without `measured_in_turn`, it takes 1376 and 1075 bytes for each pixel. In small pictures, most of
# the others are buffers of Winograd convolutions.
@pytest.mark.optimized
@pytest.mark.parametrize(("name", "most"), [("float32", 1200), ("bfloat16", 950)])
def test_on_a_cpu_the_gradients_of_losses_wait_for_those_of_deeper_layers(params, name, most):
    shape, taps = (128, 128), ["relu1_1", "relu2_1", "relu3_1"]
    precision = vgg.precision.PRECISIONS[name]
    formed = vgg.with_forms(params, taps, shape=shape, precision=precision)
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)

    def loss(image, params):
        measures = dict.fromkeys(taps, lambda x: jnp.sum(jnp.square(losses.gram(x))))
        found = vgg.measured(params, image, measures, network=Network(precision=precision))
        return sum(found.values())

    compiled = jax.jit(jax.grad(loss)).lower(image, formed).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < most * 128 * 128


def test_biases_are_converted_with_the_kernels(params):
    formed = vgg.with_forms(params, ["relu1_1"], precision=vgg.precision.BFLOAT16)
    assert formed.layers["conv1_1"]["bias"].dtype == jnp.bfloat16


# Functions that need the weights down to conv2_1, with a picture [32, 32, 3] in [0, 1].
RECIPE = small.shallow()
NO_TARGETS = nst.Targets({}, {})  # a function that refuses the weights reads none
NEED_RELU2_1 = {
    "features": lambda params, x: vgg.features(params, x, ["relu1_1", "relu2_1"]),
    "with_forms": lambda params, x: vgg.with_forms(params, ["relu2_1"]),
    "measure": lambda params, x: nst.measure(params, x, x, RECIPE),
    "losses_of": lambda params, x: nst.losses_of(params, x, NO_TARGETS, RECIPE),
    "step": lambda params, x: nst.step(params, nst.init(x, RECIPE), NO_TARGETS, RECIPE),
    "run": lambda params, x: nst.run(params, nst.init(x, RECIPE), NO_TARGETS, RECIPE, 1),
    "paint": lambda params, x: nst.paint(params, x, x, recipe=RECIPE),
    "stylize_many": lambda params, x: nst.stylize_many(params, [x], [x], recipe=RECIPE),
    "dream": lambda params, x: nst.dream(params, x, taps="relu2_1", octaves=1),
    "features_model": lambda params, x: nst.export.features_model(params, taps=["relu2_1"]),
    "step_model": lambda params, x: nst.export.step_model(params, RECIPE),
}


@pytest.mark.parametrize("name", NEED_RELU2_1)
def test_weights_without_a_layer_that_is_needed_are_refused(params, name, as_users_do):
    few = vgg.with_forms(params, ["relu1_1"])
    message = (
        "^`params`: expected the layers down to conv2_1, which relu2_1 needs, got none named conv1_2; "
        r"give the weights from `nst_jax.load_params\(\)`, or name relu2_1 among the taps of "
        "`vgg.with_forms`$"
    )
    with pytest.raises(ValueError, match=message):
        NEED_RELU2_1[name](few, np.full((32, 32, 3), 0.5, np.float32))


def test_weights_down_to_the_deepest_tap_are_enough(params, content):
    few = vgg.with_forms(params, iter(["relu1_1", "preact2_1", "relu1_1"]))
    assert list(few.layers) == ["conv1_1", "conv1_2", "conv2_1"]
    found = vgg.features(few, content, ["relu2_1"])["relu2_1"]
    assert_allclose(found, vgg.features(params, content, ["relu2_1"])["relu2_1"], rtol=1e-6)
    targets = jax.eval_shape(lambda x: nst.measure(few, x, x, RECIPE), content)
    assert targets.content["relu2_1"].shape == found.shape


@pytest.mark.parametrize(
    ("weights", "taps", "error", "message"),
    [
        (None, [], ValueError, "`taps`: name at least one tap, such as 'relu4_2'"),
        ({}, ["relu1_1"], TypeError, "`params`: expected Params, got dict; .*with_forms"),
    ],
)
def test_forms_are_made_of_weights_for_taps(params, weights, taps, error, message, as_users_do):
    with pytest.raises(error, match=f"^{message}"):
        vgg.with_forms(params if weights is None else weights, taps)
