"""VGG-19's features, and one update of the optimisation, as models to export.

Each is described as a `Model`, which `nst_jax.export.save` writes to a file. A model has weights, and
programs, which are functions of the weights and of input arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from nst_jax import _checks, optimize, provenance, targets
from nst_jax._types import Params, State, Targets
from nst_jax.checkpoints.leaves import named_leaves
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
from nst_jax.vgg.layers.padding import reflect_padded
from nst_jax.vgg.network import Network
from nst_jax.vgg.precision import FLOAT32, Auto
from nst_jax.vgg.taps import LAYERS, SMALLEST, check_layers, halvings, layer_of, resolve_taps
from nst_jax.weights.params import WeightsInfo, read_info

_LOAD = "`nst_jax.load_params()` gives them"  # advice in messages about weights


def features_model(
    params: Params,
    *,
    taps: Sequence[str] | None = None,
    network: Network | None = None,
    info: WeightsInfo | None = None,
) -> Model:
    """Return a `Model` of VGG-19, from its first layer to the deepest of some taps (layers).

    `save` writes the model to a file. The model has one program, `features(weights, images)`, which
    returns the activations by tap for a single picture [h, w, 3].

    Args:
      params: weights from `nst_jax.load_params`.
      taps: names of the taps, such as `"relu4_2"`; None means the taps that the losses of the recipe
        `default` use.
      network: pooling, padding, pixel convention and precision, as in `nst_jax.features`; a precision
        of `AUTO` becomes float32, as the file may run on any platform.
      info: origin, licence and digest of the weights file, for the metadata; None means those of the
        file that `load_params()` reads.

    Returns:
      The network as a `Model`.

    Raises:
      TypeError: if an argument is of the wrong type, such as a string as `taps`.
      ValueError: if the weights are of another network than VGG-19; if a tap is unknown or repeated, or
        if there are no taps.

    Example:
      >>> import nst_jax as nst
      >>> model = features_model(nst.load_params(), taps=["relu1_1", "relu1_2"])
      >>> list(model.weights)
      ['conv1_1/bias', 'conv1_1/kernel', 'conv1_2/bias', 'conv1_2/kernel']
    """
    _checks.weights_of_vgg(params, Params, _LOAD)
    names = resolve_taps(DEFAULT.terms.taps if taps is None else taps)
    check_layers(params, names)
    network = _decided(Network() if network is None else network)

    def call(weights: Weights, images: Any) -> Specs:
        return vgg.features(with_weights(params, weights), images, names, network=network)

    program = Program(
        call=call,
        inputs=lambda sizes: {"images": picture_of(SIDES, sizes)},
        # Each pooling on the way to the deepest tap halves the picture, and needs at least two rows and
        # columns.
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
    """Return `network` with the precision float32 if its precision is `AUTO`.

    `AUTO` depends on the platform, and an exported file may run on any platform.
    """
    _checks.instance("network", network, Network, "`nst_jax.vgg.Network()` is the usual one")
    auto = isinstance(network.precision, Auto)
    return replace(network, precision=FLOAT32) if auto else network


def _smallest_of_any(taps: Sequence[str], network: Network) -> int:
    """Return the least length in px of a picture's sides, for a program with symbolic sizes.

    Such a program is traced once, for pictures of many sizes. The padding `reflect_padded` mirrors
    borders, which needs inputs of 2 px or more on each side; an input of 1 px is padded by repeating it
    instead. This choice is made while a program is traced. With symbolic sizes, `reflect_padded` always
    mirrors, so pictures must be so large that no layer has an input of 1 px.
    """
    deepest = max(halvings(layer_of(tap)) for tap in taps)
    return max(SMALLEST, (2 if network.padding is reflect_padded else 1) << deepest)


def _weights_down_to(params: Params, taps: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the kernels and biases, by name, of all layers that the features at `taps` depend on."""
    order = list(LAYERS)
    deepest = max(order.index(layer_of(tap)) for tap in taps)
    plain = {
        layer: {name: params.layers[layer][name] for name in ("bias", "kernel")}
        for layer in order[: deepest + 1]
    }
    return named_weights(plain)


# --- One update of the optimiser ------------------------------------------------------------------


def _check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose updates need more than a canvas and the statistics of one style."""
    _checks.instance("recipe", recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")
    if recipe.terms.matched:
        raise ValueError(
            f"`recipe`: {recipe.name!r} seeks nearest neighbours in the style, for which there is no "
            "exported program; choose a recipe with another style loss"
        )
    if recipe.terms.tap_styles or len(recipe.terms.style_shares) > 1:
        raise ValueError(
            "`recipe`: the exported programs take one style picture; leave out `terms.tap_styles`, and "
            "give at most one of `terms.style_shares`"
        )
    if recipe.terms.matting_weight is not None:
        raise ValueError(
            "`recipe`: its `terms.matting_weight` needs the photo's pixels, which an exported update "
            "does not take; leave it out"
        )


def step_model(
    params: Params, recipe: Recipe = DEFAULT, *, info: WeightsInfo | None = None
) -> Model:
    """Return a `Model` of the programs of a style transfer by optimisation at a single resolution.

    `save` writes the model to a file. There are four programs, which take and return states and targets
    as dictionaries of arrays by name. A style transfer calls the programs in this order:

        targets = measure(weights, content, style)   # what the losses compare with
        state = init(weights, image)                 # from the picture to start from
        state = step(weights, state, targets)        # one update; call it as often as wanted
        image = picture(weights, state)              # the result

    The first call of `step` only computes the losses of the start, which `init` does not compute; each
    further call updates the picture.

    Args:
      params: weights from `nst_jax.load_params`.
      recipe: losses, their weights, network and optimiser. A precision of `AUTO` becomes float32. The
        recipe's sizes, colour transfer, `realism` and number of updates are not used.
      info: origin, licence and digest of the weights file, for the metadata; None means those of the
        file that `load_params()` reads.

    Returns:
      The programs and VGG-19's weights as a `Model`.

    Raises:
      TypeError: if an argument is of the wrong type, such as a name as `recipe`.
      ValueError: if the weights are of another network than VGG-19; if a style loss of the recipe
        compares positions of the picture with positions of the style (a `losses.MatchingLoss`); or if
        the recipe has several styles or a `matting_weight`.

    Example:
      >>> import nst_jax as nst
      >>> model = step_model(nst.load_params(), nst.recipes.TF)
      >>> list(model.programs)
      ['step', 'measure', 'init', 'picture']
    """
    _checks.weights_of_vgg(params, Params, _LOAD)
    _check_recipe(recipe)
    check_layers(params, recipe.terms.taps)
    recipe = replace(recipe, network=_decided(recipe.network))
    run = _Run(params, recipe)
    # A program for symbolic sizes has a fixed number of levels of image pyramids, since it is traced
    # only once. So it takes only pictures that are large enough for all these levels. In the pyramid of
    # L-BFGS (`optimizers.pyramid`), every level that is halved needs sides of `NARROWEST` px or more.
    # If `descent.pyramid_levels` is not 0, the optimiser updates the levels of a Laplacian pyramid
    # instead of the pixels (`optimizers.laplacian`). Each of these levels needs sides of 1 px or more.
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
        # For symbolic sizes, jax2onnx cannot convert every update rule: it fails on `optimizers.LBFGS`.
        open_in_onnx=False,
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
    """The functions of the four programs of `step_model`, and the shapes of their inputs.

    The functions take and return states and targets as dictionaries of arrays by name, since an
    exported program cannot have this package's own record types.
    """

    # VGG-19's weights. Only their shapes and the pixel convention (order and scale of channels) are
    # used: each program takes the numbers as its argument `weights`.
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
    """Return a pytree with the structure of `like`, whose leaves are given by name.

    This undoes `named_leaves`, which turns a pytree into a dictionary from names to leaves.
    """
    return jax.tree.unflatten(
        jax.tree.structure(like), [leaves[name] for name in named_leaves(like)]
    )
