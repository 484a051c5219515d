import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from stillmotion.errors import InputError
from stillmotion.metrics import dual_softmax as module
from stillmotion.metrics.dual_softmax import dual_softmax


def literally(scores, tau):
    """S_ij · exp(τ S_ij) / Σ_k exp(τ S_kj), one number at a time: k goes over the queries."""
    num_queries, num_items = scores.shape
    found = np.empty(scores.shape)
    for i in range(num_queries):
        for j in range(num_items):
            total = sum(math.exp(tau * float(scores[k, j])) for k in range(num_queries))
            found[i, j] = float(scores[i, j]) * math.exp(tau * float(scores[i, j])) / total
    return found


def test_two_queries_of_one_item_share_it_as_worked_by_hand():
    # 1 / (1 + exp(-10 · 0.1)) = 0.7310586
    found = dual_softmax(np.array([[0.5], [0.4]]), tau=10.0)
    assert found.ravel().tolist() == pytest.approx([0.5 * 0.7310586, 0.4 * 0.2689414], abs=1e-7)


@pytest.mark.parametrize("tau", [1.0, 100.0])
@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (4, 1)])
def test_it_is_the_formula_in_each_direction(shape, tau):
    scores = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    np.testing.assert_allclose(dual_softmax(scores, tau=tau), literally(scores, tau), rtol=1e-12)
    np.testing.assert_allclose(dual_softmax(scores.T, tau=tau), literally(scores.T, tau), rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_blocks_change_nothing(seed, at_once):
    scores = np.random.default_rng(seed).uniform(-1, 1, (6, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_SCORES", at_once)
        found = dual_softmax(scores, tau=100.0)
    np.testing.assert_allclose(found, scores * softmax(100.0 * scores, axis=0), rtol=1e-10)


def test_what_is_never_the_query_s_own_stays_apart_from_zero_and_from_the_others():
    scores = np.array([[0.9, 0.9], [-0.9, -0.8]], dtype=np.float32)  # e⁻¹⁸⁰ is no float32
    found = dual_softmax(scores, tau=100.0)
    assert found.dtype == np.float64
    assert found[1, 0] < 0
    assert found[1, 0] != found[1, 1]


def test_an_item_that_every_query_likes_no_longer_wins():
    # the first item is a hub: the second query's own is the second
    scores = np.array([[0.9, 0.1], [0.6, 0.5]])
    assert scores[1].argmax() == 0
    assert dual_softmax(scores, tau=100.0)[1].argmax() == 1


def test_the_given_scores_are_left_as_they_are():
    scores = np.array([[0.5, 0.1], [0.2, 0.3]])
    before = scores.copy()
    dual_softmax(scores, tau=100.0)
    np.testing.assert_array_equal(scores, before)


def test_a_score_that_is_no_number_is_named():
    with pytest.raises(InputError, match="row 1, column 0"):
        dual_softmax(np.array([[0.1], [np.nan]]), tau=100.0)
