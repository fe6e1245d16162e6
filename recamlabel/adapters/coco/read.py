"""Labels from COCO instances: the categories of each image's annotations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.files.json_file import find_json_files, has_key, peek_json, read_json
from recamlabel.adapters.files.listing import FolderListing, find_image_folder
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.errors import DatasetError

_EXPECTED = "COCO instances with the lists 'images', 'annotations' and 'categories'"
Id = int | str


# gc=False: a million of these hold no cycles, and the collector need not walk them.
class _Image(msgspec.Struct, gc=False):
    id: Id | None = None
    file_name: str | None = None
    coco_url: str | None = None
    split: str | None = None  # as `recamlabel convert` writes it; a file name may not hold every split's name
    neg_category_ids: list[Id] | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id | None = None
    category_id: Id | None = None
    id: Id | None = None
    iscrowd: int | bool | None = None


class _Category(msgspec.Struct, gc=False):
    id: Id | None = None
    name: str | None = None


class _Content(msgspec.Struct):
    images: list[_Image] | None = None
    annotations: list[_Annotation] | None = None
    categories: list[_Category] | None = None


@dataclass(frozen=True)
class _File:
    """A decoded file: its images' categories, and where its images lie."""

    path: Path
    split: str | None
    images: list[tuple[int, _Image]]
    names: dict[Id, str]
    present: dict[Id, set[Id]]
    folder: Path
    exhaustive: bool


class CocoAdapter:
    """Reads COCO instances; the data root is the image folder, or what several have in common.

    A category is present where an annotation has it, a crowd region too: it is a group of the
    class. Without one it is absent, or unknown with ``coco_exhaustive=False``; LVIS's
    ``neg_category_ids`` are absent and make all others unknown.
    """

    name = "coco"
    description = "a COCO instances .json, or a folder with annotations/instances_*.json"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is COCO, or None. Never raises."""
        try:
            if source.is_file():
                return "a .json file with COCO images and annotations" if _is_coco(source) else None
            files = _find_files(source) if source.is_dir() else []
        except (OSError, ValueError):
            return None
        return f"COCO images and annotations in {files[0][0].relative_to(source)}" if files else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read one file, or all of a folder with their names' splits; no segmentation is decoded.

        Raises:
            DatasetError: Not JSON, not COCO, no label file in the folder, or no class.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "image_root", "coco_exhaustive")
        top = absolute_source(source)
        found = _find_files(top)
        if not found:
            raise DatasetError(f"{top}: no COCO file in this folder; expected {self.description}")
        draft = Draft(self.name, top, found[0][0])
        files = [_load(path, split, options, draft) for path, split in found]
        draft.root = _common([file.folder for file in files])
        draft.names = list(dict.fromkeys(n for file in files for n in file.names.values() if not is_background(n)))
        for file in files:
            draft.entries += _entries(file, draft)
        draft.notes += _notes(files)
        return assemble(draft, options, listing=FolderListing(draft.root))


def _is_coco(file: Path) -> bool:
    text = peek_json(file)
    return has_key(text, "annotations", "[") or (has_key(text, "images", "[") and not has_key(text, "data_list"))


def _find_files(source: Path) -> list[tuple[Path, str | None]]:
    """Instances files if there are any: captions, keypoints and panoptic files lie beside them."""
    files = find_json_files(source, _is_coco)
    instances = [(path, split) for path, split in files if path.name.startswith("instances")]
    return instances or files


def _load(path: Path, split: str | None, options: AdapterOptions, draft: Draft) -> _File:
    content = read_json(path, _Content, _EXPECTED)
    missing = [key for key in ("images", "annotations", "categories") if getattr(content, key) is None]
    if missing:
        raise DatasetError(f"{path}: no list {missing[0]!r}; expected {_EXPECTED}")
    assert content.images is not None and content.annotations is not None and content.categories is not None
    names = _categories(content.categories, path)
    images = _images(content.images, path, draft.problems)
    present = _present(content.annotations, {image.id for _, image in images}, names, path, draft)
    if options.image_root is not None:
        folder: Path | None = absolute_source(options.image_root)
    else:
        folder = find_image_folder(_candidates(path, split), [image.file_name or "" for _, image in images])
    negatives = any(image.neg_category_ids is not None for _, image in images)
    exhaustive = not negatives if options.coco_exhaustive is None else options.coco_exhaustive
    return _File(path, split, images, names, present, folder or path.parent, exhaustive)


def _categories(categories: list[_Category], path: Path) -> dict[Id, str]:
    """Names by id, in the order of the ids, which is the order in which trainers number them."""
    names: dict[Id, str] = {}
    seen: set[str] = set()
    for index, category in enumerate(categories):
        if category.id is None or category.name is None or not category.name.strip():
            raise DatasetError(f"{path}: categories[{index}]: no id or no name; expected both")
        name = category.name.strip()
        if category.id in names:
            both = f"{names[category.id]!r} and {name!r}"
            raise DatasetError(f"{path}: categories[{index}]: id {category.id!r} stands there twice, for {both}")
        if name in seen:
            raise DatasetError(f"{path}: categories[{index}]: the name {name!r} stands there twice; rename one")
        names[category.id] = name
        seen.add(name)
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _images(images: list[_Image], path: Path, problems: list[Problem]) -> list[tuple[int, _Image]]:
    """Images with an id of their own and a file name, each with its position in the list."""
    first: dict[Id, int] = {}
    good = []
    for index, image in enumerate(images):
        if image.file_name is None and image.coco_url:  # LVIS has '…/train2017/000000000009.jpg' instead
            image.file_name = "/".join(image.coco_url.split("/")[-2:])
        if image.id is None or not image.file_name:
            problems.append(Problem(f"images[{index}]: no id or no file_name; expected both", path))
        elif first.setdefault(image.id, index) != index:
            other = f"images[{first[image.id]}] ({images[first[image.id]].file_name!r})"
            message = f"images[{index}] ({image.file_name!r}): the id {image.id!r} is that of {other} already"
            problems.append(Problem(f"{message}; every image needs its own", path))
        else:
            good.append((index, image))
    return good


def _present(
    annotations: list[_Annotation], image_ids: set[Id | None], names: dict[Id, str], path: Path, draft: Draft
) -> dict[Id, set[Id]]:
    """Category ids by image id; what points nowhere is one problem for each id."""
    present: dict[Id, set[Id]] = {}
    crowds: set[tuple[Id, Id]] = set()
    lost: dict[tuple[str, Id | None], list[int]] = {}
    for index, annotation in enumerate(annotations):
        image_id, category_id = annotation.image_id, annotation.category_id
        if image_id is None or image_id not in image_ids:
            lost.setdefault(("image_id", image_id), []).append(index)
        elif category_id is None or category_id not in names:
            lost.setdefault(("category_id", category_id), []).append(index)
        elif annotation.iscrowd:
            crowds.add((image_id, category_id))
        else:
            present.setdefault(image_id, set()).add(category_id)
    only = [pair for pair in crowds if pair[1] not in present.get(pair[0], ())]
    for image_id, category_id in only:
        present.setdefault(image_id, set()).add(category_id)
    if only:
        draft.notes.append(f"{path.name}: labels from crowd regions alone: {len(only)}; they count as present")
    draft.problems += _lost(lost, path)
    draft.problems += _repeated(annotations, path)
    return present


def _lost(lost: dict[tuple[str, Id | None], list[int]], path: Path) -> Iterator[Problem]:
    for (key, value), places in lost.items():
        what = "images" if key == "image_id" else "categories"
        found = f"no {key}" if value is None else f"{key} {value!r} is not among '{what}'"
        more = f" ({len(places)} annotations have it)" if len(places) > 1 else ""
        # Such an annotation says nothing of any listed image, so going on without it is safe.
        image_id = f"image_id {value!r}" if key == "image_id" else None
        yield Problem(f"annotations[{places[0]}]: {found}{more}", path, image_id=image_id)


def _repeated(annotations: list[_Annotation], path: Path) -> Iterator[Problem]:
    ids = {annotation.id for annotation in annotations if annotation.id is not None}
    given = sum(annotation.id is not None for annotation in annotations)
    if len(ids) < given:
        twice = next(iter(Counter(a.id for a in annotations if a.id is not None).most_common(1)))[0]
        message = f"annotation ids that stand there more than once: {given - len(ids)} (such as {twice!r})"
        yield Problem(f"{message}; image labels do not depend on them", path, fatal=False)


def _candidates(file: Path, split: str | None) -> list[Path]:
    """Folders where people and exporters put the images of an annotation file, the likeliest first."""
    here, above = file.parent, file.parent.parent
    stem = file.stem.removeprefix("instances_")
    names = [name for name in dict.fromkeys((stem, stem.rstrip("0123456789"), split)) if name]
    tops = (above, here) if here.name.casefold() == "annotations" else (here, above)
    candidates = []
    for top in tops:
        candidates += [top / name for name in names] + [top / "images" / name for name in names]
        candidates += [top / "images", top / "data", top]
    return candidates


def _common(folders: list[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # Windows: on two drives
        raise DatasetError(f"images in {folders[0]} and {folders[1]}; expected one place above both") from None


def _entries(file: _File, draft: Draft) -> Iterator[Entry]:
    prefix = PurePosixPath(file.folder.relative_to(draft.root).as_posix())
    all_names = {id_: name for id_, name in file.names.items() if not is_background(name)}
    shared: dict[frozenset[Id], frozenset[str]] = {}
    for index, image in file.images:
        assert image.id is not None and image.file_name is not None
        place = f"images[{index}] (id {image.id!r})"
        try:
            path = prefix / relative_path(image.file_name, file.folder)
        except DatasetError as error:
            draft.problems.append(Problem(f"{place}: {error}", file.path))
            continue
        key = frozenset(file.present.get(image.id, ()))
        if key not in shared:
            shared[key] = frozenset(all_names[id_] for id_ in key if id_ in all_names)
        absent = None
        if not file.exhaustive:
            absent = frozenset(all_names[id_] for id_ in image.neg_category_ids or () if id_ in all_names)
        yield Entry(path, file.path, None, place, shared[key], absent=absent, split=image.split or file.split)


def _notes(files: list[_File]) -> Iterator[str]:
    for file in files:
        rule = "absent" if file.exhaustive else "unknown (but for neg_category_ids)"
        split = f", split {file.split}" if file.split else ""
        yield f"{file.path.name}: images in {file.folder}{split}; a category without an annotation is {rule}"
