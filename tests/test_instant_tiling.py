"""Large pictures in strips: the result of one piece, the memory, and when strips are chosen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax.feed_forward import (
    arbitrary,
    johnson,
    load_arbitrary,
    load_styles26,
    strip_memory,
    styles26,
    tiling,
)
from nst_jax.scaling.capacity import MARGIN, OutOfMemory
from nst_jax.vgg.precision import BFLOAT16, FLOAT32
from tests import small

TABLES = {"arbitrary": arbitrary.LAYERS, "styles26": styles26.LAYERS}


@pytest.fixture(scope="module", params=TABLES)
def network(request):
    """Weights, the plain function, a condition, and the table of a network."""
    if request.param == "arbitrary":
        vector = np.random.default_rng(0).normal(size=100).astype(np.float32) / 4
        return load_arbitrary(), arbitrary.stylize_with, vector, arbitrary.LAYERS
    shares = np.eye(26, dtype=np.float32)[19]
    return load_styles26(), styles26.stylize_mixture, shares, styles26.LAYERS


def test_strips_give_the_result_of_one_piece(network):
    params, paint, condition, _ = network
    content = small.picture(
        "chelsea", 41, 27
    )  # the last strip is shorter, and no side divides by 4
    expected = jax.jit(paint)(params, content, condition)
    seen = []
    found = tiling.paint_in_strips(
        params, content, condition, strip=16, report=lambda *counts: seen.append(counts)
    )
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


# In float32 the strips of both networks are compared above.
@pytest.mark.long
@pytest.mark.parametrize("network", ["arbitrary", "styles26"], indirect=True)
def test_strips_in_bfloat16(network):
    params, paint, condition, _ = network
    content = small.picture("chelsea", 41, 27)
    exact = jax.jit(partial(paint, precision=FLOAT32))(params, content, condition)
    whole = jax.jit(partial(paint, precision=BFLOAT16))(params, content, condition)
    found = tiling.paint_in_strips(params, content, condition, strip=16, precision=BFLOAT16)
    # Strips round at other places than one piece, and later layers carry each rounding error on. So the
    # error of the strips against float32 may be up to twice the error of one piece.
    assert found.dtype == np.float32
    assert np.abs(found - exact).mean() < 2 * np.abs(whole - exact).mean()


def heights_in(layers, height):
    """Return the rows of the features before each layer, and after the last one."""
    heights = [height]
    for layer in layers:
        heights.append(heights[-1] * (2 if layer.upsampled else 1) // layer.stride)
    return heights


def by_rows(layers, first, last, height):
    """Return which rows a pass needs, found by following single rows through its layers."""
    rows = set(range(first, last))
    heights = heights_in(layers, height)[:-1]
    for layer, below in zip(reversed(layers), reversed(heights), strict=True):
        full, margin = below * (2 if layer.upsampled else 1), layer.size // 2
        wanted = {row * layer.stride + move for row in rows for move in range(-margin, margin + 1)}
        wanted = {min(abs(row), 2 * (full - 1) - abs(row)) for row in wanted}
        rows = {row // 2 for row in wanted} if layer.upsampled else wanted
    return min(rows), max(rows) + 1


@pytest.mark.parametrize("table", TABLES)
def test_a_pass_reads_the_rows_that_it_needs(table):
    layers, height = TABLES[table], 96
    sizes = heights_in(layers, height)
    for one in tiling.passes_of(layers):
        chain = layers[one.first : one.last + 1]
        below, above = sizes[one.first], sizes[one.last + 1]
        strips = [(first, first + above // 6) for first in range(0, above, above // 6)]
        for first, last in [*strips, (above - 4 * above // height, above)]:  # the last of 4 px
            steps, rows = tiling.steps_for(chain, below, first, last)
            assert all(step.taken > max(step.top, step.bottom) for step in steps)
            assert rows == by_rows(chain, first, last, below)
            halo = max(first * below // above - rows[0], rows[1] - last * below // above)
            assert halo * height // below <= strip_memory.HALO


def test_interior_strips_share_a_program():
    for layers in TABLES.values():
        for one in tiling.passes_of(layers):
            chain = layers[one.first : one.last + 1]
            steps = {tiling.steps_for(chain, 400, first, first + 20)[0] for first in (20, 40, 60)}
            assert len(steps) == 1


@pytest.mark.parametrize("table", TABLES)
def test_every_norm_has_a_pass_and_few_features_are_kept(table):
    layers = TABLES[table]
    passes = tiling.passes_of(layers)
    assert {one.last for one in passes} >= {n for n, layer in enumerate(layers) if layer.normed}
    assert [one.first for one in passes] == sorted(one.first for one in passes)
    assert passes[-1].last == len(layers) - 1 and passes[-1].kept
    scales = np.cumprod([(2 if layer.upsampled else 1) / layer.stride for layer in layers])
    for one in passes:
        if one.kept:  # on the host: no larger than the picture
            assert layers[one.last].channels * scales[one.last] ** 2 <= 3


@pytest.mark.optimized
def test_the_estimate_is_what_xla_says(network):
    params, paint, condition, layers = network
    shape = (128, 192)
    arguments = (jax.ShapeDtypeStruct((*shape, 3), jnp.float32), jnp.asarray(condition))
    memory = jax.jit(paint).lower(params, *arguments).compile().memory_analysis()
    planned = memory.temp_size_in_bytes
    assert planned / 1.1 < strip_memory._peak(layers, 0, shape, 4) < 1.3 * planned


def test_the_estimate_is_what_was_measured():
    for shape, measured in (((750, 1000), 472e6), ((1500, 2000), 1274e6)):
        assert strip_memory.bytes_in_one_piece(styles26.LAYERS, shape) == pytest.approx(
            measured, rel=0.05
        )


def test_when_strips_are_chosen(network):
    params, _, _, layers = network
    shape = (2000, 3000)
    whole = strip_memory.bytes_in_one_piece(layers, shape)
    assert strip_memory.strip_for(params, shape, available=None) == 0
    assert strip_memory.strip_for(params, shape, available=int(whole * MARGIN) + 1) == 0
    strip = strip_memory.strip_for(params, shape, available=int(whole))
    assert strip % 16 == 0 and 16 <= strip < 2000
    assert strip_memory.bytes_in_strips(layers, shape, strip) * MARGIN <= whole
    less = strip_memory.bytes_in_strips(layers, shape, 64)
    assert strip_memory.strip_for(params, shape, available=int(less * MARGIN) + 1) == 64
    # An accelerator has only the strip; the host has what is kept.
    assert strip_memory.strip_for(params, shape, available=int(less), platform="gpu") > 64
    with pytest.raises(
        OutOfMemory, match=r"^`size`: 3000x2000 px .* even in strips.* smaller size"
    ):
        strip_memory.strip_for(params, shape, available=10**6)


def test_what_cannot_be_painted_is_named(network, as_users_do):
    params, _, condition, _ = network
    content = np.zeros((20, 20, 3), np.float32)
    with pytest.raises(ValueError, match=r"^`strip`: expected 16 or more, got 8"):
        tiling.paint_in_strips(params, content, condition, strip=8)
    with pytest.raises(ValueError, match=r"^`condition`: expected .*\], got shape \[3\]"):
        tiling.paint_in_strips(params, content, condition[:3], strip=16)
    with pytest.raises(ValueError, match=r"^`content`: 20x9 px is too small"):
        tiling.paint_in_strips(params, content[:9], condition, strip=16)
    with pytest.raises(ValueError, match=r"^`content`: expected one image .*\[1, 20, 20, 3\]"):
        tiling.paint_in_strips(params, content[None], condition, strip=16)


@pytest.mark.optimized
@pytest.mark.parametrize("width", [1.0, 0.5])
def test_the_estimate_of_a_trained_network_is_what_xla_says(width):
    params = johnson.fresh_params(jax.random.key(0), 2, width=width)
    shape = (128, 192)
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    memory = jax.jit(johnson.stylize_trained).lower(params, picture).compile().memory_analysis()
    estimate = strip_memory._peak(johnson.layer_table_of(params), 0, shape, 4)
    assert memory.temp_size_in_bytes / 1.1 < estimate < 1.3 * memory.temp_size_in_bytes


def test_a_picture_too_large_for_a_trained_network_is_refused():
    layers = johnson.layer_table_of(
        johnson.fresh_params(jax.random.key(0), 1, width=0.25, blocks=1)
    )
    shape = (200, 300)
    check = partial(strip_memory.check_fits_whole, layers, shape)
    needed = int(strip_memory.bytes_in_one_piece(layers, shape) * MARGIN)
    check(available=None)
    check(available=needed + 1, platform="cpu")
    with pytest.raises(OutOfMemory, match=r"^`size`: 300x200 px .* you trained .* a smaller size$"):
        check(available=needed - 1, platform="cpu")
    # On an accelerator, activations of bfloat16 take half as much.
    check(available=needed - 1, platform="gpu", precision=BFLOAT16)
