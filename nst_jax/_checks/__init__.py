"""Checks that public functions make of their arguments, once and before any work.

To refuse a value, a function here raises TypeError or ValueError. The message gives the argument's name
(as in the user's call), what was expected, what was given, and unless it is obvious, what to do next.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax._checks import keys, names, numbers, pictures, returned, values
    from nst_jax._checks.keys import not_keys, random_key
    from nst_jax._checks.names import LIKE, nearest_name, one_of, unknown
    from nst_jax._checks.numbers import (
        LARGEST_SHARE,
        known_number,
        not_array,
        number,
        one_number,
        one_share,
        shares,
        single,
        whole,
        whole_scalar,
    )
    from nst_jax._checks.pictures import (
        array,
        floating,
        image,
        image_shape,
        images,
        not_masked,
        one_image,
        one_or_several,
        same_shape,
        two_images,
    )
    from nst_jax._checks.returned import returned_array, returned_image
    from nst_jax._checks.values import (
        flag,
        function,
        in_words,
        instance,
        not_class,
        not_traced,
        one_line,
        same_length,
        shown,
        weights_of_vgg,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("keys", "names", "numbers", "pictures", "returned", "values"),
        {
            "keys": ("not_keys", "random_key"),
            "names": ("LIKE", "nearest_name", "one_of", "unknown"),
            "numbers": (
                "LARGEST_SHARE",
                "known_number",
                "not_array",
                "number",
                "one_number",
                "one_share",
                "shares",
                "single",
                "whole",
                "whole_scalar",
            ),
            "pictures": (
                "array",
                "floating",
                "image",
                "image_shape",
                "images",
                "not_masked",
                "one_image",
                "one_or_several",
                "same_shape",
                "two_images",
            ),
            "returned": ("returned_array", "returned_image"),
            "values": (
                "flag",
                "function",
                "in_words",
                "instance",
                "not_class",
                "not_traced",
                "one_line",
                "same_length",
                "shown",
                "weights_of_vgg",
            ),
        },
    )

__all__ = [
    "LARGEST_SHARE", "LIKE", "array", "flag", "floating", "function", "image", "image_shape",
    "images", "in_words", "instance", "keys", "known_number", "names", "nearest_name", "not_array",
    "not_class", "not_keys", "not_masked", "not_traced", "number", "numbers", "one_image",
    "one_line", "one_number", "one_of", "one_or_several", "one_share", "pictures", "random_key",
    "returned", "returned_array", "returned_image", "same_length", "same_shape", "shares", "shown",
    "single", "two_images", "unknown", "values", "weights_of_vgg", "whole", "whole_scalar",
]  # fmt: skip
