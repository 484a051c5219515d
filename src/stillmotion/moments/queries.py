"""The moment queries of one split with their curves and their truth."""

# Q queries, T frames (padded).

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.metrics.submission import Windows
from stillmotion.moments.curves import Curves, Mask, curves_from_embeddings
from stillmotion.moments.truth import GroundTruth, ground_truth


@dataclass(frozen=True, slots=True)
class EmbeddedQueries:
    """The queries of a split whose videos have embeddings, in the order of their qids."""

    queries: list[Moment]
    curves: Curves
    windows: Windows
    """The true windows."""
    true_QT: Mask
    """The frames of the true windows."""

    @property
    def truth(self) -> GroundTruth:
        """The same without the curves."""
        curves = self.curves
        return GroundTruth(
            self.queries, self.windows, self.true_QT, curves.num_frames_Q, curves.durations_Q, curves.clip_length_s
        )


def embedded_queries(
    embedded: Embeddings, moments: Sequence[Moment], split: str, clip_length_s: float
) -> EmbeddedQueries | None:
    """Queries of a split whose videos have embeddings, or None where there is none.

    Args:
        embedded: embeddings whose queries stand in the order of `moments`.
        moments: all queries of the dataset.
        split: train, validation or test.
        clip_length_s: seconds that a frame stands for.

    Raises:
        InputError: the embeddings are of other queries.
    """
    if moments and len(embedded.queries) != len(moments):
        raise InputError(
            f"{embedded.folder / 'queries.npy'}: {len(embedded.queries)} queries, but moments.jsonl has "
            f"{len(moments)}; run the embed stage again"
        )
    videos = {video.video_id: video for video in embedded.videos if video.split == split}
    rows = [row for row, moment in enumerate(moments) if moment.vid in videos]
    if not rows:
        return None
    queries = [moments[row] for row in rows]
    asked = sorted({query.vid for query in queries})
    place = {video_id: index for index, video_id in enumerate(asked)}
    curves = curves_from_embeddings(
        [embedded.video_frames(videos[video_id])[videos[video_id].clips] for video_id in asked],
        np.asarray(embedded.queries[rows]),
        video_of_query=[place[query.vid] for query in queries],
        durations=[videos[video_id].duration for video_id in asked],
        clip_length_s=clip_length_s,
    )
    truth = ground_truth(
        queries,
        num_frames={video_id: len(videos[video_id].clips) for video_id in asked},
        durations={video_id: videos[video_id].duration for video_id in asked},
        clip_length_s=clip_length_s,
    )
    return EmbeddedQueries(queries, curves, truth.windows, truth.true_QT)
