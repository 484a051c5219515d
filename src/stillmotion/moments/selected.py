"""Predictions of VC1 and VC2 with the thresholds that a search has chosen."""

# Q queries, T frames (padded), W windows (padded).

from collections.abc import Mapping, Sequence
from typing import Any

from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.moments.curves import Curves, Floats
from stillmotion.moments.frame_runs import Selection
from stillmotion.moments.postprocess import postprocess
from stillmotion.moments.predictions import Predictions, SelectedCurves
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.selection import scene_starts, select


def selection_rows(
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


def selection_predictions(
    queries: EmbeddedQueries | None,
    thresholds: Mapping[str, Any] | None,
    stored_frames: Mapping[str, Sequence[int]],
) -> Predictions:
    """Windows that a method selects on the queries' curves.

    Args:
        queries: None where the split has none.
        thresholds: `threshold_search.Study.summary`; None where there was nothing to search on.
        stored_frames: rows of each video's packed frames that stand for its clips.
    """
    protocol = {"selected_on": "train", "thresholds": thresholds}
    if queries is None or thresholds is None:
        return Predictions("selection", None, protocol)
    curves, parameters = queries.curves, thresholds["parameters"]
    processed = postprocess(
        curves.sc_QT,
        curves.num_frames_Q,
        method=thresholds["post_processing"],
        window=parameters.get("window"),
        frozen_range=thresholds["frozen_range"],
        least_cosine=thresholds["least_cosine"],
    )
    selection = select(curves, processed.sc_QT, thresholds["method"], parameters)
    counts = {"num_fallback": int(selection.fallback_Q.sum()), "num_clipped_cosines": processed.num_clipped}
    return Predictions(
        "selection",
        selection_rows(queries.queries, curves, selection, processed.sc_QT),
        protocol | counts,
        curves=SelectedCurves(
            queries,
            selection.frames_QT,
            processed.sc_QT,
            scene_starts(curves, change=parameters["change"]) if thresholds["method"] == "vc2" else None,
            parameters["threshold"],
            stored_frames,
        ),
    )
