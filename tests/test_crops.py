"""Crops of photos: which photos can be used, what crop n is, and reading ahead."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from nst_jax import images
from nst_jax.feed_forward import crops
from nst_jax.feed_forward.crops import Photo, PhotoCrops, ReadAhead, find_photos


def picture(seed, height=40, width=48):
    """Return a picture of 8 bits with a gradient and noise, each of its own colour."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None] * draw.uniform(80, 200, 3)
    return (ramp + draw.uniform(0, 40, (height, width, 3))).astype(np.uint8)


def crops_of(pictures, size=32, seed=(0, 7)):
    return PhotoCrops(find_photos(pictures, size).photos, size, seed)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three good photos and one of each other kind."""
    for name in "abc":
        images.save(tmp_path / f"{name}.png", picture(ord(name)))
    images.save(tmp_path / "small.png", picture(1, 20, 90))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not counted")
    return tmp_path


def test_the_photos_of_a_folder_are_found_and_the_others_named(folder):
    seen = []
    found = find_photos(folder, 32, look=lambda *counts: seen.append(counts))
    assert [photo.name for photo in found.photos] == ["a.png", "b.png", "c.png"]
    assert seen == [(n, 5) for n in range(1, 6)]
    unreadable, small = found.notes
    assert unreadable.startswith("left out: 1 photo that cannot be read, such as '")
    assert "broken.jpg' is not a picture" in unreadable
    assert small == "left out: 1 photo smaller than the crop of 32 px"
    again = find_photos([picture(ord(name)) for name in "abc"], 32)
    assert [p.shape for p in again.photos] == [p.shape for p in found.photos]


def test_a_crop_depends_on_its_number_alone():
    pictures = [picture(seed) for seed in range(5)]
    one, other = crops_of(pictures), crops_of(pictures)
    forwards = [one.batch(number, 3) for number in range(6)]
    backwards = [other.batch(number, 3) for number in reversed(range(6))]
    for first, second in zip(forwards, reversed(backwards), strict=True):
        assert first.shape == (3, 32, 32, 3) and first.dtype == np.uint8
        assert_array_equal(first, second)
    assert_array_equal(one.batch(2, 3)[1], one.batch(7, 1)[0])  # both are crop 7
    assert (crops_of(pictures, seed=(0, 8)).batch(0, 3) != forwards[0]).any()


def test_every_photo_is_used_once_before_any_is_used_again():
    flat = [np.full((40, 40, 3), 20 * n, np.uint8) for n in range(1, 11)]
    for each in flat:
        each[:20, :20] += 15  # else the crop has no contrast
    cut = crops_of(flat)
    assert cut.count == 9 and len(cut.held_out) == 1
    shades = [int(np.median(cut.batch(n, 1)) // 20) for n in range(18)]
    held_out = int(np.median(cut.held_out) // 20)
    assert sorted(shades[:9]) == sorted(shades[9:]) == sorted({*range(1, 11)} - {held_out})
    assert shades[:9] != shades[9:]


def test_a_photo_of_the_size_of_a_crop_is_cut_whole_or_mirrored():
    pictures = [picture(seed, 32, 32) for seed in (1, 2)]
    cut = crops_of(pictures)
    held_out = next(n for n in (0, 1) if (pictures[n] == cut.held_out[0]).all())
    trained = pictures[1 - held_out]
    found = [cut.batch(number, 1)[0] for number in range(20)]
    mirrored = [(crop == trained[:, ::-1]).all() for crop in found]
    assert all((crop == trained).all() or m for crop, m in zip(found, mirrored, strict=True))
    assert 3 < sum(mirrored) < 17


def test_large_photos_are_reduced_once():
    cut = crops_of([picture(seed, 400, 500) for seed in range(3)])
    cut.batch(0, 4)
    assert {pixels.shape for pixels in cut._kept.values()} == {(64, 80, 3)}


def test_the_photos_that_are_kept_fit_into_memory(monkeypatch):
    monkeypatch.setattr(crops, "KEPT_SHARE", 0.0)
    pictures = [picture(seed) for seed in range(4)]
    without = crops_of(pictures)
    assert not without._kept
    monkeypatch.undo()
    assert_array_equal(without.batch(3, 2), crops_of(pictures).batch(3, 2))


def test_another_photo_takes_the_place_of_a_damaged_or_uniform_one(tmp_path):
    photos = list(find_photos([picture(seed) for seed in range(4)], 32).photos)
    uniform = np.full((40, 40, 3), 99, np.uint8)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    photos += [Photo(bad, (40, 40), "", "bad.png"), Photo(uniform, (40, 40), "", "uniform")]
    cut = PhotoCrops(photos, 32, (5,))
    made = cut.batch(0, 30)
    assert made.std(axis=(1, 2)).max(axis=1).min() > 4
    (note,) = cut.notes
    assert "bad.png" in note and "is empty" in note


@pytest.mark.parametrize("seed", range(3))
def test_usable_photos_are_left_to_train_on(seed):
    # A tenth of all 40 photos would be 4, and none of the 3 usable ones would be left.
    pictures = [np.full((40, 40, 3), 99, np.uint8)] * 37 + [picture(seed) for seed in range(3)]
    cut = PhotoCrops(find_photos(pictures, 32).photos, 32, (seed,))
    assert 1 <= len(cut.held_out) <= 2
    assert cut.batch(0, 4).std(axis=(1, 2)).max(axis=1).min() > 4


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "`photos`: is empty"),
        ([picture(1)], "`photos`: 'photo 0' is the only one that can be used; give at least two"),
        ([picture(1, 20, 50), picture(2, 30, 31)], "smaller than a crop of 32 px.*at most 30"),
        (["nowhere.png"], "`photos`: there is no file 'nowhere.png'"),
        (
            [np.full((40, 40, 3), 9, np.uint8)] * 3,
            "`photos`: none of the 3 can be used: 3 show nearly one colour; give others, at least two",
        ),
        ("nowhere", "`photos`: there is no file 'nowhere'"),
    ],
)
def test_photos_that_do_not_do_are_refused(pictures, said):
    with pytest.raises(ValueError, match=said):
        crops_of(pictures)


def test_too_few_photos_are_counted(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    uniform = np.full((40, 40, 3), 99, np.uint8)
    photos = list(find_photos([picture(1), uniform, uniform], 32).photos)
    photos.append(Photo(bad, (40, 40), "", "bad.png"))
    said = r"`photos`: 1 of the 4 can be used: 1 cannot be decoded \('.*bad.png' is empty.*\), "
    with pytest.raises(ValueError, match=f"{said}2 show nearly one colour; give others"):
        PhotoCrops(photos, 32, (1,))  # the seed with which all are looked at


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"`photos`: the folder .* no pictures, only 1 \.txt"):
        find_photos(tmp_path, 32)


def test_batches_are_read_ahead_in_order():
    cut = crops_of([picture(seed) for seed in range(5)])
    batch, seventh = cut.batch, threading.Event()

    def noted(number, count):
        if number == 7:
            seventh.set()
        return batch(number, count)

    cut.batch = noted
    with ReadAhead(cut, 4, 2) as ahead:
        found = [next(ahead) for _ in range(3)]
        assert seventh.wait(60)  # a batch that was not requested
    for number, made in enumerate(found, 4):
        assert_array_equal(made, batch(number, 2))


def test_an_error_of_a_thread_is_raised_where_the_batch_is_needed():
    cut = crops_of([picture(seed) for seed in range(3)])
    cut._photos = tuple(
        photo._replace(source=np.zeros((40, 48, 3), np.uint8)) for photo in cut._photos
    )
    cut._kept.clear()
    with ReadAhead(cut, 0, 2) as ahead, pytest.raises(ValueError, match="nearly one colour"):
        next(ahead)
