"""Printing of lines and messages, and the wording of errors about options and arguments.

The module is built on click. It imports nothing that takes long to load, since even `--help` needs it.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches

import click

from nst_jax.app.synonyms import meant_by

PROGRAM = "nst-jax"


class BadInput(click.ClickException):
    """An error in the user's input; its message begins with the option or argument as users type it."""


class NotPrinted(OSError):
    """Raised if standard output cannot be written to, for example a file on a full disk."""


# --- Printing -------------------------------------------------------------------------------------

# Unicode categories that are escaped: control (Cc) and format characters (Cf), such as those that
# change the direction of text; line and paragraph separators (Zl, Zp); and surrogates (Cs), with which
# Python represents bytes of a file name that are not text.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
# Format characters that are exempt from escaping, since several scripts and emoji need them.
_JOINERS = "\u200c\u200d"


def printable(text: str, encoding: str | None = None) -> str:
    r"""Escape characters that could make a terminal show something other than the text.

    They become `\uXXXX`, or `\UXXXXXXXX` if their code has more than four hexadecimal digits.

    Printed names and descriptions may come from files of strangers. A line break in them would forge a
    line of output, and an escape sequence could rewrite the screen.

    Args:
      text: the text of one line.
      encoding: the encoding of the output; characters that it does not have are escaped too. None means
        UTF-8.

    Example:
      >>> print(printable("cat\x1b[2J.png"))
      cat\u001b[2J.png
    """
    return "".join(
        character if _is_plain(character, encoding or "utf-8") else _escaped(character)
        for character in text
    )


def _is_plain(character: str, encoding: str) -> bool:
    if " " <= character <= "~":
        return True
    if unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS:
        return False
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def print_lines(*lines: object, err: bool = False) -> None:
    """Print lines on standard output or standard error; line breaks inside a line are escaped.

    All text that commands print goes through this function or `progress.Display`, except what
    `interrupts` writes when a signal ends the process, and what is logged, such as errors of the server
    of `web`.

    Args:
      *lines: objects that `str` turns into the text of a line.
      err: whether to print on standard error.

    Raises:
      NotPrinted: if standard output cannot be written to. If standard error cannot, nothing is raised.
    """
    stream = sys.stderr if err else sys.stdout
    # If standard error cannot be written to, nothing is raised. It may be a file on a full disk, a pipe
    # that nobody reads, or a closed terminal; there is no other place for a message.
    ignored = (OSError, ValueError) if err else ()
    with suppress(*ignored):
        for line in lines:
            try:
                click.echo(printable(str(line), getattr(stream, "encoding", None)), err=err)
            except OSError as error:
                raise NotPrinted(error.errno, error.strerror) from error


def print_message(kind: str, text: str) -> None:
    """Print one line such as "nst-jax: error: TEXT" on standard error.

    Args:
      kind: the kind of the message, such as "error".
      text: the message.
    """
    print_lines(f"{PROGRAM}: {kind}: {text}", err=True)


# --- Wording --------------------------------------------------------------------------------------


# Python names of the options that error messages of the Python API suggest as a remedy. In messages of
# the command line, `as_flags` replaces these names by the names of flags.
SUGGESTED = (
    "size", "tile", "chunk", "precision", "optimizer", "crop", "batch", "width", "style_scale",
    "protect", "bucket", "style_size", "steps", "devices", "content_weight", "shape",
)  # fmt: skip


def as_flags(message: str) -> str:
    """Return a message with Python names of options replaced by the flags of the command line.

    A name after the word "column" is that of a manifest's column, and is kept.

    Example:
      >>> as_flags("smaller: `tile` auto or `descent.optimizer.history=5`")
      'smaller: `--tile` auto or `--set descent.optimizer.history=5`'
    """
    flags = re.sub(
        f"(?<!column )`({'|'.join(SUGGESTED)})`",
        lambda name: f"`--{name[1].replace('_', '-')}`",
        message,
    )
    flags = re.sub(r"`regions(\[\d+\])", r"`--region\1", flags)
    return re.sub(r"`([a-z]+(?:\.[a-z_]+)+=)", r"`--set \1", flags)


# The key in click's `Context.meta` for what `record_keys` has recorded.
_KEYS = f"{__name__}.keys"


def record_keys(recipe: str, keys: Mapping[str, str]) -> None:
    """Record which options have values from a recipe file, so that errors can name the file and key.

    Args:
      recipe: the path of the file, as it was given by `--recipe` or in the table of a batch's pictures.
      keys: the Python name of an option -> the key in the file that has the value.
    """
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_KEYS, {}).setdefault(recipe, {}).update(keys)


def with_file_named(message: str, recipe: str | None = None) -> str:
    """Name a recipe file and its key in a message on an option whose value comes from that file.

    They replace the name of the option. Other messages are returned unchanged.

    Args:
      message: the message, which begins with the Python name of the option, such as "`protect`: ".
      recipe: the path of the recipe file as it was given, or the name of a preset; None means the value
        of `--recipe`.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return message
    recipe = recipe or context.params.get("recipe")
    keys = context.meta.get(_KEYS, {}).get(recipe, {})
    found = re.match(r"`(\w+)((?:\[\d+\])?(?:\.\w+)?)`", message)
    if found is None or found[1] not in keys:
        return message
    return f"`recipe`: '{recipe}': `{keys[found[1]]}{found[2]}`{message[found.end() :]}"


# Arguments of the Python API for which the command line has no option: they belong to a picture, and
# commands get them from its file. Messages name the picture instead.
_OF_PICTURES = {"opacity": "content", "style_opacity": "style"}


def named_as_typed(message: str, params: Sequence[click.Parameter]) -> str | None:
    """Return a message with the names of options as users type them, in place of the Python names.

    Args:
      message: a message that begins with the Python name of an argument, such as "`style_size`: ".
      params: the parameters of the command. A name that is none of theirs stays as it is, except that
        an opacity gets the name of its picture.

    Returns:
      The message; None if it does not begin with a name in backquotes.
    """
    found = re.match(r"`([\w ]+)((?:\[\d+\])?(?:\.\w+)?)`", message)
    if found is None:
        return None
    typed = {param.name: as_typed(param) for param in params}
    known = _OF_PICTURES.get(found[1], found[1])
    name = typed.get(known, known) + (found[2] or "")
    return f"`{name}`{as_flags(message[found.end() :])}"


def naming_as_typed(columns: Mapping[str, str] | None) -> Callable[[str], str]:
    """Return a function that replaces Python names in messages by the names that users type.

    The returned function can be called in any thread. `naming_as_typed` itself must be called in the
    thread that runs the command, since other threads do not know which command runs.

    Args:
      columns: the Python name of an option -> the column that has its values in a table of pictures to
        paint. None without such a table; messages then name the option as typed, or the key of a recipe
        file.
    """
    context = click.get_current_context(silent=True)

    def named(message: str) -> str:
        if columns is not None:
            name = re.match(r"`(\w+)", message)
            if name is not None and name[1] in columns:
                message = f"`{columns[name[1]]}{message[name.end() :]}"
            return named_as_typed(message, ()) or as_flags(message)
        if context is None:
            return as_flags(message)
        with context.scope(cleanup=False):
            message = with_file_named(message)
        return named_as_typed(message, context.command.params) or as_flags(message)

    return named


# The beginning of a message about the size of a style: the style itself is too small, or `style_scale`
# makes it too small or too large. If there are several styles, an index follows `style`.
_STYLE = re.compile(
    r"`style(\[(?P<of>\d+)\])?`: \d+x\d+ px "
    r"|`style_scale`: \S+ makes \S+ px of (the )?style(\[(?P<scaled>\d+)\])?[,;]"
)


@contextmanager
def naming_style(names: Sequence[str]) -> Iterator[None]:
    """Context manager: add the file name of a style to an error message about the style's size.

    Args:
      names: the names of the style files, first those that are blended, then those of regions (parts
        of the content with a style of their own).
    """
    try:
        yield
    except ValueError as error:
        if (found := _STYLE.match(str(error))) is None:
            raise
        index = int(found["of"] or found["scaled"] or 0)
        raise ValueError(f"{error} ('{names[index]}')") from None


@contextmanager
def naming_size(argument: str | None) -> Iterator[None]:
    """Context manager: name another argument in an error message about the size of canvas or styles.

    Args:
      argument: the Python name of the argument that gives both sizes, in place of `size` and
        `style_size`; None leaves messages as they are.
    """
    try:
        yield
    except ValueError as error:
        if argument is None:
            raise
        words = re.sub(r"`(style_)?size`", f"`{argument}`", str(error))
        raise ValueError(re.sub(r"long:(\d+) fits", r"up to \1 px fits", words)) from None


def usage_message(error: click.UsageError) -> str:
    """Return one line that says what is wrong with a command line that click could not parse."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    help_line = f"`{path} --help` lists the options"
    if isinstance(error, click.NoSuchOption):
        options = error.ctx.command.params if error.ctx else []
        known = [name for p in options if isinstance(p, click.Option) for name in p.opts]
        name = error.option_name
        hint = meant_by(name, known) or did_you_mean(name, known) or help_line
        if os.path.lexists(name):
            hint = f"for the file of this name, write './{name}'"
        return f"`{error.option_name}`: there is no such option; {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"`{as_typed(error.param)}`: is missing; {help_line}"
    if isinstance(error, click.BadOptionUsage):  # such as an option without its value
        what = re.sub("^Option '[^']*' ", "", error.message.rstrip("."))
        return f"`{error.option_name}`: {what}; {help_line}"
    message = error.message.rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"`{as_typed(error.param)}`: {message}"
    return f"{message}; {help_line}"


def as_typed(param: click.Parameter) -> str:
    """Return the name of an option or argument as users type it, such as `--size` or `CONTENT`."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name.strip("[].")


# A known name is suggested in place of a mistyped one if the two are at least this similar: the least
# value of `difflib.SequenceMatcher.ratio`, which is 1 for equal names and 0 if nothing is alike.
LIKE = 0.75


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a question that suggests the known name most like `name`; "" if none is similar enough.

    Dashes in front of options are left out of the comparison, since they would make all short options
    look alike.
    """
    plain = {option.lstrip("-"): option for option in known}
    near = get_close_matches(name.lstrip("-"), plain, n=1, cutoff=LIKE)
    return f"did you mean {plain[near[0]]}?" if near else ""
