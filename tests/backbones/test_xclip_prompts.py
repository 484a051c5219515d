import numpy as np
import pytest
import torch

from stillmotion.backbones.xclip_prompts import (
    build_prompts,
    conditional_scores,
    prompt_settings,
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
