"""The plans of a batch: which of its pictures are painted together, and how."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from nst_jax import run_scales
from nst_jax.batch_members import Member
from nst_jax.given_plans import check_plan_fits
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_choice import chosen_buckets, typical_costs
from nst_jax.scaling.bucket_plans import fits_in_bucket, plan_bucket
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import AnyMesh


def by_shape(members: list[Member], recipe: Recipe) -> list[list[Member]]:
    """Divide the pictures of a batch into groups; the pictures of a group can share a compiled loop.

    Within a group, all canvases have the same shape at each scale (resolution). With a style loss that
    compares single positions of canvas and style (a `MatchingLoss`), all styles have the same shapes as
    well, since the shapes of that loss's targets depend on them.
    """
    groups: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        groups[run_scales.shapes_of(member.prepared.scales, recipe)].append(member)
    return list(groups.values())


def by_structure(members: Sequence[Member]) -> list[list[Member]]:
    """Separate pictures that have masks from pictures without.

    Masks say which parts get a style of their own, stay as they are, or are transparent. The targets of
    a picture contain its masks as arrays, so they cannot be stacked with targets that have none.
    """
    kinds: dict[bool, list[Member]] = defaultdict(list)
    for member in members:
        kinds[member.prepared.controls is not None].append(member)
    return list(kinds.values())


def plan_members(
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
) -> tuple[Plan, list[Member]]:
    """Plan how to paint those pictures of a batch whose canvases have one shape.

    Args:
      members: the pictures.
      recipe: the recipe of all pictures, already checked.
      mesh: the devices among which the pictures are divided; None is one device.
      device: the device to which the weights are committed; None, if there is none, is JAX's default
        device. `capacity.device_of` finds it.
      chunk: largest number of pictures painted at once; None: as many as fit into memory.

    Returns:
      The plan, and `members` unchanged: a pair of the same form as those of `plan_in_buckets`.

    Raises:
      ValueError: as in `plan_scales`, for example if there is too little memory, even if pictures are
        computed in tiles.
    """
    scales = members[0].prepared.scales
    # The pictures' styles may differ in shape, and the plan's memory must be enough for all of them. So
    # the plan gets all these shapes. This is not needed with a `MatchingLoss` (`terms.matched`):
    # `by_shape` then puts only pictures whose styles have the same shapes into a group.
    if not recipe.terms.matched:
        shapes = run_scales.style_shapes_of_all([member.prepared.scales for member in members])
        scales = (*scales[:-1], scales[-1]._replace(style_shapes=shapes))
    count = len(members)
    plan = plan_scales(recipe, scales, mesh=mesh, device=device, pictures=count, chunk=chunk)
    return plan, members


def plan_in_buckets(
    side: int,
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
    bands: bool = False,
) -> list[tuple[Plan, list[Member]]]:
    """Plan the run of a batch whose canvases are padded to square arrays.

    Pictures of different sizes that are padded to the same size share compiled programs; see
    `nst_jax.scaling.buckets`.

    Args:
      side: side of the square arrays at the final resolution, in px; a multiple of 16.
      members: the pictures of the batch, of any sizes up to `side`.
      recipe: the recipe of all pictures, already checked.
      mesh: the devices among which the pictures are divided; None is one device.
      device: the device to which the weights are committed; None, if there is none, is JAX's default
        device. `capacity.device_of` finds it.
      chunk: largest number of pictures painted at once; None: as many as fit into memory.
      bands: whether the caller asks for several devices that share each picture. In square arrays this
        is not possible, so ValueError is raised for True.

    Returns:
      Pairs of a plan and the members that are painted by it. Members with different numbers of updates
      per scale (resolution) get different plans.

    Raises:
      ValueError: if a picture is larger than `side`; if `bands` is True; if, because of the recipe, a
        picture would get another result in a larger array than in an array of its own size; or if there
        is too little memory for the arrays.
    """
    runs = [member.prepared.scales for member in members]
    longest = max(runs, key=len)
    buckets.check_run_in_bucket(recipe, longest, bands=bands)
    found = []
    for bucket in buckets.buckets_of(side, runs, recipe):
        own = [members[index] for index in bucket.runs]
        options: dict[str, Any] = {
            "mesh": mesh,
            "device": device,
            "pictures": len(own),
            "chunk": chunk,
        }
        found.append((plan_bucket(recipe, bucket.scales, **options), own))
    return found


def plan_by_cost(
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
    bands: bool = False,
) -> list[tuple[Plan, list[Member]]]:
    """Plan the run of a batch whose canvases lie in larger arrays where that saves time.

    Pictures in arrays of the same shape share compiled programs, but updates of larger arrays take
    longer. `chosen_buckets` chooses the shapes of the arrays by the estimated time of all pictures
    together. Pictures whose losses or updates would change in larger arrays get arrays of the size of
    their canvas.

    Args:
      members: the pictures of the batch.
      recipe: the recipe of all pictures.
      mesh: the devices among which the pictures are divided; None is one device.
      device: the device to which the weights are committed; None, if there is none, is JAX's default
        device. `capacity.device_of` finds it.
      chunk: largest number of pictures painted at once; None: as many as fit into memory.
      bands: whether several devices share each picture; larger arrays are then not used.

    Returns:
      Pairs of a plan and the members that are painted by it. All members of a plan have arrays of the
      same shapes, and the same number of updates at each scale (resolution).

    Raises:
      ValueError: as in `plan_members`.
    """
    can = [
        not bands and buckets.can_lie_in_bucket(recipe, member.prepared.scales)
        for member in members
    ]
    some = [member for member, possible in zip(members, can, strict=True) if possible]
    alone = [member for member, possible in zip(members, can, strict=True) if not possible]
    options: dict[str, Any] = {"mesh": mesh, "device": device}
    platform = capacity.platform_of(device)
    found = chosen_buckets(
        [member.prepared.scales for member in some],
        recipe,
        typical_costs(platform),
        platform,
        together=None if chunk is None else lambda shape: chunk,
        fits=lambda arrays: fits_in_bucket(recipe, arrays, **options),
    )
    options |= {"chunk": chunk}
    plans = [plan_members(same, recipe, **options) for same in by_shape(alone, recipe)]
    for bucket in found:
        own = [some[index] for index in bucket.runs]
        if bucket.exact:
            plans.append(plan_members(own, recipe, **options))
        else:
            arrays, count = bucket.scales, len(own)
            plans.append((plan_bucket(recipe, arrays, pictures=count, **options), own))
    return plans


# --- A plan that the caller gave ------------------------------------------------------------------


def checked_plan(plan: Plan, members: Sequence[Member]) -> Plan:
    """Return the plan that the caller gave; refuse it if these pictures cannot be painted by it.

    Raises:
      ValueError: if the plan does not fit the pictures; the message says what to do instead.
    """
    if plan.pictures != len(members):
        raise ValueError(
            f"`plan`: is for {plan.pictures} pictures and {len(members)} were given; make it with "
            f"`nst_jax.plan(..., pictures={len(members)})`"
        )
    if plan.mesh is not None and sharding.PICTURES not in plan.mesh.shape:
        raise ValueError(
            "`plan`: lets several devices share one picture; call `nst_jax.stylize`, or make the plan "
            "with `bands=`, the number of devices that share each picture of a batch"
        )
    if plan.in_bucket:
        for index, member in enumerate(members):
            check_run_in_plan(plan, index, member.prepared.scales)
        return plan
    for member in members:
        scales = member.prepared.scales
        unlike = [a for a, b in zip(scales, plan.scales, strict=False) if a.shape != b.shape]
        # The sizes of the styles need not be those of the plan, except with a `MatchingLoss`, which
        # compares single positions of canvas and style. Its targets are as large as the styles, so the
        # plan's memory depends on them.
        if plan.recipe.terms.matched or unlike or len(scales) != len(plan.scales):
            check_plan_fits(plan, scales)
    return plan


def check_run_in_plan(plan: Plan, index: int, scales: Sequence[run_scales.Scale]) -> None:
    """Refuse a picture that does not fit into a plan's arrays, or differs in its numbers of updates.

    Args:
      plan: a plan whose `in_bucket` is True: its arrays may be larger than the pictures in them.
      index: the picture's index in the batch.
      scales: the picture's scales (resolutions), with the sizes of the picture and not of the arrays.

    Raises:
      ValueError: if the picture or its style does not fit into the arrays, or if its numbers of updates
        at the scales are not those of the plan; the message says what to change.
    """
    buckets.check_run_in_bucket(plan.recipe, scales)
    if [one.steps for one in scales] != [one.steps for one in plan.scales]:
        raise ValueError(
            f"`plan`: picture {index} has {_steps_of(scales)} updates at its scales, and the plan "
            f"{_steps_of(plan.scales)}; give `bucket` to `stylize_many` without a plan"
        )
    for one, array in zip(scales, plan.scales, strict=True):
        pairs = [(one.shape, array.shape)]
        pairs += [(shape, array.style_shapes[0]) for shape in one.style_shapes]
        for shape, room in pairs:
            if shape[0] > room[0] or shape[1] > room[1]:
                raise ValueError(
                    f"`plan`: picture {index} needs {shape[1]}x{shape[0]} px and the plan's arrays "
                    f"have {room[1]}x{room[0]} px; make the plan with a larger `bucket`, or for the "
                    "largest content and style"
                )


def _steps_of(scales: Sequence[run_scales.Scale]) -> str:
    return " + ".join(str(one.steps) for one in scales)
