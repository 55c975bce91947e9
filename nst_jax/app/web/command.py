"""The command `web`: serve a page on which people have pictures painted, until Ctrl-C.

The server paints the pictures. A request is an HTTP request to it. A visitor is somebody who uses the
page in a browser.
"""

import contextlib
import errno
import logging
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

from nst_jax.app import cache, interrupts
from nst_jax.app.messages import PROGRAM, print_lines, print_message
from nst_jax.app.web.painting import PictureWork
from nst_jax.app.web.queue import Queue
from nst_jax.app.web.quick import QuickPainter
from nst_jax.app.web.security import EVERYWHERE, LOOPBACK, Guard
from nst_jax.app.web.visitors import Visitors

PORT = 8317  # the port if no `--port` is given; if it is in use, a free one is taken
# When the server ends, it waits at most this many seconds for open requests and connections to end.
CLOSING_SECONDS = 1


# Errors of the system for a port that another program uses. Windows also reports EACCES for one that is
# reserved.
TAKEN = (errno.EADDRINUSE, errno.EACCES)


def web(chosen: dict[str, Any]) -> int:
    """Serve the page until Ctrl-C; return the exit code of the command.

    `chosen` maps the names of the command's options to their values.
    """
    check_extra()
    host = chosen["host"] or LOOPBACK[0]
    listening = _listen(host, chosen["port"])
    port = listening.getsockname()[1]
    token = "" if chosen["host"] is None else secrets.token_urlsafe(16)
    if problem := cache.set_cache(chosen["cache"]):
        print_message("note", problem)
    guard = Guard(host, port, token)
    address = address_of(guard)
    print_lines(f"nst-jax web: {address}", "Ctrl-C ends it.")
    if host in EVERYWHERE:
        print_lines(
            "From other devices, open it with the IP address of this machine instead of 127.0.0.1."
        )
    if chosen["browser"]:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    interrupts.raise_on_interrupt()
    with cache.mended(lambda line: print_message("note", line)), contextlib.closing(listening):
        code = serve(guard, listening, warm=True)
    print_lines(f"{PROGRAM}: ended; the pictures of the page are deleted", err=True)
    return code


def serve(guard: Guard, listening: socket.socket, ready: Any = None, *, warm: bool = False) -> int:
    """Serve the page on a socket until a signal comes, and return the exit code.

    The exit code is 128 plus the number of the signal; 0 if the server ended without a signal.

    Args:
      guard: decides which requests are served.
      listening: the socket.
      ready: called with uvicorn's server before the server begins, so that a test can end the server
        later; None calls nothing.
      warm: whether a thread compiles the programs for instant pictures (pictures by a single pass of a
        network) while the server begins. This takes some seconds.
    """
    queue = Queue()
    visitors = Visitors(queue)
    quick = QuickPainter()

    def close() -> None:
        # `Server.end` closes `quick`, too, but is not called if the server never began.
        quick.close()
        queue.close()
        visitors.close()

    try:
        if warm:
            # Until this thread has compiled the programs that paint a visitor's first picture, the page
            # shows only a provisional one. So the thread starts before the server is imported, which
            # takes long, too. The thread is no daemon, so that the process exits only when the thread
            # has ended: an exit in the middle of compiling may crash.
            threading.Thread(target=quick.warm, args=(visitors.folder,), name="warming").start()

        import uvicorn

        from nst_jax.app.web.server import Server

        server = Server(guard, queue, visitors, PictureWork.of, quick)
        config = uvicorn.Config(
            server.app(),
            ws="none",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=128,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
        running = _ending_cleanly(uvicorn.Server, server, close)(config)
        if ready is not None:
            ready(running)
        threading.Thread(target=queue.serve, name="painter", daemon=True).start()
        running.run(sockets=[listening])
    except KeyboardInterrupt:  # a signal came before the server handled signals itself
        return 128 + interrupts.raised_signal()
    finally:
        close()
    return 0 if running.signal is None else 128 + running.signal


def _ending_cleanly(server_class: Any, page: Any, close: Callable[[], None]) -> Any:
    """Return a subclass of uvicorn's server that leaves no files behind when a signal ends it.

    After uvicorn has shut down because of a signal, it raises this signal again. The process would take
    that for a second Ctrl-C and end at once, before the visitors' pictures are deleted. So the subclass
    handles signals itself, and raises none again.

    Args:
      server_class: the class `uvicorn.Server`.
      page: the `Server` of the web page, whose method `end` ends its open requests.
      close: closes the queue and deletes the pictures. It is called as soon as the server answers no
        more requests, without waiting for threads that still compile.
    """

    class Ending(server_class):
        signal: int | None = None  # number of the signal that ended the server; None if none did

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            old: dict[int, Any] = {}
            if threading.current_thread() is threading.main_thread():
                for number in interrupts.STOPPING:
                    # An ignored signal stays ignored, as `nohup` intends.
                    if signal.getsignal(number) is not signal.SIG_IGN:
                        old[number] = signal.signal(number, self.handle_exit)
            try:
                yield
            finally:
                for number, handler in old.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: Any) -> None:
            del frame
            self.signal = self.signal or sig
            self.should_exit = True

        async def shutdown(self, sockets: Any = None) -> None:
            # From now on, uvicorn would report that requests were cut short. They are cut short on
            # purpose, so these messages are suppressed.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await page.end()
            await super().shutdown(sockets)
            close()

    return Ending


def check_extra() -> None:
    """Check that the packages of the extra `web` are installed.

    Raises:
      BadInput: if they are not; the message names the extra.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        from nst_jax.app.messages import BadInput

        raise BadInput(
            "`web`: the page needs Starlette and uvicorn; install them by `pip install 'nst-jax[web]'`"
        ) from None


def address_of(guard: Guard) -> str:
    """Return the address at which a browser on this machine opens the page.

    If the server has a token, a secret that visitors must send, the address contains it.
    """
    host = LOOPBACK[0] if guard.host in EVERYWHERE else guard.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{guard.port}/" + (f"?token={guard.token}" if guard.token else "")


def _listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens at an address.

    Args:
      host: the address.
      port: the port; None tries `PORT`, and takes any free port if `PORT` is in use.

    Raises:
      ValueError: naming `host` or `port`, if the socket cannot listen there.
    """
    for number in [port] if port is not None else [PORT, 0]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, number))
            found.listen(128)
            return found
        except (OSError, OverflowError) as error:
            found.close()
            if port is None and number == PORT and getattr(error, "errno", None) in TAKEN:
                continue
            reason = getattr(error, "strerror", None) or error
            of_host = isinstance(error, socket.gaierror) or (
                getattr(error, "errno", None) == errno.EADDRNOTAVAIL
            )
            name, where = ("host", host) if of_host else ("port", f"{host}:{number}")
            raise ValueError(
                f"`{name}`: cannot listen at {where}: {reason}; choose another"
            ) from None
    raise AssertionError("the system chooses port 0 itself, so it is never in use")
