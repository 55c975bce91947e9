"""The job of a batch (its checked inputs and options), and how it is made from the batch's rows.

A row is one picture to paint, as the command line or a manifest (a table of rows) describes it. It
becomes a `Draft` when its recipe and result path are known, and an `Entry` when its input files have
been inspected. A record says whether a row was painted, or why not; the result manifest is the file of
all records. A shard is a part of the batch that a process of its own paints.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from nst_jax import images, provenance, run_scales, texturing
from nst_jax.app import arguments, control_files, mask_files, outputs
from nst_jax.app import controls as controlling
from nst_jax.app.batch import manifests, results
from nst_jax.app.batch.destinations import check_destinations, destinations, inputs_of
from nst_jax.app.batch.entries import Entry, FineFile, region_styles_of
from nst_jax.app.batch.manifests import ManifestRow
from nst_jax.app.batch.row_recipes import Check, recipes_of
from nst_jax.app.batch.shards import Shard, rows_of_shard
from nst_jax.app.fine_style import ROLE, FineStyles, check_fine_picture, combining_facts
from nst_jax.app.job import Job
from nst_jax.app.textures import blank_glance
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, capacity
from nst_jax.scaling.bucket_plans import plan_bucket
from nst_jax.scaling.plan import plan_scales
from nst_jax.vgg.precision import Auto
from nst_jax.weights.params import WeightsInfo


@dataclass(frozen=True, kw_only=True)
class BatchJob(Job):
    """The checked inputs and options of a batch, which consists of rows: one for each picture to paint.

    Pictures that start from noise have the seed of the command line, and so the same noise, unless
    their rows name another seed.

    Attributes:
      entries: the pictures to paint, in the order of the rows.
      bad: a `Record` with the reason for each row (picture) that cannot be painted.
      folder: folder of the result pictures and of the result manifest, the list of the results.
      shard: the part of the batch to which `entries` and `bad` are limited; None is the whole batch.
      overwrite: what happens if there is a file already where a result belongs. With None, the row is
        skipped if the file is its finished picture, any other picture of this program is replaced, and
        any other file is refused. With False, only the finished picture is accepted, and any other file
        is refused. With True, any file is replaced.
      sheet: path of the contact sheet (one picture that shows all results); None draws no sheet.
      chunk: largest number of pictures painted at once, fewer if so many do not fit into memory. None:
        a whole group (pictures that one compiled program paints together), or as many of its pictures
        as fit.
      bucket: side, in px, of buckets: square arrays in which the pictures lie, so that pictures of
        different sizes share compiled programs. None means no buckets. With "auto", the program chooses
        for each picture a bucket or none, so that the estimated time of the whole batch is least.
      mesh: the devices that share the pictures; None is one device.
      fine: gives a style the fine structure of another picture, for the rows that ask for it.
      in_manifest: whether the rows come from a manifest (a table in a file); if so, messages name its
        columns.
    """

    entries: tuple[Entry, ...]
    bad: tuple[results.Record, ...] = ()
    folder: Path
    shard: Shard | None = None
    overwrite: bool | None = None
    sheet: Path | None = None
    chunk: int | None = None
    bucket: buckets.Chosen = None
    mesh: Mesh | None = None
    fine: FineStyles = field(default_factory=FineStyles)
    in_manifest: bool = False

    @property
    def listing(self) -> Path:
        """Path of the result manifest, the file that records how each picture of the batch ended."""
        return listing_of(self.folder, self.shard)

    def seed_of(self, entry: Entry) -> int:
        """Return the seed of a picture: that of its row, or else that of the job."""
        return self.seed if entry.seed is None else entry.seed

    def resolved(self, platform: str) -> "BatchJob":
        """Return the job with each precision `AUTO` replaced by the one that it means on a platform.

        Args:
          platform: "cpu", "gpu" or "tpu".
        """
        # `id` of a recipe -> the same recipe, resolved. Many entries share a recipe, so each recipe is
        # resolved only once.
        known: dict[int, Recipe] = {}

        def resolved(entry: Entry) -> Entry:
            if not isinstance(entry.recipe.network.precision, Auto):
                return entry
            if id(entry.recipe) not in known:
                known[id(entry.recipe)] = entry.recipe.resolved(platform)
            return entry._replace(recipe=known[id(entry.recipe)], auto_on=platform)

        return replace(self, entries=tuple(map(resolved, self.entries)))


def listing_of(folder: Path, shard: Shard | None) -> Path:
    """Return the path of the result manifest, the file that records how each picture ended.

    Args:
      folder: folder of the results.
      shard: the part of the batch that is painted; None is the whole batch.
    """
    return folder / f"{results.LISTING}{'' if shard is None else shard.ending}.jsonl"


class Draft(NamedTuple):
    """A picture to paint, with its recipe and its result's path; its input files are not opened yet."""

    row: ManifestRow
    recipe: Recipe
    output: Path
    # Strength of the style, from 0 to 1, that the user asked for; None if the user asked for none.
    # `recipe` has already been changed by it.
    strength: float | None = None
    # Size of a texture, in the syntax of `texture --size`. None: the recipe's size rule computes it
    # from the size of the first style.
    size: str | None = None

    @property
    def styles(self) -> tuple[Path, ...]:
        """Paths of all style files: those that are blended, then those for single layers only."""
        return self.row.style_files

    @property
    def number(self) -> int:
        """Number of the picture in the batch, from 1."""
        return self.row.number

    @property
    def content(self) -> Path | None:
        """Path of the content file; None for a texture."""
        return self.row.content


def record_of(
    what: Draft | Entry, status: str, error: str | None = None, **fields: Any
) -> results.Record:
    """Return the `Record` of how a picture of the batch ended.

    Args:
      what: the picture, as it was before its input files were opened (`Draft`) or after (`Entry`).
      status: "done", "skipped", "diverged", "stalled" or "failed".
      error: what went wrong, or None.
      **fields: further fields of `Record`.
    """
    terms, every = what.recipe.terms, list(map(str, what.styles))
    names, shares = terms.blended_styles(every), terms.style_shares
    own = zip(terms.tap_styles, every[len(names) :], strict=True)
    if len(shares) > 1:
        names = [f"{name}:{share:g}" for name, share in zip(names, shares, strict=True)]
    styles = manifests.SEPARATOR.join([*names, *(f"{tap}={name}" for tap, name in own)])
    content = "" if what.content is None else str(what.content)
    files = what.number, content, styles, str(what.output)
    return results.Record(*files, status, error, **fields)


# --- Files ----------------------------------------------------------------------------------------


def inspected(
    drafts: Sequence[Draft], mesh: Mesh | None, *, here: bool, bucket: buckets.Chosen = None
) -> tuple[list[Entry], list[results.Record]]:
    """Read sizes and digests of all input files, and find out which pictures can be painted.

    Args:
      drafts: the pictures of the batch.
      mesh: the devices that paint; None is one device.
      here: whether this process paints the pictures; if so, each must fit into its memory.
      bucket: side, in px, of the buckets (larger arrays in which the pictures lie), "auto", or None for
        no buckets, as in `BatchJob`.

    Returns:
      An `Entry` for each picture that can be painted, and a `Record` for each that cannot. A picture
      cannot be painted, for example, if one of its files is missing or is not a picture, or if its
      result would be too small, too large for the output's format, or too large for memory even in the
      smallest tiles.

    Raises:
      ValueError: if a picture whose files were typed one by one on the command line cannot be painted:
        the user probably mistyped a name, so the batch does not start.
    """
    known: dict[tuple[Path, str], images.Glance | ValueError] = {}

    def glance(path: Path, draft: Draft, argument: str) -> images.Glance:
        # For files that were typed on the command line, messages say `contents` or `styles`, which are
        # the names of the command's arguments.
        argument += "s" if draft.row.typed and argument in manifests.PICTURES else ""
        if (path, argument) not in known:
            try:
                known[path, argument] = images.glance(path, argument=argument)
            except ValueError as error:
                known[path, argument] = error
        found = known[path, argument]
        if isinstance(found, ValueError):
            raise found
        return found

    # Why a picture does not fit into memory; "" if it fits, or if `here` is False, so that nothing is
    # checked. Each key consists of the recipe's structure (a `PyTreeDef`), the sizes of the picture at
    # all scales (resolutions), and whether the picture has no regions and no protected part.
    # Recipes with the same structure differ only in numbers, which do not change the memory, so
    # thousands of pictures may share one check.
    refusals: dict[Any, str] = {}

    def check_memory(entry: Entry) -> None:
        key = jax.tree.structure(entry.recipe), entry.scales, entry.controls is None
        if key not in refusals:
            refusals[key] = _refusal(entry, mesh, bucket) if here else ""
        if refusals[key]:
            raise ValueError(f"{refusals[key]} {_files(entry.content, entry.styles)}")

    entries, bad = [], []
    for draft in drafts:
        row = draft.row
        try:
            seen = [] if row.content is None else [glance(row.content, draft, "content")]
            seen += [glance(path, draft, "style") for path in draft.styles]
            if row.content is None:
                shape = texturing.canvas_shape(draft.size, seen[0].shape, draft.recipe)
                seen.insert(0, blank_glance(shape))
            roles = control_files.roles_of(row.controls)
            masked = {
                role: glance(path, draft, control_files.argument_of(role))
                for role, path in roles.items()
            }
            fine = None
            if row.style_fine is not None:
                fine = FineFile(row.style_fine, glance(row.style_fine, draft, "style_fine"))
            entry = _entry(draft, seen, masked, fine)
            check_memory(entry)
            entries.append(entry)
        except ValueError as error:
            if row.typed:
                raise
            bad.append(record_of(draft, "failed", str(error)))
    return entries, bad


def _files(content: Path | None, styles: Sequence[Path]) -> str:
    """Return the names of a content and its styles in brackets, for the end of a message."""
    listed = " and ".join(f"'{path}'" for path in styles)
    return f"({listed})" if content is None else f"('{content}' with {listed})"


def _refusal(entry: Entry, mesh: Mesh | None, bucket: buckets.Chosen) -> str:
    """Return why a picture does not fit into memory or cannot lie in its bucket; "" if it does and can.

    A bucket is a larger array in which the picture lies, so that several sizes share compiled programs.
    """
    try:
        # With "auto", the program later chooses only buckets that fit into memory, or none. So it is
        # enough to check here that the picture fits without a bucket.
        if bucket is None or bucket == buckets.AUTO:
            plan_scales(entry.recipe, entry.scales, mesh=mesh)
            return ""
        buckets.check_run_in_bucket(entry.recipe, entry.scales)
        (own,) = buckets.buckets_of(bucket, [entry.scales], entry.recipe)
        plan_bucket(entry.recipe, own.scales, mesh=mesh)
    except ValueError as error:
        return str(error)
    return ""


def _entry(
    draft: Draft,
    seen: Sequence[images.Glance],
    masked: Mapping[str, images.Glance],
    fine: FineFile | None,
) -> Entry:
    row, styles, recipe = draft.row, draft.styles, draft.recipe
    if row.content is None:
        recipe = texturing.with_canvas_as_it_is(recipe)
    controlling.check_planned(row.controls, draft.recipe)
    named = {role: (one.name, one.shape) for role, one in masked.items()}
    mask_files.check_masks_of_content(named, (seen[0].name, seen[0].shape))
    mask_files.check_masks_of_styles(named, [(one.name, one.shape) for one in seen[1:]])
    styles_seen = [one.shape for one in seen[1:]]
    others = (
        controlling.shapes_of_region_styles(row.controls, styles_seen)
        if row.region_maps
        else [one.shape for one in region_styles_of(masked)]
    )
    try:
        scales = run_scales.scales_of(
            seen[0].shape,
            styles_seen,
            recipe,
            region_styles=others,
            protected=row.protect is not None,
        )
    except ValueError as error:
        raise ValueError(f"{error} {_files(row.content, styles)}") from None
    images.check_fits(draft.output, scales[-1].shape, argument="output")
    if fine is not None:
        check_fine_picture(fine.seen, seen[1].shape, scales[-1].style_shapes[0])
    return Entry(
        row.number,
        row.content,
        styles,
        draft.output,
        recipe,
        scales,
        tuple(seen),
        controls=row.controls if masked else None,
        masked=masked,
        strength=draft.strength,
        fine=fine,
        seed=row.seed,
    )


# --- The job --------------------------------------------------------------------------------------


def batch_job(
    rows: Sequence[ManifestRow],
    changes: arguments.Changes,
    folder: Path,
    suffix: str,
    *,
    start: Any = None,
    check: Check = lambda recipe, seed: None,
    inputs: Iterable[Path] = (),
    words: Sequence[Path] = (),
    shard: Shard | None = None,
    sheet: bool = False,
    anywhere: bool = False,
    mesh: Mesh | None = None,
    here: bool = True,
    bucket: buckets.Chosen = None,
    **options: Any,
) -> BatchJob:
    """Check the rows and options of a batch, and return them as a `BatchJob`.

    Args:
      rows: the rows, from `nst_jax.app.batch.rows`.
      changes: the flags that change recipes.
      folder: folder of the results; if it does not exist, its parent must.
      suffix: file suffix of the results of rows without an `output`, such as "png".
      start: replaces every recipe's start (initial picture); None keeps the recipes' own starts.
      check: called as `check(recipe, seed)` for each different recipe of the rows: with the seed of one
        of its rows that name a seed, and with None if some of its rows name none. It raises ValueError
        if an option, or the seed, cannot be used with the recipe.
      inputs: files that the batch reads besides those that the rows name. No result may overwrite a
        file that the batch reads.
      words: the contents and styles as typed: files, folders and globs. No result may be found by them.
      shard: the part of the batch that this process paints; None is the whole batch.
      sheet: whether a contact sheet (one picture that shows all results) is drawn.
      anywhere: whether rows may name outputs outside `folder`.
      mesh: the devices that share the pictures; None is one device.
      here: whether this process paints the pictures. If not, its memory does not limit their sizes, and
        a precision `AUTO` stays until `BatchJob.resolved` is called.
      bucket: side, in px, of the buckets (square arrays in which the pictures lie). None means no
        buckets. With "auto", the program chooses a bucket or none for each picture.
      **options: other fields of `BatchJob`.

    Raises:
      ValueError: naming the argument, and the file or row, that cannot be used.
    """
    outputs.check_folder(folder, "output")
    # A process that paints only a shard (a part of the batch) calls `destinations` for all rows, so
    # that no two shards write to the same path. The later checks are for its own results only. But
    # `check_destinations` gets the inputs of all shards, since no result may overwrite any of them.
    named = destinations(rows, folder, suffix, anywhere=anywhere)
    files = {row.number: path for row, path in zip(rows, named, strict=True)}
    own = rows if shard is None else rows_of_shard(rows, shard)
    drafts = [
        Draft(
            row,
            recipe,
            files[row.number],
            strength,
            size=row.size or changes.size,
        )
        for row, (recipe, strength) in zip(own, recipes_of(own, changes, start, check), strict=True)
    ]
    drawn = folder / "sheet.png" if sheet else None
    listing = listing_of(folder, shard)
    check_destinations(
        [(draft.row, draft.output) for draft in drafts],
        more=[listing, *([drawn] if drawn else [])],
        inputs=[*inputs, *inputs_of(rows)],
        words=words,
    )
    if drawn is not None:
        results.check_sheet(drawn, overwrite=options.get("overwrite"))
    results.check_listing(listing)
    entries, bad = inspected(drafts, mesh, here=here, bucket=bucket)
    job = BatchJob(
        bucket=bucket,
        entries=tuple(entries),
        bad=tuple(bad),
        folder=folder,
        shard=shard,
        sheet=drawn,
        mesh=mesh,
        **options,
    )
    # If other machines paint, their platform may not be known yet. The caller then replaces the
    # precision `AUTO` later, by `BatchJob.resolved`.
    return job.resolved(capacity.platform_of_mesh(mesh)) if here else job


def requested_settings(entry: Entry, job: BatchJob, weights: WeightsInfo) -> dict[str, Any]:
    """Return the part of a picture's metadata that is known before the picture is painted.

    By this part, `unfinished` recognises the file of a finished picture, which is not painted again:
    the metadata in the file must agree with it.
    """
    inputs, given = provenance.roles(entry.seen[0], entry.seen[1:], job.init_file), entry.controls
    controls = {} if given is None else controlling.numbers_of(given["regions"], given["protect"])
    files: dict[str, Any] = dict(entry.masked)
    if entry.fine is not None:
        files[ROLE] = entry.fine.seen
        controls |= combining_facts(entry.scales[-1].style_shapes[0])
    return provenance.of_picture(
        entry.recipe,
        entry.scales,
        seed=job.seed_of(entry),
        inputs=inputs | files,
        weights=weights,
        controls=controls,
    )


def unfinished(job: BatchJob, weights: WeightsInfo) -> tuple[BatchJob, list[results.Record]]:
    """Return the job limited to its unfinished pictures, and a `Record` of each finished picture.

    Args:
      job: the whole job; if its `overwrite` is True, all its pictures count as unfinished.
      weights: description of the weights file.

    Raises:
      ValueError: if a file at the path of a result is not the finished picture and may not be replaced.
        With `overwrite` False, no such file may be replaced; with None, only one that this program
        wrote.
    """
    rest, finished = results.divided(
        job.entries,
        lambda entry: requested_settings(entry, job, weights),
        job.folder,
        overwrite=job.overwrite,
    )
    records = [
        record_of(entry, "skipped", losses=embedded.get("losses")) for entry, embedded in finished
    ]
    return replace(job, entries=tuple(rest)), records
