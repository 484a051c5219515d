import numpy as np
import pytest

from stillmotion.claims.mug_stan import (
    MUG_STAN,
    both_are_best,
    mug_beats_cosine,
    mug_beats_cosine_on_partial_captions,
    mug_helps_most_on_bottom,
    mug_helps_most_where_least_is_described,
    post_pretraining_helps,
    stan_beats_heads,
    stan_beats_mean_pooling,
    stan_names_motions,
)

NUM = 20


@pytest.fixture
def make(make_system):
    """A fine-tuned system with one clip: `make(40, expansion="stan")`."""

    def make(recall, *, recipe="half", scorer="mean", seed=0, **fields):
        return make_system(recipe=recipe, scorer=scorer, seed=seed, recalls={1: recall, 8: 99}, **fields)

    return make


@pytest.fixture
def arms(make):
    """CLIP and its STAN by cosines and by Mug: 40, 45, 43 and 51; all else is left out of the claims."""
    return [
        make(40),
        make(99, scorer="mug"),  # not trained with Mug
        make(45, expansion="stan"),
        make(43, recipe="mug", scorer="mug"),
        make(99, recipe="mug", scorer="cosine"),
        make(99, recipe="mug", scorer="mug_dual_softmax"),
        make(51, expansion="stan", recipe="mug", scorer="mug"),
        make(99, expansion="xclip"),
        make(99, recipe=None, seed=None),
        make(99, recipe="motions"),
        make(0, recipe="all", expansion="stan"),  # with no CLIP that is trained alike
    ]


def summary(measurements, measure="R@1"):
    """The measurements by one of the two recalls, which have the same values where it is not said."""
    rows = [row for row in measurements if measure in row.what]
    return [(row.what, row.effect.split(" ")[0], row.verdict) for row in rows]


def test_stan_and_its_clip_are_compared_with_one_clip(arms, make_evidence):
    assert summary(stan_beats_mean_pooling(make_evidence(*arms))) == [
        ("clip-stan-half-0-mean − clip-half-0-mean (R@1, 1 clip)", "+5.0", "holds")
    ]


def test_each_model_is_scored_by_what_it_was_trained_with(arms, make_evidence):
    found = mug_beats_cosine(make_evidence(*arms))
    assert summary(found) == [
        ("clip-mug-0-mug − clip-half-0-mean (R@1, 1 clip)", "+3.0", "holds"),
        ("clip-stan-mug-0-mug − clip-stan-half-0-mean (R@1, 1 clip)", "+6.0", "holds"),
    ]
    assert summary(found, "R@5") == [(what.replace("R@1", "R@5"), *rest) for what, *rest in summary(found)]


def test_what_is_found_among_the_first_five_is_compared_beside_what_is_found_first(make, make_evidence):
    found = make_evidence(make((40, 70)), make((45, 55), expansion="stan"))
    assert [row.effect.split(" ")[0] for row in stan_beats_mean_pooling(found)] == ["+5.0", "-15.0"]


def test_stan_is_compared_with_each_head_on_the_same_clip_over_the_seeds(make, make_evidence):
    stans = [make(45, expansion="stan"), make(47, expansion="stan", seed=1)]
    others = [
        make(40, expansion="seq_lstm"),
        make(44, expansion="seq_lstm", seed=1),
        make(40, expansion="tight", scorer="own"),
        make(99, expansion="tight"),
        make(99, expansion="xclip"),
    ]
    assert summary(stan_beats_heads(make_evidence(*stans, *others))) == [
        ("clip-stan-half-mean − clip-seq_lstm-half-mean (R@1, 1 clip, 2 seeds)", "+4.0", "holds"),
        ("clip-stan-half-mean − clip-tight-half-0-own (R@1, 1 clip, 2 and 1 seeds)", "+6.0", "holds"),
    ]
    assert stan_beats_heads(make_evidence(*others)) == []


@pytest.mark.parametrize(("recipe", "scorer"), [("half", "cosine"), ("mug", "mug")])
def test_what_was_post_pretrained_is_compared_after_fine_tuning_by_what_both_were_trained_with(
    make, make_evidence, recipe, scorer
):
    before = {"dataset": "noisy", "recipe": "half", "seed": 0}
    systems = [
        make(50 if name == scorer else 0, expansion="stan", recipe=recipe, scorer=name, pretraining=pretraining)
        for name in ("cosine", "mug")
        for pretraining in (before, None)
    ]
    systems[0]["recalls"] = systems[2]["recalls"] = {1: 48}
    assert summary(post_pretraining_helps(make_evidence(*systems, make(1, recipe=recipe, scorer=scorer)))) == [
        (
            f"clip-stan-noisy-{recipe}-0-{scorer} − clip-stan-{recipe}-0-{scorer} (R@1, 1 clip)",
            "-2.0",
            "does not hold",
        )
    ]


def test_the_cosine_of_mean_pooled_frames_stands_in_for_the_mean_of_one_clip(make, make_evidence):
    systems = [make(40, scorer="cosine"), make(38, expansion="stan"), make(39, expansion="stan", scorer="cosine")]
    assert summary(stan_beats_mean_pooling(make_evidence(*systems))) == [
        ("clip-stan-half-0-mean − clip-half-0-cosine (R@1, 1 clip)", "-2.0", "does not hold")
    ]


def test_the_cosine_of_guided_embeddings_is_ours_and_so_is_a_stan_with_class_tokens_of_frames(
    arms, make, make_evidence
):
    guided = {"recipe": "mug_cosine", "scorer": "mug_cosine"}
    more = [make(60, **guided), make(62, **guided, seed=1), make(47, expansion="stan_frame")]
    found = make_evidence(*arms, *more)
    assert summary(mug_beats_cosine(found))[2:] == [
        ("clip-mug_cosine-mug_cosine − clip-half-0-mean (R@1, 1 clip, 2 and 1 seeds)", "+21.0", "holds")
    ]
    assert [row.is_ours for row in mug_beats_cosine(found)] == [False, False, True] * 2
    assert [row.is_ours for row in stan_beats_mean_pooling(found)] == [False, True] * 2


def test_both_are_held_against_all_else_of_the_same_clip_each_two_once(arms, make, make_evidence):
    more = [
        make(46, expansion="stan_conv"),
        make(52, expansion="stan_conv", recipe="mug", scorer="mug"),
        make(44, expansion="seq_lstm"),
        make(1, base="b"),
        make(2, base="b", expansion="stan", recipe="mug", scorer="mug"),
    ]
    rows = [(what.split(" (")[0], effect) for what, effect, _ in summary(both_are_best(make_evidence(*arms, *more)))]
    assert rows == [
        ("clip-stan-mug-0-mug − clip-half-0-mean", "+11.0"),
        ("clip-stan-mug-0-mug − clip-stan-half-0-mean", "+6.0"),
        ("clip-stan-mug-0-mug − clip-mug-0-mug", "+8.0"),
        ("clip-stan-mug-0-mug − clip-stan_conv-half-0-mean", "+5.0"),
        ("clip-stan-mug-0-mug − clip-seq_lstm-half-0-mean", "+7.0"),
        ("clip-stan_conv-mug-0-mug − clip-half-0-mean", "+12.0"),
        ("clip-stan_conv-mug-0-mug − clip-stan-half-0-mean", "+7.0"),
        ("clip-stan_conv-mug-0-mug − clip-mug-0-mug", "+9.0"),
        ("clip-stan_conv-mug-0-mug − clip-stan-mug-0-mug", "+1.0"),
        ("clip-stan_conv-mug-0-mug − clip-stan_conv-half-0-mean", "+6.0"),
        ("clip-stan_conv-mug-0-mug − clip-seq_lstm-half-0-mean", "+8.0"),
        ("b-stan-mug-0-mug − b-half-0-mean", "+1.0"),
    ]


def with_values(evidence, **of_scorer):
    """The evidence with these values by scorer, which differ from query to query."""
    for row, scorer in enumerate(evidence.values["scorer"]):
        evidence.values.at[row, "values"] = np.array(of_scorer[scorer], dtype=float)
    return evidence


def test_the_gain_on_the_bottom_is_held_against_that_on_all_others(make, make_evidence):
    groups = ["bottom"] * 5 + ["middle"] * 5 + ["up"] * 10
    evidence = make_evidence(make(0), make(0, recipe="mug", scorer="mug"), coverage=groups)
    with_values(evidence, mean=[10] * 5 + [40] * 15, mug=[50] * 5 + [42] * 15)
    found, _ = mug_helps_most_on_bottom(evidence)
    assert found.what == (
        "clip-mug-0-mug − clip-half-0-mean (R@1, 1 clip): gain on the 5 queries of `bottom` − gain on the others"
    )
    assert (found.effect, found.verdict) == ("+38.0 points (+38.0 to +38.0)", "holds")


def test_on_partial_captions_mug_is_compared_by_the_queries_of_two_groups_alone(make, make_evidence):
    groups = ["bottom"] * 4 + ["up"] * 15 + ["middle"]
    evidence = make_evidence(make(0), make(0, recipe="mug", scorer="mug"), coverage=groups)
    with_values(evidence, mean=[10] * 4 + [90] * 15 + [20], mug=[15] * 4 + [0] * 15 + [25])
    assert summary(mug_beats_cosine_on_partial_captions(evidence)) == [
        (
            "clip-mug-0-mug − clip-half-0-mean (R@1, 1 clip) on the 5 queries of `middle` and `bottom`",
            "+5.0",
            "holds",
        )
    ]


@pytest.mark.parametrize("groups", [[], ["up"] * NUM, ["bottom"] * NUM])
def test_without_two_groups_of_queries_no_gains_are_compared(arms, make_evidence, groups):
    evidence = make_evidence(*arms, coverage=groups)
    assert mug_helps_most_on_bottom(evidence) == []
    assert bool(mug_beats_cosine_on_partial_captions(evidence)) == ("bottom" in groups)


def described(model, scorer, *points):
    """A study with a run for each list of hits of a point: (value, hits of a run, …)."""
    rows = [
        {"value": value, "runs": [{"validation_R@1": 0.0, "test_hits": hits} for hits in runs]}
        for value, *runs in points
    ]
    return {"model": model, "aggregator": scorer, "dataset": "partial", "recall_at": 5, "points": rows}


def test_the_gain_where_least_is_described_is_held_against_that_where_all_is(make_evidence):
    cosine = described("a", "cosine", (0.0, [90.0] * NUM), (0.5, [50.0] * NUM), (1.0, [40.0] * NUM))
    mug = described("b", "mug", (0.0, [80.0] * NUM), (0.5,), (1.0, [60.0] * NUM, [50.0] * NUM))
    evidence = make_evidence(studies={"partial_captions_cosine": cosine, "partial_captions_mug": mug})
    (found,) = mug_helps_most_where_least_is_described(evidence)
    assert found.what == (
        "b-mug − a-cosine: gain with undescribed_rate 1 (+15.0) − gain with 0 (-10.0) "
        "(R@5 on 20 queries of partial, 1 to 2 seeds)"
    )
    assert (found.effect, found.verdict) == ("+25.0 points (+25.0 to +25.0)", "holds")
    for studies in (
        {"partial_captions_cosine": cosine},
        {"partial_captions_cosine": cosine, "partial_captions_mug": described("b", "mug", (0.0, [1.0]))},
    ):
        found = mug_helps_most_where_least_is_described(make_evidence(studies=studies))
        assert [row.verdict for row in found] in ([], ["not comparable"])


def test_both_together_are_held_against_the_others_for_each_value_of_the_studies(make_evidence):
    half = np.repeat([10.0, 60.0], NUM // 2)
    studies = {
        "partial_captions_stan_mug": described("sb", "mug", (0.0, [70.0] * NUM), (1.0, half, half + 20)),
        "partial_captions_stan_cosine": described("sa", "cosine", (1.0, [45.0] * NUM)),
        "partial_captions_mug": described("b", "mug", (0.0, [70.0] * NUM), (1.0, half + 15, half + 15)),
        "partial_captions_cosine": described("a", "cosine", (0.0, [75.0] * NUM)),
    }
    of = "on 20 queries of partial"
    assert summary(both_are_best(make_evidence(studies=studies)), "R@5") == [
        (f"sb-mug − b-mug with undescribed_rate 0 (R@5 {of}, 1 seed)", "+0.0", "undecided"),
        (f"sb-mug − a-cosine with undescribed_rate 0 (R@5 {of}, 1 seed)", "-5.0", "does not hold"),
        (f"sb-mug − sa-cosine with undescribed_rate 1 (R@5 {of}, 2 and 1 seeds)", "+0.0", "undecided"),
        (f"sb-mug − b-mug with undescribed_rate 1 (R@5 {of}, 2 seeds)", "-5.0", "does not hold"),
    ]


def test_studies_of_different_queries_are_named_and_not_compared(make_evidence):
    cosine = described("a", "cosine", (0.0, [90.0] * NUM), (1.0, [40.0] * NUM))
    mug, both = (described(name, "mug", (0.0, [80.0] * 40), (1.0, [60.0] * 40)) for name in ("b", "sb"))
    evidence = make_evidence(
        studies={"partial_captions_cosine": cosine, "partial_captions_mug": mug, "partial_captions_stan_mug": both}
    )
    (found,) = mug_helps_most_where_least_is_described(evidence)
    assert found.what.startswith(
        "partial_captions_cosine, partial_captions_mug, partial_captions_stan_mug differ in their test queries; run "
    )
    assert (found.effect, found.verdict) == ("–", "not comparable")
    assert both_are_best(evidence) == []


def spans_of(*right):
    """Rows of spans.jsonl of two videos, of which the first has one span."""
    return [
        {"video_id": "a" if row == 0 else "b", "label": "spins", "zero_shot": "spins" if hit else "grows"}
        for row, hit in enumerate(right)
    ]


def test_recognition_is_compared_over_seeds_and_with_the_spans_of_a_video_drawn_together(make_system, make_evidence):
    def model(seed, *right, expansion=None, recipe="motions"):
        return make_system("actions", expansion=expansion, recipe=recipe, seed=seed, spans=spans_of(*right))

    (found,) = stan_names_motions(
        make_evidence(
            model(0, 0, 0, 0, 0),
            model(1, 0, 1, 0, 0),
            model(0, 0, 1, 1, 1, expansion="stan"),
            model(1, 1, 1, 1, 1, expansion="stan"),
            model(0, 0, 0, 0, 0, expansion="stan", recipe="half"),
        )
    )
    assert found.what == "clip-stan-motions − clip-motions (top-1, 2 seeds) of 4 spans"
    # Gains of 50 on the span of a and of 50, 100 and 100 on those of b: 75 on all. Of two drawn videos both are a in
    # a quarter of the resamples, and both b in another: 50 and 250 / 3 are the ends.
    assert found.effect == "+75.0 points (+50.0 to +83.3)"
    assert found.verdict == "holds"


def test_without_stan_and_mug_nothing_is_measured(make, make_evidence):
    for found in (make_evidence(), make_evidence(make(1), coverage=["bottom", "up"])):
        assert [claim.measure(found) for claim in MUG_STAN.claims] == [[]] * len(MUG_STAN.claims)
