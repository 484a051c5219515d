"""What the embeddings thesis, VClipper and Mug-STAN concluded, and what this run says to it.

A claim is data: a text, where its source draws it, and the function that measures it on the evidence there is.
To add one, add it to THESIS_CLAIMS (Lindgren 2023, chapters 4 to 6), MOMENT_CLAIMS (Caravaca 2024, chapters 3 to 5) or
MUG_STAN_CLAIMS (Liu et al. 2023, section IV).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillmotion.report import commands, moment_effects, mug_stan_effects, recipe_effects, system_effects
from stillmotion.report.evidence import Evidence
from stillmotion.report.measurement import MARGIN, Measurement
from stillmotion.report.moment_effects import A_LOT
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


THESIS_CLAIMS = (
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
        commands.RETRIEVAL,
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
    Claim("finetuning", "Fine-tuning helps", "4.2", system_effects.finetuning_helps, commands.RETRIEVAL),
    Claim(
        "both_together",
        "Fine-tuning and transformer mean together are above mean pooling of the base model",
        "4.3, 6.1",
        system_effects.both_together,
        commands.RETRIEVAL,
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

THESIS_RULES = (
    "R@1 is text-to-video on the test split; its interval is that of a paired bootstrap over the queries, the value of "
    "a query the mean over the seeds. What is said to cost nothing, or to reach another, is measured against "
    f"−{MARGIN:.0f} points in place of zero. The smaller model is the image model, which sees one frame at a time, "
    "against the X-CLIP that it was expanded to, or the one of two video models that takes fewer frames, given as many "
    "clips as fill one clip of the other. Counted FLOPs have no "
    f"interval: half of the patches must save {HALF_SAVES - TOLERANCE:.0f} to {HALF_SAVES + TOLERANCE:.0f} %. The "
    "interval of the few shots is Student's over the seeds with the test clips taken as given, since no per-clip "
    "results are kept: it is too narrow by what other clips would add."
)

MOMENT_CLAIMS = (
    Claim(
        "smoothing_vc1",
        "Smoothing helps VC1 by a lot",
        "4.2.2, 5",
        moment_effects.smoothing_helps_vc1,
        commands.DEFAULT,
    ),
    Claim(
        "smoothing_vc2",
        "Smoothing helps VC2 by less",
        "4.2.2",
        moment_effects.smoothing_helps_vc2_less,
        commands.DEFAULT,
    ),
    Claim(
        "smoothed_vc1_best",
        "VC1 with smoothing is above VC2 with it",
        "4.2.2, 5",
        moment_effects.smoothed_vc1_is_best,
        commands.DEFAULT,
    ),
    Claim("norm", "`norm` helps", "4.2.2", moment_effects.norm_helps, commands.DEFAULT),
    Claim(
        "adjust_norm",
        "`adjust_norm` helps VC1, and VC2 by mAP",
        "4.2.2",
        moment_effects.adjust_norm_helps,
        commands.MOMENTS,
    ),
    Claim(
        "short_windows",
        "Short windows are the hardest, whatever the method",
        "4.2.2",
        moment_effects.short_windows_are_hardest,
        commands.DEFAULT,
    ),
    Claim(
        "cuts",
        "Cuts in CFSc coincide with the boundaries of true windows",
        "3.7, 5",
        moment_effects.cuts_are_boundaries,
        commands.DEFAULT,
    ),
    Claim(
        "smoothed_frames",
        "Smoothing raises the frame IoU of both methods",
        "4.2.1",
        moment_effects.smoothing_raises_frame_iou,
        commands.MOMENTS,
    ),
    Claim(
        "above_shots",
        "VC1 with smoothing is above shot detection",
        "4.4",
        moment_effects.smoothed_vc1_beats_shots,
        commands.MOMENTS,
    ),
)

MOMENT_RULES = (
    "On the test split, with thresholds searched on the train split: for windows (R1@0.5), but for the claim on frame "
    "IoU, whose thresholds are searched for frames (AP@0.5). Smoothing is `log_smooth_norm` against `none`, and so "
    "with the other post-processings. Differences are in points and paired over the queries (bootstrap). By a lot: "
    f"{A_LOT:.0f} points in place of zero (the source has 22). By less: VC2's gain is above zero, and so is VC1's gain "
    "less VC2's, taken query by query. `adjust_norm` with the range of the train split changes every curve alike, so "
    "that it selects what `none` selects at another λ: the two can differ by the search alone. Short windows have up "
    "to 10 s, middle ones up to 30 s, long ones up to 150 s; two ranges have different queries, so that their means "
    "are drawn apart (unpaired bootstrap), and the claim holds where short is below both. "
    "A true boundary is a start or an end of a true window of any query of a video, "
    "more than one clip from the start and the end of the video; it is found where VC2 starts a scene, at the α of the "
    "search, within one clip of it. The effect is the share of boundaries found, less what as many cuts at random "
    "places of each video would find; its interval is a bootstrap over the videos."
)


MUG_STAN_CLAIMS = (
    Claim(
        "stan",
        "STAN is above mean pooling, fine-tuned alike",
        "IV-D, table V",
        mug_stan_effects.stan_beats_mean_pooling,
        commands.ALIGNMENT,
    ),
    Claim(
        "stan_heads",
        "STAN is above a head behind the tower, fine-tuned alike",
        "I, IV-D, table V",
        mug_stan_effects.stan_beats_posterior_heads,
        commands.HEADS,
    ),
    Claim(
        "mug",
        "Mug is above the plain cosine",
        "IV-D, table V",
        mug_stan_effects.mug_beats_cosine,
        commands.ALIGNMENT,
    ),
    Claim(
        "mug_misaligned",
        "Mug is above the plain cosine where text and video are partially misaligned",
        "I, IV-D, table IX",
        mug_stan_effects.mug_beats_cosine_on_misaligned,
        commands.ALIGNMENT,
    ),
    Claim(
        "mug_bottom",
        "Mug helps most where text and video fit least",
        "IV-D, table IX",
        mug_stan_effects.mug_helps_most_on_bottom,
        commands.ALIGNMENT,
    ),
    Claim(
        "mug_told",
        "Mug helps more the less of its video a caption tells",
        "I, IV-D",
        mug_stan_effects.mug_helps_most_where_least_is_told,
        commands.TOLD,
    ),
    Claim(
        "mug_stan",
        "Mug and STAN together are best of all",
        "IV-D, table V",
        mug_stan_effects.both_are_best,
        commands.ALIGNMENT,
    ),
    Claim(
        "post_pretraining",
        "Post-pretraining on videos with noisy narrations helps after fine-tuning",
        "IV-D, table VI",
        mug_stan_effects.post_pretraining_helps,
        commands.PRETRAINING,
    ),
    Claim(
        "stan_recognition",
        "STAN names motions better than mean pooling, fine-tuned alike",
        "IV-C, table III",
        mug_stan_effects.stan_recognises_motions,
        commands.RECOGNITION,
    ),
)

MUG_STAN_RULES = (
    "R@1 and R@5 are text-to-video on the test split, a video one clip; intervals are those of a paired bootstrap "
    "over the queries. CLIP with mean pooling and STAN are fine-tuned by the first recipe, those with Mug by the "
    "recipe of that name with `_mug` behind it, which differs in the similarity of its loss alone; each is scored by "
    "the similarity that it was trained with. With `_mug_cosine` behind it, Mug's guided embeddings are compared by "
    "their cosine, where the source has their product; in a STAN named `stan_frame_class` each frame has a class token "
    "of its own. Rows with either are marked as ours: the source concludes nothing of them. "
    "Partially misaligned are the levels `middle` and `bottom` (see partial "
    "misalignment); where text and video fit least is `bottom`, and the effect is what Mug gains there less what it "
    "gains on all other queries, two samples that the bootstrap draws apart. How much a caption tells "
    "is the share of a video's events that it leaves out, in the ablations told_cosine and told_mug, told_stan_cosine "
    "and told_stan_mug: Mug's gain where that is largest less "
    "its gain where it is smallest, drawn apart too. The heads are CLIP4Clip's; the tight one is "
    "trained and scored by its own scores of pairs, over frames that are unit vectors, which the source does not make "
    "them before. Mug and STAN together are held against all else in the run that was made of the same CLIP: each "
    "alone, neither, the heads, and other STANs and forms of Mug, each two once. Post-pretraining is held "
    "against fine-tuning at once, by the recipe that fine-tunes both. Dual softmax is part of none of it. A motion is "
    "named by the cosines of a labelled span with the texts of all classes, after fine-tuning on the same by the "
    "recipe `motions`, with the text tower frozen; the bootstrap draws videos with all their spans. Where a recipe "
    "was run with several seeds too, as `<recipe>_seed_<seed>`, the value of a query or span is the mean over them; "
    "intervals take the seeds as given."
)


def claims_table(evidence: Evidence, claims: Sequence[Claim]) -> str:
    """A row for each measurement of each claim; the command that would make them, where the source's are missing."""
    rows = []
    for claim in claims:
        measured = claim.measure(evidence)
        cells = [
            [f"{found.what}{', ours' if found.is_ours else ''}", found.effect, found.verdict] for found in measured
        ]
        if all(found.is_ours for found in measured):
            one_line = claim.command.replace(" \\\n ", "").replace("\n", " && ")
            cells.insert(0, [f"`{one_line}`", "–", "not measured here"])
        for number, row in enumerate(cells):
            rows.append([f"{claim.text} ({claim.source})" if number == 0 else "", *row])
    header = ["conclusion (section)", "measured, or what would measure it", "effect", "verdict"]
    return markdown_table(header, rows, left=2)
