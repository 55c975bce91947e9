"""Pages that are written from the program itself: the API from docstrings, the commands from `--help`.

They are written into `docs/reference`, which git ignores. Two documents from outside `docs` join them.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from docs.site import links

# The public packages; each has a page with the names in its `__all__`.
PACKAGES = (
    "nst_jax", "nst_jax.recipes", "nst_jax.losses", "nst_jax.optimizers", "nst_jax.controls",
    "nst_jax.images", "nst_jax.vgg", "nst_jax.weights", "nst_jax.scaling", "nst_jax.checkpoints",
    "nst_jax.feed_forward", "nst_jax.dreams", "nst_jax.raters", "nst_jax.figures", "nst_jax.export",
)  # fmt: skip

# Documents outside `docs` that have a page: the path from `docs`, and the page.
DOCUMENTS = {
    "../CONTRIBUTING.md": "contributing",
    "../benchmarks/NOTES.md": "benchmark-notes",
    "../examples/README.md": "examples",
    "../notebooks/README.md": "notebooks",
}


def write(docs: Path) -> None:
    """Write all pages into the folder `reference` of `docs`."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    pages = {f"{package}.rst": package_page(package) for package in PACKAGES}
    pages["commands.md"] = commands_page()
    for source, page in DOCUMENTS.items():
        text = (docs / source).read_text()
        parent = str(Path(source).parent)
        pages[f"{page}.md"] = links.rewritten(text, folder=parent, to="reference")
    for name, text in pages.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)  # sphinx reads again what is newer than its last build


# --- The API --------------------------------------------------------------------------------------


def package_page(package: str) -> str:
    """Return the page of a package: its docstring, then its functions, classes and constants."""
    module = importlib.import_module(package)
    lines = [package, "=" * len(package), "", f".. module:: {package}", ""]
    lines += escaped(inspect.getdoc(module) or "", doctests=False)
    for name in sorted(public_names(module), key=str.lower):
        lines += ["", *entry(package, name, getattr(module, name))]
    return "\n".join(lines) + "\n"


def public_names(module: ModuleType) -> list[str]:
    """Return a module's public names that are no modules themselves.

    A module without `__all__` has the functions and classes that it defines.
    """
    if (names := getattr(module, "__all__", None)) is not None:
        return [name for name in names if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def entry(package: str, name: str, value: Any) -> list[str]:
    """Return the lines that document one name."""
    # What `nst_jax` itself has is indexed there.
    again = (
        package != "nst_jax" and getattr(importlib.import_module("nst_jax"), name, None) is value
    )
    options = ["   :no-index:"] if again else []
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}", "   :members:", *options]
    if inspect.isfunction(value) or inspect.isbuiltin(value):
        return [f".. autofunction:: {package}.{name}", *options]
    # The docstring of a constant would be that of its class; what is known of it is its comment.
    comment = [f"   {line}" for line in escaped(comment_on(package, name))]
    return [f".. py:data:: {name}", "", *comment]


def comment_on(package: str, name: str) -> str:
    """Return the comment above the assignment of a constant in its package, without the `#`."""
    folder = Path(inspect.getfile(importlib.import_module(package))).parent
    for path in sorted(folder.glob("*.py")):
        found = re.search(rf"((?:^# .*\n)*)^{name}(?:: .*)? = ", path.read_text(), re.MULTILINE)
        if found is not None:
            return re.sub(r"^# ", "", found[1], flags=re.MULTILINE)
    return ""


def as_restructured_text(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Escape what a docstring writes as text and reStructuredText reads as markup."""
    del app, what, name, value, options
    lines[:] = with_returns_as_field(escaped("\n".join(lines)))


def with_returns_as_field(lines: list[str]) -> list[str]:
    """Write the section `Returns` as a field, since napoleon takes what precedes a colon for a type."""
    return [":returns:" if line == "Returns:" else line for line in lines]


# Signs with a meaning in reStructuredText: * | and an underscore at the end of a word.
MARKUP = re.compile(r"(`[^`]*`)|([*|])|(?<=\w)(_)(?=\W|$)")


def escaped(text: str, *, doctests: bool = True) -> list[str]:
    """Return the lines of a docstring with markup escaped; examples in it stay as they are.

    Args:
      text: the docstring.
      doctests: whether indented lines are sections. If not, as in the docstrings of packages, lines
        that are indented are code.
    """
    lines, code = [], False
    for line in text.splitlines():
        if not line.strip():
            code = code and not doctests
            lines.append("")
        elif doctests and (code or line.lstrip().startswith(">>> ")):
            code = True
            lines.append(line)
        elif not doctests and line.startswith("    "):
            lines += [] if code else ["::", ""]
            code = True
            lines.append(line)
        else:
            code = False
            lines.append(MARKUP.sub(_escape, line))
    return lines


def _escape(found: re.Match[str]) -> str:
    return found[1] or "\\" + (found[2] or found[3])


def is_left_out(
    app: Any, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of named tuples, whose docstring is "Alias for field number 0"."""
    del app, what, name, skip, options
    return True if type(value).__name__ == "_tuplegetter" else None


# --- The commands ---------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of all commands: what each prints as its `--help`."""
    from nst_jax.app.declarations import cli

    parts = [
        "# All commands and flags",
        "What each command prints as its `--help`. [command-line.md](../command-line.md) explains them "
        "with examples.",
    ]
    for path, command in every_command(cli, ("nst-jax",)):
        # Commands inherit the settings of the program, such as -h beside --help. Click keeps the help
        # option that it makes for the first context, so another one would stay in this process.
        settings = {**cli.context_settings, **command.context_settings}
        context = click.Context(command, info_name=" ".join(path), **settings)
        help_text = click.unstyle(command.get_help(context))
        level = "#" * min(len(path) + 1, 4)
        parts += [f"{level} {' '.join(path)}", f"```text\n{help_text}\n```"]
    return "\n\n".join(parts) + "\n"


def every_command(command: Any, path: tuple[str, ...]) -> Any:
    """Yield a command and those in it, each with the words by which it is called."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, (*path, name))
