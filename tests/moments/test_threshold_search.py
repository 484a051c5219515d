from typing import get_args

import numpy as np
import pytest

from stillmotion.config.evaluation import Method, OptimiseThresholdsParams, SelectionParams
from stillmotion.io.records import Moment
from stillmotion.io.tables import write_json
from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.objective import Objective
from stillmotion.moments.postprocess import POST_PROCESSINGS, postprocess
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.selection import select
from stillmotion.moments.threshold_search import search_thresholds
from stillmotion.moments.thresholds import read_thresholds


def make_split(curves, changes, windows, seconds=2.0):
    """Queries with their curves, and each one's true window as first and last + 1 frame."""
    durations = [seconds * len(curve) for curve in curves]
    batch = stack_curves(
        [np.array(curve, float) for curve in curves],
        [np.array(change, float) for change in changes],
        durations=durations,
        clip_length_s=seconds,
    )
    true = np.zeros(batch.sc_QT.shape, dtype=bool)
    for row, (first, end) in enumerate(windows):
        true[row, first:end] = True
    spans = [[[first * seconds, end * seconds]] for first, end in windows]
    queries = [
        Moment(row, "", f"v{row}", duration, span, list(range(*window)), [])
        for row, (duration, span, window) in enumerate(zip(durations, spans, windows, strict=True))
    ]
    return EmbeddedQueries(queries, batch, pad_windows(spans, columns=2, name="x", key="y"), true)


def planted_vc1():
    """Four frames of 20 belong to each query: one at 0.9, three at 0.6, all others at 0.4.

    Below 0.4 VC1 takes the whole video (IoU 0.2), from 0.6 on the one frame (0.25); between, it is exact.
    """
    curves, windows = [], []
    for first in (0, 3, 9, 16):
        curve = [0.4] * 20
        curve[first : first + 4] = [0.6, 0.6, 0.9, 0.6]
        curves.append([*curve, 0.35])
        windows.append((first, first + 4))
    return make_split(curves, [[0.9] * 20] * 4, windows)


def planted_vc2():
    """Scenes of four frames: the query's at 0.6, those beside it at 0.5, others at 0.2.

    Below 0.5 the scenes beside it are kept and merge with it (IoU a third); from there on it stands alone.
    """
    curves, windows = [], []
    for scene in (1, 2, 3):
        levels = [0.2] * 5
        levels[scene - 1], levels[scene], levels[scene + 1] = 0.5, 0.6, 0.5
        curves.append(np.repeat(levels, 4))
        windows.append((4 * scene, 4 * scene + 4))
    change = [0.9] * 19
    change[3::4] = [0.3] * 4
    return make_split(curves, [change] * 3, windows)


def noisy_split(seed=0, num_queries=6):
    rng = np.random.default_rng(seed)
    curves, changes, windows = [], [], []
    for _ in range(num_queries):
        num = int(rng.integers(8, 20))
        first = int(rng.integers(0, num - 4))
        curve = rng.uniform(0.1, 0.4, num)
        curve[first : first + 4] += 0.2
        curves.append(curve)
        changes.append(rng.uniform(0.3, 1.0, num - 1))
        windows.append((first, first + 4))
    return make_split(curves, changes, windows)


def make_selection(method, post_processing, objective="R1@0.5", least_cosine=1e-6):
    return SelectionParams(
        method=method, post_processing=post_processing, objective=objective, least_cosine=least_cosine
    )


def search(split, method="vc1", post_processing="none", objective="R1@0.5", trials=40, seed=0, least_cosine=1e-6):
    return search_thresholds(
        Objective(split, make_selection(method, post_processing, objective, least_cosine)),
        OptimiseThresholdsParams(trials=trials, sensitivity_points=3, seed=seed),
    )


def recall_by_hand(split, selection):
    hits = []
    for row, query in enumerate(split.queries):
        start, end = selection.windows_QW2[row, 0]
        ((true_start, true_end),) = query.relevant_windows
        overlap = max(0.0, min(end, true_end) - max(start, true_start))
        hits.append(overlap / (end - start + true_end - true_start - overlap) >= 0.5)
    return 100 * np.mean(hits)


def test_a_planted_threshold_of_vc1_is_found():
    study = search(planted_vc1())
    assert study.best_value == 100
    assert 0.4 <= study.best["threshold"] < 0.6
    for trial in study.trials:
        assert trial["value"] == (100 if 0.4 <= trial["threshold"] < 0.6 else 0), trial
        assert 0.35 <= trial["threshold"] <= 0.9  # the range of the similarities


def test_a_planted_threshold_of_vc2_is_found():
    study = search(planted_vc2(), method="vc2")
    assert study.best_value == 100
    assert study.best["threshold"] >= 0.5
    assert study.best.keys() == {"threshold", "change", "share"}
    for trial in study.trials:
        assert trial["value"] == (100 if trial["threshold"] >= 0.5 else 0), trial
        assert 0.3 <= trial["change"] <= 0.9
        assert 0 < trial["share"] <= 1


def test_a_planted_second_threshold_of_vc1_is_found():
    """The window has the highest frame and the highest mean, 0.73, beside frames that are above its others."""
    curve = [0.1] * 4 + [0.6, 1.0, 0.6] + [0.1] * 4 + [0.7] * 3 + [0.1] * 2 + [0.7] * 3
    split = make_split([curve], [[0.9] * 18], [(4, 7)])
    assert search(split, objective="frame_AP@0.5").best_value == 0  # λ gives 3 of 9 frames, or the highest alone
    study = search(split, method="vc1_beta", objective="frame_AP@0.5")
    assert study.best_value == 100
    assert study.best.keys() == {"threshold", "least_confidence"}
    for trial in study.trials:
        right = 0.1 <= trial["threshold"] < 0.6 and trial["least_confidence"] >= 0.7
        assert trial["value"] == (100 if right else 0), trial


def test_frames_can_be_the_objective():
    study = search(planted_vc1(), objective="frame_AP@0.5")
    assert study.best_value == 100
    assert 0.4 <= study.best["threshold"] < 0.6


@pytest.mark.parametrize("method", ["vc1", "vc2"])
@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
@pytest.mark.parametrize("objective", ["R1@0.5", "frame_AP@0.5"])
def test_selecting_with_what_was_found_reaches_the_value_that_was_found(method, post_processing, objective):
    split = noisy_split()
    study = search(split, method, post_processing, objective, trials=12, least_cosine=0.25)
    summary = study.summary(make_selection(method, post_processing, objective, 0.25))
    processed = postprocess(
        split.curves.sc_QT,
        split.curves.num_frames_Q,
        method=summary["post_processing"],
        window=summary["parameters"].get("window"),
        frozen_range=summary["frozen_range"],
        least_cosine=summary["least_cosine"],
    )
    selection = select(split.curves, processed.sc_QT, summary["method"], summary["parameters"])
    if objective == "R1@0.5":
        reached = recall_by_hand(split, selection)
    else:
        ious = [
            (chosen & true).sum() / (chosen | true).sum()
            for chosen, true in zip(selection.frames_QT, split.true_QT, strict=True)
        ]
        reached = 100 * np.mean(np.array(ious) >= 0.5)
    assert reached == pytest.approx(summary["best_value"])
    assert summary["best_value"] == max(trial["value"] for trial in study.trials)
    assert summary["num_trials"] == len(study.trials) == 12
    assert summary["objective"] == objective


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
def test_what_was_found_is_read_by_what_evaluates_it(tmp_path, method, post_processing):
    study = search(noisy_split(), method, post_processing, "R1@0.5", trials=3)
    summary = study.summary(make_selection(method, post_processing, "R1@0.5", 0.25))
    write_json(tmp_path / "thresholds.json", summary)
    found = read_thresholds(tmp_path / "thresholds.json")
    assert (found["method"], found["parameters"]) == (method, study.best)


@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
def test_each_post_processing_searches_its_own_parameters(post_processing):
    split = noisy_split()
    study = search(split, post_processing=post_processing, trials=15)
    smoothed = post_processing == "log_smooth_norm"
    assert study.best.keys() == ({"threshold", "window"} if smoothed else {"threshold"})
    if smoothed:
        assert all(trial["window"] in range(3, 22, 2) for trial in study.trials)
    if post_processing != "none":
        assert all(0 <= trial["threshold"] <= 1 for trial in study.trials)
    valid = split.curves.valid_QT
    low, high = split.curves.sc_QT[valid].min(), split.curves.sc_QT[valid].max()
    assert study.frozen_range == ((low, high) if post_processing == "adjust_norm" else None)


def test_the_floor_of_the_logarithm_is_the_one_of_the_selection():
    low, high = (
        search(noisy_split(), post_processing="log_smooth_norm", trials=25, least_cosine=least)
        for least in (1e-6, 0.45)
    )
    assert low.trials[0]["threshold"] == high.trials[0]["threshold"]
    assert [trial["value"] for trial in low.trials] != [trial["value"] for trial in high.trials]


def test_the_same_seed_gives_the_same_study_and_another_does_not():
    first, same, other = (search(noisy_split(), "vc2", "norm", trials=25, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert first.trials != other.trials


def test_importances_are_shares_of_one_whole():
    study = search(noisy_split(), "vc2", "log_smooth_norm", trials=30)
    assert study.importances.keys() == {"threshold", "window", "change", "share"}
    assert sum(study.importances.values()) == pytest.approx(1)
    assert search(noisy_split(), trials=5).importances == {}


def test_a_study_in_which_nothing_makes_a_difference_has_no_importances():
    curves = [[0.3] * 6] * 2
    study = search(make_split(curves, [[0.9] * 5] * 2, [(0, 2), (3, 5)]), "vc2", "norm", trials=5)
    assert study.best_value == 0
    assert study.importances == {}


@pytest.mark.parametrize("method", ["vc1", "vc2"])
@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
def test_one_trial_on_one_query_of_one_frame_is_a_study(method, post_processing):
    study = search(make_split([[0.4]], [[]], [(0, 1)]), method, post_processing, trials=1)
    assert study.best_value == 100
    assert len(study.trials) == 1
