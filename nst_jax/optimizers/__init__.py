"""Update rules of an optimisation: Adam, RMSprop, SGD and L-BFGS, and any transformation of optax.

Adam is as in torch or as in Keras, RMSprop as in torch, and L-BFGS as in torch or in a variant of
this project's own, which undoes an update that raises the loss too much.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.optimizers import laplacian, lbfgs, pyramid, rules
    from nst_jax.optimizers.laplacian import collapse, decompose, over_pyramid
    from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS
    from nst_jax.optimizers.rules import (
        OPTIMIZERS,
        Adam,
        DecayedSGD,
        KerasAdam,
        KerasAdamState,
        Optax,
        Optimizer,
        RMSprop,
        TorchRMSState,
        scale_by_keras_adam,
        scale_by_torch_rms,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("laplacian", "lbfgs", "pyramid", "rules"),
        {
            "rules": (
                "Adam",
                "DecayedSGD",
                "KerasAdam",
                "KerasAdamState",
                "OPTIMIZERS",
                "Optax",
                "Optimizer",
                "RMSprop",
                "TorchRMSState",
                "scale_by_keras_adam",
                "scale_by_torch_rms",
            ),
            "laplacian": ("collapse", "decompose", "over_pyramid"),
            "lbfgs": ("LBFGS", "TorchLBFGS"),
        },
    )

__all__ = [
    "Adam",
    "DecayedSGD",
    "KerasAdam",
    "KerasAdamState",
    "LBFGS",
    "OPTIMIZERS",
    "Optax",
    "Optimizer",
    "RMSprop",
    "TorchLBFGS",
    "TorchRMSState",
    "collapse",
    "decompose",
    "laplacian",
    "lbfgs",
    "over_pyramid",
    "pyramid",
    "rules",
    "scale_by_keras_adam",
    "scale_by_torch_rms",
]
