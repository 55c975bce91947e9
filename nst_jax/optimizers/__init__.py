"""Update rules: Adam and SGD as each framework means them, and L-BFGS."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.optimizers import lbfgs, rules
    from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS
    from nst_jax.optimizers.rules import (
        RULES,
        Adam,
        DecayedSGD,
        KerasAdam,
        KerasAdamState,
        Optimizer,
        scale_by_keras_adam,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    ("lbfgs", "rules"),
    {
        "rules": (
            "Adam",
            "DecayedSGD",
            "KerasAdam",
            "KerasAdamState",
            "Optimizer",
            "RULES",
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
    "Optimizer",
    "RULES",
    "TorchLBFGS",
    "lbfgs",
    "rules",
    "scale_by_keras_adam",
]
