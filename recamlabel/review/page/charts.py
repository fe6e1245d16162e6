"""Charts of a run as inline SVG: its loss curves, and the style of every chart."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

COLOURS = ("#0b62a4", "#c8501e", "#2f7d4f")
SIZE_INCHES = (4.6, 2.6)


@dataclass(frozen=True)
class Chart:
    """A chart for the page: heading, one sentence for those who cannot see it, and the SVG."""

    title: str
    summary: str
    svg: str


@dataclass(frozen=True)
class ChartSpec:
    """What a chart shows: a stage's figures by the name they have in ``log.jsonl``."""

    title: str
    stage: str
    figures: Mapping[str, str]
    bounded: bool = False


CHARTS = (
    ChartSpec("Classifier: loss", "classifier", {"loss": "BCE"}),
    ChartSpec("ReCAM: losses", "recam", {"loss_bce": "BCE", "loss_sce": "SCE (softmax)"}),
    ChartSpec("ReCAM head: accuracy", "recam", {"accuracy": "labels told apart"}, bounded=True),
)


def training_steps(events: Sequence[Mapping[str, Any]], stage: str) -> list[Mapping[str, Any]]:
    """The logged steps of the newest training of a stage, in order.

    The log holds every training that ever happened in the run folder. One that starts over
    begins at a low step, one that continues after a kill repeats some steps: in both cases the
    newer lines replace the older ones from that step on.

    Example:
        >>> events = [{"stage": "a", "event": "step", "step": step} for step in (10, 20, 30, 20, 30)]
        >>> [event["step"] for event in training_steps(events, "a")]
        [10, 20, 30]
    """
    steps: list[Mapping[str, Any]] = []
    for event in events:
        if event.get("stage") == stage and event.get("event") == "step" and isinstance(event.get("step"), int):
            while steps and steps[-1]["step"] >= event["step"]:
                steps.pop()
            steps.append(event)
    return steps


def charts(events: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """All charts for which something was logged."""
    made = []
    for spec in CHARTS:
        steps = training_steps(events, spec.stage)
        series = {label: _points(steps, figure) for figure, label in spec.figures.items()}
        series = {label: points for label, points in series.items() if points}
        if series:
            made.append(Chart(spec.title, _summary(series), _draw(spec, series)))
    return made


Points = list[tuple[int, float]]


def _points(steps: Sequence[Mapping[str, Any]], figure: str) -> Points:
    return [(event["step"], float(event[figure])) for event in steps if isinstance(event.get(figure), int | float)]


def _summary(series: Mapping[str, Points]) -> str:
    parts = [f"{label} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for label, points in series.items()]
    last = max(points[-1][0] for points in series.values())
    return f"{'; '.join(parts)} over {last} optimiser steps"


def _draw(spec: ChartSpec, series: Mapping[str, Points]) -> str:
    with drawing(spec.title, "optimiser step") as (axes, text):
        from matplotlib.ticker import MaxNLocator

        for colour, (label, points) in zip(COLOURS, series.items(), strict=False):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, label=label, linewidth=1.8, marker="o" if len(steps) == 1 else "")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_ylim(0, 1.03 if spec.bounded else None)
        if len(series) > 1:
            axes.legend(frameon=False)
    return text[0]


@contextmanager
def drawing(title: str, x_label: str) -> Iterator[tuple[Any, list[str]]]:
    """Axes to draw on, in the look of the page, and a list that holds the SVG once the block is left.

    Args:
        title: Makes the ids in the SVG the same each time, and others than another chart's.
        x_label: What the horizontal axis is.
    """
    # matplotlib is slow to import, and only a report needs it.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 9}
    text: list[str] = []
    with matplotlib.rc_context(look):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        yield axes, text
        axes.set_xlabel(x_label)
        axes.grid(axis="y", color="#dde1e6", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color("#98a1ab")
        axes.tick_params(color="#98a1ab", labelcolor="#3c4650", length=3)
        axes.xaxis.label.set_color("#3c4650")
        buffer = io.StringIO()
        plain: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=plain)
        text.append(buffer.getvalue()[buffer.getvalue().index("<svg") :])
