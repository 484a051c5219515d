import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.moments.shots import frames_of_shot, shot_predictions, shot_rows
from stillmotion.moments.truth import ground_truth


def test_frames_of_a_shot_are_those_whose_middle_it_holds():
    middles = np.array([1.0, 3.0, 5.0])
    assert frames_of_shot([2.0, 6.0], middles) == slice(1, 3)
    assert frames_of_shot([1.0, 3.0], middles) == slice(0, 1)  # the start is in the shot, the end is not


def test_a_shot_without_a_frame_takes_the_nearest():
    middles = np.array([1.0, 3.0, 5.0])
    assert frames_of_shot([3.2, 3.8], middles) == slice(1, 2)
    assert frames_of_shot([4.2, 4.4], middles) == slice(2, 3)
    assert frames_of_shot([5.5, 6.0], middles) == slice(2, 3)


@pytest.fixture
def truth():
    queries = [Moment(1, "q1", "a", 8.0, [[0.0, 2.0]], [0], []), Moment(2, "q2", "b", 5.0, [[0.0, 2.0]], [0], [])]
    return ground_truth(queries, num_frames={"a": 4, "b": 3}, durations={"a": 8.0, "b": 5.0}, clip_length_s=2.0)


SC = np.array([[0.1, 0.3, 0.8, 0.2], [0.4, 0.4, 0.4, 9.0]])


def test_shots_are_ranked_by_the_mean_similarity_of_their_frames(truth):
    shots = {"a": [[0.0, 4.5], [4.5, 6.2], [6.2, 8.0]], "b": [[0.0, 2.5], [2.5, 5.0]]}
    rows = shot_rows(truth, SC, shots, name="shots.jsonl")
    assert rows[0]["pred_relevant_windows"] == [[4.5, 6.2, 0.8], [0.0, 4.5, pytest.approx(0.2)], [6.2, 8.0, 0.2]]
    assert rows[0]["pred_saliency_scores"] == [0.1, 0.3, 0.8, 0.2]
    # equal shots keep their order, the padding beyond the three frames counts for nothing
    assert rows[1]["pred_relevant_windows"] == [[0.0, 2.5, 0.4], [2.5, 5.0, 0.4]]
    assert rows[1] | {"pred_relevant_windows": []} == {
        "qid": 2,
        "query": "q2",
        "vid": "b",
        "pred_relevant_windows": [],
        "pred_saliency_scores": [0.4, 0.4, 0.4],
    }


def test_the_ten_best_shots_are_kept(truth):
    shots = {"a": [[n / 2, (n + 1) / 2] for n in range(16)], "b": [[0.0, 5.0]]}
    windows = shot_rows(truth, SC, shots, name="s")[0]["pred_relevant_windows"]
    assert len(windows) == 10
    # four half-second shots are nearest to each frame: those of frame 2, then of frame 1, then the first two of 3
    assert [window[2] for window in windows] == [0.8] * 4 + [0.3] * 4 + [0.2] * 2


def test_a_video_without_shots_is_named(truth):
    with pytest.raises(InputError, match=r"shots.jsonl: no shots of video 'b'"):
        shot_rows(truth, SC, {"a": [[0.0, 8.0]]}, name="shots.jsonl")


def test_the_protocol_counts_the_videos_that_the_detector_could_not_read():
    shots = [{"video_id": "a", "shots": [], "reason": None}, {"video_id": "b", "shots": [], "reason": "corrupt"}]
    predicted = shot_predictions(None, shots, {"detector": "content"}, name="shots.jsonl")
    assert (predicted.kind, predicted.rows) == ("shots", None)
    assert predicted.protocol == {"detector": {"detector": "content"}, "num_unread_videos": 1}
