"""What one run of the pipeline has measured, as claims and pages look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stillmotion.claims.compare import Draws
from stillmotion.claims.studies import Study
from stillmotion.claims.systems import Params, Rows, select

CLASS_NAMES = "class_names"
"""The captions of a recipe that trains to name labelled spans, and not to retrieve."""


@dataclass(frozen=True)
class Search:
    """What the search of a selection's thresholds left beside them."""

    trials: Rows
    """number, value and parameters of each."""
    sensitivity: Rows
    """`value` of the objective with `parameter` at `at`, the others at their best."""


@dataclass(frozen=True)
class Coverage:
    """How much of its video each test caption speaks of."""

    model: str
    """Whose cosines say so."""
    group_Q: np.ndarray
    """One of metrics.caption_coverage.GROUPS for each query of retrieval, in their order; empty where there is nothing
    to rank, or that model has no frames by themselves."""


@dataclass(frozen=True)
class Query:
    """A test query of retrieval."""

    text: str
    num_events: int
    """How many different events of its video the dataset describes: the texts of captions of spans."""


@dataclass(frozen=True)
class Evidence:
    """The metrics, per-query results and studies that there are."""

    dataset: str
    systems: pd.DataFrame
    """Of systems.systems_frame."""
    values: pd.DataFrame
    """Of systems.values_frame."""
    recipe: str
    """Whose models effects on retrieval are of, others being variants of it; empty where none trains on captions."""
    architectures: Mapping[str, Mapping[str, Any]]
    """What full-size architectures cost, by name."""
    queries: Sequence[Query]
    """Of retrieval, in the order of the values."""
    first_shows: Mapping[str, Sequence[str]]
    """What the first video shows of each text, by system: one of first_videos.SHOWN; empty where that is not known."""
    coverage: Coverage
    windows: Mapping[str, Rows]
    """Rows of queries.jsonl by system of moment retrieval; empty where the dataset has no moments."""
    searches: Mapping[str, Search]
    """By selection system."""
    studies: Mapping[str, Study]
    """By name, of any dataset."""
    draws: Draws

    def metrics(self, task: str) -> dict[str, Mapping[str, Any]]:
        """Content of the metrics files of a task, by system."""
        own = select(self.systems, {"task": task})
        return dict(zip(own["key"], own["metrics"], strict=True))

    def of(self, measure: str) -> pd.DataFrame:
        """The values of one measure."""
        return select(self.values, {"measure": measure})

    def study(self, name: str) -> Study | None:
        """The study of that name, where it is one of the active dataset."""
        found = self.studies.get(name)
        return found if found is not None and found.dataset == self.dataset else None


def retrieval_recipe(params: Params) -> str:
    """The recipe of the first model that is fine-tuned on captions; empty where none is."""
    used = [record["recipe"] for record in params["finetuned"].values()]
    return next((recipe for recipe in used if params["recipes"][recipe]["captions"] != CLASS_NAMES), "")
