"""The classes of losses. Each is a named tuple of the functions that compute a loss.

A tap is a layer whose features a loss reads; a position is one pixel of its feature maps. A
`ContentLoss` or `StyleLoss` reads the features of one tap, and a `Variation` the pixels of the picture.
Most of these losses are computed from sums over the positions or pixels; the field `additive` of a loss
tells whether it is. A `JointContentLoss` or `MatchingLoss` reads all taps together, and compares the
feature vectors of single positions. The canvas is the picture that is optimised.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import lax
from jaxtyping import Array, Bool, Int

from nst_jax import _checks
from nst_jax._types import FeatureMap, Image, Scalar, Shape, Statistic
from nst_jax.losses.sums import Count, PositionMask, masked, positions

Mask: TypeAlias = Bool[Array, "h w"] | None  # True for pixels to include; None includes all pixels

# Key of the picture itself, [h, w, 3], in a dictionary of features by tap (layer); see
# `MatchingLoss.with_pixels`.
PIXELS = "pixels"

# What a loss expects, as words for the messages that refuse random keys.
FEATURES = "features [..., height, width, channels]"


class ContentLoss(NamedTuple):
    """A content loss in two functions: one sums over the feature map, one turns the sum into the loss.

    Attributes:
      sums: function of (features of the canvas, which is the picture that is optimised; features of the
        content), each [*batch, h, w, c]; returns a sum over the h * w positions (pixels of the feature
        map), or a pytree of such sums.
      value: function of (the result of `sums`, the number h * w * c as an int or a scalar array);
        returns the loss, a scalar.
      additive: whether `sums` really returns sums over positions: a position where the features of both
        pictures are 0 adds nothing, and the sums of two halves of a picture add up to those of the
        whole picture. Computing a picture in tiles, or in one horizontal band per device, requires
        this; if False, a picture is always computed in one piece.
    """

    sums: Callable[[FeatureMap, FeatureMap], Any]
    value: Callable[[Any, Count], Scalar]
    additive: bool = True

    def __call__(self, canvas: FeatureMap, content: FeatureMap) -> Scalar:
        """Return the loss for the features [*batch, h, w, c] of two whole pictures."""
        _checks.not_keys("canvas", canvas, FEATURES)
        _checks.not_keys("content", content, FEATURES)
        return self.value(self.sums(canvas, content), positions(canvas) * canvas.shape[-1])


def statistic_itself(statistic: Statistic) -> Statistic:
    """Return a statistic unchanged, as the target: the default of `StyleLoss.target`."""
    return statistic


def weighted_mean(statistics: Sequence[Statistic], weights: Sequence[Any]) -> Statistic:
    """Return the weighted mean of several statistics, with weights that sum to 1.

    This is the default of `StyleLoss.blend`.
    """
    return jax.tree.map(
        lambda *parts: sum(weight * part for weight, part in zip(weights, parts, strict=True)),
        *statistics,
    )


class StyleLoss(NamedTuple):
    """A style loss at one tap (layer), as the functions that compute it.

    `sums` and `statistic` compute the statistic of a picture that the loss compares, such as its Gram
    matrix. `blend` and `target` turn the statistics of the styles into one target. `distance` compares
    the statistic of the canvas with this target.

    Only `sums` and `masked_sums` read the features. So an additive loss is exact even if a picture is
    computed in parts (in tiles, or in one horizontal band per device): the sums of the parts are added
    before `statistic` is called.

    The functions work on arrays of a single picture, without a batch axis; `jax.vmap` adds one.

    Attributes:
      sums: function of (features [h, w, c], precision of matrix products); returns a pytree of sums
        over the h * w positions (pixels of the feature map). Features may be bfloat16; the sums must
        be float32 at least.
      statistic: function of (sums, number of positions); returns the statistic, a pytree. For masked
        features, the number of positions is the sum of T² over the mask T, a scalar array.
      distance: function of (statistic of the canvas, target of the style, `Extent` of the canvas);
        returns the loss, a scalar.
      additive: whether `sums` really returns sums over positions: a position where all features are 0
        adds nothing, and the sums of two halves of a picture add up to those of the whole picture. This
        does not hold for sorted projections, nearest neighbours or histograms that count zeros. If
        False, a picture is always computed in one piece, without tiles and bands.
      target: function of the style's statistic, which for several styles is the result of `blend`;
        returns the target, a pytree, which is stored in `Targets.style`. What depends on the style
        alone is computed here, once for each scale (resolution) and not in every update. The default
        returns the statistic itself. If the target's shape depends on the size of the style, zeros
        appended to the target must not change the loss: the targets of several canvases, or of several
        areas of a canvas, are padded with zeros to one shape and stacked.
      blend: function of (the statistics of several styles, as many weights that sum to 1); returns the
        statistic that stands for all these styles. The default returns the weighted mean, which is
        right for averages over positions, such as the mean and the second moment of features, but not
        for their covariance.
      masked_sums: function of (features [h, w, c], mask T [h, w] in [0, 1], precision of matrix
        products); returns the same sums as `sums`, but with each position weighted by T². If it is
        None, masks with values other than 0 and 1 are refused, and the features are multiplied by the
        mask before `sums`. A loss that is not additive is never used with masks.

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
        """Return the statistic of a whole picture, given its features [h, w, c] at one layer."""
        _checks.not_keys("features", features, FEATURES)
        return self.statistic(self.sums(features, products), positions(features))

    def sums_of_masked(
        self, features: FeatureMap, mask: PositionMask, products: lax.Precision
    ) -> Statistic:
        """Return the sums over the positions of features [h, w, c], each position weighted by T².

        T is the value of `mask` [h, w] at the position. Without `masked_sums`, T is 0 or 1, and the
        features are multiplied by T. A position with T = 0 then has features of 0, which add nothing to
        additive sums. So its weight is T² = 0.
        """
        if self.masked_sums is not None:
            return self.masked_sums(features, mask, products)
        return self.sums(masked(features, mask), products)


class MatchingLoss(NamedTuple):
    """A style loss that compares single feature vectors of canvas and style, and not only statistics.

    The canvas is the picture that is optimised. The loss reads the features of whole pictures, at all
    style taps (layers) together, so it cannot be computed in tiles, or in one horizontal band per
    device. The feature vectors of several styles are put into one set; the weights of the styles cannot
    be chosen.

    Each style is turned into the orientations that `turns` lists, and each turned picture counts as a
    picture of the style. Below, "features by tap" are a dictionary: tap -> features [h, w, c].
    `products` is the precision of matrix products.

    Attributes:
      target: function of (list with the features by tap of each picture of the style, list of these
        pictures' (height, width), products); returns a dictionary, which becomes `Targets.style`.
      distances: function of (features of the canvas by tap, the canvas' (height, width), target,
        matches, number of updates made at this scale, products); returns a dictionary: tap -> its loss,
        a scalar. The number of updates is traced; a loss with random choices makes its random key from
        this number, as in `jax.random.fold_in(key, number)`.
      matches: function of (features by tap of a picture, its (height, width), target, products);
        returns the matches [n]: for each of n vectors of the picture, the index of a vector in the
        target. They are found at the beginning of each scale (resolution), stay fixed during the scale,
        and are stored in `State.matches`. At the coarsest scale, the picture is the content; at each
        finer scale, it is the one that `correspondence.searched` mixes from content and canvas. If
        `matches` is None, `distances` is given None in place of matches.
      number: function of the canvas' (height, width); returns the number n of matches. None where
        `matches` is None.
      costs: function of (features of the canvas by tap, the canvas' (height, width), list with the
        features by tap of each picture of the style, list of these pictures' (height, width)); returns
        the `MatchingCosts`, from which memory and time are estimated. It reads only shapes and types of
        arrays. If None, only the target's memory is counted.
      turns: the orientations in which each style is used, as numbers of quarter turns anticlockwise. By
        default, a style is used only in the orientation in which it is given.
      parts: names of the terms of the loss, if it does not have one term for each style tap. Then
        `distances` returns a dictionary from these names to losses, and the recipe's
        `style_layer_weights` has a weight for each name.
      with_pixels: whether the loss also reads the picture itself. Then the "features by tap" that
        `target`, `distances` and `costs` get (but not those for `matches`) have the picture [h, w, 3]
        as their first entry, under the key `PIXELS`. `target` and `distances` also get a keyword
        argument `units`: for each tap, the number by which its features are to be divided; see
        `correspondence.units_of`.
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
        """False: no sums over feature maps give this loss, so it cannot be computed tile by tile."""
        return False


class MatchingCosts(NamedTuple):
    """The memory and the number of operations that a `MatchingLoss` or a `JointContentLoss` needs.

    Those of the network, which computes the features, are not included: `nst_jax.scaling` adds them.
    """

    target_bytes: int  # memory of the target, which is kept for all updates at one resolution
    update_bytes: int = 0  # memory for the loss and its gradient in one update
    update_operations: float = 0.0  # number of additions and multiplications in one update
    measure_bytes: int = 0  # memory while the target is computed, in addition to `target_bytes`
    match_bytes: int = 0  # memory while `MatchingLoss.matches` runs
    match_operations: float = 0.0  # additions and multiplications in `MatchingLoss.matches`


AnyStyleLoss: TypeAlias = StyleLoss | MatchingLoss


class JointContentLoss(NamedTuple):
    """A content loss that reads all content taps together, and the features of whole pictures.

    So it cannot be computed in tiles, or in one horizontal band per device. It can only be used with a
    style loss that is a `MatchingLoss`, for which the features of the whole canvas are computed as
    well. "Features by tap" are a dictionary: tap (layer) -> features [h, w, c]. Their first entry is
    the picture itself [h, w, 3], under the key `PIXELS`.

    Attributes:
      distance: function of (features by tap of the canvas, which is the picture that is optimised;
        features of the content by tap; the (height, width) that both pictures have; number of the
        update);
        returns the loss, a scalar. The function also gets a keyword argument `units`: for each tap, the
        number by which the features at this tap are to be divided.
      costs: function of (features of the canvas by tap, the canvas' (height, width)); returns the
        `MatchingCosts` of an update. It reads only the shapes and types of the features.
    """

    distance: Callable[..., Scalar]
    costs: Callable[..., "MatchingCosts"]

    @property
    def additive(self) -> bool:
        """False: this loss is not computed from sums over feature maps; see `ContentLoss.additive`."""
        return False


AnyContentLoss: TypeAlias = ContentLoss | JointContentLoss


class Variation(NamedTuple):
    """A loss of one picture without a target: sums over its pixels, and the loss made from these sums.

    Attributes:
      sums: function of (picture [*batch, h, w, 3], mask [h, w] that is True for the pixels to include,
        or None for all pixels); returns a pytree of sums over pixels. Each pixel adds a function of its
        differences to neighbouring pixels, in most losses to the pixel below and to the pixel to the
        right. The differences of a pixel where the mask is False are left out.
      value: function of (the result of `sums`, (h, w) of the whole picture as ints or scalar arrays);
        returns the loss, a scalar.
      additive: whether `sums` really returns sums over pixels, so that the sums of two halves of a
        picture add up to those of the whole picture. (For this, each half also gets the adjacent row or
        column of the other half, where the mask is False.) Computing a picture in tiles, or in
        one horizontal band per device, requires this; if False, a picture is always computed in one
        piece.
      sized: whether `sums` accepts a third argument, int32 [2]: the (height, width) of a picture that
        lies at the top left of a larger array of zeros. The result is then the sums of this picture.

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
        """Return the loss of each picture, [*batch], for pictures [*batch, h, w, 3] in [0, 1]."""
        _checks.not_keys("image", image, "an array [..., height, width, 3]")
        return self.value(self.sums(image, None), (image.shape[-3], image.shape[-2]))


class Extent(NamedTuple):
    """The sizes of the canvas (the picture that is optimised), and the number of the update.

    A style loss may depend on them.

    The number of the update, `step`, is a traced int32 scalar. A loss with random choices makes a
    random key from it, as in `jax.random.fold_in(key, extent.step)`, and so makes new choices in each
    update.
    """

    positions: Count  # height times width of the canvas' feature maps at the loss's layer
    pixels: Count  # the number of pixels of the canvas
    step: Int[Array, "*batch"] | int = 0  # the update's number at this scale (resolution), from 0


Loss: TypeAlias = ContentLoss | JointContentLoss | StyleLoss | MatchingLoss | Variation
