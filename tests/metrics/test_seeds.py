import numpy as np
import pytest

from stillmotion.metrics.retrieval import QueryRanks
from stillmotion.metrics.retrieval_summary import METRICS, summarise_with_intervals
from stillmotion.metrics.seeds import summarise_seeds, summarise_system


def make(*ranks):
    values = np.array(ranks, dtype=float)
    return QueryRanks(values, 1 / values)


def summarise(*runs, seed=0):
    return summarise_seeds(runs, rng=np.random.default_rng(seed), num_resamples=500)


def test_the_mean_over_two_seeds_is_worked_by_hand():
    found = summarise(make(1, 2, 4, 20), make(1, 1, 1, 6))
    assert found["R@1"] == (25 + 75) / 2
    assert found["R@2"] == (50 + 75) / 2
    assert found["R@5"] == (75 + 75) / 2
    assert found["R@10"] == (75 + 100) / 2
    assert found["MedR"] == (3 + 1) / 2
    assert found["MeanR"] == (6.75 + 2.25) / 2
    assert found["MRR"] == pytest.approx(100 * (1.8 + 19 / 6) / 8)
    assert found["mAP"] == pytest.approx(found["MRR"])


def test_the_deviation_is_that_of_a_sample_of_seeds():
    found = summarise(make(1, 2, 4, 20), make(1, 1, 1, 6), make(1, 1, 4, 20))
    # R@1 25, 75, 50: squares of -25, 25, 0 over n - 1 = 2
    assert found["std"]["R@1"] == pytest.approx(25)
    # MedR 3, 1, 2.5: their mean is 13/6, the squares of 5/6, -7/6, 2/6 add up to 78/36
    assert found["std"]["MedR"] == pytest.approx((78 / 36 / 2) ** 0.5)
    assert found["std"].keys() == set(METRICS)


def test_one_seed_has_the_values_and_intervals_of_a_system_without_seeds_and_no_deviation():
    run = make(*np.random.default_rng(1).integers(1, 30, 50))
    found = summarise(run)
    expected = summarise_with_intervals(run, rng=np.random.default_rng(0), num_resamples=500)
    assert "std" not in found
    assert found == expected


def test_seeds_that_agree_have_the_interval_of_one_and_no_deviation():
    run = make(*np.random.default_rng(1).integers(1, 30, 50))
    one, three = summarise(run), summarise(run, run, run)
    for name in METRICS:
        assert three["ci95"][name] == pytest.approx(one["ci95"][name])
        assert three["std"][name] == pytest.approx(0, abs=1e-9)


def test_the_same_queries_are_drawn_for_all_seeds():
    # In each query one of the seeds hits and the other does not: whatever is drawn, their mean is 50 %.
    hits = np.random.default_rng(3).integers(0, 2, 40)
    found = summarise(make(*(2 - hits)), make(*(1 + hits)))
    assert found["R@1"] == 50
    assert found["ci95"]["R@1"] == [50, 50]


def test_the_interval_is_that_of_the_mean_over_seeds():
    # R@1 of a query, averaged over two seeds, is 100, 50 or 0: a bootstrap of these numbers done literally
    first, second = (np.random.default_rng(seed).integers(1, 3, 60) for seed in (1, 2))
    found = summarise(make(*first), make(*second))
    means = 50.0 * ((first == 1).astype(float) + (second == 1))
    rng = np.random.default_rng(9)
    resampled = [means[rng.integers(60, size=60)].mean() for _ in range(4000)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert found["ci95"]["R@1"] == [pytest.approx(low, abs=2.5), pytest.approx(high, abs=2.5)]


def test_the_same_generator_gives_the_same_intervals():
    runs = [make(*np.random.default_rng(seed).integers(1, 30, 50)) for seed in (1, 2)]
    assert summarise(*runs) == summarise(*runs)
    assert summarise(*runs)["ci95"] != summarise(*runs, seed=1)["ci95"]


def test_seeds_that_answered_other_numbers_of_queries_are_refused():
    with pytest.raises(ValueError, match="dimensions"):
        summarise(make(1, 2, 3), make(1, 2))


def test_a_system_counts_missing_queries_as_misses_and_names_both_conventions():
    runs = [
        {"t2v": make(1, 2, 9), "v2t": make(4, 1), "v2t_caption_max": make(2, 1)},
        {"t2v": make(1, 1, 2), "v2t": make(2, 1), "v2t_caption_max": make(1, 1)},
    ]
    found = summarise_system(runs, num_missing=1, seed=0, num_resamples=50)
    assert list(found) == ["t2v", "v2t", "v2t_caption_max", "v2t_any_caption"]
    assert found["v2t_any_caption"] == found["v2t"]
    assert found["v2t"]["R@2"] == (50 + 100) / 2
    # of four queries, one of them missing: 1 and 2 hits at 1, 2 and 3 at 2, 2 and 3 at 5, all three at 10
    assert found["t2v"]["pessimistic"] == {"R@1": 37.5, "R@2": 62.5, "R@5": 62.5, "R@10": 75}
    assert "pessimistic" not in found["v2t"]
