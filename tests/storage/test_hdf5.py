from __future__ import annotations

import h5py
import numpy as np
import pytest

from recamlabel.errors import StoreError
from recamlabel.storage.atomic import replacing, swap_folder
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, leaf_paths, open_store
from recamlabel.storage.png import read_mask, write_mask


def entry(image_id: str, value: int):
    return {f"cam/{image_id}": (np.full((2, 3, 4), value, np.float16), {"class_ids": [1, 7]})}


def test_a_killed_writer_loses_only_its_pending_shard(tmp_path):
    target = tmp_path / "maps.h5"
    writer = ShardedWriter(target, "k", {}, shard_size=2)
    for number in range(5):
        writer.add(f"d/{number}", entry(f"d/{number}", number))
    del writer  # as by kill -9: nothing is flushed
    again = ShardedWriter(target, "k", {"names": ["a"]}, shard_size=2)
    assert again.done == {"d/0", "d/1", "d/2", "d/3"} and not target.exists()
    again.add("d/4", entry("d/4", 4))
    again.finish()
    with open_store(target) as file:
        assert list(leaf_paths(file)) == [f"cam/d/{number}" for number in range(5)]
        assert class_ids(file["cam/d/3"]) == [1, 7] and file["cam/d/3"][0, 0, 0] == 3
        assert file.attrs["names"] == '["a"]'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.h5"]


def test_shards_of_another_key_are_discarded(tmp_path):
    with ShardedWriter(tmp_path / "maps.h5", "old", {}) as writer:
        writer.add("a", entry("a", 1))
        writer.flush()
    assert ShardedWriter(tmp_path / "maps.h5", "old", {}).done == {"a"}
    assert ShardedWriter(tmp_path / "maps.h5", "new", {}).done == set()


def test_interruption_flushes_pending_images(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardedWriter(tmp_path / "m.h5", "k", {}) as writer:
        writer.add("a", entry("a", 1))
        raise KeyboardInterrupt
    assert ShardedWriter(tmp_path / "m.h5", "k", {}).done == {"a"}


def test_images_without_classes_are_stored(tmp_path):
    with ShardedWriter(tmp_path / "m.h5", "k", {}) as writer:
        writer.add("a", {"a": (np.zeros((0, 2, 2), np.float16), {"class_ids": np.zeros(0, np.int32)})})
        writer.finish()
    with open_store(tmp_path / "m.h5") as file:
        assert file["a"].shape == (0, 2, 2) and class_ids(file["a"]) == []


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(StoreError, match="no such file; run `recamlabel fit` first"):
        open_store(tmp_path / "maps.h5")
    (tmp_path / "maps.h5").write_bytes(b"not hdf5")
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        open_store(tmp_path / "maps.h5")


def test_replacing_keeps_the_old_file_on_failure(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="disk"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_swap_folder(tmp_path):
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    swap_folder(tmp_path / "new", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_png_round_trip(tmp_path, dtype):
    mask = np.array([[0, 1, np.iinfo(dtype).max]], dtype=dtype)
    write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(read_mask(tmp_path / "m.png"), mask) and read_mask(tmp_path / "m.png").dtype == dtype


def test_png_is_mode_l_for_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    write_mask(tmp_path / "m.png", np.array([[3, 255]], np.uint8))
    assert cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED).tolist() == [[3, 255]]


def test_colour_masks_are_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(StoreError, match=r"a colour image \(mode RGB\)"):
        read_mask(tmp_path / "c.png")
    with pytest.raises(StoreError, match="no such mask"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(ValueError, match="expected an"):
        write_mask(tmp_path / "f.png", np.zeros((2, 2), np.float32))


def test_h5_ids_open_with_plain_h5py(tmp_path):
    with ShardedWriter(tmp_path / "masks.h5", "k", {}) as writer:
        writer.add("train/a b", {"train/a b": (np.ones((2, 2), np.uint8), {})})
        writer.finish()
    with h5py.File(tmp_path / "masks.h5") as file:
        assert file["train/a b"][()].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.linspace(-1, 1, 30, dtype=np.float16).reshape(3, 10),
        np.linspace(0, 1, 1000),
        np.arange(7, dtype=np.int32)[::2],
        np.zeros((0, 4), np.float32),
        np.float32(3.5) * np.ones(()),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_is_packed_beside_the_network_is_what_hdf5_reads(array, tmp_path):
    with ShardedWriter(tmp_path / "one.h5", "k", {}) as writer:
        writer.add("a", {"a": (array, {"class_ids": [1]})})
        writer.finish()
    with h5py.File(tmp_path / "one.h5") as file:
        found = file["a"]
        assert found.dtype == array.dtype and np.array_equal(found[()], array) and found.attrs["class_ids"] == [1]
        assert (found.compression, found.shuffle) == (("gzip", True) if array.size and array.ndim else (None, False))
