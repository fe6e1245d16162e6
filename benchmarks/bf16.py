"""Masks of networks that look in bf16 beside those of float32: the same trained networks, several seeds.

    python benchmarks/bf16.py FOLDER --runs DIR [--seeds 0 1 2] [--every 3] [--threads 1] [--set section.key=value]…

FOLDER holds ``labels.csv``, ``images/`` and ``masks/``. For each seed `fit` runs to the re-activated classifier once;
two copies of the run go on to the masks, one with `runtime.amp` and one without. Prints a Markdown table: wall seconds
of maps and finer maps (in one process) and mIoU. ``--every N`` takes every Nth row of the labels. The masks are read
by the evaluation alone.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import torch

from recamlabel.config import load_config
from recamlabel.core.devices import cpu_has_bf16
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.run.fit import fit
from recamlabel.storage.run_folder import RunFolder

WHAT = ("recam-seeds", "scores", "complete-masks")


def part_of(folder: Path, out: Path, every: int) -> Path:
    """Every Nth photograph of a data set, labels and masks, copied."""
    if every == 1:
        return folder
    with (folder / "labels.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    kept = rows[::every]
    for row in kept:
        for name in (row[0], f"masks/{Path(row[0]).stem}.png"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
    if (folder / "classes.txt").exists():
        shutil.copyfile(folder / "classes.txt", out / "classes.txt")
    with (out / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *kept])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not cpu_has_bf16():
        print("this processor does not compute in bf16: both runs of a seed are in float32")
    data = part_of(given.folder, given.runs / "data", given.every)
    lines = ["runtime.workers=1", "runtime.device=cpu", "segmenter.enabled=false", *given.set]
    print(f"| seed | networks look in | maps, s | finer maps, s | {' | '.join(f'{what}, mIoU' for what in WHAT)} |")
    print(f"|---|---|---:|---:|{'---:|' * len(WHAT)}")
    for seed in given.seeds:
        trained = given.runs / f"seed{seed}"
        config = load_config("quick", assignments=lines, overrides={"seed": seed})
        fit(data, trained, config, until="recam")
        for kind, amp in (("float32", "false"), ("bf16", "true")):
            out = given.runs / f"seed{seed}-{kind}"
            if not out.exists():
                shutil.copytree(trained, out)
            config = load_config("quick", assignments=[*lines, f"runtime.amp={amp}"], overrides={"seed": seed})
            fit(data, out, config, until="masks")
            run = RunFolder.open(out)
            stages = run.state.stages
            spent = [float(stages[name]["seconds"]) if name in stages else 0.0 for name in ("maps", "fine")]
            found = " | ".join(f"{evaluate_run(run, data / 'masks', what).miou:.2f}" for what in WHAT)
            print(f"| {seed} | {kind} | {spent[0]:.0f} | {spent[1]:.0f} | {found} |", flush=True)


if __name__ == "__main__":
    main()
