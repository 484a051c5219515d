"""The text of the results page."""

from collections.abc import Sequence

from stillmotion.io.records import Caption, Moment, Video
from stillmotion.report.attention_section import attention_section
from stillmotion.report.claims import (
    MOMENT_CLAIMS,
    MOMENT_RULES,
    MUG_STAN_CLAIMS,
    MUG_STAN_RULES,
    THESIS_CLAIMS,
    THESIS_RULES,
    claims_table,
)
from stillmotion.report.differences import differences_table, retrieval_comparisons
from stillmotion.report.evidence import Evidence
from stillmotion.report.first_videos import first_videos_section
from stillmotion.report.misalignment import misalignment_section
from stillmotion.report.moment_section import moments_section
from stillmotion.report.published import PublishedNumber
from stillmotion.report.tables import (
    actions_table,
    architectures_table,
    branches_table,
    clips_table,
    figure_link,
    markdown_table,
    resources_table,
    retrieval_table,
    seeds_table,
    videos_table,
)

MOST_SKIPPED = 50
"""Videos left out that the page lists; all of them are in skipped.jsonl."""


def results_page(
    evidence: Evidence,
    published: Sequence[PublishedNumber],
    *,
    videos: Sequence[Video],
    captions: Sequence[Caption],
    moments: Sequence[Moment],
    figures: Sequence[str],
) -> str:
    """The page in Markdown.

    Args:
        evidence: what has been measured.
        published: numbers, for the effects that sources report.
        videos: with their final status.
        captions: of the dataset.
        moments: of the dataset.
        figures: names of the figures that there are.
    """
    parts = [
        f"# Results on {evidence.dataset}",
        "Rates are percentages. Intervals are 95 % bootstrap intervals over the test queries; ± is the standard "
        "deviation over seeds. How each number came about is in the `protocol` of its file under metrics/.",
        "What the embeddings thesis, VClipper and Mug-STAN concluded is held to these results [below](#claims); "
        "published numbers are beside ours in [published.md](published.md).",
        "## Dataset",
        videos_table(videos, captions, moments),
        *_left_out(videos),
        *_retrieval(evidence, figures),
        *attention_section(evidence.run.attended, figures),
        *moments_section(evidence, published, figures),
        "## Action recognition",
        actions_table(evidence.metrics["actions"]),
        *figure_link("actions", figures),
    ]
    if "finetune" in figures:
        parts += ["## Fine-tuning", *figure_link("finetune", figures)]
    parts += _costs(evidence)
    if evidence.ablations:
        links = [f"- [{row['title']}](../ablations/{name}.md)" for name, row in evidence.ablations.items()]
        parts += ["## Ablations", "\n".join(links)]
    parts += [
        "## Claims",
        "A claim holds where the 95 % interval of its effect lies wholly on the claimed side of zero, does not hold "
        "where it lies wholly on the other, and is undecided where it contains zero. Where the parts of an effect were "
        "measured on different queries it is not comparable.",
        "### Of the embeddings thesis (Lindgren 2023)",
        THESIS_RULES,
        claims_table(evidence, THESIS_CLAIMS),
        "### Of VClipper (Caravaca 2024)",
        MOMENT_RULES,
        claims_table(evidence, MOMENT_CLAIMS),
        "### Of Mug-STAN (Liu et al. 2023)",
        MUG_STAN_RULES,
        claims_table(evidence, MUG_STAN_CLAIMS),
    ]
    return "\n\n".join(parts) + "\n"


def _left_out(videos: Sequence[Video]) -> list[str]:
    skipped = [video for video in videos if not video.ok]
    if not skipped:
        return []
    rows = [[video.video_id, video.split, video.status] for video in skipped[:MOST_SKIPPED]]
    parts = [f"{len(skipped)} videos are left out:", markdown_table(["video", "split", "reason"], rows)]
    if len(skipped) > MOST_SKIPPED:
        parts.append(f"… and {len(skipped) - MOST_SKIPPED} more, all in skipped.jsonl beside the stored frames.")
    return parts


def _retrieval(evidence: Evidence, figures: Sequence[str]) -> list[str]:
    metrics = evidence.metrics["retrieval"]
    parts = ["## Text-video retrieval", retrieval_table(metrics), *figure_link("retrieval", figures)]
    tricks = {name: values["protocol"].get("inference_tricks", "") for name, values in metrics.items()}
    knowing = [name for name, trick in tricks.items() if trick.startswith("dual softmax")]
    if knowing:
        parts.append(f"With dual softmax, which ranks with all test queries at hand: {', '.join(knowing)}.")
    by_recipe = seeds_table(metrics)
    if by_recipe:
        parts += ["Text to video over the seeds of a recipe, mean ± standard deviation:", by_recipe]
    by_clips = clips_table(metrics)
    if by_clips:
        links = figure_link("clips", figures)
        parts += ["Each system above has the most clips; by number of clips:", by_clips, *links]
    settings = {"seed": evidence.seed, "num_resamples": evidence.num_resamples}
    differences = differences_table(retrieval_comparisons(evidence), "T2V R@1", **settings)
    parts += [differences] if differences else []
    return [*parts, *first_videos_section(evidence), *misalignment_section(evidence)]


def _costs(evidence: Evidence) -> list[str]:
    parts = [
        "## Cost of a training step",
        resources_table(evidence.metrics["resources"]),
        "FLOPs count 2 for each multiply-add. Memory and time, which depend on the machine, are in metrics/resources.",
    ]
    if evidence.metrics["architectures"]:
        parts += [
            "Full-size architectures, counted, with nothing but the embeddings frozen and all patches kept; then what "
            "patch dropout leaves of the forward pass and frozen blocks of the backward pass:",
            architectures_table(evidence.metrics["architectures"]),
        ]
    branches = branches_table(evidence.metrics["architectures"])
    if branches:
        parts += ["What a STAN branch costs, as a multiple of the CLIP that it stands beside:", branches]
    return parts
