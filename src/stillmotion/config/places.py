"""Where a block of params stands, for whoever has to change it."""

import os
import re
from pathlib import Path


def file_of(section: str, name: str) -> str:
    """The file that sets a block such as backbones.clip: params.yaml, or that of the experiment that dvc is running.

    In an experiment's own folder dvc has written all settings into params.yaml, whose changes are lost.
    """
    running = os.environ.get("DVC_EXP_NAME", "")
    block = re.compile(rf"^\s+({re.escape(section)}\.)?{re.escape(name)}(\.\w+)*:", re.MULTILINE)
    files = sorted(Path("experiments").glob("*.yaml")) if running else []
    found = [path for path in files if block.search(path.read_text(encoding="utf-8", errors="replace"))]
    own = max((path for path in found if running.startswith(path.stem)), key=lambda path: len(path.stem), default=None)
    return " or ".join(path.as_posix() for path in ([own] if own else found)) or "params.yaml"


def how_to_set(block: str, param: str, value: str) -> str:
    """The words for whoever has to set a param of a block such as backbones.clip: the file, or the option."""
    section, name = block.split(".", 1)
    file = file_of(section, name)
    option = "" if file == "params.yaml" else f", or give --set {block}.{param}={value}"
    return f"set {block}.{param}: {value} in {file}{option}"
