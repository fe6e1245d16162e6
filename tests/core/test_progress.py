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


def test_processes_that_start_are_in_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with track("refine", 120, clock=clock) as advance:
        clock.now += 12.0
        for _ in range(2):  # of two processes that start for twelve seconds and then take half a second an image
            advance()
        for _ in range(118):
            clock.now += 0.5
            advance()
    # Over all 120 images: 71 s, the start included. "0.1/s, 24:00 left" was said after the first one.
    assert capsys.readouterr().err.splitlines() == [
        "refine: 1/120 images",
        "refine: 22/120 images, 2.1/s, 0:47 left",
        "refine: 42/120 images, 2.0/s, 0:38 left",
        "refine: 62/120 images, 2.0/s, 0:29 left",
        "refine: 82/120 images, 2.0/s, 0:19 left",
        "refine: 102/120 images, 2.0/s, 0:09 left",
        "refine: 120/120 images, 1.7/s, 0:00 left",
    ]


@pytest.mark.parametrize(
    ("finished", "ran", "rate"),
    [
        (0, 60.0, None),
        (8, 60.0, None),  # all at once
        (10, 70.0, None),  # two items
        (11, 62.0, None),  # two seconds
        (11, 63.0, 1.0),
        (20, 80.0, 0.25),  # done: all items in all seconds
    ],
)
def test_a_rate_is_said_where_items_and_seconds_tell_one(finished: int, ran: float, rate: float | None) -> None:
    assert Bar(20, 0, finished, ran, first=(8, 60.0) if finished else None).rate == rate


def test_the_total_time_left_stands_beside_the_bars_own(capsys: pytest.CaptureFixture[str]) -> None:
    clock, bars = Clock(), []

    def time_left(bar: Bar) -> float:
        bars.append(bar)
        return 600.0 - bar.ran

    with total_left_by(time_left), track("maps", 2, clock=clock, more=True) as advance:
        clock.now += 120.0
        advance(note="loss 0.5")
    # What the first item took is no rate.
    assert capsys.readouterr().err == "maps: 1/2 images, 8 min to the end, loss 0.5\n"
    assert bars[0] == Bar(2, 0, 0, 0.0, True) and bars[-1] == Bar(2, 0, 1, 120.0, True, (1, 120.0))
    with track("report", 1) as advance:
        advance()
    assert "to the end" not in capsys.readouterr().err


def test_a_terminal_shows_it_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with total_left_by(lambda bar: 50.0 - bar.finished), track("maps", 2, clock=Clock()) as advance:
        advance(2)
    assert "48 s to the end" in capsys.readouterr().err
