"""What a study found: from the files of its runs to the content of reports/ablations/<name>.json."""

# Q queries, S seeds.

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.errors import InputError
from stillmotion.experiments.definition import Value
from stillmotion.experiments.plan import Collection, PlannedRun

COSTS = ("forward_flops", "backward_flops", "peak_memory_mib", "seconds_a_step")
"""Of a file of metrics/resources."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Collected:
    """What one run of a study gave."""

    run: PlannedRun
    rows: list[dict[str, Any]]
    """One for each seed."""
    cost: Mapping[str, float] | None
    """Of a training step, where it was measured."""


def validation_scores(history: Rows, collection: Collection, seeds: Sequence[int]) -> list[float]:
    """The best validation R@1 of each seed, in percent.

    Args:
        history: of the training, the file of `collection.validation_file`: a row an epoch.
        collection: fine-tuning has one seed; training the aggregators has all, and several numbers of clips.
        seeds: of the run.

    Raises:
        InputError: a seed was not scored, as where the dataset has no validation split.
    """
    num_clips = collection.collect.num_clips
    by_seed = defaultdict(list)
    for row in history:
        if "score" in row and row.get("num_clips", num_clips) == num_clips:
            by_seed[row.get("seed", seeds[0])].append(float(row["score"]))
    unscored = [str(seed) for seed in seeds if seed not in by_seed]
    if unscored:
        raise InputError(
            f"{collection.validation_file}: no validation score of seed {', '.join(unscored)}; "
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


def collected_rows(run: PlannedRun, collection: Collection, history: Rows, ranks: Rows) -> list[dict[str, Any]]:
    """A row for each seed of a run.

    Seeds of the aggregator below one fine-tuning are one row, its mean.
    """
    collect = collection.collect
    scores = validation_scores(history, collection, run.seeds)
    hits_SQ = hits_of_queries(ranks, collect.num_clips, k=collect.recall_at)
    if collect.validation == "finetune":
        hits_SQ = hits_SQ.mean(axis=0, keepdims=True)
    return [
        {
            "seed": seed,
            "validation_R@1": score,
            f"test_R@{collect.recall_at}": float(hits_Q.mean()),
            "test_hits": hits_Q.tolist(),
            "experiment": run.name,
        }
        for seed, score, hits_Q in zip(run.seeds, scores, hits_SQ, strict=True)
    ]


def study_result(collection: Collection, values: Sequence[Value], collected: Sequence[Collected]) -> dict[str, Any]:
    """The content of reports/ablations/<name>.json; a value of which nothing was collected has no runs."""
    collect = collection.collect
    points = []
    for value in values:
        own = [of for of in collected if of.run.value == value]
        point: dict[str, Any] = {"value": value, "runs": [row for of in own for row in of.rows]}
        costs = [of.cost for of in own if of.cost is not None]
        if costs:
            point["cost"] = {kind: float(np.mean([cost[kind] for cost in costs])) for kind in COSTS}
        points.append(point)
    return {
        "name": collection.study,
        "title": collect.title,
        "dataset": collected[0].run.dataset,
        "param": collection.key,
        "model": collection.model,
        "aggregator": collection.scorer,
        "num_clips": collect.num_clips,
        "recall_at": collect.recall_at,
        "points": points,
    }
