"""What every command says before it paints: device, weights, recipe, pictures, memory, notes."""

from collections.abc import Iterable, Mapping
from typing import Any

from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.recipes.recipe import Recipe, Terms


def introduce(
    display: Display,
    *,
    device: Mapping[str, str] | None,
    weights: Mapping[str, Any],
    lines: Mapping[str, str],
    recipes: Iterable[Recipe],
    notes: Iterable[str] = (),
) -> None:
    """Show what will be done, and notes on it.

    Args:
      display: where it is shown.
      device: platform and kind; None if this process' device is not the one that paints.
      weights: family, encoding and digest of the weights.
      lines: what is special to the command: name to value.
      recipes: all that are used, each once.
      notes: shown after notes on the recipes' families of weights.
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
    """Return platform and kind of a device, the kind only if it says more."""
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    return f"{device['platform']}{kind}"


def family_note(recipe: Recipe, family: str) -> str:
    """Return a note if the recipe's source ran on weights of another family; else nothing."""
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
    """Return what is said of each style's share in a blend; nothing for a single style."""
    if count == 1:
        return [""]
    shares = [float(share) for share in terms.style_shares]
    shares = shares * count if len(shares) == 1 else shares
    return [f", {share / sum(shares):.0%}" for share in shares]


def size_words(picture: Any, shape: tuple[int, int], rule: Any, resampling: str) -> str:
    """Return how a picture is resized, and by which rule and filter."""
    old = picture.image.shape
    if tuple(old[:2]) == tuple(shape):
        return f"{picture.name}, {px(old)}, not resized ({rule})"
    return f"{picture.name}, {px(old)} -> {px(shape)} ({rule}, {resampling})"
