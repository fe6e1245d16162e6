"""One self-contained HTML page about a run: labels, scores, pictures, curves, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.classes import BACKGROUND_ID, BACKGROUND_NAME
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError
from recamlabel.evaluation.evaluate import METRICS_SECTION
from recamlabel.evaluation.scoring import STAGE_OF, WHAT
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.review.curves import charts
from recamlabel.review.findings import read_findings
from recamlabel.review.gallery import Card, Gallery
from recamlabel.review.page import flat, number, short, template
from recamlabel.review.pictures import class_colours
from recamlabel.storage.atomic import write_text
from recamlabel.workspace import RunFolder

REPORT_FILE = "report.html"
MAX_IMAGES = 200
NAMES = {
    "cam-seeds": "CAM seeds",
    "recam-seeds": "ReCAM seeds",
    "scores": "Refined, best level",
    "masks": "Masks",
    "complete-masks": "Masks, nothing withheld",
    "reviewed": "Masks after review",
    "segmenter": "Segmenter",
}


def write_report(
    run: RunFolder, truth_dir: Path | None = None, max_images: int = 24, truth_classes: Path | None = None
) -> Path:
    """Write ``RUN/report.html``: one page that needs no other file and no network.

    Args:
        run: A run; what is not made yet is left out and says so.
        truth_dir: Folder of true masks, to show them beside the masks. The scores on the page
            are those of ``metrics.json``: this function measures nothing.
        max_images: Images in the gallery, 1 to 200.
        truth_classes: Names file of true masks with ids of their own.

    Returns:
        The path of the page.

    Raises:
        ConfigError: ``max_images`` out of range.
        StoreError: The run has no data set yet, a file of it is damaged, or no true mask fits.

    Example:
        >>> write_report(RunFolder.open(Path("run")), Path("truth"))  # doctest: +SKIP
        PosixPath('run/report.html')
    """
    if not 1 <= max_images <= MAX_IMAGES:
        raise ConfigError(f"images in the report: expected 1 to {MAX_IMAGES}, got {max_images}")
    catalog = load_catalog(run.path / CATALOG_FILE)
    table = catalog.dataset.classes
    gallery = Gallery(run, catalog, None if truth_dir is None else TruthFolder(truth_dir, table, truth_classes))
    cards = gallery.cards(max_images)
    path = run.path / REPORT_FILE
    write_text(path, _page(run, catalog, gallery, cards))
    return path


def _page(run: RunFolder, catalog: Catalog, gallery: Gallery, cards: list[Card]) -> str:
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(catalog.dataset.classes)]
    scores = list(_scores(run))
    page: str = template("report.html.j2").render(
        title="/".join(run.path.resolve().parts[-2:]).lstrip("/"),
        summary=_summary(run, catalog),
        gate=read_findings(run, catalog),
        scores=scores,
        headline=next((row for row in scores if row["key"] == "masks"), None),
        classes=list(_classes(run, catalog)),
        class_columns=[NAMES[what] for what in _scored(run)],
        cards=cards,
        ignore_shown=gallery.ignore_shown,
        charts=charts(run.events()),
        stages=list(_stages(run)),
        settings=[(key, short(value)) for key, value in flat(run.state.config)],
        versions=run.state.versions,
        version=__version__,
        colours=colours,
        ignore_colour=colours[-1],
    )
    return page


def _summary(run: RunFolder, catalog: Catalog) -> list[tuple[str, str]]:
    """Facts about the data set, for the head of the page."""
    dataset = catalog.dataset
    labels = [len(image.present) for image in catalog.images]
    facts = [
        ("images", number(len(catalog.images))),
        ("classes", number(len(dataset.classes))),
        ("labels per image", f"{sum(labels) / max(len(labels), 1):.2f}"),
        ("without a label", number(labels.count(0))),
        ("size in pixels", _sizes(catalog)),
    ]
    splits = Counter(image.split for image in catalog.images if image.split is not None)
    if splits:
        facts.append(("splits", ", ".join(f"{name} {number(count)}" for name, count in splits.items())))
    facts.append(("read by adapter", dataset.adapter))
    if "source" in run.state.dataset:
        facts.append(("source", str(run.state.dataset["source"])))
    return facts


def _sizes(catalog: Catalog) -> str:
    shapes = list(catalog.shapes.values())
    if not shapes:
        return "–"
    low, high = (tuple(pick(shape[axis] for shape in shapes) for axis in (1, 0)) for pick in (min, max))
    smallest = f"{low[0]}×{low[1]}"
    return smallest if low == high else f"{smallest} to {high[0]}×{high[1]}"


def _scores(run: RunFolder) -> Iterator[dict[str, Any]]:
    """The evaluations of ``metrics.json``, whole data set first, with a mark on outdated ones."""
    entries: Mapping[str, Any] = run.metrics().get(METRICS_SECTION, {})
    order = {what: position for position, what in enumerate(WHAT)}
    ranked = sorted(entries.items(), key=lambda item: (item[1]["split"] or "", order.get(item[1]["what"], 9)))
    for key, entry in ranked:
        stage = STAGE_OF.get(entry["what"], "maps")
        current = run.state.stages.get(stage, {}).get("key")
        yield {
            **entry,
            "key": key,
            "name": NAMES.get(entry["what"], entry["what"]),
            "outdated": entry["stage_key"] != current,
        }


def _scored(run: RunFolder) -> list[str]:
    """What was scored over the whole data set, in the order of the pipeline."""
    entries = run.metrics().get(METRICS_SECTION, {})
    return [what for what in WHAT if what in entries]


def _classes(run: RunFolder, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """One row a class, background first: positives, share of the masks' pixels, IoU of each evaluation."""
    table = catalog.dataset.classes
    positives = Counter(name for image in catalog.images for name in image.present)
    pixels: Mapping[str, int] = run.state.stages.get("masks", {}).get("pixels", {})
    total = sum(pixels.values())
    largest = max((count for name, count in pixels.items() if name not in {BACKGROUND_NAME, "ignored"}), default=0)
    entries: Mapping[str, Any] = run.metrics().get(METRICS_SECTION, {})
    for class_id in range(len(table) + 1):
        name = table.name_of(class_id)
        yield {
            "id": class_id,
            "name": name,
            "positives": None if class_id == BACKGROUND_ID else positives[name],
            "share": 100 * pixels.get(name, 0) / total if total else None,
            # The background would dwarf every class: bars compare the classes among themselves.
            "bar": 100 * pixels.get(name, 0) / largest if largest and class_id != BACKGROUND_ID else 0,
            "iou": [entries.get(what, {}).get("per_class", {}).get(name, {}).get("iou") for what in _scored(run)],
        }


def _stages(run: RunFolder) -> Iterator[dict[str, Any]]:
    for name, record in run.state.stages.items():
        own = {"key", "finished", "seconds", "outputs"}
        facts = [
            f"{key} {short(value)}"
            for key, value in record.items()
            if key not in own and not isinstance(value, dict | list)
        ]
        yield {
            "name": name,
            "facts": ", ".join(facts),
            **{key: record.get(key) for key in ("key", "finished", "seconds")},
        }
