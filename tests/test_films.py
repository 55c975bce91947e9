"""Films: read back by Pillow and PyAV, and compared with the frames that were given."""

import io
import itertools

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
    return [base + start + (end - start) * share for share in np.linspace(0, 1, count)]


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
    # What is shown in the middle of each frame's time: six frames for half a second each, one for a second.
    ends = np.cumsum(spans)
    for index, frame in enumerate(frames):
        shown = found[int(np.searchsorted(ends, 250 + 500 * index))].astype(float)
        error = np.abs(shown - images.to_uint8(frame))
        assert error.mean() <= {"apng": 0, "gif": 5, "webp": 3, "mp4": 3}[kind], index
    assert images.read_metadata(path) == SETTINGS
