"""Targets measured piece by piece are those of `measure`, and can be watched and ended."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import measuring, recipes, style_statistics
from nst_jax.scaling.operations import content_operations, style_operations
from tests import small


class Seen(measuring.Watch):
    """Records the pieces, and ends the run after some of them."""

    def __init__(self, most=1000):
        self.pieces, self._most = [], most

    def wait_for_piece(self, arrays, operations):
        super().wait_for_piece(arrays, operations)
        self.pieces.append(operations)
        if len(self.pieces) == self._most:
            raise KeyboardInterrupt


def cut(tile, shares=(1.0,)):
    recipe = small.shallow(style_shares=shares)
    return replace(recipe, network=replace(recipe.network, tile=tile))


def measured(params, content, styles, recipe, watch=None):
    core = recipes.as_arrays(recipe.bare())
    pieces = measuring.Measuring(params, core, None, watch=watch)
    return measuring.targets_of(pieces, content, styles)


@pytest.mark.parametrize(
    ("shares", "tile"),
    [pytest.param((1.0,), 0, marks=pytest.mark.long), ((2.0, 1.0), 0), ((3.0, 1.0), 16)],
)
def test_pieces_give_the_same_bits(params, content, shares, tile):
    recipe = cut(tile, shares)
    styles = [
        jnp.asarray(small.picture("starry_night", 75, 84 + 16 * i)) for i, _ in enumerate(shares)
    ]
    whole = jax.jit(nst.measure)(params, content, styles, recipes.as_arrays(recipe.bare()))
    found = measured(params, content, styles, recipe)
    jax.tree.map(np.testing.assert_array_equal, found, whole)


def test_a_large_style_is_measured_tile_by_tile_and_may_be_ended(params, content):
    style = jnp.asarray(small.picture("starry_night", 75, 84))
    recipe, watch = cut(16), Seen()
    measured(params, content, [style], recipe, watch)
    grid = style_statistics.style_grid(style, recipe)
    assert grid.count > 4 and len(watch.pieces) == 1 + grid.count
    assert watch.pieces[0] == content_operations(content.shape[:2], recipe)
    assert sum(watch.pieces[1:]) == pytest.approx(style_operations(style.shape[:2], recipe))
    ended = Seen(most=3)
    with pytest.raises(KeyboardInterrupt):
        measured(params, content, [style], recipe, ended)
    assert len(ended.pieces) == 3
