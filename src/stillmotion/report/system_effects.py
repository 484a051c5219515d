"""Effects between the systems of one run: more clips, other aggregators, fine-tuning, few shots.

Each function gives a measurement for every model that there is evidence for, and none where there is none.
"""

from collections.abc import Iterable

from scipy import stats

from stillmotion.report.differences import num_clips
from stillmotion.report.evidence import Evidence, FineTuned
from stillmotion.report.measurement import MARGIN, Measurement, compared, judge

FEW_SHOTS = 4
XCLIP = "xclip"
"""What the names of X-CLIP's expansions in params.yaml begin with."""

System = tuple[str, str, int]
"""A model, an aggregator and a number of clips."""


def more_frames(evidence: Evidence) -> list[Measurement]:
    """The most clips against one, by mean and by transformer mean."""
    return _differences(
        evidence,
        [
            ((model, aggregator, most), (model, aggregator, 1))
            for aggregator in ("mean", "transformer_mean")
            for model in _models(evidence)
            if (most := evidence.most_clips(model, aggregator)) > 1
        ],
    )


def small_reaches_large(evidence: Evidence) -> list[Measurement]:
    """Fewer frames at once, aggregated, against more frames at once; both base, or both fine-tuned alike.

    Of two video models the smaller gets as many clips as fill one clip of the larger, so that both see the same
    number of frames. An image model sees one frame at a time and has fewer parameters than the X-CLIP that it was
    expanded to: it gets the most clips there are, and the video model one.
    """
    run = evidence.run
    tuned = [found.model for found in _tuned(evidence)]
    pairs: list[tuple[System, System]] = []
    for models in (evidence.base_models, tuned):
        frames = {model: _clip_frames(evidence, model) for model in models}
        pairs += [
            ((small, "transformer_mean", frames[large] // frames[small]), (large, "mean", 1))
            for small in models
            for large in models
            if 0 < frames[small] < frames[large] and frames[large] % frames[small] == 0
        ]
    for recipe in evidence.retrieving_recipes[:1]:
        for base in run.expanded:
            small = f"{base}-{recipe}"
            most = evidence.most_clips(small, "transformer_mean")
            for expansion in run.expansions:
                if not expansion.startswith(XCLIP):  # the thesis knows no other
                    continue
                pairs.append(((small, "transformer_mean", most), (f"{base}_{expansion}-{recipe}", "mean", 1)))
    return _differences(evidence, pairs, MARGIN)


def trained_beats_mean(evidence: Evidence) -> list[Measurement]:
    """Transformer mean against mean, both with the most clips."""
    return _differences(
        evidence, [_aggregators(evidence, model, "transformer_mean", "mean") for model in _models(evidence)]
    )


def class_token_is_below(evidence: Evidence) -> list[Measurement]:
    """Transformer mean against class token with the most clips, for base models: the thesis has no others."""
    return _differences(
        evidence,
        [_aggregators(evidence, model, "transformer_mean", "class_token") for model in evidence.base_models],
    )


def finetuning_helps(evidence: Evidence) -> list[Measurement]:
    """Fine-tuned models against their base, one clip each."""
    return _differences(evidence, [((found.model, "mean", 1), (found.base, "mean", 1)) for found in _tuned(evidence)])


def both_together(evidence: Evidence) -> list[Measurement]:
    """Fine-tuned with transformer mean against mean pooling of the backbone that it all began with."""
    run = evidence.run
    origin = {f"{base}_{expansion}": base for base in run.expanded for expansion in run.expansions}
    pairs: list[tuple[System, System]] = []
    for found in _tuned(evidence):
        most = evidence.most_clips(found.model, "transformer_mean")
        pairs.append(((found.model, "transformer_mean", most), (origin.get(found.base, found.base), "mean", most)))
    return _differences(evidence, pairs)


def few_shots_reach_zero_shot(evidence: Evidence) -> list[Measurement]:
    """A probe with four samples a class against zero-shot; Student's interval over the seeds, the clips as given."""
    found = []
    for model in evidence.run.probed:
        if model not in evidence.run.embedded:
            continue
        values = evidence.metrics["actions"][model]
        shots = sorted(map(int, values["top1"]))
        if FEW_SHOTS not in shots:
            continue
        zero_shot, probe = values["zero_shot"]["top1"], values["top1"][str(FEW_SHOTS)]
        above = [shot for shot in shots if values["top1"][str(shot)]["mean"] > zero_shot]
        first = f"first above it with {above[0]}" if above else f"above it with none of {shots[0]} to {shots[-1]}"
        difference, num_seeds = probe["mean"] - zero_shot, len(probe["runs"])
        half, interval = float("inf"), "one seed"
        if num_seeds > 1:
            half = float(stats.t.ppf(0.975, num_seeds - 1)) * probe["std"] / num_seeds**0.5
            interval = f"{difference - half:+.1f} to {difference + half:+.1f}"
        found.append(
            Measurement(
                f"{model}, top-1 with {FEW_SHOTS} shots − zero-shot; {first}",
                f"{difference:+.1f} points ({interval})",
                judge(difference - half, difference + half),
            )
        )
    return found


def _differences(evidence: Evidence, pairs: Iterable[tuple[System, System]], margin: float = 0.0) -> list[Measurement]:
    """Those of the pairs of which both are measured."""
    found = []
    for first, second in pairs:
        first_Q, second_Q = evidence.hits_at(*first), evidence.hits_at(*second)
        if first_Q is not None and second_Q is not None:
            found.append(compared(evidence, _named(first, second), first_Q, second_Q, margin))
    return found


def _named(first: System, second: System) -> str:
    """`a-mean (4 clips) − b-mean (1 clip)`, and for one system `a-mean: 4 clips − 1 clip`."""
    (_, _, many), (_, _, few) = first, second
    if first[:2] == second[:2]:
        return f"{first[0]}-{first[1]}: {num_clips(many)} − {num_clips(few)}"
    return " − ".join(f"{model}-{aggregator} ({num_clips(clips)})" for model, aggregator, clips in (first, second))


def _tuned(evidence: Evidence) -> list[FineTuned]:
    """The models of the first recipe: the others are variants of it."""
    return [found for found in evidence.finetuned if found.recipe in evidence.retrieving_recipes[:1]]


def _models(evidence: Evidence) -> list[str]:
    return evidence.base_models + [found.model for found in _tuned(evidence)]


def _aggregators(evidence: Evidence, model: str, first: str, second: str) -> tuple[System, System]:
    most = evidence.most_clips(model, first)
    return (model, first, most), (model, second, most)


def _clip_frames(evidence: Evidence, model: str) -> int:
    """Frames that the model looks at in one clip, 0 where that is not measured."""
    measured = evidence.metrics["retrieval"].get(f"{model}-mean")
    return measured["protocol"]["clip_frames"] if measured else 0
