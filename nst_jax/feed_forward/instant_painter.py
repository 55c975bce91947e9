"""Painting by feed-forward networks: each picture by the network that can paint its style.

`nst_jax.instant` uses this module. So does a style transfer by optimisation, if it starts from a
picture that such a network has painted (see `instant_start`). A request says what is needed to paint
one picture: the content, the network and the condition.

Each network is a pure function of weights, contents and conditions. A condition is an array [k] that
says in which style the network paints one picture. For the network `arbitrary`, whose styles are given
by pictures, the condition is a style vector. For a network with fixed styles, it is the weight of each
of these styles in a mixture.
"""

import functools
import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax._compile import Jitted
from nst_jax._real_size import committed_to, padded
from nst_jax._types import AnyImage, HostImage, Image, Params, Shape
from nst_jax.feed_forward import (
    arbitrary,
    arbitrary_on_host,
    johnson,
    strip_memory,
    styles26,
    tiling,
)
from nst_jax.feed_forward.given_styles import ParsedStyle, Trained, resized_style
from nst_jax.feed_forward.transformer import TransformerLayers
from nst_jax.scaling import buckets, capacity, chunk_size
from nst_jax.scaling.bucket_choice import cheapest_square
from nst_jax.vgg.precision import FLOAT32, TENSORFLOAT32, Auto, Precision, precision_named

# Number of style vectors that a painter keeps in memory. A style vector is the 100 numbers that a
# network computes from a style picture. The painter keeps those that were used last, since a style is
# often used again, with other photos or another strength.
VECTORS_IN_MEMORY = 64

# If contents are painted in a bucket (a square array at whose top left each picture lies), style
# pictures lie in square arrays, too, so that pictures of several shapes share a program. The two
# numbers are the side of the smallest square, and the difference in side from one square to the next,
# in px. By default, the shorter side of a style picture is 256 px. Then pictures with an aspect ratio
# of up to 3:2 lie in the smallest square, and those of up to 2:1 in the next.
SMALLEST_STYLE_SQUARE, STYLE_SQUARE_STEP = 384, 128
# The most pixels of a square, as a multiple of the pixels of the style picture in it; the smallest
# square may have more. If the square would be too large, as for a panorama, the picture lies in a
# rectangle with fewer pixels instead, so that its style vector is computed sooner.
MOST_PIXELS_OF_SQUARE = 4

# The style in which a network paints: a style vector, or a weight for each of its fixed styles.
Condition: TypeAlias = Float[np.ndarray, " k"]


class InstantPrograms(NamedTuple):
    """The jitted functions that compute style vectors and paint, each under its own name.

    The command line replaces them by functions whose traced programs are stored on disk.
    """

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
    """A network with its weights, and the function that paints with it."""

    name: str  # only pictures for networks of the same name are painted in one call
    params: Any  # the weights
    # A hash that identifies the weights. For `arbitrary` and `styles26`, it is the hash of the weights
    # that come with the package. For a network that a user has trained, it is `Trained.digest`.
    digest: str
    # Called with (params, contents [n, h, w, 3], conditions [n, k], *, precision); returns n pictures.
    # A condition is a style as k numbers. If the contents fill only the top left parts of their arrays,
    # the keyword argument `size` [n, 2] gives the (height, width) of each part.
    paint: Callable[..., Image]


class Request(NamedTuple):
    """One picture that shall be painted."""

    content: HostImage  # the content [h, w, 3], resized to the size of the result
    network: InstantNetwork  # the network that paints it
    condition: Condition  # the style in which the network paints it


def chosen_precision(name: str) -> Precision:
    """Return the precision named `name`; "auto" is float32 on a CPU, tensorfloat32 elsewhere.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: if no precision has this name.
    """
    found = precision_named(name)
    if isinstance(found, Auto):
        return FLOAT32 if capacity.platform_of() == "cpu" else TENSORFLOAT32
    return found


def style_array(shape: Shape) -> Shape:
    """Return the (height, width) of the array in which a style picture of this shape lies.

    Both sides are rounded up to multiples of `STYLE_SQUARE_STEP`. The array is a square, whose side is
    the longer of them, or `SMALLEST_STYLE_SQUARE` if that is more. If a square larger than the smallest
    would have over `MOST_PIXELS_OF_SQUARE` times the picture's pixels, as for a panorama, the array is
    the rectangle of the two rounded sides instead.

    Example:
      >>> style_array((256, 300)), style_array((256, 500)), style_array((256, 2560))
      ((384, 384), (512, 512), (256, 2560))
    """
    height, width = (buckets.rounded_up(side, STYLE_SQUARE_STEP) for side in shape)
    square = max(SMALLEST_STYLE_SQUARE, height, width)
    limit = MOST_PIXELS_OF_SQUARE * shape[0] * shape[1]
    if square > SMALLEST_STYLE_SQUARE and square**2 > limit:
        return height, width
    return square, square


def check_strength_of_style(style: ParsedStyle, strength: float) -> None:
    """Refuse a strength other than 1 for a style that is not given as pictures.

    Raises:
      ValueError: if `strength` is not 1 and a network with fixed styles paints `style`.
    """
    if strength != 1 and not style.pictures:
        advice = "mix several styles of the network" if style.trained is None else "omit it"
        raise ValueError(
            "`strength`: needs a style picture, since it leads from the content's own style to "
            f"that of the picture; {advice} instead"
        )


def check_in_square(shape: Shape, side: int) -> None:
    """Refuse a picture that does not fit into a bucket, a square array in which pictures lie.

    Args:
      shape: (height, width) of the picture.
      side: side of the bucket in px.

    Raises:
      ValueError: if a side of the picture is longer than `side`.
    """
    if max(shape) > side:
        raise ValueError(
            f"`bucket`: a picture of {max(shape)} px on the longer side does not fit into {side} px; "
            f"give {buckets.rounded_up(max(shape))} or more, or a smaller `size`"
        )


def check_square_fits(network: InstantNetwork, side: int, precision: Precision) -> None:
    """Refuse a bucket, a square array in which pictures lie, that is too large for memory.

    Without a bucket, if a picture does not fit in memory as a whole, the networks `arbitrary` and
    `styles26` paint it in horizontal strips. In a bucket, no network can paint in strips.

    Args:
      network: the network that shall paint.
      side: side of the bucket in px.
      precision: precision of products and activations.

    Raises:
      ValueError: if a picture in the bucket does not fit into memory.
    """
    try:
        fits = not _strip(network, (side, side), precision)
    except capacity.OutOfMemory:  # not even strips fit
        fits = False
    if not fits:
        raise ValueError(
            f"`bucket`: a picture padded to {side} px does not fit into memory; use a smaller bucket, "
            'or "off"'
        )


def square_by_cost(
    pictures: Sequence[tuple[Any, Shape]], trained: Sequence[Trained] = ()
) -> int | None:
    """Choose the side of a square array in which all pictures are painted, for a `bucket` of "auto".

    Args:
      pictures: for each picture a key of the network that paints it, and the picture's (height, width).
      trained: the networks among them that a user has trained.

    Returns:
      The side in px that `bucket_choice.cheapest_square` chooses for the default device. None if the
      square saves no time, or if there is too little memory for it (see `square_fits`).
    """
    fits = functools.partial(square_fits, trained=trained)
    return cheapest_square(pictures, capacity.platform_of(), fits=fits)


def square_fits(side: int, trained: Sequence[Trained] = ()) -> bool:
    """Return whether memory suffices to paint a square of `side` px without dividing it into strips.

    It must suffice for the networks `arbitrary` and `styles26`, and for the `trained` ones, which take
    the more memory the wider they are.
    """
    tables = [johnson.layer_table_of(one.network.params) for one in trained]
    available = capacity.available()
    try:
        for layers in (arbitrary.LAYERS, styles26.LAYERS, *tables):
            strip_memory.check_fits_whole(layers, (side, side), available=available)
    except capacity.OutOfMemory:
        return False
    return True


def _layers_of(network: InstantNetwork) -> TransformerLayers:
    """Return the table of a network's layers, by which its memory is estimated."""
    if not isinstance(network.params, Params):
        return johnson.layer_table_of(network.params)
    return strip_memory.magenta_layers(network.params)


def _strip(network: InstantNetwork, shape: Shape, precision: Precision) -> int:
    """Return the height, in px, of the strips in which a picture is painted if memory is too small.

    The strips are horizontal and are painted one after another. The result is 0 if the whole picture
    fits in memory. A network that the user trained cannot paint in strips, so for such a network 0 is
    the only possible result.

    Raises:
      OutOfMemory: if the picture fits into memory neither as a whole nor in strips, or if it does not
        fit as a whole and the network cannot paint in strips.
    """
    available = capacity.available()
    if isinstance(network.params, Params):
        return strip_memory.strip_for(
            network.params, shape, available=available, precision=precision
        )
    layers = _layers_of(network)
    strip_memory.check_fits_whole(layers, shape, available=available, precision=precision)
    return 0


# --- Weights --------------------------------------------------------------------------------------

# These functions load the weights that come with the package. Their results are cached, so that a
# process reads and verifies each file at most once.
_embedded_arbitrary = functools.cache(arbitrary.load_arbitrary)

_embedded_styles26 = functools.cache(styles26.load_styles26)

# --- Painting -------------------------------------------------------------------------------------


class InstantPainter:
    """Paints pictures as `Request`s ask for, and loads a network when a request first needs it."""

    def __init__(
        self,
        params: Any = None,
        precision: Precision = FLOAT32,
        *,
        chunk: int | None = None,
        programs: InstantPrograms = PROGRAMS,
        bucket: int | None = None,
    ) -> None:
        """Set the weights, precision and functions with which pictures are painted; load nothing yet.

        Args:
          params: weights of the network `arbitrary` or `styles26`. Requests may then need only this
            network, or trained networks, which have weights of their own. None loads the weights that
            come with the package, for whichever network a request needs.
          precision: precision of products and activations.
          chunk: largest number of pictures that are painted at once; None is the number beyond which
            painting more at once is hardly faster. Fewer are painted at once if memory is too small.
          programs: the compiled functions.
          bucket: side, in px, of a square at whose top left each picture lies, so that pictures of all
            sizes up to it share their programs; None if each shape has programs of its own. With a
            bucket, style pictures lie in larger arrays, too, whose shapes `style_array` returns.
        """
        self._params, self._precision, self.bucket = params, precision, bucket
        self._chunk, self._programs = chunk, programs
        # A cache: shape, dtype and hash of a style picture -> its style vector. It keeps the vectors
        # that were used last.
        self._vectors: OrderedDict[Any, Condition] = OrderedDict()
        # A function that shows progress. A picture that is painted in strips is computed in several
        # passes. After each strip of each pass, the function is called with the number of strips done
        # and the number of all strips, both counted over all passes.
        self.report: Callable[[int, int], Any] = lambda done, total: None

    @functools.cached_property
    def arbitrary(self) -> InstantNetwork:
        """The network `arbitrary`, whose styles are given by pictures; loaded at first use."""
        params = _embedded_arbitrary() if self._params is None else self._params
        name, digest = arbitrary.ARCHITECTURE.name, arbitrary.ARCHITECTURE.digest
        return InstantNetwork(name, params, digest, self._programs.stylize_with)

    @functools.cached_property
    def styles26(self) -> InstantNetwork:
        """The network of 26 fixed styles; loaded at first use."""
        params = _embedded_styles26() if self._params is None else self._params
        name, digest = styles26.ARCHITECTURE.name, styles26.ARCHITECTURE.digest
        return InstantNetwork(name, params, digest, self._programs.stylize_mixture)

    def trained(self, style: Trained) -> InstantNetwork:
        """Return a network that `nst_jax.train` trained, as an `InstantNetwork`."""
        network, digest = style
        name = f"trained {digest}"
        return InstantNetwork(name, network.params, digest, self._programs.stylize_trained)

    def vector(self, picture: HostImage) -> Condition:
        """Return the style vector [100] of a picture [h, w, 3], for painting with `arbitrary`."""
        pixels = np.ascontiguousarray(picture)
        key = pixels.shape, pixels.dtype, hashlib.sha256(pixels.data).digest()
        if key not in self._vectors:
            self._vectors[key] = np.asarray(self._predicted(pixels))
        self._vectors.move_to_end(key)
        if len(self._vectors) > VECTORS_IN_MEMORY:
            self._vectors.popitem(last=False)
        return self._vectors[key]

    def _predicted(self, pixels: np.ndarray) -> Any:
        params, predict = self.arbitrary.params, self._programs.style_vector
        if self.bucket is None:
            return predict(params, jnp.asarray(pixels), precision=self._precision)
        height, width = pixels.shape[:2]
        wide = jnp.asarray(padded(pixels, style_array((height, width))))
        size = jnp.asarray(np.asarray((height, width), np.int32))
        return predict(params, wide, precision=self._precision, size=size)

    def request(self, content: HostImage, style: ParsedStyle, strength: float = 1.0) -> Request:
        """Return the request to paint a content in a style; the style decides which network paints.

        Args:
          content: the content [h, w, 3] in [0, 1], at the size that the result shall have.
          style: the checked style, from `given_styles.parsed_style`.
          strength: strength of the style: with 0 the content is painted in its own style, with 1 in the
            given style, and with numbers between them in a mixture of both.

        Raises:
          ValueError: if `strength` is not 1 for a style of a network with fixed styles.
        """
        check_strength_of_style(style, strength)
        if not style.pictures:
            if style.trained is not None:
                return Request(content, self.trained(style.trained), style.shares)
            return Request(content, self.styles26, style.shares)
        vector = style.shares @ np.stack([self.vector(picture) for picture in style.pictures])
        if strength != 1:
            on_host = self.bucket is not None
            own = self.vector(resized_style(content, None, on_host=on_host))
            vector = own + np.float32(strength) * (vector - own)
        return Request(content, self.arbitrary, vector)

    def paint(self, requests: Sequence[Request]) -> list[AnyImage]:
        """Paint several pictures; return them, [h, w, 3] in [0, 1], in the order of the requests.

        Pictures of the same network and the same size are painted together, several at once. If the
        painter has a bucket (a square array in which each picture lies), pictures of different sizes
        are painted together, too. A picture that does not fit in memory is painted alone, one
        horizontal strip after another. Strips are possible neither in a bucket nor with a network that
        the user has trained. In these two cases, an error is raised if memory is too small for the
        bucket or the picture.

        Raises:
          ValueError: if a picture is larger than the bucket, or the bucket too large for memory.
          OutOfMemory: if a picture does not fit in memory, not even in the smallest strips if strips
            are possible.
        """
        groups: dict[tuple[str, Shape], list[int]] = defaultdict(list)
        for place, (content, network, _) in enumerate(requests):
            groups[network.name, self._array(content)].append(place)
        painted: dict[int, AnyImage] = {}
        for (_, shape), places in groups.items():
            network = requests[places[0]].network
            if self.bucket is not None:
                check_square_fits(network, self.bucket, self._precision)
            elif strip := _strip(network, shape, self._precision):
                painted |= {place: self._in_strips(requests[place], strip) for place in places}
                continue
            most = self._chunk or chunk_size.worthwhile_chunk(shape, capacity.platform_of())
            fitting = strip_memory.pictures_that_fit(
                _layers_of(network),
                shape,
                len(places),
                available=capacity.available(),
                precision=self._precision,
            )
            most = most if fitting is None else min(most, fitting)
            size = chunk_size.even_chunk(len(places), most)
            for first in range(0, len(places), size):
                chunk = places[first : first + size]
                # A chunk is a group of pictures that are painted in one call. If the last chunk is
                # smaller than the others, it is filled up with copies of its last request, since a
                # chunk of another size would need another compiled program.
                filled = chunk + chunk[-1:] * (size - len(chunk))
                found = self._together([requests[place] for place in filled])
                painted |= dict(zip(chunk, found, strict=False))
        return [painted[place] for place in range(len(requests))]

    def _array(self, content: HostImage) -> Shape:
        """Return the (height, width) of the array in which a content is painted.

        The array is the bucket, a square array in which contents of several sizes lie. If the painter
        has no bucket, the array is as large as the content.
        """
        shape: Shape = content.shape[0], content.shape[1]
        if self.bucket is None:
            return shape
        check_in_square(shape, self.bucket)
        return self.bucket, self.bucket

    def _in_strips(self, request: Request, strip: int) -> HostImage:
        return tiling.paint_in_strips(
            request.network.params,
            request.content,
            request.condition,
            strip=strip,
            precision=self._precision,
            report=self.report,
        )

    def _together(self, requests: Sequence[Request]) -> Image | list[AnyImage]:
        network = requests[0].network
        conditions = np.stack([request.condition for request in requests])
        paint = functools.partial(network.paint, network.params, precision=self._precision)
        if self.bucket is None:
            contents = np.stack([request.content for request in requests])
            found: Image = paint(jnp.asarray(contents), jnp.asarray(conditions))
            return found
        shapes = [request.content.shape[:2] for request in requests]
        wide = [padded(request.content, self._array(request.content)) for request in requests]
        size = jnp.asarray(np.asarray(shapes, np.int32))
        found = paint(jnp.asarray(np.stack(wide)), jnp.asarray(conditions), size=size)
        pairs = zip(np.asarray(found), shapes, strict=True)
        painted: list[Any] = [one[:height, :width] for one, (height, width) in pairs]
        # NumPy cuts the pictures out; they are put back on the device to which the weights, and so the
        # results, are committed.
        chosen = committed_to(found)
        return painted if chosen is None else jax.device_put(painted, chosen)


class HostPainter(InstantPainter):
    """Paints in styles that are given by pictures; NumPy computes the network, which is not compiled.

    This class paints the first small picture of a process sooner than `InstantPainter`, and larger or
    later ones more slowly. Its network is `arbitrary`.
    """

    @functools.cached_property
    def arbitrary(self) -> InstantNetwork:
        """The network `arbitrary`, whose styles are given by pictures; loaded at first use."""
        params = arbitrary_on_host.load_arbitrary_on_host()
        name, digest = arbitrary.ARCHITECTURE.name, arbitrary.ARCHITECTURE.digest
        # The last field is the function that paints with JAX. It is not called, since the method
        # `paint` below computes with NumPy.
        return InstantNetwork(name, params, digest, self._programs.stylize_with)

    def _predicted(self, pixels: np.ndarray) -> Condition:
        return arbitrary_on_host.style_vector_on_host(self.arbitrary.params, pixels)

    def paint(self, requests: Sequence[Request]) -> list[AnyImage]:
        """Paint several pictures, one after another; return them, [h, w, 3] in [0, 1]."""
        params = self.arbitrary.params
        return [
            arbitrary_on_host.stylize_on_host(params, content, condition)
            for content, _, condition in requests
        ]
