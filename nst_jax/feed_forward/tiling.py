"""Painting of pictures that are too large for memory, in horizontal strips, as if in one piece.

    available = scaling.capacity.available()  # bytes of memory
    strip = feed_forward.strip_for(params, content.shape[:2], available=available)
    if strip:
        image = feed_forward.paint_in_strips(params, content, condition, strip=strip)
    else:
        image = feed_forward.stylize_with(params, content, condition)   # or `stylize_mixture`

Here, `condition` is a style vector, or the weights of the 26 styles in a mixture.

An instance norm needs the mean and variance of the features of the whole picture, and these depend on
all instance norms before it. So the network is computed in several passes over the picture, strip by
strip. A pass ends with the next layer with a norm whose mean and variance are still unknown, or with an
earlier layer, without a norm, whose features are kept. The pass measures the mean and variance of the
features of its last layer. If these features are not larger than the picture, they are kept: they are
stored on the host, and the next pass starts from them. Larger features are computed again in the next
pass. Most layers have 32 channels at a quarter of the picture's height and width. Their features are
kept, since they have 2 numbers for each pixel of the picture, and the picture itself has 3.

A strip is computed together with the rows above and below it that its convolutions need. Rows are
mirrored only where the picture ends. So the result differs from that of painting in one piece only by
rounding.

The device holds one strip at a time. The host holds at most four arrays that are not larger than the
picture: the picture, the features from which a pass starts, the features that the pass keeps, and the
input of the current residual block. Since some layers are computed again, the passes compute about 1.9
times as many products as painting in one piece with the network `styles26`, and 1.3 times as many with
`arbitrary`. The rows around each strip are computed in addition.
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
from nst_jax.vgg.layers.convolution import BIAS, KERNEL
from nst_jax.vgg.precision import AUTO, AnyPrecision, Precision, precision_on

# Smallest number of rows of the picture that the argument `strip` may request for a strip. The rows are
# then divided about evenly among the strips, so a strip can have fewer rows, such as 12.
LEAST = 16

# The features of layers in residual blocks, and of the layer before the first block, are always stored
# on the host between two passes. Those of other layers are stored only if they have at most this many
# numbers for each pixel of the picture; if not, the next pass computes them again. The picture itself
# has 3, so such float32 features take no more memory than the picture.
KEPT = 3

# A function that shows progress. It is called with the number of strips done and the number of all
# strips; a strip counts once for each pass over the picture.
Report = Callable[[int, int], None]

# --- Passes ---------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """Which layers are computed in one pass over all strips of a picture.

    Attributes:
      first: index of the first layer that is computed. Its input is the features that were last stored
        on the host, or the picture if none were stored yet.
      last: index of the last layer that is computed. If it has an instance norm, the pass measures the
        mean and variance of its convolved features, which the norm needs.
      kept: whether the features of the last layer are stored on the host, so that the next pass starts
        from them.
    """

    first: int
    last: int
    kept: bool


def passes_of(layers: TransformerLayers) -> list[Pass]:
    """Return the passes over all strips in which a network paints a picture.

    Each pass computes some of the network's layers, for one strip after another. Several passes are
    needed, since an instance norm needs the mean and variance of features over the whole picture.

    Args:
      layers: the network's layers, in their order.

    Returns:
      The passes in their order, each as the fields (first, last, kept) of `Pass`.

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
    """How one layer is computed for one strip, in one of the passes over the picture.

    Steps are a static argument of the compiled function `THROUGH`. They are equal for most strips,
    which therefore share one compiled program.

    Attributes:
      upsampled: whether the height and width of the layer's input are doubled before the convolution.
      start: number of rows at the top of the (doubled) input that are left out.
      taken: number of the following rows of the (doubled) input, which are used.
      top: number of mirrored rows that are added above the used rows; 0 unless the picture ends there.
      bottom: number of mirrored rows that are added below the used rows; 0 unless the picture ends
        there.
      margin: number of mirrored columns that are added at the left, and also at the right.
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
    """Return how the layers of a pass compute one strip of the last layer's features.

    A pass computes consecutive layers of the network. Of each layer before the last one, only those
    rows are computed on which the strip of the last layer depends.

    Args:
      layers: the layers of the pass.
      height: number of rows of the whole features from which the pass starts.
      first: index of the strip's first row in the features of the last layer.
      last: index of the row after the strip's last row.

    Returns:
      The steps, one for each layer; and the rows that the first layer reads, as a pair: the index of
      the first row, and that of the row after the last.

    Example:
      >>> steps, rows = steps_for(arbitrary.LAYERS[:3], 64, 4, 8)
      >>> rows, [(step.top, step.taken, step.bottom) for step in steps]
      ((9, 36), [(0, 27, 0), (0, 19, 0), (0, 9, 0)])
    """
    heights = []  # for each layer, number of rows of its whole input (after upsampling, if any)
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
    """The instance norm of a layer, as arguments of `layers.normalized`."""

    mean: Float[Array, "1 1 1 c"]  # mean of the layer's features over the whole picture
    variance: Float[Array, "1 1 1 c"]  # variance of the layer's features over the whole picture
    gamma: Float[Array, "1 c"]  # scale after normalisation, which depends on the style
    beta: Float[Array, "1 c"]  # shift after normalisation, which depends on the style


def _through(
    kernels: list[dict[str, Array]],
    norms: list[Norm | None],
    x: Array,
    *,
    steps: tuple[Step, ...],
    precision: Precision,
    kept: bool,
) -> tuple[Array | None, Array, Array]:
    """Compute the layers of one pass (some consecutive layers of the network) for one strip.

    Args:
      kernels: the parameters of each layer's convolution.
      norms: the instance norm of each layer except the last one; None for a layer without a norm.
      x: the rows that the strip needs of the features from which the pass starts, [1, h, w, c].
      steps: how each layer is computed for this strip.
      precision: precision of products and activations.
      kept: whether the features are returned.

    Returns:
      The last layer's features in the strip, after the convolution, before norm and activation, or None
      if they are not kept; and their mean and variance over the strip, [1, 1, 1, c] each.
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
    """Apply a layer's norm and activation to a strip of its convolved features; return the result.

    Args:
      y: the convolved features, [1, h, w, c].
      norm: the layer's norm; None if it has none.
      before: if a residual block ends with this layer, the same strip of the input of this block,
        [1, h, w, c]; for all other layers, any array, which is not used.
      layer: the layer.
    """
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
    """Paint a picture as `stylize_with` or `stylize_mixture` does, in horizontal strips to save memory.

    Args:
      params: weights from `load_arbitrary` or `load_styles26`; they decide which network paints.
      content: [h, w, 3] sRGB in [0, 1] on the host, of any size from 16 px.
      condition: the style: for weights from `load_arbitrary` a style vector [100], for those from
        `load_styles26` the weights of the 26 styles in a mixture, [26].
      strip: number of rows of the picture in a strip, at least 16; `strip_for` returns a number that
        fits in memory. The strips are made about equally high, with a multiple of 4 rows.
      precision: precision of products and activations; `AUTO` is float32 on a CPU and tensorfloat32
        on an accelerator.
      report: a function that shows progress. All strips are computed in several passes, since each
        instance norm needs the mean and variance of the whole picture. The function is called after
        each strip of each pass, with the number of strips done and the number of all strips, both
        counted over all passes.

    Returns:
      [h, w, 3] float32 in [0, 1] on the host.

    Raises:
      TypeError: if `params` is not a `Params`, `content` not an array, or `strip` not a whole number.
      ValueError: if the weights are of another network; if `content` has another shape, a side under
        16 px, or numbers that are not floating point; if `condition` does not fit the network; or if
        `strip` is under 16.

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.feed_forward import load_styles26
      >>> content, shares = nst.images.sample("chelsea")[:40, :32], np.eye(26, dtype=np.float32)[3]
      >>> paint_in_strips(load_styles26(), np.asarray(content), shares, strip=16).shape
      (40, 32, 3)
    """
    _checks.whole("strip", strip, least=LEAST)
    _checks.one_image("content", content, smallest=SMALLEST)
    layers, conditions = _network(params, condition)
    height, width = content.shape[:2]
    edges = ((0, -height % DIVISOR), (0, -width % DIVISOR), (0, 0))
    x = np.pad(np.asarray(content, np.float32), edges, mode="reflect")
    # If each strip had `strip` rows, the last one could have far fewer. So the rows are divided about
    # evenly among the same number of strips, since smaller strips need less memory.
    rows = -(-x.shape[0] // -(-x.shape[0] // strip))
    rows = -(-rows // DIVISOR) * DIVISOR
    painter = _Painter(layers, params, conditions, precision_on(precision), report)
    return painter.paint(x, rows)[:height, :width]


def _network(params: Params, condition: Any) -> tuple[TransformerLayers, Conditions]:
    """Return the layers of a network, and the gammas and betas of its instance norms for a style.

    Args:
      params: weights from `load_arbitrary` or `load_styles26`; they decide which of these two
        networks it is.
      condition: a style vector [100], or the weights of the 26 styles in a mixture, [26].
    """
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
    """Paints one picture strip by strip, in several passes over all strips.

    A pass measures the mean and variance of its last layer's features over the whole picture. If this
    layer has an instance norm, the painter stores them for the norm, which is applied after the pass or
    in later passes.
    """

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
        # Number of strips done, and number of all strips; a strip is counted again in each pass.
        self._done = self._all = 0

    def paint(self, x: np.ndarray, rows: int) -> np.ndarray:
        """Paint a picture in strips.

        Args:
          x: the picture [h, w, 3]; h and w are multiples of 4.
          rows: number of rows of a strip, a multiple of 4.

        Returns:
          The painted picture, [h, w, 3].
        """
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
        """Compute the layers of one pass for all strips, and store the instance norm of its last layer.

        The norm needs the mean and variance over the whole picture, which this pass measures. For a
        layer without a norm, nothing is stored.

        Args:
          one: which layers the pass computes.
          x: the features from which the pass starts, [h, w, c].
          rows: height of a strip in rows of the picture; if the features have half the picture's
            height, a strip has half as many rows of features, and so on.
          full: number of rows of the picture.

        Returns:
          The features of the pass's last layer after the convolution, before norm and activation,
          [h', w', c']; an empty array if `one.kept` is False: then only the norm is needed.
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
        """Return the instance norm of the layer `name`, computed from the statistics of all strips.

        Args:
          name: the layer's name.
          counts: the number of rows of each strip.
          means: the mean of the layer's convolved features over each strip, [1, 1, 1, c].
          variances: the variance of the same features over each strip, [1, 1, 1, c].
        """
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
        """Apply a layer's norm and activation to its convolved features, and return the same array.

        The array is overwritten strip by strip, since a second array would take as much memory again.

        Args:
          layer: the layer.
          y: its convolved features, [h, w, c].
          before: the input of the current residual block; used only if the block ends with this layer.
          rows: height of a strip in px of the picture. If `y` has fewer rows than the picture, a strip
            of `y` has fewer rows in the same proportion.
          full: height of the picture in px.
        """
        # The layer is a static argument of `FINISH`. Its name is removed, so that layers with equal
        # settings are equal and share a compiled program.
        nameless = replace(layer, name="")
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
    """Divide a height into strips of `rows` rows; the last strip may have fewer.

    Yields:
      For each strip, the index of its first row and the index of the row after its last one.
    """
    for first in range(0, height, rows):
        yield first, min(first + rows, height)


def _shape_after(layers: TransformerLayers, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the (height, width, channels) of what the layers make of an input of `shape`."""
    height, width = shape[:2]
    for layer in layers:
        times = 2 if layer.upsampled else 1
        height, width = height * times // layer.stride, width * times // layer.stride
    return height, width, layers[-1].channels
