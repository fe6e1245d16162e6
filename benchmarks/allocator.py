"""Seconds of a training step on the CPU with freed memory given back to the system, and kept by the process.

    python benchmarks/allocator.py

Forward and backward passes of EfficientNet-Lite0 on 16 crops of 224 pixels, in processes of their own, in turn.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import nullcontext

STEPS, ROUNDS = 6, 3


def measure(kept: bool) -> tuple[float, float, float]:
    """Seconds of a step, seconds of it in the kernel (over all threads), and peak memory in GB."""
    import torch

    from recamlabel.core.allocator import freed_memory_kept
    from recamlabel.models.backbones import Backbone

    backbone = Backbone("tf_efficientnet_lite0").to(memory_format=torch.channels_last)
    images = torch.randn(16, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with freed_memory_kept(torch.device("cpu")) if kept else nullcontext():
        for _ in range(2):
            backbone(images).mean().backward()
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
        for _ in range(STEPS):
            backbone(images).mean().backward()
        seconds = (time.perf_counter() - began) / STEPS
        usage = resource.getrusage(resource.RUSAGE_SELF)
    return seconds, (usage.ru_stime - before) / STEPS, usage.ru_maxrss / 1e6


def main() -> None:
    """Print a line a round, and the ratio of the medians."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    found: dict[str, list[float]] = {"returned": [], "kept": []}
    for _ in range(ROUNDS):
        for kind, seconds in found.items():
            command = [sys.executable, __file__, "--measure", kind]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            step, kernel, peak = map(float, done.stdout.split())
            seconds.append(step)
            print(f"freed memory {kind:8s}  {step:.2f} s a step, {kernel:.2f} s in the kernel, peak {peak:.2f} GB")
    returned, kept = (sorted(values)[ROUNDS // 2] for values in found.values())
    print(f"ratio of the medians {returned / kept:.2f}")


if __name__ == "__main__":
    print(*measure(sys.argv[-1] == "kept")) if "--measure" in sys.argv else main()
