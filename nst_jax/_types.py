"""The records that functions of this package exchange, and the meaning of each array type.

The image convention is stated here and nowhere else: an `Image` is floating point, sRGB-encoded,
nominally in [0, 1], channels last. Network pixels, such as BGR with the mean subtracted, occur only in
`vgg`, in the canvases (pictures being optimised, `State.canvas`) of recipes that optimise in network
pixels, and in `recipes.starts.SeededBlend`, which makes the first canvas of such a recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Image: TypeAlias = Float[Array, "*batch h w 3"]  # sRGB in [0, 1]

StyleImage: TypeAlias = Float[
    Array, "*batch h_style w_style 3"
]  # an Image whose size may differ from that of the canvas

Resized: TypeAlias = Float[Array, "*batch h_new w_new 3"]  # an Image after a change of size

FeatureMap: TypeAlias = Float[Array, "*batch h w c"]  # network activations at one tap (layer)

Features: TypeAlias = dict[str, Array]  # tap name -> FeatureMap

# (height, width) in px of a picture at the top left of a larger array; see `nst_jax._real_size`.
RealSize: TypeAlias = Int[Array, "2"]

Gram: TypeAlias = Float[Array, "*batch c c"]

Scalar: TypeAlias = Float[Array, "*batch"]

Statistic: TypeAlias = Any  # a pytree: what a style loss compares at one tap, e.g. a Gram matrix


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """The weights of a network, and the pixel convention that they were trained on.

    Attributes:
      layers: the arrays of each layer, float32 as loaded. For VGG-19, a dictionary from a layer's name
        (`"conv1_1"` ... `"conv5_4"`) to `{"kernel": [3, 3, in, out], "bias": [out]}`;
        `vgg.with_forms` adds transposed kernels and kernels for Winograd convolution. For
        feed-forward networks, the parameters of a Flax module: nested dictionaries of arrays.
      family: where the weights come from, e.g. `"vgg19-caffe"` or `"vgg19-torchvision"`. Static.
      pixels: name of the pixel convention that the network expects, such as `"caffe-bgr"` or
        `"torchvision"`; `nst_jax.vgg.PIXELS` has all names. Static.
    """

    layers: Mapping[str, Any]
    family: str = field(metadata={"static": True})
    pixels: str = field(metadata={"static": True})


# Key in the metadata of a recipe's field that was added after runs had been recorded. While such a
# field has its default value, it is left out of the records in pictures and checkpoints, so that the
# records of runs that do not use it stay as they were.
ADDED_LATER = "added later"


class Guides(NamedTuple):
    """The masks of a canvas at the taps, for regions with styles of their own; see `controls.regions`.

    There are r + 1 regions: that of the default style, and r others. T is the value of a region's mask
    at a position; in the sums of a style statistic, the position counts T² times.
    """

    masks: dict[str, Array]  # style tap -> [h', w', r + 1], T of each region
    totals: dict[
        str, Array
    ]  # style tap -> [r + 1], sum of T² over positions; 1 for an empty region
    shares: dict[
        str, Array
    ]  # style tap -> [r + 1], weights of the regions' style losses, of sum 1; 0 for an empty region
    # Tap -> [h', w', 1], square root of the weight of each position in the content loss that holds
    # protected parts near the content. Empty if nothing is protected.
    held: dict[str, Array]


class KeptContent(NamedTuple):
    """The content of a canvas, and how much of it each pixel keeps; see `controls.with_kept`."""

    content: Float[Array, "*batch h w 3"]
    share: Float[Array, "*batch h w 3"]  # 0 to 1, the same in all channels


class Targets(NamedTuple):
    """What the canvas is compared with, computed before the loop, once per scale (resolution level)."""

    content: Features  # content tap -> features of the content picture
    # Style tap -> target of the style loss, e.g. the style's Gram matrix. With `guides`, the targets of
    # all regions are stacked along a first axis.
    style: dict[str, Any]
    # The content picture, if the recipe has a `matting_weight` or a `losses.JointContentLoss`.
    photo: Image | None = None
    guides: Guides | None = None  # None if nothing is masked
    kept: KeptContent | None = None  # None if nothing is protected
    # The real size of the canvas, if canvas and content lie in a larger array; None: they fill it.
    size: RealSize | None = None


class Losses(NamedTuple):
    """The weighted losses of a canvas; `total` is what the optimiser minimises.

    `total` is the sum of `content`, `style`, `tv` (total variation) and `matting`; `style` is the sum
    of `style_layers`.
    """

    total: Scalar
    content: Scalar
    style: Scalar
    tv: Scalar
    # Style tap, or part of a style loss that has parts -> its weighted loss.
    style_layers: dict[str, Scalar]
    matting: Scalar | None = None  # None if the recipe has no `matting_weight`


class State(NamedTuple):
    """The state of the optimisation loop. Made by `optimize.init`, advanced by `optimize.step`.

    A new state has `step == -1`: its first canvas is pending, and no losses are computed yet. A pending
    canvas is kept if its losses are finite and the optimiser accepts it.
    """

    step: Int[Array, "*batch"]  # updates so far at this scale; -1: no losses computed yet
    # The last canvas that was kept, or the start; its pixel convention is `recipe.descent.coordinates`.
    canvas: Float[Array, "*batch h w 3"]
    # Losses of `canvas`. If `broke_at` is not -1, they are those of a rejected canvas, and not finite.
    losses: Losses
    pending: Float[Array, "*batch h w 3"]  # the canvas whose losses are computed next
    opt_state: Any  # state of the optimiser's optax transformation
    # Number of the update, counted at this scale, whose losses were not finite; -1 if there is none.
    broke_at: Int[Array, "*batch"]
    # The average of all canvases kept at this scale, weighted more the later they are; None if
    # `recipe.descent.average_decay` is None.
    average: Float[Array, "*batch h w 3"] | None = None
    # For each position of the canvas the index of its match in the style, if the style loss finds
    # matches once for each scale (see `losses.MatchingLoss`); None for all other style losses.
    matches: Int[Array, "*batch n"] | None = None


class Snapshot(NamedTuple):
    """What `paint` yields after every interval of updates. Its arrays stay valid: none is donated."""

    step: int  # updates so far, over all scales
    # The canvas as an image [h, w, 3], clipped to [0, 1], or the average of the canvases at this scale
    # if `recipe.descent.average_decay` is set.
    image: Image
    # Scalar losses of the canvas, never of an average; if `broke_at` is not -1: not finite, of a
    # rejected canvas.
    losses: Losses
    history: Losses  # losses of the n canvases since the previous snapshot: arrays [n]
    scale: int  # index of the scale; 0 is the coarsest
    broke_at: int  # number of the update, over all scales, whose losses were not finite, or -1


class Checkpoint(NamedTuple):
    """A run's position and state as plain data, from which `paint` resumes. See `checkpoints`."""

    step: int  # updates so far, over all scales
    scale: int  # index of the scale of the canvas; 0 is the coarsest
    arrays: Mapping[str, Any]  # the leaves of the run's `State` by name
    history: Losses  # losses of all canvases so far, arrays [step + 1]
    facts: Mapping[str, Any]  # what the run depends on, see `provenance.of_identity`
    scales: Sequence[Mapping[str, Any]]  # all scales of the run, see `provenance.of_scales`
    device: Mapping[str, str]  # the device of the run, see `provenance.device`
    notes: Mapping[str, Any] = {}  # JSON values that the caller adds


__all__ = [
    "ADDED_LATER",
    "Array", "Bool", "Float", "Int",
    "Checkpoint", "FeatureMap", "Features", "Gram", "Guides", "Image", "KeptContent", "Losses",
    "Params", "RealSize", "Resized", "Scalar", "Snapshot", "State", "Statistic", "StyleImage",
    "Targets",
]  # fmt: skip


Shape = tuple[int, int]  # height, width

AnyImage: TypeAlias = Float[Array | np.ndarray, "*batch h w 3"]  # an Image, on a device or the host

HostImage: TypeAlias = Float[np.ndarray, "h w 3"]  # one Image on the host
