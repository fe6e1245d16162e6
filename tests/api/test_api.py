from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY

import recamlabel
from recamlabel.config import load_config

# The example's own settings leave the segmenter its 300 steps and the probe its fifteen fits: minutes.
SHORT = {
    "classifier.min_steps": 3,
    "classifier.max_steps": 3,
    "recam.min_steps": 2,
    "recam.max_steps": 2,
    "probe.folds": 2,
    "probe.iterations": 1,
    "probe.fine_sides": [],
    "segmenter.enabled": False,
    "refine.method": "none",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from helpers import make_tiny_csv

    base = tmp_path_factory.mktemp("api")
    config = load_config("quick", assignments=[*TINY, "refine.method=none"])
    return recamlabel.fit(make_tiny_csv(base), str(base / "run"), config=config)


def test_iterating_gives_images_labels_maps_and_masks(run):
    assert len(run) == 8 and run.classes == ("red", "blue")
    items = list(run)
    assert [item.id for item in items] == [f"images/{number}" for number in range(8)]
    two = run["images/2"]
    assert two.labels == ("red", "blue") and two.split == "train" and two.shape == (64, 80)
    assert two.image.shape == (64, 80, 3) and two.image.dtype == np.uint8
    assert two.mask.shape == (64, 80) and two.mask.dtype == np.uint8
    assert set(np.unique(two.mask)) <= {0, 1, 2, 255}
    for kind in ("cam", "recam"):
        maps = two.maps(kind)
        assert list(maps) == ["red", "blue"] and maps["red"].shape == (16, 20) and maps["red"].dtype == np.float16
    assert run["images/3"].maps() == {} and run["images/3"].mask.max() == 0


def test_opening_again_and_misses(run):
    again = recamlabel.open_run(run.path)
    assert again.config.preset == "quick" and "8 images, 2 classes" in repr(again)
    with pytest.raises(recamlabel.StoreError, match="no image 'x'; ids look like 'images/0'"):
        again["x"]
    with pytest.raises(recamlabel.StoreError, match="holds no 'gradcam/images/0'"):
        again["images/0"].maps("gradcam")
    with pytest.raises(recamlabel.StoreError, match="no such run folder"):
        recamlabel.open_run("nowhere")


def test_settings_by_name(tmp_path):
    with pytest.raises(recamlabel.ConfigError, match=r"unknown setting 'masks\.treshold'"):
        recamlabel.fit("nothing", tmp_path / "run", settings={"masks.treshold": 0.5})
    with pytest.raises(TypeError, match="not both"):
        recamlabel.fit("nothing", tmp_path / "run", config=load_config(), settings={"seed": 1})


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    example = Path(__file__).parent.parent.parent / "examples" / "python_api.py"
    whole = recamlabel.fit

    def short(source, out, settings):
        return whole(source, out, settings={**settings, **SHORT})

    monkeypatch.setattr(recamlabel, "fit", short)
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path)])
    runpy.run_path(str(example), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("Run(") and out.count("foreground") == 12


def test_every_public_name_is_there():
    assert all(hasattr(recamlabel, name) for name in recamlabel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(recamlabel, "nothing")  # noqa: B009
