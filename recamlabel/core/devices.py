"""The one place that picks a device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from recamlabel.core.progress import say
from recamlabel.core.ranks import Place, place
from recamlabel.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str = "auto") -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Of several processes that a launcher has started on one machine each has the GPU of its own number (``LOCAL_RANK``).

    Raises:
        ConfigError: A name of another form, CUDA asked for where there is none, a GPU
            number that does not exist, or is not this process's, or fewer GPUs than processes.
    """
    import torch

    here = place()
    if name == "auto":
        if here.world > 1 and torch.cuda.is_available():
            return _own_gpu(here, torch.cuda.device_count())
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (":" in name and not index.isdigit()):
        raise ConfigError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(
            f"device {name!r} asked for, but this PyTorch ({torch.__version__}) sees no CUDA GPU; "
            "use --device cpu, or install a driver and a CUDA build of PyTorch"
        )
    if index and int(index) >= count:
        raise ConfigError(f"device {name!r} asked for, but there are {count} GPUs: cuda:0 to cuda:{count - 1}")
    if here.world == 1 or (index and here.local_world == 1):
        return torch.device(name)
    if index:
        raise ConfigError(
            f"device {name!r} is one GPU, and {here.local_world} processes on this machine each need their own; "
            "leave the device out, or choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    return _own_gpu(here, count)


def _own_gpu(here: Place, count: int) -> torch.device:
    """Raises ConfigError, in all processes of a machine alike, where there are fewer GPUs than processes."""
    import torch

    if here.local_world > count or here.local_rank >= count:
        raise ConfigError(
            f"{max(here.local_world, here.local_rank + 1)} processes on a machine with {count} "
            f"GPU{'s' * (count > 1)}, and each needs its own; start them with --nproc-per-node {count}, or give "
            "--device cpu"
        )
    return torch.device("cuda", here.local_rank)


def autocast(device: torch.device, enabled: bool = True, *, training: bool = False) -> AbstractContextManager[Any]:
    """bf16 autocast where ``enabled`` and where it is quick: on CUDA, and on CPUs that compute in bf16.

    Not in training on a CPU: the backward pass of depthwise convolutions takes twice as long in bf16.
    """
    import torch

    if enabled and (device.type == "cuda" or (device.type == "cpu" and not training and cpu_has_bf16())):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def looking(device: torch.device, amp: bool = True) -> Iterator[None]:
    """The arithmetic of networks that look and do not learn: bf16 where it is quick, and on a GPU no cuDNN.

    Photographs come in many sizes, and cuDNN 9 prepares 2 to 3 seconds for every new one; PyTorch's own kernels begin
    at once and take 1.5 times as long (``docs/figures.md``, "On a GPU").
    """
    import torch

    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and device.type != "cuda"
    try:
        with autocast(device, amp):
            yield
    finally:
        torch.backends.cudnn.enabled = before


@cache
def cpu_has_bf16() -> bool:
    """Whether this processor computes in bf16 (AVX512-BF16, AMX); others emulate it, which is slow."""
    import torch

    # PyTorch has no public name for these.
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(question()) for question in questions if question is not None)


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module; 4-D weights become channels-last, which halves convolution time on the CPU and on tensor cores."""
    import torch

    return module.to(device).to(memory_format=torch.channels_last)


@contextmanager
def fixed_shapes(device: torch.device) -> Iterator[None]:
    """While it lasts, cuDNN tries its algorithms on every new shape and keeps the fastest; nothing on the CPU.

    For loops whose inputs all have one shape: each new one costs seconds.
    """
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Halving:
    """Work on batches of items; a batch that a GPU's memory does not hold is done in halves, and so are all later ones.

    Args:
        what: Named in the line that says so.

    Example:
        >>> Halving("demo")(sum, [1, 2, 3])
        [6]
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.largest: int | None = None

    def __call__(self, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
        """``work(items)``, or that of pieces of them, in order.

        Raises:
            torch.OutOfMemoryError: Not even one item fits.
        """
        import torch

        done: list[Result] = []
        start = 0
        while start < len(items):
            size = min(len(items) - start, self.largest or len(items))
            try:
                done.append(work(items[start : start + size]))
                start += size
                continue
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Outside the handler: the error holds on to what the work had allocated.
            torch.cuda.empty_cache()
            self.largest = size // 2
            say(f"{self.what}: the GPU's memory does not hold {size} images at once; going on with {self.largest}")
        return done
