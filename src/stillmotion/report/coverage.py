"""Caption coverage of the test queries, by the embeddings of one model.

Source: Liu et al. 2023 (papers/mug-stan.txt), figure 1 (b) and table IX; the rule is in metrics/caption_coverage.py.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from stillmotion.claims.evidence import Coverage
from stillmotion.claims.systems import Rows
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption
from stillmotion.metrics.caption_coverage import coverage_groups, covered_shares

_log = logging.getLogger("stillmotion")


def query_coverage(
    embedded: Embeddings, captions: Sequence[Caption], ranks: Mapping[str, Rows], model: str
) -> Coverage:
    """The coverage of the test queries; none, which is said, where the embeddings have no frames by themselves.

    Args:
        embedded: of the dataset.
        captions: in the order of captions.jsonl.
        ranks: the rows of ranks.jsonl by system; all answer the same queries.
        model: what the embeddings are of.
    """
    queries = next(filter(None, ranks.values()), ())
    if not queries or not embedded.has_frames:
        if queries:
            told = "no caption coverage: %s has no single frames; put an image model first in run.embedded"
            _log.warning(told, model)
        return Coverage(model, np.array([], dtype=str))
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    rows = [row_of[query["caption_id"]] for query in queries]
    video_ids = sorted({captions[row].video_id for row in rows})
    videos = [embedded.videos[embedded.row_of[video_id]] for video_id in video_ids]
    number_of = {video_id: place for place, video_id in enumerate(video_ids)}
    shares_Q = covered_shares(
        embedded.captions[rows],
        np.array([number_of[captions[row].video_id] for row in rows]),
        lambda video: embedded.video_frames(videos[video])[videos[video].uniform],
        len(videos),
    )
    return Coverage(model, np.array(coverage_groups(shares_Q)))
