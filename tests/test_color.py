"""Colours matched and exchanged: against NumPy, by their properties, and with singular covariances."""

import re
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import controls
from nst_jax.controls import color
from nst_jax.controls.color import MAPS, RIDGE
from nst_jax.controls.finishing import mixed_palette
from nst_jax.images.palettes import palette_of
from tests import small

HEIGHT, WIDTH = 6, 8

# Compiled as a whole: eager operations would be compiled one by one.
recolored = jax.jit(color.with_colors_of, static_argnums=2)
exchanged = jax.jit(color.with_chroma_of, static_argnums=2)


def sample(name, height=HEIGHT, width=WIDTH):
    return jnp.asarray(small.picture(name, height, width))


@pytest.fixture(scope="module")
def pair():
    return sample("starry_night"), sample("chelsea")


def numpy_moments(picture):
    rows = np.asarray(picture, np.float64).reshape(-1, 3)
    return rows.mean(0), np.cov(rows, rowvar=False, bias=True)


def root(matrix, power=0.5):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**power) @ vectors.T


def numpy_map(name, own, wanted):
    """The formulas of the notebook, with eigenvalues."""
    own, wanted = own + RIDGE * np.eye(3), wanted + RIDGE * np.eye(3)
    if name == "cholesky":
        return np.linalg.cholesky(wanted) @ np.linalg.inv(np.linalg.cholesky(own))
    if name == "pca":
        return root(wanted) @ root(own, -0.5)
    half, inverse = root(own), root(own, -0.5)
    return inverse @ root(half @ wanted @ half) @ inverse


PLACES = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1)
SPECIAL = {
    "constant": np.full((HEIGHT, WIDTH, 3), 0.4, "float32"),
    "black": np.zeros((HEIGHT, WIDTH, 3), "float32"),
    "grey": np.repeat(PLACES / PLACES.max(), 3, -1).astype("float32"),
    "two colours": np.where(PLACES % 3 == 0, (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)).astype("float32"),
}


# --- Means and covariances ------------------------------------------------------------------------


def test_moments_are_numpys(pair, x64):
    for picture in pair:
        found = jax.jit(color.color_moments)(jnp.asarray(picture, "float64"))
        for one, other in zip(found, numpy_moments(picture), strict=True):
            assert_allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_numpys(name, pair, x64):
    (_, own), (_, wanted) = map(numpy_moments, pair)
    found = MAPS[name](jnp.asarray(own), jnp.asarray(wanted))
    assert_allclose(found, numpy_map(name, own, wanted), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("style", ["chelsea", "starry_night"])  # gravel is grey
def test_a_recoloured_style_has_the_contents_mean_and_covariance(name, style):
    content = sample("chelsea", 48, 64)
    found = recolored(sample(style, 40, 56), content, name)
    for one, other in zip(numpy_moments(found), numpy_moments(content), strict=True):
        assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", MAPS)
def test_a_picture_in_its_own_colours_stays_as_it_is(name, pair):
    assert_allclose(recolored(pair[0], pair[0], name), pair[0], atol=1e-5)


def test_transport_moves_colours_least(pair):
    content = pair[1]
    moved = {name: np.mean((recolored(pair[0], content, name) - pair[0]) ** 2) for name in MAPS}
    assert moved["transport"] < min(moved["pca"], moved["cholesky"])


def test_transport_and_pca_do_not_depend_on_the_order_of_channels(pair):
    turned = [picture[..., ::-1] for picture in pair]
    for name in ("transport", "pca"):
        found = recolored(*turned, name)[..., ::-1]
        assert_allclose(found, recolored(*pair, name), atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_singular_covariances_give_what_can_be_had(name):
    for own, wanted in product(SPECIAL.values(), repeat=2):
        mean, covariance = numpy_moments(recolored(own, wanted, name))
        assert_allclose(mean, numpy_moments(wanted)[0], atol=1e-4)
        # No axis varies more than in the wanted picture; as much, if it varies in the given one.
        assert (np.linalg.eigvalsh(numpy_moments(wanted)[1] - covariance) > -1e-4).all()


def test_by_hand_two_colours_become_two_others():
    black_and_white = jnp.broadcast_to(jnp.asarray(PLACES % 2, "float32"), (HEIGHT, WIDTH, 3))
    wanted = 0.2 * black_and_white + jnp.asarray([0.5, 0.3, 0.1])[None, None]  # along the same axis
    assert_allclose(recolored(black_and_white, wanted, "transport"), wanted, atol=1e-4)


def test_by_hand_a_constant_style_becomes_the_contents_mean():
    found = recolored(SPECIAL["constant"], SPECIAL["grey"], "transport")
    # The map magnifies the rounding of the mean some 300 times, as much as `RIDGE` lets it.
    assert_allclose(found, np.full((HEIGHT, WIDTH, 3), 0.5), atol=1e-4)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_those_of_differences(name, x64):
    rng = np.random.default_rng(0)
    own, other, weights, away = (jnp.asarray(rng.uniform(size=(3, 4, 3))) for _ in range(4))

    def total(picture, content):
        return jnp.sum(weights * color.with_colors_of(picture, content, name))

    total = jax.jit(total)
    for place in (0, 1):
        slope = jnp.sum(jax.grad(total, place)(own, other) * away)
        step = 1e-6 * away
        moved = [(own + one, other) if place == 0 else (own, other + one) for one in (step, -step)]
        assert_allclose(slope, (total(*moved[0]) - total(*moved[1])) / 2e-6, rtol=1e-6)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "changed",
    [
        color.matched_luminance,
        *(partial(color.with_chroma_of, space=space) for space in color.CHROMA_SPACES),
    ],
    ids=["luminance", *color.CHROMA_SPACES],
)
def test_gradients_of_luminance_and_chroma_are_those_of_differences(changed, x64):
    rng = np.random.default_rng(0)
    # Pale colours, so that no colour is clipped, where the function has no derivative.
    own, other, weights, away = (jnp.asarray(rng.uniform(0.4, 0.6, (3, 4, 3))) for _ in range(4))
    total = jax.jit(lambda picture, content: jnp.sum(weights * changed(picture, content)))
    for place in (0, 1):
        slope = jnp.sum(jax.grad(total, place)(own, other) * away)
        step = 1e-6 * away
        moved = [(own + one, other) if place == 0 else (own, other + one) for one in (step, -step)]
        assert_allclose(slope, (total(*moved[0]) - total(*moved[1])) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_finite_where_covariances_are_singular(name, pair):
    def total(picture, content):
        return jnp.sum(color.with_colors_of(picture, content, name) ** 3)

    gradients = jax.jit(jax.grad(total, (0, 1)))
    for picture in SPECIAL.values():
        for arguments in ((picture, pair[1]), (pair[1], picture), (picture, picture)):
            assert all(np.isfinite(gradient).all() for gradient in gradients(*arguments))


def test_eager_jitted_and_batched_are_equal(pair):
    styles = jnp.stack([pair[0], pair[0][:, ::-1] ** 2])
    batched = jax.vmap(lambda style: color.with_colors_of(style, pair[1]))(styles)
    for style, found in zip(styles, batched, strict=True):
        assert_allclose(found, color.with_colors_of(style, pair[1]), atol=1e-5)
        assert_allclose(found, recolored(style, pair[1], "transport"), atol=1e-5)


def test_an_unknown_map_is_refused(pair):
    with pytest.raises(
        ValueError, match=r"`color_map`: there is no map of colours 'transprot'; did"
    ):
        color.with_colors_of(*pair, "transprot")


# --- Luminance and chroma -------------------------------------------------------------------------

LUMA = np.array([0.299, 0.587, 0.114])


def test_luminance_is_that_of_the_standard():
    found = color.luminance(jnp.eye(3)[None])[0]
    assert_allclose(found, np.repeat([[0.299], [0.587], [0.114]], 3, 1), atol=1e-7)


def test_luminance_is_matched_in_mean_and_deviation(pair, x64):
    style, content = (jnp.asarray(one, "float64") for one in pair)
    found = np.asarray(jax.jit(color.matched_luminance)(style, content))
    wanted, own = (np.asarray(one, np.float64) @ LUMA for one in (content, style))
    assert_allclose(found[..., 0].mean(), wanted.mean(), atol=1e-12)
    assert_allclose(found[..., 0].std(), wanted.std(), rtol=1e-4)
    away = (own - own.mean()) * np.sqrt((wanted.var() + RIDGE) / (own.var() + RIDGE))
    assert_allclose(found[..., 2], away + wanted.mean(), atol=1e-12)


def test_luminance_of_special_pictures_is_finite():
    def total(picture, other):
        return jnp.sum(color.matched_luminance(picture, other) ** 2)

    both = jax.jit(jax.value_and_grad(total, (0, 1)))
    for own, wanted in product(SPECIAL.values(), repeat=2):
        assert all(np.isfinite(one).all() for one in jax.tree.leaves(both(own, wanted)))


def test_ycbcr_keeps_both_chroma_planes_and_takes_the_luminance(pair, x64):
    picture, other = (np.asarray(one, np.float64) for one in pair)
    found = exchanged(picture, other, "ycbcr")
    # The chroma planes of YCbCr are B - Y and R - Y, up to factors.
    wanted = np.linalg.solve(
        np.array([[0.299, 0.587, 0.114], [-0.299, -0.587, 0.886], [0.701, -0.587, -0.114]]),
        np.stack(
            [
                picture @ LUMA,
                other[..., 2] - other @ LUMA,
                other[..., 0] - other @ LUMA,
            ]
        ).reshape(3, -1),
    )
    assert_allclose(found, wanted.T.reshape(HEIGHT, WIDTH, 3), atol=1e-9)


def numpy_oklab(rgb):
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    axes = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ cones.T) @ axes.T


def test_oklab_keeps_both_hues_and_takes_the_lightness(x64):
    # Pale colours of medium lightness, so that each chroma exists at each lightness.
    rng = np.random.default_rng(1)
    picture, other = (jnp.asarray(rng.uniform(0.4, 0.6, (5, 6, 3))) for _ in range(2))
    found = numpy_oklab(exchanged(picture, other, "oklab"))
    assert_allclose(found[..., 0], numpy_oklab(picture)[..., 0], atol=1e-7)
    assert_allclose(found[..., 1:], numpy_oklab(other)[..., 1:], atol=1e-7)


@pytest.mark.parametrize("space", color.CHROMA_SPACES)
def test_a_picture_with_its_own_chroma_stays_as_it_is(space, pair):
    assert_allclose(exchanged(pair[0], pair[0], space), pair[0], atol=1e-5)


@pytest.mark.parametrize("space", color.CHROMA_SPACES)
def test_a_grey_content_gives_a_grey_result(space, pair):
    found = np.asarray(exchanged(pair[0], SPECIAL["grey"], space))
    assert_allclose(found.max(-1), found.min(-1), atol=2e-4)


@pytest.mark.parametrize("space", color.CHROMA_SPACES)
def test_chroma_of_special_pictures_has_finite_gradients(space, pair):
    def total(one, two):
        return jnp.sum(color.with_chroma_of(one, two, space) ** 2)

    gradients = jax.jit(jax.grad(total, (0, 1)))
    for picture in SPECIAL.values():
        for arguments in ((picture, pair[1]), (pair[1], picture)):
            assert all(np.isfinite(gradient).all() for gradient in gradients(*arguments))


def test_bad_arguments_of_chroma_are_refused(pair):
    picture = pair[0]
    with pytest.raises(ValueError, match=r"`space`: there is no space of colours 'oklap'; did you"):
        color.with_chroma_of(picture, picture, "oklap")
    with pytest.raises(
        ValueError, match=r"`other`: expected the shape of `picture`, \[6, 8, 3\], got"
    ):
        color.with_chroma_of(picture, picture[:3])


@pytest.mark.parametrize("changed", [color.with_colors_of, color.matched_luminance])
def test_what_has_no_colours_to_match_is_refused(as_users_do, pair, changed):
    picture, other = pair
    with pytest.raises(
        ValueError, match=r"^`picture`: expected one image .*\[1, 6, 8, 3\]; `jax.v"
    ):
        changed(picture[None], other)
    with pytest.raises(ValueError, match="^`other`: expected floating point .* uint8"):
        changed(picture, (np.asarray(other) * 255).astype(np.uint8))
    with pytest.raises(ValueError, match=r"^`opacity`: expected the shape of `picture\[..., 0\]`"):
        changed(picture, other, opacity=np.ones((6, 9), np.float32))
    with pytest.raises(ValueError, match=r"^`other_opacity`: expected the shape of `other"):
        changed(picture, other, other_opacity=np.ones((3, 3), np.float32))


def test_choices_that_there_are_not_are_refused(as_users_do, pair):
    picture, style = pair
    with pytest.raises(
        ValueError, match="^`colors`: there is no choice of colours 'foo'; expected"
    ):
        controls.recolored(picture, [style], "foo", "transport")
    with pytest.raises(
        ValueError, match="^`colors`: there is no choice of colours 'contents'; did"
    ):
        controls.finished(picture, picture, None, None, colors="contents", space="oklab")
    with pytest.raises(ValueError, match="^`palette`: is missing .* `mixed_palette` computes it"):
        controls.finished(picture, picture, None, None, colors="palette", space="oklab")
    with pytest.raises(TypeError, match="^`colors`: expected a name such as 'style', got None"):
        controls.recolored(picture, [style], None, "transport")
    with pytest.raises(TypeError, match="^`color_map`: expected a name such as 'transport', got 3"):
        controls.recolored(picture, [style], "content", 3)


@pytest.mark.parametrize("colors", ["content", "luminance", "style"])
def test_styles_may_be_one_array(as_users_do, pair, colors):
    picture, style = pair
    styles = [style, style[::-1]]
    found = controls.recolored(picture, jnp.stack(styles), colors, "transport")
    assert_array_equal(
        found.styles, controls.recolored(picture, styles, colors, "transport").styles
    )
    one, other = (mixed_palette(each, jnp.ones(2)) for each in (jnp.stack(styles), styles))
    jax.tree.map(assert_array_equal, one, other)


def test_one_picture_is_no_list_of_styles(as_users_do, pair):
    picture, style = pair
    with pytest.raises(TypeError, match="^`styles`: expected a list of pictures, got "):
        controls.recolored(picture, style, "content", "transport")  # its rows would be the styles
    with pytest.raises(TypeError, match="^`styles`: expected a list of pictures, got "):
        mixed_palette(style, jnp.ones(len(style)))
    with pytest.raises(TypeError, match="^`styles`: expected a list of pictures, got a dict"):
        mixed_palette({"sea": style}, jnp.ones(1))
    with pytest.raises(ValueError, match="^`style_opacities`: expected one for each of the 1 `sty"):
        controls.recolored(picture, [style], "content", "pca", style_opacities=[None, None])


# --- Palettes of several styles -------------------------------------------------------------------


def test_each_style_has_one_share_and_one_opacity(as_users_do, pair):
    opaque = np.ones(pair[0].shape[:2], np.float32)
    for opacities in ([opaque], (None,) * 3):
        got = len(opacities)
        with pytest.raises(
            ValueError, match=f"^`opacities`: expected one for each of the 2 `styles`, got {got}$"
        ):
            mixed_palette(pair, jnp.ones(2), opacities)
    with pytest.raises(TypeError, match="^`opacities`: expected a list or tuple with one for each"):
        mixed_palette(pair, jnp.ones(2), opaque)
    for shares in (jnp.ones(1), np.ones(3), jnp.ones(())):
        shape = re.escape(str(list(shares.shape)))
        with pytest.raises(
            ValueError,
            match=f"^`shares`: expected one for each of the 2 `styles`, .* shape {shape}$",
        ):
            mixed_palette(pair, shares)


def test_the_palette_of_equal_shares_is_that_of_all_pixels(pair):
    found = mixed_palette(pair, jnp.ones(2))  # of equally many pixels
    for mine, theirs in zip(found, palette_of(pair), strict=True):
        assert_allclose(mine, theirs, atol=1e-6)


def test_a_style_without_a_share_is_not_in_the_palette(pair):
    found = mixed_palette(pair, jnp.asarray([0.0, 2.0]))
    for mine, theirs in zip(found, palette_of([pair[1]]), strict=True):
        assert_allclose(mine, theirs, atol=1e-7)
