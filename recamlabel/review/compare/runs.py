"""Two runs side by side: settings, stages, and the masks image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import ClassTable
from recamlabel.core.progress import track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import DatasetError
from recamlabel.evaluation.scoring import stored
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.review.compare.truth import TruthScores, TruthTally, image_count
from recamlabel.review.page.html import flat
from recamlabel.stages import GRAPH
from recamlabel.storage.hdf5 import open_store
from recamlabel.storage.run_folder import OUTDATED, RunFolder

NAMED = 5
Mask = NDArray[np.integer]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """One setting, version or stage key: its value in each run, None where a run has none."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class ImageChange:
    """How far the masks of one image are apart.

    Args:
        id: Image id.
        changed: Share of the pixels that differ, in [0, 1].
        miou: Mean IoU of the two masks over the values that either holds, background and
            "ignore" included, in [0, 1]; 1 for equal masks.
    """

    id: str
    changed: float
    miou: float


@dataclass(frozen=True)
class Comparison:
    """Everything that differs between run A (``first``) and run B (``second``).

    Args:
        first, second: The run folders.
        classes: Their common class table.
        settings: Settings, versions and facts about the data set that differ, by dotted name.
        stages: Stages whose keys differ, in the order of the pipeline.
        images: All common images, the most changed first.
        only_first, only_second: Ids that one run alone has.
        other_content: Common images whose files differ.
        other_size: Common images whose masks differ in size; they are not compared.
        pixels_first, pixels_second: ``(K + 2,)`` pixels of background, the classes and "ignore" over the
            common images.
        scores: Against true masks, where there are some.
    """

    first: Path
    second: Path
    classes: ClassTable
    settings: tuple[Difference, ...]
    stages: tuple[Difference, ...]
    images: tuple[ImageChange, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    other_content: tuple[str, ...]
    other_size: tuple[str, ...]
    pixels_first: Counts
    pixels_second: Counts
    scores: TruthScores | None

    @property
    def equal(self) -> int:
        """Number of common images with equal masks."""
        return sum(image.changed == 0 for image in self.images)

    @property
    def mean_change(self) -> float:
        """Mean over the images of the share of pixels that differ."""
        return sum(image.changed for image in self.images) / max(len(self.images), 1)

    def notes(self) -> list[str]:
        """What a reader must know about the choice of images, a sentence each."""
        kinds = (
            (self.only_first, f"in {self.first} only"),
            (self.only_second, f"in {self.second} only"),
            (self.other_content, "with another file content in the two runs"),
            (self.other_size, "left out, because their masks have another size in the two runs"),
        )
        notes = [f"{image_count(len(ids))} {kind}: {_named(ids)}" for ids, kind in kinds if ids]
        return notes + list(self.scores.notes if self.scores else ())


def compare_runs(
    first: RunFolder, second: RunFolder, truth_dir: Path | None = None, truth_classes: Path | None = None
) -> Comparison:
    """Compare the masks of two runs over the images that both have, one image at a time.

    Args:
        first: Run A.
        second: Run B, with the same classes in the same order.
        truth_dir: Folder of true masks; both runs are then scored over the same images.
        truth_classes: Names file of true masks with ids of their own.

    Raises:
        StoreError: Masks that are not finished or are damaged, or no true mask fits.
        DatasetError: Other classes, or no image in common.

    Example:
        >>> a, b = RunFolder.open(Path("runs/a")), RunFolder.open(Path("runs/b"))  # doctest: +SKIP
        >>> compare_runs(a, b).images[0]  # doctest: +SKIP
        ImageChange(id='images/17', changed=0.41, miou=0.52)
    """
    for run in (first, second):
        run.key_of("masks")
    one, two = (load_catalog(run.path / CATALOG_FILE) for run in (first, second))
    table = _same_classes(first, second, one, two)
    common = [image.id for image in one.images if image.id in two.shapes]
    if not common:
        raise DatasetError(
            f"{first.path} and {second.path} have no image in common: {_named(list(one.shapes))} against "
            f"{_named(list(two.shapes))}; compare runs on the same images"
        )
    with ExitStack() as stack, track("compare", len(common)) as advance:
        truth = None
        if truth_dir is not None:
            folder = TruthFolder(truth_dir, table, truth_classes)
            truth = stack.enter_context(TruthTally.of_runs(folder, (first, second), (one, two), common))
        tally = _Tally(table, truth)
        for image_id, *masks in mask_pairs(first, second, common):
            tally.add(image_id, masks[0], masks[1])
            advance()
    if not tally.images:
        raise DatasetError(
            f"{first.path} and {second.path}: the masks of all {len(common)} common images differ in size; "
            "compare runs on the same images"
        )
    return Comparison(
        first=first.path,
        second=second.path,
        classes=table,
        settings=tuple(_differences(_facts(first), _facts(second))),
        stages=tuple(_differences(_keys(first), _keys(second))),
        images=tuple(sorted(tally.images, key=lambda image: (-image.changed, image.id))),
        only_first=tuple(name for name in one.shapes if name not in two.shapes),
        only_second=tuple(name for name in two.shapes if name not in one.shapes),
        other_content=tuple(name for name in common if one.hashes[name] != two.hashes[name]),
        other_size=tuple(tally.other_size),
        pixels_first=tally.pixels[0],
        pixels_second=tally.pixels[1],
        scores=None if truth is None else truth.scores(len(tally.images)),
    )


def mask_pairs(first: RunFolder, second: RunFolder, ids: list[str]) -> Iterator[tuple[str, Mask, Mask]]:
    """Id, mask of run A and mask of run B, one image at a time. Raises StoreError where one is missing."""
    with ExitStack() as stack:
        files: list[h5py.File] = [stack.enter_context(open_store(run.path / "masks.h5")) for run in (first, second)]
        for image_id in ids:
            one, two = (np.asarray(stored(file, image_id)[()]) for file in files)
            yield image_id, one, two


def mask_change(image_id: str, first: Mask, second: Mask) -> ImageChange:
    """How far two masks ``(H, W)`` of one size are apart.

    Example:
        >>> mask_change("a", np.array([[0, 1, 1, 1]]), np.array([[0, 0, 1, 1]]))
        ImageChange(id='a', changed=0.25, miou=0.5833333333333333)
    """
    equal = first == second
    size = int(max(first.max(initial=0), second.max(initial=0))) + 1
    hits, one, two = (np.bincount(values.ravel(), minlength=size) for values in (first[equal], first, second))
    union = one + two - hits
    there = union > 0
    return ImageChange(image_id, float(1 - equal.mean()), float((hits[there] / union[there]).mean()))


class _Tally:
    """Collects what the masks tell, image by image."""

    def __init__(self, table: ClassTable, truth: TruthTally | None) -> None:
        self.table, self.truth = table, truth
        self.images: list[ImageChange] = []
        self.other_size: list[str] = []
        self.pixels = [np.zeros(len(table) + 2, dtype=np.int64) for _ in range(2)]

    def add(self, image_id: str, first: Mask, second: Mask) -> None:
        if first.shape != second.shape:
            self.other_size.append(image_id)
            return
        self.images.append(mask_change(image_id, first, second))
        for pixels, mask in zip(self.pixels, (first, second), strict=True):
            counts = np.bincount(mask.ravel(), minlength=self.table.ignore_id + 1)
            pixels += [*counts[: len(self.table) + 1], counts[self.table.ignore_id]]
        if self.truth is not None:
            self.truth.add(image_id, first, second)


def _same_classes(first: RunFolder, second: RunFolder, one: Catalog, two: Catalog) -> ClassTable:
    names = [catalog.dataset.classes.names for catalog in (one, two)]
    if names[0] == names[1]:
        return one.dataset.classes
    own = [[name for name in names[side] if name not in names[1 - side]] for side in (0, 1)]
    parts = [
        f"{run.path} alone has {_named(alone)}" for run, alone in zip((first, second), own, strict=True) if alone
    ] or [f"{run.path} has {_named(list(order))}" for run, order in zip((first, second), names, strict=True)]
    kind = "other classes" if any(own) else "the same classes in another order, so that other ids"
    raise DatasetError(
        f"the two runs have {kind}: {'; '.join(parts)}; compare runs with one class table "
        "(data.classes or classes.txt fixes it)"
    )


def _facts(run: RunFolder) -> Mapping[str, Any]:
    """Settings, then what else may explain a difference."""
    dataset = {name: run.state.dataset.get(name) for name in ("source", "adapter", "fingerprint", "images")}
    return dict(flat(run.state.config)) | dict(flat({"dataset": dataset, "versions": run.state.versions}))


def _keys(run: RunFolder) -> Mapping[str, Any]:
    """Key of every stage; where its result is not that of the run as it is, in words."""
    states = {name: run.stage_state(name) for name in GRAPH.names}
    return {name: run.current_key(name) or (state if state == OUTDATED else None) for name, state in states.items()}


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*one, *(name for name in two if name not in one)]:
        if one.get(name) != two.get(name):
            yield Difference(name, one.get(name), two.get(name))


def _named(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (f", … ({len(names)} in all)" if len(names) > NAMED else "")
