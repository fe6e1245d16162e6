"""Stage ``crops``: what the frozen network says of the training crops, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from recamlabel.config import Config
from recamlabel.core.devices import to_device
from recamlabel.core.progress import say, track
from recamlabel.data.batches import Normalisation, TrainingBatches
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import ClassifierNet
from recamlabel.stages.cost import Cost, megapixels
from recamlabel.stages.features import pretrained
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.places import CROPS_FILE
from recamlabel.training.cached import CROPS_GROUP, CachedBatches, crop_features, on_features

GB = 1_000_000_000
# Seconds of a training step on features that are there.
CACHED_STEP = 0.02


def is_cached(config: Config) -> bool:
    """Whether the heads are trained on stored features.

    Example:
        >>> from recamlabel.config import load_config
        >>> lines = ["backbone.frozen_stages=-1", "augment.views=4"]
        >>> is_cached(load_config(assignments=lines)), is_cached(load_config(assignments=lines[:1]))
        (True, False)
    """
    frozen = config.backbone.frozen_stages < 0 and config.recam.backbone_lr_factor == 0
    return frozen and config.augment.views > 0 and config.maps.variant == "cam"


def run_crops(view: View) -> Mapping[str, Any]:
    """Write the features of as many images' crops as ``runtime.cache_gb`` has room for, in the data set's order."""
    config = view.config
    backbone = pretrained(view)
    batches = all_crops(view, backbone)
    look = partial(crop_features, backbone, amp=config.runtime.amp)
    room = config.runtime.cache_gb * GB
    with (
        ShardedWriter(view.run.path / CROPS_FILE, view.key, view.provenance()) as writer,
        track("crops", len(batches.images)) as advance,
    ):
        mine = {image.id for image in writer.todo(batches.images)}
        for number, image in enumerate(batches.images):
            if image.id in mine:
                loaded = batches.loaded(0, [batches.fixed_crop(number, view) for view in range(batches.augment.views)])
                features = look(loaded.to(view.device).images).cpu().numpy()
                if (number + 1) * features.nbytes > room:
                    break
                writer.add(image.id, {f"{CROPS_GROUP}/{image.id}": (features, {})})
            advance()
        writer.finish()
    # Of several processes the first knows what all have stored.
    kept = len(writer.done)
    if kept < len(batches.images):
        say(
            f"crops: runtime.cache_gb={config.runtime.cache_gb:g} has room for {kept} of {len(batches.images)} images; "
            "the features of the others are computed at each step, which is slower and changes rounding alone"
        )
    return {"images": kept}


def all_crops(view: View, backbone: Backbone) -> TrainingBatches:
    """The training images with their crops; the seed is that of the trainings but for its last bit."""
    config, catalog = view.config, view.catalog
    images = catalog.training_images(config.data.train_splits)
    normalisation = Normalisation(backbone.mean, backbone.std)
    labels = catalog.dataset.labels(images)
    return TrainingBatches(images, labels, 1, 1, config.augment, normalisation, seed=2 * config.seed)


def cached(view: View, net: ClassifierNet, batches: TrainingBatches) -> tuple[ClassifierNet, TrainingBatches]:
    """The net on stored features and batches of them, where stage ``crops`` has them; else both as they are.

    Args:
        view: Of the training.
        net: With the frozen backbone; its head is that of the one returned.
        batches: As they would be without.
    """
    if "crops" not in view.planned:
        return net, batches
    to_device(net, view.device)
    net.backbone.eval()
    return on_features(net), CachedBatches(batches, view.run.path / CROPS_FILE, net.backbone, view.config.runtime.amp)


def _cost(scope: Scope) -> Cost:
    augment, images = scope.config.augment, len(scope.catalog.images)
    return Cost(forward=images * augment.views * augment.crop_size**2 / 1e6, read=megapixels(scope))


STAGE = Stage(
    "crops",
    1,
    run_crops,
    "what the frozen network says of the training crops",
    reads=("backbone.name", "backbone.output_stride", "backbone.weights", "augment", "seed", "data.train_splits"),
    makes=(CROPS_FILE,),
    wanted=lambda scope: is_cached(scope.config),
    facts=lambda scope: {"training": scope.training, "weights": scope.weights},
    cache=True,
    shared=True,
    cost=_cost,
)
