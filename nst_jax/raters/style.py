"""Raters of style: distances of two pictures' style vectors, Gram matrices and Gaussians.

The two pictures are the one that is rated and the style picture. Style vectors are predicted by the
feed-forward network `arbitrary`. Gram matrices, and Gaussians with the features' mean and covariance,
are computed from VGG-19's features at one tap (layer). Their distance is divided by the distance that a
rated picture would have if its features were all zero. So values at different taps can be compared:
0 means equal Gram matrices or Gaussians, and 1 is the value of a picture whose features are all zero.
"""

import math
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Image, Params, Scalar
from nst_jax.feed_forward.arbitrary import style_vector
from nst_jax.feed_forward.transformer import SMALLEST
from nst_jax.images.resizing import antialiased
from nst_jax.losses import at_least_float32, gram, positions
from nst_jax.raters.checks import check_features, check_picture, check_predictor
from nst_jax.vgg.precision import FLOAT32

# A style picture, sRGB in [0, 1]; its size may differ from that of the picture that is rated.
AnyStyle: TypeAlias = Float[Array | np.ndarray, "h_style w_style 3"]

PictureFeatures: TypeAlias = Float[Array, "h w c"]  # VGG-19's features of a picture at one tap

# VGG-19's features of a style picture at the same tap; its size may differ from the other picture's.
StyleFeatures: TypeAlias = Float[Array, "h_style w_style c"]


# --- Style vectors --------------------------------------------------------------------------------


def style_vector_distance(
    predictor: Params, picture: AnyImage, style: AnyStyle, *, side: int | None = 256
) -> Scalar:
    """Return the Euclidean distance of two pictures' style vectors.

    A style vector has 100 numbers. It is predicted by a network of Magenta's arbitrary stylization,
    which was trained on squares of 256 px and takes notice of finer detail in larger pictures. So a
    distance measured on large pictures cannot be compared with one measured on small pictures. By
    default, therefore, if `picture` has a larger area than a square of 256 px, both pictures are first
    reduced by the factor that gives `picture` the area of this square.

    Args:
      predictor: weights from `feed_forward.load_arbitrary`.
      picture: [h, w, 3] sRGB in [0, 1].
      style: [h_style, w_style, 3] sRGB in [0, 1]. Resize it beforehand to about the size of `picture`,
        such as to the same longer side, so that detail is equally fine in both.
      side: side in px of the square to whose area a larger `picture` is reduced; None compares the
        pictures without reducing them. Static under `jax.jit`.

    Returns:
      The distance, a scalar.

    Raises:
      TypeError: if `predictor` is not a `Params`, a picture not an array, or `side` not a number.
      ValueError: if the weights are of another network; if a picture is not [h, w, 3] or not floating
        point, or has a side under 16 px; or if `side` is not more than 0.

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.raters import style_vector_distance
      >>> predictor = nst.feed_forward.load_arbitrary()
      >>> cat, painting = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> float(style_vector_distance(predictor, cat[:64, :64], cat[:64, :64]))
      0.0
      >>> float(style_vector_distance(predictor, cat[:64, :64], painting[:64, :64])) > 1
      True

    References:
      Ghiasi, Lee, Kudlur, Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural
      artistic stylization network", 2017, section 3.2, for distances of such vectors.
    """
    check_predictor(predictor)
    for argument, image in (("picture", picture), ("style", style)):
        check_picture(argument, image, smallest=SMALLEST, needs="the network needs")
    if side is not None:
        _checks.number("side", side, above=0)
    pair = [at_least_float32(jnp.asarray(image)) for image in (picture, style)]
    if side is not None:
        factor = side / math.sqrt(picture.shape[-3] * picture.shape[-2])
        if factor < 1:
            pair = [antialiased(image, _times(image, factor)) for image in pair]
    ours, theirs = (style_vector(predictor, image, precision=FLOAT32) for image in pair)
    return jnp.sqrt(jnp.sum(jnp.square(ours - theirs), axis=-1))


def _times(image: Image, factor: float) -> tuple[int, int]:
    height, width = (max(SMALLEST, round(n * factor)) for n in image.shape[-3:-1])
    return height, width


# --- Statistics of features -----------------------------------------------------------------------


def gram_distance(picture: PictureFeatures, style: StyleFeatures) -> Scalar:
    """Return the relative distance of two Gram matrices: |G - G_style| / |G_style|.

    G is the Gram matrix of the picture, [c, c]: the mean over positions of the products of all pairs of
    feature maps. G_style is the Gram matrix of the style. |.| is the Frobenius norm.

    Args:
      picture: features of the picture at one tap (layer), [h, w, c].
      style: features of the style at the same tap, [h_style, w_style, c].

    Returns:
      The distance, a scalar: 0 for equal matrices, 1 for a picture whose features are all zero.

    Raises:
      TypeError: if `picture` or `style` is not an array.
      ValueError: if they are not [h, w, c], or differ in the number of channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import gram_distance
      >>> maps = jnp.ones((4, 4, 3))
      >>> float(gram_distance(maps, maps)), float(gram_distance(0 * maps, maps))
      (0.0, 1.0)

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, for the Gram matrix.
    """
    check_features(picture=picture, style=style)
    ours, theirs = (gram(x) / float(positions(x)) for x in map(at_least_float32, (picture, style)))
    return _ratio(jnp.sum(jnp.square(ours - theirs)), jnp.sum(jnp.square(theirs)))


def wasserstein_distance(picture: PictureFeatures, style: StyleFeatures) -> Scalar:
    """Return the relative Wasserstein-2 distance of two Gaussians that are fitted to features.

    Let m and C be the mean and the covariance, over positions, of the picture's features, and m_s and
    C_s those of the style's features. The Gaussians have these means and covariances. The square of
    their distance is |m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½). The distance is divided by the
    distance of the style's Gaussian from the point 0, whose square is |m_s|² + tr C_s.

    If this formula were computed as it stands, the traces would nearly cancel for similar Gaussians,
    and the root of a matrix would be taken that may be singular. So the trace is computed in another
    way. Let R and R_s be matrices with RᵀR = C and R_sᵀR_s = C_s. The trace is the least value of
    |R - Q R_s|² over all orthogonal matrices Q (the orthogonal Procrustes problem). This value is a sum
    of squares, in which nothing cancels. Since R and R_s come from QR decompositions of the features,
    no covariance matrix is computed.

    Args:
      picture: features of the picture at one tap (layer), [h, w, c].
      style: features of the style at the same tap, [h_style, w_style, c].

    Returns:
      The distance, a scalar: 0 for equal Gaussians, 1 for a picture whose features are all zero.

    Raises:
      TypeError: if `picture` or `style` is not an array.
      ValueError: if they are not [h, w, c], or differ in the number of channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import wasserstein_distance
      >>> maps = jnp.arange(16.0).reshape(4, 4, 1)
      >>> float(wasserstein_distance(maps, maps)), float(wasserstein_distance(0 * maps, maps))
      (0.0, 1.0)

    References:
      Olkin, Pukelsheim, "The distance between two random vectors with given dispersion matrices", 1982;
      Bhatia, Jain, Lim, "On the Bures–Wasserstein distance between positive definite matrices", 2019,
      theorem 1, for the trace as a Procrustes problem.
    """
    check_features(picture=picture, style=style)
    ours, our_mean = _factor(at_least_float32(picture))
    theirs, their_mean = _factor(at_least_float32(style))
    exact = FLOAT32.products
    left, _, right = jnp.linalg.svd(jnp.matmul(ours, theirs.T, precision=exact))
    turned = jnp.matmul(jnp.matmul(left, right, precision=exact), theirs, precision=exact)
    squared = jnp.sum(jnp.square(ours - turned)) + jnp.sum(jnp.square(our_mean - their_mean))
    return _ratio(squared, jnp.sum(jnp.square(theirs)) + jnp.sum(jnp.square(their_mean)))


def _factor(features: PictureFeatures) -> tuple[Float[Array, "c c"], Float[Array, " c"]]:
    """Return a factor R [c, c] of the covariance of features [h, w, c], and the features' mean [c].

    R is upper triangular, and RᵀR is the covariance. `wasserstein_distance` uses R in place of the
    covariance: with covariances, it would subtract nearly equal traces for similar Gaussians, and the
    rounding errors would be large.
    """
    x = features.reshape(-1, features.shape[-1])
    mean = jnp.mean(x, axis=0)
    triangle = jnp.linalg.qr(x - mean[None], mode="r") / math.sqrt(len(x))
    # With fewer positions than channels, R has fewer than c rows; rows of zeros are added.
    missing = x.shape[-1] - len(triangle)
    return jnp.pad(triangle, ((0, missing), (0, 0))), mean


def _ratio(squared: Scalar, squared_size: Scalar) -> Scalar:
    """Return sqrt(squared / squared_size), a distance relative to a size; 0 if the distance is 0."""
    return jnp.where(squared == 0, 0, jnp.sqrt(squared / squared_size))
