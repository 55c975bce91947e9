"""Memory of the arrays that are stored during all updates of a run: weights, state and targets."""

import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import losses
from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.terms import StylePart
from nst_jax.scaling import loss_costs
from nst_jax.scaling.array_bytes import (
    FLOAT32_BYTES,
    bytes_of_picture,
    bytes_per_activation,
    size_in_bytes,
)
from nst_jax.scaling.layer_table import Blocks, features_at, held_taps, matching_costs
from nst_jax.vgg import winograd


def bytes_of_weights(blocks: Blocks, recipe: Recipe, on_cpu: bool) -> int:
    """Return the bytes of the weights: biases, kernels, and the transposed kernels for the gradient.

    On a CPU, layers with Winograd convolution also have both kernels transformed for it.
    """
    total, each = 0, bytes_per_activation(recipe)
    for layer in (layer for block in blocks for layer in block):
        kernel = layer.channels_in * layer.channels
        total += 2 * 9 * kernel * each + layer.channels * each  # kernel, its transpose, bias
        if on_cpu and layer.winograd:
            total += 2 * winograd.WINDOW**2 * kernel * each
    return total


def bytes_of_state(shape: Shape, recipe: Recipe, tiled: bool) -> int:
    """Return the bytes of the optimisation's `State`, and of what an update needs besides.

    If `tiled` is False, the losses are computed for the whole canvas at once, and every array of the
    canvas' shape exists twice while an update replaces it. If `tiled` is True, they are computed tile
    by tile: the gradient of the whole canvas is complete before the arrays are replaced one after the
    other. So besides the state, only two arrays of that shape exist at a time: the gradient, and the
    copy of the array that is being replaced. The arrays with the history of L-BFGS are updated in
    place.
    """
    canvas = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    # If a number of the optimiser, such as its learning rate, differs between the pictures of a batch,
    # it is an array with a value for each picture. The first value is used, as all values give the same
    # shapes.
    descent = jax.tree.map(lambda n: np.ravel(n)[0] if np.ndim(n) else n, recipe.descent)
    memory = jax.eval_shape(descent.transformation().init, canvas)
    averages = [canvas] * (descent.average_decay is not None)
    # The state has the last canvas that was accepted, the canvas whose losses are computed next, an
    # average of canvases if the recipe has an `average_decay`, and the state of the optimiser.
    leaves = [canvas, canvas, *averages, *jax.tree.leaves(memory)]
    # An update needs a second copy of every array [h, w, 3]: those of the canvas' shape, and the
    # levels of a Laplacian pyramid, if the optimiser updates these instead of pixels. With tiles, only
    # two such arrays are needed besides the state: the gradient and one copy.
    copies = [leaf for leaf in leaves if len(leaf.shape) == 3 and leaf.shape[-1] == 3]
    if tiled:
        copies = copies[:2]
    return size_in_bytes((*leaves, *copies))


def bytes_of_targets(
    shape: Shape, styles: Sequence[Shape], recipe: Recipe, regions: int, protected: bool
) -> int:
    """Return the bytes of all targets: the content's features, the style losses' targets, and masks.

    If the size of a target depends on the size of the style, all blended styles (one for each of the
    `style_shares`) are counted with the largest size. Each region has style targets of its own. If
    there are several regions or a protected part, each region also has a mask at every style tap.

    A protected part adds two arrays of the canvas' shape: the content picture, and how much of it each
    pixel keeps. If the recipe's content loss can be limited to a part, a second content loss at one tap
    (layer) compares the protected part. Its targets are a weight for each position, and the content's
    features at this tap, which are counted once even if the first content loss reads them, too.

    Args:
      shape: (height, width) of the canvas, or of the rows of it that one device computes.
      styles: (height, width) of each style.
      recipe: the recipe.
      regions: number of regions with styles of their own, plus one for the region of the default style.
      protected: whether a part of the canvas is protected: it stays as in the content.
    """
    terms, held = recipe.terms, held_taps(recipe, protected)
    largest = max(styles, key=math.prod)

    def target(part: StylePart) -> int:
        features = features_at(part.tap, largest, recipe)
        return loss_costs.target_bytes(part.loss, features, styles=len(terms.style_shares))

    taps = dict.fromkeys((*terms.content_taps, *held))
    found = size_in_bytes([features_at(tap, shape, recipe) for tap in taps])
    found += regions * sum(map(target, terms.style_parts))
    if regions > 1 or protected:
        found += FLOAT32_BYTES * regions * _positions(terms.every_style_tap, shape, recipe)
    if protected:
        found += FLOAT32_BYTES * _positions(held, shape, recipe) + 2 * bytes_of_picture(shape)
    if isinstance(terms.style_loss, losses.MatchingLoss):
        found += matching_costs(shape, styles, recipe).target_bytes
    if isinstance(terms.content_loss, losses.JointContentLoss):
        found += bytes_of_picture(shape)  # the content picture, which `Targets.photo` keeps
    return found


def _positions(taps: Iterable[str], shape: Shape, recipe: Recipe) -> int:
    """Return the number of positions of the features at several taps, added up.

    `shape` is the (height, width) of the picture.
    """
    return sum(math.prod(features_at(tap, shape, recipe).shape[:2]) for tap in taps)


def bytes_of_widened_targets(styles: Sequence[Shape], recipe: Recipe) -> int:
    """Return the bytes of the float32 copies that a CPU makes of targets in 16-bit floats.

    These are targets of style losses that are no sums over positions: the features of the styles. XLA
    makes the copies before the first update, and keeps them, since all updates need them.
    """
    terms, largest = recipe.terms, max(styles, key=math.prod)
    targets = [
        loss_costs.target(
            part.loss, features_at(part.tap, largest, recipe), styles=len(terms.style_shares)
        )
        for part in terms.style_parts
        if not part.loss.additive and bytes_per_activation(recipe) < FLOAT32_BYTES
    ]
    narrow = (leaf for leaf in jax.tree.leaves(targets) if leaf.dtype.itemsize < FLOAT32_BYTES)
    return sum(leaf.size * FLOAT32_BYTES for leaf in narrow)
