import pytest

from stillmotion.claims.claim import Source
from stillmotion.claims.compare import Measurement
from stillmotion.report.findings import findings, tally
from stillmotion.report.first_videos import SHOWN
from stillmotion.report.systems import task_tables


def claims_with(*verdicts):
    source = Source("x", "")
    for place in range(len(verdicts)):
        source.claim(f"claim {place}", section="1")(lambda evidence: [])
    rows = [[Measurement("a − b", "+1.0", verdict, ()) for verdict in of_claim] for of_claim in verdicts]
    return [list(zip(source.claims, rows, strict=True))]


def test_a_claim_counts_once_and_is_mixed_where_its_measurements_disagree():
    claims = claims_with(["holds", "holds"], ["does not hold"], ["holds", "undecided"], ["not comparable"], [])
    assert tally(claims) == {"hold": 1, "do not hold": 1, "undecided or mixed": 2, "not measured in this run": 1}
    ours = [[(claims[0][0][0], [Measurement("a", "b", "holds", (), is_ours=True)])]]
    assert tally(ours)["not measured in this run"] == 1


@pytest.fixture
def evidence(make_system, make_selection, make_evidence):
    t2v = {"R@1": 10.0, "ci95": {"R@1": [5.0, 15.0]}}
    mean, mug = (
        make_system(scorer=name, recalls={1: value}, metrics={"t2v": t2v | {"R@1": value}})
        for name, value in (("mean", 10), ("mug", 35))
    )
    shows = {"clip-mug": [SHOWN[0], SHOWN[2], SHOWN[3], SHOWN[3], SHOWN[1]]}
    selections = make_selection("vc1", "none", [0.6] * 4), make_selection("vc2", "none", [0.2] * 4)
    top1 = {"4": {"mean": 20.0, "std": 1.0}}
    named = make_system("actions", metrics={"zero_shot": {"top1": 30.0}, "top1": top1}, protocol={"chance_top1": 25.0})
    return make_evidence(mean, mug, *selections, named, first_shows=shows, num=5)


def test_the_findings_are_a_line_each_and_name_what_says_so(evidence):
    lines = findings(evidence, task_tables(evidence), claims_with(["holds"], []))
    assert [line.text for line in lines] == [
        "Of changes in one thing, retrieval gains most by clip-mug over clip-mean, 25.0 points of R@1 (25.0 to 25.0).",
        "By its first seed, clip-mug puts a wrong video first for 80 % of the captions; of these 25 % show the "
        "described thing in other motions, 25 % a described event.",
        # the difference is turned, so that it is a gain
        "Of changes in one thing, moment retrieval gains most by clip-vc1_none over clip-vc2_none, 100.0 points of "
        "R1@0.5 (100.0 to 100.0).",
        "clip names 30.0 % of actions zero-shot (chance 25.0); 4 shots reach 20.0 %.",
        "Of 2 published conclusions 1 hold, 1 not measured in this run.",
    ]
    assert [[(origin.task, origin.key) for origin in line.origins] for line in lines] == [
        [("retrieval", "clip-mug"), ("retrieval", "clip-mean")],
        [("retrieval", "clip-mug")],
        [("moments", "clip-vc2_none"), ("moments", "clip-vc1_none")],
        [("actions", "clip"), ("actions", "clip")],
        [],
    ]
    assert lines[-1].section == "claims"


def test_a_gain_whose_interval_has_zero_may_be_chance(make_selection, make_evidence):
    both = make_selection("vc1", "none", [0.6, 0.2, 0.2, 0.2]), make_selection("vc2", "none", [0.2, 0.6, 0.6, 0.2])
    evidence = make_evidence(*both)
    (line,) = findings(evidence, {}, [])
    assert line.text.startswith(
        "Of changes in one thing, moment retrieval gains most by clip-vc2_none over clip-vc1_none, 25.0 points"
    )
    assert line.text.endswith(", which may be chance).")


@pytest.mark.parametrize(
    ("low", "told"), [(24.0, "(chance 25.0, which its interval contains)"), (26.0, "(chance 25.0)")]
)
def test_naming_that_may_be_a_guess_is_told_as_such(make_system, make_evidence, low, told):
    zero_shot = {"top1": 30.0, "ci95": {"top1": [low, 40.0]}}
    top1 = {"4": {"mean": 20.0, "std": 1.0}}
    protocol = {"chance_top1": 25.0}
    evidence = make_evidence(make_system("actions", metrics={"zero_shot": zero_shot, "top1": top1}, protocol=protocol))
    (line,) = findings(evidence, task_tables(evidence), [])
    assert line.text.startswith(f"clip names 30.0 % of actions zero-shot {told};")


def test_where_nothing_was_measured_there_is_nothing_to_say(make_evidence):
    assert findings(make_evidence(), {}, []) == []
