"""The commands `demo`, `stylize`, `texture`, `dream`, `batch`, `sweep`, `plan` and `train`.

The function of a command takes the command's positional arguments, and `chosen`, which maps the names
of the command's options to their values. All of these functions but `plan` return the exit code.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import jax

from nst_jax import _files, images, prepare, provenance, texturing
from nst_jax.app import arguments, cache, cluster, preview, single, standard_streams
from nst_jax.app import controls as controlling
from nst_jax.app import dream as dreams
from nst_jax.app import plan_report as plans
from nst_jax.app import sweep as sweeps
from nst_jax.app import train as training
from nst_jax.app.autosave import checkpoint_of
from nst_jax.app.batch import groups, local, on_ray, results, rows
from nst_jax.app.batch import job as batch_job
from nst_jax.app.interrupts import raise_on_interrupt
from nst_jax.app.job import PictureJob, picture_job
from nst_jax.app.messages import print_lines, print_message
from nst_jax.app.outputs import (
    STANDARD,
    Outputs,
    check_outputs,
    default_name,
    picture_and_film,
    result_path,
)
from nst_jax.app.parsing import StyleShare
from nst_jax.app.progress import Display
from nst_jax.app.standard_streams import source
from nst_jax.app.writing import write_picture
from nst_jax.feed_forward.training_job import distinct, training_job
from nst_jax.images import sheets
from nst_jax.recipes import GATYS_TEXTURE, starts
from nst_jax.recipes.changes import with_sizes
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, sharding
from nst_jax.scaling.plan import memory_of_files, plan_canvas, plan_in_square, plan_scales
from nst_jax.weights import params
from nst_jax.weights.params import WeightsInfo

MOST_WARNINGS = 20  # most failures printed after a batch; the result manifest lists all of them

Chosen: TypeAlias = dict[str, Any]


# --- Shared by several commands -------------------------------------------------------------------


def _changes(chosen: Mapping[str, Any]) -> arguments.Changes:
    """Return the values of those options that change a recipe."""
    return arguments.Changes(**{n: chosen[n] for n in arguments.Changes._fields if n in chosen})


def _recipe(chosen: Chosen, styles: Sequence[StyleShare]) -> Recipe:
    """Return the recipe that the options describe, which blends the styles by their shares."""
    return arguments.recipe_of(_changes(chosen | {"style_shares": arguments.shares_of(styles)}))


def _tap_files(chosen: Mapping[str, Any]) -> list[Path]:
    """Return the paths of the style pictures that `--style-layer` gives for single layers."""
    return list(arguments.tap_files(chosen["style_layer"]).values())


def _seed(chosen: Mapping[str, Any], recipe: Recipe) -> int:
    """Return the seed, 0 by default; refuse `--seed` if the recipe's start has a seed of its own."""
    start = recipe.pictures.start
    if chosen["seed"] is None:
        return 0
    if chosen["init"] is None and isinstance(start, starts.SeededBlend):
        raise ValueError(
            f"`seed`: recipe {recipe.name!r} draws its start from its source's own seed, "
            f"{start.seed}; omit `--seed`, or choose another start with `--init`"
        )
    return chosen["seed"]


def _other_inputs(chosen: Mapping[str, Any], init_file: images.Picture | None) -> list[Path]:
    """Return the files that a command reads besides contents and styles: start, recipe, weights.

    Args:
      chosen: the options of the command.
      init_file: the picture that `--init` names; None if `--init` names no file.
    """
    start = None if init_file is None else Path(chosen["init"])
    return [path for path in (start, _recipe_file(chosen), chosen["weights"]) if path is not None]


def _display(chosen: Mapping[str, Any]) -> Display:
    """Switch the cache of compiled programs on or off; return the display for a run's progress."""
    display = Display(chosen["quiet"])
    if problem := cache.set_cache(chosen["cache"]):
        display.say(f"note: {problem}")
    # `cache.mended` stays in effect until the command ends.
    click.get_current_context().with_resource(cache.mended(display.say))
    return display


def _load(chosen: Mapping[str, Any]) -> tuple[Any, WeightsInfo, Display]:
    """Return what every run needs: the weights, the description of their file, and a display."""
    display = _display(chosen)
    return params.load_params(chosen["weights"]), params.read_info(chosen["weights"]), display


def _outputs(chosen: Mapping[str, Any], name: Path) -> Outputs:
    """Return where a run writes, and how; `name` is its picture's path unless an option gives one."""
    return Outputs(
        **_shown(chosen, name),
        log=chosen["log"],
        checkpoint=chosen["checkpoint"],
        checkpoint_every=chosen["checkpoint_every"],
        resume=chosen["resume"],
    )


def _shown(chosen: Mapping[str, Any], name: Path) -> dict[str, Any]:
    """Return those fields of `Outputs` that concern the picture, the film and the frames of a run.

    Args:
      chosen: the options of the command.
      name: path of the picture unless an option gives one.
    """
    picture, film, option = picture_and_film(chosen["output"], chosen["film"], name)
    if film is None and chosen["film_seconds"] is not None:
        raise ValueError("`film_seconds`: there is no film; name one with `--film`")
    return {
        "picture": picture,
        "film": film,
        "film_option": option,
        **({} if chosen["film_seconds"] is None else {"film_seconds": chosen["film_seconds"]}),
        "overwrite": chosen["overwrite"],
        "metadata": chosen["metadata"],
        "every": chosen["every"],
        "frames": chosen["frames"],
    }


@contextmanager
def _reserved(outputs: Outputs) -> Iterator[None]:
    """Context manager: reserve the checkpoint and the log, so that no other run writes them."""
    with ExitStack() as resources:
        for argument in ("checkpoint", "log"):
            if (path := getattr(outputs, argument)) is not None:
                resources.enter_context(cluster.reserved_by_first(path, argument))
        yield


def _paint(
    job: PictureJob,
    chosen: Chosen,
    display: Display,
    peers: Any = None,
    early: preview.Preview | None = None,
) -> int:
    """Paint a checked job, print how the run ended, and return the exit code.

    Args:
      job: the checked job.
      chosen: the options of the command.
      display: where progress is shown.
      peers: watches the other processes that paint this picture; None if there are none.
      early: the preview of the result, which a fast network paints; None if there is none.
    """
    info = params.read_info(chosen["weights"])
    loaded = params.load_params(chosen["weights"])
    if early is not None:
        early.accept(job.content)
    ending = single.paint_job(loaded, info, job, display, peers, early)
    return _report(ending, job.outputs, chosen)


def _report(ending: single.Ending, outputs: Outputs, chosen: Mapping[str, Any]) -> int:
    """Print how a run ended, and return its exit code."""
    if ending.code:
        print_message("error" if ending.status == "failed" else ending.status, ending.message)
    elif not chosen["quiet"] and chosen.get("prints_path", True):
        print_lines(*outputs.shown)
    return ending.code


# --- One picture ----------------------------------------------------------------------------------


def _run(
    command: Callable[[Chosen], int], inputs: Mapping[str, Sequence[Path]], chosen: Chosen
) -> int:
    """Run a command that paints one picture; `-` stands for standard input and standard output.

    Args:
      command: the command, as a function of its options that returns the exit code.
      inputs: the paths of the input files, by the names of the command's arguments.
      chosen: the options of the command.
    """
    if chosen["suffix"] is not None and chosen["output"] != STANDARD:
        raise ValueError(
            "`suffix`: is for standard output, `-o -`; omit it, since a file's suffix is its format"
        )
    return standard_streams.with_streams(command, inputs, chosen)


def demo(chosen: Chosen) -> int:
    """Paint the sample content in the sample style; also write a picture of all three side by side."""
    output = result_path(chosen["output"], Path("demo.png"))
    changes = arguments.Changes(size=chosen["size"], steps=chosen["steps"])
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    beside = output.with_name(f"{output.stem}_side_by_side.png")
    check_outputs(outputs, [] if chosen["weights"] is None else [chosen["weights"]])
    images.check_output(beside, overwrite=outputs.overwrite, argument="output")
    content, style = (images.sample_picture(name) for name in ("chelsea", "starry_night"))
    recipe, begun = arguments.recipe_of(changes), chosen["begun"]
    job = picture_job(content, [style], recipe, outputs, begun=begun)
    code = _paint(job, chosen, _display(chosen))
    if code == 0:
        pictures = [content.image, style.image, images.load(output)]
        write_picture(beside, sheets.side_by_side(pictures, ["content", "style", "result"]))
        if not chosen["quiet"]:
            print_lines(beside)
    return code


def stylize(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint one picture; with `--cluster`, share the work with other processes."""
    inputs = {"content": [content], "style": [path for path, _ in styles]}
    return _run(lambda given: _stylize_by_all(content, styles, given), inputs, chosen)


def _stylize_by_all(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> int:
    if chosen["cluster"] is None:
        return _stylize(content, styles, chosen)
    cluster.join(chosen["cluster"])
    if chosen["devices"] is None:
        chosen["devices"] = sharding.ALL
    chosen["quiet"] = chosen["quiet"] or not cluster.is_first()
    with cluster.PeerMonitor(lambda text: print_message("error", text)) as peers:
        return _stylize(content, styles, chosen, peers)


def _stylize(content: Path, styles: Sequence[StyleShare], chosen: Chosen, peers: Any = None) -> int:
    asked = _asked(content, styles, chosen)
    display = _display(chosen)
    with _reserved(asked.outputs), preview.Preview(asked.outputs, display) as early:
        job = _stylize_job(content, styles, chosen, asked, early)
        return _paint(job, chosen, display, peers, early)


def stylize_job(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> PictureJob:
    """Return the checked job of `stylize` without painting it.

    Args:
      content: path of the photo.
      styles: paths of the style pictures, each with its share or None.
      chosen: the options of `stylize`, and `begun`: when the command began, by `time.perf_counter`.

    Raises:
      ValueError: naming the option or the picture that cannot be used.
    """
    return _stylize_job(content, styles, chosen, _asked(content, styles, chosen))


class _Asked(NamedTuple):
    """What the options of `stylize` ask for, before the pictures are read."""

    recipe: Recipe
    init: Any  # the start that `--init` names: a rule or an image [h, w, 3]; None without `--init`
    init_file: images.Picture | None  # the file that `--init` names; None if it names no file
    outputs: Outputs


def _asked(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> _Asked:
    recipe = _recipe(chosen, styles)
    paths = [path for path, _ in styles]
    outputs = _outputs(chosen, default_name(content, paths))
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    others = [*_other_inputs(chosen, init_file), *controlling.files_of(chosen)]
    check_outputs(outputs, [content, *paths, *_tap_files(chosen), *others])
    return _Asked(recipe, init, init_file, outputs)


def _stylize_job(
    content: Path,
    styles: Sequence[StyleShare],
    chosen: Chosen,
    asked: _Asked,
    early: preview.Preview | None = None,
) -> PictureJob:
    """Return the checked job; `early` begins a preview as soon as the sizes are known."""
    paths = [*(path for path, _ in styles), *_tap_files(chosen)]
    read = [images.read(source(path), argument="style") for path in paths]
    photo = images.read(source(content), argument="content")
    resume = checkpoint_of(asked.outputs)
    controls = controlling.read_controls(chosen, read)
    sized = None
    # The file of a resumed run may hold a better picture already, so such a run has no preview.
    if early is not None and resume is None:
        inputs = provenance.roles(photo, read, asked.init_file) | dict(controls.files)
        sized = partial(early.begin, photo, read, inputs=inputs)
    return picture_job(
        photo,
        read,
        arguments.with_start(asked.recipe, asked.init),
        asked.outputs,
        controls=controls,
        seed=_seed(chosen, asked.recipe),
        init=None if asked.init_file is None else asked.init,
        init_file=asked.init_file,
        resume=resume,
        sized=sized,
        devices=chosen["devices"],
        bucket=_bucket_of_picture(chosen),
        begun=chosen["begun"],
    )


def texture(styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint a texture like that of the styles; there is no content picture."""
    inputs = {"style": [path for path, _ in styles]}
    return _run(lambda given: _texture(styles, given), inputs, chosen)


def _texture(styles: Sequence[StyleShare], chosen: Chosen) -> int:
    chosen["recipe"] = chosen["recipe"] or GATYS_TEXTURE.name
    # Here `--size` is the size of the canvas itself. In other commands it is the rule by which the
    # content is resized, so it must not become the size rule of this recipe.
    recipe = _recipe(chosen | {"size": None, "style_size": None}, styles)
    recipe = texturing.of_texture(recipe, seamless=chosen["tile_seamless"])
    paths = [path for path, _ in styles]
    outputs = _outputs(chosen, default_name(paths[0], paths[1:], "_texture"))
    paths += _tap_files(chosen)
    others = [path for path in (_recipe_file(chosen), chosen["weights"]) if path is not None]
    check_outputs(outputs, [*paths, *others])
    pictures = [images.read(source(path), argument="style") for path in paths]
    first = pictures[0].image.shape
    shape = texturing.canvas_shape(chosen["size"], (first[0], first[1]), recipe)
    recipe = with_sizes(texturing.with_canvas_as_it_is(recipe), style_size=chosen["style_size"])
    with _reserved(outputs):
        job = picture_job(
            _blank_picture(shape),
            pictures,
            recipe,
            outputs,
            seed=chosen["seed"] or 0,
            resume=checkpoint_of(outputs),
            devices=chosen["devices"],
            begun=chosen["begun"],
        )
        return _paint(job, chosen, _display(chosen))


def _blank_picture(shape: tuple[int, int]) -> images.Picture:
    """Return a grey picture of this shape, which takes the place of a content in a texture's job."""
    name = f"blank {shape[1]}x{shape[0]}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    return images.Picture(texturing.blank(shape), None, (), name, digest)


def dream(content: Path, chosen: Chosen) -> int:
    """Change a picture so that it shows more of what the network detects in it (DeepDream)."""
    guide = chosen["guide"]
    inputs = {"content": [content], "guide": [] if guide is None else [guide]}
    return _run(lambda given: _dream(content, given), inputs, chosen)


def _dream(content: Path, chosen: Chosen) -> int:
    outputs = Outputs(**_shown(chosen, default_name(content, [], "_dream")))
    others = [path for path in (chosen["guide"], chosen["weights"]) if path is not None]
    check_outputs(outputs, [content, *others])
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
    loaded, info, display = _load(chosen)
    return _report(dreams.paint_dream(loaded, info, job, display), outputs, chosen)


def plan(content: Path | None, styles: Sequence[StyleShare], chosen: Chosen) -> None:
    """Print how much memory and time a run would take."""
    _check_planned(content, styles, chosen)
    recipe = _recipe(chosen, styles)
    controlling.check_planned(chosen, recipe)
    seen = [
        images.glance(path, argument=name)
        for path, name in ((content, "content"), *((path, "style") for path, _ in styles))
        if path is not None
    ]
    if seen:
        seen += [images.glance(path, argument="style_layer") for path in _tap_files(chosen)]
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
        planned = plan_scales(recipe, scales, **options)
    else:
        planned = plan_canvas(recipe, chosen["shape"], **options)
    bucket = _bucket_of_picture(chosen)
    if bucket is not None:
        planned = plan_in_square(recipe, planned.scales, bucket, **options)
    if chosen["as_json"]:
        print_lines(*json.dumps(plans.facts(planned), indent=2).split("\n"))
    else:
        print_lines(*plans.text(planned).split("\n"))


def _check_planned(
    content: Path | None, styles: Sequence[StyleShare], chosen: Mapping[str, Any]
) -> None:
    """Refuse a plan with neither pictures nor `--shape`, or with `--shape` and pictures or sizes."""
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


# --- Many pictures --------------------------------------------------------------------------------


def check_devices(chosen: Mapping[str, Any]) -> Any:
    """Return the mesh of `--devices` and `--bands`; None for one device or the Ray runner.

    Raises:
      ValueError: naming the option that cannot be used.
    """
    if chosen.get("runner") == "ray":
        for name, unset in (("devices", None), ("bands", 1)):
            if chosen[name] != unset:
                raise ValueError(f"`{name}`: Ray gives each device its own actor; omit this option")
        return None
    return sharding.mesh_of_batch(chosen["devices"], chosen["bands"])


def batch(contents: Sequence[Path], chosen: Chosen) -> int:
    """Paint the unfinished pictures of a batch, print what failed, and return the exit code."""
    with_ray = chosen["runner"] == "ray"
    with ExitStack() as resources:
        if with_ray:
            on_ray.check_installed()
        job = _batch_job(contents, chosen)
        job.folder.mkdir(exist_ok=True)
        # The result manifest is reserved before finished pictures are looked for, since another run may
        # be painting pictures of this batch.
        resources.enter_context(_files.reserved(job.listing, argument="output"))
        if with_ray:
            resources.enter_context(on_ray.connected())
            job = job.resolved(on_ray.platform())
        loaded, info, display = _load(chosen)
        for note in rows.notes_on_folders([*contents, *chosen["styles"]]):
            display.say(f"note: {note}")
        rest, finished = batch_job.unfinished(job, info)
        raise_on_interrupt()
        runner = on_ray.paint_on_ray if with_ray else local.paint_here
        ending = local.run_batch(loaded, info, job, rest, finished, runner, display)
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


def _batch_job(contents: Sequence[Path], chosen: Chosen) -> batch_job.BatchJob:
    """Return the checked job of the batch that the options describe."""
    mesh = check_devices(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    wanted = rows.requested_rows(contents, **chosen)
    wanted = rows.with_tap_files(wanted, arguments.tap_files(chosen["style_layer"]))
    controlling.check_files(chosen)

    def check(recipe: Recipe) -> None:
        _seed(chosen, recipe)
        controlling.check_planned(chosen, recipe)

    return batch_job.batch_job(
        rows.with_controls(wanted, chosen),
        _changes(chosen),
        chosen["output"],
        chosen["suffix"],
        start=None if init_file else init,
        check=check,
        mesh=mesh,
        here=chosen["runner"] != "ray",
        inputs=[*contents, *_other_inputs(chosen, init_file)],
        shard=None if chosen["shard"] is None else groups.parse_shard(chosen["shard"]),
        sheet=chosen["sheet"],
        anywhere=chosen["outputs_anywhere"],
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        bucket=_checked_bucket(chosen),
        seed=chosen["seed"] or 0,
        init=init if init_file else None,
        init_file=init_file and images.Glance((0, 0), init_file.name, init_file.digest),
    )


def _checked_bucket(chosen: Chosen) -> buckets.Chosen:
    """Return the side of the buckets of many pictures, "auto", or None if there are none.

    Where pictures cannot lie in buckets, "auto" is None.
    """
    bucket = buckets.checked_bucket(chosen["bucket"])
    for name, unset in (("runner", "local"), ("bands", 1)):
        if bucket is not None and chosen.get(name, unset) != unset:
            if bucket != buckets.AUTO:
                raise ValueError(
                    f"`bucket`: cannot be used with `--{name} {chosen[name]}`; omit one"
                )
            bucket = None
    return bucket


def _bucket_of_picture(chosen: Chosen) -> int | None:
    """Return the side of the bucket of one picture or sweep; None if it fills its arrays.

    So it does by "auto", since canvases of one shape gain nothing by a bucket.
    """
    bucket = _checked_bucket(chosen)
    return None if bucket == buckets.AUTO else bucket


def _print_failures(records: Sequence[results.Record], listing: Path) -> None:
    bad = [record for record in records if not record.good]
    for record in bad[:MOST_WARNINGS]:
        print_message("warning", f"{record.output}: {record.error}")
    if len(bad) > MOST_WARNINGS:
        more = len(bad) - MOST_WARNINGS
        print_message("warning", f"{more} more rows failed; {listing} lists them all")


def sweep(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint the canvases of a sweep, write them as a grid, and return the exit code."""
    planned = _sweep_job(content, styles, chosen)
    loaded, info, display = _load(chosen)
    painted: dict[int, Any] = {}
    raise_on_interrupt()
    try:
        for canvas in sweeps.paint_sweep(loaded, info, planned, display):
            painted[canvas.cell] = canvas
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


def _sweep_job(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> sweeps.SweepJob:
    """Return the checked job of the sweep that the options describe."""
    if chosen["ratio"] is not None and chosen["content_weight"] is not None:
        raise ValueError("`content_weight`: is set by `--ratio`; give one of the two")
    for name in ("style_weight", "ratio"):
        if chosen["strength"] is not None and chosen[name] is not None:
            raise ValueError(
                f"`strength`: sets the style weight, as does `--{name.replace('_', '-')}`; give one of "
                "the two"
            )
    swept = dict.fromkeys(("style_weight", "tv_weight", "learning_rate"))
    recipe = _recipe(chosen | swept, styles)
    paths = [path for path, _ in styles]
    output = result_path(chosen["output"], default_name(content, paths, "_sweep"))
    paths += _tap_files(chosen)
    check_devices(chosen)
    bucket = _bucket_of_picture(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    outputs = Outputs(picture=output, overwrite=chosen["overwrite"])
    others = [*_other_inputs(chosen, init_file), *controlling.files_of(chosen)]
    check_outputs(outputs, [content, *paths, *others])
    read = [images.read(path, argument="style") for path in paths]
    return sweeps.sweep_job(
        images.read(content, argument="content"),
        read,
        arguments.with_start(recipe, init),
        {name: chosen[name] for name in sweeps.TITLES if chosen[name] is not None},
        controls=controlling.read_controls(chosen, read),
        output=output,
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        devices=chosen["devices"],
        bands=chosen["bands"],
        bucket=bucket,
        seed=_seed(chosen, recipe),
        init=None if init_file is None else init,
        init_file=init_file,
    )


# --- Training -------------------------------------------------------------------------------------


def train(paintings: Sequence[Path], chosen: Chosen) -> int:
    """Train a network on paintings and photos, print how that ended, and return the exit code."""
    recipe = arguments.recipe_of(_changes({**chosen, "steps": None, "learning_rate": None}))
    outputs = training.TrainOutputs.of(
        chosen["output"],
        chosen["checkpoint"],
        samples=chosen["samples"],
        resume=chosen["resume"],
    )
    others = [path for path in (_recipe_file(chosen), chosen["weights"]) if path is not None]
    outputs.check([*paintings, *others], overwrite=chosen["overwrite"])
    with ExitStack() as resources:
        resources.enter_context(_files.reserved(outputs.checkpoint, argument="checkpoint"))
        resume = outputs.earlier()
        names = distinct([path.stem for path in paintings])
        pictures = [images.read(path, argument="paintings") for path in paintings]
        notes = [f"{one.name}: {note}" for one in pictures for note in one.notes]
        photos = [path for path, _ in rows.expanded(chosen["photos"], "photos")]
        loaded, info, display = _load(chosen)
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


def _recipe_file(chosen: Mapping[str, Any]) -> Path | None:
    return None if chosen["recipe"] is None else arguments.recipe_file(chosen["recipe"])
