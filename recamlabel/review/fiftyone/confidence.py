"""How sure the run's classifier is of each class of each image: one pass, kept in ``RUN/review/confidence.h5``."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.config import Config
from recamlabel.core.devices import autocast, pick_device, to_device
from recamlabel.core.progress import track
from recamlabel.data.batches import Normalisation
from recamlabel.data.catalog import Catalog
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.masks.reviewed import REVIEW_FOLDER
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import scaled_inputs, working_size
from recamlabel.models.networks import ClassifierNet
from recamlabel.models.weights import load_strict, read_weights
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.run_folder import RunFolder, stage_key

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
CONFIDENCE_FILE = f"{REVIEW_FOLDER}/confidence.h5"
BATCH_PIXELS = {"cpu": 300_000, "cuda": 4_000_000}


def classifier_key(run: RunFolder) -> str:
    """Key of the classifier whose confidences are shown; empty where the run has none."""
    if "classifier" not in run.state.stages or not (run.path / CLASSIFIER_WEIGHTS).is_file():
        return ""
    return run.key_of("classifier")


def make_confidences(run: RunFolder, catalog: Catalog, config: Config, device: str = "auto") -> bool:
    """Make ``review/confidence.h5`` unless it is there for this classifier and these images.

    One pass at scale 1 (a tenth of what the maps cost). Continues after an interruption.

    Args:
        run: The run.
        catalog: Its images.
        config: Its settings.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns:
        False where the run has no classifier: nothing is made then.

    Raises:
        WeightsError: Its weights are damaged.
        DatasetError: An image cannot be read.
    """
    if not classifier_key(run):
        return False
    settings = {"max_side": config.maps.max_side, "backbone": config.backbone.model_dump(mode="json")}
    hashes = {image.id: catalog.hashes[image.id] for image in catalog.images}
    key = stage_key("confidence", 1, settings, {**hashes, "": classifier_key(run)})
    path = run.path / CONFIDENCE_FILE
    if path.exists():
        with open_store(path) as file:
            if file.attrs.get("stage_key") == key:
                return True
    path.parent.mkdir(exist_ok=True)
    names = list(catalog.dataset.classes.names)
    with ShardedWriter(path, key, {"stage_key": key, "class_names": names}) as writer:
        _fill(writer, run, catalog, config, pick_device(device))
        writer.finish()
    return True


def _fill(writer: ShardedWriter, run: RunFolder, catalog: Catalog, config: Config, device: torch.device) -> None:
    todo = [image for image in catalog.images if image.id not in writer.done]
    net = _classifier(run, catalog, config, device)
    groups = batches_by_shape(catalog, todo, BATCH_PIXELS[device.type])
    with track("classifier confidence", len(catalog.images), start=len(writer.done)) as advance:
        for group, pixels in read_ahead(groups, 2):
            for image, row in zip(group, _probabilities(net, pixels, config, device), strict=True):
                writer.add(image.id, {image.id: (row, {})})
            advance(len(group))


def _classifier(run: RunFolder, catalog: Catalog, config: Config, device: torch.device) -> ClassifierNet:
    settings = config.backbone
    backbone = Backbone(settings.name, settings.output_stride, settings.frozen_stages)
    net = ClassifierNet(backbone, len(catalog.dataset.classes))
    path = run.path / CLASSIFIER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    to_device(net, device).eval()
    return net


@torch.no_grad()
def _probabilities(
    net: ClassifierNet, pixels: list[np.ndarray], config: Config, device: torch.device
) -> NDArray[np.float32]:
    """``(B, K) float32`` of images of one size."""
    height, width = pixels[0].shape[:2]
    size = working_size(height, width, config.maps.max_side)
    normalisation = Normalisation(net.backbone.mean, net.backbone.std)
    inputs = scaled_inputs(pixels, *size, normalisation).to(device)
    with autocast(device, config.runtime.amp):
        logits = net(inputs.contiguous(memory_format=torch.channels_last))
    found: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
    return found
