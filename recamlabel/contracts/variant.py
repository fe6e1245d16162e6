"""The contract of map variants (``recamlabel.variants``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recamlabel.adapters.base import LabelledImage
from recamlabel.contracts.base import picture, require
from recamlabel.core.classes import ClassTable
from recamlabel.core.plugins import FlawError, check_scores
from recamlabel.maps.base import Factory, MapRequest
from recamlabel.maps.config import MapsConfig
from recamlabel.models.backbones import Backbone

_LABELS = [[0, 2], [], [1]]
_NAMES = ("a", "b", "c")


def check_variant(factory: Factory, config: MapsConfig | None = None) -> None:
    """Make maps of drawn images with a small random network, and check what every variant promises.

    Args:
        factory: The thing that the entry point names.
        config: Settings; None: two scales and flips.

    Raises:
        ContractError: A promise is not kept: for each head and image one map a label, in 0..1, without NaN, in the
            labels' order; an image without labels has none; the same twice; the network is left as it is.

    Example:
        >>> from recamlabel.maps import VARIANTS
        >>> check_variant(VARIANTS["cam"])
    """
    torch.manual_seed(0)
    backbone = Backbone("resnet10t").eval()
    heads = {name: torch.randn(len(_NAMES), backbone.channels) for name in ("cam", "recam")}
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    pixels = [picture(seed) for seed in range(len(_LABELS))]
    images = [
        LabelledImage(f"d/{number}", Path(f"{number}.png"), frozenset(_NAMES[index] for index in own), frozenset())
        for number, own in enumerate(_LABELS)
    ]
    samples = [(one, own) for one, own in zip(pixels, _LABELS, strict=True) if own]
    settings = config or MapsConfig(scales=[1.0, 0.5])
    table = ClassTable(_NAMES)
    request = MapRequest(backbone, heads, settings, table, lambda: samples, normal=lambda: pixels[1:2])
    made, again = (factory(request).maps(images, pixels, _LABELS) for _ in range(2))
    require(set(made) == set(heads), f"maps are named as the heads, {sorted(heads)}; found {sorted(made)}")
    for name, rows in made.items():
        require(len(rows) == len(_LABELS), f"{name}: one array an image, {len(_LABELS)}; found {len(rows)}")
        for maps, other, own in zip(rows, again[name], _LABELS, strict=True):
            try:
                check_scores(maps, (len(own), None, None), f"{name} maps")
            except FlawError as flaw:
                require(False, f"the variant {flaw}, for the labels {own}")
            require(np.array_equal(maps, other), "the same images, the same maps")
    require(any(maps.max(initial=0) > 0 for rows in made.values() for maps in rows), "some map is not zero everywhere")
    state = backbone.state_dict()
    require(all(torch.equal(state[name], value) for name, value in before.items()), "the network is left as it is")
    require(not backbone.training, "the network stays in eval mode")
    require(all(one.grad is None for one in backbone.parameters()), "no gradients are left in the network")
