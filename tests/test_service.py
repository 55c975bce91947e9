"""The example of an HTTP service, over a real socket."""

import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nst_jax import images

FILE = Path(__file__).parents[1] / "examples" / "service.py"


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


service = loaded(FILE)


def photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(picture, kind="png"):
    file = io.BytesIO()
    images.save(file, picture, format=kind)
    return file.getvalue()


class Painter:
    """Paints negatives, as soon as it is allowed to; records what it is given."""

    def __init__(self):
        self.let, self.begun, self.given = threading.Event(), threading.Event(), []
        self.let.set()

    def __call__(self, picture, style):
        self.given.append((picture.shape, style))
        self.begun.set()
        assert self.let.wait(30)
        if style == "charcoal":
            raise RuntimeError("a fault of the painter at /a/path")
        return 1 - picture


@pytest.fixture
def painter():
    return Painter()


@pytest.fixture
def server(painter):
    """A server at a free port, with places for two requests that wait."""
    found = service.Server(("127.0.0.1", 0), service.Worker(painter, 2), [64, 96])
    thread = threading.Thread(target=service.serve, args=[found])
    thread.start()
    yield found
    painter.let.set()
    found.shutdown()
    thread.join(30)
    assert not thread.is_alive()


def ask(server, method, path, body=None, **headers):
    """Send one request; return the status, the headers and the body."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def error_of(answer, status):
    assert answer[0] == status and answer[1]["Content-Type"] == "application/json"
    return json.loads(answer[2])["error"]


@pytest.mark.parametrize(
    ("shape", "size", "painted", "result"),
    [
        ((45, 60), 64, (48, 64), (48, 64)),
        ((60, 45), 96, (96, 72), (96, 72)),
        ((50, 50), 64, (64, 64), (64, 64)),
        ((20, 80), 64, (48, 64), (16, 64)),
        ((300, 290), 64, (64, 64), (64, 62)),
        ((1, 500), 64, (48, 64), (1, 64)),
    ],
)
def test_a_photo_of_any_shape_is_painted_in_one_of_few(
    server, painter, shape, size, painted, result
):
    picture = photo(*shape)
    status, headers, body = ask(
        server, "POST", f"/paint?style=mosaic&size={size}", encoded(picture)
    )
    assert status == 200 and headers["Content-Type"] == "image/png"
    assert painter.given == [((*painted, 3), "mosaic")]
    expected = 1 - images.bicubic_8bit(picture, result)
    assert np.array_equal(images.to_uint8(images.load(body)), images.to_uint8(expected))


def test_formats_and_defaults(server, painter):
    status, headers, body = ask(
        server, "POST", "/paint?format=jpeg", encoded(photo(40, 40), "webp")
    )
    assert status == 200 and headers["Content-Type"] == "image/jpeg" and body[:2] == b"\xff\xd8"
    assert painter.given == [((64, 64, 3), "ochre")]


def test_facts(server):
    assert json.loads(ask(server, "GET", "/health")[2]) == {
        "status": "ok",
        "requests": 0,
        "sizes": [64, 96],
    }
    assert len(json.loads(ask(server, "GET", "/styles")[2])) == 26


def test_errors_are_json_with_a_sentence(server, painter, monkeypatch):
    good = encoded(photo(40, 40))
    for path, body, status, said in (
        ("/elsewhere", good, 404, "there is no '/elsewhere'; pictures are sent to /paint"),
        ("/paint?style=x", good, 400, "`style`: 'x' is none of ochre, comic"),
        ("/paint?size=512", good, 400, "`size`: '512' is none of 64, 96"),
        ("/paint?colour=1", good, 400, "there is no 'colour'; expected style, size, format"),
        ("/paint", b"no picture", 400, "`body`: the data is not a picture in a known format"),
        ("/paint", good[:-30], 400, "`body`: the data is damaged or truncated"),
        ("/paint", b"", 400, "`body`: the data is empty"),
    ):
        assert said in error_of(ask(server, "POST", path, body), status)
    monkeypatch.setattr(service, "MOST_PIXELS", 1000)
    assert "more than 0 megapixels" in error_of(ask(server, "POST", "/paint", good), 413)
    assert "there is no '/x'" in error_of(ask(server, "GET", "/x"), 404)
    assert ask(server, "DELETE", "/paint")[0] == 501
    assert not painter.given


def test_a_body_is_bounded_before_it_is_read(server):
    with socket.create_connection(server.server_address, 30) as wire:
        wire.sendall(b"POST /paint HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in wire.makefile("rb").readline()
    with socket.create_connection(server.server_address, 30) as wire:
        wire.sendall(b"POST /paint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in wire.makefile("rb").readline()


def test_a_failure_of_the_painter_is_said_without_its_details(server):
    body = encoded(photo(40, 40))
    said = error_of(ask(server, "POST", "/paint?style=charcoal", body), 500)
    assert said == "painting failed; the service's log says why"
    assert ask(server, "POST", "/paint", body)[0] == 200  # and the service goes on


def test_a_picture_that_takes_too_long_is_given_up(server, painter, monkeypatch):
    monkeypatch.setattr(service, "ANSWER_SECONDS", 0.05)
    painter.let.clear()
    body = encoded(photo(40, 40))
    assert "not painted in time" in error_of(ask(server, "POST", "/paint", body), 504)
    assert "not painted in time" in error_of(ask(server, "POST", "/paint", body), 504)
    painter.let.set()
    monkeypatch.setattr(service, "ANSWER_SECONDS", 30.0)
    assert ask(server, "POST", "/paint", body)[0] == 200
    assert len(painter.given) == 2  # the second was given up before it was begun


def asked_together(server, count):
    """Send requests from threads; return the threads, and the answers as they come."""
    answers, body = [], encoded(photo(40, 40))
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "POST", "/paint", body)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_beyond_the_queue_is_503(server, painter):
    painter.let.clear()
    threads, answers = asked_together(server, 3)
    wait_for(lambda: server.worker.requests == 3)
    refused = ask(server, "POST", "/paint", encoded(photo(40, 40)))
    assert error_of(refused, 503) == "too many pictures wait already"
    assert refused[1]["Retry-After"] == "5"
    assert json.loads(ask(server, "GET", "/health")[2])["requests"] == 3
    painter.let.set()
    for thread in threads:
        thread.join(30)
    assert [status for status, _, _ in answers] == [200] * 3
    assert ask(server, "POST", "/paint", encoded(photo(40, 40)))[0] == 200


def test_what_was_accepted_is_answered_before_the_end(server, painter):
    painter.let.clear()
    threads, answers = asked_together(server, 2)
    wait_for(lambda: server.worker.requests == 2)
    threading.Thread(target=server.shutdown).start()
    wait_for(lambda: not server.worker._open)
    painter.let.set()
    for thread in threads:
        thread.join(30)
    assert [status for status, _, _ in answers] == [200] * 2
    with (
        pytest.raises(service.RefusedError, match="the service is stopping"),
        server.worker.place(),
    ):
        pass


@pytest.mark.slow
def test_the_program_paints_and_stops_on_a_signal(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(FILE.parents[1])}
    command = [sys.executable, FILE, "--port", "0", "--sizes", "32", "--cache", tmp_path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = next(line for line in process.stderr if "listening" in line)
        process.server_address = ("127.0.0.1", int(line.rpartition(":")[2]))
        status, _, body = ask(process, "POST", "/paint?style=mosaic", encoded(photo(24, 32)))
        assert status == 200 and images.load(body).shape == (24, 32, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read().rstrip().endswith("stopped")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sizes", "large"], "--sizes: expected numbers such as 256,512, got 'large'"),
        (["--sizes", "16"], "--sizes are at least 32 px"),
        (["--queue", "0"], "--queue is at least 1"),
    ],
)
def test_bad_options(capsys, words, said):
    with pytest.raises(SystemExit):
        service.main(words)
    assert said in capsys.readouterr().err
