"""YAML files that people write: read with YAML 1.2, and within bounds, as anything may stand in them."""

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
        data = ruamel.yaml.YAML(typ="safe", pure=True).load(content.decode("utf-8-sig"))
        _expanded_size(data, {}, set())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this from the root of the repository") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; a file of params has to stand there") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except ruamel.yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); mend that line") from None
    except RecursionError:
        raise InputError(f"{path}: nested more than {MAX_DEPTH} deep; take brackets out") from None
    except _TooManyValuesError:
        raise InputError(f"{path}: its aliases stand for more than {MAX_VALUES:,} values; write less of them") from None
    except InputError:
        raise
    except ValueError as error:  # a number of 5,000 digits
        raise InputError(f"{path}: a value can't be read ({error}); mend it") from None
    return data


class _TooManyValuesError(Exception):
    pass


def _expanded_size(value: Any, known: dict[int, int], open_ones: set[int]) -> int:
    """How many values there are where an alias counts for all that it names; each is looked at once."""
    if not isinstance(value, dict | list):
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
