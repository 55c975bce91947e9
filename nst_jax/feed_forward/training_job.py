"""The checked inputs and options of a training, and everything that its result depends on."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from nst_jax import _checks, images, prepare, provenance
from nst_jax._types import HostImage, Params, Shape
from nst_jax.feed_forward.crops import Found, find_photos
from nst_jax.feed_forward.johnson import SMALLEST
from nst_jax.feed_forward.training_step import check_batch
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import sharding
from nst_jax.scaling.sharding import Devices
from nst_jax.weights.params import digest


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """The checked inputs and options of a training.

    Attributes:
      paintings: the style pictures, by the names that the styles shall have.
      found: the photos, and notes on those that were left out.
      recipe: what is minimised, and the precision.
      steps: number of updates.
      batch: number of crops in an update.
      crop: side of a crop in px.
      width: factor of the network's numbers of channels.
      blocks: number of the network's residual blocks.
      learning_rate: learning rate of Adam.
      every: number of updates between two measurements of the held-out loss.
      key: a random key, on which the fresh network and all crops depend.
      mesh: the devices that share the crops of an update; None is one device.
    """

    paintings: Mapping[str, HostImage]
    found: Found
    recipe: Recipe
    steps: int
    batch: int
    crop: int
    width: float
    blocks: int
    learning_rate: float
    every: int
    key: Array
    mesh: Mesh | None

    @property
    def style_shapes(self) -> dict[str, Shape]:
        """(height, width) at which each painting is measured, by the recipe's size rules."""
        crop = (self.crop, self.crop)
        return {
            name: prepare.final_shapes(crop, painting.shape[:2], self.recipe, argument="paintings")[
                1
            ]
            for name, painting in self.paintings.items()
        }

    @cached_property
    def seed(self) -> tuple[int, ...]:
        """The key as numbers, from which crops are drawn on the host."""
        typed = jnp.issubdtype(self.key.dtype, jax.dtypes.prng_key)
        data = jax.random.key_data(self.key) if typed else self.key
        return tuple(np.asarray(data).ravel().tolist())


def training_job(
    paintings: Any,
    photos: Any,
    *,
    recipe: Recipe,
    style_size: Size,
    precision: str | None,
    steps: int,
    batch: int,
    crop: int,
    width: float,
    blocks: int,
    learning_rate: float,
    every: int,
    key: Array | None,
    devices: Devices,
    look: Any = lambda done, total: None,
) -> TrainingJob:
    """Check the arguments of a training, and find its photos.

    `train` has the defaults, and says which errors are raised.

    Args:
      paintings: see `train`.
      photos: see `train`; or a `Found`.
      recipe: see `train`.
      style_size: see `train`.
      precision: see `train`.
      steps: see `train`.
      batch: see `train`.
      crop: see `train`.
      width: see `train`.
      blocks: see `train`.
      learning_rate: see `train`.
      every: see `train`.
      key: see `train`.
      devices: see `train`.
      look: called after each photo, with the number of photos looked at so far and the number of all.
    """
    for name, value in {"steps": steps, "batch": batch, "every": every, "blocks": blocks}.items():
        _checks.whole(name, value, least=1)
    _checks.whole("crop", crop, least=SMALLEST)
    _checks.number("learning_rate", learning_rate, above=0)
    _checks.number("width", width, above=0)
    _checks.random_key("key", key)
    recipe = with_options(recipe, None, style_size, None, precision)
    _checks.single(recipe)
    mesh = sharding.mesh_of(devices)
    check_batch(batch, mesh)
    platform = jax.devices()[0].platform if mesh is None else mesh.devices.flat[0].platform
    job = TrainingJob(
        paintings=_named(paintings),
        found=Found((), ()),
        # Crops are small, so they are never computed in tiles.
        recipe=recipe.resolved(platform).replace(network__tile=0),
        steps=int(steps),
        batch=int(batch),
        crop=int(crop),
        width=float(width),
        blocks=int(blocks),
        learning_rate=float(learning_rate),
        every=int(every),
        key=jax.random.key(0) if key is None else key,
        mesh=mesh,
    )
    _ = job.style_shapes  # raises if a painting is too small, before all photos are read
    found = photos if isinstance(photos, Found) else find_photos(photos, int(crop), look=look)
    return replace(job, found=found)


def _named(paintings: Any) -> dict[str, HostImage]:
    """Return the paintings as pictures by name."""
    if isinstance(paintings, Mapping):
        pairs = list(paintings.items())
    else:
        single = isinstance(paintings, (str, os.PathLike)) or hasattr(paintings, "shape")
        several = [paintings] if single else list(paintings)
        paths = [Path(each) if isinstance(each, (str, os.PathLike)) else None for each in several]
        stems = [f"style{n}" if path is None else path.stem for n, path in enumerate(paths, 1)]
        pairs = list(zip(distinct(stems), several, strict=True))
    if not pairs:
        raise ValueError("`paintings`: is empty; give at least one picture")
    return {
        name: images.load(value, argument="paintings")
        if isinstance(value, (str, os.PathLike))
        else _checks.image("paintings", value)
        for name, value in pairs
    }


def distinct(names: Sequence[str]) -> list[str]:
    """Return names with numbers added to those that occur more than once.

    Example:
      >>> distinct(["wave", "scream", "wave"])
      ['wave', 'scream', 'wave_2']
    """
    found: list[str] = []
    for name in names:
        number, new = 1, name
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


def identity_of(params: Params, job: TrainingJob) -> dict[str, Any]:
    """Return everything that a training depends on, except its device and its number of updates.

    Args:
      params: weights of VGG-19.
      job: the inputs and options.

    Returns:
      A dictionary from the name of a fact to its value, as JSON represents it.
    """
    settings = provenance.of_recipe(job.recipe)
    photos = "".join(photo.digest for photo in job.found.photos)
    found = {
        "paintings": {name: _digest(image) for name, image in job.paintings.items()},
        "sizes": {name: list(shape) for name, shape in job.style_shapes.items()},
        "photos": hashlib.sha256(photos.encode()).hexdigest(),
        "batch": job.batch,
        "crop": job.crop,
        "width": job.width,
        "blocks": job.blocks,
        "learning_rate": job.learning_rate,
        "every": job.every,
        "key": list(job.seed),
        "weights": digest(params),
        **{key: settings[key] for key in settings if key.startswith(("terms.", "network."))},
        **{f"version of {n}": v for n, v in provenance.versions().items() if n != "python"},
    }
    return json.loads(json.dumps(found, default=str))


def _digest(image: HostImage) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
