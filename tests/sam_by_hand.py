"""An onnxruntime that opens files of SAM's which are not there: networks that answer by plain arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

SIDE = 32
PROMPTS: list[tuple[str, list[Any]]] = [
    ("image_embeddings", [1, 4, 2, 2]),
    ("point_coords", [1, "n", 2]),
    ("point_labels", [1, "n"]),
    ("mask_input", [1, 1, 8, 8]),
    ("has_mask_input", [1]),
    ("orig_im_size", [2]),
]
IMAGE: list[tuple[str, list[Any]]] = [("input", ["batch", 3, SIDE, SIDE])]


class Network:
    """A session: inputs by name and shape; each call's feeds are kept."""

    def __init__(self, inputs: Sequence[tuple[str, list[Any]]]) -> None:
        self.inputs = [SimpleNamespace(name=name, shape=shape) for name, shape in inputs]
        self.fed: list[dict[str, np.ndarray]] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return self.inputs

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.fed.append(feeds)
        if "input" in feeds:
            return [np.zeros((1, 4, 2, 2), np.float32)]
        # Two masks: everything, and (surer) the box.
        height, width = feeds["orig_im_size"].astype(int)
        (left, top), (right, bottom) = np.round(feeds["point_coords"][0, :2] * max(height, width) / SIDE).astype(int)
        masks = np.stack([np.ones((height, width)), -np.ones((height, width))])[None].astype(np.float32)
        masks[0, 1, top:bottom, left:right] = 3.5
        return [masks, np.array([[0.1, 0.9]], np.float32)]


def fake_files(folder: Path) -> Path:
    """A folder with files of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("encoder.onnx", "decoder.onnx"):
        (folder / name).write_bytes(name.encode())
    return folder


def fake_onnxruntime(
    monkeypatch: pytest.MonkeyPatch,
    image: Sequence[tuple[str, list[Any]]] = IMAGE,
    prompts: Sequence[tuple[str, list[Any]]] = PROMPTS,
) -> dict[str, Network]:
    """Stands for the package; gives the opened networks by their file's name."""
    opened: dict[str, Network] = {}

    def session(path: str, options: Any, providers: Any) -> Network:
        name = Path(path).name
        opened[name] = Network(image if name == "encoder.onnx" else prompts)
        return opened[name]

    module = ModuleType("onnxruntime")
    vars(module).update(InferenceSession=session, SessionOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return opened
