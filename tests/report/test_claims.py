import numpy as np

from stillmotion.report.claims import (
    MOMENT_CLAIMS,
    MOMENT_RULES,
    MUG_STAN_CLAIMS,
    MUG_STAN_RULES,
    THESIS_CLAIMS,
    THESIS_RULES,
    Claim,
    claims_table,
)
from stillmotion.report.measurement import Measurement

CLAIMS = THESIS_CLAIMS + MOMENT_CLAIMS + MUG_STAN_CLAIMS


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def claim(measurements, command="dvc exp run -S a=1"):
    return Claim("x", "It helps", "4.1", lambda evidence: measurements, command)


def test_a_claim_has_a_row_for_each_measurement_and_stands_in_the_first(make_evidence):
    found = [Measurement("a − b", "+1.0 points", "holds"), Measurement("c − d", "-1.0 points", "undecided")]
    header, _, *rows = rows_of(claims_table(make_evidence(), [claim(found)]))
    assert header == ["conclusion (section)", "measured, or what would measure it", "effect", "verdict"]
    assert rows == [
        ["It helps (4.1)", "a − b", "+1.0 points", "holds"],
        ["", "c − d", "-1.0 points", "undecided"],
    ]


def test_what_the_source_does_not_have_is_marked_and_measures_none_of_its_claims(make_evidence):
    ours = Measurement("a − b", "+1.0 points", "holds", is_ours=True)
    rows = rows_of(claims_table(make_evidence(), [claim([ours])]))[2:]
    assert rows == [
        ["It helps (4.1)", "`dvc exp run -S a=1`", "–", "not measured here"],
        ["", "a − b, ours", "+1.0 points", "holds"],
    ]
    rows = rows_of(claims_table(make_evidence(), [claim([Measurement("c − d", "+2.0 points", "holds"), ours])]))[2:]
    assert [row[1] for row in rows] == ["c − d", "a − b, ours"]


def test_a_claim_without_evidence_says_the_command_in_one_line(make_evidence):
    table = claims_table(make_evidence(), [claim([], "dvc exp run -S a=1 \\\n  -S b=2\nstillmotion ablate x")])
    expected = "`dvc exp run -S a=1 -S b=2 && stillmotion ablate x`"
    assert rows_of(table)[2] == ["It helps (4.1)", expected, "–", "not measured here"]


def test_without_any_evidence_every_claim_says_how_to_measure_it(make_run, make_evidence):
    found = make_evidence(run=make_run(models=[], probed=[], assessed=[], selected=[]))
    rows = rows_of(claims_table(found, CLAIMS))[2:]
    assert [row[3] for row in rows] == ["not measured here"] * len(CLAIMS)
    commands = (
        "`dvc exp run -S ",
        "`stillmotion ablate ",
        "`dvc repro`",
        "`make moments`",
        "`make retrieval`",
        "`make alignment`",
        "`make heads`",
        "`make pretraining`",
        "`make recognition`",
        "`make resources`",
    )
    assert all(row[1].startswith(commands) for row in rows)


def test_the_main_conclusions_of_the_sources_are_claims():
    names = {claim.id for claim in CLAIMS}
    assert len(names) == len(CLAIMS)
    assert names >= {
        "more_frames",
        "small_reaches_large",
        "only_embeddings_frozen",
        "half_patches",
        "half_patches_flops",
        "few_shots",
        "larger_batches",
        "larger_batches_aggregator",
        "smoothing_vc1",
        "smoothing_vc2",
        "norm",
        "adjust_norm",
        "short_windows",
        "cuts",
        "stan",
        "mug",
        "mug_bottom",
        "mug_stan",
        "stan_recognition",
    }


def test_the_rules_state_the_margins_that_are_applied():
    assert "against −2 points" in THESIS_RULES
    assert "42 to 48 %" in THESIS_RULES
    assert "10 points in place of zero" in MOMENT_RULES
    assert "`_mug` behind it" in MUG_STAN_RULES


def test_a_measured_claim_of_the_list_says_so(make_evidence):
    hits = {"clip-mean": {1: np.zeros(20), 4: np.full(20, 100.0)}}
    found = make_evidence(hits=hits, actions={"clip": {"top1": {}, "zero_shot": {}}})
    rows = rows_of(claims_table(found, THESIS_CLAIMS))
    expected = [
        "More frames through aggregation help (4.3, 5.2)",
        "clip-mean: 4 clips − 1 clip",
        "+100.0 points (+100.0 to +100.0)",
        "holds",
    ]
    assert rows[2] == expected
