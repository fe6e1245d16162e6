"""Data sets at an address (``s3://``, ``gs://``, ``hf://``, ``memory://``) as folders of this machine."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from recamlabel.storage.remote import as_url, mirror

# What adapters read to find labels; copied whole, while of images there are pointers.
LABEL_SUFFIXES = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".arrow", ".parquet", ".names"}
)


def local_source(source: Path) -> Path:
    """The path that stands for a source: itself, or where its mirror lies.

    Raises:
        RecamlabelError: An address that cannot be read; says why.

    Example:
        >>> local_source(Path("photos/labels.csv")).as_posix()
        'photos/labels.csv'
    """
    return source if as_url(source) is None else mirror(source, is_label_file)


def is_label_file(name: str) -> bool:
    """Whether a file of this name is copied whole."""
    return PurePosixPath(name).suffix.lower() in LABEL_SUFFIXES
