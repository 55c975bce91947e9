"""The checked inputs and options of a training.

`training_job` checks them, and `identity_of` lists all that the result of a training depends on, so
that a training is resumed only from a checkpoint of the same training.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from nst_jax import _checks, images, provenance, run_scales
from nst_jax._types import HostImage, Params, Shape
from nst_jax.feed_forward.crops import Found, find_photos
from nst_jax.feed_forward.johnson import SMALLEST
from nst_jax.feed_forward.training_step import check_batch
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.checking import check_style_scale
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import sharding
from nst_jax.scaling.sharding import Devices
from nst_jax.weights.params import digest


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """The checked inputs and options of a training, from `training_job`.

    Attributes:
      paintings: name of a style of the network -> style picture [h, w, 3].
      found: the photos that can be used, and notes on those that were left out.
      recipe: the losses to minimise with their weights, and the precision.
      steps: number of updates.
      batch: number of crops (square parts of photos) in an update.
      crop: side of a crop in px.
      width: factor by which the network's numbers of channels are multiplied.
      blocks: number of the network's residual blocks.
      learning_rate: learning rate of Adam.
      every: number of updates between two measurements of the loss on the held-out photos, which are
        never trained on.
      key: a random key, on which the network's first parameters and all crops depend.
      mesh: the devices that share the crops of an update; None means one device.
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
        """Name of a painting -> (height, width) in px to which the recipe's size rules resize it.

        A rule may compute the size of a style from that of the content, which is a crop here.
        """
        crop = (self.crop, self.crop)
        return {
            name: run_scales.final_shapes(
                crop, painting.shape[:2], self.recipe, argument="paintings", index=index
            )[1]
            for index, (name, painting) in enumerate(self.paintings.items())
        }

    @cached_property
    def seed(self) -> tuple[int, ...]:
        """The random key as integers, to seed NumPy's random generators, which choose the crops."""
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
    weights_on: Any = None,
    look: Any = lambda done, total: None,
) -> TrainingJob:
    """Check the arguments of a training, and find its photos.

    All arguments but `weights_on` and `look` are those of `nst_jax.train`, whose documentation
    describes them and the errors that this function raises.

    Args:
      paintings: the style pictures.
      photos: the photos to train on; or what `crops.find_photos` returned, if it was called before.
      recipe: the losses to minimise, and the sizes of the paintings unless `style_size` is given.
      style_size: size of the paintings, in place of the recipe's; None keeps the recipe's.
      precision: name of the precision of products and activations; None keeps the recipe's.
      steps: number of updates.
      batch: number of crops (square parts of photos) in an update.
      crop: side of a crop in px.
      width: factor by which the network's numbers of channels are multiplied.
      blocks: number of the network's residual blocks.
      learning_rate: learning rate of Adam.
      every: number of updates between two measurements of the loss on the held-out photos.
      key: a random key, on which the network's first parameters and all crops depend; None means
        `jax.random.key(0)`.
      devices: the devices that share the crops of an update; None means one device.
      weights_on: the device to which the weights are committed, as in `sharding.mesh_of`.
      look: a function that shows progress. It is called after each photo that was checked, with the
        number of photos checked so far and the number of all photos.

    Returns:
      The inputs and options, for `Training`.
    """
    for name, value in {"steps": steps, "batch": batch, "every": every, "blocks": blocks}.items():
        _checks.whole(name, value, least=1)
    _checks.whole("crop", crop, least=SMALLEST)
    _checks.one_number("learning_rate", learning_rate, above=0)
    _checks.one_number("width", width, above=0)
    _checks.random_key("key", key)
    recipe = with_options(recipe, None, style_size, None, precision)
    _checks.single(recipe)
    if recipe.terms.matched:
        raise ValueError(
            f"`recipe`: {recipe.name!r} seeks nearest neighbours for one canvas at a time, so "
            "no network can be trained by it; choose a recipe with another style loss"
        )
    if recipe.terms.tap_styles:
        raise ValueError(
            "`recipe`: has styles of single layers (`tap_styles`), but a network learns a painting "
            "as a whole; leave them out, or paint with `stylize`"
        )
    _check_no_controls(recipe)
    named = _named(paintings)
    check_style_scale(recipe.pictures, len(named))
    mesh = sharding.mesh_of(devices, weights_on=weights_on)
    check_batch(batch, mesh)
    here = sharding.default_device() if weights_on is None else weights_on
    platform = (here if mesh is None else mesh.devices.flat[0]).platform
    job = TrainingJob(
        paintings=named,
        found=Found((), ()),
        # With `tile=0`, VGG-19 computes each crop whole, without tiles: crops are small.
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
    # This raises an error if a painting is too small. It comes before the photos are read, which may
    # take long.
    _ = job.style_shapes
    found = photos if isinstance(photos, Found) else find_photos(photos, int(crop), look=look)
    return replace(job, found=found)


def _check_no_controls(recipe: Recipe) -> None:
    """Raise a ValueError for a recipe whose results get colours or edges from the photograph itself.

    Such a recipe needs a style, a loss or a last step of its own for each photograph. The training of
    one network for all photographs has none of these.
    """
    plain = Pictures()
    for name in ("colors", "realism"):
        value = getattr(recipe.pictures, name)
        if value != getattr(plain, name):
            raise ValueError(
                f"`recipe`: its `pictures.{name}` is {_checks.shown(value)}, which depends on the "
                "photograph, and a network is trained for all photographs; set it to "
                f"{getattr(plain, name)!r}"
            )
    if recipe.terms.matting_weight is not None:
        raise ValueError(
            "`recipe`: has a `terms.matting_weight`, which a training does not use; leave it out"
        )


def _named(paintings: Any) -> dict[str, HostImage]:
    """Return a dictionary from names of styles to images [h, w, 3].

    `paintings` is one picture, several pictures, or a dictionary from names to pictures. A picture is
    an array or the path of a file. Without a dictionary, a file's style is named after the file, and an
    array's style by its place, such as `style2`.
    """
    if isinstance(paintings, Mapping):
        pairs = list(paintings.items())
        for name, _ in pairs:
            if not isinstance(name, str):
                raise TypeError(
                    "`paintings`: expected text as the name of each style, got "
                    f"{_checks.shown(name)}; a list of pictures needs no names"
                )
    else:
        single = isinstance(paintings, (str, os.PathLike)) or hasattr(paintings, "shape")
        if not single and not isinstance(paintings, Iterable):
            raise TypeError(
                f"`paintings`: expected a picture or its path, or a list or dictionary of them, got "
                f"{type(paintings).__name__}"
            )
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
    """Make names different from each other: add a number to each name that occurred before.

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
    """Return all that a training's result depends on, except the devices and the number of updates.

    A training may be resumed from a checkpoint only if this dictionary equals the checkpoint's `facts`.

    Args:
      params: weights of VGG-19.
      job: the inputs and options of the training.

    Returns:
      A dictionary of JSON values by name, such as the settings of the recipe and hashes of the
      pictures.
    """
    settings = provenance.of_recipe(job.recipe)
    used = [key for key in settings if key.startswith(("terms.", "network."))]
    # The filter resizes the paintings. The default is left out, so that older checkpoints stay valid.
    if job.recipe.pictures.resize is not Pictures().resize:
        used.append("pictures.resize")
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
        **{key: settings[key] for key in used},
        **{f"version of {n}": v for n, v in provenance.versions().items() if n != "python"},
    }
    return json.loads(json.dumps(found, default=str))


def _digest(image: HostImage) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
