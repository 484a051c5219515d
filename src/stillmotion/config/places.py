"""Where a block of params stands, for whoever has to change it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillmotion.config.yaml_files import read_yaml

PARAMS = Path("params.yaml")


def file_of(block: str) -> str:
    """The file that sets a block such as backbones.clip: params.yaml, or that of the experiment whose params these are.

    In an experiment's own folder dvc has written all settings into params.yaml, whose changes are lost.
    """
    params = read_yaml(PARAMS) if PARAMS.is_file() else None
    run = params.get("run") if isinstance(params, dict) else None  # another project's file may hold anything
    name = run.get("experiment") if isinstance(run, dict) else None
    while name and (path := Path("experiments") / f"{name}.yaml").is_file():
        experiment = read_yaml(path)
        if block in _dotted(experiment.get("set", {}), ""):
            return path.as_posix()
        name = experiment.get("base")
    return PARAMS.as_posix()


def _dotted(settings: Mapping[str, Any], above: str) -> Iterator[str]:
    """The dotted name of each section and param that is set, however it is written."""
    for key, value in settings.items():
        *sections, last = f"{above}{key}".split(".")
        yield from (".".join(sections[:depth]) for depth in range(1, len(sections) + 1))
        yield ".".join([*sections, last])
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{key}.")


def how_to_set(block: str, param: str, value: str) -> str:
    """The words for whoever has to set a param of a block such as backbones.clip: the file, or the option."""
    file = file_of(block)
    option = "" if file == PARAMS.as_posix() else f", or give --set {block}.{param}={value}"
    return f"set {block}.{param}: {value} in {file}{option}"
