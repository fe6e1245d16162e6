"""What every adapter must do. A new adapter is covered by a subclass of AdapterContract."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.adapters import ADAPTERS, Adapter, AdapterOptions, detect, get_adapter, load_dataset
from recamlabel.classes import ClassTable
from recamlabel.errors import DatasetError


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


class AdapterContract(ABC):
    """Four pictures in splits train and val: cat; cat and dog; none; dog."""

    name: str

    @abstractmethod
    def build(self, root: Path) -> Path:
        """Write the data set below ``root`` and give its source."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return self.build(tmp_path / "data")

    def read(self, source: Path) -> list[tuple[frozenset[str], frozenset[str], str | None]]:
        dataset = ADAPTERS[self.name].read(source, AdapterOptions())
        return [(image.present, image.absent, image.split) for image in dataset.images]

    def test_reads_every_image_with_its_labels_and_split(self, source: Path) -> None:
        cat, dog, both, none = frozenset({"cat"}), frozenset({"dog"}), frozenset({"cat", "dog"}), frozenset[str]()
        expected = [(cat, dog, "train"), (both, none, "train"), (none, both, "train"), (dog, cat, "val")]
        assert Counter(self.read(source)) == Counter(expected)

    def test_has_no_problem_with_a_sound_data_set(self, source: Path) -> None:
        dataset = load_dataset(source, self.name)
        assert [str(problem) for problem in dataset.problems] == []
        assert dataset.adapter == self.name
        assert dataset.classes == ClassTable(("cat", "dog"))
        assert dataset.notes[0] == f"read as '{self.name}': as asked"

    def test_ids_are_unique_relative_and_give_the_path(self, source: Path) -> None:
        dataset = load_dataset(source, self.name)
        ids = [image.id for image in dataset.images]
        assert len(set(ids)) == len(ids) == 4
        for image in dataset.images:
            assert image.path.is_absolute()
            assert image.path.relative_to(dataset.root).with_suffix("").as_posix() == image.id

    def test_reads_the_same_twice_and_from_a_relative_path(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_dataset(source, self.name)
        monkeypatch.chdir(source.parent)
        assert load_dataset(Path(source.name), self.name) == first

    def test_writes_nothing_into_the_folder(self, source: Path, tmp_path: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        load_dataset(source, self.name)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    def test_is_detected_with_a_reason(self, source: Path) -> None:
        adapter, reason = detect(source)
        assert adapter.name == self.name
        assert reason
        assert load_dataset(source).notes[0] == f"read as '{self.name}': {reason}"

    def test_detection_never_raises(self, tmp_path: Path) -> None:
        (tmp_path / "notes.md").write_text("nothing")
        for path in (tmp_path, tmp_path / "notes.md", tmp_path / "missing"):
            assert ADAPTERS[self.name].detect(path) is None

    def test_missing_source(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="missing: no such file or folder"):
            ADAPTERS[self.name].read(tmp_path / "missing", AdapterOptions())

    def test_given_classes_keep_their_order(self, source: Path) -> None:
        dataset = load_dataset(source, self.name, AdapterOptions(classes=("dog", "bird", "cat")))
        assert dataset.classes.names == ("dog", "bird", "cat")
        assert sorted(dataset.labels().tolist()) == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]

    def test_unknown_class_when_classes_are_given(self, source: Path) -> None:
        dataset = load_dataset(source, self.name, AdapterOptions(classes=("cat", "dogs")))
        fatal = [problem for problem in dataset.problems if problem.fatal]
        assert fatal
        assert all("unknown class 'dog'; did you mean 'dogs'?" in problem.message for problem in fatal)
        assert all("(classes given by the setting data.classes: cat, dogs)" in problem.message for problem in fatal)
        assert all(problem.image_id is None for problem in fatal)


class TestCsvContract(AdapterContract):
    name = "csv"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate(("a", "b", "c", "d")):
            save_image(root / "images" / f"{name}.png", seed)
        rows = ["image,labels,split", "images/a.png,cat,train", "images/b.png,cat dog,train"]
        rows += ["images/c.png,,train", "images/d.png,dog,val"]
        (root / "labels.csv").write_text("\n".join(rows))
        return root / "labels.csv"


class TestClassFoldersContract(AdapterContract):
    name = "folder"

    def build(self, root: Path) -> Path:
        for seed, names in enumerate((["cat/a"], ["cat/b", "dog/b"], ["background/c"])):
            for name in names:
                save_image(root / "train" / f"{name}.png", seed)
        save_image(root / "val/dog/d.png", 3)
        return root


def test_every_adapter_has_a_contract_test() -> None:
    assert {case.name for case in AdapterContract.__subclasses__()} == set(ADAPTERS)


def test_adapters_say_what_they_are() -> None:
    for name, adapter in ADAPTERS.items():
        assert isinstance(adapter.description, str)
        checked: Adapter = get_adapter(name)
        assert checked is adapter
        assert checked.name == name


def test_unknown_adapter_lists_the_names() -> None:
    with pytest.raises(DatasetError, match=r"^unknown adapter 'coco'; the adapters are: auto, csv, folder$"):
        get_adapter("coco")


def test_nothing_recognised_lists_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        detect(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: a folder that no adapter recognises; name one with --adapter, or give one of:\n"
        "  csv: a .csv or .tsv file with an image and a labels column, or a folder with labels.csv (or just one CSV)\n"
        "  folder: a folder with one folder of images per class, or with train/ and val/ and those below them"
    )


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"x: no such file or folder; expected a label file or a folder"):
        load_dataset(tmp_path / "x")


def test_a_label_file_wins_over_folders_with_images(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.png", 0)
    (tmp_path / "labels.csv").write_text("image,labels\nimages/a.png,cat\n")
    adapter, reason = detect(tmp_path)
    assert (adapter.name, reason) == ("csv", "there is a labels.csv in it")


def test_importing_adapters_does_not_import_torch() -> None:
    code = "import sys, recamlabel.adapters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
