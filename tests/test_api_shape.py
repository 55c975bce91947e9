"""The shape of the public names: argument order, keywords, documentation."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import nst_jax as nst

VERBS = (nst.stylize, nst.paint, nst.stylize_many)
FUNCTIONS = {
    name: getattr(nst, name) for name in nst.__all__ if inspect.isroutine(getattr(nst, name))
}
TAKE_PARAMS = (
    "combined_style",
    "dream",
    "features",
    "losses_of",
    "match",
    "measure",
    "paint",
    "run",
    "step",
    "stylize",
    "stylize_many",
    "texture",
    "train",
)
# Functions whose optional first argument reads best without its name: `load_params("file.h5")`.
BY_PLACE = ("load_params", "cache", "compiler_options")
RETURN_NOTHING = ("save_params", "cache")
PACKAGE = Path(nst.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def test_the_package_has_these_names():
    assert nst.__all__ == sorted(nst.__all__, key=str)
    assert set(FUNCTIONS) == {
        *TAKE_PARAMS, "cache", "compiler_options", "estimate_memory", "init", "load_params", "plan",
        "instant", "instant_many", "save_params",
    }  # fmt: skip
    assert re.fullmatch(r"\d+\.\d+\.\d+", nst.__version__)


@pytest.mark.parametrize("name", TAKE_PARAMS)
def test_params_come_first(name):
    assert next(iter(inspect.signature(FUNCTIONS[name]).parameters)) == "params"


@pytest.mark.parametrize("verb", VERBS)
def test_functions_that_paint_take_all_but_params_content_and_style_by_keyword(verb):
    kinds = {name: p.kind for name, p in inspect.signature(verb).parameters.items()}
    by_place = [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert [name.rstrip("s") for name in by_place] == ["param", "content", "style"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keywords(name):
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        optional = parameter.default is not inspect.Parameter.empty
        if optional and name not in BY_PLACE:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter


@pytest.mark.parametrize("verb", [nst.instant, nst.instant_many])
def test_instant_takes_content_and_style_and_all_else_by_keyword(verb):
    kinds = {name: p.kind for name, p in inspect.signature(verb).parameters.items()}
    by_place = [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert [name.rstrip("s") for name in by_place] == ["content", "style"]


def test_the_functions_that_paint_share_their_options():
    options = [list(inspect.signature(verb).parameters)[3:] for verb in VERBS]
    assert options[0] == options[1][:-2] == options[2][:-6]
    assert options[1][-2:] == ["every", "resume"]
    assert options[2][-6:] == ["every", "progress", "chunk", "bands", "style_fine", "seamless"]


def functions_of(path):
    """Yield the public functions of a module: name and syntax node."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def sections(node):
    return re.findall(r"^(\w+):$", ast.get_docstring(node) or "", re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_functions_docstring_has_every_section_it_needs(name):
    function = inspect.unwrap(FUNCTIONS[name])
    text = inspect.getdoc(function)
    assert re.match(r"[A-Z][^\n]+\.\n\n", text), "one imperative line, then more"
    assert "Args:" in text and ("Returns:" in text or "Yields:" in text or name in RETURN_NOTHING)
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^  {argument}: ", text, re.MULTILINE), argument
    if name not in ("init", "step", "run"):
        assert "Example:" in text or name == "save_params"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_what_a_docstring_says_of_arguments_is_true(path):
    for node in functions_of(path):
        if "Args" not in sections(node):
            continue
        args = node.args
        arguments = [a.arg for a in (*args.args, args.vararg, *args.kwonlyargs, args.kwarg) if a]
        block = re.search(r"^Args:\n((?:  .*\n?|\n)+)", ast.get_docstring(node), re.MULTILINE)[1]
        assert re.findall(r"^  \*{0,2}(\w+):", block, re.MULTILINE) == arguments, node.name


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_function_is_long(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 60, node.name
