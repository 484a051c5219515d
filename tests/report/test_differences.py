from types import SimpleNamespace

import numpy as np
import pytest

from stillmotion.report.differences import (
    differences_table,
    moment_pairs_to_compare,
    recall_values,
    retrieval_pairs_to_compare,
    top1_values,
)

RUN = SimpleNamespace(
    backbones=["clip"],
    finetuned=["clip"],
    recipes=["half"],
    models=["clip", "clip-half"],
    aggregators=["mean", "token"],
    selections=["vc1_none", "vc1_norm"],
)


def test_the_value_of_a_caption_is_its_mean_over_the_seeds():
    rows = [{"rank": [1.0, 2.0]}, {"rank": [1.0, 1.0]}, {"rank": [3.0, 1.5]}]
    assert recall_values(rows).tolist() == [50.0, 100.0, 0.0]


def test_a_moment_counts_from_an_iou_of_a_half():
    assert top1_values([{"top1_iou": 0.5}, {"top1_iou": 0.4999}]).tolist() == [100.0, 0.0]


def test_aggregators_are_compared_with_the_first_and_fine_tuned_models_with_their_backbone():
    assert retrieval_pairs_to_compare(RUN) == [
        ("clip-token", "clip-mean"),
        ("clip-half-token", "clip-half-mean"),
        ("clip-half-mean", "clip-mean"),
    ]
    assert moment_pairs_to_compare(RUN) == [
        ("clip-vc1_norm", "clip-vc1_none"),
        ("clip-half-vc1_norm", "clip-half-vc1_none"),
    ]


def test_a_backbone_that_is_not_evaluated_is_compared_with_nothing():
    run = SimpleNamespace(**{**vars(RUN), "models": ["clip-half"], "aggregators": ["mean"]})
    assert retrieval_pairs_to_compare(run) == []


def test_the_difference_is_that_of_the_means_and_a_sure_one_has_a_narrow_interval():
    values = {"a": np.full(40, 100.0), "b": np.zeros(40)}
    table = differences_table(values, [("a", "b")], "R@1", seed=0, num_resamples=200)
    assert "| a − b | +100.0 (+100.0 to +100.0) |" in table


@pytest.mark.parametrize("pairs", [[], [("a", "b")]])
def test_without_queries_or_pairs_there_is_no_table(pairs):
    assert differences_table({"a": np.empty(0), "b": np.empty(0)}, pairs, "R@1", seed=0, num_resamples=10) == ""
