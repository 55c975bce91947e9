"""Update rules: how an optimiser uses the loss's gradient to change the canvas (the picture optimised).

An update rule is a dataclass that is registered as a pytree. Its numbers are leaves of the pytree, so
changing a number recompiles nothing; exceptions are marked as static. Its method `transformation` makes
an optax transformation from these numbers, which may be tracers. Its method `accepted` says whether to
keep the canvas whose losses were computed last; only `LBFGS` ever rejects a canvas. `Optax` makes an
update rule of another optax transformation, unless this evaluates the loss itself.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree, ScalarLike

from nst_jax import _checks
from nst_jax._types import ADDED_LATER
from nst_jax.images.resizing import bilinear, torch_bicubic
from nst_jax.optimizers.lbfgs import LBFGS, TorchLBFGS


@runtime_checkable
class Optimizer(Protocol):
    """What every update rule must have: an attribute and two methods, which `nst_jax.step` uses."""

    # Whether the rule undoes an update after which the loss is too high or not finite.
    guarded: ClassVar[bool]

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """Make the optax transformation that updates a canvas by this rule.

        The function `update` of the transformation must accept further arguments by name. It always
        gets `value`, the loss of the canvas. If several devices share the canvas, it gets `height`, the
        number of rows of the canvas. Rows of zeros may be added below these, so that all devices have
        equally many rows. If the canvas lies at the top left of a larger array, `update` gets `size`,
        the (height, width) of the canvas. Outside the canvas, the gradient is zero.
        """
        ...

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        """Return whether to keep the canvas whose loss and gradient were given to the last `update`.

        `opt_state` is the state of the optax transformation that the last `update` returned.
        """
        ...


# --- Adam -----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam as in torch and optax: epsilon is added after the bias correction.

    Attributes:
      learning_rate: factor of every update.
      b1: decay of the running mean of the gradient.
      b2: decay of the running mean of the squared gradient.
      eps: epsilon, added to the root of the mean square.
      carry: whether the optimisation at a finer scale (size of the canvas) begins with the count of
        updates and both running means of the coarser scale before it, the means resized to the new
        size. This needs a pyramid of the same number of levels at all scales, or none. If False, the
        count and the means begin at 0 at each scale. Static.

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
        """Return the state of Adam at a coarser scale, resized to the canvas of the next finer scale.

        The running mean of the gradient is resized bicubically, and the running mean of its square
        bilinearly, both as torch does it. As in the program that the class cites, negative values of
        the mean square become 0. The count of updates stays as it is.

        Args:
          opt_state: the state after the last update at the coarser scale.
          fresh: a new state for the finer scale, from `transformation().init`; only the shapes of its
            arrays are used.
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

    An update subtracts `lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)` from the canvas, where
    m is the running mean of the gradient, v that of its square, and t the number of the update, from 1.
    Kingma and Ba give this form of Adam in section 2, and call this epsilon "epsilon hat". With a large
    epsilon, such as 0.1 in TensorFlow's tutorial, the result differs much from that of `Adam`.

    Attributes:
      learning_rate: lr in this formula.
      b1: decay of the running mean m.
      b2: decay of the running mean v.
      eps: added to sqrt(v).
      counted: a number that is added to t. It reproduces programs that had used the same optimiser for
        this many updates of another array before the run; m and v start at 0 nevertheless.

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
    """The state of the optax transformation that `scale_by_keras_adam` makes."""

    count: Int[Array, ""]  # type: ignore[assignment]  # number of updates so far
    mean: PyTree  # m, the running mean of the gradient, with exponential decay
    square: PyTree  # v, the running mean of the squared gradient, with exponential decay


def scale_by_keras_adam(
    b1: ScalarLike, b2: ScalarLike, eps: ScalarLike, counted: ScalarLike = 0.0
) -> optax.GradientTransformation:
    """Make an optax transformation that rescales gradients as Keras' Adam does.

    `KerasAdam` describes the formula and the arguments. As with `optax.scale_by_adam`, a later
    transformation multiplies the result by the negative learning rate.
    """

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
        t = _as_float(count, updates) + counted
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        scaled = jax.tree.map(
            lambda m, v: correction.astype(m.dtype) * m / (jnp.sqrt(v) + eps), mean, square
        )
        return scaled, KerasAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


def _as_float(count: Int[Array, ""], updates: PyTree) -> Float[Array, ""]:
    """Return a number of updates in the type of the gradients, in float32 at least.

    JAX would convert it itself, but not with its setting `jax_numpy_dtype_promotion="strict"`.
    """
    wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(updates))
    return count.astype(jnp.float64 if wide else jnp.float32)


# --- RMSprop --------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """RMSprop as in torch, with its defaults: without momentum, and not centred.

    An update subtracts `lr * g / (sqrt(v) + eps)` from the canvas, where g is the gradient and v the
    running mean of its square, which starts at 0. There is no bias correction, so the first updates are
    up to `1 / sqrt(1 - alpha)` times as large as later ones.

    Attributes:
      learning_rate: lr in this formula.
      alpha: decay of the running mean v.
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
    """The state of the optax transformation that `scale_by_torch_rms` makes."""

    square: PyTree  # v, the running mean of the squared gradient, with exponential decay


def scale_by_torch_rms(alpha: ScalarLike, eps: ScalarLike) -> optax.GradientTransformation:
    """Make an optax transformation that rescales gradients as torch's RMSprop does.

    `RMSprop` describes the formula and the arguments. The learning rate and the sign are left to a
    transformation that follows. `optax.scale_by_rms` is not used, since in the oldest supported version
    of optax it can only compute sqrt(v + eps), and not sqrt(v) + eps.
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
    """Gradient descent with a learning rate that decays, and without momentum.

    In update t, counted from 0, the learning rate is `learning_rate * decay^(t / decay_steps)`. The
    exponent is not rounded, as in Keras' schedule `ExponentialDecay` with its default
    `staircase=False`.

    Attributes:
      learning_rate: the learning rate in the first update.
      decay: the factor by which the learning rate changes over `decay_steps` updates.
      decay_steps: number of updates after which the learning rate has changed by the factor `decay`.
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
            exponent = _as_float(count, updates) / self.decay_steps
            rate = self.learning_rate * self.decay**exponent
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
    """An update rule that is made from an optax gradient transformation.

    The transformation is static, and all numbers that it was made with are constants of the compiled
    program. So runs with the same transformation object share one program, but another object needs
    another compilation, even if its numbers are the same. To try several learning rates without
    recompilation, write an update rule of your own: a dataclass like `Adam` that is registered as a
    pytree, with its numbers as fields and with the methods of `Optimizer`.

    The optimisation loop evaluates the loss once in each update, and passes it to the transformation as
    `value`. Transformations that evaluate the loss themselves, such as `optax.lbfgs` with its line
    search, cannot be used.

    A recipe with this rule cannot be written as TOML or pickled, since the functions in an optax
    transformation have no name by which they could be imported. Picture files and checkpoints record
    that an optax rule was used, but not its numbers. So to resume a run, give the same transformation
    again.

    Attributes:
      rule: a gradient transformation of optax, such as `optax.adam(0.01)`. Static.

    Raises:
      TypeError: if `rule` is no gradient transformation of optax.

    Example:
      >>> import optax
      >>> import nst_jax as nst
      >>> recipe = nst.recipes.TF.replace(optimizer=nst.optimizers.Optax(optax.lion(0.01)))
      >>> type(nst.recipes.check(recipe).descent.optimizer).__name__
      'Optax'
    """

    rule: optax.GradientTransformation = field(metadata={"static": True})
    guarded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not _is_transformation(self.rule):
            raise TypeError(
                f"`rule`: expected an optax transformation, such as `optax.adam(0.01)`, got "
                f"{_checks.shown(self.rule)}"
            )

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return _with_any_arguments(self.rule)

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


# The update rules of this project by the names that recipe files (TOML) use for them.
OPTIMIZERS: dict[str, Any] = {
    rule.__name__: rule for rule in (Adam, KerasAdam, RMSprop, DecayedSGD, TorchLBFGS, LBFGS)
}


# --- Rules of users -------------------------------------------------------------------------------


def _is_transformation(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("init", "update"))


# The further arguments of `update`, named in `Optimizer.transformation`, that only some runs give.
_OF_SOME_RUNS = frozenset({"height", "size"})


def _with_any_arguments(
    made: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Return a transformation whose `update` may be given any further arguments by name.

    The `update` of `made` gets those that it has parameters for, but not those that a
    `functools.partial` has bound already. `optax.with_extra_args_support` would give a plain
    `optax.GradientTransformation` none, also if it has such parameters.
    """
    parameters: Mapping[str, inspect.Parameter] = {}
    bound = made.update.keywords if isinstance(made.update, functools.partial) else {}
    # Some functions that are not written in Python have no signature. They get all arguments.
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(made.update).parameters
    if not parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return optax.GradientTransformationExtraArgs(made.init, made.update)

    accepted = {
        name
        for name, one in parameters.items()
        if one.kind is not one.POSITIONAL_ONLY and name not in bound
    }

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra: Any) -> Any:
        taken = {name: value for name, value in extra.items() if name in accepted}
        return made.update(updates, state, params, **taken)

    # An error about a missing argument names the function of the user; see `_missing_arguments`. The
    # wrapper keeps a signature of its own, with `**extra`, so that it is not wrapped a second time.
    update.__name__ = getattr(made.update, "__name__", update.__name__)
    return optax.GradientTransformationExtraArgs(made.init, update)


def _missing_arguments(error: TypeError, update: Any) -> set[str]:
    """Return the keyword-only arguments that a call of `update` lacked; an empty set for other errors.

    A transformation that is made of several others calls their updates, which optax names "update" or
    "update_fn".
    """
    called, lacks, missing = str(error).partition("() missing ")
    own = {"update", "update_fn", getattr(update, "__name__", "")}
    if not lacks or "keyword-only" not in missing or called.rpartition(".")[2] not in own:
        return set()
    return set(re.findall(r"'(\w+)'", missing))


def checked_transformation(rule: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Return the optax transformation of an update rule; check that of a rule that is a user's own.

    Whenever such a transformation makes its state, its `update` is traced for the same canvas, which
    computes nothing. So a mistake in it is found when the memory of a run is estimated, before any
    picture is measured.

    Args:
      rule: an update rule. The transformations of this module's rules are returned as they are.

    Raises:
      TypeError: if the rule makes no transformation. The state is not made, for the same reason, if
        `update` needs other arguments than those that `Optimizer.transformation` names, or does not
        return a pair of updates as the canvas and a state as the one before; or if `accepted` does not
        return one boolean.
    """
    made = rule.transformation()
    if type(rule) in OPTIMIZERS.values():
        return made
    name = type(rule).__name__
    if not _is_transformation(made):
        raise TypeError(
            f"`optimizer`: `{name}.transformation` returned {_checks.in_words(made)}, expected an "
            "optax transformation, such as `optax.sgd(0.1)`"
        )
    made = _with_any_arguments(made)

    def init(params: PyTree) -> Any:
        state = made.init(params)
        loss = jax.ShapeDtypeStruct((), jax.tree.leaves(params)[0].dtype)
        jax.eval_shape(update_once, params, state, loss)
        return state

    def update_once(params: PyTree, state: Any, loss: Array) -> None:
        try:
            found = made.update(params, state, params, value=loss)
        except TypeError as error:
            missing = _missing_arguments(error, made.update)
            if not missing or "value" in missing:  # `value` was given, so another call lacks it
                raise
            if missing <= _OF_SOME_RUNS:
                return  # it is not known here which run this is
            needed = " and ".join(map(repr, sorted(missing - _OF_SOME_RUNS)))
            raise TypeError(
                f"`optimizer`: the update of {name} needs {needed}, but is given only the "
                "gradient and `value`, the loss; a rule that evaluates the loss itself cannot be used, "
                "and `nst_jax.optimizers.LBFGS()` is an L-BFGS that does not"
            ) from error
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                f"`optimizer`: the update of {name} returned {_checks.in_words(found)}, expected a "
                "pair of the updates of the canvas and the next state"
            )
        for what, tree, like in (("updates", found[0], params), ("a state", found[1], state)):
            if _shapes(tree) != _shapes(like):
                raise TypeError(
                    f"`optimizer`: the update of {name} returned {what} of the shape {_shapes(tree)}, "
                    f"expected {_shapes(like)}"
                )
        accepted = rule.accepted(found[1])
        if accepted is None or np.shape(accepted):
            raise TypeError(
                f"`optimizer`: `{name}.accepted` returned {_checks.in_words(accepted)}, expected one "
                "boolean, such as `jnp.asarray(True)`"
            )

    return optax.GradientTransformationExtraArgs(init, made.update)


def _shapes(tree: PyTree) -> str:
    """Return the shapes of all arrays of a pytree as text."""
    return str(jax.tree.map(lambda leaf: list(np.shape(leaf)), tree))
