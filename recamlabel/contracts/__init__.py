"""What every plug-in of a kind must do, as functions for its package's own tests (docs/plugins.md).

Each takes the thing and a small, drawn input, and raises :class:`ContractError`, an ``AssertionError``, at the first
promise that is not kept. recamlabel's own adapters, variants, refiners, formats and segmenters pass them too.
"""

from __future__ import annotations

from recamlabel.contracts.adapter import check_adapter
from recamlabel.contracts.base import ContractError
from recamlabel.contracts.exporter import check_exporter
from recamlabel.contracts.refiner import check_refiner
from recamlabel.contracts.segmenter import check_segmenter
from recamlabel.contracts.variant import check_variant

__all__ = [
    "ContractError",
    "check_adapter",
    "check_exporter",
    "check_refiner",
    "check_segmenter",
    "check_variant",
]
