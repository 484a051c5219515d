import pytest

from stillmotion.report.tables import leading_value, markdown_table, number, with_interval


def test_a_table_has_its_first_column_left_and_the_others_right():
    assert markdown_table(["a", "b", "c"], [["x", "1", "2"]]) == "| a | b | c |\n|---|---:|---:|\n| x | 1 | 2 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"
    assert markdown_table(["a", "b", "c"], [], left=2).splitlines()[1] == "|---|---|---:|"


def test_a_table_keeps_its_header_and_rows_as_they_were_given():
    table = markdown_table(["a", "b"], iter([["x|y", "1"]]))
    assert (table.header, table.rows) == (["a", "b"], [["x|y", "1"]])


def test_a_cell_can_end_neither_itself_nor_its_row():
    table = markdown_table(["video", "reason"], [["a|b", "line\nbreak"]])
    assert table.splitlines()[2:] == ["| a\\|b | line break |"]


@pytest.mark.parametrize(
    ("value", "digits", "shown"), [(63.14, 1, "63.1"), (0, 1, "0.0"), (None, 1, "–"), (2.006, 2, "2.01")]
)
def test_a_number_is_rounded_and_a_missing_one_a_dash(value, digits, shown):
    assert number(value, digits) == shown


def test_a_value_stands_with_its_interval_where_it_has_one():
    assert with_interval({"R@1": 63.14, "ci95": {"R@1": [55.6, 70.6]}}, "R@1") == "63.1 (55.6 to 70.6)"
    assert with_interval({"R@1": 63.14}, "R@1") == "63.1"
    assert with_interval({}, "R@1") == "–"


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("63.1 (55.6 to 70.6)", "63.1"),
        ("+1.0 (-0.5 to +2.0)", "+1.0"),
        ("-2", "-2"),
        ("× 0.55", "0.55"),
        ("1,024", "1024"),
        ("38.50±0.28", "38.50"),
        ("–", ""),
        ("R1@0.5", ""),
        ("", ""),
    ],
)
def test_a_cell_is_sorted_by_the_number_that_it_begins_with(cell, value):
    assert leading_value(cell) == value
