r"""
7. Optimisers
=============

**Claim.** The loss says what the picture should be, the optimiser how fast it gets there. Adam needs
a learning rate that fits. L-BFGS learns the curvature from its last updates and needs none, but it has
to be kept from jumping too far.
"""

import matplotlib.pyplot as plt
import numpy as np

import nst_jax as nst
from nst_jax import optimizers

params = nst.load_params()
photo, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")

# %%
# One loss, three update rules. In a recipe the optimiser is one value; an update costs one
# evaluation of loss and gradient with each of them, so updates can be compared.

UPDATES = 40
recipe = nst.recipes.GRAM.replace(schedule=nst.recipes.OneScale(), steps=UPDATES)
RULES = {
    "Adam, learning rate 0.005": optimizers.Adam(learning_rate=0.005),
    "Adam, learning rate 0.02": optimizers.Adam(learning_rate=0.02),
    "Adam, learning rate 0.1": optimizers.Adam(learning_rate=0.1),
    "L-BFGS as in torch": optimizers.TorchLBFGS(),
    "L-BFGS, guarded": recipe.descent.optimizer,
}
runs = {}
for name, rule in RULES.items():
    one = recipe.replace(optimizer=rule)
    runs[name] = nst.paint(params, photo, painting, recipe=one, size=64).finish()

# %%
# The picture that shows it
# -------------------------

figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
for name, last in runs.items():
    axis.semilogy(np.asarray(last.history.total) / 1e6, label=name)
axis.set(xlabel="updates", ylabel="loss, millions", title="The same loss, by five rules")
axis.legend()

figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), layout="constrained")
for axis, (name, last) in zip(axes, runs.items(), strict=True):
    axis.imshow(last.image)
    axis.set_title(name.replace(", learning rate", ",\nrate").replace(" as", "\nas"), fontsize=9)
    axis.axis("off")

# %%
# A small rate is slow. A large one comes nearly as far as L-BFGS here, and then begins to jump:
# ``UPDATES = 60`` shows it. Torch's L-BFGS makes the loss much worse once, in one of its first updates.
# The guarded one limits its steps, takes back what is too bad, and is ahead from then on.
#
# The mathematics
# ---------------
# With the gradient :math:`g_t` at the picture :math:`x_t`, **Adam** keeps decaying means of the
# gradient and of its square, for each pixel on its own,
#
# .. math::
#
#    m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t , \qquad
#    v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 ,
#
# .. math::
#
#    x_{t+1} = x_t - \eta \, \frac{\hat{m_t}}{\sqrt{\hat{v_t}} + \epsilon} ,
#
# where the hats divide by :math:`1 - \beta^t`, since both means begin at zero. The fraction is
# about 1 in the beginning. So :math:`\eta` is a number of *pixel values*: 0.02 moves each pixel by
# 0.02 of the range from black to white, whatever the weights of the losses are.
#
# **Newton's method** would use the matrix of second derivatives, :math:`x_{t+1} = x_t - H^{-1}
# g_t`. For :math:`n` numbers it has :math:`n^2` entries, and a picture of 64 x 43 px has 8256
# numbers. **L-BFGS** never writes it down. It keeps the last :math:`m` steps :math:`s_t = x_{t+1} -
# x_t` with the changes of the gradient :math:`y_t = g_{t+1} - g_t`, and applies an approximation
# :math:`B_t` of the inverse that agrees with them,
#
# .. math::
#
#    B_{t+1} \, y_t = s_t , \qquad x_{t+1} = x_t - \eta_t B_t g_t ,
#
# at the cost of :math:`4m` inner products and sums. That pays where the loss is smooth. ReLUs and
# max poolings make it smooth in pieces only, so a step may land where the memory is wrong. Torch's
# version takes it nevertheless; the guarded one limits the step and takes back what was bad.
#
# To try
# ------
# - ``UPDATES = 300``: does Adam catch up?
# - ``optimizers.Adam(learning_rate=0.1, b2=0.9)``, or any rule of optax:
#   ``optimizers.Optax(optax.nadam(0.02))``.
# - Multiply ``content_weight``, ``style_weight`` and ``tv_weight`` by 1000. Which curves change
#   their shape, and which do not?

plt.show()  # opens the figures in windows if this lesson is run as a script
