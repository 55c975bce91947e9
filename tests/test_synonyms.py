"""Tests of what is said about options that do not exist: names of other programs, misspelt names."""

import click
import pytest

from nst_jax import _checks
from nst_jax.app import declarations, messages, synonyms
from tests.shell import caller, refused


@pytest.fixture
def call(capsys):
    return caller(capsys)


# Options that the table names although no command may have them yet.
CONTROLS = {"--colors", "--region", "--protect", "--realism", "--style-scale", "--tile-seamless"}


def commands(command=declarations.cli, path=()):
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands())


def options(command):
    return [name for param in command.params for name in param.opts if name.startswith("--")]


ALL = {name for command in COMMANDS.values() for name in options(command)}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_only_options_of_the_command_are_suggested(path):
    known = options(COMMANDS[path])
    words = {f"did you mean {name}?" for name in known}
    for name in synonyms.MEANINGS:
        said = synonyms.meant_by(f"--{name}", known)
        for option in ALL | CONTROLS:
            if f"{option}?" in said or f"{option} or" in said:
                assert option in known, (name, said)
        if f"--{name}" in known:
            assert said == f"did you mean --{name}?"
        near = messages.did_you_mean(f"--{name}", known)
        assert near == "" or near in words


def test_the_table_names_options_that_exist():
    named = {option for meaning in synonyms.MEANINGS.values() for option in meaning.options}
    assert named <= ALL | CONTROLS
    assert all(meaning.options or meaning.note for meaning in synonyms.MEANINGS.values())
    assert len(synonyms.MEANINGS) == sum(len(names.split()) for names in synonyms._MEANINGS)


NEW = ["--colors", "--region", "--protect", "--realism", "--style-scale"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--preserve-color", "did you mean --colors?"),
        ("--preserve-colors", "did you mean --colors?"),
        ("--keep-colors", "did you mean --colors?"),
        ("--original_colors", "did you mean --colors?"),
        ("--color", "did you mean --colors?"),
        ("--keep-original-colors", "did you mean --colors?"),
        ("--mask", "did you mean --region or --protect?"),
        ("--mask-path", "did you mean --region or --protect?"),
        ("--segmentation", "did you mean --region or --protect?"),
        ("--photorealism", "did you mean --realism?"),
        ("--style_scale", "did you mean --style-scale?"),
        ("--style-scale-fac", "did you mean --style-scale?"),
    ],
)
def test_names_for_the_controls_lead_to_them_where_a_command_has_them(typed, said):
    assert synonyms.meant_by(typed, NEW) == said
    assert synonyms.meant_by(typed, ["--size", "--frames"]) == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--iterations 500", "`--iterations`: there is no such option; did you mean --steps?"),
        (
            "-num_iterations 500",
            "`-num_iterations`: there is no such option; did you mean --steps?",
        ),
        ("--width=300", "`--width`: there is no such option; did you mean --size?"),
        ("-image_size 300", "`-image_size`: there is no such option; did you mean --size?"),
        ("--gpu 0", "did you mean --devices? a GPU is used if jax finds one"),
        ("-gpu -1", "`-gpu`: there is no such option; did you mean --devices? a GPU is used"),
        ("--style-blend-weights 1,2", "a share follows its picture, as in a.jpg:0.7 b.jpg:0.3"),
        ("--style-strength 1", "did you mean --strength?"),
        ("--blend 0.5", "did you mean --strength? a share follows its picture"),
        ("--face mask.png", "did you mean --protect?"),
        ("--stroke-size 2", "did you mean --style-scale or --style-size?"),
        (
            "--seamless",
            "no such option; `nst-jax texture` paints tiles whose opposite borders meet",
        ),
        ("--regions map.png", "`--regions`: requires 2 arguments; "),
        ("--content c.png", "the content comes first, then the styles"),
        ("--style_weight 3", "did you mean --style-weight?"),
        ("--avg-decay .9", "did you mean --set? its key is descent.average_decay"),
        ("--stpes 3", "did you mean --steps?"),
        ("-x", "`-x`: there is no such option; `nst-jax stylize --help` lists the options"),
        ("--zoom 3", "`nst-jax stylize --help` lists the options"),
    ],
)
def test_what_stylize_says(call, words, said):
    refused(call("stylize", "photo.png", "art.png", *words.split()), said)


def test_what_other_commands_say(call):
    refused(call("train", "art.png", "--gpu", "0", "--photos", "x"), "did you mean --devices?")
    refused(
        call("dream", "photo.png", "--gpu", "0"), "no such option; a GPU is used if jax finds one"
    )
    refused(call("texture", "art.png", "--region", "x"), "regions are for `nst-jax stylize`")
    refused(call("instant", "photo.png", "art.png", "--mask", "x"), "did you mean --protect?")
    refused(call("info", "photo.png", "--iterations", "3"), "`nst-jax info --help` lists")
    # Hints that explain an option are not given to a command that does not have it.
    for words in (("--min-scale", "3"), ("--coarse", "x.png"), ("--avg-decay", ".9")):
        refused(
            call("instant", "photo.png", "art.png", *words),
            "`nst-jax instant --help` lists the options",
        )


@pytest.mark.parametrize(
    "name", ["--mask", "--msk", "--frame-rate", "--face", "--stroke", "--blur", "--wrap"]
)
def test_no_option_is_suggested_for_its_spelling_alone(name):
    """Whatever is suggested shares three quarters of its letters with what was typed."""
    known = [option for option in ALL if option not in CONTROLS]
    assert messages.did_you_mean(name, known) in ("", f"did you mean {name}?")


def test_one_limit_for_options_and_for_other_names():
    assert messages.LIKE == _checks.LIKE == 0.75
    assert messages.did_you_mean("--lrr", ["--lr"]) == "did you mean --lr?"
    assert messages.did_you_mean("--mask", ["--frames", "--tile", "--batch"]) == ""
    assert _checks.nearest_name("noise", ["blank", "style"]) is None
