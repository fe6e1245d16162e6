"""Whether image files are still those of the catalog, and that this is cheap where nothing has changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.data import changed
from recamlabel.data.catalog import Catalog, load_catalog, save_catalog
from recamlabel.data.changed import changed_at_a_glance, changed_images, file_hash, refuse_changed
from recamlabel.data.inspect import inspect_images
from recamlabel.errors import StoreError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    images = []
    for number, name in enumerate("abcd"):
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.full((3, 5, 3), number, np.uint8)).save(path)
        images.append(LabelledImage(name, path, frozenset(), frozenset({"cat"})))
    dataset = Dataset(tmp_path, "csv", ClassTable(("cat",)), tuple(images))
    found = inspect_images(dataset)
    save_catalog(tmp_path / "work/dataset.json", Catalog(dataset, found.shapes, found.hashes, found.states))
    return load_catalog(tmp_path / "work/dataset.json")


def test_files_with_their_size_and_time_are_not_read(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(changed, "file_hash", never)
    monkeypatch.setattr(changed, "image_size", never)
    assert set(catalog.states) == set("abcd") and changed_images(catalog) == []


def test_every_kind_of_change_is_found(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "a.png").unlink()
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    Image.new("RGB", (5, 3), (9, 9, 9)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    found = changed_images(catalog)
    assert [(one.id, one.kind) for one in found] == [("a", "gone"), ("b", "size"), ("c", "content"), ("d", "gone")]
    assert str(found[1]).endswith("b.png: 4x4 pixels now, 5x3 when the masks were made")
    assert [one.id for one in changed_images(catalog, catalog.images[2:3])] == ["c"]
    with pytest.raises(StoreError, match=r"(?s)4 images are not .*a\.png: no such image any more\n.*\nfix them"):
        refuse_changed(found, "fix them")
    refuse_changed([], "fix them")


def test_another_time_alone_is_no_change_and_an_old_catalog_is_hashed(catalog: Catalog, tmp_path: Path) -> None:
    os.utime(tmp_path / "a.png", (1, 1))
    assert changed_images(catalog) == []
    old = Catalog(catalog.dataset, catalog.shapes, catalog.hashes)
    assert changed_images(old) == []
    state = (tmp_path / "b.png").stat()
    data = bytearray((tmp_path / "b.png").read_bytes())
    data[-1] ^= 1
    (tmp_path / "b.png").write_bytes(data)
    os.utime(tmp_path / "b.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert [one.kind for one in changed_images(old)] == ["content"]


def test_at_a_glance_a_few_files_are_read(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(changed, "file_hash", lambda path: read.append(path.stem) or file_hash(path))
    assert changed_at_a_glance(catalog) == ([], 0) and read == []
    for name in "bcd":
        os.utime(tmp_path / f"{name}.png", (1, 1))
    assert changed_at_a_glance(catalog, most=2) == ([], 1) and read == ["b", "c"]
    read.clear()
    (tmp_path / "a.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "d.png")
    changes, not_read = changed_at_a_glance(catalog, most=1)
    assert [(one.id, one.kind) for one in changes] == [("a", "gone"), ("d", "content")]
    assert not_read == 1 and read == ["b"], "another number of bytes is another content"
    old = Catalog(catalog.dataset, catalog.shapes, catalog.hashes)
    assert [one.id for one in changed_at_a_glance(old)[0]] == ["a", "d"]
