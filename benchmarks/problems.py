"""What the benchmarks compute: recipes on pairs of square sample pictures, at any size."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks.harness import compiled

Array = jax.Array
Program = Callable[..., tuple[nst.State, Any]]

# The precision on every device unless a benchmark states another, so that devices can be compared.
FLOAT32 = nst.vgg.precision.FLOAT32
# The objective of TensorFlow's tutorial with torch's Adam, so that PyTorch can take the same steps.
ADAM = replace(
    nst.recipes.TF.replace(precision=FLOAT32),
    name="tf (Adam)",
    descent=replace(
        nst.recipes.TF.descent,
        optimizer=nst.optimizers.Adam(learning_rate=0.02, b1=0.99, b2=0.999, eps=0.1),
    ),
)
CONVOLUTIONS = (2, 2, 4, 4, 4)  # number in each block of VGG-19, for peers that build the network
LBFGS = nst.recipes.GRAM.replace(name="gram (L-BFGS)", precision=FLOAT32)

# Content and style, both sample pictures of the package: a clone contains all that a benchmark needs.
Pair = tuple[str, str]
PAIRS: tuple[Pair, ...] = (
    ("chelsea", "starry_night"),
    ("chelsea", "gravel"),
    ("starry_night", "gravel"),
)


@dataclass(frozen=True)
class Problem:
    """A recipe on a pair of pictures, with all that the compiled loop needs."""

    params: nst.Params  # with transposed and Winograd kernels, as `stylize` computes them once
    content: Array  # [size, size, 3] in [0, 1]
    style: Array  # [size, size, 3] in [0, 1]
    targets: nst.Targets
    recipe: Any  # with every number an array

    def state(self) -> nst.State:
        """Return a new loop state whose canvas is the content, with matches if the loss needs them."""
        state = jax.jit(nst.init)(self.content, self.recipe)
        if not self.recipe.terms.matched:
            return state
        match = jax.jit(partial(nst.match, first=True))
        return match(self.params, state, self.targets, self.content, self.recipe)

    def example(self) -> tuple[Any, ...]:
        """Return arguments for `nst_jax.step`: params, a new state, targets, recipe."""
        return self.params, self.state(), self.targets, self.recipe


def pictures(size: int, pair: Pair = PAIRS[0]) -> tuple[Array, Array]:
    """Return the content and the style of a pair as squares [size, size, 3] in [0, 1]."""
    content, style = pair
    return _square(content, size), _square(style, size)


def _square(name: str, size: int) -> Array:
    image = jnp.asarray(nst.images.sample(name))
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return nst.recipes.filters.antialiased(
        image[top : top + side, left : left + side], (size, size)
    )


def problem(params: nst.Params, recipe: Any, size: int, *, winograd: bool = True) -> Problem:
    """Measure the targets of a recipe at one size, and prepare the weights as `stylize` does.

    Args:
      params: the weights.
      recipe: any recipe.
      size: side of the square pictures.
      winograd: whether layers may use Winograd convolution, as in `stylize`.

    Returns:
      The problem.
    """
    core = nst.recipes.as_arrays(recipe.bare())
    content, style = pictures(size)
    targets = jax.block_until_ready(
        jax.jit(nst.measure, compiler_options=dict(nst.compiler_options()))(
            params, content, style, core
        )
    )
    formed = nst.vgg.with_forms(
        params,
        core.terms.taps,
        shape=(size, size) if winograd else None,
        precision=core.network.precision_on(),
    )
    return Problem(formed, content, style, targets, core)


def tap_weights(terms: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Return two dicts for peers: content tap to weight, and style tap to weight.

    The weights are Python numbers, so that a peer need not read a JAX array in every step.
    """

    def weights(taps: Any, layer_weights: Any, factor: Any) -> dict[str, float]:
        pairs = zip(taps, layer_weights, strict=True)
        return {tap: float(weight) * float(factor) for tap, weight in pairs}

    return (
        weights(terms.content_taps, terms.content_layer_weights, terms.content_weight),
        weights(terms.style_taps, terms.style_layer_weights, terms.style_weight),
    )


class Loop:
    """A run of the compiled loop on one canvas: each `advance` continues from the last state.

    The loop keeps the state, because every call of the program donates and thus deletes the old state.
    """

    def __init__(self, problem: Problem):
        self.problem, self.state = problem, problem.state()
        self.program, self.seconds = compiled(nst.run, *problem.example(), jnp.asarray(1))

    def advance(self, steps: int) -> nst.Losses:
        """Take `steps` steps and return the losses that each step measured, arrays [steps]."""
        p = self.problem
        self.state, history = self.program(
            p.params, self.state, p.targets, p.recipe, jnp.asarray(steps)
        )
        return jax.tree.map(lambda losses: losses[:steps], history)


class SingleSteps:
    """The run of `Loop`, but not in one program: each step is a call of the compiled `step`."""

    def __init__(self, problem: Problem):
        self.problem, self.state = problem, problem.state()
        self.program, self.seconds = compiled(nst.step, *problem.example())

    def advance(self, steps: int) -> nst.Losses:
        """Take `steps` steps and return the losses that the last step measured."""
        p = self.problem
        for _ in range(steps):
            self.state = self.program(p.params, self.state, p.targets, p.recipe)
        return self.state.losses


def outcome(state: nst.State) -> dict[str, Any]:
    """Return the outcome of a run: the number of updates, and the losses of its last canvas.

    Raises:
      RuntimeError: if the run diverged, as its time would mean nothing.
    """
    if int(state.broke_at) >= 0:
        raise RuntimeError(f"the losses were not finite after {int(state.broke_at)} updates")
    losses = {name: float(getattr(state.losses, name)) for name in ("total", "content", "style")}
    return {"updates": int(state.step), "losses": losses}
