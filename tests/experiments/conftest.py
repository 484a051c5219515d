"""Params of the kinds that experiments set, and experiments in memory and in files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillmotion.experiments import plan
from stillmotion.experiments.definition import Collect, Experiment, Layer, Vary

PARAMS: dict[str, Any] = {
    "dataset": "toy",
    "threads": 2,
    "run": {"backbones": ["clip"], "embedded": ["clip", "clip-mug"], "probed": []},
    "embed": {"clip_counts": [1, 2], "tokens": False},
    "backbones": {"clip": {"family": "builtin", "steps": 10}},
    "expanded": {},
    "post_pretrained": {},
    "finetuned": {"clip-mug": {"from": "clip", "recipe": "mug", "seed": 0}},
    "retrieval": {
        "clip-mean": {"model": "clip", "scorer": "mean"},
        "clip-mug-mean": {"model": "clip-mug", "scorer": "mean"},
        "clip-mug-transformer": {"model": "clip-mug", "scorer": "transformer"},
        "clip-mug-cosine": {"model": "clip-mug", "scorer": "cosine"},
    },
    "recipes": {"mug": {"batch_size": 64, "tau": 20.0, "frozen": 0}},
    "scorers": {
        "mean": {"kind": "mean"},
        "transformer": {"kind": "transformer_mean"},
        "cosine": {"kind": "interaction"},
    },
    "train_aggregator": {"batch_size": 64, "seeds": [0, 5]},
}
VARY = {"key": "recipes.mug.batch_size", "values": [32, 64]}
COLLECT = {
    "title": "Batch size",
    "system": "clip-mug-mean",
    "num_clips": 1,
    "recall_at": 1,
    "validation": "finetune",
    "cost": False,
}
OF_AGGREGATOR = {"system": "clip-mug-transformer", "validation": "train_aggregator"}


@pytest.fixture
def params() -> dict[str, Any]:
    """The content of a params.yaml, as far as experiments look at it."""
    return copy.deepcopy(PARAMS)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], str]]:
    """What is given to be checked as a whole params.yaml, which these params are not, and for what."""
    seen: list[tuple[dict[str, Any], str]] = []
    monkeypatch.setattr(plan, "check_params", lambda params, where: seen.append((params, where)))
    return seen


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """An experiment that sets these params."""

    def make(*settings: dict[str, Any], **fields: Any) -> Experiment:
        layers = tuple(Layer("experiments/e.yaml: set", each) for each in settings)
        return Experiment(
            **{"name": "e", "about": "", "vary": None, "seeds": (), "collect": None, **fields}, layers=layers
        )

    return make


@pytest.fixture
def make_study(make_experiment: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """A study of the batch size with two seeds, or of the aggregator; `vary` and `collect` are changes."""

    def make(
        *settings: dict[str, Any],
        of_aggregator: bool = False,
        vary: dict[str, Any] | None = None,
        collect: dict[str, Any] | None = None,
        seeds: tuple[int, ...] = (0, 1),
    ) -> Experiment:
        collected = {**COLLECT, **(OF_AGGREGATOR if of_aggregator else {}), **(collect or {})}
        return make_experiment(
            *settings,
            vary=Vary(**{**VARY, **(vary or {})}),
            collect=Collect(**collected),
            seeds=() if of_aggregator else seeds,
        )

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write experiments, by name, into a folder, and return that."""

    def write_files(**contents: str | bytes) -> Path:
        folder = tmp_path / "experiments"
        folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (folder / f"{name}.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write_files
