"""Labels as COCO files: an annotation for each class that is present, without box and segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.adapters.write_common import Written, by_split, count_unknown, file_part, relative_image
from recamlabel.errors import DatasetError
from recamlabel.storage.atomic import replacing
from recamlabel.storage.decode import image_size

_ABOUT = "image-level labels; annotations have no bbox and no segmentation"


def write_coco(dataset: Dataset, out: Path) -> Written:
    """Write ``instances_SPLIT.json`` for each split (``instances.json`` without splits).

    COCO says what is present and leaves open what its absence means. If any label is unknown,
    every image gets LVIS's ``neg_category_ids`` with the classes that are known to be absent.

    Args:
        dataset: Images and their labels.
        out: Folder for the files.

    Raises:
        DatasetError: An image outside of the data root.
    """
    unknown = count_unknown(dataset)
    files, annotations, number = [], 0, 0
    unsized: list[str] = []
    for split, images in by_split(dataset.images):
        tree = _tree(dataset, images, number, annotations, unknown > 0, unsized)
        number, annotations = number + len(images), annotations + len(tree["annotations"])
        file = out / (f"instances_{file_part(split)}.json" if split else "instances.json")
        if file in files:
            raise DatasetError(f"splits {split!r} and another would both be {file.name}; rename one")
        with replacing(file) as temporary:
            temporary.write_bytes(msgspec.json.encode(tree))
        files.append(file)
    notes = [f"annotations have no box: {annotations}; COCO has no other place for a label of a whole image"]
    if unsized:
        notes.append(f"images without width and height, as they cannot be read: {len(unsized)} (first: {unsized[0]})")
    if unknown:
        absent = sum(len(image.absent) for image in dataset.images)
        notes.insert(
            0,
            f"COCO CANNOT SAY 'UNKNOWN': {unknown} unknown labels and {absent} absent ones both have no annotation. "
            "neg_category_ids (as in LVIS) lists the absent ones, which recamlabel reads; tools that do not "
            f"will take all {unknown} unknown labels for absent",
        )
    source = files[0] if len(files) == 1 else out
    return Written(tuple(files), tuple(notes), source, (("data.image_root", str(dataset.root)),))


def _tree(
    dataset: Dataset, images: list[LabelledImage], first: int, annotations: int, negatives: bool, unsized: list[str]
) -> dict[str, Any]:
    categories = [{"id": index, "name": name} for index, name in enumerate(dataset.classes.names, start=1)]
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, int]] = []
    for number, image in enumerate(images, start=first + 1):
        row: dict[str, Any] = {"id": number, "file_name": str(relative_image(image, dataset))}
        try:
            row["height"], row["width"] = image_size(image.path)
        except DatasetError:
            unsized.append(image.id)
        if image.split is not None:
            row["split"] = image.split
        if negatives:
            row["neg_category_ids"] = dataset.classes.ids_of(image.absent)
        rows.append(row)
        for id_ in dataset.classes.ids_of(image.present):
            labels.append({"id": annotations + len(labels) + 1, "image_id": number, "category_id": id_, "iscrowd": 0})
    return {"info": {"description": _ABOUT}, "images": rows, "annotations": labels, "categories": categories}
