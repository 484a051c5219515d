"""A submission file of another system, brought to the queries that this run scores.

It is in the official format of QVHighlights, lies in data/submissions/<dataset>/<name>.jsonl, and is scored where
`run.submissions` names it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillmotion.errors import InputError
from stillmotion.io.records import Moment, Video
from stillmotion.metrics.submission import Row, by_qid, check_kinds, predicted_windows, saliency_scores
from stillmotion.moments.predictions import Predictions
from stillmotion.moments.truth import GroundTruth

_log = logging.getLogger("stillmotion")


@dataclass(frozen=True, slots=True)
class Submitted:
    """The rows to score."""

    rows: list[Row]
    """One for each query: those of the file in its order, then empty ones for the missing."""
    missing_qids: list[int]
    """Queries without a row in the file, which are scored as empty lists."""
    num_ignored: int
    """Rows about test videos that could not be decoded, which nobody is scored on."""


def submitted_rows(
    rows: Sequence[Row], *, queries: Sequence[Moment], moments: Sequence[Moment], splits: Mapping[str, str], name: str
) -> Submitted:
    """Check a submission of the test split and fill its gaps.

    Args:
        rows: of the file.
        queries: the test queries that are scored.
        moments: all queries of the dataset.
        splits: split of each video.
        name: what an error calls the rows (the file).

    Raises:
        InputError: a qid is unknown, of another split or there twice, a row names another video than the
            dataset does, or has another form than the official one; names the row and the mend.
    """
    row_of_qid = by_qid(rows, name=name)
    predicted_windows(rows, name=name)  # all rows, in the order of the file, for the numbers in the errors
    has_saliency = saliency_scores(rows, name=name) is not None
    query_of_qid = {moment.qid: moment for moment in moments}
    check_kinds(row_of_qid, query_of_qid, name=name, known_name="the dataset")
    for number, row in enumerate(rows, start=1):
        query = query_of_qid.get(row["qid"])
        if query is None:
            raise InputError(f"{name} row {number}: qid {row['qid']!r} is no query of the dataset; remove the row")
        if splits[query.vid] != "test":
            split = splits[query.vid] or "no"
            raise InputError(
                f"{name} row {number}: qid {query.qid} is a query of the {split} split, and test is scored; "
                "remove the row"
            )
        if row.get("vid", query.vid) != query.vid:
            raise InputError(
                f"{name} row {number}: vid is {row['vid']!r}, but qid {query.qid} is about {query.vid!r}; mend one"
            )
    scored = {query.qid for query in queries}
    missing = [query.qid for query in queries if query.qid not in row_of_qid]
    empty: dict[str, Any] = {"pred_relevant_windows": []} | ({"pred_saliency_scores": []} if has_saliency else {})
    kept = [row for row in rows if row["qid"] in scored]
    filled = [{"qid": q.qid, "query": q.query, "vid": q.vid} | empty for q in queries if q.qid in set(missing)]
    return Submitted([*kept, *filled], missing, len(rows) - len(kept))


def submitted_predictions(
    rows: Sequence[Row], truth: GroundTruth | None, *, moments: Sequence[Moment], videos: Sequence[Video], name: str
) -> Predictions:
    """Predictions of a submission file; see `submitted_rows`.

    Args:
        rows: of the file.
        truth: None where the test split has no queries.
        moments: all queries of the dataset.
        videos: all videos of the dataset.
        name: what an error calls the rows (the file).
    """
    submitted = submitted_rows(
        rows,
        queries=[] if truth is None else truth.queries,
        moments=moments,
        splits={video.video_id: video.split for video in videos},
        name=name,
    )
    if submitted.missing_qids:
        _log.warning("%s: no row for %d of the test queries", name, len(submitted.missing_qids))
    protocol = {"missing_rows": submitted.missing_qids, "num_ignored_rows": submitted.num_ignored}
    return Predictions("submission", None if truth is None else submitted.rows, protocol, name)
