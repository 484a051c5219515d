"""Alignment heads: networks over a frozen video LLM's hidden states, and what they read of the store.

Source: Baba Ahmadi 2023 (papers/video-llama-retrieval.txt), sections 3.2 and 3.3, which leave open whether videos and
texts share a network, what `layers` of the MLP counts (here: the hidden layers; the one behind them keeps the last
width), the dropout, and the width of the transformer's MLP.

Shapes: N videos or texts, T their tokens, D width of the states, O of what a head makes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stillmotion.backbones.video_llm.layers import layer_index
from stillmotion.backbones.video_llm.model import LOGIT_SCALE
from stillmotion.config.scorers import HeadParams, MlpHeadParams, TransformerHeadParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.states import StoredStates
from stillmotion.errors import InputError
from stillmotion.retrieval.pairs import PairRows

ROWS_A_PASS = 256
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class MlpHead(nn.Module):
    """Linear, ReLU, layer norm and dropout for each hidden layer, and a linear layer of the last width."""

    def __init__(self, width: int, params: MlpHeadParams):
        super().__init__()
        layers: list[nn.Module] = []
        for size in params.hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.LayerNorm(size), nn.Dropout(params.dropout)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, width))

    def forward(self, states_ND: torch.Tensor) -> torch.Tensor:
        """States (N, D) to vectors (N, O) of any length."""
        made: torch.Tensor = self.layers(states_ND)
        return made


class TransformerHead(nn.Module):
    """PyTorch's encoder, its norms behind the residuals, over a class token and the states; the token is read out."""

    def __init__(self, width: int, params: TransformerHeadParams):
        super().__init__()
        if width % params.heads:
            raise InputError(
                f"params.yaml: heads of a transformer_head is {params.heads} and the states have {width} dimensions; "
                f"set a divisor of {width}"
            )
        self.token = nn.Parameter(torch.randn(width) * width**-0.5)
        block = nn.TransformerEncoderLayer(width, params.heads, params.mlp_width, params.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, params.blocks, enable_nested_tensor=False)
        self.output = nn.Linear(width, width)

    def forward(self, states_NTD: torch.Tensor, is_padding_NT: torch.Tensor) -> torch.Tensor:
        """States (N, T, D), of which some are padding, to vectors (N, D) of any length."""
        tokens = torch.cat([self.token.expand(len(states_NTD), 1, -1), states_NTD], dim=1)
        read = self.encoder(tokens, src_key_padding_mask=functional.pad(is_padding_NT, (1, 0)))
        made: torch.Tensor = self.output(read[:, 0])
        return made


class AlignmentHead(nn.Module):
    """The networks of videos and of texts, and the inverse temperature that infonce learns."""

    def __init__(self, width: int, params: HeadParams):
        super().__init__()
        towers = [_build_tower(width, params) for _ in range(1 if params.towers == "shared" else 2)]
        self.towers = nn.ModuleList(towers)
        self.log_scale = nn.Parameter(torch.tensor(math.log(LOGIT_SCALE)), requires_grad=params.loss == "infonce")

    def videos(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, O) of videos."""
        return functional.normalize(self.towers[0](*inputs), dim=-1)

    def texts(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, O) of texts."""
        return functional.normalize(self.towers[-1](*inputs), dim=-1)


def _build_tower(width: int, params: HeadParams) -> nn.Module:
    if isinstance(params, MlpHeadParams):
        return MlpHead(width, params)
    assert isinstance(params, TransformerHeadParams)
    return TransformerHead(width, params)


def build_head(params: HeadParams, *, width: int, seed: int) -> AlignmentHead:
    """The head that `params` names in its precision, with initial weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AlignmentHead(width, params).to(DTYPES[params.precision])


@dataclass(frozen=True)
class HeadInputs:
    """What a head reads of stored videos and captions, by their rows."""

    params: HeadParams
    embedded: Embeddings
    states: StoredStates
    train: PairRows
    """Whose states are the standard, with `standardised`."""
    device: torch.device

    def videos(self, rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """Inputs of the head for these rows of index.jsonl."""
        return self._inputs(rows, "videos")

    def texts(self, rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """Inputs of the head for these rows of captions.jsonl."""
        return self._inputs(rows, "captions")

    def _inputs(self, rows: Sequence[int], noun: str) -> tuple[torch.Tensor, ...]:
        params, dtype = self.params, DTYPES[self.params.precision]
        if isinstance(params, MlpHeadParams):
            return (self._pooled(params, noun)[torch.as_tensor(rows)].to(self.device, dtype),)
        tokens, offsets = self.states.video_tokens if noun == "videos" else self.states.caption_tokens
        parts = [torch.from_numpy(np.array(tokens[offsets[row] : offsets[row + 1]])) for row in rows]
        lengths_N1 = torch.tensor([[len(part)] for part in parts])
        padded_NTD = nn.utils.rnn.pad_sequence(parts, batch_first=True)
        is_padding_NT = torch.arange(padded_NTD.shape[1]) >= lengths_N1
        return padded_NTD.to(self.device, dtype), is_padding_NT.to(self.device)

    def _pooled(self, params: MlpHeadParams, noun: str) -> torch.Tensor:
        """The states of all rows, (rows, D), standardised or not; made once."""
        if noun not in self._made:
            pooling = params.video_pooling if noun == "videos" else params.text_pooling
            of_all = np.array(getattr(self.states, noun)(params.layer, pooling), dtype=np.float64)
            if params.inputs == "standardised":
                own = of_all[self.train.videos_V if noun == "videos" else self.train.texts_T]
                of_all = (of_all - own.mean(0)) / np.maximum(own.std(0), 1e-6)
            self._made[noun] = torch.from_numpy(of_all)
        return self._made[noun]

    _made: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)


def open_inputs(
    params: HeadParams,
    embedded: Embeddings,
    train: PairRows,
    device: torch.device,
) -> HeadInputs:
    """The inputs of a head.

    Raises:
        InputError: the embeddings hold no such states, or the tokens of another layer.
    """
    states = StoredStates(embedded.folder)
    if isinstance(params, MlpHeadParams):
        states.videos(params.layer, params.video_pooling), states.captions(params.layer, params.text_pooling)
    else:
        assert states.video_tokens
        kept = embedded.model["video_llm"]["keep_tokens_of"]
        if layer_index(kept, states.num_layers) != layer_index(params.layer, states.num_layers):
            raise InputError(
                f"params.yaml: a transformer_head reads layer {params.layer!r} and the model keeps the tokens of "
                f"{kept!r}; set keep_tokens_of: {params.layer}, or the head's layer to {kept}"
            )
    return HeadInputs(params, embedded, states, train, device)


@torch.no_grad()
def head_vectors(head: AlignmentHead, inputs: HeadInputs, rows: PairRows) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of texts (T, O) and videos (V, O) by a head, without dropout."""
    head.eval()
    found = []
    for embed, read, wanted in (
        (head.texts, inputs.texts, rows.texts_T),
        (head.videos, inputs.videos, rows.videos_V),
    ):
        parts = [wanted[first : first + ROWS_A_PASS] for first in range(0, len(wanted), ROWS_A_PASS)]
        found.append(torch.cat([embed(*read(part)) for part in parts]).cpu().numpy())
    return found[0], found[1]
