"""`python -m benchmarks CASE...`: measure, write JSON; `report` reads it and prints tables."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
import jax

from benchmarks import harness
from benchmarks.report import report

CASES = ("step", "compile", "batch", "loop", "wall", "peers", "time_to_loss")
RESULTS = Path(__file__).parent / "results"


def case_module(name: str) -> ModuleType:
    """Return the module of a case; imported only when asked for."""
    return importlib.import_module(f"benchmarks.{name}")


def plan_of(module: ModuleType, quick: bool) -> harness.Plan:
    """Return the plan of a case: quick, or for a processor, or for what is much faster than one."""
    if quick:
        return module.QUICK
    return module.FULL if jax.default_backend() == "cpu" else getattr(module, "GPU", module.FULL)


def measure(name: str, plan: harness.Plan, out: Path, quick: bool) -> Path:
    """Run one case and write its record."""
    module = case_module(name)
    origin = harness.source()  # before: the tree may change while a case runs
    findings = module.measure(plan)
    entry = harness.record(name, module.QUESTION, plan, findings, origin=origin, quick=quick)
    return harness.write(entry, out)


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


@click.command()
@click.argument("cases", nargs=-1, required=True, type=click.Choice([*CASES, "report"]))
@click.option("--quick", is_flag=True, help="Small and few: to see that it works, not how fast.")
@click.option("--sizes", callback=_sizes, help="Sides of the canvases, such as 256,512.")
@click.option("--repeats", type=click.IntRange(min=1), help="Timed rounds.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder of the JSON files; default: benchmarks/results.",
)
def main(
    cases: tuple[str, ...], quick: bool, sizes: tuple[int, ...], repeats: int | None, out: Path
) -> None:
    """Measure the named CASES in turn; `report` prints what the folder holds."""
    for name in cases:
        if name == "report":
            click.echo(report(harness.read(out, quick)))
            continue
        module = case_module(name)
        plan = plan_of(module, quick)
        plan = replace(plan, sizes=sizes or plan.sizes, repeats=repeats or plan.repeats)
        click.echo(f"{name}: {module.QUESTION} ...", err=True)
        click.echo(f"{name}: {measure(name, plan, out, quick)}", err=True)


if __name__ == "__main__":
    main()
