"""Callbacks of a fit: what they hear, and that a broken one costs nothing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from helpers import TINY, make_tiny_csv

import recamlabel
from recamlabel import callbacks
from recamlabel.config import load_config
from recamlabel.core.events import listening, tell
from recamlabel.errors import MissingExtraError


class Listens:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.closed = False

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed = True


def test_a_fit_tells_stages_steps_and_figures(tmp_path, capsys):
    def broken(event: object) -> None:
        raise RuntimeError("no network")

    ear = Listens()
    config = load_config("quick", assignments=[*TINY, "refine.method=none", "segmenter.enabled=false"])
    recamlabel.fit(make_tiny_csv(tmp_path), tmp_path / "run", config=config, callbacks=[broken, ear])
    assert ear.closed and capsys.readouterr().err.count("broken failed (no network)") == 1
    started = [event["stage"] for event in ear.events if event["event"] == "start"]
    assert started[0] == "features" and "classifier" in started and "masks" in started
    step = next(event for event in ear.events if event["event"] == "step" and event["stage"] == "classifier")
    assert {"classifier/loss", "classifier/lr"} <= callbacks.scalars(step).keys()
    assert "classifier/seconds" in callbacks.scalars(
        next(event for event in ear.events if event["event"] == "finish" and event["stage"] == "classifier")
    )


def test_listening_ends_and_nests():
    outer, inner = Listens(), Listens()
    with listening([outer]):
        with listening([inner]):
            tell({"event": "one"})
        tell({"event": "two"})
    tell({"event": "three"})
    assert [len(ear.events) for ear in (outer, inner)] == [2, 1]


def test_mlflow_and_wandb_get_their_calls(monkeypatch):
    calls: list[tuple[str, Any]] = []

    class Run:
        def log(self, values):
            calls.append(("wandb", values))

        def finish(self):
            calls.append(("wandb", "finish"))

    mlflow, wandb = ModuleType("mlflow"), ModuleType("wandb")
    mlflow.active_run = lambda: None
    mlflow.start_run = lambda run_name: calls.append(("mlflow", run_name))
    mlflow.log_metrics = lambda figures, step: calls.append(("mlflow", (figures, step)))
    mlflow.end_run = lambda: calls.append(("mlflow", "end"))
    wandb.init = lambda **options: calls.append(("wandb", options)) or Run()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    step = {"stage": "recam", "event": "step", "step": 7, "loss": 0.5}
    for make in (lambda: callbacks.MLflow("first"), lambda: callbacks.WandB(project="p")):
        one = make()
        one(step)
        one({"stage": "recam", "event": "start"})
        one.close()
    assert calls == [
        ("mlflow", "first"),
        ("mlflow", ({"recam/loss": 0.5}, 7)),
        ("mlflow", "end"),
        ("wandb", {"project": "p"}),
        ("wandb", {"recam/loss": 0.5, "recam/step": 7}),
        ("wandb", "finish"),
    ]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[tensorboard\]'"):
        callbacks.TensorBoard("logs")


def test_tensorboard_writes_what_it_reads_back(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = callbacks.TensorBoard(tmp_path)
    board({"stage": "classifier", "event": "step", "step": 10, "loss": 0.25})
    board.close()
    found = reader.EventAccumulator(str(tmp_path)).Reload().Scalars("classifier/loss")
    assert [(one.step, one.value) for one in found] == [(10, 0.25)]
