"""What the commands that paint one picture have in common, such as standard input and output.

A run is the painting of one picture. It begins when all inputs and options are checked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nst_jax.app import autosave, cluster, preview, single, standard_streams
from nst_jax.app.chosen_options import Chosen
from nst_jax.app.job import PictureJob
from nst_jax.app.messages import as_flags, print_lines, print_message
from nst_jax.app.outputs import STANDARD, Outputs
from nst_jax.app.progress import Display
from nst_jax.app.recorder import Ending
from nst_jax.weights import params


def run_picture_command(
    command: Callable[[Chosen], int], inputs: Mapping[str, Sequence[Path]], chosen: Chosen
) -> int:
    """Run a command that paints one picture; `-` stands for standard input and standard output.

    Args:
      command: the command, as a function of its options that returns the exit code.
      inputs: the paths of the input files, by the names of the command's arguments.
      chosen: the options of the command.

    Raises:
      ValueError: if `--format` is given for an output file, with one exception (see `_check_format`);
        if an option cannot be used with an output to `-`; if two inputs are `-`; or if standard input
        or output is needed but is a terminal or closed, or standard input is empty.
    """
    _check_format(chosen["suffix"], chosen["output"])
    return standard_streams.with_streams(command, inputs, chosen)


def _check_format(suffix: str | None, output: Path | None) -> None:
    """Refuse `--format` if the output is a file, since the suffix of a file names its format.

    The exception is `--format webp` for a file whose suffix is .webp. Without `--format`, such a file
    can be a film; with `--format webp`, it is a single picture.
    """
    still_webp = suffix == "webp" and output is not None and output.suffix.lower() == ".webp"
    if suffix is not None and output != STANDARD and not still_webp:
        raise ValueError(
            "`suffix`: is for standard output, `-o -`, and as `webp` for an output in .webp; omit it, "
            "since a file's suffix is its format"
        )


@contextmanager
def reserved_outputs(outputs: Outputs) -> Iterator[None]:
    """Context manager: reserve the checkpoint and the log, so that no other run writes to them.

    Raises:
      ValueError: if another run has reserved one of them.
    """
    with ExitStack() as resources:
        for argument in ("checkpoint", "log"):
            if (path := getattr(outputs, argument)) is not None:
                resources.enter_context(cluster.reserved_by_first(path, argument))
        yield


def paint_and_report(
    job: PictureJob,
    chosen: Chosen,
    display: Display,
    peers: Any = None,
    early: preview.Preview | None = None,
) -> int:
    """Paint one picture, print how the run ended, and return the exit code.

    Args:
      job: the inputs and options of the picture, which have passed all checks.
      chosen: the options of the command.
      display: where progress is shown.
      peers: watches the other processes that paint this picture; None if there are none.
      early: the preview of the result, which a fast network paints; None if there is none.
    """
    info = params.read_info(chosen["weights"])
    loaded = params.load_params(chosen["weights"])
    autosave.check_disk_space(job)
    if early is not None:
        early.accept()
    try:
        ending = single.paint_job(loaded, info, job, display, peers, early)
    except ValueError:
        if early is not None:
            early.reject()
        raise
    return report_ending(ending, job.outputs, chosen)


def report_ending(ending: Ending, outputs: Outputs, chosen: Mapping[str, Any]) -> int:
    """Print how a run ended, and return the exit code of the command.

    If the run succeeded, the paths of its picture and film are printed. But they are not printed with
    `--quiet`, or if the picture itself goes to standard output.
    """
    if ending.code:
        print_message("error" if ending.status == "failed" else ending.status, ending.message)
    elif ending.message:
        print_message("warning", as_flags(ending.message))
    if not (ending.code or chosen["quiet"]) and chosen.get("prints_path", True):
        print_lines(*outputs.shown)
    return ending.code
