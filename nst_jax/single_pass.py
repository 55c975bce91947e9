"""`instant` and `instant_many`: pictures styled by a single pass of a feed-forward network."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from nst_jax import _checks
from nst_jax._real_size import stacked
from nst_jax._types import Float, Image, Params, Shape
from nst_jax.controls.given import BatchControls, Given, Protect, checked_controls
from nst_jax.feed_forward.given_styles import (
    ParsedStyle,
    Style,
    checked_picture,
    content_shape,
    is_trained,
    read_style,
    repeatable_shares,
    resized_content,
    with_resized_pictures,
)
from nst_jax.feed_forward.instant_controls import (
    check_colors_and_realism,
    check_colors_of_style,
    controlled_request,
    recipe_finishing_with,
)
from nst_jax.feed_forward.instant_painter import (
    InstantPainter,
    check_in_square,
    check_strength_of_style,
    chosen_precision,
    square_by_cost,
)
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import buckets


def instant(
    content: Any,
    style: Style,
    *,
    shares: Sequence[float] | Mapping[str, float] | None = None,
    strength: float = 1.0,
    size: Size = None,
    style_size: Size = None,
    colors: str = "style",
    realism: float = 0.0,
    protect: Protect | None = None,
    opacity: Any = None,
    style_opacity: Any = None,
    precision: str = "auto",
    params: Any = None,
) -> Image:
    """Paint the content in a style by a single pass of a feed-forward network, in about a second.

    `stylize` optimises each picture in many updates; here a network that was trained once maps the
    content to the result. If the style is a picture, Magenta's network for arbitrary styles paints,
    which transfers palette and grain more than strokes. If the style is a name or number, Magenta's
    network of 26 styles paints. It knows only these styles, but its results show them more strongly
    than those of the network for arbitrary styles.

    Args:
      content: [h, w, 3] float in [0, 1], or uint8; or the path of a picture.
      style: one of: a picture, given as for `content`; a name in `feed_forward.style_names.NAMES`, or
        its index there; a list of pictures or a list of names, which are mixed; a dictionary from paths
        or names to shares, such as `{"mosaic": 0.5, "waves": 0.5}`; a network that `nst_jax.train`
        made, or the path of its file, which ends in .h5.
      shares: how much of each style is mixed in: one number for each style in a list, or for each style
        of a trained network. For a trained network, a dictionary from the names of its styles to
        numbers is accepted too. Default: equal shares. To mix style pictures, their style vectors (see
        `strength`) are averaged, weighted by the shares.
      strength: from 0 to 1. The network for arbitrary styles computes a style vector (numbers that
        describe a style) from each picture. With strength 0 it paints with the content's vector, with 1
        with the style's vector, and between them with a mixture of both. Values under 1 need style
        pictures: named styles and trained networks have no such vectors.
      size: the longer side of the result in px, or a text such as `"short:512"`, as in `stylize`;
        default: 512. `"as-is"` resizes nothing.
      style_size: the shorter side of style pictures in px, or a text as for `size`; default: 256, as in
        the training of the network. Other styles have no pictures, so it is refused for them.
      colors: whose colours the result has, as in `stylize`. "content", "luminance" and "palette" need a
        style picture, since they read its pixels.
      realism: from 0 to 1, as in `stylize`: how far the result is changed back, after painting, so that
        it has the content's edges.
      protect: a part of the content that stays as it is, a `nst_jax.controls.Protect`. With amount 1,
        its pixels are the content's.
      opacity: the content's opacity, [h, w] in [0, 1]. Transparent parts are left out of the
        statistics of colours that `colors` uses, but the network sees their pixels.
      style_opacity: the style picture's opacity, [h', w'] in [0, 1], with the same effect. For several
        style pictures, a list with an entry for each: its opacity, or None if it is opaque.
      precision: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`: float32 on a CPU,
        tensorfloat32 on an accelerator.
      params: weights of the network for style pictures, from `feed_forward.load_arbitrary`, or of the
        network of 26 styles, from `feed_forward.load_styles26`; default: the weights in the package,
        which are read once.

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used: an unknown name, a picture that is too small, shares
        for another number of styles; raised before any long work.
      OutOfMemory: if a picture does not fit in memory even when it is painted strip by strip. A
        trained network cannot paint in strips, so the whole picture has to fit.

    Example:
      >>> import nst_jax as nst
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> nst.instant(content, style, size=64).shape
      (43, 64, 3)
      >>> nst.instant(content, {"mosaic": 0.5, "waves": 0.5}, size=64).shape
      (43, 64, 3)

    References:
      Ghiasi, Lee, Kudlur, Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural
      artistic stylization network", 2017; Dumoulin, Shlens, Kudlur, "A Learned Representation for
      Artistic Style", 2017.
    """
    chosen = chosen_precision(precision)
    for name, value in (("strength", strength), ("realism", realism)):
        _checks.not_array(name, value, "`instant_many` takes")
    check_strength(strength)
    _check_params(params)
    check_colors_and_realism(colors, realism)
    read = read_style("style", style, shares)
    _check_style("style", read, colors, style_opacity)
    _check_style_size("style", [read], style_size)
    check_strength_of_style(read, strength)
    image = checked_picture("content", content, several="instant_many")
    given = checked_controls(
        image.shape[:2],
        [picture.shape[:2] for picture in read.pictures],
        protect=protect,
        opacity=opacity,
        style_opacity=style_opacity,
    )
    parsed = with_resized_pictures("style", read, style_size)
    resized = resized_content(image, size)
    painter, recipe = InstantPainter(params, chosen), recipe_finishing_with(colors, realism)
    request, finish = controlled_request(painter, resized, parsed, recipe, given, strength)
    return jnp.asarray(finish(painter.paint([request])[0]))


def instant_many(
    contents: Any,
    styles: Any,
    *,
    shares: Sequence[float] | Mapping[str, float] | None = None,
    strength: float | Sequence[float] | np.ndarray = 1.0,
    size: Size = None,
    style_size: Size = None,
    colors: str = "style",
    realism: float | Sequence[float] | np.ndarray = 0.0,
    protect: Protect | None = None,
    opacity: Any = None,
    style_opacity: Any = None,
    precision: str = "auto",
    params: Any = None,
    chunk: int | None = None,
    bucket: int | str = buckets.OFF,
) -> Image | list[Image]:
    """Paint many pictures, each as `instant` would.

    Content number i is painted in style number i, for n contents and n styles; a single content or a
    single style is used for all pictures. Pictures that have the same shape after resizing and are
    painted by the same network are painted together.

    Args:
      contents: one content, a batch [n, h, w, 3], or a sequence of contents of any sizes.
      styles: one style, a batch [n, h, w, 3] of style pictures, or a sequence of styles. Each style is
        given as in `instant`: a picture, a name, a number, a list of pictures or of names to be mixed,
        a dictionary of shares, or a trained network.
      shares: how much of each style is mixed in, as in `instant`, for every entry of `styles` that is a
        list or a trained network; default: equal shares.
      strength: from 0 to 1 as in `instant`, for all pictures; or n numbers, one for each picture.
      size: size of the results, as in `stylize`; default: the longer side of each becomes 512 px.
      style_size: size to which style pictures are resized, as in `stylize`; default: the shorter side
        becomes 256 px.
      colors: whose colours the results have; see `instant`.
      realism: from 0 to 1 as in `instant`, for all pictures; or n numbers, one for each picture.
      protect: the parts of the contents that stay as they are, a `nst_jax.controls.Protect`; its mask
        may be a batch [n, h, w] or a list of masks, and its amount an array [n].
      opacity: one opacity [h, w] for all contents, as in `instant`; or a list that has an opacity for
        each content, or None for a content that is opaque.
      style_opacity: one opacity [h', w'] for all style pictures, as in `instant`; or a list with an
        entry for each style: an opacity, or None if the style is opaque; for a mixture of pictures, a
        list of these.
      precision: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`; see `instant`.
      params: weights of one of Magenta's two networks, as in `instant`. All styles must then be of the
        kind that this network paints: pictures, or names and numbers. Default: the weights of both
        networks, which are in the package.
      chunk: largest number of pictures painted at once, fewer if so many do not fit in memory. By
        default, it is so large that painting more pictures at once would hardly be faster.
      bucket: side in px, a multiple of 16, of a square array at whose top left each picture lies.
        Pictures of all sizes up to this side then share one program, with the same results up to
        rounding errors, but computing the rest of the square takes time. Style pictures lie in squares
        of their own. `"off"`, the default: each shape has a program of its own. `"auto"`: the smallest
        square that holds all pictures; or none, if that takes less time by the estimate of
        `nst_jax.scaling.bucket_choice.cheapest_square`, or if the square does not fit in memory.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all pictures have one shape, else a list of n images.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or if the numbers of contents, styles, strengths and
        other values for each picture do not fit together; raised before any long work.
      OutOfMemory: if a picture does not fit in memory even when it is painted strip by strip. A
        trained network cannot paint in strips, so the whole picture has to fit.

    Example:
      >>> import nst_jax as nst
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> nst.instant_many(content, [style, "mosaic", 24], size=64).shape
      (3, 43, 64, 3)
      >>> nst.instant_many(content, style, strength=[0, 0.5, 1], size=64).shape
      (3, 43, 64, 3)
    """
    chosen = chosen_precision(precision)
    _check_numbers("strength", strength)
    _check_numbers("realism", realism)
    check_strength(np.asarray(strength))
    check_colors_and_realism(colors, np.asarray(realism))
    _check_params(params)
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    asked = buckets.checked_bucket(bucket)
    found = {name: checked_picture(name, one) for name, one in _entries("contents", contents)}
    read = _read_styles(styles, shares)
    for place, one in enumerate(read.values()):
        _check_style(f"styles[{place}]", one, colors, _entry(style_opacity, place))
    _check_style_size("styles", [*read.values()], style_size)
    strengths = np.atleast_1d(np.asarray(strength, np.float32))
    realisms = np.atleast_1d(np.asarray(realism, np.float32))
    controls = BatchControls(None, protect, opacity, style_opacity)
    count = _count(
        {
            "contents": len(found),
            "styles": len(read),
            "strength": len(strengths),
            "realism": len(realisms),
            **controls.lengths(),
        }
    )
    _check_strengths([*read.values()], strengths, count)
    given = _checked_controls(controls, [*found.values()], [*read.values()], count)
    shapes = [content_shape(size, one.shape[:2], argument=name) for name, one in found.items()]
    side = _chosen_square(asked, shapes, [*read.values()], count)
    on_host = side is not None
    resized = [
        resized_content(one, size, argument=name, on_host=on_host) for name, one in found.items()
    ]
    parsed = [
        with_resized_pictures(name, one, style_size, on_host=on_host) for name, one in read.items()
    ]
    painter = InstantPainter(params, chosen, chunk=chunk, bucket=side)
    requests = [
        controlled_request(
            painter,
            resized[index % len(resized)],
            parsed[index % len(parsed)],
            recipe_finishing_with(colors, float(realisms[index % len(realisms)])),
            given[index],
            float(strengths[index % len(strengths)]),
        )
        for index in range(count)
    ]
    pictures = painter.paint([one.request for one in requests])
    painted = [
        jnp.asarray(one.finish(picture)) for one, picture in zip(requests, pictures, strict=True)
    ]
    return stacked(painted, on_host=on_host)


def _read_styles(styles: Any, shares: Any) -> dict[str, ParsedStyle]:
    """Check and read the styles of a batch; return each by its name for error messages.

    `shares` are those of each entry that is a list of styles or a trained network. They are refused if
    there is no such entry.
    """
    shares = repeatable_shares(shares)  # several entries need them
    entries = _entries("styles", styles)
    takes = {name: isinstance(one, (list, tuple)) or is_trained(one) for name, one in entries}
    if shares is not None and not any(takes.values()):
        raise ValueError(
            "`shares`: is for lists of styles and for trained networks, and no entry of `styles` is "
            "one; omit it, or make an entry a list, as in `styles=[[first, second]]`"
        )
    return {name: read_style(name, one, shares if takes[name] else None) for name, one in entries}


def _checked_controls(
    controls: BatchControls,
    contents: Sequence[Float[np.ndarray, "_ _ 3"]],
    styles: Sequence[ParsedStyle],
    count: int,
) -> list[Given | None]:
    """Check the controls of each of `count` pictures, against the pictures as the caller gave them."""
    return [
        controls.checked(
            index,
            contents[index % len(contents)].shape[:2],
            [picture.shape[:2] for picture in styles[index % len(styles)].pictures],
        )
        for index in range(count)
    ]


def _chosen_square(
    bucket: buckets.Chosen, shapes: Sequence[Shape], styles: Sequence[ParsedStyle], count: int
) -> int | None:
    """Return the side in px of the square array in which each picture lies; None if there is none.

    A ValueError is raised if a picture does not fit into the square that the caller chose.

    Args:
      bucket: the argument `bucket` of `instant_many`, checked; "auto" chooses what takes the least
        time.
      shapes: (height, width) of each content after resizing.
      styles: the styles, which decide what networks paint.
      count: number of pictures to paint.
    """
    if bucket is None:
        return None
    if bucket != buckets.AUTO:
        for shape in shapes:
            check_in_square(shape, bucket)
        return bucket
    pictures = [
        (styles[index % len(styles)].network, shapes[index % len(shapes)]) for index in range(count)
    ]
    trained = {one.network: one.trained for one in styles if one.trained is not None}
    return square_by_cost(pictures, [*trained.values()])


def _entries(argument: str, values: Any) -> list[tuple[str, Any]]:
    """Return a pair for each entry of `values`: its name for error messages, and the entry itself.

    If `values` is an array with four axes, a list or a tuple, its entries run along the first axis.
    Anything else counts as a single entry.
    """
    if hasattr(values, "shape") and len(values.shape) == 4:
        values = list(values)
    if not isinstance(values, (list, tuple)):
        return [(argument, values)]
    if not values:
        raise ValueError(f"`{argument}`: is empty; give at least one")
    return [(f"{argument}[{place}]", value) for place, value in enumerate(values)]


def _entry(values: Any, place: int) -> Any:
    """Return the value that holds for the style with the index `place`.

    `values` is a list with a value for each style, or with a single value for all styles. An empty list
    is returned itself, and so is anything that is not a list, such as one opacity for all styles.
    """
    if isinstance(values, (list, tuple)) and len(values):
        return values[place % len(values)]
    return values


def _count(lengths: Mapping[str, int]) -> int:
    """Return the number of pictures: the length that all arguments with more than one entry have.

    `lengths` maps the name of each argument to its number of entries. The result is 1 if all have a
    single entry. A ValueError is raised if two numbers other than 1 differ.
    """
    counts = set(lengths.values()) - {1}
    if len(counts) > 1:
        listed = ", ".join(f"{length} {name}" for name, length in lengths.items() if length != 1)
        raise ValueError(
            f"`instant_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def _check_style(argument: str, style: ParsedStyle, colors: str, style_opacity: Any) -> None:
    """Refuse `colors` and `style_opacity` that need a style picture, if there is none.

    There is none if the style is one that a network has learned. `argument` is the caller's name for
    the style, used in messages.
    """
    is_picture = bool(style.pictures)
    check_colors_of_style(colors, f"`{argument}`", is_picture=is_picture)
    if style_opacity is not None and not is_picture:
        raise ValueError(
            f"`style_opacity`: is for style pictures, and `{argument}` is none; omit it"
        )


def _check_style_size(argument: str, styles: Sequence[ParsedStyle], style_size: Size) -> None:
    """Refuse a size of style pictures if none of the styles is given as pictures.

    `argument` is the caller's name for the styles, used in messages.
    """
    if style_size is not None and not any(style.pictures for style in styles):
        raise ValueError(f"`style_size`: is for style pictures, and `{argument}` has none; omit it")


def _check_strengths(styles: Sequence[ParsedStyle], strengths: np.ndarray, count: int) -> None:
    """Refuse a strength other than 1 for a picture of a batch whose style is not given as pictures."""
    for index in range(count):
        strength = float(strengths[index % len(strengths)])
        check_strength_of_style(styles[index % len(styles)], strength)


def _check_numbers(argument: str, values: Any) -> None:
    """Refuse an array of numbers for several pictures that is empty or has more than one axis."""
    try:
        shape = np.shape(values)
    except ValueError:  # lists of different lengths in a list
        raise ValueError(
            f"`{argument}`: expected a number, or one for each picture, got {_checks.shown(values)}"
        ) from None
    if len(shape) > 1 or 0 in shape:
        raise ValueError(
            f"`{argument}`: expected a number, or one for each picture, got an array of the shape "
            f"{list(shape)}"
        )


def check_strength(strength: Any) -> None:
    """Refuse a strength that is not from 0 to 1, or an array that contains such a strength."""
    _checks.number("strength", strength, least=0, most=1, means="0 is the content's own style")


def _check_params(params: Any) -> None:
    """Refuse weights of a network other than the two that `load_arbitrary` and `load_styles26` read.

    None, the default, is accepted. Callers check the weights before any picture is read.
    """
    if params is None:
        return
    _checks.not_traced("params", params)
    advice = "`nst_jax.feed_forward.load_arbitrary()` and `load_styles26()` give them"
    _checks.instance("params", params, Params, advice)
    if "conditions" not in params.layers:
        raise ValueError(f"`params`: are weights of another network, {params.family!r}; {advice}")
