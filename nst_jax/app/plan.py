"""How fast runs were on this machine, kept beside the compiled programs: operations per second.

What a device's maker promises says little of a run, so nothing is foretold before one was timed.
"""

import json
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _files, prepare, provenance
from nst_jax._types import Shape
from nst_jax.app import programs
from nst_jax.app.timing import Timed
from nst_jax.app.wording import amount, duration
from nst_jax.prepare import Scale
from nst_jax.recipes import changes
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import capacity, chunks, costs, layout, sharding
from nst_jax.scaling.capacity import Fit

RATES_FILE = "rates.json"

# The median of a few: one run beside other work misleads nobody. Of the last few: a new driver or
# version shows.
MOST_RATES = 9

LEAST_TIMED_SECONDS = 1.0  # of updates: less than that is mostly what costs the same at any size


class Rate(NamedTuple):
    """How fast runs like this one were."""

    operations: float  # per second, as `operations.of_update` counts them
    runs: int  # whose median that is


def known_rate(recipe: Recipe) -> Rate | None:
    """Return how fast runs of this precision were on this machine's device; None if none was timed."""
    found = _read_rates().get(_rate_key(recipe), [])
    return Rate(statistics.median(found), len(found)) if found else None


def record_rate(recipe: Recipe, timed: Timed) -> None:
    """Keep how fast a run was; where that cannot be written, the next one may.

    Args:
      recipe: of the run.
      timed: its updates without compilation. Less than `LEAST_SECONDS` of them are not kept.
    """
    path = _rates_file()
    if path is None or timed.seconds < LEAST_TIMED_SECONDS or not timed.cost:
        return
    rates, key = _read_rates(), _rate_key(recipe)
    rates[key] = [*rates.get(key, []), timed.cost / timed.seconds][-MOST_RATES:]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.atomic(path) as part:
            part.write_text(json.dumps(rates, indent=1), "utf-8")


def rates_are_kept() -> bool:
    """Say whether runs are recorded at all: not, where nothing is kept between starts."""
    return _rates_file() is not None


def _rate_key(recipe: Recipe) -> str:
    """Return what decides on a rate. A home may be shared by machines, all "cpu"."""
    device = provenance.device()
    words = [platform.node(), device["platform"], device["kind"], recipe.network.precision.name]
    if recipe.rows is not None:  # operations are those of each, and some time goes to talking
        words.append(f"{recipe.rows.count} devices")
    return ", ".join(words)


def _rates_file() -> Path | None:
    folder = programs.programs_folder()
    return None if folder is None else folder / RATES_FILE


def _read_rates() -> dict[str, list[float]]:
    """Return every rate that is kept and is one; a file that is none has none."""
    path = _rates_file()
    try:
        found = {} if path is None else json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: list(filter(_is_rate, rates)) for key, rates in found.items() if _is_list(rates)}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < float("inf")


UNKNOWN = "not known yet on this device; a run of some seconds records it"

PARTS = ("weights", "activations", "targets", "state")  # as a `Footprint` has them


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will take.

    Attributes:
      fit: how it is brought into memory, and what it takes there at the final scale.
      scales: coarse to fine.
      device: platform and kind.
      operations: of all updates.
      rate: how fast runs were on this device, or None if none was timed.
    """

    fit: Fit
    scales: tuple[Scale, ...]
    device: dict[str, str]
    operations: float
    rate: Rate | None

    @property
    def updates(self) -> int:
        """The number of updates in all."""
        return sum(scale.steps for scale in self.scales)

    @property
    def devices(self) -> int:
        """How many share the rows; memory and operations are those of each."""
        rows = self.fit.recipe.rows
        return 1 if rows is None else rows.count

    @property
    def seconds(self) -> float | None:
        """How long the updates take, without compiling; None where nothing was timed."""
        return None if self.rate is None else self.operations / self.rate.operations

    @property
    def picked(self) -> list[str]:
        """What saves memory, in words."""
        last = self.scales[-1]
        return capacity.picked(self.fit, [last.shape, *last.style_shapes])


def plan_of_fit(fit: Fit, scales: Sequence[Scale]) -> Plan:
    """Return the plan of a run on this device."""
    device = provenance.device()
    work = costs.run_operations(scales, fit.recipe, device["platform"])
    return Plan(
        fit=fit, scales=tuple(scales), device=device, operations=work, rate=known_rate(fit.recipe)
    )


def plan_elsewhere(fit: Fit, scales: Sequence[Scale], platform: str) -> Plan:
    """Return the plan of a run on another kind of device, of which nobody here knows how fast it is."""
    work = costs.run_operations(scales, fit.recipe, platform)
    device = {"platform": platform, "kind": platform}
    return Plan(fit=fit, scales=tuple(scales), device=device, operations=work, rate=None)


def scales_of(
    recipe: Recipe, content: Shape | None, styles: Sequence[Shape], canvas: Shape | None
) -> tuple[Scale, ...]:
    """Return the scales of a run on pictures of these sizes, or on a canvas of this one.

    Args:
      recipe: with every flag in it.
      content: (height, width) of the picture, or None.
      styles: of each style.
      canvas: of the result, in the place of pictures; one style as large is taken along.

    Raises:
      ValueError: if a picture is, or would be, under 16 px on a side.
    """
    if content is not None:
        return prepare.scales_of(content, styles, recipe)
    assert canvas is not None
    return prepare.scales_of(canvas, [canvas], changes.with_sizes(recipe, "as-is", "as-is"))


def plan(
    recipe: Recipe,
    scales: Sequence[Scale],
    *,
    memory: int | None = None,
    platform: str | None = None,
) -> Plan:
    """Plan a run as the command line would carry it out.

    Args:
      recipe: with every flag in it, and its rows laid out.
      scales: from `scales_of`.
      memory: bytes there are, of a processor for all devices together; None is what there is here.
      platform: "cpu", "gpu" or "tpu"; None is this machine's. Of another one the memory is unknown.

    Returns:
      The plan.

    Raises:
      ValueError: if memory holds it in no way, in the words of the run.
    """
    here = provenance.device()["platform"]
    kind = platform or here
    there = memory if memory is not None or kind != here else capacity.available()
    counted = kind if kind != here else capacity.platform_of()
    there = capacity.each_of(there, recipe, counted)
    fit = capacity.fit(recipe, scales[-1], there, counted, yielding=True)
    return plan_of_fit(fit, scales) if kind == here else plan_elsewhere(fit, scales, kind)


# --- In words -------------------------------------------------------------------------------------


def memory_line(plan: Plan) -> str:
    """Return what is said of a run's memory: how much, how it is brought in, and why so."""
    line = ", ".join([f"about {amount(plan.fit.footprint.total)}", *plan.picked])
    if plan.fit.recipe.rows is not None:
        line += " on each"
    return f"{line} ({_why(plan.fit)})" if plan.fit.chosen else line


def _why(fit: Fit) -> str:
    """Return why not all is computed at once, as was asked for."""
    assert fit.usable is not None  # else there was no need
    return f"{amount(fit.plain.total)} otherwise, and {amount(fit.usable)} can be had"


def memory_of_group(
    recipe: Recipe,
    scale: Scale,
    count: int,
    *,
    chunk: int | None = None,
    devices: Any = None,
    rows: int = 1,
) -> tuple[int, str]:
    """Return what painting pictures of one shape together takes: bytes, and in words.

    Args:
      recipe: of all of them.
      scale: the final one, with the shapes of all styles.
      count: of the pictures.
      chunk: as in `stylize_many`.
      devices: as in `stylize_many`.
      rows: as in `stylize_many`.

    Raises:
      ValueError: if no picture fits in any way.
    """
    mesh = sharding.mesh_of_batch(devices, rows)
    recipe = layout.with_rows(recipe, chunks.mesh_of_rows(mesh), scale.shape)
    there, platform = capacity.place_of(recipe, mesh=mesh)
    settled, together = chunks.at_once(recipe, scale, count, chunk, mesh)
    pictures = chunks.in_one_memory(together, mesh, platform)
    footprint = capacity.taken(settled, scale, platform, pictures=pictures)
    fit = capacity.fit(recipe, scale, there, platform)
    at_once = [f"{together} pictures at once"] if together > 1 else []
    words = at_once + capacity.picked(fit, [scale.shape, *scale.style_shapes])
    return footprint.total, ", ".join([f"about {amount(footprint.total)}", *words])


def warning(plan: Plan) -> str:
    """Return what is to be known of a run's memory besides, if anything is."""
    fit = plan.fit
    if fit.shortened:
        was, now = capacity.history_of(fit.asked), capacity.history_of(fit.recipe)
        return (
            f"nothing else fits: L-BFGS remembers {now} pairs in the place of {was}, which paints "
            "another picture; a smaller size would not"
        )
    if fit.there is None or capacity.fits(fit.footprint, fit.there):
        return ""
    return (
        f"the run takes about {amount(fit.footprint.total)} of memory, which may not fit into the "
        f"{amount(fit.there)} that there is; `--tile auto` takes no more than fits"
    )


def time_line(plan: Plan) -> str | None:
    """Return what is said of a run's seconds; None where nothing is kept that could tell."""
    if plan.rate is None:
        return UNKNOWN if rates_are_kept() else None
    seconds, runs = plan.seconds, plan.rate.runs
    assert seconds is not None
    by = "the last run's pace" if runs == 1 else f"the median pace of the last {runs} runs"
    return f"about {duration(seconds)} after compiling, by {by} here"


def text(plan: Plan) -> str:
    """Return a plan as a table for people, a line each."""
    kind = plan.device["kind"]
    lines = {
        "device": plan.device["platform"]
        + ("" if kind == plan.device["platform"] else f" ({kind})"),
        "recipe": f"{plan.fit.recipe.name}, {plan.fit.recipe.network.precision.name}",
        "size": _px(plan.scales[-1].shape),
        "styles": ", ".join(map(_px, plan.scales[-1].style_shapes)),
        **(
            {"rows": f"on {plan.devices} devices; what follows is of each"}
            if plan.devices > 1
            else {}
        ),
        "scales": ", ".join(f"{_px(scale.shape)} for {scale.steps}" for scale in plan.scales),
        "picked": ", ".join(plan.picked) or "all at once",
    }
    if plan.fit.chosen:
        lines["picked"] += f" ({_why(plan.fit)})"
    footprint = plan.fit.footprint
    sizes = {part: f"{getattr(footprint, part) / 1e6:,.1f}" for part in PARTS}
    sizes["total"] = f"{footprint.total / 1e6:,.1f}"
    width = max(map(len, sizes.values()))
    lines |= {name: f"{size:>{width}} MB" for name, size in sizes.items()}
    if plan.fit.usable is not None:
        lines["total"] += f" of {plan.fit.usable / 1e6:,.1f} MB that can be had"
    lines["updates"] = str(plan.updates)
    lines["time"] = _time(plan)
    longest = max(map(len, lines))
    rows = [f"{name:<{longest}}  {value}" for name, value in lines.items()]
    note = warning(plan)
    return "\n".join([*rows, *([f"note: {note}"] if note else [])])


def _time(plan: Plan) -> str:
    if plan.device != provenance.device():
        return "not known; a run on such a device records it there"
    return time_line(plan) or "not known, as nothing is kept between starts"


def _px(shape: Shape) -> str:
    return f"{shape[1]}x{shape[0]} px"


def facts(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data.

    Sizes are width, height; memory is in bytes and, like operations, that of each of the devices;
    None is not known.
    """
    fit, footprint = plan.fit, plan.fit.footprint
    return {
        "device": plan.device,
        "devices": plan.devices,
        "recipe": fit.recipe.name,
        "precision": fit.recipe.network.precision.name,
        "tile": fit.recipe.network.tile,
        "remat": fit.recipe.network.remat,
        "history": capacity.history_of(fit.recipe),
        "picked": plan.picked,
        "scales": provenance.of_scales(plan.scales),
        "updates": plan.updates,
        "memory": {
            **{part: getattr(footprint, part) for part in PARTS},
            "total": footprint.total,
            "plain": fit.plain.total,
            "there": fit.there,
            "can_be_had": fit.usable,
            "fits": None if fit.there is None else capacity.fits(footprint, fit.there),
        },
        "operations": plan.operations,
        "seconds": plan.seconds,
        "runs_timed": 0 if plan.rate is None else plan.rate.runs,
    }
