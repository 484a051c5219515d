"""The page of the results that is looked at: all of it in one file of HTML, its pictures too."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stillmotion.claims.evidence import Evidence
from stillmotion.report import charts, moments, retrieval
from stillmotion.report.examples import Examples, Gallery, moments_located, rankings
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
    splits: Mapping[str, Sequence[int]],
    gallery: Gallery,
    examples: Examples,
    metrics: Path,
) -> str:
    """The page in HTML.

    Args:
        evidence: what has been measured.
        numbers: that were published, for the effects that sources report.
        published: the same with ours.
        splits: of `page.split_counts`.
        gallery: what players are made of.
        examples: what they show.
        metrics: the folder of the metrics files.
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
        rankings=rankings(gallery, examples, evidence.first_shows, best.key) if best else [],
        why=WHY,
        located=moments_located(gallery, examples.located),
        charts=charts,
        lines=charts.task_charts(evidence, tables),
        analyses=_analyses(evidence, numbers),
        metrics=os.path.relpath(metrics, gallery.page),
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
