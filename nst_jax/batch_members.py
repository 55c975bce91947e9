"""The members of a batch: the pictures to paint, each a content and its styles, checked and resized."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, prepare, recipes, run_scales
from nst_jax._types import Params, Shape
from nst_jax.combining import combined_style
from nst_jax.control_checks import check_controls
from nst_jax.controls import finishing
from nst_jax.controls.given import BatchControls, Given
from nst_jax.controls.regions import controls_of
from nst_jax.painting import warn_of_enlarged
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
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
    keys = _several_keys(key)
    key = jax.random.key(0) if key is None else key
    contents, styles = _checks.images("contents", contents), _blends(styles, recipe)
    given = BatchControls() if given is None else given
    several = given.lengths() | ({} if style_scale is None else {"style_scale": len(style_scale)})
    several |= {} if keys is None else {"keys": len(keys)}
    count = _count(contents, styles, recipe, several)
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


# --- The arguments --------------------------------------------------------------------------------


# A number of a recipe may be an array [n], with one value for each picture of a batch, if its path in
# the recipe, such as "terms.style_weight", begins with one of these strings.
SWEPT = ("terms.", "descent.optimizer.", "descent.last_learning_rate", "pictures.realism")


def _count(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    recipe: Recipe,
    several: Mapping[str, int],
) -> int:
    """Return the number of pictures of a batch.

    It is the common length of all lists and arrays whose length is not 1, and 1 if every list or array
    has a single item.

    Args:
      contents: the content pictures.
      styles: for each picture of the batch, or once for all, a list of styles that are blended.
      recipe: the recipe, in which a number may be an array with an item for each picture.
      several: name -> number of items, for the other arguments that are given as lists or arrays with
        an item for each picture, such as masks and `style_scale`.

    Raises:
      ValueError: if two lists or arrays have different lengths, neither of which is 1; or if a number
        of the recipe is an array, but may not be one (see `SWEPT`), or is empty or has several axes.
    """
    sizes = {"contents": len(contents), "styles": len(styles), **several}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf) == 0:
            continue
        name = jax.tree_util.keystr(path).lstrip(".")
        if np.ndim(leaf) > 1 or not name.startswith(SWEPT):
            raise ValueError(
                f"`recipe`: `{name}` may not be an array of shape {list(np.shape(leaf))}; "
                "a sweep is an array [n] in `terms` or `descent.optimizer`, or of learning rates, "
                "or `realism`"
            )
        if len(leaf) == 0:
            raise ValueError(
                f"`recipe`: `{name}` is an empty array; give a number for each picture"
            )
        sizes[f"recipe.{name}"] = len(leaf)
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"`stylize_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def _several_keys(key: Any) -> list[Array] | None:
    """Check the argument `key`; return a list of its keys if it is an array of keys, else None.

    Args:
      key: a JAX random key, typed or raw (two numbers of the type uint32); or an array of n such keys;
        or None.

    Raises:
      TypeError: if `key` is neither None, nor a typed key or an array of them, nor an array of uint32.
      ValueError: if a raw key has another length than JAX's keys, or if `key` is an array of keys, but
        empty or not of the shape [n].
    """
    _checks.random_key("key", key, several=True)
    if key is None:
        return None
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = np.shape(key) if typed else np.shape(key)[:-1]
    if not shape:
        return None
    if len(shape) > 1 or shape[0] == 0:
        raise ValueError(
            f"`key`: expected a random key, or an array of n keys, got keys of shape {list(shape)}; "
            "`jax.random.split(key, n)` makes n keys"
        )
    return [key[index] for index in range(shape[0])]


def _blends(styles: Any, recipe: Recipe) -> list[list[np.ndarray]]:
    """Check each entry of the argument `styles`, and return it as a list of images.

    A list of one image is a single style, a longer list is a blend. A number of images that the recipe
    does not accept is refused.
    """
    found = lists_of_styles(styles)
    for index, blended in enumerate(found):
        try:
            recipes.check_styles(recipe.terms, len(blended), argument=f"styles[{index}]")
        except ValueError as error:
            hint = "; a blend is a list within the list, `[[a, b]]`" if len(blended) == 1 else ""
            raise ValueError(f"{error}{hint}") from error
    return found


def lists_of_styles(styles: Any) -> list[list[np.ndarray]]:
    """Check the images in a batch's argument `styles`; return each of its entries as a list of images.

    An entry is one image, or a list of images that are blended. `_blends` checks whether the recipe
    accepts so many images.
    """
    if isinstance(styles, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in styles):
        return [
            _checks.one_or_several(f"styles[{index}]", entry) for index, entry in enumerate(styles)
        ]
    return [[image] for image in _checks.images("styles", styles)]


def with_tap_pictures(styles: Any, pictures: list[np.ndarray]) -> Any:
    """Return `styles` with `pictures`, the styles for single layers, appended to each entry.

    An entry of `styles` is one image, or a list of images that are blended.
    """
    if not pictures:
        return styles
    return [[*blended, *pictures] for blended in lists_of_styles(styles)]


def checked_fine_styles(
    given: Any,
    contents: Sequence[np.ndarray],
    styles: Sequence[list[np.ndarray]],
    plan: Any,
) -> tuple[list[np.ndarray | None], list[list[np.ndarray]]]:
    """Check `style_fine`, the pictures whose fine structure (brush strokes) the styles of a batch get.

    Args:
      given: the argument `style_fine` of `stylize_many`; None if no style gets a fine structure.
      contents: the contents of the batch.
      styles: lists of styles to blend: one list for all pictures of the batch, or one for each. Unless
        `given` is None, each list must have exactly one style.
      plan: the argument `plan`, with which `style_fine` cannot be used.

    Returns:
      The pictures in `given`, and `styles`. A style for which the first list has None keeps its own
      fine structure. If `styles` has only one list, it is repeated for each entry of `given`.

    Raises:
      TypeError: if `given` is of the wrong type.
      ValueError: if it has no pictures, its pictures cannot be used, their number does not fit the
        contents and styles, one is the same picture as its style, styles are blended, or a plan is
        given.
    """
    if given is None:
        return [None], list(styles)
    if plan is not None:
        raise ValueError(
            "`style_fine`: cannot be used with `plan`; combine the styles by `nst_jax.combined_style`, "
            "and give the results as `styles`"
        )
    found: list[np.ndarray | None]
    if isinstance(given, (list, tuple)):
        found = [
            None if one is None else _checks.image(f"style_fine[{index}]", one)
            for index, one in enumerate(given)
        ]
        if all(one is None for one in found):
            raise ValueError("`style_fine`: has no picture; leave it out")
    else:
        found = [*_checks.images("style_fine", given)]
    for index, image in enumerate(found):
        if image is not None:
            name = "style_fine" if len(found) == 1 else f"style_fine[{index}]"
            _checks.image_shape(name, image.shape, smallest=SMALLEST)
    blended = max(len(one) for one in styles)
    if blended > 1:
        raise ValueError(
            f"`style_fine`: gives its structure to one style, and {blended} are blended; give one"
        )
    for name, others in (("contents", contents), ("styles", styles)):
        if 1 not in (len(found), len(others)) and len(found) != len(others):
            raise ValueError(
                f"`style_fine`: expected one picture, or one for each of the {len(others)} {name}, "
                f"got {len(found)}"
            )
    listed = list(styles) * len(found) if len(styles) == 1 else list(styles)
    for index, (style,) in enumerate(listed):
        fine = found[index % len(found)]
        if fine is not None and np.array_equal(style, fine):
            name = "style_fine" if len(found) == 1 else f"style_fine[{index}]"
            raise ValueError(
                f"`{name}`: is the same picture as its style, which so gets no other structure; leave "
                "it out, or give a list with None for this style"
            )
    return found, listed


def with_fine_structures(
    params: Params,
    styles: Sequence[list[np.ndarray]],
    fine: Sequence[np.ndarray | None],
    members: Sequence[Member],
    precision: str | None,
    tile: int | str | None,
) -> tuple[list[list[np.ndarray]], list[list[Shape]]]:
    """Give the first style of each picture the fine structure (such as brushwork) of another picture.

    Args:
      params: VGG's weights.
      styles: lists of style pictures: one list for all pictures of the batch, or one for each.
      fine: the pictures that have the fine structure, one for all pictures of the batch or one for
        each; None leaves the first style as it is.
      members: the pictures of the batch. Each `Member` states to which final size its first style is
        resized. At this size, the style is combined with the fine structure.
      precision: as in `stylize_many`.
      tile: as in `stylize_many`.

    Returns:
      Two lists. The first has a list of style pictures for each picture of the batch. It has only one
      entry if `styles` and `fine` have one entry each and all pictures need their style at the same
      size. The second list has the same form, with the (height, width) of each style before this
      change.
    """
    known: dict[tuple[bytes, bytes, Shape], np.ndarray] = {}
    keys, found, sizes = [], [], []
    style_digests = [_digest(one[0]) for one in styles]
    fine_digests = [b"" if one is None else _digest(one) for one in fine]
    for index, member in enumerate(members):
        style, own = index % len(styles), index % len(fine)
        first, *rest = styles[style]
        shape = member.prepared.scales[-1].style_shapes[0]
        picture = fine[own]
        key = style_digests[style], fine_digests[own], shape
        if key not in known:
            known[key] = first
            if picture is not None:
                size = f"{shape[1]}x{shape[0]}"
                combined = combined_style(
                    params, first, picture, size=size, precision=precision, tile=tile
                )
                known[key] = np.asarray(combined)
        keys.append(key)
        found.append([known[key], *rest])
        sizes.append([(image.shape[0], image.shape[1]) for image in styles[style]])
    if len(styles) == len(fine) == len(set(keys)) == 1:
        return found[:1], sizes[:1]
    return found, sizes


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()


def each_style_scale(
    given: Any, styles: Sequence[Sequence[np.ndarray]], tap_styles: Any, regions: Any
) -> tuple[Any, list[tuple[float, ...]] | None]:
    """Decide whether the argument `style_scale` holds for all pictures or has a value for each picture.

    A factor multiplies the sides of a style. A picture may have one factor for each of its styles,
    which include the styles of single layers and of regions. A single number holds for all pictures. So
    does a list of numbers, if it has one number, or one for each style of a picture. Any other list,
    and any array with axes, has an entry for each picture.

    Args:
      given: the argument `style_scale`, not None.
      styles: the styles of each picture, as `lists_of_styles` returned them. Only the first entry is
        read, to count the styles of a picture.
      tap_styles: the styles of single layers, by layer; None if there are none.
      regions: the regions, each of which has a style; None if there are none.

    Returns:
      (`given`, None) if it holds for all pictures; else (None, the factors of each picture).

    Raises:
      TypeError: if the factors of a picture are no numbers.
      ValueError: if a factor is out of range, or if the entry for a picture is empty or has several
        axes.
    """
    _checks.not_traced("style_scale", given)
    is_list = isinstance(given, (list, tuple))
    if not (is_list or np.ndim(given)) or len(given) == 0:
        return given, None
    if is_list and not any(np.ndim(one) for one in given):
        # `tap_styles` and `regions` add further styles, but none if they are None. If one of them has a
        # wrong type, it is not counted either; it is refused later, by its own checks.
        others = (tap_styles, Mapping), (regions, (list, tuple))
        more = sum(len(value) for value, kind in others if isinstance(value, kind))
        if len(given) in (1, len(styles[0]) + more):
            return given, None
    for index, one in enumerate(given):
        if np.ndim(one) > 1 or np.size(one) == 0:
            raise ValueError(
                f"`style_scale[{index}]`: expected a number, or one for each style of the picture, got "
                f"an array of shape {list(np.shape(one))}"
            )
    each = [tuple(np.atleast_1d(np.asarray(one)).tolist()) for one in given]
    for factors in dict.fromkeys(each):
        for factor in factors:
            _checks.number(f"style_scale[{each.index(factors)}]", factor, above=0)
    return None, each


# --- Enlarged styles ------------------------------------------------------------------------------


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
    blends = _blends(styles, recipe)
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
