"""``recamlabel stages``: the table follows the settings, and wrong settings are refused."""

from __future__ import annotations

import json

import pytest

from recamlabel.cli.main import run as command

PLAIN = ["--set", "refine.method=none"]


def names(capsys, *options: str) -> list[str]:
    assert command(["stages", *PLAIN, *options, "--json"]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_settings_add_and_leave_out_stages(capsys):
    usual = names(capsys)
    assert {"fine", "probe", "segmenter"} <= set(usual) and not {"cams", "relabel", "edges", "rounds"} & set(usual)
    joining = ("local", "fine", "joined", "probe")
    assert names(capsys, "--set", "probe.enabled=false") == [one for one in usual if one not in joining]
    assert set(usual) - set(names(capsys, "--set", "local.enabled=false")) == {"local", "joined"}
    assert {"cams"} == set(names(capsys, "--set", "maps.variant=lpcam", "--set", "probe.fine_sides=[]")) - set(usual)
    assert {"relabel", "rounds"} == set(names(capsys, "--set", "rounds=2")) - set(usual)
    assert {"seeds", "affinity", "edges"} == set(names(capsys, "--set", "refine.method=random_walk")) - set(usual)
    assert {"cams", "relabel", "edges", "rounds"} <= set(names(capsys, "--all"))


def test_the_table_says_what_is_read(capsys):
    assert command(["stages", *PLAIN]) == 0
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines()[2:]}
    assert (
        "backbone.* but weights, recam.* but min_agreement combine, classifier.rare_weight, augment, seed, maps.variant"
        in lines["recam"]
    )
    assert "segmenter.* but enabled relabel_weight predict, backbone" in lines["segmenter"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("maps.variant=lpcm", "maps.variant: unknown 'lpcm', did you mean 'lpcam'?"),
        ("segmenter.method=upernett", "segmenter.method: unknown 'upernett', did you mean 'upernet'?"),
        ("refine.method=crff", "refine.method: unknown 'crff', did you mean 'crf'? The methods are: auto, none"),
        ("masks.treshold=1", "unknown setting 'masks.treshold'; did you mean masks.threshold"),
    ],
)
def test_wrong_settings_are_refused(capsys, line, message):
    assert command(["stages", "--set", line]) == 2
    assert message in capsys.readouterr().err
