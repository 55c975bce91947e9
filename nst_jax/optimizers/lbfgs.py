"""Two update rules of L-BFGS, a quasi-Newton method that learns the curvature from past gradients.

`TorchLBFGS` reproduces `torch.optim.LBFGS`. `LBFGS` is this project's own, and is guarded: it undoes a
move that raises the loss too much. Like the update rules in `optimizers.rules`, each is a dataclass
that is registered as a pytree, so that changing one of its numbers recompiles nothing, unless it is
marked as static. The canvas is the picture that is optimised; its pixels are the parameters that these
rules update.

Letters in this module: g is the gradient, s the move of the parameters from one evaluation to the next,
y the change of the gradient along this move, and H the approximation of the inverse Hessian.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree, ScalarLike

from nst_jax._real_size import as_counts
from nst_jax._types import RealSize
from nst_jax.optimizers.pyramid import multilevel

PRECISION = jax.lax.Precision.HIGHEST  # dot products use all bits of float32, on every device


# --- The memory of pairs ---------------------------------------------------------------------------


class Memory(NamedTuple):
    """The pairs (s, y) of the last moves s and the changes y of the gradient along these moves.

    The pairs are in ring buffers with room for `history` pairs: a new pair overwrites the oldest one.

    References:
      Nocedal, Wright, "Numerical Optimization", 2nd edition, 2006, section 7.2.
    """

    moves: PyTree  # s of each pair, stacked: leaves [history, ...]
    changes: PyTree  # y of each pair, stacked: leaves [history, ...]
    inverse: Float[Array, " history"]  # 1 / (y . s) of each pair
    # Number of pairs that were ever stored; of these, the buffers still have the last `history` ones.
    kept: Int[Array, ""]
    # (y . s) / (y . P y) of the newest pair, where P is the matrix of `Guess`, below. This number times
    # P is the approximation of the inverse Hessian that the pairs then correct.
    scale: Float[Array, ""]


# A function that multiplies a pytree, shaped like the parameters, by a symmetric matrix P. L-BFGS
# starts from `Memory.scale` times P as its approximation of the inverse Hessian, and corrects this
# approximation by the pairs (s, y) in its memory.
Guess: TypeAlias = Callable[[PyTree], PyTree]


def _identity(a: PyTree) -> PyTree:
    """Return a pytree unchanged: the `Guess` whose matrix P is the identity."""
    return a


def _empty_memory(params: PyTree, history: int) -> Memory:
    ring = jax.tree.map(lambda p: jnp.zeros((history, *p.shape), p.dtype), params)
    dtype = jax.tree.leaves(params)[0].dtype
    return Memory(
        ring, ring, jnp.zeros(history, dtype), jnp.zeros([], jnp.int32), jnp.ones([], dtype)
    )


def _dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    products = jax.tree.map(lambda x, y: jnp.vdot(x, y, precision=PRECISION), a, b)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))


def _if_in_range(plain: Float[Array, ""], scaled: Float[Array, ""]) -> Float[Array, ""]:
    """Return `plain`, or `scaled` if `plain` has overflowed or underflowed to 0.

    Both are the same quantity, but `scaled` was computed from arrays that `_scaled` had divided by
    their largest absolute value. In float32 the square of a number above 1.8e19 is infinite, and the
    square of a number below 1e-23 is 0. Very large or very small loss weights give gradients of these
    sizes.
    """
    return jnp.where(jnp.isfinite(plain) & (plain != 0), plain, scaled)


def _scaled(a: PyTree) -> tuple[PyTree, Float[Array, ""]]:
    """Return the arrays of a pytree divided by their largest absolute value, and this value.

    If all entries are 0, the arrays are returned as they are, and 1 in place of that value.
    """
    largest = _largest(a)
    largest = jnp.where(largest > 0, largest, 1)
    return jax.tree.map(lambda x: x / largest, a), largest


def _largest(a: PyTree) -> Float[Array, ""]:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(a)]))


def _add_scaled(a: PyTree, factor: Float[Array, ""], b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def _choose(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), yes, no)


def _remember(memory: Memory, move: PyTree, change: PyTree, keep: Bool[Array, ""]) -> Memory:
    """Return the memory, with the pair (`move`, `change`), which is (s, y), added if `keep` is True.

    The memory's field `scale` is not updated here; `_newton_direction` does that.
    """
    slot = memory.kept % memory.inverse.shape[0]
    # If the pair is not kept, the inner product of `change` and `move` may be 0. It is then replaced by
    # 1, so that there is no division by zero.
    curvature = jnp.where(keep, _dot(change, move), 1)

    def put(ring: Array, new: Array) -> Array:
        return ring.at[slot].set(jnp.where(keep, new, ring[slot]))

    return Memory(
        moves=jax.tree.map(put, memory.moves, move),
        changes=jax.tree.map(put, memory.changes, change),
        inverse=put(memory.inverse, 1 / curvature),
        kept=memory.kept + keep.astype(memory.kept.dtype),
        scale=memory.scale,
    )


def _newton_direction(
    memory: Memory,
    gradient: PyTree,
    change: PyTree,
    fresh: Bool[Array, ""],
    guess: Guess = _identity,
) -> tuple[PyTree, Memory]:
    """Return the quasi-Newton direction -H g, and the memory with its field `scale` updated.

    H is the approximation of the inverse Hessian. The direction is computed by the two-loop recursion
    over the pairs (s, y) in the memory: from the newest pair to the oldest one and back (Nocedal and
    Wright, algorithm 7.4).

    Args:
      memory: the memory that `_remember` returned.
      gradient: the gradient g.
      change: y, the change of the gradient that was given to `_remember`.
      fresh: whether `_remember` added a pair. If so, `scale` is computed from this pair; if not,
        `scale` stays as it is.
      guess: multiplies a pytree by the matrix P. The updated `scale` times P is the first approximation
        of the inverse Hessian, from which the recursion makes H.
    """
    history = memory.inverse.shape[0]
    pairs = jnp.minimum(memory.kept, history)

    def pair(age: Int[Array, ""]) -> tuple[PyTree, PyTree, Float[Array, ""], Int[Array, ""]]:
        slot = (memory.kept - 1 - age) % history
        at = lambda ring: ring[slot]  # noqa: E731
        return (
            jax.tree.map(at, memory.moves),
            jax.tree.map(at, memory.changes),
            memory.inverse[slot],
            slot,
        )

    def newest_first(age: Int[Array, ""], carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        q, alphas = carry
        move, change, inverse, slot = pair(age)
        alpha = inverse * _dot(move, q)
        return _add_scaled(q, -alpha, change), alphas.at[slot].set(alpha)

    def oldest_first(index: Int[Array, ""], r: PyTree) -> PyTree:
        move, change, inverse, slot = pair(pairs - 1 - index)
        beta = inverse * _dot(change, r)
        return _add_scaled(r, alphas[slot] - beta, move)

    negative = jax.tree.map(jnp.negative, gradient)
    q, alphas = jax.lax.fori_loop(
        0, pairs, newest_first, (negative, jnp.zeros_like(memory.inverse))
    )
    # `guess` is applied to q and y together, by one `vmap`. So it is compiled only once. This saves
    # time if `guess` applies `multilevel`, which makes an image pyramid and so a long program. y is
    # also in the ring buffer, but XLA would copy the whole buffer to read it there. So y is passed in
    # as `change`.
    both = jax.vmap(guess)(jax.tree.map(lambda *parts: jnp.stack(parts), q, change))
    guessed, spread = (jax.tree.map(lambda x, i=i: x[i], both) for i in range(2))
    inverse = memory.inverse[(memory.kept - 1) % history]
    (small, size), (small_spread, spread_size) = _scaled(change), _scaled(spread)
    curvature = _if_in_range(
        inverse * _dot(change, spread),
        inverse * size * _dot(small, small_spread) * spread_size,
    )
    scale = 1 / jnp.where(fresh, curvature, 1)
    scale = jnp.where(fresh, scale, memory.scale)
    scaled = jax.tree.map(lambda x: scale * x, guessed)
    direction = jax.lax.fori_loop(0, pairs, oldest_first, scaled)
    return direction, memory._replace(scale=scale)


# --- torch's L-BFGS -------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TorchLBFGS:
    """`torch.optim.LBFGS` without line search, reproduced move by move.

    The first move is `-min(1, 1 / |g|_1) * learning_rate` times the gradient g. Every later move is
    `learning_rate` times the quasi-Newton direction. The pair of a move s and the change y of the
    gradient along it is stored if y . s > 1e-10.

    torch makes `max_iter` inner iterations in one call of `step`, and keeps its state between calls.
    One update here is one inner iteration, and evaluates the loss once. If torch ends a call early
    because the canvas or the loss changed by less than `tolerance_change`, its next call begins by
    evaluating the same canvas again; this repeated evaluation is not reproduced. As in torch, the
    optimisation may stall: the canvas does not change if no entry of the gradient exceeds
    `tolerance_grad` in absolute value, or if the slope of the loss along the direction is above
    `-tolerance_change`.

    The rule is not guarded: it keeps every canvas, whatever the loss.

    Attributes:
      learning_rate: factor of every move.
      tolerance_grad: the canvas stays as it is if no entry of the gradient exceeds this number in
        absolute value.
      tolerance_change: the canvas stays as it is if the inner product of the gradient and the direction
        is above minus this number.
      history: number of pairs in memory; a pair is a move and the change of the gradient along it, and
        takes 24 bytes per pixel in float32. Static.

    References:
      `torch/optim/lbfgs.py` of PyTorch 2.13.
    """

    learning_rate: float = 1.0
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    history: int = field(default=100, metadata={"static": True})
    guarded: ClassVar[bool] = False

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return torch_lbfgs(
            self.learning_rate, self.history, self.tolerance_grad, self.tolerance_change
        )

    def accepted(self, opt_state: Any) -> Bool[Array, ""]:
        del opt_state
        return jnp.asarray(True)


class TorchLBFGSState(NamedTuple):
    """The state of the optax transformation that `torch_lbfgs` makes."""

    # Number of updates so far whose gradient had an entry above `tolerance_grad` in absolute value. All
    # other updates change nothing. Torch calls this number n_iter.
    count: Int[Array, ""]  # type: ignore[assignment]
    memory: Memory  # the last pairs of moves and changes of the gradient
    # The last move that was computed; torch calls it t * d. A move is not made if the slope of the loss
    # along its direction is above `-tolerance_change`, but it is stored even then.
    move: PyTree
    # The last gradient that had an entry above `tolerance_grad` in absolute value. The next update
    # subtracts it from its own gradient, to get the change of the gradient.
    gradient: PyTree


def torch_lbfgs(
    learning_rate: ScalarLike = 1.0,
    history: int = 100,
    tolerance_grad: ScalarLike = 1e-7,
    tolerance_change: ScalarLike = 1e-9,
) -> optax.GradientTransformationExtraArgs:
    """Make the optax transformation of `TorchLBFGS`, which describes the method and the arguments."""

    def init(params: PyTree) -> TorchLBFGSState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return TorchLBFGSState(
            jnp.zeros([], jnp.int32), _empty_memory(params, history), zeros, zeros
        )

    def update(
        updates: PyTree, state: TorchLBFGSState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, TorchLBFGSState]:
        del params, extra
        stalled = _largest(updates) <= tolerance_grad
        first = state.count == 0
        change = jax.tree.map(jnp.subtract, updates, state.gradient)
        keep = ~first & ~stalled & (_dot(change, state.move) > 1e-10)
        memory = _remember(state.memory, state.move, change, keep)
        direction, memory = _newton_direction(memory, updates, change, keep)
        norm = jnp.sum(jnp.stack([jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(updates)]))
        size = jnp.where(first, jnp.minimum(1.0, 1.0 / norm), 1.0) * learning_rate
        size = size.astype(norm.dtype)
        move = jax.tree.map(lambda d: size * d, direction)
        descends = _dot(updates, direction) <= jnp.negative(tolerance_change)
        zeros = jax.tree.map(jnp.zeros_like, move)
        new = TorchLBFGSState(
            count=state.count + (~stalled).astype(state.count.dtype),
            memory=memory,
            move=_choose(stalled, state.move, move),
            gradient=_choose(stalled, state.gradient, updates),
        )
        return _choose(descends & ~stalled, move, zeros), new

    return optax.GradientTransformationExtraArgs(init, update)


# --- This project's L-BFGS ------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """L-BFGS that limits the length of its moves and undoes bad ones, without a line search.

    A move is the quasi-Newton direction, shortened if its root mean square exceeds a limit, the trust
    radius. As long as the memory has no pair (a move and the change of the gradient along it), the root
    mean square of a move is exactly this limit. Each update evaluates the loss once, for the canvas
    after the last move. This canvas is kept if its loss and gradient are finite and its loss is at most
    `1 + slack` times the loss of the last kept canvas. If the canvas is kept and is not the first one,
    the radius doubles, up to `largest_radius`. If it is not kept, the move is undone, which brings back
    the last kept canvas, and the next move is at most a quarter as long. So a bad move costs one
    evaluation, the loss of the kept canvas rises by at most the fraction `slack` in one update, and
    nothing diverges. Style transfer needs this in its first moves, where L-BFGS without such a guard
    overshoots. A move is undone by subtracting it, so recipes that clip the canvas after every update
    cannot use this rule.

    Attributes:
      radius: root mean square of the first move over all numbers of the canvas, in the units of the
        canvas.
      largest_radius: upper limit of the trust radius.
      slack: relative rise of the loss with which a canvas is still kept; 0 allows no rise.
      gain: weight of a level of the image pyramid (see `levels`) relative to the next finer level; only
        used if `levels` is not 0.
      levels: number of halvings in the image pyramid from which the first approximation of the inverse
        Hessian is made; see `nst_jax.optimizers.pyramid.multilevel`. L-BFGS then works as if on the
        levels of this pyramid instead of on pixels, and so changes coarse structure sooner. With 0, the
        first approximation is a multiple of the identity. Static.
      history: largest number of pairs in memory. A pair takes 24 bytes per pixel in float32. Static.

    References:
      Nocedal, Wright, "Numerical Optimization", 2nd edition, 2006, chapters 4 and 7.
    """

    radius: float = 0.02
    largest_radius: float = 0.2
    slack: float = 0.0
    gain: float = 0.25
    levels: int = field(default=0, metadata={"static": True})
    history: int = field(default=10, metadata={"static": True})
    guarded: ClassVar[bool] = True

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        return lbfgs(
            self.radius, self.largest_radius, self.slack, self.history, self.levels, self.gain
        )

    def accepted(self, opt_state: "LBFGSState") -> Bool[Array, ""]:
        return opt_state.accepted


class LBFGSState(NamedTuple):
    """The state of the optax transformation that `lbfgs` makes.

    Each update evaluates one canvas and accepts or rejects it, as `LBFGS` describes. The kept canvas is
    the last one that was accepted. The next update evaluates the proposed canvas: the kept canvas plus
    `move`.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # number of evaluations so far
    memory: Memory  # the last pairs of moves and changes of the gradient
    move: PyTree  # the move from the kept canvas to the proposed canvas
    gradient: PyTree  # gradient of the loss at the kept canvas
    value: Float[Array, ""]  # loss of the kept canvas; infinite before the first evaluation
    radius: Float[Array, ""]  # the trust radius: upper limit of the root mean square of `move`
    accepted: Bool[Array, ""]  # whether the canvas that was evaluated last was accepted


def lbfgs(
    radius: ScalarLike = 0.02,
    largest_radius: ScalarLike = 0.2,
    slack: ScalarLike = 0.0,
    history: int = 10,
    levels: int = 0,
    gain: ScalarLike = 0.25,
) -> optax.GradientTransformationExtraArgs:
    """Make the optax transformation of `LBFGS`, which describes the method and the arguments.

    The function `update` of the transformation has further arguments by name. `value` is the loss of
    the canvas. `height` is needed if rows of zeros were added below the canvas, and is the number of
    rows without them. `size` is needed if the canvas lies at the top left of a larger array; it is the
    (height, width) of the canvas in this array, outside which all gradients must be zero.
    """

    def init(params: PyTree) -> LBFGSState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        dtype = jax.tree.leaves(params)[0].dtype
        return LBFGSState(
            count=jnp.zeros([], jnp.int32),
            memory=_empty_memory(params, history),
            move=zeros,
            gradient=zeros,
            value=jnp.asarray(jnp.inf, dtype),
            radius=jnp.asarray(radius, dtype),
            accepted=jnp.asarray(True),
        )

    def update(
        updates: PyTree,
        state: LBFGSState,
        params: PyTree = None,
        *,
        value: Float[Array, ""],
        height: int | None = None,
        size: RealSize | None = None,
        **extra: Any,
    ) -> tuple[PyTree, LBFGSState]:
        del params, extra
        first, guess = state.count == 0, _guess_of(levels, gain, height, size)
        finite = jnp.isfinite(value) & _all_finite(updates)
        accepted = finite & (value <= state.value * (1 + slack))
        change = jax.tree.map(jnp.subtract, updates, state.gradient)
        keep = accepted & ~first & _convex(state.move, change)
        memory = _remember(state.memory, state.move, change, keep)
        gradient = _choose(accepted, updates, state.gradient)
        grown = jnp.minimum(2 * state.radius, largest_radius)
        allowed = jnp.where(accepted, grown, _root_mean_square(state.move, height, size) / 4)
        allowed = jnp.where(first, radius, allowed).astype(state.radius.dtype)
        direction, memory = _newton_direction(memory, gradient, change, keep, guess)
        length = _root_mean_square(direction, height, size)
        # If the memory has no pairs yet, the direction is the negative gradient times P, the matrix by
        # which `guess` multiplies. The length of this direction says nothing about the right length of
        # a move. So the move then gets exactly the allowed length.
        long = (length > allowed) | (memory.kept == 0)
        factor = jnp.where(long, allowed / jnp.where(length > 0, length, 1), 1)
        move = jax.tree.map(lambda d: factor * d, direction)
        back = jax.tree.map(lambda m: jnp.where(accepted, 0, m), state.move)
        new = LBFGSState(
            count=state.count + 1,
            memory=memory,
            move=move,
            gradient=gradient,
            value=jnp.where(accepted, value, state.value),
            radius=allowed,
            accepted=accepted,
        )
        return jax.tree.map(jnp.subtract, move, back), new

    return optax.GradientTransformationExtraArgs(init, update)


def _guess_of(levels: int, gain: ScalarLike, height: int | None, size: RealSize | None) -> Guess:
    """Return a function that multiplies by a first approximation of the inverse Hessian.

    The function applies `multilevel`, which computes the product from an image pyramid with `levels`
    halvings, to each array of a pytree. `gain` is the weight of a level of the pyramid relative to the
    next finer level. If `levels` is 0, the function is the identity. `height` is the number of rows of
    the canvas, if rows of zeros may lie below them. `size` is the (height, width) of the canvas, if the
    canvas lies at the top left of a larger array.
    """

    def of_picture(picture: Array) -> Array:
        if size is not None:
            return multilevel(picture, levels, gain, size)
        real = picture[:height]
        spread = multilevel(real, levels, gain)
        return jnp.pad(spread, ((0, picture.shape[0] - real.shape[0]), (0, 0), (0, 0)))

    return partial(jax.tree.map, of_picture) if levels else _identity


def _convex(move: PyTree, change: PyTree) -> Bool[Array, ""]:
    """Return whether the loss has positive curvature along a move, by more than rounding errors.

    The curvature is positive if `change`, the change of the gradient along the move, has a positive
    inner product with the move. To exceed rounding errors, the cosine of their angle must be over 1e-6.
    """
    (small, size), (small_move, move_size) = _scaled(change), _scaled(move)
    lengths = _if_in_range(
        jnp.sqrt(_dot(change, change) * _dot(move, move)),
        jnp.sqrt(_dot(small, small) * _dot(small_move, small_move)) * size * move_size,
    )
    return _dot(change, move) > 1e-6 * lengths


def _all_finite(a: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(a)]))


def _root_mean_square(
    a: PyTree, height: int | None, size: RealSize | None = None
) -> Float[Array, ""]:
    """Return the root mean square of `a`, a move or a direction, which may be padded with zeros.

    The padding does not count: with `height`, all rows below the first `height` rows; with `size`,
    everything outside this (height, width) at the top left. If both are None, all of `a` counts.
    """
    count: Any = sum(leaf[:height].size for leaf in jax.tree.leaves(a))
    if size is not None:
        (canvas,) = jax.tree.leaves(a)
        rows, columns = as_counts(size, canvas.dtype)
        count = rows * columns * canvas.shape[-1]
    small, size = _scaled(a)
    return _if_in_range(jnp.sqrt(_dot(a, a) / count), jnp.sqrt(_dot(small, small) / count) * size)
