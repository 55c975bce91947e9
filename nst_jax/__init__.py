"""Neural style transfer as pure JAX functions.

    params = nst_jax.load_params()
    image = nst_jax.stylize(params, content, style)

`content` is the picture to paint, and `style` the picture in whose manner it is painted: arrays
[h, w, 3] in [0, 1]. The public names are imported from their modules on first use, so that
`import nst_jax` initialises no device and reads no weights.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names
from nst_jax._version import __version__ as __version__

if TYPE_CHECKING:
    from nst_jax import (
        checkpoints,
        controls,
        dreams,
        export,
        feed_forward,
        figures,
        images,
        losses,
        optimizers,
        raters,
        recipes,
        scaling,
        vgg,
        weights,
    )
    from nst_jax._compile import cache, compiler_options
    from nst_jax._types import Checkpoint, Losses, Params, Snapshot, State, Targets
    from nst_jax.batches import stylize_many
    from nst_jax.combining import combined_style
    from nst_jax.dreaming import dream
    from nst_jax.feed_forward.training import train
    from nst_jax.objective import losses_of
    from nst_jax.optimize import init, match, run, step
    from nst_jax.painting import paint, stylize
    from nst_jax.run_errors import Diverged, Stalled
    from nst_jax.scaling.capacity import OutOfMemory
    from nst_jax.scaling.footprint import estimate_memory
    from nst_jax.scaling.plan import Plan
    from nst_jax.scaling.planning import plan
    from nst_jax.single_pass import instant, instant_many
    from nst_jax.targets import measure
    from nst_jax.texturing import texture
    from nst_jax.vgg.network import features
    from nst_jax.weights.params import load_params, save_params
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "checkpoints",
            "controls",
            "dreams",
            "export",
            "feed_forward",
            "figures",
            "images",
            "losses",
            "optimizers",
            "raters",
            "recipes",
            "scaling",
            "vgg",
            "weights",
        ),
        {
            "_compile": ("cache", "compiler_options"),
            "_types": ("Checkpoint", "Losses", "Params", "Snapshot", "State", "Targets"),
            "batches": ("stylize_many",),
            "combining": ("combined_style",),
            "dreaming": ("dream",),
            "feed_forward.training": ("train",),
            "objective": ("losses_of",),
            "optimize": ("init", "match", "run", "step"),
            "painting": ("paint", "stylize"),
            "run_errors": ("Diverged", "Stalled"),
            "scaling.capacity": ("OutOfMemory",),
            "scaling.footprint": ("estimate_memory",),
            "scaling.plan": ("Plan",),
            "scaling.planning": ("plan",),
            "single_pass": ("instant", "instant_many"),
            "targets": ("measure",),
            "texturing": ("texture",),
            "vgg.network": ("features",),
            "weights.params": ("load_params", "save_params"),
        },
    )

__all__ = [
    "Checkpoint", "Diverged", "Losses", "OutOfMemory", "Params", "Plan", "Snapshot", "Stalled",
    "State", "Targets", "cache", "checkpoints", "combined_style", "compiler_options", "controls",
    "dream", "dreams", "estimate_memory", "export", "features", "feed_forward", "figures", "images",
    "init", "instant", "instant_many", "load_params", "losses", "losses_of", "match", "measure",
    "optimizers", "paint", "plan", "raters", "recipes", "run", "save_params", "scaling", "step",
    "stylize", "stylize_many", "texture", "train", "vgg", "weights",
]  # fmt: skip
