"""Turn the values of command-line flags into recipes, weights of styles and initial pictures."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _checks, images, optimizers, recipes, vgg
from nst_jax.app.parsing import as_number, parse_path
from nst_jax.app.recipe_files import named_or_read_and_strength
from nst_jax.recipes import changes as variants
from nst_jax.recipes import starts, tables, toml
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.strength import factor_of
from nst_jax.vgg.precision import precision_named

# The words that `--init` accepts in place of the path of a file, each with the class whose instances
# make the initial picture.
START_NAMES = {
    "content": starts.FromContent,
    "style": starts.FromStyle,
    "noise": starts.Noise,
    "blank": starts.Blank,
    "content+noise": starts.Blend,
    "instant": starts.Instant,
}

# For each flag that replaces a single value of the recipe: its attribute of `Changes` (the class below,
# which has the values of all flags), and the key of the replaced value in recipe files. A new flag of
# this sort needs such an attribute and a line here.
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
    """The values of all flags that choose or change a recipe.

    Each attribute has the name of its flag, except `values` (`--set`), `learning_rate` (`--lr`) and
    `style_shares` (weights for blending several styles, typed as in a.jpg:0.7). None or an empty tuple
    means that the flag was not given, so the recipe's own value is kept.
    """

    recipe: str | None = None  # a preset's name or a recipe file's path; None: the default recipe
    values: tuple[str, ...] = ()  # texts KEY=VALUE; other flags override them
    size: str | None = None
    style_size: str | None = None
    style_scale: tuple[float, ...] | None = None
    steps: int | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    learning_rate: float | None = None
    strength: float | None = None
    quality: str | None = None  # such as "draft"; sets the number of updates, as `steps` does
    # Style layers such as "relu1_1", "relu1_1=0.2" (with a weight) or "relu1_1=a.jpg" (with a style of
    # its own); see the function `style_layers`.
    style_layer: tuple[str, ...] = ()
    content_layer: tuple[str, ...] = ()
    optimizer: str | None = None
    pool: str | None = None
    precision: str | None = None
    tile: str | None = None
    colors: str | None = None
    realism: float | None = None
    style_shares: tuple[float, ...] = ()


def recipe_of(changes: Changes, *, controls: bool = False) -> Recipe:
    """Return the recipe that the flags describe, after checking it.

    Args:
      changes: the flags.
      controls: whether a recipe file may have a table `controls`, which names masks and other pictures
        and is read by the caller.

    Raises:
      ValueError: for an unknown name, key or layer, a file that is not a recipe, a value that cannot be
        used, a learning rate where the optimiser has none, or `quality` with a number of steps.
    """
    recipe, strength = recipe_and_strength_of(changes, controls=controls)
    return variants.with_options(recipe, strength=strength)


def recipe_and_strength_of(
    changes: Changes, *, controls: bool = False
) -> tuple[Recipe, float | None]:
    """Return the recipe that the flags describe, and apart from it the strength of its style.

    A strength, from 0 to 1, changes the style weight or, for some style losses, `terms.search_content`;
    see `recipes.changes.with_strength`. The caller applies it after all other changes. If several
    strengths are given, only one is returned: that of `--strength`, or else of `--set`, or else of the
    recipe file.

    Args:
      changes: the flags.
      controls: whether a recipe file may have a table `controls`, which names masks and other pictures
        and is read by the caller.

    Returns:
      The checked recipe, to which the strength is not applied yet; and the checked strength, or None if
      there is none.

    Raises:
      ValueError: as in `recipe_of`.
    """
    recipe, strength = named_or_read_and_strength(changes.recipe, controls)
    values = by_key(changes.values)
    if changes.optimizer is not None:
        # This is done before `--set` is applied, which may change numbers of this optimiser. A whole
        # optimiser in `--set` is overridden, as other flags override `--set`.
        recipe = _with_optimizer(recipe, changes.optimizer, values)
        values.pop("descent.optimizer", None)
    if values:
        # All other flags are applied below, after `--set`, so that they override it. Only `--colors`
        # and `--steps` are applied here as well. For `--set` may set `pictures.color_map`, which is
        # refused unless `pictures.colors` is already "content"; and a schedule without numbers of
        # updates of its own, which is refused while `descent.steps` is None.
        if changes.colors is not None:
            recipe = _with_flag(recipe, "colors", KEYS["colors"], changes.colors)
        if changes.steps is not None:
            _checks.whole("steps", changes.steps, least=1)
            recipe = _with_flag(recipe, "steps", KEYS["steps"], changes.steps)
        try:
            recipe, own = toml.values_and_strength(recipe, values)
        except ValueError as error:
            raise ValueError(_with_cause_named(str(error), values, changes)) from None
        strength = strength if own is None else own
    for flag, key in KEYS.items():
        value = getattr(changes, flag)
        if value is not None and value != ():
            recipe = _with_flag(recipe, flag, key, value)
    recipe = recipe.replace(_content_layers(changes.content_layer))
    recipe = _with_style_layers(recipe, changes.style_layer)
    if changes.strength is not None:
        factor_of(changes.strength)  # raises an error for a strength outside 0 to 1
        strength = changes.strength
    if changes.quality is not None:
        # `descent.steps=none` in `--set` is no number: it leaves the numbers to the schedule.
        given = changes.steps is not None or KEYS["steps"] in values
        steps = recipe.descent.steps
        if given and steps is not None:
            raise ValueError(
                f"`quality`: {changes.quality} and {steps} steps were given, and both are numbers of "
                "updates; leave one out"
            )
        recipe = variants.with_quality(recipe, changes.quality)
    return variants.with_options(recipe, changes.size, changes.style_size), strength


# For each key that may be refused because of a flag that is applied before `--set`: this flag. Beside
# the optimiser itself, these are the keys of values that some optimisers exclude.
_CAUSES = {
    "pictures.colors": "colors",
    "descent.optimizer": "optimizer",
    "descent.pyramid_levels": "optimizer",
    "descent.average_decay": "optimizer",
    "descent.last_learning_rate": "optimizer",
}


def _with_cause_named(message: str, values: Mapping[str, str], changes: Changes) -> str:
    """Return an error message on `--set` that names another flag if that flag is the cause.

    Args:
      message: the message, which may begin as in "`values`: `descent.average_decay`: ".
      values: the settings of `--set` that were applied. A key that is among them keeps its name.
      changes: the flags.
    """
    found = re.match(r"`values`: `([\w.]+)`", message)
    if found is None or found[1] in values:
        return message
    flag = _CAUSES.get(found[1])
    given = flag is not None and getattr(changes, flag) is not None
    return f"`{flag}`{message[found.end() :]}" if given else message


def _with_flag(recipe: Recipe, flag: str, key: str, value: Any) -> Recipe:
    """Return the recipe with one of its values replaced by the value of a flag.

    Args:
      recipe: the recipe to change.
      flag: the Python name of the flag, for error messages.
      key: the key of the value in recipe files.
      value: the value of the flag.
    """
    if flag == "learning_rate":
        # A recipe may have a second learning rate, for its last scale (resolution level).
        # `with_learning_rate` changes both by the same factor.
        return variants.with_learning_rate(recipe, value)
    value = _CONVERSIONS[flag](value) if flag in _CONVERSIONS else value
    return toml.with_value(recipe, key, value, argument=flag)


def _with_optimizer(recipe: Recipe, name: str, values: Mapping[str, str]) -> Recipe:
    """Return the recipe with another optimiser, whose step lengths suit the recipe's coordinates.

    Args:
      recipe: the recipe to change. The result is not checked.
      name: a name in `optimizers.OPTIMIZERS`, in upper or lower case.
      values: the settings of `--set`, from keys to texts, which are applied later. If they change
        `descent.coordinates`, the step lengths suit the new coordinates.
    """
    key, descent = "descent.coordinates", recipe.descent
    if key in values:
        descent = toml.with_text(recipe, key, values[key]).descent
    return recipe.replace(descent__optimizer=_optimizer(name, descent.coordinates))


def _tile(text: str) -> int | str:
    """Return the value of `--tile` as recipe files write it.

    A number of pixels stays a number. "off" (no tiles) becomes 0. "auto" (tiles only if the picture
    does not fit in memory) becomes "none", which stands for None in these files.
    """
    tile = variants.tile_of(int(text) if text.isdecimal() else text)
    return tables.NONE if tile is None else tile


# Name of a flag -> the function that converts a value of the flag to a value of a recipe file. Values
# of flags that are not listed here are the same in recipe files. So is a precision; its function only
# checks it.
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "style_shares": list,
    "style_scale": list,
    "precision": lambda name: precision_named(name).name,  # raises if the name is unknown
    "tile": _tile,
}


def shares_of(styles: Sequence[tuple[Path, float | None]]) -> tuple[float, ...]:
    """Return the share of each style in the blend of all, or an empty tuple if no shares were typed.

    Args:
      styles: the path of each style, and its share if one was typed, else None.

    Raises:
      ValueError: if only some styles have a share, if a share is out of range, or if the sum of the
        shares is 0 or, at 1e-30 or less, almost 0.
    """
    shares = tuple(share for _, share in styles if share is not None)
    if shares and len(shares) < len(styles):
        bare = next(path for path, share in styles if share is None)
        name, colon, text = str(bare).rpartition(":")
        if colon:
            raise ValueError(f"`style`: {text!r} is no share of '{name}'; write '{name}:0.5'")
        raise ValueError(f"`style`: '{bare}' has no share, but others do; write '{bare}:0.5'")
    for path, share in styles:
        if share is not None and not 0 <= share < recipes.LARGEST_SHARE:
            raise ValueError(
                f"`style`: the share of '{path}' is {share:g}; expected a finite number of 0 or "
                f"more, and less than {recipes.LARGEST_SHARE:g}"
            )
    if shares and not sum(shares) > 1 / recipes.LARGEST_SHARE:
        raise ValueError("`style`: all shares are 0; give at least one style a larger share")
    return shares


def _content_layers(chosen: Sequence[str]) -> dict[str, Any]:
    """Return the recipe values that `--content-layer` sets, as a dict from recipe keys to values.

    Args:
      chosen: the values of the flag: texts NAME=WEIGHT, or NAME for the weight 1. If there are none,
        the dict is empty.
    """
    if not chosen:
        return {}
    found = tap_weights(chosen, "content_layer")
    return {
        "terms.content_taps": tuple(found),
        "terms.content_layer_weights": tuple(found.values()),
    }


class StyleLayer(NamedTuple):
    """One value of the flag `--style-layer`, parsed."""

    tap: str  # the full name of the layer whose activations are compared, such as relu1_1
    # Weight of the layer's style loss. None if the value is NAME=FILE: the recipe's weight is kept.
    weight: float | None
    file: Path | None  # a style picture for this layer alone; None: the layer uses the run's styles


def style_layers(chosen: Sequence[str]) -> list[StyleLayer]:
    """Parse values of `--style-layer`: NAME, NAME=WEIGHT, NAME=FILE or NAME=WEIGHT:FILE.

    NAME alone has the weight 1. If the text after `=` is a number, it is a weight, even if a file has
    this name; a file with the name 0.5 can be given as `./0.5`.

    Raises:
      ValueError: for an unknown or repeated layer, for a weight that is negative or not finite, and if
        the text after `=` is not a number and FILE in it is not the path of a file.

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
    typed = after if weighted else text
    file = parse_path(typed)
    if not file.is_file():
        missing = f", and there is no file '{file}'" if typed else ""
        raise ValueError(
            "`style_layer`: expected NAME=WEIGHT such as relu4_1=0.2, NAME=FILE or NAME=WEIGHT:FILE, "
            f"got '{name}={text}'{missing}"
        )
    weight = _layer_weight("style_layer", name, equals, before) if weighted else None
    return StyleLayer(tap, weight, file)


def _with_style_layers(recipe: Recipe, chosen: Sequence[str]) -> Recipe:
    """Return the recipe with the style layers that the values of `--style-layer` describe.

    If at least one value has a weight, the layers with weights replace all style layers of the recipe.
    A layer with a picture file takes its style from that picture alone.
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
                f"`style_layer`: {tap} has a picture, but it is no style layer here; write a weight "
                "before the picture, as in 0.2:FILE"
            )
    return recipe.replace(terms__tap_styles=own) if own else recipe


def tap_files(chosen: Sequence[str]) -> dict[str, Path]:
    """Return the style picture's path for each layer to which a value of `--style-layer` gives one.

    The result is a dictionary: full name of the layer, such as relu1_1 -> path.
    """
    return {layer.tap: layer.file for layer in style_layers(chosen) if layer.file is not None}


def tap_weights(chosen: Sequence[str], argument: str) -> dict[str, float]:
    """Return the weights that texts give to layers of the network, as a dict from names to numbers.

    Args:
      chosen: texts NAME=WEIGHT, or NAME for the weight 1.
      argument: the caller's name for `chosen`, used in error messages.

    Raises:
      ValueError: for an unknown or repeated layer, and for a weight that is negative, not finite or not
        a number.
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
    """Return an optimiser by its name, with default step lengths that are converted to `coordinates`.

    The step lengths that this function converts are the learning rates of `Adam`, `KerasAdam` and
    `RMSprop`, whose updates do not depend on how large gradients are, and the radii of `LBFGS`. The
    other optimisers keep their default settings: the updates of `DecayedSGD` and `TorchLBFGS` depend on
    the gradient.

    Args:
      name: a name in `optimizers.OPTIMIZERS`, in upper or lower case.
      coordinates: the range of pixel values in which the optimiser updates the canvas (the picture that
        is painted); for instance, black and white may differ by 1 or by 255.
    """
    known = {rule.lower(): rule for rule in optimizers.OPTIMIZERS}
    if name.lower() not in known:
        raise _checks.unknown("optimizer", name, optimizers.OPTIMIZERS, "optimizer")
    rule = optimizers.OPTIMIZERS[known[name.lower()]]()
    # The default step lengths are for sRGB in [0, 1], where black and white differ by 1. In the given
    # coordinates, a colour channel is multiplied by `scale` and divided by its own number in `spread`,
    # so black and white differ by the quotient. `unit`, the factor for the step lengths, is `scale`
    # divided by the mean of `spread`.
    unit = coordinates.scale * len(coordinates.spread) / sum(coordinates.spread)
    lengths = {"radius", "largest_radius"} & set(vars(rule))
    if isinstance(rule, (optimizers.Adam, optimizers.KerasAdam, optimizers.RMSprop)):
        lengths.add("learning_rate")
    return replace(rule, **{field: getattr(rule, field) * unit for field in lengths})


# Matches a second recipe key with `=` in the text of one `--set`, as in
# `terms.style_weight=1 terms.tv_weight=2`. It is probably meant as a second setting, but would be read
# as a part of the first value.
SECOND_KEY = re.compile(r"\s((?:pictures|network|terms|descent)\.[\w.]+)\s*=")


def by_key(values: Iterable[str], *, argument: str = "values") -> dict[str, str]:
    """Parse texts KEY=VALUE into a dict from keys to values, both of them text.

    If a key occurs several times, its last value counts.

    Args:
      values: the texts.
      argument: the caller's name for `values`, used in error messages.

    Raises:
      ValueError: for a text without a key or without `=`, and for a text with several settings
        separated by spaces, which would be read as one setting.
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
        # Values are applied in the order of the dict, so a repeated key is moved to the dict's end.
        found.pop(key.strip(), None)
        found[key.strip()] = text.strip()
    return found


def with_start(recipe: Recipe, start: Any) -> Recipe:
    """Return the recipe with another start: a function that makes the initial canvas.

    Args:
      recipe: a recipe.
      start: the first result of `start_of`. If it is None or a picture, and not a function, the recipe
        stays unchanged; callers give a picture to the job as `init`.
    """
    return recipe.replace(pictures__start=start) if callable(start) else recipe


def start_of(text: str | None, ratio: float | None) -> tuple[Any, images.Picture | None]:
    """Return the start that `--init` and `--noise-ratio` name: an initial canvas, or how it is made.

    Args:
      text: the value of `--init`: a key of `START_NAMES`, a path, or None for the recipe's own start.
      ratio: the value of `--noise-ratio`, from 0 (content) to 1 (noise); None if it was not given.

    Returns:
      A pair. First the start: None for the recipe's own, an instance of a class in `START_NAMES`, or
      an image [h, w, 3] in [0, 1] that was read from a file. Then the `Picture` that was read from this
      file, or None if no file was read.

    Raises:
      ValueError: for a ratio out of range or without `--init content+noise`, for an unknown name, and
        for a file that cannot be read.
    """
    if ratio is not None:
        if text != "content+noise":
            raise ValueError("`noise_ratio`: is only used by `--init content+noise`; add that")
        _checks.number("noise_ratio", ratio, least=0, most=1, means=starts.RATIO)
        return starts.Blend(ratio), None
    if text is None:
        return None, None
    if not text:
        raise ValueError(f"`init`: is empty; name a file, or one of {', '.join(START_NAMES)}")
    if text in START_NAMES:
        return START_NAMES[text](), None
    # If `text` names no existing file and has neither suffix nor folder, it is more likely a misspelt
    # key of `START_NAMES` than the name of a missing picture.
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        raise _checks.unknown("init", text, START_NAMES, "start or file")
    picture = images.read(text, argument="init")
    return picture.image, picture
