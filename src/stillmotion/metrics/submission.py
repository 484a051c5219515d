"""QVHighlights rows as padded arrays, checked: what the moment metrics compute on.

The rows are those of a submission (`qid, pred_relevant_windows, pred_saliency_scores`) and of its truth
(`qid, relevant_windows, relevant_clip_ids, saliency_scores, duration`).
"""

# Q queries, W windows a query (padded), T clips (padded), A annotators.

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.config.bounds import MAX_DURATION_S, MAX_SALIENCY_VALUES
from stillmotion.errors import InputError

Row = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of unequal number, padded with zeros."""

    spans_QW2: Floats
    """Start and end in seconds."""
    scores_QW: Floats
    """Confidence; zero for true windows."""
    valid_QW: NDArray[np.bool_]

    @property
    def num_Q(self) -> NDArray[np.int64]:  # noqa: N802
        return self.valid_QW.sum(axis=1)


@dataclass(frozen=True, slots=True)
class Saliency:
    """Predicted scores and ratings of the clips of the queries that somebody rated."""

    scores_QT: Floats
    """As predicted: cut to the clips there are, zero where a clip has no prediction."""
    top_clip_Q: NDArray[np.int64]
    """The first of the highest-scored clips before the cut; -1 where nothing is predicted."""
    ratings_QTA: Floats
    """0 to 4 by each annotator; clips outside the true windows are 0."""
    num_clips_Q: NDArray[np.int64]


def by_qid(rows: Sequence[Row], *, name: str) -> dict[Any, int]:
    """Index of the row of each qid.

    Raises:
        InputError: a row lacks a qid (an integer or a string), or two rows share one.
    """
    index: dict[Any, int] = {}
    for number, row in enumerate(rows):
        qid = row.get("qid") if isinstance(row, Mapping) else None
        if isinstance(qid, bool) or not isinstance(qid, int | str):
            raise InputError(f"{name} row {number + 1}: qid is {qid!r}; give it an integer or a string")
        if qid in index:
            raise InputError(
                f"{name} row {number + 1}: qid {qid} is also in row {index[qid] + 1}; give each query one row"
            )
        index[qid] = number
    return index


def check_kinds(row_of_qid: Mapping[Any, int], known: Collection[Any], *, name: str, known_name: str) -> None:
    """Raise InputError where a qid is text in one file and a number in the other: to JSON, "1" is not 1."""
    by_text = {str(qid): qid for qid in known}
    for qid, number in row_of_qid.items():
        other = by_text.get(str(qid), qid)
        if qid not in known and other != qid:
            kinds = ("text", "the number") if isinstance(qid, str) else ("a number", "the text")
            raise InputError(
                f"{name} row {number + 1}: qid {json.dumps(qid)} is {kinds[0]}, and {known_name} has {kinds[1]} "
                f"{json.dumps(other)}; write both alike"
            )


def _lists(rows: Sequence[Row], key: str, *, name: str) -> list[list[Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(key), list | tuple):
            raise InputError(f"{name} row {number}: {key} is missing or no list; give it a list")
    return [row[key] for row in rows]


def _numbers(values: list[Any]) -> Floats | None:
    """The values as floats, or None where one is no finite number (a string, a null, NaN, …)."""
    try:
        array = np.asarray(values)
    except ValueError:  # nested lists of unequal length
        return None
    if array.ndim != 1 or (len(values) and array.dtype.kind not in "iuf"):
        return None
    array = array.astype(np.float64)
    return array if np.isfinite(array).all() else None


def _window_mend(windows: list[Any], *, columns: int) -> str | None:
    """What is wrong with one row's windows, or None."""
    shape = "[start, end, score]" if columns == 3 else "[start, end]"
    for window in windows:
        if not isinstance(window, list | tuple) or len(window) != columns or _numbers(list(window)) is None:
            return f"window {window!r} is not {shape} in finite numbers"
        if window[1] < window[0]:
            return f"window {window!r} ends before it starts; swap the two"
    return None


def pad_windows(lists: Sequence[list[Any]], *, columns: int, name: str, key: str) -> Windows:
    """Windows of each row, `[start, end]` or `[start, end, score]` as `columns` says, as padded arrays.

    Raises:
        InputError: a window of another form, with a value that is no finite number, or whose end is before
            its start; names the row.
    """
    num_Q = np.array([len(windows) for windows in lists], dtype=np.int64)
    valid_QW = np.arange(max(num_Q.max(initial=0), 1)) < num_Q[:, None]
    windows_N = list(chain.from_iterable(lists))
    values_NC: Floats | None = None
    if all(isinstance(window, list | tuple) and len(window) == columns for window in windows_N):
        flat = _numbers(list(chain.from_iterable(windows_N)))
        values_NC = None if flat is None else flat.reshape(-1, columns)
    if values_NC is None or (values_NC[:, 1] < values_NC[:, 0]).any():
        for number, windows in enumerate(lists, start=1):
            if (mend := _window_mend(windows, columns=columns)) is not None:
                raise InputError(f"{name} row {number}: {key}: {mend}")
        raise InputError(f"{name}: {key}: windows of mixed types; give finite numbers")
    spans_QW2 = np.zeros((*valid_QW.shape, 2))
    spans_QW2[valid_QW] = values_NC[:, :2]
    scores_QW = np.zeros(valid_QW.shape)
    if columns == 3:
        scores_QW[valid_QW] = values_NC[:, 2]
    return Windows(spans_QW2, scores_QW, valid_QW)


def true_windows(truth: Sequence[Row], *, name: str = "ground truth") -> Windows:
    """The true windows of each row; every row needs at least one.

    Raises:
        InputError: names the row.
    """
    lists = _lists(truth, "relevant_windows", name=name)
    for number, windows in enumerate(lists, start=1):
        if not windows:
            raise InputError(f"{name} row {number}: relevant_windows is empty; a query needs a true window")
    return pad_windows(lists, columns=2, name=name, key="relevant_windows")


def predicted_windows(predictions: Sequence[Row], *, name: str = "predictions") -> Windows:
    """The predicted windows of each row in list order; a list may be empty."""
    lists = _lists(predictions, "pred_relevant_windows", name=name)
    return pad_windows(lists, columns=3, name=name, key="pred_relevant_windows")


def _ratings(row: Row, *, clip_length_s: float, where: str, num_rated: int) -> Floats:
    """Ratings (T, A) of all clips of one truth row."""
    duration, clips, ratings = row.get("duration"), row.get("relevant_clip_ids"), row["saliency_scores"]
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration <= MAX_DURATION_S:
        raise InputError(
            f"{where}: duration is {duration!r}; give the video's seconds, above 0 and at most {MAX_DURATION_S:,.0f}"
        )
    if not isinstance(clips, list | tuple) or len(clips) != len(ratings):
        raise InputError(f"{where}: relevant_clip_ids and saliency_scores differ in length; mend one")
    if not all(isinstance(clip, int) and 0 <= clip < duration / clip_length_s for clip in clips):
        raise InputError(f"{where}: relevant_clip_ids has a clip outside the {duration} s; mend it")
    try:
        values_NA = np.asarray(ratings)
    except ValueError:
        values_NA = np.empty(0)
    if values_NA.ndim != 2 or values_NA.dtype.kind not in "iuf" or not np.isfinite(values_NA).all():
        raise InputError(f"{where}: saliency_scores is not a list of annotators' numbers a clip; mend it")
    num_clips = max(int(duration / clip_length_s), max(clips) + 1)
    if num_clips * values_NA.shape[1] * num_rated > MAX_SALIENCY_VALUES:
        raise InputError(
            f"{where}: a duration of {duration} s makes more than {MAX_SALIENCY_VALUES:,} values of {num_rated} rows, "
            "which are as long as the longest; score it apart"
        )
    ratings_TA = np.zeros((num_clips, values_NA.shape[1]))
    ratings_TA[list(clips)] = values_NA
    return ratings_TA


def saliency_scores(predictions: Sequence[Row], *, name: str = "predictions") -> list[Floats] | None:
    """The predicted score of each clip, a row each; None where no row has `pred_saliency_scores`.

    Raises:
        InputError: only some rows have them, or a value is not a finite number; names the row.
    """
    has_scores = ["pred_saliency_scores" in row for row in predictions]
    if not any(has_scores):
        return None
    if not all(has_scores):
        raise InputError(
            f"{name} row {has_scores.index(False) + 1}: pred_saliency_scores is missing; give it to every row or "
            "to none"
        )
    scores: list[Floats] = []
    for number, row in enumerate(predictions, start=1):
        values = row["pred_saliency_scores"]
        array = _numbers(list(values)) if isinstance(values, list | tuple) else None
        if array is None:
            raise InputError(f"{name} row {number}: pred_saliency_scores is no list of finite numbers; mend it")
        scores.append(array)
    return scores


def saliency(
    predictions: Sequence[Row],
    truth: Sequence[Row],
    *,
    prediction_of_truth: Sequence[int],
    clip_length_s: float = 2.0,
    predictions_name: str = "predictions",
    truth_name: str = "ground truth",
) -> Saliency | None:
    """Scores and ratings of the rated queries, in the order of the truth rows.

    Args:
        predictions: submission rows.
        truth: truth rows.
        prediction_of_truth: index of the prediction row of each truth row.
        clip_length_s: seconds a saliency value stands for.
        predictions_name: what an error calls the predictions.
        truth_name: what an error calls the truth.

    Returns:
        None where nobody rated (every `saliency_scores` empty or missing) or nothing is predicted (no row has
        `pred_saliency_scores`).

    Raises:
        InputError: only some predictions have `pred_saliency_scores`, or a value is not a finite number, or
            the ratings do not fit the clips; names the row.
    """
    rated = [number for number, row in enumerate(truth) if row.get("saliency_scores")]
    scores = saliency_scores(predictions, name=predictions_name) if rated else None
    if scores is None:
        return None
    ratings = [
        _ratings(
            truth[number], clip_length_s=clip_length_s, where=f"{truth_name} row {number + 1}", num_rated=len(rated)
        )
        for number in rated
    ]
    num_annotators = ratings[0].shape[1]
    num_clips_Q = np.array([len(rating) for rating in ratings])
    scores_QT = np.zeros((len(rated), num_clips_Q.max()))
    ratings_QTA = np.zeros((*scores_QT.shape, num_annotators))
    top_clip_Q = np.full(len(rated), -1)
    for place, (number, rating) in enumerate(zip(rated, ratings, strict=True)):
        if rating.shape[1] != num_annotators:
            raise InputError(
                f"{truth_name} row {number + 1}: saliency_scores has {rating.shape[1]} annotators, row "
                f"{rated[0] + 1} has {num_annotators}; give every row the same number"
            )
        predicted = scores[prediction_of_truth[number]]
        num_shared = min(len(predicted), len(rating))
        scores_QT[place, :num_shared] = predicted[:num_shared]
        ratings_QTA[place, : len(rating)] = rating
        if len(predicted):
            top_clip_Q[place] = np.argmax(predicted)
    return Saliency(scores_QT, top_clip_Q, ratings_QTA, num_clips_Q)
