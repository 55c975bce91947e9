"""The kinds of losses, as records of functions: of sums over a picture, or of matching positions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import lax
from jaxtyping import Array, Bool, Int

from nst_jax._types import FeatureMap, Image, Scalar, Shape, Statistic
from nst_jax.losses.sums import Count, PositionMask, masked, positions

Mask: TypeAlias = Bool[Array, "h w"] | None  # True for pixels to include; None for all

PIXELS = "pixels"  # the name under which losses of many taps find the picture itself


class ContentLoss(NamedTuple):
    """A content loss, in two parts: what is summed over positions, and the loss made from the sum.

    Attributes:
      sums: function of (features of the canvas, of the content), each [*batch, h, w, c]; returns a sum
        over the h * w positions, or a pytree of several.
      value: function of (these sums, h * w * c, an int or a scalar array); returns the loss, a scalar.
      additive: whether `sums` really is a sum over positions: positions that are zero in both pictures
        add nothing, and the sums of two halves of a picture add up to the sum of the whole. Computing a
        picture in tiles, or in bands on several devices, needs that; with False, a picture is always
        computed in one piece.
    """

    sums: Callable[[FeatureMap, FeatureMap], Any]
    value: Callable[[Any, Count], Scalar]
    additive: bool = True

    def __call__(self, canvas: FeatureMap, content: FeatureMap) -> Scalar:
        """Return the distance between the features [*batch, h, w, c] of two whole pictures."""
        return self.value(self.sums(canvas, content), positions(canvas) * canvas.shape[-1])


def statistic_itself(statistic: Statistic) -> Statistic:
    """Return a statistic as it is: the `target` of losses that compare statistics directly."""
    return statistic


def weighted_mean(statistics: Sequence[Statistic], weights: Sequence[Any]) -> Statistic:
    """Return the mean of several statistics by weights that sum to 1: the `blend` of most losses."""
    return jax.tree.map(
        lambda *parts: sum(weight * part for weight, part in zip(weights, parts, strict=True)),
        *statistics,
    )


class StyleLoss(NamedTuple):
    """A style loss, in parts: sums over positions, a statistic, a blend, a target, a distance.

    Only `sums` sees the positions. So the loss is exact even if a picture is computed in parts (tiles,
    bands of several devices): the sums of the parts are added before `statistic` is called.

    The functions are given single pictures; for a batch they are mapped by `vmap`.

    Attributes:
      sums: function of (features [h, w, c], precision of matrix products); returns a pytree of sums
        over the h * w positions. Features may be bfloat16; the sums must be float32 at least.
      statistic: function of (sums, number of positions); returns the statistic, a pytree. Of masked
        positions, the number is the sum of T², a scalar array.
      distance: function of (statistic of the canvas, target of the style, `Extent` of the canvas);
        returns the loss, a scalar.
      additive: whether `sums` really are sums over positions: positions of zeros add nothing, and the
        sums of two halves of a picture add up to those of the whole. This does not hold for sorted
        projections, nearest neighbours or histograms that count zeros. With False, a picture is always
        computed in one piece, without tiles and bands.
      target: function of (the style's statistic; of several styles, that of their blend); returns
        the target, a pytree, which `Targets` keep. What depends on the style alone is computed here,
        once for each scale (resolution) and not in every update. By default the statistic itself. The
        target's shape may depend on the size of the style, if zeros appended to it change nothing.
      blend: function of (the statistics of several styles, as many weights that sum to 1); returns the
        statistic of their blend. By default their weighted mean, which is right for averages over
        positions, such as the mean and the second moment of features, but not for their covariance.
      masked_sums: function of (features [h, w, c], mask T [h, w] in [0, 1], precision of matrix
        products); returns `sums` in which each position counts T² times. Without it, an additive loss
        can be used with masks of 0 and 1 only, by which the features are multiplied.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import StyleLoss, mean_over_positions
      >>> def channel_sums(features, products):
      ...     return jnp.sum(features, axis=(-3, -2))
      >>> def distance(canvas, style, extent):
      ...     return jnp.mean(jnp.square(canvas - style))
      >>> loss = StyleLoss(channel_sums, mean_over_positions, distance)
      >>> loss.measure(jnp.ones((4, 6, 2))).tolist()
      [1.0, 1.0]
    """

    sums: Callable[[FeatureMap, lax.Precision], Statistic]
    statistic: Callable[[Statistic, Count], Statistic]
    distance: Callable[[Statistic, Any, "Extent"], Scalar]
    additive: bool = True
    target: Callable[[Statistic], Any] = statistic_itself
    blend: Callable[[Sequence[Statistic], Sequence[Any]], Statistic] = weighted_mean
    masked_sums: Callable[[FeatureMap, PositionMask, lax.Precision], Statistic] | None = None

    def measure(
        self, features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST
    ) -> Statistic:
        """Return the statistic of the features [h, w, c] of a whole picture."""
        return self.statistic(self.sums(features, products), positions(features))

    def sums_of_masked(
        self, features: FeatureMap, mask: PositionMask, products: lax.Precision
    ) -> Statistic:
        """Return the sums over positions of features [h, w, c], each of which counts T² times."""
        if self.masked_sums is not None:
            return self.masked_sums(features, mask, products)
        return self.sums(masked(features, mask), products)


class MatchingLoss(NamedTuple):
    """A style loss that compares positions of the canvas with positions of the style.

    It reads the features of all style taps together, and whole pictures: no tiles, no bands. Of several
    styles, all positions form one set, and the styles have no shares.

    Each style is measured in one or several orientations (`turns`), and each of these is a picture of
    its own. "Features by tap" is a dictionary: tap -> features [h, w, c]. `products` is the precision
    of matrix products.

    Attributes:
      target: function of (list with the features by tap of each picture, list of the pictures' (height,
        width), products); returns a dictionary, which becomes `Targets.style`.
      distances: function of (features of the canvas by tap, the canvas' (height, width), target,
        matches, number of the update, products); returns by tap the losses, scalars. The number is
        traced; a loss with random choices makes its random key from it, see `Extent`.
      matches: function of (features by tap of a picture, its (height, width), target, products);
        returns [n] indices into the target, which `State.matches` keeps. They are found once for each
        scale, in a mixture of the content and of the canvas at the beginning of the scale, see
        `correspondence.searched`. None if the loss has no such matches.
      number: function of the canvas' (height, width); returns the number n of matches.
      costs: function of (features of the canvas by tap, the canvas' (height, width), and the first two
        arguments of `target`), of which it reads only shapes and types; returns the `MatchingCosts`,
        from which memory and time are estimated. None: only the target's memory is counted.
      turns: the orientations in which each style is measured, as numbers of quarter turns; by default
        only as it is.
      parts: names of the parts of the loss, if these are not the style taps; `distances` then returns
        the losses by these names, and `style_layer_weights` has a weight for each part.
      with_pixels: whether the loss also reads the picture. Then "features by tap" have, before the
        taps, the picture [h, w, 3] under the name `PIXELS`, and `target` and `distances` get a keyword
        `unit`: how many times larger the features of these weights are than those of torchvision's,
        see `correspondence.unit_of`.
    """

    target: Callable[..., dict[str, Any]]
    distances: Callable[..., dict[str, Scalar]]
    matches: Callable[..., Any] | None = None
    number: Callable[[Shape], int] | None = None
    costs: Callable[..., "MatchingCosts"] | None = None
    turns: tuple[int, ...] = (0,)
    parts: tuple[str, ...] = ()
    with_pixels: bool = False

    @property
    def additive(self) -> bool:
        """Always False: the loss is not made of sums over positions; see `StyleLoss.additive`."""
        return False


class MatchingCosts(NamedTuple):
    """What a `MatchingLoss` or a `JointContentLoss` costs beside the network."""

    target_bytes: int
    update_bytes: int = 0  # memory that loss and gradient of one update take
    update_operations: float = 0.0  # additions and multiplications of one update
    measure_bytes: int = 0  # memory while the style is measured, beside the target
    match_bytes: int = 0  # memory while the matches of a scale are found
    match_operations: float = 0.0  # additions and multiplications of finding them


AnyStyleLoss: TypeAlias = StyleLoss | MatchingLoss


class JointContentLoss(NamedTuple):
    """A content loss that reads all content taps together, and whole pictures: no tiles, no bands.

    It can only be used beside a `MatchingLoss` of style. It also reads the pictures themselves: as for
    `MatchingLoss.with_pixels`, features by tap have them under the name `PIXELS`.

    Attributes:
      distance: function of (features of the canvas by tap, those of the content, the (height, width) of
        both, number of the update); returns the loss, a scalar.
      costs: function of (features of the canvas by tap, its (height, width)), of which it reads only
        shapes and types; returns the `MatchingCosts` of an update.
    """

    distance: Callable[..., Scalar]
    costs: Callable[..., "MatchingCosts"]

    @property
    def additive(self) -> bool:
        """Always False: the loss is not made of sums over positions; see `ContentLoss.additive`."""
        return False


AnyContentLoss: TypeAlias = ContentLoss | JointContentLoss


class Variation(NamedTuple):
    """A loss of one picture, without target: sums over its pixels, and the loss made from them.

    Attributes:
      sums: function of (picture [*batch, h, w, 3], mask [h, w] of the pixels to include, or None for
        all); returns a pytree of sums over pixels of functions of dy and dx, the differences to the
        pixels below and to the right. Where the mask is False, dy and dx of that pixel are left out.
      value: function of (these sums, (h, w) of the whole picture, ints or scalar arrays); returns the
        loss, a scalar.
      additive: whether `sums` really are sums over pixels: the sums of two halves of a picture add up
        to those of the whole, if each half also has the nearest line of the other, masked out.
        Computing a picture in tiles, or in bands on several devices, needs that; with False, a picture
        is always computed in one piece.
      sized: whether `sums` takes a third argument, the real (height, width) of a picture at the top
        left of a larger array with zeros around it, and returns the sums of that picture alone.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import TOTAL_VARIATION
      >>> step = jnp.zeros((2, 3, 3)).at[:, 2].set(1.0)     # one edge, 2 pixels high, 3 channels
      >>> float(TOTAL_VARIATION(step))
      6.0
    """

    sums: Callable[..., Any]
    value: Callable[[Any, tuple[Any, Any]], Scalar]
    additive: bool = True
    sized: bool = False

    def __call__(self, image: Image) -> Scalar:
        """Return the variation of a picture [*batch, h, w, 3] in [0, 1]."""
        return self.value(self.sums(image, None), (image.shape[-3], image.shape[-2]))


class Extent(NamedTuple):
    """The sizes of a canvas that a style loss may depend on, and the number of the update.

    The number is traced, a scalar of int32: a loss with random choices makes its random key from it,
    such as by `jax.random.fold_in(key, extent.step)`, and so makes new choices in each update.
    """

    positions: Count  # M, the number of positions of the features
    pixels: Count  # P, the number of pixels of the picture
    step: Int[Array, "*batch"] | int = 0  # number of the update at this scale; 0 at the start


Loss: TypeAlias = ContentLoss | JointContentLoss | StyleLoss | MatchingLoss | Variation
