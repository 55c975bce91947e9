"""Sweeps: a cell is the single run with its numbers, other numbers are the same program."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import nst_jax as nst
from nst_jax import optimizers, recipes
from nst_jax.app import cli, interrupts, writing
from nst_jax.app.progress import Display
from nst_jax.app.sweep import axes, command, grid, job, painting
from nst_jax.images import sheets
from nst_jax.recipes import sizes
from nst_jax.scaling import chunk_size
from tests import small

TAPS = ("relu1_1", "relu1_2", "relu2_1")
# As the default of sweeps: it starts from noise and its layers count alike.
TINY = recipes.Recipe(
    name="tiny",
    source="the tests",
    pictures=recipes.Pictures(size=sizes.LongEdge(32), start=nst.recipes.starts.Noise()),
    terms=recipes.Terms(
        content_taps=("relu2_1",),
        content_weight=0.01,
        style_taps=TAPS,
        style_layer_weights=(0.3, 0.2, 0.1),
    ),
    descent=recipes.Descent(
        optimizer=optimizers.Adam(learning_rate=0.02, eps=1e-3), clip=True, steps=3
    ),
)
FREE = replace(TINY, name="free", descent=replace(TINY.descent, clip=False))
# As in test_batches.
SAME = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a fresh folder with two pictures in it, and know some small recipes."""
    monkeypatch.chdir(tmp_path)
    for recipe in (TINY, FREE):
        monkeypatch.setitem(recipes.PRESETS, recipe.name, recipe)
    nst.images.save("photo.png", small.picture("chelsea", 24, 32))
    nst.images.save("art.png", small.picture("starry_night", 28, 20))


@pytest.fixture
def call(capsys):
    """Sweep with the tiny recipe; return exit code, standard output, standard error."""

    def run(*argv):
        words = ["sweep", "photo.png", "art.png", *map(str, argv)]
        code = cli.main(words if "--recipe" in argv else [*words, "--recipe", "tiny"])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def canvases(monkeypatch):
    """Return a list that what is painted gets added to."""
    found = []
    paint = command.paint_sweep

    def noted(*args):
        for canvas in paint(*args):
            found.append(canvas.image)
            yield canvas

    monkeypatch.setattr(command, "paint_sweep", noted)
    return found


def pictures():
    return nst.images.load("photo.png"), nst.images.load("art.png")


def single(params, recipe, **options):
    return nst.stylize(params, *pictures(), recipe=recipe, size=32, **options)


def with_terms(**terms):
    return replace(TINY, terms=replace(TINY.terms, **terms))


def told(path):
    return nst.images.read_metadata(path)


# --- Cells ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cell_is_the_single_run_with_its_numbers(call, canvases, params):
    argv = ["--ratio", "1e-3,10", "--layers", "cumulative", "--size", "32", "--seed", "5"]
    assert call(*argv, "-o", "grid.png", "-q") == (0, "", "")
    assert len(canvases) == 6
    factors = ((3, 0, 0), (1.5, 1.5, 0), (1, 1, 1))
    for row, layers in enumerate(factors):
        weights = tuple(w * f for w, f in zip(TINY.terms.style_layer_weights, layers, strict=True))
        for column, ratio in enumerate((1e-3, 10.0)):
            recipe = with_terms(style_layer_weights=weights, content_weight=ratio)
            image = single(params, recipe, key=jax.random.key(5))
            assert_allclose(canvases[2 * row + column], image, **SAME)
    assert np.abs(canvases[0] - canvases[1]).max() > 0.01


@pytest.mark.slow
def test_a_single_value_is_set_and_two_are_swept(call, canvases, params):
    argv = ["--style-weight", "2", "--lr", "0.01,0.03", "--ratio", "0.5", "--size", "32", "-q"]
    assert call(*argv)[0] == 0
    assert len(canvases) == 2
    for image, rate in zip(canvases, (0.01, 0.03), strict=True):
        recipe = with_terms(style_weight=2.0, content_weight=1.0)
        rule = replace(recipe.descent.optimizer, learning_rate=rate)
        recipe = replace(recipe, descent=replace(recipe.descent, optimizer=rule))
        assert_allclose(image, single(params, recipe), **SAME)


def test_a_ratio_follows_a_swept_style_weight():
    swept = [axes.axis_of(n, (1.0, 10.0), TINY) for n in ("style_weight", "ratio")]
    terms = axes.with_swept_values(TINY, swept, *axes.shape_of(swept)).terms
    assert_array_equal(terms.style_weight, [1, 1, 10, 10])
    assert_array_equal(terms.content_weight, [1, 10, 10, 100])


@pytest.mark.slow
def test_a_start_may_be_a_picture(call, canvases, params):
    assert call("--ratio", "0.01,1", "--init", "photo.png", "--size", "32", "-q")[0] == 0
    assert Path("photo_art_sweep.png").exists()
    assert_allclose(canvases[0], single(params, TINY, init=pictures()[0]), **SAME)


# --- One program ----------------------------------------------------------------------------------


def test_other_numbers_compile_nothing(call, compilations):
    argv = ["--layers", "cumulative", "--size", "32", "-q", "--ratio"]
    assert call(*argv, "1e-3,10")[0] == 0
    before = compilations()
    assert call(*argv, "2,0")[0] == 0
    assert call("--layers", "single", *argv[2:], "5,3")[0] == 0
    assert call(*argv, "2,3", "--steps", "5", "--content-weight", "1")[0] == 2
    assert call(*argv, "2,3", "--steps", "5", "--seed", "7")[0] == 0
    assert compilations() == before


@pytest.mark.slow
def test_groups_are_the_same_program(call, canvases, compilations, monkeypatch):
    argv = ["--ratio", "1e-3,10", "--layers", "cumulative", "--size", "32", "-q"]
    assert call(*argv)[0] == 0
    whole = canvases[:]
    monkeypatch.setattr(chunk_size, "PIXELS_AT_ONCE", {"cpu": 3 * 24 * 32})
    runs = []
    many = painting.paint_batch
    monkeypatch.setattr(
        painting, "paint_batch", lambda *a, **k: (runs.append(compilations()), many(*a, **k))[1]
    )
    assert call(*argv)[0] == 0
    assert len(runs) == 2
    assert compilations() == runs[1]  # the second group compiled nothing
    assert_allclose(canvases[6:], whole, **SAME)


@pytest.mark.parametrize(
    ("count", "shape", "size"),
    [(20, (128, 128), 20), (20, (256, 256), 5), (7, (256, 256), 7), (7, (512, 512), 1)],
)
def test_groups_are_equal_and_fit(count, shape, size):
    assert chunk_size.worthwhile_divisor(count, shape, "cpu") == size
    assert chunk_size.worthwhile_divisor(count, shape, "gpu") == count


# --- Grids and messages ---------------------------------------------------------------------------


def test_the_grid_shows_what_was_painted_and_says_what_was_swept(call, monkeypatch):
    drawn = []
    grid = sheets.labelled_grid
    monkeypatch.setattr(
        sheets, "labelled_grid", lambda *a, **k: (drawn.append((a, k)), grid(*a, **k))[1]
    )
    argv = ["--ratio", "1e-5,0.001,10", "--layers", "relu2_1,relu1_1+r12", "-o", "grid.png"]
    code, out, err = call(*argv, "--size", "32")
    assert (code, out) == (0, "grid.png\n")
    assert "6 of 32x24 px" in err and "picture 6 of 6" in err and "compiled in" in err
    assert "down       style layers: relu2_1, relu1_1 +1_2" in err
    ((shown, rows, columns), options), *more = drawn
    assert not more
    assert sorted(shown) == [(i, j) for i in range(2) for j in range(3)]
    assert list(rows) == ["relu2_1", "relu1_1 +1_2"]
    assert list(columns) == ["1e-5", "1e-3", "1e+1"]
    assert options["row_title"] == "style layers"
    assert options["column_title"] == "content weight / style weight"
    assert options["title"] == "photo.png with art.png, tiny, 3 updates"
    with Image.open("grid.png") as image:
        assert image.width > 3 * 32 + 4 * 8 and image.height > 2 * 24 + 3 * 8
    facts = told("grid.png")
    assert facts["sweep"]["rows"] == {
        "of": "layers",
        "values": [["relu2_1"], ["relu1_1", "relu1_2"]],
    }
    assert facts["sweep"]["columns"] == {"of": "ratio", "values": [1e-5, 1e-3, 10]}
    assert facts["settings"]["terms.content_weight"] == [1e-5, 1e-3, 10] * 2
    assert facts["finished"] is True and facts["missing"] == facts["diverged"] == []
    assert facts["inputs"]["style"]["name"] == "art.png"
    assert json.dumps(facts)


@pytest.mark.slow
def test_one_thing_makes_one_row(call):
    assert call("--ratio", "1,2", "--size", "32", "-o", "grid.png")[0] == 0
    assert told("grid.png")["sweep"]["rows"] is None
    assert call("--ratio", "1,2", "--size", "32", "-o", "bare.png", "--no-metadata")[0] == 0
    assert told("bare.png") is None


@pytest.mark.slow
def test_cells_that_diverge_are_named(call):
    argv = ["--lr", "0.01,1e30", "--tv-weight", "0,1", "--recipe", "free", "-o", "grid.png"]
    code, out, err = call(*argv, "--size", "32", "-q")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"nst-jax: warning: weight of total variation {row}, learning rate 1e+30: the losses, or "
        "their gradient, are not finite after 1 updates; this is the last picture before that: try a "
        "smaller learning rate, or smaller weights of the losses"
        for row in (0, 1)
    ]
    facts = told("grid.png")
    assert facts["diverged"] == [1, 3] and facts["finished"] is True


def test_cells_that_paint_nothing_are_named(call):
    argv = ["--style-weight", "1,1e25", "--recipe", "free", "-o", "grid.png", "--size", "32", "-q"]
    code, out, err = call(*argv)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "nst-jax: warning: style weight 1e+25: the losses after the last update are those of the "
        "start; nothing was painted: try smaller weights of the losses, or a larger learning rate, or "
        "another style if the start looks like this one already"
    ]
    assert told("grid.png")["stalled"] == [1] and told("grid.png")["diverged"] == []


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_the_groups_that_are_done(call, monkeypatch):
    monkeypatch.setattr(chunk_size, "PIXELS_AT_ONCE", {"cpu": 3 * 24 * 32})
    runs = []
    many = painting.paint_batch

    def stopped(*args, **options):
        if len(runs) == 1:
            raise KeyboardInterrupt
        runs.append(1)
        return many(*args, **options)

    monkeypatch.setattr(painting, "paint_batch", stopped)
    argv = ["--ratio", "1,2", "--layers", "cumulative", "--size", "32", "-o", "grid.png", "-q"]
    code, out, err = call(*argv)
    assert (code, out) == (130, "")
    assert err == "nst-jax: interrupted: grid.png has the 3 of 6 pictures that were done\n"
    facts = told("grid.png")
    assert facts["finished"] is False and facts["missing"] == [3, 4, 5]
    Path("grid.png").unlink()
    code, _, err = call(*argv)
    assert code == 130 and "none of the 6 pictures was done, so nothing was written" in err
    assert not Path("grid.png").exists()


@pytest.fixture
def signalled(monkeypatch):
    """Return a function that sends this process a signal; it is heard as by the command line."""
    before = {number: signal.getsignal(number) for number in interrupts.STOPPING}
    for number in interrupts.STOPPING:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # it may be ignored, as under `nohup`
    monkeypatch.setattr(interrupts, "_in_charge", True)
    yield lambda name: os.kill(os.getpid(), getattr(signal, name))
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_sweep(call, monkeypatch, signalled, name):
    monkeypatch.setattr(painting.BatchProgress, "report", lambda *arguments: signalled(name))
    code, _, err = call("--ratio", "1,2", "--size", "32", "-q")
    assert code == 130 and err.startswith("nst-jax: interrupted")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("step", "name"), [("drawn", "SIGINT"), ("write_picture", "SIGTERM")])
def test_a_signal_while_the_grid_is_written_loses_no_picture(
    call, monkeypatch, signalled, step, name
):
    calls, real = [], getattr(grid, step)

    def pressed(*arguments, **options):
        calls.append(step)
        if len(calls) == 1:
            signalled(name)
        return real(*arguments, **options)

    monkeypatch.setattr(grid, step, pressed)
    code, out, err = call("--ratio", "1,2", "--size", "32", "-q", "-o", "grid.png")
    assert (code, out) == (130, "")
    assert err == "nst-jax: interrupted: grid.png has the 2 of 2 pictures that were done\n"
    assert told("grid.png")["finished"] is True and told("grid.png")["missing"] == []


def test_the_temporary_file_of_a_killed_sweep_is_removed(call):
    Path(".grid.png.0123abcd.part").touch()
    assert call("--ratio", "1,2", "--size", "32", "-q", "-o", "grid.png")[0] == 0
    assert not list(Path().glob(".*.part"))


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "there is too little memory"),
    ],
)
def test_a_grid_that_cannot_be_written_goes_elsewhere(call, monkeypatch, raised, reason):
    save, full = nst.images.save, Path("full").absolute()
    full.mkdir()

    def failing(path, *args, **options):
        if Path(path).absolute().parent == full:
            raise raised
        save(path, *args, **options)

    monkeypatch.setattr(writing.images, "save", failing)
    code, out, err = call("--ratio", "1,2", "--size", "32", "-q", "-o", "full/grid.png")
    (found,) = Path().glob("grid-*.png")
    assert (code, out) == (1, "")
    said = f"cannot write 'full/grid.png': {reason}; the grid is in '{found.absolute()}'"
    assert err.startswith(f"nst-jax: error: {said}")
    assert told(found)["finished"] is True


# --- Axes -----------------------------------------------------------------------------------------


def test_sets_of_layers():
    cumulative = (TAPS[:1], TAPS[:2], TAPS)
    assert axes.layer_sets("cumulative", TAPS) == cumulative
    assert axes.layer_sets("single", TAPS) == tuple((tap,) for tap in TAPS)
    assert axes.layer_sets("r11,relu2_1+block1_conv1", TAPS) == (TAPS[:1], TAPS[::2])


def test_the_paper_weighs_the_layers_of_a_set_alike():
    recipe = recipes.GATYS_2015
    axis = axes.axis_of("layers", "cumulative", recipe)
    weights = axes.with_swept_values(recipe, [axis], None, axis).terms.style_layer_weights
    expected = [[1 / n if i < n else 0 for n in range(1, 6)] for i in range(5)]
    assert_allclose(np.asarray(weights), expected)
    assert axis.labels[-1] == "relu1_1 +2_1 +3_1 +4_1 +5_1"


def test_a_single_value_alone_is_a_grid_of_one():
    planned = job.sweep_job(
        nst.images.read("photo.png"),
        [nst.images.read("art.png")],
        TINY,
        {"ratio": (3.0,)},
        output=Path("x.png"),
    )
    assert planned.rows is None and planned.labels == ("content weight / style weight 3",)
    assert planned.plan.recipe.terms.content_weight == 3


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((1.0, 0.5, 20.0), ("1", "0.5", "20")),
        ((1e-5, 1e-3, 0.5), ("1e-5", "1e-3", "5e-1")),
        ((0.0, 1e7, 2.5e-4), ("0", "1e+7", "2.5e-4")),
    ],
)
def test_numbers_are_written_alike(values, labels):
    assert axes.axis_of("ratio", values, TINY).labels == labels


# --- Bad input ------------------------------------------------------------------------------------

BAD = {
    "nothing": ([], "nothing is swept", "--ratio", "--lr"),
    "three": (
        ["--ratio", "1,2", "--layers", "single", "--lr", "1,2"],
        "`--ratio`",
        "`--layers` and `--lr`",
    ),
    "no list": (["--ratio", ""], "`--ratio`", "numbers separated by commas"),
    "hole": (["--ratio", "1,,2"], "`--ratio`", "'1,,2'"),
    "words": (["--style-weight", "1,two"], "`--style-weight`", "'1,two'"),
    "negative": (["--ratio", "1,-2"], "`--ratio`", "0 or more", "-2"),
    "infinite": (["--tv-weight", "1,inf"], "`--tv-weight`", "finite"),
    "zero rate": (["--lr", "0,1"], "`--lr`", "more than 0"),
    "no rate": (["--lr", "1,2", "--recipe", "default"], "`--lr`", "'default'", "tf"),
    "word for layers": (["--layers", "cumulativ"], "`--layers`", "'cumulative'"),
    "no layers": (["--layers", ""], "`--layers`"),
    "unknown layer": (["--layers", "relu1_1,relu1_9"], "`--layers`", "'relu1_9'"),
    "layer not used": (["--layers", "relu1_1+relu3_1"], "`--layers`", "'relu3_1'"),
    "layer twice": (["--layers", "relu1_1+r11"], "`--layers`", "twice"),
    "two for one": (["--ratio", "1,2", "--content-weight", "3"], "`--content-weight`", "`--ratio`"),
    "ratio to nothing": (["--ratio", "1,2", "--style-weight", "0"], "`--style-weight`", "0"),
    "recipe": (["--ratio", "1,2", "--recipe", "tiyn"], "`--recipe`", "'tiny'"),
    "size": (["--ratio", "1,2", "--size", "8"], "`--size`", "16"),
    "output": (["--ratio", "1,2", "-o", "nowhere/grid.png"], "`--output`", "nowhere"),
    "suffix": (["--ratio", "1,2", "-o", "grid.gif"], "`--output`", ".gif"),
    "input": (["--ratio", "1,2", "-o", "photo.png"], "`--output`", "photo.png"),
    "weights": (["--ratio", "1,2", "--weights", "art.png"], "`--weights`", "art.png"),
}


@pytest.mark.parametrize("argv", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_one_line(call, argv, compilations):
    argv, *words = argv
    before, files = compilations(), sorted(os.listdir())
    code, out, err = call(*argv)
    assert (code, out) == (2, ""), err
    assert err.startswith("nst-jax: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    assert compilations() == before and sorted(os.listdir()) == files


def test_missing_pictures_are_refused(capsys):
    assert cli.main(["sweep", "no.png", "art.png", "--ratio", "1,2"]) == 2
    assert "`CONTENT`" in capsys.readouterr().err


def test_help_names_the_defaults(capsys):
    assert cli.main(["sweep", "--help"]) == 0
    out = capsys.readouterr().out
    assert "gatys-2015" in out and "128" in out and "--layers" in out


@pytest.mark.slow
def test_the_display_of_a_quiet_sweep_says_nothing(params, capsys):
    content, style = nst.images.read("photo.png"), nst.images.read("art.png")
    planned = job.sweep_job(content, [style], TINY, {"ratio": (1.0, 2.0)}, output=Path("x.png"))
    info = nst.weights.read_info(None)
    canvases = list(painting.paint_sweep(params, info, planned, Display(quiet=True)))
    assert [(canvas.cell, canvas.problem) for canvas in canvases] == [(0, ""), (1, "")]
    assert capsys.readouterr().err == ""
