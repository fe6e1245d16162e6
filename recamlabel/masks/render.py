"""Masks of the images' own size from stored scores; no network, no CRF."""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core import ranks
from recamlabel.core.arrays import from_uint8, nearest, paint_strongest, resize_maps
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.progress import Advance
from recamlabel.data.catalog import Catalog
from recamlabel.maps.probe import PROBE_GROUP
from recamlabel.masks.evidence import (
    MARGIN_BINS,
    TIE,
    Evidence,
    expected_iou,
    gather_evidence,
    margin_histogram,
    margin_limit,
    winners,
    with_background,
)
from recamlabel.masks.pngs import PngMark, palette_of, png_mark, save_record
from recamlabel.masks.quality import MaskQuality
from recamlabel.masks.rescue import keep_labelled, usual_sizes
from recamlabel.storage.atomic import swap_folder
from recamlabel.storage.hdf5 import ShardedWriter, class_ids
from recamlabel.storage.png import save_mask

# The band of `masks.ignore=auto` never takes more than these shares of all pixels and of the foreground's:
# where all objects are small, the first alone would let it take all of them.
AUTO_SHARE = 0.15
FOREGROUND_SHARE = 1 / 3
T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """What the files have of one image.

    Attributes:
        scores: ``(C, h, w) uint8`` refined scores.
        maps: ``(C, h', w') float16`` the maps they were made from.
        cams: ``(C, h', w') float16`` the plain CAM.
        class_ids: The C class ids.
        probe: ``(C, h', w') float16`` the probe's probabilities; None where there is no probe.
    """

    scores: NDArray[np.uint8]
    maps: NDArray[Any]
    cams: NDArray[Any]
    class_ids: list[int]
    probe: NDArray[Any] | None


def render_mask(
    scores: NDArray[np.uint8],
    class_ids: list[int],
    shape: tuple[int, int],
    threshold: float,
    table: ClassTable,
) -> NDArray[np.generic]:
    """One mask: ``argmax([threshold, scores])`` in class ids; background wins ties.

    Args:
        scores: ``(C, h, w) uint8``, 255 = 1.0; C may be 0.
        class_ids: The C class ids, 1..K.
        shape: Height and width of the mask.
        threshold: Background level in [0, 1].
        table: Gives the mask's dtype. Without a background the threshold does not count, and without any label
            (C = 0) nothing is known, so all is ignored.

    Returns:
        ``(H, W)`` of ``table.mask_dtype``.

    Example:
        >>> render_mask(np.array([[[0, 255]]], np.uint8), [2], (1, 2), 0.5, ClassTable(("a", "b"))).tolist()
        [[0, 2]]
    """
    mask = np.full(shape, BACKGROUND_ID if table.background else table.ignore_id, dtype=table.mask_dtype)
    planes = ((class_id, from_uint8(stored)) for class_id, stored in zip(class_ids, scores, strict=True))
    return paint_strongest(mask, threshold if table.background else -1.0, planes)


@dataclass(frozen=True)
class RenderJob:
    """What all masks of a run are rendered from.

    Args:
        catalog: Images and their sizes.
        scores: The open ``scores.h5``.
        maps: The open ``maps.h5``, or ``fused.h5``.
        source: Its group that was refined, ``recam`` or ``cam``.
        threshold: Background level.
        cam_threshold: Background level of plain CAM, for comparison.
        ignore: ``"auto"``, ``"none"``, or the share of the pixels to withhold.
        png: Mode of the PNG files, ``"P"`` or ``"L"``.
        sizes: :func:`object_sizes`; None: nothing is known of them.
    """

    catalog: Catalog
    scores: h5py.File
    maps: h5py.File
    source: str
    threshold: float
    cam_threshold: float
    ignore: str | float = "auto"
    png: str = "P"
    sizes: Mapping[int, float] | None = None

    @property
    def background(self) -> bool:
        """False where every pixel belongs to a labelled class."""
        return self.catalog.dataset.classes.background

    def stored(self, image: LabelledImage) -> Stored:
        """What the file has of one image."""
        item = self.scores[f"scores/{image.id}"]
        maps, cams = (self.maps[f"{group}/{image.id}"][()] for group in (self.source, "cam"))
        probe = self.maps.get(f"{PROBE_GROUP}/{image.id}")
        return Stored(item[()], maps, cams, class_ids(item), None if probe is None else probe[()])

    def evidence(self, stored: Stored) -> Evidence:
        """What speaks for one image's mask."""
        return gather_evidence(
            stored.scores,
            stored.maps,
            stored.cams,
            stored.class_ids,
            self.threshold,
            self.cam_threshold,
            self.background,
            stored.probe,
        )


def object_sizes(job: RenderJob, advance: Advance) -> dict[int, float]:
    """How large the smaller objects of each class are, as shares of the pixels of their masks."""
    shares: dict[int, list[float]] = {}
    for image in ranks.share(job.catalog.images):
        item = job.scores[f"scores/{image.id}"]
        if ids := class_ids(item):
            slots = winners(from_uint8(item[()]), job.threshold)
            counts = np.bincount(slots.ravel(), minlength=len(ids) + 1)[1:] / slots.size
            for class_id, share in zip(ids, counts, strict=True):
                shares.setdefault(class_id, []).extend([float(share)] if share else [])
        advance()
    return ranks.merged(shares, lambda parts: usual_sizes(_chained(parts)))


def _chained(parts: Sequence[Mapping[int, list[float]]]) -> dict[int, list[float]]:
    return {name: [*chain.from_iterable(part.get(name, ()) for part in parts)] for name in set().union(*parts)}


def ignore_limit(job: RenderJob, advance: Advance, workers: int) -> float:
    """``min(q_15%(all), q_1/3(foreground), largest(background), largest(foreground))``; -inf for none.

    The margin below which pixels are withheld (docs/method.md, 7); the largest margins less what ties leave unsure.
    ``auto`` withholds the pixels whose class depends on the background level: those that change it while the
    level moves as far as it can to both sides, or as far as 15 % of all pixels of images with labels, or a
    third of their foreground, are withheld; without a background, those whose maps contradict the mask.
    A number withholds the least sure pixels up to that share.
    """
    if job.ignore == "none" or job.ignore == 0:
        advance(len(ranks.share(job.catalog.images)))
        return -np.inf
    total = np.zeros((2, MARGIN_BINS), dtype=np.int64)

    def histogram(image: LabelledImage, stored: Stored) -> NDArray[np.int64]:
        if not stored.class_ids:
            return np.zeros_like(total)
        evidence = job.evidence(stored)
        parts = (evidence.margins[evidence.foreground == kind] for kind in (False, True))
        return np.stack([margin_histogram(part) for part in parts])

    for _, counts in _in_threads(job, histogram, workers):
        total += counts
        advance()
    total = ranks.merged(total, lambda parts: np.sum(parts, axis=0))
    if not total.any():
        return -np.inf
    if job.ignore != "auto":
        return margin_limit(total.sum(axis=0), float(job.ignore))
    if not job.background:
        return min(0.0, margin_limit(total.sum(axis=0), AUTO_SHARE))
    limits = [margin_limit(total.sum(axis=0), AUTO_SHARE), *(_largest(kind) for kind in total if kind.any())]
    if total[1].any():
        limits.append(margin_limit(total[1], FOREGROUND_SHARE))
    return min(limits)


def _largest(histogram: NDArray[np.int64]) -> float:
    """The margin of the pixels that no background level changes, ties left aside."""
    top = (int(np.flatnonzero(histogram)[-1]) + 1) / (MARGIN_BINS / 2) - 1
    return top - 2 * TIE - 2 / MARGIN_BINS


def render_one(
    job: RenderJob, image: LabelledImage, stored: Stored, limit: float
) -> tuple[NDArray[np.generic], MaskQuality]:
    """The mask of one image at its own size, and its quality.

    Every class of the image's label has a pixel in it where anything is known of the class.
    """
    table, shape = job.catalog.dataset.classes, job.catalog.shapes[image.id]
    ids, probe = stored.class_ids, stored.probe
    mask = render_mask(stored.scores, ids, shape, job.threshold, table)
    evidence = job.evidence(stored)
    classes = evidence.class_scores()
    before = {class_id: int((mask == class_id).sum()) for class_id in classes}
    spared: list[int] = []
    if limit > -np.inf and ids:
        margins = resize_maps(evidence.margins[None], *shape)[0]
        spared = withhold(mask, margins, limit, table.ignore_id, ids)
    lost = {class_id: 1 - int((mask == class_id).sum()) / count for class_id, count in before.items() if count}
    # Plain CAM last: the maps of a re-activation that was cut short may be 0 everywhere.
    planes_at_hand = [planes for planes in (stored.maps, probe, stored.cams) if planes is not None]
    sources = [from_uint8(stored.scores), *(np.asarray(planes, np.float32) for planes in planes_at_hand)]
    kept = tuple(sorted({*keep_labelled(mask, ids, sources, job.sizes), *spared}))
    withheld = float((mask == table.ignore_id).mean())
    expected = _expected(mask, probe, list(classes), job.background) if ids and probe is not None else {}
    missing = tuple(class_id for class_id in ids if not (mask == class_id).any())
    return mask, MaskQuality.of_evidence(classes, withheld, lost, expected, missing, kept)


def withhold(
    mask: NDArray[np.generic], margins: NDArray[np.float32], limit: float, ignore_id: int, ids: Sequence[int]
) -> list[int]:
    """Withhold the pixels below a margin, in place, but never all of a labelled class: its better half stays.

    Args:
        mask: ``(H, W)`` class ids; changed in place.
        margins: ``(H, W) float32`` in [-1, 1].
        limit: Pixels with a margin below are set to ``ignore_id``.
        ignore_id: Mask value of what is withheld.
        ids: Class ids of the image's label.

    Returns:
        Ids of the classes of which nothing would have been left.

    Example:
        >>> mask = np.array([[0, 2, 2, 2]], dtype=np.uint8)
        >>> withhold(mask, np.array([[0.9, 0.1, 0.2, 0.3]], np.float32), 0.5, 255, [2]), mask.tolist()
        ([2], [[0, 255, 2, 2]])
    """
    weak, spared = margins < limit, []
    for class_id in ids:
        of_class = mask == class_id
        if of_class.any() and weak[of_class].all():
            weak &= ~(of_class & (margins >= np.median(margins[of_class])))
            spared.append(class_id)
    mask[weak] = ignore_id
    return spared


def _expected(
    mask: NDArray[np.generic], probe: NDArray[np.floating], ids: list[int], background: bool
) -> dict[int, float]:
    """The IoU that the probe expects of the mask as it is left, by class id."""
    probabilities = with_background(probe, background)
    small = nearest(mask.astype(np.int64), *probabilities.shape[1:])
    slots = np.full(small.shape, -1)
    for slot, class_id in enumerate(ids):
        slots[small == class_id] = slot
    return dict(zip(ids, expected_iou(probabilities, slots), strict=True))


def render_masks(
    job: RenderJob, run: Path, key: str, attributes: Mapping[str, Any], limit: float, advance: Advance, workers: int
) -> dict[str, int]:
    """All masks into ``masks.h5`` and ``masks/<id>.png``, both put in place when all are done, with the PNG's record.

    Of several processes each renders its share of them.

    Args:
        job: What they are rendered from.
        run: The run folder.
        key: Stage key.
        attributes: Root attributes of ``masks.h5``.
        limit: As :func:`ignore_limit` gives it.
        advance: Progress, in images.
        workers: Threads; two full-size masks a thread are in memory.

    Returns:
        Pixels by class name, background and ``ignored`` included.
    """
    table = job.catalog.dataset.classes
    palette = palette_of(table, job.png)
    fresh = run / ".masks.new"
    ranks.of_first(lambda: _emptied(fresh))
    pixels = np.zeros(len(table) + 1, dtype=np.int64)
    ignored = 0
    marks: dict[str, PngMark] = {}

    def render(image: LabelledImage, stored: Stored) -> tuple[NDArray[np.generic], MaskQuality, NDArray[np.int64]]:
        mask, quality = render_one(job, image, stored, limit)
        save_mask(fresh / f"{image.id}.png", mask, palette)
        marks[image.id] = png_mark(fresh / f"{image.id}.png")
        return mask, quality, np.bincount(mask.ravel(), minlength=table.ignore_id + 1)

    with ShardedWriter(run / "masks.h5", key, attributes, resume=False) as writer:
        for image, (mask, quality, counts) in _in_threads(job, render, workers):
            writer.add(image.id, {image.id: (mask, quality.attributes())})
            pixels += counts[: len(table) + 1]
            ignored += int(counts[table.ignore_id])
            advance()
        writer.finish()
    pixels, ignored, marks = ranks.merged((pixels, ignored, marks), _together)
    if ranks.is_first():
        swap_folder(fresh, run / "masks")
        save_record(run, key, marks, job.png)
    return {**{table.name_of(class_id): int(count) for class_id, count in enumerate(pixels)}, "ignored": ignored}


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


_Rendered = tuple[NDArray[np.int64], int, dict[str, PngMark]]


def _together(parts: Sequence[_Rendered]) -> _Rendered:
    """Pixels, withheld pixels and marks of all processes."""
    pixels, ignored, marks = zip(*parts, strict=True)
    return np.sum(pixels, axis=0), sum(ignored), dict(ChainMap(*marks))


def _in_threads(
    job: RenderJob, work: Callable[[LabelledImage, Stored], T], workers: int
) -> Iterable[tuple[LabelledImage, T]]:
    """``work(image, stored)`` of every image in order, a few ahead; HDF5 is read by this thread alone."""
    with ThreadPoolExecutor(workers) as pool:
        images = ranks.share(job.catalog.images)
        for start in range(0, len(images), 2 * workers):
            group = images[start : start + 2 * workers]
            futures = [pool.submit(work, image, job.stored(image)) for image in group]
            yield from ((image, future.result()) for image, future in zip(group, futures, strict=True))
