"""A folder of new images to masks on disk: ``recamlabel predict``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import IMAGE_SUFFIXES, LabelledImage, image_id
from recamlabel.adapters.files.listing import images_below
from recamlabel.adapters.files.remote import local_source
from recamlabel.core.classes import ClassTable
from recamlabel.core.colours import mask_palette
from recamlabel.core.devices import Halving
from recamlabel.core.progress import Advance
from recamlabel.data.catalog import Catalog
from recamlabel.data.passes import read_ahead
from recamlabel.errors import DatasetError, StoreError
from recamlabel.refine.config import CrfConfig
from recamlabel.segment.masks import smoothed_mask
from recamlabel.segment.predict import Predictor
from recamlabel.storage.atomic import placing, write_text
from recamlabel.storage.decode import image_size
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.png import save_mask
from recamlabel.storage.remote import refuse_remote

CLASSES_FILE = "classes.txt"


class Look(Protocol):
    """What is shown every mask as it is made."""

    def add(self, folder: Path, image_id: str, pixels: np.ndarray, mask: np.ndarray, /) -> None:
        """Look at one image ``(H, W, 3) uint8`` and its mask ``(H, W)``; may write below ``folder``."""

    def finish(self, folder: Path, /) -> object:
        """All masks are made."""


def find_images(source: Path) -> tuple[LabelledImage, ...]:
    """The image files at or below ``source``, in path order, with ids relative to it.

    Args:
        source: An image or a folder, also at an address (``s3://…``).

    Raises:
        DatasetError: No such path, no image in it, or two images of one id (``a.jpg`` and ``a.png``).
    """
    source = local_source(source)
    if source.is_file():
        paths, root = [source], source.parent
    elif source.is_dir():
        paths, root = images_below(source), source
    else:
        raise DatasetError(f"{source}: no such file or folder; expected an image or a folder of images")
    if not paths:
        raise DatasetError(f"{source}: no image in it; expected files such as {', '.join(sorted(IMAGE_SUFFIXES)[:4])}")
    images: dict[str, LabelledImage] = {}
    for path in paths:
        name = image_id(path, root)
        if name in images:
            raise DatasetError(f"{path}: has the id {name!r}, which {images[name].path.name} has too; rename one")
        images[name] = LabelledImage(name, path, frozenset(), frozenset())
    return tuple(images.values())


def refuse_target(out: Path, source: Path) -> None:
    """Refuse a target that holds something, or lies among the images. Raises StoreError."""
    refuse_remote(out, "a folder of masks")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out}: not an empty folder; give --out a new or empty one, nothing was written")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise StoreError(f"{out}: lies inside {source}, which is only read; give --out another place")


def sized(images: Sequence[LabelledImage]) -> dict[str, tuple[int, int]]:
    """Height and width by image id. Raises DatasetError for a file that is no image, before any work."""
    return {image.id: image_size(image.path) for image in images}


def predict_folder(
    catalog: Catalog,
    predictor: Predictor,
    table: ClassTable,
    out: Path,
    attributes: dict[str, Any],
    advance: Advance,
    *,
    crf: CrfConfig | None = None,
    keep_probabilities: bool = False,
    look: Look | None = None,
    batches: Sequence[Sequence[LabelledImage]] | None = None,
) -> None:
    """Write ``out/masks/<id>.png``, ``out/masks.h5``, ``out/classes.txt`` and, if asked for, ``out/probabilities.h5``.

    Everything is made in a hidden folder beside ``out`` and put in place at the end.

    Args:
        catalog: Images and their sizes; labels are not used.
        predictor: The segmenter.
        table: The classes of the masks.
        out: New or empty folder.
        attributes: Root attributes of the HDF5 files.
        advance: Progress, in images.
        crf: Smooths the probabilities first.
        background: Whether the background may occur.
        keep_probabilities: Store ``(K + 1, h, w) float16`` an image as well.
        look: Is shown every mask, and adds to the folder what a person looks at.
        batches: The images by those that go through the network together; None: each alone, in their order.
    """
    palette = mask_palette(table)
    with placing(out) as fresh, ExitStack() as stack:
        masks = stack.enter_context(ShardedWriter(fresh / "masks.h5", "predict", attributes))
        soft = (
            stack.enter_context(ShardedWriter(fresh / "probabilities.h5", "predict", attributes))
            if keep_probabilities
            else None
        )
        alone = [[image] for image in catalog.images]
        for image, pixels, probabilities in _asked(predictor, alone if batches is None else batches):
            if soft:
                soft.add(image.id, {image.id: (probabilities.astype(np.float16), {})})
            mask = smoothed_mask(pixels, probabilities, table.mask_dtype, crf, background=table.background)
            masks.add(image.id, {image.id: (mask, {})})
            save_mask(fresh / "masks" / f"{image.id}.png", mask, palette)
            if look:
                look.add(fresh, image.id, pixels, mask)
            advance()
        masks.finish()
        if soft:
            soft.finish()
        write_text(fresh / CLASSES_FILE, "".join(f"{name}\n" for name in table.names))
        if look:
            look.finish(fresh)


def _asked(
    predictor: Predictor, batches: Sequence[Sequence[LabelledImage]]
) -> Iterator[tuple[LabelledImage, NDArray[np.uint8], NDArray[np.float32]]]:
    """Each image with its pixels ``(H, W, 3)`` and probabilities ``(K + 1, h, w)``, decoded ahead."""
    halving = Halving("predict")
    for group, pixels in read_ahead(batches):
        yield from zip(group, pixels, chain.from_iterable(halving(predictor.probabilities, pixels)), strict=True)
