import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
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
    oracle = LogisticRegression(C=0.7, max_iter=1000, tol=1e-8).fit(*train)
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


def unit_vectors(seed, *num_each, num_classes=10, dim=64, noise=1.5):
    """Samples around random centres, of each split."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_classes, dim))
    splits = []
    for num in num_each:
        labels = np.repeat(np.arange(num_classes), num)
        samples = centres[labels] + noise * rng.normal(size=(len(labels), dim))
        splits.append((samples / np.linalg.norm(samples, axis=1, keepdims=True), labels))
    return splits


def exact_weights(samples_ND, labels_N, c, weights_KD1):
    """The least of C · Σ cross-entropies + |W|² / 2, the bias free: Newton's method until the gradient is gone."""
    inputs_ND1 = np.column_stack([samples_ND, np.ones(len(samples_ND))])
    (K, D1), hot_NK = weights_KD1.shape, np.eye(len(weights_KD1))[labels_N]
    penalised_D1 = np.append(np.ones(D1 - 1), 0)
    level_KD1 = np.zeros((K, D1))
    level_KD1[:, -1] = 1  # adding one number to all biases changes nothing; this keeps their sum

    def loss(weights_KD1):
        scores_NK = inputs_ND1 @ weights_KD1.T
        return (
            c * (logsumexp(scores_NK, axis=1) - (scores_NK * hot_NK).sum(axis=1)).sum()
            + (penalised_D1 * weights_KD1**2).sum() / 2
        )

    for _ in range(100):
        shares_NK = softmax(inputs_ND1 @ weights_KD1.T, axis=1)
        gradient_KD1 = c * (shares_NK - hot_NK).T @ inputs_ND1 + penalised_D1 * weights_KD1
        if np.abs(gradient_KD1).max() < 1e-12 * max(1, c):
            break
        curvature_NKK = shares_NK[:, :, None] * (np.eye(K) - shares_NK[:, None])
        hessian = c * np.einsum("nij,na,nb->iajb", curvature_NKK, inputs_ND1, inputs_ND1, optimize=True)
        hessian = hessian.reshape(K * D1, K * D1) + np.diag(np.tile(penalised_D1, K)) + np.outer(level_KD1, level_KD1)
        step_KD1 = np.linalg.solve(hessian, gradient_KD1.ravel()).reshape(K, D1)
        while loss(weights_KD1 - step_KD1) > loss(weights_KD1) + 1e-9:
            step_KD1 = step_KD1 / 2
        weights_KD1 = weights_KD1 - step_KD1
    return weights_KD1


@pytest.mark.parametrize("shots", [1, 4])
def test_c_is_the_one_that_exact_optima_choose(shots):
    """With scikit-learn's own tolerance it is 0.001 of one shot, where the solver stops after a step."""
    train, (inputs_ND, labels_N) = unit_vectors(0, 20, 30)
    params = make_params(num_c=30, min_c=0.001, max_c=1000.0)
    probe = fit_probe(*train, inputs_ND, labels_N, params, num_classes=10, shots=shots, seed=0)
    rows = few_shot_rows(train[1], shots, 0)
    basis_DR = np.linalg.qr(train[0][rows].T)[0]  # the optimum has no part that is orthogonal to all samples
    weights_KR1, found = np.zeros((10, basis_DR.shape[1] + 1)), []
    for c in c_grid(params):
        weights_KR1 = exact_weights(train[0][rows] @ basis_DR, train[1][rows], c, weights_KR1)
        scores_NK = inputs_ND @ basis_DR @ weights_KR1[:, :-1].T + weights_KR1[:, -1]
        found.append((scores_NK.argmax(axis=1) == labels_N).sum())
        if c == probe.c:
            np.testing.assert_allclose(probe.scores(inputs_ND), scores_NK, atol=1e-5)
    assert probe.c == c_grid(params)[np.argmax(found)]
    assert probe.c == pytest.approx(1.27, abs=2e-3)
    assert probe.validation_top1 == pytest.approx(max(found) / 3)


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
