"""Colours moved to the palette of a style: against NumPy in float64, and by direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax.images.oklab import linear_of_oklab, oklab_of_linear
from nst_jax.images.palettes import palette_of, recoloured
from tests import small

HEIGHT, WIDTH = 12, 16

# Compiled as a whole: eager operations would be compiled one by one.
moved = jax.jit(recoloured)


@pytest.fixture(scope="module")
def pictures():
    """Return painting, content and style; the painting is of the content's size."""
    painting = np.clip(small.picture("starry_night", HEIGHT, WIDTH) + 0.1, 0, 1)
    return painting, small.picture("chelsea", HEIGHT, WIDTH), small.picture("gravel", 10, 14)


def numpy_recoloured(painting, content, style):
    """The steps that the docstring states, pixel by pixel."""

    def lab(rgb):
        cones = np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        axes = np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        return np.cbrt(np.asarray(rgb, np.float64) @ cones.T) @ axes.T, (cones, axes)

    def root(matrix, power):
        u, s, _ = np.linalg.svd(matrix + 1e-4 * np.eye(len(matrix)))
        return u @ np.diag(s**power) @ u.T

    def move(rows, target):
        own = np.cov(rows, rowvar=False, bias=True)
        wanted = np.cov(target, rowvar=False, bias=True)
        away = rows - rows.mean(0)
        return away @ root(own, -0.5) @ root(wanted, 0.5) + target.mean(0)

    s, (cones, axes) = lab(style)
    s = s.reshape(-1, 3)
    out = np.clip(lab(painting)[0], s.min(0), s.max(0))
    hues = lab(content)[0][..., 1:]
    height, width, _ = out.shape
    if np.abs(np.cov(s[:, 1:], rowvar=False, bias=True)).max() < 6e-5:
        rows = np.concatenate([out[..., :1], hues], -1).reshape(-1, 3)
        out = move(rows, s).reshape(out.shape)
    else:
        out[..., 1:] = move(hues.reshape(-1, 2), s[:, 1:]).reshape(hues.shape)
    light = out[..., 0]
    for _ in range(5):
        new = np.empty_like(out[..., 1:])
        for i in range(height):
            for j in range(width):
                total, weights = 0, 0
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        y, x = np.clip(i + di, 0, height - 1), np.clip(j + dj, 0, width - 1)
                        weight = np.exp(-10 * abs(light[y, x] - light[i, j]))
                        total, weights = total + weight * out[y, x, 1:], weights + weight
                new[i, j] = total / weights
        out[..., 1:] = new
    out = np.clip(out, s.min(0), s.max(0))
    rgb = (out @ np.linalg.inv(axes).T) ** 3 @ np.linalg.inv(cones).T
    return np.clip(rgb, 0, 1)


@pytest.mark.parametrize("grey", [False, True])
def test_recoloured_is_numpys(grey, pictures, x64):
    painting, content, style = (jnp.asarray(x, jnp.float64) for x in pictures)
    if grey:
        style = jnp.repeat(style.mean(-1, keepdims=True), 3, axis=-1)
    found = moved(painting, content, palette_of([style]))
    assert_allclose(found, numpy_recoloured(painting, content, style), atol=1e-9)


@pytest.mark.parametrize("grey", [False, pytest.param(True, marks=pytest.mark.long)])
def test_gradients_are_those_of_differences(grey, x64):
    rng = np.random.default_rng(0)
    painting, content, weights, away = (jnp.asarray(rng.uniform(size=(5, 6, 3))) for _ in range(4))
    style = jnp.asarray(rng.uniform(size=(6, 4, 3)))
    if grey:
        style = jnp.repeat(style.mean(-1, keepdims=True), 3, axis=-1)

    # The mean over the channels keeps a grey style grey.
    of_style = rng.uniform(size=(6, 4, 1 if grey else 3)) * jnp.ones((6, 4, 3))
    ways = (away, away, of_style)

    @jax.jit
    def total_and_slopes(*pictures):
        def total(painting, content, style):
            return jnp.sum(weights * recoloured(painting, content, palette_of([style])))

        value, slopes = jax.value_and_grad(total, (0, 1, 2))(*pictures)
        return value, [jnp.sum(slope * way) for slope, way in zip(slopes, ways, strict=True)]

    pictures = [painting, content, style]
    _, slopes = total_and_slopes(*pictures)
    for place, slope in enumerate(slopes):
        ends = []
        for step in (1e-6, -1e-6):
            moved = list(pictures)
            moved[place] = moved[place] + step * ways[place]
            ends.append(total_and_slopes(*moved)[0])
        assert abs(slope) > 1e-3
        assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_the_lightness_of_the_painting_is_kept(pictures):
    # A style that has black and white, and every hue about equally often.
    style = jnp.asarray(np.random.default_rng(0).random((40, 40, 3)) > 0.5, jnp.float32)
    painting, content, _ = map(jnp.asarray, pictures)
    painting = 0.3 + 0.2 * painting  # so that no colour is clipped
    content = 0.45 + 0.1 * content
    found = moved(painting, content, palette_of([style]))
    inside = (found > 0.001).all(-1) & (found < 0.999).all(-1)
    assert inside.mean() > 0.5
    before, after = (oklab_of_linear(x)[..., 0] for x in (painting, found))
    assert_allclose(before[inside], after[inside], atol=2e-3)


def test_the_palette_of_two_styles_is_that_of_their_pixels():
    one, other = small.picture("gravel", 8, 10), small.picture("starry_night", 8, 10)
    both = palette_of([jnp.asarray(one), jnp.asarray(other)])
    together = palette_of([jnp.asarray(np.concatenate([one, other]))])
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), both, together)


def test_the_palette_comes_nearer_to_the_styles(pictures):
    from nst_jax.raters import palette_distance

    painting, content, style = map(jnp.asarray, pictures)
    found = moved(painting, content, palette_of([style]))
    distance = jax.jit(palette_distance)
    assert distance(found, style) < 0.5 * distance(painting, style)


def test_plain_pictures_stay_finite():
    plain = jnp.full((4, 5, 3), 0.25)
    found = moved(plain, plain, palette_of([plain]))
    assert_allclose(found, plain, atol=1e-3)


def test_a_batch_is_its_members(pictures):
    painting, content, style = map(jnp.asarray, pictures)
    palettes = palette_of([style])
    pair = jnp.stack([painting, content])
    found = jax.jit(jax.vmap(recoloured, (0, None, None)))(pair, content, palettes)
    for one, image in zip(found, pair, strict=True):
        assert_allclose(one, moved(image, content, palettes), atol=1e-5)


def test_oklab_of_white_red_and_back():
    assert_allclose(oklab_of_linear(jnp.ones(3)), [1, 0, 0], atol=1e-6)
    # Ottosson's value for pure red.
    red = jnp.asarray([1.0, 0.0, 0.0])
    assert_allclose(oklab_of_linear(red), [0.62796, 0.22486, 0.12585], atol=1e-4)
    assert_allclose(linear_of_oklab(oklab_of_linear(red)), red, atol=1e-5)
