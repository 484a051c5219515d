from dataclasses import replace

import numpy as np
import pytest

from stillmotion.io.records import Caption, Moment, Video
from stillmotion.report.moment_tables import effects_table, moments_table, thresholds_table
from stillmotion.report.page import results_page
from stillmotion.report.tables import (
    actions_table,
    architectures_table,
    branches_table,
    clips_table,
    markdown_table,
    number,
    resources_table,
    retrieval_table,
    seeds_table,
    videos_table,
    with_interval,
)


def direction(r1, **more):
    values = {"R@1": r1, "R@2": 66.67, "R@5": 70.04, "R@10": 80.06, "MedR": 1.5, "MeanR": 3.0, "MRR": 72.27}
    return values | {"mAP": 72.27, "ci95": {"R@1": [r1 - 7.54, r1 + 7.46]}} | more


def system(*r1, v2t, **more):
    """A system of retrieval with text-to-video R@1 for 1, 2, … clips."""
    by_num_clips = {str(clips): {"t2v": direction(value, **more)} for clips, value in enumerate(r1, start=1)}
    values = {"t2v": direction(r1[-1], **more), "v2t": direction(v2t), "by_num_clips": by_num_clips}
    return values | {"protocol": {"clip_frames": 8}}


RETRIEVAL = {
    "clip-mean": system(50.0, 63.14, v2t=61.0),
    "clip-class_token": system(60.0, 70.0, 80.0, v2t=79.0, std={"R@1": 1.26}),
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


EMPTY = {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": {}}


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_table_has_its_first_column_left_and_the_others_right():
    assert markdown_table(["a", "b", "c"], [["x", "1", "2"]]) == "| a | b | c |\n|---|---:|---:|\n| x | 1 | 2 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"
    assert markdown_table(["a", "b", "c"], [], left=2).splitlines()[1] == "|---|---|---:|"


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


def test_the_seeds_of_a_recipe_are_averaged_and_what_has_one_seed_or_no_result_is_left_out():
    metrics = {"clip-a-mean": system(50.0, v2t=0.0), "clip-a_seed_1-mean": system(54.0, v2t=0.0)}
    metrics |= {"clip-a_seed_2-mean": EMPTY, "clip-b-mean": system(60.0, v2t=0.0)}
    # by hand: (50 + 54) / 2, and the sample deviation √(2² + 2²)
    assert rows_of(seeds_table(metrics)) == [
        ["T2V", "R@1", "R@5", "R@10", "median rank", "mean rank"],
        ["---", "---:", "---:", "---:", "---:", "---:"],
        ["clip-a-mean, 2 seeds", "52.0 ± 2.8", "70.0 ± 0.0", "80.1 ± 0.0", "1.5 ± 0.0", "3.0 ± 0.0"],
    ]
    assert seeds_table(RETRIEVAL) == ""


def test_recall_is_shown_by_number_of_clips_and_a_number_that_a_system_lacks_is_a_dash():
    found = RETRIEVAL | {"clip-conditional": system(55.0, v2t=1.0), "empty": EMPTY}
    assert rows_of(clips_table(found)) == [
        ["T2V R@1", "1 clip", "2 clips", "3 clips"],
        ["---", "---:", "---:", "---:"],
        ["clip-mean", "50.0 (42.5 to 57.5)", "63.1 (55.6 to 70.6)", "–"],
        ["clip-class_token", "60.0 (52.5 to 67.5)", "70.0 (62.5 to 77.5)", "80.0 (72.5 to 87.5)"],
    ]


def test_with_one_number_of_clips_there_is_no_table_of_clips():
    assert clips_table({"clip-conditional": system(55.0, v2t=1.0), "empty": EMPTY}) == ""


def step(keep_rate, frozen_blocks, forward, backward, memory=100.4):
    return {
        "keep_rate": keep_rate,
        "frozen_blocks": frozen_blocks,
        "forward_flops": forward,
        "backward_flops": backward,
        "peak_memory_mib": memory,
    }


ARCHITECTURES = {
    "b32": {
        "settings": {"family": "xclip"},
        "num_frames": 8,
        "batch_size": 6,
        "parameters": 196585855,
        "steps": [step(1.0, 0, 400e9, 800e9, 2500.6), step(0.5, 0, 220e9, 440e9), step(1.0, 3, 400e9, 600e9)],
    },
    "b16": {
        "settings": {"family": "xclip"},
        "num_frames": 8,
        "batch_size": 6,
        "parameters": 194929426,
        "steps": [step(0.25, 0, 100e9, 200e9)],
    },
}


def vit(family, architecture, num_frames, parameters, *steps):
    return {
        "architecture": f"{family}_{num_frames}",
        "settings": {"family": family, "architecture": architecture},
        "num_frames": num_frames,
        "batch_size": 6,
        "parameters": parameters,
        "steps": list(steps),
    }


def test_a_branch_is_held_to_the_clip_of_the_same_model_and_frames():
    metrics = ARCHITECTURES | {
        "clip": vit("clip", "ViT-B-32", 12, 100, step(1.0, 0, 400e9, 800e9, 1000.0), step(0.5, 0, 1e9, 1e9)),
        "clip_8": vit("clip", "ViT-B-32", 8, 100, step(1.0, 0, 1e9, 1e9, 1.0)),
        "stan": vit("stan", "ViT-B-32", 12, 130, step(1.0, 0, 600e9, 1000e9, 1510.0)),
        "stan_b16": vit("stan", "ViT-B-16", 12, 130, step(1.0, 0, 600e9, 1000e9, 1510.0)),
    }
    header, _, row = rows_of(branches_table(metrics))
    assert header == ["architecture", "against", "parameters", "forward", "backward", "memory"]
    assert row == ["stan", "clip_12", "× 1.30", "× 1.50", "× 1.25", "× 1.51"]
    assert branches_table(ARCHITECTURES) == ""


def test_architectures_show_what_patch_dropout_and_freezing_leave():
    header, _, b32, b16 = rows_of(architectures_table(ARCHITECTURES))
    assert header[2:] == [
        "forward GFLOPs",
        "backward GFLOPs",
        "memory in MiB",
        "forward, keep rate 0.5",
        "forward, keep rate 0.25",
        "backward, 3 blocks frozen",
    ]
    assert b32 == ["b32", "196,585,855", "400.0", "800.0", "2501", "× 0.55", "–", "× 0.75"]
    # nothing to compare with
    assert b16 == ["b16", "194,929,426", "–", "–", "–", "–", "–", "–"]


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
    empty = {"x": EMPTY}
    assert retrieval_table(empty) == "The dataset has no captions of whole videos in its test split."
    assert actions_table({}) == "params.run names no model that is probed."
    assert actions_table({"x": {"zero_shot": None, "top1": {}}}) == "The dataset has no actions in its test split."


def test_a_system_without_a_result_is_left_out_beside_one_that_has():
    assert len(rows_of(retrieval_table(RETRIEVAL | {"x": EMPTY}))) == 4


def video(video_id, split, status="ok"):
    return Video(video_id, f"{video_id}.mp4", split, 10.0, 25.0, 250, 64, 64, "h264", status)


VIDEOS = [video("a", "train"), video("b", "train", "truncated | at 3 s"), video("c", "test")]
CAPTIONS = [Caption("a0", "a", "x", None, None), Caption("c0", "c", "x", None, None), Caption("c1", "c", "x", 0.0, 1.0)]
QUERIES = [Moment(1, "q", "c", 10.0, [[0.0, 2.0]], [0], [])]


def test_videos_captions_and_queries_are_counted_by_split():
    rows = rows_of(videos_table(VIDEOS, CAPTIONS, QUERIES))[2:]
    assert rows == [["train", "2", "1", "1", "0"], ["validation", "0", "0", "0", "0"], ["test", "1", "0", "2", "1"]]


def full(make_selected):
    """Evidence of a run in which everything has a result but the assessment."""
    evidence = make_selected(vc1_none=[0.0] * 9, vc1_norm=[1.0] * 9)
    metrics = {"retrieval": RETRIEVAL, "actions": ACTIONS, "resources": RESOURCES, "architectures": ARCHITECTURES}
    hits = {system: {1: np.zeros(9)} for system in ("clip-transformer_mean", "clip-half_patches-transformer_mean")}
    hits |= {"clip-mean": {1: np.zeros(9)}, "clip-half_patches-mean": {1: np.full(9, 100.0)}}
    hits |= {"clip-class_token": {}, "clip-half_patches-class_token": {}}
    ablations = {"batch_size": {"title": "Batches of fine-tuning", "dataset": "toy", "points": []}}
    return replace(evidence, metrics={**evidence.metrics, **metrics}, hits=hits, ablations=ablations)


@pytest.fixture
def page(make_selected):
    """The page of a run with everything, or with changes to its evidence and to the arguments."""

    def make(evidence=None, **changes):
        evidence = replace(full(make_selected), **(evidence or {}))
        plain = {"videos": VIDEOS, "captions": CAPTIONS, "moments": QUERIES, "figures": FIGURES}
        return results_page(evidence, [], **{**plain, **changes})

    return make


HITS = [
    f"{model}-{head}" for model in ("clip", "clip-half_patches") for head in ("mean", "transformer_mean", "class_token")
]
FIGURES = [
    "actions",
    "assessment",
    "clips",
    "finetune",
    "iou_distribution",
    "moment_lengths",
    "moments",
    "optimisation",
    "retrieval",
    "sensitivity",
]


def test_systems_that_know_all_queries_are_named(page, make_selected):
    evidence = full(make_selected)
    tricks = {"clip-mug": "dual softmax over all test queries", "clip-conditional": "conditional texts for the top 20"}
    knowing = {
        name: RETRIEVAL["clip-mean"] | {"protocol": {"inference_tricks": trick}} for name, trick in tricks.items()
    }
    text = page({"metrics": {**evidence.metrics, "retrieval": RETRIEVAL | knowing}})
    assert "With dual softmax, which ranks with all test queries at hand: clip-mug.\n" in text
    assert "With dual softmax, which" not in page()


def test_the_seeds_of_a_recipe_stand_together_on_the_page(page, make_selected):
    evidence = full(make_selected)
    metrics = RETRIEVAL | {name: system(50.0, v2t=0.0) for name in ("clip-a-mean", "clip-a_seed_1-mean")}
    text = page({"metrics": {**evidence.metrics, "retrieval": metrics}})
    assert f"Text to video over the seeds of a recipe, mean ± standard deviation:\n\n{seeds_table(metrics)}\n" in text
    assert "over the seeds of a recipe" not in page()


def test_the_page_holds_every_table_and_figure_and_the_videos_left_out(page, make_selected):
    evidence = full(make_selected)
    assessed = {"clip": {"IoU": {"0.5": 41.0}, "mean_IoU": 41.0, "ci95": {"mean_IoU": [38.0, 43.0]}}}
    text = page({"metrics": {**evidence.metrics, "assessment": assessed}})
    assert text.startswith("# Results on toy\n\n")
    for table in (
        retrieval_table(RETRIEVAL),
        moments_table(evidence.metrics["moments"]),
        effects_table(evidence, []),
        thresholds_table(evidence),
        clips_table(RETRIEVAL),
        actions_table(ACTIONS),
        resources_table(RESOURCES),
        architectures_table(ARCHITECTURES),
    ):
        assert table
        assert table in text
    for name in FIGURES:
        assert text.count(f"![{name}](figures/{name}.svg)") == 1
    assert "| clip-vc1_none | 0.6123 | R1@0.5 | 55.3 |" in text
    assert "| clip-half_patches-mean − clip-mean | +100.0 (+100.0 to +100.0) |" in text
    assert "| clip-vc1_norm − clip-vc1_none, R1@0.5 | +100.0 points (+100.0 to +100.0) | holds |" in text
    assert "| clip | 41.0 | 41.0 (38.0 to 43.0) |" in text
    assert "Queries from the best to the worst of clip-vc1_none:" in text
    assert "- [Batches of fine-tuning](../ablations/batch_size.md)" in text
    assert "[published.md](published.md)" in text
    assert "| STAN is above mean pooling, fine-tuned alike (IV-D, table V) | `make alignment` |" in text
    assert "### Partial misalignment" not in text
    assert "1 videos are left out:" in text
    assert "| b | train | truncated \\| at 3 s |" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(set(headings)) == len(headings) == 8


def test_a_page_of_a_dataset_with_nothing_to_score_still_stands(page):
    metrics = {
        "retrieval": {"x": EMPTY},
        "moments": {"clip-vc1_none": {"protocol": {"kind": "selection", "thresholds": None}}},
        "assessment": {"clip": {"IoU": {}, "mean_IoU": None, "ci95": {}, "protocol": {}}},
        "actions": {"clip": {"top1": {}, "zero_shot": None}, "clip-half_patches": {"top1": {}, "zero_shot": None}},
        "resources": RESOURCES,
        "architectures": {},
    }
    nothing = {"metrics": metrics, "hits": dict.fromkeys(HITS, {}), "queries": {}, "studies": {}, "ablations": {}}
    text = page(nothing, captions=[], moments=[], figures=[], videos=[video("a", "train")])
    assert "![" not in text
    assert "left out:" not in text
    for absent in ("### Thresholds", "### Assessment", "### Examples", "### Post-processing", "By the length"):
        assert absent not in text
    assert "by number of clips" not in text
    assert "## Ablations" not in text
    assert "Full-size architectures" not in text
    assert text.count("The dataset has no ") == 3


def test_of_many_videos_left_out_the_first_fifty_are_listed_and_the_rest_counted(page):
    text = page(videos=[video(f"v{row:03}", "test", "corrupt") for row in range(60)])
    assert "60 videos are left out:" in text
    assert text.count("| test | corrupt |") == 50
    assert "… and 10 more" in text
