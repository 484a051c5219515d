"""The part of the results page about what models attend to."""

from collections.abc import Sequence

from stillmotion.report.tables import figure_link

CHOICE = (
    "Captions of the test split and their own videos, chosen before anything was known of how they fit: the middle "
    "ones of equal parts of the list by caption_id."
)
READING = (
    "The bars say how much each frame counts for the caption (above) and each token for the video (below) by Mug, the "
    "dashed line how much all would count alike; between them are the frames, and the cosines of each frame with each "
    "token (figure 10 of Mug-STAN). The red frames of a STAN show where the class token of its branch looks in the "
    "last layer: the attention to the patches of a frame, the mean over heads, on one scale for all frames of a video "
    "(figure 9 of Mug-STAN)."
)


def attention_section(models: Sequence[str], figures: Sequence[str]) -> list[str]:
    """The paragraphs in Markdown; none where no model is asked about.

    Args:
        models: `run.attended`.
        figures: names of the figures that there are.
    """
    if not models:
        return []
    parts = ["## What is attended", CHOICE, READING]
    for model in models:
        links = figure_link(f"attention-{model}", figures)
        parts += [f"### {model}", *(links or ["The dataset has no captions of whole videos in its test split."])]
    return parts
