"""The gradient ascent of a dream at one octave, which is one size of the picture.

A dream paints a picture at several octaves, from the smallest to the largest; `nst_jax.dreaming` goes
through them. The functions here are pure functions of one picture; `jax.vmap` maps them over a batch.

Gradient ascent on the mean square of VGG-19's activations at some taps (layers) strengthens what the
network detects: what looks a little like an eye becomes an eye. With a guide, which is a second
picture, the activations are pulled towards the activations of the guide instead.

The excitement of a picture is the value that is maximised. A `DreamState` has two pictures: the canvas,
whose excitement has been computed, and the pending canvas, whose excitement the next step computes.
So a step computes the excitement and its gradient for the same picture, in one pass through the
network. The excitement of the changed picture would take a second pass; it is left to the next step.

References:
  Mordvintsev, Olah, Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015, and their code,
  google/deepdream, `dream.ipynb`; TensorFlow's tutorial "DeepDream", `deepdream.ipynb`.
"""

import operator
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax import _checks, vgg
from nst_jax._types import FeatureMap, Features, Image, Params, Scalar, sum_dtype
from nst_jax.losses import at_least_float32
from nst_jax.optimize import CAPACITY
from nst_jax.scaling import tile_grid, tiles
from nst_jax.scaling.tile_grid import Grid, Index
from nst_jax.vgg.precision import BFLOAT16

# With a guide (a second picture), each position of the picture's features is compared with all
# positions of the guide's features. To limit the memory used, this many of the picture's positions are
# compared at once.
MATCHED_AT_ONCE = 1024


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Ascent:
    """What the gradient ascent of a dream maximises, and how much a step changes the picture.

    Attributes:
      taps: names of the taps (layers) as `vgg.resolve_tap` returns them. Static.
      weights: weight of each tap. Only the ratios of the weights matter, since the weights are divided
        by their sum.
      step_size: standard deviation of the change of the pixel values in one step, where black and white
        differ by 1.
      jitter: largest number of pixels by which the picture is shifted along each axis before a step;
        the shift is random.
      network: how VGG-19 is computed; its field `tile` is the size of the tiles into which a large
        picture is cut to save memory. Static.
    """

    taps: tuple[str, ...] = field(default=("relu4_4",), metadata={"static": True})
    weights: tuple[float, ...] = (1.0,)
    step_size: float = 0.0075
    jitter: int = 32
    network: vgg.Network = field(
        default=vgg.Network(accelerator_precision=BFLOAT16), metadata={"static": True}
    )


class Excitement(NamedTuple):
    """The value that a dream maximises, `total`, and its values at single taps (layers)."""

    total: Scalar  # the weighted mean of the values in the field `taps`
    # Name of a tap -> mean square of the picture's activations at this layer; with a guide, the mean
    # product of these activations with the best-matching activations of the guide (see `excitement`).
    taps: dict[str, Scalar]


class DreamState(NamedTuple):
    """The state of the ascent at one octave; `begin` makes it, and `climb` advances it by a step.

    An octave is one of the sizes at which a dream paints its picture, one after another. The excitement
    of a picture is the value that the ascent maximises.
    """

    # Index of the latest step at this octave, counted from 0; -1 before the first step.
    step: Int[Array, "*batch"]
    # The last picture, in [0, 1], whose excitement was computed and found to be finite. If there is
    # none yet, the picture from which the octave starts.
    canvas: Float[Array, "*batch h w 3"]
    # The excitement of `canvas`; NaN before the first step. If `broke_at` is not -1, it is the
    # excitement that the latest step computed, of a picture that did not become `canvas`: from step
    # `broke_at` on, `canvas` stays as it is.
    excitement: Excitement
    # The picture whose excitement is computed next: `canvas`, changed by one step. Before the first
    # step, the picture from which the octave starts. It has no meaning if `broke_at` is not -1.
    pending: Float[Array, "*batch h w 3"]
    # Index of the first step at this octave at which the excitement was not finite; -1 if there is
    # none.
    broke_at: Int[Array, "*batch"]


def begin(image: Image, ascent: Ascent) -> DreamState:
    """Make the state from which the ascent at one size of the picture (an octave) starts.

    No activations are computed yet.

    Args:
      image: the picture to start from, [h, w, 3] in [0, 1], at least 16 px on each side. The
        pictures of the whole ascent have its dtype.
      ascent: the settings, of which only the names of the layers, `taps`, are used.

    Returns:
      A `DreamState` with `step == -1`, whose fields `canvas` and `pending` are `image`. The first call
      of `climb` computes the activations of this image.

    Raises:
      TypeError: if `image` is not an array.
      ValueError: if `image` is not one image [h, w, 3], if a side is too small, or if its numbers are
        not floating point.
    """
    _checks.array("image", image, "the order is begin(image, ascent)")
    _check_picture("image", image)
    # The excitement may be too large for float16.
    unknown = jnp.asarray(jnp.nan, sum_dtype(image.dtype))
    return DreamState(
        step=jnp.asarray(-1, jnp.int32),
        canvas=image,
        excitement=Excitement(unknown, dict.fromkeys(ascent.taps, unknown)),
        pending=image,
        broke_at=jnp.asarray(-1, jnp.int32),
    )


def climb(
    params: Params, state: DreamState, ascent: Ascent, key: Array, guide: Features | None = None
) -> DreamState:
    """Make one step: change the picture `state.pending` along the gradient of its excitement.

    The excitement is the value that the ascent maximises, such as the mean square of the activations.
    This step computes the excitement of `state.pending`, which therefore becomes the new `canvas`. The
    changed picture becomes the new `pending`; the next step computes its excitement.

    Before the excitement is computed, the picture is shifted by a random number of pixels (jitter).
    Afterwards the gradient is shifted back. Because of this, the grid of the network's poolings leaves
    no pattern in the picture. Pixels that are shifted out of the picture on one side come in on the
    opposite side. The gradient is divided by its standard deviation, and the changed picture is
    clipped to [0, 1].

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `begin` or an earlier `climb`.
      ascent: taps (layers), their weights, step size, jitter and network.
      key: a JAX random key for the shifts; the shift of a step depends on the key and on `state.step`.
      guide: features [h', w', c] by tap, from `nst_jax.features`, of the guide: a picture whose
        activations the dream imitates. With None, the mean squares of the picture's own activations are
        maximised.

    Returns:
      The next `DreamState`. If the excitement of `state.pending` is not finite, and was finite in all
      steps before, `broke_at` becomes the index of this step. From this step on, `canvas` stays as it
      was.

    Raises:
      ValueError: if `state` is that of a batch, which `jax.vmap` takes; if the taps of the guide's
        features are not exactly those of `ascent`; if `ascent` does not have one weight for each tap;
        or if the sum of these weights is 0, which is not checked where they are traced.
    """
    _check_picture("state.pending", state.pending)
    widest = jnp.asarray(ascent.jitter, jnp.int32)
    shift = jax.random.randint(jax.random.fold_in(key, state.step + 1), (2,), -widest, widest + 1)
    moved = jnp.roll(state.pending, shift, (0, 1))
    found, gradient = _excitement_and_gradient(params, moved, ascent, guide)
    # Dividing by the standard deviation follows TensorFlow's tutorial. Google's notebook `dream.ipynb`
    # divides by the mean of the magnitudes instead. For normally distributed numbers, that mean is 0.8
    # times the standard deviation, so the notebook's steps are 1.25 times as large for an equal
    # `step_size`.
    change = jnp.roll(_normalized(gradient), -shift, (0, 1))
    finite = jnp.isfinite(found.total)
    broke_at = jnp.where(~finite & (state.broke_at < 0), state.step + 1, state.broke_at)
    step_size = jnp.asarray(ascent.step_size, state.pending.dtype)
    return DreamState(
        step=state.step + 1,
        canvas=jnp.where(broke_at < 0, state.pending, state.canvas),
        excitement=jax.tree.map(lambda x: x.astype(sum_dtype(state.pending.dtype)), found),
        pending=jnp.clip(state.pending + step_size * change, 0.0, 1.0),
        broke_at=broke_at,
    )


def _normalized(gradient: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Return the gradient divided by its standard deviation; a gradient of zeros stays as it is."""
    # TensorFlow's tutorial adds 1e-8 to the standard deviation, so its steps become smaller if the
    # standard deviation is about as small as 1e-8, as it may be for a large picture or for small
    # weights. Here nothing is added. Instead, the gradient is first divided by its largest magnitude,
    # so that the squares in the standard deviation neither overflow nor underflow in float32.
    largest = jnp.max(jnp.abs(gradient))
    scaled = gradient / jnp.where(largest > 0, largest, jnp.ones_like(largest))
    deviation = jnp.std(scaled)
    return scaled / jnp.where(deviation > 0, deviation, jnp.ones_like(deviation))


def ascend(
    params: Params,
    state: DreamState,
    ascent: Ascent,
    key: Array,
    steps: Int[Array, ""] | int,
    guide: Features | None = None,
) -> tuple[DreamState, Excitement]:
    """Make several steps of the ascent at one octave, in one `fori_loop`.

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `begin` or an earlier call.
      ascent: taps (layers), their weights, step size, jitter and network.
      key: a JAX random key for the jitter, the random shift of the picture in each step. If every call
        gets the same key, the result does not depend on how the steps are divided among the calls.
      steps: number of steps; if it is larger than `optimize.CAPACITY` (256), only 256 steps are made.
        The number is traced, so another number does not compile another program.
      guide: features [h', w', c] by tap, from `nst_jax.features`, of the guide: a picture whose
        activations the dream imitates. With None, the mean squares of the picture's own activations are
        maximised.

    Returns:
      The state after the last step; and the excitement that each step computed, as an `Excitement` of
      arrays [CAPACITY], whose entries after the first `steps` are NaN.

    Raises:
      ValueError: as in `climb`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> params, grey = nst.load_params(), jnp.full((32, 32, 3), 0.5)
      >>> ascent = nst.dreams.Ascent(taps=("relu2_1",), jitter=4)
      >>> state = nst.dreams.begin(grey, ascent)
      >>> state, found = jax.jit(nst.dreams.ascend)(params, state, ascent, jax.random.key(0), 4)
      >>> int(state.step), bool(found.total[3] > found.total[0])
      (3, True)
    """
    params = vgg.with_forms(params, ascent.taps, precision=ascent.network.precision_on())
    history = jax.tree.map(lambda x: jnp.full(CAPACITY, jnp.nan, x.dtype), state.excitement)

    def body(
        index: Int[Array, ""], carry: tuple[DreamState, Excitement]
    ) -> tuple[DreamState, Excitement]:
        state, history = carry
        state = climb(params, state, ascent, key, guide)
        return state, jax.tree.map(lambda h, x: h.at[index].set(x), history, state.excitement)

    return lax.fori_loop(0, jnp.minimum(steps, CAPACITY), body, (state, history))


# --- What is maximised ----------------------------------------------------------------------------


def excitement(
    params: Params, image: Image, ascent: Ascent, guide: Features | None = None
) -> Excitement:
    """Compute the value that a dream maximises, for a picture as it is (without jitter).

    Let f_i be the vector of C activations at position i of N positions of a tap (layer). The excitement
    at this tap is sum_i |f_i|² / (N C). With a guide, whose activations at position j are g_j, it is
    sum_i max_j <f_i, g_j> / (N C). The gradient of this sum moves every f_i towards that g_j which has
    the largest dot product with f_i.

    Args:
      params: weights from `nst_jax.load_params`.
      image: [h, w, 3] in [0, 1].
      ascent: taps, their weights and network. If the image is larger than `network.tile`, it is
        computed in tiles to save memory. `jax.grad` of this function would still keep the activations
        of all tiles in memory, so `climb` computes the same gradient in another way.
      guide: the guide's features [h', w', c] by tap, as `nst_jax.features` returns them; with None,
        the mean squares are returned.

    Returns:
      The excitement at each tap, and their weighted mean.

    Raises:
      TypeError: if `image` is not an array.
      ValueError: if `image` is not one image [h, w, 3] of floating point numbers, or is too small; if
        the taps of the guide's features are not exactly those of `ascent`; if `ascent` does not have
        one weight for each tap; or if the sum of these weights is 0, which is not checked where they
        are traced.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> ascent = nst.dreams.Ascent(taps=("relu1_1", "relu2_1"), weights=(1.0, 3.0))
      >>> found = jax.jit(nst.dreams.excitement)(nst.load_params(), grey, ascent)
      >>> sorted(found.taps), found.total.shape
      (['relu1_1', 'relu2_1'], ())

    References:
      google/deepdream, `dream.ipynb`: `objective_L2` gives the gradient of sum_i |f_i|² / 2, and
      `objective_guide` gives the gradient of sum_i max_j <f_i, g_j>, both for a single layer.
    """
    _check_picture("image", image)
    _check_guide(guide, ascent)
    grid = tile_grid.grid_of((image.shape[-3], image.shape[-2]), ascent.taps, ascent.network)
    if grid is None:
        sums = _sums(params, ascent, guide, None, image, 0)
    else:
        of_window = partial(_sums, params, ascent, guide, grid)
        wide = tiles.surrounded(image, grid)
        sums = tiles.summed(grid, lambda index: of_window(tiles.window(wide, grid, index), index))
    return _weighted(sums, _factors(image, ascent), ascent)


def _excitement_and_gradient(
    params: Params, image: Image, ascent: Ascent, guide: Features | None
) -> tuple[Excitement, Image]:
    """Return the `Excitement` of `image`, and the gradient of its `total` with respect to `image`."""
    _check_guide(guide, ascent)
    factors = _factors(image, ascent)
    shares = _shares(ascent)
    # The total is a weighted sum of the sums that `_sums` returns. Its gradient with respect to them
    # (the cotangent) is their weights, which do not depend on the image's pixels. So the cotangent is
    # known before the sums are, and each tile is computed only once, for its sums and its gradient.
    cotangent = {tap: shares[tap] * factors[tap] for tap in ascent.taps}
    grid = tile_grid.grid_of((image.shape[0], image.shape[1]), ascent.taps, ascent.network)
    of_window = partial(_sums, params, ascent, guide, grid)
    if grid is None:
        sums, pull = jax.vjp(lambda pixels: of_window(pixels, 0), image)
        (gradient,) = pull(cotangent)
    else:
        wide, pull = jax.vjp(lambda pixels: tiles.surrounded(pixels, grid), image)
        sums, of_wide = tiles.summed_with_gradient(wide, grid, of_window, cotangent)
        (gradient,) = pull(of_wide)
    return _weighted(sums, factors, ascent), gradient


def _sums(
    params: Params,
    ascent: Ascent,
    guide: Features | None,
    grid: Grid | None,
    image: Image,
    index: Index,
) -> dict[str, Scalar]:
    """Return, for each tap (layer), the sum of the squared activations of a picture or of a tile.

    With a guide, it is the sum of the products of the activations with the best-matching activations of
    the guide. The excitement at a tap is the sum over the whole picture, divided by the number of
    activations.

    Args:
      params: the weights of VGG-19.
      ascent: taps and network.
      guide: the guide's features [h', w', c] by tap, or None.
      grid: how the picture is cut into tiles; None if `image` is the whole picture.
      image: the whole picture; or a tile with its halo, which is the margin of pixels around the tile
        on which the tile's activations depend. Activations in the halo do not count.
      index: number of the tile; not used for a whole picture.
    """
    products = ascent.network.precision_on().products

    def measure(tap: str, found: FeatureMap) -> Scalar:
        found = found if grid is None else tiles.core(found, grid, index, tap)
        if guide is None:
            return jnp.sum(jnp.square(at_least_float32(found)))
        rows = found.reshape(-1, found.shape[-1])
        matches = _best_matches(rows, guide[tap].reshape(-1, found.shape[-1]), products)
        return jnp.sum(at_least_float32(found) * at_least_float32(matches.reshape(found.shape)))

    measures = {tap: partial(measure, tap) for tap in ascent.taps}
    return vgg.measured(params, image, measures, network=ascent.network)


def _best_matches(
    rows: Float[Array, "n c"], guide: Float[Array, "m c"], products: lax.Precision
) -> Float[Array, "n c"]:
    """Return for each row of `rows` the row of `guide` that has the largest dot product with it.

    A row has the activations of all channels at one position. The gradient treats the returned rows as
    constants, as in google/deepdream's `dream.ipynb`.
    """
    guide = lax.stop_gradient(guide).astype(rows.dtype)

    def of_row(row: Float[Array, " c"]) -> Float[Array, " c"]:
        return guide[jnp.argmax(jnp.matmul(guide, row, precision=products))]

    return lax.map(of_row, lax.stop_gradient(rows), batch_size=MATCHED_AT_ONCE)


def _shares(ascent: Ascent) -> dict[str, Any]:
    """Return a dictionary: tap (layer) -> its weight in `ascent`, divided by the sum of all weights."""
    weights, taps = len(ascent.weights), len(ascent.taps)
    if weights != taps:
        raise ValueError(
            f"`ascent.weights`: expected {taps}, one for each tap ({', '.join(ascent.taps)}), got "
            f"{weights}"
        )
    whole = reduce(operator.add, ascent.weights)
    if not isinstance(whole, jax.core.Tracer) and np.any(np.asarray(whole) == 0):
        raise ValueError(
            "`ascent.weights`: their sum, by which each is divided, is 0; give a weight above 0"
        )
    return {tap: weight / whole for tap, weight in zip(ascent.taps, ascent.weights, strict=True)}


def _factors(image: Image, ascent: Ascent) -> dict[str, Any]:
    """Return, for each tap (layer), 1 / (number of activations): the factor from a sum to a mean."""
    found = {}
    for tap in ascent.taps:
        height, width = vgg.feature_shape(
            tap, image.shape[-3], image.shape[-2], ascent.network.ceil
        )
        count = height * width * vgg.LAYERS[vgg.layer_of(tap)][1]
        found[tap] = jnp.asarray(1 / count, sum_dtype(image.dtype))
    return found


def _weighted(sums: dict[str, Scalar], factors: dict[str, Any], ascent: Ascent) -> Excitement:
    means = {tap: factors[tap] * sums[tap] for tap in ascent.taps}
    shares = _shares(ascent)
    return Excitement(
        reduce(operator.add, [shares[tap] * means[tap] for tap in ascent.taps]), means
    )


def _check_picture(argument: str, image: Any) -> None:
    """Refuse anything but one image [h, w, 3]; `argument` is the caller's name for it in messages."""
    _checks.one_image(argument, image, smallest=vgg.SMALLEST, advice="`jax.vmap` takes a batch")


def _check_guide(guide: Features | None, ascent: Ascent) -> None:
    if guide is not None and set(guide) != set(ascent.taps):
        raise ValueError(
            f"`guide`: has features at {', '.join(guide)}, and the dream's taps are "
            f"{', '.join(ascent.taps)}; `nst_jax.features(params, guide, taps)` gives them"
        )
