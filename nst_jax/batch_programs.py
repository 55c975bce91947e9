"""The compiled functions that optimise the canvases of a batch together.

They do for all canvases of a chunk (the pictures that are painted at once) what the functions of
`nst_jax.optimize` do for one. Arrays of the chunk have the pictures as their first axis.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from nst_jax import measuring, optimize
from nst_jax._compile import Jitted
from nst_jax._types import Image, Losses, Params, State, Targets
from nst_jax.batch_numbers import Axes, axes_tree
from nst_jax.measuring import MeasuringPrograms
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding
from nst_jax.scaling.bands import Bands, distribute, with_padding
from nst_jax.scaling.sharding import AnyMesh


class BatchPrograms(NamedTuple):
    """The compiled functions of a batch; the command line replaces some by programs cached on disk.

    `measuring` has the functions that compute what the losses compare the canvases with. `run` is
    `run_many`, which updates the canvases. `match` is `match_many`, which finds, for each position of a
    canvas, the position of the style with the most similar features.
    """

    measuring: MeasuringPrograms
    run: Callable[..., Any]
    match: Callable[..., Any]


def match_many(
    params: Params,
    state: State,
    targets: Targets,
    contents: Image,
    recipe: Recipe,
    *,
    first: bool,
    axes: Axes,
    mesh: AnyMesh | None,
) -> State:
    """Find the match of each position of several canvases: the most similar position of the style.

    `optimize.match` does this for one canvas.

    Args:
      params: the weights, with the additional kernels of `vgg.with_forms`.
      state: the states of all canvases, along a first axis.
      targets: what the losses compare each canvas with, along a first axis.
      contents: the contents at the size of the canvases, [canvases, h, w, 3].
      recipe: the recipe, with its numbers as arrays.
      first: whether this is the coarsest scale (resolution). At the coarsest scale, the features of the
        contents are matched; at later scales, those of mixtures of the canvases and the contents.
      axes: the `vmap` axis of each number of the recipe, from `axes_of`.
      mesh: the devices that share the batch; None: one device, which holds the arrays.

    Returns:
      The states with their matches.
    """
    match = partial(optimize.match, first=first)
    in_axes = (None, 0, 0, 0, axes_tree(axes, recipe))
    mapped = sharding.vmap_over_devices(match, mesh, in_axes)
    return mapped(params, state, targets, contents, recipe)


def run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    *,
    bands: Bands | None = None,
    axes: Axes,
    mesh: AnyMesh | None,
) -> tuple[State, Losses]:
    """Make `steps` steps of several canvases, as `optimize.run` makes them for one canvas.

    A step computes the losses of each canvas, and from these the next canvas.

    Args:
      params: the weights, with the additional kernels of `vgg.with_forms`.
      state: the states of all canvases, along a first axis.
      targets: what the losses compare each canvas with, along a first axis.
      recipe: the recipe, with its numbers (such as loss weights) as arrays.
      steps: number of steps, at most `optimize.CAPACITY`.
      bands: how each canvas is cut into bands, one for each device that shares it; None: each device
        computes whole canvases.
      axes: the `vmap` axis of each number of the recipe, from `axes_of`.
      mesh: the devices that share the batch; None: one device, which holds the arrays.

    Returns:
      The states after the steps; and the losses of each canvas at each step, arrays
      [canvases, CAPACITY], of which the first `steps` columns are filled.
    """
    in_axes = (None, 0, 0, axes_tree(axes, recipe), None)
    run = sharding.vmap_over_devices(partial(optimize.run, bands=bands), mesh, in_axes)
    return run(params, state, targets, recipe, steps)


PROGRAMS = BatchPrograms(
    measuring=measuring.PROGRAMS,
    run=Jitted(run_many, static_argnames=("axes", "mesh"), donate_argnames="state", large=True),
    match=Jitted(match_many, static_argnames=("first", "axes", "mesh")),
)


@partial(Jitted, static_argnames=("axes", "mesh"))
def init_many(
    images: Image, recipe: Recipe, bands: Bands | None, *, axes: Axes, mesh: AnyMesh | None
) -> State:
    """Return the states of canvases that start from images [canvases, h, w, 3]; see `optimize.init`."""
    # Each device makes the states of its own pictures, since one device may not have memory for all.
    init = partial(optimize.init, bands=bands)
    return sharding.vmap_over_devices(init, mesh, (0, axes_tree(axes, recipe)))(images, recipe)


@partial(Jitted, static_argnames=("axes", "mesh"), donate_argnames="state")
def take_over_many(
    state: State,
    opt_state: Any,
    recipe: Recipe,
    bands: Bands | None,
    bands_before: Bands | None,
    *,
    axes: Axes,
    mesh: AnyMesh | None,
) -> State:
    """Return the states with what the optimisers take over from a scale; see `optimize.take_over`."""
    take_over = partial(optimize.take_over, bands=bands, bands_before=bands_before)
    in_axes = (0, 0, axes_tree(axes, recipe))
    return sharding.vmap_over_devices(take_over, mesh, in_axes)(state, opt_state, recipe)


@partial(Jitted, static_argnames=("axes", "clipped"))
def picture_many(
    state: State, recipe: Recipe, bands: Bands | None, *, axes: Axes, clipped: bool
) -> Image:
    """Return canvases as images [canvases, h, w, 3].

    If `clipped`, they are in [0, 1], as from `optimize.picture`, else as from `optimize.canvas_image`.
    """
    take = partial(optimize.picture if clipped else optimize.canvas_image, bands=bands)
    return jax.vmap(take, in_axes=(0, axes_tree(axes, recipe)))(state, recipe)


@Jitted
def chosen_images(whole: Bool[Array, " n"], found: Image, before: Image) -> Image:
    """Return n images after a scale; for pictures that diverged before it, the images before it.

    Args:
      whole: for each picture, False if it diverged at an earlier, coarser scale (resolution).
      found: [n, h, w, 3], the canvases after this scale.
      before: [n, h, w, 3], the images from which this scale started. If `whole` is False, the image in
        `before` is returned, clipped to [0, 1].
    """
    return jnp.where(whole[:, None, None, None], found, jnp.clip(before, 0.0, 1.0))


def distributed(canvases: np.ndarray, bands: Bands | None, mesh: AnyMesh | None) -> Array:
    """Copy canvases [pictures, h, w, 3] from the host to the devices that share the batch.

    With `bands`, several devices share each canvas: it is padded and cut into horizontal bands, one for
    each of these devices.
    """
    if bands is None:
        return distribute(jnp.array(sharding.split(canvases, mesh)), None)
    return _padded_many(sharding.split(canvases, mesh), bands, mesh=mesh)


@partial(Jitted, static_argnames=("mesh",))
def _padded_many(canvases: Array, bands: Bands, mesh: AnyMesh) -> Array:
    pad = partial(with_padding, bands=bands)
    return sharding.vmap_over_devices(pad, mesh, (0,))(canvases)
