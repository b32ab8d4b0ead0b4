"""The reader of picture files: its output is upright, 8 bits per channel, on a background, whatever the file."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from fourdistill.media import read_picture as read_condition
from fourdistill.pictures import FORMATS, PictureError, read_header, read_picture
from fourdistill.video.pictures import read_picture as read_capture

RAMP = np.tile(np.arange(0, 255, 4, dtype=np.uint8), (48, 1))  # (48, 64)
COLORS = np.stack([RAMP, RAMP[:, ::-1], np.repeat(np.arange(48, dtype=np.uint8)[:, None] * 5, 64, 1)], -1)


def pixels(path, background="white"):
    """Pixels of a picture, which must be the same in all places that read pictures."""
    seen = np.asarray(read_picture(path, background)).astype(int)
    assert (seen == np.asarray(read_capture(path, background))).all()
    if background == "white":
        assert (seen == np.asarray(read_condition(path))).all()
    return seen


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", *[".avif"] * ("AVIF" in FORMATS)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path, suffix, orientation):
    """Stored as by a camera: applying the EXIF orientation restores the scene."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    stored = Image.fromarray(COLORS)
    stored.getexif()[ExifTags.Base.Orientation] = undo
    stored = ImageOps.exif_transpose(stored)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    stored.save(path, exif=exif, quality=95, lossless=suffix == ".webp")
    header = read_header(path)
    assert (header.size, header.orientation, header.upright_size) == (stored.size, orientation, (64, 48))
    assert np.abs(pixels(path) - COLORS).mean() < (6 if suffix in (".jpg", ".avif") else 0.01)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits(tmp_path, suffix, channels):
    image = np.dstack([COLORS.astype(np.uint16) * 257, np.full((48, 64), 65535, np.uint16)])[..., :channels]
    cv2.imwrite(str(tmp_path / f"a{suffix}"), image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image[..., 0])
    expected = COLORS if channels > 1 else np.repeat(RAMP[..., None], 3, -1)
    np.testing.assert_array_equal(pixels(tmp_path / f"a{suffix}"), expected)


def test_sixteen_bits_of_the_other_byte_order_and_turned(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, dtype in (("a.tif", ">u2"), ("a.png", "<u2")):
        Image.fromarray((RAMP.astype(np.uint16) * 257).astype(dtype)).save(tmp_path / name, exif=exif)
        np.testing.assert_array_equal(pixels(tmp_path / name)[..., 0], np.rot90(RAMP, -1))


def png(color_type, depth, transparent, row):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = len(row) * 8 // (depth * {0: 1, 2: 3}[color_type])
    header = struct.pack(">IIBBBBB", width, 1, depth, color_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_transparency_of_every_kind_shows_the_background(tmp_path):
    """Alpha channel, palette entry, transparent gray or colour, with 8 and 16 bits."""
    alpha = Image.fromarray(np.where(RAMP < 100, 0, 255).astype(np.uint8))
    for mode in ("RGBA", "LA", "PA"):
        image = Image.new("L", (64, 48), 90).convert(mode[:-1])
        image.putalpha(alpha)
        image.save(tmp_path / f"{mode}.{'tif' if mode == 'PA' else 'png'}")
    palette = Image.fromarray(np.where(RAMP < 100, 0, 1).astype(np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 90, 90, 90])
    palette.save(tmp_path / "P.png", transparency=0)
    palette.save(tmp_path / "P.gif", transparency=0)
    for path in tmp_path.iterdir():
        seen = pixels(path, "#204060")
        np.testing.assert_array_equal(np.unique(seen[RAMP < 100], axis=0), [[0x20, 0x40, 0x60]], err_msg=path.name)
        np.testing.assert_array_equal(np.unique(seen[RAMP >= 100]), [90], err_msg=path.name)
    gray = np.array([0, 65535, 40000], ">u2")
    (tmp_path / "gray.png").write_bytes(png(0, 16, gray[2:].tobytes(), gray.tobytes()))
    (tmp_path / "color.png").write_bytes(png(2, 16, np.repeat(gray[2:], 3).tobytes(), np.repeat(gray, 3).tobytes()))
    (tmp_path / "eight.png").write_bytes(png(0, 8, b"\0\x9c", b"\0\xff\x9c"))
    for name in ("gray.png", "color.png", "eight.png"):
        assert pixels(tmp_path / name, "#204060")[0].tolist() == [[0] * 3, [255] * 3, [0x20, 0x40, 0x60]], name


def test_other_colours(tmp_path):
    picture = Image.fromarray(COLORS)
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "cmyk.tif"), COLORS)
    picture.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(pixels(tmp_path / "bits.png"))) == {0, 255}


def test_a_colour_profile_is_used_and_a_damaged_one_is_not(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    picture.save(tmp_path / "srgb.png", icc_profile=lab.tobytes())
    picture.save(tmp_path / "damaged.png", icc_profile=lab.tobytes()[:200])
    # The same with swapped red and green primaries.
    swapped = bytearray(lab.tobytes())
    red, green = swapped.find(b"rXYZ"), swapped.find(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be"))
    picture.save(tmp_path / "swapped.png", icc_profile=bytes(swapped))
    assert pixels(tmp_path / "srgb.png")[0, 0].tolist() == [200, 100, 50]
    assert pixels(tmp_path / "damaged.png")[0, 0].tolist() == [200, 100, 50]
    assert np.abs(pixels(tmp_path / "swapped.png")[0, 0] - [100, 200, 50]).max() <= 2


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif", ".mpo"])
def test_of_several_pictures_the_first_counts(tmp_path, suffix):
    first, second = (Image.new("RGB", (16, 16), (level,) * 3) for level in (60, 200))
    data = BytesIO()
    kind = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".tif": "TIFF", ".mpo": "MPO"}[suffix]
    first.save(data, kind, save_all=True, append_images=[second])
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    assert np.abs(pixels(tmp_path / "a.jpg") - 60).max() <= 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "WEBP, found HEIC"),
        (b"", "expected a whole picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "expected a whole picture"),
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path, data, reason):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(PictureError, match=reason) as caught:
        read_picture(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


def test_bits_that_say_no_brightness(tmp_path):
    for name, image in (("F", Image.new("F", (8, 8))), ("I", Image.new("I", (8, 8)))):
        image.save(tmp_path / f"{name}.tif")
        with pytest.raises(PictureError, match=f"expected 8 or 16 bits a channel, found mode {name}"):
            read_picture(tmp_path / f"{name}.tif")
