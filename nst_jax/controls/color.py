"""Give a picture the colours of another one: their mean and covariance, or their chroma.

All functions can be traced and differentiated. Pictures are single ones, [h, w, 3], and floating point;
others are refused. Results may be outside [0, 1]; a caller that needs values in [0, 1] clips them. The
covariance of a constant, grey or two-coloured picture has no inverse. So `RIDGE` is added to the
diagonals of covariances, and results are finite for such pictures, too.

References:
  Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling Perceptual Factors in Neural Style Transfer",
  2017, and "Preserving Color in Neural Artistic Style Transfer", 2016;
  leongatys/NeuralImageSynthesis @ cced0b97, ExampleNotebooks/ColourControl.ipynb.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Image
from nst_jax.images.oklab import linear_of_oklab, oklab_of_linear
from nst_jax.losses.sums import at_least_float32

# Added to the diagonal of each covariance, so that it has an inverse. The notebook of Gatys and others,
# ColourControl.ipynb, adds 1e-5. That is too much for a picture whose colours hardly vary in some
# direction: the covariance of the recoloured picture then differs from the wanted one by over 1e-4.
RIDGE = 1e-6

# The weights of red, green and blue in the luminance Y of ITU-R BT.601, as in the notebook of Gatys and
# others, ColourControl.ipynb.
LUMA = np.array((0.299, 0.587, 0.114))

# Linear RGB is raised to at least this before OKLab takes cube roots. At 0, their slope is infinite,
# and so would be the gradient.
LEAST_LIGHT = 1e-7

Vector: TypeAlias = Float[Array, "3"]
# The weight of each pixel in the mean and covariance of a picture, [h, w], 0 to 1.
Opacity: TypeAlias = Float[Array | np.ndarray, "_ _"]
Matrix: TypeAlias = Float[Array, "3 3"]
# A picture on a device or the host. Each `_` matches any size, whatever the sizes of other arguments.
Other: TypeAlias = Float[Array | np.ndarray, "_ _ 3"]


# --- Means and covariances ------------------------------------------------------------------------


class ColorMoments(NamedTuple):
    """The mean colour of a picture, and the covariance of its colours."""

    mean: Vector
    covariance: Matrix


def color_moments(picture: Other, opacity: Opacity | None = None) -> ColorMoments:
    """Compute the mean and the covariance of a picture's colours.

    Args:
      picture: [h, w, 3].
      opacity: how much each pixel counts, [h, w] in [0, 1]; None means that all pixels count alike.

    Returns:
      The mean [3] and the covariance [3, 3]. The covariance is the mean over all pixels of the products
      of deviations: the divisor is the number of pixels, not one less. With opacities, both are means
      weighted by the opacities.

    Raises:
      TypeError: if `picture` is not an array.
      ValueError: if `picture` is not [h, w, 3] or not floating point, or if `opacity` is not [h, w].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import color_moments
      >>> black_and_white = jnp.stack([jnp.zeros((4, 3)), jnp.ones((4, 3))])
      >>> color_moments(black_and_white).covariance[0].tolist()
      [0.25, 0.25, 0.25]
    """
    return _moments("picture", picture, "opacity", opacity)


def _moments(argument: str, picture: Other, name: str, opacity: Opacity | None) -> ColorMoments:
    """Return the result of `color_moments`; the names of the arguments are for error messages."""
    picture = _floats(argument, picture)
    _check_opacity(name, opacity, argument, picture)
    mean = _mean(picture, opacity)
    away = picture - mean[None, None]
    return ColorMoments(mean, _mean(away[..., :, None] * away[..., None, :], opacity))


def _floats(argument: str, picture: AnyImage) -> Image:
    """Check a picture [h, w, 3], and return it as a JAX array of float32 or more bits."""
    _checks.one_image(
        argument, picture, smallest=1, advice="`jax.vmap` takes a batch", needs="a picture has"
    )
    return at_least_float32(jnp.asarray(picture))


def _check_opacity(name: str, opacity: Any, argument: str, picture: Image) -> None:
    """Refuse an opacity that is not None and has not the height and width of its picture."""
    if opacity is not None:
        _checks.not_keys(name, opacity, "an array [height, width]")
        _checks.same_shape(name, np.shape(opacity), f"{argument}[..., 0]", picture.shape[:2])


def _mean(values: Array, opacity: Opacity | None = None) -> Array:
    """Return the mean of `values` [h, w, ...] over pixels, weighted by `opacity` [h, w] if given."""
    # The mean is taken down each column, then across the columns: one sum over all pixels of a large
    # picture would lose digits.
    if opacity is None:
        return jnp.mean(jnp.mean(values, axis=0), axis=0)
    weights = opacity.reshape(*opacity.shape, *[1] * (values.ndim - 2)).astype(values.dtype)
    total = jnp.mean(jnp.mean(weights, axis=0), axis=0)
    return jnp.mean(jnp.mean(values * weights, axis=0), axis=0) / total


def _check_covariances(own: Any, wanted: Any) -> None:
    """Refuse random keys of JAX in place of the covariances that a map of colours gets."""
    _checks.not_keys("own", own, "a covariance [3, 3]")
    _checks.not_keys("wanted", wanted, "a covariance [3, 3]")


def _ridged(covariance: Matrix) -> Matrix:
    return covariance + RIDGE * jnp.eye(3, dtype=covariance.dtype)


def _product(one: Array, other: Array) -> Array:
    return jnp.matmul(one, other, precision=lax.Precision.HIGHEST)


@jax.custom_jvp
def _root(matrix: Matrix) -> Matrix:
    """Return the symmetric square root of a positive definite matrix."""
    return _root_and_basis(matrix)[0]


def _root_and_basis(matrix: Matrix) -> tuple[Matrix, Vector, Matrix]:
    values, vectors = jnp.linalg.eigh(matrix)
    roots = jnp.sqrt(values)
    return _product(vectors * roots[None], vectors.T), roots, vectors


@_root.defjvp
def _root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    # Let R be the root of A. From R R = A follows R' R + R R' = A' for the derivatives. This equation
    # is solved for R' in the basis of the eigenvectors of A, where each entry of A' is divided by a sum
    # of two eigenvalues of R. JAX's own rule for `eigh` would divide by differences of eigenvalues. For
    # a grey picture, two eigenvalues are equal, so it would divide by 0.
    root, roots, vectors = _root_and_basis(primals[0])
    inside = _product(_product(vectors.T, tangents[0]), vectors)
    inside = inside / (roots[:, None] + roots[None])
    return root, _product(_product(vectors, inside), vectors.T)


@jax.custom_jvp
def _rotation(matrix: Matrix) -> Matrix:
    """Return the orthogonal matrix nearest to a matrix: U Vᵀ of its singular value decomposition."""
    left, _, right = jnp.linalg.svd(matrix)
    return _product(left, right)


@_rotation.defjvp
def _rotation_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    # In the basis of the singular vectors, the derivative of the rotation is the antisymmetric part of
    # the tangent, times 2, with each entry divided by a sum of two singular values. JAX's own rule for
    # `svd` would divide by differences of singular values, which may be 0.
    left, values, right = jnp.linalg.svd(primals[0])
    inside = _product(_product(left.T, tangents[0]), right.T)
    inside = (inside - inside.T) / (values[:, None] + values[None])
    return _product(left, right), _product(_product(left, inside), right)


def transport_map(own: Matrix, wanted: Matrix) -> Matrix:
    """Return the symmetric matrix that maps one covariance to another and moves colours least.

    This is optimal transport: T = A^-½ (A^½ B A^½)^½ A^-½ for covariances A and B. Of all matrices X
    with X A Xᵀ = B, T is the one with the least mean squared distance between a colour c and X c.

    Args:
      own: covariance A of the colours before they are mapped, [3, 3].
      wanted: covariance B that the mapped colours are to have, [3, 3].

    Returns:
      The matrix T, [3, 3], which is applied to colours minus their mean.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls.color import transport_map
      >>> transport_map(0.01 * jnp.eye(3), 0.04 * jnp.eye(3))[0].round(3).tolist()
      [2.0, 0.0, 0.0]
    """
    lower, other = _factors(own, wanted)
    # `lower` is L and `other` is M, where A = L Lᵀ and B = M Mᵀ. The matrix T of the docstring is
    # M R L^-1, where R is the rotation that makes T symmetric. This form needs no root of a product of
    # covariances, in which float32 would lose small eigenvalues.
    found = _over(_product(other, _rotation(_product(other.T, lower))), lower)
    return (found + found.T) / 2


def _factors(own: Matrix, wanted: Matrix) -> tuple[Matrix, Matrix]:
    _check_covariances(own, wanted)
    return jnp.linalg.cholesky(_ridged(own)), jnp.linalg.cholesky(_ridged(wanted))


def _over(matrix: Matrix, lower: Matrix) -> Matrix:
    """Return `matrix` times the inverse of the lower triangular matrix `lower`."""
    return jax.scipy.linalg.solve_triangular(lower, matrix.T, trans=1, lower=True).T


def pca_map(own: Matrix, wanted: Matrix) -> Matrix:
    """Return the matrix B^½ A^-½, which maps covariance A to covariance B along principal axes.

    The matrix first scales colours along the principal axes of A, so that their covariance is the
    identity, and then along the principal axes of B.

    Args:
      own: covariance A of the colours before they are mapped, [3, 3].
      wanted: covariance B that the mapped colours are to have, [3, 3].

    Returns:
      The matrix, [3, 3], which is applied to colours minus their mean.
    """
    _check_covariances(own, wanted)
    return jnp.linalg.solve(_root(_ridged(own)), _root(_ridged(wanted))).T


def cholesky_map(own: Matrix, wanted: Matrix) -> Matrix:
    """Return the matrix L_B L_A^-1, which maps covariance A to covariance B by their Cholesky factors.

    L_A and L_B are the lower Cholesky factors of A and B, so the matrix is lower triangular: the new
    red depends on red alone, the new green on red and green, and the new blue on all three. Therefore
    the order of the channels matters here, unlike for `transport_map` and `pca_map`.

    Args:
      own: covariance A of the colours before they are mapped, [3, 3].
      wanted: covariance B that the mapped colours are to have, [3, 3].

    Returns:
      The matrix, [3, 3], which is applied to colours minus their mean.
    """
    lower, other = _factors(own, wanted)
    return _over(other, lower)


# Name of a linear map of colours -> function of (covariance of the colours, wanted covariance) that
# returns the matrix of the map.
MAPS: Mapping[str, Callable[[Matrix, Matrix], Matrix]] = MappingProxyType(
    {"transport": transport_map, "cholesky": cholesky_map, "pca": pca_map}
)


def with_colors_of(
    picture: AnyImage,
    other: Other,
    color_map: str = "transport",
    *,
    opacity: Opacity | None = None,
    other_opacity: Opacity | None = None,
) -> Image:
    """Map the colours of a picture linearly, to the mean and covariance of another picture's colours.

    Departures from the notebook of Gatys and others, ColourControl.ipynb: it uses the map "pca", while
    the default here is "transport"; and it adds 1e-5 to the diagonals of covariances, while `RIDGE`,
    which is 1e-6, is added here.

    Args:
      picture: [h, w, 3] in [0, 1].
      other: the picture whose mean and covariance are taken, [h', w', 3], of any size.
      color_map: a key of `MAPS`.
      opacity: how much each pixel of `picture` counts in its mean and covariance, [h, w] in [0, 1];
        None means that all pixels count alike.
      other_opacity: how much each pixel of `other` counts, [h', w'] in [0, 1]; None means that all
        count alike.

    Returns:
      [h, w, 3]; some values may be outside [0, 1].

    Raises:
      TypeError: if a picture is not an array.
      ValueError: for an unknown map; if a picture is not [h, w, 3] or not floating point; or if an
        opacity has not the height and width of its picture.

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.controls import color_moments, with_colors_of
      >>> cat, night = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> moments = color_moments(with_colors_of(night, cat))
      >>> bool(abs(moments.covariance - color_moments(cat).covariance).max() < 1e-4)
      True
    """
    _checks.one_of("color_map", color_map, MAPS, "map of colours")
    own = _moments("picture", picture, "opacity", opacity)
    wanted = _moments("other", other, "other_opacity", other_opacity)
    matrix = MAPS[color_map](own.covariance, wanted.covariance)
    away = _floats("picture", picture) - own.mean[None, None]
    return _product(away, matrix.T) + wanted.mean[None, None]


# --- Luminance and chroma -------------------------------------------------------------------------


def luminance(picture: Other) -> Image:
    """Return the luminance of a picture, Y = .299 R + .587 G + .114 B, as a grey picture.

    Args:
      picture: [h, w, 3].

    Returns:
      [h, w, 3] with three equal channels.

    Raises:
      TypeError: if `picture` is not an array.
      ValueError: if `picture` is not [h, w, 3] or not floating point.
    """
    return _luminance("picture", picture)


def _luminance(argument: str, picture: Other) -> Image:
    """Return the result of `luminance`; `argument` is the picture's name for error messages."""
    picture = _floats(argument, picture)
    grey = jnp.sum(picture * jnp.asarray(LUMA, picture.dtype)[None, None], axis=-1, keepdims=True)
    return jnp.broadcast_to(grey, picture.shape)


def matched_luminance(
    picture: AnyImage,
    other: Other,
    *,
    opacity: Opacity | None = None,
    other_opacity: Opacity | None = None,
) -> Image:
    """Return the luminance of a picture, with the mean and standard deviation of another's luminance.

    Both are matched, as in Gatys and others, "Controlling Perceptual Factors in Neural Style Transfer",
    2017. The authors' notebook, ColourControl.ipynb, matches the mean alone.

    Args:
      picture: [h, w, 3] in [0, 1].
      other: the picture whose mean and standard deviation are taken, [h', w', 3], of any size.
      opacity: how much each pixel of `picture` counts in its mean and deviation, [h, w] in [0, 1];
        None means that all pixels count alike.
      other_opacity: how much each pixel of `other` counts, [h', w'] in [0, 1]; None: all count alike.

    Returns:
      [h, w, 3] with three equal channels; some values may be outside [0, 1].

    Raises:
      TypeError: if a picture is not an array.
      ValueError: if a picture is not [h, w, 3] or not floating point, or if an opacity has not the
        height and width of its picture.
    """
    own, wanted = _luminance("picture", picture), _luminance("other", other)
    _check_opacity("opacity", opacity, "picture", own)
    _check_opacity("other_opacity", other_opacity, "other", wanted)
    mean, wanted_mean = _mean(own, opacity), _mean(wanted, other_opacity)
    away = own - mean[None, None]
    wanted_away = wanted - wanted_mean[None, None]
    variance, wanted_variance = _mean(away**2, opacity), _mean(wanted_away**2, other_opacity)
    ratio = jnp.sqrt((wanted_variance + RIDGE) / (variance + RIDGE))
    return away * ratio[None, None] + wanted_mean[None, None]


def _with_ycbcr_chroma(picture: Image, other: Image) -> Image:
    # In YCbCr, each of R, G and B is Y plus a term of the chroma Cb and Cr. So `other` keeps its chroma
    # and gets the Y of `picture` if the difference of their luminances is added to all three channels.
    return luminance(picture) + (other - luminance(other))


def _with_oklab_chroma(picture: Image, other: Image) -> Image:
    lightness = _oklab(picture)[..., :1]
    linear = linear_of_oklab(jnp.concatenate([lightness, _oklab(other)[..., 1:]], axis=-1))
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(linear <= 0.0031308, 12.92 * linear, curved)


def _oklab(picture: Image) -> Image:
    picture = jnp.clip(picture, 0.0, 1.0)
    curved = ((picture + 0.055) / 1.055) ** 2.4
    linear = jnp.where(picture <= 0.04045, picture / 12.92, curved)
    return oklab_of_linear(jnp.maximum(linear, LEAST_LIGHT))


# Name of a colour space -> function of (picture, other) that returns the picture with the other's
# chroma.
CHROMA_SPACES: Mapping[str, Callable[[Image, Image], Image]] = MappingProxyType(
    {"oklab": _with_oklab_chroma, "ycbcr": _with_ycbcr_chroma}
)


def with_chroma_of(picture: AnyImage, other: Other, space: str = "oklab") -> Image:
    """Return a picture with the light and shade of `picture` and the chroma of `other`.

    Chroma is what a colour has besides its luminance or lightness: hue and saturation.

    Args:
      picture: [h, w, 3] in [0, 1], whose luminance or lightness is kept.
      other: the picture whose chroma is taken, [h, w, 3] in [0, 1], of the same size.
      space: the colour space. With "ycbcr", the result has the luminance Y (of ITU-R BT.601) of
        `picture`, as in published programs. With "oklab", it has the lightness L of `picture` in the
        space OKLab, in which a hue keeps its look when it gets lighter or darker.

    Returns:
      [h, w, 3]; some values may be outside [0, 1], since not every chroma exists at every luminance.

    Raises:
      TypeError: if a picture is not an array.
      ValueError: for an unknown space, for pictures that differ in size, and for a picture that is not
        [h, w, 3] or not floating point.

    References:
      jcjohnson/neural-style, `original_colors`; Ottosson, "A perceptual color space for image
      processing", 2020.
    """
    _checks.one_of("space", space, CHROMA_SPACES, "space of colours")
    ours, others = _floats("picture", picture), _floats("other", other)
    _checks.same_shape("other", others.shape, "picture", ours.shape)
    return CHROMA_SPACES[space](ours, others)
