"""Nothing runs the benchmarks but `make bench`: here each is imported, so that no name it takes has gone."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
BENCHMARKS = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("__"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_finds_all_that_it_imports(name):
    assert importlib.import_module(f"benchmarks.{name}")
