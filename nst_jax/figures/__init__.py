"""Figures for teaching: VGG-19's feature maps and Gram matrices as pictures, and plots of losses."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.figures import loss_plots, network_sheets
    from nst_jax.figures.loss_plots import LoggedRun, plot_losses, read_log, save_plot
    from nst_jax.figures.network_sheets import STYLE_TAPS, feature_sheet, gram_sheet
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("loss_plots", "network_sheets"),
        {
            "loss_plots": ("LoggedRun", "plot_losses", "read_log", "save_plot"),
            "network_sheets": ("STYLE_TAPS", "feature_sheet", "gram_sheet"),
        },
    )

__all__ = [
    "LoggedRun",
    "STYLE_TAPS",
    "feature_sheet",
    "gram_sheet",
    "loss_plots",
    "network_sheets",
    "plot_losses",
    "read_log",
    "save_plot",
]
