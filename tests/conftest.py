"""Fixtures that every test may use."""

import stillmotion.config.capped  # noqa: F401 - before all others

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# A machine that is busy with something else is no counterexample.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real_material() -> Path:
    """Files from public repositories that stand beside the checkout; see its README.md."""
    if not REAL_MATERIAL.is_dir():
        pytest.skip(f"no real material: {REAL_MATERIAL} does not exist")
    return REAL_MATERIAL


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """A stage that ran in this process flushes denormal numbers from then on, which hypothesis refuses to work with."""
    yield
    torch.set_flush_denormal(False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `real` where the real material is not there."""
    if not REAL_MATERIAL.is_dir():
        reason = f"no real material: {REAL_MATERIAL} does not exist"
        for item in items:
            if "real" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
