"""The one protocol of all scorers: texts and videos of embeddings in, ranks in both directions out.

A kind of scorer is a module of this package with a function `open_scorer`, and its params a class in config/scorers.py:
MODULES has both.

Shapes: T texts, V videos.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stillmotion.config.scorers import (
    BestLayerParams,
    ConditionalParams,
    HeadParams,
    HiddenStatesParams,
    InteractionParams,
    MeanParams,
    OwnParams,
    RerankParams,
    ScorerParams,
    TrainedParams,
)
from stillmotion.config.section import Section
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption
from stillmotion.metrics.embedding_ranks import EmbeddingRanks
from stillmotion.metrics.negatives import hardest_negatives
from stillmotion.metrics.retrieval import TieRule, rank_both_directions
from stillmotion.retrieval.pairs import PairRows, RetrievalPairs, pair_rows, retrieval_pairs
from stillmotion.stage import importing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Queries:
    """The captions of whole videos of the test split, and the gallery that they are scored with."""

    embedded: Embeddings
    captions: Sequence[Caption]
    """All of the dataset, in the order of captions.jsonl."""
    splits: dict[str, str]
    """Of every video, decoded or not."""

    def pairs(self, num_clips: int) -> RetrievalPairs:
        """The queries with videos of so many clips."""
        return retrieval_pairs(self.embedded, self.captions, "test", self.splits, num_clips=num_clips)

    @cached_property
    def any_clips(self) -> RetrievalPairs:
        """The queries for a scorer that looks at a video's frames, whatever its clips."""
        return self.pairs(self.embedded.clip_counts[0])

    @cached_property
    def rows(self) -> PairRows:
        """The queries and the gallery as rows of what is stored."""
        return pair_rows(self.embedded, self.captions, self.any_clips)

    @property
    def text_rows_T(self) -> list[int]:
        """The texts as rows of captions.jsonl."""
        return self.rows.texts_T

    @property
    def video_rows_V(self) -> list[int]:
        """The gallery as rows of index.jsonl."""
        return self.rows.videos_V


@dataclass(frozen=True)
class ScorerInputs:
    """Where a scorer finds what it needs beside the embeddings."""

    trained: Path
    """Folder of stage train_aggregator."""
    model: Path
    """Folder of the model that made the embeddings."""
    device: "torch.device"


class Scorer(Protocol):
    """What ranks the texts and videos of a dataset."""

    clip_counts: Sequence[int]
    """Numbers of clips that it is evaluated with, rising."""
    seeds: Sequence[int]
    """Of its trainings; empty where it has none."""
    selected_on: str
    inference_tricks: str
    described: Mapping[str, Any]
    """What else the protocol says of it."""

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> "list[Ranked]":
        """Rank both directions, once for each seed; there is at least one query."""


@dataclass(frozen=True)
class Ranked:
    """What a scorer finds with one seed."""

    ranks: EmbeddingRanks
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What else the metrics file says."""


@dataclass(frozen=True)
class Untrained:
    """The part of a scorer that has nothing to train and sees a video as one clip."""

    clip_counts: Sequence[int] = (1,)
    seeds: Sequence[int] = ()
    selected_on: str = "nothing: no aggregator is trained"


def rank_scores(pairs: RetrievalPairs, t2v_TV: np.ndarray, v2t_TV: np.ndarray, ties: TieRule) -> EmbeddingRanks:
    """Rank each direction by scores of its own.

    Args:
        pairs: the texts and the videos, at least one of each.
        t2v_TV: what the videos of a text are ranked by.
        v2t_TV: what the texts of a video are ranked by.
        ties: the rule.
    """
    shape = len(pairs), len(pairs.video_ids)
    assert t2v_TV.shape == v2t_TV.shape == shape, (
        f"a scorer made scores of {t2v_TV.shape} and {v2t_TV.shape}; make (texts, videos), which is {shape}"
    )
    directions = rank_both_directions(v2t_TV, pairs.relevance, ties=ties)
    directions["t2v"] = rank_both_directions(t2v_TV, pairs.relevance, ties=ties)["t2v"]
    return EmbeddingRanks(directions, hardest_negatives(t2v_TV, pairs.relevance))


MODULES: Mapping[type[Section], str] = {
    MeanParams: "stillmotion.retrieval.aggregated",
    TrainedParams: "stillmotion.retrieval.aggregated",
    InteractionParams: "stillmotion.retrieval.interactions",
    ConditionalParams: "stillmotion.retrieval.conditional",
    OwnParams: "stillmotion.retrieval.own",
    HiddenStatesParams: "stillmotion.retrieval.hidden_states",
    BestLayerParams: "stillmotion.retrieval.hidden_states",
    RerankParams: "stillmotion.retrieval.answers",
    HeadParams: "stillmotion.retrieval.heads",
}
"""What opens a scorer, by the class of its params or one that this is a subclass of. The params do not say it, as every
script reads them: whatever they name would be part of what each stage depends on."""


def module_of(kind: type[Section]) -> str:
    """What opens the scorers whose params are of this class."""
    found = next((MODULES[base] for base in kind.__mro__ if base in MODULES), "")
    assert found, f"{kind.__name__} is not in MODULES of retrieval/scoring.py; add it there, and its module"
    return found


def open_scorer(params: ScorerParams, queries: Queries, inputs: ScorerInputs) -> Scorer:
    """The scorer of a kind.

    Raises:
        InputError: the embeddings or the model are not what it needs.
    """
    with importing():
        module = importlib.import_module(module_of(type(params)))
    scorer: Scorer = module.open_scorer(params, queries, inputs)
    return scorer
