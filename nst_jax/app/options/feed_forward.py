"""The options of the commands `instant`, `train` and `export`."""

import click

from nst_jax.app import parsing
from nst_jax.app.options.base import (
    DEFAULT_SIZE,
    FILE,
    RECIPES,
    all_of,
    expert,
    look,
    memory,
    option,
    output,
    size,
)
from nst_jax.app.options.shared import (
    RECIPES_PRECISION,
    cache,
    colors,
    devices,
    layers,
    metadata,
    overwrite,
    pictures,
    precision_with,
    protect_each,
    quiet,
    realism,
    recipe,
    rest,
    result,
    size_of_picture,
    strength,
    styles_for_each,
    values,
    weights_file,
    weights_of_terms,
    xla_logs,
)

# --- Look -----------------------------------------------------------------------------------------

_styles_of_instant = all_of(
    look(
        "--list",
        "listed",
        is_flag=True,
        help="print the 26 styles; with CONTENT, paint it in all of them, on one sheet (default: "
        "CONTENT_styles.png in this folder)",
    ),
    styles_for_each(
        "several styles for each content: names, files, folders, or patterns in quotes",
        "every content with every style of --styles",
    ),
    look(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="from 0, the content's own style, to 1, the style; for style pictures (default: 1)",
    ),
    colors("style; content, luminance and palette need a style picture"),
    realism("0, which changes nothing"),
    protect_each,
)

# --- Output ---------------------------------------------------------------------------------------

_files_of_instant = all_of(
    result(
        "PNG, JPEG, WebP or TIFF file, by its suffix, or a folder, or - for standard output; several "
        "results need a folder (default: CONTENT_STYLE.png in this folder)",
        stream=True,
    ),
    output(
        "--format",
        "suffix",
        type=click.Choice(["png", "jpg", "webp", "tiff"]),
        help="format of several results, which are named CONTENT_STYLE, and of standard output "
        "(default: png)",
    ),
    output(
        "--sheet", is_flag=True, help="also write sheet.png, a contact sheet of several results"
    ),
    output(
        "--overwrite/--no-overwrite",
        default=None,
        help="replace existing files (default: yes; of several results, skip what is finished with "
        "these settings, replace other pictures of nst-jax, stop at any other file)",
    ),
)

# --- Memory and devices ---------------------------------------------------------------------------

_precision = precision_with(RECIPES_PRECISION, f"{RECIPES}, ")

# --- Training -------------------------------------------------------------------------------------

# Defaults of `nst_jax.train`, repeated here since `--help` shows them and must not import JAX: the
# import takes long. A test compares them with those of `nst_jax.train`.
TRAIN_STEPS, TRAIN_BATCH, TRAIN_CROP, TRAIN_LEARNING_RATE, TRAIN_EVERY = 4000, 4, 256, 1e-3, 200

TRAIN_BLOCKS = 5

_paintings = click.argument("paintings", type=FILE, nargs=-1, required=True, metavar="PAINTING...")

_photos = look(
    "--photos",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FOLDER",
    help="folder of photos to train on, or a pattern in quotes such as 'photos/*.jpg'; may be repeated "
    "(required)",
)

_of_training = all_of(
    look(
        "--steps",
        type=click.IntRange(min=1),
        default=TRAIN_STEPS,
        metavar="N",
        help=f"number of updates of the network (default: {TRAIN_STEPS})",
    ),
    look(
        "--width",
        type=float,
        default=1.0,
        metavar="X",
        help="factor of the network's numbers of channels; a narrow network paints faster and less "
        "finely (default: 1)",
    ),
    look(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
        help="number from which the fresh network and all crops are drawn (default: 0)",
    ),
)

_size_of_crops = all_of(
    size(
        "--crop",
        type=int,
        default=TRAIN_CROP,
        metavar="PX",
        help=f"side of the crops that are cut from photos (default: {TRAIN_CROP})",
    ),
    size(
        "--style-size",
        metavar="SIZE",
        help=f"size of the paintings; a larger one gives larger strokes (default: {RECIPES}, "
        f"{DEFAULT_SIZE})",
    ),
)

_training_files = all_of(
    output(
        "--samples/--no-samples",
        default=True,
        help="write OUT_samples.png, photos that are held out as the network paints them so far "
        "(default: yes)",
    ),
    output(
        "--every",
        type=click.IntRange(min=1),
        default=TRAIN_EVERY,
        metavar="N",
        help="measure the loss of the photos that are held out every N updates; the network with the "
        f"least loss is kept (default: {TRAIN_EVERY})",
    ),
    output(
        "--checkpoint",
        type=FILE,
        metavar="FILE.h5",
        help="file for the state of the training, written about every 30 seconds and at the end; it is "
        "kept, so that more --steps can follow (default: OUT.checkpoint.h5)",
    ),
    output(
        "--resume",
        is_flag=True,
        help="resume from the checkpoint with the result of an uninterrupted training; start from the "
        "beginning if it does not exist. All inputs and options but --steps must be the same",
    ),
)

_batch_of_crops = memory(
    "--batch",
    type=int,
    default=TRAIN_BATCH,
    metavar="N",
    help=f"crops in an update, divided among the devices (default: {TRAIN_BATCH})",
)

_blocks = expert(
    "--blocks",
    type=int,
    default=TRAIN_BLOCKS,
    metavar="N",
    help=f"residual blocks of the network (default: {TRAIN_BLOCKS})",
)

_rate_of_training = expert(
    "--lr",
    "learning_rate",
    type=float,
    default=TRAIN_LEARNING_RATE,
    metavar="X",
    help=f"learning rate of Adam (default: {TRAIN_LEARNING_RATE:g})",
)

# --- Commands -------------------------------------------------------------------------------------

instant = all_of(
    pictures(required=False, stream=True),
    _styles_of_instant,
    size_of_picture(DEFAULT_SIZE, measured="longer side in pixels"),
    size(
        "--style-size",
        metavar="SIZE",
        help="size of style pictures (default: short:256, which the network was trained on)",
    ),
    _files_of_instant,
    metadata,
    memory(
        "--precision",
        metavar="NAME",
        default="auto",
        help="number format of the network: float32, tensorfloat32, bfloat16, or auto: float32 on a "
        "CPU, tensorfloat32 on a GPU or TPU (default: auto)",
    ),
    memory(
        "--bucket",
        type=parsing.BucketSide(),
        default="off",
        metavar="auto|off|PIXELS",
        help="pad pictures to a square of this side, a multiple of 16, while they are painted: those "
        "of all shapes up to this size then share one compiled program, with the same results. auto: "
        "the smallest square, if it is estimated to save time. off: no padding; each shape has a "
        "program of its own (default: off)",
    ),
    cache,
    xla_logs,
    quiet,
)

_exported_file = all_of(
    option(
        "--to",
        required=True,
        metavar="FORMAT",
        help="format of the file: stablehlo (an .npz archive for jax.export and NumPy), onnx (needs "
        "the extra `onnx`), or tflite (TensorFlow Lite; needs the extra `tflite`) (required)",
    ),
    result("file to write (required)", required=True, metavar="FILE"),
    overwrite,
    output(
        "--encoding",
        default="float32",
        metavar="NAME",
        help="how kernels are stored: float32, float16 (half the bytes) or int8 (a quarter) "
        "(default: float32)",
    ),
    output(
        "--program",
        metavar="NAME",
        help="which program of the model to write (default: the main one; a stablehlo file has all)",
    ),
)

_exported_sizes = all_of(
    size(
        "--size",
        "shape",
        type=parsing.ShapeOrAny(),
        metavar="WIDTHxHEIGHT|any",
        help="size in pixels of the pictures that the file takes (default: any; 384x384 in tflite, and "
        "for step in onnx)",
    ),
    size(
        "--style-size",
        "style_shape",
        type=parsing.ShapeOrAny(),
        metavar="WIDTHxHEIGHT|any",
        help="the same of pictures of a style, where the model takes them (default: any beside --size "
        "any; else 256x256 for arbitrary, as --size for step)",
    ),
)

export = all_of(
    click.argument("model", metavar="MODEL|FILE"),
    _exported_file,
    _exported_sizes,
    recipe(),
    option(
        "--tap",
        "taps",
        multiple=True,
        metavar="NAME",
        help="for features: layer whose output the file returns, such as relu4_2; may be repeated "
        "(default: all that the recipe reads)",
    ),
    values,
    weights_file,
)

train = all_of(
    _paintings,
    _photos,
    recipe(),
    weights_of_terms(),
    strength,
    _of_training,
    _size_of_crops,
    result("file for the trained network (required)", required=True, metavar="OUT.h5"),
    overwrite,
    _training_files,
    _precision,
    _batch_of_crops,
    devices("GPUs or TPUs that share the crops of each update"),
    values,
    layers(files=False),
    _rate_of_training,
    _blocks,
    rest,
)
