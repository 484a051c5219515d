"""Which first-party source a script runs, read from its syntax tree without running it.

The memo keys work by the digest of that source, and a test holds dvc.yaml's declared code to it.
"""

import ast
import hashlib
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[1]

INFRASTRUCTURE = frozenset({"config", "errors", "io", "provenance", "stage"})
"""Modules and folders of the package that decide no number: values of params are part of the keys instead."""


def _imported_names(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"), str(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "stillmotion"}


def first_party_sources(script: Path, root: Path = SOURCE_ROOT) -> list[Path]:
    """The script and the modules of `stillmotion` that it imports, directly or not, sorted.

    Args:
        script: a Python file.
        root: the folder that holds the package.

    Returns:
        Paths without the empty `__init__.py` files.
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        source = waiting.pop()
        if source in found:
            continue
        found.add(source)
        for name in _imported_names(source):
            module = root.joinpath(*name.split(".")).with_suffix(".py")
            if module.is_file():
                waiting.append(module)
    return sorted(found)


def code_version(source_file: str | Path) -> str:
    """SHA-256 over the first-party source that decides the numbers that a script or module makes."""
    digest = hashlib.sha256()
    for source in first_party_sources(Path(source_file)):
        if source.is_relative_to(SOURCE_ROOT / "stillmotion"):
            place = source.relative_to(SOURCE_ROOT / "stillmotion")
            if place.with_suffix("").parts[0] in INFRASTRUCTURE:
                continue
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()
