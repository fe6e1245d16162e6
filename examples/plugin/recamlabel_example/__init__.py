"""One plug-in of each kind for recamlabel; ``pyproject.toml`` names them as entry points."""
