"""Masks of a run to what trainers and labelling tools read, one module per format.

A new format is one module with a class that follows :class:`Format`, a line in ``BUILT_IN``,
and a subclass of the contract test. Another package adds its own by an entry point of the group
``recamlabel.exporters``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from recamlabel.core.progress import say
from recamlabel.core.registry import Registry
from recamlabel.export.base import IMAGE_MODES, INSTANCES, ExportOptions, Format, ImageMode
from recamlabel.export.engine import ExportResult, export_with
from recamlabel.export.formats.coco import CocoFormat
from recamlabel.export.formats.cvat import CvatFormat
from recamlabel.export.formats.hdf5 import Hdf5Format
from recamlabel.export.formats.huggingface import HuggingFaceFormat
from recamlabel.export.formats.labelstudio import LabelStudioFormat
from recamlabel.export.formats.mmseg import MmsegFormat
from recamlabel.export.formats.voc import VocFormat
from recamlabel.export.formats.yolo import YoloFormat
from recamlabel.export.mask_sources import SOURCES
from recamlabel.export.plugins import guarded
from recamlabel.export.selection import ON_CHANGED, ONLY, OnChanged, Only, Wanted
from recamlabel.storage.run_folder import RunFolder

__all__ = [
    "FORMATS",
    "IMAGE_MODES",
    "INSTANCES",
    "ONLY",
    "ON_CHANGED",
    "SOURCES",
    "ExportOptions",
    "ExportResult",
    "Format",
    "ImageMode",
    "OnChanged",
    "Only",
    "export_run",
    "get_format",
]

BUILT_IN: tuple[Format, ...] = (
    VocFormat(),
    MmsegFormat(),
    CocoFormat(),
    YoloFormat(),
    HuggingFaceFormat(),
    CvatFormat(),
    LabelStudioFormat(),
    Hdf5Format(),
)
FORMATS: Registry[Format] = Registry(
    "--format",
    "format",
    {one.name: one for one in BUILT_IN},
    "recamlabel.exporters",
    guarded,
)


def get_format(name: str) -> Format:
    """The export format of that name.

    Raises:
        ConfigError: There is none; the message lists all names.

    Example:
        >>> get_format("voc").name
        'voc'
    """
    return FORMATS.find(name)


def export_run(
    run: RunFolder,
    format_name: str,
    out: Path,
    *,
    what: str | None = None,
    splits: Sequence[str] = (),
    only: Only = "all",
    ids: Path | Collection[str] | None = None,
    on_changed: OnChanged = "stop",
    val: float | None = None,
    images: ImageMode | None = None,
    options: ExportOptions | None = None,
    check: bool = True,
) -> ExportResult:
    """Write the masks of a run in another format; the same as ``recamlabel export``.

    The folder appears whole or not at all. Image files are linked or copied, never changed.

    Args:
        run: A run with finished masks.
        format_name: A name of ``FORMATS``.
        out: A new or empty folder, outside of the run and of the data set.
        what: A name of ``SOURCES``: ``"masks"``, ``"segmenter"`` or ``"reviewed"``; None: ``"masks"``, and
            ``"reviewed"`` where ``only`` is not ``"all"``.
        splits: Export these splits alone; empty: all images.
        only: ``"accepted"``: images whose mask a reviewer accepted or painted; ``"reviewed"``: all with a decision,
            except rejected ones; ``"all"``. Whatever it is, a mask that was rejected or is empty is never exported as
            an image in which nothing is (:mod:`recamlabel.export.selection`).
        ids: These images alone: ids, or a text file with one a line.
        on_changed: ``"stop"`` where an image file is not the one that its mask was made from, or ``"skip"`` it.
        val: Share of the images to set aside as split ``val``, where the data set has no splits; None: none.
        images: ``"link"``, ``"copy"`` or ``"none"``; None: the format's own default.
        options: What single formats are asked for.
        check: Read the export back and compare it with the masks before it is put in place.

    Raises:
        ConfigError: An unknown name or id, or settings that do not go together.
        DatasetError: Names or a number of classes that the format cannot hold.
        StoreError: The masks are not there, an image has changed since, no image is left, ``out`` cannot be used,
            or the export does not read back.
        MissingExtraError: The format needs a package that is not installed.

    Example:
        >>> export_run(RunFolder.open(Path("run")), "voc", Path("run-voc")).images  # doctest: +SKIP
        400
    """
    format_ = get_format(format_name)
    if taken := FORMATS.shadowed(format_name):
        say(f"note: {taken}")
    wanted = Wanted(splits, only, ids, on_changed, val)
    return export_with(format_, run, out, what=what, wanted=wanted, images=images, options=options, check=check)
