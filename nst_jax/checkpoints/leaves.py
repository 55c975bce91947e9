"""The leaves of a pytree by name, as checkpoints have them, and the pytree rebuilt from them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax import _hdf5
from nst_jax._types import Checkpoint, State


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
