"""Stages on a GPU: images/s beside the bare network, dense CRF and random walk, and a whole `fit` on MSRC-17.

    python benchmarks/gpu.py --msrc FOLDER [--cpu-run RUN] [--device cuda] [--only loops crf fit]
    python benchmarks/gpu.py --device cpu --small

Builds nothing and needs no network. FOLDER holds labels.csv, images/ and masks/; without it the fit is left out. RUN is
a finished run of the same data on a CPU (``benchmarks/msrc.py``): its mIoU and how many pixels agree are printed too.
Times are wall seconds with the device synchronised, the median of the rounds. ``--small`` is a run of the code in a
minute: its figures say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import Config, load_config
from recamlabel.core import pool
from recamlabel.core.devices import autocast, fixed_shapes, pick_device, to_device, usable_cores
from recamlabel.core.pool import map_in_order
from recamlabel.data.batches import Normalisation, TrainingBatches, iterate
from recamlabel.maps.cam import Cam
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.networks import ClassifierNet, RecamNet
from recamlabel.models.segmenter import Segmenter
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import CrfInference, pydensecrf_available
from recamlabel.refine.random_walk import random_walk
from recamlabel.run.fit import fit
from recamlabel.segment.predict import Predictor
from recamlabel.storage.hdf5 import leaf_paths
from recamlabel.storage.run_folder import RunFolder
from recamlabel.training.loop import LoopSettings, Objective, train
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamObjective
from recamlabel.training.objectives.segmenter import SegmenterObjective

LEVELS, IGNORE = 8, 255


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    images: int = 96
    width: int = 320
    steps: int = 120
    rounds: int = 5
    classes: int = 17
    crf_images: int = 24


SMALL = Sizes(images=6, width=64, steps=3, rounds=1, classes=3, crf_images=2)


class Bench:
    """The drawn photographs, the settings and the clock."""

    def __init__(self, device: torch.device, config: Config, sizes: Sizes, folder: Path) -> None:
        self.device, self.config, self.sizes, self.folder = device, config, sizes, folder
        self.pixels = [draw(seed, sizes.width) for seed in range(sizes.images)]
        self.images = []
        for number, pixels in enumerate(self.pixels):
            path = folder / f"{number}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            self.images.append(LabelledImage(path.stem, path, frozenset(), frozenset()))
        self.labels = np.random.default_rng(0).integers(0, 4, (sizes.images, sizes.classes)) == 0
        self.labels[:, 0] = True

    def seconds(self, work: Callable[[], object], rounds: int | None = None) -> float:
        """Median wall seconds, after one round that is not counted."""
        found = []
        for turn in range((rounds or self.sizes.rounds) + 1):
            self._wait()
            start = time.perf_counter()
            work()
            self._wait()
            found.append(time.perf_counter() - start)
            if turn == 0:
                found.clear()
        return statistics.median(found)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def classifier(self) -> ClassifierNet:
        """The network of the settings, with random weights."""
        torch.manual_seed(0)
        return ClassifierNet(
            Backbone(self.config.backbone.name, self.config.backbone.output_stride), self.sizes.classes
        )

    def batches(self, backbone: Backbone, size: int, steps: int, seeds: bool) -> TrainingBatches:
        """Training crops."""
        mask = np.random.default_rng(1).integers(0, self.sizes.classes, (24, 32)).astype(np.uint8)
        return TrainingBatches(
            self.images,
            self.labels.astype(np.int8),
            size,
            steps,
            self.config.augment,
            Normalisation(backbone.mean, backbone.std),
            seed=0,
            seeds=(lambda _: mask) if seeds else None,
        )


def draw(seed: int, width: int) -> NDArray[np.uint8]:
    """A smooth noise photograph, 3 : 2."""
    noise = np.random.default_rng(seed).normal(0, 60, (width * 2 // 3, width, 3))
    smooth: NDArray[np.uint8] = (gaussian_filter(noise, (2, 2, 0)) * 6 + 128).clip(0, 255).astype(np.uint8)
    return smooth


def training(bench: Bench) -> None:
    config, cuda = bench.config, bench.device.type == "cuda"
    print("\n## Training, images/s\n")
    print("| stage | crops a step | as coded | loader alone | bare network | ratio | bare as a CUDA graph |")
    print("|---|---|---|---|---|---|---|")
    encoder = Backbone(config.backbone.name, config.backbone.output_stride)
    segmenter = Segmenter(config.segmenter.method, encoder, bench.sizes.classes)
    schedule = config.segmenter
    steps = bench.sizes.steps
    objectives: list[tuple[Objective, int, nn.Module]] = [
        (ClassifierObjective(bench.classifier(), config.classifier), config.classifier.batch_size, bench.classifier()),
        (
            RecamObjective(RecamNet(bench.classifier(), config.recam, True), config.recam),
            config.recam.batch_size,
            bench.classifier().backbone,
        ),
        (
            SegmenterObjective(segmenter, schedule, IGNORE, steps, True),
            schedule.batch_size,
            Segmenter(schedule.method, Backbone(config.backbone.name, config.backbone.output_stride), 3),
        ),
    ]
    workers = usable_cores() if cuda else 0
    for objective, size, bare in objectives:
        backbone = encoder if objective.name == "segmenter" else bench.classifier().backbone
        batches = bench.batches(backbone, size, steps, objective.name == "segmenter")
        learns = not objective.frozen
        speed = size * steady(bench, objective, batches, workers)
        loader = size * loader_speed(bench, batches, workers)
        to_device(bare, bench.device).train()
        images = batches[0].to(bench.device).images
        with fixed_shapes(bench.device):
            plain = size / bench.seconds(lambda net=bare, images=images, learns=learns: step(net, images, learns))
            graph = size / bench.seconds(graphed(bare, images, learns)) if cuda else float("nan")
        print(
            f"| {objective.name} | {size} x {images.shape[2]} | {speed:.0f} | {loader:.0f} | {plain:.0f} | "
            f"{speed / plain:.2f} | {graph:.0f} |",
            flush=True,
        )


def steady(bench: Bench, objective: Objective, batches: TrainingBatches, workers: int) -> float:
    """Steps/s of the loop, without its start: the workers' and the first steps' (algorithms, memory)."""
    marks: list[tuple[int, float]] = []

    def log(**event: object) -> None:
        marks.append((int(str(event["step"])), time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        settings = LoopSettings(bench.device, workers, True, Path(folder) / "c", "k", log)
        start = time.perf_counter()
        train(objective, batches, bench.config.classifier, settings)
    if len(marks) < 3:
        return len(batches) / (time.perf_counter() - start)
    (first, begun), (last, ended) = marks[len(marks) // 3], marks[-1]
    return (last - first) / (ended - begun)


def loader_speed(bench: Bench, batches: TrainingBatches, workers: int) -> float:
    """Batches/s onto the device, without the start of the workers."""
    begun, count = 0.0, 0
    for count, _ in enumerate(iterate(batches, 0, bench.device, workers)):
        if count == len(batches) // 3:
            begun, first = time.perf_counter(), count
    return (count - first) / (time.perf_counter() - begun)


def step(net: nn.Module, images: torch.Tensor, learns: bool) -> None:
    net.zero_grad()
    with autocast(images.device), torch.set_grad_enabled(learns):
        loss = net(images).float().mean()
    if learns:
        loss.backward()


def graphed(net: nn.Module, images: torch.Tensor, learns: bool) -> Callable[[], object]:
    """The same step, recorded once and replayed."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(net, images, learns)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    net.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step(net, images, learns)
    return graph.replay


@torch.no_grad()
def inference(bench: Bench) -> None:
    print("\n## Maps and segmentation, images/s (photographs in memory)\n")
    print("| stage | as coded | one image at a time | bare network, same inputs | ratio |")
    print("|---|---|---|---|---|")
    config, size = bench.config, min(16, len(bench.pixels))
    net = bench.classifier()
    fold_norms(net)
    to_device(net, bench.device).eval()
    weight = net.head.weight.detach()
    maps = MapNet(net.backbone, {"cam": weight, "recam": weight}, Cam())
    batch, own = bench.pixels[:size], [[0, 1]] * size

    def bare(net: nn.Module, scales: Sequence[float], views: int, together: bool) -> Callable[[], object]:
        shape = bench.pixels[0].shape
        inputs = [
            torch.zeros(size * (views if together else 1), 3, *(round(side * scale) for side in shape[:2]))
            .to(bench.device)
            .contiguous(memory_format=torch.channels_last)
            for scale in scales
            for _ in range(1 if together else views)
        ]

        def work() -> None:
            with torch.no_grad(), autocast(bench.device):
                for one in inputs:
                    net(one)

        return work

    def row(name: str, work: Callable[[list[np.ndarray]], object], alone: Callable[[], object]) -> None:
        coded = size / bench.seconds(lambda: work(batch))
        single = 1 / bench.seconds(lambda: work(batch[:1]))
        limit = size / bench.seconds(alone)
        print(f"| {name} | {coded:.0f} | {single:.0f} | {limit:.0f} | {coded / limit:.2f} |", flush=True)

    row(
        "maps",
        lambda pixels: class_maps(pixels, own[: len(pixels)], maps, config.maps, True),
        bare(net.backbone, config.maps.scales, 1 + config.maps.flip, True),
    )
    encoder = Backbone(config.backbone.name, config.backbone.output_stride)
    segmenter = Segmenter(config.segmenter.method, encoder, bench.sizes.classes)
    fold_norms(segmenter)
    to_device(segmenter, bench.device).eval()
    asked = config.segmenter.predict
    predictor = Predictor(segmenter, asked, bench.device, True)
    row("segmentation", predictor.probabilities, bare(segmenter, asked.scales, 1 + asked.flip, False))


@dataclass(frozen=True)
class CrfTask:
    image: NDArray[np.uint8]
    labels: NDArray[np.int64]
    backend: str


def run_crf(task: CrfTask) -> NDArray[np.int64]:
    config = CrfConfig.model_validate({"backend": task.backend})
    return CrfInference(task.image, int(task.labels.max()) + 1, config).run_labels(task.labels)


def refinement(bench: Bench) -> None:
    print(f"\n## Dense CRF of {LEVELS} levels and random walk, images/s ({usable_cores()} cores)\n")
    print("| what | labels L | torch, 1 core | pydensecrf, 1 core | GPU, 1 thread | 2 | 4 | 8 | equal labels % |")
    print("|---|---|---|---|---|---|---|---|---|")
    count = bench.sizes.crf_images
    for others in (1, 2):
        tasks = {name: [crf_task(bench, n, others, name) for n in range(count)] for name in ("torch", "pydensecrf")}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        few = max(1, count // 6)
        start = time.perf_counter()
        expected = [run_crf(task) for task in tasks["torch"][:few]]
        cells = [few / (time.perf_counter() - start)]
        start = time.perf_counter()
        if pydensecrf_available():
            for task in tasks["pydensecrf"][:few]:
                run_crf(task)
        cells.append(few / (time.perf_counter() - start) if pydensecrf_available() else float("nan"))
        torch.set_num_threads(threads)
        equal = float("nan")
        for number in (1, 2, 4, 8):
            if bench.device.type == "cpu":
                cells.append(float("nan"))
                continue
            found: list[NDArray[np.int64]] = []

            ours = tasks["torch"]

            def work(number: int = number, ours: list[CrfTask] = ours, found: list[NDArray[np.int64]] = found) -> None:
                with Threads(number):
                    done = map_in_order(run_crf, iter(ours), number, "crf", bench.device)
                    found[:] = [result for _, result in done]

            cells.append(count / bench.seconds(work, 2))
            equal = 100 * float(np.mean([one == other for one, other in zip(expected, found, strict=False)]))
        print(f"| crf | {others + 1} | {' | '.join(f'{cell:.1f}' for cell in cells)} | {equal:.4f} |", flush=True)
    start = torch.rand(2, bench.sizes.width // 6, bench.sizes.width // 4, device=bench.device)
    edge = torch.rand(start.shape[1:], device=bench.device)
    walk = bench.config.affinity
    speed = 1 / bench.seconds(
        lambda: random_walk(start, edge, radius=walk.walk_radius, beta=walk.beta, log2_steps=walk.log2_steps)
    )
    print(f"\nrandom walk, {tuple(start.shape)}: {speed:.0f} images/s on {bench.device}")


class Threads:
    """So many threads on the device, whatever `map_in_order` takes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        self.before, pool.DEVICE_THREADS = pool.DEVICE_THREADS, self.number

    def __exit__(self, *error: object) -> None:
        pool.DEVICE_THREADS = self.before


def crf_task(bench: Bench, number: int, others: int, backend: str) -> CrfTask:
    """Labels over rising background levels of smooth random maps."""
    image, random = bench.pixels[number % len(bench.pixels)], np.random.default_rng(number)
    shape, sigma = image.shape[:2], image.shape[1] / 16
    maps = np.stack([gaussian_filter(random.standard_normal(shape), sigma) for _ in range(others)])
    maps = (maps - maps.min()) / np.ptp(maps)
    levels = np.linspace(0.1, 0.8, LEVELS)
    return CrfTask(image, np.stack([np.where(maps.max(0) > at, maps.argmax(0) + 1, 0) for at in levels]), backend)


def whole_fit(bench: Bench, msrc: Path, out: Path, cpu_run: Path | None, assignments: Sequence[str]) -> None:
    """Every stage of a `fit` in seconds and images/s, and what its masks are worth."""
    from recamlabel.evaluation.evaluate import evaluate_run

    start = time.perf_counter()
    fit(msrc, out, load_config("quick", assignments=[f"runtime.device={bench.device}", *assignments]))
    seconds = time.perf_counter() - start
    runs = {str(bench.device): RunFolder.open(out)} | ({"cpu": RunFolder.open(cpu_run)} if cpu_run else {})
    stages = {
        name: {stage: float(record["seconds"]) for stage, record in run.state.stages.items()}
        for name, run in runs.items()
    }
    with h5py.File(out / "masks.h5") as file:
        images = len(list(leaf_paths(file)))
    print(f"\n## `fit` on {msrc.name}, {images} images: {seconds:.0f} s on {bench.device}\n")
    print(f"| stage | {' | '.join(f'{name}, s' for name in runs)} | images/s |")
    print(f"|---|{'---|' * len(runs)}---|")
    for stage, spent in stages[str(bench.device)].items():
        cells = " | ".join(f"{one.get(stage, float('nan')):.1f}" for one in stages.values())
        print(f"| {stage} | {cells} | {images / max(spent, 1e-3):.0f} |")
    print(f"\n| mIoU | {' | '.join(runs)} |\n|---|{'---|' * len(runs)}")
    for what in ("masks", "segmenter"):
        if what in stages[str(bench.device)] and (msrc / "masks").is_dir():
            cells = " | ".join(f"{evaluate_run(run, msrc / 'masks', what).miou:.1f}" for run in runs.values())
            print(f"| {what} | {cells} |")
    if cpu_run:
        equal = 100 * agreement(out / "masks.h5", cpu_run / "masks.h5")
        print(f"\nmasks of both runs: {equal:.2f} % of the pixels equal")


def agreement(one: Path, other: Path) -> float:
    """Share of equal pixels of two files of masks."""
    with h5py.File(one) as first, h5py.File(other) as second:
        names = [name for name in leaf_paths(first) if name in second and first[name].ndim == 2]
        equal = [(first[name][()] == second[name][()]).mean() for name in names]
    return float(np.mean(equal))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=120, help="of each training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--msrc", type=Path)
    parser.add_argument("--cpu-run", type=Path)
    parser.add_argument("--out", type=Path, help="run folder of the fit; left out: not kept")
    parser.add_argument("--only", nargs="+", choices=["loops", "crf", "fit"], default=["loops", "crf", "fit"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    given = parser.parse_args()
    device = pick_device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {usable_cores()} cores")
    sizes = SMALL if given.small else Sizes(steps=given.steps, rounds=given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, load_config("quick", assignments=given.set), sizes, Path(folder))
        if "loops" in given.only:
            training(bench)
            inference(bench)
        if "crf" in given.only:
            refinement(bench)
        if "fit" in given.only and given.msrc is not None:
            whole_fit(bench, given.msrc, given.out or Path(folder) / "fit", given.cpu_run, given.set)


if __name__ == "__main__":
    main()
