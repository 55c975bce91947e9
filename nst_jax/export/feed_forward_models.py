"""The feed-forward networks as models to export.

Each is described as a `Model`, which `nst_jax.export.save` writes to a file. A model has programs,
which are functions of the network's weights and of input arrays. The input `shares` of some programs
says how much of each style is in a mixture of styles.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax import _checks
from nst_jax._types import Params
from nst_jax.export.models import (
    SIDES,
    STYLE_SIDES,
    Model,
    Program,
    Specs,
    Weights,
    named_weights,
    nested_weights,
    of_weights,
    picture_of,
    with_weights,
)
from nst_jax.feed_forward import arbitrary, johnson, styles26
from nst_jax.feed_forward.style_files import ReadStyle
from nst_jax.feed_forward.style_names import NAMES
from nst_jax.feed_forward.transformer import check_network
from nst_jax.vgg.precision import FLOAT32
from nst_jax.weights.params import WeightsInfo, read_info_of

_IMAGE = {"content": "the picture to paint, sRGB in [0, 1]", "image": "the result, sRGB in [0, 1]"}
_STYLE = {"style": "a picture of the style, sRGB in [0, 1]"}

# (height, width) in px of the style pictures on which the network `arbitrary` was trained. For exports
# with fixed sizes, it is the default size of style pictures.
STYLE_SHAPE = (256, 256)


def arbitrary_model(params: Params, *, info: WeightsInfo | None = None) -> Model:
    """Return a `Model` of the network `arbitrary`, which takes its style from any picture.

    `save` writes the model to a file. The model has three programs. `style_vector` and `stylize_with`
    are functions of `nst_jax.feed_forward`, and `stylize` does the work of both:

        image = stylize(weights, content, style)
        vector = style_vector(weights, style)                # [100]
        image = stylize_with(weights, content, vector)

    Args:
      params: weights from `nst_jax.feed_forward.load_arbitrary`.
      info: origin, licence and digest of the weights file, for the metadata; None means those of the
        file that comes with the package.

    Returns:
      The network as a `Model`.

    Raises:
      TypeError: if `params` is not a `Params`, or `info` not a `WeightsInfo`.
      ValueError: if the weights are of another network.

    Example:
      >>> from nst_jax.feed_forward import load_arbitrary
      >>> list(arbitrary_model(load_arbitrary()).programs)
      ['stylize', 'style_vector', 'stylize_with']
    """
    check_network(params, "predictor", "load_arbitrary")

    def vector_of(weights: Weights, style: Any) -> Any:
        return arbitrary.style_vector(with_weights(params, weights), style, precision=FLOAT32)

    def painted(weights: Weights, content: Any, vector: Any) -> Specs:
        found = arbitrary.stylize_with(
            with_weights(params, weights), content, vector, precision=FLOAT32
        )
        return {"image": found}

    stylize = Program(
        call=lambda weights, content, style: painted(weights, content, vector_of(weights, style)),
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "style": picture_of(STYLE_SIDES, sizes),
        },
        sides=(*SIDES, *STYLE_SIDES),
        about=_IMAGE | _STYLE,
    )
    style_vector = Program(
        call=lambda weights, style: {"vector": vector_of(weights, style)},
        inputs=lambda sizes: {"style": picture_of(STYLE_SIDES, sizes)},
        sides=STYLE_SIDES,
        about=_STYLE | {"vector": "what the style is like"},
    )
    stylize_with = Program(
        call=painted,
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "vector": jax.ShapeDtypeStruct((arbitrary.VECTOR,), jnp.float32),
        },
        about=_IMAGE | {"vector": "a style's vector, or a mean of several"},
    )
    return Model(
        name="arbitrary",
        summary="paints a picture in the style of another picture",
        programs={
            "stylize": stylize,
            "style_vector": style_vector,
            "stylize_with": stylize_with,
        },
        weights=named_weights(params.layers),
        facts={"weights": of_weights(info or read_info_of(arbitrary.ARCHITECTURE))},
        style_shape=STYLE_SHAPE,
    )


def styles26_model(params: Params, *, info: WeightsInfo | None = None) -> Model:
    """Return a `Model` of the network of 26 fixed styles.

    `save` writes the model to a file. The model has one program, `stylize(weights, content, shares)`.
    `weights` are those of the network. `shares` [26] says how much of each style is in a mixture of
    styles; the sum of the shares must be 1.

    Args:
      params: weights from `nst_jax.feed_forward.load_styles26`.
      info: origin, licence and digest of the weights file, for the metadata; None means those of the
        file that comes with the package.

    Returns:
      The network as a `Model`.

    Raises:
      TypeError: if `params` is not a `Params`, or `info` not a `WeightsInfo`.
      ValueError: if the weights are of another network.

    Example:
      >>> from nst_jax.feed_forward import load_styles26
      >>> list(styles26_model(load_styles26()).programs)
      ['stylize']
    """
    check_network(params, "conditions/contract1", "load_styles26")

    def call(weights: Weights, content: Any, shares: Any) -> Specs:
        found = styles26.stylize_mixture(
            with_weights(params, weights), content, shares, precision=FLOAT32
        )
        return {"image": found}

    return Model(
        name="styles26",
        summary="paints a picture in one of 26 styles, or in a mixture of them",
        programs={"stylize": _mixture(call, styles26.STYLES, "their sum should be 1")},
        weights=named_weights(params.layers),
        facts={
            "styles": list(NAMES),
            "weights": of_weights(info or read_info_of(styles26.ARCHITECTURE)),
        },
    )


def trained_model(style: ReadStyle) -> Model:
    """Return a `Model` of a network that `nst_jax.train` trained.

    `save` writes the model to a file. The model has one program, `stylize(weights, content, shares)`.
    `weights` are those of the network. `shares` [styles] says how much of each style of the network is
    in a mixture of these styles. The program divides the shares by their sum.

    Args:
      style: the trained network with its facts and digest, as
        `nst_jax.feed_forward.style_files.read_style_file` returns it.

    Returns:
      The network as a `Model`.

    Raises:
      TypeError: if `style` is not a `ReadStyle`.

    Example:
      >>> import jax
      >>> from nst_jax.feed_forward import johnson, style_files
      >>> params = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1)
      >>> network = johnson.StyleNetwork(params, ("wave", "mosaic"))
      >>> model = trained_model(style_files.ReadStyle(network, {}, ""))
      >>> model.facts["styles"]
      ['wave', 'mosaic']
    """
    advice = "`nst_jax.feed_forward.style_files.read_style_file(path)` returns one"
    _checks.instance("style", style, ReadStyle, advice)

    def call(weights: Weights, content: Any, shares: Any) -> Specs:
        return {"image": johnson.stylize_trained(nested_weights(weights), content, shares)}

    names = list(style.network.styles)
    return Model(
        name="style file",
        summary=f"paints a picture in the style of {', '.join(names)}",
        programs={"stylize": _mixture(call, len(names), "they are divided by their sum")},
        weights=named_weights(style.network.params),
        facts={
            "styles": names,
            "weights": {
                "origin": "trained by nst-jax train",
                "digest": style.digest,
                "training": dict(style.facts),
            },
        },
    )


def _mixture(call: Callable[..., Specs], styles: int, sums: str) -> Program:
    """Return the program of a network that paints a content in a mixture of several styles.

    Args:
      call: runs the network.
      styles: number of styles. The program's input `shares` has the share of each in the mixture.
      sums: text about the sum of the shares, for the file's metadata: "their sum should be 1" if the
        caller has to ensure this, or "they are divided by their sum" if the program does that.
    """
    return Program(
        call=call,
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "shares": jax.ShapeDtypeStruct((styles,), jnp.float32),
        },
        about=_IMAGE | {"shares": f"the share of each style; {sums}"},
    )
