"""Write the settings of the web page as a command line, and parse and check this command line.

The settings that a visitor (somebody who uses the page in a browser) chooses are written as a command
line, which the page shows. The command is `stylize`, which paints a picture by optimisation (a run), or
`instant`, which paints it by a single pass of a network. The server parses the command line as the
command would, and paints what this line says. So the picture is the same as if the visitor had typed
the line into a shell.
"""

import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nst_jax.app import command_classes
from nst_jax.app.instant.job import InstantJob, single_job
from nst_jax.app.job import PictureJob
from nst_jax.app.messages import PROGRAM, BadInput, usage_message
from nst_jax.app.options import feed_forward, painting
from nst_jax.app.outputs import frame_file
from nst_jax.app.stylize import stylize_job
from nst_jax.app.warming import side_of_instant
from nst_jax.app.web import limits
from nst_jax.controls.finishing import COLORS
from nst_jax.feed_forward import style_names
from nst_jax.feed_forward.instant_controls import WITHOUT_PICTURE
from nst_jax.feed_forward.instant_painter import square_fits
from nst_jax.recipes.presets import DEFAULT, PRESETS, QUALITIES
from nst_jax.recipes.strength import OWN

# Name of the result on the command line that the page shows. It is fixed, since the page does not ask
# the visitor for a name.
OUTPUT = "picture.png"

# Pictures of the command `instant` are padded to squares, so that photos of all shapes are painted by
# the same compiled programs. This is the largest side of such a square, in px. A picture that needs a
# larger one is not padded, since computing so much padding would take too much time.
LARGEST_BUCKET = 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a visitor chose on the page; the values are checked.

    Attributes:
      photo: name of the file of the photo.
      styles: names of files of paintings, or names of styles that the network of the command `instant`
        has learned; each with its weight in the blend of styles.
      recipe: name of the recipe.
      quality: "draft", "good" or "best", which choose a number of updates; None leaves this number to
        the recipe.
      steps: number of updates; None leaves it to recipe and quality. `stylize` refuses `quality` and
        `steps` together.
      strength: strength of the style, from 0 to 1; `recipes.strength.OWN` keeps the recipe's own style
        weight.
      size: size of the result in px: the length of the longer side, unless the recipe's size rule
        means another length; None is the recipe's size.
      colors: whose colours the result has, one of `COLORS`; None leaves it to the recipe.
      realism: how far the result is brought back to the edges of the photo, from 0 (not) to 1.
      style_scale: factor by which the style picture is enlarged (or reduced, if it is below 1).
      init: name of the file of the picture to start from; None starts as the recipe says.
      protect: name of the file of the mask whose white part stays as in the photo, and how much of the
        photo stays there, from 0 to 1; None protects nothing.
      regions: pairs of names of files: a mask, and the painting whose style the mask's region gets.
    """

    photo: str
    styles: tuple[tuple[str, float], ...]
    recipe: str = "default"
    quality: str | None = None
    steps: int | None = None
    strength: float = OWN
    size: int | None = None
    colors: str | None = None
    realism: float = 0.0
    style_scale: float = 1.0
    init: str | None = None
    protect: tuple[str, float] | None = None
    regions: tuple[tuple[str, str], ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether all styles are among the 26 that a network of the command `instant` has learned.

        Such styles are given by name, without a picture, so only `instant` can paint them.
        """
        return all(style_names.is_name(name) for name, _ in self.styles)

    @property
    def masks(self) -> list[str]:
        """Names of the files of all masks."""
        return [mask for mask, _ in self.regions] + ([self.protect[0]] if self.protect else [])

    @property
    def files(self) -> list[str]:
        """Names of all files that a run reads, each once; styles chosen by name have no files."""
        masks = [name for pair in self.regions for name in pair]
        more = [name for name in (self.init, self.protect and self.protect[0]) if name]
        styles = [] if self.is_named else [name for name, _ in self.styles]
        return list(dict.fromkeys([self.photo, *styles, *masks, *more]))


# --- Reading what the page sends ------------------------------------------------------------------


def settings_in(given: Any, known: Collection[str]) -> Settings:
    """Check the settings that the page sent as JSON, and return them as `Settings`.

    Args:
      given: the decoded JSON.
      known: names of the visitor's pictures.

    Raises:
      ValueError: if the JSON is not an object, or if a setting is unknown, missing or cannot be used.
        The message is one sentence, which names the setting.
    """
    if not isinstance(given, Mapping):
        raise ValueError("settings: expected an object of names and values")
    if unknown := sorted(str(name)[:40] for name in given.keys() - READERS.keys()):
        raise ValueError(f"settings: there is no setting {unknown[0]!r}")
    for name in ("photo", "styles"):
        if not given.get(name):
            raise ValueError(
                f"{name}: is missing; choose a {'photo' if name == 'photo' else 'style'}"
            )
    # A field that is empty on the page is left out, so that its setting has the default of `Settings`.
    found = {
        name: READERS[name](name, value, known)
        for name, value in given.items()
        if value is not None and value != ""
    }
    return Settings(**found)


def _file(name: str, value: Any, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: this picture is no longer here; choose it again")
    return value


def _number(least: float, most: float, *, whole: bool = False) -> Callable[..., Any]:
    def read(name: str, value: Any, known: Collection[str]) -> Any:
        del known
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not least <= value <= most:  # NaN is in no range
            raise ValueError(f"{name}: expected a number from {least:g} to {most:g}")
        if whole and value != int(value):
            raise ValueError(f"{name}: expected a whole number from {least:g} to {most:g}")
        return int(value) if whole else float(value)

    return read


def _choice(names: Collection[str]) -> Callable[..., Any]:
    def read(name: str, value: Any, known: Collection[str]) -> str:
        del known
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{name}: expected one of {', '.join(names)}")
        return value

    return read


_SHARE = _number(0, 1)


def _styles(name: str, value: Any, known: Collection[str]) -> tuple[tuple[str, float], ...]:
    pairs = _pairs(name, value, limits.MOST_STYLES)
    named = [isinstance(style, str) and style in style_names.NAMES for style, _ in pairs]
    if any(named) and not all(named):
        raise ValueError("styles: a gallery style cannot be mixed with paintings; choose one kind")
    found = tuple(
        (style if named[0] else _file(name, style, known), _SHARE(name, share, known))
        for style, share in pairs
    )
    if len({style for style, _ in found}) < len(found):
        raise ValueError("styles: a style is chosen twice; remove one")
    if not sum(share for _, share in found) > 0:
        raise ValueError("styles: all shares are 0; give at least one style a larger share")
    return found


def _protect(name: str, value: Any, known: Collection[str]) -> tuple[str, float]:
    ((mask, amount),) = _pairs(name, [value], 1)
    return _file(name, mask, known), _SHARE(name, amount, known)


def _regions(name: str, value: Any, known: Collection[str]) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(name, value, 3, least=0)
    return tuple((_file(name, mask, known), _file(name, style, known)) for mask, style in pairs)


def _pairs(name: str, value: Any, most: int, least: int = 1) -> list[Any]:
    good = isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value)
    if not good or not least <= len(value) <= most:
        raise ValueError(f"{name}: expected {least} to {most} pairs")
    return list(value)


# Name of each setting that the page may send -> the function that checks and converts its value.
READERS: Mapping[str, Callable[..., Any]] = {
    "photo": _file,
    "styles": _styles,
    "recipe": _choice(tuple(PRESETS)),
    "quality": _choice(tuple(QUALITIES[DEFAULT.name])),
    "steps": _number(1, limits.MOST_STEPS, whole=True),
    "strength": _number(0, 1),
    "size": _number(limits.LEAST_SIDE, limits.LARGEST_SIDE, whole=True),
    "colors": _choice(tuple(COLORS)),
    "realism": _number(0, 1),
    "style_scale": _number(0.25, 4),
    "init": _file,
    "protect": _protect,
    "regions": _regions,
}


# --- Command lines --------------------------------------------------------------------------------


def stylize_words(settings: Settings) -> list[str]:
    """Return the words of the command line that paints with these settings by optimisation.

    Raises:
      ValueError: if the styles are names of styles that the network of the command `instant` has
        learned, since only that command can paint them.

    Example:
      >>> one = Settings(photo="cat.jpg", styles=(("sea.jpg", 1.0),), strength=0.6)
      >>> command_line(stylize_words(one))
      'nst-jax stylize cat.jpg sea.jpg --strength 0.6 -o picture.png'
    """
    if settings.is_named:
        raise ValueError(
            "styles: a gallery style is painted in a moment only; choose a painting to paint from"
        )
    flags: dict[str, Any] = {
        "--recipe": settings.recipe if settings.recipe != "default" else None,
        "--quality": settings.quality,
        "--steps": settings.steps,
        "--strength": f"{settings.strength:g}" if settings.strength != OWN else None,
        "--size": settings.size,
        "--colors": settings.colors,
        "--realism": f"{settings.realism:g}" if settings.realism else None,
        "--style-scale": f"{settings.style_scale:g}" if settings.style_scale != 1 else None,
        "--init": settings.init,
    }
    words = ["stylize", settings.photo, *_style_words(settings)]
    for flag, value in flags.items():
        words += [] if value is None else [flag, str(value)]
    words += _protect_words(settings)
    for mask, style in settings.regions:
        words += ["--region", f"{mask}:{style}"]
    return [*words, "-o", OUTPUT]


def instant_words(settings: Settings) -> list[str]:
    """Return the words of the command line of `instant` for these settings.

    The command `instant` paints by a single pass of a network, `stylize` by optimisation. The page has
    one slider of strength for both. In `stylize`, its value `OWN` means the recipe's own style weight;
    in `instant`, 1 means the full style and is the largest value. So the strength is divided by `OWN`,
    and limited to 1. Settings for which `instant` has no option, such as regions and the recipe, are
    left out. If the styles are names of styles that the network has learned, the strength is left out
    as well, and so are colours that need the pixels of a style picture.

    The picture is padded to a square (a bucket), so that photos of all shapes are painted by the same
    compiled programs. If the square would be too large, the picture is not padded; see `bucket_words`.

    Example:
      >>> one = Settings(photo="cat.jpg", styles=(("sea.jpg", 1.0),), strength=0.34, size=250)
      >>> command_line(instant_words(one))
      'nst-jax instant cat.jpg sea.jpg --strength 0.4 --size 250 --bucket 256 -o picture.png'
    """
    words = ["instant", settings.photo, *_style_words(settings)]
    strength = min(1.0, settings.strength / OWN)
    if strength < 1 and not settings.is_named:
        words += ["--strength", f"{strength:g}"]
    if settings.size is not None:
        words += ["--size", str(settings.size)]
    words += bucket_words(settings.size)
    colors = settings.colors
    if colors is not None and (colors in WITHOUT_PICTURE or not settings.is_named):
        words += ["--colors", colors]
    if settings.realism:
        words += ["--realism", f"{settings.realism:g}"]
    return [*words, *_protect_words(settings), "-o", OUTPUT]


def bucket_words(size: int | None) -> list[str]:
    """Return the options with which the command `instant` paints a picture in a bucket.

    A bucket is a square at whose top left the picture lies, so that pictures of all shapes share
    compiled programs. The list is empty if the square would be larger than `LARGEST_BUCKET` or would
    not fit into memory. Without a bucket, the picture may still fit, since it can be painted in strips.

    Args:
      size: the longer side of the picture in px; None means that of the recipe `default`.

    Example:
      >>> bucket_words(None), bucket_words(250), bucket_words(2000)
      (['--bucket', '512'], ['--bucket', '256'], [])
    """
    side = side_of_instant(None if size is None else str(size))
    fits = side <= LARGEST_BUCKET and square_fits(side)
    return ["--bucket", str(side)] if fits else []


def _protect_words(settings: Settings) -> list[str]:
    if settings.protect is None:
        return []
    mask, amount = settings.protect
    return ["--protect", mask if amount == 1 else f"{mask}:{amount:g}"]


def _style_words(settings: Settings) -> list[str]:
    if len(settings.styles) == 1:
        return [settings.styles[0][0]]
    return [f"{name}:{share:g}" for name, share in settings.styles]


def command_line(words: Sequence[str]) -> str:
    """Return the words of a command as one line that can be typed into a shell."""
    return shlex.join([PROGRAM, *words])


def frames_words(words: Sequence[str], step: int) -> list[str]:
    """Return a run's command line, extended so that it also writes the picture after `step` updates.

    This picture is written into the folder `frames`. The command still makes all updates: a run of only
    `step` updates would give another picture, since a recipe divides its updates among resolutions.

    Args:
      words: the words of the run's command line, from `stylize_words`.
      step: number of updates after which the picture is wanted.
    """
    return [*words, "--every", str(max(step, 1)), "--frames", "frames"]


def frame_name(step: int) -> str:
    """Return the path at which the command of `frames_words` writes the picture after `step` updates.

    Example:
      >>> frame_name(40)
      'frames/step_00040.png'
    """
    return f"frames/{frame_file(step)}"


def start_lines(words: Sequence[str], step: int | None, name: str) -> list[str]:
    """Return command lines that make a picture of a run. Another run is to start from this picture.

    Args:
      words: the words of the run's command line.
      step: number of updates after which the picture is wanted; None means the finished picture.
      name: name of the file that the lines write.

    Example:
      >>> start_lines(["stylize", "cat.jpg", "sea.jpg", "-o", OUTPUT], 30, "start_1.png")[1]
      'cp start_1/step_00030.png start_1.png'
    """
    folder, at = Path(name).stem, words.index("-o") + 1
    if step is None:
        return [command_line([*words[:at], name, *words[at + 1 :]])]
    frames = ["--every", str(max(step, 1)), "--frames", folder]
    line = command_line([*words[:at], f"{folder}_finished.png", *words[at + 1 :], *frames])
    return [line, shlex.join(["cp", f"{folder}/{frame_file(step)}", name])]


# --- Jobs -----------------------------------------------------------------------------------------


@click.command(cls=command_classes.Command)
@painting.stylize
def _stylize(**chosen: Any) -> dict[str, Any]:
    """Return the parsed options and arguments of `stylize`; the command serves only to parse them."""
    return chosen


@click.command(cls=command_classes.Command)
@feed_forward.instant
def _instant(**chosen: Any) -> dict[str, Any]:
    """Return the parsed options and arguments of `instant`; the command serves only to parse them."""
    return chosen


def _parsed(command: click.Command, words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the options and arguments of a command line by name, as click parses and checks them.

    The paths of content, styles, output and protected part are joined to `folder`; the caller does the
    same for other paths. The key `begun` is added, with the present time by `time.perf_counter`.

    Args:
      command: the command.
      words: the words after the command's name.
      folder: the folder to which the names of files are relative.

    Raises:
      ValueError: if the command would refuse the words when it parses them.
    """
    try:
        with command.make_context(PROGRAM, list(words)) as context:
            chosen = dict(context.params)
    except click.UsageError as error:
        raise ValueError(usage_message(error)) from None
    except BadInput as error:
        raise ValueError(error.message) from None
    chosen["content"] = folder / chosen["content"]
    chosen["style"] = [
        (path if style_names.is_name(str(path)) else folder / path, share)
        for path, share in chosen["style"]
    ]
    chosen["output"] = folder / chosen["output"]
    if chosen["protect"] is not None:
        chosen["protect"] = chosen["protect"].with_masks(lambda path: folder / path)
    chosen["begun"] = time.perf_counter()
    return chosen


def stylize_job_of(words: Sequence[str], folder: Path) -> PictureJob:
    """Parse and check a command line of `stylize`, and return its inputs and options.

    Args:
      words: the words of the command line, from `stylize_words`.
      folder: the folder that has the files which the words name, and gets the result.

    Raises:
      ValueError: if the command itself would refuse the words, or if the result would be larger than
        the page allows.
    """
    chosen = _parsed(_stylize, words[1:], folder)
    if chosen["init"] is not None:
        chosen["init"] = str(folder / chosen["init"])
    chosen["regions"] = tuple(
        region._replace(mask=folder / region.mask, style=folder / region.style)
        for region in chosen["regions"]
    )
    content, styles = chosen.pop("content"), chosen.pop("style")
    job = stylize_job(content, styles, chosen)
    limits.check_side(job.plan.real_scales[-1].shape)
    return job


def instant_job_of(words: Sequence[str], folder: Path) -> InstantJob:
    """Parse and check a command line of `instant`, and return its inputs and options.

    Args:
      words: the words of the command line, from `instant_words`.
      folder: the folder that has the files which the words name, and gets the result.

    Raises:
      ValueError: if the command itself would refuse the words, or if the result would be larger than
        the page allows.
    """
    chosen = _parsed(_instant, words[1:], folder)
    content, styles = chosen.pop("content"), chosen.pop("style")
    job = single_job(content, styles, chosen)
    for row in job.rows:
        limits.check_side(row.shape)
    return job
