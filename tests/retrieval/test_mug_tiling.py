"""Gradients of tiled scores, against finite differences and against autograd on all pairs at once."""

from unittest import mock

import pytest
import torch

from stillmotion.retrieval import mug_interactions
from stillmotion.retrieval.mug import Texts, Videos, score_pairs
from stillmotion.retrieval.mug_tiling import score_tiles

DIM = 5
WITH_TILES = ["mutual", "mutual_cosine", "simple", "hard_top_k", "ti"]


def make(dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, DIM, generator=rng, dtype=torch.float64), dim=-1)

    token_mask = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, True, True]])
    frame_mask = torch.tensor([[True, True], [False, True], [True, True]])
    return unit(4, 3).to(dtype), token_mask, unit(3, 2).to(dtype), frame_mask, unit(4).to(dtype)


def all_at_once(tokens, token_mask, frames, frame_mask, tau, interaction):
    """The formulas on one tensor (N, M, L, F) with softmaxes of torch and infinite masks: what autograd derives."""
    S = torch.einsum("nld,mfd->nmlf", tokens, frames)
    t, f = token_mask[:, None, :, None], frame_mask[None, :, None, :]
    over_f, over_t = S.masked_fill(~f, -torch.inf), S.masked_fill(~t, -torch.inf)
    if interaction == "ti":
        w, u = (mask.double() / mask.sum(1, keepdim=True) for mask in (token_mask, frame_mask))
        return ((w[:, None] * over_f.amax(3)).sum(2) + (u * over_t.amax(2)).sum(2)) / 2
    s_t = ((tau * S).masked_fill(~f, -torch.inf).softmax(3) * S).sum(3)
    s_v = ((tau * S).masked_fill(~t, -torch.inf).softmax(2) * S).sum(2)
    a = (tau * s_t).masked_fill(~t[..., 0], -torch.inf).softmax(2)
    b = (tau * s_v).masked_fill(~f[:, :, 0], -torch.inf).softmax(2)
    if interaction == "simple":
        return ((a * s_t).sum(2) + (b * s_v).sum(2)) / 2
    return torch.einsum("nml,nmlf,nmf->nm", a, S, b)


@pytest.mark.parametrize("interaction", [*WITH_TILES, "frame_text", "video_token", "mean_pooling"])
def test_gradients_are_those_of_finite_differences(interaction):
    tokens, token_mask, frames, frame_mask, sentences = make()

    def scores(tokens, frames, sentences, tau):
        return score_pairs(
            Texts(tokens, token_mask, sentences),
            Videos(frames, frame_mask),
            interaction=interaction,
            tau=tau,
            tile_cosines=12,
        )

    leaves = [tokens, frames, sentences, torch.tensor(7.0, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(scores, leaves, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("interaction", ["mutual", "simple", "ti"])
@pytest.mark.parametrize("tile_cosines", [1, 12, 30, 1000])
def test_gradients_are_those_of_all_pairs_at_once(interaction, tile_cosines):
    tokens, token_mask, frames, frame_mask, sentences = make()
    tau = torch.tensor(20.0, dtype=torch.float64)
    wanted = [tokens, frames] if interaction == "ti" else [tokens, frames, tau]
    for leaf in wanted:
        leaf.requires_grad_()
    outer = torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = all_at_once(tokens, token_mask, frames, frame_mask, tau, interaction)
    expected_grads = torch.autograd.grad((expected * outer).sum(), wanted)
    found = score_pairs(
        Texts(tokens, token_mask, sentences),
        Videos(frames, frame_mask),
        interaction=interaction,
        tau=tau,
        tile_cosines=tile_cosines,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    for grad, other in zip(torch.autograd.grad((found * outer).sum(), wanted), expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-12)


def test_what_is_masked_gets_no_gradient_and_its_nan_reaches_nothing():
    tokens, token_mask, frames, frame_mask, sentences = make()
    tokens[~token_mask], frames[~frame_mask] = torch.nan, torch.nan
    tokens.requires_grad_()
    frames.requires_grad_()
    score_pairs(Texts(tokens, token_mask, sentences), Videos(frames, frame_mask), tau=20.0).sum().backward()
    assert tokens.grad[~token_mask].eq(0).all()
    assert frames.grad[~frame_mask].eq(0).all()
    assert tokens.grad[token_mask].isfinite().all()
    assert tokens.grad[token_mask].abs().sum() > 0


def test_bfloat16_leaves_get_bfloat16_gradients_close_to_those_of_float64():
    tokens, token_mask, frames, frame_mask, sentences = make(torch.bfloat16)
    grads = []
    for dtype in (torch.bfloat16, torch.float64):
        leaves = [tokens.to(dtype, copy=True).requires_grad_(), frames.to(dtype, copy=True).requires_grad_()]
        texts, videos = Texts(leaves[0], token_mask, sentences), Videos(leaves[1], frame_mask)
        grads.append(torch.autograd.grad(score_pairs(texts, videos, tau=10.0).sum(), leaves))
    for narrow, wide in zip(*grads, strict=True):
        assert narrow.dtype == torch.bfloat16
        torch.testing.assert_close(narrow.double(), wide, rtol=0.01, atol=0.01)


def test_only_what_asks_for_a_gradient_gets_one():
    tokens, token_mask, frames, frame_mask, sentences = make()
    frames.requires_grad_()
    score_pairs(Texts(tokens, token_mask, sentences), Videos(frames, frame_mask), tau=20.0).sum().backward()
    assert tokens.grad is None
    assert frames.grad.abs().sum() > 0


def test_no_tile_holds_more_cosines_than_asked_for_and_all_pairs_are_in_one():
    tokens, token_mask, frames, frame_mask, _ = make()
    held = []

    def count(tile):
        held.append(tile.cosines_nlfm.numel())
        return torch.ones(tile.cosines_nlfm.shape[0], tile.cosines_nlfm.shape[3], dtype=torch.float64)

    tau = torch.tensor(1.0)
    for budget, most_tiles in ((6, 12), (24, 4), (1000, 1)):
        held.clear()
        scores = score_tiles(count, tokens, token_mask, frames, frame_mask, tau, tile_cosines=budget)
        assert max(held) <= budget
        assert len(held) <= most_tiles
        assert scores.eq(1).all()


def test_texts_of_one_length_are_scored_without_their_padding():
    tokens = torch.nn.functional.normalize(torch.randn(6, 8, DIM), dim=-1)
    token_mask = torch.zeros(6, 8, dtype=torch.bool)
    token_mask[:, :3] = True
    frames, frame_mask = tokens[:2, :4], torch.ones(2, 4, dtype=torch.bool)
    shapes = []

    def look(tile):
        shapes.append((tile.cosines_nlfm.shape, tile.token_mask_nl))
        return tile.cosines_nlfm[:, 0, 0]

    score_tiles(look, tokens, token_mask, frames, frame_mask, torch.tensor(1.0))
    assert shapes == [((6, 3, 4, 2), None)]


def test_the_exponents_of_cosines_are_taken_once_where_no_gradient_is_asked_for():
    tokens, token_mask, frames, frame_mask, sentences = make(torch.float32)
    tokens, frames = (torch.nn.functional.normalize(x + 2 * sentences[0], dim=-1) for x in (tokens, frames))
    with mock.patch.object(mug_interactions, "attention", side_effect=AssertionError):
        score_pairs(Texts(tokens, token_mask, sentences), Videos(frames, frame_mask), tau=100.0)
