import math

import numpy as np
import pytest

from stillmotion.config.evaluation import EvaluateMomentsParams, EvaluateReferencesParams
from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.io.tables import read_rows
from stillmotion.moments.evaluation import evaluate
from stillmotion.moments.references import random_windows, reference_predictions, reference_rows, uniform_windows
from stillmotion.moments.truth import Missing, ground_truth

TRUE = [[0.0, 2.0], [4.0, 6.0], [8.0, 9.0]]


def truth_of(*qids, duration=9.0):
    queries = [Moment(qid, f"q{qid}", f"v{qid}", duration, TRUE, [0, 2, 4], []) for qid in qids]
    names = [query.vid for query in queries]
    sizes = dict.fromkeys(names, math.ceil(duration / 2))
    return ground_truth(queries, num_frames=sizes, durations=dict.fromkeys(names, duration), clip_length_s=2.0)


def windows_of(reference, truth, *, num_windows=10, seed=0):
    rows = reference_rows(reference, truth, num_windows=num_windows, seed=seed)
    return {row["qid"]: row["pred_relevant_windows"] for row in rows}


def test_one_window_covers_the_whole_video():
    assert windows_of("whole_video", truth_of(1)) == {1: [[0.0, 9.0, 1.0]]}


def test_uniform_windows_are_equal_parts_in_order_of_time():
    assert uniform_windows(10.0, num_windows=2) == [[0.0, 5.0, 1.0], [5.0, 10.0, 1.0]]
    assert windows_of("uniform_windows", truth_of(1), num_windows=3) == {1: [[0, 3, 1], [3, 6, 1], [6, 9, 1]]}


def test_the_oracle_takes_the_true_windows_up_to_the_cap():
    assert windows_of("oracle", truth_of(1), num_windows=2) == {1: [[0.0, 2.0, 1.0], [4.0, 6.0, 1.0]]}
    assert [window[:2] for window in windows_of("oracle", truth_of(1))[1]] == TRUE


def test_random_windows_lie_on_the_clip_grid_with_falling_scores():
    windows = windows_of("random_windows", truth_of(7))[7]
    assert len(windows) == 10
    for start, end, score in windows:
        assert start in (0, 2, 4, 6, 8)
        assert end in (2, 4, 6, 8, 9)  # the last clip ends with the video
        assert start < end
        assert 0 <= score < 1
    scores = [window[2] for window in windows]
    assert scores == sorted(scores, reverse=True)


def test_other_queries_change_no_random_window_and_the_seed_and_the_query_do():
    alone, among = windows_of("random_windows", truth_of(7)), windows_of("random_windows", truth_of(3, 7, 9))
    assert alone[7] == among[7]
    assert among[3] != among[7] != among[9]
    assert windows_of("random_windows", truth_of(7), seed=1)[7] != alone[7]


def test_every_window_of_the_grid_is_as_likely():
    counts: dict[tuple[float, float], int] = {}
    for qid in range(300):
        for start, end, _ in random_windows(qid, num_clips=3, duration=6.0, clip_length_s=2.0, num_windows=10, seed=0):
            counts[start, end] = counts.get((start, end), 0) + 1
    assert len(counts) == 6
    # 500 each; five standard deviations of a binomial of 3,000 draws are 102
    assert all(abs(count - 500) < 102 for count in counts.values())


def test_references_rate_no_clips():
    for reference in ("whole_video", "random_windows", "uniform_windows", "oracle"):
        (row,) = reference_rows(reference, truth_of(1), num_windows=3, seed=0)
        assert row.keys() == {"qid", "query", "vid", "pred_relevant_windows"}


def test_predictions_say_how_the_windows_were_drawn():
    params = EvaluateReferencesParams(num_windows=2, seed=3)
    predicted = reference_predictions("oracle", truth_of(1), params)
    assert predicted.rows is not None
    assert [row["pred_relevant_windows"] for row in predicted.rows] == [[[0.0, 2.0, 1.0], [4.0, 6.0, 1.0]]]
    assert (predicted.kind, predicted.protocol) == ("reference", {"num_windows": 2, "seed": 3})
    assert reference_predictions("oracle", None, params).rows is None


def test_an_unknown_reference_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="'whole' is no reference; name one of whole_video, "):
        reference_predictions("whole", None, EvaluateReferencesParams(num_windows=2, seed=3))


@pytest.fixture(scope="module")
def qvhighlights(real_material):
    """The validation split as the dataset's reader would give it."""
    names = ("qid", "query", "vid", "duration", "relevant_windows", "relevant_clip_ids", "saliency_scores")
    rows = read_rows(real_material / "qvhighlights" / "highlight_val_release.jsonl")
    queries = [Moment(**{name: row[name] for name in names}) for row in rows]
    durations = {query.vid: float(query.duration) for query in queries}
    num_frames = {vid: math.ceil(duration / 2) for vid, duration in durations.items()}
    return ground_truth(queries, num_frames=num_frames, durations=durations, clip_length_s=2.0)


def score(reference, truth):
    rows = reference_rows(reference, truth, num_windows=10, seed=0)
    params = EvaluateMomentsParams(num_examples=3, bootstrap_samples=20, seed=0)
    return evaluate(rows, truth, frames_QT=None, missing=Missing(0, 0), params=params).metrics


@pytest.mark.real
def test_the_whole_video_scores_the_known_floor(qvhighlights):
    result = score("whole_video", qvhighlights)
    brief = result["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-R1@0.7"], brief["MR-full-mAP"]) == (9.03, 6.06, 5.58)
    assert result["coverage"] == pytest.approx(100)
    assert result["selected_share"] == pytest.approx(100)
    true_share = np.mean(qvhighlights.true_QT.sum(axis=1) / qvhighlights.num_frames_Q)
    assert result["frames"]["precision"] == pytest.approx(100 * true_share)
    assert not any(name.startswith("HL") for name in [*result, *brief])


@pytest.mark.real
def test_the_oracle_scores_the_known_ceiling(qvhighlights):
    result = score("oracle", qvhighlights)
    assert (result["brief"]["MR-full-R1@0.5"], result["brief"]["MR-full-mAP"]) == (100, 99.76)


@pytest.mark.slow
@pytest.mark.real
def test_windows_without_sight_score_between_nothing_and_the_oracle(qvhighlights):
    for reference in ("random_windows", "uniform_windows"):
        result = score(reference, qvhighlights)
        assert 0 < result["brief"]["MR-full-mAP"] < 15
        assert result["num_empty"] == 0
