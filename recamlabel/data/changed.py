"""Images that are not the ones that a run was made from: gone, of another size, or with other content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.catalog import Catalog, FileState
from recamlabel.errors import DatasetError, StoreError
from recamlabel.storage.decode import image_size
from recamlabel.storage.remote import content, is_remote, remote_size

NAMED = 5
HASHED = 200
Kind = Literal["gone", "size", "content"]


@dataclass(frozen=True)
class ChangedImage:
    """One image whose file has changed since the run's catalog was written.

    Attributes:
        id: Image id.
        path: The image file.
        kind: ``gone`` (or no image any more), of another ``size``, or of the same size with other ``content``.
        what: The same in words.
    """

    id: str
    path: Path
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def content_hash(data: bytes) -> str:
    """BLAKE2b-128 of a file's bytes, 32 hex digits: what ``Catalog.hashes`` holds.

    Example:
        >>> content_hash(b"")
        'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_hash(path: Path) -> str:
    """:func:`content_hash` of a file, read in pieces. Raises OSError."""
    if is_remote(path):
        return content_hash(content(path))
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_state(path: Path) -> FileState | None:
    """Size in bytes and time of the last change in nanoseconds; None where there is no such file."""
    try:
        stat = path.stat()
        size = remote_size(path) if is_remote(path) else stat.st_size
    except (OSError, ValueError, DatasetError):
        return None
    return size, stat.st_mtime_ns


def changed_images(catalog: Catalog, images: Iterable[LabelledImage] | None = None) -> list[ChangedImage]:
    """The images that are not what the catalog describes, in order.

    A file with the size and time that the catalog holds is taken as it is; of others the header is read, and
    if it has the picture's size and as many bytes, the content is hashed: one reading of the file.

    Args:
        catalog: Of the run.
        images: Some of its images; None for all.
    """
    changes = (_changed(catalog, image) for image in (catalog.images if images is None else images))
    return [change for change in changes if change is not None]


def changed_at_a_glance(catalog: Catalog, most: int = HASHED) -> tuple[list[ChangedImage], int]:
    """As :func:`changed_images` of a whole catalog, in bounded time: of many files with another time some are hashed.

    Args:
        catalog: Of the run.
        most: So many files at most are read; more have another time where a data set was copied or checked out.

    Returns:
        The images that have changed, and how many were not looked at.
    """
    now = {image.id: file_state(image.path) for image in catalog.images}
    suspects = [image for image in catalog.images if now[image.id] != catalog.states.get(image.id, ())]
    doubtful = [image.id for image in suspects if _may_be_the_same(now[image.id], catalog.states.get(image.id))]
    passed_over = frozenset(doubtful[most:])
    return changed_images(catalog, [image for image in suspects if image.id not in passed_over]), len(passed_over)


def _may_be_the_same(now: FileState | None, recorded: FileState | None) -> bool:
    """Whether only a file's content can tell: it is there, and has as many bytes as recorded, if that is known."""
    return now is not None and (recorded is None or now[0] == recorded[0])


def _changed(catalog: Catalog, image: LabelledImage) -> ChangedImage | None:
    state, recorded = file_state(image.path), catalog.states.get(image.id)
    if state is None or not image.path.is_file():
        return ChangedImage(image.id, image.path, "gone", "no such image any more")
    if state == recorded:
        return None
    height, width = catalog.shapes[image.id]
    try:
        now = image_size(image.path)
        if now != (height, width):
            what = f"{now[1]}x{now[0]} pixels now, {width}x{height} when the masks were made"
            return ChangedImage(image.id, image.path, "size", what)
        if _may_be_the_same(state, recorded) and file_hash(image.path) == catalog.hashes[image.id]:
            return None
    except (DatasetError, OSError) as error:
        reason = str(error).removeprefix(f"{image.path}: ").partition(";")[0]
        return ChangedImage(image.id, image.path, "gone", f"cannot be read any more: {reason}")
    return ChangedImage(image.id, image.path, "content", "another picture than when the masks were made")


def refuse_changed(changes: Sequence[ChangedImage], way_out: str) -> None:
    """Stop, naming the first images that have changed.

    Args:
        changes: From :func:`changed_images`; nothing happens where there is none.
        way_out: What to do, for the end of the message.

    Raises:
        StoreError: There is at least one.
    """
    if not changes:
        return
    if len(changes) == 1:
        raise StoreError(f"{changes[0]}; {way_out}")
    shown = "\n".join(f"  {change}" for change in changes[:NAMED])
    more = f"\n  … and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
    raise StoreError(f"{len(changes)} images are not those that the masks were made from:\n{shown}{more}\n{way_out}")
