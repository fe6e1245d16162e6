"""Speed of the stages' loops against the bare network on tensors of the same shapes, in turn in one process.

    python benchmarks/throughput.py [--sizes 64 320 2000 4000] [--classes 2 20] [--images 24 96]
        [--rounds 5] [--threads 1]

Photographs are drawn (smooth noise, 4 : 3, JPEG); the network is that of ``quick`` with random weights. The measure is
CPU seconds of this process with all its threads (machines are noisy, wall time is not to be had on them), the median of
the rounds after one that warms up. Prints Markdown tables: training steps, maps and finer maps, scores; with the ratio
to the bare network and the peak of resident memory. The last table is of whole stages, as `fit` runs them on drawn
scenes of 208 pixels with `--steps` training steps: how they grow with the number of images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import Config, load_config
from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.devices import to_device
from recamlabel.core.memory import peak_megabytes, reset_peak
from recamlabel.data.batches import Normalisation, TrainingBatches
from recamlabel.demo.scenes import SceneSettings, make_scenes
from recamlabel.maps.cam import Cam
from recamlabel.maps.fine import fine_config
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import working_size
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.networks import ClassifierNet
from recamlabel.refine.build import RefineTask, refine_image
from recamlabel.run.fit import fit
from recamlabel.stages import GRAPH

CPU = torch.device("cpu")
TRAININGS = ("classifier", "recam", "segmenter")
ON_DEMAND = {stage.name for stage in GRAPH if stage.on_demand}


@dataclass(frozen=True)
class Cost:
    """Median CPU seconds, and the peak of resident memory in MB."""

    seconds: float
    megabytes: float


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, Cost]:
    """Cost of each piece of work, one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    peaks = dict.fromkeys(works, 0.0)
    for turn in range(rounds + 1):
        for name, work in works.items():
            reset_peak()
            start = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - start)
            peaks[name] = max(peaks[name], peak_megabytes())
    return {name: Cost(statistics.median(values), peaks[name]) for name, values in seconds.items()}


def photographs(folder: Path, longest: int, count: int) -> list[LabelledImage]:
    """Drawn JPEGs of ``longest`` x 3/4 ``longest`` pixels."""
    random, made = np.random.default_rng(0), []
    for number in range(count):
        noise = random.normal(0, 60, (min(longest, 500) * 3 // 4, min(longest, 500), 3))
        smooth = gaussian_filter(noise, (2, 2, 0)) * 6 + 128
        path = folder / f"{longest}-{number}.jpg"
        image = Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).resize((longest, longest * 3 // 4))
        image.save(path, quality=90)
        made.append(LabelledImage(path.stem, path, frozenset(), frozenset()))
    return made


def network(config: Config, classes: int, folded: bool) -> ClassifierNet:
    """The classifier of the settings, with random weights."""
    torch.manual_seed(0)
    net = ClassifierNet(Backbone(config.backbone.name, config.backbone.output_stride), classes)
    to_device(net, CPU)
    if folded:
        fold_norms(net)
        quicken_depthwise(net)
    return net


def training(config: Config, folder: Path, sizes: list[int], classes: int, rounds: int) -> None:
    print(f"\n## Training steps, {config.classifier.batch_size} crops of {config.augment.crop_size}\n")
    print(
        "| photographs | step as coded, CPU-s | loader alone | bare network, as it comes | ratio | to the first row "
        "| peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    plain, ours = network(config, classes, False).train(), network(config, classes, True).train()
    batch, first = config.classifier.batch_size, 0.0

    def step(net: ClassifierNet, images: torch.Tensor, labels: torch.Tensor) -> None:
        net.zero_grad()
        masked_multilabel_loss(net(images), labels).backward()

    for size in sizes:
        images = photographs(folder, size, 2 * batch)
        labels = np.random.default_rng(0).integers(0, 2, (len(images), classes)).astype(np.int8)
        normalisation = Normalisation(plain.backbone.mean, plain.backbone.std)
        batches = TrainingBatches(images, labels, batch, 10_000, config.augment, normalisation, seed=0)
        at = iter(range(10_000))
        fixed = batches[0].to(CPU)

        def coded(batches: TrainingBatches = batches, at: Iterator[int] = at) -> None:
            item = batches[next(at)].to(CPU)
            step(ours, item.images, item.labels)

        works: dict[str, Callable[[], object]] = {
            "coded": coded,
            "loader": lambda batches=batches, at=at: batches[next(at)],
            "bare": lambda fixed=fixed: step(plain, fixed.images, fixed.labels),
        }
        cost = in_turn(works, rounds)
        first = first or cost["coded"].seconds
        print(
            f"| {size} x {size * 3 // 4} | {cost['coded'].seconds:.3f} | {cost['loader'].seconds:.3f} | "
            f"{cost['bare'].seconds:.3f} | {cost['coded'].seconds / cost['bare'].seconds:.2f} | "
            f"{cost['coded'].seconds / first:.2f} | {cost['coded'].megabytes:.0f} |",
            flush=True,
        )


def inference(config: Config, folder: Path, sizes: list[int], classes: list[int], rounds: int) -> None:
    print("\n## Maps, finer maps and scores of one photograph, CPU-s\n")
    print(
        "| photograph | classes | maps | bare network, same inputs | ratio | finer maps | scores, 2 labels "
        "| peak MB maps, fine, scores |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        image = photographs(folder, size, 1)[0]
        pixels = np.asarray(Image.open(image.path))
        shape = (pixels.shape[0], pixels.shape[1])
        for count in classes:
            plain, ours = network(config, count, False).eval(), network(config, count, True).eval()
            net = MapNet(ours.backbone, {"cam": ours.head.weight.detach()}, Cam())
            base = working_size(*shape, config.maps.max_side)
            inputs = [
                torch.zeros(2 if config.maps.flip else 1, 3, *(max(1, round(side * scale)) for side in base))
                for scale in config.maps.scales
            ]
            fine = fine_config(config.maps, shape, config.probe.fine_sides)
            own = [[0, count - 1]]
            stored = class_maps([pixels], own, net, config.maps, config.runtime.amp)["cam"][0]
            task = RefineTask(image.id, image.path, stored, (1, 2), "crf", config.refine, True)

            def bare(net: ClassifierNet = plain, inputs: list[torch.Tensor] = inputs) -> None:
                with torch.no_grad():
                    for one in inputs:
                        net.backbone(one.contiguous(memory_format=torch.channels_last))

            works: dict[str, Callable[[], object]] = {
                "maps": lambda net=net, own=own, pixels=pixels: class_maps(
                    [pixels], own, net, config.maps, config.runtime.amp
                ),
                "bare": bare,
                "fine": lambda net=net, own=own, fine=fine, pixels=pixels: class_maps(
                    [pixels], own, net, fine, config.runtime.amp
                ),
                "scores": lambda task=task: refine_image(task),
            }
            cost = in_turn(works, rounds)
            peaks = ", ".join(f"{cost[name].megabytes:.0f}" for name in ("maps", "fine", "scores"))
            print(
                f"| {size} x {size * 3 // 4} | {count} | {cost['maps'].seconds:.3f} | {cost['bare'].seconds:.3f} | "
                f"{cost['maps'].seconds / cost['bare'].seconds:.2f} | {cost['fine'].seconds:.3f} | "
                f"{cost['scores'].seconds:.3f} | {peaks} |",
                flush=True,
            )


def whole_stages(config: Config, folder: Path, counts: list[int]) -> None:
    print("\n## Whole stages, scenes of 208 x 208, CPU-s an image\n")
    print(f"| stage | {' | '.join(f'{count} images' for count in counts)} | last to first | peak MB |")
    print("|---|" + "---|" * (len(counts) + 2))
    table: dict[str, list[Cost]] = {}
    for count in counts:
        scenes = make_scenes(folder / f"scenes{count}", SceneSettings(images=count))
        run = folder / f"run{count}"
        # Reads the data, and says which stages this run has.
        state = fit(scenes.labels, run, config, until="features").state
        for stage in [name for name in state.plan if name not in state.stages and name not in ON_DEMAND]:
            reset_peak()
            start = time.process_time()
            state = fit(scenes.labels, run, config, until=stage).state
            if stage in state.stages:
                table.setdefault(stage, []).append(Cost((time.process_time() - start) / count, peak_megabytes()))
    for stage, costs in table.items():
        cells = " | ".join(f"{cost.seconds:.3f}" for cost in costs)
        growth = costs[-1].seconds / max(costs[0].seconds, 1e-9)
        print(f"| {stage} | {cells} | {growth:.2f} | {costs[-1].megabytes:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 320, 2000, 4000], help="long sides, pixels")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20])
    parser.add_argument("--images", type=int, nargs="+", default=[24, 96], help="whole stages: images of the data sets")
    parser.add_argument("--steps", type=int, default=10, help="whole stages: of each training")
    parser.add_argument("--parts", nargs="+", choices=["loops", "stages"], default=["loops", "stages"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the run")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = load_config(given.preset, assignments=given.set)
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept(CPU):
        if "loops" in given.parts:
            training(config, Path(folder), given.sizes, max(given.classes), given.rounds)
            inference(config, Path(folder), given.sizes, given.classes, given.rounds)
        if "stages" in given.parts:
            few = [f"{name}.{end}_steps={given.steps}" for name in TRAININGS for end in ("min", "max")]
            lines = ["runtime.workers=1", *few, *given.set]
            whole_stages(load_config(given.preset, assignments=lines), Path(folder), given.images)


if __name__ == "__main__":
    main()
