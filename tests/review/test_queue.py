"""In what order a person looks at the masks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.data.catalog import load_catalog
from recamlabel.review.page.queue import diverse_order, review_queue
from recamlabel.review.page.tables import QualityScores
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("a", "b")
LABELS = ["a", "a", "a", "a", "b"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    maps = np.zeros((1, 2, 2))
    images = [TinyImage(str(n), (label,), maps, maps, np.zeros((4, 4), np.uint8)) for n, label in enumerate(LABELS)]
    return make_run(tmp_path, CLASSES, images)


def quality(missing: str = "") -> QualityScores:
    rows = {str(n): {"score": 0.1 + 0.05 * n, "missing": ["a"] if str(n) == missing else []} for n in range(5)}
    return QualityScores(tuple(sorted(rows, key=lambda name: (name != missing, rows[name]["score"]))), rows)


def queue(run: RunFolder, scores: QualityScores) -> str:
    images = load_catalog(run.path / "work/dataset.json").images
    return "".join(image.id for image in review_queue(run, images, scores))


def test_each_class_gets_an_early_look(run: RunFolder) -> None:
    assert queue(run, quality()) == "04123", "the worst of a, the worst of b, then the doubtful ones"
    assert queue(run, quality(missing="3")) == "34012", "certainly wrong masks come first, and each class early"


def test_what_is_alike_comes_later(run: RunFolder) -> None:
    with h5py.File(run.path / "work/features.h5", "w") as file:
        for name, row in zip("01234", [[5, 0, 0], [5, 0.1, 0], [5, 0, 0.1], [-5, 5, 0], [-5, -5, 0]], strict=True):
            file[name] = np.array(row, np.float32)
    run.finish("features", "features-key", 1.0, ["work/features.h5"])
    assert queue(run, quality()) == "04312", "3 looks like nothing before, 1 and 2 like 0"


def test_an_order_by_hand() -> None:
    doubt = np.array([0.9, 0.8, 0.7, 0.6])
    blocks = np.kron(np.eye(2), np.ones((2, 2)))
    assert diverse_order(doubt, np.zeros((4, 4)), [], 4) == [0, 1, 2, 3]
    assert diverse_order(doubt, blocks, [], 4) == [0, 2, 1, 3]
    assert diverse_order(doubt, blocks, [], 1) == [0, 1, 2, 3], "the rest keeps its order"
    assert diverse_order(doubt, blocks, [3], 4) == [3, 0, 1, 2]
    assert diverse_order(doubt[:0], blocks[:0, :0], [], 4) == []
