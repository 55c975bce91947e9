"""The checks of the pictures, features and weights that raters get."""

from typing import Any

from nst_jax import _checks
from nst_jax._types import Params

# For `check_rater_weights`: a layer by which the weights of a network are recognised, and the function
# that loads them.
VGG19 = ("conv1_1", "nst_jax.load_params()")
PREDICTOR = ("predictor", "nst_jax.feed_forward.load_arbitrary()")


def check_picture(
    argument: str, image: Any, *, smallest: int = 1, needs: str = "this rater needs"
) -> None:
    """Refuse anything but one floating-point picture [h, w, 3] with sides of at least `smallest` px.

    `needs` is the beginning of the phrase that says why a smaller picture is refused.
    """
    _checks.one_image(
        argument, image, smallest=smallest, advice="`jax.vmap` rates a batch", needs=needs
    )


def check_features(**pair: Any) -> None:
    """Refuse two features, by the names of their arguments, that cannot be compared.

    Each must be an array [h, w, c], and both must have the same number of channels.
    """
    for argument, features in pair.items():
        shape = getattr(features, "shape", None)
        if shape is None:
            raise TypeError(
                f"`{argument}`: expected features [height, width, channels], got "
                f"{type(features).__name__}; `nst_jax.features` computes them"
            )
        if len(shape) != 3:
            raise ValueError(
                f"`{argument}`: expected features [height, width, channels], got shape {list(shape)}; "
                "`jax.vmap` rates a batch"
            )
    (_, one), (argument, other) = pair.items()
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"`{argument}`: expected {one.shape[-1]} channels, got {other.shape[-1]}; compare features "
            "at the same tap"
        )


def check_rater_weights(argument: str, params: Any, layer: str, loader: str) -> None:
    """Refuse a value that is not the weights of the network that has the layer `layer`."""
    _checks.instance(argument, params, Params, f"`{loader}` gives them")
    if layer not in params.layers:
        raise ValueError(
            f"`{argument}`: are weights of another network; `{loader}` gives the right ones"
        )
