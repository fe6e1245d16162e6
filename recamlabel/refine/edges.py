"""Boundary probabilities of all images into ``edges.h5``, and the random walk on them (docs/method.md, 4)."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from recamlabel.core.devices import looking
from recamlabel.data.batches import Normalisation
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import stored_size
from recamlabel.models.inputs import Pixels, input_size
from recamlabel.models.networks import AffinityFeatures
from recamlabel.refine.config import AffinityConfig
from recamlabel.refine.random_walk import random_walk

SCALE_EPS = 1e-5


@torch.inference_mode()
def boundary_maps(images: list[np.ndarray], net: AffinityFeatures, config: MapsConfig, amp: bool) -> list[np.ndarray]:
    """Boundary probability on the grid of the stored maps; logits of image and mirror image averaged.

    Args:
        images: B images ``(H, W, 3) uint8`` of one :func:`recamlabel.models.inputs.input_size`.
        net: Backbone and trained affinity net, in eval mode.
        config: Sizes of the stored maps.
        amp: bf16 where the device is quick at it.

    Returns:
        B arrays ``(h, w) float16`` in [0, 1].
    """
    device = next(net.backbone.parameters()).device
    pixels = Pixels(images, Normalisation(net.backbone.mean, net.backbone.std), device)
    inputs = pixels.at(*input_size(images[0].shape, config.max_side, device))
    inputs = torch.cat([inputs, inputs.flip(-1)]).contiguous(memory_format=torch.channels_last)
    with looking(device, amp):
        logits = net.head.edge_logits(net.features(inputs)).float()
    logits = (logits[: len(images)] + logits[len(images) :].flip(-1)) / 2
    edges: list[np.ndarray] = []
    for image, own in zip(images, logits, strict=True):
        target = stored_size(image.shape[0], image.shape[1], config)
        if own.shape[1:] != target:
            own = F.interpolate(own[None], target, mode="bilinear", align_corners=False)[0]
        edges.append(own[0].sigmoid().cpu().numpy().astype(np.float16))
    return edges


@dataclass(frozen=True)
class EdgeWalk:
    """The random walk of one image's maps along its stored boundaries.

    Args:
        edges: The open ``edges.h5``.
        config: Radius, beta and steps of the walk.
        device: Where it runs.
    """

    edges: h5py.File
    config: AffinityConfig
    device: torch.device

    def __call__(self, image_id: str, maps: NDArray[np.float16]) -> NDArray[np.float16]:
        """Maps ``(C, h, w)`` in [0, 1] walked and divided by their common maximum; C may be 0.

        The walk averages over whole regions, which is harmless only where the background's maps
        are near 0. Maps that are not (product maps) lose ``floor`` before and regain it after, so
        that a threshold keeps its meaning above the floor.
        """
        if maps.shape[0] == 0:
            return maps
        start = torch.from_numpy(maps.astype(np.float32)).to(self.device)
        floor = self.config.floor
        start = ((start - floor) / (1 - floor)).clamp(min=0)
        edge = torch.from_numpy(self.edges[image_id][()].astype(np.float32)).to(self.device)
        config = self.config
        walked = random_walk(start, edge, radius=config.walk_radius, beta=config.beta, log2_steps=config.log2_steps)
        # The walk's polynomial may end a rounding error below 0.
        share = (walked / (walked.max() + SCALE_EPS)).clamp(0, 1)
        scores: NDArray[np.float16] = (floor + (1 - floor) * share).cpu().numpy().astype(np.float16)
        return scores
