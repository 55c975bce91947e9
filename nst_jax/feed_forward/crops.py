"""Random crops (square parts) of photos, on which a feed-forward network is trained.

Threads make the crops before they are needed. Crop number n of a training depends only on n, the seed,
the photos and the side of the crops. So it does not matter which thread makes a crop and when, and a
training that is resumed from a checkpoint gets the same crops as one that was never interrupted.
"""

import functools
import hashlib
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8

from nst_jax import _checks, _memory, images
from nst_jax._types import Shape
from nst_jax.images.eight_bit import bicubic_8bit, cut_8bit, to_uint8
from nst_jax.images.folders import pictures_in

Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]  # a photo, sRGB in 0..255
Crop: TypeAlias = UInt8[np.ndarray, "size size 3"]
Crops: TypeAlias = UInt8[np.ndarray, "n size size 3"]

# A photo is reduced until its shorter side is at most `LARGEST` times the side of a crop. Then a random
# square with a side of 1 to `LARGEST` times that of a crop is cut from the photo, and reduced to the
# size of a crop. So a crop shows neither a tiny detail of a huge photo, nor always the whole photo.
LARGEST = 2
# A crop is used only if the standard deviation of its pixel values, in 0..255, is at least this in one
# of the three channels. Instance norms divide by sqrt(variance + 1e-5), so with a uniform crop the
# gradient would grow some three hundredfold (1 / sqrt(1e-5)) at every layer.
LEAST_DEVIATION = 4.0
# Up to this number of random squares of a photo are tried, until one has a standard deviation of at
# least `LEAST_DEVIATION`; if none has, the next photo is used.
TRIES = 8
# Share and largest number of the photos that are held out: the network is never trained on these, but
# its loss is measured on them.
HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 16
# Decoded photos are kept in memory, so that the next epoch need not decode them again. They may take
# this share of the memory that is available when the training begins.
KEPT_SHARE = 0.125
THREADS = min(4, os.cpu_count() or 1)  # number of threads that read photos and make crops
AHEAD = 2 * THREADS  # number of batches that the threads make in advance

# Random numbers are drawn for three purposes: to choose the photos that are held out, to order the
# photos of an epoch, and to cut a crop. Each purpose has one of the numbers below. Each random
# generator is seeded with a list of integers: the training's seed, the number of the purpose, and, if
# there is one, the number of the epoch or of the crop.
_SPLIT, _ORDER, _CROP = range(3)


class Photo(NamedTuple):
    """A photo from which crops are cut; a file is not decoded before the photo's pixels are needed."""

    source: Path | Pixels  # the path of the photo's file, or its pixels
    shape: Shape  # (height, width) in px
    digest: str  # SHA-256 hash of the file's bytes, or of the shape and the pixels
    name: str  # what messages call the photo: its file's name, or its number such as "photo 3"

    def pixels(self) -> Pixels:
        """Return the photo's pixels [h, w, 3], uint8; decode them if the photo is a file.

        Raises:
          ValueError: if the file is damaged, or was removed since `find_photos` read it.
        """
        if isinstance(self.source, Path):
            return to_uint8(images.load(self.source, argument="photos"))
        return self.source


# --- Which photos can be used -----------------------------------------------------------------------


class Found(NamedTuple):
    """The photos on which a network can be trained, and notes on those that were left out."""

    photos: tuple[Photo, ...]  # the photos that can be used
    notes: tuple[str, ...]  # sentences that say how many photos were left out, and why


def find_photos(
    sources: Any, size: int, *, look: Callable[[int, int], Any] = lambda done, total: None
) -> Found:
    """Return those of the given photos that can be read and are large enough for crops of side `size`.

    Each file is read to find the photo's size and to compute a hash, by which a resumed training checks
    that it has the same photos. The pixels are not decoded.

    Args:
      sources: the path of a folder, a batch of images [n, h, w, 3], or a sequence of paths of files and
        of images [h, w, 3]. Images are floats in [0, 1], or uint8.
      size: side of the crops in px.
      look: a function that is called after each photo, to show progress, with the number of photos so
        far and the number of all photos.

    Returns:
      The photos, in the given order, or sorted by name if `sources` is a folder; and notes that say how
      many files cannot be read and how many photos are too small.

    Raises:
      TypeError: if a source is neither a path nor an array.
      ValueError: if an array is not a picture, if there are no pictures, if none can be read, if all
        are smaller than a crop, or if only one can be used, since one is held out and at least one more
        is trained on.
    """
    if isinstance(sources, (str, os.PathLike)):
        place = Path(sources)
        sources = pictures_in(place, argument="photos") if place.is_dir() else [place]
    elif hasattr(sources, "shape") or not isinstance(sources, Sequence):
        sources = _checks.images("photos", sources)
    if not sources:
        raise ValueError("`photos`: is empty; give at least two pictures")
    found: list[Photo | ValueError] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for photo in pool.map(_seen, sources, range(len(sources))):
            found.append(photo)
            look(len(found), len(sources))
    return _usable(found, size)


def _seen(source: Any, index: int) -> Photo | ValueError:
    """Return the `Photo` of a file or an array, or the error that says why the file cannot be read.

    The pixels of a file are not decoded here. `index`, the photo's number, names an array in messages.
    """
    if not isinstance(source, (str, os.PathLike)):
        pixels = to_uint8(_checks.image(f"photos[{index}]", source))
        digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        return Photo(pixels, (pixels.shape[0], pixels.shape[1]), digest, f"photo {index}")
    try:
        glance = images.glance(source, argument="photos")
    except ValueError as error:
        return error
    return Photo(Path(source), glance.shape, glance.digest, glance.name)


def _usable(found: Sequence[Photo | ValueError], size: int) -> Found:
    errors = [each for each in found if isinstance(each, ValueError)]
    photos = [each for each in found if isinstance(each, Photo)]
    large = [photo for photo in photos if min(photo.shape) >= size]
    if not photos:
        raise errors[0]
    if not large:
        best = max(min(photo.shape) for photo in photos)
        raise ValueError(
            f"`photos`: {len(photos)} can be read, but all are smaller than a crop of {size} px; "
            f"name larger ones, or choose a `crop` of at most {best}"
        )
    if len(large) == 1:
        raise ValueError(
            f"`photos`: {large[0].name!r} is the only one that can be used; give at least two, since "
            "one is held out to measure the loss on"
        )
    notes = []
    if errors:
        first = str(errors[0]).removeprefix("`photos`: ")
        notes.append(f"left out: {_counted(len(errors))} that cannot be read, such as {first}")
    if small := len(photos) - len(large):
        notes.append(f"left out: {_counted(small)} smaller than the crop of {size} px")
    return Found(tuple(large), tuple(notes))


def _counted(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"


# --- Crops ------------------------------------------------------------------------------------------


def number_held_out(photos: int) -> int:
    """Return how many of a number of photos are held out: used to measure the loss, not to train.

    Example:
      >>> number_held_out(25), number_held_out(1000)
      (3, 16)
    """
    return min(MOST_HELD_OUT, math.ceil(HELD_OUT_SHARE * photos))


class PhotoCrops:
    """The crops of the photos of a training.

    The photos are divided into two parts. `batch` returns random crops of the photos that are trained
    on. The other photos are held out: the network is not trained on them, and only its loss is measured
    on them. Several threads may call the methods at the same time.

    Attributes:
      size: side of a crop in px.
      held_out: [n, size, size, 3] uint8, one crop of each photo that is held out: the largest square in
        the photo's middle, reduced to the size of a crop.
      count: number of photos that are trained on.
    """

    def __init__(self, photos: Sequence[Photo], size: int, seed: Sequence[int]) -> None:
        """Choose the photos that are held out, and make their crops.

        Args:
          photos: the photos, at least two.
          size: side of a crop in px, at most the shorter side of every photo.
          seed: integers; the choice of photos and all crops depend on them.

        Raises:
          ValueError: if so many photos are damaged or nearly uniform that the search for photos to hold
            out, which skips these, leaves none to train on.
        """
        self.size, self._seed = size, tuple(seed)
        self._kept: dict[int, Pixels] = {}
        self._room = int(KEPT_SHARE * (_memory.of_this_machine() or 2**33))
        self._lock = threading.Lock()
        self._photos, self._damaged = tuple(photos), dict[int, str]()
        order = self._random(_SPLIT).permutation(len(photos)).tolist()
        middles: list[Crop] = []
        # A share of the photos is held out. Photos that turn out to be damaged or nearly uniform are
        # not counted when the size of this share is computed. Otherwise, if there are many of them,
        # all other photos could be held out, and none would be left to train on.
        while order and len(middles) < number_held_out(len(order) + len(middles)):
            pixels = self._reduced(order.pop())
            if pixels is not None and _has_contrast(middle := _middle(pixels, size)):
                middles.append(middle)
        if not order or not middles:
            raise ValueError(f"`photos`: {self._too_few(len(middles))}; give others, at least two")
        self.held_out: Crops = np.stack(middles)
        self._training = np.asarray(sorted(order))
        self.count = len(order)

    def batch(self, number: int, count: int) -> Crops:
        """Return batch number `number`: crops to train on, [count, size, size, 3] uint8.

        These are the crops with the numbers `number * count` to `(number + 1) * count - 1`.

        Raises:
          ValueError: if all photos to train on are damaged or nearly uniform.
        """
        return np.stack([self._crop(number * count + index) for index in range(count)])

    @property
    def notes(self) -> tuple[str, ...]:
        """An error message for each photo that turned out to be damaged when it was decoded."""
        return tuple(self._damaged.values())

    def _crop(self, number: int) -> Crop:
        """Return the crop with the number `number`; all crops of a training are counted from 0.

        An epoch has `self.count` crops: one of each photo that is trained on, unless a photo is damaged
        or nearly uniform. The photos are in random order, which differs between epochs.
        """
        epoch, place = divmod(number, self.count)
        order = self._order(epoch)
        # If a photo is damaged or too uniform, the next photo in the order gives a crop in its place.
        for offset in range(self.count):
            pixels = self._reduced(int(order[(place + offset) % self.count]))
            crop = None if pixels is None else self._cut(pixels, self._random(_CROP, number))
            if crop is not None:
                return crop
        raise ValueError(
            "`photos`: all those to train on are damaged or show nearly one colour; give others"
        )

    def _cut(self, pixels: Pixels, random: np.random.Generator) -> Crop | None:
        """Return a random crop of a photo [h, w, 3], mirrored in half of the cases.

        Return None if all of `TRIES` random squares have too little contrast.
        """
        height, width, _ = pixels.shape
        shorter = min(height, width)
        for _ in range(TRIES):
            side = int(random.integers(self.size, min(shorter, LARGEST * self.size) + 1))
            corner = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
            crop = cut_8bit(pixels, corner, side, self.size)
            if _has_contrast(crop):
                return crop[:, ::-1] if random.integers(2) else crop
        return None

    @functools.lru_cache(maxsize=4)  # noqa: B019 (keeps the object alive; a training has only one)
    def _order(self, epoch: int) -> np.ndarray:
        return self._random(_ORDER, epoch).permutation(self._training)

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, *purpose])

    def _reduced(self, index: int) -> Pixels | None:
        """Return the pixels of photo number `index`; reduce it if it is large compared with a crop.

        The shorter side of the result is at most `LARGEST` times the side of a crop. The result is kept
        for later calls as long as all kept photos take no more than the share `KEPT_SHARE` of the
        memory. Return None if the photo is damaged.
        """
        if index in self._damaged:
            return None
        if index in self._kept:
            return self._kept[index]
        try:
            pixels = self._photos[index].pixels()
        except ValueError as error:
            self._damaged[index] = str(error)
            return None
        height, width, _ = pixels.shape
        shorter, most = min(height, width), LARGEST * self.size
        if shorter > most:
            shape = (max(most, height * most // shorter), max(most, width * most // shorter))
            pixels = to_uint8(bicubic_8bit(pixels, shape))
        with self._lock:
            if index not in self._kept and self._room >= pixels.nbytes:
                self._kept[index] = pixels
                self._room -= pixels.nbytes
        return pixels

    def _too_few(self, usable: int) -> str:
        """Return how many photos can be used, and why the others cannot, once all have been tried."""
        total, damaged = len(self._photos), len(self._damaged)
        why = []
        if damaged:
            first = next(iter(self._damaged.values())).removeprefix("`photos`: ")
            why.append(f"{damaged} cannot be decoded ({first})")
        if uniform := total - damaged - usable:
            why.append(f"{uniform} show nearly one colour")
        return f"{usable or 'none'} of the {total} can be used: {', '.join(why)}"


def _has_contrast(crop: Crop) -> bool:
    return float(crop.std(axis=(0, 1)).max()) >= LEAST_DEVIATION


def _middle(pixels: Pixels, size: int) -> Crop:
    height, width, _ = pixels.shape
    side = min(height, width)
    return cut_8bit(pixels, ((height - side) // 2, (width - side) // 2), side, size)


class ReadAhead(AbstractContextManager, Iterator[Crops]):
    """An iterator over batches of crops, which threads make before they are needed.

    Use it as a context manager: leaving the `with` block ends the threads.
    """

    def __init__(self, crops: PhotoCrops, first: int, count: int) -> None:
        """Prepare the threads, which begin to make batches at the first call of `next`.

        Args:
          crops: the crops of the photos.
          first: number of the first batch; the batches of a training are counted from 0.
          count: number of crops in a batch.
        """
        self._crops, self._next, self._count = crops, first, count
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="crops")
        self._begun: deque[Future[Crops]] = deque()

    def __next__(self) -> Crops:
        while len(self._begun) < AHEAD:
            self._begun.append(self._pool.submit(self._crops.batch, self._next, self._count))
            self._next += 1
        return self._begun.popleft().result()

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
