"""Names of the fields in the FiftyOne data set of a run: which are recamlabel's, which the reviewer's."""

from __future__ import annotations

import re

from recamlabel.core.classes import ClassTable
from recamlabel.masks.reviewed import STATUSES

# Made by recamlabel, renewed by every export.
KEY = "recamlabel_id"
LABELS = "labels"
PSEUDO = "pseudo"
HEAT = "recam"
SEGMENTER = "segmenter"
TRUTH = "ground_truth"
QUALITY = "quality"
DISAGREEMENT = "disagreement"
PRIORITY = "priority"
WITHHELD = "withheld"
SPLIT = "split"
MASKS_KEY = "masks_key"
THRESHOLD = "threshold"
MODEL = "model_hash"
EXPORT_KEY = "export_key"
EDITABLE_DIGEST = "editable_digest"
PULLED = "pulled"
# The reviewer's; beside these the tags.
EDITABLE = "editable"
STATUS = "review_status"
NOTE = "review_note"

INFO = "recamlabel"
STATUS_CHOICES = list(STATUSES)
MAX_CLASS_FIELDS = 100
WITHHELD_NAME = "withheld"
_NAME_LENGTH = 40


def heat_fields(table: ClassTable) -> dict[int, str]:
    """Field of each class's heat map by class id; none above 100 classes, too many for a side bar.

    Example:
        >>> heat_fields(ClassTable(("traffic light", "<b>", "🙂")))
        {1: 'recam_1_traffic_light', 2: 'recam_2_b', 3: 'recam_3'}
    """
    if len(table) > MAX_CLASS_FIELDS:
        return {}
    return {class_id: f"{HEAT}_{class_id}{_slug(table.name_of(class_id))}" for class_id in range(1, len(table) + 1)}


def mask_targets(table: ClassTable) -> dict[int, str]:
    """Class name by mask value, without the background, which the App never draws."""
    names = {class_id: table.name_of(class_id) for class_id in range(1, len(table) + 1)}
    return {**names, table.ignore_id: WITHHELD_NAME}


def _slug(name: str) -> str:
    """Letters and digits of ASCII: a field's name is also a key of the database and part of a URL."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_NAME_LENGTH]
    return f"_{plain}" if plain else ""
