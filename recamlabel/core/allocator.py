"""Memory that a training step frees and the next one wants again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# glibc, malloc.h: parameters of mallopt(3), and the largest values that glibc itself would come to.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MAX_MAPPED, LARGEST_HEAP_BLOCK = 65536, 32 << 20
# One entry for each block that is open: the innermost must not end it for the others.
_DEPTH: list[int] = []


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """While it lasts, freed memory stays with the process; afterwards it goes back to the system.

    glibc asks the system for every large block anew and gives it back when it is freed. A training step on the
    CPU frees and asks for gigabytes, all of which the kernel has to map and zero page by page: a quarter of the
    step (``benchmarks/allocator.py``). Does nothing where the device is a GPU or the C library is another one.

    Example:
        >>> with freed_memory_kept(torch.device("cpu")):
        ...     total = torch.ones(3).sum()
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    _DEPTH.append(1)
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        _DEPTH.pop()
        if not _DEPTH:
            _give_back(library)


def _give_back(library: ctypes.CDLL) -> None:
    library.mallopt(M_MMAP_MAX, MAX_MAPPED)
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK)
    library.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_HEAP_BLOCK)
    library.malloc_trim(0)
