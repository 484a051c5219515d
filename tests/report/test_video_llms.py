"""The tables and the heat map of hidden states."""

import itertools
from types import SimpleNamespace

import pytest

from stillmotion.report.figures import save_figure
from stillmotion.report.video_llms import drawn_sweeps, pooling_tables, sweep_table


def rows(layers, start=1.0):
    values = itertools.count(start)
    return [
        {"layer": layer, "video_pooling": video, "text_pooling": text, "MRR": next(values), "R@1": 0.0}
        for layer in layers
        for video in ("first", "mean")
        for text in ("first", "mean")
    ]


@pytest.fixture
def evidence():
    systems = {"clip": {"t2v": {}}, "given": {"poolings": rows(["last"])}, "best": {"sweep": rows(["last", "layer:1"])}}
    return SimpleNamespace(metrics=lambda task: systems if task == "retrieval" else {})


def test_poolings_of_videos_are_rows_and_of_texts_columns(evidence):
    assert pooling_tables(evidence) == {
        "given": "| T2V MRR at last: videos by, texts by | first | mean |\n|---|---:|---:|\n"
        "| first | 1.00 | 2.00 |\n| mean | 3.00 | 4.00 |"
    }


def test_layers_are_columns_of_the_sweep():
    lines = sweep_table(rows(["before_llm", "layer:1"])).splitlines()
    assert lines[0] == "| validation MRR: poolings of video, text | before_llm | layer:1 |"
    assert lines[2:4] == ["| first, first | 1.00 | 5.00 |", "| first, mean | 2.00 | 6.00 |"]


def test_the_heat_map_of_a_sweep_is_the_same_bytes_again(evidence, tmp_path):
    for name in ("a", "b"):
        (figure,) = drawn_sweeps(evidence).values()
        save_figure(figure, tmp_path / f"{name}.svg")
    assert list(drawn_sweeps(evidence)) == ["layers-best"]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
