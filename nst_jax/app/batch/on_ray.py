"""Painting an album on a Ray cluster: one actor a device, each with its own compiled programs.

The files lie where every machine finds them under the same path. An actor that dies is started anew
by Ray, and its groups are painted again but for the pictures that it had finished.
"""

import functools
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._types import Params
from nst_jax.app import programs
from nst_jax.app.batch import groups, job, local, results
from nst_jax.app.batch.groups import Entry, Group
from nst_jax.app.batch.job import Album, record_of
from nst_jax.app.batch.results import Record
from nst_jax.app.progress import Course, Display, Load, left, work_of
from nst_jax.app.timing import CompileClock
from nst_jax.recipes import toml
from nst_jax.vgg.precision import AUTO, named
from nst_jax.weights.params import WeightsInfo

RETRIES = 3  # of what an actor was painting when it died

MOST_GROUPS = 8  # at once to an actor, which reads ahead among them

ACCELERATORS = ("GPU", "TPU")  # as Ray calls its resources


def check() -> None:
    """Refuse to lead a fleet where Ray is not installed.

    Raises:
      ValueError: naming the extra.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise ValueError(
            "`engine`: Ray Data is missing; `pip install 'nst-jax[ray]'` brings it"
        ) from None


@contextmanager
def joined() -> Iterator[None]:
    """Be in the cluster that `$RAY_ADDRESS` names, else in one of this machine alone.

    Enter it before jax is used: Ray forks, which jax' threads do not outlive, and the devices are the
    actors', so this process must not reserve their memory.
    """
    import ray

    jax.config.update("jax_platforms", "cpu")
    if ray.is_initialized():  # somebody else's
        yield
        return
    # Its core warns at every actor that what it was given might be lost. This process holds that.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def paint_by_ray(
    params: Params, weights: WeightsInfo, album: Album, display: Display, tell: local.Tell
) -> None:
    """Paint an album on the devices of the cluster that this process is in.

    Args:
      params: the weights.
      weights: what their file says of itself.
      album: checked.
      display: where to show progress.
      tell: called with each row's record once an actor has told of it.
    """
    import ray

    kind, devices = devices_of(ray.cluster_resources(), ray.nodes())
    formed = groups.form_groups(album.entries, "cpu" if kind == "CPU" else "gpu")
    crew = _crew(params, weights, album, formed)
    with display.bar(len(album.entries), f"devices: {devices} {kind}"):
        tally = Tally(formed, display)
        for records in _answers(crew, formed, kind, devices):
            for record in records:
                tell(record)
            tally.add(records)
        for record in _unanswered(album, weights, tally.told):
            tell(record)


def devices_of(resources: dict[str, float], nodes: Sequence[dict[str, Any]]) -> tuple[str, int]:
    """Return what kind of device a cluster computes on, and how many there are.

    Args:
      resources: of the whole cluster, as Ray counts them.
      nodes: its machines; without an accelerator each one's processor is a device.

    Returns:
      "GPU", "TPU" or "CPU", and a number.

    Example:
      >>> devices_of({"CPU": 64.0, "GPU": 8.0}, [{"Alive": True}])
      ('GPU', 8)
    """
    for kind in ACCELERATORS:
        if resources.get(kind, 0) >= 1:
            return kind, int(resources[kind])
    return "CPU", max(1, sum(bool(node.get("Alive")) for node in nodes))


def precision() -> str:
    """Return what the precision "auto" means on the cluster that this process is in."""
    import ray

    kind, _ = devices_of(ray.cluster_resources(), ray.nodes())
    return named(AUTO, kind.lower()).name


class Packed(NamedTuple):
    """A group as it travels: paths absolute, since an actor has a folder of its own."""

    entries: tuple[
        dict[str, Any], ...
    ]  # the fields of each, the recipe as TOML: it holds functions
    varying: tuple[bool, ...]


class Crew(NamedTuple):
    """What every actor is given."""

    params: Params  # on the host
    weights: WeightsInfo
    album: Album
    groups: tuple[Packed, ...]
    kept: bool  # whether compiled programs are kept


def _crew(params: Params, weights: WeightsInfo, album: Album, groups: Sequence[Group]) -> Crew:
    texts: dict[int, str] = {}  # many entries share one recipe

    def packed(entry: Entry) -> dict[str, Any]:
        recipe = entry.recipe
        if id(recipe) not in texts:
            texts[id(recipe)] = toml.to_toml(recipe)
        return entry._asdict() | {
            "content": entry.content.absolute(),
            "styles": tuple(path.absolute() for path in entry.styles),
            "output": entry.output.absolute(),
            "recipe": texts[id(recipe)],
        }

    host = jax.tree.map(np.asarray, params)
    told = replace(album, entries=(), bad=(), folder=album.folder.absolute(), sheet=None)
    parts = tuple(Packed(tuple(map(packed, group.entries)), group.varying) for group in groups)
    return Crew(host, weights, told, parts, programs.cache_enabled())


def unpacked(groups: Sequence[Packed]) -> list[Group]:
    """Return groups as they were before they travelled, but for their paths, which are absolute."""
    read = functools.cache(toml.from_toml)
    return [
        Group(
            tuple(
                Entry(**(packed | {"recipe": read(packed["recipe"])})) for packed in group.entries
            ),
            group.varying,
        )
        for group in groups
    ]


def _answers(
    crew: Crew, groups: Sequence[Group], kind: str, devices: int
) -> Iterator[list[Record]]:
    """Have the groups painted; yield records as blocks of groups are done."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False  # we tell it ourselves
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # as errors are, when they arrive
    context.max_errored_blocks = -1  # what kills its actor every time must not stop the rest
    # A few groups at once, so that an actor can read ahead; and enough blocks for all actors.
    together = max(1, min(MOST_GROUPS, len(groups) // (4 * devices)))
    blocks = math.ceil(len(groups) / together)
    wanted: dict[str, Any] = {"CPU": {"num_cpus": 1}, "GPU": {"num_gpus": 1}}.get(
        kind, {"resources": {kind: 1}}
    )
    items = [{"group": index} for index in range(len(groups))]
    pool = ray.data.ActorPoolStrategy(size=min(devices, blocks), max_tasks_in_flight_per_actor=1)
    with warnings.catch_warnings():
        # The only way to say how often; without it there is no end of retries.
        warnings.filterwarnings("ignore", ".*ray_remote_args_fn.*")
        told = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            Painter,
            batch_size=None,
            fn_constructor_args=(crew,),
            compute=pool,
            ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
            **wanted,
        )
    entries = {entry.number: entry for group in groups for entry in group.entries}
    for batch in told.iter_batches(batch_size=None, prefetch_batches=0):
        yield [_record(json.loads(text), entries) for text in batch["told"]]


def _record(told: dict[str, Any], entries: dict[int, Entry]) -> Record:
    """Return an actor's record under the names that were typed here."""
    entry = entries[told["row"]]
    names = record_of(entry, told["status"], told["error"])
    return names._replace(seconds=told["seconds"], losses=told["losses"])


def _unanswered(album: Album, weights: WeightsInfo, told: set[int]) -> Iterator[Record]:
    """Yield records of the rows that no actor lived to tell of."""
    for entry in album.entries:
        if entry.number not in told:
            facts = results.finished(entry.output, job.asked(entry, album, weights))
            if facts is not None:
                yield record_of(entry, "done", losses=facts.get("losses"))
            else:
                error = f"the actor that painted it died {RETRIES + 1} times; has it enough memory?"
                yield record_of(entry, "failed", error)


class Tally:
    """How far a fleet is, and how long the rest will take."""

    def __init__(self, groups: Sequence[Group], display: Display) -> None:
        self.told: set[int] = set()
        self._work = {
            entry.number: work_of(Load(1, entry.scales))
            for group in groups
            for entry in group.entries
        }
        self._display, self._begun = display, time.monotonic()

    def add(self, records: Sequence[Record]) -> None:
        """Count what has ended, and show it."""
        self.told |= {record.row for record in records}
        done, all_of_it = sum(self._work[row] for row in self.told), sum(self._work.values())
        rest = (time.monotonic() - self._begun) * (all_of_it - done) / max(1, done)
        words = left(rest) if done < all_of_it else ""
        self._display.move(len(self.told), len(self._work), "picture", words)


class Painter:
    """An actor: holds the weights and what it compiled, and paints groups by their numbers."""

    def __init__(self, crew: Crew) -> None:
        if not crew.kept:
            programs.disable_cache()
        else:
            programs.use_cache()
        self._params = jax.tree.map(jnp.asarray, crew.params)
        self._groups, self._crew = unpacked(crew.groups), crew

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Paint the groups whose numbers come in the column `group`; tell of each of their rows."""
        groups, weights, album = self._groups, self._crew.weights, self._crew.album
        records: list[Record] = []
        rest = []
        for index in batch["group"].tolist():
            left_of_it = replace(album, entries=groups[index].entries)
            if album.overwrite is not True:  # an actor before this one may have died of the next
                left_of_it, done = job.unfinished(replace(left_of_it, overwrite=None), weights)
                records += [record._replace(status="done") for record in done]
            if left_of_it.entries:
                rest.append(groups[index]._replace(entries=left_of_it.entries))
        with CompileClock() as compiling:
            course = Course(local.loads_of(rest), compiling, Display(quiet=True))
            local.work(self._params, weights, album, rest, course, records.append)
        return {"told": np.asarray([json.dumps(record._asdict()) for record in records])}
