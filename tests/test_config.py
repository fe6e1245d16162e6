from __future__ import annotations

import pytest

from recamlabel.config import PRESETS, Config, load_config, setting_keys
from recamlabel.core.section import ScheduleConfig
from recamlabel.errors import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load(preset):
    assert load_config(preset).preset == preset


def test_later_sources_win(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("[masks]\nthreshold = 0.3\n[recam]\nlr = 0.5\n")
    config = load_config("quick", file, ["masks.threshold=0.7"], {"seed": 4})
    assert (config.masks.threshold, config.recam.lr, config.seed) == (0.7, 0.5, 4)


def test_a_value_that_is_not_toml_is_text():
    assert load_config(assignments=["backbone.name=resnet18"]).backbone.name == "resnet18"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("masks.treshold=0.4", "did you mean masks.threshold"),
        ("threshold=0.4", "masks.threshold"),
        ("masks.threshold=1.5", "less than or equal to 1 (found 1.5)"),
        ("masks.threshold=high", "masks.threshold: Input should be a valid number"),
        ("masks.threshold", "expected section.key=value"),
        ("classifier.min_steps=0", "classifier.min_steps"),
        ("classifier.max_steps=1", "min_steps (150) is above max_steps (1)"),
        ("augment.resize_min=9999", "resize_min (9999) is above resize_max"),
        ("maps.scales=[]", "maps.scales"),
        ("maps.scales=[0.0]", "scales must lie in (0, 8]"),
        ("refine.levels=[0.5, 0.2]", "levels must ascend"),
        ("recam.head_init=warm", "'zero', 'random' or 'copy'"),
    ],
)
def test_bad_settings_are_refused_by_name(line, message):
    with pytest.raises(ConfigError) as error:
        load_config(assignments=[line])
    assert message in str(error.value)


def test_unknown_preset_and_files(tmp_path):
    with pytest.raises(ConfigError, match=r"--preset: unknown 'fast'\. The presets are: quick, paper"):
        load_config("fast")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(file=tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="a folder; expected a TOML file"):
        load_config(file=tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
        load_config(file=bad)
    bad.write_text("[maskz]\na = 1\n")
    with pytest.raises(ConfigError, match="unknown setting 'maskz'"):
        load_config(file=bad)


@pytest.mark.parametrize(("images", "steps"), [(1, 300), (60, 300), (1600, 500), (60_000, 3000)])
def test_steps_are_epochs_within_bounds(images, steps):
    assert ScheduleConfig(epochs=5, batch_size=16, min_steps=300, max_steps=3000).steps(images) == steps


def test_every_setting_has_a_meaning():
    keys = setting_keys(Config)
    assert "refine.crf.iterations" in keys
    assert [key for key, meaning in keys.items() if not meaning and key != "preset"] == []
