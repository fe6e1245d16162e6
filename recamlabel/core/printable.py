"""Text of label files and file names that is safe on a terminal: control characters are shown, not obeyed."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """The text with every character that is not one to look at (ESC, other controls, marks of direction, halves of
    surrogates) as its escape; line ends and tabs stay.

    Example:
        >>> print(printable("Žába \\x1b[31m"))
        Žába \\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def is_text(name: str) -> bool:
    """Whether UTF-8 can hold it: no half of a character is in it, which JSON can name, and of which Python makes the
    names of files in another encoding.

    Example:
        >>> is_text("Žába 🐸"), is_text("\\ud83d")
        (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_json(tree: object) -> str:
    """A tree as indented JSON whose texts are as they were for a program, and safe on a terminal too.

    Example:
        >>> printable_json(["Žába", "\\x9b31m"]).split()
        ['[', '"Žába",', '"\\\\u009b31m"', ']']
    """
    text = json.dumps(tree, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
