r"""
5. Layers, shallow and deep
===========================

**Claim.** Shallow layers hold the fine part of a style, colours and grain; deep layers hold its
coarse part, strokes and shapes. Which layers a recipe reads, and with which weights, decides the
size of what is taken from the painting.
"""

import matplotlib.pyplot as plt

import nst_jax as nst

params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# %%
# The picture that shows it
# -------------------------
# First the style alone: noise that is changed until its Gram matrix at *one* tap is the painting's.
# Gatys' weights, :math:`1000 / N_l^2` for a tap of :math:`N_l` channels, make up for the number of
# entries.

UPDATES = 30
recipe = nst.recipes.GRAM.replace(
    tv_weight=0.0, schedule=nst.recipes.OneScale(), steps=UPDATES, style_weight=1.0
)
gatys_weights = recipe.terms.style_layer_weights
alone = {}
for tap in TAPS:
    weights = tuple(w * (tap == t) for w, t in zip(gatys_weights, TAPS, strict=True))
    one = recipe.replace(
        style_layer_weights=weights, content_weight=0.0, start=nst.recipes.starts.Noise()
    )
    alone[tap] = nst.stylize(params, photo, painting, recipe=one, size=96)

figure, axes = plt.subplots(1, 5, figsize=(10, 1.8), layout="constrained")
for axis, (tap, picture) in zip(axes, alone.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(f"{tap} alone")
    axis.axis("off")

# %%
# The first tap brings the palette, in blots without a direction. From tap to tap the strokes become
# longer and begin to swirl. In ``relu5_1`` the colours are no longer right, as nothing asks for them.
#
# With a content
# --------------
# Now the same photograph with the two shallowest taps, with the two deepest, and with all five.

CHOICES = {
    "relu1_1 and relu2_1": (1, 1, 0, 0, 0),
    "relu4_1 and relu5_1": (0, 0, 0, 1, 1),
    "all five": (1, 1, 1, 1, 1),
}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
for axis, (title, used) in zip(axes, CHOICES.items(), strict=True):
    weights = tuple(w * u for w, u in zip(gatys_weights, used, strict=True))
    one = recipe.replace(style_layer_weights=weights, style_weight=0.1)
    axis.imshow(nst.stylize(params, photo, painting, recipe=one, size=96))
    axis.set_title(title)
    axis.axis("off")

# %%
# The mathematics
# ---------------
# The style loss is a weighted sum over layers,
#
# .. math::
#
#    L_{\mathrm{style}} = \sum_l w_l \, E_l ,
#    \qquad
#    E_l = \frac{1}{N_l^2} \sum_{k,k'} \bigl(G^l_{kk'}(x) - G^l_{kk'}(a)\bigr)^2 .
#
# A position of layer :math:`l` depends on a square of the picture, 3 px wide at ``relu1_1`` and 156
# px at ``relu5_1`` (lesson 1). A Gram matrix averages over positions, so it describes what fits
# into such a square and forgets how squares are arranged. The receptive field is therefore the size
# of the strokes that a layer can ask for.
#
# A receptive field has a number of *pixels*, not of centimetres. If the painting is shown to the
# network at twice the size, the same layers describe strokes half as large in relation to it, and
# on the canvas strokes become twice as large in pixels. That is what ``style_scale`` does, and why
# the same recipe gives finer strokes on a larger canvas.
#
# The content has layers too. A shallow one insists on every pixel (lesson 2) and leaves the style
# nothing to do; ``relu4_2`` and ``relu5_2`` are usual.
#
# To try
# ------
# - ``CHOICES["strokes"] = (0, 0, 1, 1, 0)``, and a fourth column.
# - ``style_scale=2.0`` in the last call of ``stylize``.
# - ``content_taps=("relu2_1",)`` in the recipe: how far must ``style_weight`` be raised until
#   anything happens?

plt.show()  # opens the figures in windows if this lesson is run as a script
