"""Work in a second thread, such as compiling, begun ahead of the time when its result is needed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import LONGEST_PAUSE


class Ahead(AbstractContextManager):
    """Does work, such as compiling, in a second thread, ahead of the time when its result is needed.

    While a thread waits for such a result, the time counts as time for compiling.

    Attributes:
      look: a function that is called every few hundredths of a second while a thread waits for a
        result; an exception that the function raises ends the wait.
    """

    def __init__(self, compiling: CompileClock) -> None:
        self._compiling = compiling
        self.look: Callable[[], Any] = lambda: None
        self._pool = ThreadPoolExecutor(max_workers=1)

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Begin to call `work`; return a function that waits for the result of `work` and returns it.

        If `work` raises an exception, the returned function raises the same.
        """
        future = self._pool.submit(work)

        def result() -> Any:
            with self._compiling.waiting():
                while not wait([future], LONGEST_PAUSE).done:
                    self.look()
                return future.result()

        return result
