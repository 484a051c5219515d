"""Packages import downwards only (DESIGN.md, rule 2): no circle, and no arrow back up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src"
LAYERS = (
    "errors",
    "printed",
    "lifeline",
    "config",
    "provenance",
    "stage",
    "io",
    "metrics",
    "video",
    "datasets",
    "backbones",
    "embedding",
    "retrieval",
    "training",
    "actions",
    "moments",
    "costs",
    "attention",
    "search",
    "serving",
    "claims",
    "report",
    "experiments",
    "export",
    "api",
    "mteb",
    "commands",
    "cli",
)
"""From the ground up; a package may import itself and what stands before it."""


def imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "stillmotion":
            names |= {f"stillmotion.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith("stillmotion.")}


def test_the_layers_are_the_packages():
    package = ROOT / "stillmotion"
    found = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_package_imports_downwards_only(layer):
    place = ROOT / "stillmotion" / layer
    sources = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    upwards = {
        f"{source.relative_to(ROOT)} imports {name}"
        for source in sources
        for name in imported(source)
        if LAYERS.index(name) > LAYERS.index(layer)
    }
    assert not upwards
