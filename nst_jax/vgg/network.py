"""The network: the convolutional layers of VGG-19, here called its trunk, as pure functions.

VGG-19 is configuration E in Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
Image Recognition", 2014; its classifier is left out here. A tap is a point before or after a ReLU, at
which activations are read. Functions take pictures as sRGB in [0, 1] and convert them to the pixel
convention with which the weights were trained.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import cut, halved_size
from nst_jax._types import FeatureMap, Features, Image, Params, RealSize
from nst_jax.vgg import sized_layers
from nst_jax.vgg.layers.convolution import (
    BIAS,
    KERNEL,
    TRANSPOSED,
    WINOGRAD,
    WINOGRAD_TRANSPOSED,
    Forms,
)
from nst_jax.vgg.layers.gradient_order import measured_in_turn
from nst_jax.vgg.layers.padding import Convolved, Padding, wrap_padded, zero_padded
from nst_jax.vgg.layers.pooling import Pool, max_pool, pool_relu
from nst_jax.vgg.layers.relus import relu, relu_by_signs, relu_in_place
from nst_jax.vgg.pixels import PIXELS, Pixels
from nst_jax.vgg.precision import AUTO, TENSORFLOAT32, AnyPrecision, Precision, precision_on
from nst_jax.vgg.taps import BLOCKS, LAYERS, SMALLEST, TAPS, check_layers, halved, resolve_taps


@dataclass(frozen=True, kw_only=True)
class Network:
    """A recipe's choices about the network. All fields are static under `jit`.

    Attributes:
      pool: `max_pool`, `average_pool`, `scaled_average_pool` or `l2_pool`.
      ceil: whether pooling keeps the last row and column of odd sides (Caffe) or drops them (torch,
        Keras).
      padding: `zero_padded`, `replicate_padded`, `replicate_first`, `reflect_padded` or `wrap_padded`.
        With `wrap_padded`, the result is a texture that can be repeated side by side without seams.
      pixels: the pixel convention of the network's input; None means the convention of the weights,
        which is right unless a published recipe deliberately uses another one.
      precision: precision of products and activations, one of those in `nst_jax.vgg.precision`; with
        `AUTO`, the platform decides, see `precision_on`.
      accelerator_precision: what `AUTO` means on an accelerator (a GPU or TPU). The default is
        tensorfloat32, with which PyTorch and TensorFlow convolve on GPUs by default. Published recipes
        use it.
      remat: whether the activations of a block (the layers between two poolings) are computed again for
        the gradient instead of stored (rematerialisation). This takes 50 % more work and less memory;
        XLA's CPU compiler stores the activations anyway.
      tile: side in px, a multiple of 16, of the tiles in which a larger picture is computed, so that
        only the activations of one tile at a time are in memory. Each tile is computed with a halo (the
        pixels around it), so losses and gradient are those of the whole picture; see
        `nst_jax.scaling.tile_grid`. (If a side of the picture is cut into only two tiles, each needs a
        halo at one end only. Then a tile may be longer than `tile` by one halo. With `wrap_padded`,
        every tile has both halos, and only sides that are multiples of 16 px are cut.) With 0, pictures
        of any size are computed whole, as `features` always does. With None, functions that plan a run,
        such as `stylize`, choose tiles for a picture that does not fit in memory whole; functions that
        make no plan, such as `step`, take None as 0.
    """

    pool: Pool = max_pool
    ceil: bool = False
    padding: Padding = zero_padded
    pixels: Pixels | None = None
    precision: AnyPrecision = AUTO
    accelerator_precision: Precision = TENSORFLOAT32
    remat: bool = False
    tile: int | None = None

    @property
    def wraps(self) -> bool:
        """Whether convolutions use circular padding, so that opposite borders of a picture meet."""
        return self.padding is wrap_padded

    def precision_on(self, platform: str | None = None) -> Precision:
        """Return the precision in which a platform computes: `precision`, unless that is `AUTO`.

        Functions that plan a run, such as `nst_jax.plan` and `stylize`, replace `AUTO` once, according
        to the platform of the devices that compute. Functions that are traced without a plan, such as
        `features` and `step`, replace it when they are traced, according to the platform of JAX's
        default device. If the arrays are on another platform, set a precision other than `AUTO`.

        Args:
          platform: JAX's name of the platform, such as "gpu"; None means that of JAX's default device.

        Returns:
          The precision; for `AUTO`, float32 on a CPU and `accelerator_precision` elsewhere.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.DEFAULT.network.precision_on("gpu").name
          'bfloat16'
        """
        return precision_on(
            self.precision, platform, accelerator_precision=self.accelerator_precision
        )


class Convolution(nn.Module):
    """A 3 x 3 convolution with the parameters `kernel` and `bias`, as a Flax module.

    If the parameters also contain arrays that `with_forms` has computed from the kernel, such as the
    transposed kernel for the gradient, these are used. If a call gets `size`, the features have this
    (height, width) and lie at the top left of a larger array `x`. The result is then set to zero
    outside of them. The gradient is not set to zero there, since the ReLU that follows does so.
    """

    channels: int
    padding: Padding
    products: lax.Precision

    @nn.compact
    def __call__(self, x: FeatureMap, size: RealSize | None = None) -> Convolved:
        shape = (3, 3, x.shape[-1], self.channels)
        kernel = self.param(KERNEL, nn.initializers.he_normal(), shape)
        bias = self.param(BIAS, nn.initializers.zeros_init(), (self.channels,))
        forms: Forms = {
            name: self.get_variable("params", name).astype(x.dtype)
            for name in (TRANSPOSED, WINOGRAD, WINOGRAD_TRANSPOSED)
            if self.has_variable("params", name)
        }
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)[None, None, None]
        if size is None:
            y = self.padding(x, kernel, forms, self.products)
            _check_own("padding", self.padding, "padding", y, (*x.shape[:-1], self.channels))
            return y + bias
        y = sized_layers.convolve_sized(self.padding, x, kernel, forms, self.products, size)
        return sized_layers.cut_before_relu(y + bias, size)


# Type of a function that gets the name of a tap and the activations there, and computes something from
# them, such as a Gram matrix.
Measure: TypeAlias = Callable[[str, FeatureMap], Any]


class Trunk(nn.Module):
    """The convolutional layers of VGG-19, down to the deepest of `taps`, as a Flax module.

    A tap is a point at which activations are read. A call passes the activations at each tap to
    `measure`, and returns its results by tap. With `size`, the pictures have this (height, width) and
    lie at the top left of larger arrays; their activations lie at the top left, too, with zeros around
    them. With `network.remat`, only the results of `measure` and the output of each block are stored
    for the gradient.
    """

    taps: tuple[str, ...]
    network: Network = Network()

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w 3"], measure: Measure, size: RealSize | None = None
    ) -> dict[str, Any]:
        x = x.astype(self.network.precision_on().activations_of(x.dtype))
        if size is not None:
            x = cut(x, size)
        found: dict[str, Any] = {}
        for number in range(1, len(BLOCKS) + 1):
            block = partial(_block, number=number, measure=measure)
            x, new = (nn.remat(block) if self.network.remat else block)(self, x, size)
            found |= new
            if len(found) == len(self.taps):
                break
            size = None if size is None else halved_size(size, self.network.ceil)
        return {tap: found[tap] for tap in self.taps}


def _block(
    trunk: Trunk, x: Array, size: RealSize | None, *, number: int, measure: Measure
) -> tuple[Any, dict[str, Any]]:
    """Compute one block: the convolutions and ReLUs before a pooling, and the pooling.

    Returns:
      The output of the pooling, or None if the block has the deepest tap (point that is read), after
      which nothing is computed; and a dictionary: each tap of the block -> the result of `measure` for
      the activations at this tap.
    """
    network, found = trunk.network, {}
    deepest, last = max(trunk.taps, key=TAPS.index), BLOCKS[number - 1][0]
    # Only loops of updates on a CPU have kernels for Winograd convolution, for their large layers.
    on_cpu = any(WINOGRAD in (trunk.get_variable("params", name) or {}) for name in LAYERS)
    for index in range(1, last + 1):
        name, channels = f"conv{number}_{index}", BLOCKS[number - 1][1]
        x = Convolution(channels, network.padding, network.precision_on().products, name=name)(
            x, size
        )
        before, after = f"preact{number}_{index}", f"relu{number}_{index}"
        if before in trunk.taps:
            found[before] = measure(before, x if size is None else cut(x, size))
        if before == deepest:
            return None, found
        if on_cpu and before in found:
            x, found[before] = measured_in_turn(x, found[before])
        if index == last and after not in trunk.taps:
            if size is None:
                y = pool_relu(x, network.pool, network.ceil, on_cpu=on_cpu)
                _check_pooled(network, x, y)
                return y, found
            pool = partial(sized_layers.pooled, after_relu=False, on_cpu=on_cpu)
            return pool(network.pool, x, network.ceil, size), found
        if after not in trunk.taps:
            x = relu_by_signs(x) if on_cpu else relu(x)
            continue
        x, read = relu_in_place(x) if on_cpu else (relu(x),) * 2
        found[after] = measure(after, read)
        if after == deepest:
            return None, found
        if on_cpu:
            x, found[after] = measured_in_turn(x, found[after])
    if size is None:
        y = network.pool(x, network.ceil)
        _check_pooled(network, x, y)
        return y, found
    return sized_layers.pooled(network.pool, x, network.ceil, size), found


def _check_pooled(network: Network, x: FeatureMap, y: Any) -> None:
    """Refuse `y`, which the network's pooling made of `x`, if it is not of half the size."""
    n, height, width, channels = x.shape
    rows, columns = (halved(side, 1, network.ceil) for side in (height, width))
    kind = f"pooling with ceil={network.ceil}"
    _check_own("pool", network.pool, kind, y, (n, rows, columns, channels))


# The paddings and poolings of this package.
_OURS = (*sized_layers.PADDED, wrap_padded, *sized_layers.POOLED)


def _check_own(field: str, function: Any, kind: str, found: Any, shape: tuple[Any, ...]) -> None:
    """Refuse what a user's own padding or pooling returned, if it is no array of this shape.

    All else that is computed for a run, such as its memory and the number of positions at a tap,
    depends on these shapes. Symbolic shapes of `jax.export` are not checked.

    Args:
      field: the field of `Network` that has the function.
      function: the function.
      kind: what kind of function it is, as words for the message.
      found: what it returned.
      shape: the shape that the array must have.
    """
    if function not in _OURS and all(isinstance(side, int) for side in shape):
        _checks.returned_array(f"network.{field}", kind, found, shape)


def features(
    params: Params,
    images: Image,
    taps: Iterable[str],
    *,
    network: Network | None = None,
    size: RealSize | None = None,
) -> Features:
    """Compute the network's activations at the named taps, which are points before or after a ReLU.

    The function can be traced and differentiated. No layer after the deepest tap is computed.

    Args:
      params: weights from `nst_jax.load_params`.
      images: [*batch, h, w, 3] sRGB in [0, 1], at least 16 px on each side, any size, odd or even.
      taps: names such as `"relu4_2"` or `"preact4_2"`; see `resolve_tap`.
      network: pooling, padding, pixel convention and precision; default: max pooling, zero padding, the
        pixel convention of the weights, and the precision `AUTO`, which depends on the platform of
        JAX's default device.
      size: int32 [2], the (height, width) of the pictures, if they lie at the top left of larger
        arrays, whose sides must be multiples of 16 px. The size is a value at runtime, so nothing is
        compiled for another size. Pixels outside the pictures have no influence, even if they are NaN.
        None means that the pictures fill their arrays.

    Returns:
      Activations [*batch, h', w', c] by the names in `taps`, in the dtype of `images` unless the
      network's precision sets another dtype. With `size`, the activations of the pictures are at the
      top left of these arrays, and all else is zero.

    Raises:
      TypeError: if `params` is not a `Params`, `images` not an array, `taps` not several names,
        or `network` not a `Network`; and if a padding, pooling or pixel convention of the caller's own
        returns no array.
      ValueError: if the weights are of another network than VGG-19, or lack a layer down to the deepest
        tap; if `taps` is empty, or has a tap that is unknown, ambiguous or repeated; or if `images` is
        too small, has an integer dtype, or is not [..., h, w, 3]. With `size`, also if a side of the
        arrays is no multiple of 16 px, or if the network has a padding or pooling that does not support
        `size`, such as `wrap_padded`. Also if a padding, pooling or pixel convention of the caller's
        own returns an array of another shape than those of this package do, or one that is not floating
        point.

    Example:
      >>> import jax.numpy as jnp
      >>> import nst_jax as nst
      >>> image = jnp.full((32, 48, 3), 0.5)
      >>> nst.features(nst.load_params(), image, ["relu4_2"])["relu4_2"].shape
      (4, 6, 512)

    References:
      Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
      2014.
    """
    taps = list(taps) if isinstance(taps, Iterator) else taps  # they are read twice
    resolved = resolve_taps(taps)
    measures = dict.fromkeys(resolved, lambda x: x)
    found = measured(params, images, measures, network=network, size=size)
    return {name: found[tap] for name, tap in zip(taps, resolved, strict=True)}


def measured(
    params: Params,
    images: Image,
    measures: Mapping[str, Callable[[FeatureMap], Any]],
    *,
    network: Network | None = None,
    size: RealSize | None = None,
) -> dict[str, Any]:
    """Compute given functions of the network's activations at some taps.

    A tap is a point before or after a ReLU. The functions are called inside the network's blocks. So
    with `network.remat`, which computes blocks again for the gradient, the activations at the taps need
    not be stored. (The activations that `features` returns have to be stored.)

    Args:
      params: weights from `nst_jax.load_params`.
      images: [*batch, h, w, 3] sRGB in [0, 1], at least 16 px on each side.
      measures: a function of the activations [*batch, h', w', c] for each tap, by the tap's name as
        `resolve_tap` returns it.
      network: pooling, padding, pixel convention and precision; default: `Network()`.
      size: the (height, width) of the pictures, if they lie at the top left of larger arrays; see
        `features`. None: they fill their arrays.

    Returns:
      The result of each function, under the keys of `measures`.

    Raises:
      TypeError: if `params` is not a `Params`, `images` not an array, or `network` not a `Network`.
      ValueError: if the weights are of another network than VGG-19, or lack a layer; if `images` is too
        small, has an integer dtype, or is not [..., h, w, 3]; and in the other cases that `features`
        lists.
    """
    network = Network() if network is None else network
    order = "the order is features(params, images, taps)"
    _checks.array("images", images, order)
    _checks.weights_of_vgg(params, Params, f"`nst_jax.load_params()` gives them; {order}")
    check_layers(params, measures)
    _checks.instance("network", network, Network, "a recipe has one as `recipe.network`")
    _checks.image_shape("images", images.shape, smallest=SMALLEST)
    _checks.floating("images", images.dtype)
    if size is not None:
        _check_sized(images.shape, network)
    pixels = network.pixels or PIXELS[params.pixels]
    batch = images.shape[:-3]
    x = pixels.encode(images)
    if type(pixels) is not Pixels:
        _checks.returned_array("network.pixels", "pixel convention's `encode`", x, images.shape)
    x = x.reshape(-1, *images.shape[-3:])

    def measure(tap: str, activations: FeatureMap) -> Any:
        return measures[tap](activations.reshape(*batch, *activations.shape[1:]))

    trunk = Trunk(tuple(measures), network)
    found: Any = trunk.apply({"params": params.layers}, x, measure, size)
    return found


def _check_sized(shape: tuple[int, ...], network: Network) -> None:
    """Raise ValueError if arrays of this shape, or this network, do not allow the argument `size`.

    `size` is the (height, width) of pictures that lie at the top left of larger arrays.
    """
    height, width = shape[-3:-1]
    if height % SMALLEST or width % SMALLEST:
        raise ValueError(
            f"`images`: with `size`, each side must be a multiple of {SMALLEST} px, got "
            f"{width}x{height} px; pad them with zeros below and to the right"
        )
    if network.padding not in sized_layers.PADDED or network.pool not in sized_layers.POOLED:
        name = "padding" if network.padding not in sized_layers.PADDED else "pool"
        raise ValueError(
            f"`network.{name}`: with `size`, only this package's paddings and poolings can be used, "
            "except `wrap_padded`; leave `size` out"
        )
