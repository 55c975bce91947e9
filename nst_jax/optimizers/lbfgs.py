"""L-BFGS in two manners: torch's, evaluation for evaluation, and ours, guarded. Pure.

As in `optimizers`, whose rules these are too: each is a registered dataclass whose numbers are leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree, ScalarLike

PRECISION = jax.lax.Precision.HIGHEST


# --- The memory of pairs ---------------------------------------------------------------------------


class Memory(NamedTuple):
    """The last pairs (s, y) of moves and gradient changes, in a ring.

    References:
      Nocedal, Wright, "Numerical Optimization", 2nd edition, 2006, section 7.2.
    """

    moves: PyTree  # [history, ...] each leaf
    changes: PyTree  # [history, ...]
    inverse: Float[Array, " history"]  # 1 / (y . s)
    kept: Int[Array, ""]  # pairs kept so far; the last `history` of them are here
    scale: Float[Array, ""]  # y . s / y . P y of the newest pair: P times it is the first guess


# What the inverse Hessian is taken for before a pair tells more, but for its scale. Linear; P below.
Guess: TypeAlias = Callable[[PyTree], PyTree]


def _alike(a: PyTree) -> PyTree:
    """Guess that all directions are curved alike."""
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


def _largest(a: PyTree) -> Float[Array, ""]:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(a)]))


def _add_scaled(a: PyTree, factor: Float[Array, ""], b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def _choose(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), yes, no)


def _remember(memory: Memory, move: PyTree, change: PyTree, keep: Bool[Array, ""]) -> Memory:
    """Add a pair if `keep`, but for its scale. Only its own slot of the ring is written."""
    slot = memory.kept % memory.inverse.shape[0]
    # The unused branch must not divide by nothing.
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
    guess: Guess = _alike,
) -> tuple[PyTree, Memory]:
    """Return -H g by the two-loop recursion over the pairs in memory, and the memory with its scale.

    Args:
      memory: from `_remember`.
      gradient: g.
      change: y of the pair that `_remember` was given.
      fresh: whether it was kept, so that the scale is its.
      guess: P.
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
    # One program for both, which is long where the guess has levels. The change is not read from the
    # ring: XLA would write the ring's slot once more for that, and keep a copy of all of it.
    both = jax.vmap(guess)(jax.tree.map(lambda *parts: jnp.stack(parts), q, change))
    guessed, spread = (jax.tree.map(lambda x, i=i: x[i], both) for i in range(2))
    inverse = memory.inverse[(memory.kept - 1) % history]
    scale = 1 / jnp.where(fresh, inverse * _dot(change, spread), 1)
    scale = jnp.where(fresh, scale, memory.scale)
    scaled = jax.tree.map(lambda x: scale * x, guessed)
    direction = jax.lax.fori_loop(0, pairs, oldest_first, scaled)
    return direction, memory._replace(scale=scale)


# --- torch's L-BFGS -------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TorchLBFGS:
    """`torch.optim.LBFGS` without line search, evaluation for evaluation and unguarded.

    The first move is `min(1, 1 / |g|_1) * learning_rate` times the gradient, later ones
    `learning_rate` times the quasi-Newton direction; a pair is kept if y . s > 1e-10. torch groups
    updates in outer steps of `max_iter`, whose state persists, so one update here is one of its
    inner iterations and costs one evaluation. Its early endings of an outer step (a change below
    `tolerance_change`) only repeat an evaluation and are not reproduced; its stalls are: a gradient
    below `tolerance_grad` everywhere, or a direction that does not descend, leaves the canvas.

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
    """State of `torch_lbfgs`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # torch's n_iter
    memory: Memory
    move: PyTree  # the last proposed move, t * d
    gradient: PyTree


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

    A move is the quasi-Newton direction, shortened to root mean square `radius` if it is longer. A
    measured canvas whose loss is at most `1 + slack` times the kept one's, and whose loss and
    gradient are finite, is kept, and
    the radius grows; otherwise the next canvas starts again from the kept one with a quarter of the
    move. So a bad move costs one evaluation, the kept loss hardly ever rises, and nothing diverges.
    A style objective needs the guard in its first moves, where unguarded L-BFGS overshoots. The
    canvas must move as told: recipes that clip it after every update cannot use this rule.

    Attributes:
      radius: largest move at the start, root mean square over the canvas, in its coordinates.
      largest_radius: what the radius may grow to.
      slack: relative rise of the loss that is still accepted.
      levels: halvings of the canvas over which the first guess of the inverse Hessian is summed; see
        `nst_jax.optimizers.lbfgs.multilevel`. That is L-BFGS over the levels of a pyramid instead of pixels:
        what is coarse comes sooner. 0 is the plain guess. Static.
      gain: how much a level counts against the next finer one.
      history: pairs remembered; 24 bytes per pixel and pair in float32. Static.

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
    """State of `lbfgs`. The kept canvas is the last proposed one minus `move`, unless accepted."""

    count: Int[Array, ""]  # type: ignore[assignment]
    memory: Memory
    move: PyTree  # from the kept canvas to the proposed one
    gradient: PyTree  # at the kept canvas
    value: Float[Array, ""]  # at the kept canvas
    radius: Float[Array, ""]
    accepted: Bool[Array, ""]


def lbfgs(
    radius: ScalarLike = 0.02,
    largest_radius: ScalarLike = 0.2,
    slack: ScalarLike = 0.0,
    history: int = 10,
    levels: int = 0,
    gain: ScalarLike = 0.25,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation that `LBFGS` describes.

    `update` needs `value`; where rows of zeros lie below the canvas it needs the `height` without.
    """

    def guess_of(height: int | None) -> Guess:
        def of_picture(picture: Array) -> Array:
            real = picture[:height]
            spread = multilevel(real, levels, gain)
            return jnp.pad(spread, ((0, len(picture) - len(real)), (0, 0), (0, 0)))

        return partial(jax.tree.map, of_picture) if levels else _alike

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
        **extra: Any,
    ) -> tuple[PyTree, LBFGSState]:
        del params, extra
        first, guess = state.count == 0, guess_of(height)
        finite = jnp.isfinite(value) & _all_finite(updates)
        accepted = finite & (value <= state.value * (1 + slack))
        change = jax.tree.map(jnp.subtract, updates, state.gradient)
        keep = accepted & ~first & _convex(state.move, change)
        memory = _remember(state.memory, state.move, change, keep)
        gradient = _choose(accepted, updates, state.gradient)
        grown = jnp.minimum(2 * state.radius, largest_radius)
        allowed = jnp.where(accepted, grown, _root_mean_square(state.move, height) / 4)
        allowed = jnp.where(first, radius, allowed).astype(state.radius.dtype)
        direction, memory = _newton_direction(memory, gradient, change, keep, guess)
        length = _root_mean_square(direction, height)
        # Without pairs the direction is the raw gradient, whose length means nothing.
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


def _convex(move: PyTree, change: PyTree) -> Bool[Array, ""]:
    """Say whether a pair shows the loss curved upwards, and not by rounding alone."""
    lengths = jnp.sqrt(_dot(change, change) * _dot(move, move))
    return _dot(change, move) > 1e-6 * lengths


def _all_finite(a: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(a)]))


def _root_mean_square(a: PyTree, height: int | None) -> Float[Array, ""]:
    """Return the root of the mean square, without padding, whose rows are zero."""
    count = sum(leaf[:height].size for leaf in jax.tree.leaves(a))
    return jnp.sqrt(_dot(a, a) / count)


# --- Levels of a pyramid --------------------------------------------------------------------------

# How much a coarse line takes of the four finer ones it stands among; the other way round it is linear
# interpolation.
OUTER, INNER = 0.25, 0.75

NARROWEST = 4  # px a side that a level still halves


def multilevel(
    picture: Float[Array, "h w c"], levels: int, gain: ScalarLike = 0.25
) -> Float[Array, "h w c"]:
    """Return A Aᵀ of a picture, where A makes a picture of the levels of a pyramid.

    A picture that is the sum of a full one, one of half the size enlarged, one of a quarter and so
    on, has many such descriptions; going down the gradient in them is going down A Aᵀ of the
    gradient in pixels. It is symmetric and positive definite, and takes time like one canvas.

    Args:
      picture: [h, w, c].
      levels: halvings; they end where a side is shorter than `NARROWEST`. 0 returns the picture.
      gain: of a level against the next finer one. A level's own gain is 4 at 1: that is how many
        pixels one of its own stands for.

    Returns:
      [h, w, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.optimizers.lbfgs import multilevel
      >>> dot = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
      >>> spread = multilevel(dot, levels=2)
      >>> bool((spread >= 0).all()), bool(spread[4, 4] > 1), float(spread[0, 0, 0]) > 0
      (True, True, True)

    References:
      Bramble, Pasciak, Xu, "Parallel Multilevel Preconditioners", 1990.
    """
    if not levels or min(picture.shape[:2]) < NARROWEST:
        return picture
    height, width = picture.shape[:2]
    coarse = multilevel(_halved(_halved(picture, 0), 1), levels - 1, gain)
    enlarged = _doubled(_doubled(coarse, 1, width), 0, height)
    return picture + jnp.asarray(gain, picture.dtype) * enlarged


def _halved(x: Array, axis: int) -> Array:
    """Sum lines into half as many."""
    lines = -(-x.shape[axis] // 2)
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 2 * lines + 1 - x.shape[axis])
    wide = jnp.pad(x, edges)
    take = partial(jax.lax.slice_in_dim, wide, stride=2, axis=axis)
    parts = [take(start, start + 2 * lines - 1) for start in range(4)]
    outer, inner = parts[0] + parts[3], parts[1] + parts[2]
    return OUTER * outer + INNER * inner


def _doubled(x: Array, axis: int, lines: int) -> Array:
    """Interpolate between lines: the transpose of `_halved`, which compiles in half of the time."""
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 1)
    take = partial(jax.lax.slice_in_dim, jnp.pad(x, edges), axis=axis)
    count = x.shape[axis]
    first, second = (INNER * x + OUTER * take(start, start + count) for start in (0, 2))
    both = jnp.stack([first, second], axis=axis + 1)
    doubled = both.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return jax.lax.slice_in_dim(doubled, 0, lines, axis=axis)
