"""The command line: its help, files, messages and exit codes."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import tomllib
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import (
    _checks,
    _files,
    images,
    optimizers,
    planned_painting,
    recipes,
    run_errors,
    run_scales,
    weights,
)
from nst_jax.app import arguments, cli, command_classes, declarations, messages, progress
from nst_jax.app.batch import groups, results
from nst_jax.app.batch.entries import Entry
from nst_jax.app.options import base
from nst_jax.feed_forward import styles26
from nst_jax.recipes import sizes
from nst_jax.scaling import capacity
from tests.shell import caller, pixels, refused, write_pictures

# Two convolutions instead of sixteen: most of what is tested here does not depend on depth.
SHALLOW = {
    "content_taps": ("relu1_2",),
    "style_taps": ("relu1_1", "relu1_2"),
    "style_layer_weights": (1.0, 1.0),
}
TINY = recipes.Recipe(
    name="tiny",
    source="the tests",
    pictures=recipes.Pictures(size=sizes.LongEdge(40)),
    terms=recipes.Terms(**SHALLOW),
    descent=recipes.Descent(optimizer=optimizers.Adam(learning_rate=0.02), clip=True, steps=5),
)
FREE = replace(TINY, name="free", descent=replace(TINY.descent, clip=False))
SCALED = replace(
    FREE,
    name="scaled",
    pictures=recipes.Pictures(size=sizes.LongEdge(48)),
    descent=replace(FREE.descent, schedule=recipes.CoarseToFine(smallest=24)),
)
TINY_MAIN = """
import sys
from nst_jax import optimizers, recipes
from nst_jax.app import cli
from nst_jax.recipes import sizes
recipes.PRESETS["tiny"] = recipes.Recipe(
    name="tiny",
    pictures=recipes.Pictures(size=sizes.LongEdge(40)),
    terms=recipes.Terms(
        content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
    ),
    descent=recipes.Descent(optimizer=optimizers.Adam()),
)
sys.exit(cli.main())
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a new folder with a few pictures, and register some small recipes as presets."""
    monkeypatch.chdir(tmp_path)
    for recipe in (TINY, FREE, SCALED):
        monkeypatch.setitem(recipes.PRESETS, recipe.name, recipe)
    write_pictures(photo=(45, 60), art=(50, 50), other=(45, 60))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run the command line in this process; return its exit code, standard output and error."""
    return caller(capsys)


# So that child processes import the same package, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def child(*argv):
    """Run Python in another process."""
    words = [sys.executable, *argv]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# --- Starting and help ----------------------------------------------------------------------------


def test_help_is_cheap():
    heavy = "{'jax', 'flax', 'optax', 'PIL', 'h5py', 'rich', 'numpy'}"
    program = (
        "import sys; from nst_jax.app.cli import main; code = main(['stylize', '--help']); "
        f"sys.exit(code or bool({heavy} & set(sys.modules)))"
    )
    done = child("-c", program)
    assert done.returncode == 0, done.stderr
    assert "--style-weight" in done.stdout


def test_module_runs_with_exit_code_and_one_line():
    done = child("-m", "nst_jax", "stylise", "a.png", "b.png")
    assert done.returncode == 2
    message = "nst-jax: error: `nst-jax`: there is no command 'stylise'; did you mean stylize?\n"
    assert done.stderr == message


def test_version_and_bare_call(call):
    assert call("--version") == (0, f"nst-jax {nst.__version__}\n", "")
    code, out, _ = call()
    assert code == 0 and "stylize" in out


def test_messages_name_what_was_typed(call):
    Image.new("RGBA", (32, 24)).save("clear.png")
    Image.new("RGB", (640, 16)).save("wide.png")
    painted = ("--recipe", "tiny", "-o", "out.png")
    clear = ("is transparent; give one with opaque parts",)
    nothing = ("got 'relu1_1=0.5:'\n",)
    small = ("640x16 px becomes 512x13 px by the size rule",)
    for argv, words in (
        (("stylize", "clear.png", "art.png", *painted), ("`CONTENT`: all of the content", *clear)),
        (("texture", "clear.png", *painted), ("`STYLE`: all of the style", *clear)),
        (("stylize", "photo.png", "art.png", "--init", "", *painted), ("`--init`: is empty",)),
        (("stylize", "photo.png", "art.png", "--style-layer", "relu1_1=0.5:"), nothing),
        (("stylize", "--size"), ("`nst-jax stylize --help` lists the options",)),
        (("batch", "photo.png", "--styles", "art.png", "-o", "art.png"), ("is a file; name a",)),
        (("gram", "wide.png"), ("`STYLE`: ", *small)),
        (("features", "wide.png"), ("`PICTURE`: ", *small)),
        (("plan", "--shape", "20x8"), ("`--shape`: 20x8 px is too small",)),
    ):
        refused(call(*argv), *words)


def test_info_without_a_file_names_what_describes_the_program(call):
    code, out, err = call("info")
    assert (code, out) == (2, "")
    assert err.startswith("nst-jax: error: `FILE`: is missing; name a result or a style file;")
    assert "`nst-jax --version`" in err and "`nst-jax weights info`" in err


COMMANDS = (
    *(
        "demo",
        "stylize",
        "texture",
        "batch",
        "instant",
        "sweep",
        "dream",
        "plan",
        "warm",
        "train",
        "web",
        "export",
        "plot",
        "gram",
        "features",
    ),
    *("info", "recipes", "weights"),
)
GROUPED = tuple(name for name in COMMANDS if name not in ("web", "info", "recipes", "weights"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0 and out.startswith(f"Usage: nst-jax {command}")


@pytest.mark.parametrize("words", [(), ("recipes",), ("weights",)])
def test_summaries_of_commands_are_complete(call, words):
    _, out, _ = call(*words, "--help")
    summaries = out[out.index("Commands:\n") :].splitlines()[1:]
    if not words:
        assert [line.split()[0] for line in summaries] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in summaries)
    assert all(len(line) <= 79 for line in summaries)


@pytest.mark.parametrize("command", GROUPED)
def test_help_is_in_groups(call, command):
    _, out, _ = call(command, "--help")
    titles = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert titles == [group for group in command_classes.GROUPS if group in titles]
    assert titles[0] == command_classes.LOOK and titles[-1] == command_classes.OTHER
    last = re.findall(r"^  -\w, --(\w+)", out[out.index("Options:\n") :], re.MULTILINE)
    assert last == (["help"] if command in ("plan", "export") else ["quiet", "help"])


@pytest.mark.parametrize("command", GROUPED)
def test_options_say_what_they_are_and_their_default(command):
    for param in declarations.cli.commands[command].params:
        if isinstance(param, command_classes.Option):
            assert param.help[0].isalpha() and not param.help.endswith(".")
            has_default = isinstance(param.default, (str, int, Path)) and param.default
            assert not has_default or param.required or "(default: " in param.help


def test_defaults_in_help_are_those_of_the_default_recipe():
    default = recipes.DEFAULT
    assert default.pictures.size == sizes.LongEdge(int(base.DEFAULT_SIZE))
    assert str(default.descent.steps) == base.DEFAULT_STEPS
    assert default.network.precision.name == base.DEFAULT_PRECISION
    assert default.network.tile is None  # which is "auto"
    assert arguments.starts.Blend().ratio == 0.6


# --- Bad input ------------------------------------------------------------------------------------

BAD_FLAGS = {
    "recipe": (["--recipe", "gatys-pytorc"], "`--recipe`", "'gatys-pytorch'"),
    "no recipe file": (["--recipe", "none.toml"], "`--recipe`", "none.toml"),
    "recipe in no folder": (["--recipe", "./none"], "`--recipe`", "none"),
    "recipe is folder": (["--recipe", "./"], "`--recipe`"),
    "recipe is picture": (["--recipe", "./art.png"], "`--recipe`", "art.png", "UTF-8"),
    "set no value": (["--set", "descent.clip"], "`--set`", "KEY=VALUE", "descent.clip"),
    "set no key": (["--set", "=3"], "`--set`", "KEY=VALUE"),
    "set unknown": (["--set", "terms.style_wieght=3"], "`--set`", "'terms.style_weight'"),
    "set unknown name": (["--set", "network.pool=averag"], "`--set`", "'average'"),
    "set wrong type": (["--set", "descent.steps=1.5"], "`--set`", "`descent.steps`", "1.5"),
    "set out of range": (["--set", "descent.steps=0"], "`--set`", "`descent.steps`", "1 or more"),
    "option": (["--style-wieght", "3"], "`--style-wieght`", "--style-weight"),
    "suffix": (["-o", "out.bmp"], "`--output`", ".bmp"),
    "no suffix": (["-o", "out"], "`--output`"),
    "no folder": (["-o", "nowhere/out.png"], "`--output`", "nowhere"),
    "output is input": (["-o", "photo.png"], "`--output`", "photo.png"),
    "negative weight": (["--content-weight", "-1"], "`--content-weight`", "-1"),
    "NaN weight": (["--style-weight", "nan"], "`--style-weight`", "finite"),
    "infinite weight": (["--tv-weight", "inf"], "`--tv-weight`", "finite"),
    "zero steps": (["--steps", "0"], "`--steps`", "1 or more", "0"),
    "steps in words": (["--steps", "many"], "`--steps`", "many"),
    "size in words": (["--size", "big"], "`--size`", "big"),
    "small size": (["--size", "8"], "`--size`", "16", "8"),
    "style size": (["--style-size", "long:1"], "`--style-size`", "16"),
    "zero rate": (["--recipe", "tf", "--lr", "0"], "`--lr`", "more than 0"),
    "no rate": (["--recipe", "default", "--lr", "1"], "`--lr`", "default", "tf"),
    "init": (["--init", "contnt"], "`--init`", "'content'"),
    "init file": (["--init", "start.png"], "`--init`", "start.png"),
    "ratio alone": (["--noise-ratio", "0.5"], "`--noise-ratio`", "content+noise"),
    "ratio": (["--init", "content+noise", "--noise-ratio", "2"], "`--noise-ratio`", "2"),
    "precision": (["--precision", "bfloat61"], "`--precision`", "bfloat16"),
    "seed": (["--seed", "-1"], "`--seed`", "-1"),
    "strength": (["--strength", "1.5"], "`--strength`", "1.5"),
    "layer": (["--style-layer", "relu9_1=1"], "`--style-layer`", "relu9_1"),
    "ambiguous layer": (["--content-layer", "conv4_2=1"], "`--content-layer`", "relu4_2"),
    "layer weight": (["--style-layer", "relu1_1=much"], "`--style-layer`", "relu1_1=much"),
    "negative layer": (["--style-layer", "relu1_1=-1"], "`--style-layer`", "-1"),
    "layer twice": (["--style-layer", "relu1_1", "--style-layer", "r11"], "twice"),
    "optimizer": (["--optimizer", "adm"], "`--optimizer`", "'Adam'"),
    "clipped guard": (["--recipe", "tf", "--optimizer", "lbfgs"], "`--optimizer`", "LBFGS"),
    "pool": (["--pool", "avg"], "`--pool`", "'average'"),
    "every": (["--every", "0"], "`--every`", "1 or more"),
    "log": (["--log", "nowhere/log.jsonl"], "`--log`", "nowhere"),
    "log is folder": (["--log", "."], "`--log`", "folder"),
    "empty log": (["--log", ""], "`--log`", "is empty"),
    "empty frames": (["--frames", ""], "`--frames`", "is empty"),
    "empty protect": (["--protect", ""], "`--protect`", "expected MASK[:AMOUNT]"),
    "empty output": (["-o", ""], "`--output`", "is empty"),
    "long output": (["-o", "a" * 300 + ".png"], "`--output`", "File name too long; choose a short"),
    "long log": (["--log", "a" * 300], "`--log`", "File name too long; choose a shorter name"),
    "long folder": (["-o", "b" * 300 + "/a.png"], "`--output`: 'bbb", "choose a shorter name"),
    "frames": (["--frames", "nowhere/frames"], "`--frames`", "nowhere"),
    "frames is file": (["--frames", "art.png"], "`--frames`", "art.png"),
    "no weights": (["--weights", "none.h5"], "`--weights`", "none.h5"),
    "wrong weights": (["--weights", "art.png"], "`--weights`", "art.png"),
}


@pytest.mark.parametrize("flags", BAD_FLAGS.values(), ids=BAD_FLAGS.keys())
def test_bad_flag_is_refused(call, flags):
    argv, *words = flags
    before = sorted(os.listdir())
    refused(call("stylize", "photo.png", "art.png", *argv), *words)
    assert sorted(os.listdir()) == before


def make_bad_pictures():
    Path("folder.png").mkdir()
    Path("empty.png").touch()
    whole = Path("photo.png").read_bytes()
    Path("truncated.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("not a picture\n")
    Image.new("RGB", (1, 1)).save("dot.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    Path("bomb.png").write_bytes(whole[:8] + checked + whole[33:])
    Image.new("RGB", (1000, 4)).save("line.png")
    Image.new("RGB", (1000, 20)).save("thin.png")  # too narrow after resizing


@pytest.mark.parametrize(
    "name", ["missing.png", "folder.png", "empty.png", "truncated.png", "text.png", "bomb.png"]
)
@pytest.mark.parametrize("place", ["CONTENT", "STYLE"])
def test_unreadable_picture_is_refused(call, name, place):
    make_bad_pictures()
    pair = [name, "art.png"] if place == "CONTENT" else ["photo.png", name]
    refused(call("stylize", *pair, "-o", "out.png"), f"`{place}`", name)
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("stylize", "text.png", "art.png"),
        ("texture", "text.png"),
        ("dream", "text.png"),
        ("batch", "text.png", "--styles", "art.png", "-o", "out"),
        ("sweep", "text.png", "art.png", "--ratio", "1,2"),
        ("train", "text.png", "--photos", "empty.png", "-o", "style.h5"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_weights_are_checked_before_pictures_are_read(call, words, by_variable, monkeypatch):
    make_bad_pictures()
    network = weights.params.embedded_file(styles26.ARCHITECTURE)
    if by_variable:
        monkeypatch.setenv(weights.params.VARIABLE, str(network))
    flags = () if by_variable else ("--weights", network)
    name = weights.params.VARIABLE if by_variable else "--weights"
    refused(call(*words, *flags), name, "weights of the network 'styles26', expected 'vgg19'")


@pytest.mark.parametrize(
    ("name", "size"), [("dot.png", "512"), ("line.png", "512"), ("thin.png", "64")]
)
def test_pictures_that_are_too_narrow_are_refused(call, name, size):
    make_bad_pictures()
    refused(call("stylize", name, "art.png", "--size", size), "`CONTENT`", "px")
    refused(call("batch", name, "--styles", "art.png", "-o", "out", "--size", size), name, "px")
    assert not Path("out").exists()


def test_inputs_are_not_overwritten(call, monkeypatch):
    Path("kept").mkdir()
    Path("kept/step_00050.png").write_bytes(Path("photo.png").read_bytes())
    frames = ["--frames", "kept", "-o", "out.png"]
    refused(call("stylize", "kept/step_00050.png", "art.png", *frames), "`--frames`", "step_00050")
    inside = ["--frames", "kept", "-o", "kept/step_9.png"]
    refused(call("stylize", "photo.png", "art.png", *inside), "`--frames`", "step_9.png")
    start = ["--init", "./other.png"]
    for flag in ("--output", "--log"):
        words = ["photo.png", "art.png", *start, flag, "other.png"]
        refused(call("stylize", *words), f"`{flag}`", "other.png")
    words = ["photo.png", "art.png", "--weights", "w.h5", "--log", "w.h5"]
    refused(call("stylize", *words), "`--log`", "w.h5")
    monkeypatch.setenv(weights.params.VARIABLE, "w.h5")
    refused(call("stylize", "photo.png", "art.png", "--log", "w.h5"), "`--log`", "w.h5")
    monkeypatch.delenv(weights.params.VARIABLE)
    named = ["photo.png", "--styles", "art.png", "--init", "./photo_art.png", "-o", "."]
    Path("photo_art.png").write_bytes(Path("photo.png").read_bytes())
    refused(call("batch", *named), "`--output`", "photo_art.png")


def test_formats_with_too_small_a_limit_are_refused(call):
    argv = ["photo.png", "art.png", "--recipe", "tiny", "--size", "20000", "-o", "out.webp"]
    refused(call("stylize", *argv), "`--output`", "20000x15000 px", "16383")
    argv = ["photo.png", "--styles", "art.png", "--size", "65536", "-o", "out", "--format", "jpg"]
    refused(call("batch", *argv, "--recipe", "tiny"), "`--output`", "65500")


def test_missing_argument_is_refused(call):
    refused(call("stylize", "photo.png"), "`STYLE`", "missing", "--help")
    refused(call("stylize", "photo.png", "art.png", "--size"), "--size")
    refused(call("stylize", "photo.png", "art.png", "more.png"), "`STYLE`", "more.png")
    refused(call("batch", "photo.png", "-o", "out", "--styles"), "`--styles`", "missing")


@pytest.mark.slow
def test_several_styles_are_blended_by_their_shares(call):
    argv = ("photo.png", "art.png:0.75", "other.png:.25", "--recipe", "tiny")
    code, out, err = call("stylize", *argv, "--log", "log.jsonl")
    assert code == 0 and out == "photo_art_other.png\n", err
    assert "art.png, 50x50 px -> 40x40 px" in err and ", 75%" in err and ", 25%" in err
    facts = nst.images.read_metadata("photo_art_other.png")
    assert facts["settings"]["terms.style_shares"] == [0.75, 0.25]
    assert [facts["inputs"][role]["name"] for role in ("style", "style_2")] == [
        "art.png",
        "other.png",
    ]
    assert facts["style_sizes"] == [[40, 40], [40, 30]]
    terms = replace(TINY.terms, style_shares=(0.75, 0.25))
    content, *styles = (nst.images.load(name) for name in ("photo.png", "art.png", "other.png"))
    image = nst.stylize(nst.load_params(), content, styles, recipe=replace(TINY, terms=terms))
    assert np.array_equal(pixels("photo_art_other.png"), np.round(np.asarray(image) * 255))


@pytest.mark.slow
def test_styles_without_shares_count_alike(call):
    for name, words in {"a": ("art.png", "other.png"), "b": ("art.png:3", "other.png:3")}.items():
        code, _, err = call("stylize", "photo.png", *words, "-o", f"{name}.png", "--recipe", "tiny")
        assert code == 0 and ", 50%" in err, err
    assert np.array_equal(pixels("a.png"), pixels("b.png"))


def test_a_colon_may_be_part_of_a_name(call):
    Path("art.png").rename("art:2")
    code, _, err = call("stylize", "photo.png", "art:2", "-o", "a.png", "--recipe", "tiny")
    assert code == 0 and "art:2, 50x50" in err, err


def test_invalid_shares_are_refused(call):
    pair = ("stylize", "photo.png")
    refused(call(*pair, "art.png:0.5", "other.png"), "`STYLE`", "'other.png' has no share")
    refused(
        call(*pair, "art.png:-1", "other.png:2"),
        "`STYLE`",
        "the share of 'art.png' is -1; expected a finite",
    )
    refused(call(*pair, "art.png:nan", "other.png:2"), "`STYLE`", "finite")
    refused(call(*pair, "art.png:0", "other.png:0"), "`STYLE`", "all shares are 0")
    refused(call(*pair, "art.png:0,7", "other.png:1"), "`STYLE`", "'0,7' is no share of 'art.png'")
    refused(call(*pair, "art.png:1e40", "other.png:1"), "`STYLE`", "less than 1e+30")
    refused(call(*pair, "a" * 300 + ":1", "-o", "x.png"), "`STYLE`", "aaa")
    with Image.open("art.png") as image:
        image.crop((0, 0, 40, 8)).save("flat.png")
    refused(call(*pair, "art.png", "flat.png"), "`STYLE[1]`", "40x8 px")
    values = ("--set", "terms.style_shares=[1.0, 2.0]")
    batch = ("batch", "photo.png", "--styles", "art.png", "other.png", "-o", "out")
    refused(call(*batch, *values), "`--recipe`", "blends 2 styles", "`stylize`")
    assert not Path("out").exists()
    refused(call(*pair, "art.png", *values), "`STYLE`", "expected 2 pictures")


@pytest.mark.slow
def test_a_sweep_may_blend(call):
    argv = ("photo.png", "art.png:1", "other.png:3", "--recipe", "tiny", "--size", "24")
    code, out, err = call("sweep", *argv, "--steps", "1", "--style-weight", "1,2")
    assert code == 0 and out == "photo_art_other_sweep.png\n", err
    assert "photo.png with art.png and other.png" in err


def test_a_seed_without_effect_is_refused(call):
    argv = ["photo.png", "art.png", "--recipe", "coursera-tf1", "--seed", "1"]
    refused(call("stylize", *argv), "`--seed`", "coursera-tf1", "its source's own seed, 3")


def test_no_overwrite_keeps_an_existing_output(call):
    Path("out.png").write_bytes(b"precious")
    argv = ["stylize", "photo.png", "art.png", "-o", "out.png", "--no-overwrite"]
    refused(call(*argv), "`--output`", "out.png")
    assert Path("out.png").read_bytes() == b"precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_unwritable_folder_is_refused(call):
    Path("closed").mkdir(mode=0o555)
    refused(call("stylize", "photo.png", "art.png", "-o", "closed/out.png"), "`--output`", "closed")


def test_unexpected_error_is_one_line(call, monkeypatch):
    def fail(name):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(recipes, "named", fail)
    code, _, err = call("stylize", "photo.png", "art.png", "--recipe", "tiny")
    assert code == 1 and err.count("\n") == 1
    assert "RuntimeError: first line;" in err and "NST_JAX_DEBUG=1" in err
    monkeypatch.setenv("NST_JAX_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["stylize", "photo.png", "art.png", "--recipe", "tiny"])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            MemoryError(),
            "there is too little memory; use smaller pictures or files, or stop other programs",
        ),
        (
            AssertionError(),
            "AssertionError; to see where, set the environment variable NST_JAX_DEBUG=1",
        ),
        (OSError(), "OSError; to see where, set the environment variable NST_JAX_DEBUG=1"),
    ],
)
def test_an_error_without_a_text_is_named(call, monkeypatch, error, text):
    def fail(name):
        raise error

    monkeypatch.setattr(recipes, "named", fail)
    assert call("recipes", "show", "tiny") == (1, "", f"nst-jax: error: {text}\n")
    of_a_batch = "there is too little memory; choose a smaller size"
    assert results.message_of(error) in {of_a_batch, type(error).__name__}


def test_a_platform_that_is_not_there_is_named(call, monkeypatch):
    def fail(*args):
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(recipes, "named", fail)
    assert "AssertionError" in call("recipes", "show", "tiny")[2]  # the devices are there
    monkeypatch.setattr(jax, "devices", fail)
    refused(call("recipes", "show", "tiny"), "`JAX_PLATFORMS`", "'cuda'", "such as cpu")


def test_a_strict_setting_of_jax_is_for_a_users_own_code(monkeypatch):
    monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "strict")
    cli._allow_promotion()
    assert os.environ["JAX_NUMPY_DTYPE_PROMOTION"] == "standard"


def test_a_group_alone_prints_its_help(call):
    code, out, err = call("weights")
    assert code == 0 and err == "" and "Usage: nst-jax weights" in out and "convert" in out


@pytest.mark.parametrize("suffix", [".bmp", ".BMP", ".avif"])
def test_a_format_that_is_not_written_lists_those_that_are(call, suffix):
    result = call("stylize", "photo.png", "art.png", "-o", f"x{suffix}")
    refused(result, "`--output`", suffix.lower(), ".png, .jpg, .jpeg, .webp, .tif, .tiff")
    assert "did you mean" not in result[2]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("sweep", "photo.png", "art.png", "--ratio", "1", "-o", "-"), "`--output`"),
        (("batch", "photo.png", "--styles", "art.png", "-o", "-"), "`--output`"),
        (("train", "art.png", "--photos", ".", "-o", "-"), "`--output`"),
        (("stylize", "photo.png", "art.png", "--film", "-"), "`--film`"),
        (("stylize", "photo.png", "art.png", "--log", "-", "-o", "-"), "`--log`"),
        (("plan", "-", "art.png"), "`CONTENT`"),
        (("sweep", "photo.png", "-:0.5", "--ratio", "1"), "`STYLE`"),
        (("gram", "-"), "`STYLE`"),
    ],
)
def test_a_dash_is_refused_where_no_stream_is_used(call, words, name):
    said = f"{name}: cannot be `-`, standard input or output; name a file or a folder (`./-` if"
    refused(call(*words), said)
    assert not Path("-").exists()


def test_a_name_that_is_only_a_suffix_is_refused(call):
    for words, name in (
        (("stylize", "photo.png", "art.png", "-o", ".png"), ".png"),
        (("stylize", "photo.png", "art.png", "--film", ".gif"), ".gif"),
        (("train", "art.png", "--photos", ".", "-o", ".h5"), ".h5"),
    ):
        refused(
            call(*words), f"'{name}' has no name before the dot; write one, such as 'out{name}'"
        )


def test_only_similar_names_are_suggested(call):
    assert _checks.nearest_name("gatsy", ["gatys-pytorch", "tf"]) == "gatys-pytorch"
    assert _checks.nearest_name("vangogh", recipes.PRESETS) is None
    assert _checks.nearest_name("monet", recipes.PRESETS) is None
    assert messages.did_you_mean("--stpes", ["--steps", "--styles"]) == "did you mean --steps?"
    assert messages.did_you_mean("paint", ["plan", "batch"]) == ""


def test_a_folder_as_output_gets_the_default_name(call):
    Path("out").mkdir()
    argv = [
        "stylize",
        "photo.png",
        "art.png",
        "--recipe",
        "tiny",
        "--steps",
        "1",
        "-q",
        "-o",
        "out",
    ]
    assert call(*argv) == (0, "", "")
    assert os.listdir("out") == ["photo_art.png"]
    Path("out/photo_art_sweep.png").mkdir()
    sweep = ["sweep", *argv[1:], "--lr", "1,2"]
    refused(call(*sweep), "`--output`", "photo_art_sweep.png")
    Path("out/demo.png").mkdir()
    refused(call("demo", "-o", "out"), "`--output`", "out/demo.png")


@pytest.mark.parametrize("url", ["https://x.org/a.png", "HTTP://x.org/a.png", "s3://b/a.png"])
def test_urls_are_not_read(call, url):
    refused(call("stylize", url, "art.png"), "`CONTENT`", f"{url!r} is a URL", "download")
    refused(call("stylize", "photo.png", url), "`STYLE`", f"{url!r} is a URL")
    refused(call("batch", url, "--styles", "art.png", "-o", "out"), "`CONTENTS`", f"{url!r} is")


def test_a_share_is_a_number(call):
    for text in ("70%", "much", ""):
        refused(
            call("stylize", "photo.png", f"art.png:{text}"), "`STYLE`", repr(text), "art.png:0.7"
        )


def test_the_result_of_pictures_with_long_names_has_a_shorter_name(call):
    content, style = "a" * 150 + ".png", "b" * 150 + ".png"
    shutil.copy("photo.png", content)
    shutil.copy("art.png", style)
    before = set(os.listdir())
    assert call("stylize", content, style, "--recipe", "tiny", "--steps", "1", "-q")[0] == 0
    (name,) = set(os.listdir()) - before
    assert name.startswith("a" * 150 + "_bbb") and len(name) == 200 + 1 + 8 + 4
    images.read(name)


def test_names_may_be_as_long_as_the_file_system_allows(call):
    for name in (f"{'x' * 251}.png", f"{'絵' * 83}.png"):
        images.save(name, np.zeros((16, 16, 3)))
        assert Path(name).exists()
        images.check_output(name)
        assert not list(Path().glob(".*"))
        part = _files.temporary_path(Path(name).resolve())
        part.touch()
        _files.remove_leftovers(["other.png", name[1:]])
        assert part.exists()
        _files.remove_leftovers([name])
        assert not part.exists()


def test_what_helps_depends_on_the_optimizer():
    guarded = replace(TINY, descent=replace(TINY.descent, optimizer=optimizers.LBFGS()))
    assert run_errors.remedy(guarded) == "smaller weights of the losses"
    assert run_errors.remedy(TINY) == "a smaller learning rate, or smaller weights of the losses"
    for kind in (run_errors.Diverged, run_errors.Stalled):
        error = kind(3, np.zeros((2, 2, 3)), run_errors.remedy(guarded))
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and str(again) == str(error) and again.step == 3
        assert "after 3 updates" in str(error) and str(error).endswith(
            "try smaller weights of the losses"
        )


@pytest.mark.parametrize("flag", ["-o", "--log", "--frames", "--checkpoint"])
def test_links_that_lead_to_themselves_are_refused(call, flag):
    Path("loop.png").symlink_to("loop.png")
    long = {"-o": "--output"}.get(flag, flag)
    refused(call("stylize", "photo.png", "art.png", flag, "loop.png"), f"`{long}`", "to itself")
    refused(call("batch", "photo.png", "--styles", "art.png", "-o", "loop.png"), "`--output`")
    refused(call("weights", "convert", "photo.png", "-o", "loop.png"), "`--output`", "to itself")
    refused(call("stylize", "loop.png", "art.png"), "`CONTENT`", "symbolic links")


# --- Untrusted names and texts ---------------------------------------------------------------------

FORGED = "a\x1b[2J\x9b31m\u202egnp\u2028b\nverified = yes\rc"
ESCAPED = r"a\u001b[2J\u009b31m\u202egnp\u2028b\u000averified = yes\u000dc"


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        (FORGED, None, ESCAPED),
        ("Zoë 絵 🎨 👨\u200d👩", None, "Zoë 絵 🎨 👨\u200d👩"),
        ("\udcff\x7f\x00\ufeff\U000e0041", None, r"\udcff\u007f\u0000\ufeff\U000e0041"),
        ("Zoë 🎨", "cp1252", r"Zoë \U0001f3a8"),
        ("Zoë", "ascii", r"Zo\u00eb"),
    ],
)
def test_what_could_change_a_terminal_is_escaped(text, encoding, shown):
    assert messages.printable(text, encoding) == shown


def test_names_of_files_are_escaped_in_messages_and_progress(call, capsys):
    refused(call("weights", "convert", "a\x1b[2J\n.pth", "-o", "w.h5"), r"'a\u001b[2J .pth'")
    display = progress.Display()
    display.facts({"content": "a\x1b[2J:cat:\nb.png"})
    assert capsys.readouterr().err == "content  a\\u001b[2J:cat:\\u000ab.png\n"


def test_a_description_of_weights_cannot_forge_a_line(call, monkeypatch):
    info = weights.read_info()._replace(origin=FORGED, licence=FORGED)
    monkeypatch.setattr(weights.params, "read_info", lambda path: info)
    code, out, _ = call("weights", "info")
    assert code == 0 and f"\norigin = {ESCAPED}\n" in out and f"\nlicence = {ESCAPED}\n" in out
    assert [line for line in out.splitlines() if line.startswith("verified")] == [
        "verified = digest, names and shapes"
    ]


def test_embedded_settings_are_escaped(call, monkeypatch):
    images.save("x.png", np.zeros((16, 16, 3)), metadata={"recipe": FORGED, FORGED: "Zoë"})
    code, out, _ = call("info", "x.png")
    assert code == 0 and out.isascii() and json.loads(out) == {"recipe": FORGED, FORGED: "Zoë"}
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: True)
    assert call("info", "x.png") == (0, f"{ESCAPED} = Zoë\nrecipe = {ESCAPED}\n", "")


def test_everything_is_printed_in_one_place():
    own = {"messages.py", "progress.py"}
    for path in Path(cli.__file__).parent.rglob("*.py"):
        assert path.name in own or not re.search(r"\b(click\.echo|print)\(", path.read_text()), path


# --- Results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tf", "coursera-tf2", "gatys-pytorch"])
def test_same_pixels_as_python(call, params, name, monkeypatch):
    # Preparing, starting, optimizing and writing do not depend on the depth of the network.
    terms = replace(recipes.named(name).terms, **SHALLOW)
    monkeypatch.setitem(recipes.PRESETS, name, replace(recipes.named(name), terms=terms))
    argv = ["--recipe", name, "--size", "32", "--steps", "2", "--seed", "3", "-q"]
    assert call("stylize", "photo.png", "art.png", "-o", "out.png", *argv) == (0, "", "")
    image = nst.stylize(
        params,
        nst.images.load("photo.png"),
        nst.images.load("art.png"),
        recipe=recipes.named(name),
        size=32,
        steps=2,
        key=jax.random.key(3),
    )
    np.testing.assert_array_equal(pixels("out.png"), np.round(np.asarray(image) * 255))


def test_facts_and_progress_are_printed(call):
    code, out, err = call("stylize", "photo.png", "art.png", "--recipe", "tiny")
    assert code == 0
    assert out == "photo_art.png\n"
    assert "device" in err and "cpu" in err
    assert "photo.png, 60x45 px -> 40x30 px (longer side 40 px, antialiased)" in err
    assert re.search(r"^memory +about [\d.]+ MB$", err, re.MULTILINE)
    assert "compiled in" in err and "5 updates take" in err
    parts = re.search(
        r"^done in (\S+) s: (\S+) s of measuring, (\S+) s of compiling, (\S+) s of updates$",
        err,
        re.MULTILINE,
    )
    whole, *others = map(float, parts.groups())
    assert whole + 0.2 >= sum(others)  # the whole run, so reading and writing too
    assert "step 5 of 5: loss" in err and "style" in err
    assert "\x1b" not in err  # no control codes without a terminal
    assert pixels("photo_art.png").shape == (30, 40, 3)


def test_a_run_that_may_not_fit_in_memory_is_noted_and_tried_if_requested(call, monkeypatch):
    monkeypatch.setattr(capacity, "available", lambda device=None: 2 * 10**6)
    argv = ["photo.png", "art.png", "-o", "out.png", "--recipe", "tiny", "--steps", "1"]
    code, _, err = call("stylize", *argv, "--tile", "off")
    assert code == 0 and Path("out.png").exists()
    assert re.search(
        r"^note: the run takes about .+ may not fit into the 2\.0 MB that is available", err, re.M
    )


def test_a_run_that_cannot_fit_in_memory_is_refused_early(call, monkeypatch):
    monkeypatch.setattr(capacity, "available", lambda device=None: 2 * 10**6)
    argv = ["photo.png", "art.png", "-o", "out.png", "--recipe", "tiny", "--steps", "1"]
    code, _, err = call("stylize", *argv)
    assert code == 2 and not Path("out.png").exists()
    found = re.search(r"`--size`: 40x30 px takes .+; up to (\d+)x\d+ px fits", err)
    assert found and 16 <= int(found[1]) < 40


def test_tiles_are_printed_and_embedded(call, monkeypatch):
    sizes = ["--recipe", "tiny", "--size", "96", "--steps", "1"]
    code, _, err = call("stylize", "photo.png", "art.png", "-o", "out.png", *sizes, "--tile", "32")
    assert code == 0
    assert re.search(r"^memory +about [\d.]+ MB, in tiles of 32 px$", err, re.MULTILINE)
    assert nst.images.read_metadata("out.png")["settings"]["network.tile"] == 32


def test_quiet_prints_nothing(call):
    argv = ["photo.png", "art.png", "--recipe", "tiny", "--quiet"]
    assert call("stylize", *argv) == (0, "", "")


def test_same_seed_gives_same_bytes(call):
    def bytes_of(seed):
        argv = ["--recipe", "tiny", "--init", "noise", "--seed", seed, "-o", "out.png", "-q"]
        assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
        return Path("out.png").read_bytes()

    assert bytes_of(1) == bytes_of(1) != bytes_of(2)


@pytest.mark.parametrize(
    "start", ["content", "style", "noise", "blank", "content+noise", "art.png", "./photo.png"]
)
def test_every_start_runs(call, start):
    argv = ["--recipe", "tiny", "--steps", "1", "--init", start, "-o", "out.png", "-q"]
    assert call("stylize", "photo.png", "art.png", *argv) == (0, "", "")


def test_noise_ratio_reaches_the_start(call):
    def start(*argv):
        argv = [*argv, "--recipe", "tiny", "--frames", "kept", "-o", "out.png", "-q"]
        assert call("stylize", "photo.png", "art.png", *argv) == (0, "", "")
        return pixels("kept/step_00000.png")

    content = start("--init", "content")
    mixed = ["--init", "content+noise", "--noise-ratio"]
    np.testing.assert_array_equal(start(*mixed, "0"), content)
    assert not np.array_equal(start(*mixed, "0.5"), content)


def test_alpha_comes_back(call):
    with Image.open("photo.png") as picture:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save("clear.png")
    argv = ["--recipe", "tiny", "-o", "out.png", "-q"]
    assert call("stylize", "clear.png", "art.png", *argv)[0] == 0
    assert pixels("out.png").shape == (30, 40, 4)
    alpha = pixels("out.png")[..., 3]
    assert alpha[0].max() < 30 and alpha[-1].min() > 225


def test_every_flag_reaches_the_recipe(call):
    argv = ["--content-weight", "0", "--style-weight", "2", "--tv-weight", "3", "--lr", "0.5"]
    argv += ["--steps", "1", "--style-size", "20", "--recipe", "tiny", "-o", "out.png", "-q"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    settings = json.loads(call("info", "out.png")[1])["settings"]
    assert settings["terms.content_weight"] == 0
    assert settings["terms.style_weight"] == 2
    assert settings["terms.tv_weight"] == 3
    assert settings["descent.optimizer.learning_rate"] == 0.5
    assert settings["descent.steps"] == 1
    assert settings["pictures.style_size.pixels"] == 20


def test_updates_that_depend_on_the_size_are_told_by_size(call, monkeypatch):
    schedule = recipes.GeometricScales(smallest=30, first=2, later=1)
    counted = TINY.replace(name="counted", steps=None, schedule=schedule, size=sizes.AsIs())
    monkeypatch.setitem(recipes.PRESETS, "counted", counted)
    # At 60 px the scales are 30, 42 and 60 px.
    code, _, err = call(
        "stylize", "photo.png", "art.png", "--recipe", "counted", "-o", "out.png", "--log", "log"
    )
    assert code == 0 and "counted, 4 updates" in err
    assert [line["step"] for line in lines("log")[1:-1]] == [0, 1, 2, 3, 4]
    facts = json.loads(call("info", "out.png")[1])
    assert facts["steps"] == 4 and facts["settings"]["descent.steps"] is None
    assert [scale["steps"] for scale in facts["scales"]] == [2, 1, 1]
    # At 50 px they are 35 and 50 px.
    words = ["batch", "photo.png", "art.png", "--styles", "other.png", "--recipe", "counted"]
    code, _, err = call(*words, "-o", "out")
    assert code == 0 and "counted, 4 updates each (1); counted, 3 updates each (1)" in err


def test_every_expert_option_reaches_the_recipe(call):
    argv = ["--strength", "0", "--pool", "average", "--optimizer", "adam", "--steps", "1"]
    argv += ["--style-layer", "r11=2", "--style-layer", "relu1_2", "--content-layer", "relu1_1=3"]
    argv += ["--recipe", "tiny", "-o", "out.png", "-q"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    settings = json.loads(call("info", "out.png")[1])["settings"]
    assert settings["terms.style_weight"] == pytest.approx(0.003)
    assert settings["terms.style_taps"] == ["relu1_1", "relu1_2"]
    assert settings["terms.style_layer_weights"] == [2, 1]
    assert settings["terms.content_taps"] == ["relu1_1"]
    assert settings["terms.content_layer_weights"] == [3]
    assert settings["descent.optimizer"] == "Adam"
    assert settings["network.pool"] == "average_pool"


def test_optimizer_defaults_scale_with_the_coordinates():
    raw, caffe = (
        arguments.recipe_of(arguments.Changes(recipe=name, optimizer="LBFGS")).descent.optimizer
        for name in ("default", "gatys-pytorch")
    )
    assert raw == optimizers.LBFGS() and caffe.radius == pytest.approx(255 * raw.radius)
    assert caffe.slack == raw.slack
    for name, factor in {
        "Adam": 255, "KerasAdam": 255, "RMSprop": 255, "DecayedSGD": 1, "TorchLBFGS": 1,
    }.items():  # fmt: skip
        changes = arguments.Changes(recipe="gatys-pytorch", optimizer=name)
        found = arguments.recipe_of(changes).descent.optimizer.learning_rate
        own = optimizers.OPTIMIZERS[name]().learning_rate
        assert found == pytest.approx(factor * own), name


# --- Recipes in files -----------------------------------------------------------------------------


def settings_of(call, *argv):
    """Return what is embedded in the result of a run, except its losses."""
    argv = ["photo.png", "art.png", "--steps", "1", "-o", "out.png", "-q", *argv]
    assert call("stylize", *argv) == (0, "", "")
    found = json.loads(call("info", "out.png")[1])
    del found["losses"]
    return found


def test_a_shown_recipe_is_a_recipe_file(call):
    Path("own.toml").write_text(call("recipes", "show", "tiny")[1])
    assert settings_of(call, "--recipe", "own.toml") == settings_of(call, "--recipe", "tiny")


def test_a_recipe_file_starts_from_a_preset_and_is_named_by_its_file(call, here):
    lines = ['\ufeffbase = "tiny"', 'name = ""', "terms.style_weight = 3", "[descent.optimizer]"]
    Path("own.toml").write_text("\r\n".join([*lines, "b1 = 0.5"]), encoding="utf-8")
    found = settings_of(call, "--recipe", here / "own.toml", "--style-weight", "4")
    assert found["recipe"] == "own"
    assert found["settings"]["terms.style_weight"] == 4  # flags come last
    assert found["settings"]["descent.optimizer.b1"] == 0.5
    assert found["settings"]["descent.optimizer.learning_rate"] == 0.02


def test_set_changes_any_value(call):
    argv = ["--recipe", "tiny", "--set", "terms.style_taps=relu1_2", "--style-weight", "2"]
    argv += ["--set", "terms.style_layer_weights=0.5", "--set", "terms.style_weight=3"]
    argv += ["--set=descent.optimizer=KerasAdam", "--set", "descent.optimizer.b1 = 0.5"]
    settings = settings_of(call, *argv)["settings"]
    assert settings["terms.style_taps"] == ["relu1_2"]
    assert settings["terms.style_layer_weights"] == [0.5]
    assert settings["terms.style_weight"] == 2  # flags come last
    assert settings["descent.optimizer"] == "KerasAdam"
    assert settings["descent.optimizer.b1"] == 0.5


def test_the_later_value_of_a_key_counts(call):
    twice = ["--set", "terms.style_weight=3", "--set", "terms.style_weight=4"]
    found = settings_of(call, "--recipe", "tiny", *twice)["settings"]
    assert found["terms.style_weight"] == 4


def test_batch_takes_files_and_values(call):
    Path("own.toml").write_text('base = "tiny"')
    argv = ["photo.png", "--set", "descent.steps=1", "--styles", "art.png", "-o", "out"]
    assert call("batch", *argv, "--recipe", "own.toml", "-q") == (0, "", "")
    assert json.loads(call("info", "out/photo_art.png")[1])["steps_done"] == 1


@pytest.mark.slow
def test_a_sweep_takes_files_and_values(call):
    Path("own.toml").write_text('base = "tiny"')
    argv = ["photo.png", "art.png", "--recipe", "own.toml", "--set", "descent.steps=1", "-q"]
    argv += ["--size", "32", "--style-weight", "1,2", "-o", "out.png"]
    assert call("sweep", *argv) == (0, "", "")
    found = json.loads(call("info", "out.png")[1])
    assert found["recipe"] == "tiny" and found["settings"]["descent.steps"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("terms.style_wieght = 3", ["'terms.style_weight'"]),
        ("[descent]\noptimizer = 'Adm'", ["`descent.optimizer`", "'Adam'"]),
        ("[descent]\nsteps = 'many'", ["`descent.steps`", "whole number", "many"]),
        ("[descent]\nsteps =\nclip = true", ["TOML", "line 2"]),
        ("base = 'tini'", ["`base`", "'tiny'"]),
        ("[terms]\nstyle_taps = ['conv1_1']", ["`terms.style_taps`", "ambiguous"]),
        ("pictures.size.pixels = 8", ["`pictures.size`", "16"]),
        ("#" * (2**20 + 1), ["own.toml", "large"]),
    ],
)
def test_a_bad_recipe_file_is_refused(call, text, words):
    Path("own.toml").write_text(text)
    argv = ["photo.png", "art.png", "--recipe", "own.toml"]
    refused(call("stylize", *argv), "`--recipe`", "own.toml", *words)


def test_a_recipe_file_is_not_written_over(call):
    Path("own.toml").write_text('base = "tiny"')
    argv = ["photo.png", "art.png", "--recipe", "own.toml", "--log", "./own.toml"]
    refused(call("stylize", *argv), "`--log`", "own.toml")


# --- Metadata -------------------------------------------------------------------------------------


def test_info_prints_settings_but_no_paths(call, here):
    argv = ["--recipe", "tiny", "-o", "out.png", "-q", "--seed", "7"]
    assert call("stylize", here / "photo.png", here / "art.png", *argv)[0] == 0
    code, out, _ = call("info", "out.png")
    found = json.loads(out)
    assert code == 0
    assert found["recipe"] == "tiny" and found["seed"] == 7
    assert found["finished"] is True and found["steps_done"] == 5
    assert found["inputs"]["content"]["name"] == "photo.png"
    assert len(found["inputs"]["style"]["digest"]) >= 16
    assert found["versions"]["jax"] == jax.__version__
    assert found["losses"]["total"] > 0
    assert str(here) not in Path("out.png").read_bytes().decode("latin-1")
    assert str(here) not in out


def test_no_metadata(call):
    argv = ["--recipe", "tiny", "-o", "out.png", "-q", "--no-metadata"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    refused(call("info", "out.png"), "`FILE`", "out.png")


def test_info_refuses_what_is_no_picture(call):
    Path("text.png").write_text("no\n")
    refused(call("info", "text.png"), "`FILE`", "text.png")
    refused(call("info", "missing.png"), "`FILE`", "missing.png")


# --- During a run ---------------------------------------------------------------------------------


def test_log_format(call):
    argv = ["--recipe", "scaled", "--steps", "7", "--log", "log.jsonl", "-q"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    start, *steps, end = lines("log.jsonl")
    assert start["event"] == "start" and start["compile_seconds"] >= 0
    assert start["recipe"] == "scaled" and start["seed"] == 0
    assert start["inputs"]["content"]["name"] == "photo.png"
    assert [scale["size"] for scale in start["scales"]] == [[24, 18], [48, 36]]
    assert [line["step"] for line in steps] == list(range(8))
    first = start["scales"][0]["steps"]
    assert [line["scale"] for line in steps] == [0] * first + [1] * (8 - first)
    for line in steps:
        keys = ["event", "step", "scale", "total", "content", "style", "tv", "style_layers"]
        assert list(line) == [*keys, "seconds"]
        np.testing.assert_allclose(line["style"], sum(line["style_layers"].values()), rtol=1e-5)
        parts = line["content"] + line["style"] + line["tv"]
        np.testing.assert_allclose(line["total"], parts, rtol=1e-5)
    seconds = [line["seconds"] for line in steps]
    assert seconds[0] == 0 and seconds == sorted(seconds)
    assert end["event"] == "end" and end["status"] == "done" and end["output"] == "photo_art.png"
    variation = end["total_variation"]
    # The file is the picture rounded to 8 bits; 5 000 differences of up to 1/255 in all.
    saved = nst.losses.TOTAL_VARIATION(jax.numpy.asarray(nst.images.load("photo_art.png")))
    assert abs(variation["picture"] - saved) < 10 and variation["content"] > 0


def test_log_agrees_with_paint(call, params):
    assert call("stylize", "photo.png", "art.png", "--recipe", "tiny", "--log", "log")[0] == 0
    images = nst.images.load("photo.png"), nst.images.load("art.png")
    *_, last = nst.paint(params, *images, recipe=TINY, every=256)
    totals = [line["total"] for line in lines("log")[1:-1]]
    assert totals[-1] == float(last.losses.total)
    np.testing.assert_array_equal(np.float32(totals[1:]), last.history.total)


def test_frames_and_every(call):
    argv = ["--recipe", "tiny", "--frames", "kept", "--every", "2", "-o", "out.png", "-q"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    names = ["step_00000.png", "step_00002.png", "step_00004.png", "step_00005.png"]
    assert sorted(os.listdir("kept")) == names
    np.testing.assert_array_equal(pixels("kept/step_00005.png"), pixels("out.png"))
    assert not np.array_equal(pixels("kept/step_00004.png"), pixels("out.png"))
    facts = json.loads(call("info", "kept/step_00004.png")[1])
    assert facts["finished"] is False and facts["steps_done"] == 4
    refused(call("stylize", "photo.png", "art.png", *argv[:4], "--no-overwrite"), "`--frames`")
    # Frames of an earlier run that a shorter one does not replace stay, and a note names them.
    argv = ["stylize", "photo.png", "art.png", *argv[:-1]]
    stays = " that this run does not replace"
    for more, said in (
        ([], ", step_00000.png to step_00005.png; this run replaces"),
        (["--steps", "2"], f"{stays}, step_00004.png, step_00005.png; remove them"),
        (["--steps", "4"], f"{stays}, step_00005.png; remove them"),
    ):
        code, _, err = call(*argv, *more)
        assert code == 0 and f"'kept' has frames of an earlier run{said}" in " ".join(err.split())
        assert sorted(os.listdir("kept")) == names


def test_frames_of_all_scales_have_the_final_size(call):
    smooth = np.linspace(40, 220, 48)[:, None, None] + np.linspace(-30, 30, 36)[None, :, None]
    Image.fromarray(np.repeat(smooth, 3, axis=-1).astype(np.uint8)).save("smooth.png")
    argv = ["--recipe", "scaled", "--frames", "kept", "--every", "2", "-o", "out.png", "-q"]
    result = call("stylize", "smooth.png", "art.png", *argv)
    assert result[0] == 0, result
    frames = [pixels(path) for path in sorted(Path("kept").iterdir())]
    assert len(frames) > 2
    assert {frame.shape for frame in frames} == {pixels("out.png").shape}
    # The start is the content at the coarser scale; enlarged, this smooth one is itself again.
    np.testing.assert_allclose(frames[0].astype(int), pixels("smooth.png"), atol=8)


def test_every_refreshes_the_output(call, monkeypatch):
    written = []
    save = nst.images.save
    monkeypatch.setattr(
        nst.images, "save", lambda path, *a, **k: (written.append(str(path)), save(path, *a, **k))
    )
    argv = ["--recipe", "scaled", "--every", "2", "-o", "out.png", "-q", "--no-overwrite"]
    assert call("stylize", "photo.png", "art.png", *argv)[0] == 0
    assert written == ["out.png"] * 4  # the preview, then after 2, 4 and all 5 updates


def test_diverged_run_keeps_the_last_finite_canvas(call):
    argv = ["--recipe", "scaled", "--lr", "1e30", "-o", "out.png", "--log", "log.jsonl"]
    code, out, err = call("stylize", "photo.png", "art.png", *argv)
    assert code == 1 and out == ""
    message = err.splitlines()[-1]
    assert message.startswith(
        "nst-jax: error: the losses, or their gradient, are not finite after 1 updates"
    )
    *_, broken, end = lines("log.jsonl")
    assert broken["step"] == 1 and broken["total"] is None
    assert end["status"] == "failed"
    facts = json.loads(call("info", "out.png")[1])
    assert facts["finished"] is False and facts["steps_done"] == 0


def test_a_run_that_paints_nothing_fails_and_keeps_the_canvas(call):
    argv = ["--recipe", "free", "--style-weight", "1e25", "-o", "out.png", "--log", "log.jsonl"]
    code, out, err = call("stylize", "photo.png", "art.png", *argv)
    assert code == 1 and out == ""
    message = err.splitlines()[-1]
    assert (
        message.startswith("nst-jax: error: the losses after") and "nothing was painted" in message
    )
    assert "out.png is as it started: try smaller weights" in message
    assert lines("log.jsonl")[-1]["status"] == "failed"
    assert json.loads(call("info", "out.png")[1])["finished"] is False


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        ("recipes",),
        ("recipes", "show", "tiny"),
        ("--help",),
        ("--version",),
        (),
        ("plot", "--help"),
    ],
)
def test_a_full_disk_below_standard_output_is_one_line(call, monkeypatch, words):
    with suppress(OSError), open("/dev/full", "w") as file:  # closing it fails, too
        monkeypatch.setattr(sys, "stdout", file)
        code, _, err = call(*words)
    said = "nst-jax: error: cannot write to standard output: No space left on device\n"
    assert (code, err) == (1, said)


def test_a_failing_write_is_reported_and_loses_nothing(call, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    Path("out.png").write_bytes(b"precious")
    monkeypatch.setattr(nst.images, "save", full)
    argv = ["--recipe", "tiny", "-o", "out.png", "--log", "log.jsonl", "-q"]
    code, _, err = call("stylize", "photo.png", "art.png", *argv)
    assert code == 1 and "No space left" in err and err.count("\n") == 2
    assert err.startswith(
        "nst-jax: lost: the canvas after 5 updates could not be saved in any folder"
    )
    assert lines("log.jsonl")[-1]["status"] == "failed"
    assert Path("out.png").read_bytes() == b"precious"


def test_what_is_lost_of_a_diverged_run_is_its_last_finite_canvas(call, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nst.images, "save", full)
    argv = ["--recipe", "scaled", "--lr", "1e30", "-o", "out.png", "-q"]
    code, _, err = call("stylize", "photo.png", "art.png", *argv)
    assert code == 1
    # The first update made the losses infinite, so the picture is the start.
    assert "nst-jax: lost: the canvas after 0 updates could not be saved in any folder" in err


def test_an_output_folder_that_vanishes_is_a_failure_and_not_bad_input(call, monkeypatch):
    def vanished(path, *args, **kwargs):
        raise ValueError(f"`path`: there is no folder of {path}")

    monkeypatch.setattr(nst.images, "save", vanished)
    code, _, err = call("stylize", "photo.png", "art.png", "--recipe", "tiny", "-q")
    assert code == 1 and "cannot write 'photo_art.png'" in err and "lost" in err
    assert err.count("\n") == 2


def test_a_run_that_fails_keeps_its_canvas(call, monkeypatch):
    class Failing(planned_painting.Painting):
        def __next__(self):
            if failed:
                raise RuntimeError("the device is gone")
            failed.append(True)
            return super().__next__()

    failed = []
    monkeypatch.setattr(planned_painting, "Painting", Failing)
    argv = ["--recipe", "tiny", "-o", "out.png"]
    code, _, err = call("stylize", "photo.png", "art.png", *argv)
    assert code == 1 and "the device is gone" in err.splitlines()[-1]
    assert "out.png is the unfinished canvas after 0 updates" in err
    assert json.loads(call("info", "out.png")[1])["finished"] is False


def interrupted(number, wait_for, *argv):
    """Run another process, signal it when `wait_for()` is true; return exit code and error output."""
    words = ["stylize", "photo.png", "art.png", "--recipe", "tiny", "--steps", "10000000", *argv]
    process = subprocess.Popen(
        [sys.executable, "-c", TINY_MAIN, *words],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    limit = time.monotonic() + 60
    while not wait_for() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_interrupt_keeps_the_canvas(call):
    def under_way():
        return Path("log.jsonl").exists() and Path("log.jsonl").read_text().count("\n") > 5

    code, err = interrupted(signal.SIGINT, under_way, "-o", "out.png", "--log", "log.jsonl")
    assert code == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err.splitlines()[-1] and "unfinished" in err.splitlines()[-1]
    start, *steps, end = lines("log.jsonl")
    assert start["event"] == "start"
    assert [line["step"] for line in steps] == list(range(len(steps)))
    assert end["status"] == "interrupted" and end["steps"] == steps[-1]["step"]
    assert pixels("out.png").shape == (30, 40, 3)
    facts = json.loads(call("info", "out.png")[1])
    assert facts["finished"] is False and facts["steps_done"] == end["steps"]
    assert not [name for name in os.listdir() if "part" in name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_interrupt_before_the_first_step_writes_nothing(call):
    def compiling():
        time.sleep(0.2)
        return Path("log.jsonl").exists()

    Path("out.png").write_bytes(b"precious")
    code, err = interrupted(signal.SIGINT, compiling, "-o", "out.png", "--log", "log.jsonl")
    assert code == 130, err
    assert err.splitlines()[-1] == "nst-jax: interrupted"
    assert [line["event"] for line in lines("log.jsonl")] == ["start", "end"]
    assert lines("log.jsonl")[-1]["status"] == "interrupted"
    assert Path("out.png").read_bytes() == b"precious"


# --- Batch ----------------------------------------------------------------------------------------


def test_batch_pairs_all(call):
    argv = ["photo.png", "other.png", "--styles", "art.png", "photo.png", "-o", "out", "--sheet"]
    code, out, err = call("batch", *argv, "--recipe", "tiny")
    assert code == 0 and out == "out\n"
    names = {"photo_art.png", "photo_photo.png", "other_art.png", "other_photo.png"}
    assert set(os.listdir("out")) == names | {"sheet.png", "results.jsonl"}
    assert "4, to out" in err and "picture 4 of 4" in err
    assert "compiled in" in err and "the rest takes" in err
    facts = json.loads(call("info", "out/other_art.png")[1])
    assert facts["inputs"]["content"]["name"] == "other.png" and facts["finished"] is True
    assert json.loads(call("info", "out/sheet.png")[1])["contact_sheet"] == 4
    # The same picture painted alone.
    assert call("stylize", "other.png", "art.png", "--recipe", "tiny", "-q")[0] == 0
    apart = pixels("out/other_art.png").astype(int) - pixels("other_art.png")
    assert abs(apart).max() <= 1


@pytest.mark.slow
def test_batch_pairs_zip(call):
    argv = ["photo.png", "other.png", "-o", "out", "--pair", "zip", "--recipe", "tiny", "-q"]
    styles = ["--styles=art.png", "photo.png"]
    assert call("batch", *argv, *styles, "--format", "jpg") == (0, "", "")
    assert set(os.listdir("out")) == {"photo_art.jpg", "other_photo.jpg", "results.jsonl"}
    refused(call("batch", *argv, "--styles", "art.png"), "`--styles`", "1 for 2")


def test_batch_numbers_results_of_equal_names(call):
    Path("b").mkdir()
    Path("b/photo.png").write_bytes(Path("other.png").read_bytes())
    argv = ["photo.png", "b/photo.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny"]
    code, _, err = call("batch", *argv)
    assert code == 0
    assert set(os.listdir("out")) == {"photo_art.png", "photo_art-2.png", "results.jsonl"}
    assert "photo_art-2.png is b/photo.png with art.png" in err
    assert not np.array_equal(pixels("out/photo_art.png"), pixels("out/photo_art-2.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [("--chunk", "1"), pytest.param(("--devices", "2"), marks=pytest.mark.long)],
    ids=lambda option: option[0],
)
def test_batch_and_sweep_paint_in_chunks_and_on_devices(call, option):
    argv = ["--recipe", "free", "--init", "noise", "--steps", "2", "-q"]
    for name, chunk in (("whole", []), ("parts", option)):
        pair = ["photo.png", "other.png", "--styles", "art.png", "-o", name]
        assert call("batch", *pair, *argv, *chunk)[0] == 0
        one = ["photo.png", "art.png", "-o", f"{name}.png", "--style-weight", "1,2"]
        assert call("sweep", *one, *argv, *chunk)[0] == 0
    for name in ("{}.png", "{}/photo_art.png", "{}/other_art.png"):
        whole, parts = (pixels(name.format(kind)).astype(int) for kind in ("whole", "parts"))
        assert np.abs(whole - parts).max() <= 1


def test_invalid_chunks_and_devices_are_refused(call):
    pair = ["photo.png", "--styles", "art.png", "-o", "o"]
    refused(call("batch", *pair, "--chunk", "0"), "`--chunk`")
    refused(call("batch", *pair, "--devices", "99"), "`--devices`", "has 2 of", "got 99")
    refused(
        call("sweep", "photo.png", "art.png", "--lr", "1,2", "--devices", "some"), "`--devices`"
    )


def test_batch_groups_by_shape_and_size():
    def entry(height, width):
        scale = run_scales.Scale((height, width), ((64, 64),), 1)
        return Entry(1, Path(), (Path(),), Path(), TINY, (scale,), ())

    entries = [entry(*shape) for shape in [(64, 64), (512, 512)] * 10]
    formed = [group.entries for group in groups.form_groups(entries, "cpu")]
    assert [len(group) for group in formed] == [5, 5, 2, 2, 2, 2, 2]
    assert all(len({e.scales[-1].shape for e in group}) == 1 for group in formed)
    assert [len(group.entries) for group in groups.form_groups(entries, "gpu")] == [5, 5, 5, 5]


def test_batch_refuses_early(call):
    argv = ["--styles", "art.png", "-o", "out"]
    refused(call("batch", "photo.png", "missing.png", *argv), "`CONTENTS`", "missing.png")
    refused(call("batch", "photo.png", "--styles", "missing.png", "-o", "out"), "`--styles`")
    refused(call("batch", "photo.png", *argv[:2], "-o", "no/out"), "`--output`", "no")
    refused(call("batch", "photo.png", *argv, "--recipe", "tini"), "`--recipe`", "tiny")
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/photo_art.png").write_bytes(b"precious")
    refused(call("batch", "photo.png", *argv, "--no-overwrite"), "photo_art.png")


def test_batch_warns_of_what_diverged(call):
    argv = ["photo.png", "--styles", "art.png", "-o", "out", "--recipe", "free", "--lr", "1e30"]
    code, _, err = call("batch", *argv, "-q")
    assert code == 1
    assert err.startswith(
        "nst-jax: warning: out/photo_art.png: the losses, or their gradient, are not"
    )
    assert json.loads(call("info", "out/photo_art.png")[1])["finished"] is False


def test_where_the_first_losses_are_not_finite_nothing_is_written(call):
    argv = ["--recipe", "free", "--style-weight", "3e38", "-q"]
    code, _, err = call("stylize", "photo.png", "art.png", "-o", "alone.png", *argv)
    assert code == 1 and "not finite after 0 updates; nothing was written" in err
    code, _, err = call("batch", "photo.png", "--styles", "art.png", "-o", "out", *argv)
    said = (
        "nst-jax: warning: out/photo_art.png: the losses of the start, or their gradient, are not"
    )
    assert code == 1 and err.startswith(said) and "so nothing was painted" in err
    assert os.listdir("out") == ["results.jsonl"] and not Path("alone.png").exists()
    assert [one["status"] for one in lines("out/results.jsonl")] == ["failed"]


def test_batch_names_the_rows_that_painted_nothing(call):
    table = [["content", "style", "output", "overrides"]]
    table += [
        ["photo.png", "art.png", f"{w}.png", f"terms.style_weight={w}"] for w in ("1", "1e25")
    ]
    Path("jobs.csv").write_text("\n".join(map(",".join, table)))
    argv = ["jobs.csv", "-o", "out", "--recipe", "free", "-q"]
    for _ in range(2):  # what is not finished is painted again
        code, _, err = call("batch", *argv)
        assert code == 1 and len(err.splitlines()) == 1
        assert err.startswith("nst-jax: warning: out/1e25.png: the losses after the last update")
    assert [one["status"] for one in lines("out/results.jsonl")] == [
        "done", "stalled", "skipped", "stalled",
    ]  # fmt: skip
    assert json.loads(call("info", "out/1e25.png")[1])["finished"] is False


# --- Demo, recipes, weights -----------------------------------------------------------------------


def test_demo(call, monkeypatch):
    monkeypatch.setattr(recipes, "DEFAULT", TINY)
    code, out, _ = call("demo", "--size", "48", "--steps", "2")
    assert code == 0
    assert out.split() == ["demo.png", "demo_side_by_side.png"]
    assert pixels("demo.png").shape[1] == 48
    assert pixels("demo_side_by_side.png").shape[1] > 3 * 48
    assert call("demo", "--size", "48", "--steps", "1", "-q", "-o", "x.jpg") == (0, "", "")
    refused(call("demo", "--no-overwrite"), "`--output`", "demo.png")


def test_recipes(call):
    code, out, _ = call("recipes")
    assert code == 0 and out == call("recipes", "list")[1]
    for name, recipe in recipes.PRESETS.items():
        assert name in out and recipe.source in out
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if line[0] != " ")
    assert "style to content 1000:1" in lines["gatys-pytorch"]
    assert "approximate, the source ran on vgg19-torchvision" in lines["udacity"]
    assert "approximate" not in lines["tf"]
    assert lines["tf"].startswith("KerasAdam, 1003 updates, longer side ")
    words = "Adam, 1000 updates at the coarsest scale, 500 at each later one, longer side 512 px"
    assert lines["crowsonkb"].startswith(words)


def test_weights_other_than_the_source_used_are_noted(call, monkeypatch):
    monkeypatch.setitem(recipes.PRESETS, "tiny", replace(TINY, family="vgg19-torchvision"))
    batch = ["batch", "photo.png", "--styles", "art.png", "-o", "out"]
    for words in (["stylize", "photo.png", "art.png"], batch):
        code, _, err = call(*words, "--recipe", "tiny", "--steps", "1")
        assert code == 0
        (note,) = [line for line in err.splitlines() if "approximate" in line]
        assert "vgg19-dcbb9e9d.pth" in note and "weights convert" in note


@pytest.mark.parametrize("name", list(recipes.PRESETS))
def test_recipes_show(call, name):
    code, out, _ = call("recipes", "show", name)
    found, recipe = tomllib.loads(out), recipes.named(name)
    assert code == 0
    assert found["source"] == recipe.source
    assert found["terms"]["style_weight"] == recipe.terms.style_weight
    assert found["descent"]["optimizer"]["kind"] == type(recipe.descent.optimizer).__name__
    Path("own.toml").write_text(out)
    assert call("recipes", "show", "own.toml") == (0, out, "")


def test_recipes_show_unknown(call):
    refused(call("recipes", "show", "coursera"), "`NAME|FILE`", "'coursera-tf2'")
    refused(call("recipes", "show", "none.toml"), "`NAME|FILE`", "none.toml")
    refused(call("recipes", "shw"), "show")


def test_a_style_from_standard_input_may_have_a_share(call, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("art.png").read_bytes())))
    argv = ["stylize", "photo.png", "-:0.7", "photo.png:0.3", "--recipe", "tiny", "-q"]
    assert call(*argv, "-o", "out.png")[0] == 0
    argv[2] = "art.png:0.7"
    assert call(*argv, "-o", "again.png")[0] == 0
    np.testing.assert_array_equal(pixels("out.png"), pixels("again.png"))


def test_a_file_whose_name_begins_with_a_dash_is_named(call):
    Path("-dash.png").write_bytes(Path("art.png").read_bytes())
    refused(call("stylize", "photo.png", "-dash.png"), "`-dash.png`", "write './-dash.png'")
    refused(call("stylize", "", "art.png"), "`CONTENT`: is empty; name a file or a folder")
    refused(call("batch", "", "--styles", "art.png", "-o", "o"), "`CONTENTS`: is empty; name")


def test_a_variable_of_jax_that_jax_refuses_is_named(here):
    run = subprocess.run(
        [sys.executable, "-m", "nst_jax", "stylize", "photo.png", "art.png"],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "abc",
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr == (
        "nst-jax: error: `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`: jax refuses the value 'abc'; "
        "give another, or unset the variable\n"
    )


def test_weights(call, monkeypatch):
    code, out, _ = call("weights", "info")
    assert code == 0 and "family = vgg19-caffe" in out and "verified" in out
    refused(call("weights", "info", "art.png"), "`FILE`", "art.png")
    # The file that the variable names is verified like one that is given.
    content = bytearray(weights.params.embedded_file(styles26.ARCHITECTURE).read_bytes())
    content[len(content) // 2] ^= 1
    Path("changed.h5").write_bytes(content)
    for words, variable in ((["changed.h5"], ""), ([], "changed.h5")):
        with monkeypatch.context() as chosen:
            chosen.setenv("NST_JAX_WEIGHTS", variable)
            code, out, err = call("weights", "info", *words)
            assert code == 2 and "is damaged" in err and "verified" not in out
    refused(call("weights", "convert", "art.png", "-o", "w.h5"), "`FILE`", "art.png")
    refused(call("weights", "convert", "no.pth", "-o", "w.h5"), "`FILE`", "no.pth")
    refused(call("weights", "convert", "art.png", "-o", "no/w.h5"), "`--output`", "no")
    refused(
        call("weights", "convert", "art.png", "-o", "w.h5", "--encoding", "float61"),
        "`--encoding`",
        "'float16'",
    )
    assert not Path("w.h5").exists()


@pytest.mark.parametrize(("call", "frozen"), [("main()", True), ("main(sys.argv[1:])", False)])
def test_only_the_program_itself_keeps_its_modules_from_the_garbage_collector(call, frozen):
    code = f"import gc, sys; from nst_jax.app.cli import main; {call}; print(gc.get_freeze_count())"
    found = subprocess.run(
        [sys.executable, "-c", code, "recipes"], capture_output=True, text=True, check=True
    )
    assert (int(found.stdout.splitlines()[-1]) > 0) is frozen
