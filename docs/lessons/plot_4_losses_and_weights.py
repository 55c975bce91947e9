r"""
4. The losses and their weights
===============================

**Claim.** Style transfer minimises :math:`\alpha` times the content loss plus :math:`\beta` times
the style loss. Only the ratio of the two decides what the picture looks like, and there is no right
one: you choose a point on a curve.
"""

import matplotlib.pyplot as plt

import nst_jax as nst

params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")

# %%
# In a recipe, :math:`\alpha` is ``content_weight`` and :math:`\beta` is ``style_weight``. We keep
# :math:`\alpha = 1` and let :math:`\beta` grow by factors of ten. The recipe ``gram`` has
# :math:`\beta = 0.05`.

BETAS = (0.0005, 0.005, 0.05, 0.5)
UPDATES = 40
recipe = nst.recipes.GRAM.replace(
    tv_weight=0.0, schedule=nst.recipes.OneScale(), steps=UPDATES, content_weight=1.0
)
runs = {}
for beta in BETAS:
    one = recipe.replace(style_weight=beta)
    runs[beta] = nst.paint(params, photo, painting, recipe=one, size=96).finish()

# %%
# The picture that shows it
# -------------------------

figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), layout="constrained")
axes[0].imshow(nst.images.resizing.antialiased(photo, (64, 96)))
axes[0].set_title("photograph")
for axis, (beta, last) in zip(axes[1:], runs.items(), strict=True):
    axis.imshow(last.image)
    axis.set_title(f"β/α = {beta:g}")
for axis in axes:
    axis.axis("off")

# %%
# The same runs as numbers. ``losses.content`` and ``losses.style`` are weighted as they are
# minimised, so we divide by the weights. Each line is a run, from the photograph (a cross, whose
# content loss is 0) to where it ended (a dot).

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for beta, last in runs.items():
    content, style = last.history.content, last.history.style / beta
    (line,) = axis.plot(content / 1e6, style / 1e6, lw=1)
    axis.plot(
        content[-1] / 1e6, style[-1] / 1e6, "o", color=line.get_color(), label=f"β = {beta:g}"
    )
axis.plot(0, style[0] / 1e6, "kx", ms=9)
axis.set(
    xlabel="content loss, millions",
    ylabel="style loss, millions",
    yscale="log",
    title="Less of one is more of the other",
)
axis.legend()

# %%
# The mathematics
# ---------------
#
# .. math::
#
#    L(x) = \alpha\, L_{\mathrm{content}}(p, x) + \beta\, L_{\mathrm{style}}(a, x) ,
#
# and the result is :math:`x^* = \arg\min_x L(x)`.
#
# If both weights are multiplied by the same number, the minimum stays where it is. So there is one
# number, :math:`\beta / \alpha`. At a minimum the two gradients cancel, :math:`\alpha \nabla
# L_{\mathrm{content}} = -\beta \nabla L_{\mathrm{style}}`: a small change of the picture that makes
# one loss smaller by :math:`\delta` makes the other larger by :math:`\delta` times the ratio of the
# weights. The dots above are such points, as far as forty updates go, and the curve through them is
# what one loss costs in the other.
#
# What a ratio means here, and elsewhere
# --------------------------------------
# Lesson 3 has shown that programs put different factors in front of the style loss. Content losses
# differ likewise: a sum over all features, half of it, or a mean. So the weights of two programs
# cannot be compared as they stand. ``recipes.balance`` writes every loss as a multiple of the same
# two means, and gives the weight of style over content in that unit:

for name in ("gatys-2015", "gatys-pytorch", "pastiche", "gram", "jcjohnson"):
    preset = nst.recipes.named(name)
    alpha, beta = preset.terms.content_weight, preset.terms.style_weight
    balance = nst.recipes.balance.balance(preset)
    print(f"{name:14} α = {alpha:<8g} β = {beta:<6g} balance {balance:,.0f}:1")

# %%
# As they stand, content to style is 1:1000 in the paper, 1:1 in its authors' code (beside weights
# of its layers) and 1:100 in pastiche. In one unit style has 6 times the weight of content in the
# paper, and 1000 times in the other two. (Also then, compare only recipes that show the network the
# same pixels.)
#
# To try
# ------
# - ``BETAS = (0.02, 0.05, 0.1)``: how much of a factor can you see?
# - Multiply both weights by 10. The curve in the plane of losses stays nearly the same; "nearly" is
#   the optimiser's, not the minimum's.
# - On the command line the same dial is ``--strength``, from 0 to 1, with 0.85 for the recipe's own
#   ratio; there equal steps look equal.

plt.show()  # opens the figures in windows if this lesson is run as a script
