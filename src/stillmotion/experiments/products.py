"""The records of params.yaml in short: lists of products.

Under `set`, a section of records may be a list in place of a mapping. Each entry's lists are multiplied:

    finetuned:
      - {from: [small_clip, small_clip_stan], recipe: mug, seed: [0, 1]}
    retrieval:
      - {model: [small_clip, small_clip-mug-0], scorer: [cosine, mug]}

makes the four records `small_clip-mug-0`, `small_clip-mug-1`, `small_clip_stan-mug-0`, `small_clip_stan-mug-1`, and the
four systems `small_clip-cosine`, `small_clip-mug`, `small_clip-mug-0-cosine`, `small_clip-mug-0-mug`. A seed that is a
number and no list is left out of the key.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from stillmotion.errors import InputError
from stillmotion.experiments.definition import suggestion

FIELDS = {
    "expanded": ("from", "expansion"),
    "post_pretrained": ("from", "dataset", "recipe", "seed"),
    "finetuned": ("from", "recipe", "seed"),
    "retrieval": ("model", "scorer"),
}
"""The sections of records, and their fields in the order of the key."""
JOINTS = {"expanded": "_"}
"""What joins the values of a key, where it is no `-`."""


def spliced(value: Any) -> Any:
    """The value with each list in a list spliced into it, so that an anchor can stand for some of the names."""
    if isinstance(value, Mapping):
        return {key: spliced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [inner for item in value for inner in (spliced(item) if isinstance(item, list) else [spliced(item)])]
    return value


def records(section: str, value: Any, where: str) -> dict[str, Any]:
    """The records of a section by key, from a mapping of them or from a list of products.

    Raises:
        InputError: it is neither, an entry lacks a field or has an unknown or empty one, or two records get one key.
    """
    if isinstance(value, Mapping):
        return dict(spliced(value))
    if not isinstance(value, list):
        raise InputError(f"{where}: {section} is {value!r}; give records by key, or a list of products")
    made: dict[str, Any] = {}
    for place, entry in enumerate(value, start=1):
        for key, record in _product(section, entry, f"{where}: entry {place} of {section}"):
            if key in made:
                raise InputError(f"{where}: two records of {section} are called {key!r}; take one out")
            made[key] = record
    return made


def _product(section: str, entry: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    fields = FIELDS[section]
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is {entry!r}; give it {', '.join(fields)}")
    unknown = [str(name) for name in entry if name not in fields]
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]}; {suggestion(unknown[0], fields)}")
    missing = [name for name in fields if entry.get(name) in (None, [])]
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing; add it")
    choices = [spliced(entry[name]) if isinstance(entry[name], list) else [entry[name]] for name in fields]
    in_key = [name for name in fields if name != "seed" or isinstance(entry[name], list)]
    found = [dict(zip(fields, values, strict=True)) for values in itertools.product(*choices)]
    return [(JOINTS.get(section, "-").join(str(record[name]) for name in in_key), record) for record in found]
