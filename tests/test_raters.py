"""Raters: against independent references, values computed by hand, and the direction of each."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal, special, stats

import nst_jax as nst
from nst_jax import raters, recipes
from nst_jax.images.oklab import AXES
from nst_jax.raters import content as content_raters
from nst_jax.raters import rating
from nst_jax.vgg import with_forms
from tests import small

# One fixture computes the ratings that most of these tests compare.
pytestmark = pytest.mark.optimized

# Compiled, which takes a test less time than one operation after another. The examples in docstrings
# are not.
gradient_agreement, gram_distance, grid_peaks, oklab, palette_distance, speckle, ssim = (
    jax.jit(getattr(raters, name))
    for name in (
        *("gradient_agreement", "gram_distance", "grid_peaks", "oklab", "palette_distance"),
        *("speckle", "ssim"),
    )
)
wasserstein_distance = jax.jit(raters.wasserstein_distance)
border = jax.jit(raters.border, static_argnames=("width", "ring"))

HEIGHT, WIDTH = 48, 64
TAPS = ("relu1_2", "relu2_2")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def maps(seed, *shape):
    """Return float32 features as a network has them: correlated, and none negative."""
    x = random(seed, *shape) @ random(seed + 1, shape[-1], shape[-1])
    return jnp.asarray(np.maximum(x, 0), jnp.float32)


@pytest.fixture(scope="module")
def cat():
    return small.picture("chelsea", HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def painting():
    return small.picture("starry_night", HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def predictor():
    return nst.feed_forward.load_arbitrary()


# --- Against references ---------------------------------------------------------------------------


def by_eigendecomposition(x, s):
    """Return the distance of two features' Gaussians in float64, from their covariances."""

    def gaussian(features):
        rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
        return rows.mean(0), np.cov(rows, rowvar=False, bias=True)

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    (mean_x, cov_x), (mean_s, cov_s) = gaussian(x), gaussian(s)
    half = root(cov_s)
    squared = np.sum((mean_x - mean_s) ** 2)
    squared += np.trace(cov_x) + np.trace(cov_s) - 2 * np.trace(root(half @ cov_x @ half))
    return np.sqrt(squared / (np.sum(mean_s**2) + np.trace(cov_s)))


@pytest.mark.parametrize(
    ("positions", "channels"),
    [((12, 10), 6), ((20, 30), 24), pytest.param((3, 4), 16, id="more channels than positions")],
)
def test_the_distance_of_gaussians_is_that_by_eigendecomposition(positions, channels):
    x, s = maps(0, *positions, channels), maps(5, *positions[::-1], channels)
    expected = by_eigendecomposition(x, s)
    assert expected > 0.1
    np.testing.assert_allclose(wasserstein_distance(x, s), expected, rtol=1e-5)
    # The definition, which forms covariances, cannot tell such a small distance from 0 in float32.
    near = s * jnp.float32(1.0001)
    np.testing.assert_allclose(wasserstein_distance(near, s), 1e-4, rtol=1e-2)


def test_the_distance_of_gaussians_by_hand():
    x = jnp.array([1.0, 3.0]).reshape(1, 2, 1)  # mean 2, deviation 1
    s = jnp.array([-4.0, 4.0]).reshape(2, 1, 1)  # mean 0, deviation 4
    expected = np.sqrt((2**2 + 3**2) / 4**2)
    np.testing.assert_allclose(wasserstein_distance(x, s), expected, rtol=1e-6)


def test_distances_in_float64_are_exact(x64):
    x, s = (jnp.asarray(random(seed, 9, 7, 5)) for seed in (0, 1))
    found = wasserstein_distance(x, s)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, by_eigendecomposition(x, s), rtol=1e-12)


@pytest.mark.parametrize("distance", [gram_distance, wasserstein_distance])
def test_extreme_features_have_a_finite_distance(distance):
    x = maps(0, 5, 6, 8)
    assert float(distance(x, x)) < 1e-5
    np.testing.assert_allclose(distance(0 * x, x), 1.0, rtol=1e-6)
    assert float(distance(0 * x, 0 * x)) == 0
    uniform = jnp.ones((5, 6, 8), jnp.float32)
    np.testing.assert_allclose(distance(2 * uniform, uniform), 1.0 if distance is
                               wasserstein_distance else 3.0, rtol=1e-5)  # fmt: skip
    for factor in (1e-6, 1e6):
        np.testing.assert_allclose(
            distance(x[::-1] * factor, maps(3, 4, 4, 8) * factor),
            distance(x, maps(3, 4, 4, 8)),
            rtol=1e-4,
        )


def test_the_distance_of_gram_matrices_is_numpys():
    x, s = maps(0, 6, 5, 4), maps(2, 3, 7, 4)
    ours, theirs = (
        sum(np.outer(row, row) for row in np.asarray(f, np.float64).reshape(-1, 4)) / n
        for f, n in ((x, 30), (s, 21))
    )
    expected = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    np.testing.assert_allclose(gram_distance(x, s), expected, rtol=1e-5)


@pytest.mark.parametrize(("side", "shapes"), [(32, [(32, 32), (32, 48)]), (None, [(80, 80), (80, 120)]),
                                               (90, [(80, 80), (80, 120)])])  # fmt: skip
def test_style_vectors_are_of_pictures_reduced_by_one_factor(monkeypatch, predictor, side, shapes):
    seen = []

    def vector(params, image, **options):
        seen.append(image.shape[:2])
        return jnp.mean(image, axis=(0, 1))

    monkeypatch.setattr(raters.style, "style_vector", vector)
    pictures = jnp.ones((80, 80, 3)), jnp.full((80, 120, 3), 0.5)
    found = raters.style_vector_distance(predictor, *pictures, side=side)
    np.testing.assert_allclose(found, np.sqrt(3 * 0.5**2), rtol=1e-5)
    assert seen == shapes


# sRGB to XYZ by IEC 61966-2-1; XYZ to cones and these to OKLab as Ottosson's page defines it.
XYZ = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)))
CONES_OF_XYZ = np.array(
    (
        (0.8189330101, 0.3618667424, -0.1288597137),
        (0.0329845436, 0.9293118715, 0.0361456387),
        (0.0482003018, 0.2643662691, 0.6338517070),
    )
)


def test_oklab_is_that_of_its_definition_from_xyz(cat):
    x = np.asarray(cat, np.float64)
    linear = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    cones = linear @ XYZ.T @ CONES_OF_XYZ.T
    expected = np.cbrt(cones) @ AXES.T
    np.testing.assert_allclose(oklab(cat), expected, atol=3e-4)  # XYZ has four digits


def test_the_distance_of_palettes_is_scipys_over_many_directions(cat, painting):
    ours, theirs = (np.asarray(oklab(x)).reshape(-1, 3) for x in (cat, painting[:, : WIDTH // 3]))
    directions = random(0, 300, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = 2 * np.mean([stats.wasserstein_distance(ours @ d, theirs @ d) for d in directions])
    found = palette_distance(cat, painting[:, : WIDTH // 3])
    np.testing.assert_allclose(found, expected, rtol=0.05)  # the error of 300 random directions
    # Along the same directions, all that is left is the error of the quantiles.
    lattice = raters.palette._sphere(32)
    expected = 2 * np.mean([stats.wasserstein_distance(ours @ d, theirs @ d) for d in lattice])
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_the_distance_of_two_colours_is_the_length_between_them():
    colours = np.random.default_rng(0).uniform(size=(20, 2, 1, 1, 3)).astype(np.float32)
    for one, other in colours:
        length = np.linalg.norm(oklab(one) - oklab(other))
        np.testing.assert_allclose(palette_distance(one, other), length, rtol=0.03)


def grey(image):
    return np.asarray(image, np.float64) @ (0.299, 0.587, 0.114)


def test_ssim_is_scipys(cat, painting):
    def mean(plane):
        return ndimage.gaussian_filter(plane, 1.5, truncate=3.5)[5:-5, 5:-5]

    x, y = grey(painting), grey(cat)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, cov = (mean(a * b) - mean(a) * mean(b) for a, b in ((x, x), (y, y), (x, y)))
    above = (2 * mean_x * mean_y + 1e-4) * (2 * cov + 9e-4)
    expected = np.mean(above / (mean_x**2 + mean_y**2 + 1e-4) / (var_x + var_y + 9e-4))
    np.testing.assert_allclose(ssim(painting, cat), expected, atol=1e-5)


def test_ssim_of_uniform_pictures_by_hand():
    found = ssim(jnp.full((11, 12, 3), 0.5), jnp.full((11, 12, 3), 0.25))
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_agreement_of_gradients_is_scipys(cat, painting):
    def gradient(image):
        parts = [ndimage.gaussian_filter(grey(image), 2.0, order=o) for o in ((1, 0), (0, 1))]
        return np.stack(parts)[:, 8:-8, 8:-8]

    x, c = gradient(painting), gradient(cat)
    length = np.linalg.norm(c, axis=0)
    cosine = np.sum(x * c, axis=0) ** 2
    for squares in (x**2, c**2):
        cosine /= np.sum(squares, axis=0) + 1 / 255**2
    expected = np.average(cosine, weights=length)
    np.testing.assert_allclose(gradient_agreement(painting, cat), expected, rtol=1e-4)
    blank = np.full_like(cat, 0.5)
    assert float(gradient_agreement(blank, cat)) < 1e-6
    assert float(gradient_agreement(cat, blank)) < 1e-6  # and not NaN


def test_the_divergence_of_self_similarities_is_scipys(monkeypatch):
    monkeypatch.setattr(content_raters, "ROWS", 8)  # blocks, and a last one that is not full
    x, c = maps(0, 5, 6, 4), maps(2, 5, 6, 4)
    rows = [np.asarray(f, np.float64).reshape(-1, 4) for f in (x, c)]
    scale = np.sqrt(np.mean(np.sum(rows[1] ** 2, axis=1)))
    log_x, log_c = (special.log_softmax(f @ f.T / scale**2, axis=1) for f in rows)
    expected = np.mean(np.sum(special.rel_entr(np.exp(log_c), np.exp(log_x)), axis=1))
    divergence = jax.jit(raters.self_similarity_divergence)
    found = divergence(x, c)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # Weights whose activations are larger give the same.
    np.testing.assert_allclose(divergence(30 * x, 30 * c), found, rtol=1e-4)
    assert float(divergence(0 * x, 0 * c)) == 0


def test_the_border_by_hand():
    picture = np.zeros((6, 8, 3), np.float32)
    picture[2:-2, 2:-2] = 0.5, 0.25, 0.25
    picture[2:-2, 3] = 0.0  # one column of the four inside
    picture[0, :3] = 1.0  # 3 of the 40 px of the border
    found = border(picture, width=2)
    outside, inside = np.full(3, 3 / 40), 0.75 * np.array((0.5, 0.25, 0.25))
    np.testing.assert_allclose(found.mean, np.linalg.norm(outside - inside), rtol=1e-5)
    variances = 3 * 3 / 40 * 37 / 40, 0.75 * 0.25 * (0.5**2 + 2 * 0.25**2)
    np.testing.assert_allclose(found.variance, np.log(variances[0] / variances[1]), rtol=1e-3)


def test_a_ring_is_what_comes_next_to_the_border():
    picture = random(0, 20, 24, 3).astype(np.float32)
    middle = np.array(picture)
    middle[8:-8, 8:-8] = 7.0
    for x in (picture, middle):
        np.testing.assert_allclose(
            border(x, width=4, ring=4), border(picture, width=4, ring=4), rtol=1e-5
        )
    assert float(border(middle, width=4).mean) > 1
    with pytest.raises(ValueError, match="16x40 px has nothing inside a border of 8 px"):
        border(jnp.zeros((40, 16, 3)))


def test_the_peaks_are_those_of_scipys_periodogram(cat):
    plane = grey(cat)
    found = np.asarray(grid_peaks(cat))
    assert found.shape == (2, 4)
    for lines, peaks in ((plane.T, found[0]), (plane, found[1])):
        length = lines.shape[1]
        window = signal.windows.hann(length + 2)[1:-1]
        scale = {"window": window, "detrend": "constant", "scaling": "spectrum"}
        frequency, energy = signal.periodogram(lines, **scale)
        # The unit of the periodogram is another, and its inner lines count twice.
        energy[:, 1:-1] /= 2
        energy = energy.mean(0) * window.sum() ** 2 + np.sum(window**2) / 255**2 / 12
        band = max(1 / 64, 2 / length)
        for peak, at in zip(peaks, (1 / 8, 2 / 8, 3 / 8, 4 / 8), strict=True):
            offset = frequency - at
            on = energy[np.abs(offset) <= band].mean()
            low = energy[(offset < -band) & (offset >= -band - 1 / 32)].mean()
            high = energy[(offset > band) & (offset <= band + 1 / 32)]
            level = np.log(low) if at == 1 / 2 else (np.log(low) + np.log(high.mean())) / 2
            np.testing.assert_allclose(peak, np.log(on) - level, atol=1e-4)


@pytest.mark.parametrize(("period", "peak"), [(8, 0), (4, 1), (2, 3)])
def test_a_pattern_is_found_at_its_period(cat, period, peak):
    down = 0.1 * np.cos(2 * np.pi * np.arange(HEIGHT) / period)[:, None, None]
    change = np.subtract(grid_peaks(cat + down.astype(np.float32)), grid_peaks(cat))
    assert np.unravel_index(np.argmax(change), change.shape) == (0, peak)
    assert change[0, peak] > 0.7
    assert np.abs(change[1]).max() < 0.1  # what varies down does not vary across
    with pytest.raises(ValueError, match="64x40 px is too small; the spectrum needs at least 48"):
        grid_peaks(cat[:40])


def test_uniform_pictures_have_no_artefacts():
    blank = jnp.full((HEIGHT, WIDTH, 3), 0.3)
    assert float(speckle(blank)) == 0
    np.testing.assert_allclose(border(blank), (0, 0), atol=1e-5)
    np.testing.assert_allclose(grid_peaks(blank), 0, atol=1e-2)


def test_speckle_is_scipys(cat):
    x = np.asarray(cat, np.float64)
    median = ndimage.median_filter(x, size=(3, 3, 1))
    expected = np.mean(np.abs(x - median)[1:-1, 1:-1])
    np.testing.assert_allclose(speckle(cat), expected, rtol=1e-5)


# --- Ratings change in the expected direction -----------------------------------------------------


def blurred(image):
    return ndimage.gaussian_filter(image, (1.5, 1.5, 0))


def noised(image):
    return np.clip(image + 0.15 * random(3, *image.shape).astype(np.float32), 0, 1)


def shuffled(image):
    pixels = image.reshape(-1, 3)
    return np.random.default_rng(0).permutation(pixels).reshape(image.shape)


def recoloured(image):
    return np.array(image[..., ::-1])


def framed(image):
    """Return a picture whose outer 8 px are a dull grey, as bad padding leaves them."""
    result = np.full_like(image, image.mean())
    result[8:-8, 8:-8] = image[8:-8, 8:-8]
    return result


def hatched(image):
    lines = 0.1 * (np.arange(image.shape[0]) % 4 < 2)[:, None, None]
    return np.clip(image + lines.astype(np.float32), 0, 1)


CHANGES = (blurred, noised, shuffled, recoloured, framed, hatched)


@pytest.fixture(scope="module")
def ratings(params, predictor, cat, painting):
    """Return what `rate` says of the content, of the style, and of both changed: by picture, change."""
    rate = jax.jit(raters.rate, static_argnames="taps")
    found = {}
    for name, image in (("cat", cat), ("painting", painting)):
        for change in (None, *CHANGES):
            picture = image if change is None else change(image)
            rating = rate(params, predictor, picture, cat, painting, taps=TAPS)
            values = {key: float(value) for key, value in rating._asdict().items()}
            assert np.isfinite(list(values.values())).all(), (name, change)
            found[name, change] = values
    return found


STYLE = ("style_vector", "gram", "wasserstein", "palette")
CONTENT = ("ssim", "self_similarity", "gradients")
WORSE = {"low": 1, "high": -1}


@pytest.mark.parametrize("name", STYLE)
def test_the_style_itself_is_nearest_to_the_style(ratings, name):
    itself = ratings["painting", None][name]
    assert itself < 1e-3
    for change in set(CHANGES) - {shuffled}:
        assert ratings["painting", change][name] > itself + 0.01, change
    assert ratings["cat", None][name] > ratings["painting", blurred][name]


def test_a_palette_does_not_depend_on_places_and_textures_do(ratings):
    shuffled_style = ratings["painting", shuffled]
    assert shuffled_style["palette"] < 1e-6
    assert all(shuffled_style[name] > 0.1 for name in STYLE if name != "palette")


@pytest.mark.parametrize("name", CONTENT)
def test_the_content_itself_is_nearest_to_the_content(ratings, name):
    sign = WORSE[raters.RATERS[name].best]
    itself = ratings["cat", None][name]
    for change in set(CHANGES) - {recoloured}:
        assert sign * (ratings["cat", change][name] - itself) > 0, change
    lost = sign * (ratings["cat", shuffled][name] - itself)
    assert lost > sign * (ratings["cat", blurred][name] - itself)
    assert sign * (ratings["painting", None][name] - itself) > 0


def test_new_colours_are_a_little_farther_from_the_content(ratings):
    for name in ("ssim", "self_similarity"):
        sign = WORSE[raters.RATERS[name].best]
        itself, new, lost = (
            ratings["cat", change][name] for change in (None, recoloured, shuffled)
        )
        assert 0.001 < sign * (new - itself) < sign * (lost - itself) / 2, name


def test_edges_survive_new_colours_and_inverted_contrast(cat, ratings):
    assert ratings["cat", recoloured]["gradients"] > 0.9 * ratings["cat", None]["gradients"]
    inverted = float(gradient_agreement(1 - cat, cat))
    np.testing.assert_allclose(inverted, ratings["cat", None]["gradients"], rtol=1e-3)
    assert float(ssim(1 - cat, cat)) < 0


@pytest.mark.parametrize("image", ["cat", "painting"])
def test_artefacts_are_noticed(ratings, image):
    def moved(name, change):
        return ratings[image, change][name] - ratings[image, None][name]

    assert moved("speckle", noised) > 0.02
    assert moved("speckle", shuffled) > 0.02
    assert moved("speckle", blurred) < 0
    assert moved("grid", hatched) > 0.5
    assert moved("ring_mean", framed) > 0.02
    assert moved("ring_variance", framed) < -3
    assert moved("border_variance", framed) < -3
    assert abs(ratings[image, shuffled]["border_variance"]) < 0.2  # no place is special any more
    assert abs(ratings[image, shuffled]["ring_variance"]) < 0.2
    assert moved("border_mean", shuffled) < -0.05
    assert moved("ring_mean", shuffled) < -0.02


@pytest.mark.parametrize("image", ["cat", "painting"])
def test_artefacts_do_not_depend_on_which_colour_is_which(ratings, image):
    for name in ("border_mean", "border_variance", "ring_mean", "ring_variance", "speckle"):
        itself, new = (ratings[image, change][name] for change in (None, recoloured))
        assert new == pytest.approx(itself, abs=1e-5), name
    assert abs(ratings[image, recoloured]["grid"] - ratings[image, None]["grid"]) < 0.1


def test_noise_covers_a_grid(cat):
    hidden, plain = (np.max(grid_peaks(image)) for image in (noised(hatched(cat)), hatched(cat)))
    assert np.max(grid_peaks(cat)) + 0.5 < hidden < plain - 0.5


def test_a_frame_of_another_colour_is_noticed(cat):
    red = np.array(framed(cat))
    outer = np.ones(red.shape[:2], bool)
    outer[8:-8, 8:-8] = False
    red[outer] = 1, 0, 0
    assert float(border(red).mean) > float(border(cat).mean) + 0.5


# --- All raters -----------------------------------------------------------------------------------


def test_a_record_has_what_the_raters_say(ratings, params, predictor, cat, painting):
    found = ratings["painting", None]
    assert tuple(found) == tuple(raters.RATERS) == raters.Rating._fields
    assert found["ssim"] == pytest.approx(float(ssim(painting, cat)), abs=1e-5)
    assert found["speckle"] == pytest.approx(float(speckle(painting)), rel=1e-5)
    vector = jax.jit(nst.feed_forward.style_vector)
    distance = np.linalg.norm(np.subtract(*(vector(predictor, x) for x in (cat, painting))))
    assert ratings["cat", None]["style_vector"] == pytest.approx(distance, rel=1e-4)
    pictures = jnp.asarray(cat), jnp.asarray(painting)
    features_of = jax.jit(nst.features, static_argnums=2)
    features = [features_of(params, x, TAPS) for x in pictures]
    for name, distance in (
        ("gram", gram_distance),
        ("wasserstein", wasserstein_distance),
    ):
        mean = np.mean([distance(*(f[tap] for f in features)) for tap in TAPS])
        assert ratings["cat", None][name] == pytest.approx(mean, rel=1e-4)
    structures = [features_of(params, x, ("relu3_1",))["relu3_1"] for x in pictures[::-1]]
    divergence = float(jax.jit(raters.self_similarity_divergence)(*structures))
    assert found["self_similarity"] == pytest.approx(divergence, rel=1e-3)


def test_batches_are_rated_by_vmap_and_float64_stays(params, predictor, x64):
    content, style = jnp.zeros((40, 80, 3)), jnp.zeros((90, 70, 3))  # of other sizes
    rate = partial(raters.rate, params, predictor, taps=TAPS)
    many = jax.vmap(rate, (0, None, None))
    found = jax.eval_shape(many, jnp.zeros((2, HEIGHT, WIDTH, 3)), content, style)
    assert {(each.shape, each.dtype) for each in found} == {((2,), np.dtype("float64"))}
    half = jax.eval_shape(rate, jnp.zeros((HEIGHT, WIDTH, 3), jnp.bfloat16), content, style)
    assert half.ssim.dtype == np.float64  # that of the content; never bfloat16


PICTURE_PAIRS = (palette_distance, ssim, gradient_agreement)
FEATURE_PAIRS = (gram_distance, wasserstein_distance, jax.jit(raters.self_similarity_divergence))


@pytest.mark.parametrize("rater", [*PICTURE_PAIRS, *FEATURE_PAIRS])
def test_pairs_are_the_same_one_by_one_and_batched(rater):
    shape = (20, 24, 3) if rater in PICTURE_PAIRS else (4, 5, 6)
    x, y = (
        jnp.asarray(np.random.default_rng(seed).uniform(size=(2, *shape)), jnp.float32)
        for seed in (0, 1)
    )
    single = [float(rater(*pair)) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(jax.vmap(rater)(x, y), single, rtol=1e-4)


@pytest.mark.parametrize("rater", [border, grid_peaks, speckle])
def test_pictures_are_the_same_one_by_one_and_batched(rater, cat, painting):
    batched = jax.vmap(rater)(jnp.stack([cat, painting]))
    for index, image in enumerate((cat, painting)):
        single = rater(image)
        same = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
        jax.tree.map(
            lambda one, many, index=index, same=same: same(many[index], one), single, batched
        )


def test_what_cannot_be_rated_is_refused(params, predictor, cat, painting, as_users_do):
    rate = partial(raters.rate, params, predictor)
    with pytest.raises(
        ValueError, match=r"`params`: expected the weights of VGG-19, .*load_params"
    ):
        raters.rate(predictor, params, cat, cat, painting)
    with pytest.raises(
        ValueError, match="`predictor`: these weights are of another network, .*load_arb"
    ):
        raters.rate(params, params, cat, cat, painting)
    with pytest.raises(TypeError, match=r"`predictor`: expected Params, got ndarray"):
        raters.rate(params, cat, cat, painting, painting)
    with pytest.raises(TypeError, match=r"`style`: expected an array.*`nst_jax.images.load` reads"):
        rate(cat, cat, "painting.jpg")
    with pytest.raises(ValueError, match="`picture`: 64x40 px is too small"):
        rate(cat[:40], cat, painting)
    with pytest.raises(ValueError, match="`content`: expected floating point.*uint8"):
        rate(cat, (cat * 255).astype(np.uint8), painting)
    with pytest.raises(ValueError, match=r"`picture`: expected one image.*\[1, 48, 64, 3\].*vmap"):
        rate(cat[None], cat, painting)
    with pytest.raises(ValueError, match="'relu9_9'"):
        rate(cat, cat, painting, taps=("relu9_9",))
    distance = partial(raters.style_vector_distance, predictor)
    for bad, said in (
        (np.zeros((32, 32), np.float32), "expected an image"),
        (np.zeros((32, 32, 4), np.float32), "expected an image"),
        (np.zeros((32, 32, 3), np.uint8), "expected floating point"),
        (np.zeros((2, 32, 32, 3), np.float32), "expected one image .*jax.vmap"),
        (np.zeros((9, 9000, 3), np.float32), "9000x9 px is too small"),
    ):
        with pytest.raises(ValueError, match=f"^`picture`: {said}"):
            distance(bad, painting)
        with pytest.raises(ValueError, match=f"^`style`: {said}"):
            distance(cat, bad)


def test_weights_without_a_layer_are_refused_before_any_features(
    params, predictor, cat, painting, as_users_do, monkeypatch
):
    few = with_forms(params, ["relu2_1"])
    monkeypatch.setattr(rating, "_features", lambda *_: pytest.fail("computed features"))
    for taps, deepest in ((("relu2_1",), "relu3_1"), (("relu2_1", "relu4_1"), "relu4_1")):
        with pytest.raises(
            ValueError,
            match=rf"^`params`: expected the layers down to conv._1, which {deepest} needs, got none "
            "named conv2_2; give the weights from",
        ):
            raters.rate(few, predictor, cat, cat, painting, taps=taps)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("border", {"width": 0}, "`width`: expected 1 or more, got 0"),
        ("border", {"width": 8.5}, "`width`: expected a whole number, got 8.5"),
        ("border", {"ring": -1}, "`ring`: expected 1 or more, got -1"),
        ("border", {"width": 30}, "`picture`: 64x48 px has nothing inside a border of 30 px"),
        ("grid_peaks", {"period": 0}, "`period`: expected 2 or more, got 0"),
        ("grid_energy", {"period": 8.0}, "`period`: expected a whole number, got 8.0"),
    ],
)
def test_settings_that_rate_nothing_are_refused(cat, as_users_do, name, settings, said):
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        getattr(raters, name)(cat, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("palette_distance", {"directions": 0}, "`directions`: expected 1 or more, got 0"),
        ("palette_distance", {"directions": 2.5}, "`directions`: expected a whole number"),
        ("gradient_agreement", {"deviation": 0}, "`deviation`: expected more than 0, got 0"),
        ("gradient_agreement", {"deviation": 20}, "`picture`: 64x48 px is .*; the filter needs at"),
    ],
)
def test_settings_that_compare_nothing_are_refused(cat, as_users_do, name, settings, said):
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        getattr(raters, name)(cat, cat, **settings)


def test_a_side_of_style_vectors_is_positive(predictor, params, cat, as_users_do):
    with pytest.raises(ValueError, match="^`side`: expected more than 0, got 0"):
        raters.style_vector_distance(predictor, cat, cat, side=0)
    with pytest.raises(ValueError, match="^`predictor`: these weights are of another network"):
        raters.style_vector_distance(params, cat, cat)


ONE = ("border", "grid_energy", "speckle")
TWO = ("ssim", "gradient_agreement", "palette_distance")


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_what_is_no_single_picture_is_refused(cat, as_users_do, name):
    bad = {
        "expected one image .* `jax.vmap` rates a batch": cat[None],
        "expected floating point .* uint8": (cat * 255).astype(np.uint8),
        "expected an image": cat[..., 0],
        "expected an array .* got str": "cat.jpg",
    }
    for said, image in bad.items():
        with pytest.raises((TypeError, ValueError), match=f"^`picture`: {said}"):
            getattr(raters, name)(image, *[cat] * (name in TWO))


def test_pictures_and_features_that_do_not_fit_are_refused(cat, as_users_do):
    for rater in (raters.ssim, raters.gradient_agreement):
        with pytest.raises(
            ValueError, match=r"^`content`: expected the shape of `picture`, \[48, 6"
        ):
            rater(cat, cat[:, :48])
    with pytest.raises(ValueError, match="^`picture`: 64x8 px is too small; the filter needs at"):
        raters.ssim(cat[:8], cat[:8])
    with pytest.raises(ValueError, match="^`picture`: 64x2 px is too small; this rater needs at"):
        raters.speckle(cat[:2])
    features = np.zeros((6, 5, 4), np.float32)
    for rater in (
        raters.gram_distance,
        raters.wasserstein_distance,
        raters.self_similarity_divergence,
    ):
        with pytest.raises(ValueError, match=r"`: expected 4 channels, got 3; .* same tap"):
            rater(features, features[..., :3])
        with pytest.raises(ValueError, match=r"^`picture`: expected features .*\[1, 6, 5, 4\]"):
            rater(features[None], features)
        with pytest.raises(TypeError, match=r"expected features .* got str; `nst_jax.features` co"):
            rater(features, "style.npy")
    with pytest.raises(ValueError, match="^`content`: expected the shape of `picture`"):
        raters.self_similarity_divergence(features, features[:3])


# --- Biased raters --------------------------------------------------------------------------------


def test_taps_are_those_that_no_recipe_reads():
    assert raters.unused_taps(recipes.DEFAULT) == raters.rating.TAPS
    together = raters.unused_taps(recipes.DEFAULT, recipes.TF)
    assert together == ("relu1_2", "relu2_2", "relu3_2", "relu4_3", "relu5_3")
    # Before the ReLU is the same layer; a block that is read completely is left out.
    assert raters.unused_taps(recipes.PYTORCH_TUTORIAL) == ("relu3_2", "relu4_1", "relu5_1")
    every = tuple(
        f"relu{b}_{i}" for b, (n, _) in enumerate(nst.vgg.BLOCKS, 1) for i in range(1, n + 1)
    )
    terms = replace(recipes.TF.terms, style_taps=every, style_layer_weights=(1.0,) * len(every))
    with pytest.raises(ValueError, match="no tap is left"):
        raters.unused_taps(replace(recipes.TF, terms=terms))


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_no_preset_is_judged_by_a_tap_that_it_minimises(name):
    recipe = recipes.PRESETS[name]
    layers = {tap[-3:] for tap in recipe.terms.taps}
    assert not layers & {tap[-3:] for tap in raters.unused_taps(recipe)}


def test_a_name_in_place_of_a_recipe_is_refused(as_users_do):
    with pytest.raises(TypeError, match=r"^`recipe`: expected Recipe, got str; .*named\(name\)"):
        raters.biased_raters("tf")
    with pytest.raises(TypeError, match=r"^`recipes\[1\]`: expected Recipe, got str"):
        raters.unused_taps(recipes.TF, "gram")


def test_biased_raters_are_what_a_recipe_minimises_itself():
    recipe = recipes.DEFAULT.replace(tv_weight=0.0)
    assert set(raters.biased_raters(recipe)) == {"gram", "wasserstein", "self_similarity"}
    assert set(raters.biased_raters(recipe.replace(style_weight=0.0))) == {"self_similarity"}
    assert "speckle" in raters.biased_raters(recipe.replace(tv_weight=jnp.array([0.0, 1.0])))
    started = recipe.replace(start=recipes.starts.Instant())
    assert "style_vector" in raters.biased_raters(started)
    # The recipe that moves its colours to the style's palette has no content loss.
    by_neighbours = raters.biased_raters(recipes.NNST)
    assert set(by_neighbours) == {"gram", "wasserstein", "palette"}
    assert by_neighbours["gram"] == "its style loss compares features of the same network"
    assert "palette" not in raters.biased_raters(recipes.NNST.replace(colors="style"))
    assert set(raters.biased_raters(recipes.DEFAULT)) <= set(raters.RATERS)
    assert all(rater.of in ("style", "content", "artefacts") for rater in raters.RATERS.values())
