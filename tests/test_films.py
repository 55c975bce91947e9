"""Films: read back by Pillow and PyAV, and compared with the frames that were given."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageSequence

from nst_jax import images
from nst_jax.images import film_encoding, films

SETTINGS = {"recipe": "tf", "steps": 3, "text": 'quotes " and é'}

with_av = pytest.mark.skipif(
    film_encoding.missing_for("mp4") is not None, reason="needs PyAV (extra `film`)"
)
EVERY_FORMAT = ["gif", "webp", "apng", pytest.param("mp4", marks=with_av)]


def ramp(count, shape=(32, 48)):
    """Return frames that fade from blue-black to yellow, with a horizontal gradient on top."""
    across = np.linspace(0, 0.3, shape[1], dtype=np.float32)[None, :, None]
    start, end = np.float32([0, 0.1, 0.3]), np.float32([0.7, 0.6, 0.2])
    base = np.zeros((*shape, 3), np.float32) + across
    shares = np.linspace(0, 1, count, dtype=np.float32)
    return [base + start + (end - start) * share for share in shares]


def read_back(path):
    """Return the frames [h, w, 3] uint8 of a film, and for how many milliseconds each is shown."""
    if path.suffix == ".mp4":
        import av

        with av.open(str(path)) as container:
            frames = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
        return frames, [1000 / film_encoding.VIDEO_RATE] * len(frames)
    with PilImage.open(path) as film:
        each = [
            (np.asarray(one.convert("RGB")), one.info["duration"])
            for one in ImageSequence.Iterator(film)
        ]
    return [frame for frame, _ in each], [float(span) for _, span in each]


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_a_film_shows_the_frames_in_order_for_its_seconds(tmp_path, kind):
    frames, path = ramp(7), tmp_path / f"film.{kind}"
    films.save(path, frames, seconds=4.0, metadata=SETTINGS)
    found, spans = read_back(path)
    assert sum(spans) == pytest.approx(4000, abs=41)
    # In the middle of each frame's time: six frames for half a second each, the last for one second.
    ends = np.cumsum(spans)
    for index, frame in enumerate(frames):
        shown = found[int(np.searchsorted(ends, 250 + 500 * index))].astype(float)
        error = np.abs(shown - images.to_uint8(frame))
        assert error.mean() <= {"apng": 0, "gif": 5, "webp": 3, "mp4": 3}[kind], index
    assert images.read_metadata(path) == SETTINGS


def test_of_many_frames_as_many_are_shown_as_fit_and_always_the_last():
    film = films.Film(seconds=2.0, hold=0.4)  # 1.6 s of 12.5 frames each, and the last
    with film:
        for number in range(1001):
            film.add(np.full((4, 4, 3), number % 256, np.uint8))
            assert film.shown <= film.most == 21
        shown = [int(frame[0, 0, 0]) for frame in film._chosen()]
        kept = len(film._kept)
    # Frames 0, 1, ..., 1000 in equal steps, but for rounding to those that are kept: every 32nd.
    expected = np.linspace(0, 1000, 21)
    distance = (np.array(shown) - expected + 128) % 256 - 128
    assert np.abs(distance).max() <= 32 and shown[-1] == 1000 % 256
    assert kept <= 2 * 21


def test_few_frames_are_shown_all_and_a_single_one_for_the_whole_time(tmp_path):
    frames = ramp(3)
    films.save(tmp_path / "three.apng", frames, seconds=3.0, hold=1.0)
    found, spans = read_back(tmp_path / "three.apng")
    assert spans == [1000.0, 1000.0, 1000.0]
    np.testing.assert_array_equal(found, [images.to_uint8(frame) for frame in frames])
    films.save(tmp_path / "one.webp", frames[:1], seconds=3.0)
    with PilImage.open(tmp_path / "one.webp") as film:
        assert film.size == (48, 32) and film.convert("RGB").getpixel((0, 0))[2] > 60


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
def test_a_film_by_pillow_repeats_for_ever(tmp_path, kind):
    films.save(tmp_path / f"film.{kind}", ramp(3), seconds=1.0)
    with PilImage.open(tmp_path / f"film.{kind}") as film:
        assert film.info["loop"] == 0


def test_a_gif_has_one_palette_and_keeps_rare_colours(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.uniform(0.3, 0.6, (48, 48, 3)).astype(np.float32) for _ in range(8)]
    frames[0][10:14, 10:14] = [0.1, 0.9, 0.1]  # a green eye, in one frame only
    films.save(tmp_path / "film.gif", frames, seconds=2.0)
    found, _ = read_back(tmp_path / "film.gif")
    assert len(found) == 8
    assert len(np.unique(np.concatenate(found).reshape(-1, 3), axis=0)) <= 256
    eye = found[0][12, 12].astype(int)
    assert np.abs(eye - [26, 230, 26]).max() <= 24


def test_frames_of_coarser_scales_are_enlarged_to_the_last(tmp_path):
    frames = ramp(2, (16, 24)) + ramp(2, (32, 48))
    films.save(tmp_path / "film.apng", frames, seconds=1.0)
    found, _ = read_back(tmp_path / "film.apng")
    assert {frame.shape for frame in found} == {(32, 48, 3)}
    large = images.resize_8bit(frames[0], (32, 48), PilImage.Resampling.BICUBIC)
    np.testing.assert_array_equal(found[0], images.to_uint8(large))


@with_av
@pytest.mark.parametrize("shape", [(31, 47), (1, 3)])
def test_an_mp4_has_even_sides_and_plays_in_browsers(tmp_path, shape):
    import av

    films.save(tmp_path / "film.mp4", ramp(3, shape), seconds=1.0)
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # playing begins before all of it is there
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width) == tuple(side + side % 2 for side in shape)
        assert float(stream.duration * stream.time_base) == pytest.approx(1.0)
    assert images.read_metadata(tmp_path / "film.mp4") is None


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_a_file_object_gets_the_whole_film(tmp_path, kind):
    class Pipe(io.RawIOBase):
        """A file that cannot seek."""

        def __init__(self):
            super().__init__()
            self.pieces = []

        def write(self, data):
            self.pieces.append(bytes(data))
            return len(data)

    pipe = Pipe()
    films.save(pipe, iter(ramp(4)), seconds=1.0, format=kind)
    films.save(tmp_path / "film", ramp(4), seconds=1.0, format=kind)
    assert pipe.pieces == [(tmp_path / "film").read_bytes()]


def test_a_film_can_be_written_while_it_grows_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with films.Film(seconds=1.0, shape=(16, 16)) as film:
        with pytest.raises(ValueError, match="no frame"):
            film.save(tmp_path / "film.gif")
        for frame in ramp(2, (16, 16)):
            film.add(frame)
            film.save(tmp_path / "film.gif")
    with PilImage.open(tmp_path / "film.gif") as written:
        assert written.n_frames == 2
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in tmp_path.glob("film*")] == ["film.gif"]


def test_bad_input_is_refused_by_name(tmp_path):
    film, good = tmp_path / "film.gif", ramp(2)
    wrong = {
        "`frames`: is empty": (film, [], {}),
        "`frames`: expected pictures": (film, "abc", {}),
        "`frames\\[1\\]`: expected one image": (film, [good[0], np.zeros((4, 4))], {}),
        "`frames\\[0\\]`: expected values in": (film, [good[0] * 255], {}),
        "`frames\\[1\\]`: has NaN": (film, [good[0], good[0] * np.float32(np.nan)], {}),
        "`seconds`: expected more than 0": (film, good, {"seconds": 0}),
        "`seconds`: expected 600 or less": (film, good, {"seconds": 601}),
        "`hold`: expected less than 2": (film, good, {"seconds": 2, "hold": 2}),
        "`format`: there is no format of films 'avi'; expected one of 'gif'": (
            film,
            good,
            {"format": "avi"},
        ),
        "`format`: a file object needs it": (io.BytesIO(), good, {}),
        "`path`: expected a binary file": (io.StringIO(), good, {"format": "gif"}),
        "`path`: films are not written as .avi": (tmp_path / "film.avi", good, {}),
        "`path`: a film in PNG has the suffix .apng": (tmp_path / "film.png", good, {}),
        "`path`: 'film' has no suffix": (tmp_path / "film", good, {}),
        "`path`: '.gif' has no name before the dot": (tmp_path / ".gif", good, {}),
        "does not exist": (tmp_path / "nowhere" / "film.gif", good, {}),
        "is too large for .webp": (tmp_path / "film.webp", [np.zeros((1, 16384, 3))], {}),
        "cannot be written as JSON": (film, good, {"metadata": {"a": object()}}),
    }
    for message, (path, frames, options) in wrong.items():
        with pytest.raises((ValueError, TypeError), match=message):
            films.save(path, frames, **options)
    assert list(tmp_path.iterdir()) == []
    films.save(film, good)
    before = film.read_bytes()
    with pytest.raises(ValueError, match="exists"):
        films.save(film, good, overwrite=False)
    with pytest.raises(ValueError, match="values in"):
        films.save(film, [good[0], good[0] * 255])
    assert film.read_bytes() == before


def test_without_pyav_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(film_encoding, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"`path`: MP4 needs PyAV; install it by `pip install"
    ) as caught:
        films.save(tmp_path / "film.mp4", ramp(2))
    assert "\n" not in str(caught.value)
    films.save(tmp_path / "film.gif", ramp(2))
    assert Path(tmp_path, "film.gif").exists()


def test_settings_of_a_damaged_mp4_are_none():
    boxes = b"\0\0\0\x14ftypisom\0\0\0\0isom" + b"\0\0\0\x04moov"
    for cut in range(len(boxes)):
        assert film_encoding.text_in_mp4(boxes[:cut]) is None
