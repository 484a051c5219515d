"""What a study has found: one setting varied, with several seeds for each value."""

# Q queries.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.claims.systems import STUDIES, Origin


@dataclass(frozen=True)
class Point:
    """One value of a study, over its seeds."""

    value: int | float | str
    """Of the param, or the name of a point that sets others."""
    validation: float
    """Mean R@1."""
    validation_std: float | None
    """Sample standard deviation over the seeds, None of one."""
    hits_Q: np.ndarray
    """Recall of each test query in percent: R@K of the study's `recall_at`."""
    num_seeds: int
    origin: Origin


@dataclass(frozen=True)
class Study:
    """The content of a reports/ablations/<name>.json."""

    name: str
    title: str
    dataset: str
    system: str
    """What was varied, as a key of params.retrieval."""
    recall_at: int
    points: tuple[Point, ...]
    """Those that have results."""

    @property
    def about(self) -> str:
        """What was varied, on which dataset, with how many seeds."""
        seeds = max((point.num_seeds for point in self.points), default=0)
        return f"{self.system} on {self.dataset}, {seeds} {'seed' if seeds == 1 else 'seeds'} a value"

    def at(self, value: int | float | str) -> Point | None:
        """The point of a value."""
        return next((point for point in self.points if point.value == value), None)

    def chosen(self) -> Point | None:
        """The best on validation, the first of equals; None without any."""
        return max(self.points, key=lambda point: point.validation, default=None)


def study_of(content: Mapping[str, Any]) -> Study:
    """The study of a file's content."""
    return Study(
        name=content["name"],
        title=content["title"],
        dataset=content["dataset"],
        system=f"{content['model']}-{content['aggregator']}",
        recall_at=content["recall_at"],
        points=tuple(_point(point, Origin(STUDIES, content["name"])) for point in content["points"] if point["runs"]),
    )


def _point(point: Mapping[str, Any], origin: Origin) -> Point:
    scores = [run["validation_R@1"] for run in point["runs"]]
    return Point(
        value=point["value"],
        validation=float(np.mean(scores)),
        validation_std=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        hits_Q=np.mean([run["test_hits"] for run in point["runs"]], axis=0),
        num_seeds=len(scores),
        origin=origin,
    )
