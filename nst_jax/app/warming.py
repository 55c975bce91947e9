"""The command `warm`: compile the programs of later commands, and store them in the cache on disk.

A bucket is a square array. Pictures of all shapes fit into it if their longer side is at most the side
of the bucket, and are painted by the same programs; see `nst_jax.scaling.buckets`. The programs for a
recipe, a bucket and a number of pictures painted at once serve all pictures that later commands paint
by this recipe in a bucket of this side, if the commands paint the same number of pictures at once.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import repeat
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import planned_painting, run_scales
from nst_jax._types import Params
from nst_jax.app import arguments, cache, programs
from nst_jax.app.batch import groups, kept_groups
from nst_jax.app.chosen_options import (
    Chosen,
    begun_display,
    check_weights,
    chosen_bucket_of_picture,
    chosen_recipe,
)
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.formatting import duration
from nst_jax.app.instant.painting import size_of_groups
from nst_jax.app.interrupts import exit_on_signals
from nst_jax.app.messages import print_lines
from nst_jax.app.progress import Display
from nst_jax.app.recipe_controls import check_no_masks, with_controls_of_recipe
from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import PollingWatch
from nst_jax.batch_members import members_of
from nst_jax.controls.given import BatchControls
from nst_jax.descent import intervals_of
from nst_jax.feed_forward import (
    given_styles,
    instant_controls,
    instant_painter,
    style_names,
)
from nst_jax.feed_forward.instant_controls import WITHOUT_PICTURE
from nst_jax.planned_batches import paint_batch
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.recipes.starts import Instant, same_start
from nst_jax.scaling import buckets
from nst_jax.scaling.bucket_choice import KeptPrograms
from nst_jax.scaling.bucket_plans import plan_in_square
from nst_jax.scaling.capacity import platform_of
from nst_jax.scaling.chunk_size import even_groups
from nst_jax.scaling.plan import Plan
from nst_jax.vgg.precision import Precision
from nst_jax.weights.params import load_params

# --- The command ----------------------------------------------------------------------------------


def warm(chosen: Chosen) -> None:
    """Compile the programs of later commands, and store them in the cache on disk.

    Unless `--quiet` is given, print how many program files are then on disk, and the options with which
    later commands use the programs just compiled.

    The programs paint in buckets: square arrays in which pictures of many shapes can lie. So the same
    programs serve all these shapes.
    """
    exit_on_signals()
    sides, compile_all = (_instant_ahead if chosen["instant"] else _runs_ahead)(chosen)
    display = begun_display(chosen | {"cache": True})
    folder = cache.folder_to_warm()
    before, _ = cache.kept(folder)
    compile_all(display)
    if not chosen["quiet"]:
        cache.print_kept(folder, before)
        for size, side in sides:
            words = "" if size is None else f"--size {size} "
            where = "`instant`" if chosen["instant"] else "`stylize` or `batch`"
            print_lines(f"for pictures of any shape, add to {where}: {words}--bucket {side}")


# What the command `warm` is to do: a list with each value of `--size` (None: not given) and the side of
# its bucket in px; and a function that compiles the programs, and shows its progress on a display.
_Ahead = tuple[list[tuple[str | None, int]], Callable[[Display], None]]


def _runs_ahead(chosen: Chosen) -> _Ahead:
    """Check the options of `warm`; return what is to be compiled for `stylize` and `batch`."""
    check_no_masks(chosen["recipe"])
    chosen = with_controls_of_recipe(chosen)
    side = _bucket_ahead(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    if init_file is not None:
        raise ValueError("`init`: a picture needs no programs of its own; omit it")
    sizes = chosen["size"] or (None,)
    recipes = [
        arguments.with_start(chosen_recipe(chosen | {"size": size}, ()), init) for size in sizes
    ]
    squares = [Square(recipe, side_of(recipe, side), chosen["batches"]) for recipe in recipes]
    check_weights(chosen)
    wanted = [one for square in squares for one in wanted_of(square)]

    def compile_all(display: Display) -> None:
        compile_runs(load_params(chosen["weights"]), wanted, display, init=init)

    return list(zip(sizes, (square.side for square in squares), strict=True)), compile_all


def _bucket_ahead(chosen: Chosen) -> int | None:
    """Return the side of the bucket (an array that a picture need not fill) in px; None for "auto".

    The option `--bucket` of `warm` names it. "off" is refused.
    """
    if chosen["bucket"] == "off":
        other = (
            "" if chosen["instant"] else ", or compile what a folder needs: `batch --compile-only`"
        )
        raise ValueError(f"`bucket`: off, but `warm` compiles programs for buckets; omit it{other}")
    return chosen_bucket_of_picture(chosen)


# The options of `warm` that may be given together with `--instant`.
_OF_INSTANT = (
    "size", "style_size", "colors", "realism", "precision", "bucket", "batches", "instant", "quiet",
)  # fmt: skip


def _instant_ahead(chosen: Chosen) -> _Ahead:
    """Check the options of `warm --instant`; return what is to be compiled for `instant`."""
    for name, value in chosen.items():
        if name not in _OF_INSTANT and value not in (None, (), False):
            raise ValueError(
                f"`{name}`: changes no program that `instant` runs in a bucket; omit it, or call "
                "`warm` once more without `--instant`"
            )
    bucket, sizes = _bucket_ahead(chosen), chosen["size"] or (None,)
    sides = [side_of_instant(size, bucket) for size in sizes]
    given_styles.style_rule(chosen["style_size"])
    precision = instant_painter.chosen_precision(chosen["precision"] or "auto")
    squares = {side: sizes_of_instant(chosen["batches"], side) for side in sides}
    colors, realism = chosen["colors"] or "style", chosen["realism"] or 0.0
    instant_controls.check_colors_and_realism(colors, realism)
    recipe = instant_controls.recipe_finishing_with(colors, realism)

    def compile_all(display: Display) -> None:
        compile_instant(squares, precision, chosen["style_size"], recipe, display)

    return list(zip(sizes, sides, strict=True)), compile_all


# --- What is compiled -----------------------------------------------------------------------------

# (height, width), in px, of three contents, by which `side_of` and `side_of_instant` find out whether a
# size rule gives all results the same longer side. If the longer sides of these three results differ,
# the rule does not tell how large the bucket (square array) must be, so the user must say so
# (`--bucket`).
_TRIED = ((1000, 1000), (1000, 1050), (1050, 1000))

# (height, width), in px, of two style pictures for which programs are compiled. `instant` puts a style
# picture into a square array, and computes from it a vector that describes the style. Each size of this
# array needs a program. At the default size of styles, these two pictures lie in arrays of two sizes.
_STYLES = ((1000, 1000), (1000, 2000))


class Square(NamedTuple):
    """A recipe and a bucket (a square array) for which programs are to be compiled."""

    recipe: Recipe  # its size rule gives the size of the pictures that are to be painted
    side: int  # side of the bucket in px
    # For each planned call of `batch`, the number of its pictures. The programs for the groups in which
    # the call paints them are compiled, in addition to those for a single picture.
    batches: tuple[int, ...]


def side_of(recipe: Recipe, bucket: int | None = None) -> int:
    """Return the side, in px, of the bucket (a square array) for all pictures that a recipe paints.

    Args:
      recipe: the recipe, whose size rule gives the size of its pictures.
      bucket: the side that the user names; None: the longer side of the recipe's pictures, rounded up
        to a multiple of 16 px.

    Raises:
      ValueError: if `bucket` is None, but the longer side depends on the shape of the picture.

    Example:
      >>> from nst_jax import recipes
      >>> side_of(recipes.GRAM.replace(size=250))
      256
    """
    if bucket is not None:
        return bucket
    styles = [_TRIED[0]] * _styles_of(recipe)
    longest = {max(run_scales.scales_of(shape, styles, recipe)[-1].shape) for shape in _TRIED}
    return _rounded(longest, recipe.pictures.size)


def side_of_instant(size: str | None, bucket: int | None = None) -> int:
    """Return the side of the bucket (a square array) for all pictures that `instant` paints, in px.

    Args:
      size: the size of the pictures, as after `--size`; None is that of the recipe `default`.
      bucket: the side that the user names; None: the longer side, rounded up to a multiple of 16 px.

    Raises:
      ValueError: if `size` is malformed or out of range; if `bucket` is None, and the longer side
        depends on the shape of the picture; or if the longer side is the same for all shapes, and is
        longer than `bucket`.

    Example:
      >>> side_of_instant("250")
      256
    """
    rule = given_styles.content_rule(size)
    longest = {max(given_styles.content_shape(size, shape)) for shape in _TRIED}
    if bucket is None:
        return _rounded(longest, rule)
    if len(longest) == 1:
        side = longest.pop()
        instant_painter.check_in_square((side, side), bucket)
    return bucket


def _rounded(longest: Set[int], size: Any) -> int:
    """Return the side of a bucket: the longer side of pictures, rounded up to a multiple of 16 px.

    Args:
      longest: the longer sides, in px, that pictures of different shapes get.
      size: the size rule that gives these sides, for the error message.

    Raises:
      ValueError: if there are several longer sides, since the user must then choose the bucket.
    """
    if len(longest) > 1:
        raise ValueError(
            f"`bucket`: is missing, since `size` {size} leaves open how long the "
            "longer side of pictures is; give the longest that shall fit, such as `--bucket 512`"
        )
    return buckets.rounded_up(max(longest))


def sizes_of_batches(batches: Iterable[int], side: int) -> list[int]:
    """Return the sizes of the groups of pictures that `batch` paints at once, each size once.

    Args:
      batches: for each call of `batch`, the number of its pictures.
      side: side of the bucket (a square array) in px.
    """
    most = groups.most_at_once((side, side), platform_of())
    return list(dict.fromkeys(size for count in batches for size in even_groups(count, most)))


def sizes_of_instant(batches: Iterable[int], side: int) -> list[int]:
    """Return the sizes of the groups of pictures that `instant` paints at once.

    The first size is 1, for calls of `instant` that paint a single picture.

    Args:
      batches: for each planned call of `instant` that paints several pictures, their number.
      side: side of the bucket (a square array) in px.
    """
    return list(dict.fromkeys((1, *(size_of_groups(count, (side, side)) for count in batches))))


class Wanted(NamedTuple):
    """A plan, whose programs are to be compiled by painting grey pictures."""

    plan: Plan  # with few updates, at least one at each resolution: enough to compile all programs
    # Number of pictures that `batch` paints at once; None: one picture, painted by `stylize`.
    at_once: int | None


def wanted_of(square: Square) -> list[Wanted]:
    """Return plans for a bucket: one for a single picture, and one for each size of group in `batch`.

    A group has the pictures that the command `batch` paints at once.

    Raises:
      ValueError: if the recipe cannot be painted in a bucket with the same result as without one, if
        the recipe's pictures are larger than this bucket, or if there is too little memory.
    """
    recipe, side = _of_few_updates(square.recipe, square.side), square.side
    scales = run_scales.scales_of((side, side), [(side, side)] * _styles_of(recipe), recipe)
    try:
        buckets.check_run_in_bucket(recipe, scales)
    except ValueError as error:
        reason = str(error).removeprefix("`bucket`: ").removesuffix('; use "off"')
        raise ValueError(
            f"`recipe`: pictures of several shapes cannot share programs of {recipe.name!r}, so none "
            f"can be compiled before there are pictures: {reason}; choose another recipe"
        ) from error
    return [
        Wanted(plan_in_square(recipe, scales, side, pictures=count or 1), count)
        for count in (None, *sizes_of_batches(square.batches, side))
    ]


def _of_few_updates(recipe: Recipe, side: int) -> Recipe:
    """Return the recipe with the least number of updates that still compiles all its programs.

    The programs do not depend on the number of updates, so few updates are enough, and save time. But
    there must be at least one at each scale (resolution level), and the scales must stay the same: with
    very few updates, some recipes leave out scales.
    """
    styles = [(side, side)] * _styles_of(recipe)
    whole = run_scales.scales_of((side, side), styles, recipe)
    shapes = [scale.shape for scale in whole]
    for steps in range(len(shapes), sum(scale.steps for scale in whole)):
        few = recipe.replace(steps=steps)
        scales = run_scales.scales_of((side, side), styles, few)
        if [scale.shape for scale in scales] == shapes and all(scale.steps for scale in scales):
            return few
    return recipe


def _styles_of(recipe: Recipe) -> int:
    """Return the number of style pictures that a recipe needs."""
    return len(recipe.terms.style_shares) + len(recipe.terms.tap_styles)


# --- Compiling ------------------------------------------------------------------------------------


def compile_runs(
    params: Params, wanted: Sequence[Wanted], display: Display, *, init: Any = None
) -> None:
    """Compile programs by painting grey pictures, and store the programs in the cache on disk.

    Args:
      params: the weights.
      wanted: the plans whose programs are compiled, from `wanted_of`. Each says how many pictures are
        painted at once, or that one is painted as by `stylize`.
      display: where progress is shown.
      init: the start (initial picture) that `--init` names; None for the start of each plan's recipe.
    """
    for plan, at_once in wanted:
        begun = time.perf_counter()
        with CompileClock() as compiling:
            if at_once is None:
                _paint_one(params, plan, init, compiling, display)
            else:
                _paint_together(params, plan, init)
        start = plan.recipe.pictures.start if init is None else init
        # With the start `Instant`, a feed-forward network paints the initial picture, and needs the
        # style as a vector. The programs that compute this vector are compiled here.
        if isinstance(start, Instant):
            side = buckets.rounded_up(max(plan.scales[0].shape))
            _grey_pictures(instant_painter.InstantPainter(bucket=side), None)
        side, many = max(plan.scales[-1].shape), f"{at_once} at once"
        what = "one picture" if at_once is None else many
        seconds = duration(time.perf_counter() - begun)
        display.say(f"{plan.recipe.name}, {side} px, {what}: ready after {seconds}")


def _paint_one(
    params: Params, plan: Plan, init: Any, compiling: CompileClock, display: Display
) -> None:
    """Paint a grey picture as `stylize` does; this compiles and stores the programs of `stylize`."""
    styles = [_grey(plan)] * _styles_of(plan.recipe)
    with Ahead(compiling) as ahead:
        shots = planned_painting.paint_planned(
            params,
            _grey(plan),
            styles,
            plan,
            init=init,
            key=jax.random.key(0),
            every=repeat(1),
            programs=programs.kept_in(cache.programs_folder(), display.say),
            begin=ahead.begin,
            watch=PollingWatch(),
        )
        for shot in shots:
            np.asarray(shot.image)


def _paint_together(params: Params, plan: Plan, init: Any) -> None:
    """Paint grey pictures together as `batch` does; this compiles and stores the programs of `batch`.

    The number of grey pictures is `plan.pictures`.
    """
    start = same_start(plan.recipe.pictures.start if init is None else init, 0)
    members = members_of(
        [_grey(plan)] * plan.pictures,
        [[_grey(plan)] * _styles_of(plan.recipe)],
        plan.recipe,
        init=start,
        given=BatchControls(),
        on_host=True,
        side=max(plan.scales[-1].shape),
    )
    compiled = programs.batch_kept_in(cache.programs_folder())
    paint_batch(
        params,
        [(plan, members)],
        init=start,
        intervals=intervals_of(repeat(1)),
        watch=PollingWatch(),
        programs=compiled,
    )
    none_varies = (False,) * len(jax.tree.leaves(plan.requested))
    sizes = KeptPrograms(plan.scales, plan.pictures, exact=False)
    kept_groups.record_group(sizes, plan.requested, none_varies, compiled)


def _grey(plan: Plan) -> np.ndarray:
    """Return a grey picture [h, w, 3] that fills the bucket (array) for which the plan was made."""
    return np.full((*plan.scales[-1].shape, 3), 0.5, np.float32)


def compile_instant(
    squares: Mapping[int, Sequence[int]],
    precision: Precision,
    style_size: Size,
    recipe: Recipe,
    display: Display,
) -> None:
    """Compile and store `instant`'s programs for buckets (square arrays), by painting grey pictures.

    The network `arbitrary` gets the style as a vector. To compute this vector, the style picture is put
    into a square array, and each size of this array needs a program of its own. The programs for style
    pictures with an aspect ratio of 1:1 and of 2:1 are compiled here. If the recipe's `colors` need no
    style picture, the programs of the network that has learned 26 styles are compiled as well.

    Args:
      squares: side of each bucket, in px -> the numbers of pictures that are painted at once. A program
        is compiled for each of these numbers.
      precision: how precisely products and activations are computed.
      style_size: size of style pictures, as after `--style-size`.
      recipe: a recipe, of which only `colors` and `realism` are used. They say how the colours and the
        edges of a painted picture are changed.
      display: where progress is shown.
    """
    compiled = programs.instant_kept_in(cache.programs_folder(), display.say)
    for side, counts in squares.items():
        painter = instant_painter.InstantPainter(
            precision=precision, programs=compiled, bucket=side
        )
        pictures = _grey_pictures(painter, style_size)
        content = np.full((side, side, 3), 0.5, np.float32)
        named = [style_names.NAMES[0]] if recipe.pictures.colors in WITHOUT_PICTURE else []
        for given in (*pictures, *named):
            begun = time.perf_counter()
            style = given_styles.parsed_style("style", given, None, "as-is", on_host=True)
            request, finish = instant_controls.controlled_request(painter, content, style, recipe)
            for count in counts:
                finish(painter.paint([request] * count)[0])
            seconds = duration(time.perf_counter() - begun)
            what = f"{' and '.join(map(str, counts))} at once"
            display.say(
                f"instant, {request.network.name}, {side} px, {what}: ready after {seconds}"
            )


def _grey_pictures(painter: instant_painter.InstantPainter, style_size: Size) -> list[np.ndarray]:
    """Compile the programs for style vectors by running them on two grey pictures.

    The result is these two pictures.
    """
    rule = given_styles.style_rule(style_size)
    pictures = [np.full((*rule.shape(*shape), 3), 0.5, np.float32) for shape in _STYLES]
    for picture in pictures:
        painter.vector(picture)
    return pictures
