"""Colours and realism in whole runs: in Python, batches, tiles, bands, checkpoints, recipes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import controls, provenance, recipes
from nst_jax.controls import COLORS, color
from nst_jax.images.palettes import palette_of, recoloured
from nst_jax.recipes import toml
from nst_jax.scaling import bands, sharding
from tests import small

FAST = small.quickest()
AFTER = ("luminance", "content-after", "palette")


# Compiled as wholes: eager operations would be compiled one by one.
realistic, recolored = jax.jit(controls.realistic), jax.jit(recoloured)
measure = jax.jit(nst.measure)


@partial(jax.jit, static_argnums=2)
def with_chroma_of(picture, content, space="oklab"):
    """Return a painted picture with the content's chroma, as the results of runs have it."""
    return jnp.clip(color.with_chroma_of(picture, content, space), 0.0, 1.0)


def clipped(picture):
    return jnp.clip(picture, 0.0, 1.0)


@pytest.fixture(scope="module")
def plain(params, content, style):
    return nst.stylize(params, content, style, recipe=FAST)


# --- One picture ----------------------------------------------------------------------------------


def test_the_colors_of_the_style_change_nothing(params, content, style, plain):
    same = nst.stylize(params, content, style, recipe=FAST, colors="style", realism=0.0)
    assert_array_equal(same, plain)


@pytest.mark.parametrize(
    "color_map",
    [
        name if name == "transport" else pytest.param(name, marks=pytest.mark.long)
        for name in color.MAPS
    ],
)
def test_content_paints_with_a_recoloured_style(color_map, params, content, style):
    recipe = FAST.replace(color_map=color_map)
    found = nst.stylize(params, content, style, recipe=recipe, colors="content")
    seen = clipped(jax.jit(color.with_colors_of, static_argnums=2)(style, content, color_map))
    assert_allclose(found, nst.stylize(params, content, seen, recipe=FAST), atol=1e-5)


def test_luminance_paints_in_grey_and_puts_the_chroma_back(params, content, style):
    grey = clipped(jax.jit(color.matched_luminance)(style, content))
    painted = nst.stylize(params, color.luminance(content), grey, recipe=FAST)
    found = nst.stylize(params, content, style, recipe=FAST, colors="luminance")
    assert_allclose(found, with_chroma_of(painted, content), atol=1e-4)


@pytest.mark.parametrize("space", color.CHROMA_SPACES)
def test_content_after_changes_the_result_alone(space, params, content, style, plain):
    recipe = FAST.replace(chroma_space=space, colors="content-after")
    found = nst.stylize(params, content, style, recipe=recipe)
    assert_allclose(found, with_chroma_of(plain, content, space), atol=1e-6)


def test_palette_moves_the_result_to_the_styles_colors(params, content, style, plain):
    found = nst.stylize(params, content, style, recipe=FAST, colors="palette")
    assert_allclose(found, recolored(plain, content, palette_of([style])), atol=1e-5)


def test_realism_finishes_the_result_before_its_colors(params, content, style, plain):
    filtered = realistic(plain, content, 0.5)
    found = nst.stylize(params, content, style, recipe=FAST, realism=0.5)
    assert_allclose(found, filtered, atol=1e-6)
    both = nst.stylize(params, content, style, recipe=FAST, realism=0.5, colors="content-after")
    assert_allclose(both, with_chroma_of(filtered, content), atol=1e-5)


def chroma(picture):
    """Return R - Y and B - Y, the chroma planes of YCbCr up to factors."""
    picture = np.asarray(picture, np.float64)
    grey = picture @ color.LUMA
    return np.stack([picture[..., 0] - grey, picture[..., 2] - grey], -1).reshape(-1, 2)


@pytest.mark.parametrize("colors", ["luminance", "content-after"])
def test_the_result_has_the_chroma_of_the_photo(colors, params, content, style):
    recipe = FAST.replace(chroma_space="ycbcr", colors=colors)
    found = nst.stylize(params, content, style, recipe=recipe)
    own, wanted = chroma(found), chroma(content)
    assert_allclose(own.mean(0), wanted.mean(0), atol=5e-3)
    assert_allclose(np.cov(own.T), np.cov(wanted.T), atol=1e-3)
    inside = ((np.asarray(found) > 0) & (np.asarray(found) < 1)).all(-1).reshape(-1)
    assert inside.mean() > 0.5
    assert_allclose(own[inside], wanted[inside], atol=1e-5)  # all but what was clipped


def test_snapshots_are_finished_and_losses_are_those_of_the_canvas(params, content, style):
    content = jnp.asarray(small.picture("chelsea", 48, 64))
    recipe = FAST.replace(schedule=recipes.CoarseToFine(smallest=32), steps=6)
    plain = list(nst.paint(params, content, style, recipe=recipe, every=2))
    found = list(nst.paint(params, content, style, recipe=recipe, every=2, colors="content-after"))
    assert [shot.image.shape for shot in found] == [shot.image.shape for shot in plain]
    assert len({shot.image.shape for shot in found}) == 2
    for one, other in zip(found, plain, strict=True):
        assert_array_equal(one.history.total, other.history.total)
        photo = nst.prepare.at_scale(content, one.image.shape[:2])
        wanted = with_chroma_of(other.image, photo)
        assert_allclose(one.image, wanted, atol=1e-5)


def test_a_blend_has_a_palette_by_its_shares(params, content, style):
    styles = [style, content[:, ::-1] ** 2]
    recipe = FAST.replace(style_shares=(1.0, 3.0))
    plain = nst.stylize(params, content, styles, recipe=recipe)
    found = nst.stylize(params, content, styles, recipe=recipe, colors="palette")
    palette = controls.mixed_palette(styles, jnp.asarray([1.0, 3.0]))
    assert_allclose(found, recolored(plain, content, palette), atol=1e-5)


# --- Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "colors",
    [
        *("content", "palette"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("luminance", "content-after")),
    ],
)
def test_a_batch_paints_as_single_runs_do(colors, params, content, style):
    contents, styles = [content, content[::-1] ** 2], [style, style[:, ::-1] ** 0.5]
    found = nst.stylize_many(
        params, contents, styles, recipe=FAST, colors=colors, realism=np.array([0.5, 0.0])
    )
    for index, realism in enumerate((0.5, 0.0)):
        alone = nst.stylize(
            params, contents[index], styles[index], recipe=FAST, colors=colors, realism=realism
        )
        assert_allclose(found[index], alone, atol=2e-4)


def test_one_style_is_recoloured_for_each_content(params, content, style):
    contents = [content, content**3]
    found = nst.stylize_many(params, contents, style, recipe=FAST, colors="content")
    for one, picture in zip(found, contents, strict=True):
        alone = nst.stylize(params, picture, style, recipe=FAST, colors="content")
        assert_allclose(one, alone, atol=2e-4)


def test_realism_is_swept_by_an_array(params, content, style, plain):
    shares = np.array([0.0, 0.25, 1.0])
    found = nst.stylize_many(params, content, style, recipe=FAST, realism=shares)
    assert found.shape == (3, *plain.shape)
    assert_allclose(found[0], plain, atol=1e-5)
    assert_allclose(found[1], 0.75 * found[0] + 0.25 * found[2], atol=1e-5)


# --- Tiles, bands, checkpoints --------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("colors", ["luminance", "palette"])
def test_tiles_and_bands_give_what_one_piece_gives(colors, params, content, style):
    big = jnp.asarray(small.picture("chelsea", 64, 96))
    options = {"recipe": FAST, "colors": colors, "realism": 0.3}
    whole = nst.stylize(params, big, style, **options)
    assert_allclose(nst.stylize(params, big, style, tile=32, **options), whole, atol=1e-5)
    assert_allclose(nst.stylize(params, big, style, devices=2, **options), whole, atol=1e-5)


def test_a_run_resumes_with_its_colors_only(params, content, style):
    options = {"recipe": FAST, "colors": "luminance", "every": 2}
    shots = nst.paint(params, content, style, **options)
    next(shots), next(shots)
    saved = shots.checkpoint()
    wanted = shots.finish()
    found = nst.paint(params, content, style, resume=saved, **options).finish()
    assert_array_equal(found.image, wanted.image)
    with pytest.raises(ValueError, match=r"`resume`.*pictures\.colors"):
        nst.paint(params, content, style, resume=saved, recipe=FAST)
    with pytest.raises(ValueError, match=r"`resume`.*pictures\.realism"):
        nst.paint(params, content, style, resume=saved, realism=0.5, **options)


# --- Programs -------------------------------------------------------------------------------------


def test_the_loops_program_does_not_depend_on_the_controls():
    for colors in COLORS:
        changed = recipes.DEFAULT.replace(colors=colors, realism=0.5)
        assert changed.bare() == recipes.DEFAULT.bare()


def test_another_amount_or_picture_compiles_nothing(params, content, style, compilations):
    def run(content, realism, colors="content"):
        nst.stylize(params, content, style, recipe=FAST, colors=colors, realism=realism)

    other = content[::-1]  # which compiles a program of its own
    for colors in COLORS:
        run(content, 0.5, colors)
    before = compilations()
    for colors in COLORS:
        run(content, 0.25, colors)
        run(other, 1.0, colors)
    assert compilations() == before


# --- Recipes and records --------------------------------------------------------------------------


def test_recipe_files_have_the_controls():
    recipe = recipes.TF.replace(colors="content", color_map="pca", realism=0.5)
    assert toml.from_toml(toml.to_toml(recipe)) == recipe
    text = 'base = "tf"\n[pictures]\ncolors = "luminance"\nchroma_space = "ycbcr"\nrealism = 1\n'
    pictures = toml.from_toml(text).pictures
    assert (pictures.colors, pictures.chroma_space, pictures.realism) == ("luminance", "ycbcr", 1.0)


def test_records_have_the_controls_only_where_they_are_set():
    names = ("pictures.colors", "pictures.color_map", "pictures.chroma_space", "pictures.realism")
    assert not set(names) & set(provenance.of_recipe(recipes.DEFAULT))
    checked = recipes.check(recipes.DEFAULT.replace(realism=0))
    assert not set(names) & set(provenance.of_recipe(checked))
    changed = recipes.DEFAULT.replace(colors="content", color_map="pca", realism=0.5)
    found = provenance.of_recipe(changed)
    assert [found.get(name) for name in names] == ["content", "pca", None, 0.5]


REFUSED = {
    "an unknown choice": (
        {"colors": "contents"},
        "`colors`: there is no choice of colours 'contents'",
    ),
    "no word": ({"colors": True}, "`colors`: expected a name such as 'style', got True"),
    "an unknown map": (
        {"colors": "content", "color_map": "pcs"},
        "`color_map`: there is no map of",
    ),
    "a map for nothing": ({"color_map": "pca"}, "`color_map`: is the map of `colors='content'`"),
    "a space for nothing": ({"chroma_space": "ycbcr"}, "`chroma_space`: is where `colors='lumin"),
    "too much realism": (
        {"realism": 1.5},
        r"`realism`: expected 0 to 1 \(0 is as painted, .*got 1.5",
    ),
    "less than none": ({"realism": -0.5}, "`realism`: .*-0.5"),
    "text": ({"realism": "much"}, "`realism`: expected a number, got"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_values_are_refused(case):
    values, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        recipes.check(recipes.DEFAULT.replace(values))


def test_arguments_are_refused_before_any_work(content, style, params):
    with pytest.raises(ValueError, match="`colors`: there is no choice of colours 'photo'"):
        nst.stylize(params, content, style, colors="photo")
    plan = nst.plan(content, style, recipe=FAST, colors="palette", realism=0.5)
    assert (plan.recipe.pictures.colors, plan.recipe.pictures.realism) == ("palette", 0.5)
    with pytest.raises(ValueError, match="`colors`: `plan` contains it"):
        nst.stylize(params, content, style, plan=plan, colors="content")
    sweep = FAST.replace(realism=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="pictures.realism.*stylize_many"):
        nst.stylize(params, content, style, recipe=sweep)


def test_a_training_has_no_colors_of_a_photo(params, style, tmp_path):
    def train(recipe):
        nst.train(params, {"art": np.asarray(style)}, [tmp_path], recipe=recipe)

    recipe = recipes.DEFAULT.replace(colors="content")
    with pytest.raises(ValueError, match=r"`recipe`: its `pictures.colors` is 'content'"):
        train(recipe)
    with pytest.raises(
        ValueError, match=r"`recipe`: has a `terms.matting_weight`, which a training"
    ):
        train(with_matting(1.0))


def test_controls_work_under_jit_and_vmap(content, style):
    shares = jnp.asarray([0.0, 1.0])
    mixed = jax.jit(jax.vmap(controls.realistic, (None, None, 0)))(content**2, content, shares)
    assert_array_equal(mixed[0], content**2)
    assert_allclose(mixed[1], realistic(content**2, content, 1.0), atol=1e-5)


# --- The matting Laplacian as a term --------------------------------------------------------------


def with_matting(weight, **terms):
    """Return a recipe whose other losses are relative, so that a weight of some 100 matters."""
    layers = {"style_layer_weights": (1.0, 1.0)}
    return small.shallowest(recipes.DEFAULT, **(layers | terms), matting_weight=weight)


def test_the_matting_term_is_the_energy_per_pixel(params, content, style):
    image = jnp.asarray(small.picture("gravel", *content.shape[:2]))
    recipe = with_matting(0.5, content_weight=0.0, style_weight=0.0)

    def total(image):
        losses = nst.losses_of(params, image, nst.measure(params, content, style, recipe), recipe)
        return losses.total, losses

    (value, losses), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(image)
    pixels = image.shape[0] * image.shape[1]
    energy = jax.jit(controls.matting_energy)(image, content)
    assert_allclose(value, 0.5 * energy / pixels, rtol=1e-5)
    assert losses.matting == value
    product = jax.jit(controls.laplacian_product)(image, content)
    assert_allclose(gradient, product / pixels, atol=1e-7)  # 0.5 times 2Lx


def energy_of(image, content):
    return float(jax.jit(controls.matting_energy)(image, content))


def test_matting_keeps_the_edges_of_the_photo(params, content, style):
    found, plain = (
        nst.stylize(params, content, style, recipe=with_matting(weight, steps=12))
        for weight in (100.0, 0.0)
    )
    assert energy_of(found, content) < 0.2 * energy_of(plain, content)
    assert np.abs(found - content).max() > 0.05  # it is painted all the same


def test_matting_is_that_of_the_photo_at_every_scale(params, content, style):
    content = jnp.asarray(small.picture("chelsea", 48, 64))
    recipe = small.quickest(matting_weight=100.0).replace(
        schedule=recipes.CoarseToFine(smallest=24)
    )
    shots = list(
        nst.paint(params, content, style, recipe=recipe, init=recipes.starts.Noise(), every=1)
    )
    assert {shot.image.shape for shot in shots} == {(24, 32, 3), (48, 64, 3)}
    for shot in shots:
        height, width, _ = shot.image.shape
        photo = nst.prepare.at_scale(content, (height, width))
        wanted = 100.0 * energy_of(shot.image, photo) / (height * width)
        assert_allclose(shot.losses.matting, wanted, rtol=1e-5)


def test_matting_is_the_same_in_tiles(params64, x64):
    big, image, style = (
        jnp.asarray(small.picture(name, *shape), jnp.float64)
        for name, shape in (
            ("chelsea", (64, 96)),
            ("gravel", (64, 96)),
            ("starry_night", (28, 20)),
        )
    )
    whole = recipes.as_arrays(with_matting(10.0), jnp.float64)
    targets = measure(params64, big, style, whole)

    @jax.jit
    def total(image, recipe):
        losses = nst.losses_of(params64, image, targets, recipe)
        return losses.total, losses.matting

    found, wanted = (
        jax.value_and_grad(total, has_aux=True)(image, recipe)
        for recipe in (whole.replace(network__tile=32), whole)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_matting_is_swept_by_an_array(params, content, style):
    weights = np.array([0.0, 10.0, 100.0])
    batch = nst.stylize_many(params, content, style, recipe=with_matting(weights, steps=1))
    for found, weight in zip(batch, weights, strict=True):
        alone = nst.stylize(params, content, style, recipe=with_matting(float(weight), steps=1))
        assert_allclose(found, alone, atol=1e-5)
    assert energy_of(batch[2], content) < energy_of(batch[0], content)


@pytest.mark.parametrize(
    "height",
    [
        pytest.param(64, marks=pytest.mark.long),  # each band is full
        50,  # the second band has rows below the picture
        pytest.param(33, marks=pytest.mark.long),  # no window begins in the second band
    ],
)
def test_matting_is_the_same_in_bands(params64, x64, height):
    big, image = (
        jnp.asarray(small.picture(name, height, 40), jnp.float64) for name in ("chelsea", "gravel")
    )
    recipe = recipes.as_arrays(with_matting(10.0), jnp.float64)
    mesh = sharding.mesh_of(jax.devices()[:2], axis=sharding.BANDS)
    split = bands.bands_of(mesh, (height, 40), recipe.network)

    @jax.jit
    def found(params, image, content, split=None):
        targets = nst.measure(params, content, content[::-1], recipe, bands=split)

        def total(image):
            canvas = bands.with_padding(image, split)
            losses = nst.losses_of(params, canvas, targets, recipe, bands=split)
            return losses.total, losses.matting

        return jax.value_and_grad(total, has_aux=True)(image)

    whole = found(params64, image, big)
    here = [sharding.replicate(one, mesh) for one in (params64, image, big)]
    for one, other in zip(
        jax.tree.leaves(found(*here, split)), jax.tree.leaves(whole), strict=True
    ):
        assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert whole[0][1] > 0.1


@pytest.mark.long
def test_matting_is_painted_in_bands(params, content, style):
    # The relative losses of `default` would enlarge rounding errors on such small pictures.
    recipe = small.quickest(steps=3, matting_weight=1e6)
    one = nst.stylize(params, content, style, recipe=recipe)
    plain = nst.stylize(params, content, style, recipe=recipe.replace(matting_weight=None))
    assert np.abs(one - plain).max() > 1e-3
    split = nst.stylize(params, content, style, recipe=recipe, devices=2)
    assert_allclose(split, one, rtol=0, atol=1e-5)
    contents = [content, content[:, ::-1]]
    many = nst.stylize_many(params, contents, style, recipe=recipe, devices=2, bands=2)
    assert_allclose(many[0], one, rtol=0, atol=1e-5)


def test_targets_of_another_recipe_are_refused(params, content, style):
    targets = measure(params, content, style, with_matting(None))
    with pytest.raises(ValueError, match="`targets`: have no photo for `matting_weight`"):
        jax.eval_shape(nst.losses_of, params, content, targets, with_matting(1.0))


def test_checkpoints_and_records_have_the_matting_loss(params, content, style, tmp_path):
    recipe, path = with_matting(1.0), tmp_path / "run.h5"
    shots = nst.paint(params, content, style, recipe=recipe, every=2)
    next(shots), next(shots)
    nst.checkpoints.save(path, shots.checkpoint())
    wanted = shots.finish()
    saved = nst.checkpoints.load(path)
    found = nst.paint(params, content, style, recipe=recipe, every=2, resume=saved).finish()
    assert_array_equal(found.image, wanted.image)
    assert_array_equal(found.history.matting, wanted.history.matting)
    assert provenance.of_losses(found.losses)["matting"] == float(found.losses.matting)
    plain = provenance.of_losses(nst.paint(params, content, style, recipe=FAST).finish().losses)
    assert "matting" not in plain
    parts = [getattr(found.losses, name) for name in ("content", "style", "tv", "matting")]
    assert_allclose(found.losses.total, sum(parts), rtol=1e-6)


def test_an_export_refuses_matting(params):
    with pytest.raises(ValueError, match=r"`recipe`: its `terms.matting_weight` needs the photo's"):
        nst.export.step_model(params, with_matting(1.0))


def test_an_export_refuses_several_styles(params):
    recipe = recipes.GRAM.replace(style_shares=(0.5, 0.5))
    with pytest.raises(ValueError, match="`recipe`: the exported programs take one style picture"):
        nst.export.step_model(params, recipe)


def test_memory_for_matting_and_realism_is_planned():
    shape = (2048, 2048)
    tiled = recipes.GRAM.replace(network__tile=256)
    plain = nst.estimate_memory(shape, recipe=tiled, platform="cpu")
    found = nst.estimate_memory(
        shape, recipe=tiled.replace(terms__matting_weight=1.0), platform="cpu"
    )
    assert found.activations > plain.activations
    found = nst.estimate_memory(shape, recipe=tiled.replace(realism=0.5), platform="cpu")
    assert found.activations > plain.activations
