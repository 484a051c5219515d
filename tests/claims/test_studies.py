import pytest

from stillmotion.claims.studies import study_of


def study(*points, **more):
    content = {"name": "x", "title": "X", "dataset": "toy", "model": "clip-half", "aggregator": "mean", "recall_at": 1}
    return study_of(content | {"points": list(points)} | more)


def test_a_point_is_the_mean_over_its_seeds_query_by_query_and_a_failed_one_is_left_out():
    runs = [{"validation_R@1": 40.0, "test_hits": [100, 0, 100]}, {"validation_R@1": 50.0, "test_hits": [0, 0, 100]}]
    found = study({"value": 8, "runs": runs}, {"value": 16, "runs": []})
    (point,) = found.points
    assert (point.value, point.validation, point.hits_Q.tolist(), point.num_seeds) == (8, 45.0, [50.0, 0.0, 100.0], 2)
    assert point.validation_std == pytest.approx(50**0.5)
    assert (found.at(8), found.at(16)) == (point, None)
    assert found.system == "clip-half-mean"


def test_the_point_with_the_best_validation_is_chosen_the_first_of_equals():
    points = [{"value": value, "runs": [{"validation_R@1": 10.0, "test_hits": [0]}]} for value in (1, 2)]
    assert study(*points).chosen().value == 1
    assert study().chosen() is None
    assert study(*points).points[0].validation_std is None
