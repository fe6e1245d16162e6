"""The segmenter as ONNX or TorchScript, checked against PyTorch's own outputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recamlabel.errors import MissingExtraError, RecamlabelError
from recamlabel.models.segmenter import Segmenter
from recamlabel.storage.atomic import replacing

Format = Literal["onnx", "torchscript"]
TOLERANCE = 1e-3


class Deployed(nn.Module):
    """RGB in 0..1 to class probabilities: normalisation and softmax are inside.

    Args:
        net: The segmenter, in eval mode.
    """

    def __init__(self, net: Segmenter) -> None:
        super().__init__()
        self.net = net.net
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(net.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(net.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) float32`` in 0..1, sides multiples of 32, to ``(B, K + 1, H, W)`` probabilities."""
        logits: Tensor = self.net((images - self.mean) / self.std)
        return logits.softmax(dim=1)


def export_model(net: Segmenter, path: Path, kind: Format, size: tuple[int, int], facts: dict[str, Any]) -> float:
    """Write the model and compare it with PyTorch on random images.

    Args:
        net: The segmenter, on the CPU.
        path: File to write.
        kind: ``"onnx"`` (batch size free) or ``"torchscript"`` (traced).
        size: Height and width of its input, multiples of 32.
        facts: Stored in the file as JSON (class names, keys).

    Returns:
        The largest absolute difference of a probability.

    Raises:
        MissingExtraError: ONNX packages are not installed.
        RecamlabelError: The size does not fit, or the outputs differ by more than 1e-3; no file is left.
    """
    if any(side < 32 or side % 32 for side in size):
        raise RecamlabelError(f"--size {size[0]}x{size[1]}: both sides have to be multiples of 32")
    model = Deployed(net).eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(2, 3, *size, generator=generator)
    with torch.no_grad(), replacing(path) as temporary:
        expected = model(example).numpy()
        write = _write_onnx if kind == "onnx" else _write_torchscript
        outputs = write(model, example, temporary, facts)
        difference = float(np.abs(outputs - expected).max())
        if not difference <= TOLERANCE:
            raise RecamlabelError(
                f"{path}: the {kind} model's probabilities differ from PyTorch's by {difference:.2g} "
                f"(at most {TOLERANCE:g} is accepted); nothing was written"
            )
    return difference


def _write_torchscript(model: nn.Module, example: Tensor, path: Path, facts: dict[str, Any]) -> np.ndarray:
    jit: Any = torch.jit
    traced = jit.trace(model, example)
    # In memory: on a full disk TorchScript's own writer ends the process.
    memory = io.BytesIO()
    jit.save(traced, memory, _extra_files={"recamlabel.json": json.dumps(facts)})
    path.write_bytes(memory.getbuffer())
    result: np.ndarray = jit.load(str(path))(example).numpy()
    return result


def _write_onnx(model: nn.Module, example: Tensor, path: Path, facts: dict[str, Any]) -> np.ndarray:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch's exporter needs)
    except ImportError as error:
        raise MissingExtraError(f"ONNX export needs {error.name}: pip install 'recamlabel[onnx]'") from None
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: batch}},
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"recamlabel": json.dumps(facts)})
    onnx.save(proto, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": example.numpy()})[0])
