import numpy as np
import pytest

from stillmotion.config.evaluation import EvaluateRetrievalParams
from stillmotion.io.records import Caption
from stillmotion.retrieval.evaluation import evaluate_scores
from stillmotion.retrieval.pairs import RetrievalPairs

PARAMS = EvaluateRetrievalParams(ties="average", bootstrap_samples=10, seed=0)


def test_each_direction_is_ranked_by_its_own_scores():
    """Three texts, of which the first two tell of video a: by hand."""
    pairs = RetrievalPairs(
        clips_VCD=np.zeros((2, 1, 2)),
        texts_ND=np.zeros((3, 2)),
        video_of_N=np.array([0, 0, 1]),
        video_ids=["a", "b"],
        captions=[Caption(f"c{row}", "aab"[row], "x", None, None) for row in range(3)],
        missing=[],
        logit_scale=1.0,
    )
    t2v_TV = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    v2t_TV = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    found, rows = evaluate_scores(pairs, t2v_TV, v2t_TV, PARAMS)
    assert [row["rank"] for row in rows] == [[1.0], [2.0], [1.5]]
    assert [row["rank_by_num_clips"] for row in rows] == [{"1": [1.0]}, {"1": [2.0]}, {"1": [1.5]}]
    assert [row["hardest_negatives"] for row in rows] == [["b"], ["b"], ["a"]]
    assert found["t2v"]["MeanR"] == pytest.approx(1.5)
    # of a the second text comes second, of b the third comes third
    assert found["v2t"]["MeanR"] == pytest.approx(2.5)
    assert found["by_num_clips"] == {"1": {name: found[name] for name in found if name != "by_num_clips"}}
