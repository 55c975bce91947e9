"""Write `scaling.md`: what a pixel costs, what devices exchange, and what that means for some machines.

    python -m docs.scaling_page

Everything is counted from shapes or read from records, nothing is run. `tests/test_scaling.py` compares
the page with this script, and the bytes that are counted here with those that compiled programs
exchange.
"""

import bisect
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax import optimizers, recipes, vgg
from nst_jax._types import Shape
from nst_jax.recipes import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling import capacity, chunk_size, tile_grid
from nst_jax.scaling.bands import bands_of
from nst_jax.scaling.footprint import estimate_memory
from nst_jax.scaling.layer_table import layers_of
from nst_jax.scaling.operations import run_operations, update_operations
from nst_jax.scaling.plan import plan_scales
from nst_jax.scaling.sharding import abstract_mesh
from nst_jax.scaling.tile_choice import history_of
from nst_jax.vgg import precision
from nst_jax.vgg.precision import Precision

HERE = Path(__file__).resolve().parent
PAGE, TEMPLATE = HERE / "scaling.md", HERE / "scaling.md.in"
RESULTS = HERE.parent / "benchmarks" / "results"
FLOAT32 = 4  # bytes
PIXEL = 3 * FLOAT32
# Messages that XLA's partitioner makes of each level, seen in compiled programs; and how many rows of
# the canvas they contain at most, for all levels together.
OF_LEVEL, ROWS_OF_LEVELS = 20, 64
LARGEST = 46336  # px a side: the pixels of a larger square overflow an int32
COUNTS, WIDE, SMALL = (1, 2, 4, 8, 16, 32, 64, 128, 256), 8192, 2048


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device as its maker describes it, in bytes and seconds, and how it is used here."""

    name: str
    peak: float  # operations per second
    memory: int  # bytes
    link: float  # bytes per second, one way, to a neighbour
    links: int  # of a device towards its neighbours in a ring
    switched: bool  # whether any two devices have a link of their own, or others between pass on
    precision: Precision
    platform: str


H100 = Device(
    name="H100 SXM, tensorfloat32",
    peak=495e12,
    memory=int(80e9),
    link=450e9,
    links=1,
    switched=True,
    precision=precision.TENSORFLOAT32,
    platform="gpu",
)
H100_BFLOAT16 = replace(H100, name="H100 SXM, bfloat16", peak=989e12, precision=precision.BFLOAT16)
V5E = Device(
    name="TPU v5e, bfloat16",
    peak=197e12,
    memory=int(16e9),
    link=50e9,
    links=2,
    switched=False,
    precision=precision.BFLOAT16,
    platform="tpu",
)
# All three are assumed; the page says why.
OF_PEAK, OF_LINK, LATENCY = 0.4, 0.8, 20e-6
PRICE = 2.0  # $ per device-hour: an example, nobody's offer


# --- Counts ---------------------------------------------------------------------------------------


def on(recipe: Recipe, device: Device) -> Recipe:
    """Return the recipe in a device's precision."""
    return replace(recipe, network=replace(recipe.network, precision=device.precision))


def cut(recipe: Recipe, shape: Shape, count: int) -> tile_grid.Grid:
    """Return how a canvas is cut for several devices."""
    bands = bands_of(abstract_mesh(count), shape, recipe.network)
    grid = tile_grid.grid_of(shape, recipe.terms.taps, recipe.network, bands)
    assert grid is not None
    return grid


def sent(grid: tile_grid.Grid) -> list[tuple[int, int]]:
    """Return (hop, rows) of each message of rows in a step, of the device that sends most.

    Pixels go out; their gradient goes back to where they came from.
    """
    assert grid.bands is not None
    band, count = grid.bands.band_height, grid.bands.count
    pixels = [
        (direction * hop, min(band, reach - (hop - 1) * band))
        for direction, reach in zip((1, -1), grid.reach, strict=True)
        for hop in range(1, -(-reach // band) + 1)
    ]
    both = [*pixels, *((-hop, rows) for hop, rows in pixels)]
    each = [[one for one in both if 0 <= device + one[0] < count] for device in range(count)]
    return max(each, key=lambda messages: sum(rows for _, rows in messages))


def halo_bytes(recipe: Recipe, shape: Shape, count: int) -> int:
    """Return the bytes of rows that a device sends in a step: pixels, and their gradient."""
    return sum(rows for _, rows in sent(cut(recipe, shape, count))) * shape[1] * PIXEL


def sums_bytes(recipe: Recipe) -> int:
    """Return the bytes of Gram matrices that a step sums over devices, forward and backward."""
    channels = [vgg.LAYERS[vgg.layer_of(tap)][1] for tap in recipe.terms.style_taps]
    return 2 * sum(c * c for c in channels) * FLOAT32


def pairs_of(recipe: Recipe) -> int:
    """Return how many pairs L-BFGS has; each needs two sums over devices, one after the other."""
    return history_of(recipe) or 0


def levels_of(recipe: Recipe) -> int:
    """Return the number of levels of the pyramid over which L-BFGS makes its first guess."""
    return getattr(recipe.descent.optimizer, "levels", 0)


def activations_bytes(recipe: Recipe, width: int, each: int = FLOAT32) -> int:
    """Return the bytes that a device would send if neighbours exchanged a row at each layer.

    A row of each convolution's input to both sides, and of the gradient of its output; one row of the
    picture for the variation, and of its gradient.
    """
    layers = layers_of((vgg.SMALLEST, width), recipe)
    trunk = sum(2 * one.width * (one.channels_in + one.channels) for one in layers)
    return each * trunk + 2 * width * PIXEL


def messages(recipe: Recipe) -> tuple[int, int]:
    """Return how many messages with rows a device sends in a step: of pixels, or at each layer."""
    return 4, 4 * len(layers_of((vgg.SMALLEST, vgg.SMALLEST), recipe)) + 2


def waits_of_lbfgs(recipe: Recipe) -> int:
    """Return how many messages L-BFGS waits for, if no two of them overlap."""
    pairs = pairs_of(recipe)
    return 2 * pairs + 3 + OF_LEVEL * levels_of(recipe) if pairs else 0


def per_pixel(recipe: Recipe) -> float:
    """Return the operations of an update for each pixel of a large canvas."""
    one, two = (update_operations((side, WIDE), recipe, "gpu") for side in (WIDE, 2 * WIDE))
    return (two - one) / WIDE**2


# --- Seconds --------------------------------------------------------------------------------------


@cache
def fitting(device: Device, count: int) -> Recipe:
    """Return `gram` in the form that fits on so many devices, for a canvas of `WIDE` px a side."""
    scale = Scale((WIDE, WIDE), ((1024, 1024),), 1)
    made = plan_scales(
        on(recipes.GRAM, device),
        [scale],
        mesh=abstract_mesh(count),
        memory=device.memory,
        platform=device.platform,
    )
    return made.recipe


def computing(recipe: Recipe, shape: Shape, device: Device, count: int) -> float:
    """Return the seconds of an update's arithmetic on each of several devices."""
    work = update_operations(shape, recipe, device.platform, devices=count)
    return work / (OF_PEAK * device.peak)


def exchanging(recipe: Recipe, shape: Shape, device: Device, count: int) -> float:
    """Return the seconds of a step's exchange, if nothing overlaps with it."""
    if count == 1:
        return 0.0
    grid = cut(recipe, shape, count)
    if device.switched:
        rows = sum(lines for _, lines in sent(grid))
    else:  # a link passes on what goes further; the two directions have one each
        rows = -(-sum(abs(hop) * lines for hop, lines in sent(grid)) // device.links)
    speed = OF_LINK * device.link
    halos = rows * shape[1] * PIXEL / speed
    around = 2 * (count - 1) / count * sums_bytes(recipe) / (device.links * speed)
    # One after the other: rows, sums, both for the gradient, then the optimiser's sums and levels.
    return halos + around + (4 + waits_of_lbfgs(recipe)) * LATENCY


def evaluations(shape: Shape, recipe: Recipe) -> list[Scale]:
    """Return a run's scales; each has one evaluation more, for measuring content and style."""
    plan = recipe.descent.plan(shape)
    return [Scale(canvas, (canvas,), steps + 1) for canvas, steps in plan]


# --- Write ----------------------------------------------------------------------------------------


def table(head: str, rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def number(value: float) -> str:
    """Return three digits of a number."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def per_cent(value: float) -> str:
    """Return a share in words."""
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def _cost_table() -> str:
    rows = []
    for name, recipe in (("gram", recipes.GRAM), ("tf", recipes.TF)):
        deepest = layers_of((WIDE, WIDE), recipe)[-1].name
        bytes_each = [
            estimate_memory((SMALL, SMALL), recipe=on(recipe, device), platform="gpu").per_pixel
            for device in (H100, H100_BFLOAT16)
        ]
        state = estimate_memory((SMALL, SMALL), recipe=recipe, platform="gpu").state
        rows.append(
            (
                f"`{name}`",
                deepest,
                vgg.halo_of(recipe.terms.taps),
                number(per_pixel(recipe) / 1e6),
                *map(number, bytes_each),
                number(state / SMALL**2),
            )
        )
    head = (
        "recipe | deepest layer | halo, px | operations per pixel and update, millions | bytes per "
        "pixel, float32 | the same, bfloat16 | of those in float32: canvas and optimiser"
    )
    return table(head, rows)


def _halo_table() -> str:
    rows, recipe = [], recipes.GRAM.replace(precision=precision.FLOAT32)
    for count in COUNTS[:7]:
        cells = [str(count)]
        for height in (WIDE, SMALL):
            shape = (height, WIDE)
            band, window = _own_and_computed(recipe, shape, count)
            taken = estimate_memory(shape, recipe=recipe, devices=count, platform="gpu").total
            cells += [f"{band} / {window}", number(window / band), number(taken / 1e9)]
        rows.append(cells)
    head = "devices"
    for height in (WIDE, SMALL):
        head += f" | {height} rows: own / computed | factor | GB per device"
    return table(head, rows)


def _own_and_computed(recipe: Recipe, shape: Shape, count: int) -> tuple[int, int]:
    if count == 1:
        return shape[0], shape[0]
    grid = cut(recipe, shape, count)
    assert grid.bands is not None
    return grid.bands.band_height, grid.down.window


def _bytes_table() -> str:
    rows = []
    for count in (4, 8, 64, 256):
        shape, recipe = (WIDE, WIDE), recipes.GRAM
        grid = cut(recipe, shape, count)
        rows.append(
            (
                count,
                _own_and_computed(recipe, shape, count)[0],
                f"{grid.reach[0]} + {grid.reach[1]}",
                number(halo_bytes(recipe, shape, count) / 1e6),
                number(sums_bytes(recipe) / 1e6),
                4 * (2 * pairs_of(recipe)),
            )
        )
    head = (
        "devices | own rows | rows sent down + up | pixels and gradient, MB | Gram matrices and their "
        "gradient, MB | L-BFGS' loops, bytes"
    )
    return table(head, rows)


def _either_table() -> str:
    shape, recipe = (WIDE, WIDE), recipes.GRAM
    ours, theirs = messages(recipe)
    halo = 2 * vgg.halo_of(recipe.terms.taps)
    rows = [
        (
            "rows of pixels (this project)",
            ours,
            number(halo_bytes(recipe, shape, 8) / 1e6),
            f"{halo} rows",
        ),
        (
            "a row at each layer, float32",
            theirs,
            number(activations_bytes(recipe, WIDE) / 1e6),
            "none",
        ),
        (
            "a row at each layer, bfloat16",
            theirs,
            number(activations_bytes(recipe, WIDE, 2) / 1e6),
            "none",
        ),
    ]
    return table("what neighbours exchange | messages sent | MB sent | computed twice", rows)


def break_even(device: Device) -> tuple[float, float]:
    """Return where both exchanges take as long: (bytes per second in one direction, width in px).

    The first if messages had no latency, the second if bytes took no time.
    """
    recipe = on(recipes.GRAM, device)
    each = recipe.network.precision_on(device.platform).activations_of(np.float32).itemsize
    more = activations_bytes(recipe, WIDE, each) - halo_bytes(recipe, (WIDE, WIDE), 8)
    halo = 2 * vgg.halo_of(recipe.terms.taps) * per_pixel(recipe)
    seconds = halo / (OF_PEAK * device.peak)  # for each px of width
    # To both sides at once: there and back, once or for each layer.
    layers = len(layers_of((vgg.SMALLEST, vgg.SMALLEST), recipe))
    return more / WIDE / seconds, (2 * layers - 2) * LATENCY / seconds


def efficiency(device: Device, count: int) -> float:
    """Return how well each of several devices is used, for one canvas of `WIDE` px a side.

    1 is one device with memory for the whole canvas, whose time is divided without loss.
    """
    recipe, shape = fitting(device, count), (WIDE, WIDE)
    whole = computing(on(recipes.GRAM, device), shape, device, 1)
    taken = computing(recipe, shape, device, count) + exchanging(recipe, shape, device, count)
    return whole / count / taken


def _paying(device: Device) -> int:
    """Return how many devices, a power of two from 16 on, are at most used at half or more."""
    return max(count for count in COUNTS[4:] if efficiency(device, count) >= 0.5)


def _seconds_table(device: Device, counts: Iterable[int]) -> str:
    shape, rows = (WIDE, WIDE), []
    for count in counts:
        recipe = fitting(device, count)
        busy = computing(recipe, shape, device, count)
        exchange = exchanging(recipe, shape, device, count)
        network = recipe.network
        form = [f"tiles of {network.tile}"] * bool(network.tile) + ["remat"] * network.remat
        rows.append(
            (
                count,
                ", ".join(form) or "whole",
                number(1e3 * busy),
                number(1e3 * exchange),
                per_cent(exchange / (busy + exchange)),
                per_cent(efficiency(device, count)),
            )
        )
    head = (
        "devices | how a band is computed | arithmetic, ms | exchange, ms | its share | efficiency"
    )
    return table(head, rows)


def _largest_table() -> str:
    rows = []
    for device, counts in ((H100, (1, 8)), (H100_BFLOAT16, (8,)), (V5E, (1, 16, 256))):
        for count in counts:
            cells = [device.name, str(count)]
            recipe = on(recipes.GRAM, device)
            for tile in (0, 512):
                network = replace(recipe.network, tile=tile, remat=tile > 0)
                side = _largest(replace(recipe, network=network), device, count)
                cells.append(f"{side:,}")
            rows.append(cells)
    return table("device | devices | side, px, bands whole | side, px, bands in tiles of 512", rows)


def _largest(recipe: Recipe, device: Device, count: int) -> int:
    """Return the largest side that fits, among those on the pooling grid: off it windows are longer."""
    step = 5 * vgg.SMALLEST

    def too_large(steps: int) -> bool:
        shape = (steps * step, steps * step)
        footprint = estimate_memory(
            shape,
            recipe=recipe,
            style_shapes=[(512, 512)],
            devices=count,
            platform=device.platform,
        )
        return not capacity.fits(footprint, device.memory)

    steps = range(LARGEST // step + 1)
    return step * (bisect.bisect_left(steps, True, lo=1, key=too_large) - 1)


def thousand(side: int, device: Device) -> float:
    """Return the device-hours of a thousand pictures by `gram`."""
    scales, recipe = evaluations((side, side), recipes.GRAM), on(recipes.GRAM, device)
    work = run_operations(scales, recipe, device.platform)
    return 1000 * work / (OF_PEAK * device.peak) / 3600


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _row(result: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    (row,) = (
        row for row in result["rows"] if all(row.get(key) == one for key, one in wanted.items())
    )
    found: dict[str, Any] = row
    return found


def thousand_on_cpu(side: int) -> float:
    """Return the hours of a thousand pictures on the machine of `step-cpu.json`, from its 512 px."""
    row = _row(_result("step-cpu"), recipe="gram (L-BFGS)", size=[512, 512])
    step = row["contestants"]["nst_jax"]["seconds_per_step"]["median"]
    scales = evaluations((side, side), recipes.GRAM)
    steps = run_operations(scales, recipes.GRAM, "cpu")
    seconds: float = step * steps / update_operations((512, 512), recipes.GRAM, "cpu")
    return 1000 * seconds / 3600


def _total_of_many(shape: Shape, device: Device, count: int) -> int:
    """Return the bytes of painting so many pictures at once with `gram`."""
    recipe = on(recipes.GRAM, device)
    return estimate_memory(shape, recipe=recipe, pictures=count, platform=device.platform).total


def _thousand_table() -> str:
    rows: list[tuple[Any, ...]] = []
    for device in (H100, H100_BFLOAT16, V5E):
        for side in (512, 1024):
            total = partial(_total_of_many, (side, side), device)
            hours = thousand(side, device)
            at_once = chunk_size.largest_chunk(total, device.memory, 1000)
            money = f"{number(hours)} P", f"{number(hours * PRICE)} $"
            rows.append((device.name, side, at_once, number(hours), *money))
    for side in (512, 1024):
        hours = thousand_on_cpu(side)
        name = "two CPU cores, float32, " + ("measured" if side == 512 else "extrapolated")
        rows.append((name, side, "-", number(hours), f"{number(hours)} P", "-"))
    head = (
        "device | side, px | pictures at once, at most | device-hours per thousand | cost at P $/h | "
        f"with P = {PRICE:g}"
    )
    return table(head, rows)


# --- Agreement ------------------------------------------------------------------------------------


WITHIN = 1e-3  # relative difference of losses, after all updates, up to which runs agree


def others_of(row: dict[str, Any]) -> dict[str, float]:
    """Return the largest differences that starts with other last bits make."""
    runs = [run for name, run in row["differences"].items() if name != "bucket"]
    return {key: max(run[key] for run in runs) for key in runs[0]}


def updates_rows() -> list[dict[str, Any]]:
    """Return the rows of the record on agreement that compare updates, one for each recipe."""
    rows = _result("agreement-cpu")["rows"]
    return [row for row in rows if row["what"] == "updates"]


def apart() -> list[dict[str, Any]]:
    """Return the rows of the recipes whose losses differ by more than `WITHIN` after all updates."""
    return [row for row in updates_rows() if row["differences"]["bucket"]["last_loss"] > WITHIN]


def _by_lbfgs(name: str) -> bool:
    optimizer = recipes.PRESETS[name].descent.optimizer
    return isinstance(optimizer, optimizers.LBFGS | optimizers.TorchLBFGS)


def _short(value: float) -> str:
    """Return two digits of a number, and those before the point up to 1000."""
    if 100 <= value < 1000:
        return f"{value:.0f}"
    return f"{value:.1e}" if 0 < value < 1e-3 or value >= 1e6 else f"{float(f'{value:.2g}'):g}"


def _agreement_table() -> str:
    keys = ("losses_of_few", "last_loss", "largest_of_losses")
    rows = []
    for row in updates_rows():
        found, others = row["differences"]["bucket"], others_of(row)
        levels = [_short(255 * one["pixels_after_few"]) for one in (found, others)]
        losses = [[_short(100 * one[key]) for one in (found, others)] for key in keys]
        cells = (f"{one} ({other})" for one, other in (levels, *losses))
        rows.append((f"`{row['recipe']}`", *cells))
    few, updates = updates_rows()[0]["updates"]
    head = (
        f"recipe | a pixel after {few} updates, of 255 levels | losses of {few} updates, % | "
        f"loss after {updates} updates, % | largest of the {updates}, %"
    )
    return table(head, rows)


def evaluation_rows() -> list[dict[str, Any]]:
    """Return the rows of the record on agreement that compare one evaluation in float64."""
    rows = _result("agreement-cpu")["rows"]
    return [row for row in rows if row["dtype"] == "float64"]


def _pixels(shape: list[int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _evaluation_table() -> str:
    keys = ("content", "style", "total", "gradient")
    rows = []
    for row in evaluation_rows():
        found, others = row["differences"]["bucket"], others_of(row)
        size, bucket = _pixels(row["size"]), _pixels(row["bucket"])
        kind = row["what"].rpartition(" ")[2]
        cells = (f"{_short(found[key])} ({_short(others[key])})" for key in keys)
        rows.append((size, bucket, kind, *cells))
    head = "picture, px | array, px | pictures | content loss | style loss | total | gradient"
    return table(head, rows)


def agreement_facts() -> dict[str, str]:
    """Return what the sentences on agreement say of the record."""
    rows, record = updates_rows(), _result("agreement-cpu")
    found = [row["differences"]["bucket"] for row in rows]
    few, updates = rows[0]["updates"]
    (size, bucket), far = (rows[0][key] for key in ("size", "bucket")), apart()
    others = [others_of(row) for row in rows]
    among = sum(1 for one in others if one["last_loss"] <= WITHIN)
    rates = [
        f"`{row['recipe']}` has the learning rate {row['changes']['learning_rate']:g} here, since with "
        "its own its losses are not finite at this size. "
        for row in rows
        if row["changes"]
    ]
    # (difference, quantity, picture, kind of picture)
    differences = [
        (one, key, row["size"], row["what"].rpartition(" ")[2])
        for row in evaluation_rows()
        for key, one in row["differences"]["bucket"].items()
    ]
    most, quantity, shape, kind = max(differences)
    return {
        "at_large": _short(max(one for one, _, of, _ in differences if of == size)),
        "at_most": _short(most),
        "most_of": f"{quantity} of {kind} at {_pixels(shape)} px",
        "agreement": _agreement_table(),
        "evaluations": _evaluation_table(),
        "agreement_commit": record["source"]["commit"][:7],
        "picture": _pixels(size),
        "array": _pixels(bucket),
        "few_updates": str(few),
        "all_updates": str(updates),
        "pixels_of_few": _short(
            255 * statistics.median_high(one["pixels_after_few"] for one in found)
        ),
        "few_of_others": per_cent(max(one["losses_of_few"] for one in others)),
        "losses_of_few": per_cent(max(one["losses_of_few"] for one in found)),
        "all_recipes": str(len(rows)),
        "agreeing": str(len(rows) - len(far)),
        "agreeing_others": str(among),
        "apart": ", ".join(f"`{row['recipe']}`" for row in far),
        "far": str(len(far)),
        "by_lbfgs": str(sum(_by_lbfgs(row["recipe"]) for row in far)),
        "within": per_cent(WITHIN),
        "rates": "".join(rates),
    }


def reached(recipe: Recipe, what: str) -> str:
    """Return which shares of its peak an H100 reached in bfloat16, at each size that was measured."""
    rows = [row for row in _result("gpu-nvidia-h100-80gb-hbm3")["rows"] if row["what"] == what]
    shares = []
    for row in rows:
        updates = 1e6 * row["megapixel_iterations_per_second"]["median"]  # of a pixel, per second
        share = updates * per_pixel(recipe) / H100_BFLOAT16.peak
        shares.append(f"{per_cent(share)} at {row['size'][1]} px")
    *first, last = shares
    return f"{', '.join(first)} and {last}" if first else last


def facts() -> dict[str, str]:
    """Return the numbers and tables that the template's sentences contain."""
    recipe = recipes.GRAM
    step, batch = _result("step-cpu"), _result("batch-cpu")
    many = _row(batch, recipe="tf (Adam)", size=[256, 256], verb="stylize_many", batch=8)
    halo = 2 * vgg.halo_of(recipe.terms.taps)
    (speed, width), (_, narrow) = break_even(H100), break_even(V5E)
    return {
        "halo": str(halo),
        "half": str(WIDE // halo),
        "few": str(SMALL // halo),
        "paying": str(_paying(V5E)),
        "tenth": str(10 * halo),
        "gram": number(sums_bytes(recipe) / 2e6),
        "speed": number(speed / 1e9),
        "width": number(width),
        "narrow": number(narrow),
        "commit": step["source"]["commit"][:7],
        "batch_commit": batch["source"]["commit"][:7],
        "gain": number(many["speed_against_one_by_one"]["median"]),
        "updates": str(recipe.descent.steps),
        "smallest": str(getattr(recipe.descent.schedule, "smallest", "")),
        "price": f"{PRICE:g}",
        "of_peak": per_cent(OF_PEAK),
        "reached_by_tf": reached(recipes.TF, "step, bfloat16"),
        "reached_by_gram": reached(recipe, "step of `gram`, bfloat16"),
        "of_link": per_cent(OF_LINK),
        "latency": number(LATENCY * 1e6),
        "pairs": str(pairs_of(recipe)),
        "waits": str(4 + waits_of_lbfgs(recipe)),
        "bound": number(1e3 * (4 + waits_of_lbfgs(recipe)) * LATENCY),
        "levels": str(levels_of(recipe)),
        "of_level": str(OF_LEVEL),
        "rows_of_levels": str(ROWS_OF_LEVELS),
        "cost": _cost_table(),
        "halos": _halo_table(),
        "bytes": _bytes_table(),
        "either": _either_table(),
        "h100": _seconds_table(H100, (1, 2, 4, 8)),
        "bf16": _seconds_table(H100_BFLOAT16, (1, 2, 4, 8)),
        "v5e": _seconds_table(V5E, (16, 32, 64, 128, 256)),
        "largest": _largest_table(),
        "thousand": _thousand_table(),
    } | agreement_facts()


def page() -> str:
    """Return the page as Markdown."""
    return TEMPLATE.read_text().format(**facts())


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
