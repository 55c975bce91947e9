"""VGG-19's features, and one update of the optimiser with what it needs, as models to export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from nst_jax import optimize, provenance, targets
from nst_jax._types import Params, State, Targets
from nst_jax.checkpoints import named_leaves
from nst_jax.export.models import (
    SIDES,
    STYLE_SIDES,
    Model,
    Program,
    Sizes,
    Specs,
    Weights,
    named_weights,
    of_weights,
    picture_of,
    with_weights,
)
from nst_jax.optimizers.pyramid import NARROWEST
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg import network as vgg
from nst_jax.vgg.layers import reflect_padded
from nst_jax.vgg.network import Network
from nst_jax.vgg.precision import FLOAT32, Auto
from nst_jax.vgg.taps import LAYERS, SMALLEST, halvings, layer_of, resolve_taps
from nst_jax.weights.params import WeightsInfo, read_info


def features_model(
    params: Params,
    *,
    taps: Sequence[str] | None = None,
    network: Network | None = None,
    info: WeightsInfo | None = None,
) -> Model:
    """Describe VGG-19 down to some taps (layers whose output is read), for `save`.

    It has one program, `features(weights, images)`, which returns the activations by tap.

    Args:
      params: weights from `nst_jax.load_params`.
      taps: names such as `"relu4_2"`; None means those that the recipe `default` reads.
      network: pooling, padding, pixel convention and precision, as in `nst_jax.features`; a precision
        of `AUTO` becomes float32, as the file may run on any platform.
      info: description of the weights file; None describes the one that `load_params()` reads.

    Returns:
      A `Model`.

    Raises:
      TypeError: if `taps` is a string.
      ValueError: for unknown or repeated taps, and for none.

    Example:
      >>> import nst_jax as nst
      >>> model = features_model(nst.load_params(), taps=["relu1_1", "relu1_2"])
      >>> list(model.weights)
      ['conv1_1/bias', 'conv1_1/kernel', 'conv1_2/bias', 'conv1_2/kernel']
    """
    names = resolve_taps(DEFAULT.terms.taps if taps is None else taps)
    network = _decided(Network() if network is None else network)

    def call(weights: Weights, images: Any) -> Specs:
        return vgg.features(with_weights(params, weights), images, names, network=network)

    program = Program(
        call=call,
        inputs=lambda sizes: {"images": picture_of(SIDES, sizes)},
        # Each pooling needs two rows and columns to work on.
        smallest=max(SMALLEST, 2 ** max(halvings(layer_of(name)) for name in names)),
        smallest_of_any=_smallest_of_any(names, network),
        about={
            "images": "a picture, sRGB in [0, 1]",
            **{name: f"activations at {name}" for name in names},
        },
    )
    return Model(
        name="features",
        summary="activations of VGG-19 at some layers",
        programs={"features": program},
        weights=_weights_down_to(params, names),
        facts={"weights": of_weights(info or read_info())},
    )


def _decided(network: Network) -> Network:
    """Return the network, with float32 in place of `AUTO`, since a file may run on any platform."""
    auto = isinstance(network.precision, Auto)
    return replace(network, precision=FLOAT32) if auto else network


def _smallest_of_any(taps: Sequence[str], network: Network) -> int:
    """Return the shortest side of a picture in px for which a program of symbolic sides is traced.

    Borders can be mirrored where a layer's input has 2 px or more on each side, and repeated where it
    has 1. Which of the two a program does is decided while it is traced.
    """
    deepest = max(halvings(layer_of(tap)) for tap in taps)
    return max(SMALLEST, (2 if network.padding is reflect_padded else 1) << deepest)


def _weights_down_to(params: Params, taps: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the kernels and biases of the layers down to the deepest tap."""
    order = list(LAYERS)
    deepest = max(order.index(layer_of(tap)) for tap in taps)
    plain = {
        layer: {name: params.layers[layer][name] for name in ("bias", "kernel")}
        for layer in order[: deepest + 1]
    }
    return named_weights(plain)


# --- One update of the optimiser ------------------------------------------------------------------


def step_model(
    params: Params, recipe: Recipe = DEFAULT, *, info: WeightsInfo | None = None
) -> Model:
    """Describe one update of an optimiser, and what else a run at a single scale needs, for `save`.

    Its programs are those of `nst_jax`, over dictionaries of arrays by name:

        targets = measure(weights, content, style)
        state = init(weights, image)
        state = step(weights, state, targets)      # as often as wanted
        image = picture(weights, state)

    A new state has not been measured: the first update computes the losses of the start.

    Args:
      params: weights from `nst_jax.load_params`.
      recipe: losses, their weights, network and optimiser. A precision of `AUTO` becomes float32. The
        recipe's sizes, colours, realism and number of updates are not used.
      info: description of the weights file; None describes the one that `load_params()` reads.

    Returns:
      A `Model`.

    Raises:
      ValueError: for a recipe whose style loss compares positions, or that has a `matting_weight`.

    Example:
      >>> import nst_jax as nst
      >>> model = step_model(nst.load_params(), nst.recipes.TF)
      >>> list(model.programs)
      ['step', 'measure', 'init', 'picture']
    """
    if recipe.terms.matched:
        raise ValueError(
            f"`recipe`: {recipe.name!r} seeks nearest neighbours in the style, for which there is no "
            "exported program; choose a recipe with another style loss"
        )
    if recipe.terms.matting_weight is not None:
        raise ValueError(
            "`recipe`: its `terms.matting_weight` needs the photo's pixels, which an exported update "
            "does not take; leave it out"
        )
    recipe = replace(recipe, network=_decided(recipe.network))
    run = _Run(params, recipe)
    # A program of symbolic sides is traced for pictures so large that pyramids have all their levels.
    # In the pyramid of L-BFGS, every level that is halved then has sides of `NARROWEST` px or more; in
    # the pyramid whose levels the optimiser updates in place of pixels, every level has 1 px or more.
    levels = getattr(recipe.descent.optimizer, "levels", 0)
    smallest = max(SMALLEST, 1 << recipe.descent.pyramid_levels)
    measured = _smallest_of_any(recipe.terms.taps, recipe.network)
    program = partial(Program, about=_ABOUT_STEP)
    programs = {
        "step": program(
            call=run.step,
            inputs=run.step_inputs,
            smallest_of_any=max(smallest, measured, NARROWEST << max(levels - 1, 0)),
        ),
        "measure": program(
            call=run.measure,
            inputs=run.measure_inputs,
            sides=(*SIDES, *STYLE_SIDES),
            smallest_of_any=measured,
        ),
        "init": program(
            call=run.init,
            inputs=lambda sizes: {"image": picture_of(SIDES, sizes)},
            smallest_of_any=smallest,
        ),
        "picture": program(
            call=run.picture,
            inputs=lambda sizes: {"state": run.state(sizes)},
            smallest_of_any=smallest,
        ),
    }
    return Model(
        name="step",
        summary=f"one update of the optimiser of the recipe {recipe.name!r}",
        open_in_onnx=False,  # jax2onnx cannot convert guarded L-BFGS with symbolic sizes
        programs=programs,
        weights=_weights_down_to(params, recipe.terms.taps),
        facts={
            "weights": of_weights(info or read_info()),
            "recipe": recipe.name,
            "source": recipe.source,
            "settings": provenance.of_recipe(recipe),
        },
    )


_ABOUT_STEP = {
    "content": "the picture to paint, sRGB in [0, 1]",
    "style": "a picture of the style, sRGB in [0, 1]",
    "image": "a picture of the size of the content, sRGB in [0, 1]",
    "targets": "what the canvas is compared with",
    "state": "the state of the run",
    "new_state": "the state of the run after the update",
}


@dataclass(frozen=True)
class _Run:
    """The functions of a run, which take and return dictionaries of arrays by name."""

    params: Params
    recipe: Recipe

    def measure(self, weights: Weights, content: Any, style: Any) -> Specs:
        return {"targets": named_leaves(self._measured(weights, content, style))}

    def init(self, weights: Weights, image: Any) -> Specs:
        del weights
        return {"state": named_leaves(optimize.init(image, self.recipe))}

    def step(self, weights: Weights, state: Specs, targets: Specs) -> Specs:
        canvas = state["canvas"]
        shape = jax.ShapeDtypeStruct(canvas.shape, canvas.dtype)
        like = jax.eval_shape(partial(self._measured, weights), shape, shape)
        found: Any = optimize.step(
            with_weights(self.params, weights),
            self._state_of(state, shape),
            _restored(like, targets),
            self.recipe,
        )
        return {"new_state": named_leaves(found)}

    def picture(self, weights: Weights, state: Specs) -> Specs:
        del weights
        canvas = state["canvas"]
        shape = jax.ShapeDtypeStruct(canvas.shape, canvas.dtype)
        return {"image": optimize.picture(self._state_of(state, shape), self.recipe)}

    def step_inputs(self, sizes: Sizes) -> Specs:
        content = picture_of(SIDES, sizes)
        targets = jax.eval_shape(self._measured, _shapes(self.params), content, content)
        return {"state": self.state(sizes), "targets": named_leaves(targets)}

    def measure_inputs(self, sizes: Sizes) -> Specs:
        return {"content": picture_of(SIDES, sizes), "style": picture_of(STYLE_SIDES, sizes)}

    def state(self, sizes: Sizes) -> Specs:
        return named_leaves(self._fresh(picture_of(SIDES, sizes)))

    def _measured(self, weights: Weights, content: Any, style: Any) -> Targets:
        return targets.measure(with_weights(self.params, weights), content, style, self.recipe)

    def _fresh(self, image: jax.ShapeDtypeStruct) -> State:
        return jax.eval_shape(partial(optimize.init, recipe=self.recipe), image)

    def _state_of(self, state: Specs, image: jax.ShapeDtypeStruct) -> State:
        found: State = _restored(self._fresh(image), state)
        return found


def _shapes(params: Params) -> Weights:
    plain = named_leaves({name: dict(layer) for name, layer in params.layers.items()})
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in plain.items()}


def _restored(like: Any, leaves: Mapping[str, Any]) -> Any:
    """Return a pytree of the structure of `like` from leaves by name: the inverse of `named_leaves`."""
    return jax.tree.unflatten(
        jax.tree.structure(like), [leaves[name] for name in named_leaves(like)]
    )
