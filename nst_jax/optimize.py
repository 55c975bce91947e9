"""The optimisation loop of one canvas: `init`, `step`, `run`.

All functions can be traced by JAX, so the loop for a batch is a `vmap` of the loop for one canvas.

The canvas is the picture that is optimised. It is stored in the recipe's pixel convention
(`Descent.coordinates`), an affine map of the sRGB image, such as BGR with the mean subtracted. A state
has two canvases: one whose losses are known, and the pending canvas, whose losses the next step
computes. A step evaluates loss and gradient of the pending canvas together, and makes the next pending
canvas by this gradient. So no program that computes only losses is needed. Between two scales
(resolutions), `hand_over` and `take_over` pass on the image and, for some optimisers, the optimiser's
state.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from nst_jax import _checks, correspondence
from nst_jax._types import Image, Losses, Params, Resized, Shape, State, Targets
from nst_jax.controls.regions import with_kept
from nst_jax.losses import at_least_float32
from nst_jax.objective import losses_of
from nst_jax.recipes.checking import check_descent_in_bucket
from nst_jax.recipes.filters import Enlargement
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.bands import Bands, constrained, with_padding, without_padding
from nst_jax.target_checks import explained_by_targets
from nst_jax.targets import check_arguments
from nst_jax.vgg.kernel_forms import with_forms
from nst_jax.vgg.pixels import Pixels
from nst_jax.vgg.taps import SMALLEST

CAPACITY = 256  # largest number of steps in one call of `run`; length of the arrays of losses


def init(image: Image, recipe: Recipe, *, bands: Bands | None = None) -> State:
    """Make the state with which the optimisation of a canvas starts.

    `image` becomes the pending canvas, the one whose losses the next step computes.

    Args:
      image: [h, w, 3] in [0, 1]; the whole run uses its dtype, but at least float32: small updates
        would be lost in the rounding of a narrower type.
      recipe: the recipe of the run. Its `descent` (optimiser, pixel convention, average of canvases)
        and `terms` (losses) decide which arrays the state has.
      bands: how the canvas is distributed over several devices; None means one device.

    Returns:
      A `State` with `step == -1`; the first call of `step` computes the losses of `image`.

    Raises:
      TypeError: if `image` is not an array, or `recipe` not a `Recipe`.
      ValueError: if the shape of `image` does not end in (h, w, 3), if h or w is 0, or if its numbers
        are not floating point.
      TypeError, ValueError: if a pixel convention of a user's own returns something else than a
        floating-point array of the shape of `image`.
    """
    order = "the order is init(image, recipe)"
    _checks.array("image", image, order)
    _checks.instance("recipe", recipe, Recipe, f"`nst_jax.recipes` has some; {order}")
    _checks.image_shape("image", image.shape, smallest=1)
    _checks.floating("image", image.dtype)
    wide = at_least_float32(jnp.asarray(image))
    canvas = with_padding(_encoded(wide, recipe.descent.coordinates), bands)
    unknown = jnp.asarray(jnp.nan, canvas.dtype)
    fresh = State(
        step=jnp.asarray(-1, jnp.int32),
        canvas=canvas,
        losses=Losses(
            unknown,
            unknown,
            unknown,
            unknown,
            dict.fromkeys(recipe.terms.style_names, unknown),
            None if recipe.terms.matting_weight is None else unknown,
        ),
        pending=canvas,
        opt_state=_transformation(recipe, bands).init(canvas),
        broke_at=jnp.asarray(-1, jnp.int32),
        average=None if recipe.descent.average_decay is None else canvas,
    )
    return constrained(fresh, bands)


def _encoded(image: Image, coordinates: Pixels) -> Image:
    """Return an image in a pixel convention.

    If the convention is a user's own, what its `encode` and its `decode` return is checked.

    Raises:
      TypeError, ValueError: as in `_checks.returned_array`.
    """
    canvas = coordinates.encode(image)
    if type(coordinates) is not Pixels:
        name, kind = "coordinates", "pixel convention's"
        _checks.returned_array(name, f"{kind} `encode`", canvas, image.shape)
        decoded = jax.eval_shape(coordinates.decode, canvas)
        _checks.returned_array(name, f"{kind} `decode`", decoded, image.shape)
    return canvas


def match(
    params: Params, state: State, targets: Targets, content: Image, recipe: Recipe, *, first: bool
) -> State:
    """Find, for each position of the canvas, the position of the style with the most similar features.

    Only some style losses need these matches. The matches stay the same during a whole scale
    (resolution). Unlike `step`, this function has no argument `bands`, since losses that need matches
    cannot be computed on several devices.

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `init`.
      targets: the targets from `measure`.
      content: [h, w, 3] in [0, 1], of the size of the canvas.
      recipe: losses, network settings, and pixel convention of the canvas.
      first: whether this is the coarsest scale. At the coarsest scale, matches are found for the
        features of the content; at later scales, for the features of a mixture of canvas and content,
        see `correspondence.searched`. A static argument.

    Returns:
      The state with `matches`; `step` refuses a state without the matches that its style loss needs. If
      the style loss needs none, the state is returned unchanged.

    Raises:
      TypeError: for arguments of another type, such as swapped ones.
      ValueError: if the weights are those of another network than VGG-19; or if `content` is not
        [h, w, 3], not floating point, under 16 px on a side, or of another size than the canvas, if
        matches are needed; or if the targets were measured with a recipe that has another style loss.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> params, grey = nst.load_params(), jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(params, grey, grey, nst.recipes.NNST)
      >>> state = nst.init(grey, nst.recipes.NNST)
      >>> match = jax.jit(nst.match, static_argnames="first")
      >>> match(params, state, targets, grey, nst.recipes.NNST, first=True).matches.shape
      (64,)
    """
    order = "the order is match(params, state, targets, content, recipe)"
    check_arguments(order, params, recipe, None)
    _check_position(order, state, targets)
    _checks.array("content", content, order)
    _checks.one_image("content", content, smallest=SMALLEST, advice="`jax.vmap` takes a batch")
    if correspondence.number_of_matches((content.shape[0], content.shape[1]), recipe) is None:
        return state
    _checks.same_shape("content", content.shape, "state.canvas", state.canvas.shape[-3:])
    start = recipe.descent.coordinates.decode(state.canvas)
    with explained_by_targets(targets, recipe):
        found = correspondence.find_matches(
            params, start, content, targets.style, recipe, first=first
        )
    return state._replace(matches=found)


def _check_position(order: str, state: Any, targets: Any) -> None:
    """Refuse a state or targets of another type; `order` is the right order of the arguments."""
    _checks.instance("state", state, State, f"`init` makes one; {order}")
    _checks.instance("targets", targets, Targets, f"`measure` gives them; {order}")


def _check_state(state: State, recipe: Recipe, bands: Bands | None) -> None:
    """Refuse a state of a recipe with another optimiser, other losses, or without the same average.

    The arrays must also have the shapes of those of this recipe: with another length of the history of
    L-BFGS, for example, they would silently be used as they are. A batch is not compared, since `step`
    refuses it.
    """
    height = state.pending.shape[-3] if bands is None else bands.height
    image = jax.ShapeDtypeStruct((height, *state.pending.shape[-2:]), state.pending.dtype)
    fresh = jax.eval_shape(lambda image: init(image, recipe, bands=bands), image)
    found = state._replace(matches=None)
    expected: Any = jax.tree.structure(fresh)
    if expected != jax.tree.structure(found):
        raise ValueError(
            "`state`: is that of another recipe, with another optimiser, other losses or another "
            "`average_decay`; `init(image, recipe)` makes one for this recipe"
        )
    if state.pending.ndim != len(image.shape):
        return
    leaves = jax.tree_util.tree_leaves_with_path(found)
    for (path, leaf), like in zip(leaves, jax.tree.leaves(fresh), strict=True):
        if _differ(jnp.shape(leaf), like.shape):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"`state`: is that of another recipe or canvas, since `{name}` has the shape "
                f"{list(jnp.shape(leaf))}, and {list(like.shape)} is expected; `init(image, recipe)` "
                "makes one for this recipe"
            )


def _differ(shape: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Return whether two shapes surely differ; symbolic sizes (see `jax.export`) are not compared."""
    return len(shape) != len(other) or any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for a, b in zip(shape, other, strict=True)
    )


def _transformation(recipe: Recipe, bands: Bands | None) -> optax.GradientTransformationExtraArgs:
    return recipe.descent.transformation(None if bands is None else bands.height)


def step(
    params: Params, state: State, targets: Targets, recipe: Recipe, *, bands: Bands | None = None
) -> State:
    """Compute the losses of the pending canvas, accept or reject it, and make the next pending canvas.

    The pending canvas, `state.pending`, is the one that the step before made, or the first canvas.

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `init` or an earlier `step`.
      targets: the targets from `measure`. If parts of the picture are protected, the losses are those
        of the canvas with the content in place of these parts, see `controls.with_kept`. If the targets
        have a `size`, only the top left part of the canvas, of this (height, width), is painted; pixels
        outside of this part neither affect the losses nor change.
      recipe: losses, loss weights, network settings, optimiser, and pixel convention of the canvas. If
        the precision is `AUTO`, the platform of JAX's default device decides on it when the function is
        traced.
      bands: how the canvas is distributed over several devices; None means one device.

    Returns:
      The next `State`. A canvas whose losses are not finite never becomes `canvas`. Instead, a guarded
      optimiser (see `nst_jax.optimizers`) rolls back to an earlier canvas, also if only the gradient is
      not finite. An optimiser that is not guarded, or that has no earlier canvas, cannot roll back:
      `broke_at` becomes the number of the update (0 for the first canvas), `losses` become those of the
      rejected canvas, and `canvas` never changes again.

    Raises:
      TypeError: for arguments of another type, such as swapped ones.
      ValueError: as in `losses_of`; if `state` is that of a recipe with another optimiser, other losses
        or another kind of average, or has arrays of other shapes than `init` makes; or if `targets`
        have a `size` and the optimiser, or another setting in `recipe.descent`, cannot be used for a
        canvas in a larger array.
    """
    order = "the order is step(params, state, targets, recipe)"
    check_arguments(order, params, recipe, bands)
    _check_position(order, state, targets)
    _check_state(state, recipe, bands)
    optimizer, coordinates = recipe.descent.optimizer, recipe.descent.coordinates
    protected = with_padding(targets.kept, bands)

    def total(canvas: Float[Array, "h w 3"]) -> tuple[Array, Losses]:
        image = with_kept(coordinates.decode(canvas), protected)
        losses = losses_of(
            params,
            image,
            targets,
            recipe,
            bands=bands,
            step=state.step + 1,
            matches=state.matches,
        )
        return losses.total, losses

    (value, losses), gradient = jax.value_and_grad(total, has_aux=True)(state.pending)
    # If several devices share the canvas, it is padded with rows of zeros. `height` is the number of
    # rows without this padding, for optimisers that average over pixels or make reduced copies of the
    # canvas.
    padding: dict[str, Any] = {} if bands is None else {"height": bands.height}
    if targets.size is not None:
        check_descent_in_bucket(recipe.descent)
        padding["size"] = targets.size
    updates, opt_state = _transformation(recipe, bands).update(
        gradient, state.opt_state, state.pending, value=value, **padding
    )
    accepted, finite = optimizer.accepted(opt_state), jnp.isfinite(value)
    # A run is broken by a canvas whose losses are not finite, unless the optimiser rolls back to an
    # earlier canvas. A guarded optimiser rolls back from any such canvas but the first; an optimiser
    # that is not guarded never rolls back. A guarded optimiser rejects the first canvas only if its
    # losses or its gradient are not finite.
    broken = ~accepted & (state.step < 0) if optimizer.guarded else ~finite
    broke_at = jnp.where(broken & (state.broke_at < 0), state.step + 1, state.broke_at)
    shown = accepted | broken
    kept = accepted & finite & (broke_at < 0)
    after = State(
        step=state.step + 1,
        canvas=jnp.where(kept, state.pending, state.canvas),
        losses=jax.tree.map(lambda new, old: jnp.where(shown, new, old), losses, state.losses),
        pending=_clipped(optax.apply_updates(state.pending, updates), recipe),
        opt_state=opt_state,
        broke_at=broke_at,
        average=_averaged(state, recipe, kept),
        matches=state.matches,
    )
    return constrained(after, bands)


def _averaged(state: State, recipe: Recipe, kept: Bool[Array, ""]) -> Float[Array, "h w 3"] | None:
    """Return the average of the canvases so far, with `state.pending` as the newest if `kept` is True.

    The result is None if the recipe averages no canvases. With decay d, canvas i of 1 to t has a weight
    proportional to d^(t - i). The newest canvas then has the share (1 - d) / (1 - d^t) of the average:
    the result is an exponential moving average with the bias correction of Adam.
    """
    if state.average is None:
        return None
    decay = jnp.asarray(recipe.descent.average_decay, state.canvas.dtype)
    count = state.step + 2  # t: number of canvases, including the first and the pending one
    weight = (1 - decay) / (1 - decay ** count.astype(decay.dtype))
    return jnp.where(kept, state.average + weight * (state.pending - state.average), state.average)


def _clipped(canvas: Float[Array, "h w 3"], recipe: Recipe) -> Float[Array, "h w 3"]:
    """Return the canvas; if `recipe.descent.clip` is set, it is clipped to [0, 1] sRGB.

    The canvas is in the recipe's pixel convention, so it is converted to sRGB and back.
    """
    if not recipe.descent.clip:
        return canvas
    coordinates = recipe.descent.coordinates
    return coordinates.encode(jnp.clip(coordinates.decode(canvas), 0.0, 1.0))


def run(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    *,
    bands: Bands | None = None,
) -> tuple[State, Losses]:
    """Run `steps` steps, at most `CAPACITY`, in one `fori_loop`.

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `init` or an earlier `run`.
      targets: the targets from `measure`.
      recipe: losses, loss weights, network settings, optimiser, and pixel convention of the canvas.
      steps: number of steps; it is traced, so that another number does not compile another program.
      bands: how the canvas is distributed over several devices; None means one device.

    Returns:
      The state after the last step; and the losses after each step, as arrays [CAPACITY] whose first
      `steps` entries are filled, and whose other entries are NaN.

    Raises:
      TypeError, ValueError: as in `step`.
      TypeError: if `steps` is not a whole number.
      ValueError: if `steps` is negative; a traced number is not checked.
    """
    order = "the order is run(params, state, targets, recipe, steps)"
    check_arguments(order, params, recipe, bands)
    _check_position(order, state, targets)
    _checks.whole_scalar("steps", steps)
    # The gradient needs transposed kernels. They are made here, once, and not in every step.
    params = with_forms(params, recipe.terms.taps, precision=recipe.network.precision_on())
    history = jax.tree.map(lambda x: jnp.full(CAPACITY, jnp.nan, x.dtype), state.losses)

    def body(index: Int[Array, ""], carry: tuple[State, Losses]) -> tuple[State, Losses]:
        state, history = carry
        state = step(params, state, targets, recipe, bands=bands)
        return state, jax.tree.map(lambda h, x: h.at[index].set(x), history, state.losses)

    return jax.lax.fori_loop(0, jnp.minimum(steps, CAPACITY), body, (state, history))


def picture(state: State, recipe: Recipe, *, bands: Bands | None = None) -> Image:
    """Return the picture that a state shows, clipped to [0, 1].

    The state shows the average of the canvases, `state.average`; if no average is kept, it shows
    `state.canvas`. `bands` says how the canvas is distributed over several devices; None means one
    device.
    """
    shown = state.canvas if state.average is None else state.average
    return jnp.clip(_decoded(shown, recipe, bands), 0.0, 1.0)


def canvas_image(state: State, recipe: Recipe, *, bands: Bands | None = None) -> Image:
    """Return the canvas as an unclipped image [h, w, 3], from which the next scale (resolution) starts.

    Usually it is `state.canvas`, the last canvas that was accepted. In three cases it depends on the
    pending canvas, which the last update made and whose losses are not computed at this scale:

    - If the recipe averages canvases, the image is the average including the pending canvas, as in
      crowsonkb's style-transfer-pytorch.
    - If the optimiser's state is carried to the next scale, the image is the pending canvas, since
      that state already contains the gradient of the update that made this canvas.
    - If the optimiser updates a Laplacian pyramid, the image is the pending canvas, so the last update
      of a scale has an effect. The published codes of STROTSS and NNST, which update such pyramids,
      lose this update: they pass on the canvas before it.

    A pending canvas is not used if it is not finite, or if losses have stopped being finite before.
    `bands` says how the canvas is distributed over several devices; None means one device.
    """
    usable = (state.broke_at < 0) & jnp.all(jnp.isfinite(state.pending))
    if state.average is not None:
        return _decoded(_averaged(state, recipe, usable), recipe, bands)
    if recipe.descent.carries or recipe.descent.pyramid_levels:
        return _decoded(jnp.where(usable, state.pending, state.canvas), recipe, bands)
    return _decoded(state.canvas, recipe, bands)


def _decoded(canvas: Any, recipe: Recipe, bands: Bands | None) -> Image:
    """Return a canvas as an image [h, w, 3], without the rows that pad it for several devices."""
    return recipe.descent.coordinates.decode(without_padding(canvas, bands))


# --- Between two scales ---------------------------------------------------------------------------


class Handover(NamedTuple):
    """What a scale (resolution) hands over to the next, finer one."""

    image: Image  # the unclipped image from which the next scale starts
    opt_state: Any = None  # the optimiser's state, if it is carried to the next scale; else None


def hand_over(image: Image, state: State, recipe: Recipe) -> Handover:
    """Return what a scale hands over to the next one, given its last state and its canvas as an image.

    Some optimisers also hand over their state, see `Descent.carries`.
    """
    return Handover(image, state.opt_state if recipe.descent.carries else None)


def enlarged(image: Image, shape: Shape, enlarge: Enlargement, clip: bool) -> Resized:
    """Resize the image with which a scale starts to the scale's size; clip it to [0, 1] if `clip`.

    Args:
      image: [h, w, 3], the final image of the next coarser scale; for the coarsest scale, the first
        image of the run.
      shape: (height, width) of the result.
      enlarge: the recipe's function that resizes between scales.
      clip: whether to clip, since some resizing filters overshoot; between two scales, True for recipes
        that clip the canvas after every update. The first image of a run is not clipped.

    Raises:
      TypeError, ValueError: if a user's own function returns no picture of this size; see
        `_checks.returned_image`.
    """
    new = (*image.shape[:-3], *shape, 3)
    larger = _checks.returned_image("enlarge", "filter", enlarge(image, shape), new)
    # With another dtype, the rest of the run would be computed in it.
    larger = jnp.asarray(larger, image.dtype)
    return jnp.clip(larger, 0.0, 1.0) if clip else larger


def take_over(
    state: State,
    opt_state: Any,
    recipe: Recipe,
    *,
    bands: Bands | None = None,
    bands_before: Bands | None = None,
) -> State:
    """Return `state` with the optimiser's state of the coarser scale, resized, in place of its own.

    Args:
      state: the state from `init` at the finer scale.
      opt_state: the optimiser's state at the end of the coarser scale.
      recipe: a recipe whose `descent.carries` is True: its optimiser has a method `carried`, which
        resizes `opt_state`.
      bands: how the canvas is distributed over several devices; None means one device.
      bands_before: how the canvas was distributed at the coarser scale; None means one device.
    """
    optimizer: Any = recipe.descent.optimizer
    fresh = without_padding(state.opt_state, bands)
    carried = optimizer.carried(without_padding(opt_state, bands_before), fresh)
    return constrained(state._replace(opt_state=with_padding(carried, bands)), bands)
