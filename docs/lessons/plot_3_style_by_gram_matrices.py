r"""
3. Style by Gram matrices
=========================

**Claim.** Which features occur *together*, on average over the whole picture, is what a painting's
style looks like to the network. The Gram matrix holds these averages. It does not know where
anything is, so two pictures with the same Gram matrices look alike without showing the same thing.

This lesson works through two small examples by hand, 4 x 4 positions with 8 maps and 8 x 8
positions with 20 maps, as courses do, and with every factor that textbooks and programs put in
front.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nst_jax as nst
from nst_jax import losses

# %%
# By hand: 4 x 4 x 8
# ------------------
# A layer with 8 maps of 4 x 4 positions. Each map becomes a row of 16 numbers, which gives a matrix
# of 8 x 16. Times its transpose, that is 8 x 8: one number for each pair of maps.

numbers = np.random.default_rng(0)
maps = np.maximum(numbers.normal(size=(4, 4, 8)), 0).astype(
    np.float32
)  # [h, w, c], as after a ReLU
rows = maps.reshape(16, 8).T  # [8, 16]
gram = rows @ rows.T  # [8, 8]
print("rows", rows.shape, " Gram matrix", gram.shape)

by_hand = sum(maps[i, j, 4] * maps[i, j, 2] for i in range(4) for j in range(4))
print(f"entry (4, 2): {gram[4, 2]:.4f}, by hand {by_hand:.4f}")
assert np.allclose(gram, losses.gram(jnp.asarray(maps)), rtol=1e-5)  # what the package computes

# %%
# The picture that shows it
# -------------------------
# Two maps, multiplied position by position and summed, are one entry of the matrix. It is large if
# both are bright at the same places.

figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), layout="constrained")
pictures = {
    "map 4": maps[..., 4],
    "map 2": maps[..., 2],
    "their product": maps[..., 4] * maps[..., 2],
    "all maps as rows, 8 x 16": rows,
    "Gram matrix, 8 x 8": gram,
}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, cmap="viridis")
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])
axes[4].add_patch(plt.Rectangle((1.5, 3.5), 1, 1, fill=False, color="red", lw=2))  # row 4, column 2

# %%
# It does not know where
# ----------------------
# Shuffle the 16 positions: the picture is destroyed, the Gram matrix is the same, since a sum has
# no order.

shuffled = numbers.permutation(maps.reshape(16, 8)).reshape(4, 4, 8)
assert np.allclose(losses.gram(jnp.asarray(shuffled)), gram, rtol=1e-5)

# %%
# By hand: 8 x 8 x 20
# -------------------
# With 20 maps of 8 x 8 positions each row has 64 numbers, and the Gram matrix is 20 x 20. A larger
# picture has longer rows; its Gram matrix is still 20 x 20, but its entries grow, as they are sums
# over more positions. So a *mean*, :math:`G = F F^\mathsf{T} / M`, is what pictures of different
# size have in common.

wide = jnp.maximum(numbers.normal(size=(8, 8, 20)).astype(np.float32), 0)
twice = jnp.concatenate([wide, wide], axis=1)  # the same picture twice, side by side
assert np.allclose(losses.gram(twice), 2 * losses.gram(wide), rtol=1e-5)
assert np.allclose(losses.gram(twice) / 128, losses.gram(wide) / 64, rtol=1e-5)

# %%
# The factors
# -----------
# Everybody minimises the squared difference of two Gram matrices, :math:`\sum_{kl} (R_{kl} -
# A_{kl})^2`, with :math:`R = F F^\mathsf{T}` of the picture and :math:`A` that of the painting.
# They differ in the factor:
#
# ================================= ===================== ============ ===============
# who                               factor                8 maps, 4x4  20 maps, 8x8
# ================================= ===================== ============ ===============
# the paper, Coursera               :math:`1/(4 N^2 M^2)` 1/65,536     1/6,553,600
# TensorFlow, Gatys' code           :math:`1/(N^2 M^2)`   1/16,384     1/1,638,400
# PyTorch's tutorial, neural-style  :math:`1/(N^4 M^2)`   1/1,048,576  1/655,360,000
# Udacity                           :math:`1/(N^3 M)`     1/8,192      1/512,000
# ================================= ===================== ============ ===============
#
# :math:`N` is the number of maps and :math:`M` the number of positions: 8 and 16, or 20 and 64.
# This is why a style weight of one program means nothing in another. The package has each under a
# name; its functions take the mean :math:`G`, and we compare them with the table:

FACTORS = {
    "the paper, Coursera": (losses.GRAM_PAPER, lambda n, m: 4 * n**2 * m**2),
    "TensorFlow, Gatys' code": (losses.GRAM_MEAN_SQUARE, lambda n, m: n**2 * m**2),
    "PyTorch's tutorial, neural-style": (losses.GRAM_PER_CHANNEL, lambda n, m: n**4 * m**2),
    "Udacity": (losses.GRAM_UNDIVIDED, lambda n, m: n**3 * m),
}
for height, width, count in ((4, 4, 8), (8, 8, 20)):
    one, other = jnp.asarray(numbers.normal(size=(2, height, width, count)), jnp.float32)
    squares = jnp.sum((losses.gram(one) - losses.gram(other)) ** 2)
    for name, (loss, divisor) in FACTORS.items():
        positions = height * width
        extent = losses.Extent(positions, pixels=positions)
        value = float(loss.distance(loss.measure(one), loss.measure(other), extent))
        expected = squares / divisor(count, positions)
        assert np.isclose(value, expected, rtol=1e-4)
        print(f"{height} x {width} x {count:2}  {name:33} 1 / {divisor(count, positions):,}")

# %%
# What five Gram matrices hold
# ----------------------------
# Now with a network, and noise that is changed until its Gram matrices at five taps are those of
# gravel. No term says what should be where.

params = nst.load_params()
gravel = nst.images.sample("gravel")[:192, :192]
UPDATES = 40
recipe = nst.recipes.GRAM.replace(tv_weight=0.0, schedule=nst.recipes.OneScale())
texture = nst.texture(params, gravel, recipe=recipe, size=96, style_size=96, steps=UPDATES)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
found = nst.features(params, texture, ["relu2_1"])["relu2_1"]
pictures = {
    "gravel": gravel,
    f"painted from noise, {UPDATES} updates": texture,
    "its Gram matrix at relu2_1 (logarithm)": np.log10(np.asarray(losses.gram(found)) + 1),
}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, cmap="viridis")
    axis.set_title(title, fontsize=11)
    axis.axis("off")

# %%
# The mathematics
# ---------------
# With the features of layer :math:`l` as a matrix :math:`F^l` of :math:`N_l` rows (maps) and
# :math:`M_l` columns (positions),
#
# .. math::
#
#    G^l_{kk'} = \frac{1}{M_l} \sum_{i=1}^{M_l} F^l_{ki} F^l_{k'i} ,
#
# .. math::
#
#    L_{\mathrm{style}} = \sum_l w_l \, \frac{1}{N_l^2} \sum_{k,k'}
#    \bigl(G^l_{kk'}(x) - G^l_{kk'}(a)\bigr)^2 .
#
# On its diagonal :math:`G` has the mean square of each feature: how much of it there is. Beside the
# diagonal it has which features go together: blue with curved strokes, say. It is the second moment
# of the features, and all Gram losses ask for is that two distributions of features have the same
# second moments.
#
# To try
# ------
# - ``sample("starry_night")`` in place of ``"gravel"``: which of its parts come back, and which
#   never?
# - ``size=144`` in the call of ``texture``: the result may have any size, since :math:`G` is a
#   mean.
# - In the table, let the picture be twice as large (:math:`M = 256`). Which of the factors change
#   by 4, and which by 16?

plt.show()  # opens the figures in windows if this lesson is run as a script
