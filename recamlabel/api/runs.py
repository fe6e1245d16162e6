"""A run as Python sees it: its images, maps, masks, scores and what a reviewer decided; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.config import Config, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import MASKS_FILE, Decision, ReviewFolder
from recamlabel.review.page.tables import read_quality_scores
from recamlabel.run.summary import summary_lines
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.places import FINE_FILE, FUSED_FILE, JOINED_FILE, LOCAL_FILE, MAPS_FILE, SCORES_FILE
from recamlabel.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from recamlabel.segment.predict import Predictor

# Files of class maps that a run may hold, and the group of each kind in them.
KINDS = {
    "cam": (MAPS_FILE, "cam"),
    "recam": (MAPS_FILE, "recam"),
    "fine": (FINE_FILE, "recam"),
    "local": (LOCAL_FILE, "local"),
    "joined": (JOINED_FILE, "recam"),
    "fused": (FUSED_FILE, "recam"),
    "probe": (FUSED_FILE, "probe"),
    "scores": (SCORES_FILE, "scores"),
}
Mask = NDArray[np.unsignedinteger[Any]]
# Longer side of pictures in a notebook, and how many of a run's are shown.
NOTEBOOK_SIDE, NOTEBOOK_IMAGES = 320, 6


@dataclass(frozen=True)
class MaskScore:
    """Scores of one mask as ``quality.json`` has them, all in 0..1, 1 best.

    Attributes:
        score: Of the whole mask.
        classes: By class name, ``background`` included.
        withheld: Share of its pixels that are withheld.
        missing: Labelled classes without a pixel.
        kept: Labelled classes that have pixels at a level of their own only.
    """

    score: float
    classes: Mapping[str, float]
    withheld: float
    missing: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunImage:
    """One image of a run; arrays are read when asked for.

    Args:
        id: The image's id.
        path: The image file.
        labels: Names of the classes that are in it.
        split: Its split, or None.
        shape: Height and width in pixels.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: str | None
    shape: tuple[int, int]
    _run: Run

    @property
    def image(self) -> NDArray[np.uint8]:
        """Pixels ``(H, W, 3) uint8`` RGB, upright."""
        return read_image(self.path)

    @property
    def mask(self) -> Mask:
        """Mask ``(H, W)``: 0 background, 1..K class ids; ``uint8``, or ``uint16`` above 254 classes."""
        with open_store(self._run.folder.need("masks.h5")) as file:
            return np.asarray(_item(file, self.id)[()])

    @property
    def segmenter_mask(self) -> Mask:
        """The trained segmenter's own mask ``(H, W)``, which knows nothing of the labels. Raises StoreError if none."""
        with open_store(self._run.folder.need("segmenter.h5")) as file:
            return np.asarray(_item(file, self.id)[()])

    @property
    def decision(self) -> Decision | None:
        """What a reviewer decided; None where nobody has."""
        return self._run.decisions.get(self.id)

    @property
    def reviewed_mask(self) -> Mask | None:
        """The mask ``(H, W)`` as accepted or painted, all withheld where it was rejected; None where undecided."""
        path = self._run.path / MASKS_FILE
        if not path.is_file():
            return None
        with open_store(path) as file:
            return np.asarray(file[self.id][()]) if self.id in file else None

    @property
    def quality(self) -> MaskScore:
        """How far the mask deserves trust; ``quality.score`` is that of the whole. Raises StoreError without masks."""
        return self._run.qualities[self.id]

    def maps(self, kind: str = "recam") -> dict[str, NDArray[np.float16]]:
        """Class maps ``(h, w) float16`` in [0, 1] by class name.

        Args:
            kind: ``"recam"`` or ``"cam"``, at about a quarter of the image's size; ``"fine"``, ``"local"``,
                ``"joined"``, ``"fused"``, ``"probe"`` where the run has them; ``"scores"``: the refined scores.

        Raises:
            StoreError: Another kind, or the maps are not made yet or outdated.

        Example:
            >>> run["images/3"].maps("recam")["cat"].max()  # doctest: +SKIP
            1.0
        """
        name, group = KINDS.get(kind, (MAPS_FILE, kind))
        with open_store(self._run.folder.need(name)) as file:
            item = _item(file, f"{group}/{self.id}")
            values = item[()]
            soft = values if values.dtype.kind == "f" else (values / 255).astype(np.float16)
            names = (self._run.classes[number - 1] for number in class_ids(item))
            return dict(zip(names, soft, strict=True))

    def overlay(self, what: str = "mask", side: int = 1024) -> NDArray[np.uint8]:
        """A mask in the classes' colours over the photograph in grey, ``(h, w, 3) uint8``.

        Args:
            what: ``"mask"``, ``"segmenter"`` or ``"reviewed"`` (the mask where there is no decision).
            side: Longer side in pixels, at most the image's own.

        Raises:
            StoreError: The mask is not there.
            ValueError: Another ``what``.
        """
        from recamlabel.review.page.thumbnails import mask_overlay, thumbnail

        if what == "reviewed":
            reviewed = self.reviewed_mask
            mask = self.mask if reviewed is None else reviewed
        elif what in ("mask", "segmenter"):
            mask = self.mask if what == "mask" else self.segmenter_mask
        else:
            raise ValueError(f"what={what!r}: expected 'mask', 'segmenter' or 'reviewed'")
        return mask_overlay(thumbnail(self.image, side), mask.astype(np.int64), self._run.table)

    def _repr_html_(self) -> str:
        """Photograph and mask side by side, for notebooks."""
        from recamlabel.review.page.thumbnails import data_uri, thumbnail

        pictures = [thumbnail(self.image, NOTEBOOK_SIDE)]
        note = "no mask yet"
        if self._run.folder.stage_state("masks") == "finished":
            pictures.append(self.overlay(side=NOTEBOOK_SIDE))
            note = "mask without a score yet"
        if self._run.folder.stage_state("quality") == "finished":
            note = f"score {self.quality.score:.2f}"
        shown = "".join(f'<img src="{data_uri(picture)}" alt="" style="margin-right:4px">' for picture in pictures)
        labels = escape(", ".join(self.labels) or "no label")
        return f"<div><b>{escape(self.id)}</b> ({labels}; {note})<br>{shown}</div>"


class Run:
    """A finished or unfinished run, read only. Iterating gives its images in data set order.

    Attributes:
        path: The run folder.
        classes: Class names in id order; class ``classes[i]`` has id ``i + 1`` in the masks.
        config: Settings it was made with.
        metrics: Scores that were measured, by name.
    """

    def __init__(self, path: Path) -> None:
        self.folder = folder = RunFolder.open(path)
        self.path = path
        self._catalog = load_catalog(path / CATALOG_FILE)
        self.table = self._catalog.dataset.classes
        self.classes = self.table.names
        self.config: Config = config_from_tree(folder.state.config, origin=str(path / "run.toml"))
        self.metrics: dict[str, Any] = folder.metrics()
        self._rows = {image.id: image for image in self._catalog.images}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RunImage]:
        return (self[image_id] for image_id in self._rows)

    def __getitem__(self, image_id: str) -> RunImage:
        """One image by id. Raises StoreError for an id that the run does not have."""
        row = self._rows.get(image_id)
        if row is None:
            raise StoreError(f"{self.path}: no image {image_id!r}; ids look like {next(iter(self._rows), '')!r}")
        labels = tuple(name for name in self.classes if name in row.present)
        return RunImage(row.id, row.path, labels, row.split, self._catalog.shapes[row.id], self)

    @cached_property
    def qualities(self) -> Mapping[str, MaskScore]:
        """Scores of every mask by image id, the most doubtful first. Raises StoreError before they are made."""
        self.folder.need("quality.json")
        scores = read_quality_scores(self.folder)
        assert scores is not None
        return {
            name: MaskScore(
                row["score"], row["classes"], row["withheld"], tuple(row.get("missing", ())), tuple(row.get("kept", ()))
            )
            for name, row in scores.images.items()
        }

    @cached_property
    def decisions(self) -> Mapping[str, Decision]:
        """What reviewers decided, by image id."""
        return ReviewFolder(self.path).decisions()

    def queue(self) -> list[RunImage]:
        """The images in the order in which a person should look at their masks, the most doubtful first."""
        return [self[name] for name in self.qualities]

    @cached_property
    def _predictor(self) -> Predictor:
        from recamlabel.run.predict import open_predictor

        return open_predictor(self.path, "auto")

    def predict(self, image: NDArray[np.uint8]) -> Mask:
        """The mask ``(H, W)`` of a new image by the run's segmenter, as ``recamlabel predict`` makes it.

        Args:
            image: ``(H, W, 3) uint8`` RGB.

        Raises:
            StoreError: The run has no trained segmenter.
            ValueError: An array of another shape or dtype.
        """
        from recamlabel.run.predict import predict_mask

        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape}, {image.dtype}")
        return predict_mask(self._predictor, image, self.table, self.config)

    def __repr__(self) -> str:
        return f"Run({json.dumps(str(self.path))}, {len(self)} images, {len(self.classes)} classes)"

    def _repr_html_(self) -> str:
        """What `status` says, and the first masks of the queue, for notebooks."""
        lines = "<br>".join(escape(line) for line in summary_lines(self.folder))
        images = ""
        if self.folder.stage_state("quality") == "finished":
            images = "".join(image._repr_html_() for image in self.queue()[:NOTEBOOK_IMAGES])
        return f"<div><b>{escape(repr(self))}</b><br><code>{lines}</code>{images}</div>"


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Args:
        path: What ``recamlabel fit --out`` made.

    Raises:
        StoreError: Not a run folder.

    Example:
        >>> import recamlabel
        >>> for item in recamlabel.open_run("runs/one"):  # doctest: +SKIP
        ...     print(item.id, item.labels, item.quality.score, item.mask.max(), item.maps("recam").keys())
    """
    return Run(Path(path))


def _item(file: h5py.File, name: str) -> h5py.Dataset:
    if name not in file:
        raise StoreError(f"{file.filename}: holds no {name!r}; `recamlabel status` says what is finished")
    return file[name]
