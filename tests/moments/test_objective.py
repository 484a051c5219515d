import math

import numpy as np
import pytest
from scipy.signal import savgol_filter

from stillmotion.config.evaluation import SelectionParams
from stillmotion.io.records import Moment
from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.objective import Objective
from stillmotion.moments.queries import EmbeddedQueries

SECONDS = 2.0
LEAST_COSINE = 0.05


def make_split(seed=0, num_queries=30):
    """Unequal videos, the last clip of some short, one or two true windows a query."""
    rng = np.random.default_rng(seed)
    sc, cfsc, durations, windows = [], [], [], []
    for _ in range(num_queries):
        num = int(rng.integers(6, 25))
        curve = rng.uniform(-0.05, 0.3, num)
        spans = []
        for first in ([1], [0, num - 3])[int(rng.integers(2))]:
            curve[first : first + 3] += 0.15
            spans.append([SECONDS * first, SECONDS * (first + 3)])
        sc.append(curve)
        cfsc.append(rng.uniform(0.3, 1.0, num - 1))
        durations.append(SECONDS * num - float(rng.choice([0.0, 0.7])))
        windows.append(spans)
    curves = stack_curves(sc, cfsc, durations=durations, clip_length_s=SECONDS)
    true = np.zeros(curves.sc_QT.shape, dtype=bool)
    queries = []
    for row, spans in enumerate(windows):
        clips = [clip for start, end in spans for clip in range(int(start / SECONDS), int(end / SECONDS))]
        true[row, clips] = True
        queries.append(Moment(row, "", f"v{row}", durations[row], spans, clips, []))
    return EmbeddedQueries(queries, curves, pad_windows(windows, columns=2, name="x", key="y"), true)


def literal_curve(sc, low, high, post_processing, window):
    if post_processing == "none":
        return sc
    if post_processing == "adjust_norm":
        return (sc - low) / (high - low)
    if post_processing == "log_smooth_norm":
        fitting = min(window, len(sc) if len(sc) % 2 else len(sc) - 1)
        sc = savgol_filter(np.log(np.maximum(sc, LEAST_COSINE)), fitting, 2)
    return (sc - sc.min()) / (sc.max() - sc.min())


def literal_runs(selected, breaks):
    runs = []
    for frame in np.flatnonzero(selected):
        if runs and runs[-1][1] == frame and frame not in breaks:
            runs[-1][1] = frame + 1
        else:
            runs.append([frame, frame + 1])
    return runs


def literal_vc1(sc, threshold, least_confidence=-np.inf):
    runs = literal_runs(sc > threshold, [])
    best = [run for run in runs or literal_runs(sc == sc.max(), []) if run[0] <= np.argmax(sc) < run[1]]
    runs = [run for run in runs if sc[slice(*run)].mean() > least_confidence]
    return [(first, end, sc[first:end].mean()) for first, end in runs or best]


def literal_vc2(sc, cfsc, threshold, change, share):
    below = [False, *(cfsc < change), False]
    cuts = [n for n in range(len(cfsc)) if below[n + 1] and not (below[n] and below[n + 2])]
    scenes = literal_runs(np.ones(len(sc), bool), [n + 1 for n in cuts])

    def confidence(first, end):
        return np.mean(sorted(sc[first:end])[-math.ceil(share * (end - first) - 1e-9) :])

    kept = [scene for scene in scenes if confidence(*scene) > threshold]
    kept = kept or [scene for scene in scenes if scene[0] <= np.argmax(sc) < scene[1]]
    selected = np.zeros(len(sc), bool)
    for first, end in kept:
        selected[first:end] = True
    return [(first, end, confidence(first, end)) for first, end in literal_runs(selected, [])]


def literal_objective(split, selection, parameters):
    """The definition, query by query and frame by frame."""
    all_sc = [row[:num] for row, num in zip(split.curves.sc_QT, split.curves.num_frames_Q, strict=True)]
    low, high = min(map(np.min, all_sc)), max(map(np.max, all_sc))
    hits = []
    for row, (sc, query) in enumerate(zip(all_sc, split.queries, strict=True)):
        curve = literal_curve(sc, low, high, selection.post_processing, parameters.get("window"))
        if selection.method == "vc1":
            runs = literal_vc1(curve, parameters["threshold"])
        elif selection.method == "vc1_beta":
            runs = literal_vc1(curve, parameters["threshold"], parameters["least_confidence"])
        else:
            cfsc = split.curves.cfsc_QU[row, : len(sc) - 1]
            runs = literal_vc2(curve, cfsc, parameters["threshold"], parameters["change"], parameters["share"])
        if selection.objective == "frame_AP@0.5":
            chosen = {frame for first, end, _ in runs for frame in range(first, end)}
            true = set(query.relevant_clip_ids) & set(range(len(sc)))
            hits.append(len(chosen & true) / len(chosen | true) >= 0.5)
            continue
        first, end, _ = max(runs, key=lambda run: run[2])
        start, stop = first * SECONDS, min(end * SECONDS, query.duration)
        overlaps = [
            max(0.0, min(stop, b) - max(start, a)) / (max(stop, b) - min(start, a)) for a, b in query.relevant_windows
        ]
        hits.append(max(overlaps) >= 0.5)
    return 100 * np.mean(hits)


def draw(objective, rng):
    parameters = {name: rng.uniform(values.low, values.high) for name, values in objective.ranges.items()}
    if "window" in parameters:
        parameters["window"] = int(rng.choice(np.arange(3, 22, 2)))
    return parameters


@pytest.mark.parametrize("method", ["vc1", "vc1_beta", "vc2"])
@pytest.mark.parametrize("post_processing", ["none", "norm", "adjust_norm", "log_smooth_norm"])
@pytest.mark.parametrize("measured", ["R1@0.5", "frame_AP@0.5"])
def test_the_objective_is_that_of_a_literal_loop_over_queries(method, post_processing, measured):
    split = make_split()
    selection = SelectionParams(
        method=method, post_processing=post_processing, objective=measured, least_cosine=LEAST_COSINE
    )
    objective, rng = Objective(split, selection), np.random.default_rng(1)
    drawn = [draw(objective, rng) for _ in range(12)]
    values = [objective(parameters) for parameters in drawn]
    assert values == pytest.approx([literal_objective(split, selection, parameters) for parameters in drawn])
    assert len(set(values)) > 3  # something to agree on


def test_each_parameter_ranges_over_what_it_can_make_a_difference_in():
    split = make_split()
    valid = split.curves.valid_QT

    def ranges(method, post_processing):
        selection = SelectionParams(
            method=method, post_processing=post_processing, objective="R1@0.5", least_cosine=LEAST_COSINE
        )
        found = Objective(split, selection).ranges
        return {name: (values.low, values.high, values.step) for name, values in found.items()}

    sc = split.curves.sc_QT[valid]
    changes = np.concatenate(
        [row[: num - 1] for row, num in zip(split.curves.cfsc_QU, split.curves.num_frames_Q, strict=True)]
    )
    assert ranges("vc1", "none") == {"threshold": (sc.min(), sc.max(), None)}
    assert ranges("vc1_beta", "none") == dict.fromkeys(("threshold", "least_confidence"), (sc.min(), sc.max(), None))
    assert ranges("vc1", "log_smooth_norm") == {"threshold": (0, 1, None), "window": (3, 21, 2)}
    assert ranges("vc2", "adjust_norm") == {
        "threshold": (0, 1, None),
        "change": (changes.min(), changes.max(), None),
        "share": (0.05, 1, None),
    }
