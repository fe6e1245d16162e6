"""Freed memory stays with the process while training lasts, and goes back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from recamlabel.core.allocator import freed_memory_kept

GLIBC = platform.libc_ver()[0] == "glibc"
# Page faults of touching a block of 80 MB ten times, and what stays resident afterwards. The first few blocks (up to
# nine were seen) still come from elsewhere in the heap.
SCRIPT = """
import resource, sys, torch
from pathlib import Path
from contextlib import nullcontext
from recamlabel.core.allocator import freed_memory_kept

def touch():
    torch.ones(20_000_000)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

touch()
with freed_memory_kept(torch.device("cpu")) if sys.argv[1] == "kept" else nullcontext():
    for _ in range(20):
        touch()
    before = faults()
    for _ in range(10):
        touch()
    during, held = faults() - before, resident()
print(during, held, resident())
"""


def measure(kind):
    done = subprocess.run([sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())


@pytest.mark.skipif(not GLIBC or sys.platform != "linux", reason="another C library's allocator")
def test_memory_is_used_again_and_given_back():
    plain, _, _ = measure("plain")
    kept, held, after = measure("kept")
    assert kept < plain / 10
    assert after < held - 60


def test_nothing_is_done_for_a_gpu(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda *_: pytest.fail("the C library was asked"))
    with freed_memory_kept(torch.device("cuda")):
        pass


def test_nothing_is_done_with_another_c_library(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_: pytest.fail("the C library was asked"))
    with freed_memory_kept(torch.device("cpu")):
        pass
