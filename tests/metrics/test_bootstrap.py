import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.metrics import bootstrap
from stillmotion.metrics.bootstrap import (
    bootstrap_intervals,
    clustered_bootstrap,
    paired_bootstrap,
    resample,
    unpaired_bootstrap,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_resampled_means_and_medians_are_those_of_the_drawn_queries(seed, num_queries):
    values = rng(seed).integers(0, 9, size=num_queries).astype(float)
    drawn = values[rng(seed).integers(num_queries, size=(20, num_queries))]
    result = resample(np.stack([values, values]), ["mean", "median"], rng=rng(seed), num_resamples=20)
    assert result[0] == pytest.approx(drawn.mean(axis=1))
    assert result[1].tolist() == np.median(drawn, axis=1).tolist()


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = rng().standard_normal(4000)
    low, high = bootstrap_intervals(values, ["mean"], rng=rng(1), num_resamples=2000)[0]
    half = 1.96 * values.std() / np.sqrt(4000)
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_the_same_seed_gives_the_same_interval():
    values = rng().random(50)
    first, second = (bootstrap_intervals(values, ["median"], rng=rng(3)) for _ in range(2))
    assert (first == second).all()


def test_the_chunk_bounds_memory_and_changes_no_draw(monkeypatch):
    values = rng().random(50)
    whole = resample(values, ["median"], rng=rng(3), num_resamples=100)
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", 500)
    assert (resample(values, ["median"], rng=rng(3), num_resamples=100) == whole).all()


def test_equal_queries_have_an_interval_of_no_width():
    assert bootstrap_intervals(np.full(7, 3.0), ["mean"], rng=rng()).tolist() == [[3, 3]]


@pytest.mark.parametrize("values", [np.empty(0), np.array([1.0, np.nan])])
def test_no_query_or_an_unscored_one_is_an_error(values):
    with pytest.raises(InputError):
        bootstrap_intervals(values, ["mean"], rng=rng())


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_equal_systems_do_not_differ(statistic):
    values = rng().random(40)
    result = paired_bootstrap(values, values.copy(), rng=rng(), statistic=statistic)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_system_that_is_better_on_every_query_differs():
    values = rng().random(40)
    result = paired_bootstrap(values + 1, values, rng=rng(), num_resamples=999)
    assert result.difference == pytest.approx(1)
    assert result.low == pytest.approx(1)
    assert result.p_value == pytest.approx(2 / 1000)


def test_pairing_sees_a_difference_that_is_small_beside_the_spread():
    values = 100 * rng().standard_normal(200)
    better = values + 1 + 0.1 * rng(1).standard_normal(200)
    result = paired_bootstrap(better, values, rng=rng(2))
    assert 0.9 < result.low < result.difference < result.high < 1.1
    assert result.p_value < 0.01


def test_systems_on_different_queries_are_an_error():
    with pytest.raises(InputError, match="same queries"):
        paired_bootstrap(np.ones(3), np.ones(4), rng=rng())


def test_samples_of_different_sizes_are_drawn_apart():
    generator = np.random.default_rng(0)
    first_Q, second_Q = generator.normal(3, 2, 400), generator.normal(1, 4, 100)
    difference, low, high = unpaired_bootstrap(first_Q, second_Q, seed=0, num_resamples=4000)
    # by the normal approximation
    half = 1.96 * np.sqrt(first_Q.var() / 400 + second_Q.var() / 100)
    assert difference == first_Q.mean() - second_Q.mean()
    assert low == pytest.approx(difference - half, abs=0.06)
    assert high == pytest.approx(difference + half, abs=0.06)


def test_queries_of_a_cluster_are_drawn_together():
    generator = np.random.default_rng(0)
    gain_C = generator.normal(2, 3, 150)
    alone = clustered_bootstrap(gain_C, np.zeros(150), np.arange(150), seed=0, num_resamples=4000)
    # by the normal approximation, of 150 independent values
    half = 1.96 * gain_C.std() / np.sqrt(150)
    assert alone == pytest.approx((gain_C.mean(), gain_C.mean() - half, gain_C.mean() + half), abs=0.05)
    # Four queries that are alike in everything tell no more than one.
    copies_Q, order = np.repeat(gain_C, 4), generator.permutation(600)
    ids_Q = np.repeat([f"v{row}" for row in range(150)], 4)
    shuffled = clustered_bootstrap(copies_Q[order], np.zeros(600), ids_Q[order], seed=0, num_resamples=4000)
    assert shuffled == pytest.approx((gain_C.mean(), gain_C.mean() - half, gain_C.mean() + half), abs=0.05)


def test_a_resample_is_the_mean_over_the_queries_that_it_has_drawn():
    # One query gains 60 and three of another cluster nothing: of two draws both are the first in a quarter, both the
    # other in a quarter, and 60 of four queries otherwise.
    first_Q, cluster_Q = np.array([0.0, 60.0, 0.0, 0.0]), np.array(["b", "a", "b", "b"])
    found = clustered_bootstrap(first_Q, np.zeros(4), cluster_Q, seed=0, num_resamples=400)
    assert found == (15.0, 0.0, 60.0)


def test_a_resample_in_which_means_over_three_seeds_cancel_counts_on_both_sides():
    # hits of three seeds: in thirds no rounding keeps a sum of gains from zero
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 4, (2, 24))
    values = np.array([np.mean([100.0] * hits + [0.0] * (3 - hits)) for hits in range(4)])
    found = paired_bootstrap(values[first], values[second], rng=np.random.default_rng(7), num_resamples=1000)
    gains = (first - second)[np.random.default_rng(7).integers(24, size=(1000, 24))].sum(axis=1)
    fewer = min(np.sum(gains <= 0), np.sum(gains >= 0))
    assert found.p_value == pytest.approx(2 * (fewer + 1) / 1001)
    assert np.sum(gains == 0) > 20
