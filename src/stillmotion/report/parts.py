"""What the page of results shows of a task beside its systems: what was searched, assessed, counted and attended to."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from stillmotion.claims.evidence import Evidence
from stillmotion.report import charts, costs, moments, trainings, video_llms
from stillmotion.report.tables import HeatTable


@dataclass(frozen=True)
class Part:
    """What stands in a section under a heading of its own."""

    title: str
    """Empty for what is said of those that follow."""
    note: str
    tables: Sequence[str] = ()
    heats: Sequence[HeatTable] = ()
    lines: Sequence[charts.LineChart] = ()
    folded: str = ""
    """What says of the lines that there are some, where they are unfolded by it."""
    picture: str = ""
    """A data URL."""
    shown: str = ""
    """The picture in words."""
    file: str = ""
    """Where the picture lies by itself."""


MOST_PICTURE_BYTES = 3 * 2**20
"""Of figures inside the page, which is to stay below 5 MiB; others are linked."""
THRESHOLDS = (
    "Searched on the train split alone. λ is the least similarity, β the least confidence of a scene, α the CFSc below "
    "which a scene ends, p the share of a scene's frames that its confidence is of, M the window of the smoothing. "
    "Importance is the share in the variance of the objective over the trials."
)
LENGTHS = (
    "Mean average precision over true windows of up to 10 s, of 10 to 30 s and of 30 to 150 s, as the official "
    "evaluator has it, of all but selections whose thresholds are for frames."
)
FINETUNED = (
    "The epoch with the highest validation score is kept, a dot in the chart: R@1 of captions or top-1 of actions in "
    "%, and of a video LLM that learns to write the loss, negated."
)
ASSESSMENT = (
    "How well a model's frames tell a query's moments from the rest, before any threshold is searched: mean IoU on the "
    "train split of the frames that VC1 with `norm` selects at each λ (section 4.2 of VClipper)."
)
ARCHITECTURES = (
    "Counted, with nothing but the embeddings frozen and all patches kept, or of a video LLM the pass of one video; "
    "then what patch dropout leaves of the forward pass and frozen blocks of the backward pass."
)
STATES = (
    "Text-to-video MRR on the test split by the cosine of hidden states, nothing trained and nothing chosen: a state "
    "of each token, pooled over the video and over the text, where the visual tokens enter the language model "
    "(`before_llm`) and behind its last layer."
)
SWEEP = (
    "Text-to-video MRR on the validation split at each layer that was kept, by the poolings of the video and of the "
    "text. What is framed is highest, and chosen: its MRR on the test split stands above."
)
HEADS = (
    "Networks over hidden states that are trained to bring a video and its texts together (figures 1 to 10 of the "
    "report). Losses are means over the seeds after the last epoch, and compare between heads of one loss alone."
)
BRANCHES = "A multiple of the CLIP that it stands beside."
ATTENDED = (
    "Captions of the test split and their own videos, chosen before anything was known of how they fit. Bars are how "
    "much each frame counts for the caption (above) and each token for the video (below) by Mug, the dashed line how "
    "much all would count alike; between them are the frames, and the cosines of each frame with each token (figure 10 "
    "of Mug-STAN). Red in the frames of a STAN is where the class token of its branch looks in the last layer, the "
    "mean over heads, on one scale for a video (figure 9)."
)


def parts_of_sections(
    evidence: Evidence, trained: Mapping[str, trainings.Histories], figures: Path
) -> dict[str, list[Part]]:
    """What else was measured, by task; a part without a table is left out.

    Args:
        evidence: what has been measured.
        trained: epochs by folder of plots/.
        figures: the folder of the figures.
    """
    searched = (moments.thresholds_table(evidence), moments.importances_table(evidence))
    assessed = (moments.assessment_table(evidence),)
    heads = trained["train_aggregator"]
    losses, aligned = video_llms.loss_charts(heads), (video_llms.heads_table(evidence, heads),)
    chosen, swept = (video_llms.best_layers_table(evidence),), video_llms.sweep_tables(evidence)
    found = {
        "retrieval": [
            Part("Hidden states of video LLMs", STATES, heats=video_llms.poolings_tables(evidence)),
            Part("The best layer", SWEEP, chosen, swept),
            Part("Heads that align hidden states", HEADS, aligned, lines=losses, folded="Losses by epoch"),
        ],
        "moments": [
            Part("By the length of the true windows", LENGTHS, heats=moments.lengths_tables(evidence)),
            Part("Thresholds", THRESHOLDS, searched, lines=charts.search_charts(evidence)),
            Part("Assessment of models", ASSESSMENT, assessed, lines=charts.assessment_charts(evidence)),
        ],
        "finetune": [
            Part(
                "",
                FINETUNED,
                (trainings.finetuned_table(trained["finetune"]),),
                lines=trainings.finetune_charts(trained["finetune"]),
            )
        ],
        "resources": [
            Part("Full-size architectures", ARCHITECTURES, (costs.architectures_table(evidence),)),
            Part("What a STAN branch costs", BRANCHES, (costs.branches_table(evidence),)),
        ],
    }
    measured = {task: [part for part in of_task if any(part.tables) or part.heats] for task, of_task in found.items()}
    return measured | {"attention": _attended(figures)}


def _attended(figures: Path) -> list[Part]:
    """What each model attends to, a picture each: inside the page while there is room, and beside it."""
    parts, room = list[Part](), MOST_PICTURE_BYTES
    for path in sorted(figures.glob("attention-*.svg")):
        model, picture = path.stem.removeprefix("attention-"), ""
        url = f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
        if len(url) <= room:
            picture, room = url, room - len(url)
        shown = f"Frames of test videos with what {model} attends to in them and in their captions"
        file = f"{quote(figures.name)}/{quote(path.name)}"
        parts.append(Part(model, "", picture=picture, shown=shown, file=file))
    return [Part("", ATTENDED), *parts] if parts else []
