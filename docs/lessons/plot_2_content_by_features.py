r"""
2. Content by features
======================

**Claim.** The features at one layer describe a picture well enough to paint it again from nothing
but them. The deeper the layer, the more freedom is left: what is where stays, exact pixels and
colours do not.

So "the same content" can be defined as "similar features at a deep layer", and that leaves room for
a style.
"""

import matplotlib.pyplot as plt

import nst_jax as nst

params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")
TAPS = ("relu1_1", "relu3_1", "relu4_2", "relu5_2")

# %%
# We begin with noise and change its pixels until its features at one tap are those of the
# photograph. A *recipe* says what is minimised and how; here the style has the weight 0, and of the
# four content taps all but one have the weight 0. Weights are numbers and not structure, so one
# compiled program serves all four runs.

UPDATES = 40
recipe = nst.recipes.GRAM.replace(
    content_taps=TAPS,
    content_layer_weights=(1.0, 0.0, 0.0, 0.0),
    content_loss=nst.losses.CONTENT_RELATIVE,
    content_weight=1.0,
    style_taps=("relu1_1",),
    style_layer_weights=(1.0,),
    style_weight=0.0,
    tv_weight=0.0,
    start=nst.recipes.starts.Noise(),
    schedule=nst.recipes.OneScale(),
    steps=UPDATES,
)
runs = {}
for tap in TAPS:
    weights = tuple(float(tap == other) for other in TAPS)
    one = recipe.replace(content_layer_weights=weights)
    runs[tap] = nst.paint(params, photo, painting, recipe=one, size=96).finish()

# %%
# The picture that shows it
# -------------------------

figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), layout="constrained")
axes[0].imshow(nst.images.resizing.antialiased(photo, (64, 96)))
axes[0].set_title("photograph, 96 px")
for axis, (tap, last) in zip(axes[1:], runs.items(), strict=True):
    axis.imshow(last.image)
    axis.set_title(f"from {tap}")
for axis in axes:
    axis.axis("off")

figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for tap, last in runs.items():
    axis.semilogy(last.history.total, label=tap)
axis.set(xlabel="updates", ylabel="content loss, relative", title="Deeper features take longer")
axis.legend()

# %%
# From ``relu1_1`` the photograph comes back nearly exactly. From ``relu4_2``, the layer of Gatys'
# paper, the cat is still there, but the fur is other fur. ``relu5_2`` keeps eyes, nose and
# outlines.
#
# The mathematics
# ---------------
# With :math:`F^l(x)` for the features of a picture :math:`x` at layer :math:`l`, the content loss
# is a squared distance. Gatys and others (2015) wrote
#
# .. math::
#
#    L_{\mathrm{content}}(p, x) = \frac{1}{2} \sum_{i,k} \bigl(F^l_{ik}(x) - F^l_{ik}(p)\bigr)^2 .
#
# The runs above divide by :math:`\sum_{i,k} F^l_{ik}(p)^2` in place of the factor 1/2, so that
# losses of different layers can be compared: 0 is the photograph, 1 a picture in which nothing is
# found.
#
# The gradient with respect to the pixels comes from the chain rule, layer by layer, as in training.
# But it is the picture that moves, not the weights:
#
# .. math::
#
#    x \leftarrow x - \eta \, \frac{\partial L_{\mathrm{content}}}{\partial x} .
#
# What cannot be seen in the features cannot be rebuilt: a pooling keeps the largest of four values
# and forgets the others, and whatever is below zero at a ReLU is lost.
#
# To try
# ------
# - ``UPDATES = 200``: does ``relu5_2`` ever look like the photograph?
# - Another ``start``, such as ``nst.recipes.starts.FromStyle()``: what of the painting survives?
# - ``tv_weight=0.1`` in the recipe: what becomes of the coloured speckles? Lesson 6 says why.

plt.show()  # opens the figures in windows if this lesson is run as a script
