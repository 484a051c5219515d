"""Files of a known form; each form itself is tested with the commands and stages that read it."""

import json

import pytest
from pydantic import BaseModel

from stillmotion.errors import InputError
from stillmotion.io.checked import MEND, STRICT, Told, read_checked, read_checked_rows


class Form(BaseModel):
    model_config = STRICT

    name: str
    scores: list[float]
    note: str | None = None


@pytest.mark.parametrize("content", [{"name": "a", "scores": [1, 2.50, 1e-7], "other": {"z": 1, "a": 2}}])
def test_the_content_comes_back_as_it_stands_there(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    assert json.dumps(read_checked(path, Form)) == json.dumps(content)  # an integer stays one, and so does the order
    path.write_text(f"{json.dumps(content)}\n\n{json.dumps(content)}\n")
    assert read_checked_rows(path, Form) == [content, content]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cut, or no JSON (EOF while parsing a value at line 1 column 0)"),
        ('{"name": "a", "scores": [1, 2', "cut, or no JSON (EOF while parsing a list at line 1 column 29)"),
        (b'{"name": "\xff"}', "cut, or no JSON (invalid unicode code point at line 1 column 11)"),
        ("[" * 100_000, "cut, or no JSON (recursion limit exceeded at line 1 column"),
        ('{"name": "a"}', "scores is missing"),
        ('{"name": 1, "scores": []}', "name is 1: Input should be a valid string"),
        ('{"name": "a", "scores": [1, "2"]}', "scores.1 is '2': Input should be a valid number"),
        ('{"name": "a", "scores": [NaN]}', "scores.0 is nan: Input should be a finite number"),
        ("[]", "it is []: Input should be an object"),
        ("null", "it is None: Input should be an object"),
        ('{"name": "a", "scores": [], "x": ' + "1" * 5000 + "}", "cut, or no JSON (number out of range"),
    ],
)
def test_what_is_cut_missing_or_of_another_kind_is_one_line_with_the_mend(tmp_path, text, fault):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as caught:
        read_checked(path, Form)
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert str(caught.value).endswith(f"; {MEND}")
    if text:
        path.write_bytes(b'{"name": "a", "scores": []}\n\n' + path.read_bytes())
        with pytest.raises(InputError) as caught:
            read_checked_rows(path, Form)
        assert str(caught.value).startswith(f"{path} row 3: {fault}")


def test_a_file_that_is_not_there_or_no_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="file.json: no such file; run `dvc repro`"):
        read_checked(tmp_path / "file.json", Form)
    with pytest.raises(InputError, match=r"can't be read \(Is a directory\)"):
        read_checked(tmp_path, Form)


def test_a_key_that_may_be_missing_is_told_when_it_is_asked_for(tmp_path):
    found = Told(tmp_path / "file.json", {"a": 1})
    assert found["a"] == 1
    with pytest.raises(InputError, match="file.json: b is missing; make it anew with `dvc repro`"):
        found["b"]


class Official(BaseModel):
    model_config = STRICT

    brief: dict[str, float]


@pytest.mark.real
def test_the_official_evaluator_s_file_is_of_the_form_that_search_reads(real_material):
    path = real_material / "qvhighlights" / "sample_val_preds_metrics_raw.json"
    assert read_checked(path, Official) == json.loads(path.read_text())
