"""Raters: functions that rate the result of a style transfer by numbers.

They measure how near the result is to the content and to the style, and what artefacts it has:

    rate = jax.jit(raters.rate, static_argnames="taps")
    rating = rate(nst.load_params(), nst.feed_forward.load_arbitrary(), image, content, style)

`rate` returns the values of all raters as a `Rating`. Its first two arguments are the weights of VGG-19
and those of a network that predicts style vectors. `RATERS` says what each rater rates and which values
are better. `biased_raters` says which raters favour a recipe, since it optimises or sets nearly what
they measure. docs/raters.md says how far the value of each rater can be trusted. The modules `style`,
`palette` and `content` compare two pictures or their features, `artefacts` rates one picture by itself,
and `rating` has the functions that use all raters.

All raters are pure functions of single pictures [h, w, 3] in [0, 1], or of their features [h, w, c] at
one tap (layer) of VGG-19; `style_vector_distance` also takes the weights of the network that predicts
style vectors. JAX can trace all raters, and `jax.vmap` gives batches. They compute in float32, or in
the dtype of the pictures if that has more bits.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.raters import artefacts, content, palette, rating, style
    from nst_jax.raters.artefacts import Border, border, grid_energy, grid_peaks, speckle
    from nst_jax.raters.content import gradient_agreement, self_similarity_divergence, ssim
    from nst_jax.raters.palette import oklab, palette_distance
    from nst_jax.raters.rating import RATERS, Rater, Rating, biased_raters, rate, unused_taps
    from nst_jax.raters.style import gram_distance, style_vector_distance, wasserstein_distance
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("artefacts", "content", "palette", "rating", "style"),
        {
            "artefacts": ("Border", "border", "grid_energy", "grid_peaks", "speckle"),
            "content": ("gradient_agreement", "self_similarity_divergence", "ssim"),
            "palette": ("oklab", "palette_distance"),
            "rating": ("RATERS", "Rater", "Rating", "biased_raters", "rate", "unused_taps"),
            "style": ("gram_distance", "style_vector_distance", "wasserstein_distance"),
        },
    )

__all__ = [
    "Border", "RATERS", "Rater", "Rating", "artefacts", "biased_raters", "border", "content",
    "gradient_agreement", "gram_distance", "grid_energy", "grid_peaks", "oklab", "palette",
    "palette_distance", "rate", "rating", "self_similarity_divergence", "speckle", "ssim", "style",
    "style_vector_distance", "unused_taps", "wasserstein_distance",
]  # fmt: skip
