"""`texture`: paint a picture of any size with the texture of a given picture, and without a content."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Array

from nst_jax import _checks, losses, recipes, run_scales
from nst_jax._types import HostImage, Image, Params, Shape
from nst_jax.painting import stylize
from nst_jax.recipes import checking, sizes, starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling.sharding import Devices
from nst_jax.vgg.layers.padding import wrap_padded
from nst_jax.vgg.taps import SMALLEST, nearest_on_grid

# The first canvases that a texture can have: noise that does not depend on the content.
NOISE = (starts.Noise, starts.WhiteNoise, starts.MeanNoise, starts.StyleMeanNoise)


def texture(
    params: Params,
    style: Any,
    *,
    size: int | str | None = None,
    seamless: bool = False,
    recipe: Recipe = recipes.GATYS_TEXTURE,
    style_size: Size = None,
    style_scale: float | Sequence[float] | None = None,
    tap_styles: Mapping[str, Any] | None = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    key: Array | None = None,
    devices: Devices = None,
    style_opacity: Any = None,
) -> Image:
    """Synthesise a texture: a picture that looks like the style everywhere, but depicts nothing.

    Beginning with noise, a picture is optimised so that its style statistics come close to those of the
    style; there is no content. The statistics do not say where in the picture something is, so the
    result may have any size.

    Args:
      params: weights from `nst_jax.load_params`.
      style: [h, w, 3] float in [0, 1], or uint8; or a list of several, as in `stylize`.
      size: the size of the result in pixels: `"1024x512"` (width x height), or the side of a square;
        default: the size that the recipe's rule gives to the first style.
      seamless: whether opposite borders of the result fit together, so that copies of it can be laid
        side by side without a visible seam. If so, convolutions and the total variation continue beyond
        a border at the opposite border. Both sides must then be multiples of 16 px; the sides of the
        default size are rounded up to such multiples.
      recipe: its style losses, schedule and optimiser are used; a start other than noise is replaced
        by `Noise()`.
      style_size: the size to which the style is resized, given as in `stylize`; default: the recipe's
        rule, whatever the size of the result.
      style_scale: a factor by which the sides of the resized style are multiplied, or a sequence with a
        factor for each style.
      tap_styles: a dictionary from taps (layers) to pictures that take the place of `style` there.
      steps: number of updates; default: the recipe's.
      precision: name of the precision of products and activations, as in `stylize`.
      tile: size in px of the tiles in which the canvas is computed, or `"auto"` or `"off"`.
      key: a JAX random key for the noise; default: `jax.random.key(0)`.
      devices: the devices that share the canvas: `"all"`, a number, or a list of `jax.Device`.
      style_opacity: opacity of the style, [h', w'] in [0, 1]; for several styles, a list with the
        opacity of each, or None for an opaque one.

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used; raised before any long work.
      Diverged: if the losses stop being finite.
      Stalled: if no update changes the losses.
      OutOfMemory: if the device runs out of memory.

    Example:
      >>> import nst_jax as nst
      >>> style = nst.images.sample("starry_night")
      >>> image = nst.texture(nst.load_params(), style, size="64x32", style_size=48, steps=2)
      >>> image.shape
      (32, 64, 3)

    References:
      Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", 2015.
    """
    first = _checks.one_or_several("style", style)[0]
    recipe = of_texture(recipe, seamless=seamless)
    shape = canvas_shape(size, (first.shape[0], first.shape[1]), recipe)
    return stylize(
        params,
        blank(shape),
        style,
        recipe=with_canvas_as_it_is(recipe),
        style_size=style_size,
        style_scale=style_scale,
        tap_styles=tap_styles,
        steps=steps,
        precision=precision,
        tile=tile,
        key=key,
        devices=devices,
        style_opacity=style_opacity,
    )


def of_texture(recipe: Recipe, *, seamless: bool = False) -> Recipe:
    """Return the variant of a recipe that paints a texture: it starts from noise and uses no content.

    The settings that refer to the content's colours and edges (`colors`, `realism`, `matting_weight`)
    are turned off, too.

    Args:
      recipe: any recipe.
      seamless: whether convolutions continue beyond a border at the opposite border, so that opposite
        borders of a texture fit together.

    Raises:
      TypeError: if `recipe` is not a `Recipe`, or `seamless` neither True nor False.
      ValueError: if the recipe cannot be run at all, or cannot be run with `seamless`; and if the
        weights of all losses but those of the content are 0.
    """
    _checks.flag("seamless", seamless)
    recipe = recipes.check(recipe)
    start = recipe.pictures.start
    terms = replace(
        recipe.terms,
        content_weight=0.0,
        # The content loss is computed even with weight 0, and must be finite, since NaN times 0 is NaN.
        # The mean square is finite for every picture, also for the grey one that replaces a content.
        content_loss=losses.CONTENT_MEAN_SQUARE,
        content_taps=("relu1_1",),
        content_layer_weights=(1.0,),
        content_against_style=None,
        matting_weight=None,
    )
    if not checking.has_weight(terms):
        raise ValueError(
            "`style_weight`: the weights of all losses but those of the content are 0, and a texture "
            "has no content, so nothing would be painted; give `style_weight` and its layers, or "
            "`tv_weight`, a larger number"
        )
    recipe = replace(
        recipe,
        terms=terms,
        pictures=replace(
            recipe.pictures,
            start=start if isinstance(start, NOISE) else starts.Noise(),
            # With other values, the texture would get the colours and edges of the grey content.
            colors="style",
            realism=0.0,
        ),
    )
    if seamless:
        recipe = replace(recipe, network=replace(recipe.network, padding=wrap_padded))
    return recipes.check(recipe)


def with_canvas_as_it_is(recipe: Recipe) -> Recipe:
    """Return a variant of a recipe that does not resize the content, and resizes styles as before.

    The content is a grey picture that already has the size of the texture.
    """
    pictures = recipe.pictures
    rule = pictures.style_size or pictures.size
    return replace(recipe, pictures=replace(pictures, size=sizes.AsIs(), style_size=rule))


def canvas_shape(size: Size, style: Shape, recipe: Recipe) -> Shape:
    """Return the (height, width) of a texture.

    Args:
      size: the argument `size` of `texture`: WIDTHxHEIGHT, the side of a square, or None.
      style: (height, width) of the first style.
      recipe: a recipe from `of_texture`. If `size` is None, the recipe's size rule computes the size
        from that of the style. Both sides are then rounded up to multiples of 16 px if the texture is
        seamless (copies of it can be laid side by side).

    Raises:
      TypeError: if a size rule of a user's own does not return two whole numbers.
      ValueError: if `size` is neither WIDTHxHEIGHT nor the side of a square, if a side of the texture
        is under 16 px or too large, or if the texture is seamless and a side of `size` is not a
        multiple of 16 px.
    """
    step = SMALLEST if recipe.network.wraps else 1
    if size is None:
        rule = recipe.pictures.size
        wanted = sizes.new_shape(rule, style)
        height, width = run_scales.checked_shape("style", style, wanted, rule)
        return -(-height // step) * step, -(-width // step) * step
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(size).strip().lower())
    if found is None:
        raise ValueError(
            "`size`: expected WIDTHxHEIGHT such as 1024x512, or the side of a square, got "
            f"{_checks.shown(size)}"
        )
    width, height = int(found[1]), int(found[2] or found[1])
    for side in (height, width):
        _checks.number("size", side, least=SMALLEST, most=sizes.LARGEST)
    if height % step or width % step:
        near = "x".join(str(nearest_on_grid(side)) for side in (width, height))
        raise ValueError(
            f"`size`: where borders meet, both sides must be multiples of {step} px (four poolings), "
            f"got {width}x{height}; {near} is the nearest"
        )
    return height, width


def blank(shape: Shape) -> HostImage:
    """Return a grey picture of this (height, width), which takes the place of a content."""
    return np.full((*shape, 3), 0.5, np.float32)


# --- Many textures --------------------------------------------------------------------------------

# Arguments of `stylize_many` that cannot be given for textures -> what the caller should do instead.
_OF_CONTENTS = {
    "colors": "leave it out: a texture has the colours of its style",
    "realism": "leave it out: it brings back the edges of a content",
    "strength": "leave it out: it weighs a style against a content",
    "regions": "leave it out: regions are parts of a content; several styles are blended by a list",
    "protect": "leave it out: the protected part is one of a content",
    "opacity": "leave it out: it is that of contents; `style_opacity` is that of styles",
    "plan": "leave it out, and give the options of the plan themselves",
    "style_fine": "combine the styles by `nst_jax.combined_style`, and give the results as `styles`",
}


def check_many_textures(init: Any, **given: Any) -> None:
    """Refuse arguments of `stylize_many` that contradict textures, which have no content.

    Args:
      init: the argument `init` of `stylize_many`. None and noise are allowed.
      **given: the arguments in `_OF_CONTENTS`, by their names. None is allowed, which means that the
        argument was not given. So are "style" for `colors` and 0 for `realism`, which need no content.

    Raises:
      ValueError: if an argument is refused; the message names it and says what to do instead.
    """
    for name, value in given.items():
        unchanged = (name == "colors" and value == "style") or (
            name == "realism" and isinstance(value, (int, float)) and value == 0
        )
        if value is not None and not unchanged:
            raise ValueError(
                f"`{name}`: cannot be used for textures (`contents` is None); {_OF_CONTENTS[name]}"
            )
    if init is not None and not isinstance(init, NOISE):
        kinds = ", ".join(f"{kind.__name__}()" for kind in NOISE)
        raise ValueError(
            "`init`: textures (`contents` is None) start from noise; leave it out, or give one of the "
            f"starts {kinds}"
        )


def blank_contents(
    styles: Sequence[Sequence[np.ndarray]], size: Size, recipe: Recipe
) -> list[HostImage]:
    """Return the grey pictures that take the place of contents when many textures are painted.

    Args:
      styles: for each texture, its style pictures. If `size` is None, the size of the texture is
        computed from the size of its first style picture.
      size: as in `texture`, for all textures.
      recipe: a recipe from `of_texture`.

    Returns:
      One picture if all textures have the same size, else one for each of them.

    Raises:
      ValueError: as in `canvas_shape`.
    """
    shapes = [canvas_shape(size, (own[0].shape[0], own[0].shape[1]), recipe) for own in styles]
    return [blank(shape) for shape in (shapes[:1] if len(set(shapes)) == 1 else shapes)]
