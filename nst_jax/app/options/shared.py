"""Options of the command line that several commands share, such as `--quiet`."""

import os
from typing import Any

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import (
    DEFAULT_PRECISION,
    FILE,
    FILE_OR_STREAM,
    FILM_SECONDS,
    RECIPES,
    STYLE_FILE,
    STYLE_OR_STREAM,
    Decorator,
    all_of,
    expert,
    look,
    memory,
    option,
    output,
    size,
)

# --- Arguments ------------------------------------------------------------------------------------


def pictures(*, required: bool = True, stream: bool = False) -> Decorator:
    """Return the arguments CONTENT and STYLE..., whose values are a path and pairs (path, share).

    Args:
      required: whether both must be given.
      stream: whether one of the pictures may be `-`, standard input.
    """
    content, style = (FILE_OR_STREAM, STYLE_OR_STREAM) if stream else (FILE, STYLE_FILE)
    many = "STYLE..." if required else "[STYLE]..."
    return all_of(
        click.argument("content", type=content, required=required),
        click.argument("style", type=style, nargs=-1, required=required, metavar=many),
    )


# --- Look -----------------------------------------------------------------------------------------


def recipe(default: str = "`default`", value: str | None = None) -> Decorator:
    """Return the option `--recipe`.

    Args:
      default: how `--help` describes the default.
      value: the value if users do not give the option; None lets the command decide.
    """
    return look(
        "--recipe",
        metavar="NAME|FILE",
        default=value,
        help="recipe: a name from `nst-jax recipes`, or a .toml file made with `recipes show NAME` "
        f"(default: {default})",
    )


def _weight(option: str, term: str, kind: Any = float) -> Decorator:
    metavar = "X" if kind is float else "X,..."
    text = f"weight of {term} (default: {RECIPES})"
    return look(option, type=kind, metavar=metavar, help=text)


def weights_of_terms(kind: Any = float) -> Decorator:
    """Return the options of the weights of the style, content and total variation losses.

    Args:
      kind: click's type for the values of the style and total variation weights. In `sweep`, for
        instance, it is a list of numbers. The content weight is always one number.
    """
    return all_of(
        _weight("--style-weight", "the style loss", kind),
        _weight("--content-weight", "the content loss"),
        _weight("--tv-weight", "the total variation loss, which smooths", kind),
    )


strength = look(
    "--strength",
    type=float,
    metavar="S",
    help="strength of the style, from 0 (the photo with a hint of it) to 1 (the strongest that still "
    "shows the photo), in steps that look equal (default: 0.85, the recipe's own style weight)",
)


def colors(default: str) -> Decorator:
    """Return the option `--colors`; `default` is what `--help` shows as its default value."""
    return look(
        "--colors",
        metavar="NAME",
        help="whose colours the result has: style; content (the style is recoloured before); luminance "
        "(only light and shade are painted); content-after (the photo's hues over the result); or "
        f"palette (exactly those of the style) (default: {default})",
    )


def realism(default: str) -> Decorator:
    """Return the option `--realism`; `default` is what `--help` shows as its default value."""
    return look(
        "--realism",
        type=float,
        metavar="R",
        help=f"from 0 to 1: bring the result back to the edges of the photo (default: {default})",
    )


protect_each = look(
    "--protect",
    type=parsing.ProtectType(),
    multiple=True,
    callback=parsing.join_protect,
    metavar="MASK[:AMOUNT]",
    help="part of every content that stays as it is, as in `stylize`; MASK is one picture, or a folder "
    "with a mask for each content, of its name. May be repeated with the same AMOUNT",
)

quality = look(
    "--quality",
    metavar="NAME",
    help="draft, good or best: 30, 90 or 300 updates (default: good); only of `default` and `gram`: "
    "a published recipe has the updates of its source",
)


def styles_for_each(styles: str, pairs: str) -> Decorator:
    """Return the options `--styles` and `--pair`: which contents are painted with which styles.

    Args:
      styles: the help text of `--styles`.
      pairs: a phrase for the help text of `--pair` that says what its default, `all`, does.
    """
    return all_of(
        look("--styles", type=FILE, multiple=True, metavar="STYLES...", help=styles),
        look(
            "--pair",
            type=click.Choice(["all", "zip"]),
            default="all",
            help=f"pairing: {pairs}, or the n-th content with the n-th style (default: all)",
        ),
    )


# --- Size -----------------------------------------------------------------------------------------


def size_of_picture(
    default: str,
    value: str | None = None,
    measured: str = "longer side in pixels, unless the recipe measures otherwise",
) -> Decorator:
    """Return the option `--size`.

    Args:
      default: how `--help` describes the default.
      value: the value if users do not give the option; None lets the recipe or the command decide.
      measured: how `--help` describes what a plain number measures, such as the longer side.
    """
    return size(
        "--size",
        metavar="SIZE",
        default=value,
        help=f"{measured} (default: {default}). Or as-is, 400x300, or a measure by name: long:512, "
        "short:512, area:512 (as many pixels as 512x512). Or paper with its pixels per inch, such as "
        "a4@150, letter@300 or 20x30cm@300, on which the result fits",
    )


# --- Output ---------------------------------------------------------------------------------------


def result(text: str, *, name: str = "output", stream: bool = False, **settings: Any) -> Decorator:
    """Return the option `--output`.

    Args:
      text: the help text of the option.
      name: name of the command's parameter that gets the option's value.
      stream: whether the value may be `-`, standard output.
      **settings: further arguments of `click.option`.
    """
    settings = {"type": FILE_OR_STREAM if stream else FILE, "metavar": "OUT"} | settings
    return output("--output", "-o", name, help=text, **settings)


format_of_output = output(
    "--format",
    "suffix",
    type=click.Choice(["png", "jpg", "webp", "tiff"]),
    help="format of the picture for standard output, `-o -` (default: png); with -o out.webp, `webp` "
    "means a picture and not a film",
)

overwrite = output(
    "--overwrite/--no-overwrite", default=True, help="replace existing files (default: yes)"
)

metadata = output(
    "--metadata/--no-metadata",
    default=True,
    help="embed the settings in the picture (default: yes)",
)


def watched(
    before: str = "", smaller: str = "smaller at first if the recipe paints from coarse to fine"
) -> Decorator:
    """Return the options that show how a picture develops.

    They are `--every`, `--film`, `--film-seconds` and `--frames`.

    Args:
      before: words for the help text of `--every` that say what the result's file, OUT, shows at first;
        may be empty.
      smaller: words for the help text of `--every` that say when these pictures are smaller than the
        result.
    """
    return all_of(
        output(
            "--every",
            type=int,
            metavar="N",
            help=f"write the picture so far to OUT every N updates, {smaller}{before} (default: only "
            "the result is written)",
        ),
        output(
            "--film",
            type=FILE,
            metavar="FILM",
            help="film of the run, all of it in the final size: .gif, .webp, .apng, or .mp4 (needs the "
            "extra `film`); -o out.gif, .webp, .apng or .mp4 writes it beside the picture out.png",
        ),
        output(
            "--film-seconds",
            type=float,
            metavar="S",
            help="length of the film, of at most 12.5 frames per second: one every N updates with "
            f"--every, else as many as fit (default: {FILM_SECONDS:g})",
        ),
        output(
            "--frames",
            type=FILE,
            metavar="DIR",
            help="folder for numbered pictures of the run, all of the final size: the start, one "
            "every N updates (--every, default: 50) and the result",
        ),
    )


quiet = option("--quiet", "-q", is_flag=True, help="print nothing but errors")

# --- Memory and devices ---------------------------------------------------------------------------


def precision_with(precision: str, default: str) -> Decorator:
    """Return the option `--precision`.

    Args:
      precision: words for the help text: what `--precision auto` means on a GPU or TPU.
      default: words that come before the default in the help text, such as "the recipe's, "; may be
        empty.
    """
    return memory(
        "--precision",
        metavar="NAME",
        help="number format of the network: float32, tensorfloat32, bfloat16 (half the memory), or "
        f"auto: float32 on a CPU; on a GPU or TPU {precision} (default: {default}{DEFAULT_PRECISION})",
    )


def computing_with(precision: str, default: str) -> Decorator:
    """Return the options `--precision` and `--tile`.

    Args:
      precision: how `--help` describes what `--precision auto` means on a GPU or TPU.
      default: text that help texts put before the default of both options, such as "the recipe's, " if
        the recipe decides; may be empty.
    """
    return all_of(
        precision_with(precision, default),
        memory(
            "--tile",
            metavar="PX",
            help="side of the tiles in which a large picture is computed, in pixels: less memory and "
            "more time for the same picture. Or off, or auto: only if memory requires it "
            f"(default: {default}auto)",
        ),
    )


RECIPES_PRECISION = (
    "what the recipe says, which is bfloat16 in `default` and tensorfloat32 in published recipes"
)


def devices(text: str) -> Decorator:
    """Return the option `--devices`, which `--help` describes by `text`."""
    return memory(
        "--devices", type=parsing.DeviceCount(), metavar="N|all", help=f"{text} (default: 1)"
    )


# --- Expert ---------------------------------------------------------------------------------------

values = expert(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="any value of the recipe by its key, such as descent.schedule=OneScale; `nst-jax recipes show "
    "NAME` prints all keys; may be repeated",
)


def layers(*, files: bool = True) -> Decorator:
    """Return the options `--style-layer` and `--content-layer`.

    Args:
      files: whether a picture may be the style of a single layer.
    """
    of_files = (
        ". NAME=FILE keeps them, and takes the style of this layer from another picture, such as "
        "relu1_1=fine.jpg. NAME=WEIGHT:FILE does both"
    )
    return all_of(
        expert(
            "--style-layer",
            multiple=True,
            metavar="NAME=WEIGHT",
            help="style layer (relu1_1 to relu5_4) and its weight, such as relu3_1=0.5; may be "
            "repeated, and replaces all style layers of the recipe" + (of_files if files else ""),
        ),
        expert(
            "--content-layer",
            multiple=True,
            metavar="NAME=WEIGHT",
            help="content layer and its weight, such as relu4_2=1; may be repeated, and replaces all "
            "content layers of the recipe",
        ),
    )


pool = expert(
    "--pool",
    metavar="NAME",
    help=f"pooling of the network: max, average, scaled_average or l2 (default: {RECIPES})",
)

weights_file = expert(
    "--weights",
    type=FILE,
    metavar="FILE",
    help="weights file of VGG-19 (default: $NST_JAX_WEIGHTS, else the file in the package)",
)


def cache_for(text: str) -> Decorator:
    """Return a decorator that gives a command the option `--cache/--no-cache` with the help `text`."""
    return expert("--cache/--no-cache", default=True, help=f"{text} (default: yes)")


cache = cache_for(
    "keep compiled programs in the user's cache folder, so that later starts are quicker"
)

# Name of the environment variable for the lowest level of messages that XLA prints; 0 prints all.
XLA_LOGS = "TF_CPP_MIN_LOG_LEVEL"


def _show_xla_logs(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Let XLA print all its messages, if the user has given `--xla-logs`.

    This function sets an environment variable before JAX is imported, since JAX reads the variable
    while it is imported.
    """
    del ctx, param
    if value:
        os.environ[XLA_LOGS] = "0"


xla_logs = expert(
    "--xla-logs",
    is_flag=True,
    expose_value=False,
    callback=_show_xla_logs,
    help=f"print the messages of XLA, jax's compiler (default: no, or as ${XLA_LOGS} says)",
)

# --- Commands -------------------------------------------------------------------------------------

rest = all_of(pool, weights_file, cache, xla_logs, quiet)
