"""Pure functions of a training: its state, one update, and the losses of photos held out.

The network paints a crop, and the recipe's loss of the result is computed as for a canvas, by
`objective.losses_of`: with the crop as the content and the painting as the style.
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

Crops = UInt8[Array, "n h w 3"]

StyleTargets = Any  # style tap -> targets of the style loss for all paintings, arrays [styles, ...]


class TrainingState(NamedTuple):
    """The state of a training."""

    step: Int[Array, ""]  # updates so far
    network: LayerParams  # its parameters, float32 whatever the precision of its computations
    opt_state: Any  # state of Adam


def init_training(network: LayerParams, optimizer: Adam) -> TrainingState:
    """Return the state of a training before its first update.

    Args:
      network: the network's parameters, from `fresh_params`.
      optimizer: Adam with its learning rate and other numbers.
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
    """Update the network once, by the mean loss of a batch of crops.

    Each crop is painted in the style after that of the previous crop, so that over a few batches all
    styles are painted equally often. With a mesh, each device computes the loss and the gradient of its
    own crops; the devices communicate only to average them.

    Args:
      params: weights of VGG-19.
      state: from `init_training` or an earlier update.
      crops: [n, h, w, 3] in 0..255; n is a multiple of the number of devices.
      style_targets: targets of the style loss for the paintings, by tap, each array [styles, ...].
      recipe: losses, loss weights and network settings; its precision is also that of the network that
        is trained, whose parameters stay float32.
      optimizer: Adam with its learning rate and other numbers.
      mesh: the devices over which the crops are distributed; None is one device.

    Returns:
      The next state, and the batch's mean `Losses` before the update.
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
    """Return `_losses_and_gradient` as a function of a batch that is distributed over the devices."""

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
    """Return the mean losses of one device's crops, and the gradient of their total.

    Args:
      params: weights of VGG-19.
      network: parameters of the network.
      crops: the device's crops, [n, h, w, 3] in 0..255.
      style_targets: targets of the style loss for the paintings, by tap, each array [styles, ...].
      recipe: losses, loss weights, network settings and precision.
      first: index of the style of the batch's first crop, plus any multiple of the number of styles.
      step: number of updates before this one.
      device: index of the device among those that share the batch.
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
    """Return the losses, arrays [n], of the pictures that a network paints of n crops in given styles.

    Args:
      params: weights of VGG-19.
      network: parameters of the network.
      crops: [n, h, w, 3] in 0..255.
      styles: for each crop, the index of the style in which it is painted.
      style_targets: targets of the style loss for the paintings, by tap, each array [styles, ...].
      recipe: losses, loss weights, network settings and precision.
      step: number of updates so far, for style losses that make random choices in each update.
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
    """Return the number of styles."""
    return int(jax.tree.leaves(style_targets)[0].shape[0])


def check_batch(batch: int, mesh: AnyMesh | None) -> None:
    """Refuse a number of crops that cannot be divided evenly among devices.

    Raises:
      ValueError: if it cannot be divided; the message names the next larger number that can.
    """
    devices = pictures_in_parallel(mesh)
    if batch % devices:
        raise ValueError(
            f"`batch`: {batch} crops cannot be divided among {devices} devices; take "
            f"{-(-batch // devices) * devices}"
        )
