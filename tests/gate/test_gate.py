"""The gate on arrays made by hand: what it names, what it leaves alone, and what does not change it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recamlabel.gate.config import GateConfig
from recamlabel.gate.gate import Gate, assess
from recamlabel.gate.verdicts import Pair, co_occurrence, lucky_precision

APART = ": images with only one of them, boxes or about 20 masks would help"
NAMES = ("cat", "dog", "rail")


def scene(count: int = 90, seed: int = 0, blur: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Every class on an axis of its own, present and absent 2 apart, with right labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, len(NAMES))) < 0.4).astype(np.int8)
    return 2.0 * labels + rng.normal(0, blur, labels.shape), labels


def gate(
    features: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = NAMES, training: np.ndarray | None = None
) -> Gate:
    everyone = np.ones(len(labels), dtype=bool) if training is None else training
    ids = [f"{number:03d}" for number in range(len(labels))]
    return assess(features, labels, everyone, ids, names, GateConfig())


def verdicts(found: Gate) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one.name: (one.verdict, one.reasons) for one in found.classes}


def test_clean_data_are_ok() -> None:
    found = gate(*scene())
    assert verdicts(found) == dict.fromkeys(NAMES, ("ok", ()))
    assert found.pairs == found.doubtful == found.missing == () and found.lines() == [] and found.images == 90
    assert all(one.ap == pytest.approx(1.0) and one.positives + one.negatives == 90 for one in found.classes)


def test_everything_it_says_of_a_tiny_set() -> None:
    labels = np.array([[1, 1], [1, 1], [0, 0], [0, -1]], dtype=np.int8)
    found = gate(np.array([[1.0], [1.0], [0.0], [0.0]]), labels, ("rail", "train"))
    assert found.to_json() == {
        "classes": [
            {
                "name": "rail",
                "positives": 2,
                "negatives": 2,
                "unknown": 0,
                "ap": 1.0,
                "ap_held_out": None,
                "chance": 0.5,
                "doubtful": 0,
                "missing": 0,
                "verdict": "do not trust",
                "reasons": [
                    "only 2 training images with it: too rare to learn",
                    "only 2 training images without it",
                    "cannot be told apart from train" + APART,
                ],
            },
            {
                "name": "train",
                "positives": 2,
                "negatives": 1,
                "unknown": 1,
                "ap": None,
                "ap_held_out": None,
                "chance": 0.666667,
                "doubtful": 0,
                "missing": 0,
                "verdict": "do not trust",
                "reasons": [
                    "only 2 training images with it: too rare to learn",
                    "only 1 training image without it",
                    "cannot be told apart from rail" + APART,
                ],
            },
        ],
        "pairs": [
            {
                "first": "rail",
                "second": "train",
                "relation": "cannot be told apart",
                "share": 1.0,
                "share_back": 1.0,
                "together": 2,
            }
        ],
        "doubtful": [],
        "missing": [],
        "images": 4,
        "note": "",
    }
    json.dumps(found.to_json(), allow_nan=False)
    assert found.lines()[0] == (
        "rail: do not trust: only 2 training images with it: too rare to learn; only 2 training images without it; "
        "cannot be told apart from train" + APART
    )


def test_injected_noise_is_found_and_little_else() -> None:
    features, labels = scene(300, blur=0.05)
    rng = np.random.default_rng(1)
    wrong = {(int(row), int(rng.integers(3))) for row in rng.permutation(300)[:24]}
    noisy = labels.copy()
    for row, number in wrong:
        noisy[row, number] = 1 - noisy[row, number]
    found = gate(features, noisy)
    for suspects, value in ((found.doubtful, 1), (found.missing, 0)):
        listed = {(int(one.image), NAMES.index(one.name)) for one in suspects}
        injected = {(row, number) for row, number in wrong if noisy[row, number] == value}
        assert injected <= listed, "every injected label is listed"
        first = {(int(one.image), NAMES.index(one.name)) for one in suspects[: len(injected)]}
        assert first == injected, "and comes before all others"
    counts = [sum(one.name == name for one in found.doubtful) for name in NAMES]
    assert [one.doubtful for one in found.classes] == counts


def test_suspects_outside_the_training_splits_are_listed_too() -> None:
    features, labels = scene(120, blur=0.05)
    training = np.arange(120) < 90
    wrong = [*np.flatnonzero(labels[:90, 0])[:3], *np.flatnonzero(labels[:90, 0] == 0)[:3], 100, 101]
    labels[wrong, 0] = 1 - labels[wrong, 0]
    found = gate(features, labels, training=training)
    listed = [(one.image, one.name) for one in (*found.doubtful, *found.missing)]
    assert sorted(listed) == sorted((f"{row:03d}", "cat") for row in wrong)
    assert found.classes[0].positives == (labels[:90, 0] == 1).sum()


def test_a_class_that_is_not_recognised_has_no_list_and_no_trust() -> None:
    features, labels = scene()
    labels[:, 1] = np.random.default_rng(5).permutation(labels[:, 1])
    found = gate(features, labels)
    assert verdicts(found)["cat"][0] == verdicts(found)["rail"][0] == "ok"
    verdict, reasons = verdicts(found)["dog"]
    assert verdict == "do not trust" and reasons[0].startswith("average precision 0.")
    assert {one.name for one in (*found.doubtful, *found.missing)} == set()


@pytest.mark.parametrize("count", [40, 60, 150])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_labels_drawn_at_random_are_not_trusted(count: int, share: float) -> None:
    """Whatever the features: no class of such a set is called weak or ok because of one lucky ranking."""
    trusted = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = (rng.random((count, len(NAMES))) < share).astype(np.int8)
        found = gate(rng.normal(size=(count, 128)), labels)
        trusted += [one for one in found.classes if one.verdict != "do not trust"]
    assert trusted == []


def test_lucky_precision_falls_with_the_number_of_images() -> None:
    lucky = [lucky_precision(count // 5, count - count // 5) for count in (20, 60, 300, 900)]
    assert lucky == sorted(lucky, reverse=True) and lucky[0] > 0.5 and 0.2 < lucky[-1] < 0.27
    assert lucky_precision(0, 5) == lucky_precision(5, 0) == lucky_precision(500, 600) == 0.0


def test_company_is_named() -> None:
    features, labels = scene()
    labels[:, 1] = labels[:, 0]
    labels[labels[:, 2] == 1, 0] = labels[labels[:, 2] == 1, 1] = 1
    found = verdicts(gate(features, labels))
    assert found["cat"] == ("do not trust", ("cannot be told apart from dog" + APART,))
    assert found["dog"] == ("do not trust", ("cannot be told apart from cat" + APART,))
    assert found["rail"] == (
        "weak",
        (
            "never seen without cat, whose masks may take its pixels",
            "never seen without dog, whose masks may take its pixels",
        ),
    )


def test_co_occurrence_by_hand() -> None:
    labels = np.array(
        [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, -1], [0, 0, 1, -1], [0, 0, 0, 1], [-1, 1, 0, 1]], dtype=np.int8
    )
    found = co_occurrence(labels, list("abcd"), 1.0)
    # a's two images have b; b's known ones (3) have a in two; d is alone with b in one of two.
    assert found == (Pair("a", "b", "never seen without", 1.0, 2 / 3, 2),)
    assert [(pair.first, pair.second) for pair in co_occurrence(labels, list("abcd"), 0.6)] == [
        ("a", "b"), ("c", "b"),
    ]  # fmt: skip
    assert co_occurrence(labels[:1], list("abcd"), 0.5) == (), "one image says nothing"
    everything = np.ones((3, 5000), dtype=np.int8)
    assert co_occurrence(everything, list(map(str, range(5000))), 0.5) == (), "25 million pairs, which nobody reads"


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([1] * 30, "every training image has it, so nothing shows what it is not: add images without it (20 or more)"),
        ([0] * 30, "no training image has it"),
        ([-1] * 30, "its label is unknown in every training image"),
        ([1] + [0] * 29, "only 1 training image with it: too rare to learn"),
        ([1] * 4 + [0] * 26, "only 4 training images with it: too rare to learn"),
        ([0] * 2 + [1] * 28, "only 2 training images without it"),
    ],
)
def test_counts_alone_can_forbid_trust(column: list[int], reason: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(column, dtype=np.int8)[:, None]
    found = gate(labels + rng.normal(0, 0.1, (30, 3)), labels, ("one",))
    assert verdicts(found)["one"][0] == "do not trust" and verdicts(found)["one"][1][0] == reason
    assert (found.classes[0].ap is None) == (min(column.count(0), column.count(1)) < 2)


def test_few_images_are_weak() -> None:
    features, labels = scene(30)
    labels[:, 0] = np.arange(30) < 10
    features[:, 0] = 3 * labels[:, 0]
    assert verdicts(gate(features, labels))["cat"] == ("weak", ("only 10 training images with it",))


def test_one_image_and_no_training_image() -> None:
    labels = np.array([[1, 0]], dtype=np.int8)
    found = gate(np.ones((1, 4)), labels, ("a", "b"))
    assert [one.verdict for one in found.classes] == ["do not trust"] * 2 and found.images == 1
    found = gate(np.ones((1, 4)), labels, ("a", "b"), training=np.zeros(1, dtype=bool))
    assert [one.chance for one in found.classes] == [None, None]


@pytest.mark.parametrize("seed", range(3))
def test_neither_order_changes_anything(seed: int) -> None:
    features, labels = scene(60)
    labels[4, 0] = 1 - labels[4, 0]
    labels[9, 2] = -1
    labels[:, 1] = labels[:, 0]
    ids = [f"{number:03d}" for number in range(60)]
    training = np.arange(60) % 5 > 0
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(60), rng.permutation(3)
    found = assess(features, labels, training, ids, NAMES, GateConfig())
    again = assess(
        features[rows],
        labels[rows][:, columns],
        training[rows],
        [ids[row] for row in rows],
        [NAMES[column] for column in columns],
        GateConfig(),
    )
    assert {one.name: one for one in again.classes} == {one.name: one for one in found.classes}
    assert (again.pairs, again.doubtful, again.missing) == (found.pairs, found.doubtful, found.missing)


def test_random_features_carry_their_warning() -> None:
    features, labels = scene()
    ids = [str(number) for number in range(90)]
    found = assess(features, labels, np.ones(90, bool), ids, NAMES, GateConfig(), random_features=True)
    assert found.lines() == [found.note] and "not to be used" in found.note


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match=r"expected features \(3, D\), labels \(3, 2\)"):
        assess(np.ones((2, 4)), np.ones((3, 2), np.int8), np.ones(3, bool), list("abc"), ["a", "b"], GateConfig())
