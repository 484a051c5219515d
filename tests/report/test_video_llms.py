"""The tables, the shades and the curves of hidden states and of what aligns them."""

import itertools

import pytest

from stillmotion.claims.systems import Origin
from stillmotion.report.charts import HEIGHT
from stillmotion.report.tables import HeatTable
from stillmotion.report.video_llms import (
    best_layers_table,
    heads_table,
    loss_charts,
    poolings_tables,
    sweep_tables,
)


def rows(layers, start=1.0):
    values = itertools.count(start)
    return [
        {"layer": layer, "video_pooling": video, "text_pooling": text, "MRR": next(values), "R@1": 0.0}
        for layer in layers
        for video in ("first", "mean")
        for text in ("first", "mean")
    ]


def told(table):
    return {title: [(row.name, list(row.values)) for row in of_title] for title, of_title in table.groups.items()}


@pytest.fixture
def evidence(make_system, make_evidence):
    chosen = {"hidden_states": {"layer": "layer:1", "video_pooling": "mean", "text_pooling": "first"}}
    sweep = rows(["before_llm", "layer:1"])
    sweep[6]["MRR"] = 9.5
    ranked = {"MRR": 2.04, "ci95": {"MRR": [1.4, 2.9]}}
    return make_evidence(
        make_system(scorer="mean"),
        make_system(scorer="before", metrics={"poolings": rows(["before_llm"])}),
        make_system(scorer="after", metrics={"poolings": rows(["last"], 5.0)[:2]}),
        make_system(scorer="best", metrics={"sweep": sweep, "t2v": ranked}, protocol=chosen),
    )


def test_poolings_before_and_after_the_llm_are_groups_of_one_table_videos_by_row_and_texts_by_column(evidence):
    (table,) = poolings_tables(evidence)
    assert table.header == ["pooling of the video; texts by", "first", "mean"]
    assert told(table) == {
        "clip-before, at before_llm": [("first", [1.0, 2.0]), ("mean", [3.0, 4.0])],
        "clip-after, at last": [("first", [5.0, 6.0])],
    }
    assert [row.origin for of_title in table.groups.values() for row in of_title] == [
        *[Origin("retrieval", "clip-before")] * 2,
        Origin("retrieval", "clip-after"),
    ]


def test_a_number_is_shaded_by_its_place_between_the_lowest_and_the_highest_of_the_table(evidence):
    (table,) = poolings_tables(evidence)
    # 1 to 6 over both groups
    assert [table.strength(value) for value in (1.0, 3.0, 6.0)] == [0, 40, 100]
    alike = HeatTable(["", "a"], {"": [row for row in table.groups["clip-after, at last"] if row.values.pop()]})
    assert alike.strength(5.0) == 0


def test_layers_are_columns_of_the_sweep_and_the_highest_is_framed(evidence):
    (table,) = sweep_tables(evidence)
    assert table.header == ["pooling of the video, of the text", "before_llm", "layer:1"]
    pairs = [("first, first", [1.0, 5.0]), ("first, mean", [2.0, 6.0])]
    assert told(table) == {"clip-best": [*pairs, ("mean, first", [3.0, 9.5]), ("mean, mean", [4.0, 8.0])]}
    assert table.chosen == ("mean, first", "layer:1")


def test_what_was_chosen_on_validation_stands_with_its_value_there_and_on_test(evidence):
    table = best_layers_table(evidence)
    assert table.rows == [["clip-best", "2.0 (1.4 to 2.9)", "9.50", "layer:1", "mean", "first"]]
    assert table.rows[0][0].origins == [Origin("retrieval", "clip-best")]


def epochs(seed, *losses):
    return [{"seed": seed, "epoch": e, "loss": loss, "validation_loss": loss + 0.5} for e, loss in enumerate(losses)]


HISTORIES = {
    "clip-mlp": [*epochs(0, 0.9, 0.2), *epochs(1, 0.8, 0.25)],
    "clip-tokens": [{"seed": 0, "epoch": 0, "loss": 1.0}],
    "clip-mean": [{"seed": 0, "epoch": 0, "loss": 1.0, "score": 30.0}],
}


def test_a_head_stands_with_what_it_reads_and_the_mean_of_its_seeds_last_losses(make_system, make_evidence):
    mlp = {"layer": "layer:3", "video_pooling": "max", "text_pooling": "mean", "inputs": "raw", "loss": "mse"}
    heads = {"mlp": mlp, "tokens": {"layer": "last", "loss": "infonce"}}
    systems = [
        make_system(scorer=name, metrics={"t2v": {"MRR": 50.0}}, protocol={"head": head})
        for name, head in heads.items()
    ]
    table = heads_table(make_evidence(*systems, make_system(scorer="mean")), HISTORIES)
    # (0.2 + 0.25) / 2, and half more on validation
    assert table.rows == [
        ["clip-mlp", "50.0", "layer:3", "max, mean", "raw", "mse", "0.225", "0.725"],
        ["clip-tokens", "50.0", "last", "all tokens", "–", "infonce", "1.000", "–"],
    ]
    assert table.rows[0][0].origins == [Origin("retrieval", "clip-mlp")]


def test_losses_of_a_head_are_one_chart_with_a_pair_of_curves_for_each_seed(make_evidence):
    (chart,) = loss_charts(HISTORIES)
    assert (chart.title, chart.across) == ("clip-mlp: loss", "epoch")
    assert [(line.name, line.color) for line in chart.lines] == [("training", 0), ("validation", 9)] * 2
    assert [[mark.label for mark in line.marks] for line in chart.lines[:2]] == [
        ["1: 0.900", "2: 0.200"],
        ["1: 1.400", "2: 0.700"],
    ]
    assert [mark.is_dot for mark in chart.lines[0].marks] == [False, True]
    assert all(0 < mark.y < HEIGHT for line in chart.lines for mark in line.marks)
    assert loss_charts({"clip-mean": []}) == []


def test_a_run_without_hidden_states_or_heads_has_none_of_it(make_system, make_evidence):
    plain = make_evidence(make_system(scorer="mean"))
    assert (poolings_tables(plain), sweep_tables(plain)) == ([], [])
    assert (best_layers_table(plain), heads_table(plain, HISTORIES)) == ("", "")
