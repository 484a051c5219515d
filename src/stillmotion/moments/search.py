"""Search of the parameters of moment selection with Optuna's TPE, on labelled queries.

Source: Caravaca 2024 (papers/vclipper.txt), section 3; METHODS.md section 2.

Parameters by their names in the source: λ `threshold`, β `least_confidence`, α `change`, p `share`,
M `window`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from stillmotion.metrics.frames import frame_values
from stillmotion.metrics.moments import recall_at_1, top1_iou
from stillmotion.moments.curves import Curves, Floats
from stillmotion.moments.postprocess import log_curves, postprocess, smooth_norm, train_range
from stillmotion.moments.runs import Selection, top_windows
from stillmotion.moments.selection import select_vc1, select_vc2, vc1_runs, vc2_runs
from stillmotion.moments.split import SplitMoments
from stillmotion.params import OptimiseThresholdsParams, SelectionParams

LONGEST_SMOOTHING = 21
"""M is searched among the odd numbers from 3 to this."""


@dataclass(frozen=True)
class Study:
    """A finished search."""

    best: dict[str, float | int]
    best_value: float
    trials: list[dict[str, Any]]
    """A row a trial: number, value, parameters."""
    importances: dict[str, float]
    """Share of the objective's variance by parameter (fANOVA); empty for one parameter, or equal values."""
    frozen_range: tuple[float, float] | None
    """Minimum and maximum over the train split, for `adjust_norm`."""

    def summary(self, selection: SelectionParams, objective: str) -> dict[str, Any]:
        """What evaluation needs, and what a reader asks first."""
        return {
            "method": selection.method,
            "post_processing": selection.post_processing,
            "least_cosine": selection.least_cosine,
            "objective": objective,
            "best_value": self.best_value,
            "parameters": self.best,
            "frozen_range": self.frozen_range,
            "importances": self.importances,
            "num_trials": len(self.trials),
        }


def select(curves: Curves, sc_QT: Floats, method: str, parameters: dict[str, Any]) -> Selection:
    """The whole selection of VC1 or VC2 with found parameters."""
    if method == "vc1":
        return select_vc1(
            curves,
            sc_QT,
            threshold=parameters["threshold"],
            least_confidence=parameters.get("least_confidence"),
        )
    return select_vc2(
        curves, sc_QT, threshold=parameters["threshold"], change=parameters["change"], share=parameters["share"]
    )


def search_thresholds(train: SplitMoments, selection: SelectionParams, params: OptimiseThresholdsParams) -> Study:
    """Search on the train split.

    λ is searched over [0, 1] where the post-processing gives that range and over the range of the
    similarities otherwise, α over the range of CFSc, p over (0, 1], M over odd numbers. The same seed gives
    the same study.
    """
    curves = train.curves
    valid_QT = curves.valid_QT
    low, high = train_range(curves.sc_QT, curves.num_frames_Q)
    frozen_range = (low, high) if selection.post_processing == "adjust_norm" else None
    smoothed = selection.post_processing == "log_smooth_norm"
    # What no parameter changes is computed once for all trials.
    logs = log_curves(curves.sc_QT, curves.num_frames_Q, least_cosine=selection.least_cosine) if smoothed else None
    plain = "none" if smoothed else selection.post_processing
    unsmoothed = postprocess(curves.sc_QT, curves.num_frames_Q, method=plain, frozen_range=frozen_range)
    threshold_range = (low, high) if selection.post_processing == "none" else (0.0, 1.0)
    changes = curves.cfsc_QU[valid_QT[:, 1:]]
    change_range = (float(changes.min()), float(changes.max())) if changes.size else (0.0, 1.0)

    def value_of(trial: optuna.Trial) -> float:
        parameters: dict[str, Any] = {"threshold": trial.suggest_float("threshold", *threshold_range)}
        if smoothed:
            parameters["window"] = trial.suggest_int("window", 3, LONGEST_SMOOTHING, step=2)
        if selection.method == "vc2":
            parameters["change"] = trial.suggest_float("change", *change_range)
            parameters["share"] = trial.suggest_float("share", 0.05, 1.0)
        if logs is not None:
            sc_QT = smooth_norm(logs, curves.num_frames_Q, window=parameters["window"]).sc_QT
        else:
            sc_QT = unsmoothed.sc_QT
        if params.objective == "R1@0.5":
            return _recall(train, sc_QT, selection.method, parameters)
        frames_QT = select(curves, sc_QT, selection.method, parameters).frames_QT
        return float(100 * np.mean(frame_values(frames_QT, train.true_QT, valid_QT)["AP@0.5"]))

    study = _run_study(value_of, params)
    names = list(study.best_params)
    importances = {}
    if len(names) > 1 and len({trial.value for trial in study.trials}) > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=params.seed)
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    trials = [{"number": trial.number, "value": trial.value, **trial.params} for trial in study.trials]
    return Study(study.best_params, study.best_value, trials, importances, frozen_range)


def _run_study(value_of: Callable[[optuna.Trial], float], params: OptimiseThresholdsParams) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The first tenth is drawn at random; several values at a time are modelled together.
    sampler = optuna.samplers.TPESampler(
        seed=params.seed, n_startup_trials=max(10, params.trials // 10), multivariate=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(value_of, n_trials=params.trials)
    return study


def _recall(train: SplitMoments, sc_QT: Floats, method: str, parameters: dict[str, Any]) -> float:
    """R1@0.5 in percent, without ranking more than the top window."""
    curves = train.curves
    if method == "vc1":
        runs, confidence_R, _ = vc1_runs(curves, sc_QT, threshold=parameters["threshold"])
    else:
        runs, confidence_R, _ = vc2_runs(
            curves, sc_QT, threshold=parameters["threshold"], change=parameters["change"], share=parameters["share"]
        )
    return recall_at_1(top1_iou(top_windows(runs, confidence_R, curves), train.windows), 0.5)
