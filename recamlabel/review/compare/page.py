"""The page of a comparison: tables, and pictures of the images whose masks changed most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.core.colours import class_colours
from recamlabel.core.progress import say, track
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import ConfigError
from recamlabel.review.compare.runs import Comparison, ImageChange, mask_pairs
from recamlabel.review.page.gallery import Tile, picture_side, tile
from recamlabel.review.page.html import short, template
from recamlabel.review.page.photographs import Photographs
from recamlabel.review.page.thumbnails import DIFFERENCE, difference_overlay, mask_overlay
from recamlabel.storage.atomic import write_text
from recamlabel.storage.run_folder import RunFolder

MAX_IMAGES = 200
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ChangeCard:
    """One image: its change, its labels in run A, its four pictures; why its photograph is not that of A's masks."""

    change: ImageChange
    labels: tuple[tuple[int, str], ...]
    tiles: tuple[Tile, ...]
    photograph: str = ""


def check_page(path: Path) -> None:
    """Refuse a place where no page can be, before any work.

    Raises:
        ConfigError: A folder, or a name that does not end in .html.
    """
    if path.is_dir() or path.suffix.lower() not in SUFFIXES:
        found = "a folder" if path.is_dir() else "not the name of a page"
        raise ConfigError(f"--out {path}: {found}; expected a file such as compare.html")


def write_comparison(comparison: Comparison, path: Path, max_images: int = 12) -> Path:
    """Write a comparison as one HTML page that needs no other file and no network.

    Args:
        comparison: What :func:`~recamlabel.review.compare.runs.compare_runs` found.
        path: The page.
        max_images: Images with pictures, the most changed first; equal masks are not shown.

    Returns:
        ``path``.

    Raises:
        ConfigError: ``path`` cannot be a page.
        DatasetError: An image that has not changed cannot be read.
        StoreError: A file of a run is damaged.

    Example:
        >>> write_comparison(compare_runs(a, b), Path("compare.html"))  # doctest: +SKIP
        PosixPath('compare.html')
    """
    check_page(path)
    table = comparison.classes
    ignored = bool(comparison.pixels_first[-1] or comparison.pixels_second[-1])
    chosen = {change.id: change for change in comparison.images[:max_images] if change.changed > 0}
    catalog = load_catalog(comparison.first / CATALOG_FILE)
    photographs = Photographs(catalog, [image for image in catalog.images if image.id in chosen])
    if warning := photographs.warning():
        say(f"warning: {warning}")
    page = template("compare.html.j2").render(
        comparison=comparison,
        rows=list(share_rows(comparison)),
        settings=[(one.name, _shown(one.first), _shown(one.second)) for one in comparison.settings],
        stages=[(one.name, _shown(one.first), _shown(one.second)) for one in comparison.stages],
        cards=list(_cards(comparison, chosen, photographs)),
        changed_photographs=warning,
        classes=[(class_id, table.name_of(class_id)) for class_id in range(1, len(table) + 1)],
        # The last kind of difference exists only where there is "ignore".
        differences=[(name, _hex(colour)) for name, colour in list(DIFFERENCE.items())[: None if ignored else -1]],
        ignored=ignored,
        colours=[_hex(colour) for colour in class_colours(table)],
        version=__version__,
    )
    write_text(path, page)
    return path


def share_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One row a class, background first and "ignore" last where there is some: pixel shares and IoU in percent.

    Keys: ``name``, ``first``, ``second`` (share of the pixels, percent), ``iou_first``,
    ``iou_second`` (percent, as :meth:`TruthScores.iou` has it; None without true masks or where there was nothing to
    measure).
    """
    table, scores = comparison.classes, comparison.scores
    sides = (comparison.pixels_first, comparison.pixels_second)
    shares = [100 * pixels / max(int(pixels.sum()), 1) for pixels in sides]
    for row in range(len(table) + 2):
        ignored = row == len(table) + 1
        if ignored and not any(pixels[row] for pixels in sides):
            continue
        values = [] if scores is None or ignored else [side[row] for side in scores.iou()]
        iou = [None if value != value else 100 * float(value) for value in values] or [None, None]
        yield {
            "id": row,
            "name": "withheld" if ignored else table.name_of(row),
            "first": float(shares[0][row]),
            "second": float(shares[1][row]),
            "iou_first": iou[0],
            "iou_second": iou[1],
        }


def _cards(comparison: Comparison, chosen: Mapping[str, ImageChange], photographs: Photographs) -> Iterator[ChangeCard]:
    first, second = (RunFolder.open(path) for path in (comparison.first, comparison.second))
    table, images = comparison.classes, {image.id: image for image in photographs.catalog.images}
    side = picture_side(len(chosen))
    with track("comparison pictures", len(chosen)) as advance:
        for image_id, one, two in mask_pairs(first, second, list(chosen)):
            small = photographs.small(image_id, side)
            tiles = (
                tile("Image", f"Image {image_id}", small),
                tile("Mask A", f"Mask of {image_id} in A", mask_overlay(small, one, table)),
                tile("Mask B", f"Mask of {image_id} in B", mask_overlay(small, two, table)),
                tile(
                    "Difference",
                    f"Where the masks of {image_id} differ",
                    difference_overlay(small, one, two, table.ignore_id),
                ),
            )
            labels = tuple((class_id, table.name_of(class_id)) for class_id in table.ids_of(images[image_id].present))
            change = photographs.changed.get(image_id)
            yield ChangeCard(chosen[image_id], labels, tiles, change.what if change else "")
            advance()


def _shown(value: Any) -> str:
    return "–" if value is None else short(value)


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
