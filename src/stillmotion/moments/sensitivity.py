"""Sensitivity of the objective of a selection to each parameter alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stillmotion.moments.objective import Range


def sensitivity(
    objective: Callable[[Mapping[str, Any]], float],
    ranges: Mapping[str, Range],
    best: Mapping[str, float | int],
    *,
    num_points: int,
) -> list[dict[str, Any]]:
    """Rows `parameter, at, value`: the objective with one parameter at `at` and the others at their best.

    Sorted by parameter, then by `at`. The best value of each parameter is among its rows.

    Args:
        objective: of all parameters.
        ranges: what each parameter ranges over.
        best: the best value of each.
        num_points: values spread evenly over a range, its ends among them; of whole numbers all are taken.
    """
    return [
        {"parameter": name, "at": at, "value": objective({**best, name: at})}
        for name in sorted(ranges)
        for at in sorted({*_spread(ranges[name], num_points), best[name]})
    ]


def _spread(values: Range, num_points: int) -> list[float] | list[int]:
    if values.step is not None:
        return list(range(int(values.low), int(values.high) + 1, values.step))
    return np.linspace(values.low, values.high, num_points).tolist()
