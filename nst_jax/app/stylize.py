"""The command `stylize`; and, for `nst_jax.app.web`, a function that only checks and plans a run.

A run is the painting of one picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import images, provenance
from nst_jax.app import arguments, cluster, control_files, preview
from nst_jax.app import controls as controlling
from nst_jax.app.autosave import checkpoint_of
from nst_jax.app.chosen_options import (
    Chosen,
    begun_display,
    check_weights,
    chosen_bucket,
    chosen_outputs,
    chosen_recipe,
    chosen_seed,
    chosen_strength,
    chosen_tap_files,
    other_inputs,
)
from nst_jax.app.fine_style import ROLE, FineStyle, NotCombined, check_fine_style, read_fine
from nst_jax.app.job import PictureJob, picture_job
from nst_jax.app.kept_costs import kept_costs
from nst_jax.app.messages import print_message
from nst_jax.app.outputs import Outputs, check_outputs, default_name
from nst_jax.app.parsing import StyleShare
from nst_jax.app.picture_command import paint_and_report, reserved_outputs, run_picture_command
from nst_jax.app.recipe_controls import with_controls_of_recipe
from nst_jax.app.standard_streams import source
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding
from nst_jax.weights.params import load_params


def stylize(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> int:
    """Paint one picture (with `--cluster`, by several processes together); return the exit code."""
    chosen = with_controls_of_recipe(chosen)
    check_fine_style(chosen, styles)
    fine = chosen["style_fine"]
    inputs = {
        "content": [content],
        "style": [path for path, _ in styles],
        "style_fine": [] if fine is None else [fine],
    }
    return run_picture_command(
        lambda given: _stylize_by_all(content, styles, given), inputs, chosen
    )


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
    display = begun_display(chosen)
    # `prints_path` is False only if the picture itself, and not its path, goes to standard output.
    piped = not chosen.get("prints_path", True)
    early = preview.Preview(asked.outputs, display, piped=piped)
    with reserved_outputs(asked.outputs), early:
        fine = None
        if chosen["style_fine"] is not None:
            picture = read_fine(source(chosen["style_fine"]))
            params = load_params(chosen["weights"])
            fine = FineStyle(
                picture,
                params,
                chosen["devices"],
                display,
                precision=chosen["precision"],
                tile=chosen["tile"],
            )
        try:
            job = _stylize_job(content, styles, chosen, asked, early, fine)
        except NotCombined as error:
            print_message("error", str(error))
            return 1
        return paint_and_report(job, chosen, display, peers, early)


def stylize_job(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> PictureJob:
    """Check what `stylize` would paint, and return it with its plan (tiles, memory); paint nothing.

    Args:
      content: path of the photo.
      styles: paths of the style pictures, each with its share in the blend; None if no share was given.
      chosen: the options of `stylize`; and `begun`, the time in seconds by `time.perf_counter` when the
        command began.

    Raises:
      ValueError: if an option or a picture cannot be used; the message names it.
    """
    return _stylize_job(content, styles, chosen, _asked(content, styles, chosen))


class _Asked(NamedTuple):
    """Settings and files that `stylize` gets from its options before it reads content and styles."""

    recipe: Recipe
    # The initial picture that `--init` names: an image [h, w, 3], or an instance of a class in
    # `nst_jax.recipes.starts` that makes such an image; None without `--init`.
    init: Any
    # If `--init` names a file: the picture that was read from it; else None.
    init_file: images.Picture | None
    outputs: Outputs


def _asked(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> _Asked:
    recipe = chosen_recipe(chosen, styles)
    paths = [path for path, _ in styles]
    outputs = chosen_outputs(chosen, default_name(content, paths))
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    others = [*other_inputs(chosen, init_file), *control_files.files_of(chosen)]
    others += [] if chosen.get("style_fine") is None else [chosen["style_fine"]]
    check_outputs(outputs, [content, *paths, *chosen_tap_files(chosen), *others])
    check_weights(chosen)
    return _Asked(recipe, init, init_file, outputs)


def _stylize_job(
    content: Path,
    styles: Sequence[StyleShare],
    chosen: Chosen,
    asked: _Asked,
    early: preview.Preview | None = None,
    fine: FineStyle | None = None,
) -> PictureJob:
    """Read and check all that `stylize` needs to paint, and return it with a plan (tiles, memory).

    If `early` is given, a preview is painted as soon as the size of the result is known, unless an
    earlier run is resumed. If `fine` is given, the style is combined with the fine structure of
    `fine.picture`; this takes long, so it comes after all checks.
    """
    paths = [*(path for path, _ in styles), *chosen_tap_files(chosen)]
    read = [images.read(source(path), argument="style") for path in paths]
    photo = images.read(source(content), argument="content")
    resume = checkpoint_of(asked.outputs)
    controls = controlling.read_controls(chosen, read)
    if fine is not None:
        controls = controls._replace(files={**controls.files, ROLE: fine.picture})
    sized = None
    # A preview is written to the file of the result. A resumed run has no preview, since that file may
    # show a better picture already.
    if early is not None and resume is None:
        inputs = provenance.roles(photo, read, asked.init_file) | dict(controls.files)
        sized = partial(early.begin, photo, read, inputs=inputs)
    recipe = arguments.with_start(asked.recipe, asked.init)
    with kept_costs(recipe):
        job = picture_job(
            photo,
            read,
            recipe=recipe,
            outputs=asked.outputs,
            seed=chosen_seed(chosen, asked.recipe),
            init=None if asked.init_file is None else asked.init,
            init_file=asked.init_file,
            resume=resume,
            devices=chosen["devices"],
            bucket=chosen_bucket(chosen),
            begun=chosen["begun"],
            controls=controls,
            strength=chosen_strength(chosen),
            sized=sized,
        )
    if fine is None:
        return job
    # The combined style already has the size at which the run uses it. A new plan would resize it once
    # more, by the recipe's rule for the sizes of pictures and its factor `style_scale` for styles. So
    # the plan is kept, and only the pixels are replaced.
    shape = job.plan.real_scales[-1].style_shapes[0]
    recorded = controls._replace(combined=fine.facts(shape))
    return replace(job, combined=fine.combined(read[0], shape), controls=recorded)
