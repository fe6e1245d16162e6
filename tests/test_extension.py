"""One more of each kind from outside of the package: one file and one line of entry points, no file here touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

import recamlabel
from recamlabel.adapters import ADAPTERS, load_dataset
from recamlabel.cli.main import run as run_command
from recamlabel.config import load_config
from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.export import FORMATS, export_run
from recamlabel.export.engine import export_with
from recamlabel.export.formats.coco import CocoFormat
from recamlabel.maps import VARIANTS
from recamlabel.models.backbones import Backbone
from recamlabel.models.segmenter import Segmenter
from recamlabel.refine import REFINERS, Refiner
from recamlabel.run.fit import check_settings, fit
from recamlabel.stages import GRAPH
from recamlabel.stages.graph import Graph, Scope, Stage
from tests.helpers import TINY, TINY_SEGMENTER, make_tiny_csv

MODULE = '''
import json
import numpy as np
from torch import nn
from recamlabel.adapters.csv.read import CsvAdapter
from recamlabel.export.formats.hdf5 import Hdf5Format
from recamlabel.maps.base import MapRequest
from recamlabel.maps.cam import cam
from recamlabel.refine import Refiner


def square(request):
    """CAM squared."""
    plain = cam(request)

    class Square:
        def maps(self, images, pixels, classes):
            return {name: [one**2 for one in maps] for name, maps in plain.maps(images, pixels, classes).items()}

    return Square()


halve = Refiner("halve", lambda image, maps, config, background: maps / 2)


class Names:
    name, description, accepts_names = "names", "a .names file: file name, then label", False

    def detect(self, source):
        return "a .names file" if source.suffix == ".names" else None

    def read(self, source, options):
        table = source.with_name("made-of-names.csv")
        table.write_text("image,labels\\n" + source.read_text())
        return CsvAdapter().read(table, options)


class Counts(Hdf5Format):
    name, description = "counts", "pixels of each class, as JSON"

    def write(self, plan, folder, masks):
        rows = {item.id: np.bincount(mask.ravel(), minlength=256).tolist() for item, mask in masks}
        (folder / "counts.json").write_text(json.dumps(rows))
        return []

    def readings(self, plan, folder, items):
        return iter(())


class Tiny(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.encoder, self.head = backbone, nn.Conv2d(backbone.channels, classes, 1)

    def forward(self, images):
        return nn.functional.interpolate(self.head(self.encoder(images)), images.shape[2:])


def bare(backbone, classes):
    return nn.Sequential(nn.Conv2d(3, classes, 1))
'''
POINTS = """[recamlabel.variants]
square = more:square
[recamlabel.refiners]
halve = more:halve
[recamlabel.adapters]
names = more:Names
[recamlabel.exporters]
counts = more:Counts
[recamlabel.segmenters]
tiny = more:Tiny
bare = more:bare
"""


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package beside this one, as pip would leave it."""
    site = tmp_path / "site"
    add(site, "more", MODULE, POINTS)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("more", None)


def add(site: Path, name: str, module: str, points: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(module)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_a_variant_and_a_refiner(more, tmp_path):
    lines = [*TINY, "probe.enabled=false", "maps.scales=[1.0]"]
    data = make_tiny_csv(tmp_path)
    plain = fit(data, tmp_path / "plain", load_config(assignments=lines), until="maps")
    settings = load_config(assignments=[*lines, "maps.variant=square", "refine.method=halve"])
    run = fit(data, tmp_path / "run", settings)
    with h5py.File(run.path / "work/cams.h5") as squared, h5py.File(plain.path / "work/maps.h5") as maps:
        assert np.allclose(squared["cam/images/2"][()], maps["cam/images/2"][()].astype(np.float32) ** 2, atol=1e-3)
    with h5py.File(run.path / "work/scores.h5") as scores:
        values = np.concatenate([scores[f"scores/images/{number}"][()].ravel() for number in (0, 1, 2)])
    assert 0 < values.max() <= 128
    assert run.state.stages["refine"]["method"] == "halve"


def test_a_label_format_and_an_export_format(more, tmp_path, copy_run):
    data, run = copy_run(tmp_path, *TINY)
    (data / "my.names").write_text("images/0.png,red\nimages/1.png,blue\n")
    dataset = load_dataset(data / "my.names")
    assert dataset.notes[0] == "read as 'names': a .names file" and len(dataset) == 2
    result = export_run(run, "counts", tmp_path / "out")
    rows = json.loads((tmp_path / "out/counts.json").read_text())
    assert result.images == len(rows) == 8 and {sum(row) for row in rows.values()} == {64 * 80}


def test_a_segmenter(more, tmp_path):
    lines = [*TINY_SEGMENTER, "segmenter.method=tiny", "probe.enabled=false"]
    run = fit(make_tiny_csv(tmp_path), tmp_path / "run", load_config(assignments=lines))
    weights = load_file(run.path / "weights/segmenter.safetensors")
    assert weights["net.head.weight"].shape[0] == 3 and weights["net.head.weight"].shape[2:] == (1, 1)
    with h5py.File(run.path / "segmenter.h5") as masks:
        assert masks["images/0"].shape == (64, 80)


def test_a_segmenter_without_an_encoder_is_refused_in_words(more):
    with pytest.raises(ConfigError, match=r"segmenter\.method=bare gave a Sequential whose encoder is neither"):
        Segmenter("bare", Backbone("resnet10t"), 2)


FAULTY = """
import numpy as np
from torch import nn
from recamlabel.export.formats.hdf5 import Hdf5Format
from recamlabel.refine import Refiner

wide = Refiner("wide", lambda image, maps, config, background: maps[:, :2])
loud = Refiner("loud", lambda image, maps, config, background: maps * 3)
dead = Refiner("dead", lambda image, maps, config, background: 1 / 0)
word = Refiner("word", lambda image, maps, config, background: "done")
none = lambda request: None
few = lambda request: type("S", (), {"maps": lambda self, images, pixels, classes: {"cam": []}})()
other = lambda request: type("S", (), {"maps": lambda self, images, pixels, classes: {"mine": []}})()


class Coarse(nn.Module):
    def __init__(self, backbone, outputs):
        super().__init__()
        self.encoder, self.head = backbone, nn.Conv2d(backbone.channels, outputs, 1)

    def forward(self, images):
        return self.head(self.encoder(images))


class Stuck(Hdf5Format):
    name = "stuck"

    def write(self, plan, folder, masks):
        raise KeyError("x")
"""
FAULTY_POINTS = """[recamlabel.refiners]
wide = faulty:wide
loud = faulty:loud
dead = faulty:dead
word = faulty:word
[recamlabel.variants]
none = faulty:none
few = faulty:few
other = faulty:other
[recamlabel.segmenters]
coarse = faulty:Coarse
[recamlabel.exporters]
stuck = faulty:Stuck
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A package whose things can be loaded, and fail at work."""
    add(tmp_path / "faulty-site", "faulty", FAULTY, FAULTY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path / "faulty-site"))
    yield
    sys.modules.pop("faulty", None)


def refine(name):
    maps = np.full((2, 8, 8), 0.5, np.float32)
    return REFINERS.find(name).run(np.zeros((8, 8, 3), np.uint8), maps, None, True)


def make_maps(name):
    request = SimpleNamespace(heads={"cam": None})
    return VARIANTS.find(name)(request).maps([None], [None], [[0]])


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (
            lambda: refine("wide"),
            r"method 'wide' of the package faulty gave scores of shape \(2, 2, 8\); expected \(2, 8",
        ),
        (
            lambda: refine("loud"),
            r"method 'loud' .* gave scores from 1.5 to 1.5; expected numbers in 0..1; that is a def",
        ),
        (
            lambda: refine("dead"),
            r"method 'dead' .* failed: ZeroDivisionError: division by zero; that is a defect of th",
        ),
        (lambda: refine("word"), r"method 'word' .* gave scores as a str; expected a NumPy array"),
        (lambda: make_maps("none"), r"variant 'none' of the package faulty gave a NoneType; expected a MapSource"),
        (lambda: make_maps("few"), r"variant 'few' .* gave 0 cam maps for 1 images; expected one for each"),
        (lambda: make_maps("other"), r"variant 'other' .* gave maps by the names \['mine'\]; expected .* \['cam'\]"),
    ],
)
def test_what_a_plug_in_gives_is_looked_at(faulty, work, words):
    with pytest.raises(ConfigError, match=words):
        work()


def test_a_network_of_the_wrong_shape_is_refused_before_anything_is_trained(faulty):
    words = r"segmenter 'coarse' of the package faulty gave logits of shape \(1, 2, 4, 6\) .* \(1, 2, 64, 96\)"
    with pytest.raises(ConfigError, match=words):
        check_settings(load_config(assignments=[*TINY_SEGMENTER, "segmenter.method=coarse"]))


def test_an_export_that_fails_leaves_nothing(faulty, tmp_path, copy_run):
    _, run = copy_run(tmp_path, *TINY)
    with pytest.raises(StoreError, match=r"format 'stuck' of the package faulty failed: KeyError: 'x'; that is a def"):
        export_run(run, "stuck", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_of_recamlabels_own_is_not_taken_and_that_is_said(more, capfd):
    add(more, "greedy", MODULE, "[recamlabel.variants]\nlpcam = greedy:square\n")
    check_settings(load_config(assignments=[*TINY, "maps.variant=lpcam"]))
    said = capfd.readouterr().err
    assert "note: maps.variant: variant 'lpcam' of the package greedy is not used: recamlabel has one of" in said


def test_limits_of_formats_are_their_own(more, tmp_path, copy_run):
    """The number in the message, and the formats without that limit, also where they are another package's."""
    _, run = copy_run(tmp_path, *TINY)
    counts = FORMATS.find("counts")
    counts.max_classes = 1
    with pytest.raises(DatasetError, match=r"^counts holds 1 classes .* the run has 2\. Formats without that limit: c"):
        export_with(counts, run, tmp_path / "out")
    with pytest.raises(DatasetError, match="limit: coco, counts, cvat"):
        few = CocoFormat()
        few.max_classes = 1
        export_with(few, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["refine.method=worse"],
            "method 'worse' of the package broken (broken:x) cannot be loaded: ZeroDivisionError",
        ),
        (["refine.method=leaver"], "method 'leaver' of the package leaver (leaver:x) cannot be loaded: SystemExit: 3"),
        (
            ["refine.method=halv"],
            "refine.method: unknown 'halv', did you mean 'halve'? The methods are: auto, none, crf, ",
        ),
        (["maps.variant=square"], "variant 'square' is offered by 2 packages (the package more, the package rival)"),
    ],
)
def test_a_bad_plug_in_ends_fit_in_one_line_with_nothing_written(more, tmp_path, capfd, settings, words):
    add(more, "broken", "1 / 0", "[recamlabel.refiners]\nworse = broken:x\n")
    add(more, "leaver", "raise SystemExit(3)", "[recamlabel.refiners]\nleaver = leaver:x\n")
    add(more, "rival", MODULE, "[recamlabel.variants]\nsquare = rival:square\n")
    out = tmp_path / "run"
    sets = [part for line in [*TINY, *settings] for part in ("--set", line)]
    assert run_command(["fit", str(make_tiny_csv(tmp_path)), "--out", str(out), *sets]) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"recamlabel: {words}") and "Traceback" not in said and said.count("\n") == 1
    assert not out.exists()


def test_choices_in_help_are_those_of_the_registries(more):
    """In a fresh process, as options are made when their module is imported."""
    path = os.pathsep.join([str(more), str(Path(recamlabel.__file__).parent.parent)])
    for verb, names in (("check", [*ADAPTERS]), ("export", [*FORMATS])):
        command = [sys.executable, "-m", "recamlabel", verb, "--help"]
        shown = subprocess.check_output(command, env={**os.environ, "PYTHONPATH": path}, text=True)
        assert {"names", "counts"} & set(names) and all(re.search(rf"\b{re.escape(name)}\b", shown) for name in names)


def test_a_stage_is_one_object():
    """A stage of another file, put into the list: plan, keys, table and invalidation know it."""
    blur = Stage("blur", 1, lambda view: {}, "blurs", needs=("maps",), reads=("refine.smooth",), makes=("blur.h5",))
    graph = Graph((*GRAPH.stages, blur))
    config = check_settings(load_config(assignments=TINY))
    keys = []
    for value in (0.0, 0.01):
        changed = config.model_copy(update={"refine": config.refine.model_copy(update={"smooth": value})})
        scope = Scope(changed, None, given={name: "x" for name in GRAPH.names if name != "blur"})
        (planned,) = graph.plan(scope)
        keys.append(planned.key)
        assert planned.makes == ("blur.h5",) and planned.inputs["needs"] == {"maps": "x"}
    assert keys[0] != keys[1] and "blur" in graph.below("recam") and "blur" not in graph.below("probe")


def test_a_piece_of_evidence(monkeypatch, tmp_path, copy_run):
    """A function and its line: it counts in every class's score."""
    from recamlabel.masks import evidence

    def never(compared: evidence.Compared) -> dict[int, float]:
        """Nothing ever speaks for a class."""
        return dict.fromkeys(compared.ids, 0.0)

    scores, maps = np.array([[[255, 0]]], np.uint8), np.array([[[0.9, 0.1]]])
    before = evidence.gather_evidence(scores, maps, maps, [3], 0.5, 0.5, background=True)
    data, made = copy_run(tmp_path, *TINY)
    usual = fit(data, made.path, load_config(assignments=[*TINY, "masks.ignore=none"])).state.stages["quality"]["mean"]
    monkeypatch.setattr(evidence, "EVIDENCE", (*evidence.EVIDENCE, never))
    after = evidence.gather_evidence(scores, maps, maps, [3], 0.5, 0.5, background=True)
    assert before.class_scores() == {0: 1.0, 3: 1.0} and after.class_scores() == {0: 2 / 3, 3: 2 / 3}
    assert after.parts["never"] == {0: 0.0, 3: 0.0}
    # Nothing is withheld in either: another way of saying so, that the masks are made again.
    doubted = fit(data, made.path, load_config(assignments=[*TINY, "masks.ignore=0"]))
    assert doubted.state.stages["quality"]["mean"] < usual - 0.02


def test_two_of_one_name_and_one_that_breaks(more, monkeypatch):
    add(more, "rival", MODULE, POINTS.split("[recamlabel.refiners]")[0])
    add(more, "broken", "1 / 0", "[recamlabel.refiners]\nworse = broken:x\nhalf = more:square\n")
    both = r"variant 'square' is offered by 2 packages \(the package more, the package rival\); uninstall all but one"
    with pytest.raises(ConfigError, match=both):
        VARIANTS.find("square")
    with pytest.raises(ConfigError, match=r"method 'worse' of the package broken \(broken:x\) cannot be loaded: Zero"):
        REFINERS.find("worse")
    with pytest.raises(ConfigError, match=r"method 'half' of the package broken .* is a function; expected a recam"):
        REFINERS.find("half")
    assert isinstance(REFINERS.find("halve"), Refiner) and REFINERS.find("none").run is None
    with pytest.raises(ConfigError, match="unknown 'halv', did you mean 'halve'"):
        REFINERS.find("halv")
    add(more, "greedy", MODULE, "[recamlabel.variants]\ncam = greedy:square\n")
    assert VARIANTS.find("cam").__module__ == "recamlabel.maps.cam"
