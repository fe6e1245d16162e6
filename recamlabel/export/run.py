"""The export itself: plan, refuse, write into a temporary folder, read back, put in place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recamlabel import __version__
from recamlabel.adapters.base import LabelledImage
from recamlabel.classes import MAX_CLASSES_8BIT
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.export.base import IMAGE_MODES, ExportOptions, Format, ImageMode, Item, Mask, Plan
from recamlabel.export.names import UniqueNames, flat_name, folder_name
from recamlabel.export.place import check_out, place_image
from recamlabel.export.source import MaskFiles, open_source, read_mask, source_key
from recamlabel.export.verify import Check, verify
from recamlabel.progress import track
from recamlabel.storage.atomic import placing, write_text
from recamlabel.workspace import RunFolder

RECORD = "recamlabel-export.json"


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Args:
        path: Its folder.
        images: Number of images.
        notes: What a person must know.
        checks: What was read back, and with what; empty if that was not asked for.
    """

    path: Path
    images: int
    notes: tuple[str, ...]
    checks: tuple[Check, ...]


def export_with(
    format_: Format,
    run: RunFolder,
    out: Path,
    *,
    what: str = "masks",
    splits: Sequence[str] = (),
    images: ImageMode | None = None,
    options: ExportOptions | None = None,
    check: bool = True,
) -> ExportResult:
    """As :func:`recamlabel.export.export_run`, with a format instead of its name."""
    catalog = load_catalog(run.path / CATALOG_FILE)
    with open_source(run, what) as source:
        plan = build_plan(format_, run, catalog, what, splits, images, options or ExportOptions())
        format_.check(plan)
        place = check_out(out, run.path, catalog)
        with placing(place) as folder:
            notes = [*_place_images(format_, plan, folder), *format_.write(plan, folder, _masks(format_, plan, source))]
            record = {**plan.provenance, "images": len(plan.items), "class_names": plan.class_names}
            write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            checks = verify(format_, plan, folder, source) if check else []
    return ExportResult(place, len(plan.items), tuple(notes), tuple(checks))


def build_plan(
    format_: Format,
    run: RunFolder,
    catalog: Catalog,
    what: str,
    splits: Sequence[str],
    images: ImageMode | None,
    options: ExportOptions,
) -> Plan:
    """What goes where, before any mask is read.

    Raises:
        ConfigError: Unknown split or way with images, or one that the format has no place for.
        DatasetError: More classes than the format can hold.
        StoreError: The run has no image.
    """
    classes = catalog.dataset.classes
    if len(classes) > format_.max_classes:
        raise DatasetError(
            f"{format_.name} has 8-bit masks and holds {MAX_CLASSES_8BIT} classes beside background and ignore; "
            f"the run has {len(classes)}. Formats without that limit: coco, hdf5, labelstudio"
        )
    mode = _image_mode(format_, images)
    chosen = _images_of(catalog, splits)
    if not chosen:
        raise StoreError(f"{run.path}: no image to export")
    provenance = {
        "software": f"recamlabel {__version__}",
        "run": str(run.path.resolve()),
        "what": what,
        "stage_key": source_key(run, what),
    }
    items = tuple(_items(format_, catalog, chosen))
    return Plan(classes, items, catalog.dataset.root, mode, options, provenance)


def _image_mode(format_: Format, images: ImageMode | None) -> ImageMode:
    if images is None:
        return format_.image_modes[0]
    if images not in IMAGE_MODES:
        raise ConfigError(f"unknown --images {images!r}; the ways are: {', '.join(IMAGE_MODES)}")
    if images not in format_.image_modes:
        raise ConfigError(f"--images {images}: not with {format_.name}, which takes: {', '.join(format_.image_modes)}")
    return images


def _images_of(catalog: Catalog, splits: Sequence[str]) -> list[LabelledImage]:
    dataset = catalog.dataset
    for split in splits:
        if split not in dataset.splits:
            known = f"the splits are: {', '.join(dataset.splits)}" if dataset.splits else "the data set has no splits"
            raise ConfigError(f"unknown split {split!r}; {known}")
    return [image for image in dataset.images if not splits or image.split in splits]


def _items(format_: Format, catalog: Catalog, images: Sequence[LabelledImage]) -> Iterator[Item]:
    """Images with their names in the export; those without a split are ``train``, beside others ``unsplit``."""
    names, folders = UniqueNames(), UniqueNames()
    subsets: dict[str | None, str] = {}
    for split in dict.fromkeys(image.split for image in images):
        if split is not None:
            subsets[split] = folders.take(folder_name(split))
    subsets[None] = folders.take("unsplit" if subsets else "train")
    for image in images:
        name = image.id if format_.naming == "nested" else names.take(flat_name(image.id))
        yield Item(image.id, name, image.path, catalog.shapes[image.id], image.split, subsets[image.split])


def _place_images(format_: Format, plan: Plan, folder: Path) -> list[str]:
    if plan.images == "none":
        return []
    turned = 0
    with track(f"{plan.images} images", len(plan.items)) as advance:
        for item in plan.items:
            turned += place_image(item.path, folder / format_.image_path(item), plan.images)
            advance()
    if not turned:
        return []
    return [
        f"{turned} images are to be turned by their EXIF data, and their masks are upright: "
        "a reader that does not turn them (Pillow alone) sees another image"
    ]


def _masks(format_: Format, plan: Plan, source: MaskFiles) -> Iterator[tuple[Item, Mask]]:
    with track(f"export {format_.name}", len(plan.items)) as advance:
        for item in plan.items:
            yield item, read_mask(source, item, plan.classes)
            advance()
