"""What one run of the pipeline has measured, as the report looks at it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stillmotion.config.run import RunParams

Hits = Mapping[int, np.ndarray]
"""R@1 (or R@5) of each test query in percent, the mean over the seeds, by number of clips."""
Recall = Literal[1, 5]
"""The K of R@K."""
Rows = Sequence[Mapping[str, Any]]
"""Content of a JSON Lines file."""


RECOGNITION_RECIPE = "motions"
"""What the names of the recipes begin with that train to name labelled spans, and not to retrieve."""


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model and what it was made from."""

    model: str
    base: str
    recipe: str


@dataclass(frozen=True)
class Study:
    """What the search of a selection's thresholds left beside them."""

    trials: Rows
    """number, value and parameters of each."""
    sensitivity: Rows
    """`value` of the objective with `parameter` at `at`, the others at their best."""


@dataclass(frozen=True)
class Levels:
    """How well the test queries are aligned with their videos."""

    model: str
    """Whose cosines say so."""
    level_Q: np.ndarray
    """One of metrics.alignment_levels.LEVELS for each query, in the order of the hits; empty where there is nothing to
    rank, or that model has no frames by themselves."""


@dataclass(frozen=True)
class Asked:
    """A test query of retrieval."""

    text: str
    num_events: int
    """How many different events of its video the dataset tells of: the texts of captions of spans."""


@dataclass(frozen=True)
class Evidence:
    """The metrics, per-query results and ablations that there are."""

    dataset: str
    run: RunParams
    metrics: Mapping[str, Mapping[str, Any]]
    """Content of the metrics files by task (`retrieval`, `moments`, `assessment`, `actions`, `resources`,
    `architectures`) and system."""
    hits: Mapping[str, Hits]
    """R@1 by system of retrieval; empty where the dataset has nothing to rank."""
    hits_in_five: Mapping[str, Hits]
    """R@5, likewise."""
    asked: Sequence[Asked]
    """The test queries of retrieval, in the order of the hits."""
    first_shows: Mapping[str, Sequence[str]]
    """What the first video shows of each text, by system: one of first_videos.SHOWN; empty where that is not known."""
    levels: Levels
    queries: Mapping[str, Rows]
    """Rows of queries.jsonl by system of moment retrieval; empty where the dataset has no moments."""
    spans: Mapping[str, Rows]
    """Rows of spans.jsonl by probed model; empty where the test split has no actions."""
    studies: Mapping[str, Study]
    """By selection, as `<model>-<selection>`."""
    ablations: Mapping[str, Mapping[str, Any]]
    """Content of reports/ablations/<name>.json by name, of any dataset."""
    seed: int
    num_resamples: int

    @property
    def base_models(self) -> list[str]:
        """The models of retrieval that are embedded as they are."""
        return [model for model in self.run.models if model in self.run.embedded]

    @property
    def finetuned(self) -> list[FineTuned]:
        """The models of retrieval that a recipe has fine-tuned."""
        return [found for found in finetuned_models(self.run) if found.model in self.run.models]

    @property
    def retrieving_recipes(self) -> list[str]:
        """The recipes that train on captions: effects on retrieval are of the first one's models."""
        return [recipe for recipe in self.run.recipes if not recipe.startswith(RECOGNITION_RECIPE)]

    def ablation(self, name: str) -> Mapping[str, Any] | None:
        """The ablation of that name, where it is one of the active dataset."""
        found = self.ablations.get(name)
        return found if found is not None and found["dataset"] == self.dataset else None

    def hits_at(self, model: str, aggregator: str, num_clips: int, *, k: Recall = 1) -> np.ndarray | None:
        """R@k of each query by a model and an aggregator; None where that is not measured."""
        hits = self.hits if k == 1 else self.hits_in_five
        return hits.get(f"{model}-{aggregator}", {}).get(num_clips)

    def most_clips(self, model: str, aggregator: str) -> int:
        """The largest number of clips measured, 0 where there is none."""
        return max(self.hits.get(f"{model}-{aggregator}", {}), default=0)


def systems_of(run: RunParams) -> dict[str, list[str]]:
    """The systems that a run measures, by task, in the order of params.run."""
    return {
        "retrieval": [f"{model}-{aggregator}" for model in run.models for aggregator in run.aggregators]
        + [f"{model}-conditional" for model in run.conditional]
        + [f"{model}-{alignment}" for model in run.aligned for alignment in run.alignments]
        + [f"{model}-tight_transformer" for model in run.tight],
        "moments": [
            *selected_systems(run),
            *(f"{model}-{detector}" for model in run.selected for detector in run.shot_detectors),
            *run.references,
            *run.submissions,
        ],
        "assessment": list(run.assessed),
        "actions": list(run.probed),
        "resources": [*run.embedded, *(found.model for found in finetuned_models(run))],
        "architectures": list(run.architectures),
    }


def metrics_folder(task: str) -> str:
    """The folder of a task's metrics: what full-size architectures cost lies with the other costs."""
    return "resources" if task == "architectures" else task


def selected_systems(run: RunParams) -> list[str]:
    """The systems of moment retrieval that search their thresholds."""
    return [f"{model}-{selection}" for model in run.selected for selection in run.selections]


def finetuned_models(run: RunParams) -> list[FineTuned]:
    """Each fine-tuned model of a run, evaluated or not."""
    return [FineTuned(f"{base}-{recipe}", base, recipe) for base in run.finetuned for recipe in run.recipes]


def over_seeds(names: Iterable[str]) -> dict[str, list[str]]:
    """Systems or models whose recipes differ in the seed alone, together, by what a table calls them.

    Example:
        `clip-clips-mean` and `clip-clips_seed_1-mean` are `clip-clips-mean, 2 seeds`.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"_seed_\d+(?=-|$)", "", name), []).append(name)
    return {f"{shared}, {len(group)} seeds" if len(group) > 1 else group[0]: group for shared, group in groups.items()}


def hits_over_seeds(hits: Mapping[str, Hits]) -> dict[str, np.ndarray]:
    """R@K of each test query with the most clips, the mean over the seeds of a recipe; without what ranks nothing."""
    measured = {system: found[max(found)] for system, found in hits.items() if found}
    return {
        label: np.mean([measured[system] for system in group], axis=0) for label, group in over_seeds(measured).items()
    }


def hits_by_num_clips(rows: Sequence[Mapping[str, Any]], *, k: int = 1) -> dict[int, np.ndarray]:
    """R@k of each caption in percent by number of clips, the mean over the seeds, from the rows of ranks.jsonl."""
    counts = sorted({int(count) for row in rows for count in row["rank_by_num_clips"]})
    return {
        count: np.array([100 * np.mean(np.asarray(row["rank_by_num_clips"][str(count)]) <= k) for row in rows])
        for count in counts
    }
