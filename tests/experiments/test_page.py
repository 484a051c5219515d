import xml.etree.ElementTree as ElementTree

import pytest
from scipy.stats import binom

from stillmotion.experiments.page import (
    recall_on_test,
    recall_on_validation,
    study_figure,
    study_page,
    study_table,
)
from stillmotion.report.figures import save_figure


def run(seed, validation, *hits):
    return {"seed": seed, "validation_R@1": validation, "test_R@1": sum(hits) / len(hits), "test_hits": list(hits)}


COST = {"forward_flops": 1.5e9, "backward_flops": 3e9, "peak_memory_mib": 73.6, "seconds_a_step": 0.1234}


@pytest.fixture
def result():
    """Two seeds at 8, one at 16, none at 32."""
    return {
        "name": "batch_size",
        "title": "Batch size",
        "dataset": "toy",
        "param": "recipes.patch_dropout.batch_size",
        "model": "clip-patch_dropout",
        "aggregator": "mean",
        "num_clips": 1,
        "recall_at": 1,
        "points": [
            {"value": 8, "runs": [run(0, 40.0, 100.0, 0.0), run(1, 44.0, 100.0, 100.0)]},
            {"value": 16, "runs": [run(0, 50.0, 0.0, 0.0)]},
            {"value": 32, "runs": []},
        ],
    }


def test_validation_is_the_mean_over_the_seeds_with_their_standard_deviation(result):
    # 42 ± sqrt((4 + 4) / 1)
    assert recall_on_validation(result["points"][0]) == (42.0, pytest.approx(8**0.5))
    assert recall_on_validation(result["points"][1]) == (50.0, None)


def test_the_interval_on_test_is_of_the_queries_with_the_seeds_averaged(result):
    assert recall_on_test(result["points"][0])[0] == 75.0
    # 64 of 100 queries are hits for both seeds: a resample has a binomial number of them
    point = {"runs": [run(seed, 0.0, *[100.0] * 64, *[0.0] * 36) for seed in (0, 1)]}
    value, low, high = recall_on_test(point)
    assert value == 64.0
    assert low == pytest.approx(binom.ppf(0.025, 100, 0.64), abs=1.5)
    assert high == pytest.approx(binom.ppf(0.975, 100, 0.64), abs=1.5)


def test_the_table_has_a_row_for_each_point_and_dashes_where_nothing_was_collected(result):
    assert study_table(result).splitlines() == [
        "| batch_size | runs | validation R@1 | test R@1 |",
        "|---|---:|---:|---:|",
        "| 8 | 2 | 42.0 ± 2.8 | 75.0 (50.0 to 100.0) |",
        "| 16 | 1 | 50.0 | 0.0 (0.0 to 0.0) |",
        "| 32 | 0 | – | – |",
    ]


def test_the_table_names_the_recall_of_the_test_queries(result):
    assert study_table(result | {"recall_at": 5}).splitlines()[0].endswith("| validation R@1 | test R@5 |")


def test_the_cost_has_columns_where_it_was_measured(result):
    result["points"][0]["cost"] = COST
    lines = study_table(result).splitlines()
    assert lines[0].endswith("| forward GFLOPs | backward GFLOPs | peak memory in MiB | seconds a step |")
    assert lines[2].endswith("| 1.50 | 3.00 | 74 | 0.123 |")
    assert lines[3].endswith("| 0.0 (0.0 to 0.0) | – | – | – | – |")


def test_the_page_says_what_was_varied_shows_the_figure_and_lists_what_failed(result):
    page = study_page(result, {"batch_size-32-0": "finetune: error: out of memory"})
    assert page.startswith(
        "# Batch size\n\n`recipes.patch_dropout.batch_size` of clip-patch_dropout with mean (1 clip) on toy"
    )
    assert "seeds 0, 1." in page
    assert "\n![Batch size](batch_size.svg)\n" in page
    assert page.endswith("\nNot collected:\n\n- batch_size-32-0: finetune: error: out of memory\n")
    assert "Not collected" not in study_page(result, {})


def test_the_figure_is_the_same_bytes_each_time_and_well_formed(result, tmp_path):
    for name in ("a.svg", "b.svg"):
        save_figure(study_figure(result), tmp_path / name)
    content = (tmp_path / "a.svg").read_bytes()
    assert content == (tmp_path / "b.svg").read_bytes()
    assert ElementTree.fromstring(content).tag.endswith("svg")


def test_the_figure_has_validation_and_test_of_the_points_that_have_runs(result):
    (axes,) = study_figure(result).axes
    validation, test = (container.lines[0].get_ydata().tolist() for container in axes.containers)
    assert validation == [42.0, 50.0]
    assert test == [75.0, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16"]
