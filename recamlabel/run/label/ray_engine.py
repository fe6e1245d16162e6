"""Batches labelled by the workers of a Ray cluster: ``map_batches`` with an actor a worker."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

from recamlabel.core.devices import usable_cores
from recamlabel.errors import MissingExtraError, RecamlabelError
from recamlabel.run.label.batch import Batch, Job, Labeller, Shard
from recamlabel.run.label.engines import Engine
from recamlabel.run.label.identity import identity_of

# Seconds that a cluster may take to answer at all.
ANSWER_SECONDS = 5.0
# Of a local cluster: shards on their way to this process, no image.
STORE_BYTES = 256 * 2**20


def on_ray(workers: int | None, address: str | None) -> Engine:
    """The engine on a cluster.

    Args:
        workers: Actors, each with one core, and a GPU where the job asks for one; None: one a core of this machine.
        address: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``; None: a cluster of this machine's own, ended after use.

    Raises:
        MissingExtraError: Ray is not installed.
        RecamlabelError: Nothing answers at the address.
    """
    _ray()
    if address is not None:
        _check_answers(address)
    count = workers or usable_cores()

    def engine(job: Job, batches: Sequence[Batch]) -> Iterator[Shard]:
        if not batches:
            return
        told = replace(job, workers=1, identity=identity_of(job.run))
        with _cluster(count, address):
            yield from _shards(told, batches, min(count, len(batches)))

    return engine


class Worker:
    """An actor: labels the batches that it is sent. What goes wrong is sent back, not raised, to be told as it is.

    The job comes with each batch: arguments of an actor would lie in Ray's store, and Ray warns of them.
    """

    def __init__(self) -> None:
        self.labeller: Labeller | None = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """From a job and a batch to its shard, pickled; one of each."""
        (sent,) = rows["batch"]
        made: Shard | Exception
        try:
            job, batch = pickle.loads(sent)
            self.labeller = self.labeller or Labeller(job)
            made = self.labeller(batch.unpacked())
        except RecamlabelError as error:
            made = error
        except OSError as error:
            made = OSError(error.errno, f"on worker {platform.node()}: {error.strerror or error}", error.filename)
        return {"shard": [pickle.dumps(made)]}


def _shards(job: Job, batches: Sequence[Batch], workers: int) -> Iterator[Shard]:
    """Shards as they come; of those not taken yet no more are made than Ray's store has room for."""
    ray, data = _ray(), import_module("ray.data")
    rows = [{"batch": pickle.dumps((job, batch.packed()))} for batch in batches]
    try:
        # A block a batch, so that an actor takes one at a time and those that are quicker take more.
        made = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker, batch_size=1, concurrency=workers, num_cpus=1, num_gpus=1 if job.device.startswith("cuda") else None
        )
        for row in made.iter_rows():
            # What a worker of one's own cluster has pickled.
            shard = pickle.loads(row["shard"])
            if isinstance(shard, Exception):
                raise shard
            yield shard
    except (RecamlabelError, OSError):
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise RecamlabelError(
            f"Ray: a worker failed ({type(error).__name__}: {reason[0][:300]}); finished shards are kept, the same "
            "command again does the rest; --engine local shows the error as it is"
        ) from None


@contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[None]:
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address is None:
            own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": STORE_BYTES}
            options |= own
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            place = f"--ray-address {address}" if address else "a local Ray cluster"
            raise RecamlabelError(f"{place}: cannot be used ({error}); --engine local needs none") from None
    _quieten()
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _quieten() -> None:
    """Ray Data's own bars and lines: this program has one bar of its own."""
    context = import_module("ray.data").DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _ray() -> Any:
    # Read when Ray is imported: nothing is sent anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import_module("ray.data")
        return import_module("ray")
    except ImportError as error:
        raise MissingExtraError(
            f"--engine ray needs Ray ({error}): pip install 'recamlabel[cluster]', or use --engine local"
        ) from None


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes. Raises RecamlabelError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal():
        raise RecamlabelError(f"--ray-address {address}: expected HOST:PORT, ray://HOST:PORT or auto")
    with suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        return
    raise RecamlabelError(
        f"--ray-address {address}: nothing answers there; `ray status --address {address}` says whether a cluster "
        "runs, and without --ray-address one of this machine's own is started"
    )
