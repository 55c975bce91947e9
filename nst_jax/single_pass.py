"""`instant` and `instant_many`: pictures styled by a single pass of a feed-forward network.

Each network is a pure function of weights, contents and a condition: the numbers, an array [k] for each
picture, that say in which style it paints. Of the arbitrary network they are a style vector, which it
predicts from a picture of the style; of the network of 26 styles, the share of each style.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks, images, prepare
from nst_jax._compile import Jitted
from nst_jax._types import HostImage, Image, Params, Shape
from nst_jax.feed_forward import arbitrary, style_names, styles26
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.recipe import LARGEST_SHARE, Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, chunk_size
from nst_jax.vgg.precision import FLOAT32, TENSORFLOAT32, Auto, Precision, precision_named

# Without `style_size`. The predictor was trained on squares of 256 px cut from the middle of pictures
# whose shorter side has that length, so strokes have the size that it knows.
STYLE_SIZE = sizes.ShortEdge(256)

Condition: TypeAlias = Float[np.ndarray, " k"]

Resized: TypeAlias = Float[np.ndarray, "h_new w_new 3"]

# A style as callers give it: a picture, its path, a name or number of the 26, or names with shares.
Style: TypeAlias = Any


class Programs(NamedTuple):
    """The compiled functions; the command line replaces some by programs kept on disk."""

    style_vector: Callable[..., Any]
    stylize_with: Callable[..., Any]
    stylize_mixture: Callable[..., Any]


PROGRAMS = Programs(
    style_vector=Jitted(arbitrary.style_vector, static_argnames=("precision",)),
    stylize_with=Jitted(arbitrary.stylize_with, static_argnames=("precision",)),
    stylize_mixture=Jitted(styles26.stylize_mixture, static_argnames=("precision",)),
)


class Network(NamedTuple):
    """A network that paints pictures [n, h, w, 3] with conditions [n, k]."""

    name: str
    params: Params
    digest: str  # of the weights
    paint: Callable[..., Image]  # (params, contents, conditions, *, precision)


class Request(NamedTuple):
    """One picture to paint: the resized content, a network, and the condition of its style."""

    content: HostImage
    network: Network
    condition: Condition


# --- The functions for callers --------------------------------------------------------------------


def instant(
    content: Any,
    style: Style,
    *,
    shares: Sequence[float] | None = None,
    strength: float = 1.0,
    size: Size = None,
    style_size: Size = None,
    precision: str = "auto",
    params: Any = None,
) -> Image:
    """Paint the content in a style by a single pass of a feed-forward network, in about a second.

    `stylize` changes a picture until its features are those wanted; here a network that was trained
    once maps the content to the result. A picture as `style` goes through the arbitrary network, which
    transfers palette and grain more than strokes. A name goes through the network of 26 styles, which
    knows only these and paints them with more force.

    Args:
      content: [h, w, 3] float in [0, 1], or uint8; or the path of a picture.
      style: a picture, as `content`; or a name in `feed_forward.style_names.NAMES`, or its number. Or
        several of one kind, which are mixed: a list, or, of names and paths, a dictionary with shares,
        `{"mosaic": 0.5, "waves": 0.5}`. Of pictures the style vectors are averaged.
      shares: how much of each style in a list; default: equal shares.
      strength: from 0 to 1: the style vector is interpolated from the content's own (0) to the style's
        (1). Only for style pictures, since the 26 styles have no vectors.
      size: as in `stylize`; default: the longer side becomes 512 px. `"as-is"` resizes nothing.
      style_size: the same for style pictures; default: the shorter side becomes 256 px, which is what
        the network was trained on.
      precision: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`: float32 on a CPU,
        tensorfloat32 on an accelerator.
      params: weights of the network, from `feed_forward.load_arbitrary` or `load_styles26`; default:
        those in the package, which are read once.

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used: an unknown name, a picture that is too small, shares
        for another number of styles; raised before any long work.

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
    check_strength(strength)
    image = _picture("content", content)
    parsed = _parsed("style", style, shares, style_size)
    painter = Painter(params, chosen)
    resized = resized_content(image, size)
    request = painter.request(resized, parsed, strength)
    return painter.paint([request])[0]


def instant_many(
    contents: Any,
    styles: Any,
    *,
    shares: Sequence[float] | None = None,
    strength: float | Sequence[float] | np.ndarray = 1.0,
    size: Size = None,
    style_size: Size = None,
    precision: str = "auto",
    params: Any = None,
    chunk: int | None = None,
) -> Image | list[Image]:
    """Paint many pictures, each as `instant` would.

    n contents are paired with n styles; a single content or style is used for all. Contents that have
    one shape after resizing, and styles of one network, are painted together.

    Args:
      contents: one content, a batch [n, h, w, 3], or a sequence of contents of any sizes.
      styles: one style, a batch [n, h, w, 3], or a sequence of styles; an entry that is a list is
        mixed, as in `instant`.
      shares: as in `instant`, for every entry that is a list.
      strength: as in `instant`; or numbers [n].
      size: as in `instant`, for every picture.
      style_size: as in `instant`.
      precision: as in `instant`.
      params: as in `instant`; the styles must then be of this network.
      chunk: largest number of pictures painted at once; default: as many as gain speed.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all pictures have one shape, else a list of n images.

    Raises:
      TypeError: as in `instant`.
      ValueError: as in `instant`; and if the numbers of contents, styles and strengths do not fit
        together.

    Example:
      >>> import nst_jax as nst
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> nst.instant_many(content, [style, "mosaic", 24], size=64).shape
      (3, 43, 64, 3)
      >>> nst.instant_many(content, style, strength=[0, 0.5, 1], size=64).shape
      (3, 43, 64, 3)
    """
    chosen = chosen_precision(precision)
    check_strength(np.asarray(strength))
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    found = [_picture(name, one) for name, one in _entries("contents", contents)]
    parsed = [
        _parsed(name, one, shares if isinstance(one, (list, tuple)) else None, style_size)
        for name, one in _entries("styles", styles)
    ]
    strengths = np.atleast_1d(np.asarray(strength, np.float32))
    count = _count({"contents": found, "styles": parsed, "strength": strengths})
    painter = Painter(params, chosen, chunk=chunk)
    resized = [resized_content(image, size) for image in found]
    requests = [
        painter.request(
            resized[index % len(resized)],
            parsed[index % len(parsed)],
            float(strengths[index % len(strengths)]),
        )
        for index in range(count)
    ]
    painted = painter.paint(requests)
    return jnp.stack(painted) if len({one.shape for one in painted}) == 1 else painted


# --- Arguments ------------------------------------------------------------------------------------


class Parsed(NamedTuple):
    """A checked style: pictures with shares, or, if there are no pictures, shares of the 26 styles."""

    pictures: tuple[HostImage, ...]  # resized
    shares: np.ndarray  # float32, one per picture or [26]; they add up to 1


def _parsed(argument: str, style: Style, shares: Any, style_size: Size) -> Parsed:
    """Check a style, read its files, and resize its pictures."""
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
    named = [is_named(entry, argument=argument) for entry in entries]
    if all(named):
        chosen = dict(zip(entries, weights, strict=True))
        if len(chosen) < len(entries):
            raise ValueError(f"`{argument}`: a style is given twice; give it once")
        return Parsed((), style_names.shares_of(chosen, argument=argument))
    refuse_mixed(entries, named, argument=argument)
    places = [f"{argument}[{place}]" for place in range(len(entries))]
    places = places if len(entries) > 1 else [argument]
    pictures = tuple(
        resized_style(_picture(name, entry), style_size, argument=name)
        for name, entry in zip(places, entries, strict=True)
    )
    return Parsed(pictures, checked_shares(weights, argument="shares"))


def is_named(style: Any, *, argument: str = "style") -> bool:
    """Return whether a caller's style is a name or number of the 26; a word that is neither is a path.

    Args:
      style: a name, a number, a path or a picture.
      argument: the caller's name for the value, shown in error messages.

    Raises:
      ValueError: for a word that is no such name and cannot be a file either: it has no suffix and no
        folder, and there is no such file. The message suggests the nearest name.
    """
    if style_names.is_name(style):
        return True
    if isinstance(style, (int, np.integer)) and not isinstance(style, bool):
        style_names.number_of(style, argument=argument)  # raises
    if isinstance(style, str):
        path = Path(style)
        if not path.suffix and path.name == style and not path.exists():
            raise _checks.unknown(argument, style, style_names.NAMES, "style or file")
    return False


def refuse_mixed(styles: Sequence[Any], named: Sequence[bool], *, argument: str) -> None:
    """Refuse a blend of pictures and of the 26 styles, which are of two networks."""
    if any(named) and not all(named):
        name, other = styles[named.index(True)], styles[named.index(False)]
        what = f"'{other}'" if isinstance(other, (str, os.PathLike)) else "a picture"
        raise ValueError(
            f"`{argument}`: {name!r} is one of the 26 styles and {what} is not; blend names with names "
            "and pictures with pictures"
        )


def checked_shares(shares: Sequence[Any], *, argument: str) -> np.ndarray:
    """Return shares divided by their sum, as float32; refuse negative ones, and those that are all 0."""
    for share in shares:
        _checks.number(argument, share, least=0, below=LARGEST_SHARE)
    total = float(np.sum(shares))
    if not total > 1 / LARGEST_SHARE:
        raise ValueError(f"`{argument}`: all shares are 0; give one style more than that")
    return (np.asarray(shares, np.float64) / total).astype(np.float32)


def _picture(argument: str, value: Any) -> HostImage:
    """Check a picture, or read it from its path."""
    if isinstance(value, (str, os.PathLike)):
        return images.load(value, argument=argument)
    return _checks.image(argument, value)


def _entries(argument: str, values: Any) -> list[tuple[str, Any]]:
    """Return the entries of an argument that takes one value, a batch or a sequence; each with a name."""
    if hasattr(values, "shape") and len(values.shape) == 4:
        values = list(values)
    if not isinstance(values, (list, tuple)):
        return [(argument, values)]
    if not values:
        raise ValueError(f"`{argument}`: is empty; give at least one")
    return [(f"{argument}[{place}]", value) for place, value in enumerate(values)]


def _count(given: Mapping[str, Any]) -> int:
    """Return the number of pictures: the common length of all arguments longer than one."""
    counts = {len(values) for values in given.values()} - {1}
    if len(counts) > 1:
        listed = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise ValueError(
            f"`instant_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def check_strength(strength: Any) -> None:
    """Refuse a strength, or one of several, that is not between 0 and 1."""
    _checks.number("strength", strength, least=0)
    if np.max(strength) > 1:
        raise ValueError(
            f"`strength`: expected 0 (the content's own style) to 1, got {np.max(strength):g}"
        )


def chosen_precision(name: str) -> Precision:
    """Return the precision of a name; "auto" is float32 on a CPU, tensorfloat32 on an accelerator."""
    found = precision_named(name)
    if isinstance(found, Auto):
        return FLOAT32 if capacity.platform_of() == "cpu" else TENSORFLOAT32
    return found


# --- Sizes ----------------------------------------------------------------------------------------


def content_rule(size: Size) -> sizes.SizeRule:
    """Return the size rule of contents: that of the recipe `default`, changed by `size`."""
    return sizes.with_size(DEFAULT.pictures.size, size, argument="size")


def style_rule(style_size: Size) -> sizes.SizeRule:
    """Return the size rule of style pictures: `STYLE_SIZE`, changed by `style_size`."""
    return sizes.with_size(STYLE_SIZE, style_size, argument="style_size")


def shape_by(rule: sizes.SizeRule, shape: Shape, *, argument: str) -> Shape:
    """Return the (height, width) that a picture gets by a size rule; refuse one under 16 px."""
    return prepare.checked_shape(argument, shape, rule.shape(*shape), rule)


def resized_content(image: HostImage, size: Size, *, argument: str = "content") -> Resized:
    """Resize a content by the rule of `size`, as the recipe `default` would."""
    return _resized(image, content_rule(size), argument)


def resized_style(image: HostImage, style_size: Size, *, argument: str = "style") -> Resized:
    """Resize a style picture by the rule of `style_size`."""
    return _resized(image, style_rule(style_size), argument)


def resized_to(image: HostImage, shape: Shape) -> Resized:
    """Resize a picture to (height, width) with the filter of the recipe `default`."""
    return np.asarray(prepare.resized(image, shape, DEFAULT))


def _resized(image: HostImage, rule: sizes.SizeRule, argument: str) -> Resized:
    return resized_to(image, shape_by(rule, image.shape[:2], argument=argument))


# --- Weights --------------------------------------------------------------------------------------

# Read once in a process; the files are in the package, and are verified when they are read.
_embedded_arbitrary = functools.cache(arbitrary.load_arbitrary)
_embedded_styles26 = functools.cache(styles26.load_styles26)


# --- Painting -------------------------------------------------------------------------------------


class Painter:
    """Paints requests with the embedded networks, which it loads when it needs them."""

    def __init__(
        self,
        params: Any = None,
        precision: Precision = FLOAT32,
        *,
        chunk: int | None = None,
        programs: Programs = PROGRAMS,
    ) -> None:
        """Make a painter.

        Args:
          params: the weights of one network; None loads those in the package.
          precision: of products and activations.
          chunk: largest number of pictures painted at once; None is as many as gain speed.
          programs: the compiled functions.
        """
        self._params, self._precision = params, precision
        self._chunk, self._programs = chunk, programs

    @functools.cached_property
    def arbitrary(self) -> Network:
        """The network for style pictures."""
        digest = arbitrary.ARCHITECTURE.digest
        return Network("arbitrary", _embedded_arbitrary() if self._params is None else self._params, digest, self._programs.stylize_with)

    @functools.cached_property
    def styles26(self) -> Network:
        """The network of 26 styles."""
        digest = styles26.ARCHITECTURE.digest
        return Network("styles26", _embedded_styles26() if self._params is None else self._params, digest, self._programs.stylize_mixture)

    def vector(self, picture: HostImage) -> Condition:
        """Return the style vector of a picture [h, w, 3]."""
        found = self._programs.style_vector(
            self.arbitrary.params, jnp.asarray(picture), precision=self._precision
        )
        return np.asarray(found)

    def request(self, content: HostImage, style: Parsed, strength: float = 1.0) -> Request:
        """Return the request to paint a resized content in a style.

        Raises:
          ValueError: for a strength below 1 with one of the 26 styles.
        """
        if not style.pictures:
            if strength != 1:
                raise ValueError(
                    "`strength`: needs a picture as the style, between whose style and the content's it "
                    "interpolates; of the 26 styles mix several instead"
                )
            return Request(content, self.styles26, style.shares)
        vector = style.shares @ np.stack([self.vector(picture) for picture in style.pictures])
        if strength != 1:
            own = self.vector(resized_style(content, None))
            vector = own + np.float32(strength) * (vector - own)
        return Request(content, self.arbitrary, vector)

    def paint(self, requests: Sequence[Request]) -> list[Image]:
        """Paint requests, those of one network and shape together; return pictures [h, w, 3]."""
        groups: dict[tuple[str, Shape], list[int]] = defaultdict(list)
        for place, (content, network, _) in enumerate(requests):
            groups[network.name, content.shape[:2]].append(place)
        painted: dict[int, Image] = {}
        for (_, shape), places in groups.items():
            most = self._chunk or chunk_size.worthwhile_chunk(shape, capacity.platform_of())
            size = chunk_size.even_chunk(len(places), most)
            for first in range(0, len(places), size):
                chunk = places[first : first + size]
                # A smaller last chunk repeats its last request, since it would need its own program.
                filled = chunk + chunk[-1:] * (size - len(chunk))
                found = self._together([requests[place] for place in filled])
                painted |= dict(zip(chunk, found, strict=False))
        return [painted[place] for place in range(len(requests))]

    def _together(self, requests: Sequence[Request]) -> Image:
        network = requests[0].network
        contents = np.stack([request.content for request in requests])
        conditions = np.stack([request.condition for request in requests])
        return network.paint(
            network.params,
            jnp.asarray(contents),
            jnp.asarray(conditions),
            precision=self._precision,
        )


# --- Starts ---------------------------------------------------------------------------------------


def start_of(
    prepared: prepare.Prepared, recipe: Recipe, init: Any, shares: Sequence[Any] | None = None
) -> Any:
    """Return the start of a run; the start `Instant` is replaced by the picture that it names.

    The picture has the coarsest scale's size, where the run begins. There it costs least, and at 256 px,
    the coarsest scale of the recipe `default`, the network paints strokes of the size it was trained on.

    Args:
      prepared: the pictures of the run at their final sizes, and its scales.
      recipe: the recipe, whose start is used if `init` is None.
      init: None, a start or a picture.
      shares: how much of each style; None is the recipe's `style_shares`.

    Returns:
      [h, w, 3] in [0, 1] if the start is `Instant`; else `init`.
    """
    chosen = recipe.pictures.start if init is None else init
    if not isinstance(chosen, starts.Instant):
        return init
    given = recipe.terms.style_shares if shares is None else shares
    style = style_of([np.asarray(picture) for picture in prepared.styles], given)
    content = prepare.at_scale(prepared.content, prepared.scales[0].shape)
    painter = Painter()
    return painter.paint([painter.request(np.asarray(content), style)])[0]


def style_of(pictures: Sequence[HostImage], shares: Sequence[Any]) -> Parsed:
    """Return a recipe's style pictures, resized, with its shares; one share is that of every picture."""
    given = [float(share) for share in shares]
    given = given * len(pictures) if len(given) == 1 else given
    resized = tuple(resized_style(picture, None) for picture in pictures)
    return Parsed(resized, checked_shares(given, argument="style_shares"))
