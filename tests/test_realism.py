"""The guided filter and the matting Laplacian: against NumPy in float64, and what they do to edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax.controls import finishing
from nst_jax.controls.finishing import filter_radius, realistic
from nst_jax.controls.guided_filter import box_sums, filtered_by_guide, solve_symmetric
from nst_jax.controls.matting import EPSILON, laplacian_product, matting_energy
from tests import small

HEIGHT, WIDTH = 7, 9

# Compiled as wholes: eager operations would be compiled one by one.
filtered = jax.jit(filtered_by_guide, static_argnames=("radius", "epsilon"))
mixed = jax.jit(realistic)
energy = jax.jit(matting_energy, static_argnums=2)


@pytest.fixture(scope="module")
def pair():
    """Return a painting and a photograph of one size, in float64."""
    names = ("starry_night", "chelsea")
    return [np.asarray(small.picture(name, HEIGHT, WIDTH), np.float64) for name in names]


def window(centre, radius, shape):
    """Return the places of a window, cut off at the border."""
    rows, columns = (
        range(max(0, at - radius), min(side, at + radius + 1))
        for at, side in zip(centre, shape, strict=True)
    )
    return [(i, j) for i in rows for j in columns]


# --- The guided filter ----------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7, 20])
def test_box_sums_are_sums_over_windows(radius, x64):
    planes = np.random.default_rng(radius).normal(size=(HEIGHT, WIDTH, 2))
    found = jax.jit(box_sums, static_argnums=1)(planes, radius)
    for i, j in np.ndindex(HEIGHT, WIDTH):
        wanted = sum(planes[place] for place in window((i, j), radius, (HEIGHT, WIDTH)))
        assert_allclose(found[i, j], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest", [0, 1, 2, 5, 8, pytest.param(20, marks=pytest.mark.long)])
def test_box_sums_of_a_radius_at_runtime_are_those_of_the_radius(largest, x64):
    planes = jnp.asarray(np.random.default_rng(largest).normal(size=(HEIGHT, WIDTH, 2)))
    at_runtime = jax.jit(lambda radius: box_sums(planes, radius, largest=largest))
    for radius in range(largest + 1):
        found = at_runtime(jnp.asarray(radius, jnp.int32))
        assert_allclose(found, box_sums(planes, radius), rtol=1e-13, atol=1e-13)


def test_systems_are_solved_at_each_pixel(x64):
    factor, right = small.noise(0, 4, 5, 3, 3), small.noise(1, 4, 5, 3, 2)
    matrix = factor @ jnp.swapaxes(factor, -1, -2) + 0.1 * jnp.eye(3)[None, None]
    assert_allclose(
        jax.jit(solve_symmetric)(matrix, right), np.linalg.solve(matrix, right), rtol=1e-8
    )


def numpy_filtered(picture, guide, radius, epsilon):
    """Equations 19 to 21 of He et al., window by window."""
    shape = guide.shape[:2]
    fits = {}
    for centre in np.ndindex(shape):
        places = window(centre, radius, shape)
        colors = np.stack([guide[place] for place in places])
        wanted = np.stack([picture[place] for place in places])
        away = colors - colors.mean(0)
        covariance = away.T @ away / len(places)
        slopes = np.linalg.solve(
            covariance + epsilon * np.eye(3), away.T @ (wanted - wanted.mean(0)) / len(places)
        )
        fits[centre] = slopes, wanted.mean(0) - colors.mean(0) @ slopes
    found = np.empty_like(picture)
    for centre in np.ndindex(shape):
        own = [fits[place] for place in window(centre, radius, shape)]
        slopes, offsets = (np.mean(part, axis=0) for part in zip(*own, strict=True))
        found[centre] = guide[centre] @ slopes + offsets
    return found


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (2, 1e-4), (10, 1e-6)])
def test_the_filter_is_numpys(radius, epsilon, pair, x64):
    found = filtered(*pair, radius=radius, epsilon=epsilon)
    assert_allclose(found, numpy_filtered(*pair, radius, epsilon), atol=1e-9)


def test_the_filter_in_float32_is_close_to_float64(pair):
    picture, guide = (np.asarray(one, np.float32) for one in pair)
    found = filtered(picture, guide, radius=2, epsilon=finishing.EPSILON)
    wanted = numpy_filtered(*pair, 2, finishing.EPSILON)
    assert_allclose(found, wanted, atol=2e-4)


def test_a_constant_photograph_gives_means_of_means(pair, x64):
    picture = pair[0]

    def means(planes):
        found = np.empty_like(planes)
        for centre in np.ndindex(HEIGHT, WIDTH):
            places = window(centre, 2, (HEIGHT, WIDTH))
            found[centre] = np.mean([planes[place] for place in places], axis=0)
        return found

    found = filtered(picture, np.full_like(picture, 0.25), radius=2, epsilon=1e-4)
    assert_allclose(found, means(means(picture)), atol=1e-12)


def test_gradients_of_the_filter_are_those_of_differences(pair, x64):
    picture, guide = pair
    away = np.random.default_rng(0).normal(size=picture.shape)

    @jax.jit
    def total(picture, guide):
        return jnp.sum(filtered_by_guide(picture, guide, radius=1, epsilon=1e-3) ** 2)

    slopes = jax.jit(jax.grad(total, (0, 1)))(picture, guide)
    for slope, (one, other) in zip(slopes, [((1, 0), (-1, 0)), ((0, 1), (0, -1))], strict=True):
        ends = [total(picture + a * 1e-6 * away, guide + b * 1e-6 * away) for a, b in (one, other)]
        assert_allclose(jnp.sum(slope * away), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


GREY = np.full((8, 9, 3), 0.5, np.float32)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"radius": -1}, "`radius`: expected 0 or more, got -1"),
        ({"radius": 1.5}, "`radius`: expected a whole number, got 1.5"),
        ({"radius": jnp.asarray(2)}, "`radius`: expected a whole number"),  # without `largest`
        ({"largest": 1.5}, "`largest`: expected a whole number, got 1.5"),
        ({"radius": 1.5, "largest": 2}, "`radius`: expected a whole number, got 1.5"),
        ({"radius": 3, "largest": 2}, "`radius`: expected 0 to 2, got 3"),
        ({"radius": np.int64(-1), "largest": 2}, "`radius`: expected 0 to 2, got -1"),
        (
            {"radius": jnp.asarray(1.0), "largest": 2},
            "`radius`: expected a whole number, got an array of float32",
        ),
        (
            {"radius": jnp.asarray([1, 2]), "largest": 2},
            r"`radius`: expected a whole number, got an array of int32 of the shape \[2\]",
        ),
        ({"epsilon": 0}, "`epsilon`: expected more than 0, got 0"),  # 0 / 0 where the guide is flat
        (
            {"guide": GREY[:4]},
            r"`guide`: expected the shape of `picture`, \[8, 9, 3\], got \[4, 9,",
        ),
        ({"picture": GREY[..., 0]}, "`picture`: expected an image"),
        ({"picture": GREY[None]}, "`picture`: expected one image .* `jax.vmap` takes a batch"),
    ],
)
def test_what_the_filter_cannot_use_is_refused(as_users_do, changed, said):
    given = {"picture": GREY, "guide": GREY, "radius": 1, "epsilon": 1e-4} | changed
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        filtered_by_guide(**given)


def test_a_radius_of_numpy_is_a_whole_number(as_users_do):
    for radius, largest in ((np.int64(1), None), (np.int64(1), 2), (np.asarray(1), np.int64(2))):
        found = filtered_by_guide(GREY, GREY, radius=radius, epsilon=1e-4, largest=largest)
        assert_allclose(found, GREY, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"realism": 5}, r"`realism`: expected 0 to 1 \(0 is as painted, .*\), got 5"),
        ({"realism": -0.5}, r"`realism`: expected 0 to 1 \(.*\), got -0.5"),
        ({"realism": float("nan")}, "`realism`: expected a finite number, got nan"),
        ({"content": GREY[:4]}, "`content`: expected the shape of `image`"),
        ({"shown": GREY[:4]}, "`shown`: expected the shape of `image`"),
        ({"image": "cat.png"}, "`image`: expected an array .* got str"),
    ],
)
def test_what_cannot_be_made_realistic_is_refused(as_users_do, changed, said):
    given = {"image": GREY, "content": GREY, "realism": 0.5} | changed
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        realistic(**given)


@pytest.mark.parametrize("measured", [matting_energy, laplacian_product])
def test_what_has_no_matting_laplacian_is_refused(as_users_do, measured):
    with pytest.raises(ValueError, match="^`photo`: expected the shape of `picture`"):
        measured(GREY, GREY[:4])
    with pytest.raises(
        ValueError, match="^`picture`: 9x2 px is too small; a window needs at least"
    ):
        measured(GREY[:2], GREY[:2])
    with pytest.raises(ValueError, match="^`epsilon`: expected more than 0, got -1"):
        measured(GREY, GREY, -1)


# --- Realism --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def step():
    """Return a photograph of two colours, and a painting whose edge between them is wavy."""
    photo = np.empty((48, 96, 3), np.float32)
    photo[:, :48], photo[:, 48:] = (0.2, 0.3, 0.6), (0.7, 0.6, 0.3)
    edges = 48 + np.round(2 * np.sin(np.arange(48) / 4)).astype(int)
    left = np.arange(96)[None] < edges[:, None]
    painting = np.where(left[..., None], (0.1, 0.5, 0.4), (0.9, 0.3, 0.2)).astype(np.float32)
    return jnp.asarray(photo), jnp.asarray(painting)


def rises(picture):
    """Return for each row how much the picture changes from one column to the next."""
    return np.abs(np.diff(np.asarray(picture), axis=1)).max(-1)


def test_full_realism_keeps_the_edge_of_a_step(step):
    photo, _ = step
    painting = 0.9 - 0.7 * photo[..., ::-1]  # the step in other colours
    assert_allclose(mixed(painting, photo, 1.0), painting, atol=5e-3)


def test_full_realism_moves_every_edge_to_the_photographs(step):
    photo, painting = step
    radius = filter_radius(48, 96)
    assert (rises(painting).argmax(1) != 47).mean() > 0.5
    found = rises(mixed(painting, photo, 1.0))
    assert (found.argmax(1) == 47).all()
    # Elsewhere there is nothing but slopes of the painting's rise, 0.8, over a window's side.
    assert np.delete(found, 47, axis=1).max() < 0.8 / (2 * radius + 1)
    assert found[:, 47].min() > 0.25


def test_no_realism_changes_no_bit(step):
    photo, painting = step
    assert (mixed(painting, photo, 0.0) == painting).all()


def test_realism_is_a_share(step):
    photo, painting = step
    quarter, whole = (mixed(painting, photo, share) for share in (0.25, 1.0))
    assert_allclose(quarter, 0.75 * painting + 0.25 * whole, atol=1e-6)


def test_strips_give_what_one_piece_gives(monkeypatch, step):
    photo, painting = step
    whole = mixed(painting, photo, 1.0)
    monkeypatch.setattr(finishing, "STRIP_PIXELS", 1)
    in_strips = jax.jit(lambda *pictures: realistic(*pictures, 1.0))  # traced anew
    jaxpr = in_strips.trace(painting, photo).jaxpr
    assert any(one.primitive.name == "scan" for one in small.primitives(jaxpr.jaxpr))
    assert_allclose(in_strips(painting, photo), whole, atol=2e-6)


@pytest.mark.parametrize(
    ("strip_pixels", "size"),
    [
        pytest.param(strip, size, marks=() if size in often else pytest.mark.long)
        for strip, often in (
            (finishing.STRIP_PIXELS, [(128, 96)]),  # a radius of 4 px
            (1, [(64, 67), (16, 16)]),
        )
        for size in [(128, 96), (96, 100), (64, 67), (33, 80), (16, 16)]
    ],
)
def test_realism_in_an_array_is_that_of_the_picture_alone(monkeypatch, x64, strip_pixels, size):
    """What lies beside the picture is NaN, and its radius, of 1 to 4 px, a value at runtime."""
    monkeypatch.setattr(finishing, "STRIP_PIXELS", strip_pixels)
    height, width = size
    painting, photo = np.random.default_rng(height).uniform(size=(2, height, width, 3))
    wide = np.full((2, 128, 112, 3), np.nan)
    wide[:, :height, :width] = painting, photo
    radius = jnp.asarray(filter_radius(height, width), jnp.int32)
    filtered = jax.jit(
        lambda one, other, size, radius: realistic(one, other, 0.7, size=size, radius=radius)
    )
    found = filtered(*wide, jnp.asarray(size, jnp.int32), radius)[:height, :width]
    alone = jax.jit(lambda one, other: realistic(one, other, 0.7))(painting, photo)
    assert_allclose(found, alone, rtol=1e-11, atol=1e-11)


def test_windows_grow_with_the_picture():
    assert [filter_radius(*shape) for shape in ((16, 16), (384, 512), (1024, 768))] == [1, 16, 32]


# --- The matting Laplacian ------------------------------------------------------------------------


def numpy_laplacian(photo, epsilon):
    """Equation 12 of Levin et al.: the dense matrix, of all windows inside the picture."""
    height, width, _ = photo.shape
    found = np.zeros((height * width, height * width))
    for i, j in np.ndindex(height - 2, width - 2):
        places = [(i + k) * width + j + m for k in range(3) for m in range(3)]
        colors = photo.reshape(-1, 3)[places]
        away = colors - colors.mean(0)
        inner = away @ np.linalg.solve(away.T @ away / 9 + epsilon / 9 * np.eye(3), away.T)
        found[np.ix_(places, places)] += np.eye(9) - (1 + inner) / 9
    return found


def test_the_product_is_that_of_the_dense_matrix(pair, x64):
    picture, photo = pair
    dense = numpy_laplacian(photo, EPSILON)
    wanted = (dense @ picture.reshape(-1, 3)).reshape(picture.shape)
    found = jax.jit(laplacian_product)(*pair)
    assert_allclose(found, wanted, atol=1e-9)
    assert np.linalg.eigvalsh(dense).min() > -1e-9


def test_the_energy_and_its_gradient_are_those_of_the_dense_matrix(pair, x64):
    picture, photo = pair
    dense, rows = numpy_laplacian(photo, 1e-5), picture.reshape(-1, 3)
    value, gradient = jax.jit(jax.value_and_grad(matting_energy), static_argnums=2)(*pair, 1e-5)
    assert_allclose(value, np.sum(rows * (dense @ rows)), rtol=1e-9)
    assert_allclose(gradient, 2 * (dense @ rows).reshape(picture.shape), atol=1e-9)


def test_the_energy_in_float32_is_close_to_float64(pair):
    picture, photo = pair
    rows = picture.reshape(-1, 3)
    wanted = np.sum(rows * (numpy_laplacian(photo, 1e-7) @ rows))
    found = energy(*(np.asarray(one, np.float32) for one in pair), 1e-7)
    assert_allclose(found, wanted, rtol=1e-3)


def test_a_constant_has_no_energy_and_a_foreign_edge_has_some(step):
    photo, painting = step
    assert energy(np.full_like(photo, 0.3), photo, 1e-7) < 1e-6
    assert energy(1 - 0.5 * photo, photo, 1e-7) < 1e-4
    assert energy(painting, photo, 1e-7) > 10


def test_constant_and_black_photographs_give_finite_gradients():
    picture = jnp.asarray(small.picture("starry_night", HEIGHT, WIDTH))
    gradient = jax.jit(jax.grad(matting_energy))
    for photo in (jnp.zeros_like(picture), jnp.full_like(picture, 0.7)):
        assert np.isfinite(gradient(picture, photo)).all()
