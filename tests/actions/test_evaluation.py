import numpy as np
import pytest

from stillmotion.actions.evaluation import over_seeds, recognise

CLASSES = np.eye(2)
SPANS = np.array([[0.8, 0.6], [0.0, 1.0]])
LABELS = np.array([1, 1])
# as zero-shot; always the second class; always the first
WEIGHTS = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]], [[0, 0, 1], [0, 0, 0]]], dtype=float)


def recognised(spans=SPANS, labels=LABELS, *, shots=(1, 1, 4), num_missing=2):
    return recognise(
        spans,
        labels,
        classes_KD=CLASSES,
        weights_RKD1=WEIGHTS[: len(shots)],
        shots_R=shots,
        num_missing=num_missing,
        rng=np.random.default_rng(0),
        num_resamples=20,
    )


def test_zero_shot_takes_the_nearest_class_name():
    recognition = recognised()
    assert recognition.zero_shot_N.tolist() == [0, 1]
    zero_shot = recognition.metrics["zero_shot"]
    assert (zero_shot["top1"], zero_shot["top5"]) == (50, 100)
    # two of four spans are missing, and count as wrong
    assert zero_shot["pessimistic"] == {"top1": 25, "top5": 50}


def test_probes_are_scored_by_their_number_of_shots():
    recognition = recognised()
    assert {shots: named.tolist() for shots, named in recognition.probed_SN.items()} == {
        1: [[0, 1], [1, 1]],
        4: [[0, 0]],
    }
    top1 = recognition.metrics["top1"]
    assert top1["1"] == {"mean": 75, "std": pytest.approx(35.35534), "runs": [50, 100], "pessimistic": 37.5}
    assert top1["4"] == {"mean": 0, "std": 0, "runs": [0], "pessimistic": 0}
    assert recognition.metrics["top5"]["4"]["mean"] == 100
    assert recognition.curve() == [
        {"shots": 1, "top1": 75, "zero_shot": 50},
        {"shots": 4, "top1": 0, "zero_shot": 50},
    ]


def test_without_probes_there_is_zero_shot_alone():
    recognition = recognised(shots=())
    assert recognition.metrics["zero_shot"]["top1"] == 50
    assert (recognition.metrics["top1"], recognition.probed_SN, recognition.curve()) == ({}, {}, [])


def test_without_spans_the_result_is_empty():
    recognition = recognised(np.empty((0, 2)), np.empty(0, dtype=np.int64))
    assert recognition.metrics == {"zero_shot": {}, "top1": {}, "top5": {}}
    assert (len(recognition.zero_shot_N), recognition.curve()) == (0, [])


def test_the_deviation_over_seeds_is_that_of_a_sample():
    assert over_seeds([40, 60], share=0.5) == {
        "mean": 50,
        "std": pytest.approx(200**0.5),
        "runs": [40, 60],
        "pessimistic": 25,
    }
    assert over_seeds([40], share=1)["std"] == 0
