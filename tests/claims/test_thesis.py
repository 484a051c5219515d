import numpy as np
import pytest

from stillmotion.claims.thesis import (
    THESIS,
    adamw_beats_sgd,
    both_together,
    class_token_is_below,
    few_shots_reach_zero_shot,
    finetuning_helps,
    frozen_blocks_save_flops,
    half_the_patches_cost_nothing,
    half_the_patches_save_flops,
    larger_batches_help_aggregators,
    larger_batches_help_finetuning,
    more_frames,
    only_embeddings_frozen_is_best,
    small_reaches_large,
    trained_beats_mean,
)


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


@pytest.fixture
def make(make_system):
    """A system of retrieval: `make("mean", {1: 40})`."""
    return lambda scorer, recalls, **fields: make_system(scorer=scorer, recalls=recalls, **fields)


def test_the_most_clips_are_compared_with_one_by_mean_and_by_transformer_mean(make, make_evidence):
    found = make_evidence(
        make("mean", {1: 40, 2: 90, 4: 50}),
        make("transformer_mean", {1: 60, 4: 55}),
        make("class_token", {1: 0, 4: 99}),
        make("mean", {1: 70, 4: 70}, recipe="half", seed=0),
        make("mean", {1: 1, 4: 2}, recipe="all", seed=0),  # another recipe than the first
    )
    assert summary(more_frames(found)) == [
        ("clip-mean: 4 clips − 1 clip (R@1)", "+10.0", "holds"),
        ("clip-half-0-mean: 4 clips − 1 clip (R@1)", "+0.0", "undecided"),
        ("clip-transformer_mean: 4 clips − 1 clip (R@1)", "-5.0", "does not hold"),
    ]
    assert more_frames(make_evidence(make("mean", {1: 40}))) == []


def test_trained_aggregation_is_compared_with_mean_and_with_the_class_token_at_the_most_clips(make, make_evidence):
    tuned = {"recipe": "half", "seed": 0}
    found = make_evidence(
        make("mean", {1: 0, 4: 40}),
        make("transformer_mean", {1: 0, 4: 50}),
        make("class_token", {1: 0, 4: 53}),
        make("mean", {4: 60}, **tuned),
        make("transformer_mean", {4: 61}, **tuned),
        make("class_token", {4: 10}, **tuned),
    )
    assert summary(trained_beats_mean(found)) == [
        ("clip-transformer_mean − clip-mean (R@1, 4 clips)", "+10.0", "holds"),
        ("clip-half-0-transformer_mean − clip-half-0-mean (R@1, 4 clips)", "+1.0", "holds"),
    ]
    # of base models alone
    assert summary(class_token_is_below(found)) == [
        ("clip-transformer_mean − clip-class_token (R@1, 4 clips)", "-3.0", "does not hold")
    ]


def test_fine_tuning_is_compared_with_one_clip_over_the_seeds_and_together_with_the_most(make, make_evidence):
    systems = [
        make("mean", {1: 30, 4: 35}),
        make("mean", {1: 42, 4: 0}, recipe="half", seed=0),
        make("mean", {1: 44, 4: 0}, recipe="half", seed=1),
        make("transformer_mean", {1: 0, 4: 55}, recipe="half", seed=0),
        make("mean", {1: 5}, recipe="motions", seed=0),
    ]
    found = make_evidence(*systems)
    assert summary(finetuning_helps(found)) == [
        ("clip-half-mean − clip-mean (R@1, 1 clip, 2 and 1 seeds)", "+13.0", "holds")
    ]
    assert summary(both_together(found)) == [
        ("clip-half-0-transformer_mean − clip-mean (R@1, 4 clips)", "+20.0", "holds")
    ]
    assert finetuning_helps(make_evidence(*systems, recipe="")) == []
    assert both_together(make_evidence(*systems, recipe="")) == []


def test_an_expanded_model_is_held_against_mean_pooling_of_what_it_was_expanded_from(make, make_evidence):
    found = make_evidence(
        make("mean", {4: 35}), make("transformer_mean", {4: 60}, expansion="xclip", recipe="half", seed=0)
    )
    assert summary(both_together(found)) == [
        ("clip-xclip-half-0-transformer_mean − clip-mean (R@1, 4 clips)", "+25.0", "holds")
    ]


@pytest.mark.parametrize(("small", "verdict"), [(65, "holds"), (62, "holds"), (61, "undecided"), (60, "does not hold")])
def test_an_image_model_reaches_its_video_model_down_to_two_points_below(make, make_evidence, small, verdict):
    tuned = {"recipe": "half", "seed": 0}
    image_model = make("transformer_mean", {1: 0, 4: small}, **tuned)
    video_models = [make("mean", {1: 63, 4: 0}, expansion=name, **tuned) for name in ("xclip", "stan")]
    (row,) = small_reaches_large(make_evidence(image_model, *video_models))
    assert row.what == "clip-half-0-transformer_mean (4 clips) − clip-xclip-half-0-mean (1 clip) (R@1)"
    assert row.verdict == verdict


def test_a_video_model_of_fewer_frames_gets_as_many_clips_as_fill_one_of_the_other(make, make_evidence):
    def model(base, frames, scorer, recalls):
        return make(scorer, recalls, base=base, protocol={"clip_frames": frames})

    found = make_evidence(
        model("f8", 8, "transformer_mean", {1: 0, 2: 41, 4: 0}),
        model("f8", 8, "mean", {1: 1}),
        model("f16", 16, "mean", {1: 40}),
        model("f20", 20, "mean", {1: 40}),
    )
    assert summary(small_reaches_large(found)) == [
        ("f8-transformer_mean (2 clips) − f16-mean (1 clip) (R@1)", "+1.0", "holds")
    ]


def study(*points):
    """Points as (value, validation R@1, test R@1 of each of 20 queries)."""
    rows = [
        {"value": value, "runs": [{"seed": 0, "validation_R@1": validation, "test_hits": [float(test)] * 20}]}
        for value, validation, test in points
    ]
    return {"points": rows}


def test_the_largest_batch_is_compared_with_the_smallest(make_evidence):
    studies = {
        "batch_size": study((64, 0, 60), (8, 0, 45), (16, 0, 90), ("by_hand", 0, 100)),
        "aggregator_batch_size": study((256, 0, 50), (32, 0, 51)),
    }
    found = make_evidence(studies=studies)
    assert summary(larger_batches_help_finetuning(found)) == [
        ("batches of 64 − batches of 8 (clip-mean on toy, 1 seed a value)", "+15.0", "holds")
    ]
    assert summary(larger_batches_help_aggregators(found)) == [
        ("batches of 256 − batches of 32 (clip-mean on toy, 1 seed a value)", "-1.0", "does not hold")
    ]
    assert larger_batches_help_finetuning(make_evidence(studies={"batch_size": study((8, 0, 1))})) == []


def test_no_frozen_block_is_compared_with_the_best_other_on_validation_and_with_the_most(make_evidence):
    points = study((0, 50, 60), (1, 70, 50), (2, 20, 61), ("nothing", 60, 99))
    assert summary(only_embeddings_frozen_is_best(make_evidence(studies={"frozen_blocks": points}))) == [
        (
            "0 blocks frozen − 1 blocks frozen (the best other on validation) (clip-mean on toy, 1 seed a value)",
            "+10.0",
            "holds",
        ),
        ("0 blocks frozen − 2 blocks frozen (clip-mean on toy, 1 seed a value)", "-1.0", "does not hold"),
    ]
    named = study((0, 50, 60), ("nothing", 60, 65))
    assert summary(only_embeddings_frozen_is_best(make_evidence(studies={"frozen_blocks": named}))) == [
        (
            "0 blocks frozen − nothing (the best other on validation) (clip-mean on toy, 1 seed a value)",
            "-5.0",
            "does not hold",
        )
    ]
    assert only_embeddings_frozen_is_best(make_evidence(studies={"frozen_blocks": study((1, 0, 0))})) == []


def test_the_optimizers_are_compared_at_their_best_rates_on_validation(make_evidence):
    studies = {
        "learning_rate_adamw": study((1e-3, 40, 50), (1e-2, 30, 99)),
        "learning_rate_sgd": study((0.1, 20, 45), (0.3, 10, 99)),
    }
    what = "AdamW at 0.001 − SGD at 0.1, each the best on validation (clip-mean on toy, 1 seed a value)"
    assert summary(adamw_beats_sgd(make_evidence(studies=studies))) == [(what, "+5.0", "holds")]
    del studies["learning_rate_sgd"]
    assert adamw_beats_sgd(make_evidence(studies=studies)) == []


def test_half_of_the_patches_may_cost_two_points_between_recipes_that_differ_in_nothing_else(make, make_evidence):
    systems = [make("mean", {1: 59}, recipe="half", seed=0), make("mean", {1: 60}, recipe="all", seed=0)]
    found = make_evidence(
        *systems,
        make("mug", {1: 90}, recipe="mug", seed=0),
        studies={"patch_keep_rate": study((0.5, 0, 57), (1.0, 0, 60))},
    )
    assert summary(half_the_patches_cost_nothing(found)) == [
        ("keep rate 0.5 − 1 (clip-mean on toy, 1 seed a value)", "-3.0", "does not hold"),
        ("clip-half-0-mean − clip-all-0-mean (R@1, 1 clip)", "-1.0", "holds"),
    ]


def test_flops_saved_are_counted_of_architectures_and_of_what_was_fine_tuned(make_system, make_evidence):
    def step(keep_rate, frozen, forward, backward=1.0):
        return {"keep_rate": keep_rate, "frozen_blocks": frozen, "forward_flops": forward, "backward_flops": backward}

    steps = [step(1.0, 0, 100.0, 200.0), step(0.5, 0, 56.0), step(1.0, 12, 100.0, 40.0)]
    found = make_evidence(
        make_system("resources", metrics={"forward_flops": 10.0}),
        make_system("resources", recipe="half", seed=0, metrics={"forward_flops": 6.7}),
        make_system("resources", recipe="half", seed=1, metrics={"forward_flops": 6.7}),
        architectures={"large": {"steps": steps}, "one": {"steps": steps[:1]}},
    )
    assert summary(half_the_patches_save_flops(found)) == [
        ("large: saved at keep rate 0.5", "44.0", "holds"),
        ("clip: saved at keep rate 0.5", "33.0", "does not hold"),
    ]
    assert summary(frozen_blocks_save_flops(found)) == [
        ("large: saved of the backward pass by 12 frozen blocks", "80.0", "holds")
    ]


def probes(*runs, zero_shot):
    def shot(values):
        std = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return {"mean": np.mean(values), "std": std, "runs": list(values)}

    return {"zero_shot": {"top1": zero_shot}, "top1": {name: shot(values) for name, values in runs}}


@pytest.fixture
def few_shots(make_system, make_evidence):
    return lambda metrics: few_shots_reach_zero_shot(make_evidence(make_system("actions", metrics=metrics)))


def test_four_shots_are_held_against_zero_shot_by_students_interval_over_the_seeds(few_shots):
    (row,) = few_shots(probes(("1", [10.0]), ("2", [14.0, 18.0]), ("4", [20.0, 22.0, 24.0]), zero_shot=15.0))
    # 7 ± t(0.975, 2 degrees) · 2 / √3 = 7 ± 4.302653 · 1.154701 = 7 ± 4.968
    assert row.effect == "+7.0 points (+2.0 to +12.0)"
    assert row.what == "clip, top-1 with 4 shots − zero-shot; first above it with 2"
    assert row.verdict == "holds"


def test_one_seed_decides_nothing_and_a_probe_that_never_reaches_zero_shot_says_so(few_shots):
    (row,) = few_shots(probes(("4", [90.0]), zero_shot=15.0))
    assert (row.effect, row.verdict) == ("+75.0 points (one seed)", "undecided")
    (row,) = few_shots(probes(("1", [1.0, 1.0]), ("4", [2.0, 2.0]), ("16", [3.0, 3.0]), zero_shot=15.0))
    assert row.what.endswith("above it with none of 1 to 16")
    assert (row.effect, row.verdict) == ("-13.0 points (-13.0 to -13.0)", "does not hold")


def test_only_models_that_are_not_fine_tuned_speak_of_few_shots(make_system, make_evidence):
    metrics = probes(("4", [20.0, 21.0]), zero_shot=15.0)
    systems = [make_system("actions", metrics=metrics, recipe=recipe) for recipe in (None, "half")]
    assert [row.what.split(",")[0] for row in few_shots_reach_zero_shot(make_evidence(*systems))] == ["clip"]


def test_without_evidence_nothing_is_measured(make, make_evidence):
    nothing = make_evidence(make("mean", {}), make("transformer_mean", {}))
    for found in (nothing, make_evidence()):
        assert [claim.measure(found) for claim in THESIS.claims] == [[]] * len(THESIS.claims)


def test_the_rules_state_the_margins_that_are_applied():
    assert "against −2 points" in THESIS.rules
    assert "42 to 48 %" in next(claim.rule for claim in THESIS.claims if claim.id == "half_the_patches_save_flops")
