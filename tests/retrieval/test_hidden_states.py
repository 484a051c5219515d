"""Retrieval by hidden states of a given layer, and by the best one on validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stillmotion.config.scorers import BestLayerParams, HiddenStatesParams
from stillmotion.embedding.states import StoredStates
from stillmotion.errors import InputError
from stillmotion.retrieval.hidden_states import PooledPairs
from stillmotion.retrieval.pairs import split_rows
from stillmotion.retrieval.scoring import ScorerInputs, open_scorer

CPU = torch.device("cpu")


def opened(params, queries, tmp_path):
    return open_scorer(params, queries, ScorerInputs(tmp_path, tmp_path, CPU))


def cosine_ranks(texts, videos):
    """A literal transcription in float64, of texts and videos in the same order."""
    scores = np.array(
        [[t @ v / (np.linalg.norm(t) * np.linalg.norm(v)) for v in videos.astype(float)] for t in texts.astype(float)]
    )
    return (1 + (scores > np.diag(scores)[:, None]).sum(1)).tolist()


def test_a_layer_is_ranked_by_cosines_of_states_of_any_length_and_measured_by_all_poolings(with_states, tmp_path):
    params = HiddenStatesParams(kind="hidden_states", layer="before_llm", video_pooling="mean", text_pooling="first")
    scorer = opened(params, with_states, tmp_path)
    (ranked,) = scorer.rank(with_states, 1, "average")
    folder = with_states.embedded.folder / "states"
    texts, videos = np.load(folder / "captions.npy")[0, 0, :3], np.load(folder / "videos.npy")[0, 1, 2:5]
    expected = cosine_ranks(texts, videos)
    assert ranked.ranks.directions["t2v"].ranks_Q.tolist() == expected
    table = {(row["video_pooling"], row["text_pooling"]): row["MRR"] for row in ranked.measured["poolings"]}
    assert table["mean", "first"] == pytest.approx(100 * np.mean(1 / np.array(expected)))
    assert len(table) == 4
    assert scorer.selected_on == "nothing: the layer is given"


def test_the_best_layer_is_chosen_on_validation_and_tested_once(with_states, tmp_path):
    scorer = opened(BestLayerParams(kind="best_layer"), with_states, tmp_path)
    (ranked,) = scorer.rank(with_states, 1, "average")
    chosen = {"layer": "layer:1", "video_pooling": "first", "text_pooling": "first"}
    assert scorer.described == {"hidden_states": chosen}
    assert ranked.ranks.directions["t2v"].ranks_Q.tolist() == [1, 1, 1]
    assert len(ranked.measured["sweep"]) == 2 * 2 * 2
    assert "poolings" not in ranked.measured
    assert scorer.selected_on == "validation"


def test_sum_and_mean_have_the_same_cosines_and_one_text_for_all_gives_the_harmonic_mean_of_ranks(with_states):
    folder = with_states.embedded.folder / "states"
    videos, texts = np.load(folder / "videos.npy"), np.load(folder / "captions.npy")
    videos[:, 0], texts[1, 1] = 4 * videos[:, 1], 1.0  # `first` is four times the mean; and every text the same
    np.save(folder / "videos.npy", videos)
    np.save(folder / "captions.npy", texts)
    rows = split_rows(with_states.embedded, with_states.captions, "test")
    sweep = PooledPairs(StoredStates(with_states.embedded.folder), rows).sweep(["before_llm", "layer:1"], "average")
    mrr = {(row["layer"], row["video_pooling"], row["text_pooling"]): row["MRR"] for row in sweep}
    assert mrr["before_llm", "first", "mean"] == mrr["before_llm", "mean", "mean"]
    assert mrr["layer:1", "mean", "mean"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3) / 3)


def test_embeddings_of_no_video_llm_are_refused_with_the_mend(queries, tmp_path):
    with pytest.raises(InputError, match="no hidden states; embed a model of family video_llm"):
        opened(BestLayerParams(kind="best_layer"), queries, tmp_path)


def test_without_captions_there_is_nothing_to_choose_and_nothing_wrong(with_states, tmp_path):
    none = replace(with_states, captions=[])
    assert opened(BestLayerParams(kind="best_layer"), none, tmp_path).sweep == []


def test_queries_without_validation_captions_to_choose_a_layer_by_are_one_line(with_states, tmp_path):
    splits = {name: "test" for name in with_states.splits}
    captions = [caption for caption in with_states.captions if caption.video_id in "abc"]
    with pytest.raises(InputError, match="no validation captions to choose a layer by; score it by hidden_states"):
        opened(BestLayerParams(kind="best_layer"), replace(with_states, captions=captions, splits=splits), tmp_path)
