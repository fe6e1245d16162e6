"""Every kind of photograph is read right; what is none is refused with its name."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from recamlabel.errors import DatasetError
from recamlabel.storage.decode import image_size, read_image, read_reduced

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
LOSSLESS: dict[str, dict[str, Any]] = {"webp": {"lossless": True}}
WAY_OUT = "replace the file, or leave it out with --on-bad-image skip"


def check(path: Path, expected: np.ndarray) -> None:
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, expected)
    assert image_size(path) == expected.shape[:2]


def stack(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return np.asarray(np.rint(rgb * share + 255 * (1 - share))).astype(np.uint8)


def error(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **LOSSLESS.get(suffix, {}))
    check(path, RGB)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="PNG")
    check(tmp_path / "a.jpg", RGB)


def test_grey_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    check(tmp_path / "grey.png", stack(GREY))
    Image.fromarray(GREY > 127).save(tmp_path / "bit.png")
    check(tmp_path / "bit.png", stack(np.where(GREY > 127, 255, 0).astype(np.uint8)))


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    alpha = RGB[..., 2].copy()
    alpha[0], alpha[1] = 0, 255
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_allclose(read_image(tmp_path / "rgba.png"), on_white(RGB, alpha), atol=1)
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    np.testing.assert_allclose(read_image(tmp_path / "la.png"), on_white(stack(GREY), alpha), atol=1)
    assert (read_image(tmp_path / "rgba.png")[0] == 255).all()
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png")[1], RGB[1])


def palette_image() -> tuple[Image.Image, np.ndarray]:
    indices = (GREY % 3).astype(np.uint8)
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0]], dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    return image, colours[indices]


def test_palette(tmp_path: Path) -> None:
    image, colours = palette_image()
    image.save(tmp_path / "p.png")
    check(tmp_path / "p.png", colours)
    image.save(tmp_path / "p.gif")
    check(tmp_path / "p.gif", colours)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image, colours = palette_image()
    colours[np.asarray(image) == 1] = 255
    image.save(tmp_path / "index.png", transparency=1)
    check(tmp_path / "index.png", colours)
    image.save(tmp_path / "bytes.png", transparency=bytes([255, 0, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(tmp_path / "bytes.png", colours)


def test_a_transparent_colour_or_grey(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "rgb.png", transparency=tuple(int(v) for v in RGB[2, 3]))
    expected = RGB.copy()
    expected[2, 3] = 255
    check(tmp_path / "rgb.png", expected)
    Image.fromarray(GREY).save(tmp_path / "grey.png", transparency=int(GREY[0, 0]))
    check(tmp_path / "grey.png", stack(np.where(GREY[0, 0] == GREY, 255, GREY).astype(np.uint8)))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    values = np.array([[0, 128, 129, 257], [32896, 65535, 65406, 1000]], dtype=np.uint16)
    cv2.imwrite(str(path), values)
    check(path, stack(np.array([[0, 0, 1, 1], [128, 255, 254, 4]], dtype=np.uint8)))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_colour(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257)
    check(path, RGB)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def insert_chunk(path: Path, before: bytes, chunk: bytes) -> None:
    data = path.read_bytes()
    position = data.index(before) - 4
    path.write_bytes(data[:position] + chunk + data[position:])


def test_16_bit_png_with_a_transparent_colour(tmp_path: Path) -> None:
    values = RGB.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "rgb.png"), values[..., ::-1])
    insert_chunk(tmp_path / "rgb.png", b"IDAT", png_chunk(b"tRNS", struct.pack(">3H", *values[1, 1])))
    expected = RGB.copy()
    expected[1, 1] = 255
    check(tmp_path / "rgb.png", expected)
    cv2.imwrite(str(tmp_path / "grey.png"), values[..., 0])
    insert_chunk(tmp_path / "grey.png", b"IDAT", png_chunk(b"tRNS", struct.pack(">H", values[1, 1, 0])))
    check(tmp_path / "grey.png", stack(np.where(GREY[1, 1] == GREY, 255, GREY).astype(np.uint8)))


def test_cmyk_as_opencv_reads_it(tmp_path: Path) -> None:
    blocks = np.kron(np.array([[0, 1], [2, 3]]), np.ones((16, 16), dtype=int))
    colours = np.array([[255, 0, 0], [0, 0, 255], [255, 255, 255], [20, 120, 60]], dtype=np.uint8)
    Image.fromarray(colours[blocks]).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    pixels = read_image(tmp_path / "a.jpg")
    np.testing.assert_allclose(pixels.astype(int), colours[blocks].astype(int), atol=6)
    opencv = cv2.imread(str(tmp_path / "a.jpg"))
    assert opencv is not None
    np.testing.assert_allclose(pixels.astype(int), opencv[..., ::-1].astype(int), atol=6)


@pytest.mark.parametrize(("scale", "found"), [(1.0, 255), (255.0, 255), (65535.0, 255), (0.5, 128)])
def test_float_tiff_by_its_range(tmp_path: Path, scale: float, found: int) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.array([[0, 1]], dtype=np.float32) * np.float32(scale)).save(path)
    check(path, stack(np.array([[0, found]], dtype=np.uint8)))


def test_integer_tiff_by_its_range(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    for high, found in ((200, 200), (65535, 255)):
        Image.fromarray(np.array([[0, high]], dtype=np.int32)).save(path)
        check(path, stack(np.array([[0, found]], dtype=np.uint8)))


def test_values_of_no_known_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    expected = "expected 0 to 255 or 0 to 65535, or floats from 0 to 1: save it with 8 or 16 bits"
    Image.fromarray(np.array([[-5, 70000]], dtype=np.int32)).save(path)
    assert error(path) == f"integer pixels from -5 to 70000; {expected}"
    Image.fromarray(np.array([[-0.5, 1]], dtype=np.float32)).save(path)
    assert error(path) == f"float pixels from -0.5 to 1; {expected}"
    Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)).save(path)
    assert error(path) == f"float pixels from nan to nan; {expected}"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif, **LOSSLESS.get(suffix, {}))
    with Image.open(path) as image:
        check(path, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    if suffix == "png":
        turned = {1: RGB, 3: RGB[::-1, ::-1], 6: np.rot90(RGB, -1), 8: np.rot90(RGB)}
        check(path, turned.get(orientation, read_image(path)))


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png")
    insert_chunk(tmp_path / "a.png", b"IEND", png_chunk(b"eXIf", exif.tobytes()[6:]))
    check(tmp_path / "a.png", np.rot90(RGB, -1))


def test_broken_exif_counts_as_upright(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    insert_chunk(tmp_path / "a.png", b"IDAT", png_chunk(b"eXIf", b"no exif at all"))
    check(tmp_path / "a.png", RGB)


def test_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for name in ("a.gif", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        check(tmp_path / name, np.full((3, 4, 3), (255, 0, 0), dtype=np.uint8))


def test_missing_folder_and_empty_file(tmp_path: Path) -> None:
    assert error(tmp_path / "a.jpg") == f"no such image; {WAY_OUT}"
    assert error(tmp_path) == "a folder; expected an image file"
    (tmp_path / "a.jpg").touch()
    assert error(tmp_path / "a.jpg") == f"an empty file (0 bytes); expected an image; {WAY_OUT}"
    for path, message in ((tmp_path / "a.jpg", "an empty file"), (tmp_path / "b.jpg", "no such image")):
        with pytest.raises(DatasetError, match=message):
            image_size(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"hello", "not an image (begins with b'hello')"),
        (b"\n<!DOCTYPE html><html>", "a web page, not an image (a failed download?)"),
        (b"<?xml version='1.0'?><svg/>", "an XML or SVG file, not pixels"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture, which is not read; convert it to JPEG"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the image; run 'git lfs pull'"),
        (b"\0" * 2000, "a file of zero bytes only"),
        (b"\xff\xd8\xff\xe0", "an image with a damaged header, or with pixels of a kind that is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image (begins with b'%!PS-Adobe-3')"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert error(tmp_path / "a.jpg") == f"{found}; expected an image; {WAY_OUT}"


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp", "gif", "ppm"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    message = error(path)
    assert message.startswith(("a damaged or truncated image (", "an image with a damaged header"))
    assert message.endswith(WAY_OUT)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[3000:3100] = b"\0" * 100
    path.write_bytes(data)
    assert error(path).startswith("a damaged or truncated image (")


def huge_png(path: Path, width: int, height: int) -> None:
    header = png_chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0") + png_chunk(b"IDAT", b"")
    )


def test_large_images_are_allowed_and_larger_ones_refused(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    huge_png(tmp_path / "large.png", 20_000, 20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "large.png") == (20_000, 20_000)
    huge_png(tmp_path / "huge.png", 20_001, 20_000)
    assert error(tmp_path / "huge.png") == (
        "20001 x 20000 pixels; expected at most 400 megapixels; scale it down or cut it into tiles"
    )
    assert before == Image.MAX_IMAGE_PIXELS


def test_pillows_settings_are_as_before_with_many_threads(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(read_image, [tmp_path / "a.png"] * 200):
            np.testing.assert_array_equal(pixels, RGB)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_large_images_are_read_smaller_and_stay_what_they_are(tmp_path, suffix):
    rows, columns = np.mgrid[:600, :800]
    pixels = np.stack([rows // 3, columns // 4, (rows + columns) // 6], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", quality=95)
    whole = read_image(tmp_path / f"a.{suffix}")
    for longest, shape in ((1000, (600, 800)), (500, (600, 800)), (390, (300, 400)), (100, (75, 100))):
        reduced = read_reduced(tmp_path / f"a.{suffix}", longest)
        assert reduced.shape == (*shape, 3) and reduced.dtype == np.uint8
        small = np.asarray(Image.fromarray(whole).resize(shape[::-1], Image.Resampling.BOX))
        assert np.abs(reduced.astype(int) - small).max() <= 3


def test_a_reduced_photograph_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 600)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (800, 600, 3)
    assert read_reduced(tmp_path / "a.jpg", 200).shape == (200, 150, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_large_images_are_converted_in_strips_to_the_same_pixels(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode).save(tmp_path / "a.tif")
    whole = read_image(tmp_path / "a.tif")
    monkeypatch.setattr("recamlabel.storage.pixels._STRIP_PIXELS", 50)
    assert np.array_equal(read_image(tmp_path / "a.tif"), whole)


def test_what_is_packed_as_no_photograph_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.storage.decode._LARGE_PIXELS", 100_000)
    Image.new("L", (1000, 1000)).save(tmp_path / "a.png", compress_level=9)
    assert "1000 x 1000 pixels in 1," in error(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 2, (1000, 1000), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").shape == (1000, 1000, 3)
