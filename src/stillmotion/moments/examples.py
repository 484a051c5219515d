"""Queries from the best to the worst, with all that a figure of them needs."""

# Q queries, T frames (padded), U = T - 1.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.moments.predictions import SelectedCurves


def example_places(num_queries: int, num_examples: int) -> list[tuple[int, str]]:
    """Ranks (from 0) spread evenly from the first to the last, each once, and what to call them.

    A rank is `best`, `worst`, `median` (the middle one; of two, the worse) or `k of n`, counted from 1.

    Example: 3 of 9: 0 `best`, 4 `median`, 8 `worst`.
    """
    if num_queries == 0:
        return []
    steps = num_examples - 1
    ranks = {0} if steps == 0 else {(2 * i * (num_queries - 1) + steps) // (2 * steps) for i in range(num_examples)}
    names = {num_queries // 2: "median", num_queries - 1: "worst", 0: "best"}
    return [(rank, names.get(rank, f"{rank + 1} of {num_queries}")) for rank in sorted(ranks)]


def example_rows(
    selected: SelectedCurves, rows: Sequence[Mapping[str, Any]], *, num_examples: int
) -> list[dict[str, Any]]:
    """Rows for the report: queries by falling IoU of the top window (then by qid), evenly spaced by rank.

    Args:
        selected: the queries with their curves.
        rows: `evaluation.Evaluation.rows` of the same queries.
        num_examples: how many.
    """
    curves, starts_QT = selected.queries.curves, selected.starts_QT
    order = sorted(range(len(rows)), key=lambda index: (-rows[index]["top1_iou"], rows[index]["qid"]))
    examples = []
    for rank, place in example_places(len(rows), num_examples):
        index = order[rank]
        row, num_frames = rows[index], int(curves.num_frames_Q[index])
        starts = [] if starts_QT is None else np.flatnonzero(starts_QT[index, :num_frames]).tolist()
        examples.append(
            {
                **{name: row[name] for name in ("qid", "query", "vid", "duration")},
                "place": place,
                "top1_iou": row["top1_iou"],
                "clip_length_s": curves.clip_length_s,
                "sc": curves.sc_QT[index, :num_frames].tolist(),
                "processed": selected.processed_QT[index, :num_frames].tolist(),
                "cfsc": curves.cfsc_QU[index, : num_frames - 1].tolist(),
                "cuts": [frame for frame in starts if frame > 0],
                "threshold": selected.threshold,
                "true_windows": row["true_windows"],
                "predicted_windows": row["predicted_windows"],
                "stored_frames": list(selected.stored_frames[row["vid"]]),
            }
        )
    return examples
