"""What the embeddings thesis concluded, and what this run says to it.

A claim is data: a text, where its source draws it, and the function that measures it on the evidence there is.
To add one, add it to CLAIMS. Source: Lindgren 2023, chapters 4 to 6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillmotion.report import commands, recipe_effects, system_effects
from stillmotion.report.evidence import Evidence
from stillmotion.report.measurement import MARGIN, Measurement
from stillmotion.report.recipe_effects import HALF_SAVES, TOLERANCE
from stillmotion.report.tables import markdown_table


@dataclass(frozen=True)
class Claim:
    """A conclusion of a publication."""

    id: str
    text: str
    source: str
    """Section in which it is drawn."""
    measure: Callable[[Evidence], list[Measurement]]
    """No measurement where the evidence for it was not made."""
    command: str
    """What makes that evidence."""


CLAIMS = (
    Claim(
        "more_frames",
        "More frames through aggregation help",
        "4.3, 5.2",
        system_effects.more_frames,
        commands.AGGREGATORS,
    ),
    Claim(
        "small_reaches_large",
        "A smaller model with aggregation reaches a larger one",
        "5.2, 6.1",
        system_effects.small_reaches_large,
        commands.BUILT_IN_XCLIP,
    ),
    Claim(
        "trained_beats_mean",
        "Trained aggregation (transformer mean) beats mean pooling",
        "4.3.2",
        system_effects.trained_beats_mean,
        commands.AGGREGATORS,
    ),
    Claim(
        "class_token_below",
        "The class token is below the transformer mean",
        "4.3.3, 5.2",
        system_effects.class_token_is_below,
        commands.AGGREGATORS,
    ),
    Claim("finetuning", "Fine-tuning helps", "4.2", system_effects.finetuning_helps, commands.BUILT_IN_XCLIP),
    Claim(
        "both_together",
        "Fine-tuning and transformer mean together are above mean pooling of the base model",
        "4.3, 6.1",
        system_effects.both_together,
        commands.BUILT_IN_XCLIP,
    ),
    Claim(
        "only_embeddings_frozen",
        "Freezing the embeddings alone is best",
        "4.5.3",
        recipe_effects.only_embeddings_frozen_is_best,
        "stillmotion ablate frozen_blocks",
    ),
    Claim(
        "frozen_blocks_flops",
        "Freezing blocks makes a training step cheaper",
        "6.1",
        recipe_effects.frozen_blocks_save_flops,
        commands.ARCHITECTURES,
    ),
    Claim(
        "half_patches",
        "Half of the patches cost no R@1",
        "4.5.4",
        recipe_effects.half_the_patches_cost_nothing,
        commands.KEEP_RATES,
    ),
    Claim(
        "half_patches_flops",
        "Half of the patches save about 45 % of the forward FLOPs",
        "4.5.4",
        recipe_effects.half_the_patches_save_flops,
        commands.ARCHITECTURES,
    ),
    Claim(
        "adamw",
        "AdamW is above SGD",
        "4.5.2",
        recipe_effects.adamw_beats_sgd,
        commands.LEARNING_RATES,
    ),
    Claim(
        "larger_batches",
        "Larger batches help fine-tuning",
        "4.5.1",
        recipe_effects.larger_batches_help_finetuning,
        "stillmotion ablate batch_size",
    ),
    Claim(
        "larger_batches_aggregator",
        "Larger batches help training the aggregator",
        "4.5.1",
        recipe_effects.larger_batches_help_aggregators,
        "stillmotion ablate aggregator_batch_size",
    ),
    Claim(
        "few_shots",
        "2 to 4 samples a class reach zero-shot",
        "4.6, 5.2",
        system_effects.few_shots_reach_zero_shot,
        commands.SHOTS,
    ),
)

RULES = (
    "R@1 is text-to-video on the test split; its interval is that of a paired bootstrap over the queries, the value of "
    "a query the mean over the seeds. A claim holds where the 95 % interval lies wholly on the claimed side of zero, "
    "does not hold where it lies wholly on the other, and is undecided where it contains zero. What is said to cost "
    f"nothing, or to reach another, is measured against −{MARGIN:.0f} points in place of zero. The smaller model is "
    "the image model, which sees one frame at a time, against the X-CLIP that it was expanded to, or the one of two "
    "video models that takes fewer frames, given as many clips as fill one clip of the other. Counted FLOPs have no "
    f"interval: half of the patches must save {HALF_SAVES - TOLERANCE:.0f} to {HALF_SAVES + TOLERANCE:.0f} %. The "
    "interval of the few shots is Student's over the seeds with the test clips taken as given, since no per-clip "
    "results are kept: it is too narrow by what other clips would add."
)


def claims_table(evidence: Evidence, claims: Sequence[Claim] = CLAIMS) -> str:
    """A row for each measurement of each claim, or the command that would make it."""
    rows = []
    for claim in claims:
        measured = claim.measure(evidence)
        cells = [[found.what, found.effect, found.verdict] for found in measured]
        one_line = claim.command.replace(" \\\n ", "").replace("\n", " && ")
        for number, row in enumerate(cells or [[f"`{one_line}`", "–", "not measured here"]]):
            rows.append([f"{claim.text} ({claim.source})" if number == 0 else "", *row])
    header = ["conclusion (section)", "measured, or what would measure it", "effect", "verdict"]
    return markdown_table(header, rows, left=2)
