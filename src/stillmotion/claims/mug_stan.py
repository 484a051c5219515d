"""What Mug-STAN concludes (Liu et al. 2023, section IV), between models that are fine-tuned alike.

Claims on retrieval give a measurement by R@1 and one by R@5, the first columns of the source's tables: few queries of
a small gallery are found first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from stillmotion.claims.claim import Source, run_command
from stillmotion.claims.compare import Measurement, Pair, Row, compared, compared_apart, measured, num_seeds, pairs
from stillmotion.claims.evidence import CLASS_NAMES, Evidence
from stillmotion.claims.studies import Point, Study
from stillmotion.claims.systems import ALIKE, RECALLS, pooled, records, select, settings_but

STAN, IMAGE_MODEL, AT_ONCE = {"expansion.family": "stan"}, {"expansion": None}, {"pretraining": None}
COSINE, MUG = {"recipe.similarity": "cosine"}, {"recipe.similarity": ("mug", "mug_cosine")}
INTERACTIONS = {"cosine": "mean_pooling", "mug": "mutual", "mug_cosine": "mutual_cosine"}
"""What compares a text with frames as a loss does, by the similarity of the recipe."""
COVERAGE_STUDIES = {
    "clip": "partial_captions_cosine",
    "stan": "partial_captions_stan_cosine",
    "mug": "partial_captions_mug",
    "mug_stan": "partial_captions_stan_mug",
}
"""The studies of how much of its video a caption covers, by what they fine-tune."""
PARTIAL = ("middle", "bottom")
"""The groups of which the source speaks as partial misalignment."""

MUG_STAN = Source(
    title="Mug-STAN (Liu et al. 2023)",
    rules=(
        "R@1 and R@5 are text-to-video on the test split, a video one clip; intervals are those of a paired bootstrap "
        "over the queries. Models are fine-tuned by recipes that differ in the similarity of the loss alone (and its "
        "τ), and each is scored by the similarity that it was trained with, without dual softmax. With `mug_cosine` "
        "Mug's guided embeddings are compared by their cosine, where the source has their product; with "
        "`class_token: frame` each frame of a STAN has a class token of its own. Rows with either are marked as ours: "
        "the source concludes nothing of them. Where a model was fine-tuned with several seeds, the value of a query "
        "or span is the mean over them; intervals take the seeds as given."
    ),
)


def _as_trained(evidence: Evidence) -> pd.DataFrame:
    """R@1, then R@5, with one clip, of models fine-tuned on captions, each scored by what it was trained with.

    With `alike`, the recipe but for its similarity. The scorer of a model is given by its recipe, and left out: `mean`
    and the cosine of mean-pooled frames are one system where a video is one clip, the first of which is taken.
    """
    on_captions = {"recipe.captions": lambda captions: captions not in (None, CLASS_NAMES), "clips": 1}
    frame = select(evidence.values, {"measure": tuple(RECALLS)} | on_captions)
    frame = frame[np.array([_is_as_trained(row) for row in records(frame)], dtype=bool)].assign(scorer=None)
    frame["alike"] = settings_but(frame, "similarity", "tau")
    return frame.drop_duplicates([*ALIKE, "seed", "measure"]).sort_values("measure", kind="stable")


def _is_as_trained(row: Row) -> bool:
    similarity, kind = row["recipe.similarity"], row["scorer.kind"]
    if row.get("expansion.head") == "tight_transformer":
        return bool(similarity == "cosine" and kind == "own")
    if kind == "mean":
        return bool(similarity == "cosine")
    compared_by = row.get("scorer.interaction")
    return compared_by is not None and compared_by == INTERACTIONS.get(similarity) and not row["scorer.dual_softmax"]


def _measured(evidence: Evidence, found: Iterable[Pair]) -> list[Measurement]:
    return [measured(pair, evidence.draws, is_ours=_is_ours(pair)) for pair in found]


def _is_ours(pair: Pair) -> bool:
    """Whether the source does not have one of the two."""
    return any(
        row.get("scorer.interaction") == "mutual_cosine" or row.get("expansion.class_token") == "frame"
        for row in (pair.better, pair.worse)
    )


@MUG_STAN.claim(
    "STAN is above mean pooling, fine-tuned alike", section="IV-D, table V", rule="By cosines.", experiment="alignment"
)
def stan_beats_mean_pooling(evidence: Evidence) -> list[Measurement]:
    frame = select(_as_trained(evidence), COSINE | AT_ONCE)
    return _measured(evidence, pairs(frame, better=STAN, worse=IMAGE_MODEL, within=("base", "recipe")))


@MUG_STAN.claim(
    "STAN is above a head behind the tower, fine-tuned alike",
    section="I, IV-D, table V",
    rule=(
        "The heads are CLIP4Clip's, by cosines; the tight transformer is trained and scored by its own scores of "
        "pairs, over frames that are unit vectors, which the source does not make them before."
    ),
    experiment="heads",
)
def stan_beats_heads(evidence: Evidence) -> list[Measurement]:
    frame = select(_as_trained(evidence), COSINE | AT_ONCE)
    heads = {"expansion.family": "clip4clip"}
    return _measured(evidence, pairs(frame, better=STAN, worse=heads, within=("base", "recipe")))


def _mug_pairs(evidence: Evidence) -> list[Pair]:
    """Each model that was trained by a form of Mug with the one of cosines, of CLIP and of its STANs."""
    frame = select(_as_trained(evidence), AT_ONCE | {"expansion.family": (None, "stan")})
    return pairs(frame, better=MUG, worse=COSINE, within=("base", "expansion", "alike"))


@MUG_STAN.claim("Mug is above the plain cosine", section="IV-D, table V", experiment="alignment")
def mug_beats_cosine(evidence: Evidence) -> list[Measurement]:
    return _measured(evidence, _mug_pairs(evidence))


@MUG_STAN.claim(
    "Mug is above the plain cosine where text and video are partially misaligned",
    section="I, IV-D, table IX",
    rule="On the captions of `middle` and `bottom` (see caption coverage).",
    experiment="alignment",
)
def mug_beats_cosine_on_partial_captions(evidence: Evidence) -> list[Measurement]:
    is_partial_Q = np.isin(evidence.coverage.group_Q, PARTIAL)
    if not is_partial_Q.any():
        return []
    found = []
    for pair in _mug_pairs(evidence):
        what = f"{pair} on the {np.sum(is_partial_Q)} queries of `middle` and `bottom`"
        first_Q, second_Q = (row["values"][is_partial_Q] for row in (pair.better, pair.worse))
        found.append(compared(what, first_Q, second_Q, pair.origins, evidence.draws, is_ours=_is_ours(pair)))
    return found


@MUG_STAN.claim(
    "Mug helps most where text and video fit least",
    section="IV-D, table IX",
    rule=(
        "Where they fit least is `bottom`; the effect is what Mug gains there less what it gains on all other queries, "
        "two samples that the bootstrap draws apart."
    ),
    experiment="alignment",
)
def mug_helps_most_on_bottom(evidence: Evidence) -> list[Measurement]:
    is_bottom_Q = evidence.coverage.group_Q == "bottom"
    if not 0 < np.sum(is_bottom_Q) < len(is_bottom_Q):
        return []
    found = []
    for pair in _mug_pairs(evidence):
        what = f"{pair}: gain on the {np.sum(is_bottom_Q)} queries of `bottom` − gain on the others"
        bottom_Q, others_Q = pair.gain_Q[is_bottom_Q], pair.gain_Q[~is_bottom_Q]
        found.append(compared_apart(what, bottom_Q, others_Q, pair.origins, evidence.draws, is_ours=_is_ours(pair)))
    return found


@MUG_STAN.claim(
    "Mug helps more the less of its video a caption tells",
    section="I, IV-D",
    rule=(
        "How much it tells is the share of a video's events that captions leave out, which studies vary. The effect is "
        "Mug's gain where that is largest less its gain where it is smallest, drawn apart."
    ),
    experiment=tuple(COVERAGE_STUDIES.values()),
)
def mug_helps_most_where_least_is_described(evidence: Evidence) -> list[Measurement]:
    studies = _coverage_studies(evidence)
    if not _have_same_queries(studies):
        names = ", ".join(study.name for study in studies.values())
        what = f"{names} differ in their test queries; run `{run_command('NAME')}` for each of them at one commit"
        origins = [study.points[0].origin for study in studies.values()]
        return [Measurement(what, "–", "not comparable", origins)]
    found = []
    for mug, cosine in (("mug", "clip"), ("mug_stan", "stan")):
        arms_of = {value: arms for value, arms in _arms(studies).items() if {mug, cosine} <= set(arms)}
        if len(arms_of) < 2:
            continue
        least, most = min(arms_of), max(arms_of)
        gains = {value: arms_of[value][mug].hits_Q - arms_of[value][cosine].hits_Q for value in (least, most)}
        counts = sorted({arms[arm].num_seeds for arms in arms_of.values() for arm in (mug, cosine)})
        seeds = num_seeds(1, 1) if counts == [1] else f"{' to '.join(map(str, counts))} seeds"
        what = (
            f"{studies[mug].system} − {studies[cosine].system}: gain with undescribed_rate {most:g} "
            f"({gains[most].mean():+.1f}) − gain with {least:g} ({gains[least].mean():+.1f}) "
            f"({_measure_of(studies[mug])}, {seeds})"
        )
        origins = [arms_of[least][arm].origin for arm in (mug, cosine)]
        found.append(compared_apart(what, gains[most], gains[least], origins, evidence.draws))
    return found


def _coverage_studies(evidence: Evidence) -> dict[str, Study]:
    """The studies of caption coverage that have points, by arm; they set their own dataset, whichever is active."""
    found = {arm: evidence.studies.get(name) for arm, name in COVERAGE_STUDIES.items()}
    return {arm: study for arm, study in found.items() if study is not None and study.points}


def _have_same_queries(studies: Mapping[str, Study]) -> bool:
    return len({len(point.hits_Q) for study in studies.values() for point in study.points}) <= 1


def _arms(studies: Mapping[str, Study]) -> dict[float, dict[str, Point]]:
    """For each value, from the smallest, the arms that were run with it."""
    values = sorted({float(point.value) for study in studies.values() for point in study.points})
    points = {value: {arm: study.at(value) for arm, study in studies.items()} for value in values}
    return {value: {arm: point for arm, point in arms.items() if point} for value, arms in points.items()}


def _measure_of(study: Study) -> str:
    return f"R@{study.recall_at} on {len(study.points[0].hits_Q)} queries of {study.dataset}"


@MUG_STAN.claim(
    "Mug and STAN together are best of all",
    section="IV-D, table V",
    rule=(
        "Held against all else in the run that was made of the same CLIP: each alone, neither, the heads, and other "
        "STANs and forms of Mug, each two once; and in the studies of caption coverage against the others, for each "
        "value."
    ),
    experiment="alignment",
)
def both_are_best(evidence: Evidence) -> list[Measurement]:
    here = _measured(evidence, _both_and_others(evidence))
    studies = _coverage_studies(evidence)
    if not _have_same_queries(studies):
        return here
    for value, arms in _arms(studies).items():
        both = arms.get("mug_stan")
        for arm in ("stan", "mug", "clip"):
            if both is not None and arm in arms:
                what = (
                    f"{studies['mug_stan'].system} − {studies[arm].system} with undescribed_rate {value:g} "
                    f"({_measure_of(studies['mug_stan'])}, {num_seeds(both.num_seeds, arms[arm].num_seeds)})"
                )
                origins = (both.origin, arms[arm].origin)
                here.append(compared(what, both.hits_Q, arms[arm].hits_Q, origins, evidence.draws))
    return here


def _both_and_others(evidence: Evidence) -> list[Pair]:
    """Each STAN with a form of Mug, and what was made of the same CLIP and trained alike: each two once."""
    frame = select(_as_trained(evidence), AT_ONCE | {"expansion.family": (None, "stan", "clip4clip")})
    both = list(dict.fromkeys(row["key"] for row in pooled(select(frame, STAN | MUG))))
    return [
        pair
        for pair in pairs(frame, better=STAN | MUG, worse={}, within=("base", "alike"))
        if pair.worse["key"] not in both[both.index(pair.better["key"]) :]
    ]


@MUG_STAN.claim(
    "Post-pretraining on videos with noisy narrations helps after fine-tuning",
    section="IV-D, table VI",
    rule="Held against fine-tuning at once, by the recipe that fine-tunes both.",
    experiment="pretraining",
)
def post_pretraining_helps(evidence: Evidence) -> list[Measurement]:
    within = ("base", "expansion", "recipe")
    return _measured(evidence, pairs(_as_trained(evidence), better={}, worse=AT_ONCE, within=within))


@MUG_STAN.claim(
    "STAN names motions better than mean pooling, fine-tuned alike",
    section="IV-C, table III",
    rule=(
        "A motion is named by the cosines of a labelled span with the texts of all classes, after fine-tuning on the "
        "same with the text tower frozen; the bootstrap draws videos with all their spans."
    ),
    experiment="recognition",
)
def stan_names_motions(evidence: Evidence) -> list[Measurement]:
    frame = select(evidence.of("top-1"), AT_ONCE | {"recipe.captions": CLASS_NAMES})
    found = pairs(frame, better=STAN, worse=IMAGE_MODEL, within=("base", "recipe"))
    spans = [f"{pair} of {len(pair.better['values'])} spans" for pair in found]
    return [replace(row, what=what) for row, what in zip(_measured(evidence, found), spans, strict=True)]
