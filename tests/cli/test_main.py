"""The command line as a person meets it: help, mistakes, exit codes; never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextvars import copy_context

import pytest
from helpers import TINY

from recamlabel.cli.main import COMMANDS, run


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(verb, capsys):
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: recamlabel {verb}") and len(text) > 200


def test_help_lists_every_verb_and_is_quick():
    began = time.monotonic()
    text = subprocess.check_output([sys.executable, "-m", "recamlabel", "--help"], text=True)
    assert all(verb in text for verb in COMMANDS)
    assert time.monotonic() - began < 10
    code = "import sys; from recamlabel.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit"], 2, "Missing argument 'SOURCE'"),
        (["fit", "{data}"], 2, "Missing option '--out'"),
        (["fit", "{data}/nothing", "--out", "{out}"], 1, "no such"),
        (["fit", "{data}/images/0.png", "--out", "{out}"], 1, "0.png"),
        (["fit", "{data}", "--out", "{data}"], 1, "not empty and not a run folder"),
        (["fit", "{data}", "--out", "{out}", "--set", "masks.treshold=1"], 2, "did you mean masks.threshold"),
        (["fit", "{data}", "--out", "{out}", "--config", "{data}"], 2, "a folder; expected a TOML file"),
        (["fit", "{data}", "--out", "{out}", "--preset", "fast"], 2, "'fast' is not one of"),
        (["fit", "{data}", "--out", "{out}", "--adapter", "voc99"], 1, "--adapter: unknown 'voc99'"),
        (["fit", "{data}", "--out", "{out}", "--device", "cuda:77"], 2, "cuda:77"),
        (["fit", "{data}", "--out", "{out}", "--weights", "none.pth"], 1, "no such weights file"),
        (["fit", "{data}", "--out", "{out}", "--set", "data.labels_column=tags"], 1, "tags"),
        (["masks", "{data}", "--threshold", "0.5"], 1, "not a run folder"),
        (["masks", "{out}", "--threshold", "0.5"], 1, "no such run folder"),
        (["masks", "{out}", "--threshold", "5"], 2, "expected a number from 0 to 1, or 'auto'"),
        (["status", "{data}"], 1, "not a run folder"),
        (["evaluate", "{out}", "--truth", "{data}"], 1, "no such run folder"),
        (["fitt"], 2, "No such command 'fitt'. Did you mean `recamlabel fit`?"),
        (["train", "{data}"], 2, "Did you mean `recamlabel fit`?"),
        (["version"], 2, "Did you mean `recamlabel --version`?"),
        (["xyzzy"], 2, "No such command 'xyzzy'.\n"),
    ],
)
def test_mistakes_get_one_message(tiny_csv, tmp_path, capsys, arguments, code, message):
    names = {"data": tiny_csv, "out": tmp_path / "run"}
    before = sorted(tiny_csv.rglob("*"))
    assert run([word.format(**names) for word in arguments]) == code
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "run").exists() and sorted(tiny_csv.rglob("*")) == before


def test_quiet_says_warnings_and_results_alone(tiny_csv, capsys):
    assert run(["check", str(tiny_csv)]) == 0
    assert "decode:" in capsys.readouterr().err
    # In a context of its own, as a process of its own would have.
    assert copy_context().run(run, ["check", "-q", str(tiny_csv)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "fit would accept" in captured.out


def test_verbose_says_where_it_failed(tmp_path, capsys):
    assert run(["status", str(tmp_path / "none"), "-v"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err and captured.err.rstrip().splitlines()[-1].startswith("recamlabel: ")


def test_config_output_reads_back(tmp_path, capsys):
    assert run(["config", "--set", "masks.threshold=0.25"]) == 0
    file = tmp_path / "settings.toml"
    file.write_text(capsys.readouterr().out)
    assert "threshold = 0.25" in file.read_text()
    assert run(["config", "--config", str(file)]) == 0
    assert capsys.readouterr().out == file.read_text()


def test_fit_masks_status_evaluate(tiny_csv, tmp_path, capsys):
    out = str(tmp_path / "run")
    settings = [item for line in (*TINY, "refine.method=none") for item in ("--set", line)]
    assert run(["fit", str(tiny_csv), "--out", out, *settings]) == 0
    assert "report.html" in capsys.readouterr().out
    assert run(["fit", out, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["masks_h5"] == f"{out}/masks.h5" and {"level", "withheld", "doubtful", "next"} <= said.keys()
    assert run(["status", out, "--json"]) == 0
    stages = {row["stage"]: row["state"] for row in json.loads(capsys.readouterr().out)["stages"]}
    assert set(stages.values()) == {"finished"} and "masks" in stages
    assert run(["masks", out, "--threshold", "0.2"]) == 0
    capsys.readouterr()
    for what in ("cam-seeds", "recam-seeds", "masks"):
        assert run(["evaluate", out, "--truth", str(tmp_path / "truth"), "--what", what, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert {"miou", "per_class", "threshold", "images"} <= set(result) and result["images"] == 8
    assert result["threshold"] == 0.2


def test_a_full_disk_is_explained(monkeypatch, capsys):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recamlabel.storage.run_folder.RunFolder.open", full)
    assert run(["status", "anything"]) == 1
    assert "no space left on the disk" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("recamlabel.storage.run_folder.RunFolder.open", stop)
    assert run(["status", "anything"]) == 130
    assert "the same command again continues" in capsys.readouterr().err
