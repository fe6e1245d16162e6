"""The export itself: plan, refuse, write into a temporary folder, read back, put in place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recamlabel import __version__
from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import MAX_CLASSES_8BIT
from recamlabel.core.progress import track
from recamlabel.core.registry import check_choice
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.changed import ChangedImage, changed_images, refuse_changed
from recamlabel.errors import ConfigError, DatasetError
from recamlabel.export.base import IMAGE_MODES, ExportOptions, Format, ImageMode, Item, Mask, Plan
from recamlabel.export.mask_sources import MaskFiles, open_source, read_mask, source_key
from recamlabel.export.safe_names import UniqueNames, flat_name, folder_name
from recamlabel.export.selection import LeftOut, Rule, Wanted, choose, refuse_nothing
from recamlabel.export.target import check_out, place_image
from recamlabel.export.validation import with_validation
from recamlabel.export.verify import Check, verify
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.storage.atomic import placing, write_text
from recamlabel.storage.run_folder import RunFolder

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
    what: str | None = None,
    wanted: Wanted | None = None,
    images: ImageMode | None = None,
    options: ExportOptions | None = None,
    check: bool = True,
) -> ExportResult:
    """As :func:`recamlabel.export.export_run`, with a format instead of its name."""
    wanted, left = wanted or Wanted(), LeftOut()
    what = what or ("masks" if wanted.only == "all" else "reviewed")
    catalog = load_catalog(run.path / CATALOG_FILE)
    with open_source(run, what) as source:
        chosen = choose(catalog, run.path, wanted, left)
        refuse_nothing(run.path, chosen, left)
        chosen = chosen if wanted.val is None else with_validation(chosen, wanted.val)
        plan = build_plan(format_, run, catalog, what, chosen, images, options or ExportOptions())
        format_.check(plan)
        place = check_out(out, run.path, catalog)
        plan, gone = _with_unchanged(format_, plan, catalog, chosen, wanted, left)
        kinds = ReviewFolder(run.path).kinds()
        # A segmenter's mask is not the one that a reviewer saw.
        rule = Rule({image.id: image for image in chosen}, kinds if what != "segmenter" else {})
        selected = rule.apply(format_, plan, source, left)
        plan, source = selected.plan, selected.source
        refuse_nothing(run.path, plan.items, left)
        notes = [*left.notes(wanted, plan.classes.ignore_id, what), *gone, *_other_masks(what, kinds, plan)]
        with placing(place) as folder:
            notes += [
                *_place_images(format_, plan, folder),
                *format_.write(plan, folder, _masks(format_, plan, source)),
            ]
            record = {**plan.provenance, "images": len(plan.items), "class_names": plan.class_names}
            record |= {"wanted": wanted.to_json(), **left.to_json()}
            write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            checks = verify(format_, plan, folder, source) if check else []
    return ExportResult(place, len(plan.items), tuple(notes), tuple(checks))


def build_plan(
    format_: Format,
    run: RunFolder,
    catalog: Catalog,
    what: str,
    chosen: Sequence[LabelledImage],
    images: ImageMode | None,
    options: ExportOptions,
) -> Plan:
    """What goes where, before any mask is read.

    Raises:
        ConfigError: Unknown way with images, or one that the format has no place for.
        DatasetError: More classes than the format can hold.
    """
    classes = catalog.dataset.classes
    if len(classes) > format_.max_classes:
        from recamlabel.export import BUILT_IN, FORMATS

        formats = [*BUILT_IN, *FORMATS.load_others()[0]]
        free = ", ".join(sorted(one.name for one in formats if one.max_classes >= len(classes)))
        bits = "has 8-bit masks and " if format_.max_classes == MAX_CLASSES_8BIT else ""
        raise DatasetError(
            f"{format_.name} {bits}holds {format_.max_classes} classes beside background and ignore; "
            f"the run has {len(classes)}. Formats without that limit: {free}"
        )
    mode = _image_mode(format_, images)
    provenance = {
        "software": f"recamlabel {__version__}",
        "run": str(run.path.resolve()),
        "what": what,
        "stage_key": source_key(run, what),
    }
    items = tuple(_items(format_, catalog, chosen))
    return Plan(classes, items, catalog.dataset.root, mode, options, provenance)


def _with_unchanged(
    format_: Format, plan: Plan, catalog: Catalog, chosen: Sequence[LabelledImage], wanted: Wanted, left: LeftOut
) -> tuple[Plan, list[str]]:
    """The plan without images whose files have changed, where that is wished, and what is to be said.

    Where no image file is exported, one that has gone matters to nobody: the masks are those of the catalog.

    Raises:
        StoreError: Some have changed, and they are not to be left out.
    """
    changes = changed_images(catalog, chosen)
    gone = [change for change in changes if change.kind == "gone" and plan.images == "none"]
    changes = [change for change in changes if change not in gone]
    if wanted.on_changed == "stop":
        refuse_changed(changes, _way_out(format_, changes))
    elif changes:
        left.by_rule["changed"] = [change.id for change in changes]
    names = {change.id for change in changes}
    notes = []
    if gone:
        notes.append(
            f"{len(gone)} of the image files cannot be read any more (first: {gone[0]}); not compared with them"
        )
    return replace(plan, items=tuple(item for item in plan.items if item.id not in names)), notes


def _way_out(format_: Format, changes: Sequence[ChangedImage]) -> str:
    if any(change.kind != "gone" for change in changes):
        remedy = "put the old ones back, or run `recamlabel fit` again, which makes their masks anew"
    else:
        remedy = "put it back" + (", or use --images none" if "none" in format_.image_modes else "")
    return f"{remedy}; --on-changed skip leaves such images out. Nothing was exported"


def _other_masks(what: str, kinds: Mapping[str, str], plan: Plan) -> list[str]:
    """That the review has painted masks which are not the ones exported."""
    painted = sum(kinds.get(item.id) == "painted" for item in plan.items)
    if what == "reviewed" or not painted:
        return []
    return [
        f"{painted} of these masks were painted by a reviewer, and are exported as they were before: --what reviewed"
    ]


def _image_mode(format_: Format, images: ImageMode | None) -> ImageMode:
    if images is None:
        return format_.image_modes[0]
    check_choice("--images", images, IMAGE_MODES, "way")
    if images not in format_.image_modes:
        raise ConfigError(f"--images {images}: not with {format_.name}, which takes: {', '.join(format_.image_modes)}")
    return images


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
