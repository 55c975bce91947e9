"""The notebooks are what their texts say, run from top to bottom, and keep a runtime's jax."""

import base64
import importlib.util
import io
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import nst_jax as nst
from notebooks import make

nbformat = pytest.importorskip("nbformat", reason="install the extra `test`")

ROOT = Path(__file__).resolve().parents[1]
COURSES = ("coursera", "gatys", "tensorflow", "udacity")

# Code that the tests insert after cells, so that there is little to compute and to compile.
SHALLOW = """
recipe = recipe.replace(content_taps=("relu2_2",), style_taps=("relu1_1", "relu2_1"),
                        style_layer_weights={weights})
"""
SMALL = {
    "nst_jax_colab": {
        "parameters": 'SIZE, SMALL, STEPS, EVERY, OUT = 48, 32, 2, 1, "small.png"',
        "network": SHALLOW.format(weights=(0.1, 0.1)),
    },
    "coursera": {
        "parameters": "SIZE, EPOCHS, EVERY = 32, 2, 1",
        "network": SHALLOW.format(weights=(0.2, 0.2)),
    },
    "gatys": {
        "parameters": "SIZE, STEPS, SIZE_2, STEPS_2 = 32, 3, 48, 1",
        "network": SHALLOW.format(weights=(1e3 / 64**2, 1e3 / 128**2)),
    },
    "tensorflow": {
        "parameters": "SIZE, STEPS, EVERY = 64, 2, 1",
        "recipe": SHALLOW.format(weights=(0.2, 0.2)),
    },
    "udacity": {"parameters": "SIZE, STEPS, EVERY = 32, 2, 1"},
}


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def tagged(notebook, tag):
    """Return the index of the one cell with this tag."""
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    (index,) = [i for i, found in enumerate(tags) if tag in found]
    return index


def source(notebook, tag):
    return notebook.cells[tagged(notebook, tag)].source


def made_small(name):
    """Return a notebook with the code of `SMALL`."""
    notebook = read(name)
    for tag, code in SMALL[name].items():
        notebook.cells.insert(tagged(notebook, tag) + 1, nbformat.v4.new_code_cell(code))
    return notebook


# --- Contents -------------------------------------------------------------------------------------


def test_there_is_a_notebook_for_each_text():
    assert set(make.names()) == {*COURSES, "nst_jax_colab"} == set(SMALL)
    assert {path.stem for path in make.HERE.glob("*.ipynb")} == set(make.names())


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_what_its_text_says(name):
    assert (make.HERE / f"{name}.ipynb").read_text(encoding="utf-8") == make.written(name)


@pytest.mark.parametrize("name", SMALL)
def test_contains_no_outputs(name):
    notebook = read(name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    nbformat.validate(notebook)


@pytest.mark.parametrize("name", SMALL)
def test_a_published_notebook_opens_in_colab_and_installs_its_repository(name):
    text = make.written(name, "someone/nst_jax")
    address = f"https://colab.research.google.com/github/someone/nst_jax/blob/main/notebooks/{name}"
    assert f"({address}.ipynb)" in text
    names = {}
    exec(source(nbformat.reads(text, as_version=4), "source"), names)
    assert names["SOURCE"] == "git+https://github.com/someone/nst_jax"


def test_a_part_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    (tmp_path / "odd.md").write_text("{{tool}}\n")
    monkeypatch.setattr(make, "TEXTS", tmp_path)
    with pytest.raises(ValueError, match=r"no part 'tool'; it has install, tools"):
        make.notebook("odd")


# --- Running the notebooks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        name if name == "coursera" else pytest.param(name, marks=pytest.mark.long)
        for name in COURSES
    ],
)
def test_a_course_runs_with_few_steps(name, tmp_path, monkeypatch, capsys):
    shown = []
    display = pytest.importorskip("IPython.display", reason="install the extra `test`")
    monkeypatch.setattr(display, "display", shown.append)
    monkeypatch.setattr(display, "clear_output", lambda wait: None)
    monkeypatch.setattr(importlib.util, "find_spec", without_matplotlib(importlib.util.find_spec))
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in made_small(name).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}.ipynb", "exec"), names)  # its assertions hold
    said = capsys.readouterr().out
    assert len(shown) > 5 and all(isinstance(picture, Image.Image) for picture in shown)
    assert names["row"].shape[0] == 4 if "row" in names else len(names["pictures"]) == 4
    assert "from left to right: relu1_1, 64 x 64, relu2_1, 128 x 128" in said
    style = names["last"].history.style
    assert float(style[-1]) < float(style[0])


def without_matplotlib(find_spec):
    """Return `find_spec` where matplotlib is missing: curves are then printed."""
    return lambda name: None if name == "matplotlib" else find_spec(name)


# ZeroMQ and asyncio warn about things that have nothing to do with the notebook.
@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_runs_in_a_kernel(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="install the extra `test`")
    pytest.importorskip("ipykernel", reason="install the extra `test`")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device, as readers have
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = made_small("nst_jax_colab")
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


def pictures(cell):
    """Return the pictures that a cell has shown."""
    found = [output.data.get("image/png") for output in cell.outputs if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found if data]


# --- Installing -----------------------------------------------------------------------------------


@pytest.fixture
def run_install(monkeypatch, tmp_path):
    """Return a function that runs the install cell where `nst_jax` is missing, in an empty folder.

    It returns the commands that were run, and their constraints.
    """
    commands, files = [], []

    def run(command, **options):
        assert options == {"check": True}
        commands.append(command)
        files.append(Path(command[command.index("-c") + 1]).read_text())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)

    def installed(given=""):
        exec(source(read("gatys"), "install"), {"SOURCE": given})
        return commands, files

    return installed


def test_install_keeps_the_jax_that_is_installed(run_install):
    (command,), (constraints,) = run_install("some.whl")
    assert command[1:4] == ["-m", "pip", "install"] and command[-1] == "some.whl"
    lines = constraints.splitlines()
    for name in ("jax", "jaxlib", "numpy"):
        assert f"{name}=={version(name)}" in lines
    # What only its name shares with jax may follow the package's own requirements.
    assert not any(line.startswith(("jaxtyping", "flax")) for line in lines)


def test_install_never_upgrades(run_install):
    (command,), _ = run_install("some.whl")
    banned = {"-U", "--upgrade", "--force-reinstall", "--ignore-installed", "-I", "--pre"}
    assert not banned & set(command)
    for name in SMALL:
        for cell in read(name).cells:
            assert "--upgrade" not in cell.source and " -U" not in cell.source
            if cell.cell_type == "code" and "install" not in cell.metadata.tags:
                assert "pip install" not in cell.source  # only the install cell installs


def test_install_does_nothing_if_the_package_is_installed(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: called.append(words))
    exec(source(read("gatys"), "install"), {"SOURCE": ""})
    assert not called


def test_install_takes_the_checkout_around_the_notebook(run_install, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    (command,), _ = run_install()
    assert command[-1] == str(ROOT)


def test_install_takes_a_wheel_in_the_folder(run_install, tmp_path):
    (tmp_path / "nst_jax-0.1.0-py3-none-any.whl").touch()
    (command,), _ = run_install()
    assert command[-1] == str(tmp_path / "nst_jax-0.1.0-py3-none-any.whl")


def test_install_asks_colab_for_a_wheel(run_install, monkeypatch):
    files = type(sys)("google.colab.files")
    files.upload = lambda: {"nst_jax-0.1.0-py3-none-any.whl": b""}
    colab = type(sys)("google.colab")
    colab.files = files
    for module in (colab, files):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    (command,), _ = run_install()
    assert command[-1] == "nst_jax-0.1.0-py3-none-any.whl"


def test_install_says_what_to_do_where_there_is_nothing(run_install):
    with pytest.raises(FileNotFoundError, match="neither a checkout nor a wheel here: run `pip"):
        run_install()
