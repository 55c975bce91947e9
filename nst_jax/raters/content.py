"""Raters of content: how much of a photograph is still seen in a picture of the same size."""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Scalar
from nst_jax.feed_forward.layers import conv2d
from nst_jax.losses import at_least_float32
from nst_jax.raters.checks import check_features, check_pair
from nst_jax.vgg.precision import FLOAT32

Plane: TypeAlias = Float[Array, "h w"]

Filtered: TypeAlias = Float[Array, "h_new w_new"]

# Weights of red, green and blue in the luma, from the standard ITU-R BT.601; their sum is 1.
REC_601 = (0.299, 0.587, 0.114)


def luma(image: AnyImage) -> Plane:
    """Return the luma (brightness) of a picture: a weighted sum of its sRGB channels.

    The weights are those of the standard ITU-R BT.601, also called Rec. 601.

    Args:
      image: [h, w, 3] sRGB in [0, 1].

    Returns:
      [h, w], from 0 for black to 1 for white.

    Raises:
      TypeError: if `image` has random keys of JAX.
    """
    _checks.not_keys("image", image, "an array [height, width, 3]")
    x = at_least_float32(jnp.asarray(image))
    return jnp.matmul(x, jnp.asarray(REC_601, x.dtype), precision=FLOAT32.products)


def _convolved(x: Plane, down: np.ndarray, across: np.ndarray) -> Filtered:
    """Filter a plane along both axes with weights `down` [n] and `across` [m], without any padding."""
    kernels = down.reshape(-1, 1, 1, 1), across.reshape(1, -1, 1, 1)
    y = x[..., None]
    for kernel in kernels:
        y = conv2d(y, jnp.asarray(kernel, x.dtype))
    return y[..., 0]


def _gaussian(deviation: float, radius: int) -> np.ndarray:
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / deviation) ** 2)
    return weights / weights.sum()


# --- Structural similarity ------------------------------------------------------------------------

# Constants of the paper on SSIM, cited in `ssim`: the weights of a Gaussian window of 11 px along one
# axis, and two small numbers whose squares keep denominators away from 0.
WINDOW = _gaussian(1.5, 5)
K1, K2 = 0.01, 0.03


def ssim(picture: AnyImage, content: AnyImage) -> Scalar:
    """Return the mean structural similarity (SSIM) of the lumas of two pictures.

    The constants are those of the paper: Gaussian windows of 11 x 11 px with a standard deviation of
    1.5 px, K1 = 0.01 and K2 = 0.03, for lumas from 0 to 1. Windows that extend past the picture are
    left out. The pictures are compared at their own size, whereas the authors' later code first reduces
    large pictures to a shorter side of about 256 px.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 11 px on each side.
      content: the picture with which `picture` is compared, of the same shape.

    Returns:
      A scalar: 1 for equal pictures, about 0 for unrelated pictures, negative for inverted contrast.

    Raises:
      TypeError: if a picture is not an array.
      ValueError: if a picture is not [h, w, 3], not floating point, or too small; or if the pictures
        differ in size.

    Example:
      >>> import nst_jax as nst
      >>> from nst_jax.raters import ssim
      >>> cat = nst.images.sample("chelsea")[100:164, 150:214]
      >>> round(float(ssim(cat, cat)), 4), float(ssim(1 - cat, cat)) < 0
      (1.0, True)

    References:
      Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
      similarity", 2004.
    """
    check_pair(picture, content, smallest=len(WINDOW))
    x, y = luma(picture), luma(content)
    mean_x, mean_y, square_x, square_y, product = (
        _convolved(plane, WINDOW, WINDOW) for plane in (x, y, x * x, y * y, x * y)
    )
    c1, c2 = K1**2, K2**2
    covariance = product - mean_x * mean_y
    variances = square_x - mean_x**2 + square_y - mean_y**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return jnp.mean(similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2)))


# --- Edges ----------------------------------------------------------------------------------------

# The e in the formula of `gradient_agreement`, by which smaller gradients hardly count. It is the
# gradient of a luma that changes by one 8-bit level from one pixel to the next; the direction of a
# smaller gradient is not reliable.
FLAT = 1 / 255


def gradient_agreement(picture: AnyImage, content: AnyImage, *, deviation: float = 2.0) -> Scalar:
    """Return how well a picture preserves the directions of a photograph's edges.

    At each pixel, let x be the gradient of the picture's luma, and c the gradient of the photograph's
    luma. The value is the mean squared cosine of the angle between x and c, weighted by the length
    of c: mean(|c| cos²(x, c)) / mean(|c|). So an edge whose contrast is inverted in the picture counts
    as much as any other edge, and the strength of an edge in the picture hardly matters. The squared
    cosine is computed as <x, c>² / (|x|² + e²) / (|c|² + e²), where e = 1/255 makes it nearly 0 in
    areas without edges.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least as large as the filter: `8 * deviation + 2` px on each
        side are always enough.
      content: the photograph, of the same shape.
      deviation: standard deviation in px of the Gaussian whose derivatives give the gradients. It
        smooths away finer edges. Static under `jax.jit`.

    Returns:
      A scalar: nearly 1 for equal pictures, about 1/2 for unrelated textures, about 0 if one of
      the two pictures is uniform.

    Raises:
      TypeError: if a picture is not an array, or `deviation` not a number.
      ValueError: if a picture is not [h, w, 3], not floating point, or too small; if the pictures
        differ in size; or if `deviation` is not more than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import gradient_agreement
      >>> edge = jnp.zeros((32, 32, 3)).at[:, 16:].set(1.0)
      >>> turned = edge.transpose(1, 0, 2)
      >>> [round(float(gradient_agreement(x, edge)), 1) for x in (edge, 1 - edge, turned)]
      [1.0, 1.0, 0.0]

    References:
      Haber, Modersitzki, "Intensity gradient based registration and fusion of multi-modal images",
      2006, whose normalised gradient fields are compared here.
    """
    _checks.number("deviation", deviation, above=0)
    radius = int(4 * deviation + 0.5)
    check_pair(picture, content, smallest=2 * radius + 1)
    smooth = _gaussian(deviation, radius)
    slope = smooth * np.arange(-radius, radius + 1) / deviation**2
    x, c = (
        (_convolved(plane, slope, smooth), _convolved(plane, smooth, slope))
        for plane in (luma(picture), luma(content))
    )
    inner = x[0] * c[0] + x[1] * c[1]
    square_x, square_c = x[0] ** 2 + x[1] ** 2, c[0] ** 2 + c[1] ** 2
    cosine = inner**2 / ((square_x + FLAT**2) * (square_c + FLAT**2))
    length = jnp.sqrt(square_c)
    # Instead of dividing 0 by 0, divide by a tiny number: a photograph without edges gives 0, not NaN.
    tiny = float(jnp.finfo(length.dtype).tiny)
    return jnp.sum(length * cosine) / jnp.maximum(jnp.sum(length), tiny)


# --- Self-similarity ------------------------------------------------------------------------------

# Number of positions of the feature maps that are compared with all positions in one step. A larger
# number needs more memory.
ROWS = 512


def self_similarity_divergence(
    picture: Float[Array, "h w c"], content: Float[Array, "h w c"]
) -> Scalar:
    """Return how much two pictures differ in self-similarity: in which of their parts look alike.

    This measure is called the content feature structural distance (CFSD). For each position of the
    features, the inner products of its feature vector with the feature vectors of all positions are
    turned into probabilities by a softmax. The value is the Kullback-Leibler divergence
    KL(content || picture) of these probabilities, averaged over positions. So what counts is which
    parts of a picture look alike, not what they look like.

    There are two departures from the authors' code. That code sums over positions; here the mean is
    taken, so that the value does not grow with the size of the picture. That code divides features by
    the number of channels. Here, the features of both pictures are divided by the root mean square
    length of the content's feature vectors: a softmax depends on the size of activations, which differs
    between files of VGG-19's weights.

    Args:
      picture: features of the picture, [h, w, c], at one tap (layer); the authors use `relu3_1`.
      content: features of the content at the same tap, of the same shape.

    Returns:
      The divergence, a scalar in nats: 0 for equal features.

    Raises:
      TypeError: if `picture` or `content` is not an array.
      ValueError: if they are not [h, w, c], or differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import self_similarity_divergence
      >>> maps = jnp.arange(24.0).reshape(3, 4, 2)
      >>> float(self_similarity_divergence(maps, maps))
      0.0
      >>> float(self_similarity_divergence(maps[::-1], maps)) > 0
      True

    References:
      Chung, Hyun, Heo, "Style Injection in Diffusion: A Training-free Approach for Adapting
      Large-scale Diffusion Models for Style Transfer", 2024; github.com/jiwoogit/StyleID,
      evaluation/image_metrics.py, `PatchSimi`.
    """
    check_features(picture=picture, content=content)
    _checks.same_shape("content", content.shape, "picture", picture.shape)
    x, c = (at_least_float32(f).reshape(-1, f.shape[-1]) for f in (picture, content))
    mean_square = jnp.mean(jnp.sum(jnp.square(c), axis=-1))
    scale = lax.rsqrt(jnp.maximum(mean_square, float(jnp.finfo(c.dtype).tiny)))
    x, c = x * scale, c * scale

    def divergence(rows: tuple[Array, Array]) -> Array:
        log_x, log_c = (
            nn.log_softmax(jnp.matmul(all_, row, precision=FLOAT32.products))
            for row, all_ in zip(rows, (x, c), strict=True)
        )
        return jnp.sum(jnp.exp(log_c) * (log_c - log_x))

    # `ROWS` positions are handled at a time, since the inner products of all pairs of positions would
    # take gigabytes of memory for a picture of 512 px.
    mean = jnp.mean(lax.map(divergence, (x, c), batch_size=min(ROWS, len(x))))
    return jnp.maximum(mean, 0)  # a Kullback-Leibler divergence can be negative only by rounding
