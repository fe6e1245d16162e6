"""Training on features that were computed before, where the whole backbone is frozen and its crops are always the same.

What a frozen network says of a crop does not change: said once and stored (stage ``crops``), the trainings of the heads
take seconds. Features of images for which there was no room are computed at each step, so a small cache costs time
and changes nothing but rounding.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recamlabel.core.devices import looking
from recamlabel.data.batches import Batch, LoadedBatch, TrainingBatches
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import ClassifierNet
from recamlabel.storage.hdf5 import leaf_paths, open_store

CROPS_GROUP = "crops"


class GivenFeatures(nn.Module):
    """In a backbone's place, where a batch's images are its features already.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """The features as they are."""
        return features


def on_features(net: ClassifierNet) -> ClassifierNet:
    """A classifier on features, with the head of ``net``: what one learns the other has learnt.

    Example:
        >>> net = ClassifierNet(Backbone("resnet18"), 3)
        >>> on_features(net)(torch.zeros(2, 512, 7, 7)).shape
        torch.Size([2, 3])
    """
    given = copy(net)
    given._modules = {**net._modules, "backbone": GivenFeatures(net.backbone.channels)}
    return given


@torch.no_grad()
def crop_features(backbone: Backbone, images: Tensor, amp: bool) -> Tensor:
    """Last features of normalised crops ``(B, 3, c, c)`` as they are stored: ``(B, D, h, w) float16``."""
    with looking(images.device, amp):
        features: Tensor = backbone(images)
    return features.half()


@dataclass(frozen=True)
class LoadedFeatures:
    """A batch as it is loaded: stored features, and crops of the images without.

    Attributes:
        batch: All but its ``images``, which are the stored features ``(S, D, h, w) float16``.
        places: ``(S,) int64``: their slots in the batch.
        others: The crops of the other slots, in order; None where there are none.
        backbone: Looks at those.
        amp: Whether in bf16.
    """

    batch: Batch
    places: Tensor
    others: LoadedBatch | None
    backbone: Backbone
    amp: bool

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, its images the features ``(B, D, h, w) float32``."""
        batch = self.batch.map(lambda tensor: tensor.to(device, non_blocking=True))
        features, places = batch.images.float(), self.places.to(device, non_blocking=True)
        if self.others is not None:
            made = crop_features(self.backbone, self.others.to(device).images, self.amp).float()
            rest = torch.ones(len(batch.labels), dtype=torch.bool, device=device)
            rest[places] = False
            every = made.new_empty((len(rest), *made.shape[1:]))
            every[places], every[rest] = features if len(places) else every[places], made
            features = every
        return replace(batch, images=features)

    def pin_memory(self) -> LoadedFeatures:
        """As :meth:`recamlabel.data.batches.LoadedBatch.pin_memory`."""
        others = self.others.pin_memory() if self.others else None
        return LoadedFeatures(
            self.batch.map(Tensor.pin_memory), self.places.pin_memory(), others, self.backbone, self.amp
        )


class CachedBatches(TrainingBatches):
    """The same batches as ``batches``, which has ``augment.views``, with stored features in the place of pixels.

    Args:
        batches: Without seeds and masks.
        path: File of stage ``crops``.
        backbone: Frozen, in eval mode on the training's device.
        amp: Whether it looks at crops in bf16, as it did for the file.
    """

    def __init__(self, batches: TrainingBatches, path: Path, backbone: Backbone, amp: bool) -> None:
        self.__dict__.update(batches.__dict__)
        self.path, self.backbone, self.amp = path, backbone, amp
        with open_store(path) as file:
            self.stored = set(leaf_paths(file[CROPS_GROUP])) if CROPS_GROUP in file else set()

    def __getitem__(self, step: int) -> LoadedFeatures:  # type: ignore[override]  # loaded alike, by .to(device)
        visits = self.visits(step)
        there = [self.images[visit.number].id in self.stored for visit in visits]
        places = torch.tensor([slot for slot, known in enumerate(there) if known], dtype=torch.int64)
        features = np.zeros((0, 0), np.float16)
        if len(places):
            # Opened anew each time, so that any worker process may.
            with open_store(self.path) as file:
                group = file[CROPS_GROUP]
                chosen = [visit for visit, known in zip(visits, there, strict=True) if known]
                features = np.stack([group[self.images[visit.number].id][visit.view] for visit in chosen])
        missing = [visit for visit, known in zip(visits, there, strict=True) if not known]
        others = self.loaded(step, missing) if missing else None
        batch = self.batch(step, visits, torch.from_numpy(features))
        return LoadedFeatures(batch, places, others, self.backbone, self.amp)
