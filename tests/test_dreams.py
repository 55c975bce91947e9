"""Deep Dream: what is maximised, one step against PyTorch, octaves, keys, tiles, bad input."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import dreaming, dreams
from nst_jax._compile import Jitted
from nst_jax._types import Params
from nst_jax.dreams import settings
from nst_jax.dreams.ascent import MATCHED_AT_ONCE, _normalized
from nst_jax.images import resizing
from nst_jax.scaling import tile_grid
from nst_jax.vgg.precision import BFLOAT16
from tests import reference, small

TAPS = ("relu1_2", "relu2_1")
ASCENT = dreams.Ascent(taps=TAPS, weights=(1.0, 3.0), jitter=5)
QUICK = {"taps": TAPS, "size": "as-is", "octaves": 2, "octave_scale": 1.25, "steps": 3, "jitter": 4}

ascend, climb, excitement = map(jax.jit, (dreams.ascend, dreams.climb, dreams.excitement))


def activations(params, image, tap):
    """Return the activations [positions, channels] of the independent network in float64."""
    found = reference.features(params, reference.pixels(image), deepest=tap)[tap]
    return found.reshape(-1, found.shape[-1])


def mean_square(params, image, tap):
    return np.mean(activations(params, image, tap) ** 2)


def likeness(params, image, guide, tap):
    """Return the mean cosine between each position and the position of the guide most like it."""
    rows, others = (activations(params, each, tap) for each in (image, guide))
    rows, others = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9) for x in (rows, others))
    return np.mean(np.max(rows @ others.T, axis=1))


def guide_features(params, guide, taps=TAPS):
    return jax.jit(nst.features, static_argnums=2)(params, jnp.asarray(guide), taps)


# --- What is maximised ----------------------------------------------------------------------------


def test_the_excitement_is_the_mean_square_of_the_independent_networks_taps(params, content):
    found = excitement(params, content, ASCENT)
    wanted = {tap: mean_square(params, content, tap) for tap in TAPS}
    assert found.taps == pytest.approx(wanted, rel=1e-5)
    assert found.total == pytest.approx((wanted[TAPS[0]] + 3 * wanted[TAPS[1]]) / 4, rel=1e-5)


def test_with_a_guide_it_is_the_mean_product_with_the_best_match(params, content, style):
    found = excitement(params, content, ASCENT, guide_features(params, style))
    for tap in TAPS:
        rows, guide = (activations(params, each, tap) for each in (content, style))
        best = guide[np.argmax(rows @ guide.T, axis=1)]
        assert found.taps[tap] == pytest.approx(np.mean(rows * best), rel=1e-5)


def test_matches_are_found_in_chunks_as_in_one_piece(x64):
    rows, guide = small.noise(0, 2 * MATCHED_AT_ONCE + 7, 3), small.noise(1, 11, 3)
    found = dreams.ascent._best_matches(rows, guide, jax.lax.Precision.HIGHEST)
    best = np.argmax(np.asarray(rows) @ np.asarray(guide).T, axis=1)
    np.testing.assert_array_equal(found, np.asarray(guide)[best])


def test_only_the_ratios_of_weights_matter(params, content):
    key, state = jax.random.key(3), dreams.begin(content, ASCENT)
    once, _ = ascend(params, state, ASCENT, key, 3)
    again, _ = ascend(params, state, replace(ASCENT, weights=(4.0, 12.0)), key, 3)
    np.testing.assert_array_equal(once.pending, again.pending)


def test_the_mean_squares_of_all_taps_rise(params, content):
    image = nst.dream(params, content, **QUICK | {"steps": 6})
    for tap in TAPS:
        assert mean_square(params, image, tap) > 1.2 * mean_square(params, content, tap)


def test_a_guide_pulls_towards_its_features(params, content, style):
    options = QUICK | {"steps": 8}
    plain = nst.dream(params, content, **options)
    guided = nst.dream(params, content, guide=style, guide_size="as-is", **options)
    for tap in TAPS:
        start, without, with_guide = (
            likeness(params, image, style, tap) for image in (content, plain, guided)
        )
        assert with_guide > max(start, without) + 0.005


def test_a_dream_matches_its_own_guide_better_than_another(params, content, style):
    guides = style, 1 - style
    dreamt = [nst.dream(params, content, guide=g, guide_size="as-is", **QUICK) for g in guides]
    for own, guide in enumerate(guides):
        features = guide_features(params, guide)
        found = [excitement(params, image, ASCENT, features).total for image in dreamt]
        assert found[own] > 1.01 * found[1 - own]


# --- One step -------------------------------------------------------------------------------------


def step_by_torch(torch, params, image, shift, step_size, weights, guide=None):
    """Return a picture after one step of Deep Dream, by PyTorch in float64."""
    canvas = torch.tensor(np.asarray(image, np.float64), requires_grad=True)

    def features(picture):
        means = torch.tensor(reference.MEANS_BGR, dtype=torch.float64)
        x = (picture.flip(-1) * 255 - means).permute(2, 0, 1)[None]
        found = {}
        for name in ("1_1", "1_2", "2_1"):
            layer = params.layers[f"conv{name}"]
            kernel, bias = (
                torch.tensor(np.asarray(layer[part], np.float64)) for part in ("kernel", "bias")
            )
            x = torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1).relu()
            found[f"relu{name}"] = x[0].flatten(1)  # [channels, positions]
            x = torch.nn.functional.max_pool2d(x, 2) if name == "1_2" else x
        return found

    found = features(torch.roll(canvas, shift, (0, 1)))
    total = 0.0
    for tap, weight in weights.items():
        y = found[tap]
        if guide is not None:  # as `objective_guide`: the match is a constant
            others = features(torch.tensor(np.asarray(guide, np.float64)))[tap]
            y = others[:, (found[tap].T @ others).argmax(1)].detach()
        total = total + weight / sum(weights.values()) * (found[tap] * y).mean()
    if guide is None:  # a square has twice the gradient of a product with a constant
        assert total.item() == pytest.approx(
            sum(w * found[t].square().mean().item() for t, w in weights.items())
            / sum(weights.values())
        )
    total.backward()
    change = canvas.grad / canvas.grad.std(correction=0)
    return torch.clip(canvas.detach() + step_size * change, 0, 1).numpy(), total.item()


@pytest.mark.torch
@pytest.mark.parametrize("guided", [False, True])
def test_a_step_is_that_of_torch(guided, torch, params, content, style, key, x64):
    image, ascent = content.astype("float64"), replace(ASCENT, step_size=0.05)
    features = guide_features(params, style.astype("float64")) if guided else None
    state = climb(params, dreams.begin(image, ascent), ascent, key, features)
    shift = jax.random.randint(jax.random.fold_in(key, 0), (2,), -5, 6)
    weights = dict(zip(TAPS, ascent.weights, strict=True))
    wanted, value = step_by_torch(
        torch, params, image, shift.tolist(), 0.05, weights, style if guided else None
    )
    np.testing.assert_allclose(state.pending, wanted, atol=1e-9)
    assert state.excitement.total == pytest.approx(value, rel=1e-9)
    assert int(state.step) == 0 and int(state.broke_at) == -1


def test_the_gradient_is_that_of_finite_differences(params, content, style, x64):
    image = content.astype("float64")
    features = guide_features(params, style.astype("float64"))
    direction = small.noise(1, *image.shape)
    for guide in (None, features):
        gradient = jax.jit(dreams.ascent._excitement_and_gradient)(params, image, ASCENT, guide)[1]
        ahead, behind = (
            excitement(params, image + sign * 1e-6 * direction, ASCENT, guide).total
            for sign in (1, -1)
        )
        assert jnp.vdot(gradient, direction) == pytest.approx(
            float(ahead - behind) / 2e-6, rel=1e-5
        )


def test_a_step_changes_pixels_by_its_size(params, key):
    grey = jnp.full((24, 32, 3), 0.5) + 0.1 * small.noise(0, 24, 32, 3).astype("float32")
    state = dreams.begin(grey, ASCENT)
    for step_size in (0.001, 0.01):
        after = climb(params, state, replace(ASCENT, step_size=step_size), key)
        assert jnp.std(after.pending - grey) == pytest.approx(step_size, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_gradient_is_normalised_whatever_its_scale(scale):
    gradient = scale * small.noise(0, 6, 5, 3).astype("float32")
    assert jnp.std(_normalized(gradient)) == pytest.approx(1, rel=1e-5)


def test_a_gradient_of_zeros_stays_zero():
    np.testing.assert_array_equal(_normalized(jnp.zeros((4, 4, 3))), 0)


# --- The ascent as a function ---------------------------------------------------------------------


def test_jit_and_eager_agree(params, content, style, key):
    shallow = replace(
        ASCENT, taps=("relu1_1",), weights=(1.0,)
    )  # eager calls compile every operation
    state, guide = dreams.begin(content, shallow), guide_features(params, style, shallow.taps)
    for features in (None, guide):
        eager = dreams.climb(params, state, shallow, key, features)
        jitted = climb(params, state, shallow, key, features)
        np.testing.assert_allclose(jitted.pending, eager.pending, atol=2e-5)
        assert jitted.excitement.total == pytest.approx(float(eager.excitement.total), rel=1e-5)


def test_a_batch_is_a_vmap_of_single_pictures(params, content, key):
    pictures = jnp.stack([content, content[::-1], 1 - content])
    keys = jax.random.split(key, 3)
    states = jax.vmap(lambda image: dreams.begin(image, ASCENT))(pictures)
    run = partial(dreams.ascend, params, ascent=ASCENT, steps=3)
    batch, found = jax.jit(jax.vmap(lambda state, key: run(state=state, key=key)))(states, keys)
    for index in range(3):
        single, value = ascend(
            params, dreams.begin(pictures[index], ASCENT), ASCENT, keys[index], 3
        )
        np.testing.assert_allclose(batch.pending[index], single.pending, atol=1e-4)
        np.testing.assert_allclose(found.total[index][:3], value.total[:3], rtol=1e-4)


def test_a_key_decides_the_picture(params, content):
    first, again, other = (
        nst.dream(params, content, key=jax.random.key(seed), **QUICK) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    still = [
        nst.dream(params, content, key=jax.random.key(seed), **QUICK | {"jitter": 0})
        for seed in (1, 2)
    ]
    np.testing.assert_array_equal(*still)


def test_bfloat16_is_a_precision_of_the_network_only(params, content):
    network = replace(ASCENT.network, precision=BFLOAT16)
    half = excitement(params, content, replace(ASCENT, network=network))
    full = excitement(params, content, ASCENT)
    assert half.total.dtype == jnp.float32 and half.total != full.total
    assert half.taps == pytest.approx({t: float(x) for t, x in full.taps.items()}, rel=0.02)
    image = nst.dream(params, content, precision="bfloat16", **QUICK)
    assert image.dtype == jnp.float32
    assert mean_square(params, image, TAPS[1]) > 1.1 * mean_square(params, content, TAPS[1])


# --- Tiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guided", [pytest.param(False, marks=pytest.mark.long), True])
def test_tiles_give_the_excitement_and_gradient_of_the_whole_picture(guided, params, x64):
    image = jnp.asarray(small.picture("chelsea", 67, 101), "float64")
    guide = small.picture("starry_night", 28, 20).astype("float64")
    features = guide_features(params, guide) if guided else None
    tiled = replace(ASCENT, network=replace(ASCENT.network, tile=32))
    assert tile_grid.grid_of((67, 101), TAPS, tiled.network).count > 1
    compute = jax.jit(dreams.ascent._excitement_and_gradient)
    whole, gradient = compute(params, image, ASCENT, features)
    found, of_tiles = compute(params, image, tiled, features)
    assert found.total == pytest.approx(float(whole.total), rel=1e-12)
    np.testing.assert_allclose(of_tiles, gradient, rtol=1e-9, atol=1e-12 * jnp.abs(gradient).max())
    assert excitement(params, image, tiled, features).total == pytest.approx(
        float(whole.total), rel=1e-12
    )


def test_a_dream_in_tiles_is_the_same_picture(params):
    content = small.picture("chelsea", 67, 101)
    options = {"taps": "relu1_2", "size": "as-is", "octaves": 1, "steps": 3, "jitter": 4}
    whole, tiled = (nst.dream(params, content, tile=tile, **options) for tile in ("off", 32))
    assert np.abs(whole - tiled).max() < 2e-4


# --- Octaves --------------------------------------------------------------------------------------


def test_octaves_are_as_many_sizes():
    made = settings.settings_of("relu1_1", size=512)
    scales = made.scales((300, 450), None)
    assert [scale.shape for scale in scales] == [(124, 187), (174, 261), (244, 366), (341, 512)]
    assert [scale.steps for scale in scales] == [10] * 4 and made.updates == 40


def test_what_an_octave_added_is_added_to_the_next(content):
    base = jnp.asarray(small.picture("chelsea", 36, 48))
    same = dreaming.start(base, ASCENT, content, content)
    np.testing.assert_array_equal(same.pending, base)
    brighter = dreaming.start(base, ASCENT, content + 0.25, content)
    np.testing.assert_allclose(brighter.pending, jnp.clip(base + 0.25, 0, 1), atol=1e-6)
    first = dreaming.start(base, ASCENT)
    np.testing.assert_array_equal(first.pending, base)


def test_every_octave_gets_all_its_steps(params, content):
    """The loop is that of the definition: steps, details enlarged, steps."""
    made = settings.settings_of(**QUICK)
    scales = made.scales(content.shape[:2], None)
    key, canvas, before = jax.random.key(7), None, None
    for octave, scale in enumerate(scales):
        base = resizing.antialiased(content, scale.shape)
        state = dreaming.start(base, made.ascent, canvas, before)
        for _ in range(scale.steps):
            state = climb(params, state, made.ascent, jax.random.fold_in(key, octave))
        canvas, before = state.pending, base
    found = nst.dream(params, content, key=key, **QUICK)
    np.testing.assert_allclose(found, canvas, atol=1e-4)


def shots(params, content, every, **options):
    made = settings.settings_of(**QUICK | options)
    content = np.asarray(content)
    plan = dreaming.plan_dream(made, content, None)
    return list(
        dreaming.dream_planned(
            params, content, None, made, plan, key=jax.random.key(0), every=every
        )
    )


def test_shots_do_not_change_the_picture_and_have_all_values(params, content):
    found, few = shots(params, content, 1), shots(params, content, 100)
    assert [shot.step for shot in found] == list(range(7)) and [s.step for s in few] == [0, 6]
    assert [shot.octave for shot in found] == [0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(found[-1].image, few[-1].image)
    joined = [np.concatenate([shot.history.total for shot in each]) for each in (found, few)]
    np.testing.assert_array_equal(*joined)
    assert len(joined[0]) == 7 and np.isfinite(joined[0]).all()
    assert found[0].image.shape == (19, 26, 3) and found[-1].image.shape == (24, 32, 3)
    np.testing.assert_array_equal(found[0].image, resizing.antialiased(content, (19, 26)))
    assert all(earlier.history.total[-1] == earlier.excitement.total for earlier in found)


def test_a_picture_may_have_8_bits(params, content):
    eight = np.round(np.asarray(content) * 255).astype(np.uint8)
    found, wanted = (nst.dream(params, each, **QUICK) for each in (eight, eight / 255))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# --- Compiling ------------------------------------------------------------------------------------


def test_there_is_one_program_for_each_octave_and_none_for_a_number(
    params, content, style, monkeypatch, compilations
):
    jitted = Jitted(dreams.ascend, donate_argnames="state")
    monkeypatch.setattr(dreaming, "PROGRAMS", dreaming.PROGRAMS._replace(ascend=jitted))
    guide = np.asarray(style)
    options = QUICK | {"guide": guide, "guide_size": "as-is"}
    nst.dream(params, content, **options)
    assert len(jitted._programs) == 2
    before = compilations()
    for change in (
        {"step_size": 0.02},
        {"step_size": 1},
        {"jitter": 0},
        {"steps": 5},
        {"taps": {"relu1_2": 2, "relu2_1": 0.5}},
        {"key": jax.random.key(9)},
        {"guide": guide[::-1]},
    ):
        nst.dream(params, content, **options | change)
    assert compilations() == before


# --- Failures and bad input -----------------------------------------------------------------------


def test_a_step_too_small_to_change_a_pixel_is_said(params, content):
    with pytest.raises(
        nst.Stalled, match="none of 6 updates changed .* a larger step size or another tap"
    ):
        nst.dream(params, content, **QUICK, step_size=1e-12)


def test_weights_that_are_not_finite_keep_the_last_canvas(params, content):
    layers = {name: dict(layer) for name, layer in params.layers.items()}
    layers["conv1_2"]["bias"] = layers["conv1_2"]["bias"].at[3].set(jnp.nan)
    with pytest.raises(
        nst.Diverged, match="maximises is not finite after 0 updates.* these are not"
    ) as caught:
        nst.dream(replace(params, layers=layers), content, **QUICK)
    assert np.isfinite(caught.value.image).all()


NAN = float("nan")
REFUSED = {
    "no params": ({"params": None}, TypeError, "`params`: expected Params"),
    "other params": (
        {"params": Params({"predictor": {}}, "magenta-arbitrary", "unit")},
        ValueError,
        "`params`: expected the weights of VGG-19, got those .*, of the family 'magenta-arbitrary'",
    ),
    "no picture": ({"content": "cat.jpg"}, TypeError, "`content`: .* `nst_jax.images.load`"),
    "a grey picture": ({"content": np.zeros((32, 32))}, ValueError, "`content`: .* repeat a grey"),
    "a small picture": ({"content": np.zeros((8, 32, 3))}, ValueError, "`content`: "),
    "a guide in 0..255": (
        {"guide": np.full((32, 32, 3), 255.0)},
        ValueError,
        "`guide`: .* divide it by 255",
    ),
    "a small guide": ({"guide": np.zeros((8, 300, 3))}, ValueError, "`guide`: "),
    "a guide's size alone": ({"guide_size": 64}, ValueError, "`guide_size`: there is no guide"),
    "an unknown tap": ({"taps": "relu4_5"}, ValueError, "`taps`: .* did you mean 'relu4_"),
    "an ambiguous tap": ({"taps": ["conv4_1"]}, ValueError, "`taps`: .* ambiguous"),
    "a tap twice": ({"taps": ["relu1_1", "relu1_1"]}, ValueError, "`taps`: .* twice"),
    "no tap": ({"taps": []}, ValueError, "`taps`: name at least one"),
    "a number for a tap": ({"taps": 4}, TypeError, "`taps`: expected a name"),
    "a negative weight": ({"taps": {"relu1_1": -1.0}}, ValueError, "`taps`: expected 0 or more"),
    "a weight that is none": ({"taps": {"relu1_1": "x"}}, TypeError, "`taps`: expected a number"),
    "weights of 0": ({"taps": {"relu1_1": 0.0}}, ValueError, "`taps`: all weights are 0"),
    "no steps": ({"steps": 0}, ValueError, "`steps`: expected 1 or more"),
    "half a step": ({"steps": 1.5}, TypeError, "`steps`: expected a whole number"),
    "a step size of 0": ({"step_size": 0}, ValueError, "`step_size`: expected more than 0"),
    "a step size of NaN": ({"step_size": NAN}, ValueError, "`step_size`: expected a finite"),
    "several step sizes": ({"step_size": np.ones(2)}, TypeError, "`step_size`: expected one"),
    "no octaves": ({"octaves": 0}, ValueError, "`octaves`: expected 1 to 100, got 0"),
    "a million octaves": (
        {"octaves": 10**6},
        ValueError,
        "`octaves`: expected 1 to 100, got 1000000",
    ),
    "a scale of 1": ({"octave_scale": 1}, ValueError, "`octave_scale`: expected more than 1"),
    "a vast scale": ({"octave_scale": 1e300}, ValueError, "`octaves`: .* choose 1 octaves at most"),
    "octaves too small": (
        {"octaves": 9, "size": 64},
        ValueError,
        r"`octaves`: octave 6 below 64x64 px, each 1.4 times smaller, would be 12x12 px, .* choose 5",
    ),
    "a negative jitter": ({"jitter": -1}, ValueError, "`jitter`: expected 0 or more"),
    "a fractional jitter": ({"jitter": 2.5}, TypeError, "`jitter`: expected a whole number"),
    "an unknown precision": ({"precision": "float23"}, ValueError, "`precision`: .* did you mean"),
    "a tile off the grid": ({"tile": 100}, ValueError, "`tile`: expected a multiple of 16"),
    "a size of nothing": ({"size": "x"}, ValueError, "`size`: expected a number of pixels"),
    "a guide size of nothing": (
        {"guide": np.zeros((32, 32, 3)), "guide_size": 8},
        ValueError,
        "`guide_size`: expected 16",
    ),
    "a number for a key": ({"key": 3}, TypeError, "`key`: expected a random key"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case, as_users_do, params, compilations):
    change, kind, message = REFUSED[case]
    arguments = {"params": params, "content": np.zeros((64, 64, 3)), **change}
    before = compilations()
    with pytest.raises(kind, match=message) as caught:
        nst.dream(arguments.pop("params"), arguments.pop("content"), **arguments)
    assert "\n" not in str(caught.value)
    assert compilations() == before


def test_a_picture_that_does_not_fit_is_refused_before_work(params, monkeypatch):
    monkeypatch.setattr(nst.scaling.capacity, "available", lambda device=None: 10**8)
    with pytest.raises(ValueError, match="`size`: 4000x4000 px takes .* even in tiles"):
        nst.dream(params, np.zeros((64, 64, 3)), size=4000)


def test_a_dream_is_planned_in_tiles_where_memory_demands_it():
    made = settings.settings_of("relu4_3", size=3000)
    plan = dreaming.plan_dream(made, np.zeros((64, 64, 3)), None)
    scarce = nst.scaling.plan.plan_scales(
        made.recipe, plan.scales, memory=plan.untiled.total // 4, platform="cpu"
    )
    assert scarce.recipe.network.tile > 0 and scarce.footprint.total < plan.untiled.total / 4


def test_a_tracer_is_refused(params, content):
    with pytest.raises(TypeError, match="`content`: got a tracer"):
        jax.jit(lambda image: nst.dream(params, image))(content)


def test_a_guide_must_have_the_taps_of_the_ascent(params, content, style):
    with pytest.raises(ValueError, match="`guide`: has features at relu1_1, and the dream's taps"):
        dreams.excitement(params, content, ASCENT, guide_features(params, style, ("relu1_1",)))


def test_a_batch_without_vmap_is_refused(params, content, key):
    pictures = jnp.stack([content, content])
    with pytest.raises(
        ValueError, match="`image`: expected one image .*; `jax.vmap` takes a batch"
    ):
        dreams.begin(pictures, ASCENT)
    with pytest.raises(
        ValueError, match="`image`: expected one image .*; `jax.vmap` takes a batch"
    ):
        dreams.excitement(params, pictures, ASCENT)
    states = jax.vmap(lambda image: dreams.begin(image, ASCENT))(pictures)
    with pytest.raises(ValueError, match="`state.pending`: expected one image .*takes a batch"):
        dreams.climb(params, states, ASCENT, key)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.0, 0.0), "`ascent.weights`: their sum, by which each is divided, is 0"),
        ((1.0,), "`ascent.weights`: expected 2, one for each tap .relu1_1, relu2_1., got 1"),
    ],
)
def test_weights_that_give_no_mean_are_refused(params, content, key, weights, said):
    ascent = dreams.Ascent(taps=("relu1_1", "relu2_1"), weights=weights)
    with pytest.raises(ValueError, match=said) as error:
        dreams.ascend(params, dreams.begin(content, ascent), ascent, key, 2)
    assert "\n" not in str(error.value)


def test_the_excitement_of_a_float16_picture_is_float32(params, content, key):
    ascent = replace(ASCENT, taps=("relu3_1",), weights=(1.0,))
    half = content.astype(jnp.float16)
    found, expected = (
        climb(params, dreams.begin(picture, ascent), ascent, key)
        for picture in (half, half.astype(jnp.float32))
    )
    assert found.pending.dtype == jnp.float16
    assert found.excitement.total.dtype == jnp.float32
    assert float(expected.excitement.total) > 65504  # the largest float16
    assert float(found.excitement.total) == pytest.approx(
        float(expected.excitement.total), rel=0.05
    )


@pytest.mark.parametrize("tap", ["preact1_1", "relu5_4"])
def test_the_first_and_the_last_tap_can_dream(tap, params, style, key):
    ascent = dreams.Ascent(taps=(tap,))

    def step(image, guide):
        features = nst.features(params, guide, (tap,))
        return dreams.climb(params, dreams.begin(image, ascent), ascent, key, features)

    image = jax.ShapeDtypeStruct((16, 33, 3), jnp.float32)
    assert jax.eval_shape(step, image, style).pending.shape == (16, 33, 3)
