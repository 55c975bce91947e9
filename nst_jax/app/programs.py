"""The functions that each command compiles, those that are slow to trace as `kept_function.Kept`."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from nst_jax import batch_programs, canvas, descent, dreaming, optimize
from nst_jax.app.cache import programs_folder
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.kept_function import Kept, Say
from nst_jax.app.program_keys import has_sources, surrounded_key
from nst_jax.correspondence import measure_styles
from nst_jax.dreams.ascent import ascend
from nst_jax.feed_forward import arbitrary, instant_painter, johnson, styles26
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import AnyMesh
from nst_jax.style_statistics import add_style_tile, sum_style
from nst_jax.targets import measure_content
from nst_jax.vgg.precision import DEFAULT_DEVICE, default_platform


def kept_in(place: Path | None, say: Say = lambda line: None) -> canvas.Programs:
    """Return the functions that are compiled to paint one picture, as by `stylize`.

    For those that are slow to trace, the traced programs are stored on disk.

    Args:
      place: the folder for traced programs. Nothing is stored if `place` is None, or if this package is
        imported from an archive, in which its source files cannot be hashed.
      say: called with a line of text for each stored program that is damaged.

    Returns:
      A named tuple like `canvas.PROGRAMS`, whose functions return the same results.
    """
    if place is None or not has_sources():
        return canvas.PROGRAMS
    measuring = canvas.PROGRAMS.measuring._replace(
        measure_content=Kept(measure_content, place, static=("held",), say=say),
        sum_style=Kept(sum_style, place, say=say),
        add_style_tile=Kept(add_style_tile, place, say=say),
        measure_styles=Kept(measure_styles, place, say=say),
    )
    run = Kept(optimize.run, place, large=True, say=say, donated=1)
    match = Kept(optimize.match, place, static=("first",), say=say)
    return canvas.PROGRAMS._replace(
        measuring=measuring, run=run, match=match, load_ahead=partial(_load_ahead, run)
    )


def _load_ahead(
    run: "Kept", plan: Plan, scale: int, controlled: bool, begin: descent.Begin
) -> None:
    """Begin to load the loop of updates that an earlier start of such a run has stored.

    This is done on a CPU only. On an accelerator, `SingleCanvas.begin_first` does it, or the loop is
    loaded when it is first called.

    Args:
      run: the loop of updates.
      plan: the plan of the run.
      scale: index of the scale (resolution) at which the run begins; not checked yet if it is that of a
        checkpoint.
      controlled: whether the run has regions, or protected or transparent parts.
      begin: starts the loading, possibly in another thread.
    """
    # A thread that loads a program does not know of a default device that another thread has chosen.
    chosen = getattr(jax.config, DEFAULT_DEVICE)
    here = plan.mesh is None and chosen is None and default_platform() == "cpu"
    recipe, sizes = plan.recipe.bare(), [each._replace(steps=0) for each in plan.scales]
    name = surrounded_key(recipe, scale, sizes, plan.in_bucket, controlled) if here else None

    def records() -> Any:
        image = jax.ShapeDtypeStruct((*plan.scales[-1].shape, 3), "float32")
        return jax.eval_shape(lambda image: optimize.init(image, recipe), image)

    run.load_ahead(name, records, begin)


def batch_kept_in(place: Path | None, say: Say = lambda line: None) -> batch_programs.BatchPrograms:
    """Return the functions that `batch` and `sweep` compile.

    For those that are slow to trace, the traced programs are stored on disk. The arguments are those of
    `kept_in`, which does the same for runs of `stylize`.
    """
    if place is None or not has_sources():
        return batch_programs.PROGRAMS
    return batch_programs.PROGRAMS._replace(
        measuring=kept_in(place, say).measuring,
        run=Kept(
            batch_programs.run_many,
            place,
            static=("axes", "mesh"),
            large=True,
            say=say,
            donated=1,
        ),
        match=Kept(batch_programs.match_many, place, static=("first", "axes", "mesh"), say=say),
    )


class Compiled(NamedTuple):
    """How the programs of a batch are compiled: arguments of `planned_batches.paint_batch`."""

    # The functions that are compiled; None: those of `batch_programs`, which are not stored on disk.
    programs: batch_programs.BatchPrograms | None = None
    # Starts work, such as compiling for the next scale (resolution level), in another thread; None:
    # each program is compiled when it is first needed, by the thread that paints.
    begin: descent.Begin | None = None


def compiled_of_batch(mesh: AnyMesh | None, ahead: Ahead, say: Say) -> Compiled:
    """Return how `batch` and `sweep` compile their programs.

    Traced programs are stored on disk. While the pictures are painted at one scale (resolution level),
    a second thread prepares the next scale: it computes the targets of the losses, and compiles the
    programs.

    Args:
      mesh: the devices that share the batch; None for one device. With several devices, nothing is done
        in a second thread: all devices must start the same programs in the same order, which two
        threads do not guarantee.
      ahead: the second thread.
      say: called with a line of text for each stored program that is damaged.
    """
    kept = batch_kept_in(programs_folder(), say)
    return Compiled(kept, ahead.begin if mesh is None else None)


def instant_kept_in(
    place: Path | None, say: Say = lambda line: None
) -> instant_painter.InstantPrograms:
    """Return the functions that `instant` compiles, with traced programs stored on disk.

    The arguments are those of `kept_in`, which does the same for runs of `stylize`.
    """
    if place is None or not has_sources():
        return instant_painter.PROGRAMS
    kept = partial(Kept, place=place, static=("precision",), say=say)
    return instant_painter.InstantPrograms(
        kept(arbitrary.style_vector),
        kept(arbitrary.stylize_with),
        kept(styles26.stylize_mixture),
        kept(johnson.stylize_trained),
    )


def kept_dream_in(place: Path | None, say: Say = lambda line: None) -> dreaming.DreamPrograms:
    """Return the functions that `dream` compiles.

    For those that are slow to trace, the traced programs are stored on disk.

    Args:
      place: the folder for traced programs. Nothing is stored if `place` is None, or if this package is
        imported from an archive, in which its source files cannot be hashed.
      say: called with a line of text for each stored program that is damaged.
    """
    if place is None or not has_sources():
        return dreaming.PROGRAMS
    return dreaming.PROGRAMS._replace(
        measuring=kept_in(place, say).measuring,
        ascend=Kept(ascend, place, large=True, say=say, donated=1),
    )


def files_in_use(compiled: batch_programs.BatchPrograms) -> frozenset[str] | None:
    """Return the files of those programs of a batch that ran since the last call of this function.

    `app.batch.kept_groups` records these files together with the group of pictures that was painted.

    Args:
      compiled: the programs, from `batch_kept_in`.

    Returns:
      Names of files, relative to the folder of JAX's cache. Only programs that `Kept` wraps are
      considered. None if there are no such programs, or if one that was called is not stored on disk.
    """
    if not isinstance(compiled.run, Kept):
        return None
    found = [
        program.files_in_use()
        for program in (compiled.run, compiled.match, *compiled.measuring)
        if isinstance(program, Kept)
    ]
    return None if None in found else frozenset().union(*filter(None, found))
