"""The style transfer of `problems.ADAM` in TensorFlow, as TensorFlow's own tutorial writes it.

    python3 -m venv FOLDER && FOLDER/bin/pip install . tensorflow-cpu==2.21.0

The tutorial's step is a `tf.function` that records a `tf.GradientTape`, updates the picture by Keras'
Adam and clips it to [0, 1]. The variants here add what a user tries for speed: `jit_compile` and
bfloat16.
"""

import functools
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks.harness import cores
from benchmarks.problems import CONVOLUTIONS, Problem, tap_weights

ABSENT = "tensorflow is not installed for this device: its tutorial was not measured"


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed and can use the kind of device that jax uses."""
    if importlib.util.find_spec("tensorflow") is None:
        return False
    return jax.default_backend() == "cpu" or bool(_loaded().config.list_physical_devices("GPU"))


def packages() -> tuple[str, ...]:
    """Return the packages whose versions are recorded: TensorFlow is distributed as several."""
    return (*sorted(set(importlib.metadata.packages_distributions()["tensorflow"])), "keras")


@functools.cache
def _loaded() -> Any:
    """Import TensorFlow with as many threads as torch gets; their number cannot change later."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # silences messages about instruction sets
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(cores())
    tensorflow.config.threading.set_inter_op_parallelism_threads(cores())
    # Silences the warning that a function is traced repeatedly: here several loops each trace theirs.
    tensorflow.get_logger().setLevel("ERROR")
    for device in tensorflow.config.list_physical_devices("GPU"):
        # Otherwise TensorFlow would take all memory of the device, of which jax and torch need some.
        tensorflow.config.experimental.set_memory_growth(device, True)
    return tensorflow


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to compute the step in TensorFlow.

    Attributes:
      precision: precision of the network. "float32"; "tensorfloat32", TensorFlow's default on CUDA
        devices; or "bfloat16 weights", which also has bfloat16 activations, but float32 Gram matrices
        and losses.
      jit: whether XLA compiles the `tf.function`.
    """

    precision: str = "float32"
    jit: bool = False

    def __str__(self) -> str:
        mode = "tf.function with XLA" if self.jit else "tf.function"
        return f"tensorflow, {self.precision}, {mode}"


PLAIN = Variant()


def variants(platform: str) -> list[Variant]:
    """Return the variants that a user who wants speed would try on a platform, "cpu" or "gpu"."""
    precisions = ["float32", "bfloat16 weights"]
    if platform != "cpu":
        precisions.insert(1, "tensorfloat32")
    return [Variant(precision=name, jit=jit) for name in precisions for jit in (False, True)]


def with_its_rule(problem: Problem) -> Problem:
    """Return a problem with the tutorial's update rule, Keras' Adam, in place of its own."""
    descent = nst.recipes.as_arrays(nst.recipes.TF.bare()).descent
    return replace(problem, recipe=replace(problem.recipe, descent=descent))


def check_rule(problem: Problem) -> None:
    """Refuse a problem whose update rule is not the tutorial's."""
    rule = problem.recipe.descent.optimizer
    if not isinstance(rule, nst.optimizers.KerasAdam):
        raise TypeError(
            f"`problem`: its rule is {type(rule).__name__}, the tutorial's is KerasAdam; "
            "`with_its_rule(problem)` changes it"
        )


class TensorFlowLoop:
    """The tutorial's loop: one call of its `train_step` per update.

    The loop has the objective, weights, pictures and start of a `problems.Loop` with the same problem.
    The problem's update rule has to be Keras' Adam. The first call of `advance` traces and compiles.
    """

    def __init__(self, problem: Problem, variant: Variant = PLAIN):
        self.tf, self.variant = _loaded(), variant
        check_rule(problem)
        adam = problem.recipe.descent.optimizer
        self.dtype = "bfloat16" if variant.precision == "bfloat16 weights" else "float32"
        self.content_weights, self.style_weights = tap_weights(problem.recipe.terms)
        self.mean = self.tf.constant([103.939, 116.779, 123.68])
        self.network = self._network(problem)
        self._set_switches()
        self.content = self._features(self._picture(problem.content))
        found = self._features(self._picture(problem.style))
        self.style = {tap: self._gram(found[tap]) for tap in self.style_weights}
        self.image = self.tf.Variable(self._picture(problem.content))
        self.optimizer = self.tf.keras.optimizers.Adam(
            learning_rate=float(adam.learning_rate),
            beta_1=float(adam.b1),
            beta_2=float(adam.b2),
            epsilon=float(adam.eps),
        )
        # Built here, because a `tf.function` may not create variables when it runs.
        self.optimizer.build([self.image])
        self.train_step = self.tf.function(self._step, jit_compile=variant.jit)

    def advance(self, steps: int) -> np.ndarray:
        """Take `steps` steps and return the total losses that each step measured, [steps].

        Raises:
          RuntimeError: if TensorFlow fails, with its message.
        """
        self._set_switches()
        try:
            losses = [self.train_step() for _ in range(steps)]
            return self.tf.stack(losses).numpy()  # waits for the device
        except self.tf.errors.OpError as error:
            raise RuntimeError(error.message) from error

    def picture(self) -> np.ndarray:
        """Return the canvas, [h, w, 3] float32 in [0, 1]."""
        return self.image.numpy()[0]

    def _set_switches(self) -> None:
        """Set TensorFlow's global switch for this variant, as another loop may have changed it."""
        enabled = self.variant.precision != "float32"
        self.tf.config.experimental.enable_tensor_float_32_execution(enabled)

    def _step(self) -> Any:
        with self.tf.GradientTape() as tape:
            loss = self._loss(self.image)
        gradient = tape.gradient(loss, self.image)
        self.optimizer.apply_gradients([(gradient, self.image)])
        self.image.assign(self.tf.clip_by_value(self.image, 0.0, 1.0))
        return loss

    def _loss(self, image: Any) -> Any:
        found = self._features(image)
        content = [
            weight * self._mean_square(found[tap], self.content[tap])
            for tap, weight in self.content_weights.items()
        ]
        style = [
            weight * self._mean_square(self._gram(found[tap]), self.style[tap])
            for tap, weight in self.style_weights.items()
        ]
        return self.tf.add_n(content + style)

    def _mean_square(self, one: Any, other: Any) -> Any:
        return self.tf.reduce_mean((one - other) ** 2)

    def _gram(self, features: Any) -> Any:
        """Return the Gram matrix [1, c, c] of features [1, h, w, c], as the mean over positions."""
        sums = self.tf.linalg.einsum("bijc,bijd->bcd", features, features)
        return sums / (features.shape[1] * features.shape[2])

    def _features(self, image: Any) -> dict[str, Any]:
        tf, found = self.tf, {}
        x = tf.cast(image[..., ::-1] * 255.0 - self.mean, self.dtype)
        for name, kernel, bias in self.network:
            if kernel is None:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
                continue
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))
            if name in self.content_weights or name in self.style_weights:
                found[name] = tf.cast(x, "float32")
        return found

    def _network(self, problem: Problem) -> list[tuple[str, Any, Any]]:
        """Return (name, kernel, bias) of all layers up to the deepest tap; a pool has None for both."""
        wanted = {*self.content_weights, *self.style_weights}
        network: list[tuple[str, Any, Any]] = []
        for block, count in enumerate(CONVOLUTIONS, 1):
            if block > 1:
                network.append((f"pool{block - 1}", None, None))
            for index in range(1, count + 1):
                layer = problem.params.layers[f"conv{block}_{index}"]
                kernel, bias = (
                    self.tf.constant(np.asarray(layer[part]), self.dtype)
                    for part in ("kernel", "bias")
                )
                network.append((f"relu{block}_{index}", kernel, bias))
                wanted.discard(f"relu{block}_{index}")
                if not wanted:
                    return network
        raise ValueError(f"the peer has no taps {sorted(wanted)}")

    def _picture(self, image: Any) -> Any:
        return self.tf.constant(np.asarray(image)[None])
