"""`python -m benchmarks CASE...` measures and writes JSON; `report` reads it and prints tables."""

import importlib
import json
import os
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import jax

from benchmarks import equal_time, gallery, harness, merging
from benchmarks.problems import Pair
from benchmarks.report import report

CASES = (
    *("step", "compile", "batch", "loop", "ways", "wall", "memory", "tiles", "beyond", "peers"),
    *("time_to_loss", "engine", "quality", "strength", "instant", "head_start", "export", "gpu"),
    *("buckets", "agreement", "start", "style_losses", "overlap"),
)
# Cases that measure each thing once, and those that end after a number of seconds.
ONE_ROUND = frozenset({"time_to_loss", "engine", "strength", "head_start", "agreement"})
TIMED = frozenset({"gpu", "quality"})
RESULTS = Path(__file__).parent / "results"

# By default JAX reserves most of an accelerator's memory, of which torch and child processes need some.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def case_module(name: str) -> ModuleType:
    """Import and return the module of a case."""
    return importlib.import_module(f"benchmarks.{name}")


def plan_of(module: ModuleType, quick: bool) -> harness.Plan:
    """Return the plan of a case: `QUICK` if wanted, else `FULL`, or on accelerators `GPU`."""
    if quick:
        return module.QUICK
    return module.FULL if jax.default_backend() == "cpu" else getattr(module, "GPU", module.FULL)


def measure(
    name: str,
    plan: harness.Plan,
    out: Path,
    quick: bool,
    *,
    shows_table: bool = True,
    replaces: bool = False,
) -> Path:
    """Run one case, write its record and print its table; return the path of that JSON file.

    The table is not printed if `shows_table` is False, as when `report` will print it. Unless
    `replaces` is True, a record that has more than the new one is kept.

    A case may yield what it has found so far after each measurement. Then it is written each time
    beside the record, so that a run that is ended early leaves something. The record itself changes
    when the case ends.

    Raises:
      RuntimeError: if the record in the folder would lose something, or if nothing could be measured.
    """
    module = case_module(name)
    device = harness.device()
    path = harness.path_of(name, device["kind"], quick, out)
    old = None if plan.add_to or replaces or not path.exists() else json.loads(path.read_bytes())
    if old:
        harness.check_replaceable(old, path, device["processor"], plan.sizes)
    origin = harness.source()  # read first: files may change while the case runs
    before = json.loads(plan.add_to.read_text("utf-8")) if plan.add_to else {}
    found = module.measure(plan)
    unfinished = path.with_name(f"{path.name}.unfinished")
    for findings in [found] if isinstance(found, harness.Findings) else found:
        entry = before | harness.record(
            name, module.QUESTION, plan, findings, origin=origin, quick=quick
        )
        harness.write(entry, unfinished)
    if not entry["rows"]:
        raise RuntimeError(f"nothing was measured; '{unfinished}' says why")
    if old and len(entry["rows"]) < len(old["rows"]):
        raise RuntimeError(
            f"'{path}' has {len(old['rows'])} rows, and {len(entry['rows'])} were measured, which are "
            f"in '{unfinished}'; add `--replace` to replace it all the same"
        )
    lost = merging.missing_pictures(old["rows"], entry["rows"]) if old and name == "quality" else []
    if lost:
        raise RuntimeError(
            f"'{path}' has pictures that were not rated now, such as {lost[0]}; the new "
            f"ratings are in '{unfinished}'; add `--add` to keep all, or `--replace` to lose them"
        )
    unfinished.replace(path)
    if shows_table:
        click.echo(report([entry]))
    return path


def _sizes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...]:
    del context
    parts = [part.strip() for part in value.split(",")] if value else []
    if not all(part.isdigit() and int(part) >= 16 for part in parts):
        raise click.BadParameter(
            f"expected pixels of 16 or more, such as 256,512, got {value!r}", param=parameter
        )
    return tuple(map(int, parts))


def _peers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[tuple[int, int | None], ...]:
    del context
    runs = []
    for part in value.split(",") if value else ():
        size, colon, steps = part.strip().partition(":")
        good = size.isdigit() and int(size) >= 16
        if not good or (colon and not (steps.isdigit() and int(steps) >= 1)):
            raise click.BadParameter(
                f"expected pixels of 16 or more and, after a colon, updates, such as 256,512:150, "
                f"got {value!r}",
                param=parameter,
            )
        runs.append((int(size), int(steps) if colon else None))
    return tuple(runs)


def _contestants(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    del context
    try:
        found = [gallery.contestant(text) for text in value]
        timed = [each.name for each in found if each.clock]
        if timed:
            raise ValueError(
                f"`recipe`: {timed[0]!r} is the name of what the option --equal-time paints; name the "
                "plain recipe, and the other one by --equal-time"
            )
        return tuple(each.name for each in found)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def _clock(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context
    try:
        if value is not None:
            equal_time.check_clock(value)
        return value
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def _pairs(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Pair, ...]:
    del context
    try:
        return tuple(map(gallery.pair_of, value))
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def _ratio(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context
    try:
        return value and ":".join(map(str, gallery.ratio_of(value)))
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@click.command()
@click.argument("cases", nargs=-1, required=True, type=click.Choice([*CASES, "all", "report"]))
@click.option("--quick", is_flag=True, help="Small and few: shows that it works, not how fast.")
@click.option("--sizes", callback=_sizes, help="Sides of the canvases, such as 256,512.")
@click.option("--repeats", type=click.IntRange(min=1), help="Timed rounds.")
@click.option(
    "--peers",
    callback=_peers,
    help="Sides at which `wall` runs pastiche, and numbers of updates, such as 256,512:150; default: "
    "all sides, with the 1000 updates of its command.",
)
@click.option(
    "--seconds",
    type=click.IntRange(min=1),
    help="`gpu` ends after so many seconds (default: 480, eight minutes; 1200 on a CPU), and `quality` "
    "with --keep begins no picture after them (default: no limit).",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    callback=_contestants,
    help="What `quality` rates: a recipe, also with a number of updates, such as gram@30, or with a "
    "factor of its style weight, such as gram@style3; or instant, pastiche-command or "
    "crowsonkb-pytorch; may be repeated. For `head_start`: default or gram.",
)
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    callback=_pairs,
    help="A pair CONTENT:STYLE that `quality` paints, by names of sample pictures or of files in the "
    "folder --pictures, without suffix; may be repeated.",
)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder of further pictures for `quality`; their names are recorded, they are not.",
)
@click.option(
    "--prepared",
    default="",
    help="With --pictures: how these pictures were prepared, as the end of the sentence 'They were "
    "...', without paths; recorded in the rows that are rated, and printed on docs/quality.md.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder in which `quality` keeps its pictures; those in it are rated and not painted again. "
    "Each has its seconds, and those of the processor.",
)
@click.option(
    "--equal-time",
    "equal_time_of",
    callback=_clock,
    help="With --keep: a recipe, such as default. All others get about as many updates as fit into the "
    "time that it takes for the same pair on this device; their names are such as gram@default-time.",
)
@click.option(
    "--no-paint", is_flag=True, help="With --keep: rate what is there, and paint nothing."
)
@click.option(
    "--paint-only",
    is_flag=True,
    help="With --keep: paint what is missing, rate nothing and write no record. Sizes, recipes and "
    "pairs are taken in the order given.",
)
@click.option(
    "--crop",
    callback=_ratio,
    help="Ratio of sides, such as 4:3, to which `quality` cuts every picture around its middle, so "
    "that programs are compiled for one shape; default: whole pictures.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    help="With --keep: number of processes that paint on this device at the same time; recorded with "
    "the seconds.",
)
@click.option(
    "--add",
    is_flag=True,
    help="Add the ratings of `quality` to its record in --out, whose other rows stay; both have to be "
    "rated alike.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder of the JSON files; default: benchmarks/results.",
)
@click.option(
    "--replace",
    "replaces",
    is_flag=True,
    help="Replace records in --out also by those that have less: other sizes, another processor, fewer "
    "rows, no judges.",
)
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    help="With `report`: draw into this folder, too; needs matplotlib.",
)
def main(
    cases: tuple[str, ...],
    quick: bool,
    sizes: tuple[int, ...],
    repeats: int | None,
    peers: tuple[tuple[int, int | None], ...],
    seconds: int | None,
    recipes: tuple[str, ...],
    pairs: tuple[Pair, ...],
    pictures: Path | None,
    prepared: str,
    keep: Path | None,
    equal_time_of: str | None,
    no_paint: bool,
    paint_only: bool,
    crop: str | None,
    at_once: int,
    add: bool,
    out: Path,
    replaces: bool,
    plots: Path | None,
) -> None:
    """Measure the named CASES in turn, or all; `report` prints the records of the folder."""
    if plots and "report" not in cases:
        raise click.UsageError("`--plots`: only `report` draws; name that case too")
    if repeats and set(cases) <= ONE_ROUND | {"report"}:
        raise click.UsageError(
            f"`--repeats`: {', '.join(sorted(ONE_ROUND))} measure each thing once; leave it out"
        )
    if seconds and not {*TIMED, "all"} & set(cases):
        raise click.UsageError(
            "`--seconds`: only `gpu` and `quality` read it; name one of these cases"
        )
    if peers and not {"wall", "all"} & set(cases):
        raise click.UsageError("`--peers`: only `wall` reads it; name that case too")
    of_quality = (
        pairs or pictures or prepared or keep or crop or add or equal_time_of or at_once > 1
    )
    if of_quality and not {"quality", "all"} & set(cases):
        raise click.UsageError(
            "`--pair`, `--pictures`, `--prepared`, `--keep`, `--crop`, `--add`, `--equal-time`, "
            "`--at-once`: only `quality` reads them; name that case"
        )
    if recipes and not {"quality", "head_start", "all"} & set(cases):
        raise click.UsageError(
            "`--recipe`: only `quality` and `head_start` read it; name one of these cases"
        )
    if at_once > 1 and not keep:
        raise click.UsageError(
            "`--at-once`: only pictures in a folder are painted by several processes; name the folder "
            "with `--keep`"
        )
    if equal_time_of and not keep:
        raise click.UsageError(
            "`--equal-time`: times are those of pictures in a folder; name it with `--keep`"
        )
    if prepared and (not pictures or paint_only):
        raise click.UsageError(
            "`--prepared`: is recorded where pictures of your own are rated; name their folder with "
            "`--pictures`, without `--paint-only`"
        )
    if no_paint and not keep:
        raise click.UsageError(
            "`--no-paint`: there is nothing to rate without `--keep`; name a folder"
        )
    if paint_only and (no_paint or add or not keep or cases != ("quality",)):
        raise click.UsageError(
            "`--paint-only`: paints into a folder and rates nothing; name the case `quality` alone and "
            "--keep, without --no-paint and --add"
        )
    failed = []
    names = list(dict.fromkeys(each for case in cases for each in _expanded(case)))
    for number, name in enumerate(names):
        if name == "report":
            _report(harness.read(out, quick), plots)
            continue
        module = case_module(name)
        plan = plan_of(module, quick)
        plan = replace(
            plan,
            sizes=sizes or plan.sizes,
            repeats=plan.repeats if name in ONE_ROUND else repeats or plan.repeats,
            seconds=seconds if seconds and name in TIMED else plan.seconds,
            peers=tuple((size, count or plan.peer_steps) for size, count in peers)
            if name == "wall"
            else (),
            recipes=_in_equal_time(
                recipes or plan.recipes, equal_time_of if name == "quality" else None
            ),
            named_pairs=pairs,
            pictures=pictures,
            prepared=prepared,
            keep=keep,
            paint=not no_paint,
            crop=crop,
            at_once=at_once,
            add_to=_record_of(name, quick, out) if add else None,
        )
        if paint_only:
            try:
                module.paint_only(plan)
            except ValueError as error:
                raise click.ClickException(str(error)) from None
            continue
        click.echo(f"{name}: {module.QUESTION} ...", err=True)
        try:
            alone = "report" not in names[number:]
            path = measure(name, plan, out, quick, shows_table=alone, replaces=replaces)
            click.echo(f"{name}: {path}", err=True)
        except Exception:  # one failure must not end the others, which take hours
            click.echo(f"{name}: failed\n{traceback.format_exc()}", err=True)
            failed.append(name)
    if failed:
        raise click.ClickException(f"not measured: {', '.join(failed)}")


def _in_equal_time(recipes: tuple[str, ...], clock: str | None) -> tuple[str, ...]:
    """Return the contestants: as they are, or those that paint in the time of `clock`, and itself."""
    if clock is None:
        return recipes
    try:
        return equal_time.recipes_in_time_of(clock, recipes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _record_of(case: str, quick: bool, out: Path) -> Path | None:
    """Return the path of the record that a case on this device would replace, if there is one."""
    path = harness.path_of(case, harness.device()["kind"], quick, out)
    return path if case == "quality" and path.exists() else None


def _expanded(case: str) -> tuple[str, ...]:
    return CASES if case == "all" else (case,)


def _report(entries: list[dict[str, Any]], folder: Path | None) -> None:
    click.echo(report(entries))
    if folder is None:
        return
    from benchmarks import plots  # needs matplotlib, an optional dependency

    try:
        paths, missing = plots.draw(entries, folder)
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"`--plots`: {error.name} is not installed; install the extra `bench`"
        ) from None
    for line in missing:
        click.echo(f"not drawn: {line}", err=True)
    for path in paths:
        click.echo(f"drawn: {path}", err=True)


if __name__ == "__main__":
    main()
