"""What VClipper concludes (Caravaca 2024, chapters 3 to 5)."""

from typing import Any

from stillmotion.claims.claim import Source
from stillmotion.claims.compare import Measurement, Row, Verdict, compare, compared, compared_apart, judged, pairs
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import MODEL, origins_of, records, select
from stillmotion.claims.windows import (
    FRAMES,
    METHOD,
    METHODS,
    OBJECTIVE,
    POST,
    WINDOWS,
    precisions_by_length,
    selections,
)

A_LOT = 10.0
"""Points of R1@0.5 from which an effect is a large one; the source has 22 (section 4.2.2)."""
NONE, NORM, ADJUST_NORM, SMOOTH = ({POST: name} for name in ("none", "norm", "adjust_norm", "log_smooth_norm"))
VC1, VC2 = ({METHOD: name} for name in METHODS)

VCLIPPER = Source(
    title="VClipper (Caravaca 2024)",
    rules=(
        "On the test split, with thresholds searched on the train split for windows (R1@0.5), unless it is said. "
        "Smoothing is `log_smooth_norm` against `none`, and so with the other post-processings. Differences are in "
        "points and paired over the queries (bootstrap)."
    ),
)


def _differences(
    evidence: Evidence, better: Row, worse: Row, *, measure: str = "R1@0.5", objective: str = WINDOWS, margin: float = 0
) -> list[Measurement]:
    """One method and post-processing against another, by model where both are measured."""
    frame = select(evidence.of(measure), {OBJECTIVE: objective})
    return compare(frame, better=better, worse=worse, within=MODEL, draws=evidence.draws, margin=margin)


@VCLIPPER.claim(
    "Smoothing helps VC1 by a lot",
    section="4.2.2, 5",
    rule=f"By a lot is by {A_LOT:.0f} points in place of zero (the source has 22).",
)
def smoothing_helps_vc1(evidence: Evidence) -> list[Measurement]:
    return _differences(evidence, VC1 | SMOOTH, VC1 | NONE, margin=-A_LOT)


@VCLIPPER.claim(
    "Smoothing helps VC2 by less",
    section="4.2.2",
    rule="VC2's gain is above zero, and so is VC1's gain less VC2's, taken query by query.",
)
def smoothing_helps_vc2_less(evidence: Evidence) -> list[Measurement]:
    frame = select(evidence.of("R1@0.5"), {OBJECTIVE: WINDOWS})
    gains = [pairs(frame, better=method | SMOOTH, worse=method | NONE, within=MODEL) for method in (VC1, VC2)]
    found = _differences(evidence, VC2 | SMOOTH, VC2 | NONE)
    for of_vc1 in gains[0]:
        for of_vc2 in gains[1]:
            if all(of_vc1.better[name] == of_vc2.better[name] for name in MODEL):
                what = f"{of_vc1.better['model']}: gain of VC1 by smoothing − gain of VC2 (R1@0.5)"
                origins = of_vc1.origins + of_vc2.origins
                found.append(compared(what, of_vc1.gain_Q, of_vc2.gain_Q, origins, evidence.draws))
    return found


@VCLIPPER.claim("VC1 with smoothing is above VC2 with it", section="4.2.2, 5")
def smoothed_vc1_is_best(evidence: Evidence) -> list[Measurement]:
    return _differences(evidence, VC1 | SMOOTH, VC2 | SMOOTH)


@VCLIPPER.claim("`norm` helps", section="4.2.2")
def norm_helps(evidence: Evidence) -> list[Measurement]:
    return [row for method in (VC1, VC2) for row in _differences(evidence, method | NORM, method | NONE)]


@VCLIPPER.claim(
    "`adjust_norm` helps VC1, and VC2 by mAP",
    section="4.2.2",
    rule=(
        "`adjust_norm` with the range of the train split changes every curve alike, so that it selects what `none` "
        "selects at another λ: the two can differ by the search alone."
    ),
    experiment="moments",
)
def adjust_norm_helps(evidence: Evidence) -> list[Measurement]:
    return [
        *_differences(evidence, VC1 | ADJUST_NORM, VC1 | NONE),
        *_differences(evidence, VC2 | ADJUST_NORM, VC2 | NONE, measure="mAP"),
    ]


@VCLIPPER.claim(
    "Short windows are the hardest, whatever the method",
    section="4.2.2",
    rule=(
        "Short windows have up to 10 s, middle ones up to 30 s, long ones up to 150 s; two ranges have different "
        "queries, so that their means are drawn apart (unpaired bootstrap), and the claim holds where short is below "
        "both."
    ),
)
def short_windows_are_hardest(evidence: Evidence) -> list[Measurement]:
    found = []
    for selection in _for_windows(evidence):
        precisions = precisions_by_length(evidence.windows[selection["key"]])
        others = [length for length in ("middle", "long") if len(precisions[length])]
        if len(precisions["short"]) and others:
            what = f"{selection['key']}: mAP of {' and '.join(others)} − short"
            origins = origins_of(selection)
            parts = [
                compared_apart(length, precisions[length], precisions["short"], origins, evidence.draws)
                for length in others
            ]
            effect = ", ".join(f"{part.what} {part.effect}" for part in parts)
            found.append(Measurement(what, effect, _all_of([part.verdict for part in parts]), origins))
    return found


@VCLIPPER.claim(
    "Cuts in CFSc coincide with the boundaries of true windows",
    section="3.7, 5",
    rule=(
        "A true boundary is a start or an end of a true window of any query of a video, more than one clip from the "
        "start and the end of the video; it is found where VC2 starts a scene, at the α of the search, within one clip "
        "of it. The effect is the share of boundaries found, less what as many cuts at random places of each video "
        "would find; its interval is a bootstrap over the videos."
    ),
)
def cuts_are_boundaries(evidence: Evidence) -> list[Measurement]:
    found = []
    for selection in _for_windows(evidence, method="vc2"):
        boundaries = selection["metrics"].get("boundaries")
        if boundaries and boundaries["ci95"]:
            low, high = boundaries["ci95"]
            precision = "–" if boundaries["precision"] is None else f"{boundaries['precision']:.1f}"
            what = (
                f"{selection['key']}: {boundaries['recall']:.1f} % of {boundaries['num_boundaries']} boundaries, "
                f"{boundaries['chance_recall']:.1f} % by chance; {precision} % of {boundaries['num_cuts']} cuts"
            )
            found.append(judged(what, boundaries["above_chance"], low, high, origins_of(selection)))
    return found


@VCLIPPER.claim(
    "Smoothing raises the frame IoU of both methods",
    section="4.2.1",
    rule="With thresholds searched for frames (AP@0.5).",
    experiment="moments",
)
def smoothing_raises_frame_iou(evidence: Evidence) -> list[Measurement]:
    return [
        row
        for method in (VC1, VC2)
        for row in _differences(evidence, method | SMOOTH, method | NONE, measure="frame IoU", objective=FRAMES)
    ]


@VCLIPPER.claim("VC1 with smoothing is above shot detection", section="4.4", experiment="moments")
def smoothed_vc1_beats_shots(evidence: Evidence) -> list[Measurement]:
    better, worse = VC1 | SMOOTH | {OBJECTIVE: WINDOWS}, {"protocol.kind": "shots"}
    return compare(evidence.of("R1@0.5"), better=better, worse=worse, within=MODEL, draws=evidence.draws)


def _for_windows(evidence: Evidence, **where: Any) -> list[dict[str, Any]]:
    return records(selections(evidence, objective=WINDOWS, **where))


def _all_of(verdicts: list[Verdict]) -> Verdict:
    """Holds where each does, and does not hold where one does not."""
    for verdict in ("does not hold", "undecided"):
        if verdict in verdicts:
            return verdict
    return "holds"
