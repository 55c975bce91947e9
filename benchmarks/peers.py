"""Others that do the same work. Each is imported only where it is installed."""

import importlib.util
from typing import Any

import jax
import numpy as np

from benchmarks.harness import cores
from benchmarks.problems import Problem

CONVOLUTIONS = (2, 2, 4, 4, 4)  # per block


def has_torch() -> bool:
    """Say whether torch is installed, and on the device that jax uses."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return jax.default_backend() == "cpu" or torch.cuda.is_available()


class TorchWalk:
    """Gatys' descent as a PyTorch user writes it: autograd, `torch.optim.Adam`, eager float32.

    The same objective, weights, pictures and start as `problems.Walk` with the recipe
    `problems.ADAM`.
    """

    def __init__(self, problem: Problem, channels_last: bool = False):
        import torch

        torch.set_num_threads(cores())
        # float32 is to mean float32 on an accelerator too, as it does on our side.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.torch = torch
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        self.terms = problem.recipe.terms
        self.network = self._network(problem)
        self.image = self._tensor(problem.content).requires_grad_()
        adam = problem.recipe.descent.optimizer
        self.optimizer = torch.optim.Adam(
            [self.image],
            lr=float(adam.learning_rate),
            betas=(float(adam.b1), float(adam.b2)),
            eps=float(adam.eps),
        )
        with torch.no_grad():
            self.content = self._features(self._tensor(problem.content))
            self.style = {
                tap: gram(found)
                for tap, found in self._features(self._tensor(problem.style)).items()
            }

    def advance(self, steps: int) -> np.ndarray:
        """Take `steps` steps and return the total losses of the canvases measured, [steps]."""
        losses = [self._step() for _ in range(steps)]
        return self.torch.stack(losses).cpu().numpy()  # waits for the device

    def _step(self) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        self.optimizer.step()
        with self.torch.no_grad():
            self.image.clamp_(0, 1)
        return loss.detach()

    def _loss(self) -> Any:
        mean_square = self.torch.nn.functional.mse_loss
        terms, found = self.terms, self._features(self.image)
        content = sum(
            float(weight) * mean_square(found[tap], self.content[tap])
            for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True)
        )
        style = sum(
            float(weight) * mean_square(gram(found[tap]), self.style[tap])
            for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True)
        )
        return float(terms.content_weight) * content + float(terms.style_weight) * style

    def _features(self, image: Any) -> dict[str, Any]:
        found, x = {}, (image.flip(1) * 255 - self.mean).contiguous(memory_format=self.layout)
        for name, module in self.network.named_children():
            x = module(x)
            if name in (*self.terms.content_taps, *self.terms.style_taps):
                found[name] = x
        return found

    def _network(self, problem: Problem) -> Any:
        nn, taps = self.torch.nn, (*self.terms.content_taps, *self.terms.style_taps)
        mean = self.torch.tensor([103.939, 116.779, 123.68], device=self.device)
        self.mean = mean.view(1, 3, 1, 1)
        network, wanted = nn.Sequential(), set(taps)
        for block, count in enumerate(CONVOLUTIONS, 1):
            if block > 1:
                network.add_module(f"pool{block - 1}", nn.MaxPool2d(2))
            for index in range(1, count + 1):
                layer = problem.params.layers[f"conv{block}_{index}"]
                network.add_module(f"conv{block}_{index}", self._convolution(layer))
                network.add_module(f"relu{block}_{index}", nn.ReLU(inplace=True))
                wanted.discard(f"relu{block}_{index}")
                if not wanted:  # nothing deeper than the deepest tap, as on our side
                    return network.requires_grad_(False).to(self.device, memory_format=self.layout)
        raise ValueError(f"the peer has no taps {sorted(wanted)}")

    def _convolution(self, layer: Any) -> Any:
        kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
        module = self.torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        module.weight = self.torch.nn.Parameter(self.torch.tensor(kernel))
        module.bias = self.torch.nn.Parameter(self.torch.tensor(np.asarray(layer["bias"])))
        return module

    def _tensor(self, image: Any) -> Any:
        channels_first = np.asarray(image).transpose(2, 0, 1)[None]
        tensor = self.torch.tensor(channels_first, device=self.device)
        return tensor.contiguous(memory_format=self.layout)


def gram(features: Any) -> Any:
    """Return the mean over positions of the products of all pairs of maps of [1, c, h, w]."""
    flat = features.flatten(2)[0]
    return flat @ flat.T / flat.shape[1]
