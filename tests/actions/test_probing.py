import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from stillmotion.actions.probing import c_grid, few_shot_rows, fit_probe
from stillmotion.config.training import LinearProbeParams


def make_params(**changes):
    plain = {"shots": [1], "num_c": 5, "min_c": 0.01, "max_c": 100.0, "spacing": "log", "seeds": [0]}
    return LinearProbeParams(**{**plain, **changes})


def blobs(num_classes, num_each, spread, seed=0, dim=5):
    rng = np.random.default_rng(seed)
    centres = np.eye(dim)[:num_classes]
    labels = np.repeat(np.arange(num_classes), num_each)
    return centres[labels] + spread * rng.normal(size=(len(labels), dim)), labels


def fit(train, validation, *, shots=100, seed=0, num_classes=3, **changes):
    return fit_probe(
        *train, *validation, make_params(shots=[shots], **changes), num_classes=num_classes, shots=shots, seed=seed
    )


def test_the_grid_is_even_in_the_logarithm_or_literally():
    assert c_grid(make_params()).tolist() == pytest.approx([0.01, 0.1, 1, 10, 100])
    linear = make_params(spacing="linear", num_c=3, min_c=0.5, max_c=1.5)
    assert c_grid(linear).tolist() == pytest.approx([0.5, 1.0, 1.5])


def test_the_thesis_s_grid_has_30_values_from_a_thousandth_to_a_thousand():
    grid = c_grid(make_params(num_c=30, min_c=0.001, max_c=1000.0))
    assert len(grid) == 30
    assert (grid[0], grid[-1]) == (pytest.approx(0.001), pytest.approx(1000))
    assert grid[1] / grid[0] == pytest.approx(10 ** (6 / 29))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 9))
def test_rows_are_sorted_distinct_and_as_many_of_each_class_as_there_are_up_to_the_shots(labels, shots, seed):
    labels = np.array(labels)
    rows = few_shot_rows(labels, shots, seed)
    assert (np.diff(rows) > 0).all()
    for label in np.unique(labels):
        assert (labels[rows] == label).sum() == min(shots, (labels == label).sum())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 9))
def test_more_shots_hold_the_fewer_ones(labels, shots, seed):
    fewer, more = (set(few_shot_rows(np.array(labels), num, seed)) for num in (shots, shots + 1))
    assert fewer <= more


def test_another_seed_draws_other_rows():
    labels = np.repeat([0, 1], 50)
    assert few_shot_rows(labels, 5, 0).tolist() == few_shot_rows(labels, 5, 0).tolist()
    assert few_shot_rows(labels, 5, 0).tolist() != few_shot_rows(labels, 5, 1).tolist()


def test_separable_classes_are_told_apart():
    train, validation, test = (blobs(3, 20, 0.05, seed) for seed in (0, 1, 2))
    probe = fit(train, validation)
    assert probe.validation_top1 == 100
    assert (probe.scores(test[0]).argmax(axis=1) == test[1]).all()
    assert probe.num_samples == 60


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_probe_of_one_c_predicts_and_decides_as_scikit_learn_does(num_classes):
    train, test = blobs(num_classes, 15, 0.8, 0), blobs(num_classes, 50, 0.8, 1)
    probe = fit(train, test, num_classes=num_classes, num_c=1, min_c=0.7, max_c=0.7)
    oracle = LogisticRegression(C=0.7, max_iter=1000).fit(*train)
    scores = probe.scores(test[0])
    assert (scores.argmax(axis=1) == oracle.predict(test[0])).all()
    assert probe.c == pytest.approx(0.7)
    assert probe.validation_top1 == pytest.approx(100 * oracle.score(*test))
    decisions = oracle.decision_function(test[0])
    if num_classes == 2:
        np.testing.assert_allclose(scores[:, 1] - scores[:, 0], decisions, atol=1e-6)
        np.testing.assert_allclose(scores[:, 1] + scores[:, 0], 0, atol=1e-12)
    else:
        np.testing.assert_allclose(scores, decisions, atol=1e-6)


def test_c_is_the_least_of_those_that_do_best_on_validation():
    train, validation = blobs(3, 8, 0.6, 0), blobs(3, 100, 0.6, 1)
    probe = fit(train, validation, num_c=7, min_c=0.001, max_c=1000.0)
    accuracies = {
        c: LogisticRegression(C=c, max_iter=5000).fit(*train).score(*validation) for c in 10.0 ** np.arange(-3, 4)
    }
    assert len(set(accuracies.values())) > 2  # the problem can tell them apart
    best = max(accuracies.values())
    assert probe.validation_top1 == pytest.approx(100 * best, abs=0.34)  # a sample of 300, the solver's tolerance
    assert accuracies[min(accuracies, key=lambda c: abs(np.log(c / probe.c)))] == pytest.approx(best, abs=0.0034)
    easy = fit(blobs(3, 20, 0.05, 0), blobs(3, 20, 0.05, 1))
    assert easy.c == pytest.approx(0.01)  # all are at 100 %


def test_a_class_without_a_sample_comes_last_and_the_others_keep_their_numbers():
    embeddings, labels = blobs(4, 20, 0.05)
    kept = (labels != 1) & (labels != 3)
    probe = fit((embeddings[kept], labels[kept]), blobs(4, 5, 0.05, 1), num_classes=4)
    scores = probe.scores(embeddings)
    assert scores[:, [1, 3]].max() < scores[:, [0, 2]].min()  # last in a top-5 too
    predicted = scores.argmax(axis=1)
    assert set(predicted) == {0, 2}
    assert (predicted[kept] == labels[kept]).all()
    assert probe.weights_KD1.shape == (4, 6)
    assert np.isfinite(probe.weights_KD1).all()


def test_without_validation_samples_c_is_the_middle_of_the_grid():
    train = blobs(3, 10, 0.5)
    probe = fit(train, (np.zeros((0, 5)), np.zeros(0, np.int64)))
    assert probe.validation_top1 is None
    assert probe.c == pytest.approx(1.0)
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(*train)
    assert (probe.scores(train[0]).argmax(axis=1) == oracle.predict(train[0])).all()


def test_one_shot_takes_one_sample_a_class_and_the_same_seed_the_same_ones():
    train, validation = blobs(3, 10, 0.3), blobs(3, 10, 0.3, 1)
    first, same, other = (fit(train, validation, shots=1, seed=seed) for seed in (4, 4, 5))
    assert first.num_samples == 3
    np.testing.assert_array_equal(first.weights_KD1, same.weights_KD1)
    assert not np.array_equal(first.weights_KD1, other.weights_KD1)
