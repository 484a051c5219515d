"""What the results page says of retrieval beside the metrics files: differences, seeds, recall by group of queries.

Groups of queries are told by how much their captions say (sentences, events) and by how much of its video a caption
covers. The seeds of a model are averaged, and each system has its most clips.
"""

# Q queries.

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stillmotion.claims.compare import Pair, num_clips, paired, pairs
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import MODEL, Origin, origins_of, pooled, records, seeds_label, select
from stillmotion.metrics.bootstrap import bootstrap_intervals
from stillmotion.metrics.caption_coverage import GROUPS
from stillmotion.report.first_videos import SHOWN, sentences
from stillmotion.report.links import Linked, linked
from stillmotion.report.tables import markdown_table, number, with_interval

MOST_SENTENCES = 4
"""Captions of so many sentences and more are taken together."""
MOST_EVENTS = 3
"""Videos of so many events and more are taken together."""


def retrieval_pairs(evidence: Evidence) -> list[Pair]:
    """Systems beside what they differ from in one thing, with the largest number of clips that both were scored with.

    A model by each scorer beside the same by the first of params.retrieval; fine-tuned beside not, by that scorer; and
    expanded beside not.
    """
    recalls = evidence.of("R@1")
    if recalls.empty:
        return []
    first = {"scorer": recalls["scorer"].iloc[0]}
    alike = {*MODEL, "clips"}
    found = [
        *pairs(recalls, better={}, worse=first, within=tuple(alike)),
        *pairs(select(recalls, first), better={}, worse={"recipe": None}, within=tuple(alike - {"recipe"})),
        *pairs(recalls, better={}, worse={"expansion": None}, within=tuple((alike | {"scorer"}) - {"expansion"})),
    ]
    most: dict[tuple[str, str], Pair] = {}
    for pair in found:
        keys = (pair.better["key"], pair.worse["key"])
        if keys not in most or most[keys].better["clips"] < pair.better["clips"]:
            most[keys] = pair
    return list(most.values())


def differences_table(evidence: Evidence) -> str:
    """A row for each of `retrieval_pairs`: the difference with its 95 % interval and two-sided p; nothing for none."""
    rows = []
    for pair in retrieval_pairs(evidence):
        both = (pair.better, pair.worse)
        found = paired(pair.better["values"], pair.worse["values"], evidence.draws)
        have_most = all(row["has_most_clips"] for row in both)
        clips = "" if have_most else f" ({num_clips(pair.better['clips'])})"
        effect = f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
        named = linked(" − ".join(map(seeds_label, both)) + clips, pair.origins)
        rows.append([named, effect, f"{found.p_value:.3f}"])
    return markdown_table(["T2V R@1, paired over the test queries", "difference", "p"], rows) if rows else ""


def seeds_table(evidence: Evidence) -> str:
    """Means of text-to-video metrics, and their spread, over the seeds of a model; empty where none has several."""
    names, rows = ("R@1", "R@5", "R@10", "MedR", "MeanR"), []
    metrics = evidence.metrics("retrieval")
    for row in pooled(select(evidence.systems, {"task": "retrieval", "metrics": lambda found: bool(found["t2v"])})):
        if row["num_seeds"] > 1:
            of_seeds = [[metrics[key]["t2v"][name] for key in row["keys"]] for name in names]
            rows.append([_named(row), *(f"{np.mean(of):.1f} ± {np.std(of, ddof=1):.1f}" for of in of_seeds)])
    return markdown_table(["T2V", "R@1", "R@5", "R@10", "median rank", "mean rank"], rows) if rows else ""


def frame_cosines_table(evidence: Evidence) -> str:
    """How alike the frames of a video are to each model whose frames were compared one by one; empty for none."""
    compared = {"task": "retrieval", "metrics": lambda found: "mean_frame_cosine" in found}
    models = select(evidence.systems, compared).drop_duplicates("model").assign(scorer=None)
    cosine_of = {row["model"]: row["metrics"]["mean_frame_cosine"] for row in records(models)}
    origin_of = {row["model"]: Origin("retrieval", row["key"]) for row in records(models)}
    rows = []
    for row in pooled(models.assign(key=models["model"])):
        known = [cosine for model in row["keys"] if (cosine := cosine_of[model]) is not None]
        named = linked(seeds_label(row), [origin_of[model] for model in row["keys"]])
        rows.append([named, number(np.mean(known) if known else None, 2)])
    return markdown_table(["model", "cosine of two frames"], rows) if rows else ""


def sentences_table(evidence: Evidence) -> str:
    """R@1 and R@5 by number of sentences and system; nothing where all captions have as many."""
    length_Q = np.array([len(sentences(query.text)) for query in evidence.queries], dtype=int)
    return _recall_table(evidence, length_Q, most=MOST_SENTENCES, name="sentences of the caption")


def events_table(evidence: Evidence) -> str:
    """R@1 and R@5 of captions of one sentence by number of events; nothing where all their videos have as many."""
    events_Q = [query.num_events if len(sentences(query.text)) == 1 else 0 for query in evidence.queries]
    return _recall_table(evidence, np.array(events_Q, dtype=int), most=MOST_EVENTS, name="events of the video")


def _recall_table(evidence: Evidence, count_Q: np.ndarray, *, most: int, name: str) -> str:
    """R@1 and R@5 by system and count, those of `most` and more together; those of none are left out."""
    count_Q = np.minimum(count_Q, most)
    counts = [count for count in np.unique(count_Q) if count]
    if len(counts) < 2:
        return ""
    rows: list[list[str]] = [["captions", *(str(np.sum(count_Q == count)) for count in counts)]]
    recalls = (pooled(_with_most_clips(evidence, measure)) for measure in ("R@1", "R@5"))
    for first, five in zip(*recalls, strict=True):
        means = [[row["values"][count_Q == count].mean() for row in (first, five)] for count in counts]
        rows.append([_named(first), *(" / ".join(map(number, pair)) for pair in means)])
    return markdown_table([name, *(f"{count} or more" if count == most else str(count) for count in counts)], rows)


def _named(row: Mapping[str, Any]) -> Linked:
    return linked(seeds_label(row), origins_of(row))


def _with_most_clips(evidence: Evidence, measure: str) -> pd.DataFrame:
    return select(evidence.of(measure), {"has_most_clips": True})


def first_videos_table(evidence: Evidence) -> str:
    """The shares of SHOWN by system; nothing where it is not known what videos show."""
    is_known = {"task": "retrieval", "key": lambda key: bool(evidence.first_shows.get(key))}
    rows = []
    for row in pooled(select(evidence.systems, is_known)):
        shown = [name for key in row["keys"] for name in evidence.first_shows[key]]
        rows.append([_named(row), *(number(100 * shown.count(name) / len(shown)) for name in SHOWN)])
    return markdown_table(["the first video shows", *SHOWN], rows) if rows else ""


def coverage_table(evidence: Evidence) -> str:
    """The share of the queries in each group of caption coverage, and R@1 there by system; nothing without groups."""
    group_Q = evidence.coverage.group_Q
    if not len(group_Q):
        return ""
    shares = [f"{number(100 * np.mean(group_Q == group))} % ({np.sum(group_Q == group)})" for group in GROUPS]
    rows = [["share of the queries (number)", *shares]]
    for row in pooled(_with_most_clips(evidence, "R@1")):
        rows.append([_named(row), *(_recall(evidence, row["values"][group_Q == group]) for group in GROUPS)])
    return markdown_table(["T2V R@1", *GROUPS], rows)


def _recall(evidence: Evidence, hits_Q: np.ndarray) -> str:
    if not len(hits_Q):
        return number(None)
    rng, num_resamples = np.random.default_rng(evidence.draws.seed), evidence.draws.num_resamples
    (interval,) = bootstrap_intervals(hits_Q[None], ["mean"], rng=rng, num_resamples=num_resamples)
    return with_interval({"R@1": hits_Q.mean(), "ci95": {"R@1": interval}}, "R@1")
