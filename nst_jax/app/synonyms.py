"""Names that options like those of this program have in other programs, or that people may guess.

For a misspelt option, the known option with the most similar spelling is suggested. For a name such as
`--mask`, under which other programs have an option, the most similar spelling would be a wrong
suggestion. So such names are listed here, each with what is probably meant.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Meaning(NamedTuple):
    """What is probably meant by a name that is not the name of an option.

    Attributes:
      options: the options of this program that do what is meant, the likeliest first. The command that
        was typed may have only some of them, or none.
      note: a hint for the user that is printed after the options, or alone if the command has none of
        them; may be empty.
      usage: how the options are used; it is printed only if the command has one of them. May be empty.
    """

    options: tuple[str, ...] = ()
    note: str = ""
    usage: str = ""


_SHARES = "a share follows its picture, as in a.jpg:0.7 b.jpg:0.3"
_PICTURES = "pictures need no option: the content comes first, then the styles"
_GPU = "a GPU is used if jax finds one, and JAX_PLATFORMS=cpu keeps to the CPU"

# Most of these names are options of jcjohnson/neural-style (Torch), ProGamerGov/neural-style-pt and
# crowsonkb/style-transfer-pytorch (PyTorch), anishathalye/neural-style and cysmith/neural-style-tf
# (TensorFlow), and titu1994/Neural-Style-Transfer (Keras).
# Each key is one name, or several with spaces between them, written without dashes in front.
_MEANINGS = {
    # Colours, parts of the picture, realism.
    "color colors colour colours colorize preserve-color preserve-colors preserve-colour "
    "preserve-colours keep-color keep-colors keep-colour keep-colours original-color original-colors "
    "original-colour original-colours keep-original-color keep-original-colors keep-original-colour "
    "keep-original-colours color-convert-type color-transfer match-color match-colors "
    "luminance luminance-only histogram-matching": Meaning(("--colors",)),
    "mask masks mask-path content-mask segment segmentation background foreground": Meaning(
        ("--region", "--protect")
    ),
    "style-mask style-masks style-mask-imgs semantic content-seg style-seg guidance": Meaning(
        ("--region",)
    ),
    "region regions": Meaning(
        note="regions are for `nst-jax stylize`, `batch` and `sweep`; other commands paint the whole "
        "picture in one style"
    ),
    "exclude ignore keep keep-face face faces person subject": Meaning(("--protect",)),
    "realistic realism photorealism photo-realism photorealistic matting": Meaning(("--realism",)),
    # Number of updates, sizes of pictures and of strokes, seamless borders.
    "iterations iters iter num-iter num-iters num-iterations n-iter max-iter max-iterations "
    "num-steps n-steps epochs updates": Meaning(("--steps",)),
    "initial-iterations": Meaning(("--set",), usage="its key is descent.schedule.first"),
    "width height image-size img-size imsize max-size end-scale resolution": Meaning(("--size",)),
    "min-scale": Meaning(("--set",), usage="its key is descent.schedule.smallest"),
    "style-scale style-scales style-scale-fac stroke-size stroke-scale strokes brush-size": Meaning(
        ("--style-scale", "--style-size")
    ),
    "scale": Meaning(("--size", "--style-scale")),
    "fine fine-style style-fine coarse coarse-style": Meaning(
        ("--style-fine",), usage="STYLE has the coarse shapes"
    ),
    "seamless tileable tile-seamless": Meaning(
        ("--tile-seamless",), "`nst-jax texture` paints tiles whose opposite borders meet"
    ),
    "tiling": Meaning(("--tile-seamless", "--tile")),
    # Losses, optimiser, network.
    "alpha style-strength intensity": Meaning(("--strength",)),
    "blend blending mix": Meaning(("--strength",), _SHARES),
    "beta": Meaning(("--style-weight",)),
    "style-weights": Meaning(("--style-weight",), _SHARES),
    "style-blend-weights style-imgs-weights style-interpolation-weights": Meaning(note=_SHARES),
    "total-variation-weight": Meaning(("--tv-weight",)),
    "style-layers": Meaning(("--style-layer",)),
    "content-layers": Meaning(("--content-layer",)),
    "learning-rate step-size": Meaning(("--lr",)),
    "avg-decay": Meaning(("--set",), usage="its key is descent.average_decay"),
    "pooling pooling-type pool-type": Meaning(("--pool",)),
    "model": Meaning(("--recipe", "--weights")),
    "model-file model-weights network vgg": Meaning(("--weights",)),
    "preset config": Meaning(("--recipe",)),
    "random-seed": Meaning(("--seed",)),
    # Pictures, the files that a run writes, and how often it writes or prints.
    "content content-image content-img style-image style-img style-imgs": Meaning(note=_PICTURES),
    "style": Meaning(("--styles",), _PICTURES),
    "initial init-image init-img-type": Meaning(("--init",)),
    "initial-noiseblend": Meaning(("--noise-ratio",)),
    "output-image output-path img-output-dir": Meaning(("--output",)),
    "save-iter save-every": Meaning(("--every",)),
    "print-iter print-iterations": Meaning(("--every", "--log")),
    "checkpoint-iterations": Meaning(("--checkpoint-every", "--every")),
    "checkpoint-output": Meaning(("--frames",)),
    "verbose": Meaning(("--log",)),
    # Devices and numeric precision.
    "gpu gpus cuda cpu no-gpu no-cuda multidevice-strategy": Meaning(("--devices",), _GPU),
    "backend": Meaning(note=_GPU),
    "fp16 half": Meaning(("--precision",)),
}

# What is meant by each name. The names have no dashes in front, and "-" between their words.
MEANINGS: Mapping[str, Meaning] = {
    name: meaning for names, meaning in _MEANINGS.items() for name in names.split()
}


def meant_by(name: str, known: Collection[str]) -> str:
    """Return a hint for an option that does not exist; "" if there is none for this command.

    Args:
      name: the option as typed, with one dash or two, and with "_" or "-" between its words.
      known: the options of the command. Only these are suggested.

    Example:
      >>> meant_by("-num_iterations", ["--steps"]), meant_by("--mask", ["--steps"])
      ('did you mean --steps?', '')
    """
    for option in known:
        if _plain(option) == _plain(name):
            return f"did you mean {option}?"
    meaning = MEANINGS.get(_plain(name), Meaning())
    options = " or ".join(option for option in meaning.options if option in known)
    suggested = (f"did you mean {options}?", meaning.usage) if options else ()
    return " ".join(filter(None, (*suggested, meaning.note)))


def _plain(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()
