"""Every figure of docs/benchmarks.md, one command after the other.

    python benchmarks/run_all.py [--msrc FOLDER]

Without ``--msrc`` the figures on real photographs are left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "tests" / "golden"


def commands(msrc: Path | None, out: Path) -> list[list[str]]:
    """The command lines, quick ones first."""
    python = sys.executable
    lines = [
        [python, str(HERE / "parity.py"), *map(str, sorted(GOLDEN.glob("*.npz")))],
        [python, str(HERE / "recam_head.py")],
        [python, str(HERE / "random_walk.py")],
        [python, str(HERE / "openmp_wait.py")],
        [python, str(HERE / "allocator.py")],
        [python, str(HERE / "adapters.py")],
        [python, str(HERE / "export_memory.py")],
        [python, "-m", "recamlabel", "demo", "--out", str(out / "demo")],
    ]
    lines.append([python, str(HERE / "thresholds.py"), "--demo", "--out", str(out / "scenes")])
    lines.append([python, str(HERE / "patchmemory.py"), "--out", str(out / "patchmemory")])
    if msrc is not None:
        runs, masks = out / "msrc", str(msrc / "masks")
        lines.append([python, str(HERE / "gate.py"), str(msrc), "--out", str(out / "gate")])
        lines.append([python, str(HERE / "msrc.py"), str(msrc), "--out", str(runs), "--seeds", "0", "1", "2"])
        pairs = [[str(runs / f"seed{seed}"), masks] for seed in range(3)]
        flat = [part for pair in pairs for part in pair]
        lines.append([python, str(HERE / "thresholds.py"), *(part for pair in pairs for part in ("--run", *pair))])
        lines.append([python, str(HERE / "quality.py"), *flat])
        lines.append([python, str(HERE / "simulated_review.py"), *flat, "--next-round", str(out / "next")])
        for seed, pair in enumerate(pairs):
            out_folder = str(out / f"segmenter{seed}")
            lines.append([python, str(HERE / "segmenter.py"), *pair, "--out", out_folder, "--only", "true"])
    return lines


def main() -> int:
    """Run all; the exit code is the number of commands that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--msrc", type=Path)
    arguments = parser.parse_args()
    failed = 0
    for command in commands(arguments.msrc, Path(tempfile.mkdtemp(prefix="recamlabel-bench-"))):
        print(f"\n$ {' '.join(command[1:])}", flush=True)
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
