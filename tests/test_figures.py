"""Figures for teaching: sheets of maps and Gram matrices, plots of losses, and their commands."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import figures, images
from nst_jax.app.options import figures as options
from nst_jax.figures import loss_plots, network_sheets
from tests.shell import caller, pixels, refused, write_pictures
from tests.small import picture


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a new folder with a picture."""
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(24, 32))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run the command line in this process; return its exit code, standard output and error."""
    return caller(capsys)


def log_lines(count=5, *, content=(1e-13, 0.5), taps=("relu1_1", "relu2_1"), scales=1):
    """Return the text of a log: the style loss halves with every update, the content loss grows."""
    lines = [{"event": "start", "recipe": "tf"}]
    for step in range(count):
        parts = {tap: 0.5**step * (place + 1) for place, tap in enumerate(taps)}
        one = content[0] + (content[1] - content[0]) * step / max(1, count - 1)
        style = sum(parts.values())
        lines.append(
            {"event": "step", "step": step, "scale": step * scales // count, "total": one + style}
            | {"content": one, "style": style, "tv": 0.0, "style_layers": parts, "seconds": 0.0}
        )
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"event": "end", "status": "done"}])


# --- Sheets ---------------------------------------------------------------------------------------


def test_a_gram_matrix_is_drawn_as_it_is(params):
    image = picture("starry_night", 24, 32)
    sheet = figures.gram_sheet(params, image, taps=["relu1_1"])
    maps = np.asarray(nst.features(params, jnp.asarray(image), ["relu1_1"])["relu1_1"], np.float64)
    rows = maps.reshape(-1, 64)
    matrix = rows.T @ rows / len(rows)
    bright = np.sqrt(matrix / np.quantile(matrix, 0.995))
    expected = network_sheets._colored(bright)
    # The matrix is the second picture of the row: 64 entries of 8 x 8 px each.
    margin = 21  # 512 // 24
    left = 2 * margin + 512
    drawn = sheet[margin : margin + 512, left : left + 512][4::8, 4::8]
    np.testing.assert_allclose(drawn, expected, atol=0.012)
    # Lighter means greater.
    light, order = drawn.sum(axis=-1).ravel(), np.argsort(matrix.ravel(), kind="stable")
    assert np.all(np.diff(light[order]) > -0.02)


def test_the_strongest_maps_are_drawn_in_order(params):
    image = picture("chelsea", 32, 48)
    sheet = figures.feature_sheet(params, image, "relu2_1", count=3)
    maps = np.asarray(nst.features(params, jnp.asarray(image), ["relu2_1"])["relu2_1"])
    assert maps.shape == (16, 24, 128)
    margin, width, height = 8, 24 * 8, 16 * 8
    for place, channel in enumerate(np.argsort(-maps.mean((0, 1)))[:3]):
        one = maps[..., channel]
        expected = network_sheets._colored((one - one.min()) / (one.max() - one.min()))
        left = margin + place * (width + margin)
        drawn = sheet[margin : margin + height, left : left + width][4::8, 4::8]
        np.testing.assert_allclose(drawn, expected, atol=0.005)


def test_colours_go_from_dark_to_light():
    drawn = network_sheets._colored(np.linspace(0, 1, 101)[None])
    luminance = drawn[0] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0) and luminance[0] < 0.1 and luminance[-1] > 0.9


def test_numbers_are_short():
    assert [network_sheets._short(value) for value in (1884.3, 0.12345, 0, 12)] == [
        "1880", "0.123", "0", "12",
    ]  # fmt: skip


def test_the_sheets_refuse_bad_input(params):
    image = picture("chelsea", 32, 48)
    with pytest.raises(ValueError, match="`style`: expected one image"):
        figures.gram_sheet(params, image[..., 0])
    with pytest.raises(ValueError, match=r"`tap`: there is no VGG-19 tap 'relu9_1'"):
        figures.feature_sheet(params, image, "relu9_1")
    with pytest.raises(ValueError, match="`count`: expected 1 or more"):
        figures.feature_sheet(params, image, "relu1_1", count=0)


# --- Logs and plots -------------------------------------------------------------------------------


def test_a_log_is_read_as_it_was_written():
    Path("run.jsonl").write_text(log_lines(4, scales=2))
    run = figures.read_log("run.jsonl")
    assert (run.name, run.facts["recipe"]) == ("run", "tf")
    assert run.steps.tolist() == [0, 1, 2, 3] and run.scales.tolist() == [0, 0, 1, 1]
    assert list(run.losses) == ["total", "content", "style", "tv"]
    np.testing.assert_allclose(run.taps["relu2_1"], [2, 1, 0.5, 0.25])
    np.testing.assert_allclose(run.losses["style"], [3, 1.5, 0.75, 0.375])
    np.testing.assert_allclose(run.losses["total"], run.losses["content"] + run.losses["style"])


def test_a_log_may_be_unfinished_and_have_losses_that_are_not_finite():
    lines = [json.loads(line) for line in log_lines(3).splitlines()[:-1]]
    lines[2]["total"] = None
    text = "".join(json.dumps(line) + "\n" for line in lines)
    Path("run.jsonl").write_text(text + '{"event": "step", "st')
    total = figures.read_log("run.jsonl").losses["total"]
    assert np.isfinite(total).tolist() == [True, False, True]


def test_what_is_no_log_is_refused():
    Path("empty.jsonl").write_text("")
    Path("text.jsonl").write_text("hello\n")
    Path("bytes.jsonl").write_bytes(b"\xff\xfe\n")
    Path("results.jsonl").write_text('{"output": "a.png"}\n')
    Path("train.jsonl").write_text('{"event": "step", "step": 1, "loss": 2.0}\n')
    expected = {
        "empty": "has no losses",
        "text": "line 1 of",
        "bytes": "is no log of nst-jax",
        "results": "line 1 of",
        "train": "is no log of a style transfer",
        "missing": "there is no file",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=f"`path`: .*{message}") as caught:
            figures.read_log(f"{name}.jsonl")
        assert name in str(caught.value)


def drawn_lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}


def test_one_run_has_its_parts_and_its_taps():
    pytest.importorskip("matplotlib")
    Path("run.jsonl").write_text(log_lines(8, scales=2))
    figure = figures.plot_losses([figures.read_log("run.jsonl")])
    parts, taps = figure.get_axes()
    assert figure.get_suptitle() == "run: recipe tf"
    assert list(drawn_lines(parts)) == ["total", "content", "style"]  # tv is zero throughout
    assert list(drawn_lines(taps)) == ["relu1_1", "relu2_1"]
    for axes in (parts, taps):
        assert axes.get_yscale() == "log" and axes.get_xlabel() == "updates"
        # Where the finer scale begins.
        assert [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2] == [
            4
        ]
    content = drawn_lines(parts)["content"].get_ydata()
    assert np.isnan(content[0]) and content[-1] == 0.5
    np.testing.assert_allclose(drawn_lines(taps)["relu1_1"].get_ydata(), 0.5 ** np.arange(8))


@pytest.mark.parametrize("count", [1, 2])
def test_losses_that_are_all_zero_are_refused(count):
    pytest.importorskip("matplotlib")
    run = loss_plots.LoggedRun(
        "run", {}, np.arange(3), np.zeros(3, int), {"total": np.zeros(3)}, {}
    )
    with pytest.raises(ValueError, match="^`runs`: all losses are 0, so there is nothing to draw"):
        figures.plot_losses([run] * count)


def test_several_runs_are_compared_part_by_part():
    pytest.importorskip("matplotlib")
    Path("other").mkdir()
    names = ("run.jsonl", "other/run.jsonl", "_$x.jsonl")
    for name in names:
        Path(name).write_text(log_lines(3, taps=("relu1_1", "relu4_1"), content=(0.5, 0.6)))
    figure = figures.plot_losses([figures.read_log(name) for name in names], title="Three")
    headings = ["total loss", "content", "style", "style at relu1_1", "style at relu4_1"]
    assert [axes.get_title() for axes in figure.get_axes()] == headings
    for axes in figure.get_axes():
        assert list(drawn_lines(axes)) == ["run (1)", "run (2)", r" _\$x"]
        assert axes.get_yscale() == "linear"  # within a factor of ten
    figures.save_plot("plot.png", figure)
    assert pixels("plot.png").std() > 10


def test_without_matplotlib_one_line_says_how_to_install_it(call, monkeypatch):
    monkeypatch.setattr(loss_plots, "find_spec", lambda name: None)
    Path("run.jsonl").write_text(log_lines())
    refused(call("plot", "run.jsonl"), "matplotlib", "pip install 'nst-jax[plots]'")


# --- Commands -------------------------------------------------------------------------------------


def test_plot_writes_losses(call):
    pytest.importorskip("matplotlib")
    Path("run.jsonl").write_text(log_lines())
    assert call("plot", "run.jsonl") == (0, "losses.png\n", "")
    assert pixels("losses.png").shape[2] in (3, 4)
    assert call("plot", "run.jsonl", "run.jsonl", "-o", "two.svg", "-q") == (0, "", "")
    assert "<svg" in Path("two.svg").read_text()


BAD = {
    "no log": (["plot", "photo.png"], "`LOG`", "photo.png"),
    "format": (["plot", "run.jsonl", "-o", "plot.gif"], "`--output`", ".png, .svg, .pdf"),
    "the log itself": (["plot", "run.svg", "-o", "run.svg"], "`--output`", "another"),
    "kept plot": (["plot", "run.jsonl", "-o", "old.png", "--no-overwrite"], "`--output`", "exists"),
    "tap": (["features", "photo.png", "--tap", "conv3_1"], "`--tap`", "'relu3_1'"),
    "tap of gram": (["gram", "photo.png", "--tap", "relu1_1", "--tap", "r11"], "`--tap`", "twice"),
    "count": (["features", "photo.png", "--count", "0"], "`--count`"),
    "size": (["gram", "photo.png", "--size", "8"], "`--size`"),
    "no picture": (["gram", "run.jsonl"], "`STYLE`", "not a picture"),
    "the input": (["features", "photo.png", "-o", "photo.png"], "`--output`", "another"),
    "kept sheet": (
        ["gram", "photo.png", "-o", "old.png", "--no-overwrite"],
        "`--output`",
        "exists",
    ),
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(call, words):
    if words[0][0] == "plot":
        pytest.importorskip("matplotlib")
    for name in ("run.jsonl", "run.svg"):
        Path(name).write_text(log_lines())
    Path("old.png").write_bytes(b"old")
    arguments, *parts = words
    refused(call(*arguments), *parts)
    assert Path("old.png").read_bytes() == b"old"


def test_gram_and_features_write_sheets(call, params):
    assert call("gram", "photo.png", "--tap", "relu1_1") == (0, "photo_gram.png\n", "")
    seen = images.load("photo.png")
    sheet = figures.gram_sheet(params, seen, taps=["relu1_1"], label="photo.png")
    np.testing.assert_array_equal(pixels("photo_gram.png"), images.to_uint8(sheet))
    words = ("--tap", "r11", "--count", "2", "--size", "24", "-q")
    assert call("features", "photo.png", *words) == (0, "", "")
    small = images.bicubic_8bit(seen, (18, 24))
    assert small.shape == (18, 24, 3)
    assert pixels("photo_relu1_1.png").shape[1] == 2 * 192 + 3 * 8


def test_defaults_in_help_are_those_of_the_functions():
    assert options.FIGURE_MAPS == network_sheets.MAPS
    assert network_sheets.STYLE_TAPS[0] == "relu1_1" and network_sheets.STYLE_TAPS[-1] == "relu5_1"
