"""Update rules, as optax transformations and as data.

An update rule is a dataclass that is registered as a pytree. Its numbers are leaves, so changing a
number recompiles nothing. `transformation()` may be called during tracing, with tracers as numbers.
`accepted(opt_state)` says whether to keep the canvas whose losses were just computed; only `LBFGS`,
the one guarded rule, ever rejects a canvas. `Optax` makes an update rule of any other optax
transformation.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree, ScalarLike

from nst_jax._types import ADDED_LATER
from nst_jax.images.resizing import bilinear, torch_bicubic
from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS


@runtime_checkable
class Optimizer(Protocol):
    """What an update rule must have for `nst_jax.step` to use it."""

    guarded: ClassVar[bool]  # True: the rule undoes updates whose loss is too high or not finite

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation.

        Its `update` gets `value`, the loss at `params`; if several devices share the canvas, `height`,
        the number of rows of the canvas without padding; and if the canvas lies at the top left of a
        larger array, `size`, its real (height, width), outside which the gradient is zero.
        """
        ...

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        """Return whether to keep the canvas whose loss and gradient the last `update` was given."""
        ...


# --- Adam -----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam as in torch and optax: epsilon is added after the bias correction.

    Attributes:
      learning_rate: the rate.
      b1: decay of the mean of the gradient.
      b2: decay of the mean of the squared gradient.
      eps: added to the root of the mean square.
      carry: whether a finer scale begins with both means of the coarser one, resized, and with its
        count of updates; else it begins with zeros. Static.

    References:
      Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1. Means are carried as
      in github.com/crowsonkb/style-transfer-pytorch.
    """

    learning_rate: float = 0.02
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    carry: bool = field(default=False, metadata={"static": True, ADDED_LATER: True})
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(
            optax.chain(
                optax.scale_by_adam(self.b1, self.b2, self.eps), optax.scale(-self.learning_rate)
            )
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)

    def carried(self, opt_state: Any, fresh: Any) -> Any:
        """Return the state of a coarser scale, resized for the next one, with its count of updates.

        The mean of the gradient is resized bicubically and the mean square bilinearly, both as torch
        resizes, and a mean square below 0 becomes 0.

        Args:
          opt_state: the state after the last update at the coarser scale.
          fresh: a state for the finer scale, from `transformation().init`, of which only the shapes
            matter.
        """
        (old, *rest), like = opt_state, fresh[0]
        mean = jax.tree.map(lambda m, to: torch_bicubic(m, to.shape[:2]), old.mu, like.mu)
        square = jax.tree.map(
            lambda v, to: jnp.maximum(bilinear(v, to.shape[:2]), 0), old.nu, like.nu
        )
        return (old._replace(mu=mean, nu=square), *rest)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KerasAdam:
    """Adam as in Keras and TensorFlow 1: epsilon is added before the bias correction.

    The step is `lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`. The paper gives this form in
    section 2 and calls this epsilon "epsilon hat". With a large eps, such as 0.1 in TensorFlow's
    tutorial, the result differs much from `Adam`'s.

    Attributes:
      learning_rate: lr.
      b1: decay of m, the mean of the gradient.
      b2: decay of v, the mean of the squared gradient.
      eps: added to sqrt(v).
      counted: added to t, the number of the update, for sources that have used the optimiser for this
        many updates before the run; m and v start at 0 nevertheless.

    References:
      Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, section 2.
    """

    learning_rate: float = 0.001
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-7
    counted: float = 0.0
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(
            optax.chain(
                scale_by_keras_adam(self.b1, self.b2, self.eps, self.counted),
                optax.scale(-self.learning_rate),
            )
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


class KerasAdamState(NamedTuple):
    """State of `scale_by_keras_adam`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # number of updates so far
    mean: PyTree  # m, the decaying mean of the gradient
    square: PyTree  # v, the decaying mean of the squared gradient


def scale_by_keras_adam(
    b1: ScalarLike, b2: ScalarLike, eps: ScalarLike, counted: ScalarLike = 0.0
) -> optax.GradientTransformation:
    """Rescale gradients as Keras' Adam does; see `KerasAdam`."""

    def init(params: PyTree) -> KerasAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return KerasAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(
        updates: PyTree, state: KerasAdamState, params: PyTree = None
    ) -> tuple[PyTree, KerasAdamState]:
        del params
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, updates)
        t = count + counted
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        scaled = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + eps), mean, square)
        return scaled, KerasAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


# --- RMSprop --------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """RMSprop as in torch: plain, not centred, and epsilon is added to the root.

    The step is `lr * g / (sqrt(v) + eps)`, where v is the decaying mean of the squared gradient and
    starts at 0. There is no bias correction, so the first steps are up to `1 / sqrt(1 - alpha)` times
    as long as later ones.

    Attributes:
      learning_rate: lr.
      alpha: decay of v.
      eps: added to sqrt(v).

    References:
      Tieleman, Hinton, "Neural Networks for Machine Learning", 2012, lecture 6.5; torch's
      `torch.optim.RMSprop`.
    """

    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(
            optax.chain(scale_by_torch_rms(self.alpha, self.eps), optax.scale(-self.learning_rate))
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


class TorchRMSState(NamedTuple):
    """State of `scale_by_torch_rms`."""

    square: PyTree  # v, the decaying mean of the squared gradient


def scale_by_torch_rms(alpha: ScalarLike, eps: ScalarLike) -> optax.GradientTransformation:
    """Rescale gradients as torch's RMSprop does; see `RMSprop`.

    `optax.scale_by_rms` is not used, since the oldest supported version of optax can add epsilon only
    under the root.
    """

    def init(params: PyTree) -> TorchRMSState:
        return TorchRMSState(jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: PyTree, state: TorchRMSState, params: PyTree = None
    ) -> tuple[PyTree, TorchRMSState]:
        del params
        square = jax.tree.map(lambda v, g: alpha * v + (1 - alpha) * g * g, state.square, updates)
        scaled = jax.tree.map(lambda g, v: g / (jnp.sqrt(v) + eps), updates, square)
        return scaled, TorchRMSState(square)

    return optax.GradientTransformation(init, update)


# --- Gradient descent -----------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class DecayedSGD:
    """Plain gradient descent with the rate `learning_rate * decay^(t / decay_steps)` at update t.

    The exponent is continuous and t counts from 0, as in Keras' `ExponentialDecay`.

    Attributes:
      learning_rate: the rate at the first update.
      decay: the factor by which the rate changes over `decay_steps` updates.
      decay_steps: number of updates to which `decay` refers.
    """

    learning_rate: float = 100.0
    decay: float = 0.96
    decay_steps: float = 100.0
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        def init(params: PyTree) -> Int[Array, ""]:
            del params
            return jnp.zeros([], jnp.int32)

        def update(
            updates: PyTree, count: Int[Array, ""], params: PyTree = None
        ) -> tuple[PyTree, Int[Array, ""]]:
            del params
            rate = self.learning_rate * self.decay ** (count / self.decay_steps)
            return jax.tree.map(
                lambda g: jnp.negative(rate).astype(g.dtype) * g, updates
            ), count + 1

        return optax.with_extra_args_support(optax.GradientTransformation(init, update))

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


# --- Any optax transformation ---------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Optax:
    """Any optax gradient transformation as an update rule.

    The transformation is static, and all numbers that it was made with are constants of the compiled
    program: the same object compiles once, another object compiles again, even with the same numbers. A
    learning rate to sweep needs an update rule of your own: a registered dataclass like `Adam`, with
    its numbers as fields and the methods of `Optimizer`.

    The loop evaluates the loss once per update and passes it as `value`; transformations that evaluate
    the loss themselves, such as `optax.lbfgs` with its line search, cannot be used. A recipe with this
    rule cannot be written as TOML or pickled, since the functions in an optax transformation have no
    name to import them by. For the same reason picture files and checkpoints record that an optax rule
    was used, but not its numbers: to resume a run, give the same transformation again.

    Attributes:
      rule: a transformation of optax, such as `optax.adam(0.01)`. Static.

    Example:
      >>> import optax
      >>> import nst_jax as nst
      >>> recipe = nst.recipes.TF.replace(optimizer=nst.optimizers.Optax(optax.lion(0.01)))
      >>> nst.recipes.check(recipe).descent.optimizer.guarded
      False
    """

    rule: optax.GradientTransformation = field(metadata={"static": True})
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(self.rule)

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


# Update rules by the names that recipe files use.
OPTIMIZERS = {
    rule.__name__: rule for rule in (Adam, KerasAdam, RMSprop, DecayedSGD, TorchLBFGS, LBFGS)
}
