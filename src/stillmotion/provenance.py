"""Which first-party code a script runs, and a digest of each module of it, read without running anything.

Stage `code` writes these digests for each script, and each stage depends on its own (DESIGN.md, rule 6); the memo keys
finished work by them. A digest is of the syntax tree without comments and docstrings: what can't change a number
re-runs nothing.
"""

import ast
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

from stillmotion.errors import InputError

SOURCE_ROOT = Path(__file__).resolve().parents[1]

INFRASTRUCTURE = frozenset({"errors", "io", "provenance", "stage"})
"""Modules and packages that decide no number, though the bytes that it is written in: the memo goes without them."""

_NOT_OF_EVERY_VERSION = frozenset({"kind", "type_comment", "type_ignores", "type_params"})
"""Fields of the syntax tree that some versions of Python have, and that say nothing here."""


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _imported_names(text: str) -> set[str]:
    """The modules of `stillmotion` that some source imports, or names in a string that is nothing else."""
    names: set[str] = set()
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isascii():
            names.add(node.value)
    return {name for name in names if name.split(".")[0] == "stillmotion" and "/" not in name}


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
        for name in _imported_names(source.read_text(encoding="utf-8")):
            module = root.joinpath(*name.split(".")).with_suffix(".py")
            if module.is_file():
                waiting.append(module)
    return sorted(found)


def _says_nothing(node: ast.AST) -> bool:
    """Whether a statement is a string by itself: a docstring, or what stands below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _canonical(value: Any) -> str:
    """A syntax tree as text that is the same in every version of Python: nothing empty, no places, no docstrings."""
    if isinstance(value, list):
        return f"[{' '.join(_canonical(item) for item in value if not _says_nothing(item))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = [
        f"{name}={_canonical(field)}"
        for name, field in sorted(ast.iter_fields(value))
        if name not in _NOT_OF_EVERY_VERSION and field != [] and (field is not None or name == "value")
    ]
    return f"{type(value).__name__}({' '.join(fields)})"


@cache
def _digest(text: str) -> str:
    return hashlib.sha256(_canonical(_parsed(text)).encode()).hexdigest()


def module_digests(source: str | Path) -> dict[str, str]:
    """SHA-256 of each first-party module that a script or module runs, itself included, by its path below src/.

    The models of params.yaml are left out, as the values that they hold are params; what caps the instructions is not.
    """
    digests = {}
    for module in first_party_sources(Path(source), SOURCE_ROOT):
        place = module.relative_to(SOURCE_ROOT).as_posix() if module.is_relative_to(SOURCE_ROOT) else module.name
        if not place.startswith("stillmotion/config/") or place == "stillmotion/config/processor.py":
            digests[place] = _digest(module.read_text(encoding="utf-8"))
    return digests


def code_version(source_file: str | Path) -> str:
    """SHA-256 over the first-party code that decides the numbers that a script or module makes."""
    digests = module_digests(source_file).items()
    deciding = [item for item in digests if not INFRASTRUCTURE.intersection(Path(item[0]).with_suffix("").parts[1:2])]
    return hashlib.sha256(repr(sorted(deciding)).encode()).hexdigest()


def refuse_edited(script: Path, stated: Path, since_s: float) -> None:
    """Hold what a stage is about to run to what stage `code` saw: dvc and its run cache have it for that, for good.

    Args:
        script: of the stage.
        stated: its file of digests.
        since_s: when dvc was started, in seconds since 1970: what is older was seen by stage `code`.

    Raises:
        InputError: a module has been edited meanwhile.
    """
    lines = (line.partition("  ") for line in stated.read_text(encoding="utf-8").splitlines())
    seen = {place: digest for digest, _, place in lines}
    if not any(_changed_s(SOURCE_ROOT / place) > since_s for place in seen):
        return
    differing = [SOURCE_ROOT / place for place, _ in seen.items() ^ module_digests(script).items()]
    if differing:
        latest = max(differing, key=_changed_s)
        raise InputError(
            f"{latest.relative_to(SOURCE_ROOT.parent)}: was edited after dvc began, which would take what it makes for "
            "what the code before it makes; run dvc repro again"
        )


def _changed_s(file: Path) -> float:
    return file.stat().st_ctime if file.is_file() else math.inf
