"""Labels from YOLO data sets: the classes of each image's boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from recamlabel.adapters.assemble import Draft, Entry, assemble, some
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.files.listing import FolderListing, images_below, is_there
from recamlabel.adapters.files.text import read_text
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.errors import DatasetError

_SUFFIXES = {".yaml", ".yml"}
_PREFERRED = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = ("train", "val", "valid", "test")


@dataclass(frozen=True)
class _Place:
    """One entry of a split: a folder with images, or a list file of them."""

    split: str
    path: Path


class _PlainLoader(yaml.SafeLoader):
    """Plain values only: words such as ``no`` and dates stay text, and an alias is an error.

    The safe loader refuses tags such as ``!!python/object``. Aliases of aliases are 400 bytes that become gigabytes
    as soon as they are written out, and no data.yaml needs one.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As the safe loader's; raises for an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"the alias '*{event.anchor}' is not read; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "int")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class YoloAdapter:
    """Reads ``data.yaml`` (``path``, ``train``, ``val``, ``test``, ``names``) and the label files beside the images.

    ``images/a.jpg`` has its boxes or polygons in ``labels/a.txt``. An empty file says that no
    class is there; without a file nothing is known of the image.
    """

    name = "yolo"
    description = "a YOLO data.yaml with 'names' and 'train', or the folder with it; boxes in labels/*.txt"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is a YOLO data set, or None. Never raises."""
        try:
            file = _file_of(source)
            if file is None:
                return None
            text = file.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return None
        keys = {line.split(":")[0].strip("\"' ") for line in text.splitlines() if not line.startswith((" ", "#", "-"))}
        return f"{file.name} has names and splits" if "names" in keys and keys & set(_SPLITS) else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels of all splits; box coordinates are not looked at.

        Raises:
            DatasetError: No data.yaml, not YAML, without names or splits, or a folder that is not there.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "image_root")
        top = absolute_source(source)
        file = _file_of(top)
        if file is None:
            raise DatasetError(f"{top}: no data.yaml in this folder; expected {self.description}")
        tree = _load(file)
        names = _names(tree, file)
        base = absolute_source(options.image_root) if options.image_root else _base(tree, file)
        places = list(_places(tree, base, file))
        root = Path(os.path.commonpath([p.path if p.path.is_dir() else base for p in places]))
        draft = Draft(self.name, root, file, names=[name for name in names.values() if not is_background(name)])
        listing = FolderListing(root)
        for place in places:
            draft.entries += _entries(place, base, names, draft, listing)
        unlabelled = sum(entry.absent is not None for entry in draft.entries)
        if unlabelled:
            draft.notes.append(f"images without a label file: {unlabelled}; nothing is known of them")
        return assemble(draft, options, listing=listing)


def _file_of(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() in _SUFFIXES else None
    if not source.is_dir():
        return None
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    preferred = [path for name in _PREFERRED for path in files if path.name.lower() == name]
    return preferred[0] if preferred else files[0] if len(files) == 1 else None


def _load(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(read_text(file), Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", row {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DatasetError(f"{file}{where}: not valid YAML: {what}") from None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DatasetError(f"{file}: not valid YAML: a value that does not fit its tag ({error})") from None
    except RecursionError:
        raise DatasetError(f"{file}: nested deeper than any data.yaml is") from None
    if not isinstance(tree, dict):
        raise DatasetError(f"{file}: expected keys such as 'names:' and 'train:', found {type(tree).__name__}")
    return tree


def _names(tree: dict[str, Any], file: Path) -> dict[int, str]:
    """Class names by number."""
    given = tree.get("names")
    pairs = (
        list(given.items()) if isinstance(given, dict) else list(enumerate(given)) if isinstance(given, list) else []
    )
    if not pairs:
        raise DatasetError(f"{file}: no 'names'; expected a list of class names, or a number and a name each")
    names: dict[int, str] = {}
    for number, name in pairs:
        if isinstance(number, bool) or not str(number).isdecimal() or isinstance(name, dict | list) or name is None:
            raise DatasetError(f"{file}: names: {number!r}: {name!r}; expected a number (from 0) and a name")
        text = str(name).strip()
        if text in names.values():
            raise DatasetError(f"{file}: names: {text!r} stands there twice; every name may stand once")
        names[int(number)] = text
    count = tree.get("nc")
    if isinstance(count, int) and count != len(names):
        raise DatasetError(f"{file}: nc is {count}, but there are {len(names)} names; make them agree")
    return dict(sorted(names.items()))


def _base(tree: dict[str, Any], file: Path) -> Path:
    """``path`` where it is a folder here (it often names a folder of another machine), else the file's folder."""
    given = tree.get("path")
    for folder in (file.parent / str(given), Path.cwd() / str(given)) if given else ():
        if is_there(folder) and folder.is_dir():
            return folder.resolve()
    return file.parent


def _places(tree: dict[str, Any], base: Path, file: Path) -> Iterator[_Place]:
    any_split = False
    for split in _SPLITS:
        value = tree.get(split)
        for text in value if isinstance(value, list) else [value] if value else []:
            any_split = True
            path = _resolve(str(text), base, file.parent)
            if path is not None and path.parent == path:
                raise DatasetError(f"{file}: {split}: '{text}' is the whole disk; expected a folder with images")
            if path is not None:
                yield _Place(split, path)
            elif split != "test":  # many files name a test set that nobody has
                raise DatasetError(
                    f"{file}: {split}: no folder or list file '{text}' below {base}; fix 'path' or {split!r}, "
                    "or say where with --set data.image_root=FOLDER"
                )
    if not any_split:
        raise DatasetError(f"{file}: neither 'train' nor 'val'; expected folders with images or list files")


def _resolve(text: str, base: Path, beside: Path) -> Path | None:
    text = text.replace("\\", "/")
    # Exports of Roboflow write '../train/images' for what lies beside the file.
    for candidate in (base / text, beside / text, beside / text.removeprefix("../")):
        if is_there(candidate):
            return candidate.resolve()
    return None


def _entries(place: _Place, base: Path, names: dict[int, str], draft: Draft, listing: FolderListing) -> Iterator[Entry]:
    if place.path.is_dir():
        images: list[tuple[Path, Path, int | None]] = [(path, place.path, None) for path in images_below(place.path)]
        draft.problems += _orphans(place.path, [path for path, _, _ in images])
    else:
        images = [(path, place.path, row) for path, row in _listed(place.path, base, draft)]
    for path, file, row in images:
        relative = PurePosixPath(path.relative_to(draft.root).as_posix())
        try:
            relative_path(str(relative), draft.root)
        except DatasetError as error:
            draft.problems.append(Problem(str(error), file, row))
            continue
        labels = _label_file(path)
        nothing = frozenset[str]()
        if is_there(labels):
            # Messages about the image name the label file, but for those of a list.
            yield Entry(
                relative,
                labels if row is None else file,
                row,
                "",
                _classes(labels, names, draft.problems),
                split=place.split,
            )
        else:
            yield Entry(relative, file, row, "", nothing, absent=nothing, split=place.split)


def _listed(file: Path, base: Path, draft: Draft) -> Iterator[tuple[Path, int]]:
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield base / relative_path(line.strip(), base), row
        except DatasetError as error:
            draft.problems.append(Problem(str(error), file, row))


def _label_file(image: Path) -> Path:
    """``…/images/…/a.jpg`` has ``…/labels/…/a.txt``: the last 'images' counts; else the text lies beside it."""
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def _orphans(folder: Path, images: list[Path]) -> Iterator[Problem]:
    labels = _label_file(folder / "a.jpg").parent
    # Text beside images may be anything.
    if labels == folder or not labels.is_dir():
        return
    expected = {_label_file(image) for image in images}
    for path in sorted(p for p in labels.rglob("*.txt") if p not in expected and p.name != "classes.txt"):
        message = f"a label file without an image below {folder}; put the image there or take the file away"
        yield Problem(message, path, image_id=f"label file {path.relative_to(labels).as_posix()}")


def _classes(file: Path, names: dict[int, str], problems: list[Problem]) -> frozenset[str]:
    class_ids = set()
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        first, *numbers = line.split() or [""]
        if not first:
            continue
        number = _class_number(first)
        if number not in names or len(numbers) < 4:
            message = (
                f"{line.strip()[:60]!r}: expected the number of a class (0..{max(names)}) and at least four coordinates"
                if number is None or len(numbers) < 4
                else f"class {number} is not among the {len(names)} names ({some(list(names.values()))})"
            )
            problems.append(Problem(message, file, row))
        elif not is_background(names[number]):
            class_ids.add(names[number])
    return frozenset(class_ids)


def _class_number(text: str) -> int | None:
    """Some tools write ``0.0``."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
