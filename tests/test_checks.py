"""Bad input is refused before any work: which argument, what was given, what to do."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import (
    _checks,
    controls,
    feed_forward,
    images,
    losses,
    optimizers,
    raters,
    recipes,
    vgg,
)
from nst_jax.images import oklab, on_host, palettes, resizing
from nst_jax.optimizers import pyramid
from nst_jax.recipes import field_types, starts
from nst_jax.target_checks import fault_of_style_targets
from tests import small

pytestmark = pytest.mark.usefixtures("as_users_do")

SIZED = recipes.sizes.LongEdge(48)
GREY = np.full((20, 24, 3), 0.5, np.float32)
FAST = small.shallow()


def with_terms(**terms):
    return replace(FAST, terms=replace(FAST.terms, **terms))


def with_rule(**numbers):
    return replace(
        FAST, descent=replace(FAST.descent, optimizer=replace(FAST.descent.optimizer, **numbers))
    )


HISTORY_7 = with_rule(history=7)


# --- Tracers and swapped arguments ----------------------------------------------------------------

TRACEABLE = r"`nst_jax.measure`, `losses_of`, `init`, `step` and `run`"


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
@pytest.mark.parametrize("argument", ["params", "content", "style", "recipe"])
def test_a_tracer_is_refused_with_what_can_be_traced(params, verb, argument):
    def painted(traced):
        given = {"params": params, "content": GREY, "style": GREY, "recipe": FAST}
        *data, recipe = (given | {argument: traced}).values()
        return verb(*data, recipe=recipe)

    value = {"params": params, "recipe": FAST}.get(argument, GREY)
    named = {"recipe": "steps"}.get(argument, rf"{argument}s?(\[0\])?")
    with pytest.raises(TypeError, match=rf"^`{named}`: got a tracer.*{TRACEABLE}"):
        jax.jit(painted)(value)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((0, 2, 1, 3), r"`image`: expected an array .* got Targets; .*\(params, image, targets"),
        ((0, 1, 3, 2), r"`recipe`: expected Recipe, got Targets; .*\(params, image, targets, rec"),
        ((0, 1, 3, 3), r"`targets`: expected Targets, got Recipe; `measure` gives them"),
        ((0, 1, 1, 3), r"`targets`: expected Targets, got ndarray"),
        ((1, 0, 2, 3), r"`params`: expected Params, got ndarray; .*load_params.*the order is"),
    ],
)
def test_swapped_arguments_of_losses_of_are_named(params, order, message):
    targets = jax.eval_shape(nst.measure, params, GREY, GREY, FAST)
    given = (params, GREY, targets, FAST)
    with pytest.raises(TypeError, match=f"^{message}"):
        nst.losses_of(*(given[index] for index in order))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((1, 0, 2, 3), r"`params`: expected Params, got ndarray; .*measure\(params, content, sty"),
        ((0, 1, 3, 2), r"`recipe`: expected Recipe, got ndarray; .*measure\(params, content, sty"),
        ((0, 3, 1, 3), r"`content`: expected an array .* got Recipe; the order is measure"),
        ((0, 1, 3, 3), r"`style`: expected an array .* got Recipe; the order is measure"),
    ],
)
def test_swapped_arguments_of_measure_are_named(params, order, message):
    given = (params, GREY, GREY, FAST)
    with pytest.raises(TypeError, match=f"^{message}"):
        nst.measure(*(given[index] for index in order))


def position(recipe, image=GREY):
    """Return the shapes of a state and of targets."""
    params = jax.eval_shape(nst.load_params)
    targets = jax.eval_shape(lambda params: nst.measure(params, image, image, recipe), params)
    return jax.eval_shape(lambda: nst.init(image, recipe)), targets


def zeros(shapes):
    """Return arrays of zeros in the shapes and types of those of a pytree."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


STEP = r"the order is step\(params, state, targets, recipe\)$"


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((0, 2, 1, 3), f"`state`: expected State, got Targets; `init` makes one; {STEP}"),
        ((0, 1, 1, 3), f"`targets`: expected Targets, got State; `measure` gives them; {STEP}"),
        ((0, 1, 3, 2), f"`recipe`: expected Recipe, got Targets; .*{STEP}"),
        ((1, 0, 2, 3), f"`params`: expected Params, got State; .*{STEP}"),
    ],
)
def test_swapped_arguments_of_step_are_named(params, order, message):
    given = (params, *position(FAST), FAST)
    with pytest.raises(TypeError, match=f"^{message}"):
        nst.step(*(given[index] for index in order))


def test_swapped_arguments_of_run_init_and_match_are_named(params):
    state, targets = position(FAST)
    with pytest.raises(TypeError, match=r"^`recipe`: expected Recipe, got int; .*recipe, steps\)$"):
        nst.run(params, state, targets, 3, FAST)
    with pytest.raises(
        TypeError, match=r"^`recipe`: expected Recipe, got NoneType; .*\(image, rec"
    ):
        nst.init(GREY, None)
    with pytest.raises(
        TypeError, match=r"^`targets`: expected Targets, got ndarray; .*content, re"
    ):
        nst.match(params, state, GREY, targets, recipes.NNST, first=True)


@pytest.mark.parametrize(
    ("steps", "error", "said"),
    [
        (2.5, TypeError, "expected a whole number, got 2.5"),
        (-1, ValueError, "expected 0 or more, got -1"),
        (jnp.float32(3), TypeError, "expected a whole number, got an array of float32"),
        (jnp.arange(2), TypeError, r"expected a whole number, got an array .* the shape \[2\]"),
    ],
)
def test_what_is_no_number_of_steps_is_refused(params, steps, error, said):
    with pytest.raises(error, match=f"^`steps`: {said}"):
        nst.run(params, *position(FAST), FAST, steps)


@pytest.mark.parametrize("steps", [2, np.int64(2), np.asarray(2), jnp.asarray(2)])
def test_a_number_of_steps_may_be_of_any_integer_type(params, steps):
    state, targets = position(FAST)
    found = jax.eval_shape(
        lambda params, *position: nst.run(params, *position, FAST, steps), params, state, targets
    )
    assert found[0] == state


def test_targets_of_another_recipe_are_refused(params):
    other = small.shallowest()
    _, targets = position(other)
    said = "^`targets`: were measured with another recipe, since they have"
    with pytest.raises(
        ValueError, match=f"{said} content targets for relu1_1, and relu2_1 are nee"
    ):
        nst.losses_of(params, GREY, targets, FAST)
    style = position(FAST)[1]._replace(style=targets.style)
    with pytest.raises(
        ValueError, match=f"{said} style targets for preact1_1, relu1_1, and relu1_"
    ):
        nst.losses_of(params, GREY, style, FAST)
    with pytest.raises(ValueError, match=f"{said} content targets"):
        jax.eval_shape(nst.step, params, position(FAST)[0], targets, FAST)


STYLE_LOSSES = {
    "gram": FAST,
    "gaussian": FAST.replace(style_loss=losses.WASSERSTEIN_RELATIVE),
    "sorted": FAST.replace(style_loss=losses.SLICED_WASSERSTEIN),
    "hypercolumns": FAST.replace(style_loss=losses.NEAREST_HYPERCOLUMNS),
    "hypercolumns of one tap": FAST.replace(
        style_loss=losses.NEAREST_HYPERCOLUMNS,
        style_taps=("relu1_1",),
        style_layer_weights=(1.0,),
    ),
    "by tap": FAST.replace(style_loss=losses.NEAREST_BY_TAP),
    "transport": FAST.replace(
        style_loss=losses.RELAXED_TRANSPORT, style_layer_weights=(1.0, 1.0, 1.0)
    ),
}


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_targets_of_another_style_loss_are_refused(params, name):
    recipe, said = STYLE_LOSSES[name], "^`targets`: were measured with another recipe, since"
    state, own = position(recipe)

    def refuses(verb, *arguments):
        with pytest.raises(ValueError, match=said) as caught:
            jax.eval_shape(verb, params, *arguments)
        assert "measure them with this recipe" in str(caught.value)

    def matched(params, state, targets, recipe):
        return nst.match(params, state, targets, GREY, recipe, first=True)

    for other in STYLE_LOSSES.keys() - {name}:
        _, targets = position(STYLE_LOSSES[other])
        refuses(nst.losses_of, GREY, targets, recipe)
        refuses(nst.step, state, targets, recipe)
        if name.startswith("hypercolumns"):
            refuses(matched, state, targets, recipe)
    refuses(lambda *given: nst.run(*given, 1), state, targets, recipe)
    if name.startswith("hypercolumns"):
        state = jax.eval_shape(matched, params, state, own, recipe)
    found = jax.eval_shape(nst.step, params, state, own, recipe)
    assert found.losses.total.shape == ()


def test_targets_of_several_styles_and_of_regions_fit_their_recipe(params):
    recipe = STYLE_LOSSES["sorted"]
    small_style, large = (
        np.full((16, 17, 3), 0.5, np.float32),
        np.full((40, 30, 3), 0.5, np.float32),
    )
    for name, recipe in STYLE_LOSSES.items():
        for styles in ([small_style], [GREY, large], [large, GREY, small_style]):
            targets = jax.eval_shape(nst.measure, params, GREY, styles, recipe)
            assert not fault_of_style_targets(targets, recipe), name
    region = controls.Region(np.eye(20, 24, dtype=np.float32), large)
    given = controls.checked_controls((20, 24), [(20, 24)], regions=[region])
    masks = controls.controls_of(given, (20, 24), [(20, 24), (40, 30)])
    targets = jax.eval_shape(
        lambda *given: nst.measure(*given, controls=masks), params, GREY, [GREY, large], FAST
    )
    assert targets.style["relu1_1"].shape == (2, 64, 64)
    assert not fault_of_style_targets(targets, FAST)
    assert fault_of_style_targets(targets._replace(guides=None), FAST)


def test_an_error_of_an_own_loss_is_not_blamed_on_the_targets(params):
    def distance(canvas, style, extent):
        raise KeyError("mine")

    recipe = FAST.replace(style_loss=losses.GRAM_PAPER._replace(distance=distance))
    targets = jax.eval_shape(nst.measure, params, GREY, GREY, recipe)
    with pytest.raises(KeyError, match="mine"):
        jax.eval_shape(nst.losses_of, params, GREY, targets, recipe)


def test_a_share_that_is_an_array_is_not_measured(params):
    recipe = FAST.replace(style_shares=(np.asarray([1.0, 2.0]), 1.0))
    with pytest.raises(
        ValueError, match=r"^`recipe.terms.style_shares`: expected one number .* shape \[2\] for"
    ):
        nst.measure(params, GREY, [GREY, GREY], recipe)


@pytest.mark.parametrize(
    "other",
    [
        FAST.replace(optimizer=small.ADAM),
        replace(FAST, descent=replace(FAST.descent, average_decay=0.9)),
        FAST.replace(matting_weight=1.0),
    ],
    ids=["optimizer", "average", "losses"],
)
def test_a_state_of_another_recipe_is_refused(params, other):
    _, targets = position(FAST)
    with pytest.raises(
        ValueError, match=r"^`state`: is that of another recipe, .* `init\(image, r"
    ):
        nst.step(params, position(other)[0], targets, FAST)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: nst.init(GREY, with_rule(history=3)),
            r"`opt_state.memory.*` has the shape \[3.*\], and \[7.*\] is expected",
        ),
        (
            lambda state: state._replace(opt_state=nst.init(GREY[:16], HISTORY_7).opt_state),
            r"`opt_state.*` has the shape \[7, 16, 24, 3\], and \[7, 20, 24, 3\] is expected",
        ),
        (
            lambda state: state._replace(canvas=GREY[:16]),
            r"`canvas` has the shape \[16, 24, 3\], and \[20, 24, 3\] is expected",
        ),
    ],
    ids=["history", "opt_state", "canvas"],
)
@pytest.mark.parametrize("verb", [nst.step, lambda *given: nst.run(*given, 1)], ids=["step", "run"])
def test_a_state_of_another_shape_is_refused(params, verb, change, said):
    state, targets = position(HISTORY_7)
    message = (
        rf"^`state`: is that of another recipe or canvas, since {said}; `init\(image, recipe\)`"
    )
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(verb, params, change(state), targets, HISTORY_7)


def test_a_batch_of_states_is_stepped_by_vmap_only(params):
    batch = np.stack([GREY, GREY])
    targets = zeros(position(HISTORY_7)[1])
    states = jax.vmap(lambda image: nst.init(image, HISTORY_7))(batch)

    def step(state):
        return nst.step(params, state, targets, HISTORY_7)

    assert jax.eval_shape(jax.vmap(step), states).canvas.shape == batch.shape
    with pytest.raises(
        ValueError, match=r"^`image`: expected one image .*`jax.vmap` takes a batch"
    ):
        jax.eval_shape(step, states)


def test_matches_and_content_are_those_of_the_canvas(params):
    recipe = STYLE_LOSSES["hypercolumns"]
    state, targets = zeros(position(recipe))
    wide = np.full((20, 48, 3), 0.5, np.float32)

    def match(state, content):
        return nst.match(params, state, targets, content, recipe, first=True)

    with pytest.raises(
        ValueError,
        match=r"^`content`: expected the shape of `state.canvas`, \[20, 24, 3\], got \[20, 48, 3\]",
    ):
        jax.eval_shape(match, state, wide)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (state, GREY))
    matched = jax.eval_shape(jax.vmap(match), *batch)
    own, other = (
        jax.eval_shape(match, nst.init(picture, recipe), picture) for picture in (GREY, wide)
    )
    assert matched.matches.shape == (2, *own.matches.shape)

    def step(state):
        return nst.step(params, state, targets, recipe)

    assert jax.eval_shape(jax.vmap(step), matched).canvas.shape == (2, *GREY.shape)
    message = (
        rf"^`matches`: a canvas of 24x20 px needs {own.matches.size}, got an array of the shape "
        rf"\[{other.matches.size}\]; `nst_jax.match` finds those of this canvas"
    )
    assert other.matches.size > own.matches.size
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(step, own._replace(matches=other.matches))


def test_a_batch_is_not_measured_without_vmap(params):
    for argument in ("content", "style"):
        pictures = {"content": GREY, "style": GREY} | {argument: GREY[None]}
        with pytest.raises(
            ValueError, match=f"^`{argument}`: expected one image .*`jax.vmap` take"
        ):
            nst.measure(params, **pictures, recipe=FAST)


def test_controls_as_callers_give_them_are_not_yet_arrays(params):
    protect = controls.Protect(GREY[..., 0])
    with pytest.raises(
        TypeError, match=r"^`controls`: expected Controls, got Protect; .*controls_o"
    ):
        nst.measure(params, GREY, GREY, FAST, controls=protect)


def test_features_need_the_weights_and_the_settings_of_vgg(params):
    other = feed_forward.load_styles26()
    with pytest.raises(
        ValueError, match="^`params`: expected the weights of VGG-19, got those of an"
    ):
        nst.features(other, GREY, ["relu1_1"])
    with pytest.raises(
        TypeError, match="^`network`: expected Network, got Recipe; a recipe has one"
    ):
        nst.features(params, GREY, ["relu1_1"], network=FAST)
    with pytest.raises(TypeError, match="^`taps`: expected a list of tap names, got None"):
        nst.features(params, GREY, None)


def test_arrays_of_every_kind_have_losses(params):
    for image in (GREY, jnp.asarray(GREY), jax.ShapeDtypeStruct(GREY.shape, GREY.dtype)):
        targets = jax.eval_shape(lambda: nst.measure(params, GREY, GREY, FAST))
        found = jax.eval_shape(nst.losses_of, params, image, targets, FAST)
        assert found.total.shape == ()


# --- Pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (GREY[..., 0], r"got shape \[20, 24\]; repeat a grey picture three times"),
        (
            GREY[None],
            r"got shape \[1, 20, 24, 3\]; (for a batch use `stylize_many`|give one, as by `init\[0\]`)",
        ),
        (np.zeros((20, 24, 4), "f"), r"drop the alpha channel with `image\[\.\.\., :3\]`"),
        (np.zeros((3, 20, 24), "f"), r"move the channels last with `image\.transpose\(1, 2, 0\)`"),
        (
            np.zeros((20, 24, 1), "f"),
            r"got shape \[20, 24, 1\]; .* `np\.repeat\(image, 3, axis=-1\)`",
        ),
        (GREY * 255, r"expected values in \[0, 1\], got 127.5 to 127.5; divide it by 255"),
        (GREY - 1, r"expected values in \[0, 1\], got -0.5 to -0.5$"),
        (GREY * np.nan, "has NaN or infinite values"),
        (GREY + np.inf, "has NaN or infinite values"),
        (np.zeros((0, 24, 3), "f"), r"the image is empty, got shape \[0, 24, 3\]"),
        (np.zeros((20, 0, 3), np.uint8), r"the image is empty, got shape \[20, 0, 3\]"),
        (np.full((20, 24, 3), 128), "expected floating point in .* got int64; scale it"),
        (np.zeros((20, 24, 3), np.uint16), "got uint16"),
        (np.zeros((20, 24, 3), bool), "got bool"),
        (np.zeros((20, 24, 3), complex), "got complex128"),
    ],
)
@pytest.mark.parametrize("argument", ["content", "style", "init"])
def test_what_is_no_picture_is_refused_by_name(params, argument, image, message):
    pictures = {"content": GREY, "style": GREY} | {argument: image}
    with pytest.raises(ValueError, match=f"^`{argument}`: .*{message}"):
        nst.paint(params, recipe=FAST, **pictures)


def test_a_batch_is_refused_with_what_takes_one(params):
    for call, message in (
        (
            lambda: nst.stylize(params, GREY[None], GREY),
            "`content`: .*; for a batch use `stylize_many`",
        ),
        (
            lambda: nst.instant(GREY[None], "mosaic"),
            "`content`: .*; for a batch use `instant_many`",
        ),
        (lambda: nst.dream(params, GREY[None]), r"`content`: .*; give one, as by `content\[0\]`"),
        (lambda: nst.texture(params, GREY[None]), r"`style`: .*; give one, as by `style\[0\]`"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


@pytest.mark.parametrize("argument", ["content", "style", "init"])
@pytest.mark.parametrize("image", ["photo.jpg", [[0.5]], 7])
def test_what_is_no_array_is_refused_with_how_to_read_a_file(params, argument, image):
    pictures = {"content": GREY, "style": GREY} | {argument: image}
    message = rf"^`{argument}(\[0\])?`: expected an array.*`nst_jax.images.load`"
    with pytest.raises(TypeError, match=message):
        nst.paint(params, recipe=FAST, **pictures)


@pytest.mark.parametrize("argument", ["content", "style", "init"])
@pytest.mark.parametrize(
    ("image", "way"),
    [
        (GREY.tolist(), r"got list; `np\.asarray\(\.\.\.\)`"),
        (PIL.Image.new("P", (24, 20)), r"got Image; `np\.asarray\(picture\.convert\('RGB'\)\)`"),
    ],
)
def test_lists_and_pillows_pictures_are_refused_with_the_way_to_an_array(
    params, argument, image, way
):
    message = rf"^`{argument}(\[0\])?`: expected an array \[height, width, 3\], {way}"
    with pytest.raises(TypeError, match=message):
        nst.paint(params, **({"content": GREY, "style": GREY} | {argument: image}), recipe=FAST)
    if argument != "init":
        pictures = {"content": GREY, "style": GREY} | {argument: image}
        with pytest.raises(TypeError, match=message):
            nst.measure(params, **pictures, recipe=FAST)
        many = rf"^`{argument}s(\[0\])?(\[0\])?`: expected .*{way}"
        with pytest.raises(TypeError, match=many):
            nst.stylize_many(params, *pictures.values(), recipe=FAST)


def test_lists_are_refused_by_the_functions_below(params):
    for call in (
        lambda image: nst.features(params, image, ["relu1_1"]),
        lambda image: nst.init(image, FAST),
    ):
        with pytest.raises(TypeError, match=r"expected an array .* got list; `np\.asarray"):
            call(GREY.tolist())
        with pytest.raises(ValueError, match=r"shape \[20, 24, 1\]; .*`np\.repeat\(image, 3, axis"):
            call(GREY[..., :1])


class Foreign:
    """An array of another package, such as torch's: NumPy does not know its dtype."""

    shape, dtype = GREY.shape, "torch.bfloat16"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_arrays_of_other_packages_are_refused_by_name_if_numpy_cannot_read_them(
    params, as_users_do
):
    message = (
        "^`content`: NumPy makes no array of this Foreign: Got unsupported ScalarType BFloat16"
    )
    with pytest.raises(TypeError, match=message):
        nst.paint(params, Foreign(), GREY, recipe=FAST)
    way = r"expected an array of NumPy or JAX, got one of torch.bfloat16; `np\.asarray\(\.\.\.\)`"
    for argument, call in {
        "images": lambda image: nst.features(params, image, ["relu1_1"]),
        "content": lambda image: nst.measure(params, image, GREY, FAST),
        "image": lambda image: nst.init(image, FAST),
    }.items():
        with pytest.raises(TypeError, match=f"^`{argument}`: {way}"):
            call(Foreign())


def test_random_keys_are_no_numbers(params):
    key = jax.random.key(0)
    keys = jax.random.split(key, GREY.shape)
    picture, mask = r"an array \[height, width, 3\]", r"an array \[height, width\]"
    fraction, shape = r"floating point in \[0, 1\]", r" of the shape \[20, 24"
    for argument, call, message in (
        (
            "content",
            lambda: nst.paint(params, keys, GREY, recipe=FAST),
            rf"{picture}, .*{shape}, 3",
        ),
        ("image", lambda: images.save("grey.png", keys), rf"{picture}, .*{shape}, 3"),
        ("image", lambda: images.to_uint8(keys), f"an array of numbers, .*{shape}, 3"),
        ("mask", lambda: controls.masks.checked_mask("mask", keys[..., 0]), rf"{mask}, .*{shape}"),
        ("image", lambda: nst.init(keys, FAST), f"{fraction}, got random keys$"),
        ("images", lambda: nst.features(params, keys, ["relu1_1"]), f"{fraction}, got random"),
        ("images", lambda: jax.jit(nst.features, static_argnums=2)(params, keys, ("relu1_1",)), ""),
        ("seed", lambda: _checks.whole("seed", key), "a whole number, got a random key$"),
        ("strength", lambda: _checks.number("strength", key), "a number, got a random key$"),
    ):
        with pytest.raises(TypeError, match=f"^`{argument}`: expected {message}"):
            call()


def test_functions_of_pictures_and_colours_refuse_random_keys():
    keys = jax.random.split(jax.random.key(0), (4, 6, 3))
    grey, size = jnp.full((4, 6, 3), 0.5), jnp.array([4, 6])
    palette = palettes.palette_of([grey])
    for argument, call in (
        ("image", lambda keys: resizing.antialiased(keys, (2, 3))),
        ("image", lambda keys: resizing.bilinear(keys, (4, 6))),  # a filter with nothing to resize
        ("image", lambda keys: resizing.enlarge(keys, (8, 12))),
        ("image", lambda keys: resizing.torch_bicubic(keys, (8, 12))),
        ("image", resizing.finest_detail),
        ("masks", lambda keys: resizing.antialiased_masks(keys, (2, 3))),
        ("masks", lambda keys: resizing.antialiased_masks_inside(keys, size, (4, 6), size)),
        ("image", lambda keys: on_host.resized_on_host(keys, (2, 3), resizing.bilinear)),
        ("masks", lambda keys: controls.masks.resized_masks_on_host(keys, (2, 3))),
        ("rgb", oklab.oklab_of_linear),
        ("lab", oklab.linear_of_oklab),
        (r"styles\[1\]", lambda keys: palettes.palette_of([grey, keys])),
        ("content", lambda keys: palettes.recoloured(grey, keys, palette)),
        ("image", raters.content.luma),
        ("masks", lambda keys: controls.masks.at_taps(keys, ["relu1_1"])),
        ("drawn", controls.shares_of_pixels),
        ("image", lambda keys: controls.with_kept(keys, None)),
        ("planes", lambda keys: controls.box_sums(keys, 1)),
        ("shown", lambda keys: controls.realistic(grey, grey, 0.5, shown=keys)),
        ("picture", lambda keys: pyramid.multilevel(keys, 2)),
        ("picture", lambda keys: pyramid.multilevel(keys, 0)),
        ("picture", lambda keys: optimizers.decompose(keys, 2)),
        ("picture", lambda keys: optimizers.decompose(keys, 0)),
        (r"levels\[0\]", lambda keys: optimizers.collapse((keys, grey))),
        (r"levels\[1\]", lambda keys: optimizers.collapse((grey, keys))),
    ):
        for called in (call, jax.jit(call)):
            for given, said in (
                (keys, r"random keys of the shape \[4, 6, 3\]"),
                (keys[0, 0, 0], "a"),
            ):
                message = rf"^`{argument}`: expected an array \[[a-z., 3]*\], got {said}"
                with pytest.raises(TypeError, match=message):
                    called(given)


def test_opacities_shares_and_covariances_are_no_random_keys():
    keys = jax.random.split(jax.random.key(0), (4, 6))
    grey, square = jnp.full((4, 6, 3), 0.5), keys[:3, :3]
    palette, plane = palettes.palette_of([grey]), r"an array \[height, width\]"
    covariance = r"a covariance \[3, 3\]"
    filtered = partial(controls.filtered_by_guide, grey, grey, radius=1, epsilon=1e-3)
    energy = partial(controls.matting_energy, grey, grey)
    for argument, expected, given, call in (
        ("opacity", plane, keys, lambda x: controls.color_moments(grey, x)),
        (
            "other_opacity",
            plane,
            keys,
            lambda x: controls.with_colors_of(grey, grey, other_opacity=x),
        ),
        ("opacity", plane, keys, lambda x: controls.matched_luminance(grey, grey, opacity=x)),
        ("opacity", plane, keys, lambda x: palettes.recoloured(grey, grey, palette, x)),
        (r"opacities\[0\]", plane, keys, lambda x: palettes.palette_of([grey], [x])),
        ("inside", plane, keys, lambda x: filtered(inside=x)),
        ("counted", "an array of True and False", keys[:2, :4], lambda x: energy(counted=x)),
        ("shares", "numbers", keys[0, :1], lambda x: controls.mixed_palette([grey], x)),
        *(
            (argument, covariance, square, partial(change, color_map))
            for color_map in controls.color.MAPS.values()
            for argument, change in (
                ("own", lambda color_map, x: color_map(x, jnp.eye(3))),
                ("wanted", lambda color_map, x: color_map(jnp.eye(3), x)),
            )
        ),
    ):
        for called in (call, jax.jit(call)):
            with pytest.raises(
                TypeError, match=f"^`{argument}`: expected {expected}, got random keys"
            ):
                called(given)


def test_masked_elements_are_not_read():
    hidden = np.zeros(GREY.shape, bool)
    assert_array_equal(_checks.image("content", np.ma.masked_array(GREY, hidden)), GREY)
    hidden[0] = True
    said = "is a masked array with masked elements; fill them by"
    with pytest.raises(ValueError, match=f"^`content`: {said}"):
        _checks.image("content", np.ma.masked_array(GREY, hidden))
    with pytest.raises(ValueError, match=f"^`protect.mask`: {said}"):
        controls.masks.checked_mask("protect.mask", np.ma.masked_array(GREY, hidden)[..., 0])


def test_uint8_is_accepted_as_fractions_of_255():
    eight = np.arange(256 * 3, dtype=np.uint32).reshape(16, 16, 3).astype(np.uint8)
    image = _checks.image("content", eight)
    assert image.dtype == np.float32
    assert_array_equal(image, eight.astype(np.float32) / 255)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_floating_point_becomes_float32(dtype):
    image = _checks.image("content", np.asarray(jnp.full((4, 4, 3), 0.5, "float32")).astype(dtype))
    assert image.dtype == np.float32 and image[0, 0, 0] == 0.5


def test_the_overshoot_of_a_filter_is_accepted():
    overshot = np.asarray([[[-0.005, 0.5, 1.005]]], np.float32)
    assert_array_equal(_checks.image("content", overshot), overshot)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((15, 200, 3), "`content`: 200x15 px becomes 200x15 px by the size rule .as it is."),
        ((1, 1, 3), "needs 16 px on each side, so crop the picture or choose a larger size"),
    ],
)
def test_a_picture_that_would_be_too_small_is_refused(params, shape, message):
    with pytest.raises(ValueError, match=message):
        nst.paint(params, np.full(shape, 0.5, "f"), GREY, recipe=FAST)


def test_an_extreme_aspect_is_refused_at_the_size_it_would_get(params):
    with pytest.raises(ValueError, match="`style`: 2000x20 px becomes 512x5 px by the size rule"):
        nst.paint(params, GREY, np.full((20, 2000, 3), 0.5, "f"))


# --- Parameters and recipes -----------------------------------------------------------------------


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
@pytest.mark.parametrize("params", [None, {}, "weights.h5"])
def test_params_of_another_type_are_refused(verb, params):
    with pytest.raises(TypeError, match="^`params`: expected Params.*`nst_jax.load_params"):
        verb(params, GREY, GREY, recipe=FAST)


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
@pytest.mark.parametrize("steps", [None, 5])
def test_a_recipes_name_is_refused_with_how_to_get_it(params, verb, steps):
    with pytest.raises(TypeError, match="`recipe`: .* got 'tf'; `nst_jax.recipes.named.'tf'.`"):
        verb(params, GREY, GREY, recipe="tf", steps=steps)


@pytest.mark.parametrize("recipe", [None, 3, ["tf"], {"steps": 3}, FAST.terms])
def test_what_is_no_recipe_is_refused(params, recipe):
    with pytest.raises(TypeError, match="^`recipe`: expected a Recipe, got"):
        nst.paint(params, GREY, GREY, recipe=recipe)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"content_weight": -1.0}, "`content_weight`: expected 0 or more, got -1"),
        ({"style_weight": float("nan")}, "`style_weight`: expected a finite number, got nan"),
        ({"tv_weight": float("inf")}, "`tv_weight`: expected a finite number, got inf"),
        ({"style_layer_weights": (1.0,)}, "`style_layer_weights`: expected one for each of the 2"),
        ({"style_layer_weights": (1.0, -2.0)}, "`style_layer_weights`: expected 0 or more, got -2"),
        ({"content_layer_weights": ()}, "`content_layer_weights`: expected one for each of the 1"),
        ({"content_taps": ("conv4_2",)}, "`content_taps`: 'conv4_2' is ambiguous"),
        ({"content_taps": ()}, "`content_taps`: name at least one tap"),
        ({"style_taps": ("relu1_1", "relu9_1")}, "`style_taps`: there is no .* 'relu9_1'; did you"),
        ({"style_taps": ("relu1_1", "r11")}, "`style_taps`: 'relu1_1' is named twice"),
    ],
)
def test_terms_that_cannot_be_minimised_are_refused(params, terms, message):
    with pytest.raises(ValueError, match=message):
        nst.paint(params, GREY, GREY, recipe=with_terms(**terms))


@pytest.mark.parametrize("weight", ["1", None, 1j, [0.1, 1.0], (0.1, 1.0)])
def test_a_weight_that_is_no_number_is_refused(params, weight):
    with pytest.raises(TypeError, match="`style_weight`: expected a number, got"):
        nst.paint(params, GREY, GREY, recipe=with_terms(style_weight=weight))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"radius": 0.0}, "`radius`: expected more than 0, got 0"),
        ({"largest_radius": -1.0}, "`largest_radius`: expected more than 0, got -1"),
        ({"slack": float("nan")}, "`slack`: expected a finite number"),
        ({"history": 0}, "`history`: expected 1 or more, got 0"),
    ],
)
def test_a_rule_that_cannot_move_is_refused(params, numbers, message):
    with pytest.raises(ValueError, match=message):
        nst.paint(params, GREY, GREY, recipe=with_rule(**numbers))


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (0, ValueError, "expected 1 or more, got 0"),
        (-5, ValueError, "expected 1 or more, got -5"),
        (2.0, TypeError, "expected a whole number, got 2.0"),
        (True, TypeError, "expected a whole number, got True"),
        ("9", TypeError, "expected a whole number, got '9'"),
    ],
)
@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_steps_are_a_whole_number_from_one(params, verb, steps, error, message):
    with pytest.raises(error, match=f"`steps`: {message}"):
        verb(params, GREY, GREY, recipe=FAST, steps=steps)


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_a_decay_is_less_than_one(params, name):
    rule = replace(optimizers.Adam(), **{name: 1.0})
    recipe = replace(FAST, descent=replace(FAST.descent, optimizer=rule))
    with pytest.raises(ValueError, match=f"`{name}`: expected less than 1, got 1"):
        nst.paint(params, GREY, GREY, recipe=recipe)


def test_layer_weights_are_a_tuple(params):
    recipe = with_terms(style_layer_weights=np.ones(2))
    with pytest.raises(
        TypeError, match="`style_layer_weights`: expected a list or tuple .*, got ndarray"
    ):
        nst.paint(params, GREY, GREY, recipe=recipe)


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"smallest": 8}, ValueError, "`smallest`: expected 16 or more, got 8"),
        ({"smallest": 64.0}, TypeError, "`smallest`: expected a whole number, got 64.0"),
        ({"share": 0.0}, ValueError, "`share`: expected more than 0, got 0"),
        ({"share": float("nan")}, ValueError, "`share`: expected a finite number"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(params, numbers, error, message):
    descent = replace(FAST.descent, schedule=recipes.CoarseToFine(**numbers))
    with pytest.raises(error, match=message):
        nst.paint(params, GREY, GREY, recipe=replace(FAST, descent=descent))


@pytest.mark.parametrize("rule", [optimizers.Adam, "adam", None])
def test_what_is_no_optimizer_is_refused(params, rule):
    recipe = replace(FAST, descent=replace(FAST.descent, optimizer=rule))
    with pytest.raises(TypeError, match="`optimizer`: expected an optimizer of `nst_jax.optimi"):
        nst.paint(params, GREY, GREY, recipe=recipe)


def test_a_guarded_rule_is_not_clipped(params):
    recipe = replace(FAST, descent=replace(FAST.descent, clip=True))
    with pytest.raises(ValueError, match="`optimizer`: LBFGS .* use `descent.clip=false`"):
        nst.paint(params, GREY, GREY, recipe=recipe)


def test_the_class_of_a_start_and_a_start_of_another_shape_are_refused(params):
    with pytest.raises(
        TypeError, match=r"`init`: expected .* got the class \w+; write `Noise\(\)`"
    ):
        nst.paint(params, GREY, GREY, recipe=FAST, init=starts.Noise)
    shots = nst.paint(params, GREY, GREY, recipe=FAST, init=lambda content, style, key: style[:4])
    with pytest.raises(
        ValueError, match=r"`init`: the start returned an array .* expected the shape \[20, 24, 3\]"
    ):
        next(shots)


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_a_traced_key_is_refused(params, verb):
    with pytest.raises(TypeError, match="`key`: got a tracer, as inside `jax.jit`"):
        jax.jit(lambda key: verb(params, GREY, GREY, recipe=FAST, key=key))(jax.random.key(0))


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_a_seed_is_no_key(params, verb):
    with pytest.raises(TypeError, match=r"`key`: expected a random key, got 7; `jax.random.key"):
        verb(params, GREY, GREY, recipe=FAST, key=7)


def test_a_whole_number_of_any_size_is_a_number():
    _checks.number("x", 2**70, above=2**69)
    with pytest.raises(ValueError, match="`x`: expected 0 or more, got -1180591620717411303424"):
        _checks.number("x", -(2**70), least=0)
    for power in (400, 5000):  # Python writes no number with more than 4300 digits as text
        with pytest.raises(ValueError, match="`x`: expected a finite number, got inf"):
            _checks.number("x", 10**power)
    with pytest.raises(
        ValueError, match="`x`: expected less than 9223372036854775808, got 1844674407"
    ):
        _checks.whole("x", 2**64, least=1)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (1.5, {"least": 0, "most": 1}, "expected 0 to 1, got 1.5"),
        (-1, {"least": 0.25, "most": 16}, "expected 0.25 to 16, got -1"),
        (2, {"least": 0, "most": 1, "means": "1 is all"}, "expected 0 to 1 (1 is all), got 2"),
        (3, {"above": 0, "most": 2}, "expected 2 or less, got 3"),
        (2**32, {"least": 0, "below": 2**32}, "expected less than 4294967296, got 4294967296"),
        (
            np.asarray([0.5, 2.0, 3.0]),
            {"least": 0, "most": 1},
            "expected 0 to 1, got 2.0 in an array of the shape [3]",
        ),
        (
            np.asarray([1.0, np.nan]),
            {},
            "expected a finite number, got nan in an array of the shape",
        ),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_the_bounds(value, bounds, message):
    with pytest.raises(ValueError, match=f"^`x`: {re.escape(message)}"):
        _checks.number("x", value, **bounds)


@pytest.mark.parametrize(
    "value", [1, np.int32(1), np.float16(1), jnp.bfloat16(1), jnp.asarray(1.0), np.ones((2, 3))]
)
def test_numbers_of_every_type_are_numbers(value):
    _checks.number("x", value, least=1, most=1)


@pytest.mark.parametrize("value", [-1, 65, 10**30, 10**400])
def test_a_whole_number_out_of_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"^`x`: expected (0 to 64|a finite number), got"):
        _checks.whole("x", value, least=0, most=64)
    _checks.whole("x", np.int64(64), least=0, most=64)


@pytest.mark.parametrize("share", [np.asarray([1.0, 2.0]), np.asarray([1.0]), jnp.ones((2, 2))])
def test_a_share_is_one_number(share):
    with pytest.raises(
        ValueError, match=r"^`shares`: expected one number for each style, got an arr"
    ):
        _checks.shares("shares", [share, 1.0])
    assert_array_equal(_checks.shares("shares", [np.asarray(1.0), jnp.asarray(3.0)]), [0.25, 0.75])


@pytest.mark.parametrize(
    ("key", "message"),
    {
        "a number": (np.uint32(7), r"got an array of uint32 of the shape \[\]; `jax"),
        "three numbers": (
            np.zeros(3, np.uint32),
            r"got an array of uint32 of the shape \[3\]; `jax",
        ),
        "typed keys": (jax.random.split(jax.random.key(0)), r"keys of the shape \[2\]; give one"),
        "raw keys": (np.zeros((3, 2), np.uint32), r"keys of the shape \[3\]; give one of them"),
    }.values(),
)
def test_a_key_of_another_shape_is_refused(params, key, message):
    with pytest.raises(ValueError, match=f"`key`: expected .*{message}"):
        nst.paint(params, GREY, GREY, recipe=FAST, key=key)


def test_an_array_of_weights_is_refused_for_one_picture(params):
    recipe = with_terms(style_weight=jnp.asarray([1.0, 2.0]))
    with pytest.raises(
        ValueError, match=r"`terms.style_weight` is an array of the shape \[2\]; one pic"
    ):
        nst.paint(params, GREY, GREY, recipe=recipe)


@pytest.mark.parametrize("size", [15, 0, -4, "8", "long:12", "512x", "x512", "big", "512.5", 1e3])
@pytest.mark.parametrize("argument", ["size", "style_size"])
def test_sizes_that_are_none_are_refused(params, argument, size):
    with pytest.raises((ValueError, TypeError), match=f"^`{argument}`: expected"):
        nst.paint(params, GREY, GREY, recipe=FAST, **{argument: size})


# --- Types of fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"terms": None}, "`terms`: expected a `Terms` of `nst_jax.recipes`, got None"),
        ({"network": "vgg"}, "`network`: expected a `Network` of `nst_jax.vgg`, got 'vgg'"),
        (
            {"second_style": 3},
            "`second_style`: expected a `SecondStyle` of .*recipes` or None, got 3",
        ),
        ({"schedule": 3}, "`schedule`: expected a schedule of `nst_jax.recipes.schedules`, got 3"),
        (
            {"schedule": recipes.OneScale},
            r"`schedule`: .* the class OneScale; write `OneScale\(\)`",
        ),
        ({"resize": 3}, "`resize`: expected a filter of `nst_jax.recipes.filters`, got 3"),
        ({"pool": "max"}, r"`pool`: .*; `nst_jax.*with_values\(recipe, {'network.pool': 'max'}\)`"),
        ({"padding": None}, "`padding`: expected a padding of `nst_jax.vgg.layers`, got None"),
        ({"coordinates": 3}, "`coordinates`: expected a pixel convention of `nst_jax.vgg`, got 3"),
        (
            {"network.pixels": 3},
            "`pixels`: expected a pixel .* of `nst_jax.vgg` or None, got 3",
        ),
        ({"start": starts.Noise}, r"`start`: expected a start of .*; write `Noise\(\)`"),
        (
            {"size": replace(SIZED, rounding=1)},
            "`rounding`: expected a rounding of .*sizes`, got 1",
        ),
        ({"size": replace(SIZED, pixels=48.9)}, "`pictures.size.pixels`: expected a whole number"),
        ({"start": starts.SeededBlend(seed=3.7)}, "`seed`: expected a whole number, got 3.7"),
        ({"style_loss": nst.losses.ContentLoss}, "`style_loss`: expected a style loss of"),
        (
            {"last_style_loss": "gram"},
            "`last_style_loss`: expected a style loss .* or None, got 'g",
        ),
        (
            {"style_loss": nst.losses.GRAM_PAPER._replace(additive="no")},
            "`style_loss.additive`: expected True or False, got 'no'",
        ),
        ({"clip": "no"}, "`clip`: expected True or False, got 'no'"),
        ({"remat": 1}, "`remat`: expected True or False, got 1"),
        ({"tap_styles": 3}, "`tap_styles`: expected a list of tap names, got 3"),
        ({"name": 3}, "`name`: expected a string, got 3"),
        ({"colors": 3}, "`colors`: expected a name such as 'style', got 3"),
        ({"optimizer": optax.adam(0.1)}, "`optimizer`: .*; wrap it: `nst_jax.optimizers.Optax"),
    ],
)
def test_a_field_has_the_type_that_it_declares(values, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        recipes.check(FAST.replace(values))


def test_functions_and_rules_of_ones_own_are_of_the_declared_types():
    class Halved:
        def shape(self, height, width):
            return height // 2, width // 2

        def resized(self, pixels):
            return self

    own = {"start": lambda content, style, key: content, "pool": lambda x, ceil: x}
    recipe = FAST.replace(own).replace({"size": Halved(), "enlarge": nst.recipes.filters.bilinear})
    assert recipes.check(recipe).pictures.start is own["start"]


def test_a_schedule_of_ones_own_paints(params):
    class Twice:
        from_originals = False

        def plan(self, shape, steps, original=None):
            return ((shape, steps - 1), (shape, 1))

    recipe = small.quickest(steps=3)
    own = recipe.replace(schedule=Twice())
    with pytest.raises(ValueError, match="^`steps`: None .* and Twice has none of its own"):
        recipes.check(own.replace(steps=None))
    assert recipes.check(own).descent.schedule is own.descent.schedule
    as_halvings = recipe.replace(schedule=recipes.Halvings(smallest=64, passes=2))
    found, expected = (
        nst.stylize(params, GREY, GREY[::-1], recipe=one.replace(steps=2))
        for one in (own, as_halvings)
    )
    assert_array_equal(found, expected)


def test_a_schedule_of_ones_own_may_have_numbers_of_updates(params):
    class ByArea:
        from_originals = False

        def counts_in_words(self):
            return "an update for each 1024 pixels"

        def plan(self, shape, steps, original=None):
            return ((shape, steps),)

        def counted_plan(self, shape, original=None):
            return self.plan(shape, shape[0] * shape[1] // 1024)

    recipe = recipes.check(small.quickest(steps=None).replace(schedule=ByArea()))
    assert recipe.descent.updates_in_words == "an update for each 1024 pixels"
    content = np.full((32, 64, 3), 0.5, np.float32)
    assert nst.paint(params, content, GREY, recipe=recipe).finish().step == 2
    assert nst.paint(params, content, GREY, recipe=recipe, steps=1).finish().step == 1


@pytest.mark.parametrize("pixels", [48.0, np.float32(48), np.int64(48), jnp.asarray(48)])
def test_whole_numbers_of_other_types_in_a_size_rule_become_pythons(pixels):
    values = {
        "size": replace(SIZED, pixels=pixels),
        "style_size": recipes.sizes.Paper(64.0, pixels),
    }
    found = recipes.check(FAST.replace(values)).pictures
    assert (found.size, found.style_size) == (SIZED, recipes.sizes.Paper(64, 48))
    assert type(found.size.pixels) is type(found.style_size.long) is int


@pytest.mark.parametrize("pixels", [48.9, np.inf, np.asarray([48, 64]), True, "48"])
def test_what_is_no_whole_number_in_a_size_rule_is_refused(pixels):
    with pytest.raises(TypeError, match="^`pictures.size.pixels`: expected a whole number, got "):
        recipes.check(FAST.replace(size=replace(SIZED, pixels=pixels)))


def test_a_size_rule_given_to_a_run_is_checked_like_one_of_the_recipe():
    found = recipes.changes.with_options(FAST, size=replace(SIZED, pixels=48.0))
    assert type(found.pictures.size.pixels) is int
    with pytest.raises(
        TypeError, match="^`pictures.size.pixels`: expected a whole number, got 48.9"
    ):
        recipes.changes.with_options(FAST, size=replace(SIZED, pixels=48.9))


def test_a_recipe_of_pythons_numbers_is_not_copied_by_the_check_of_types():
    assert field_types.with_checked_types(FAST) is FAST


@pytest.mark.parametrize("value", [True, np.True_, np.bool_(False)])
def test_numpys_booleans_are_accepted(value):
    _checks.flag("overwrite", value)
    recipe = recipes.check(FAST.replace(content_detail=value))
    assert recipe.descent.content_detail is bool(value)


@pytest.mark.parametrize(
    "terms",
    [
        {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 0.0},
        {"content_layer_weights": (0,), "style_layer_weights": (0, 0), "tv_weight": np.zeros(2)},
    ],
)
def test_weights_that_are_all_0_are_refused(params, terms):
    with pytest.raises(ValueError, match="^`style_weight`: the weights of all losses are 0, or th"):
        nst.paint(params, GREY, GREY, recipe=with_terms(**terms))


def test_weights_of_a_texture_that_are_all_0_are_refused(params):
    terms = {"content_weight": 1.0, "style_weight": 0.0, "tv_weight": 0.0}
    with pytest.raises(
        ValueError, match="a texture has no content, .*`style_weight` and its layers, or"
    ):
        nst.texture(params, GREY, recipe=with_terms(**terms))
    nst.texturing.of_texture(with_terms(**terms | {"tv_weight": 1.0}))


def test_a_single_weight_that_is_not_0_is_enough():
    none = {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 0.0}
    for name in (*none, "matting_weight"):
        recipes.check(with_terms(**none | {name: 1.0}))
    recipes.check(with_terms(**none | {"style_weight": np.asarray([0.0, 1.0])}))
    second = recipes.SecondStyle(taps=("relu1_1",), layer_weights=(1.0,))
    terms = {"style_layer_weights": (0.0, 0.0), "style_weight": 1.0, "second_style": second}
    recipes.check(with_terms(**none | terms))


# --- Names ----------------------------------------------------------------------------------------


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match="`recipe`: there is no recipe 'gatys_torch'; did you mean"
    ):
        recipes.named("gatys_torch")


def test_a_name_like_no_other_is_refused_with_the_list():
    listed = "no recipe 'zzz'; expected one of 'default', 'gram', 'gatys-20"
    with pytest.raises(ValueError, match=listed):
        recipes.named("zzz")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipes.named(3), "`recipe`: expected a name such as 'default', got 3"),
        (lambda: recipes.named(["tf"]), r"`recipe`: expected a name .*, got \['tf'\]"),
        (
            lambda: recipes.toml.from_toml(Path("a.toml")),
            "`recipe`: expected str, got .*Path; it is",
        ),
        (lambda: recipes.toml.with_values(FAST, 3), "`values`: expected Mapping, got int"),
    ],
)
def test_what_is_no_name_or_text_is_refused(call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


# --- Other types ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda params: nst.paint(params, GREY, GREY, recipe=FAST, every=np.array(3)),
            r"`every`: expected a whole number of updates, got an array of int64 of the shape \[\]",
        ),
        (
            lambda params: nst.stylize_many(params, GREY, GREY, recipe=FAST, progress=3),
            r"`progress`: expected a function, called as `progress\(done, total\)`, got 3",
        ),
        (
            lambda params: nst.plan(GREY, GREY, recipe=FAST, regions=3),
            "`regions`: expected a list of `nst_jax.controls.Region`, got int",
        ),
        (
            lambda params: nst.texture(params, GREY, size=32, seamless="no"),
            "`seamless`: expected True or False, got 'no'",
        ),
        (
            lambda params: nst.images.save("a.png", GREY, overwrite="no"),
            "`overwrite`: expected True or False, got 'no'",
        ),
        (
            lambda params: nst.train(params, None, None),
            "`paintings`: expected a picture or its path, or a list or dict.* got NoneType",
        ),
        (
            lambda params: nst.instant(GREY, [GREY, GREY], shares=3),
            "`shares`: expected a list with one number for each style, got 3",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_before_any_work(params, call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call(params)


class ManyLines:
    def __repr__(self):
        return "first\n  second\r\n" + "third " * 1000


# Values of every kind -> what a message says about them.
LONG_VALUES = {
    "array": (np.zeros((3, 4)), r"an array of float64 of the shape \[3, 4\]"),
    "jax's array": (jnp.zeros((40, 40)), r"an array of float32 of the shape \[40, 40\]"),
    "keys": (jax.random.split(jax.random.key(0), 5), r"random keys of the shape \[5\]"),
    "class of arrays": (np.ndarray, "<class 'numpy.ndarray'>"),
    "class of arrays of jax": ([jax.Array, np.float32], r"\[<class '.*Array'>, <class '.*32'>\]"),
    "arrays in a list": ([np.eye(2), [np.eye(2)]], r"\[an array .* \[2, 2\], \[an array .*\]\]"),
    "long list": (list(range(10**5)), r"\[0, 1, .*, \.\.\.\]"),
    "nested lists": ([[[[0] * 99] * 99] * 99] * 99, r"\[\[\[.*\.\.\."),
    "text": ("a\n" * 10**5, r"'a\\na.*\.\.\..*n'"),
    "many lines": (ManyLines(), r"first second third .*\.\.\..*third"),
    "many lines in a dictionary": ({"one": ManyLines()}, r"\{'one': first second.*\}"),
    "large number": (10**5000, "a whole number of 16610 bits"),
    "state": (optax.adam(0.1).init(np.zeros((9, 9))), r"\(ScaleByAdamState.*\.\.\..*"),
}


@pytest.mark.parametrize("kind", LONG_VALUES)
def test_messages_say_any_value_in_one_short_line(kind):
    value, said = LONG_VALUES[kind]
    with pytest.raises(TypeError, match=f"^`flag`: expected True or False, got {said}$") as caught:
        _checks.flag("flag", value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "call",
    [
        lambda value: _checks.random_key("key", value),
        lambda value: _checks.function("progress", value, "progress(done)"),
        lambda value: _checks.one_of("quality", value, ("draft", "good"), "quality"),
        lambda value: _checks.number("weight", [value]),
        lambda value: _checks.number("weight", np.asarray([value], object)),
        lambda value: _checks.whole("steps", value),
        lambda value: vgg.resolve_taps([value]),
        lambda value: vgg.resolve_taps(value),
        lambda value: recipes.check(value),
        lambda value: FAST.replace(value),
        lambda value: recipes.check(FAST.replace(style_scale=value)),
        lambda value: recipes.check(replace(FAST, name=value)),
        lambda value: recipes.check(FAST.replace(schedule=value)),
        lambda value: recipes.sizes.with_size(SIZED, value),
        lambda value: nst.plan(value, GREY, recipe=FAST),
        lambda value: nst.plan(GREY, GREY, recipe=FAST, devices=value),
        lambda value: nst.plan(GREY, GREY, recipe=FAST, bucket=value),
        lambda value: optimizers.Optax(value),
        lambda value: images.sheets.contact_sheet([GREY], [GREY], {}, content_labels=[value]),
    ],
)
@pytest.mark.parametrize("value", [ManyLines(), np.full((30, 30), 1j)], ids=["lines", "array"])
def test_messages_are_of_one_line(call, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_long_text_in_place_of_a_recipe_is_refused_in_a_short_message():
    message = (
        r"expected a Recipe, got 'text.*\.\.\..*'; `nst_jax.recipes.named\('text.*'\)` gives it"
    )
    with pytest.raises(TypeError, match=message) as caught:
        recipes.check("text\n" * 1000)
    assert len(str(caught.value)) < 500


def test_losses_refuse_random_keys():
    features = jax.random.split(jax.random.key(0), (4, 6, 3))
    other, shape = jnp.zeros((4, 6, 3)), r"random keys of the shape \[4, 6, 3\](\n|$)"
    for argument, call in (
        ("canvas", lambda keys: losses.CONTENT_MEAN_SQUARE(keys, other)),
        ("content", lambda keys: losses.CONTENT_RELATIVE(other, keys)),
        ("features", losses.WASSERSTEIN_RELATIVE.measure),
        ("features", losses.gram),
        ("image", lambda keys: losses.TOTAL_VARIATION(keys)),
        ("picture", lambda keys: nst.raters.gram_distance(keys, other)),
    ):
        for called in (call, jax.jit(call)):
            with pytest.raises(TypeError, match=rf"^`{argument}`: expected .*, got {shape}"):
                called(features)


# --- Lists of pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "error", "message"),
    [
        ([], ValueError, "`contents`: is empty"),
        (np.zeros((0, 20, 24, 3), "f"), ValueError, "`contents`: is empty"),
        ("photo.jpg", TypeError, "`contents`: expected images, got str; `nst_jax.images.load`"),
        (7, TypeError, "`contents`: expected images, got int"),
        (GREY[..., 0], ValueError, r"`contents`: expected an image .* got shape \[20, 24\]"),
        ([GREY, GREY * 255], ValueError, r"`contents\[1\]`: expected values in \[0, 1\]"),
        ([GREY, "b.png"], TypeError, r"`contents\[1\]`: expected an array"),
    ],
)
def test_lists_of_pictures_are_checked_one_by_one(params, contents, error, message):
    with pytest.raises(error, match=message):
        nst.stylize_many(params, contents, GREY, recipe=FAST)
