"""Maps of a run spread along the similarity of patches, against the maps as they are, at the best level with masks.

    python benchmarks/patch_affinity.py RUN FOLDER [--images N]

RUN has its maps (and the probe's, where it has one); FOLDER is its data set with ``masks/`` as
`benchmarks/datasets.py` takes it. Features: those of the pretrained network and of the run's classifier. Prints mIoU
in % and the level, for the exponents of the cosine and shares of the way given in the rows.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from recamlabel.config import config_from_tree
from recamlabel.core.arrays import resize_maps
from recamlabel.data.batches import Normalisation
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.evaluation.scoring import Pairs, stored
from recamlabel.evaluation.seeds import SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import input_size, run_network
from recamlabel.models.networks import ClassifierNet
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights
from recamlabel.refine.patches import spread_maps
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.run_folder import RunFolder

ROWS = [(net, beta, 1.0) for net in ("pretrained", "classifier") for beta in (2.0, 4.0, 8.0)]
ROWS += [(net, 4.0, 0.5) for net in ("pretrained", "classifier")]
# Scored at most so many pixels of an image.
PIXELS = 400_000
CPU = torch.device("cpu")


def networks(run: RunFolder, classes: int) -> dict[str, Backbone]:
    """The pretrained network and the run's classifier, in eval mode."""
    config = config_from_tree(run.state.config).backbone
    plain = Backbone(config.name, config.output_stride)
    load_backbone_weights(plain, config.weights)
    net = ClassifierNet(Backbone(config.name, config.output_stride), classes)
    load_strict(net, read_weights(run.path / "weights/classifier.safetensors"), origin="classifier")
    return {"pretrained": plain.eval(), "classifier": net.backbone.eval()}


@torch.inference_mode()
def main() -> None:
    """Print one row for each file of maps and each setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50)
    arguments = parser.parse_args()
    run = RunFolder.open(arguments.run)
    catalog, names = load_catalog(run.path / CATALOG_FILE), arguments.folder / "classes.txt"
    table, images = catalog.dataset.classes, {image.id: image for image in catalog.images if image.present}
    truth_folder = TruthFolder(arguments.folder / "masks", table, names if names.is_file() else None)
    truths = dict(Pairs(truth_folder, truth_folder.match(images), catalog.shapes, "step"))
    chosen = random.Random(0).sample(sorted(truths), min(arguments.images, len(truths)))
    nets = networks(run, len(table))
    files = {name: run.path / f"work/{name}.h5" for name in ("maps", "fused")}
    opened = {name: open_store(path) for name, path in files.items() if path.is_file()}
    keys = [(name, row) for name in opened for row in [None, *ROWS]]
    sweeps = {key: SeedSweep(len(table) + 1, table.ignore_id) for key in keys}
    for name in chosen:
        pixels, truth = read_image(images[name].path), truths[name]
        step = int(np.ceil(np.sqrt(max(1.0, truth.size / PIXELS))))
        size = input_size(pixels.shape, 640, CPU)
        features = {
            kind: run_network(net, [pixels], size, Normalisation(net.mean, net.std), CPU, False)[0]
            for kind, net in nets.items()
        }
        for file, row in keys:
            item = stored(opened[file], f"recam/{name}")
            maps = torch.from_numpy(item[()].astype(np.float32))
            if row is not None:
                maps = spread_maps(maps, features[row[0]].float(), *row[1:])
            sized = np.ascontiguousarray(resize_maps(maps.numpy(), *truth.shape)[:, ::step, ::step])
            sweeps[file, row].update(truth[::step, ::step], sized, class_ids(item))
    print("| maps | features | beta | share | mIoU | level |\n|---|---|---:|---:|---:|---:|")
    for (file, row), sweep in sweeps.items():
        best = sweep.best()
        cells = ("as they are", "", "") if row is None else (row[0], f"{row[1]:g}", f"{row[2]:g}")
        print(f"| {file} | {' | '.join(cells)} | {100 * best.counts.scores().miou:.1f} | {best.threshold:.2f} |")


if __name__ == "__main__":
    main()
