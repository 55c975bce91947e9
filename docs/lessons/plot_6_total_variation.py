r"""
6. Total variation
==================

**Claim.** The network hardly minds fine, high-contrast speckle. A third term, the variation of a
picture, does: it adds up the differences between neighbouring pixels. A little of it smooths
speckle, too much smooths the painting. Whether differences are squared decides whether edges
survive.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nst_jax as nst
from nst_jax import losses

# %%
# By hand
# -------
# A row of pixels that goes from 0 to 1: in one step, in a ramp of four steps, and with speckle. The
# sum of absolute differences is the same for the step and the ramp; the sum of squares is four
# times as large for the step.

ROWS = {
    "step": [0, 0, 0, 1, 1, 1],
    "ramp": [0, 0.25, 0.5, 0.75, 1, 1],
    "speckle": [0, 0.5, 0, 1, 0.5, 1],
}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.4), layout="constrained", sharey=True)
for axis, (name, row) in zip(axes, ROWS.items(), strict=True):
    absolute = np.abs(np.diff(row)).sum()
    squares = np.square(np.diff(row)).sum()
    axis.step(range(6), row, where="mid")
    axis.set(title=f"{name}: sum |d| = {absolute:g}, sum d² = {squares:g}", xlabel="pixel")

# %%
# So the absolute variation leaves an edge as it is, and the squared one blurs it. Both dislike
# speckle. In a picture the differences to the pixel below and to the pixel on the right are taken,
# in all channels:

row = jnp.array([0, 0.5, 1])
pixels = jnp.stack([row, row])[..., None].repeat(3, axis=-1)  # two rows, [2, 3, 3]
by_hand = 3 * (4 * 0.5 + 3 * 0)  # three channels; four steps of 0.5 to the right, none down
assert float(losses.TOTAL_VARIATION(pixels)) == by_hand
print("sum of absolute differences:", by_hand)

# %%
# The picture that shows it
# -------------------------
# The recipe ``gram`` uses the mean of squared differences, which does not grow with the picture's
# size, with a weight of 1e7. (The weight is that large because the features of this network are:
# values of hundreds, squared twice.)

WEIGHTS = (0.0, 1e7, 1e8, 1e9)
UPDATES = 40
params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")
recipe = nst.recipes.GRAM.replace(schedule=nst.recipes.OneScale(), steps=UPDATES)
pictures = {
    weight: nst.stylize(params, photo, painting, recipe=recipe.replace(tv_weight=weight), size=96)
    for weight in WEIGHTS
}

figure, axes = plt.subplots(2, 4, figsize=(10, 4.2), layout="constrained")
for column, (weight, picture) in zip(axes.T, pictures.items(), strict=True):
    column[0].imshow(picture)
    column[0].set_title(f"γ = {weight:g}")
    column[1].imshow(picture[20:40, 35:65], interpolation="nearest")
    column[1].set_title(f"mean d² = {float(losses.MEAN_VARIATION(picture)):.4f}", fontsize=10)
for axis in axes.flat:
    axis.axis("off")

# %%
# Below, a part of each picture enlarged: the speckle goes first, then the strokes.
#
# The mathematics
# ---------------
# With :math:`x_{ij}` for the pixel in row :math:`i` and column :math:`j`, the two forms are
#
# .. math::
#
#    V_1(x) = \sum_{i,j} |x_{i+1,j} - x_{ij}| + |x_{i,j+1} - x_{ij}| ,
#
# .. math::
#
#    V_2(x) = \sum_{i,j} (x_{i+1,j} - x_{ij})^2 + (x_{i,j+1} - x_{ij})^2 ,
#
# and the whole loss is :math:`L = \alpha L_{\mathrm{content}} + \beta L_{\mathrm{style}} + \gamma
# V`, with :math:`\gamma` the ``tv_weight``. A monotone row from 0 to 1 has :math:`V_1 = 1` in
# however many steps. With :math:`n` equal steps it has :math:`V_2 = n (1/n)^2 = 1/n`: the more
# gradual, the cheaper.
#
# Why is there speckle at all? Max pooling passes the gradient to one of four positions only, and
# kernels see a checkerboard less than anything else. An optimiser that updates the levels of a
# pyramid instead of single pixels, as in ``gram``, makes less of it to begin with.
#
# To try
# ------
# - ``recipe.replace(variation=losses.TOTAL_VARIATION)``, the absolute differences of TensorFlow's
#   tutorial. It is a sum, so begin with a weight such as 1e2. Are edges kept better at an equal
#   loss of speckle?
# - Add ``pool=nst.vgg.layers.average_pool``: is there less speckle without any variation?

plt.show()  # opens the figures in windows if this lesson is run as a script
