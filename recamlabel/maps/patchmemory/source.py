"""The class maps of variant ``patchmemory`` (docs/method.md, 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.errors import ConfigError
from recamlabel.maps.base import MapRequest
from recamlabel.maps.cam import Cam
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import MapNet, class_maps, stored_size
from recamlabel.maps.patchmemory.memory import CANDIDATES, PatchMemory, Reservoir, normal_distances, remember
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import PEAK_EPS
from recamlabel.models.inputs import input_size, run_network

# The depths between the first and the last ones: PatchCore's, whose deepest know objects and whose first know edges.
DEPTHS = slice(-3, -1)
NEIGHBOURHOOD = 3  # p of PatchCore
# What this share of the normal patches does not reach is not normal.
NORMAL_SHARE = 0.95
# Normal patches, and labelled images, that are asked how far they are.
ASKED_PATCHES, ASKED_IMAGES = 4000, 60


@dataclass(frozen=True)
class Findings:
    """What is known of the normal images against the labelled ones; distances are in [0, 2].

    Attributes:
        images: Normal images.
        patches: Remembered.
        normal: Median distance of normal patches to the memory of the other normal images.
        level: The distance that 95 % of them do not reach.
        labelled: Median distance of the patches of labelled images.
    """

    images: int
    patches: int
    normal: float
    level: float
    labelled: float

    def facts(self) -> dict[str, Any]:
        """For the stage's record."""
        return {
            "normal_images": self.images,
            "patches": self.patches,
            "normal_distance": round(self.normal, 4),
            "normal_level": round(self.level, 4),
            "labelled_distance": round(self.labelled, 4),
        }

    def warnings(self) -> list[str]:
        """What a person should know, with figures.

        Example:
            >>> Findings(20, 2000, 0.12, 0.20, 0.13).warnings()
            []
            >>> Findings(20, 2000, 0.12, 0.20, 0.31).warnings()[0][:72]
            'normal images: most patches of the labelled images are farther from them'
        """
        lines = []
        if self.images == 1:
            lines.append(
                "normal images: there is 1, and no other says how far normal patches are from each other; "
                "ten or more are a good start"
            )
        if self.labelled > self.level:
            lines.append(
                f"normal images: most patches of the labelled images are farther from them (median distance "
                f"{self.labelled:.2f}) than 95 % of normal patches are from other normal images (below "
                f"{self.level:.2f}, median {self.normal:.2f}): another camera, light or place, or objects that fill "
                "the pictures? maps of maps.variant=patchmemory then mark what differs between the two; take normal "
                "images as the labelled ones were taken, or another maps.variant"
            )
        return lines


@torch.no_grad()
def patch_features(backbone: Backbone, images: Tensor) -> Tensor:
    """Mid-level features of every patch, averaged over its neighbours.

    Each depth is averaged over 3 x 3 positions (PatchCore, equation 2), brought to the grid of the finest and to unit
    length, so that no depth outweighs another; together they have unit length.

    Args:
        backbone: In eval mode.
        images: ``(B, 3, H, W)`` normalised.

    Returns:
        ``(B, D, h, w) float32``, of unit length over D; zeros where all features are.
    """
    last, pyramid = backbone.all_depths(images)
    parts = [part.float() for part in pyramid[DEPTHS] or [last]]
    size = (parts[0].shape[2], parts[0].shape[3])
    averaged = [F.avg_pool2d(part, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False) for part in parts]
    equal = [F.interpolate(part, size, mode="bilinear", align_corners=False) for part in averaged]
    return F.normalize(torch.cat([F.normalize(part, dim=1) for part in equal], dim=1), dim=1)


def excess(distance: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """``max(d - l, 0)``, *l* the level of normal patches; the least distance of an image that is all above or below.

    An image with a label has something in it, however near it is to the normal images; and of normal images of
    another camera all patches are far.

    Args:
        distance: ``(h, w)``, >= 0.
        level: What normal patches do not reach.

    Example:
        >>> excess(np.array([[1.0, 4.0]]), 2.0).tolist(), excess(np.array([[1.0, 4.0]]), 5.0).tolist()
        ([[0.0, 2.0]], [[0.0, 3.0]])
    """
    lower = level if distance.min() < level < distance.max() else distance.min()
    return np.maximum(distance - lower, 0)


def shared(anomaly: NDArray[np.float32], maps: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """``m_k = d a_k / sum_j a_j``, then ``m_k / max m_k``: a class has the share of the anomaly that its map has.

    Args:
        anomaly: *d*, ``(h, w)``, >= 0.
        maps: *a*, ``(C, h, w)`` in [0, 1]; of a single class it is the anomaly itself.

    Returns:
        ``(C, h, w) float16`` in [0, 1]; where no map is above 0, all classes have an equal share.

    Example:
        >>> shared(np.array([[2.0, 4.0]]), np.array([[[0.9, 0.1]], [[0.1, 0.9]]])).round(1).tolist()
        [[[1.0, 0.199951171875]], [[0.0999755859375, 1.0]]]
    """
    if not len(maps):
        return maps.astype(np.float16)
    own = maps.astype(np.float32)
    total = own.sum(axis=0)
    shares = np.where(total > 0, own / np.maximum(total, PEAK_EPS), np.float32(1 / len(own)))
    parts = anomaly * shares
    peaks = parts.max(axis=(1, 2), keepdims=True)
    result: NDArray[np.float16] = (parts / (peaks + PEAK_EPS)).astype(np.float16)
    return result


@dataclass(frozen=True)
class PatchMemoryMaps:
    """The :class:`recamlabel.maps.base.MapSource` of a memory.

    Attributes:
        net: The network whose features were remembered; its heads' plain CAM shares the anomaly among classes.
        memory: The patches.
        findings: What is known of them; its level is where the anomaly begins.
        config: Sizes and scales.
        amp: bf16 where the device is quick at it.
    """

    net: MapNet
    memory: PatchMemory
    findings: Findings
    config: MapsConfig
    amp: bool = False

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """See :class:`recamlabel.maps.base.MapSource`."""
        sizes = [stored_size(picture.shape[0], picture.shape[1], self.config) for picture in pixels]
        cams = self._cams(pixels, classes, sizes)
        some = [row for row, own in enumerate(classes) if own]
        found = self._anomalies([pixels[row] for row in some], [sizes[row] for row in some])
        anomalies = dict(zip(some, found, strict=True))
        none = np.zeros((1, 1), dtype=np.float32)
        return {
            name: [shared(anomalies.get(row, none), own) for row, own in enumerate(made)] for name, made in cams.items()
        }

    def _cams(
        self, pixels: list[np.ndarray], classes: list[list[int]], sizes: list[tuple[int, int]]
    ) -> dict[str, list[np.ndarray]]:
        """Plain CAM of the images with several classes; ones for those with one, which shares with nobody."""
        several = [row for row, own in enumerate(classes) if len(own) > 1]
        made = {
            name: [np.ones((len(own), *size), dtype=np.float16) for own, size in zip(classes, sizes, strict=True)]
            for name in self.net.heads
        }
        if several:
            chosen = [pixels[row] for row in several], [classes[row] for row in several]
            for name, maps in class_maps(*chosen, self.net, self.config, self.amp).items():
                for row, own in zip(several, maps, strict=True):
                    made[name][row] = own
        return made

    @torch.no_grad()
    def _anomalies(self, pixels: list[np.ndarray], sizes: list[tuple[int, int]]) -> list[NDArray[np.float32]]:
        """``(h, w)`` of every image at the stored size."""
        if not pixels:
            return []
        features = looked(self.net, pixels, self.config, self.amp)
        far = self.memory.distances(features.permute(0, 2, 3, 1).flatten(0, 2))
        grids = far.reshape(len(pixels), 1, *features.shape[2:])
        return [
            excess(
                F.interpolate(grid[None], size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy(),
                self.findings.level,
            )
            for grid, size in zip(grids, sizes, strict=True)
        ]


def looked(net: MapNet, pixels: list[np.ndarray], config: MapsConfig, amp: bool) -> Tensor:
    """The patch features ``(B, D, h, w)`` of B images of one input size, at ``maps.memory_scale``."""
    base = input_size(pixels[0].shape, config.max_side, net.device)
    height, width = (max(1, round(length * config.memory_scale)) for length in base)
    ask = partial(patch_features, net.backbone)
    return run_network(ask, pixels, (height, width), net.normalisation, net.device, amp)


def patchmemory(request: MapRequest) -> PatchMemoryMaps:
    """A memory of the request's normal images.

    Raises:
        ConfigError: It has none.
    """
    config = request.config
    net = MapNet(request.backbone, request.heads, Cam())
    kept = Reservoir(CANDIDATES * config.memory_patches, torch.Generator().manual_seed(request.seed))
    count = 0
    for count, rows in enumerate(_rows(net, request.normal(), request), start=1):
        kept.add(rows, count)
    if not count:
        raise ConfigError("maps.variant=patchmemory: there is no normal image among the training images to remember")
    memory = remember(kept, config.memory_patches)
    normal = normal_distances(memory, kept, ASKED_PATCHES).cpu().numpy()
    pictures = (picture for picture, _ in islice(request.samples(), ASKED_IMAGES))
    labelled = [memory.distances(rows).median().item() for rows in _rows(net, pictures, request)]
    median, level = np.quantile(normal, [0.5, NORMAL_SHARE]).tolist() if len(normal) else (0.0, 0.0)
    typical = float(np.median(labelled)) if labelled else 0.0
    findings = Findings(count, len(memory.patches), median, level, typical)
    return PatchMemoryMaps(net, memory, findings, config, request.amp)


def _rows(net: MapNet, pictures: Iterable[np.ndarray], request: MapRequest) -> Iterable[Tensor]:
    """``(h * w, D)`` patch features of each picture."""
    for picture in pictures:
        yield looked(net, [picture], request.config, request.amp)[0].flatten(1).T
