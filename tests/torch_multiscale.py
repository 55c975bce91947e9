"""Functions that the PyTorch programs of methods that paint coarse to fine share.

Nothing here is shared with the package. Taps are those of VGG-19, since its weights are at hand; the
sources run on VGG-16, whose taps have the same names.
"""

import torch
from torch.nn import functional

MEAN = (123.68, 116.779, 103.939)  # RGB, as the weights of Caffe expect
BLOCKS = (2, 2, 4, 4, 4)  # the number of convolutions of each block


def features(weights, picture, taps):
    """Return the activations of taps, such as `"r43"` for relu4_3, in the network's order.

    Args:
      weights: pairs (kernel, bias) of VGG-19.
      picture: [1, 3, h, w] in [0, 1].
      taps: names of taps; later convolutions than theirs are not computed.
    """
    mean = torch.tensor(MEAN, dtype=picture.dtype).view(1, 3, 1, 1)
    x, found, index = (picture * 255 - mean).flip(1), [], 0
    for block, convolutions in enumerate(BLOCKS, 1):
        for convolution in range(1, convolutions + 1):
            x = functional.relu(functional.conv2d(x, *weights[index], padding=1))
            index += 1
            if f"r{block}{convolution}" in taps:
                found.append(x)
            if len(found) == len(taps):
                return found
        x = functional.max_pool2d(x, 2)
    raise ValueError(f"VGG-19 has not all of the taps {taps}")


def as_picture(array, dtype):
    """Return an array [h, w, 3] as a tensor [1, 3, h, w]."""
    return torch.tensor(array, dtype=dtype).permute(2, 0, 1)[None]


def resized(picture, size):
    return functional.interpolate(picture, size, mode="bilinear", align_corners=False)


def pyramid(picture, levels):
    """Return the Laplacian pyramid: the details lost by each halving, and the smallest picture."""
    found = []
    for _ in range(levels):
        size = picture.shape[2:]
        half = resized(picture, (max(1, size[0] // 2), max(1, size[1] // 2)))
        found.append(picture - resized(half, size))
        picture = half
    return [*found, picture]


def collapsed(levels):
    """Return the picture of a Laplacian pyramid."""
    picture = levels[-1]
    for detail in reversed(levels[:-1]):
        picture = detail + resized(picture, detail.shape[2:])
    return picture
