"""What a CPU cannot run. Each test is marked `gpu` and skipped where there is no CUDA device."""

from __future__ import annotations

import functools
import threading

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from recamlabel.adapters import load_dataset
from recamlabel.config import load_config
from recamlabel.core.devices import to_device
from recamlabel.core.pool import map_in_order
from recamlabel.data.batches import Normalisation, TrainingBatches, iterate
from recamlabel.data.config import AugmentConfig
from recamlabel.maps.cam import Cam
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import Pixels
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.networks import ClassifierNet, RecamNet
from recamlabel.models.segmenter import Segmenter
from recamlabel.refine.random_walk import random_walk
from recamlabel.run.fit import fit
from recamlabel.segment.config import SegmenterConfig
from recamlabel.storage.hdf5 import leaf_paths
from recamlabel.training.config import ClassifierConfig, RecamConfig
from recamlabel.training.loop import LoopSettings, _Stepper, make_optimiser, train
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamObjective
from recamlabel.training.objectives.segmenter import SegmenterObjective
from tests.helpers import TINY_SEGMENTER, make_tiny_csv

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PLAIN = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STEPS = 6


def make_batches(tiny_csv, size=4, crop=64, **parts):
    dataset = load_dataset(tiny_csv)
    augment = AugmentConfig(crop_size=crop, resize_min=crop // 2, resize_max=crop + 16)
    return TrainingBatches(dataset.images, dataset.labels(), size, STEPS, augment, PLAIN, seed=0, **parts)


def classifier():
    torch.manual_seed(0)
    return ClassifierNet(Backbone("efficientnet_lite0"), 2)


def loop_settings(tmp_path, amp=True, log=lambda **event: None):
    return LoopSettings(GPU, 2, amp, tmp_path / "c.checkpoint", "k", log)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_arrive_as_on_the_cpu(tiny_csv, workers):
    parts = {"seeds": lambda _: np.arange(12).reshape(3, 4), "masks": lambda _: np.ones((2, 3, 4), np.float16)}
    made = make_batches(tiny_csv, **(parts if workers == 0 else {}))
    found = list(iterate(made, 1, GPU, workers))
    assert [batch.step for batch in found] == list(range(1, STEPS))
    for batch in found:
        expected = made[batch.step].to(CPU)
        assert batch.images.is_cuda and batch.images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batch.images.cpu(), expected.images, atol=1e-5, rtol=1e-5)
        assert torch.equal(batch.labels.cpu(), expected.labels)
        if batch.seeds is not None:
            assert torch.equal(batch.seeds.cpu(), expected.seeds) and torch.equal(batch.masks.cpu(), expected.masks)


def objectives():
    net = classifier()
    yield ClassifierObjective(net, ClassifierConfig(rare_weight=4), np.array([1.0, 2.0]))
    yield RecamObjective(RecamNet(classifier(), RecamConfig(), True), RecamConfig())
    yield RecamObjective(RecamNet(classifier(), RecamConfig(), True), RecamConfig(backbone_lr_factor=0.1))
    config = SegmenterConfig(cutmix=0.5, correction_start=0.0, correction=0.6)
    yield SegmenterObjective(Segmenter("deeplabv3+", Backbone("efficientnet_lite0"), 2), config, 255, STEPS, True)


@pytest.mark.parametrize("number", range(4))
def test_nothing_waits_for_the_gpu_inside_a_step(tiny_csv, tmp_path, number):
    objective = list(objectives())[number]
    to_device(objective.module, GPU).train()
    fold_norms(objective.module)
    quicken_depthwise(objective.module)
    config = ClassifierConfig(optimiser="adamw")
    optimiser = make_optimiser(objective.parameter_groups(), config)
    stepper = _Stepper(objective, optimiser, loop_settings(tmp_path), 1.0)
    made = make_batches(tiny_csv, seeds=lambda _: np.arange(3).repeat(4).reshape(3, 4))
    batches = list(iterate(made, 0, GPU, 0))
    for batch in batches[:2]:  # the first makes what is made once, the second records the network
        stepper.step(batch)
    assert stepper.recorded is not None
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        figures = [stepper.step(batch) for batch in batches[2:]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(value).all() for one in figures for value in one.values())


def test_a_training_on_the_gpu_learns_as_on_the_cpu(tiny_csv, tmp_path):
    config = ClassifierConfig(lr=0.01, optimiser="sgd")  # AdamW divides by gradients near zero
    found = {}
    for device in (CPU, GPU):
        net, seen = classifier(), []
        log = functools.partial(lambda events, **event: events.append(event), seen)
        to = LoopSettings(device, 0, False, tmp_path / f"{device}.checkpoint", "k", log)
        train(ClassifierObjective(net, config), make_batches(tiny_csv), config, to)
        found[device] = {name: value.detach().cpu() for name, value in net.state_dict().items()}, seen[-1]["loss"]
    assert found[GPU][1] == pytest.approx(found[CPU][1], rel=0.01)
    weights = [found[device][0]["head.weight"] for device in (CPU, GPU)]
    assert (weights[0] - weights[1]).abs().max() < 0.01 * weights[0].abs().max()


@pytest.mark.parametrize("number", range(4))
def test_a_recorded_network_has_the_gradients_of_a_launched_one(tiny_csv, tmp_path, number):
    batches = list(iterate(make_batches(tiny_csv, seeds=lambda _: np.arange(3).repeat(4).reshape(3, 4)), 0, GPU, 0))
    found = []
    for recorded in (False, True):
        objective = list(objectives())[number]
        to_device(objective.module, GPU).train()
        for part in objective.module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0  # drawn anew where recorded
        optimiser = make_optimiser(objective.parameter_groups(), ClassifierConfig(), fused=True)
        stepper = _Stepper(objective, optimiser, loop_settings(tmp_path, amp=False), 0.0)
        if recorded:
            stepper._record(batches[0])
        assert (stepper.recorded is not None) == recorded
        figures = stepper._gradients(batches[1])
        found.append((figures["loss"], {name: one.grad.clone() for name, one in learning(objective.module)}))
    (loss, gradients), (recorded_loss, recorded_gradients) = found
    torch.testing.assert_close(loss, recorded_loss, rtol=1e-3, atol=1e-5)
    assert gradients.keys() == recorded_gradients.keys()
    largest = max(one.norm() for one in gradients.values())
    for name, one in gradients.items():
        # Sums over a batch in another order: parts per thousand of the gradient, or of the largest where it is small.
        assert (one - recorded_gradients[name]).norm() < 1e-2 * one.norm() + 1e-4 * largest, name


def learning(module):
    return [(name, one) for name, one in module.named_parameters() if one.grad is not None]


def test_a_batch_that_does_not_fit_is_halved(tiny_csv, tmp_path, capsys):
    net = classifier()
    made = make_batches(tiny_csv, size=64, crop=448)
    torch.cuda.empty_cache()
    limit = 3e9 / torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(limit)
    try:
        last = train(ClassifierObjective(net, ClassifierConfig()), made, ClassifierConfig(), loop_settings(tmp_path))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "does not hold 64 crops at once; going on with 32 at a time" in capsys.readouterr().err
    assert np.isfinite(last["loss"])


@pytest.mark.parametrize("size", [(60, 80), (90, 120), (37, 51)])
def test_inputs_are_resized_as_by_pillow(size):
    image = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)).resize((80, 60))
    )
    expected, found = (Pixels([image, image], PLAIN, device).at(*size) for device in (CPU, GPU))
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Two grey levels at some places: Pillow rounds after each of its two passes.
    apart = (found.cpu() - expected).abs()
    assert apart.max() <= 2 / 255 / 0.224 + 1e-4 and apart.mean() < 0.5 / 255 / 0.225


def test_a_large_photograph_is_resized_far_down():
    image = np.full((3000, 4000, 3), 77, np.uint8)
    found = Pixels([image], Normalisation((0.0,) * 3, (1.0,) * 3), GPU).at(48, 64)
    torch.testing.assert_close(found.cpu(), torch.full((1, 3, 48, 64), 77 / 255))


def test_maps_are_those_of_the_cpu():
    image = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)).resize((160, 128))
    )
    config, found = MapsConfig(), {}
    for device in (CPU, GPU):
        net = classifier().eval()
        to_device(net, device)
        fold_norms(net)
        maps = MapNet(net.backbone, {"cam": net.head.weight.detach()}, Cam())
        found[device] = class_maps([image, image[::-1]], [[0, 1], [1]], maps, config, amp=False)["cam"]
    for one, other in zip(found[CPU], found[GPU], strict=True):
        assert one.shape == other.shape and np.abs(one.astype(float) - other.astype(float)).max() < 0.05


def doubled(number):
    """On torch's default device, whichever thread it is."""
    made = torch.arange(1000) + number
    assert made.is_cuda and torch.cuda.current_stream() != torch.cuda.default_stream()
    return threading.get_ident(), int(made.sum())


def test_images_of_nearly_one_size_share_a_batch():
    config = MapsConfig(scales=[1.0], flip=False)
    net = classifier().eval()
    to_device(net, GPU)
    fold_norms(net)
    maps = MapNet(net.backbone, {"cam": net.head.weight.detach()}, Cam())
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (side, side + 30, 3)).astype(np.uint8) for side in (120, 126, 120)]
    together = class_maps(made, [[0], [0, 1], [1]], maps, config, amp=False)["cam"]
    for image, own, found in zip(made, [[0], [0, 1], [1]], together, strict=True):
        (alone,) = class_maps([image], [own], maps, config, amp=False)["cam"]
        assert alone.shape == found.shape and np.abs(alone.astype(float) - found.astype(float)).max() < 0.01


def test_the_random_walk_is_that_of_the_cpu():
    start, edge = torch.rand(2, 20, 30), torch.rand(20, 30)
    torch.testing.assert_close(random_walk(start.to(GPU), edge.to(GPU)).cpu(), random_walk(start, edge))


def test_threads_share_a_gpu_in_order():
    found = list(map_in_order(doubled, iter(range(40)), 4, "test", GPU))
    assert [task for task, _ in found] == list(range(40))
    assert [total for _, (_, total) in found] == [499500 + 1000 * task for task in range(40)]
    assert 1 < len({thread for _, (thread, _) in found}) <= 4


def test_a_run_on_the_gpu_makes_the_masks_of_the_cpu(tmp_path):
    data = make_tiny_csv(tmp_path)
    masks = {}
    for device in ("cpu", "cuda"):
        lines = [*TINY_SEGMENTER, "refine.method=crf", "runtime.amp=false", f"runtime.device={device}"]
        fit(data, tmp_path / device, load_config(assignments=lines))
        with h5py.File(tmp_path / device / "masks.h5") as file:
            masks[device] = np.concatenate([file[path][()].ravel() for path in leaf_paths(file)])
    assert (masks["cpu"] == masks["cuda"]).mean() > 0.97
