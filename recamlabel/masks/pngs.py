"""Whether ``RUN/masks/*.png`` are as they were made, and writing those again that are not.

Every command reads ``masks.h5``; the PNG files are for people and other programs, who may delete, cut or
paint them. ``masks.json`` holds the size, time and content hash of each as it was written: where size and
time are the same the file is taken as it is, else (a copied run has other times) the hash decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import ClassTable
from recamlabel.core.colours import mask_palette
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE, FileState, load_catalog
from recamlabel.data.changed import file_hash, file_state
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import leaf_paths, open_store
from recamlabel.storage.places import placed
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

RECORD_FILE = "work/masks.json"
FOLDER, MASKS_FILE = "masks", "masks.h5"
BY_HAND = "masks-by-hand"
NAMED = 3


@dataclass(frozen=True)
class PngMark:
    """What a PNG file was when it was written.

    Args:
        state: Size and time.
        digest: Hash of its content.
    """

    state: FileState
    digest: str


@dataclass(frozen=True)
class PngDamage:
    """PNG files that are not as they were made, by image id.

    Attributes:
        missing: Not there any more.
        changed: With another content.
        touched: With another time and the same content, such as in a copied run: no damage.
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed)

    def __str__(self) -> str:
        """In words, with the first names.

        Example:
            >>> str(PngDamage(("a",), ("b", "c")))
            '1 PNG file of masks/ is missing (a), 2 were changed since they were made (b, c)'
        """
        parts: list[str] = []
        for names, one, many in (
            (self.missing, "is missing", "are missing"),
            (self.changed, "was changed since it was made", "were changed since they were made"),
        ):
            if names:
                files = "" if parts else f" PNG file{'s' if len(names) > 1 else ''} of {FOLDER}/"
                shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
                parts.append(f"{len(names)}{files} {one if len(names) == 1 else many} ({shown})")
        return ", ".join(parts)


@dataclass(frozen=True)
class PngRecord:
    """What the PNG files were when they were written.

    Args:
        mode: Of all of them, ``"P"`` or ``"L"``.
        marks: By image id.
    """

    mode: str
    marks: Mapping[str, PngMark]


def png_mark(path: Path) -> PngMark:
    """The mark of a file that was just written."""
    state = file_state(path)
    if state is None:
        raise FileNotFoundError(path)
    return PngMark(state, file_hash(path))


def palette_of(table: ClassTable, mode: str) -> NDArray[np.uint8] | None:
    """The palette of PNG files of a mode, ``"P"`` or ``"L"``; masks of 16 bits have none in either."""
    return mask_palette(table) if mode == "P" else None


def save_record(run: Path, key: str, marks: Mapping[str, PngMark], mode: str = "L") -> None:
    """Write ``masks.json``.

    Args:
        run: The run folder.
        key: Key of the stage ``masks``; a record of another state of the masks is not looked at.
        marks: By image id.
        mode: Of the files, ``"P"`` or ``"L"``.
    """
    # In order of the names: threads finish in any.
    files = {name: [*mark.state, mark.digest] for name, mark in sorted(marks.items())}
    write_text(run / RECORD_FILE, json.dumps({"stage_key": key, "png": mode, "files": files}, ensure_ascii=False))


def check_pngs(run: RunFolder) -> PngDamage:
    """Which PNG files are not as they were made; none before there are masks.

    For a run of an earlier version, which has no record, missing files alone are found.
    """
    stage = run.state.stages.get("masks", {})
    if FOLDER not in stage.get("outputs", ()) or not (run.path / MASKS_FILE).is_file():
        return PngDamage()
    record = _read_record(run.path, str(stage["key"]))
    if record is None:
        return PngDamage(missing=tuple(name for name in _ids(run.path) if not _png(run.path, name).is_file()))
    missing: list[str] = []
    changed: list[str] = []
    touched: list[str] = []
    for name, mark in record.marks.items():
        path = _png(run.path, name)
        state = file_state(path)
        if state is None:
            missing.append(name)
        elif state != mark.state:
            same = state[0] == mark.state[0] and _digest(path) == mark.digest
            (touched if same else changed).append(name)
    return PngDamage(tuple(missing), tuple(changed), tuple(touched))


def fix_pngs(run: RunFolder) -> PngDamage:
    """Write the PNG files again that are missing or changed, from ``masks.h5``; the caller holds the run's lock.

    A changed file may be somebody's work: it goes to ``RUN/masks-by-hand/``. Says what was done.

    Returns:
        What was found.
    """
    damage = check_pngs(run)
    key = str(run.state.stages.get("masks", {}).get("key", ""))
    record = _read_record(run.path, key)
    if damage:
        for name in damage.changed:
            _keep(run.path, name)
        _write_again(run, (*damage.missing, *damage.changed), record.mode if record else _wanted_mode(run))
        kept = f"; what was changed lies in {BY_HAND}/" if damage.changed else ""
        say(
            f"masks: {damage}; written again from {MASKS_FILE}{kept}. Nothing reads these files: paint masks in "
            "`recamlabel review`"
        )
    if record is not None and (damage or damage.touched):
        renewed = {name: png_mark(_png(run.path, name)) for name in (*damage.missing, *damage.changed, *damage.touched)}
        save_record(run.path, key, {**record.marks, **renewed}, record.mode)
    return damage


def match_png_mode(run: RunFolder) -> bool:
    """Write all PNG files again where ``masks.png`` of the run's settings is not the mode that they have.

    The caller holds the run's lock, and :func:`fix_pngs` has put aside what was changed by hand.

    Returns:
        Whether they were written.
    """
    stage = run.state.stages.get("masks", {})
    key, wanted = str(stage.get("key", "")), _wanted_mode(run)
    record = _read_record(run.path, key)
    if record is None or wanted == record.mode or not (run.path / MASKS_FILE).is_file():
        return False
    _write_again(run, record.marks, wanted)
    save_record(run.path, key, {name: png_mark(_png(run.path, name)) for name in record.marks}, wanted)
    say(f"masks: {len(record.marks)} PNG files written again in mode {wanted} (masks.png); the masks are the same")
    return True


def _write_again(run: RunFolder, names: Iterable[str], mode: str) -> None:
    palette = palette_of(load_catalog(run.path / CATALOG_FILE).dataset.classes, mode)
    with open_store(run.path / MASKS_FILE) as file:
        for name in names:
            write_mask(_png(run.path, name), file[name][()], palette)


def _wanted_mode(run: RunFolder) -> str:
    return str(run.state.config.get("masks", {}).get("png", "P"))


def _read_record(run: Path, key: str) -> PngRecord | None:
    """The record of the present masks; None where there is none, or none that can be read."""
    try:
        tree: Any = json.loads(placed(run / RECORD_FILE).read_text(encoding="utf-8"))
        if tree["stage_key"] != key:
            return None
        marks = {name: PngMark((int(row[0]), int(row[1])), str(row[2])) for name, row in tree["files"].items()}
        # Earlier versions wrote no other mode and do not say it.
        return PngRecord(str(tree.get("png", "L")), marks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _ids(run: Path) -> Iterator[str]:
    with open_store(run / MASKS_FILE) as file:
        yield from leaf_paths(file)


def _png(run: Path, image_id: str) -> Path:
    return run / FOLDER / f"{image_id}.png"


def _digest(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError:
        return ""


def _keep(run: Path, image_id: str) -> None:
    """Put a changed PNG aside, under a name that is free."""
    target, number = run / BY_HAND / f"{image_id}.png", 1
    while target.exists():
        number += 1
        target = run / BY_HAND / f"{image_id}~{number}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    _png(run, image_id).replace(target)
