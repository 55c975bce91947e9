"""Write `golden.json`: the losses of three steps of every preset. Run `python -m tests.make_golden`.

Run it only if the numbers are meant to change, and say in the commit why they changed.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import nst_jax as nst
from nst_jax import recipes
from tests import small

GOLDEN = Path(__file__).with_name("golden.json")
STEPS, KEY = 3, 0
# The presets that `torch_golden.json` does not contain; few, as each is a program to compile.
NAMES = ("default", "gram", "tf-tv")
# The sizes of the examples in docstrings and documents, which thereby use the same programs.
CONTENT, STYLE = ("chelsea", 32, 48), ("starry_night", 38, 48)
# Measured: a start changed by 1e-6 changes the losses by 5e-6 in three steps, and those of `default`,
# whose style loss is a small difference of large sums, by up to 1.4e-3.
TOLERANCE = dict.fromkeys(NAMES, 1e-4) | {"default": 3e-2}
WHY = (
    "relative; twenty times what a change of the start by 1e-6 makes of them, which is how far the "
    "float32 sums of processors and versions differ"
)


def losses(params, name):
    """Return the losses of the start and of three steps of a preset."""
    *_, before, last = nst.paint(
        params,
        small.picture(*CONTENT),
        small.picture(*STYLE),
        recipe=recipes.named(name),
        size="as-is",
        steps=STEPS,
        every=STEPS,
        key=jax.random.key(KEY),
    )
    history = jax.tree.map(lambda *x: np.concatenate(x), before.history, last.history)
    return {
        field: getattr(history, field).tolist() for field in ("total", "content", "style", "tv")
    }


def golden(params):
    """Return the content of the file."""
    return {
        "maker": "python -m tests.make_golden",
        "what": "weighted losses of the start and of the canvases after steps 1 to 3, recipe by recipe",
        "content": dict(zip(("sample", "height", "width"), CONTENT, strict=True)),
        "style": dict(zip(("sample", "height", "width"), STYLE, strict=True)),
        "size": "as-is",
        "key": KEY,
        "weights": params.family,
        "tolerance": TOLERANCE,
        "why": WHY,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "machine": f"{platform.machine()}, {jax.default_backend()}",
        "recipes": {name: losses(params, name) for name in NAMES},
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(nst.load_params()), indent=1) + "\n")
