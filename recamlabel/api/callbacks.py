"""Where the losses and figures of a run go besides its own ``log.jsonl``: TensorBoard, MLflow, Weights & Biases.

A callback is anything that can be called with an event, a dictionary: ``{"stage": "classifier", "event": "step",
"step": 20, "steps": 300, "lr": 0.02, "loss": 0.31}``, ``{"stage": …, "event": "start" | "finish", "seconds": …}``, or
``{"event": "metrics", "section": …, "values": …}``. A method ``close()`` is called at the end.

Example:
    >>> seen = []
    >>> run = recamlabel.fit("photos", "runs/one", callbacks=[seen.append])  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recamlabel.errors import MissingExtraError

# Parts of an event that say where it belongs, and are no figure.
PLACE = frozenset({"time", "stage", "event", "step", "steps", "key"})


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an event by a name such as ``classifier/loss``; empty where it has none.

    Example:
        >>> scalars({"stage": "recam", "event": "step", "step": 3, "loss": 0.5, "note": "x"})
        {'recam/loss': 0.5}
        >>> scalars({"event": "metrics", "section": "evaluation", "values": {"masks": {"miou": 70.0}}})
        {'evaluation/masks/miou': 70.0}
    """
    if event.get("event") == "metrics":
        return dict(_numbers(event.get("values", {}), str(event.get("section", "metrics"))))
    stage = event.get("stage", "run")
    if event.get("event") == "finish":
        return {f"{stage}/seconds": float(event["seconds"])} if "seconds" in event else {}
    if event.get("event") != "step":
        return {}
    return dict(_numbers({name: value for name, value in event.items() if name not in PLACE}, str(stage)))


def _numbers(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found.append((f"{prefix}/{name}", float(value)))
    return found


class TensorBoard:
    """Scalars for TensorBoard (``pip install 'recamlabel[tensorboard]'``).

    Args:
        folder: Where the event files go.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        _need("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Write the figures of an event at its step."""
        for name, value in scalars(event).items():
            self._writer.add_scalar(name, value, int(event.get("step", 0)))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class MLflow:
    """Metrics for MLflow, into the active run or a new one (``pip install mlflow``).

    Args:
        name: Of a new run.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(self, name: str | None = None) -> None:
        self._mlflow = _need("mlflow", "")
        self._own = self._mlflow.active_run() is None
        if self._own:
            self._mlflow.start_run(run_name=name)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Send the figures of an event at its step."""
        figures = scalars(event)
        if figures:
            self._mlflow.log_metrics(figures, step=int(event.get("step", 0)))

    def close(self) -> None:
        """End the run that was begun here."""
        if self._own:
            self._mlflow.end_run()


class WandB:
    """Figures for Weights & Biases (``pip install wandb``).

    Args:
        options: Of ``wandb.init``, such as ``project="defects"``.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self._run = _need("wandb", "").init(**options)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Send the figures of an event; steps of a stage start anew, so they are a figure of their own."""
        figures = scalars(event)
        if figures:
            step = {f"{event['stage']}/step": event["step"]} if event.get("event") == "step" else {}
            self._run.log({**figures, **step})

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


CALLBACKS = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def _need(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        how = f"pip install 'recamlabel[{extra}]'" if extra else f"pip install {module}"
        raise MissingExtraError(f"{module} is not installed; {how}, or leave this log out") from None
