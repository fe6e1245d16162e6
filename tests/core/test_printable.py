"""What people are shown: names whose characters are not obeyed by a terminal, and the names that a class has not."""

from __future__ import annotations

import json

import pytest

from recamlabel.adapters.base import check_image_id
from recamlabel.cli.main import run as command
from recamlabel.core.classes import ClassTable, OtherNames
from recamlabel.core.printable import is_text, printable, printable_json
from recamlabel.core.progress import say
from recamlabel.errors import DatasetError

ODD = "\x1b]0;x\x07 \x9b31m \u202e \udcff Žába\n\t"


def test_control_characters_are_shown() -> None:
    assert printable(ODD) == "\\x1b]0;x\\x07 \\x9b31m \\u202e \\udcff Žába\n\t"
    assert json.loads(printable_json({"a": [ODD]})) == {"a": [ODD]}
    assert "\x9b" not in printable_json(ODD) and "Žába" in printable_json(ODD)


def test_messages_errors_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    say("a \x1b[31m")
    assert command(["check", "no\x1b[31m"]) == 1
    assert command(["fit\x1b[31m"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert said.err.count("\\x1b[31m") == 3


def test_other_names_are_a_set() -> None:
    names = frozenset("abcd")
    others = OtherNames(names, frozenset("bx"))
    assert others == frozenset("acd") == others and hash(others) == hash(frozenset("acd"))
    assert others == OtherNames(frozenset("acd"), frozenset()) and others != frozenset("ab")
    assert (
        isinstance(others & names, frozenset) and frozenset("ab") & others == {"a"} and frozenset("b") | others == names
    )
    assert frozenset("ac") <= others and len(others) == 3 and "b" not in others and "x" not in others


def test_half_a_character_is_no_name() -> None:
    for odd in ("a\ud800", "\udcff"):
        assert not is_text(odd)
        with pytest.raises(DatasetError, match="holds half of a character"):
            ClassTable((odd,))
        with pytest.raises(DatasetError, match="no text in UTF-8"):
            check_image_id(f"folder/{odd}")
