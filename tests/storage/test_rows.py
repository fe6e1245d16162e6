"""A table on the disk gives what one in memory gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recamlabel.gate.crossval import out_of_fold
from recamlabel.gate.head_start import logistic_head
from recamlabel.storage.rows import RowTable

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[RowTable]:
    with RowTable(iter(ROWS), len(ROWS), tmp_path, in_memory=1000) as table:
        yield table


def test_rows_by_position(on_disk: RowTable, tmp_path: Path) -> None:
    for table in (on_disk, RowTable(iter(ROWS), len(ROWS), tmp_path, in_memory=1200)):
        assert table.shape == (60, 5)
        assert table[np.array([59, 0, 0, 7])].tolist() == ROWS[[59, 0, 0, 7]].tolist()
        block = table[np.array([3])]
        block[:] = 9
        assert table[np.array([3])].tolist() == ROWS[[3]].tolist()


def test_no_row(tmp_path: Path) -> None:
    assert RowTable([], 0, tmp_path).shape == (0, 0)
    assert RowTable([], 0, tmp_path)[np.array([], np.intp)].shape == (0, 0)


def test_the_gate_and_the_head_say_the_same(on_disk: RowTable) -> None:
    labels = (ROWS[:, :2] + 0.3 * ROWS[:, 2:4] > 0).astype(np.int8)
    ids = [str(number) for number in range(len(ROWS))]
    training = np.arange(len(ROWS)) < 50
    assert np.array_equal(out_of_fold(on_disk, labels, training, ids), out_of_fold(ROWS, labels, training, ids))
    assert np.array_equal(logistic_head(on_disk, labels, ids, 1.0), logistic_head(ROWS, labels, ids, 1.0))


def test_nothing_is_left_in_the_folder(on_disk: RowTable, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
