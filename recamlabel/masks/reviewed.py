"""What a reviewer decided, kept in ``RUN/review/``: a log of decisions, and the masks that win.

``decisions.jsonl`` has one line per decision, oldest first; the last one of an image counts.
``masks.h5`` has one ``(H, W)`` dataset per image whose mask is settled: the mask as it was when it was
accepted, as it was painted, or nothing but the ignore id where it was rejected. Images without a
decision, and those marked ``fix`` that nobody painted, are not in it: their pseudo mask stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.errors import StoreError
from recamlabel.storage.atomic import read_lines, replacing, write_text
from recamlabel.storage.hdf5 import StoredArrays, first_dataset, leaf_paths, open_store, write_array

Status = Literal["accepted", "rejected", "fix"]
STATUSES: tuple[Status, ...] = get_args(Status)
REVIEW_FOLDER = "review"
MASKS_FILE = f"{REVIEW_FOLDER}/masks.h5"
DECISIONS_FILE = f"{REVIEW_FOLDER}/decisions.jsonl"
Mask = NDArray[np.generic]


@dataclass(frozen=True)
class Decision:
    """What one reviewer said about the mask of one image.

    Attributes:
        image: Image id.
        status: ``accepted``, ``rejected``, ``fix`` (needs work), or None where there is a note or paint alone.
        note: Free text.
        tags: Free words.
        painted: Whether the mask was changed by hand.
        source: Where it was made, such as ``fiftyone:NAME`` or ``page:decisions.json``.
        time: ISO 8601, UTC.
        masks_key: Key of the stage ``masks`` when the mask was looked at.
    """

    image: str
    status: Status | None
    note: str = ""
    tags: tuple[str, ...] = field(default=())
    painted: bool = False
    source: str = ""
    time: str = ""
    masks_key: str = ""

    def same_as(self, other: Decision | None) -> bool:
        """Whether both say the same, whoever said it when."""
        if other is None:
            return self.status is None and not (self.note or self.tags or self.painted)
        return replace(self, source="", time="", masks_key="") == replace(other, source="", time="", masks_key="")


class ReviewFolder:
    """Reads and extends ``RUN/review/``.

    Args:
        run: The run folder's path.

    Example:
        >>> from tempfile import mkdtemp
        >>> review = ReviewFolder(Path(mkdtemp()))
        >>> review.add([Decision("a", "accepted")], {"a": np.array([[0, 1]], dtype=np.uint8)}, ignore_id=255)
        >>> review.decisions()["a"].status, review.kinds()
        ('accepted', {'a': 'accepted'})
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.masks_path, self.decisions_path = run / MASKS_FILE, run / DECISIONS_FILE

    def history(self) -> list[Decision]:
        """Every decision ever recorded, oldest first. Raises StoreError for a damaged line, by number."""
        if not self.decisions_path.is_file():
            return []
        decisions = []
        for row, line in enumerate(read_lines(self.decisions_path), 1):
            try:
                tree = json.loads(line)
                decisions.append(Decision(**{**tree, "tags": tuple(tree.get("tags", ()))}))
            except (ValueError, TypeError) as error:
                raise StoreError(
                    f"{self.decisions_path}: line {row} is no decision ({error}); repair or delete that line"
                ) from None
        return decisions

    def decisions(self) -> dict[str, Decision]:
        """The decision that counts, by image id."""
        return {decision.image: decision for decision in self.history()}

    def add(self, decisions: Iterable[Decision], masks: Mapping[str, Mask], ignore_id: int) -> None:
        """Record decisions and the masks that go with them, masks first; the caller holds the run's lock.

        Args:
            decisions: New ones, at most one an image.
            masks: The mask ``(H, W)`` of every accepted, painted or rejected image; a rejected one
                is stored as all ``ignore_id``.
            ignore_id: Mask value for "not known".

        Raises:
            ValueError: A mask is missing.
        """
        new = {decision.image: decision for decision in decisions}
        if not new:
            return
        settled = {name: _kind(decision) for name, decision in new.items()}
        with replacing(self.masks_path) as temporary, h5py.File(temporary, "w") as file:
            for path, dataset in self._stored():
                if path not in new:
                    write_array(file, path, dataset[()], dict(dataset.attrs))
            for name, kind in settled.items():
                if kind is None:
                    continue
                if name not in masks:
                    raise ValueError(f"no mask given for {name!r}, which is {kind}")
                mask = np.full_like(masks[name], ignore_id) if kind == "rejected" else masks[name]
                write_array(file, name, mask, {"kind": kind, "masks_key": new[name].masks_key})
        lines = [json.dumps(asdict(decision), ensure_ascii=False) for decision in (*self.history(), *new.values())]
        write_text(self.decisions_path, "\n".join(lines) + "\n")

    def kinds(self) -> dict[str, str]:
        """``accepted``, ``painted`` or ``rejected`` by id of every image whose mask is settled."""
        return {path: str(dataset.attrs["kind"]) for path, dataset in self._stored()}

    def mask(self, image_id: str) -> Mask | None:
        """The settled mask ``(H, W)`` of an image, or None."""
        if not self.masks_path.is_file():
            return None
        with open_store(self.masks_path) as file:
            stored = first_dataset([file], image_id)
            return None if stored is None else np.asarray(stored[()])

    def digest(self) -> str:
        """Hash (16 hex digits) of all settled masks, for stage keys; the same for no review at all."""
        total = hashlib.sha256()
        for path, dataset in self._stored():
            total.update(f"{path}\0{dataset.attrs['kind']}\0{dataset.shape}\0".encode())
            total.update(np.ascontiguousarray(dataset[()]).tobytes())
        return total.hexdigest()[:16]

    def _stored(self) -> Iterator[tuple[str, h5py.Dataset]]:
        if self.masks_path.is_file():
            with open_store(self.masks_path) as file:
                for path in sorted(leaf_paths(file)):
                    yield path, file[path]


def _kind(decision: Decision) -> str | None:
    """What the mask of an image is settled as; rejection outweighs paint."""
    if decision.status == "rejected":
        return "rejected"
    if decision.painted:
        return "painted"
    return "accepted" if decision.status == "accepted" else None


@dataclass(frozen=True)
class ReviewedMasks:
    """Masks by image id: the reviewer's where there is one, the pseudo mask elsewhere.

    Opened anew each time, so that any worker process may. The reader of ``masks.h5``
    (:class:`~recamlabel.storage.hdf5.StoredArrays`) with the review on top.

    Args:
        run: The run folder's path.
        pseudo: Reads the pseudo mask of an image id; None: from the run's ``masks.h5``.
    """

    run: Path
    pseudo: Callable[[str], np.ndarray] | None = None

    def __call__(self, image_id: str) -> np.ndarray:
        """The image's mask ``(H, W)``."""
        settled = ReviewFolder(self.run).mask(image_id)
        if settled is not None:
            return settled
        return (self.pseudo or StoredArrays(self.run / "masks.h5"))(image_id)
