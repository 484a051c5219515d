import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.metrics.comparison import TASKS, Answers, Query, check_same_queries, compare_answers


def answers(*outcomes):
    queries = [Query(f"q{number}", f"v{number}", f"text {number}") for number in range(len(outcomes))]
    return Answers(queries, np.array([np.atleast_1d(value) for value in outcomes], dtype=float))


def compare(first, second, metric, task="retrieval", **settings):
    return compare_answers(first, second, TASKS[task], metric, rng=np.random.default_rng(0), **settings)


@pytest.mark.parametrize(
    ("metric", "first", "second"),
    [
        ("R@1", 50, 25),
        ("R@2", 50, 75),
        ("R@5", 75, 100),
        ("R@10", 75, 100),
        ("MRR", 100 * (1 + 1 + 1 / 4 + 1 / 20) / 4, 100 * (1 + 1 / 2 + 1 / 2 + 1 / 4) / 4),
        ("MeanR", 26 / 4, 9 / 4),
    ],
)
def test_the_values_and_their_difference_are_worked_by_hand(metric, first, second):
    found = compare(answers(1, 1, 4, 20), answers(1, 2, 2, 4), metric)
    assert found.values == pytest.approx((first, second))
    assert found.paired.difference == pytest.approx(first - second)
    assert found.paired.low <= found.paired.difference <= found.paired.high


@pytest.mark.parametrize(("metric", "first", "second"), [("R1@0.5", 100, 50), ("R1@0.7", 50, 0), ("mIoU", 65, 40)])
def test_moments_are_compared_by_the_overlap_of_the_best_window(metric, first, second):
    found = compare(answers(0.5, 0.8), answers(0.2, 0.6), metric, "moments")
    assert found.values == pytest.approx((first, second))
    assert found.first_better == ([0, 1] if metric == "R1@0.5" else [1, 0] if metric == "R1@0.7" else [0, 1])
    assert found.second_better == []


def test_a_query_counts_by_its_mean_over_the_seeds_of_each_system():
    found = compare(answers([1, 1, 2], [3, 1, 3]), answers(2, 1), "R@1")
    assert found.values == pytest.approx((50, 50))
    assert found.paired.difference == pytest.approx(0)
    assert found.first_better == [0]
    assert found.second_better == [1]


def test_the_interval_is_that_of_the_paired_differences_resampled_literally():
    generator = np.random.default_rng(5)
    first, second = (generator.integers(1, 4, 80) for _ in range(2))
    found = compare(answers(*first), answers(*second), "R@1", num_resamples=2000)
    differences = 100.0 * ((first == 1).astype(float) - (second == 1))
    means = [differences[generator.integers(80, size=80)].mean() for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    assert found.paired.low == pytest.approx(low, abs=2.5)
    assert found.paired.high == pytest.approx(high, abs=2.5)


def test_queries_that_moved_stand_in_the_order_of_the_metric_then_of_the_rank():
    # hits at 1: gained by queries 1 and 2, lost by 4; query 3 moved without one, 0 and 5 did not move
    found = compare(answers(1, 1, 1, 3, 8, 6), answers(1, 2, 90, 50, 1, 6), "R@1")
    assert found.first_better == [2, 1, 3]
    assert found.second_better == [4]


def test_equal_moves_stand_in_the_order_of_the_queries():
    assert compare(answers(1, 1, 1), answers(2, 2, 2), "MRR").first_better == [0, 1, 2]


def test_of_mean_rank_the_lower_is_the_better():
    found = compare(answers(1, 9), answers(5, 7), "MeanR")
    assert found.paired.difference == -1
    assert found.first_better == [0]
    assert found.second_better == [1]


def test_a_system_does_not_differ_from_itself():
    found = compare(answers(1, 7, 3), answers(1, 7, 3), "MRR")
    assert (found.paired.difference, found.paired.p_value) == (0, 1)
    assert found.first_better == found.second_better == []


def test_only_means_over_queries_are_compared():
    assert list(TASKS["retrieval"].metrics) == ["R@1", "R@2", "R@5", "R@10", "MRR", "MeanR"]
    assert list(TASKS["moments"].metrics) == ["R1@0.5", "R1@0.7", "mIoU"]


def test_the_first_query_that_differs_is_named():
    ours = [Query("a", "v", "one"), Query("b", "v", "two")]
    check_same_queries(ours, list(ours), ("A", "B"))
    with pytest.raises(
        InputError, match=r"A row 2 is b \('two' about v\), but B row 2 is c \('two' about v\); .*same dataset"
    ):
        check_same_queries(ours, [ours[0], Query("c", "v", "two")], ("A", "B"))
    with pytest.raises(InputError, match=r"A row 1 is a \('one' about v\), but B row 1 is a \('uno' about v\)"):
        check_same_queries(ours, [Query("a", "v", "uno"), ours[1]], ("A", "B"))
    with pytest.raises(InputError, match=r"A row 2 is b \('two' about v\), but B row 2 is missing"):
        check_same_queries(ours, ours[:1], ("A", "B"))
    with pytest.raises(InputError, match="A row 1 is missing"):
        check_same_queries([], ours, ("A", "B"))


def test_the_same_query_about_another_video_differs():
    ours = [Query("a", "v", "one")]
    with pytest.raises(InputError, match="about v.*about w"):
        check_same_queries(ours, [Query("a", "w", "one")], ("A", "B"))


def test_equal_moves_are_equal_though_the_means_over_seeds_are_rounded():
    # R@1 rises by 1/3 for both, from 0 and from 1/3; the ranks of the second move further
    found = compare(answers([1, 2, 2], [1, 1, 4]), answers([2, 2, 2], [1, 9, 9]), "R@1")
    assert found.first_better == [1, 0]
    # 1 / 4.5 is the mean of 1/4, 1/4 and 1/6, so that by MRR the rank alone tells the two apart
    found = compare(answers([4, 4, 6]), answers(4.5), "MRR")
    assert (found.first_better, found.second_better) == ([], [0])
