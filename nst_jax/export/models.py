"""What can be exported: models, each with its weights, its programs and facts for the file's metadata.

A program is a pure function of the model's weights and of arrays with names, so that every format can
be written from the same description. The sides of pictures have names too, such as `"height"`; the
length of each is a number of pixels or a symbolic size of `jax.export`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import objective, optimize, provenance
from nst_jax._types import Params, State, Targets
from nst_jax.checkpoints import named_leaves
from nst_jax.feed_forward import arbitrary, johnson, styles26
from nst_jax.feed_forward.style_files import ReadStyle
from nst_jax.feed_forward.style_names import NAMES
from nst_jax.optimizers.pyramid import NARROWEST
from nst_jax.recipes.presets import DEFAULT
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg import network as vgg
from nst_jax.vgg.network import Network
from nst_jax.vgg.precision import FLOAT32, Auto
from nst_jax.vgg.taps import LAYERS, SMALLEST, halvings, layer_of, resolve_taps
from nst_jax.weights.params import WeightsInfo, read_info, read_info_of

# Names of the sides of the picture that is painted, or whose features are computed.
HEIGHT, WIDTH = "height", "width"
# Names of the sides of a style picture.
STYLE_HEIGHT, STYLE_WIDTH = "style_height", "style_width"
SIDES, STYLE_SIDES = (HEIGHT, WIDTH), (STYLE_HEIGHT, STYLE_WIDTH)

Sizes: TypeAlias = Mapping[str, Any]  # name of a side -> number of px, or a symbolic size

Weights: TypeAlias = Mapping[str, Any]  # name of an array, such as "conv1_1/kernel" -> the array

Specs: TypeAlias = dict[str, Any]  # name -> ShapeDtypeStruct, or a dictionary of them


@dataclass(frozen=True, kw_only=True)
class Program:
    """A pure function that is exported.

    Attributes:
      call: function of (weights, *inputs); returns a dictionary from names to arrays, or to
        dictionaries of arrays.
      inputs: function of the sizes; returns the shapes of the inputs by name, in their order.
      sides: names of the sizes on which the inputs depend.
      smallest: shortest side of a picture in px, if the sizes are numbers.
      smallest_of_any: shortest side of a picture in px, if the sizes are symbolic.
      about: one phrase on each input and output, by name.
    """

    call: Callable[..., Specs]
    inputs: Callable[[Sizes], Specs]
    sides: tuple[str, ...] = SIDES
    smallest: int = SMALLEST
    smallest_of_any: int = SMALLEST
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Programs that share their weights.

    Attributes:
      name: what the command line calls it.
      summary: one sentence on what it does.
      programs: the programs by name; the first is the main one.
      weights: the arrays that the programs need, by name.
      facts: JSON values for the metadata of the file, such as the origin of the weights, the names of
        the styles, or the settings of the recipe.
      style_shape: default (height, width) in px of style pictures, if the picture that is painted has
        a fixed size; None means that same size.
      open_in_onnx: whether jax2onnx can convert every program with symbolic sizes.
    """

    name: str
    summary: str
    programs: Mapping[str, Program]
    weights: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    style_shape: tuple[int, int] | None = None
    open_in_onnx: bool = True


def picture_of(sides: tuple[str, ...], sizes: Sizes) -> jax.ShapeDtypeStruct:
    """Return the shape of a picture whose sides have these names."""
    return jax.ShapeDtypeStruct((*(sizes[side] for side in sides), 3), jnp.float32)


def named_weights(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return nested parameters as arrays on the host by name, such as `"conv1_1/kernel"`."""
    return {name: np.asarray(leaf) for name, leaf in named_leaves(dict(layers)).items()}


def nested_weights(weights: Weights) -> dict[str, Any]:
    """Return named arrays as nested dictionaries: the inverse of `named_weights`."""
    found: dict[str, Any] = {}
    for name, array in weights.items():
        *path, last = name.split("/")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = array
    return found


def of_weights(info: WeightsInfo) -> dict[str, Any]:
    """Return what the metadata of an exported file says of a weights file."""
    return {
        "origin": info.origin,
        "licence": info.licence,
        "family": info.family,
        "digest": info.digest,
    }


# --- Feed-forward networks ------------------------------------------------------------------------

_IMAGE = {"content": "the picture to paint, sRGB in [0, 1]", "image": "the result, sRGB in [0, 1]"}
_STYLE = {"style": "a picture of the style, sRGB in [0, 1]"}

# (height, width) in px of the style pictures on which the network `arbitrary` was trained.
STYLE_SHAPE = (256, 256)


def arbitrary_model(params: Params, *, info: WeightsInfo | None = None) -> Model:
    """Describe the network that takes its style from a picture, for `save`.

    Its programs are those of `nst_jax.feed_forward`:

        image = stylize(weights, content, style)             # the two below in one
        vector = style_vector(weights, style)                # [100]
        image = stylize_with(weights, content, vector)

    Args:
      params: weights from `nst_jax.feed_forward.load_arbitrary`.
      info: description of the weights file; None describes the one that comes with the package.

    Returns:
      A `Model`.

    Example:
      >>> from nst_jax.feed_forward import load_arbitrary
      >>> list(arbitrary_model(load_arbitrary()).programs)
      ['stylize', 'style_vector', 'stylize_with']
    """

    def vector_of(weights: Weights, style: Any) -> Any:
        return arbitrary.style_vector(_with(params, weights), style, precision=FLOAT32)

    def painted(weights: Weights, content: Any, vector: Any) -> Specs:
        found = arbitrary.stylize_with(_with(params, weights), content, vector, precision=FLOAT32)
        return {"image": found}

    stylize = Program(
        call=lambda weights, content, style: painted(weights, content, vector_of(weights, style)),
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "style": picture_of(STYLE_SIDES, sizes),
        },
        sides=(*SIDES, *STYLE_SIDES),
        about=_IMAGE | _STYLE,
    )
    style_vector = Program(
        call=lambda weights, style: {"vector": vector_of(weights, style)},
        inputs=lambda sizes: {"style": picture_of(STYLE_SIDES, sizes)},
        sides=STYLE_SIDES,
        about=_STYLE | {"vector": "what the style is like"},
    )
    stylize_with = Program(
        call=painted,
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "vector": jax.ShapeDtypeStruct((arbitrary.VECTOR,), jnp.float32),
        },
        about=_IMAGE | {"vector": "a style's vector, or a mean of several"},
    )
    return Model(
        name="arbitrary",
        summary="paints a picture in the style of another picture",
        programs={
            "stylize": stylize,
            "style_vector": style_vector,
            "stylize_with": stylize_with,
        },
        weights=named_weights(params.layers),
        facts={"weights": of_weights(info or read_info_of(arbitrary.ARCHITECTURE))},
        style_shape=STYLE_SHAPE,
    )


def styles26_model(params: Params, *, info: WeightsInfo | None = None) -> Model:
    """Describe the network of 26 styles, for `save`.

    It has one program, `stylize(weights, content, shares)`. The shares [26] of the styles sum to 1.

    Args:
      params: weights from `nst_jax.feed_forward.load_styles26`.
      info: description of the weights file; None describes the one that comes with the package.

    Returns:
      A `Model`.

    Example:
      >>> from nst_jax.feed_forward import load_styles26
      >>> list(styles26_model(load_styles26()).programs)
      ['stylize']
    """

    def call(weights: Weights, content: Any, shares: Any) -> Specs:
        found = styles26.stylize_mixture(_with(params, weights), content, shares, precision=FLOAT32)
        return {"image": found}

    return Model(
        name="styles26",
        summary="paints a picture in one of 26 styles, or in a mixture of them",
        programs={"stylize": _mixture(call, styles26.STYLES)},
        weights=named_weights(params.layers),
        facts={
            "styles": list(NAMES),
            "weights": of_weights(info or read_info_of(styles26.ARCHITECTURE)),
        },
    )


def trained_model(style: ReadStyle) -> Model:
    """Describe a network that `nst_jax.train` trained, for `save`.

    It has one program, `stylize(weights, content, shares)`, with a share for each of its styles.

    Args:
      style: what `nst_jax.feed_forward.style_files.read_style_file` returns.

    Returns:
      A `Model`.

    Example:
      >>> import jax
      >>> from nst_jax.feed_forward import johnson, style_files
      >>> params = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1)
      >>> network = johnson.StyleNetwork(params, ("wave", "mosaic"))
      >>> model = trained_model(style_files.ReadStyle(network, {}, ""))
      >>> model.facts["styles"]
      ['wave', 'mosaic']
    """

    def call(weights: Weights, content: Any, shares: Any) -> Specs:
        return {"image": johnson.stylize_trained(nested_weights(weights), content, shares)}

    names = list(style.network.styles)
    return Model(
        name="style file",
        summary=f"paints a picture in the style of {', '.join(names)}",
        programs={"stylize": _mixture(call, len(names))},
        weights=named_weights(style.network.params),
        facts={
            "styles": names,
            "weights": {
                "origin": "trained by nst-jax train",
                "digest": style.digest,
                "training": dict(style.facts),
            },
        },
    )


def _mixture(call: Callable[..., Specs], styles: int) -> Program:
    """Return the program of a network that mixes `styles` styles by their shares."""
    return Program(
        call=call,
        inputs=lambda sizes: {
            "content": picture_of(SIDES, sizes),
            "shares": jax.ShapeDtypeStruct((styles,), jnp.float32),
        },
        about=_IMAGE | {"shares": "the share of each style; their sum is 1"},
    )


def _with(params: Params, weights: Weights) -> Params:
    """Return `params` with the arrays of `weights`, which have the names that `named_weights` gives."""
    return replace(params, layers=nested_weights(weights))


# --- VGG-19's features ----------------------------------------------------------------------------


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
        return vgg.features(_with(params, weights), images, names, network=network)

    program = Program(
        call=call,
        inputs=lambda sizes: {"images": picture_of(SIDES, sizes)},
        # Each pooling needs two rows and columns to work on.
        smallest=max(SMALLEST, 2 ** max(halvings(layer_of(name)) for name in names)),
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
        recipe's sizes and its number of updates are not used.
      info: description of the weights file; None describes the one that `load_params()` reads.

    Returns:
      A `Model`.

    Raises:
      ValueError: for a recipe whose style loss compares positions.

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
    recipe = replace(recipe, network=_decided(recipe.network))
    run = _Run(params, recipe)
    # With symbolic sides, JAX must know while tracing that a pyramid has all its levels. So no level of
    # the optimiser's that is to be halved may have a side shorter than `NARROWEST`, and no level of the
    # variables' may be shorter than 1 px.
    levels = getattr(recipe.descent.optimizer, "levels", 0)
    smallest = max(SMALLEST, 1 << recipe.descent.pyramid_levels)
    program = partial(Program, about=_ABOUT_STEP)
    programs = {
        "step": program(
            call=run.step,
            inputs=run.step_inputs,
            smallest_of_any=max(smallest, NARROWEST << max(levels - 1, 0)),
        ),
        "measure": program(
            call=run.measure, inputs=run.measure_inputs, sides=(*SIDES, *STYLE_SIDES)
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
        open_in_onnx=False,  # not those of guarded L-BFGS
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
    """The functions of a run over named arrays instead of this package's records."""

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
            _with(self.params, weights),
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
        return objective.measure(_with(self.params, weights), content, style, self.recipe)

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
