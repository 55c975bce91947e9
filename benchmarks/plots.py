"""Draws the records as figures, by matplotlib (extra `bench`)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import equal_time

Json = dict[str, Any]
COLOURS, MARKERS = 10, "os^"  # colours of matplotlib's cycle; markers of points, in order
TICKS = (1, 1.2, 1.5, 2, 3, 5, 10)
FRONT = (
    "style_vector",
    "ssim",
)  # the raters of a front: distance to the style, nearness to the photograph
# Where the name of a point may stand, in steps of (right, up); the first without overlap is taken.
PLACES = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
    (1, 2),
    (-1, 2),
    (1, -2),
    (-1, -2),
)


@dataclass(frozen=True)
class Line:
    """A line of a panel: x, y, and if each y is a median, the least and the greatest values."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    least: Sequence[float] = ()
    most: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
      title: heading above the axes.
      x: label of the x axis, with its unit.
      y: label of the y axis, with its unit.
      lines: the lines that are drawn.
      logarithmic: the axes that are logarithmic: "", "x", "y" or "xy".
      top: upper end of the y axis; None fits it to the lines.
      base: base of a logarithmic x axis.
      ticks: values with a tick on a logarithmic y axis; empty for the powers of ten.
      named: whether labels stand beside the lines' ends, where a legend would have too many.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line] = field(default_factory=list)
    logarithmic: str = ""
    top: float | None = None
    base: int = 10
    ticks: Sequence[float] = ()
    named: bool = False


# --- Panels ---------------------------------------------------------------------------------------


def loss_panels(entry: Json) -> list[Panel]:
    """Return panels of loss against seconds, one for each row (size and pair) of a record."""
    return [
        Panel(
            f"{' in the manner of '.join(row['pair'])}, {row['size'][1]} px",
            "seconds, without compiling",
            "loss of the canvas",
            [
                Line(name, engine["seconds"], engine["totals"])
                for name, engine in row["engines"].items()
            ],
            "y",
            top=1.3 * row["start"],  # otherwise a line that overshoots would compress the others
        )
        for row in entry["rows"]
    ]


def distance_panels(entry: Json) -> list[Panel]:
    """Return panels of the distance to the floor against seconds, one for every size.

    The floor of a pair is the lowest loss that any engine reached. An engine's line is the geometric
    mean over the pairs of (lowest loss so far / floor); it begins when the engine has a loss for each.
    """
    panels = []
    for size in sorted({row["size"][1] for row in entry["rows"]}):
        rows = [row for row in entry["rows"] if row["size"][1] == size]
        lines = [Line(name, *distance(rows, name)) for name in rows[0]["engines"]]
        title = f"mean of {len(rows)} pairs, {size} px"
        label = "lowest loss so far / floor"
        panel = Panel(title, "seconds, without compiling", label, lines, "y", top=10.0, ticks=TICKS)
        panels.append(panel)
    return panels


def distance(rows: Sequence[Json], name: str) -> tuple[list[float], list[float]]:
    """Return seconds, and an engine's geometric mean over rows of lowest loss so far / floor."""
    curves = [row["engines"][name] for row in rows]
    begin = max(curve["seconds"][0] for curve in curves)
    moments = sorted({s for curve in curves for s in curve["seconds"] if s >= begin})
    means = []
    for moment in moments:
        ratios = [
            min(t for s, t in zip(c["seconds"], c["totals"], strict=True) if s <= moment)
            / row["floor"]
            for c, row in zip(curves, rows, strict=True)
        ]
        means.append(math.exp(float(np.mean(np.log(ratios)))))
    return moments, means


def scaling_panels(entries: Mapping[str, Json]) -> list[Panel]:
    """Return panels of the rate against canvas size and against batch size, if measured."""
    panels, rate = [], "megapixel-iterations per second"
    if "step" in entries:
        found: dict[str, list[tuple[float, Json]]] = {}
        for row in entries["step"]["rows"]:
            for name, figures in row["contestants"].items():
                label = f"{name}, {row['recipe']}"
                point = (row["size"][1], figures["megapixel_iterations_per_second"])
                found.setdefault(label, []).append(point)
        lines = [_line(label, points) for label, points in found.items()]
        title = "one canvas, float32"
        panels.append(Panel(title, "side of the canvas, px", rate, lines, "x", base=2))
    if "batch" in entries:
        found = {}
        for row in entries["batch"]["rows"]:
            if row["verb"] == "stylize_many":
                point = (row["batch"], row["megapixel_iterations_per_second"])
                found.setdefault(f"{row['size'][1]} px", []).append(point)
        lines = [_line(label, points) for label, points in found.items()]
        panels.append(Panel("a batch, float32", "pictures in the batch", rate, lines, "x", base=2))
    return panels


def memory_panels(entry: Json) -> list[Panel]:
    """Return a panel of bytes per pixel against canvas size, from a `memory` record."""
    found: dict[str, list[tuple[float, Any]]] = {}
    for row in entry["rows"]:
        point = row["size"][1], row["gradient_bytes_per_pixel"]
        found.setdefault(row["recipe"], []).append(point)
    lines = [_line(label, points) for label, points in found.items()]
    title = "peak memory of loss and gradient"
    return [Panel(title, "side of the canvas, px", "bytes per pixel", lines, "x", base=2)]


def _line(label: str, points: Iterable[tuple[float, Any]]) -> Line:
    ordered = sorted(points, key=lambda point: point[0])
    x = [side for side, _ in ordered]
    values = [value for _, value in ordered]
    if any(not isinstance(value, dict) for value in values):
        return Line(label, x, values)
    columns = ([value[key] for value in values] for key in ("median", "min", "max"))
    return Line(label, x, *columns)


def by_canvas(rows: Iterable[Json]) -> dict[str, list[Json]]:
    """Return the rows of `quality` by longer side of the canvas and crop: `512px-4x3`, large first."""
    found: dict[str, list[Json]] = {}
    for row in sorted(rows, key=lambda row: -max(row["size"])):
        crop = f"-{row['crop'].replace(':', 'x')}" if row.get("crop") else ""
        found.setdefault(f"{max(row['size'])}px{crop}", []).append(row)
    return found


def biased(rows: Iterable[Json], name: str) -> dict[str, str]:
    """Return the raters of a front that are biased for a contestant, each with the reason."""
    found = [row["recipes"].get(name, {}).get("parties", {}) for row in rows]
    return {rater: one[rater] for one in found for rater in FRONT if rater in one}


def _starred(rows: Sequence[Json], name: str) -> str:
    """Return the name of a contestant, with a star if a rater of a front is biased for it."""
    return f"{name}*" if biased(rows, name) else name


def _axes_of_front(rows: Sequence[Json], names: Iterable[str]) -> tuple[str, str]:
    found = {rater for name in names for rater in biased(rows, name)}
    labels = {"style_vector": "distance of style vectors", "ssim": "1 - structural similarity"}
    style, content = (
        f"{text} (biased for *)" if rater in found else text for rater, text in labels.items()
    )
    return style, content


def front_panels(entry: Json) -> list[Panel]:
    """Return panels of style distance against content distance, one for each pair of a record.

    Each contestant is a point, with a star behind its name if one of the two raters is biased. Every
    panel has all contestants, so that their colours agree; the point of a pair that a contestant did
    not paint is NaN.
    """
    axes = _axes_of_front(entry["rows"], {name for row in entry["rows"] for name in row["recipes"]})
    names = list(dict.fromkeys(name for row in entry["rows"] for name in row["recipes"]))
    panels = []
    for row in entry["rows"]:
        rated = {name: one["ratings"] for name, one in row["recipes"].items()} | row["anchors"]
        nothing = {"style_vector": math.nan, "ssim": math.nan}
        lines = [
            Line(_starred(entry["rows"], name), [found["style_vector"]], [1 - found["ssim"]])
            for name in (*names, *row["anchors"])
            for found in (rated.get(name, nothing),)
        ]
        title = f"{' in the manner of '.join(row['pair'])}, {max(row['size'])} px"
        panels.append(Panel(title, *axes, lines))
    return panels


def median_front_panel(rows: Sequence[Json]) -> Panel:
    """Return a panel of style distance against content distance, medians over the rows of a record.

    Each contestant is a point, with its name beside it, and with a star if one of the two raters is
    biased. All painted every pair.
    """
    lines = [
        Line(
            _starred(rows, name),
            [float(np.median([one["style_vector"] for one in found]))],
            [1 - float(np.median([one["ssim"] for one in found]))],
        )
        for name in rows[0]["recipes"]
        for found in ([row["recipes"][name]["ratings"] for row in rows],)
    ]
    title = f"median of {len(rows)} pairs, {max(rows[0]['size'])} px"
    axes = _axes_of_front(rows, rows[0]["recipes"])
    return Panel(title, *axes, lines, named=True)


def figures(entries: Iterable[Json]) -> tuple[dict[str, list[Panel]], list[str]]:
    """Return the panels of each figure, by name, and a text for each figure without a record."""
    found: dict[str, list[Panel]] = {}
    missing = []
    by_kind: dict[str, dict[str, Json]] = {}
    for entry in entries:
        if entry["case"] == "gpu":  # a table of single measurements, of which no figure is drawn
            continue
        if entry["case"] == "quality":  # measured apart from the others, so none is missed
            for name, rows in by_canvas(equal_time.of_own_time(entry["rows"])).items():
                found[f"quality-{name}-{_kind(entry)}"] = front_panels({"rows": rows})
            for clock, timed in equal_time.by_clock(entry["rows"]).items():
                for name, rows in by_canvas(timed).items():
                    front = front_panels({"rows": rows})
                    found[f"quality-{name}-{clock}-time-{_kind(entry)}"] = front
            continue
        by_kind.setdefault(_kind(entry), {})[entry["case"]] = entry
    for kind, cases in by_kind.items():
        for name, needed, panels in (
            ("loss", ("time_to_loss",), lambda c: loss_panels(c["time_to_loss"])),
            ("floor", ("time_to_loss",), lambda c: distance_panels(c["time_to_loss"])),
            ("engine", ("engine",), lambda c: loss_panels(c["engine"])),
            ("engine-floor", ("engine",), lambda c: distance_panels(c["engine"])),
            ("scaling", ("step", "batch"), scaling_panels),
            ("memory", ("memory",), lambda c: memory_panels(c["memory"])),
        ):
            if any(case in cases for case in needed):
                found[f"{name}-{kind}"] = panels(cases)
            else:
                missing.append(f"{name}: no record of `{'` or `'.join(needed)}` on {kind}")
    return found, missing


def _kind(entry: Json) -> str:
    kind = "".join(c if c.isalnum() else "-" for c in entry["device"]["kind"].lower()).strip("-")
    return kind + ("-quick" if entry["quick"] else "")


# --- Drawing --------------------------------------------------------------------------------------


def draw(entries: Iterable[Json], folder: Path) -> tuple[list[Path], list[str]]:
    """Write a PNG file for every figure that the records allow.

    Returns:
      The files, and a text for each figure that has no record.

    Raises:
      ModuleNotFoundError: if matplotlib is not installed.
    """
    found, missing = figures(entries)
    folder.mkdir(parents=True, exist_ok=True)
    return [drawn(panels, folder / f"{name}.png") for name, panels in found.items()], missing


def drawn(panels: Sequence[Panel], path: Path) -> Path:
    """Write a figure of some panels as a PNG file, and return its path.

    Raises:
      ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    larger = 1.8 if any(panel.named for panel in panels) else 1  # leaves room for the names
    size = larger * 4.6 * columns + 0.6, larger * 3.4 * rows + 0.8
    figure = Figure(figsize=size, layout="constrained")
    shared: dict[str, Any] = {}
    labels = [tuple(line.label for line in panel.lines) for panel in panels]
    together = len(set(labels)) == 1 and len(panels) > 1
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        for number, line in enumerate(panel.lines):
            place = number % COLOURS if panel.named else number  # a name needs no marker of its own
            shared[line.label] = _line_drawn(axes, place, line)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(True, which="both", alpha=0.25)
        if "x" in panel.logarithmic:
            axes.set_xscale("log", base=panel.base)
            axes.set_xticks(sorted({x for line in panel.lines for x in line.x}))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.set_xlim(left=0)
        if "y" in panel.logarithmic:
            axes.set_yscale("log")
            if panel.ticks:
                axes.set_yticks(panel.ticks)
                axes.yaxis.set_major_formatter(ScalarFormatter())
                axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        if panel.top is not None:
            lowest = min(y for line in panel.lines for y in line.y)
            axes.set_ylim(bottom=0.9 * lowest, top=max(panel.top, 1.3 * lowest))
        if panel.named:
            _name_points(axes, panel.lines)
        elif not together:
            axes.legend(fontsize=7)
    if together:
        figure.legend(
            shared.values(), shared.keys(), loc="outside lower center", ncols=4, fontsize=8
        )
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def _name_points(axes: Any, lines: Sequence[Line]) -> None:
    """Write labels beside the ends of lines, each where it covers the fewest points and labels."""
    figure = axes.figure
    figure.draw_without_rendering()  # places the axes, on which the places of the labels depend
    points = [axes.transData.transform((line.x[-1], line.y[-1])) for line in lines]
    taken: list[Any] = []
    for line in lines:
        tried = [_named_at(axes, line, place) for place in PLACES]
        boxes = [one.get_window_extent() for one in tried]
        covered = [
            sum(box.contains(*point) for point in points)
            + sum(bool(box.overlaps(other)) for other in taken)
            + (box.x0 < axes.bbox.x0 or box.x1 > axes.bbox.x1)
            for box in boxes
        ]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        for index, one in enumerate(tried):
            if index != best:
                one.remove()


def _named_at(axes: Any, line: Line, place: tuple[int, int]) -> Any:
    right, up = place
    return axes.annotate(
        line.label,
        (line.x[-1], line.y[-1]),
        xytext=(6 * right, 6 * up),
        textcoords="offset points",
        ha={-1: "right", 0: "center", 1: "left"}[right],
        va="center" if up == 0 else "bottom" if up > 0 else "top",
        fontsize=8,
    )


def _line_drawn(axes: Any, number: int, line: Line) -> Any:
    # Two engines that differ in nothing but their schedule have the same colour.
    schedule = line.label.rpartition(", ")[-1]
    styles = {"one scale": "--", "coarse to fine": "-"}
    paired = schedule in styles
    colour = f"C{number // 2 if paired else number}"
    # A colour that comes again has another marker.
    marker = "" if paired else MARKERS[number // COLOURS % len(MARKERS)]
    (drawn,) = axes.plot(
        line.x,
        line.y,
        color=colour,
        linestyle=styles.get(schedule, "-"),
        marker=marker,
        markersize=4,
        label=line.label,
    )
    if line.least:
        axes.fill_between(line.x, line.least, line.most, color=colour, alpha=0.15, linewidth=0)
    return drawn
