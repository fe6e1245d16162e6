"""Any photograph to RGB pixels, upright: the only place that reads image files."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from recamlabel.errors import DatasetError
from recamlabel.storage.pixels import UnknownRangeError, to_rgb
from recamlabel.storage.regular import why_neither
from recamlabel.storage.remote import content, is_remote

MAX_PIXELS = 20_000 * 20_000
# Above that one image at a time is decoded, whatever the number of threads: each takes gigabytes meanwhile.
_LARGE_PIXELS, _ONE_AT_A_TIME = 50_000_000, threading.Lock()
# More pixels than these to a byte of the file: a picture of one colour has 343 (RGB) to 8,000 (1 bit) in a PNG, a plain
# JPEG below 200.
_PIXELS_A_BYTE = 300
# Not every format Pillow knows: EPS, for one, would start Ghostscript on a stranger's file.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_WAY_OUT = "replace the file, or leave it out with --on-bad-image skip"

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


def read_image(path: Path) -> np.ndarray:
    """Decode an image file.

    EXIF orientation is applied. Grey, palette, 1-bit and CMYK images become RGB; transparent
    parts become white; 16-bit values are divided by 257; of a float TIFF the range decides
    (0..1, 0..255 or 0..65535). Of several frames or pages the first is read.

    Args:
        path: JPEG, PNG, BMP, TIFF, WebP, GIF, PPM, JPEG 2000 or AVIF, whatever its suffix.

    Returns:
        ``(H, W, 3) uint8``, C-contiguous, writable.

    Raises:
        DatasetError: Missing, empty, no image, damaged, truncated, or above 400 megapixels.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.png"
        >>> Image.new("L", (3, 2), 7).save(path)
        >>> read_image(path).shape, int(read_image(path).max())
        ((2, 3, 3), 7)
    """
    return decode_image(read_bytes(path), path)


def read_reduced(path: Path, longest: int) -> np.ndarray:
    """Like :func:`read_image`, but a large image may come out smaller: its longer side is ``longest`` or more.

    A JPEG is decoded at an eighth, a quarter or half of its size where that is enough, which takes a quarter of the
    time; what is then still twice as large as asked for is averaged over squares of pixels.

    Args:
        path: As :func:`read_image` takes it.
        longest: Pixels that the longer side must have, where the image has so many.

    Returns:
        ``(H, W, 3) uint8``, of the image's proportions but for rounding.

    Raises:
        DatasetError: As :func:`read_image`.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.png"
        >>> Image.new("L", (90, 40), 7).save(path)
        >>> read_reduced(path, 30).shape, read_reduced(path, 60).shape
        ((14, 30, 3), (40, 90, 3))
    """
    pixels = decode_image(read_bytes(path), path, longest)
    factor = max(pixels.shape[:2]) // longest
    return np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels


def decode_image(data: bytes, path: Path, longest: int | None = None) -> np.ndarray:
    """Like :func:`read_image`, from the bytes of a file; ``path`` is for messages, ``longest`` as a JPEG's may be."""
    if not data:
        raise DatasetError(f"{path}: an empty file (0 bytes); expected an image; {_WAY_OUT}")
    with _opened(io.BytesIO(data), path) as image:
        _check_content(image, len(data), path)
        if longest is not None:
            scale = longest / max(image.size)
            image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        with _ONE_AT_A_TIME if image.width * image.height > _LARGE_PIXELS else nullcontext():
            pixels = to_rgb(image)
        # Only now: a PNG may have its EXIF behind the pixels, and Pillow turns a TIFF itself.
        turn = _UPRIGHT.get(_orientation(image))
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file. Raises DatasetError if it is missing or cannot be read."""
    _check_regular(path)
    try:
        return content(path)
    except (OSError, ValueError) as error:
        raise _not_readable(path, error) from None


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of what :func:`read_image` gives, from the header.

    (A PNG without EXIF at its head is decoded, for its EXIF may stand at its end.)

    Raises:
        DatasetError: Missing, empty, no image, or above 400 megapixels.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.png"
        >>> Image.new("L", (3, 2)).save(path)
        >>> image_size(path)
        (2, 3)
    """
    with opened_image(path) as image:
        width, height = image.size
        turned = _orientation(image) in {5, 6, 7, 8}
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Some versions of Pillow give the size of a TIFF before turning it, others after.
            width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return (width, height) if turned else (height, width)


def image_orientation(path: Path) -> int:
    """EXIF orientation of an image file, 1 (upright) to 8, from its header. Raises DatasetError as :func:`image_size`.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.png"
        >>> Image.new("L", (3, 2)).save(path)
        >>> image_orientation(path)
        1
    """
    with opened_image(path) as image:
        return _orientation(image)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """An image file as Pillow has it, of a known format and not decoded yet; its every trouble is a DatasetError."""
    _check_regular(path)
    try:
        stream: BinaryIO = io.BytesIO(content(path)) if is_remote(path) else path.open("rb")
    except (OSError, ValueError) as error:
        raise _not_readable(path, error) from None
    with stream:
        if not stream.read(1):
            raise DatasetError(f"{path}: an empty file (0 bytes); expected an image; {_WAY_OUT}")
        stream.seek(0)
        with _opened(stream, path) as image:
            yield image


@contextmanager
def _opened(stream: BinaryIO, path: Path) -> Iterator[Image.Image]:
    """An image whose every trouble comes out as a DatasetError."""
    try:
        with without_pixel_limit():
            image = Image.open(stream, formats=_formats())
        with image:
            _check_pixels(image, path)
            yield image
    except DatasetError:
        raise
    except UnidentifiedImageError:
        stream.seek(0)
        raise DatasetError(f"{path}: {_what_is(stream.read(64))}; expected an image; {_WAY_OUT}") from None
    except UnknownRangeError as error:
        raise DatasetError(f"{path}: {error}") from None
    except MemoryError:
        raise DatasetError(f"{path}: not enough memory to decode it; scale the image down") from None
    except Exception as error:  # decoders raise a dozen kinds: OSError, SyntaxError, ValueError, struct.error, …
        found = str(error).rstrip(".") or type(error).__name__
        raise DatasetError(f"{path}: a damaged or truncated image ({found}); {_WAY_OUT}") from None


def _check_pixels(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DatasetError(
            f"{path}: {width} x {height} pixels; expected at most {MAX_PIXELS // 1_000_000} megapixels; "
            "scale it down or cut it into tiles"
        )


def _check_content(image: Image.Image, size: int, path: Path) -> None:
    """Refuse what is packed as no photograph can be: 400 kB that become gigabytes."""
    width, height = image.size
    if width * height > max(_LARGE_PIXELS, _PIXELS_A_BYTE * size):
        raise DatasetError(
            f"{path}: {width} x {height} pixels in {size:,} bytes: hardly anything can be in such a picture, and "
            f"decoding it takes gigabytes; {_WAY_OUT}"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8; 1 (upright) where the EXIF cannot be read, as viewers have it."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except OSError:  # the file itself is damaged
        raise
    except Exception:
        return 1


def _check_regular(path: Path) -> None:
    """Refuse a pipe, which one would wait for, and a device, which may never end. Raises DatasetError."""
    if what := why_neither(path):  # opening a folder says so
        raise DatasetError(f"{path}: {what}; expected an image file; {_WAY_OUT}")


def _not_readable(path: Path, error: OSError | ValueError) -> DatasetError:
    if not isinstance(error, OSError):
        return DatasetError(f"{str(path)!r}: no path that a file can have ({error}); {_WAY_OUT}")
    if isinstance(error, FileNotFoundError):
        return DatasetError(f"{path}: no such image; {_WAY_OUT}")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return DatasetError(f"{path}: a folder; expected an image file")
    return DatasetError(f"{path}: cannot be read: {error.strerror or error}")


def _what_is(head: bytes) -> str:
    """What the first bytes look like, in words."""
    start = head.lstrip()[:20].lower()
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"mif1", b"msf1", b"heif"}:
        return "a HEIC picture, which is not read; convert it to JPEG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image (a failed download?)"
    if start.startswith((b"<svg", b"<?xml")):
        return "an XML or SVG file, not pixels"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; run 'git lfs pull'"
    if not head.strip(b"\0"):
        return "a file of zero bytes only"
    if head.startswith(_MAGIC):
        return "an image with a damaged header, or with pixels of a kind that is not read"
    return f"not an image (begins with {head[:12]!r})"


@cache
def _formats() -> tuple[str, ...]:
    """The wanted formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


class _PixelLimit:
    """Pillow's own limit is lifted while files are opened: it would refuse what we allow.

    It is a global of Pillow, so it is put back as soon as no thread is opening a file; our own
    check follows at once, before a pixel is decoded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    Image.MAX_IMAGE_PIXELS = self._before


without_pixel_limit = _PixelLimit().lifted
