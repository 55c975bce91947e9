"""The command: options to a job, its canvases painted and written as a grid; exit codes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nst_jax import images
from nst_jax.app import arguments, control_files
from nst_jax.app import controls as controlling
from nst_jax.app.chosen_options import (
    Chosen,
    check_devices,
    check_weights,
    chosen_bucket_of_picture,
    chosen_changes,
    chosen_recipe,
    chosen_seed,
    chosen_tap_files,
    loaded_weights,
    other_inputs,
)
from nst_jax.app.fine_style import ROLE, FineStyle, NotCombined, check_fine_style, read_fine
from nst_jax.app.interrupts import raise_on_interrupt
from nst_jax.app.messages import print_lines, print_message
from nst_jax.app.outputs import (
    Outputs,
    check_outputs,
    default_name,
    result_path,
)
from nst_jax.app.parsing import StyleShare
from nst_jax.app.progress import Display
from nst_jax.app.recipe_controls import with_controls_of_recipe
from nst_jax.app.sweep.axes import TITLES
from nst_jax.app.sweep.grid import write_grid
from nst_jax.app.sweep.job import SweepJob, sweep_job
from nst_jax.app.sweep.painting import paint_sweep


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
        for canvas in paint_sweep(loaded, info, planned, display):
            painted[canvas.cell] = canvas
        write_grid(planned, info, painted)
    except NotCombined as error:
        print_message("error", str(error))
        return 1
    except KeyboardInterrupt:
        # If the signal came while the grid was drawn or written, this begins anew with all pictures.
        write_grid(planned, info, painted)
        total = len(planned.labels)
        text = f"{planned.output} has the {len(painted)} of {total} pictures that were done"
        if not painted:
            text = f"none of the {total} pictures was done, so nothing was written"
        print_message("interrupted", text)
        return 130
    for cell, canvas in painted.items():
        if canvas.problem:
            print_message("warning", f"{planned.labels[cell]}: {canvas.problem}")
    if not chosen["quiet"]:
        print_lines(planned.output)
    return 1 if any(canvas.problem for canvas in painted.values()) else 0


def _with_combined_style(
    planned: SweepJob, params: Any, chosen: Chosen, display: Display
) -> SweepJob:
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


def _sweep_job(content: Path, styles: Sequence[StyleShare], chosen: Chosen) -> SweepJob:
    """Check the options of the command `sweep`, and return them with the pictures that were read.

    `chosen` must already have the paths of the masks and other pictures that the recipe file names.
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
    others = [*other_inputs(chosen, init_file), *control_files.files_of(chosen)]
    fine = chosen["style_fine"]
    check_outputs(outputs, [content, *paths, *others, *([] if fine is None else [fine])])
    check_weights(chosen)
    read = [images.read(path, argument="style") for path in paths]
    controls = controlling.read_controls(chosen, read)
    if fine is not None:
        picture = read_fine(fine)
        controls = controls._replace(files={**controls.files, ROLE: picture})
    return sweep_job(
        images.read(content, argument="content"),
        read,
        arguments.with_start(recipe, init),
        {name: chosen[name] for name in TITLES if chosen[name] is not None},
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
