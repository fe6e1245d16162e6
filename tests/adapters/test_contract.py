"""What every adapter must do. A new adapter is covered by a subclass of AdapterContract."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from recamlabel.adapters import ADAPTERS, IMAGE_SUFFIXES, Adapter, AdapterOptions, detect, get_adapter, load_dataset
from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


LABELS = {"a": ["cat"], "b": ["cat", "dog"], "c": [], "d": ["dog"]}
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "val"}
MIDS = {"/m/1": "cat", "/m/2": "dog"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class AdapterContract(ABC):
    """Four pictures in splits train and val: cat; cat and dog; none; dog."""

    name: str
    compares_pictures = False  # whether image files are read, as bytes
    unmentioned = 0  # label of a class that the data set never names: 0 absent, -1 unknown

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

    def test_opens_no_image_and_no_mask(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []
        original = Path.open

        def spy(self: Path, mode: str = "r", *rest: Any, **named: Any) -> IO[Any]:
            opened.append(self.suffix.lower() if "r" in mode else "")
            return original(self, mode, *rest, **named)

        if source.is_dir() and not self.compares_pictures:
            for folder in ("SegmentationClass", "SegmentationObject", "masks"):
                save_image(source / folder / "a.png", 0)
        monkeypatch.setattr(Path, "open", spy)
        load_dataset(source, self.name)
        assert self.compares_pictures or not IMAGE_SUFFIXES & set(opened)

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
        bird = self.unmentioned
        assert sorted(dataset.labels().tolist()) == [[0, bird, 0], [0, bird, 1], [1, bird, 0], [1, bird, 1]]

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
    compares_pictures = True

    def build(self, root: Path) -> Path:
        for seed, names in enumerate((["cat/a"], ["cat/b", "dog/b"], ["background/c"])):
            for name in names:
                save_image(root / "train" / f"{name}.png", seed)
        save_image(root / "val/dog/d.png", 3)
        return root


class TestVocContract(AdapterContract):
    name = "voc"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / "JPEGImages" / f"{name}.jpg", seed)
            objects = "".join(f"<object><name>{label}</name></object>" for label in LABELS[name])
            write(root / "Annotations" / f"{name}.xml", f"<annotation>{objects}</annotation>")
        write(root / "ImageSets/Segmentation/train.txt", "a\nb\nc\n")
        write(root / "ImageSets/Segmentation/val.txt", "d\n")
        return root


class TestVocMainContract(AdapterContract):
    name = "voc"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / "JPEGImages" / f"{name}.jpg", seed)
        for split, names in (("train", "abc"), ("val", "d")):
            write(root / f"ImageSets/Main/{split}.txt", "\n".join(names))
            for label in ("cat", "dog"):
                rows = [f"{name} {'1' if label in LABELS[name] else '-1'}" for name in names]
                write(root / f"ImageSets/Main/{label}_{split}.txt", "\n".join(rows))
        return root


class TestYoloContract(AdapterContract):
    name = "yolo"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            split = SPLITS[name]
            save_image(root / "images" / split / f"{name}.png", seed)
            rows = [f"{('cat', 'dog').index(label)} 0.5 0.5 0.2 0.2" for label in LABELS[name]]
            write(root / "labels" / split / f"{name}.txt", "\n".join(rows))
        write(root / "data.yaml", "path: /content/data\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
        return root


class TestCocoContract(AdapterContract):
    name = "coco"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / f"{SPLITS[name]}2017" / f"{name}.png", seed)
        categories = [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}]
        ids = {category["name"]: category["id"] for category in categories}
        for split, names in (("train", "abc"), ("val", "d")):
            images = [{"id": index, "file_name": f"{name}.png"} for index, name in enumerate(names)]
            pairs = [(index, ids[label]) for index, name in enumerate(names) for label in LABELS[name]]
            annotations = [{"id": i, "image_id": pair[0], "category_id": pair[1]} for i, pair in enumerate(pairs)]
            tree = {"images": images, "annotations": annotations, "categories": categories}
            write(root / f"annotations/instances_{split}2017.json", json.dumps(tree))
        return root


class TestMmpretrainContract(AdapterContract):
    name = "json"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / "images" / f"{name}.png", seed)
        for split, names in (("train", "abc"), ("val", "d")):
            items = [
                {"img_path": f"images/{name}.png", "gt_label": [("cat", "dog").index(label) for label in LABELS[name]]}
                for name in names
            ]
            write(root / f"{split}.json", json.dumps({"metainfo": {"classes": ["cat", "dog"]}, "data_list": items}))
        return root


class TestFiftyOneLabelsContract(AdapterContract):
    name = "json"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / SPLITS[name] / "data" / f"{name}.png", seed)
        for split, names in (("train", "abc"), ("val", "d")):
            labels = {name: [("cat", "dog").index(label) for label in LABELS[name]] for name in names}
            write(root / split / "labels.json", json.dumps({"classes": ["cat", "dog"], "labels": labels}))
        return root


class TestOpenImagesContract(AdapterContract):
    name = "openimages"
    unmentioned = -1

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / SPLITS[name] / f"{name}.jpg", seed)
        write(root / "class-descriptions.csv", "/m/1,cat\n/m/2,dog\n/m/3,eel\n")
        for split, names in (("train", "abc"), ("val", "d")):
            rows = ["ImageID,Source,LabelName,Confidence"]
            for name in names:
                rows += [f"{name},verification,{mid},{int(label in LABELS[name])}" for mid, label in MIDS.items()]
            write(root / f"{split}-annotations-human-imagelabels.csv", "\n".join(rows))
        return root


class TestHuggingFaceJsonLinesContract(AdapterContract):
    name = "huggingface"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / SPLITS[name] / f"{name}.png", seed)
        for split, names in (("train", "abc"), ("val", "d")):
            rows = [json.dumps({"file_name": f"{name}.png", "labels": LABELS[name]}) for name in names]
            write(root / split / "metadata.jsonl", "\n".join(rows))
        return root


class TestHuggingFaceCsvContract(AdapterContract):
    name = "huggingface"

    def build(self, root: Path) -> Path:
        for seed, name in enumerate("abcd"):
            save_image(root / SPLITS[name] / f"{name}.png", seed)
        rows = [f"{SPLITS[name]}/{name}.png,{';'.join(LABELS[name])}" for name in "abcd"]
        write(root / "metadata.csv", "\n".join(["file_name,labels", *rows]))
        return root


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed (extra huggingface)")
class TestHuggingFaceSavedContract(AdapterContract):
    name = "huggingface"

    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
        monkeypatch.setenv("RECAMLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))

    def build(self, root: Path) -> Path:
        import datasets

        features = datasets.Features(
            {"image": datasets.Image(), "labels": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"]))}
        )
        splits = {}
        for split, names in (("train", "abc"), ("val", "d")):
            images = []
            for seed, name in enumerate(names):
                save_image(root.parent / "drawn" / f"{name}.png", seed)
                images.append({"bytes": (root.parent / "drawn" / f"{name}.png").read_bytes(), "path": f"{name}.png"})
            rows = {"image": images, "labels": [LABELS[name] for name in names]}
            splits[split] = datasets.Dataset.from_dict(rows, features=features)
        datasets.disable_progress_bars()
        datasets.DatasetDict(splits).save_to_disk(str(root))
        return root


class TestFiftyOneContract(AdapterContract):
    name = "fiftyone"

    @pytest.fixture(autouse=True)
    def database(self, fiftyone_database: object) -> None:
        """Skips where FiftyOne is not installed."""

    def build(self, root: Path) -> Path:
        import fiftyone

        dataset = fiftyone.Dataset(f"contract-{uuid.uuid4().hex}")
        for seed, name in enumerate("abcd"):
            save_image(root / "images" / f"{name}.png", seed)
            labels = [fiftyone.Classification(label=label) for label in LABELS[name]]
            sample = fiftyone.Sample(str(root / "images" / f"{name}.png"), tags=[SPLITS[name]])
            sample["truth"] = fiftyone.Classifications(classifications=labels)
            dataset.add_sample(sample)
        return Path(f"fiftyone:{dataset.name}")


def test_every_adapter_has_a_contract_test() -> None:
    assert {case.name for case in AdapterContract.__subclasses__()} == set(ADAPTERS)


def test_adapters_say_what_they_are() -> None:
    for name, adapter in ADAPTERS.items():
        assert isinstance(adapter.description, str)
        checked: Adapter = get_adapter(name)
        assert checked is adapter
        assert checked.name == name


def test_unknown_adapter_lists_the_names() -> None:
    with pytest.raises(DatasetError) as caught:
        get_adapter("cocoa")
    names = ", ".join(("auto", *ADAPTERS))
    assert str(caught.value) == f"--adapter: unknown 'cocoa', did you mean 'coco'? The adapters are: {names}"


def test_nothing_recognised_lists_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DatasetError) as caught:
        detect(tmp_path)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{tmp_path}: a folder that no adapter recognises; name one with --adapter, or give one of:"
    assert lines == [f"  {name}: {adapter.description}" for name, adapter in ADAPTERS.items()]
    assert (
        "  folder: a folder with one folder of images per class, or with train/ and val/ and those below them" in lines
    )


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"x: no such file or folder; expected a label file or a folder"):
        load_dataset(tmp_path / "x")


def test_a_label_file_wins_over_folders_with_images(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.png", 0)
    (tmp_path / "labels.csv").write_text("image,labels\nimages/a.png,cat\n")
    adapter, reason = detect(tmp_path)
    assert (adapter.name, reason) == ("csv", "there is a labels.csv in it")


def test_importing_adapters_is_cheap() -> None:
    heavy = ("torch", "datasets", "pyarrow", "pandas", "fiftyone", "h5py", "PIL")
    code = f"import sys, recamlabel.adapters; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_labels_csv_wins_over_other_label_files(tmp_path: Path) -> None:
    source = TestCocoContract().build(tmp_path)
    assert detect(source)[0].name == "coco"
    write(source / "labels.csv", "ImageID,LabelName,Confidence\na,cat,1\n")
    assert detect(source)[0].name == "coco"
    write(source / "labels.csv", "image,labels\ntrain2017/a.png,cat\n")
    assert detect(source)[0].name == "csv"
