"""The names of the 26 styles of the network `styles26`, and functions that find a style by its name.

The network's weights, which come with the package, do not include names of the styles. So the names
here were chosen by looking at the pictures that the network paints. On which paintings the network was
trained is not known.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nst_jax import _checks

# Name of each style, in the order of the network -> what pictures painted in this style look like.
LOOKS: Mapping[str, str] = {
    "ochre": "sand and sky blue, grainy, like a faded fresco",
    "comic": "bold black outlines on light grey and yellow",
    "charcoal": "black and cream with a little peach, smeared",
    "graffiti": "jagged strokes of blue, red and gold on black",
    "crimson": "dark red shadows beside sky blue and gold",
    "autumn": "hatched orange, rust and violet",
    "spots": "slate violet, with dark spots wherever there is detail",
    "primary": "flat blue, yellow and dark red on black",
    "sketch": "coloured pencils on white paper: pink, turquoise, yellow",
    "terrazzo": "white splinters in dark teal and red",
    "copper": "brown and copper, dim, few strokes",
    "engraving": "brown etched lines over yellow and pale grey",
    "impression": "soft yellow and lilac, blurred edges",
    "woodcut": "thick black lines over lime green, teal and red",
    "frost": "pale icy blue with touches of pink, soft pencil lines",
    "mosaic": "light stones with dark joints, in lilac, peach and yellow",
    "crayon": "slanting strokes of blue, orange and yellow",
    "weave": "a lattice of red, orange and blue bands; little of the photograph is left",
    "driftwood": "the grain of wood, beige on brown",
    "starry": "swirling strokes of blue and yellow, much contrast",
    "embers": "glowing red on nearly black",
    "cutout": "cut paper in pink, light blue, cream and black",
    "enamel": "pale grey cells with black borders, blue and red patches",
    "dusk": "blurred, dark at the edges, lit in the middle",
    "waves": "dark blue, foam and cream, as in a Japanese print",
    "impasto": "thick dabs of grey blue, orange and brown",
}
NAMES = tuple(LOOKS)


def is_name(style: Any) -> bool:
    """Return whether a value is the name of one of the 26 styles, or its number as an integer or text.

    Example:
      >>> is_name("mosaic"), is_name("Waves"), is_name(25), is_name("25"), is_name(26)
      (True, True, True, True, False)
    """
    return index_of(style) is not None


def index_of(style: Any) -> int | None:
    """Return the number of a style, 0 to 25, given its name or number; None if there is no such style.

    Example:
      >>> index_of("comic"), index_of(1), index_of("1"), index_of("cosmic")
      (1, 1, 1, None)
    """
    if isinstance(style, str):
        word = style.strip().lower()
        if word in LOOKS:
            return NAMES.index(word)
        style = int(word) if word.isascii() and word.isdecimal() and len(word) < 3 else -1
    if isinstance(style, bool) or not isinstance(style, (int, np.integer)):
        return None
    return int(style) if 0 <= style < len(NAMES) else None


def number_of(style: Any, *, argument: str = "style") -> int:
    """Return the number of a style, 0 to 25, given its name or number; raise an error if there is none.

    Args:
      style: a name in `NAMES`, in upper or lower case; or a number, which may be given as text.
      argument: the caller's name for the style, shown in error messages.

    Returns:
      The index of the style in `NAMES`.

    Raises:
      ValueError: if there is no such style; for a name, the message suggests the most similar name, or
        else lists all names.

    Example:
      >>> number_of("mosaic"), number_of("15")
      (15, 15)
      >>> number_of("mosiac")
      Traceback (most recent call last):
      ValueError: `style`: there is no style 'mosiac'; did you mean 'mosaic'?
    """
    found = index_of(style)
    if found is not None:
        return found
    if isinstance(style, str) and not style.strip().lstrip("-").isdecimal():
        raise _checks.unknown(argument, style, NAMES, "style")
    raise ValueError(
        f"`{argument}`: there is no style {style}; they are numbered 0 to {len(NAMES) - 1}"
    )


def mixture_of(styles: Mapping[Any, Any], *, argument: str = "style") -> np.ndarray:
    """Return the share (weight) of each of the 26 styles in a mixture of some of them.

    Args:
      styles: maps the names or numbers of styles to their shares, which need not add up to 1.
      argument: the caller's name for the styles, shown in error messages.

    Returns:
      The shares of all 26 styles, float32 [26], divided by their sum; 0 for styles not in `styles`.

    Raises:
      TypeError: if a share is not a number.
      ValueError: if no style has a given name or number, if a style is given twice (by name and by
        number), if a share is an array of numbers, negative, or 1e30 or more, or if all shares are 0.

    Example:
      >>> mixture_of({"mosaic": 1, "waves": 3})[[15, 24]]
      array([0.25, 0.75], dtype=float32)
    """
    shares: list[Any] = [0.0] * len(NAMES)
    given: set[int] = set()
    for style, share in styles.items():
        place = number_of(style, argument=argument)
        if place in given:
            raise ValueError(f"`{argument}`: {NAMES[place]!r} is given twice; give it once")
        given.add(place)
        shares[place] = share
    return _checks.shares(argument, shares)
