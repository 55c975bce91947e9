"""The commands `demo`, `texture`, `dream`, `plan` and `train`.

The function of a command takes the command's positional arguments, and `chosen`, which maps the names
of the command's options to their values. `plan` returns nothing; the other functions return the exit
code.

A run is the painting of one picture.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from nst_jax import _checks, _files, images, run_scales, texturing
from nst_jax.app import arguments, cache
from nst_jax.app import controls as controlling
from nst_jax.app import dream as dreams
from nst_jax.app import plan_report as plans
from nst_jax.app import train as training
from nst_jax.app.autosave import checkpoint_of
from nst_jax.app.batch import rows
from nst_jax.app.chosen_options import (
    Chosen,
    begun_display,
    check_weights,
    chosen_bucket,
    chosen_changes,
    chosen_outputs,
    chosen_recipe,
    chosen_tap_files,
    loaded_weights,
    other_inputs,
    picture_outputs,
    weights_file,
)
from nst_jax.app.job import picture_job
from nst_jax.app.messages import naming_size, print_lines, print_message
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
from nst_jax.app.recipe_controls import check_no_content, with_controls_of_recipe
from nst_jax.app.standard_streams import source
from nst_jax.app.textures import blank_picture, recipe_of_texture
from nst_jax.app.writing import write_picture
from nst_jax.feed_forward.training_job import distinct, training_job
from nst_jax.images import sheets
from nst_jax.recipes import GATYS_TEXTURE
from nst_jax.recipes.changes import with_sizes
from nst_jax.scaling import sharding
from nst_jax.scaling.bucket_plans import plan_in_arrays
from nst_jax.scaling.file_memory import memory_of_files
from nst_jax.scaling.plan import scales_of_canvas
from nst_jax.vgg.taps import SMALLEST

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
        controlling.check_with_pictures(chosen, seen[0], seen[1:])
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
        others = controlling.shapes_of_region_styles(chosen, shapes[1:])
        scales = run_scales.scales_of(
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
    with naming_size(None if shapes else "shape"):
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
    _checks.image_shape("shape", (*chosen["shape"], 3), smallest=SMALLEST)
    for name in ("size", "style_size"):
        if chosen[name] is not None:
            raise ValueError(f"`{name}`: `--shape` is the size of the result; omit this one")
    for name in ("regions", "region_maps", "protect"):
        if chosen[name]:
            raise ValueError(
                f"`{name}`: names parts of pictures, whose place `--shape` takes; name the pictures, "
                "CONTENT STYLE, instead, or leave this one out"
            )


# --- Training -------------------------------------------------------------------------------------


def train(paintings: Sequence[Path], chosen: Chosen) -> int:
    """Train a network on paintings and photos, and return the exit code.

    At the end, the path of the network's file is printed, unless `--quiet` is given. If the training
    failed or stopped early, the reason is printed instead, even with `--quiet`.
    """
    if chosen_tap_files(chosen):
        raise ValueError(
            "`style_layer`: a network learns a painting as a whole, so no layer has a style of its "
            "own; give NAME=WEIGHT, or paint with `stylize`"
        )
    recipe = arguments.recipe_of(chosen_changes({**chosen, "steps": None, "learning_rate": None}))
    outputs = training.TrainOutputs.of(
        chosen["output"],
        chosen["checkpoint"],
        samples=chosen["samples"],
        resume=chosen["resume"],
    )
    found = [path for path, _ in rows.expanded(chosen["photos"], "photos")]
    photos = outputs.without_samples(found, rows.finder(chosen["photos"]))
    others = other_inputs(chosen, None)
    outputs.check([*paintings, *others], photos, overwrite=chosen["overwrite"])
    check_weights(chosen)
    with ExitStack() as resources:
        resources.enter_context(_files.reserved(outputs.checkpoint, argument="checkpoint"))
        resume = outputs.earlier()
        names = distinct([path.stem for path in paintings])
        pictures = [images.read(path, argument="paintings") for path in paintings]
        notes = [f"{one.name}: {note}" for one in pictures for note in one.notes]
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
