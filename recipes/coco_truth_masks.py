"""True masks of COCO for `recamlabel evaluate`: instances JSON to index PNG, ids 1..80 in category order.

    python recipes/coco_truth_masks.py annotations/instances_val2014.json truth/val2014

COCO has no official semantic masks of its 80 classes. Here annotations are painted in the order
of the file, so that a later one covers an earlier one; crowds are painted, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO


def write_masks(annotations: Path, out: Path) -> int:
    """One PNG per image, named as the image is. Returns how many."""
    coco = COCO(str(annotations))
    ids = {category: number for number, category in enumerate(sorted(coco.getCatIds()), start=1)}
    out.mkdir(parents=True, exist_ok=True)
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            mask[coco.annToMask(annotation) > 0] = ids[annotation["category_id"]]
        Image.fromarray(mask).save(out / f"{Path(image['file_name']).stem}.png")
    return len(coco.getImgIds())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(f"{write_masks(options.annotations, options.out)} masks in {options.out}")
