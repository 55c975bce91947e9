"""The map in CONTRIBUTING.md is the code: every module stands on it, and imports only downwards."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nst_jax"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def rungs():
    """Read module -> rung from the table; a row without a number continues the one above."""
    found, rung = {}, 0
    for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines():
        row = re.match(r"\| *(\d*) *\| *((?:`\w+`(?:, )?)+) *\|", line)
        if row:
            rung = int(row[1] or rung)
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", row[2]), rung))
    return found


def imports(module):
    """Return the modules of ours that a module imports, inside functions too."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "nst_jax":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nst_jax."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("nst_jax.")}
    return found & set(MODULES)


RUNGS = rungs()
TOP = max(RUNGS.values())  # the command line: its rooms may use each other, without cycles


def test_every_module_is_on_the_map_and_nothing_else():
    assert sorted(RUNGS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_earlier_rungs(module):
    allowed = {
        other
        for other, rung in RUNGS.items()
        if rung < RUNGS[module] or rung == RUNGS[module] == TOP
    }
    assert imports(module) <= allowed


def test_there_is_no_import_cycle():
    order = TopologicalSorter({module: imports(module) for module in MODULES}).static_order()
    assert len(list(order)) == len(MODULES)


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_module_is_called_by_what_it_is_not(name):
    assert name not in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints_exits_or_reads_the_clock(module):
    if RUNGS[module] == TOP:
        return
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
        if isinstance(node, ast.Call)
    }
    assert not {name for name in called if re.fullmatch(r"print|(sys\.)?exit|time\.\w+", name)}


def test_pillow_stays_in_its_rooms():
    users = {m for m in MODULES if re.search(r"\bPIL\b", (PACKAGE / f"{m}.py").read_text())}
    assert users == {"decoding", "encoding", "images", "sheets"}


def loaded_by(statement):
    """Return the modules that a statement loads in a fresh interpreter."""
    script = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import nst_jax")
    assert {name for name in loaded if name.startswith("nst_jax")} == {"nst_jax"}
    assert not loaded & {"jax", "jaxlib", "flax", "optax", "numpy", "PIL", "h5py", "rich", "click"}


def test_a_name_loads_only_what_it_needs():
    loaded = loaded_by("import nst_jax; nst_jax.losses")
    assert "nst_jax.losses" in loaded
    assert not loaded & {"flax", "optax", "PIL", "h5py", "nst_jax.painting"}


def test_an_unknown_name_is_an_attribute_error():
    import nst_jax

    with pytest.raises(AttributeError, match="stilize"):
        nst_jax.stilize  # noqa: B018
    assert set(nst_jax.__all__) <= set(dir(nst_jax))
