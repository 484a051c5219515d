"""Text-video retrieval: ranks, R@K, MedR, MeanR, MRR, mAP in both directions.

Ranks are counted, never read off a sort: rank = 1 + irrelevant items scored higher + a share of the
irrelevant items that are tied. A tie between two relevant items costs nothing. METHODS.md section 1.
"""

# Q queries, G gallery items, P relevant pairs; T texts, V videos.

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.bootstrap import NUM_RESAMPLES, Statistic, bootstrap_intervals

TieRule = Literal["average", "optimistic", "pessimistic"]
TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)
_TIE_SHARE: dict[TieRule, float] = {"average": 0.5, "optimistic": 0.0, "pessimistic": 1.0}

RECALL_AT = (1, 5, 10)
METRICS = ("R@1", "R@5", "R@10", "MedR", "MeanR", "MRR", "mAP")

CHUNK_SCORES = 2_000_000
"""Scores worked on at once, which bounds the memory beside the matrix itself."""

Scores = NDArray[Any]
"""A real-valued matrix of any numeric dtype; higher is more similar."""
Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """What every retrieval metric is a mean or a median of."""

    ranks_Q: NDArray[np.float64]
    """Rank of the best relevant item, from 1; a half with ties under the `average` rule."""
    average_precisions_Q: NDArray[np.float64]
    """From 0 to 1."""


def check_scores(scores: Scores) -> Scores:
    """Return the matrix if it is two-dimensional, real and finite.

    Raises:
        InputError: it is not; names the first row and column (from 0) with NaN or an infinity.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise InputError(f"scores have shape {scores.shape}; give a matrix of texts × videos")
    if scores.dtype.kind not in "fiu":
        raise InputError(f"scores have dtype {scores.dtype}; give real numbers, such as float32")
    if scores.dtype == np.float16:
        scores = scores.astype(np.float32)  # exact, and compares much faster
    with np.errstate(over="ignore", invalid="ignore"):
        sums = scores.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        bad = np.argwhere(~np.isfinite(scores))
        if len(bad):  # a sum may overflow although every score is finite
            row, column = bad[0]
            raise InputError(
                f"row {row}, column {column} (from 0) is {scores[row, column]}; every score must be finite"
            )
    return scores


def relevance_pairs(relevance: NDArray[Any], shape: tuple[int, int]) -> Pairs:
    """Relevance as index pairs (P, 2), sorted by query then item.

    Args:
        relevance: a boolean matrix of the scores' shape, or integer index pairs (P, 2). The dtype decides.
        shape: of the scores.

    Raises:
        InputError: neither of the two, or a pair out of range or given twice.
    """
    relevance = np.asarray(relevance)
    if relevance.dtype == np.bool_:
        if relevance.shape != shape:
            raise InputError(f"relevance has shape {relevance.shape}, the scores {shape}; make them equal")
        return np.argwhere(relevance)
    if relevance.ndim != 2 or relevance.shape[1] != 2 or relevance.dtype.kind not in "iu":
        raise InputError(
            f"relevance has dtype {relevance.dtype} and shape {relevance.shape}; give a boolean matrix or "
            "integer pairs (P, 2)"
        )
    pairs = relevance.astype(np.int64)
    outside = np.flatnonzero(((pairs < 0) | (pairs >= np.asarray(shape))).any(axis=1))
    if len(outside):
        raise InputError(f"relevant pair {outside[0]} is {pairs[outside[0]].tolist()}, outside {shape} scores")
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    twice = np.flatnonzero((pairs[1:] == pairs[:-1]).all(axis=1))
    if len(twice):
        raise InputError(f"relevant pair {pairs[twice[0]].tolist()} is given twice; give it once")
    return pairs


def _irrelevant_above(
    scores_QG: Scores, pairs_P2: Pairs, starts_Q: NDArray[np.int64], counts_Q: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each relevant pair, the irrelevant items scored higher and those tied."""
    num_queries, num_items = scores_QG.shape
    higher_P = np.empty(len(pairs_P2), dtype=np.int64)
    tied_P = np.empty(len(pairs_P2), dtype=np.int64)
    rows = max(1, CHUNK_SCORES // num_items)
    for start in range(0, num_queries, rows):
        block = np.ascontiguousarray(scores_QG[start : start + rows])
        counts = counts_Q[start : start + rows]
        single = np.flatnonzero(counts == 1)
        if len(single):
            pair = starts_Q[start + single]
            part = block if len(single) == len(block) else block[single]
            targets = part[np.arange(len(single)), pairs_P2[pair, 1]]
            higher_P[pair] = np.count_nonzero(part > targets[:, None], axis=1)
            tied_P[pair] = np.count_nonzero(part == targets[:, None], axis=1) - 1
        for row in np.flatnonzero(counts > 1):  # several relevant items: one sort serves them all
            own = slice(starts_Q[start + row], starts_Q[start + row] + counts[row])
            items = pairs_P2[own, 1]
            targets = block[row, items]
            irrelevant = np.sort(np.delete(block[row], items))
            not_higher = np.searchsorted(irrelevant, targets, side="right")
            higher_P[own] = len(irrelevant) - not_higher
            tied_P[own] = not_higher - np.searchsorted(irrelevant, targets, side="left")
    return higher_P, tied_P


def rank_queries(scores_QG: Scores, relevance: NDArray[Any], *, ties: TieRule = "average") -> QueryRanks:
    """Rank of the best relevant item and average precision of each query (row).

    rank = 1 + higher + share × tied, where `higher` and `tied` count irrelevant items scored above and equal
    to the best relevant one, and the share is 1/2 (`average`), 0 (`optimistic`) or 1 (`pessimistic`).

    Average precision is the mean over relevant items, best first, of j / (j + higher_j + share × tied_j) for
    the j-th of them: precision at its rank. Without ties it is scikit-learn's `average_precision_score`; with
    one relevant item it is 1 / rank, so that mAP equals MRR.

    Example: scores [[.9, .5, .5, .1]] with item 1 relevant: one higher, one tied, rank 1 + 1 + 1/2 = 2.5;
    with items 1 and 2 relevant: rank 2, average precision (1/2 + 2/3) / 2.

    Args:
        scores_QG: higher is more similar.
        relevance: a boolean (Q, G) matrix or integer pairs (P, 2) of query and item.
        ties: the rule.

    Raises:
        InputError: a score is not finite, or a query has no relevant item.
    """
    if ties not in TIE_RULES:
        raise InputError(f"ties is {ties!r}; give one of {', '.join(TIE_RULES)}")
    scores_QG = check_scores(scores_QG)
    pairs_P2 = relevance_pairs(relevance, scores_QG.shape)
    counts_Q = np.bincount(pairs_P2[:, 0], minlength=scores_QG.shape[0])
    if not counts_Q.all():
        raise InputError(f"query {np.argmin(counts_Q)} (from 0) has no relevant item; give it one")
    starts_Q = np.cumsum(counts_Q) - counts_Q
    higher_P, tied_P = _irrelevant_above(scores_QG, pairs_P2, starts_Q, counts_Q)
    irrelevant_P = higher_P + _TIE_SHARE[ties] * tied_P
    # no item counts less against a worse relevant one, so this orders a query's relevant items best first
    order = np.lexsort((irrelevant_P, pairs_P2[:, 0]))
    position_P = np.arange(len(pairs_P2)) - np.repeat(starts_Q, counts_Q) + 1
    ranks_P = position_P + irrelevant_P[order]
    average_precisions_Q = np.add.reduceat(position_P / ranks_P, starts_Q) / counts_Q
    return QueryRanks(ranks_P[starts_Q], average_precisions_Q)


def query_statistics(queries: QueryRanks) -> tuple[NDArray[np.float64], list[Statistic]]:
    """Per-query values (7, Q) in the order of METRICS, and how each is summarised."""
    ranks_Q = queries.ranks_Q
    hits = [100.0 * (ranks_Q <= k) for k in RECALL_AT]
    values = [*hits, ranks_Q, ranks_Q, 100.0 * (1.0 / ranks_Q), 100.0 * queries.average_precisions_Q]
    return np.stack(values), ["mean", "mean", "mean", "median", "mean", "mean", "mean"]


def summarise(queries: QueryRanks) -> dict[str, float]:
    """R@1, R@5, R@10, MRR, mAP in percent; MedR and MeanR as ranks."""
    values_MQ, statistics = query_statistics(queries)
    means_M, medians_M = values_MQ.mean(axis=1), np.median(values_MQ, axis=1)
    is_mean_M = np.array(statistics) == "mean"
    return dict(zip(METRICS, np.where(is_mean_M, means_M, medians_M).tolist(), strict=True))


def summarise_with_intervals(
    queries: QueryRanks, *, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> dict[str, Any]:
    """As `summarise`, with `ci95`: [low, high] of each metric by the percentile bootstrap over queries."""
    values_MQ, statistics = query_statistics(queries)
    intervals_M2 = bootstrap_intervals(values_MQ, statistics, rng=rng, num_resamples=num_resamples)
    return {**summarise(queries), "ci95": dict(zip(METRICS, intervals_M2.tolist(), strict=True))}


def pessimistic_recall(ranks_Q: NDArray[np.float64], num_missing: int) -> dict[str, float]:
    """R@1, R@5, R@10 in percent where `num_missing` queries that could not be asked count as misses.

    Example: ranks [1, 2] and 2 missing queries: R@1 is 25, R@5 is 50.
    """
    total = len(ranks_Q) + num_missing
    if num_missing < 0 or total == 0:
        raise InputError(f"{len(ranks_Q)} queries and {num_missing} missing ones; there must be a query")
    return {f"R@{k}": float(100.0 * np.count_nonzero(ranks_Q <= k) / total) for k in RECALL_AT}


def _captions_of_videos(pairs_TV: Pairs, num_texts: int) -> bool:
    """Whether every text belongs to one video, and some video has several."""
    one_video_each = len(pairs_TV) == num_texts
    return one_video_each and bool((np.bincount(pairs_TV[:, 1]) > 1).any())


def caption_max_scores(scores_TV: Scores, pairs_TV: Pairs) -> tuple[Scores, Pairs]:
    """Video-to-text as videos against videos: entry (v, w) is the best score of video v with a caption of w.

    Args:
        scores_TV: texts × videos.
        pairs_TV: (P, 2) text and video; a video without captions is neither a query nor in the gallery.

    Returns:
        The square matrix over videos that have captions, in the order of the videos, and its diagonal pairs.
    """
    order = np.argsort(pairs_TV[:, 1], kind="stable")
    videos_W, starts_W = np.unique(pairs_TV[order, 1], return_index=True)
    best_WV = np.maximum.reduceat(scores_TV[pairs_TV[order, 0]], starts_W, axis=0)
    diagonal = np.arange(len(videos_W))
    return best_WV[:, videos_W].T, np.stack([diagonal, diagonal], axis=1)


def video_to_text_ranks(
    scores_TV: Scores,
    relevance: NDArray[Any],
    *,
    convention: Literal["any_caption", "caption_max"] = "any_caption",
    ties: TieRule = "average",
) -> QueryRanks:
    """Ranks of videos that have a caption, in the order of the videos.

    `any_caption` ranks all captions and takes the best rank of a correct one; `caption_max` ranks videos by
    the maximum over their captions. With one caption a video they are the same.
    """
    scores_TV = check_scores(scores_TV)
    pairs_TV = relevance_pairs(relevance, scores_TV.shape)
    if convention == "caption_max":
        best_VV, diagonal = caption_max_scores(scores_TV, pairs_TV)
        return rank_queries(best_VV, diagonal, ties=ties)
    videos, query_P = np.unique(pairs_TV[:, 1], return_inverse=True)
    scores_VT = scores_TV.T if len(videos) == scores_TV.shape[1] else scores_TV.T[videos]
    return rank_queries(scores_VT, np.stack([query_P, pairs_TV[:, 0]], axis=1), ties=ties)


def rank_both_directions(
    scores_TV: Scores, relevance: NDArray[Any], *, ties: TieRule = "average"
) -> dict[str, QueryRanks]:
    """Ranks by the names that metrics files use.

    `t2v` has one query a text. `v2t` has one query a video that has a text, under the `any_caption`
    convention; where some video has several captions, `v2t_caption_max` is added and `v2t` stands there a
    second time as `v2t_any_caption`.

    Args:
        scores_TV: texts × videos, higher is more similar.
        relevance: a boolean matrix or integer pairs (P, 2) of text and video.
        ties: see `rank_queries`.

    Raises:
        InputError: a score is not finite, or a text has no relevant video.
    """
    scores_TV = check_scores(scores_TV)
    pairs_TV = relevance_pairs(relevance, scores_TV.shape)
    directions = {"t2v": rank_queries(scores_TV, pairs_TV, ties=ties)}
    directions["v2t"] = video_to_text_ranks(scores_TV, pairs_TV, ties=ties)
    if _captions_of_videos(pairs_TV, len(scores_TV)):
        directions["v2t_caption_max"] = video_to_text_ranks(scores_TV, pairs_TV, convention="caption_max", ties=ties)
        directions["v2t_any_caption"] = directions["v2t"]
    return directions


def score_retrieval(
    scores_TV: Scores,
    relevance: NDArray[Any],
    *,
    rng: np.random.Generator,
    ties: TieRule = "average",
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Any]:
    """Score a similarity matrix in both directions, with 95 % bootstrap intervals.

    Args:
        scores_TV: see `rank_both_directions`, with the directions and errors.
        relevance: likewise.
        rng: draws the resamples.
        ties: see `rank_queries`.
        num_resamples: of the bootstrap.

    Returns:
        `t2v`, `v2t`, … each with METRICS and `ci95`.
    """
    return {
        name: summarise_with_intervals(ranks, rng=rng, num_resamples=num_resamples)
        for name, ranks in rank_both_directions(scores_TV, relevance, ties=ties).items()
    }
