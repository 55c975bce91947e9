"""Write frames as a film, with metadata embedded as text: one writer for each file format.

GIF, WebP and APNG are written by Pillow and repeat for ever. MP4 is written by PyAV, which has to be
installed; whether an MP4 repeats is decided by the player.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from importlib.util import find_spec
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PilImage
from PIL import PngImagePlugin

from nst_jax.images import encoding

Frame = UInt8[np.ndarray, "h w 3"]  # one picture of a film

# A function of (path, frames, spans, text), which writes a film. The frames have one size, `spans` are
# the seconds for which each is shown, and `text` is the metadata to embed, or None.
Writer = Callable[[Path, Sequence[Frame], Sequence[float], str | None], None]

# Frames per second of an MP4. A frame that is shown for longer than 1/25 s is stored repeatedly.
VIDEO_RATE = 25

_SAMPLED_FRAMES = 12  # largest number of frames from which the palette of a GIF is chosen
_SAMPLED_PIXELS = 100_000  # approximate largest number of pixels taken from these frames together
_REFINEMENTS = 10  # number of k-means iterations by which a palette is improved


class _LaterPictures:
    """Yields a picture for each frame but the first, which Pillow takes separately.

    A picture is made only when it is needed, so the pictures need not be in memory together. If Pillow
    iterates several times, they are made anew each time.
    """

    def __init__(
        self, frames: Sequence[Frame], picture_of: Callable[[Frame], PilImage.Image]
    ) -> None:
        self._frames, self._picture_of = frames, picture_of

    def __iter__(self) -> Iterator[PilImage.Image]:
        return (self._picture_of(self._frames[index]) for index in range(1, len(self._frames)))


def _save_all(
    path: Path,
    kind: str,
    frames: Sequence[Frame],
    picture_of: Callable[[Frame], PilImage.Image] = PilImage.fromarray,
    **options: Any,
) -> None:
    """Write a film that repeats for ever, by Pillow's writer of the format `kind`.

    `picture_of` turns a frame into an image object of Pillow; `options` are passed to the writer.
    """
    later = _LaterPictures(frames, picture_of)
    picture_of(frames[0]).save(path, kind, save_all=True, append_images=later, loop=0, **options)


def _write_gif(
    path: Path, frames: Sequence[Frame], spans: Sequence[float], text: str | None
) -> None:
    colors = _palette_of(frames)
    palette = PilImage.new("P", (1, 1))
    palette.putpalette(colors.tobytes())
    described = {} if text is None else {"comment": f"{encoding.KEYWORD} {text}".encode()}
    _save_all(
        path,
        "GIF",
        frames,
        lambda frame: _in_palette(frame, palette),
        duration=_milliseconds(spans, unit=10),  # GIF counts in hundredths of a second
        optimize=False,  # Pillow's optimisation would give each frame its own palette, not `palette`
        **described,
    )


def _write_webp(
    path: Path, frames: Sequence[Frame], spans: Sequence[float], text: str | None
) -> None:
    _save_all(
        path,
        "WEBP",
        frames,
        duration=_milliseconds(spans),
        quality=85,
        method=4,
        icc_profile=encoding.srgb_profile(),
        exif=encoding.description(text),
    )


def _write_apng(
    path: Path, frames: Sequence[Frame], spans: Sequence[float], text: str | None
) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt(encoding.KEYWORD, text)
    _save_all(
        path,
        "PNG",
        frames,
        duration=_milliseconds(spans),
        pnginfo=info,
        icc_profile=encoding.srgb_profile(),
    )


def _write_mp4(
    path: Path, frames: Sequence[Frame], spans: Sequence[float], text: str | None
) -> None:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    height, width = (side + side % 2 for side in frames[0].shape[:2])
    # `faststart` puts the index of the frames at the file's beginning, so that a browser can play a
    # film while loading it.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        if text is not None:
            container.metadata["comment"] = f"{encoding.KEYWORD} {text}"
        stream = container.add_stream("libx264", rate=Fraction(VIDEO_RATE))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "medium"}
        # Without these values, players would guess the coding of colours from the size of the frames.
        stream.colorspace, stream.color_range = Colorspace.ITU709, ColorRange.MPEG
        stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        number = 0
        for frame, end in zip(frames, accumulate(spans), strict=True):
            even = np.pad(
                frame, [(0, height - len(frame)), (0, width - frame.shape[1]), (0, 0)], "edge"
            )
            picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            while number < max(1, round(end * VIDEO_RATE)):
                picture.pts, picture.time_base = number, Fraction(1, VIDEO_RATE)
                container.mux(stream.encode(picture))
                number += 1
        container.mux(stream.encode(None))


WRITERS: dict[str, Writer] = {
    "gif": _write_gif,
    "webp": _write_webp,
    "apng": _write_apng,
    "mp4": _write_mp4,
}

# Format -> largest number of pixels on a side that can be written. APNG is not listed, since its limit
# is larger than what fits in memory.
LARGEST_SIDE = {"gif": 65535, "webp": 16383, "mp4": 16384}


def missing_for(kind: str) -> str | None:
    """Return a message that says what to install for a format; None if nothing is missing."""
    if kind == "mp4" and find_spec("av") is None:
        return (
            "MP4 needs PyAV; install it by `pip install 'nst-jax[film]'`, or choose .gif or .webp"
        )
    return None


def _milliseconds(spans: Sequence[float], *, unit: int = 1) -> list[int]:
    """Convert the durations of frames from s to ms, rounded to multiples of `unit`, at least `unit`.

    The times at which frames end are rounded, and not the durations themselves. So the rounding errors
    of successive frames do not add up.
    """
    ends = [round(end * 1000 / unit) for end in chain([0.0], accumulate(spans))]
    return [max(1, after - before) * unit for before, after in pairwise(ends)]


# --- Metadata in an MP4 ---------------------------------------------------------------------------

# An MP4 consists of named sections, called boxes, which may contain other boxes. These boxes lead to
# the text of the film's comment: each is inside the box before it, and the last one contains the text.
# The number beside a name says how many bytes at the beginning of the box's content have to be skipped.
_COMMENT = ((b"moov", 0), (b"udta", 0), (b"meta", 4), (b"ilst", 0), (b"\xa9cmt", 0), (b"data", 8))


def is_mp4(data: bytes) -> bool:
    """Return whether a file's bytes begin like those of the MP4 films that `_write_mp4` writes."""
    return data[4:12] == b"ftypisom"


def text_in_mp4(data: bytes) -> str | None:
    """Return the metadata, as text, that `_write_mp4` embedded in an MP4's bytes; None if absent.

    PyAV, which writes the MP4, is not needed to read the metadata.
    """
    inside = memoryview(data)
    for kind, before in _COMMENT:
        found = next((content for name, content in _boxes(inside) if name == kind), None)
        if found is None:
            return None
        inside = found[before:]
    text, prefix = bytes(inside).decode(errors="replace"), f"{encoding.KEYWORD} "
    return text.removeprefix(prefix) if text.startswith(prefix) else None


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the name and content of each box in `view`, a part of an MP4 that consists of boxes."""
    while len(view) >= 8:
        size, header = int.from_bytes(view[:4]), 8
        if size == 1:  # then the size is the 64-bit number that follows the name
            size, header = int.from_bytes(view[8:16]), 16
        if size < header:
            # A size of 0 means that the box extends to the end of the file; the film's comment is never
            # in such a box. Other sizes below the size of the header are a sign of damage.
            return
        yield bytes(view[4:8]), view[header:size]
        view = view[size:]


# --- Colours of a GIF -----------------------------------------------------------------------------

# Ordered dithering (Bayer, 1973) uses an 8x8 matrix of the integers from 0 to 63. It is made from a 2x2
# pattern, by way of a 4x4 matrix. Each step puts four blocks together, two above and two below: a block
# is four times the smaller matrix, plus the pattern's entry at the place of the block. `_THRESHOLDS` is
# the 8x8 matrix, scaled to between -1/2 and 1/2.
_PATTERN = np.array([[0, 2], [3, 1]])
_BAYER = np.block([[4 * _PATTERN + step for step in row] for row in _PATTERN])
_BAYER = np.block([[4 * _BAYER + step for step in row] for row in _PATTERN])
# Dithering changes a channel by the threshold times this number, so by at most 6 of 255 levels. A
# larger number makes the dither pattern visible, a smaller one leaves visible steps between colours.
_REACH = 12
_THRESHOLDS = (_BAYER.astype(np.float32) + 0.5) / 64 - 0.5


def _palette_of(frames: Sequence[Frame]) -> UInt8[np.ndarray, "256 3"]:
    """Return 256 colours for all frames of a film, chosen by looking at a few of the frames.

    With one palette for the whole film, colours do not flicker and the file is smaller. Pixels are put
    into bins by colour, and bins into 256 clusters by k-means. A bin's weight is the square root of its
    number of pixels: weighted by the number itself, the rare colours of a picture, such as those of
    eyes, would be lost.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SAMPLED_FRAMES).round().astype(int))
    step = max(1, frames[0].size // 3 * len(chosen) // _SAMPLED_PIXELS)
    # Only every `step`th pixel is used. Resizing the frames instead would mix their colours.
    pixels = np.concatenate([frames[int(index)].reshape(-1, 3)[::step] for index in chosen])
    means, counts = _binned(pixels)
    weights = np.sqrt(counts)
    # k-means starts from the mean colours of 256 bins at equal distances in the list of bins. They are
    # spread over the colours of the film, since neighbours in the list have similar colours.
    colors = means[np.linspace(0, len(means) - 1, 256).round().astype(int)]
    for _ in range(_REFINEMENTS):
        nearest = _nearest(means, colors)
        total = np.bincount(nearest, weights, minlength=256)[:, None]
        sums = [np.bincount(nearest, weights * one, minlength=256) for one in means.T]
        colors = np.where(total > 0, np.stack(sums, axis=-1) / np.maximum(total, 1e-6), colors)
    return colors.round().astype(np.uint8)


def _binned(pixels: UInt8[np.ndarray, "n 3"]) -> tuple[Any, Any]:
    """Put pixels into 32x32x32 bins by colour; return mean colours [bins, 3] and counts [bins].

    Empty bins are left out. The others are in Morton order, in which successive bins have similar
    colours.
    """
    code = np.zeros(len(pixels), np.int64)
    for bit in range(3, 8):
        for channel in range(3):
            code |= ((pixels[:, channel].astype(np.int64) >> bit) & 1) << (3 * (bit - 3) + channel)
    _, bins, counts = np.unique(code, return_inverse=True, return_counts=True)
    sums = [np.bincount(bins, pixels[:, channel]) for channel in range(3)]
    return np.stack(sums, axis=-1) / counts[:, None], counts


def _nearest(pixels: Any, colors: Any) -> Any:
    # The squared distance without its term |pixel|², which is the same for all colours.
    return np.argmin(np.square(colors).sum(-1) - 2 * pixels @ colors.T, axis=-1)


def _in_palette(frame: Frame, palette: PilImage.Image) -> PilImage.Image:
    """Return a frame as a picture that has only the colours of a palette, by ordered dithering.

    Where a frame equals the one before it, ordered dithering gives equal pixels. With error diffusion,
    these pixels would flicker, and the file would be larger.
    """
    height, width = frame.shape[:2]
    pattern = np.tile(_THRESHOLDS, (-(-height // 8), -(-width // 8)))[:height, :width, None]
    spread = np.clip(frame + _REACH * pattern, 0, 255)
    picture = PilImage.fromarray(spread.round().astype(np.uint8))
    return picture.quantize(palette=palette, dither=PilImage.Dither.NONE)
