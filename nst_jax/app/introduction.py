"""Show what a command is about to paint: device, weights, recipe, pictures, memory, notes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nst_jax._types import Shape
from nst_jax.app.messages import as_flags
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.prepare import Scale, notes_on_enlarged_styles
from nst_jax.recipes.balance import balance
from nst_jax.recipes.presets import PRESETS
from nst_jax.recipes.recipe import Recipe, Terms
from nst_jax.recipes.strength import strength_of


def introduce(
    display: Display,
    *,
    device: Mapping[str, str] | None,
    weights: Mapping[str, Any],
    lines: Mapping[str, str],
    recipes: Iterable[Recipe],
    notes: Iterable[str] = (),
) -> None:
    """Show device and weights, the lines of the command, and then the notes.

    Args:
      display: where the lines and notes are shown.
      device: platform and kind of the device; None if this process does not paint itself.
      weights: family, encoding and digest of the weights.
      lines: texts of further lines, which differ between commands, by their titles.
      recipes: all recipes that are used, each once; `family_note` may give a note on each.
      notes: further notes, shown last.
    """
    shown = {} if device is None else {"device": device_words(device)}
    shown["weights"] = f"{weights['family']}, {weights['encoding']}, {weights['digest'][:12]}"
    display.facts(shown | dict(lines))
    for recipe in recipes:
        if note := family_note(recipe, weights["family"]):
            display.say(f"note: {note}")
    for note in notes:
        display.say(f"note: {note}")


def device_words(device: Mapping[str, str]) -> str:
    """Return a device's platform, followed by its kind if the kind is another word."""
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    return f"{device['platform']}{kind}"


def family_note(recipe: Recipe, family: str) -> str:
    """Return a note if the recipe's source used weights of another family than `family`, else ""."""
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
    """Return the part of each of `count` styles as text, such as ", 25%" or ", for relu1_1".

    The text is empty for a style that is not blended with others.
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
    """Return a note on each style that `style_scale` enlarges beyond the pixels of its file.

    Args:
      styles: the style pictures as they were read.
      scale: the last scale of the run.
      recipe: the recipe whose factors apply.
      of_regions: (height, width) of the styles of regions as they were read.
    """
    originals = [*(style.image.shape[:2] for style in styles), *of_regions]
    return [
        as_flags(note) for note in notes_on_enlarged_styles(originals, scale.style_shapes, recipe)
    ]


def weight_line(recipe: Recipe) -> dict[str, str]:
    """Return a line on the style weight, if it differs from that of the preset with the recipe's name.

    It has the factor, the value of `--strength` with this factor, and the balance of style to content
    where the recipe's losses have one.
    """
    preset = PRESETS.get(recipe.name)
    if preset is None or not (preset.terms.style_weight and preset.terms.content_weight):
        return {}
    factor = float(recipe.terms.style_weight / preset.terms.style_weight)
    if recipe.terms.content_weight:
        factor *= float(preset.terms.content_weight / recipe.terms.content_weight)
    if math.isclose(factor, 1, rel_tol=1e-9) or not (factor and recipe.terms.content_weight):
        return {}
    words = f"{factor:.3g} times the recipe's own, against the content"
    if 0 <= (dial := strength_of(factor)) <= 1:
        words += f" (strength {dial:.2g})"
    found = balance(recipe)
    return {"style weight": words + ("" if found is None else f"; style to content {found:.3g}:1")}


def finishing_lines(recipe: Recipe) -> dict[str, str]:
    """Return a line for each control that gives results other colours or edges than those painted."""
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
    """Return a line on a picture's old and new size, and the rule and filter of the resizing."""
    old = picture.image.shape
    if tuple(old[:2]) == tuple(shape):
        return f"{picture.name}, {px(old)}, not resized ({rule})"
    return f"{picture.name}, {px(old)} -> {px(shape)} ({rule}, {resampling})"
