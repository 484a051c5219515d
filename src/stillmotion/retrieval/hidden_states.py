"""Retrieval by the cosines of a video LLM's hidden states: of one layer, or of the best one on validation.

Source: Baba Ahmadi 2023 (papers/video-llama-retrieval.txt), section 3.1: 4 × 4 poolings of videos and texts.

Shapes: T texts, V videos, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillmotion.config.scorers import BestLayerParams, HiddenStatesParams
from stillmotion.embedding.states import StoredStates
from stillmotion.errors import InputError
from stillmotion.metrics.embedding_ranks import rank_embeddings
from stillmotion.metrics.retrieval import TieRule
from stillmotion.metrics.retrieval_summary import summarise
from stillmotion.retrieval.pairs import PairRows, split_rows
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, Untrained


def unit_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """The vectors at unit length; one of zeros stays as it is."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.where(lengths_N1 > 0, lengths_N1, 1)


@dataclass(frozen=True)
class PooledPairs:
    """The hidden states of pairs, by the rows that they are in the store."""

    states: StoredStates
    rows: PairRows

    def texts(self, layer: str, pooling: str) -> np.ndarray:
        """Unit vectors (T, D)."""
        return unit_rows(self.states.captions(layer, pooling)[self.rows.texts_T])

    def videos(self, layer: str, pooling: str) -> np.ndarray:
        """Unit vectors (V, D)."""
        return unit_rows(self.states.videos(layer, pooling)[self.rows.videos_V])

    def sweep(self, layers: Sequence[str], ties: TieRule) -> list[dict[str, Any]]:
        """T2V MRR and R@1 of each layer by each pooling of videos and of texts, one row each."""
        rows = []
        for layer in layers:
            texts_of = {pooling: self.texts(layer, pooling) for pooling in self.states.poolings}
            for video_pooling in self.states.poolings:
                videos_VD = self.videos(layer, video_pooling)
                for text_pooling, texts_TD in texts_of.items():
                    ranks = rank_embeddings(texts_TD, videos_VD, self.rows.pairs.relevance, ties=ties).directions["t2v"]
                    found = summarise(ranks)
                    where = {"layer": layer, "video_pooling": video_pooling, "text_pooling": text_pooling}
                    rows.append(where | {"MRR": found["MRR"], "R@1": found["R@1"]})
        return rows


@dataclass(frozen=True, kw_only=True)
class HiddenStates(Untrained):
    """Cosines of one layer's states."""

    states: StoredStates
    layer: str
    video_pooling: str
    text_pooling: str
    inference_tricks: str = "none"
    described: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sequence[Mapping[str, Any]] = ()
    """What the layer and the poolings were chosen by; empty where they were given."""

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by the cosines; a given layer is measured by all poolings, a chosen one by those chosen alone."""
        own = PooledPairs(self.states, queries.rows)
        texts_TD, videos_VD = own.texts(self.layer, self.text_pooling), own.videos(self.layer, self.video_pooling)
        ranks = rank_embeddings(texts_TD, videos_VD, queries.any_clips.relevance, ties=ties)
        measured = {"sweep": self.sweep} if self.sweep else {"poolings": own.sweep([self.layer], ties)}
        return [Ranked(ranks, measured)]


def open_scorer(params: HiddenStatesParams | BestLayerParams, queries: Queries, inputs: ScorerInputs) -> HiddenStates:
    """The scorer of a given layer, or of the one with the highest MRR on the validation split, the first of equals.

    Raises:
        InputError: the embeddings are of no video LLM, it does not keep the layer, or there is nothing to choose by.
    """
    states = StoredStates(queries.embedded.folder)
    chosen: Mapping[str, Any]
    if isinstance(params, HiddenStatesParams):
        chosen, sweep = params.model_dump(exclude={"kind"}), []
    else:
        embedded = queries.embedded
        rows = split_rows(embedded, queries.captions, "validation")
        if len(queries.any_clips) and not len(rows.pairs):
            raise InputError(
                f"{embedded.folder}: no validation captions to choose a layer by; score it by hidden_states"
            )
        sweep = PooledPairs(states, rows).sweep(states.layers, "average") if len(rows.pairs) else []
        none = {"layer": states.layers[0], "video_pooling": states.poolings[0], "text_pooling": states.poolings[0]}
        chosen = max(sweep, key=lambda row: row["MRR"], default=none)
    names = ("layer", "video_pooling", "text_pooling")
    described = {"hidden_states": {name: chosen[name] for name in names}}
    return HiddenStates(
        states=states,
        **described["hidden_states"],
        described=described,
        sweep=sweep,
        selected_on="validation" if sweep else "nothing: the layer is given",
    )
