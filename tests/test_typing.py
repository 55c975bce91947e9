"""The package has type information that a strict checker accepts in a user's program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nst_jax

PROGRAM = """
import jax
import nst_jax as nst

params: nst.Params = nst.load_params()
content, style = nst.images.load("photo.jpg"), nst.images.load("painting.jpg")
recipe: nst.recipes.Recipe = nst.recipes.named("tf").replace(style_weight=3, steps=200)
print(nst.plan(content, style, recipe=recipe, size=512).updates)
image: jax.Array = nst.stylize(params, content, style, recipe=recipe, size=512)
for shot in nst.paint(params, content, style, recipe=recipe, every=50):
    print(shot.step, float(shot.losses.total))
nst.images.save("result.png", image)
"""


def check(program, folder):
    """Run mypy on a program of a user's; the package's own source is not reported on."""
    (folder / "program.py").write_text(program)
    words = ["--strict", "--follow-imports=silent", "--cache-dir", str(folder / "cache")]
    environment = os.environ | {"MYPYPATH": str(Path(nst_jax.__file__).parents[1])}
    # mypy refuses a MYPYPATH in site-packages; it finds packages there by `py.typed`.
    if "site-packages" in environment["MYPYPATH"]:
        del environment["MYPYPATH"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *words, "program.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_package_says_that_it_is_typed():
    assert (Path(nst_jax.__file__).parent / "py.typed").exists()


@pytest.mark.slow
def test_a_users_program_passes_the_strict_checks_and_mistakes_are_found(tmp_path):
    pytest.importorskip("mypy", reason="install the extra `dev`")
    done = check(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stdout
    # The second check reads what the first one kept of the package.
    done = check(PROGRAM.replace("size=512)\n", "sise=512)\n"), tmp_path)
    assert done.returncode == 1
    assert 'Unexpected keyword argument "sise"' in done.stdout
