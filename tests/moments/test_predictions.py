import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.metrics.moments import evaluate_moments
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.predictions import prediction_rows
from stillmotion.moments.selection import select_vc1


def moment(qid, duration):
    return Moment(qid, f"query {qid}", f"video {qid}", duration, [[2.0, 4.0]], [1], [[4, 4, 4]])


def make():
    sc = [np.array([0.1, 0.9, 0.2]), np.array([0.1, 0.8])]
    cfsc = [np.ones(2), np.ones(1)]
    return stack_curves(sc, cfsc, durations=[6.0, 4.0], clip_length_s=2.0)


def test_rows_are_those_of_a_submission_and_score_as_such():
    curves, queries = make(), [moment(7, 6.0), moment(3, 4.0)]
    rows = prediction_rows(queries, curves, select_vc1(curves, curves.sc_QT, threshold=0.5), curves.sc_QT)
    assert rows[0] == {
        "qid": 7,
        "query": "query 7",
        "vid": "video 7",
        "pred_relevant_windows": [[2.0, 4.0, 0.9]],
        "pred_saliency_scores": [0.1, 0.9, 0.2],
    }
    assert rows[1]["pred_saliency_scores"] == [0.1, 0.8]
    truth = [
        {name: getattr(query, name) for name in ("qid", "duration", "relevant_windows")}
        | {"relevant_clip_ids": query.relevant_clip_ids, "saliency_scores": query.saliency_scores}
        for query in queries
    ]
    brief = evaluate_moments(rows, truth)["brief"]
    assert brief["MR-full-R1@0.7"] == brief["HL-min-VeryGood-Hit1"] == 100


def test_a_selection_for_other_queries_is_an_error():
    curves = make()
    with pytest.raises(InputError, match="1 queries and 2"):
        prediction_rows([moment(1, 6.0)], curves, select_vc1(curves, curves.sc_QT, threshold=0.5), curves.sc_QT)
