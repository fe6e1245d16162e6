"""How the App shows a run: fields, colours, groups of the side bar, what can be edited, saved views."""

from __future__ import annotations

from typing import Any

from recamlabel.core.classes import ClassTable
from recamlabel.core.colours import class_colours
from recamlabel.review.fiftyone import fields as fields
from recamlabel.review.fiftyone.session import QUEUE

# Mask and regions lie over each other: together 0.64.
OPACITY = 0.4
_MASKS = (fields.PSEUDO, fields.SEGMENTER, fields.TRUTH)
_HIDDEN = (fields.EXPORT_KEY, fields.EDITABLE_DIGEST, fields.PULLED)
_DESCRIPTIONS = {
    fields.LABELS: "image labels, with the classifier's confidence",
    fields.PSEUDO: "the mask that recamlabel made",
    fields.EDITABLE: "the same mask to paint in: a region per class",
    fields.HEAT: "ReCAM maps of all labels together",
    fields.SEGMENTER: "the segmenter's own mask, which knows no label",
    fields.TRUTH: "true mask, for comparison only",
    fields.QUALITY: "quality score of the mask, 0 to 1",
    fields.DISAGREEMENT: "1 less the IoU of mask and segmenter, 0 to 1",
    fields.PRIORITY: "place in the queue, 1 first",
    fields.WITHHELD: "share of the pixels that is withheld",
    fields.SPLIT: "split of the image",
    fields.MASKS_KEY: "key of the stage that made the mask",
    fields.THRESHOLD: "background level of the mask",
    fields.MODEL: "hash of the weights that made the maps",
    fields.STATUS: "accepted, rejected or fix; the tags of these names say the same",
    fields.NOTE: "free text",
}


def declare_fields(fo: Any, data: Any, table: ClassTable, *, truth: bool) -> None:
    """Add the fields that are not there yet, and indices for what is looked up and sorted by."""
    heat = dict.fromkeys(fields.heat_fields(table).values(), fo.Heatmap)
    masks = {name: fo.Segmentation for name in _MASKS if truth or name != fields.TRUTH}
    labels = {fields.LABELS: fo.Classifications, fields.EDITABLE: fo.Detections, fields.HEAT: fo.Heatmap}
    texts = (fields.KEY, fields.SPLIT, fields.MASKS_KEY, fields.MODEL, *_HIDDEN, fields.STATUS, fields.NOTE)
    numbers = (fields.QUALITY, fields.DISAGREEMENT, fields.WITHHELD, fields.THRESHOLD)
    existing = data.get_field_schema()
    for name, kind in {**labels, **masks, **heat}.items():
        if name not in existing:
            text = _DESCRIPTIONS.get(name) or f"ReCAM map of {_class_of(name, table)}"
            data.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=kind, description=text)
    plain = {**dict.fromkeys(texts, fo.StringField), **dict.fromkeys(numbers, fo.FloatField)}
    for name, kind in {**plain, fields.PRIORITY: fo.IntField}.items():
        if name not in existing:
            data.add_sample_field(name, kind, description=_DESCRIPTIONS.get(name))
    data.create_index(fields.KEY, unique=True)
    for name in (fields.PRIORITY, fields.QUALITY, fields.DISAGREEMENT, fields.STATUS):
        data.create_index(name)


def arrange(fo: Any, data: Any, table: ClassTable) -> None:
    """Colours, groups, editing and views; for a data set that has samples."""
    targets = fields.mask_targets(table)
    data.default_mask_targets = targets
    data.mask_targets = {name: targets for name in _MASKS if data.has_field(name)}
    data.classes = {name: list(table.names) for name in (fields.LABELS, fields.EDITABLE)}
    config = data.app_config
    config.color_scheme = _colours(fo, table)
    # Only what is shown can be edited, so the regions are; the mask below them has the withheld pixels too.
    config.active_fields = fo.ActiveFields(paths=[fields.LABELS, fields.PSEUDO, fields.EDITABLE, fields.STATUS])
    config.sidebar_groups = _groups(fo, data, table)
    data.save()
    _allow_editing(data, table)
    _save_views(fo, data, table)


def undecided(fo: Any) -> Any:
    """Expression: samples without a status, told neither by field nor by tag."""
    field, tags = fo.ViewField(fields.STATUS), fo.ViewField("tags")
    return (~field.is_in(fields.STATUS_CHOICES)) & (tags.intersection(fields.STATUS_CHOICES).length() == 0)


def _class_of(field: str, table: ClassTable) -> str:
    return next(table.name_of(class_id) for class_id, name in fields.heat_fields(table).items() if name == field)


def _colours(fo: Any, table: ClassTable) -> Any:
    """The report's colours for labels, regions and mask values alike."""
    codes = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(table)]
    by_value = [
        *({"intTarget": class_id, "color": codes[class_id]} for class_id in range(1, len(table) + 1)),
        {"intTarget": table.ignore_id, "color": codes[-1]},
    ]
    by_name = [{"value": table.name_of(class_id), "color": codes[class_id]} for class_id in range(1, len(table) + 1)]
    named = [
        {"path": name, "colorByAttribute": "label", "valueColors": by_name} for name in (fields.LABELS, fields.EDITABLE)
    ]
    masks = [{"path": name, "maskTargetsColors": by_value} for name in _MASKS]
    paths = [*named, *masks]
    return fo.ColorScheme(color_by="value", fields=paths, default_mask_targets_colors=by_value, opacity=OPACITY)


def _groups(fo: Any, data: Any, table: ClassTable) -> list[Any]:
    """What is looked at often is open; maps of single classes, provenance and FiftyOne's own fields are folded."""
    heat = list(fields.heat_fields(table).values())
    layout = {
        "tags": (["tags", "_label_tags"], True),
        "review": ([fields.STATUS, fields.NOTE], True),
        "masks": ([fields.LABELS, fields.EDITABLE, *_MASKS, fields.HEAT], True),
        "scores": ([fields.PRIORITY, fields.QUALITY, fields.DISAGREEMENT, fields.WITHHELD, fields.SPLIT], True),
        "maps of single classes": (heat, False),
        "provenance": ([fields.KEY, fields.MASKS_KEY, fields.THRESHOLD, fields.MODEL, *_HIDDEN], False),
    }
    present = set(data.get_field_schema(flat=True)) | {"tags", "_label_tags"}
    groups = [
        fo.SidebarGroupDocument(name=name, paths=[path for path in paths if path in present], expanded=expanded)
        for name, (paths, expanded) in layout.items()
    ]
    placed = {path for group in groups for path in group.paths}
    for group in fo.DatasetAppConfig.default_sidebar_groups(data):
        rest = [path for path in group.paths if path not in placed]
        if rest and group.name not in layout:
            own = group.name == "labels"  # fields that the reviewer has added
            name = "other labels" if own else group.name
            groups.append(fo.SidebarGroupDocument(name=name, paths=rest, expanded=own))
    return groups


def _allow_editing(data: Any, table: ClassTable) -> None:
    """Regions, status and note can be edited in the App without a click of preparation."""
    own = [fields.EDITABLE, fields.STATUS, fields.NOTE]
    schemas = data.generate_label_schemas(fields=own, scan_samples=False)
    schemas[fields.STATUS].update(component="radio", values=list(fields.STATUS_CHOICES))
    shown = [one for one in schemas[fields.EDITABLE]["attributes"] if one["name"] in ("id", "tags")]
    schemas[fields.EDITABLE].update(component="dropdown", classes=list(table.names), attributes=shown)
    data.set_label_schemas(schemas)
    data.activate_label_schemas(own)


def _save_views(fo: Any, data: Any, table: ClassTable) -> None:
    field, tags = fo.ViewField(fields.STATUS), fo.ViewField("tags")
    open_ = data.match(undecided(fo))
    views = {
        QUEUE: (open_.sort_by(fields.PRIORITY), "masks without a decision, the most doubtful first"),
        "disagreements": (
            data.match(fo.ViewField(fields.DISAGREEMENT) > 0).sort_by(fields.DISAGREEMENT, reverse=True),
            "mask and segmenter differ, the most different first",
        ),
    }
    for name, status in (("accepted", "accepted"), ("rejected", "rejected"), ("to fix", "fix")):
        decided = data.match((field == status) | tags.contains(status))
        views[name] = (decided.sort_by(fields.PRIORITY), f"status or tag {status}")
    if len(table) <= fields.MAX_CLASS_FIELDS:
        for class_id, class_name in enumerate(table.names, start=1):
            own = data.match(fo.ViewField(f"{fields.LABELS}.classifications.label").contains(class_name))
            # The number keeps names apart that differ in signs alone, which an address cannot hold.
            views[f"class {class_id}: {class_name[:80]}"] = (own.sort_by(fields.PRIORITY), "images with this label")
    for name, (view, text) in views.items():
        data.save_view(name, view, description=text, overwrite=True)
