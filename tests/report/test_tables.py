import pytest

from stillmotion.records import Caption, Moment, Video
from stillmotion.report.page import example_queries, results_page
from stillmotion.report.tables import (
    actions_table,
    markdown_table,
    moments_table,
    number,
    resources_table,
    retrieval_table,
    videos_table,
    with_interval,
)


def direction(r1, **more):
    values = {"R@1": r1, "R@5": 70.04, "R@10": 80.06, "MedR": 1.5, "MeanR": 3.0, "MRR": 72.27, "mAP": 72.27}
    return values | {"ci95": {"R@1": [r1 - 7.54, r1 + 7.46]}} | more


RETRIEVAL = {
    "clip-mean": {"t2v": direction(63.14), "v2t": direction(61.0)},
    "clip-class_token": {"t2v": direction(80.0, std={"R@1": 1.26}), "v2t": direction(79.0)},
}
MOMENTS = {
    "clip-vc1": {
        "brief": {"MR-full-R1@0.5": 53.94, "MR-full-R1@0.7": 34.84, "MR-full-mAP": 32.2},
        "full": {},
        "mIoU": 48.57,
        "frames": {"IoU": 41.06},
        "ci95": {"MR-full-R1@0.5": [50.0, 58.0], "MR-full-mAP": [30.0, 34.0], "mIoU": [45.0, 51.0]},
        "protocol": {"thresholds": {"parameters": {"threshold": 0.61234567, "window": 7}, "best_value": 55.27}},
    }
}
ACTIONS = {
    "clip": {
        "top1": {"1": {"mean": 30.04, "std": 2.0}, "16": {"mean": 55.57, "std": 0.5}},
        "zero_shot": {"top1": 12.5, "ci95": {"top1": [10.0, 15.0]}},
        "protocol": {"chance_top1": 12.5},
    }
}
RESOURCES = {
    "clip": {
        "parameters": 7654321,
        "trainable_parameters": 1234,
        "forward_flops": 12_345_678_901,
        "backward_flops": 24_000_000_000,
    }
}


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_table_has_its_first_column_left_and_the_others_right():
    assert markdown_table(["a", "b", "c"], [["x", "1", "2"]]) == "| a | b | c |\n|---|---:|---:|\n| x | 1 | 2 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"


def test_a_cell_can_end_neither_itself_nor_its_row():
    table = markdown_table(["video", "reason"], [["a|b", "line\nbreak"]])
    assert table.splitlines()[2:] == ["| a\\|b | line break |"]


@pytest.mark.parametrize(
    ("value", "digits", "shown"), [(63.14, 1, "63.1"), (0, 1, "0.0"), (None, 1, "–"), (2.006, 2, "2.01")]
)
def test_a_number_is_rounded_and_a_missing_one_a_dash(value, digits, shown):
    assert number(value, digits) == shown


def test_a_value_stands_with_its_interval_where_it_has_one():
    assert with_interval({"R@1": 63.14, "ci95": {"R@1": [55.6, 70.6]}}, "R@1") == "63.1 (55.6 to 70.6)"
    assert with_interval({"R@1": 63.14}, "R@1") == "63.1"
    assert with_interval({}, "R@1") == "–"


def test_retrieval_shows_both_directions_as_given():
    header, _, mean, class_token = rows_of(retrieval_table(RETRIEVAL))
    assert header == ["system", "T2V R@1", "± seeds", "R@5", "R@10", "MedR", "MRR", "V2T R@1"]
    assert mean == [
        "clip-mean",
        "63.1 (55.6 to 70.6)",
        "–",
        "70.0",
        "80.1",
        "1.5",
        "72.3",
        "61.0 (53.5 to 68.5)",
    ]
    assert class_token[1:3] == ["80.0 (72.5 to 87.5)", "1.3"]


def test_moments_show_the_official_numbers_as_given():
    header, _, row = rows_of(moments_table(MOMENTS))
    assert header[1:4] == ["R1@0.5", "R1@0.7", "mAP"]
    expected = ["53.9 (50.0 to 58.0)", "34.8", "32.2 (30.0 to 34.0)", "48.6 (45.0 to 51.0)", "41.1", "–"]
    assert row == ["clip-vc1", *expected]
    rated = {"clip-vc1": MOMENTS["clip-vc1"] | {"brief": MOMENTS["clip-vc1"]["brief"] | {"HL-min-VeryGood-Hit1": 60.0}}}
    assert rows_of(moments_table(rated))[2][-1] == "60.0"


def test_actions_show_zero_shot_and_every_number_of_shots():
    header, _, row = rows_of(actions_table(ACTIONS))
    assert header == ["model", "zero-shot", "1 shots", "16 shots"]
    assert row == ["clip", "12.5 (10.0 to 15.0)", "30.0 ± 2.0", "55.6 ± 0.5"]


def test_a_model_without_a_probe_has_a_dash_there():
    more = ACTIONS | {"other": ACTIONS["clip"] | {"top1": {"1": {"mean": 20.0, "std": 1.0}}}}
    assert rows_of(actions_table(more))[3][2:] == ["20.0 ± 1.0", "–"]


def test_resources_show_parameters_in_full_and_flops_in_billions():
    assert rows_of(resources_table(RESOURCES))[2] == ["clip", "7,654,321", "1,234", "12.35", "24.00"]


def test_empty_metrics_say_what_the_dataset_lacks():
    empty = {"x": {"t2v": None, "v2t": None}}
    assert retrieval_table(empty) == "The dataset has no captions of whole videos in its test split."
    assert moments_table({"x": {"protocol": {}}}) == "The dataset has no moments in its train or test split."
    assert actions_table({"x": {"zero_shot": None, "top1": {}}}) == "The dataset has no actions in its test split."


def test_a_system_without_a_result_is_left_out_beside_one_that_has():
    assert len(rows_of(retrieval_table(RETRIEVAL | {"x": {"t2v": None, "v2t": None}}))) == 4


def video(video_id, split, status="ok"):
    return Video(video_id, f"{video_id}.mp4", split, 10.0, 25.0, 250, 64, 64, "h264", status)


VIDEOS = [video("a", "train"), video("b", "train", "truncated | at 3 s"), video("c", "test")]
CAPTIONS = [Caption("a0", "a", "x", None, None), Caption("c0", "c", "x", None, None), Caption("c1", "c", "x", 0.0, 1.0)]
QUERIES = [Moment(1, "q", "c", 10.0, [[0.0, 2.0]], [0], [])]


def test_videos_captions_and_queries_are_counted_by_split():
    rows = rows_of(videos_table(VIDEOS, CAPTIONS, QUERIES))[2:]
    assert rows == [["train", "2", "1", "1", "0"], ["validation", "0", "0", "0", "0"], ["test", "1", "0", "2", "1"]]


def page(**changes):
    found = {"retrieval": RETRIEVAL, "moments": MOMENTS, "actions": ACTIONS, "resources": RESOURCES}
    plain = {
        "dataset": "toy",
        "found": found,
        "videos": VIDEOS,
        "captions": CAPTIONS,
        "moments": QUERIES,
        "figures": ["actions", "finetune", "moments", "retrieval"],
        "example_system": "clip-vc1",
        "differences": {"retrieval": "| paired retrieval |", "moments": ""},
    }
    return results_page(**{**plain, **changes})


def test_the_page_holds_every_table_figure_and_threshold_and_the_videos_left_out():
    text = page()
    assert text.startswith("# Results on toy\n\n")
    for table in (
        retrieval_table(RETRIEVAL),
        moments_table(MOMENTS),
        actions_table(ACTIONS),
        resources_table(RESOURCES),
    ):
        assert table in text
    for name in ("actions", "finetune", "moments", "retrieval"):
        assert text.count(f"![{name}](figures/{name}.svg)") == 1
    assert "| clip-vc1 | threshold 0.6123, window 7 | 55.3 |" in text
    assert text.count("| paired retrieval |") == 1
    assert "1 videos are left out:" in text
    assert "| b | train | truncated \\| at 3 s |" in text


def test_a_page_of_a_dataset_with_nothing_to_score_still_stands():
    found = {
        "retrieval": {"x": {"t2v": None, "v2t": None}},
        "moments": {"x": {"protocol": {"thresholds": None}}},
        "actions": {"x": {"top1": {}, "zero_shot": None}},
        "resources": RESOURCES,
    }
    text = page(found=found, captions=[], moments=[], figures=[], videos=[video("a", "train")])
    assert "![" not in text
    assert "left out:" not in text
    assert "Thresholds" not in text
    assert text.count("The dataset has no ") == 3


def test_of_many_videos_left_out_the_first_fifty_are_listed_and_the_rest_counted():
    text = page(videos=[video(f"v{row:03}", "test", "corrupt") for row in range(60)])
    assert "60 videos are left out:" in text
    assert text.count("| test | corrupt |") == 50
    assert "… and 10 more" in text


def test_examples_run_from_the_best_to_the_worst_top_window():
    queries = [
        {"qid": qid, "query": f"q{qid}", "vid": "v", "top1_iou": iou, "true_windows": [[0.0, float(qid)]]}
        for qid, iou in [(1, 0.2), (2, 0.9), (3, 0.5), (4, 0.0), (5, 0.9)]
    ]
    rows = [
        {"pred_saliency_scores": [query["qid"]], "pred_relevant_windows": [[0.0, 2.0, query["qid"]]]}
        for query in queries
    ]
    examples = example_queries(queries, rows, 3)
    # by IoU, then number: 2, 5, 3, 1, 4
    assert [example["title"] for example in examples] == [
        "“q2” in v: IoU 0.90",
        "“q3” in v: IoU 0.50",
        "“q4” in v: IoU 0.00",
    ]
    assert [example["curve"] for example in examples] == [[2], [3], [4]]
    assert [example["true_windows"] for example in examples] == [[[0.0, 2.0]], [[0.0, 3.0]], [[0.0, 4.0]]]
    assert [example["predicted_windows"][0][2] for example in examples] == [2, 3, 4]
    assert len(example_queries(queries, rows, 9)) == 5
    assert len(example_queries(queries, rows, 1)) == 1
    assert example_queries([], [], 3) == []
