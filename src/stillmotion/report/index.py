"""The page of the results that is looked at: all of it in one file of HTML, its pictures too."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stillmotion.claims.claim import Measured
from stillmotion.claims.evidence import Evidence
from stillmotion.report import charts, moments, retrieval
from stillmotion.report.examples import Examples, Gallery, moments_located, rankings
from stillmotion.report.findings import findings, tally
from stillmotion.report.first_videos import SHOWN
from stillmotion.report.page import SOURCES, left_out, rendered
from stillmotion.report.parts import parts_of_sections
from stillmotion.report.published import Published
from stillmotion.report.systems import task_tables
from stillmotion.report.trainings import Histories

TITLES = {
    "retrieval": "Text–video retrieval",
    "attention": "What models attend to",
    "moments": "Moment retrieval",
    "actions": "Action recognition",
    "finetune": "Fine-tuning",
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
    published: Sequence[Published],
    splits: Mapping[str, Sequence[int]],
    claims: Sequence[Measured],
    gallery: Gallery,
    examples: Examples,
    trained: Mapping[str, Histories],
    folders: Mapping[str, Path],
    written: Path,
) -> str:
    """The page in HTML.

    Args:
        evidence: what has been measured.
        published: numbers with ours.
        splits: of `page.split_counts`.
        claims: what those of each of `page.SOURCES` came to.
        gallery: what players are made of.
        examples: what they show.
        trained: epochs by folder of plots/.
        folders: of the metrics files, the studies, the plots and the frames, by name.
        written: that of the page until it is done, where its figures are.
    """
    tables, parts = task_tables(evidence), parts_of_sections(evidence, trained, written / "figures")
    beside: dict[str, list[Published]] = {}
    for row in published:
        if row.ours is not None:
            beside.setdefault(row.document, []).append(row)
    best = tables["retrieval"].best if "retrieval" in tables else None
    return rendered(
        "index.html.j2",
        evidence=evidence,
        titles=TITLES,
        tables=tables,
        parts=parts,
        sections={task: title for task, title in TITLES.items() if task in tables or parts.get(task)},
        splits=splits,
        left_out=left_out(list(gallery.videos.values())),
        findings=findings(evidence, tables, claims),
        tally=tally(claims),
        claims=list(zip(SOURCES, claims, strict=True)),
        published=beside,
        num_published=len(published),
        experiments=sorted({name for row in published if row.ours is None for name in row.experiments}),
        rankings=rankings(gallery, examples, evidence.first_shows, best.key) if best else [],
        why=WHY,
        located=moments_located(gallery, examples.located),
        charts=charts,
        lines=charts.task_charts(evidence, tables),
        analyses=_analyses(evidence, pd.DataFrame(map(vars, published))),
        **{name: os.path.relpath(folder, gallery.page) for name, folder in folders.items()},
    )


COVERAGE = (
    "How much of a video its caption speaks of (partial misalignment), by the cosines of {model}: `up` where more than "
    "two thirds of the uniform frames fit the caption, `bottom` where less than one third do. A frame fits where its "
    "cosine is above the middle between two means: of frames with their own captions, and with those of other videos "
    "(figure 1 of Mug-STAN, which does not say how its cosines were centred). What fits less is found less by any "
    "cosine: compare the systems within a group. The seeds of a recipe are averaged; an interval takes them as given."
)
SHOWS = (
    "It is the right one; or another, that shows an event which the caption describes; or its subject (size, color, "
    "shape and background, which one frame shows), in other motions alone, which take several. Of several seeds of an "
    "aggregator, the first."
)
COSINES = (
    "A caption that speaks of some of the frames can choose these only where the others are not the same vector. The "
    "mean cosine of two frames of a test video."
)
EFFECTS = (
    "What a post-processing adds to none, and VC2 to VC1 with the same one, in points, paired over the test queries. "
    "Beside each is the difference that the source prints, which is of other data (QVHighlights val) and of CLIP "
    "ViT-B/32; its R1@0.5 and mAP are of thresholds searched for windows, its frame IoU of thresholds for frames."
)


def _analyses(evidence: Evidence, numbers: pd.DataFrame) -> dict[str, list[tuple[str, str, Any]]]:
    """Tables behind the results by task, with a title and a note; those without a row are left out."""
    of_recipes = "Each with the most clips; the seeds of a recipe are averaged."
    of_model = COVERAGE.format(model=evidence.coverage.model)
    found = {
        "retrieval": (
            ("What one change adds", "In points, paired over the test queries.", retrieval.differences_table(evidence)),
            ("Spread over seeds", "Mean ± standard deviation, text to video.", retrieval.seeds_table(evidence)),
            ("What the first video shows, in % of the captions", SHOWS, retrieval.first_videos_table(evidence)),
            ("R@1 / R@5 by the length of the caption", of_recipes, retrieval.sentences_table(evidence)),
            ("R@1 / R@5 of one sentence by the events of the video", of_recipes, retrieval.events_table(evidence)),
            ("R@1 by caption coverage", of_model, retrieval.coverage_table(evidence)),
            ("How alike the frames of a video are", COSINES, retrieval.frame_cosines_table(evidence)),
        ),
        "moments": (("What one change adds", EFFECTS, moments.effects_table(evidence, numbers)),),
    }
    return {task: [analysis for analysis in of_task if analysis[2]] for task, of_task in found.items()}
