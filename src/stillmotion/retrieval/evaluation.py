"""Ranks and metrics of retrieval where every text is scored with every video, each direction by scores of its own.

Shapes: T texts, V videos.
"""

from typing import Any

import numpy as np

from stillmotion.config.evaluation import EvaluateConditionalParams, EvaluateRetrievalParams
from stillmotion.metrics.negatives import hardest_negatives
from stillmotion.metrics.retrieval import rank_both_directions
from stillmotion.metrics.seeds import summarise_system
from stillmotion.retrieval.pairs import RetrievalPairs, rank_rows


def evaluate_scores(
    pairs: RetrievalPairs,
    t2v_TV: np.ndarray,
    v2t_TV: np.ndarray,
    params: EvaluateRetrievalParams | EvaluateConditionalParams,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a system finds that sees a video as one clip.

    Args:
        pairs: the texts and the videos, at least one of each.
        t2v_TV: what the videos of a text are ranked by.
        v2t_TV: what the texts of a video are ranked by.
        params: tie rule and bootstrap.

    Returns:
        The metrics file without its protocol, and the rows of ranks.jsonl.
    """
    directions = rank_both_directions(v2t_TV, pairs.relevance, ties=params.ties)
    directions["t2v"] = rank_both_directions(t2v_TV, pairs.relevance, ties=params.ties)["t2v"]
    result = summarise_system(
        [directions], num_missing=len(pairs.missing), seed=params.seed, num_resamples=params.bootstrap_samples
    )
    rows = rank_rows(pairs, {"1": [directions["t2v"]]}, hardest_negatives(t2v_TV, pairs.relevance))
    return result | {"by_num_clips": {"1": result}}, rows
