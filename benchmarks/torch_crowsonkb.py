"""A whole picture by the loop of the source of our recipe `crowsonkb`, in PyTorch; needs torch.

The source is style_transfer/style_transfer.py of github.com/crowsonkb/style-transfer-pytorch, with its
Adam. The loop computes in float32 with torch's own precision, as the source does: on CUDA devices,
convolutions may use TF32, while matrix products use all bits.

Some differences from the source are those of our recipe, whose comments give the reasons: the weights
are the embedded ones, with a weight of the variation that fits them; pictures of the coarser scales are
reduced from those of the last one; and where float32 needs it, more than 1e-4 is added to variances.
Others save time: losses are not read in every update, which would wait for the device; no memory is
given back between scales; cuDNN chooses kernels by trial; and the average is updated without recording
for gradients.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

import nst_jax as nst
from benchmarks import pytorch
from benchmarks.harness import cores
from benchmarks.problems import tap_weights

ROUNDS = 12  # of the iterations for the root of a matrix, and again for its gradient
ADDED_VARIANCE = 1e-4
# Rounding errors of a covariance are at most this number times the machine epsilon times the trace of
# the second moment. The features of the embedded weights are so large that the errors may exceed
# `ADDED_VARIANCE`. Then the iterations would overflow.
ROUNDING = 4

Tensor = Any


class Scale(NamedTuple):
    """What is painted at one scale (resolution)."""

    content: np.ndarray  # [h, w, 3] in [0, 1]
    style: np.ndarray  # [h, w, 3] in [0, 1]
    updates: int


class Painted(NamedTuple):
    """A picture, and the losses on the way to it."""

    image: np.ndarray  # [h, w, 3] in [0, 1]
    # Total losses of the canvas before each update and after the last one, [updates + 1]. The picture
    # is not the last canvas but the average of canvases.
    losses: np.ndarray


def scales_of(recipe: nst.recipes.Recipe, content: Any, style: Any) -> list[Scale]:
    """Return the scales of a run, coarse to fine, with the pictures that `nst_jax.paint` makes.

    Args:
      recipe: the recipe whose schedule and number of updates apply.
      content: [h, w, 3] in [0, 1], of the size of the result.
      style: the same, of the same size.
    """
    shape, resized = content.shape[:2], nst.images.on_host.at_scale_on_host
    return [
        Scale(resized(content, size), resized(style, size), updates)
        for size, updates in recipe.descent.plan(shape, shape)
    ]


class Painter:
    """Paints by the source's loop, with the numbers of a recipe that is a variant of `crowsonkb`.

    Args:
      params: weights from `nst_jax.load_params`.
      recipe: the recipe: its taps, weights of losses, numbers of Adam, and decay of the average.
    """

    def __init__(self, params: nst.Params, recipe: nst.recipes.Recipe):
        torch.set_num_threads(cores())
        self.device = pytorch.device_like_jax()
        core: Any = nst.recipes.as_arrays(recipe.bare())
        self.content_weights, self.style_weights = tap_weights(core.terms)
        self.variation_weight = float(core.terms.tv_weight)
        self.rule = core.descent.optimizer
        self.decay = float(core.descent.average_decay)
        taps = (*self.content_weights, *self.style_weights)
        self.network = pytorch.network(params, taps, "replicate").to(self.device)
        self.mean = pytorch.mean_pixel(self.device)

    def paint(self, scales: Sequence[Scale]) -> Painted:
        """Paint from coarse to fine, beginning with the content, and wait for the device."""
        self._set_switches()
        image, adam, losses = self._tensor(scales[0].content), None, []
        for content, style, updates in scales:
            loss_of = Objective(self, self._tensor(content), self._tensor(style))
            image = functional.interpolate(image, content.shape[:2], mode="bicubic").clamp(0, 1)
            average = Average(image, self.decay)
            image.requires_grad_()
            adam = self._adam(image, adam)
            for _ in range(updates):
                adam.zero_grad()
                loss = loss_of(image)
                loss.backward()
                adam.step()
                with torch.no_grad():
                    image.clamp_(0, 1)
                    average.add(image)
                losses.append(loss.detach())
            last, image = image.detach(), average.value()
        with torch.no_grad():
            losses.append(loss_of(last))
        result = image[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy()
        return Painted(result, torch.stack(losses).cpu().numpy())

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """Return the activations [1, c, h, w] at the taps of a picture [1, 3, h, w] in [0, 1]."""
        found, x = {}, image.flip(1) * 255 - self.mean
        for name, layer in self.network.named_children():
            x = layer(x)
            if name in self.content_weights or name in self.style_weights:
                found[name] = x
        return found

    def _adam(self, image: Tensor, before: torch.optim.Adam | None) -> torch.optim.Adam:
        """Return Adam for an image, with the moments of the scale before, enlarged."""
        rule = self.rule
        adam = torch.optim.Adam(
            [image],
            lr=float(rule.learning_rate),
            betas=(float(rule.b1), float(rule.b2)),
            eps=float(rule.eps),
        )
        if before is not None:
            (old,), shape = before.state.values(), image.shape[2:]
            adam.state[image] = {
                "step": old["step"],
                "exp_avg": functional.interpolate(old["exp_avg"], shape, mode="bicubic"),
                "exp_avg_sq": functional.interpolate(
                    old["exp_avg_sq"], shape, mode="bilinear"
                ).relu_(),
            }
        return adam

    def _tensor(self, image: Any) -> Tensor:
        return pytorch.batch_of(image, self.device)

    def _set_switches(self) -> None:
        """Set torch's global switches, as another loop may have changed them."""
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True


class Objective:
    """The total loss at one scale, a function of a picture [1, 3, h, w]."""

    def __init__(self, painter: Painter, content: Tensor, style: Tensor):
        self.painter = painter
        with torch.no_grad():
            found = painter.features(content)
            self.content = {tap: found[tap] for tap in painter.content_weights}
            found = painter.features(style)
            self.style = {tap: GaussianTarget(found[tap]) for tap in painter.style_weights}

    def __call__(self, image: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        found = self.painter.features(image)
        content = sum(
            weight * functional.mse_loss(found[tap], self.content[tap])
            for tap, weight in self.painter.content_weights.items()
        )
        style = sum(
            weight * self.style[tap].distance(found[tap])
            for tap, weight in self.painter.style_weights.items()
        )
        return content + style + self.painter.variation_weight * nine_point_variation(image)


class GaussianTarget:
    """Mean and covariance of a style's features, to which the distance of others is measured."""

    def __init__(self, features: Tensor):
        self.mean, self.covariance = mean_and_covariance(features)
        self.root = Root.apply(self.covariance)

    def distance(self, features: Tensor) -> Tensor:
        """Return the squared Wasserstein-2 distance of two Gaussians, over the number of channels."""
        mean, covariance = mean_and_covariance(features)
        between = Root.apply(self.root @ covariance @ self.root)
        spread = torch.diagonal(self.covariance + covariance - 2 * between).mean()
        return (mean - self.mean).square().mean() + spread


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [c] over positions and the covariance [c, c], whose diagonal is enlarged."""
    flat = features[0].flatten(1)
    mean, second = flat.mean(1), flat @ flat.T / flat.shape[1]
    errors = ROUNDING * torch.finfo(second.dtype).eps * torch.trace(second.detach())
    identity = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    added = errors.clamp(min=ADDED_VARIANCE) * identity
    return mean, second - torch.outer(mean, mean) + added


class Root(torch.autograd.Function):
    """The root of a symmetric positive matrix, by the iterations of Newton and Schulz.

    The gradient is found by iterations, too: with the root R and the gradient G with respect to R, they
    solve R X + X R = G for X.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        """Return the root."""
        norm, three = frobenius(matrix), three_of(matrix)
        root, inverse = matrix / norm, three / 3
        for _ in range(ROUNDS):
            factor = (three - inverse @ root) / 2
            root, inverse = root @ factor, factor @ inverse
        root = root * norm.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to the matrix."""
        (root,) = ctx.saved_tensors
        norm, three = frobenius(root), three_of(root)
        a, x = root / norm, gradient / norm
        for turn in range(ROUNDS):
            factor = three - a @ a
            x = (x @ factor - a.T @ (a.T @ x - x @ a)) / 2
            if turn < ROUNDS - 1:
                a = a @ factor / 2
        return x / 2


def frobenius(matrix: Tensor) -> Tensor:
    """Return the Frobenius norm of a matrix, a scalar."""
    return matrix.square().sum().sqrt()


def three_of(matrix: Tensor) -> Tensor:
    """Return three times the identity matrix, of the size, dtype and device of a square matrix."""
    return 3 * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


def nine_point_variation(image: Tensor) -> Tensor:
    """Return twice the weighted mean squares of differences to the right, down and along diagonals."""
    padded = functional.pad(image, (1, 1, 1, 1), "replicate")
    here = padded[..., 1:-1, 1:-1]
    right = (padded[..., 1:-1, 2:] - here).square().mean()
    down = (padded[..., 2:, 1:-1] - here).square().mean()
    falling = (padded[..., 1:, 1:] - padded[..., :-1, :-1]).square().mean()
    rising = (padded[..., 1:, :-1] - padded[..., :-1, 1:]).square().mean()
    return 2 * ((right + down) / 3 + (falling + rising) / 12)


class Average:
    """The decaying average of images, corrected for its start at zero; the first image counts."""

    def __init__(self, image: Tensor, decay: float):
        self.decay, self.missing, self.sum = decay, 1.0, torch.zeros_like(image)
        self.add(image)

    def add(self, image: Tensor) -> None:
        """Add an image, which has no gradient."""
        self.missing *= self.decay
        self.sum.mul_(self.decay).add_(image, alpha=1 - self.decay)

    def value(self) -> Tensor:
        """Return the average."""
        return self.sum / (1 - self.missing)
