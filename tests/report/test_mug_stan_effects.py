import numpy as np
import pytest

from stillmotion.report.mug_stan_effects import (
    both_are_best,
    mug_beats_cosine,
    mug_helps_most_on_bottom,
    stan_beats_mean_pooling,
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
        ("clip_stan-half-mean − clip-half-mean (1 clip)", "+5.0", "holds")
    ]


def test_each_model_is_scored_by_what_it_was_trained_with(run, make_evidence):
    assert summary(mug_beats_cosine(make_evidence(run=run, hits=ARMS))) == [
        ("clip-half_mug-mug − clip-half-mean (1 clip)", "+3.0", "holds"),
        ("clip_stan-half_mug-mug − clip_stan-half-mean (1 clip)", "+6.0", "holds"),
    ]


def test_both_are_compared_with_each_other_arm(run, make_evidence):
    hits = ARMS | {"clip-half_mug-mug": percent(53)}
    assert summary(both_are_best(make_evidence(run=run, hits=hits))) == [
        ("clip_stan-half_mug-mug − clip_stan-half-mean (1 clip)", "+6.0", "holds"),
        ("clip_stan-half_mug-mug − clip-half_mug-mug (1 clip)", "-2.0", "does not hold"),
        ("clip_stan-half_mug-mug − clip-half-mean (1 clip)", "+11.0", "holds"),
    ]


def test_the_alignment_called_cosine_stands_in_for_the_mean_of_a_model_that_is_not_aggregated(run, make_evidence):
    hits = {"clip-half-cosine": percent(40), "clip_stan-half-cosine": percent(38)}
    assert summary(stan_beats_mean_pooling(make_evidence(run=run, hits=hits))) == [
        ("clip_stan-half-cosine − clip-half-cosine (1 clip)", "-2.0", "does not hold")
    ]


def test_a_clip_with_two_stans_is_compared_once(run, make_run, make_evidence):
    two = make_run(**run.model_dump() | {"expansions": ["stan", "stan_conv"]})
    found = mug_beats_cosine(make_evidence(run=two, hits=ARMS))
    assert [row.what.split(" ")[0] for row in found] == ["clip-half_mug-mug", "clip_stan-half_mug-mug"]


def test_the_gain_on_the_bottom_is_held_against_that_on_all_others(run, make_evidence):
    levels = ["bottom"] * 5 + ["middle"] * 5 + ["up"] * 10
    cosine = {1: np.repeat([10.0, 40.0], [5, 15])}
    mug = {1: np.repeat([50.0, 42.0], [5, 15])}
    hits = {"clip-half-mean": cosine, "clip-half_mug-mug": mug}
    (found,) = mug_helps_most_on_bottom(make_evidence(run=run, hits=hits, levels=levels))
    assert found.what == ("clip-half_mug-mug − clip-half-mean: gain on the 5 queries of `bottom` − gain on the others")
    assert found.effect == "+38.0 points (+38.0 to +38.0)"
    assert found.verdict == "holds"


@pytest.mark.parametrize("levels", [[], ["up"] * NUM, ["bottom"] * NUM])
def test_without_two_groups_of_queries_no_gains_are_compared(run, make_evidence, levels):
    assert mug_helps_most_on_bottom(make_evidence(run=run, hits=ARMS, levels=levels)) == []


def test_without_stan_in_the_run_nothing_is_measured(make_run, make_evidence):
    found = make_evidence(run=make_run(), hits={"clip-half_patches-mean": percent(1)}, levels=["bottom", "up"])
    for effect in (stan_beats_mean_pooling, mug_beats_cosine, mug_helps_most_on_bottom, both_are_best):
        assert effect(found) == []
