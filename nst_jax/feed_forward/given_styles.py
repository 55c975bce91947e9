"""Checks of the styles that callers give to `nst_jax.instant`, and the sizes of contents and styles.

A style can be given as pictures, as a trained network, or by names of the 26 fixed styles, which a
network in this package has learned. The functions here check the style, read its files, and resize its
pictures. After that, `instant_painter` can paint in this style.
"""

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks, images, prepare, run_scales
from nst_jax._types import HostImage, Shape
from nst_jax.checkpoints.leaves import named_leaves
from nst_jax.feed_forward import johnson, style_files, style_names
from nst_jax.images.on_host import at_scale_on_host
from nst_jax.recipes import sizes
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.sizes import Size
from nst_jax.weights.digests import digest_of

# Default size of style pictures: shorter side 256 px. The network that predicts style vectors was
# trained on squares of 256 px from the middle of pictures whose shorter side is 256 px. So at this
# size, the network sees strokes as large, in px, as it saw them in training.
STYLE_SIZE = sizes.ShortEdge(256)

Resized: TypeAlias = Float[np.ndarray, "h_new w_new 3"]  # a resized picture, on the host

TRAINED_SUFFIX = ".h5"  # suffix of the files of trained networks

# A style in any form in which callers may give it; the documentation of the argument `style` of
# `nst_jax.instant` lists these forms.
Style: TypeAlias = Any

# --- Arguments ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A network that `nst_jax.train` trained, and a digest that identifies it."""

    network: johnson.StyleNetwork
    digest: str  # digest of the network's file, or of the weights if the network is in memory


class ParsedStyle(NamedTuple):
    """A checked style: a mixture of pictures, of a trained network's styles, or of the 26 fixed styles.

    If the style has neither pictures nor a trained network, it is a mixture of the 26 styles.
    """

    # The style pictures [h, w, 3], resized unless `read_style` made this; empty if there are none.
    pictures: tuple[Any, ...]
    # The weights in the mixture, float32 with the sum 1: one for each picture; or, if there are no
    # pictures, one for each style of the trained network or for each of the 26 fixed styles.
    shares: np.ndarray
    trained: Trained | None = None  # the trained network; None for other kinds of styles

    @property
    def network(self) -> Hashable:
        """A key that is equal for styles that the same network paints."""
        return bool(self.pictures) if self.trained is None else self.trained.digest


def parsed_style(
    argument: str, style: Style, shares: Any, style_size: Size, *, on_host: bool = False
) -> ParsedStyle:
    """Check a style, read its files, and resize its pictures.

    Args:
      argument: the caller's name for the style, shown in error messages.
      style: the style as the caller gives it.
      shares: weights of the styles in a mixture; see `read_style`.
      style_size: size of the style pictures, as in `nst_jax.instant`; None is a shorter side of 256 px.
      on_host: whether NumPy resizes the pictures, so that JAX compiles no program for their sizes.

    Returns:
      The checked style, with its resized pictures.

    Raises:
      TypeError, ValueError: if the style, a share or a size cannot be used; the message says why.
    """
    read = read_style(argument, style, shares)
    return with_resized_pictures(argument, read, style_size, on_host=on_host)


def read_style(argument: str, style: Style, shares: Any) -> ParsedStyle:
    """Check a style, and read its files; its pictures keep their sizes.

    Args:
      argument: the caller's name for the style, shown in error messages.
      style: the style as the caller gives it.
      shares: the weights of the styles in a mixture: one for each style of a list or of a trained
        network, or a dictionary from names of a trained network's styles to weights. None means equal
        weights, or the values of `style` if that is a dictionary from styles to weights.

    Returns:
      The checked style, with its pictures as they are.

    Raises:
      TypeError, ValueError: if the style or a share cannot be used; the message says why.
    """
    shares = repeatable_shares(shares)
    _checks.not_traced("shares", shares)
    if is_trained(style):
        return _trained(argument, style, shares)
    several = isinstance(style, (list, tuple))
    if shares is not None and not several:
        raise ValueError(f"`shares`: is for a list of styles; omit it, or make `{argument}` a list")
    if isinstance(style, Mapping):
        entries, weights = list(style), list(style.values())
    else:
        entries = list(style) if several else [style]
        weights = [1.0] * len(entries) if shares is None else _listed(shares)
    if not entries:
        raise ValueError(f"`{argument}`: is empty; give at least one style")
    if len(weights) != len(entries):
        raise ValueError(
            f"`shares`: expected {len(entries)}, one for each style of `{argument}`, got {len(weights)}"
        )
    if any(map(is_trained, entries)):
        raise ValueError(f"`{argument}`: a trained network is a style of its own; name it alone")
    named = [is_named(entry, argument=argument) for entry in entries]
    if all(named):
        chosen = dict(zip(entries, weights, strict=True))
        if len(chosen) < len(entries):
            raise ValueError(f"`{argument}`: a style is given twice; give it once")
        return ParsedStyle((), style_names.mixture_of(chosen, argument=argument))
    refuse_mixed(entries, named, argument=argument)
    names = _names_of(argument, len(entries))
    pictures = tuple(map(checked_picture, names, entries))
    return ParsedStyle(pictures, _checks.shares("shares", weights))


def with_resized_pictures(
    argument: str, style: ParsedStyle, style_size: Size, *, on_host: bool = False
) -> ParsedStyle:
    """Return a style that `read_style` has read, with its pictures resized as in `parsed_style`."""
    names = _names_of(argument, len(style.pictures))
    pictures = tuple(
        resized_style(picture, style_size, argument=name, on_host=on_host)
        for name, picture in zip(names, style.pictures, strict=True)
    )
    return style._replace(pictures=pictures)


def _names_of(argument: str, count: int) -> list[str]:
    """Return names for error messages of the `count` pictures of a style called `argument`."""
    return [argument] if count == 1 else [f"{argument}[{place}]" for place in range(count)]


def is_trained(style: Any) -> bool:
    """Return whether a style is a trained network, or the path of such a network's file (.h5)."""
    if isinstance(style, (str, os.PathLike)):
        return Path(style).suffix.lower() == TRAINED_SUFFIX
    return isinstance(style, johnson.StyleNetwork)


def read_trained(path: Any, *, argument: str = "style") -> Trained:
    """Read and verify the file of a trained network.

    Args:
      path: path of the file.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The network, and a digest that identifies it.

    Raises:
      ValueError: if the file is missing or damaged, or is not the file of a trained network.
    """
    found = style_files.read_style_file(path, argument=argument)
    return Trained(found.network, found.digest)


def _trained(argument: str, style: Any, shares: Any) -> ParsedStyle:
    """Return the checked style for a trained network or the path of its file.

    `argument` and `shares` are as in `parsed_style`.
    """
    if isinstance(style, johnson.StyleNetwork):
        style_files.check_names_of_styles(argument, style)
        arrays = {name: np.asarray(a) for name, a in named_leaves(dict(style.params)).items()}
        trained = Trained(style, digest_of([], arrays))
    else:
        trained = read_trained(style, argument=argument)
    names = trained.network.styles
    if shares is None or isinstance(shares, Mapping):
        return ParsedStyle((), style_files.style_shares(names, shares), trained)
    weights = _listed(shares)
    if len(weights) != len(names):
        raise ValueError(
            f"`shares`: expected {len(names)}, one for each style of the network "
            f"({', '.join(names)}), got {len(weights)}"
        )
    return ParsedStyle((), _checks.shares("shares", weights), trained)


def repeatable_shares(shares: Any) -> Any:
    """Return a list of the shares from a generator or from `dict.values()`, and others unchanged."""
    return list(shares) if isinstance(shares, (Iterator, ValuesView)) else shares


def _listed(shares: Any) -> list[Any]:
    if not isinstance(shares, (list, tuple)) and np.ndim(shares) != 1:
        raise TypeError(
            f"`shares`: expected a list with one number for each style, got {_checks.shown(shares)}"
        )
    return list(shares)


def is_named(style: Any, *, argument: str = "style") -> bool:
    """Return whether a style is one of the 26 fixed styles, by its name or number.

    Any other style must be a picture or the path of one.

    Args:
      style: a name, a number, a path or a picture.
      argument: the caller's name for the style, shown in error messages.

    Raises:
      ValueError: if the style is an int that is not the number of one of the 26 styles; or if it is a
        word (text without suffix and folder; digits, too) that is neither the name or number of a style
        nor the name of an existing file.
    """
    if style_names.is_name(style):
        return True
    if isinstance(style, (int, np.integer)) and not isinstance(style, bool):
        # `is_name` was False, so the number is out of range, and this raises the error that says so.
        style_names.number_of(style, argument=argument)
    if isinstance(style, str):
        path = Path(style)
        if not path.suffix and path.name == style and not path.exists():
            if style.strip().isdecimal():
                style_names.number_of(
                    style, argument=argument
                )  # raises: the number is out of range
            raise _checks.unknown(argument, style, style_names.NAMES, "style or file")
    return False


def refuse_mixed(styles: Sequence[Any], named: Sequence[bool], *, argument: str) -> None:
    """Raise a ValueError for a mixture of style pictures and some of the 26 named styles.

    One network has learned the 26 styles, another one paints in the style of a picture; none does both.

    Args:
      styles: the styles of the mixture.
      named: for each of them, whether it is one of the 26 styles.
      argument: the caller's name for the styles, shown in error messages.
    """
    if any(named) and not all(named):
        name, other = styles[named.index(True)], styles[named.index(False)]
        what = f"'{other}'" if isinstance(other, (str, os.PathLike)) else "a picture"
        raise ValueError(
            f"`{argument}`: {name!r} is one of the 26 styles and {what} is not; blend names with names "
            "and pictures with pictures"
        )


def checked_picture(argument: str, value: Any, *, several: str = "") -> HostImage:
    """Return a picture [h, w, 3] in [0, 1] from an array, which is checked, or from a file.

    Args:
      argument: the caller's name for the picture, shown in error messages.
      value: an array, or the path of a file.
      several: name of the function that takes a batch of such pictures, for the message that refuses a
        batch; "" if there is none.

    Raises:
      TypeError, ValueError: if the array is not a picture, or if the file cannot be read.
    """
    if isinstance(value, (str, os.PathLike)):
        return images.load(value, argument=argument)
    return _checks.image(argument, value, several=several)


# --- Sizes ----------------------------------------------------------------------------------------


def content_rule(size: Size) -> sizes.SizeRule:
    """Return the rule by which contents are resized; if `size` is None, that of recipe `default`."""
    return sizes.with_size(DEFAULT.pictures.size, size, argument="size")


def style_rule(style_size: Size) -> sizes.SizeRule:
    """Return the rule by which style pictures are resized; None gives a shorter side of 256 px."""
    return sizes.with_size(STYLE_SIZE, style_size, argument="style_size")


def content_shape(size: Size, shape: Shape, *, argument: str = "content") -> Shape:
    """Return the (height, width) to which a content is resized; None gives the size of `default`.

    Args:
      size: the caller's argument `size`.
      shape: (height, width) of the content before it is resized.
      argument: the caller's name for the content, shown in error messages.

    Raises:
      TypeError: if a size rule of a user's own does not return two whole numbers.
      ValueError: if `size` cannot be used, or if a side is under 16 px, before or after resizing.
    """
    rule = content_rule(size)
    wanted = sizes.new_shape(rule, shape, argument="size")
    return run_scales.checked_shape(argument, shape, wanted, rule)


def style_shape(style_size: Size, shape: Shape, *, argument: str = "style") -> Shape:
    """Return the (height, width) to which a style is resized; None gives a shorter side of 256 px.

    Args:
      style_size: the caller's argument `style_size`.
      shape: (height, width) of the style picture before it is resized.
      argument: the caller's name for the picture, shown in error messages.

    Raises:
      TypeError, ValueError: as in `content_shape`.
    """
    rule = style_rule(style_size)
    wanted = sizes.new_shape(rule, shape, argument="style_size")
    return run_scales.checked_shape(argument, shape, wanted, rule)


def resized_content(
    image: HostImage, size: Size, *, argument: str = "content", on_host: bool = False
) -> Resized:
    """Resize a content [h, w, 3] to `size`; None gives the size of the recipe `default`.

    With `on_host`, NumPy resizes it, so that JAX compiles no program for its size. `argument` is the
    caller's name for the picture in error messages.
    """
    shape = content_shape(size, image.shape[:2], argument=argument)
    return _at_shape(image, shape, on_host=on_host)


def resized_style(
    image: HostImage, style_size: Size, *, argument: str = "style", on_host: bool = False
) -> Resized:
    """Resize a style picture [h, w, 3] to `style_size`; None gives a shorter side of 256 px.

    With `on_host`, NumPy resizes it, so that JAX compiles no program for its size. `argument` is the
    caller's name for the picture in error messages.
    """
    shape = style_shape(style_size, image.shape[:2], argument=argument)
    return _at_shape(image, shape, on_host=on_host)


def resized_to(image: HostImage, shape: Shape) -> Resized:
    """Resize a picture to (height, width), antialiased, and clip it to [0, 1]."""
    return np.asarray(prepare.at_scale(jnp.asarray(image), shape))


def _at_shape(image: HostImage, shape: Shape, *, on_host: bool) -> Resized:
    return at_scale_on_host(image, shape) if on_host else resized_to(image, shape)
