"""Whether FiftyOne can start, found out in a moment: itself it may wait a minute for a broken database."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from recamlabel.errors import DatasetError, MissingExtraError

_INSTALL = "pip install 'recamlabel[review]'"
_OWN_SERVER = "point FIFTYONE_DATABASE_URI at a MongoDB of your own (6.0 or newer)"
_TIMEOUT = 0.7


def check_fiftyone() -> None:
    """Raise at once if FiftyOne or its database is missing; FiftyOne is not imported.

    Raises:
        MissingExtraError: FiftyOne, or the MongoDB that it starts, is not installed or does not run.
        DatasetError: A database that is configured does not answer.
    """
    spec = find_spec("fiftyone")
    # A folder called 'fiftyone' passes for a package without a file.
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"FiftyOne is not installed: {_INSTALL}")
    uri = _configured_uri()
    if uri:
        _check_answer(uri)
    else:
        _check_server(Path(next(iter(spec.submodule_search_locations))))


def _configured_uri() -> str | None:
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    if uri:
        return uri
    file = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or Path.home() / ".fiftyone" / "config.json")
    try:
        value = json.loads(file.read_text(encoding="utf-8")).get("database_uri")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, str) else None


def _check_answer(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme != "mongodb" or not parts.hostname or "," in parts.netloc:
        return  # a cluster; its own driver must find it
    try:
        socket.create_connection((parts.hostname, parts.port or 27017), timeout=_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"FiftyOne's database {parts.hostname}:{parts.port or 27017} does not answer ({error}); start it, or mend "
            "FIFTYONE_DATABASE_URI (database_uri in ~/.fiftyone/config.json)"
        ) from None


def _check_server(package: Path) -> None:
    server = package / "db" / "bin" / ("mongod.exe" if sys.platform == "win32" else "mongod")
    if not server.is_file():
        raise MissingExtraError(
            f"FiftyOne's MongoDB is missing ({server}): pip install --no-cache-dir --force-reinstall --no-deps "
            f"fiftyone-db (it downloads one), or {_OWN_SERVER}"
        )
    try:
        run = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10 * _TIMEOUT, check=False)
        trouble = "" if run.returncode == 0 else (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble:
        raise MissingExtraError(f"FiftyOne's MongoDB does not run ({server}: {trouble}); {_OWN_SERVER}")
