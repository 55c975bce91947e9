"""Buckets chosen by cost, against the cheapest of all partitions of small lists."""

import json
import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nst_jax import recipes
from nst_jax.run_scales import Scale, scales_of
from nst_jax.scaling import bucket_choice
from nst_jax.scaling.bucket_choice import LOADING, Costs, KeptPrograms, chosen_buckets
from nst_jax.scaling.operations import run_operations, update_operations

FAST, SLOW = Costs(1.0, 1e-15), Costs(1.0, 1.0)  # of a device that computes fast, or slowly


def run(shape, steps=(3, 2), styles=((50, 40),)):
    """Return scales that end at a shape and begin at half of it."""
    half = max(16, shape[0] // 2), max(16, shape[1] // 2)
    return Scale(half, styles, steps[0]), Scale(shape, styles, steps[1])


def partitions(items):
    """Yield all ways to divide a list into sets."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for index, part in enumerate(rest):
            yield [*rest[:index], [items[0], *part], *rest[index + 1 :]]


def seconds_of(part, runs, costs, most):
    """Return what the runs of one bucket cost, computed without the code under test."""
    sides = np.array([[scale.shape for scale in runs[index]] for index in part])
    arrays = sides.max(axis=0)
    if len({tuple(map(tuple, one)) for one in sides}) > 1:
        arrays = -(-arrays // 16) * 16
    scales = [
        Scale(tuple(map(int, shape)), scale.style_shapes, scale.steps)
        for shape, scale in zip(arrays, runs[part[0]], strict=True)
    ]
    groups = -(-len(part) // most)
    sizes = {len(part) // groups, -(-len(part) // groups)}  # as evenly as possible
    # What an update costs besides its pixels is paid once for each group.
    one, two = (run_operations(scales, recipes.DEFAULT, "cpu", pictures=n) for n in (1, 2))
    operations = len(part) * (two - one) + groups * (2 * one - two)
    bucket = len({tuple(map(tuple, one)) for one in sides}) > 1
    compiling = (1.45 if bucket else 1.0) * costs.program * len(scales) * len(sizes)
    return compiling + costs.operation * operations


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.long if seed > 2 else ()) for seed in range(6)]
)
def test_the_choice_is_the_cheapest_partition(seed):
    drawn = np.random.default_rng(seed)
    sides = drawn.integers(32, 256, (5, 2))
    runs = [run(tuple(map(int, sides[index]))) for index in (0, 1, 2, 3, 4, 4)]
    # Compiling costs about as much as painting, so that neither alone decides.
    painting = run_operations(runs[0], recipes.DEFAULT, "cpu")
    costs, most = Costs(1.0, float(drawn.uniform(0.5, 8)) / painting), 3
    found = chosen_buckets(runs, recipes.DEFAULT, costs, "cpu", together=lambda shape: most)
    assert sorted(index for bucket in found for index in bucket.runs) == list(range(6))
    total = sum(seconds_of(bucket.runs, runs, costs, most) for bucket in found)
    least = min(
        sum(seconds_of(part, runs, costs, most) for part in parts)
        for parts in partitions(list(range(6)))
        if any({4, 5} <= set(part) for part in parts)  # runs of one shape stay together
    )
    assert total == pytest.approx(least)


def record(name):
    path = Path(bucket_choice.__file__).parents[2] / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text())["rows"]


def test_what_a_bucket_costs_is_that_of_the_record():
    rows = [row for row in record("buckets-cpu") if row["what"] == "step"]
    times = [row["time_of_bucket"]["median"] for row in rows]
    compiling = [
        row["compile_seconds"]["bucket"]["compile"] / row["compile_seconds"]["exact"]["compile"]
        for row in rows
    ]
    assert max(1, *times) == bucket_choice.TIME_IN_BUCKET  # none was slower
    assert (
        pytest.approx(statistics.median(compiling), abs=5e-3) == bucket_choice.COMPILING_OF_BUCKET
    )


@pytest.mark.parametrize("name", ["gram (L-BFGS)", "tf (Adam)"])
def test_four_times_the_pixels_take_as_many_times_longer_as_in_the_record(name):
    """On a CPU: the ratio of steps at 512 and 256 px lies between those of the recorded rounds."""
    rounds = {
        row["size"][0]: row["contestants"]["nst_jax"]["seconds_per_step"]["samples"]
        for row in record("step-cpu")
        if row["recipe"] == name
    }
    recipe = recipes.named(name.split()[0])
    small, large = (update_operations((n, n), recipe, "cpu") for n in (256, 512))
    least, most = min(rounds[512]) / max(rounds[256]), max(rounds[512]) / min(rounds[256])
    assert least < large / small < most


@pytest.mark.parametrize(
    ("side", "steps", "together"), [(128, 30, True), (512, 30, False), (512, 300, False)]
)
def test_padding_decides_at_the_sizes_of_a_cpu(side, steps, together):
    """Pictures of half their square: at 128 px they share it, at 512 px the padding takes longer."""
    recipe = recipes.GRAM.replace(size=side, steps=steps)
    runs = [scales_of(shape, [(600, 800)], recipe) for shape in ((800, 400), (400, 800))]
    costs = bucket_choice.typical_costs("cpu")
    assert len(chosen_buckets(runs, recipe, costs, "cpu")) == (1 if together else 2)


def test_the_random_lists_have_choices_of_all_kinds():
    """Without this, a function that always does the same could pass the test above."""
    counts = set()
    for seed in range(6):
        drawn = np.random.default_rng(seed)
        sides = drawn.integers(32, 256, (5, 2))
        runs = [run(tuple(map(int, side))) for side in sides]
        painting = run_operations(runs[0], recipes.DEFAULT, "cpu")
        costs = Costs(1.0, float(drawn.uniform(0.5, 8)) / painting)
        counts.add(len(chosen_buckets(runs, recipes.DEFAULT, costs, "cpu")))
    assert len(counts) > 1 and max(counts) > 1


def test_one_shape_fills_its_arrays_at_any_cost():
    for costs in (FAST, SLOW):
        (bucket,) = chosen_buckets([run((33, 47))] * 3, recipes.DEFAULT, costs, "cpu")
        assert bucket.exact and bucket.runs == (0, 1, 2)
        assert [scale.shape for scale in bucket.scales] == [(16, 23), (33, 47)]


def test_what_is_cheap_decides():
    runs = [run((33, 47)), run((47, 33)), run((40, 40), styles=((70, 20),))]
    (together,) = chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu")
    assert not together.exact and together.runs == (0, 1, 2)
    assert [scale.shape for scale in together.scales] == [(32, 32), (48, 48)]
    assert together.scales[-1].style_shapes == ((80, 48),)  # of 70 x 40 px, the largest sides
    # Of such small pictures, an update costs hardly more in a larger array; of these it does.
    larger = [run((133, 190)), run((190, 133)), run((160, 160))]
    apart = chosen_buckets(larger, recipes.DEFAULT, SLOW, "cpu")
    assert [(bucket.runs, bucket.exact) for bucket in apart] == [
        (_, True) for _ in ((0,), (1,), (2,))
    ]


def test_other_numbers_of_updates_are_other_buckets():
    runs = [run((33, 47)), run((47, 33), steps=(3, 3)), run((40, 40)), run((50, 50))[1:]]
    found = chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu")
    assert [bucket.runs for bucket in found] == [(0, 2), (1,), (3,)]


def test_arrays_that_do_not_fit_into_memory_are_not_chosen():
    runs = [run((32, 96)), run((96, 32)), run((32, 80))]
    found = chosen_buckets(
        runs, recipes.DEFAULT, FAST, "cpu", fits=lambda arrays: max(arrays[-1].shape) < 96
    )
    assert all(bucket.exact for bucket in found) and len(found) == 3


def test_kept_programs_cost_only_their_loading():
    runs = [run((33, 47)), run((47, 33)), run((40, 40))]
    (together,) = chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu")
    kept = [KeptPrograms(scales, 1, exact=True) for scales in runs]
    # Three programs for each scale are loaded, which take less time than one to compile.
    assert 3 * LOADING < 1
    apart = chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu", kept=kept)
    assert [(one.runs, one.exact, one.scales[-1].shape) for one in apart] == [
        ((0,), True, (33, 47)),
        ((1,), True, (47, 33)),
        ((2,), True, (40, 40)),
    ]
    # Two of three are not enough: the third would have to be compiled.
    (mixed, alone) = chosen_buckets(
        runs,
        recipes.DEFAULT,
        FAST,
        "cpu",
        kept=[*kept[:1], KeptPrograms(together.scales, 2, False)],
    )
    assert (mixed.exact, alone.exact) in {(True, False), (False, True)}
    # The same programs for another number of pictures at once are others.
    others = [one._replace(pictures=2) for one in kept]
    assert chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu", kept=others) == [together]
    # A device that computes slowly takes no padding, whatever is kept.
    larger = [run((133, 190)), run((190, 133)), run((160, 160))]
    (together,) = chosen_buckets(larger, recipes.DEFAULT, FAST, "cpu")
    bucket = KeptPrograms(together.scales, 3, exact=False)
    slow = chosen_buckets(larger, recipes.DEFAULT, SLOW, "cpu", kept=[bucket])
    assert all(one.exact for one in slow) and len(slow) == 3


def test_a_kept_bucket_holds_smaller_pictures():
    large = run((64, 80), steps=(9, 9), styles=((80, 64),))
    kept = [KeptPrograms(large, count, exact=False) for count in (1, 2)] + [
        KeptPrograms(run((48, 32)), 2, exact=False)
    ]
    runs = [run((33, 47)), run((40, 40))]
    for given in (kept, kept[::-1]):  # in any order
        (found,) = chosen_buckets(runs, recipes.DEFAULT, FAST, "cpu", kept=given)
        assert not found.exact and found.runs == (0, 1)
        assert [scale.shape for scale in found.scales] == [scale.shape for scale in large]
        assert [scale.steps for scale in found.scales] == [3, 2]
        assert found.scales[-1].style_shapes == ((80, 64),)
    (alone,) = chosen_buckets(runs[:1], recipes.DEFAULT, FAST, "cpu", kept=kept)
    assert not alone.exact and alone.scales == found.scales
    # It holds no picture that is wider, has a larger style or other scales, or that has no memory.
    for other in (run((33, 81)), run((33, 47), styles=((81, 20),)), run((33, 47))[1:]):
        (own,) = chosen_buckets([other], recipes.DEFAULT, FAST, "cpu", kept=kept)
        assert own.exact and own.scales == other
    (own,) = chosen_buckets(
        runs[:1], recipes.DEFAULT, FAST, "cpu", kept=kept, fits=lambda arrays: False
    )
    assert own.exact


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(4)]
)
def test_the_choice_among_kept_programs_is_the_cheapest(seed):
    """The seconds of the choice are those of the best partition, each part in its best arrays."""
    drawn = np.random.default_rng(seed)
    runs = [run(tuple(map(int, drawn.integers(24, 64, 2)))) for _ in range(5)]
    rooms = [run(shape, styles=((64, 64),)) for shape in ((64, 64), (48, 64))]
    kept = [KeptPrograms(room, count, exact=False) for room in rooms for count in (2, 3, 5)]
    kept += [KeptPrograms(runs[index], 1, exact=True) for index in (0, 2)]

    def seconds(part):
        sides = np.array([[scale.shape for scale in runs[index]] for index in part]).max(axis=0)
        sides = -(-sides // 16) * 16 if len(part) > 1 else sides
        found = [(sides, len(part) == 1, part in ([0], [2]))]
        for room in rooms:
            larger = np.array([scale.shape for scale in room])
            if np.all(larger >= sides):
                found.append((larger, False, len(part) in (2, 3, 5)))
        times = []
        for arrays, exact, loaded in found:
            shapes = [tuple(map(int, shape)) for shape in arrays]
            scales = [Scale(a, (), one.steps) for a, one in zip(shapes, runs[0], strict=True)]
            work = run_operations(scales, recipes.DEFAULT, "cpu", pictures=len(part))
            programs = 2 * (LOADING if loaded else 1.0)
            times.append(programs + 3e-10 * work if exact else 1.45 * programs + 3e-10 * work)
        return min(times)

    found = chosen_buckets(runs, recipes.DEFAULT, Costs(1.0, 3e-10), "cpu", kept=kept)
    best = min(sum(map(seconds, parts)) for parts in partitions(list(range(5))))
    assert sum(seconds(list(one.runs)) for one in found) == pytest.approx(best)


def test_of_many_shapes_the_most_worthwhile_pairs_share_a_bucket():
    shapes = [(256, 100 + index) for index in range(15)] + [
        (100 + index, 256) for index in range(15)
    ]
    runs = [run(shape) for shape in shapes]
    assert len(runs) > bucket_choice.MOST_COMPARED
    tall, wide = chosen_buckets(runs, recipes.DEFAULT, Costs(1.0, 1e-12), "cpu")
    assert (tall.runs, wide.runs) == (tuple(range(15)), tuple(range(15, 30)))
    assert (tall.scales[-1].shape, wide.scales[-1].shape) == ((256, 128), (128, 256))
    apart = chosen_buckets(runs, recipes.DEFAULT, SLOW, "cpu")
    assert len(apart) == 30 and all(one.runs[0] < other.runs[0] for one, other in pairwise(apart))


def test_twelve_shapes_of_photographs_need_few_programs():
    ratios = (1, 4 / 3, 3 / 2, 16 / 9, 5 / 4, 8 / 5)
    sides = [(1200, round(1200 / ratio)) for ratio in ratios]
    sides += [(width, height) for height, width in sides[1:]] + [(1200, 700)]
    recipe = recipes.DEFAULT.replace(size=256, steps=30)
    runs = [scales_of(shape, [(600, 800)], recipe) for shape in sides] * 2
    assert len({scales[-1].shape for scales in runs}) == 12
    for platform, most in (("cpu", 5), ("gpu", 1)):
        costs = bucket_choice.typical_costs(platform)
        found = chosen_buckets(runs, recipe, costs, platform, together=lambda shape: 8)
        assert 1 <= len(found) <= most
        parts = [bucket.runs for bucket in found]
        chosen, exact, one = (
            sum(seconds_of(part, runs, costs, 8) for part in some)
            for some in (parts, [(index, index + 12) for index in range(12)], [tuple(range(24))])
        )
        assert chosen < exact and chosen <= one


def test_a_square_for_feed_forward_networks_is_chosen_by_its_cost():
    """By hand: two shapes take 2 programs, or 1.45 programs and the pixels of squares."""
    wide, tall = (64, 128), (128, 64)
    pixels = 2 * 128**2 - 2 * 64 * 128  # what the square adds, in pixels
    program = pixels / (
        2 - 1.45
    )  # seconds of compiling that this is worth, at a second for a pixel
    for factor, expected in ((1.01, 128), (0.99, None)):
        costs = bucket_choice.PassCosts(factor * program, 1.0)
        found = bucket_choice.cheapest_square([(0, wide), (0, tall)], "cpu", costs=costs)
        assert found == expected
    # Two networks need a program each, with and without the square, so that nothing is saved.
    costs = bucket_choice.PassCosts(1e9, 1.0)
    assert bucket_choice.cheapest_square([(0, wide), (1, tall)], "cpu", costs=costs) is None
    assert bucket_choice.cheapest_square([(0, wide)] * 9, "cpu", costs=costs) is None
    refused = bucket_choice.cheapest_square(
        [(0, wide), (0, tall)], "cpu", costs=costs, fits=lambda side: side < 128
    )
    assert refused is None
