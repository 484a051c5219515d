"""Retrieval by the cosines of what trained alignment heads make of hidden states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillmotion.config.scorers import HeadParams
from stillmotion.errors import InputError
from stillmotion.io.weights import load_into
from stillmotion.metrics.embedding_ranks import rank_embeddings
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.aggregated import read_trained
from stillmotion.retrieval.alignment import HeadInputs, build_head, head_vectors, open_inputs
from stillmotion.retrieval.pairs import split_rows
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Cosines of what each seed's head makes of the states."""

    params: HeadParams
    folder: Path
    inputs: HeadInputs
    seeds: Sequence[int]
    selected_on: str
    clip_counts: Sequence[int] = (1,)
    inference_tricks: str = "none"
    described: Mapping[str, Any] = field(default_factory=dict)

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by each seed's head."""
        runs = []
        for seed in self.seeds:
            head = build_head(self.params, width=self.inputs.states.width, seed=seed)
            # A temperature that is not learned is not there.
            load_into(head, self.folder / f"seed-{seed}.safetensors", strict=False)
            vectors = head_vectors(head.to(self.inputs.device), self.inputs, queries.rows)
            runs.append(Ranked(rank_embeddings(*vectors, queries.any_clips.relevance, ties=ties)))
        return runs


def open_scorer(params: HeadParams, queries: Queries, inputs: ScorerInputs) -> Heads:
    """The heads that stage train_aggregator has trained on these embeddings.

    Raises:
        InputError: it has trained them on others, or trained none.
    """
    embedded = queries.embedded
    trained = read_trained(embedded, inputs.trained)
    if len(queries.any_clips) and not trained["seeds"]:
        raise InputError(f"{inputs.trained}: no head was trained, for want of captions; score by another scorer")
    read = open_inputs(params, embedded, split_rows(embedded, queries.captions, "train"), inputs.device)
    return Heads(
        params=params,
        folder=inputs.trained,
        inputs=read,
        seeds=trained["seeds"],
        selected_on=trained["selected_on"],
        described={"head": params.model_dump()},
    )
