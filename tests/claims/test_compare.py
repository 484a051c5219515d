import numpy as np
import pytest

from stillmotion.claims.compare import Draws, compare, compared, compared_apart, judge, num_clips, num_seeds, pairs

DRAWS = Draws(0, 400)


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


def test_a_difference_is_that_of_the_means_with_its_interval():
    found = compared("a − b", np.full(30, 100.0), np.zeros(30), (), DRAWS)
    assert (found.what, found.effect, found.verdict) == ("a − b", "+100.0 points (+100.0 to +100.0)", "holds")


def test_a_difference_keeps_its_numbers_and_what_it_is_to_be_above():
    found = compared("a − b", np.full(30, 60.0), np.full(30, 50.0), (), DRAWS, 2.0)
    assert (found.interval, found.above) == ((10.0, 10.0, 10.0), -2.0)


def test_equal_systems_differ_by_nothing_which_costs_nothing_but_helps_nothing():
    same_Q = np.array([100.0, 0.0, 50.0])
    assert compared("x", same_Q, same_Q, (), DRAWS).verdict == "undecided"
    assert compared("x", same_Q, same_Q, (), DRAWS, 2.0).verdict == "holds"


def test_as_many_lost_as_won_is_undecided():
    first_Q = np.tile([100.0, 0.0], 20)
    assert compared("x", first_Q, 100 - first_Q, (), DRAWS).verdict == "undecided"


def test_two_samples_need_not_be_of_the_same_queries():
    found = compared_apart("x", np.full(5, 60.0), np.full(9, 50.0), (), DRAWS)
    assert (found.effect, found.verdict) == ("+10.0 points (+10.0 to +10.0)", "holds")


def test_one_kind_is_compared_with_another_within_what_is_the_same(make_system, make_evidence):
    systems = [
        make_system(base=base, scorer=scorer, recalls={1: recall, 2: recall})
        for base, scorer, recall in (("a", "mean", 50), ("a", "mug", 60), ("b", "mean", 70), ("b", "mug", 60))
    ]
    recalls = make_evidence(*systems).of("R@1")
    found = compare(
        recalls, better={"scorer": "mug"}, worse={"scorer.kind": "mean"}, within=("base", "clips"), draws=DRAWS
    )
    assert [(row.what, row.effect.split(" ")[0], row.verdict) for row in found] == [
        ("a-mug − a-mean (R@1, 1 clip)", "+10.0", "holds"),
        ("a-mug − a-mean (R@1, 2 clips)", "+10.0", "holds"),
        ("b-mug − b-mean (R@1, 1 clip)", "-10.0", "does not hold"),
        ("b-mug − b-mean (R@1, 2 clips)", "-10.0", "does not hold"),
    ]
    both_ways = pairs(recalls, better={"clips": 1}, worse={"scorer": "mean", "clips": 1}, within=())
    assert [str(pair) for pair in both_ways] == [
        "a-mean − b-mean (R@1, 1 clip)",
        "a-mug − a-mean (R@1, 1 clip)",
        "a-mug − b-mean (R@1, 1 clip)",
        "b-mean − a-mean (R@1, 1 clip)",
        "b-mug − a-mean (R@1, 1 clip)",
        "b-mug − b-mean (R@1, 1 clip)",
    ]


def test_a_pair_is_named_by_what_is_compared_with_the_clips_and_seeds(make_system, make_evidence):
    systems = [make_system(scorer="mean", recalls={1: 1, 4: 2})]
    systems += [make_system(scorer="mean", recipe="half", seed=seed, recalls={4: 3}) for seed in (0, 1)]
    recalls = make_evidence(*systems).of("R@1")

    def names(better, worse):
        return [str(pair) for pair in pairs(recalls, better=better, worse=worse, within=("base",))]

    assert names({"recipe": None, "clips": 4}, {"recipe": None, "clips": 1}) == ["clip-mean: 4 clips − 1 clip (R@1)"]
    assert names({"recipe": "half"}, {"recipe": None, "clips": 1}) == [
        "clip-half-mean (4 clips) − clip-mean (1 clip) (R@1, 2 and 1 seeds)"
    ]


def test_one_is_singular():
    assert [num_clips(count) for count in (1, 4)] == ["1 clip", "4 clips"]
    assert [num_seeds(1, 1), num_seeds(3, 3), num_seeds(3, 1)] == ["1 seed", "3 seeds", "3 and 1 seeds"]
