"""Pictures painted by the network that their styles need, also as the start of a run.

Each network is a pure function of weights, contents and conditions. A condition is an array [k] for
each picture, whose numbers say in which style the network paints: for the network `arbitrary`, whose
styles are pictures, it is a style vector; for the other networks, it is the share of each style.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import prepare
from nst_jax._compile import Jitted
from nst_jax._types import AnyImage, HostImage, Image, Params, Shape
from nst_jax.feed_forward import arbitrary, johnson, strip_memory, styles26, tiling
from nst_jax.feed_forward.given_styles import ParsedStyle, Trained, checked_shares, resized_style
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import capacity, chunk_size
from nst_jax.vgg.precision import FLOAT32, TENSORFLOAT32, Auto, Precision, precision_named

Condition: TypeAlias = Float[np.ndarray, " k"]


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


def chosen_precision(name: str) -> Precision:
    """Return a precision by name; "auto" is float32 on a CPU, tensorfloat32 on an accelerator."""
    found = precision_named(name)
    if isinstance(found, Auto):
        return FLOAT32 if capacity.platform_of() == "cpu" else TENSORFLOAT32
    return found


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

    def request(self, content: HostImage, style: ParsedStyle, strength: float = 1.0) -> Request:
        """Return the request to paint a resized content in a style.

        Args:
          content: the content at the size of the result.
          style: the checked style.
          strength: from 0, the content's own style, to 1, the given style.

        Raises:
          ValueError: if `strength` is not 1 although the style does not consist of pictures.
        """
        if not style.pictures:
            if strength != 1:
                raise ValueError(
                    "`strength`: needs a style picture, since it leads from the content's own style to "
                    "that of the picture; of the 26 styles, mix several instead"
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
        return strip_memory.strip_for(
            network.params, shape, available=available, precision=precision
        )

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

    This picture has the size of the coarsest scale, at which the run begins, since painting costs least
    there. In the recipe `default` this size is 256 px, at which strokes are as large as in the training
    of the network.

    Args:
      prepared: the pictures of the run at their final sizes, and the scales of the run.
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
    blended = recipe.terms.blended_styles(prepared.styles)
    style = style_of([np.asarray(picture) for picture in blended], given)
    content = prepare.at_scale(prepared.content, prepared.scales[0].shape)
    painter = InstantPainter()
    return painter.paint([painter.request(np.asarray(content), style)])[0]


def style_of(pictures: Sequence[np.ndarray], shares: Sequence[Any]) -> ParsedStyle:
    """Return style pictures, resized, with their shares; a single share means equal shares for all.

    The pictures are images [h, w, 3] of any sizes.
    """
    given = [float(share) for share in shares]
    given = given * len(pictures) if len(given) == 1 else given
    resized = tuple(resized_style(picture, None) for picture in pictures)
    return ParsedStyle(resized, checked_shares(given, argument="style_shares"))
