"""Style transfers beyond Gram matrices, reimplemented in PyTorch as their sources write them.

Nothing here is shared with the package: pictures come in as 8-bit arrays, weights and random
directions as arrays; sizes, filters, network, losses and update rules are the sources' own.
`torch_recipes.py` has the sources that compare Gram matrices at one scale; this module takes from it
how arrays become tensors.

A run returns a `Run`: the weighted losses of every canvas that the source evaluates, and the picture
that it would save. The dtype is that of the weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from tests.torch_recipes import Pixels, batch, keras_adam, to_tensor


class Run(NamedTuple):
    """What a source computed."""

    losses: list[tuple[float, float, float, float]]  # total, content, style, variation, in order
    picture: Pixels  # [h, w, 3] in [0, 1]


def perturbed(image, relative):
    """Return an image whose pixels are changed by this relative amount, up or down by chance."""
    signs = np.random.default_rng(0).choice((-1.0, 1.0), tuple(image.shape))
    return image * (1 + relative * torch.tensor(signs, dtype=image.dtype))


BLOCKS = (2, 2, 4, 4, 4)  # convolutions between the poolings of VGG-19


def activations(weights, x, wanted, *, pool, paddings):
    """Return the output of each wanted convolution or ReLU, by names such as `c42` and `r41`.

    Args:
      weights: pairs (kernel, bias), conv1_1 first.
      x: the network's pixels [1, 3, h, w].
      wanted: names; the network is computed up to the last of them.
      pool: what halves the sides between the blocks.
      paddings: how the first convolution is padded, and how every other one is.
    """
    found, index = {}, 0
    for block, convolutions in enumerate(BLOCKS, 1):
        if block > 1:
            x = pool(x)
        for convolution in range(1, convolutions + 1):
            mode = paddings[min(index, 1)]
            x = functional.pad(x, (1, 1, 1, 1), mode=mode)
            before = functional.conv2d(x, *weights[index])
            x = functional.relu(before)
            index += 1
            for kind, output in (("c", before), ("r", x)):
                if (name := f"{kind}{block}{convolution}") in wanted:
                    found[name] = output
            if len(found) == len(set(wanted)):
                return found
    raise ValueError(f"VGG-19 has not all of {wanted}")


# --- crowsonkb ------------------------------------------------------------------------------------
# crowsonkb/style-transfer-pytorch @ e7e2c713, with its Adam

CROWSONKB_CONTENT = "r42"
CROWSONKB_STYLE = {
    "r11": 256 / 341,
    "r21": 64 / 341,
    "r31": 16 / 341,
    "r41": 4 / 341,
    "r51": 1 / 341,
}
ROOT_STEPS = 12
ADDED_VARIANCE = 1e-4


def crowsonkb_sides(picture, longest, *, enlarge):
    """Return (width, height) of a picture whose longer side becomes `longest`.

    Without `enlarge`, a smaller picture keeps its size.
    """
    height, width, _ = picture.shape
    if not enlarge and max(height, width) <= longest:
        return width, height
    if height > width:
        return round(longest * width / height), longest
    return longest, round(longest * height / width)


def crowsonkb_scales(smallest, size):
    """Return the longer sides, coarse to fine: size / sqrt(2)^k, rounded, none below `smallest`."""
    found, k = [], 0
    while (side := round(size / 2 ** (k / 2))) >= min(smallest, size):
        found.append(side)
        k += 1
    return sorted(set(found))


def crowsonkb_resized(picture, sides):
    """Return an 8-bit picture resized by Pillow's bicubic filter, as float32 in [0, 1]."""
    return to_tensor(np.asarray(Image.fromarray(picture).resize(sides, Image.Resampling.BICUBIC)))


def crowsonkb_pictures(content, styles, smallest, size, *, style_scale=1.0, style_size=None):
    """Return (content, styles) for every scale, as the network of that scale gets them."""
    return [
        (
            crowsonkb_resized(content, crowsonkb_sides(content, scale, enlarge=True)),
            [
                crowsonkb_resized(
                    style,
                    crowsonkb_sides(style, style_size or round(scale * style_scale), enlarge=False),
                )
                for style in styles
            ],
        )
        for scale in crowsonkb_scales(smallest, size)
    ]


class Root(torch.autograd.Function):
    """The root of a symmetric positive matrix by Newton and Schulz, differentiated by iteration too."""

    @staticmethod
    def forward(ctx, matrix):
        size = torch.linalg.matrix_norm(matrix)
        three = 3 * torch.eye(len(matrix), dtype=matrix.dtype)
        root, inverse = matrix / size, three / 3
        for _ in range(ROOT_STEPS):
            factor = (three - inverse @ root) / 2
            root, inverse = root @ factor, factor @ inverse
        root = root * size.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, gradient):
        # Solves root X + X root = gradient for X.
        (root,) = ctx.saved_tensors
        size = torch.linalg.matrix_norm(root)
        three = 3 * torch.eye(len(root), dtype=root.dtype)
        a, q = root / size, gradient / size
        for _ in range(ROOT_STEPS):
            b = three - a @ a
            q = (q @ b - a.T @ (a.T @ q - q @ a)) / 2
            a = a @ b / 2
        return q / 2


def moments(features):
    """Return the mean [c] and the second raw moment [c, c] over the positions of [1, c, h, w]."""
    flat = features[0].flatten(1)
    return flat.mean(1), flat @ flat.T / flat.shape[1]


def wasserstein_target(blended):
    """Return the mean, the covariance and its root for blended moments."""
    mean, second = blended
    covariance = second - torch.outer(mean, mean)
    covariance = covariance + ADDED_VARIANCE * torch.eye(len(mean), dtype=mean.dtype)
    return mean, covariance, Root.apply(covariance)


def wasserstein(features, target):
    """Return the squared distance of two Gaussians, averaged over the channels."""
    wanted_mean, wanted, root = target
    mean, covariance, _ = wasserstein_target(moments(features))
    between = Root.apply(root @ covariance @ root)
    spread = torch.diagonal(wanted + covariance - 2 * between).mean()
    return (mean - wanted_mean).square().mean() + spread


def nine_point_variation(image):
    """Return twice the weighted mean squares of differences to the right, down, and along diagonals."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    here = padded[..., 1:-1, 1:-1]
    right = padded[..., 1:-1, 2:] - here
    below = padded[..., 2:, 1:-1] - here
    falling = padded[..., 1:, 1:] - padded[..., :-1, :-1]
    rising = padded[..., 1:, :-1] - padded[..., :-1, 1:]
    straight = right.square().mean() + below.square().mean()
    diagonal = falling.square().mean() + rising.square().mean()
    return 2 * (straight / 3 + diagonal / 12)


class Average:
    """A decaying average of pictures, corrected for its start at zero; the first picture counts."""

    def __init__(self, image, decay):
        self.decay, self.total, self.missing = decay, torch.zeros_like(image), 1.0
        self.add(image)

    def add(self, image):
        self.total = self.decay * self.total + (1 - self.decay) * image.detach()
        self.missing *= self.decay

    def value(self):
        return self.total / (1 - self.missing)


def crowsonkb_losses(weights, content, styles, shares, content_tap, style_taps):
    """Return a function from an image [1, 3, h, w] to its weighted losses."""
    dtype = weights[0][0].dtype
    mean = torch.tensor((0.485, 0.456, 0.406), dtype=dtype)[:, None, None]
    deviation = torch.tensor((0.229, 0.224, 0.225), dtype=dtype)[:, None, None]

    def features(image):
        return activations(
            weights,
            (image - mean) / deviation,
            (content_tap, *style_taps),
            pool=lambda x: functional.max_pool2d(x, 2),
            paddings=("replicate", "constant"),
        )

    wanted_content = features(batch(content, weights))[content_tap]
    of_styles = [features(batch(style, weights)) for style in styles]
    targets = {}
    for name in style_taps:
        parts = [moments(found[name]) for found in of_styles]
        blended = [
            sum(share / sum(shares) * part for share, part in zip(shares, column, strict=True))
            for column in zip(*parts, strict=True)
        ]
        targets[name] = wasserstein_target(blended)

    def losses(image):
        found = features(image)
        content_loss = 0.015 * functional.mse_loss(found[content_tap], wanted_content)
        style_loss = sum(
            weight / sum(style_taps.values()) * wasserstein(found[name], targets[name])
            for name, weight in style_taps.items()
        )
        variation = 2.0 * nine_point_variation(image)
        return content_loss + style_loss + variation, content_loss, style_loss, variation

    return losses


def crowsonkb(
    weights,
    pictures,
    updates,
    *,
    shares=(1.0,),
    content_tap=CROWSONKB_CONTENT,
    style_taps=CROWSONKB_STYLE,
    perturbation=0.0,
):
    """Adam from coarse to fine, with its moments; each scale starts from the average of the last.

    Args:
      weights: of VGG-19.
      pictures: (content, styles) of each scale, from `crowsonkb_pictures`.
      updates: number of updates at each scale.
      shares: weights of the styles.
      content_tap: the ReLU of the content loss.
      style_taps: weights of the ReLUs of the style loss.
      perturbation: relative change of the start's pixels.
    """
    losses_found, old = [], None
    image = perturbed(batch(pictures[0][0], weights), perturbation)
    for (content, styles), count in zip(pictures, updates, strict=True):
        shape = content.shape[:2]
        image = functional.interpolate(image, shape, mode="bicubic").clamp(0, 1)
        average = Average(image, 0.99)
        image.requires_grad_(True)
        losses = crowsonkb_losses(weights, content, styles, shares, content_tap, style_taps)
        adam = torch.optim.Adam([image], lr=0.02, betas=(0.9, 0.99), eps=1e-8)
        if old is not None:
            adam.state[image] = {
                "step": old["step"],
                "exp_avg": functional.interpolate(old["exp_avg"], shape, mode="bicubic"),
                "exp_avg_sq": functional.interpolate(
                    old["exp_avg_sq"], shape, mode="bilinear"
                ).clamp(min=0),
            }
        for _ in range(count):
            adam.zero_grad()
            found = losses(image)
            found[0].backward()
            adam.step()
            with torch.no_grad():
                image.clamp_(0, 1)
            average.add(image)
            losses_found.append(tuple(loss.item() for loss in found))
        old, image = adam.state[image], average.value()
    return Run(losses_found, image[0].permute(1, 2, 0).clamp(0, 1).numpy())


# --- sliced-wasserstein ---------------------------------------------------------------------------
# tchambon/A-Sliced-Wasserstein-Loss-for-Neural-Texture-Synthesis @ 491ee6db,
# texture_optimization_slicing.py

SLICED = ("r11", "r12", "r21", "r22", "r31", "r32", "r33", "r34", "r41", "r42", "r43", "r44")
ROUND = 64  # evaluations in one step of torch's L-BFGS

Directions = Callable[
    [int, str, int], np.ndarray
]  # evaluation, ReLU, c -> [c, c], rows of length 1


def sliced_features(weights, image):
    """Return the activations of all twelve ReLUs of an RGB image in [0, 1], as [c, positions]."""
    mean = torch.tensor((103.939, 116.779, 123.68), dtype=image.dtype)[:, None, None]
    found = activations(
        weights,
        255 * image.flip(1) - mean,
        SLICED,
        pool=lambda x: functional.avg_pool2d(x, 2),
        paddings=("reflect", "reflect"),
    )
    return {name: found[name][0].flatten(1) for name in SLICED}


def sliced_wasserstein(
    weights, style, start, steps, directions: Directions, layer_weights, *, perturbation=0.0
):
    """L-BFGS without a line search on RGB pixels; every evaluation projects on directions of its own.

    The source repeats the style's projections where the canvas is larger; here both have one size.

    Args:
      weights: of VGG-19. The source's are scaled, so that its layers need no weights.
      style: RGB in [0, 1], of the size of the canvas.
      start: RGB, the first canvas.
      steps: number of updates; one canvas more is evaluated.
      directions: gives the directions of an evaluation.
      layer_weights: weight of each ReLU's loss, in place of the scaling.
      perturbation: relative change of the start's pixels.
    """
    with torch.no_grad():
        wanted = sliced_features(weights, batch(style, weights))
    image = perturbed(batch(start, weights), perturbation).requires_grad_(True)
    optimizer = torch.optim.LBFGS([image], lr=1, max_iter=ROUND, tolerance_grad=0.0)
    losses_found, last = [], None

    def closure():
        nonlocal last
        optimizer.zero_grad()
        found, loss = sliced_features(weights, image), 0
        for name, weight in zip(SLICED, layer_weights, strict=True):
            lines = torch.tensor(
                directions(len(losses_found), name, len(found[name])), dtype=image.dtype
            )
            ours, theirs = (torch.sort(lines @ x, dim=1)[0] for x in (found[name], wanted[name]))
            loss = loss + weight * (ours - theirs).square().mean()
        loss.backward()
        losses_found.append((loss.item(), 0.0, loss.item(), 0.0))
        last = image.detach().clone()
        return loss

    while len(losses_found) <= steps:
        optimizer.step(closure)
    del losses_found[steps + 1 :]
    return Run(losses_found, last[0].permute(1, 2, 0).clamp(0, 1).numpy())


# --- histogram ------------------------------------------------------------------------------------
# rejunity/neural-style-tf @ 89839ce4, neural_style.py with `--optimizer adam`; histograms are matched
# exactly, not in bins

HISTOGRAM_GRAM = ("r11", "r21", "r31", "r41", "r51")
HISTOGRAM_MATCHED = ("r11", "r41")


def level_of(values):
    """Return each of n values' level: (the middle rank of the values equal to it, plus 1/2) / n."""
    smaller = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return (smaller + (equal - 1) / 2 + 0.5) / len(values)


def matched(channel, wanted):
    """Return the values of a channel, each replaced by the wanted values' quantile at its level."""
    levels = (np.arange(len(wanted)) + 0.5) / len(wanted)
    return torch.tensor(
        np.interp(level_of(channel).numpy(), levels, np.sort(wanted.numpy())), dtype=channel.dtype
    )


def histogram_loss(features, wanted):
    """Return the mean squared difference of features [c, positions] and themselves, matched."""
    fixed = features.detach()
    targets = torch.stack([matched(*pair) for pair in zip(fixed, wanted, strict=True)])
    return (features - targets).square().mean()


def histogram(weights, content, style, steps, *, perturbation=0.0):
    """TensorFlow's Adam on RGB pixels in 0..255 from the content; nothing is clipped.

    Args:
      weights: of VGG-19.
      content: RGB in [0, 1].
      style: the same, of the content's size.
      steps: number of updates; one canvas more is evaluated.
      perturbation: relative change of the start's pixels.
    """
    mean = torch.tensor((123.68, 116.779, 103.939), dtype=weights[0][0].dtype)[:, None, None]

    def features(pixels):  # the source's weights are for RGB, ours for BGR
        found = activations(
            weights,
            pixels.flip(1),
            ("c42", *HISTOGRAM_GRAM),
            pool=lambda x: functional.avg_pool2d(x, 2, ceil_mode=True),
            paddings=("constant", "constant"),
        )
        return {name: value[0].flatten(1) for name, value in found.items()}

    def losses(pixels):
        found = features(pixels)
        content_loss = (found["c42"] - of_content["c42"]).square().sum()
        content_loss = 5 * content_loss / (2 * found["c42"].numel() ** 0.5)
        gram_loss = matched_loss = 0
        for name in HISTOGRAM_GRAM:
            n, m = found[name].shape
            difference = found[name] @ found[name].T - of_style[name] @ of_style[name].T
            gram_loss = gram_loss + 0.2 * difference.square().sum() / (4 * n**2 * m**2)
        for name in HISTOGRAM_MATCHED:
            matched_loss = matched_loss + 0.5 * histogram_loss(found[name], of_style[name])
        style_loss = 1e4 * gram_loss / 5 + 1e6 * matched_loss / 2
        variation = 1e-3 * sum(
            2 * pixels.diff(dim=axis).square().sum() / 2 / pixels.diff(dim=axis).numel()
            for axis in (2, 3)
        )
        return content_loss + style_loss + variation, content_loss, style_loss, variation

    content_pixels, style_pixels = (
        255 * batch(picture, weights) - mean for picture in (content, style)
    )
    with torch.no_grad():
        of_content, of_style = features(content_pixels), features(style_pixels)
    start = 255 * perturbed(batch(content, weights), perturbation) - mean
    pixels = start.requires_grad_(True)
    apply = keras_adam(learning_rate=1.0, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    losses_found = []
    for done in range(steps + 1):
        found = losses(pixels)
        losses_found.append(tuple(loss.item() for loss in found))
        if done < steps:
            (gradient,) = torch.autograd.grad(found[0], pixels)
            apply(pixels, gradient)
    image = (pixels.detach() + mean)[0].permute(1, 2, 0) / 255
    return Run(losses_found, image.clamp(0, 1).numpy())
