"""A small HTTP service that paints photos in the 26 styles of `nst_jax.instant`.

    python examples/service.py --port 8000 --sizes 256,512
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/paint?style=mosaic&size=512' > result.png

It needs nothing but nst-jax and the standard library. It shows what a service around compiled programs
has to decide:

- **Few shapes.** XLA compiles a program for each shape of a picture, which takes seconds. So a photo is
  resized to fit into one of few shapes, filled up along its borders, painted, and cut out again.
- **Warm programs.** All shapes are compiled before the service listens; no request waits for that.
- **One worker** uses the device; more would only compete for it, and for its memory.
- **A queue with a limit.** Who comes when it is full is told so at once (503), and when to come again.
- **Bounded requests**: bytes, pixels, and the time for which a sender may be silent.
- **Graceful stop.** After SIGTERM or Ctrl-C no request is accepted; what was accepted is answered.

It has no TLS, no accounts and no limit for each sender: put it behind a proxy that has them.
"""

import argparse
import io
import json
import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

import nst_jax as nst
from nst_jax.feed_forward import style_names

MOST_BYTES = 20_000_000  # of a request
MOST_PIXELS = 50_000_000  # of a photo: decoding one takes up to 25 bytes a pixel
IDLE_SECONDS = 15.0  # a connection that sends nothing for so long is closed
ANSWER_SECONDS = 120.0  # a request that is not painted after so long gets 504
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

log = logging.getLogger("service")

Shape = tuple[int, int]  # height, width
Paint = Callable[
    [np.ndarray, str], np.ndarray
]  # a photo of one of the shapes, a style -> the result


class RefusedError(Exception):
    """A request that cannot be answered: HTTP's status, and a sentence for the sender."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


# --- Shapes ---------------------------------------------------------------------------------------


def shapes_of(sizes: Sequence[int]) -> list[Shape]:
    """Return the shapes that are compiled: a square, a landscape and a portrait format of each size.

    Example:
      >>> shapes_of([256])
      [(256, 256), (192, 256), (256, 192)]
    """
    return [shape for n in sizes for shape in ((n, n), (n * 3 // 4, n), (n, n * 3 // 4))]


def fitted(photo: np.ndarray, shapes: Sequence[Shape]) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return a photo in the one of `shapes` that it fills best, and the part of it that is the photo.

    Its proportions are kept. The rest is filled with the photo's borders, which disturb the network
    less than a colour. Pillow resizes, since JAX would compile a program for each size of a photo.
    """

    def inside(shape: Shape) -> Shape:
        factor = min(shape[0] / photo.shape[0], shape[1] / photo.shape[1])
        height, width = (max(1, round(side * factor)) for side in photo.shape[:2])
        return min(height, shape[0]), min(width, shape[1])

    best = max(shapes, key=lambda shape: np.prod(inside(shape)) / np.prod(shape))
    small = nst.images.bicubic_8bit(photo, inside(best))
    spare = [best[axis] - small.shape[axis] for axis in (0, 1)]
    before = [n // 2 for n in spare]
    around = [(b, n - b) for b, n in zip(before, spare, strict=True)]
    part = tuple(slice(b, b + n) for b, n in zip(before, small.shape[:2], strict=True))
    return np.pad(small, [*around, (0, 0)], "edge"), (part[0], part[1])


def paint_instantly(photo: np.ndarray, style: str) -> np.ndarray:
    """Paint a photo whose shape was compiled before."""
    return np.asarray(nst.instant(photo, style, size="as-is"))


# --- Worker ---------------------------------------------------------------------------------------


@dataclass
class Request:
    """A photo that waits to be painted; `done` is set when there is a `result` or an `error`."""

    photo: np.ndarray  # of one of the shapes
    style: str
    done: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False  # nobody waits for it any more
    result: np.ndarray | None = None
    error: Exception | None = None


class Worker:
    """The one thread that uses the device, and how many requests there may be at once.

    Args:
      paint: paints a photo of one of the shapes.
      limit: how many requests may wait while one is painted.
    """

    def __init__(self, paint: Paint, limit: int) -> None:
        self._paint, self._most = paint, limit + 1
        self._count, self._open, self._lock = 0, True, threading.Lock()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self._thread.start()

    @property
    def requests(self) -> int:
        """How many requests are read, wait, or are painted."""
        return self._count

    @contextmanager
    def place(self) -> Iterator[None]:
        """Context manager: have a place among the requests; refused if all are taken, or at the end.

        It is taken before the request's body is read, so that no more bodies than places use memory.
        """
        with self._lock:
            if not self._open:
                raise RefusedError(503, "the service is stopping", {"Retry-After": "30"})
            if self._count == self._most:
                raise RefusedError(503, "too many pictures wait already", {"Retry-After": "5"})
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1

    def paint(self, photo: np.ndarray, style: str) -> np.ndarray:
        """Wait until a photo is painted, and return the result."""
        request = Request(photo, style)
        self._queue.put(request)
        if not request.done.wait(ANSWER_SECONDS):
            request.given_up = True
            raise RefusedError(504, "the picture was not painted in time", {"Retry-After": "30"})
        if request.result is None:
            log.error("painting failed", exc_info=request.error)
            raise RefusedError(500, "painting failed; the service's log says why")
        return request.result

    def refuse_more(self) -> None:
        """Accept no request from now on; those that have a place are still painted."""
        with self._lock:
            self._open = False

    def stop(self) -> None:
        """Paint what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (request := self._queue.get()) is not None:
            if request.given_up:
                continue
            try:
                request.result = self._paint(request.photo, request.style)
            except Exception as error:  # one picture that fails must not end the service
                request.error = error
            request.done.set()


# --- HTTP -----------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """The server, with what its handlers need: a thread for each connection, one worker for all."""

    daemon_threads = False  # so that `server_close` waits until accepted requests are answered

    def __init__(self, address: tuple[str, int], worker: Worker, sizes: Sequence[int]) -> None:
        super().__init__(address, Handler)
        self.worker, self.sizes = worker, tuple(sizes)
        self.decoding = threading.Lock()  # one photo at a time, which bounds the memory


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /health`, `GET /styles` and `POST /paint?style=NAME&size=N&format=png`."""

    server: Server
    timeout = IDLE_SECONDS
    server_version = "nst-jax-example"

    def do_GET(self) -> None:
        """Answer with facts about the service."""
        worker = self.server.worker
        facts: dict[str, Any] = {
            "/health": {"status": "ok", "requests": worker.requests, "sizes": self.server.sizes},
            "/styles": style_names.NAMES,
        }
        path = urlsplit(self.path).path
        if path in facts:
            self._answer(200, json.dumps(facts[path]).encode(), "application/json")
        else:
            self._refuse(RefusedError(404, f"there is no {path!r}; try {', '.join(facts)}"))

    def do_POST(self) -> None:
        """Paint the picture in the body."""
        worker, file = self.server.worker, io.BytesIO()
        try:
            style, size, kind = self._asked()
            with worker.place():
                photo, part = self._photo(shapes_of([size]))
                nst.images.save(file, worker.paint(photo, style)[part], format=kind)
        except RefusedError as error:
            self._refuse(error)
        except OSError:  # the sender is silent for too long, or has gone
            self.close_connection = True
        else:
            self._answer(200, file.getvalue(), MEDIA_TYPES[kind])

    def _asked(self) -> tuple[str, int, str]:
        """Return the style, size and format that the address names."""
        address = urlsplit(self.path)
        if address.path != "/paint":
            raise RefusedError(404, f"there is no {address.path!r}; pictures are sent to /paint")
        sizes = self.server.sizes
        values = {"style": style_names.NAMES[0], "size": str(sizes[0]), "format": "png"}
        allowed = {"style": style_names.NAMES, "size": [*map(str, sizes)], "format": [*MEDIA_TYPES]}
        for name, (value, *_) in parse_qs(address.query).items():
            if name not in allowed:
                raise RefusedError(400, f"there is no {name!r}; expected {', '.join(allowed)}")
            if value not in allowed[name]:
                raise RefusedError(
                    400, f"`{name}`: {value!r} is none of {', '.join(allowed[name])}"
                )
            values[name] = value
        return values["style"], int(values["size"]), values["format"]

    def _photo(self, shapes: Sequence[Shape]) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Return the picture in the body, read within the limits and `fitted` into one of `shapes`."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusedError(
                411, "Content-Length is missing; send the picture's bytes as the body"
            )
        if int(length) > MOST_BYTES:
            raise RefusedError(413, f"the picture has more than {MOST_BYTES // 10**6} MB")
        data = self.rfile.read(int(length))
        try:
            height, width = nst.images.glance(data, argument="body").shape
            if height * width > MOST_PIXELS:
                raise RefusedError(
                    413, f"the picture has more than {MOST_PIXELS // 10**6} megapixels"
                )
            with self.server.decoding:
                return fitted(nst.images.load(data, argument="body"), shapes)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None

    def _refuse(self, error: RefusedError) -> None:
        # The rest of the body was not read, so nothing else can follow on this connection.
        self.close_connection = True
        body = json.dumps({"error": str(error)}).encode()
        self._answer(error.status, body, "application/json", error.headers)

    def _answer(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the sender has gone
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request by `logging`, like everything else."""
        log.info("%s %s", self.address_string(), format % args)


# --- Program --------------------------------------------------------------------------------------


def serve(server: Server) -> None:
    """Answer requests until `server.shutdown` is called; then answer what was accepted, and return."""
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.worker.refuse_more()
        server.server_close()  # waits for the handlers, which wait for the worker
        server.worker.stop()


def stop_on_signals(server: Server) -> None:
    """Let SIGTERM and Ctrl-C stop a server gracefully."""

    def stop(number: int, frame: Any) -> None:
        del frame
        log.info("signal %d: answering what was accepted", number)
        # Not in this thread: it serves, and `shutdown` waits until it has stopped serving.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def main(argv: Sequence[str] | None = None) -> None:
    """Compile all shapes, then serve."""
    parser = argparse.ArgumentParser(description="Paint photos over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one")
    parser.add_argument("--sizes", default="256,512", help="longer sides of results, in pixels")
    parser.add_argument("--queue", type=int, default=8, help="how many requests may wait")
    parser.add_argument("--cache", help="folder that keeps compiled programs for the next start")
    chosen = parser.parse_args(argv)
    try:
        sizes = [int(size) for size in chosen.sizes.split(",")]
    except ValueError:
        parser.error(f"--sizes: expected numbers such as 256,512, got {chosen.sizes!r}")
    if min(sizes) < 32 or chosen.queue < 1:
        parser.error("--sizes are at least 32 px, and --queue is at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if chosen.cache is not None:
        nst.cache(chosen.cache)
    for shape in shapes_of(sizes):
        log.info("compiling %d x %d px", shape[1], shape[0])
        paint_instantly(np.zeros((*shape, 3), np.float32), style_names.NAMES[0])
    server = Server((chosen.host, chosen.port), Worker(paint_instantly, chosen.queue), sizes)
    stop_on_signals(server)
    log.info("listening at http://%s:%d", *server.server_address[:2])
    serve(server)
    log.info("stopped")


if __name__ == "__main__":
    main()
