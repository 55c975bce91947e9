"""Checkpoints: files with the state of a run, and checks that a run may resume from such a file.

A checkpoint is an HDF5 file with the attributes `format` ("nst-jax checkpoint"), `version` (1) and
`checksum`. Its dataset `told` (a historical name) has the fields of the `Checkpoint` except `arrays`
and `history`, as JSON in UTF-8. The datasets `state/...` are the leaves of the run's `State` by name,
such as `state/opt_state/memory/moves`. The datasets `history/...` are the losses of the first canvas
(a canvas is the picture being optimised) and of the canvas after each update so far.

The checksum is a CRC-32 over the name, dtype, shape and bytes of every dataset, in the order of their
names. Unlike unpickling, reading a checkpoint executes nothing that is in the file.
"""

import json
import reprlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax._types import Checkpoint, Losses, State
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.precision import PRECISIONS, Auto

CHECKPOINT_FORMAT = _hdf5.Format(
    name="nst-jax checkpoint",
    version=1,
    noun="checkpoint",
    if_damaged="remove it and start anew",
    if_foreign="name another file",
    if_other_version="resume with the nst-jax that wrote it",
)

_JSON = "told"  # name of the dataset with the JSON; historical, kept so that old files can be read


# --- States and their arrays ----------------------------------------------------------------------


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree, such as a `State`, by names such as `"opt_state/memory/moves"`."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}


def state_from(checkpoint: Checkpoint, like: State, *, argument: str = "resume") -> State:
    """Rebuild the run's state from a checkpoint's arrays, in new buffers.

    Args:
      checkpoint: the checkpoint of a run.
      like: a state of the same run, or the shapes and dtypes of one (`jax.ShapeDtypeStruct`).
      argument: the caller's name for the checkpoint, used in messages.

    Returns:
      A state with the structure of `like`. The checkpoint's arrays are copied, because the run donates
      the buffers of its state to the compiled updates, which overwrite them.

    Raises:
      ValueError: if the arrays differ from those of `like` in name, shape or dtype.
    """
    return tree_from(checkpoint.arrays, like, argument=argument)


def tree_from(arrays: Mapping[str, Any], like: Any, *, argument: str) -> Any:
    """Rebuild a pytree from a dictionary of its leaves.

    The leaves are copied, so that the caller may donate the buffers of the result.

    Args:
      arrays: the leaves with the names that `named_leaves` gives them, as read from a file.
      like: a pytree of the wanted structure, or the shapes and dtypes of one.
      argument: the caller's name for the file, used in messages.

    Raises:
      ValueError: if the arrays differ from those of `like` in name, shape or dtype.
    """
    leaves = named_leaves(like)
    expected, found = _hdf5.layout_of(leaves), _hdf5.layout_of(arrays)
    if differences := _hdf5.layout_differences(expected, found):
        raise ValueError(
            f"`{argument}`: does not fit the run: {differences}; begin a new run with another "
            "checkpoint file"
        )
    copies = [jnp.array(arrays[name]) for name in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), copies)


# --- Whether a run may resume ---------------------------------------------------------------------


def check_resumable(
    checkpoint: Checkpoint,
    facts: Mapping[str, Any],
    scales: Sequence[Mapping[str, Any]],
    *,
    argument: str = "resume",
) -> None:
    """Refuse a checkpoint unless this run, resumed from it, ends like a run without interruption.

    This run may have another total number of updates than the earlier run, which made the checkpoint.
    But all updates up to the checkpoint must be the same in both runs. With a single scale, it is
    enough that inputs and settings are the same and that this run is long enough. With several scales,
    both runs must have equally many scales, and each scale that the earlier run had finished must have
    the same sizes and the same number of updates in this run.

    Args:
      checkpoint: the checkpoint of the earlier run.
      facts: the inputs and settings on which the result of this run depends, from
        `provenance.of_identity`.
      scales: the scales (resolutions) of this run, from `provenance.of_scales`.
      argument: the caller's name for the checkpoint, used in messages.

    Raises:
      ValueError: if the checkpoint is of another run (the message names the differences), or if this
        run would never be at the checkpoint's scale and update.
    """
    check_same_run(checkpoint.facts, facts, argument=argument)
    _check_position(checkpoint, scales, argument)


def check_same_run(
    was: Mapping[str, Any], now: Mapping[str, Any], *, argument: str = "resume"
) -> None:
    """Refuse a checkpoint whose run had other inputs, settings or package versions than this run.

    Args:
      was: inputs (as hashes), settings and versions of packages of the checkpoint's run, by name, as
        JSON values.
      now: those of this run.
      argument: the caller's name for the checkpoint, used in messages.

    Raises:
      ValueError: if any of them differs; the message names the first differences.
    """
    differences = list(_differing_facts(was, now))
    if differences:
        raise ValueError(
            f"`{argument}`: the checkpoint is of another run: "
            f"{_hdf5.first_differences(differences)}; resume with the same pictures, settings and "
            "versions, or begin a new run with another checkpoint file"
        )


def _differing_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield a phrase for each setting or input that differs between a checkpoint's run and this run.

    The phrases for those that this run lacks come last.

    Args:
      old: settings and inputs of the checkpoint's run, by name.
      new: settings and inputs of this run, by name.
    """
    found: list[str] = []
    for name in dict.fromkeys((*new, *old)):
        if name in old and name in new and old[name] == new[name]:
            continue
        # If, for example, the optimiser (`descent.optimizer`) differs, it alone is listed, without its
        # settings (`descent.optimizer.*`).
        if not name.startswith(tuple(f"{other}." for other in found)):
            found.append(name)
            yield f"{name} was {_shown(old, name)}, is {_shown(new, name)}"


def _shown(facts: Mapping[str, Any], name: str) -> str:
    """Return the value of a setting or input as text for messages; "absent" if `facts` lacks it.

    Of a hash, such as that of a picture, only the first 12 characters are returned.
    """
    if name not in facts:
        return "absent"
    value = facts[name]
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else json.dumps(value, ensure_ascii=False)


def _check_position(
    checkpoint: Checkpoint, scales: Sequence[Mapping[str, Any]], argument: str
) -> None:
    """Refuse a checkpoint at a scale (resolution) and update that a run with `scales` never reaches."""
    was, now = list(checkpoint.scales), list(scales)
    step, here = checkpoint.step, checkpoint.scale
    totals = [sum(scale["steps"] for scale in plan) for plan in (was, now)]
    if step > totals[1]:
        raise ValueError(
            f"`{argument}`: the checkpoint has had {step} updates, more than the {totals[1]} of this "
            "run; give it more steps, or begin a new run with another checkpoint file"
        )
    # The last update of a scale makes the first canvas of the next scale. So after this update, a run
    # is already at the next scale, except after the last update of the last scale.
    begins, ends = (sum(scale["steps"] for scale in now[:n]) for n in (here, here + 1))
    same_so_far = now[:here] == was[:here] and len(now) == len(was)
    if same_so_far and begins <= step <= ends - (here < len(now) - 1):
        return
    plans = [
        ", ".join(f"{_pixels_of(scale)} for {scale['steps']}" for scale in plan)
        for plan in (was, now)
    ]
    raise ValueError(
        f"`{argument}`: the checkpoint is at {_pixels_of(was[here])} after {step} updates of "
        f"{plans[0]}; a run of {totals[1]} updates has {plans[1]}, so it would not pass that point; "
        f"resume with {totals[0]} steps, or begin a new run with another checkpoint file"
    )


def _pixels_of(scale: Mapping[str, Any]) -> str:
    """Return the canvas' size in the record of a scale (resolution) as text such as "512x384"."""
    return "x".join(map(str, scale["size"]))


def with_choices_of(recipe: Recipe, checkpoint: Checkpoint | None) -> Recipe:
    """Return the recipe with the tiles and the precision that were chosen for the checkpoint's run.

    Only what the recipe leaves open is replaced. If `network.tile` is None, `network.tile` and
    `network.remat` (whether activations are recomputed) become those of the checkpoint's run. A tile
    size chosen for the memory that is available now could differ, which would change the last bits of
    the picture. If `network.precision` is `AUTO`, it becomes the precision of the checkpoint's run,
    even if this platform has another default. Without a checkpoint, the recipe is returned unchanged.
    """
    if checkpoint is None:
        return recipe
    network, facts = recipe.network, checkpoint.facts
    precision = PRECISIONS.get(str(facts.get("network.precision")))
    if isinstance(network.precision, Auto) and precision is not None:
        network = replace(network, precision=precision)
    tile, remat = (facts.get(f"network.{name}") for name in ("tile", "remat"))
    # Values of other types are from another version of this package: `check_resumable` refuses them.
    if network.tile is None and type(tile) is int and type(remat) is bool:
        network = replace(network, tile=tile, remat=remat)
    return replace(recipe, network=network)


class BucketOfRun(NamedTuple):
    """The square arrays, called buckets, in which the canvases of a run lie.

    Runs with canvases of other shapes may use arrays of the same sizes, and so share compiled programs.
    """

    side: int  # side in px at the final scale (the full resolution)
    one_size: bool  # whether coarser scales have arrays of this side, too; False for a single scale


def bucket_of(checkpoint: Checkpoint) -> BucketOfRun | None:
    """Return which square arrays (buckets) a checkpoint's run uses.

    The result is None if the arrays of the run have the shapes of its canvases.
    """
    sizes = _sizes_in_bucket(checkpoint.facts)
    if sizes is None:
        return None
    return BucketOfRun(sizes[-1][0], len(sizes) > 1 and all(size == sizes[-1] for size in sizes))


def _sizes_in_bucket(facts: Mapping[str, Any]) -> list[list[int]] | None:
    """Return [width, height] of the array in which a run's canvas lies, for each resolution.

    The sizes are read from the entry "bucket" of `facts`, the facts about the run in its checkpoint.
    The result is None without a readable entry. A run has no entry if its canvas fills its arrays.
    """
    sizes = str(facts.get("bucket", "")).removesuffix(" px").split(", ")
    found = [size.split("x") for size in sizes]  # from text such as "32x32, 64x64 px"
    if not all(len(pair) == 2 and all(side.isdecimal() for side in pair) for pair in found):
        return None
    return [[int(side) for side in pair] for pair in found]


# --- Files ----------------------------------------------------------------------------------------


def save(path: PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a file. If the process crashes meanwhile, an existing file stays as it was.

    Args:
      path: path of the file to write or to replace.
      checkpoint: what `paint(...).checkpoint()` returns.

    Raises:
      TypeError: if `path` is not a path, or `checkpoint` not a `Checkpoint`.
      ValueError: if `path` is a folder, write-protected or a link that leads to itself, or if its
        folder is missing or not writable.
      OSError: if the disk fails or is full; an existing file stays unchanged.

    Example:
      >>> import pathlib, tempfile
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.h5"
      >>> shots = nst.paint(params, content, style, size=48, steps=2, every=1)
      >>> step = next(shots).step
      >>> nst.checkpoints.save(path, shots.checkpoint())
      >>> checkpoint = nst.checkpoints.load(path)
      >>> rest = nst.paint(params, content, style, size=48, steps=2, every=1, resume=checkpoint)
      >>> [shot.step for shot in rest]
      [0, 1, 2]
    """
    check_destination(path)
    _checks.instance("checkpoint", checkpoint, Checkpoint, "`paint(...).checkpoint()` returns one")
    fields = checkpoint._asdict()
    arrays = {f"state/{name}": leaf for name, leaf in fields.pop("arrays").items()}
    arrays |= {
        f"history/{name}": leaf for name, leaf in named_leaves(fields.pop("history")).items()
    }
    text = json.dumps(fields, ensure_ascii=False).encode()
    arrays[_JSON] = np.frombuffer(text, np.uint8)
    checksum = _Checksum()
    try:
        with _hdf5.created(Path(path)) as file:
            _hdf5.store(file, arrays, after_each=checksum.add)
            attributes: dict[str, str | int] = {
                "format": CHECKPOINT_FORMAT.name,
                "version": CHECKPOINT_FORMAT.version,
                "checksum": checksum.value,
            }
            _hdf5.set_attributes(file, attributes)
    except (OSError, RuntimeError) as error:  # HDF5 may raise either if the disk is full
        raise OSError(f"cannot write '{path}': {_files.reason_of(error)}") from error


class _Checksum:
    """The CRC-32 of the datasets added so far.

    It depends on their order, so writing and reading both add them in the order of their names.
    """

    def __init__(self) -> None:
        self.value = 0

    def add(self, name: str, array: np.ndarray) -> None:
        head = f"{name} {array.dtype.str} {array.shape}\n".encode()
        self.value = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(head, self.value))


def load(path: PathLike, *, argument: str = "path") -> Checkpoint:
    """Read a checkpoint and verify its checksum.

    Args:
      path: a file that `save` or `nst-jax stylize --checkpoint` wrote.
      argument: the caller's name for `path`, used in messages.

    Returns:
      The checkpoint, with its arrays on the host.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if the file is missing, damaged, not a checkpoint, or of another format version.

    Example:
      >>> import nst_jax as nst
      >>> nst.checkpoints.load("never_written.h5")
      Traceback (most recent call last):
      ValueError: `path`: 'never_written.h5' does not exist; check the path
    """
    source = _hdf5.Source(_files.as_path(path, argument=argument), argument, CHECKPOINT_FORMAT)
    with _hdf5.opened(source) as file:
        arrays = _hdf5.arrays_in(source, file)
        expected = _hdf5.attribute(file, "checksum")
    found = _Checksum()
    for name in sorted(arrays):
        found.add(name, arrays[name])
    if found.value != expected or _JSON not in arrays:
        raise source.damaged()
    try:
        fields = json.loads(arrays.pop(_JSON).tobytes())
    except (ValueError, RecursionError) as error:
        raise source.damaged(error) from error
    if problem := next(_problems(fields, arrays), ""):
        raise source.damaged(problem)
    history = _under(arrays, "history/")
    layers = _under(history, "style_layers/")
    terms: dict[str, Any] = {name: history[name] for name in history if "/" not in name}
    losses = Losses(**terms, style_layers=layers)
    return Checkpoint(**fields, arrays=_under(arrays, "state/"), history=losses)


# The fields of the JSON in a checkpoint file, and their types.
_FIELDS: Mapping[str, type] = {
    "step": int, "scale": int, "facts": dict, "scales": list, "device": dict, "notes": dict,
}  # fmt: skip
_OPTIONAL = "history/matting"  # dataset that is present only if the recipe has a `matting_weight`
# Names of the datasets of losses that must be present in every checkpoint.
_TERMS = {f"history/{name}" for name in Losses._fields if name != "style_layers"} - {_OPTIONAL}


def _problems(fields: Any, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield a description of each fault of a checkpoint file whose checksum is right.

    Request only the first description: each check relies on the success of the checks before it.

    Args:
      fields: the decoded JSON of the dataset `_JSON`; it may be any JSON value.
      arrays: all other datasets of the file, by name.
    """
    if not isinstance(fields, dict):
        yield f"{_JSON} is no JSON object"
    if wrong := sorted(fields.keys() ^ _FIELDS.keys()):
        names = ", ".join(name[:30] for name in wrong[:9])
        yield f"{_JSON} has other fields than expected: {names}"
    for name, kind in _FIELDS.items():
        if type(fields[name]) is not kind:
            yield f"{name} is {reprlib.repr(fields[name])}, expected {kind.__name__}"
    yield from _position_problems(fields)
    if not all(isinstance(value, str) for value in fields["device"].values()):
        yield "device is not described by strings"
    yield from _array_problems(fields, arrays)


def _position_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield a description of each fault in a checkpoint's list of scales, or in its `scale` and `step`.

    `scale` is the index of the scale (resolution) that the run had reached, and `step` the number of
    updates that it had made.
    """
    for plan in fields["scales"]:
        numbers = (*plan["size"], plan["steps"]) if _is_scale(plan) else ()
        if len(numbers) != 3 or not all(type(n) is int and n >= 0 for n in numbers):
            yield f"scales has {reprlib.repr(plan)}, expected a size of two numbers, and steps"
    step, scale, scales = (fields[name] for name in ("step", "scale", "scales"))
    if not 0 <= scale < len(scales):
        yield f"scale is {scale}, of {len(scales)}"
    total = sum(plan["steps"] for plan in scales)
    if not 0 <= step <= total:
        yield f"step is {step}, of {total}"


def _is_scale(plan: Any) -> bool:
    """Return whether a value is a dictionary with "steps" and a list "size", as a scale needs."""
    return isinstance(plan, dict) and type(plan.get("size")) is list and "steps" in plan


def _array_problems(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield a description of each fault in a checkpoint's arrays: in names, shapes, types or values."""
    sizes = _sizes_in_bucket(fields["facts"]) or [plan["size"] for plan in fields["scales"]]
    if len(sizes) != len(fields["scales"]):
        yield f"the bucket has {len(sizes)} scales, expected {len(fields['scales'])}"
    width, height = sizes[fields["scale"]]
    canvas = arrays.get("state/canvas", np.zeros(0))
    if canvas.shape != (height, width, 3) or canvas.dtype.kind != "f":
        yield (
            f"canvas is {list(canvas.shape)} {canvas.dtype}, expected [{height}, {width}, 3] of floats"
        )
    if not np.isfinite(canvas).all():
        yield "canvas has values that are not finite"
    # The optimiser's state is checked later, by `state_from`, which knows the optimiser of the run.
    total = sum(plan["steps"] for plan in fields["scales"])
    for name, most in {"step": fields["step"], "broke_at": total}.items():
        array = arrays.get(f"state/{name}")
        if array is None:
            yield f"state/{name} is missing"
        elif array.shape != () or array.dtype.kind != "i" or not -1 <= array <= most:
            yield f"state/{name} is {_brief(array)}, expected an integer from -1 to {most}"
    pending = arrays.get("state/pending")
    if pending is None:
        yield "state/pending is missing"
    elif pending.shape != canvas.shape or pending.dtype != canvas.dtype:
        yield f"state/pending is {list(pending.shape)} {pending.dtype}, unlike the canvas"
    if missing := sorted(_TERMS - arrays.keys()):
        yield f"{missing[0]} is missing"
    count = fields["step"] + 1
    for name, array in arrays.items():
        if name in {*_TERMS, _OPTIONAL} or name.startswith("history/style_layers/"):
            if array.shape != (count,) or array.dtype.kind != "f":
                yield f"{name} is {list(array.shape)} {array.dtype}, expected [{count}] of floats"
        elif not name.startswith("state/"):
            yield f"{name} is not expected"


def _brief(array: np.ndarray) -> str:
    """Return the value of a scalar, or the shape and type of an array, as text for messages."""
    return str(array) if array.shape == () else f"{list(array.shape)} {array.dtype}"


def _under(arrays: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the arrays whose names begin with `group`, named by the rest of their names."""
    names = sorted(name for name in arrays if name.startswith(group))
    return {name.removeprefix(group): arrays[name] for name in names}
