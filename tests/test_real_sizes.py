"""Pictures at the top left of a larger array: features, losses and gradients are those of the pictures
alone, exactly, whatever is around them."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import nst_jax as nst
from nst_jax import losses, optimizers, recipes, vgg
from nst_jax._real_size import cut, divided_size, halved_size, padded
from nst_jax.controls import masks, with_kept
from nst_jax.controls.regions import Controls, padded_controls
from nst_jax.losses import matrix_roots
from nst_jax.optimizers.pyramid import multilevel
from nst_jax.vgg import layers, sized_layers
from tests import small

CLOSE = 1e-12  # largest relative difference in float64

BUCKET = (48, 64)


def drawn(seed, height, width):
    """Return a picture of random numbers in [0, 1], float64."""
    return np.random.default_rng(seed).random((height, width, 3))


def in_bucket(picture, bucket=BUCKET, garbage=np.nan):
    """Return a picture at the top left of an array of garbage, and its size."""
    height, width = picture.shape[:2]
    wide = np.full((*bucket, 3), garbage)
    wide[:height, :width] = picture
    return jnp.asarray(wide), jnp.asarray([height, width], jnp.int32)


def relative(found, expected):
    scale = np.max(np.abs(expected))
    return np.max(np.abs(np.asarray(found) - np.asarray(expected))) / (scale if scale else 1)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_a_size_of_numpy_is_divided_and_rounded_down(as_users_do, dtype):
    size = np.asarray((15, 24), dtype)
    assert divided_size(size, 4).tolist() == [3, 6]
    assert halved_size(size, ceil=True).tolist() == [8, 12]
    assert halved_size(size, ceil=False).tolist() == [7, 12]


SIZES = ((15, 23), (10, 24), (2, 2), (1, 3))


def features_in_bucket(seed, height, width, shape=(16, 24), channels=2):
    """Return features after a ReLU, the same at the top left of an array of zeros, and their size."""
    alone = np.maximum(np.random.default_rng(seed).normal(size=(1, height, width, channels)), 0)
    wide = np.zeros((1, *shape, channels))
    wide[:, :height, :width] = alone
    return jnp.asarray(alone), jnp.asarray(wide), jnp.asarray([height, width], jnp.int32)


@pytest.mark.parametrize("channels", [2, 3])  # three: the first layer
def test_every_padding_pads_at_the_real_border(x64, channels):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, channels, 2)))

    def inside(x, size):
        rest = kernel, None, lax.Precision.HIGHEST, size
        return [sized_layers.convolve_sized(pad, x, *rest) for pad in sized_layers.PADDED]

    def plain(x):
        return [pad(x, kernel) for pad in sized_layers.PADDED]

    @jax.jit
    def with_gradients(x, cotangents, size=None):
        found, pull = jax.vjp(plain if size is None else lambda x: inside(cut(x, size), size), x)
        count = len(cotangents)
        single = [[c if j == i else 0 * c for j, c in enumerate(cotangents)] for i in range(count)]
        return found, [pull(one)[0] for one in single]

    for size in SIZES:
        alone, wide, real = features_in_bucket(sum(size), *size, channels=channels)
        cotangents = np.random.default_rng(1).normal(size=(len(sized_layers.PADDED), 1, *size, 2))
        padded = np.zeros((len(cotangents), *wide.shape[:3], 2))
        padded[:, :, : size[0], : size[1]] = cotangents
        found, gradients = with_gradients(wide, list(padded), real)
        expected, gradients_alone = with_gradients(alone, list(cotangents))
        for one, other in zip(found, expected, strict=True):
            assert relative(one[:, : size[0], : size[1]], other) < CLOSE, size
        for one, other in zip(gradients, gradients_alone, strict=True):
            assert relative(one[:, : size[0], : size[1]], other) < CLOSE, size
            assert not np.any(one[:, size[0] :]) and not np.any(one[:, :, size[1] :]), size


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_two_forms_of_a_frame_agree(x64, mirrored):
    """A CPU runs one of them, other devices the other."""

    @jax.jit
    def both(x, cotangent, size):
        selected, pull = jax.vjp(lambda x: sized_layers._framed_by_selection(x, size, mirrored), x)
        placed = sized_layers._framed_in_place(x, size, mirrored)
        gradient = sized_layers._gradient_in_place(cotangent, size, mirrored)
        return (placed, selected), (gradient, pull(cotangent)[0])

    for height, width in SIZES:
        _, wide, real = features_in_bucket(3, height, width)
        cotangent = np.random.default_rng(1).normal(size=(1, 18, 26, 2))
        values, gradients = both(wide, cotangent, real)
        framed = np.s_[:, : height + 2, : width + 2]
        np.testing.assert_array_equal(values[0][framed], values[1][framed])
        inside = np.s_[:, :height, :width]
        np.testing.assert_allclose(gradients[0][inside], gradients[1][inside], rtol=1e-12)


@pytest.mark.parametrize("ceil", [False, True])
def test_every_pooling_pools_what_exists(x64, ceil):
    pools = list(sized_layers.POOLED)

    def inside(x, size):
        x = cut(x, size)
        return [sized_layers.pooled(pool, x, ceil, size) for pool in pools]

    @jax.jit
    def with_gradients(x, cotangents, size=None):
        def of(x):
            return [pool(x, ceil) for pool in pools] if size is None else inside(x, size)

        found, pull = jax.vjp(of, x)
        # The gradient of each pooling, with those of the others left out.
        masks = [
            [c if j == i else 0 * c for j, c in enumerate(cotangents)] for i in range(len(pools))
        ]
        return found, [pull(mask)[0] for mask in masks]

    for size in SIZES if ceil else SIZES[:-1]:
        alone, wide, real = features_in_bucket(sum(size), *size)
        h, w = ((side + ceil) // 2 for side in size)
        # Garbage in the cotangent of the padding changes nothing either.
        cotangents = np.random.default_rng(1).normal(size=(len(pools), 1, 8, 12, 2))
        found = with_gradients(wide, list(cotangents), real)
        expected = with_gradients(alone, list(cotangents[:, :, :h, :w]))
        for one, other in zip(found[0], expected[0], strict=True):
            assert relative(one[:, :h, :w], other) < CLOSE, size
            assert not np.any(one[:, h:]) and not np.any(one[:, :, w:]), size
        for one, other in zip(found[1], expected[1], strict=True):
            assert relative(one[:, : size[0], : size[1]], other) < CLOSE, size
            assert not np.any(one[:, size[0] :]) and not np.any(one[:, :, size[1] :]), size


@pytest.mark.parametrize(
    ("padding", "pool", "ceil"),
    [
        ("reflect", "max", False),
        pytest.param("zero", "max", True, marks=pytest.mark.slow),
        pytest.param("replicate", "l2", True, marks=pytest.mark.slow),
        pytest.param("replicate_first", "scaled_average", False, marks=pytest.mark.long),
    ],
)
def test_features_are_those_of_the_picture_alone(x64, params64, padding, pool, ceil):
    network = vgg.Network(pool=layers.POOLS[pool], ceil=ceil, padding=layers.PADDINGS[padding])
    taps = ["preact1_1", "relu1_2", "relu2_1", "relu3_1"]

    @jax.jit
    def of(x, size=None):
        return nst.features(params64, x, taps, network=network, size=size)

    height, width = 35, 21
    picture = drawn(1, height, width)
    alone = of(jnp.asarray(picture))
    for tap, found in of(*in_bucket(picture)).items():
        h, w, _ = alone[tap].shape
        assert relative(found[:h, :w], alone[tap]) < CLOSE, tap
        assert not np.any(found[h:]) and not np.any(found[:, w:]), tap


def test_gradients_of_taps_before_a_relu_are_zero_outside_the_picture(x64, params64):
    """A mean over an array has a gradient in its padding as well."""
    taps, network = ["preact1_1", "preact1_2"], vgg.Network(padding=layers.reflect_padded)

    @jax.jit
    def gradient(x, size=None):
        def total(x):
            found = nst.features(params64, x, taps, network=network, size=size)
            return sum(jnp.sum(jnp.sin(values) + values) for values in found.values())

        return jax.grad(total)(x)

    picture = drawn(1, 19, 29)
    found, alone = gradient(*in_bucket(picture, (32, 32))), gradient(jnp.asarray(picture))
    assert relative(found[:19, :29], alone) < CLOSE
    assert not np.any(found[19:]) and not np.any(found[:, 29:])


@pytest.mark.long
@pytest.mark.parametrize("size", [(16, 16), (17, 30)])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_features_of_the_smallest_pictures_to_the_deepest_tap(x64, params64, padding, size):
    network = vgg.Network(padding=layers.PADDINGS[padding])  # relu5_1 of 16 px is 1 x 1
    picture = drawn(7, *size)
    wide, real = in_bucket(picture, (32, 32))
    found = nst.features(params64, wide, ["relu5_1"], network=network, size=real)["relu5_1"]
    alone = nst.features(params64, jnp.asarray(picture), ["relu5_1"], network=network)["relu5_1"]
    h, w, _ = alone.shape
    assert relative(found[:h, :w], alone) < CLOSE


def of_one_tap(recipe):
    """Return a recipe with its losses, network and variation at shallow taps, whose terms all count."""
    terms = replace(recipe.terms, tv_weight=1e-3, content_weight=1.0, style_weight=1.0)
    return small.shallow(replace(recipe, terms=terms))


def losses_and_gradient(params, image, targets, recipe):
    def total(image):
        found = nst.losses_of(params, image, targets, recipe)
        return found.total, found

    (_, found), gradient = jax.value_and_grad(total, has_aux=True)(image)
    return found, gradient


def check_recipe(params, recipe, sizes, style_size, *, rounding=0.0):
    """Compare losses and gradients in a bucket with those of pictures that fill their arrays.

    `rounding` is an absolute difference of style losses, and so of the total, that rounding can make.
    """
    style = drawn(1, *style_size)
    wide_style, real_style = in_bucket(style)

    @jax.jit
    def inside(image, content, size, style, style_size):
        targets = nst.measure(params, content, style, recipe, size=size, style_sizes=[style_size])
        return losses_and_gradient(params, image, targets, recipe)

    for size in sizes:
        content, canvas = drawn(2, *size), drawn(3, *size)
        measure = jax.jit(lambda content, style: nst.measure(params, content, style, recipe))
        targets = measure(jnp.asarray(content), jnp.asarray(style))
        alone = jax.jit(lambda image, targets: losses_and_gradient(params, image, targets, recipe))
        expected, gradient = alone(jnp.asarray(canvas), targets)
        wide, real = in_bucket(canvas)
        found, wide_gradient = inside(wide, in_bucket(content)[0], real, wide_style, real_style)
        for name, one in expected._asdict().items():
            slack = 0 if name in ("content", "tv", "matting") else rounding
            close = partial(np.testing.assert_allclose, rtol=CLOSE, atol=slack, err_msg=name)
            jax.tree.map(close, getattr(found, name), one)
        h, w = size
        assert relative(wide_gradient[:h, :w], gradient) < CLOSE
        assert not np.any(wide_gradient[h:]) and not np.any(wide_gradient[:, w:])


def controls_of(size, style_sizes, rng, *, protect=True, soft=True):
    """Return masks of one region, of a protected part and of transparent parts, with soft edges."""

    def mask(height, width):
        rough = np.clip(3 * rng.random((height // 4 + 1, width // 4 + 1)) - 1, 0, 1)
        grown = np.kron(rough, np.ones((4, 4)))[:height, :width]
        return grown if soft else np.round(grown)

    return Controls(
        masks=mask(*size)[..., None],
        weights=np.array([1.0, 2.0]),
        style_masks=(mask(*style_sizes[0]), None, mask(*style_sizes[2])),
        opacity=mask(*size),
        protect=mask(*size) if protect else None,
        amount=np.array(0.7),
    )


@pytest.mark.parametrize(
    ("reach", "options"),
    [
        pytest.param("inside", {"protect": False}, marks=pytest.mark.long),
        ("simple", {}),
        pytest.param("all", {"soft": False}, marks=pytest.mark.long),
        pytest.param("inside", {}, marks=pytest.mark.long),
    ],
)
def test_controls_in_a_bucket_are_those_of_the_picture_alone(
    x64, params64, compilations, reach, options
):
    """Regions, protected and transparent parts, masks of styles, two blended styles, and matting."""
    recipe = of_one_tap(recipes.GRAM)
    terms = replace(
        recipe.terms,
        style_taps=("relu1_1", "relu2_1"),
        style_layer_weights=(1.0, 0.5),
        region_reach=reach,
        region_growth=1,
        matting_weight=0.3,
    )
    recipe, style_sizes = replace(recipe, terms=terms), [(31, 44), (20, 35), (48, 33)]
    styles = [drawn(seed, *size) for seed, size in enumerate(style_sizes)]
    wide_styles = [in_bucket(style)[0] for style in styles]
    real_styles = [in_bucket(style)[1] for style in styles]

    def painted(image, content, styles, controls, **sizes):
        targets = nst.measure(params64, content, styles, recipe, controls=controls, **sizes)

        def total(image):
            found = nst.losses_of(params64, with_kept(image, targets.kept), targets, recipe)
            return found.total, found

        (_, found), gradient = jax.value_and_grad(total, has_aux=True)(image)
        return found, gradient

    inside, alone = jax.jit(painted), jax.jit(painted)
    programs = []
    for size in ((35, 49), (48, 40)):
        content, canvas = drawn(2, *size), drawn(3, *size)
        controls = controls_of(size, style_sizes, np.random.default_rng(5), **options)
        arrays = jax.tree.map(jnp.asarray, controls)
        wide = padded_controls(controls, BUCKET, [BUCKET] * 3)
        wide_image, real = in_bucket(canvas, garbage=0.5)
        rest = {"size": real, "style_sizes": real_styles}
        wide_content, before = in_bucket(content)[0], compilations()
        found, wide_gradient = inside(wide_image, wide_content, wide_styles, wide, **rest)
        programs.append(compilations() - before)
        expected, gradient = alone(
            jnp.asarray(canvas), jnp.asarray(content), [jnp.asarray(one) for one in styles], arrays
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=CLOSE), found, expected)
        h, w = size
        assert relative(wide_gradient[:h, :w], gradient) < CLOSE
        assert not np.any(wide_gradient[h:]) and not np.any(wide_gradient[:, w:])
    assert programs[0] > 0 and programs[1] == 0  # another size compiles nothing


@pytest.mark.parametrize(
    ("reach", "ceil"),
    [
        pytest.param(*pair, marks=() if pair[1] == (pair[0] == "simple") else pytest.mark.long)
        for pair in itertools.product(masks.REACHES, [False, True])
    ],
)
def test_masks_at_every_tap_are_those_of_the_picture_alone(x64, reach, ceil):
    taps = ["relu1_1", "relu2_1", "relu3_3", "relu5_1"]
    options = {"reach": reach, "growth": 1, "ceil": ceil}
    of = jax.jit(lambda drawn, size=None: masks.at_taps(drawn, taps, **options, size=size))
    for size in ((35, 49), (48, 64), (16, 33)):
        mask = np.clip(3 * np.random.default_rng(1).random((*size, 2)) - 1, 0, 1)
        mask[:, size[1] // 2 :, 0] = 1
        wide = np.full((*BUCKET, 2), np.nan)
        wide[: size[0], : size[1]] = mask
        found = of(jnp.asarray(wide), jnp.asarray(size, jnp.int32))
        for tap, expected in of(jnp.asarray(mask)).items():
            h, w, _ = expected.shape
            np.testing.assert_allclose(found[tap][:h, :w], expected, rtol=CLOSE, atol=CLOSE)
            assert not np.any(found[tap][h:]) and not np.any(found[tap][:, w:])


# The style loss of `default` is a difference of traces, each divided by the style's own size and so
# about 1. Its rounding errors are relative to these, and not to what is left of them.
OF_TRACES = CLOSE

# At its deep taps, a picture of this size has fewer positions than channels, so most eigenvalues of its
# covariances are nearly 0. An error e in such an eigenvalue x changes its root by e / (2 √x), and the
# trace is a sum of 512 roots of eigenvalues down to `SMALLEST`. That makes 1.8e-10.
OF_ROOTS = 512 * np.finfo(np.float64).eps / (2 * np.sqrt(matrix_roots.SMALLEST))

SUMS = [name for name, recipe in recipes.PRESETS.items() if recipe.terms.additive]


def test_losses_and_gradient_are_those_of_the_picture_alone(x64, params64):
    check_recipe(params64, of_one_tap(recipes.GRAM), [(35, 49)], (44, 31))


@pytest.mark.long
@pytest.mark.parametrize("name", ["default", "crowsonkb", "gatys-2016"])
def test_losses_and_gradient_of_recipes_of_other_kinds(x64, params64, name):
    rounding = OF_TRACES if name == "default" else 0
    recipe = of_one_tap(recipes.PRESETS[name])
    check_recipe(params64, recipe, [(35, 49)], (44, 31), rounding=rounding)


@pytest.mark.long
@pytest.mark.parametrize("name", SUMS)
def test_losses_and_gradient_of_every_recipe(x64, params64, name):
    rounding = OF_TRACES if name == "default" else 0
    recipe = of_one_tap(recipes.PRESETS[name])
    check_recipe(params64, recipe, [(48, 64), (35, 49)], (44, 31), rounding=rounding)


@pytest.mark.long
@pytest.mark.parametrize("name", SUMS)
def test_losses_and_gradient_of_recipes_at_their_own_taps(x64, params64, name):
    sizes = [(48, 64), (47, 63), (33, 64), (16, 17), (35, 49)]
    rounding = OF_ROOTS if name == "default" else 0
    check_recipe(params64, recipes.PRESETS[name], sizes, (44, 31), rounding=rounding)


@pytest.mark.parametrize("name", list(losses.VARIATIONS))
def test_every_variation_of_a_picture_in_a_bucket(x64, name):
    variation = losses.VARIATIONS[name]
    for size in ((48, 64), (35, 49), (16, 16)):
        picture = drawn(4, *size)
        wide, real = padded(picture, BUCKET), jnp.asarray(size, jnp.int32)
        sums = variation.sums(jnp.asarray(wide), None, real)
        found = variation.value(sums, (jnp.asarray(float(size[0])), jnp.asarray(float(size[1]))))
        np.testing.assert_allclose(found, variation(jnp.asarray(picture)), rtol=CLOSE)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (recipes.NNST, "`style_loss` is no sum"),
        (recipes.SLICED_WASSERSTEIN, "`style_loss` is no sum"),
        (recipes.HISTOGRAM, "`second_style.loss` is no sum"),
        (replace(recipes.GRAM, network=vgg.Network(padding=layers.wrap_padded)), "borders .* meet"),
        (replace(recipes.GRAM, network=vgg.Network(tile=128)), "tiles"),
    ],
)
def test_recipes_that_cannot_be_exact_are_refused(recipe, message):
    with pytest.raises(ValueError, match=f"`bucket`: .*{message}"):
        recipes.check_in_bucket(recipe)


def test_arrays_that_are_no_bucket_are_refused(params):
    size = jnp.asarray([20, 20], jnp.int32)
    with pytest.raises(ValueError, match="multiple of 16 px, got 40x33 px"):
        nst.features(params, jnp.zeros((33, 40, 3)), ["relu1_1"], size=size)
    network = vgg.Network(padding=layers.wrap_padded)
    with pytest.raises(ValueError, match="`network.padding`"):
        nst.features(params, jnp.zeros((32, 32, 3)), ["relu1_1"], network=network, size=size)


def test_another_size_compiles_nothing(params, compilations):
    @jax.jit
    def of(x, size):
        return nst.features(params, x, ["relu1_1"], size=size)

    sizes = [jnp.asarray(pair, jnp.int32) for pair in ((30, 20), (17, 32))]
    wide = jnp.zeros((32, 32, 3))
    of(wide, sizes[0])
    before = compilations()
    of(wide, sizes[1])
    assert compilations() == before


def test_the_levels_of_a_pyramid_are_those_of_the_picture_alone(x64):
    of = jax.jit(lambda x, size=None: multilevel(x, 4, 0.3, size))  # more levels than there are
    for size in ((15, 23), (6, 5), (3, 24)):
        alone, wide, real = features_in_bucket(sum(size), *size)
        found = of(wide[0], real)
        assert relative(found[: size[0], : size[1]], of(alone[0])) < CLOSE, size
        assert not np.any(found[size[0] :]) and not np.any(found[:, size[1] :]), size


OPTIMIZERS = {
    "LBFGS": optimizers.LBFGS(levels=4, slack=0.1),
    "TorchLBFGS": optimizers.TorchLBFGS(),
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", ["LBFGS", pytest.param("TorchLBFGS", marks=pytest.mark.long)])
def test_updates_are_those_of_the_picture_alone(x64, params64, name):
    recipe = small.shallow(recipes.DEFAULT, style_taps=("relu1_1",), style_layer_weights=(1.0,))
    recipe = replace(recipe, descent=replace(recipe.descent, optimizer=OPTIMIZERS[name]))
    height, width = 35, 49
    content, style = drawn(2, height, width), jnp.asarray(drawn(1, 44, 31))

    @jax.jit
    def painted(image, content, size=None):
        targets = nst.measure(params64, content, style, recipe, size=size)
        state, losses = nst.run(params64, nst.init(image, recipe), targets, recipe, 5)
        return nst.optimize.picture(state, recipe), losses.total

    start = drawn(3, height, width)
    expected, totals = painted(jnp.asarray(start), jnp.asarray(content))
    wide, size = in_bucket(start, garbage=0.5)
    found, totals_found = painted(wide, in_bucket(content)[0], size)
    # Rounding errors grow from update to update.
    np.testing.assert_allclose(totals_found[:6], totals[:6], rtol=1e-9)
    assert relative(found[:height, :width], expected) < 1e-8


def test_features_of_one_line_are_padded(x64):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 2)))
    alone, wide, real = features_in_bucket(0, 1, 1)
    line = wide[:, :1, :3]  # an array of one line, with padding beside it
    for pad in sized_layers.PADDED:
        rest = kernel, None, lax.Precision.HIGHEST, real
        found = sized_layers.convolve_sized(pad, line, *rest)
        assert relative(found[:, :1, :1], pad(alone, kernel)) < CLOSE
