from pathlib import Path

import pytest

from stillmotion.config.evaluation import EvaluateMomentsParams
from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.io.tables import read_json, read_rows
from stillmotion.moments.predictions import NO_MODEL, Predictions
from stillmotion.moments.truth import Missing, ground_truth
from stillmotion.moments.writer import score_and_write

QUERIES = [
    Moment(1, "q1", "a", 8.0, [[0.0, 4.0]], [0, 1], []),
    Moment(2, "q2", "a", 8.0, [[4.0, 8.0]], [2, 3], []),
]
ROWS = [
    {"qid": 2, "pred_relevant_windows": [[0.0, 2.0, 1.0]]},
    {"qid": 1, "pred_relevant_windows": [[0.0, 4.0, 1.0]]},
]
SYSTEM = {**NO_MODEL, "scorer": "other"}


@pytest.fixture
def write(tmp_path):
    """The metrics file, and the folder of the tables."""

    def run(predictions: Predictions, *, queries=QUERIES, copied=()):
        truth = None
        if queries:
            truth = ground_truth(queries, num_frames={"a": 4}, durations={"a": 8.0}, clip_length_s=2.0)
        score_and_write(
            predictions,
            truth,
            Missing(1, 2),
            system=SYSTEM,
            told={},
            clip_length_s=2.0,
            params=EvaluateMomentsParams(num_examples=3, bootstrap_samples=20, seed=0),
            metrics_path=tmp_path / "metrics.json",
            folder=tmp_path / "tables",
            copied=copied,
        )
        return read_json(tmp_path / "metrics.json"), tmp_path / "tables"

    return run


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_predictions_are_scored_and_written_with_their_protocol_and_system(write):
    metrics, tables = write(Predictions("submission", ROWS, {"missing_rows": []}, "other.jsonl"))
    assert metrics["mIoU"] == 50
    assert metrics["pessimistic"]["mIoU"] == 25  # two of four queries are missing
    assert (metrics["protocol"]["kind"], metrics["protocol"]["num_queries"]) == ("submission", 2)
    assert metrics["protocol"]["missing_rows"] == []
    assert metrics["system"] == SYSTEM
    assert names_in(tables) == ["queries.jsonl", "submission.jsonl"]
    assert read_rows(tables / "submission.jsonl") == ROWS
    assert [row["top1_iou"] for row in read_rows(tables / "queries.jsonl")] == [1, 0]


@pytest.mark.parametrize("queries", [QUERIES, []])
def test_without_answers_or_queries_the_tables_are_empty_and_there_all_the_same(write, caplog, queries):
    metrics, tables = write(Predictions("selection", None, {"thresholds": None}), queries=queries)
    assert "an empty result" in caplog.text
    assert list(metrics) == ["protocol", "system"]
    assert metrics["protocol"]["num_queries"] == len(queries)
    assert names_in(tables) == ["examples.jsonl", "queries.jsonl", "submission.jsonl"]
    assert all((tables / name).read_bytes() == b"" for name in names_in(tables))


def test_what_shall_lie_beside_the_tables_is_copied(write, tmp_path):
    source = tmp_path / "trials.jsonl"
    source.write_bytes(b'{"number": 0}\n')
    _, tables = write(Predictions("reference", ROWS), copied=[source])
    assert (tables / "trials.jsonl").read_bytes() == source.read_bytes()


def test_a_bad_row_is_named_with_its_file_and_nothing_is_written(write, tmp_path):
    bad = [ROWS[0], {"qid": 1, "pred_relevant_windows": [[3.0, 1.0, 1.0]]}]
    with pytest.raises(InputError, match=r"other.jsonl row 2: .*ends before"):
        write(Predictions("submission", bad, name="other.jsonl"))
    assert names_in(tmp_path) == []
