"""The work of the commands `plot`, `gram` and `features`, which draw figures for teaching."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nst_jax import _checks, _files, figures, images, run_scales
from nst_jax._types import HostImage
from nst_jax.app import cache
from nst_jax.app.chosen_options import weights_file
from nst_jax.app.messages import print_lines
from nst_jax.app.outputs import refuse_inputs, result_path
from nst_jax.app.writing import write_picture
from nst_jax.figures import loss_plots
from nst_jax.recipes.sizes import LongEdge
from nst_jax.vgg.taps import SMALLEST, resolve_tap, resolve_taps
from nst_jax.weights import params


def plot(logs: Sequence[Path], chosen: Mapping[str, Any]) -> None:
    """Plot the losses of runs, and write the figure to a file.

    Args:
      logs: paths of the runs' logs, as `--log` writes them.
      chosen: the values of the command's options.
    """
    output = result_path(chosen["output"], Path("losses.png"))
    loss_plots.check_matplotlib("logs")
    loss_plots.check_plot(output, overwrite=chosen["overwrite"], argument="output")
    refuse_inputs(output, logs, "output")
    runs = [figures.read_log(path, argument="logs") for path in logs]
    figure = figures.plot_losses(runs, title=chosen["title"])
    _files.remove_leftovers([output])
    figures.save_plot(output, figure, overwrite=chosen["overwrite"])
    _report(output, chosen)


def gram(style: Path, chosen: Mapping[str, Any]) -> None:
    """Draw the Gram matrices of a picture, and write them to a file.

    Args:
      style: path of the picture.
      chosen: the values of the command's options.
    """
    taps = resolve_taps(chosen["taps"], argument="taps") if chosen["taps"] else figures.STYLE_TAPS
    output = _checked_output(style, _files.fitting_name(style.stem, "_gram.png"), "style", chosen)
    picture = _seen(style, "style", chosen)
    sheet = figures.gram_sheet(_weights(chosen), picture, taps=taps, label=style.name)
    _write(output, sheet, chosen)


def features(picture: Path, chosen: Mapping[str, Any]) -> None:
    """Draw the feature maps of one layer of the network for a picture, and write them to a file.

    Args:
      picture: path of the picture.
      chosen: the values of the command's options.
    """
    tap = resolve_tap(chosen["tap"], argument="tap")
    output = _checked_output(
        picture, _files.fitting_name(picture.stem, f"_{tap}.png"), "picture", chosen
    )
    seen = _seen(picture, "picture", chosen)
    sheet = figures.feature_sheet(_weights(chosen), seen, tap, count=chosen["count"])
    _write(output, sheet, chosen)


def _checked_output(source: Path, name: str, argument: str, chosen: Mapping[str, Any]) -> Path:
    output = result_path(chosen["output"], Path(name))
    images.check_output(output, overwrite=chosen["overwrite"])
    inputs = [path for path in (source, weights_file(chosen)) if path is not None]
    refuse_inputs(output, inputs, "output")
    return output


def _seen(path: Path, argument: str, chosen: Mapping[str, Any]) -> HostImage:
    """Return a picture [h, w, 3] in [0, 1], reduced if its longer side exceeds the option `size`.

    Raises:
      ValueError: if it cannot be read, or is too small for the network before or after it is reduced.
    """
    image = images.read(path, argument=argument).image
    _checks.image_shape(argument, image.shape, smallest=SMALLEST)
    height, width = image.shape[:2]
    if max(height, width) <= chosen["size"]:
        return image
    rule = LongEdge(chosen["size"])
    shape = run_scales.checked_shape(argument, (height, width), rule.shape(height, width), rule)
    return images.bicubic_8bit(image, shape)


def _weights(chosen: Mapping[str, Any]) -> Any:
    cache.set_cache(True)
    return params.load_params(chosen["weights"])


def _write(output: Path, sheet: HostImage, chosen: Mapping[str, Any]) -> None:
    _files.remove_leftovers([output])
    write_picture(output, sheet, overwrite=chosen["overwrite"])
    _report(output, chosen)


def _report(output: Path, chosen: Mapping[str, Any]) -> None:
    if not chosen["quiet"]:
        print_lines(output)
