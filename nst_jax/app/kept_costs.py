"""What style losses cost, kept between starts of the command line.

A run is planned by counting the operations and the memory of its losses. For this JAX traces each loss,
which takes a tenth of the time of a start.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from nst_jax.app.cache import programs_folder
from nst_jax.app.program_keys import surrounded_key
from nst_jax.app.sealed_files import read_sealed, write_sealed
from nst_jax.losses.kinds import StyleLoss
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import loss_costs
from nst_jax.scaling.layer_table import features_at
from nst_jax.vgg.taps import SMALLEST

FOLDER = "costs"  # folder of the files, in that of the traced programs


@contextmanager
def kept_costs(recipe: Recipe) -> Iterator[None]:
    """Context manager: plan runs of a recipe by costs that an earlier start has counted and written.

    If there are none, those that are counted in the block are written. Only style losses that are sums
    over positions are considered: what they cost does not depend on the sizes of the pictures.
    """
    place, name = programs_folder(), surrounded_key(recipe.bare(), FOLDER)
    if place is None or name is None:
        yield
        return
    path = place / FOLDER / name
    data = read_sealed(path, name)
    if data is not None:
        for part, costs in zip(_additive_parts(recipe), json.loads(data), strict=True):
            loss_costs.recall_additive(*part, loss_costs.AdditiveCosts(*costs))
    yield
    if data is None:
        counted = [loss_costs.additive_costs(*part) for part in _additive_parts(recipe)]
        write_sealed(path, name, json.dumps(counted).encode())


def _additive_parts(recipe: Recipe) -> list[tuple[StyleLoss, jax.ShapeDtypeStruct, int]]:
    """Return each style loss that is a sum over positions, with features at its tap, for each tap.

    The features have the right number of channels and dtype; their other sizes do not matter. The third
    item is the number of styles that are blended.
    """
    picture, terms = (SMALLEST, SMALLEST), recipe.terms
    return [
        (part.loss, features_at(part.tap, picture, recipe), len(terms.style_shares))
        for part in terms.style_parts
        if part.loss.additive
    ]
