"""Show what a command is about to paint: the device, weights, recipe, pictures, memory and notes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nst_jax import provenance
from nst_jax._types import Shape
from nst_jax.app.messages import as_flags
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.recipes.balance import balance
from nst_jax.recipes.presets import PRESETS
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.strength import factor_of, strength_of
from nst_jax.recipes.terms import Terms
from nst_jax.run_scales import Scale, notes_on_enlarged_styles


def introduce(
    display: Display,
    *,
    device: Mapping[str, str] | None,
    weights: Mapping[str, Any],
    lines: Mapping[str, str],
    recipes: Iterable[Recipe],
    notes: Iterable[str] = (),
) -> None:
    """Show the device and the weights, then `lines`, then notes.

    Args:
      display: where all this is shown.
      device: "platform" and "kind" of the device; None if other processes paint.
      weights: facts about the weights: their "family", such as "vgg19-caffe"; their "encoding", such
        as "float16"; and their "digest", a hash.
      lines: what else a command shows about its work, as a dict from titles to texts.
      recipes: all recipes that are used, each once. If the program that a recipe reproduces used other
        weights, a note says so.
      notes: further notes, shown last.
    """
    shown = {} if device is None else {"device": provenance.device_words(device)}
    shown["weights"] = f"{weights['family']}, {weights['encoding']}, {weights['digest'][:12]}"
    display.facts(shown | dict(lines))
    for recipe in recipes:
        if note := family_note(recipe, weights["family"]):
            display.say(f"note: {note}")
    for note in notes:
        display.say(f"note: {note}")


def family_note(recipe: Recipe, family: str) -> str:
    """Return a note if the program that a recipe reproduces used other weights than this run, else "".

    Args:
      recipe: a recipe.
      family: name of the set of network weights in use, such as "vgg19-caffe".
    """
    if family == recipe.family:
        return ""
    remedy = ""
    if recipe.family == "vgg19-torchvision":
        remedy = (
            "; for the source's: `nst-jax weights convert vgg19-dcbb9e9d.pth -o torchvision.h5` with "
            "torchvision's file, then `--weights torchvision.h5`"
        )
    return (
        f"the source of {recipe.name} ran on {recipe.family}, so on {family} this is "
        f"approximate{remedy}"
    )


def share_words(terms: Terms, count: int) -> list[str]:
    """Return for each style what part it has in the run, as text such as ", 25%" or ", for relu1_1".

    The text has a percentage if the style is blended with others, and the name of a layer if the style
    is used for this layer alone. In all other cases it is empty.

    Args:
      terms: the losses of the recipe, with the shares of styles and the layers with a style of their
        own.
      count: the number of all styles; those for a single layer come last.
    """
    own = [f", for {tap}" for tap in terms.tap_styles]
    if (blended := count - len(own)) == 1:
        return ["", *own]
    shares = [float(share) for share in terms.style_shares]
    shares = shares * blended if len(shares) == 1 else shares
    return [*(f", {share / sum(shares):.0%}" for share in shares), *own]


def style_scale_notes(
    styles: Sequence[Any], scale: Scale, recipe: Recipe, *, of_regions: Sequence[Shape] = ()
) -> list[str]:
    """Return a note on each style that the recipe's `style_scale` enlarges beyond its original size.

    Args:
      styles: the style pictures as they were read.
      scale: the final scale (resolution) of the run, with the sizes of the resized styles.
      recipe: the recipe, with the factor `style_scale` of each style.
      of_regions: for each region (a part of the content with a style of its own), the (height, width)
        of its style as it was read.
    """
    originals = [*(style.image.shape[:2] for style in styles), *of_regions]
    return [
        as_flags(note) for note in notes_on_enlarged_styles(originals, scale.style_shapes, recipe)
    ]


def strength_words(recipe: Recipe, strength: float) -> str:
    """Return text with a strength, and with what it has changed in the recipe.

    Args:
      recipe: the recipe, already changed by the strength.
      strength: the value of `--strength`, from 0 to 1.
    """
    if recipe.terms.searched:
        share = float(np.max(recipe.terms.search_content))
        return (
            f"{strength:g}: nearest neighbours in the style are sought for a mixture of {share:.3g} of "
            f"the photo and {1 - share:.3g} of the canvas"
        )
    factor = factor_of(strength)
    return f"{strength:g}, which is {factor:.3g} times the recipe's own style weight"


def weight_line(recipe: Recipe, strength: float | None = None) -> dict[str, str]:
    """Return a line on how strong the style is, if that was changed in the recipe.

    The recipe is compared with the preset of the same name. If the ratio of style weight to content
    weight differs, the line says how many times larger it is in the recipe. It also names the value of
    `--strength` that has the same effect, if there is one. If the ratios are equal or cannot be
    compared, the line has the strength and what it has changed. The line ends with the balance, a
    measure of style against content that can be compared among recipes. Some losses have no balance
    (see `nst_jax.recipes.balance`).

    Args:
      recipe: the recipe, already changed by the strength if one was used.
      strength: the strength (0 to 1), as after `--strength`; None if it was not used.

    Returns:
      A dict from the title of the line to its text. It is empty if `strength` is None and the ratios
      are equal or cannot be compared. They cannot be compared if there is no preset of the same name,
      or if a weight is 0.
    """
    compared = _compared_weight(recipe)
    if compared is None and strength is None:
        return {}
    found = balance(recipe)
    ending = "" if found is None else f"; style to content {found:.3g}:1"
    if compared is not None:
        return {"style weight": compared + ending}
    assert strength is not None
    return {"strength": strength_words(recipe, strength) + ending}


def _compared_weight(recipe: Recipe) -> str | None:
    """Return, as text, a recipe's style weight as a multiple of the style weight of its preset.

    Both are divided by their content weights first, since only the ratio matters. The result is None if
    the ratios are equal, if no preset has the recipe's name, or if one of the weights is 0.
    """
    preset = PRESETS.get(recipe.name)
    if preset is None or not (preset.terms.style_weight and preset.terms.content_weight):
        return None
    factor = float(recipe.terms.style_weight / preset.terms.style_weight)
    if recipe.terms.content_weight:
        factor *= float(preset.terms.content_weight / recipe.terms.content_weight)
    if math.isclose(factor, 1, rel_tol=1e-9) or not (factor and recipe.terms.content_weight):
        return None
    words = f"{factor:.3g} times the recipe's own, against the content"
    if 0 <= (dial := strength_of(factor)) <= 1:
        words += f" (strength {dial:.2g})"
    return words


def finishing_lines(recipe: Recipe) -> dict[str, str]:
    """Return lines on a recipe's `colors` and `realism`, which change colours and edges of results.

    Returns:
      A dict from titles to texts. It has the title "colors" unless results keep the colours of the
      style, and the title "realism" unless `realism` is 0.
    """
    pictures, found = recipe.pictures, {}
    if pictures.colors != "style":
        extra = {"content": pictures.color_map, "palette": ""}.get(
            pictures.colors, pictures.chroma_space
        )
        found["colors"] = f"{pictures.colors} ({extra})" if extra else pictures.colors
    if pictures.realism:
        found["realism"] = f"{pictures.realism:g}"
    return found


def size_words(picture: Any, shape: tuple[int, int], rule: Any, resampling: str) -> str:
    """Return a line with a picture's name, its old and new size, and how it was resized.

    Args:
      picture: the picture as it was read.
      shape: (height, width) of the resized picture.
      rule: the recipe's rule for sizes, from which `shape` was computed.
      resampling: the name of the filter for resizing.
    """
    old = picture.image.shape
    if tuple(old[:2]) == tuple(shape):
        return f"{picture.name}, {px(old)}, not resized ({rule})"
    return f"{picture.name}, {px(old)} -> {px(shape)} ({rule}, {resampling})"
