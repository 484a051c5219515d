"""Effects of STAN and Mug, between fine-tuned models of one run.

CLIP and its STAN are fine-tuned alike, by the first recipe; Mug's models by the recipe of that name with `_mug` behind
it, which differs in the similarity of its loss alone, or `_mug_cosine`, which takes the cosine of the guided embeddings
in place of their product; those for recognition by the recipe `motions`, which has no part in retrieval. That form of
Mug is ours, and so is a STAN with class tokens of single frames. The heads of CLIP4Clip are fine-tuned as
STAN is, and what was post-pretrained as the same model without that. A recipe may have variants that differ in the seed
alone, with `_seed_<seed>` behind the name: the value of a query is its mean over those that were run. A model is scored
by the similarity that it was trained with, and a video is one clip. Each function gives a measurement for every CLIP
that there is evidence for; those of retrieval give one by R@1 and one by R@5, the first columns of the source's tables:
few queries of a small gallery are found first.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from stillmotion.report.differences import clustered_difference, unpaired_difference
from stillmotion.report.evidence import RECOGNITION_RECIPE, Evidence, Recall
from stillmotion.report.measurement import Measurement, compared, judge
from stillmotion.report.recipe_effects import ablation_points

STAN = "stan"
"""What the names of STAN's expansions in params.yaml begin with."""
MUG_RECIPES = {"_mug": "mug", "_mug_cosine": "mug_cosine"}
"""What stands behind the name of a recipe that trains by a form of Mug, and the alignment that scores by that form."""
OURS = ("mug_cosine", "stan_frame_class")
"""What is in the names of systems that the source does not have: the form of Mug, and the STAN."""
RECALLS: tuple[Recall, ...] = (1, 5)
TOLD = {"clip": "told_cosine", "stan": "told_stan_cosine", "mug": "told_mug", "mug_stan": "told_stan_mug"}
"""The ablations of how much captions tell, by what they fine-tune."""
MISALIGNED = ("middle", "bottom")
"""The levels of which the source speaks as partial misalignment."""
COSINES = ("mean", "cosine")
"""Two names of one system where a video is one clip: an aggregator and an alignment."""
HEADS = {"seq_lstm": COSINES, "seq_transf": COSINES, "tight_transf": ("tight_transformer",)}
"""The expansions that are CLIP4Clip's heads with weights, and what scores them."""


@dataclass(frozen=True)
class Found:
    """A system that was measured."""

    system: str
    """As it is called with the first of its seeds."""
    hits_Q: np.ndarray
    """The mean over the seeds."""
    num_seeds: int


def stan_beats_mean_pooling(evidence: Evidence) -> list[Measurement]:
    """STAN against its CLIP, both fine-tuned with cosines."""
    found = []
    for k in RECALLS:
        pairs = {
            arms["stan"].system: (arms["stan"], arms["clip"])
            for arms in _ablations(evidence, k=k)
            if "stan" in arms and "clip" in arms
        }
        found += [_compared(evidence, stan, clip, k=k) for stan, clip in pairs.values()]
    return found


def stan_beats_posterior_heads(evidence: Evidence) -> list[Measurement]:
    """STAN against CLIP4Clip's heads on the same CLIP, all fine-tuned with cosines but the tight one."""
    run, found = evidence.run, []
    for k in RECALLS:
        for recipe in _recipes_of_cosines(evidence):
            for base, name in product(run.expanded, _stan_expansions(evidence)):
                stan = _retrieving(evidence, f"{base}_{name}", recipe, *COSINES, k=k)
                if stan is not None:
                    found += [_compared(evidence, stan, head, k=k) for head in _heads(evidence, base, recipe, k=k)]
    return found


def post_pretraining_helps(evidence: Evidence) -> list[Measurement]:
    """What was post-pretrained and then fine-tuned against the same fine-tuned at once, by the first recipe."""
    run, found = evidence.run, []
    for k in RECALLS:
        for recipe in evidence.retrieving_recipes[:1]:
            forms = [alignment for ending, alignment in MUG_RECIPES.items() if recipe.endswith(ending)]
            heads = forms or COSINES
            for base, corpus, training in product(run.post_pretrained, run.corpora, run.post_pretraining):
                after = _retrieving(evidence, f"{base}_{corpus}_{training}", recipe, *heads, k=k)
                without = _retrieving(evidence, base, recipe, *heads, k=k)
                if after is not None and without is not None:
                    found.append(_compared(evidence, after, without, k=k))
    return found


def mug_beats_cosine(evidence: Evidence) -> list[Measurement]:
    """Mug against cosine, with CLIP and with STAN."""
    return [_compared(evidence, mug, cosine, k=k) for k in RECALLS for mug, cosine in _mug_pairs(evidence, k=k)]


def mug_beats_cosine_on_misaligned(evidence: Evidence) -> list[Measurement]:
    """Mug against cosine on the queries of the levels `middle` and `bottom`, with CLIP and with STAN."""
    is_misaligned_Q = np.isin(evidence.levels.level_Q, MISALIGNED)
    if not is_misaligned_Q.any():
        return []
    return [
        compared(
            evidence,
            f"{mug.system} − {cosine.system} on the {np.sum(is_misaligned_Q)} queries of `middle` and `bottom` "
            f"(R@{k}, {_seeds(mug, cosine)})",
            mug.hits_Q[is_misaligned_Q],
            cosine.hits_Q[is_misaligned_Q],
            is_ours=_are_ours(mug, cosine),
        )
        for k in RECALLS
        for mug, cosine in _mug_pairs(evidence, k=k)
    ]


def mug_helps_most_on_bottom(evidence: Evidence) -> list[Measurement]:
    """What Mug gains on queries of the level `bottom` against what it gains on the others, which are drawn apart."""
    is_bottom_Q = evidence.levels.level_Q == "bottom"
    if not 0 < np.sum(is_bottom_Q) < len(is_bottom_Q):
        return []
    found = []
    for k in RECALLS:
        for mug, cosine in _mug_pairs(evidence, k=k):
            gain_Q = mug.hits_Q - cosine.hits_Q
            difference, low, high = unpaired_difference(
                gain_Q[is_bottom_Q], gain_Q[~is_bottom_Q], seed=evidence.seed, num_resamples=evidence.num_resamples
            )
            found.append(
                Measurement(
                    f"{mug.system} − {cosine.system}: gain on the {np.sum(is_bottom_Q)} queries of `bottom` − gain on "
                    f"the others (R@{k}, {_seeds(mug, cosine)})",
                    f"{difference:+.1f} points ({low:+.1f} to {high:+.1f})",
                    judge(low, high),
                    _are_ours(mug, cosine),
                )
            )
    return found


def mug_helps_most_where_least_is_told(evidence: Evidence) -> list[Measurement]:
    """What Mug gains where captions leave most of a video's events out against where they leave out least.

    From the ablations of `TOLD`, which set their own dataset, whichever is active; the queries of two values are drawn
    apart. Those that were run at different commits or params, so that their queries differ, are named and not compared.
    """
    arms_of, found = _told(evidence), []
    if arms_of is None:
        names = ", ".join(name for name in TOLD.values() if name in evidence.ablations)
        what = f"{names} differ in their test queries; run `stillmotion ablate` for each of them at one commit"
        return [Measurement(what, "–", "not comparable")]
    for mug, cosine in (("mug", "clip"), ("mug_stan", "stan")):
        pairs = {value: (arms[mug], arms[cosine]) for value, arms in arms_of.items() if mug in arms and cosine in arms}
        if len(pairs) < 2:
            continue
        least, most = min(pairs), max(pairs)
        gains = {value: first.hits_Q - second.hits_Q for value, (first, second) in pairs.items()}
        difference, low, high = unpaired_difference(
            gains[most], gains[least], seed=evidence.seed, num_resamples=evidence.num_resamples
        )
        first, second = pairs[most]
        counts = sorted({arm.num_seeds for pair in pairs.values() for arm in pair})
        seeds = f"{' to '.join(map(str, counts))} {'seed' if counts == [1] else 'seeds'}"
        found.append(
            Measurement(
                f"{first.system} − {second.system}: gain with undescribed_rate {most:g} ({gains[most].mean():+.1f}) − "
                f"gain with {least:g} ({gains[least].mean():+.1f}) ({_told_metric(evidence, mug)}, {seeds})",
                f"{difference:+.1f} points ({low:+.1f} to {high:+.1f})",
                judge(low, high),
            )
        )
    return found


def both_are_best(evidence: Evidence) -> list[Measurement]:
    """Mug with STAN against all else that was made of the same CLIP, fine-tuned alike and scored as it was trained.

    In this run: the other three arms, those of other STANs and forms of Mug, and the heads. In the ablations of `TOLD`:
    the other three arms, for each value.
    """
    others = ("stan", "mug", "clip")
    here = [
        _compared(evidence, best, other, k=k)
        for k in RECALLS
        for recipe, base in product(_recipes_of_cosines(evidence), evidence.run.expanded)
        for best, others_of_clip in _mug_stans(evidence, base, recipe, k=k)
        for other in others_of_clip
    ]
    told = [
        compared(
            evidence,
            f"{arms['mug_stan'].system} − {arms[other].system} with undescribed_rate {value:g} "
            f"({_told_metric(evidence, 'mug_stan')}, {_seeds(arms['mug_stan'], arms[other])})",
            arms["mug_stan"].hits_Q,
            arms[other].hits_Q,
        )
        for value, arms in sorted((_told(evidence) or {}).items())
        if "mug_stan" in arms
        for other in others
        if other in arms
    ]
    return here + told


def stan_recognises_motions(evidence: Evidence) -> list[Measurement]:
    """STAN against its CLIP, both fine-tuned to name labelled spans: top-1 by the classes' texts.

    The spans of a video are drawn together.
    """
    found = []
    for base in evidence.run.expanded:
        for expansion in _stan_expansions(evidence):
            stan, clip = (_recognising(evidence, model) for model in (f"{base}_{expansion}", base))
            if stan is None or clip is None:
                continue
            videos_Q = np.array([row["video_id"] for row in evidence.spans[clip.system]])
            difference, low, high = clustered_difference(
                stan.hits_Q, clip.hits_Q, videos_Q, seed=evidence.seed, num_resamples=evidence.num_resamples
            )
            found.append(
                Measurement(
                    f"{stan.system} − {clip.system} (top-1 of {len(videos_Q)} spans, {_seeds(stan, clip)})",
                    f"{difference:+.1f} points ({low:+.1f} to {high:+.1f})",
                    judge(low, high),
                )
            )
    return found


def _ablations(evidence: Evidence, *, k: Recall) -> Iterator[Mapping[str, Found]]:
    """For each CLIP, its STAN and form of Mug, the four arms that were measured: `clip`, `stan`, `mug`, `mug_stan`."""
    for recipe, base in product(_recipes_of_cosines(evidence), evidence.run.expanded):
        yield from _ablations_of_clip(evidence, base, recipe, k=k)


def _ablations_of_clip(evidence: Evidence, base: str, recipe: str, *, k: Recall) -> Iterator[Mapping[str, Found]]:
    for expansion, (ending, alignment) in product(_stan_expansions(evidence), MUG_RECIPES.items()):
        stan = f"{base}_{expansion}"
        arms = {
            "clip": _retrieving(evidence, base, recipe, *COSINES, k=k),
            "stan": _retrieving(evidence, stan, recipe, *COSINES, k=k),
            "mug": _retrieving(evidence, base, f"{recipe}{ending}", alignment, k=k),
            "mug_stan": _retrieving(evidence, stan, f"{recipe}{ending}", alignment, k=k),
        }
        yield {name: found for name, found in arms.items() if found is not None}


def _mug_stans(evidence: Evidence, base: str, recipe: str, *, k: Recall) -> Iterator[tuple[Found, list[Found]]]:
    """Each STAN of a CLIP with each form of Mug, and what it is held against: each two systems once."""
    ablations = list(_ablations_of_clip(evidence, base, recipe, k=k))
    parts = [[arms[name] for name in ("stan", "mug", "clip") if name in arms] for arms in ablations]
    everything = [*(found for of_ablation in parts for found in of_ablation), *_heads(evidence, base, recipe, k=k)]
    before: list[Found] = []
    for arms, own in zip(ablations, parts, strict=True):
        if "mug_stan" in arms:
            yield arms["mug_stan"], list({found.system: found for found in [*own, *everything, *before]}.values())
            before.append(arms["mug_stan"])


def _heads(evidence: Evidence, base: str, recipe: str, *, k: Recall) -> list[Found]:
    """CLIP4Clip's heads on a CLIP that were measured, fine-tuned by the first recipe."""
    names = [name for name in evidence.run.expansions if name in HEADS]
    found = [_retrieving(evidence, f"{base}_{name}", recipe, *HEADS[name], k=k) for name in names]
    return [head for head in found if head is not None]


def _told(evidence: Evidence) -> dict[float, dict[str, Found]] | None:
    """For each value that the ablations of `TOLD` were run with, the arms that were, as in `_ablations`.

    None where they are not of the same queries.
    """
    arms_of: dict[float, dict[str, Found]] = {}
    for arm, name in TOLD.items():
        ablation = evidence.ablations.get(name)
        for point in ablation_points(ablation):
            system = f"{ablation['model']}-{ablation['aggregator']}" if ablation else ""
            arms_of.setdefault(float(point.value), {})[arm] = Found(system, point.hits_Q, point.num_seeds)
    num_queries = {len(found.hits_Q) for arms in arms_of.values() for found in arms.values()}
    return arms_of if len(num_queries) <= 1 else None


def _told_metric(evidence: Evidence, arm: str) -> str:
    ablation = evidence.ablations[TOLD[arm]]
    (num_queries, *_) = (len(point.hits_Q) for point in ablation_points(ablation))
    return f"R@{ablation['recall_at']} on {num_queries} queries of {ablation['dataset']}"


def _recipes_of_cosines(evidence: Evidence) -> list[str]:
    """The first recipe of retrieval, where it trains by cosines."""
    return [recipe for recipe in evidence.retrieving_recipes[:1] if not recipe.endswith(tuple(MUG_RECIPES))]


def _stan_expansions(evidence: Evidence) -> list[str]:
    return [name for name in evidence.run.expansions if name.startswith(STAN)]


def _retrieving(evidence: Evidence, backbone: str, recipe: str, *heads: str, k: Recall) -> Found | None:
    """R@k of a fine-tuned backbone by the first of the heads that there is."""

    def measure(model: str) -> tuple[str, np.ndarray] | None:
        for head in heads:
            hits_Q = evidence.hits_at(model, head, 1, k=k)
            if hits_Q is not None:
                return f"{model}-{head}", hits_Q
        return None

    return _over_seeds(evidence, backbone, recipe, measure)


def _recognising(evidence: Evidence, backbone: str) -> Found | None:
    """Top-1 of a backbone fine-tuned for recognition, by the classes' texts."""

    def measure(model: str) -> tuple[str, np.ndarray] | None:
        rows = evidence.spans.get(model)
        return (model, np.array([100.0 * (row["zero_shot"] == row["label"]) for row in rows])) if rows else None

    return _over_seeds(evidence, backbone, RECOGNITION_RECIPE, measure)


def _over_seeds(
    evidence: Evidence, backbone: str, recipe: str, measure: Callable[[str], tuple[str, np.ndarray] | None]
) -> Found | None:
    """What `measure` finds of a model, its system and hits, over the recipe and its variants of other seeds."""
    variants = [name for name in evidence.run.recipes if re.fullmatch(rf"{re.escape(recipe)}(_seed_\d+)?", name)]
    found = [measured for name in variants if (measured := measure(f"{backbone}-{name}")) is not None]
    if not found:
        return None
    return Found(found[0][0], np.mean([hits_Q for _, hits_Q in found], axis=0), len(found))


def _mug_pairs(evidence: Evidence, *, k: Recall) -> list[tuple[Found, Found]]:
    """Each model of each form of Mug with the one of cosines; a CLIP with several STANs once."""
    pairs = {}
    for arms in _ablations(evidence, k=k):
        for mug, cosine in (("mug", "clip"), ("mug_stan", "stan")):
            if mug in arms and cosine in arms:
                pairs[arms[mug].system] = (arms[mug], arms[cosine])
    return list(pairs.values())


def _compared(evidence: Evidence, first: Found, second: Found, *, k: Recall) -> Measurement:
    what = f"{first.system} − {second.system} (R@{k}, 1 clip, {_seeds(first, second)})"
    return compared(evidence, what, first.hits_Q, second.hits_Q, is_ours=_are_ours(first, second))


def _seeds(first: Found, second: Found) -> str:
    """`1 seed`, `3 seeds`, or `3 and 1 seeds` where the two differ."""
    if first.num_seeds != second.num_seeds:
        return f"{first.num_seeds} and {second.num_seeds} seeds"
    return f"{first.num_seeds} seed" + ("" if first.num_seeds == 1 else "s")


def _are_ours(*systems: Found) -> bool:
    """Whether the source does not have one of these."""
    return any(name in found.system for name in OURS for found in systems)
