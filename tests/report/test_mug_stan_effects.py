import numpy as np
import pytest

from stillmotion.report.mug_stan_effects import (
    both_are_best,
    mug_beats_cosine,
    mug_beats_cosine_on_misaligned,
    mug_helps_most_on_bottom,
    mug_helps_most_where_least_is_told,
    post_pretraining_helps,
    stan_beats_mean_pooling,
    stan_beats_posterior_heads,
    stan_recognises_motions,
)

NUM = 20


def percent(value):
    """R@1 of queries that all have the same value, so that intervals are points."""
    return {1: np.full(NUM, float(value)), 8: np.full(NUM, -1000.0)}


@pytest.fixture
def run(make_run):
    tuned = ["clip-half", "clip_stan-half", "clip-half_mug", "clip_stan-half_mug"]
    return make_run(
        expanded=["clip"],
        expansions=["xclip", "stan"],
        embedded=["clip", "clip_stan", "clip_xclip"],
        finetuned=["clip", "clip_stan"],
        recipes=["half", "half_mug"],
        models=tuned[:2],
        aligned=tuned,
        alignments=["cosine", "mug"],
    )


ARMS = {
    "clip-half-mean": percent(40),
    "clip-half-mug": percent(99),  # not trained with Mug
    "clip_stan-half-mean": percent(45),
    "clip-half_mug-mug": percent(43),
    "clip-half_mug-cosine": percent(99),
    "clip_stan-half_mug-mug": percent(51),
    "clip_xclip-half-mean": percent(99),
}


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


def test_stan_and_its_clip_are_compared_with_one_clip_of_the_first_recipe(run, make_evidence):
    assert summary(stan_beats_mean_pooling(make_evidence(run=run, hits=ARMS))) == [
        ("clip_stan-half-mean − clip-half-mean (R@1, 1 clip, 1 seed)", "+5.0", "holds")
    ]


def test_stan_is_compared_with_each_head_on_the_same_clip_over_the_seeds(make_run, make_evidence):
    run = make_run(
        expanded=["clip"],
        expansions=["xclip", "seq_lstm", "stan", "seq_transf", "tight_transf"],
        recipes=["half", "half_seed_1", "half_mug"],
    )
    hits = {"clip_stan-half-mean": percent(45), "clip_stan-half_seed_1-mean": percent(47)}
    hits |= {"clip_seq_lstm-half-mean": percent(40), "clip_seq_lstm-half_seed_1-mean": percent(44)}
    hits |= {"clip_seq_transf-half-mean": percent(46), "clip_xclip-half-mean": percent(99)}
    hits |= {"clip_tight_transf-half-tight_transformer": percent(40), "clip_tight_transf-half-mean": percent(99)}
    assert summary(stan_beats_posterior_heads(make_evidence(run=run, hits=hits))) == [
        ("clip_stan-half-mean − clip_seq_lstm-half-mean (R@1, 1 clip, 2 seeds)", "+4.0", "holds"),
        ("clip_stan-half-mean − clip_seq_transf-half-mean (R@1, 1 clip, 2 and 1 seeds)", "+0.0", "undecided"),
        (
            "clip_stan-half-mean − clip_tight_transf-half-tight_transformer (R@1, 1 clip, 2 and 1 seeds)",
            "+6.0",
            "holds",
        ),
    ]
    del hits["clip_stan-half-mean"], hits["clip_stan-half_seed_1-mean"]
    assert stan_beats_posterior_heads(make_evidence(run=run, hits=hits)) == []


@pytest.mark.parametrize(("recipe", "head"), [("half", "cosine"), ("half_mug", "mug")])
def test_what_was_post_pretrained_is_compared_after_fine_tuning_by_what_both_were_trained_with(
    make_run, make_evidence, recipe, head
):
    run = make_run(
        corpora=["noisy"], post_pretrained=["clip_stan", "clip"], post_pretraining=["long"], recipes=[recipe]
    )
    hits = {f"clip_stan_noisy_long-{recipe}-{name}": percent(50) for name in ("cosine", "mug")}
    hits |= {f"clip_stan-{recipe}-{name}": percent(52 if name == head else 0) for name in ("cosine", "mug")}
    hits |= {f"clip-{recipe}-{head}": percent(1)}
    assert summary(post_pretraining_helps(make_evidence(run=run, hits=hits))) == [
        (
            f"clip_stan_noisy_long-{recipe}-{head} − clip_stan-{recipe}-{head} (R@1, 1 clip, 1 seed)",
            "-2.0",
            "does not hold",
        )
    ]


def test_each_model_is_scored_by_what_it_was_trained_with(run, make_evidence):
    assert summary(mug_beats_cosine(make_evidence(run=run, hits=ARMS))) == [
        ("clip-half_mug-mug − clip-half-mean (R@1, 1 clip, 1 seed)", "+3.0", "holds"),
        ("clip_stan-half_mug-mug − clip_stan-half-mean (R@1, 1 clip, 1 seed)", "+6.0", "holds"),
    ]


def test_what_is_found_among_the_first_five_is_compared_beside_what_is_found_first(run, make_evidence):
    in_five = {name: {1: hits[1] + 20 * (name == "clip-half-mean")} for name, hits in ARMS.items()}
    evidence = make_evidence(run=run, hits=ARMS, hits_in_five=in_five, levels=["bottom"] * 5 + ["up"] * 15)
    assert summary(stan_beats_mean_pooling(evidence)) == [
        ("clip_stan-half-mean − clip-half-mean (R@1, 1 clip, 1 seed)", "+5.0", "holds"),
        ("clip_stan-half-mean − clip-half-mean (R@5, 1 clip, 1 seed)", "-15.0", "does not hold"),
    ]
    assert [row.effect.split(" ")[0] for row in mug_beats_cosine(evidence)] == ["+3.0", "+6.0", "-17.0", "+6.0"]
    assert [row.effect.split(" ")[0] for row in both_are_best(evidence)] == [
        "+6.0",
        "+8.0",
        "+11.0",
        "+6.0",
        "+8.0",
        "-9.0",
    ]
    assert [row.what.partition("others ")[2] for row in mug_helps_most_on_bottom(evidence)] == [
        "(R@1, 1 seed)",
        "(R@1, 1 seed)",
        "(R@5, 1 seed)",
        "(R@5, 1 seed)",
    ]


def test_both_are_compared_with_each_other_arm(run, make_evidence):
    hits = ARMS | {"clip-half_mug-mug": percent(53)}
    assert summary(both_are_best(make_evidence(run=run, hits=hits))) == [
        ("clip_stan-half_mug-mug − clip_stan-half-mean (R@1, 1 clip, 1 seed)", "+6.0", "holds"),
        ("clip_stan-half_mug-mug − clip-half_mug-mug (R@1, 1 clip, 1 seed)", "-2.0", "does not hold"),
        ("clip_stan-half_mug-mug − clip-half-mean (R@1, 1 clip, 1 seed)", "+11.0", "holds"),
    ]


def test_the_alignment_called_cosine_stands_in_for_the_mean_of_a_model_that_is_not_aggregated(run, make_evidence):
    hits = {"clip-half-cosine": percent(40), "clip_stan-half-cosine": percent(38)}
    assert summary(stan_beats_mean_pooling(make_evidence(run=run, hits=hits))) == [
        ("clip_stan-half-cosine − clip-half-cosine (R@1, 1 clip, 1 seed)", "-2.0", "does not hold")
    ]


def test_the_cosine_of_the_guided_embeddings_is_a_form_of_its_own_beside_the_product(run, make_run, make_evidence):
    both = make_run(**run.model_dump() | {"recipes": [*run.recipes, "half_mug_cosine", "half_mug_cosine_seed_1"]})
    cosines = {"clip-half_mug_cosine-mug_cosine": percent(60), "clip-half_mug_cosine_seed_1-mug_cosine": percent(62)}
    cosines |= {"clip_stan-half_mug_cosine-mug_cosine": percent(70), "clip_stan-half_mug_cosine-mug": percent(0)}
    evidence = make_evidence(run=both, hits=ARMS | cosines)
    assert summary(mug_beats_cosine(evidence)) == [
        ("clip-half_mug-mug − clip-half-mean (R@1, 1 clip, 1 seed)", "+3.0", "holds"),
        ("clip_stan-half_mug-mug − clip_stan-half-mean (R@1, 1 clip, 1 seed)", "+6.0", "holds"),
        ("clip-half_mug_cosine-mug_cosine − clip-half-mean (R@1, 1 clip, 2 and 1 seeds)", "+21.0", "holds"),
        ("clip_stan-half_mug_cosine-mug_cosine − clip_stan-half-mean (R@1, 1 clip, 1 seed)", "+25.0", "holds"),
    ]
    assert [found.is_ours for found in mug_beats_cosine(evidence)] == [False, False, True, True]
    assert len(stan_beats_mean_pooling(evidence)) == 1
    assert [row[0].split(" (")[0] for row in summary(both_are_best(evidence))] == [
        "clip_stan-half_mug-mug − clip_stan-half-mean",
        "clip_stan-half_mug-mug − clip-half_mug-mug",
        "clip_stan-half_mug-mug − clip-half-mean",
        "clip_stan-half_mug-mug − clip-half_mug_cosine-mug_cosine",
        "clip_stan-half_mug_cosine-mug_cosine − clip_stan-half-mean",
        "clip_stan-half_mug_cosine-mug_cosine − clip-half_mug_cosine-mug_cosine",
        "clip_stan-half_mug_cosine-mug_cosine − clip-half-mean",
        "clip_stan-half_mug_cosine-mug_cosine − clip-half_mug-mug",
        "clip_stan-half_mug_cosine-mug_cosine − clip_stan-half_mug-mug",
    ]


def test_a_clip_with_two_stans_is_compared_once(run, make_run, make_evidence):
    two = make_run(**run.model_dump() | {"expansions": ["stan", "stan_conv"]})
    found = mug_beats_cosine(make_evidence(run=two, hits=ARMS))
    assert [row.what.split(" ")[0] for row in found] == ["clip-half_mug-mug", "clip_stan-half_mug-mug"]


def test_a_stan_with_class_tokens_of_frames_is_ours(run, make_run, make_evidence):
    two = make_run(**run.model_dump() | {"expansions": ["stan", "stan_frame_class"]})
    hits = ARMS | {"clip_stan_frame_class-half-mean": percent(47), "clip_stan_frame_class-half_mug-mug": percent(52)}
    evidence = make_evidence(run=two, hits=hits, levels=["bottom"] * 10 + ["up"] * 10)
    assert [(found.what.split(" ")[0], found.is_ours) for found in stan_beats_mean_pooling(evidence)] == [
        ("clip_stan-half-mean", False),
        ("clip_stan_frame_class-half-mean", True),
    ]
    for effect in (mug_beats_cosine, mug_beats_cosine_on_misaligned, mug_helps_most_on_bottom):
        assert [found.is_ours for found in effect(evidence)] == [False, False, True]
    assert [found.is_ours for found in both_are_best(evidence)] == [False] * 3 + [True] * 6


def test_both_are_held_against_other_stans_and_the_heads_of_the_same_clip_each_two_once(run, make_run, make_evidence):
    more = make_run(**run.model_dump() | {"expanded": ["clip", "b"], "expansions": ["stan", "seq_lstm", "stan_conv"]})
    hits = ARMS | {"clip_stan_conv-half-mean": percent(46), "clip_stan_conv-half_mug-mug": percent(52)}
    hits |= {"clip_seq_lstm-half-mean": percent(44), "b-half-mean": percent(1), "b_stan-half_mug-mug": percent(2)}
    rows = [
        (what.split(" (")[0], effect) for what, effect, _ in summary(both_are_best(make_evidence(run=more, hits=hits)))
    ]
    assert rows == [
        ("clip_stan-half_mug-mug − clip_stan-half-mean", "+6.0"),
        ("clip_stan-half_mug-mug − clip-half_mug-mug", "+8.0"),
        ("clip_stan-half_mug-mug − clip-half-mean", "+11.0"),
        ("clip_stan-half_mug-mug − clip_stan_conv-half-mean", "+5.0"),
        ("clip_stan-half_mug-mug − clip_seq_lstm-half-mean", "+7.0"),
        ("clip_stan_conv-half_mug-mug − clip_stan_conv-half-mean", "+6.0"),
        ("clip_stan_conv-half_mug-mug − clip-half_mug-mug", "+9.0"),
        ("clip_stan_conv-half_mug-mug − clip-half-mean", "+12.0"),
        ("clip_stan_conv-half_mug-mug − clip_stan-half-mean", "+7.0"),
        ("clip_stan_conv-half_mug-mug − clip_seq_lstm-half-mean", "+8.0"),
        ("clip_stan_conv-half_mug-mug − clip_stan-half_mug-mug", "+1.0"),
        ("b_stan-half_mug-mug − b-half-mean", "+1.0"),
    ]


def test_the_gain_on_the_bottom_is_held_against_that_on_all_others(run, make_evidence):
    levels = ["bottom"] * 5 + ["middle"] * 5 + ["up"] * 10
    cosine = {1: np.repeat([10.0, 40.0], [5, 15])}
    mug = {1: np.repeat([50.0, 42.0], [5, 15])}
    hits = {"clip-half-mean": cosine, "clip-half_mug-mug": mug}
    (found,) = mug_helps_most_on_bottom(make_evidence(run=run, hits=hits, levels=levels))
    assert found.what == (
        "clip-half_mug-mug − clip-half-mean: gain on the 5 queries of `bottom` − gain on the others (R@1, 1 seed)"
    )
    assert found.effect == "+38.0 points (+38.0 to +38.0)"
    assert found.verdict == "holds"


def test_on_misaligned_captions_mug_is_compared_by_the_queries_of_two_levels_alone(run, make_evidence):
    levels = ["bottom"] * 4 + ["up"] * 15 + ["middle"]
    cosine = {1: np.repeat([10.0, 90.0, 20.0], [4, 15, 1])}
    mug = {1: np.repeat([15.0, 0.0, 25.0], [4, 15, 1])}
    evidence = make_evidence(run=run, hits={"clip-half-mean": cosine, "clip-half_mug-mug": mug}, levels=levels)
    assert summary(mug_beats_cosine_on_misaligned(evidence)) == [
        ("clip-half_mug-mug − clip-half-mean on the 5 queries of `middle` and `bottom` (R@1, 1 seed)", "+5.0", "holds")
    ]
    for without in ([], ["up"] * NUM):
        assert mug_beats_cosine_on_misaligned(make_evidence(run=run, hits=ARMS, levels=without)) == []


@pytest.mark.parametrize("levels", [[], ["up"] * NUM, ["bottom"] * NUM])
def test_without_two_groups_of_queries_no_gains_are_compared(run, make_evidence, levels):
    assert mug_helps_most_on_bottom(make_evidence(run=run, hits=ARMS, levels=levels)) == []


def told(system, *points, k=5):
    """An ablation with a run for each list of hits of a point: (value, hits of a run, …)."""
    model, aggregator = system
    runs = [
        {"value": value, "runs": [{"validation_R@1": 0.0, "test_hits": hits} for hits in of_runs]}
        for value, *of_runs in points
    ]
    return {"model": model, "aggregator": aggregator, "dataset": "clips", "recall_at": k, "points": runs}


def test_the_gain_where_least_is_told_is_held_against_that_where_all_is(make_evidence):
    cosine = told(("clip-a", "cosine"), (0.0, [90.0] * NUM), (0.5, [50.0] * NUM), (1.0, [40.0] * NUM))
    mug = told(("clip-b", "mug"), (0.0, [80.0] * NUM), (0.5,), (1.0, [60.0] * NUM, [50.0] * NUM))
    evidence = make_evidence(ablations={"told_cosine": cosine, "told_mug": mug})
    (found,) = mug_helps_most_where_least_is_told(evidence)
    assert found.what == (
        "clip-b-mug − clip-a-cosine: gain with undescribed_rate 1 (+15.0) − gain with 0 (-10.0) "
        "(R@5 on 20 queries of clips, 1 to 2 seeds)"
    )
    assert found.effect == "+25.0 points (+25.0 to +25.0)"
    assert found.verdict == "holds"


def test_what_mug_gains_with_stan_is_of_the_ablations_of_stan(make_evidence):
    cosine = told(("clip_stan-a", "cosine"), (0.0, [90.0] * NUM), (1.0, [40.0] * NUM))
    mug = told(("clip_stan-b", "mug"), (0.0, [85.0] * NUM), (1.0, [38.0] * NUM))
    evidence = make_evidence(ablations={"told_stan_cosine": cosine, "told_stan_mug": mug})
    assert summary(mug_helps_most_where_least_is_told(evidence)) == [
        (
            "clip_stan-b-mug − clip_stan-a-cosine: gain with undescribed_rate 1 (-2.0) − gain with 0 (-5.0) "
            "(R@5 on 20 queries of clips, 1 seed)",
            "+3.0",
            "holds",
        )
    ]


def test_both_together_are_held_against_the_others_for_each_value_that_was_told(make_evidence):
    half = np.repeat([10.0, 60.0], NUM // 2)
    arms = {
        "told_stan_mug": told(("clip_stan-b", "mug"), (0.0, [70.0] * NUM), (1.0, half, half + 20)),
        "told_stan_cosine": told(("clip_stan-a", "cosine"), (1.0, [45.0] * NUM)),
        "told_mug": told(("clip-b", "mug"), (0.0, [70.0] * NUM), (1.0, half + 15, half + 15)),
        "told_cosine": told(("clip-a", "cosine"), (0.0, [75.0] * NUM)),
    }
    expected = [
        (
            "clip_stan-b-mug − clip-b-mug with undescribed_rate 0 (R@5 on 20 queries of clips, 1 seed)",
            "+0.0",
            "undecided",
        ),
        (
            "clip_stan-b-mug − clip-a-cosine with undescribed_rate 0 (R@5 on 20 queries of clips, 1 seed)",
            "-5.0",
            "does not hold",
        ),
        (
            "clip_stan-b-mug − clip_stan-a-cosine with undescribed_rate 1 (R@5 on 20 queries of clips, 2 and 1 seeds)",
            "+0.0",
            "undecided",
        ),
        (
            "clip_stan-b-mug − clip-b-mug with undescribed_rate 1 (R@5 on 20 queries of clips, 2 seeds)",
            "-5.0",
            "does not hold",
        ),
    ]
    assert summary(both_are_best(make_evidence(ablations=arms))) == expected
    arms.pop("told_stan_mug")
    assert both_are_best(make_evidence(ablations=arms)) == []


def test_ablations_of_different_queries_are_named_and_not_compared(make_evidence):
    cosine = told(("clip", "cosine"), (0.0, [90.0] * NUM), (1.0, [40.0] * NUM))
    mug = told(("clip", "mug"), (0.0, [80.0] * 2 * NUM), (1.0, [60.0] * 2 * NUM))
    both = told(("clip_stan", "mug"), (0.0, [80.0] * 2 * NUM), (1.0, [60.0] * 2 * NUM))
    evidence = make_evidence(ablations={"told_cosine": cosine, "told_mug": mug, "told_stan_mug": both})
    (found,) = mug_helps_most_where_least_is_told(evidence)
    assert found.what.startswith("told_cosine, told_mug, told_stan_mug differ in their test queries; run ")
    assert (found.effect, found.verdict) == ("–", "not comparable")
    assert both_are_best(evidence) == []


def test_without_both_ablations_at_two_values_no_gains_of_them_are_compared(make_evidence):
    one = told(("clip", "mug"), (0.0, [1.0]), (1.0, [1.0]))
    other = told(("clip", "cosine"), (0.0, [1.0]), (1.0,))
    for ablations in ({}, {"told_mug": one}, {"told_mug": one, "told_cosine": other}):
        assert mug_helps_most_where_least_is_told(make_evidence(ablations=ablations)) == []


def test_without_stan_in_the_run_nothing_is_measured(make_run, make_evidence):
    found = make_evidence(run=make_run(), hits={"clip-half_patches-mean": percent(1)}, levels=["bottom", "up"])
    effects = (stan_beats_mean_pooling, mug_beats_cosine, mug_helps_most_on_bottom, both_are_best)
    for effect in (*effects, stan_recognises_motions):
        assert effect(found) == []


SEEDS = ["half", "half_mug", "half_seed_1", "half_seed_2", "half_mug_seed_1", "half_mug_seed_12", "half_seed_x"]


def test_a_query_counts_by_its_mean_over_the_seeds_that_were_run(run, make_run, make_evidence):
    with_seeds = make_run(**run.model_dump() | {"recipes": SEEDS})
    hits = ARMS | {
        "clip-half_seed_1-mean": percent(20),
        "clip-half_seed_2-cosine": percent(30),
        "clip_stan-half_seed_1-mean": percent(46),
        "clip-half_mug_seed_1-mug": percent(36),
        "clip-half_mug_seed_12-mug": percent(38),
        "clip-half_seed_x-mean": percent(99),  # no seed
        "clip_stan-half_mug_seed_3-mug": percent(99),  # not of this run
    }
    evidence = make_evidence(run=with_seeds, hits=hits, levels=["bottom"] * 5 + ["up"] * 15)
    assert summary(stan_beats_mean_pooling(evidence)) == [
        ("clip_stan-half-mean − clip-half-mean (R@1, 1 clip, 2 and 3 seeds)", "+15.5", "holds")
    ]
    assert summary(mug_beats_cosine(evidence)) == [
        ("clip-half_mug-mug − clip-half-mean (R@1, 1 clip, 3 seeds)", "+9.0", "holds"),
        ("clip_stan-half_mug-mug − clip_stan-half-mean (R@1, 1 clip, 1 and 2 seeds)", "+5.5", "holds"),
    ]
    assert both_are_best(evidence)[1].what.endswith("− clip-half_mug-mug (R@1, 1 clip, 1 and 3 seeds)")
    assert mug_helps_most_on_bottom(evidence)[0].what.endswith("on the others (R@1, 3 seeds)")


def spans_of(*right):
    """Rows of spans.jsonl of two videos, of which the first has one span."""
    return [
        {"video_id": "a" if row == 0 else "b", "label": "spins", "zero_shot": "spins" if hit else "grows"}
        for row, hit in enumerate(right)
    ]


def test_recognition_is_compared_over_seeds_and_with_the_spans_of_a_video_drawn_together(run, make_run, make_evidence):
    recognising = make_run(**run.model_dump() | {"recipes": ["motions", "motions_seed_1", "motions_mug"]})
    spans = {
        "clip-motions": spans_of(0, 0, 0, 0),
        "clip-motions_seed_1": spans_of(0, 1, 0, 0),
        "clip_stan-motions": spans_of(0, 1, 1, 1),
        "clip_stan-motions_seed_1": spans_of(1, 1, 1, 1),
        "clip_stan-motions_mug": spans_of(0, 0, 0, 0),
        "clip": spans_of(0, 0, 0, 0),
    }
    (found,) = stan_recognises_motions(make_evidence(run=recognising, spans=spans))
    assert found.what == "clip_stan-motions − clip-motions (top-1 of 4 spans, 2 seeds)"
    # Gains of 50 on the span of a and of 50, 100 and 100 on those of b: 75 on all. Of two drawn videos both are a in
    # a quarter of the resamples, and both b in another: 50 and 250 / 3 are the ends.
    assert found.effect == "+75.0 points (+50.0 to +83.3)"
    assert found.verdict == "holds"


@pytest.mark.parametrize("spans", [{}, {"clip-motions": spans_of(1)}, {"clip-motions": [], "clip_stan-motions": []}])
def test_without_both_models_or_spans_recognition_is_not_compared(run, make_run, make_evidence, spans):
    recognising = make_run(**run.model_dump() | {"recipes": ["motions"]})
    assert stan_recognises_motions(make_evidence(run=recognising, spans=spans)) == []
