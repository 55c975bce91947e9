"""Helpers that write pictures, run the command line in a test's process, and check its messages."""

import numpy as np
from PIL import Image

from nst_jax.app import cli


def write_pictures(**shapes):
    """Write smooth random pictures NAME.png of these (height, width) into the current folder."""
    rng = np.random.default_rng(0)
    for name, (height, width) in shapes.items():
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(f"{name}.png")


def caller(capsys, *command):
    """Return a function that runs a command: it returns exit code, standard output and error."""

    def run(*words):
        code = cli.main([str(word) for word in (*command, *words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def pixels(path):
    """Return a picture's pixels as 8 bits."""
    with Image.open(path) as image:
        return np.asarray(image)


def refused(result, *words):
    """Check that a call was refused with a one-line message that contains these words."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("nst-jax: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err
    for word in words:
        assert word in err
