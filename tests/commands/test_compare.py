import json
import re

import numpy as np
import pytest

from stillmotion import cli
from stillmotion.commands.compare_revisions import other_processor
from stillmotion.io.tables import write_rows


def rank_row(number, *ranks):
    text = f"a circle moves {number} times"
    return {"caption_id": f"c{number}", "video_id": f"v{number}", "text": text, "rank": ranks}


def moment_row(number, iou):
    return {"qid": number, "vid": f"v{number}", "query": f"a square spins {number} times", "top1_iou": iou}


@pytest.fixture
def project(tmp_path):
    """Write the predictions of systems by task."""

    def write(retrieval=None, moments=None):
        for task, file, systems in (("retrieval", "ranks.jsonl", retrieval), ("moments", "queries.jsonl", moments)):
            for system, rows in (systems or {}).items():
                folder = tmp_path / "data" / "predictions" / task / system
                folder.mkdir(parents=True)
                if isinstance(rows, str):
                    (folder / file).write_text(rows)
                else:
                    write_rows(folder / file, rows)
        return tmp_path

    return write


@pytest.fixture
def compare(tmp_path, capsys):
    """Run the command in the project; give what it printed."""

    def run(*arguments, status=0):
        assert cli.run(["compare", *arguments, "--root", str(tmp_path)]) == status
        captured = capsys.readouterr()
        if status:
            assert captured.out == ""
            assert captured.err.startswith("stillmotion: error: ")
            assert captured.err.count("\n") == 1
            return captured.err
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def two_systems(project):
    """Eight queries: `good` answers all at rank 1 in two of two seeds, `bad` two of them."""
    return project(
        {
            "good": [rank_row(number, 1, 1) for number in range(8)],
            "bad": [rank_row(number, 1 if number < 2 else 10 - number) for number in range(8)],
        }
    )


def test_two_systems_are_compared_with_their_interval_and_queries(two_systems, compare):
    lines = compare("good", "bad").splitlines()
    assert lines[0] == "R@1 of 8 queries"
    assert lines[1].split() == ["good", "100.00", "mean", "of", "2", "seeds"]
    assert lines[2].split() == ["bad", "25.00"]
    assert lines[3].split()[:2] == ["difference", "+75.00"]
    # of 8 drawn queries 3 or fewer gained with a chance of 0.027, 2 or fewer with 0.004, none with 0.00002
    assert re.search(r"95 % interval \+(37\.5|50\.0)0 to \+100\.00, p 0\.002$", lines[3])
    assert lines[4] == "Better by good: 6, most:"
    # all six gained a hit; those with the longest way come first
    assert lines[5] == "  rank 1, 1 against 8: c2 in v2: a circle moves 2 times"
    assert [line.split()[5] for line in lines[5:10]] == ["c2", "c3", "c4", "c5", "c6"]
    assert lines[10] == "Better by bad: 0"
    assert len(lines) == 11


def test_json_holds_what_the_text_says(two_systems, compare):
    found = json.loads(compare("bad", "good", "--json"))
    assert found["first"] == {"system": "bad", "R@1": 25, "num_seeds": 1}
    assert found["second"] == {"system": "good", "R@1": 100, "num_seeds": 2}
    assert found["difference"] == -75
    assert found["ci95"][0] <= -75 <= found["ci95"][1] < 0
    assert 0 < found["p"] < 0.05
    assert found["num_queries"] == 8
    assert found["first_better"] == {"num_queries": 0, "most": []}
    assert found["second_better"]["num_queries"] == 6
    assert found["second_better"]["most"][0] == {
        "query_id": "c2",
        "video_id": "v2",
        "text": "a circle moves 2 times",
        "first": [8],
        "second": [1, 1],
    }


def test_the_metric_is_an_option_and_says_when_lower_is_better(two_systems, compare):
    # ranks of `bad`: 1, 1, 8, 7, 6, 5, 4, 3
    lines = compare("good", "bad", "--metric", "MeanR").splitlines()
    assert lines[0] == "MeanR of 8 queries, lower is better"
    assert lines[2].split() == ["bad", "4.38"]
    assert lines[3].split()[1] == "-3.38"
    assert lines[4] == "Better by good: 6, most:"


def test_moments_are_compared_by_their_best_window(project, compare):
    project(moments={"a": [moment_row(1, 0.9), moment_row(2, 0.4)], "b": [moment_row(1, 0.5), moment_row(2, 0.6)]})
    lines = compare("a", "b", "--task", "moments").splitlines()
    assert lines[0] == "R1@0.5 of 2 queries"
    assert [line.split()[-1] for line in lines[1:3]] == ["50.00", "100.00"]
    assert "  IoU 0.90 against 0.50: 1 in v1: a square spins 1 times" in lines
    assert "  IoU 0.40 against 0.60: 2 in v2: a square spins 2 times" in lines
    found = json.loads(compare("a", "b", "--task", "moments", "--metric", "mIoU", "--json"))
    assert found["first"]["mIoU"] == pytest.approx(65)
    assert found["difference"] == pytest.approx(10)


def test_a_long_text_is_cut_in_the_text_and_whole_in_the_object(project, compare):
    text = "a circle moves left. " * 20
    project({"a": [rank_row(0, 1) | {"text": text}], "b": [rank_row(0, 2) | {"text": text}]})
    assert all(len(line) < 150 for line in compare("a", "b").splitlines())
    assert json.loads(compare("a", "b", "--json"))["first_better"]["most"][0]["text"] == text


def test_the_same_systems_give_the_same_answer_every_time(project, compare):
    ranks = np.random.default_rng(0).integers(1, 5, (2, 50)).tolist()
    rows = [[rank_row(number, rank) for number, rank in enumerate(row)] for row in ranks]
    project({"a": rows[0], "b": rows[1]})
    assert compare("a", "b") == compare("a", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good", "bda"], "no system bda; did you mean bad?"),
        (["xyz", "bad"], "no system xyz; there are bad, good, other (dvc repro builds those of params.yaml)"),
        (["good", "spans"], "spans is a system of moments, not of retrieval; add --task moments"),
        (["good", "spans", "--task", "moments"], "good is a system of retrieval, not of moments"),
        (["good", "measured"], "measured was measured, but its predictions are not here; build with dvc repro"),
        (["good", "bad", "--metric", "R@3"], "--metric R@3: no such metric; for retrieval give one of R@1, R@2"),
        (["good", "bad", "--metric", "MedR"], "MedR is no mean over queries"),
        (["spans", "spans", "--task", "moments", "--metric", "R@1"], "for moments give one of R1@0.5, R1@0.7, mIoU"),
        (["good", "other"], "row 8 is c7 ('a circle moves 7 times' about v7), but"),
        (["good"], "second"),
        (["good", "bad", "--task", "actions"], "--task"),
    ],
)
def test_what_cannot_be_compared_is_one_line_with_the_mend(two_systems, project, compare, arguments, message):
    others = [rank_row(number, 1) for number in range(7)]
    project({"other": [*others, rank_row(9, 1)]}, {"spans": [moment_row(1, 0.5)]})
    (two_systems / "metrics" / "retrieval").mkdir(parents=True)
    (two_systems / "metrics" / "retrieval" / "measured.json").write_text("{}")
    assert message in compare(*arguments, status=2)


def test_a_project_without_predictions_says_what_builds_them(compare):
    error = compare("a", "b", status=2)
    assert (
        "no system's ranks.jsonl is here; build with dvc repro, or fetch what a colleague built with dvc pull" in error
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no queries"),
        ("{", "ranks.jsonl row 1: not JSON"),
        ([{"video_id": "v0", "text": "t", "rank": [1]}], "row 1: no caption_id; make the file again with dvc repro"),
        ([rank_row(0)], "row 1: rank is []"),
        ([rank_row(0) | {"rank": 1}], "row 1: rank is 1"),
        ([rank_row(0, 0)], "row 1: rank is [0]"),
        ([rank_row(0, "1")], "row 1: rank is ['1']"),
        ('{"caption_id": "a", "video_id": "v", "text": "t", "rank": [NaN]}', "row 1: rank is [nan]"),
        ('{"caption_id": "a", "video_id": "v", "text": "t", "rank": [Infinity]}', "row 1: rank is [inf]"),
        ([{"caption_id": "a", "video_id": "v", "text": "t"}], "row 1: rank is None"),
        ([rank_row(0, 1), rank_row(1, 1, 2)], "row 2: 2 ranks, row 1 has 1"),
    ],
)
def test_damaged_predictions_are_named_by_their_row(project, compare, rows, message):
    project({"a": rows})
    assert message in compare("a", "a", status=2)


def test_an_overlap_outside_0_to_1_is_named(project, compare):
    project(moments={"a": [moment_row(1, 0.5), moment_row(2, 1.5)]})
    assert "row 2: top1_iou is 1.5" in compare("a", "a", "--task", "moments", status=2)


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ({"clip": "AMD"}, {"clip": "AMD"}, False),
        ({"clip": "AMD"}, {"clip": "Intel"}, True),
        ({"clip": "AMD"}, {"clip": "AMD", "stan": "Intel"}, True),
        ({"clip": "AMD", "stan": "Intel"}, {"clip": "Intel", "stan": "AMD"}, True),
        ({"clip": "AMD"}, {"stan": "AMD"}, False),
        ({}, {"clip": "AMD"}, False),
    ],
)
def test_revisions_are_of_another_processor_where_one_saw_it_and_the_other_did_not(one, other, differs):
    assert other_processor(one, other) is differs
