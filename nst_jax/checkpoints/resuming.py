"""Which run may resume from a checkpoint, and which choices it takes over from the checkpoint's run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from nst_jax import _hdf5
from nst_jax._types import Checkpoint
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.precision import PRECISIONS, Auto


def check_resumable(
    checkpoint: Checkpoint,
    facts: Mapping[str, Any],
    scales: Sequence[Mapping[str, Any]],
    *,
    argument: str = "resume",
) -> None:
    """Refuse a checkpoint unless this run, resumed from it, ends like a run without interruption.

    This run may have another total number of updates than the earlier run, which made the checkpoint.
    But all updates up to the checkpoint must be the same in both runs. With a single scale, it is
    enough that inputs and settings are the same and that this run is long enough. With several scales,
    both runs must have equally many scales, and each scale that the earlier run had finished must have
    the same sizes and the same number of updates in this run.

    Args:
      checkpoint: the checkpoint of the earlier run.
      facts: the inputs and settings on which the result of this run depends, from
        `provenance.of_identity`.
      scales: the scales (resolutions) of this run, from `provenance.of_scales`.
      argument: the caller's name for the checkpoint, used in messages.

    Raises:
      ValueError: if the checkpoint is of another run (the message names the differences), or if this
        run would never be at the checkpoint's scale and update.
    """
    check_same_run(checkpoint.facts, facts, argument=argument)
    _check_position(checkpoint, scales, argument)


def check_same_run(
    was: Mapping[str, Any], now: Mapping[str, Any], *, argument: str = "resume"
) -> None:
    """Refuse a checkpoint whose run had other inputs, settings or package versions than this run.

    Args:
      was: inputs (as hashes), settings and versions of packages of the checkpoint's run, by name, as
        JSON values.
      now: those of this run.
      argument: the caller's name for the checkpoint, used in messages.

    Raises:
      ValueError: if any of them differs; the message names the first differences.
    """
    differences = list(_differing_facts(was, now))
    if differences:
        raise ValueError(
            f"`{argument}`: the checkpoint is of another run: "
            f"{_hdf5.first_differences(differences)}; resume with the same pictures, settings and "
            "versions, or begin a new run with another checkpoint file"
        )


def _differing_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield a phrase for each setting or input that differs between a checkpoint's run and this run.

    The phrases for those that this run lacks come last.

    Args:
      old: settings and inputs of the checkpoint's run, by name.
      new: settings and inputs of this run, by name.
    """
    found: list[str] = []
    for name in dict.fromkeys((*new, *old)):
        if name in old and name in new and old[name] == new[name]:
            continue
        # If, for example, the optimiser (`descent.optimizer`) differs, it alone is listed, without its
        # settings (`descent.optimizer.*`).
        if not name.startswith(tuple(f"{other}." for other in found)):
            found.append(name)
            yield f"{name} was {_shown(old, name)}, is {_shown(new, name)}"


def _shown(facts: Mapping[str, Any], name: str) -> str:
    """Return the value of a setting or input as text for messages; "absent" if `facts` lacks it.

    Of a hash, such as that of a picture, only the first 12 characters are returned.
    """
    if name not in facts:
        return "absent"
    value = facts[name]
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else json.dumps(value, ensure_ascii=False)


def _check_position(
    checkpoint: Checkpoint, scales: Sequence[Mapping[str, Any]], argument: str
) -> None:
    """Refuse a checkpoint at a scale (resolution) and update that a run with `scales` never reaches."""
    was, now = list(checkpoint.scales), list(scales)
    step, here = checkpoint.step, checkpoint.scale
    totals = [sum(scale["steps"] for scale in plan) for plan in (was, now)]
    if step > totals[1]:
        raise ValueError(
            f"`{argument}`: the checkpoint has had {step} updates, more than the {totals[1]} of this "
            "run; give it more steps, or begin a new run with another checkpoint file"
        )
    # The last update of a scale makes the first canvas of the next scale. So after this update, a run
    # is already at the next scale, except after the last update of the last scale.
    begins, ends = (sum(scale["steps"] for scale in now[:n]) for n in (here, here + 1))
    same_so_far = now[:here] == was[:here] and len(now) == len(was)
    if same_so_far and begins <= step <= ends - (here < len(now) - 1):
        return
    plans = [
        ", ".join(f"{_pixels_of(scale)} for {scale['steps']}" for scale in plan)
        for plan in (was, now)
    ]
    raise ValueError(
        f"`{argument}`: the checkpoint is at {_pixels_of(was[here])} after {step} updates of "
        f"{plans[0]}; a run of {totals[1]} updates has {plans[1]}, so it would not pass that point; "
        f"resume with {totals[0]} steps, or begin a new run with another checkpoint file"
    )


def _pixels_of(scale: Mapping[str, Any]) -> str:
    """Return the canvas' size in the record of a scale (resolution) as text such as "512x384"."""
    return "x".join(map(str, scale["size"]))


def with_choices_of(recipe: Recipe, checkpoint: Checkpoint | None) -> Recipe:
    """Return the recipe with the tiles and the precision that were chosen for the checkpoint's run.

    Only what the recipe leaves open is replaced. If `network.tile` is None, `network.tile` and
    `network.remat` (whether activations are recomputed) become those of the checkpoint's run. A tile
    size chosen for the memory that is available now could differ, which would change the last bits of
    the picture. If `network.precision` is `AUTO`, it becomes the precision of the checkpoint's run,
    even if this platform has another default. Without a checkpoint, the recipe is returned unchanged.
    """
    if checkpoint is None:
        return recipe
    network, facts = recipe.network, checkpoint.facts
    precision = PRECISIONS.get(str(facts.get("network.precision")))
    if isinstance(network.precision, Auto) and precision is not None:
        network = replace(network, precision=precision)
    tile, remat = (facts.get(f"network.{name}") for name in ("tile", "remat"))
    # Values of other types are from another version of this package: `check_resumable` refuses them.
    if network.tile is None and type(tile) is int and type(remat) is bool:
        network = replace(network, tile=tile, remat=remat)
    return replace(recipe, network=network)


class BucketOfRun(NamedTuple):
    """The square arrays, called buckets, in which the canvases of a run lie.

    Runs with canvases of other shapes may use arrays of the same sizes, and so share compiled programs.
    """

    side: int  # side in px at the final scale (the full resolution)
    one_size: bool  # whether coarser scales have arrays of this side, too; False for a single scale


def bucket_of(checkpoint: Checkpoint) -> BucketOfRun | None:
    """Return which square arrays (buckets) a checkpoint's run uses.

    The result is None if the arrays of the run have the shapes of its canvases.
    """
    sizes = sizes_in_bucket(checkpoint.facts)
    if sizes is None:
        return None
    return BucketOfRun(sizes[-1][0], len(sizes) > 1 and all(size == sizes[-1] for size in sizes))


def sizes_in_bucket(facts: Mapping[str, Any]) -> list[list[int]] | None:
    """Return [width, height] of the array in which a run's canvas lies, for each resolution.

    The sizes are read from the entry "bucket" of `facts`, the facts about the run in its checkpoint.
    The result is None without a readable entry. A run has no entry if its canvas fills its arrays.
    """
    sizes = str(facts.get("bucket", "")).removesuffix(" px").split(", ")
    found = [size.split("x") for size in sizes]  # from text such as "32x32, 64x64 px"
    if not all(len(pair) == 2 and all(side.isdecimal() for side in pair) for pair in found):
        return None
    return [[int(side) for side in pair] for pair in found]
