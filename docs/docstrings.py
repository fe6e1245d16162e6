"""Docstrings as the API page shows them: ``Example:`` as code, the roles of Sphinx as plain names."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([^`]*)`")


class Docstrings(griffe.Extension):
    """Griffe knows code by the title ``Examples:`` alone."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = _ROLE.sub(r"`\1`", text)
