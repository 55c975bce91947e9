"""The documents are under test: every docstring's example, their Python, and their command lines."""

import ast
import doctest
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import pytest
from click.core import ParameterSource
from PIL import Image

import nst_jax as nst
from benchmarks import __main__ as measuring
from benchmarks import blind, gallery, harness, quality, style_losses
from docs import recipes_page
from nst_jax import batch_fine_styles, images, recipes
from nst_jax.app import cli, declarations
from nst_jax.feed_forward import style_names
from nst_jax.scaling import capacity
from tests import small

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_name(path):
    """Return `"vgg.network"` for `nst_jax/vgg/network.py`."""
    parts = path.relative_to(ROOT / "nst_jax").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def examples():
    """Yield every docstring that contains an example: module, name, text.

    Read from the source: a finder that looks at objects misses what a decorator has wrapped.
    """
    for path in sorted((ROOT / "nst_jax").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in (tree, *ast.walk(tree)):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node)
                if text and ">>>" in text:
                    yield module_name(path), getattr(node, "name", "module"), text


FOUND = {f"{module}.{name}": (module, text) for module, name, text in examples()}


def test_the_examples_are_found():
    assert {
        "losses.gram_matrices.gram",
        "vgg.network.features",
        "painting.stylize",
        "batches.stylize_many",
    } <= set(FOUND)


# Each compiles deep networks, and does what tests of its module do, or the README's Python: these are
# run before a release.
COVERED = {
    "batches.stylize_many",
    "checkpoints.files.save",
    "combining.combined_style",
    "controls.finishing.realistic",
    "controls.guided_filter.filtered_by_guide",
    "dreaming.dream",
    "feed_forward.arbitrary.style_vector",
    "feed_forward.arbitrary.stylize_with",
    "feed_forward.johnson.stylize_trained",
    "feed_forward.tiling.paint_in_strips",
    "feed_forward.training.train",
    "optimize.match",
    "painting.paint",
    "painting.stylize",
    "planned_painting.finish",
    "raters.rating.rate",
    "raters.style.style_vector_distance",
    "single_pass.instant_many",
    "texturing.texture",
}


def test_the_examples_run_before_a_release_are_found():
    assert set(FOUND) >= COVERED


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n in COVERED else n for n in FOUND]
)
def test_an_example_runs_and_gives_what_it_shows(name, monkeypatch):
    module, text = FOUND[name]
    if name == "combining.combined_style":  # ends with what the example of `stylize` shows
        monkeypatch.setattr(nst, "stylize", shortened(nst.stylize))
    names = dict(vars(importlib.import_module(f"nst_jax.{module}")))
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert test.examples and not said, "".join(said)


def test_the_page_of_the_recipes_is_what_its_script_writes():
    assert recipes_page.PAGE.read_text() == recipes_page.page()


def test_the_page_has_every_recipe_and_its_picture():
    text = recipes_page.PAGE.read_text()
    assert set(recipes_page.NOTES) == set(recipes.PRESETS)
    measured = json.loads(recipes_page.MEASURED.read_text())
    assert set(measured) <= set(recipes.PRESETS)
    for name in recipes.PRESETS:
        assert f"\n## {name}\n" in text
        if name not in measured:  # the page then says how to paint it
            assert f"`python -m docs.recipes_page paint {name}`" in text
            continue
        with Image.open(recipes_page.FOLDER / f"{name}.jpg") as picture:
            assert picture.size == (256, 170)


PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md")))

# --- Python ---------------------------------------------------------------------------------------


def blocks(page, language):
    """Return the code blocks of a page in a language, `python` or `sh`, without their indentation."""
    fence = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(fence, (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


@pytest.fixture
def run_page(tmp_path, monkeypatch, settings):
    """Return a function that runs a page's Python, on two samples under its file names.

    Whatever the page says, pictures are of 48 px and runs of two updates. Where it names no recipe, one
    with a single convolution takes the place of the default, which takes much longer to compile. The
    recipes that pages name most have shallow taps.
    """
    for name, sample in (("photo.jpg", "chelsea"), ("painting.jpg", "starry_night")):
        (tmp_path / name).write_bytes(images.SAMPLES[sample].read_bytes())
    for verb in ("stylize", "paint", "stylize_many", "texture"):
        monkeypatch.setattr(nst, verb, shortened(getattr(nst, verb)))
    for module in (nst, batch_fine_styles):
        monkeypatch.setattr(module, "combined_style", partial(module.combined_style, steps=2))
    for name in ("TF", "DEFAULT", "GRAM"):
        monkeypatch.setattr(recipes, name, shallow_variant(getattr(recipes, name)))
    monkeypatch.setattr(nst, "dream", shortened(nst.dream, octaves=1))
    monkeypatch.chdir(tmp_path)

    def run(page):
        names = {}
        found = blocks(page, "python")
        assert found
        for block in found:
            exec(compile(block, page, "exec"), names)
        return names

    return run


def shortened(verb, **more):
    def short(*args, **options):
        recipe = {} if more or "plan" in options else {"recipe": small.quickest()}
        return verb(*args, **{**recipe, **options, "size": 48, "steps": 2, **more})

    return short


@pytest.mark.slow
def test_the_readmes_python_runs(run_page, tmp_path, capsys):
    names = run_page("README.md")
    assert names["image"].shape == (32, 48, 3)
    assert (tmp_path / "from_python.png").exists()
    assert re.fullmatch(r"0 \S+\n2 \S+\n", capsys.readouterr().out)


@pytest.mark.slow
def test_the_page_of_instant_styles_runs_and_lists_them(run_page):
    names = run_page("docs/instant.md")
    assert names["image"].shape == (300, 451, 3) and names["images"].shape == (3, 170, 256, 3)
    text = (DOCS / "instant.md").read_text()
    for number, (name, look) in enumerate(style_names.LOOKS.items()):
        assert f"\n| {number} | `{name}` | {look} |\n" in text


# At the small size of these runs, regions are smaller than what positions of deep layers see.
REGIONS = pytest.mark.filterwarnings("ignore::nst_jax.control_checks.RegionLeftOut")


@pytest.mark.slow
@REGIONS
def test_the_page_of_controls_python_runs(run_page):
    names = run_page("docs/controls.md")
    assert names["images"].shape[0] == 2 and names["image"].shape == (32, 48, 3)


@pytest.mark.slow
@REGIONS
def test_the_python_pages_python_runs(run_page, tmp_path, capsys):
    names = run_page("docs/python.md")
    assert names["image"].shape == (32, 48, 3)
    assert len(names["images"]) == 3 and names["batch"].shape == (2, 48, 48, 3)
    assert names["tiles"].shape == (3, 48, 48, 3)
    assert (tmp_path / "result.png").exists() and (tmp_path / "run.h5").exists()
    assert "True ['relu1_1'," in capsys.readouterr().out  # one value for each canvas


# The Python of each of these pages runs by itself, and leaves these names.
HOW_TO = {
    "index": ("image",),
    "fleets": ("images",),
    "own-loss": ("last", "slope"),
    "own-optimizer": ("last", "images"),
    "own-recipe": ("recipe", "text"),
    "service": ("most", "plan", "accepted", "image"),
}


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TO)
def test_a_how_to_pages_python_runs(page, run_page):
    names = run_page(f"docs/{page}.md")
    assert set(HOW_TO[page]) <= set(names)


def shallow_variant(recipe):
    """Return a preset whose taps are shallow, so that it compiles quickly; losses stay as they are."""
    taps = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1")
    return recipe.replace(content_taps=("relu2_2",), style_taps=taps, schedule=recipes.OneScale())


@pytest.mark.slow
def test_the_page_of_films_python_runs(run_page, tmp_path):
    run_page("docs/films.md")
    with Image.open(tmp_path / "paint.gif") as film:
        assert film.n_frames == 3 and film.size == (48, 32)
    assert (tmp_path / "gram.png").exists() and (tmp_path / "maps.png").exists()


def test_the_page_of_the_losses_python_gives_a_recipe():
    names = {}
    (block,) = blocks("docs/losses.md", "python")
    exec(compile(block, "docs/losses.md", "exec"), names)
    assert recipes.check(names["recipe"]).terms.content_weight == 0.015


def test_the_costs_on_the_page_of_the_losses_are_those_of_the_record():
    record = json.loads((ROOT / "benchmarks/results/style_losses-cpu.json").read_text())
    rows = record["rows"]
    assert [row["size"] for row in rows] == [[256, 256], [512, 512]]
    assert all(row["clock"] == "processor" for row in rows)
    expected = []
    for name in rows[0]["losses"]:
        cells = [f"`{name}`"]
        for figures in (row["losses"][name] for row in rows):
            seconds, times = figures["seconds_per_step"], figures["time_against_gram"]
            assert len(seconds["samples"]) == record["plan"]["repeats"] == 5
            middle, least, most = (times[key] for key in ("median", "min", "max"))
            cells += [f"{seconds['median']:.2f}", f"{middle:.2f} ({least:.2f} to {most:.2f})"]
            cells.append(f"{figures['xla_bytes'] / 1e6:.0f}")
        expected.append(f"| {' | '.join(cells)} |")
    _, _, costs = (DOCS / "losses.md").read_text().partition("## What an update costs")
    assert re.findall(r"^\| `.*", costs, re.MULTILINE) == expected
    assert f"commit {record['source']['commit'][:7]}" in costs


@pytest.mark.parametrize(
    "of",
    [
        "loss `nearest_by_tap`",
        "loss `relaxed_transport`",
        pytest.param("loss `channel_histograms`", marks=pytest.mark.long),
        pytest.param("loss `sliced_wasserstein`", marks=pytest.mark.long),
        "loss `nearest_hypercolumns`",
        pytest.param("recipe `sliced-wasserstein`", marks=pytest.mark.long),
        pytest.param("recipe `histogram`", marks=pytest.mark.long),
        pytest.param("recipe `nnst`", marks=pytest.mark.long),
        pytest.param("recipe `strotss`", marks=pytest.mark.long),
    ],
)
def test_losses_of_whole_pictures_reach_the_sizes_on_their_page(of):
    (line,) = re.findall(f"^\\| {of} \\|(.*)\\|$", (DOCS / "losses.md").read_text(), re.MULTILINE)
    kind, _, name = of.replace("`", "").partition(" ")
    recipe = recipes.named(name) if kind == "recipe" else style_losses.recipe_of(name)
    assert not recipe.terms.additive
    for gigabytes, side in zip((8, 16, 80), map(int, line.split("|")), strict=True):
        here, more = (
            nst.estimate_memory((each, each), recipe=recipe, platform="cpu").total
            for each in (side, side + 16)
        )
        assert here * capacity.MARGIN <= gigabytes * 1e9 < more * capacity.MARGIN


@pytest.mark.slow
def test_the_page_of_training_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("painting.jpg", "other.jpg", "photos/a.jpg", "photos/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        sample = "chelsea" if "/" in name else "starry_night"
        images.save(name, small.picture(sample, 64, 96))
    less = {"steps": 2, "crop": 32, "width": 0.125, "batch": 1, "recipe": small.shallow()}
    train = nst.train
    monkeypatch.setattr(nst, "train", lambda *given, **more: train(*given, **{**more, **less}))
    names = {"nst": nst, "jax": jax, "photo": small.picture("chelsea", 32, 48)}
    for block in blocks("docs/train.md", "python"):
        exec(compile(block, "docs/train.md", "exec"), names)
    assert names["image"].shape == (32, 48, 3)


@pytest.mark.slow
def test_the_page_of_the_raters_python_runs(run_page):
    names = run_page("docs/raters.md")
    assert set(names["values"]) == set(nst.raters.RATERS)


def test_the_page_of_the_raters_has_every_rater():
    table, _, biased = (DOCS / "raters.md").read_text().partition("## Biased raters")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(nst.raters.RATERS)
    named = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", biased, re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(named))) == {
        *(
            rater
            for recipe in recipes.PRESETS.values()
            for rater in nst.raters.biased_raters(recipe)
        ),
        "style_vector",
    }


def test_the_loss_that_is_added_as_an_example_is_one():
    (block,) = blocks("CONTRIBUTING.md", "python")
    names = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    features = jax.random.normal(jax.random.key(0), (6, 4, 3))
    loss = names["CHANNEL_MEANS"]
    assert jnp.allclose(loss.measure(features), features.mean((0, 1)), atol=1e-6)
    assert recipes.check(names["recipe"]).terms.style_loss is loss


# The pages whose Python is run: by a test above of its own, as a how-to page, or by other tests.
PYTHON = {
    *("README.md", "CONTRIBUTING.md", *(f"docs/{page}.md" for page in HOW_TO)),
    *(f"docs/{page}.md" for page in ("controls", "films", "instant", "losses", "python")),
    *("docs/raters.md", "docs/train.md"),
    "docs/export.md",  # `test_export` and `test_export_formats`
}


def test_the_python_of_every_page_is_run():
    assert {page for page in PAGES if blocks(page, "python")} == PYTHON


# --- Commands -------------------------------------------------------------------------------------

FIRST_COMMAND = "nst-jax stylize photo.jpg painting.jpg"  # to which the README's table adds flags


def commands(page):
    """Return the words of every `nst-jax` command of a page: in blocks, sentences and tables."""
    text = (ROOT / page).read_text()
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    lines = [*"\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines(), *spans]
    if page == "README.md":
        rows = re.findall(r"^\|[^|]+\| `(--[^`]+)`", text, re.MULTILINE)
        lines += [f"{FIRST_COMMAND} {flags}" for flags in rows]
    for line in lines:
        for part in re.split(r"&&|\||;", line.partition(" # ")[0]):
            words = shlex.split(part.partition(" > ")[0]) if "nst-jax" in part else []
            if words and Path(words[0]).name == "nst-jax" and words[-1] != "--help":
                yield words[1:]


def parsed(words):
    """Return the parameters of a command line, as click reads them; nothing is run."""
    return context_of(words).params


def context_of(words):
    """Return click's context of a command line: its command, and the values of its parameters."""
    command, name, parent = declarations.cli, "nst-jax", None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        # Click keeps each command's help option, whose names are those of the parent's context.
        parent = click.Context(command, parent=parent, **command.context_settings)
        name, *words = words
        command = command.get_command(parent, name)
        assert command is not None, f"there is no command {name!r}"
    return command.make_context(name, list(words), parent=parent)


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]


def test_the_number_of_published_recipes_is_told_as_it_is():
    published = len(set(recipes.PRESETS) - {"default", "gram"})
    assert f"{published} others use" in (ROOT / "README.md").read_text()
    assert f"{published} published methods" in (ROOT / "docs/index.md").read_text()


def test_the_commands_are_found():
    assert {"README.md", "docs/command-line.md", "docs/recipes.md"} <= {
        page for page, _ in COMMANDS
    }
    assert len(COMMANDS) > 50


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*one, id=f"{one[0]}: {' '.join(one[1])}") for one in COMMANDS]
)
def test_a_documented_command_has_flags_that_exist(page, words):
    del page
    context = context_of(words)  # raises click's error for a flag that does not exist
    given = {
        flag
        for param in context.command.params
        if context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
        for flag in (*param.opts, *param.secondary_opts)
    }
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= given


MEASURING = re.compile(r"python -m (benchmarks(?:\.\w+)?)((?: [^\n`&#]*)?)")


def measuring_commands(page):
    """Return the module and the words of every measuring command of a page."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    text = re.sub(r"(`[^`\n]+)\n(?=[^`\n]+`)", r"\1 ", text)  # a command that a line break divides
    found = [(module, shlex.split(words)) for module, words in MEASURING.findall(text)]
    return [(module, words) for module, words in found if words and "CASE" not in words]


MEASUREMENTS = [(page, *one) for page in PAGES for one in measuring_commands(page)]


def test_documented_measurements_are_found():
    assert {"docs/quality.md", "docs/raters.md", "docs/speed.md"} <= {
        page for page, *_ in MEASUREMENTS
    }
    assert ("docs/raters.md", "benchmarks", ["quality", "--quick"]) in MEASUREMENTS


@pytest.mark.parametrize(
    ("page", "module", "words"),
    [pytest.param(*one, id=f"{one[0]}: {one[1]} {' '.join(one[2])}") for one in MEASUREMENTS],
)
def test_a_documented_measurement_has_arguments_that_exist(page, module, words, monkeypatch):
    del page
    for kind in (click.Path, click.File):  # files and folders need not be there
        monkeypatch.setattr(kind, "convert", lambda self, value, param, context: value)
    if module == "benchmarks":
        command = measuring.main
    else:
        group = importlib.import_module(module).main
        command, words = group.commands[words[0]], words[1:]
    context = command.make_context(module, list(words))  # raises for an option that does not exist
    given = [param for param in context.params if typed(context, param)]
    assert given and all(context.params[param] not in (None, ()) for param in given)


def typed(context, param):
    """Return whether a parameter was given on the command line."""
    return context.get_parameter_source(param) is ParameterSource.COMMANDLINE


def is_run_elsewhere(module, words):
    """Return whether `test_benchmarks` runs the command's case in its quick form.

    It runs each case, which is all that `all` does, and one that is named with no option of its own.
    """
    return module == "benchmarks" and (
        words[0] == "all" or (words[0] in measuring.CASES and not set(words[1:]) - {"--quick"})
    )


def measurements_to_run():
    """Return the measuring commands of each page that nothing else runs, each on one page only."""
    found = {}
    for page, *command in MEASUREMENTS:
        known = [one for commands in found.values() for one in commands]
        if command not in known and not is_run_elsewhere(*command):
            found.setdefault(page, []).append(command)
    return found


TO_RUN = measurements_to_run()
RATED = "results/quality-cpu.json"  # the record that the documented commands write on a CPU


@pytest.mark.long
@pytest.mark.parametrize("page", sorted(TO_RUN))
def test_documented_measurements_run_in_their_order(page, tmp_path):
    """Each command runs in a process of its own, with `--quick` if it measures."""
    # What `all --out results` would have written.
    only_files = shutil.ignore_patterns("plots")
    shutil.copytree(ROOT / "benchmarks/results", tmp_path / "results", ignore=only_files)
    (tmp_path / "pictures").mkdir()
    for name in ("photo.jpg", "painting.jpg"):
        write_input(tmp_path / "pictures" / name)
    for module, words in TO_RUN[page]:
        if "--plots" in words and find_spec("matplotlib") is None:
            continue
        if "count" in words:
            write_verdicts(tmp_path)
        quick = quick_form(module, words)
        if "--add" in quick:  # needs a record of the same recipes
            run_module(module, [word for word in quick if word != "--add"], tmp_path)
        said = run_module(module, quick, tmp_path)
        CHECKED[module, words[0]](tmp_path, quick, said)


def quick_form(module, words):
    """Return the words of a command that measures less: few updates on a small canvas."""
    side = str(quality.QUICK.sizes[0])
    words = [re.sub(r"@\d+$", "@2", word) for word in words]
    if words[0] == "lay-out":
        return [*words, "--size", side]
    if module == "benchmarks" and words[0] != "report":
        sizes = [str(int(size) * int(side) // 256) for size in after(words, "--sizes")]
        less = ["--sizes", *sizes] if sizes else []
        more = ["--seconds", "3000"] if "--seconds" in words else []  # so that nothing is left out
        return [*words, *less, *more, "--quick", "--out", "out"]
    return words


def run_module(module, words, folder):
    """Run `python -m` in a folder, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("XLA_FLAGS", None)  # the simulated devices of the tests
    ran = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def record_in(folder, case):
    """Return the quick record of a case, and its path."""
    (path,) = (folder / "out").glob(f"{case}-*-quick.json")
    return json.loads(path.read_text("utf-8")), path


def check_quality(folder, words, said):
    del said
    pairs = after(words, "--pair") or ["chelsea:starry_night"]
    side = (after(words, "--sizes") or [str(quality.QUICK.sizes[0])])[-1]
    start = {pair: f"{pair.replace(':', '--')}--{side}--" for pair in pairs}
    kept = {
        pair: {path.stem.removeprefix(name) for path in folder.glob(f"painted/{name}*.png")}
        for pair, name in start.items()
    }
    for names in kept.values():
        plain = {gallery.own_and_clock(name)[0] for name in names}
        assert names and plain >= set(after(words, "--recipe"))
    if "--paint-only" in words:
        return
    record, path = record_in(folder, "quality")
    assert {":".join(row["pair"]): set(row["recipes"]) for row in record["rows"]} == kept
    assert all(max(row["size"]) == int(side) for row in record["rows"])
    shutil.copy(path, folder / RATED)  # into which the counts of verdicts are written


def check_gpu(folder, words, said):
    record, _ = record_in(folder, "gpu")
    assert "report" in words and record["rows"]
    assert not [note for note in record["notes"] if "was not measured:" in note]
    assert all(row["what"] in said for row in record["rows"])


def check_report(folder, words, said):
    records = harness.read(folder / "results")
    assert sum(line.startswith("|") for line in said.splitlines()) > len(records)
    assert all(entry["source"]["commit"][:7] in said for entry in records)
    if "--plots" in words:
        assert list((folder / "plots").iterdir())


def check_sheets(folder, words, said):
    del words
    key = json.loads((folder / "key.json").read_text())
    assert said.startswith(f"{len(key)} sheets")
    assert {path.stem for path in (folder / "sheets").iterdir()} == set(key) != set()


def check_counts(folder, words, said):
    del words
    key = json.loads((folder / "key.json").read_text())
    (counts,) = json.loads((folder / RATED).read_text())["blind"]
    assert counts["sheets"] == counts["verdicts"] == len(key)
    assert all(name in said for name in counts["first"])


CHECKED = {
    ("benchmarks", "quality"): check_quality,
    ("benchmarks", "gpu"): check_gpu,
    ("benchmarks", "report"): check_report,
    ("benchmarks.blind", "lay-out"): check_sheets,
    ("benchmarks.blind", "count"): check_counts,
}


def after(words, option):
    """Return the values of an option that may be repeated."""
    return [value for word, value in pairwise(words) if word == option]


def write_verdicts(folder):
    """Write what a judge would, who likes each sheet's pictures in the order of their labels."""
    key = json.loads((folder / "key.json").read_text())
    verdicts = {name: sorted(sheet["pictures"]) for name, sheet in key.items()}
    (folder / "verdicts.json").write_text(json.dumps(verdicts))


# Flags that make a run small, by command. A list of layers takes the place of the recipe's.
QUICK = ["--steps", "2", "--style-layer", "relu1_1=1", "--content-layer", "relu1_1=1"]
SMALLER = {
    "stylize": [*QUICK, "--size", "48"],
    "batch": [*QUICK, "--size", "48"],
    "sweep": [
        *("--size", "48", "--steps", "2"),
        *("--set", "terms.style_taps=relu1_1", "--set", "terms.style_layer_weights=1"),
    ],
    "instant": ["--size", "48"],
    "plan": ["--memory", "999GB"],
    "texture": ["--steps", "2", "--style-layer", "relu1_1=1", "--size", "48"],
    "dream": ["--steps", "1", "--octaves", "1", "--size", "48", "--tap", "relu1_1"],
    "train": [*QUICK, "--crop", "32", "--width", "0.125", "--batch", "1"],
}
WITH_COMMANDS = ("index", "print", "fleets", "accelerators", "own-recipe")
# Adam compiles in half the time of L-BFGS, which the tests of each command use.
OF_HOW_TO = {
    name: [*SMALLER[name], "--set", "descent.optimizer=Adam"] for name in ("stylize", "batch")
}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_a_how_to_pages_commands_run(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for folder in ("", "photos", "paintings"):
        Path(folder or ".").mkdir(exist_ok=True)
        for name, sample in (("photo.jpg", "chelsea"), ("painting.jpg", "starry_night")):
            if not folder or name.startswith(folder[:-1]):
                Path(folder, name).write_bytes(images.SAMPLES[sample].read_bytes())
    Path("jobs.csv").write_text("content,style\nphoto.jpg,painting.jpg\npainting.jpg,photo.jpg\n")
    for text in blocks(f"docs/{page}.md", "toml"):
        Path("mine.toml").write_text(text)
    ran = 0
    for words in commands(f"docs/{page}.md"):
        # Ray is an extra, two devices have no room for 48 px, and the demo has tests of its own.
        if words[:1] == ["demo"] or {"ray", "all"} & set(words) or "TOML" in words:
            continue
        code = cli.main([*words, *(SMALLER | OF_HOW_TO).get(words[0], [])])
        assert code == 0, (words, capfd.readouterr().err)
        ran += 1
    assert ran >= 2


# The commands of these pages run before a release, since there are a hundred of them.
MORE_COMMANDS = (
    "README.md",
    *(f"docs/{page}.md" for page in ("command-line", "controls", "dream", "export", "films")),
    *(f"docs/{page}.md" for page in ("instant", "texture", "train")),
)
# Words of commands that are not run here, since they need several devices, extras, standard input or
# output (`test_standard_streams`), weights that this package does not have, a server or kept programs.
# Each has its own tests.
ELSEWHERE = {
    *("--devices", "--cluster", "--runner", "--resume", "-", "demo", "web", "onnx", "tflite"),
    "warm",  # here, programs are not kept
    *("vgg19-dcbb9e9d.pth", "vgg19.h5", "starry.mp4", "step", "compared.svg", "by_map.png", "maps"),
}


@pytest.mark.long
@REGIONS
@pytest.mark.filterwarnings("ignore::nst_jax.run_errors.StyleEnlarged")
@pytest.mark.parametrize("page", MORE_COMMANDS)
def test_all_other_commands_run_in_their_order(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    found = [words for words in commands(page) if words and not ELSEWHERE & set(words)]
    found = [words for words in found if "TOML" not in words and not words[-1].isupper()]
    written = set()
    for words in found:
        write_inputs(words, written)
        if words[0] == "recipes" and "show" in words:  # `> mine.toml`
            capfd.readouterr()  # what earlier commands printed
            assert cli.main(words) == 0
            Path("mine.toml").write_text(capfd.readouterr().out)
            continue
        needs_network = words[0] in ("instant", "export") and "style.h5" in words
        if words == ["plan"] or (needs_network and not Path("style.h5").exists()):
            continue  # named in a sentence, or without the command that trains the network
        if words[0] == "plot" and find_spec("matplotlib") is None:
            continue
        less = (
            SMALLER["texture" if "textures.csv" in words else words[0]]
            if words[0] in SMALLER
            else []
        )
        for option in ("--style-layer", "--content-layer"):
            if option in words and option in less:  # a tap may be named once only
                place = less.index(option)
                less = [*less[:place], *less[place + 2 :]]
        if "--quality" in words and "--steps" in less:  # each is a number of updates
            place = words.index("--quality")
            words = [*words[:place], *words[place + 2 :]]
        code = cli.main([*words, *less])
        assert code == 0, (words, capfd.readouterr().err)
        written |= {path.name for path in Path().iterdir()}
    assert found


FOLDERS = {"photos": "photo", "paintings": "painting"}
FOLDERS_OF_MASKS = {"faces": "photo", "skies": "photo", "photo_maps": "photo"}


def write_inputs(words, written):
    """Write samples under the names of the files and folders that a command reads."""
    for word in words[1:]:
        for name in re.split(r"[:=]", word):
            folder = name.split("/")[0]
            first = (FOLDERS | FOLDERS_OF_MASKS).get(folder)
            if first is not None and not Path(folder).exists():
                Path(folder).mkdir()
                suffix = ".png" if folder in FOLDERS_OF_MASKS else ".jpg"
                write_input(Path(folder, f"{first}{suffix}"))
                # `--pair zip` needs as many paintings as photos, and each photo needs its mask.
                second = "second" if folder == "paintings" else "other"
                write_input(Path(folder, f"{second}{suffix}"))
            elif (
                name.endswith((".jpg", ".png"))
                and not {"*", "/"} & set(name)
                and name not in written
                and words[words.index(word) - 1] not in ("-o", "--film")
            ):
                write_input(Path(name))
    rows = "content,style\nphoto.jpg,painting.jpg\npainting.jpg,photo.jpg\n"
    if "jobs.csv" in words and not Path("jobs.csv").exists():
        Path("jobs.csv").write_text(rows)
        write_inputs(["", "photo.jpg", "painting.jpg"], written)
    if "textures.csv" in words:
        found = re.search(
            r"^style,size.*?(?=^```)", (ROOT / "docs/texture.md").read_text(), re.M | re.S
        )
        Path("textures.csv").write_text(found[0])
        write_inputs(["", "pebbles.jpg"], written)


def write_input(path):
    """Write a painting, a photo, pebbles, or, under the suffix .png, a mask of the left half.

    `upper.png` and `painting_map.png` are masks of a painting, all others are masks of the photo.
    """
    if path.suffix == ".png":
        with Image.open(
            images.SAMPLES["starry_night" if path.stem in ("upper", "painting_map") else "chelsea"]
        ) as of:
            mask = Image.new("L", of.size)
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
        mask.save(path)
        return
    photos = dict.fromkeys(("photo", "portrait", "other"), "chelsea")
    sample = (photos | {"pebbles": "gravel"}).get(path.stem, "starry_night")
    path.write_bytes(images.SAMPLES[sample].read_bytes())


# The pages whose commands other tests run: `test_gallery`, `test_warming`, `test_web_server`.
RUN_ELSEWHERE = {"docs/gallery.md", "docs/service.md", "docs/web.md"}


def test_the_commands_of_every_page_are_run():
    found = {
        page
        for page in PAGES
        if any(re.search(r"^(?:\S+/)?nst-jax ", text, re.MULTILINE) for text in blocks(page, "sh"))
    }
    assert found == {*MORE_COMMANDS, *(f"docs/{page}.md" for page in WITH_COMMANDS), *RUN_ELSEWHERE}


def test_every_flag_that_a_page_names_exists():
    programs = (declarations.cli, measuring.main, blind.main)
    known = {
        flag
        for program in programs
        for command in every_command(program)
        for flag in flags_of(command)
    } | {"--help"}
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
        assert set(re.findall(r"`(--[a-z][a-z-]+)", text)) <= known, page


def every_command(command):
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from every_command(inner)


def flags_of(command):
    return (flag for param in command.params for flag in (*param.opts, *param.secondary_opts))


def test_no_command_of_the_readme_overwrites_what_another_wrote():
    written = [str(path) for path in map(output_of, commands("README.md")) if path]
    assert len(written) > 10
    assert sorted(set(written)) == sorted(written)
    assert "from_python.png" not in written


def output_of(words):
    """Return what a command writes, if it writes a file or a folder of results."""
    found = parsed(words)
    if words[:1] == ["stylize"] and found["output"] is None:
        return "photo_painting.png"
    return found.get("output")


# --- Links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M) if heading else []
        anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
        assert not heading or heading in anchors, target
