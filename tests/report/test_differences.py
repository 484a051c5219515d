import numpy as np
import pytest

from stillmotion.report.differences import (
    Comparison,
    clustered_difference,
    differences_table,
    num_clips,
    retrieval_comparisons,
    unpaired_difference,
)


def hits_of_all(run, counts=(1, 4)):
    systems = [f"{model}-{aggregator}" for model in run.models for aggregator in run.aggregators]
    return {name: {count: np.array([float(count), place]) for count in counts} for place, name in enumerate(systems)}


def test_aggregators_are_compared_with_the_first_and_fine_tuned_models_with_their_base(make_run, make_evidence):
    run = make_run(aggregators=["mean", "class_token"])
    hits = hits_of_all(run)
    found = retrieval_comparisons(make_evidence(run=run, hits=hits))
    assert [pair.label for pair in found] == [
        "clip-class_token − clip-mean",
        "clip-half_patches-class_token − clip-half_patches-mean",
        "clip-half_patches-mean − clip-mean",
    ]
    # with the most clips
    assert found[0].first_Q.tolist() == [4.0, 1.0]
    assert found[0].second_Q.tolist() == [4.0, 0.0]


def test_conditional_texts_are_compared_with_one_clip_and_say_so(make_run, make_evidence):
    run = make_run(aggregators=["mean"], models=["clip"], conditional=["clip"])
    hits = {"clip-mean": {1: np.array([0.0]), 4: np.array([50.0])}, "clip-conditional": {1: np.array([100.0])}}
    (pair,) = retrieval_comparisons(make_evidence(run=run, hits=hits))
    assert pair.label == "clip-conditional − clip-mean (1 clip)"
    assert (pair.first_Q.tolist(), pair.second_Q.tolist()) == ([100.0], [0.0])


def test_alignments_are_compared_with_the_mean_of_one_clip_and_between_a_model_and_what_it_was_expanded_to(
    make_run, make_evidence
):
    aligned = ["clip", "clip_stan", "clip-half", "clip_stan-half", "clip_stan-other"]
    run = make_run(
        expanded=["clip"],
        expansions=["stan"],
        embedded=["clip", "clip_stan"],
        finetuned=["clip", "clip_stan"],
        recipes=["half", "other"],
        models=["clip", "clip-half"],
        aggregators=["mean"],
        aligned=aligned,
        alignments=["cosine", "mug"],
    )
    hits = hits_of_all(run) | {f"{model}-{name}": {1: np.array([7.0])} for model in aligned for name in run.alignments}
    found = [pair.label for pair in retrieval_comparisons(make_evidence(run=run, hits=hits))]
    assert found == [
        "clip-half-mean − clip-mean",
        "clip-cosine − clip-mean (1 clip)",
        "clip-mug − clip-mean (1 clip)",
        "clip-half-cosine − clip-half-mean (1 clip)",
        "clip-half-mug − clip-half-mean (1 clip)",
        "clip_stan-cosine − clip-cosine",
        "clip_stan-mug − clip-mug",
        "clip_stan-half-cosine − clip-half-cosine",
        "clip_stan-half-mug − clip-half-mug",
    ]


def test_samples_of_different_sizes_are_drawn_apart():
    generator = np.random.default_rng(0)
    first_Q, second_Q = generator.normal(3, 2, 400), generator.normal(1, 4, 100)
    difference, low, high = unpaired_difference(first_Q, second_Q, seed=0, num_resamples=4000)
    # by the normal approximation
    half = 1.96 * np.sqrt(first_Q.var() / 400 + second_Q.var() / 100)
    assert difference == first_Q.mean() - second_Q.mean()
    assert low == pytest.approx(difference - half, abs=0.06)
    assert high == pytest.approx(difference + half, abs=0.06)


def test_queries_of_a_cluster_are_drawn_together():
    generator = np.random.default_rng(0)
    gain_C = generator.normal(2, 3, 150)
    alone = clustered_difference(gain_C, np.zeros(150), np.arange(150), seed=0, num_resamples=4000)
    # by the normal approximation, of 150 independent values
    half = 1.96 * gain_C.std() / np.sqrt(150)
    assert alone == pytest.approx((gain_C.mean(), gain_C.mean() - half, gain_C.mean() + half), abs=0.05)
    # Four queries that are alike in everything tell no more than one.
    copies_Q, order = np.repeat(gain_C, 4), generator.permutation(600)
    ids_Q = np.repeat([f"v{row}" for row in range(150)], 4)
    shuffled = clustered_difference(copies_Q[order], np.zeros(600), ids_Q[order], seed=0, num_resamples=4000)
    assert shuffled == pytest.approx((gain_C.mean(), gain_C.mean() - half, gain_C.mean() + half), abs=0.05)


def test_a_resample_is_the_mean_over_the_queries_that_it_has_drawn():
    # One query gains 60 and three of another cluster nothing: of two draws both are the first in a quarter, both the
    # other in a quarter, and 60 of four queries otherwise.
    first_Q, cluster_Q = np.array([0.0, 60.0, 0.0, 0.0]), ["b", "a", "b", "b"]
    found = clustered_difference(first_Q, np.zeros(4), np.array(cluster_Q), seed=0, num_resamples=400)
    assert found == (15.0, 0.0, 60.0)


def test_a_base_that_is_not_evaluated_is_compared_with_nothing(make_run, make_evidence):
    run = make_run(models=["clip-half_patches"], aggregators=["mean"])
    assert retrieval_comparisons(make_evidence(run=run, hits=hits_of_all(run))) == []


def test_systems_without_queries_are_compared_with_nothing(make_run, make_evidence):
    run = make_run(aggregators=["mean", "class_token"])
    assert retrieval_comparisons(make_evidence(run=run, hits=hits_of_all(run, counts=()))) == []


def test_a_run_without_aggregators_has_nothing_to_compare(make_run, make_evidence):
    assert retrieval_comparisons(make_evidence(run=make_run(aggregators=[]), hits={})) == []


def test_the_difference_is_that_of_the_means_and_a_sure_one_has_a_narrow_interval():
    pair = Comparison("a − b", np.full(40, 100.0), np.zeros(40))
    # p is at least 2 / (R + 1)
    assert "| a − b | +100.0 (+100.0 to +100.0) | 0.010 |" in differences_table(
        [pair], "R@1", seed=0, num_resamples=199
    )


def test_without_comparisons_there_is_no_table():
    assert differences_table([], "R@1", seed=0, num_resamples=10) == ""


def test_one_clip_is_singular():
    assert [num_clips(count) for count in (1, 4)] == ["1 clip", "4 clips"]
