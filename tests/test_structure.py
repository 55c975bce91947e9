"""The package is what the tree in CONTRIBUTING.md says: its modules, and what they import."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nst_jax"


# --- Modules and their imports --------------------------------------------------------------------


def name_of(path):
    """Return `"vgg.network"` for `nst_jax/vgg/network.py`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
INITS = {".".join(p.parent.relative_to(PACKAGE).parts): p for p in PACKAGE.rglob("__init__.py")}
FOLDERS = sorted(INITS.keys() - {""})


def tree():
    """Read the tree of CONTRIBUTING.md: the names of modules and folders, from top to bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^```\nnst_jax/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names, folders = [], []
    for line in block.splitlines():
        indent, name, folder = re.fullmatch(r"((?:  )+)(\w+)(\.py|/) {2,}\S.*", line).groups()
        folders = folders[: len(indent) // 2 - 1]
        names.append(".".join([*folders, name]))
        if folder == "/":
            folders.append(name)
    return names


TREE = tree()
LINE = {name: number for number, name in enumerate(TREE)}


def imports(name):
    """Return the modules and folders that a module imports, inside functions too.

    A name that a folder's `__init__` has from one of its modules counts as the folder.
    """
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            if (node.module or "").partition(".")[0] == "nst_jax":
                found |= {resolved(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {resolved(a.name) for a in node.names if a.name.startswith("nst_jax.")}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nst_jax":
            found |= {resolved(f"nst_jax.{node.attr}")} if node.attr != "__file__" else set()
    return found


def resolved(full):
    """Return the module or folder that has `nst_jax.some.name`."""
    if full == "nst_jax.__version__":
        return "_version"
    name = full.partition(".")[2]
    if name not in SOURCES and name not in FOLDERS:
        name = name.rpartition(".")[0]
    assert name, f"{full}: inside the package, import a name from the module that has it"
    return name


# --- The tree in CONTRIBUTING.md ------------------------------------------------------------------


def test_the_tree_has_every_module_and_nothing_else():
    assert sorted(TREE) == sorted([*SOURCES, *FOLDERS])


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_from_above_it(name):
    for other in imports(name):
        assert not name.startswith(f"{other}."), f"{name} imports its own folder, {other}"
        assert LINE[other] < LINE[name], f"{name} imports {other}, which the tree has below it"


def test_there_is_no_import_cycle():
    def modules(name):
        inside = {other for other in SOURCES if other.startswith(f"{name}.")}
        return {name} if name in SOURCES else inside

    graph = {name: set().union(*map(modules, imports(name))) for name in SOURCES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(SOURCES)


def test_names_say_what_a_module_is():
    parts = {part for name in (*SOURCES, *FOLDERS) for part in name.split(".")}
    assert not parts & {"utils", "util", "helpers", "common", "misc", "ray"}


@pytest.mark.parametrize("name", [n for n in SOURCES if not n.startswith(("app.", "__main__"))])
def test_only_the_command_line_prints_exits_or_reads_the_clock(name):
    calls = (n for n in ast.walk(ast.parse(SOURCES[name].read_text())) if isinstance(n, ast.Call))
    called = {ast.unparse(node.func) for node in calls}
    assert not {call for call in called if re.fullmatch(r"print|(sys\.)?exit|time\.\w+", call)}


def test_pillow_stays_in_images():
    users = {name for name, path in SOURCES.items() if re.search(r"\bPIL\b", path.read_text())}
    assert users
    assert all(name.startswith("images.") for name in users), users


# An annotation of several values, with that of one of them; and one of a picture with a named height.
LISTS = re.compile(
    r"\b(?:(?:Sequence|Iterable|Iterator|Mapping|list|dict)\[(.*)|tuple\[(.*), \.\.\.\])"
)
FIXED = re.compile(r"(?<![.\w])(Any|Host|Style)?Image\b|['\"]([^'\"]* )?h(_\w+)? w\b")


def lists_of_fixed_shapes(source):
    """Return the annotations of arguments and results that give pictures of a list one named shape.

    A result counts only if an argument binds the names of its height and width.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            each = [arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg)]
            texts = [ast.unparse(annotation) for annotation in each if annotation]
            bound = any(FIXED.search(text) and not LISTS.search(text) for text in texts)
            texts += [ast.unparse(node.returns)] if bound and node.returns else []
            lists = [(text, LISTS.search(text)) for text in texts]
            found += [text for text, parts in lists if parts and FIXED.search(parts[0])]
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_pictures_of_a_list_may_differ_in_shape(name):
    # The type checker of the tests looks at one picture of a list, by chance, and twice in a call.
    # With a named height it would fail in some runs only.
    assert not lists_of_fixed_shapes(SOURCES[name].read_text())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(a: Sequence[Image]): ...", ["Sequence[Image]"]),
        ("def f(a: tuple[Image, ...]): ...", ["tuple[Image, ...]"]),
        ("def f(a: list[Float[Array, 'n h w 3']]): ...", ["list[Float[Array, 'n h w 3']]"]),
        ("def f(a: Image) -> list[Image]: ...", ["list[Image]"]),
        ("def f(a: int) -> list[Image]: ...", []),
        ("def f(a: Sequence[Float[Array, '_ _ 3']], b: Image) -> Image: ...", []),
        ("def f(a: Image) -> tuple[Image, Image]: ...", []),
        ("def f(a: Image, b: tuple[int, ...]) -> Image: ...", []),
    ],
)
def test_lists_of_fixed_shapes_are_found(source, found):
    assert lists_of_fixed_shapes(source) == found


# --- Public names ---------------------------------------------------------------------------------


def listed(folder):
    """Return the three lists of a folder's `__init__`: for mypy, to be imported lazily, `__all__`.

    The first two as module -> names, "" for the modules of the folder itself.
    """
    package = ".".join(filter(None, ("nst_jax", folder)))
    typed, lazy, everything = defaultdict(set), defaultdict(set), None
    for node in ast.parse(INITS[folder].read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for one in node.body:
                module = one.module.removeprefix(package).lstrip(".")
                typed[module] |= {alias.name for alias in one.names}
            (call,) = (one.value for one in node.orelse if isinstance(one, ast.Assign))
            _, submodules, homes = call.args
            lazy[""] |= set(ast.literal_eval(submodules))
            for module, names in ast.literal_eval(homes).items():
                lazy[module] |= set(names)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            everything = ast.literal_eval(node.value)
    return dict(typed), dict(lazy), everything


LAZY = [folder for folder in INITS if "lazy_names(" in INITS[folder].read_text()]


@pytest.mark.parametrize("folder", LAZY, ids=lambda folder: folder or "nst_jax")
def test_a_folders_three_lists_agree(folder):
    typed, lazy, everything = listed(folder)
    assert typed == lazy
    names = [name for names in lazy.values() for name in names]
    assert sorted(everything) == sorted(names)


@pytest.mark.parametrize("folder", LAZY, ids=lambda folder: folder or "nst_jax")
def test_every_listed_name_is_there(folder):
    package = importlib.import_module(".".join(filter(None, ("nst_jax", folder))))
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


# Names that several modules define, these modules, and why that is no confusion.
SAME_NAME = {
    "load": (
        {"checkpoints.files", "images.reading"},
        "called by the name of their package or module",
    ),
    "save": (
        {"checkpoints.files", "export.saving", "images.films", "images.writing"},
        "called by the name of their package or module",
    ),
    "gram": (
        {"app.figures", "losses.gram_matrices"},
        "the command draws what the function computes",
    ),
    "features": ({"app.figures", "vgg.network"}, "the command draws what the function computes"),
    "instant": ({"app.instant.command", "single_pass"}, "the command calls the function's painter"),
    "stylize": ({"app.stylize", "painting"}, "the command of this name calls the function"),
    "dream": ({"app.commands", "dreaming"}, "the command of this name calls the function"),
    "texture": ({"app.commands", "texturing"}, "the command does what the function does"),
    "plan": ({"app.commands", "scaling.planning"}, "the command of this name calls the function"),
    "train": ({"app.commands", "feed_forward.training"}, "the command does what the function does"),
}


def defined():
    """Return public function or class -> the modules that define it.

    Not the commands in `app.declarations`: each is named as the function that carries it out.
    """
    found = defaultdict(set)
    for name, path in SOURCES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                decorators = " ".join(ast.unparse(one) for one in node.decorator_list)
                declared = re.search(r"\.(command|group)\(", decorators)
                if not (name == "app.declarations" and declared):
                    found[node.name].add(name)
    return found


def test_a_public_name_is_defined_once():
    twice = {name: where for name, where in defined().items() if len(where) > 1}
    assert twice == {name: where for name, (where, _) in SAME_NAME.items()}


@pytest.mark.parametrize("name", [*SOURCES, *INITS])
def test_every_public_name_has_a_docstring(name):
    module = ast.parse((SOURCES.get(name) or INITS[name]).read_text())
    assert ast.get_docstring(module)
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.{node.name}"


# --- Importing ------------------------------------------------------------------------------------


HEAVY = {"jax", "jaxlib", "flax", "optax", "numpy", "PIL", "h5py", "rich", "click"}


def loaded_by(statement):
    """Return the modules that a statement loads in a fresh interpreter."""
    script = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import nst_jax")
    ours = {name for name in loaded if name.startswith("nst_jax")}
    assert ours == {"nst_jax", "nst_jax._lazy", "nst_jax._version"}
    assert not loaded & HEAVY


def test_importing_its_folders_loads_nothing_heavy():
    statement = "; ".join(f"import nst_jax.{folder}" for folder in FOLDERS)
    assert not loaded_by(statement) & HEAVY


def test_a_name_loads_only_what_it_needs():
    loaded = loaded_by("import nst_jax; nst_jax.losses.gram")
    assert "nst_jax.losses.gram_matrices" in loaded
    assert not loaded & {"flax", "optax", "PIL", "h5py", "nst_jax.painting"}
