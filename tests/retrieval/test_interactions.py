import typing

import numpy as np
import pytest
import torch

from stillmotion.config.scorers import InteractionParams
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.interactions import interaction_scores, stored_texts
from stillmotion.retrieval.mug import INTERACTIONS

CPU = torch.device("cpu")
DIM = 8
COUNTS = [3, 1, 5, 3, 2]
TEXTS = ["three", "one", "five", "three", "two"]
VIDEOS = ["a", "b", "c", "d"]


def unit(*shape, seed):
    found = np.random.default_rng(seed).standard_normal((*shape, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


@pytest.fixture
def embedded(tmp_path):
    """Five captions, of which the first and the fourth say the same, and four videos, of which `b` and `d` show it."""
    write_json(tmp_path / "model.json", {"dim": DIM, "clip_counts": [1]})
    write_rows(tmp_path / "index.jsonl", [EmbeddedVideo(name, "test", 4.0, 0, 1, [0], [0]).row() for name in VIDEOS])
    offsets = np.concatenate([[0], np.cumsum(COUNTS)])
    tokens, frames = unit(sum(COUNTS), seed=1), unit(4, 6, seed=2)
    # what another batch or tile leaves of equal ones
    tokens[offsets[3] : offsets[4]] = np.nextafter(tokens[:3], np.float32(9))
    frames[3] = frames[1]
    save_array(tmp_path / "caption_tokens.npy", tokens)
    save_array(tmp_path / "caption_token_offsets.npy", offsets)
    save_array(tmp_path / "clip_frames.npy", frames)
    save_array(tmp_path / "captions.npy", unit(5, seed=3))
    return Embeddings(tmp_path)


def params(interaction="mutual", tau=20.0):
    return InteractionParams(kind="interaction", interaction=interaction, tau=tau, top_k=1, dual_softmax=False)


def scored(embedded, *, rows=range(5), videos=range(4), **settings):
    given = {"params": params(), "device": CPU} | settings
    return interaction_scores(embedded, list(rows), [TEXTS[row] for row in rows], list(videos), **given)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def mug(tokens, frames, tau):
    """METHODS.md section 6 in float64, of the tokens that count alone."""
    cosines = tokens.astype(np.float64) @ frames.astype(np.float64).T
    s_t = (softmax(tau * cosines, 1) * cosines).sum(1)
    s_v = (softmax(tau * cosines, 0) * cosines).sum(0)
    return softmax(tau * s_t, 0) @ cosines @ softmax(tau * s_v, 0)


def tokens_of(embedded, row):
    offsets = embedded.caption_token_offsets
    return embedded.caption_tokens[offsets[row] : offsets[row + 1]]


@pytest.mark.parametrize("texts_a_pass", [1, 2, 100])
def test_scores_are_mugs_whatever_number_of_texts_is_scored_at_once(embedded, texts_a_pass):
    found = scored(embedded, texts_a_pass=texts_a_pass)
    expected = [[mug(tokens_of(embedded, row), frames, 20.0) for frames in embedded.clip_frames] for row in range(5)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_equal_texts_and_equal_videos_have_equal_scores_to_the_last_digit(embedded):
    found = scored(embedded, texts_a_pass=1)
    np.testing.assert_array_equal(found[0], found[3])
    np.testing.assert_array_equal(found[:, 1], found[:, 3])
    assert len(np.unique(found[0])) == 3


def test_rows_and_videos_stand_as_they_were_asked_for(embedded):
    every = scored(embedded)
    np.testing.assert_allclose(scored(embedded, rows=[4, 1, 2], videos=[2, 0]), every[[4, 1, 2]][:, [2, 0]], atol=1e-6)


def test_mean_pooling_is_the_cosine_of_the_text_and_the_mean_frame(embedded):
    means = embedded.clip_frames.astype(np.float64).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = scored(embedded, params=params("mean_pooling"), rows=[0, 1, 2, 4])
    np.testing.assert_allclose(found, embedded.captions[[0, 1, 2, 4]] @ means.T, atol=1e-6)


def test_params_know_every_interaction_and_no_other(embedded):
    known = typing.get_args(InteractionParams.model_fields["interaction"].annotation)
    assert set(known) == set(INTERACTIONS)
    found = {name: scored(embedded, params=params(name)).tobytes() for name in known}
    assert len(set(found.values())) == len(known)


def test_stored_texts_are_padded_behind_their_tokens(embedded):
    texts = stored_texts(embedded, [1, 2], CPU)
    assert texts.mask_NL.tolist() == [[True, False, False, False, False], [True] * 5]
    np.testing.assert_array_equal(texts.tokens_NLD[0, :1], tokens_of(embedded, 1))
    np.testing.assert_array_equal(texts.tokens_NLD[1], tokens_of(embedded, 2))
    np.testing.assert_array_equal(texts.sentences_ND, embedded.captions[[1, 2]])


@pytest.mark.parametrize("name", ["clip_frames.npy", "caption_tokens.npy", "caption_token_offsets.npy"])
def test_embeddings_without_frames_or_tokens_are_named_with_the_mend(embedded, name):
    (embedded.folder / name).unlink()
    with pytest.raises(InputError) as caught:
        scored(embedded)
    assert str(caught.value) == (
        f"{embedded.folder / name}: no such file; set embed.tokens: true and embed again, with a CLIP, a CoCa or a STAN"
    )
