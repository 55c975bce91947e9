"""Regions, protected and transparent parts: what is measured, and what is minimised."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import controls, losses, optimizers, recipes
from nst_jax.controls import Protect, Region, masks
from nst_jax.scaling import bands, sharding
from tests import small
from tests.test_tiles import DEEP, apart, network

HEIGHT, WIDTH = 45, 52
STYLES = (40, 33), (36, 50)  # the default style's size, that of the region


def terms(recipe, **changes):
    return replace(recipe, terms=replace(recipe.terms, **changes))


GRAM = small.shallow(tv_weight=10.0)
MOMENTS = small.shallow(recipes.DEFAULT, style_loss=losses.MEAN_AND_COVARIANCE)
DEFAULT = small.shallow(recipes.DEFAULT)


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (HEIGHT, WIDTH), (HEIGHT, WIDTH), *STYLES
    return [jnp.asarray(rng.random((*shape, 3))) for shape in shapes]


def left(share=0.4, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.float32)
    mask[:, : int(share * width)] = 1
    return mask


def soft(seed, height=HEIGHT, width=WIDTH):
    coarse = np.random.default_rng(seed).random((4, 5, 1)).astype(np.float32)
    return np.asarray(masks.resized_masks(jnp.asarray(coarse), (height, width)))[..., 0]


def made(region_mask, style=None, style_mask=None, weight=1.0, **more):
    """Return the controls of a canvas with one region."""
    style = pictures()[3] if style is None else style
    given = controls.checked_controls(
        (HEIGHT, WIDTH),
        [STYLES[0]],
        regions=[Region(region_mask, np.asarray(style), style_mask, weight)],
        **more,
    )
    return controls.controls_of(given, (HEIGHT, WIDTH), STYLES)


features = jax.jit(nst.features, static_argnums=2, static_argnames="network")


@jax.jit
def found(params, image, content, styles, recipe, given):
    targets = nst.measure(params, content, styles, recipe, controls=given)

    def total(image):
        result = nst.losses_of(params, image, targets, recipe)
        return result.total, result

    return targets, *jax.value_and_grad(total, has_aux=True)(image)


# --- Against NumPy --------------------------------------------------------------------------------


def by_hand(features, mask, loss):
    """Return the statistic of features over positions that count T² times, in float64."""
    features = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    weights = np.square(np.asarray(mask, np.float64)).reshape(-1, 1)
    second = (features * weights).T @ features / weights.sum()
    if loss is losses.GRAM_MEAN_SQUARE:
        return second
    return losses.Moments((features * weights).sum(0) / weights.sum(), second)


@pytest.mark.parametrize(
    ("recipe", "reach"),
    [
        # Gram matrices are compared with NumPy in the next test, for every reach.
        *(
            pytest.param(GRAM, reach, marks=pytest.mark.long)
            for reach in ("inside", "all", "simple")
        ),
        (MOMENTS, "simple"),
    ],
    ids=["gram inside", "gram all", "gram simple", "moments simple"],
)
def test_the_style_loss_is_that_of_weighted_statistics(params, recipe, reach):
    with small.double():
        check_the_style_loss(params, recipe, reach)


def numpy_shares(drawn):
    """Return the share of each region in each pixel, that of the default style first."""
    total = drawn.sum(-1, keepdims=True)
    return np.concatenate([np.maximum(1 - total, 0), drawn / np.maximum(total, 1)], -1)


@pytest.mark.parametrize("reach", ["inside", pytest.param("all", marks=pytest.mark.long), "simple"])
def test_overlapping_regions_and_their_gradient_are_numpys(params64, x64, reach):
    """Two regions that overlap; the gradient is compared with differences of the loss in NumPy."""
    recipe = terms(GRAM, region_reach=reach, region_growth=1, tv_weight=0.0, content_weight=0.0)
    recipe = recipes.as_arrays(recipe, jnp.float64)
    image, content, *styles = pictures()
    styles.append(styles[1][::-1] ** 2)
    drawn = np.stack([left(0.5), left(0.7) - left(0.3)], -1)
    if reach == "simple":
        drawn = drawn * np.stack([soft(1), soft(2)], -1)
    parts = [
        Region(drawn[..., number], np.asarray(style), weight=weight)
        for number, (style, weight) in enumerate(zip(styles[1:], (2.0, 0.5), strict=True))
    ]
    given = controls.checked_controls((HEIGHT, WIDTH), [STYLES[0]], regions=parts)
    sizes = [STYLES[0], STYLES[1], STYLES[1]]
    given = controls.controls_of(given, (HEIGHT, WIDTH), sizes)
    # Masks are float32, in which the sums of T² would be too coarse for differences in float64.
    given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), given)
    targets, (_, result), gradient = found(params64, image, content, styles, recipe, given)

    shares = numpy_shares(drawn.astype(np.float32))
    if reach != "simple":
        shares = (shares == shares.max(-1, keepdims=True)).astype(np.float32)
        assert (shares.sum(-1) == 2).any()  # where the two masks are 1, the pixel is in both
    taps = recipe.terms.style_taps
    at = targets.guides.masks
    for tap, mask in masks.at_taps(jnp.asarray(shares), taps, reach=reach, growth=1).items():
        assert_allclose(at[tap], mask, atol=2.0**-16)  # the step to which resized masks are rounded
    read = jax.jit(lambda picture: nst.features(params64, picture, taps, network=recipe.network))
    wanted = [
        {
            tap: by_hand(one, np.ones(one.shape[:2]), losses.GRAM_MEAN_SQUARE)
            for tap, one in f.items()
        }
        for f in map(read, styles)
    ]

    def by_numpy(image):
        found, features = {}, read(image)
        for tap, weight in zip(taps, recipe.terms.style_layer_weights, strict=True):
            grams = [
                by_hand(features[tap], at[tap][..., number], losses.GRAM_MEAN_SQUARE)
                for number in range(3)
            ]
            distances = [
                np.square(gram - target[tap]).mean()
                for gram, target in zip(grams, wanted, strict=True)
            ]
            blended = np.dot((1.0, 2.0, 0.5), distances) / 3.5
            found[tap] = float(recipe.terms.style_weight) * float(weight) * blended
        return found

    for tap, value in by_numpy(image).items():
        assert_allclose(
            result.style_layers[tap], value, rtol=1e-6
        )  # weights of regions are float32
    rng = np.random.default_rng(5)
    for _ in range(3):
        # The step is so short because poolings have kinks, and pixels count 255 times in the network.
        way = rng.normal(size=image.shape)
        ends = [sum(by_numpy(image + step * way).values()) for step in (1e-9, -1e-9)]
        assert_allclose(np.sum(gradient * way), (ends[0] - ends[1]) / 2e-9, rtol=1e-5)


def check_the_style_loss(params, recipe, reach):
    recipe = terms(recipe, region_reach=reach, region_growth=1)
    loss = recipe.terms.style_loss
    image, content, *styles = pictures()
    given = made(soft(1), style_mask=soft(2, *STYLES[1]), weight=3.0)
    _, (_, result), gradient = found(params, image, content, styles, recipe, given)
    maps = {
        name: features(params, picture, recipe.terms.style_taps, network=recipe.network)
        for name, picture in zip(("image", "default", "region"), (image, *styles), strict=True)
    }
    shares = np.stack([1 - soft(1), soft(1)], -1)
    if reach != "simple":
        shares = (shares >= 0.5).astype(np.float32)
    at = masks.at_taps(jnp.asarray(shares), recipe.terms.style_taps, reach=reach, growth=1)
    there = masks.at_taps(
        jnp.asarray(soft(2, *STYLES[1])[..., None]), recipe.terms.style_taps, reach=reach, growth=1
    )
    for tap, weight in zip(recipe.terms.style_taps, recipe.terms.style_layer_weights, strict=True):
        everything = np.ones(maps["default"][tap].shape[:2])
        wanted = [
            loss.target(by_hand(maps["default"][tap], everything, loss)),
            loss.target(by_hand(maps["region"][tap], there[tap][..., 0], loss)),
        ]
        extent = losses.Extent(HEIGHT * WIDTH, HEIGHT * WIDTH)
        distances = [
            float(
                loss.distance(
                    jax.tree.map(
                        jnp.asarray, by_hand(maps["image"][tap], at[tap][..., number], loss)
                    ),
                    jax.tree.map(jnp.asarray, wanted[number]),
                    extent,
                )
            )
            for number in range(2)
        ]
        expected = float(recipe.terms.style_weight) * weight * (distances[0] + 3 * distances[1]) / 4
        assert_allclose(result.style_layers[tap], expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


def weighted(params, recipe, **given):
    """Return losses and gradient of the canvas of `pictures`, with the controls of `made`."""
    image, content, *styles = pictures()
    region = given.pop("region", None)
    shapes = [STYLES[0]]
    checked = controls.checked_controls(
        (HEIGHT, WIDTH), shapes, regions=region and [Region(**region)], **given
    )
    used = styles[: 1 + bool(region)]
    if checked is None:
        return found(params, image, content, used, recipe, None)
    sizes = [STYLES[0], *([region["style"].shape[:2]] if region else [])]
    return found(
        params, image, content, used, recipe, controls.controls_of(checked, (HEIGHT, WIDTH), sizes)
    )


@pytest.mark.long
def test_a_region_of_the_whole_picture_is_its_style_alone(params64, x64):
    params = params64
    image, content, _, style = pictures()
    _, (_, whole), gradient = found(params, image, content, style, DEFAULT, None)
    region = {"mask": np.ones((HEIGHT, WIDTH)), "style": np.asarray(style), "weight": 0.3}
    _, (_, masked), masked_gradient = weighted(params, DEFAULT, region=region)
    for tap, value in whole.style_layers.items():
        assert_allclose(masked.style_layers[tap], value, rtol=1e-6)
    assert_allclose(masked_gradient, gradient, atol=1e-6 * float(jnp.abs(gradient).max()))


@pytest.mark.long
def test_regions_of_one_mask_blend_their_styles(params):
    """Each style of the part is compared with the whole part, and the losses are a weighted sum."""
    image, content, first, second = pictures()
    third = second[::-1] ** 2
    mask, shape = left(0.5), (HEIGHT, WIDTH)

    def painted(*parts):
        regions = [Region(mask, np.asarray(style), weight=weight) for style, weight in parts]
        given = controls.checked_controls(shape, [STYLES[0]], regions=regions)
        sizes = [STYLES[0], *(style.shape[:2] for style, _ in parts)]
        styles = [first, *(style for style, _ in parts)]
        return found(
            params, image, content, styles, GRAM, controls.controls_of(given, shape, sizes)
        )

    _, (_, blend), gradient = painted((second, 1.0), (third, 3.0))
    # With the default style's loss d and those of the part, a and b: (d + a + 3 b) / 5, from the
    # runs of a single region, (d + a) / 2, (d + b) / 2 and d.
    single = [painted((second, 1.0)), painted((third, 1.0)), painted((second, 0.0))]
    shares = (0.4, 1.2, -0.6)
    for tap in GRAM.terms.style_taps:
        parts = [one[1][1].style_layers[tap] for one in single]
        assert_allclose(blend.style_layers[tap], np.dot(shares, parts), rtol=1e-5)
    expected = np.tensordot(shares, np.stack([one[2] for one in single]), 1)
    assert_allclose(gradient, expected, atol=1e-5 * float(jnp.abs(gradient).max()))


def test_swapped_masks_swap_what_the_regions_are_compared_with(params):
    image, content, first, second = pictures()
    mask = left(0.5)
    one = made(mask, style=second)
    other = one._replace(masks=1 - one.masks)
    a, *_ = found(params, image, content, [first, second], GRAM, one)
    b, *_ = found(params, image, content, [first, second], GRAM, other)
    for tap in GRAM.terms.style_taps:
        assert_allclose(a.guides.masks[tap], b.guides.masks[tap][..., ::-1])
        assert_allclose(a.style[tap], b.style[tap])


def test_an_empty_region_is_left_out_at_that_tap_only(params):
    tiny = np.zeros((HEIGHT, WIDTH))
    tiny[10:14, 20:24] = 1  # 4 px: a position of relu2_1 sees more
    image, content, *styles = pictures()
    targets, (_, result), gradient = found(params, image, content, styles, GRAM, made(tiny))
    assert_allclose(targets.guides.shares["relu1_1"], [0.5, 0.5])
    assert_allclose(targets.guides.shares["relu2_1"], [1.0, 0.0])
    assert np.isfinite(gradient).all() and np.isfinite(result.total)


def test_a_loss_that_is_undefined_for_an_empty_region_spoils_nothing(params):
    def distance(canvas, style, extent):
        return jnp.sum(jnp.square(canvas - style)) / jnp.sum(
            jnp.square(canvas)
        )  # 0 / 0 without any

    loss = losses.StyleLoss(losses.gram, losses.mean_over_positions, distance)
    tiny = np.zeros((HEIGHT, WIDTH))
    tiny[10:14, 20:24] = 1
    image, content, *styles = pictures()
    recipe = small.shallow(style_loss=loss)
    targets, (_, result), gradient = found(params, image, content, styles, recipe, made(tiny))
    assert_allclose(targets.guides.shares["relu2_1"], [1.0, 0.0])
    assert np.isfinite(gradient).all() and np.isfinite(result.total)


@pytest.mark.parametrize("side", ["content", "style"])
def test_transparent_parts_count_in_no_statistic(params, side):
    """Whatever is under them changes no statistic, beyond what positions that are left in see of it."""
    recipe = terms(GRAM, region_growth=0)
    image, content, style, _ = pictures()
    shape = (HEIGHT, WIDTH) if side == "content" else STYLES[0]
    opacity = left(0.5, *shape)
    given = controls.checked_controls(
        (HEIGHT, WIDTH),
        [STYLES[0]],
        **{"opacity" if side == "content" else "style_opacity": opacity},
    )
    given = controls.controls_of(given, (HEIGHT, WIDTH), [STYLES[0]])
    other = jnp.where(jnp.asarray(opacity)[..., None] > 0, 0, 0.9)
    changed = {"content": image, "style": style}
    changed[side] = jnp.where(other > 0, other, changed[side])
    plain = found(params, image, content, [style], recipe, given)
    hidden = found(params, changed["content"], content, [changed["style"]], recipe, given)
    for tap in recipe.terms.style_taps:
        assert_allclose(hidden[1][1].style_layers[tap], plain[1][1].style_layers[tap], rtol=1e-4)
        assert (plain[0].guides is not None) and (plain[0].kept is None)


def test_protected_parts_are_held_and_not_seen_by_styles(params):
    image, content, style, _ = pictures()
    mask = soft(3)
    recipe = terms(GRAM, region_reach="simple")
    given = controls.controls_of(
        controls.checked_controls((HEIGHT, WIDTH), [STYLES[0]], protect=Protect(mask, 0.7)),
        (HEIGHT, WIDTH),
        [STYLES[0]],
    )
    targets, (_, result), _ = found(params, image, content, [style], recipe, given)
    (tap,) = targets.guides.held
    assert tap == "relu1_2"
    for name, at in targets.guides.masks.items():
        wanted = 1 - 0.7 * masks.resized_masks(jnp.asarray(mask)[..., None], at.shape[:2])
        assert_allclose(at, wanted, atol=4e-5)  # resized masks have steps of 2^-16
        assert name in recipe.terms.style_taps
    a, b = (
        np.asarray(features(params, x, ("relu2_1", tap), network=recipe.network)[tap], np.float64)
        for x in (image, content)
    )
    c, d = (
        np.asarray(features(params, x, ("relu2_1",), network=recipe.network)["relu2_1"])
        for x in (image, content)
    )
    # GRAM's content loss is a mean of squares, or relative: either way a function of two sums.
    loss, weight = recipe.terms.content_loss, float(recipe.terms.content_weight)
    root = np.sqrt(0.7 * mask)[..., None]
    expected = weight * float(loss(jnp.asarray(c), jnp.asarray(d)))
    expected += weight * float(loss(jnp.asarray(a * root), jnp.asarray(b * root)))
    assert_allclose(result.content, expected, rtol=1e-4)
    none = given._replace(amount=jnp.zeros(()))
    _, (_, free), _ = found(params, image, content, [style], recipe, none)
    _, (_, plain), _ = found(params, image, content, style, recipe, None)
    assert_allclose(free.style, plain.style, rtol=1e-5)
    assert_allclose(free.content, plain.content, rtol=1e-5)


def test_a_partly_protected_flat_picture_has_the_loss_of_float32_in_bfloat16(params):
    product = np.ones((32, 32, 3), np.float32)
    product[14:18, 14:18] = (0.8, 0.2, 0.1)
    style = small.picture("starry_night", 32, 32)
    recipe = small.quickest(recipes.DEFAULT, steps=1)

    def first(precision, amount):
        protect = Protect(np.ones((32, 32)), amount)
        options = {"recipe": recipe, "protect": protect, "bucket": "off"}
        shot = next(nst.paint(params, product, style, precision=precision, **options))
        assert shot.broke_at < 0
        return float(shot.losses.style)

    for amount in (0.3, 0.1):
        assert_allclose(first("bfloat16", amount), first("float32", amount), rtol=0.02)


def test_the_gradient_of_a_protected_pixel_is_the_free_one_times_the_rest(params64, x64):
    image, content, style, _ = pictures()
    image = 0.25 + image / 2  # so that no pixel is clipped
    mask, amount, rate = soft(3).copy(), 0.7, 1e-7
    mask[:9, :9] = 1
    checked = controls.checked_controls((HEIGHT, WIDTH), [STYLES[0]], protect=Protect(mask, amount))
    given = controls.controls_of(checked, (HEIGHT, WIDTH), [STYLES[0]])
    recipe = recipes.as_arrays(
        GRAM.replace(optimizer=optimizers.DecayedSGD(learning_rate=rate, decay=1.0)), jnp.float64
    )

    @jax.jit
    def gradients(given):
        """Return the gradient of a canvas, and that of the picture it shows if nothing is kept."""
        targets = nst.measure(params64, content, [style], recipe, controls=given)
        share = (given.amount * given.protect)[..., None]
        moves = []
        for start, kept in ((image, targets.kept), ((1 - share) * image + share * content, None)):
            state = nst.step(params64, nst.init(start, recipe), targets._replace(kept=kept), recipe)
            moves.append((start - state.pending) / rate)
        return moves

    protected, free = map(np.asarray, gradients(given))
    assert np.abs(free[:9, :9]).mean() > 1
    error = np.abs(protected - (1 - amount * mask[..., None]) * free).max()
    assert error < 1e-7 * np.abs(free).max()
    whole, _ = gradients(given._replace(amount=jnp.ones_like(given.amount)))
    assert_array_equal(np.asarray(whole)[mask == 1], 0)


# --- Tiles, bands, batches, compiled programs -----------------------------------------------------

SHAPE = (131, 101)


def all_controls(shape, styles):
    """Return one region with a style's mask, a protected part and a transparent part."""
    region = Region(soft(1, *shape), np.zeros((*styles[1], 3)), soft(2, *styles[1]), 2.0)
    opacity = np.ones(shape, np.float32)
    opacity[-9:, -30:] = 0
    given = controls.checked_controls(
        shape, styles[:1], regions=[region], protect=Protect(soft(4, *shape), 0.8), opacity=opacity
    )
    return controls.controls_of(given, shape, styles)


def large_pictures():
    rng = np.random.default_rng(0)
    shapes = SHAPE, SHAPE, (70, 53), (81, 99)
    return [jnp.asarray(rng.random((*shape, 3))) for shape in shapes]


@jax.jit
def split_in(params, image, content, styles, recipe, given, split=None):
    """Return style targets, losses and gradient of an image, in bands if `split` says how."""
    targets = nst.measure(params, content, styles, recipe, controls=given, bands=split)

    def total(image):
        canvas = bands.with_padding(image, split)
        result = nst.losses_of(params, canvas, targets, recipe, bands=split)
        return result.total, result

    return targets.style, *jax.value_and_grad(total, has_aux=True)(image)


@pytest.fixture(scope="module")
def of_the_whole(params64):
    """Return the arguments of `split_in` for the whole picture, and what it returns."""
    with small.double():
        image, content, *styles = large_pictures()
        given = all_controls(SHAPE, [style.shape[:2] for style in styles])
        recipe = recipes.as_arrays(terms(DEEP, region_growth=1), jnp.float64)
        arguments = (params64, image, content, styles, recipe, given)
        return arguments, jax.tree.map(np.asarray, split_in(*arguments))


# Tiles in bands cut both ways; `test_region_runs.py` paints in tiles alone and in bands alone.
@pytest.mark.optimized
@pytest.mark.parametrize(
    ("tile", "banded"),
    [
        (32, True),
        *(pytest.param(*cut, marks=pytest.mark.long) for cut in ((32, False), (0, True))),
    ],
    ids=["tiles in bands", "tiles", "bands"],
)
def test_tiles_and_bands_give_the_losses_of_the_whole_picture(tile, banded, of_the_whole, x64):
    (params, image, content, styles, recipe, given), whole = of_the_whole
    arguments = (params, image, content, styles, network(recipe, tile=tile), given)
    split = None
    if banded:
        mesh = sharding.mesh_of(jax.devices()[:2], axis=sharding.BANDS)
        split = bands.bands_of(mesh, SHAPE, arguments[4].network)
        arguments = sharding.replicate(arguments, mesh)
    found = jax.tree.map(np.asarray, split_in(*arguments, split))
    assert apart(whole, found) < 1e-10


@pytest.mark.long
def test_another_mask_weight_or_amount_compiles_nothing(params):
    image, content, *styles = pictures()
    first = all_controls((HEIGHT, WIDTH), STYLES)
    other = first._replace(
        masks=1 - first.masks,
        weights=first.weights * 3,
        protect=1 - first.protect,
        amount=first.amount / 2,
    )
    run = jax.jit(lambda given: found(params, image, content, styles, GRAM, given)[1][1].total)
    values = run(first), run(other)
    assert run._cache_size() == 1
    assert values[0] != values[1]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, other)
    assert_allclose(jax.jit(jax.vmap(run))(both), jnp.stack(values), rtol=1e-4)
