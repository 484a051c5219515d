"""A run and its evidence in memory, for the tests of the report."""

from collections.abc import Callable
from typing import Any

import pytest

from stillmotion.params import RunParams
from stillmotion.report.evidence import Evidence

TASKS = ("retrieval", "moments", "actions", "resources", "architectures")


def run_params(**changes: Any) -> RunParams:
    """One backbone, fine-tuned by one recipe."""
    plain: dict[str, Any] = {
        "backbones": ["clip"],
        "expanded": [],
        "expansions": [],
        "embedded": ["clip"],
        "finetuned": ["clip"],
        "recipes": ["half_patches"],
        "models": ["clip", "clip-half_patches"],
        "aggregators": ["mean", "transformer_mean", "class_token"],
        "conditional": [],
        "selections": ["vc1_none", "vc1_norm"],
        "architectures": [],
    }
    return RunParams(**{**plain, **changes})


@pytest.fixture
def make_run() -> Callable[..., RunParams]:
    return run_params


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    """Evidence with the metrics of the tasks that are named, and nothing of the others."""

    def make(*, dataset: str = "toy", run: RunParams | None = None, **found: Any) -> Evidence:
        return Evidence(
            dataset=dataset,
            run=run or run_params(),
            metrics={task: found.get(task, {}) for task in TASKS},
            hits=found.get("hits", {}),
            ablations=found.get("ablations", {}),
            seed=0,
            num_resamples=400,
        )

    return make
