"""What an experiment sets: onto the params, and as `dvc exp run --set-param` takes it."""

import copy
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stillmotion.config.yaml_files import parse_yaml
from stillmotion.errors import InputError
from stillmotion.experiments.definition import Experiment, Layer, suggestion
from stillmotion.experiments.products import FIELDS, records, spliced

_WORD = re.compile(r"[A-Za-z_][\w.-]*")
_PLACE = re.compile(r' in "<unicode string>", line \d+, column \d+:.*?\^ \(line: \d+\)')
"""Of a fault in a YAML text, which is no line of a file here."""
_NO_WORDS = ("true", "false", "null", "nan", "inf")


def resolve(experiment: Experiment, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the experiment and its bases set, onto the content of params.yaml; as it is before anything varies.

    Raises:
        InputError: params.yaml has no such param, or a list of products is wrong; one line that names the file.
    """
    return with_layers(params, experiment.layers)


def with_layers(params: Mapping[str, Any], layers: Iterable[Layer]) -> dict[str, Any]:
    """The params with these settings, one layer upon the other.

    A mapping is merged into the one that stands there, and may add a block to a section of blocks, such as `recipes`. A
    section of records is replaced as a whole, as is everything else.
    """
    found = copy.deepcopy(dict(params))
    for layer in layers:
        _set(found, layer.settings, [], layer.where)
    return found


def _set(block: dict[str, Any], settings: Mapping[str, Any], path: Sequence[str], where: str) -> None:
    for key, value in settings.items():
        sections = [key] if key in block else str(key).split(".")
        target = block
        for place, section in enumerate(sections[:-1]):
            target = _section(target, section, [*path, *sections[:place]], where)
        last = sections[-1]
        dotted = ".".join([*path, *sections])
        adds = isinstance(value, Mapping) and all(isinstance(other, dict) for other in target.values())
        if last not in target and not adds:
            raise InputError(f"{where}: params.yaml has no {dotted}; {suggestion(last, target)}")
        if dotted in FIELDS:
            target[last] = records(dotted, value, where)
        elif isinstance(value, Mapping) and isinstance(target.get(last), dict):
            _set(target[last], value, [*path, *sections], where)
        else:
            target[last] = spliced(value)


def _section(block: dict[str, Any], section: str, path: Sequence[str], where: str) -> dict[str, Any]:
    dotted = ".".join([*path, section])
    if section not in block:
        raise InputError(f"{where}: params.yaml has no {dotted}; {suggestion(section, block)}")
    if not isinstance(block[section], dict):
        raise InputError(f"{where}: {dotted} of params.yaml is a value, no section; name a param")
    return block[section]


def layer_of_options(options: Sequence[str], short: Mapping[str, Sequence[str]]) -> Layer:
    """What `--set key=value` options set; the values are YAML, those of an experiment's own options words.

    Args:
        options: as they were written.
        short: the experiment's own options, and the params that each sets: `model=a:b` sets two of them.

    Raises:
        InputError: an option is no key and value, or not YAML.
    """
    settings: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not (key and equals):
            raise InputError(f"--set {option!r}: write it as key=value, such as threads=1")
        if key in short:
            words = text.split(":", len(short[key]) - 1)
            if len(words) < len(short[key]) or not all(words):
                names = ":".join(param.rpartition(".")[2].upper() for param in short[key])
                raise InputError(f"--set {option!r}: write it as {key}={names}")
            settings |= zip(short[key], words, strict=True)
            continue
        try:
            settings[key] = parse_yaml(text, f"--set {option!r}")
        except InputError as error:
            reason = _PLACE.sub("", str(error).rpartition(";")[0])
            quoted = shlex.quote(f"{key}={json.dumps(text, ensure_ascii=False)}")
            raise InputError(f"{reason}; mend it, or as a text: --set {quoted}") from None
    return Layer("--set", settings)


def overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What `dvc exp run --set-param` needs to make the params `after` of those before.

    Where keys have gone, the section is deleted (`~name`) and added again: dvc merges mappings.
    """
    return list(_differences(before, after, []))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], path: Sequence[str]) -> Iterator[str]:
    for key, value in after.items():
        dotted = ".".join([*path, key])
        old = before.get(key)
        if key not in before:
            yield f"+{dotted}={_literal(value)}"
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            # A key with a dot in it can't be addressed, only written.
            if old.keys() <= value.keys() and not any("." in name for name in value):
                yield from _differences(old, value, [*path, key])
            elif _literal(old) != _literal(value):
                yield f"~{dotted}"
                yield f"+{dotted}={_literal(value)}"
        # The literals tell 1 from 1.0 and from true, which are equal.
        elif _literal(old) != _literal(value):
            yield f"{dotted}={_literal(value)}"


def _literal(value: Any) -> str:
    """A value in Hydra's override grammar: `true`, `1e-05`, `[a,b]`, `{a:b}`; quoted is what it would misread."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(_literal(item) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, str) and (not _WORD.fullmatch(value) or value.lower() in _NO_WORDS):
        # Backslashes before a quote, the last one too, count as half as many.
        return "'" + re.sub(r"(\\*)'", r"\1\1\\'", value) + "\\" * (len(value) - len(value.rstrip("\\"))) + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)
