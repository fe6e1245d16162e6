"""Draw a small data set, turn its labels into masks, read them back as numpy arrays.

    python examples/python_api.py [FOLDER]

A short run on few scenes: the point is the API, not the masks.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import recamlabel
from recamlabel.demo.scenes import SceneSettings, make_scenes


def main(folder: Path) -> None:
    """Fit, then print a line an image."""
    scenes = make_scenes(folder, SceneSettings(images=12, classes=3, side=144))
    run = recamlabel.fit(
        scenes.labels,
        folder / "run",
        settings={
            "augment.crop_size": 128,
            "augment.resize_min": 128,
            "augment.resize_max": 160,
            "classifier.min_steps": 25,
            "classifier.max_steps": 25,
            "classifier.batch_size": 4,
            "classifier.lr": 0.005,
            "recam.min_steps": 15,
            "recam.max_steps": 15,
            "recam.batch_size": 4,
            "maps.scales": [1.0],
        },
    )
    print(run)
    for item in run:
        maps = item.maps("recam")  # {class name: (h, w) float16}
        share = np.mean(item.mask > 0)  # (H, W) uint8, 0 is background
        print(item.id, item.shape, list(item.labels), sorted(maps), f"{share:.0%} foreground")


if __name__ == "__main__":  # the dense CRF runs in worker processes
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
