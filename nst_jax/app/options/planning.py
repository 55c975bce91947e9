"""The options of the commands that plan a run, or compile it ahead: `plan` and `warm`."""

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import DEFAULT_STEPS, all_of, memory, output, size
from nst_jax.app.options.optimizing import (
    FOR_PICTURES,
    NAMED_STARTS,
    OF_DEFAULT,
    bucket,
    computing,
    controls,
    init_with,
    network,
    recipes_colors,
    recipes_realism,
    steps,
    style_scale,
    style_size,
)
from nst_jax.app.options.shared import (
    cache_for,
    pictures,
    pool,
    quality,
    quiet,
    recipe,
    size_of_picture,
    weights_file,
    xla_logs,
)

# --- Plan -----------------------------------------------------------------------------------------

_shape = size(
    "--shape",
    type=parsing.Shape(),
    metavar="WIDTHxHEIGHT",
    help="size of the result in pixels, instead of pictures; the style is assumed to be as large",
)

_json = output("--json", "as_json", is_flag=True, help="print one JSON object; memory is in bytes")

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

_devices_planned = memory(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="devices that share the picture, present here or not; --memory is what each of them has "
    "(default: 1)",
)

_cache_of_rates = cache_for(
    "predict the time from the speed of earlier runs, which the user's cache folder has"
)

plan = all_of(
    pictures(required=False),
    recipe(),
    controls,
    recipes_colors,
    recipes_realism,
    quality,
    steps(f", {DEFAULT_STEPS}"),
    size_of_picture(OF_DEFAULT),
    style_size,
    style_scale,
    _shape,
    _json,
    computing,
    _machine,
    _devices_planned,
    bucket(FOR_PICTURES, "auto"),
    network,
    pool,
    _cache_of_rates,
    xla_logs,
)

# --- Warm -----------------------------------------------------------------------------------------

# Neither an image nor a seed needs programs of its own.
_start_of_warm = init_with(
    "start that later commands will name (an image FILE needs no programs of its own): "
    f"{NAMED_STARTS}"
)

warm = all_of(
    recipe(),
    recipes_colors,
    recipes_realism,
    _start_of_warm,
    size(
        "--size",
        multiple=True,
        metavar="SIZE",
        help=f"size of the pictures, as in `stylize`; may be repeated (default: {OF_DEFAULT})",
    ),
    style_size,
    style_scale,
    computing,
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
    network,
    pool,
    weights_file,
    xla_logs,
    quiet,
)
