"""Several processes that paint one picture together, joined by jax's own runtime.

All run the same program and have to come to the same turns: what one of them decides by its clock or a
signal, the first decides for all. The first alone writes.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

AUTO = "auto"

PATIENCE = 300  # seconds for all to come together

BEAT = 2  # seconds between two signs of life

LOST = 30  # seconds without one after which a process counts as lost

ALIVE, STOPPED = "nst_jax/alive", "nst_jax/stopped"  # where each tells of itself

DONE = "done"


def join(cluster: str) -> None:
    """Join the processes of a cluster, before jax is used for anything else.

    Args:
      cluster: `"auto"` where jax finds the others by itself (SLURM, Open MPI, a TPU pod, Kubernetes),
        or `HOST:PORT,N,I`: where the first process listens, how many there are, which one this is.

    Raises:
      ValueError: if it is neither, if jax finds no cluster, or if the others do not come.

    References:
      JAX's documentation, "Introduction to multi-controller JAX", `jax.distributed.initialize`.
    """
    where = {} if cluster == AUTO else _parsed(cluster)
    try:
        jax.distributed.initialize(**where, initialization_timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        if where or isinstance(error, RuntimeError):
            raise ValueError(f"`cluster`: could not join {cluster!r}: {first}") from error
        raise ValueError(
            f"`cluster`: jax finds no cluster here ({first}); name it by HOST:PORT,N,I: where the "
            "first process listens, how many there are, and which one this is, from 0"
        ) from error


def _parsed(cluster: str) -> dict[str, Any]:
    address, *numbers = cluster.split(",")
    host, _, port = address.rpartition(":")
    if (
        not host
        or not port.isdecimal()
        or len(numbers) != 2
        or not all(map(str.isdecimal, numbers))
    ):
        raise ValueError(
            f"`cluster`: expected 'auto' or HOST:PORT,N,I such as 10.0.0.1:1234,4,0, got {cluster!r}"
        )
    count, index = map(int, numbers)
    if not count:
        raise ValueError(f"`cluster`: of how many processes cannot be 0, got {cluster!r}")
    if index >= count:
        raise ValueError(f"`cluster`: of {count} processes the last is {count - 1}, got {index}")
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def first() -> bool:
    """Say whether this process is the one that writes."""
    return jax.process_index() == 0


def led(values: Iterable[int]) -> Iterator[int]:
    """Yield, in every process, the numbers that the first one draws."""
    if jax.process_count() == 1:
        yield from values
        return
    for value in values:
        yield int(multihost_utils.broadcast_one_to_all(np.int64(min(value, 2**31 - 1))))


def any_of(value: bool) -> bool:
    """Say, in every process, whether it is true in any."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def agree(value: bool, words: str) -> bool:
    """Return what all processes find alike.

    Raises:
      ValueError: in every process, with these words, if they do not.
    """
    if any_of(value) and any_of(not value):
        raise ValueError(words)
    return value


# --- Where another process is lost ----------------------------------------------------------------


class Watch(AbstractContextManager):
    """Looks after the other processes, whom this one may be waiting for in the middle of a step.

    Every process counts in jax's own store that it is alive. Without that a process would wait until
    jax misses the other for a minute or more, and ends this one from below Python, where nothing can
    be saved. Only where the first process is killed, which keeps that store, jax is quicker.
    """

    def __init__(self, tell: Callable[[str], Any]) -> None:
        """Take what is called, in another thread, with what has happened; the process then ends."""
        self._tell, self._over = tell, threading.Event()
        self._save: Callable[[], Any] | None = None
        self._left = ""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        if jax.process_count() > 1:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    @contextmanager
    def saving(self, save: Callable[[], Any]) -> Iterator[None]:
        """Have something saved before this process ends for the loss of another."""
        self._save = save
        try:
            yield
        finally:
            self._save = None

    def leave(self, words: str) -> None:
        """Let the others end, as this one will not go on, though it has met no error."""
        self._left = words

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._thread is None:
            return
        if isinstance(error, jax.errors.JaxRuntimeError):
            # What failed may be an exchange with a process that is gone: the other thread will know,
            # and end this one in clearer words.
            self._thread.join(LOST + 3 * BEAT)
        self._over.set()
        self._thread.join()
        with suppress(jax.errors.JaxRuntimeError):
            if error is None and not self._left:
                _tell(ALIVE, DONE)
                return
            words = next(iter(str(error or self._left).splitlines()), "")
            _tell(STOPPED, words or type(error).__name__)
            time.sleep(2 * BEAT)  # so long the store is there to be read

    def _watch(self) -> None:
        beats = 0
        seen: dict[int, tuple[str | None, float]] = {}
        while not self._over.wait(BEAT):
            beats += 1
            try:
                _tell(ALIVE, str(beats))
                stopped, alive = _told(STOPPED), _told(ALIVE)
            except jax.errors.JaxRuntimeError:
                self._end("the first one, which all are joined by, cannot be reached")
            for index, words in stopped.items():
                self._end(f"process {index} stopped: {words}")
            now = time.monotonic()
            for index in range(jax.process_count()):
                beat, since = seen.get(index, (None, now))
                if alive.get(index) != beat:
                    seen[index] = alive.get(index), now
                    continue
                seen[index] = beat, since
                # Some begin later than others.
                limit = PATIENCE if beat is None else LOST
                if beat != DONE and index != jax.process_index() and now - since > limit:
                    self._end(f"process {index} has given no sign of life for {limit} s")

    def _end(self, words: str) -> NoReturn:
        try:
            if self._save is not None:
                self._save()
            self._tell(
                f"process {jax.process_index()} of {jax.process_count()} cannot go on: {words}; start "
                "all of them again, with `--checkpoint FILE --resume` from where they were"
            )
        finally:
            os._exit(1)  # the main thread waits for what will not come, and cannot be woken


def _store() -> Any:
    # Not public, but the same in all versions of jax that this package runs on.
    return distributed.global_state.client


def _tell(what: str, words: str) -> None:
    _store().key_value_set(f"{what}/{jax.process_index()}", words, allow_overwrite=True)


def _told(what: str) -> dict[int, str]:
    """Return what each process has told, by its index."""
    found = _store().key_value_dir_get(what)
    return {int(name.rpartition("/")[2]): words for name, words in found}
