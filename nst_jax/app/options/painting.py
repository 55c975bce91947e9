"""The options of the commands `stylize`, `texture`, `batch`, `sweep`, `plan`, `warm` and `demo`."""

from pathlib import Path
from typing import Any

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import (
    DEFAULT_SIZE,
    DEFAULT_STEPS,
    DEMO_SIZE,
    FILE,
    FILE_OR_STREAM,
    NUMBERS,
    RECIPES,
    STYLE_OR_STREAM,
    SWEEP_RECIPE,
    SWEEP_SIZE,
    Decorator,
    all_of,
    expert,
    look,
    memory,
    output,
    size,
)
from nst_jax.app.options.shared import (
    RECIPES_PRECISION,
    cache,
    cache_for,
    colors,
    computing_with,
    devices,
    format_of_output,
    layers,
    metadata,
    overwrite,
    pictures,
    pool,
    protect_each,
    quality,
    quiet,
    realism,
    recipe,
    rest,
    result,
    size_of_picture,
    strength,
    styles_for_each,
    values,
    watched,
    weights_file,
    weights_of_terms,
    xla_logs,
)

# --- Arguments ------------------------------------------------------------------------------------

_contents = click.argument("contents", type=FILE, nargs=-1, required=True)

# --- Look -----------------------------------------------------------------------------------------


def _steps(default: str) -> Decorator:
    return look(
        "--steps",
        type=int,
        metavar="N",
        help=f"number of updates: how often the picture is changed (default: {RECIPES}{default})",
    )


_seed = look(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="number from which random noise is made; the same seed gives the same noise (default: 0)",
)

_NAMED_STARTS = (
    "content, style, noise, blank, content+noise, instant (what `nst-jax instant` paints of the "
    "pictures)"
)


def _init(text: str) -> Decorator:
    """Return the options `--init` and `--noise-ratio`; `text` is the help text of the first."""
    return all_of(
        look("--init", metavar="START", help=f"{text} (default: {RECIPES})"),
        look(
            "--noise-ratio",
            type=float,
            metavar="X",
            help="share of noise in `--init content+noise`, from 0 to 1 (default: 0.6)",
        ),
    )


_start = all_of(_init(f"picture to start from: {_NAMED_STARTS} or an image FILE"), _seed)
# Neither an image nor a seed needs programs of its own.
_start_of_warm = _init(
    "start that later commands will name (an image FILE needs no programs of its own): "
    f"{_NAMED_STARTS}"
)

_colors, _realism = colors(f"{RECIPES}, style"), realism(f"{RECIPES}, 0, which changes nothing")

_controls = all_of(
    look(
        "--region",
        "regions",
        type=parsing.RegionType(),
        multiple=True,
        metavar="MASK:STYLE[:STYLE_MASK][:WEIGHT]",
        help="another style for a part of the content: MASK is a grey picture of the content's "
        "proportions, white inside; STYLE_MASK says which part of STYLE counts (default: all); WEIGHT "
        "is that of its style loss (default: 1, as that of the other style). May be repeated",
    ),
    look(
        "--regions",
        "region_maps",
        type=FILE,
        nargs=2,
        metavar="MAP STYLE_MAP",
        help="two colour-coded pictures, drawn over the content and over the style: each part of the "
        "content gets the style of the part of the same colour",
    ),
    look(
        "--protect",
        type=parsing.ProtectType(),
        multiple=True,
        callback=parsing.join_protect,
        metavar="MASK[:AMOUNT]",
        help="part of the content that stays as it is, white in MASK; AMOUNT from 0 to 1 (default: 1, "
        "which keeps its pixels). May be repeated with the same AMOUNT",
    ),
)

_controls_of_batch = all_of(
    look(
        "--region",
        "regions",
        type=parsing.RegionType(),
        multiple=True,
        metavar="MASK:STYLE[:STYLE_MASK][:WEIGHT]",
        help="another style for a part of every content, as in `stylize`. MASK is one picture for all, "
        "or a folder with a mask for each content, of the content's name",
    ),
    look(
        "--regions",
        "region_maps",
        type=FILE,
        nargs=2,
        metavar="MAP STYLE_MAP",
        help="two colour-coded pictures as in `stylize`, or folders with a map for each content, and "
        "for each style, of its name",
    ),
    protect_each,
)

_styles_of_batch = styles_for_each(
    "style pictures, one or more: files, folders, or patterns in quotes such as 'art/*.jpg'",
    "every content with every style",
)


def _style_fine(kind: Any = FILE) -> Decorator:
    """Return the option `--style-fine`; `kind` is click's type of its value."""
    return look(
        "--style-fine",
        type=kind,
        metavar="FILE",
        help="picture from which STYLE takes its fine structure, such as brush strokes; STYLE keeps "
        "its shapes. The two are combined first, in a run of their own",
    )


_axes = all_of(
    look(
        "--ratio",
        type=NUMBERS,
        metavar="X,...",
        help="content weights as multiples of the style weight, which stays as it is. In "
        "gatys-2015 the content loss is a sum over pixels, so 128 px need 16 times the ratio of 512 px "
        "for the same balance",
    ),
    look(
        "--layers",
        metavar="SETS",
        help="sets of style layers: cumulative (the first, the first two, ... all), single (each "
        "alone), or names such as relu1_1,relu1_1+relu2_1. Smaller sets get larger weights: the "
        "recipe's, times the number of all layers, divided by the number of layers in the set",
    ),
)

# --- Size -----------------------------------------------------------------------------------------

_style_size = size(
    "--style-size",
    metavar="SIZE",
    help="size of the style picture (default: as --size, or as the result where the recipe says so; "
    "beside --size 400x300 it keeps its proportions)",
)

_style_scale = size(
    "--style-scale",
    type=NUMBERS,
    metavar="X,...",
    help="factor by which the style is then made larger or smaller, such as 1.5: larger styles give "
    f"larger strokes. One number, or one for each style, separated by commas (default: {RECIPES}, 1)",
)

_shape = size(
    "--shape",
    type=parsing.Shape(),
    metavar="WIDTHxHEIGHT",
    help="size of the result in pixels, instead of pictures; the style is assumed to be as large",
)

# --- Output ---------------------------------------------------------------------------------------

_overwrite_finished = output(
    "--overwrite/--no-overwrite",
    default=None,
    help="replace files: --overwrite replaces any, and paints finished pictures again; --no-overwrite "
    "stops if a file in the way is not a finished picture (default: skip what is finished with these "
    "settings, replace other pictures of nst-jax, stop at any other file)",
)

_log_and_checkpoint = all_of(
    output(
        "--log",
        type=FILE,
        metavar="FILE.jsonl",
        help="file for the losses of every update, as JSON lines; replaced, and written during the run",
    ),
    output(
        "--checkpoint",
        type=FILE,
        metavar="FILE.h5",
        help="file for the state of the run: written about every 30 seconds, whenever the picture is "
        "enlarged, and when the run ends or is stopped. It is kept, so that more --steps can follow",
    ),
    output(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="updates between two checkpoints (default: about 30 seconds instead)",
    ),
    output(
        "--resume",
        is_flag=True,
        help="resume from --checkpoint with the result of an uninterrupted run; start from the "
        "beginning if the file does not exist. Pictures, weights and recipe must be the same",
    ),
)

_progress_files = all_of(
    watched(". Until the first, OUT has a preview by `nst-jax instant`"), _log_and_checkpoint
)

_FOR_BATCHES = (
    "auto: to the rectangles for which compiling and painting take the least time together. off: no "
    "padding; each shape has programs of its own"
)
_FOR_SWEEPS = "auto, off: no padding, since all canvases of a sweep have one shape"
_FOR_PICTURES = (
    "auto: on a GPU or TPU, to a square of the longer side of up to 1024 px, since compiling takes "
    "long there; on a CPU, no padding. off: no padding"
)


def _bucket(words: str, default: str = "off") -> Decorator:
    return memory(
        "--bucket",
        type=parsing.BucketSide(),
        default=default,
        metavar="auto|off|PIXELS",
        help="pad pictures to a square of this side, a multiple of 16, while they are painted: those "
        "of all shapes up to this size then share their compiled programs, with the same results; "
        f"computing the padding takes time. {words} (default: {default})",
    )


_files_of_batch = all_of(
    result("folder for the results (required)", required=True, metavar="DIR"),
    output(
        "--format",
        "suffix",
        type=click.Choice(["png", "jpg", "webp", "tiff"]),
        default="png",
        help="format of the results, which are named CONTENT_STYLE unless a manifest names them "
        "(default: png)",
    ),
    output("--sheet", is_flag=True, help="also write sheet.png, a contact sheet of all results"),
    output(
        "--outputs-anywhere",
        is_flag=True,
        help="let a manifest name outputs outside DIR, which are refused otherwise",
    ),
)

_json = output("--json", "as_json", is_flag=True, help="print one JSON object; memory is in bytes")

# --- Memory and devices ---------------------------------------------------------------------------

_computing = computing_with(RECIPES_PRECISION, f"{RECIPES}, ")

_devices_of_picture = devices(
    "GPUs or TPUs that share the picture, each with a horizontal band of it: less memory on each"
)

_devices_of_many = all_of(
    memory(
        "--chunk",
        type=click.IntRange(min=1),
        metavar="N",
        help="largest number of pictures painted at once, fewer if so many do not fit into memory "
        "(default: as many as fit, unless fewer are as fast)",
    ),
    devices("GPUs or TPUs that share the work, each with pictures of its own"),
    memory(
        "--bands",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="devices that share each picture, each with a horizontal band of it (default: 1)",
    ),
)

_devices_planned = memory(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="devices that share the picture, present here or not; --memory is what each of them has "
    "(default: 1)",
)

_cluster = memory(
    "--cluster",
    metavar="auto|HOST:PORT,N,I",
    help="processes that paint the picture together with the devices of all of them; start the same "
    "command in each. auto: jax finds them (SLURM, Open MPI, TPU pods). Else: the address at which the "
    "first process listens, the number of processes, and the index of this one, from 0. All need the "
    "same files under the same paths; only the first writes",
)

_sharing_a_batch = all_of(
    memory(
        "--shard",
        metavar="I/N",
        help="paint only part I of N, such as 1/4: start N commands, one for each I, here or on other "
        "machines, and together they paint everything",
    ),
    memory(
        "--runner",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="where the batch runs: in this process, or on the devices of a Ray cluster (needs "
        "the extra `ray`, as in `pip install '.[ray]'`): the one at $RAY_ADDRESS, or else this machine "
        "(default: local)",
    ),
)

_machine = all_of(
    memory(
        "--memory",
        type=parsing.ByteCount(),
        metavar="BYTES",
        help="memory to plan for, such as 24GB or 16GiB (default: what is available here)",
    ),
    memory(
        "--platform",
        type=click.Choice(["cpu", "gpu", "tpu"]),
        help="kind of device to plan for (default: the one here; for another kind give --memory, "
        "and no time is predicted)",
    ),
)

# --- Expert ---------------------------------------------------------------------------------------

_optimizer = expert(
    "--optimizer",
    metavar="NAME",
    help="optimizer with its usual settings: Adam, KerasAdam, RMSprop, DecayedSGD, TorchLBFGS or "
    f"LBFGS (default: {RECIPES})",
)


def _learning_rate(kind: Any = float) -> Decorator:
    return expert(
        "--lr",
        "learning_rate",
        type=kind,
        metavar="X" if kind is float else "X,...",
        help=f"learning rate, for optimizers that have one (default: {RECIPES})",
    )


_cache_of_rates = cache_for(
    "predict the time from the speed of earlier runs, which the user's cache folder has"
)

# --- Commands -------------------------------------------------------------------------------------

_of_default = f"{RECIPES}, {DEFAULT_SIZE}"

_run = all_of(metadata, _computing)

_network = all_of(values, layers(), _optimizer)

_wanted = all_of(
    recipe(),
    weights_of_terms(),
    strength,
    quality,
    _colors,
    _realism,
    _steps(f", {DEFAULT_STEPS}"),
    _start,
    size_of_picture(_of_default),
    _style_size,
    _style_scale,
)

stylize = all_of(
    pictures(stream=True),
    _wanted,
    _style_fine(FILE_OR_STREAM),
    _controls,
    result(
        "PNG, JPEG or TIFF file, or a film (see --film), by its suffix, or a folder, or - for standard "
        "output (default: CONTENT_STYLE.png in this folder)",
        stream=True,
    ),
    format_of_output,
    overwrite,
    _run,
    _progress_files,
    _devices_of_picture,
    _bucket(_FOR_PICTURES, "auto"),
    _cluster,
    _network,
    _learning_rate(),
    rest,
)

texture = all_of(
    click.argument("style", type=STYLE_OR_STREAM, nargs=-1, required=True, metavar="STYLE..."),
    recipe("gatys-texture"),
    _steps(", 2000 in gatys-texture"),
    _seed,
    size(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="size of the result in pixels, or the side of a square (default: as the style)",
    ),
    _style_size,
    _style_scale,
    size(
        "--tile-seamless",
        is_flag=True,
        help="let opposite borders of the result meet, so that it can be laid side by side; its sides "
        "are then multiples of 16 px",
    ),
    result(
        "PNG, JPEG or TIFF file, or a film (see --film), by its suffix, or a folder, or - for standard "
        "output (default: STYLE_texture.png in this folder)",
        stream=True,
    ),
    format_of_output,
    overwrite,
    _run,
    watched(),
    _log_and_checkpoint,
    _devices_of_picture,
    _network,
    _learning_rate(),
    rest,
)

batch = all_of(
    _contents,
    _styles_of_batch,
    _wanted,
    _style_fine(),
    _controls_of_batch,
    _files_of_batch,
    _overwrite_finished,
    _run,
    _devices_of_many,
    _bucket(_FOR_BATCHES),
    memory(
        "--compile-only",
        is_flag=True,
        help="compile and keep the programs that this command would run, and paint nothing: the same "
        "command without this option then compiles nothing, except for pictures with masks or "
        "transparent parts",
    ),
    _sharing_a_batch,
    _network,
    _learning_rate(),
    rest,
)

sweep = all_of(
    pictures(),
    _axes,
    _style_fine(),
    recipe(f"{SWEEP_RECIPE}; a ratio refers to the losses of this recipe", SWEEP_RECIPE),
    weights_of_terms(NUMBERS),
    strength,
    _colors,
    _realism,
    _controls,
    _steps(""),
    _start,
    size_of_picture(
        f"{SWEEP_SIZE}, since a sweep is many pictures",
        SWEEP_SIZE,
        "size in pixels, as the recipe measures it: in gatys-2015, the side of a square of "
        "the same area",
    ),
    _style_size,
    _style_scale,
    result(
        "PNG, JPEG, WebP or TIFF file for the grid, or a folder "
        "(default: CONTENT_STYLE_sweep.png in this folder)"
    ),
    overwrite,
    _run,
    _devices_of_many,
    _bucket(_FOR_SWEEPS),
    _network,
    _learning_rate(NUMBERS),
    rest,
)

plan = all_of(
    pictures(required=False),
    recipe(),
    _controls,
    _colors,
    _realism,
    quality,
    _steps(f", {DEFAULT_STEPS}"),
    size_of_picture(_of_default),
    _style_size,
    _style_scale,
    _shape,
    _json,
    _computing,
    _machine,
    _devices_planned,
    _bucket(_FOR_PICTURES, "auto"),
    _network,
    pool,
    _cache_of_rates,
    xla_logs,
)

warm = all_of(
    recipe(),
    _colors,
    _realism,
    _start_of_warm,
    size(
        "--size",
        multiple=True,
        metavar="SIZE",
        help=f"size of the pictures, as in `stylize`; may be repeated (default: {_of_default})",
    ),
    _style_size,
    _style_scale,
    _computing,
    memory(
        "--bucket",
        type=parsing.BucketSide(),
        default="auto",
        metavar="auto|PIXELS",
        help="side of the square to which pictures of all shapes are padded, a multiple of 16, as "
        "later commands will name it (default: auto, the longer side of the pictures, rounded up)",
    ),
    memory(
        "--batch",
        "batches",
        type=click.IntRange(min=1),
        multiple=True,
        metavar="N",
        help="also compile what `batch` runs for N pictures, which it paints in groups of up to 8; may "
        "be repeated",
    ),
    memory(
        "--instant",
        is_flag=True,
        help="compile what `instant` runs instead, for style pictures and the 26 styles; "
        "--batch N is then for N pictures of a folder; with --size, --style-size, --colors, "
        "--realism, --precision and --bucket only",
    ),
    _network,
    pool,
    weights_file,
    xla_logs,
    quiet,
)

demo = all_of(
    _steps(f", {DEFAULT_STEPS}"),
    size_of_picture(DEMO_SIZE, DEMO_SIZE),
    result("file for the result (default: demo.png)", default=Path("demo.png")),
    overwrite,
    weights_file,
    cache,
    xla_logs,
    quiet,
)
