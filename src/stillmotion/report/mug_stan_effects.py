"""Effects of STAN and Mug, between fine-tuned models of one run.

CLIP and its STAN are fine-tuned alike, by the first recipe; Mug's models by the recipe of that name with `_mug` behind
it, which differs in the similarity of its loss alone. A model is scored by the similarity that it was trained with,
and a video is one clip. Each function gives a measurement for every CLIP that there is evidence for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from stillmotion.report.differences import unpaired_difference
from stillmotion.report.evidence import Evidence
from stillmotion.report.measurement import Measurement, compared, judge

STAN = "stan"
"""What the names of STAN's expansions in params.yaml begin with."""
MUG_RECIPE = "_mug"
COSINES = ("mean", "cosine")
"""Two names of one system where a video is one clip: an aggregator and an alignment."""


@dataclass(frozen=True)
class Found:
    """A system that was measured."""

    system: str
    hits_Q: np.ndarray


def stan_beats_mean_pooling(evidence: Evidence) -> list[Measurement]:
    """STAN against its CLIP, both fine-tuned with cosines."""
    return [
        _compared(evidence, arms["stan"], arms["clip"])
        for arms in _ablations(evidence)
        if "stan" in arms and "clip" in arms
    ]


def mug_beats_cosine(evidence: Evidence) -> list[Measurement]:
    """Mug against cosine, with CLIP and with STAN."""
    return [_compared(evidence, mug, cosine) for mug, cosine in _mug_pairs(evidence)]


def mug_helps_most_on_bottom(evidence: Evidence) -> list[Measurement]:
    """What Mug gains on queries of the level `bottom` against what it gains on the others, which are drawn apart."""
    is_bottom_Q = evidence.levels.level_Q == "bottom"
    if not 0 < np.sum(is_bottom_Q) < len(is_bottom_Q):
        return []
    found = []
    for mug, cosine in _mug_pairs(evidence):
        gain_Q = mug.hits_Q - cosine.hits_Q
        difference, low, high = unpaired_difference(
            gain_Q[is_bottom_Q], gain_Q[~is_bottom_Q], seed=evidence.seed, num_resamples=evidence.num_resamples
        )
        found.append(
            Measurement(
                f"{mug.system} − {cosine.system}: gain on the {np.sum(is_bottom_Q)} queries of `bottom` − gain on the "
                "others",
                f"{difference:+.1f} points ({low:+.1f} to {high:+.1f})",
                judge(low, high),
            )
        )
    return found


def both_are_best(evidence: Evidence) -> list[Measurement]:
    """Mug with STAN against each of the other three arms."""
    return [
        _compared(evidence, arms["mug_stan"], arms[other])
        for arms in _ablations(evidence)
        if "mug_stan" in arms
        for other in ("stan", "mug", "clip")
        if other in arms
    ]


def _ablations(evidence: Evidence) -> Iterator[Mapping[str, Found]]:
    """For each CLIP and its STAN, the four arms that were measured: `clip`, `stan`, `mug`, `mug_stan`."""
    run = evidence.run
    expansions = [name for name in run.expansions if name.startswith(STAN)]
    for recipe in run.recipes[:1]:
        for base in run.expanded:
            for expansion in expansions:
                stan = f"{base}_{expansion}"
                arms = {
                    "clip": _measured(evidence, f"{base}-{recipe}", *COSINES),
                    "stan": _measured(evidence, f"{stan}-{recipe}", *COSINES),
                    "mug": _measured(evidence, f"{base}-{recipe}{MUG_RECIPE}", "mug"),
                    "mug_stan": _measured(evidence, f"{stan}-{recipe}{MUG_RECIPE}", "mug"),
                }
                yield {name: found for name, found in arms.items() if found is not None}


def _measured(evidence: Evidence, model: str, *heads: str) -> Found | None:
    for head in heads:
        hits_Q = evidence.hits_at(model, head, 1)
        if hits_Q is not None:
            return Found(f"{model}-{head}", hits_Q)
    return None


def _mug_pairs(evidence: Evidence) -> list[tuple[Found, Found]]:
    """Each model of Mug with the one of cosines; a CLIP with several STANs once."""
    pairs = {}
    for arms in _ablations(evidence):
        for mug, cosine in (("mug", "clip"), ("mug_stan", "stan")):
            if mug in arms and cosine in arms:
                pairs[arms[mug].system] = (arms[mug], arms[cosine])
    return list(pairs.values())


def _compared(evidence: Evidence, first: Found, second: Found) -> Measurement:
    return compared(evidence, f"{first.system} − {second.system} (1 clip)", first.hits_Q, second.hits_Q)
