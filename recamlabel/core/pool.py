"""One function over many tasks, one process per core, results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from recamlabel.errors import RecamlabelError

if TYPE_CHECKING:
    import torch

# Of one GPU, on which the work of one image at a time leaves most of it idle.
DEVICE_THREADS = 4

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Task], Result],
    tasks: Iterator[Task],
    workers: int,
    stage: str,
    device: torch.device | None = None,
) -> Iterator[tuple[Task, Result]]:
    """``(task, work(task))`` for every task, in order; at most four tasks a worker wait in memory.

    Args:
        work: A module's own function, so that another process can find it.
        tasks: What to work on; each is sent to a process.
        workers: Processes; 1 or less works in this one.
        stage: Named where a worker dies.
        device: A GPU: the work is done there, by threads of this process, as torch's default device; None or a CPU:
            by workers.

    Raises:
        RecamlabelError: A worker process died, the one failure that a pool reports without a cause.

    Example:
        >>> list(map_in_order(abs, iter([-1, 2]), 1, "demo"))
        [(-1, 1), (2, 2)]
    """
    if device is not None and device.type != "cpu":
        yield from _on_device(work, tasks, device, max(1, min(workers, DEVICE_THREADS)))
        return
    if workers <= 1:
        for task in tasks:
            yield task, work(task)
        return
    try:
        yield from _pooled(work, tasks, workers)
    except BrokenProcessPool:
        raise RecamlabelError(
            f"{stage}: a worker process died (out of memory, killed, or a script without "
            "`if __name__ == '__main__':` around its call of fit); run it again with --set runtime.workers=1"
        ) from None


def _on_device(
    work: Callable[[Task], Result], tasks: Iterator[Task], device: torch.device, threads: int
) -> Iterator[tuple[Task, Result]]:
    """Threads, each with a stream of its own: one decodes or waits for its result while others keep the GPU busy."""
    import torch

    own = threading.local()

    def there(task: Task) -> Result:
        if not hasattr(own, "stream"):
            # PyTorch leaves its constructor without types.
            own.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(own.stream), device:
            return work(task)

    yield from _in_order(ThreadPoolExecutor(threads), there, tasks, threads)


def _pooled(work: Callable[[Task], Result], tasks: Iterator[Task], workers: int) -> Iterator[tuple[Task, Result]]:
    # Spawned, not forked: a fork of a process whose torch threads have run can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_set_up_worker)
    yield from _in_order(pool, work, tasks, workers)


def _in_order(
    pool: Executor, work: Callable[[Task], Result], tasks: Iterator[Task], workers: int
) -> Iterator[tuple[Task, Result]]:
    try:
        waiting: deque[tuple[Task, Future[Result]]] = deque()
        for task in tasks:
            waiting.append((task, pool.submit(work, task)))
            if len(waiting) >= 4 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        # After an interruption nobody takes the results of what still waits.
        pool.shutdown(wait=True, cancel_futures=True)


def _set_up_worker() -> None:
    """In a worker: end when the parent has been killed, instead of waiting for work for ever; one thread of torch."""
    # There is a process a core already. Torch may be imported by the task, or by the caller's script before.
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
