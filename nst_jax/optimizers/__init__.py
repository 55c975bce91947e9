"""Update rules: Adam and SGD as each framework defines them, L-BFGS, and anything from optax."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.optimizers import lbfgs, pyramid, rules
    from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS
    from nst_jax.optimizers.rules import (
        OPTIMIZERS,
        Adam,
        DecayedSGD,
        KerasAdam,
        KerasAdamState,
        Optax,
        Optimizer,
        scale_by_keras_adam,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("lbfgs", "pyramid", "rules"),
        {
            "rules": (
                "Adam",
                "DecayedSGD",
                "KerasAdam",
                "KerasAdamState",
                "OPTIMIZERS",
                "Optax",
                "Optimizer",
                "scale_by_keras_adam",
            ),
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
    "TorchLBFGS",
    "lbfgs",
    "pyramid",
    "rules",
    "scale_by_keras_adam",
]
