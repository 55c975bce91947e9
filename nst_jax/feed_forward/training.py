"""Training of a feed-forward network: `train` makes all updates, `Training` one update at a time."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, checkpoints, prepare, recipes
from nst_jax._compile import Jitted
from nst_jax._types import Params
from nst_jax.checkpoints.leaves import named_leaves, tree_from
from nst_jax.feed_forward.crops import Crops, PhotoCrops, ReadAhead
from nst_jax.feed_forward.johnson import BLOCKS, StyleNetwork, fresh_params, stylize_trained
from nst_jax.feed_forward.style_files import TrainingCheckpoint
from nst_jax.feed_forward.training_job import TrainingJob, identity_of, training_job
from nst_jax.feed_forward.training_step import TrainingState, crop_losses, init_training, train_step
from nst_jax.measuring import Measuring
from nst_jax.optimizers.rules import Adam
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.sharding import Devices
from nst_jax.targets import stacked_targets
from nst_jax.vgg.kernel_forms import with_forms
from nst_jax.vgg.taps import check_layers

# Defaults of a training: number of updates, number of crops (square parts of photos) in an update, side
# of a crop in px, and learning rate. PyTorch's example (pytorch/examples @ 77f55b91, fast_neural_style)
# has the same values, except that it makes two passes over all photos, which is some 40 000 updates for
# the photos of COCO.
STEPS, BATCH, CROP, LEARNING_RATE = 4000, 4, 256, 1e-3

# Default number of updates between two measurements of the held-out loss, the mean loss on photos that
# are never trained on.
EVERY = 200

# For the held-out loss, crops of the held-out photos are painted, each of them in all styles. The
# number of crops is limited so that at most this number of pictures are painted. With more styles than
# this number, one crop is still painted in each style.
MOST_MEASURED = 64

# The host starts an update before the device has finished the earlier ones, so that the device need
# not wait for the host. At most this number of updates are unfinished at any time, so that a loss that
# is not finite is noticed soon.
IN_FLIGHT = 2

# Error message of `Training.best` and `Training.outcome`.
UNMEASURED = (
    "there is no best network: the loss on the held-out photos was not measured, or is not finite"
)


class TrainingDiverged(RuntimeError):
    """Raised if a loss of a training is not finite.

    `Training.best` is still the best network so far, if a finite held-out loss was measured before.
    """


# --- The training -----------------------------------------------------------------------------------


class TrainingReport(NamedTuple):
    """What `Training` yields before the first update and after every update."""

    step: int  # number of updates so far
    # Mean loss of the crops of the latest update, a scalar on the device. It was computed with the
    # network as it was before this update. None in the first report, for which no update is made.
    loss: Array | None
    # Mean loss on the held-out photos; None if it was not measured for this report.
    held_out: float | None


class _Programs(NamedTuple):
    """The compiled functions of a training."""

    step: Any  # `train_step`, which makes an update
    losses: Any  # `crop_losses`, which measures the losses on held-out photos
    paint: Any  # `stylize_trained`, which paints crops in the styles of the network


_PROGRAMS = _Programs(
    step=Jitted(train_step, static_argnames=("mesh",), donate_argnames="state", large=True),
    losses=Jitted(crop_losses),
    paint=Jitted(stylize_trained, static_argnames=("precision",)),
)


class Training(Iterator[TrainingReport]):
    """An iterator over the updates of a training, which can be saved and resumed after each update.

    Use it as a context manager: leaving the `with` block ends the threads that read photos.

    The held-out loss is the mean loss on photos that are never trained on. It is measured before the
    first update, after every `job.every` updates, and after the last update.

    Attributes:
      job: the inputs and options of the training.
      crops: the crops (square parts) of the photos.
      step: number of updates so far.
      updates: for each measurement of the held-out loss, the number of updates by then.
      held_out: for each measurement, the held-out loss.
      training: for each measurement, the mean training loss of the updates since the previous
        measurement. Before the first measurement there is no update, so the first value is the held-out
        loss instead.
    """

    def __init__(
        self, params: Params, job: TrainingJob, *, resume: TrainingCheckpoint | None = None
    ) -> None:
        """Prepare a training: the targets of its style losses, its network and its photos.

        Args:
          params: weights of VGG-19.
          job: the checked inputs and options, from `training_job`.
          resume: a checkpoint, to continue an earlier training. That training must have had the same
            inputs, options and versions of packages; only `steps` and `mesh` may differ. None starts a
            new training with a network of random parameters.

        Raises:
          TypeError: if `resume` is not a `TrainingCheckpoint`.
          ValueError: if the weights lack a layer that the job's recipe needs; or if `resume` is a
            checkpoint of another training, or was written after more than `job.steps` updates. Also if
            too many photos are damaged or nearly uniform (of one colour): at least one photo must be
            held out, and one must be left to train on.
        """
        check_layers(params, job.recipe.terms.taps)
        if resume is not None:
            advice = "`style_files.load_training(path)` reads one from a file"
            _checks.instance("resume", resume, TrainingCheckpoint, advice)
        self.job, self._before = job, resume
        self._identity = identity_of(params, job)
        if resume is not None:
            checkpoints.check_same_run(resume.facts, self._identity)
            _check_steps(resume, job)
        self.crops = PhotoCrops(job.found.photos, job.crop, job.seed)
        recipe = recipes.as_arrays(job.recipe.bare())
        style_targets = self._measured(params, recipe)
        formed = with_forms(
            params,
            recipe.terms.taps,
            shape=(job.crop, job.crop),
            precision=recipe.network.precision_on(),
        )
        rule = jax.tree.map(jnp.float32, Adam(learning_rate=job.learning_rate))
        self._fixed = sharding.replicate((formed, style_targets, recipe, rule), job.mesh)
        self._state = sharding.replicate(self._first_state(rule), job.mesh)
        self.updates: list[int] = [] if resume is None else list(resume.updates)
        self.held_out: list[float] = [] if resume is None else list(resume.held_out)
        self.training: list[float] = [] if resume is None else list(resume.training)
        self._best = {} if resume is None else dict(resume.best)
        self.step = 0 if resume is None else resume.step
        # The training loss of each update since the held-out loss was last measured. The next
        # measurement records their mean.
        self._losses: list[Any] = [] if resume is None else list(resume.recent)
        self._reader = ReadAhead(self.crops, self.step, job.batch)
        self._begun = False

    def _measured(self, params: Params, recipe: Recipe) -> Any:
        """Return the targets of the style losses, with those of all paintings stacked: [styles, ...].

        Args:
          params: weights of VGG-19.
          recipe: the recipe, with its numbers as arrays.
        """
        measuring = Measuring(params, recipe, None)
        shapes = self.job.style_shapes
        found = [
            measuring.styles([prepare.resized(painting, shapes[name], self.job.recipe)])
            for name, painting in self.job.paintings.items()
        ]
        return stacked_targets(found)

    def _first_state(self, rule: Adam) -> TrainingState:
        state = _fresh_state(self.job, rule)
        if self._before is None:
            return state
        return tree_from(self._before.arrays, state, argument="resume")

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.__exit__(*exception)

    def __next__(self) -> TrainingReport:
        """Make the next update and return a report.

        The first call makes no update. In a new training it measures the held-out loss (on photos that
        the network is never trained on) and reports it. In a resumed training it reports the number of
        updates so far, and measures the held-out loss only if a measurement is due after this number of
        updates and was not made before.

        Raises:
          StopIteration: after `job.steps` updates.
          TrainingDiverged: if the loss of an update, or the held-out loss, is not finite.
          ValueError: if all photos to train on turn out to be damaged or nearly uniform.
          OutOfMemory: if the device runs out of memory.
        """
        try:
            return self._next()
        except jax.errors.JaxRuntimeError as error:
            if capacity.EXHAUSTED not in str(error):
                raise
            job = self.job
            raise capacity.OutOfMemory(
                f"`batch`: the device ran out of memory for {job.batch} crops of {job.crop} px at "
                f"width {job.width:g}; choose a smaller `batch`, `crop` or `width`"
            ) from error

    def _next(self) -> TrainingReport:
        loss = None
        if self._begun:
            if self.step >= self.job.steps:
                raise StopIteration
            loss = self._update()
        self._begun = True
        due = self.step % self.job.every == 0 or self.step == self.job.steps
        if not due or self.step in self.updates:
            return TrainingReport(self.step, loss, None)
        return TrainingReport(self.step, loss, self._measure())

    def _update(self) -> Array:
        formed, style_targets, recipe, rule = self._fixed
        crops = sharding.split(jnp.asarray(next(self._reader)), self.job.mesh)
        self._state, losses = _PROGRAMS.step(
            formed, self._state, crops, style_targets, recipe, rule, mesh=self.job.mesh
        )
        self.step += 1
        self._losses.append(losses.total)
        # Reading the loss of an earlier update waits until the device has computed it, so that at most
        # `IN_FLIGHT` updates are unfinished. It also ends the training soon if that loss is not finite.
        if len(self._losses) > IN_FLIGHT:
            self._check_finite(self._losses[-1 - IN_FLIGHT], self.step - IN_FLIGHT)
        return losses.total

    def _check_finite(self, loss: Any, step: int) -> None:
        if not np.isfinite(np.asarray(loss)):
            best = (
                f"the best network is that after {self.best_step} updates"
                if self._best
                else "there is no network to keep, as none was measured before"
            )
            raise TrainingDiverged(
                f"the loss is not finite at update {step}; {best}: try a smaller `learning_rate` or "
                "smaller weights of the losses"
            )

    def _measure(self) -> float:
        """Measure, record and return the held-out loss; keep the network if it is the best so far."""
        loss = self.measure_held_out()
        self._check_finite(loss, self.step)
        recent = [float(np.asarray(each)) for each in self._losses]
        self._losses = []
        if not self.held_out or loss < min(self.held_out):
            self._best = self._host(self._state.network)
        self.updates.append(self.step)
        self.held_out.append(loss)
        self.training.append(float(np.mean(recent)) if recent else loss)
        return loss

    def measure_held_out(self) -> float:
        """Return the held-out loss of the network after the latest update, without recording it.

        It is the mean loss of crops of the held-out photos, each painted in all styles. If that would
        be more than `MOST_MEASURED` pictures, only the first of these crops are used.
        """
        formed, style_targets, recipe, _ = self._fixed
        count = len(self.job.paintings)
        contents = max(1, min(len(self.crops.held_out), MOST_MEASURED // count))
        pairs = [(content, style) for content in range(contents) for style in range(count)]
        totals: list[np.ndarray] = []
        for start in range(0, len(pairs), self.job.batch):
            part = pairs[start : start + self.job.batch]
            # A last batch with fewer pairs is filled up by repeating its last pair, since a batch of
            # another size would need another compiled program.
            full = part + part[-1:] * (self.job.batch - len(part))
            which, styles = np.asarray(full, np.int32).T
            crops = sharding.split(jnp.asarray(self.crops.held_out[which]), self.job.mesh)
            styles = sharding.split(jnp.asarray(styles), self.job.mesh)
            losses = _PROGRAMS.losses(
                formed, self._state.network, crops, styles, style_targets, recipe
            )
            totals.append(np.asarray(losses.total)[: len(part)])
        return float(np.mean(np.concatenate(totals)))

    def _host(self, tree: Any) -> dict[str, np.ndarray]:
        return sharding.to_host(named_leaves(tree), self.job.mesh, copy=True)

    # --- Results

    @property
    def best_step(self) -> int:
        """Number of updates after which the held-out loss was least; 0 if it was never measured."""
        return self.updates[int(np.argmin(self.held_out))] if self.updates else 0

    @property
    def best(self) -> StyleNetwork:
        """The network as it was when its loss on held-out photos (not used for training) was least.

        Raises:
          RuntimeError: if the held-out loss was not measured yet, or never was finite.
        """
        if not self._best:
            raise RuntimeError(UNMEASURED)
        return self._named(self._best)

    @property
    def present(self) -> StyleNetwork:
        """The network after the latest update; the `best` network may be that after an earlier one."""
        return self._named(self._host(self._state.network))

    def _named(self, leaves: Mapping[str, Any]) -> StyleNetwork:
        like = jax.eval_shape(lambda: self._state.network)
        params = tree_from(leaves, like, argument="resume")
        return StyleNetwork(params, tuple(self.job.paintings))

    def paint(self, network: StyleNetwork, contents: Crops) -> np.ndarray:
        """Paint crops in all styles of a network.

        Args:
          network: the network.
          contents: the crops, [n, h, w, 3] uint8.

        Returns:
          The paintings, one of each crop in each style: [n, styles, h, w, 3] float32 in [0, 1].
        """
        count = len(network.styles)
        precision = self._fixed[2].network.precision_on()
        rows = [
            _PROGRAMS.paint(
                network.params,
                jnp.asarray(np.stack([crop] * count), jnp.float32) / 255,
                jnp.eye(count),
                precision=precision,
            )
            for crop in contents
        ]
        return np.stack([np.asarray(row) for row in rows])

    def checkpoint(self) -> TrainingCheckpoint | None:
        """Return a checkpoint, from which the training can be resumed after the latest update.

        Returns:
          The checkpoint; or None, if no finite held-out loss was measured yet, or if numbers of the
          training's state are not finite.
        """
        arrays = self._host(self._state)
        if not self._best or not all(np.isfinite(each).all() for each in arrays.values()):
            return None
        recent = [float(np.asarray(each)) for each in self._losses]
        return TrainingCheckpoint(
            arrays=arrays,
            best=self._best,
            updates=list(self.updates),
            held_out=list(self.held_out),
            training=list(self.training),
            recent=recent,
            facts=self._identity,
        )

    def outcome(self, *, measure: bool = True) -> tuple[StyleNetwork, dict[str, Any]]:
        """Return the network with the least held-out loss, and facts on its training.

        The facts are for the file to which the network is saved. The held-out loss is the mean loss on
        photos that are never trained on.

        Args:
          measure: whether the held-out loss of the present network is measured now if it is not known
            yet, as after an interruption. If this loss is the least, the present network is returned.
            The measurement changes neither the training nor its checkpoints.

        Returns:
          The network; and a dictionary of JSON values by name, such as the recipe, the hashes of the
          style pictures and the losses.

        Raises:
          RuntimeError: if the held-out loss was not measured yet, or never was finite.
        """
        network, updates, losses = None, list(self.updates), list(self.held_out)
        if measure and self.step not in updates:
            loss = self.measure_held_out()
            if loss < min(losses, default=math.inf):  # also false if `loss` is NaN
                network = self.present
                updates, losses = [*updates, self.step], [*losses, loss]
        if not losses:
            raise RuntimeError(UNMEASURED)
        taken = int(np.argmin(losses))
        job, identity = self.job, self._identity
        facts = {
            "recipe": job.recipe.name,
            "source": job.recipe.source,
            **identity,
            "photos": {"count": len(job.found.photos), "digest": identity["photos"]},
            "training": {
                "updates": self.step,
                "best_after": updates[taken],
                "held_out_loss": losses[taken],
                "measured_after": updates,
                "held_out_losses": losses,
                "training_losses": self.training,
            },
        }
        return network or self.best, facts


def _fresh_state(job: TrainingJob, rule: Adam) -> TrainingState:
    """Return the state before the first update: random parameters, and Adam's averages, which are 0."""
    fresh = fresh_params(job.key, len(job.paintings), width=job.width, blocks=job.blocks)
    return init_training(fresh, rule)


def checkpoint_size(job: TrainingJob) -> int:
    """Estimate the bytes of a checkpoint of a training from the shapes of its arrays.

    A checkpoint has the state of the training and the best network. Nothing is computed or allocated.
    """
    state = jax.eval_shape(lambda: _fresh_state(job, Adam(learning_rate=job.learning_rate)))
    leaves = jax.tree.leaves((state, state.network))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _check_steps(resume: TrainingCheckpoint, job: TrainingJob) -> None:
    if resume.step > job.steps:
        raise ValueError(
            f"`resume`: the checkpoint has had {resume.step} updates, more than the {job.steps} of "
            "this training; give it more steps, or begin a new one with another checkpoint file"
        )


def train(
    params: Params,
    paintings: Any,
    photos: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    style_size: Size = None,
    precision: str | None = None,
    steps: int = STEPS,
    batch: int = BATCH,
    crop: int = CROP,
    width: float = 1.0,
    blocks: int = BLOCKS,
    learning_rate: float = LEARNING_RATE,
    every: int = EVERY,
    key: Array | None = None,
    devices: Devices = None,
) -> StyleNetwork:
    """Train a feed-forward network that paints any photo in the style of a painting, in one pass.

    The network is that of Johnson et al., with a scale and shift of its instance norms for each
    painting (Dumoulin et al.). In an update, the network paints a batch of random crops (square parts)
    of photos, and Adam reduces the mean loss of the results. The loss of a result is the one that
    `stylize` would minimise with the same recipe, crop and painting. Before the first update, after
    every `every` updates and after the last one, the loss is measured on photos that are held out, that
    is, never trained on. The network for which this loss was least is returned.

    Args:
      params: weights of VGG-19, from `nst_jax.load_params`.
      paintings: a style picture, a sequence of style pictures, or a mapping from names to style
        pictures. A style picture is an image [h, w, 3] in [0, 1] or uint8, or the path of a file. The
        names become the names of the network's styles. Without names, styles are named after their
        files, and images are named "style1", "style2" and so on.
      photos: the path of a folder, a batch of images [n, h, w, 3], or a sequence of paths and images.
        There must be at least two photos with sides of at least `crop` px. A tenth of the photos,
        rounded up, but no more than 16, are held out.
      recipe: the losses to minimise, with their taps (layers) and weights, and the sizes of the
        paintings. The recipe's optimiser, number of updates and scales are not used.
      style_size: size of the paintings, as in `stylize`; None means the recipe's own.
      precision: precision as in `stylize`, for VGG-19 and for the network that is trained. The trained
        parameters are always float32.
      steps: number of updates.
      batch: number of crops in an update, a multiple of the number of devices.
      crop: side of a crop in px.
      width: factor by which the network's numbers of channels are multiplied; with 1, they are 32, 64
        and 128. The number of parameters grows with the square of the width.
      blocks: number of the network's residual blocks.
      learning_rate: learning rate of Adam.
      every: number of updates between two measurements of the loss on the held-out photos.
      key: a JAX random key, on which the network's first parameters and all crops depend; None means
        `jax.random.key(0)`.
      devices: devices that share the crops of each update: `"all"`, a number, or a list of
        `jax.Device`; None means the device to which the weights are committed, else JAX's default
        device.

    Returns:
      The network with the least loss on the held-out photos. `nst_jax.feed_forward.stylize_trained`
      paints with its field `params`, and `nst_jax.feed_forward.save_network` writes it to a file.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if the value of an argument cannot be used, or if fewer than two photos can be used,
        both before any long work; or later, if all photos to train on turn out to be damaged or nearly
        uniform.
      TrainingDiverged: if a loss is not finite.
      OutOfMemory: if the device runs out of memory.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> cat, night = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> network = nst.train(
      ...     nst.load_params(), {"night": night}, [cat, cat[:200]], steps=1, batch=1, crop=32,
      ...     width=0.1, blocks=1, style_size=64,
      ... )
      >>> nst.feed_forward.stylize_trained(network.params, jax.numpy.asarray(cat)).shape
      (300, 451, 3)

    References:
      Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
      2016; Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2017.
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    job = training_job(
        paintings,
        photos,
        recipe=recipe,
        style_size=style_size,
        precision=precision,
        steps=steps,
        batch=batch,
        crop=crop,
        width=width,
        blocks=blocks,
        learning_rate=learning_rate,
        every=every,
        key=key,
        devices=devices,
        weights_on=capacity.device_of(params),
    )
    with Training(params, job) as training:
        for _ in training:
            pass
        return training.best
