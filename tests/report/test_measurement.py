import numpy as np
import pytest

from stillmotion.report.measurement import compared, judge


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.5, 3.0, 0.0, "holds"),
        (-3.0, -0.5, 0.0, "does not hold"),
        (-0.5, 3.0, 0.0, "undecided"),
        (0.0, 0.0, 0.0, "undecided"),
        (-1.9, 5.0, 2.0, "holds"),
        (-2.0, 5.0, 2.0, "undecided"),
        (-3.0, -0.5, 2.0, "undecided"),
        (-5.0, -2.1, 2.0, "does not hold"),
    ],
)
def test_a_claim_is_judged_by_where_its_interval_lies(low, high, margin, verdict):
    assert judge(low, high, margin) == verdict


def test_a_difference_is_that_of_the_means_with_its_interval(make_evidence):
    found = compared(make_evidence(), "a − b", np.full(30, 100.0), np.zeros(30))
    assert (found.what, found.effect, found.verdict) == ("a − b", "+100.0 points (+100.0 to +100.0)", "holds")


def test_equal_systems_differ_by_nothing_which_costs_nothing_but_helps_nothing(make_evidence):
    same_Q = np.array([100.0, 0.0, 50.0])
    assert compared(make_evidence(), "x", same_Q, same_Q).verdict == "undecided"
    assert compared(make_evidence(), "x", same_Q, same_Q, margin=2.0).verdict == "holds"


def test_as_many_lost_as_won_is_undecided(make_evidence):
    first_Q = np.tile([100.0, 0.0], 20)
    assert compared(make_evidence(), "x", first_Q, 100 - first_Q).verdict == "undecided"
