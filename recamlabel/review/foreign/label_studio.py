"""Label Studio's JSON: brush RLE, polygons, rectangles and ellipses of submitted annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from recamlabel.errors import StoreError
from recamlabel.export.encode.brush_rle import decode
from recamlabel.review.decisions.file import count, utc_time
from recamlabel.review.foreign.found import Drawn, Found, LeftOutError, Reading, check_size, nothing
from recamlabel.review.foreign.match import Labels
from recamlabel.review.foreign.shapes import Region, box, ellipse, polygon

KIND = "labelstudio"
# Kinds of results that say something of the image or of a region, and draw nothing.
WITHOUT_AREA = {"labels", "choices", "textarea", "rating", "number", "taxonomy", "pairwise", "relation", "datetime"}


def is_tasks(tree: Any) -> bool:
    """Whether a JSON tree is a list of tasks."""
    return isinstance(tree, list) and bool(tree) and all(isinstance(task, dict) and "data" in task for task in tree)


def read_label_studio(path: Path, tasks: list[Any], labels: Labels) -> tuple[Reading, Iterator[Found]]:
    """The annotated images of an export in the format ``JSON``.

    Raises:
        StoreError: No task has a submitted annotation.
    """
    reading = Reading(KIND)
    submitted = [(task, _submitted(task)) for task in tasks]
    without = sum(not annotations for _, annotations in submitted)
    if without == len(tasks):
        raise StoreError(
            f"{path}: {len(tasks)} tasks, none with a submitted annotation (predictions, drafts and skipped tasks do "
            "not count); submit them in Label Studio, then export as JSON"
        )
    if without:
        left_out = count(without, "task")
        reading.notes.append(f"{left_out} without a submitted annotation (skipped or deleted): not taken")
    found = (
        _found(task, annotation, labels)
        for task, annotations in submitted
        for annotation in annotations
        if isinstance(annotation.get("result"), list)
    )
    _count_shapes(reading, [annotation for _, annotations in submitted for annotation in annotations])
    return reading, found


def _submitted(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        return []
    return [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]


def _count_shapes(reading: Reading, annotations: list[Mapping[str, Any]]) -> None:
    kinds: Counter[str] = Counter()
    for annotation in annotations:
        for result in annotation.get("result") or []:
            kind = str(result.get("type", "")).lower() if isinstance(result, dict) else ""
            if kind not in WITHOUT_AREA and _kind(kind) not in SHAPES:
                kinds[kind] += 1
    if kinds:
        words = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        reading.notes.append(f"regions of kinds that are not read were left out: {words}")


def _found(task: Mapping[str, Any], annotation: Mapping[str, Any], labels: Labels) -> Found:
    def draw(shape: tuple[int, int]) -> Drawn:
        try:
            return _draw(annotation["result"], labels, shape)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise LeftOutError(f"with a damaged region ({error})") from None

    return Found(tuple(_names(task["data"])), draw, _time(annotation))


def _names(data: Any) -> Iterator[str]:
    """What a task may call its image: our own id first, then every text that ends like a path."""
    if not isinstance(data, dict):
        return
    if isinstance(data.get("recamlabel_id"), str):
        yield data["recamlabel_id"]
    for value in data.values():
        if not isinstance(value, str):
            continue
        parts = urlsplit(value) if "://" in value or value.startswith("/") else None
        if parts is None:
            yield value
            continue
        # Local files are /data/local-files/?d=folder/name.jpg there; uploads begin with eight digits of a hash.
        path = unquote(parts.path) if not (local := parse_qs(parts.query).get("d")) else local[0]
        yield path
        folder, _, name = path.rpartition("/")
        if len(name) > 9 and name[8] == "-":
            yield f"{folder}/{name[9:]}" if folder else name[9:]


def _time(annotation: Mapping[str, Any]) -> str:
    try:
        return utc_time(str(annotation.get("updated_at") or annotation.get("created_at") or "").replace("Z", "+00:00"))
    except ValueError:
        return ""


def _draw(results: list[Any], labels: Labels, shape: tuple[int, int]) -> Drawn:
    mask = nothing(shape)
    # With <Labels> beside <Brush>, a region's label is a result of its own with the same id.
    named = {result.get("id"): _label(result) for result in results if _label(result)}
    for result in results:
        kind = _kind(str(result.get("type", "")).lower())
        if kind not in SHAPES:
            continue
        check_size((int(result["original_height"]), int(result["original_width"])), shape)
        if result.get("image_rotation"):
            raise LeftOutError("turned in Label Studio")
        label = _label(result) or named.get(result.get("id"))
        if not label:
            raise LeftOutError("with a region without a label")
        mask[SHAPES[kind](result["value"], shape)] = labels.id_of(label)
    return mask


def _label(result: Any) -> str | None:
    value = result.get("value") if isinstance(result, dict) else None
    names = [value[key] for key in value if key.endswith("labels")] if isinstance(value, dict) else []
    return str(names[0][0]) if names and names[0] else None


def _kind(kind: str) -> str:
    return kind.removesuffix("labels") or kind


def _brush(value: Any, shape: tuple[int, int]) -> Region:
    if value.get("format") != "rle":
        raise ValueError(f"brush format {value.get('format')!r}, expected 'rle'")
    return decode(value["rle"], shape)


def _polygon(value: Any, shape: tuple[int, int]) -> Region:
    return polygon(np.array(value["points"], dtype=np.float64).reshape(-1, 2) * _percent(shape), shape)


def _rectangle(value: Any, shape: tuple[int, int]) -> Region:
    x_unit, y_unit = _percent(shape)
    left, top = value["x"] * x_unit, value["y"] * y_unit
    right, bottom = left + value["width"] * x_unit, top + value["height"] * y_unit
    return polygon(box(left, top, right, bottom, float(value.get("rotation") or 0), (left, top)), shape)


def _ellipse(value: Any, shape: tuple[int, int]) -> Region:
    x_unit, y_unit = _percent(shape)
    centre = (value["x"] * x_unit, value["y"] * y_unit)
    radii = (value["radiusX"] * x_unit, value["radiusY"] * y_unit)
    return ellipse(*centre, *radii, float(value.get("rotation") or 0), shape)


def _percent(shape: tuple[int, int]) -> tuple[float, float]:
    return shape[1] / 100, shape[0] / 100


SHAPES: dict[str, Callable[[Any, tuple[int, int]], Region]] = {
    "brush": _brush,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}
