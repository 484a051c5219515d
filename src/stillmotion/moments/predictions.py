"""Selections as rows of a QVHighlights submission."""

# Q queries, T frames (padded), W windows (padded).

from collections.abc import Sequence
from typing import Any

from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.moments.curves import Curves, Floats
from stillmotion.moments.runs import Selection


def prediction_rows(
    queries: Sequence[Moment], curves: Curves, selection: Selection, saliency_QT: Floats
) -> list[dict[str, Any]]:
    """Rows `qid, query, vid, pred_relevant_windows, pred_saliency_scores` for the official evaluator.

    Args:
        queries: in the order of the batch.
        curves: lengths of the queries.
        selection: of VC1 or VC2; windows become [start, end, confidence], best first.
        saliency_QT: a score a frame, such as the post-processed similarity.

    Raises:
        InputError: there are more or fewer queries than selections.
    """
    if len(queries) != len(selection.num_windows_Q):
        raise InputError(f"{len(queries)} queries and {len(selection.num_windows_Q)} selections; give one each")
    rows = []
    for index, query in enumerate(queries):
        num_windows = selection.num_windows_Q[index]
        windows = selection.windows_QW2[index, :num_windows].tolist()
        confidences = selection.confidence_QW[index, :num_windows].tolist()
        rows.append(
            {
                "qid": query.qid,
                "query": query.query,
                "vid": query.vid,
                "pred_relevant_windows": [
                    [*window, confidence] for window, confidence in zip(windows, confidences, strict=True)
                ],
                "pred_saliency_scores": saliency_QT[index, : curves.num_frames_Q[index]].tolist(),
            }
        )
    return rows
