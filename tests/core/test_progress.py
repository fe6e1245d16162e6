"""What a bar says: rate, its own time left, and beside it that of all the work where somebody knows it."""

from __future__ import annotations

import sys

import pytest

from recamlabel.core.progress import Bar, total_left_by, track


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_every_ten_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with track("maps", 50, start=10, clock=clock) as advance:
        for _ in range(40):
            clock.now += 3.0
            advance()
    lines = capsys.readouterr().err.splitlines()
    # Four steps of three seconds pass ten; the images of an earlier run are in no rate.
    assert lines[0] == "maps: 14/50 images, 0.3/s, 1:48 left"
    assert lines[-1] == "maps: 50/50 images, 0.3/s, 0:00 left" and len(lines) == 10


def test_the_total_time_left_stands_beside_the_bars_own(capsys: pytest.CaptureFixture[str]) -> None:
    clock, bars = Clock(), []

    def time_left(bar: Bar) -> float:
        bars.append(bar)
        return 600.0 - bar.ran

    with total_left_by(time_left), track("maps", 2, clock=clock, more=True) as advance:
        clock.now += 120.0
        advance(note="loss 0.5")
    assert capsys.readouterr().err == "maps: 1/2 images, 0.0/s, 2:00 left, 8 min to the end, loss 0.5\n"
    assert bars[0] == Bar(2, 0, 0, 0.0, True) and bars[-1] == Bar(2, 0, 1, 120.0, True)
    with track("report", 1) as advance:
        advance()
    assert "to the end" not in capsys.readouterr().err


def test_a_terminal_shows_it_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with total_left_by(lambda bar: 50.0 - bar.finished), track("maps", 2, clock=Clock()) as advance:
        advance(2)
    assert "48 s to the end" in capsys.readouterr().err
