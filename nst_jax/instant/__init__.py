"""Style transfer by feed-forward networks: one pass instead of an optimisation.

The modules, from the bottom: `layers` has what such networks are built of, `johnson` the network that
`nst_jax.train` trains, `style_files` the files of such networks, `training` and the rest train them.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.instant import crops, johnson, layers, style_files, training, training_step
    from nst_jax.instant.johnson import StyleNetwork, stylize_trained
    from nst_jax.instant.style_files import load_network, save_network
    from nst_jax.instant.training import TrainingDiverged
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("crops", "johnson", "layers", "style_files", "training", "training_step"),
        {
            "johnson": ("StyleNetwork", "stylize_trained"),
            "style_files": ("load_network", "save_network"),
            "training": ("TrainingDiverged",),
        },
    )

__all__ = [
    "StyleNetwork", "TrainingDiverged", "crops", "johnson", "layers", "load_network", "save_network",
    "style_files", "stylize_trained", "training", "training_step",
]  # fmt: skip
