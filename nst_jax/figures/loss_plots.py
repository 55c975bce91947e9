"""Plots of losses over the updates of a style transfer, from the log that `stylize --log` writes.

The plots are made by matplotlib, which the extra `plots` installs.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _files
from nst_jax._files import PathLike

SUFFIXES = (".png", ".svg", ".pdf")  # suffixes of the files in which a plot can be saved

# On a logarithmic axis, values below this share of the axis' greatest value are not drawn. Otherwise a
# content loss that starts at 1e-13 would press all other curves against the top of the plot.
_NEGLIGIBLE = 1e-6

# Line styles of matplotlib. Up to four curves have different line styles, so that they can be told
# apart without colours. If there are more, ten curves of different colours have the first line style,
# the next ten have the second one, and so on.
_LINES = (
    "-",
    "--",
    "-.",
    ":",
)


class LoggedRun(NamedTuple):
    """The losses of a run (a style transfer), read from its log, in which n lines have losses."""

    name: str  # what the run is called in the legend of a plot
    # The log's line with the event "start": the recipe, sizes and settings. Empty if there is no such
    # line.
    facts: Mapping[str, Any]
    steps: np.ndarray  # [n] number of updates after which the losses of each line were computed
    scales: np.ndarray  # [n] index of the scale (canvas size) at each line; 0 is the coarsest
    # Name of a loss -> its values [n], NaN where the value was not finite. The names are "total",
    # "content", "style", "tv" (total variation) and, if the recipe has this loss, "matting". The values
    # include the weights of the losses, so the total is the sum of the other losses.
    losses: Mapping[str, np.ndarray]
    # Part of the style loss, named by its tap (layer), such as "relu1_1" -> its values [n], including
    # its weight. If a style loss is not divided by layers, its parts have other names.
    taps: Mapping[str, np.ndarray]


def read_log(path: PathLike, *, argument: str = "path") -> LoggedRun:
    r"""Read the losses in a log that `nst-jax stylize --log` wrote.

    The log of a run that still goes on, or that was killed, can be read as well.

    Args:
      path: path of the log, a file with one JSON object in each line.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The losses of the run. The name of the run is the file's name without its suffix.

    Raises:
      ValueError: if the file cannot be read, if it is not the log of a style transfer, or if it has no
        line with losses.

    Example:
      >>> import tempfile, pathlib
      >>> from nst_jax import figures
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.jsonl"
      >>> _ = path.write_text('{"event": "step", "step": 0, "scale": 0, "total": 2.0, "content": 0.5, '
      ...                     '"style": 1.5, "tv": 0.0, "style_layers": {"relu1_1": 1.5}}\n')
      >>> figures.read_log(path).losses["total"]
      array([2.])
    """
    file = _files.as_path(path, argument=argument)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"`{argument}`: there is no file '{file}'; check the path") from None
    except UnicodeDecodeError:
        raise ValueError(
            f"`{argument}`: '{file}' is no log of nst-jax; name a file that `--log` wrote"
        ) from None
    except OSError as error:
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
    """Return the lines of a log that are not blank, each with its number, counted from 1.

    Text after the last line break is left out, since that line is still being written.
    """
    return [(number, line) for number, line in enumerate(text.split("\n")[:-1], 1) if line.strip()]


def _line(line: str, number: int, file: Path, argument: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise ValueError(
            f"`{argument}`: line {number} of '{file}' is not that of a log of nst-jax; name a file "
            "that `--log` wrote"
        )
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
    """Plot the losses of one run, or compare the losses of several runs, over the number of updates.

    For a single run the figure has two plots: one of the total loss and its parts, and one of the parts
    of the style loss, a curve for each tap (layer). For several runs it has a plot of the total loss,
    one of the content loss, one of the style loss, and one for each tap; each run is a curve in each of
    these plots. A loss such as content or style is left out if it is 0 in all updates of all runs; a
    tap's part of the style loss is always drawn. The vertical axis of a plot is logarithmic if the
    values span more than a factor of ten, without those below a millionth of the greatest. For a single
    run, dotted vertical lines mark where the run went on to a finer scale (resolution), since losses
    jump there.

    Args:
      runs: the runs, each as `read_log` returns it.
      title: title above the figure. If it is empty, the figure of a single run gets the run's name and
        recipe as its title, and the figure of several runs gets no title.

    Returns:
      A `matplotlib.figure.Figure`, which can be changed further, and saved by `save_plot`.

    Raises:
      ValueError: if `runs` is empty, if all losses are 0 and no run has taps, or if matplotlib is not
        installed.
    """
    check_matplotlib("runs")
    if not runs:
        raise ValueError("`runs`: is empty; give at least one run")
    from matplotlib.figure import Figure

    panels = _panels_of_one(runs[0]) if len(runs) == 1 else _panels_of_several(runs)
    panels = {heading: lines for heading, lines in panels.items() if lines}
    if not panels:
        raise ValueError("`runs`: all losses are 0, so there is nothing to draw")
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


# The curves of one plot: name of a curve -> x and y of its points, each [n]. x is the number of updates
# so far, and y is the loss.
_Lines = dict[str, tuple[np.ndarray, np.ndarray]]


def _panels_of_one(run: LoggedRun) -> dict[str, _Lines]:
    # A part that is always zero is a loss that the recipe does not have, so it is not drawn.
    parts = {name: values for name, values in run.losses.items() if np.any(values != 0)}
    named = {"tv": "total variation"}
    panels = {"loss and its parts": {named.get(k, k): (run.steps, v) for k, v in parts.items()}}
    if run.taps:
        panels["style loss by tap"] = {tap: (run.steps, v) for tap, v in run.taps.items()}
    return panels


def _panels_of_several(runs: Sequence[LoggedRun]) -> dict[str, _Lines]:
    names = [run.name for run in runs]
    # Runs are named after their files. A number is added where files have the same name.
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
    """Return text in a form that matplotlib shows unchanged.

    matplotlib takes `$` for the beginning of a formula, and leaves curves whose names begin with `_`
    out of the legend. So `$` is escaped, and a space is put before a `_` at the beginning.
    """
    return " " * text.startswith("_") + text.replace("$", r"\$")


def save_plot(path: PathLike, figure: Any, *, overwrite: bool = True) -> None:
    """Save a figure of matplotlib as a file, which appears complete or not at all.

    Args:
      path: path of the file, with the suffix .png, .svg or .pdf.
      figure: a `matplotlib.figure.Figure`, such as `plot_losses` returns.
      overwrite: whether an existing file may be replaced.

    Raises:
      ValueError: if `check_plot` refuses the path.
      OSError: if the disk fails or is full; an existing file is then unchanged.
    """
    file = _files.as_path(path)
    check_plot(file, overwrite=overwrite, argument="path")
    with _files.atomic(file) as part, warnings.catch_warnings():
        # The title and the legend name the runs by their files. A name may have characters that
        # matplotlib's font lacks. matplotlib draws boxes in their place and warns. The warning is
        # ignored, since the plot can still be used.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(part, format=file.suffix.lower().removeprefix("."), dpi=150)


def check_plot(path: PathLike, *, overwrite: bool = True, argument: str = "output") -> None:
    """Raise an error if a plot cannot be written at a path; call this before the plot is made.

    Args:
      path: path of the plot to be written.
      overwrite: whether the plot may replace an existing file.
      argument: the caller's name for `path`, shown in error messages.

    Raises:
      ValueError: if the suffix is not .png, .svg or .pdf; if the path is a folder or a link that leads
        to itself; if the folder that shall contain the file is missing or cannot be written to; or if
        the file exists and may not be replaced or is write-protected.
    """
    file, known = _files.as_path(path, argument=argument), ", ".join(SUFFIXES)
    _files.check_has_suffix(file, known, argument=argument)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"`{argument}`: plots are not written as {file.suffix}; expected one of {known}"
        )
    _files.check_destination(file, argument=argument)
    if file.exists() and not overwrite:
        raise ValueError(f"`{argument}`: '{file}' exists; choose another name or allow overwriting")


def check_matplotlib(argument: str) -> None:
    """Raise a ValueError if matplotlib is not installed.

    `argument` is the name of the caller's argument that asks for a plot; the message begins with it.
    """
    if find_spec("matplotlib") is None:
        raise ValueError(
            f"`{argument}`: plots need matplotlib; install it by `pip install 'nst-jax[plots]'`"
        )
