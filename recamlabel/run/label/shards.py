"""The output of ``label``: shards that are finished or not there, and one manifest of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recamlabel.core.classes import ClassTable
from recamlabel.errors import MissingExtraError, StoreError
from recamlabel.run.label.batch import SHARDS, Batch, Shard
from recamlabel.segment.folder import CLASSES_FILE
from recamlabel.storage.atomic import is_empty, replacing, write_text
from recamlabel.storage.remote import refuse_remote

LABEL_FILE, MANIFEST, LOCK = "label.json", "manifest.parquet", ".lock"
# Of a part of the manifest: what its shard depends on.
KEY = b"recamlabel.shard_key"
# What may differ between two calls on one output.
FREE = ("run", "source", "software")


def parquet() -> Any:
    """The module ``pyarrow.parquet``. Raises MissingExtraError."""
    try:
        return import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise MissingExtraError("label writes its manifest with pyarrow: pip install 'recamlabel[cluster]'") from None


def manifest_schema() -> Any:
    """Columns of the manifest (docs/label.md)."""
    arrow = import_module("pyarrow")
    names = {
        "id": arrow.string(),
        "path": arrow.string(),
        "height": arrow.int32(),
        "width": arrow.int32(),
        "bytes": arrow.int64(),
        "hash": arrow.string(),
        "labels": arrow.list_(arrow.string()),
        "quality": arrow.float64(),
        "missing": arrow.list_(arrow.string()),
        "shares": arrow.map_(arrow.string(), arrow.float64()),
        "stage_key": arrow.string(),
        "mask": arrow.string(),
        "problem": arrow.string(),
    }
    return arrow.schema(list(names.items()))


class Output:
    """A folder of shards. Open it with :meth:`at`.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def at(cls, path: Path, settings: Mapping[str, Any], table: ClassTable) -> Iterator[Output]:
        """A new or empty folder, or that of an earlier call with the same settings; held while the block lasts.

        Raises:
            StoreError: Something else is in it, it was made with other settings, or another process works on it.
            MissingExtraError: There is no pyarrow.
        """
        parquet()
        refuse_remote(path, "the output of label")
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path}: a file; --out needs a folder that is new, empty or of an earlier `label`")
        if path.exists() and not (path / LABEL_FILE).is_file() and not is_empty(path, but=LOCK):
            raise StoreError(f"{path}: not empty and not of an earlier `label` (no {LABEL_FILE}); nothing was written")
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{path}: another recamlabel process is writing there; wait for it or stop it") from None
        try:
            _check_settings(path / LABEL_FILE, settings)
            write_text(path / LABEL_FILE, json.dumps(dict(settings), indent=1, ensure_ascii=False))
            write_text(path / CLASSES_FILE, "".join(f"{name}\n" for name in table.names))
            yield cls(path)
        finally:
            lock.release()

    def unfinished(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches without a shard; shards that are none of these batches' any more are removed."""
        keys = {batch.number: batch.key for batch in batches}
        finished = set()
        for part in self._parts():
            number, table = int(part.stem), self._read(part)
            own = (table.schema.metadata or {}).get(KEY, b"").decode() if table is not None else ""
            if own and own == keys.get(number) and self._whole(table):
                finished.add(number)
            else:
                self._discard(part, table)
        return [batch for batch in batches if batch.number not in finished]

    def keep(self, shard: Shard) -> None:
        """Write a shard; its part of the manifest comes last, and with it the shard is finished."""
        arrow = import_module("pyarrow")
        for name, content in shard.files.items():
            with replacing(self.path / name) as temporary:
                temporary.write_bytes(content)
        schema = manifest_schema().with_metadata({KEY: shard.key.encode()})
        memory = arrow.BufferOutputStream()
        parquet().write_table(arrow.Table.from_pylist(list(shard.rows), schema), memory)
        with replacing(self.path / SHARDS / f"{shard.number:06d}.parquet") as temporary:
            temporary.write_bytes(memory.getvalue())

    def write_manifest(self) -> int:
        """All parts in one file; returns the number of images that have a mask."""
        masks = 0
        with replacing(self.path / MANIFEST) as temporary, parquet().ParquetWriter(temporary, manifest_schema()) as one:
            for part in self._parts():
                table = parquet().read_table(part).replace_schema_metadata(None)
                masks += len(table) - table["mask"].null_count
                one.write_table(table)
        return masks

    def _parts(self) -> list[Path]:
        """Of the manifest, in order; whatever else lies there is nobody's here."""
        return sorted(part for part in (self.path / SHARDS).glob("*.parquet") if part.stem.isdecimal())

    def _read(self, part: Path) -> Any:
        arrow = import_module("pyarrow")
        try:
            return parquet().read_table(part)
        except (OSError, arrow.ArrowException):
            return None

    def _whole(self, table: Any) -> bool:
        return all((self.path / name).is_file() for name in self._masks(table))

    def _discard(self, part: Path, table: Any) -> None:
        for name in self._masks(table):
            (self.path / name).unlink(missing_ok=True)
        part.unlink()

    def _masks(self, table: Any) -> set[str]:
        """Files that a part names; never one outside of the folder."""
        names = {name for name in table["mask"].to_pylist() if name} if table is not None else set()
        return {name for name in names if ".." not in Path(name).parts and not Path(name).is_absolute()}


def _check_settings(file: Path, settings: Mapping[str, Any]) -> None:
    if not file.is_file():
        return
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError(f"expected an object, got {type(known).__name__}")
    except ValueError as error:
        raise StoreError(f"{file}: damaged ({error}); give --out a new folder") from None
    for name, value in settings.items():
        if name not in FREE and known.get(name) != value:
            raise StoreError(
                f"{file}: made with {name}={known.get(name)!r}, now {value!r}: masks of both would be mixed; give "
                "--out a new folder, or the same settings and the run as it was"
            )
