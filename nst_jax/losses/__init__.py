"""Losses at one tap (a layer that they read): of style and of content; variation losses of a picture.

Each loss is a `StyleLoss`, a `ContentLoss` or a `Variation`: functions that say what is summed over the
positions of the features, and what becomes of the sums (`kinds`). The modules `gram_matrices`,
`content` and `variations` have the losses, `names` the names by which TOML files know them.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.losses import (
        content,
        gram_matrices,
        histograms,
        kinds,
        names,
        samples,
        self_similarity,
        sliced,
        sums,
        variations,
    )
    from nst_jax.losses.content import (
        CONTENT_HALF_SUM_SQUARE,
        CONTENT_MEAN_SQUARE,
        CONTENT_QUARTER_MEAN_SQUARE,
        CONTENT_SUM_SQUARE,
        squared_feature_differences,
    )
    from nst_jax.losses.gram_matrices import (
        GRAM_BY_IMAGE,
        GRAM_MEAN_SQUARE,
        GRAM_PAPER,
        GRAM_PER_CHANNEL,
        GRAM_UNDIVIDED,
        gram,
        gram_by_image,
        gram_mean_square,
        gram_paper,
        gram_per_channel,
        gram_undivided,
    )
    from nst_jax.losses.histograms import (
        CHANNEL_HISTOGRAMS,
        OrderedChannels,
        channel_histograms,
        matched_channels,
        ordered_channels,
    )
    from nst_jax.losses.kinds import (
        ContentLoss,
        Extent,
        Loss,
        Mask,
        StyleLoss,
        Variation,
        Work,
        no_work,
        weighted_mean,
        work_of_products,
    )
    from nst_jax.losses.names import CONTENT_LOSSES, STYLE_LOSSES, VARIATIONS
    from nst_jax.losses.samples import Samples, blended_samples, positions_as_rows, samples_of
    from nst_jax.losses.self_similarity import (
        CONTENT_SELF_SIMILARITY,
        cosine_distances,
        self_similarity_distance,
        self_similarity_on_grid,
    )
    from nst_jax.losses.sliced import SLICED_WASSERSTEIN, random_directions, sliced_wasserstein
    from nst_jax.losses.sums import (
        as_float,
        at_least_float32,
        half,
        mean_over_positions,
        positions,
        unchanged,
    )
    from nst_jax.losses.variations import (
        HALF_SQUARE_VARIATION,
        MEAN_VARIATION,
        POWER_VARIATION,
        SQUARE_VARIATION,
        TOTAL_VARIATION,
        DifferenceSums,
        absolute_differences,
        powered_gradients,
        squared_differences,
        squared_gradients,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "content",
            "gram_matrices",
            "histograms",
            "kinds",
            "names",
            "samples",
            "self_similarity",
            "sliced",
            "sums",
            "variations",
        ),
        {
            "content": (
                "CONTENT_HALF_SUM_SQUARE",
                "CONTENT_MEAN_SQUARE",
                "CONTENT_QUARTER_MEAN_SQUARE",
                "CONTENT_SUM_SQUARE",
                "squared_feature_differences",
            ),
            "gram_matrices": (
                "GRAM_BY_IMAGE",
                "GRAM_MEAN_SQUARE",
                "GRAM_PAPER",
                "GRAM_PER_CHANNEL",
                "GRAM_UNDIVIDED",
                "gram",
                "gram_by_image",
                "gram_mean_square",
                "gram_paper",
                "gram_per_channel",
                "gram_undivided",
            ),
            "histograms": (
                "CHANNEL_HISTOGRAMS",
                "OrderedChannels",
                "channel_histograms",
                "matched_channels",
                "ordered_channels",
            ),
            "samples": ("Samples", "blended_samples", "positions_as_rows", "samples_of"),
            "sliced": ("SLICED_WASSERSTEIN", "random_directions", "sliced_wasserstein"),
            "self_similarity": (
                "CONTENT_SELF_SIMILARITY",
                "cosine_distances",
                "self_similarity_distance",
                "self_similarity_on_grid",
            ),
            "kinds": (
                "ContentLoss",
                "Extent",
                "Loss",
                "Mask",
                "StyleLoss",
                "Variation",
                "Work",
                "no_work",
                "weighted_mean",
                "work_of_products",
            ),
            "names": ("CONTENT_LOSSES", "STYLE_LOSSES", "VARIATIONS"),
            "sums": (
                "as_float",
                "at_least_float32",
                "half",
                "mean_over_positions",
                "positions",
                "unchanged",
            ),
            "variations": (
                "DifferenceSums",
                "HALF_SQUARE_VARIATION",
                "MEAN_VARIATION",
                "POWER_VARIATION",
                "SQUARE_VARIATION",
                "TOTAL_VARIATION",
                "absolute_differences",
                "powered_gradients",
                "squared_differences",
                "squared_gradients",
            ),
        },
    )

__all__ = [
    "CHANNEL_HISTOGRAMS", "CONTENT_HALF_SUM_SQUARE", "CONTENT_LOSSES", "CONTENT_MEAN_SQUARE",
    "CONTENT_QUARTER_MEAN_SQUARE", "CONTENT_SELF_SIMILARITY", "CONTENT_SUM_SQUARE",
    "ContentLoss", "DifferenceSums", "Extent", "GRAM_BY_IMAGE", "GRAM_MEAN_SQUARE",
    "GRAM_PAPER", "GRAM_PER_CHANNEL", "GRAM_UNDIVIDED", "HALF_SQUARE_VARIATION", "Loss",
    "MEAN_VARIATION", "Mask", "OrderedChannels", "POWER_VARIATION", "SLICED_WASSERSTEIN",
    "SQUARE_VARIATION", "STYLE_LOSSES", "Samples", "StyleLoss", "TOTAL_VARIATION", "VARIATIONS",
    "Variation", "Work", "absolute_differences", "as_float", "at_least_float32",
    "blended_samples", "channel_histograms", "content", "cosine_distances", "gram",
    "gram_by_image", "gram_matrices", "gram_mean_square", "gram_paper", "gram_per_channel",
    "gram_undivided", "half", "histograms", "kinds", "matched_channels", "mean_over_positions",
    "names", "no_work", "ordered_channels", "positions", "positions_as_rows",
    "powered_gradients", "random_directions", "samples", "samples_of", "self_similarity",
    "self_similarity_distance", "self_similarity_on_grid", "sliced", "sliced_wasserstein",
    "squared_differences", "squared_feature_differences", "squared_gradients", "sums",
    "unchanged", "variations", "weighted_mean", "work_of_products",
]  # fmt: skip
