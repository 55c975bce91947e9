"""The presets, constant by constant, and the recipe as a tree of numbers."""

import copy
import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax import losses, optimizers, prepare, recipes, vgg
from nst_jax.recipes import (
    COURSERA_TF2,
    DEFAULT,
    GATYS_PYTORCH,
    PRESETS,
    TF,
    TF_TV,
    CoarseToFine,
    filters,
    sizes,
    starts,
)
from nst_jax.vgg import layers

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


# --- The published constants ----------------------------------------------------------------------


def test_gatys_pytorch_is_the_authors_notebook():
    terms, descent, pictures = GATYS_PYTORCH.terms, GATYS_PYTORCH.descent, GATYS_PYTORCH.pictures
    assert terms.style_taps == STYLE and terms.content_taps == ("relu4_2",)
    assert terms.style_layer_weights == tuple(1e3 / n**2 for n in (64, 128, 256, 512, 512))
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (1, 1, 0)
    assert terms.style_loss is losses.GRAM_MEAN_SQUARE
    assert terms.content_loss is losses.CONTENT_MEAN_SQUARE
    rule = descent.optimizer
    assert rule == optimizers.TorchLBFGS(learning_rate=1.0, tolerance_grad=1e-5, history=100)
    assert descent.coordinates is vgg.CAFFE_BGR and not descent.clip
    assert descent.steps == 520  # 26 outer steps of 20 evaluations
    assert pictures.size == sizes.ShortEdge(512, sizes.truncated)
    assert pictures.resize is filters.old_pillow_bilinear
    assert pictures.start == starts.FromContent() and pictures.style_size is None
    assert GATYS_PYTORCH.network == vgg.Network()


@pytest.mark.parametrize(("recipe", "steps", "tv"), [(TF, 1003, 0), (TF_TV, 1000, 30)])
def test_tf_is_tensorflows_tutorial(recipe, steps, tv):
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.style_taps == STYLE and terms.content_taps == ("relu5_2",)
    assert terms.style_layer_weights == (0.2,) * 5
    assert (terms.content_weight, terms.style_weight) == (1e4, 1e-2)
    assert terms.tv_weight == tv and terms.variation is losses.TOTAL_VARIATION
    assert terms.style_loss is losses.GRAM_MEAN_SQUARE
    assert terms.content_loss is losses.CONTENT_MEAN_SQUARE
    assert descent.optimizer == optimizers.KerasAdam(learning_rate=0.02, b1=0.99, b2=0.999, eps=0.1)
    assert descent.coordinates is vgg.RAW and descent.clip and descent.steps == steps
    assert pictures.size == sizes.LongEdge(512, sizes.truncated_float32)
    assert pictures.resize is filters.bilinear and pictures.start == starts.FromContent()
    assert recipe.network == vgg.Network()


def test_coursera_tf2_is_the_courses_notebook():
    terms, descent, pictures = COURSERA_TF2.terms, COURSERA_TF2.descent, COURSERA_TF2.pictures
    assert terms.style_taps == STYLE and terms.content_taps == ("relu5_4",)
    assert terms.style_layer_weights == (0.2,) * 5
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (10, 40, 0)
    assert terms.style_loss is losses.GRAM_PAPER
    assert terms.content_loss is losses.CONTENT_QUARTER_MEAN_SQUARE
    assert descent.optimizer == optimizers.KerasAdam(learning_rate=0.01, eps=1e-7, counted=2)
    assert descent.coordinates is vgg.RAW and descent.clip and descent.steps == 2501
    assert pictures.size == sizes.Exact(400, 400) and pictures.resize is filters.pillow_bicubic
    assert pictures.start == starts.Jitter(0.25)
    assert COURSERA_TF2.network == vgg.Network(pixels=vgg.RAW)


def test_tf1_course_is_its_notebook():
    terms, descent, pictures = (
        recipes.COURSERA_TF1.terms,
        recipes.COURSERA_TF1.descent,
        recipes.COURSERA_TF1.pictures,
    )
    assert terms.style_taps == STYLE and terms.content_taps == ("relu4_2",)
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (10, 40, 0)
    assert terms.style_loss is losses.GRAM_PAPER and terms.style_layer_weights == (0.2,) * 5
    assert terms.content_loss is losses.CONTENT_QUARTER_MEAN_SQUARE
    assert recipes.COURSERA_TF1.network == vgg.Network(pool=layers.average_pool, ceil=True)
    assert descent.optimizer == optimizers.KerasAdam(learning_rate=2.0, eps=1e-8)
    assert descent.coordinates is vgg.CAFFE_BGR and not descent.clip and descent.steps == 200
    assert pictures.size == sizes.Exact(300, 400) and pictures.start == starts.SeededBlend()


@pytest.mark.parametrize(
    ("name", "layers"),
    [("udacity", (1, 0.75, 0.2, 0.2, 0.2)), ("udacity-exercise", (1, 0.8, 0.5, 0.3, 0.1))],
)
def test_udacity_is_its_notebook(name, layers):
    recipe = recipes.named(name)
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.style_taps == STYLE and terms.content_taps == ("relu4_2",)
    assert terms.style_layer_weights == layers
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (1, 1e6, 0)
    assert terms.style_loss is losses.GRAM_UNDIVIDED
    assert descent.optimizer == optimizers.Adam(learning_rate=0.003, b1=0.9, b2=0.999, eps=1e-8)
    assert descent.coordinates is vgg.TORCHVISION and not descent.clip and descent.steps == 2000
    assert pictures.style_size == sizes.LikeContent() and pictures.start == starts.FromContent()
    assert recipe.family == "vgg19-torchvision" and recipe.network == vgg.Network()


def test_pytorch_tutorial_is_its_file():
    recipe = recipes.PYTORCH_TUTORIAL
    terms, descent = recipe.terms, recipe.descent
    assert terms.content_taps == ("preact2_2",)
    assert terms.style_taps == tuple(f"preact{n}" for n in ("1_1", "1_2", "2_1", "2_2", "3_1"))
    assert terms.style_layer_weights == (1.0,) * 5
    assert (terms.content_weight, terms.style_weight) == (1, 1e6)
    assert terms.style_loss is losses.GRAM_PER_CHANNEL
    assert descent.optimizer == optimizers.TorchLBFGS()
    assert descent.coordinates is vgg.RAW and descent.clip and descent.steps == 320
    assert recipe.family == "vgg19-torchvision"


def test_keras_io_is_its_example():
    recipe = recipes.KERAS_IO
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.content_taps == ("relu5_2",) and terms.style_taps == STYLE
    assert terms.content_loss is losses.CONTENT_SUM_SQUARE and terms.content_weight == 2.5e-8
    assert terms.style_loss is losses.GRAM_BY_IMAGE and terms.style_weight == 1e-6
    assert terms.style_layer_weights == (0.2,) * 5
    assert terms.variation is losses.POWER_VARIATION
    # The source's pixels are 255 times ours, so its loss is (255²)^1.25 times as large.
    assert terms.tv_weight == pytest.approx(1e-6 * (255**2) ** 1.25)
    assert descent.optimizer == optimizers.DecayedSGD(
        learning_rate=100, decay=0.96, decay_steps=100
    )
    assert descent.coordinates is vgg.CAFFE_BGR and not descent.clip and descent.steps == 4000
    assert pictures.resize is filters.pillow_nearest


@pytest.mark.parametrize(
    ("name", "white", "pixels", "variation", "tv"),
    [
        ("jcjohnson", 256, vgg.CAFFE_BGR_256, losses.HALF_SQUARE_VARIATION, 1e-3 * 256**2),
        ("neural-style-pt", 255, vgg.CAFFE_BGR, losses.TOTAL_VARIATION, 1e-3 * 255),
    ],
)
def test_neural_styles_are_their_files(name, white, pixels, variation, tv):
    recipe = recipes.named(name)
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.content_taps == ("relu4_2",) and terms.style_taps == STYLE
    assert (terms.content_weight, terms.style_weight) == (5, 100)
    assert terms.style_layer_weights == (1.0,) * 5
    assert terms.style_loss is losses.GRAM_PER_CHANNEL
    assert terms.variation is variation and terms.tv_weight == tv
    assert pictures.start == starts.MeanNoise(deviation=1e-3, white=white)
    assert descent.coordinates is pixels and not descent.clip and descent.steps == 1000
    assert recipe.network.ceil == (name == "jcjohnson")


def test_pastiche_is_its_program():
    terms, descent = recipes.PASTICHE.terms, recipes.PASTICHE.descent
    assert terms.content_weight == 0.01 and terms.style_weight == 1
    assert terms.style_layer_weights == tuple(10 / n**2 for n in (64, 128, 256, 512, 512))
    assert descent.optimizer == optimizers.TorchLBFGS() and descent.steps == 1000
    assert recipes.PASTICHE.pictures.style_size == sizes.PixelsOfContent()


def test_crowsonkb_is_its_program():
    recipe = recipes.CROWSONKB
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.style_taps == STYLE and terms.content_taps == ("relu4_2",)
    assert terms.style_layer_weights == tuple(n / 341 for n in (256, 64, 16, 4, 1))
    assert (terms.content_weight, terms.style_weight) == (0.015, 1)
    assert terms.style_loss is losses.WASSERSTEIN_ABSOLUTE
    assert terms.content_loss is losses.CONTENT_MEAN_SQUARE
    assert terms.variation is losses.NINE_POINT_VARIATION
    # The source's 2, where one unit of torchvision's pixels is 57.63 of the grey levels here.
    assert terms.tv_weight == pytest.approx(2 * 57.63**2)
    rule = optimizers.Adam(learning_rate=0.02, b1=0.9, b2=0.99, eps=1e-8, carry=True)
    assert descent.optimizer == rule and descent.clip and descent.average_decay == 0.99
    assert descent.enlarge is filters.torch_bicubic and descent.coordinates is vgg.RAW
    long_sides = [(max(shape), count) for shape, count in descent.plan((384, 512))]
    assert descent.steps is None
    assert long_sides == [(128, 1000), (181, 500), (256, 500), (362, 500), (512, 500)]
    assert pictures.size == sizes.LongEdge(512) and pictures.resize is filters.pillow_bicubic
    assert pictures.style_size.shape(300, 200) == (300, 200)
    assert pictures.style_size.shape(300, 1024) == (150, 512)
    assert pictures.start == starts.FromContent()
    assert recipe.network == vgg.Network(padding=layers.replicate_first)


def test_sliced_wasserstein_is_its_file():
    recipe = recipes.SLICED_WASSERSTEIN
    terms, descent = recipe.terms, recipe.descent
    convolutions = (2, 2, 4, 4)
    taps = [f"relu{b}_{i + 1}" for b, n in enumerate(convolutions, 1) for i in range(n)]
    assert list(terms.style_taps) == taps and terms.style_loss is losses.SLICED_WASSERSTEIN
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (0, 1, 0)
    assert descent.optimizer == optimizers.TorchLBFGS(learning_rate=1.0, tolerance_grad=0.0)
    assert descent.coordinates is vgg.RAW and not descent.clip and descent.steps == 64 * 64
    assert recipe.pictures.start == starts.StyleMeanNoise(0.01)
    network = vgg.Network(pool=layers.average_pool, padding=layers.reflect_padded)
    assert recipe.network == network


def test_histogram_is_its_program():
    terms, descent = recipes.HISTOGRAM.terms, recipes.HISTOGRAM.descent
    assert terms.content_taps == ("preact4_2",) and terms.style_taps == STYLE
    assert terms.content_loss is losses.CONTENT_HALF_OVER_ROOT and terms.content_weight == 5
    assert terms.style_loss is losses.GRAM_PAPER and terms.style_layer_weights == (0.2,) * 5
    # The source divides the sums of weighted losses by the number of layers, 5 and 2.
    second = terms.second_style
    assert terms.style_weight == 1e4 / 5
    assert second.weight * terms.style_weight == pytest.approx(1e6 / 2)
    assert second.taps == ("relu1_1", "relu4_1") and second.layer_weights == (0.5, 0.5)
    assert second.loss is losses.CHANNEL_HISTOGRAMS
    assert terms.variation is losses.MEAN_VARIATION and terms.tv_weight == 1e-3 * 255**2
    assert descent.optimizer == optimizers.KerasAdam(learning_rate=1.0, eps=1e-8)
    assert descent.coordinates is vgg.CAFFE_BGR and not descent.clip and descent.steps == 1000
    network = vgg.Network(pool=layers.average_pool, ceil=True)
    assert recipes.HISTOGRAM.network == network


def test_nnst_is_its_program():
    recipe = recipes.NNST
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    convolutions = (2, 2, 3, 3)
    taps = [f"relu{b}_{i + 1}" for b, n in enumerate(convolutions, 1) for i in range(n)]
    assert list(terms.style_taps) == taps and terms.style_layer_weights == (1.0,) * 10
    assert (terms.content_weight, terms.style_weight, terms.tv_weight) == (0, 1, 0)
    assert terms.style_loss is losses.NEAREST_HYPERCOLUMNS and terms.search_content == 0.75
    assert terms.last_style_loss is losses.NEAREST_BY_TAP
    assert terms.style_loss.turns == terms.last_style_loss.turns == (0, 1, 2, 3)
    assert descent.optimizer == optimizers.Adam(learning_rate=2e-3, b1=0.9, b2=0.999, eps=1e-8)
    assert (descent.pyramid_levels, descent.one_pyramid) == (8, True)
    assert descent.enlarge is filters.bilinear and descent.coordinates is vgg.RAW
    assert not descent.clip and descent.steps == 5 * 200
    long_sides = [(max(shape), count) for shape, count in descent.schedule.plan((384, 512), 1000)]
    assert long_sides == [(64, 200), (128, 200), (256, 200), (512, 200), (512, 200)]
    assert pictures.size == sizes.LongEdge(512) and pictures.colors == "palette"
    assert pictures.start == starts.FromContent()
    assert recipe.network == vgg.Network() and recipe.family == "vgg16-torchvision"


def test_without_a_pyramid_no_scale_has_one():
    recipe = recipes.TF.replace(descent__pyramid_levels=0, descent__one_pyramid=True)
    for scale in (0, 1):
        assert recipe.at(scale, [(64, 64), (128, 128)]).descent.pyramid_levels == 0
    recipe = recipe.replace(descent__pyramid_levels=3)
    levels = [recipe.at(scale, [(64, 64), (128, 128)]).descent.pyramid_levels for scale in (0, 1)]
    assert levels == [2, 3]


def test_strotss_is_its_program():
    recipe = recipes.STROTSS
    terms, descent, pictures = recipe.terms, recipe.descent, recipe.pictures
    assert terms.content_taps == terms.style_taps
    assert [tap[4:] for tap in terms.style_taps] == [
        "1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_3", "5_3"
    ]  # fmt: skip
    channels = sum(vgg.LAYERS[vgg.layer_of(tap)][1] for tap in terms.style_taps)
    assert channels + 3 == 2179
    assert terms.content_loss is losses.CONTENT_SELF_SIMILARITY_AT_PLACES
    assert terms.style_loss is losses.RELAXED_TRANSPORT and terms.tv_weight == 0
    assert terms.content_against_style == 16
    rule = optimizers.RMSprop(learning_rate=2e-3, alpha=0.99, eps=1e-8)
    assert (descent.optimizer, descent.last_learning_rate) == (rule, 1e-3)
    assert (descent.pyramid_levels, descent.one_pyramid) == (5, False)
    assert descent.enlarge is filters.bilinear and descent.coordinates is vgg.RAW
    assert descent.content_detail and not descent.clip and descent.steps == 4 * 250
    plan = descent.schedule.plan((384, 512), 1000)
    assert [(max(shape), count) for shape, count in plan] == [
        (64, 250), (128, 250), (256, 250), (512, 250)
    ]  # fmt: skip
    assert pictures.size == sizes.LongEdge(512) and pictures.start == starts.StyleMeanDetail()
    assert recipe.network == vgg.Network() and recipe.family == "vgg16-torchvision"


def test_the_weights_of_strotss_at_each_scale():
    shapes = [(48, 64), (96, 128), (192, 256), (384, 512)]
    for scale, alpha in enumerate((16, 8, 4, 2)):
        here = recipes.STROTSS.at(scale, shapes)
        terms, rule = here.terms, here.descent.optimizer
        assert terms.content_weight == alpha / (alpha + 2)
        assert terms.style_weight == 1 / (alpha + 2)
        assert terms.style_layer_weights == (1, 1, 1 / alpha)
        assert rule.learning_rate == (1e-3 if scale == 3 else 2e-3)
        assert terms.content_against_style is here.descent.last_learning_rate is None
    weak = recipes.STROTSS.replace(content_against_style=1.0).at(1, shapes).terms
    assert weak.content_weight == 0.2 and weak.style_layer_weights == (1, 1, 1)


@pytest.mark.parametrize("recipe", [recipes.GATYS_2015, recipes.GATYS_2016])
def test_gatys_papers(recipe):
    terms = recipe.terms
    assert terms.content_taps == ("relu4_2",) and terms.style_taps == STYLE
    assert terms.style_layer_weights == (0.2,) * 5
    assert terms.content_weight / terms.style_weight == 1e-3
    assert terms.content_loss is losses.CONTENT_HALF_SUM_SQUARE
    assert terms.style_loss is losses.GRAM_PAPER
    assert recipe.network == vgg.Network(pool=layers.average_pool, ceil=True)
    assert recipe.pictures.start == starts.WhiteNoise()


def test_default_is_guarded_and_coarse_to_fine():
    assert DEFAULT.descent.optimizer.guarded and DEFAULT.descent.optimizer.levels
    assert isinstance(DEFAULT.descent.schedule, CoarseToFine)
    assert DEFAULT.pictures.size == sizes.LongEdge(512)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_passes_its_own_check_and_names_its_source(name):
    recipe = recipes.named(name)
    assert recipes.check(recipe) == recipe
    assert recipe.name == name and len(recipe.source) > 20


# --- Structure and numbers ------------------------------------------------------------------------


def test_numbers_are_leaves_and_structure_is_static():
    doubled = jax.tree.map(lambda x: 2 * x, TF)
    assert doubled.terms.style_weight == 2 * TF.terms.style_weight
    assert doubled.descent.steps == 2006
    assert doubled.terms.style_taps is TF.terms.style_taps
    assert jax.tree.structure(doubled) == jax.tree.structure(TF)


@pytest.mark.parametrize(
    "change",
    [
        {"style_taps": (*STYLE[:4], "relu5_2")},
        {"style_loss": losses.GRAM_PAPER},
        {"variation": losses.MEAN_VARIATION},
    ],
)
def test_another_tap_or_function_is_another_structure(change):
    other = replace(TF, terms=replace(TF.terms, **change))
    assert jax.tree.structure(other) != jax.tree.structure(TF)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_structure_can_be_hashed(name):
    assert hash(jax.tree.structure(PRESETS[name]))


def test_a_variant_leaves_the_original():
    softer = replace(TF, terms=replace(TF.terms, style_weight=1e-3))
    assert softer.terms.style_weight == 1e-3 and TF.terms.style_weight == 1e-2
    with pytest.raises(AttributeError):
        TF.terms.style_weight = 1.0


def test_bare_recipes_differ_only_where_programs_do():
    assert jax.tree.structure(TF.bare()) == jax.tree.structure(TF_TV.bare())
    assert jax.tree.structure(TF.bare()) != jax.tree.structure(GATYS_PYTORCH.bare())
    assert TF.bare().terms == TF.terms and TF.bare().name == ""


def test_as_arrays_gives_every_number_a_strong_type():
    for dtype in (jnp.float32, jnp.bfloat16):
        leaves = jax.tree.leaves(recipes.as_arrays(DEFAULT, dtype))
        assert {leaf.dtype for leaf in leaves} == {np.dtype(dtype)}
        assert not any(leaf.weak_type for leaf in leaves)


def test_check_gives_taps_our_names():
    terms = replace(
        TF.terms, content_taps=("block5_conv2",), style_taps=("r11", "r21", "r31", "r41", "r51")
    )
    assert recipes.check(replace(TF, terms=terms)) == TF


# --- Schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 250])
@pytest.mark.parametrize("shape", [(20, 20), (100, 130), (384, 512), (1000, 3000)])
def test_a_schedules_steps_add_up_and_end_at_the_final_size(shape, steps):
    plan = CoarseToFine(smallest=64, share=1.5).plan(shape, steps)
    assert plan[-1][0] == shape
    assert sum(count for _, count in plan) == steps
    assert all(count >= 1 for _, count in plan)
    assert [s for s, _ in plan] == list(recipes.ladder(shape, 64))[-len(plan) :]


def test_coarser_scales_get_more_steps():
    counts = [count for _, count in CoarseToFine(smallest=128, share=2.0).plan((512, 512), 700)]
    assert counts == [400, 200, 100]


def test_one_scale_is_one_scale():
    assert recipes.OneScale().plan((30, 40), 7) == (((30, 40), 7),)


# --- Copies ---------------------------------------------------------------------------------------


def copies(recipe):
    return pickle.loads(pickle.dumps(recipe)), copy.deepcopy(recipe)


def test_copies_of_presets_are_equal_and_start_from_the_same_canvas():
    content = np.full((16, 16, 3), 0.3, np.float32)
    exact = set()
    for name, recipe in PRESETS.items():
        canvas = prepare.exact_canvas(content, recipe, None)
        exact |= set() if canvas is None else {name}
        for copied in copies(recipe):
            assert copied == recipe
            assert recipes.check(copied) == recipes.check(recipe)
            found = prepare.exact_canvas(content, copied, None)
            np.testing.assert_equal(found, canvas)
    assert exact == {"coursera-tf1"}


@pytest.mark.parametrize(
    "name", ["nine_point_variation", "nine_point_variation_gradient_scaled", "mean_variation"]
)
def test_copies_of_a_recipe_are_refused_as_it_is(name):
    recipe = TF.replace(network__padding=layers.wrap_padded, variation=losses.VARIATIONS[name])
    for one in (recipe, *copies(recipe)):
        if name == "mean_variation":
            assert recipes.check(one) == recipe
        else:
            with pytest.raises(ValueError, match=f"^`variation`: {name} repeats the border"):
                recipes.check(one)
