"""A second look at the best of a ranking: only they are scored anew, and stay above the rest.

Shapes: T texts, V videos, Q queries, G gallery items, M pairs, K items that are scored again.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from stillmotion.retrieval.distinct import distinct


def best_items(scores_QG: np.ndarray, count: int) -> np.ndarray:
    """The `count` best items of each query, (Q, min(count, G)), best first; equal scores by index."""
    return np.argsort(-scores_QG, axis=1, kind="stable")[:, :count]


def rerank(scores_QG: np.ndarray, items_QK: np.ndarray, rescored_QK: np.ndarray) -> np.ndarray:
    """Put new scores of each query's best items in the place of the old ones, above those of all other items.

    The new ones may be of another kind, such as logarithms of probabilities: they are moved above the old ones.

    Example:
        Old cosines 0.9, 0.8, 0.1; the first two scored again as -9 and -8.5: 1.9, 2.4, 0.1.

    Returns:
        (Q, G) float64, to be ranked by only.
    """
    reranked_QG = scores_QG.astype(np.float64)
    moved_Q1 = 1 + reranked_QG.max(axis=1, keepdims=True) - rescored_QK.min(axis=1, keepdims=True)
    np.put_along_axis(reranked_QG, items_QK, rescored_QK + moved_Q1, axis=1)
    return reranked_QG


def rescore_best(
    scores_TV: np.ndarray,
    score_pairs: Callable[[np.ndarray], np.ndarray],
    *,
    top_k: int,
    texts_T: Sequence[Hashable],
    videos_V: Sequence[Hashable],
) -> tuple[np.ndarray, np.ndarray]:
    """Score the best videos of each text and the best texts of each video again, each pair once.

    Equal texts, and equal videos, have the scores of the first of them: a matrix product gives them others.

    Args:
        scores_TV: cosines.
        score_pairs: new scores (M,) of pairs (M, 2) of text and video.
        top_k: how many of each are scored again; the others keep their order below them.
        texts_T: equal for equal texts.
        videos_V: equal for equal videos.

    Returns:
        Two matrices (T, V) to rank by: the rows of the first for text to video, the columns of the second for
        video to text.
    """
    first_T, first_V = _firsts(texts_T), _firsts(videos_V)
    scores_TV = scores_TV[np.ix_(first_T, first_V)]
    num_videos = scores_TV.shape[1]
    videos_TK = best_items(scores_TV, top_k)
    texts_VK = best_items(scores_TV.T, top_k)
    from_texts = first_T[:, None] * num_videos + first_V[videos_TK]
    from_videos = first_T[texts_VK] * num_videos + first_V[:, None]
    cells = np.union1d(from_texts, from_videos)
    rescored = score_pairs(np.stack(np.divmod(cells, num_videos), axis=1)).astype(np.float64)
    t2v_TV = rerank(scores_TV, videos_TK, rescored[np.searchsorted(cells, from_texts)])
    v2t_VT = rerank(scores_TV.T, texts_VK, rescored[np.searchsorted(cells, from_videos)])
    return t2v_TV, v2t_VT.T


def _firsts(keys: Sequence[Hashable]) -> np.ndarray:
    """The place of the first that is equal to each."""
    kept, numbers = distinct(keys)
    return np.array(kept, dtype=np.int64)[numbers]
