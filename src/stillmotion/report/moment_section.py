"""The part of the results page about moment retrieval."""

from collections.abc import Sequence

from stillmotion.report.evidence import Evidence
from stillmotion.report.moment_systems import shown_selection, systems_for_windows
from stillmotion.report.moment_tables import (
    assessment_table,
    effects_table,
    importances_table,
    lengths_table,
    moments_table,
    thresholds_table,
)
from stillmotion.report.published import PublishedNumber
from stillmotion.report.tables import figure_link

COLUMNS = (
    "Coverage is the share of the true seconds in any chosen window, selected the share of the video that the chosen "
    "windows take up, empty the number of queries without a window (they score 0). † marks frames that are those of "
    "the top window, of systems that give windows alone."
)
EFFECTS = (
    "What a post-processing adds to none, and VC2 to VC1 with the same one, in points and paired over the test "
    "queries. Beside each is the difference that the source prints, which is of other data (QVHighlights val) and of "
    "CLIP ViT-B/32; its R1@0.5 and mAP are of thresholds searched for windows, its frame IoU of thresholds for frames."
)
THRESHOLDS = (
    "Searched on the train split alone. λ is the least similarity, α the CFSc below which a scene ends, p the share of "
    "a scene's frames that its confidence is of, M the window of the smoothing."
)
STUDY = (
    "The best objective so far by trial; then the objective around the best values (points), one parameter changed at "
    "a time:"
)
ASSESSMENT = (
    "How well a model's frames tell a query's moments from the rest, before any threshold is searched: mean IoU of the "
    "frames that VC1 with `norm` selects at each λ (section 4.2 of the source)."
)
EXAMPLES = (
    "Green: true windows; red: chosen windows, the best in full colour. Sc is the similarity of each frame to the "
    "query after post-processing, with λ dashed (grey: the raw cosine); CFSc that of each frame to the next, with α "
    "dashed and the cuts of VC2 dotted."
)


def moments_section(evidence: Evidence, published: Sequence[PublishedNumber], figures: Sequence[str]) -> list[str]:
    """The paragraphs in Markdown.

    Args:
        evidence: what has been measured.
        published: numbers, the source's among them.
        figures: names of the figures that there are.
    """
    metrics = evidence.metrics["moments"]
    lengths = lengths_table(systems_for_windows(evidence))
    parts = ["## Moment retrieval", moments_table(metrics)]
    if lengths:
        parts += [COLUMNS, "By the length of the true windows:", lengths, *figure_link("moment_lengths", figures)]
    effects = effects_table(evidence, published)
    if effects:
        parts += ["### Post-processing and method", EFFECTS, effects]
    if "iou_distribution" in figures:
        parts += ["The share of the queries that reach an IoU:", *figure_link("iou_distribution", figures)]
    thresholds = thresholds_table(evidence)
    if thresholds:
        parts += ["### Thresholds", THRESHOLDS, thresholds]
        importances = importances_table(evidence)
        parts += ["Their share in the variance of the objective over the trials:", importances] if importances else []
        parts += [STUDY, *figure_link("optimisation", figures), *figure_link("sensitivity", figures)]
    assessment = assessment_table(evidence.metrics["assessment"])
    if assessment:
        parts += ["### Assessment of models", ASSESSMENT, assessment, *figure_link("assessment", figures)]
    if "moments" in figures:
        title = f"Queries from the best to the worst of {shown_selection(evidence)}:"
        parts += ["### Examples", title, *figure_link("moments", figures), EXAMPLES]
    return parts
