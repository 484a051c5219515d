"""Effects of VClipper: post-processing, the length of windows, cuts where frames change.

Each function gives a measurement for every model whose moments are selected, and none where there is none.
Thresholds are those searched for windows, unless it is said.
"""

from stillmotion.report.differences import unpaired_difference
from stillmotion.report.evidence import Evidence
from stillmotion.report.measurement import Measurement, Verdict, compared, judge
from stillmotion.report.moment_systems import (
    FRAMES,
    METHODS,
    WINDOWS,
    Floats,
    Selection,
    found_selections,
    precisions_by_length,
    query_values,
    selections_of,
)
from stillmotion.report.tables import number

A_LOT = 10.0
"""Points of R1@0.5 from which an effect is a large one; the source has 22 (section 4.2.2)."""

SMOOTH = "log_smooth_norm"


def smoothing_helps_vc1(evidence: Evidence) -> list[Measurement]:
    """Smoothed curves against plain ones under VC1, by more than `A_LOT`."""
    return _effects(evidence, ("vc1", SMOOTH), ("vc1", "none"), margin=-A_LOT)


def smoothing_helps_vc2_less(evidence: Evidence) -> list[Measurement]:
    """Smoothed curves against plain ones under VC2; then VC1's gain against VC2's, over the same queries."""
    found = _effects(evidence, ("vc2", SMOOTH), ("vc2", "none"))
    for model in evidence.run.selected:
        chosen = selections_of(evidence, model, WINDOWS)
        if all((method, post) in chosen for method in METHODS for post in (SMOOTH, "none")):
            gain_Q = {
                method: _values(evidence, chosen[method, SMOOTH], "R1@0.5")
                - _values(evidence, chosen[method, "none"], "R1@0.5")
                for method in METHODS
            }
            what = f"{model}: gain of VC1 by smoothing − gain of VC2, R1@0.5"
            found.append(compared(evidence, what, gain_Q["vc1"], gain_Q["vc2"]))
    return found


def norm_helps(evidence: Evidence) -> list[Measurement]:
    """Each query's own range against plain curves, under both methods."""
    return [row for method in METHODS for row in _effects(evidence, (method, "norm"), (method, "none"))]


def adjust_norm_helps(evidence: Evidence) -> list[Measurement]:
    """The range of the train split against plain curves: R1@0.5 of VC1, and mAP of VC2."""
    return [
        *_effects(evidence, ("vc1", "adjust_norm"), ("vc1", "none")),
        *_effects(evidence, ("vc2", "adjust_norm"), ("vc2", "none"), metric="mAP"),
    ]


def smoothed_vc1_is_best(evidence: Evidence) -> list[Measurement]:
    """Smoothed VC1 against smoothed VC2."""
    return _effects(evidence, ("vc1", SMOOTH), ("vc2", SMOOTH))


def smoothing_raises_frame_iou(evidence: Evidence) -> list[Measurement]:
    """Smoothed curves against plain ones by the mean IoU of the selected frames, with thresholds for frames."""
    return [
        row
        for method in METHODS
        for row in _effects(evidence, (method, SMOOTH), (method, "none"), metric="frame IoU", objective=FRAMES)
    ]


def smoothed_vc1_beats_shots(evidence: Evidence) -> list[Measurement]:
    """Smoothed VC1 against the shots of a detector, ranked by the same model."""
    found = []
    for model in evidence.run.selected:
        ours = selections_of(evidence, model, WINDOWS).get(("vc1", SMOOTH))
        for detector in evidence.run.shot_detectors:
            shots = f"{model}-{detector}"
            rows = evidence.queries.get(shots)
            if ours is not None and rows:
                what = f"{ours.system} − {shots}, R1@0.5"
                ours_Q, shots_Q = _values(evidence, ours, "R1@0.5"), query_values(rows, "R1@0.5")
                found.append(compared(evidence, what, ours_Q, shots_Q))
    return found


def short_windows_are_hardest(evidence: Evidence) -> list[Measurement]:
    """Mean average precision of queries with short windows below that of middle and of long ones, by selection.

    The queries of two ranges are not the same, so the bootstrap draws them apart.
    """
    found = []
    for selection in _for_windows(evidence):
        precisions = precisions_by_length(evidence.queries[selection.system])
        others = [length for length in ("middle", "long") if len(precisions[length])]
        if not len(precisions["short"]) or not others:
            continue
        effects, verdicts = [], []
        for length in others:
            difference, low, high = unpaired_difference(
                precisions[length], precisions["short"], seed=evidence.seed, num_resamples=evidence.num_resamples
            )
            effects.append(f"{length} {difference:+.1f} points ({low:+.1f} to {high:+.1f})")
            verdicts.append(judge(low, high))
        what = f"{selection.system}: mAP of {' and '.join(others)} − short"
        found.append(Measurement(what, ", ".join(effects), _all_of(verdicts)))
    return found


def cuts_are_boundaries(evidence: Evidence) -> list[Measurement]:
    """Share of the true boundaries with a cut near by, above what as many cuts anywhere would have."""
    found = []
    for selection in _for_windows(evidence):
        boundaries = evidence.metrics["moments"][selection.system].get("boundaries")
        if selection.method == "vc2" and boundaries and boundaries["ci95"]:
            low, high = boundaries["ci95"]
            recall, chance, precision = (number(boundaries[key]) for key in ("recall", "chance_recall", "precision"))
            found.append(
                Measurement(
                    f"{selection.system}: {recall} % of {boundaries['num_boundaries']} boundaries, {chance} % by "
                    f"chance; {precision} % of {boundaries['num_cuts']} cuts",
                    f"{boundaries['above_chance']:+.1f} points ({low:+.1f} to {high:+.1f})",
                    judge(low, high),
                )
            )
    return found


def _effects(
    evidence: Evidence,
    first: tuple[str, str],
    second: tuple[str, str],
    *,
    metric: str = "R1@0.5",
    objective: str = WINDOWS,
    margin: float = 0.0,
) -> list[Measurement]:
    """One method and post-processing against another, by model where both are measured."""
    found = []
    for model in evidence.run.selected:
        chosen = selections_of(evidence, model, objective)
        if first in chosen and second in chosen:
            what = f"{chosen[first].system} − {chosen[second].system}, {metric}"
            first_Q, second_Q = (_values(evidence, chosen[key], metric) for key in (first, second))
            found.append(compared(evidence, what, first_Q, second_Q, margin))
    return found


def _values(evidence: Evidence, selection: Selection, metric: str) -> Floats:
    return query_values(evidence.queries[selection.system], metric)


def _for_windows(evidence: Evidence) -> list[Selection]:
    return [found for found in found_selections(evidence) if found.objective == WINDOWS]


def _all_of(verdicts: list[Verdict]) -> Verdict:
    """Holds where each does, and does not hold where one does not."""
    for verdict in ("does not hold", "undecided"):
        if verdict in verdicts:
            return verdict
    return "holds"
