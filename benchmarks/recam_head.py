"""Time and memory of the softmax re-activation against the written-out (B, K, D, N) product.

    python benchmarks/recam_head.py [--batch 2 --classes 80 --channels 2048 --side 32 --labels 2]

Both sides do the published step's head on the same inputs, forward and backward: BCE, class maps,
class features, softmax cross-entropy. Each side's peak memory is its own process's; the times are
taken in turns in one process, so other load on the machine hits both. Exits 1 where a target is
missed: at least 30 times faster, at most a fifth of the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.models.cam import class_activation, class_logits, normalise_by_max
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.recam import softmax_reactivation_loss

SPEED_TARGET = 30.0
MEMORY_TARGET = 5.0
AGREEMENT = 1e-4


class Inputs(NamedTuple):
    """Features ``(B, D, h, w)``, FC1 and FC2 ``(K, D)`` with gradient, labels ``(B, K)``."""

    features: Tensor
    fc1: Tensor
    fc2: Tensor
    labels: Tensor


Loss = Callable[[Inputs], Tensor]


def make_inputs(options: argparse.Namespace) -> Inputs:
    """The same random inputs in every process."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(options.batch, options.channels, options.side, options.side, generator=generator)
    weights = [
        (torch.rand(options.classes, options.channels, generator=generator) - 0.5) / options.channels**0.5
        for _ in range(2)
    ]
    labels = torch.zeros(options.batch, options.classes)
    for image in range(options.batch):
        labels[image, torch.randperm(options.classes, generator=generator)[: options.labels]] = 1
    fc1, fc2 = (weight.requires_grad_() for weight in weights)
    return Inputs(features.requires_grad_(), fc1, fc2, labels)


def ours(inputs: Inputs) -> Tensor:
    """The package's functions."""
    bce = masked_multilabel_loss(class_logits(inputs.features, inputs.fc1), inputs.labels)
    return bce + softmax_reactivation_loss(*inputs)[0]


def written_out(inputs: Inputs) -> Tensor:
    """The formula as it stands: every class's mask times every channel at every pixel."""
    features, fc1, fc2, labels = inputs
    bce = F.multilabel_soft_margin_loss(class_logits(features, fc1), labels)
    masks = normalise_by_max(class_activation(features, fc1))
    product = masks[:, :, None] * features[:, None]
    scores = F.linear(product.mean(dim=(3, 4)), fc2)
    total = bce
    for image in range(labels.shape[0]):
        chosen = labels[image].nonzero()[:, 0]
        if chosen.numel():
            total = total + F.cross_entropy(scores[image, chosen], chosen) / labels.shape[0]
    return total


SIDES: dict[str, Loss] = {"ours": ours, "written-out": written_out}


def step(loss: Loss, inputs: Inputs) -> tuple[float, Tensor]:
    """Seconds of one forward and backward pass, and the gradients in one vector."""
    start = time.perf_counter()
    gradients = torch.autograd.grad(loss(inputs), inputs[:3])
    return time.perf_counter() - start, torch.cat([gradient.flatten() for gradient in gradients])


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_memory(side: str, options: argparse.Namespace) -> dict[str, int]:
    """In a child process: peak bytes after the imports, with the inputs, and after one step."""
    passed = [f"--{key}={getattr(options, key)}" for key in ("batch", "classes", "channels", "side", "labels")]
    command = [sys.executable, __file__, f"--child={side}", *passed]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, int] = json.loads(result.stdout)
    return answer


def child(side: str, options: argparse.Namespace) -> None:
    """What the child process does: one step, peaks as JSON."""
    imported = peak_bytes()
    inputs = make_inputs(options)
    with_inputs = peak_bytes()
    step(SIDES[side], inputs)
    print(json.dumps({"imports": imported, "inputs": with_inputs, "peak": peak_bytes()}))


def compare_times(options: argparse.Namespace) -> tuple[float, float, float]:
    """Best seconds of ours and the written-out step, taken in turns, and the gradients' largest difference."""
    inputs = make_inputs(options)
    difference = float((step(ours, inputs)[1] - step(written_out, inputs)[1]).abs().max())
    slow: list[float] = []
    fast: list[float] = []
    for _ in range(options.repeats):
        slow.append(step(written_out, inputs)[0])
        fast += [step(ours, inputs)[0] for _ in range(5)]
    return min(fast), min(slow), difference


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="ReCAM head: matrix product against the written-out product.")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--side", type=int, default=32, help="feature map side, pixels")
    parser.add_argument("--labels", type=int, default=2, help="labels per image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", choices=tuple(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options)
        return 0
    # Before this process grows: on Linux a child's peak starts at the size its parent had.
    memory = {side: measure_memory(side, options) for side in SIDES}
    fast, slow, difference = compare_times(options)
    print(
        f"batch {options.batch}, {options.classes} classes, {options.channels} channels, "
        f"{options.side}x{options.side}, {options.labels} labels per image, {torch.get_num_threads()} threads"
    )
    print(f"{'':12s} {'step':>10s} {'peak':>9s} {'less imports':>13s}")
    for side, seconds in (("ours", fast), ("written-out", slow)):
        peak, net = memory[side]["peak"] / 1e9, (memory[side]["peak"] - memory[side]["imports"]) / 1e9
        print(f"{side:12s} {seconds * 1e3:7.1f} ms {peak:6.2f} GB {net:10.2f} GB")
    raw = memory["written-out"]["peak"] / memory["ours"]["peak"]
    net_ratio = (memory["written-out"]["peak"] - memory["written-out"]["imports"]) / max(
        1, memory["ours"]["peak"] - memory["ours"]["imports"]
    )
    print(f"{slow / fast:.1f} times faster (target {SPEED_TARGET:g}), gradients differ by at most {difference:.1e}")
    print(f"1/{raw:.1f} of the peak memory (target 1/{MEMORY_TARGET:g}), 1/{net_ratio:.1f} without the imports")
    met = slow / fast >= SPEED_TARGET and raw >= MEMORY_TARGET and difference <= AGREEMENT
    print("targets met" if met else "TARGET MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
