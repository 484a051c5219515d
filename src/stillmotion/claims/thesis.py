"""What the embeddings thesis concludes (Lindgren 2023, chapters 4 to 6)."""

from collections.abc import Sequence
from math import nan
from typing import Any

import pandas as pd
from scipy import stats

from stillmotion.claims.claim import Source
from stillmotion.claims.compare import Measurement, Row, Verdict, compare, compared, judged, pairs
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.studies import Point
from stillmotion.claims.systems import MODEL, Origin, origins_of, records, select, settings_but

MARGIN = 2.0
"""Points of R@1 by which what is said to cost nothing, or to reach another, may be below it."""
HALF_SAVES, TOLERANCE = 45.0, 3.0
"""Percent of the forward FLOPs that half of the patches save (table 4.10), and how near to it counts."""
FEW_SHOTS = 4

MEAN, TRANSFORMER_MEAN = {"scorer.kind": "mean"}, {"scorer.kind": "transformer_mean"}
MOST_CLIPS = {"has_most_clips": True}

THESIS = Source(
    title="the embeddings thesis (Lindgren 2023)",
    rules=(
        "R@1 is text-to-video on the test split; its interval is that of a paired bootstrap over the queries, the "
        "value of a query the mean over the seeds. What is said to cost nothing, or to reach another, is measured "
        f"against −{MARGIN:.0f} points in place of zero. Models are those that are not fine-tuned, and those of the "
        "first recipe that fine-tunes on captions: the others are variants of it."
    ),
)


def _recalls(evidence: Evidence, **where: Any) -> pd.DataFrame:
    """R@1 of the models that claims are about."""
    return select(evidence.of("R@1"), {"recipe": (None, evidence.recipe)} | where)


def _compare(
    evidence: Evidence, frame: pd.DataFrame, better: Row, worse: Row, within: tuple[str, ...], margin: float = 0.0
) -> list[Measurement]:
    return compare(frame, better=better, worse=worse, within=within, draws=evidence.draws, margin=margin)


@THESIS.claim("More frames through aggregation help", section="4.3, 5.2", experiment="aggregators")
def more_frames(evidence: Evidence) -> list[Measurement]:
    frames = [select(_recalls(evidence), kind) for kind in (MEAN, TRANSFORMER_MEAN)]
    within = (*MODEL, "scorer")
    return [row for frame in frames for row in _compare(evidence, frame, MOST_CLIPS, {"clips": 1}, within)]


@THESIS.claim(
    "A smaller model with aggregation reaches a larger one",
    section="5.2, 6.1",
    rule=(
        "The smaller model is the one of two video models that takes fewer frames, given as many clips as fill one "
        "clip of the other, or the image model, which sees one frame at a time, against the X-CLIP that it was "
        "expanded to."
    ),
    experiment="retrieval",
)
def small_reaches_large(evidence: Evidence) -> list[Measurement]:
    recalls = _recalls(evidence)
    # where the frames of a clip are not known, nan is like no other number of frames
    recalls["frames"] = [row["clips"] * row.get("protocol.clip_frames", nan) for row in records(recalls)]
    several, one = TRANSFORMER_MEAN | {"clips": lambda clips: clips > 1}, MEAN | {"clips": 1}
    found = _compare(evidence, recalls, several, one, ("recipe", "frames"), MARGIN)
    tuned = select(recalls, {"recipe": evidence.recipe})
    image_model, xclip = TRANSFORMER_MEAN | MOST_CLIPS | {"expansion": None}, one | {"expansion.family": "xclip"}
    return found + _compare(evidence, tuned, image_model, xclip, ("base", "recipe", "pretraining"), MARGIN)


@THESIS.claim("Trained aggregation (transformer mean) beats mean pooling", section="4.3.2", experiment="aggregators")
def trained_beats_mean(evidence: Evidence) -> list[Measurement]:
    return _compare(evidence, _recalls(evidence), TRANSFORMER_MEAN | MOST_CLIPS, MEAN, (*MODEL, "clips"))


@THESIS.claim(
    "The class token is below the transformer mean",
    section="4.3.3, 5.2",
    rule="Of models that are not fine-tuned: the thesis has no others.",
    experiment="aggregators",
)
def class_token_is_below(evidence: Evidence) -> list[Measurement]:
    frame, class_token = _recalls(evidence, recipe=None), {"scorer.kind": "class_token"}
    return _compare(evidence, frame, TRANSFORMER_MEAN | MOST_CLIPS, class_token, (*MODEL, "clips"))


@THESIS.claim("Fine-tuning helps", section="4.2", experiment="retrieval")
def finetuning_helps(evidence: Evidence) -> list[Measurement]:
    frame = select(_recalls(evidence, clips=1), MEAN)
    return _compare(evidence, frame, {"recipe": evidence.recipe}, {"recipe": None}, MODEL[:3])


@THESIS.claim(
    "Fine-tuning and transformer mean together are above mean pooling of the base model",
    section="4.3, 6.1",
    experiment="retrieval",
)
def both_together(evidence: Evidence) -> list[Measurement]:
    both = TRANSFORMER_MEAN | MOST_CLIPS | {"recipe": evidence.recipe}
    base = MEAN | {"recipe": None, "expansion": None, "pretraining": None}
    return _compare(evidence, _recalls(evidence), both, base, ("base", "clips"))


@THESIS.claim("Freezing the embeddings alone is best", section="4.5.3", experiment="frozen_blocks")
def only_embeddings_frozen_is_best(evidence: Evidence) -> list[Measurement]:
    study = evidence.study("frozen_blocks")
    none = study.at(0) if study else None
    rivals = [point for point in study.points if point is not none] if study else []
    if none is None or not rivals:
        return []
    best = max(rivals, key=lambda point: point.validation)
    found = [_over(evidence, f"0 blocks frozen − {_depth(best)} (the best other on validation)", none, best)]
    counted = [point for point in rivals if isinstance(point.value, int)]
    deepest = max(counted, key=lambda point: point.value, default=best)
    if deepest is not best:
        found.append(_over(evidence, f"0 blocks frozen − {_depth(deepest)}", none, deepest))
    return found


def _depth(point: Point) -> str:
    """`3 blocks frozen`; a point that has a name stands for itself, such as `nothing`."""
    return f"{point.value} blocks frozen" if isinstance(point.value, int) else str(point.value)


def _over(evidence: Evidence, what: str, first: Point, second: Point, margin: float = 0.0) -> Measurement:
    study = evidence.study(first.origin.key)
    told = f"{what} ({study.about})" if study else what
    return compared(told, first.hits_Q, second.hits_Q, (first.origin, second.origin), evidence.draws, margin)


@THESIS.claim(
    "Freezing blocks makes a training step cheaper",
    section="6.1",
    rule="By the most blocks, with all patches kept; counted FLOPs have no interval.",
    experiment="resources",
)
def frozen_blocks_save_flops(evidence: Evidence) -> list[Measurement]:
    found = []
    for name, counted in evidence.architectures.items():
        steps = {step["frozen_blocks"]: step["backward_flops"] for step in counted["steps"] if step["keep_rate"] == 1}
        most = max(steps, default=0)
        if most and 0 in steps:
            saved = 100 * (1 - steps[most] / steps[0])
            what = f"{name}: saved of the backward pass by {most} frozen blocks"
            verdict: Verdict = "holds" if saved > 0 else "does not hold"
            found.append(Measurement(what, f"{saved:.1f} % (counted)", verdict, [Origin("resources", name)]))
    return found


@THESIS.claim(
    "Half of the patches cost no R@1",
    section="4.5.4",
    rule="In the study, and between models whose recipes differ in the keep rate alone, with one clip.",
    experiment="patch_keep_rate",
)
def half_the_patches_cost_nothing(evidence: Evidence) -> list[Measurement]:
    study, found = evidence.study("patch_keep_rate"), []
    half, whole = (study.at(0.5), study.at(1.0)) if study else (None, None)
    if half is not None and whole is not None:
        found.append(_over(evidence, "keep rate 0.5 − 1", half, whole, MARGIN))
    recalls = select(evidence.of("R@1"), MEAN | {"clips": 1, "recipe": lambda recipe: recipe is not None})
    recalls["alike"] = settings_but(recalls, "patch_keep_rate")
    halved, kept = ({"recipe.patch_keep_rate": rate} for rate in (0.5, 1.0))
    return found + _compare(evidence, recalls, halved, kept, (*MODEL[:3], "alike"), MARGIN)


@THESIS.claim(
    "Half of the patches save about 45 % of the forward FLOPs",
    section="4.5.4",
    rule=(
        f"Half of the patches must save {HALF_SAVES - TOLERANCE:.0f} to {HALF_SAVES + TOLERANCE:.0f} %; counted FLOPs "
        "have no interval."
    ),
    experiment="resources",
)
def half_the_patches_save_flops(evidence: Evidence) -> list[Measurement]:
    costs: dict[str, tuple[float, float, Sequence[Origin]]] = {}
    for name, counted in evidence.architectures.items():
        steps = {step["keep_rate"]: step["forward_flops"] for step in counted["steps"] if not step["frozen_blocks"]}
        if 0.5 in steps and 1.0 in steps:
            costs[name] = (steps[0.5], steps[1.0], (Origin("resources", name),))
    resources = select(evidence.systems, {"task": "resources"})
    halves = {"recipe": evidence.recipe, "recipe.patch_keep_rate": 0.5}
    for pair in pairs(resources, better=halves, worse={"recipe": None}, within=MODEL[:3]):
        half, whole = (row["metrics"]["forward_flops"] for row in (pair.better, pair.worse))
        costs[pair.worse["key"]] = (half, whole, pair.origins)
    found = []
    for name, (half, whole, origins) in costs.items():
        saved = 100 * (1 - half / whole)
        verdict: Verdict = "holds" if abs(saved - HALF_SAVES) <= TOLERANCE else "does not hold"
        found.append(Measurement(f"{name}: saved at keep rate 0.5", f"{saved:.1f} % (counted)", verdict, origins))
    return found


@THESIS.claim(
    "AdamW is above SGD",
    section="4.5.2",
    rule="Each at its best learning rate on validation.",
    experiment=("learning_rate_adamw", "learning_rate_sgd"),
)
def adamw_beats_sgd(evidence: Evidence) -> list[Measurement]:
    studies = [evidence.study(name) for name in ("learning_rate_adamw", "learning_rate_sgd")]
    adamw, sgd = (study.chosen() if study else None for study in studies)
    if adamw is None or sgd is None:
        return []
    what = f"AdamW at {adamw.value} − SGD at {sgd.value}, each the best on validation"
    return [_over(evidence, what, adamw, sgd)]


@THESIS.claim("Larger batches help fine-tuning", section="4.5.1", experiment="batch_size")
def larger_batches_help_finetuning(evidence: Evidence) -> list[Measurement]:
    return _largest_and_smallest(evidence, "batch_size")


@THESIS.claim("Larger batches help training the aggregator", section="4.5.1", experiment="aggregator_batch_size")
def larger_batches_help_aggregators(evidence: Evidence) -> list[Measurement]:
    return _largest_and_smallest(evidence, "aggregator_batch_size")


def _largest_and_smallest(evidence: Evidence, name: str) -> list[Measurement]:
    study = evidence.study(name)
    points = [point for point in study.points if isinstance(point.value, int)] if study else []
    points.sort(key=lambda point: point.value)
    if len(points) < 2:
        return []
    small, large = points[0], points[-1]
    return [_over(evidence, f"batches of {large.value} − batches of {small.value}", large, small)]


@THESIS.claim(
    "2 to 4 samples a class reach zero-shot",
    section="4.6, 5.2",
    rule=(
        "Of models that are not fine-tuned. The interval is Student's over the seeds with the test clips taken as "
        "given, since no per-clip results are kept: it is too narrow by what other clips would add."
    ),
    experiment="shots",
)
def few_shots_reach_zero_shot(evidence: Evidence) -> list[Measurement]:
    found = []
    for row in records(select(evidence.systems, {"task": "actions", "recipe": None})):
        values = row["metrics"]
        shots = sorted(map(int, values["top1"]))
        if FEW_SHOTS not in shots:
            continue
        zero_shot, probe = values["zero_shot"]["top1"], values["top1"][str(FEW_SHOTS)]
        above = [shot for shot in shots if values["top1"][str(shot)]["mean"] > zero_shot]
        first = f"first above it with {above[0]}" if above else f"above it with none of {shots[0]} to {shots[-1]}"
        what = f"{row['key']}, top-1 with {FEW_SHOTS} shots − zero-shot; {first}"
        points, num_seeds = probe["mean"] - zero_shot, len(probe["runs"])
        if num_seeds > 1:
            half = float(stats.t.ppf(0.975, num_seeds - 1)) * probe["std"] / num_seeds**0.5
            found.append(judged(what, points, points - half, points + half, origins_of(row)))
        else:
            found.append(Measurement(what, f"{points:+.1f} points (one seed)", "undecided", origins_of(row)))
    return found
