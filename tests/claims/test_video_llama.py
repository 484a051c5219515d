import pytest

from stillmotion.claims import video_llama
from stillmotion.claims.video_llama import REPORT

BLOCK = {name.removeprefix("scorer."): value for name, value in REPORT.items()}
STATES = {"kind": "hidden_states", "video_pooling": "mean", "text_pooling": "mean"}
MEANS = {"video_pooling": "mean", "text_pooling": "mean"}
ALIGNED = {"kind": "mlp_head", "inputs": "standardised", "loss": "infonce"} | MEANS
BEFORE, AFTER = {"layer": "before_llm"}, {"layer": "last"}
SCORERS = {
    "before": STATES | BEFORE,
    "after": STATES | AFTER,
    "aligned_before": ALIGNED | BEFORE,
    "aligned_middle": ALIGNED | {"layer": "layer:2"},
    "aligned_after": ALIGNED | AFTER,
    "aligned_max": ALIGNED | BEFORE | {"video_pooling": "max", "text_pooling": "max"},
    "report": BLOCK | MEANS | BEFORE,
    "low_rate": BLOCK | MEANS | BEFORE | {"learning_rate": 1e-5},
    "contrastive": BLOCK | MEANS | BEFORE | {"loss": "contrastive"},
    "standardised": BLOCK | MEANS | BEFORE | {"inputs": "standardised"},
    "infonce": BLOCK | MEANS | BEFORE | {"loss": "infonce"},
    "mean": {"kind": "mean"},
}


@pytest.fixture
def verdicts(make_system, make_evidence):
    """What a claim says of systems with these R@1; of 20 queries chance is 5."""

    def verdicts(claim, **recalls):
        empty = {name: {} for name in ("expansions", "recipes", "selections", "shot_detectors")}
        systems = [
            make_system(scorer=name, recalls={1: value}, protocol={"gallery_size": 20})
            for name, value in recalls.items()
        ]
        evidence = make_evidence(*systems, params=empty | {"scorers": SCORERS}, num=20)
        return [(row.what, row.effect.split(" ")[0], row.verdict) for row in getattr(video_llama, claim)(evidence)]

    return verdicts


def test_states_up_to_three_points_above_chance_are_at_chance(verdicts):
    found = verdicts("unaligned_is_chance", before=5, after=20, mean=50)
    assert found == [("chance − clip-before", "+0.0", "holds"), ("chance − clip-after", "-15.0", "does not hold")]


def test_a_recipe_that_gains_less_than_ten_points_on_its_states_fails(verdicts):
    assert verdicts("squared_error_fails", before=5, report=9) == [("clip-before − clip-report", "-4.0", "holds")]
    assert verdicts("squared_error_fails", before=5, report=40)[0][2] == "does not hold"
    assert verdicts("squared_error_fails", before=5) == []


def test_settings_are_judged_one_by_one(verdicts):
    found = verdicts("its_settings_do_not_mend_it", before=5, report=9, low_rate=6, contrastive=40, standardised=60)
    assert [row[1:] for row in found] == [("-1.0", "holds"), ("-35.0", "does not hold")]
    found = verdicts("what_makes_it_fail", before=5, report=9, low_rate=6, standardised=60)
    assert [row[1:] for row in found] == [("+51.0", "holds")]
    assert [row[1:] for row in verdicts("infonce_mends_it", report=9, infonce=38)] == [("+29.0", "does not hold")]


def test_aligned_layers_are_compared_with_their_own_states_and_with_each_other(verdicts):
    recalls = {"before": 5, "after": 5, "aligned_before": 60, "aligned_middle": 70, "aligned_after": 20}
    assert [row[1:] for row in verdicts("alignment_works", **recalls)] == [
        ("+55.0", "holds"),
        ("+15.0", "does not hold"),
    ]
    assert [row[1:] for row in verdicts("after_is_better", **recalls)] == [("-40.0", "does not hold")]
    assert [row[1:] for row in verdicts("middle_layers_are_best", **recalls)] == [
        ("+10.0", "holds"),
        ("+50.0", "holds"),
    ]


def test_another_pooling_within_ten_points_matters_little(verdicts):
    assert [row[1:] for row in verdicts("poolings_matter_little", aligned_before=60, aligned_max=55)] == [
        ("-5.0", "holds")
    ]
