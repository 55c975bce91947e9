"""Dictionaries from the names of losses in recipe files (TOML) to the losses."""

from nst_jax.losses.content import (
    CONTENT_GRADIENT_SCALED,
    CONTENT_HALF_OVER_ROOT,
    CONTENT_HALF_SUM_SQUARE,
    CONTENT_MEAN_SQUARE,
    CONTENT_QUARTER_MEAN_SQUARE,
    CONTENT_RELATIVE,
    CONTENT_SUM_SQUARE,
)
from nst_jax.losses.gaussian import (
    MEAN_AND_COVARIANCE,
    MEAN_AND_COVARIANCE_GRADIENT_SCALED,
    WASSERSTEIN_ABSOLUTE,
    WASSERSTEIN_RELATIVE,
    GaussianTarget,
    Moments,
    RelativeGaussianTarget,
)
from nst_jax.losses.gram_matrices import (
    GRAM_BY_IMAGE,
    GRAM_GRADIENT_SCALED,
    GRAM_MEAN_SQUARE,
    GRAM_PAPER,
    GRAM_PER_CHANNEL,
    GRAM_UNDIVIDED,
)
from nst_jax.losses.histograms import (
    CHANNEL_HISTOGRAMS,
    CHANNEL_HISTOGRAMS_GRADIENT_SCALED,
    OrderedChannels,
)
from nst_jax.losses.kinds import AnyContentLoss, AnyStyleLoss, StyleLoss, Variation
from nst_jax.losses.matching import NEAREST_BY_TAP, NEAREST_HYPERCOLUMNS
from nst_jax.losses.samples import Samples
from nst_jax.losses.self_similarity import CONTENT_SELF_SIMILARITY
from nst_jax.losses.sliced import SLICED_WASSERSTEIN, SLICED_WASSERSTEIN_GRADIENT_SCALED
from nst_jax.losses.transport import CONTENT_SELF_SIMILARITY_AT_PLACES, RELAXED_TRANSPORT
from nst_jax.losses.variations import (
    GRADIENT_SCALED_VARIATION,
    HALF_SQUARE_VARIATION,
    MEAN_VARIATION,
    NINE_POINT_VARIATION,
    NINE_POINT_VARIATION_GRADIENT_SCALED,
    POWER_VARIATION,
    SQUARE_VARIATION,
    TOTAL_VARIATION,
)

STYLE_LOSSES: dict[str, AnyStyleLoss] = {
    "gram_mean_square": GRAM_MEAN_SQUARE,
    "gram_paper": GRAM_PAPER,
    "gram_per_channel": GRAM_PER_CHANNEL,
    "gram_undivided": GRAM_UNDIVIDED,
    "gram_by_image": GRAM_BY_IMAGE,
    "gram_gradient_scaled": GRAM_GRADIENT_SCALED,
    "mean_and_covariance": MEAN_AND_COVARIANCE,
    "mean_and_covariance_gradient_scaled": MEAN_AND_COVARIANCE_GRADIENT_SCALED,
    "wasserstein_absolute": WASSERSTEIN_ABSOLUTE,
    "wasserstein_relative": WASSERSTEIN_RELATIVE,
    "sliced_wasserstein": SLICED_WASSERSTEIN,
    "sliced_wasserstein_gradient_scaled": SLICED_WASSERSTEIN_GRADIENT_SCALED,
    "channel_histograms": CHANNEL_HISTOGRAMS,
    "channel_histograms_gradient_scaled": CHANNEL_HISTOGRAMS_GRADIENT_SCALED,
    "nearest_hypercolumns": NEAREST_HYPERCOLUMNS,
    "nearest_by_tap": NEAREST_BY_TAP,
    "relaxed_transport": RELAXED_TRANSPORT,
}

# The style losses that are a `StyleLoss`: they compare statistics, at each layer by itself. Only these
# can be the second style loss of a recipe (`recipes.SecondStyle`).
STATISTIC_LOSSES: dict[str, StyleLoss] = {
    name: loss for name, loss in STYLE_LOSSES.items() if isinstance(loss, StyleLoss)
}

CONTENT_LOSSES: dict[str, AnyContentLoss] = {
    "content_mean_square": CONTENT_MEAN_SQUARE,
    "content_quarter_mean_square": CONTENT_QUARTER_MEAN_SQUARE,
    "content_half_sum_square": CONTENT_HALF_SUM_SQUARE,
    "content_sum_square": CONTENT_SUM_SQUARE,
    "content_half_over_root": CONTENT_HALF_OVER_ROOT,
    "content_relative": CONTENT_RELATIVE,
    "content_gradient_scaled": CONTENT_GRADIENT_SCALED,
    "content_self_similarity": CONTENT_SELF_SIMILARITY,
    "content_self_similarity_at_places": CONTENT_SELF_SIMILARITY_AT_PLACES,
}

VARIATIONS: dict[str, Variation] = {
    "total_variation": TOTAL_VARIATION,
    "square_variation": SQUARE_VARIATION,
    "mean_variation": MEAN_VARIATION,
    "half_square_variation": HALF_SQUARE_VARIATION,
    "power_variation": POWER_VARIATION,
    "nine_point_variation": NINE_POINT_VARIATION,
    "nine_point_variation_gradient_scaled": NINE_POINT_VARIATION_GRADIENT_SCALED,
    "gradient_scaled_variation": GRADIENT_SCALED_VARIATION,
}

# The types of named tuples that occur as sums, statistics or targets of the style losses above.
# `jax.export` can store a program that takes or returns a named tuple only if the tuple's type was
# registered with it; `app.kept_function` registers all of these.
RECORDS = (GaussianTarget, Moments, OrderedChannels, RelativeGaussianTarget, Samples)
