import csv
from pathlib import Path

from stillmotion.claims.claim import Source
from stillmotion.claims.mug_stan import MUG_STAN
from stillmotion.claims.thesis import THESIS
from stillmotion.claims.vclipper import VCLIPPER
from stillmotion.claims.video_llama import VIDEO_LLAMA
from stillmotion.report.page import SOURCES

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = [claim for source in SOURCES for claim in source.claims]


def test_a_claim_is_whole_where_its_measure_is_defined():
    source = Source("a source", "its rules")

    @source.claim("It helps", section="4.1", rule="By R@1.", experiment=("one", "two"))
    def it_helps(evidence):
        return []

    (claim,) = source.claims
    assert (claim.id, claim.text, claim.section, claim.rule) == ("it_helps", "It helps", "4.1", "By R@1.")
    assert claim.command == "stillmotion run one && stillmotion run two"
    assert claim.measure is it_helps


def test_a_claim_of_the_default_run_names_no_experiment():
    source = Source("a source", "")
    source.claim("It helps", section="1")(lambda evidence: [])
    assert (source.claims[0].experiments, source.claims[0].command) == ((), "dvc repro")


def test_the_conclusions_of_the_sources_are_claims():
    for source, least in ((THESIS, 14), (VCLIPPER, 9), (MUG_STAN, 9), (VIDEO_LLAMA, 9)):
        assert len(source.claims) >= least
    assert len({claim.id for claim in CLAIMS}) == len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_the_experiments_that_claims_and_counterparts_name_are_files():
    files = {path.stem for path in (ROOT / "experiments").glob("*.yaml")}
    assert files
    with (ROOT / "data" / "counterparts.csv").open(encoding="utf-8", newline="") as rows:
        of_counterparts = {row["experiment"] for row in csv.DictReader(rows)}
    of_claims = {name for claim in CLAIMS for name in claim.experiments}
    assert (of_claims | of_counterparts) - files == set(), "no such file in experiments/"
