"""X-CLIP's texts that depend on the video, as a second look at the best of a ranking.

A text becomes text + α · decoder(text, patches of the video averaged over its frames), so it has another vector
for each video, and no pair of a text and a video can be scored without running the decoder. So the unconditional
cosines rank everything, and only the best of each text and of each video are scored again.

Source: Ni et al. 2022 (X-CLIP), section 3.3; METHODS.md section 3.

Shapes: T texts, V videos, Q queries, G gallery items, M pairs, K items that are scored again, P patches,
D embedding dimensions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import XCLIPConfig, XCLIPModel
from transformers.models.x_clip.modeling_x_clip import XCLIPPromptGenerator

_TOWERS = ("vision_config", "text_config")
_SETTINGS = (
    "projection_dim",
    "prompt_layers",
    "prompt_num_attention_heads",
    "prompt_hidden_act",
    "prompt_attention_dropout",
    "prompt_projection_dropout",
)


def prompt_settings(model: XCLIPModel) -> dict[str, Any]:
    """What, beside the weights, `build_prompts` needs to make a model's prompts generator again."""
    norms = {name: {"layer_norm_eps": getattr(model.config, name).layer_norm_eps} for name in _TOWERS}
    kernel = {"attn_implementation": model.config._attn_implementation}
    return {name: getattr(model.config, name) for name in _SETTINGS} | norms | kernel


def build_prompts(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> XCLIPPromptGenerator:
    """The prompts generator of a model, without the model.

    Args:
        tensors: its state.
        settings: what `prompt_settings` gave.
    """
    prompts = XCLIPPromptGenerator(XCLIPConfig(**settings))
    prompts.load_state_dict(dict(tensors))
    return prompts.eval()


@torch.inference_mode()
def conditional_scores(
    prompts: XCLIPPromptGenerator,
    texts_TD: np.ndarray,
    videos_VD: np.ndarray,
    context_of: Callable[[int], np.ndarray],
    pairs_M2: np.ndarray,
    *,
    texts_a_pass: int,
) -> np.ndarray:
    """Cosines of texts that depend on the video with the video, as XCLIPModel's logits but for the logit scale.

    Args:
        prompts: of the model; the scores are computed where it is.
        texts_TD: text vectors of their own length, which matters beside what the decoder adds.
        videos_VD: unit vectors.
        context_of: (P, D) of a video, what makes a text depend on it; each is asked for once.
        pairs_M2: text and video of each score.
        texts_a_pass: how many texts of a video go through the decoder at once, at most.

    Returns:
        (M,) float32.
    """
    device = prompts.alpha.device
    texts = torch.from_numpy(np.array(texts_TD, dtype=np.float32)).to(device)
    videos = torch.from_numpy(np.array(videos_VD, dtype=np.float32)).to(device)
    order = np.argsort(pairs_M2[:, 1], kind="stable")
    chosen, starts = np.unique(pairs_M2[order, 1], return_index=True)
    scores_M = np.empty(len(pairs_M2), dtype=np.float32)
    for video, places in zip(chosen, np.split(order, starts[1:]), strict=False):
        context_1PD = torch.from_numpy(np.array(context_of(video))).to(device)[None]
        for first in range(0, len(places), texts_a_pass):
            here = places[first : first + texts_a_pass]
            texts_1ND = texts[torch.from_numpy(pairs_M2[here, 0]).to(device)][None]
            adapted_1ND = texts_1ND + prompts(texts_1ND, context_1PD)
            scores_M[here] = (functional.normalize(adapted_1ND[0], dim=-1) @ videos[video]).cpu().numpy()
    return scores_M


def best_items(scores_QG: np.ndarray, count: int) -> np.ndarray:
    """The `count` best items of each query, (Q, min(count, G)), best first; equal scores by index."""
    return np.argsort(-scores_QG, axis=1, kind="stable")[:, :count]


def rerank(scores_QG: np.ndarray, items_QK: np.ndarray, rescored_QK: np.ndarray) -> np.ndarray:
    """Put new scores of each query's best items in the place of the old ones, above those of all other items.

    The new ones may be of another kind, such as logarithms of probabilities: they are moved above the old ones.

    Example:
        Old cosines 0.9, 0.8, 0.1; the first two scored again as -9 and -8.5: 1.9, 2.4, 0.1.

    Returns:
        (Q, G) float64, to be ranked by only.
    """
    reranked_QG = scores_QG.astype(np.float64)
    moved_Q1 = 1 + reranked_QG.max(axis=1, keepdims=True) - rescored_QK.min(axis=1, keepdims=True)
    np.put_along_axis(reranked_QG, items_QK, rescored_QK + moved_Q1, axis=1)
    return reranked_QG


def rescore_best(
    scores_TV: np.ndarray, score_pairs: Callable[[np.ndarray], np.ndarray], *, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score the best videos of each text and the best texts of each video again, each pair once.

    Args:
        scores_TV: unconditional cosines.
        score_pairs: new scores (M,) of pairs (M, 2) of text and video.
        top_k: how many of each are scored again; the others keep their order below them.

    Returns:
        Two matrices (T, V) to rank by: the rows of the first for text to video, the columns of the second for
        video to text.
    """
    num_videos = scores_TV.shape[1]
    videos_TK = best_items(scores_TV, top_k)
    texts_VK = best_items(scores_TV.T, top_k)
    from_texts = np.arange(len(scores_TV))[:, None] * num_videos + videos_TK
    from_videos = texts_VK * num_videos + np.arange(num_videos)[:, None]
    cells = np.union1d(from_texts, from_videos)
    rescored = score_pairs(np.stack(np.divmod(cells, num_videos), axis=1)).astype(np.float64)
    t2v_TV = rerank(scores_TV, videos_TK, rescored[np.searchsorted(cells, from_texts)])
    v2t_VT = rerank(scores_TV.T, texts_VK, rescored[np.searchsorted(cells, from_videos)])
    return t2v_TV, v2t_VT.T
