"""The report: self-contained HTML pages about a run, on which its masks can be reviewed."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.adapters.base import LabelledImage
from recamlabel.core.colours import class_colours
from recamlabel.core.progress import say, track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.review.decisions.changes import read_changes
from recamlabel.review.decisions.identity import Identity, identity_of, run_name
from recamlabel.review.page.charts import charts
from recamlabel.review.page.gallery import SIDE, Card, Gallery
from recamlabel.review.page.gate_findings import read_findings
from recamlabel.review.page.html import flat, number, short, static_file, template
from recamlabel.review.page.level_chart import read_level, truth_warnings
from recamlabel.review.page.rounds_pages import COMPARISONS
from recamlabel.review.page.tables import (
    NAMES,
    QualityScores,
    class_rows,
    headline,
    read_quality_scores,
    review_rows,
    round_rows,
    score_rows,
    scored,
)
from recamlabel.storage.atomic import write_text
from recamlabel.storage.run_folder import RunFolder

REPORT_FILE = "report.html"
PAGE_IMAGES = 200
# In this order: each uses what stands before it alone.
SCRIPTS = (
    "planes.js",
    "paint.js",
    "history.js",
    "layers.js",
    "store.js",
    "stage.js",
    "editor.js",
    "tabs.js",
    "review.js",
)
LEAST_SIDE, LARGEST_SIDE = 64, 4096


def write_report(
    run: RunFolder,
    truth_dir: Path | None = None,
    max_images: int | None = PAGE_IMAGES,
    truth_classes: Path | None = None,
    side: int = SIDE,
) -> Path:
    """Write ``RUN/report.html``: a page that needs no other file and no network, to look at and to review on.

    Above 200 images further pages ``report-2.html``, … hold the rest; those of an earlier, longer
    report are removed. Photographs that are not those the masks were made from are named, and marked on their cards.

    Args:
        run: A run; what is not made yet is left out and says so.
        truth_dir: Folder of true masks, to show them beside the masks. The scores on the page
            are those of ``metrics.json``: this function measures nothing.
        max_images: Images to show, the ones to review first in front; None for all.
        truth_classes: Names file of true masks with ids of their own.
        side: Longer side of the embedded photographs in pixels, 64 to 4096. Where the browser may read the image's own
            file, the editor shows that instead.

    Returns:
        The path of the first page.

    Raises:
        ConfigError: ``max_images`` below 1, or ``side`` out of its range.
        StoreError: The run has no data set yet, a file of it is damaged, or no true mask fits.

    Example:
        >>> write_report(RunFolder.open(Path("run")), Path("truth"))  # doctest: +SKIP
        PosixPath('run/report.html')
    """
    if max_images is not None and max_images < 1:
        raise ConfigError(f"images in the report: expected at least 1, or all, got {max_images}")
    if not LEAST_SIDE <= side <= LARGEST_SIDE:
        raise ConfigError(f"side of the pictures: expected {LEAST_SIDE} to {LARGEST_SIDE} pixels, got {side}")
    catalog = load_catalog(run.path / CATALOG_FILE)
    truth = None if truth_dir is None else TruthFolder(truth_dir, catalog.dataset.classes, truth_classes)
    gallery = Gallery(run, catalog, truth, read_quality_scores(run), side)
    if warning := gallery.photographs.warning():
        say(f"warning: {warning}")
    _write_pages(run, catalog, gallery, gallery.choose(max_images))
    return run.path / REPORT_FILE


def _write_pages(run: RunFolder, catalog: Catalog, gallery: Gallery, images: Sequence[LabelledImage]) -> None:
    parts = [images[start : start + PAGE_IMAGES] for start in range(0, len(images), PAGE_IMAGES)] or [[]]
    pages = _Pages(run, catalog, gallery, parts, identity_of(run, catalog))
    # The first page last: whoever opens it finds the others in place.
    with track("report pictures", len(images)) as advance:
        for place in reversed(range(len(parts))):
            write_text(run.path / page_file(place), pages.render(place, gallery.cards(parts[place], advance)))
    for old in _later_pages(run.path, len(parts)):
        old.unlink()


def page_file(place: int) -> str:
    """File name of a page by its place, from 0.

    Example:
        >>> page_file(0), page_file(1)
        ('report.html', 'report-2.html')
    """
    return REPORT_FILE if place == 0 else f"report-{place + 1}.html"


def _later_pages(folder: Path, count: int) -> list[Path]:
    numbers = {path: path.stem.removeprefix("report-") for path in folder.glob("report-*.html")}
    return [path for path, text in numbers.items() if text.isascii() and text.isdigit() and int(text) > count]


@dataclass(frozen=True)
class _Pages:
    """Renders the pages of one report."""

    run: RunFolder
    catalog: Catalog
    gallery: Gallery
    parts: Sequence[Sequence[LabelledImage]]
    identity: Identity

    def render(self, place: int, cards: list[Card]) -> str:
        table = self.catalog.dataset.classes
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(table)]
        script = "\n".join(map(static_file, SCRIPTS))
        page: str = template("report.html.j2" if place == 0 else "report_more.html.j2").render(
            **(self._facts() if place == 0 else {}),
            title=run_name(self.run),
            version=__version__,
            colours=colours,
            ignore_id=table.ignore_id,
            legend=[(class_id, table.name_of(class_id)) for class_id in range(1, len(table) + 1)],
            cards=cards,
            forced=_forced(self.run),
            changed_photographs=self.gallery.photographs.warning(),
            ordered=self.gallery.quality is not None,
            shown=sum(map(len, self.parts)),
            total=len(self.catalog.images),
            place=place,
            page_images=PAGE_IMAGES,
            pages=[page_file(class_id) for class_id in range(len(self.parts))],
            data=self._data(cards),
            planes=_planes(cards),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            review_css=static_file("review.css"),
        )
        return page

    def _data(self, cards: list[Card]) -> dict[str, Any]:
        """What the script knows: the run, and of each card what was decided about which mask."""
        table, gallery = self.catalog.dataset.classes, self.gallery
        return {
            "run": self.identity.to_json(),
            "total": len(self.catalog.images),
            "names": [table.name_of(class_id) for class_id in range(len(table) + 1)],
            "colours": [[int(value) for value in colour] for colour in class_colours(table)],
            "ignore": table.ignore_id,
            "background": table.background,
            "levels": gallery.levels,
            "level": gallery.level,
            "cards": [
                {
                    "image": card.id,
                    "mask": card.digest,
                    "status": card.decision.status if card.decision else None,
                    "note": card.decision.note if card.decision else "",
                    "time": card.decision.time if card.decision else "",
                    "size": list(card.shape),
                    "file": card.file,
                    "ids": list(card.score_ids),
                    "since": card.since or bool(card.changed),
                }
                for card in cards
            ],
        }

    def _facts(self) -> dict[str, Any]:
        """Everything but the pictures, for the first page."""
        run, catalog, table = self.run, self.catalog, self.catalog.dataset.classes
        scores, level = list(score_rows(run)), read_level(run)
        positives = Counter(name for image in catalog.images for name in image.present)
        names = [table.name_of(class_id) for class_id in range(len(table) + 1)]
        return {
            "summary": _summary(run, catalog, self.gallery.quality),
            "gate": read_findings(run, self.gallery.photographs),
            "scores": scores,
            "level": level,
            "rounds": round_rows(run),
            "reviewed_rounds": review_rows(run),
            "round_pages": {name: (run.path / name).is_file() for name in COMPARISONS},
            "warnings": truth_warnings(level, scores),
            "changes": read_changes(run, self.gallery.photographs),
            "headline": headline(scores),
            "classes": list(class_rows(run, names, positives, self.gallery.quality)),
            "class_columns": [NAMES[what] for what in scored(run)],
            "charts": charts(run.events()),
            "stages": list(_stages(run)),
            "settings": [(key, short(value)) for key, value in flat(run.state.config)],
            "versions": run.state.versions,
        }


def _planes(cards: Sequence[Card]) -> str:
    """What the editor works on, a line each: place of the card, name, packed numbers. Read when it is asked for."""
    return "\n".join(f"{place} {name} {text}" for place, card in enumerate(cards) for name, text in card.planes.items())


def _forced(run: RunFolder) -> str:
    """Which trainings learnt nothing and were gone on with because of ``--force``; empty where none did."""
    names = [name for name, record in run.state.stages.items() if record.get("useless")]
    if not names:
        return ""
    return (
        f"The training of {', '.join(names)} learnt nothing and was gone on with (--force): no map, mask or score of "
        "this run is to be trusted."
    )


def _summary(run: RunFolder, catalog: Catalog, quality: QualityScores | None) -> list[tuple[str, str]]:
    """Facts about the data set, for the head of the page, and what the segmenter finds where nothing is."""
    dataset = catalog.dataset
    labels = [len(image.present) for image in catalog.images]
    facts = [
        ("images", number(len(catalog.images))),
        ("classes", number(len(dataset.classes))),
        ("labels per image", f"{sum(labels) / max(len(labels), 1):.2f}"),
        ("without a label", number(labels.count(0))),
        ("size in pixels", _sizes(catalog)),
    ]
    if quality is not None and quality.normal[0]:
        images, fires = quality.normal
        what = "normal image" if images == 1 else "normal images"
        facts.append(("the segmenter fires on", f"{number(fires)} of {number(images)} {what}"))
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


def _stages(run: RunFolder) -> Iterator[dict[str, Any]]:
    for name, record in run.state.stages.items():
        shown = {"key", "finished", "seconds", "outputs"}
        facts = [
            f"{key} {short(value)}"
            for key, value in record.items()
            if key not in shown and not isinstance(value, dict | list)
        ]
        yield {
            "name": name,
            "facts": ", ".join(facts),
            **{key: record.get(key) for key in ("key", "finished", "seconds")},
        }
