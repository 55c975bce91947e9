"""Checkpoints: where a run stands, in a file; and whether a run may go on from there.

A checkpoint file is HDF5. Its attributes are `format` ("nst-jax checkpoint"), `version` (1) and
`checksum`; its datasets are `told`, JSON as UTF-8 bytes (everything of a `Checkpoint` that is no
array), `state/...`, the leaves of the run's `State` by name, and `history/...`, the losses of every
canvas so far. The checksum is the CRC-32 of all datasets in the order of their names: name, type,
shape and bytes. Nothing that is read is run.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _files
from nst_jax._types import Checkpoint, Losses, State
from nst_jax.recipes.recipe import Recipe
from nst_jax.weights.params import PathLike, check_destination, layout_differences

FORMAT = "nst-jax checkpoint"

VERSION = 1

SHOWN = 3  # differences in a message


# --- Values ---------------------------------------------------------------------------------------


def leaves_of(state: State) -> dict[str, Any]:
    """Return the arrays of a state by name, such as `"opt_state/memory/moves"`."""
    return _named(state)


def state_of(checkpoint: Checkpoint, like: State, *, argument: str = "resume") -> State:
    """Return a checkpoint's state, of buffers of its own.

    Args:
      checkpoint: whose arrays are taken.
      like: a state of the same run, or its shapes.
      argument: how the caller calls the checkpoint, for messages.

    Raises:
      ValueError: if its arrays are not those of such a state.
    """
    expected = {name: (leaf.shape, leaf.dtype.name) for name, leaf in _named(like).items()}
    found = {name: (leaf.shape, leaf.dtype.name) for name, leaf in checkpoint.arrays.items()}
    if differences := layout_differences(expected, found):
        raise ValueError(f"`{argument}`: does not fit the run: {differences}; start anew")
    names = list(_named(like))
    # Copied: the loop gives up the buffers of its state, and these are the caller's.
    copies = [jnp.array(checkpoint.arrays[name]) for name in names]
    return jax.tree.unflatten(jax.tree.structure(like), copies)


def _named(tree: Any) -> dict[str, Any]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}


def check(
    checkpoint: Checkpoint,
    facts: Mapping[str, Any],
    scales: Sequence[Mapping[str, Any]],
    *,
    argument: str = "resume",
) -> None:
    """Refuse a checkpoint that a run cannot go on from as if it had never stopped.

    The number of updates may be another one as long as nothing done so far would have been done
    otherwise: at one scale always, in a run of several only while the scales before the present one
    had the updates that they would get now.

    Args:
      checkpoint: of the run before.
      facts: what the present run depends on, see `settings.of_identity`.
      scales: as the present run plans them, see `settings.of_scales`.
      argument: how the caller calls the checkpoint, for messages.

    Raises:
      ValueError: if it is of another run, naming what was otherwise, or beyond the run's plan.
    """
    differences = list(_differences(checkpoint.facts, facts))
    if differences:
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise ValueError(
            f"`{argument}`: the checkpoint is of another run: "
            f"{'; '.join(differences[:SHOWN])}{more}; go on with what it had, or start anew"
        )
    _check_plan(checkpoint, scales, argument)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was otherwise, in the order in which a run tells of it."""
    found: list[str] = []
    for name in dict.fromkeys((*new, *old)):
        if name in old and name in new and old[name] == new[name]:
            continue
        # Of two kinds of thing the numbers are not worth telling.
        if not name.startswith(tuple(f"{other}." for other in found)):
            found.append(name)
            yield f"{name} was {_shown(old, name)}, is {_shown(new, name)}"


def as_begun(recipe: Recipe, checkpoint: Checkpoint | None) -> Recipe:
    """Return a recipe that leaves its way of saving memory open with the way a run began.

    The picture is the same in either, but not to the bit; and what memory there is differs from start
    to start.
    """
    if checkpoint is None or recipe.network.tile is not None:
        return recipe
    tile, remat = (checkpoint.facts.get(f"network.{name}") for name in ("tile", "remat"))
    if type(tile) is not int or type(remat) is not bool:
        return recipe  # another version's; the check of its facts will say so
    return replace(recipe, network=replace(recipe.network, tile=tile, remat=remat))


def _shown(facts: Mapping[str, Any], name: str) -> str:
    if name not in facts:
        return "absent"
    value = facts[name]
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else json.dumps(value, ensure_ascii=False)


def _check_plan(checkpoint: Checkpoint, scales: Sequence[Mapping[str, Any]], argument: str) -> None:
    was, now = list(checkpoint.scales), list(scales)
    step, here = checkpoint.step, checkpoint.scale
    totals = [sum(scale["steps"] for scale in plan) for plan in (was, now)]
    if step > totals[1]:
        raise ValueError(
            f"`{argument}`: the checkpoint has had {step} updates, more than the {totals[1]} of this "
            "run; give it more steps, or start anew"
        )
    # Going up a scale is the last update of the coarser one.
    begins, ends = (sum(scale["steps"] for scale in now[:n]) for n in (here, here + 1))
    same_so_far = now[:here] == was[:here] and len(now) == len(was)
    if same_so_far and begins <= step <= ends - (here < len(now) - 1):
        return
    plans = [
        ", ".join(f"{_px(scale)} for {scale['steps']}" for scale in plan) for plan in (was, now)
    ]
    raise ValueError(
        f"`{argument}`: the checkpoint is at {_px(was[here])} after {step} updates of {plans[0]}; a "
        f"run of {totals[1]} updates has {plans[1]}, so it would not have come by there; go on with "
        f"{totals[0]} steps, or start anew"
    )


def _px(scale: Mapping[str, Any]) -> str:
    return "x".join(map(str, scale["size"]))


# --- Files ----------------------------------------------------------------------------------------


def save(path: PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file is replaced only by a complete one, also if the process is killed.

    Args:
      path: where to write.
      checkpoint: what `paint(...).checkpoint()` gives.

    Raises:
      ValueError: if `path` is a folder, or its folder is missing or may not be written to.
      OSError: if the disk fails or is full; the file is then as it was.

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
    told = checkpoint._asdict()
    arrays = {f"state/{name}": leaf for name, leaf in told.pop("arrays").items()}
    arrays |= {f"history/{name}": leaf for name, leaf in _named(told.pop("history")).items()}
    text = json.dumps(told, ensure_ascii=False).encode()
    arrays["told"] = np.frombuffer(text, np.uint8)
    try:
        with _files.whole(Path(path)) as part:
            _write(part, arrays)
    except (OSError, RuntimeError) as error:  # HDF5 tells of a full disk in either
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OSError(f"cannot write '{path}': {reason}") from error


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write one array after the other, so that no more than one is copied at a time."""
    checksum = 0
    with h5py.File(path, "x", libver=("earliest", "v108")) as file:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            file.create_dataset(name, data=array, track_times=False)
            checksum = _checksum(checksum, name, array)
        file.attrs.update({"format": FORMAT, "version": VERSION, "checksum": checksum})


def _checksum(before: int, name: str, array: np.ndarray) -> int:
    head = f"{name} {array.dtype.str} {array.shape}\n".encode()
    return zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(head, before))


def load(path: PathLike, *, argument: str = "path") -> Checkpoint:
    """Read a checkpoint, verified.

    Args:
      path: a file that `save` wrote, or `nst-jax stylize --checkpoint`.
      argument: how the caller calls the value, for messages.

    Returns:
      The checkpoint, its arrays on the host.

    Raises:
      ValueError: if the file is missing, damaged, no checkpoint, or of another format version.

    Example:
      >>> import nst_jax as nst
      >>> nst.checkpoints.load("never_written.h5")
      Traceback (most recent call last):
      ValueError: `path`: 'never_written.h5' does not exist; check the path
    """
    path = Path(path)
    told, arrays = _read(path, argument)
    history = _under(arrays, "history/")
    layers = _under(history, "style_layers/")
    terms: dict[str, Any] = {name: history[name] for name in history if "/" not in name}
    losses = Losses(**terms, style_layers=layers)
    return Checkpoint(**told, arrays=_under(arrays, "state/"), history=losses)


def _under(arrays: Mapping[str, Any], group: str) -> dict[str, Any]:
    names = sorted(name for name in arrays if name.startswith(group))
    return {name.removeprefix(group): arrays[name] for name in names}


def _read(path: Path, argument: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    def refused(problem: str) -> ValueError:
        return ValueError(f"`{argument}`: '{path}' {problem}")

    damaged = "is damaged or cut short; remove it and start anew"
    if not path.exists():
        raise refused("does not exist; check the path")
    if not path.is_file():
        raise refused("is no file; name a checkpoint")
    try:
        path.open("rb").close()
    except OSError as error:
        raise refused(
            f"cannot be read: {error.strerror or error}; check its permissions"
        ) from error
    try:
        if not h5py.is_hdf5(path):
            raise refused("is no checkpoint of nst-jax; name another file")
        with h5py.File(path, "r", locking=False) as file:  # network disks may know no locks
            if file.attrs.get("format") != FORMAT:
                raise refused("is no checkpoint of nst-jax; name another file")
            if file.attrs["version"] != VERSION:
                raise refused(
                    f"is a checkpoint of format version {file.attrs['version']}, this is {VERSION}; "
                    "go on with the nst-jax that wrote it"
                )
            arrays = _arrays(file, path.stat().st_size)
            checksum = int(file.attrs["checksum"])
    except (OSError, RuntimeError, KeyError, _Damaged) as error:
        raise refused(damaged) from error
    found = 0
    for name in sorted(arrays):
        found = _checksum(found, name, arrays[name])
    if found != checksum or "told" not in arrays:
        raise refused(damaged)
    return json.loads(arrays.pop("told").tobytes()), arrays


class _Damaged(Exception):
    """A file declares more than it holds."""


def _arrays(file: h5py.File, size: int) -> dict[str, np.ndarray]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(visit)
    # Nothing is compressed; what declares more would fill memory with zeros.
    if sum(dataset.nbytes for dataset in found.values()) > size:
        raise _Damaged
    return {name: np.asarray(dataset[()]) for name, dataset in found.items()}
