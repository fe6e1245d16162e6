"""A training that has learnt nothing is noticed, started again with a quarter of the rate, and never gone on with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recamlabel.adapters import load_dataset
from recamlabel.config import load_config
from recamlabel.data.catalog import Catalog
from recamlabel.errors import RecamlabelError
from recamlabel.gate.head_start import logistic_head
from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.depthwise import DepthwiseConv2d, quicken_depthwise
from recamlabel.models.networks import ClassifierNet
from recamlabel.stages import classifier as stage
from recamlabel.stages.classifier import STAGE, refuse_noise
from recamlabel.stages.graph import Scope
from recamlabel.stages.training import Verdict, make_batches, run_training
from recamlabel.stages.view import View
from recamlabel.storage.run_folder import RunFolder
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.watch import TrainingFailedError, Watch, entropy, label_entropy

STEPS = ["classifier.batch_size=2", "classifier.min_steps=45", "classifier.max_steps=45"]
SMALL = ["augment.crop_size=16", "augment.resize_min=16", "augment.resize_max=20", "runtime.device=cpu"]


def test_guessing_by_hand():
    # Class 0: half of the images; class 1: known twice, never there; class 2: unknown everywhere.
    labels = np.array([[1, 0, -1], [0, 0, -1], [1, -1, -1], [0, -1, -1]], dtype=np.int8)
    assert label_entropy(labels) == pytest.approx((4 * np.log(2) + 2 * 0) / 6)
    assert label_entropy(np.full((2, 1), -1, dtype=np.int8)) == 0
    assert entropy([1, 1, 2]) == pytest.approx(1.5 * np.log(2)) and entropy([]) == 0


def test_guessing_is_what_a_constant_classifier_reaches():
    from recamlabel.models.losses import masked_multilabel_loss

    labels = np.array([[1, 0], [1, 0], [0, 1], [1, -1]], dtype=np.int8)
    share = torch.tensor([3 / 4, 1 / 3])
    constant = torch.log(share / (1 - share)).expand(4, 2)
    assert label_entropy(labels) == pytest.approx(float(masked_multilabel_loss(constant, torch.from_numpy(labels))))


def test_guessing_with_weights_by_hand():
    # Class 0: 1 of 4, weighted 3: as if half were there, at a weight of 3 * 1/4 + 3/4 = 1.5 a label. Class 1: 1 of 2.
    labels = np.array([[1, 1], [0, 0], [0, -1], [0, -1]], dtype=np.int8)
    weights = np.array([3.0, 1.0])
    assert label_entropy(labels, weights) == pytest.approx((4 * 1.5 * np.log(2) + 2 * np.log(2)) / 6)
    assert label_entropy(labels, np.ones(2)) == label_entropy(labels)
    assert label_entropy(np.full((2, 1), -1, dtype=np.int8), np.array([3.0])) == 0


def test_no_constant_answer_has_less_than_guessing_with_weights():
    from recamlabel.models.losses import masked_multilabel_loss

    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, -1, 1], [0, 0, 1]], dtype=np.int8)
    weights = np.array([4.0, 2.5, 1.0])
    share = np.array([4 / (4 + 4), 2.5 / (2.5 + 3), 1 - 1e-9])
    best = torch.tensor(np.log(share / (1 - share))).expand(5, 3)

    def loss(logits):
        return float(masked_multilabel_loss(logits, torch.from_numpy(labels), torch.from_numpy(weights)))

    assert label_entropy(labels, weights) == pytest.approx(loss(best), abs=1e-6)
    for number in range(2):
        for step in (-0.3, 0.3):
            other = best.clone()
            other[:, number] += step
            assert loss(other) > loss(best) + 1e-3


def test_a_loss_at_the_entropy_of_the_labels_is_no_success():
    watch = Watch("classifier", guess=0.45)
    for done in range(1, 301):
        watch.see(done, 300, {"loss": 0.45})
    assert watch.failure(300) == "the loss is 0.450 where guessing has 0.450 after all 300 steps"


def test_a_loss_above_guessing_is_given_up_after_a_third():
    watch = Watch("classifier", guess=0.45)
    with pytest.raises(
        TrainingFailedError, match=r"the loss is 0\.900 where guessing has 0\.450 after 100 of 300 steps"
    ):
        for done in range(1, 301):
            watch.see(done, 300, {"loss": 0.9})
    assert len(watch.recent) == 30


def test_a_resumed_training_is_not_given_up_for_its_first_losses():
    watch = Watch("classifier", guess=0.45)
    for done in range(101, 130):
        watch.see(done, 300, {"loss": 0.9})
    with pytest.raises(TrainingFailedError, match="after 130 of 300 steps"):
        watch.see(130, 300, {"loss": 0.9})


def test_nothing_to_guess_and_few_steps_are_not_judged():
    for guess, steps in ((None, 300), (0.0, 300), (0.45, 39)):
        watch = Watch("classifier", guess)
        for done in range(1, steps + 1):
            watch.see(done, steps, {"loss": 0.9})
        assert watch.failure(steps) == ""


@pytest.fixture
def context(tiny_csv, tmp_path) -> View:
    dataset = load_dataset(tiny_csv)
    catalog = Catalog(dataset, {}, {image.id: image.id for image in dataset.images})
    config = load_config("quick", assignments=STEPS + SMALL)
    return View(
        RunFolder.create(tmp_path / "run"),
        catalog,
        config,
        torch.device("cpu"),
        "classifier",
        "k",
        tuple(STAGE.reads(Scope(config, catalog))),
    )


def test_weights_of_rare_classes_are_in_the_loss_and_in_guessing(context, monkeypatch):
    """Of six training images one is red (5 absent for 1 present) and three are blue."""
    images = []
    for number, image in enumerate(context.catalog.dataset.images):
        present = image.present if number == 0 else image.present - {"red"}
        images.append(replace(image, present=present, absent=frozenset({"red", "blue"}) - present))
    dataset = replace(context.catalog.dataset, images=tuple(images))
    settings = ["classifier.rare_weight=4", "classifier.head_init=random", "backbone.weights=none"]
    config = load_config("quick", assignments=[*STEPS, *SMALL, *settings, "backbone.name=resnet10t"])
    view = replace(context, catalog=replace(context.catalog, dataset=dataset), settings=config)
    labels = dataset.labels(view.catalog.training_images(config.data.train_splits))
    assert (labels == 1).sum(axis=0).tolist() == [1, 3] and labels.shape == (6, 2)
    seen = []
    monkeypatch.setattr(stage, "run_training", lambda *arguments, **options: seen.append(arguments) or {})
    monkeypatch.setattr(stage, "save_trained", lambda *arguments: None)
    stage.run_classifier(view)
    ((_, objective, batches, _, guess),) = seen
    # 4 * 1/6 present beside 5/6 absent: as if 4 of 9 were there, at a weight of 9/6 a label.
    assert guess == pytest.approx((9 / 6 * entropy([4, 5]) + np.log(2)) / 2)
    batch = batches[0].to(torch.device("cpu"))
    objective.module.head.weight.data.zero_()
    weighed = [4 if red else 1 for red in (batch.labels[:, 0] == 1).tolist()]
    assert float(objective.loss(batch)[0].detach()) == pytest.approx(np.log(2) * (sum(weighed) + 2) / 4)


class Dead(ClassifierObjective):
    """A network whose loss is what is put in; remembers the rates it was started with."""

    def __init__(self, net, config, losses):
        super().__init__(net, config)
        self.losses, self.starts = losses, []

    def loss(self, batch):
        if batch.step == 0:
            self.starts.append(self.module.head.weight.detach().clone())
        value = self.losses[len(self.starts) - 1]
        return self.module.head.weight.sum() * 0 + value, {}


def dead(context: View, *losses: float) -> tuple[Dead, object]:
    torch.manual_seed(0)
    net = ClassifierNet(Backbone("resnet10t"), 2)
    config = context.config.classifier
    return Dead(net, config, losses), make_batches(context, config, net.backbone, 0)


def rates(context: View) -> list[float]:
    return [event["lr"] for event in context.run.events() if event["event"] == "step" and event["step"] == 40]


def test_a_second_start_has_the_first_weights_and_a_quarter_of_the_rate(context, capsys):
    objective, batches = dead(context, 0.9, 0.1)
    facts = run_training(context, objective, batches, context.config.classifier, 0.69)
    assert facts["restarts"] == 1 and facts["reached"] == 0.1 and facts["guess"] == 0.69 and "useless" not in facts
    assert torch.equal(objective.starts[0], objective.starts[1])
    one, two = rates(context)
    assert two == pytest.approx(one / 4)
    assert "0.900 where guessing has 0.690 after all 45 steps: nothing was learnt; again with" in (
        capsys.readouterr().err
    )


def test_the_second_failure_stops_with_what_was_seen_and_what_to_try(context):
    objective, batches = dead(context, 0.9, 0.8)
    with pytest.raises(RecamlabelError) as error:
        run_training(context, objective, batches, context.config.classifier, 0.69)
    for part in ("loss is 0.900", "loss is 0.800", "guessing has 0.690", "--set classifier.lr=", "--force"):
        assert part in str(error.value)
    assert not list((context.run.path / "weights").glob("*")) if (context.run.path / "weights").exists() else True


def test_force_goes_on_and_marks_the_result(context, capsys):
    forced = load_config("quick", assignments=[*STEPS, *SMALL, "runtime.force=true"])
    context = replace(context, settings=forced)
    objective, batches = dead(context, 0.9, 0.8)
    facts = run_training(context, objective, batches, forced.classifier, 0.69)
    assert facts["useless"] is True and facts["restarts"] == 1
    assert "warning: classifier: nothing was learnt" in capsys.readouterr().err


def test_a_stage_own_check_counts_as_well(context):
    objective, batches = dead(context, 0.1, 0.1)
    verdicts = iter([Verdict("its average precision is that of guessing"), Verdict("", {"ap": 0.9})])
    facts = run_training(context, objective, batches, context.config.classifier, 0.69, check=lambda: next(verdicts))
    assert facts["ap"] == 0.9 and facts["restarts"] == 1


def test_a_network_that_is_worse_but_not_dead_is_gone_on_with_after_the_second_start(context, capsys):
    objective, batches = dead(context, 0.1, 0.1)
    worse = Verdict("its average precision is 0.61 where 0.68 was", {"ap": 0.61}, dead=False)
    facts = run_training(context, objective, batches, context.config.classifier, 0.69, check=lambda: worse)
    assert facts["ap"] == 0.61 and facts["restarts"] == 1 and "useless" not in facts
    assert "after two trainings; going on with the second" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_starts_again(context):
    objective, batches = dead(context, float("nan"), 0.1)
    facts = run_training(context, objective, batches, context.config.classifier, 0.69)
    assert facts["restarts"] == 1 and facts["reached"] == 0.1


def test_an_interrupted_second_start_goes_on_as_the_second(context, monkeypatch):
    import recamlabel.training.loop as loop

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    objective, batches = dead(context, 0.9, 0.1)
    plain = objective.loss

    def stop(batch):
        if len(objective.starts) == 2 and batch.step == 20:
            raise KeyboardInterrupt
        return plain(batch)

    objective.loss = stop
    with pytest.raises(KeyboardInterrupt):
        run_training(context, objective, batches, context.config.classifier, 0.69)
    resumed, batches = dead(context, 0.1)
    resumed.starts.append(resumed.module.head.weight)
    facts = run_training(context, resumed, batches, context.config.classifier, 0.69)
    assert facts["restarts"] == 1 and len(resumed.starts) == 1  # no step 0 in this process


def test_a_damaged_checkpoint_is_dropped_with_a_line(context, capsys):
    (context.run.path / "weights").mkdir(parents=True)
    for content in (b"", b"no checkpoint", b"PK\x03\x04" + bytes(40)):
        (context.run.path / "weights" / "classifier.checkpoint").write_bytes(content)
        objective, batches = dead(context, 0.1)
        run_training(context, objective, batches, context.config.classifier, 0.69)
        assert "a damaged checkpoint, removed" in capsys.readouterr().err


def gate_json(run: RunFolder, *figures: tuple[float, float]) -> None:
    write_gate(run, [{"name": f"c{place}", "ap": ap, "chance": chance} for place, (ap, chance) in enumerate(figures)])


def write_gate(run: RunFolder, classes: list[dict]) -> None:
    (run.path / "work/gate.json").write_text(json.dumps({"note": "", "classes": classes}))
    run.finish("gate", "k", 0.0, ["work/gate.json"])


def test_labels_drawn_at_random_stop_before_training(context):
    gate_json(context.run, (0.22, 0.2), (0.31, 0.3))
    with pytest.raises(
        TrainingFailedError, match=r"as if drawn at random.*'c0', average precision 0\.22, guessing has 0\.20"
    ):
        refuse_noise(context)


def test_a_lucky_ranking_of_few_images_is_no_reason_to_train(context):
    # 15 of 60: one random ranking in a hundred has an average precision of about 0.5.
    tree = [{"name": "a", "ap": 0.46, "chance": 0.25, "positives": 15, "negatives": 45}]
    write_gate(context.run, tree)
    with pytest.raises(TrainingFailedError, match=r"guessing has 0\.25, and up to 0\.\d\d with luck"):
        refuse_noise(context)
    tree[0]["ap"] = 0.7
    write_gate(context.run, tree)
    refuse_noise(context)


def test_the_gate_of_other_labels_says_nothing(context):
    gate_json(context.run, (0.22, 0.2))
    context.run.state.plan = {"gate": "of the labels as they are now"}
    refuse_noise(context)


def test_one_class_that_can_be_told_is_enough_to_train(context):
    gate_json(context.run, (0.9, 0.2), (0.3, 0.3), (0.3, 0.3))
    refuse_noise(context)


def test_the_head_does_not_depend_on_the_order_of_the_images():
    rng = np.random.default_rng(0)
    features, labels = rng.random((12, 5)), rng.integers(0, 2, (12, 2)).astype(np.int8)
    ids = [f"i{place}" for place in range(12)]
    head, order = logistic_head(features, labels, ids, 0.1), rng.permutation(12)
    again = logistic_head(features[order], labels[order], [ids[place] for place in order], 0.1)
    assert np.array_equal(head, again)


def test_the_quick_depthwise_gradient_is_the_plain_one():
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=0, groups=4, bias=False),
    )
    quick = nn.Sequential(*(nn.Conv2d(4, 4, c.kernel_size, 1, c.padding, c.dilation, 4, bias=False) for c in plain))
    quick.load_state_dict(plain.state_dict())
    assert quicken_depthwise(quick) == 2 and all(isinstance(module, DepthwiseConv2d) for module in quick)
    results = []
    for net in (plain, quick):
        images = torch.rand(2, 4, 9, 11, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = net(images)
        out.square().sum().backward()
        results.append((out.detach(), images.grad, *(parameter.grad for parameter in net.parameters())))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_convolutions_with_a_stride_or_of_one_channel_are_left_alone():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False), nn.Conv2d(1, 1, 3, bias=False))
    assert quicken_depthwise(net) == 0
