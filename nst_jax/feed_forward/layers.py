"""The layers of feed-forward style networks: mirrored borders, convolution, instance norm, upsampling.

All layers but one are pure functions of features [*batch, h, w, c]. `Convolution2D` is a Flax module,
because a convolution has parameters of its own; instance norm gets its gammas and betas (scales and
shifts) as arguments. No layer asks which of two sizes is larger, since JAX cannot tell this for
symbolic sizes. So a network that is built of these layers can be exported by `jax.export` for symbolic
sizes, if these are declared to be large enough:

    jax.export.symbolic_shape("n, h, w, 3", constraints=("h >= 16", "w >= 16"))
"""

from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._real_size import as_counts, cut, divided_size
from nst_jax._types import FeatureMap, RealSize
from nst_jax.losses import at_least_float32
from nst_jax.vgg.layers.convolution import BIAS, KERNEL
from nst_jax.vgg.precision import FLOAT32

# The number that instance norm adds to a variance before it takes the square root; Magenta's code and
# PyTorch use the same number.
EPSILON = 1e-5

# Features that a function returns, if their size or number of channels may differ from its input's.
NewFeatures: TypeAlias = Float[Array, "*batch h_new w_new c_new"]

# A number for each channel: [c] if the numbers are the same for all pictures of a batch, else
# [*batch, c].
PerChannel: TypeAlias = Float[Array, "*rows c"]


# --- Borders --------------------------------------------------------------------------------------


def reflect(x: FeatureMap, margin: int) -> NewFeatures:
    """Extend features on all four sides by mirroring them at their outermost pixels.

    Like the mode "reflect" of `jnp.pad`, this does not repeat the outermost pixels themselves.

    Args:
      x: features [*batch, h, w, c], with h and w larger than `margin`.
      margin: number of pixels to add on each side.

    Returns:
      Features [*batch, h + 2 margin, w + 2 margin, c].

    Example:
      >>> import jax.numpy as jnp
      >>> reflect(jnp.arange(1.0, 4.0).reshape(1, 3, 1).repeat(3, axis=0), 2)[0, :, 0]
      Array([3., 2., 1., 2., 3., 2., 1.], dtype=float32)
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        before = lax.slice_in_dim(x, 1, margin + 1, axis=axis)
        after = lax.slice_in_dim(x, size - 1 - margin, size - 1, axis=axis)
        x = lax.concatenate([lax.rev(before, (axis,)), x, lax.rev(after, (axis,))], axis)
    return x


def reflect_to_multiple(x: FeatureMap, multiple: int) -> NewFeatures:
    """Extend features below and at the right, by mirroring, until both sides are multiples of a number.

    Args:
      x: features [*batch, h, w, c], with h and w at least `multiple`.
      multiple: the number that shall divide the height and the width of the result.

    Returns:
      Features [*batch, h_new, w_new, c], whose upper left part is `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> reflect_to_multiple(jnp.ones((17, 20, 3)), 4).shape
      (20, 20, 3)
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        missing = -size % multiple
        if isinstance(missing, int) and missing == 0:
            continue
        # First, `multiple - 1` rows (or columns) are added, the largest number that can be missing.
        # Then the surplus is cut off. In this way JAX can tell that both slices are within bounds, even
        # if the size is symbolic.
        after = lax.slice_in_dim(x, size - multiple, size - 1, axis=axis)
        x = lax.concatenate([x, lax.rev(after, (axis,))], axis)
        x = lax.slice_in_dim(x, 0, size + missing, axis=axis)
    return x


# Some functions of this module have an argument `size`. They are for features that fill only the top
# left part of an array, so that one compiled program serves many sizes of pictures. `size` is the
# (height, width) of this part, a value at runtime. Outside this part, the functions accept and return
# arbitrary values, even NaN: no value outside affects a value inside.


def reflect_sized(x: FeatureMap, margin: int, size: RealSize) -> NewFeatures:
    """Do what `reflect` does, for features that fill only the top left part of `x`.

    Args:
      x: [*batch, h, w, c], whose features are at the top left.
      margin: number of pixels to add on each side; no side of the features may have fewer than
        `margin + 1` pixels.
      size: the (height, width) of the features.

    Returns:
      [*batch, h + 2 margin, w + 2 margin, c], whose features are at the top left and have 2 `margin`
      more pixels on each axis.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([1.0, 2.0, 3.0, jnp.nan]).reshape(1, 4, 1).repeat(3, axis=0)
      >>> reflect_sized(x, 2, jnp.array([3, 3]))[0, :7, 0]
      Array([3., 2., 1., 2., 3., 2., 1.], dtype=float32)
    """
    return _mirrored(x, margin, margin, size)


def reflect_sized_to_multiple(
    x: FeatureMap, multiple: int, size: RealSize
) -> tuple[FeatureMap, RealSize]:
    """Extend features below and at the right, by mirroring, until both sides are multiples of a number.

    Unlike in `reflect_to_multiple`, the features fill only the top left part of `x`, and the extended
    ones need no larger array.

    Args:
      x: [*batch, h, w, c], whose features are at the top left; h and w are multiples of `multiple`.
      multiple: the number that shall divide the height and width of the extended features.
      size: the (height, width) of the features, at least `multiple`.

    Returns:
      An array of the shape of `x` with the extended features at the top left, and their (height,
      width).
    """
    whole = divided_size(size + (multiple - 1), multiple)
    return _mirrored(x, 0, 0, size), whole * multiple


def zeros_around_sized(x: FeatureMap, side: int, stride: int, size: RealSize) -> NewFeatures:
    """Add the zeros of TensorFlow's padding `SAME` around features at the top left of `x`.

    With stride 2, TensorFlow adds one row of zeros less above features with an even number of rows than
    above those with an odd number. The same holds for columns of zeros at the left. JAX's own padding
    `SAME` would follow the shape of `x`, not the size of the features.

    Args:
      x: [*batch, h, w, c], whose features are at the top left; h and w are multiples of `stride`.
      side: side of the kernel in px, odd.
      stride: stride of the convolution in px, 1 or 2.
      size: the (height, width) of the features.

    Returns:
      An array for a convolution with the padding `VALID`. The result of that convolution is [*batch,
      h / stride, w / stride, c_new]; at its top left is what the padding `SAME` gives for the features.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([1.0, 2.0, jnp.nan, jnp.nan]).reshape(1, 4, 1).repeat(2, axis=0)
      >>> zeros_around_sized(x, 3, 2, jnp.array([2, 2]))[0, :, 0]
      Array([1., 2., 0., 0., 0.], dtype=float32)
    """
    x, margin = cut(x, size), side // 2
    for number, axis in enumerate((x.ndim - 3, x.ndim - 2)):
        length, zeros = x.shape[axis], [(0, 0)] * x.ndim
        zeros[axis] = (margin, margin)
        wide = jnp.pad(x, zeros)
        if stride == 1:
            x = wide
            continue
        needed = length + side - stride  # from the start of the first window to the end of the last
        odd, even = (
            lax.slice_in_dim(wide, first, first + needed, axis=axis) for first in (0, stride - 1)
        )
        x = jnp.where(size[number] % stride == 1, odd, even)
    return x


def _mirrored(x: FeatureMap, before: int, after: int, size: RealSize) -> NewFeatures:
    """Add `before` and `after` pixels by mirroring, on both axes, to features at the top left of `x`.

    `size` is the (height, width) of the features. All pixels are read by one gather operation. XLA
    compiles it faster than slices whose starts are values at runtime.
    """
    *batch, height, width, channels = x.shape

    def places(length: int, side: Array) -> Array:
        found = jnp.abs(jnp.arange(-before, length + after))
        found = jnp.where(found >= side, 2 * (side - 1) - found, found)
        # Far beyond the features, a mirrored place may lie outside the array. Callers do not use the
        # pixels that get such a place, so it may be clipped.
        return jnp.clip(found, 0, length - 1)

    rows, columns = places(height, size[0]), places(width, size[1])
    pixels = x.reshape(*batch, height * width, channels)
    return jnp.take(pixels, rows[:, None] * width + columns[None], axis=-2, mode="clip")


def cropped(x: FeatureMap, height: Any, width: Any) -> NewFeatures:
    """Return the upper left part of features, of the given height and width.

    Networks that are exported use it in place of indexing such as `x[:height]`. If sizes are symbolic,
    `jax.numpy` turns such indexing into a gather operation, which jax2onnx (the converter to ONNX
    files) cannot convert.

    Args:
      x: features [*batch, h, w, c].
      height: number of rows of the result; it may be a symbolic size.
      width: number of columns of the result; it may be a symbolic size.

    Returns:
      Features [*batch, height, width, c].

    Example:
      >>> import jax.numpy as jnp
      >>> cropped(jnp.ones((20, 20, 3)), 17, 20).shape
      (17, 20, 3)
    """
    for axis, size in ((x.ndim - 3, height), (x.ndim - 2, width)):
        x = lax.slice_in_dim(x, 0, size, axis=axis)
    return x


# --- Convolution ----------------------------------------------------------------------------------


def conv2d(
    x: FeatureMap,
    kernel: Float[Array, "kh kw i o"],
    *,
    stride: int = 1,
    padding: str = "VALID",
    groups: int = 1,
    products: lax.Precision = FLOAT32.products,
) -> NewFeatures:
    """Convolve features with a kernel of any size.

    Args:
      x: features [*batch, h, w, i * groups].
      kernel: weights [kh, kw, i, o].
      stride: px from the start of one window to the start of the next.
      padding: `"VALID"` for no padding, or `"SAME"` for zeros around the features, as many as
        TensorFlow adds for its padding `SAME`.
      groups: number of groups into which the channels are divided; each group is convolved by itself.
        With one group for each channel, the convolution is depthwise.
      products: the precision with which the device shall compute products.

    Returns:
      Features [*batch, h', w', o] in the dtype of `x`, to which the kernel is converted.

    Example:
      >>> import jax.numpy as jnp
      >>> conv2d(jnp.ones((5, 5, 1)), jnp.ones((3, 3, 1, 2)), stride=2).shape
      (2, 2, 2)
    """
    if padding == "SAME" and not all(isinstance(size, int) for size in x.shape[-3:-1]):
        x, padding = _with_zeros_around(x, kernel.shape[:2], stride), "VALID"
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]),
        kernel.astype(x.dtype),
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=products,
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _with_zeros_around(x: FeatureMap, window: tuple[int, ...], stride: int) -> NewFeatures:
    """Add the zeros of TensorFlow's padding `SAME` around features whose sizes are symbolic.

    If the stride is above 1, the number of zeros depends on the size of the features. But jax2onnx (the
    converter to ONNX files) can only convert a convolution whose padding is a number. So this function
    first adds more zeros than can be necessary, and then cuts off the surplus. The padded size is
    computed from `ceil(size / stride)`, the size of the convolution's result. With this formula, JAX's
    expressions for symbolic sizes stay short even after many convolutions.

    Args:
      x: features [*batch, h, w, c].
      window: sides of the kernel in px, which are odd and not below the stride.
      stride: stride of the convolution in px.

    Returns:
      The padded features, for a convolution with the padding `VALID`.
    """
    for axis, side in zip((x.ndim - 3, x.ndim - 2), window, strict=True):
        margin, size = side // 2, x.shape[axis]
        # The padded size, from the start of the first window to the end of the last one. Its formula
        # contains `ceil(size / stride)`, but not in the usual form `-(-size // stride)`: jax2onnx would
        # round the quotient of a negative number up instead of down.
        needed = stride * ((size + stride - 1) // stride - 1) + side
        # `needed - size` zeros are necessary; half of this number, rounded down, belong before the
        # features. The array `padded` has `margin` zeros there; the slice leaves out `first` of them.
        first = margin - (needed - size) // 2
        zeros = [jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))]
        # After the features, `padded` has one zero more than is ever necessary. Without it, JAX could
        # not tell that the slice is within bounds.
        padded = lax.concatenate([*margin * zeros, x, *(margin + 1) * zeros], axis)
        x = lax.slice_in_dim(padded, first, first + needed, axis=axis)
    return x


class Convolution2D(nn.Module):
    """A convolution as a Flax module, with the parameters `kernel` and, if wanted, `bias`.

    The argument `size` of a call is not the attribute `size`. It is the (height, width) of features
    that lie at the top left of a larger array `x`; None means that the features fill `x`.

    Attributes:
      channels: number of channels of the result.
      size: side of the kernel in px, odd.
      stride: px from the start of one window to the start of the next.
      reflected: whether features are first extended by `size // 2` px on each side by mirroring; if
        not, zeros are added, as many as TensorFlow adds for its padding `SAME`.
      depthwise: whether each channel is convolved by itself, with a kernel of its own.
      use_bias: whether a bias is added.
      products: the precision with which the device shall compute products.
    """

    channels: int
    size: int = 3
    stride: int = 1
    reflected: bool = True
    depthwise: bool = False
    use_bias: bool = True
    products: lax.Precision = FLOAT32.products

    @nn.compact
    def __call__(self, x: FeatureMap, size: RealSize | None = None) -> NewFeatures:
        groups = x.shape[-1] if self.depthwise else 1
        shape = (self.size, self.size, x.shape[-1] // groups, self.channels)
        kernel = self.param(KERNEL, nn.initializers.he_normal(), shape)
        padding = "VALID" if self.reflected else "SAME"
        if self.reflected and self.size > 1:
            margin = self.size // 2
            x = reflect(x, margin) if size is None else reflect_sized(x, margin, size)
        elif size is not None and self.size > 1:
            x, padding = zeros_around_sized(x, self.size, self.stride, size), "VALID"
        y = conv2d(
            x,
            kernel,
            stride=self.stride,
            padding=padding,
            groups=groups,
            products=self.products,
        )
        if self.use_bias:
            bias = self.param(BIAS, nn.initializers.zeros_init(), (self.channels,))
            y = y + _over_pixels(bias, y).astype(y.dtype)
        return y


# --- Instance norm --------------------------------------------------------------------------------


def instance_norm(
    x: FeatureMap, gamma: PerChannel, beta: PerChannel, *, epsilon: float = EPSILON
) -> FeatureMap:
    """Scale and shift each channel of each picture to mean `beta` and standard deviation `gamma`.

    The mean and standard deviation of the input `x` are computed over all positions of one picture, for
    each channel, in float32 or in the dtype of `x` if it has more bits.

    Args:
      x: features [*batch, h, w, c].
      gamma: standard deviations of the result, [c] if they are the same for all pictures, else
        [*batch, c].
      beta: means of the result, of the same shape as `gamma`.
      epsilon: added to the variance before its square root is taken.

    Returns:
      Features of the shape and dtype of `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
      >>> instance_norm(x, jnp.ones(1), jnp.zeros(1))[0, :, 0].round(3)
      Array([-1.225,  0.   ,  1.225], dtype=float32)

    References:
      Ulyanov, Vedaldi, Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
      Stylization", 2016; Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2017,
      for gamma and beta of each style.
    """
    wide = at_least_float32(x)
    mean = jnp.mean(wide, axis=(-3, -2), keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=(-3, -2), keepdims=True)
    return normalized(x, mean, variance, gamma, beta, epsilon=epsilon)


def normalized(
    x: FeatureMap,
    mean: Float[Array, "*batch 1 1 c"],
    variance: Float[Array, "*batch 1 1 c"],
    gamma: PerChannel,
    beta: PerChannel,
    *,
    epsilon: float = EPSILON,
) -> FeatureMap:
    """Normalise features by a given mean and variance, then scale and shift them.

    The result is `(x - mean) / sqrt(variance + epsilon) * gamma + beta`. So instance norm can be
    computed part by part: `x` is then a part of the features, such as a strip, and `mean` and
    `variance` are those of the whole features.

    Args:
      x: features [*batch, h, w, c].
      mean: mean of each channel, [*batch, 1, 1, c].
      variance: variance of each channel, [*batch, 1, 1, c].
      gamma: scale of each channel, [c] if it is the same for all pictures, else [*batch, c].
      beta: shift of each channel, of the same shape as `gamma`.
      epsilon: added to the variance before its square root is taken.

    Returns:
      Features of the shape and dtype of `x`.
    """
    wide = at_least_float32(x)
    scale = lax.rsqrt(variance + epsilon) * _over_pixels(gamma, wide).astype(wide.dtype)
    return ((wide - mean) * scale + _over_pixels(beta, wide).astype(wide.dtype)).astype(x.dtype)


def sized_instance_norm(
    x: FeatureMap, gamma: PerChannel, beta: PerChannel, size: RealSize, *, epsilon: float = EPSILON
) -> FeatureMap:
    """Do what `instance_norm` does, for features that fill only the top left part of `x`.

    All else in `x` has no influence on the mean and the variance.

    Args:
      x: [*batch, h, w, c], whose features are at the top left.
      gamma: standard deviations of the result, [c] or [*batch, c].
      beta: means of the result, of the same shape as `gamma`.
      size: the (height, width) of the features.
      epsilon: added to the variance before its square root is taken.
    """
    wide = at_least_float32(x)
    height, width = as_counts(size, wide.dtype)

    def mean_of(values: Array) -> Array:
        return jnp.sum(cut(values, size), axis=(-3, -2), keepdims=True) / (height * width)

    mean = mean_of(wide)
    variance = mean_of(jnp.square(wide - mean))
    return normalized(x, mean, variance, gamma, beta, epsilon=epsilon)


def normed(x: FeatureMap, gamma: PerChannel, beta: PerChannel, size: RealSize | None) -> FeatureMap:
    """Apply instance norm; `size` is the (height, width) of the features, or None if they fill `x`."""
    if size is None:
        return instance_norm(x, gamma, beta)
    return sized_instance_norm(x, gamma, beta, size)


def _over_pixels(values: Array, x: Array) -> Array:
    """Reshape numbers, [c] or [*batch, c], so that they broadcast with features [*batch, h, w, c]."""
    if values.ndim == 1:
        return values.reshape(*(1,) * (x.ndim - 1), -1)
    return values[..., None, None, :]


# --- Upsampling -----------------------------------------------------------------------------------


def upsample(x: FeatureMap) -> NewFeatures:
    """Double the height and width of features by nearest-neighbour interpolation, repeating each pixel.

    Args:
      x: features [*batch, h, w, c].

    Returns:
      Features [*batch, 2 h, 2 w, c].

    Example:
      >>> import jax.numpy as jnp
      >>> upsample(jnp.array([[[1.0], [2.0]]]))[..., 0]
      Array([[1., 1., 2., 2.],
             [1., 1., 2., 2.]], dtype=float32)
    """
    *batch, height, width, channels = x.shape
    spread = jnp.broadcast_to(x[..., :, None, :, None, :], (*batch, height, 2, width, 2, channels))
    return spread.reshape(*batch, 2 * height, 2 * width, channels)
