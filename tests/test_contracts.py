"""The contracts for plug-in authors: everything of recamlabel's own keeps them, and what breaks one is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from recamlabel.adapters import get_adapter
from recamlabel.adapters.csv.read import CsvAdapter
from recamlabel.contracts import (
    ContractError,
    check_adapter,
    check_exporter,
    check_refiner,
    check_segmenter,
    check_variant,
)
from recamlabel.export import FORMATS
from recamlabel.export.formats.hdf5 import Hdf5Format
from recamlabel.maps import VARIANTS
from recamlabel.maps.config import MapsConfig
from recamlabel.models.segmenter import SEGMENTERS
from recamlabel.refine import REFINERS, Refiner
from tests.helpers import make_tiny_csv

NEEDS = {"coco": "pycocotools", "yolo": "cv2"}


def test_the_table_adapter_keeps_its_contract(tmp_path):
    dataset = check_adapter(get_adapter("csv"), make_tiny_csv(tmp_path))
    assert len(dataset) == 8


@pytest.mark.parametrize("name", [name for name in VARIANTS.built_in if name != "precomputed"])
def test_variants_keep_their_contract(name):
    check_variant(VARIANTS.find(name), MapsConfig(variant=name, scales=[1.0], advcam_steps=1))


@pytest.mark.parametrize("name", REFINERS.built_in)
def test_refiners_keep_their_contract(name):
    check_refiner(REFINERS.find(name))


@pytest.mark.parametrize("name", SEGMENTERS.built_in)
def test_segmenters_keep_their_contract(name):
    check_segmenter(SEGMENTERS.find(name), "vit_tiny_patch16_224" if name == "dpt" else "resnet10t")


@pytest.mark.parametrize("name", FORMATS.built_in)
def test_formats_keep_their_contract(name, tmp_path):
    pytest.importorskip(NEEDS.get(name, "numpy"))
    check_exporter(FORMATS.find(name), tmp_path)


class Forgetful(CsvAdapter):
    """One image less each time."""

    left = 8

    def read(self, source, options):
        dataset = super().read(source, options)
        self.left -= 1
        return replace(dataset, images=dataset.images[: self.left])


class Raising(CsvAdapter):
    def detect(self, source):
        return {}[source]


class Littering(Hdf5Format):
    def write(self, plan, folder, masks):
        (folder.parent / "litter").touch()
        return super().write(plan, folder, masks)


class Unchecked(Hdf5Format):
    def readings(self, plan, folder, items):
        return iter(())


class Half(nn.Module):
    def __init__(self, backbone, outputs):
        super().__init__()
        self.encoder, self.head = backbone, nn.Conv2d(backbone.channels, outputs, 1)

    def forward(self, images):
        return self.head(self.encoder(images))


def flat(request):
    class Source:
        def maps(self, images, pixels, classes):
            return {name: [np.full((2, 3), 0.5)] * len(images) for name in request.heads}

    return Source()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda folder: check_adapter(Forgetful(), make_tiny_csv(folder)), "read gives the same twice"),
        (lambda folder: check_adapter(Raising(), make_tiny_csv(folder)), "detect never raises, found KeyError"),
        (lambda folder: check_exporter(Littering(), folder), "nothing is written outside"),
        (lambda folder: check_exporter(Unchecked(), folder), "readings has at least one reading"),
        (
            lambda folder: check_refiner(Refiner("x", lambda i, m, c, b: m * 2)),
            r"x gave scores from 0 to 2; expected numbers in 0..1, for an image of",
        ),
        (lambda folder: check_refiner(Refiner("x", lambda i, m, c, b: m[0])), r"scores of shape .* expected \(1, 48"),
        (lambda folder: check_refiner(Refiner("x", lambda i, m, c, b: m / 0)), "gave scores from nan to nan"),
        (lambda folder: check_refiner("x"), "it is a recamlabel.refine.Refiner, found str"),
        (lambda folder: check_variant(flat), r"gave cam maps of shape \(2, 3\); expected \(2, any, any\)"),
        (lambda folder: check_segmenter(Half), r"logits are \(2, 2, 64, 96\), found \(2, 2, 4, 6\)"),
        (lambda folder: check_segmenter(lambda b, n: nn.Conv2d(3, n, 1)), "encoder is the backbone"),
        (lambda folder: check_segmenter(lambda b, n: "net"), r"it gives a torch\.nn\.Module, found str"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_broken_promise_is_named(check, words, tmp_path: Path):
    with pytest.raises(ContractError, match=words):
        check(tmp_path)
