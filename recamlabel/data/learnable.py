"""What the labels and pictures allow to be learnt, said before hours of training; nothing is trained here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import Dataset
from recamlabel.data.catalog import Catalog
from recamlabel.data.inspect import Inspection, training_images

# So many images without a class show what it is not.
ENOUGH_WITHOUT = 20
HELP_APART = "images with only one of them, boxes or about 20 masks would help"
_SHOWN = 5
# A class with so few images, and another of nearly that name with so many times more: probably a slip.
_RARE, _TIMES = 2, 5
_LONG_NAME = 5
# Scaled down so many times, a thing of 50 pixels is gone.
LARGE = 2.0


def untellable_reasons(dataset: Dataset, train_splits: Sequence[str]) -> list[str]:
    """Why no class at all can be told; empty where at least one class can.

    A class can be told where the training images have at least one with it and one without it. Where
    every label is the same everywhere, a classifier learns a constant and its maps mean nothing.
    (Without any label :func:`~recamlabel.data.inspect.refusal_reasons` has the reason.)

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.adapters.base import LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> image = LabelledImage("a", Path("a.jpg"), frozenset({"cat"}), frozenset())
        >>> untellable_reasons(Dataset(Path("."), "csv", ClassTable(("cat",)), (image,)), ["train"])[0][:66]
        "the 1 training image has 'cat', and none is known to be without it"
    """
    matrix = dataset.labels(training_images(dataset, train_splits))
    with_it, without_it = (matrix == 1).any(axis=0), (matrix == 0).any(axis=0)
    if not with_it.any() or (with_it & without_it).any():
        return []
    names = [name for name, there in zip(dataset.classes.names, with_it, strict=True) if there]
    all_of_them = "the 1 training image has" if len(matrix) == 1 else f"the {len(matrix)} training images have"
    many = len(names) > 1
    return [
        f"{all_of_them} {_some([repr(name) for name in names])}, and none is known to be without "
        f"{'one of them' if many else 'it'}: nothing shows what {'they are' if many else 'it is'} not, so training is "
        f"useless; add images without {'them' if many else 'it'} ({ENOUGH_WITHOUT} or more; a row without a label, "
        "or a folder 'good'), or go on all the same with --force"
    ]


def no_normal_reasons(dataset: Dataset, train_splits: Sequence[str]) -> list[str]:
    """Why ``maps.variant=patchmemory`` has nothing to remember; empty where a training image is known to hold nothing.

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.adapters.base import LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> image = LabelledImage("a", Path("a.jpg"), frozenset({"cat"}), frozenset())
        >>> no_normal_reasons(Dataset(Path("."), "csv", ClassTable(("cat",)), (image,)), ["train"])[0][:79]
        'maps.variant=patchmemory: it compares with normal images, and of the 1 training'
    """
    training = training_images(dataset, train_splits)
    if any(map(dataset.is_normal, training)):
        return []
    found = f"of the {len(training)} training images none is known to hold nothing"
    unsure = sum(not image.present for image in training)
    elsewhere = sum(map(dataset.is_normal, dataset.images))
    if unsure:
        found += f" ({unsure} without a label, in which a class is unknown)"
    if elsewhere:
        found += f" (there are {elsewhere} in other splits than {', '.join(train_splits)})"
    return [
        f"maps.variant=patchmemory: it compares with normal images, and {found}; expected at least 1, better "
        f"{ENOUGH_WITHOUT} or more: rows with an empty label, or a folder or label 'good' (data.negative_labels names "
        "others); or choose another maps.variant"
    ]


def training_warnings(dataset: Dataset, train_splits: Sequence[str]) -> list[str]:
    """Classes that training will not find, or not tell from others, and what would help.

    One line each for classes in no training image, in one, in every one, and for every set of classes
    that always come together; then names that look like slips of the pen.
    """
    matrix = dataset.labels(training_images(dataset, train_splits))
    if not len(matrix):
        return []
    names = dataset.classes.names
    counts, elsewhere = (matrix == 1).sum(axis=0).tolist(), (matrix == 0).any(axis=0).tolist()
    never = [name for name, count in zip(names, counts, strict=True) if not count]
    once = [name for name, count in zip(names, counts, strict=True) if count == 1 and len(matrix) > 1]
    always = [name for name, count, no in zip(names, counts, elsewhere, strict=True) if count and not no]
    warnings = []
    if never:
        warnings.append(f"no training image has: {', '.join(never)}; masks will not have it either")
    if once:
        warnings.append(f"only 1 training image has: {', '.join(once)}; too rare to learn, its masks are guesses")
    if always:
        warnings.append(
            f"no training image is known to be without: {', '.join(always)}; nothing shows what it is not: "
            f"add images without it ({ENOUGH_WITHOUT} or more)"
        )
    warnings += _always_together(dict(zip(names, matrix.T, strict=True)))
    return [*warnings, *probable_slips(dataset)]


def few_images(dataset: Dataset, train_splits: Sequence[str], least: int, enough: int) -> list[str]:
    """One line for all classes with 2 to ``enough`` training images, as the gate will judge them.

    (Those with a single one are in :func:`training_warnings`.)

    Args:
        dataset: A data set.
        train_splits: Names of the training splits.
        least: Below it the gate does not trust a class.
        enough: Below it the gate calls a class weak.
    """
    present = (dataset.labels(training_images(dataset, train_splits)) == 1).sum(axis=0)
    few = [(name, int(count)) for name, count in zip(dataset.classes.names, present, strict=True) if 1 < count < enough]
    if not few:
        return []
    shown = _some([f"{name} ({count})" for name, count in sorted(few, key=lambda pair: pair[1])])
    return [
        f"few training images: {shown}; below {least} the masks of a class deserve no trust, "
        f"below {enough} they are weak; 50 or more are a good start"
    ]


def probable_slips(dataset: Dataset) -> Iterator[str]:
    """One line for each rare class whose name is nearly that of a frequent one.

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.adapters.base import LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> names = ["dent"] * 9 + ["dnet"]
        >>> images = [LabelledImage(str(i), Path("a"), frozenset({n}), frozenset()) for i, n in enumerate(names)]
        >>> list(probable_slips(Dataset(Path("."), "csv", ClassTable(("dent", "dnet")), tuple(images))))
        ["class 'dnet' has 1 image, and 'dent' has 9: a slip of the pen? did you mean 'dent'?"]
    """
    counts = dict(zip(dataset.classes.names, (dataset.labels() == 1).sum(axis=0).tolist(), strict=True))
    often = {name: count for name, count in counts.items() if count >= _TIMES}
    for name, count in counts.items():
        if not 0 < count <= _RARE:
            continue
        frequent = [other for other, many in often.items() if many >= _TIMES * count and _nearly(name, other)]
        if frequent:
            other = max(frequent, key=lambda one: counts[one])
            images = f"{count} image" + ("" if count == 1 else "s")
            yield (
                f"class {name!r} has {images}, and {other!r} has {counts[other]}: "
                f"a slip of the pen? did you mean {other!r}?"
            )


def size_warnings(shapes: Iterable[tuple[int, int]], max_side: int, stride: int, larger: bool) -> list[str]:
    """One line where most images are scaled down so far that small objects are likely to be lost.

    Args:
        shapes: Height and width of every image.
        max_side: Long side that the classifier's maps are made at.
        stride: Pixels between two positions of its features.
        larger: Whether larger inputs are tried (``local.enabled``).

    Example:
        >>> size_warnings([(3000, 4000)] * 3, 640, 16, larger=False)[0][:75]
        'images of 4000 x 3000 pixels are looked at with a long side of 640: objects'
        >>> size_warnings([(480, 640)], 640, 16, larger=False)
        []
    """
    sizes = sorted(shapes, key=max)
    height, width = sizes[len(sizes) // 2] if sizes else (0, 0)
    reduction = max(height, width) / max_side
    if reduction < LARGE:
        return []
    way_out = (
        f"larger inputs, up to {max(height, width)} pixels, are tried (stage local) and used where they tell as much"
        if larger
        else "larger inputs may help (--set local.enabled=true, or a larger maps.max_side)"
    )
    return [
        f"images of {width} x {height} pixels are looked at with a long side of {max_side}: objects of fewer than "
        f"{round(reduction * stride)} pixels are likely to be lost, as they are smaller there than one position of the "
        f"features ({stride} pixels); {way_out}. The segmenter sees them at {max_side} pixels only"
    ]


def picture_warnings(seen: Inspection | Catalog) -> list[str]:
    """One line each for pictures of a single colour, and for those with hardly any contrast."""
    many, warnings = len(seen.shapes), []
    if seen.flat:
        warnings.append(
            f"pictures of a single colour: {len(seen.flat)} of {many} ({_some(seen.flat)}); "
            "nothing can be found in them"
        )
    if seen.faint:
        warnings.append(
            f"pictures with hardly any contrast: {len(seen.faint)} of {many} ({_some(seen.faint)}); "
            "16-bit files with 10 or 12 bits in them? scale their values to the full range"
        )
    return warnings


def picture_reasons(seen: Inspection | Catalog) -> list[str]:
    """Why nothing can be learnt from the pictures: each is of a single colour. Empty otherwise."""
    if not seen.shapes or len(seen.flat) < len(seen.shapes):
        return []
    return [
        f"every picture that can be read is of a single colour ({len(seen.flat)}): there is nothing to find in "
        "them; look at the files, or go on all the same with --force"
    ]


def _always_together(columns: dict[str, NDArray[np.int8]]) -> Iterator[str]:
    groups: dict[bytes, list[str]] = {}
    for name, column in columns.items():
        if (column == 1).any():
            groups.setdefault(np.ascontiguousarray(column).tobytes(), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            yield (f"always together: {', '.join(names)}; image labels cannot tell them apart: {HELP_APART}")


def _nearly(one: str, other: str) -> bool:
    """Whether two names differ by a slip: two letters swapped, or in a longer name one letter more, less or other."""
    a, b = one.casefold(), other.casefold()
    if re.sub(r"\d+", "", a) == re.sub(r"\d+", "", b):  # 'type1' and 'type2' are meant; 'Cat' and 'cat' are told apart
        return False
    if len(a) == len(b) and sorted(a) == sorted(b):
        return sum(x != y for x, y in zip(a, b, strict=True)) == 2
    if min(len(a), len(b)) < _LONG_NAME or abs(len(a) - len(b)) > 1:
        return False
    blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= max(len(a), len(b)) - 1


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
