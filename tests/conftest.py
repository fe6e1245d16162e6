"""Fixtures, and the environment every test runs in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Set before torch is loaded: threads that sleep at barriers leave the cores to the other test process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from helpers import make_tiny_csv


@pytest.fixture
def tiny_csv(tmp_path: Path) -> Path:
    """A data set of :func:`helpers.make_tiny_csv`."""
    return make_tiny_csv(tmp_path)
