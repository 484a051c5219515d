"""The text of the results page."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillmotion.records import Caption, Moment, Video
from stillmotion.report.claims import RULES
from stillmotion.report.tables import (
    actions_table,
    architectures_table,
    clips_table,
    markdown_table,
    moments_table,
    resources_table,
    retrieval_table,
    videos_table,
)

MOST_SKIPPED = 50
"""Videos left out that the page lists; all of them are in skipped.jsonl."""


def example_queries(
    queries: Sequence[Mapping[str, Any]], submission: Sequence[Mapping[str, Any]], num_examples: int
) -> list[dict[str, Any]]:
    """Queries from the best to the worst top window, evenly spaced by rank, with their curves and windows."""
    order = sorted(range(len(queries)), key=lambda row: (-queries[row]["top1_iou"], queries[row]["qid"]))
    num = min(num_examples, len(order))
    places = [round(index * (len(order) - 1) / max(1, num - 1)) for index in range(num)]
    examples = []
    for place in places:
        query, prediction = queries[order[place]], submission[order[place]]
        examples.append(
            {
                "title": f"“{query['query']}” in {query['vid']}: IoU {query['top1_iou']:.2f}",
                "curve": prediction["pred_saliency_scores"],
                "true_windows": query["true_windows"],
                "predicted_windows": prediction["pred_relevant_windows"],
            }
        )
    return examples


def results_page(
    *,
    dataset: str,
    found: Mapping[str, Mapping[str, Any]],
    videos: Sequence[Video],
    captions: Sequence[Caption],
    moments: Sequence[Moment],
    figures: Sequence[str],
    example_system: str,
    differences: Mapping[str, str],
    claims: str,
    ablations: Mapping[str, str],
) -> str:
    """The page in Markdown.

    Args:
        dataset: its name.
        found: metrics by task and system.
        videos: with their final status.
        captions: of the dataset.
        moments: of the dataset.
        figures: names of the figures that there are.
        example_system: the system whose moments are drawn.
        differences: tables of paired differences by task, empty where there is nothing to compare.
        claims: table of the claims.
        ablations: title of each ablation by name.
    """
    skipped = [video for video in videos if not video.ok]
    parts = [
        f"# Results on {dataset}",
        "Rates are percentages. Intervals are 95 % bootstrap intervals over the test queries; ± is the standard "
        "deviation over seeds. How each number came about is in the `protocol` of its file under metrics/.",
        "What the embeddings thesis concluded is held to these results [below](#claims); published numbers are beside "
        "ours in [published.md](published.md).",
        "## Dataset",
        videos_table(videos, captions, moments),
    ]
    if skipped:
        rows = [[video.video_id, video.split, video.status] for video in skipped[:MOST_SKIPPED]]
        parts += [f"{len(skipped)} videos are left out:", markdown_table(["video", "split", "reason"], rows)]
        if len(skipped) > MOST_SKIPPED:
            parts.append(f"… and {len(skipped) - MOST_SKIPPED} more, all in skipped.jsonl beside the stored frames.")
    parts += ["## Text-video retrieval", retrieval_table(found["retrieval"]), *_figure("retrieval", figures)]
    by_clips = clips_table(found["retrieval"])
    if by_clips:
        parts += ["The table above is of the most clips; by number of clips:", by_clips, *_figure("clips", figures)]
    parts += [differences["retrieval"]] if differences["retrieval"] else []
    parts += ["## Moment retrieval", moments_table(found["moments"])]
    parts += [differences["moments"]] if differences["moments"] else []
    parts += _thresholds(found["moments"])
    if "moments" in figures:
        parts += [f"Queries from the best to the worst of {example_system}:", *_figure("moments", figures)]
    parts += ["## Action recognition", actions_table(found["actions"]), *_figure("actions", figures)]
    if "finetune" in figures:
        parts += ["## Fine-tuning", *_figure("finetune", figures)]
    parts += [
        "## Cost of a training step",
        resources_table(found["resources"]),
        "FLOPs count 2 for each multiply-add. Memory and time, which depend on the machine, are in metrics/resources.",
    ]
    if found["architectures"]:
        parts += [
            "Full-size architectures, counted, with nothing but the embeddings frozen and all patches kept; then what "
            "patch dropout leaves of the forward pass and frozen blocks of the backward pass:",
            architectures_table(found["architectures"]),
        ]
    if ablations:
        links = [f"- [{title}](../ablations/{name}.md)" for name, title in ablations.items()]
        parts += ["## Ablations", "\n".join(links)]
    parts += ["## Claims", RULES, claims]
    return "\n\n".join(parts) + "\n"


def _figure(name: str, figures: Sequence[str]) -> list[str]:
    return [f"![{name}](figures/{name}.svg)"] if name in figures else []


def _thresholds(metrics: Mapping[str, Any]) -> list[str]:
    rows = []
    for system, values in metrics.items():
        thresholds = values["protocol"]["thresholds"]
        if thresholds is not None:
            parameters = ", ".join(f"{name} {value:.4g}" for name, value in thresholds["parameters"].items())
            rows.append([system, parameters, f"{thresholds['best_value']:.1f}"])
    if not rows:
        return []
    return ["Thresholds found on the train split:", markdown_table(["system", "parameters", "objective there"], rows)]
