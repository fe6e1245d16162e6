"""The two places where VOC keeps labels: ``Annotations/*.xml`` and ``ImageSets/Main/CLASS_SPLIT.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from recamlabel.adapters.base import Problem
from recamlabel.adapters.files.text import read_bytes, read_text
from recamlabel.errors import DatasetError

_MAIN_FILE = re.compile(r"(.+)_(train|val|trainval|test)")


@dataclass(slots=True)
class VocLabels:
    """What is known of one image: classes with an ordinary object, and those with difficult ones only."""

    present: set[str] = field(default_factory=set)
    difficult: set[str] = field(default_factory=set)
    filename: str | None = None


def read_annotation(file: Path) -> VocLabels:
    """The labels of one ``Annotations`` file.

    Raises:
        DatasetError: Truncated or malformed (with row and column), with a document type or
            entities, which are refused unread, no ``annotation``, or an object without a name.
    """
    data = read_bytes(file)
    try:
        tree = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise DatasetError(
            f"{file}: has a document type (<!DOCTYPE …>), by which a small file can blow up or read others; "
            "annotations need none, take it out"
        ) from None
    except ParseError as error:
        row, column = error.position
        what = str(error).split(":")[0]
        raise DatasetError(
            f"{file}, row {row}, column {column + 1}: not valid XML: {what}; get the file again, whole"
        ) from None
    except (LookupError, ValueError) as error:  # an encoding that there is not
        raise DatasetError(f"{file}: not valid XML: {error}") from None
    if tree.tag != "annotation":
        raise DatasetError(f"{file}: the root is <{tree.tag}>; expected <annotation> with <object>s")
    return _labels(tree, file)


def _labels(tree: Element, file: Path) -> VocLabels:
    labels = VocLabels(filename=(tree.findtext("filename") or "").strip() or None)
    difficult = set()
    for number, item in enumerate(tree.findall("object"), start=1):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DatasetError(f"{file}: object {number}: no <name>; expected the class of the object")
        if (item.findtext("difficult") or "0").strip() in {"1", "1.0", "true", "True"}:
            difficult.add(name)
        else:
            labels.present.add(name)
    labels.difficult = difficult - labels.present
    return labels


def read_main(folder: Path, problems: list[Problem]) -> tuple[dict[str, VocLabels], list[str]]:
    """Labels from ``ImageSets/Main``: each line an image and 1 (there), -1 (not there) or 0 (difficult).

    Args:
        folder: ``ImageSets/Main``.
        problems: Added to.

    Returns:
        Labels by image name, and the class names, sorted.
    """
    labels: dict[str, VocLabels] = {}
    names: dict[str, None] = {}
    for file in sorted(folder.glob("*_*.txt")):
        match = _MAIN_FILE.fullmatch(file.stem)
        if match is None:
            continue
        name = match.group(1)
        names[name] = None
        for row, image, state in _main_rows(file, problems):
            item = labels.setdefault(image, VocLabels())
            if state == "1":
                item.present.add(name)
            elif state == "0":
                item.difficult.add(name)
            if name in item.present and name in item.difficult:
                message = f"{image!r} has 1 and 0 for {name!r} in files of different splits; keep one"
                problems.append(Problem(message, file, row))
                item.difficult.discard(name)
    return labels, sorted(names)


def _main_rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, str, str]]:
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        # Only the last word is the state: names may have spaces.
        image, _, state = line.strip().rpartition(" ")
        if not image or state not in {"1", "-1", "0"}:
            message = f"{line.strip()[:60]!r}; expected an image name and 1 (there), -1 (not there) or 0 (difficult)"
            problems.append(Problem(message, file, row))
        else:
            yield row, image.strip(), state
