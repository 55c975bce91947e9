"""An independent VGG-19, its losses and TensorFlow's resize, in NumPy and float64.

Nothing is shared with the package, so that a mistake there is not repeated here.
"""

import numpy as np
from scipy.signal import correlate

CONVOLUTIONS = (2, 2, 4, 4, 4)
MEANS_BGR = (103.939, 116.779, 123.68)


def convolve(x, kernel, bias, padding):
    """Correlate [h, w, i] with [3, 3, i, o] at every pixel, as nine matrix products."""
    height, width, _ = x.shape
    wide = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=padding)
    y = np.zeros((height, width, kernel.shape[-1]))
    for dy in range(3):
        for dx in range(3):
            y += wide[dy : dy + height, dx : dx + width] @ kernel[dy, dx]
    return y + bias


def convolve_by_scipy(x, kernel, bias):
    """The same with zero padding, one scipy correlation per pair of channels."""
    planes = [
        sum(correlate(x[..., i], kernel[..., i, o], mode="same") for i in range(x.shape[-1]))
        for o in range(kernel.shape[-1])
    ]
    return np.stack(planes, -1) + bias


def pool(x, kind, ceil):
    """Reduce 2 x 2 windows; NaN marks positions outside the picture."""
    height, width, channels = x.shape
    if ceil:
        edges = ((0, height % 2), (0, width % 2), (0, 0))
        x = np.pad(x, edges, constant_values=np.nan)
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    windows = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, channels)
    axes = (1, 3)
    if kind == "l2":  # 0.78 |x|, a missing pixel counting as the mean of the others
        return 0.78 * np.sqrt(4 * np.nanmean(windows**2, axis=axes))
    if kind == "scaled_average":
        return 2 * np.nanmean(windows, axis=axes)
    return {"max": np.nanmax, "average": np.nanmean}[kind](windows, axis=axes)


def pixels(image, kind="caffe-bgr"):
    """Convert sRGB in [0, 1] to the pixels of the original network, or return it unchanged."""
    image = np.asarray(image, np.float64)
    return image[..., ::-1] * 255 - np.array(MEANS_BGR) if kind == "caffe-bgr" else image


def features(params, x, *, kind="max", ceil=False, padding="constant", deepest=None):
    """Return every tap of a picture [h, w, 3] in network pixels, before and after its ReLU."""
    found = {}
    for block, count in enumerate(CONVOLUTIONS, 1):
        for index in range(1, count + 1):
            layer = params.layers[f"conv{block}_{index}"]
            kernel, bias = (np.asarray(layer[k], np.float64) for k in ("kernel", "bias"))
            mode = padding
            if padding == "edge first":
                mode = "edge" if block == index == 1 else "constant"
            found[f"preact{block}_{index}"] = x = convolve(x, kernel, bias, mode)
            found[f"relu{block}_{index}"] = x = np.maximum(x, 0)
            if f"relu{block}_{index}" == deepest:
                return found
        if block < len(CONVOLUTIONS):
            x = pool(x, kind, ceil)
    return found


def raw_gram(f):
    """R = F Fᵀ of features [h, w, n] written as n rows."""
    rows = f.reshape(-1, f.shape[-1]).T
    return rows @ rows.T


def paper_style_loss(canvas, style):
    """E = sum(dR²) / (4 N² M²), the style's R scaled to the canvas' number of positions."""
    n, m = canvas.shape[-1], canvas[..., 0].size
    difference = raw_gram(canvas) - raw_gram(style) * (m / style[..., 0].size)
    return np.sum(difference**2) / (4 * n**2 * m**2)


def total_variation(image):
    """Return the sum of |dy| + |dx|, one pixel at a time."""
    height, width, _ = image.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            if y + 1 < height:
                total += np.abs(image[y + 1, x] - image[y, x]).sum()
            if x + 1 < width:
                total += np.abs(image[y, x + 1] - image[y, x]).sum()
    return total


def bilinear(image, shape):
    """Sample at half-pixel centres between the two nearest pixels; no antialiasing."""

    def along(length, new):
        centre = np.clip((np.arange(new) + 0.5) * length / new - 0.5, 0, length - 1)
        low = np.minimum(centre.astype(int), max(length - 2, 0))
        return low, np.minimum(low + 1, length - 1), centre - low

    (y0, y1, fy), (x0, x1, fx) = (along(*pair) for pair in zip(image.shape[:2], shape, strict=True))
    fy, fx = fy[:, None, None], fx[None, :, None]
    top = image[y0][:, x0] * (1 - fx) + image[y0][:, x1] * fx
    bottom = image[y1][:, x0] * (1 - fx) + image[y1][:, x1] * fx
    return top * (1 - fy) + bottom * fy
