"""Text-video retrieval: the ranks of the relevant items and average precision, in both directions.

Ranks are counted, never read off a sort: rank = 1 + irrelevant items scored higher + a share of the
irrelevant items that are tied. A tie between two relevant items costs nothing. METHODS.md section 1.
"""

# Q queries, G gallery items, P relevant pairs; T texts, V videos, W videos that have a text; B rows of a block.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError

TieRule = Literal["average", "optimistic", "pessimistic"]
TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)
_TIE_SHARE: dict[TieRule, float] = {"average": 0.5, "optimistic": 0.0, "pessimistic": 1.0}

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

    def hits(self, k: int) -> NDArray[Any]:
        """Whether (Q,) the rank is at most `k`."""
        return self.ranks_Q <= k

    def reciprocals(self) -> NDArray[np.float64]:
        """1 / rank (Q,)."""
        return 1.0 / self.ranks_Q


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
        sums = scores.sum(axis=1)
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


def num_relevant(pairs_P2: Pairs, num_queries: int) -> NDArray[np.int64]:
    """How many relevant items each query has, at least one.

    Raises:
        InputError: a query has none; names the first.
    """
    counts_Q = np.bincount(pairs_P2[:, 0], minlength=num_queries)
    if not counts_Q.all():
        raise InputError(f"query {np.argmin(counts_Q)} (from 0) has no relevant item; give it one")
    return counts_Q


def irrelevant_above(
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
    to the best relevant one, and the share is 1/2 (`average`), 0 (`optimistic`) or 1 (`pessimistic`). With several
    relevant items tied, `average` is not the expectation over random orders of equal items: of four equal items two are
    relevant, rank 2, where 5/3 is expected, and 13/18 of its reciprocal. `expected_ranks.expect_ranks` gives those.

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
    counts_Q = num_relevant(pairs_P2, scores_QG.shape[0])
    starts_Q = np.cumsum(counts_Q) - counts_Q
    higher_P, tied_P = irrelevant_above(scores_QG, pairs_P2, starts_Q, counts_Q)
    irrelevant_P = higher_P + _TIE_SHARE[ties] * tied_P
    # no item counts less against a worse relevant one, so this orders a query's relevant items best first
    order = np.lexsort((irrelevant_P, pairs_P2[:, 0]))
    position_P = np.arange(len(pairs_P2)) - np.repeat(starts_Q, counts_Q) + 1
    ranks_P = position_P + irrelevant_P[order]
    average_precisions_Q = np.add.reduceat(position_P / ranks_P, starts_Q) / counts_Q
    return QueryRanks(ranks_P[starts_Q], average_precisions_Q)


@dataclass(frozen=True, slots=True)
class VideoQueries:
    """The videos that have a text, in the order of the videos, as queries whose gallery is the texts."""

    videos_W: NDArray[np.int64]
    pairs_PT: Pairs
    """(P, 2) row of videos_W and text, sorted."""
    by_caption_max: bool
    """Whether the two conventions differ: every text belongs to one video, and some video has several."""


def video_queries(pairs_TV: Pairs, num_texts: int) -> VideoQueries:
    """The queries of video-to-text retrieval of sorted pairs (P, 2) of text and video."""
    videos_W, query_P, counts_W = np.unique(pairs_TV[:, 1], return_inverse=True, return_counts=True)
    order = np.argsort(query_P, kind="stable")
    one_video_each = len(pairs_TV) == num_texts
    return VideoQueries(
        videos_W,
        np.stack([query_P, pairs_TV[:, 0]], axis=1)[order],
        by_caption_max=one_video_each and bool((counts_W > 1).any()),
    )


def pairs_of_rows(pairs_P2: Pairs, rows: slice) -> Pairs:
    """The sorted pairs whose first index lies in `rows`, counted from its start."""
    own = slice(*np.searchsorted(pairs_P2[:, 0], [rows.start, rows.stop]))
    return pairs_P2[own] - [rows.start, 0]


def video_directions(scores_BT: Scores, queries: VideoQueries, *, start: int) -> dict[str, tuple[Scores, Pairs]]:
    """Scores and sorted relevant pairs of the B video queries from `start` on, by convention.

    `v2t` (any_caption) ranks all captions and takes the best rank of a correct one; `v2t_caption_max`, present
    where it differs, ranks videos by the maximum over their captions.

    Args:
        scores_BT: of these queries with all texts.
        queries: all of them.
        start: the first of these.
    """
    own = slice(start, start + len(scores_BT))
    directions = {"v2t": (scores_BT, pairs_of_rows(queries.pairs_PT, own))}
    if queries.by_caption_max:
        firsts_W = np.searchsorted(queries.pairs_PT[:, 0], np.arange(len(queries.videos_W)))
        best_BW = np.maximum.reduceat(scores_BT[:, queries.pairs_PT[:, 1]], firsts_W, axis=1)
        itself = np.stack([np.arange(len(best_BW)), np.arange(own.start, own.stop)], axis=1)
        directions["v2t_caption_max"] = best_BW, itself
    return directions


def both_directions(scores_TV: Scores, relevance: NDArray[Any]) -> dict[str, tuple[Scores, Pairs]]:
    """Scores and pairs by the names of metrics files: `t2v`, `v2t` and, see `video_directions`, `v2t_caption_max`.

    `t2v` has one query a text, the others one query a video that has a text.

    Args:
        scores_TV: texts × videos, higher is more similar.
        relevance: a boolean matrix or integer pairs (P, 2) of text and video.

    Raises:
        InputError: a score is not finite.
    """
    scores_TV = check_scores(scores_TV)
    pairs_TV = relevance_pairs(relevance, scores_TV.shape)
    queries = video_queries(pairs_TV, len(scores_TV))
    scores_VT = scores_TV.T
    if len(queries.videos_W) < len(scores_VT):
        scores_VT = scores_VT[queries.videos_W]
    return {"t2v": (scores_TV, pairs_TV), **video_directions(scores_VT, queries, start=0)}


def rank_directions(directions: Mapping[str, tuple[Scores, Pairs]], *, ties: TieRule) -> dict[str, QueryRanks]:
    """The ranks of each direction; see `rank_queries`."""
    return {name: rank_queries(*of_direction, ties=ties) for name, of_direction in directions.items()}


def rank_both_directions(
    scores_TV: Scores, relevance: NDArray[Any], *, ties: TieRule = "average"
) -> dict[str, QueryRanks]:
    """Ranks by the names of `both_directions`.

    Args:
        scores_TV: texts × videos, higher is more similar.
        relevance: a boolean matrix or integer pairs (P, 2) of text and video.
        ties: see `rank_queries`.

    Raises:
        InputError: a score is not finite, or a text has no relevant video.
    """
    return rank_directions(both_directions(scores_TV, relevance), ties=ties)
