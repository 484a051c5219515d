"""The pages of the report, from their templates beside this module."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stillmotion.claims import windows as selected
from stillmotion.claims.claim import Measured, open_claims, run_command
from stillmotion.claims.compare import num_clips
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.mug_stan import MUG_STAN
from stillmotion.claims.systems import Origin, select
from stillmotion.claims.thesis import THESIS
from stillmotion.claims.vclipper import VCLIPPER
from stillmotion.claims.video_llama import VIDEO_LLAMA
from stillmotion.io.records import SPLITS, Caption, Moment, Video
from stillmotion.printed import markdown, one_line
from stillmotion.report import moments, retrieval
from stillmotion.report.links import parts_of
from stillmotion.report.published import Published
from stillmotion.report.published_tables import by_several, published_tables
from stillmotion.report.tables import HeatRow, HeatTable, leading_value, markdown_table, number, with_interval

SOURCES = (THESIS, VCLIPPER, MUG_STAN, VIDEO_LLAMA)
"""Whose conclusions are held to the results."""
BY_DATASET = ("Mug-STAN (Liu et al. 2023)", "Other sources", "MTEB (third parties)")
"""Documents of which the page of published numbers has a table for each dataset."""
SKIPPED = Origin("frames", "skipped")
"""The file of the videos left out, beside the frames of the others."""
MOST_SKIPPED = 50
"""Videos left out that the page lists; all of them are in skipped.jsonl."""


def rendered(template: str, **context: Any) -> str:
    """The page of a template, in which no two empty lines follow each other.

    In a page of HTML no text is markup, and each is on one line.
    """
    is_html = template.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=is_html,
        finalize=_text if is_html else None,
    )
    environment.filters |= {"cell": markdown, "number": number, "interval": with_interval, "value": leading_value}
    environment.globals |= {"table": markdown_table, "num_clips": num_clips, "run_command": run_command}
    environment.globals |= {"claim_rows": claim_rows, "open_claims": open_claims, "parts_of": parts_of}
    lines = environment.get_template(template).render(**context).splitlines()
    kept = [line for place, line in enumerate(lines) if line or (place and lines[place - 1])]
    return "\n".join(kept).strip() + "\n"


def _text(value: Any) -> Any:
    """What is put out: markup as it stands, and of text nothing that is no character."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def results_page(
    evidence: Evidence,
    splits: Mapping[str, Sequence[int]],
    claims: Sequence[Measured],
    *,
    videos: Sequence[Video],
    figures: Collection[str],
) -> str:
    """The results page in Markdown.

    Args:
        evidence: what has been measured.
        splits: of `split_counts`.
        claims: what those of each of SOURCES came to.
        videos: with their final status.
        figures: names of the figures that there are.
    """
    by_clips = {key: values["by_num_clips"] for key, values in evidence.metrics("retrieval").items()}
    several = {key: counts for key, counts in by_clips.items() if len(counts) > 1}
    named = {key: values for key, values in evidence.metrics("actions").items() if values["zero_shot"]}
    return rendered(
        "results.md.j2",
        evidence=evidence,
        retrieval=retrieval,
        moments=moments,
        selected=selected,
        figures=figures,
        splits=splits,
        skipped=[video for video in videos if not video.ok],
        most_skipped=MOST_SKIPPED,
        ranked={key: values for key, values in evidence.metrics("retrieval").items() if values["t2v"]},
        dual_softmax=list(select(evidence.systems, {"task": "retrieval", "scorer.dual_softmax": True})["key"]),
        by_num_clips=several,
        clip_counts=sorted({int(key) for counts in several.values() for key in counts}),
        named=named,
        shots=sorted({int(key) for values in named.values() for key in values["top1"]}),
        claims=list(zip(SOURCES, claims, strict=True)),
    )


def split_counts(
    videos: Sequence[Video], captions: Sequence[Caption], windows: Sequence[Moment]
) -> dict[str, tuple[int, int, int, int]]:
    """Counts by split: videos, those left out, captions, moments."""
    split_of = {video.video_id: video.split for video in videos}
    return {
        split: (
            sum(video.split == split for video in videos),
            sum(video.split == split and not video.ok for video in videos),
            sum(split_of.get(caption.video_id) == split for caption in captions),
            sum(split_of.get(moment.vid) == split for moment in windows),
        )
        for split in SPLITS
    }


def left_out(videos: Sequence[Video]) -> HeatTable | None:
    """How many videos of each split are left out by reason, the most frequent first; None where none is."""
    counts = Counter((video.status, video.split) for video in videos if not video.ok)
    of_reason = Counter(video.status for video in videos if not video.ok)
    rows = [
        HeatRow(reason, SKIPPED, [counts[reason, split] or None for split in SPLITS])
        for reason in sorted(of_reason, key=lambda reason: (-of_reason[reason], reason))
    ]
    return HeatTable(["videos left out because", *SPLITS], {"": rows}, digits=0) if rows else None


def claim_rows(found: Measured) -> list[list[str]]:
    """A row for each measurement of each claim, in the first of which the claim stands."""
    rows = []
    for claim, measured in found:
        cells = [[f"{row.what}{', ours' if row.is_ours else ''}", row.effect, row.verdict] for row in measured]
        rows += [[f"{claim.text} ({claim.section})" if place == 0 else "", *row] for place, row in enumerate(cells)]
    return rows


def published_page(numbers: Sequence[Published], evidence: Evidence) -> str:
    """The page of published numbers in Markdown: by document, by table, a row for each system with ours below it."""
    of: dict[str, list[Published]] = {}
    for row in numbers:
        of.setdefault(row.document, []).append(row)
    return rendered(
        "published.md.j2",
        evidence=evidence,
        documents={name: published_tables(own, by_dataset=name in BY_DATASET) for name, own in of.items()},
        experiments={name: list(dict.fromkeys(e for row in own for e in row.experiments)) for name, own in of.items()},
        by_several=by_several(numbers),
        num_published=len(numbers),
        num_ours=sum(row.ours is not None for row in numbers),
        num_not_run=sum(row.ours is None and bool(row.experiments) for row in numbers),
    )
