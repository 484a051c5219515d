import numpy as np
import pytest
import torch

from stillmotion.costs.counting import StepCounter
from stillmotion.errors import InputError
from stillmotion.training.similarity import Cosine, Mug, similarity_of

TEXTS = ["word", "a word and another word", "number 3"]


def literal_mug(tokens, frames, tau):
    """The paper's equations 11 to 18 for one text and one video, in NumPy."""

    def softmax(values, axis):
        exponentials = np.exp(values - values.max(axis=axis, keepdims=True))
        return exponentials / exponentials.sum(axis=axis, keepdims=True)

    cosines = tokens @ frames.T
    guides_of_frames = softmax(tau * cosines, 0).T @ tokens  # what the tokens say to each frame
    guides_of_tokens = softmax(tau * cosines, 1) @ frames
    video = softmax(tau * (guides_of_frames * frames).sum(1), 0) @ frames
    text = softmax(tau * (guides_of_tokens * tokens).sum(1), 0) @ tokens
    return text @ video


def unit_vectors(shape, seed):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_a_recipe_has_the_similarity_that_it_names(new_recipe, new_backbone):
    backbone = new_backbone()
    assert isinstance(similarity_of(new_recipe(), backbone), Cosine)
    assert isinstance(similarity_of(None, backbone), Cosine)
    assert similarity_of(new_recipe(similarity="mug", tau=7.0), backbone) == Mug(7.0, "mutual")
    assert similarity_of(new_recipe(similarity="mug_cosine", tau=7.0), backbone) == Mug(7.0, "mutual_cosine")


@pytest.mark.parametrize("family", ["open_clip", "stan"])
@torch.no_grad()
def test_mug_s_texts_have_one_length_and_zeros_where_nothing_counts(new_backbone, family):
    backbone = new_backbone(family)
    pixels = torch.randn(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = backbone.tokens(TEXTS)
    frames, texts = Mug(100.0, "mutual").embed(backbone, pixels, tokens)
    assert torch.equal(frames, backbone.frame_embeddings(pixels))
    assert texts.shape == (3, tokens.shape[1], backbone.dim)
    lengths = [3, 7, 4]  # words between start and end
    assert (texts.norm(dim=-1) > 0.99).sum(1).tolist() == lengths
    for row, (text, length) in enumerate(zip(TEXTS, lengths, strict=True)):
        assert not texts[row, length:].any()
        alone, mask = backbone.token_embeddings(backbone.tokens([text]))
        assert mask.all()
        torch.testing.assert_close(texts[row, :length], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tau", [3.0, 100.0])
def test_mug_scores_each_text_with_each_video_by_the_paper_s_equations(tau):
    frames, texts = unit_vectors((4, 5, 8), 0), unit_vectors((3, 9, 8), 1)
    lengths = [2, 6, 4]
    for row, length in enumerate(lengths):
        texts[row, length:] = 0
    expected = [
        [literal_mug(text[:length], video, tau) for video in frames]
        for text, length in zip(texts, lengths, strict=True)
    ]
    found = Mug(tau, "mutual").scores(torch.from_numpy(frames), torch.from_numpy(texts))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_mug_s_loss_is_symmetric_info_nce_of_its_scores_and_learns_the_scale():
    frames, texts = unit_vectors((4, 5, 8), 0), unit_vectors((4, 6, 8), 1)
    scores = np.array([[literal_mug(text, video, 50.0) for video in frames] for text in texts])

    def info_nce(scale):
        exponentials = np.exp(scale * scores)
        shares = np.diag(exponentials / exponentials.sum(1, keepdims=True)), np.diag(exponentials / exponentials.sum(0))
        return -(np.log(shares[0]).mean() + np.log(shares[1]).mean()) / 2

    scale = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)
    loss = Mug(50.0, "mutual").loss(torch.from_numpy(frames), torch.from_numpy(texts), scale)
    loss.backward()
    assert loss.item() == pytest.approx(info_nce(12.0), rel=1e-10)
    assert scale.grad.item() == pytest.approx((info_nce(12 + 1e-5) - info_nce(12 - 1e-5)) / 2e-5, rel=1e-6)


def test_mug_s_loss_and_its_gradients_never_hold_the_cosines_of_all_pairs():
    num_pairs, num_frames, num_tokens = 256, 12, 20
    frames, texts = (
        torch.from_numpy(unit_vectors(shape, 0)).float().requires_grad_()
        for shape in ((num_pairs, num_frames, 8), (num_pairs, num_tokens, 8))
    )
    with StepCounter([frames, texts]) as counter:
        Mug(100.0, "mutual").loss(frames, texts, torch.tensor(10.0)).backward()
    assert texts.grad.abs().max() > 0
    assert frames.grad.abs().max() > 0
    all_cosines = 4 * (num_pairs * num_frames) * (num_pairs * num_tokens)
    assert counter.peak_bytes < all_cosines / 2


def test_a_model_without_embeddings_of_frames_and_tokens_is_refused_with_the_mend(new_backbone):
    backbone = new_backbone("xclip")
    for embed in (
        lambda: Mug(100.0, "mutual").embed(backbone, torch.zeros(1, 4, 3, 16, 16), backbone.tokens(["a"])),
        lambda: backbone.token_embeddings(backbone.tokens(["a"])),
    ):
        with pytest.raises(InputError, match="^params.yaml: Mug needs .* set similarity: cosine") as error:
            embed()
        assert "\n" not in str(error.value)
