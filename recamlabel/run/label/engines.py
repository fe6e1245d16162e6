"""Who labels the batches: this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recamlabel.run.label.batch import Batch, Job, Labeller, Shard

Engine = Callable[[Job, Sequence[Batch]], Iterator[Shard]]
"""Shards in any order; what goes wrong with a batch is raised when it comes."""


def here(job: Job, batches: Sequence[Batch]) -> Iterator[Shard]:
    """One batch after the other."""
    labeller = Labeller(job)
    for batch in batches:
        yield labeller(batch)
