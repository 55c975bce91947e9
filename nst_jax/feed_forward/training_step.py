"""The pure functions of a training: its first state, one update, and the losses of painted crops.

A crop is a square part of a photo. The network that is trained paints the crop in the style of a
painting. Then `objective.losses_of` computes the recipe's losses of the result, as it does for the
canvas of a style transfer by optimisation; the crop is the content, and the painting is the style.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, UInt8

from nst_jax._types import Losses, Params, Targets
from nst_jax.feed_forward.johnson import LayerParams, stylize_trained
from nst_jax.objective import losses_of
from nst_jax.optimizers.rules import Adam
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.sharding import PICTURES, AnyMesh, pictures_in_parallel, shard_map
from nst_jax.targets import measure_content

Crops = UInt8[Array, "n h w 3"]  # square parts of photos, sRGB in 0..255

# Style tap (a layer whose features the style loss reads) -> what the loss compares these features with,
# such as Gram matrices: a pytree of arrays [styles, ...] with one entry for each style.
StyleTargets = Any


class TrainingState(NamedTuple):
    """The state of a training, which each update changes."""

    step: Int[Array, ""]  # number of updates so far
    # Parameters of the network that is trained; float32, even if activations have fewer bits.
    network: LayerParams
    opt_state: Any  # state of Adam's optax transformation


def init_training(network: LayerParams, optimizer: Adam) -> TrainingState:
    """Return the state of a training before its first update.

    Args:
      network: parameters of the network that is trained, from `johnson.fresh_params`.
      optimizer: the update rule, with its learning rate and other numbers.
    """
    opt_state = optimizer.transformation().init(network)
    return TrainingState(jnp.zeros((), jnp.int32), network, opt_state)


def train_step(
    params: Params,
    state: TrainingState,
    crops: Crops,
    style_targets: StyleTargets,
    recipe: Recipe,
    optimizer: Adam,
    *,
    mesh: AnyMesh | None = None,
) -> tuple[TrainingState, Losses]:
    """Make one update of a training: one step of Adam, which reduces the mean loss of a batch of crops.

    Each crop is painted in one style, and the styles take turns from crop to crop. The next batch
    begins with the next style, so over many batches all styles are painted equally often. If several
    devices share a batch, each computes the losses and the gradient for its own crops; the devices
    communicate only to average the losses and the gradients.

    Args:
      params: weights of VGG-19.
      state: the state from `init_training` or an earlier update.
      crops: the batch, [n, h, w, 3] in 0..255; n is a multiple of the number of devices.
      style_targets: style tap (layer) -> what the loss compares the features at this layer with:
        arrays [styles, ...] with one entry for each style.
      recipe: losses, loss weights and settings of VGG-19. Its precision is used for the network that is
        trained, too, but the trained parameters are always float32.
      optimizer: the update rule, with its learning rate and other numbers.
      mesh: the devices over which the crops are distributed; None means one device.

    Returns:
      The next state; and the mean `Losses` of the batch, painted by the network before the update.
    """
    first = state.step * (crops.shape[0] % _count(style_targets))
    arguments = (params, state.network, crops, style_targets, recipe, first, state.step)
    losses, gradient = (
        _losses_and_gradient(*arguments) if mesh is None else _on_all(mesh)(*arguments)
    )
    updates, opt_state = optimizer.transformation().update(
        gradient, state.opt_state, state.network, value=losses.total
    )
    network = optax.apply_updates(state.network, updates)
    return TrainingState(state.step + 1, network, opt_state), losses


def _on_all(mesh: AnyMesh) -> Callable[..., tuple[Losses, LayerParams]]:
    """Return a variant of `_losses_and_gradient` for a batch that is distributed over several devices.

    The losses and the gradient that it returns are the means over all devices of `mesh`.
    """

    def on_device(*arguments: Any) -> Any:
        found = _losses_and_gradient(*arguments, device=lax.axis_index(PICTURES))
        return jax.tree.map(lambda x: lax.pmean(x, PICTURES), found)

    specs = (P(), P(), P(PICTURES), P(), P(), P(), P())
    return shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=P())


def _losses_and_gradient(
    params: Params,
    network: LayerParams,
    crops: Crops,
    style_targets: StyleTargets,
    recipe: Recipe,
    first: Int[Array, ""],
    step: Int[Array, ""],
    *,
    device: Any = 0,
) -> tuple[Losses, LayerParams]:
    """Return the mean losses of one device's crops, and the gradient of their total loss.

    The gradient is that with respect to the parameters of the network that is trained.

    Args:
      params: weights of VGG-19.
      network: parameters of the network that is trained.
      crops: the device's crops, [n, h, w, 3] in 0..255.
      style_targets: style tap (layer) -> what the loss compares the features at this layer with:
        arrays [styles, ...] with one entry for each style.
      recipe: losses, loss weights, settings of VGG-19, and precision.
      first: index of the style in which the first crop of the whole batch is painted. It may be larger
        than the number of styles: the remainder of the division by this number is used.
      step: number of updates before this one.
      device: index of the device among those that share the batch, from 0.
    """
    own = crops.shape[0]
    styles = (first + device * own + jnp.arange(own)) % _count(style_targets)

    def mean_losses(network: LayerParams) -> tuple[Array, Losses]:
        found = crop_losses(params, network, crops, styles, style_targets, recipe, step=step)
        means = jax.tree.map(jnp.mean, found)
        return means.total, means

    (_, losses), gradient = jax.value_and_grad(mean_losses, has_aux=True)(network)
    return losses, gradient


def crop_losses(
    params: Params,
    network: LayerParams,
    crops: Crops,
    styles: Int[Array, " n"],
    style_targets: StyleTargets,
    recipe: Recipe,
    *,
    step: Int[Array, ""] | int = 0,
) -> Losses:
    """Paint crops with a network, and return the recipe's losses of the results.

    Args:
      params: weights of VGG-19.
      network: parameters of the network that paints.
      crops: the crops, [n, h, w, 3] in 0..255.
      styles: for each crop, the index of the style in which it is painted.
      style_targets: style tap (layer) -> what the loss compares the features at this layer with:
        arrays [styles, ...] with one entry for each style.
      recipe: losses, loss weights, settings of VGG-19, and precision.
      step: number of updates so far. Style losses that make random choices use it, to make other
        choices in each update.

    Returns:
      The `Losses` of each painted crop, as arrays [n].
    """
    contents = crops.astype(jnp.float32) / 255
    shares = jax.nn.one_hot(styles, _count(style_targets))
    precision = recipe.network.precision_on()
    painted = stylize_trained(network, contents, shares, precision=precision)
    wanted = jax.tree.map(lambda leaf: leaf[styles], style_targets)

    def losses(content: Array, image: Array, style: Any) -> Losses:
        targets = Targets(measure_content(params, content, recipe), style)
        return losses_of(params, image, targets, recipe, step=step)

    return jax.vmap(losses)(contents, painted, wanted)


def _count(style_targets: StyleTargets) -> int:
    """Return the number of styles for which there are targets."""
    return int(jax.tree.leaves(style_targets)[0].shape[0])


def check_batch(batch: int, mesh: AnyMesh | None) -> None:
    """Raise an error if the crops of an update cannot be divided evenly among devices.

    Args:
      batch: number of crops in an update.
      mesh: the devices that share the crops; None means one device.

    Raises:
      ValueError: if `batch` is not a multiple of the number of devices; the message names the next
        larger multiple.
    """
    devices = pictures_in_parallel(mesh)
    if batch % devices:
        raise ValueError(
            f"`batch`: {batch} crops cannot be divided among {devices} devices; take "
            f"{-(-batch // devices) * devices}"
        )
