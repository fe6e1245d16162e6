"""The steps on their own, with a network that is none of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recamlabel import steps
from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.cam import class_activation, normalise_by_max

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


class Colours(nn.Module):
    """Sees red in feature 0 and blue in feature 1; its head weighs them with the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 1, bias=False)
        self.body.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[..., None, None]
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.eye(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean(dim=(2, 3)))


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images 4 x 4: the left half red and the right one blue; and red in the first row alone."""
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0, :, :2] = images[0, 2, :, 2:] = 1
    images[1, 0, 0] = 1
    return images, torch.tensor([[1, 1], [1, 0]])


def test_class_maps_are_the_formula() -> None:
    net, (images, labels) = Colours().eval(), pictures()
    maps = steps.class_maps(net, images, labels, layer="body", weight=net.head.weight)
    raw = class_activation(net.body(images), net.head.weight)
    assert torch.equal(maps[0], normalise_by_max(raw)[0].detach())
    assert maps[1, 0].round().tolist() == [[1.0] * 4] + [[0.0] * 4] * 3 and maps[1, 1].max() == 0
    assert not maps.requires_grad


def test_gradcam_of_a_linear_head_is_cam() -> None:
    net, (images, labels) = Colours().eval(), pictures()
    cam = steps.class_maps(net, images, labels, layer="body", weight=net.head.weight)
    assert torch.allclose(steps.class_maps(net, images, labels, layer="body", method="gradcam"), cam, atol=1e-4)
    with torch.no_grad():  # and where gradients are off around it
        assert torch.allclose(steps.class_maps(net, images, labels, layer="body", method="gradcam"), cam, atol=1e-4)


def test_recam_learns_a_head_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    net, batch = Colours().eval(), pictures()
    before = [value.clone() for value in net.state_dict().values()]
    weight = steps.train_recam(net, [batch], layer="body", weight=net.head.weight, epochs=30, rule="fc2")
    assert weight.shape == (2, 2) and weight[0, 0] > weight[0, 1] and weight[1, 1] > weight[1, 0]
    assert all(torch.equal(one, two) for one, two in zip(before, net.state_dict().values(), strict=True))
    again = steps.train_recam(net, lambda: [batch], layer="body", weight=net.head.weight, epochs=30, rule="fc2")
    assert torch.equal(weight, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "bodies"}, "no module of that name; it has … body, head"),
        ({"layer": "head"}, r"answers with \(2, 2\); expected features"),
        ({"weight": None}, "'cam' needs the classifier's weight"),
        ({"method": "cams"}, "method"),
        ({"labels": torch.ones(2, 3)}, "labels name 3 classes, the model has 2"),
        ({"labels": torch.ones(5)}, r"labels: expected \(2, K\), got \(5,\)"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}, "floating point, normalised"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    net, (images, labels) = Colours().eval(), pictures()
    given = {"images": images, "labels": labels, "layer": "body", "weight": net.head.weight, **change}
    with pytest.raises(ConfigError, match=message):
        steps.class_maps(net, given.pop("images"), given.pop("labels"), **given)  # type: ignore[arg-type]


def test_a_weight_of_another_network_is_refused() -> None:
    net, (images, labels) = Colours().eval(), pictures()
    with pytest.raises(RecamlabelError, match="with the same D"):
        steps.class_maps(net, images, labels, layer="body", weight=torch.ones(2, 7))
    with pytest.raises(ConfigError, match="batches: none"):
        steps.train_recam(net, [], layer="body", weight=net.head.weight)


def square(side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A red square on grey and a map that is a little too wide."""
    image = np.full((side, side, 3), 90, np.uint8)
    image[8:24, 8:24] = (220, 30, 30)
    soft = np.zeros((1, side, side), np.float32)
    soft[0, 6:26, 6:26] = 0.6
    soft[0, 9:23, 9:23] = 1.0
    return image, soft


def test_refined_maps_follow_the_picture() -> None:
    image, soft = square()
    scores = steps.refine(image, soft)
    mask = steps.to_mask(scores, [3], (32, 32), 0.5)
    truth = np.zeros((32, 32), np.uint8)
    truth[8:24, 8:24] = 3
    assert scores.shape == (1, 32, 32) and (mask == truth).mean() > 0.98
    assert np.array_equal(steps.refine(image, soft, method="none"), soft)
    assert steps.to_mask(np.zeros((0, 2, 2)), [], (2, 2), 0.5).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("call", ["refine", "mask", "score", "level"])
def test_a_range_that_is_none_is_refused(call: str) -> None:
    image, soft = square()
    wrong = soft * 255
    calls = {
        "refine": lambda: steps.refine(image, wrong),
        "mask": lambda: steps.to_mask(wrong, [1], (32, 32), 0.5),
        "score": lambda: steps.score_mask(wrong, soft, [1], 0.5),
        "level": lambda: steps.choose_level([image], [wrong], [[1]], lambda x: np.ones((len(x), 1))),
    }
    with pytest.raises(ConfigError, match=r"expected values in \[0, 1\], got 0 to 255; divide by 255"):
        calls[call]()
    with pytest.raises(ConfigError, match=r"got nan to nan"):
        steps.refine(image, soft * np.nan)


def test_the_walk_needs_a_run() -> None:
    with pytest.raises(ConfigError, match="needs the affinity net of a run"):
        steps.refine(*square(), method="random_walk")


def test_the_level_is_where_the_square_is() -> None:
    """The classifier sees a sharp red square; below 0.6 the region is wider than that."""
    image = np.full((32, 32, 3), 90, np.uint8)
    image[12:20, 12:20] = (220, 30, 30)
    soft = np.zeros((1, 32, 32), np.float32)
    soft[0, 10:22, 10:22] = 0.6
    soft[0, 12:20, 12:20] = 1.0

    def sees_red(images: object) -> np.ndarray:
        return np.array([[float((one[..., 0] == 220).sum()) / 64] for one in images])  # type: ignore[attr-defined]

    level = steps.choose_level([image] * 6, [soft] * 6, [[1]] * 6, sees_red)
    assert 0.6 <= level.threshold <= 0.95 and "without ground truth" in level.origin and len(level.curve) == 17
    with pytest.raises(ConfigError, match="1 images, 2 scores"):
        steps.choose_level([image], [soft] * 2, [[1]], sees_red)
    with pytest.raises(ConfigError, match=r"ask: expected probabilities \(2, K\) with K >= 3"):
        steps.choose_level([image], [soft], [[3]], sees_red)


def test_a_steady_mask_scores_better_than_one_that_hangs_on_the_level() -> None:
    soft = square()[1]
    edge = np.linspace(0, 1, 32, dtype=np.float32)[None, None].repeat(32, axis=1)
    steady, hanging = (steps.score_mask(one, one, [1], 0.5)[1] for one in (np.round(soft), edge))
    assert steady == 1.0 > hanging > 0
