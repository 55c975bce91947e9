"""Styles as callers give them to `nst_jax.instant`: checked, read, resized; size rules of pictures."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks, images, prepare
from nst_jax._types import HostImage, Shape
from nst_jax.checkpoints import named_leaves
from nst_jax.feed_forward import johnson, style_files, style_names
from nst_jax.recipes import sizes
from nst_jax.recipes.checking import LARGEST_SHARE
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.sizes import Size
from nst_jax.weights.digests import digest_of

# Size of style pictures if `style_size` is None. The predictor was trained on squares of 256 px, cut
# from the middle of pictures whose shorter side is 256 px. At this size, strokes are as large as in
# training.
STYLE_SIZE = sizes.ShortEdge(256)

Resized: TypeAlias = Float[np.ndarray, "h_new w_new 3"]

TRAINED_SUFFIX = ".h5"  # suffix of the files of trained networks

# A style as callers give it; the argument `style` of `instant` lists the forms.
Style: TypeAlias = Any

# --- Arguments ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A network that `nst_jax.train` made, and the digest of its weights."""

    network: johnson.StyleNetwork
    digest: str


class ParsedStyle(NamedTuple):
    """A checked style: pictures, a trained network, or, if there is neither, some of the 26 styles."""

    pictures: tuple[Any, ...]  # the style pictures, resized; empty if the style is of another kind
    shares: np.ndarray  # float32, with sum 1: one per picture, or one per style of the network
    trained: Trained | None = None


def parsed_style(argument: str, style: Style, shares: Any, style_size: Size) -> ParsedStyle:
    """Check a style, read its files, and resize its pictures.

    Args:
      argument: the caller's name for the style, shown in error messages.
      style: the style as the caller gives it.
      shares: the share of each style in a list, or of each style of a trained network; None means equal
        shares.
      style_size: size of the style pictures; None is `STYLE_SIZE`.
    """
    if is_trained(style):
        return _trained(argument, style, shares)
    several = isinstance(style, (list, tuple))
    if shares is not None and not several:
        raise ValueError(f"`shares`: is for a list of styles; `{argument}` is none, so omit it")
    if isinstance(style, Mapping):
        entries, weights = list(style), list(style.values())
    else:
        entries = list(style) if several else [style]
        weights = [1.0] * len(entries) if shares is None else list(shares)
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
    places = [f"{argument}[{place}]" for place in range(len(entries))]
    places = places if len(entries) > 1 else [argument]
    pictures = tuple(
        resized_style(checked_picture(name, entry), style_size, argument=name)
        for name, entry in zip(places, entries, strict=True)
    )
    return ParsedStyle(pictures, checked_shares(weights, argument="shares"))


def is_trained(style: Any) -> bool:
    """Return whether a style is a trained network, or the path of its file, which ends in .h5."""
    if isinstance(style, (str, os.PathLike)):
        return Path(style).suffix.lower() == TRAINED_SUFFIX
    return isinstance(style, johnson.StyleNetwork)


def read_trained(path: Any, *, argument: str = "style") -> Trained:
    """Read and verify the file of a trained network."""
    found = style_files.read_style_file(path, argument=argument)
    return Trained(found.network, found.digest)


def _trained(argument: str, style: Any, shares: Any) -> ParsedStyle:
    """Return a checked trained network; `shares` are numbers, numbers by style name, or None."""
    if isinstance(style, johnson.StyleNetwork):
        arrays = {name: np.asarray(a) for name, a in named_leaves(dict(style.params)).items()}
        trained = Trained(style, digest_of([], arrays))
    else:
        trained = read_trained(style, argument=argument)
    names = trained.network.styles
    if shares is None or isinstance(shares, Mapping):
        return ParsedStyle((), style_files.style_shares(names, shares), trained)
    if len(shares) != len(names):
        raise ValueError(
            f"`shares`: expected {len(names)}, one for each style of the network "
            f"({', '.join(names)}), got {len(shares)}"
        )
    return ParsedStyle((), checked_shares(shares, argument="shares"), trained)


def is_named(style: Any, *, argument: str = "style") -> bool:
    """Return whether a style is one of the 26, by name or number; if not, it is a picture or a path.

    Args:
      style: a name, a number, a path or a picture.
      argument: the caller's name for the value, shown in error messages.

    Raises:
      ValueError: for a number that is not that of a style; and for text that is neither a style nor a
        file: it has no suffix and no folder, and no such file exists. The message suggests the nearest
        name.
    """
    if style_names.is_name(style):
        return True
    if isinstance(style, (int, np.integer)) and not isinstance(style, bool):
        style_names.number_of(style, argument=argument)  # raises: the number is out of range
    if isinstance(style, str):
        path = Path(style)
        if not path.suffix and path.name == style and not path.exists():
            raise _checks.unknown(argument, style, style_names.NAMES, "style or file")
    return False


def refuse_mixed(styles: Sequence[Any], named: Sequence[bool], *, argument: str) -> None:
    """Refuse a blend of pictures with some of the 26 styles, since no network paints both.

    `named` says for each style whether it is one of the 26.
    """
    if any(named) and not all(named):
        name, other = styles[named.index(True)], styles[named.index(False)]
        what = f"'{other}'" if isinstance(other, (str, os.PathLike)) else "a picture"
        raise ValueError(
            f"`{argument}`: {name!r} is one of the 26 styles and {what} is not; blend names with names "
            "and pictures with pictures"
        )


def checked_shares(shares: Sequence[Any], *, argument: str) -> np.ndarray:
    """Return shares divided by their sum, as float32; refuse a negative share, and a sum of 0."""
    for share in shares:
        _checks.number(argument, share, least=0, below=LARGEST_SHARE)
    total = float(np.sum(shares))
    if not total > 1 / LARGEST_SHARE:
        raise ValueError(f"`{argument}`: all shares are 0; give one style more than that")
    return (np.asarray(shares, np.float64) / total).astype(np.float32)


def checked_picture(argument: str, value: Any) -> HostImage:
    """Check a picture, or read it from its path."""
    if isinstance(value, (str, os.PathLike)):
        return images.load(value, argument=argument)
    return _checks.image(argument, value)


# --- Sizes ----------------------------------------------------------------------------------------


def content_rule(size: Size) -> sizes.SizeRule:
    """Return the size rule of contents: that of the recipe `default`, changed by `size`."""
    return sizes.with_size(DEFAULT.pictures.size, size, argument="size")


def style_rule(style_size: Size) -> sizes.SizeRule:
    """Return the size rule of style pictures: `STYLE_SIZE`, changed by `style_size`."""
    return sizes.with_size(STYLE_SIZE, style_size, argument="style_size")


def shape_by(rule: sizes.SizeRule, shape: Shape, *, argument: str) -> Shape:
    """Return the (height, width) that a size rule gives a picture; refuse sides under 16 px."""
    return prepare.checked_shape(argument, shape, rule.shape(*shape), rule)


def resized_content(image: HostImage, size: Size, *, argument: str = "content") -> Resized:
    """Resize a content by the rule of `size`, as the recipe `default` would."""
    return _resized(image, content_rule(size), argument)


def resized_style(image: HostImage, style_size: Size, *, argument: str = "style") -> Resized:
    """Resize a style picture by the rule of `style_size`."""
    return _resized(image, style_rule(style_size), argument)


def resized_to(image: HostImage, shape: Shape) -> Resized:
    """Resize a picture to (height, width) with the recipe `default`'s filter, and clip it to [0, 1]."""
    return np.asarray(prepare.at_scale(jnp.asarray(image), shape))


def _resized(image: HostImage, rule: sizes.SizeRule, argument: str) -> Resized:
    return resized_to(image, shape_by(rule, image.shape[:2], argument=argument))
