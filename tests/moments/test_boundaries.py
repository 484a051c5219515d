from itertools import combinations

import numpy as np
import pytest

from stillmotion.io.records import Moment
from stillmotion.moments.boundaries import (
    VideoBoundaries,
    boundaries_by_video,
    boundary_metrics,
    chance_of_a_cut,
    compare_boundaries,
    true_boundaries,
)
from stillmotion.moments.truth import ground_truth


def test_boundaries_are_united_and_those_at_the_ends_of_the_video_left_out():
    windows = [[0.0, 4.0], [4.0, 9.0], [20.0, 29.0]]
    assert true_boundaries(windows, duration=30.0, margin_s=2.0) == [4.0, 9.0, 20.0]
    # exactly one clip length from an end is within it
    assert true_boundaries([[2.0, 28.0], [2.5, 27.5]], duration=30.0, margin_s=2.0) == [2.5, 27.5]


@pytest.mark.parametrize("num_places", [1, 4, 7])
def test_the_chance_is_the_share_of_all_placements(num_places):
    for num_near in range(num_places + 1):
        for num_cuts in range(num_places + 1):
            placements = list(combinations(range(num_places), num_cuts))
            share = sum(any(place < num_near for place in chosen) for chosen in placements) / len(placements)
            assert chance_of_a_cut(num_places, num_near, num_cuts) == pytest.approx(share)


def test_recall_by_chance_is_what_all_placements_give_on_average():
    boundaries, places = np.array([4.0, 5.0, 14.0]), np.arange(1, 9) * 2.0
    found = [
        compare_boundaries(places[list(chosen)], boundaries, places=places, tolerance_s=2.0).boundaries_with_cut
        for chosen in combinations(range(8), 3)
    ]
    compared = compare_boundaries(places[:3], boundaries, places=places, tolerance_s=2.0)
    assert compared.expected_with_cut == pytest.approx(np.mean(found))


def test_a_cut_at_the_tolerance_coincides_and_one_beyond_it_does_not():
    compared = compare_boundaries(
        np.array([6.0, 20.0]), np.array([4.0, 8.5, 15.0]), places=np.arange(1, 15) * 2.0, tolerance_s=2.0
    )
    assert (compared.num_boundaries, compared.num_cuts) == (3, 2)
    assert compared.boundaries_with_cut == 1
    assert compared.cuts_at_boundary == 1


def test_all_queries_of_a_video_share_its_cuts_and_give_its_boundaries():
    queries = [
        Moment(1, "q1", "a", 12.0, [[0.0, 4.0]], [0, 1], []),
        Moment(2, "q2", "b", 7.0, [[0.0, 7.0]], [0, 1, 2, 3], []),
        Moment(3, "q3", "a", 12.0, [[4.0, 9.0]], [2, 3, 4], []),
    ]
    truth = ground_truth(queries, num_frames={"a": 6, "b": 4}, durations={"a": 12.0, "b": 7.0}, clip_length_s=2.0)
    starts = np.array([[1, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 1, 0, 0, 0]], dtype=bool)
    compared = boundaries_by_video(truth, starts)
    assert list(compared) == ["a", "b"]
    # a: a cut at 4 s, boundaries 4 and 9 s, places 2 to 10 s of which three are near 4 and 8 and 10 near 9
    assert compared["a"] == VideoBoundaries(2, 1, 1, 1, pytest.approx(3 / 5 + 2 / 5))
    # b: cuts at 2 and 6 s, none of its boundaries lies inside; frame 0 is no cut
    assert compared["b"] == VideoBoundaries(0, 2, 0, 0, 0.0)


def metrics(videos, num_resamples=200):
    return boundary_metrics(videos, tolerance_s=2.0, rng=np.random.default_rng(0), num_resamples=num_resamples)


def test_recall_precision_and_chance_are_of_all_videos_together():
    result = metrics(
        [VideoBoundaries(3, 4, 2, 2, 1.5), VideoBoundaries(1, 2, 1, 1, 0.5), VideoBoundaries(0, 2, 0, 0, 0.0)]
    )
    assert result["recall"] == pytest.approx(75)
    assert result["precision"] == pytest.approx(100 * 3 / 8)
    assert result["chance_recall"] == pytest.approx(50)
    assert result["above_chance"] == pytest.approx(25)
    assert [result[name] for name in ("num_boundaries", "num_cuts", "num_videos", "tolerance_s")] == [4, 8, 3, 2.0]
    # a resample of the two videos with boundaries: the first twice 0.5 / 3, the second twice 0.5 / 1
    assert result["ci95"] == pytest.approx([100 / 6, 50])


def test_without_boundaries_or_cuts_there_is_nothing_to_divide_by():
    result = metrics([VideoBoundaries(0, 2, 0, 0, 0.0)])
    assert [result[name] for name in ("recall", "chance_recall", "above_chance", "ci95")] == [None] * 4
    assert result["precision"] == 0
    without_cuts = metrics([VideoBoundaries(2, 0, 0, 0, 0.0)])
    assert (without_cuts["precision"], without_cuts["recall"], without_cuts["above_chance"]) == (None, 0, 0)


def test_cuts_by_chance_are_not_above_chance():
    rng, places = np.random.default_rng(3), np.arange(1, 75) * 2.0
    videos = [
        compare_boundaries(
            rng.choice(places, 10, replace=False),
            rng.choice(places[1:-1], 4, replace=False),
            places=places,
            tolerance_s=2.0,
        )
        for _ in range(200)
    ]
    low, high = metrics(videos)["ci95"]
    assert low < 0 < high
