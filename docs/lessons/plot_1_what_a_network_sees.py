r"""
1. What a network sees
======================

**Claim.** A trained network turns a picture into stacks of *feature maps*: pictures of where
something was found. Shallow layers find edges and colours, and know exactly where. Deep layers find
what a cat is made of, and know roughly where.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nst_jax as nst

params = nst.load_params()  # VGG-19, trained to tell 1000 kinds of objects apart
photo = nst.images.sample("chelsea")
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
features = nst.features(params, jnp.asarray(photo), TAPS)  # tap -> array [h, w, channels]

for tap in TAPS:
    height, width, channels = features[tap].shape
    print(f"{tap}: {channels:3} maps of {height} x {width} positions")

# %%
# A *tap* is a place where we read the network: ``relu3_1`` is the first layer of its third block,
# after the ReLU. Between two blocks a pooling halves both sides, so the maps become smaller, and
# there are more of them.
#
# The picture that shows it
# -------------------------
# Of each tap, the four maps with the largest variance. White is where the feature is strong, black
# where it is absent.

figure, axes = plt.subplots(len(TAPS), 5, figsize=(10, 7.6), layout="constrained")
for row, tap in zip(axes, TAPS, strict=True):
    maps = np.asarray(features[tap])
    inner = maps[2:-2, 2:-2]  # at the border some maps only see the border
    strongest = np.argsort(inner.var(axis=(0, 1)))[::-1][:4]
    row[0].imshow(photo)
    row[0].set_ylabel(tap)
    for axis, channel in zip(row[1:], strongest, strict=True):
        axis.imshow(inner[..., channel], cmap="gray")
        axis.set_title(f"channel {channel}", fontsize=9)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])

# %%
# In ``relu1_1`` one can still count whiskers. In ``relu5_1`` a map has a few bright spots: each
# says "here", to within some 16 pixels, and here is at the eyes and the nose.
#
# How far a position sees
# -----------------------
# A position of a deep layer depends on a square of the photograph, its *receptive field*. A
# convolution of 3 x 3 widens it by two positions, and a pooling doubles how far apart positions
# are.

BLOCKS = (2, 2, 4, 4, 1)  # convolutions of VGG-19 in each block, as far as relu5_1
side, apart, sides = 1, 1, {}
for block, convolutions in enumerate(BLOCKS, start=1):
    for index in range(1, convolutions + 1):
        side += 2 * apart
        sides[f"relu{block}_{index}"] = side
    side, apart = side + apart, 2 * apart

figure, axis = plt.subplots(figsize=(7, 4.7), layout="constrained")
axis.imshow(photo)
for tap, color in zip(TAPS, plt.cm.autumn(np.linspace(0, 0.9, 5)), strict=True):
    corner, label = (180 - sides[tap] / 2, 110 - sides[tap] / 2), f"{tap}: {sides[tap]} px"
    square = plt.Rectangle(
        corner, sides[tap], sides[tap], fill=False, color=color, lw=2, label=label
    )
    axis.add_patch(square)
axis.legend(loc="lower right")
axis.set(xticks=[], yticks=[], title="What one position of each tap depends on")

# %%
# The mathematics
# ---------------
# Write :math:`F^l_{ik}` for channel :math:`k` at position :math:`i` of layer :math:`l`. With a
# kernel :math:`w^l` of 3 x 3 positions and a bias :math:`b^l`,
#
# .. math::
#
#    F^l_{ik} = \max\Bigl(0,\; b^l_k + \sum_{j} \sum_{c} w^l_{jck}\, F^{l-1}_{i+j,\,c}\Bigr),
#
# where :math:`j` runs over the nine offsets and :math:`c` over the channels below. That is all:
# sums of products, cut off at zero, and now and then the largest of four neighbours is kept.
# Training has chosen the :math:`w`; style transfer never changes them.
#
# What the first layer looks for can be shown as pictures, since its kernels have three channels, as
# a colour has: patches of one colour, and edges in all directions. (Each is stretched to the full
# range. The network was trained on blue, green, red, so we turn the order round.)

kernels = np.asarray(params.layers["conv1_1"]["kernel"])[:, :, ::-1]  # [3, 3, red-green-blue, 64]
figure, axes = plt.subplots(4, 16, figsize=(10, 2.7), layout="constrained")
for axis, kernel in zip(axes.flat, np.moveaxis(kernels, -1, 0), strict=True):
    axis.imshow((kernel - kernel.min()) / np.ptp(kernel))
    axis.axis("off")

# %%
# To try
# ------
# - Take another picture: ``nst.images.sample("gravel")``, or ``nst.images.load("mine.jpg")``. Which
#   maps of ``relu5_1`` are bright now?
# - Replace ``relu4_1`` by ``relu4_4``. The receptive field is then ``sides["relu4_4"]``.
# - Turn the photograph upside down, ``photo[::-1]``. Are the same channels the strongest?

plt.show()  # opens the figures in windows if this lesson is run as a script
