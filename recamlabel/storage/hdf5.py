"""Arrays by image id in HDF5, with provenance attributes; written in shards that survive a kill.

The finished file opens with plain h5py or ``h5ls``: one dataset per image id (an id with
``/`` in it is a path of groups), optionally below a group such as ``cam`` or ``recam``.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np

from recamlabel.core import ranks
from recamlabel.core.progress import say
from recamlabel.errors import StoreError
from recamlabel.storage.atomic import replacing
from recamlabel.storage.places import placed

# No image id has a backslash.
IDS_KEY = "\\ids"
SHARD_BYTES = 64 * 2**20
COMPRESSION = 4
PACKERS = 2


class Store(h5py.File):  # type: ignore[misc]  # h5py has no types
    """An HDF5 file whose damaged data says which file it is in, and what to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        rotten = isinstance(error, OSError) and error.errno is None and not self._reads_whole()
        place = self.filename
        super().__exit__(kind, error, trace)
        if rotten:
            raise StoreError(f"{place}: damaged ({error}); delete it and run `recamlabel fit` again, it makes it anew")

    def _reads_whole(self) -> bool:
        """Whether all of it can be read: of several files that were open, one is to blame."""
        try:
            for path in leaf_paths(self):
                self[path][()]
        except OSError:
            return False
        return True


def open_store(path: Path) -> h5py.File:
    """Open an HDF5 file for reading. Raises StoreError where it is missing or damaged."""
    path = placed(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such file; run `recamlabel fit` first")
    try:
        return Store(path, "r")
    except OSError as error:
        raise StoreError(
            f"{path}: not a readable HDF5 file ({error}); delete it and run `recamlabel fit` again"
        ) from None


def class_ids(dataset: h5py.Dataset) -> list[int]:
    """The class ids (1..K) of the first axis of a stored map."""
    return [int(value) for value in dataset.attrs["class_ids"]]


def first_dataset(files: Iterable[h5py.File], path: str) -> h5py.Dataset | None:
    """The dataset of that path in the first of the files that has one; None where none has."""
    for file in files:
        item = file.get(path)
        if isinstance(item, h5py.Dataset):
            return item
    return None


@dataclass(frozen=True)
class StoredArrays:
    """Reads ``<image id>`` of a file; opened anew each time, so that any worker process may."""

    path: Path

    def __call__(self, image_id: str) -> np.ndarray:
        """The image's array as it was stored."""
        with open_store(self.path) as file:
            array: np.ndarray = file[image_id][()]
            return array


class HasId(Protocol):
    """An image, or what else has the id that arrays are stored by."""

    @property
    def id(self) -> str: ...


Image = TypeVar("Image", bound=HasId)


class ShardedWriter:
    """Collects arrays by image id into shards, then merges them into one file.

    A shard is written atomically once it holds ``shard_size`` images, so a killed process
    loses at most the shard in memory; a new writer on the same folder sees what is done. Of several processes at
    a stage each writes shards of its own, and the first merges all of them; whoever goes on sees them all.

    Args:
        target: The file that :meth:`finish` makes.
        key: Stage key; shards of another key in the same place are discarded.
        attributes: Root attributes of the finished file; dicts and lists are stored as JSON.
        shard_size: Images per shard, at most; a shard also ends at 64 MiB.
        resume: Keep the shards of an earlier writer with the same key; otherwise start anew.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> with ShardedWriter(folder / "maps.h5", "k1", {"version": "1"}) as writer:
        ...     writer.add("a/b", {"cam/a/b": (np.zeros((1, 2, 2), np.float16), {"class_ids": [3]})})
        ...     writer.finish()
        >>> h5py.File(folder / "maps.h5")["cam/a/b"].shape
        (1, 2, 2)
    """

    def __init__(
        self, target: Path, key: str, attributes: Mapping[str, Any], shard_size: int = 64, *, resume: bool = True
    ) -> None:
        self.target, self.attributes, self.shard_size = target, dict(attributes), shard_size
        self.folder = target.with_name(f".{target.name}.parts") / key
        self._pending: dict[str, list[tuple[str, Future[_Packed], Mapping[str, Any]]]] = {}
        # zlib works beside Python's other threads: the network need not wait for what it made to be compressed.
        self._packers = ThreadPoolExecutor(PACKERS, thread_name_prefix="pack")
        self._bytes = 0
        # One of several processes looks and clears up, so that all know the same images as done.
        self.done: set[str] = ranks.of_first(lambda: self._found(resume))

    def _found(self, resume: bool) -> set[str]:
        """The images in the shards of an earlier writer; what is of no use is removed."""
        for other in self.folder.parent.glob("*"):
            if other != self.folder or not resume:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        done: set[str] = set()
        for shard in self._shards():
            try:
                done |= _ids_of(shard)
            except (OSError, KeyError, RuntimeError) as error:
                say(f"note: {shard}: a damaged part of {self.target.name} ({error}), removed; its images are made anew")
                shard.unlink()
        return done

    def __enter__(self) -> ShardedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A plain interruption keeps what is finished; an error from the disk itself must not be masked.
        try:
            if kind is not None and not issubclass(kind, OSError):
                self.flush()
        finally:
            self._packers.shutdown(cancel_futures=True)

    def add(self, image_id: str, arrays: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]]) -> None:
        """Add one image: ``{dataset path: (array, attributes)}``."""
        self._pending[image_id] = [
            (path, self._packers.submit(_pack, array), attributes) for path, (array, attributes) in arrays.items()
        ]
        self._bytes += sum(array.nbytes for array, _ in arrays.values())
        if len(self._pending) >= self.shard_size or self._bytes >= SHARD_BYTES:
            self.flush()

    def todo(self, images: Sequence[Image]) -> list[Image]:
        """The images that are not there yet; of several processes at the stage, this one's share of them."""
        return ranks.share([image for image in images if image.id not in self.done])

    def flush(self) -> None:
        """Write the pending images as one shard."""
        if not self._pending:
            return
        # By place and content: where a part was deleted, the next one replaces no other.
        digest = hashlib.sha256("\n".join(self._pending).encode()).hexdigest()[:12]
        name = f"{len(self._shards()):06d}-rank{ranks.rank()}-{digest}.h5"
        # Made in memory: HDF5 itself may crash the process when the disk is full, a plain write cannot.
        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for arrays in self._pending.values():
                for path, packed, attributes in arrays:
                    _write_packed(file, path, packed.result(), attributes)
            file.create_dataset(IDS_KEY, data=list(self._pending), dtype=h5py.string_dtype())
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(memory.getbuffer())
        self.done |= set(self._pending)
        self._pending.clear()
        self._bytes = 0

    def finish(self) -> None:
        """Merge all shards into the target file, atomically, and remove them; of several processes the first does.

        Raises:
            StoreError: A shard has gone or is damaged; what is there stays, and the same command makes the rest.
        """
        self.flush()
        if everyones := ranks.gathered(self.done):
            self.done = set().union(*everyones)
            self._merge()
        ranks.meet()

    def _merge(self) -> None:
        self._check_whole()
        _check_space(self.target.parent, sum(shard.stat().st_size for shard in self._shards()))
        with replacing(self.target) as temporary, h5py.File(temporary, "w") as file:
            for name, value in self.attributes.items():
                file.attrs[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
            for shard in self._shards():
                with h5py.File(shard, "r") as part:
                    for path in leaf_paths(part):
                        if path != IDS_KEY:
                            _copy(part, file, path)
        shutil.rmtree(self.folder.parent)

    def _check_whole(self) -> None:
        there: set[str] = set()
        for shard in self._shards():
            try:
                there |= _ids_of(shard)
            except (OSError, KeyError, RuntimeError) as error:
                raise StoreError(f"{shard}: damaged ({error}); run the same command again, it makes it anew") from None
        if lost := self.done - there:
            raise StoreError(
                f"{self.folder}: the parts with {len(lost)} images have gone ({', '.join(sorted(lost)[:3])}, …); run "
                "the same command again, it makes them anew"
            )

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.h5"))


def _ids_of(shard: Path) -> set[str]:
    """The images that a shard holds."""
    with h5py.File(shard, "r") as file:
        return set(file[IDS_KEY].asstr()[()])


def write_array(file: h5py.File, path: str, array: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """Write one compressed dataset with attributes (empty arrays and single numbers uncompressed)."""
    _write_packed(file, path, _pack(array), attributes)


@dataclass(frozen=True)
class _Packed:
    """An array as HDF5 stores it: ``chunk`` holds all of it, shuffled and deflated; None: as it is."""

    array: np.ndarray
    chunk: bytes | None


def _pack(array: np.ndarray) -> _Packed:
    """What HDF5's own filters would make of the array as one chunk, outside its lock."""
    if not array.size or not array.ndim or array.dtype.hasobject:
        return _Packed(array, None)
    # The shuffle filter: all first bytes of the elements, then all second ones.
    shuffled = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.itemsize).T.tobytes()
    return _Packed(array, zlib.compress(shuffled, COMPRESSION))


def _write_packed(file: h5py.File, path: str, packed: _Packed, attributes: Mapping[str, Any]) -> None:
    array = packed.array
    if packed.chunk is None:
        dataset = file.create_dataset(path, data=array)
    else:
        options = {"compression": "gzip", "compression_opts": COMPRESSION, "shuffle": True}
        dataset = file.create_dataset(path, array.shape, array.dtype, chunks=array.shape, **options)
        dataset.id.write_direct_chunk((0,) * array.ndim, packed.chunk)
    for name, value in attributes.items():
        dataset.attrs[name] = value


def leaf_paths(group: h5py.Group, prefix: str = "") -> Iterator[str]:
    """Paths of all datasets below a group, in name order."""
    for name, item in group.items():
        path = f"{prefix}{name}"
        if isinstance(item, h5py.Group):
            yield from leaf_paths(item, f"{path}/")
        else:
            yield path


def _check_space(folder: Path, needed: int) -> None:
    """Raise OSError (no space left) before HDF5 meets a full disk. The margin is for the file's own tables."""
    free = shutil.disk_usage(folder).free
    if free < needed + needed // 20 + 1_000_000:
        text = f"No space left on device: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
        raise OSError(errno.ENOSPC, text, str(folder))


def _copy(source: h5py.File, target: h5py.File, path: str) -> None:
    parent = path.rpartition("/")[0]
    source.copy(path, target.require_group(parent) if parent else target, name=path.rpartition("/")[2])
