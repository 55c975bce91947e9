"""The 3 x 3 convolution, and the names of a layer's arrays: kernel, bias, forms of the kernel."""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax.vgg import winograd
from nst_jax.vgg.precision import FLOAT32

KERNEL, BIAS = "kernel", "bias"

# Names of the forms of a kernel: arrays that are computed from the kernel once and stored beside it.
# They are the transposed kernel, for the gradient, and both kernels transformed for Winograd
# convolution.
TRANSPOSED, WINOGRAD, WINOGRAD_TRANSPOSED = "transposed", "winograd", "winograd_transposed"

Forms: TypeAlias = Mapping[str, Array]  # name of a form -> the array


def _convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "3 3 i o"], products: lax.Precision
) -> Float[Array, "n h w o"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=products,
    )


@jax.jit
def transpose(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 o i"]:
    """Return the kernel of the transposed convolution: flipped, with the two channel axes swapped."""
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


def conv3x3(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "3 3 i o"],
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Float[Array, "n h w o"]:
    """Convolve features with a 3 x 3 kernel, with zero padding 1 and stride 1.

    The gradient with respect to `x` is the same kind of convolution, with the transposed kernel, and is
    computed in this form. Automatic differentiation would write it as another expression, which XLA's
    CPU compiler does not recognise as a convolution inside a loop body, and which takes about three
    times as long.

    Args:
      x: the features, [n, h, w, i].
      kernel: the layer's weights, [3, 3, i, o].
      forms: the kernel transposed, and perhaps transformed for Winograd convolution, as
        `kernel_forms.with_forms` computes them once before a loop. If None or empty, this function
        computes the transposed kernel itself.
      products: the precision of products that the convolution requests from the device.

    Returns:
      [n, h, w, o]. It is computed by Winograd convolution if `forms` contains the kernel transformed
      for that, and `winograd.pays` says that this is faster for a layer of this size.
    """
    return _conv3x3(products, x, kernel, forms or {TRANSPOSED: transpose(kernel)})


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv3x3(products: lax.Precision, x: Array, kernel: Array, forms: Forms) -> Array:
    if WINOGRAD in forms and winograd.pays(*x.shape[1:3], *kernel.shape[2:]):
        return winograd.convolve(x, forms[WINOGRAD])
    return _convolve(x, kernel, products)


def _conv3x3_forward(
    products: lax.Precision, x: Array, kernel: Array, forms: Forms
) -> tuple[Array, tuple[Array, Array, Forms]]:
    return _conv3x3(products, x, kernel, forms), (x, kernel, forms)


def _conv3x3_backward(
    products: lax.Precision, saved: tuple[Array, Array, Forms], g: Array
) -> tuple[Array, Array, None]:
    x, kernel, forms = saved
    if WINOGRAD_TRANSPOSED in forms and winograd.pays(*g.shape[1:3], *kernel.shape[2:]):
        input_gradient = winograd.convolve(g, forms[WINOGRAD_TRANSPOSED])
    else:
        input_gradient = _convolve(g, forms[TRANSPOSED], products)
    _, weight_gradient = jax.vjp(lambda k: _convolve(x, k, products), kernel)
    # The transposed and transformed kernels in `forms` get no gradient: they are computed from
    # `kernel`, which already gets the whole gradient here.
    return input_gradient, weight_gradient(g)[0], None


_conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)
