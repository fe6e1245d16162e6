"""LPCAM: Chen and Sun, "Extracting Class Activation Maps from Non-Discriminative Features as well", CVPR 2023.

Local features of a class's training images are clustered. Clusters that the classifier is sure of are
the class's prototypes, clusters it is sure are not the class are its context; a map is the mean cosine
similarity to the first less the mean similarity to the second (equations 4 to 6). The prototypes replace
the classifier's weight, which knows the discriminative parts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor

from recamlabel.core.devices import looking
from recamlabel.maps.base import MapRequest
from recamlabel.maps.multiscale import MapNet, NetworkMaps, NetworkVariant
from recamlabel.models.cam import class_activation
from recamlabel.models.inputs import Pixels, working_size

CLUSTERS = 12  # K of the paper on VOC
SURE = 0.9  # mu_f of the paper
UNSURE = 0.5  # mu_b of the paper
MAX_FEATURES = 6000  # of a class; more only costs time


@dataclass(frozen=True)
class Prototypes:
    """Unit vectors of one class: ``own (P, D)`` and ``context (Q, D)``; P >= 1, Q may be 0."""

    own: Tensor
    context: Tensor


class LpCam(NetworkVariant):
    """``relu(mean cos(own, f) - mean cos(context, f))``.

    Args:
        prototypes: By name of the maps and class index. A class without any falls back to plain CAM.
    """

    def __init__(self, prototypes: dict[tuple[str, int], Prototypes]) -> None:
        self.prototypes = prototypes

    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """See :class:`NetworkVariant`."""
        unit = F.normalize(features, dim=1)
        maps = []
        for class_index in classes:
            prototypes = self.prototypes.get((name, class_index))
            if prototypes is None:
                maps.append(class_activation(features, weight[class_index : class_index + 1]))
                continue
            # The mean of similarities is the similarity to the mean.
            direction = prototypes.own.mean(dim=0)
            if len(prototypes.context):
                direction = direction - prototypes.context.mean(dim=0)
            maps.append(class_activation(unit, direction[None]))
        return torch.cat(maps, dim=1)


def class_prototypes(vectors: Tensor, weight: Tensor, number: int, seed: int = 0) -> Prototypes | None:
    """Cluster the local features of one class's images and sort the clusters.

    Args:
        vectors: ``(N, D)`` local features of images with the class.
        weight: ``(K, D)`` classifier.
        number: The class, 0..K-1.
        seed: Of the clustering.

    Returns:
        None where there is nothing to cluster. A cluster's confidence is the softmax over all
        classes; with a single class, the sigmoid of its logit.
    """
    count = min(CLUSTERS, len(vectors))
    if count == 0:
        return None
    data = vectors.cpu().numpy().astype(np.float64)
    centres, _ = kmeans2(data, count, minit="++", rng=np.random.default_rng(seed))
    centre = torch.from_numpy(centres).to(vectors)
    logits = centre @ weight.T
    sure = (logits.softmax(dim=1) if len(weight) > 1 else logits.sigmoid())[:, number]
    confident = sure > SURE
    if not bool(confident.any()):
        confident = sure >= sure.max()
    unit = F.normalize(centre, dim=1)
    return Prototypes(unit[confident], unit[(sure < UNSURE) & ~confident])


def lpcam(request: MapRequest) -> NetworkMaps:
    """LPCAM with prototypes from the request's training images."""
    net = MapNet(request.backbone, request.heads, LpCam(_prototypes(request)))
    return NetworkMaps(net, request.config, request.amp)


@torch.no_grad()
def _prototypes(request: MapRequest) -> dict[tuple[str, int], Prototypes]:
    """Prototypes of every class that any sample has."""
    gathered: dict[int, list[Tensor]] = {}
    rng = torch.Generator().manual_seed(request.seed)
    for pixels, classes in request.samples():
        vectors = _local_features(request, pixels)
        for class_index in classes:
            gathered.setdefault(class_index, []).append(vectors)
    prototypes = {}
    for class_index, parts in gathered.items():
        vectors = torch.cat(parts)
        chosen = torch.randperm(len(vectors), generator=rng)[:MAX_FEATURES]
        for name, weight in request.heads.items():
            made = class_prototypes(vectors[chosen.to(vectors.device)], weight, class_index, request.seed)
            if made is not None:
                prototypes[name, class_index] = made
    return prototypes


def _local_features(request: MapRequest, pixels: np.ndarray) -> Tensor:
    """``(h * w, D)`` of one image at scale 1."""
    net = MapNet(request.backbone, request.heads, LpCam({}))
    height, width = working_size(pixels.shape[0], pixels.shape[1], request.config.max_side)
    inputs = Pixels([pixels], net.normalisation, net.device).at(height, width)
    with looking(net.device, request.amp):
        features = request.backbone(inputs.contiguous(memory_format=torch.channels_last)).float()
    vectors: Tensor = features[0].flatten(1).T
    return vectors
