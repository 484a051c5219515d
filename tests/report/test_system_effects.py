import numpy as np
import pytest

from stillmotion.report.system_effects import (
    both_together,
    class_token_is_below,
    few_shots_reach_zero_shot,
    finetuning_helps,
    more_frames,
    small_reaches_large,
    trained_beats_mean,
)


def percent(value):
    """R@1 of 20 queries that all have the same value, so that intervals are points."""
    return np.full(20, float(value))


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


def test_the_most_clips_are_compared_with_one_by_mean_and_by_transformer_mean(make_evidence):
    hits = {
        "clip-mean": {1: percent(40), 2: percent(90), 4: percent(50)},
        "clip-transformer_mean": {1: percent(60), 4: percent(55)},
        "clip-class_token": {1: percent(0), 4: percent(99)},
        "clip-half_patches-mean": {1: percent(70), 4: percent(70)},
    }
    assert summary(more_frames(make_evidence(hits=hits))) == [
        ("clip-mean: 4 clips − 1 clip", "+10.0", "holds"),
        ("clip-half_patches-mean: 4 clips − 1 clip", "+0.0", "undecided"),
        ("clip-transformer_mean: 4 clips − 1 clip", "-5.0", "does not hold"),
    ]


def test_models_of_one_number_of_clips_say_nothing_of_more_frames(make_evidence):
    assert more_frames(make_evidence(hits={"clip-mean": {1: percent(40)}})) == []


def test_variants_of_the_first_recipe_speak_to_no_claim(make_run, make_evidence):
    run = make_run(recipes=["half_patches", "other"], models=["clip", "clip-other"])
    hits = {f"{model}-mean": {1: percent(1), 4: percent(2)} for model in run.models}
    found = make_evidence(run=run, hits=hits)
    assert [row.what for row in more_frames(found)] == ["clip-mean: 4 clips − 1 clip"]
    assert finetuning_helps(found) == []


def test_what_was_trained_to_name_motions_says_nothing_of_retrieval(make_run, make_evidence):
    run = make_run(
        recipes=["motions_seed_1", "half_patches"], models=["clip", "clip-motions_seed_1", "clip-half_patches"]
    )
    hits = {
        "clip-mean": {1: percent(30)},
        "clip-motions_seed_1-mean": {1: percent(5)},
        "clip-half_patches-mean": {1: percent(42)},
    }
    (found,) = finetuning_helps(make_evidence(run=run, hits=hits))
    assert found.what == "clip-half_patches-mean (1 clip) − clip-mean (1 clip)"


def test_trained_aggregation_is_compared_with_mean_and_with_the_class_token_at_the_most_clips(make_evidence):
    hits = {
        "clip-mean": {1: percent(0), 4: percent(40)},
        "clip-transformer_mean": {1: percent(0), 4: percent(50)},
        "clip-class_token": {1: percent(0), 4: percent(53)},
        "clip-half_patches-mean": {4: percent(60)},
        "clip-half_patches-transformer_mean": {4: percent(61)},
        "clip-half_patches-class_token": {4: percent(10)},
    }
    found = make_evidence(hits=hits)
    assert summary(trained_beats_mean(found)) == [
        ("clip-transformer_mean (4 clips) − clip-mean (4 clips)", "+10.0", "holds"),
        ("clip-half_patches-transformer_mean (4 clips) − clip-half_patches-mean (4 clips)", "+1.0", "holds"),
    ]
    # of base models alone
    assert summary(class_token_is_below(found)) == [
        ("clip-transformer_mean (4 clips) − clip-class_token (4 clips)", "-3.0", "does not hold"),
    ]


def test_fine_tuning_is_compared_with_one_clip_and_together_with_the_most(make_evidence):
    hits = {
        "clip-mean": {1: percent(30), 4: percent(35)},
        "clip-half_patches-mean": {1: percent(42), 4: percent(0)},
        "clip-half_patches-transformer_mean": {1: percent(0), 4: percent(55)},
    }
    found = make_evidence(hits=hits)
    assert summary(finetuning_helps(found)) == [
        ("clip-half_patches-mean (1 clip) − clip-mean (1 clip)", "+12.0", "holds")
    ]
    assert summary(both_together(found)) == [
        ("clip-half_patches-transformer_mean (4 clips) − clip-mean (4 clips)", "+20.0", "holds")
    ]


@pytest.fixture
def expanded(make_run):
    models = ["clip", "clip_xclip", "clip-half_patches", "clip_xclip-half_patches"]
    return make_run(
        expanded=["clip"],
        expansions=["xclip"],
        embedded=models[:2],
        finetuned=models[:2],
        models=models,
    )


def test_an_expanded_model_is_held_against_mean_pooling_of_what_it_was_expanded_from(expanded, make_evidence):
    hits = {"clip-mean": {4: percent(35)}, "clip_xclip-half_patches-transformer_mean": {4: percent(60)}}
    assert summary(both_together(make_evidence(run=expanded, hits=hits))) == [
        ("clip_xclip-half_patches-transformer_mean (4 clips) − clip-mean (4 clips)", "+25.0", "holds")
    ]


def test_a_stan_is_no_video_model_of_the_thesis(make_run, make_evidence):
    models = ["clip", "clip_stan", "clip-half_patches", "clip_stan-half_patches"]
    run = make_run(expanded=["clip"], expansions=["stan"], embedded=models[:2], finetuned=models[:2], models=models)
    hits = {"clip-half_patches-transformer_mean": {4: percent(60)}, "clip_stan-half_patches-mean": {1: percent(50)}}
    assert small_reaches_large(make_evidence(run=run, hits=hits)) == []


def protocol(frames):
    return {"protocol": {"clip_frames": frames}}


@pytest.mark.parametrize(
    ("small", "verdict"), [(62.0, "holds"), (59.0, "holds"), (58.0, "undecided"), (57.0, "does not hold")]
)
def test_an_image_model_reaches_its_video_model_down_to_two_points_below(expanded, make_evidence, small, verdict):
    hits = {
        "clip-half_patches-transformer_mean": {1: percent(0), 4: percent(small)},
        "clip_xclip-half_patches-mean": {1: percent(60), 4: percent(0)},
    }
    (row,) = small_reaches_large(make_evidence(run=expanded, hits=hits))
    assert row.what == "clip-half_patches-transformer_mean (4 clips) − clip_xclip-half_patches-mean (1 clip)"
    assert row.verdict == verdict


def test_a_video_model_of_fewer_frames_gets_as_many_clips_as_fill_one_of_the_other(make_run, make_evidence):
    run = make_run(
        backbones=["f8", "f16", "f20"], embedded=["f8", "f16", "f20"], finetuned=[], models=["f8", "f16", "f20"]
    )
    hits = {
        "f8-transformer_mean": {1: percent(0), 2: percent(41), 4: percent(0)},
        "f8-mean": {1: percent(1)},
        "f16-mean": {1: percent(40)},
        "f20-mean": {1: percent(40)},
    }
    retrieval = {"f8-mean": protocol(8), "f16-mean": protocol(16), "f20-mean": protocol(20)}
    found = small_reaches_large(make_evidence(run=run, hits=hits, retrieval=retrieval))
    assert summary(found) == [("f8-transformer_mean (2 clips) − f16-mean (1 clip)", "+1.0", "holds")]


def probes(*runs, zero_shot):
    def shot(values):
        return {
            "mean": np.mean(values),
            "std": np.std(values, ddof=1) if len(values) > 1 else 0.0,
            "runs": list(values),
        }

    return {"zero_shot": {"top1": zero_shot}, "top1": {name: shot(values) for name, values in runs}}


def few_shots(make_run, make_evidence, values):
    return few_shots_reach_zero_shot(make_evidence(run=make_run(models=["clip"]), actions={"clip": values}))


def test_four_shots_are_held_against_zero_shot_by_students_interval_over_the_seeds(make_run, make_evidence):
    values = probes(("1", [10.0]), ("2", [14.0, 18.0]), ("4", [20.0, 22.0, 24.0]), zero_shot=15.0)
    (row,) = few_shots(make_run, make_evidence, values)
    # 7 ± t(0.975, 2 degrees) · 2 / √3 = 7 ± 4.302653 · 1.154701 = 7 ± 4.968
    assert row.effect == "+7.0 points (+2.0 to +12.0)"
    assert row.what == "clip, top-1 with 4 shots − zero-shot; first above it with 2"
    assert row.verdict == "holds"


def test_it_is_the_probed_models_as_they_are_that_count_whatever_retrieves(make_run, make_evidence):
    run = make_run(models=["clip", "other"], embedded=["clip", "other"], probed=["clip", "clip-half_patches"])
    actions = dict.fromkeys(run.probed, probes(("4", [20.0, 21.0]), zero_shot=15.0))
    assert [row.what for row in few_shots_reach_zero_shot(make_evidence(run=run, actions=actions))] == [
        "clip, top-1 with 4 shots − zero-shot; first above it with 4"
    ]


def test_one_seed_decides_nothing(make_run, make_evidence):
    (row,) = few_shots(make_run, make_evidence, probes(("4", [90.0]), zero_shot=15.0))
    assert (row.effect, row.verdict) == ("+75.0 points (one seed)", "undecided")


def test_a_probe_that_never_reaches_zero_shot_says_so(make_run, make_evidence):
    values = probes(("1", [1.0, 1.0]), ("4", [2.0, 2.0]), ("16", [3.0, 3.0]), zero_shot=15.0)
    (row,) = few_shots(make_run, make_evidence, values)
    assert row.what.endswith("above it with none of 1 to 16")
    assert (row.effect, row.verdict) == ("-13.0 points (-13.0 to -13.0)", "does not hold")


@pytest.mark.parametrize("values", [{"zero_shot": {}, "top1": {}}, probes(("2", [20.0, 21.0]), zero_shot=15.0)])
def test_without_actions_or_four_shots_nothing_is_measured(make_run, make_evidence, values):
    assert few_shots(make_run, make_evidence, values) == []


def test_without_captions_nothing_is_measured(expanded, make_evidence):
    found = make_evidence(run=expanded, hits={name: {} for name in ("clip-mean", "clip-transformer_mean")})
    for effect in (
        more_frames,
        trained_beats_mean,
        class_token_is_below,
        finetuning_helps,
        both_together,
        small_reaches_large,
    ):
        assert effect(found) == []
