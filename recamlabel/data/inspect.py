"""Every image decoded once: which are bad, how large they are, and whether ``fit`` may start."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import Dataset, LabelledImage, Problem
from recamlabel.core.devices import usable_cores
from recamlabel.data.catalog import FileState
from recamlabel.data.changed import content_hash, file_state
from recamlabel.data.problem_lines import problem_lines
from recamlabel.errors import DatasetError
from recamlabel.storage.decode import decode_image, read_bytes

_SHOWN = 10
# So few that 60,000 images are never all in the queue, so many that no worker waits.
_AHEAD = 4
# Grey levels between the darkest and the brightest pixel; a JPEG of one colour may be one or two off.
_FLAT, _FAINT = 2, 16


@dataclass(frozen=True)
class Inspection:
    """What decoding every image has shown.

    Args:
        shapes: Height and width in pixels by image id, after EXIF orientation.
        hashes: BLAKE2b-128 of the file's bytes by image id, 32 hex digits.
        problems: One fatal problem, with ``image_id``, for every image that cannot be decoded.
        states: Size and time of the file just before it was read, by image id.
        flat: Ids of images of a single colour.
        faint: Ids of images with hardly any contrast: at most 16 of 255 grey levels in each channel.
    """

    shapes: Mapping[str, tuple[int, int]]
    hashes: Mapping[str, str]
    problems: tuple[Problem, ...]
    states: Mapping[str, FileState] = field(default_factory=dict, compare=False)
    flat: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()


class _Result(NamedTuple):
    shape: tuple[int, int]
    digest: str
    trouble: str
    state: FileState | None = None
    spread: int = 255


def inspect_images(dataset: Dataset, workers: int = -1, progress: Callable[[int], object] | None = None) -> Inspection:
    """Decode every image of a data set in threads (Pillow decodes without Python's lock).

    Images with a fatal problem already, such as missing ones, are not tried again. Memory does
    not grow with the pixels: a few images are open at a time.

    Args:
        dataset: As an adapter gives it.
        workers: Number of threads; -1 is one per core.
        progress: Called with the number of images that are finished since its last call.

    Example:
        >>> from recamlabel.core.classes import ClassTable
        >>> from pathlib import Path
        >>> inspect_images(Dataset(Path("."), "csv", ClassTable(("cat",)), ())).problems
        ()
    """
    bad = {problem.image_id for problem in dataset.problems if problem.fatal}
    shapes, hashes, states, spreads, problems = {}, {}, {}, {}, []
    for image, result in _decode_all(dataset.images, bad, usable_cores() if workers < 0 else max(1, workers)):
        if result is not None and not result.trouble:
            shapes[image.id], hashes[image.id], spreads[image.id] = result.shape, result.digest, result.spread
            if result.state is not None:
                states[image.id] = result.state
        elif result is not None:
            problems.append(Problem(result.trouble, image.path, image_id=image.id))
        if progress is not None:
            progress(1)
    flat = tuple(name for name, spread in spreads.items() if spread <= _FLAT)
    faint = tuple(name for name, spread in spreads.items() if _FLAT < spread <= _FAINT)
    return Inspection(shapes, hashes, tuple(problems), states, flat, faint)


def apply_on_bad_image(dataset: Dataset, problems: Iterable[Problem], mode: Literal["stop", "skip"]) -> Dataset:
    """Act on the data set's problems and on those that decoding found.

    Args:
        dataset: As an adapter gives it.
        problems: More problems, as in ``Inspection.problems``.
        mode: ``"stop"`` raises if anything is fatal; ``"skip"`` leaves bad images out, and still
            raises for what does not concern single images.

    Returns:
        The data set without the bad images; their problems are in it, not fatal any more.

    Raises:
        DatasetError: With the first ten problems (many of one kind are one line) and their number.
    """
    merged = with_problems(dataset, problems)
    if mode == "skip":
        merged = without_bad_images(merged)
    fatal = [problem for problem in merged.problems if problem.fatal]
    if not fatal:
        return merged
    shown = problem_lines(fatal)
    lines = [f"{_count(len(fatal), 'problem')} in the data set:", *(f"  {line.text}" for line in shown[:_SHOWN])]
    if len(shown) > _SHOWN:
        lines.append(f"  … and {len(shown) - _SHOWN} more")
    lines.append("run `recamlabel check SOURCE` for the full list")
    if all(problem.image_id is not None for problem in fatal) and without_bad_images(merged).images:
        lines[-1] += ", or go on without these images with --on-bad-image skip"
    raise DatasetError("\n".join(lines))


def with_problems(dataset: Dataset, problems: Iterable[Problem]) -> Dataset:
    """The data set with more problems; those it has already are not listed twice."""
    return replace(dataset, problems=tuple(dict.fromkeys((*dataset.problems, *problems))))


def without_bad_images(dataset: Dataset) -> Dataset:
    """The data set without images that have a fatal problem; those problems stay listed, as not fatal."""
    bad = {problem.image_id for problem in dataset.problems if problem.fatal and problem.image_id is not None}
    problems = (
        replace(problem, fatal=False, message=f"left out: {problem.message}")
        if problem.fatal and problem.image_id is not None
        else problem
        for problem in dataset.problems
    )
    images = tuple(image for image in dataset.images if image.id not in bad)
    return replace(dataset, images=images, problems=tuple(problems))


def training_images(dataset: Dataset, train_splits: Sequence[str]) -> tuple[LabelledImage, ...]:
    """Images of the training splits; all images where the data set has no splits."""
    if not dataset.splits:
        return dataset.images
    return tuple(image for image in dataset.images if image.split in set(train_splits))


def refusal_reasons(dataset: Dataset, train_splits: Sequence[str]) -> list[str]:
    """Why ``fit`` would not start; empty if it would.

    It does not with a fatal problem, without an image, without an image in one of the training
    splits (where there are splits), and without any label among the training images.

    Example:
        >>> from recamlabel.core.classes import ClassTable
        >>> from pathlib import Path
        >>> refusal_reasons(Dataset(Path("."), "csv", ClassTable(("cat",)), ()), ["train"])
        ['no image in the data set; expected at least one']
    """
    reasons = []
    fatal = [problem for problem in dataset.problems if problem.fatal]
    if fatal:
        reasons.append(f"{_count(len(fatal), 'problem')} to fix (first: {fatal[0]})")
    if not dataset.images:
        return [*reasons, "no image in the data set; expected at least one"]
    for split in train_splits if dataset.splits else ():
        if not any(image.split == split for image in dataset.images):
            reasons.append(
                f"no image in the training split {split!r} (setting data.train_splits); "
                f"the splits with images are: {', '.join(dataset.splits)}"
            )
    training = training_images(dataset, train_splits)
    if training and not any(image.present for image in training):
        reasons.append(f"none of the {_count(len(training), 'training image')} has a label; there is nothing to learn")
    return reasons


def _decode_all(
    images: Sequence[LabelledImage], bad: set[str | None], workers: int
) -> Iterator[tuple[LabelledImage, _Result | None]]:
    """Results in the order of the images, with a bounded queue."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        todo = ((image, None if image.id in bad else pool.submit(_inspect, image)) for image in images)
        queue: deque[tuple[LabelledImage, Future[_Result] | None]] = deque(islice(todo, workers * _AHEAD))
        while queue:
            image, future = queue.popleft()
            yield image, None if future is None else future.result()
            queue.extend(islice(todo, 1))


def _inspect(image: LabelledImage) -> _Result:
    # Before it is read: a file that changes meanwhile is then found to have another time.
    state = file_state(image.path)
    try:
        data = read_bytes(image.path)
        pixels = decode_image(data, image.path)
    except DatasetError as error:
        return _Result((0, 0), "", str(error).removeprefix(f"{image.path}: "))
    height, width, _ = pixels.shape
    return _Result((height, width), content_hash(data), "", state, _spread(pixels))


def _spread(pixels: NDArray[np.uint8]) -> int:
    """Largest minus smallest value of a channel, the largest of the three; of a few pixels, where they tell enough."""
    for some in (pixels[::16, ::16], pixels):
        spread = max(int(np.ptp(some[..., channel])) for channel in range(3))
        if spread > _FAINT:
            break
    return spread


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
