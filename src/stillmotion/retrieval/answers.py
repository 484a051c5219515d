"""Retrieval by a video LLM's own answer: hidden states rank everything, and of the best it is asked whether they fit.

It reads the visual tokens that embed.py keeps with keep_tokens_of: before_llm, so that no frame is looked at again.

Source: "VidVec: Unlocking Video MLLM Embeddings for Video-Text Retrieval" (arXiv 2602.08099), section 3.3.

Shapes: T texts, V videos, M pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm.model import VideoLLM
from stillmotion.config.scorers import RerankParams
from stillmotion.embedding.states import StoredStates
from stillmotion.errors import InputError
from stillmotion.io.memo import folder_digest
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.hidden_states import PooledPairs
from stillmotion.retrieval.reranking import rescore_best
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, Untrained, rank_scores
from stillmotion.stage import Progress

TOKENS = "before_llm"


@dataclass(frozen=True, kw_only=True)
class Reranked(Untrained):
    """Cosines of one layer's states, and answers for the top k; in memory are the scores and one batch."""

    states: StoredStates
    model: VideoLLM
    params: RerankParams
    selected_on: str = "nothing: the layer is given"

    @property
    def inference_tricks(self) -> str:
        return f"the model's own answer for the top {self.params.top_k}"

    @property
    def described(self) -> Mapping[str, Any]:
        shown = {"visual_tokens": self.model.shown_as}
        return {"rerank": self.params.model_dump(exclude={"kind", "batch_size"}) | shown}

    def _visual(self, row: int) -> dict[str, torch.Tensor]:
        stored = self.states.visual(row, self.model.beside)
        return {name: torch.from_numpy(np.array(rows)) for name, rows in stored.items()}

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by the cosines, the best by the answers."""
        own, pairs, params = PooledPairs(self.states, queries.rows), queries.any_clips, self.params
        texts_TD, videos_VD = (
            own.texts(params.layer, params.text_pooling),
            own.videos(params.layer, params.video_pooling),
        )

        def score_pairs(pairs_M2: np.ndarray) -> np.ndarray:
            scores_M = np.empty(len(pairs_M2), dtype=np.float64)
            with Progress("asking of pairs", len(pairs_M2)) as progress:
                for first in range(0, len(pairs_M2), params.batch_size):
                    batch = pairs_M2[first : first + params.batch_size]
                    visual = [self._visual(queries.video_rows_V[video]) for _, video in batch]
                    texts = [pairs.captions[text].text for text, _ in batch]
                    found = self.model.answers(visual, texts, params.prompt, yes=params.yes, no=params.no)
                    scores_M[first : first + len(batch)] = found.cpu().numpy()
                    for place in torch.argwhere(~torch.isfinite(found))[:1, 0].tolist():
                        text, video = batch[place]
                        raise InputError(
                            f"video {pairs.video_ids[video]!r}: its answer to {pairs.captions[text].text!r} is "
                            f"{found[place].item()}, which can't be ranked; the model was loaded in a dtype that "
                            "overflows, or never says these tokens of yes and no"
                        )
                    progress.advance(len(batch))
            return scores_M

        t2v_TV, v2t_TV = rescore_best(
            texts_TD @ videos_VD.T,
            score_pairs,
            top_k=params.top_k,
            texts_T=[caption.text for caption in pairs.captions],
            videos_V=[
                blake2b(self.states.visual(row, ())["tokens"].tobytes()).digest() for row in queries.video_rows_V
            ],
        )
        return [Ranked(rank_scores(pairs, t2v_TV, v2t_TV, ties))]


def open_scorer(params: RerankParams, queries: Queries, inputs: ScorerInputs) -> Reranked:
    """The scorer of embeddings by a video LLM that keeps its visual tokens.

    Raises:
        InputError: the embeddings are of no video LLM, it keeps other tokens or none, or has not made them.
    """
    embedded = queries.embedded
    states = StoredStates(embedded.folder)
    kept = embedded.model["video_llm"]["keep_tokens_of"]
    if kept != TOKENS:
        raise InputError(
            f"{embedded.folder}: holds tokens of {kept!r}, and the model answers from those of {TOKENS}; set "
            f"keep_tokens_of: {TOKENS}, and embed again"
        )
    if embedded.model["model"] != folder_digest(inputs.model):
        raise InputError(f"{embedded.folder}: made by another model than {inputs.model}; run the embed stage again")
    model = load_embeds(inputs.model, inputs.device)
    assert isinstance(model, VideoLLM)
    return Reranked(states=states, model=model, params=params)
