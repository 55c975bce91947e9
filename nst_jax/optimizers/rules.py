"""Update rules, as optax transformations and as data.

A rule is a registered dataclass: its numbers are leaves, so changing one compiles nothing, and
`transformation()` builds the optax object inside the trace. `accepted(opt_state)` says whether the
canvas that was just measured is one to keep; only a guarded rule ever refuses one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree, ScalarLike

from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS


@runtime_checkable
class Optimizer(Protocol):
    """What the loop asks of an update rule."""

    guarded: ClassVar[bool]  # True: a canvas whose losses are not finite is rolled back

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation; its `update` is given `value`, the loss at `params`."""
        ...

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        """Say whether the canvas of the last update is kept."""
        ...


# --- Adam -----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam as torch and optax have it: epsilon is added after the bias correction.

    References:
      Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    """

    learning_rate: float = 0.02
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(
            optax.chain(
                optax.scale_by_adam(self.b1, self.b2, self.eps), _descend(self.learning_rate)
            )
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KerasAdam:
    """Adam as Keras and TensorFlow 1 have it: epsilon stands outside the bias correction.

    The step is `lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`, which the paper gives
    after its algorithm 1 and calls epsilon hat. With TensorFlow's tutorial, where eps is 0.1, the
    two forms differ much.

    Attributes:
      learning_rate: lr.
      b1: decay of the mean m.
      b2: decay of the mean square v.
      eps: added to the root.
      counted: updates that t counts before the first one, for sources whose optimiser has moved
        something else before; m and v start at 0 all the same.

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
                _descend(self.learning_rate),
            )
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


def _descend(learning_rate: ScalarLike) -> optax.GradientTransformation:
    # Not `optax.scale`: that would take the place of a leaf by a closure over a Python number.
    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        return jax.tree.map(lambda u: u * jnp.negative(learning_rate), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class KerasAdamState(NamedTuple):
    """State of `scale_by_keras_adam`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    mean: PyTree
    square: PyTree


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


# --- Gradient descent -----------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class DecayedSGD:
    """Plain gradient descent whose rate decays exponentially: `rate * decay^(t / decay_steps)`.

    The exponent is continuous and t counts from 0, as in Keras' `ExponentialDecay`.

    Attributes:
      learning_rate: at the first update.
      decay: factor per `decay_steps` updates.
      decay_steps: updates.
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


# What recipes may name.
RULES = {rule.__name__: rule for rule in (Adam, KerasAdam, DecayedSGD, TorchLBFGS, LBFGS)}
