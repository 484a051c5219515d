import numpy as np

from stillmotion.report.differences import (
    Comparison,
    differences_table,
    num_clips,
    retrieval_comparisons,
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
