"""The command `warm`: compile the programs of later commands, and store them in the cache on disk.

A bucket is a square array. Pictures of all shapes up to its side lie in it, and are painted by the same
programs; see `nst_jax.scaling.buckets`. The programs for a recipe and a bucket serve every picture that
a later command paints by this recipe in a bucket of this side.
"""

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import planned_painting, prepare
from nst_jax._types import Params, Shape
from nst_jax.app import cache, programs
from nst_jax.app.batch import groups, kept_groups
from nst_jax.app.batch.group_painting import plan_group
from nst_jax.app.batch.job import BatchJob
from nst_jax.app.cache import TRACED
from nst_jax.app.formatting import duration
from nst_jax.app.instant.painting import size_of_groups
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import PollingWatch
from nst_jax.batch_members import members_of
from nst_jax.batches import paint_batch
from nst_jax.controls.given import BatchControls
from nst_jax.descent import intervals_of
from nst_jax.feed_forward import (
    given_styles,
    instant_controls,
    instant_painter,
    style_names,
)
from nst_jax.feed_forward.instant_controls import WITHOUT_PICTURE
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.recipes.starts import Instant, same_start
from nst_jax.scaling import buckets
from nst_jax.scaling.bucket_choice import KeptPrograms, even_groups
from nst_jax.scaling.capacity import platform_of
from nst_jax.scaling.plan import Plan, plan_in_square
from nst_jax.vgg.precision import Precision

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
    """Return the side, in px, of the bucket: a square array for every picture that a recipe paints.

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
    longest = {max(prepare.scales_of(shape, styles, recipe)[-1].shape) for shape in _TRIED}
    return _rounded(longest, recipe.pictures.size)


def side_of_instant(size: str | None, bucket: int | None = None) -> int:
    """Return the side of the bucket (a square array) for all pictures that `instant` paints, in px.

    Args:
      size: the size of the pictures, as after `--size`; None is that of the recipe `default`.
      bucket: the side that the user names; None: the longer side, rounded up to a multiple of 16 px.

    Raises:
      ValueError: if `bucket` is None, and the longer side depends on the shape of the picture; or if
        the longer side is the same for all shapes, and is longer than `bucket`.

    Example:
      >>> side_of_instant("250")
      256
    """
    rule = given_styles.content_rule(size)
    longest = {max(given_styles.shape_by(rule, shape, argument="content")) for shape in _TRIED}
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
    scales = prepare.scales_of((side, side), [(side, side)] * _styles_of(recipe), recipe)
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
    shapes = [scale.shape for scale in prepare.scales_of((side, side), styles, recipe)]
    for steps in range(len(shapes), int(recipe.descent.steps)):
        few = recipe.replace(steps=steps)
        scales = prepare.scales_of((side, side), styles, few)
        if [scale.shape for scale in scales] == shapes and all(scale.steps for scale in scales):
            return few
    return recipe


def _styles_of(recipe: Recipe) -> int:
    """Return the number of style pictures that a recipe needs."""
    return len(recipe.terms.style_shares) + len(recipe.terms.tap_styles)


def compile_all(
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
            _grey_vectors(instant_painter.InstantPainter(bucket=side), None)
        side, many = max(plan.scales[-1].shape), f"{at_once} at once"
        what = "one picture" if at_once is None else many
        seconds = duration(time.perf_counter() - begun)
        display.say(f"{plan.recipe.name}, {side} px, {what}: ready after {seconds}")


def _paint_one(
    params: Params, plan: Plan, init: Any, compiling: CompileClock, display: Display
) -> None:
    """Paint a grey picture as `stylize` does; this compiles and stores the programs of `stylize`."""
    styles = [_grey(plan)] * _styles_of(plan.recipe)
    with programs.Ahead(compiling) as ahead:
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

    Their number is `plan.pictures`.
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


def compile_groups(
    params: Params, job: BatchJob, parts: Sequence[groups.Group], display: Display
) -> None:
    """Compile the programs with which a batch will be painted, and store them in the cache on disk.

    To compile the programs, grey pictures of the same sizes are painted with one update at each scale.
    The pictures are not written. Pictures with masks or transparent parts need other programs, which
    are not compiled here.

    Args:
      params: the weights.
      job: the batch.
      parts: the groups of its pictures. The pictures of a group are painted by the same programs.
      display: where progress is shown.
    """
    known: set[Any] = set()
    entries = (entry for group in parts for entry in group.entries)
    sizes = dict.fromkeys(
        (one.fine.seen.shape, one.seen[1].shape, one.scales[-1].style_shapes[0])
        for one in entries
        if one.fine is not None
    )
    for fine, as_read, final in sizes:
        job.fine.compile(params, fine, as_read, final)
    compiled = programs.batch_kept_in(cache.programs_folder(), display.say)
    for group in parts:
        keys = set(groups.programs_of([group], job.chunk, job.mesh))
        if keys <= known:
            continue
        known |= keys
        begun = time.perf_counter()
        plan = plan_group(group, job)
        plan = replace(plan, scales=tuple(one._replace(steps=1) for one in plan.scales))
        start = same_start(plan.recipe.pictures.start if job.init is None else job.init, 0)
        members = members_of(
            [_grey_of(entry.seen[0].shape) for entry in group.entries],
            [_greys_of_styles(entry) for entry in group.entries],
            plan.recipe,
            init=start,
            given=BatchControls(),
            on_host=plan.in_bucket,
            side=max(plan.scales[-1].shape),
            style_originals=[
                [seen.shape for seen in entry.seen[1 : 1 + len(entry.styles)]]
                for entry in group.entries
            ],
        )
        # `files_in_use` returns the files used since its last call. It is called here only to begin
        # anew, so that `record_group` below gets the files of this group alone.
        programs.files_in_use(compiled)
        paint_batch(
            params,
            [(plan, members)],
            init=start,
            intervals=intervals_of(repeat(1)),
            watch=PollingWatch(),
            programs=compiled,
        )
        if (first := group.entries[0]).controls is None:
            kept_groups.record_group(
                group.programs,
                first.recipe,
                group.varying,
                compiled,
                chunk=job.chunk,
                mesh=job.mesh,
            )
        words = f"{px(plan.scales[-1].shape)}, {len(members)} at once"
        display.say(f"{words}: ready after {duration(time.perf_counter() - begun)}")


def _greys_of_styles(entry: groups.Entry) -> list[np.ndarray]:
    """Return a grey picture for each style of a row (a picture of a batch), of the style's own size.

    The grey pictures take the place of the styles, since compiled programs depend only on sizes. A
    style that gets the fine structure of another picture (`--style-fine`) is made at its final size, so
    its grey picture has that size.
    """
    shapes = [seen.shape for seen in entry.seen[1 : 1 + len(entry.styles)]]
    if entry.fine is not None:
        shapes[0] = entry.scales[-1].style_shapes[0]
    return [_grey_of(shape) for shape in shapes]


def _grey_of(shape: Shape) -> np.ndarray:
    return np.full((*shape, 3), 0.5, np.float32)


def _grey(plan: Plan) -> np.ndarray:
    """Return a grey picture [h, w, 3] that fills the bucket (array) for which the plan was made."""
    return _grey_of(plan.scales[-1].shape)


def compile_instant(
    squares: Mapping[int, Sequence[int]],
    precision: Precision,
    style_size: Size,
    recipe: Recipe,
    display: Display,
) -> None:
    """Compile and store `instant`'s programs for buckets (square arrays), by painting grey pictures.

    The network is told the style by a style vector. To compute this vector, the style picture is put
    into a square array, and each size of this array needs a program of its own. The programs for style
    pictures with an aspect ratio of 1:1 and of 2:1 are compiled here.

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
        pictures = _grey_vectors(painter, style_size)
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


def _grey_vectors(painter: instant_painter.InstantPainter, style_size: Size) -> list[np.ndarray]:
    """Compile the programs for style vectors by running them on two grey pictures; return both."""
    rule = given_styles.style_rule(style_size)
    pictures = [np.full((*rule.shape(*shape), 3), 0.5, np.float32) for shape in _STYLES]
    for picture in pictures:
        painter.vector(picture)
    return pictures


def kept(folder: Path) -> tuple[int, int]:
    """Return the number of files with compiled or traced programs in a folder, and their total bytes.

    Args:
      folder: the folder of JAX's compilation cache; its subfolder `TRACED` has the traced programs.
    """
    sizes = []
    for path in (*folder.glob("*-cache"), *(folder / TRACED).glob("*-*")):
        with suppress(OSError):  # another process may delete files at any time
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)
