"""Text files as people have them: UTF-8, with or without a byte-order mark, or UTF-16 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

from recamlabel.errors import DatasetError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: Path) -> str:
    """The text of a label file, without its byte-order mark; line ends are kept.

    Raises:
        DatasetError: No such file, a folder, no permission, not UTF-8 (the message names row
            and byte), UTF-16 without a byte-order mark, or a binary file.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "classes.txt"
        >>> _ = file.write_bytes(b"\\xef\\xbb\\xbfcat\\n")
        >>> read_text(file)
        'cat\\n'
    """
    data = read_bytes(file)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(_not_decodable(file, data, encoding, error)) from None
    position = text.find("\0")
    if position >= 0:
        raise DatasetError(
            f"{file}, row {_row(text[:position].encode())}: a NUL character: a binary file, or UTF-16 without a "
            "byte-order mark; expected text, save it as UTF-8"
        )
    return text


def read_bytes(file: Path) -> bytes:
    """The bytes of a label file.

    Raises:
        DatasetError: No such file, a folder, no permission, or a Python pickle, which is never loaded.
    """
    if file.is_dir():
        raise DatasetError(f"{file}: a folder; expected a text file")
    if file.exists() and not file.is_file():
        raise DatasetError(f"{file}: a pipe, socket or device; expected a text file")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror or error}") from None
    # Protocol 2 and later begin so; no text in any encoding that is read does.
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise DatasetError(
            f"{file}: a Python pickle; it is not loaded, for loading one can run any program. "
            "Expected text; write the labels as CSV or JSON instead"
        )
    return data


def _not_decodable(file: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if not encoding.startswith("utf-8"):
        return f"{file}: begins with the byte-order mark of {encoding} but is not {encoding}; save it as UTF-8"
    # 'utf-8-sig' counts from behind the mark.
    start = error.start + (len(data) - len(error.object))
    shown = bytes(data[max(0, start - 12) : start + 12])
    return (
        f"{file}, row {_row(data[:start])}: not UTF-8: byte 0x{data[start]:02x} in {shown!r}; save the file as UTF-8 "
        f"(in a spreadsheet 'CSV UTF-8'; or: iconv -f WINDOWS-1252 -t UTF-8 '{file.name}' > utf8-'{file.name}')"
    )


def _row(before: bytes) -> int:
    newline = b"\n" if b"\n" in before else b"\r"
    return before.count(newline) + 1
