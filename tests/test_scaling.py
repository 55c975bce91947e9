"""The page `docs/scaling.md`: its script writes it, and its bytes are those of compiled programs."""

import json
import math
import re
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import nst_jax as nst
from docs import scaling_page as page
from nst_jax import recipes, vgg
from nst_jax.scaling import sharding
from nst_jax.scaling.bands import bands_of
from nst_jax.scaling.operations import fixed_pixels, update_operations
from tests import small
from tests.test_sharding import simulated

pytestmark = pytest.mark.optimized

SHAPE = (131, 53)  # odd, both
# The most bytes of scalars that a step sums outside L-BFGS' loops: losses, dot products, maxima.
LITTLE = 120
SIZES = {"f32": 4, "pred": 1}


class Talk(NamedTuple):
    """One collective of a compiled program."""

    kind: str
    sizes: list[tuple[int, int]]  # of its arrays: (rank, bytes)
    pairs: list[tuple[int, int]]  # from device, to device
    looped: bool


def talk_of(text):
    """Return the collectives of a program."""
    found = []
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    for line in text.splitlines():
        match = re.search(rf"= (.*?) ({kinds})(?:-start)?\(", line)
        if match:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            sides = [(kind, [int(n) for n in shape.split(",") if n]) for kind, shape in arrays]
            sizes = [(len(shape), SIZES[kind] * math.prod(shape)) for kind, shape in sides]
            (pairs,) = re.findall(r"source_target_pairs=\{(\{.*?\})\}", line) or [""]
            ends = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs)]
            found.append(Talk(match[2], sizes, ends, "while/body" in line))
    return found


def rows_sent(talk, devices):
    """Return the bytes that the device which sends most sends to its neighbours."""
    each = [0] * devices
    for one in talk:
        for device, _ in one.pairs:
            each[device] += sum(size for _, size in one.sizes)
    return max(each)


def summed(talk, *, arrays, looped=False):
    """Return the bytes that are summed over devices, of arrays or of scalars."""
    return sum(
        size
        for one in talk
        if one.kind == "all-reduce" and one.looped == looped
        for rank, size in one.sizes
        if (rank > 0) == arrays
    )


def with_levels(recipe, levels):
    """Return the recipe with so many levels, if its optimiser has any."""
    rule = recipe.descent.optimizer
    if not hasattr(rule, "levels"):
        return recipe
    return replace(recipe, descent=replace(recipe.descent, optimizer=replace(rule, levels=levels)))


def prepared(recipe, **fields):
    """Return a recipe of numbers as arrays, without levels, with these fields of its network."""
    recipe = recipes.as_arrays(with_levels(recipe, 0).bare())
    return replace(recipe, network=replace(recipe.network, **fields))


def compiled_step(params, recipe, shape=SHAPE, devices=2):
    """Return the text of a compiled step on a canvas in bands over the first devices."""
    mesh = sharding.mesh_of(devices, axis=sharding.BANDS)
    bands = bands_of(mesh, shape, recipe.network)
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)

    def placed(x, axis=None):
        spec = P() if axis is None else P(*[None] * axis, sharding.BANDS)
        at = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=at)

    def canvas(x):
        whole = x.ndim < 3 or x.shape[-3] != bands.padded_height
        return placed(x, None if whole else x.ndim - 3)

    state = jax.eval_shape(partial(nst.init, bands=bands), picture, recipe)
    measure = partial(nst.measure, bands=bands)
    targets = jax.eval_shape(measure, params, picture, picture, recipe)
    targets = jax.tree.map(lambda x: placed(x, 0 if x.ndim == 3 else None), targets)
    params, recipe = jax.tree.map(placed, (params, recipe))
    step = jax.jit(partial(nst.step, bands=bands))
    return step.lower(params, jax.tree.map(canvas, state), targets, recipe).compile().as_text()


def check_step(params, recipe, shape=SHAPE, devices=2):
    """Compare what a step exchanges with what the page counts."""
    talk = talk_of(compiled_step(params, recipe, shape, devices))
    pairs = page.pairs_of(recipe)
    assert {one.kind for one in talk} == {"all-reduce", "collective-permute"}
    assert rows_sent(talk, devices) == page.halo_bytes(recipe, shape, devices) > 0
    assert summed(talk, arrays=True) == page.sums_bytes(recipe)
    assert 0 < summed(talk, arrays=False) < LITTLE
    # Two loops over the pairs, each with one dot product per iteration.
    assert summed(talk, arrays=False, looped=True) == (2 * 4 if pairs else 0)
    assert summed(talk, arrays=True, looped=True) == 0


# --- The page `docs/scaling.md` -------------------------------------------------------------------


def test_the_page_is_what_its_script_writes():
    assert page.PAGE.read_text() == page.page()


def test_the_page_compares_the_assumed_share_of_the_peak_with_an_h100():
    text = page.PAGE.read_text()
    # Millions of operations per pixel and update, as the page has them, and seconds of an update, as
    # docs/speed.md has them.
    for side, operations, seconds in (
        (512, 1.55e6, 1.42e-3),
        (1024, 1.55e6, 4.04e-3),
        (2048, 1.55e6, 14.7e-3),
        (512, 1.51e6, 2.17e-3),
    ):
        share = 100 * side**2 * operations / seconds / 989e12
        told = map(int, re.findall(rf"(\d+) % at {side} px", text))
        assert min(abs(one - share) for one in told) < 0.6


def test_the_page_says_how_closely_runs_in_a_larger_array_agree():
    record = json.loads((page.RESULTS / "agreement-cpu.json").read_text("utf-8"))
    updates = {row["recipe"]: row for row in record["rows"] if row["what"] == "updates"}
    assert list(updates) == [n for n, one in recipes.PRESETS.items() if one.terms.additive]
    _, _, text = page.PAGE.read_text("utf-8").partition("## Runs in a larger array")
    apart = []
    for name, row in updates.items():
        bucket, *others = row["differences"].values()
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        told = [
            [float(n) for n in re.findall(r"[\d.e+-]+", cell)] for cell in line.split("|")[2:-1]
        ]
        keys = ("pixels_after_few", "losses_of_few", "last_loss", "largest_of_losses")
        for key, scale, cell in zip(keys, (255, 100, 100, 100), told, strict=True):
            wanted = [scale * bucket[key], scale * max(other[key] for other in others)]
            assert cell == pytest.approx(wanted, rel=0.05), (name, key)
        if bucket["last_loss"] > 1e-3:
            apart.append(name)
    words = " ".join(text.split())
    assert f"{len(updates) - len(apart)} of {len(updates)} recipes agree within 0.1 %" in words
    named = words.partition("differ by more for ")[2].partition(". ")[0]
    assert re.findall(r"`([\w-]+)`", named) == apart


def test_halos_are_what_is_computed_twice():
    halo = vgg.halo_of(recipes.GRAM.terms.taps)
    whole = update_operations((4096, 1024), recipes.GRAM, "gpu")
    for count in (2, 8, 16):
        each = update_operations((4096, 1024), recipes.GRAM, "gpu", devices=count)
        factor = count * each / whole
        sides = 1 if count == 2 else 2  # of two devices each has the halo on one side
        fixed = fixed_pixels("gpu") / 1024  # as rows
        computed = 4096 + sides * halo * count
        assert factor == pytest.approx((computed + fixed * count) / (4096 + fixed))


def test_a_run_has_the_updates_of_its_recipe_and_one_more_for_each_scale():
    scales = page.evaluations((512, 512), recipes.GRAM)
    assert sum(scale.steps for scale in scales) == recipes.GRAM.descent.steps + len(scales)


def test_where_both_exchanges_take_as_long():
    """By hand: what is computed twice takes as long as what is sent additionally."""
    speed, width = page.break_even(page.H100)
    recipe = page.on(recipes.GRAM, page.H100)
    halo = 2 * 80 * page.per_pixel(recipe) / (0.4 * 495e12)
    assert width * halo == pytest.approx((2 * 13 - 2) * page.LATENCY)
    assert speed * halo == pytest.approx(4 * (2 * 643 + 2 * 800) + 24 - 2 * 320 * 12)


@pytest.mark.parametrize("name", ["default", "coursera-tf2", "udacity", "gatys-2015", "keras-io"])
def test_counts_of_a_large_canvas_are_no_int32(name, params):
    recipe = prepared(recipes.named(name), tile=512)
    picture, style = (jax.ShapeDtypeStruct((n, n, 3), jnp.float32) for n in (32768, 64))
    targets = jax.eval_shape(nst.measure, params, picture, style, recipe)
    losses = jax.eval_shape(nst.losses_of, params, picture, targets, recipe)
    assert losses.total.shape == ()


# --- Counts compared with compiled programs -------------------------------------------------------


@pytest.mark.parametrize("recipe", [recipes.TF, recipes.GRAM], ids=["adam", "l-bfgs"])
def test_a_step_exchanges_what_the_page_counts(recipe, params):
    check_step(params, prepared(small.shallow(recipe)))


@pytest.mark.long
def test_a_step_of_four_devices_exchanges_what_the_page_counts():
    simulated("""
from nst_jax import recipes
from nst_jax.vgg import precision
from tests import test_scaling as t
shape = (203, 40)
for recipe in (small.shallow(), small.shallow(recipes.TF), small.shallow(recipes.GATYS_PYTORCH)):
    recipe = t.prepared(recipe)
    assert max(t.page.cut(recipe, shape, 4).reach) > 64
    t.check_step(params, recipe, shape, 4)
for fields in ({"tile": 32}, {"precision": precision.BFLOAT16, "remat": True}):
    t.check_step(params, t.prepared(small.shallow(recipes.TF), **fields), (259, 90), 4)
""")


@pytest.mark.long
def test_levels_send_no_more_rows_than_the_page_says():
    simulated("""
from tests import test_scaling as t
shape, levels = (1024, 48), t.page.levels_of(nst.recipes.GRAM)
plain = t.prepared(small.shallow())
talk = [
    t.talk_of(t.compiled_step(params, recipe, shape, 4))
    for recipe in (plain, t.with_levels(plain, levels))
]
assert {one.kind for one in talk[1]} == {"all-reduce", "collective-permute"}
without, there = ([one for one in each if one.pairs] for each in talk)
assert 0 < len(there) - len(without) <= t.page.OF_LEVEL * levels
sent = [sum(size for one in talk for _, size in one.sizes) for talk in (without, there)]
assert 0 < sent[1] - sent[0] < t.page.ROWS_OF_LEVELS * shape[1] * t.page.PIXEL
""")


@pytest.mark.long
def test_a_step_with_all_taps_exchanges_what_the_page_counts(params):
    check_step(params, prepared(recipes.GRAM), (411, 48))


@pytest.mark.long
def test_batches_exchange_nothing_and_with_bands_that_of_each_picture():
    simulated("""
from tests import test_scaling as t
recipe = t.with_levels(small.shallow(steps=1), 0)
calls, run = [], batch_canvas.PROGRAMS.run

def spied(*given, **static):
    talk = t.talk_of(run.lower(*given, **static).compile().as_text())
    calls.append(((*given, static["bands"]), talk))
    return run(*given, **static)

batch_canvas.PROGRAMS = batch_canvas.PROGRAMS._replace(run=spied)
nst.stylize_many(params, contents, style, recipe=recipe, devices="all")
nst.stylize_many(params, contents, style, recipe=recipe, devices="all", bands=2)
assert all(talk == [] for given, talk in calls if given[5] is None)
given, talk = calls[-1]
recipe, bands, pictures = given[3], given[5], given[1].canvas.shape[0] // 2  # of two groups
shape = bands.height, given[1].canvas.shape[-2]
assert {one.kind for one in talk} == {"all-reduce", "collective-permute"}
assert t.rows_sent(talk, 4) == pictures * t.page.halo_bytes(recipe, shape, bands.count)
for one in talk:
    assert all(a // 2 == b // 2 for a, b in one.pairs)
matrices = sum(s for one in talk for rank, s in one.sizes if rank == 3 and one.kind == "all-reduce")
assert matrices == pictures * t.page.sums_bytes(recipe)
""")


@pytest.mark.long
def test_xlas_partitioner_exchanges_a_row_at_each_layer():
    """What the page compares with: a whole picture in bands, partitioned by the compiler."""
    simulated("""
from nst_jax import recipes
from tests import test_scaling as t
recipe = recipes.as_arrays(small.shallow(recipes.TF).bare())
shape, mesh = (256, 40), sharding.mesh_of("all", axis=sharding.BANDS)
def placed(x, split):
    at = t.NamedSharding(mesh, t.P(sharding.BANDS) if split else t.P())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
picture = placed(jax.ShapeDtypeStruct((*shape, 3), jnp.float32), True)
targets = jax.eval_shape(nst.measure, params, picture, picture, recipe)
targets = jax.tree.map(lambda x: placed(x, x.ndim == 3), targets)
loss = lambda image, params, targets: nst.losses_of(params, image, targets, recipe).total
given = (picture, jax.tree.map(lambda x: placed(x, False), params), targets)
talk = t.talk_of(jax.jit(jax.value_and_grad(loss)).lower(*given).compile().as_text())
assert t.rows_sent(talk, 4) == t.page.activations_bytes(recipe, shape[1])
assert sum(bool(one.pairs) for one in talk) == t.page.messages(recipe)[1]
assert t.summed(talk, arrays=True) == t.page.sums_bytes(recipe) / 2
""")
