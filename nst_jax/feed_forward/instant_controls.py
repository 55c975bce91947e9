"""The artist's controls for pictures that a feed-forward network paints: colours, realism, protection.

A network paints the whole picture in one style, so there are no regions with other styles, and it
cannot keep a part of the content unchanged while it paints. So the controls change the pictures that
the network sees, and the picture that it has painted. The functions for this are those that `stylize`
uses. A request says what is needed to paint one picture: the content, the network and the style.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import _checks, prepare, run_scales
from nst_jax._real_size import committed_to, padded
from nst_jax._types import AnyImage, HostImage, Image, Shape
from nst_jax.controls import finishing
from nst_jax.controls.given import Given
from nst_jax.controls.regions import controls_of
from nst_jax.feed_forward.given_styles import ParsedStyle
from nst_jax.feed_forward.instant_painter import (
    SMALLEST_STYLE_SQUARE,
    InstantPainter,
    Request,
    style_array,
)
from nst_jax.finisher import Finisher
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.taps import SMALLEST

# The values of `colors` that read no pixels of the style. Only with these may the style be one that a
# network has learned, and not a picture.
WITHOUT_PICTURE = ("style", "content-after")


class ControlledRequest(NamedTuple):
    """What a network is to paint, and the function that applies controls to the painted picture."""

    request: Request  # what to paint: the network, and content and style as the network sees them
    finish: Callable[[AnyImage], Image]  # maps the painted picture to the result


def check_colors_and_realism(colors: str, realism: Any) -> None:
    """Refuse an unknown choice of colours, and a realism that is not from 0 to 1.

    Args:
      colors: one of `finishing.COLORS`.
      realism: how far the edges of a result are changed back to those of the photograph, from 0 (not
        at all) to 1 (fully): a number, or an array with a number for each result.

    Raises:
      TypeError, ValueError: if `colors` or `realism` cannot be used; the message names the argument.
    """
    _checks.one_of("colors", colors, finishing.COLORS, "choice of colours")
    _checks.number("realism", realism, least=0, most=1, means=finishing.REALISM)


def check_colors_of_style(colors: str, style: str, *, is_picture: bool) -> None:
    """Refuse a choice of colours that needs a style picture, if there is none.

    There is none if the style is one that a network has learned.

    Args:
      colors: one of `finishing.COLORS`.
      style: what the error message calls the style, such as its name in quotes.
      is_picture: whether the style is given as one or several pictures.

    Raises:
      ValueError: if `colors` needs a style picture and there is none.
    """
    if colors not in WITHOUT_PICTURE and not is_picture:
        raise ValueError(
            f"`colors`: '{colors}' needs the pixels of a style picture, and {style} has none; choose "
            "'content-after' for the photo's hues, or a picture as the style"
        )


def recipe_finishing_with(colors: str, realism: float) -> Recipe:
    """Return the recipe `default` with these values of its settings `colors` and `realism`.

    `controlled_request` takes the two values as parts of a recipe.
    """
    return DEFAULT.replace(colors=colors, realism=realism)


def _reads_opacity(colors: str) -> bool:
    """Return whether the colours of the result depend on which pixels of the inputs are transparent."""
    return finishing.recolors(colors) or colors == "palette"


def controlled_request(
    painter: InstantPainter,
    content: HostImage,
    style: ParsedStyle,
    recipe: Recipe,
    given: Given | None = None,
    strength: float = 1.0,
) -> ControlledRequest:
    """Return the request to paint a content in a style, and the function that finishes the picture.

    Args:
      painter: has the networks, and makes the request.
      content: the content [h, w, 3] at the size of the result.
      style: the checked style, its pictures at their final sizes.
      recipe: its `pictures.colors` says whose colours the result has, and its `pictures.realism` how
        far the result gets the content's edges back.
      given: the protected part (a mask of pixels that stay as in the content) and the opacities of
        content and styles, from `controls.given.checked_controls`; None if there are none. Its regions
        (parts with a style of their own) are left out, since the network paints the whole picture in
        one style.
      strength: strength of the style, from 0 (the content is painted in its own style) to 1 (in
        `style`).

    Raises:
      ValueError: if `strength` is not 1 for a style that is not given as pictures.
    """
    shape, side = (content.shape[0], content.shape[1]), painter.bucket
    shapes = tuple(one.shape[:2] for one in style.pictures)
    # A feed-forward network paints without computing losses. So `tap_styles`, styles for the losses of
    # single layers, are left out. `style_shares` are needed to mix the palettes of several styles.
    recipe = recipe.replace(tap_styles=(), style_shares=tuple(map(float, style.shares)))
    given = None if given is None else given._replace(regions=())
    if given is not None and given.protect is None and not _reads_opacity(recipe.pictures.colors):
        given = None  # the rest would not change the picture, so no program is compiled for it
    on_host = side is not None
    # `jax.device_put` compiles nothing; `jnp.asarray` would compile a program for each shape.
    prepared = prepare.prepared_of(
        jax.device_put(content),
        tuple(map(jax.device_put, style.pictures)),
        (run_scales.Scale(shape, shapes, 1),),
        recipe,
        controls=given and controls_of(given, shape, shapes, on_host=on_host),
        on_host=on_host,
        # With `on_host`, each picture is recoloured at the top left of a square array, whose side is a
        # multiple of this number. So pictures of many shapes share a compiled program. For style
        # pictures of the default size, one or two programs are enough, as long as the longer side of a
        # picture is at most three times the shorter one.
        side=max(side or 0, SMALLEST_STYLE_SQUARE),
    )
    seen = style._replace(pictures=tuple(map(np.asarray, prepared.styles)))
    request = painter.request(np.asarray(prepared.content), seen, strength)
    finisher, scale = Finisher(prepared, recipe), prepared.scales[0]
    if side is None:
        return ControlledRequest(request, lambda painted: finisher(jax.device_put(painted), scale))
    arrays = run_scales.Scale((side, side), (_array_of_styles(shapes),), 1)

    def finish(painted: Any) -> Any:
        wide: Any = padded(painted, arrays.shape)
        chosen = committed_to(painted)
        return finisher.in_arrays(
            wide if chosen is None else jax.device_put(wide, chosen), scale, arrays
        )

    return ControlledRequest(request, finish)


def _array_of_styles(shapes: Sequence[Shape]) -> Shape:
    """Return one (height, width) for the arrays of all style pictures, so large that each picture fits.

    Args:
      shapes: (height, width) of each style picture. It is empty if the style is not given by pictures;
        the result is then the size of the smallest square in which a style picture may lie.
    """
    arrays = [style_array(shape) for shape in shapes] or [style_array((SMALLEST, SMALLEST))]
    return max(height for height, _ in arrays), max(width for _, width in arrays)
