"""YOLO-seg labels as Ultralytics reads and draws them; a program of its own.

Importing Ultralytics replaces functions of Pillow, OpenCV and torch, which the rest of a process
should not notice. It is never a dependency (AGPL): this is run only where it is installed.

    python -m recamlabel.export.formats.ultralytics_worker job.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Shape = tuple[int, int]


def read_labels(files: Sequence[tuple[Path, Shape]], classes: int) -> Iterator[NDArray[np.uint8]]:
    """Masks ``(H, W) uint8`` of label files, in order: 0 where no polygon is, else the class's index + 1.

    Args:
        files: Label files with the shape of their images.
        classes: Number of classes.

    Raises:
        LookupError: Ultralytics refuses a file, or does not run; says what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        outs = [str(Path(folder) / f"{number}.png") for number in range(len(files))]
        rows = [[str(path), shape, out] for (path, shape), out in zip(files, outs, strict=True)]
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"classes": classes, "rows": rows}), encoding="utf-8")
        environment = {**os.environ, "YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        command = [sys.executable, "-m", __name__, str(job)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LookupError(f"Ultralytics: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        for out in outs:
            with Image.open(out) as image:
                yield np.array(image)


def main(job: Path) -> None:
    """Read the label files of a job and write a mask for each."""
    from ultralytics.data import utils

    tree = json.loads(job.read_text(encoding="utf-8"))
    # A stand-in of the image's shape: the loader may rewrite a JPEG, which would be the user's.
    stand_in = job.with_name("stand-in.png")
    for path, (height, width), out in tree["rows"]:
        Image.new("L", (max(width, 10), max(height, 10))).save(stand_in)
        row = utils.verify_image_label((str(stand_in), path, "", False, tree["classes"], 0, 0, False))
        if row[0] is None:
            sys.exit(f"{path}: {row[-1]}")
        Image.fromarray(_drawn(utils, row[1], row[3], (height, width))).save(out)


def _drawn(utils: Any, boxes: Any, segments: Any, shape: Shape) -> NDArray[np.uint8]:
    """Polygons by Ultralytics' own function, large ones first."""
    height, width = shape
    layers = []
    for box, segment in zip(boxes, segments, strict=True):
        layer = utils.polygon2mask(shape, [(segment * (width, height)).reshape(-1)])
        layers.append((int(layer.sum()), int(box[0]) + 1, layer > 0))
    mask = np.zeros(shape, dtype=np.uint8)
    for _, class_id, layer in sorted(layers, key=lambda entry: -entry[0]):
        mask[layer] = class_id
    return mask


if __name__ == "__main__":
    main(Path(sys.argv[1]))
