"""What probe and local maps learn is tested with as many steps as a user's run has."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _real_steps(real_steps: None) -> None:
    pass
