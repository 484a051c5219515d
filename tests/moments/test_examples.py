import numpy as np
import pytest

from stillmotion.io.records import Moment
from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.examples import example_places, example_rows
from stillmotion.moments.predictions import SelectedCurves
from stillmotion.moments.queries import EmbeddedQueries


@pytest.mark.parametrize(
    ("num_queries", "num_examples", "expected"),
    [
        (9, 3, [(0, "best"), (4, "median"), (8, "worst")]),
        (10, 3, [(0, "best"), (5, "median"), (9, "worst")]),
        (9, 5, [(0, "best"), (2, "3 of 9"), (4, "median"), (6, "7 of 9"), (8, "worst")]),
        (8, 4, [(0, "best"), (2, "3 of 8"), (5, "6 of 8"), (7, "worst")]),
        (9, 2, [(0, "best"), (8, "worst")]),
        (9, 1, [(0, "best")]),
        (2, 5, [(0, "best"), (1, "worst")]),
        (1, 3, [(0, "best")]),
        (0, 3, []),
    ],
)
def test_ranks_are_spread_from_the_best_to_the_worst(num_queries, num_examples, expected):
    assert example_places(num_queries, num_examples) == expected


STORED = {"v4": [0, 2, 3], "v5": [1, 4], "v6": [0, 1, 1]}


def make():
    queries = [Moment(qid, f"q{qid}", f"v{qid}", 6.0, [[0.0, 2.0]], [0], []) for qid in (4, 5, 6)]
    sc = [np.array([0.1, 0.9, 0.2]), np.array([0.1, 0.8]), np.array([0.3, 0.1, 0.2])]
    cfsc = [np.array([0.5, 0.6]), np.array([0.7]), np.array([0.8, 0.9])]
    curves = stack_curves(sc, cfsc, durations=[6.0, 4.0, 5.5], clip_length_s=2.0)
    windows = pad_windows([query.relevant_windows for query in queries], columns=2, name="m", key="w")
    test = EmbeddedQueries(queries, curves, windows, np.zeros((3, 3), dtype=bool))
    rows = [
        {
            "qid": query.qid,
            "query": query.query,
            "vid": query.vid,
            "duration": float(duration),
            "true_windows": [[0.0, 2.0]],
            "predicted_windows": [[0.0, 4.0, 0.5]],
            "top1_iou": iou,
        }
        for query, duration, iou in zip(queries, curves.durations_Q, [0.2, 0.7, 0.2], strict=True)
    ]
    return test, rows


def test_rows_hold_the_curves_without_padding():
    test, rows = make()
    starts = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    selected = SelectedCurves(test, test.true_QT, test.curves.sc_QT + 1, starts, 0.4, STORED)
    examples = example_rows(selected, rows, num_examples=3)
    # of equal IoU the lower qid is the better
    assert [(row["qid"], row["place"]) for row in examples] == [(5, "best"), (4, "median"), (6, "worst")]
    assert examples[0] == {
        "qid": 5,
        "query": "q5",
        "vid": "v5",
        "duration": 4.0,
        "place": "best",
        "top1_iou": 0.7,
        "clip_length_s": 2.0,
        "sc": [0.1, 0.8],
        "processed": [1.1, 1.8],
        "cfsc": [0.7],
        "cuts": [],
        "threshold": 0.4,
        "true_windows": [[0.0, 2.0]],
        "predicted_windows": [[0.0, 4.0, 0.5]],
        "stored_frames": [1, 4],
    }
    assert examples[1]["cuts"] == [2]
    assert examples[2]["cuts"] == [1, 2]


def test_vc1_has_no_cuts():
    test, rows = make()
    selected = SelectedCurves(test, test.true_QT, test.curves.sc_QT, None, 0.4, STORED)
    examples = example_rows(selected, rows, num_examples=3)
    assert [row["cuts"] for row in examples] == [[], [], []]
