"""The matting Laplacian: a measure of edges in a picture that are not edges of a photograph.

In each window of 3 x 3 pixels, a picture x is fitted by an affine function of the photograph's colours.
With the Laplacian L of the photograph, xᵀLx is the sum over all windows of the least squared error of
the fit, to which the regularisation ε adds a small penalty on the slopes of the function. So xᵀLx is
near 0 for a picture whose edges are all edges of the photograph, and grows with edges that the
photograph does not have.

References:
  Levin, Lischinski, Weiss, "A Closed-Form Solution to Natural Image Matting", IEEE Transactions on
  Pattern Analysis and Machine Intelligence, 2008, equation 12;
  Luan, Paris, Shechtman, Bala, "Deep Photo Style Transfer", 2017, for its use in style transfer.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Image, Scalar
from nst_jax.controls.guided_filter import solve_symmetric
from nst_jax.losses.sums import at_least_float32

SIDE, COUNT = 3, 9  # side of a window in pixels, and number of pixels in a window

# ε, the regularisation of the fits: ε / COUNT = 1e-4 is added to the variances of a window's colours.
# With this ε, colours whose standard deviation in a window is below 0.01 count as the photograph's
# noise, as for `finishing.EPSILON`. The papers use ε = 1e-7, so small that this noise counts as edges
# of the photograph, and may therefore appear in the result.
EPSILON = COUNT * 1e-4

Windows = Float[Array, "rows columns 9 3"]  # the colours of the pixels in each window


def _windows(picture: Image) -> Windows:
    """Return the pixels of all windows of 3 x 3 pixels that lie wholly inside a picture."""
    height, width, _ = picture.shape
    rows, columns = height - SIDE + 1, width - SIDE + 1
    shifts = [picture[i : i + rows, j : j + columns] for i in range(SIDE) for j in range(SIDE)]
    return jnp.stack(shifts, axis=-2)


def _centred(windows: Windows) -> Windows:
    return windows - jnp.mean(windows, axis=-2, keepdims=True)


def _residuals(picture: AnyImage, photo: AnyImage, epsilon: float) -> tuple[Windows, Windows]:
    """Fit a picture in each window by an affine function of the photograph's colours.

    Return the windows of the picture, each minus its mean colour, and the residuals of the fits.
    `epsilon` is the regularisation, see `laplacian_product`.
    """
    _checks.two_images("picture", picture, "photo", photo, smallest=SIDE)
    _checks.known_number("epsilon", epsilon, above=0)
    found = _centred(_windows(at_least_float32(jnp.asarray(picture))))
    colors = _centred(_windows(at_least_float32(jnp.asarray(photo))))
    covariance = jnp.einsum("yxni,yxnj->yxij", colors, colors, precision="highest") / COUNT
    with_found = jnp.einsum("yxni,yxnj->yxij", colors, found, precision="highest") / COUNT
    ridge = epsilon / COUNT * jnp.eye(3, dtype=covariance.dtype)[None, None]
    slopes = solve_symmetric(covariance + ridge, with_found)
    return found, found - jnp.einsum("yxni,yxij->yxnj", colors, slopes, precision="highest")


def laplacian_product(picture: AnyImage, photo: AnyImage, epsilon: float = EPSILON) -> Image:
    """Return Lx, the product of a photograph's matting Laplacian and a picture.

    The matrix L, which has as many rows and columns as the picture has pixels, is never formed. Each
    channel of the picture is multiplied separately.

    Args:
      picture: the picture x, [h, w, 3], at least 3 px on each side.
      photo: the photograph, [h, w, 3] in [0, 1].
      epsilon: ε, the regularisation: ε / 9 is added to the variances of the photograph's colours in
        each window of 3 x 3 pixels.

    Returns:
      [h, w, 3].

    Raises:
      TypeError: if a picture is not an array, or `epsilon` not a number.
      ValueError: if a picture is not [h, w, 3], not floating point, or too small; if the pictures
        differ in size; and for an `epsilon` that is not more than 0 (a traced value is not checked).

    Example:
      >>> import jax.numpy as jnp
      >>> import nst_jax as nst
      >>> from nst_jax.controls.matting import laplacian_product
      >>> photo = jnp.asarray(nst.images.sample("chelsea")[:32, :32])
      >>> found = laplacian_product(1 - photo, photo, epsilon=1e-7)    # locally affine in the photo
      >>> bool(abs(found).max() < 1e-3)
      True
    """
    _, left = _residuals(picture, photo, epsilon)
    rows, columns = left.shape[:2]
    total = jnp.zeros(picture.shape, left.dtype)
    for index in range(COUNT):
        i, j = divmod(index, SIDE)
        total = total.at[i : i + rows, j : j + columns].add(left[:, :, index])
    return total


def matting_energy(
    picture: AnyImage,
    photo: AnyImage,
    epsilon: float = EPSILON,
    *,
    counted: Bool[Array, "_ _"] | None = None,
) -> Scalar:
    """Return xᵀLx for a picture x and a photograph's matting Laplacian L, summed over channels.

    The gradient of this sum with respect to x is 2Lx.

    Args:
      picture: the picture x, [h, w, 3], at least 3 px on each side.
      photo: the photograph that has the matting Laplacian L, [h, w, 3] in [0, 1].
      epsilon: ε, the regularisation: ε / 9 is added to the variances of the photograph's colours in
        each window of 3 x 3 pixels.
      counted: for each window, whether it counts: [h - 2, w - 2], or [h - 2, 1] with one value for each
        row of windows. None means that all windows count. This has two uses. If several devices share a
        picture, each counts the windows that begin in its band of rows, and the sum over the devices is
        the energy of the picture. If a picture lies in a larger array, windows that are not wholly
        inside the picture are left out.

    Returns:
      A number that is 0 or more.

    Raises:
      TypeError, ValueError: as in `laplacian_product`.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import matting_energy
      >>> step = jnp.zeros((6, 6, 3)).at[:, 3:].set(1.0)
      >>> own, across = matting_energy(step, step), matting_energy(step.swapaxes(0, 1), step)
      >>> bool(own < 0.1), bool(across > 10)
      (True, True)
    """
    found, left = _residuals(picture, photo, epsilon)
    _checks.not_keys("counted", counted, "an array of True and False")
    if counted is None:
        return jnp.sum(found * left)
    return jnp.sum(jnp.where(counted[:, :, None, None], found * left, 0))
