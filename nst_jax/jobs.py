"""What the command line was asked to do, checked whole before anything long begins."""

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nst_jax import (
    capacity,
    checkpoints,
    checks,
    images,
    layers,
    optimizers,
    prepare,
    recipe_files,
    recipes,
    sharding,
    starts,
    verbs,
    vgg,
)
from nst_jax._types import Checkpoint
from nst_jax.balance import with_strength
from nst_jax.recipes import Recipe
from nst_jax.sharding import Devices

STARTS = {
    "content": starts.FromContent,
    "style": starts.FromStyle,
    "noise": starts.Noise,
    "blank": starts.Blank,
    "content+noise": starts.Blend,
}

LARGEST_RECIPE = 2**20  # bytes; a recipe has two thousand
EVERY = inspect.signature(verbs.paint).parameters["every"].default


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a run's results go.

    Attributes:
      picture: the result.
      overwrite: whether an existing file may be replaced.
      metadata: whether settings are embedded.
      every: updates between refreshes of the picture; None writes it once, at the end.
      frames: folder for snapshots, or None; they come every `every` updates too.
      log: JSON lines, or None.
      checkpoint: where the run's state is kept, or None.
      checkpoint_every: updates between two checkpoints; None goes by the clock.
      resume: whether to go on from the checkpoint, if there is one.
    """

    picture: Path
    overwrite: bool = True
    metadata: bool = True
    every: int | None = None
    frames: Path | None = None
    log: Path | None = None
    checkpoint: Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False

    @property
    def stride(self) -> int | None:
        """Updates between the canvases that are kept on the way, if any are."""
        if self.every is None and self.frames is not None:
            return EVERY
        return self.every


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to paint; everything is checked."""

    content: images.Picture
    styles: tuple[images.Picture, ...]
    recipe: Recipe  # with every flag in it
    seed: int
    outputs: Outputs
    init: Any = None  # a start, a picture, or None for the recipe's
    init_file: images.Picture | None = None
    scales: tuple[prepare.Scale, ...]
    fit: capacity.Fit  # how it is brought into memory
    resume: Checkpoint | None = None
    devices: Devices = None  # that share its rows

    @property
    def inputs(self) -> dict[str, images.Picture]:
        """The files that the result depends on, by role."""
        return roles(self.content, self.styles, self.init_file)


File = TypeVar("File")  # a picture, or what is known of one


def roles(content: File, styles: Sequence[File], init: File | None) -> dict[str, File]:
    """Return the files that a result depends on, by role: content, style, style_2, ..., init."""
    names = ["style", *(f"style_{number}" for number in range(2, len(styles) + 1))]
    found = {"content": content, **dict(zip(names, styles, strict=True))}
    return found | ({"init": init} if init is not None else {})


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
        recipe = recipe_files.with_values(recipe, by_key(changes.values))
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
    return verbs.settled(
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
        checks.number("style", share, least=0, below=recipes.LARGEST_SHARE)
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
    checks.number(argument, weight, least=0)
    return weight


def _pool(name: str) -> Any:
    if name not in layers.POOLS:
        raise checks.unknown("pool", name, layers.POOLS, "pooling")
    return layers.POOLS[name]


def _optimizer(name: str, coordinates: vgg.Pixels) -> Any:
    """Return a rule by name whose moves are of its usual length in these coordinates."""
    known = {rule.lower(): rule for rule in optimizers.RULES}
    if name.lower() not in known:
        raise checks.unknown("optimizer", name, optimizers.RULES, "optimizer")
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
    recipe = recipe_files.from_toml(_text_of(path))
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


def with_learning_rate(recipe: Recipe, rate: Any) -> Recipe:
    """Return the recipe with another learning rate, or an array of them.

    Raises:
      ValueError: if its optimiser has none, with the recipes whose optimiser has.
    """
    optimizer: Any = recipe.descent.optimizer
    if not hasattr(optimizer, "learning_rate"):
        others = [
            name
            for name, preset in recipes.PRESETS.items()
            if hasattr(preset.descent.optimizer, "learning_rate")
        ]
        raise ValueError(
            f"`learning_rate`: recipe {recipe.name!r} has none, its {type(optimizer).__name__} "
            f"finds its own moves; recipes that take one: {', '.join(others)}"
        )
    optimizer = replace(optimizer, learning_rate=rate)
    return replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))


def start_of(text: str | None, ratio: float | None) -> tuple[Any, images.Picture | None]:
    """Return the start that `--init` and `--noise-ratio` name, and the file it came from, if any."""
    if ratio is not None:
        if text != "content+noise":
            raise ValueError("`noise_ratio`: only `--init content+noise` has one; add that")
        checks.number("noise_ratio", ratio, least=0)
        if ratio > 1:
            raise ValueError(f"`noise_ratio`: expected 0 (content) to 1 (noise), got {ratio:g}")
        return starts.Blend(ratio), None
    if text is None:
        return None, None
    if text in STARTS:
        return STARTS[text](), None
    # A bare word that is no file is more likely a start misspelt than a picture missing.
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        raise checks.unknown("init", text, STARTS, "start or file")
    picture = images.read(text, argument="init")
    return picture.image, picture


# --- Destinations ---------------------------------------------------------------------------------


def check_outputs(outputs: Outputs, inputs: Sequence[Path]) -> None:
    """Refuse destinations that cannot be written, or that would destroy an input.

    Raises:
      ValueError: naming the flag.
    """
    images.check_output(outputs.picture, overwrite=outputs.overwrite, argument="output")
    refuse_inputs(outputs.picture, inputs, "output")
    if outputs.every is not None:
        checks.number("every", outputs.every, least=1)
    if outputs.log is not None:
        check_file(outputs.log, "log", overwrite=outputs.overwrite)
        refuse_inputs(outputs.log, [*inputs, outputs.picture], "log")
    if outputs.checkpoint is not None:
        check_file(outputs.checkpoint, "checkpoint")
        others = [*inputs, outputs.picture, *([outputs.log] if outputs.log is not None else [])]
        refuse_inputs(outputs.checkpoint, others, "checkpoint")
    if outputs.checkpoint_every is not None:
        checks.number("checkpoint_every", outputs.checkpoint_every, least=1)
    if outputs.frames is not None:
        check_folder(outputs.frames, "frames")
        files = (outputs.log, outputs.checkpoint)
        others = [*inputs, outputs.picture, *(file for file in files if file is not None)]
        refuse_among_frames(outputs.frames, others)
        kept = sorted(outputs.frames.glob("step_*.png")) if outputs.frames.exists() else []
        if kept and not outputs.overwrite:
            raise ValueError(f"`frames`: '{kept[0]}' exists; name another folder or `--overwrite`")


def refuse_inputs(path: Path, inputs: Iterable[Path], argument: str) -> None:
    """Refuse to write over a file that is read."""
    for source in inputs:
        same = path.absolute() == source.absolute()
        if same or (path.exists() and source.exists() and path.samefile(source)):
            raise ValueError(f"`{argument}`: '{path}' is used for something else; choose another")


def refuse_among_frames(folder: Path, others: Iterable[Path]) -> None:
    """Refuse a folder of snapshots in which a file that is used has a snapshot's name."""
    for other in others:
        inside = other.absolute().parent.resolve() == folder.absolute().resolve()
        if inside and other.match("step_*.png"):
            raise ValueError(
                f"`frames`: a snapshot would replace '{other}', which is used for something else; "
                "name another folder"
            )


def check_file(path: Path, argument: str, *, overwrite: bool = True) -> None:
    """Refuse a file that could not be written."""
    if path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise ValueError(f"`{argument}`: '{path}' exists; choose another name or `--overwrite`")
    _check_parent(path, argument)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"`{argument}`: '{path}' may not be written to; check its permissions")


def check_folder(path: Path, argument: str) -> None:
    """Refuse a folder that cannot be made or written to; its parent must exist."""
    if not path.exists():
        _check_parent(path, argument)
    elif not path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a file; name a folder")
    elif not os.access(path, os.W_OK):
        raise ValueError(f"`{argument}`: the folder '{path}' may not be written to")


def _check_parent(path: Path, argument: str) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ValueError(f"`{argument}`: the folder '{path.parent}' does not exist; make it first")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"`{argument}`: the folder '{path.parent}' may not be written to")


# --- Jobs -----------------------------------------------------------------------------------------


def job_of(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    outputs: Outputs,
    *,
    seed: int = 0,
    init: Any = None,
    init_file: images.Picture | None = None,
    resume: Checkpoint | None = None,
    devices: Devices = None,
) -> Job:
    """Put a job together, and refuse pictures that would become too small, or too large to write.

    Raises:
      ValueError: naming the picture and the size it would have, or if the recipe has shares for
        another number of styles, or if memory does not hold it in any way.
    """
    shapes = [style.image.shape[:2] for style in styles]
    scales = prepare.scales_of(content.image.shape[:2], shapes, recipe)
    images.check_fits(outputs.picture, scales[-1].shape, argument="output")
    # What is kept may go on where there is more memory, and has to be the same run there.
    yielding = outputs.checkpoint is None
    recipe = checkpoints.as_begun(recipe, resume)
    mesh = sharding.mesh_of(devices, axis=sharding.ROWS)
    recipe = verbs.with_rows(recipe, mesh, scales[-1].shape)
    fit = capacity.fit(recipe, scales[-1], *capacity.place_of(recipe, mesh=mesh), yielding=yielding)
    return Job(
        content=content,
        styles=tuple(styles),
        recipe=verbs.laid_over(fit.recipe, mesh, scales[-1].shape),
        fit=fit,
        seed=seed,
        outputs=outputs,
        init=init,
        init_file=init_file,
        scales=scales,
        resume=resume,
        devices=devices,
    )
