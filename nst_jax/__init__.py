"""Neural style transfer as pure JAX functions.

    params = nst_jax.load_params()
    image = nst_jax.stylize(params, content, style)

Names are resolved on first use, so that importing the package opens no device and reads no file.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nst_jax import (
        checkpoints,
        images,
        layers,
        losses,
        optimizers,
        precision,
        recipes,
        sizes,
        starts,
        tiles,
        vgg,
    )
    from nst_jax._types import Checkpoint, Losses, Params, Snapshot, State, Targets
    from nst_jax.batches import stylize_many
    from nst_jax.capacity import OutOfMemory
    from nst_jax.memory import estimate_memory
    from nst_jax.objective import losses_of
    from nst_jax.optimize import init, run, step
    from nst_jax.params import load_params, save_params
    from nst_jax.targets import measure
    from nst_jax.verbs import Diverged, paint, stylize
    from nst_jax.vgg import features

_HOMES = {
    "Checkpoint": "_types",
    "Losses": "_types",
    "Params": "_types",
    "Snapshot": "_types",
    "State": "_types",
    "Targets": "_types",
    "Diverged": "verbs",
    "OutOfMemory": "capacity",
    "estimate_memory": "memory",
    "features": "vgg",
    "init": "optimize",
    "load_params": "params",
    "losses_of": "objective",
    "measure": "targets",
    "paint": "verbs",
    "run": "optimize",
    "save_params": "params",
    "step": "optimize",
    "stylize": "verbs",
    "stylize_many": "batches",
}
_ROOMS = (
    "checkpoints",
    "images",
    "layers",
    "losses",
    "optimizers",
    "precision",
    "recipes",
    "sizes",
    "starts",
    "tiles",
    "vgg",
)

__all__ = [
    "Checkpoint", "Diverged", "Losses", "OutOfMemory", "Params", "Snapshot", "State", "Targets",
    "checkpoints", "estimate_memory", "features", "images", "init", "layers", "load_params", "losses",
    "losses_of", "measure", "optimizers", "paint", "precision", "recipes", "run", "save_params",
    "sizes", "starts", "step", "stylize", "stylize_many", "tiles", "vgg",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        value = importlib.import_module(f"nst_jax.{name}")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"nst_jax.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'nst_jax' has no attribute {name!r}")
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
