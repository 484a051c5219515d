"""Definitions of ablations in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from stillmotion.experiments.definition import Ablation

PLAIN: dict[str, Any] = {
    "title": "Batch size",
    "param": "recipes.half_patches.batch_size",
    "values": [32, 64],
    "others": {},
    "seed_param": "recipes.half_patches.seed",
    "seeds": [0, 1],
    "settings": {},
    "model": "small_clip-half_patches",
    "evaluation": "evaluate_retrieval",
    "aggregator": "mean",
    "num_clips": 1,
    "recall_at": 1,
    "validation": "finetune",
    "cost": False,
}
OF_AGGREGATOR = {
    "param": "train_aggregator.batch_size",
    "seed_param": "train_aggregator.seeds",
    "aggregator": "transformer_mean",
    "validation": "train_aggregator",
}


@pytest.fixture
def plain() -> dict[str, Any]:
    """The fields of a definition, as ablations.yaml has them."""
    return dict(PLAIN)


@pytest.fixture
def make_ablation() -> Callable[..., Ablation]:
    """An ablation of the batch size of fine-tuning, with changes; of the aggregator where `of_aggregator`."""

    def make(*, of_aggregator: bool = False, **changes: Any) -> Ablation:
        return Ablation(**{**PLAIN, **(OF_AGGREGATOR if of_aggregator else {}), **changes})

    return make
