"""The notebook runs from top to bottom, and its install cell does not replace the runtime's jax."""

import base64
import importlib.util
import io
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import nst_jax as nst

nbformat = pytest.importorskip("nbformat", reason="install the extra `test`")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "nst_jax_colab.ipynb"
# Code that the test inserts after a cell, so that there is little to compute and to compile.
SMALL = {
    "parameters": 'SIZE, SMALL, STEPS, EVERY, OUT = 48, 32, 2, 1, "small.png"',
    "network": """
recipe = recipe.replace(content_taps=("relu2_1",), style_taps=("relu1_1", "relu2_1"),
                        style_layer_weights=(0.1, 0.1))
""",
}


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def tagged(notebook, tag):
    """Return the index of the one cell with this tag."""
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    (index,) = [i for i, found in enumerate(tags) if tag in found]
    return index


def source(notebook, tag):
    return notebook.cells[tagged(notebook, tag)].source


def pictures(cell):
    """Return the pictures that a cell has shown."""
    found = [output.data.get("image/png") for output in cell.outputs if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found if data]


@pytest.fixture
def installed(notebook, monkeypatch):
    """Run the install cell where `nst_jax` is missing; return the commands and the constraints."""
    commands, files = [], []

    def run(command, **options):
        assert options == {"check": True}
        commands.append(command)
        files.append(Path(command[command.index("-c") + 1]).read_text())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(source(notebook, "install"), {"SOURCE": "some.whl"})
    return commands, files


# ZeroMQ and asyncio warn about things that have nothing to do with the notebook.
@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_runs_with_few_steps(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="install the extra `test`")
    pytest.importorskip("ipykernel", reason="install the extra `test`")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device, as readers have
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for tag, code in SMALL.items():
        notebook.cells.insert(tagged(notebook, tag) + 1, nbformat.v4.new_code_cell(code))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()  # raises at the first cell that fails
    cells = notebook.cells
    (last,) = pictures(cells[tagged(notebook, "watch")])
    assert last.height == 384 and last.getextrema() != ((0, 0),) * 3
    for tag in ("batch", "sweep"):
        (row,) = pictures(cells[tagged(notebook, tag)])
        assert row.width > 4 * row.height  # four pictures, wider than high
    with Image.open(tmp_path / "small.png") as saved:
        assert saved.size == (48, 32)
    assert nst.images.read_metadata(tmp_path / "small.png")["steps"] == 2


def test_contains_no_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    nbformat.validate(notebook)


def test_install_keeps_the_jax_that_is_installed(installed):
    (command,), (constraints,) = installed
    assert command[1:4] == ["-m", "pip", "install"] and command[-1] == "some.whl"
    lines = constraints.splitlines()
    for name in ("jax", "jaxlib", "numpy"):
        assert f"{name}=={version(name)}" in lines
    # What only its name shares with jax may follow the package's own requirements.
    assert not any(line.startswith(("jaxtyping", "flax")) for line in lines)


def test_install_never_upgrades(notebook, installed):
    (command,), _ = installed
    banned = {"-U", "--upgrade", "--force-reinstall", "--ignore-installed", "-I", "--pre"}
    assert not banned & set(command)
    for cell in notebook.cells:
        assert "--upgrade" not in cell.source and " -U" not in cell.source
        assert "pip install" not in cell.source  # only the install cell installs


def test_install_does_nothing_if_the_package_is_installed(notebook, monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: called.append(words))
    exec(source(notebook, "install"), {"SOURCE": "some.whl"})
    assert not called


def test_install_asks_for_the_address(notebook):
    names = {}
    exec(source(notebook, "source"), names)
    exec(source(notebook, "install"), names)
    with pytest.raises(ValueError, match="`SOURCE`: replace OWNER"):
        names["install"](names["SOURCE"])
