"""Masks of the images' own size from stored scores; no network, no CRF."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.arrays import from_uint8, resize_maps
from recamlabel.classes import BACKGROUND_ID, ClassTable
from recamlabel.config import MasksConfig
from recamlabel.data.catalog import Catalog
from recamlabel.progress import Advance
from recamlabel.storage.atomic import swap_folder
from recamlabel.storage.hdf5 import ShardedWriter, class_ids
from recamlabel.storage.png import save_mask


def render_mask(
    scores: NDArray[np.uint8], class_ids: list[int], shape: tuple[int, int], threshold: float, table: ClassTable
) -> NDArray[np.generic]:
    """One mask: ``argmax([threshold, scores])`` in class ids; background wins ties.

    Args:
        scores: ``(C, h, w) uint8``, 255 = 1.0; C may be 0 (then all is background).
        class_ids: The C class ids, 1..K.
        shape: Height and width of the mask.
        threshold: Background level in [0, 1].
        table: Gives the mask's dtype.

    Returns:
        ``(H, W)`` of ``table.mask_dtype``.

    Example:
        >>> render_mask(np.array([[[0, 255]]], np.uint8), [2], (1, 2), 0.5, ClassTable(("a", "b"))).tolist()
        [[0, 2]]
    """
    mask = np.full(shape, BACKGROUND_ID, dtype=table.mask_dtype)
    best = np.full(shape, threshold, dtype=np.float32)
    # One class at a time: a photograph of 12 megapixels takes 50 MB a class.
    for number, stored in zip(class_ids, scores, strict=True):
        score = resize_maps(from_uint8(stored[None]), *shape)[0]
        above = score > best
        mask[above] = number
        best[above] = score[above]
    return mask


def render_masks(
    catalog: Catalog,
    scores: h5py.File,
    config: MasksConfig,
    run: Path,
    key: str,
    attributes: Mapping[str, Any],
    advance: Advance,
    workers: int,
) -> dict[str, int]:
    """All masks into ``masks.h5`` and ``masks/<id>.png``, both put in place when all are done.

    Args:
        catalog: Images and their sizes.
        scores: The open ``scores.h5``.
        config: The threshold.
        run: The run folder.
        key: Stage key.
        attributes: Root attributes of ``masks.h5``.
        advance: Progress, in images.
        workers: Threads; two full-size masks a thread are in memory.

    Returns:
        Pixels by class name, background included.
    """
    table = catalog.dataset.classes
    fresh = run / ".masks.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    pixels = np.zeros(len(table) + 1, dtype=np.int64)

    def render(
        image_id: str, stored: NDArray[np.uint8], ids: list[int]
    ) -> tuple[str, NDArray[np.generic], NDArray[np.int64]]:
        mask = render_mask(stored, ids, catalog.shapes[image_id], config.threshold, table)
        save_mask(fresh / f"{image_id}.png", mask)
        return image_id, mask, np.bincount(mask.ravel(), minlength=len(table) + 1)

    with ShardedWriter(run / "masks.h5", key, attributes, resume=False) as writer, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(catalog.images), 2 * workers):
            group = catalog.images[start : start + 2 * workers]
            items = [(image.id, scores[f"scores/{image.id}"]) for image in group]
            futures = [pool.submit(render, name, item[()], class_ids(item)) for name, item in items]
            for future in futures:
                image_id, mask, counts = future.result()
                writer.add(image_id, {image_id: (mask, {})})
                pixels += counts
                advance()
        writer.finish()
    swap_folder(fresh, run / "masks")
    return {table.name_of(number): int(count) for number, count in enumerate(pixels)}
