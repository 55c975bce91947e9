"""What helps to install the program: tested versions, the Dockerfile, completion in shells."""

import fnmatch
import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image

from nst_jax import images
from nst_jax.app import declarations

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("test", "dev", "parity", "bench")  # those whose versions `constraints.txt` has
packaging = pytest.importorskip("packaging.requirements", reason="comes with pytest")


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


# --- constraints.txt ------------------------------------------------------------------------------


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_constraint_is_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][0-9.]*(post\d+)?", line) for line in lines)
    names = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert names == sorted(set(names)) == [normalised(name) for name in names]


def test_the_constraints_cover_what_the_project_needs_and_fit_its_ranges():
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    wanted, found = [packaging.Requirement(text) for text in texts], pins()
    assert {normalised(one.name) for one in wanted} <= set(found)
    for one in wanted:
        assert one.specifier.contains(found[normalised(one.name)]), one


def test_the_constraints_cover_what_these_packages_need():
    """Only of packages that are installed here: their metadata says what they need in turn."""
    found, checked = pins(), 0
    for name in found:
        try:
            needed = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue
        for text in needed:
            one = packaging.Requirement(text)
            is_here = one.marker is None or one.marker.evaluate({"extra": ""})
            same = metadata.version(name) == found[name]
            if is_here and same:
                checked += 1
                assert normalised(one.name) in found, f"{name} needs {one.name}"
    assert checked > 0 or metadata.version("jax") != found["jax"]


# --- Dockerfile -----------------------------------------------------------------------------------


def instructions():
    """Return the instructions of the Dockerfile, as pairs of its name and its text."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines()]
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


def stages():
    """Return the instructions of each stage, each stage beginning with its FROM."""
    found = []
    for name, text in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, text))
    return found


def test_the_dockerfile_has_only_instructions_that_docker_knows():
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} == known


def test_the_image_runs_the_program_as_a_user_without_rights():
    _, last = stages()
    texts = dict(last)
    assert texts["ENTRYPOINT"] == '["/opt/nst-jax/bin/nst-jax"]'  # no shell, so signals arrive
    names = [name for name, _ in last]
    assert texts["USER"] == "painter" and names.index("USER") < names.index("ENTRYPOINT")
    created = next(text for name, text in last if name == "RUN" and "useradd" in text)
    assert "painter" in created and "chown painter /pictures" in created
    assert texts["WORKDIR"] == "/pictures"
    assert "nst-jax" in PROJECT["scripts"]


def test_the_image_has_a_python_that_the_project_supports():
    for stage in stages():
        version = re.match(r"python:(3\.\d+)-slim", stage[0][1])[1]
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def ignored(path):
    """Return whether `.dockerignore` leaves a path out; the last line that matches counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch.fnmatch(path, pattern):
            out = not line.startswith("!")
    return out


def test_what_the_build_copies_is_there_and_suffices():
    first, _ = stages()
    copied = [word for name, text in first if name == "COPY" for word in shlex.split(text)[:-1]]
    assert all((ROOT / name).exists() and not ignored(name) for name in copied)
    assert ignored("tests") and ignored(".git") and ignored("docs")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    needed = {
        "pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"],
        *build["wheel"]["packages"], *build["wheel"]["force-include"],
    }  # fmt: skip
    assert set(copied) == needed
    install = next(text for name, text in first if name == "RUN")
    assert "--constraint constraints.txt ." in install


ENGINE = os.environ.get("NST_JAX_ENGINE")  # `docker` or `podman`
IMAGE, VOLUME = "nst-jax-test", "nst-jax-test-programs"


def documented_commands():
    """Return the command lines at the head of the Dockerfile, with names and sizes of a test."""
    head = (ROOT / "Dockerfile").read_text().partition("FROM")[0]
    lines = "".join(re.findall(r"^#     (.*\n)", head, re.MULTILINE)).replace("\\\n", " ")
    lines = re.sub(r"(?<= )nst-jax(?= )", IMAGE, lines.replace(" 256", " 64"))
    if os.geteuid() == 0:  # another user, as on most machines, who has no home in the image
        lines = lines.replace('"$(id -u):$(id -g)"', "12345:23456")
    lines = lines.replace("-v programs:", f"-v {VOLUME}:")
    return lines.replace("docker ", f"{ENGINE} ").splitlines()


def test_the_head_of_the_dockerfile_has_commands_that_exist():
    build, *runs = documented_commands()
    assert build.endswith(f"build -t {IMAGE} .")
    words = [shlex.split(line.partition(f" {IMAGE} ")[2].partition(" < ")[0]) for line in runs]
    assert [words[0] for words in words] == ["stylize", "warm", "stylize", "instant"]
    for name, *rest in words:
        # This raises for a flag that does not exist.
        declarations.cli.commands[name].make_context(name, rest)


@pytest.fixture
def pictures(tmp_path):
    """A folder with two pictures that belongs to whom the image is run as; the volume is new."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, sample in (("photo.jpg", "chelsea"), ("painting.jpg", "starry_night")):
        (folder / name).write_bytes(images.SAMPLES[sample].read_bytes())
    if os.geteuid() == 0:
        os.chown(folder, 12345, 23456)
    yield folder
    subprocess.run([ENGINE, "volume", "rm", "-f", VOLUME], capture_output=True, timeout=60)


@pytest.mark.long
@pytest.mark.skipif(not ENGINE, reason="set NST_JAX_ENGINE to docker or podman")
def test_the_image_is_built_and_its_documented_commands_run(pictures):
    def run(line, folder=pictures):
        ran = subprocess.run(
            ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=1800
        )
        assert ran.returncode == 0, (line, ran.stderr)
        return ran.stdout + ran.stderr

    build, stylize, warm, in_a_bucket, instant = documented_commands()
    run(build, ROOT)
    assert "Usage: nst-jax" in run(f"{ENGINE} run --rm {IMAGE}")
    painted = pictures / "photo_painting.png"
    run(f"{stylize} --size 64 --steps 3")
    with Image.open(painted) as picture:
        assert picture.size == (64, 43)
    painted.unlink()
    assert re.search(r" has [1-9]\d* files of programs", run(warm))
    assert "; none of them new" in run(warm)  # the volume has kept them
    run(f"{in_a_bucket} --steps 3")
    with Image.open(painted) as picture:
        assert picture.size == (64, 43)
    run(instant)
    with Image.open(pictures / "result.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (512, 341))


# --- Completion in shells -------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path):
    """A folder with the program, as it is on the path of somebody who installed it."""
    script = tmp_path / "bin" / "nst-jax"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nst_jax "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


COMPLETE = """
eval "$(_NST_JAX_COMPLETE=bash_source nst-jax)"
complete -p nst-jax
COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_nst_jax_completion nst-jax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nst-jax st", ["stylize"]),
        ("nst-jax stylize --style-s", ["--style-size", "--style-scale"]),
        ("nst-jax instant photo.jpg x.jpg --format w", ["webp"]),
    ],
)
def test_bash_completes_commands_options_and_choices(program, tmp_path, words, expected):
    script = COMPLETE.format(words=words)
    ran = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env=program,
        cwd=tmp_path,
        timeout=120,
    )
    first, *found = ran.stdout.splitlines()
    assert "_nst_jax_completion" in first, ran.stderr
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_scripts(program, tmp_path, shell):
    environment = program | {"_NST_JAX_COMPLETE": f"{shell}_source"}
    ran = subprocess.run(
        ["nst-jax"], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert "_NST_JAX_COMPLETE=" + f"{shell}_complete" in ran.stdout
