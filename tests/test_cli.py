import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stillmotion import cli
from stillmotion.metrics.retrieval_summary import METRICS

TRUTH = {
    "qid": 1,
    "query": "q",
    "vid": "v",
    "duration": 150,
    "relevant_windows": [[0, 10]],
    "relevant_clip_ids": [0],
    "saliency_scores": [[4, 4, 4]],
}
PREDICTION = {
    "qid": 1,
    "query": "q",
    "vid": "v",
    "pred_relevant_windows": [[0, 10, 0.5]],
    "pred_saliency_scores": [0.1, 0.2],
}


@pytest.fixture
def fails(tmp_path, capsys):
    """Run arguments that must fail: one line on stderr, status 2, no output file or part of one."""

    def check(*arguments):
        before = sorted(tmp_path.rglob("*"))
        assert cli.run([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("stillmotion: error: ")
        assert captured.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return captured.err

    return check


@pytest.fixture
def retrieval(tmp_path):
    """Arguments of `score retrieval` for a matrix (an array or raw bytes) and the text of a relevance file."""

    def arguments(scores, relevance=None, *more):
        path = tmp_path / "S.npy"
        if isinstance(scores, bytes):
            path.write_bytes(scores)
        else:
            np.save(path, scores)
        result = ["score", "retrieval", "--scores", path, "--output", tmp_path / "OUT.json"]
        if relevance is not None:
            data = relevance if isinstance(relevance, bytes) else relevance.encode()
            (tmp_path / "R.csv").write_bytes(data)
            result += ["--relevance", tmp_path / "R.csv"]
        return [str(item) for item in [*result, *more]]

    return arguments


@pytest.fixture
def moments(tmp_path):
    """Arguments of `score moments` for rows (or the text of a file) of predictions and truth."""

    def arguments(predictions, truth=(TRUTH,)):
        for name, rows in (("P.jsonl", predictions), ("G.jsonl", truth)):
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / name).write_text(text)
        result = ["score", "moments", "--predictions", tmp_path / "P.jsonl"]
        return [str(i) for i in [*result, "--ground-truth", tmp_path / "G.jsonl", "--output", tmp_path / "O.json"]]

    return arguments


def test_a_square_matrix_is_scored_by_its_diagonal(retrieval, tmp_path, capsys):
    assert cli.run(retrieval(np.array([[0.9, 0.1], [0.8, 0.5]], dtype=np.float32))) == 0
    result = json.loads((tmp_path / "OUT.json").read_text())
    assert set(result) == {"t2v", "v2t", "protocol"}
    assert [result["t2v"][name] for name in METRICS] == [50, 100, 100, 100, 1.5, 1.5, 75, 75]
    assert [result["v2t"][name] for name in METRICS] == [100, 100, 100, 100, 1, 1, 100, 100]
    assert list(result["t2v"]) == [*METRICS, "ci95"]
    assert len(result["v2t"]["ci95"]["R@1"]) == 2
    assert result["protocol"]["num_texts"] == result["protocol"]["num_videos"] == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert captured.err == ""


def test_relevance_pairs_may_give_a_video_several_texts(retrieval, tmp_path):
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.5, 0.6]])
    assert cli.run(retrieval(scores, "video,text,note\r\n0,0,a\r\n0,1,b\r\n1,2,c\r\n")) == 0
    result = json.loads((tmp_path / "OUT.json").read_text())
    assert result["v2t"]["MeanR"] == result["v2t_any_caption"]["MeanR"] == 2
    assert result["v2t_caption_max"]["MeanR"] == 1.5


def test_a_byte_order_mark_before_the_header_is_no_obstacle(retrieval):
    assert cli.run(retrieval(np.eye(1), "\ufefftext,video\n0,0\n")) == 0


@pytest.mark.parametrize(("ties", "rank"), [("average", 1.5), ("expected", 1.5), ("optimistic", 1), ("pessimistic", 2)])
def test_the_tie_rule_is_an_option(retrieval, tmp_path, ties, rank):
    assert cli.run(retrieval(np.zeros((2, 2)), None, "--ties", ties)) == 0
    result = json.loads((tmp_path / "OUT.json").read_text())
    assert result["t2v"]["MeanR"] == rank
    assert result["protocol"]["ties"] == ties
    assert ("MedR" in result["protocol"]) is (ties == "expected")  # whose median is of the queries' expected ranks


def test_the_same_input_gives_the_same_bytes(retrieval, tmp_path):
    arguments = retrieval(np.random.default_rng(0).random((9, 9)))
    written = []
    for _ in range(2):
        assert cli.run(arguments) == 0
        written.append((tmp_path / "OUT.json").read_bytes())
    assert written[0] == written[1]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((2, 3)), "2 rows and 3 columns; .*--relevance"),
        (np.array([[1, np.nan], [0, 1]]), "row 0, column 1 .* is nan"),
        (np.array([[1, 0], [-np.inf, 1]]), "row 1, column 0 .* is -inf"),
        (np.ones(4), "shape"),
        (np.ones((2, 2, 2)), "shape"),
        (np.ones((0, 0)), "S.npy"),
        (np.array([["a"]]), "real numbers"),
        (np.ones((1, 1), dtype=complex), "real numbers"),
        (np.ones((1, 1), dtype=bool), "real numbers"),
        (np.array([[Bomb()]], dtype=object), "numbers, not objects"),
        (pickle.dumps(Bomb()), "not a .npy file"),
        (b"", "not a .npy file"),
        (b"text,video\n0,0\n", "not a .npy file"),
        (b"PK\x03\x04rest of a zip", "not a .npy file"),
        (b"\x93NUMPY", "S.npy"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',", "S.npy"),
        (b"\x93NUMPY\x01\x00\x05\x00((((\n", "S.npy"),
    ],
)
def test_a_bad_matrix_is_named_and_never_unpickled(fails, retrieval, scores, message):
    import re

    error = fails(*retrieval(scores))
    assert "S.npy" in error
    assert re.search(message, error)


def test_a_truncated_matrix_is_named(fails, retrieval, tmp_path):
    arguments = retrieval(np.eye(20))
    data = (tmp_path / "S.npy").read_bytes()
    (tmp_path / "S.npy").write_bytes(data[: len(data) // 2])
    assert "S.npy" in fails(*arguments)


@pytest.mark.parametrize(
    ("relevance", "message"),
    [
        ("", "row 1: no column text and video"),
        ("text,clip\n0,0\n", "row 1: no column video"),
        ("text,video\n0,0\n1,2\n", "row 3: video is 2, but the matrix has 2 columns"),
        ("text,video\n0,0\n-1,1\n", "row 3: text is -1"),
        ("text,video\n0,0\n1.0,1\n", "row 3: text is '1.0'; give a whole number"),
        ("text,video\n0,0\n1\n", "row 3: video is ''"),
        ("text,video\n0,0\n²,1\n", "row 3: text is"),
        ("text,video\n0,0\n99999999999999999999999,1\n", "row 3: text is 9999"),
        ("text,video\n0,0\n1,1\n0,0\n", "row 4: the same pair as row 2"),
        ("text,video\n0,0\n0,1\n", "text 1 has no relevant video"),
        ("text,video\n", "text 0 has no relevant video"),
        ("text,video\n0,0\n1,1\n".encode("utf-16"), "not CSV in UTF-8"),
        (b"text,video\n0,\x00\n", "R.csv"),
        (b"text,video\n0,\xff\n", "not CSV in UTF-8"),
    ],
)
def test_a_bad_relevance_row_is_named_with_its_mend(fails, retrieval, relevance, message):
    error = fails(*retrieval(np.eye(2), relevance))
    assert "R.csv" in error
    assert message in error


def test_files_that_are_not_there_are_named(fails, retrieval, moments, tmp_path):
    arguments = retrieval(np.eye(2), "text,video\n")
    (tmp_path / "R.csv").unlink()
    assert "R.csv: no such file" in fails(*arguments)
    (tmp_path / "S.npy").unlink()
    assert "S.npy: no such file" in fails(*arguments)
    arguments = moments([PREDICTION])
    (tmp_path / "G.jsonl").unlink()
    assert "G.jsonl: no such file" in fails(*arguments)
    (tmp_path / "G.jsonl").mkdir()
    assert "G.jsonl" in fails(*arguments)


def test_an_output_that_cannot_be_written_is_refused(fails, retrieval, moments, tmp_path):
    for arguments in (retrieval(np.eye(2)), moments([PREDICTION])):
        assert "is a folder" in fails(*arguments[:-1], tmp_path)
        assert "does not exist" in fails(*arguments[:-1], tmp_path / "no" / "OUT.json")
    # /dev/null is refused in the same way, but a test that fails would put a file there.
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: is a pipe; name a file" in fails(*retrieval(np.eye(2))[:-1], tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_an_existing_output_survives_an_error(fails, retrieval, tmp_path):
    (tmp_path / "OUT.json").write_text("before")
    fails(*retrieval(np.full((2, 2), np.nan)))
    assert (tmp_path / "OUT.json").read_text() == "before"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "nope"),
        (["score", "nope"], "nope"),
        (["--nope"], "--nope"),
        (["score", "retrieval"], "Missing option"),
        (["score", "retrieval", "--scores", "S.npy"], "--output"),
        (["score", "retrieval", "--scores", "S.npy", "--output", "O", "--ties", "random"], "--ties"),
        (["score", "moments", "--predictions"], "--predictions"),
        (["score", "moments", "extra"], "Missing option"),
    ],
)
def test_a_bad_command_line_is_one_line_too(fails, arguments, message):
    assert message in fails(*arguments)


def test_moments_are_scored_in_the_official_format(moments, tmp_path, capsys):
    assert cli.run(moments([PREDICTION])) == 0
    text = (tmp_path / "O.json").read_text()
    result = json.loads(text)
    assert result["brief"]["MR-full-mAP"] == 100
    assert text == json.dumps(result, indent=4)
    assert "mAP 100.00, mIoU 100.00, 1 queries, 0 without a window" in capsys.readouterr().out


@pytest.mark.real
def test_a_submission_with_a_byte_order_mark_is_scored(real_material, tmp_path):
    predictions, truth = (str(real_material / "awkward" / name) for name in ("bom.jsonl", "G.jsonl"))
    output = str(tmp_path / "O.json")
    options = ["--predictions", predictions, "--ground-truth", truth, "--output", output]
    assert cli.run(["score", "moments", *options]) == 0
    # The one true window of query 1 and the first of two of query 2 are found to the second.
    brief = json.loads(Path(output).read_text())["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-R1@0.7"], brief["MR-full-mAP"]) == (100.0, 100.0, 75.0)


@pytest.mark.real
def test_a_qid_that_is_text_in_one_file_and_a_number_in_the_other_is_told(real_material, fails, tmp_path):
    predictions, truth = (str(real_material / "awkward" / name) for name in ("str.jsonl", "G.jsonl"))
    options = ["--predictions", predictions, "--ground-truth", truth, "--output", str(tmp_path / "O.json")]
    assert fails("score", "moments", *options) == (
        f'stillmotion: error: {predictions} row 1: qid "1" is text, and {truth} has the number 1; write both alike\n'
    )


@pytest.mark.real
def test_the_published_sample_gives_the_published_file(real_material, tmp_path):
    folder = real_material / "qvhighlights"
    inputs = [folder / "sample_val_preds.jsonl", "--ground-truth", folder / "highlight_val_release.jsonl"]
    output = tmp_path / "OUT.json"
    output.symlink_to("elsewhere.json")
    assert cli.run([str(a) for a in ["score", "moments", "--predictions", *inputs, "--output", output]]) == 0
    assert output.is_symlink()
    result = json.loads(output.read_text())
    newer = {name: result.pop(name) for name in ("MR-full-R1@0.3", "MR-full-mIoU")}
    assert json.dumps(result, indent=4) == (folder / "sample_val_preds_metrics_raw.json").read_text()
    # Worked out by fractions in tests/metrics/test_moments.py.
    assert list(newer.values()) == [67.48, 49.21]


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ("{", [TRUTH], "P.jsonl row 1: not JSON"),
        ("[]\n", [TRUTH], "P.jsonl row 1: not a JSON object"),
        ("[" * 100_000, [TRUTH], "P.jsonl"),
        ('{"qid": 1' + "0" * 5000 + "}", [TRUTH], "P.jsonl"),
        ([], [TRUTH], "P.jsonl: no row for qid 1"),
        ([PREDICTION], [], "G.jsonl: no rows"),
        ([PREDICTION, PREDICTION], [TRUTH], "P.jsonl row 2: qid 1 is also in row 1"),
        ([PREDICTION, PREDICTION | {"qid": 2}], [TRUTH], "P.jsonl row 2: qid 2 is not in"),
        ([PREDICTION | {"pred_relevant_windows": [[0, float("nan"), 1]]}], [TRUTH], "P.jsonl row 1"),
        ([PREDICTION | {"pred_relevant_windows": [[9, 1, 1]]}], [TRUTH], "P.jsonl row 1"),
        ([PREDICTION | {"pred_saliency_scores": ["high"]}], [TRUTH], "P.jsonl row 1"),
        ([{"qid": 1}], [TRUTH], "P.jsonl row 1: pred_relevant_windows"),
        ([PREDICTION], [TRUTH | {"relevant_windows": "all"}], "G.jsonl row 1: relevant_windows"),
        ([PREDICTION], [TRUTH | {"relevant_clip_ids": [80]}], "G.jsonl row 1: relevant_clip_ids"),
    ],
)
def test_a_bad_moment_row_is_named_with_its_mend(fails, moments, predictions, truth, message):
    assert message in fails(*moments(predictions, truth))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": 10**10}, "G.jsonl row 1: duration is 10000000000; give the video's seconds, above 0 and at most"),
        ({"duration": 10**400}, "G.jsonl row 1: duration is 1"),
        ({"relevant_clip_ids": [10**400]}, "G.jsonl row 1: relevant_clip_ids has a clip outside"),
        ({"duration": 600_000, "saliency_scores": [[4] * 1000]}, "more than 268,435,456 values of 1 rows"),
    ],
)
def test_a_truth_that_would_fill_the_memory_is_refused_with_the_limit(fails, moments, change, message):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in fails(*moments([PREDICTION | {"pred_saliency_scores": [1.0]}], [TRUTH | change]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB: those of the last one are 2.2 GiB


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["score", "compare"]),
        (["compare", "--help"], ["--task", "--metric", "MeanR", "mIoU", "For example", "--json"]),
        (["score", "--help"], ["retrieval", "moments"]),
        (["score", "retrieval", "--help"], ["--scores", "--relevance", "--ties", "text,video", "average"]),
        (["score", "moments", "--help"], ["--predictions", "--ground-truth", "--output", "JSON Lines"]),
    ],
)
def test_help_answers_at_each_level(capsys, arguments, words):
    assert cli.run(arguments) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words)


@pytest.mark.parametrize("arguments", [[], ["score"]])
def test_a_missing_command_shows_the_help_and_fails(capsys, arguments):
    assert cli.run(arguments) == 2
    assert "Usage" in capsys.readouterr().out


def test_the_command_exits_with_the_status_and_imports_no_heavy_library():
    code = (
        "import sys; from stillmotion import cli\n"
        "try: cli.main(['score', 'nope'])\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "2 []"
    assert "Traceback" not in result.stderr
