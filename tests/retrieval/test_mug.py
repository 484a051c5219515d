import math

import numpy as np
import pytest
import torch

from stillmotion.errors import InputError
from stillmotion.retrieval.mug import (
    INTERACTIONS,
    Texts,
    Videos,
    guide_pairs,
    score_pairs,
)

TAU = 100.0
DIM = 24
F32, F64 = torch.float32, torch.float64


def make(num_texts=7, num_tokens=6, num_videos=5, num_frames=4, dtype=F64, seed=0, spread=1.0):
    """Texts and videos of different lengths, some with gaps in the mask, and NaN wherever nothing counts.

    With a small `spread` all vectors lie close to one another, as those of one modality do.
    """
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(DIM)

    def unit(*shape):
        x = centre + spread * rng.standard_normal((*shape, DIM))
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def counts(num, length):
        mask = rng.random((num, length)) < 0.6
        mask[np.arange(num), rng.integers(0, length, num)] = True
        mask[0] = True
        return mask

    token_mask, frame_mask = counts(num_texts, num_tokens), counts(num_videos, num_frames)
    tokens, frames = unit(num_texts, num_tokens), unit(num_videos, num_frames)
    tokens[~token_mask], frames[~frame_mask] = np.nan, np.nan
    texts = Texts(
        torch.tensor(tokens, dtype=dtype), torch.tensor(token_mask), torch.tensor(unit(num_texts), dtype=dtype)
    )
    return texts, Videos(torch.tensor(frames, dtype=dtype), torch.tensor(frame_mask))


def softmax(x):
    e = [math.exp(value - max(x)) for value in x]
    return [value / sum(e) for value in e]


def literal_mug(tokens, frames, tau):
    """Equations 11 to 18 as printed, on the vectors that count: c̃ and ṽ."""
    K, T = len(tokens), len(frames)
    s_bar = []
    for i in range(T):  # frame i over the tokens: 11, 12
        s_i = softmax([tau * float(tokens[j] @ frames[i]) for j in range(K)])
        c_bar = sum(s_i[j] * tokens[j] for j in range(K))
        s_bar.append(tau * float(c_bar @ frames[i]))
    frame_weights = softmax(s_bar)  # 13
    v_tilde = sum(frame_weights[i] * frames[i] for i in range(T))  # 14
    s_bar = []
    for j in range(K):  # token j over the frames: 15, 16
        s_j = softmax([tau * float(tokens[j] @ frames[i]) for i in range(T)])
        v_bar = sum(s_j[i] * frames[i] for i in range(T))
        s_bar.append(tau * float(tokens[j] @ v_bar))
    token_weights = softmax(s_bar)  # 17
    c_tilde = sum(token_weights[j] * tokens[j] for j in range(K))  # 18
    return c_tilde, v_tilde, token_weights, frame_weights


def counted(embeddings, mask, row):
    return embeddings[row][mask[row]].double().numpy()


def literal_scores(texts, videos, score):
    """`score` of the vectors that count, and the sentence, of every pair."""
    return np.array(
        [
            [
                score(
                    counted(texts.tokens_NLD, texts.mask_NL, n),
                    counted(videos.frames_MFD, videos.mask_MF, m),
                    texts.sentences_ND[n].double().numpy(),
                )
                for m in range(len(videos.mask_MF))
            ]
            for n in range(len(texts.mask_NL))
        ]
    )


def mug(tokens, frames, tau=TAU):
    c_tilde, v_tilde, _, _ = literal_mug(tokens, frames, tau)
    return c_tilde @ v_tilde


def mug_cosine(tokens, frames, tau=TAU):
    c_tilde, v_tilde, _, _ = literal_mug(tokens, frames, tau)
    return c_tilde @ v_tilde / np.linalg.norm(c_tilde) / np.linalg.norm(v_tilde)


def simple(tokens, frames, tau=TAU):
    S = tokens @ frames.T
    s_t = [np.dot(softmax(tau * row), row) for row in S]
    s_v = [np.dot(softmax(tau * column), column) for column in S.T]
    return (np.dot(softmax(tau * np.array(s_t)), s_t) + np.dot(softmax(tau * np.array(s_v)), s_v)) / 2


def pooled(frames):
    mean = frames.mean(0)
    return mean / np.linalg.norm(mean)


def top(values, k):
    """Equal weights for the k largest."""
    weights = np.zeros(len(values))
    weights[np.argsort(values)[::-1][:k]] = 1
    return weights / weights.sum()


def hard(tokens, frames, k):
    S = tokens @ frames.T
    s_t = [top(row, k) @ row for row in S]
    s_v = [top(column, k) @ column for column in S.T]
    return top(s_t, k) @ S @ top(s_v, k)


def token_interaction(tokens, frames):
    S = tokens @ frames.T
    return (S.max(1).mean() + S.max(0).mean()) / 2


LITERAL = {
    "mutual": lambda tokens, frames, sentence: mug(tokens, frames),
    "mutual_cosine": lambda tokens, frames, sentence: mug_cosine(tokens, frames),
    "simple": lambda tokens, frames, sentence: simple(tokens, frames),
    "frame_text": lambda tokens, frames, sentence: np.dot(softmax(TAU * (frames @ sentence)), frames @ sentence),
    "video_token": lambda tokens, frames, sentence: np.dot(
        softmax(TAU * (tokens @ pooled(frames))), tokens @ pooled(frames)
    ),
    "hard_top_k": lambda tokens, frames, sentence: hard(tokens, frames, 2),
    "ti": lambda tokens, frames, sentence: token_interaction(tokens, frames),
    "mean_pooling": lambda tokens, frames, sentence: sentence @ pooled(frames),
}


def score(texts, videos, interaction="mutual", tau=TAU, **settings):
    return score_pairs(texts, videos, interaction=interaction, tau=tau, top_k=2, **settings)


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (F32, 1e-6)])
@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_scores_are_the_printed_formulas_on_what_counts(interaction, dtype, tolerance, spread):
    texts, videos = make(dtype=dtype, spread=spread)
    scores = score(texts, videos, interaction)
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores, literal_scores(texts, videos, LITERAL[interaction]), rtol=0, atol=tolerance)


NEGATIVE = {"mutual": -0.6420410509837737, "simple": -0.5359675959890333, "ti": -(1 / 3 + 1 / 2) / 2}


def test_every_interaction_has_a_formula_here():
    assert tuple(LITERAL) == INTERACTIONS


def test_the_interactions_differ():
    texts, videos = make()
    scores = [score(texts, videos, interaction).numpy() for interaction in INTERACTIONS]
    assert all(abs(a - b).max() > 1e-3 for i, a in enumerate(scores) for b in scores[:i])


def test_a_pair_is_worked_by_hand():
    # Two tokens, two frames, S = [[1, 0], [0, 0.6]], τ = ln 3: exp(τS) is [[3, 1], [1, 3^0.6]].
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=F64)
    frames = torch.tensor([[[1.0, 0.0], [0.0, 0.6]]], dtype=F64)
    mask, sentence = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=F64)
    root = 3**0.6
    s = 3 / 4, 0.6 * root / (1 + root)  # the same for tokens and frames, as S is symmetric
    a = 3 ** s[0] / (3 ** s[0] + 3 ** s[1])
    expected = a * a + 0.6 * (1 - a) * (1 - a)
    scores = score_pairs(Texts(tokens, mask, sentence), Videos(frames, mask), tau=math.log(3))
    assert scores.item() == pytest.approx(expected, abs=1e-15)


def test_agreement_in_several_tokens_costs_the_product_its_length_and_not_the_cosine():
    # A text of two sentences at right angles. One video shows both, each well; the other shows the first, perfectly.
    t1, t2 = torch.eye(4, dtype=F64)[:2]
    both = torch.stack(
        [0.9 * t1 + 0.19**0.5 * torch.eye(4, dtype=F64)[2], 0.9 * t2 + 0.19**0.5 * torch.eye(4, dtype=F64)[3]]
    )
    texts = Texts(torch.stack([t1, t2])[None], torch.ones(1, 2, dtype=torch.bool), t1[None])
    videos = Videos(torch.stack([both, torch.stack([t1, t1])]), torch.ones(2, 2, dtype=torch.bool))
    for tau in (1.0, 5.0, 20.0):
        product, cosine = (
            score_pairs(texts, videos, interaction=name, tau=tau)[0] for name in ("mutual", "mutual_cosine")
        )
        assert product[0] < product[1]
        # by symmetry all weights are 1/2, whatever τ
        assert product[0].item() == pytest.approx(0.45, abs=1e-12)
        assert cosine[0].item() == pytest.approx(0.9, abs=1e-12)


def test_guided_embeddings_that_cancel_have_no_cosine_and_no_nan():
    frames = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], requires_grad=True)
    tokens = torch.tensor([[[0.0, 1.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    scores = score_pairs(
        Texts(tokens, mask[:, :1], tokens[:, 0]), Videos(frames, mask), interaction="mutual_cosine", tau=TAU
    )
    scores.sum().backward()
    assert scores.item() == 0
    assert frames.grad.isfinite().all()


def nearly_opposite(gap):
    """Videos of two frames that are opposite but for noise of length `gap`, and tokens that prefer neither."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=-1)
    noise = torch.randn(20, 2, 64, generator=generator) * gap / 8
    frames = torch.nn.functional.normalize(torch.stack([direction, -direction]) + noise, dim=-1)
    tokens = torch.randn(30, 4, 64, generator=generator)
    return torch.nn.functional.normalize(tokens - (tokens @ direction)[..., None] * direction, dim=-1), frames


def score_nearly_opposite_frames(gap, dtype):
    tokens, frames = (vectors.to(dtype) for vectors in nearly_opposite(gap))
    masks = torch.ones(30, 4, dtype=torch.bool), torch.ones(20, 2, dtype=torch.bool)
    texts, videos = Texts(tokens, masks[0], tokens[:, 0]), Videos(frames, masks[1])
    return score_pairs(texts, videos, interaction="mutual_cosine", tau=0.01)


@pytest.mark.parametrize("gap", [1e-4, 1e-5])
def test_guided_embeddings_that_nearly_cancel_score_no_more_than_a_cosine(gap):
    assert score_nearly_opposite_frames(gap, torch.float32).abs().max() <= 1


def test_guided_embeddings_that_cancel_in_part_have_their_cosine_in_float32():
    exact = score_nearly_opposite_frames(0.1, torch.float64)
    assert exact.abs().max() > 0.2
    found = score_nearly_opposite_frames(0.1, torch.float32).double()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_a_guided_length_below_the_one_that_is_stated_counts_as_that_in_float32():
    found, exact = (score_nearly_opposite_frames(0.005, dtype).double() for dtype in (F32, F64))
    lengths_M = nearly_opposite(0.005)[1].double().mean(1).norm(dim=-1)
    assert lengths_M.max() < 0.0186
    torch.testing.assert_close(found, exact * lengths_M / 0.0186, rtol=0.01, atol=1e-3)
    assert (found - exact).abs().max() > 0.2


@pytest.mark.parametrize("interaction", ["mutual", "mutual_cosine", "simple", "hard_top_k", "ti"])
@pytest.mark.parametrize("tile_cosines", [1, 50, 100, 10**6])
def test_tiles_of_any_size_give_the_same_scores(interaction, tile_cosines):
    texts, videos = make(num_texts=11, num_videos=9)
    whole = score(texts, videos, interaction, tile_cosines=10**9)
    np.testing.assert_allclose(score(texts, videos, interaction, tile_cosines=tile_cosines), whole, rtol=0, atol=1e-13)


def test_one_token_and_one_frame_score_their_cosine():
    texts, videos = make(num_tokens=1, num_frames=1)
    expected = texts.tokens_NLD[:, 0] @ videos.frames_MFD[:, 0].T
    for interaction in ("mutual", "mutual_cosine", "simple", "hard_top_k", "ti"):
        torch.testing.assert_close(score(texts, videos, interaction), expected)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_the_order_of_tokens_frames_texts_and_videos_changes_nothing(interaction):
    texts, videos = make()
    rng = np.random.default_rng(1)
    n, t, m, f = (torch.from_numpy(rng.permutation(size)) for size in (7, 6, 5, 4))
    shuffled = score(
        Texts(texts.tokens_NLD[n][:, t], texts.mask_NL[n][:, t], texts.sentences_ND[n]),
        Videos(videos.frames_MFD[m][:, f], videos.mask_MF[m][:, f]),
        interaction,
    )
    torch.testing.assert_close(shuffled, score(texts, videos, interaction)[n][:, m], rtol=0, atol=1e-13)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_bfloat16_vectors_are_scored_in_float32_and_within_autocast_too(interaction):
    texts, videos = make(dtype=torch.bfloat16)
    expected = literal_scores(texts, videos, LITERAL[interaction])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=interaction not in ("mean_pooling", "video_token")):
        scores = score(texts, videos, interaction)
    tolerance = 0.01 if interaction in ("mean_pooling", "video_token") else 1e-6
    np.testing.assert_allclose(scores.float(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (F32, 1e-6)])
@pytest.mark.parametrize("tau", [1.0, 100.0, 3000.0])
def test_opposite_vectors_are_exact_though_their_exponentials_underflow(dtype, tolerance, tau):
    # One text's tokens have a cosine of -1 with every frame of one video, so that all its exponentials are as far
    # below those of a pair of equal vectors as they can be.
    texts, videos = make(num_texts=3, num_videos=3, dtype=dtype)
    tokens, frames = texts.tokens_NLD.clone(), videos.frames_MFD.clone()
    frames[0, :] = frames[0, 0]
    tokens[0, :] = -frames[0, 0]
    tokens[1, texts.mask_NL[1]] = frames[0, 0]
    texts, videos = Texts(tokens, texts.mask_NL, texts.sentences_ND), Videos(frames, videos.mask_MF)
    with torch.no_grad():
        scores = score(texts, videos, tau=tau)
    expected = literal_scores(texts, videos, lambda tokens, frames, sentence: mug(tokens, frames, tau))
    assert scores[0, 0].item() == pytest.approx(-1, abs=tolerance)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)


@pytest.fixture
def flushed_denormals():
    """As the stages compute."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("angle", [1.0, 1.6, *np.linspace(2.05, 2.2, 30), 2.6, 3.1])
@pytest.mark.usefixtures("flushed_denormals")
def test_a_text_far_below_the_others_is_exact_however_much_of_it_underflows(angle):
    # Two frames a hundredth to either side of text 0; text 1 is `angle` away. Shifted as text 0 wants it, the two
    # exponentials of text 1 go from normal numbers over one of them lost to both lost.
    frames = torch.tensor([[[math.cos(0.01), math.sin(0.01)], [math.cos(0.01), -math.sin(0.01)]]])
    tokens = torch.tensor([[[1.0, 0.0]], [[math.cos(angle), math.sin(angle)]]])
    texts = Texts(tokens, torch.ones(2, 1, dtype=torch.bool), tokens[:, 0])
    videos = Videos(frames, torch.ones(1, 2, dtype=torch.bool))
    with torch.no_grad():
        scores = score_pairs(texts, videos, tau=TAU)
    expected = literal_scores(texts, videos, lambda tokens, frames, sentence: mug(tokens, frames))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interaction", ["mutual", "simple", "ti"])
@pytest.mark.parametrize("padding", [0.0, -1.0, 1e30, math.nan])
def test_nothing_in_padding_changes_a_score_even_where_all_cosines_are_negative(interaction, padding):
    """The stored numbers are of the formulas above in float64. A padded cosine of 0 would be the largest."""
    tokens = torch.eye(3, dtype=F64).repeat(2, 1, 1)
    frames = -torch.tensor([[1 / 3, 8**0.5 / 3, 0], [3**0.5 / 2, 1 / 2, 0], [0, 0, 1]], dtype=F64).repeat(2, 1, 1)
    tokens[0, 2] = frames[0, 2] = padding  # the others fill the tile, so that there is padding in it
    mask = torch.tensor([[True, True, False], [True, True, True]])
    found = score_pairs(Texts(tokens, mask, tokens[:, 0]), Videos(frames, mask), interaction=interaction, tau=2.0)
    assert found[0, 0].item() == pytest.approx(NEGATIVE[interaction], abs=1e-15)


def test_top_k_beyond_what_counts_weighs_all_alike():
    texts, videos = make()
    expected = literal_scores(texts, videos, lambda tokens, frames, sentence: float(tokens.mean(0) @ frames.mean(0)))
    scores = score_pairs(texts, videos, interaction="hard_top_k", tau=TAU, top_k=50)
    np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_the_weights_of_a_pair_are_the_softmaxes_of_the_equations_and_zero_where_masked():
    texts, videos = make()
    pairs = [(0, 0), (3, 2), (6, 4)]
    for (n, m), guidance in zip(pairs, guide_pairs(texts, videos, pairs, tau=TAU), strict=True):
        token_mask, frame_mask = texts.mask_NL[n].numpy(), videos.mask_MF[m].numpy()
        tokens, frames = counted(texts.tokens_NLD, texts.mask_NL, n), counted(videos.frames_MFD, videos.mask_MF, m)
        c_tilde, v_tilde, a, b = literal_mug(tokens, frames, TAU)
        S = tokens @ frames.T
        both = np.ix_(token_mask, frame_mask)
        np.testing.assert_allclose(guidance.token_weights_L[token_mask], a, atol=1e-12)
        np.testing.assert_allclose(guidance.frame_weights_F[frame_mask], b, atol=1e-12)
        np.testing.assert_allclose(guidance.cosines_LF[both], S, atol=1e-12)
        np.testing.assert_allclose(guidance.frames_of_token_LF[both], [softmax(TAU * row) for row in S], atol=1e-12)
        found_q = guidance.tokens_of_frame_LF[both].T
        np.testing.assert_allclose(found_q, [softmax(TAU * column) for column in S.T], atol=1e-12)
        assert guidance.score.item() == pytest.approx(c_tilde @ v_tilde, abs=1e-12)
        masked = ~(token_mask[:, None] & frame_mask)
        for weights in (guidance.frames_of_token_LF, guidance.tokens_of_frame_LF, guidance.cosines_LF):
            assert weights[masked].eq(0).all()
        assert guidance.token_weights_L[~token_mask].eq(0).all()
        assert guidance.frame_weights_F[~frame_mask].eq(0).all()


def test_a_text_without_a_token_and_a_video_without_a_frame_are_errors_that_name_them():
    texts, videos = make()
    texts.mask_NL[3] = False
    with pytest.raises(InputError, match="^text 3 .* has no token that counts; leave the text out$"):
        score(texts, videos)
    texts, videos = make()
    videos.mask_MF[1] = False
    with pytest.raises(InputError, match="^video 1 .* has no frame that counts; leave the video out$"):
        guide_pairs(texts, videos, [(0, 0)], tau=TAU)


def test_settings_and_shapes_that_do_not_fit_are_errors():
    texts, videos = make()
    with pytest.raises(InputError, match="top_k .* is 0; set 1 or more"):
        score_pairs(texts, videos, interaction="hard_top_k", tau=TAU, top_k=0)
    with pytest.raises(ValueError, match="no interaction is named 'mutal'; take one of mutual, mutual_cosine, simple"):
        score(texts, videos, "mutal")
    with pytest.raises(ValueError, match="the mask of tokens is torch.int64 .*; give one bool for each token"):
        score(Texts(texts.tokens_NLD, texts.mask_NL.long(), texts.sentences_ND), videos)
