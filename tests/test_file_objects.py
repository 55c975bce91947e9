"""Pictures are read from bytes and file objects, and written into file objects, as with paths."""

import io
import os
import tempfile

import numpy as np
import PIL.Image
import pytest
from numpy.testing import assert_array_equal

from nst_jax import _memory, images
from nst_jax.images import decoding
from tests import typechecker


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (19, 26, 3), dtype=np.uint8)


def png_of(pixels, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


class Dripping(io.RawIOBase):
    """A raw stream that gives and takes three bytes at once."""

    def __init__(self, data=b""):
        self.data, self.at, self.taken = data, 0, bytearray()

    def readable(self):
        return True

    def writable(self):
        return True

    def read(self, size=-1):
        found, self.at = self.data[self.at : self.at + 3], self.at + 3
        return found

    def write(self, data):
        self.taken += bytes(data[:3])
        return len(data[:3])


SOURCES = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "BytesIO": io.BytesIO,
    "BufferedReader": lambda data: io.BufferedReader(io.BytesIO(data)),
    "raw": Dripping,
}


# --- Reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_gives_what_a_path_gives(tmp_path, pixels, source):
    alpha = np.linspace(0, 255, pixels[..., 0].size).reshape(pixels.shape[:2]).astype(np.uint8)
    path = tmp_path / "picture.png"
    images.save(path, pixels, alpha=alpha, metadata={"steps": 3})
    data = path.read_bytes()
    expected, found = images.read(path), images.read(source(data))
    assert_array_equal(found.image, expected.image)
    assert_array_equal(found.alpha, expected.alpha)
    assert found.notes == expected.notes and found.digest == expected.digest
    assert (found.name, expected.name) == ("bytes", "picture.png")
    assert_array_equal(images.load(source(data)), expected.image)
    assert images.glance(source(data)) == images.glance(path)._replace(name="bytes")
    assert images.read_metadata(source(data)) == {"steps": 3}


def test_a_file_object_is_read_from_its_position_and_stays_open(tmp_path, pixels):
    path = tmp_path / "picture.bin"
    path.write_bytes(b"header" + png_of(pixels))
    with path.open("rb") as file:
        file.seek(6)
        found = images.read(file)
        assert not file.closed and file.read() == b""
    assert_array_equal(found.image, pixels.astype(np.float32) / 255)
    assert found.name == "picture.bin"


def test_a_file_without_a_name_of_text(pixels):
    with tempfile.TemporaryFile() as file:  # on Linux its `name` is a number
        file.write(png_of(pixels))
        file.seek(0)
        assert images.read(file).name == "bytes"


def test_an_empty_source_is_named_with_the_next_move(pixels):
    file = io.BytesIO()
    file.write(png_of(pixels))
    with pytest.raises(
        ValueError, match=r"^`path`: the file object is empty or at its end; .*seek"
    ):
        images.load(file)
    with pytest.raises(ValueError, match="^`content`: the data is empty; pass all bytes"):
        images.load(b"", argument="content")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-40], "is damaged or truncated"),
        (lambda data: b"This is no picture.", "is not a picture in a known format; expected PNG"),
        (lambda data: data[:60] + b"\xff" + data[61:], "is damaged or truncated .*checksum"),
    ],
)
def test_bad_bytes_get_the_sentences_of_bad_files(tmp_path, pixels, change, said):
    data = change(png_of(pixels))
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    named = path.open("rb")
    for source, words in (
        (data, "the data"),
        (io.BytesIO(data), "the file object"),
        (named, repr(str(path))),
        (path, repr(str(path))),
    ):
        with pytest.raises(ValueError, match=f"^`path`: {words} {said}") as error:
            images.read(source)
        assert "\n" not in str(error.value)
    named.close()


def test_limits_hold_for_bytes_too(pixels, monkeypatch):
    data = png_of(pixels)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="^`path`: the data would decode to more than"):
        images.load(data)
    monkeypatch.undo()
    monkeypatch.setattr(_memory, "of_this_machine", lambda: len(data) - 1)
    with pytest.raises(
        ValueError, match="^`path`: the file object has more than .* of memory|all the"
    ):
        images.load(io.BytesIO(data))


def test_an_endless_stream_is_given_up(monkeypatch):
    monkeypatch.setattr(_memory, "of_this_machine", lambda: 3 << 20)
    with (
        open("/dev/zero", "rb") as file,
        pytest.raises(ValueError, match="'/dev/zero' has more than .* available"),
    ):
        images.load(file)


class Failing(io.BytesIO):
    def read(self, size=-1):
        raise OSError(5, "Input/output error")


class NotYet(io.RawIOBase):
    def read(self, size=-1):
        return None


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        (3, TypeError, "expected a path, bytes or a binary file object, got int"),
        (None, TypeError, "got NoneType"),
        (np.zeros((4, 4, 3)), TypeError, "got ndarray"),
        (io.StringIO("text"), TypeError, "is open as text; open it with mode 'rb'"),
        (io.TextIOWrapper(io.BytesIO(b"\x89")), TypeError, "is open as text; open it with"),
        (Failing(b"x"), ValueError, "cannot read the file object: Input/output error"),
        (NotYet(), ValueError, "has no data yet"),
    ],
)
def test_what_is_no_source_is_refused(source, error, said):
    for reader in (images.load, images.read, images.glance, images.read_metadata):
        with (
            typechecker.paused(),
            pytest.raises(error, match=f"^`photo`: .*{said}") as found,
        ):
            reader(source, argument="photo")
        assert "\n" not in str(found.value)


def test_a_closed_file_is_refused(pixels):
    file = io.BytesIO(png_of(pixels))
    file.close()
    with pytest.raises(ValueError, match="^`path`: the file object is closed; open it again"):
        images.load(file)
    with pytest.raises(ValueError, match="^`path`: the file object is closed; open it again"):
        images.save(file, pixels, format="png")


# --- Writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "suffix"),
    [("png", ".png"), ("jpeg", ".jpg"), ("JPG", ".jpeg"), (".webp", ".webp"), ("tiff", ".tif")],
)
def test_a_file_object_gets_the_bytes_that_a_path_gets(tmp_path, pixels, format, suffix):
    options = {"alpha": np.full(pixels.shape[:2], 0.5), "metadata": {"steps": 3}}
    path, buffer, dripping = tmp_path / f"picture{suffix}", io.BytesIO(b"header"), Dripping()
    images.save(path, pixels, **options)
    buffer.seek(6)
    images.save(buffer, pixels, format=format, **options)
    assert buffer.getvalue() == b"header" + path.read_bytes() and not buffer.closed
    images.save(dripping, pixels, format=format, **options)
    assert bytes(dripping.taken) == path.read_bytes()
    images.save(path, pixels, format=format, **options)  # a format that agrees with the suffix
    buffer.seek(6)
    assert images.read_metadata(buffer) == {"steps": 3}


@pytest.mark.parametrize(
    ("target", "format", "error", "said"),
    [
        (
            io.BytesIO(),
            None,
            ValueError,
            "`format`: is missing; .* name one of png, jpeg, webp, tiff",
        ),
        (io.BytesIO(), "pgn", ValueError, "`format`: there is no picture format 'pgn'; .*'png'"),
        (io.BytesIO(), 3, TypeError, "`format`: expected a name such as 'png', got int"),
        (io.StringIO(), "png", TypeError, "`path`: .* open as text; open it with mode 'wb'"),
        (None, "png", TypeError, "`path`: expected a path or a binary file object, got NoneType"),
        ("a.png", "jpeg", ValueError, "`format`: 'jpeg' is not the format of 'a.png'; omit it"),
    ],
)
def test_targets_and_formats_that_are_refused(tmp_path, monkeypatch, target, format, error, said):
    monkeypatch.chdir(tmp_path)
    with typechecker.paused(), pytest.raises(error, match=f"^{said}") as found:
        images.save(target, np.zeros((4, 4, 3)), format=format)
    assert "\n" not in str(found.value) and not os.listdir()


def test_what_a_format_cannot_hold_is_said_and_nothing_is_written():
    buffer = io.BytesIO()
    with pytest.raises(ValueError, match="`path`: the format webp cannot store .* as PNG"):
        images.save(buffer, np.zeros((16, 16_384, 3), np.uint8), format="webp")
    with pytest.raises(ValueError, match="`image`: expected one image"):
        images.save(buffer, np.zeros((16, 16)), format="png")
    assert buffer.getvalue() == b""


def test_a_full_stream_is_an_error_of_the_system(pixels):
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        images.save(file, pixels, format="png")
