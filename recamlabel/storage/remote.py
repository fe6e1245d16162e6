"""Files at an address (``s3://``, ``gs://``, ``hf://``, ``memory://``, all that fsspec knows) as files of this machine.

A place becomes a folder of the cache with the same names: label files are copied, and of every other file there is a
*pointer*, a small text that says where the file is and what it was when it was listed. Whoever reads images
(:mod:`recamlabel.storage.decode`) gets what a pointer stands for from :func:`content`, which fetches it once and keeps
it in a cache of bounded size. So every reader of folders works on them as on any other, and what has changed since it
was listed is noticed. Credentials are those of the environment: none is taken from an address, and none is written
down.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from recamlabel.core.progress import say
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError, StoreError, in_short
from recamlabel.storage.atomic import temporary_name, write_text
from recamlabel.storage.cache import cache_folder

# `fiftyone:NAME` and `huggingface:NAME` are names, also where a name begins with a slash.
_ADDRESS = re.compile(r"(?!fiftyone:|huggingface:)([a-z][a-z0-9+.-]+):/+([^/].*)")
_MARK = "recamlabel pointer 1\n"
# Of what file systems tell of a file, that which changes with its content.
_IDENTITIES = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created")
BOUND = "RECAMLABEL_REMOTE_CACHE_GB"
_DEFAULT_GB, _KEPT = 10.0, 0.9
_THREADS = 8
_CREDENTIALS = (
    "credentials are those of the environment (for S3 AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
)


def as_url(source: Path | str) -> str | None:
    """The address that a path stands for (``Path`` makes one slash of two); None for a path of this machine.

    Example:
        >>> as_url(Path("s3://bucket/labels.csv")), as_url("photos/labels.csv"), as_url("C:/photos")
        ('s3://bucket/labels.csv', None, None)
    """
    parts = _ADDRESS.fullmatch(str(source))
    return None if parts is None else f"{parts[1]}://{parts[2].rstrip('/')}"


def shown(path: Path | str) -> str:
    """What a message, or a manifest, calls a file: its address where it stands for one, else the path."""
    if isinstance(path, Path) and is_remote(path):
        protocol, *parts = path.relative_to(_remote() / "places").parts
        return f"{protocol}://{'/'.join(parts)}"
    return as_url(path) or str(path)


def refuse_remote(path: Path, what: str) -> None:
    """Refuse an address where results are to lie. Raises StoreError."""
    if url := as_url(path):
        raise StoreError(
            f"{url}: {what} lies on a disk of this machine, not at an address: files are replaced in place and locked "
            "there. Give a folder, and copy it when it is done (for S3: aws s3 sync FOLDER ADDRESS)"
        )


@dataclass(frozen=True)
class Pointer:
    """Where a file is, and what it was when it was listed.

    Attributes:
        url: Its address.
        size: In bytes.
        identity: By name what the place tells of it that changes with its content: an ETag, a hash, a time.
    """

    url: str
    size: int
    identity: Mapping[str, str]

    def text(self) -> str:
        """As it is stored."""
        return _MARK + json.dumps(asdict(self), sort_keys=True)


def is_remote(path: Path) -> bool:
    """Whether a path lies where pointers do, and so stands for a file of another place."""
    return str(path).startswith(_places_prefix(*_environment()))


def content(path: Path) -> bytes:
    """The bytes of a file, of another place where it is a pointer.

    Raises:
        OSError: It cannot be read here.
        DatasetError: It cannot be fetched, or is not what it was when it was listed.
    """
    return _fetch(_read_pointer(path)) if is_remote(path) else path.read_bytes()


def remote_size(path: Path) -> int:
    """Bytes of the file that a pointer stands for. Raises OSError, DatasetError."""
    return _read_pointer(path).size


def pointer_text(path: Path) -> str | None:
    """What another machine needs to have the same pointer; None for a file of this machine."""
    return _read_pointer(path).text() if is_remote(path) else None


def place_pointer(text: str) -> Path:
    """The path of a pointer with this text, made where it is not there."""
    pointer = _parse(text, Path("pointer"))
    target = _local(pointer.url)
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        _put(target, text.encode())
    return target


def mirror(source: Path, copied: Callable[[str], bool]) -> Path:
    """The folder, or file, of this machine that stands for an address; made, or brought up to date.

    Args:
        source: An address. Of a file that is copied its whole folder is mirrored, as it may name the others.
        copied: Whether a file of this name is copied whole; of others there are pointers.

    Raises:
        DatasetError: No such place, no right to read it, no answer.
        ConfigError: Credentials in the address.
        MissingExtraError: fsspec, or what it needs for this kind of address, is not installed.
    """
    url = as_url(source)
    assert url is not None
    _refuse_credentials(url)
    system, path = _open(url)
    with _told(url, "cannot be read"):
        kind = system.info(path)["type"]
        base = path.rpartition("/")[0] if kind == "file" and copied(path) else path
        listed = {path: system.info(path)} if kind == "file" and base == path else system.find(base, detail=True)
    protocol = url.partition("://")[0]
    root = _places(protocol) / base.strip("/")
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_remote() / f"{_digest(str(root))}.lock"):
        _bring_up_to_date(system, protocol, root, base, listed, copied)
    return _places(protocol) / path.strip("/")


def _bring_up_to_date(
    system: Any, protocol: str, root: Path, base: str, listed: Mapping[str, Any], copied: Callable[[str], bool]
) -> None:
    record = _remote() / f"{_digest(str(root))}.json"
    known: dict[str, dict[str, str]] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    pointers: dict[Path, Pointer] = {}
    wanted: dict[Path, Pointer] = {}
    unsafe = 0
    for name, info in listed.items():
        relative = name.strip("/").removeprefix(base.strip("/")).strip("/")
        target = root / relative if relative else root
        if info["type"] != "file" or name.endswith("/"):
            continue
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in name.strip("/").split("/")):
            unsafe += 1
            continue
        pointer = Pointer(f"{protocol}://{name.lstrip('/')}", int(info["size"] or 0), _identity(info))
        (wanted if copied(name) else pointers)[target] = pointer
    if unsafe:
        say(
            f"warning: {protocol}://{base}: {unsafe} names that no file here can have ('..', '//', backslash), left out"
        )
    for gone in [path for path in root.rglob("*") if path.is_file() and path not in pointers and path not in wanted]:
        gone.unlink()
    for target, pointer in pointers.items():
        text = pointer.text().encode()
        if not target.is_file() or target.read_bytes() != text:
            _put(target, text)
    stale = {path: one for path, one in wanted.items() if not path.is_file() or known.get(str(path)) != one.identity}
    with ThreadPoolExecutor(_THREADS) as pool:
        for target, data in zip(stale, pool.map(_download, stale.values()), strict=True):
            _put(target, data)
    write_text(record, json.dumps({str(path): dict(one.identity) for path, one in wanted.items()}))


def _fetch(pointer: Pointer) -> bytes:
    """From the cache, or from the place itself."""
    kept = _objects() / _digest(pointer.text())
    try:
        data = kept.read_bytes()
    except OSError:
        data = _download(pointer)
        # A full disk, or one that is read-only, makes it slower and nothing else.
        with suppress(OSError):
            _CACHE.keep(kept, data)
        return data
    with suppress(OSError):
        os.utime(kept)
    return data


def _download(pointer: Pointer) -> bytes:
    system, path = _open(pointer.url)
    with _told(pointer.url, "cannot be read"):
        data: bytes = system.cat_file(path)
        # Afterwards: what changes while it is read is noticed as well.
        identity = _identity(system.info(path))
    # A listing may tell less than asking for one file does.
    other = any(identity[name] != value for name, value in pointer.identity.items() if name in identity)
    if other or len(data) != pointer.size:
        raise DatasetError(
            f"{pointer.url}: not the file any more that was listed ({len(data)} bytes, listed {pointer.size}); run the "
            "same command again, which lists it anew, when nobody writes there"
        )
    return data


class _Cache:
    """Files of other places, the ones not asked for the longest removed where they are too many."""

    def __init__(self) -> None:
        self.lock, self.used = threading.Lock(), -1

    def keep(self, path: Path, data: bytes) -> None:
        most = int(cache_gigabytes() * 1e9)
        if len(data) > most:
            return
        _put(path, data)
        with self.lock:
            self.used = self.used + len(data) if self.used >= 0 else sum(_sizes(path.parent).values())
            if self.used > most:
                self.used = _shrink(path.parent, int(_KEPT * most))


_CACHE = _Cache()


def cache_gigabytes() -> float:
    """Bound of the cache. Raises ConfigError for a value that is none."""
    text = os.environ.get(BOUND, str(_DEFAULT_GB))
    try:
        value = float(text)
        if not 0 <= value < float("inf"):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{BOUND}={text!r}: expected gigabytes, a number of 0 or more") from None
    return value


def _sizes(folder: Path) -> dict[Path, int]:
    sizes = {}
    for path in folder.iterdir():
        with suppress(OSError):  # removed by another process
            sizes[path] = path.stat().st_size
    return sizes


def _shrink(folder: Path, most: int) -> int:
    """Remove the oldest until at most so many bytes are left; returns how many are."""
    sizes, times = _sizes(folder), {}
    for path in sizes:
        with suppress(OSError):
            times[path] = path.stat().st_mtime_ns
    used = sum(sizes.values())
    for path in sorted(times, key=times.__getitem__):
        if used <= most:
            break
        path.unlink(missing_ok=True)
        used -= sizes[path]
    return used


@contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    """Whatever a file system raises as one error that says what to do."""
    try:
        yield
    except (DatasetError, KeyboardInterrupt):
        raise
    except FileNotFoundError:
        raise DatasetError(f"{url}: no such file or folder there (any more); check the address") from None
    except PermissionError as error:
        raise DatasetError(f"{url}: {what}: not allowed ({_first(error)}); {_CREDENTIALS}") from None
    except Exception as error:  # each library has its own
        raise DatasetError(
            f"{url}: {what} ({in_short(error)}); check the address and the network; {_CREDENTIALS}"
        ) from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _refuse_credentials(url: str) -> None:
    rest = url.partition("://")[2]
    if "@" in rest.partition("/")[0] or re.search(r"\?.*=", rest):
        raise ConfigError(
            f"{url.partition('://')[0]}://…: an address with '@' in its host or with '?' may hold credentials, which "
            f"would be written down with it; leave them out, {_CREDENTIALS}"
        )


def _open(url: str) -> tuple[Any, str]:
    """The file system of an address, and its path there."""
    try:
        core = import_module("fsspec.core")
        # Listings of a minute ago would hide what has changed.
        system, path = core.url_to_fs(url, use_listings_cache=False)
    except ModuleNotFoundError:
        raise MissingExtraError(f"{url}: addresses need fsspec: pip install 'recamlabel[remote]'") from None
    except ImportError as error:
        raise MissingExtraError(
            f"{url}: {_first(error)}; for s3, gs and hf: pip install 'recamlabel[remote]'"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{url}: no kind of address that fsspec knows ({_first(error)})") from None
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        raise DatasetError(f"{url}: a file of this machine; give its path, without 'file://'")
    return system, path


def _identity(info: Mapping[str, Any]) -> dict[str, str]:
    told = {name: info[name] for name in _IDENTITIES if info.get(name) is not None}
    # Some file systems give a time as a number in a listing, and as a date elsewhere.
    return {name: str(value.timestamp() if hasattr(value, "timestamp") else value) for name, value in told.items()}


def _read_pointer(path: Path) -> Pointer:
    return _parse(path.read_text(encoding="utf-8"), path)


def _parse(text: str, path: Path) -> Pointer:
    try:
        if not text.startswith(_MARK):
            raise ValueError("no pointer")
        tree = json.loads(text.removeprefix(_MARK))
        return Pointer(str(tree["url"]), int(tree["size"]), dict(tree["identity"]))
    except (ValueError, LookupError, TypeError) as error:
        raise DatasetError(
            f"{path}: damaged ({in_short(error)}); delete the folder {_remote()}, it is made anew"
        ) from None


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all, but without waiting for the disk: it can be fetched again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _remote() -> Path:
    return cache_folder(None) / "remote"


def _places(protocol: str) -> Path:
    return _remote() / "places" / protocol


def _objects() -> Path:
    return _remote() / "objects"


def _local(url: str) -> Path:
    protocol, _, path = url.partition("://")
    if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
        raise DatasetError(f"{url}: a name that no file here can have")
    return _places(protocol) / path.strip("/")


def _environment() -> tuple[str, ...]:
    return tuple(os.environ.get(name, "") for name in ("RECAMLABEL_CACHE", "XDG_CACHE_HOME", "HOME"))


@cache
def _places_prefix(*environment: str) -> str:
    return f"{_remote() / 'places'}{os.sep}"
