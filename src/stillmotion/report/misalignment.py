"""Partial misalignment in the results page: the level of each test query, and R@1 by level.

Source: Liu et al. 2023 (papers/mug-stan.txt), figure 1 (b) and table IX; the rule is in metrics/alignment_levels.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption
from stillmotion.metrics.alignment_levels import LEVELS, aligned_shares, alignment_levels
from stillmotion.metrics.bootstrap import bootstrap_intervals
from stillmotion.report.evidence import Evidence, Levels, Rows, hits_over_seeds, over_seeds
from stillmotion.report.tables import markdown_table, number, with_interval


def query_levels(embedded: Embeddings, captions: Sequence[Caption], ranks: Mapping[str, Rows], model: str) -> Levels:
    """The levels of the test queries by the embeddings of one model; none where it has no frames by themselves.

    Args:
        embedded: of the dataset.
        captions: in the order of captions.jsonl.
        ranks: the rows of ranks.jsonl by system; all answer the same queries.
        model: what the embeddings are of.
    """
    asked = next(filter(None, ranks.values()), ())
    if not asked or not embedded.has_frames:
        return Levels(model, np.array([], dtype=str))
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    rows = [row_of[query["caption_id"]] for query in asked]
    video_ids = sorted({captions[row].video_id for row in rows})
    videos = [embedded.videos[embedded.row_of[video_id]] for video_id in video_ids]
    number_of = {video_id: place for place, video_id in enumerate(video_ids)}
    shares_Q = aligned_shares(
        embedded.captions[rows],
        np.array([number_of[captions[row].video_id] for row in rows]),
        lambda video: embedded.video_frames(videos[video])[videos[video].uniform],
        len(videos),
    )
    return Levels(model, np.array(alignment_levels(shares_Q)))


def misalignment_section(evidence: Evidence) -> list[str]:
    """The paragraphs in Markdown; none where there are no levels and no frames to compare."""
    table = levels_table(evidence)
    if not table:
        return _frames_paragraphs(evidence)
    return [
        "### Partial misalignment",
        f"How much of a video its caption speaks of, by the cosines of {evidence.levels.model}: `up` where more than "
        "two thirds of the uniform frames fit the caption, `bottom` where less than one third do. A frame fits where "
        "its cosine is above the middle between two means: of frames with their own captions, and with those of other "
        "videos (figure 1 of Mug-STAN, which does not say how its cosines were centred). What fits less is found less "
        "by any cosine: compare the systems within a level. T2V R@1, each with the most clips; the seeds of a recipe "
        "are averaged, and an interval takes them as given:",
        table,
        *_frames_paragraphs(evidence),
    ]


def _frames_paragraphs(evidence: Evidence) -> list[str]:
    """How alike the frames of a video are to the models whose frames were compared one by one, if there are any."""
    cosine_of: dict[str, float | None] = {}
    for model in evidence.run.aligned:
        found = [evidence.metrics["retrieval"].get(f"{model}-{name}", {}) for name in evidence.run.alignments]
        cosines = [metrics["mean_frame_cosine"] for metrics in found if "mean_frame_cosine" in metrics]
        if cosines:
            cosine_of[model] = cosines[0]
    if not cosine_of:
        return []
    rows = []
    for label, group in over_seeds(cosine_of).items():
        known = [cosine for model in group if (cosine := cosine_of[model]) is not None]
        rows.append([label, number(np.mean(known) if known else None, 2)])
    return [
        "A caption that speaks of some of the frames can choose these only where the others are not the same vector. "
        "The mean cosine of two frames of a test video:",
        markdown_table(["model", "cosine of two frames"], rows),
    ]


def levels_table(evidence: Evidence) -> str:
    """The share of the queries in each level, and R@1 there by system; nothing where no query has one."""
    level_Q = evidence.levels.level_Q
    if not len(level_Q):
        return ""
    shares = [f"{number(100 * np.mean(level_Q == level))} % ({np.sum(level_Q == level)})" for level in LEVELS]
    rows = [["share of the queries (number)", *shares]]
    for system, hits_Q in hits_over_seeds(evidence.hits).items():
        rows.append([system, *(_recall(evidence, hits_Q[level_Q == level]) for level in LEVELS)])
    return markdown_table(["T2V R@1", *LEVELS], rows)


def _recall(evidence: Evidence, hits_Q: np.ndarray) -> str:
    if not len(hits_Q):
        return number(None)
    intervals = bootstrap_intervals(
        hits_Q[None], ["mean"], rng=np.random.default_rng(evidence.seed), num_resamples=evidence.num_resamples
    )
    return with_interval({"R@1": hits_Q.mean(), "ci95": {"R@1": intervals[0]}}, "R@1")
