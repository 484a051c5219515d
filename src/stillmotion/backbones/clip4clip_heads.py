"""CLIP4Clip's four ways from the frames of a video to its similarity with a text.

`mean_pooling`, `seq_lstm` and `seq_transf` make one embedding of a video, which is compared by cosine. The tight
transformer looks at a text and the frames together and gives a score for that pair alone.

Frames are embeddings of any length. The source takes them as the image tower gives them, before they are made unit
vectors; where they are unit vectors already, as the backbone gives them to the tight type, positions weigh more beside
them. Frames that do not count come last.

Source: Luo et al. 2021, "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval", section 3.3. It
leaves open: the residual around the sequential types, that frames are made unit vectors before they are averaged, and
that transformers start from the first layers of CLIP's text tower, which all are as in its released code; the readout
of the tight type, where we take the paper's two linear layers with ReLU between (the code has QuickGELU) after the
code's layer norm, and the paper's type embeddings (the code has none), which start at zero.

Shapes: B videos (or pairs), F frames, D embedding dimensions, N texts, M videos.
"""

import copy
from collections.abc import Callable
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stillmotion.backbones.frame_pooling import pool_frames
from stillmotion.errors import InputError

HEADS = ("mean_pooling", "seq_lstm", "seq_transf", "tight_transformer")
INITIAL_STD = 0.02
"""Of the weights of the tight type's readout, as in the released code."""
TOKENS_A_PASS = 40_000
"""Texts and frames, over all pairs, that the tight type looks at in one pass: some 5 GB with 4 layers of width 512."""


class TextLayers(nn.Module):
    """Position embeddings and the first layers of a CLIP's text tower, copied, without their causal mask."""

    def __init__(self, positions_PD: torch.Tensor, blocks: list[ResidualAttentionBlock]):
        super().__init__()
        self.positions = nn.Parameter(positions_PD.detach().clone())
        self.blocks = nn.ModuleList(copy.deepcopy(block) for block in blocks).requires_grad_()
        self.num_heads = blocks[0].attn.num_heads if blocks else 1

    def forward(self, x_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, F, D) plus their positions through the layers; what does not count is not looked at.

        Raises:
            InputError: there are fewer positions than embeddings.
        """
        length = x_BFD.shape[1]
        if length > len(self.positions):
            raise InputError(
                f"a head's input has {length} embeddings and the text tower {len(self.positions)} positions; "
                "sample fewer frames"
            )
        x_BFD = x_BFD + self.positions[:length]
        unseen_BF = torch.zeros_like(mask_BF, dtype=x_BFD.dtype).masked_fill(~mask_BF, -torch.inf)
        unseen = unseen_BF[:, None].expand(-1, length, -1).repeat_interleave(self.num_heads, dim=0)
        for block in self.blocks:
            x_BFD = block(x_BFD, attn_mask=unseen)
        return x_BFD


class MeanPooling(nn.Module):
    """The mean of the frames' unit vectors; it has nothing to train."""

    def forward(self, frames_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, F, D) and which of them count to unit vectors (B, D)."""
        return pool_frames(functional.normalize(frames_BFD, dim=-1), mask_BF)


class SeqLSTM(nn.Module):
    """One LSTM over the frames with a residual around it, then mean pooling."""

    def __init__(self, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, batch_first=True)

    def forward(self, frames_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, F, D) and which of them count, first, to unit vectors (B, D)."""
        return _pool_with_residual(frames_BFD, self.lstm(frames_BFD)[0], mask_BF)


class SeqTransf(nn.Module):
    """A transformer over the frames and their positions with a residual around it, then mean pooling."""

    def __init__(self, layers: TextLayers):
        super().__init__()
        self.layers = layers

    def forward(self, frames_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, F, D) and which of them count to unit vectors (B, D)."""
        return _pool_with_residual(frames_BFD, self.layers(frames_BFD, mask_BF), mask_BF)


class TightTransformer(nn.Module):
    """A transformer over a text and the frames; what it makes of the text is read out as the score."""

    def __init__(self, layers: TextLayers):
        super().__init__()
        dim = layers.positions.shape[1]
        self.layers = layers
        self.types = nn.Parameter(torch.zeros(2, dim))
        self.norm = nn.LayerNorm(dim)
        hidden, score = nn.Linear(dim, dim), nn.Linear(dim, 1)
        for linear in (hidden, score):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)
        self.readout = nn.Sequential(hidden, nn.ReLU(), score)

    def forward(self, texts_BD: torch.Tensor, frames_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
        """Score (B,) of each text with its video; a score is used as it is, without a temperature."""
        x = torch.cat([(texts_BD + self.types[0])[:, None], frames_BFD + self.types[1]], dim=1)
        mask = torch.cat([mask_BF.new_ones(len(mask_BF), 1), mask_BF], dim=1)
        return self.readout(self.norm(self.layers(x, mask)[:, 0])).squeeze(-1)


def score_all(
    head: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    texts_ND: torch.Tensor,
    frames_MFD: torch.Tensor,
    mask_MF: torch.Tensor,
    *,
    tokens_a_pass: int | None = None,
) -> torch.Tensor:
    """Score every text with every video, (N, M), by a tight transformer.

    Beside the inputs, their gradients and the scores it holds one pass, of one pair at least: where a gradient is
    wanted, all passes but the last are computed again for theirs. A pass has TOKENS_A_PASS where none is given.
    """
    num_videos, num_frames = mask_MF.shape

    def score(pairs: torch.Tensor) -> torch.Tensor:
        texts, videos = pairs // num_videos, pairs % num_videos
        return head(texts_ND[texts], frames_MFD[videos], mask_MF[videos])

    pairs = torch.arange(len(texts_ND) * num_videos, device=texts_ND.device)
    *before, last = pairs.split(max(1, (tokens_a_pass or TOKENS_A_PASS) // (1 + num_frames)))
    scores = [checkpoint(score, part, use_reentrant=False) for part in before]
    return torch.cat([*scores, score(last)]).view(len(texts_ND), num_videos)


def copy_text_layers(model: Any, *, num_layers: int, dim: int) -> TextLayers:
    """The position embeddings and the first `num_layers` layers of an open_clip model's text tower.

    Args:
        model: a CLIP or CoCa of open_clip, which is left as it is.
        num_layers: 4 in the source; 0 leaves the positions alone.
        dim: D of the embeddings.

    Raises:
        InputError: the text tower is not open_clip's own, has fewer layers, or is not D wide.
    """
    tower = model if isinstance(model, open_clip.CLIP) else getattr(model, "text", None)
    if not isinstance(tower, (open_clip.CLIP, TextTransformer)):
        raise InputError(
            f"CLIP4Clip's transformers start from open_clip's own text transformer, not {type(tower).__name__}; "
            "set another head, or choose another backbone"
        )
    blocks, positions_PD = list(tower.transformer.resblocks), tower.positional_embedding
    if len(blocks) < num_layers:
        raise InputError(f"a head has {num_layers} layers to copy and the text tower {len(blocks)}; set fewer")
    if positions_PD.shape[1] != dim:
        raise InputError(
            f"the text tower is {positions_PD.shape[1]} wide and the embeddings have {dim} dimensions; "
            "set another head, or choose a backbone where they are equal"
        )
    return TextLayers(positions_PD, blocks[:num_layers])


def build_head(kind: str, model: Any, *, dim: int, num_layers: int, seed: int) -> nn.Module:
    """One of HEADS for the embeddings of an open_clip model; what is not copied starts from `seed`.

    Args:
        kind: one of HEADS.
        model: of open_clip; only the transformers look at it.
        dim: D of the embeddings.
        num_layers: of the transformers.
        seed: of the initial weights.

    Raises:
        InputError: the transformers cannot be copied from this model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mean_pooling":
            return MeanPooling()
        if kind == "seq_lstm":
            return SeqLSTM(dim)
        return {"seq_transf": SeqTransf, "tight_transformer": TightTransformer}[kind](
            copy_text_layers(model, num_layers=num_layers, dim=dim)
        )


def _pool_with_residual(frames_BFD: torch.Tensor, change_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
    return pool_frames(functional.normalize(frames_BFD + change_BFD, dim=-1), mask_BF)
