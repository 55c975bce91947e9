"""The checks of the pictures, features and weights that raters get."""

from typing import Any

from nst_jax import _checks
from nst_jax.feed_forward.transformer import check_network

_BATCH = "`jax.vmap` rates a batch"


def check_picture(
    argument: str, image: Any, *, smallest: int = 1, needs: str = "this rater needs"
) -> None:
    """Refuse anything but one floating-point picture [h, w, 3] with sides of at least `smallest` px.

    `needs` is the beginning of the phrase that says why a smaller picture is refused.
    """
    _checks.one_image(argument, image, smallest=smallest, advice=_BATCH, needs=needs)


def check_pair(picture: Any, content: Any, *, smallest: int) -> None:
    """Refuse pictures that are no pictures, smaller than a filter, or of different sizes."""
    _checks.two_images(
        "picture",
        picture,
        "content",
        content,
        smallest=smallest,
        advice=_BATCH,
        needs="the filter needs",
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
        _checks.not_keys(argument, features, "features [height, width, channels]")
        if len(shape) != 3:
            raise ValueError(
                f"`{argument}`: expected features [height, width, channels], got shape {list(shape)}; "
                f"{_BATCH}"
            )
    (_, one), (argument, other) = pair.items()
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"`{argument}`: expected {one.shape[-1]} channels, got {other.shape[-1]}; compare features "
            "at the same tap"
        )


def check_predictor(predictor: Any) -> None:
    """Refuse a value that is not the weights of the network that predicts style vectors."""
    check_network(predictor, "predictor", "load_arbitrary", argument="predictor")
