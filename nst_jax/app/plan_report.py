"""The plan of a run as text and as JSON.

A plan is made before a run starts, and says what the run will need: the memory of each part, what saves
memory and why, and the time. The targets are what the losses compare the canvas with, such as the Gram
matrices of the styles; computing them is also called measuring.
"""

import math
from collections.abc import Sequence
from typing import Any

from nst_jax import provenance
from nst_jax._types import Checkpoint
from nst_jax.app.formatting import amount, few, span
from nst_jax.app.rates import expected, rates_are_kept
from nst_jax.scaling.buckets import Scales
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.tile_choice import history_of
from nst_jax.vgg.precision import FLOAT32

# The text in place of the time of a run, if no earlier run with the same device, number of devices and
# precision was timed.
UNKNOWN = "not known yet for runs of this kind on this device; a run of a few seconds measures it"
# Before the updates, a run computes its targets, that is, what the losses compare the canvas with. If
# computing them takes more than this share of the run's time, the report states how long it takes.
SHOWN_SHARE = 0.1
# The parts of a run's memory whose sizes the report states. Each name is that of an attribute of
# `nst_jax.scaling.footprint.Footprint`; the attribute's value is a number of bytes.
PARTS = (
    "weights",
    "activations",
    "workspace",
    "targets",
    "state",
    "inputs",
)


def device_facts(plan: Plan) -> dict[str, str]:
    """Return the "platform" and the "kind" of the device for which a run is planned.

    If the run is planned for a platform that is not that of this process' devices, only the platform is
    known, and "kind" repeats it.
    """
    return provenance.device() if plan.here else {"platform": plan.platform, "kind": plan.platform}


def precision_line(plan: Plan, resume: Checkpoint | None = None) -> str:
    """Return one line with the name of a run's precision, and the reason for this precision.

    Args:
      plan: the plan of the run.
      resume: the checkpoint from which the run resumes, or None for a new run. The precision of the
        checkpoint is kept, unless the recipe or a flag sets another one.
    """
    name = plan.recipe.network.precision.name
    if resume is not None and resume.facts.get("network.precision") == name:
        return f"{name} (as in the checkpoint)"
    return precision_words(name, plan.platform if plan.auto_precision else "")


def precision_words(name: str, auto_on: str) -> str:
    """Return the name of a precision and the reason for it, as text.

    A precision may be chosen automatically: it is float32 on a CPU, and on an accelerator the one that
    the recipe names for accelerators, such as bfloat16.

    Args:
      name: the name of the precision.
      auto_on: the platform, such as "cpu", for which the precision was chosen automatically; empty if
        the recipe or a flag sets the precision.

    Example:
      >>> precision_words("bfloat16", "gpu")
      "bfloat16 (auto: the recipe's on an accelerator; `--precision float32` uses all bits)"
    """
    if not auto_on:
        return f"{name} (set by the recipe or `--precision`)"
    if auto_on == "cpu":
        return f"{name} (auto: on a CPU)"
    more = "" if name == FLOAT32.name else f"; `--precision {FLOAT32.name}` uses all bits"
    return f"{name} (auto: the recipe's on an accelerator{more})"


def memory_line(plan: Plan) -> str:
    """Return one line that says how much memory a run takes, and what saves memory.

    If memory is saved for a single picture, or if fewer pictures are painted at once than the user
    asked for, the line also says why.
    """
    at_once = [f"{plan.chunk} pictures at once"] if plan.chunk > 1 else []
    if plan.unfit_chunk is not None:
        assert plan.usable is not None  # else the number would not have been reduced
        larger = amount(plan.footprint_of(plan.unfit_chunk).total)
        why = f"{plan.unfit_chunk} would take {larger}, and {amount(plan.usable)} is available"
        at_once = [f"{plan.chunk} at once ({why})"]
    line = ", ".join([f"about {amount(plan.peak)}", *at_once, *plan.savings])
    if plan.devices > 1 and plan.pictures == 1:
        line += " on each"
    return f"{line} ({_reason(plan)})" if plan.saves_memory and plan.pictures == 1 else line


def _reason(plan: Plan) -> str:
    """Return why a run saves memory: how much it would need otherwise, and how much is available."""
    assert plan.usable is not None  # memory is saved only where the available memory is known
    return f"{amount(plan.untiled.total)} otherwise, and {amount(plan.usable)} is available"


def warning(plan: Plan) -> str:
    """Return a warning if a run may not fit into memory, or fits only with a shorter L-BFGS history.

    The text is empty if there is no reason for a warning.
    """
    if plan.shortens_history:
        was, now = history_of(plan.requested), history_of(plan.recipe)
        return (
            f"to fit into memory, L-BFGS keeps {now} instead of {was} past updates, so the result will "
            "differ somewhat; with a smaller size it would not have to"
        )
    if plan.fits is not False or plan.available is None:
        return ""
    return (
        f"the run takes about {amount(plan.footprint.total)} of memory, which may not fit into the "
        f"{amount(plan.available)} that is available; `--tile auto` takes no more than fits"
    )


def bucket_line(
    runs: Sequence[Scales],
    arrays: Sequence[Scales],
    programs: int | None = None,
    kept: int = 0,
) -> str:
    """Return one line on buckets: their sizes, the number of programs, and the pixels that they add.

    A bucket is an array, larger than a picture, in which the picture lies. So pictures of several
    shapes share the compiled program of the bucket.

    Args:
      runs: for each picture, its scales (resolution levels) with the real sizes of the picture.
      arrays: for each picture, its scales with the sizes of its bucket. A picture without a bucket has
        the same scales here as in `runs`.
      programs: number of programs for each scale; None means one for each shape of arrays.
      kept: how many of these programs an earlier command has compiled and stored on disk.

    Example:
      >>> from nst_jax.run_scales import Scale
      >>> runs = [(Scale(shape, (), 10),) for shape in ((96, 64), (90, 70))]
      >>> bucket_line(runs, [(Scale((96, 80), (), 10),)] * 2)
      '2 shapes, padded to 80x96 px: 1 program for each scale; 23% more pixels to compute'
    """
    inside = [one[-1].shape != array[-1].shape for one, array in zip(runs, arrays, strict=True)]
    final = [array[-1].shape for array in arrays]
    shapes = {one[-1].shape for one in runs}
    held = {one[-1].shape for one, within in zip(runs, inside, strict=True) if within}
    count = len(set(final)) if programs is None else programs
    one_size = all(len(array) > 1 == len({scale.shape for scale in array}) for array in arrays)
    several = f"{_counted(count, 'program')} for {'all scales' if one_size else 'each scale'}"
    several += f", {kept} kept from earlier runs" if kept else ""
    sizes = _counted(len(shapes), "shape")
    if not held:
        return f"none, {sizes} without padding: {several}"
    where = {shape for shape, within in zip(final, inside, strict=True) if within}
    listed = few([f"{width}x{height}" for height, width in sorted(where, reverse=True)])
    some = "" if held == shapes else f" {len(held)} of them"
    share = sum(map(math.prod, final)) / sum(math.prod(one[-1].shape) for one in runs) - 1
    return f"{sizes},{some} padded to {listed} px: {several}; {share:.0%} more pixels to compute"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def time_line(plan: Plan) -> str | None:
    """Return one line on how long a run may take, judged by earlier runs of its kind.

    Runs of one kind have the same device, number of devices and precision. If none was timed yet, the
    line is `UNKNOWN`. But if speeds of runs are not recorded (see `nst_jax.app.rates`), so that there
    will never be an estimate, None is returned.
    """
    found = expected(plan)
    if found is None:
        return UNKNOWN if rates_are_kept() else None
    line = span(found.least, found.most) + ("" if found.whole else " after compiling")
    if found.measuring.most > SHOWN_SHARE * found.most:
        line += f", of which measuring the pictures takes {span(*found.measuring)}"
    return f"{line}, by the last {f'{found.runs} runs' if found.runs > 1 else 'run'} here"


def text(plan: Plan) -> str:
    """Return the plan of a run (its device, sizes, memory and time) as a table for people to read."""
    last = plan.real_scales[-1]
    lines = {
        "device": provenance.device_words(device_facts(plan)),
        "recipe": plan.recipe.name,
        "precision": precision_line(plan),
        "size": px(last.shape),
        "styles": ", ".join(map(px, last.style_shapes)),
    }
    if plan.real is not None:
        lines["bucket"] = bucket_line([plan.real], [plan.scales])
    if plan.devices > 1:
        lines["bands"] = f"on {plan.devices} devices; what follows is of each"
    lines["scales"] = ", ".join(
        f"{scale.steps} updates at {px(scale.shape)}" for scale in plan.real_scales
    )
    lines["computed"] = ", ".join(plan.savings) or "all at once"
    if plan.saves_memory:
        lines["computed"] += f" ({_reason(plan)})"
    sizes = {part: f"{getattr(plan.footprint, part) / 1e6:,.1f}" for part in (*PARTS, "total")}
    width = max(map(len, sizes.values()))
    lines |= {name: f"{size:>{width}} MB" for name, size in sizes.items()}
    if plan.files is not None:
        sizes_of_files = (f"{size / 1e6:,.1f}" for size in (plan.files.kept, plan.files.peak))
        kept, peak = (f"{size:>{width}} MB" for size in sizes_of_files)
        lines["files"] = f"{kept} more during the run, for the pictures as they were read"
        lines["reading"] = f"{peak} before the run, while the pictures are read and resized"
    if plan.usable is not None:
        lines["total"] += f" of {plan.usable / 1e6:,.1f} MB that is available"
    lines["updates"] = str(plan.updates)
    lines["time"] = _time(plan)
    longest = max(map(len, lines))
    rows = [f"{name:<{longest}}  {value}" for name, value in lines.items()]
    note = warning(plan)
    return "\n".join([*rows, *([f"note: {note}"] if note else [])])


def _time(plan: Plan) -> str:
    if not plan.here:
        return "not known; a run on such a device records it there"
    return time_line(plan) or "not known, as nothing is kept between starts"


def px(shape: Sequence[int]) -> str:
    """Return a shape (height, width, ...) as text, such as "640x480 px" for (480, 640)."""
    return f"{shape[1]}x{shape[0]} px"


def facts(plan: Plan) -> dict[str, Any]:
    """Return the plan of a run as a dict of JSON values, which `nst-jax plan --json` prints.

    Sizes are (width, height) in pixels, memory is in bytes, times are in seconds. With several devices,
    numbers of operations and memory are those of each device, but the entries "files" and "reading" are
    memory of the machine. On a CPU, if these two are known, "peak" is the larger of "reading" and the
    sum of "files" and "total"; else "peak" is "total". "operations" is the number for all updates. None
    means that a value is not known, with two exceptions: "history", the length of the L-BFGS history,
    is None if the optimiser keeps none; and "bucket" is None if the picture does not lie in a larger
    array.
    """
    recipe, footprint = plan.recipe, plan.footprint
    found = expected(plan) if plan.here else None
    return {
        "device": device_facts(plan),
        "devices": plan.devices,
        "recipe": recipe.name,
        "precision": recipe.network.precision.name,
        "auto_precision": plan.auto_precision,
        "tile": recipe.network.tile,
        "remat": recipe.network.remat,
        "history": history_of(recipe),
        "savings": plan.savings,
        "scales": provenance.of_scales(plan.real_scales),
        "bucket": None if plan.real is None else provenance.of_scales(plan.scales),
        "updates": plan.updates,
        "memory": {
            **{part: getattr(footprint, part) for part in PARTS},
            "total": footprint.total,
            "untiled": plan.untiled.total,
            "files": None if plan.files is None else plan.files.kept,
            "reading": None if plan.files is None else plan.files.peak,
            "peak": plan.peak,
            "available": plan.available,
            "usable": plan.usable,
            "fits": plan.fits,
        },
        "operations": plan.operations,
        "measuring_operations": sum(plan.measuring_operations),
        "seconds": None if found is None else found.likely,
        "seconds_range": None if found is None else [found.least, found.most],
        "runs_timed": 0 if found is None else found.runs,
    }
