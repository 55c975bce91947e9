"""Paint a batch on a Ray cluster: one actor per device, each with its own compiled programs.

A row is one picture of the batch, a group has the pictures that are painted together, and a record says
whether a row was painted, or what went wrong. An actor is a process of Ray that keeps an object, here a
`Painter`.

All machines must see the files under the same paths. Ray restarts an actor that dies. The new actor
gets the groups on which the old one was at work. It skips the pictures that are finished already,
unless the batch was started with `--overwrite`.
"""

import functools
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._types import Params
from nst_jax.app import cache, control_files
from nst_jax.app.batch import groups, job, local, results
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.groups import Group
from nst_jax.app.batch.job import BatchJob, record_of
from nst_jax.app.batch.results import Record
from nst_jax.app.progress import BatchProgress, Display, GroupWork, time_left
from nst_jax.app.timing import CompileClock
from nst_jax.recipes import toml
from nst_jax.weights.params import WeightsInfo

RETRIES = 3  # largest number of times that a block of groups is tried again after its actor died
# Largest number of groups in a block. A group has the pictures that are painted together. A block is
# the work that an actor (a process that paints) gets from Ray at a time. An actor reads files ahead
# only within a block, so with small blocks it waits for files. With large blocks, the work is divided
# less evenly among the actors. And if an actor dies, its block is tried again. With `--overwrite`, all
# pictures of the block are then painted again; without it, only those that are not finished.
MOST_GROUPS = 8
ACCELERATORS = ("GPU", "TPU")  # accelerators on which batches are painted, as Ray names them


def check_installed() -> None:
    """Check that Ray Data is installed.

    Raises:
      ValueError: if Ray Data is not installed; the message names the extra of this package to install.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise ValueError(
            "`runner`: Ray Data is missing; install it by `pip install 'nst-jax[ray]'`"
        ) from None


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the Ray cluster at `$RAY_ADDRESS`, or to one on this machine, or start one here.

    If Ray has been initialised in this process already, its cluster is used.

    Enter this context before JAX is used, for two reasons. Ray forks this process, and a fork may hang
    once JAX has started its threads. And JAX would reserve memory of the devices that the actors use,
    so the context restricts JAX in this process to the CPU.
    """
    import ray

    jax.config.update("jax_platforms", "cpu")
    if ray.is_initialized():  # whoever initialised Ray also shuts it down
        yield
        return
    # Ray's core warns for every actor that the actor's arguments might be lost. They cannot be lost,
    # since this process keeps them, so the warnings are switched off.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def paint_on_ray(
    params: Params, weights: WeightsInfo, batch: BatchJob, display: Display, report: local.Report
) -> None:
    """Paint a batch on the devices of the cluster to which this process is connected.

    Args:
      params: the weights.
      weights: description of the weights file.
      batch: the batch, without the pictures that an earlier run has finished.
      display: where to show progress.
      report: called for each picture with a `Record` of how its painting ended. The record comes from
        an actor. If the picture's actors died and returned none, the record is made at the end.
    """
    import ray

    kind, devices = devices_of(ray.cluster_resources(), ray.nodes())
    formed = groups.form_groups(batch.entries, "cpu" if kind == "CPU" else "gpu")
    inputs = _actor_inputs(params, weights, batch, formed)
    with display.bar(len(batch.entries), f"devices: {devices} {kind}"):
        progress = RayProgress(formed, display)
        for records in _paint_blocks(inputs, formed, kind, devices):
            for record in records:
                report(record)
            progress.add(records)
        for record in _missing_records(batch, weights, progress.reported):
            report(record)


def devices_of(resources: dict[str, float], nodes: Sequence[dict[str, Any]]) -> tuple[str, int]:
    """Return the kind and the number of the devices on which a cluster computes.

    Args:
      resources: the resources of the whole cluster, from `ray.cluster_resources()`.
      nodes: the cluster's machines, from `ray.nodes()`; if the cluster has no accelerator, each
        machine that is alive counts as one device.

    Returns:
      "GPU", "TPU" or "CPU", and the number of such devices.

    Example:
      >>> devices_of({"CPU": 64.0, "GPU": 8.0}, [{"Alive": True}])
      ('GPU', 8)
    """
    for kind in ACCELERATORS:
        if resources.get(kind, 0) >= 1:
            return kind, int(resources[kind])
    return "CPU", max(1, sum(bool(node.get("Alive")) for node in nodes))


def platform() -> str:
    """Return the platform of the devices of the connected cluster: "cpu", "gpu" or "tpu"."""
    import ray

    kind, _ = devices_of(ray.cluster_resources(), ray.nodes())
    return kind.lower()


class PackedGroup(NamedTuple):
    """A group of pictures, in the form in which it is sent to actors (processes of Ray that paint).

    Recipes are written as TOML, in which functions are given by their names. Paths are absolute, since
    actors have another working directory.
    """

    entries: tuple[dict[str, Any], ...]  # for each picture, the fields of its `Entry` by name
    # For each number in the recipe, whether it may differ between the pictures.
    varying: tuple[bool, ...]


class ActorInputs(NamedTuple):
    """What this process sends to every actor, which is a process of Ray that paints."""

    params: Params  # the weights, as NumPy arrays
    weights: WeightsInfo
    batch: BatchJob  # the batch without its entries (pictures), which are in `groups`
    groups: tuple[PackedGroup, ...]
    use_cache: bool  # whether to keep compiled programs on the disk


def _actor_inputs(
    params: Params, weights: WeightsInfo, batch: BatchJob, groups: Sequence[Group]
) -> ActorInputs:
    # The `id` of a recipe -> the recipe as TOML. Many entries share a recipe; it is written only once.
    texts: dict[int, str] = {}

    def pack(entry: Entry) -> dict[str, Any]:
        recipe = entry.recipe
        if id(recipe) not in texts:
            texts[id(recipe)] = toml.to_toml(recipe)
        return entry._asdict() | {
            "content": entry.content and entry.content.absolute(),
            "styles": tuple(path.absolute() for path in entry.styles),
            "output": entry.output.absolute(),
            "recipe": texts[id(recipe)],
            "controls": control_files.with_absolute_paths(entry.controls),
        }

    host = jax.tree.map(np.asarray, params)
    empty = replace(batch, entries=(), bad=(), folder=batch.folder.absolute(), sheet=None)
    packed = tuple(PackedGroup(tuple(map(pack, group.entries)), group.varying) for group in groups)
    return ActorInputs(host, weights, empty, packed, cache.cache_enabled())


def unpacked(groups: Sequence[PackedGroup]) -> list[Group]:
    """Make a `Group` of each packed group: read the recipes from TOML, and keep the absolute paths."""
    read = functools.cache(toml.from_toml)

    def unpack(fields: dict[str, Any]) -> Entry:
        return Entry(**(fields | {"recipe": read(fields["recipe"])}))

    return [Group(tuple(map(unpack, group.entries)), group.varying) for group in groups]


def _paint_blocks(
    inputs: ActorInputs, groups: Sequence[Group], kind: str, devices: int
) -> Iterator[list[Record]]:
    """Paint groups of pictures on actors, which are processes of Ray.

    Ray gives each actor blocks of one or several groups.

    Args:
      inputs: what every actor gets, such as the weights of the network.
      groups: the groups of pictures.
      kind: Ray's name for the devices: "CPU", "GPU" or "TPU".
      devices: the number of devices; there is at most one actor for each.

    Yields:
      For each block, when it is done, a list with a `Record` for each of its pictures, which says
      whether the picture was painted or has failed.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the caller shows progress by its own bar
    context.print_on_execution_start = False
    # Errors reach this process as exceptions, so Ray need not log them too.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # -1 sets no limit to the number of failed blocks: a block whose actor dies every time must not
    # stop the other blocks.
    context.max_errored_blocks = -1
    # While an actor paints one group of a block, it can read the files of the next. So a block has up
    # to `MOST_GROUPS` groups, but only as many as leave at least 4 blocks per device, so that the
    # devices finish at about the same time. With too few groups for that, a block is a single group.
    block_size = max(1, min(MOST_GROUPS, len(groups) // (4 * devices)))
    blocks = math.ceil(len(groups) / block_size)
    resources: dict[str, Any] = {"CPU": {"num_cpus": 1}, "GPU": {"num_gpus": 1}}.get(
        kind, {"resources": {kind: 1}}
    )
    items = [{"group": index} for index in range(len(groups))]
    pool = ray.data.ActorPoolStrategy(size=min(devices, blocks), max_tasks_in_flight_per_actor=1)
    with warnings.catch_warnings():
        # Using `ray_remote_args_fn` gives a warning, but no other option limits the number of retries.
        warnings.filterwarnings("ignore", ".*ray_remote_args_fn.*")
        painted = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            Painter,
            batch_size=None,
            fn_constructor_args=(inputs,),
            compute=pool,
            ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
            **resources,
        )
    entries = {entry.number: entry for group in groups for entry in group.entries}
    for block in painted.iter_batches(batch_size=None, prefetch_batches=0):
        yield [_with_typed_paths(json.loads(text), entries) for text in block["records"]]


def _with_typed_paths(fields: dict[str, Any], entries: dict[int, Entry]) -> Record:
    """Make a `Record` of the fields that an actor returned, with paths as the user typed them.

    Actors get absolute paths. The typed ones are in `entries`, the batch's pictures by their numbers.
    """
    entry = entries[fields["row"]]
    record = record_of(entry, fields["status"], fields["error"])
    return record._replace(seconds=fields["seconds"], losses=fields["losses"])


def _missing_records(batch: BatchJob, weights: WeightsInfo, reported: set[int]) -> Iterator[Record]:
    """Yield a `Record` of each picture that no actor has reported, since its actors died.

    The record says "done" if the file of the finished picture exists, since an actor may have written
    it before the actor died. Otherwise, the record says "failed".
    """
    for entry in batch.entries:
        if entry.number not in reported:
            requested = job.requested_settings(entry, batch, weights)
            facts = results.read_if_finished(entry.output, requested)
            if facts is not None:
                yield record_of(entry, "done", losses=facts.get("losses"))
            else:
                error = f"its actor died {RETRIES + 1} times; does the machine have enough memory?"
                yield record_of(entry, "failed", error)


class RayProgress:
    """Shows the progress of all actors together, and the estimated time that is left."""

    def __init__(self, groups: Sequence[Group], display: Display) -> None:
        self.reported: set[int] = set()  # numbers of the pictures that were painted or have failed
        self._costs = {
            entry.number: GroupWork(1, entry.scales).cost
            for group in groups
            for entry in group.entries
        }
        self._display, self._begun = display, time.monotonic()

    def add(self, records: Sequence[Record]) -> None:
        """Count pictures that were painted or have failed, and show the progress.

        Args:
          records: how the painting of each of these pictures ended, as reported by one actor.
        """
        self.reported |= {record.row for record in records}
        done, total = sum(self._costs[row] for row in self.reported), sum(self._costs.values())
        rest = (time.monotonic() - self._begun) * (total - done) / max(1, done)
        words = time_left(rest) if done < total else ""
        self._display.move(len(self.reported), len(self._costs), "picture", words)


class Painter:
    """A Ray actor: keeps weights and compiled programs in memory, and paints groups of pictures."""

    def __init__(self, inputs: ActorInputs) -> None:
        if inputs.use_cache:
            cache.use_cache()
        else:
            cache.disable_cache()
        self._resources = ExitStack()  # contexts that last as long as the actor
        self._resources.enter_context(cache.mended(lambda line: None))
        self._params = jax.tree.map(jnp.asarray, inputs.params)
        self._groups, self._inputs = unpacked(inputs.groups), inputs

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Paint some groups of pictures; Ray calls this method.

        Args:
          block: a table with the column `group`, the indices of the groups to paint.

        Returns:
          A table with the column `records`: for each picture, its `Record` as JSON text.
        """
        weights, batch = self._inputs.weights, self._inputs.batch
        records: list[Record] = []
        rest = []
        for index in block["group"].tolist():
            group = self._groups[index]
            remaining = replace(batch, entries=group.entries)
            # An actor that died while it painted this block may have finished some of the pictures.
            # These are skipped, unless the user wants existing pictures to be overwritten.
            if batch.overwrite is not True:
                remaining, done = job.unfinished(replace(remaining, overwrite=None), weights)
                records += [record._replace(status="done") for record in done]
            if remaining.entries:
                rest.append(group._replace(entries=remaining.entries))
        with CompileClock() as compiling:
            progress = BatchProgress(local.work_of_groups(rest), compiling, Display(quiet=True))
            local.paint_groups(self._params, weights, batch, rest, progress, records.append)
        return {"records": np.asarray([json.dumps(record._asdict()) for record in records])}
