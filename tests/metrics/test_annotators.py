import json

import numpy as np
import pytest

from stillmotion.metrics.annotators import (
    MOMENTS,
    annotator_scores,
    nearest_moment,
    ranked_moments,
    step_iou,
    window_scores,
)


def literal_scores(segments, data):
    """Transcription of the official evaluation, query by query."""
    average_ranks, average_iou = [], []
    for ranking, times in zip(segments, data, strict=True):
        ious, ranks = [], []
        for gt in times:
            pred = ranking[0]
            intersection = max(0, min(pred[1], gt[1]) + 1 - max(pred[0], gt[0]))
            ious.append(float(intersection) / (max(pred[1], gt[1]) + 1 - min(pred[0], gt[0])))
            ranks.append(ranking.index(tuple(gt)) + 1)
        average_iou.append(np.mean(np.sort(ious)[-3:]))
        average_ranks.append(np.mean(np.sort(ranks)[:3]))
    return (
        np.sum(np.array(average_ranks) <= 1) / float(len(average_ranks)),
        np.sum(np.array(average_ranks) <= 5) / float(len(average_ranks)),
        np.mean(average_iou),
    )


def test_two_moments_share_whole_steps():
    assert step_iou((0, 1), (1, 2)) == pytest.approx(1 / 3)
    assert step_iou((3, 3), (3, 3)) == 1
    assert step_iou((0, 0), (5, 5)) == 0
    assert step_iou((0, 5), (2, 4)) == 0.5


def test_the_three_annotators_that_agree_best_count():
    marked = [(0, 0), (0, 0), (1, 1), (2, 2)]
    found = annotator_scores([[(0, 0), (1, 1)]], [marked])
    # Ranks 1, 1 and 2, mean 4/3; IoU 1, 1 and 0.
    assert found == pytest.approx({"rank@1": 0, "rank@5": 100, "mIoU": 200 / 3})
    assert annotator_scores([[(0, 0)]], [[(0, 0), (0, 0), (0, 0), (4, 5)]]) == {
        "rank@1": 100,
        "rank@5": 100,
        "mIoU": 100,
    }


def test_a_moment_that_is_not_ranked_has_the_last_rank():
    # (1 + 1 + 21) / 3 is above 5, and so it would be with the places 14 to 21.
    assert annotator_scores([[(0, 0), (3, 3)]], [[(0, 0), (0, 0), (1, 1), (2, 2)]])["rank@5"] == 0
    # (1 + 2 + 12) / 3 = 5
    ranking = [moment for moment in MOMENTS if moment not in ((0, 0), (1, 1), (5, 5))]
    ranking = [(0, 0), (1, 1), *ranking[:9], (5, 5)]
    assert annotator_scores([ranking], [[(0, 0), (1, 1), (5, 5)]])["rank@5"] == 100


def test_a_query_without_an_answer_counts_as_missed():
    assert annotator_scores([[], [(0, 0)]], [[(0, 0)] * 4] * 2) == {"rank@1": 50, "rank@5": 50, "mIoU": 50}


@pytest.mark.parametrize(
    ("window", "duration", "moment"),
    [
        ((0, 5), 30, (0, 0)),
        ((4, 11), 30, (1, 1)),  # 5/7; 6/11 of (1, 2), 6/11 of (0, 1)
        ((2, 8), 30, (0, 1)),  # 6/10; 3/8 of (0, 0), 3/8 of (1, 1)
        ((0, 30), 30, (0, 5)),
        ((20, 28), 28, (4, 5)),
        ((25, 27), 28, (5, 5)),
        ((0, 24), 24, (0, 4)),  # five steps, the last of 4 s
        ((26, 29), 24, None),
        ((3, 3), 30, None),
    ],
)
def test_a_window_stands_for_the_moment_that_it_overlaps_best(window, duration, moment):
    assert nearest_moment(window, duration) == moment


def test_windows_of_one_moment_count_once_and_keep_their_order():
    windows = [(5, 10, 0.9), (0, 5, 0.8), (5, 9, 0.7), (40, 50, 0.6)]
    assert ranked_moments(windows, 30.0) == [(1, 1), (0, 0)]
    marked = [[0.0, 5.0], [0.0, 5.0], [0.0, 5.0], [5.0, 10.0]]
    # The mean of the best three ranks is 2; the first window has IoU 1 with one annotator of four.
    assert window_scores([windows], [marked], [30.0]) == pytest.approx({"rank@1": 0, "rank@5": 100, "mIoU": 100 / 3})


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", ["val_data.json", "test_data.json"])
def test_rankings_of_all_moments_have_the_official_scores_on_the_public_annotations(real_material, name):
    times = [row["times"] for row in json.loads((real_material / "didemo" / name).read_text())]
    rng = np.random.default_rng(0)
    counts = {moment: sum(list(moment) in marked for marked in times) for moment in MOMENTS}
    prior = sorted(MOMENTS, key=counts.__getitem__, reverse=True)
    drawn = [[MOMENTS[place] for place in rng.permutation(len(MOMENTS))] for _ in times]
    for rankings in ([prior] * len(times), drawn):
        rank1, rank5, miou = literal_scores(rankings, times)
        assert 0 < rank1 < rank5 < 1
        marked = [[tuple(moment) for moment in of_query] for of_query in times]
        found = annotator_scores(rankings, marked)
        assert found == pytest.approx({"rank@1": 100 * rank1, "rank@5": 100 * rank5, "mIoU": 100 * miou}, rel=1e-12)
        windows, annotated = (
            [[(5.0 * first, 5.0 * (last + 1)) for first, last in moments] for moments in lists]
            for lists in (rankings, marked)
        )
        if rankings is drawn:
            windows, annotated, found = windows[:300], annotated[:300], annotator_scores(rankings[:300], marked[:300])
        assert window_scores(windows, annotated, [30.0] * len(windows)) == found
