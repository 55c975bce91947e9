r"""
8. From the optimised picture to the instant one
================================================

**Claim.** Optimising each picture takes many passes through the network. A second network can be
trained to give an answer in one pass. It is hundreds of times as fast on the pictures after that,
and its answer is not as good: it is a guess that is right on average.
"""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np

import nst_jax as nst

params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")
SIZE, UPDATES = 160, 30

# %%
# The same pair by both. Each is called twice, and the second call is timed, since the first one
# compiles.

recipe = nst.recipes.GRAM.replace(schedule=nst.recipes.OneScale(), steps=UPDATES)


def timed(function):
    """Return what a function returns, and the seconds that it takes."""
    began = time.perf_counter()
    value = jax.block_until_ready(function())
    return value, time.perf_counter() - began


nst.paint(params, photo, painting, recipe=recipe, steps=2, size=SIZE).finish()
last, optimised_seconds = timed(
    lambda: nst.paint(params, photo, painting, recipe=recipe, size=SIZE).finish()
)
nst.instant(photo, painting, size=SIZE)
instant, instant_seconds = timed(lambda: nst.instant(photo, painting, size=SIZE))

# %%
# The picture that shows it
# -------------------------

figure, axes = plt.subplots(1, 4, figsize=(10, 2.5), layout="constrained")
pictures = {
    "photograph": photo,
    "painting": painting,
    f"one pass: {instant_seconds:.2f} s": instant,
    f"{UPDATES} updates: {optimised_seconds:.1f} s": last.image,
}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(title)
    axis.axis("off")

# %%
# (The seconds are those of the machine that built this page.) Both pictures can be put before the
# same judge, the loss of the recipe. The history of the run says how many updates have the value of
# one pass:

targets = jax.jit(nst.measure)(
    params,
    nst.images.resizing.antialiased(photo, last.image.shape[:2]),
    nst.images.resizing.antialiased(painting, (126, 160)),
    recipe,
)
loss_of_instant = float(jax.jit(nst.losses_of)(params, instant, targets, recipe).total)
history = np.asarray(last.history.total)

figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
axis.semilogy(history / 1e6, label="optimisation")
axis.axhline(loss_of_instant / 1e6, color="tab:red", ls="--", label="one pass")
axis.minorticks_off()
axis.set_yticks((2, 5, 10, 20, 40), ("2", "5", "10", "20", "40"))
axis.set(xlabel="updates", ylabel="loss, millions", title="How good a guess is")
axis.legend()
reached = int(np.argmax(history < loss_of_instant))
print(f"one pass has the loss of {reached} updates")
print(f"the run ends at {history[-1] / loss_of_instant:.2f} of that loss")

# %%
# The mathematics
# ---------------
# Optimisation solves one problem for each pair of pictures, :math:`x^* = \arg\min_x L(p, a, x)`.
# Training solves one for all photographs together: find the weights :math:`\theta` of a network
# :math:`f_\theta` whose *outputs* have a small loss on average,
#
# .. math::
#
#    \theta^* = \arg\min_\theta \; \mathbb{E}_p \; L\bigl(p, a, f_\theta(p)\bigr) .
#
# The loss is that of the lessons before; VGG-19 is needed to train and no longer to paint. The
# gradient now goes on through the picture into :math:`\theta`,
#
# .. math::
#
#    \frac{\partial L}{\partial \theta} = \frac{\partial L}{\partial x}\,
#    \frac{\partial f_\theta(p)}{\partial \theta} .
#
# Johnson and others (2016) trained one network for one style. Dumoulin and others (2017) found that
# a style fits into the scales and shifts of the normalisations, :math:`\gamma_s (z - \mu)/\sigma +
# \beta_s`, so that one network holds many styles and their mixtures. Ghiasi and others (2017) let
# another network compute these numbers from any painting: that is what painted above.
#
# A network for many styles, with one pass:

NAMES = ("mosaic", "waves", "woodcut", "starry")
mixed = [*NAMES, {"mosaic": 0.5, "waves": 0.5}]
figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), layout="constrained")
for axis, style in zip(axes, mixed, strict=True):
    axis.imshow(nst.instant(photo, style, size=256))
    axis.set_title(style if isinstance(style, str) else "mosaic and waves", fontsize=10)
    axis.axis("off")

# %%
# To try
# ------
# - ``SIZE = 256`` is what the first network was trained on. How many updates is one pass worth
#   there?
# - ``init=nst.recipes.starts.Instant()`` in the call of ``paint`` lets the optimisation begin with
#   the guess. Does the curve start where the dashed line is?
# - ``nst-jax train painting.jpg --photos photos -o style.h5`` trains a network of yours:
#   :doc:`/train`.

plt.show()  # opens the figures in windows if this lesson is run as a script
