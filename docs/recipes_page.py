"""Paint one picture with every recipe, and write `recipes.md`: the recipes and what was measured.

    python -m docs.recipes_page paint [--updates N] [NAME ...]    # half an hour or more on two cores
    python -m docs.recipes_page write

`paint` writes a picture and an entry of `recipes/measured.json` for each recipe; `write` needs only
these.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nst_jax as nst
from benchmarks import harness
from nst_jax import losses, recipes
from nst_jax.losses import STYLE_LOSSES
from nst_jax.recipes import PRESETS, Recipe
from nst_jax.recipes.balance import balance

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "recipes", HERE / "recipes.md"
MEASURED = FOLDER / "measured.json"
PRINTED = FOLDER / "printed_losses.json"  # losses that sources printed, beside those of torch here
SIDE, UPDATES = 256, 300
PAIR = ("chelsea", "starry_night")


class Note(NamedTuple):
    """What a reader should know about a recipe that its constants do not say."""

    lines: str  # to which update a line that its source prints belongs
    departures: str = ""  # from the source
    age: str = ""  # with which versions of its libraries the source ran, and what differs today
    follows: str = ""  # the recipe whose picture it starts from


# Random numbers, rounding and divergence are the same for all recipes: see `PREFACE`.
TORCHVISION = "exact with torchvision's weights (`--weights`), approximate with the embedded ones"
AGE_OF_UDACITY = (
    "by May 2019, hence PyTorch 1.1 at most and Pillow 5 or 6, whose filters are today's; before "
    "PyTorch 1.3 Adam added epsilon before it corrected the bias of v, which at 1e-8 changes nothing"
)
AGE_OF_TF = (
    "TensorFlow 2, whose resizing and Adam have not changed; it decodes JPEGs with a faster transform "
    "than Pillow's, so that pixels differ by a few of 256 levels"
)
AGE_OF_GATYS = (
    "2017, under Python 2.7.6, that of Ubuntu 14.04 with Pillow 2.3; before 2.7 Pillow's BILINEAR "
    "looked at two by two pixels and truncated, which `old_pillow_bilinear` repeats"
)
PAPER = (
    "the papers state neither the number of updates, nor the unit of pixels, nor the settings of "
    "L-BFGS-B's line search; these are this project's choices, as is the guard of its L-BFGS"
)
NOTES = {
    "default": Note("this project's own, line k of the log is the canvas after k updates"),
    "gram": Note("this project's own, line k of the log is the canvas after k updates"),
    "gatys-2015": Note(
        "the paper prints no losses", PAPER, "the paper does not say what resized the pictures"
    ),
    "gatys-2016": Note(
        "the paper prints no losses",
        f"{PAPER}; the paper's network was rescaled so that every channel's mean activation is 1, here "
        "it is the original network",
        "the paper does not say what resized the pictures",
    ),
    "gatys-pytorch": Note('"Iteration: n" is evaluation n - 1: k = n - 2', age=AGE_OF_GATYS),
    "gatys-pytorch-800": Note(
        '"Iteration: n" is evaluation n - 1: k = n - 2',
        "a start is resized with a Lanczos filter, in the source with the filter of the pictures",
        AGE_OF_GATYS,
        follows="gatys-pytorch",
    ),
    "gatys-texture": Note(
        "the source prints no losses",
        "there is no content; the command `texture` paints at any size. The source reads outputs of "
        "the poolings, here the layers before them; its network is rescaled so that every channel's "
        "mean activation is 1, here it is the original one; its L-BFGS-B keeps each pixel in the range "
        "of the picture's, here the result is clipped; and in the end it matches histograms",
    ),
    "tf": Note(
        "it prints steps, no losses; step n shows the canvas after n further updates: k = n + 3, "
        "because three trial steps come first",
        age=AGE_OF_TF,
    ),
    "tf-tv": Note(
        "it prints steps, no losses; step n shows the canvas after n updates: k = n", age=AGE_OF_TF
    ),
    "keras-io": Note(
        '"iteration n" is measured before update n: k = n - 1',
        "the smaller the picture, the larger the gradient of one pixel, so with the learning rate that "
        "was chosen for a height of 400 px a picture of 48 px diverges",
        "TensorFlow 2 of May 2020 or later, hence Pillow 3.4 or later, whose NEAREST is today's; "
        "before October 2016 it took other pixels",
    ),
    "coursera-tf2": Note(
        "`train_step` returns the cost before its update: epoch i is k = i; the two costs in the "
        "course's test are k = 0 and 1 with another noise and `--set descent.optimizer.counted=0`, "
        "because only the test begins with an optimiser that has counted no step. With the course's "
        "two pictures and three seeds they are 0.5 to 1.7 % below the 25714.6 and 17787.4 that were "
        "printed",
        age="2024, with Pillow 7.0 or later, whose `resize` is BICUBIC by default; before January 2020 "
        "it was NEAREST",
    ),
    "coursera-tf2-v1": Note(
        "`train_step` returns the cost before its update; those in the course's test are k = 0 and 1",
        age="early 2021, with a Pillow that is not known; one older than 7.0 would have resized by "
        "NEAREST",
    ),
    "coursera-tf1": Note(
        "iteration i is measured after its update: k = i + 1",
        age="TensorFlow 1 and Python 3.6; nothing that it uses differs today",
    ),
    "udacity": Note(
        "the line of step n is measured before update n: k = n - 1", TORCHVISION, AGE_OF_UDACITY
    ),
    "udacity-exercise": Note(
        "the line of step n is measured before update n: k = n - 1", TORCHVISION, AGE_OF_UDACITY
    ),
    "pytorch-tutorial": Note(
        '"run n" is evaluation n: k = n - 1',
        "exact with torchvision's weights (`--weights`); with the embedded ones L-BFGS diverges into "
        "noise, as it does in torch (at 96 px with the same losses to four digits up to evaluation "
        "20); resizes the style to the content's size, while the source refuses another size",
        "built with each release of PyTorch, so today's; in early ones L-BFGS had a tolerance of the "
        "gradient of 1e-5, not 1e-7, and reaches neither",
    ),
    "jcjohnson": Note(
        '"Iteration n" is evaluation n: k = n - 1; its total does not include the variation',
        "when it reduces a picture, Torch7's `image.scale` averages over boxes; here a Lanczos "
        "filter is used",
        "Torch7, which is no longer developed",
    ),
    "neural-style-pt": Note(
        '"Iteration n" is evaluation n: k = n - 1',
        age="2020, with PyTorch 1 and Pillow 7 or 8: as today",
    ),
    "pastiche": Note("step n is measured before update n: k = n - 1", age="2024: as today"),
    "nnst": Note(
        "which losses the source prints is not known here; the loss at the end is that of the final "
        "pass, a sum over ten taps, and no continuation of the one at the start",
        "the source runs on VGG-16, here it is VGG-19 with the same taps; how much each tap "
        "contributes to a vector of all taps depends on the weights, and is not calibrated; scales "
        "are made from the final size with a Lanczos filter, in the source by bilinear halvings; files "
        "are reduced to 512 px with an antialiasing filter, in the source bilinearly with aligned "
        "corners, without antialiasing, and the shorter side is rounded to the nearest number, in the "
        "source down; at "
        "1024 px and more the source adds the finest detail of the content to the canvas at the "
        "beginning of two scales, here it is added at none; in its final "
        "pass, the source's code compares samples of another tap at taps with at most 64 lines "
        "(relu4 at 512 px), here these are compared as meant; the grid has as many lines wherever it "
        "begins, in the source sometimes one more; a scale passes on the canvas after its last update, "
        "in the source the one before it; the painting is clipped before its colours are moved",
        "not known; Adam and bilinear resizing of PyTorch as today",
    ),
    "strotss": Note(
        "it prints the loss of a scale after 100 and after 200 of its updates, measured before the "
        "update: k is the number of updates before it",
        "the source runs on VGG-16, here it is VGG-19 with taps of the same names; the features of "
        "each tap are divided by their mean activation over the sample pictures at 256 px, since the "
        "moments depend on how large features are (with torchvision's weights, which the source used, "
        "by 1); no place is read twice in an update, in the source's code some are, and always those "
        "of its first grid; a scale passes on the canvas after its last update, in the source the one "
        "before it; the pyramid is resized with half-pixel centres, in the source with aligned "
        "corners; scales are made from the final size with a Lanczos filter, in the source from the "
        "files, bilinearly and without antialiasing; regions are refused",
        "PyTorch 0.4 or 1, whose RMSprop is today's",
    ),
    "crowsonkb": Note(
        "iteration i of a scale is measured before its update: k is the number of iterations before it",
        "the weight of the variation is the source's 2, which is for torchvision's weights, times the "
        "square of 57.6, the grey levels in one unit of torchvision's pixels; with torchvision's "
        "weights (`--weights`) it is exact with `tv_weight` 2. At scales below the last the pictures "
        "are reduced by a Lanczos filter from those of the last, in the source from the originals by "
        "Pillow's bicubic filter, and a style smaller than the scale is reduced too, where the "
        "source keeps its size",
        "2023, with PyTorch 1.13 to 2 and Pillow 9: as today",
    ),
    "sliced-wasserstein": Note(
        "it prints rounds, no losses; round n begins with evaluation 64 n: k = 64 n",
        "the source's weights are scaled so that activations are about 1 in every layer; here the loss "
        "of each layer is divided by the square of its mean activation over the sample pictures at "
        "256 px. The canvas has the content's proportions, and the texture is compared by quantiles if "
        "its size is another; the source repeats it. The source does not resize its texture",
        "PyTorch 1, whose L-BFGS is today's",
    ),
    "histogram": Note(
        "`curr_loss` is measured after update `iterations` + 1: k = iterations + 1",
        "histograms are matched exactly, in the source with 256 bins of features to the power of 1/4; "
        "a Lanczos filter reduces pictures, in the source OpenCV's INTER_AREA. The paper also has "
        "several scales and weights that adapt to the gradients",
        "TensorFlow 1 of 2017, whose Adam is Keras' Adam",
    ),
}

PREFACE = """# Recipes

What every preset computes, a picture by each, and where it departs from its source. This page is
written by `python -m docs.recipes_page`; the constants are read from the presets themselves, and
`nst-jax recipes show NAME` prints all of them with their source. [All recipes side by
side](all_recipes.md) shows them on six pairs, in equal time.

This holds for all of them:

- The random numbers are JAX's, except those of `coursera-tf1`.
- The statistics of a style are means over positions. The Gram matrix is G = R / M, where R is the sum
  over M positions. Where a source uses R itself, it resizes the style to the content; M is then the
  same for both pictures, and the loss has the value of the source.
- A picture is rounded to 8 bits, while TensorFlow's tutorial truncates.
- A run that diverges keeps its last finite canvas.
- On a CPU all is computed with float32. On an accelerator a published recipe multiplies with
  tensorfloat32, as the convolutions of PyTorch and TensorFlow do there by default, and `default` and
  `gram` with bfloat16; `--precision float32` uses all bits, which takes several times as long there.
- Some sources ran on other weights than the embedded ones, whose features are larger or smaller. Two
  of these recipes make up for that, by one rule: the features of a layer count as if they were divided
  by their mean activation over the package's sample pictures at 256 px. In `sliced-wasserstein` the
  layer weights contain the divisor, in `strotss` the loss divides. (With one divisor for all layers,
  `strotss` copied the style.) In `crowsonkb` only the weight of the variation is converted, by the
  square of 57.6 (the grey levels in one unit of torchvision's pixels). That assumes that features grow
  like pixels; it was not measured on torchvision's weights. In `nnst` nothing is converted: it compares
  cosines, which do not change if all features are multiplied by one number, but do change if those of
  one layer are.
- Of the losses that the sources printed, those of `gatys-pytorch` and the first two of `coursera-tf2`
  were compared, with the results that are given there; the others were not available. 25 updates of
  `udacity`, `pytorch-tutorial`, `gatys-pytorch`, `tf` and `coursera-tf2` in float64 agree to 1e-6
  with independent PyTorch code on the same weights (`tests/test_torch_golden.py`; `gatys-pytorch`
  with the exact mean colours, and with those that its notebook rounds up to evaluation 19). So do 25
  updates of `crowsonkb` over three scales (with the source's own weight of the variation), of
  `sliced-wasserstein` and of `histogram` (`tests/test_quality_golden.py`), of `nnst` over two scales
  and its final pass (`tests/test_nearest_recipe.py`), and of `strotss` over three scales
  (`tests/test_strotss.py`). Of the other presets the losses, sizes and starts are checked one by one.

`--log` has one convention for all: line k contains the losses of the canvas after k updates, weighted
as they are minimised. Below each picture, "Lines of the source" says to which k a line that the source
prints corresponds.
"""


# --- Paint ----------------------------------------------------------------------------------------


def paint(names: Sequence[str], most: int) -> None:
    """Paint the sample pair with these recipes, for at most so many updates each."""
    FOLDER.mkdir(exist_ok=True)
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for name in names:
        sys.stderr.write(f"{name}\n")
        measured[name] = _painted(PRESETS[name], most)
        text = json.dumps({n: measured[n] for n in PRESETS if n in measured}, indent=1)
        MEASURED.write_text(text + "\n")


def _painted(recipe: Recipe, most: int) -> dict[str, Any]:
    output = FOLDER / f"{recipe.name}.jpg"
    words = [*(str(nst.images.SAMPLES[name]) for name in PAIR), "--recipe", recipe.name]
    height, width, _ = nst.images.sample(PAIR[0]).shape
    shape = recipes.sizes.LongEdge(SIDE).shape(height, width)
    updates = min(most, recipe.descent.updates_at(shape))
    words += ["--size", f"long:{SIDE}", "--steps", str(updates), "-o", str(output)]
    words += ["--precision", "float32"]  # on any device, as the page says
    if NOTES[recipe.name].follows:
        words += ["--init", str(FOLDER / f"{NOTES[recipe.name].follows}.jpg")]
    source = harness.source()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        words += ["--log", str(log), "--quiet", "--no-cache"]
        # A run that diverges exits with 1 and keeps its last finite canvas; its log says so.
        command = [sys.executable, "-m", "nst_jax", "stylize", *words]
        subprocess.run(command, cwd=HERE.parent, check=False)
        start, *steps, end = (json.loads(line) for line in log.read_text().splitlines())
    finite = [step for step in steps if step["total"] is not None]
    versions = {"python", "jax", "jaxlib"}
    return {
        "status": end["status"],
        "size": start["size"],
        "updates": end["steps"],
        "seconds": round(end["seconds"], 1),
        "losses": {key: finite[-1][key] for key in ("total", "content", "style", "tv")},
        "first_total": steps[0]["total"],
        "processor": harness.device()["processor"],
        "cores": harness.cores(),
        "versions": {key: value for key, value in start["versions"].items() if key in versions},
        "commit": source["commit"],
    }


# --- Write ----------------------------------------------------------------------------------------


def page() -> str:
    """Return the page as Markdown."""
    measured = json.loads(MEASURED.read_text())
    return "\n".join([PREFACE, _table(), _conditions(measured), *_sections(measured)])


def _name_of(loss: losses.AnyContentLoss | losses.Variation) -> str:
    named = {**losses.CONTENT_LOSSES, **losses.VARIATIONS}
    return next(name for name, known in named.items() if known == loss)


def _table() -> str:
    lines = [
        "| recipe | content, x weight | style, x weight | variation, x weight | start | size | "
        "optimiser | updates | style : content | on an accelerator |",
        "|" + "---|" * 10,
    ]
    for recipe in PRESETS.values():
        terms, descent = recipe.terms, recipe.descent
        cells = (
            f"[`{recipe.name}`](#{recipe.name})",
            f"`{_name_of(terms.content_loss)}` of {', '.join(terms.content_taps)}, "
            f"x {terms.content_weight:g}",
            f"`{_name_of_style(terms)}` of {_taps(terms)}, x {terms.style_weight:g}",
            f"`{_name_of(terms.variation)}`, x {terms.tv_weight:g}" if terms.tv_weight else "none",
            type(recipe.pictures.start).__name__,
            str(recipe.pictures.size),
            type(descent.optimizer).__name__ + (", clipped" if descent.clip else ""),
            descent.updates_in_words.replace(" updates", ""),
            _ratio_of(balance(recipe)),
            recipe.network.accelerator_precision.name,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _ratio_of(balance: float | None) -> str:
    if balance == float("inf"):
        return "style only"
    return "other losses" if balance is None else f"{float(f'{balance:.2g}'):g} : 1"


def _name_of_style(terms: recipes.Terms) -> str:
    if not terms.matched:
        return terms.statistic_loss.distance.__name__
    used = [terms.style_loss, terms.last_style_loss]
    return "`, at the last scale `".join(
        name for name, loss in STYLE_LOSSES.items() if loss in used
    )


def _taps(terms: recipes.Terms) -> str:
    if len(terms.style_names) != len(terms.style_taps):  # a loss whose parts are no taps
        return ", ".join(terms.style_taps)
    pairs = zip(terms.style_taps, terms.style_layer_weights, strict=True)
    return ", ".join(f"{float(weight):.3g} {tap}" for tap, weight in pairs)


def _conditions(measured: dict[str, Any]) -> str:
    first = next(iter(measured.values()))
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = ", ".join(sorted({entry["commit"][:7] for entry in measured.values()}))
    processors = " or ".join(dict.fromkeys(entry["processor"] for entry in measured.values()))
    return (
        "Style to content is how much a recipe weighs style against content, in a unit in which "
        "recipes with multiples of the same losses can be compared: that of `nst-jax recipes list`, "
        "which `nst_jax/recipes/balance.py` explains.\n\n"
        f"The pictures were painted from the samples {PAIR[0]} and {PAIR[1]}, longer side 256 px (not "
        f"the size of the recipe's own rule), with at most {UPDATES} updates, so a recipe with more "
        "shows an unfinished picture; the number is given for each. Embedded weights, float32, "
        f"{first['cores']} shared cores of an {processors}, {versions}, at one of the commits "
        f"{commits} or a little later. Seconds are those of one run, without compiling; losses are "
        "those of the last canvas, weighted.\n"
    )


def _sections(measured: dict[str, Any]) -> list[str]:
    return [
        _section(recipe, NOTES[name], measured[name])
        if name in measured
        else _section_without_picture(recipe, NOTES[name])
        for name, recipe in PRESETS.items()
    ]


def _section_without_picture(recipe: Recipe, note: Note) -> str:
    parts = (
        f"## {recipe.name}",
        f"{recipe.source}.",
        f"There is no picture yet; `python -m docs.recipes_page paint {recipe.name}` paints one.",
        *_about_source(note),
    )
    return "\n\n".join(parts) + "\n"


def _about_source(note: Note) -> list[str]:
    """Return what is known of the source, as paragraphs."""
    departures = f"Departures: {note.departures or 'none known except those of all recipes'}."
    return [
        f"Lines of the source: {note.lines}.",
        departures,
        *([f"Versions of the source's libraries: {note.age}."] if note.age else []),
    ]


def _section(recipe: Recipe, note: Note, entry: dict[str, Any]) -> str:
    losses = entry["losses"]
    terms = "; ".join(f"{key} {losses[key]:.4g}" for key in ("content", "style", "tv"))
    width, height = entry["size"]
    updates = f"{entry['updates']} of {recipe.descent.updates_at((height, width))} updates"
    ended = "" if entry["status"] == "done" else f", {entry['status']}"
    size = "x".join(map(str, entry["size"]))
    after = f", from the picture of `{note.follows}`" if note.follows else ""
    # Added by hand to an entry that was measured beside other work.
    busy = " on cores that other programs used as well" if entry.get("busy") else ""
    compared = json.loads(PRINTED.read_text()).get(recipe.name)
    parts = (
        f"## {recipe.name}",
        f"{recipe.source}.",
        f"![{recipe.name}](recipes/{recipe.name}.jpg)",
        f"{size} px, {updates}{after}{ended}, in {entry['seconds']:g} s{busy}; loss "
        f"{entry['first_total']:.4g} at the start, {losses['total']:.4g} at the end ({terms}).",
        *_about_source(note),
        *([_beside_printed(compared)] if compared else []),
    )
    return "\n\n".join(parts) + "\n"


def _beside_printed(entry: dict[str, Any]) -> str:
    printed = entry["printed"]
    found = [
        f"{loss:.4g} with `{name}` ({100 * (loss / printed - 1):+.1f} %)"
        for name, loss in entry["torch"].items()
    ]
    return (
        f"Printed by the source at evaluation {entry['evaluation']}: {printed:.4g}. PyTorch, with the "
        f"source's pictures and the embedded weights, finds {' and '.join(found)}."
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    painting = commands.add_parser("paint")
    painting.add_argument("names", nargs="*", metavar="NAME", default=list(PRESETS))
    painting.add_argument("--updates", type=int, default=UPDATES)
    commands.add_parser("write")
    chosen = parser.parse_args()
    if chosen.command == "paint":
        paint(chosen.names, chosen.updates)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
