"""The ways from labels to masks that a trial compares, each the default with something changed."""

from __future__ import annotations

from dataclasses import dataclass

from recamlabel.adapters.base import Dataset
from recamlabel.config import Config

# Fewer normal images hardly show what background is.
ENOUGH_NORMAL = 10
# What every run of a trial does without, or does shortly.
SHORT = ("segmenter.enabled=false", "rounds=1", "classifier.epochs=1", "recam.epochs=1")
MAPS_ALONE = ("probe.enabled=false", "local.enabled=false")


@dataclass(frozen=True)
class Candidate:
    """One way.

    Attributes:
        name: As the table and the folder have it.
        about: What it is, in a few words.
        settings: What differs from the settings that ``fit`` would use.
    """

    name: str
    about: str
    settings: tuple[str, ...] = ()


def candidates(config: Config, dataset: Dataset) -> list[Candidate]:
    """What can be tried on these images, the settings as they are first.

    Args:
        config: The settings that ``fit`` would use.
        dataset: The sample.

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.core.classes import ClassTable
        >>> [one.name for one in candidates(Config(), Dataset(Path("."), "csv", ClassTable(("cat",)), ()))]
        ['as-set', 'recam', 'recam-product', 'cam', 'alike']
    """
    found = [
        Candidate("as-set", "the settings as they are"),
        Candidate("recam", "re-activated maps alone", MAPS_ALONE),
        Candidate("recam-product", "re-activated maps by the paper's product", (*MAPS_ALONE, "recam.combine=product")),
        Candidate("cam", "the classifier's maps alone", (*MAPS_ALONE, "refine.source=cam")),
        Candidate("alike", "maps spread along alike patches", ("refine.affinity=features",)),
    ]
    if sum(dataset.is_normal(image) for image in dataset.images) >= ENOUGH_NORMAL:
        found.append(Candidate("normal", "distance to normal images", ("maps.variant=patchmemory",)))
    if config.refine.saliency:
        found.append(Candidate("without-saliency", "the same without the saliency maps", ("refine.saliency=",)))
    return found
