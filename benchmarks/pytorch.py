"""The style transfer of `problems.ADAM` in PyTorch, as its users write it and make it fast."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

import nst_jax as nst
from benchmarks.harness import cores
from benchmarks.problems import CONVOLUTIONS, Problem, tap_weights

Padding: TypeAlias = Literal["zeros", "replicate"]

ABSENT = "torch is not installed for this device: no peer was measured"


def has_torch() -> bool:
    """Return whether torch is installed and can use the kind of device that jax uses."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return jax.default_backend() == "cpu" or torch.cuda.is_available()


def can_compile() -> bool:
    """Return whether `torch.compile` can work: on CPUs it needs a C++ compiler."""
    wanted = (os.environ.get("CXX"), "g++", "clang++")
    return jax.default_backend() != "cpu" or any(name and shutil.which(name) for name in wanted)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to compute the step in PyTorch.

    Attributes:
      precision: precision of the convolutions. "float32"; "tensorfloat32", on CUDA devices; "bfloat16
        autocast"; or "bfloat16 weights", where the whole network is bfloat16, which saves the casts of
        autocast. With either bfloat16, Gram matrices and losses are computed in float32, as a careful
        user does, but with products in TF32 on devices that have it.
      channels_last: whether pictures and kernels have the memory format `channels_last`.
      compiled: the mode of `torch.compile`; None runs eagerly.
    """

    precision: str = "float32"
    channels_last: bool = False
    compiled: str | None = None

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        mode = f"compiled ({self.compiled})" if self.compiled else "eager"
        return f"torch, {self.precision}, {layout}, {mode}"


PLAIN = Variant()


def variants(platform: str, *, compiled: bool) -> list[Variant]:
    """Return the variants that a user who wants speed would try on a platform, "cpu" or "gpu"."""
    precisions = ["float32", "bfloat16 autocast", "bfloat16 weights"]
    modes = ["default"]
    if platform != "cpu":
        precisions.insert(1, "tensorfloat32")
        modes += ["max-autotune"]  # also CUDA graphs and kernels chosen by trial
    eager = [
        Variant(precision=precision, channels_last=last)
        for precision in precisions
        for last in (False, True)
    ]
    if not compiled:
        return eager
    return eager + [
        Variant(precision=precision, channels_last=True, compiled=mode)
        for precision in precisions
        for mode in modes
    ]


class TorchLoop:
    """Style transfer as a PyTorch user writes it: autograd and `torch.optim.Adam`.

    The loop has the objective, weights, pictures and start of `problems.Loop` with the recipe
    `problems.ADAM`. With `variant.compiled`, the first call of `advance` compiles.
    """

    def __init__(self, problem: Problem, variant: Variant = PLAIN):
        import torch

        torch.set_num_threads(cores())
        self.torch, self.variant = torch, variant
        self.layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.device = device_like_jax()
        self.dtype = torch.bfloat16 if variant.precision == "bfloat16 weights" else torch.float32
        self.content_weights, self.style_weights = tap_weights(problem.recipe.terms)
        taps = (*self.content_weights, *self.style_weights)
        self.network = network(problem.params, taps).to(
            self.device, self.dtype, memory_format=self.layout
        )
        self.mean = mean_pixel(self.device)
        self.image = self._tensor(problem.content).requires_grad_()
        adam = problem.recipe.descent.optimizer
        self.optimizer = torch.optim.Adam(
            [self.image],
            lr=float(adam.learning_rate),
            betas=(float(adam.b1), float(adam.b2)),
            eps=float(adam.eps),
            fused=True,
        )
        self._set_switches()
        with torch.no_grad():
            self.content = self._features(self._tensor(problem.content))
            self.style = {
                tap: gram(found)
                for tap, found in self._features(self._tensor(problem.style)).items()
            }
        self.loss = self._loss
        if variant.compiled:
            self.loss = torch.compile(self._loss, mode=variant.compiled, dynamic=False)

    def advance(self, steps: int) -> np.ndarray:
        """Take `steps` steps and return the total losses that each step measured, [steps]."""
        self._set_switches()
        losses = [self._step() for _ in range(steps)]
        return self.torch.stack(losses).cpu().numpy()  # waits for the device

    def picture(self) -> np.ndarray:
        """Return the canvas, [h, w, 3] float32 in [0, 1]."""
        return self.image.detach()[0].permute(1, 2, 0).contiguous().cpu().numpy()

    def _set_switches(self) -> None:
        """Set torch's global switches for this variant, as another loop may have changed them."""
        backends = self.torch.backends
        tf32 = self.variant.precision != "float32"
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = tf32
        # All calls have the same shapes, so cuDNN has to choose kernels by trial only once.
        backends.cudnn.benchmark = True

    def _step(self) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        if self.variant.compiled and self.device == "cuda":
            self.torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss(self.image)
        loss.backward()
        self.optimizer.step()
        with self.torch.no_grad():
            self.image.clamp_(0, 1)
        return loss.detach().clone()  # cloned: a CUDA graph overwrites its loss in the next step

    def _loss(self, image: Any) -> Any:
        mean_square = self.torch.nn.functional.mse_loss
        found = self._features(image)
        content = sum(
            weight * mean_square(found[tap], self.content[tap])
            for tap, weight in self.content_weights.items()
        )
        style = sum(
            weight * mean_square(gram(found[tap]), self.style[tap])
            for tap, weight in self.style_weights.items()
        )
        return content + style

    def _features(self, image: Any) -> dict[str, Any]:
        found, x = {}, image.flip(1) * 255 - self.mean
        x = x.contiguous(memory_format=self.layout).to(self.dtype)
        with self._autocast():
            for name, module in self.network.named_children():
                x = module(x)
                if name in self.content_weights or name in self.style_weights:
                    found[name] = x.float()
        return found

    def _autocast(self) -> Any:
        if self.variant.precision != "bfloat16 autocast":
            return contextlib.nullcontext()
        return self.torch.autocast(self.device, dtype=self.torch.bfloat16)

    def _tensor(self, image: Any) -> Any:
        return batch_of(image, self.device).contiguous(memory_format=self.layout)


def device_like_jax() -> str:
    """Return torch's name of the kind of device that jax uses."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def batch_of(image: Any, device: str) -> Any:
    """Return a picture [h, w, 3] as a tensor [1, 3, h, w]."""
    import torch

    return torch.tensor(np.asarray(image).transpose(2, 0, 1)[None], device=device)


def mean_pixel(device: str) -> Any:
    """Return what is subtracted from pixels in the order BGR, from 0 to 255: [1, 3, 1, 1]."""
    import torch

    return torch.tensor([103.939, 116.779, 123.68], device=device).view(1, 3, 1, 1)


def network(params: nst.Params, taps: Iterable[str], first_padding: Padding = "zeros") -> Any:
    """Return VGG-19 with fixed weights; as in nst_jax, layers after the deepest tap are left out.

    Args:
      params: the weights.
      taps: names such as `relu4_1`, which are also the names of the layers.
      first_padding: torch's name of the padding of the first convolution.
    """
    from torch import nn

    found, wanted = nn.Sequential(), set(taps)
    for block, count in enumerate(CONVOLUTIONS, 1):
        if block > 1:
            found.add_module(f"pool{block - 1}", nn.MaxPool2d(2))
        for index in range(1, count + 1):
            name = f"{block}_{index}"
            padding: Padding = first_padding if name == "1_1" else "zeros"
            found.add_module(f"conv{name}", _convolution(params.layers[f"conv{name}"], padding))
            found.add_module(f"relu{name}", nn.ReLU(inplace=True))
            wanted.discard(f"relu{name}")
            if not wanted:
                return found.requires_grad_(False)
    raise ValueError(f"the peer has no taps {sorted(wanted)}")


def _convolution(layer: Any, padding: Padding) -> Any:
    import torch

    kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
    module = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, padding_mode=padding)
    module.weight = torch.nn.Parameter(torch.tensor(kernel))
    module.bias = torch.nn.Parameter(torch.tensor(np.asarray(layer["bias"])))
    return module


def gram(features: Any) -> Any:
    """Return the Gram matrix [c, c] of features [1, c, h, w], as the mean over positions."""
    flat = features.flatten(2)[0]
    return flat @ flat.T / flat.shape[1]
