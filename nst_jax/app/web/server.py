"""The HTTP server of the web page, built on Starlette: it sends files and events, and answers requests.

A request is an HTTP request of a browser. A visitor is somebody who uses the page in a browser, and is
recognised by a cookie. A run is the painting of one picture by optimisation, which a visitor began. An
instant picture is painted by a single pass of a network. The page's state, which `Visitor.status`
returns, is what the page shows of the visitor's pictures, run and settings. An event is a message with
this state; the server sends one when a page is opened, and whenever the state changes.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from nst_jax import __version__, _files, images, recipes
from nst_jax.app.web import archive, limits, settings
from nst_jax.app.web.queue import Queue
from nst_jax.app.web.quick import QuickPainter, QuickPicture, Superseded
from nst_jax.app.web.run import Run, RunPicture
from nst_jax.app.web.security import ANSWER_HEADERS, Guard
from nst_jax.app.web.uploads import too_large
from nst_jax.app.web.visitors import MakeWork, Visitor, Visitors
from nst_jax.controls.finishing import COLORS
from nst_jax.feed_forward import style_names
from nst_jax.recipes.presets import QUALITIES

Answer: TypeAlias = Awaitable[Response]

LOGGER = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
LOOK_SECONDS = 0.2  # time between two checks of whether the state that a page shows has changed
# If no event was sent for this many seconds, the server sends a comment in the stream of events. The
# page ignores it, but the server notices a lost connection only when it sends something.
BEAT_SECONDS = 5.0
# Seconds between two calls of `Visitors.tidy`, which pauses runs that no page shows, and deletes runs
# and visitors that are no longer needed.
TIDY_SECONDS = 1.0
# Seconds for which requests may go on when the server ends. Those that take longer are answered with an
# error, or cut off if their answer has begun.
ENDING_SECONDS = 0.5
ENDED = "nst-jax was ended; start it again"
# Largest number of uploads at a time. It is small, since an upload is held in memory until it is
# complete.
UPLOADS_AT_ONCE = 3


class Threads(ThreadPoolExecutor):
    """The threads in which requests are answered; the server does not wait for them when it ends.

    A thread in which JAX compiles a program cannot be stopped, and may need a minute more.
    """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more work, and cancel what has not begun; do not wait, whatever the arguments."""
        del wait, cancel_futures
        super().shutdown(wait=False, cancel_futures=True)


class Server:
    """Answers HTTP requests of browsers: those that load the web page, and those of the loaded page."""

    def __init__(
        self,
        guard: Guard,
        queue: Queue,
        visitors: Visitors,
        make_work: MakeWork,
        quick: QuickPainter | None = None,
    ) -> None:
        """Make a server.

        Args:
          guard: decides which requests are served.
          queue: the runs of all visitors.
          visitors: all visitors.
          make_work: makes the `Work` of a run, which is the computation that paints its picture.
          quick: paints pictures by a single pass of a network; None makes a new painter.
        """
        self.guard, self.queue, self.visitors = guard, queue, visitors
        self.closing = False
        # The tasks that are answering requests. When the server ends, they get some time to finish.
        self._answering: set[asyncio.Task[Any]] = set()
        self._make_work = make_work
        self.quick = QuickPainter() if quick is None else quick
        self._uploading = asyncio.Semaphore(UPLOADS_AT_ONCE)
        # Films and archives are made one at a time, since each is made in memory.
        self._archiving = asyncio.Semaphore(1)
        # Locks for pictures that are painted by a single pass of a network. The first one is for JAX,
        # the second one for NumPy, which paints provisional pictures while JAX compiles the network's
        # programs. So each of the two paints for only one request at a time. A request waits for a lock
        # before it takes a worker thread, since there are only a few threads for all.
        self._quick_turn, self._provisional_turn = asyncio.Lock(), asyncio.Lock()
        # Browsers do not separate cookies by port. With the port in their names, two servers on one
        # host do not overwrite each other's cookies.
        self._cookie, self._token = f"nst_jax_{guard.port}", f"nst_jax_token_{guard.port}"

    def app(self) -> Any:
        """Return the ASGI application: the page's routes, behind the guard that checks each request."""
        routes = [
            Route("/", self.page),
            Route("/page.{kind}", self.page_file),
            Route("/about", self._for_visitor(self.about)),
            Route("/events", self._for_visitor(self.events)),
            Route("/pictures", self._for_visitor(self.upload), methods=["POST"]),
            Route("/pictures/{name}", self._for_visitor(self.picture), methods=["GET", "DELETE"]),
            Route("/samples/{name}", self._for_visitor(self.sample), methods=["POST"]),
            Route("/gallery/{name}", self._for_visitor(self.gallery)),
            Route("/instant", self._for_visitor(self.instant), methods=["POST"]),
            Route("/instant/{number:int}.png", self._for_visitor(self.instant_picture)),
            Route("/run", self._for_visitor(self.begin), methods=["POST"]),
            Route("/run/{what}", self._for_visitor(self.change), methods=["POST"]),
            Route("/run/back/{step:int}", self._for_visitor(self.back), methods=["POST"]),
            Route("/run/start/{step:int}", self._for_visitor(self.start), methods=["POST"]),
            Route("/run/{id}/{step:int}.png", self._for_visitor(self.run_picture)),
            Route("/run/{id}/{step:int}.zip", self._for_visitor(self.run_archive)),
            Route("/run/{id}/{step:int}/command", self._for_visitor(self.run_command)),
            Route("/run/{id}/film.{kind}", self._for_visitor(self.run_film)),
        ]
        handlers: dict[Any, Any] = {
            HTTPException: self._on_http_error,
            Exception: self._on_error,
        }
        application = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        return self._guarded(application)

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        del app
        asyncio.get_running_loop().set_default_executor(Threads(thread_name_prefix="answering"))
        tidying = asyncio.create_task(self._tidy())
        try:
            yield
        finally:
            tidying.cancel()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                await asyncio.to_thread(self.visitors.tidy)
            except Exception:
                LOGGER.exception("tidying failed; it is tried again")

    async def end(self) -> None:
        """End streams to open pages; answer requests still open after `ENDING_SECONDS` with an error.

        Without this method, uvicorn would cancel streams and requests, and print a traceback for each.
        """
        self.closing = True
        self.quick.close()
        tasks = list(self._answering)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=ENDING_SECONDS)
            for task in late:
                task.cancel()

    # --- For every request ------------------------------------------------------------------------

    def _guarded(self, application: Any) -> Any:
        """Return an ASGI application that calls `application` for requests that the guard permits.

        The guard (`self.guard`) checks the host, the origin and the token of a request. A request that
        it refuses is answered with one sentence in JSON, and with the HTTP status of an error. Once the
        server has begun to close, every request is answered in this way. Security headers are added to
        all answers. Websockets, which the page does not use, are closed.

        Args:
          application: the ASGI application that is called.
        """

        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await application(scope, receive, send)
                return
            if scope["type"] != "http":  # a websocket; the page uses none
                await send({"type": "websocket.close", "code": 1008})
                return
            headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}

            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    more = [(k.lower().encode(), v.encode()) for k, v in ANSWER_HEADERS.items()]
                    message = message | {"headers": [*message["headers"], *more]}
                await send(message)

            # A browser also sends the cookies of other programs on this host. Starlette reads each
            # cookie by itself; Python's `SimpleCookie` reads none if one is malformed.
            shown = Request(scope).cookies.get(self._token, "")
            if scope["path"] == "/":
                query = parse_qs(scope["query_string"].decode("latin-1"))
                shown = query.get("token", [shown])[0]
            if self.closing:
                await _error(ENDED, 503)(scope, receive, sending)
                return
            refused = self.guard.refusal(scope["method"], scope["path"], headers, shown)
            if refused is not None:
                answer = JSONResponse({"error": refused.message}, refused.status)
                await answer(scope, receive, sending)
                return
            begun = False

            async def answering(message: Any) -> None:
                nonlocal begun
                begun = True
                await sending(message)

            task = asyncio.current_task()
            assert task is not None
            self._answering.add(task)
            try:
                await application(scope, receive, answering)
            except asyncio.CancelledError:
                if not self.closing:
                    raise
                if not begun:
                    await _error(ENDED, 503)(scope, receive, sending)
            finally:
                self._answering.discard(task)

        return call

    def _for_visitor(self, answer: Callable[[Request, Visitor], Answer]) -> Callable[..., Answer]:
        """Return an endpoint that finds the visitor of a request and calls `answer`.

        If there is no such visitor, or if `answer` raises a ValueError, MemoryError, OSError or
        ClientDisconnect, the endpoint answers with one sentence and with the HTTP status of an error.
        """

        async def endpoint(request: Request) -> Response:
            visitor = self.visitors.find(request.cookies.get(self._cookie))
            if visitor is None:
                return _error(
                    "nst-jax was started again, or this page was away for too long; reload it",
                    401,
                )
            visitor.touch()
            try:
                return await answer(request, visitor)
            except (ValueError, MemoryError) as error:
                text = str(error) or "there is too little memory; choose a smaller size"
                folders = [self.run_folder(visitor), visitor.folder]
                return _error(limits.without_paths(text, *folders), 400)
            except OSError as error:
                LOGGER.exception("a request failed")
                return _error(f"the files here cannot be used: {_files.reason_of(error)}", 500)
            except ClientDisconnect:
                return _error("the connection was lost", 400)

        return endpoint

    @staticmethod
    def run_folder(visitor: Visitor) -> Path:
        """Return the folder of a visitor's run; without a run, the folder of the visitor."""
        return visitor.folder if visitor.run is None else visitor.run.folder

    async def _on_http_error(self, request: Request, error: Any) -> Response:
        del request
        return _error(
            {404: "there is no such page"}.get(error.status_code, error.detail), error.status_code
        )

    async def _on_error(self, request: Request, error: Exception) -> Response:
        del request, error  # uvicorn logs the error on the terminal; the visitor learns no details
        return _error("something failed here; the terminal of nst-jax has the details", 500)

    # --- The page ---------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """Send the page; if the browser is new, make a visitor for it and set the visitor's cookie.

        If the URL has the token, a secret that every request must contain, a cookie keeps it, and the
        browser is sent to the URL without the token.
        """
        if "token" in request.query_params:
            # The redirection keeps the token out of the browser's address bar and history.
            answer: Response = RedirectResponse("/", 303)
            self._set_cookie(answer, self._token, self.guard.token)
            return answer
        answer = FileResponse(PAGE / "index.html", media_type="text/html")
        if self.visitors.find(request.cookies.get(self._cookie)) is None:
            try:
                secret, _ = self.visitors.welcome()
            except ValueError as error:
                return _error(limits.without_paths(str(error)), 503)
            self._set_cookie(answer, self._cookie, secret)
        return answer

    @staticmethod
    def _set_cookie(answer: Response, name: str, value: str) -> None:
        # With "lax", the browser sends the cookie even if a link on another site opens the page. So the
        # page finds the visitor's run. `Guard` refuses all other requests from other sites.
        answer.set_cookie(name, value, httponly=True, samesite="lax", path="/")

    async def page_file(self, request: Request) -> Response:
        """Send the page's script, style sheet or icon."""
        kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        kind = request.path_params["kind"]
        if kind not in kinds:
            raise HTTPException(404)
        return FileResponse(PAGE / f"page.{kind}", media_type=kinds[kind])

    async def about(self, request: Request, visitor: Visitor) -> Response:
        """Send, as JSON, what the page offers: recipes, styles, samples, colours, limits, films."""
        del request, visitor
        return JSONResponse(
            {
                "version": __version__,
                "recipes": [
                    {
                        "name": name,
                        "updates": one.descent.updates_in_words,
                        "quality": name in QUALITIES,
                    }
                    for name, one in recipes.PRESETS.items()
                ],
                "styles": [
                    {"name": name, "look": look} for name, look in style_names.LOOKS.items()
                ],
                "samples": list(images.SAMPLES),
                "colors": list(COLORS),
                "most_bytes": limits.MOST_BYTES,
                "most_styles": limits.MOST_STYLES,
                "sizes": [limits.LEAST_SIDE, limits.LARGEST_SIDE],
                "films": list(archive.FILMS),
            }
        )

    async def events(self, request: Request, visitor: Visitor) -> Response:
        """Send the visitor's state to an open page by server-sent events, now and when it changes."""
        del request
        if visitor.streams >= limits.MOST_STREAMS:
            raise ValueError("page: it is open too often in this browser; close some of its tabs")

        async def stream() -> AsyncIterator[str]:
            visitor.came()
            try:
                sent, at = "", 0.0
                while not self.closing:
                    text = json.dumps(visitor.status(self.queue))
                    if text != sent:
                        sent, at = text, time.monotonic()
                        yield f"data: {text}\n\n"
                    elif time.monotonic() - at > BEAT_SECONDS:
                        at = time.monotonic()
                        yield ": still here\n\n"
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                visitor.left()

        return StreamingResponse(stream(), media_type="text/event-stream")

    # --- Pictures ---------------------------------------------------------------------------------

    async def upload(self, request: Request, visitor: Visitor) -> Response:
        """Add a picture to those of the visitor; the body of the request is the file.

        The query of the URL may have `name`, the file's name, and `role`, what the picture is used for:
        one of `uploads.ROLES`, such as "photo", which is the default. For a mask it may have `over`,
        the version of the photo over which the mask was brushed.
        """
        name = request.query_params.get("name", "picture.png")
        role = request.query_params.get("role", "photo")
        over = request.query_params.get("over", "0")
        if not (over.isascii() and over.isdecimal() and len(over) < 10):
            raise ValueError("over: expected the version of a photo")
        async with self._uploading:
            data = await _body(request, "picture", limits.MOST_BYTES, too_large(name))
            found = await asyncio.to_thread(visitor.uploads.add, name, data, role, over=int(over))
        return JSONResponse(found.as_json())

    async def sample(self, request: Request, visitor: Visitor) -> Response:
        """Add a sample picture of the package to those of the visitor.

        The path of the URL ends in the name of the sample. The query may have `role`, what the picture
        is used for: one of `uploads.ROLES`, such as "photo", which is the default.
        """
        role = request.query_params.get("role", "photo")
        sample = request.path_params["name"]
        found = await asyncio.to_thread(visitor.uploads.add_sample, sample, role)
        return JSONResponse(found.as_json())

    async def picture(self, request: Request, visitor: Visitor) -> Response:
        """For GET, send the copy of a picture that the page shows; for DELETE, delete the picture."""
        name = request.path_params["name"]
        if request.method == "DELETE":
            await asyncio.to_thread(visitor.uploads.remove, name)
            return JSONResponse({})
        if name not in visitor.uploads.known:
            raise HTTPException(404)
        return FileResponse(visitor.uploads.view(name), media_type="image/png")

    async def gallery(self, request: Request, visitor: Visitor) -> Response:
        """Send one picture that shows a photo in 26 styles, side by side.

        The 26 styles are those of a network of the package. If the picture does not exist yet, it is
        painted first.
        """
        name = request.path_params["name"]
        if name not in visitor.uploads.known:
            raise HTTPException(404)
        output = visitor.uploads.gallery(name)
        async with self._quick_turn:
            if not output.exists():
                await asyncio.to_thread(self.quick.gallery, visitor.folder / name, output)
        return FileResponse(output, media_type="image/jpeg")

    async def instant(self, request: Request, visitor: Visitor) -> Response:
        """Paint a picture by a single pass of a network, and send its address and its command line.

        If several requests of a visitor wait, only the newest picture is painted. If the request has
        `provisional` and the network's programs are not compiled yet, NumPy paints the picture instead
        of JAX, if it can. The result is equal up to rounding, but no settings are embedded in it, and
        transparent parts of the photo become opaque.
        """
        given = await _json(request)
        words = settings.instant_words(visitor.settings_in(given.get("settings")))
        visitor.asked += 1
        number = visitor.asked
        output = visitor.folder / "instant.png"
        wishes = words, visitor.folder, output, lambda: visitor.asked == number
        try:
            if given.get("provisional"):
                async with self._provisional_turn:
                    found = await asyncio.to_thread(self.quick.paint_provisional, *wishes)
                if found is not None:
                    visitor.quick = found
                    return JSONResponse(_instant_answer(found, number) | {"provisional": True})
            async with self._quick_turn:
                visitor.quick = await asyncio.to_thread(self.quick.paint, *wishes)
        except Superseded:
            return JSONResponse({"superseded": True})
        return JSONResponse(_instant_answer(visitor.quick, number))

    async def instant_picture(self, request: Request, visitor: Visitor) -> Response:
        """Send the newest picture that was painted for the visitor by a single pass of a network."""
        if visitor.quick is None:
            raise HTTPException(404)
        return _file(request, visitor.quick.path, "instant.png")

    # --- Runs -------------------------------------------------------------------------------------

    async def begin(self, request: Request, visitor: Visitor) -> Response:
        """Put a run with the settings in the request's body into the queue; send `Visitor.status`."""
        given = await _json(request)
        await asyncio.to_thread(
            visitor.begin,
            given.get("settings"),
            self.queue,
            self._make_work,
            keep=bool(given.get("keep")),
        )
        return JSONResponse(visitor.status(self.queue))

    async def change(self, request: Request, visitor: Visitor) -> Response:
        """Do with the run what the last part of the URL's path says; send `Visitor.status` as JSON.

        "pause", "go_on" and "stop" call the methods of the queue with these names. "keep" and "unkeep"
        choose whether the run goes on when no open page shows it.
        """
        run, what = self._run(visitor), request.path_params["what"]
        changes: dict[str, Callable[[], Any]] = {
            "pause": lambda: self.queue.pause(run),
            "go_on": lambda: self.queue.go_on(run),
            "stop": lambda: self.queue.stop(run),
            "keep": lambda: setattr(run, "keep", True),
            "unkeep": lambda: setattr(run, "keep", False),
        }
        if what not in changes:
            raise HTTPException(404)
        changes[what]()
        return JSONResponse(visitor.status(self.queue))

    async def back(self, request: Request, visitor: Visitor) -> Response:
        """Let the run go back to one of its pictures and pause there; send `Visitor.status` as JSON."""
        run, step = self._run(visitor), request.path_params["step"]
        await asyncio.to_thread(self.queue.go_back, run, step)
        return JSONResponse(visitor.status(self.queue))

    async def start(self, request: Request, visitor: Visitor) -> Response:
        """Add a picture of the run to the uploads, so that another run can start from it.

        The answer has the name of the picture's file.
        """
        self._run(visitor)
        step = request.path_params["step"]
        return JSONResponse({"name": await asyncio.to_thread(visitor.start_from, step)})

    async def run_picture(self, request: Request, visitor: Visitor) -> Response:
        """Send a picture of the run; the run's settings are embedded in the file."""
        _, kept = self._kept(request, visitor)
        return _file(request, kept.path, f"painted_after_{kept.step}.png")

    async def run_archive(self, request: Request, visitor: Visitor) -> Response:
        """Send a ZIP archive: a picture of the run, the command line that paints it, and its inputs."""
        run, kept = self._kept(request, visitor)
        data = await self._archived(archive.archive_of, run, kept)
        return Response(data, media_type="application/zip", headers=_as_download("painting.zip"))

    async def run_command(self, request: Request, visitor: Visitor) -> Response:
        """Send the command line that makes a picture of the run, and where it writes the picture.

        If the run starts from a picture, also send the command lines that make this picture.
        """
        run, kept = self._kept(request, visitor)
        return JSONResponse(archive.command_of(run, kept.step))

    async def run_film(self, request: Request, visitor: Visitor) -> Response:
        """Send a film of the run's pictures, in the file format that the URL names."""
        run, kind = self._run(visitor), request.path_params["kind"]
        named = run.folder.name == request.path_params["id"]
        if kind not in archive.FILMS or not run.kept or not named:
            raise HTTPException(404)
        data = await self._archived(archive.film_of, run, kind)
        headers = _as_download(f"painting.{kind}")
        return Response(data, media_type=archive.FILMS[kind], headers=headers)

    async def _archived(self, make: Callable[..., bytes], *given: Any) -> bytes:
        """Make a film or an archive, one at a time; answer 404 if a file that `make` reads is gone."""
        async with self._archiving:
            try:
                return await asyncio.to_thread(make, *given)
            except FileNotFoundError:  # a file to read has just been deleted
                raise HTTPException(404) from None

    @staticmethod
    def _run(visitor: Visitor) -> Run:
        if visitor.run is None:
            raise ValueError("run: there is none; begin one")
        return visitor.run

    def _kept(self, request: Request, visitor: Visitor) -> tuple[Run, RunPicture]:
        """Return the run and the picture that a request names; answer 404 if either is missing."""
        run = visitor.run
        kept = None if run is None else run.picture(request.path_params["step"])
        if run is None or kept is None or run.folder.name != request.path_params["id"]:
            raise HTTPException(404)
        return run, kept


# --- Requests and answers -----------------------------------------------------------------------------


async def _body(request: Request, what: str, most: int, too_much: str) -> bytes:
    """Read the body of a request.

    Args:
      request: the request.
      what: the name of what is sent, for messages.
      most: largest number of bytes that the body may have.
      too_much: the error message about more bytes.

    Raises:
      ValueError: if there are more bytes, if the header Content-Length is not a number, or if the
        sender stalls for `STALLED_SECONDS`.
    """
    length = request.headers.get("content-length", "0")
    if not length.isdecimal():
        raise ValueError(f"{what}: the header Content-Length is no whole number")
    if int(length) > most:
        raise ValueError(too_much)
    parts: list[bytes] = []
    size = 0
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(limits.STALLED_SECONDS):
                part = await anext(stream, None)
            if part is None:
                return b"".join(parts)
            size += len(part)
            if size > most:
                raise ValueError(too_much)
            parts.append(part)
    except TimeoutError:
        raise ValueError(f"{what}: the upload stalled; try again") from None


async def _json(request: Request) -> dict[str, Any]:
    data = await _body(request, "settings", limits.MOST_SETTINGS, "settings: are too long")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("settings: expected a JSON object")
    return found


def _instant_answer(found: QuickPicture, number: int) -> dict[str, Any]:
    """Return the JSON object that describes to the page a picture of a single pass of a network.

    Args:
      found: the picture.
      number: how many such pictures the visitor has asked for so far. It makes the picture's address
        differ from those of earlier pictures.
    """
    return {
        "picture": f"/instant/{number}.png",
        "command": settings.command_line(found.words),
        "seconds": round(found.seconds, 2),
    }


def _error(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


def _file(request: Request, path: Path, name: str) -> Response:
    """Send a PNG file; if the query of the URL has `download`, as a download called `name`."""
    if not path.exists():
        raise HTTPException(404)
    headers = _as_download(name) if "download" in request.query_params else None
    return FileResponse(path, media_type="image/png", headers=headers)


def _as_download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
