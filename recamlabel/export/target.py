"""The place of an export: a new folder that appears whole, with the images linked or copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.export.base import ImageMode
from recamlabel.storage.decode import image_orientation
from recamlabel.storage.remote import content, is_remote, refuse_remote

WITH_EXIF = frozenset({".jpg", ".jpeg", ".tif", ".tiff", ".webp"})


def check_out(out: Path, run: Path, catalog: Catalog) -> Path:
    """The absolute path of an export folder, if one may be made there.

    Raises:
        StoreError: A file or a folder with something in it; inside the run or among the data set's images.
    """
    refuse_remote(out, "an export")
    place = out.resolve()
    if place.exists() and not place.is_dir():
        raise StoreError(f"{out}: a file; --out needs a folder that is new or empty")
    if place.is_dir() and any(place.iterdir()):
        raise StoreError(f"{out}: not empty; nothing was written. Give --out a new folder or an empty one")
    homes = {image.path.parent for image in catalog.images}
    for home in sorted({catalog.dataset.root, *homes}):
        if place.is_relative_to(home.resolve()):
            raise StoreError(f"{out}: inside the data set's own folder {home}; choose another place for --out")
    if place.is_relative_to(run.resolve()):
        raise StoreError(f"{out}: inside the run folder {run}; choose another place for --out")
    return place


def place_image(image: Path, target: Path, mode: ImageMode) -> bool:
    """Link or copy one image file; the file itself is never written to.

    Args:
        image: The user's file.
        target: Where it goes; must not exist.
        mode: ``"link"`` (symbolic, or hard where the system has no symbolic links), ``"copy"``.

    Returns:
        Whether the file asks to be turned (EXIF): readers that ignore that see another image than the mask's.

    Raises:
        StoreError: The image has gone, or it cannot be linked.
    """
    if not image.is_file():
        raise StoreError(f"{image}: no such image any more; put it back, or use --images none")
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise StoreError(f"{image}: another image is called {target.name} in the export; rename one of the two")
    if is_remote(image):
        target.write_bytes(content(image))
    elif mode == "copy":
        shutil.copyfile(image, target)
    else:
        _link(image.absolute(), target)
    return image.suffix.lower() in WITH_EXIF and image_orientation(image) != 1


def _link(image: Path, target: Path) -> None:
    # Systems without links of a kind raise NotImplementedError, those that forbid them OSError.
    try:
        target.symlink_to(image)
    except (OSError, NotImplementedError):
        try:
            target.hardlink_to(image)
        except (OSError, NotImplementedError) as error:
            raise StoreError(f"{image}: cannot be linked to {target} ({error}); use --images copy") from None
