"""Hugging Face ``datasets``: an ImageFolder with an image and a label column, which ``load_dataset`` reads."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.classes import MAX_CLASSES_8BIT
from recamlabel.errors import DatasetError
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.export.encode.pngs import pillow_reading
from recamlabel.export.foreign_readers import installed
from recamlabel.export.safe_names import refuse_hidden
from recamlabel.storage.atomic import write_text
from recamlabel.storage.png import save_mask

_CARD = """\
---
configs:
- config_name: default
  data_files:
{files}task_categories:
- image-segmentation
---

{images} images with pixel masks, made by recamlabel from image-level labels.

```python
from datasets import load_dataset

data = load_dataset("path/to/this/folder")  # a path without [ ] * ?, which are patterns there
data["{split}"][0]["image"], data["{split}"][0]["label"]  # label: 0 background, 1..{classes} classes, 255 ignore
```

`id2label.json` has the class names.
"""


class HuggingFaceFormat:
    """``data/<split>/images``, ``data/<split>/labels`` (mode L), ``metadata.jsonl``, ``id2label.json``."""

    name = "huggingface"
    description = "Hugging Face datasets: ImageFolder with columns image, label (mode L PNG), id; id2label.json"
    kind: Kind = "index"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES_8BIT
    image_modes: tuple[ImageMode, ...] = ("link", "copy")

    def check(self, plan: Plan) -> None:
        """Split names are identifiers there; hidden files are left out."""
        refuse_hidden(self.name, (item.name for item in plan.items), (".", "__"))
        for subset in plan.subsets:
            if not re.fullmatch(r"\w+(\.\w+)*", subset) or subset == "all":
                raise DatasetError(
                    f"huggingface cannot hold the split {subset!r}: names there have letters, digits and '_' only, "
                    "and 'all' means all splits; rename it, or export single splits with --split"
                )

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write masks, then a row of metadata an image, then the card."""
        for item, mask in masks:
            save_mask(folder / self._mask_path(item), mask)
        for subset, items in plan.subsets.items():
            with (folder / "data" / subset / "metadata.jsonl").open("w", encoding="utf-8") as stream:
                for item in items:
                    stream.write(json.dumps(_row(item), ensure_ascii=False) + "\n")
        names = {str(class_id): name for class_id, name in enumerate(plan.class_names)}
        write_text(folder / "id2label.json", json.dumps(names, indent=1, ensure_ascii=False) + "\n")
        files = "".join(f'  - split: {subset}\n    path: "data/{subset}/**"\n' for subset in plan.subsets)
        card = _CARD.format(
            files=files, images=len(plan.items), split=next(iter(plan.subsets)), classes=len(plan.classes)
        )
        write_text(folder / "README.md", card)
        return []

    def image_path(self, item: Item) -> str:
        """Below ``data/<split>/images``."""
        return f"data/{item.subset}/images/{item.image_name}"

    def label_files(self, item: Item) -> Sequence[str]:
        """The mask."""
        return [self._mask_path(item)]

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With ``datasets.load_dataset`` where it is installed and takes the path, else with Pillow."""
        reader = installed("datasets")
        # datasets takes such characters of a path for patterns, and finds nothing.
        if reader is None or set("[]*?") & set(str(folder)):
            yield pillow_reading("labels", folder, items, self._mask_path)
            return
        with tempfile.TemporaryDirectory() as cache:
            yield Reading("all", reader, _loaded(plan, folder, items, cache))

    def _mask_path(self, item: Item) -> str:
        return f"data/{item.subset}/labels/{item.name}.png"


def _row(item: Item) -> dict[str, str]:
    return {"file_name": f"images/{item.image_name}", "label_file_name": f"labels/{item.name}.png", "id": item.id}


def _loaded(plan: Plan, folder: Path, items: Sequence[Item], cache: str) -> Iterator[tuple[Item, Mask]]:
    """Rows of the checked items as ``load_dataset`` gives them."""
    import datasets

    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        data: Any = datasets.load_dataset(str(folder), cache_dir=cache)
    finally:
        if shown:
            datasets.enable_progress_bars()
    if {name: len(part) for name, part in data.items()} != {name: len(part) for name, part in plan.subsets.items()}:
        raise LookupError(f"load_dataset gives {data.num_rows}, expected {len(plan.items)} images")
    wanted = {item.id: item for item in items}
    for part in data.values():
        rows = [number for number, name in enumerate(part["id"]) if name in wanted]
        for row in part.select(rows):
            yield wanted[row["id"]], np.array(row["label"])
