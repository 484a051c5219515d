"""What Mug makes of a caption and its video: which words it listens to, and at which frames it looks.

Source: Liu et al. 2023 (papers/mug-stan.txt), figure 10; the weights are those of equations 13 and 17.

Shapes: F frames, L tokens, H and W pixels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stillmotion.io.records import Caption
from stillmotion.retrieval.mug import Texts, Videos, guide_pairs
from stillmotion.video.sampling import segment_indices

if TYPE_CHECKING:
    from stillmotion.backbones.open_clip_backbone import OpenClipBackbone


@dataclass(frozen=True)
class Attended:
    """Of a caption and a video."""

    tokens: list[str]
    """L: what each token stands for, the start and the end of the text among them."""
    frame_weights_F: np.ndarray
    """b: how much each frame counts for the text. They sum to 1."""
    token_weights_L: np.ndarray
    """a: how much each token counts for the video. They sum to 1."""
    cosines_LF: np.ndarray


def choose_captions(captions: Sequence[Caption], video_ids: Collection[str], num: int) -> list[Caption]:
    """`num` captions of whole videos, or as many as there are, before anything is known of how they fit.

    They are the middle ones of `num` equal parts of the list. Example: of 9 in 3 parts the second, fifth and eighth.

    Args:
        captions: by caption_id.
        video_ids: whose captions there are to choose from.
        num: at least 1.
    """
    whole = [caption for caption in captions if caption.start is None and caption.video_id in video_ids]
    num = min(num, len(whole))
    return [whole[place] for place in segment_indices(len(whole), num)] if num else []


@torch.inference_mode()
def attend(backbone: "OpenClipBackbone", frames_FHWC: np.ndarray, text: str, *, tau: float) -> Attended:
    """The weights of Mug, where the frames are beside one another and the text is by itself.

    Args:
        backbone: in evaluation mode.
        frames_FHWC: uint8 RGB, of one clip.
        text: a caption; what is beyond the model's context is cut.
        tau: τ.

    Raises:
        InputError: the model has no embeddings of single tokens, or takes fewer frames.
    """
    frames_1FD = backbone.frame_embeddings(backbone.pixels(frames_FHWC)[None])
    ids_1L = backbone.tokens([text])
    tokens_1LD, mask_1L = backbone.token_embeddings(ids_1L)
    unused = tokens_1LD.new_empty(1, 0)  # Mug looks at tokens alone
    videos = Videos(frames_1FD, mask_1L.new_ones(frames_1FD.shape[:2]))
    (guidance,) = guide_pairs(Texts(tokens_1LD, mask_1L, unused), videos, [(0, 0)], tau=tau)
    ids = ids_1L[0, : mask_1L.shape[1]].tolist()
    return Attended(
        [token_text(backbone.tokenizer, token) for token in ids],
        guidance.frame_weights_F.cpu().numpy(),
        guidance.token_weights_L.cpu().numpy(),
        guidance.cosines_LF.cpu().numpy(),
    )


def token_text(tokenizer: Any, token: int) -> str:
    """What a token stands for, without the space that may follow a word."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip's HFTokenizer wraps one of transformers
    return inner.decode([token]).strip()
