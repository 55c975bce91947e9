"""Films, such as of a painting in progress: frames are collected on disk and written as one file.

The file is a GIF, WebP, APNG or MP4.
"""

import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image as PilImage

from nst_jax import _checks, _files
from nst_jax._files import PathLike
from nst_jax._types import Shape
from nst_jax.images import encoding, film_encoding, writing
from nst_jax.images.eight_bit import to_uint8
from nst_jax.images.film_encoding import Frame

FORMATS = tuple(film_encoding.WRITERS)  # formats of films: "gif", "webp", "apng", "mp4"

SECONDS = 8.0  # s; default length of a film
LONGEST = 600.0  # s; length of the longest film that is accepted
RATE = 12.5  # largest number of frames per second, slow enough for every format and player
# The last frame is shown, by default, for a quarter of the film's length, but no longer than this
# number of seconds.
LONGEST_HOLD = 2.0


@runtime_checkable
class Writable(Protocol):
    """A binary file object into which a film can be written, such as `io.BytesIO`."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """Write bytes, and return how many of them were written."""


def save(
    path: PathLike | Writable,
    frames: Iterable[Any],
    *,
    seconds: float = SECONDS,
    hold: float | None = None,
    format: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a film atomically: the file appears complete or not at all.

    The frames follow each other at equal intervals, at most 12.5 in a second; the last frame is shown
    for `hold` seconds. If `frames` has more pictures than the film can show, the film shows some of
    them at equal intervals, always including the last. Frames that are not needed are dropped as they
    come, so `frames` may be a generator of any length. The film has the size of its last frame; frames
    of another size, such as smaller ones from the coarser scales of a style transfer, are resized
    bicubically.

    A GIF has one palette of 256 colours for all frames, and ordered dithering; WebP has quality 85;
    APNG is lossless and by far the largest; MP4 is H.264 that browsers play (yuv420p, even sides: an
    odd side gets one more row or column, equal to its last). GIF, WebP and APNG repeat for ever.

    Args:
      path: path with suffix .gif, .webp, .apng or .mp4, or a binary file object, into which the
        whole film is written at once.
      frames: pictures [h, w, 3], float in [0, 1] or uint8.
      seconds: the length of the film, including the time for which its last frame is shown.
      hold: seconds for which the last frame is shown; None means a quarter of `seconds`, at most 2.
      format: "gif", "webp", "apng" or "mp4". None means the format of the path's suffix, and is refused
        for a file object.
      metadata: a mapping of JSON values to embed; `images.read_metadata` reads it back.
      overwrite: whether an existing file may be replaced.

    Raises:
      TypeError: for `frames` that cannot be iterated, a frame that is not an array, `seconds` or `hold`
        that is not a number, `metadata` that is not a mapping, a text file as `path`, and a `path` that
        is neither a path nor a file object.
      ValueError: for a path to which no film can be written; an unknown or missing format, or one that
        needs a package that is not installed; no frames; a frame that is no picture or has values
        outside [0, 1]; `seconds` or `hold` out of range; metadata that is not JSON; and frames larger
        than the format allows.
      OSError: if the disk fails or is full; an existing file stays unchanged.

    Example:
      >>> import io
      >>> import numpy as np
      >>> from nst_jax.images import films
      >>> file = io.BytesIO()
      >>> frames = (np.full((32, 48, 3), light) for light in np.linspace(0, 1, 10))
      >>> films.save(file, frames, seconds=3, format="gif")
      >>> file.getvalue()[:6]
      b'GIF89a'
    """
    kind = _checked(path, format, overwrite, "path")
    text = encoding.as_text(metadata)
    if isinstance(frames, (str, bytes)) or not isinstance(frames, Iterable):
        raise TypeError(
            f"`frames`: expected pictures one after another, got {type(frames).__name__}"
        )
    with Film(seconds=seconds, hold=hold) as film:
        for index, frame in enumerate(frames):
            film.add(frame, argument=f"frames[{index}]")
        if not film.seen:
            raise ValueError("`frames`: is empty; give at least one picture")
        film._write(path, kind, text)


class Film(AbstractContextManager):
    """Collects frames one after another, and writes them as a film; a context manager.

    A film of a given length can show a limited number of frames, `most`. At most `2 * most` frames are
    stored, rounded to 8 bits, in a temporary file without a name (in the folder that `tempfile`
    chooses, which follows the environment variable `TMPDIR`). Whenever `2 * most` frames are stored,
    every second one of them is dropped, and from then on only half as many of the added frames are
    stored. The last frame that was added is kept in any case.

    Attributes:
      most: the largest number of frames that the film can show.
      seen: the number of frames that were added so far.

    Example:
      >>> import io
      >>> import numpy as np
      >>> from nst_jax.images import films
      >>> file = io.BytesIO()
      >>> with films.Film(seconds=2) as film:
      ...     for light in np.linspace(0, 1, 1000):
      ...         film.add(np.full((32, 48, 3), light))
      ...     film.save(file, format="webp")
      ...     print(film.seen, film.shown)
      1000 19
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS,
        hold: float | None = None,
        shape: Shape | None = None,
    ) -> None:
        """Start a film without frames.

        Args:
          seconds: the length of the film, including the time for which its last frame is shown.
          hold: seconds for which the last frame is shown; None means a quarter of `seconds`, at most 2.
          shape: height and width of the film; None means those of its last frame.

        Raises:
          TypeError: if `seconds` or `hold` is not a number.
          ValueError: unless 0 < `seconds` <= 600 and 0 < `hold` < `seconds`.
        """
        _checks.number("seconds", seconds, above=0, most=LONGEST)
        if hold is None:
            hold = min(LONGEST_HOLD, seconds / 4)
        _checks.number("hold", hold, above=0, below=seconds)
        self._moving, self._hold = float(seconds) - float(hold), float(hold)
        self._shape = shape
        self.most = most_frames(seconds, hold)
        self.seen = 0
        self._stride = 1  # of every `_stride` frames that are added, the first is stored
        self._kept: list[_Place] = []
        self._last: Frame | None = None
        self._store = _Store()

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def shown(self) -> int:
        """The number of frames that the film would show if no more were added."""
        return len(self._chosen())

    def close(self) -> None:
        """Drop all frames and remove the temporary file."""
        self._store.close()
        self._kept, self._last = [], None

    def add(self, frame: Any, *, argument: str = "frame") -> None:
        """Add a frame at the end of the film.

        Args:
          frame: [h, w, 3] of any size, float in [0, 1] or uint8.
          argument: the caller's name for the frame, shown in error messages.

        Raises:
          TypeError: if the frame is not an array.
          ValueError: if it is no picture, or has values that are not in [0, 1].
          OSError: if the disk of the temporary file is full; the frames that were added before this one
            are not lost.
        """
        picture = np.ascontiguousarray(to_uint8(_checks.image(argument, frame)))
        if self.seen % self._stride == 0:
            if len(self._kept) == 2 * self.most:
                self._thin_out()
            self._kept.append(self._store.put(picture))
        self.seen, self._last = self.seen + 1, picture

    def _thin_out(self) -> None:
        for place in self._kept[1::2]:
            self._store.free(place)
        self._kept, self._stride = self._kept[::2], 2 * self._stride

    def save(
        self,
        path: PathLike | Writable,
        *,
        format: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = True,
    ) -> None:
        """Write the film so far, as the function `save` does; more frames may be added afterwards.

        Args:
          path: path with suffix .gif, .webp, .apng or .mp4, or a binary file object.
          format: "gif", "webp", "apng" or "mp4". None means the format of the path's suffix, and is
            refused for a file object.
          metadata: a mapping of JSON values to embed.
          overwrite: whether an existing file may be replaced.

        Raises:
          TypeError, ValueError, OSError: as in the function `save`.
        """
        kind = _checked(path, format, overwrite, "path")
        text = encoding.as_text(metadata)
        if not self.seen:
            raise ValueError("`path`: there is no frame to write; add one first")
        self._write(path, kind, text)

    def _write(self, path: PathLike | Writable, kind: str, text: str | None) -> None:
        frames = self._chosen()
        check_film_fits(kind, frames[-1].shape[:2], argument="path")
        gaps = len(frames) - 1
        spans = [self._moving / gaps] * gaps + [self._hold] if gaps else [self._moving + self._hold]

        def write(file: Path) -> None:
            film_encoding.WRITERS[kind](file, frames, spans, text)

        if isinstance(path, Writable):
            # The film is first written to a temporary file: the writers may have to seek, which not
            # every file object can do, and an error would leave half a film in the file object.
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder, f"film.{kind}")
                write(whole)
                writing.write_all(path, whole.read_bytes())
            return
        with _files.atomic(Path(path)) as part:
            write(part)

    def _chosen(self) -> "_Frames":
        """Return the frames that the film would show if no more were added."""
        kept: list[_Place | Frame] = list(self._kept)
        if self._last is not None and (self.seen - 1) % self._stride:
            kept.append(self._last)
        if len(kept) > self.most:
            places = np.linspace(0, len(kept) - 1, self.most).round().astype(int)
            kept = [kept[place] for place in (places if self.most > 1 else [-1])]
        return _Frames(self._store, kept, self._shape)


class _Place:
    """Where a frame is in the file of a `_Store`: the position of its first byte, and its shape."""

    def __init__(self, start: int, shape: tuple[int, ...]) -> None:
        self.start, self.shape = start, shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


class _Store:
    """Keeps frames in a temporary file, and uses the space of dropped frames again."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by `close`)
        self._end = 0
        self._unused: list[_Place] = []  # parts of the file that hold no frame any more

    def close(self) -> None:
        self._file.close()

    def put(self, frame: Frame) -> _Place:
        unused = next((one for one in self._unused if one.shape == frame.shape), None)
        place = _Place(self._end, frame.shape) if unused is None else unused
        self._file.seek(place.start)
        # The file has no buffer, so a full disk raises an error here and not later.
        writing.write_all(self._file, frame.tobytes())
        if unused is None:
            self._end += place.size
        else:
            self._unused.remove(unused)
        return place

    def free(self, place: _Place) -> None:
        self._unused.append(place)

    def get(self, place: _Place) -> Frame:
        self._file.seek(place.start)
        return np.frombuffer(self._file.read(place.size), np.uint8).reshape(place.shape)


class _Frames(Sequence[Frame]):
    """The frames of a film as a sequence; each is read and resized only when it is used."""

    def __init__(
        self, store: _Store, kept: Sequence["_Place | Frame"], shape: Shape | None
    ) -> None:
        self._store, self._kept = store, kept
        self._shape = tuple(kept[-1].shape[:2]) if shape is None and kept else shape

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: Any) -> Any:
        one = self._kept[index]
        frame = self._store.get(one) if isinstance(one, _Place) else one
        assert self._shape is not None
        height, width = self._shape
        if frame.shape[:2] == (height, width):
            return frame
        bicubic = PilImage.Resampling.BICUBIC
        return np.asarray(PilImage.fromarray(frame).resize((width, height), bicubic))


# --- Numbers of frames, and checks ----------------------------------------------------------------


def most_frames(seconds: float = SECONDS, hold: float | None = None) -> int:
    """Return the largest number of frames that a film of this length shows at `RATE` frames per second.

    Args:
      seconds: the length of the film, including the time for which its last frame is shown.
      hold: seconds for which the last frame is shown; None means a quarter of `seconds`, at most 2.

    Example:
      >>> from nst_jax.images import films
      >>> films.most_frames(8)
      76
    """
    held = min(LONGEST_HOLD, seconds / 4) if hold is None else hold
    return int(round((seconds - held) * RATE, 6)) + 1


def format_of(path: PathLike, *, argument: str = "path") -> str:
    """Return the format of a film, such as "mp4", which is given by the suffix of its path.

    Args:
      path: path of the film.
      argument: the caller's name for `path`, shown in error messages.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if the suffix is missing, or does not belong to a film format.

    Example:
      >>> from nst_jax.images import films
      >>> films.format_of("process.mp4")
      'mp4'
    """
    name = _files.as_path(path, argument=argument)
    _files.check_has_suffix(name, ".gif, .apng, .webp or .mp4", argument=argument)
    kind = name.suffix.lower().removeprefix(".")
    if kind == "png":
        raise ValueError(f"`{argument}`: a film in PNG has the suffix .apng, got {name.name!r}")
    if kind not in FORMATS:
        raise ValueError(
            f"`{argument}`: films are not written as .{kind}; "
            f"expected one of {', '.join(f'.{one}' for one in FORMATS)}"
        )
    return kind


def check_film_output(
    path: PathLike, *, overwrite: bool = True, argument: str = "output", probe: bool = True
) -> None:
    """Refuse a path where no film can be written, before time is spent on making one.

    Args:
      path: path of the film to be written.
      overwrite: whether the film may replace an existing file.
      argument: the caller's name for `path`, shown in error messages.
      probe: whether a file is created and removed as a test.

    Raises:
      ValueError: if the suffix does not belong to a film format; for .mp4 if PyAV is not installed; if
        the path is a folder or lies in a folder that is missing or not writable; and if there is a file
        that may not be replaced or is write-protected.

    Example:
      >>> from nst_jax.images import films
      >>> films.check_film_output("process.avi")
      Traceback (most recent call last):
      ValueError: `output`: films are not written as .avi; expected one of .gif, .webp, .apng, .mp4
    """
    _check_installed(format_of(path, argument=argument), argument)
    writing.check_writable(Path(path), overwrite=overwrite, argument=argument, probe=probe)


def check_film_fits(format: str, shape: Sequence[int], *, argument: str = "output") -> None:
    """Refuse frames that are larger than a format allows.

    Args:
      format: "gif", "webp", "apng" or "mp4".
      shape: height and width of the frames, in px.
      argument: the caller's name for the film, shown in error messages.

    Raises:
      ValueError: if a side is longer than the format allows.
    """
    longest = film_encoding.LARGEST_SIDE.get(format)
    if longest is not None and max(shape) > longest:
        raise ValueError(
            f"`{argument}`: {shape[1]}x{shape[0]} px is too large for .{format} ({longest} px a side); "
            "make a smaller film"
        )


def _checked(path: Any, format: str | None, overwrite: bool, argument: str) -> str:
    """Check the path or file object into which a film is to be written; return the film's format."""
    if format is not None:
        _checks.one_of("format", format, FORMATS, "format of films")
    if isinstance(path, Writable):
        if isinstance(path, io.TextIOBase):
            raise TypeError(
                f"`{argument}`: expected a binary file, got one of text; open it with 'wb'"
            )
        if format is None:
            raise ValueError(f"`format`: a file object needs it; name one of {', '.join(FORMATS)}")
        _check_installed(format, "format")
        return format
    if format is None:
        check_film_output(path, overwrite=overwrite, argument=argument)
        return format_of(path, argument=argument)
    _check_installed(format, "format")
    place = _files.as_path(path, argument=argument)
    writing.check_writable(place, overwrite=overwrite, argument=argument)
    return format


def _check_installed(kind: str, argument: str) -> None:
    if missing := film_encoding.missing_for(kind):
        raise ValueError(f"`{argument}`: {missing}")
