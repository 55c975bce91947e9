"""What the flags of the command line mean: recipes, style shares, starts."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _checks, images, optimizers, recipes, vgg
from nst_jax.recipes import starts, toml
from nst_jax.recipes.changes import with_learning_rate, with_options, with_strength
from nst_jax.recipes.presets import Recipe
from nst_jax.vgg import layers

START_NAMES = {
    "content": starts.FromContent,
    "style": starts.FromStyle,
    "noise": starts.Noise,
    "blank": starts.Blank,
    "content+noise": starts.Blend,
}


LARGEST_RECIPE = 2**20  # bytes; a recipe has two thousand


# --- Recipe ---------------------------------------------------------------------------------------


class Changes(NamedTuple):
    """What the command line may change of a recipe; None keeps the recipe's own."""

    recipe: str | None = None  # a preset's name, or a file
    values: tuple[str, ...] = ()  # KEY=VALUE, applied before the rest
    size: str | None = None
    style_size: str | None = None
    steps: int | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    learning_rate: float | None = None
    strength: float | None = None
    style_layer: tuple[str, ...] = ()  # "relu1_1=0.2" each, in the place of the recipe's
    content_layer: tuple[str, ...] = ()
    optimizer: str | None = None
    pool: str | None = None
    precision: str | None = None
    tile: str | None = None
    style_shares: tuple[float, ...] = ()


def recipe_of(changes: Changes) -> Recipe:
    """Return the recipe that the changes describe, checked.

    Raises:
      ValueError: for an unknown name or key, a file that is no recipe, a number out of range, a layer
        that is none, or a learning rate where the optimiser has none.
    """
    recipe = recipes.DEFAULT if changes.recipe is None else named_or_read(changes.recipe)
    if changes.values:
        recipe = toml.with_values(recipe, by_key(changes.values))
    names = ("content_weight", "style_weight", "tv_weight")
    weights: dict[str, Any] = {
        name: getattr(changes, name) for name in names if getattr(changes, name) is not None
    }
    weights |= _layers("content", changes.content_layer) | _layers("style", changes.style_layer)
    if changes.style_shares:
        weights["style_shares"] = changes.style_shares
    recipe = replace(recipe, terms=replace(recipe.terms, **weights))
    if changes.strength is not None:
        recipe = with_strength(recipe, changes.strength)
    if changes.pool is not None:
        recipe = replace(recipe, network=replace(recipe.network, pool=_pool(changes.pool)))
    if changes.optimizer is not None:
        optimizer = _optimizer(changes.optimizer, recipe.descent.coordinates)
        recipe = replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))
    if changes.learning_rate is not None:
        recipe = with_learning_rate(recipe, changes.learning_rate)
    return with_options(
        recipe,
        changes.size,
        changes.style_size,
        changes.steps,
        changes.precision,
        _tile(changes.tile),
    )


def _tile(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def shares_of(styles: Sequence[tuple[Path, float | None]]) -> tuple[float, ...]:
    """Return how much each style counts, or nothing where none was said.

    Raises:
      ValueError: if some have a share and others none, or one is no share.
    """
    shares = tuple(share for _, share in styles if share is not None)
    if shares and len(shares) < len(styles):
        bare = next(path for path, share in styles if share is None)
        name, colon, text = str(bare).rpartition(":")
        if colon:
            raise ValueError(f"`style`: {text!r} is no share of '{name}'; write '{name}:0.5'")
        raise ValueError(f"`style`: '{bare}' has no share and others have; write '{bare}:0.5'")
    for share in shares:
        _checks.number("style", share, least=0, below=recipes.LARGEST_SHARE)
    if shares and not sum(shares) > 1 / recipes.LARGEST_SHARE:
        raise ValueError("`style`: all shares are 0; give one style more")
    return shares


def _layers(kind: str, chosen: Sequence[str]) -> dict[str, Any]:
    """Return the taps and weights that `NAME=WEIGHT` words name, as fields of `Terms`."""
    if not chosen:
        return {}
    argument, pairs = f"{kind}_layer", [word.partition("=") for word in chosen]
    taps = vgg.resolve_taps([name for name, _, _ in pairs], argument=argument)
    weights = tuple(_layer_weight(argument, *pair) for pair in pairs)
    return {f"{kind}_taps": taps, f"{kind}_layer_weights": weights}


def _layer_weight(argument: str, name: str, equals: str, text: str) -> float:
    try:
        weight = float(text) if equals else 1.0
    except ValueError:
        raise ValueError(
            f"`{argument}`: expected NAME=WEIGHT such as relu4_1=0.2, got '{name}={text}'"
        ) from None
    _checks.number(argument, weight, least=0)
    return weight


def _pool(name: str) -> Any:
    if name not in layers.POOLS:
        raise _checks.unknown("pool", name, layers.POOLS, "pooling")
    return layers.POOLS[name]


def _optimizer(name: str, coordinates: vgg.Pixels) -> Any:
    """Return a rule by name whose moves are of its usual length in these coordinates."""
    known = {rule.lower(): rule for rule in optimizers.RULES}
    if name.lower() not in known:
        raise _checks.unknown("optimizer", name, optimizers.RULES, "optimizer")
    rule = optimizers.RULES[known[name.lower()]]()
    # The defaults are for sRGB in [0, 1]; network pixels have another unit.
    unit = coordinates.scale * len(coordinates.spread) / sum(coordinates.spread)
    lengths = {"radius", "largest_radius"} & set(vars(rule))
    if isinstance(rule, (optimizers.Adam, optimizers.KerasAdam)):
        lengths.add("learning_rate")
    return replace(rule, **{field: getattr(rule, field) * unit for field in lengths})


def recipe_file(text: str) -> Path | None:
    """Return the file that `--recipe` names, or None if it is the name of a preset."""
    separators = filter(None, (os.sep, os.altsep))
    is_path = text.lower().endswith(".toml") or any(mark in text for mark in separators)
    return Path(text) if is_path else None


def named_or_read(text: str) -> Recipe:
    """Return the preset of this name, or the recipe in this file.

    A file that does not say its recipe's name gives it its own.

    Raises:
      ValueError: for an unknown name, and for a file that is missing, cannot be read or is no recipe.
    """
    path = recipe_file(text)
    if path is None:
        return recipes.named(text)
    recipe = toml.from_toml(_text_of(path))
    return recipe if recipe.name else replace(recipe, name=path.stem)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_RECIPE + 1)  # a device might never end
    except FileNotFoundError:
        raise ValueError(f"`recipe`: there is no file '{path}'; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"`recipe`: cannot read '{path}': {reason}; check the path") from None
    if len(data) > LARGEST_RECIPE:
        raise ValueError(f"`recipe`: '{path}' is too large for a recipe, which is TOML")
    try:
        return data.decode("utf-8-sig")  # with or without the mark that some editors set
    except UnicodeDecodeError:
        raise ValueError(f"`recipe`: '{path}' is not UTF-8 text; a recipe is TOML") from None


def by_key(values: Iterable[str], *, argument: str = "values") -> dict[str, str]:
    """Return key to text of several KEY=VALUE; of a key that is given twice, the later one.

    Raises:
      ValueError: naming the argument, for a word that is none.
    """
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key.strip() and equals):
            raise ValueError(
                f"`{argument}`: expected KEY=VALUE, such as terms.style_weight=0.5, got {value!r}"
            )
        found.pop(key.strip(), None)  # so that it also counts as said later
        found[key.strip()] = text.strip()
    return found


def start_of(text: str | None, ratio: float | None) -> tuple[Any, images.Picture | None]:
    """Return the start that `--init` and `--noise-ratio` name, and the file it came from, if any."""
    if ratio is not None:
        if text != "content+noise":
            raise ValueError("`noise_ratio`: only `--init content+noise` has one; add that")
        _checks.number("noise_ratio", ratio, least=0)
        if ratio > 1:
            raise ValueError(f"`noise_ratio`: expected 0 (content) to 1 (noise), got {ratio:g}")
        return starts.Blend(ratio), None
    if text is None:
        return None, None
    if text in START_NAMES:
        return START_NAMES[text](), None
    # A bare word that is no file is more likely a start misspelt than a picture missing.
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        raise _checks.unknown("init", text, START_NAMES, "start or file")
    picture = images.read(text, argument="init")
    return picture.image, picture
