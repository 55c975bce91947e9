"""Update rules against torch, against their formulas, and the properties of the guarded L-BFGS."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import optimizers, recipes
from nst_jax.optimizers import LBFGS, Adam, DecayedSGD, KerasAdam, RMSprop, TorchLBFGS, lbfgs
from tests import small

LONGEST = 80  # steps
SCALES = np.geomspace(0.3, 1000, 200)


def valley(x):
    """A convex, ill-conditioned function with coupled neighbours and a quartic term."""
    return (
        jnp.sum(SCALES * (x - 1) ** 2) / 2
        + jnp.sum((x[1:] - x[:-1] ** 2) ** 2) / 4
        + jnp.sum((x - 0.5) ** 4) / 4
    )


slope = jax.jit(jax.grad(valley))  # eager operations would be compiled one by one


def torch_valley(torch, x):
    scales = torch.tensor(SCALES)
    return (
        (scales * (x - 1) ** 2).sum() / 2
        + ((x[1:] - x[:-1] ** 2) ** 2).sum() / 4
        + ((x - 0.5) ** 4).sum() / 4
    )


def trace(rule, start, steps, function=valley):
    """Run a rule; return where it measured, what it found, and what it kept.

    All runs are of one length and a rule's numbers are arguments, so that few programs are compiled.
    """
    found = _trace(rule, start, function, LONGEST if steps <= LONGEST else steps)
    return jax.tree.map(lambda x: x[:steps], found)


@partial(jax.jit, static_argnames=("function", "steps"))
def _trace(rule, start, function, steps):
    transformation = rule.transformation()

    def step(carry, _):
        x, state = carry
        value, gradient = jax.value_and_grad(function)(x)
        updates, state = transformation.update(gradient, state, x, value=value)
        return (optax.apply_updates(x, updates), state), (x, value, rule.accepted(state))

    return jax.lax.scan(step, (start, transformation.init(start)), length=steps)[1]


def torch_trace(torch, make, start, steps):
    """Run torch's rule; return every distinct place where it measured."""
    x = torch.tensor(np.asarray(start), requires_grad=True)
    optimizer, places = make([x]), []

    def closure():
        optimizer.zero_grad()
        value = torch_valley(torch, x)
        value.backward()
        # An outer step that ends early measures the same place again.
        if not places or not np.array_equal(places[-1], x.detach().numpy()):
            places.append(x.detach().numpy().copy())
        return value

    for _ in range(steps):
        optimizer.step(closure)
    return np.stack(places)


# --- Adam -----------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam_is_torchs(torch, x64, eps):
    start = small.noise(0, 200)
    rule = Adam(learning_rate=0.05, b1=0.8, b2=0.99, eps=eps)
    places, _, _ = trace(rule, start, 50)
    theirs = torch_trace(
        torch, lambda x: torch.optim.Adam(x, lr=0.05, betas=(0.8, 0.99), eps=eps), start, 50
    )
    assert_allclose(places, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_rmsprop_is_torchs(torch, x64, eps):
    start = small.noise(0, 200)
    places, _, _ = trace(RMSprop(learning_rate=1e-3, alpha=0.9, eps=eps), start, 50)
    theirs = torch_trace(
        torch, lambda x: torch.optim.RMSprop(x, lr=1e-3, alpha=0.9, eps=eps), start, 50
    )
    assert_allclose(places, theirs, rtol=1e-10, atol=1e-12)


def test_rmsprops_defaults_are_torchs_and_its_first_step_is_by_hand(x64):
    rule, start = RMSprop(), small.noise(1, 200)
    assert (rule.learning_rate, rule.alpha, rule.eps) == (0.01, 0.99, 1e-8)
    places, _, _ = trace(rule, start, 2)
    # v is (1 - alpha) g² after one gradient, so each step is lr / sqrt(1 - alpha) but for epsilon.
    assert_allclose(places[1], start - 0.1 * np.sign(slope(start)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rule", "hat"), [(KerasAdam, True), (Adam, False)])
def test_where_epsilon_stands_tells_the_adams_apart(rule, hat, x64):
    rate, b1, b2, eps = 0.02, 0.99, 0.999, 0.1
    start = small.noise(1, 200)
    places, _, _ = trace(rule(learning_rate=rate, b1=b1, b2=b2, eps=eps), start, 30)
    x, m, v = np.asarray(start), 0.0, 0.0
    for t in range(1, 31):
        assert_allclose(places[t - 1], x, rtol=1e-10, atol=1e-12)
        g = np.asarray(slope(jnp.asarray(x)))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        if hat:
            x = x - rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
        else:
            x = x - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def test_keras_adam_may_have_counted_before(x64):
    rate, b1, b2, start = 0.02, 0.9, 0.999, small.noise(1, 200)
    rule = KerasAdam(learning_rate=rate, b1=b1, b2=b2, eps=0.0, counted=2)
    places, _, _ = trace(rule, start, 2)
    gradient = np.asarray(slope(start))
    # Mean and square are of one gradient, the correction that of the third update.
    correction = np.sqrt(1 - b2**3) / (1 - b1**3) * (1 - b1) / np.sqrt(1 - b2)
    assert_allclose(places[1], start - rate * correction * np.sign(gradient), rtol=1e-10)


def test_sgd_decays_exponentially_and_continuously(x64):
    start, rate = small.noise(1, 200), 1e-3
    places, _, _ = trace(DecayedSGD(learning_rate=rate, decay=0.5, decay_steps=4.0), start, 6)
    x = np.asarray(start)
    for t in range(6):
        assert_allclose(places[t], x, rtol=1e-10, atol=1e-12)
        x = x - rate * 0.5 ** (t / 4) * np.asarray(slope(jnp.asarray(x)))


# --- torch's L-BFGS -------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    ("history", "rate"), [(100, 1.0), (5, 1.0), (100, 0.5)], ids=["all", "short", "half-steps"]
)
def test_torch_lbfgs_is_torchs_evaluation_for_evaluation(torch, x64, history, rate):
    start = small.noise(2, 200)
    ours, _, _ = trace(TorchLBFGS(history=history, learning_rate=rate), start, 60)
    theirs = torch_trace(
        torch, lambda x: torch.optim.LBFGS(x, lr=rate, history_size=history), start, 4
    )
    count = min(len(theirs), 60)
    assert count == 60 or np.abs(theirs[-1] - theirs[-2]).max() < 1e-8  # torch has converged
    assert_allclose(ours[:count], theirs[:count], rtol=0, atol=1e-8)
    assert np.abs(theirs[1] - theirs[0]).max() > 1e-3  # and it went somewhere


@pytest.mark.torch
def test_torch_lbfgs_stalls_where_torch_does(torch, x64):
    # A gradient below the tolerance everywhere changes nothing in any number of updates.
    start = jnp.asarray(small.noise(3, 200))
    largest = float(jnp.max(jnp.abs(slope(start))))
    ours, _, _ = trace(TorchLBFGS(tolerance_grad=2 * largest), start, 5)
    theirs = torch_trace(
        torch, lambda x: torch.optim.LBFGS(x, tolerance_grad=2 * largest), start, 5
    )
    assert len(theirs) == 1
    assert_array_equal(ours, np.broadcast_to(start, ours.shape))


@pytest.mark.torch
def test_torch_lbfgs_rests_where_torch_comes_to_rest(torch, x64):
    start = small.noise(4, 200)
    # Near the minimum torch ends each outer step after one evaluation, so there are many.
    theirs = torch_trace(torch, torch.optim.LBFGS, start, 200)
    ours, _, _ = trace(TorchLBFGS(), start, 400)
    # Both stop once g . d > -1e-9: within 6e-5 of the minimum, as all curvatures are at least 0.3.
    assert_allclose(ours[-1], theirs[-1], rtol=0, atol=1e-4)
    assert_array_equal(ours[-1], ours[-2])


def test_torch_lbfgs_moves_by_one_over_the_sum_of_slopes_first(x64):
    start = small.noise(5, 200)
    places, _, _ = trace(TorchLBFGS(learning_rate=0.5), start, 2)
    gradient = np.asarray(slope(start))
    assert_allclose(places[1], start - 0.5 * gradient / np.abs(gradient).sum(), rtol=1e-12)


def test_torch_lbfgs_keeps_no_pair_of_wrong_curvature(x64):
    # Where the loss is concave y . s is negative: no pair is kept, and moves follow the gradient.

    def dome(x):
        return -jnp.sum(x**2) / 2

    start = small.noise(6, 50)
    places, _, _ = trace(TorchLBFGS(), start, 4, dome)
    # The gradient is -x, so a unit step doubles x.
    assert_allclose(places[3], 2 * places[2], rtol=1e-12)
    assert_allclose(places[2], 2 * places[1], rtol=1e-12)


# --- Our L-BFGS -----------------------------------------------------------------------------------


def kept(values, accepted):
    return np.asarray(values)[np.asarray(accepted)]


def test_without_slack_the_kept_loss_never_rises(x64):
    # Its own radius is far too large for this function: many moves are refused.
    rule = LBFGS(radius=5.0, largest_radius=50.0, slack=0.0)
    _, values, accepted = trace(rule, small.noise(7, 200), 80)
    assert 0 < np.sum(~np.asarray(accepted)) < 40
    assert (np.diff(kept(values, accepted)) <= 0).all()


def test_slack_admits_a_rise_of_that_share_and_no_more(x64):
    rule = LBFGS(radius=5.0, largest_radius=50.0, slack=0.2)
    _, values, accepted = trace(rule, small.noise(7, 200), 80)
    found = kept(values, accepted)
    assert (found[1:] <= 1.2 * found[:-1]).all()


def test_lbfgs_finds_the_bottom_of_a_quadratic(x64):

    def bowl(x):
        return jnp.sum(np.geomspace(1, 30, 200) * (x - 3) ** 2) / 2

    places, values, accepted = trace(
        LBFGS(radius=1.0, largest_radius=10.0), small.noise(8, 200), 120, bowl
    )
    best = np.asarray(places)[np.asarray(accepted)][-1]
    assert kept(values, accepted)[-1] < 1e-12 * values[0]
    assert_allclose(best, 3, atol=1e-6)


@pytest.mark.parametrize("cliff", [jnp.nan, jnp.inf])
def test_lbfgs_rolls_back_from_where_the_loss_is_not_finite(cliff, x64):
    def function(x):
        value = jnp.sum(SCALES * (x - 1) ** 2) / 2
        return jnp.where(jnp.max(jnp.abs(x)) > 1.5, cliff, value)

    start = jnp.full(200, -1.4)
    places, values, accepted = trace(LBFGS(radius=2.0, largest_radius=2.0), start, 60, function)
    assert not np.isfinite(values).all()
    assert np.isfinite(kept(values, accepted)).all()
    assert not np.asarray(accepted)[~np.isfinite(values)].any()
    assert np.isfinite(places).all()
    assert kept(values, accepted)[-1] < 1e-3 * values[0]


def test_lbfgs_rolls_back_from_where_the_slope_is_not_finite(x64):
    @jax.custom_jvp
    def same(x):
        return x

    @same.defjvp
    def _(primals, tangents):  # beyond the cliff it has no slope
        (x,), (dx,) = primals, tangents
        return x, dx * jnp.where(jnp.max(jnp.abs(x)) > 1.5, jnp.nan, 1.0)

    def cliff(x):
        return jnp.sum(SCALES * (same(x) - 1) ** 2) / 2

    start = jnp.full(200, -1.4)
    places, values, accepted = trace(LBFGS(radius=2.0, largest_radius=2.0), start, 60, cliff)
    assert np.isfinite(values).all() and np.isfinite(places).all()
    beyond = np.abs(np.asarray(places)).max(axis=1) > 1.5
    assert beyond.any() and not np.asarray(accepted)[beyond].any()


def test_a_refused_move_is_tried_again_at_a_quarter(x64):
    # A spike everywhere but at the start: every move is refused.
    start = small.noise(9, 50)

    def spike(x):
        return jnp.where(jnp.all(x == start), jnp.sum(x), jnp.sum(x) + 1e3)

    places, _, accepted = trace(LBFGS(radius=0.1), start, 5, spike)
    assert_array_equal(accepted, [True, False, False, False, False])
    lengths = np.sqrt(np.mean((np.asarray(places) - np.asarray(start)) ** 2, axis=1))
    assert_allclose(lengths, [0, 0.1, 0.1 / 4, 0.1 / 16, 0.1 / 64], rtol=1e-9)


@pytest.mark.parametrize("radius", [1e-3, 0.1])
def test_the_first_move_is_as_long_as_the_radius_and_no_move_is_longer_than_the_largest(
    radius, x64
):
    rule = LBFGS(radius=radius, largest_radius=4 * radius)
    places, _, accepted = trace(rule, small.noise(10, 200), 12)
    assert np.asarray(accepted).all()  # so moves are differences of neighbours
    lengths = np.sqrt(np.mean(np.diff(places, axis=0) ** 2, axis=1))
    assert_allclose(lengths[0], radius, rtol=1e-9)
    assert lengths[1] <= 2 * radius * (1 + 1e-9)
    assert lengths.max() <= 4 * radius * (1 + 1e-9)


def test_lbfgs_stands_still_where_there_is_no_slope():

    def flat(x):
        return jnp.sum(x) * 0.0

    start = small.noise(11, 50)
    places, _, _ = trace(LBFGS(), start, 4, flat)
    assert_array_equal(places, np.broadcast_to(start, places.shape))


@pytest.mark.parametrize("history", [1, 3])
def test_a_short_memory_forgets_and_still_descends(history, x64):
    _, values, accepted = trace(
        LBFGS(radius=0.5, largest_radius=5.0, history=history), small.noise(12, 200), 60
    )
    assert kept(values, accepted)[-1] < 0.05 * values[0]


def test_levels_are_l_bfgs_over_a_pyramids_levels(x64):
    """The direction in pixels is that of plain L-BFGS over (full, half), carried to pixels."""
    full, half = small.noise(17, 6, 6, 1), small.noise(18, 3, 3, 1)
    gain, curvature = 0.3, small.noise(19, 36, 36)
    hessian = curvature @ curvature.T

    @jax.jit
    def pixels(levels):  # A
        matrix = jnp.kron(HALVING, HALVING).T
        coarse = (matrix @ levels[1].reshape(9)).reshape(6, 6, 1)
        return levels[0] + jnp.sqrt(gain) * coarse

    @jax.jit
    def levels_of(picture):  # its transpose
        return jax.linear_transpose(pixels, [full, half])(picture)[0]

    remember = jax.jit(lbfgs._remember)
    direction = jax.jit(lbfgs._newton_direction, static_argnames="guess")
    plain = lbfgs._empty_memory([full, half], 2)
    ours = lbfgs._empty_memory(full, 2)
    guess = partial(lbfgs.multilevel, levels=1, gain=gain)
    for seed in range(3):  # one more than fit
        move = [small.noise(seed, 6, 6, 1), small.noise(20 + seed, 3, 3, 1)]
        change = (hessian @ pixels(move).ravel()).reshape(6, 6, 1)
        plain = remember(plain, move, levels_of(change), jnp.asarray(True))
        ours = remember(ours, pixels(move), change, jnp.asarray(True))
    for fresh in (True, False):  # the second time with the scale that was kept in the memory
        gradient, is_fresh = small.noise(30 + fresh, 6, 6, 1), jnp.asarray(fresh)
        wanted, plain = direction(plain, levels_of(gradient), levels_of(change), is_fresh)
        found, ours = direction(ours, gradient, change, is_fresh, guess)
        assert_allclose(found, pixels(wanted), rtol=1e-9, atol=1e-9)
        change = jnp.full_like(change, jnp.nan)  # not looked at


@pytest.mark.optimized
@pytest.mark.parametrize("rule", [LBFGS(history=32, levels=2), TorchLBFGS(history=32)], ids=repr)
def test_the_memory_of_pairs_is_not_copied(rule):
    """Beside the state of the loop, which is updated in place, XLA needs memory for a few canvases."""
    optimizer, canvas = rule.transformation(), jax.ShapeDtypeStruct((64, 64, 3), jnp.float32)

    def update(_, carry):
        canvas, state = carry
        value, gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.square(x) ** 2))(canvas)
        move, state = optimizer.update(gradient, state, canvas, value=value)
        return canvas + move, state

    def run(canvas, state, steps):
        return jax.lax.fori_loop(0, steps, update, (canvas, state))

    state = jax.eval_shape(optimizer.init, canvas)
    program = jax.jit(run, donate_argnums=(0, 1)).lower(canvas, state, 3).compile()
    spare = program.memory_analysis().temp_size_in_bytes / (4 * np.prod(canvas.shape))
    assert spare < 16


# Averages six pixels to three: the weights of the six in each of the three.
HALVING = np.array(
    [
        [0.75, 0.75, 0.25, 0, 0, 0],
        [0, 0.25, 0.75, 0.75, 0.25, 0],
        [0, 0, 0, 0.25, 0.75, 0.75],
    ]
)


def test_levels_need_fewer_steps_for_a_coarse_change(x64):
    """From a dark picture to one of uniform brightness: each pixel is tied to its neighbours."""

    def rough(x):
        steps = jnp.sum(jnp.diff(x, axis=0) ** 2) + jnp.sum(jnp.diff(x, axis=1) ** 2)
        return steps + 0.01 * jnp.sum((x - 1) ** 2)

    start = small.noise(40, 16, 16, 1) / 10
    ends = [
        kept(*trace(LBFGS(radius=0.1, largest_radius=5, levels=levels), start, 25, rough)[1:])[-1]
        for levels in (0, 3)
    ]
    assert ends[1] < ends[0] / 10


# --- All update rules -----------------------------------------------------------------------------

RULES = [
    Adam(),
    KerasAdam(),
    RMSprop(),
    DecayedSGD(learning_rate=1e-3),
    TorchLBFGS(history=4),
    LBFGS(history=4),
]
names = [type(rule).__name__ for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_rows_of_a_vmap_are_single_runs(rule, x64):
    starts = small.noise(13, 3, 200)
    together = jax.jit(jax.vmap(lambda start: trace(rule, start, 20)[0]))(starts)
    for row, start in zip(together, starts, strict=True):
        assert_allclose(row, trace(rule, start, 20)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_an_update_is_the_same_eager_and_compiled(rule, x64):
    transformation, x = rule.transformation(), small.noise(14, 20)
    gradient, value = small.noise(15, 20), jnp.asarray(1.0)
    state = transformation.init(x)
    eager, _ = transformation.update(gradient, state, x, value=value)
    compiled, _ = jax.jit(transformation.update)(gradient, state, x, value=value)
    assert_allclose(eager, compiled, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_leaves_of_a_tree_are_parts_of_one_vector(rule, x64):
    start = small.noise(16, 200)

    def split(x):
        return {"a": x[:50].reshape(5, 10), "b": (x[50:],)}

    def join(tree):
        return jnp.concatenate([tree["a"].ravel(), tree["b"][0]])

    whole = trace(rule, start, 15)[0]
    parts = trace(rule, split(start), 15, lambda tree: valley(join(tree)))[0]
    joined = jax.vmap(join)(parts)
    assert_allclose(joined, whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_a_rules_numbers_are_leaves_and_its_history_is_not(rule):
    leaves = jax.tree.leaves(rule)
    assert all(isinstance(leaf, float) for leaf in leaves) and leaves
    assert jax.tree.structure(rule) == jax.tree.structure(
        type(rule)(history=4) if hasattr(rule, "history") else type(rule)()
    )
    if hasattr(rule, "history"):
        assert jax.tree.structure(rule) != jax.tree.structure(type(rule)(history=5))


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_rules_follow_the_dtype_of_the_canvas(rule):
    x = jnp.ones(8, jnp.float32)
    state = rule.transformation().init(x)
    updates, new = rule.transformation().update(x, state, x, value=jnp.asarray(1.0))
    assert updates.dtype == jnp.float32
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )


# `Adam` is left out: `optax.scale_by_adam` raises the decays to the power of an int32.
@pytest.mark.parametrize(
    "rule", [*RULES[1:], replace(RULES[-1], levels=2)], ids=[*names[1:], "levels"]
)
def test_strict_promotion_of_types_changes_no_update(rule):
    picture, transformation = jnp.ones((8, 6, 3), jnp.float32), rule.transformation()
    gradients = np.random.default_rng(0).normal(size=(3, 8, 6, 3)).astype(np.float32)

    def moved(promotion):
        # `strict` must hold while the update is traced, so each gets a function of its own.
        with jax.numpy_dtype_promotion(promotion):
            update = jax.jit(lambda *given: transformation.update(*given, value=given[0][0, 0, 0]))
            state, found = transformation.init(picture), []
            for gradient in gradients:
                updates, state = update(jnp.asarray(gradient), state, picture)
                found.append(updates)
        return np.stack(found)

    strict = moved("strict")
    assert_array_equal(strict, moved("standard"))
    assert np.any(strict)


@pytest.mark.parametrize("rule", [optimizers.KerasAdam(), optimizers.DecayedSGD()])
def test_rules_that_count_updates_accept_a_pytree_without_arrays(rule):
    transformation = rule.transformation()
    assert transformation.update((), transformation.init(()))[0] == ()


def test_every_rule_keeps_the_loops_protocol():
    assert all(isinstance(rule, optimizers.Optimizer) for rule in (*RULES, ADAM))
    assert [rule.guarded for rule in RULES] == [False, False, False, False, False, True]


# --- Any optax transformation ---------------------------------------------------------------------

ADAM = optimizers.Optax(optax.adam(0.02))
FAST = small.shallowest(recipes.TF, steps=3)


def test_an_optax_rule_is_what_it_wraps(x64):
    x = small.noise(17, 200)
    wrapped = trace(ADAM, x, 8)[0]
    assert_allclose(wrapped, trace(Adam(learning_rate=0.02), x, 8)[0], rtol=1e-9)
    assert not ADAM.guarded and bool(ADAM.accepted(None))


def test_an_optax_rule_is_static():
    assert not jax.tree.leaves(ADAM)
    assert optimizers.Optax(ADAM.rule) == ADAM and hash(ADAM) == hash(optimizers.Optax(ADAM.rule))
    assert optimizers.Optax(optax.adam(0.02)) != ADAM
    assert copy.deepcopy(ADAM) == ADAM


def test_an_optax_rule_may_use_the_loss(x64):
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        seen.append(value)
        return jax.tree.map(lambda u: -0.01 * u, updates), state

    rule = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    trace(optimizers.Optax(rule), small.noise(18, 200), 2)
    assert seen


def test_an_optax_rule_paints_like_the_rule_it_equals(params, content, style, compilations):
    recipe = FAST.replace(optimizer=ADAM)
    found = nst.stylize(params, content, style, recipe=recipe)
    own = nst.stylize(params, content, style, recipe=FAST.replace(optimizer=Adam()))
    assert_allclose(found, own, atol=1e-5)
    before = compilations()
    nst.stylize(params, content, style, recipe=recipe.replace(style_weight=3, name="another"))
    nst.stylize(params, content, style, recipe=FAST.replace(optimizer=optimizers.Optax(ADAM.rule)))
    assert compilations() == before
    nst.stylize(
        params, content, style, recipe=FAST.replace(optimizer=optimizers.Optax(optax.adam(0.02)))
    )
    assert compilations() > before


def test_an_optax_rule_paints_a_sweep(params, content, style):
    recipe = FAST.replace(optimizer=ADAM, style_weight=np.asarray([0.01, 1.0]))
    found = nst.stylize_many(params, content, style, recipe=recipe)
    single = FAST.replace(optimizer=ADAM, style_weight=1.0)
    assert_allclose(found[1], nst.stylize(params, content, style, recipe=single), atol=1e-5)


def test_a_run_by_an_optax_rule_can_be_resumed(params, content, style):
    recipe = FAST.replace(optimizer=ADAM, steps=4)
    *_, whole = nst.paint(params, content, style, recipe=recipe, every=2)
    shots = nst.paint(params, content, style, recipe=recipe, every=2)
    while next(shots).step < 2:
        pass
    resumed = nst.paint(params, content, style, recipe=recipe, resume=shots.checkpoint())
    *_, last = resumed
    np.testing.assert_array_equal(last.image, whole.image)


@pytest.mark.parametrize("raw", [optax.adam(0.1), optax.sgd(0.1), optax.chain(optax.scale(-1.0))])
def test_a_raw_optax_transformation_is_refused_with_the_next_move(raw, as_users_do):
    with pytest.raises(TypeError, match=r"^`optimizer`: .*wrap it: `nst_jax.optimizers.Optax\("):
        recipes.check(FAST.replace(optimizer=raw))
    assert recipes.check(FAST.replace(optimizer=optimizers.Optax(raw)))


@pytest.mark.parametrize("what", [3, None, optax.adam], ids=["3", "None", "adam"])
def test_what_is_no_optax_transformation_is_refused(what, as_users_do):
    with pytest.raises(TypeError, match="^`rule`: expected an optax transformation, such as"):
        optimizers.Optax(what)


@pytest.mark.parametrize("rule", [optax.lbfgs(), optax.chain(optax.clip(1.0), optax.lbfgs())])
def test_a_rule_that_evaluates_the_loss_itself_is_refused_before_the_run(rule):
    recipe = FAST.replace(optimizer=optimizers.Optax(rule))
    message = (
        r"^`optimizer`: the update of Optax needs 'grad' and 'value_fn', .*optimizers.LBFGS\(\)`"
    )
    for refusing in (
        lambda: nst.plan((32, 32), (32, 32), recipe=recipe),
        lambda: jax.eval_shape(lambda x: nst.init(x, recipe), np.zeros((32, 32, 3), np.float32)),
    ):
        with pytest.raises(TypeError, match=message):
            refusing()


# --- Rules of users -------------------------------------------------------------------------------


def own_rule(update, init=lambda params: jnp.zeros(2), accepted=lambda self, state: True):
    """Return an update rule whose optax transformation has these functions."""

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class Own:
        learning_rate: float = 0.1
        guarded: ClassVar[bool] = False

        def transformation(self):
            return update and optax.GradientTransformation(init, update)

    Own.accepted = accepted
    return Own()


def moved(updates, state, params=None):
    return -updates, state


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (own_rule(None), "`Own.transformation` returned None, expected an optax transformation"),
        (own_rule(lambda *_: None), "the update of Own returned None, expected a pair"),
        (own_rule(lambda g, *_: g), "the update of Own returned an array of .*, expected a pair"),
        (
            own_rule(lambda g, s, p: (None, s)),
            r"the update of Own returned updates of the shape None, expected \[24, 32, 3\]",
        ),
        (
            own_rule(lambda g, s, p: (jnp.mean(g), s)),
            r"the update of Own returned updates of the shape \[\], expected \[24, 32, 3\]",
        ),
        (
            own_rule(lambda g, s, p: (g, (s, s))),
            r"the update of Own returned a state of the shape \(\[2\], \[2\]\), expected \[2\]",
        ),
        (own_rule(moved, accepted=lambda *_: None), "`Own.accepted` returned None, expected one"),
        (
            own_rule(moved, accepted=lambda *_: jnp.ones(3, bool)),
            r"`Own.accepted` returned an array of bool of the shape \[3\], expected one boolean",
        ),
    ],
)
def test_an_own_rule_that_makes_no_updates_is_refused_before_the_run(rule, message, as_users_do):
    with pytest.raises(TypeError, match=f"^`optimizer`: {message}"):
        nst.plan((24, 32), (24, 32), recipe=FAST.replace(optimizer=rule))


def needs_more(updates, state, params=None, *, value, height, more):
    return updates, state


@pytest.mark.parametrize("make", [own_rule, "optax"])
def test_a_rule_that_needs_more_than_a_run_gives_is_refused(make):
    rule = (
        optimizers.Optax(optax.GradientTransformation(lambda params: jnp.zeros(2), needs_more))
        if make == "optax"
        else own_rule(needs_more)
    )
    with pytest.raises(
        TypeError, match="^`optimizer`: the update of (Optax|Own) needs 'more', but"
    ):
        nst.plan((24, 32), (24, 32), recipe=FAST.replace(optimizer=rule))


def mean_of(gradient, *, value):
    return jnp.mean(gradient) * value


def raises(gradient, state, params):
    raise TypeError("mine")


def calls_without_value(gradient, state, params):
    return mean_of(gradient), state


def calls_an_update_without_value(gradient, state, params):
    return needs_value(gradient, state, params)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (raises, "mine"),
        (calls_without_value, r"mean_of\(\) missing 1 required keyword-only argument: 'value'"),
        (calls_an_update_without_value, r"needs_value\(\) missing 1 required keyword-only arg"),
    ],
)
def test_an_own_error_of_a_rule_is_not_hidden(update, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        nst.plan((24, 32), (24, 32), recipe=FAST.replace(optimizer=own_rule(update)))


def takes_value(updates, state, params=None, value=None):
    return updates * value, state


def takes_height(updates, state, params=None, *, height=7.0):
    return updates * height, state


def needs_value(updates, state, params=None, *, value):
    return updates * value, state


def needs_height(updates, state, params=None, *, height):
    return updates * height, state


def takes_all(updates, state, params=None, **extra):
    return updates * extra["value"] * extra.get("height", 1.0), state


@pytest.mark.parametrize(
    ("update", "alone", "in_bands"),
    [
        (takes_value, 3, 3),
        (takes_height, 7, 5),
        (needs_value, 3, 3),
        (needs_height, None, 5),
        (takes_all, 3, 15),
        (jax.jit(takes_value), 3, 3),
        (partial(takes_height, height=7.0), 7, 7),
        (lambda g, s, p: (g, s), 1, 1),
    ],
)
@pytest.mark.parametrize("make", [own_rule, "optax"])
def test_a_rule_gets_the_further_arguments_that_it_takes(update, alone, in_bands, make):
    rule = (
        optimizers.Optax(optax.GradientTransformation(lambda params: jnp.zeros(2), update))
        if make == "optax"
        else own_rule(update)
    )
    made = FAST.replace(optimizer=rule).descent.transformation()
    canvas, value = jnp.ones((2, 3, 3)), jnp.asarray(3.0)
    state = made.init(canvas)
    if alone is not None:
        found, _ = made.update(canvas, state, canvas, value=value)
        assert float(found[0, 0, 0]) == alone
    found, _ = made.update(canvas, state, canvas, value=value, height=5, size=None)
    assert float(found[0, 0, 0]) == in_bands


@pytest.mark.parametrize("levels", [0, 2])
def test_an_own_rule_paints_also_without_further_arguments(levels, params, content, style):
    # Its `update` does not accept `value`, and the state is a tree without arrays.
    def update(updates, state, params):
        return jax.tree.map(lambda gradient: -1e-8 * gradient, updates), state

    rule = own_rule(update, init=lambda params: optax.EmptyState())
    recipe = FAST.replace(optimizer=rule, pyramid_levels=levels)
    last = nst.paint(params, content, style, recipe=recipe).finish()
    assert last.history.total[-1] < last.history.total[0]
