import hashlib
import io
import os
import re
import stat
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import ExifTags, ImageCms

from nst_jax import _memory, images
from nst_jax.images import decoding, jpeg_markers, reading

LOSSLESS = (".png", ".webp", ".tif", ".tiff")
ALL = (*LOSSLESS, ".jpg", ".jpeg")


@pytest.fixture
def pixels():
    """A picture that no turn or reflection leaves as it is; odd, and not square."""
    return np.random.default_rng(0).integers(0, 256, (19, 26, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "picture.png"


def as_float(pixels):
    return np.asarray(pixels, np.float32) / 255


def grey(value, mode="L", dtype=np.uint8):
    array = np.full((16, 20), value, dtype)
    return PIL.Image.fromarray(array) if mode == "L" else PIL.Image.fromarray(array).convert(mode)


def png(depth, colour_type, rows, *chunks):
    """Write a PNG by hand: Pillow does not write 16-bit colour."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 16, 16, depth, colour_type, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(*each) for each in chunks),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def tiff(bits, photometric, data, *tags, size=(16, 16)):
    """Write a TIFF without compression by hand, of which Pillow writes few kinds; `tags` are shorts."""
    height, width = size
    fields = {256: width, 257: height, 259: 1, 262: photometric, 277: len(bits), 278: height}
    fields |= {258: bits[0], 273: None, 279: len(data)} | dict(tags)
    start = 8 + 2 + 12 * len(fields) + 4
    extra = struct.pack(f"<{len(bits)}H", *bits) if len(bits) > 2 else b""
    fields[273] = start + len(extra)
    entries = b""
    for tag, value in sorted(fields.items()):
        if tag == 258 and extra:
            entries += struct.pack("<HHII", tag, 3, len(bits), start)
        else:
            count = 2 if tag == 530 else 1
            entries += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, count, value)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + extra + data


def png_chunks_of(data):
    """Split a PNG into its chunks, as [kind, content]."""
    found, start = [], 8
    while start < len(data):
        (length,) = struct.unpack_from(">I", data, start)
        found.append([data[start + 4 : start + 8], data[start + 8 : start + 8 + length]])
        start += 12 + length
    return found


def joined_png(chunks):
    """Write a PNG of these chunks, with right checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# --- Reading --------------------------------------------------------------------------------------


def test_what_is_read_is_what_the_file_contains(path, pixels):
    PIL.Image.fromarray(pixels).save(path)
    picture = images.read(path)
    assert picture.image.dtype == np.float32
    assert_array_equal(picture.image, as_float(pixels))
    assert picture.alpha is None and picture.notes == ()
    assert picture.name == "picture.png"
    assert picture.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert_array_equal(images.load(path), picture.image)
    assert_array_equal(images.load(str(path)), picture.image)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".tif", mode) for mode in ("1", "L", "P", "CMYK")]
    + [(".jpg", mode) for mode in ("L", "YCbCr", "CMYK")],
)
def test_modes_read_as_pillow_converts_them(tmp_path, pixels, suffix, mode):
    file = tmp_path / f"picture{suffix}"
    PIL.Image.fromarray(pixels).convert(mode).save(file)
    with PIL.Image.open(file) as opened:
        expected = opened.convert("RGB")
    assert_array_equal(images.load(file), as_float(expected))


def test_cmyk_is_said_and_is_not_inverted(tmp_path):
    # Adobe's JPEGs store CMYK inverted: red comes back as red, not as cyan.
    file = tmp_path / "red.jpg"
    PIL.Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK").save(file, quality=95)
    picture = images.read(file)
    assert_allclose(picture.image[8, 8], np.array([250, 10, 10]) / 255, atol=0.03)
    assert picture.notes == ("CMYK converted to RGB",)


def test_lab(tmp_path, pixels):
    rgb = PIL.Image.fromarray(pixels // 2 + 64)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB")
    del converted.info["icc_profile"]
    converted.save(tmp_path / "lab.tif")
    assert_allclose(images.load(tmp_path / "lab.tif"), as_float(rgb), atol=0.03)


def test_transparent_colours_do_not_leak(path):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., 0] = 255  # garbage under what is transparent
    rgba[:8] = (0, 100, 200, 255)
    rgba[15] = (0, 0, 0, 128)
    PIL.Image.fromarray(rgba).save(path)
    picture = images.read(path)
    assert_array_equal(picture.image[0, 0], as_float([0, 100, 200]))
    assert_array_equal(picture.image[9, 0], [1, 1, 1])
    assert_array_equal(picture.image[15, 0], as_float([127, 127, 127]))
    assert_array_equal(picture.alpha[:, 0], as_float([255] * 8 + [0] * 7 + [128]))
    assert picture.notes == ("transparent parts read as white",)


def test_opaque_alpha_is_none(path, pixels):
    PIL.Image.fromarray(pixels).convert("RGBA").save(path)
    assert images.read(path).alpha is None
    assert_array_equal(images.load(path), as_float(pixels))


def test_grey_with_alpha(path):
    both = np.stack([np.full((16, 16), 60), np.full((16, 16), 51)], -1).astype(np.uint8)
    PIL.Image.fromarray(both, "LA").save(path)
    picture = images.read(path)
    assert_array_equal(picture.alpha, np.full((16, 16), 51, np.float32) / 255)
    assert_array_equal(picture.image, np.full((16, 16, 3), 255 - 195 * 0.2, np.float32) / 255)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_a_transparent_entry(tmp_path, suffix):
    picture = PIL.Image.fromarray(np.eye(16, dtype=np.uint8), "P")
    picture.putpalette([10, 20, 30, 200, 0, 0] + [0] * 762)
    picture.save(tmp_path / f"palette{suffix}", transparency=1)
    read = images.read(tmp_path / f"palette{suffix}")
    assert_array_equal(read.alpha, 1 - np.eye(16, dtype=np.float32))
    assert_array_equal(read.image[0, :2], [[1, 1, 1], as_float([10, 20, 30])])


def test_one_transparent_colour(path):
    picture = PIL.Image.new("RGB", (16, 16), (1, 2, 3))
    picture.putpixel((5, 4), (9, 9, 9))
    picture.save(path, transparency=(9, 9, 9))
    alpha = images.read(path).alpha
    assert alpha[4, 5] == 0 and alpha.sum() == 255


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_said(tmp_path, suffix):
    file = tmp_path / f"deep{suffix}"
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    PIL.Image.fromarray(ramp).save(file)
    picture = images.read(file)
    assert_array_equal(
        picture.image[..., 0], np.arange(256, dtype=np.float32).reshape(16, 16) / 255
    )
    assert picture.notes == ("16-bit picture read at 8 bits",)


def test_linear_grey_of_16_bits_is_rounded_after_its_conversion(path):
    values = (
        np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16) // 16
    )  # the darkest sixteenth
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(png(16, 0, rows, (b"gAMA", struct.pack(">I", 100_000))))
    picture = images.read(path)
    light = values / 65535
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert_allclose(picture.image[..., 1], expected, rtol=0, atol=0.5001 / 255)
    assert picture.notes == ("16-bit picture read at 8 bits", "gamma 1 converted to sRGB")


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_linear_colours_of_16_bits_are_rounded_after_their_conversion(path, alpha, orientation):
    values = np.random.default_rng(3).integers(0, 4096, (16, 16, 4 if alpha else 3))
    values[..., 3:] = 65535 * (values[..., 3:] % 2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    chunks = (b"gAMA", struct.pack(">I", 100_000)), (b"eXIf", exif.tobytes()[6:])
    path.write_bytes(png(16, 6 if alpha else 2, rows, *chunks))
    picture = images.read(path)
    light = (np.rot90(values, -1) if orientation == 6 else values) / 65535
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    expected = expected[..., :3]
    if alpha:
        expected = np.where(light[..., 3:] == 1, expected, 1)
    assert_allclose(picture.image, expected, rtol=0, atol=0.5001 / 255)
    assert picture.notes[0] == "16-bit picture read at 8 bits"
    assert "gamma 1 converted to sRGB" in picture.notes


def test_16_bit_colour_is_said(path):
    pixel = struct.pack(">3H", 0xFFFF, 0x8000, 0)
    path.write_bytes(png(16, 2, (b"\0" + pixel * 16) * 16))
    picture = images.read(path)
    assert_array_equal(picture.image[3, 3], as_float([255, 128, 0]))
    assert picture.notes == ("16-bit picture read at 8 bits",)


def test_16_bit_grey_with_a_transparent_shade(path):
    row = b"\0" + struct.pack(">16H", *range(0, 65536, 4096))
    path.write_bytes(png(16, 0, row * 16, (b"tRNS", struct.pack(">H", 4096))))
    alpha = images.read(path).alpha
    assert_array_equal(alpha[0], [1, 0] + [1] * 14)


def test_deep_colours_with_a_transparent_colour_are_compared_in_all_16_bits(path):
    colours = np.full((16, 3), 0x8000)
    colours[0] = 0x1234, 0x5678, 0x9ABC  # the transparent one
    colours[1] = 0x1234, 0x5678, 0x9ABD  # the same at 8 bits
    colours[2] = 0x0034, 0x0078, 0x00BC  # the same low bytes
    row = b"\0" + colours.astype(">u2").tobytes()
    path.write_bytes(png(16, 2, row * 16, (b"tRNS", colours[0].astype(">u2").tobytes())))
    picture = images.read(path)
    assert_array_equal(picture.alpha, np.tile([0] + [1] * 15, (16, 1)))
    assert_array_equal(picture.image[5, 0], [1, 1, 1])
    assert_array_equal(picture.image[5, 1], as_float([0x12, 0x56, 0x9A]))


@pytest.mark.parametrize("colour", [(255, 0, 0), (1, 2, 3)])
def test_a_transparent_colour_of_16_bits_that_no_pixel_has(path, colour):
    row = b"\0" + struct.pack(">3H", 65535, 0, 0) * 8 + struct.pack(">3H", 257, 514, 771) * 8
    path.write_bytes(png(16, 2, row * 16, (b"tRNS", struct.pack(">3H", *colour))))
    assert images.read(path).alpha is None


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("white", [False, True])
def test_a_transparent_shade_of_few_bits(path, depth, white):
    most = 2**depth - 1
    shade = most if white else most // 3
    samples = np.arange(16) % (most + 1)
    bits = (samples[:, None] >> np.arange(depth)[::-1]) & 1
    row = b"\0" + np.packbits(bits.ravel()).tobytes()
    path.write_bytes(png(depth, 0, row * 16, (b"tRNS", struct.pack(">H", shade))))
    picture = images.read(path)
    opaque = samples != shade
    if opaque.all():
        assert picture.alpha is None
    else:
        assert_array_equal(picture.alpha, np.tile(opaque, (16, 1)))
    expected = np.where(opaque, samples * (255 // most), 255)
    assert_array_equal(picture.image[3, :, 0], as_float(expected))


@pytest.mark.parametrize(
    ("bits", "photometric", "sample_format", "samples"),
    [
        (16, 0, 1, [0, 257, 65535]),
        (16, 1, 1, [0, 257, 65535]),
        (32, 0, 3, [0, 0.2, 1]),
        (32, 1, 3, [0, 0.2, 1]),
        (32, 0, 3, [0, 51, 255]),
    ],
)
def test_a_tiff_in_which_0_is_white(tmp_path, bits, photometric, sample_format, samples):
    values = np.resize(samples, (16, 16))
    data = values.astype("<f4" if sample_format == 3 else "<u2").tobytes()
    file = tmp_path / "grey.tif"
    file.write_bytes(tiff([bits], photometric, data, (339, sample_format)))
    white = max(samples)
    expected = np.rint(255 * (values if photometric else white - values) / white)
    assert_array_equal(images.read(file).image[..., 1], as_float(expected))


def test_white_of_12_bits(tmp_path):
    values = np.arange(0, 4096, 16).reshape(16, 16)
    values[-1, -1] = 4095
    first, second = values.reshape(-1, 2).T  # two samples in three bytes
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    file = tmp_path / "deep.tif"
    file.write_bytes(tiff([12], 1, packed.astype(np.uint8).tobytes()))
    picture = images.read(file)
    assert_array_equal(picture.image[..., 0], as_float(np.rint(values / 4095 * 255)))
    assert picture.notes == ("12-bit picture read at 8 bits",)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_samples_are_refused(tmp_path, bits):
    values = np.linspace(0, 2 ** (bits - 1) - 1, 256).astype(f"<i{bits // 8}")
    file = tmp_path / "signed.tif"
    file.write_bytes(tiff([bits], 1, values.tobytes(), (339, 2)))
    words = (
        rf"`style`: .*signed.tif.* has signed samples of {bits} bits and .* save it with unsigned"
    )
    with pytest.raises(ValueError, match=words) as e:
        images.load(file, argument="style")
    one_line(e)


def test_colours_of_16_bits_in_planes(tmp_path):
    colours = np.random.default_rng(5).integers(0, 256, (16, 16, 3)) * 257
    for planes in (False, True):
        order = np.moveaxis(colours, -1, 0) if planes else colours
        data = order.astype("<u2").tobytes()
        tags = [(284, 2 if planes else 1)]
        file = tmp_path / "planes.tif"
        file.write_bytes(tiff([16, 16, 16], 2, data, *tags))
        if planes:
            with pytest.raises(ValueError, match=r"planes.tif.* in separate planes .*save it") as e:
                images.load(file)
            one_line(e)
        else:
            assert_array_equal(images.load(file), as_float(colours // 257))


def test_subsampled_colours_without_compression_are_refused(tmp_path):
    blocks = np.full((64, 6), 128, np.uint8).tobytes()  # four of brightness, two of colour
    file = tmp_path / "sub.tif"
    # What follows the pixels would count as pixels.
    file.write_bytes(tiff([8, 8, 8], 6, blocks + bytes(512), (530, 2 | 2 << 16)))
    with pytest.raises(
        ValueError, match=r"sub.tif.* \(YCbCr\) without compression.*; save it"
    ) as e:
        images.load(file)
    one_line(e)
    picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    PIL.Image.fromarray(picture).convert("YCbCr").save(file)
    assert_allclose(images.load(file), as_float(picture), rtol=0, atol=3 / 255)


@pytest.mark.parametrize("white", [1023, 65535])
def test_deep_colours_of_a_ppm_are_said(tmp_path, white):
    body = struct.pack(">3H", white, 0, white // 3) * 256
    (tmp_path / "deep.ppm").write_bytes(b"P6 16 16 %d\n" % white + body)
    picture = images.read(tmp_path / "deep.ppm")
    assert_array_equal(picture.image[0, 0], as_float([255, 0, 85]))
    assert picture.notes == ("16-bit picture read at 8 bits",)


def test_a_bitmap_with_16_bits_for_a_pixel_has_no_deep_colours(tmp_path):
    fields = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 16, 3, 512, 0, 0, 0, 0)
    fields += struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    header = b"BM" + struct.pack("<IHHI", 14 + len(fields) + 512, 0, 0, 14 + len(fields))
    (tmp_path / "a.bmp").write_bytes(header + fields + struct.pack("<H", 0xF800) * 256)
    picture = images.read(tmp_path / "a.bmp")
    assert_array_equal(picture.image[2, 3], [1, 0, 0])
    assert picture.notes == ()


def test_16_bit_ppm_is_said(tmp_path):
    body = struct.pack(">3H", 65535, 0, 32896) * 256
    (tmp_path / "deep.ppm").write_bytes(b"P6 16 16 65535\n" + body)
    picture = images.read(tmp_path / "deep.ppm")
    assert_array_equal(picture.image[0, 0], as_float([255, 0, 128]))
    assert picture.notes == ("16-bit picture read at 8 bits",)


@pytest.mark.parametrize(
    ("value", "dtype"), [(65535, np.int32), (1.0, np.float32), (255, np.float32)]
)
def test_white_of_wide_samples(tmp_path, value, dtype):
    array = np.zeros((16, 16), dtype)
    array[0] = value
    PIL.Image.fromarray(array).save(tmp_path / "wide.tif")
    picture = images.read(tmp_path / "wide.tif")
    assert_array_equal(picture.image[:2, 0, 0], [1, 0])
    assert "read at 8 bits" in picture.notes[0]


@pytest.mark.parametrize(
    ("value", "dtype"), [(70000, np.int32), (-1, np.int32), (300, np.float32), (np.nan, np.float32)]
)
def test_samples_without_a_known_white_are_refused(tmp_path, value, dtype):
    PIL.Image.fromarray(np.full((16, 16), value, dtype)).save(tmp_path / "wide.tif")
    with pytest.raises(
        ValueError, match=r"`style`: .*wide.tif.* which of them is white; save"
    ) as e:
        images.load(tmp_path / "wide.tif", argument="style")
    one_line(e)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation, suffix):
    # Corners distinguish the eight: (0, 0) of the upright picture is red, (0, -1) green.
    upright = np.full((32, 48, 3), 255, np.uint8)
    upright[:16, :16], upright[:16, -16:] = (200, 0, 0), (0, 200, 0)
    stored = {  # as the EXIF standard defines where row 0 and column 0 are
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = tmp_path / f"turned{suffix}"
    how = {".jpg": {"subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif, **how)
    picture = images.read(file)
    assert_allclose(picture.image, as_float(upright), atol=0.1)
    assert images.glance(file).shape == (32, 48)
    assert picture.notes == (("turned as its EXIF orientation says",) if orientation > 1 else ())


def test_damaged_exif_is_ignored_and_said(path, pixels):
    PIL.Image.fromarray(pixels).save(path, exif=b"Exif\0\0what is this?")
    picture = images.read(path)
    assert_array_equal(picture.image, as_float(pixels))
    assert picture.notes == ("unreadable EXIF ignored",)
    assert images.read_metadata(path) is None


def test_first_frame_is_taken_and_said(tmp_path):
    frames = [PIL.Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    for name, note in (
        ("a.gif", "frame"),
        ("a.webp", "frame"),
        ("a.png", "frame"),
        ("a.tif", "picture"),
    ):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        picture = images.read(tmp_path / name)
        assert_allclose(picture.image[0, 0], [1, 0, 0], atol=0.05)
        assert picture.notes == (f"only {note} 1 of 3 read",)


# --- Colour profiles ------------------------------------------------------------------------------


def profile(*, gamma=1.0, swapped=False):
    """Make a profile: sRGB's own with another curve, or with its red and blue primaries swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    where = len(data)
    data += curve
    table = {}
    for entry in range(132, 132 + 12 * count, 12):
        table[bytes(data[entry : entry + 4])] = entry
    if swapped:
        red, blue = table[b"rXYZ"], table[b"bXYZ"]
        data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    else:
        for tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[table[tag] + 4 : table[tag] + 12] = struct.pack(">II", where, len(curve))
    data[:4] = struct.pack(">I", len(data))
    return bytes(data)


def test_the_profile_of_the_whole_web_changes_nothing(path, pixels):
    for data in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b""):
        PIL.Image.fromarray(pixels).save(path, icc_profile=data)
        assert_array_equal(images.load(path), as_float(pixels))
        assert images.read(path).notes == ()


def test_linear_profile_brightens_middle_grey(path):
    grey(128, "RGB").save(path, icc_profile=profile(gamma=1.0))
    picture = images.read(path)
    # sRGB's curve by its definition: linear 128/255 is encoded as 0.7366.
    expected = 1.055 * (128 / 255) ** (1 / 2.4) - 0.055
    assert_allclose(picture.image, expected, atol=0.005)
    (note,) = picture.notes
    assert note.startswith("colour profile ") and note.endswith(" converted to sRGB")


def test_swapped_primaries_swap_the_channels(path):
    PIL.Image.new("RGB", (16, 16), (255, 0, 0)).save(path, icc_profile=profile(swapped=True))
    assert_allclose(images.load(path)[0, 0], [0, 0, 1], atol=0.02)


def test_grey_picture_with_a_colour_profile(path):
    grey(128).save(path, icc_profile=profile(gamma=1.0))
    assert_allclose(images.load(path), 0.7366, atol=0.005)


def test_profile_and_transparency_together(path):
    rgba = np.full((16, 16, 4), 128, np.uint8)
    PIL.Image.fromarray(rgba).save(path, icc_profile=profile(gamma=1.0))
    picture = images.read(path)
    assert_allclose(picture.alpha, 128 / 255)
    assert_allclose(picture.image, 1 + (0.7366 - 1) * 128 / 255, atol=0.006)


def test_profile_survives_turning(tmp_path):
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    grey(128, "RGB").save(tmp_path / "a.jpg", exif=exif, icc_profile=profile(gamma=1.0))
    picture = images.read(tmp_path / "a.jpg")
    assert picture.image.shape == (20, 16, 3)
    assert_allclose(picture.image, 0.7366, atol=0.01)


@pytest.mark.parametrize(
    "data",
    [b"broken", profile()[:200], profile(gamma=1.0)[:400]],
    ids=["no-profile", "cut", "cut-late"],  # profiles hold the time they were made
)
def test_broken_profile_is_said_and_ignored(path, pixels, data):
    PIL.Image.fromarray(pixels).save(path, icc_profile=data)
    picture = images.read(path)
    assert_array_equal(picture.image, as_float(pixels))
    assert picture.notes == ("unusable colour profile ignored, assumed to be sRGB",)


def test_profile_of_another_kind_is_said_and_ignored(tmp_path):
    cmyk = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    cmyk.save(tmp_path / "a.tif", icc_profile=profile(gamma=1.0))
    picture = images.read(tmp_path / "a.tif")
    assert_array_equal(picture.image[0, 0], [1, 0, 0])
    assert picture.notes[-1] == "unusable colour profile ignored, assumed to be sRGB"


def test_a_broken_profile_of_lab_colours_is_said_and_ignored(tmp_path):
    white = PIL.Image.new("LAB", (16, 16), (255, 128, 128))  # L* = 100, a* = b* = 0
    white.save(tmp_path / "a.tif", icc_profile=b"broken" * 40)
    picture = images.read(tmp_path / "a.tif")
    assert_allclose(picture.image, 1, atol=0.01)
    assert picture.notes[-1] == "unusable colour profile ignored, assumed to be Lab"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("gamma", [1.0, 0.5556])
def test_gamma_of_a_png_without_a_profile(path, gamma, mode):
    grey(128, "RGB").convert(mode).save(path)
    chunks = png_chunks_of(path.read_bytes())
    chunks.insert(1, [b"gAMA", struct.pack(">I", round(gamma * 100_000))])
    path.write_bytes(joined_png(chunks))
    picture = images.read(path)
    light = (128 / 255) ** (1 / gamma)
    assert_allclose(picture.image, 1.055 * light ** (1 / 2.4) - 0.055, atol=0.5 / 255)
    assert picture.notes == (f"gamma {gamma:g} converted to sRGB",)


@pytest.mark.parametrize(
    "said",
    [
        [(b"gAMA", 45455)],  # what nearly every program writes for sRGB
        [(b"gAMA", 0)],
        [(b"sRGB", None), (b"gAMA", 100_000)],
    ],
    ids=["usual", "zero", "sRGB"],
)
def test_gamma_that_changes_nothing(path, pixels, said):
    PIL.Image.fromarray(pixels).save(path)
    chunks = png_chunks_of(path.read_bytes())
    chunks[1:1] = [
        [kind, b"\0" if value is None else struct.pack(">I", value)] for kind, value in said
    ]
    path.write_bytes(joined_png(chunks))
    picture = images.read(path)
    assert_array_equal(picture.image, as_float(pixels))
    assert picture.notes == ()


@pytest.mark.parametrize(
    ("points", "note"),
    [
        ((1, 13), None),  # sRGB
        ((9, 16), "HDR colours (cICP 9, 16) read as sRGB, so they look different"),
        ((12, 13), "colours of another space (cICP 12, 13) read as sRGB, so they look different"),
    ],
)
def test_colours_by_code_points_are_said(path, pixels, points, note):
    PIL.Image.fromarray(pixels).save(path)
    chunks = png_chunks_of(path.read_bytes())
    # The code points count, and not the gamma.
    chunks[1:1] = [[b"cICP", bytes([*points, 0, 1])], [b"gAMA", struct.pack(">I", 100_000)]]
    path.write_bytes(joined_png(chunks))
    picture = images.read(path)
    assert_array_equal(picture.image, as_float(pixels))
    assert picture.notes == (() if note is None else (note,))


@pytest.mark.parametrize(
    ("primaries", "more", "said"),
    [
        ((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), [], False),  # sRGB's
        ((0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046), [], True),  # BT.2020's
        ((0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046), [[b"sRGB", b"\0"]], False),
    ],
)
def test_other_primaries_of_a_png_are_said(path, pixels, primaries, more, said):
    PIL.Image.fromarray(pixels).save(path)
    chunks = png_chunks_of(path.read_bytes())
    numbers = struct.pack(">8I", *(round(number * 100_000) for number in primaries))
    chunks[1:1] = [*more, [b"cHRM", numbers]]
    path.write_bytes(joined_png(chunks))
    picture = images.read(path)
    assert_array_equal(picture.image, as_float(pixels))
    note = "primaries that are not sRGB's (cHRM) ignored, so colours may look different"
    assert picture.notes == ((note,) if said else ())


def test_a_profile_counts_and_not_the_gamma(path):
    grey(128, "RGB").save(path, icc_profile=profile(gamma=1.0))
    expected = images.load(path)
    chunks = png_chunks_of(path.read_bytes())
    chunks.insert(1, [b"gAMA", struct.pack(">I", 50_000)])
    path.write_bytes(joined_png(chunks))
    assert_array_equal(images.load(path), expected)


# --- Bad files ------------------------------------------------------------------------------------


def test_missing_folder_empty_and_text(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("This is no picture.\n")
    for name, said in (
        ("none.png", "there is no file"),
        ("", "is a folder"),
        ("empty.png", "is empty"),
        ("notes.png", "is not a picture in a known format; expected PNG, JPEG"),
        ("x" * 300, "cannot read"),
    ):
        for reader in (images.load, images.read, images.read_metadata):
            with pytest.raises(ValueError, match=f"^`content`: .*{said}") as error:
                reader(tmp_path / name, argument="content")
            assert name in one_line(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="`path`: .* is no regular file; name a picture"):
        images.load(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="`output`: .* is no regular file; choose another name"):
        images.check_output(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ALL)
def test_truncated(tmp_path, pixels, suffix):
    whole = tmp_path / f"whole{suffix}"
    images.save(whole, pixels)
    data = whole.read_bytes()
    for share in (0.5,) if suffix in (".tif", ".tiff") else (0.5, 0.95):  # a TIFF ends in tags
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match="`path`: .*cut.* (truncated|known format)") as error:
            images.load(cut)
        one_line(error)


def test_every_flipped_bit_of_a_png_is_found(path):
    images.save(path, np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3)))
    data = path.read_bytes()
    for bit in np.random.default_rng(1).integers(0, 8 * len(data), 120):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        for reader in (images.read, images.read_metadata, images.glance):
            with pytest.raises(ValueError, match="damaged or truncated|not a picture in a known"):
                reader(path)


def test_pixels_whose_checksum_within_their_compression_is_wrong(path, pixels):
    images.save(path, pixels)
    chunks = png_chunks_of(path.read_bytes())
    (pixel_data,) = (chunk for chunk in chunks if chunk[0] == b"IDAT")
    pixel_data[1] = pixel_data[1][:-1] + bytes([pixel_data[1][-1] ^ 1])
    path.write_bytes(joined_png(chunks))
    for reader in (images.read, images.read_metadata):
        with pytest.raises(ValueError, match="`path`: .* is damaged or truncated"):
            reader(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_an_end_marker_within_the_pixels_of_a_jpeg(tmp_path, pixels, progressive):
    file = tmp_path / "a.jpg"
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(file, progressive=progressive)
    whole = file.read_bytes()
    expected = images.load(file)
    middle = whole.index(b"\xff\xda") + 200
    assert 0xFF not in whole[middle - 1 : middle + 3]
    file.write_bytes(whole[:middle] + b"\xff\xd9" + whole[middle + 2 :])
    with pytest.raises(ValueError, match="`path`: .* is damaged .*an end marker is in the middle"):
        images.read(file)
    # A marker for temporary use (TEM) has no segment, so what follows it is no length.
    first = whole[:2] + b"\xff\x01"
    for within in (whole[2:], whole[2:middle] + b"\xff\xd9" + whole[middle + 2 :]):
        assert jpeg_markers.ends_early(first + within) == jpeg_markers.ends_early(
            whole[:2] + within
        )
    # What follows a sound picture is no part of it.
    for more in (b"\xff\xd9", bytes(9) + b"\xff\xd9", whole, b"film \xff\xfe...", b"x" * 99):
        file.write_bytes(whole + more)
        assert_array_equal(images.load(file), expected)


def test_a_tiff_whose_checksum_is_wrong(tmp_path, pixels):
    file = tmp_path / "a.tif"
    images.save(file, pixels)
    with PIL.Image.open(file) as opened:
        end = opened.tag_v2[273][0] + opened.tag_v2[279][0]
    data = bytearray(file.read_bytes())
    data[end - 1] ^= 1  # of the Adler checksum that ends the compressed pixels
    file.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or truncated"):
        images.read(file)


@pytest.mark.parametrize("before", [True, False])
def test_glancing_at_a_png_decodes_nothing(path, pixels, monkeypatch, before):
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    chunks = png_chunks_of(path.read_bytes())
    (late,) = (chunk for chunk in chunks if chunk[0] == b"eXIf")
    chunks.remove(late)
    chunks.insert(1 if before else -1, late)
    path.write_bytes(joined_png(chunks))
    assert images.read(path).image.shape == (26, 19, 3)

    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(PIL.Image.core, "zip_decoder", refuse)
    assert images.glance(path).shape == (26, 19)


def test_what_cannot_be_decoded_in_the_memory_there_is_is_refused(path, monkeypatch):
    PIL.Image.new("RGB", (1000, 800)).save(path)
    monkeypatch.setattr(_memory, "of_this_machine", lambda: 10**6)
    message = r"`content`: .* has 1000x800 px; decoding it takes 0.02 GB, and 0.001 GB is available"
    with pytest.raises(ValueError, match=message) as error:
        images.read(path, argument="content")
    width, height = map(int, re.search(r" to (\d+)x(\d+) px at most", one_line(error)).groups())
    assert images.glance(path).shape == (800, 1000)
    # The size in the message fits, and no much larger one.
    PIL.Image.new("RGB", (width, height)).save(path)
    images.read(path)
    PIL.Image.new("RGB", (width + 3, height + 3)).save(path)
    with pytest.raises(ValueError, match="decoding it takes"):
        images.read(path)
    for enough in (10**9, None):
        monkeypatch.setattr(_memory, "of_this_machine", lambda enough=enough: enough)
        images.read(path)


@pytest.mark.parametrize("suffix", ALL)
def test_metadata_are_not_read_where_decoding_takes_too_much_memory(tmp_path, suffix, monkeypatch):
    file = tmp_path / f"a{suffix}"
    images.save(file, np.zeros((80, 100, 3)), metadata={"a": 1})
    monkeypatch.setattr(_memory, "of_this_machine", lambda: 80_000)
    with pytest.raises(ValueError, match="`file`: .* decoding it takes 0.00011 GB") as error:
        images.read_metadata(file, argument="file")
    one_line(error)
    assert reading.has_metadata(file)  # its text precedes the pixels
    images.save(file, np.zeros((80, 100, 3)))
    assert not reading.has_metadata(file)


def test_a_file_that_is_larger_than_the_memory_is_not_read(path, monkeypatch):
    with path.open("wb") as file:
        file.truncate(10**12)
    monkeypatch.setattr(_memory, "of_this_machine", lambda: 10**9)
    for reader in (images.read, images.glance, images.read_metadata):
        with pytest.raises(
            ValueError, match="`path`: .* has 1000.0 GB, and 1.0 GB of memory"
        ) as error:
            reader(path)
        one_line(error)
    assert not reading.has_metadata(path)


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"heic") + bytes(40)


def test_heic_is_named_and_read_by_an_opener(tmp_path, pixels, monkeypatch):
    file = tmp_path / "photo.heic"
    file.write_bytes(HEIC)
    monkeypatch.delitem(PIL.Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ValueError, match="is a HEIC picture.* JPEG or PNG.* pillow-heif") as error:
        images.read(file)
    one_line(error)
    assert ".heic" not in decoding.suffixes()

    class Opener(PIL.ImageFile.ImageFile):  # as a package such as pillow-heif registers one
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (26, 19), "RGB"
            self.tile = []
            self.im = PIL.Image.fromarray(pixels).im

    monkeypatch.setitem(PIL.Image.OPEN, "HEIF", (Opener, lambda prefix: prefix[4:8] == b"ftyp"))
    assert_array_equal(images.load(file), as_float(pixels))
    assert images.glance(file).shape == (19, 26)
    assert ".heic" in decoding.suffixes()


def test_the_formats_in_the_message_are_those_that_are_read(path, tmp_path, monkeypatch):
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"expected PNG, JPEG, GIF, BMP, .* or JPEG 2000$"):
        images.read(path)
    monkeypatch.delitem(PIL.Image.OPEN, "JPEG2000")
    with pytest.raises(ValueError) as error:
        images.read(path)
    assert "JPEG 2000" not in one_line(error)


def test_a_tiff_that_pillow_cannot_read_is_called_a_tiff(tmp_path):
    file = tmp_path / "a.tif"
    PIL.Image.new("RGB", (16, 16)).save(file)
    data = bytearray(file.read_bytes())
    with PIL.Image.open(file) as opened:
        tags = opened.tag_v2
        assert tags[262] == 2  # photometric interpretation: RGB
    entry = data.index(struct.pack("<HHIH", 262, 3, 1, 2))
    data[entry + 8 : entry + 10] = struct.pack("<H", 32845)  # LogLuv
    file.write_bytes(data)
    with pytest.raises(ValueError, match="`path`: .* is a TIFF that .* Pillow cannot read; save"):
        images.read(file)


def test_postscript_is_not_run(tmp_path, pixels):
    PIL.Image.fromarray(pixels).save(tmp_path / "page.eps")
    with pytest.raises(ValueError, match="is not a picture in a known format"):
        images.load(tmp_path / "page.eps")


def test_decompression_bomb(path):
    # 20,000 x 20,000 declared in a file of a few bytes.
    bomb = bytearray(png(8, 2, b""))
    bomb[16:24] = struct.pack(">II", 20_000, 20_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    path.write_bytes(bomb)
    with pytest.raises(ValueError, match="`path`: .* more than 178 megapixels; reduce it") as error:
        images.load(path)
    one_line(error)


def test_large_pictures_are_said_and_too_large_ones_refused(path, pixels, monkeypatch):
    PIL.Image.fromarray(pixels).save(path)
    count = 19 * 26
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", count - 1)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 2 * (count - 1))
    assert images.read(path).notes == ("large picture: 0 megapixels",)
    monkeypatch.setattr(decoding, "MOST_PIXELS", count - 1)
    with pytest.raises(ValueError, match="would decode to more than"):
        images.load(path)


@pytest.mark.parametrize(("most", "divisor"), [(100, 2), (30, 4), (9, 8)])
@pytest.mark.parametrize("pillow_refuses", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_too_many_pixels_is_reduced_while_it_is_decoded(
    tmp_path, monkeypatch, most, divisor, pillow_refuses, progressive
):
    path, smooth = tmp_path / "a.jpg", np.linspace(0, 255, 17 * 19 * 3).reshape(17, 19, 3)
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees
    whole = PIL.Image.fromarray(smooth.astype(np.uint8))
    whole.save(path, quality=95, exif=exif, progressive=progressive)
    monkeypatch.setattr(decoding, "MOST_PIXELS", most)
    if pillow_refuses:
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", most // 2)
    found, seen = images.read(path), images.glance(path)
    shape = (-(-19 // divisor), -(-17 // divisor))
    assert found.image.shape[:2] == seen.shape == shape
    assert found.notes == (
        f"19x17 px are too many; read at {shape[0]}x{shape[1]} px",
        "turned as its EXIF orientation says",
    )
    assert found.memory == seen.memory > 19 * 17 * 8 * progressive
    # The scaled inverse DCT approximates the mean over squares of `divisor` px.
    height, width = 17 // divisor * divisor, 19 // divisor * divisor
    means = smooth[:height, :width].reshape(
        height // divisor, divisor, width // divisor, divisor, 3
    )
    upright = np.rot90(means.mean((1, 3)) / 255, -1)
    inside = found.image[: upright.shape[0], -upright.shape[1] :]
    np.testing.assert_allclose(inside, upright, atol=0.05)


def test_damaged_files_never_raise_anything_else(tmp_path, pixels, capfd):
    random, unread = np.random.default_rng(1), 0
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        images.save(tmp_path / f"a{suffix}", pixels, metadata={"a": 1})
        whole = np.frombuffer((tmp_path / f"a{suffix}").read_bytes(), np.uint8)
        for _ in range(25):
            bad = whole.copy()
            where = random.integers(0, len(bad), random.integers(1, 12))
            bad[where] = random.integers(0, 256, len(where))
            (tmp_path / "bad").write_bytes(bad.tobytes())
            for reader in (images.read, images.read_metadata):
                try:
                    reader(tmp_path / "bad")
                except ValueError:
                    unread += 1
    assert unread > 20  # so the damage was worth reading
    capfd.readouterr()  # libtiff prints its own complaints


# --- Eight bits -----------------------------------------------------------------------------------


def test_rounding_is_to_the_nearest_and_clips():
    every = np.arange(256, dtype=np.uint8)
    for dtype in (np.float32, np.float64):
        assert_array_equal(images.to_uint8(every.astype(dtype) / 255), every)
    assert_array_equal(images.to_uint8(every.astype(np.float16) / np.float16(255)), every)
    assert_array_equal(images.to_uint8([-1.0, 0.4999 / 255, 0.5001 / 255, 7.0]), [0, 0, 1, 255])
    assert images.to_uint8(every) is every


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_rounded(bad):
    with pytest.raises(ValueError, match="`image`: has NaN or infinite"):
        images.to_uint8([0.5, bad])


@pytest.mark.parametrize("dtype", [np.int64, bool, np.uint16, complex])
def test_other_dtypes_are_not_guessed_at(dtype):
    with pytest.raises(
        ValueError, match="`image`: expected floating point in .0, 1. or uint8, got"
    ):
        images.to_uint8(np.zeros((16, 16, 3), dtype))


@pytest.mark.parametrize("shape", [(7, 9), (19, 26), (40, 31)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_resizing_is_pillows_to_the_bit(path, pixels, shape, name):
    PIL.Image.fromarray(pixels).save(path)
    how = PIL.Image.Resampling[name.upper()]
    with PIL.Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB").resize(shape[::-1], how), np.float32) / 255
    resized = getattr(images, f"{name}_8bit")(images.load(path), shape)
    assert resized.dtype == np.float32
    assert_array_equal(resized, expected)
    assert_array_equal(images.resize_8bit(pixels, shape, how), expected)
    assert_array_equal(images.resize_8bit(pixels[..., 0], shape, how), expected[..., 0])


# --- Writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_what_is_saved_without_loss_comes_back(tmp_path, pixels, suffix):
    file = tmp_path / f"a{suffix.upper()}"
    alpha = np.linspace(0, 1, 19 * 26, dtype=np.float32).reshape(19, 26)
    for image in (pixels, as_float(pixels), as_float(pixels).astype(np.float64)):
        images.save(file, image)
        picture = images.read(file)
        assert_array_equal(picture.image, as_float(pixels))
        assert picture.alpha is None and picture.notes == ()
    images.save(file, pixels, alpha=alpha)
    with PIL.Image.open(file) as opened:
        assert opened.mode == "RGBA"
        assert_array_equal(np.asarray(opened)[..., :3], pixels)  # also under what is transparent
        assert_array_equal(np.asarray(opened)[..., 3], images.to_uint8(alpha))


def test_jpeg_keeps_full_colour_and_drops_alpha(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    images.save(tmp_path / "a.jpg", stripes, alpha=np.full((32, 32), 0.5))
    picture = images.read(tmp_path / "a.jpg")
    assert picture.alpha is None
    assert_allclose(picture.image, as_float(stripes), atol=0.1)  # 4:2:0 would give purple
    with PIL.Image.open(tmp_path / "a.jpg") as opened:
        assert [component[1:3] for component in opened.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("suffix", ALL)
def test_srgb_profile_is_written(tmp_path, pixels, suffix):
    images.save(tmp_path / f"a{suffix}", pixels)
    with PIL.Image.open(tmp_path / f"a{suffix}") as opened:
        own = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert ImageCms.getProfileDescription(own).startswith("sRGB")


@pytest.mark.parametrize("suffix", ALL)
def test_the_same_picture_is_the_same_file(tmp_path, pixels, suffix, monkeypatch):
    made = ImageCms.createProfile("sRGB")
    images.save(tmp_path / f"a{suffix}", pixels, metadata={"a": 1})

    class Later(ImageCms.ImageCmsProfile):
        def tobytes(self):
            data = bytearray(super().tobytes())
            data[24:36] = struct.pack(">6H", 2031, 5, 4, 3, 2, 1)
            return bytes(data)

    monkeypatch.setattr(ImageCms, "createProfile", lambda _: made)
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", Later)
    images.save(tmp_path / f"b{suffix}", pixels, metadata={"a": 1})
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_bad_arrays_are_not_written(path):
    for image, said in (
        (np.zeros((16, 16)), "`image`: expected one image"),
        (np.zeros((1, 16, 16, 3)), "`image`: expected one image"),
        (np.zeros((16, 16, 3), int), "`image`: expected floating point"),
        (np.full((16, 16, 3), np.nan), "`image`: has NaN"),
        (np.zeros((0, 0, 3)), "`image`: expected one image"),
    ):
        with pytest.raises(ValueError, match=said):
            images.save(path, image)
    for alpha, said in (
        (np.full((16, 16), np.nan), "`alpha`: has NaN"),
        (np.ones((16, 16), int), "`alpha`: expected floating point"),
    ):
        with pytest.raises(ValueError, match=said):
            images.save(path, np.zeros((16, 16, 3)), alpha=alpha)
    with pytest.raises(ValueError, match=r"`alpha`: expected shape \[16, 16\], got \[16, 8\]"):
        images.save(path, np.zeros((16, 16, 3)), alpha=np.ones((16, 8)))
    assert not list(path.parent.iterdir())


def test_what_the_format_cannot_hold_is_said(tmp_path):
    with pytest.raises(ValueError, match="`path`: 'a.webp' cannot store .* as PNG") as error:
        images.save(tmp_path / "a.webp", np.zeros((16, 16_384, 3), np.uint8))
    one_line(error)
    with pytest.raises(ValueError, match="`path`: 'a.jpg' cannot store .* too long"):
        images.save(tmp_path / "a.jpg", np.zeros((16, 16, 3)), metadata={"long": "x" * 70_000})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_failure_leaves_the_old_file_and_nothing_else(path, pixels, monkeypatch, broken):
    images.save(path, pixels)
    before = path.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        images.save(path, 255 - pixels)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["picture.png"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_follow_the_umask(path, pixels):
    before = os.umask(0o027)
    try:
        images.save(path, pixels)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_stays_a_link(path, pixels):
    folder = path.parent / "elsewhere"
    folder.mkdir()
    path.symlink_to(folder / "real.png")
    images.save(path, pixels)
    assert path.is_symlink()
    assert_array_equal(images.load(folder / "real.png"), as_float(pixels))


def test_overwriting_is_a_choice(path, pixels):
    images.save(path, pixels, overwrite=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="`path`: .*picture.png.* exists; choose another name"):
        images.save(path, 255 - pixels, overwrite=False)
    with pytest.raises(ValueError, match="`output`: .* exists"):
        images.check_output(path, overwrite=False)
    assert path.read_bytes() == before
    images.check_output(path)


def test_outputs_that_cannot_be_written_are_known_before(tmp_path, pixels):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name, said in (
        ("a", "has no suffix; end it in .png"),
        (".png", "'.png' has no name before the dot; write one, such as 'out.png'"),
        ("a.pgn", "no picture format '.pgn'; did you mean '.png'"),
        ("a.jpge", "did you mean '.jpg'"),
        ("a.psd", r"pictures are not written as \.psd; expected one of \.png"),
        ("a.xyzw", "no picture format '.xyzw'"),
        ("folder.png", "is a folder"),
        ("none/a.png", "the folder .*none' does not exist; create it first"),
        ("file/a.png", "file' is no folder; choose another place"),
        ("x" * 300 + ".png", "cannot write .*; choose a shorter name"),
    ):
        with pytest.raises(ValueError, match=f"^`output`: .*{said}") as error:
            images.check_output(tmp_path / name)
        one_line(error)
        with pytest.raises(ValueError, match="^`path`: "):
            images.save(tmp_path / name, pixels)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.png"]


def test_unwritable_folder(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "touch", refuse)  # root may write anywhere
    with pytest.raises(ValueError, match="`output`: cannot write 'picture.png' in .*: Permission"):
        images.check_output(path)


def test_checking_an_output_leaves_no_trace(path):
    images.check_output(path)
    assert not list(path.parent.iterdir())


# --- Metadata -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ALL)
def test_metadata_comes_back(tmp_path, pixels, suffix):
    facts = {
        "recipe": "tf",
        "größe": [512, 1.5],
        "inputs": {"日本": None, "🐈": True},
        "a\n": '"\\',
    }
    images.save(tmp_path / f"a{suffix}", pixels, metadata=facts)
    assert images.read_metadata(tmp_path / f"a{suffix}") == facts
    images.save(tmp_path / f"a{suffix}", pixels, metadata={})
    assert images.read_metadata(tmp_path / f"a{suffix}") == {}
    images.save(tmp_path / f"a{suffix}", pixels)
    assert images.read_metadata(tmp_path / f"a{suffix}") is None


@pytest.mark.parametrize("suffix", ALL)
def test_files_carry_nothing_of_the_inputs(tmp_path, pixels, suffix):
    # A picture with a position and a description, in a folder whose name is private.
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "at home"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    folder = tmp_path / "secret folder"
    folder.mkdir()
    PIL.Image.fromarray(pixels).save(folder / "in.jpg", exif=exif)
    picture = images.read(folder / "in.jpg")
    result = tmp_path / f"out{suffix}"
    images.save(result, picture.image, metadata={"content": picture.name})
    with PIL.Image.open(result) as opened:
        opened.load()
        tags = set(opened.getexif()) - set(range(254, 347))  # the tags that make up a TIFF
        assert not opened.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert tags <= {ExifTags.Base.InterColorProfile}
    assert b"secret" not in result.read_bytes() and b"at home" not in result.read_bytes()
    assert images.read_metadata(folder / "in.jpg") is None


@pytest.mark.parametrize("metadata", [3, "text", [("steps", 1)]])
def test_metadata_are_a_dictionary(path, pixels, metadata, as_users_do):
    with pytest.raises(TypeError, match="^`metadata`: expected a dictionary, got "):
        images.save(path, pixels, metadata=metadata)
    assert not path.exists()  # `read_metadata` would call such a file damaged


def test_masked_pixels_are_not_written(path, pixels):
    masked = np.ma.masked_array(pixels, mask=pixels > 0.5)
    with pytest.raises(ValueError, match="^`image`: is a masked array with masked elements; fill"):
        images.save(path, masked)
    with pytest.raises(ValueError, match="^`alpha`: is a masked array with masked elements; fill"):
        images.save(path, pixels, alpha=masked[..., 0])
    images.save(path, np.ma.masked_array(pixels))
    assert_array_equal(images.load(path), images.to_uint8(pixels).astype(np.float32) / 255)


def test_metadata_that_is_no_json_is_refused(path, pixels):
    for bad in ({"a": np.nan}, {"a": np.float32(1)}, {"a": {1, 2}}):
        with pytest.raises(ValueError, match="`metadata`: cannot be written as JSON") as error:
            images.save(path, pixels, metadata=bad)
        one_line(error)
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "", "[1]", '"a"', "[" * 100_000])
def test_damaged_metadata(path, pixels, text):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("nst_jax", text)
    PIL.Image.fromarray(pixels).save(path, pnginfo=info)
    with pytest.raises(ValueError, match="`file`: the settings in .* are damaged") as error:
        images.read_metadata(path, argument="file")
    one_line(error)


def test_metadata_after_the_pixels_is_found(path, pixels):
    images.save(path, pixels, metadata={"a": 1})
    data = path.read_bytes()
    where = data.index(b"iTXt") - 4
    size = 12 + struct.unpack(">I", data[where : where + 4])[0]
    chunk, rest = data[where : where + size], data[:where] + data[where + size :]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])  # before IEND
    assert images.read_metadata(path) == {"a": 1}
