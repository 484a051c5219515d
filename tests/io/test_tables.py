import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
utf8 = st.text(st.characters(codec="utf-8"))


def test_json_is_indented_utf_8_in_the_order_given(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": ["é", None]})
    expected = '{\n  "b": 1,\n  "a": [\n    "é",\n    null\n  ]\n}\n'
    assert (tmp_path / "x.json").read_bytes() == expected.encode()


def test_rows_stand_one_a_line_in_the_order_given(tmp_path):
    write_rows(tmp_path / "x.jsonl", iter([{"b": 1, "a": "é\n"}, {"a": 2.5}]))
    assert (tmp_path / "x.jsonl").read_bytes() == '{"b": 1, "a": "é\\n"}\n{"a": 2.5}\n'.encode()


def test_numpy_numbers_and_arrays_are_plain_ones(tmp_path):
    row = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "a": np.array([[1.5, 2.0]]), "t": (1, 2)}
    write_rows(tmp_path / "x.jsonl", [row])
    assert (tmp_path / "x.jsonl").read_text() == '{"f": 0.5, "i": 3, "b": true, "a": [[1.5, 2.0]], "t": [1, 2]}\n'


def test_floats_are_rounded_only_where_asked(tmp_path):
    third = {"value": 1 / 3, "list": [np.float64(2 / 3)]}
    write_json(tmp_path / "x.json", third)
    assert read_json(tmp_path / "x.json") == {"value": 0.3333333333333333, "list": [0.6666666666666666]}
    write_json(tmp_path / "x.json", third, digits=2)
    assert read_json(tmp_path / "x.json") == {"value": 0.33, "list": [0.67]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), np.array([1.0, -np.inf])])
def test_what_json_does_not_know_is_refused_and_no_file_is_left(tmp_path, value):
    with pytest.raises(ValueError, match="no place in a JSON artefact"):
        write_json(tmp_path / "x.json", {"deep": [value]})
    with pytest.raises(ValueError, match="no place in a JSON artefact"):
        write_rows(tmp_path / "x.jsonl", [{"fine": 1.0}, {"value": value}])
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.dictionaries(utf8, st.floats(allow_nan=False, allow_infinity=False) | utf8, max_size=3)))
def test_rows_read_back_as_they_were_whatever_their_text_holds(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == rows


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path):
    rows = [{"text": "a\u2028b\x0bc\x85d"}]
    write_rows(tmp_path / "x.jsonl", rows)
    assert read_rows(tmp_path / "x.jsonl") == rows


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert read_rows(tmp_path / "a.jsonl") == [{"a": 1}, {"a": 2}]
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_empty_lines_and_windows_line_ends_are_no_rows(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\r\n\r\n{"a": 2}\n\n')
    assert read_rows(tmp_path / "x.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("line", "reason"), [(b'{"a": 1', "not JSON"), (b"[1]", "not a JSON object"), (b"3", "not a JSON object")]
)
def test_a_row_that_is_no_object_is_named_by_its_line(tmp_path, line, reason):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(InputError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path} row 3: {reason}")
    assert str(caught.value).endswith("one JSON object a line")


@pytest.mark.parametrize("read", [read_json, read_rows])
def test_a_missing_or_foreign_file_is_named(tmp_path, read):
    path = tmp_path / "x"
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: no such file"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="UTF-8") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: not ")


def test_json_that_is_broken_is_named_with_its_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{\n "a": 1,\n "b" 2\n}')
    with pytest.raises(InputError, match="line 3") as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: not JSON")


@given(values)
def test_any_value_is_written_as_python_s_own_reader_reads_it(tmp_path_factory, value):
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 file can hold
        return
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("read", [read_json, read_rows])
def test_a_folder_in_the_place_of_a_file_and_a_file_on_the_way_are_one_line(tmp_path, read):
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "is a folder; name a file in it"), (tmp_path / "file" / "a.json", "no such file")):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {reason}"
