import pytest

from stillmotion.report.systems import task_tables


def ranked(r1):
    values = {"R@1": r1, "R@5": 70.0, "R@10": 80.0, "MedR": 1.5, "MRR": 72.0}
    t2v = values | {"ci95": {"R@1": [r1 - 5.0, r1 + 5.0]}}
    return {"t2v": t2v, "v2t": {"R@1": 20.0}, "by_num_clips": {}}


@pytest.fixture
def tables(make_system, make_evidence):
    protocol = {"gallery_size": 50}
    mean = make_system(scorer="mean", recalls={1: 10, 2: 30}, metrics=ranked(30.0), protocol=protocol)
    mug = make_system(scorer="mug", recalls={1: 40}, metrics=ranked(40.0), protocol=protocol)
    tuned = make_system(recipe="half", scorer="mean", recalls={1: 10}, metrics=ranked(10.0), protocol=protocol)
    return task_tables(make_evidence(mean, tuned, mug))


def test_systems_stand_by_model_with_their_values_and_intervals(tables):
    table = tables["retrieval"]
    assert list(tables) == ["retrieval"]
    assert {title: [row.key for row in rows] for title, rows in table.groups.items()} == {
        "clip": ["clip-mean", "clip-mug"],
        "clip-half": ["clip-half-mean"],
    }
    first = table.rows[0].cells[0]
    assert (first.value, first.low, first.high, first.spread) == (30.0, 25.0, 35.0, None)
    assert table.rows[0].cells[1].low is None


def test_each_is_held_to_the_best_with_its_most_clips_query_by_query(tables):
    table = tables["retrieval"]
    assert table.best is not None
    assert table.best.key == "clip-mug"
    # every query has the same difference, so that the interval is a point
    assert {row.key: row.behind for row in table.rows} == {
        "clip-mean": (-10.0, -10.0, -10.0),
        "clip-mug": None,
        "clip-half-mean": (-30.0, -30.0, -30.0),
    }
    assert table.beside == "chance 2.0"


def test_a_rate_of_two_decimals_is_shown_from_the_queries_so_that_it_is_rounded_once(
    make_selection, make_evidence, moment_metrics
):
    # 770 of 1,104 are 69.746 %, which the official evaluator writes as 69.75; 53.94 is no rate of these queries
    windows = [{"top1_iou": 0.7, "average_precision": 0.3215}] * 770 + [
        {"top1_iou": 0.0, "average_precision": 0.3204}
    ] * 334
    brief = {"MR-full-R1@0.5": 53.94, "MR-full-R1@0.7": 69.75, "MR-full-mAP": 32.12}
    metrics = moment_metrics | {"brief": moment_metrics["brief"] | brief}
    system = make_selection("vc1", "none", []) | {
        "windows": [row | {"frame_iou": 0.0} for row in windows],
        "metrics": metrics,
    }
    (row,) = task_tables(make_evidence(system))["moments"].rows
    assert [f"{cell.value:.1f}" for cell in row.cells[:3]] == ["53.9", "69.7", "32.1"]
    assert row.cells[1].value == pytest.approx(77000 / 1104)
    assert metrics["brief"]["MR-full-R1@0.7"] == 69.75


def test_the_best_of_moments_is_made_by_a_model_and_seen_beside_the_best_reference(
    make_selection, make_system, make_evidence, moment_metrics
):
    def reference(name, rate):
        brief = moment_metrics["brief"] | {"MR-full-R1@0.5": rate}
        more = {"protocol": {"kind": "reference"}, "metrics": moment_metrics | {"brief": brief}}
        return make_system("moments", base=None, model=None, scorer=name, key=name, **more)

    rates = {"oracle": 100.0, "uniform_windows": 11.0, "whole_video": 3.0}
    found = task_tables(
        make_evidence(make_selection("vc1", "none", [0.2, 0.6]), *(reference(*one) for one in rates.items()))
    )
    table = found["moments"]
    assert table.best is not None
    assert table.best.key == "clip-vc1_none"
    assert [row.is_made for row in table.rows] == [True, False, False, False]
    assert table.beside == "uniform_windows 11.0"


def test_actions_have_a_column_for_each_number_of_shots_with_the_spread_over_seeds(make_system, make_evidence):
    spans = [{"zero_shot": "run", "label": "run", "video_id": "a"}]
    top1 = {"1": {"mean": 15.0, "std": 3.5}, "16": {"mean": 17.0, "std": 0.5}}
    metrics = {"zero_shot": {"top1": 11.6, "ci95": {"top1": [9.8, 13.4]}}, "top1": top1}
    one = make_system("actions", metrics=metrics, protocol={"chance_top1": 12.5}, spans=spans)
    table = task_tables(make_evidence(one))["actions"]
    assert [column.title for column in table.columns] == ["zero-shot top-1", "1 shot", "16 shots"]
    assert [(cell.value, cell.spread) for cell in table.rows[0].cells] == [(11.6, None), (15.0, 3.5), (17.0, 0.5)]
    assert table.beside == "chance 12.5"


def test_a_run_without_a_result_has_no_table(make_system, make_evidence):
    assert task_tables(make_evidence(make_system(scorer="mean"), make_system("actions"))) == {}
