"""Options that commands share which optimise pictures, or which plan this or compile it ahead."""

from typing import Any

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import (
    DEFAULT_SIZE,
    DEFAULT_STEPS,
    FILE,
    NUMBERS,
    RECIPES,
    Decorator,
    all_of,
    expert,
    look,
    memory,
    size,
)
from nst_jax.app.options.shared import (
    RECIPES_PRECISION,
    colors,
    computing_with,
    layers,
    metadata,
    quality,
    realism,
    recipe,
    size_of_picture,
    strength,
    values,
    weights_of_terms,
)

# --- Look -----------------------------------------------------------------------------------------


def steps(default: str) -> Decorator:
    """Return the option `--steps`; its help says that the default is the recipe's, then `default`."""
    return look(
        "--steps",
        type=int,
        metavar="N",
        help=f"number of updates: how often the picture is changed (default: {RECIPES}{default})",
    )


seed = look(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="number from which random noise is made; the same seed gives the same noise (default: 0)",
)

NAMED_STARTS = (
    "content, style, noise, blank, content+noise, instant (what `nst-jax instant` paints of the "
    "pictures)"
)


def init_with(text: str) -> Decorator:
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


start = all_of(init_with(f"picture to start from: {NAMED_STARTS} or an image FILE"), seed)

recipes_colors = colors(f"{RECIPES}, style")
recipes_realism = realism(f"{RECIPES}, 0, which changes nothing")

controls = all_of(
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


def style_fine(kind: Any = FILE) -> Decorator:
    """Return the option `--style-fine`; `kind` is click's type of its value."""
    return look(
        "--style-fine",
        type=kind,
        metavar="FILE",
        help="picture from which STYLE takes its fine structure, such as brush strokes; STYLE keeps "
        "its shapes. The two are combined first, in a run of their own",
    )


# --- Size -----------------------------------------------------------------------------------------

OF_DEFAULT = f"{RECIPES}, {DEFAULT_SIZE}"

style_size = size(
    "--style-size",
    metavar="SIZE",
    help="size of the style picture (default: as --size, or as the result where the recipe says so; "
    "beside --size 400x300 it keeps its proportions)",
)

style_scale = size(
    "--style-scale",
    type=NUMBERS,
    metavar="X,...",
    help="factor by which the style is then made larger or smaller, such as 1.5: larger styles give "
    f"larger strokes. One number, or one for each style, separated by commas (default: {RECIPES}, 1)",
)

# --- Memory and devices ---------------------------------------------------------------------------

FOR_PICTURES = (
    "auto: on a GPU or TPU, to a square of the longer side of up to 1024 px, since compiling takes "
    "long there; on a CPU, no padding. off: no padding"
)


def bucket(words: str, default: str = "off") -> Decorator:
    """Return the option `--bucket`; `words` say what `auto` and `off` do in the command."""
    return memory(
        "--bucket",
        type=parsing.BucketSide(),
        default=default,
        metavar="auto|off|PIXELS",
        help="pad pictures to a square of this side, a multiple of 16, while they are painted: those "
        "of all shapes up to this size then share their compiled programs, with the same results; "
        f"computing the padding takes time. {words} (default: {default})",
    )


computing = computing_with(RECIPES_PRECISION, f"{RECIPES}, ")

# --- Expert ---------------------------------------------------------------------------------------

_optimizer = expert(
    "--optimizer",
    metavar="NAME",
    help="optimizer with its usual settings: Adam, KerasAdam, RMSprop, DecayedSGD, TorchLBFGS or "
    f"LBFGS (default: {RECIPES})",
)


def learning_rate(kind: Any = float) -> Decorator:
    """Return the option `--lr`; `kind` is click's type of its value: a number, or several."""
    return expert(
        "--lr",
        "learning_rate",
        type=kind,
        metavar="X" if kind is float else "X,...",
        help=f"learning rate, for optimizers that have one (default: {RECIPES})",
    )


# --- Options that go together ---------------------------------------------------------------------

run = all_of(metadata, computing)

network = all_of(values, layers(), _optimizer)

wanted = all_of(
    recipe(),
    weights_of_terms(),
    strength,
    quality,
    recipes_colors,
    recipes_realism,
    steps(f", {DEFAULT_STEPS}"),
    start,
    size_of_picture(OF_DEFAULT),
    style_size,
    style_scale,
)
