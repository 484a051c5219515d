import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.metrics.moments import evaluate_moments
from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.selected import selection_predictions, selection_rows
from stillmotion.moments.selection import select_vc1


def moment(qid, duration):
    return Moment(qid, f"query {qid}", f"video {qid}", duration, [[2.0, 4.0]], [1], [[4, 4, 4]])


def make():
    sc = [np.array([0.1, 0.9, 0.2]), np.array([0.1, 0.8])]
    cfsc = [np.ones(2), np.ones(1)]
    return stack_curves(sc, cfsc, durations=[6.0, 4.0], clip_length_s=2.0)


def test_rows_are_those_of_a_submission_and_score_as_such():
    curves, queries = make(), [moment(7, 6.0), moment(3, 4.0)]
    rows = selection_rows(queries, curves, select_vc1(curves, curves.sc_QT, threshold=0.5), curves.sc_QT)
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
        selection_rows([moment(1, 6.0)], curves, select_vc1(curves, curves.sc_QT, threshold=0.5), curves.sc_QT)


STORED = {"video 7": [0, 1, 2], "video 3": [0, 1]}


def queries_of(curves):
    queries = [moment(7, 6.0), moment(3, 4.0)]
    windows = pad_windows([query.relevant_windows for query in queries], columns=2, name="m", key="w")
    return EmbeddedQueries(queries, curves, windows, np.zeros(curves.sc_QT.shape, dtype=bool))


def thresholds(method, **parameters):
    settings = {"method": method, "post_processing": "norm", "least_cosine": 1e-6, "frozen_range": None}
    return settings | {"parameters": {"threshold": 0.5} | parameters}


def test_vc1_selects_on_the_processed_curves_and_keeps_them():
    # `norm` of [.1, .9, .2] and [.1, .8]: above 0.5 is frame 1 of each
    found = thresholds("vc1")
    predicted = selection_predictions(queries_of(make()), found, STORED)
    assert predicted.rows is not None
    assert [row["pred_relevant_windows"] for row in predicted.rows] == [[[2.0, 4.0, 1.0]], [[2.0, 4.0, 1.0]]]
    assert predicted.curves is not None
    assert predicted.curves.frames_QT.tolist() == [[False, True, False], [False, True, False]]
    np.testing.assert_allclose(predicted.curves.processed_QT, [[0, 1, 0.125], [0, 1, 0]])
    assert (predicted.curves.starts_QT, predicted.curves.threshold) == (None, 0.5)
    assert predicted.protocol == {
        "selected_on": "train",
        "thresholds": found,
        "num_fallback": 0,
        "num_clipped_cosines": 0,
    }


def test_vc2_keeps_where_scenes_start():
    # CFSc [.3] is below α = 0.5: a cut between the two frames
    curves = stack_curves([np.array([0.1, 0.9])], [np.array([0.3])], durations=[4.0], clip_length_s=2.0)
    queries = EmbeddedQueries(
        [moment(7, 4.0)], curves, pad_windows([[[2.0, 4.0]]], columns=2, name="m", key="w"), curves.sc_QT > 0.5
    )
    predicted = selection_predictions(queries, thresholds("vc2", change=0.5, share=1.0), STORED)
    assert predicted.curves is not None
    assert predicted.curves.starts_QT is not None
    assert predicted.curves.starts_QT.tolist() == [[True, True]]
    assert predicted.rows is not None
    assert predicted.rows[0]["pred_relevant_windows"] == [[2.0, 4.0, 1.0]]


@pytest.mark.parametrize("found", [None, thresholds("vc1")])
def test_without_queries_or_thresholds_there_is_nothing_to_answer(found):
    predicted = selection_predictions(queries_of(make()) if found is None else None, found, STORED)
    assert (predicted.rows, predicted.curves) == (None, None)
    assert predicted.protocol == {"selected_on": "train", "thresholds": found}
