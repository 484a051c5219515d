import numpy as np
import pytest

from stillmotion.report.recipe_effects import (
    ablation_points,
    adamw_beats_sgd,
    frozen_blocks_save_flops,
    half_the_patches_cost_nothing,
    half_the_patches_save_flops,
    larger_batches_help_aggregators,
    larger_batches_help_finetuning,
    only_embeddings_frozen_is_best,
)


def ablation(*points):
    """Points as (value, validation R@1, test R@1 of each of 20 queries)."""
    rows = [
        {"value": value, "runs": [{"seed": 0, "validation_R@1": validation, "test_hits": [float(test)] * 20}]}
        for value, validation, test in points
    ]
    return {"name": "x", "title": "X", "model": "clip-half_patches", "points": rows}


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


def test_a_point_is_the_mean_over_its_seeds_query_by_query_and_a_failed_one_is_left_out():
    runs = [{"validation_R@1": 40.0, "test_hits": [100, 0, 100]}, {"validation_R@1": 50.0, "test_hits": [0, 0, 100]}]
    (point,) = ablation_points({"points": [{"value": 8, "runs": runs}, {"value": 16, "runs": []}]})
    assert (point.value, point.validation, point.hits_Q.tolist()) == (8, 45.0, [50.0, 0.0, 100.0])
    assert ablation_points(None) == []


def test_the_largest_batch_is_compared_with_the_smallest(make_evidence):
    found = make_evidence(
        ablations={
            "batch_size": ablation((64, 0, 60), (8, 0, 45), (16, 0, 90), ("by_hand", 0, 100)),
            "aggregator_batch_size": ablation((256, 0, 50), (32, 0, 51)),
        }
    )
    assert summary(larger_batches_help_finetuning(found)) == [("batches of 64 − batches of 8", "+15.0", "holds")]
    assert summary(larger_batches_help_aggregators(found)) == [
        ("batches of 256 − batches of 32", "-1.0", "does not hold")
    ]


def test_no_frozen_block_is_compared_with_the_best_other_on_validation_and_with_the_most(make_evidence):
    # 2 is the best on validation though 1 is the best on the test split
    points = ablation((0, 50, 60), (1, 48, 70), (2, 49, 58), (4, 20, 30), ("nothing_frozen", 47, 0))
    assert summary(only_embeddings_frozen_is_best(make_evidence(ablations={"frozen_blocks": points}))) == [
        ("0 blocks frozen − 2 blocks frozen (the best other on validation)", "+2.0", "holds"),
        ("0 blocks frozen − 4 blocks frozen", "+30.0", "holds"),
    ]


def test_the_best_other_is_named_once_where_it_has_the_most_frozen_blocks(make_evidence):
    points = ablation((0, 50, 60), (4, 55, 70))
    assert summary(only_embeddings_frozen_is_best(make_evidence(ablations={"frozen_blocks": points}))) == [
        ("0 blocks frozen − 4 blocks frozen (the best other on validation)", "-10.0", "does not hold")
    ]


def test_a_point_with_nothing_frozen_can_be_the_best_other(make_evidence):
    points = ablation((0, 50, 60), ("nothing_frozen", 55, 59))
    assert summary(only_embeddings_frozen_is_best(make_evidence(ablations={"frozen_blocks": points}))) == [
        ("0 blocks frozen − nothing_frozen (the best other on validation)", "+1.0", "holds")
    ]


def test_half_of_the_patches_may_cost_up_to_two_points(make_run, make_evidence):
    run = make_run(recipes=["half_patches", "all_patches"], models=["clip", "clip-half_patches", "clip-all_patches"])
    found = make_evidence(
        run=run,
        hits={
            "clip-half_patches-mean": {1: np.full(20, 50.0), 4: np.zeros(20)},
            "clip-all_patches-mean": {1: np.full(20, 51.0), 4: np.full(20, 100.0)},
        },
        ablations={"patch_keep_rate": ablation((1.0, 0, 60), (0.75, 0, 0), (0.5, 0, 57))},
    )
    assert summary(half_the_patches_cost_nothing(found)) == [
        ("keep rate 0.5 − 1", "-3.0", "does not hold"),
        ("clip-half_patches − clip-all_patches, mean (1 clip)", "-1.0", "holds"),
    ]


def architecture(**flops):
    """Steps as forward FLOPs by keep rate and backward FLOPs by frozen blocks."""
    steps = [
        {"keep_rate": rate, "frozen_blocks": 0, "forward_flops": value} for rate, value in flops["forward"].items()
    ]
    for step in steps:
        step["backward_flops"] = flops["backward"][0]
    steps += [
        {"keep_rate": 1.0, "frozen_blocks": blocks, "forward_flops": flops["forward"][1.0], "backward_flops": value}
        for blocks, value in flops["backward"].items()
        if blocks
    ]
    return {"steps": steps}


@pytest.mark.parametrize(
    ("half", "verdict"), [(58, "holds"), (52, "holds"), (59, "does not hold"), (51, "does not hold")]
)
def test_half_of_the_patches_save_45_percent_to_within_3(make_evidence, half, verdict):
    counted = architecture(forward={1.0: 100, 0.5: half, 0.05: 16}, backward={0: 200})
    (row,) = half_the_patches_save_flops(make_evidence(architectures={"b32": counted}))
    assert (row.what, row.effect) == ("b32: saved at keep rate 0.5", f"{100 - half}.0 % (counted)")
    assert row.verdict == verdict


def test_what_a_fine_tuned_model_saves_is_beside_the_architectures(make_evidence):
    resources = {"clip": {"forward_flops": 200}, "clip-half_patches": {"forward_flops": 134}}
    assert summary(half_the_patches_save_flops(make_evidence(resources=resources))) == [
        ("clip: saved at keep rate 0.5", "33.0", "does not hold")
    ]


def test_the_most_frozen_blocks_save_of_the_backward_pass(make_evidence):
    counted = architecture(forward={1.0: 100, 0.5: 55}, backward={0: 200, 6: 120, 12: 30})
    assert summary(frozen_blocks_save_flops(make_evidence(architectures={"b32": counted}))) == [
        ("b32: saved of the backward pass by 12 frozen blocks", "85.0", "holds")
    ]


def test_the_learning_rate_of_each_optimizer_is_chosen_on_validation(make_evidence):
    ablations = {
        "learning_rate_adamw": ablation((1e-4, 50, 40), (1e-5, 60, 45), (1e-6, 10, 99)),
        "learning_rate_sgd": ablation((1e-2, 30, 99), (3e-3, 40, 44)),
    }
    assert summary(adamw_beats_sgd(make_evidence(ablations=ablations))) == [
        ("AdamW at 1e-05 − SGD at 0.003, each the best on validation", "+1.0", "holds")
    ]
    del ablations["learning_rate_sgd"]
    assert adamw_beats_sgd(make_evidence(ablations=ablations)) == []


def test_without_ablations_or_architectures_nothing_is_measured(make_evidence):
    for effect in (
        adamw_beats_sgd,
        frozen_blocks_save_flops,
        half_the_patches_cost_nothing,
        half_the_patches_save_flops,
        larger_batches_help_aggregators,
        larger_batches_help_finetuning,
        only_embeddings_frozen_is_best,
    ):
        assert effect(make_evidence()) == []
