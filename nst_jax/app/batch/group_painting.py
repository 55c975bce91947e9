"""One group of a batch: its files read, its pictures painted together, and each of them written.

A row is one picture of the batch. An `Entry` is a row whose input files were inspected, but not read
yet. A `Group` has the entries that are painted together. A `Record` says how a row ended.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from nst_jax import _files, images, provenance
from nst_jax._types import Params, Shape
from nst_jax.app.batch import groups, kept_groups, results
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.groups import Group
from nst_jax.app.batch.job import BatchJob, record_of, requested_settings
from nst_jax.app.batch.results import Record
from nst_jax.app.controls import ReadControls, read_controls, why_transparent_counts
from nst_jax.app.messages import as_flags
from nst_jax.app.programs import Compiled, files_in_use
from nst_jax.app.progress import BatchProgress, divergence, stalled
from nst_jax.app.textures import blank_picture
from nst_jax.app.watch import PollingWatch
from nst_jax.app.writing import dpi_of, resized_alpha, where_instead, write_picture
from nst_jax.batch_members import members_of
from nst_jax.control_checks import notes_on_regions
from nst_jax.controls.given import BatchControls
from nst_jax.descent import Rest, intervals_of, remedy_at_rest, updates_of_broken
from nst_jax.planned_batches import PaintedBatch, paint_batch
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import style_shapes_of_all
from nst_jax.scaling import buckets
from nst_jax.scaling.bucket_plans import plan_bucket
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.weights.params import WeightsInfo

# The default of the argument `compiled` of `paint_group`: no traced programs are stored on disk, and
# each program is compiled when it is first needed.
PLAINLY = Compiled()


class Loaded(NamedTuple):
    """A picture to paint (`entry`), and what was read from its files.

    For a texture, `content` is a grey picture. `controls` has the regions, each with its mask and its
    style, and the protected part, which stays as in the content. `fine` is the picture whose fine
    structure the first style gets; None leaves the style as it is.
    """

    entry: Entry
    content: images.Picture
    styles: tuple[images.Picture, ...]
    controls: ReadControls = ReadControls()
    fine: images.Picture | None = None


class PaintedPicture(NamedTuple):
    """A picture that has been painted but not written yet."""

    loaded: Loaded
    image: Any  # [h, w, 3] in [0, 1]
    losses: dict[str, Any] | None  # losses of `image` by name; None if painting diverged
    # Number of updates after which the losses, or their gradient, were found not to be finite; None if
    # all were finite.
    broke_at: int | None
    stalled: bool  # whether no update changed the losses of the picture
    rest: Rest | None  # when the loss stopped changing while still high; None if it did not
    # Duration of painting the picture's group, divided by the number of pictures in the group.
    seconds: float


def plan_group(group: Group, job: BatchJob) -> Plan:
    """Choose the tile size, and how many pictures of a group are painted at once, to fit in memory."""
    entries, scales = group.entries, group.scales
    recipe = groups.joint_recipe(entries, group.varying)
    options: dict[str, Any] = {"mesh": job.mesh, "pictures": len(entries), "chunk": job.chunk}
    if group.arrays is not None:
        return plan_bucket(recipe, scales, **options)
    # The pictures' styles may differ in shape, and the plan's memory must be enough for all of them. So
    # the plan gets all these shapes. This is not needed with a style loss that compares single feature
    # vectors (`terms.matched`): then all pictures of a group have styles of the same shapes.
    if not recipe.terms.matched:
        shapes = style_shapes_of_all([entry.scales for entry in entries])
        scales = (*scales[:-1], scales[-1]._replace(style_shapes=shapes))
    return plan_scales(recipe, scales, **options)


def read_group(
    group: Group, known: dict[Path, images.Picture]
) -> tuple[list[Loaded], list[Record]]:
    """Read the input files of a group's pictures.

    If several pictures use the same file, be it a content, a style or a mask, it is read only once.

    Args:
      group: the group.
      known: the pictures of the group that was read before, by their paths, so that they need not be
        read again. They are replaced by those of this group, so that no more is kept in memory.

    Returns:
      A `Loaded` for each picture whose files could be read, and a `Record` with the status "failed" for
      each other picture.
    """
    used: dict[Path, images.Picture] = {}

    def read_once(path: Path, *, argument: str) -> images.Picture:
        if path not in used:
            found = known.get(path)
            used[path] = images.read(path, argument=argument) if found is None else found
        return used[path]

    # Grey pictures by (height, width). A texture has no content; a grey picture takes its place.
    blanks: dict[Shape, images.Picture] = {}
    loaded, failed = [], []
    for entry in group.entries:
        try:
            named = [("style", path) for path in entry.styles]
            glances = list(entry.seen)
            if entry.content is not None:
                named.insert(0, ("content", entry.content))
            if entry.fine is not None:
                named.append(("style_fine", entry.fine.path))
                glances.append(entry.fine.seen)
            read = [read_once(path, argument=role) for role, path in named]
            if entry.content is None:
                shape = glances[0].shape
                if shape not in blanks:
                    blanks[shape] = blank_picture(shape)
                read.insert(0, blanks[shape])
            for picture, glance in zip(read, glances, strict=True):
                _check_unchanged(picture, glance)
            fine = None if entry.fine is None else read.pop()
            content, *styles = read
            controls = ReadControls()
            if entry.controls is not None:
                controls = read_controls(entry.controls, styles, read=read_once)
                for role, picture in controls.files.items():
                    _check_unchanged(picture, entry.masked[role])
        except (ValueError, OSError, MemoryError) as error:
            failed.append(record_of(entry, "failed", results.message_of(error)))
        else:
            loaded.append(Loaded(entry, content, tuple(styles), controls, fine))
    known.clear()
    known.update(used)
    return loaded, failed


def _check_unchanged(picture: images.Picture, glance: images.Glance) -> None:
    if picture.digest != glance.digest:
        raise ValueError(f"{picture.name!r} changed since the batch was begun; start it again")


def paint_group(
    params: Params,
    loaded: Sequence[Loaded],
    group: Group,
    job: BatchJob,
    progress: BatchProgress,
    compiled: Compiled = PLAINLY,
) -> tuple[list[PaintedPicture], list[Record]]:
    """Paint a group of pictures together; if that fails, paint each alone, which takes less memory.

    Args:
      params: the weights.
      loaded: the pictures to paint: those of the group whose files could be read.
      group: the whole group, with the sizes of the arrays in which its pictures are painted.
      job: the batch to which the group belongs, with its options.
      progress: shows the progress of the batch; its current group must be this one.
      compiled: how programs are compiled; `PLAINLY` compiles each when it is first needed.

    Returns:
      The painted pictures, and a `Record` of each picture that failed.
    """
    if not loaded:
        return [], []
    # The same group, with its pictures in arrays of their own sizes, not in larger ones (a bucket). It
    # is used if painting fails in a bucket that was chosen only to save time.
    alone = group._replace(arrays=None)
    by_cost = job.bucket == buckets.AUTO and group.arrays is not None
    begun = time.perf_counter()
    if compiled.programs is not None:
        # `files_in_use` returns the program files used since its last call. This call discards those of
        # earlier groups, so that `_record` gets the files of this group alone.
        files_in_use(compiled.programs)
    try:
        # How to paint the group in the available memory is decided only now. Its pictures have been
        # read, so the memory that they take no longer counts as available.
        plan = plan_group(group._replace(entries=tuple(one.entry for one in loaded)), job)
        found = _paint_together(params, loaded, plan, job, progress, compiled)
    except Exception as error:
        if len(loaded) == 1 and not by_cost:
            return [], [record_of(loaded[0].entry, "failed", results.message_of(error))]
        # The group may have failed for lack of memory. So each picture is painted again, alone: that
        # takes less memory. It then lies in an array of its own size if a bucket (a larger array) was
        # only chosen to save time.
        if by_cost:
            progress.say(
                "note: pictures padded to one size by `--bucket auto` could not be painted together, "
                f"so each is painted alone: {results.message_of(error)}"
            )
        how = alone if by_cost else group
        return _joined([paint_group(params, [one], how, job, progress, compiled) for one in loaded])
    _record(loaded, group, job, compiled)
    seconds = (time.perf_counter() - begun) / len(loaded)
    canvases = []
    for index, one in enumerate(loaded):
        broke_at = found.broken.get(index)
        losses = None if broke_at is not None else provenance.of_losses(found.losses[index])
        stalled = index in found.stalled
        canvases.append(
            PaintedPicture(
                one,
                found.images[index],
                losses,
                broke_at,
                stalled,
                found.resting.get(index),
                seconds,
            )
        )
    return canvases, []


def _record(loaded: Sequence[Loaded], group: Group, job: BatchJob, compiled: Compiled) -> None:
    """Record that the programs of a painted group are kept on disk, unless the group has masks.

    A later batch reads the record when it chooses buckets (arrays in which pictures of several shapes
    lie): groups whose programs are kept need no compilation. Regions, protected parts and transparent
    parts are masks. Pictures with masks are painted by other programs, which such a record does not
    describe.
    """
    transparent = any(
        picture.alpha is not None for one in loaded for picture in (one.content, *one.styles)
    )
    entries = tuple(one.entry for one in loaded)
    if compiled.programs is None or transparent or entries[0].controls is not None:
        return
    kept_groups.record_group(
        group._replace(entries=entries).programs,
        entries[0].recipe,
        group.varying,
        compiled.programs,
        chunk=job.chunk,
        mesh=job.mesh,
    )


def _joined(
    parts: Sequence[tuple[list[PaintedPicture], list[Record]]],
) -> tuple[list[PaintedPicture], list[Record]]:
    return [c for some, _ in parts for c in some], [r for _, some in parts for r in some]


def _paint_together(
    params: Params,
    loaded: Sequence[Loaded],
    plan: Plan,
    job: BatchJob,
    progress: BatchProgress,
    compiled: Compiled,
) -> PaintedBatch:
    start = plan.recipe.pictures.start if job.init is None else job.init
    contents, styles = _pictures(loaded, _first_styles(params, loaded, job, progress))
    # A picture with regions or protected parts is always alone in its group. In a group of several
    # pictures, none has any. So the controls of the first picture are those of the whole group.
    controls = loaded[0].controls
    opacity, style_opacity = _opacities(loaded, len(contents), len(styles), plan.recipe)
    members = members_of(
        contents,
        styles,
        plan.recipe,
        init=start,
        given=BatchControls(controls.regions or None, controls.protect, opacity, style_opacity),
        on_host=plan.in_bucket,
        side=max(plan.scales[-1].shape),
        style_originals=[
            [style.image.shape[:2] for style in one.styles] for one in loaded[: len(styles)]
        ],
    )
    # Pictures of equal seeds start from the same noise, whatever their places in the batch.
    seeds = [job.seed_of(one.entry) for one in loaded]
    keys = {seed: jax.random.key(seed) for seed in seeds}
    members = [one._replace(key=keys[seeds[one.place]]) for one in members]
    for member in members:
        # `notes_on_regions` is also a check: it raises ValueError if a region (a part of the picture
        # with a style of its own), or what is left of a picture without its transparent and protected
        # parts, is empty at every layer that the style loss reads.
        for note in notes_on_regions(member.prepared, plan.recipe):
            name = loaded[member.place].entry.output.name
            progress.say(f"note: {name}: {as_flags(note)}")
    return paint_batch(
        params,
        [(plan, members)],
        init=start,
        intervals=intervals_of(progress),
        progress=progress.report,
        watch=PollingWatch(),
        **compiled._asdict(),
    )


def _first_styles(
    params: Params, loaded: Sequence[Loaded], job: BatchJob, progress: BatchProgress
) -> list[Any]:
    """Return each picture's first style, with the fine structure of `Loaded.fine` if there is one."""
    found = []
    for one in loaded:
        style, shape = one.styles[0], one.entry.scales[-1].style_shapes[0]
        if one.fine is None:
            found.append(style.image)
        else:
            found.append(job.fine.combined(params, one.fine, style, shape, progress.say))
    return found


def _opacities(
    loaded: Sequence[Loaded], contents: int, styles: int, recipe: Recipe
) -> tuple[list[Any] | None, list[Any] | None]:
    """Return a list of the opacities of the contents, and a list of the opacities of the styles.

    An opacity is an array [h, w] from 0 to 1, or None for an opaque picture. Since each item in the
    list of styles may be a blend of several styles, the second list has a list of opacities for each
    item. Each of these two results is None instead of a list if all its pictures are opaque. If the
    losses of the recipe cannot leave out transparent parts, both results are None, and transparent
    parts count as white.

    Args:
      loaded: the pictures to paint, with what was read from their files.
      contents: number of contents that `_pictures` returns.
      styles: number of items in the list of styles that `_pictures` returns.
      recipe: the recipe of the group.
    """
    if why_transparent_counts(recipe):
        return None, None
    of_contents = [one.content.alpha for one in loaded][:contents]
    of_styles = [[style.alpha for style in one.styles] for one in loaded][:styles]
    transparent = any(alpha is not None for some in of_styles for alpha in some)
    return (
        None if all(alpha is None for alpha in of_contents) else of_contents,
        of_styles if transparent else None,
    )


def _pictures(loaded: Sequence[Loaded], first_styles: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the list of contents and the list of styles, with an item for each picture to paint.

    There are two exceptions. If all pictures have the same styles, the list of styles has a single
    item. If not, but all have the same content, the list of contents has a single item. In both cases,
    `members_of` uses the single item for all pictures, and its features are computed only once.

    Args:
      loaded: the pictures to paint, with what was read from their files.
      first_styles: the first style of each picture. Pictures whose first styles are equal have the
        same array object here, since equal styles are recognised by the `id` of their arrays.
    """
    contents = [one.content.image for one in loaded]
    styles = [
        [first, *(style.image for style in one.styles[1:])]
        for first, one in zip(first_styles, loaded, strict=True)
    ]
    if len({(one.entry.styles, id(own[0])) for one, own in zip(loaded, styles, strict=True)}) == 1:
        return contents, styles[:1]
    if len({(one.entry.content, one.content.digest) for one in loaded}) == 1:
        return contents[:1], styles
    return contents, styles


def write(canvas: PaintedPicture, job: BatchJob, weights: WeightsInfo) -> Record:
    """Write a painted picture to its file; return a `Record` of how its row of the batch ended.

    If already the losses of the first canvas are not finite, nothing is written, as in `stylize`.
    """
    entry, content, broke_at = canvas.loaded.entry, canvas.loaded.content, canvas.broke_at
    seconds = round(canvas.seconds, 3)
    if broke_at == 0:
        return record_of(entry, "failed", divergence(0, entry.recipe), seconds=seconds)
    metadata = requested_settings(entry, job, weights)
    # A later run recognises a finished picture by the values of `requested_settings`. `strength` is not
    # one of them, because pictures of earlier versions lack it and would not be recognised. So it is
    # added here. The settings that the strength has changed in the recipe are among the values.
    metadata |= provenance.strength_facts(entry.strength)
    metadata |= {
        "device": provenance.device(),
        "versions": provenance.versions(),
        "steps_done": metadata["steps"]
        if broke_at is None
        else updates_of_broken(broke_at, entry.scales),
        "finished": broke_at is None and not canvas.stalled,
    }
    if canvas.losses is not None:
        metadata["losses"] = canvas.losses
    options: dict[str, Any] = {"metadata": metadata if job.metadata else None}
    try:
        options["alpha"] = resized_alpha(content.alpha, canvas.image)
        options["dpi"] = dpi_of(entry.recipe.pictures.size, content.dpi)
        _make_folder_of(entry.output)
        overwrite = job.overwrite is not False
        write_picture(entry.output, canvas.image, **options, overwrite=overwrite)
    except (ValueError, OSError, MemoryError) as error:
        instead = where_instead(entry.output, canvas.image, "the picture", **options)
        return record_of(entry, "failed", f"{results.message_of(error)}{instead}")
    status, why = "done", None
    if broke_at is not None:
        status, why = "diverged", divergence(broke_at, entry.recipe)
    if canvas.stalled:
        status, why = "stalled", stalled(entry.recipe)
    if status == "done" and canvas.rest is not None:
        remedy = remedy_at_rest(entry.recipe)
        why = as_flags(f"{canvas.rest.words}, so it is hardly painted: try {remedy}")
    return record_of(entry, status, why, seconds=seconds, losses=canvas.losses)


def _make_folder_of(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write '{output}': {_files.reason_of(error)}") from error
