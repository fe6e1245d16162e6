"""What a stage reads it declares, and what it declares it reads: else a key is stale, or redoes for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recamlabel.config import load_config
from recamlabel.core.section import Section
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.refine.hed import Hed
from recamlabel.run import engine
from recamlabel.run.engine import make_on_demand, make_plan, scope_of
from recamlabel.run.fit import check_settings, fit
from recamlabel.stages import GRAPH
from recamlabel.stages.graph import FREE, Graph, Planned, Scope, Stage, covers
from recamlabel.stages.view import View
from recamlabel.storage.run_folder import RunFolder
from tests.hed_by_hand import fake_package
from tests.helpers import TINY, TINY_SEGMENTER, make_tiny_csv
from tests.sam_by_hand import fake_files, fake_onnxruntime

WALK = ["affinity.min_steps=2", "affinity.max_steps=2", "affinity.radius=3", "probe.enabled=false"]
# Stands for a folder of maps.
HERE = Path(__file__).parent
CONFIGS = {
    "default": [*TINY, "probe.fine_sides=[96]", "gate.min_positives=2", "local.enabled=true", "local.folds=2"],
    "other start": [*TINY, "classifier.head_init=random", "backbone.weights=none", "refine.method=none"],
    "walk and another variant": [*TINY, *WALK, "refine.method=crf+random_walk", "maps.variant=lpcam"],
    "climbing": [*TINY, "probe.enabled=false", "maps.variant=advcam", "maps.advcam_steps=1"],
    "normal images": [*TINY, "maps.variant=patchmemory", "refine.method=none"],
    "cam without background": [*TINY, "data.background=false", "refine.source=cam", "probe.fine_sides=[96]"],
    "crops": [*TINY, "backbone.frozen_stages=-1", "augment.views=2"],
    "spread and saliency": [*TINY, "probe.enabled=false", "refine.affinity=features", f"refine.saliency={HERE}"],
    "segmenter": [*TINY_SEGMENTER, "segmenter.cutmix=0.5", "segmenter.correction=0.9", "segmenter.correction_start=0"],
    "rounds": [*TINY_SEGMENTER, "rounds=2", "segmenter.predict.smooth=crf"],
}
# Read through the class table; where training fails or is resumed alone; by one of two optimisers.
# The mode of the PNG files is none of their content.
NO_RESULT = "masks.png"
SELDOM = {"background", "momentum", "warmup_steps", "clip_norm", "weight_decay", "optimiser", "poly_power", "lr"}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A configuration that needs a package and files of others, and stand-ins for these."""
    fake_onnxruntime(monkeypatch)
    fake_package(tmp_path / "site", monkeypatch, Hed())
    lines = ["probe.enabled=false", "refine.method=random_walk", "refine.edges=hed", "refine.snap=sam"]
    monkeypatch.setitem(CONFIGS, "hed and sam", [*TINY, *lines, f"refine.sam={fake_files(tmp_path / 'sam')}"])


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[dict[str, set[str]]]:
    """By stage the settings that its work reads, of the configuration's own sections alone."""
    reads: dict[str, set[str]] = {}
    current: list[tuple[str, dict[int, str]]] = []
    plain = Section.__getattribute__

    def reading(self: Section, name: str) -> Any:
        if current and name in type(self).model_fields:
            stage, sections = current[-1]
            if id(self) in sections:
                value = plain(self, name)
                if not isinstance(value, Section) and name not in renewed.get(id(self), ()):
                    reads.setdefault(stage, set()).add(f"{sections[id(self)]}{name}")
                return value
        return plain(self, name)

    copy = Section.model_copy

    def copying(self: Section, **options: Any) -> Section:
        """A copy with some settings changed is still that section."""
        made = copy(self, **options)
        if current and id(self) in current[-1][1]:
            copies.append(made)  # kept, so that no other gets its id
            renewed[id(made)] = {*renewed.get(id(self), ()), *options.get("update", ())}
            current[-1][1][id(made)] = current[-1][1][id(self)]
        return made

    copies: list[Section] = []
    renewed: dict[int, set[str]] = {}
    whole = engine.run_stage

    def running(view: View, one: Planned) -> None:
        work = one.stage.work
        assert work is not None

        def recording(seen: View) -> Any:
            current.append((one.name, dict(_sections(view.settings, ""))))
            try:
                return work(replace(seen, settings=view.settings))
            finally:
                current.pop()

        whole(view, replace(one, stage=replace(one.stage, work=recording)))

    with patch.context() as inside:
        inside.setattr(Section, "__getattribute__", reading)
        inside.setattr(Section, "model_copy", copying)
        inside.setattr(engine, "run_stage", running)
        # What goes into the files' provenance is no reading.
        inside.setattr(View, "provenance", _provenance)
        yield reads


def _provenance(view: View) -> dict[str, Any]:
    return {"stage_key": view.key, "class_names": list(view.catalog.dataset.classes.names)}


def _sections(section: Section, prefix: str) -> Iterator[tuple[int, str]]:
    yield id(section), prefix
    for name in type(section).model_fields:
        value = object.__getattribute__(section, "__dict__")[name]
        if isinstance(value, Section):
            yield from _sections(value, f"{prefix}{name}.")


@pytest.mark.usefixtures("outside")
def test_what_is_read_is_declared_and_what_is_declared_is_read(tmp_path, monkeypatch):
    read: dict[str, set[str]] = {}
    declared: dict[str, set[str]] = {}
    for number, (name, lines) in enumerate(CONFIGS.items()):
        data = make_tiny_csv(tmp_path / str(number))
        own = [line.replace(str(HERE), str(tmp_path / str(number) / "truth")) for line in lines]
        config = check_settings(load_config(assignments=own))
        with recorded(monkeypatch) as reads:
            run = fit(data, tmp_path / str(number) / "run", config)
            catalog = load_catalog(run.path / CATALOG_FILE)
            if name == "segmenter":
                make_on_demand(run, catalog, config, "confidence")
                painted = {f"images/{n}": np.zeros((64, 80), np.uint8) for n in (0, 1, 2, 4, 5)}
                ReviewFolder(run.path).add([Decision(n, "accepted", painted=True) for n in painted], painted, 255)
                config = config.model_copy(update={"review": config.review.model_copy(update={"use": True})})
                run = fit(data, run.path, config)
        plan = [*make_plan(scope_of(run, catalog, config)).stages]
        plan += make_plan(Scope(config, catalog, round=2)).stages if config.rounds > 1 else []
        for one in plan:
            declared.setdefault(one.name, set()).update(one.inputs["settings"])
            seen = reads.get(one.name, set())
            read.setdefault(one.name, set()).update(seen)
            undeclared = {key for key in seen if not covers((*one.declared, FREE, NO_RESULT), key)}
            assert undeclared == set(), (name, one.name)
        read.setdefault("confidence", set()).update(reads.get("confidence", set()))
    assert set(read) >= {stage.name for stage in GRAPH if stage.work is not None}
    needless = {name: sorted(declared[name] - read[name]) for name in declared}
    needless = {
        name: left for name, keys in needless.items() if (left := [k for k in keys if k.split(".")[-1] not in SELDOM])
    }
    assert needless == {}


def test_an_undeclared_reading_is_refused_at_once(tmp_path):
    def curious(view: View) -> dict[str, Any]:
        return {"seen": view.config.maps.flip}

    scope = Scope(check_settings(load_config(assignments=TINY)), None)
    (one,) = Graph([Stage("curious", 1, curious, "", reads=("maps.max_side", "refine.crf"))]).plan(scope)
    view = View(RunFolder.create(tmp_path / "run"), None, scope.config, torch.device("cpu"))
    with pytest.raises(Exception, match=r"stage curious reads maps\.flip and does not declare it"):
        engine.run_stage(view, one)
    assert RunFolder.open(tmp_path / "run").stage_state("curious") == "not run"


def test_a_stage_that_does_not_make_its_file_is_not_recorded(tmp_path):
    config = check_settings(load_config(assignments=TINY))
    (one,) = Graph([Stage("idle", 1, lambda view: {}, "", makes=("idle.h5",))]).plan(Scope(config, CATALOG))
    view = View(RunFolder.create(tmp_path / "run"), CATALOG, config, torch.device("cpu"))
    with pytest.raises(StoreError, match=r"stage 'idle' ended without idle\.h5, which it is to make"):
        engine.run_stage(view, one)
    assert RunFolder.open(tmp_path / "run").stage_state("idle") == "not run"


@pytest.mark.usefixtures("outside")
def test_every_setting_belongs_to_a_stage():
    """Or to what decides which stages there are, where and how fast they run, and how labels are read."""
    declared: set[str] = set()
    for lines in CONFIGS.values():
        config = check_settings(load_config(assignments=lines))
        for number in (1, 2):
            scope = Scope(config, CATALOG, reviewed="x", settled=9, round=number)
            declared |= {key for one in make_plan(scope).stages for key in one.inputs["settings"]}
            declared |= set(GRAPH.by_name["rounds"].settings(scope))
    scope = Scope(check_settings(load_config(assignments=[*TINY, "data.classes=[]"])), CATALOG)
    decides = (
        "preset",
        FREE,
        "data",
        NO_RESULT,
        "local.enabled",
        "refine.affinity",
        "refine.edges",
        "probe.enabled",
        "segmenter.enabled",
        "review.use",
        "maps.file",
    )
    assert {key for key in scope.settings if key not in declared and not covers(decides, key)} == {
        "segmenter.predict.crf.gt_prob"  # of labels, which a segmenter's probabilities are not
    }


@pytest.mark.parametrize(
    ("line", "redone"),
    [
        ("maps.advcam_steps=3", []),
        ("refine.crf.iterations=3", []),
        ("affinity.beta=3", []),
        ("gate.folds=3", ["gate"]),
        ("masks.threshold=0.3", ["masks", "segmenter", "segmentation", "quality"]),
        ("segmenter.predict.flip=false", ["segmentation", "quality"]),
        ("runtime.workers=3", []),
        ("review.weight=2", []),
        ("review.use=true", []),
    ],
)
def test_a_setting_without_effect_redoes_nothing(line, redone):
    plain = [*TINY_SEGMENTER, "probe.enabled=false", "refine.method=none"]
    scopes = [Scope(check_settings(load_config(assignments=[*plain, *more])), CATALOG) for more in ([], [line])]
    one, two = ({p.name: p.key for p in make_plan(scope).stages} for scope in scopes)
    assert [name for name in one if one[name] != two[name]] == redone


class _Catalog:
    """Stands for a data set where only its identity counts."""

    images, hashes = (), {}

    def fingerprint(self, images: Any = None) -> str:
        return "data"

    def training_images(self, splits: Any) -> tuple[()]:
        return ()


CATALOG: Any = _Catalog()
