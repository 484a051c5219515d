"""Shots as moments: the training-free baseline that ranks each shot by its similarity with the query.

A shot is what PySceneDetect finds in the pixels (shot_detection.py), so the windows know nothing of the query and
the scores nothing of the shots. The baseline that VClipper's methods should beat.
"""

# Q queries, T frames (padded).

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from stillmotion.errors import InputError
from stillmotion.io.checked import STRICT, read_checked, read_checked_rows
from stillmotion.metrics.moments import MAX_WINDOWS
from stillmotion.moments.curves import Floats
from stillmotion.moments.predictions import Predictions
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.truth import GroundTruth

Shots = Sequence[Sequence[float]]
"""[start, end] in seconds, in order, without gaps."""


class _Row(BaseModel):
    model_config = STRICT

    video_id: str
    shots: list[tuple[float, float]]
    reason: str | None


def read_shots(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of shots.jsonl, and the content of detector.json.

    Raises:
        InputError: see `read_checked`.
    """
    return read_checked_rows(folder / "shots.jsonl", _Row), read_checked(folder / "detector.json", dict[str, Any])


def frames_of_shot(shot: Sequence[float], middles_T: Floats) -> slice:
    """The frames whose middle lies in the shot (its end excluded), or the one nearest to its middle.

    Example: middles 1, 3, 5: shot [2, 6] has frames 1 and 2, shot [3.2, 3.8] has frame 1.

    Args:
        shot: start and end.
        middles_T: seconds at the middle of what each frame stands for, rising.
    """
    first, end = np.searchsorted(middles_T, shot).tolist()
    if first == end:
        first = int(np.argmin(np.abs(middles_T - (shot[0] + shot[1]) / 2)))
        end = first + 1
    return slice(first, end)


def shot_rows(truth: GroundTruth, sc_QT: Floats, shots: Mapping[str, Shots], *, name: str) -> list[dict[str, Any]]:
    """Rows of a submission: the ten shots with the highest mean cosine, best first; of equals the earlier.

    Saliency is the cosine of each frame.

    Args:
        truth: the queries.
        sc_QT: cosines as they are.
        shots: of each video.
        name: what an error calls the shots (the file).

    Raises:
        InputError: a query's video has no shots.
    """
    rows = []
    middles_QT = truth.middles_QT
    frames: dict[str, list[slice]] = {}
    for index, query in enumerate(truth.queries):
        if query.vid not in shots:
            raise InputError(f"{name}: no shots of video {query.vid!r}; detect them again")
        sc_T = sc_QT[index, : truth.num_frames_Q[index]]
        if query.vid not in frames:
            frames[query.vid] = [frames_of_shot(shot, middles_QT[index, : len(sc_T)]) for shot in shots[query.vid]]
        windows = [
            [*shot, float(sc_T[part].mean())] for shot, part in zip(shots[query.vid], frames[query.vid], strict=True)
        ]
        windows.sort(key=lambda window: -window[2])
        rows.append(
            {
                "qid": query.qid,
                "query": query.query,
                "vid": query.vid,
                "pred_relevant_windows": windows[:MAX_WINDOWS],
                "pred_saliency_scores": sc_T.tolist(),
            }
        )
    return rows


def shot_predictions(
    queries: EmbeddedQueries | None, shots: Sequence[Mapping[str, Any]], detector: Mapping[str, Any], *, name: str
) -> Predictions:
    """Shots of the videos as windows; see `shot_rows`.

    Args:
        queries: None where the split has none.
        shots: rows `video_id, shots, reason` of stage detect_shots.
        detector: how they were detected.
        name: what an error calls the shots (the file).
    """
    protocol = {"detector": detector, "num_unread_videos": sum(row["reason"] is not None for row in shots)}
    if queries is None:
        return Predictions("shots", None, protocol)
    shots_of = {row["video_id"]: row["shots"] for row in shots}
    return Predictions("shots", shot_rows(queries.truth, queries.curves.sc_QT, shots_of, name=name), protocol)
