"""What a system made of each query, from the rows of its predictions."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.errors import InputError
from stillmotion.io.predictions import TaskName
from stillmotion.metrics.comparison import Answers, Query

_KEYS: dict[TaskName, tuple[str, str, str]] = {
    "retrieval": ("caption_id", "video_id", "text"),
    "moments": ("qid", "vid", "query"),
}
"""Of what identifies a query, in the order of `Query`."""
_MEND = "make the file again with dvc repro"


def answers_of_rows(rows: Sequence[Mapping[str, Any]], task: TaskName, where: str) -> Answers:
    """The queries and their outcomes.

    Args:
        rows: of ranks.jsonl (retrieval) or queries.jsonl (moments).
        task: of the system.
        where: what an error calls the file.

    Raises:
        InputError: names the first row (from 1) that lacks something.
    """
    keys = _KEYS[task]
    queries: list[Query] = []
    outcomes: list[list[float]] = []
    for number, row in enumerate(rows, start=1):
        missing = [key for key in keys if not isinstance(row.get(key), str | int)]
        if missing:
            raise InputError(f"{where} row {number}: no {missing[0]}; {_MEND}")
        queries.append(Query(*(str(row[key]) for key in keys)))
        outcomes.append(_outcomes(row, task, f"{where} row {number}"))
        if len(outcomes[-1]) != len(outcomes[0]):
            raise InputError(f"{where} row {number}: {len(outcomes[-1])} ranks, row 1 has {len(outcomes[0])}; {_MEND}")
    return Answers(queries, np.array(outcomes, dtype=np.float64))


def _outcomes(row: Mapping[str, Any], task: TaskName, where: str) -> list[float]:
    """The ranks by seed, or the one IoU."""
    if task == "retrieval":
        key, values, low, high = "rank", row.get("rank"), 1.0, sys.float_info.max
    else:
        key, values, low, high = "top1_iou", [row.get("top1_iou")], 0.0, 1.0
    if (
        isinstance(values, list)
        and values
        and all(isinstance(value, int | float) and low <= value <= high for value in values)
    ):
        return values
    raise InputError(f"{where}: {key} is {str(row.get(key))[:40]}; {_MEND}")
