"""The page of the results that is looked at: all of it in one file of HTML, its pictures too."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import Rows
from stillmotion.embedding.reader import Embeddings
from stillmotion.report import charts, moments, retrieval
from stillmotion.report.examples import Gallery, moments_located, rankings
from stillmotion.report.findings import findings, tally
from stillmotion.report.first_videos import SHOWN
from stillmotion.report.page import SOURCES, rendered
from stillmotion.report.published import Published
from stillmotion.report.systems import task_tables

TITLES = {
    "retrieval": "Text–video retrieval",
    "moments": "Moment retrieval",
    "actions": "Action recognition",
    "resources": "Cost of a training step",
}
WHY = {
    SHOWN[1]: "shows an event that the caption describes",
    SHOWN[2]: "shows the thing that the caption describes in another motion",
    SHOWN[3]: "shows nothing of what the caption describes",
}
"""What the first video shows where it is a wrong one."""


def index_page(
    evidence: Evidence,
    numbers: pd.DataFrame,
    published: Sequence[Published],
    *,
    splits: Mapping[str, Sequence[int]],
    gallery: Gallery,
    embedded: Embeddings,
    ranks: Mapping[str, Rows],
    located: Rows,
    num_examples: int,
    metrics: str,
) -> str:
    """The page in HTML.

    Args:
        evidence: what has been measured.
        numbers: that were published, for the effects that sources report.
        published: the same with ours.
        splits: of `page.split_counts`.
        gallery: what players are made of.
        embedded: for the curves of retrieval.
        ranks: rows of ranks.jsonl by system of retrieval.
        located: rows of examples.jsonl of the selection that is shown.
        num_examples: of retrieval, beside one that was found at once.
        metrics: the folder of the metrics files as seen from the page.
    """
    claims = [(source, [(claim, claim.measure(evidence)) for claim in source.claims]) for source in SOURCES]
    tables = task_tables(evidence)
    best = tables["retrieval"].best if "retrieval" in tables else None
    return rendered(
        "index.html.j2",
        evidence=evidence,
        titles=TITLES,
        tables=tables,
        splits=splits,
        findings=findings(evidence, tables, claims),
        tally=tally(claims),
        claims=claims,
        published=[row for row in published if row.ours is not None],
        num_published=len(published),
        experiments=sorted({name for row in published if row.ours is None for name in row.experiments}),
        rankings=rankings(gallery, embedded, ranks, evidence.first_shows, best.key, num_examples) if best else [],
        why=WHY,
        located=moments_located(gallery, located),
        charts=charts,
        lines=charts.task_charts(evidence, tables),
        analyses=_analyses(evidence, numbers),
        metrics=metrics,
    )


def _analyses(evidence: Evidence, numbers: pd.DataFrame) -> dict[str, list[tuple[str, Any]]]:
    """Tables behind the results, by task and title; those that there is nothing to say in are left out."""
    found = {
        "retrieval": (
            ("What one change adds", retrieval.differences_table(evidence)),
            ("Spread over the seeds of a model", retrieval.seeds_table(evidence)),
            ("What the first video shows, in % of the captions", retrieval.first_videos_table(evidence)),
            ("R@1 / R@5 by the length of the caption", retrieval.sentences_table(evidence)),
            ("R@1 / R@5 by the events of the video", retrieval.events_table(evidence)),
            ("R@1 by how much of its video a caption covers", retrieval.coverage_table(evidence)),
            ("How alike the frames of a video are", retrieval.frame_cosines_table(evidence)),
        ),
        "moments": (("What one change adds", moments.effects_table(evidence, numbers)),),
    }
    return {task: [(title, table) for title, table in of_task if table] for task, of_task in found.items()}
