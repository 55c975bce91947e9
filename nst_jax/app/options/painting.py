"""The options of the commands that optimise one picture: `stylize`, `texture` and `demo`."""

from pathlib import Path

import click

from nst_jax.app.options.base import (
    DEFAULT_STEPS,
    DEMO_SIZE,
    FILE,
    FILE_OR_STREAM,
    STYLE_OR_STREAM,
    all_of,
    memory,
    output,
    size,
)
from nst_jax.app.options.optimizing import (
    FOR_PICTURES,
    bucket,
    controls,
    learning_rate,
    network,
    run,
    seed,
    steps,
    style_fine,
    style_scale,
    style_size,
    wanted,
)
from nst_jax.app.options.shared import (
    cache,
    devices,
    format_of_output,
    overwrite,
    pictures,
    quiet,
    recipe,
    rest,
    result,
    size_of_picture,
    watched,
    weights_file,
    xla_logs,
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

_devices_of_picture = devices(
    "GPUs or TPUs that share the picture, each with a horizontal band of it: less memory on each"
)

_cluster = memory(
    "--cluster",
    metavar="auto|HOST:PORT,N,I",
    help="processes that paint the picture together with the devices of all of them; start the same "
    "command in each. auto: jax finds them (SLURM, Open MPI, TPU pods). Else: the address at which the "
    "first process listens, the number of processes, and the index of this one, from 0. All need the "
    "same files under the same paths; only the first writes",
)

# --- Commands -------------------------------------------------------------------------------------

stylize = all_of(
    pictures(stream=True),
    wanted,
    style_fine(FILE_OR_STREAM),
    controls,
    result(
        "PNG, JPEG or TIFF file, or a film (see --film), by its suffix, or a folder, or - for standard "
        "output (default: CONTENT_STYLE.png in this folder)",
        stream=True,
    ),
    format_of_output,
    overwrite,
    run,
    _progress_files,
    _devices_of_picture,
    bucket(FOR_PICTURES, "auto"),
    _cluster,
    network,
    learning_rate(),
    rest,
)

texture = all_of(
    click.argument("style", type=STYLE_OR_STREAM, nargs=-1, required=True, metavar="STYLE..."),
    recipe("gatys-texture"),
    steps(", 2000 in gatys-texture"),
    seed,
    size(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="size of the result in pixels, or the side of a square (default: as the style)",
    ),
    style_size,
    style_scale,
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
    run,
    watched(),
    _log_and_checkpoint,
    _devices_of_picture,
    network,
    learning_rate(),
    rest,
)

demo = all_of(
    steps(f", {DEFAULT_STEPS}"),
    size_of_picture(DEMO_SIZE, DEMO_SIZE),
    result("file for the result (default: demo.png)", default=Path("demo.png")),
    overwrite,
    weights_file,
    cache,
    xla_logs,
    quiet,
)
