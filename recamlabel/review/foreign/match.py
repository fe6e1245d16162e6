"""Names of images and of classes, as other tools write them, to those of the run."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from recamlabel.core.classes import BACKGROUND_ID, BACKGROUND_NAME, ClassTable
from recamlabel.data.catalog import Catalog
from recamlabel.export.safe_names import flat_name, ignore_label
from recamlabel.review.foreign.found import LeftOutError

WITHHELD = "withheld"


class ImageNames:
    """Finds the image that a name means.

    A name means an image if it is its id, its path below the data set's root, or its id as one file name
    (``a__b``), with or without an extension; failing that, if it is one of these without its first folders, and
    no other image has that.

    Args:
        catalog: The images.

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.adapters.base import Dataset, LabelledImage
        >>> images = tuple(LabelledImage(name, Path(name), frozenset(), frozenset()) for name in ("val/a", "val/b"))
        >>> names = ImageNames(Catalog(Dataset(Path(), "csv", ClassTable(("x",)), images), {}, {}))
        >>> names.find("b.jpg"), names.find("upload/val/a.png"), names.find("c")
        ('val/b', 'val/a', None)
    """

    def __init__(self, catalog: Catalog) -> None:
        self._exact: dict[str, str] = {}
        self._tails: dict[str, set[str]] = defaultdict(set)
        for image in catalog.images:
            path = PurePosixPath(image.path.as_posix())
            own = [image.id, flat_name(image.id)]
            if image.path.is_relative_to(catalog.dataset.root):
                own.append(image.path.relative_to(catalog.dataset.root).as_posix())
            for name in own:
                self._exact.setdefault(name, image.id)
            for name in (*own, path.as_posix()):
                for tail in {*_tails(name), *_tails(_stem(name))}:
                    self._tails[tail].add(image.id)

    def find(self, name: str) -> str | None:
        """The id of the image, or None.

        Raises:
            LeftOutError: Two images could be meant.
        """
        name = name.replace("\\", "/").lstrip("/")
        for exact in (name, _stem(name)):
            if exact in self._exact:
                return self._exact[exact]
        # The longest part of the name that is an image's, from the left cut away folder by folder.
        for tail in [one for pair in zip(_tails(name), _tails(_stem(name)), strict=True) for one in pair]:
            meant = self._tails.get(tail, set())
            if len(meant) == 1:
                return next(iter(meant))
            if meant:
                raise LeftOutError("whose name fits two images or more; name them by their whole id")
        return None

    def find_any(self, names: Sequence[str]) -> str | None:
        """The first image that one of several names means."""
        return next((found for name in names if (found := self.find(name)) is not None), None)


class Labels:
    """Finds the class that a label means: its id, or what stands for background and for withheld pixels.

    Args:
        table: The run's classes.

    Example:
        >>> labels = Labels(ClassTable(("cat", "dog")))
        >>> [labels.id_of(name) for name in ("dog", "Cat", "background", "ignore", "withheld")]
        [2, 1, 0, 255, 255]
        >>> labels.id_of("dgo")
        Traceback (most recent call last):
        ...
        recamlabel.review.foreign.found.LeftOutError: with the label 'dgo', which the run has not (did you mean 'dog'?)
    """

    def __init__(self, table: ClassTable) -> None:
        own = {name: class_id for class_id, name in enumerate(table.names, start=1)}
        extra = dict.fromkeys((ignore_label(table), WITHHELD), table.ignore_id)
        extra |= {BACKGROUND_NAME: BACKGROUND_ID} if table.background else {}
        self._ids = {**extra, **own}
        self._folded: dict[str, set[int]] = defaultdict(set)
        for name, class_id in self._ids.items():
            self._folded[name.strip().casefold()].add(class_id)
        self._names = table.names

    def id_of(self, label: object) -> int:
        """The id. Raises LeftOutError for a label that is none of these."""
        text = str(label)
        if text in self._ids:
            return self._ids[text]
        folded = self._folded.get(text.strip().casefold(), set())
        if len(folded) == 1:
            return next(iter(folded))
        near = difflib.get_close_matches(text, self._names, n=1)
        question = f" (did you mean {near[0]!r}?)" if near else ""
        raise LeftOutError(f"with the label {text!r}, which the run has not{question}")


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix and path.name != path.suffix else name


def _tails(name: str) -> list[str]:
    """The name, then without its first folder, its first two, …"""
    parts = name.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
