"""Rows of the lists of public benchmarks, each with where it is, for the errors."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from stillmotion.errors import InputError


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Where each line is that is not blank, and the line without spaces at its ends; tabs stay.

    Raises:
        InputError: not UTF-8.
    """
    lines = enumerate(_text(path, "text").split("\n"), start=1)
    return [(f"{path} row {number}", line.strip(" \r")) for number, line in lines if line.strip()]


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Where each row is below the header, and its cells by column; a cell that is not there is empty.

    Raises:
        InputError: not CSV in UTF-8, or one of `columns` is missing.
    """
    reader = csv.DictReader(io.StringIO(_text(path, "CSV"), newline=""), strict=True, restval="")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: not CSV in UTF-8 ({error}); get the file again") from None
    for name in columns:
        if name not in (reader.fieldnames or ()):
            raise InputError(f"{path} row 1: column {name!r} is missing; get the file again")
    return [(f"{path} row {number}", row) for number, row in enumerate(rows, start=2)]


def _text(path: Path, what: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {what} in UTF-8 ({error}); get the file again") from None
