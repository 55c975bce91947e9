"""Style transfer to 26 fixed styles and their mixtures, by one network.

    params = feed_forward.load_styles26()
    image = feed_forward.stylize_mixture(params, content, shares)    # shares [26]

The shares are the weights of the styles in a mixture. All styles use the same convolutions; each style
has gammas and betas (scales and shifts) of its own for the instance norms. For a mixture of styles, the
styles' gammas and betas are added up, each multiplied by the style's share.

The function `stylize_mixture` is pure, and JAX can trace it. With `jax.jit`, its argument `precision`
has to be static. One program is compiled for each shape of pictures, and serves all shares. A batch
is pictures [n, h, w, 3] with shares [n, 26]; `jax.vmap` over both gives the same results.

In the `Params` that `load_styles26` returns, the field `layers` has two keys, each with the parameters
of a Flax module as nested dictionaries of float32 arrays:

* `"conditions"` for `StyleTables`: `{"contract1": {"gamma": [26, 32], "beta": [26, 32]}, ...}`;
* `"transformer"` for `StyleTransformer`: `{"contract1": {"kernel": [9, 9, 3, 32]}, ...}`; no biases.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._files import PathLike
from nst_jax._real_size import sizes_of_array
from nst_jax._types import AnyImage, Image, Params
from nst_jax.feed_forward.transformer import (
    DIVISOR,
    SMALLEST,
    Conditions,
    check_network,
    flattened,
    kernel_shapes,
    painted,
    transformer_layers,
)
from nst_jax.losses import at_least_float32
from nst_jax.vgg.precision import AUTO, FLOAT32, AnyPrecision
from nst_jax.weights.params import Architecture, load_params_of

STYLES = 26  # number of styles

# The layers of the network, in the order in which they are computed.
LAYERS = transformer_layers((32, 32, 32), (8, 4), blocks=6, contract_normed=True)


class StyleTable(nn.Module):
    """The gammas and betas of one layer's instance norm for all styles, [26, c] each.

    A call with the shares [n, 26] of the styles in n mixtures returns the gammas and betas of the
    mixtures, [n, c] each.

    Attributes:
      channels: number c of the layer's channels.
    """

    channels: int

    @nn.compact
    def __call__(
        self, shares: Float[Array, "n 26"]
    ) -> tuple[Float[Array, "n c"], Float[Array, "n c"]]:
        shape = (STYLES, self.channels)
        gamma = self.param("gamma", nn.initializers.ones_init(), shape)
        beta = self.param("beta", nn.initializers.zeros_init(), shape)
        return _mixed(shares, gamma), _mixed(shares, beta)


def _mixed(shares: Array, table: Array) -> Array:
    return jnp.matmul(shares, table, precision=FLOAT32.products)


class StyleTables(nn.Module):
    """The gammas and betas of all instance norms for all styles.

    A call with the shares [n, 26] of the styles in n mixtures returns the gammas and betas of the
    mixtures by layer.
    """

    @nn.compact
    def __call__(self, shares: Float[Array, "n 26"]) -> Conditions:
        return {layer.name: StyleTable(layer.channels, name=layer.name)(shares) for layer in LAYERS}


# --- Weights --------------------------------------------------------------------------------------

ARCHITECTURE = Architecture(
    "styles26",
    "the 26 styles",
    kernels=kernel_shapes(LAYERS),
    others={
        f"conditions/{layer.name}/{part}": (STYLES, layer.channels)
        for layer in LAYERS
        for part in ("gamma", "beta")
    },
    if_unfit="get it again",
    embedded="styles26.h5",
    digest="6243be87efa8aab4250b59017b41664fdaa192650123384d1dc02e3c3bb73412",
)


def load_styles26(path: PathLike | None = None) -> Params:
    """Read and verify the weights of the network of 26 styles.

    Args:
      path: a weights file of this network, or None for the one that comes with the package.

    Returns:
      The weights; the docstring of the module `nst_jax.feed_forward.styles26` describes them.

    Raises:
      ValueError: if the file is missing or damaged, or is no weights file of this network.

    Example:
      >>> params = load_styles26()
      >>> params.family, params.layers["conditions"]["expand3"]["gamma"].shape
      ('tensorflow-stylize', (26, 3))
    """
    return load_params_of(ARCHITECTURE, path)


# --- Pure function --------------------------------------------------------------------------------


def stylize_mixture(
    params: Params,
    content: AnyImage,
    shares: Float[Array | np.ndarray, "*batch 26"],
    *,
    precision: AnyPrecision = AUTO,
    size: Any = None,
) -> Image:
    """Paint pictures in mixtures of the 26 styles, in one pass through the network.

    Args:
      params: weights from `load_styles26`.
      content: [*batch, h, w, 3] sRGB in [0, 1], of any size from 16 px.
      shares: weights of the styles in the mixture, [*batch, 26]. For a single style, its share is 1 and
        all others are 0. The shares of a picture should add up to 1; this function does not divide them
        by their sum.
      precision: precision of products and activations; `AUTO` is float32 on a CPU and tensorfloat32
        on an accelerator. Static under `jax.jit`.
      size: (height, width) of the picture, [2] or [*batch, 2], if it fills only the top left part of
        `content`, whose sides must then be multiples of 4 px. `size` is a value at runtime, so that
        pictures of many sizes share a program. None: the picture fills `content`.

    Returns:
      Pictures in [0, 1], of the shape and dtype of `content`. If `size` is given, the values outside
      the picture are arbitrary.

    Raises:
      TypeError: if `params` is not a `Params`, or if `content` is not an array.
      ValueError: if the weights are of another network; if `content` has another shape, a side under
        16 px, or numbers that are not floating point; if there are not 26 shares for each picture; if
        `size` is no (height, width) in whole px, from 16 px to the sides of `content`; or if, with
        `size`, a side of `content` is not a multiple of 4 px.

    Example:
      >>> import jax
      >>> import numpy as np
      >>> import nst_jax as nst
      >>> from nst_jax.feed_forward import load_styles26, stylize_mixture
      >>> content = nst.images.sample("chelsea")[:64, :80]
      >>> half_and_half = np.zeros(26, np.float32)
      >>> half_and_half[[3, 19]] = 0.5
      >>> jax.jit(stylize_mixture)(load_styles26(), content, half_and_half).shape
      (64, 80, 3)

    References:
      Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2017.
    """
    check_network(params, "conditions/contract1", "load_styles26")
    batch, flat = flattened("content", content)
    _check_shares(shares, batch)
    sizes = None
    if size is not None:
        sizes = sizes_of_array(size, content.shape, DIVISOR, smallest=SMALLEST)
    rows = jnp.asarray(shares, at_least_float32(flat[:0]).dtype).reshape(-1, STYLES)
    conditions = conditions_of_shares(params, rows)
    return painted(LAYERS, params, flat, conditions, precision, sizes).reshape(content.shape)


def conditions_of_shares(params: Params, shares: Float[Array, "n 26"]) -> Conditions:
    """Return the network's gammas and betas for n mixtures of styles: two arrays [n, c] per layer."""
    conditions: Any = StyleTables().apply({"params": params.layers["conditions"]}, shares)
    return conditions


def _check_shares(shares: Any, batch: tuple[int, ...]) -> None:
    expected = (*batch, STYLES)
    if not hasattr(shares, "shape") or tuple(shares.shape) != expected:
        came = list(shares.shape) if hasattr(shares, "shape") else type(shares).__name__
        raise ValueError(
            f"`shares`: expected the shares of 26 styles {list(expected)}, for each picture its own, "
            f"got {came}"
        )
