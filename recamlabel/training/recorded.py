"""A network's part of a training step, recorded once on a GPU and replayed (CUDA graphs).

A small network of some hundred layers takes longer to launch, kernel by kernel, than to compute: replayed, the bare
step of EfficientNet-Lite0 is 2.6 to 3.5 times as fast (``benchmarks/gpu.py``). Loss and optimiser stay outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP = 3


class RecordedNetwork:
    """Forward and backward pass of a network for inputs of one shape.

    Args:
        network: In training mode, on a GPU; its parameters stay where they are.
        images: What it is recorded with; its shape is the only one that can be replayed.
        learns: Whether gradients are wanted.
        amp: bf16 autocast.

    Raises:
        RuntimeError: The network does what cannot be recorded, such as waiting for the GPU.
    """

    def __init__(self, network: nn.Module, images: Tensor, *, learns: bool, amp: bool) -> None:
        self.network, self.learns, self.amp = network, learns, amp
        self.images = images.clone(memory_format=torch.preserve_format)
        self.parameters = [one for one in network.parameters() if one.requires_grad] if learns else []
        self.answer: Tensor | None = None
        kept = {name: value.clone() for name, value in network.named_buffers()}
        try:
            self._record()
        finally:
            # Statistics that the network gathers have seen the same images some times too often.
            with torch.no_grad():
                for name, value in network.named_buffers():
                    value.copy_(kept[name])

    def _record(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                output = self._forward()
                self._backward(output, torch.zeros_like(output))
            del output
        torch.cuda.current_stream().wait_stream(stream)
        # Of this thread alone: the one that pins batches goes on allocating meanwhile.
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward_graph, capture_error_mode="thread_local"):
            self.output = self._forward()
        self.output_gradient = torch.zeros_like(self.output)
        self.gradients: tuple[Tensor | None, ...] = ()
        if self.learns:
            pool = self.forward_graph.pool()
            with torch.cuda.graph(self.backward_graph, pool=pool, capture_error_mode="thread_local"):
                self.gradients = self._backward(self.output, self.output_gradient)

    def _forward(self) -> Tensor:
        with (
            torch.set_grad_enabled(self.learns),
            torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.amp, cache_enabled=False),
        ):
            output: Tensor = self.network(self.images)
            return output

    def _backward(self, output: Tensor, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if not self.learns:
            return ()
        return torch.autograd.grad(output, self.parameters, gradient, allow_unused=True)

    def forward(self, images: Tensor) -> Tensor:
        """The network's output, a leaf whose gradient :meth:`backward` takes on."""
        self.images.copy_(images)
        self.forward_graph.replay()
        self.answer = self.output.detach().requires_grad_(self.learns)
        return self.answer

    def backward(self) -> None:
        """The parameters' gradients from that of the output, after the loss has gone backward."""
        if not self.learns or self.answer is None or self.answer.grad is None:
            return
        self.output_gradient.copy_(self.answer.grad)
        self.backward_graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, calls of the network are replayed."""
        self.network.forward = self.forward
        try:
            yield
        finally:
            del self.network.forward
