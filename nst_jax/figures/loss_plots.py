"""Plots of the losses in the logs of runs, by matplotlib (extra `plots`)."""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _files
from nst_jax._files import PathLike

SUFFIXES = (".png", ".svg", ".pdf")  # formats of plots

# Values that are a smaller share of the greatest are not drawn on a logarithmic axis: a content loss
# that starts at 1e-13 would press everything else against the top.
_NEGLIGIBLE = 1e-6

_LINES = (
    "-",
    "--",
    "-.",
    ":",
)  # dashes differ too, so that lines differ without colours


class LoggedRun(NamedTuple):
    """The losses of a run, as its log has them."""

    name: str  # what the run is called in legends
    facts: Mapping[str, Any]  # the first line: recipe, sizes, settings ...
    steps: np.ndarray  # [n] the numbers of updates
    scales: np.ndarray  # [n] the index of the scale of each canvas
    # By name, [n] each, NaN where a loss was not finite: total, content, style, tv, and matting if the
    # run has it. They are weighted, so that the others add up to the total.
    losses: Mapping[str, np.ndarray]
    taps: Mapping[str, np.ndarray]  # the parts of the style loss by tap, [n] each


def read_log(path: PathLike, *, argument: str = "path") -> LoggedRun:
    r"""Read the log that `nst-jax stylize --log` wrote, also if the run goes on or was killed.

    Args:
      path: a file of JSON lines.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The losses; the run is called by the name of its file, without suffix.

    Raises:
      ValueError: if there is no such file, if a line of it is not that of a log, or if it has no
        losses.

    Example:
      >>> import tempfile, pathlib
      >>> from nst_jax import figures
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.jsonl"
      >>> _ = path.write_text('{"event": "step", "step": 0, "scale": 0, "total": 2.0, "content": 0.5, '
      ...                     '"style": 1.5, "tv": 0.0, "style_layers": {"relu1_1": 1.5}}\n')
      >>> figures.read_log(path).losses["total"]
      array([2.])
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`{argument}`: cannot read '{file}' as a log: {_files.reason_of(error)}"
        ) from None
    lines = [_line(line, number, file, argument) for number, line in _whole_lines(text)]
    facts = next((line for line in lines if line["event"] == "start"), {})
    steps = [line for line in lines if line["event"] == "step"]
    if not steps:
        raise ValueError(
            f"`{argument}`: '{file}' has no losses; name a file that `--log` of nst-jax wrote"
        )
    try:
        return _run_of(file.stem, facts, steps)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"`{argument}`: '{file}' is no log of a style transfer; name a file that `--log` wrote"
        ) from None


def _whole_lines(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines; a last one without an end is left out: it is still being written."""
    return [(number, line) for number, line in enumerate(text.split("\n")[:-1], 1) if line.strip()]


def _line(line: str, number: int, file: Path, argument: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise ValueError(f"`{argument}`: line {number} of '{file}' is not that of a log of nst-jax")
    return found


def _run_of(name: str, facts: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> LoggedRun:
    def column(values: Sequence[Any]) -> np.ndarray:
        return np.array([np.nan if value is None else float(value) for value in values])

    names = [one for one in ("total", "content", "style", "tv", "matting") if one in steps[0]]
    return LoggedRun(
        name,
        facts,
        np.array([int(line["step"]) for line in steps]),
        np.array([int(line["scale"]) for line in steps]),
        {one: column([line[one] for line in steps]) for one in ("total", *names[1:])},
        {
            tap: column([line["style_layers"][tap] for line in steps])
            for tap in steps[0]["style_layers"]
        },
    )


def plot_losses(runs: Sequence[LoggedRun], *, title: str = "") -> Any:
    """Plot the losses of one run, or compare those of several.

    One run gets two axes: the total and its parts, and the parts of the style loss by tap. Several
    runs get axes for the total, for content and style, and for each tap, in which each run is a line.
    An axis is logarithmic if its values span more than a factor of ten. Dotted lines mark where one run
    goes on to a finer scale, where its losses jump.

    Args:
      runs: what `read_log` returned.
      title: title above the figure; empty for the recipe of a single run.

    Returns:
      A `matplotlib.figure.Figure`, which can be changed further, and saved by `save_plot`.

    Raises:
      ValueError: for no runs, and if matplotlib is not installed.
    """
    check_matplotlib("runs")
    if not runs:
        raise ValueError("`runs`: is empty; give at least one run")
    from matplotlib.figure import Figure

    panels = _panels_of_one(runs[0]) if len(runs) == 1 else _panels_of_several(runs)
    columns = len(panels) if len(panels) <= 3 else -(-len(panels) // 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.9 * rows), layout="constrained")
    for index, (heading, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw(axes, heading, lines)
        if len(runs) == 1:
            for change in np.flatnonzero(np.diff(runs[0].scales)):
                axes.axvline(runs[0].steps[change + 1], color="0.6", linestyle=":", linewidth=1)
    title = title or (_title_of(runs[0]) if len(runs) == 1 else "")
    if title:
        figure.suptitle(_plain(title), fontsize=13)
    return figure


# What is drawn on axes: name of a line -> its numbers of updates and its values.
_Lines = dict[str, tuple[np.ndarray, np.ndarray]]


def _panels_of_one(run: LoggedRun) -> dict[str, _Lines]:
    # Parts that are zero throughout are those that the recipe does not have.
    parts = {name: values for name, values in run.losses.items() if np.any(values != 0)}
    named = {"tv": "total variation"}
    panels = {"loss and its parts": {named.get(k, k): (run.steps, v) for k, v in parts.items()}}
    if run.taps:
        panels["style loss by tap"] = {tap: (run.steps, v) for tap, v in run.taps.items()}
    return panels


def _panels_of_several(runs: Sequence[LoggedRun]) -> dict[str, _Lines]:
    names = [run.name for run in runs]
    # A number distinguishes files of the same name.
    names = [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    named = list(zip(names, runs, strict=True))
    panels: dict[str, _Lines] = {}
    for part, heading in (("total", "total loss"), ("content", "content"), ("style", "style")):
        lines = {n: (run.steps, run.losses[part]) for n, run in named if part in run.losses}
        if any(np.any(values != 0) for _, values in lines.values()):
            panels[heading] = lines
    for tap in dict.fromkeys(tap for run in runs for tap in run.taps):
        panels[f"style at {tap}"] = {
            n: (run.steps, run.taps[tap]) for n, run in named if tap in run.taps
        }
    return panels


def _draw(axes: Any, heading: str, lines: _Lines) -> None:
    finite = np.concatenate([values[np.isfinite(values)] for _, values in lines.values()])
    positive = finite[finite > _NEGLIGIBLE * finite.max(initial=0.0)]
    logarithmic = positive.size > 0 and positive.max() > 10 * positive.min()
    for index, (name, (steps, values)) in enumerate(lines.items()):
        shown = values
        if logarithmic:
            shown = np.where(values > _NEGLIGIBLE * positive.max(), values, np.nan)
        dashes = _LINES[index // 10 % len(_LINES)] if len(lines) > 4 else _LINES[index]
        marker = "o" if len(steps) == 1 else None
        axes.plot(steps, shown, dashes, marker=marker, linewidth=1.8, label=_plain(name))
    if logarithmic:
        axes.set_yscale("log")
    axes.set_title(_plain(heading), fontsize=11)
    axes.set_xlabel("updates")
    axes.set_ylabel("weighted loss" + (" (logarithmic)" if logarithmic else ""))
    axes.grid(True, which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False)


def _title_of(run: LoggedRun) -> str:
    recipe = run.facts.get("recipe")
    return f"{run.name}: recipe {recipe}" if recipe else run.name


def _plain(text: str) -> str:
    """Return text that matplotlib shows as it is: `$` would begin a formula, `_` hide a line's name."""
    return " " * text.startswith("_") + text.replace("$", r"\$")


def save_plot(path: PathLike, figure: Any, *, overwrite: bool = True) -> None:
    """Write a figure of matplotlib atomically: the file appears complete or not at all.

    Args:
      path: path with suffix .png, .svg or .pdf.
      figure: what `plot_losses` returned.
      overwrite: whether an existing file may be replaced.

    Raises:
      ValueError: for what `check_plot` refuses.
      OSError: if the disk fails or is full; an existing file is then unchanged.
    """
    file = Path(path)
    check_plot(file, overwrite=overwrite, argument="path")
    with _files.atomic(file) as part, warnings.catch_warnings():
        # Names of files may have signs that matplotlib's font lacks; boxes are drawn instead.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(part, format=file.suffix.lower().removeprefix("."), dpi=150)


def check_plot(path: PathLike, *, overwrite: bool = True, argument: str = "output") -> None:
    """Refuse a path where no plot can be written, before any work.

    Args:
      path: path of the plot to be written.
      overwrite: whether it may replace an existing file.
      argument: the caller's name for the value, shown in error messages.

    Raises:
      ValueError: for another suffix than .png, .svg and .pdf; a folder; a missing or unwritable folder
        around it; and an existing file that may not be replaced.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        what = f"plots are not written as {file.suffix}" if file.suffix else "has no suffix"
        raise ValueError(f"`{argument}`: {what}; expected one of {', '.join(SUFFIXES)}")
    if file.exists() and not file.is_dir() and not overwrite:
        raise ValueError(f"`{argument}`: '{file}' exists; choose another name or allow overwriting")
    _files.check_destination(file, argument=argument)


def check_matplotlib(argument: str) -> None:
    """Refuse to plot what an argument names, if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise ValueError(
            f"`{argument}`: plots need matplotlib; install it by `pip install 'nst-jax[plots]'`"
        )
