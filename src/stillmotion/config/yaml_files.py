"""YAML that people write: read as YAML 1.2, and within bounds, as anything may stand in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ruamel.yaml

from stillmotion.errors import InputError

MAX_BYTES = 2**20
"""Params of 320 lines take 7 KB: a file that is a hundred times as long is none that somebody wrote."""
MAX_VALUES = 100_000
"""Values after each alias stands for what it names: a bomb of 10 aliases in 9 levels has a billion."""
MAX_DEPTH = 100
"""Brackets and blocks within one another; params have six."""
MAX_INTEGER = 2**63 - 1
"""What numpy and torch hold."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: the file is missing, not UTF-8, not YAML or out of bounds; one line that names it and the mend.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: longer than {MAX_BYTES // 1024} KiB; it shall hold params alone")
        return parse_yaml(content.decode("utf-8-sig"), path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; run this from the root of the repository") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; a file of params has to stand there") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def parse_yaml(text: str, where: object) -> Any:
    """The content of a YAML text; InputError as `read_yaml`, whose line begins with `where`."""
    try:
        data = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
        _expanded_size(data, {}, set())
    except ruamel.yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML ({' '.join(str(error).split())}); mend that line") from None
    except RecursionError:
        raise InputError(f"{where}: nested more than {MAX_DEPTH} deep; take brackets out") from None
    except _TooManyValuesError:
        raise InputError(
            f"{where}: its aliases stand for more than {MAX_VALUES:,} values; write less of them"
        ) from None
    except Exception as error:  # a tag or a number that is none makes ruamel raise half a dozen kinds
        raise InputError(f"{where}: a value can't be read ({' '.join(str(error).split())}); mend it") from None
    return data


class _TooManyValuesError(Exception):
    pass


def _expanded_size(value: Any, known: dict[int, int], open_ones: set[int]) -> int:
    """How many values there are where an alias counts for all that it names; each is looked at once."""
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError(f"a whole number of {value.bit_length()} bits, and the most is {MAX_INTEGER}")
    if not isinstance(value, dict | list):
        if not isinstance(value, str | int | float | None):
            raise ValueError(f"{value} is a {type(value).__name__} to YAML; quote it")
        return 1
    place = id(value)
    if place in known:
        return known[place]
    if place in open_ones or len(open_ones) >= MAX_DEPTH:
        raise RecursionError
    open_ones.add(place)
    inner: Iterable[Any] = value if isinstance(value, list) else [*value.keys(), *value.values()]
    size = 1 + sum(_expanded_size(one, known, open_ones) for one in inner)
    open_ones.remove(place)
    if size > MAX_VALUES:
        raise _TooManyValuesError
    known[place] = size
    return size
