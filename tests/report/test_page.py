import pytest

from stillmotion.claims.claim import Source, open_claims
from stillmotion.claims.compare import Measurement
from stillmotion.claims.evidence import Search
from stillmotion.claims.systems import Origin
from stillmotion.io.records import Caption, Moment, Video
from stillmotion.report.page import SOURCES, claim_rows, left_out, results_page, split_counts


def rows_of(page, heading):
    """Rows of the table that begins with a heading."""
    lines = page.splitlines()
    (start,) = [place for place, line in enumerate(lines) if line.startswith(f"| {heading} |")]
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    assert set("".join(rows[1])) <= set("|-:"), rows[1]
    assert all(len(row) == len(rows[0]) for row in rows[2:]), rows
    return [rows[0], *rows[2:]]


def video(video_id, split, status="ok"):
    return Video(video_id, f"{video_id}.mp4", split, 10.0, 25.0, 250, 64, 64, "h264", status)


VIDEOS = [video("a", "train"), video("b", "train", "truncated | at 3 s"), video("c", "test")]
CAPTIONS = [Caption("a0", "a", "x", None, None), Caption("c0", "c", "x", None, None), Caption("c1", "c", "x", 0.0, 1.0)]
QUERIES = [Moment(1, "q", "c", 10.0, [[0.0, 2.0]], [0], [])]
FIGURES = ["actions", "clips", "iou_distribution", "moments", "retrieval"]


@pytest.fixture
def page_of(make_evidence):
    def page(*systems, searches=None, videos=VIDEOS, figures=(), captions=CAPTIONS, **found):
        evidence = make_evidence(*systems, searches=searches or {}, **found)
        splits = split_counts(videos, captions, QUERIES if captions else [])
        claims = [source.measured(evidence) for source in SOURCES]
        return results_page(evidence, splits, claims, videos=videos, figures=figures)

    return page


def direction(r1, **more):
    values = {"R@1": r1, "R@2": 66.67, "R@5": 70.04, "R@10": 80.06, "MedR": 1.5, "MeanR": 3.0, "MRR": 72.27}
    return values | {"mAP": 72.27, "ci95": {"R@1": [r1 - 7.54, r1 + 7.46]}} | more


def ranked(*r1, v2t, **more):
    """Metrics of retrieval with text-to-video R@1 for 1, 2, … clips."""
    by_num_clips = {str(clips): {"t2v": direction(value, **more)} for clips, value in enumerate(r1, start=1)}
    return {"t2v": direction(r1[-1], **more), "v2t": direction(v2t), "by_num_clips": by_num_clips}


@pytest.fixture
def retrieval(make_system):
    return [
        make_system(scorer="mean", metrics=ranked(50.0, 63.14, v2t=61.0)),
        make_system(scorer="class_token", metrics=ranked(60.0, 70.0, 80.0, v2t=79.0, std={"R@1": 1.26})),
        make_system(scorer="own", metrics=ranked(55.0, v2t=1.0)),
        make_system(scorer="mug"),
    ]


def test_retrieval_shows_both_directions_as_given_and_no_system_without_a_result(page_of, retrieval):
    header, mean, class_token, own = rows_of(page_of(*retrieval), "system | T2V R@1")
    assert header == ["system", "T2V R@1", "± seeds", "R@2", "R@5", "R@10", "MedR", "MRR", "V2T R@1"]
    assert mean == [
        "clip-mean",
        "63.1 (55.6 to 70.6)",
        "–",
        "66.7",
        "70.0",
        "80.1",
        "1.5",
        "72.3",
        "61.0 (53.5 to 68.5)",
    ]
    assert class_token[1:3] == ["80.0 (72.5 to 87.5)", "1.3"]
    assert own[0] == "clip-own"


def test_recall_is_shown_by_number_of_clips_and_a_number_that_a_system_lacks_is_a_dash(page_of, retrieval):
    assert rows_of(page_of(*retrieval), "T2V R@1 | 1 clip") == [
        ["T2V R@1", "1 clip", "2 clips", "3 clips"],
        ["clip-mean", "50.0 (42.5 to 57.5)", "63.1 (55.6 to 70.6)", "–"],
        ["clip-class_token", "60.0 (52.5 to 67.5)", "70.0 (62.5 to 77.5)", "80.0 (72.5 to 87.5)"],
    ]
    assert "by number of clips" not in page_of(*retrieval[2:])


def test_systems_that_know_all_queries_are_named(page_of, make_system, retrieval):
    text = page_of(*retrieval, make_system(scorer="mug_dual_softmax"))
    assert "With dual softmax, which ranks with all test queries at hand: clip-mug_dual_softmax.\n" in text
    assert "With dual softmax, which" not in page_of(*retrieval)


def test_actions_show_zero_shot_and_every_number_of_shots(page_of, make_system):
    def probed(base, **top1):
        zero_shot = {"top1": 12.5, "ci95": {"top1": [10.0, 15.0]}}
        chance = {"chance_top1": 12.5}
        return make_system("actions", base=base, metrics={"top1": top1, "zero_shot": zero_shot}, protocol=chance)

    one, sixteen = {"mean": 30.04, "std": 2.0, "runs": [1, 2]}, {"mean": 55.57, "std": 0.5, "runs": [1, 2]}
    assert rows_of(
        page_of(probed("clip", **{"1": one, "16": sixteen}), probed("b", **{"1": one})), "model | zero-shot"
    ) == [
        ["model", "zero-shot", "1 shots", "16 shots"],
        ["clip", "12.5 (10.0 to 15.0)", "30.0 ± 2.0", "55.6 ± 0.5"],
        ["b", "12.5 (10.0 to 15.0)", "30.0 ± 2.0", "–"],
    ]


def test_resources_show_parameters_in_full_and_flops_in_billions(page_of, make_system):
    cost = {"parameters": 7654321, "trainable_parameters": 1234}
    cost |= {"forward_flops": 12_345_678_901, "backward_flops": 24_000_000_000}
    page = page_of(make_system("resources", metrics=cost))
    assert rows_of(page, "model | parameters")[1] == ["clip", "7,654,321", "1,234", "12.35", "24.00"]


def test_videos_captions_and_queries_are_counted_by_split_and_those_left_out_named(page_of):
    page = page_of()
    assert rows_of(page, "split")[1:] == [
        ["train", "2", "1", "1", "0"],
        ["validation", "0", "0", "0", "0"],
        ["test", "1", "0", "2", "1"],
    ]
    assert "1 videos are left out:" in page
    assert "| b | train | truncated &#124; at 3 s |" in page


def test_of_many_videos_left_out_the_first_fifty_are_listed_and_the_rest_counted(page_of):
    text = page_of(videos=[video(f"v{row:03}", "test", "corrupt") for row in range(60)])
    assert "60 videos are left out:" in text
    assert text.count("| test | corrupt |") == 50
    assert "… and 10 more" in text


def test_videos_left_out_are_counted_by_split_and_reason_the_most_frequent_first():
    lost = [video("d", "test", "corrupt"), video("e", "train", "corrupt"), video("f", "test", "a"), VIDEOS[1]]
    table = left_out([*VIDEOS, *lost])
    assert table.header == ["videos left out because", "train", "validation", "test"]
    ((_, rows),) = table.groups.items()
    # of two each by name
    assert [(row.name, row.values) for row in rows] == [
        ("corrupt", [1, None, 1]),
        ("truncated | at 3 s", [2, None, None]),
        ("a", [None, None, 1]),
    ]
    assert {row.origin for row in rows} == {Origin("frames", "skipped")}
    assert left_out([VIDEOS[0]]) is None


def test_moments_show_the_official_numbers_and_mark_frames_that_are_of_the_top_window(
    page_of, make_selection, make_system, moment_metrics
):
    brief = moment_metrics["brief"] | {"HL-min-VeryGood-Hit1": 60.0}
    protocol = {"kind": "reference", "frames_from": "top window"}
    oracle = make_system("moments", scorer="oracle", metrics=moment_metrics | {"brief": brief}, protocol=protocol)
    page = page_of(make_selection("vc1", "none", [0.5]), oracle)
    header, title, row, other, reference = rows_of(page, "system | R1@0.5")
    assert header[5:] == ["frame IoU", "coverage", "selected", "HL Hit1", "empty"]
    assert title == ["**Selections, thresholds searched for windows**", *[""] * 9]
    assert other[0].startswith("**References")
    assert row == [
        "clip-vc1_none",
        "53.9 (50.0 to 58.0)",
        "34.8",
        "32.2 (30.0 to 34.0)",
        "48.6 (45.0 to 51.0)",
        "41.1 (39.0 to 43.0)",
        "71.2",
        "22.2",
        "–",
        "3",
    ]
    assert (reference[5], reference[8]) == ("41.1 (39.0 to 43.0) †", "60.0")


def test_the_page_holds_each_figure_once_and_leaves_out_what_is_long(page_of, make_selection, make_system, retrieval):
    selections = [make_selection("vc1", post, [iou] * 9) for post, iou in (("none", 0.0), ("norm", 1.0))]
    assessed = make_system("assessment", metrics={"IoU": {"0.5": 1.0}, "mean_IoU": 1.0, "ci95": {}})
    page = page_of(
        *retrieval,
        *selections,
        assessed,
        searches={row["key"]: Search([], []) for row in selections},
        figures=[*FIGURES, "attention-b"],
        studies={"batch_size": {"title": "Batches of fine-tuning", "points": []}},
    )
    assert page.startswith("# Results on toy\n\n")
    for name in FIGURES:
        assert page.count(f"![{name}](figures/{name}.svg)") == 1
    assert not [long for long in ("attention-b", "Thresholds", "Assessment") if long in page]
    assert "| clip-vc1_norm − clip-vc1_none (R1@0.5) | +100.0 points (+100.0 to +100.0) | holds |" in page
    assert "Queries from the best to the worst of clip-vc1_none:" in page
    assert "- [Batches of fine-tuning](../ablations/batch_size.md)" in page
    assert "- Not measured in this run, but by `stillmotion run alignment`: STAN is above mean pooling, " in page
    assert "\n\n\n" not in page
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(set(headings)) == len(headings) == 7


def test_a_page_of_a_dataset_with_nothing_to_score_still_stands(page_of, make_system):
    nothing = [
        make_system(scorer="mean"),
        make_system("moments", scorer="vc1", protocol={"kind": "selection", "thresholds": None}),
        make_system("assessment", metrics={"IoU": {}, "mean_IoU": None, "ci95": {}}),
        make_system("actions"),
    ]
    page = page_of(*nothing, captions=[], videos=[video("a", "train")])
    assert "![" not in page
    for absent in ("left out:", "### ", "by number of clips", "## Studies", "Full-size"):
        assert absent not in page.partition("## Claims")[0]
    assert page.count("The dataset has no ") == 3
    assert page_of().count("params.yaml names no ") == 2


def claim_of(*measurements, experiment="retrieval"):
    source = Source("a source", "")
    source.claim("It helps", section="4.1", experiment=experiment)(lambda evidence: list(measurements))
    return source


def test_a_claim_has_a_row_for_each_measurement_and_stands_in_the_first(make_evidence):
    found = [Measurement("a − b", "+1.0 points", "holds", ()), Measurement("c − d", "-1.0 points", "undecided", ())]
    assert claim_rows(claim_of(*found).measured(make_evidence())) == [
        ["It helps (4.1)", "a − b", "+1.0 points", "holds"],
        ["", "c − d", "-1.0 points", "undecided"],
    ]
    assert claim_rows(claim_of().measured(make_evidence())) == []


def test_what_the_source_does_not_have_is_marked_and_measures_none_of_its_claims(make_evidence):
    ours, theirs = (Measurement("a − b", "+1.0 points", "holds", (), is_ours=is_ours) for is_ours in (True, False))
    found = claim_of(ours).measured(make_evidence())
    assert claim_rows(found) == [["It helps (4.1)", "a − b, ours", "+1.0 points", "holds"]]
    assert open_claims(found) == {"stillmotion run retrieval": ["It helps"]}
    assert open_claims(claim_of(theirs, ours).measured(make_evidence())) == {}
    assert open_claims(claim_of().measured(make_evidence())) == {"stillmotion run retrieval": ["It helps"]}


def test_an_id_and_a_reason_from_outside_are_no_markup_of_the_page(page_of):
    lost = video("a|b\n<img src=x>`c`\\", "test", "no\x1b[31m | stream")
    page = page_of(videos=[lost])
    (row,) = (line for line in page.splitlines() if line.startswith("| a"))
    assert row == r"| a&#124;b &lt;img src=x&gt;&#96;c&#96;&#92; | test | no&#92;x1b&#91;31m &#124; stream |"
