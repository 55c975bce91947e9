import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from nst_jax import images
from nst_jax.images import sample_pictures

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("chelsea", (300, 451, 3)), ("gravel", (384, 384, 3)), ("starry_night", (403, 512, 3))],
)
def test_sample(name, shape):
    image = images.sample(name)
    assert image.shape == shape and image.dtype == np.float32
    picture = images.sample_picture(name)
    assert picture.name == f"{name}.jpg"
    assert picture.notes == () and picture.alpha is None


def test_samples_are_those_of_the_folder():
    folder = Path(sample_pictures.__file__).with_name("samples")
    assert sorted(folder.glob("*.jpg")) == sorted(images.SAMPLES.values())
    assert sum(path.stat().st_size for path in images.SAMPLES.values()) < 400_000


def test_unknown_sample_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match="`name`: there is no sample picture 'stary_night'; did you "
    ):
        images.sample("stary_night")


@pytest.mark.parametrize("name", [3, None])
def test_what_is_no_name_of_a_sample_is_refused(as_users_do, name):
    with pytest.raises(TypeError, match=f"^`name`: expected a name such as 'chelsea', got {name}"):
        images.sample(name)


def test_no_black_frame_is_left_on_the_painting():
    image = images.sample("starry_night")
    for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert edge.max(axis=-1).mean() > 0.25


def test_notice_tells_where_each_sample_comes_from():
    notice = (ROOT / "NOTICE").read_text()
    for path in images.SAMPLES.values():
        assert path.name in notice
        assert hashlib.sha256(path.read_bytes()).hexdigest() in notice


def test_notice_credits_the_weights_that_are_there():
    notice = (ROOT / "NOTICE").read_text()
    manifest = json.loads((ROOT / "weights" / "manifest.json").read_text())
    for name, entry in manifest.items():
        data = (ROOT / "weights" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert f"weights/{name}" in notice
        origin = entry["origin"]
        assert f"{origin['package']} {origin['version']}" in notice
    for name in ("Karen Simonyan", "Zisserman", "CC BY 4.0", "Copyright (c) 2019 Daniel Steinberg"):
        assert name in notice
    assert "://" not in notice
