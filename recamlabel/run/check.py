"""Reading and judging a data set before any training: what ``recamlabel check`` and :func:`recamlabel.check` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from recamlabel.adapters import load_dataset, options_from
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.config import Config
from recamlabel.core.progress import track
from recamlabel.data.inspect import (
    inspect_images,
    refusal_reasons,
    training_images,
    with_problems,
    without_bad_images,
)
from recamlabel.data.learnable import (
    few_images,
    no_normal_reasons,
    picture_reasons,
    picture_warnings,
    size_warnings,
    training_warnings,
    untellable_reasons,
)
from recamlabel.data.problem_lines import problem_lines
from recamlabel.data.table import Summary, summarise
from recamlabel.gate.verdicts import hard_to_tell_apart
from recamlabel.storage.remote import shown


@dataclass(frozen=True)
class CheckReport:
    """All that ``check`` has to say.

    Attributes:
        source: What was read.
        dataset: Its images and labels.
        summary: Counts, sizes, classes.
        warnings: What the labels or pictures will make difficult.
        refusals: Why ``fit`` would refuse the data set; empty where it would not.
    """

    source: Path
    dataset: Dataset
    summary: Summary
    warnings: Sequence[str]
    refusals: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether ``fit`` would accept the data set."""
        return not self.refusals

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong with single files and rows."""
        return self.dataset.problems

    def findings(self) -> list[tuple[str, str]]:
        """What is wrong as ``(kind, text)``: ``problem``, ``note``, ``warning`` or ``fit would refuse``.

        Equal problems are one, with their count.
        """
        found = [("problem" if line.fatal else "note", line.text) for line in problem_lines(self.problems)]
        found += [("warning", text) for text in self.warnings]
        return [*found, *(("fit would refuse", text) for text in self.refusals)]

    def __str__(self) -> str:
        counts = f"{shown(self.source)}: {self.summary.images} images, {len(self.summary.classes)} classes"
        verdict = "fit would accept this data set" if self.ok else "fit would refuse this data set"
        return "\n".join([counts, *(f"{kind}: {text}" for kind, text in self.findings()), verdict])

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(str(self))}</pre>"

    def as_dict(self) -> dict[str, object]:
        """Plain dictionaries, lists and numbers, for JSON."""
        problems = [
            {"file": str(p.file), "row": p.row, "image_id": p.image_id, "fatal": p.fatal, "message": p.message}
            for p in self.dataset.problems
        ]
        return {
            "source": shown(self.source),
            "root": str(self.dataset.root),
            "adapter": self.dataset.adapter,
            "notes": list(self.dataset.notes),
            **self.summary.as_dict(),
            "problems": problems,
            "warnings": list(self.warnings),
            "fit_would_refuse": list(self.refusals),
        }


def examine(source: Path, config: Config) -> CheckReport:
    """Read and decode everything.

    Raises:
        DatasetError: The source cannot be read at all.
    """
    data = config.data
    dataset = load_dataset(source, data.adapter, options_from(data))
    with track("decode", len(dataset)) as advance:
        inspection = inspect_images(dataset, config.runtime.worker_count(), advance)
    dataset = with_problems(dataset, inspection.problems)
    if data.on_bad_image == "skip":
        dataset = without_bad_images(dataset)
    useless = [*picture_reasons(inspection), *untellable_reasons(dataset, data.train_splits)]
    few = few_images(dataset, data.train_splits, config.gate.min_positives, config.gate.weak_positives)
    sizes = size_warnings(
        inspection.shapes.values(), config.maps.max_side, config.backbone.output_stride, config.local.enabled
    )
    apart = hard_to_tell_apart(
        dataset.labels(training_images(dataset, data.train_splits)), dataset.classes.names, config.gate.together
    )
    warnings = [
        *picture_warnings(inspection),
        *sizes,
        *training_warnings(dataset, data.train_splits),
        *apart,
        *few,
    ]
    reasons = refusal_reasons(dataset, data.train_splits)
    if config.maps.variant == "patchmemory":
        reasons += no_normal_reasons(dataset, data.train_splits)
    if config.runtime.force:
        warnings += [f"{reason} (runtime.force is set)" for reason in useless]
    else:
        reasons += useless
    return CheckReport(source, dataset, summarise(dataset, inspection.shapes), warnings, reasons)
