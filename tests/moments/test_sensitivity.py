import pytest

from stillmotion.moments.objective import Range
from stillmotion.moments.sensitivity import sensitivity

RANGES = {"threshold": Range(0.0, 1.0), "window": Range(3, 7, 2)}
BEST = {"threshold": 0.3, "window": 5}


def objective(parameters):
    return 100 * parameters["threshold"] + parameters["window"]


def test_one_parameter_moves_and_the_others_stay_at_their_best():
    rows = sensitivity(objective, RANGES, BEST, num_points=3)
    assert [(row["parameter"], row["at"], row["value"]) for row in rows] == [
        ("threshold", 0.0, 5),
        ("threshold", 0.3, 35),
        ("threshold", 0.5, 55),
        ("threshold", 1.0, 105),
        ("window", 3, 33),
        ("window", 5, 35),
        ("window", 7, 37),
    ]
    assert all(isinstance(row["at"], int) for row in rows if row["parameter"] == "window")


def test_a_best_value_on_the_grid_is_there_once():
    rows = sensitivity(objective, RANGES, {"threshold": 0.5, "window": 3}, num_points=5)
    assert [row["at"] for row in rows if row["parameter"] == "threshold"] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("num_points", "places"), [(1, [0.0, 0.3]), (2, [0.0, 0.3, 1.0])])
def test_few_points_begin_at_the_ends(num_points, places):
    rows = sensitivity(
        objective, {"threshold": Range(0.0, 1.0)}, {"threshold": 0.3, "window": 3}, num_points=num_points
    )
    assert [row["at"] for row in rows] == places


def test_a_range_of_one_value_gives_one_row():
    rows = sensitivity(objective, {"threshold": Range(0.4, 0.4)}, {"threshold": 0.4, "window": 3}, num_points=9)
    assert rows == [{"parameter": "threshold", "at": 0.4, "value": 43}]
