"""The estimate of a run's memory against XLA's own count, and what follows from it."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import _memory, controls, measuring, recipes, run_scales, vgg
from nst_jax.images import resizing
from nst_jax.scaling import capacity, chunk_size, tile_grid
from nst_jax.scaling.file_memory import FileMemory, memory_of_files, peak_of_resizing
from nst_jax.scaling.plan import plan_scales
from nst_jax.scaling.stored_memory import bytes_of_widened_targets
from nst_jax.scaling.tile_choice import largest_that_fits
from nst_jax.style_statistics import no_sums
from tests import small
from tests.test_precision import at

pytestmark = pytest.mark.optimized


def counted(params, recipe, shape, pictures=1, controls=None):
    """Return what XLA says that the compiled loop takes, in bytes."""
    core = recipes.as_arrays(recipe.bare())
    formed = vgg.with_forms(
        params, core.terms.taps, shape=shape, precision=recipe.network.precision_on()
    )
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    state = jax.eval_shape(nst.init, image, core)
    targets = jax.eval_shape(partial(nst.measure, controls=controls), formed, image, image, core)
    run = nst.run
    if pictures > 1:
        run = jax.vmap(nst.run, in_axes=(None, 0, 0, None, None))
        state, targets = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((pictures, *x.shape), x.dtype), (state, targets)
        )
    loop = jax.jit(run, donate_argnums=1)
    found = loop.lower(formed, state, targets, core, jnp.asarray(1)).compile().memory_analysis()
    return (
        found.temp_size_in_bytes
        + found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
    )


# Two layers by Winograd's way at 128 px, Keras' Adam.
MIDDLE = small.shallow(
    recipes.TF,
    content_taps=("relu3_2",),
    style_taps=("relu1_1", "relu3_2"),
)
HALF = at("bfloat16", MIDDLE)
GAUSSIAN = replace(MIDDLE, terms=replace(MIDDLE.terms, style_loss=nst.losses.WASSERSTEIN_RELATIVE))
LONG_MEMORY = small.shallow(recipes.GATYS_PYTORCH)
# Two taps whose features are projected and sorted.
SORTED = small.shallow(recipes.SLICED_WASSERSTEIN, style_taps=("relu1_1", "relu1_2"))


@pytest.mark.parametrize(
    ("recipe", "shape", "pictures"),
    [
        (MIDDLE, (128, 136), 1),
        pytest.param(HALF, (128, 136), 1, marks=pytest.mark.long),
        pytest.param(GAUSSIAN, (128, 136), 1, marks=pytest.mark.slow),
        pytest.param(at("bfloat16", recipes.TF), (256, 256), 1, marks=pytest.mark.long),
        pytest.param(LONG_MEMORY, (96, 131), 3, marks=pytest.mark.slow),
        pytest.param(SORTED, (128, 136), 1, marks=pytest.mark.slow),
        pytest.param(recipes.SLICED_WASSERSTEIN, (256, 256), 1, marks=pytest.mark.long),
        pytest.param(recipes.STROTSS, (128, 128), 1, marks=pytest.mark.long),
        pytest.param(recipes.DEFAULT, (128, 192), 1, marks=pytest.mark.long),
        pytest.param(recipes.DEFAULT, (256, 256), 1, marks=pytest.mark.long),
        pytest.param(recipes.TF, (256, 256), 1, marks=pytest.mark.long),
        pytest.param(recipes.GATYS_PYTORCH, (192, 256), 1, marks=pytest.mark.long),
        pytest.param(recipes.GATYS_2015, (160, 131), 1, marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_it_is_within_a_fifth_of_what_xla_counts(params, recipe, shape, pictures):
    estimate = nst.estimate_memory(shape, recipe=recipe, pictures=pictures, platform="cpu")
    found = counted(params, recipe, shape, pictures)
    assert estimate.total - estimate.workspace == pytest.approx(found, rel=0.2)


def test_targets_of_16_bits_that_are_features_have_copies_of_32_bits():
    options = [(128, 136)], at("bfloat16", SORTED)
    assert bytes_of_widened_targets(*options) == 4 * 2 * 64 * 128 * 136  # two taps
    assert bytes_of_widened_targets([(128, 136)], SORTED) == 0  # float32
    assert bytes_of_widened_targets([(128, 136)], HALF) == 0  # Gram matrices


def protecting(shape):
    """Return controls of a canvas of this shape, half of which is protected."""
    mask = np.zeros(shape, np.float32)
    mask[: shape[0] // 2] = 1
    given = controls.checked_controls(shape, [shape], protect=controls.Protect(mask))
    return controls.controls_of(given, shape, [shape])


@pytest.mark.parametrize("tap", ["relu2_1", "relu2_2"])
def test_targets_of_a_protected_part_are_counted_to_the_byte(params, tap):
    # With a recipe that reads relu2_2, the part is held there; the recipe may have these features too.
    recipe, shape = small.shallow(content_taps=(tap,)), (64, 76)
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    measured = partial(nst.measure, controls=protecting(shape))
    found = jax.eval_shape(measured, params, image, image, recipes.as_arrays(recipe.bare()))
    counted = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found))
    guides = found.guides
    few = sum(leaf.size * 4 for leaf in jax.tree.leaves((guides.totals, guides.shares)))
    estimate = nst.estimate_memory(shape, recipe=recipe, platform="cpu", protected=True)
    assert estimate.targets == counted - few  # numbers of one region at each tap are left out


@pytest.mark.slow
def test_a_protected_part_is_within_a_fifth_of_what_xla_counts(params):
    shape = (128, 136)
    options = {"recipe": LONG_MEMORY, "platform": "cpu"}
    estimate = nst.estimate_memory(shape, protected=True, **options)
    found = counted(params, LONG_MEMORY, shape, controls=protecting(shape))
    assert estimate.total - estimate.workspace == pytest.approx(found, rel=0.2)
    assert estimate.total > nst.estimate_memory(shape, **options).total


def test_a_plan_counts_a_protected_part():
    def planned(**options):
        return nst.plan((300, 400), (300, 400), size=96, platform="cpu", memory=10**10, **options)

    one, other = planned(), planned(protect=controls.Protect(None))
    assert other.scales[-1].protected and not one.scales[-1].protected
    assert other.footprint.targets > one.footprint.targets
    assert other.footprint.activations > one.footprint.activations
    with pytest.raises(TypeError, match="`protect`: expected Protect, got bool"):
        planned(protect=True)


@pytest.mark.parametrize("taps", [("relu1_1", "relu2_1"), ("relu1_2", "relu2_1")])
@pytest.mark.parametrize("tile", [0, 96])
def test_measuring_is_within_a_quarter_of_what_xla_counts(params, taps, tile):
    shape, recipe = (256, 272), small.shallow(style_taps=taps)
    recipe = replace(recipe, network=replace(recipe.network, tile=tile))
    style, core = jnp.zeros((*shape, 3)), recipes.as_arrays(recipe.bare())
    if tile:
        sums = no_sums(style, core)
        lowered = measuring.PROGRAMS.add_style_tile.lower(params, style, sums, 0, core)
    else:
        lowered = measuring.PROGRAMS.sum_style.lower(params, style, core)
    window = tile_grid.window_of(shape, taps, recipe.network)
    # XLA does not count the copies of its operands that a product makes. The largest is of 64 channels.
    copy = 64 * 4 * window[0] * window[1]
    found = lowered.compile().memory_analysis().temp_size_in_bytes + copy
    less = nst.estimate_memory((32, 32), recipe=recipe, style_shapes=[shape], platform="cpu")
    assert less.workspace == copy
    assert less.activations + less.workspace == pytest.approx(found, rel=0.25)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux measures peaks")
def test_the_process_grows_by_what_is_estimated_beside_what_xla_counts(params):
    recipe = small.shallow(style_taps=("relu1_1",), style_layer_weights=(1.0,))
    core, style = recipes.as_arrays(recipe.bare()), jnp.zeros((512, 512, 3))
    program = measuring.PROGRAMS.sum_style.lower(params, style, core).compile()
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at the present memory
    before = _memory._numbers(status)["VmHWM"]
    jax.block_until_ready(program(params, style, core))
    grown = 1024 * (_memory._numbers(status)["VmHWM"] - before)
    estimate = nst.estimate_memory(
        (32, 32), recipe=recipe, style_shapes=[(512, 512)], platform="cpu"
    )
    assert estimate.workspace == 64 * 4 * 512**2
    counted = program.memory_analysis().temp_size_in_bytes
    # The first call also touches code and small arrays.
    assert grown < counted + estimate.workspace + 10e6
    if jax.__version_info__[:2] == (0, 10):  # other versions may copy less
        assert grown > counted + 0.9 * estimate.workspace


def test_a_cpus_copies_are_of_the_largest_layer_of_the_longest_phase():
    shape, others = (96, 128), {"recipe": MIDDLE, "style_shapes": [(32, 32)]}
    found = nst.estimate_memory(shape, platform="cpu", **others)
    assert found.workspace == 64 * 4 * 96 * 128
    assert nst.estimate_memory(shape, platform="gpu", **others).workspace == 0
    three = nst.estimate_memory(shape, pictures=3, platform="cpu", **others)
    assert three.workspace == 3 * found.workspace
    # Features of 16 bits are copied as they are, the input of a direct convolution as float32.
    others["recipe"] = HALF
    assert nst.estimate_memory(shape, platform="cpu", **others).workspace == found.workspace


def test_measuring_in_bfloat16_is_within_a_quarter_of_what_xla_counts(params):
    shape, recipe = (256, 272), at("bfloat16", small.shallow(style_taps=("relu1_2", "relu2_1")))
    style, core = jnp.zeros((*shape, 3)), recipes.as_arrays(recipe.bare())
    lowered = measuring.PROGRAMS.sum_style.lower(params, style, core)
    found = lowered.compile().memory_analysis().temp_size_in_bytes
    less = nst.estimate_memory((32, 32), recipe=recipe, style_shapes=[shape], platform="cpu")
    assert less.activations == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((4000, 3000), (512, 384)),
        ((300, 400), (150, 200)),
        ((96, 80), (384, 320)),
        ((4000, 4000), (512, 512)),
    ],
)
def test_resizing_takes_no_more_than_estimated_and_not_much_less(old, new):
    picture = jax.ShapeDtypeStruct((*old, 3), jnp.float32)
    resized = jax.jit(resizing.antialiased, static_argnums=1).lower(picture, new).compile()
    found = resized.memory_analysis()
    counted = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    estimate = peak_of_resizing(old, new, resizing.antialiased)
    assert estimate / 2 < counted < 1.05 * estimate
    assert peak_of_resizing(old, old, resizing.antialiased) == 12 * old[0] * old[1]


def test_files_that_are_still_to_be_read_take_memory():
    scales = [run_scales.Scale((64, 64), ((64, 64),), 1)]
    files = FileMemory(kept=10**9, peak=3 * 10**9, least=3 * 10**9)
    options = {"memory": 4 * 10**9, "platform": "cpu", "files": files}
    assert plan_scales(recipes.DEFAULT, scales, **options).available == 4 * 10**9
    found = plan_scales(recipes.DEFAULT, scales, unread=True, **options)
    assert found.available == 3 * 10**9 and found.peak == 3 * 10**9
    options["memory"] = 2 * 10**9
    with pytest.raises(
        ValueError, match=r"`content`: reading the pictures takes 3.0 GB, and 2.0 GB"
    ):
        plan_scales(recipes.DEFAULT, scales, unread=True, **options)
    style = replace(files, largest=1)
    with pytest.raises(ValueError, match=r"`style`: reading the pictures takes 3.0 GB"):
        plan_scales(recipes.DEFAULT, scales, unread=True, **options | {"files": style})
    # An accelerator has a memory of its own.
    found = plan_scales(recipes.DEFAULT, scales, unread=True, **options | {"platform": "gpu"})
    assert found.available == 2 * 10**9 and found.peak == found.footprint.total


def test_files_are_read_and_resized_one_after_the_other():
    scale = run_scales.Scale((60, 80), ((1000, 1000), (50, 50)), 1)
    shapes, pixels = [(300, 400), (1000, 1000), (500, 500)], (120_000, 1_000_000, 250_000)
    found = memory_of_files(shapes, [25 * n for n in pixels], scale, recipes.DEFAULT)
    assert found.kept == 12 * sum(pixels)
    # The most is taken while the last style is resized, beside the others, which are resized already.
    last = peak_of_resizing((500, 500), (50, 50), recipes.DEFAULT.pictures.resize)
    assert found.peak == found.kept + 12 * 60 * 80 + 12 * 1_000_000 + last
    scale = run_scales.Scale((60, 80), (), 1)
    few = memory_of_files(shapes[:1], [100 * 10**6], scale, recipes.DEFAULT)
    assert few.peak == few.least == 100 * 10**6


def test_the_least_that_reading_takes_does_not_depend_on_the_sizes():
    shapes, pixels = [(300, 400), (1000, 1000)], (120_000, 1_000_000)
    decoding = [25 * n for n in pixels]
    resize = recipes.DEFAULT.pictures.resize
    for side in (500, 5000):
        scale = run_scales.Scale((side, side), ((side, side),), 1)
        found = memory_of_files(shapes, decoding, scale, recipes.DEFAULT)
        last = peak_of_resizing((1000, 1000), (16, 16), resize)
        assert found.least == 12 * sum(pixels) + 12 * 16 * 16 + last < found.peak
        assert found.largest == 1
    # Nothing is resized.
    scale = run_scales.Scale((300, 400), ((1000, 1000),), 1)
    found = memory_of_files(shapes, decoding, scale, recipes.DEFAULT)
    assert found.least == found.peak


def test_a_resizing_that_does_not_fit_names_the_size_that_needs_it():
    files = FileMemory(kept=10**6, peak=3 * 10**9, least=2 * 10**6)
    options = {"memory": 2 * 10**9, "platform": "cpu", "files": files, "unread": True}
    enlarged = recipes.DEFAULT.replace(style_scale=(2.0,))
    for shape, style, recipe, argument in (
        ((64, 96), (64, 64), recipes.DEFAULT, "size"),
        ((64, 64), (96, 64), recipes.DEFAULT, "style_size"),
        ((64, 64), (96, 64), enlarged, "style_scale"),
    ):
        scales = [run_scales.Scale(shape, (style,), 1)]
        words = (
            rf"^`{argument}`: resizing .* takes 3.0 GB, and 2.0 GB is available; choose a smaller"
        )
        with pytest.raises(ValueError, match=words):
            plan_scales(recipe, scales, **options)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_weights_are_those_of_the_forms(params, name):
    shape, recipe = (256, 320), at(name, recipes.DEFAULT)
    formed = vgg.with_forms(
        params, recipe.terms.taps, shape=shape, precision=recipe.network.precision_on()
    )
    estimate = nst.estimate_memory(shape, recipe=recipe, platform="cpu")
    assert estimate.weights == sum(leaf.nbytes for leaf in jax.tree.leaves(formed))
    elsewhere = nst.estimate_memory(shape, recipe=recipe, platform="gpu")
    assert elsewhere.weights < estimate.weights / 3


def test_the_parts_add_up():
    one = nst.estimate_memory((64, 80), platform="cpu")
    of_network = one.weights, one.activations, one.workspace
    assert one.total == sum(of_network) + one.state + one.targets + one.inputs
    assert one.inputs == 2 * 12 * 64 * 80  # float32 pixels of a content and a style
    per_canvas = one.activations + one.workspace + one.state + one.targets
    assert one.per_pixel == per_canvas / (64 * 80)
    three = nst.estimate_memory((64, 80), pictures=3, platform="cpu")
    assert three.weights == one.weights
    assert three.per_pixel == one.per_pixel


def test_more_takes_more():
    def total(shape=(64, 64), **options):
        return nst.estimate_memory(shape, platform="cpu", **options).total

    assert total() < total((64, 80)) < total((64, 80), pictures=2)
    deeper = replace(recipes.DEFAULT.terms, content_taps=("relu5_4",))
    assert total() < total(recipe=replace(recipes.DEFAULT, terms=deeper))
    assert total(style_shapes=[(32, 32)]) == total() - 12 * (64**2 - 32**2)
    assert total() < total(style_shapes=[(32, 32), (512, 512)])


def test_lbfgs_takes_24_bytes_a_pair_and_pixel():
    def state(history):
        rule = recipes.DEFAULT.descent.optimizer
        descent = replace(recipes.DEFAULT.descent, optimizer=replace(rule, history=history))
        return nst.estimate_memory((32, 32), recipe=replace(recipes.DEFAULT, descent=descent)).state

    assert state(30) - state(10) == 20 * (24 * 32 * 32 + 4)


@pytest.mark.parametrize(
    ("shape", "options", "kind", "message"),
    [
        ((8, 64), {}, ValueError, "`shape`: expected 16 or more, got 8"),
        ((64, 64, 3), {}, ValueError, r"`shape`: expected \(height, width\), got 3 numbers"),
        (512, {}, TypeError, r"`shape`: expected \(height, width\), got 512"),
        ((64, 64.0), {}, TypeError, "`shape`: expected a whole number, got 64.0"),
        ((64, 64), {"pictures": 0}, ValueError, "`pictures`: expected 1 or more, got 0"),
        ((64, 64), {"platform": "abacus"}, ValueError, "`platform`: expected 'cpu', 'gpu' or"),
        ((64, 64), {"style_shapes": []}, ValueError, "`style_shapes`: is empty"),
        ((64, 64), {"style_shapes": [(1, 64)]}, ValueError, r"`style_shapes\[0\]`: expected 16"),
        ((64, 64), {"style_shapes": (64, 64)}, TypeError, r"`style_shapes\[0\]`: expected \(hei"),
        ((64, 64), {"recipe": "default"}, TypeError, "`recipe`: expected a Recipe"),
    ],
)
def test_what_cannot_be_estimated_is_refused(as_users_do, shape, options, kind, message):
    with pytest.raises(kind, match=message):
        nst.estimate_memory(shape, **options)


# --- Available memory, and what fits into it ------------------------------------------------------


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose system and control group are files that the test writes."""
    monkeypatch.setattr(_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:    2000 kB\nHugePages: 0\n")
    return tmp_path


def test_the_system_says_what_is_available(machine):
    assert capacity.available() == 2000 * 1024


@pytest.mark.parametrize(
    ("limit", "expected"), [("1000000", 400000), ("max", 2048000), ("100000000", 2048000)]
)
def test_a_containers_limit_counts(machine, limit, expected):
    for name, text in (("max", limit), ("current", "900000"), ("stat", "inactive_file 300000")):
        (machine / f"memory.{name}").write_text(f"{text}\n")
    assert capacity.available() == expected


def test_an_older_containers_limit_counts(machine):
    (machine / "memory").mkdir()
    texts = {"limit_in_bytes": "1000", "usage_in_bytes": "900", "stat": "total_inactive_file 50"}
    for name, text in texts.items():
        (machine / "memory" / f"memory.{name}").write_text(text)
    assert capacity.available() == 150


@pytest.mark.parametrize(
    ("stats", "expected", "growing"),
    [({"bytes_limit": 100, "bytes_in_use": 30}, 70, 52), ({}, None, None), (None, None, None)],
)
def test_an_accelerator_knows_its_limit(stats, expected, growing, monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return stats

    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    assert capacity.available(Device()) == expected
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert capacity.available(Device()) == growing


def test_the_default_device_is_that_of_jaxs_setting():
    first, second = jax.local_devices()[:2]
    assert capacity.default_device() == first
    with jax.default_device(second):
        assert capacity.default_device() == second
        assert capacity.platform_of() == "cpu"
    with jax.default_device("cpu"):
        assert capacity.default_device() == first


def test_what_the_machine_does_not_say_holds_everything(monkeypatch, machine):
    (machine / "meminfo").unlink()
    monkeypatch.delattr(capacity.os, "sysconf")
    assert capacity.available() is None
    footprint = nst.estimate_memory((4096, 4096), platform="cpu")
    assert capacity.fits(footprint, None) and chunk_size.largest_chunk(lambda n: n, None, 3) is None


def test_as_many_fit_as_the_estimate_says():
    shape = (64, 64)

    def total(count):
        return nst.estimate_memory(shape, pictures=count, platform="cpu").total

    there = int(1.001 * capacity.MARGIN * total(5))
    assert chunk_size.largest_chunk(total, there, 9) == 5
    assert chunk_size.largest_chunk(total, there, 3) == 3
    assert chunk_size.largest_chunk(total, 10, 9) == 1  # less than one is no answer


@pytest.mark.parametrize(
    ("count", "most", "size"), [(8, 8, 8), (8, 5, 4), (9, 8, 5), (7, 6, 4), (7, 1, 1), (10, 3, 2)]
)
def test_chunks_are_equal_where_that_costs_little(count, most, size):
    assert chunk_size.even_chunk(count, most) == size


def test_the_largest_canvas_that_fits_fits_and_the_next_does_not():
    shape, there = (3000, 2000), 2 * 10**9
    scale = run_scales.Scale(shape, (shape,), 1)
    height, width = largest_that_fits(scale, recipes.DEFAULT, there, platform="cpu")
    assert abs(height / width - 1.5) < 0.01

    def fitting(shape):
        return capacity.fits(nst.estimate_memory(shape, platform="cpu"), there)

    assert fitting((height, width)) and not fitting((height + 2, width + 2))
    assert largest_that_fits(scale, recipes.DEFAULT, 1000, platform="cpu") is None


def test_this_machine_is_asked_where_it_can_answer():
    found = capacity.available()
    if Path("/proc/meminfo").exists():
        assert found is not None and found > 2**20


def test_fewer_bits_and_computing_again_take_less_on_an_accelerator():
    def activations(name, **network):
        recipe = at(name, recipes.TF, **network)
        # A small style, so that not measuring it but the loop decides.
        options = {"style_shapes": [(64, 64)], "platform": "gpu"}
        return nst.estimate_memory((512, 512), recipe=recipe, **options).activations

    # Half, except for the byte of each pooling window, which is the same at every precision.
    assert 0.5 < activations("bfloat16") / activations("float32") < 0.53
    assert activations("bfloat16", remat=True) < 0.85 * activations("bfloat16")


def test_a_style_that_fits_in_no_way_is_named_with_the_largest_that_would():
    scale = run_scales.Scale((64, 64), ((300, 300), (4000, 2000)), 1)
    options = {"memory": 300 * 10**6, "platform": "cpu"}
    with pytest.raises(
        ValueError, match="^`style_size`: measuring styles of 300x300 px, 2000"
    ) as why:
        plan_scales(recipes.GRAM, [scale], **options)
    longest = int(re.search(r"long:(\d+) fits", str(why.value))[1])
    assert 300 < longest < 4000
    for longer, fit in ((longest, True), (longest + 1, False)):
        shapes = ((300, 300), (longer, round(longer / 2)))
        recipe = replace(recipes.GRAM, network=replace(recipes.GRAM.network, tile=128))
        found = capacity.footprint_at(recipe, scale._replace(style_shapes=shapes), "cpu")
        assert capacity.fits(found, 300 * 10**6) is fit
    with pytest.raises(ValueError, match="^`size`: 64x64 px takes"):
        plan_scales(recipes.GRAM, [scale], memory=10**6, platform="cpu")


def test_too_many_regions_for_memory_are_named_first_with_the_most_that_would_fit():
    scale = run_scales.Scale((512, 512), ((64, 64),) * 13, 1, regions=13)

    def total(regions):
        recipe = replace(recipes.GRAM, network=replace(recipes.GRAM.network, tile=128))
        return capacity.footprint_at(recipe, scale._replace(regions=regions), "cpu")

    memory = int((total(5).total + total(6).total) / 2 * capacity.MARGIN)
    assert capacity.fits(total(5), memory) and not capacity.fits(total(6), memory)
    words = "^`regions`: 512x512 px with 12 regions takes .* is available; up to 4 regions fits"
    with pytest.raises(ValueError, match=words):
        plan_scales(recipes.GRAM, [scale], memory=memory, platform="cpu")
    # Where the size alone is too large, it is named first, with both sizes that fit.
    words = "^`size`: 512x512 px with 12 regions .*; up to (\\d+)x.* px fits, or (\\d+)x.* without"
    with pytest.raises(ValueError, match=words) as why:
        plan_scales(recipes.GRAM, [scale], memory=int(0.9 * total(1).total), platform="cpu")
    first, other = map(int, re.search(words[1:], str(why.value)).groups())
    assert 16 <= first < other < 512
