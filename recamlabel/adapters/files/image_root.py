"""Which folder the image names of a table are relative to: its own, or ``images/`` beside it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recamlabel.adapters.files.listing import FolderListing, is_file, is_image_name

# The likeliest first; lower case.
IMAGE_FOLDERS = ("images", "imgs", "img", "image", "jpegimages", "photos", "pictures", "data", "train", "raw")
# True masks often have the names of their images.
_MASK_WORDS = ("mask", "truth", "label", "annot", "segm", "overlay", "thumb")
_SAMPLE = 40
_MOST = 0.9
_SOME = 0.3
_ENOUGH_HERE = 0.5
# So many folders are looked through for a hint; a home folder or a network share has more.
_SEARCHED = 200


@dataclass(frozen=True)
class ImageRoot:
    """Where images are, or may be.

    Args:
        root: Absolute folder that the image names are relative to.
        note: How it was found; empty where it is the label file's own folder.
        hint: What to do where images are not there, as the end of a message; empty if unknown.
        outside: Whether most names lead out of ``root``.
        bare: Whether the names have no extension, so that the files say which.
    """

    root: Path
    note: str = ""
    hint: str = ""
    outside: bool = False
    bare: bool = False


def find_image_root(file: Path, names: Sequence[str]) -> ImageRoot:
    """The label file's folder, or the only sub-folder (or obvious neighbour) that has most of its images.

    Where none has most, the one named for images (``images/``, ``photos/``) that has the largest share of them, from a
    third on: those that it lacks are missing.

    Args:
        file: The label file, absolute.
        names: Image paths as it has them.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> (folder / "images").mkdir()
        >>> _ = (folder / "images/a.jpg").write_bytes(b"")
        >>> find_image_root(folder / "labels.csv", ["a.jpg"]).note
        "image names are relative to 'images', where the files are (--set data.image_root=FOLDER says otherwise)"
    """
    here = file.parent
    filled = [name.strip().replace("\\", "/") for name in names if name.strip()]
    some = filled[:: max(1, len(filled) // _SAMPLE)][:_SAMPLE]
    bare = are_bare(some)
    outside = [name for name in some if ".." in name.split("/") or os.path.isabs(name)]  # noqa: PTH117 (plain text)
    if len(outside) > len(some) / 2:
        return ImageRoot(here, hint=_common_hint(here, outside), outside=True)
    if not some or _share(here, some, bare) >= _ENOUGH_HERE:
        return ImageRoot(here, bare=bare)
    shares = {folder: _share(folder, some, bare) for folder in _candidates(here)}
    good = [folder for folder, share in shares.items() if share >= _MOST]
    # Named for it: there the missing ones are missing, and nowhere else to be found.
    there = max(_share(here, some, bare), _SOME)
    obvious = {folder: share for folder, share in shares.items() if _is_obvious(folder) and share > there}
    fullest = [folder for folder, share in obvious.items() if not good and share == max(obvious.values())]
    beside = [folder for folder in good if folder in obvious and folder.parent == here]
    for chosen in (beside, good, fullest):
        if len(chosen) == 1:
            shown = os.path.relpath(chosen[0], here)
            note = f"image names are relative to {shown!r}, where the files are"
            return ImageRoot(chosen[0], f"{note} (--set data.image_root=FOLDER says otherwise)", bare=bare)
    if len(good) > 1:
        choices = " or ".join(_setting(folder) for folder in good[:3])
        return ImageRoot(here, hint=f"several folders have such files; choose one: {choices}")
    return ImageRoot(here, hint=_search(here, some))


def are_bare(names: Sequence[str]) -> bool:
    """Whether no name has the extension of an image, as in a column of ids.

    Example:
        >>> are_bare(["img.001", "img.002"]), are_bare(["a", "b.jpg"]), are_bare([])
        (True, False, False)
    """
    return bool(names) and not any(is_image_name(name.rpartition("/")[2]) for name in names)


def _share(folder: Path, names: Sequence[str], bare: bool) -> float:
    if not bare:
        return sum(is_file(folder / name) for name in names) / len(names)
    listing = FolderListing(folder)
    return sum(listing.with_extension(name) is not None for name in names) / len(names)


def _candidates(here: Path) -> Iterator[Path]:
    """Sub-folders that are not of masks by their names, then neighbours with the name of an image folder."""
    yield from (path for path in _folders(here) if not _of_masks(path))
    yield from (path for path in _folders(here.parent) if _is_obvious(path) and path != here)


def _folders(folder: Path) -> list[Path]:
    try:
        folders = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
    except OSError:
        return []
    return sorted(folders)[:_SEARCHED]


def _is_obvious(folder: Path) -> bool:
    return folder.name.casefold() in IMAGE_FOLDERS


def _of_masks(folder: Path) -> bool:
    return any(word in folder.name.casefold() for word in _MASK_WORDS)


def _search(here: Path, names: Sequence[str]) -> str:
    """Where below the label file the first names are, a few levels down."""
    for folder in islice(_below(here, 3), _SEARCHED):
        if not _of_masks(folder) and any(is_file(folder / name) for name in names):
            return f"some are in {folder}: {_setting(folder)}"
    for folder in islice(_below(here, 3), _SEARCHED):
        for name in names[:3]:
            if is_file(folder / name.rpartition("/")[2]):
                return (
                    f"a file {name.rpartition('/')[2]!r} is in {folder}: fix the paths in the table, "
                    "or name the folder that they are relative to with --set data.image_root=FOLDER"
                )
    return "fix the path or put the image there, or name the images' folder with --set data.image_root=FOLDER"


def _below(folder: Path, depth: int) -> Iterator[Path]:
    level = [folder]
    for _ in range(depth):
        level = [path for parent in level for path in _folders(parent) if not path.is_symlink()]
        yield from level


def _common_hint(here: Path, names: Sequence[str]) -> str:
    """The folder that has all of these files: set as ``image_root``, they are inside of it."""
    paths = [os.path.normpath(here / name) for name in names]
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 (plain text)
    except ValueError:  # Windows: several drives
        common = ""
    if common in {"", os.path.sep}:
        return "put the label file above its images"
    return f"{_setting(common)} reads them, or put the label file above its images"


def _setting(folder: Path | str) -> str:
    """What to type, with quotes where the path needs them."""
    return f"--set {shlex.quote(f'data.image_root={folder}')}"
