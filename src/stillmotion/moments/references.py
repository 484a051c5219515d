"""Systems of moment retrieval that look at no frame: floors and a ceiling for those that do.

METHODS.md section 2. `oracle` takes the true windows, at most as many as the metrics look at: what is lost
below 100 is lost by the cap. The other three know the video's duration alone.

None of them rates clips, so their rows have no `pred_saliency_scores`, and the HL-* metrics are left out:
ones made up (all equal, say) would be a value of nothing.
"""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from stillmotion.config.evaluation import EvaluateReferencesParams
from stillmotion.config.run import Reference
from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.moments.predictions import Predictions
from stillmotion.moments.truth import GroundTruth

REFERENCES: tuple[Reference, ...] = get_args(Reference)


def random_windows(
    qid: int, *, num_clips: int, duration: float, clip_length_s: float, num_windows: int, seed: int
) -> list[list[float]]:
    """Windows [start, end, score] between random edges of the clip grid, with random scores, best first.

    Each of the windows that the grid allows is as likely, and one may be drawn twice. The draw depends on the
    seed and the query alone.

    Args:
        qid: the query.
        num_clips: clips of its video, the last of which may be short.
        duration: seconds of its video.
        clip_length_s: seconds a clip.
        num_windows: windows to draw.
        seed: of the params.
    """
    rng = np.random.default_rng([seed, qid % 2**64])
    windows = []
    for _ in range(num_windows):
        first, end = np.sort(rng.choice(num_clips + 1, size=2, replace=False)).tolist()
        windows.append([first * clip_length_s, min(end * clip_length_s, duration), float(rng.random())])
    return sorted(windows, key=lambda window: -window[2])


def uniform_windows(duration: float, *, num_windows: int) -> list[list[float]]:
    """Equal parts of the video in order of time, with equal scores.

    Example: two of 10 s: [0, 5, 1] and [5, 10, 1].
    """
    edges = [duration * place / num_windows for place in range(num_windows)] + [duration]
    return [[start, end, 1.0] for start, end in zip(edges, edges[1:], strict=False)]


def _windows(
    reference: Reference,
    query: Moment,
    *,
    num_clips: int,
    duration: float,
    clip_length_s: float,
    num_windows: int,
    seed: int,
) -> list[list[float]]:
    if reference == "whole_video":
        return [[0.0, duration, 1.0]]
    if reference == "uniform_windows":
        return uniform_windows(duration, num_windows=num_windows)
    if reference == "oracle":
        return [[float(start), float(end), 1.0] for start, end in query.relevant_windows[:num_windows]]
    return random_windows(
        query.qid,
        num_clips=num_clips,
        duration=duration,
        clip_length_s=clip_length_s,
        num_windows=num_windows,
        seed=seed,
    )


def reference_rows(reference: Reference, truth: GroundTruth, *, num_windows: int, seed: int) -> list[dict[str, Any]]:
    """Rows `qid, query, vid, pred_relevant_windows` of a submission, in the order of the truth.

    Args:
        reference: `whole_video`, one window; `random_windows`; `uniform_windows`; `oracle`.
        truth: the queries.
        num_windows: windows a query, for `oracle` at most; `whole_video` has one.
        seed: of `random_windows`.
    """
    rows: list[dict[str, Any]] = []
    sizes: Sequence[tuple[int, float]] = list(zip(truth.num_frames_Q.tolist(), truth.durations_Q.tolist(), strict=True))
    for query, (num_clips, duration) in zip(truth.queries, sizes, strict=True):
        windows = _windows(
            reference,
            query,
            num_clips=num_clips,
            duration=duration,
            clip_length_s=truth.clip_length_s,
            num_windows=num_windows,
            seed=seed,
        )
        rows.append({"qid": query.qid, "query": query.query, "vid": query.vid, "pred_relevant_windows": windows})
    return rows


def reference_predictions(name: str, truth: GroundTruth | None, params: EvaluateReferencesParams) -> Predictions:
    """Predictions of a reference; see `reference_rows`.

    Args:
        name: of the reference.
        truth: None where the split has no queries.
        params: number of windows, and seed.

    Raises:
        InputError: there is no such reference.
    """
    reference = next((known for known in REFERENCES if known == name), None)
    if reference is None:
        raise InputError(f"{name!r} is no reference; name one of {', '.join(REFERENCES)}")
    settings = {"num_windows": params.num_windows, "seed": params.seed}
    rows = None if truth is None else reference_rows(reference, truth, num_windows=params.num_windows, seed=params.seed)
    return Predictions("reference", rows, settings)
