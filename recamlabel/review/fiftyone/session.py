"""The FiftyOne data set of a run: its name, whether it is ours, and the App that shows it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recamlabel.adapters.fiftyone.service import start_fiftyone
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import ConfigError, StoreError
from recamlabel.masks.reviewed import REVIEW_FOLDER
from recamlabel.review.fiftyone import fields as fields
from recamlabel.storage.atomic import write_text
from recamlabel.storage.run_folder import RunFolder

FOLDER = f"{REVIEW_FOLDER}/fiftyone"
NAME_FILE = f"{FOLDER}/name.json"
QUEUE = "queue"
START_SECONDS = 60
DEFAULT_ADDRESS = "127.0.0.1"
_ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Link:
    """A FiftyOne that is imported, and the name of the run's data set in it."""

    fiftyone: Any
    name: str

    def exists(self) -> bool:
        """Whether there is a data set of that name."""
        return bool(self.fiftyone.dataset_exists(self.name))

    def load(self) -> Any:
        """The data set."""
        return self.fiftyone.load_dataset(self.name)


def data_set_name(run: RunFolder, name: str | None = None) -> str:
    """The name asked for, else the one of the last export, else one made of the run's path.

    Raises:
        ConfigError: FiftyOne could not make an address of the name.
    """
    if name is None:
        name = _recorded_name(run.path)
    if name is None:
        parts = run.path.resolve().parts[-2:]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(("recamlabel", *(part.strip("/") for part in parts)))).strip(
            "-"
        )
    if not re.search(r"[A-Za-z0-9]", name) or len(name) > 200:
        raise ConfigError(f"--name {name!r}: expected a name of at most 200 characters with a letter or digit in it")
    return name


def connect(run: RunFolder, name: str | None = None) -> Link:
    """Start FiftyOne for a run; refuses a data set that is not this run's.

    Raises:
        MissingExtraError, DatasetError: FiftyOne or its database is missing, too old or does not answer.
        StoreError: A data set of the name exists and is of something else.
    """
    chosen = data_set_name(run, name)
    link = Link(start_fiftyone(), chosen)
    logging.getLogger("fiftyone").setLevel(logging.WARNING)
    if link.exists():
        _check_owner(link.load(), run)
    return link


def export_folder(run: RunFolder, name: str) -> Path:
    """Where the files of a data set lie, absolute; each has a folder of its own."""
    return run.path.resolve() / FOLDER / hashlib.sha256(name.encode()).hexdigest()[:12]


def record_name(run: RunFolder, name: str) -> None:
    """Remember the data set's name for the next export and for fetching the decisions."""
    write_text(run.path / NAME_FILE, json.dumps({"name": name}, ensure_ascii=False) + "\n")


def check_port(address: str, port: int) -> None:
    """Raise ConfigError at once if the App could not listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"the App cannot listen at {address}:{port} ({error}); give another --port or --address, or stop "
                "what is using it"
            ) from None


def open_app(link: Link, address: str, port: int, *, browser: bool) -> Any:
    """Start the App on the run's data set and open the queue in a browser.

    Returns:
        The session; ``session.wait(-1)`` waits for the end, ``session.close()`` closes it.
    """
    data = link.load()
    # The session's own view: the address alone loses against a session that begins without one.
    view = data.load_saved_view(QUEUE) if data.has_saved_view(QUEUE) else None
    session = link.fiftyone.launch_app(data, view=view, remote=True, address=address, port=port)
    url = app_url(link.name, address, port)
    _wait_for(DEFAULT_ADDRESS if address in _ANYWHERE else address, port)
    say(f"review: {url}  (Ctrl-C ends it; then `recamlabel review RUN --pull` fetches the decisions)")
    if browser and not webbrowser.open(url):
        say("no browser could be opened; open the address above")
    return session


def app_url(name: str, address: str, port: int) -> str:
    """Address of the queue in the App."""
    host = DEFAULT_ADDRESS if address in _ANYWHERE else address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/datasets/{quote(name)}?view={QUEUE}"


def _wait_for(host: str, port: int) -> None:
    """Wait until the App's server answers; it is a process of its own and takes some seconds."""
    for _ in range(int(START_SECONDS / 0.2)):
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise StoreError(f"the App does not answer at {host}:{port} after {START_SECONDS} s; run the same again")


def _recorded_name(run: Path) -> str | None:
    try:
        name = json.loads((run / NAME_FILE).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and name else None


def _check_owner(data: Any, run: RunFolder) -> None:
    """A run that was moved keeps its data set; a copy of it does not share it."""
    found = (data.info or {}).get(fields.INFO)
    if not isinstance(found, dict) or "run" not in found:
        raise StoreError(
            f"FiftyOne already has a data set {data.name!r}, which recamlabel did not make; nothing was changed. "
            "Give another name with --name NAME"
        )
    other = Path(found["run"])
    if other == run.path.resolve():
        return
    moved = not other.exists() and found.get("fingerprint") == load_catalog(run.path / CATALOG_FILE).fingerprint()
    if not moved:
        raise StoreError(
            f"FiftyOne already has a data set {data.name!r}, of the run {other}; nothing was changed. "
            "Give another name with --name NAME"
        )
