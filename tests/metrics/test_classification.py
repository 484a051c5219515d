import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from stillmotion.errors import InputError
from stillmotion.metrics.classification import top_k_accuracy


def rng():
    return np.random.default_rng(0)


def test_accuracy_without_ties_is_that_of_scikit_learn():
    scores, labels = rng().standard_normal((200, 9)), rng().integers(9, size=200)
    result = top_k_accuracy(scores, labels, rng=rng())
    for name, k in (("top1", 1), ("top5", 5)):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(9))
        assert result[name] == pytest.approx(expected)
        low, high = result["ci95"][name]
        assert low < expected < high


def test_equal_scores_for_all_classes_are_no_hit():
    result = top_k_accuracy(np.zeros((4, 8)), np.arange(4), rng=rng())
    assert result["top1"] == 0
    assert result["top5"] == 100  # the middle rank of eight is 4.5
    assert top_k_accuracy(np.zeros((4, 8)), np.arange(4), rng=rng(), ties="pessimistic")["top5"] == 0


def test_fewer_than_five_classes_make_top5_certain():
    result = top_k_accuracy(np.array([[0.1, 0.9], [0.5, 0.5]]), np.array([1, 0]), rng=rng())
    assert (result["top1"], result["top5"]) == (50, 100)


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([0, -1]), np.array([0.0, 1.0]), np.array([0])])
def test_labels_that_name_no_class_are_an_error(labels):
    with pytest.raises(InputError):
        top_k_accuracy(np.zeros((2, 2)), labels, rng=rng())
