import numpy as np
import pytest

from stillmotion.claims.systems import (
    pooled,
    seeds_label,
    select,
    settings_but,
    shared_name,
    systems_frame,
    systems_of,
    values_frame,
)


def test_the_systems_of_a_run_are_named_by_params_in_their_order():
    run = {"selected": ["clip", "b"], "selections": ["vc1"], "shot_detectors": ["shots"], "references": ["oracle"]}
    run |= {"submissions": ["other"], "assessed": ["clip"], "probed": ["b"], "embedded": ["clip"]}
    assert systems_of({"run": run, "retrieval": {"x": {}, "a": {}}, "finetuned": {"clip-half": {}}}) == {
        "retrieval": ["x", "a"],
        "moments": ["clip-vc1", "b-vc1", "clip-shots", "b-shots", "oracle", "other"],
        "assessment": ["clip"],
        "actions": ["b"],
        "resources": ["clip"],
    }


SYSTEM = {"model": "m", "base": "clip", "expansion": "stan", "recipe": "mug", "seed": 1, "scorer": "mean"}
PARAMS = {
    "expansions": {"stan": {"family": "stan", "class_token": "frame"}},
    "recipes": {"mug": {"similarity": "mug", "tau": 20.0}},
    "scorers": {"mean": {"kind": "mean"}},
    "selections": {},
    "shot_detectors": {},
}


def test_a_system_has_its_fields_the_blocks_they_name_and_its_protocol():
    pretraining = {"dataset": "narrated", "recipe": "narrations", "seed": 0}
    protocol = {"clip_frames": 8, "thresholds": {"method": "vc1", "parameters": {"share": 0.5}}}
    metrics = {"system": SYSTEM | {"pretraining": pretraining}, "protocol": protocol}
    reference = {"system": dict.fromkeys([*SYSTEM, "pretraining"]) | {"scorer": "oracle"}, "protocol": None}
    frame = systems_frame({"retrieval": {"whatever": metrics}, "moments": {"oracle": reference}}, PARAMS)
    first, second = frame.to_dict("records")
    assert {name: first[name] for name in ("task", "key", "model", "base", "pretraining", "seed")} == {
        "task": "retrieval",
        "key": "whatever",
        "model": "m",
        "base": "clip",
        "pretraining": ("narrated", "narrations"),
        "seed": 1,
    }
    assert (first["expansion.class_token"], first["recipe.tau"], first["scorer.kind"]) == ("frame", 20.0, "mean")
    assert (first["protocol.clip_frames"], first["protocol.thresholds.parameters.share"]) == (8, 0.5)
    assert first["metrics"] is metrics
    assert (second["scorer"], second["base"], second["recipe.tau"]) == ("oracle", None, None)


def frame_of(*tasks):
    system = SYSTEM | {"pretraining": None}
    return systems_frame({task: {task: {"system": system}} for task in tasks}, PARAMS)


def test_the_value_of_a_caption_is_its_mean_over_the_seeds_of_an_aggregator_by_number_of_clips():
    rows = [
        {"rank_by_num_clips": {"1": [1.0, 2.0], "10": [1.0, 1.0], "2": [3.0, 1.5]}},
        {"rank_by_num_clips": {"1": [4.0, 9.0], "10": [1.0, 7.0], "2": [1.0, 1.0]}},
    ]
    values = values_frame(frame_of("retrieval"), ranks={"retrieval": rows}, windows={}, spans={})
    assert [(row["measure"], row["clips"], row["values"].tolist()) for row in values.to_dict("records")] == [
        ("R@1", 1, [50.0, 0.0]),
        ("R@1", 2, [0.0, 100.0]),
        ("R@1", 10, [100.0, 50.0]),
        ("R@5", 1, [100.0, 50.0]),
        ("R@5", 2, [100.0, 100.0]),
        ("R@5", 10, [100.0, 50.0]),
    ]
    assert values["has_most_clips"].tolist() == [False, False, True] * 2
    assert set(values["recipe.similarity"]) == {"mug"}


def test_values_of_a_window_are_percent_and_recall_counts_from_its_iou():
    rows = [
        {"top1_iou": 0.5, "average_precision": 0.25, "frame_iou": 0.125},
        {"top1_iou": 0.4999, "average_precision": 0.5, "frame_iou": 0.0},
        {"top1_iou": 0.7, "average_precision": 0.0, "frame_iou": 1.0},
    ]
    values = values_frame(frame_of("moments"), ranks={}, windows={"moments": rows}, spans={})
    assert {row["measure"]: row["values"].tolist() for row in values.to_dict("records")} == {
        "R1@0.5": [100.0, 0.0, 100.0],
        "R1@0.7": [0.0, 0.0, 100.0],
        "mAP": [25.0, 50.0, 0.0],
        "frame IoU": [12.5, 0.0, 100.0],
    }


def test_spans_are_right_or_wrong_and_cluster_by_video():
    rows = [{"video_id": video, "label": "spins", "zero_shot": name} for video, name in (("a", "spins"), ("b", "x"))]
    values = values_frame(frame_of("actions", "resources"), ranks={}, windows={}, spans={"actions": rows})
    (row,) = values.to_dict("records")
    assert (row["measure"], row["values"].tolist(), row["clusters"].tolist()) == ("top-1", [100.0, 0.0], ["a", "b"])
    assert row["clips"] is None
    assert values_frame(frame_of("actions"), ranks={}, windows={}, spans={"actions": []}).empty


def test_rows_are_selected_by_a_value_one_of_several_or_a_function_of_it(make_system, make_evidence):
    systems = make_evidence(
        make_system(scorer="mean"), make_system(scorer="mug", recipe="half"), make_system(scorer="own", recipe="all")
    ).systems

    def keys(**where):
        return list(select(systems, {name.replace("__", "."): wanted for name, wanted in where.items()})["scorer"])

    assert keys(recipe=None) == ["mean"]
    assert keys(recipe=(None, "all")) == ["mean", "own"]
    assert keys(scorer__kind=("mean", "own"), recipe="all") == ["own"]
    assert keys(recipe__patch_keep_rate=lambda rate: rate is not None and rate < 1) == ["mug"]
    assert keys(no_such_column=None) == ["mean", "mug", "own"]
    assert keys(no_such_column="x") == []


def test_systems_that_differ_in_the_seed_alone_are_one_with_the_mean_of_their_values(make_system, make_evidence):
    systems = [make_system(scorer="mean", recipe="half", seed=seed, recalls={1: 20 * seed}) for seed in (1, 3)]
    other = make_system(scorer="mug", recipe="half", seed=1, recalls={1: 50})
    values = make_evidence(*systems, other, num=2).of("R@1")
    first, second = pooled(values)
    assert (first["key"], first["num_seeds"], first["keys"]) == (
        "clip-half-1-mean",
        2,
        ["clip-half-1-mean", "clip-half-3-mean"],
    )
    np.testing.assert_allclose(first["values"], [40.0, 40.0])
    assert [seeds_label(row) for row in (first, second)] == ["clip-half-mean, 2 seeds", "clip-half-1-mug"]


def test_recipes_are_alike_but_for_what_is_left_out(make_system, make_evidence):
    systems = make_evidence(*(make_system(recipe=name) for name in ("half", "all", "mug", "mug_cosine"))).systems
    half, whole, mug, mug_cosine = settings_but(systems, "similarity", "tau")
    assert half == mug == mug_cosine
    assert whole != half
    half, whole, *_ = settings_but(systems, "patch_keep_rate")
    assert half == whole


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["a-mug-1-mean", "a-mug-11-mean"], "a-mug-mean"),
        (["a-mug-0-mean"], "a-mug-0-mean"),
        (["first", "second"], "first"),
        (["tuned-0", "tuned-0-more"], "tuned-0"),
    ],
)
def test_seeds_are_called_by_the_words_that_their_names_share(names, shared):
    assert shared_name(names) == shared
