"""A folder for images that a data set holds inside its own files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from recamlabel.adapters.files.listing import is_file
from recamlabel.errors import DatasetError
from recamlabel.storage.atomic import remove_dead_once, temporary_name

_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
)


def store_image(root: Path, path: PurePosixPath, suffix: str, data: bytes | None, origin: Path | None) -> PurePosixPath:
    """Put an image below ``root`` unless it is there: its bytes as they are, or a link to its file.

    Args:
        root: Cache folder of one content; made if missing.
        path: Relative path without extension.
        suffix: Extension; ``""``: by the first bytes.
        data: Content of the image file, or None.
        origin: Where the file is, if there is no ``data``.

    Returns:
        The relative path with extension.

    Raises:
        DatasetError: ``origin`` is not there, or the cache cannot be written.
    """
    if data is None and (origin is None or not is_file(origin)):
        raise DatasetError(f"no image file {origin}; the data set names it and does not hold its bytes")
    suffix = suffix or next((s for magic, s in _MAGIC if data is not None and data.startswith(magic)), ".jpg")
    target = root / path.parent / f"{path.name}{suffix}"
    relative = PurePosixPath(target.relative_to(root).as_posix())
    try:
        if target.is_symlink() or (data is not None and target.is_file() and target.stat().st_size == len(data)):
            return relative
        target.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: a killed run leaves no half image behind.
        remove_dead_once(target.parent)
        temporary = target.with_name(temporary_name())
        if data is not None:
            temporary.write_bytes(data)
        elif origin is not None:
            temporary.symlink_to(origin.resolve())
        temporary.replace(target)
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written ({error.strerror or error}); see data.image_cache") from None
    return relative
