"""Retrieval by the cosines of texts with videos whose clips an aggregator fuses.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5.

Shapes: V videos, D embedding dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from stillmotion.config.scorers import AggregatorParams, ScorerParams
from stillmotion.config.section import Count
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.checked import MEND, STRICT, read_checked
from stillmotion.io.weights import load_into
from stillmotion.metrics.embedding_ranks import rank_embeddings
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.aggregators import aggregate, build_aggregator
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs


class _Trained(BaseModel):
    """What aggregator.json says, beside the params of the scorer."""

    model_config = STRICT

    model: str
    dim: Count
    clip_counts: Annotated[list[Count], Field(min_length=1)]
    seeds: list[int]
    selected_on: str


@dataclass(frozen=True)
class Aggregated:
    """Cosines with aggregated clips."""

    params: AggregatorParams
    folder: Path
    dim: int
    clip_counts: Sequence[int]
    seeds: Sequence[int]
    selected_on: str
    inference_tricks: str = "none"
    described: Mapping[str, Any] = field(default_factory=dict)

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by each seed's aggregator."""
        pairs = queries.pairs(num_clips)
        return [
            Ranked(rank_embeddings(pairs.texts_ND, videos_VD, pairs.relevance, ties=ties))
            for videos_VD in self.videos(pairs.clips_VCD)
        ]

    def videos(self, clips_VCD: np.ndarray) -> list[np.ndarray]:
        """Unit vectors (V, D) of videos by each seed's aggregator, or by the one that has none."""
        num_clips, runs = clips_VCD.shape[1], []
        for seed in self.seeds or [0]:
            module = build_aggregator(self.params, dim=self.dim, num_clips=num_clips, seed=seed)
            if self.seeds:
                load_into(module, self.folder / f"clips-{num_clips}" / f"seed-{seed}.safetensors")
            runs.append(aggregate(module, clips_VCD))
        return runs


def read_trained(embedded: Embeddings, folder: Path) -> dict[str, Any]:
    """What aggregator.json says; InputError where it was trained on the embeddings of another model."""
    trained: dict[str, Any] = read_checked(folder / "aggregator.json", _Trained)
    embedded.require_model(trained["model"], folder)
    return trained


def open_aggregators(params: AggregatorParams, embedded: Embeddings, folder: Path) -> Aggregated:
    """The aggregators that stage train_aggregator has trained on these embeddings.

    Raises:
        InputError: it has trained them on others.
    """
    trained = read_trained(embedded, folder)
    return Aggregated(params, folder, trained["dim"], trained["clip_counts"], trained["seeds"], trained["selected_on"])


def open_scorer(params: AggregatorParams, queries: Queries, inputs: ScorerInputs) -> Aggregated:
    """The aggregators as a scorer; raises InputError as `open_aggregators`."""
    return open_aggregators(params, queries.embedded, inputs.trained)


def read_aggregators(folder: Path) -> tuple[Aggregated, str]:
    """The aggregators of a folder of stage train_aggregator, and the digest of the model whose embeddings they take.

    Raises:
        InputError: it is not such a folder.
    """
    trained = read_checked(folder / "aggregator.json", _Trained)
    settings = {name: value for name, value in trained.items() if name not in _Trained.model_fields}
    try:
        params = TypeAdapter[ScorerParams](ScorerParams).validate_python(settings)
    except ValidationError:
        params = None
    if not isinstance(params, AggregatorParams):
        raise InputError(f"{folder / 'aggregator.json'}: no kind of aggregator that is known; {MEND}")
    shape = (trained["dim"], trained["clip_counts"], trained["seeds"], trained["selected_on"])
    return Aggregated(params, folder, *shape), trained["model"]
