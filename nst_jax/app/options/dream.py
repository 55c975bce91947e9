"""The command-line options of the command `dream` (Deep Dream)."""

import click

from nst_jax.app.options.base import FILE_OR_STREAM, all_of, look, size
from nst_jax.app.options.shared import (
    cache,
    computing_with,
    format_of_output,
    metadata,
    overwrite,
    quiet,
    result,
    size_of_picture,
    watched,
    weights_file,
    xla_logs,
)

# Defaults that the help texts of these options state. A test checks that `nst_jax.dream` has the same
# defaults.
DREAM_TAP, DREAM_STEPS, DREAM_STEP_SIZE, DREAM_JITTER = "relu4_4", "10", "0.0075", "32"
DREAM_OCTAVES, DREAM_OCTAVE_SCALE, DREAM_SIZE, DREAM_GUIDE_SIZE = "4", "1.4", "512", "224"

_ascent = all_of(
    look(
        "--tap",
        "taps",
        multiple=True,
        metavar="NAME[=WEIGHT]",
        help="layer that the picture is made to excite, relu1_1 (strokes) to relu5_4 (eyes and heads), "
        f"and its weight, 1 if none is given (default: {DREAM_TAP}); may be repeated",
    ),
    look(
        "--guide",
        type=FILE_OR_STREAM,
        metavar="FILE",
        help="picture towards whose features the dream is pulled (default: none)",
    ),
    look(
        "--steps",
        type=int,
        metavar="N",
        help=f"number of updates at each octave (default: {DREAM_STEPS})",
    ),
    look(
        "--step-size",
        type=float,
        metavar="X",
        help="standard deviation of the change of the pixels by an update; black and white differ by 1 "
        f"(default: {DREAM_STEP_SIZE})",
    ),
    look(
        "--octaves",
        type=int,
        metavar="N",
        help="number of octaves: sizes at which the picture dreams, one after the other, the last one "
        f"its own (default: {DREAM_OCTAVES})",
    ),
    look(
        "--octave-scale",
        type=float,
        metavar="X",
        help="how many times larger an octave is than the one before "
        f"(default: {DREAM_OCTAVE_SCALE})",
    ),
    look(
        "--jitter",
        type=int,
        metavar="PX",
        help="largest number of pixels by which the picture is shifted, at random, before each update "
        f"(default: {DREAM_JITTER})",
    ),
    look(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
        help="number from which the shifts are drawn; the same seed, the same picture (default: 0)",
    ),
)

_guide_size = size(
    "--guide-size",
    metavar="SIZE",
    help=f"size of the guide, as --size (default: {DREAM_GUIDE_SIZE}, with which the network was "
    "trained)",
)

_computing_dream = computing_with("bfloat16", "")

dream = all_of(
    click.argument("content", type=FILE_OR_STREAM, metavar="PHOTO"),
    _ascent,
    size_of_picture(DREAM_SIZE, measured="longer side in pixels"),
    _guide_size,
    result(
        "PNG, JPEG or TIFF file, or a film (see --film), by its suffix, or a folder, or - for standard "
        "output (default: PHOTO_dream.png in this folder)",
        stream=True,
    ),
    format_of_output,
    overwrite,
    metadata,
    watched(smaller="smaller until the last octave"),
    _computing_dream,
    weights_file,
    cache,
    xla_logs,
    quiet,
)
