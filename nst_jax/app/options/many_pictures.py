"""The options of the commands that optimise many pictures: `batch` and `sweep`."""

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import (
    FILE,
    NUMBERS,
    SWEEP_RECIPE,
    SWEEP_SIZE,
    all_of,
    look,
    memory,
    output,
)
from nst_jax.app.options.optimizing import (
    bucket,
    controls,
    learning_rate,
    network,
    recipes_colors,
    recipes_realism,
    run,
    start,
    steps,
    style_fine,
    style_scale,
    style_size,
    wanted,
)
from nst_jax.app.options.shared import (
    devices,
    overwrite,
    pictures,
    protect_each,
    recipe,
    rest,
    result,
    size_of_picture,
    strength,
    styles_for_each,
    weights_of_terms,
)

# --- Options of both ------------------------------------------------------------------------------

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

# --- Batch ----------------------------------------------------------------------------------------

_contents = click.argument("contents", type=FILE, nargs=-1, required=True)

_styles_of_batch = styles_for_each(
    "style pictures, one or more: files, folders, or patterns in quotes such as 'art/*.jpg'",
    "every content with every style",
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

_overwrite_finished = output(
    "--overwrite/--no-overwrite",
    default=None,
    help="replace files: --overwrite replaces any, and paints finished pictures again; --no-overwrite "
    "stops if a file in the way is not a finished picture (default: skip what is finished with these "
    "settings, replace other pictures of nst-jax, stop at any other file)",
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

_FOR_BATCHES = (
    "auto: to the rectangles for which compiling and painting take the least time together. off: no "
    "padding; each shape has programs of its own"
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

batch = all_of(
    _contents,
    _styles_of_batch,
    wanted,
    style_fine(),
    _controls_of_batch,
    _files_of_batch,
    _overwrite_finished,
    run,
    _devices_of_many,
    bucket(_FOR_BATCHES),
    memory(
        "--compile-only",
        is_flag=True,
        help="compile and keep the programs that this command would run, and paint nothing: the same "
        "command without this option then compiles nothing, except for pictures with masks or "
        "transparent parts",
    ),
    _sharing_a_batch,
    network,
    learning_rate(),
    rest,
)

# --- Sweep ----------------------------------------------------------------------------------------

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

_FOR_SWEEPS = "auto, off: no padding, since all canvases of a sweep have one shape"

sweep = all_of(
    pictures(),
    _axes,
    style_fine(),
    recipe(f"{SWEEP_RECIPE}; a ratio refers to the losses of this recipe", SWEEP_RECIPE),
    weights_of_terms(NUMBERS),
    strength,
    recipes_colors,
    recipes_realism,
    controls,
    steps(""),
    start,
    size_of_picture(
        f"{SWEEP_SIZE}, since a sweep is many pictures",
        SWEEP_SIZE,
        "size in pixels, as the recipe measures it: in gatys-2015, the side of a square of "
        "the same area",
    ),
    style_size,
    style_scale,
    result(
        "PNG, JPEG, WebP or TIFF file for the grid, or a folder "
        "(default: CONTENT_STYLE_sweep.png in this folder)"
    ),
    overwrite,
    run,
    _devices_of_many,
    bucket(_FOR_SWEEPS),
    network,
    learning_rate(NUMBERS),
    rest,
)
