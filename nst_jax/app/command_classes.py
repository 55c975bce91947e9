"""The classes of commands and options: help lists options in groups, and errors name them as typed.

They are subclasses of click's classes. The module imports nothing that takes long to load, since even
`--help` needs it.
"""

from collections.abc import Callable
from typing import Any

import click

from nst_jax.app.messages import (
    PROGRAM,
    BadInput,
    did_you_mean,
    named_as_typed,
    print_lines,
    with_file_named,
)

# Each heading stands above a group of options in a help text.
LOOK, SIZE, OUTPUT, MEMORY, EXPERT = "Look", "Size", "Output", "Memory and devices", "Expert"
OTHER = "Options"  # heading of the options that are in no other group, such as --help
# All headings, in the order in which help prints them.
GROUPS = (LOOK, SIZE, OUTPUT, MEMORY, EXPERT, OTHER)


class Option(click.Option):
    """An option that the help lists under the heading `group`, which is one of `GROUPS`."""

    def __init__(self, *names: Any, group: str = OTHER, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return {}, so that click adds no `[required]` or `[default: ...]` to the help text.

        The help texts of this package say both in words.
        """
        return {}


class Command(click.Command):
    """A command whose help lists options in groups, and whose errors name options as they are typed.

    Errors raised by Python functions begin with the name of an argument, such as `style_size`. The
    command replaces this name by that of the option, `--style-size`.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help text, with a section for each group that has options."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            # Only options are listed, since the text above the list explains positional arguments.
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections[getattr(param, "group", OTHER)].append(record)
        for group, records in sections.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _reworded(super().get_help_option(ctx))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)  # a copy, since click empties `args`
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            # In `-image_size`, click takes each letter after the single dash for an option, and reports
            # only the first unknown one. The whole word is reported instead.
            words = (word.partition("=")[0] for word in typed if not word.startswith("--"))
            name = error.option_name
            whole = next((word for word in words if word.startswith(name)), name)
            raise click.NoSuchOption(whole, ctx=error.ctx) from error
        except click.BadOptionUsage as error:
            error.ctx = error.ctx or ctx  # click leaves it out, and messages name the command
            raise

    def make_parser(self, ctx: click.Context) -> Any:
        """Return click's parser, changed such that `-:SHARE` is an argument and no option.

        This text means a style from standard input with a share. A method of the parser that is not
        public is replaced, since click has no setting for it; a test notices if click changes.
        """
        parser: Any = super().make_parser(ctx)
        of_option = parser._process_opts

        def process(word: str, state: Any) -> None:
            if word.startswith("-:"):
                state.largs.append(word)
            else:
                of_option(word, state)

        parser._process_opts = process
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError) as error:
            message = named_as_typed(with_file_named(str(error)), self.params)
            if message is None:  # the error does not begin with the name of an argument
                raise
            raise BadInput(message) from error


def _reworded(help_option: click.Option | None) -> click.Option | None:
    if help_option is not None:
        help_option.help = "show this text"
        help_option.callback = _show_help
    return help_option


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the help text, as click does, and raise the errors of `print_lines`."""
    del param
    if value and not ctx.resilient_parsing:
        print_help(ctx)
        ctx.exit()


def version_option(version: str) -> Callable[[Any], Any]:
    """Return a decorator that adds `--version` to a command, which prints the program's version.

    It takes the place of click's decorator of this name, which does not print by `print_lines`.
    """

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        del param
        if value and not ctx.resilient_parsing:
            print_lines(f"{PROGRAM} {version}")
            ctx.exit()

    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="show the version",
    )


def print_help(ctx: click.Context) -> None:
    """Print the help text of a command, given the context in which click runs it."""
    print_lines(*ctx.get_help().split("\n"))


class CommandWithLists(Command):
    """A command whose option `--styles` takes all words up to the next option as its values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # In click, an option takes a fixed number of words, but may be given several times. So
        # `--styles a b` is rewritten as `--styles a --styles b`.
        repeated: list[str] = []
        in_list = False
        for word in args:
            if word.startswith("-") and len(word) > 1:
                option, _, first = word.partition("=")
                in_list = option == "--styles"
                repeated += ["--styles", first] if in_list and first else [] if in_list else [word]
            else:
                repeated += ["--styles", word] if in_list else [word]
        return super().parse_args(ctx, repeated)


class CommandGroup(click.Group):
    """A group of commands. The error for an unknown name suggests a similar name, or lists all."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they are declared."""
        return list(self.commands)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _reworded(super().get_help_option(ctx))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            hint = did_you_mean(args[0], known) or f"expected one of {', '.join(known)}"
            raise BadInput(f"`{ctx.command_path}`: there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


# With this setting, click uses this class for groups within groups too.
CommandGroup.group_class = CommandGroup
