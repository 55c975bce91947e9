"""The page over HTTP, with the extra `web`: what is served, refused, and told while a run paints."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from nst_jax import images
from nst_jax.app import interrupts
from nst_jax.app.web import command, limits
from nst_jax.app.web.queue import Queue
from nst_jax.app.web.quick import QuickPainter, QuickPicture
from nst_jax.app.web.run import Progress, Wish
from nst_jax.app.web.security import Guard
from nst_jax.app.web.server import Server
from nst_jax.app.web.visitors import Visitors
from tests.test_web import malformed

SECONDS = 20  # after which a test that waits fails


class SlowWork:
    """Work that writes a picture now and then until it is asked to stop."""

    def __init__(self, words, folder):
        self.folder, self.step = folder, 0

    def paint(self, run):
        while self.step < 400:
            path = self.folder / f"step_{self.step:05d}.png"
            path.write_bytes((self.folder / "chelsea.jpg").read_bytes())
            run.add_picture(self.step, path)
            run.progress = Progress(step=self.step, total=400, loss=1.0, shares={"style": 1.0})
            self.step += 1
            time.sleep(0.05)
            if run.request is not Wish.NOTHING:
                return False
        return True

    def go_back(self, step):
        self.step = step + 1

    def close(self):
        pass


class Client:
    """A browser: it keeps its cookies."""

    def __init__(self, port):
        self.port, self.cookies = port, {}

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body, {"Cookie": cookie} | headers)
        answer = connection.getresponse()
        data = answer.read()
        for line in answer.msg.get_all("set-cookie") or []:
            assert "HttpOnly" in line and "samesite=lax" in line.lower()
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        connection.close()
        return answer, data

    def json(self, method, path, body=None, **headers):
        answer, data = self.ask(method, path, body, **headers)
        return answer.status, json.loads(data)

    def visit(self):
        answer, data = self.ask("GET", "/")
        assert answer.status == 200 and b"<main>" in data
        return self

    def with_samples(self):
        self.visit()
        assert self.json("POST", "/samples/chelsea?role=photo")[0] == 200
        assert self.json("POST", "/samples/starry_night?role=painting")[0] == 200
        return self

    def begin(self):
        settings = {"photo": "chelsea.jpg", "styles": [["starry_night.jpg", 1]], "size": 64}
        return self.json("POST", "/run", json.dumps({"settings": settings}))

    @contextmanager
    def watching(self):
        """Context manager: a function that returns the newest state of which the page is told."""
        told, ended = [], threading.Event()
        connection = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {cookie}\r\n\r\n"
        connection.sendall(request.encode())

        def read():
            with connection.makefile("rb") as lines:
                try:
                    for line in lines:
                        if line.startswith(b"data: "):
                            told.append(json.loads(line[6:]))
                except (OSError, ValueError):
                    pass  # the test has closed the connection

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield lambda: told[-1] if told else None
        finally:
            ended.set()
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            thread.join(SECONDS)


def until(condition):
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found


@contextmanager
def serving(token="", make_work=SlowWork):
    """Context manager: a server in a thread; gives its port and the server."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    queue = Queue()
    visitors = Visitors(queue)
    page = Server(Guard("127.0.0.1", port, token), queue, visitors, make_work)
    config = uvicorn.Config(
        page.app(), ws="none", log_level="critical", timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    painter = threading.Thread(target=queue.serve, daemon=True)
    painter.start()
    thread = threading.Thread(target=lambda: running.run([listening]), daemon=True)
    thread.start()
    try:
        until(lambda: running.started)
        yield port, page
    finally:
        page.closing = running.should_exit = True
        thread.join(SECONDS)
        queue.close()
        painter.join(SECONDS)
        visitors.close()
        listening.close()
    assert not thread.is_alive() and not painter.is_alive()


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


def test_the_page_is_served_with_strict_headers_and_without_other_addresses(server):
    port, _ = server
    client = Client(port)
    answer, data = client.ask("GET", "/")
    assert "default-src 'none'" in answer.getheader("content-security-policy")
    assert answer.getheader("x-content-type-options") == "nosniff"
    assert b"http://" not in data and b"https://" not in data
    for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
        answer, data = client.ask("GET", f"/{name}")
        assert answer.status == 200 and answer.getheader("content-type").startswith(kind)
        assert b"https://" not in data
    status, about = client.json("GET", "/about")
    assert status == 200 and len(about["styles"]) == 26 and about["samples"] == list(images.SAMPLES)
    updates = {one["name"]: one["updates"] for one in about["recipes"]}
    assert updates["default"] == "90 updates"
    assert updates["crowsonkb"] == "1000 updates at the coarsest scale, 500 at each later one"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/page.py", "/pictures/..%2f..%2fetc%2fpasswd", "/run/x/1.png"]
)
def test_what_is_not_there_is_one_sentence(server, path):
    port, _ = server
    status, found = Client(port).visit().json("GET", path)
    assert status == 404 and found == {"error": "there is no such page"}


def test_requests_of_other_origins_and_strangers_are_refused(server):
    port, _ = server
    client = Client(port).visit()
    assert client.json("POST", "/samples/chelsea", Origin="http://evil.example")[0] == 403
    assert client.json("GET", "/about", Host=f"evil.example:{port}")[0] == 421
    assert Client(port).json("GET", "/about")[0] == 401
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x" * 24}
    answer, _ = client.ask("GET", "/events", **upgrade, Origin="http://evil.example")
    assert answer.status in (400, 403)


@pytest.fixture(scope="module")
def friend():
    """A client that has shown the token of a server."""
    with serving(token="let me in") as (port, _):
        client = Client(port)
        assert client.ask("GET", "/?token=let%20me%20in")[0].status == 303
        yield client


def test_a_token_is_asked_for_once_and_kept_in_a_cookie():
    with serving(token="let me in") as (port, _):
        stranger = Client(port)
        for path in ("/", "/page.js", "/about", "/?token=wrong"):
            assert stranger.json("GET", path)[0] == 401
        friend = Client(port)
        answer, _ = friend.ask("GET", "/?token=let%20me%20in")
        assert answer.status == 303 and answer.getheader("location") == "/"
        assert b"let me in" not in friend.visit().ask("GET", "/")[1]
        assert friend.ask("GET", "/page.js")[0].status == 200


@pytest.mark.parametrize(
    "other",
    ['theme={"dark":true}', "version=2", "path=/x", "a=b c", "flag", "=", "a[1]=\xe9", 'q="'],
)
def test_the_cookies_of_other_programs_on_this_host_do_not_matter(friend, other):
    friend.visit()
    own = [f"{name}={value}" for name, value in friend.cookies.items()]
    assert len(own) == 2  # of the token and of the visitor
    for cookies in ([other, *own], [own[0], other, own[1]], [*own, other]):
        header = {"Cookie": "; ".join(cookies)}
        assert friend.json("GET", "/about", **header)[0] == 200, cookies
    assert friend.json("GET", "/about", Cookie=f"{other}; {own[1]}")[0] == 401


def test_bad_uploads_and_settings_are_one_sentence(server, monkeypatch):
    port, _ = server
    client = Client(port).visit()
    status, found = client.json("POST", "/pictures?name=a.png&role=photo", b"no picture")
    assert status == 400 and "not a picture" in found["error"] and "/tmp" not in found["error"]
    for body in (b"", b"[]", b"{", b'{"settings": 3}', b"\xff", b"[" * 5000):
        for path in ("/run", "/instant"):
            status, found = client.json("POST", path, body)
            assert status == 400 and found["error"].startswith("settings: "), body
    assert client.json("POST", "/run/pause")[1]["error"] == "run: there is none; begin one"
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    status, found = client.json("POST", "/pictures?name=big.png", bytes(2000))
    assert status == 400 and "larger than" in found["error"]
    chunks = (bytes(600) for _ in range(3))  # sent without its length
    status, found = client.json("POST", "/pictures?name=big.png", chunks)
    assert status == 400 and "larger than" in found["error"]


def test_a_mask_has_the_version_of_its_photo(server):
    client = Client(server[0]).with_samples()
    photo = client.json("POST", "/samples/chelsea?role=photo")[1]
    data = images.SAMPLES["chelsea"].read_bytes()
    place = "/pictures?role=mask&name=mask_keep.png&over="
    status, found = client.json("POST", f"{place}{photo['version']}", data)
    assert (status, found["over"]) == (200, photo["version"])
    for over in ("", "-1", "x", "²", "9" * 5000):
        status, found = client.json("POST", f"{place}{quote(over)}", data)
        assert (status, found["error"]) == (400, "over: expected the version of a photo")
    status, found = client.json("POST", f"{place}999", data)
    assert status == 400 and "the photo of this part is no longer here" in found["error"]


def test_malformed_uploads_are_a_sentence_each_and_the_page_goes_on(server):
    port, page = server
    client = Client(port).visit()
    folder = str(page.visitors.find(client.cookies[f"nst_jax_{port}"]).folder)
    count = 0
    for name, data in malformed():
        place = f"/pictures?role=photo&name={quote(name)}"
        status, found = client.json("POST", place, data)
        assert (status, found.keys()) == (400, {"error"}), name
        text = found["error"]
        assert text.startswith("picture: ") and "\n" not in text and "Traceback" not in text, text
        assert folder not in text and "/tmp" not in text, text
        count += 1
    assert count >= 50
    with client.watching() as told:
        assert until(told)["pictures"] == []
    assert client.json("POST", "/samples/chelsea?role=photo")[0] == 200


def test_a_provisional_picture_is_followed_by_the_real_one(server, monkeypatch):
    port, page = server
    client = Client(port).with_samples()

    def painting(text):
        def paint(words, folder, output, wanted):
            assert wanted() and (folder / words[1]).exists()
            output.write_bytes(text)
            return QuickPicture(output, words, 0.25)

        return paint

    monkeypatch.setattr(page.quick, "paint_provisional", painting(b"early"))
    monkeypatch.setattr(page.quick, "paint", painting(b"real"))
    asked = {"settings": {"photo": "chelsea.jpg", "styles": [["starry_night.jpg", 1]], "size": 64}}
    command = "nst-jax instant chelsea.jpg starry_night.jpg --size 64 --bucket 64 -o picture.png"
    for early in (True, False):
        status, found = client.json("POST", "/instant", json.dumps(asked | {"provisional": early}))
        assert status == 200 and found.get("provisional", False) is early
        assert found["command"] == command and found["seconds"] == 0.25
        assert client.ask("GET", found["picture"])[1] == (b"early" if early else b"real")
    # Where there is no provisional picture, the real one is the answer.
    monkeypatch.setattr(page.quick, "paint_provisional", lambda *given: None)
    status, found = client.json("POST", "/instant", json.dumps(asked | {"provisional": True}))
    assert status == 200 and "provisional" not in found
    assert client.ask("GET", found["picture"])[1] == b"real"


def test_a_full_disk_is_one_sentence(server, monkeypatch):
    port, page = server
    client = Client(port).with_samples()

    def paint(*given):
        raise OSError(28, "No space left on device", "/tmp/secret/instant.png")

    monkeypatch.setattr(page.quick, "paint", paint)
    settings = {"photo": "chelsea.jpg", "styles": [["starry_night.jpg", 1]], "size": 64}
    status, found = client.json("POST", "/instant", json.dumps({"settings": settings}))
    assert status == 500
    assert found == {"error": "the files here cannot be used: No space left on device"}


def test_two_browsers_have_two_runs_and_a_reload_finds_its_own(server):
    port, page = server
    first, second = Client(port).with_samples(), Client(port).with_samples()
    with first.watching() as told, second.watching() as told_second:
        assert first.begin()[0] == second.begin()[0] == 200
        state = until(lambda: (told() or {}).get("run") and told()["run"]["pictures"] and told())
        assert state["run"]["state"] == "painting" and state["run"]["place"] == 0
        waiting = until(lambda: told_second() and told_second()["run"])
        assert waiting["state"] == "waiting" and waiting["place"] == 1
        assert (
            waiting["command"]
            == "nst-jax stylize chelsea.jpg starry_night.jpg --size 64 -o picture.png"
        )
        with first.watching() as reloaded:
            assert until(reloaded)["run"]["id"] == state["run"]["id"]
        # Neither sees the pictures of the other.
        step = state["run"]["pictures"][0]
        place = f"/run/{state['run']['id']}/{step}.png"
        assert first.ask("GET", place)[1][:2] == b"\xff\xd8"
        assert Client(port).ask("GET", place)[0].status == 401
        first.json("POST", "/run/pause")
        until(lambda: told()["run"]["state"] == "paused")
        until(lambda: told_second()["run"]["state"] == "painting")
        first.json("POST", "/run/go_on")
        until(lambda: told()["run"]["place"] == 1)
        second.json("POST", "/run/stop")
        until(lambda: told_second()["run"]["state"] == "stopped")
        until(lambda: told()["run"]["state"] == "painting")
        first.json("POST", "/run/stop")
        stopped = until(lambda: told()["run"]["state"] == "stopped" and told()["run"])
        place = f"/run/{stopped['id']}/{stopped['pictures'][-1]}.zip"
        archive = first.ask("GET", place)[1]
        assert archive[:2] == b"PK"
        assert first.ask("GET", "/run/another/film.gif")[0].status == 404
        # It goes back to an earlier picture, although it was stopped, and goes on from there.
        earlier = stopped["pictures"][1]
        status, found = first.json("POST", f"/run/back/{earlier}")
        assert status == 200 and found["run"]["state"] == "paused"
        assert found["run"]["pictures"][-1] == found["run"]["step"] == earlier
        status, found = first.json("POST", f"/run/back/{stopped['pictures'][-1]}")
        assert status == 400 and "no longer here" in found["error"]
        until(lambda: told()["run"]["state"] == "paused")  # what is told may be a little late
        first.json("POST", "/run/go_on")
        until(
            lambda: told()["run"]["state"] == "painting" and told()["run"]["pictures"][-1] > earlier
        )
        first.json("POST", "/run/stop")
        stopped = until(lambda: told()["run"]["state"] == "stopped" and told()["run"])
        place = f"/run/{stopped['id']}/{stopped['pictures'][-1]}.zip"
        visitor = page.visitors.find(first.cookies[f"nst_jax_{port}"])
        last, film = visitor.run.picture().path, f"/run/{stopped['id']}/film.gif"
        last.write_bytes(b"damaged")
        status, found = first.json("GET", film)
        assert status == 400 and last.name in found["error"]
        last.unlink()
        for path in (place, film):
            assert first.json("GET", path) == (404, {"error": "there is no such page"})


def test_a_dropped_connection_frees_the_device(server, monkeypatch):
    port, page = server
    monkeypatch.setattr(limits, "UNWATCHED_SECONDS", 0.2)
    client = Client(port).with_samples()
    with client.watching() as told:
        client.begin()
        until(lambda: told() and told()["run"] and told()["run"]["step"])
    visitor = page.visitors.find(client.cookies[f"nst_jax_{port}"])
    until(lambda: visitor.run.state == "paused")
    assert visitor.run.why == "nobody was looking" and page.queue.place(visitor.run) is None
    with client.watching() as told:
        assert until(told)["run"]["why"] == "nobody was looking"


SERVE = """
import functools, socket, sys, threading, time, urllib.request
import uvicorn
from nst_jax.app import interrupts
from nst_jax.app.web import command
from nst_jax.app.web.security import Guard

interrupts.exit_on_interrupt()
interrupts.raise_on_interrupt()
uvicorn.Config = functools.partial(uvicorn.Config, loop=sys.argv[1])
listening = socket.create_server(("127.0.0.1", 0))
guard = Guard("127.0.0.1", listening.getsockname()[1])

def visit(running):
    def visiting():
        while not running.started:
            time.sleep(0.02)
        urllib.request.urlopen(command.address_of(guard)).read()
        print("visited", flush=True)
    threading.Thread(target=visiting).start()

sys.exit(command.serve(guard, listening, visit))
"""


@pytest.mark.parametrize(
    ("loop", "number", "code"), [("asyncio", signal.SIGINT, 130), ("auto", signal.SIGTERM, 143)]
)
def test_a_signal_deletes_the_pictures_and_gives_its_exit_code(tmp_path, loop, number, code):
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, loop],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "visited\n"
        assert len(list(tmp_path.glob("nst_jax_web_*/*"))) == 1
        process.send_signal(number)
        assert process.wait(SECONDS) == code
    assert not list(tmp_path.glob("nst_jax_web_*"))


def test_the_thread_that_warms_ends_if_the_server_never_begins(monkeypatch):
    ended, waiting = threading.Event(), threading.Event()

    def warm(self, folder):
        waiting.set()
        if self._visited.wait(SECONDS) and self._closed:
            ended.set()

    def interrupted(running):
        assert waiting.wait(SECONDS)
        raise KeyboardInterrupt

    monkeypatch.setattr(QuickPainter, "warm", warm)
    # Earlier tests of this process may have raised the exception by another signal.
    monkeypatch.setattr(interrupts, "_raised", signal.SIGINT)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        guard = Guard("127.0.0.1", listening.getsockname()[1])
        assert command.serve(guard, listening, interrupted, warm=True) == 130
    assert ended.wait(1)


# Runs the command with a picture that takes a minute in a thread, as one whose programs are compiled.
PAINT_LONG = """
import sys, time
from nst_jax.app import cli
from nst_jax.app.web import quick

def paint(*arguments):
    print("painting", flush=True)
    time.sleep(60)

quick.FIRST_PICTURES = ()
quick.QuickPainter.paint = paint
sys.exit(cli.main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_requests_in_work_with_one_line(tmp_path, number, code):
    with subprocess.Popen(
        [sys.executable, "-c", PAINT_LONG, "web", "--no-browser", "--no-cache", "--port", "0"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        assert process.stdout.readline() == "Ctrl-C ends it.\n"
        client = Client(port).with_samples()
        settings = {"photo": "chelsea.jpg", "styles": [["starry_night.jpg", 1]]}
        body, answers = json.dumps({"settings": settings}), []
        with client.watching() as told:
            until(told)
            asking = threading.Thread(
                target=lambda: answers.append(client.json("POST", "/instant", body))
            )
            asking.start()
            assert process.stdout.readline() == "painting\n"
            process.send_signal(number)
            assert process.wait(SECONDS) == code
            asking.join(SECONDS)
        assert process.stderr.read() == "nst-jax: ended; the pictures of the page are deleted\n"
    assert answers == [(503, {"error": "nst-jax was ended; start it again"})]
    assert not list(tmp_path.glob("nst_jax_web_*"))


def test_tidying_goes_on_after_an_exception(server, monkeypatch, caplog):
    _, page = server
    called = []

    def tidy():
        called.append(time.monotonic())
        raise OSError("disk")

    monkeypatch.setattr(page.visitors, "tidy", tidy)
    until(lambda: len(called) >= 2)
    assert "tidying failed" in caplog.text


def test_no_more_pages_of_one_browser_than_are_allowed(server, monkeypatch):
    port, _ = server
    monkeypatch.setattr(limits, "MOST_STREAMS", 1)
    client = Client(port).visit()
    with client.watching() as told:
        until(told)
        status, found = client.json("GET", "/events")
        assert status == 400 and "too often" in found["error"]


def test_the_page_travels_with_the_package():
    folder = Path(images.__file__).parents[1] / "app" / "web" / "page"
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "page.css",
        "page.js",
        "page.svg",
    }
