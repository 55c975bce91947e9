"""Several processes that paint one picture together, joined by JAX's distributed runtime.

All processes run the same program and must make the same calls in the same order. Decisions that depend
on the clock of one process, or on a signal to it, are therefore exchanged, so that all processes act
alike. Only the first process writes files.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from nst_jax import _files

AUTO = "auto"  # value of `--cluster` with which JAX finds the other processes by itself

# Time limit in seconds for all processes to join the cluster. Once a `PeerMonitor` watches them, each
# has as many seconds again to give its first heartbeat.
JOIN_SECONDS = 300
HEARTBEAT_SECONDS = 2  # seconds from one heartbeat of a process to its next one
LOST_SECONDS = 30  # a process counts as lost if its last heartbeat was over this many seconds ago

# Prefixes of keys in the key-value store that JAX shares between the processes: one for heartbeats, one
# for the reasons why processes stopped. A process appends its index, as in "nst_jax/alive/3".
ALIVE, STOPPED = "nst_jax/alive", "nst_jax/stopped"

DONE = "done"  # what a process that has ended without an error writes in place of a heartbeat

# `from_first` sends this number in place of every larger one, since JAX sends integers as 32 bits.
LARGEST_INTEGER = 2**31 - 1


def join(cluster: str) -> None:
    """Join the other processes of a cluster; to be called before JAX is used for anything else.

    Args:
      cluster: `"auto"` if JAX can find the other processes (SLURM, Open MPI, a TPU pod, Kubernetes), or
        `HOST:PORT,N,I`: the address at which the first process listens, the number of processes, and
        the index of this process.

    Raises:
      ValueError: if `cluster` has neither of these forms, if N is 0 or I is not below N, if JAX finds
        no cluster, or if a process does not join in time.

    References:
      JAX's documentation, "Introduction to multi-controller JAX", `jax.distributed.initialize`.
    """
    where = {} if cluster == AUTO else _parse_address(cluster)
    try:
        jax.distributed.initialize(**where, initialization_timeout=JOIN_SECONDS)
    except (RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        if where or isinstance(error, RuntimeError):
            raise ValueError(f"`cluster`: could not join {cluster!r}: {first}") from error
        raise ValueError(
            f"`cluster`: jax finds no cluster here ({first}); name it as HOST:PORT,N,I: the address at "
            "which the first process listens, the number of processes, and the index of this one, "
            "from 0"
        ) from error


def _parse_address(cluster: str) -> dict[str, Any]:
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
        raise ValueError(f"`cluster`: the number of processes cannot be 0, got {cluster!r}")
    if index >= count:
        raise ValueError(f"`cluster`: of {count} processes the last is {count - 1}, got {index}")
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def is_first() -> bool:
    """Return whether this process is the first of its cluster, the only one that writes files."""
    return jax.process_index() == 0


def from_first(values: Iterable[int]) -> Iterator[int]:
    """Yield, in every process, the integers from the iterable of the first process.

    The integers are numbers of updates between snapshots. Each process would choose them by its own
    clock, but all must make the same updates. So the integers of the first process are sent to the
    others, which take as many integers from their own iterables, but ignore them. With several
    processes, an integer above `LARGEST_INTEGER` is replaced by it, since JAX sends only 32 bits.
    """
    if jax.process_count() == 1:
        yield from values
        return
    for value in values:
        limited = np.int64(min(value, LARGEST_INTEGER))
        yield int(multihost_utils.broadcast_one_to_all(limited))


def true_in_any(value: bool) -> bool:
    """Return, in every process, whether `value` is true in at least one process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def same_in_all(value: bool, message: str) -> bool:
    """Return `value`, after checking that it is the same in all processes.

    Raises:
      ValueError: in every process, with `message` as its text, if the values differ.
    """
    if true_in_any(value) and true_in_any(not value):
        raise ValueError(message)
    return value


@contextmanager
def reserved_by_first(path: Path, argument: str) -> Iterator[None]:
    """Context manager: the first process reserves a file, so that no other run can use it meanwhile.

    See `nst_jax._files.reserved`.

    Args:
      path: path of the file.
      argument: the caller's name for the path, used in error messages.

    Raises:
      ValueError: in every process, if another run has reserved the file.
    """
    with ExitStack() as resources:
        free = True
        if is_first():
            try:
                resources.enter_context(_files.reserved(path, argument=argument))
            except ValueError:
                free = False
        if true_in_any(not free):
            raise ValueError(_files.in_use(path, argument))
        yield


# --- Loss of another process ----------------------------------------------------------------------


class PeerMonitor(AbstractContextManager):
    """Ends this process when another process of its cluster is lost, fails, or tells it to stop.

    The cluster is the processes that paint one picture together. A thread of every process writes a
    heartbeat, a number that it counts up, into JAX's key-value store, and reads the heartbeats of the
    other processes. A process whose heartbeat stays the same for too long counts as lost.

    Without a monitor, a process would wait for data from the lost one until JAX notices the loss, which
    usually takes a minute or more. Then JAX would end the process from C++, where nothing can be saved.
    """

    def __init__(self, report: Callable[[str], Any]) -> None:
        """Make a monitor, which watches the other processes while it is used as a context manager.

        Args:
          report: is called with a line that says why this process ends. It is called in the thread of
            the monitor.
        """
        self._report, self._over = report, threading.Event()
        self._save: Callable[[], Any] | None = None
        self._interruption = ""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "PeerMonitor":
        if jax.process_count() > 1:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    @contextmanager
    def saving(self, save: Callable[[], Any]) -> Iterator[None]:
        """Context manager: if the monitor ends this process during the block, it calls `save` first."""
        self._save = save
        try:
            yield
        finally:
            self._save = None

    def stop_others(self, reason: str) -> None:
        """Make this monitor tell all other processes to stop when its `with` block ends.

        Args:
          reason: why the other processes have to stop. They show its first line to the user.
        """
        self._interruption = reason

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._thread is None:
            return
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Perhaps an exchange of data failed because another process is lost. Then the monitor's
            # thread notices the loss during this wait, and ends this process with a clearer message.
            self._thread.join(LOST_SECONDS + 3 * HEARTBEAT_SECONDS)
        self._over.set()
        self._thread.join()
        with suppress(jax.errors.JaxRuntimeError):
            if error is None and not self._interruption:
                _write(ALIVE, DONE)
                return
            first_line = next(iter(str(error or self._interruption).splitlines()), "")
            _write(STOPPED, first_line or type(error).__name__)
            # JAX's key-value store ends with the first process, which may be this one. So this process
            # waits until the others have had time to read the reason.
            time.sleep(2 * HEARTBEAT_SECONDS)

    def _watch(self) -> None:
        beats = 0
        # For each process, by its index: its last heartbeat (None if it has given none yet), and when
        # this heartbeat, or its lack, was first noticed.
        seen: dict[int, tuple[str | None, float]] = {}
        while not self._over.wait(HEARTBEAT_SECONDS):
            beats += 1
            try:
                _write(ALIVE, str(beats))
                stopped, alive = _read(STOPPED), _read(ALIVE)
            except jax.errors.JaxRuntimeError:
                self._end("the first process, which hosts the cluster, cannot be reached")
            for index, reason in stopped.items():
                self._end(f"process {index} stopped: {reason}")
            now = time.monotonic()
            for index in range(jax.process_count()):
                beat, since = seen.get(index, (None, now))
                if alive.get(index) != beat:
                    seen[index] = alive.get(index), now
                    continue
                seen[index] = beat, since
                # A process that has given no heartbeat yet may still be starting, so it gets more time.
                limit = JOIN_SECONDS if beat is None else LOST_SECONDS
                if beat != DONE and index != jax.process_index() and now - since > limit:
                    self._end(f"process {index} has given no sign of life for {limit} s")

    def _end(self, reason: str) -> NoReturn:
        try:
            if self._save is not None:
                self._save()
            self._report(
                f"process {jax.process_index()} of {jax.process_count()} cannot continue: {reason}; "
                "start all of them again, with `--checkpoint FILE --resume` to resume the run"
            )
        finally:
            # `sys.exit` would end only this thread; the main thread might wait for the lost process
            # forever.
            os._exit(1)


def _store() -> Any:
    # JAX has no public name for its key-value store. This private name is the same in all versions of
    # JAX that this package supports.
    return distributed.global_state.client


def _write(key: str, value: str) -> None:
    _store().key_value_set(f"{key}/{jax.process_index()}", value, allow_overwrite=True)


def _read(key: str) -> dict[int, str]:
    """Return what processes have written under `key` in JAX's key-value store, by process index."""
    found = _store().key_value_dir_get(key)
    return {int(name.rpartition("/")[2]): value for name, value in found}
