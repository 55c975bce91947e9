"""The options of the commands, in the groups in which `--help` lists them."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from nst_jax.app import parsing

Decorator: TypeAlias = Callable[[Any], Any]

FILE = click.Path(path_type=Path)
STYLE_FILE, NUMBERS = parsing.StyleFile(), parsing.Numbers()

# Defaults that help texts state. A test compares the next three with the recipe `default`.
DEFAULT_SIZE, DEFAULT_STEPS, DEFAULT_PRECISION = "512", "90", "auto"
DEMO_SIZE = "256"  # pixels; painted in about a minute on two CPU cores
# Defaults of `sweep`; the size is in pixels. The ratios (content to style weight) in Gatys et al. 2015
# refer to the losses of that paper, so the recipe is that paper's.
SWEEP_RECIPE, SWEEP_SIZE = "gatys-2015", "128"

_RECIPES = "the recipe's"


def _in_group(group: str) -> Callable[..., Decorator]:
    return partial(click.option, cls=parsing.Option, group=group)


_look = _in_group(parsing.LOOK)
_size = _in_group(parsing.SIZE)
_output = _in_group(parsing.OUTPUT)
_memory = _in_group(parsing.MEMORY)
_expert = _in_group(parsing.EXPERT)
option = _in_group(parsing.OTHER)


def _all_of(*decorators: Decorator) -> Decorator:
    """Combine arguments and options; help lists them in this order within each group."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


# --- Arguments ------------------------------------------------------------------------------------

_pictures = _all_of(
    click.argument("content", type=FILE),
    click.argument("style", type=STYLE_FILE, nargs=-1, required=True, metavar="STYLE..."),
)

_optional_pictures = _all_of(
    click.argument("content", type=FILE, required=False),
    click.argument("style", type=STYLE_FILE, nargs=-1, metavar="[STYLE]..."),
)

_contents = click.argument("contents", type=FILE, nargs=-1, required=True)


# --- Look -----------------------------------------------------------------------------------------


def _recipe(default: str = "`default`", value: str | None = None) -> Decorator:
    return _look(
        "--recipe",
        metavar="NAME|FILE",
        default=value,
        help="recipe: a name from `nst-jax recipes`, or a .toml file made with `recipes show NAME` "
        f"(default: {default})",
    )


def _steps(default: str) -> Decorator:
    return _look(
        "--steps",
        type=int,
        metavar="N",
        help=f"number of updates: how often the picture is changed (default: {_RECIPES}{default})",
    )


def _weight(option: str, term: str, kind: Any = float) -> Decorator:
    metavar = "X" if kind is float else "X,..."
    text = f"weight of {term} (default: {_RECIPES})"
    return _look(option, type=kind, metavar=metavar, help=text)


def _weights_of_terms(kind: Any = float) -> Decorator:
    return _all_of(
        _weight("--style-weight", "the style loss", kind),
        _weight("--content-weight", "the content loss"),
        _weight("--tv-weight", "the total variation loss, which smooths", kind),
    )


_strength = _look(
    "--strength",
    type=float,
    metavar="S",
    help="strength of the style, from 0 to 1: multiplies the style weight by 100^(2S-1), so by 0.01 to "
    "100 (default: 0.5, which changes nothing)",
)

_seed = _look(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="number from which random noise is made; the same seed gives the same noise (default: 0)",
)

_start = _all_of(
    _look(
        "--init",
        metavar="START",
        help="picture to start from: content, style, noise, blank, content+noise, instant (what "
        f"`nst-jax instant` paints of the pictures) or an image FILE (default: {_RECIPES})",
    ),
    _look(
        "--noise-ratio",
        type=float,
        metavar="X",
        help="share of noise in `--init content+noise`, from 0 to 1 (default: 0.6)",
    ),
    _seed,
)

_styles_of_batch = _all_of(
    _look(
        "--styles",
        type=FILE,
        multiple=True,
        metavar="STYLES...",
        help="style pictures, one or more: files, folders, or patterns in quotes such as 'art/*.jpg'",
    ),
    _look(
        "--pair",
        type=click.Choice(["all", "zip"]),
        default="all",
        help="pairing: every content with every style, or the n-th content with the n-th style "
        "(default: all)",
    ),
)

_styles_of_instant = _all_of(
    _look(
        "--list",
        "listed",
        is_flag=True,
        help="print the 26 styles; with CONTENT, paint it in all of them, on one sheet (default: "
        "CONTENT_styles.png in this folder)",
    ),
    _look(
        "--styles",
        type=FILE,
        multiple=True,
        metavar="STYLES...",
        help="several styles for each content: names, files, folders, or patterns in quotes",
    ),
    _look(
        "--pair",
        type=click.Choice(["all", "zip"]),
        default="all",
        help="pairing: every content with every style of --styles, or the n-th content with the n-th "
        "style (default: all)",
    ),
    _look(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="from 0, the content's own style, to 1, the style; for style pictures (default: 1)",
    ),
)

_axes = _all_of(
    _look(
        "--ratio",
        type=NUMBERS,
        metavar="X,...",
        help="content weights as multiples of the style weight, which stays as it is. In "
        "gatys-2015 the content loss is a sum over pixels, so 128 px need 16 times the ratio of 512 px "
        "for the same balance",
    ),
    _look(
        "--layers",
        metavar="SETS",
        help="sets of style layers: cumulative (the first, the first two, ... all), single (each "
        "alone), or names such as relu1_1,relu1_1+relu2_1. Smaller sets get larger weights: the "
        "recipe's, times the number of all layers, divided by the number of layers in the set",
    ),
)


# --- Size -----------------------------------------------------------------------------------------


def _size_of_picture(
    default: str,
    value: str | None = None,
    measured: str = "longer side in pixels, unless the recipe measures otherwise",
) -> Decorator:
    return _size(
        "--size",
        metavar="SIZE",
        default=value,
        help=f"{measured} (default: {default}). Or as-is, 400x300, or a measure by name: long:512, "
        "short:512, area:512 (as many pixels as 512x512)",
    )


_style_size = _size(
    "--style-size",
    metavar="SIZE",
    help="size of the style picture (default: as --size, or as the result where the recipe says so; "
    "beside --size 400x300 it keeps its proportions)",
)

_shape = _size(
    "--shape",
    type=parsing.Shape(),
    metavar="WIDTHxHEIGHT",
    help="size of the result in pixels, instead of pictures; the style is assumed to be as large",
)


# --- Output ---------------------------------------------------------------------------------------


def result(text: str, *, name: str = "output", **settings: Any) -> Decorator:
    """Return the option `--output`; `name` is the parameter that gets its value."""
    return _output("--output", "-o", name, type=FILE, help=text, **{"metavar": "OUT"} | settings)


overwrite = _output(
    "--overwrite/--no-overwrite", default=True, help="replace existing files (default: yes)"
)

_overwrite_finished = _output(
    "--overwrite/--no-overwrite",
    default=None,
    help="replace files: --overwrite replaces any, and paints finished pictures again; --no-overwrite "
    "stops if a file in the way is not a finished picture (default: skip what is finished with these "
    "settings, replace other pictures of nst-jax, stop at any other file)",
)

_metadata = _output(
    "--metadata/--no-metadata",
    default=True,
    help="embed the settings in the picture (default: yes)",
)

_progress_files = _all_of(
    _output(
        "--every",
        type=int,
        metavar="N",
        help="updates between two writes of OUT during the run, small at first if the recipe paints "
        "from coarse to fine; before the first, OUT shows what `nst-jax instant` paints (default: OUT "
        "is written at the end)",
    ),
    _output(
        "--frames",
        type=FILE,
        metavar="DIR",
        help="folder for numbered pictures of the run, all of the final size: the start, one every N "
        "updates (--every, default: 50) and the result",
    ),
    _output(
        "--log",
        type=FILE,
        metavar="FILE.jsonl",
        help="file for the losses of every update, as JSON lines; replaced, and written during the run",
    ),
    _output(
        "--checkpoint",
        type=FILE,
        metavar="FILE.h5",
        help="file for the state of the run: written about every 30 seconds, whenever the picture is "
        "enlarged, and when the run ends or is stopped. It is kept, so that more --steps can follow",
    ),
    _output(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="updates between two checkpoints (default: about 30 seconds instead)",
    ),
    _output(
        "--resume",
        is_flag=True,
        help="resume from --checkpoint with the result of an uninterrupted run; start from the "
        "beginning if the file does not exist. Pictures, weights and recipe must be the same",
    ),
)

_files_of_batch = _all_of(
    result("folder for the results (required)", required=True, metavar="DIR"),
    _output(
        "--format",
        "suffix",
        type=click.Choice(["png", "jpg", "webp", "tiff"]),
        default="png",
        help="format of the results, which are named CONTENT_STYLE unless a manifest names them "
        "(default: png)",
    ),
    _output("--sheet", is_flag=True, help="also write sheet.png, a contact sheet of all results"),
    _output(
        "--outputs-anywhere",
        is_flag=True,
        help="let a manifest name outputs outside DIR, which are refused otherwise",
    ),
)

_files_of_instant = _all_of(
    result(
        "PNG, JPEG, WebP or TIFF file, by its suffix, or a folder; several results need a folder "
        "(default: CONTENT_STYLE.png in this folder)"
    ),
    _output(
        "--format",
        "suffix",
        type=click.Choice(["png", "jpg", "webp", "tiff"]),
        help="format of several results, which are named CONTENT_STYLE (default: png)",
    ),
    _output(
        "--sheet", is_flag=True, help="also write sheet.png, a contact sheet of several results"
    ),
    _output(
        "--overwrite/--no-overwrite",
        default=None,
        help="replace existing files (default: yes; of several results, skip what is finished with "
        "these settings, replace other pictures of nst-jax, stop at any other file)",
    ),
)

_json = _output("--json", "as_json", is_flag=True, help="print one JSON object; memory is in bytes")

_quiet = option("--quiet", "-q", is_flag=True, help="print nothing but errors")


# --- Memory and devices ---------------------------------------------------------------------------

_precision = _memory(
    "--precision",
    metavar="NAME",
    help="number format of the network: float32, tensorfloat32, bfloat16 (half the memory), or "
    "auto: float32 on a CPU; on a GPU or TPU what the recipe says, which is bfloat16 in "
    f"`default` and tensorfloat32 in published recipes (default: {_RECIPES}, {DEFAULT_PRECISION})",
)

_computing = _all_of(
    _precision,
    _memory(
        "--tile",
        metavar="PX",
        help="side of the tiles in which a large picture is computed, in pixels: less memory and more "
        f"time for the same picture. Or off, or auto: only if memory requires it (default: {_RECIPES}, "
        "auto)",
    ),
)


def _devices(text: str) -> Decorator:
    return _memory(
        "--devices", type=parsing.DeviceCount(), metavar="N|all", help=f"{text} (default: 1)"
    )


_devices_of_picture = _devices(
    "GPUs or TPUs that share the picture, each with a horizontal band of it: less memory on each"
)

_devices_of_many = _all_of(
    _memory(
        "--chunk",
        type=click.IntRange(min=1),
        metavar="N",
        help="largest number of pictures painted at once (default: what memory allows, until more gain "
        "no speed)",
    ),
    _devices("GPUs or TPUs that share the work, each with pictures of its own"),
    _memory(
        "--bands",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="devices that share each picture, each with a horizontal band of it (default: 1)",
    ),
)

_devices_planned = _memory(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="devices that share the picture, present here or not; --memory is what each of them has "
    "(default: 1)",
)

_cluster = _memory(
    "--cluster",
    metavar="auto|HOST:PORT,N,I",
    help="processes that paint the picture together with the devices of all of them; start the same "
    "command in each. auto: jax finds them (SLURM, Open MPI, TPU pods). Else: the address at which the "
    "first process listens, the number of processes, and the index of this one, from 0. All need the "
    "same files under the same paths; only the first writes",
)

_sharing_a_batch = _all_of(
    _memory(
        "--shard",
        metavar="I/N",
        help="paint only part I of N, such as 1/4: start N commands, one for each I, here or on other "
        "machines, and together they paint everything",
    ),
    _memory(
        "--runner",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="where the batch runs: in this process, or on the devices of a Ray cluster (needs "
        "the extra `ray`, as in `pip install '.[ray]'`): the one at $RAY_ADDRESS, or else this machine "
        "(default: local)",
    ),
)

_machine = _all_of(
    _memory(
        "--memory",
        type=parsing.ByteCount(),
        metavar="BYTES",
        help="memory to plan for, such as 24GB or 16GiB (default: what is available here)",
    ),
    _memory(
        "--platform",
        type=click.Choice(["cpu", "gpu", "tpu"]),
        help="kind of device to plan for (default: the one here; for another kind give --memory, "
        "and no time is predicted)",
    ),
)


# --- Expert ---------------------------------------------------------------------------------------

_values = _expert(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="any value of the recipe by its key, such as descent.schedule=OneScale; `nst-jax recipes show "
    "NAME` prints all keys; may be repeated",
)

_layers = _all_of(
    _expert(
        "--style-layer",
        multiple=True,
        metavar="NAME=WEIGHT",
        help="style layer (relu1_1 to relu5_4) and its weight, such as relu3_1=0.5; may be repeated, "
        "and replaces all style layers of the recipe",
    ),
    _expert(
        "--content-layer",
        multiple=True,
        metavar="NAME=WEIGHT",
        help="content layer and its weight; as --style-layer",
    ),
)

_optimizer = _expert(
    "--optimizer",
    metavar="NAME",
    help="optimizer with its usual settings: Adam, KerasAdam, DecayedSGD, TorchLBFGS or LBFGS "
    f"(default: {_RECIPES})",
)


def _learning_rate(kind: Any = float) -> Decorator:
    return _expert(
        "--lr",
        "learning_rate",
        type=kind,
        metavar="X" if kind is float else "X,...",
        help=f"learning rate, for optimizers that have one (default: {_RECIPES})",
    )


_pool = _expert(
    "--pool", metavar="NAME", help=f"pooling of the network: max or average (default: {_RECIPES})"
)

_weights_file = _expert(
    "--weights",
    type=FILE,
    metavar="FILE",
    help="weights file of VGG-19 (default: $NST_JAX_WEIGHTS, else the file in the package)",
)


def _cache_for(text: str) -> Decorator:
    return _expert("--cache/--no-cache", default=True, help=f"{text} (default: yes)")


_cache = _cache_for(
    "keep compiled programs in the user's cache folder, so that later starts are quicker"
)
_cache_of_rates = _cache_for(
    "predict the time from the speed of earlier runs, which the user's cache folder has"
)

XLA_LOGS = "TF_CPP_MIN_LOG_LEVEL"  # environment variable: least level of XLA's messages; 0: all


def _show_xla_logs(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Let XLA print all its messages; called while flags are parsed, before jax is imported."""
    del ctx, param
    if value:
        os.environ[XLA_LOGS] = "0"


_xla_logs = _expert(
    "--xla-logs",
    is_flag=True,
    expose_value=False,
    callback=_show_xla_logs,
    help=f"print the messages of XLA, jax's compiler (default: no, or as ${XLA_LOGS} says)",
)


# --- Training -------------------------------------------------------------------------------------

# Defaults that help texts state; a test compares them with those of `nst_jax.train`.
TRAIN_STEPS, TRAIN_BATCH, TRAIN_CROP, TRAIN_LEARNING_RATE, TRAIN_EVERY = 4000, 4, 256, 1e-3, 200
TRAIN_BLOCKS = 5

_paintings = click.argument("paintings", type=FILE, nargs=-1, required=True, metavar="PAINTING...")

_photos = _look(
    "--photos",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FOLDER",
    help="folder of photos to train on, or a pattern in quotes such as 'photos/*.jpg'; may be repeated "
    "(required)",
)

_of_training = _all_of(
    _look(
        "--steps",
        type=click.IntRange(min=1),
        default=TRAIN_STEPS,
        metavar="N",
        help=f"number of updates of the network (default: {TRAIN_STEPS})",
    ),
    _look(
        "--width",
        type=float,
        default=1.0,
        metavar="X",
        help="factor of the network's numbers of channels; a narrow network paints faster and less "
        "finely (default: 1)",
    ),
    _look(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
        help="number from which the fresh network and all crops are drawn (default: 0)",
    ),
)

_size_of_crops = _all_of(
    _size(
        "--crop",
        type=int,
        default=TRAIN_CROP,
        metavar="PX",
        help=f"side of the crops that are cut from photos (default: {TRAIN_CROP})",
    ),
    _size(
        "--style-size",
        metavar="SIZE",
        help=f"size of the paintings; a larger one gives larger strokes (default: {_RECIPES}, "
        f"{DEFAULT_SIZE})",
    ),
)

_training_files = _all_of(
    _output(
        "--samples/--no-samples",
        default=True,
        help="write OUT_samples.png, photos that are held out as the network paints them so far "
        "(default: yes)",
    ),
    _output(
        "--every",
        type=click.IntRange(min=1),
        default=TRAIN_EVERY,
        metavar="N",
        help="updates between two measurements of the loss of photos that are held out, by which the "
        f"best network is kept (default: {TRAIN_EVERY})",
    ),
    _output(
        "--checkpoint",
        type=FILE,
        metavar="FILE.h5",
        help="file for the state of the training, written about every 30 seconds and at the end; it is "
        "kept, so that more --steps can follow (default: OUT.checkpoint.h5)",
    ),
    _output(
        "--resume",
        is_flag=True,
        help="resume from the checkpoint with the result of an uninterrupted training; start from the "
        "beginning if it does not exist. All inputs and options but --steps must be the same",
    ),
)

_batch_of_crops = _memory(
    "--batch",
    type=int,
    default=TRAIN_BATCH,
    metavar="N",
    help=f"crops in an update, divided among the devices (default: {TRAIN_BATCH})",
)

_blocks = _expert(
    "--blocks",
    type=int,
    default=TRAIN_BLOCKS,
    metavar="N",
    help=f"residual blocks of the network (default: {TRAIN_BLOCKS})",
)

_rate_of_training = _expert(
    "--lr",
    "learning_rate",
    type=float,
    default=TRAIN_LEARNING_RATE,
    metavar="X",
    help=f"learning rate of Adam (default: {TRAIN_LEARNING_RATE:g})",
)


# --- Commands -------------------------------------------------------------------------------------

_of_default = f"{_RECIPES}, {DEFAULT_SIZE}"

_run = _all_of(_metadata, _computing)
_network = _all_of(_values, _layers, _optimizer)
_rest = _all_of(_pool, _weights_file, _cache, _xla_logs, _quiet)

stylize = _all_of(
    _pictures,
    _recipe(),
    _weights_of_terms(),
    _strength,
    _steps(f", {DEFAULT_STEPS}"),
    _start,
    _size_of_picture(_of_default),
    _style_size,
    result(
        "PNG, JPEG, WebP or TIFF file, by its suffix, or a folder (default: CONTENT_STYLE.png in this "
        "folder)"
    ),
    overwrite,
    _run,
    _progress_files,
    _devices_of_picture,
    _cluster,
    _network,
    _learning_rate(),
    _rest,
)

batch = _all_of(
    _contents,
    _styles_of_batch,
    _recipe(),
    _weights_of_terms(),
    _strength,
    _steps(f", {DEFAULT_STEPS}"),
    _start,
    _size_of_picture(_of_default),
    _style_size,
    _files_of_batch,
    _overwrite_finished,
    _run,
    _devices_of_many,
    _sharing_a_batch,
    _network,
    _learning_rate(),
    _rest,
)

sweep = _all_of(
    _pictures,
    _axes,
    _recipe(f"{SWEEP_RECIPE}; a ratio refers to the losses of this recipe", SWEEP_RECIPE),
    _weights_of_terms(NUMBERS),
    _strength,
    _steps(""),
    _start,
    _size_of_picture(
        f"{SWEEP_SIZE}, since a sweep is many pictures",
        SWEEP_SIZE,
        "size in pixels, as the recipe measures it: in gatys-2015, the side of a square of "
        "the same area",
    ),
    _style_size,
    result(
        "PNG, JPEG, WebP or TIFF file for the grid, or a folder "
        "(default: CONTENT_STYLE_sweep.png in this folder)"
    ),
    overwrite,
    _run,
    _devices_of_many,
    _network,
    _learning_rate(NUMBERS),
    _rest,
)

plan = _all_of(
    _optional_pictures,
    _recipe(),
    _steps(f", {DEFAULT_STEPS}"),
    _size_of_picture(_of_default),
    _style_size,
    _shape,
    _json,
    _computing,
    _machine,
    _devices_planned,
    _network,
    _pool,
    _cache_of_rates,
    _xla_logs,
)

instant = _all_of(
    _optional_pictures,
    _styles_of_instant,
    _size_of_picture(DEFAULT_SIZE, measured="longer side in pixels"),
    _size(
        "--style-size",
        metavar="SIZE",
        help="size of style pictures (default: short:256, which the network was trained on)",
    ),
    _files_of_instant,
    _metadata,
    _memory(
        "--precision",
        metavar="NAME",
        default="auto",
        help="number format of the network: float32, tensorfloat32, bfloat16, or auto: float32 on a "
        "CPU, tensorfloat32 on a GPU or TPU (default: auto)",
    ),
    _cache,
    _xla_logs,
    _quiet,
)

_exported_file = _all_of(
    option(
        "--to",
        required=True,
        metavar="FORMAT",
        help="format of the file: stablehlo (an .npz archive for jax.export and NumPy), onnx (needs "
        "the extra `onnx`), or tflite (TensorFlow Lite; needs the extra `tflite`) (required)",
    ),
    result("file to write (required)", required=True, metavar="FILE"),
    overwrite,
    _output(
        "--encoding",
        default="float32",
        metavar="NAME",
        help="how kernels are stored: float32, float16 (half the bytes) or int8 (a quarter) "
        "(default: float32)",
    ),
    _output(
        "--program",
        metavar="NAME",
        help="which program of the model to write (default: the main one; a stablehlo file has all)",
    ),
)

_exported_sizes = _all_of(
    _size(
        "--size",
        "shape",
        type=parsing.ShapeOrAny(),
        metavar="WIDTHxHEIGHT|any",
        help="size in pixels of the pictures that the file takes (default: any in stablehlo, and for "
        "features in onnx; else 384x384)",
    ),
    _size(
        "--style-size",
        "style_shape",
        type=parsing.ShapeOrAny(),
        metavar="WIDTHxHEIGHT|any",
        help="the same of pictures of a style, where the model takes them (default: any beside --size "
        "any; else 256x256 for arbitrary, as --size for step)",
    ),
)

export = _all_of(
    click.argument("model", metavar="MODEL|FILE"),
    _exported_file,
    _exported_sizes,
    _recipe(),
    option(
        "--tap",
        "taps",
        multiple=True,
        metavar="NAME",
        help="for features: layer whose output the file returns, such as relu4_2; may be repeated "
        "(default: all that the recipe reads)",
    ),
    _values,
    _weights_file,
)

demo = _all_of(
    _steps(f", {DEFAULT_STEPS}"),
    _size_of_picture(DEMO_SIZE, DEMO_SIZE),
    result("file for the result (default: demo.png)", default=Path("demo.png")),
    overwrite,
    _weights_file,
    _cache,
    _xla_logs,
    _quiet,
)

train = _all_of(
    _paintings,
    _photos,
    _recipe(),
    _weights_of_terms(),
    _strength,
    _of_training,
    _size_of_crops,
    result("file for the trained network (required)", required=True, metavar="OUT.h5"),
    overwrite,
    _training_files,
    _precision,
    _batch_of_crops,
    _devices("GPUs or TPUs that share the crops of each update"),
    _values,
    _layers,
    _rate_of_training,
    _blocks,
    _rest,
)
