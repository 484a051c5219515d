import numpy as np
import pytest
import torch

from stillmotion.backbones.xclip_prompts import (
    best_items,
    build_prompts,
    conditional_scores,
    prompt_settings,
    rerank,
    rescore_best,
)

TEXTS = ["a red ball", "A large red circle moves left.", "x", "word word word"]


@pytest.fixture(scope="module")
def scored(new_xclip):
    """A model whose prompts matter, its vectors of 4 texts and 3 videos, and transformers' own cosines."""
    backbone = new_xclip()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        backbone.model.prompts_generator.alpha.fill_(1.0)
        pixels = torch.randn(3, 4, 3, 32, 32, generator=generator)
        tokens = backbone.tokens(TEXTS)
        logits_VT = backbone.model(input_ids=tokens, pixel_values=pixels).logits_per_video
        vectors = {
            "texts_TD": backbone.text_features(tokens).numpy(),
            "videos_VD": backbone.embed_clips(pixels).numpy(),
        }
        contexts = backbone.contexts(pixels).numpy()
        plain_TV = backbone.embed_texts(tokens).numpy() @ vectors["videos_VD"].T
    cosines_TV = (logits_VT / backbone.model.logit_scale.exp()).detach().numpy().T
    prompts = build_prompts(backbone.model.prompts_generator.state_dict(), prompt_settings(backbone.model))
    return prompts, vectors, contexts, cosines_TV, plain_TV


ALL_PAIRS = np.array([(text, video) for text in range(4) for video in range(3)])


@pytest.mark.parametrize("texts_a_pass", [1, 3, 100])
def test_scores_are_transformers_own_logits_but_for_their_scale(scored, texts_a_pass):
    prompts, vectors, contexts, cosines_TV, plain_TV = scored
    found = conditional_scores(
        prompts, **vectors, context_of=contexts.__getitem__, pairs_M2=ALL_PAIRS, texts_a_pass=texts_a_pass
    )
    np.testing.assert_allclose(found, cosines_TV.ravel(), atol=1e-5)
    assert np.abs(plain_TV - cosines_TV).max() > 0.05


def test_scores_come_in_the_order_of_their_pairs_and_each_video_is_asked_for_once(scored):
    prompts, vectors, contexts, cosines_TV, _ = scored
    asked = []

    def context_of(video):
        asked.append(int(video))
        return contexts[video]

    pairs = np.array([(3, 2), (0, 0), (2, 2), (1, 0)])
    found = conditional_scores(prompts, **vectors, context_of=context_of, pairs_M2=pairs, texts_a_pass=10)
    np.testing.assert_allclose(
        found, [cosines_TV[3, 2], cosines_TV[0, 0], cosines_TV[2, 2], cosines_TV[1, 0]], atol=1e-5
    )
    assert asked == [0, 2]


def test_no_pairs_have_no_scores(scored):
    prompts, vectors, contexts, _, _ = scored
    pairs = np.zeros((0, 2), np.int64)
    found = conditional_scores(prompts, **vectors, context_of=contexts.__getitem__, pairs_M2=pairs, texts_a_pass=10)
    assert found.shape == (0,)


def test_best_items_come_best_first_and_ties_by_index():
    scores = np.array([[0.1, 0.5, 0.3, 0.5], [0.0, -1.0, 0.2, 0.1]])
    assert best_items(scores, 3).tolist() == [[1, 3, 2], [2, 3, 0]]
    assert best_items(scores, 9).shape == (2, 4)


def test_items_that_are_not_scored_again_keep_their_order_below_the_others():
    scores = np.array([[0.9, 0.1, 0.8, 0.2]], np.float32)
    # cosines, the logarithms of two probabilities, and what a model gives everything
    for again in ([-0.5, 0.05], [-9.0, -8.5], [-800.0, 700.0]):
        reranked = rerank(scores, np.array([[0, 2]]), np.array([again]))
        assert np.argsort(-reranked[0]).tolist() == [2, 0, 3, 1]
        assert reranked[0, [1, 3]].tolist() == scores[0, [1, 3]].tolist()


def test_the_best_of_each_text_and_of_each_video_are_scored_again_and_each_pair_once():
    # texts × videos; the best video of texts 0, 1, 2 is 0, 0, 2; the best text of videos 0, 1, 2 is 0, 1, 2
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.4], [0.1, 0.2, 0.7]])
    again = np.array([[0.1, 0.9, 0.9], [0.5, 0.2, 0.9], [0.9, 0.9, 0.3]])
    asked = []

    def score_pairs(pairs):
        asked.extend(map(tuple, pairs.tolist()))
        return again[pairs[:, 0], pairs[:, 1]]

    t2v, v2t = rescore_best(scores, score_pairs, top_k=1)
    assert sorted(asked) == [(0, 0), (1, 0), (1, 1), (2, 2)]
    np.testing.assert_allclose(t2v, [[1.9, 0.1, 0.2], [1.8, 0.3, 0.4], [0.1, 0.2, 1.7]])
    np.testing.assert_allclose(v2t, [[1.9, 0.1, 0.2], [0.8, 1.3, 0.4], [0.1, 0.2, 1.7]])


def test_with_a_top_of_everything_the_order_is_that_of_the_new_scores():
    rng = np.random.default_rng(0)
    scores, again = rng.uniform(-1, 1, (2, 6, 5))
    t2v, v2t = rescore_best(scores, lambda pairs: again[pairs[:, 0], pairs[:, 1]], top_k=10)
    assert np.argsort(t2v, axis=1).tolist() == np.argsort(again, axis=1).tolist()
    assert np.argsort(v2t, axis=0).tolist() == np.argsort(again, axis=0).tolist()
