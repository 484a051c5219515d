import numpy as np
import pytest

from stillmotion.report.differences import (
    Comparison,
    differences_table,
    moment_comparisons,
    num_clips,
    retrieval_comparisons,
    top1_values,
)


def test_a_moment_counts_from_an_iou_of_a_half():
    assert top1_values([{"top1_iou": 0.5}, {"top1_iou": 0.4999}]).tolist() == [100.0, 0.0]


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
    values = {f"{model}-{name}": np.empty(0) for model in run.models for name in run.selections}
    assert moment_comparisons(run, values) == []


@pytest.mark.parametrize("absent", ["aggregators", "selections"])
def test_a_run_without_aggregators_or_selections_has_nothing_to_compare(make_run, make_evidence, absent):
    run = make_run(**{absent: []})
    found = {"aggregators": lambda: retrieval_comparisons(make_evidence(run=run, hits={}))}
    assert found.get(absent, lambda: moment_comparisons(run, {}))() == []


def test_selections_are_compared_with_the_first(make_run):
    run = make_run(models=["clip"], selections=["vc1_none", "vc1_norm", "vc2_none"])
    values = {f"clip-{name}": np.array([float(place)]) for place, name in enumerate(run.selections)}
    found = moment_comparisons(run, values)
    assert [(pair.label, pair.first_Q[0], pair.second_Q[0]) for pair in found] == [
        ("clip-vc1_norm − clip-vc1_none", 1.0, 0.0),
        ("clip-vc2_none − clip-vc1_none", 2.0, 0.0),
    ]


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
