"""X-CLIP's texts that depend on the video, for a second look at the best of a ranking.

A text becomes text + α · decoder(text, patches of the video averaged over its frames), so it has another vector
for each video, and no pair of a text and a video can be scored without running the decoder. So the unconditional
cosines rank everything, and only the best of each text and of each video are scored again.

Source: Ni et al. 2022 (X-CLIP), section 3.3; METHODS.md section 3.

Shapes: T texts, V videos, M pairs, P patches, D embedding dimensions.
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
