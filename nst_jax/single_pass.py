"""`instant` and `instant_many`: pictures styled by a single pass of a feed-forward network.

Each network is a pure function of weights, contents and conditions. A condition is an array [k] for one
picture that says in which style it is painted. For the arbitrary network it is a style vector, which
the network predicts from a style picture. For the network of 26 styles and for trained networks, it is
the share of each of the network's styles.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks, images, prepare
from nst_jax._compile import Jitted
from nst_jax._types import AnyImage, HostImage, Image, Params, Shape
from nst_jax.checkpoints import named_leaves
from nst_jax.feed_forward import arbitrary, johnson, style_files, style_names, styles26, tiling
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.recipe import LARGEST_SHARE, Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, chunk_size
from nst_jax.vgg.precision import FLOAT32, TENSORFLOAT32, Auto, Precision, precision_named
from nst_jax.weights.digests import digest_of

# Size of style pictures if `style_size` is None. The predictor was trained on squares of 256 px, cut
# from the middle of pictures whose shorter side is 256 px. At this size, strokes are as large as in
# training.
STYLE_SIZE = sizes.ShortEdge(256)

Condition: TypeAlias = Float[np.ndarray, " k"]

Resized: TypeAlias = Float[np.ndarray, "h_new w_new 3"]

TRAINED_SUFFIX = ".h5"  # suffix of the files of trained networks

# A style as callers give it; the argument `style` of `instant` lists the forms.
Style: TypeAlias = Any


class InstantPrograms(NamedTuple):
    """The compiled functions; the command line replaces some by programs kept on disk."""

    style_vector: Callable[..., Any]
    stylize_with: Callable[..., Any]
    stylize_mixture: Callable[..., Any]
    stylize_trained: Callable[..., Any]


PROGRAMS = InstantPrograms(
    style_vector=Jitted(arbitrary.style_vector, static_argnames=("precision",)),
    stylize_with=Jitted(arbitrary.stylize_with, static_argnames=("precision",)),
    stylize_mixture=Jitted(styles26.stylize_mixture, static_argnames=("precision",)),
    stylize_trained=Jitted(johnson.stylize_trained, static_argnames=("precision",)),
)


class InstantNetwork(NamedTuple):
    """A network that paints pictures [n, h, w, 3] with conditions [n, k]."""

    name: str
    params: Any
    digest: str  # digest of the weights
    paint: Callable[..., Image]  # called with (params, contents, conditions, *, precision)


class Request(NamedTuple):
    """One picture to paint: the resized content, a network, and the condition of its style."""

    content: HostImage
    network: InstantNetwork
    condition: Condition


# --- The functions for callers --------------------------------------------------------------------


def instant(
    content: Any,
    style: Style,
    *,
    shares: Sequence[float] | Mapping[str, float] | None = None,
    strength: float = 1.0,
    size: Size = None,
    style_size: Size = None,
    precision: str = "auto",
    params: Any = None,
) -> Image:
    """Paint the content in a style by a single pass of a feed-forward network, in about a second.

    `stylize` changes a picture until its features are those wanted; here a network that was trained
    once maps the content to the result. If the style is a picture, Magenta's arbitrary network paints,
    which transfers palette and grain more than strokes. If it is a name or number, the network of 26
    styles paints, which knows only these and makes them more pronounced.

    Args:
      content: [h, w, 3] float in [0, 1], or uint8; or the path of a picture.
      style: one of: a picture, given as for `content`; a name in `feed_forward.style_names.NAMES`, or
        its index there; a list of pictures or a list of names, which are mixed; a dictionary from paths
        or names to shares, such as `{"mosaic": 0.5, "waves": 0.5}`; a network that `nst_jax.train`
        made, or the path of its file, which ends in .h5. The style vectors of several pictures are
        averaged, weighted by shares.
      shares: numbers that say how much of each style in a list, or of each style of a trained network,
        for which a dictionary from its styles' names to shares is also accepted; default: equal shares.
      strength: from 0 to 1: the style vector is interpolated from the content's own (0) to the style's
        (1). Other values than 1 need style pictures, since other styles have no vectors.
      size: as in `stylize`; default: the longer side becomes 512 px. `"as-is"` resizes nothing.
      style_size: size of style pictures, given as for `size`; default: the shorter side becomes 256 px,
        as in the training of the network.
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
      OutOfMemory: if a picture does not fit in memory even in strips, in which large ones are painted.

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
    _check_params(params)
    parsed = _parsed("style", style, shares, style_size)
    image = _picture("content", content)
    painter = InstantPainter(params, chosen)
    resized = resized_content(image, size)
    request = painter.request(resized, parsed, strength)
    return jnp.asarray(painter.paint([request])[0])


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

    n contents are paired with n styles; a single content or style is used for all pictures. Pictures
    that have the same shape after resizing and are painted by the same network are painted together.

    Args:
      contents: one content, a batch [n, h, w, 3], or a sequence of contents of any sizes.
      styles: one style, a batch [n, h, w, 3], or a sequence of styles; an entry that is itself a list
        is a mixture, as in `instant`.
      shares: as in `instant`, for every entry that is a list.
      strength: as in `instant`; or n numbers, one for each picture.
      size: as in `instant`, for every content.
      style_size: as in `instant`.
      precision: as in `instant`.
      params: as in `instant`; the styles must then be of this network.
      chunk: largest number of pictures painted at once; default: the number beyond which larger chunks
        are hardly faster.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all pictures have one shape, else a list of n images.

    Raises:
      TypeError: as in `instant`.
      ValueError: as in `instant`; and if the numbers of contents, styles and strengths do not fit
        together.
      OutOfMemory: as in `instant`.

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
    _check_params(params)
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    found = [_picture(name, one) for name, one in _entries("contents", contents)]
    parsed = [
        _parsed(name, one, shares if isinstance(one, (list, tuple)) else None, style_size)
        for name, one in _entries("styles", styles)
    ]
    strengths = np.atleast_1d(np.asarray(strength, np.float32))
    count = _count({"contents": found, "styles": parsed, "strength": strengths})
    painter = InstantPainter(params, chosen, chunk=chunk)
    resized = [resized_content(image, size) for image in found]
    requests = [
        painter.request(
            resized[index % len(resized)],
            parsed[index % len(parsed)],
            float(strengths[index % len(strengths)]),
        )
        for index in range(count)
    ]
    painted = [jnp.asarray(image) for image in painter.paint(requests)]
    return jnp.stack(painted) if len({one.shape for one in painted}) == 1 else painted


# --- Arguments ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A network that `nst_jax.train` made, and the digest of its weights."""

    network: johnson.StyleNetwork
    digest: str


class Parsed(NamedTuple):
    """A checked style: pictures, a trained network, or, if there is neither, some of the 26 styles."""

    pictures: tuple[Any, ...]  # the style pictures, resized; empty if the style is of another kind
    shares: np.ndarray  # float32, with sum 1: one per picture, or one per style of the network
    trained: Trained | None = None


def _parsed(argument: str, style: Style, shares: Any, style_size: Size) -> Parsed:
    """Check a style, read its files, and resize its pictures."""
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
        return Parsed((), style_names.mixture_of(chosen, argument=argument))
    refuse_mixed(entries, named, argument=argument)
    places = [f"{argument}[{place}]" for place in range(len(entries))]
    places = places if len(entries) > 1 else [argument]
    pictures = tuple(
        resized_style(_picture(name, entry), style_size, argument=name)
        for name, entry in zip(places, entries, strict=True)
    )
    return Parsed(pictures, checked_shares(weights, argument="shares"))


def is_trained(style: Any) -> bool:
    """Return whether a style is a trained network, or the path of its file, which ends in .h5."""
    if isinstance(style, (str, os.PathLike)):
        return Path(style).suffix.lower() == TRAINED_SUFFIX
    return isinstance(style, johnson.StyleNetwork)


def read_trained(path: Any, *, argument: str = "style") -> Trained:
    """Read and verify the file of a trained network."""
    found = style_files.read_style_file(path, argument=argument)
    return Trained(found.network, found.digest)


def _trained(argument: str, style: Any, shares: Any) -> Parsed:
    """Return a checked trained network; `shares` are numbers, numbers by style name, or None."""
    if isinstance(style, johnson.StyleNetwork):
        arrays = {name: np.asarray(a) for name, a in named_leaves(dict(style.params)).items()}
        trained = Trained(style, digest_of([], arrays))
    else:
        trained = read_trained(style, argument=argument)
    names = trained.network.styles
    if shares is None or isinstance(shares, Mapping):
        return Parsed((), style_files.style_shares(names, shares), trained)
    if len(shares) != len(names):
        raise ValueError(
            f"`shares`: expected {len(names)}, one for each style of the network "
            f"({', '.join(names)}), got {len(shares)}"
        )
    return Parsed((), checked_shares(shares, argument="shares"), trained)


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
    """Refuse a blend of pictures with some of the 26 styles, which two different networks paint."""
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


def _picture(argument: str, value: Any) -> HostImage:
    """Check a picture, or read it from its path."""
    if isinstance(value, (str, os.PathLike)):
        return images.load(value, argument=argument)
    return _checks.image(argument, value)


def _entries(argument: str, values: Any) -> list[tuple[str, Any]]:
    """Return (name for error messages, value) for each entry of a value, a batch or a sequence."""
    if hasattr(values, "shape") and len(values.shape) == 4:
        values = list(values)
    if not isinstance(values, (list, tuple)):
        return [(argument, values)]
    if not values:
        raise ValueError(f"`{argument}`: is empty; give at least one")
    return [(f"{argument}[{place}]", value) for place, value in enumerate(values)]


def _count(given: Mapping[str, Any]) -> int:
    """Return the number of pictures: the length of all arguments that have more than one entry."""
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


def _check_params(params: Any) -> None:
    """Refuse weights of a network other than the two in the package, before any picture is read."""
    if params is None:
        return
    advice = "`nst_jax.feed_forward.load_arbitrary()` and `load_styles26()` give them"
    _checks.instance("params", params, Params, advice)
    if "conditions" not in params.layers:
        raise ValueError(f"`params`: are weights of another network, {params.family!r}; {advice}")


def chosen_precision(name: str) -> Precision:
    """Return a precision by name; "auto" is float32 on a CPU, tensorfloat32 on an accelerator."""
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


# --- Weights --------------------------------------------------------------------------------------

# The weights in the package, each file read and verified at most once in a process.
_embedded_arbitrary = functools.cache(arbitrary.load_arbitrary)
_embedded_styles26 = functools.cache(styles26.load_styles26)


# --- Painting -------------------------------------------------------------------------------------


class InstantPainter:
    """Paints requests; it loads the networks in the package when a request first needs them."""

    def __init__(
        self,
        params: Any = None,
        precision: Precision = FLOAT32,
        *,
        chunk: int | None = None,
        programs: InstantPrograms = PROGRAMS,
    ) -> None:
        """Make a painter.

        Args:
          params: the weights of one network; None loads those in the package.
          precision: precision of products and activations.
          chunk: largest number of pictures painted at once; None is the number beyond which larger
            chunks are hardly faster.
          programs: the compiled functions.
        """
        self._params, self._precision = params, precision
        self._chunk, self._programs = chunk, programs
        # Called after each strip of a picture that is painted in strips, with the numbers of strips
        # done and of all strips.
        self.report: Callable[[int, int], Any] = lambda done, total: None

    @functools.cached_property
    def arbitrary(self) -> InstantNetwork:
        """The network for style pictures."""
        params = _embedded_arbitrary() if self._params is None else self._params
        name, digest = arbitrary.ARCHITECTURE.name, arbitrary.ARCHITECTURE.digest
        return InstantNetwork(name, params, digest, self._programs.stylize_with)

    @functools.cached_property
    def styles26(self) -> InstantNetwork:
        """The network of 26 styles."""
        params = _embedded_styles26() if self._params is None else self._params
        name, digest = styles26.ARCHITECTURE.name, styles26.ARCHITECTURE.digest
        return InstantNetwork(name, params, digest, self._programs.stylize_mixture)

    def trained(self, style: Trained) -> InstantNetwork:
        """Return a trained network as an `InstantNetwork`."""
        network, digest = style
        name = f"trained {digest}"
        return InstantNetwork(name, network.params, digest, self._programs.stylize_trained)

    def vector(self, picture: HostImage) -> Condition:
        """Return the style vector of a picture [h, w, 3]."""
        found = self._programs.style_vector(
            self.arbitrary.params, jnp.asarray(picture), precision=self._precision
        )
        return np.asarray(found)

    def request(self, content: HostImage, style: Parsed, strength: float = 1.0) -> Request:
        """Return the request to paint a resized content in a style.

        Raises:
          ValueError: if `strength` is not 1 and the style is not of pictures.
        """
        if not style.pictures:
            if strength != 1:
                raise ValueError(
                    "`strength`: needs a style picture, towards which it leads from the content's own "
                    "style; of the 26 styles mix several instead"
                )
            if style.trained is not None:
                return Request(content, self.trained(style.trained), style.shares)
            return Request(content, self.styles26, style.shares)
        vector = style.shares @ np.stack([self.vector(picture) for picture in style.pictures])
        if strength != 1:
            own = self.vector(resized_style(content, None))
            vector = own + np.float32(strength) * (vector - own)
        return Request(content, self.arbitrary, vector)

    def paint(self, requests: Sequence[Request]) -> list[AnyImage]:
        """Paint requests; return pictures [h, w, 3] in the order of the requests.

        Requests with the same network and the same shape are painted together. A picture that does not
        fit in memory is painted alone, in strips.

        Raises:
          OutOfMemory: if a picture does not fit even in the smallest strips.
        """
        groups: dict[tuple[str, Shape], list[int]] = defaultdict(list)
        for place, (content, network, _) in enumerate(requests):
            groups[network.name, content.shape[:2]].append(place)
        painted: dict[int, AnyImage] = {}
        for (_, shape), places in groups.items():
            if strip := self._strip(requests[places[0]].network, shape):
                painted |= {place: self._in_strips(requests[place], strip) for place in places}
                continue
            most = self._chunk or chunk_size.worthwhile_chunk(shape, capacity.platform_of())
            size = chunk_size.even_chunk(len(places), most)
            for first in range(0, len(places), size):
                chunk = places[first : first + size]
                # A smaller last chunk is filled with copies of its last request, since another size
                # would need another compiled program.
                filled = chunk + chunk[-1:] * (size - len(chunk))
                found = self._together([requests[place] for place in filled])
                painted |= dict(zip(chunk, found, strict=False))
        return [painted[place] for place in range(len(requests))]

    def _strip(self, network: InstantNetwork, shape: Shape) -> int:
        """Return how many rows the strips of a picture have, to fit in memory; 0 if it fits whole."""
        if not isinstance(network.params, Params):  # a trained network paints in one piece
            return 0
        available, precision = capacity.available(), self._precision
        return tiling.strip_for(network.params, shape, available=available, precision=precision)

    def _in_strips(self, request: Request, strip: int) -> HostImage:
        return tiling.paint_in_strips(
            request.network.params,
            request.content,
            request.condition,
            strip=strip,
            precision=self._precision,
            report=self.report,
        )

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


def resolved_start(
    prepared: prepare.Prepared, recipe: Recipe, init: Any, shares: Sequence[Any] | None = None
) -> Any:
    """Return the start of a run; the start `Instant` is replaced by the picture that it stands for.

    The picture has the size of the coarsest scale, at which the run begins. It costs least at this
    size. In the recipe `default` this is 256 px, at which strokes have the size that the network was
    trained on.

    Args:
      prepared: the pictures of the run at their final sizes, and its scales.
      recipe: the recipe, whose start is used if `init` is None.
      init: a start, a picture, or None for the recipe's start.
      shares: the share of each style; None is the recipe's `style_shares`.

    Returns:
      A picture [h, w, 3] in [0, 1] if the start is `Instant`; else `init`, unchanged.
    """
    chosen = recipe.pictures.start if init is None else init
    if not isinstance(chosen, starts.Instant):
        return init
    given = recipe.terms.style_shares if shares is None else shares
    style = style_of([np.asarray(picture) for picture in prepared.styles], given)
    content = prepare.at_scale(prepared.content, prepared.scales[0].shape)
    painter = InstantPainter()
    return painter.paint([painter.request(np.asarray(content), style)])[0]


def style_of(pictures: Sequence[HostImage], shares: Sequence[Any]) -> Parsed:
    """Return style pictures, resized, with their shares; a single share means equal shares for all."""
    given = [float(share) for share in shares]
    given = given * len(pictures) if len(given) == 1 else given
    resized = tuple(resized_style(picture, None) for picture in pictures)
    return Parsed(resized, checked_shares(given, argument="style_shares"))
