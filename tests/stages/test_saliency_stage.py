"""The stage ``saliency`` in a run: what it mixes, leaves alone and says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recamlabel.cli.main import run as command
from recamlabel.config import load_config
from recamlabel.errors import ConfigError
from recamlabel.run.fit import fit
from tests.helpers import TINY, arrays

LINES = [*TINY, "refine.method=none"]


def fitted(folder: Path, copy_run: Any, saliency: Path, *lines: str) -> Any:
    data, run = copy_run(folder, *LINES, until="probe")
    return fit(data, run.path, load_config(assignments=[*LINES, f"refine.saliency={saliency}", *lines]))


@pytest.fixture
def truth(copy_run: Any, tmp_path: Path) -> Path:
    """The true masks as saliency; one image has none, one has nothing in it."""
    copy_run(tmp_path / "for truth", *LINES, until="probe")
    folder = tmp_path / "saliency" / "images"
    folder.mkdir(parents=True)
    for path in (tmp_path / "for truth" / "truth").glob("*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(((mask > 0) * (path.stem != "1") * 255).astype(np.uint8)).save(folder / path.name)
    (folder / "0.png").unlink()
    return folder.parent


def test_maps_are_mixed_by_agreement(
    truth: Path, copy_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(tmp_path / "one", copy_run, truth, "refine.saliency_weight=1")
    said = capsys.readouterr().err
    facts = run.state.stages["saliency"]
    assert "saliency: 1 of 8 images have no map (images/0): their class maps stay" in said
    assert "saliency: 1 maps are the same everywhere and say nothing" in said
    assert f"saliency: agrees with the class maps by {facts['agreement']:.2f}" in said
    assert (facts["missing"], facts["flat"]) == (1, 1)
    before, after = arrays(run.path / "work/fused.h5"), arrays(run.path / "work/salient.h5")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    if facts["weight"] > 0:
        # Image 3 has no label, 0 no saliency, 1 an empty one.
        assert changed == {f"recam/images/{number}" for number in (2, 4, 5, 6, 7)}
    else:
        assert changed == set()
    # The content counts, not the place.
    key = run.state.stages["saliency"]["key"]
    lines = [*LINES, f"refine.saliency={truth}", "refine.saliency_weight=1"]
    again = fit(tmp_path / "one" / "data", run.path, load_config(assignments=lines), until="saliency")
    assert again.state.stages["saliency"]["key"] == key
    Image.fromarray(np.full((64, 80), 9, np.uint8)).save(truth / "images" / "2.png")
    again = fit(tmp_path / "one" / "data", run.path, load_config(assignments=lines), until="saliency")
    assert again.state.stages["saliency"]["key"] != key and again.state.stages["saliency"]["flat"] == 2


def test_no_image_has_one(copy_run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"none of the 8 images has a map; expected for example images/0\.png"):
        fitted(tmp_path / "one", copy_run, tmp_path / "empty")


def test_a_wrong_path_is_said_before_anything_is_read(tiny_csv: Path, tmp_path: Path, capsys: Any) -> None:
    code = command(["fit", str(tiny_csv), "--out", str(tmp_path / "run"), "--saliency", str(tmp_path / "nowhere")])
    assert code != 0 and "refine.saliency" in capsys.readouterr().err and not (tmp_path / "run").exists()
