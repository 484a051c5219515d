"""What an ablation found: from the files of its experiments to the content of reports/ablations/<name>.json."""

# Q queries, S seeds.

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.errors import InputError
from stillmotion.experiments.definition import Ablation
from stillmotion.experiments.plan import Experiment

COSTS = ("forward_flops", "backward_flops", "peak_memory_mib", "seconds_a_step")
"""Of a file of metrics/resources."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Collected:
    """What one experiment gave."""

    experiment: Experiment
    runs: list[dict[str, Any]]
    """One for each seed."""
    cost: Mapping[str, float] | None
    """Of a training step, where it was measured."""


def validation_scores(history: Rows, ablation: Ablation, seeds: Sequence[int]) -> list[float]:
    """The best validation R@1 of each seed, in percent.

    Args:
        history: of the training, the file of `ablation.validation_file`: a row an epoch.
        ablation: fine-tuning has one seed; training the aggregators has all, and several numbers of clips.
        seeds: of the experiment.

    Raises:
        InputError: a seed was not scored, as where the dataset has no validation split.
    """
    by_seed = defaultdict(list)
    for row in history:
        if "score" in row and row.get("num_clips", ablation.num_clips) == ablation.num_clips:
            by_seed[row.get("seed", seeds[0])].append(float(row["score"]))
    unscored = [str(seed) for seed in seeds if seed not in by_seed]
    if unscored:
        raise InputError(
            f"{ablation.validation_file}: no validation score of seed {', '.join(unscored)}; "
            "the dataset needs captions in its validation split"
        )
    return [max(by_seed[seed]) for seed in seeds]


def hits_of_queries(ranks: Rows, num_clips: int, *, k: int) -> np.ndarray:
    """R@k of each test query in percent, (S, Q), from the rows of ranks.jsonl.

    A rank of k + 0.5, which two videos share, is no hit.
    """
    if not ranks:
        raise InputError("ranks.jsonl: no test query; the dataset needs captions in its test split")
    ranks_SQ = np.array([row["rank_by_num_clips"][str(num_clips)] for row in ranks]).T
    return 100.0 * (ranks_SQ <= k)


def experiment_runs(experiment: Experiment, ablation: Ablation, history: Rows, ranks: Rows) -> list[dict[str, Any]]:
    """A run for each seed of an experiment.

    Seeds of the aggregator below one fine-tuning are one run, its mean.
    """
    scores = validation_scores(history, ablation, experiment.seeds)
    hits_SQ = hits_of_queries(ranks, ablation.num_clips, k=ablation.recall_at)
    if ablation.validation == "finetune":
        hits_SQ = hits_SQ.mean(axis=0, keepdims=True)
    return [
        {
            "seed": seed,
            "validation_R@1": score,
            f"test_R@{ablation.recall_at}": float(hits_Q.mean()),
            "test_hits": hits_Q.tolist(),
            "experiment": experiment.name,
        }
        for seed, score, hits_Q in zip(experiment.seeds, scores, hits_SQ, strict=True)
    ]


def ablation_result(name: str, ablation: Ablation, dataset: str, collected: Sequence[Collected]) -> dict[str, Any]:
    """The content of reports/ablations/<name>.json; a value of which nothing was collected has no runs."""
    points = []
    for value, _ in ablation.points:
        own = [of for of in collected if of.experiment.value == value]
        point: dict[str, Any] = {"value": value, "runs": [run for of in own for run in of.runs]}
        costs = [of.cost for of in own if of.cost is not None]
        if costs:
            point["cost"] = {kind: float(np.mean([cost[kind] for cost in costs])) for kind in COSTS}
        points.append(point)
    return {
        "name": name,
        "title": ablation.title,
        "dataset": dataset,
        "param": ablation.param,
        "model": ablation.model,
        "aggregator": ablation.aggregator,
        "num_clips": ablation.num_clips,
        "recall_at": ablation.recall_at,
        "points": points,
    }
