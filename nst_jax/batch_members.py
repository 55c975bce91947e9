"""The members of a batch: the pictures to paint, each a content and its styles, checked and resized."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, prepare, run_scales
from nst_jax._types import Shape
from nst_jax.batch_arguments import checked_blends, number_of_pictures, several_keys
from nst_jax.control_checks import check_controls
from nst_jax.controls import finishing
from nst_jax.controls.given import BatchControls, Given
from nst_jax.controls.regions import controls_of
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_errors import warn_of_enlarged
from nst_jax.scaling.buckets import rounded_up
from nst_jax.vgg.taps import SMALLEST


class Member(NamedTuple):
    """One picture to paint in a batch: its content and styles, already resized, and its random key."""

    place: int  # index of the picture in the batch, and so in the result
    # Index of its content in the batch's list of contents. Members with the same index share the
    # features of the content.
    content: int
    # Number of its style picture, or of its list of blended style pictures. Members with the same
    # number and the same sizes of these pictures share their statistics (such as Gram matrices). A
    # style that is used with two values of `style_scale`, or recoloured to match two contents, counts
    # as two styles with different numbers.
    style: int
    prepared: prepare.Prepared  # its resized content and styles, its masks, and its resolutions
    key: Array  # random key, used if the first canvas has noise


def members_of(
    contents: Any,
    styles: Any,
    recipe: Recipe,
    *,
    init: Any = None,
    key: Array | None = None,
    given: BatchControls | None = None,
    style_scale: Sequence[tuple[float, ...]] | None = None,
    on_host: bool = False,
    side: int = SMALLEST,
    style_originals: Sequence[Sequence[Shape]] | None = None,
) -> list[Member]:
    """Check the arguments of a batch, resize its pictures, and return a `Member` per picture to paint.

    Args:
      contents: as in `stylize_many`.
      styles: as in `stylize_many`. The pictures of `tap_styles` (styles for single layers) are already
        appended to each entry.
      recipe: the recipe of all pictures, to which the options of the call are already applied.
      init: as in `stylize_many`; it is only checked here, and used when the batch is painted.
      key: as in `stylize_many`, a key or an array of keys.
      given: the arguments `regions`, `protect`, `opacity` and `style_opacity` of `stylize_many`; None
        if none of these is given.
      style_scale: for each picture, the positive factors by which the sides of its styles are
        multiplied: one for all its styles, or one for each. If there are n entries, picture i gets
        entry i mod n. None: the recipe's factors.
      on_host: whether to resize pictures with NumPy, so that JAX compiles no program for their sizes.
      side: with `on_host`, each picture is recoloured inside a square array, so that pictures of many
        sizes share a program. This is the least side of these squares, in px.
      style_originals: for each entry of `styles`, (height, width) of each of its pictures before any
        resizing, from which the size rules compute the final sizes. Pass it if the pictures already
        have their final sizes. None means the sizes of the given pictures.

    Returns:
      The members of the batch, in the order of the pictures.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe values do
        not fit together.
    """
    starts.check_start_or_image("init", init)
    keys = several_keys(key)
    key = jax.random.key(0) if key is None else key
    contents, styles = _checks.images("contents", contents), checked_blends(styles, recipe)
    given = BatchControls() if given is None else given
    several = given.lengths() | ({} if style_scale is None else {"style_scale": len(style_scale)})
    several |= {} if keys is None else {"keys": len(keys)}
    count = number_of_pictures(contents, styles, recipe, several)
    pairs = [
        Pair(index % len(contents), index % len(styles), _of_picture(style_scale, index))
        for index in range(count)
    ]
    sides = [[image.shape[:2] for image in blended] for blended in styles]
    controls = [
        given.checked(index, contents[pair.content].shape[:2], sides[pair.style])
        for index, pair in enumerate(pairs)
    ]
    for one in controls:
        check_controls(one, recipe)
    resize = prepare.resized_without_compiling if on_host else prepare.resized
    originals = sides if style_originals is None else [list(shapes) for shapes in style_originals]
    resized = _resized(
        contents, styles, dict.fromkeys(pairs), controls[0], recipe, resize, originals
    )
    prepared = _recolored(resized, pairs, controls, recipe, on_host, side)
    # A style that gets the colours of its content is a different picture for each content, and a style
    # that is used in several sizes is a different picture in each size. Each of these pictures needs a
    # number of its own (`Member.style`), since `BatchCanvas` computes the statistics of styles with the
    # same number only once.
    recolors = finishing.recolors(recipe.pictures.colors)
    versions = [(pair.content if recolors else None, pair.style_scale) for pair in pairs]
    numbers = {version: number for number, version in enumerate(dict.fromkeys(versions))}
    return [
        Member(
            index,
            pair.content,
            numbers[version] * len(styles) + pair.style,
            prepared[index],
            jax.random.fold_in(key, index) if keys is None else keys[index % len(keys)],
        )
        for index, (pair, version) in enumerate(zip(pairs, versions, strict=True))
    ]


class Pair(NamedTuple):
    """A content and the styles in which it is painted.

    Pictures of a batch whose pairs are equal share the arrays of the resized content and styles.
    """

    content: int  # index in the list of contents
    style: int  # index in the list of styles, whose entries are single styles or blends
    # Factors by which the sizes of these styles are multiplied; None means those of the recipe.
    style_scale: tuple[float, ...] | None = None


def _of_picture(
    style_scale: Sequence[tuple[float, ...]] | None, index: int
) -> tuple[float, ...] | None:
    """Return the factors of the styles' sizes for the picture with this index in the batch.

    `style_scale` is the argument of `members_of`. If it has fewer entries than the batch has pictures,
    they are used again from the first on. None means the recipe's factors.
    """
    return None if style_scale is None else style_scale[index % len(style_scale)]


def _with_style_scale(recipe: Recipe, factors: tuple[float, ...] | None) -> Recipe:
    return recipe if factors is None else recipe.replace(pictures__style_scale=factors)


def _recolored(
    resized: Mapping[Pair, prepare.Prepared],
    pairs: Sequence[Pair],
    given: Sequence[Given | None],
    recipe: Recipe,
    on_host: bool,
    side: int,
) -> list[prepare.Prepared]:
    """Return the prepared arrays of each picture of the batch, recoloured if the recipe says so.

    Pictures with the same content and styles share one recoloured copy. A picture with regions or
    transparent parts gets its own copy, since these decide which pixels count in the statistics of
    colours (such as means) that are matched, and they may differ from picture to picture.

    Args:
      resized: content and styles of each `Pair` as prepared arrays, resized but not recoloured.
      pairs: the key in `resized` of each picture of the batch.
      given: the checked regions, protected and transparent parts of each picture; None: it has none.
      recipe: the recipe of all pictures.
      on_host: whether each picture is recoloured in a square array at whose top left it lies.
      side: least side of these squares, in px.
    """
    # The side of a square is rounded up to a multiple of `side`. So `side` is made no less than the
    # longest side of the contents: then all contents get equal squares, and share a compiled program.
    longest = max(max(one.scales[-1].shape) for one in resized.values())
    side = max(side, rounded_up(longest))
    known: dict[Pair, prepare.Prepared] = {}
    found = []
    for pair, own in zip(pairs, given, strict=True):
        content, styles, scales, _, region_styles, _ = resized[pair]
        controls = own and controls_of(
            own, scales[-1].shape, scales[-1].style_shapes, on_host=on_host
        )
        parts = own is not None and (
            own.opacity is not None or bool(own.style_opacities) or bool(own.regions)
        )
        if pair in known and not parts:
            found.append(known[pair]._replace(controls=controls))
            continue
        one = prepare.prepared_of(
            content,
            styles,
            scales,
            recipe,
            region_styles=region_styles,
            controls=controls,
            on_host=on_host,
            side=side,
        )
        if not parts:
            known[pair] = one
        found.append(one)
    return found


def _resized(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    pairs: Iterable[Pair],
    given: Given | None,
    recipe: Recipe,
    resize: Callable[[np.ndarray, Shape, Recipe], Any],
    sides: list[list[Shape]],
) -> dict[Pair, prepare.Prepared]:
    """Resize contents and styles to their final sizes; return the prepared arrays of each pair.

    A pair is a content and the styles in which it is painted. The sizes of all pairs are checked before
    the first picture is resized. A picture that several pairs need in the same size is resized once.

    Args:
      contents: pictures [h, w, 3].
      styles: lists of pictures [h', w', 3]. The pictures of a list are blended; a single style is a
        list of one picture.
      pairs: the pairs of the batch, each once.
      given: the checked regions, protected and transparent parts; None: there are none. The regions'
        styles are the same for all pictures of a batch, so those of one picture are enough.
      recipe: the recipe whose size rules apply.
      resize: the function that resizes a picture to a (height, width) with the recipe's filter.
      sides: for each entry of `styles`, the original (height, width) of each of its pictures. The final
        sizes are computed from these, since the pictures may have been resized before.
    """
    others = [] if given is None else [region.style for region in given.regions]
    scales = {
        pair: run_scales.scales_of(
            contents[pair.content].shape[:2],
            sides[pair.style],
            _with_style_scale(recipe, pair.style_scale),
            region_styles=[image.shape[:2] for image in others],
            protected=given is not None and given.protect is not None,
        )
        for pair in pairs
    }
    canvas_shapes = {pair.content: found[-1].shape for pair, found in scales.items()}
    # The recipe's size rule may derive the size of a style from that of its content, so one style can
    # have several sizes.
    style_shapes = {
        pair: found[-1].style_shapes[: len(sides[pair.style])] for pair, found in scales.items()
    }
    resized_contents = {i: resize(contents[i], shape, recipe) for i, shape in canvas_shapes.items()}
    resized_styles = {
        (style, shapes): tuple(
            resize(*one, recipe) for one in zip(styles[style], shapes, strict=True)
        )
        for style, shapes in dict.fromkeys(
            (pair.style, found) for pair, found in style_shapes.items()
        )
    }
    of_regions = {
        pair: found[-1].style_shapes[len(sides[pair.style]) :] for pair, found in scales.items()
    }
    region_styles = {
        shapes: tuple(resize(*pair, recipe) for pair in zip(others, shapes, strict=True))
        for shapes in dict.fromkeys(of_regions.values())
    }
    return {
        pair: prepare.Prepared(
            resized_contents[pair.content],
            resized_styles[pair.style, style_shapes[pair]],
            found,
            photo=resized_contents[pair.content],
            region_styles=region_styles[of_regions[pair]],
        )
        for pair, found in scales.items()
    }


def warn_of_enlarged_styles(
    styles: Any,
    members: Sequence[Member],
    recipe: Recipe,
    style_scale: Sequence[tuple[float, ...]] | None,
) -> None:
    """Warn of styles that `style_scale` makes larger than they were before any resizing.

    If pictures with the same `Member.style` have their style in different sizes, the warning is for the
    largest size. `style_scale` has, for each picture, the factors by which the sides of its styles are
    multiplied; None means the factors of the recipe.
    """
    if recipe.pictures.style_scale is None and style_scale is None:
        return
    largest: dict[int, Member] = {}
    for member in members:
        known = largest.setdefault(member.style, member)
        if _style_sides(member) > _style_sides(known):
            largest[member.style] = member
    blends = checked_blends(styles, recipe)
    for index, member in largest.items():
        # A style that is used with several factors `style_scale`, or recoloured to match several
        # contents, has several numbers `Member.style`: `members_of` adds multiples of the number of
        # styles to the style's index. The remainder `%` is this index.
        originals = [style.shape[:2] for style in blends[index % len(blends)]]
        shapes = member.prepared.scales[-1].style_shapes[: len(originals)]
        scaled = _with_style_scale(recipe, _of_picture(style_scale, member.place))
        warn_of_enlarged(originals, shapes, scaled, stacklevel=3)


def _style_sides(member: Member) -> int:
    """Return the sum of the longer sides of a picture's styles at their final sizes, in px.

    Of all pictures with the same `Member.style`, `warn_of_enlarged_styles` takes the one with the
    largest sum.
    """
    return sum(max(shape) for shape in member.prepared.scales[-1].style_shapes)
