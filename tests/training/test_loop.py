from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import recamlabel.training.loop as loop
from recamlabel.adapters import load_dataset
from recamlabel.data.batches import Normalisation, TrainingBatches
from recamlabel.data.config import AugmentConfig
from recamlabel.errors import RecamlabelError
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import ClassifierNet, RecamNet
from recamlabel.models.weights import load_backbone_weights
from recamlabel.training.config import ClassifierConfig, RecamConfig
from recamlabel.training.loop import LoopSettings, poly_factor, train
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamObjective
from recamlabel.training.watch import Watch

CONFIG = ClassifierConfig(lr=0.01, batch_size=2, min_steps=6, max_steps=6)


def make(tiny_csv, steps=6, crop=32, batch_size=2):
    dataset = load_dataset(tiny_csv)
    augment = AugmentConfig(crop_size=crop, resize_min=crop, resize_max=crop + 8)
    plain = Normalisation((0.5,) * 3, (0.5,) * 3)
    batches = TrainingBatches(dataset.images, dataset.labels(), batch_size, steps, augment, plain, seed=0)
    torch.manual_seed(0)
    return ClassifierNet(Backbone("resnet10t"), 2), batches


def settings(tmp_path, log=lambda **event: None, key="k"):
    return LoopSettings(torch.device("cpu"), 0, False, tmp_path / "c.checkpoint", key, log)


def state(net: nn.Module):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


class Interrupting(ClassifierObjective):
    """Stops in the middle, as a person or the system would."""

    def loss(self, batch):
        if batch.step == 4:
            raise KeyboardInterrupt
        return super().loss(batch)


def test_resumed_training_equals_uninterrupted(tiny_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    straight, batches = make(tiny_csv)
    watches = [Watch("classifier", 0.69) for _ in range(2)]
    figures = train(ClassifierObjective(straight, CONFIG), batches, CONFIG, settings(tmp_path / "a"), watch=watches[0])
    broken, batches = make(tiny_csv)
    with pytest.raises(KeyboardInterrupt):
        train(Interrupting(broken, CONFIG), batches, CONFIG, settings(tmp_path / "b"), watch=Watch("classifier", 0.69))
    resumed, batches = make(tiny_csv)
    seen = []
    goes_on = settings(tmp_path / "b", lambda **e: seen.append(e))
    again = train(ClassifierObjective(resumed, CONFIG), batches, CONFIG, goes_on, watch=watches[1])
    assert same(state(straight), state(resumed))
    # Judged by the same losses, and the same is said of them.
    assert again == figures and list(watches[1].recent) == list(watches[0].recent) and len(watches[1].recent) == 6
    assert seen[-1]["step"] == 6


class Crowded(ClassifierObjective):
    """Has memory for so many crops."""

    room = 1

    def loss(self, batch):
        if len(batch.images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().loss(batch)


def test_a_batch_that_does_not_fit_is_done_in_parts_with_the_same_result(tiny_csv, tmp_path, capsys):
    whole, batches = make(tiny_csv, batch_size=4)
    whole_figures = train(ClassifierObjective(whole, CONFIG), batches, CONFIG, settings(tmp_path / "a"))
    capsys.readouterr()
    parted, batches = make(tiny_csv, batch_size=4)
    crowded = Crowded(parted, CONFIG)
    figures = train(crowded, batches, CONFIG, settings(tmp_path / "b"))
    said = [line for line in capsys.readouterr().err.splitlines() if "does not hold" in line]
    assert said == [
        "classifier: the memory of cpu does not hold 4 crops at once; going on with 2 at a time",
        "classifier: the memory of cpu does not hold 2 crops at once; going on with 1 at a time",
    ]
    for name, value in state(whole).items():
        torch.testing.assert_close(state(parted)[name], value, rtol=1e-4, atol=1e-5)
    assert figures == pytest.approx(whole_figures, abs=1e-4)


def test_a_single_crop_that_does_not_fit_is_an_error(tiny_csv, tmp_path):
    net, batches = make(tiny_csv)
    crowded = Crowded(net, CONFIG)
    crowded.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        train(crowded, batches, CONFIG, settings(tmp_path))


def test_figures_read_late_are_those_of_every_step(tiny_csv, tmp_path):
    """On a GPU the figures wait on the device; what is logged and watched must not depend on it."""
    figures = loop._Figures("classifier", 0.02, every=3)
    read = []
    for done in range(1, 8):
        figures.add(done, {"loss": torch.tensor(float(done)), "accuracy": torch.tensor(done / 10)})
        read.append([at for at, _ in figures.read(now=done == 7)])
    assert read == [[], [], [1, 2, 3], [], [], [4, 5, 6], [7]] and figures.note == "loss 7.0000"
    figures.add(8, {"loss": torch.tensor(float("nan"))})
    figures.add(9, {"loss": torch.tensor(1.0)})
    with pytest.raises(loop.TrainingFailedError, match=r"not finite at step 8; .*--set classifier.lr=0.005"):
        figures.read(now=False)


def test_a_checkpoint_of_another_key_is_not_used(tiny_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    net, batches = make(tiny_csv)
    with pytest.raises(KeyboardInterrupt):
        train(Interrupting(net, CONFIG), batches, CONFIG, settings(tmp_path))
    fresh, batches = make(tiny_csv)
    straight, _ = make(tiny_csv)
    train(ClassifierObjective(fresh, CONFIG), batches, CONFIG, settings(tmp_path, key="other"))
    train(ClassifierObjective(straight, CONFIG), batches, CONFIG, settings(tmp_path / "new"))
    assert same(state(fresh), state(straight))


def test_batch_norm_and_stem_stay_as_they_were(tiny_csv, tmp_path):
    net, batches = make(tiny_csv)
    before = state(net)
    train(ClassifierObjective(net, CONFIG), batches, CONFIG, settings(tmp_path))
    after = state(net)
    frozen = [name for name in before if "running" in name or ".bn" in name or "conv1.0." in name]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert not torch.equal(before["backbone.net.layer4.0.conv1.weight"], after["backbone.net.layer4.0.conv1.weight"])


def test_the_loss_falls(tiny_csv, tmp_path):
    config = CONFIG.model_copy(update={"lr": 0.003, "batch_size": 8})
    _, batches = make(tiny_csv, steps=20, crop=80, batch_size=8)  # a smaller crop may miss what the label names
    net = ClassifierNet(Backbone("tf_efficientnet_lite0"), 2)
    load_backbone_weights(net.backbone, "embedded")
    losses = []
    log = settings(tmp_path, lambda **event: losses.append(event["loss"]))
    train(ClassifierObjective(net, config), batches, config, log)
    assert losses[-1] < 0.3 * losses[0]


def test_a_frozen_backbone_trains_the_softmax_head_alone(tiny_csv, tmp_path):
    classifier, batches = make(tiny_csv)
    config = RecamConfig(lr=0.5, backbone_lr_factor=0.0, batch_size=2)
    net = RecamNet(classifier, config, background=True)
    before = state(net)
    figures = train(RecamObjective(net, config), batches, config, settings(tmp_path))
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["head.weight"]
    assert set(figures) == {"loss", "loss_bce", "loss_sce", "accuracy"}


def test_the_published_recam_trains_everything(tiny_csv, tmp_path):
    classifier, batches = make(tiny_csv)
    config = RecamConfig(lr=0.05, backbone_lr_factor=0.1, batch_size=2, head_init="random")
    net = RecamNet(classifier, config, background=True)
    before = state(net)
    train(RecamObjective(net, config), batches, config, settings(tmp_path))
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {"head.weight", "classifier.head.weight", "classifier.backbone.net.layer4.0.conv1.weight"} <= changed


def test_learning_rates_decay_from_lr_to_nearly_zero(tiny_csv, tmp_path):
    rates = []
    net, batches = make(tiny_csv, steps=20)
    train(ClassifierObjective(net, CONFIG), batches, CONFIG, settings(tmp_path, lambda **e: rates.append(e["lr"])))
    assert rates == pytest.approx([0.01 * (1 - 9 / 20) ** 0.9, 0.01 * (1 - 19 / 20) ** 0.9])
    assert poly_factor(0, 10, 0.9) == 1.0


def test_a_diverging_loss_names_the_setting(tiny_csv, tmp_path):
    net, batches = make(tiny_csv)
    net.head.weight.data.fill_(float("nan"))
    with pytest.raises(RecamlabelError, match=r"not finite at step 1; lower the learning rate.*--set classifier.lr"):
        train(ClassifierObjective(net, CONFIG), batches, CONFIG, settings(tmp_path))


class Dropping(ClassifierObjective):
    """Has what stages have that draw by torch's generator: dropout and CutMix."""

    def loss(self, batch):
        drawn.append(torch.rand(3).tolist())
        return super().loss(batch)


drawn: list[list[float]] = []


def test_what_is_drawn_in_a_step_is_the_seeds(tiny_csv, tmp_path):
    seen = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        drawn.clear()
        net, batches = make(tiny_csv)
        train(Dropping(net, CONFIG), batches, CONFIG, replace(settings(tmp_path / name), seed=seed))
        seen[name] = list(drawn)
    assert seen["a"] == seen["b"] and len({tuple(one) for one in seen["a"]}) == 6
    assert all(one != other for one, other in zip(seen["a"], seen["c"], strict=True))
