"""How closely a run in a larger array agrees with one whose array the picture fills.

Both compute the same sums in another order, so that they differ by rounding errors. Beside them stand
runs without a larger array whose start differs in its last bits: what these make of it, rounding makes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import FLOAT32, PAIRS

Json = dict[str, Any]
Shape = tuple[int, int]
Pictures = dict[str, np.ndarray]  # content, style and canvas, each [h, w, 3], float64

QUESTION = "How closely runs in a larger array agree with runs whose array the picture fills"
# `steps` are the updates. Times are not measured, so there are no rounds.
FULL = Plan(sizes=(256,), repeats=1, steps=30)
QUICK = Plan(sizes=(64,), repeats=1, steps=30, recipes=("default", "tf"))

FEW = 5  # updates after which pixels are compared
# Learning rates for recipes whose own one diverges from the first updates on pictures so small.
SMALLER_RATES = {"keras-io": 1.0}
OTHER_STARTS = 2  # runs from starts with other last bits
# Recipes whose style loss is a sum over positions; others cannot be computed in a larger array.
RECIPES = {name: one for name, one in nst.recipes.PRESETS.items() if one.terms.additive}
# The recipe whose first evaluation is computed in float64, also at these sizes in a small array.
EXACT, SMALL_BUCKET = "default", (48, 64)
SMALL: tuple[Shape, ...] = ((48, 64), (47, 63), (33, 64), (16, 17), (35, 49))
SMALL_STYLE = (44, 31)
DOUBLE = "jax_enable_x64"  # the setting of jax that allows float64
PADDING = 18  # a picture is as much smaller than its array as this part of it


def measure(plan: Plan) -> Findings:
    """Compare the updates of every recipe in float32, and the first evaluation of one in float64.

    Pictures lie at the top left of arrays of garbage: NaN around content and style; around the canvas,
    grey in the updates and NaN in the evaluation. The canvas is the start of the recipe itself.
    """
    for name in plan.recipes or ():
        if name not in RECIPES:
            raise ValueError(f"`recipes`: {name!r} has losses that are no sums; choose others")
    params = nst.load_params()
    rows = []
    for size in plan.sizes:
        for name in plan.recipes or RECIPES:
            try:
                rows.append(_updates(params, name, size, plan.steps))
            except FloatingPointError:
                if name not in SMALLER_RATES:
                    raise
                rate = SMALLER_RATES[name]
                rows.append(_updates(params, name, size, plan.steps, learning_rate=rate))
            jax.clear_caches()
    if EXACT in (plan.recipes or RECIPES):
        with _double():
            rows += _evaluations(params, [_bucket(size) for size in plan.sizes])
    notes = [
        "differences of pixels are shares of their range, others are relative to the plain run",
        f"for other last bits, the largest of {OTHER_STARTS} starts",
    ]
    return Findings(rows, notes)


# --- Pictures -------------------------------------------------------------------------------------


def _bucket(size: int) -> Shape:
    """Return the shape of an array whose longer side is `size`, in multiples of 16 px."""
    return -(-(size * 3 // 4) // 16) * 16, -(-size // 16) * 16


def _inside(bucket: Shape, times: int = 1) -> Shape:
    """Return the shape of a picture that leaves a part of an array free on two sides, or `times` it."""
    height, width = (side - times * max(side // PADDING, 1) for side in bucket)
    return height, width


def _samples(shape: Shape, style_shape: Shape) -> Pictures:
    """Return sample pictures at these shapes; the canvas is the content with some texture."""
    content, style = (
        np.asarray(_resized(name, to), np.float64)
        for name, to in zip(PAIRS[0], (shape, style_shape), strict=True)
    )
    canvas = 0.8 * content + 0.2 * np.asarray(_resized(PAIRS[1][1], shape), np.float64)
    return {"content": content, "style": style, "canvas": canvas}


def _resized(name: str, shape: Shape) -> jax.Array:
    return nst.recipes.filters.antialiased(jnp.asarray(nst.images.sample(name)), shape)


def _noise(shape: Shape, style_shape: Shape) -> Pictures:
    """Return pictures of independent numbers in [0, 1]."""
    shapes = {"style": style_shape, "content": shape, "canvas": shape}
    return {
        name: np.random.default_rng(seed).random((*one, 3))
        for seed, (name, one) in enumerate(shapes.items(), 1)
    }


def _padded(picture: np.ndarray, bucket: Shape, garbage: float) -> np.ndarray:
    wide = np.full((*bucket, 3), garbage)
    wide[: picture.shape[0], : picture.shape[1]] = picture
    return wide


def _other_bits(picture: np.ndarray, seed: int, dtype: Any) -> np.ndarray:
    """Return a picture of which each number differs by one or two units in the last place."""
    signs = np.random.default_rng(seed).choice([-1, 1], picture.shape)
    changed: np.ndarray = picture * (1 + np.finfo(dtype).eps * signs)
    return changed


# --- Updates in float32 ---------------------------------------------------------------------------


class _Run(NamedTuple):
    """A run: its losses [1 + updates], the first of them of the start, and two of its pictures."""

    totals: np.ndarray
    after_few: np.ndarray
    last: np.ndarray


def _updates(params: nst.Params, name: str, size: int, updates: int, **changes: float) -> Json:
    recipe = nst.recipes.as_arrays(RECIPES[name].replace(precision=FLOAT32, **changes).bare())
    bucket = _bucket(size)
    shape, style_shape = _inside(bucket), _inside(bucket, 2)
    pictures = _samples(shape, style_shape)
    start = RECIPES[name].pictures.start
    content, style = (jnp.asarray(pictures[one], jnp.float32) for one in ("content", "style"))
    pictures["canvas"] = np.asarray(start(content, style, jax.random.key(0)), np.float64)
    plain = _program(params, recipe, pictures, None)
    alone = plain(pictures["canvas"], updates)
    if not np.all(np.isfinite(alone.totals)):
        raise FloatingPointError(f"{name}: its losses are not finite")
    found = {"bucket": _program(params, recipe, pictures, bucket)(pictures["canvas"], updates)}
    for seed in range(OTHER_STARTS):
        other = _other_bits(pictures["canvas"], seed, np.float32)
        found[f"other last bits {seed + 1}"] = plain(other, updates)
    return {
        "what": "updates",
        "recipe": name,
        "changes": changes,
        "dtype": "float32",
        "size": list(shape),
        "bucket": list(bucket),
        "style_size": list(style_shape),
        "updates": [min(FEW, updates), updates],
        "differences": {one: _differences(run, alone) for one, run in found.items()},
        "first_loss": float(alone.totals[0]),
        "final_loss": float(alone.totals[-1]),
    }


def _program(
    params: nst.Params, recipe: Any, pictures: Pictures, bucket: Shape | None
) -> Callable[[np.ndarray, int], _Run]:
    """Compile a recipe's loop; return a function of a start and of the number of updates.

    The weights have the forms that a run of this shape of array has, as in `stylize`.
    """
    shape = _shape(pictures["canvas"])
    formed = nst.vgg.with_forms(
        params, recipe.terms.taps, shape=bucket or shape, precision=recipe.network.precision_on()
    )
    content, style, sizes = _inputs(pictures, bucket, jnp.float32)
    targets = jax.jit(nst.measure, compiler_options=dict(nst.compiler_options()))(
        params, content, style, recipe, **sizes
    )
    first = jax.jit(nst.init)
    example = first(content, recipe)
    loop, _ = harness.compiled(nst.run, formed, example, targets, recipe, jnp.asarray(1))

    def run(canvas: np.ndarray, updates: int) -> _Run:
        wide = canvas if bucket is None else _padded(canvas, bucket, 0.5)
        state, totals, images = first(jnp.asarray(wide, jnp.float32), recipe), [], []
        few = min(FEW, updates)
        # The first step only computes the losses of the start.
        for steps in (1 + few, updates - few):
            state, history = loop(formed, state, targets, recipe, jnp.asarray(steps))
            totals.append(np.asarray(history.total, np.float64)[:steps])
            images.append(_picture(state, recipe)[: shape[0], : shape[1]])
        return _Run(np.concatenate(totals), *images)

    return run


def _inputs(pictures: Pictures, bucket: Shape | None, dtype: Any) -> tuple[Any, Any, Json]:
    """Return content and style as arrays, and the real sizes that `measure` gets as well."""
    content, style = pictures["content"], pictures["style"]
    if bucket is None:
        return jnp.asarray(content, dtype), jnp.asarray(style, dtype), {}
    real, of_style = (jnp.asarray(_shape(one), jnp.int32) for one in (content, style))
    content, style = (_padded(one, bucket, np.nan) for one in (content, style))
    sizes = {"size": real, "style_sizes": [of_style]}
    return jnp.asarray(content, dtype), jnp.asarray(style, dtype), sizes


def _picture(state: nst.State, recipe: Any) -> np.ndarray:
    """Return the picture that a state shows, clipped to [0, 1]."""
    shown = state.canvas if state.average is None else state.average
    return np.clip(np.asarray(recipe.descent.coordinates.decode(shown), np.float64), 0, 1)


def _shape(picture: np.ndarray) -> Shape:
    height, width = picture.shape[:2]
    return height, width


def _differences(found: _Run, alone: _Run) -> Json:
    """Return the largest differences of pixels, and the relative ones of total losses."""
    losses = np.abs(found.totals / alone.totals - 1)
    return {
        "pixels_after_few": _rounded(np.max(np.abs(found.after_few - alone.after_few))),
        "pixels_after_all": _rounded(np.max(np.abs(found.last - alone.last))),
        "losses_of_few": _rounded(np.max(losses[: FEW + 1])),
        "largest_of_losses": _rounded(np.max(losses)),
        "last_loss": _rounded(losses[-1]),
    }


def _rounded(value: Any) -> float:
    return float(f"{value:.4g}")


# --- The first evaluation in float64 --------------------------------------------------------------


@contextmanager
def _double() -> Iterator[None]:
    """Let arrays be float64."""
    before = getattr(jax.config, DOUBLE)
    jax.config.update(DOUBLE, True)
    try:
        yield
    finally:
        jax.config.update(DOUBLE, before)


def _losses_and_gradient(
    params: nst.Params, recipe: Any, canvas: Any, content: Any, style: Any, sizes: Json
) -> tuple[Any, Any]:
    targets = nst.measure(params, content, style, recipe, **sizes)

    def total(image: Any) -> tuple[Any, Any]:
        losses = nst.losses_of(params, image, targets, recipe)
        return losses.total, losses

    (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(canvas)
    return losses, gradient


def _evaluations(params: nst.Params, buckets: list[Shape]) -> Iterator[Json]:
    """Yield a row for the first evaluation at each size, of sample pictures and of noise."""
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    recipe = nst.recipes.as_arrays(RECIPES[EXACT].replace(precision=FLOAT32).bare())

    evaluated = partial(jax.jit(_losses_and_gradient), params, recipe)
    cases = [(_inside(bucket), bucket, _inside(bucket, 2)) for bucket in buckets]
    cases += [(shape, SMALL_BUCKET, SMALL_STYLE) for shape in SMALL]
    kinds: Mapping[str, Callable[[Shape, Shape], Pictures]] = {
        "samples": _samples,
        "noise": _noise,
    }
    for shape, bucket, style_shape in cases:
        for kind, make in kinds.items():
            pictures = make(shape, style_shape)
            canvas = pictures["canvas"]
            alone, within = (_inputs(pictures, one, jnp.float64) for one in (None, bucket))
            plain = _Evaluation.of(evaluated(canvas, *alone), shape)
            found = {
                "bucket": evaluated(_padded(canvas, bucket, np.nan), *within),
                **{
                    f"other last bits {seed + 1}": evaluated(
                        _other_bits(canvas, seed, np.float64), *alone
                    )
                    for seed in range(OTHER_STARTS)
                },
            }
            yield {
                "what": f"first evaluation, {kind}",
                "recipe": EXACT,
                "dtype": "float64",
                "size": list(shape),
                "bucket": list(bucket),
                "style_size": list(style_shape),
                "differences": {
                    name: _Evaluation.of(one, shape).relative_to(plain)
                    for name, one in found.items()
                },
                "final_loss": plain.total,
            }


class _Evaluation(NamedTuple):
    """Losses of a canvas, and the gradient of the total with respect to its pixels."""

    content: float
    style: float
    total: float
    gradient: np.ndarray

    @classmethod
    def of(cls, result: tuple[Any, Any], shape: Shape) -> "_Evaluation":
        losses, gradient = result
        if gradient.dtype != jnp.float64:
            raise RuntimeError(f"the gradient is {gradient.dtype}, expected float64")
        inside = np.asarray(gradient)[: shape[0], : shape[1]]
        return cls(float(losses.content), float(losses.style), float(losses.total), inside)

    def relative_to(self, plain: "_Evaluation") -> Json:
        """Return differences relative to the values of a plain evaluation; to its largest gradient."""
        names = ("content", "style", "total")
        found = {name: abs(getattr(self, name) / getattr(plain, name) - 1) for name in names}
        size = np.max(np.abs(plain.gradient))
        found["gradient"] = np.max(np.abs(self.gradient - plain.gradient)) / size
        return {name: _rounded(one) for name, one in found.items()}
