"""What holds for each kind of scorer that config/scorers.py has."""

import numpy as np
import pytest
import torch

from stillmotion.config.loading import FAMILIES
from stillmotion.config.models import EmbedParams
from stillmotion.config.scorers import InteractionParams, MeanParams
from stillmotion.io.tables import write_json
from stillmotion.provenance import SOURCE_ROOT, module_digests
from stillmotion.retrieval.scoring import ScorerInputs, open_scorer

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", FAMILIES["scorers"])
def test_what_it_needs_are_params_of_embed(kind):
    needs = {name: EmbedParams.model_fields[name].annotation for name in FAMILIES["scorers"][kind].needs}
    assert set(needs.values()) <= {bool}


def test_the_code_of_a_scorer_is_what_evaluate_retrieval_alone_depends_on():
    scripts = {
        script.stem
        for script in SOURCE_ROOT.glob("*.py")
        if "stillmotion/retrieval/conditional.py" in module_digests(script)
    }
    assert scripts == {"evaluate_retrieval"}


def ranks(scorer, queries, num_clips):
    """Of the captions of a, b and c among these videos, and of the videos among the captions."""
    (ranked,) = scorer.rank(queries, num_clips, "average")
    return [ranked.ranks.directions[direction].ranks_Q.tolist() for direction in ("t2v", "v2t")]


def test_the_mean_of_clips_is_ranked_by_cosines(queries, tmp_path):
    trained = {"model": "abc", "dim": 6, "clip_counts": [1, 2], "seeds": [], "selected_on": "nothing"}
    write_json(tmp_path / "aggregator.json", trained)
    scorer = open_scorer(MeanParams(kind="mean"), queries, ScorerInputs(tmp_path, tmp_path, CPU))
    clips_VCD, texts_TD = queries.embedded.clips(2)[1:], queries.embedded.captions[:3]
    scores_TV = texts_TD @ (clips_VCD.mean(1) / np.linalg.norm(clips_VCD.mean(1), axis=1, keepdims=True)).T
    expected = [1 + (rows > np.diag(scores_TV)[:, None]).sum(1) for rows in (scores_TV, scores_TV.T)]
    assert ranks(scorer, queries, 2) == [found.tolist() for found in expected]
    assert scorer.clip_counts == [1, 2]


def test_an_interaction_says_what_it_is_and_how_alike_the_frames_of_a_video_are(queries, tmp_path):
    params = InteractionParams(kind="interaction", interaction="mutual", tau=10.0, top_k=1, dual_softmax=True)
    scorer = open_scorer(params, queries, ScorerInputs(tmp_path, tmp_path, CPU))
    (ranked,) = scorer.rank(queries, 1, "average")
    frames_VFD = queries.embedded.clip_frames[1:].astype(np.float64)
    products_VFF = frames_VFD @ frames_VFD.swapaxes(1, 2)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([[products[pair] for pair in pairs] for products in products_VFF])
    assert ranked.measured["mean_frame_cosine"] == pytest.approx(expected, abs=1e-6)
    assert scorer.described == {"scorer": params.model_dump()}
    assert scorer.inference_tricks.startswith("dual softmax over all test queries")
    assert (scorer.clip_counts, scorer.seeds) == ((1,), ())
