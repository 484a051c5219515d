"""Retrieval with X-CLIP's texts that depend on the video, for the best candidates.

The cosines of texts and videos of one clip rank everything; the best of each text and of each video are scored again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from stillmotion.backbones.xclip_prompts import build_prompts, conditional_scores
from stillmotion.config.scorers import ConditionalParams
from stillmotion.io.weights import load_tensors
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.reranking import rescore_best
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, Untrained, rank_scores

TEXTS_A_PASS = 1024


@dataclass(frozen=True, kw_only=True)
class Conditional(Untrained):
    """Cosines, and conditional texts for the top k."""

    top_k: int
    device: torch.device
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inference_tricks(self) -> str:
        return f"conditional texts for the top {self.top_k}"

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by cosines, the best by what the texts become beside the video."""
        embedded, pairs = queries.embedded, queries.pairs(num_clips)
        lengths_T, videos_VD = embedded.caption_lengths[queries.text_rows_T], pairs.clips_VCD[:, 0]
        score_pairs = partial(
            conditional_scores,
            build_prompts(*load_tensors(embedded.prompts_file)).to(self.device),
            pairs.texts_ND * lengths_T[:, None],
            videos_VD,
            lambda video: embedded.contexts[embedded.row_of[pairs.video_ids[video]]],
            texts_a_pass=TEXTS_A_PASS,
        )
        t2v_TV, v2t_TV = rescore_best(
            pairs.texts_ND @ videos_VD.T,
            score_pairs,
            top_k=self.top_k,
            texts_T=[caption.text for caption in pairs.captions],
            videos_V=[video_D.tobytes() for video_D in videos_VD],
        )
        return [Ranked(rank_scores(pairs, t2v_TV, v2t_TV, ties))]


def open_scorer(params: ConditionalParams, queries: Queries, inputs: ScorerInputs) -> Conditional:
    """The scorer of embeddings that were made with embed.contexts."""
    return Conditional(top_k=params.top_k, device=inputs.device)
