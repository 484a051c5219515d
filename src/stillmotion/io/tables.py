"""JSON and JSON Lines: UTF-8, one row a line, keys in the order given, the same bytes for the same rows.

A byte order mark, which some editors put before the text, is read over.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file


def _plain(value: Any, digits: int | None) -> Any:
    """Numpy scalars and arrays as Python values, floats rounded to `digits`, NaN refused."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, digits) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a JSON artefact")
        return value if digits is None else round(value, digits)
    return value


def write_json(path: str | os.PathLike[str], value: Any, *, digits: int | None = None) -> None:
    """Write `value` as indented JSON, atomically; floats are rounded to `digits` decimals where given."""
    with atomic_file(path) as partial:
        text = json.dumps(_plain(value, digits), indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; InputError names the file and the line that is not JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a file in it") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits and a list 10,000 deep too
        raise InputError(f"{path}: not JSON in UTF-8 ({error}); save it again as such") from None


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], *, digits: int | None = None) -> None:
    """Write rows as JSON Lines, atomically, in the order given."""
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(_plain(row, digits), ensure_ascii=False, allow_nan=False) + "\n")


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read JSON Lines; InputError names the file and the row that is not a JSON object."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a file in it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    return parse_rows(text, str(path))


def parse_rows(text: str, where: str) -> list[dict[str, Any]]:
    """Parse JSON Lines; InputError names `where` and the row that is not a JSON object."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits and a list 10,000 deep too
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"{where} row {number}: not JSON ({reason}); one JSON object a line") from None
        if not isinstance(row, dict):
            raise InputError(f"{where} row {number}: not a JSON object; one JSON object a line")
        rows.append(row)
    return rows
