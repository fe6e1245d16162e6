"""Every candidate on the same sample within a budget of time, ranked, and what that says in words."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recamlabel.adapters.base import Dataset
from recamlabel.config import Config, amend
from recamlabel.core.progress import duration, say
from recamlabel.errors import RecamlabelError
from recamlabel.masks.calibrate import LevelEvidence
from recamlabel.run.fit import fit
from recamlabel.run.intake import read_dataset, refuse_place
from recamlabel.run.trial.candidates import SHORT, Candidate, candidates
from recamlabel.run.trial.ranking import Drawings, Ranked, criterion, ranked
from recamlabel.run.trial.sample import Sample, write_sample
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.gate import read_gate
from recamlabel.storage.atomic import placing, write_text
from recamlabel.storage.run_folder import RunFolder, is_run

TRIAL_FILE = "trial.json"
Score = Callable[[RunFolder], tuple[float, Drawings]]
"""A finished run's mIoU in [0, 1] with true masks, and that of images drawn anew ``(R,)``."""
# Below, a mask is more often wrong than right wherever it says something.
TOO_LOW = 0.3


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Attributes:
        places: The candidates that were run, the best first.
        about: By name what a candidate is, and what it changes.
        seconds: By name.
        left_out: By name why a candidate was not run.
        figure: What they are ranked by.
        advice: What to do, in words, the command last.
    """

    places: tuple[Ranked, ...]
    about: Mapping[str, Candidate]
    seconds: Mapping[str, float]
    left_out: Mapping[str, str]
    figure: str
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [
            {
                "name": one.name,
                "settings": list(self.about[one.name].settings),
                "value": round(one.value, 4),
                "interval": [round(bound, 4) for bound in one.interval],
                "behind": [round(bound, 4) for bound in one.behind],
                "as_good_as_the_first": one.tied,
                "seconds": round(self.seconds[one.name], 1),
            }
            for one in self.places
        ]
        return {"ranked_by": self.figure, "candidates": rows, "left_out": dict(self.left_out), "advice": [*self.advice]}


def run_trial(
    source: Path,
    out: Path,
    config: Config,
    *,
    images: int = 60,
    minutes: float = 30.0,
    first: Callable[[Dataset], Collection[str]] = lambda dataset: (),
    score: Score | None = None,
    options: str = "",
) -> Trial:
    """Run the candidates on a sample of the images and rank them.

    Args:
        source: As :func:`recamlabel.run.fit.fit` takes it.
        out: Folder of the trial: new, empty, or that of the same trial, which goes on.
        config: The settings that ``fit`` would use, part of every candidate.
        images: How many images at most.
        minutes: No candidate is begun that would end later, by the time that the ones before it took.
        first: Ids of images that are taken into the sample before others: those with true masks.
        score: Scores a run with true masks; without it the criterion of the background level decides.
        options: How ``fit`` is given these settings, for the advice.

    Raises:
        RecamlabelError: As ``fit`` does; a candidate that fails for itself is left out with its reason.
    """
    dataset = read_dataset(source, config)
    refuse_place(dataset.root, dataset.adapter, out)
    sample = write_sample(dataset, config, images, out, first(dataset))
    ways = candidates(sample.config, sample.dataset)
    runs, seconds, left_out = _all_runs(sample, out, ways, minutes)
    found = {
        name: score(run) if score else criterion(LevelEvidence.load(run.path / LEVELS_FILE), config.seed)
        for name, run in runs.items()
    }
    values = {name: value for name, (value, _) in found.items()}
    places = ranked(values, {name: drawn for name, (_, drawn) in found.items()})
    about = {way.name: way for way in ways}
    figure = "mIoU with the true masks" if score else "the criterion of the background level, which sees no true mask"
    command = f"recamlabel fit {shlex.quote(str(source))} --out RUN{options}"
    advice = _advice(command, runs[ways[0].name], places, about, score is not None)
    trial = Trial(tuple(places), about, seconds, left_out, figure, tuple(advice))
    write_text(out / TRIAL_FILE, json.dumps(trial.to_json(), indent=1, ensure_ascii=False))
    say(f"trial: {len(places)} of {len(ways)} ways in {duration(sum(seconds.values()))}")
    return trial


def _all_runs(
    sample: Sample, out: Path, ways: Sequence[Candidate], minutes: float
) -> tuple[dict[str, RunFolder], dict[str, float], dict[str, str]]:
    """The candidates' runs, the seconds each took, and why others have none."""
    runs, seconds, left_out = dict[str, RunFolder](), dict[str, float](), dict[str, str]()
    for number, way in enumerate(ways):
        longest = max([*seconds.values()][1:], default=0.0)
        if number and sum(seconds.values()) + longest > 60 * minutes:
            left_out[way.name] = f"no time left of {minutes:g} minutes (--minutes)"
            continue
        say(f"trial: {way.name} ({way.about}), {number + 1} of {len(ways)}")
        start = time.monotonic()
        try:
            runs[way.name] = _run(sample, out, way, ways[0])
            seconds[way.name] = time.monotonic() - start
        except RecamlabelError as error:
            if not number:
                raise
            left_out[way.name] = str(error).splitlines()[0]
            say(f"trial: {way.name} left out: {left_out[way.name]}")
    return runs, seconds, left_out


def _run(sample: Sample, out: Path, way: Candidate, base: Candidate) -> RunFolder:
    """A candidate's run, which begins with what the first one has trained already."""
    place = out / way.name
    if way is not base and not is_run(place):
        with placing(place.resolve()) as fresh:
            shutil.copytree(out / base.name, fresh, dirs_exist_ok=True)
    return fit(sample.labels, place, amend(sample.config, [*SHORT, *way.settings]), until="masks")


def _advice(
    command: str,
    base: RunFolder,
    places: Sequence[Ranked],
    about: Mapping[str, Candidate],
    with_truth: bool,
) -> list[str]:
    """What to do, in words."""
    best, as_set = places[0], next(iter(about))
    tied = {one.name for one in places if one.tied}
    telling = with_truth or LevelEvidence.load(base.path / LEVELS_FILE).speaks
    chosen = best.name if telling and as_set not in tied else as_set
    said = []
    if not telling:
        said.append(
            "The classifier's answers say nothing about regions here, so without true masks nothing can be ranked: "
            "give about 20 with --truth. Until then the settings as they are"
        )
    elif chosen == as_set and len(tied) > 1:
        others = ", ".join(sorted(tied - {as_set}))
        said.append(f"The settings as they are; {others} may be as good (95 % interval), which is no reason to change")
    else:
        beyond = ": better than all others beyond the 95 % interval" if len(tied) == 1 else ", or what is tied with it"
        said.append(f"{about[chosen].about}{beyond}")
    if telling and not with_truth:
        said.append(
            "This was ranked without true masks, by a criterion that was made for levels and is a weak judge of "
            "methods (docs/figures.md): 20 true masks and --truth say more"
        )
    said += _will_not_do(base, best if with_truth else None)
    return [*said, command + "".join(f" --set {shlex.quote(line)}" for line in about[chosen].settings)]


def _will_not_do(base: RunFolder, best: Ranked | None) -> list[str]:
    """Whether image labels are not enough here, and what would be."""
    classes = read_gate(base).get("classes", [])
    lost = [one for one in classes if one["verdict"] == "do not trust"]
    said = []
    if lost:
        reasons = "; ".join(f"{one['name']}: {one['reasons'][0]}" for one in lost if one["reasons"])
        what = "any class" if len(lost) == len(classes) else f"{len(lost)} of {len(classes)} classes"
        said.append(f"Image labels will not do for {what} ({reasons})")
    if best is not None and best.interval[1] < TOO_LOW:
        said.append(
            f"Even the best way has at most {100 * best.interval[1]:.0f} mIoU (95 %) on this sample: image labels will "
            "hardly do here, if a larger --images says the same. Boxes or points, or about 20 painted masks a class "
            "(`recamlabel review`), would"
        )
    return said
