"""JSON that a stage of ours wrote and another reads by key: what is cut, missing or of another kind is one line.

A form is a class for pydantic, which says what is read, not all that stands there; a key with a default may be missing.
The content comes back as it is: a number that goes on into another file keeps its spelling.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from stillmotion.errors import InputError

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
"""Of a form: no number is read from a text."""
MEND = "make it anew with `dvc repro`"


class Told(dict[str, Any]):
    """The keys of a file, of which some may be missing: that one is asked for is told with the mend."""

    def __init__(self, path: Path, content: dict[str, Any]):
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self.path}: {key} is missing; {MEND}")


def read_checked(path: Path, form: Any) -> Any:
    """Read a JSON file of a form.

    Raises:
        InputError: it is not there, or not of the form; names the file, the key and the mend.
    """
    return _checked(_read(path), form, str(path))


def read_checked_rows(path: Path, form: Any) -> list[Any]:
    """Read JSON Lines, each of a form.

    Raises:
        InputError: as `read_checked`; names the row too.
    """
    lines = enumerate(_read(path).split(b"\n"), start=1)
    return [_checked(line, form, f"{path} row {number}") for number, line in lines if line.strip()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `dvc repro`") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); {MEND}") from None


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def _checked(text: bytes, form: Any, where: str) -> Any:
    try:
        _adapter(form).validate_json(text)
        return json.loads(text)
    except ValidationError as error:
        raise refusal(error, where) from None


def refusal(error: ValidationError, where: str) -> InputError:
    """The first fault of what is not of its form, with its key and the mend."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        fault = f"cut, or no JSON ({first['ctx']['error']})"
    elif first["type"] == "missing":
        fault = f"{key} is missing"
    elif first["type"] == "value_error":
        fault = str(first["ctx"]["error"])
    else:
        fault = f"{key or 'it'} is {repr(first['input'])[:60]}: {first['msg']}"
    return InputError(f"{where}: {fault}; {MEND}")
