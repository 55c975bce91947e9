"""Two L-BFGS rules: `TorchLBFGS` reproduces torch's; `LBFGS` is guarded, that is, it undoes bad moves.

Like the update rules in `optimizers.rules`, each is a registered dataclass whose numbers are leaves.
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

PRECISION = jax.lax.Precision.HIGHEST


# --- The memory of pairs ---------------------------------------------------------------------------


class Memory(NamedTuple):
    """The last pairs (s, y) of moves s and gradient changes y, in ring buffers.

    References:
      Nocedal, Wright, "Numerical Optimization", 2nd edition, 2006, section 7.2.
    """

    moves: PyTree  # s of each pair: leaves [history, ...]
    changes: PyTree  # y of each pair: leaves [history, ...]
    inverse: Float[Array, " history"]  # 1 / (y . s) of each pair
    kept: Int[Array, ""]  # number of pairs so far; the ring buffers have the last `history` pairs
    scale: Float[Array, ""]  # (y . s) / (y . P y) of the newest pair; for P see `Guess`


# P, a linear map: `Memory.scale` times P is the initial guess of the inverse Hessian, which the pairs
# correct.
Guess: TypeAlias = Callable[[PyTree], PyTree]


def _identity(a: PyTree) -> PyTree:
    """Apply the plain guess P = 1, which takes the loss as equally curved in all directions."""
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
    """Return `plain`; if it is not finite or is 0, `scaled`, the same quantity from scaled arrays.

    In float32 the square of a number above 1.8e19 is infinite and the square of a number below 1e-23 is
    0; very large and very small loss weights give gradients of these sizes. `scaled` is used only then,
    so that all other runs give the same bits as without it.
    """
    return jnp.where(jnp.isfinite(plain) & (plain != 0), plain, scaled)


def _scaled(a: PyTree) -> tuple[PyTree, Float[Array, ""]]:
    """Return arrays divided by their largest absolute value, and this value (1 if all are 0)."""
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
    """Add a pair to the memory if `keep`, in one slot of each buffer; `Memory.scale` stays as it is."""
    slot = memory.kept % memory.inverse.shape[0]
    # A rejected pair must not cause a division by zero.
    curvature = jnp.where(keep, _dot(change, move), 1)

    def put(ring: Array, new: Array) -> Array:
        return ring.at[slot].set(jnp.where(keep, new, ring[slot]))

    return Memory(
        moves=jax.tree.map(put, memory.moves, move),
        changes=jax.tree.map(put, memory.changes, change),
        inverse=put(memory.inverse, 1 / curvature),
        kept=memory.kept + keep,
        scale=memory.scale,
    )


def _newton_direction(
    memory: Memory,
    gradient: PyTree,
    change: PyTree,
    fresh: Bool[Array, ""],
    guess: Guess = _identity,
) -> tuple[PyTree, Memory]:
    """Return -H g by the two-loop recursion over the pairs, and the memory with a new scale.

    Args:
      memory: the memory from `_remember`.
      gradient: g.
      change: y of the pair that was given to `_remember`.
      fresh: whether `_remember` kept that pair, so that the pair determines the scale.
      guess: P, the initial guess of the inverse Hessian H up to the scale.
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
    # One `vmap` applies the guess to both q and y, so that the guess, which over a pyramid is a long
    # program, is compiled once. y comes as the argument `change`: to read it from the ring buffer, XLA
    # would copy the whole buffer.
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
    """`torch.optim.LBFGS` without line search, reproduced evaluation by evaluation and unguarded.

    The first move is `-min(1, 1 / |g|_1) * learning_rate` times the gradient g, later ones are
    `learning_rate` times the quasi-Newton direction. A pair of a move s and a gradient change y is kept
    if y . s > 1e-10. torch groups `max_iter` inner iterations into one call of `step` and keeps its
    state between calls; one update here is one inner iteration and costs one evaluation. If torch ends
    a call early (at a change below `tolerance_change`), its next call only evaluates the same canvas
    again, which is not reproduced. torch's stalls are reproduced: the canvas does not change if the
    gradient is at most `tolerance_grad` everywhere, or if the slope along the direction is above
    `-tolerance_change`.

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
    """State of the transformation that `torch_lbfgs` makes."""

    # Number of updates so far at gradients above `tolerance_grad`; n_iter in torch.
    count: Int[Array, ""]  # type: ignore[assignment]
    memory: Memory
    move: PyTree  # the last proposed move, t * d in torch
    gradient: PyTree  # the last gradient that exceeded `tolerance_grad` somewhere


def torch_lbfgs(
    learning_rate: ScalarLike = 1.0,
    history: int = 100,
    tolerance_grad: ScalarLike = 1e-7,
    tolerance_change: ScalarLike = 1e-9,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation that `TorchLBFGS` describes."""

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
            count=state.count + ~stalled,
            memory=memory,
            move=_choose(stalled, state.move, move),
            gradient=_choose(stalled, state.gradient, updates),
        )
        return _choose(descends & ~stalled, move, zeros), new

    return optax.GradientTransformationExtraArgs(init, update)


# --- Our L-BFGS -----------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """L-BFGS with one evaluation per update, a trust radius and roll-back; no line search.

    A move is the quasi-Newton direction, shortened if its root mean square exceeds the radius. The
    canvas after a move is kept if its loss and gradient are finite and its loss is at most `1 + slack`
    times the loss of the canvas kept before; then the radius doubles, up to `largest_radius`. Otherwise
    the canvas is rolled back to the one kept before, and the next move is at most a quarter as long. So
    a bad move costs one evaluation, the loss of the kept canvas rises by at most the fraction `slack`
    in one update, and nothing diverges. Style transfer needs this in its first moves, where unguarded
    L-BFGS overshoots. Roll-back subtracts the last move, so recipes that clip the canvas after every
    update cannot use this rule.

    Attributes:
      radius: root mean square of the first move over the canvas, in the units of the canvas.
      largest_radius: upper limit of the radius.
      slack: relative rise of the loss that is still accepted.
      levels: number of halvings in the pyramid over which the initial guess of the inverse Hessian is
        summed; see `nst_jax.optimizers.pyramid.multilevel`. L-BFGS then works on the levels of a
        pyramid instead of on pixels, which changes coarse structure sooner. With 0, the initial guess
        is a multiple of the identity. Static.
      gain: weight of a level of the pyramid relative to the next finer one.
      history: number of pairs in memory; each takes 24 bytes per pixel in float32. Static.

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
    """State of the transformation that `lbfgs` makes.

    The kept canvas is the last proposed canvas minus `move`.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # number of evaluations so far
    memory: Memory
    move: PyTree  # from the kept canvas to the proposed one
    gradient: PyTree  # of the loss, at the kept canvas
    value: Float[Array, ""]  # loss of the kept canvas
    radius: Float[Array, ""]  # upper limit of the last move's root mean square
    accepted: Bool[Array, ""]  # whether the canvas evaluated last was kept


def lbfgs(
    radius: ScalarLike = 0.02,
    largest_radius: ScalarLike = 0.2,
    slack: ScalarLike = 0.0,
    history: int = 10,
    levels: int = 0,
    gain: ScalarLike = 0.25,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation that `LBFGS` describes.

    `update` needs `value`, the loss of the canvas. If the canvas is padded with rows of zeros at the
    bottom, `update` also needs `height`, the number of rows without padding; if it lies at the top left
    of a larger array, `size`, its real (height, width), outside which gradients are zero.
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
        # Without pairs, the direction's length is arbitrary, so the move gets the allowed length.
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
    """Return the guess P over the levels of a pyramid of the picture without its padding."""

    def of_picture(picture: Array) -> Array:
        if size is not None:
            return multilevel(picture, levels, gain, size)
        real = picture[:height]
        spread = multilevel(real, levels, gain)
        return jnp.pad(spread, ((0, picture.shape[0] - real.shape[0]), (0, 0), (0, 0)))

    return partial(jax.tree.map, of_picture) if levels else _identity


def _convex(move: PyTree, change: PyTree) -> Bool[Array, ""]:
    """Return whether the loss curves upwards along a move, by more than rounding errors."""
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
    """Return the root mean square over the first `height` rows; rows below are padding with zeros.

    With `size`, it is that over a picture of this real size, around which there are zeros.
    """
    count: Any = sum(leaf[:height].size for leaf in jax.tree.leaves(a))
    if size is not None:
        (canvas,) = jax.tree.leaves(a)
        rows, columns = as_counts(size, canvas.dtype)
        count = rows * columns * canvas.shape[-1]
    small, size = _scaled(a)
    return _if_in_range(jnp.sqrt(_dot(a, a) / count), jnp.sqrt(_dot(small, small) / count) * size)
