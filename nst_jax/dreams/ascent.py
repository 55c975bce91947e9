"""The ascent of a dream at one octave (size): pure functions of a picture, so that a batch is a `vmap`.

Gradient ascent on the mean square of the activations at some taps makes the network's guesses stronger:
what looks a little like an eye becomes an eye. With a guide, a second picture, the activations are
pulled towards those of the guide instead.

A state has two pictures: the canvas, whose excitement (the value that is maximised) is known, and a
pending canvas, which the next step measures. So a step costs one evaluation of the excitement and its
gradient.

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
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax import _checks, vgg
from nst_jax._types import FeatureMap, Features, Image, Params, Scalar
from nst_jax.losses import at_least_float32
from nst_jax.optimize import CAPACITY
from nst_jax.scaling import tiles
from nst_jax.scaling.tiles import Grid, Index
from nst_jax.vgg.precision import BFLOAT16

# Number of positions whose dot products with all positions of the guide are in memory at a time.
MATCHED_AT_ONCE = 1024


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Ascent:
    """What a dream maximises, and how far it goes with each step.

    Attributes:
      taps: names of the taps (layers) as `vgg.resolve_tap` returns them. Static.
      weights: weight of each tap; only their ratios matter, since the gradient is normalised.
      step_size: standard deviation of the change of the pixels by a step; black and white differ by 1.
      jitter: largest number of pixels by which the picture is shifted, at random, before each step.
      network: how VGG-19 is computed; its `tile` cuts a large picture into tiles. Static.
    """

    taps: tuple[str, ...] = field(default=("relu4_3",), metadata={"static": True})
    weights: tuple[float, ...] = (1.0,)
    step_size: float = 0.0075
    jitter: int = 32
    network: vgg.Network = field(
        default=vgg.Network(accelerator_precision=BFLOAT16), metadata={"static": True}
    )


class Excitement(NamedTuple):
    """How strongly a picture excites the taps of a dream; `total` is what is maximised."""

    total: Scalar  # the weighted mean of `taps`
    # tap -> mean square of its activations; with a guide, the mean product of the activations with the
    # guide's best-matching activations (see `excitement`)
    taps: dict[str, Scalar]


class DreamState(NamedTuple):
    """The state of the ascent at one octave. Made by `begin`, advanced by `climb`."""

    step: Int[Array, "*batch"]  # steps so far at this octave; -1: nothing is measured yet
    canvas: Float[Array, "*batch h w 3"]  # the last canvas measured, or the start; in [0, 1]
    excitement: Excitement  # of `canvas`; if `broke_at` is not -1, of a rejected canvas: not finite
    pending: Float[Array, "*batch h w 3"]  # the canvas that is measured next, one step further
    broke_at: Int[Array, "*batch"]  # first step at this octave with excitement not finite, or -1


def begin(image: Image, ascent: Ascent) -> DreamState:
    """Make a fresh state whose pending canvas is `image`; nothing is measured yet.

    Args:
      image: [h, w, 3] in [0, 1]; the whole ascent uses its dtype.
      ascent: gives the taps.

    Returns:
      A `DreamState` with `step == -1`; its first `climb` measures the image.

    Raises:
      TypeError: if `image` is not an array.
      ValueError: if its shape is not [h, w, 3], or its numbers are not floating point.
    """
    _checks.array("image", image, "the order is begin(image, ascent)")
    _checks.image_shape("image", image.shape, smallest=vgg.SMALLEST)
    _checks.floating("image", image.dtype)
    unknown = jnp.asarray(jnp.nan, image.dtype)
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
    """Measure the pending canvas, keep it, and propose one that is a step further up the gradient.

    The picture is shifted by a random number of pixels before it is measured, and its gradient is
    shifted back (jitter), so that the network's grid of poolings leaves no pattern. What leaves the
    picture on one side comes in on the other. The gradient is divided by its standard deviation, and
    the new canvas is clipped to [0, 1].

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `begin` or an earlier `climb`.
      ascent: taps, weights, step size, jitter and network.
      key: a JAX random key for the shifts; the shift of a step depends on the key and on `state.step`.
      guide: the guide's features [h', w', c] by tap, as `nst_jax.features` returns them; None maximises
        the mean squares.

    Returns:
      The next `DreamState`. A canvas whose excitement is not finite is never kept; `broke_at` then
      becomes the number of the step.
    """
    widest = jnp.asarray(ascent.jitter, jnp.int32)
    shift = jax.random.randint(jax.random.fold_in(key, state.step + 1), (2,), -widest, widest + 1)
    moved = jnp.roll(state.pending, shift, (0, 1))
    found, gradient = _excitement_and_gradient(params, moved, ascent, guide)
    # Divided by the standard deviation, as in TensorFlow's tutorial. `dream.ipynb` divides by the mean
    # of the magnitudes instead, which for normal noise is 0.8 times the standard deviation.
    change = jnp.roll(_normalized(gradient), -shift, (0, 1))
    finite = jnp.isfinite(found.total)
    broke_at = jnp.where(~finite & (state.broke_at < 0), state.step + 1, state.broke_at)
    step_size = jnp.asarray(ascent.step_size, state.pending.dtype)
    return DreamState(
        step=state.step + 1,
        canvas=jnp.where(broke_at < 0, state.pending, state.canvas),
        excitement=jax.tree.map(lambda x: x.astype(state.pending.dtype), found),
        pending=jnp.clip(state.pending + step_size * change, 0.0, 1.0),
        broke_at=broke_at,
    )


def _normalized(gradient: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Return the gradient divided by its standard deviation; zeros stay zeros."""
    # TensorFlow's tutorial adds 1e-8 to the deviation, so its steps become smaller if the gradient is
    # as small as that, which depends on the size of the picture and on the scale of the weights. Here
    # nothing is added. The gradient is first divided by its largest magnitude, so that the squares in
    # the deviation never leave the range of float32.
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
    """Make `steps` steps, at most `optimize.CAPACITY`, in one `fori_loop`.

    Args:
      params: weights from `nst_jax.load_params`.
      state: the state from `begin` or an earlier call.
      ascent: taps, weights, step size, jitter and network.
      key: a JAX random key for the shifts. The same key in every call gives the same picture, however
        the steps are divided among the calls.
      steps: number of steps; it is traced, so that another number does not compile another program.
      guide: the guide's features [h', w', c] by tap, as `nst_jax.features` returns them; None maximises
        the mean squares.

    Returns:
      The state, and the excitement after each step: arrays [CAPACITY], filled in the first `steps`
      places and NaN in the rest.

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
    """Compute how strongly a picture excites the taps of a dream, without jitter.

    At a tap with the activations f_i at N positions with C channels, the excitement is
    sum_i |f_i|² / (N C). With a guide, whose activations are g_j, it is sum_i max_j <f_i, g_j> / (N C),
    whose gradient moves every f_i towards the g_j that has the largest dot product with it.

    Args:
      params: weights from `nst_jax.load_params`.
      image: [h, w, 3] in [0, 1].
      ascent: taps, weights and network. If `network.tile` cuts the image into tiles, the function is
        not differentiable in reverse mode; `climb` computes the gradient of tiles itself.
      guide: the guide's features [h', w', c] by tap, as `nst_jax.features` returns them; None for the
        mean squares.

    Returns:
      The `Excitement`.

    Raises:
      ValueError: if the guide does not have features at just the taps of `ascent`, or if the image is
        too small.

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
      `objective_guide` that of sum_i max_j <f_i, g_j>, both for a single layer.
    """
    _check_guide(guide, ascent)
    grid = tiles.grid_of((image.shape[-3], image.shape[-2]), ascent.taps, ascent.network)
    if grid is None:
        sums = _sums(params, ascent, guide, None, image, 0)
    else:
        of_window = partial(_sums, params, ascent, guide, grid)
        sums = tiles.summed(grid, lambda index: of_window(tiles.window(image, grid, index), index))
    return _weighted(sums, _factors(image, ascent), ascent)


def _excitement_and_gradient(
    params: Params, image: Image, ascent: Ascent, guide: Features | None
) -> tuple[Excitement, Image]:
    """Return the excitement and the gradient of its total with respect to the image."""
    _check_guide(guide, ascent)
    factors = _factors(image, ascent)
    shares = _shares(ascent)
    # The total is linear in the sums over positions, so their cotangent does not depend on the image.
    cotangent = {tap: shares[tap] * factors[tap] for tap in ascent.taps}
    grid = tiles.grid_of((image.shape[0], image.shape[1]), ascent.taps, ascent.network)
    of_window = partial(_sums, params, ascent, guide, grid)
    if grid is None:
        sums, pull = jax.vjp(lambda pixels: of_window(pixels, 0), image)
        (gradient,) = pull(cotangent)
    else:
        sums, gradient = tiles.summed_with_gradient(image, grid, of_window, cotangent)
    return _weighted(sums, factors, ascent), gradient


def _sums(
    params: Params,
    ascent: Ascent,
    guide: Features | None,
    grid: Grid | None,
    image: Image,
    index: Index,
) -> dict[str, Scalar]:
    """Return, for each tap, the sum over positions of which its excitement is the mean.

    The terms are the squares of the activations or, with a guide, their products with the guide's
    best-matching activations. For a tile, the sum is over the positions of the tile without its halo,
    the margin of pixels around the tile on which its activations depend.

    Args:
      params: the weights.
      ascent: taps and network.
      guide: the guide's features by tap, or None.
      grid: how the picture is cut into tiles; None if `image` is the whole picture.
      image: the picture, or the window of a tile: the tile with its halo.
      index: number of the tile.
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
    """Return for each row the row of the guide whose dot product with it is largest.

    The gradient treats these rows as constants, as in `dream.ipynb`.
    """
    guide = lax.stop_gradient(guide).astype(rows.dtype)

    def of_row(row: Float[Array, " c"]) -> Float[Array, " c"]:
        return guide[jnp.argmax(jnp.matmul(guide, row, precision=products))]

    return lax.map(of_row, lax.stop_gradient(rows), batch_size=MATCHED_AT_ONCE)


def _shares(ascent: Ascent) -> dict[str, Any]:
    """Return the weight of each tap, divided by the sum of all weights."""
    whole = reduce(operator.add, ascent.weights)
    return {tap: weight / whole for tap, weight in zip(ascent.taps, ascent.weights, strict=True)}


def _factors(image: Image, ascent: Ascent) -> dict[str, Any]:
    """Return 1 / (number of activations) of each tap, in the dtype of the sums."""
    found = {}
    for tap in ascent.taps:
        height, width = vgg.feature_shape(
            tap, image.shape[-3], image.shape[-2], ascent.network.ceil
        )
        count = height * width * vgg.LAYERS[vgg.layer_of(tap)][1]
        found[tap] = jnp.asarray(1 / count, jnp.promote_types(image.dtype, jnp.float32))
    return found


def _weighted(sums: dict[str, Scalar], factors: dict[str, Any], ascent: Ascent) -> Excitement:
    means = {tap: factors[tap] * sums[tap] for tap in ascent.taps}
    shares = _shares(ascent)
    return Excitement(
        reduce(operator.add, [shares[tap] * means[tap] for tap in ascent.taps]), means
    )


def _check_guide(guide: Features | None, ascent: Ascent) -> None:
    if guide is not None and set(guide) != set(ascent.taps):
        raise ValueError(
            f"`guide`: has features at {', '.join(guide)}, and the dream's taps are "
            f"{', '.join(ascent.taps)}; `nst_jax.features(params, guide, taps)` gives them"
        )
