"""The flags that several commands share, as click options."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nst_jax.app import parsing

FILE = click.Path(path_type=Path)


class Weighted(click.ParamType):
    """A file, or FILE:SHARE, as the pair (path, share or None)."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parsing.share_of(value)


Decorator = Callable[[Any], Any]


def _options(*decorators: Decorator) -> Decorator:
    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def pictures(output_help: str) -> Decorator:
    """Return the arguments of a command that reads a content and its styles and writes one file."""
    return _options(
        click.argument("content", type=FILE),
        click.argument("style", type=Weighted(), nargs=-1, required=True, metavar="STYLE..."),
        click.option("--output", "-o", type=FILE, metavar="OUT", help=output_help),
    )


quiet = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")

overwrite = click.option(
    "--overwrite/--no-overwrite", default=True, show_default=True, help="Replace existing files."
)

metadata = click.option(
    "--metadata/--no-metadata", default=True, show_default=True, help="Embed the settings."
)

cache = click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep compiled programs in the user's cache folder, for quicker starts.",
)

weights = click.option(
    "--weights", type=FILE, metavar="FILE", help="Weights file; else $NST_JAX_WEIGHTS, else ours."
)

size = click.option(
    "--size",
    metavar="SIZE",
    help="Pixels, in the meaning of the recipe's rule (mostly the longer side); or long:512, "
    "short:512, area:512, 400x300, as-is. Default: the recipe's.",
)

steps = click.option("--steps", type=int, metavar="N", help="Updates. Default: the recipe's.")

recipe = click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A name, see `nst-jax recipes`, or a .toml file, see `nst-jax recipes show NAME`. "
    "Default: the recipe named default.",
)

values = click.option(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value of the recipe by its key, such as descent.schedule=OneScale. May be repeated.",
)

seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="For starts that draw noise. Default: 0.",
)


class _DevicesType(click.ParamType):
    name = "devices"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Turn digits into a number; the word stays."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value


_chunk = click.option(
    "--chunk",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pictures at once, at most. Default: as many as are worth it and memory holds.",
)


def _shared(how: str) -> Decorator:
    return click.option(
        "--devices", type=_DevicesType(), metavar="N|all", help=f"{how} Default: one."
    )


_devices = _shared("Share the pictures among so many devices, each its own part.")

_rows = click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Let so many of the devices share the rows of each picture. Default: 1.",
)

devices = _shared("Share the picture's rows among so many devices: less memory on each.")

cluster = click.option(
    "--cluster",
    metavar="auto|HOST:PORT,N,I",
    help="Be one of several processes with the devices of all: start the same command in each. auto "
    "where jax finds them (SLURM, Open MPI, TPU pods); else where the first listens, how many "
    "there are, and which this is, from 0. All files under the same paths for all; the first writes.",
)


def together(command: Any) -> Any:
    """Add how many pictures are painted at once, and on what."""
    return _options(_chunk, _devices, _rows)(command)


def _weight(option: str, term: str, kind: Any = float) -> Decorator:
    help_line = f"Weight of {term}. Default: the recipe's."
    return click.option(option, type=kind, metavar=_metavar(kind), help=help_line)


def _learning_rate(kind: Any = float) -> Decorator:
    return click.option(
        "--lr",
        "learning_rate",
        type=kind,
        metavar=_metavar(kind),
        help="Learning rate, for recipes that have one. Default: the recipe's.",
    )


def _metavar(kind: Any) -> str:
    return "X" if kind is float else "X,..."


class Numbers(click.ParamType):
    """One number, or several with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers with commas between them, got {value!r}", param, ctx)


class Shape(click.ParamType):
    """WIDTHxHEIGHT in pixels, as the pair (height, width)."""

    name = "shape"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+)x(\d+)", value.strip().lower())
        if found is None:
            self.fail(f"expected WIDTHxHEIGHT such as 4096x3072, got {value!r}", param, ctx)
        return int(found[2]), int(found[1])


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Amount(click.ParamType):
    """A number of bytes with its unit."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]i?|)b", value.strip().lower())
        if found is None or not float(found[1]):
            self.fail(
                f"expected bytes with a unit such as 24GB or 16GiB, got {value!r}", param, ctx
            )
        return round(float(found[1]) * UNITS[found[2]])


_computing = _options(
    click.option(
        "--precision",
        metavar="NAME",
        help="float32 (all its bits in every product), tensorfloat32, bfloat16 (half the memory), "
        "or auto: bfloat16 on an accelerator, float32 on a processor. Default: the recipe's, "
        "float32.",
    ),
    click.option(
        "--tile",
        metavar="PX",
        help="Compute a large picture in tiles of about so many pixels a side: the same picture in "
        "less memory and more time; or off, or auto: where memory asks for it. Default: the "
        "recipe's, auto.",
    ),
)


_style_size = click.option(
    "--style-size", metavar="SIZE", help="The same for the style. Default: as SIZE."
)

_layers = _options(
    click.option(
        "--style-layer",
        multiple=True,
        metavar="NAME=WEIGHT",
        help="Repeat it: these style layers, such as relu3_1=0.5, in the place of the recipe's.",
    ),
    click.option(
        "--content-layer",
        multiple=True,
        metavar="NAME=WEIGHT",
        help="The same for the content.",
    ),
)

_trunk = _options(
    click.option(
        "--optimizer",
        metavar="NAME",
        help="Adam, KerasAdam, DecayedSGD, TorchLBFGS or LBFGS, with its defaults.",
    ),
    click.option("--pool", metavar="NAME", help="max or average. Default: the recipe's."),
)


def _transfer(
    recipe: Decorator, size: Decorator, *numbers: Decorator, replacing: Decorator = overwrite
) -> Decorator:
    return _options(
        recipe,
        values,
        size,
        _style_size,
        steps,
        click.option(
            "--init",
            metavar="START",
            help="content, style, noise, blank, content+noise or an image FILE. "
            "Default: the recipe's.",
        ),
        click.option(
            "--noise-ratio", type=float, metavar="X", help="Noise in content+noise, 0 to 1."
        ),
        seed,
        _weight("--content-weight", "the content"),
        *numbers,
        click.option(
            "--strength",
            type=float,
            metavar="S",
            help="0 to 1: multiplies the style's weight by 100^(2S - 1); 0.5 is the recipe's own.",
        ),
        _layers,
        _trunk,
        weights,
        _computing,
        metadata,
        replacing,
        cache,
        quiet,
    )


_single = (
    recipe,
    size,
    _weight("--style-weight", "the style"),
    _weight("--tv-weight", "total variation"),
    _learning_rate(),
)

transfer = _transfer(*_single)

plan = _options(
    click.argument("content", type=FILE, required=False),
    click.argument("style", type=Weighted(), nargs=-1, metavar="[STYLE]..."),
    click.option(
        "--shape",
        type=Shape(),
        metavar="WIDTHxHEIGHT",
        help="Pixels of the result, in the place of pictures; the style is taken to be as large.",
    ),
    click.option(
        "--memory",
        type=Amount(),
        metavar="BYTES",
        help="Plan for so much memory, such as 24GB or 16GiB. Default: what there is here.",
    ),
    click.option(
        "--platform",
        type=click.Choice(["cpu", "gpu", "tpu"]),
        help="Plan for such a device. Default: this one's; memory and speed of another are unknown.",
    ),
    recipe,
    values,
    size,
    _style_size,
    steps,
    _layers,
    _trunk,
    _computing,
    click.option(
        "--devices",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Plan for the rows on so many devices, here or not; memory is that of each. Default: 1.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in bytes."),
    cache,
)

batch = _options(
    click.option("--styles", type=FILE, multiple=True, metavar="STYLES...", help="One or more."),
    click.option(
        "--output", "-o", type=FILE, required=True, metavar="DIR", help="Folder of the results."
    ),
    click.option(
        "--pair",
        type=click.Choice(["all", "zip"]),
        default="all",
        show_default=True,
        help="Every content with every style, or the n-th with the n-th.",
    ),
    click.option(
        "--format",
        "suffix",
        type=click.Choice(["png", "jpg", "webp", "tiff"]),
        default="png",
        show_default=True,
        help="Of the results, which are named CONTENT_STYLE unless a manifest names them.",
    ),
    click.option("--sheet", is_flag=True, help="Also write a contact sheet, sheet.png."),
    click.option(
        "--shard",
        metavar="I/N",
        help="Paint the I-th of N parts, I from 1: every N-th bucket of pictures of one shape, 8 at "
        "most. N starts, one for each I, paint all.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["here", "ray"]),
        default="here",
        show_default=True,
        help="In this process, or on the devices of a Ray cluster (extra `ray`), which is what "
        "$RAY_ADDRESS names, or this machine.",
    ),
    together,
    _transfer(
        *_single,
        replacing=click.option(
            "--overwrite/--no-overwrite",
            default=None,
            help="Paint finished pictures anew, or refuse to replace a file that is none. Default: "
            "skip what is finished with these settings, replace all else.",
        ),
    ),
)


# The paper's ratios are those of the paper's losses, so its recipe is where they mean the same.
SWEEP_RECIPE, SWEEP_SIZE = "gatys-2015", "128"

LISTS = Numbers()

sweep = _options(
    click.option(
        "--ratio",
        type=LISTS,
        metavar="X,...",
        help="Content weight divided by style weight; the style weight stays. In gatys-2015 the "
        "content's loss is a sum over pixels: 128 px take 16 times the ratio of 512 px to keep as "
        "much content.",
    ),
    click.option(
        "--layers",
        metavar="SETS",
        help="Sets of style layers: cumulative (the first, the first two, ... all), single (each "
        "alone), or such as relu1_1,relu1_1+relu2_1. Weights are the recipe's, scaled by the number "
        "of all layers over that of the set's.",
    ),
    _transfer(
        click.option(
            "--recipe",
            metavar="NAME|FILE",
            default=SWEEP_RECIPE,
            show_default=True,
            help="As in `nst-jax stylize`. A ratio means what it does in this recipe's losses.",
        ),
        click.option(
            "--size",
            metavar="SIZE",
            default=SWEEP_SIZE,
            show_default=True,
            help="As in `nst-jax stylize`; small, since a sweep is many canvases.",
        ),
        _weight("--style-weight", "the style", LISTS),
        _weight("--tv-weight", "total variation", LISTS),
        _learning_rate(LISTS),
    ),
)
