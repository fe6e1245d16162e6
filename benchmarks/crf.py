"""The dense CRF in PyTorch against the package pydensecrf2: labels, marginals, CPU seconds, one image at a time.

    python benchmarks/crf.py [--images 18] [--levels 8] [--device cpu] [FOLDER …]

Each folder holds ``images/``; the maps are drawn (smooth noise, so that every level has labels of its own), no mask is
read. Both backends run in turn in one process on one thread. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from recamlabel.refine.build import shrink
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import CrfInference, labels_to_unary
from recamlabel.storage.decode import read_image

SETS = [Path(__file__).parents[2] / "shared/datasets" / name for name in ("msrc", "neu", "coffee")]
BACKENDS = ("pydensecrf", "torch")


def drawn_labels(shape: tuple[int, int], classes: int, levels: int, random: np.random.Generator) -> NDArray[np.int64]:
    """``(levels, H, W)``: argmax of a rising background level and smooth random maps."""
    sigma = max(shape) / 16
    maps = np.stack([gaussian_filter(random.standard_normal(shape), sigma) for _ in range(classes)])
    maps = (maps - maps.min()) / (np.ptp(maps) + 1e-9)
    steps = np.linspace(0.1, 0.8, levels)
    return np.stack([np.where(maps.max(0) > step, maps.argmax(0) + 1, 0) for step in steps])


def timed(
    image: NDArray[np.uint8], labels: NDArray[np.int64], config: CrfConfig, device: str
) -> tuple[NDArray[np.int64], float]:
    """Labels after the CRF, and the CPU seconds (on a GPU: wall seconds) that they took."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    result = CrfInference(image, int(labels.max()) + 1, config).run_labels(labels)
    return result, clock() - start


def compare(folder: Path, images: int, levels: int, classes: int, device: str) -> dict[str, float]:
    """Agreement over the first images of a folder, and median seconds an image."""
    random = np.random.default_rng(0)
    paths = sorted((folder / "images").rglob("*"))
    step = max(1, len(paths) // images)
    equal, worst, seconds = [], 0.0, {name: [] for name in BACKENDS}
    for path in [path for path in paths if path.is_file()][::step][:images]:
        image = shrink(read_image(path), 640)
        labels = drawn_labels(image.shape[:2], classes, levels, random)
        results, marginals = {}, {}
        for name in BACKENDS:
            config = CrfConfig.model_validate({"backend": name})
            with torch.device(device):
                results[name], taken = timed(image, labels, config, device)
                unary = labels_to_unary(labels[levels // 2], classes + 1, config.gt_prob)
                marginals[name] = CrfInference(image, classes + 1, config).run(unary)
            seconds[name].append(taken)
        equal.append((results["torch"] == results["pydensecrf"]).mean())
        worst = max(worst, float(np.abs(marginals["torch"] - marginals["pydensecrf"]).max()))
    return {
        "images": len(equal),
        "equal": 100 * float(np.mean(equal)),
        "least": 100 * float(np.min(equal)),
        "worst": worst,
        **{name: float(np.median(values)) for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=SETS)
    parser.add_argument("--images", type=int, default=18, help="of each folder")
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 2], help="present in an image")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| set | labels L | images | equal labels % | worst image % | largest difference of a marginal "
        "| pydensecrf s | torch s | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in given.folders:
        for classes in given.classes:
            found = compare(folder, given.images, given.levels, classes, given.device)
            print(
                f"| {folder.name} | {classes + 1} | {found['images']} | {found['equal']:.4f} | {found['least']:.4f} | "
                f"{found['worst']:.1e} | {found['pydensecrf']:.3f} | {found['torch']:.3f} | "
                f"{found['torch'] / found['pydensecrf']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
