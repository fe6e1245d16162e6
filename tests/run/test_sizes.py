"""Batches of 2 and of 32, one class and two hundred: trained, mapped and masked without a word of complaint."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from PIL import Image

from recamlabel.config import load_config
from recamlabel.run.fit import fit
from tests.helpers import TINY


@pytest.mark.parametrize(("classes", "batch"), [(1, 2), (1, 32), (200, 2), (200, 32)])
def test_few_and_many_classes_in_small_and_large_batches(tmp_path, classes, batch):
    rng = np.random.default_rng(classes)
    rows = ["image,labels"]
    for number in range(12):
        present = {int(one) for one in rng.integers(0, classes, 2)} if number % 3 else set()
        image = rng.integers(90, 130, (40, 48, 3)).astype(np.uint8)
        image[8:24, 8:24, number % 3] = 250 if present else 100
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{' '.join(f'class{one:03d}' for one in sorted(present))}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "classes.txt").write_text("\n".join(f"class{one:03d}" for one in range(classes)))
    lines = [*TINY, f"classifier.batch_size={batch}", f"recam.batch_size={batch}", "augment.crop_size=48"]
    run = fit(tmp_path / "labels.csv", tmp_path / "run", load_config(assignments=lines))
    assert run.state.stages["classifier"]["guess"] > 0
    with h5py.File(run.path / "masks.h5") as masks:
        for number in range(12):
            assert masks[str(number)].shape == (40, 48) and masks[str(number)][()].dtype == np.uint8
            assert number % 3 or not masks[str(number)][()].any()
