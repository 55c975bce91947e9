"""Turn values of command-line flags into recipes, style shares and initial pictures."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _checks, images, optimizers, recipes, vgg
from nst_jax.app.parsing import as_number
from nst_jax.recipes import changes as variants
from nst_jax.recipes import starts, toml
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.precision import precision_named

START_NAMES = {
    "content": starts.FromContent,
    "style": starts.FromStyle,
    "noise": starts.Noise,
    "blank": starts.Blank,
    "content+noise": starts.Blend,
    "instant": starts.Instant,
}

LARGEST_RECIPE = 2**20  # bytes; a larger file is refused, since a recipe file has about 2000

# Flags that set one value of the recipe, and the key of that value. A new flag of this sort needs a
# line here and in `Changes`.
KEYS = {
    "content_weight": "terms.content_weight",
    "style_weight": "terms.style_weight",
    "tv_weight": "terms.tv_weight",
    "style_scale": "pictures.style_scale",
    "style_shares": "terms.style_shares",
    "learning_rate": "descent.optimizer.learning_rate",
    "steps": "descent.steps",
    "pool": "network.pool",
    "precision": "network.precision",
    "tile": "network.tile",
    "colors": "pictures.colors",
    "realism": "pictures.realism",
}


# --- Recipe ---------------------------------------------------------------------------------------


class Changes(NamedTuple):
    """Values of the flags that change a recipe; None or an empty tuple keeps the recipe's own value."""

    recipe: str | None = None  # a preset's name, or the path of a recipe file
    values: tuple[str, ...] = ()  # KEY=VALUE each, applied before all other changes
    size: str | None = None
    style_size: str | None = None
    style_scale: tuple[float, ...] | None = None
    steps: int | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    learning_rate: float | None = None
    strength: float | None = None
    quality: str | None = None  # a key of `QUALITIES`; excludes `steps`
    style_layer: tuple[str, ...] = ()  # such as "relu1_1=0.2"; replaces all style layers
    content_layer: tuple[str, ...] = ()
    optimizer: str | None = None
    pool: str | None = None
    precision: str | None = None
    tile: str | None = None
    colors: str | None = None
    realism: float | None = None
    style_shares: tuple[float, ...] = ()


def recipe_of(changes: Changes) -> Recipe:
    """Return the checked recipe with all changes applied.

    Raises:
      ValueError: for an unknown name, key or layer, a file that is not a recipe, a number out of range,
        or a learning rate where the optimiser has none.
    """
    recipe = recipes.DEFAULT if changes.recipe is None else named_or_read(changes.recipe)
    if changes.values:
        if (
            changes.colors is not None
        ):  # before the values, which may say how these colours are made
            recipe = _with_flag(recipe, "colors", KEYS["colors"], changes.colors)
        recipe = toml.with_values(recipe, by_key(changes.values))
    if changes.optimizer is not None:
        optimizer = _optimizer(changes.optimizer, recipe.descent.coordinates)
        recipe = recipe.replace(descent__optimizer=optimizer)
    for flag, key in KEYS.items():
        value = getattr(changes, flag)
        if value is not None and value != ():
            recipe = _with_flag(recipe, flag, key, value)
    recipe = recipe.replace(_layers("content", changes.content_layer))
    recipe = _with_style_layers(recipe, changes.style_layer)
    if changes.strength is not None:
        recipe = variants.with_strength(recipe, changes.strength)
    if changes.quality is not None:
        if changes.steps is not None:
            raise ValueError(
                f"`quality`: {changes.quality} and {changes.steps} steps were given, and both are "
                "numbers of updates; leave one out"
            )
        recipe = variants.with_quality(recipe, changes.quality)
    return variants.with_options(recipe, changes.size, changes.style_size)


def _with_flag(recipe: Recipe, flag: str, key: str, value: Any) -> Recipe:
    """Return the recipe with its value at `key` replaced by the value of a flag."""
    if flag == "learning_rate":  # this call's error lists recipes with a learning rate
        return variants.with_learning_rate(recipe, value)
    value = _PLAIN[flag](value) if flag in _PLAIN else value
    return toml.with_value(recipe, key, value, argument=flag)


def _tile(text: str) -> int | str:
    """Return `--tile` as recipe files write it: a side in pixels, 0 for off, or "none" for auto."""
    tile = variants.tile_of(int(text) if text.isdecimal() else text)
    return toml.NONE if tile is None else tile


# Conversions of flags' values to those of recipe files, for flags where the two differ.
_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "style_shares": list,
    "style_scale": list,
    "precision": lambda name: precision_named(name).name,  # raises if it is unknown
    "tile": _tile,
}


def shares_of(styles: Sequence[tuple[Path, float | None]]) -> tuple[float, ...]:
    """Return the share of each style, or an empty tuple if no style has a share.

    Raises:
      ValueError: if only some styles have a share, if a share is out of range, or if all are 0.
    """
    shares = tuple(share for _, share in styles if share is not None)
    if shares and len(shares) < len(styles):
        bare = next(path for path, share in styles if share is None)
        name, colon, text = str(bare).rpartition(":")
        if colon:
            raise ValueError(f"`style`: {text!r} is no share of '{name}'; write '{name}:0.5'")
        raise ValueError(f"`style`: '{bare}' has no share, but others do; write '{bare}:0.5'")
    for share in shares:
        _checks.number("style", share, least=0, below=recipes.LARGEST_SHARE)
    if shares and not sum(shares) > 1 / recipes.LARGEST_SHARE:
        raise ValueError("`style`: all shares are 0; give at least one style a larger share")
    return shares


def _layers(kind: str, chosen: Sequence[str]) -> dict[str, Any]:
    """Return the taps and weights in texts `NAME=WEIGHT`, as a dict from recipe keys to values.

    A text without `=WEIGHT` has the weight 1.
    """
    if not chosen:
        return {}
    found = tap_weights(chosen, f"{kind}_layer")
    return {
        f"terms.{kind}_taps": tuple(found),
        f"terms.{kind}_layer_weights": tuple(found.values()),
    }


class StyleLayer(NamedTuple):
    """A style layer as `--style-layer` gives it."""

    tap: str
    weight: float | None  # None keeps the recipe's weight
    file: Path | None  # the style picture of this layer alone; None is the styles of the run


def style_layers(chosen: Sequence[str]) -> list[StyleLayer]:
    """Parse texts NAME, NAME=WEIGHT, NAME=FILE or NAME=WEIGHT:FILE; NAME alone has the weight 1.

    Text that is a number is a weight. (A file with the name 0.5 is given as `./0.5`.)

    Raises:
      ValueError: for an unknown or repeated layer, a negative weight, and text that is neither a number
        nor a file.

    Example:
      >>> style_layers(["relu1_1=0.5", "relu2_1"])[0]
      StyleLayer(tap='relu1_1', weight=0.5, file=None)
    """
    pairs = [word.partition("=") for word in chosen]
    if not pairs:
        return []
    taps = vgg.resolve_taps([name for name, _, _ in pairs], argument="style_layer")
    return [_style_layer(tap, *pair) for tap, pair in zip(taps, pairs, strict=True)]


def _style_layer(tap: str, name: str, equals: str, text: str) -> StyleLayer:
    before, colon, after = text.partition(":")
    if not equals or as_number(text) is not None:
        return StyleLayer(tap, _layer_weight("style_layer", name, equals, text), None)
    weighted = bool(colon) and as_number(before) is not None
    file = Path(after if weighted else text)
    if not file.is_file():
        raise ValueError(
            "`style_layer`: expected NAME=WEIGHT such as relu4_1=0.2, NAME=FILE or NAME=WEIGHT:FILE, "
            f"got '{name}={text}', and there is no file '{file}'"
        )
    weight = _layer_weight("style_layer", name, equals, before) if weighted else None
    return StyleLayer(tap, weight, file)


def _with_style_layers(recipe: Recipe, chosen: Sequence[str]) -> Recipe:
    """Return the recipe with the style layers that `--style-layer` gives.

    If any has a weight, the layers with weights replace all style layers of the recipe. A layer with a
    picture takes its style from that picture alone.
    """
    layers = style_layers(chosen)
    weights = {layer.tap: layer.weight for layer in layers if layer.weight is not None}
    if weights and getattr(recipe.terms.style_loss, "parts", None):
        raise ValueError(
            "`style_layer`: the style loss of this recipe has weights for its parts, not for layers; "
            "set `terms.style_taps` and `terms.style_layer_weights` with `--set`"
        )
    if weights:
        recipe = recipe.replace(
            {
                "terms.style_taps": tuple(weights),
                "terms.style_layer_weights": tuple(weights.values()),
            }
        )
    own = tuple(layer.tap for layer in layers if layer.file is not None)
    if own and recipe.terms.matched:
        raise ValueError(
            "`style_layer`: the style loss of this recipe compares all layers together, so none can "
            "have a picture of its own; omit the picture, or choose another recipe"
        )
    known = {part.tap for part in recipe.terms.style_parts}
    for tap in own:
        if tap not in known:
            raise ValueError(
                f"`style_layer`: {tap} has a picture, but it is no style layer here; give it a weight "
                f"too, as in {tap}=0.2:FILE"
            )
    return recipe.replace(terms__tap_styles=own) if own else recipe


def tap_files(chosen: Sequence[str]) -> dict[str, Path]:
    """Return the style picture of each layer that `--style-layer` gives one of its own."""
    return {layer.tap: layer.file for layer in style_layers(chosen) if layer.file is not None}


def tap_weights(chosen: Sequence[str], argument: str) -> dict[str, float]:
    """Return the weight of each tap in texts `NAME=WEIGHT` or `NAME`, whose weight is 1.

    Raises:
      ValueError: naming the argument, for an unknown or repeated tap, and for a weight that is no
        number or is negative.
    """
    pairs = [word.partition("=") for word in chosen]
    taps = vgg.resolve_taps([name for name, _, _ in pairs], argument=argument)
    weights = [_layer_weight(argument, *pair) for pair in pairs]
    return dict(zip(taps, weights, strict=True))


def _layer_weight(argument: str, name: str, equals: str, text: str) -> float:
    try:
        weight = float(text) if equals else 1.0
    except ValueError:
        raise ValueError(
            f"`{argument}`: expected NAME=WEIGHT such as relu4_1=0.2, got '{name}={text}'"
        ) from None
    _checks.number(argument, weight, least=0)
    return weight


def _optimizer(name: str, coordinates: vgg.Pixels) -> Any:
    """Return a named optimiser with its default step lengths in the unit of `coordinates`."""
    known = {rule.lower(): rule for rule in optimizers.OPTIMIZERS}
    if name.lower() not in known:
        raise _checks.unknown("optimizer", name, optimizers.OPTIMIZERS, "optimizer")
    rule = optimizers.OPTIMIZERS[known[name.lower()]]()
    # The default step lengths are for sRGB in [0, 1], where black and white are 1 apart. In the given
    # coordinates they are `unit` apart, if the mean spread of the channels is taken for each channel.
    unit = coordinates.scale * len(coordinates.spread) / sum(coordinates.spread)
    lengths = {"radius", "largest_radius"} & set(vars(rule))
    if isinstance(rule, (optimizers.Adam, optimizers.KerasAdam)):
        lengths.add("learning_rate")
    return replace(rule, **{field: getattr(rule, field) * unit for field in lengths})


def recipe_file(text: str) -> Path | None:
    """Return the file that `--recipe` names, or None if it names a preset."""
    separators = filter(None, (os.sep, os.altsep))
    is_path = text.lower().endswith(".toml") or any(mark in text for mark in separators)
    return Path(text) if is_path else None


def named_or_read(text: str) -> Recipe:
    """Return the preset with the name `text`, or the recipe in the file `text`.

    A recipe whose file sets no name is named after the file, without the suffix.

    Raises:
      ValueError: for an unknown name, and for a file that is missing, unreadable or not a recipe.
    """
    path = recipe_file(text)
    if path is None:
        return recipes.named(text)
    text = _text_of(path)
    try:
        recipe = toml.from_toml(text)
    except ValueError as error:
        raise ValueError(f"`recipe`: '{path}': {str(error).removeprefix('`recipe`: ')}") from None
    return recipe if recipe.name else recipe.replace(name=path.stem)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_RECIPE + 1)  # limited: a file such as /dev/zero never ends
    except FileNotFoundError:
        raise ValueError(f"`recipe`: there is no file '{path}'; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"`recipe`: cannot read '{path}': {reason}; check the path") from None
    if len(data) > LARGEST_RECIPE:
        raise ValueError(f"`recipe`: '{path}' is too large for a recipe, which is a TOML file")
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise ValueError(f"`recipe`: '{path}' is not UTF-8 text; a recipe is a TOML file") from None


# A key of a recipe after a space within a value, as in `terms.style_weight=1 terms.tv_weight=2`.
SECOND_KEY = re.compile(r"\s((?:pictures|network|terms|descent)\.[\w.]+)\s*=")


def by_key(values: Iterable[str], *, argument: str = "values") -> dict[str, str]:
    """Parse KEY=VALUE texts into a dict of key to text; of equal keys the last one counts.

    Raises:
      ValueError: naming the argument, for text without a key or without `=`, and for several settings
        with spaces between them, which would be read as one.
    """
    found: dict[str, str] = {}
    for value in values:
        if (second := SECOND_KEY.search(value)) is not None:
            how = "`--set` before each" if argument == "values" else "semicolons between them"
            raise ValueError(
                f"`{argument}`: {value!r} sets {second[1]} too, after a space; write {how}"
            )
        key, equals, text = value.partition("=")
        if not (key.strip() and equals):
            raise ValueError(
                f"`{argument}`: expected KEY=VALUE, such as terms.style_weight=0.5, got {value!r}"
            )
        found.pop(key.strip(), None)  # so that a repeated key takes its last place in the order
        found[key.strip()] = text.strip()
    return found


def with_start(recipe: Recipe, start: Any) -> Recipe:
    """Return the recipe with `start` as its start, so that a run records it.

    If `start` is a picture or None, the recipe is returned unchanged.
    """
    return recipe.replace(pictures__start=start) if callable(start) else recipe


def start_of(text: str | None, ratio: float | None) -> tuple[Any, images.Picture | None]:
    """Return the start (initial picture) that the flags describe, and the picture file read for it.

    Args:
      text: the value of `--init`: a key of `START_NAMES`, a path, or None for the recipe's own start.
      ratio: the value of `--noise-ratio`, or None.

    Returns:
      The start: None (the recipe's own), an instance of a class in `START_NAMES`, or an image
      [h, w, 3]; and the picture that was read from a file, or None.

    Raises:
      ValueError: for a ratio out of range or without `content+noise`, an unknown name, a file that
        cannot be read.
    """
    if ratio is not None:
        if text != "content+noise":
            raise ValueError("`noise_ratio`: is only used by `--init content+noise`; add that")
        _checks.number("noise_ratio", ratio, least=0)
        if ratio > 1:
            raise ValueError(f"`noise_ratio`: expected 0 (content) to 1 (noise), got {ratio:g}")
        return starts.Blend(ratio), None
    if text is None:
        return None, None
    if text in START_NAMES:
        return START_NAMES[text](), None
    # A bare word that is not a file is more likely a misspelt start than a missing picture.
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        raise _checks.unknown("init", text, START_NAMES, "start or file")
    picture = images.read(text, argument="init")
    return picture.image, picture
