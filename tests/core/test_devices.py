from __future__ import annotations

import pytest
import torch

from recamlabel.core.devices import Halving


def doubled(room, seen):
    def work(items):
        seen.append(len(items))
        if len(items) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    return work


def test_what_does_not_fit_is_done_in_halves_from_then_on(capsys):
    halving, seen = Halving("maps"), []
    assert halving(doubled(2, seen), [1, 2, 3, 4, 5, 6, 7]) == [[2], [4], [6], [8], [10], [12], [14]]
    assert seen == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert capsys.readouterr().err.splitlines() == [
        "maps: the GPU's memory does not hold 7 images at once; going on with 3",
        "maps: the GPU's memory does not hold 3 images at once; going on with 1",
    ]
    seen.clear()
    assert halving(doubled(2, seen), [1, 2]) == [[2], [4]] and seen == [1, 1]


def test_one_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Halving("maps")(doubled(0, []), [1, 2])
    with pytest.raises(ZeroDivisionError):
        Halving("maps")(lambda items: 1 // 0, [1])
