"""The command-line options of the commands `plot`, `gram` and `features`."""

import click

from nst_jax.app.options import shared
from nst_jax.app.options.base import FILE, all_of, look, size

# Defaults that the help texts of these options state: size in px, tap (layer of the network), number of
# feature maps. A test checks that the functions that draw the figures have the same defaults.
FIGURE_SIZE, FIGURE_TAP, FIGURE_MAPS = 512, "relu3_1", 48

_size = size(
    "--size",
    type=click.IntRange(min=16),
    metavar="PX",
    default=FIGURE_SIZE,
    help="longer side at which the network sees the picture; it is reduced to this, never enlarged "
    f"(default: {FIGURE_SIZE})",
)

plot = all_of(
    click.argument("logs", type=FILE, nargs=-1, required=True, metavar="LOG..."),
    shared.result("plot to write, .png, .svg or .pdf (default: losses.png)", metavar="PLOT"),
    look("--title", default="", metavar="TEXT", help="title above the plot (default: the recipe)"),
    shared.overwrite,
    shared.quiet,
)

gram = all_of(
    click.argument("style", type=FILE),
    look(
        "--tap",
        "taps",
        multiple=True,
        metavar="NAME",
        help="layer whose Gram matrix is drawn (default: relu1_1, relu2_1, ... relu5_1); may be "
        "repeated",
    ),
    _size,
    shared.result("sheet to write (default: STYLE_gram.png)"),
    shared.overwrite,
    shared.weights_file,
    shared.quiet,
)

features = all_of(
    click.argument("picture", type=FILE),
    look(
        "--tap",
        metavar="NAME",
        default=FIGURE_TAP,
        help=f"layer whose maps are drawn (default: {FIGURE_TAP})",
    ),
    look(
        "--count",
        type=click.IntRange(min=1),
        metavar="N",
        default=FIGURE_MAPS,
        help=f"most maps to draw, the strongest first (default: {FIGURE_MAPS})",
    ),
    _size,
    shared.result("sheet to write (default: PICTURE_TAP.png)"),
    shared.overwrite,
    shared.weights_file,
    shared.quiet,
)
