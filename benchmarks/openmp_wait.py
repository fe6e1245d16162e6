"""Seconds of a training step with OpenMP threads that spin or sleep at barriers, alone and beside another process.

python benchmarks/openmp_wait.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def measure() -> float:
    """Mean seconds of four forward and backward passes of EfficientNet-Lite0 at batch 8."""
    import torch

    from recamlabel.models.backbones import Backbone

    backbone = Backbone("tf_efficientnet_lite0").to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    backbone(images).mean().backward()
    began = time.perf_counter()
    for _ in range(4):
        backbone(images).mean().backward()
    return (time.perf_counter() - began) / 4


def run(policy: str, processes: int) -> float:
    """The slowest of some processes measuring at once under one wait policy."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    command = [sys.executable, __file__, "--measure"]
    jobs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return max(float(job.communicate()[0]) for job in jobs)


def main() -> None:
    """Print the table."""
    print("processes  spin (ACTIVE)  sleep (PASSIVE)  ratio")
    for processes in (1, 2):
        spin, sleep = run("ACTIVE", processes), run("PASSIVE", processes)
        print(f"{processes:9d}  {spin:11.2f} s  {sleep:13.2f} s  {spin / sleep:5.2f}")


if __name__ == "__main__":
    print(measure()) if "--measure" in sys.argv else main()
