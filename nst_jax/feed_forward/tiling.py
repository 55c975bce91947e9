"""Pictures too large for memory, painted in horizontal strips, with the same result as in one piece.

    available = scaling.capacity.available()  # bytes of memory
    strip = feed_forward.strip_for(params, content.shape[:2], available=available)
    if strip:
        image = feed_forward.paint_in_strips(params, content, condition, strip=strip)
    else:
        image = feed_forward.stylize_with(params, content, condition)   # or `stylize_mixture`

An instance norm needs the mean and variance of whole features, which depend on all norms before it. So
the picture is passed strip by strip through the layers up to the first norm, to measure its mean and
variance; then up to the next norm, and so on. Each pass starts from the last features that were kept on
the host. Features are kept if they are no larger than the picture, such as those at a quarter of its
height and width, where most layers are. Larger features are computed again in each pass. The rows
around a strip that its convolutions need (its halo) are computed with the strip. Mirrored rows are used
only where the picture ends. So the result differs only by rounding from that of a single piece.

The device holds one strip at a time. The host holds the picture, the result, and at most three arrays
that are not larger than the picture. About twice as much is computed as for a single piece.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._compile import Jitted
from nst_jax._types import HostImage, Params
from nst_jax.feed_forward import arbitrary, styles26
from nst_jax.feed_forward.layers import conv2d, normalized, upsample
from nst_jax.feed_forward.transformer import (
    DIVISOR,
    SMALLEST,
    Conditions,
    TransformerLayer,
    TransformerLayers,
    activated,
    check_network,
    widened,
)
from nst_jax.losses import at_least_float32
from nst_jax.vgg.layers import BIAS, KERNEL
from nst_jax.vgg.precision import AUTO, AnyPrecision, Precision, precision_on

LEAST = 16  # smallest number of rows of a strip

# Features are kept on the host if they have at most this many numbers for each pixel of the picture.
# The picture itself has three.
KEPT = 3

Report = Callable[[int, int], None]  # called with the numbers of strips done and of all strips

# --- Passes ---------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """One pass over the picture: from the features that were kept last through the layers that follow.

    Attributes:
      first: index of the first layer that is computed.
      last: index of the last layer, whose features are measured for its norm.
      kept: whether the features of the last layer are kept; then the next pass starts from them.
    """

    first: int
    last: int
    kept: bool


def passes_of(layers: TransformerLayers) -> list[Pass]:
    """Return the passes that a network needs.

    Args:
      layers: the table of the network's layers.

    Returns:
      The passes, in their order.

    Example:
      >>> [tuple(one) for one in passes_of(arbitrary.LAYERS)][-4:]
      [(12, 12, True), (13, 13, False), (13, 14, False), (13, 15, True)]
    """
    passes, first, scale = [], 0, 1.0
    for index, layer in enumerate(layers):
        scale *= (2 if layer.upsampled else 1) / layer.stride
        in_block = layer.begins or layer.ends or layers[min(index + 1, len(layers) - 1)].begins
        kept = in_block or layer.channels * scale**2 <= KEPT or layer is layers[-1]
        if kept or layer.normed:
            passes.append(Pass(first, index, kept))
        if kept:
            first = index + 1
    return passes


class Step(NamedTuple):
    """How one layer of a pass is computed for one strip.

    Steps are a static argument of the compiled function `THROUGH`. They are equal for most strips,
    which therefore share one compiled program.

    Attributes:
      upsampled: whether both sides are doubled before the convolution.
      start: number of rows to drop at the top of the strip, after the doubling.
      taken: number of rows to take after these.
      top: number of mirrored rows to add above the strip, 0 unless the picture ends there.
      bottom: number of mirrored rows to add below the strip, 0 unless the picture ends there.
      margin: number of mirrored columns to add at the left, and at the right.
      stride: stride of the convolution.
    """

    upsampled: bool
    start: int
    taken: int
    top: int
    bottom: int
    margin: int
    stride: int


def steps_for(
    layers: TransformerLayers, height: int, first: int, last: int
) -> tuple[tuple[Step, ...], tuple[int, int]]:
    """Return the steps that compute rows `first` to `last - 1` of the last layer's features.

    Args:
      layers: the layers of a pass.
      height: number of rows of the features from which the pass starts.
      first: index of the first wanted row.
      last: index of the row after the last wanted row.

    Returns:
      The steps, one for each layer; and which rows they need of the features from which the pass
      starts: the index of the first needed row, and that of the row after the last needed row.

    Example:
      >>> steps, rows = steps_for(arbitrary.LAYERS[:3], 64, 4, 8)
      >>> rows, [(step.top, step.taken, step.bottom) for step in steps]
      ((9, 36), [(0, 27, 0), (0, 19, 0), (0, 9, 0)])
    """
    heights = []  # number of rows that each layer convolves: those of its input, after any doubling
    for layer in layers:
        heights.append(height * (2 if layer.upsampled else 1))
        height = heights[-1] // layer.stride
    steps: list[Step] = []
    for layer, rows in zip(reversed(layers), reversed(heights), strict=True):
        margin = layer.size // 2
        first, last = first * layer.stride - margin, (last - 1) * layer.stride + margin + 1
        top, bottom = max(0, -first), max(0, last - rows)
        first, last = first + top, last - bottom
        taken, start = last - first, 0
        if layer.upsampled:
            start = first % 2
            first, last = first // 2, -(-last // 2)
        steps.append(Step(layer.upsampled, start, taken, top, bottom, margin, layer.stride))
    return tuple(reversed(steps)), (first, last)


# --- One strip ------------------------------------------------------------------------------------


class Norm(NamedTuple):
    """The instance norm of a layer whose statistics are known."""

    mean: Float[Array, "1 1 1 c"]
    variance: Float[Array, "1 1 1 c"]
    gamma: Float[Array, "1 c"]
    beta: Float[Array, "1 c"]


def _through(
    kernels: list[dict[str, Array]],
    norms: list[Norm | None],
    x: Array,
    *,
    steps: tuple[Step, ...],
    precision: Precision,
    kept: bool,
) -> tuple[Array | None, Array, Array]:
    """Pass a strip through layers; return the last layer's convolved features, their mean and variance.

    Args:
      kernels: the parameters of each layer's convolution.
      norms: the norm of each layer but the last; None for a layer without a norm.
      x: the strip with the rows around it that the layers need, [1, h, w, c].
      steps: how each layer is computed.
      precision: precision of products and activations.
      kept: whether the features are returned; otherwise None takes their place.
    """
    x = x.astype(precision.activations_of(x.dtype))
    for step, kernel, norm in zip(steps, kernels, [*norms, None], strict=True):
        x = upsample(x) if step.upsampled else x
        x = _mirrored(x[:, step.start : step.start + step.taken], step)
        x = conv2d(x, kernel[KERNEL], stride=step.stride, products=precision.products)
        if BIAS in kernel:
            x = x + kernel[BIAS].astype(x.dtype)[None, None, None]
        if step is not steps[-1]:
            x = normalized(x, *norm) if norm is not None else x
            x = jnp.maximum(x, 0)
    wide = at_least_float32(x)
    mean = jnp.mean(wide, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=(1, 2), keepdims=True)
    return x if kept else None, mean, variance


def _mirrored(x: Array, step: Step) -> Array:
    edges = ((0, 0), (step.top, step.bottom), (step.margin, step.margin), (0, 0))
    return jnp.pad(x, edges, mode="reflect")


def _finish(y: Array, norm: Norm | None, before: Array, *, layer: TransformerLayer) -> Array:
    """Return a strip of a layer's output: its convolved features after norm and activation."""
    y = widened(layer, y)
    return activated(layer, y if norm is None else normalized(y, *norm), before)


THROUGH = Jitted(_through, static_argnames=("steps", "precision", "kept"))

FINISH = Jitted(_finish, static_argnames=("layer",))

# --- All strips -----------------------------------------------------------------------------------


def paint_in_strips(
    params: Params,
    content: HostImage,
    condition: Float[Array | np.ndarray, " k"],
    *,
    strip: int,
    precision: AnyPrecision = AUTO,
    report: Report | None = None,
) -> HostImage:
    """Paint a picture as `stylize_with` or `stylize_mixture` does, with one strip at a time in memory.

    Args:
      params: weights from `load_arbitrary` or `load_styles26`; they decide which network paints.
      content: [h, w, 3] sRGB in [0, 1] on the host, of any size from 16 px.
      condition: a style vector [100], or the shares of the 26 styles [26].
      strip: number of rows of a strip, at least 16, from `strip_for`. The strips are made about equally
        high, with a multiple of 4 rows.
      precision: precision of products and activations; `AUTO` is float32 on a CPU and tensorfloat32
        on an accelerator.
      report: called after each strip of each pass with the numbers of strips done and of all strips;
        both count the strips of all passes.

    Returns:
      [h, w, 3] float32 in [0, 1] on the host.

    Raises:
      TypeError: if `params` is no `Params`, `content` is no array, or `strip` is no whole number.
      ValueError: for weights of another network; for a `content` that has another shape, is smaller
        than 16 px, or is not floating point; for a `condition` that does not fit the network; or for a
        `strip` of less than 16.

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.feed_forward import load_styles26
      >>> content, shares = nst.images.sample("chelsea")[:40, :32], np.eye(26, dtype=np.float32)[3]
      >>> paint_in_strips(load_styles26(), np.asarray(content), shares, strip=16).shape
      (40, 32, 3)
    """
    _checks.whole("strip", strip, least=LEAST)
    _checks.array("content", content, "`nst_jax.images.load` reads one")
    _checks.image_shape("content", content.shape, smallest=SMALLEST)
    _checks.floating("content", content.dtype)
    layers, conditions = _network(params, condition)
    height, width = content.shape[:2]
    edges = ((0, -height % DIVISOR), (0, -width % DIVISOR), (0, 0))
    x = np.pad(np.asarray(content, np.float32), edges, mode="reflect")
    rows = -(-x.shape[0] // -(-x.shape[0] // strip))  # strips of equal height
    rows = -(-rows // DIVISOR) * DIVISOR
    painter = _Painter(layers, params, conditions, precision_on(precision), report)
    return painter.paint(x, rows)[:height, :width]


def _network(params: Params, condition: Any) -> tuple[TransformerLayers, Conditions]:
    """Return the table of the network that the weights belong to, and its gammas and betas by layer."""
    is_arbitrary = isinstance(params, Params) and "predictor" in params.layers
    module: Any = arbitrary if is_arbitrary else styles26
    loader = "load_arbitrary" if is_arbitrary else "load_styles26"
    check_network(params, "conditions", loader)
    length = arbitrary.VECTOR if is_arbitrary else styles26.STYLES
    if tuple(np.shape(condition)) != (length,):
        what = "a style vector" if is_arbitrary else "the shares of 26 styles"
        raise ValueError(
            f"`condition`: expected {what} [{length}], got shape {list(np.shape(condition))}"
        )
    row = jnp.asarray(condition, jnp.float32)[None]
    conditions_of = (
        arbitrary.conditions_of_vectors if is_arbitrary else styles26.conditions_of_shares
    )
    return module.LAYERS, conditions_of(params, row)


class _Painter:
    """Makes the passes over one picture, and holds the norms that are known so far."""

    def __init__(
        self,
        layers: TransformerLayers,
        params: Params,
        conditions: Conditions,
        precision: Precision,
        report: Report | None,
    ) -> None:
        self._layers, self._conditions, self._precision = layers, conditions, precision
        self._kernels = params.layers["transformer"]
        self._norms: dict[str, Norm] = {}
        self._report = report
        # Number of strips done, and number of strips to do in all; a strip counts once for each pass.
        self._done = self._all = 0

    def paint(self, x: np.ndarray, rows: int) -> np.ndarray:
        """Return the picture painted in strips of `rows` rows; both sides of `x` are multiples of 4."""
        before, full, passes = x, x.shape[0], passes_of(self._layers)
        self._all = -(-full // rows) * len(passes)
        for one in passes:
            layer = self._layers[one.last]
            if layer.begins:
                before = x
            y = self._pass(one, x, rows, full)
            if one.kept:
                x = self._in_place(layer, y, before, rows, full)
        return x

    def _pass(self, one: Pass, x: np.ndarray, rows: int, full: int) -> np.ndarray:
        """Make one pass over all strips, and store the norm of its last layer, if it has one.

        Args:
          one: the pass.
          x: the features from which the pass starts.
          rows: number of rows of the picture in a strip.
          full: number of rows of the picture.

        Returns:
          The last layer's convolved features; an empty array if the pass does not keep them.
        """
        layers = self._layers[one.first : one.last + 1]
        kernels = [dict(self._kernels[layer.name]) for layer in layers]
        norms = [self._norms.get(layer.name) for layer in layers[:-1]]
        shape = _shape_after(layers, x.shape)
        kept = np.empty(shape, self._dtype(layers[-1])) if one.kept else np.empty(0, np.float32)
        counts, means, variances = [], [], []
        for first, last in _strips(shape[0], rows * shape[0] // full):
            steps, (start, stop) = steps_for(layers, x.shape[0], first, last)
            y, mean, variance = THROUGH(
                kernels,
                norms,
                x[None, start:stop],
                steps=steps,
                precision=self._precision,
                kept=one.kept,
            )
            if one.kept:
                kept[first:last] = np.asarray(y[0])
            counts.append(last - first)
            means.append(np.asarray(mean, np.float64))
            variances.append(np.asarray(variance, np.float64))
            self._tell()
        if layers[-1].normed:
            self._norms[layers[-1].name] = self._norm(layers[-1].name, counts, means, variances)
        return kept

    def _norm(self, name: str, counts: Any, means: Any, variances: Any) -> Norm:
        """Return a layer's norm, given the number of rows, the mean and the variance of each strip."""
        share = (np.asarray(counts, np.float64) / sum(counts))[:, None, None, None, None]
        mean = np.sum(share * np.stack(means), axis=0)
        spread = np.stack(variances) + np.square(np.stack(means) - mean)
        variance = np.sum(share * spread, axis=0)
        return Norm(
            jnp.asarray(mean, jnp.float32),
            jnp.asarray(variance, jnp.float32),
            *self._conditions[name],
        )

    def _in_place(
        self, layer: TransformerLayer, y: np.ndarray, before: np.ndarray, rows: int, full: int
    ) -> np.ndarray:
        """Overwrite a layer's convolved features `y`, strip by strip, with its output; return `y`."""
        nameless = replace(layer, name="")  # so that layers with equal settings share a program
        norm = self._norms.get(layer.name)
        for first, last in _strips(y.shape[0], rows * y.shape[0] // full):
            part = before[None, first:last] if layer.ends else np.zeros((1, 1, 1, 1), y.dtype)
            y[first:last] = np.asarray(FINISH(y[None, first:last], norm, part, layer=nameless)[0])
        return y

    def _dtype(self, layer: TransformerLayer) -> Any:
        return jnp.float32 if layer.final else self._precision.activations_of(jnp.float32)

    def _tell(self) -> None:
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._all)


def _strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each strip, and the row after its last one."""
    for first in range(0, height, rows):
        yield first, min(first + rows, height)


def _shape_after(layers: TransformerLayers, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of the last layer's features if features of the given shape enter the first."""
    height, width = shape[:2]
    for layer in layers:
        times = 2 if layer.upsampled else 1
        height, width = height * times // layer.stride, width * times // layer.stride
    return height, width, layers[-1].channels
