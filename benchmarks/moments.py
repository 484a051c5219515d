"""What a search of moment thresholds costs at the size of QVHighlights, and scoring a submission.

    python -m benchmarks.moments

7,218 queries of 75 frames (3 of 100 are shorter), as in the train split; the curves are noise with planted moments.
Smoothing stands beside `scipy.signal.savgol_filter` query by query, and on all of equal length at once; a trial beside
the definition as a loop over queries; a study of 500 trials beside the same study of an objective that costs nothing,
which is the sampler's and the importances' own time. Scoring is a whole process on the official sample, beside one
that only imports numpy and parses the two files; it is left out where ../shared/real is not there. Seconds are CPU
time of the process, which a busy machine lengthens less than wall time; medians. Writes
benchmarks/results/moments.json.
"""

import itertools
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import savgol_filter

from stillmotion.config.evaluation import OptimiseThresholdsParams, SelectionParams
from stillmotion.io.tables import write_json
from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.objective import Objective, Range
from stillmotion.moments.postprocess import log_curves, smooth
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.threshold_search import search_thresholds

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "moments.json"
SAMPLE = ROOT.parent / "shared" / "real" / "qvhighlights"
NUM_QUERIES, NUM_FRAMES, CLIP_LENGTH_S = 7_218, 75, 2.0
LEAST_COSINE = 1e-6
TRIALS = 500
REPEATS = 5
PEER_REPEATS = 2
SMOOTHING = 11


def cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def make_split() -> EmbeddedQueries:
    """Cosines about 0.22 with a moment or two that are 0.03 above, frames that change now and then."""
    rng = np.random.default_rng(0)
    sc, cfsc, durations, windows = [], [], [], []
    for _ in range(NUM_QUERIES):
        num = NUM_FRAMES if rng.random() > 0.03 else int(rng.integers(60, NUM_FRAMES))
        curve = np.convolve(0.22 + 0.02 * rng.standard_normal(num + 4), np.ones(5) / 5, mode="valid")
        starts = rng.choice(num // 10, size=rng.integers(1, 3), replace=False) * 10
        spans = [(int(start), int(start + rng.integers(2, 10))) for start in np.sort(starts)]
        for first, end in spans:
            curve[first:end] += 0.03
        sc.append(curve)
        cfsc.append(np.clip(0.85 + 0.1 * rng.standard_normal(num - 1), -1, 1))
        durations.append(CLIP_LENGTH_S * num)
        windows.append([[CLIP_LENGTH_S * first, CLIP_LENGTH_S * end] for first, end in spans])
    curves = stack_curves(sc, cfsc, durations=durations, clip_length_s=CLIP_LENGTH_S)
    true = pad_windows(windows, columns=2, name="benchmark", key="windows")
    return EmbeddedQueries([], curves, true, np.zeros(curves.sc_QT.shape, dtype=bool))


def selection_of(method: str) -> SelectionParams:
    return SelectionParams(
        method=method, post_processing="log_smooth_norm", least_cosine=LEAST_COSINE, objective="R1@0.5"
    )


def measure_smoothing(split: EmbeddedQueries) -> dict[str, Any]:
    """Savitzky-Golay of all queries at one M."""
    num_frames_Q = split.curves.num_frames_Q
    logs_QT = log_curves(split.curves.sc_QT, num_frames_Q, least_cosine=LEAST_COSINE).sc_QT

    def by_query() -> np.ndarray:
        smoothed = logs_QT.copy()
        for row, num in enumerate(num_frames_Q):
            smoothed[row, :num] = savgol_filter(logs_QT[row, :num], SMOOTHING, 2)
        return smoothed

    def by_length() -> np.ndarray:
        smoothed = logs_QT.copy()
        for num in np.unique(num_frames_Q):
            rows = np.flatnonzero(num_frames_Q == num)
            smoothed[rows, :num] = savgol_filter(logs_QT[rows, :num], SMOOTHING, 2, axis=1)
        return smoothed

    def ours() -> np.ndarray:
        return smooth(logs_QT, num_frames_Q, window=SMOOTHING)

    for peer in (by_query, by_length):
        np.testing.assert_allclose(peer(), ours(), atol=1e-9)
    runs: dict[str, list[float]] = {"ours": [], "savgol_by_query": [], "savgol_by_length": []}
    for _ in range(REPEATS):  # interleaved, so that what else the machine does falls on all of them alike
        for name, work in zip(runs, (ours, by_query, by_length), strict=True):
            runs[name].append(cpu_seconds(work))
    seconds = {name: statistics.median(values) for name, values in runs.items()}
    return {"window": SMOOTHING, "seconds": seconds, "speedup": seconds["savgol_by_query"] / seconds["ours"]}


def loop_runs(selected: np.ndarray, starts: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for frame in np.flatnonzero(selected).tolist():
        if runs and runs[-1][1] == frame and frame not in starts:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def loop_vc1(sc: np.ndarray, parameters: dict[str, Any]) -> list[tuple[int, int, float]]:
    selected = sc > parameters["threshold"]
    runs = loop_runs(selected if selected.any() else sc == sc.max(), set())
    return [(first, end, float(np.mean(sc[first:end]))) for first, end in runs]


def loop_vc2(sc: np.ndarray, cfsc: np.ndarray, parameters: dict[str, Any]) -> list[tuple[int, int, float]]:
    below = [False, *(cfsc < parameters["change"]).tolist(), False]
    cuts = {n + 1 for n in range(len(cfsc)) if below[n + 1] and not (below[n] and below[n + 2])}

    def confidence(first: int, end: int) -> float:
        num_top = math.ceil(parameters["share"] * (end - first) - 1e-9)
        return float(np.mean(np.sort(sc[first:end])[-num_top:]))

    scenes = loop_runs(np.ones(len(sc), dtype=bool), cuts)
    best = int(np.argmax(sc))
    kept = [scene for scene in scenes if confidence(*scene) > parameters["threshold"]]
    selected = np.zeros(len(sc), dtype=bool)
    for first, end in kept or [scene for scene in scenes if scene[0] <= best < scene[1]]:
        selected[first:end] = True
    return [(first, end, confidence(first, end)) for first, end in loop_runs(selected, set())]


def loop_trial(split: EmbeddedQueries, method: str, parameters: dict[str, Any]) -> float:
    """R1@0.5 in percent by the definition, a query at a time."""
    curves, hits = split.curves, 0
    for row, num in enumerate(curves.num_frames_Q.tolist()):
        smoothed = savgol_filter(np.log(np.maximum(curves.sc_QT[row, :num], LEAST_COSINE)), parameters["window"], 2)
        sc = (smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())
        runs = loop_vc1(sc, parameters) if method == "vc1" else loop_vc2(sc, curves.cfsc_QU[row, : num - 1], parameters)
        first, last, _ = max(runs, key=lambda run: run[2])
        start, end = first * CLIP_LENGTH_S, min(last * CLIP_LENGTH_S, float(curves.durations_Q[row]))
        hits += any(
            min(end, stop) - max(start, begin) >= 0.5 * (max(end, stop) - min(start, begin))
            for begin, stop in split.windows.spans_QW2[row][split.windows.valid_QW[row]].tolist()
        )
    return 100 * hits / len(curves.num_frames_Q)


def measure_trial(split: EmbeddedQueries, method: str) -> dict[str, Any]:
    """A trial with its smoothing: no two in succession ask for the same M."""
    objective = Objective(split, selection_of(method))
    others = {"change": 0.87, "share": 0.7} if method == "vc2" else {}
    trials = [
        {"threshold": threshold, "window": window, **others}
        for threshold, window in zip(itertools.cycle((0.3, 0.5, 0.7)), range(3, 22, 2))
    ]
    peer_seconds = []
    for parameters in trials[:PEER_REPEATS]:
        started = time.process_time()
        expected = loop_trial(split, method, parameters)
        peer_seconds.append(time.process_time() - started)
        # a mean may round to the other side of a threshold
        if abs(expected - objective(parameters)) > 100 * 3 / NUM_QUERIES:
            raise RuntimeError(f"{method}: the two do not compute the same objective of {parameters}")
    seconds = [cpu_seconds(lambda trial=parameters: objective(trial)) for parameters in trials * 2]
    median, peer = statistics.median(seconds), statistics.median(peer_seconds)
    return {"median_s": median, "slowest_s": max(seconds), "loop_s": peer, "speedup_over_loop": peer / median}


class Nothing(Objective):
    """An objective without a cost, of the same parameters."""

    def __init__(self, ranges: dict[str, Range]):
        self.ranges, self.frozen_range = ranges, None

    def __call__(self, parameters: Mapping[str, Any]) -> float:
        return -sum((parameters[name] - values.low) ** 2 for name, values in self.ranges.items())


def measure_study(split: EmbeddedQueries, method: str) -> dict[str, Any]:
    """A search with its sampler and importances."""
    params = OptimiseThresholdsParams(trials=TRIALS, sensitivity_points=1, seed=0)
    started, cpu_started = time.perf_counter(), time.process_time()
    objective = Objective(split, selection_of(method))
    study = search_thresholds(objective, params)
    cpu_s, wall_s = time.process_time() - cpu_started, time.perf_counter() - started
    idle_s = cpu_seconds(lambda: search_thresholds(Nothing(objective.ranges), params))
    return {"cpu_s": cpu_s, "wall_s": wall_s, "without_objective_s": idle_s, "best_value": study.best_value}


def measure_scoring() -> dict[str, Any] | str:
    """The command on the official sample of 1,550 queries, from start to exit."""
    predictions, truth = SAMPLE / "sample_val_preds.jsonl", SAMPLE / "highlight_val_release.jsonl"
    if not predictions.is_file():
        return "left out: ../shared/real/qvhighlights is not there"
    read_only = "import json, sys, numpy; [[json.loads(row) for row in open(path)] for path in sys.argv[1:]]"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from stillmotion.cli import main; main()", "score", "moments"]
        command += ["--predictions", str(predictions), "--ground-truth", str(truth), "--output", f"{folder}/out.json"]
        commands = {"ours": command, "only_read": [sys.executable, "-c", read_only, str(predictions), str(truth)]}
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, one in commands.items():
                before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run(one, stdout=subprocess.DEVNULL, check=True)
                after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
                cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                runs[name].append((cpu_s, wall_s))
    medians = {
        name: [statistics.median(column) for column in zip(*values, strict=True)] for name, values in runs.items()
    }
    return {name: {"cpu_s": cpu_s, "wall_s": wall_s} for name, (cpu_s, wall_s) in medians.items()}


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    split = make_split()
    result: dict[str, Any] = {
        "queries": NUM_QUERIES,
        "frames": NUM_FRAMES,
        "trials": TRIALS,
        "repeats": REPEATS,
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "smoothing": measure_smoothing(split),
        "trial": {f"{method}_log_smooth_norm": measure_trial(split, method) for method in ("vc1", "vc2")},
        "study": {f"{method}_log_smooth_norm": measure_study(split, method) for method in ("vc1", "vc2")},
        "score_moments": measure_scoring(),
    }
    write_json(RESULT, result, digits=4)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
