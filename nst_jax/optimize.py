"""The loop over a canvas: `init`, `step`, `run`. Pure, traceable, one canvas; batches are a `vmap`.

The canvas lives in the recipe's coordinates, an affine map of the image. A state carries the canvas
that was measured last and, pending, the one to measure next: so every update costs one evaluation,
the losses of the kept canvas are always known, and the start is measured by the same program.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from nst_jax import _checks
from nst_jax._types import Image, Losses, Params, State, Targets
from nst_jax.objective import losses_of
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.sharding import laid, with_padding, without_padding
from nst_jax.vgg.network import with_forms

CAPACITY = 256  # losses that one `run` can return


def init(image: Image, recipe: Recipe) -> State:
    """Make a fresh state whose pending canvas is `image`; nothing is measured yet.

    Args:
      image: [h, w, 3] in [0, 1]; its dtype is the run's.
      recipe: gives the coordinates and the optimiser.

    Returns:
      A `State` with `step == -1`; its first `step` measures the start.

    Raises:
      ValueError: if `image` is not one image of floating point numbers.
    """
    _checks.image_shape("image", image.shape, smallest=1)
    _checks.floating("image", image.dtype)
    canvas = with_padding(recipe.descent.coordinates.encode(image), recipe.rows)
    unknown = jnp.asarray(jnp.nan, canvas.dtype)
    fresh = State(
        step=jnp.asarray(-1, jnp.int32),
        canvas=canvas,
        losses=Losses(
            unknown, unknown, unknown, unknown, dict.fromkeys(recipe.terms.style_taps, unknown)
        ),
        pending=canvas,
        opt_state=recipe.descent.optimizer.transformation().init(canvas),
        broke_at=jnp.asarray(-1, jnp.int32),
    )
    return laid(fresh, recipe.rows)


def step(params: Params, state: State, targets: Targets, recipe: Recipe) -> State:
    """Measure the pending canvas, keep it if it is good, and propose the next.

    Args:
      params: weights from `nst_jax.load_params`.
      state: from `init` or an earlier `step`.
      targets: from `measure`.
      recipe: everything else.

    Returns:
      The next `State`. A canvas whose losses are not finite is never kept: a guarded optimiser
      rolls it back; otherwise `broke_at` names the step, `losses` show it and the canvas stays what
      it was.
    """
    optimizer, coordinates = recipe.descent.optimizer, recipe.descent.coordinates

    def total(canvas: Float[Array, "h w 3"]) -> tuple[Array, Losses]:
        losses = losses_of(params, coordinates.decode(canvas), targets, recipe)
        return losses.total, losses

    (value, losses), gradient = jax.value_and_grad(total, has_aux=True)(state.pending)
    # What a rule needs to know of padding, which is its height without.
    padding = {} if recipe.rows is None else {"height": recipe.rows.height}
    updates, opt_state = optimizer.transformation().update(
        gradient, state.opt_state, state.pending, value=value, **padding
    )
    accepted, finite = optimizer.accepted(opt_state), jnp.isfinite(value)
    # A guarded rule has nothing to roll back to before its first good canvas.
    broken = ~accepted & (state.step < 0) if optimizer.guarded else ~finite
    broke_at = jnp.where(broken & (state.broke_at < 0), state.step + 1, state.broke_at)
    shown = accepted | broken
    after = State(
        step=state.step + 1,
        canvas=jnp.where(accepted & finite & (broke_at < 0), state.pending, state.canvas),
        losses=jax.tree.map(lambda new, old: jnp.where(shown, new, old), losses, state.losses),
        pending=_constrained(optax.apply_updates(state.pending, updates), recipe),
        opt_state=opt_state,
        broke_at=broke_at,
    )
    return laid(after, recipe.rows)


def _constrained(canvas: Float[Array, "h w 3"], recipe: Recipe) -> Float[Array, "h w 3"]:
    if not recipe.descent.clip:
        return canvas
    coordinates = recipe.descent.coordinates
    return coordinates.encode(jnp.clip(coordinates.decode(canvas), 0.0, 1.0))


def run(
    params: Params, state: State, targets: Targets, recipe: Recipe, steps: Int[Array, ""] | int
) -> tuple[State, Losses]:
    """Take `steps` steps, at most `CAPACITY`, in one loop whose length is traced.

    Args:
      params: weights from `nst_jax.load_params`.
      state: from `init` or an earlier `run`.
      targets: from `measure`.
      recipe: everything else.
      steps: how many; a traced number, so that no two counts compile twice.

    Returns:
      The state, and the losses of the canvases measured, arrays [CAPACITY] of which the first
      `steps` are filled and the rest are NaN.
    """
    # Once, not in every step.
    params = with_forms(params, recipe.terms.taps, precision=recipe.network.precision)
    history = jax.tree.map(lambda x: jnp.full(CAPACITY, jnp.nan, x.dtype), state.losses)

    def body(index: Int[Array, ""], carry: tuple[State, Losses]) -> tuple[State, Losses]:
        state, history = carry
        state = step(params, state, targets, recipe)
        return state, jax.tree.map(lambda h, x: h.at[index].set(x), history, state.losses)

    return jax.lax.fori_loop(0, jnp.minimum(steps, CAPACITY), body, (state, history))


def picture(state: State, recipe: Recipe) -> Image:
    """Return the kept canvas as an image [h, w, 3] in [0, 1]."""
    return jnp.clip(canvas_image(state, recipe), 0.0, 1.0)


def canvas_image(state: State, recipe: Recipe) -> Image:
    """Return the kept canvas as an image that may leave [0, 1], for the next scale to start from."""
    canvas = without_padding(state.canvas, recipe.rows)
    return recipe.descent.coordinates.decode(canvas)
