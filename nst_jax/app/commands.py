"""The commands `demo`, `texture`, `dream`, `plan`, `warm`, `batch`, `sweep` and `train`.

The function of a command takes the command's positional arguments, and `chosen`, which maps the names
of the command's options to their values. `plan` and `warm` return nothing; the other functions return
the exit code.

A run is the painting of one picture. A batch consists of rows; each is one picture to paint. A record
says how a row ended, and the result manifest is the file of the records. A shard is a part of a batch
that a process of its own paints.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from nst_jax import _files, images, prepare, texturing
from nst_jax.app import arguments, cache, warming
from nst_jax.app import controls as controlling
from nst_jax.app import dream as dreams
from nst_jax.app import plan_report as plans
from nst_jax.app import sweep as sweeps
from nst_jax.app import train as training
from nst_jax.app.autosave import checkpoint_of
from nst_jax.app.batch import groups, local, on_ray, recording, results, rows
from nst_jax.app.batch import job as batch_job
from nst_jax.app.chosen_options import (
    Chosen,
    begun_display,
    check_weights,
    chosen_bucket,
    chosen_bucket_of_picture,
    chosen_changes,
    chosen_outputs,
    chosen_recipe,
    chosen_seed,
    chosen_tap_files,
    loaded_weights,
    other_inputs,
    picture_outputs,
    weights_file,
)
from nst_jax.app.fine_style import (
    ROLE,
    FineStyle,
    FineStyles,
    NotCombined,
    check_fine_style,
    read_fine,
)
from nst_jax.app.formatting import amount
from nst_jax.app.interrupts import exit_on_signals, raise_on_interrupt
from nst_jax.app.job import picture_job
from nst_jax.app.messages import print_lines, print_message
from nst_jax.app.outputs import (
    Outputs,
    check_outputs,
    default_name,
    result_path,
)
from nst_jax.app.parsing import StyleShare
from nst_jax.app.picture_command import (
    paint_and_report,
    report_ending,
    reserved_outputs,
    run_picture_command,
)
from nst_jax.app.progress import Display
from nst_jax.app.recipe_controls import (
    check_no_content,
    check_no_masks,
    with_controls_of_recipe,
)
from nst_jax.app.standard_streams import source
from nst_jax.app.textures import blank_picture, recipe_of_texture
from nst_jax.app.writing import write_picture
from nst_jax.feed_forward import given_styles, instant_controls, instant_painter
from nst_jax.feed_forward.training_job import distinct, training_job
from nst_jax.images import sheets
from nst_jax.recipes import GATYS_TEXTURE
from nst_jax.recipes.changes import with_sizes
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding
from nst_jax.scaling.plan import memory_of_files, plan_in_arrays, scales_of_canvas
from nst_jax.weights.params import load_params

# Largest number of failures that are printed after a batch. The result manifest, a file that records
# how each picture ended, lists all of them.
MOST_WARNINGS = 20


# --- One picture ----------------------------------------------------------------------------------


def demo(chosen: Chosen) -> int:
    """Paint the sample content in the sample style; draw content, style and result side by side too."""
    output = result_path(chosen["output"], Path("demo.png"))
    changes = arguments.Changes(size=chosen["size"], steps=chosen["steps"])
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    beside = output.with_name(f"{output.stem}_side_by_side.png")
    weights = weights_file(chosen)
    check_outputs(outputs, [] if weights is None else [weights])
    check_weights(chosen)
    images.check_output(beside, overwrite=outputs.overwrite, argument="output")
    content, style = (images.sample_picture(name) for name in ("chelsea", "starry_night"))
    recipe, begun = arguments.recipe_of(changes), chosen["begun"]
    job = picture_job(content, [style], recipe, outputs, begun=begun)
    code = paint_and_report(job, chosen, begun_display(chosen))
    if code == 0:
        pictures = [content.image, style.image, images.load(output)]
        write_picture(beside, sheets.side_by_side(pictures, ["content", "style", "result"]))
        if not chosen["quiet"]:
            print_lines(beside)
    return code


def texture(styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint a texture like that of the styles, without a content picture; return the exit code."""
    check_no_content(chosen["recipe"])
    chosen = with_controls_of_recipe(chosen)
    inputs = {"style": [path for path, _ in styles]}
    return run_picture_command(lambda given: _texture(styles, given), inputs, chosen)


def _texture(styles: Sequence[StyleShare], chosen: Chosen) -> int:
    chosen["recipe"] = chosen["recipe"] or GATYS_TEXTURE.name
    # In this command `--size` is the size of the result itself. In other commands it is the rule by
    # which the content is resized. So here it must not be put into the recipe as its size rule.
    recipe = chosen_recipe(chosen | {"size": None, "style_size": None}, styles)
    given = dict.fromkeys(arguments.by_key(chosen["values"]), "values")
    given |= {"terms.content_taps": "content_layer"} if chosen["content_layer"] else {}
    recipe = recipe_of_texture(recipe, seamless=chosen["tile_seamless"], given=given)
    paths = [path for path, _ in styles]
    outputs = chosen_outputs(chosen, default_name(paths[0], paths[1:], "_texture"))
    paths += chosen_tap_files(chosen)
    others = other_inputs(chosen, None)
    check_outputs(outputs, [*paths, *others])
    check_weights(chosen)
    pictures = [images.read(source(path), argument="style") for path in paths]
    first = pictures[0].image.shape
    shape = texturing.canvas_shape(chosen["size"], (first[0], first[1]), recipe)
    recipe = with_sizes(texturing.with_canvas_as_it_is(recipe), style_size=chosen["style_size"])
    with reserved_outputs(outputs):
        job = picture_job(
            blank_picture(shape),
            pictures,
            recipe,
            outputs,
            seed=chosen["seed"] or 0,
            resume=checkpoint_of(outputs),
            devices=chosen["devices"],
            begun=chosen["begun"],
        )
        return paint_and_report(job, chosen, begun_display(chosen))


def dream(content: Path, chosen: Chosen) -> int:
    """Change a picture so that it shows more of what the network detects in it (Deep Dream)."""
    guide = chosen["guide"]
    inputs = {"content": [content], "guide": [] if guide is None else [guide]}
    return run_picture_command(lambda given: _dream(content, given), inputs, chosen)


def _dream(content: Path, chosen: Chosen) -> int:
    outputs = Outputs(**picture_outputs(chosen, default_name(content, [], "_dream")))
    others = [path for path in (chosen["guide"], weights_file(chosen)) if path is not None]
    check_outputs(outputs, [content, *others])
    check_weights(chosen)
    settings = dreams.settings_from(chosen)
    guide = chosen["guide"]
    job = dreams.dream_job(
        images.read(source(content), argument="content"),
        None if guide is None else images.read(source(guide), argument="guide"),
        settings,
        outputs,
        seed=chosen["seed"] or 0,
        begun=chosen["begun"],
    )
    loaded, info, display = loaded_weights(chosen)
    return report_ending(dreams.paint_dream(loaded, info, job, display), outputs, chosen)


def plan(content: Path | None, styles: Sequence[StyleShare], chosen: Chosen) -> None:
    """Print how much memory and time it would take to paint one picture."""
    chosen = with_controls_of_recipe(chosen)
    _check_planned(content, styles, chosen)
    recipe = chosen_recipe(chosen, styles)
    controlling.check_planned(chosen, recipe)
    seen = [
        images.glance(path, argument=name)
        for path, name in ((content, "content"), *((path, "style") for path, _ in styles))
        if path is not None
    ]
    if seen:
        seen += [images.glance(path, argument="style_layer") for path in chosen_tap_files(chosen)]
    shapes = [glance.shape for glance in seen]
    cache.set_cache(chosen["cache"])
    options: dict[str, Any] = {
        "mesh": sharding.abstract_mesh(chosen["devices"]),
        "memory": chosen["memory"],
        "platform": chosen["platform"],
        "may_shorten_history": True,
    }
    if shapes:
        others = controlling.shapes_of_styles(chosen, shapes[1:])
        scales = prepare.scales_of(
            shapes[0],
            shapes[1:],
            recipe,
            region_styles=others,
            protected=chosen["protect"] is not None,
        )
        decoding = [*(glance.memory for glance in seen), *[0] * len(others)]
        files = memory_of_files([*shapes, *others], decoding, scales[-1], recipe)
        options |= {"files": files, "unread": True}
    else:
        scales = scales_of_canvas(recipe, chosen["shape"])
    planned = plan_in_arrays(recipe, scales, chosen_bucket(chosen), **options)
    if chosen["as_json"]:
        print_lines(*json.dumps(plans.facts(planned), indent=2).split("\n"))
    else:
        print_lines(*plans.text(planned).split("\n"))


def _check_planned(
    content: Path | None, styles: Sequence[StyleShare], chosen: Mapping[str, Any]
) -> None:
    """Check that `plan` has its pictures, or else `--shape` and nothing that `--shape` excludes.

    `--shape` is the size of the result. It replaces the pictures, `--size` and `--style-size`, so these
    are refused beside it. So are regions (areas with a style of their own) and a protected part (which
    keeps the content), since they cannot be planned without pictures.
    """
    if chosen["shape"] is None:
        if content is None or not styles:
            missing = "content" if content is None else "style"
            raise ValueError(
                f"`{missing}`: is missing; name the pictures, CONTENT STYLE, or `--shape 4096x3072`"
            )
        return
    if content is not None:
        raise ValueError("`shape`: takes the place of pictures; omit one or the other")
    for name in ("size", "style_size"):
        if chosen[name] is not None:
            raise ValueError(f"`{name}`: `--shape` is the size of the result; omit this one")
    for name in ("regions", "region_maps", "protect"):
        if chosen[name]:
            raise ValueError(
                f"`{name}`: names parts of pictures, whose place `--shape` takes; name the pictures, "
                "CONTENT STYLE, instead, or leave this one out"
            )


def warm(chosen: Chosen) -> None:
    """Compile the programs of later commands, and print how many program files are then on disk.

    The programs paint in buckets: square arrays in which pictures of many shapes can lie. So the same
    programs serve all these shapes.
    """
    exit_on_signals()
    sides, compile_all = (_instant_ahead if chosen["instant"] else _runs_ahead)(chosen)
    display = begun_display(chosen | {"cache": True})
    folder = _folder_of_programs()
    before, _ = warming.kept(folder)
    compile_all(display)
    if not chosen["quiet"]:
        _print_kept(folder, before)
        for size, side in sides:
            words = "" if size is None else f"--size {size} "
            print_lines(f"for pictures of any shape add: {words}--bucket {side}")


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
    squares = [
        warming.Square(recipe, warming.side_of(recipe, side), chosen["batches"])
        for recipe in recipes
    ]
    check_weights(chosen)
    wanted = [one for square in squares for one in warming.wanted_of(square)]

    def compile_all(display: Display) -> None:
        warming.compile_all(load_params(chosen["weights"]), wanted, display, init=init)

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
    sides = [warming.side_of_instant(size, bucket) for size in sizes]
    given_styles.style_rule(chosen["style_size"])
    precision = instant_painter.chosen_precision(chosen["precision"] or "auto")
    squares = {side: warming.sizes_of_instant(chosen["batches"], side) for side in sides}
    colors, realism = chosen["colors"] or "style", chosen["realism"] or 0.0
    instant_controls.check_colors_and_realism(colors, realism)
    recipe = instant_controls.recipe_finishing_with(colors, realism)

    def compile_all(display: Display) -> None:
        warming.compile_instant(squares, precision, chosen["style_size"], recipe, display)

    return list(zip(sizes, sides, strict=True)), compile_all


# --- Many pictures --------------------------------------------------------------------------------


def check_devices(chosen: Mapping[str, Any]) -> Any:
    """Return the mesh of devices that `--devices` and `--bands` ask for.

    `--devices` says how many devices to use, `--bands` how many of them share each picture.
    The result is None for one device. It is None also with `--runner ray`, since Ray gives each device
    pictures of its own.

    Raises:
      ValueError: if Ray is used together with `--devices` or `--bands`, if there are too few devices,
        or if the number of devices is not a multiple of `--bands`.
    """
    if chosen.get("runner") == "ray":
        for name, unset in (("devices", None), ("bands", 1)):
            if chosen[name] != unset:
                raise ValueError(f"`{name}`: Ray gives each device its own actor; omit this option")
        return None
    return sharding.mesh_of_batch(chosen["devices"], chosen["bands"])


def batch(contents: Sequence[Path], chosen: Chosen) -> int:
    """Paint the unfinished pictures of a batch, print errors, and return the exit code.

    With `--compile-only`, only compile the programs that paint them.
    """
    with_ray = chosen["runner"] == "ray"
    with ExitStack() as resources:
        if with_ray:
            on_ray.check_installed()
        if chosen["compile_only"] and not chosen["cache"]:
            raise ValueError(
                "`compile_only`: keeps programs in the cache, which `--no-cache` switches off; omit "
                "one of the two"
            )
        job = _batch_job(contents, chosen)
        if chosen["compile_only"]:
            return _compile_batch(job, chosen)
        job.folder.mkdir(exist_ok=True)
        # The result manifest, the file that records how pictures ended, is locked before this process
        # finds out which are finished. Without the lock, another process could begin to paint the same
        # pictures.
        resources.enter_context(_files.reserved(job.listing, argument="output"))
        if with_ray:
            resources.enter_context(on_ray.connected())
            job = job.resolved(on_ray.platform())
        loaded, info, display = loaded_weights(chosen)
        for note in rows.notes_on_folders([*contents, *chosen["styles"]]):
            display.say(f"note: {note}")
        rest, finished = batch_job.unfinished(job, info)
        raise_on_interrupt()
        runner = on_ray.paint_on_ray if with_ray else local.paint_here
        ending = recording.run_batch(loaded, info, job, rest, finished, runner, display)
    records = ending.records
    _print_failures(records, job.listing)
    if ending.problem:
        print_message("error", ending.problem)
    if not ending.complete:
        written = sum(record.status != "failed" for record in records)
        text = f"{written} of {len(job.entries)} pictures are in {job.folder}"
        print_message("interrupted", text)
        return 130
    if not chosen["quiet"]:
        print_lines(job.folder)
    return 0 if all(record.good for record in records) and not ending.problem else 1


def _compile_batch(job: batch_job.BatchJob, chosen: Chosen) -> int:
    """Compile the programs of a batch, print how many are stored on disk, and return the exit code.

    Nothing is compiled for pictures that are finished or cannot be painted, since the batch will not
    paint them. Warnings say why pictures cannot be painted. No result manifest, the file that records
    how each picture ended, is written.
    """
    if chosen["runner"] == "ray":
        raise ValueError("`compile_only`: each of Ray's machines has a cache of its own; omit it")
    exit_on_signals()
    loaded, info, display = loaded_weights(chosen)
    folder = _folder_of_programs()
    before, _ = warming.kept(folder)
    rest, _ = batch_job.unfinished(job, info)
    warming.compile_groups(loaded, rest, local.groups_here(rest), display)
    _print_failures(recording.with_typed_names(job.bad, job), None)
    if not chosen["quiet"]:
        _print_kept(folder, before)
    return 1 if job.bad else 0


def _folder_of_programs() -> Path:
    """Return the folder of JAX's compilation cache; a subfolder has this package's traced programs.

    Raises:
      OSError: if the cache is off or has no folder on a local disk.
    """
    if not cache.cache_enabled() or not (folder := cache.programs_folder()):
        raise OSError(
            "compiled programs are not kept, so there is nothing to warm; let jax's settings name a "
            "folder on a disk, or unset JAX_ENABLE_COMPILATION_CACHE and JAX_COMPILATION_CACHE_DIR"
        )
    return folder.parent


def _print_kept(folder: Path, before: int) -> None:
    """Print number and size of a folder's program files, and how many more they are than `before`."""
    files, size_of_all = warming.kept(folder)
    new = f"{files - before} of them new" if files > before else "none of them new"
    print_lines(f"{folder} has {files} files of programs, {amount(size_of_all)}; {new}")


def _batch_job(contents: Sequence[Path], chosen: Chosen) -> batch_job.BatchJob:
    """Check the options of the command `batch`, and return them with the pictures to paint."""
    mesh = check_devices(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    wanted = rows.requested_rows(contents, **chosen)
    wanted = rows.with_controls(rows.with_tap_files(wanted, chosen), chosen)
    shared = with_controls_of_recipe(chosen)
    controlling.check_files(shared)
    if shared["style_fine"] is not None:
        read_fine(shared["style_fine"])
    check_weights(chosen)

    def check(recipe: Recipe, seed: int | None) -> None:
        chosen_seed(chosen if seed is None else chosen | {"seed": seed}, recipe)
        controlling.check_planned(chosen, recipe)

    return batch_job.batch_job(
        wanted,
        chosen_changes(chosen),
        chosen["output"],
        chosen["suffix"],
        start=None if init_file else init,
        check=check,
        mesh=mesh,
        here=chosen["runner"] != "ray",
        inputs=[*contents, *other_inputs(chosen, init_file)],
        fine=FineStyles(chosen["precision"], chosen["tile"]),
        in_manifest=any(row.location for row in wanted),
        shard=None if chosen["shard"] is None else groups.parse_shard(chosen["shard"]),
        sheet=chosen["sheet"],
        anywhere=chosen["outputs_anywhere"],
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        bucket=chosen_bucket(chosen),
        seed=chosen["seed"] or 0,
        init=init if init_file else None,
        init_file=init_file and images.Glance((0, 0), init_file.name, init_file.digest),
    )


def _print_failures(records: Sequence[results.Record], listing: Path | None) -> None:
    # The record of a picture that was written has an `error`, too, if its losses stopped changing while
    # still high.
    bad = [record for record in records if record.error is not None]
    for record in bad[:MOST_WARNINGS]:
        print_message("warning", f"{record.output}: {record.error}")
    if len(bad) > MOST_WARNINGS:
        where = "" if listing is None else f"; {listing} lists them all"
        print_message("warning", f"{len(bad) - MOST_WARNINGS} more rows have warnings{where}")


def sweep(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint one picture with many values of one or two settings, and write the results as a grid.

    Returns:
      The exit code.
    """
    chosen = with_controls_of_recipe(chosen)
    planned = _sweep_job(content, styles, chosen)
    loaded, info, display = loaded_weights(chosen)
    painted: dict[int, Any] = {}
    raise_on_interrupt()
    try:
        if chosen["style_fine"] is not None:
            planned = _with_combined_style(planned, loaded, chosen, display)
        for canvas in sweeps.paint_sweep(loaded, info, planned, display):
            painted[canvas.cell] = canvas
    except NotCombined as error:
        print_message("error", str(error))
        return 1
    except KeyboardInterrupt:
        sweeps.write_grid(planned, info, painted)
        written = f"{planned.output} has the" if painted else "nothing is written of the"
        text = f"{written} {len(painted)} of {len(planned.labels)} canvases that are done"
        print_message("interrupted", text)
        return 130
    sweeps.write_grid(planned, info, painted)
    for cell, canvas in painted.items():
        if canvas.problem:
            print_message("warning", f"{planned.labels[cell]}: {canvas.problem}")
    if not chosen["quiet"]:
        print_lines(planned.output)
    return 1 if any(canvas.problem for canvas in painted.values()) else 0


def _with_combined_style(
    planned: sweeps.SweepJob, params: Any, chosen: Chosen, display: Display
) -> sweeps.SweepJob:
    """Return the sweep, its style combined with the fine structure of the `--style-fine` picture."""
    picture = planned.controls.files[ROLE]
    fine = FineStyle(
        picture, params, None, display, precision=chosen["precision"], tile=chosen["tile"]
    )
    shape = planned.scales[-1].style_shapes[0]
    return replace(
        planned,
        combined=fine.combined(planned.styles[0], shape),
        controls=planned.controls._replace(combined=fine.facts(shape)),
    )


def _sweep_job(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> sweeps.SweepJob:
    """Check the options of the command `sweep`, and return them with the pictures that were read.

    `chosen` must already contain the masks and other pictures that the recipe file names.
    """
    check_fine_style(chosen, styles)
    if chosen["ratio"] is not None and chosen["content_weight"] is not None:
        raise ValueError("`content_weight`: is set by `--ratio`; give one of the two")
    swept = dict.fromkeys(("style_weight", "tv_weight", "learning_rate"))
    _, strength = arguments.recipe_and_strength_of(chosen_changes(chosen | swept), controls=True)
    for name in ("style_weight", "ratio"):
        if strength is None or chosen[name] is None:
            continue
        if chosen["strength"] is None:
            raise ValueError(
                f"`{name}`: the recipe file or `--set` has a strength, which sets the style weight; "
                "leave one of the two out"
            )
        raise ValueError(
            f"`strength`: sets the style weight, as does `--{name.replace('_', '-')}`; give one of the "
            "two"
        )
    recipe = chosen_recipe(chosen | swept, styles)
    paths = [path for path, _ in styles]
    output = result_path(chosen["output"], default_name(content, paths, "_sweep"))
    paths += chosen_tap_files(chosen)
    check_devices(chosen)
    bucket = chosen_bucket_of_picture(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    others = [*other_inputs(chosen, init_file), *controlling.files_of(chosen)]
    fine = chosen["style_fine"]
    check_outputs(outputs, [content, *paths, *others, *([] if fine is None else [fine])])
    check_weights(chosen)
    read = [images.read(path, argument="style") for path in paths]
    controls = controlling.read_controls(chosen, read)
    if fine is not None:
        picture = read_fine(fine)
        controls = controls._replace(files={**controls.files, ROLE: picture})
    return sweeps.sweep_job(
        images.read(content, argument="content"),
        read,
        arguments.with_start(recipe, init),
        {name: chosen[name] for name in sweeps.TITLES if chosen[name] is not None},
        controls=controls,
        strength=strength,
        output=output,
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        devices=chosen["devices"],
        bands=chosen["bands"],
        bucket=bucket,
        seed=chosen_seed(chosen, recipe),
        init=None if init_file is None else init,
        init_file=init_file,
    )


# --- Training -------------------------------------------------------------------------------------


def train(paintings: Sequence[Path], chosen: Chosen) -> int:
    """Train a network on paintings and photos, print how that ended, and return the exit code."""
    recipe = arguments.recipe_of(chosen_changes({**chosen, "steps": None, "learning_rate": None}))
    outputs = training.TrainOutputs.of(
        chosen["output"],
        chosen["checkpoint"],
        samples=chosen["samples"],
        resume=chosen["resume"],
    )
    others = other_inputs(chosen, None)
    outputs.check([*paintings, *others], overwrite=chosen["overwrite"])
    check_weights(chosen)
    with ExitStack() as resources:
        resources.enter_context(_files.reserved(outputs.checkpoint, argument="checkpoint"))
        resume = outputs.earlier()
        names = distinct([path.stem for path in paintings])
        pictures = [images.read(path, argument="paintings") for path in paintings]
        notes = [f"{one.name}: {note}" for one in pictures for note in one.notes]
        photos = [path for path, _ in rows.expanded(chosen["photos"], "photos")]
        loaded, info, display = loaded_weights(chosen)
        job = training_job(
            {name: one.image for name, one in zip(names, pictures, strict=True)},
            photos,
            recipe=recipe,
            style_size=None,
            precision=None,
            key=jax.random.key(chosen["seed"] or 0),
            look=lambda done, total: display.stage(f"reading photos, {done} of {total}", ""),
            **{name: chosen[name] for name in _TRAINING_OPTIONS},
        )
        notes += rows.notes_on_folders(chosen["photos"])
        ending = training.run_training(
            loaded,
            info,
            job,
            outputs,
            display,
            resume=resume,
            notes=notes,
            begun=chosen["begun"],
        )
    if ending.code:
        print_message("error" if ending.status == "failed" else ending.status, ending.message)
    elif not chosen["quiet"]:
        print_lines(outputs.style)
    return ending.code


# Options of `train` that are passed to `training_job` as the arguments of the same names.
_TRAINING_OPTIONS = (
    "steps", "batch", "crop", "width", "blocks", "learning_rate", "every", "devices",
)  # fmt: skip
