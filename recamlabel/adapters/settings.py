"""Settings of one adapter that another cannot use are refused, not dropped in silence."""

from __future__ import annotations

from recamlabel.adapters.base import AdapterOptions
from recamlabel.errors import ConfigError

_COLUMNS = frozenset({"image_column", "labels_column", "split_column", "label_separator"})
_DEFAULTS = AdapterOptions()
_ABOUT = {
    **dict.fromkeys(_COLUMNS, "tables such as CSV files"),
    "image_root": "label files that name their images",
    "coco_exhaustive": "COCO files",
    "voc_difficult": "VOC data sets",
    "split_lists": "VOC data sets",
    "image_cache": "Hugging Face data sets",
}
COLUMN_SETTINGS = tuple(sorted(_COLUMNS))


def refuse_foreign_settings(adapter: str, options: AdapterOptions, *used: str) -> None:
    """Refuse settings that an adapter does not use; ``classes`` is for all.

    Args:
        adapter: Its name, for the message.
        options: What the user has set.
        used: Names of the settings that the adapter does use.

    Raises:
        ConfigError: Another setting is not at its default.

    Example:
        >>> refuse_foreign_settings("yolo", AdapterOptions(coco_exhaustive=True))
        Traceback (most recent call last):
        ...
        recamlabel.errors.ConfigError: data.coco_exhaustive is about COCO files; the adapter 'yolo' cannot use it, ...
    """
    for setting, about in _ABOUT.items():
        if setting not in used and getattr(options, setting) != getattr(_DEFAULTS, setting):
            raise ConfigError(f"data.{setting} is about {about}; the adapter {adapter!r} cannot use it, leave it out")
