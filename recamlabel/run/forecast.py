"""How long a run takes: from the machine's measured speed at first, then from the stages that are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce

from recamlabel.core.progress import Bar, Clock, duration, total_left_by
from recamlabel.run.speed import measure_speed
from recamlabel.stages.cost import UNITS, Cost
from recamlabel.stages.graph import Planned, Scope, Stage
from recamlabel.stages.view import View

# A stage of a round: 1 is the run itself.
Step = tuple[int, str]
# Seconds that the measured speed counts for beside the stages that are done: some seconds of the gate say little.
BELIEF = 15.0
# No stage makes the others so many times slower or faster: something else was wrong with it.
FARTHEST = 4.0
# A bar's own rate counts in full so many seconds after its first item.
SETTLED = 10.0


@dataclass(frozen=True)
class Pace:
    """How speed and time are measured; replaced in tests.

    Attributes:
        speed: The seconds that one of each unit of some work takes (:func:`recamlabel.run.speed.measure_speed`).
        clock: Seconds since some moment.
    """

    speed: Callable[[View, Cost], Cost] = measure_speed
    clock: Clock = time.monotonic


REAL = Pace()


@dataclass
class Forecast:
    """What a run has still to do, and how long that takes.

    Attributes:
        speed: Seconds of each unit of work, as measured.
        pending: Work of the steps to come, in order.
        done: Work of steps that are done, each with the seconds it took.
        clock: Seconds since some moment.
        resumed: Share of the step that is running which an earlier run had done.
    """

    speed: Cost
    pending: dict[Step, Cost]
    done: list[tuple[Cost, float]] = field(default_factory=list)
    clock: Clock = time.monotonic
    resumed: float = 0.0

    def seconds(self, cost: Cost) -> float:
        """How long some work takes, corrected by what is done."""
        parts, factors = cost.parts(self.speed).values(), self._factors()
        return sum(part * factors[unit] for unit, part in zip(UNITS, parts, strict=True))

    def left(self, last: Step | None = None) -> float:
        """Seconds of all steps to come, or of those up to the last one."""
        total = 0.0
        for step, cost in self.pending.items():
            total += self.seconds(cost)
            if step == last:
                break
        return total

    def skip(self, step: Step) -> None:
        """A step that is done already."""
        self.pending.pop(step, None)

    @contextmanager
    def running(self, step: Step) -> Iterator[None]:
        """While a step runs, every bar shows the total time left; afterwards its time corrects the others'."""
        cost = self.pending.pop(step, Cost())
        began, self.resumed = self.clock(), 0.0

        def time_left(bar: Bar) -> float:
            if bar.start:
                self.resumed = bar.start / max(1, bar.total)
            expected = max(0.0, self.seconds(cost) - (self.clock() - began - bar.ran))
            return stage_left(bar, expected) + self.left()

        with total_left_by(time_left):
            yield
        if self.resumed < 1:
            self.done.append((cost.times(1 - self.resumed), self.clock() - began))

    def _factors(self) -> Mapping[str, float]:
        """By unit, how much longer it takes than measured: by the steps that consist of it for the most part."""
        rows = []
        for cost, seconds in self.done:
            parts = cost.parts(self.speed).values()
            if not any(parts):
                continue  # of units that were not timed, as nothing of them is to come
            rows.append((UNITS[parts.index(max(parts))], sum(parts), seconds))
        everywhere = _ratio([(expected, seconds) for _, expected, seconds in rows], 1.0)
        return {
            unit: _ratio([(expected, seconds) for main, expected, seconds in rows if main == unit], everywhere)
            for unit in UNITS
        }


def make_forecast(
    view: View, scope: Scope, to_do: Mapping[Step, Stage], finished: Iterable[Planned], pace: Pace
) -> Forecast | None:
    """The forecast of a run.

    Args:
        view: Of the run.
        scope: Images and settings.
        to_do: The stages that are to run, in order.
        finished: The stages that are current, whose seconds are on record.
        pace: How speed and time are measured.

    Returns:
        None where nothing is to do, or the speed cannot be measured: an estimate is worth no failure.
    """
    pending = {step: stage.cost(scope) for step, stage in to_do.items()}
    if not pending:
        return None
    try:
        speed = pace.speed(view, reduce(Cost.__add__, pending.values()))
    except Exception as error:
        view.run.log(event="speed", error=repr(error))
        return None
    records = view.run.state.stages
    rows = [(one.stage.cost(scope), records[one.name]) for one in finished if one.name in records]
    # Of one that was interrupted, only the last part's seconds are on record; one that was trained again did more.
    whole = [(cost, record) for cost, record in rows if not record.get("resumed_at") and not record.get("restarts")]
    done = [(cost, float(record["seconds"])) for cost, record in whole]
    return Forecast(speed, pending, done, pace.clock)


def _ratio(rows: list[tuple[float, float]], prior: float) -> float:
    expected, took = (sum(column) for column in zip(*rows, strict=True)) if rows else (0.0, 0.0)
    ratio = (took + BELIEF * prior) / (expected + BELIEF)
    return min(max(ratio, 1 / FARTHEST), FARTHEST)


def stage_left(bar: Bar, expected: float) -> float:
    """Seconds that a stage still takes, by its bar and by what was expected of it.

    Args:
        bar: The bar that is shown; by its own rate where it is the stage's last.
        expected: Seconds that the stage was to take from the bar's beginning on.

    Example:
        >>> stage_left(Bar(total=10, start=0, finished=0, ran=0.0), 60.0)
        60.0
        >>> stage_left(Bar(total=10, start=0, finished=6, ran=22.0, first=(1, 2.0)), 60.0)
        16.0
        >>> stage_left(Bar(total=10, start=0, finished=6, ran=22.0, more=True, first=(1, 2.0)), 60.0)
        38.0
        >>> stage_left(Bar(total=10, start=0, finished=1, ran=20.0, first=(1, 20.0)), 60.0)
        54.0
    """
    own = bar.seconds_left
    if bar.more:
        return max(own or 0.0, expected - bar.ran)
    share = (bar.total - bar.finished) / max(1, bar.total)
    if bar.finished == bar.start:
        return max(expected * share - bar.ran, 0.0)
    if own is None:
        return expected * share
    trust = min(1.0, bar.since_first / SETTLED)
    return trust * own + (1 - trust) * expected * share


def plan_lines(forecast: Forecast, page: str) -> list[str]:
    """What is said before the first stage.

    Args:
        forecast: With all steps still to come.
        page: File that is written as soon as there are masks; empty for none.
    """
    if not forecast.pending:
        return []
    names: dict[str, float] = {}
    for (_, name), cost in forecast.pending.items():
        names[name] = names.get(name, 0.0) + forecast.seconds(cost)
    each = ", ".join(f"{name} {duration(seconds)}" for name, seconds in names.items())
    steps, rounds = len(forecast.pending), max(number for number, _ in forecast.pending)
    stages = f"{steps} stage{'s' * (steps > 1)}" + (f" in {rounds} rounds" if rounds > 1 else "")
    lines = [f"plan: {stages}, about {duration(forecast.left())} in all by the speed of the first images: {each}"]
    if page and (1, "masks") in forecast.pending:
        soon = duration(forecast.left((1, "masks")))
        lines.append(f"plan: a first report as soon as there are masks, in about {soon}: {page}")
    return lines
