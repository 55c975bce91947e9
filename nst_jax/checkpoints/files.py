"""Checkpoint files, read and written; the docstring of the package describes their format."""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax._types import Checkpoint, Losses
from nst_jax.checkpoints.leaves import named_leaves
from nst_jax.checkpoints.resuming import sizes_in_bucket

# How checkpoint files are marked, and what messages about them say.
CHECKPOINT_FORMAT = _hdf5.Format(
    name="nst-jax checkpoint",
    version=1,
    noun="checkpoint",
    if_damaged="remove it and start anew",
    if_foreign="name another file",
    if_other_version="resume with the nst-jax that wrote it",
)

_JSON = "told"  # name of the dataset with the JSON; historical, kept so that old files can be read


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
            yield f"{name} is {_checks.shown(fields[name])}, expected {kind.__name__}"
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
            yield f"scales has {_checks.shown(plan)}, expected a size of two numbers, and steps"
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
    sizes = sizes_in_bucket(fields["facts"]) or [plan["size"] for plan in fields["scales"]]
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
