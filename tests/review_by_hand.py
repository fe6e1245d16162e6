"""A run to review, with odd sizes, withheld pixels and names that pages and databases trip over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from export_by_hand import scattered_mask
from PIL import Image
from run_by_hand import TinyImage, make_run, with_present_images

from recamlabel.review.fiftyone.export import ExportResult, export_review
from recamlabel.review.fiftyone.pull import PullResult, pull
from recamlabel.review.fiftyone.session import Link
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("cat", "<b onmouseover=alert(1)>dog</b>", '🙂 "q\'s"')
SHAPES = {
    "images/a": (33, 47),
    "images/b c": (101, 67),
    "é,ü/🙂": (64, 64),
    "d": (7, 3),
    "e": (213, 321),
    "f": (48, 80),
}


@dataclass
class Review:
    """A run, its masks by image id, and its data set."""

    run: RunFolder
    masks: dict[str, np.ndarray]
    link: Link

    def export(self, **more: Any) -> ExportResult:
        with self.run.lock():
            return export_review(self.run, self.link, **more)

    def pull(self) -> PullResult:
        with self.run.lock():
            return pull(self.run, self.link)

    def sample(self, image_id: str) -> Any:
        return self.link.load().one(self.link.fiftyone.ViewField("recamlabel_id") == image_id)

    def samples(self) -> Any:
        data = self.link.load()
        data.reload()
        return data


def run_to_review(folder: Path, seed: int = 0) -> tuple[RunFolder, dict[str, np.ndarray]]:
    """Masks, maps, quality scores and segmenter masks of six images, the last without a label."""
    masks = {name: scattered_mask(seed + place, shape) for place, (name, shape) in enumerate(SHAPES.items())}
    masks["f"] = np.zeros(SHAPES["f"], dtype=np.uint8)
    maps = {name: np.random.default_rng(3).random((len(CLASSES), 9, 11)) for name in masks}
    images = [
        TinyImage(name, CLASSES if name != "f" else (), maps[name] if name != "f" else maps[name][:0], maps[name], mask)
        for name, mask in masks.items()
    ]
    images[-1].recam = images[-1].cam
    run = make_run(folder, CLASSES, images)
    for place, name in enumerate(masks):
        pixels = np.random.default_rng(place).integers(90, 130, (*SHAPES[name], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "run-data" / f"{name}.png")
    with_present_images(run)
    order = [*reversed(masks)]
    scores = {name: {"score": round(0.1 + 0.1 * place, 2)} for place, name in enumerate(order)}
    (run.path / "quality.json").write_text(json.dumps({"order": order, "images": scores}))
    with ShardedWriter(run.path / "segmenter.h5", "key", {}) as writer:
        for name, mask in masks.items():
            writer.add(name, {name: (np.where(mask == 255, 0, mask).astype(np.uint8), {"agreement": [0.5, 0.75]})})
        writer.finish()
    run.finish("segmentation", "segmentation-key", 1.0, ["segmenter.h5"])
    run.finish("quality", "quality-key", 1.0, ["quality.json"])
    return run, masks
