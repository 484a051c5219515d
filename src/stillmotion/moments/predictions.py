"""Answers of a system to the queries of a split, and how they came about."""

# Q queries, T frames (padded).

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stillmotion.metrics.submission import Row
from stillmotion.moments.curves import Floats, Mask
from stillmotion.moments.queries import EmbeddedQueries

Kind = Literal["selection", "shots", "reference", "submission"]

NO_MODEL: Mapping[str, None] = dict.fromkeys(("model", "base", "expansion", "pretraining", "recipe", "seed"))
"""`system` of a metrics file, but for its scorer, where no model of this pipeline made the predictions."""


@dataclass(frozen=True, slots=True)
class SelectedCurves:
    """The curves behind a selection, which show how it came to its windows."""

    queries: EmbeddedQueries
    frames_QT: Mask
    """What was selected."""
    processed_QT: Floats
    """What the thresholds were compared with."""
    starts_QT: Mask | None
    """Frames at which a scene of VC2 starts; None for VC1."""
    threshold: float
    """λ."""
    stored_frames: Mapping[str, Sequence[int]]
    """Rows of each video's packed frames that stand for its clips."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """A system's answers to the queries of a split."""

    kind: Kind
    rows: Sequence[Row] | None
    """Of a submission, one for each query; None where there is no query, or nothing to answer with."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """How they came about, as far as this kind alone has it to say."""
    name: str = "predictions"
    """What an error calls the rows (the file)."""
    curves: SelectedCurves | None = None
    """Of a selection that has rows."""
