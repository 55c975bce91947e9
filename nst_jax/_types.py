"""The types of the values that functions of this package exchange, and the meaning of each array type.

The image convention of the whole package is defined here: an `Image` is floating point, sRGB-encoded,
nominally in [0, 1], channels last. Network pixels, such as BGR with the mean subtracted, occur only in
`vgg`, in `recipes.starts.SeededBlend`, and in the canvases (pictures being optimised, `State.canvas`)
of recipes that optimise in network pixels. (A recipe is an object with all settings of a style
transfer, see `recipes.Recipe`.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Image: TypeAlias = Float[Array, "*batch h w 3"]  # sRGB in [0, 1]

# A style picture: an `Image` whose size may differ from that of the canvas.
StyleImage: TypeAlias = Float[Array, "*batch h_style w_style 3"]

Resized: TypeAlias = Float[Array, "*batch h_new w_new 3"]  # an Image after a change of size

# The activations of the network at one tap: a place in the network where losses read its features, such
# as the output of a layer.
FeatureMap: TypeAlias = Float[Array, "*batch h w c"]

Features: TypeAlias = dict[str, Array]  # tap name -> FeatureMap

# (height, width) in px of a picture that lies at the top left of a larger array, so that pictures of
# several sizes can share a compiled program; see `nst_jax._real_size`.
RealSize: TypeAlias = Int[Array, "2"]

# A Gram matrix: for each pair of channels, the products of their features, summed or averaged over all
# positions.
Gram: TypeAlias = Float[Array, "*batch c c"]

Scalar: TypeAlias = Float[Array, "*batch"]  # one number; in a batch, one for each picture

Statistic: TypeAlias = Any  # a pytree: what a style loss compares at one layer, e.g. a Gram matrix


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """The weights of a network, and the pixel convention that they were trained on.

    Attributes:
      layers: the arrays of each layer, float32 as loaded. For VGG-19, a dictionary from a layer's name
        (`"conv1_1"` ... `"conv5_4"`) to `{"kernel": [3, 3, in, out], "bias": [out]}`;
        `vgg.with_forms` adds transposed kernels and kernels for Winograd convolution. For
        feed-forward networks, the parameters of one or several Flax modules: nested dictionaries of
        arrays.
      family: where the weights come from, e.g. `"vgg19-caffe"` or `"vgg19-torchvision"`. Static.
      pixels: name of the pixel convention that the network expects, such as `"caffe-bgr"` or
        `"torchvision"`; `nst_jax.vgg.PIXELS` has all names. Static.
    """

    layers: Mapping[str, Any]
    family: str = field(metadata={"static": True})
    pixels: str = field(metadata={"static": True})


# Key in the metadata of a dataclass field that was added to recipes in a later version of this package.
# Picture files and checkpoints contain a description of the recipe, and a run resumes from a checkpoint
# only if its recipe has the same description. A description lists such a field only if its value is not
# the default. So checkpoints of older versions stay usable for recipes that do not use the field.
ADDED_LATER = "added later"


class Guides(NamedTuple):
    """What the losses need for the regions and protected parts of a canvas, by tap (layer they read).

    There are r regions with styles of their own, and the rest of the canvas is one more region, with
    the default style. T is the value of a region's mask at a position of the features, from 0 to 1. In
    the sums from which a style statistic is computed, the position has the weight T²: for a Gram
    matrix, the features are multiplied by T, and so their products by T². See `controls.regions`.
    """

    # Style tap -> [h', w', r + 1], the mask values T of each region; h' and w' are the height and width
    # of the features at the tap. The region with the default style is the first.
    masks: dict[str, Array]
    # Style tap -> [r + 1], for each region the sum of the squared mask values T² over all positions, or
    # 1 for an empty region. The region's sums are divided by this number to get means.
    totals: dict[str, Array]
    # Style tap -> [r + 1], the weight of each region's style loss; 0 for an empty region. The weights
    # at a tap sum to 1.
    shares: dict[str, Array]
    # An additional content loss keeps protected parts (see `controls.Protect`) close to the content.
    # Tap that this loss reads -> [h', w', 1], the square roots of the positions' weights. Features are
    # multiplied by them before the loss squares differences. Empty if there is no such loss.
    held: dict[str, Array]


class KeptContent(NamedTuple):
    """Arrays from which `controls.with_kept` mixes the content into the protected parts of a canvas."""

    content: Float[Array, "*batch h w 3"]
    # The content's share in each pixel: 0 is only canvas, 1 only content. All channels are equal.
    share: Float[Array, "*batch h w 3"]


class Targets(NamedTuple):
    """What the canvas (the picture being optimised) is compared with.

    Targets are computed before the optimisation loop begins, once for each scale (resolution level).
    A tap is a layer of the network whose features a loss reads: content taps are read by the content
    loss, style taps by the style loss.
    """

    content: Features  # content tap -> features of the content picture
    # Name of the style tap, e.g. "relu1_1" -> target of the style loss there, e.g. the style's Gram
    # matrix. For the second style loss that a recipe may have, the names begin with "second_". If
    # `guides` is not None, the targets of all regions are stacked along a first axis; the region with
    # the default style is the first, and may be the only one.
    style: dict[str, Any]
    # The content picture, for losses that read its pixels: None unless the recipe has a
    # `matting_weight` or a `losses.JointContentLoss`.
    photo: Image | None = None
    guides: Guides | None = None  # None if there are no regions, protected or transparent parts
    kept: KeptContent | None = None  # None if no part of the content is protected
    # The real (height, width) of the canvas, if canvas and content lie at the top left of larger
    # arrays; None if they fill their arrays.
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
    # Name of the style tap (layer that the style loss reads) -> its weighted loss. For the second style
    # loss that a recipe may have, the names begin with "second_". For a style loss with named parts
    # (see `losses.MatchingLoss`): name of the part -> its weighted loss.
    style_layers: dict[str, Scalar]
    # The matting energy: how far the picture is from being a locally affine function of the content's
    # colours. None if the recipe has no `matting_weight`.
    matting: Scalar | None = None


class State(NamedTuple):
    """The state of the loop that optimises a picture, the canvas, at one scale (resolution).

    `optimize.init` makes the first state, and `optimize.step` each later one.

    A canvas is pending until its losses are computed. Then it is rejected if they are not finite, or if
    the optimiser undoes the update that made this canvas; otherwise it is accepted. No update made the
    first canvas; a guarded optimiser (see `nst_jax.optimizers`) rejects it also if only the gradient of
    its losses is not finite. A new state has `step == -1`: its first canvas is pending.
    """

    step: Int[Array, "*batch"]  # updates so far at this scale; -1: no losses computed yet
    # The last canvas that was accepted; if none was accepted yet, the first canvas of this scale. Its
    # pixel convention is `recipe.descent.coordinates`.
    canvas: Float[Array, "*batch h w 3"]
    # Losses of `canvas`, NaN in a new state. If `broke_at` is not -1, they are those of a canvas that
    # was rejected because they, or their gradient, were not finite.
    losses: Losses
    pending: Float[Array, "*batch h w 3"]  # the canvas whose losses are computed next
    opt_state: Any  # state of the optimiser's optax transformation
    # Number of updates at this scale after which the losses, or their gradient, were not finite, and
    # the loop could not go back to an earlier canvas. 0 stands for the first canvas; -1 if this has not
    # happened.
    broke_at: Int[Array, "*batch"]
    # The average of all canvases that were accepted at this scale, in which later canvases have more
    # weight; None if `recipe.descent.average_decay` is None.
    average: Float[Array, "*batch h w 3"] | None = None
    # For style losses that find matches only once for each scale (see `losses.MatchingLoss`): for each
    # of n positions of the canvas, the index of the position of the style that the loss compares with
    # it. None for all other style losses.
    matches: Int[Array, "*batch n"] | None = None


class Snapshot(NamedTuple):
    """What `paint` yields before the first update and after every interval of updates.

    The arrays stay valid while the run goes on: none of their buffers is donated to later updates.
    """

    step: int  # updates so far, over all scales
    # The canvas as an image [h, w, 3], clipped to [0, 1], with colours and edges changed as the recipe
    # says. If `recipe.descent.average_decay` is set, it is the average of the canvases at this scale.
    image: Image
    # Scalar losses of the canvas itself, even if `image` is an average. If `broke_at` is not -1, they
    # belong to a canvas that was rejected because they, or their gradient, were not finite.
    losses: Losses
    # The losses of each of the n canvases since the previous snapshot: arrays [n]. A run has one canvas
    # before the first update, and one after each update.
    history: Losses
    scale: int  # index of the scale (resolution); 0 is the coarsest
    # Number of the update, counted over all scales, after which the losses, or their gradient, were not
    # finite, so that the run ended; 0 for the first canvas, before any update. -1 if there is none.
    broke_at: int


class Checkpoint(NamedTuple):
    """How far a run has come, as plain data from which `paint` resumes. See `checkpoints`."""

    step: int  # updates so far, over all scales
    scale: int  # index of the scale (resolution) of the canvas; 0 is the coarsest
    arrays: Mapping[str, Any]  # name -> leaf of the run's `State`; see `checkpoints.named_leaves`
    history: Losses  # losses of the first canvas and after each update, arrays [step + 1]
    # The settings of the recipe and the hashes of all inputs, by name; see `provenance.of_identity`.
    facts: Mapping[str, Any]
    # For each scale, the sizes of the pictures and the number of updates; `provenance.of_scales` gives
    # the keys. Even if the canvas lies in a bucket (an array that is larger than the picture), these
    # are the sizes of the pictures; `facts["bucket"]` then has the sizes of the canvas' arrays.
    scales: Sequence[Mapping[str, Any]]
    device: Mapping[str, str]  # "platform" and "kind" of the device of the run
    # JSON values by name, added by whoever saves the checkpoint; `paint` ignores them. The command line
    # and the web page add "seconds": for the initial picture and after each update, the seconds since
    # painting began.
    notes: Mapping[str, Any] = {}


__all__ = [
    "ADDED_LATER",
    "Array", "Bool", "Float", "Int",
    "Checkpoint", "FeatureMap", "Features", "Gram", "Guides", "Image", "KeptContent", "Losses",
    "Params", "RealSize", "Resized", "Scalar", "Snapshot", "State", "Statistic", "StyleImage",
    "Targets",
]  # fmt: skip


Shape = tuple[int, int]  # (height, width), in px for pictures

AnyImage: TypeAlias = Float[Array | np.ndarray, "*batch h w 3"]  # an Image, on a device or the host

HostImage: TypeAlias = Float[np.ndarray, "h w 3"]  # one Image on the host


def sum_dtype(dtype: Any) -> Any:
    """Return the dtype for sums of numbers of a dtype: float64 for float64, float32 for any other.

    Sums of many bfloat16 numbers in bfloat16 would be inaccurate. `jnp.promote_types` is not used: with
    JAX's setting `jax_numpy_dtype_promotion="strict"`, it refuses two types that differ.
    """
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
