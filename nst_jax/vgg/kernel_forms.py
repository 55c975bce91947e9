"""Make forms of convolution kernels, once for all updates of a loop: rounded, transposed, transformed.

The transformed kernels are for Winograd convolution.
"""

from collections.abc import Iterable
from dataclasses import replace

import jax
from jaxtyping import Array

from nst_jax import _checks
from nst_jax._types import Params
from nst_jax.vgg import winograd
from nst_jax.vgg.layers.convolution import (
    BIAS,
    KERNEL,
    TRANSPOSED,
    WINOGRAD,
    WINOGRAD_TRANSPOSED,
    transpose,
)
from nst_jax.vgg.precision import FLOAT32, Precision
from nst_jax.vgg.taps import LAYERS, check_layers, halvings, layer_of, resolve_tap


def with_forms(
    params: Params,
    taps: Iterable[str],
    *,
    shape: tuple[int, int] | None = None,
    precision: Precision = FLOAT32,
) -> Params:
    """Return the weights of the layers that a loop of updates needs, with the forms of their kernels.

    These are the layers down to the deepest tap; a tap is a point at which losses read features. A form
    is an array that is computed from a kernel: the kernel transposed for the gradient and, on a CPU,
    transformed for Winograd convolution where that is faster. This function computes the forms once,
    before a loop of updates. Without them, XLA flips and transposes 80 MB of kernels in every update,
    which for a picture of 48 px takes longer than the convolutions. A kernel's two forms for Winograd
    convolution, plain and transposed, together take 8 times the memory of the kernel.

    Args:
      params: weights, with or without forms.
      taps: names of the taps that the loop reads.
      shape: (height, width) of the largest picture to be optimised, which decides which layers get
        forms for Winograd convolution; None adds no such form. With a shape, the weights must be
        concrete and not traced, since their device is looked up: only a CPU gets these forms.
      precision: the network's precision. Its convolutions use kernels that are rounded to its dtype
        for activations. So the forms are computed from the rounded kernels, too: with Winograd
        convolution, a layer then has the same weights as without it.

    Returns:
      Weights for `nst_jax.step` and `nst_jax.run` with a recipe that reads no deeper tap.

    Raises:
      TypeError: if `params` is not a `Params`, or a tap not a string.
      ValueError: if `taps` is empty, or if a tap is unknown or ambiguous; see `vgg.resolve_tap`. Also
        if the weights are of another network than VGG-19, or have no such layers, since an earlier call
        of this function left them out.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.vgg.with_forms(nst.load_params(), ["relu3_1"], shape=(256, 256))
      >>> len(params.layers), sorted(params.layers["conv1_1"])
      (5, ['bias', 'kernel', 'transposed'])
    """
    order = "the order is with_forms(params, taps)"
    _checks.weights_of_vgg(params, Params, f"`nst_jax.load_params()` gives them; {order}")
    resolved = [resolve_tap(tap) for tap in taps]
    if not resolved:
        raise ValueError("`taps`: name at least one tap, such as 'relu4_2'")
    check_layers(params, resolved)
    deepest = max(list(LAYERS).index(layer_of(tap)) for tap in resolved)
    if shape is not None and not _on_cpu(params):
        shape = None
    layers = {name: dict(params.layers[name]) for name in list(LAYERS)[: deepest + 1]}
    for layer in layers.values():
        # Biases are rounded as well as kernels, so that they need not be converted in every update.
        for name in {KERNEL, TRANSPOSED, BIAS} & set(layer):
            layer[name] = layer[name].astype(precision.activations_of(layer[name].dtype))
    plain = {name: layer[KERNEL] for name, layer in layers.items() if TRANSPOSED not in layer}
    for name, transposed in _transpose_all(plain).items():
        layers[name][TRANSPOSED] = transposed
    if shape is not None:
        chosen = {
            name: (layer[KERNEL], layer[TRANSPOSED])
            for name, layer in layers.items()
            if WINOGRAD not in layer and _winograd_pays(name, shape, layer[KERNEL])
        }
        for name, forms in _transform_all(chosen).items():
            layers[name][WINOGRAD], layers[name][WINOGRAD_TRANSPOSED] = forms
    return replace(params, layers=layers)


@jax.jit
def _transpose_all(kernels: dict[str, Array]) -> dict[str, Array]:
    """Return the kernel of the transposed convolution for each layer, by the layer's name.

    One jitted program makes all of them, instead of one program for each shape of a kernel.
    """
    return {name: transpose(kernel) for name, kernel in kernels.items()}


@jax.jit
def _transform_all(kernels: dict[str, tuple[Array, Array]]) -> dict[str, tuple[Array, Array]]:
    """Transform all kernels for Winograd convolution in one program, instead of one for each shape.

    For each layer, the pair of kernels is the plain and the transposed one.
    """
    return jax.tree.map(winograd.transform_kernel, kernels)


def _on_cpu(params: Params) -> bool:
    kernel = params.layers["conv1_1"][KERNEL]
    devices = kernel.devices() if isinstance(kernel, jax.Array) else jax.devices()
    return all(device.platform == "cpu" for device in devices)


def _winograd_pays(name: str, shape: tuple[int, int], kernel: Array) -> bool:
    """Return whether Winograd convolution on a CPU is faster for a layer of a picture of this shape.

    `name` and `kernel` are those of the layer; `shape` is the (height, width) of the picture in px.
    """
    times = halvings(name)
    return winograd.pays(shape[0] >> times, shape[1] >> times, *kernel.shape[2:])
