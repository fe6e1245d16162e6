"""Index masks as PNG: 8 bit up to 254 classes (mode L, or mode P with a palette), 16 bit above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from recamlabel.errors import StoreError
from recamlabel.storage.atomic import replacing
from recamlabel.storage.decode import MAX_PIXELS, without_pixel_limit


def write_mask(path: Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write a mask ``(H, W)`` of ``uint8`` or ``uint16`` atomically.

    Args:
        path: Where to.
        mask: Class ids.
        palette: ``(256, 3) uint8``: an 8-bit mask becomes mode P, the same indices with colours that viewers show.
            OpenCV's ``imread`` turns such a file into colours; Pillow, torchvision and imageio give the indices.

    Example:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "m.png"
        >>> write_mask(target, np.array([[0, 255]], dtype=np.uint8))
        >>> read_mask(target).tolist()
        [[0, 255]]
    """
    with replacing(path) as temporary:
        save_mask(temporary, mask, palette)


def save_mask(path: Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """As :func:`write_mask`, straight to ``path``: for folders that are put in place as a whole."""
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected an (H, W) mask of uint8 or uint16, got shape {mask.shape}, {mask.dtype}")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette is not None and mask.dtype == np.uint8:
        image.putpalette(palette.tobytes())
    image.save(path, format="PNG")


def read_mask(path: Path) -> np.ndarray:
    """Read an index mask as ``(H, W)`` ``uint8`` or ``uint16`` (modes L, P, 1, I;16).

    Raises:
        StoreError: Missing, unreadable, or a colour image.
    """
    try:
        with without_pixel_limit():
            opened = Image.open(path)
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise StoreError(
                    f"{path}: {image.width} x {image.height} pixels; expected at most "
                    f"{MAX_PIXELS // 1_000_000} megapixels"
                )
            image.load()
            if image.mode in {"L", "P"}:
                return np.array(image, dtype=np.uint8)
            if image.mode == "1":
                return np.array(image).astype(np.uint8)
            if image.mode.startswith("I"):
                return np.array(image).astype(np.uint16)
            mode = image.mode
    except FileNotFoundError:
        raise StoreError(f"{path}: no such mask") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise StoreError(f"{path}: not a readable mask ({error})") from None
    raise StoreError(
        f"{path}: a colour image (mode {mode}); expected an index mask: mode L, P or 16 bit, one class id a pixel"
    )
