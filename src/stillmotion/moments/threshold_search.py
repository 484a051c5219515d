"""Search of the parameters of moment selection with Optuna's TPE, on labelled queries.

Source: Caravaca 2024 (papers/vclipper.txt), section 3; METHODS.md section 2. The parameters and what they range over:
`objective.Objective`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillmotion.config.evaluation import OptimiseThresholdsParams, SelectionParams
from stillmotion.moments.objective import Objective

if TYPE_CHECKING:
    import optuna


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

    def summary(self, selection: SelectionParams) -> dict[str, Any]:
        """Content of thresholds.json: what evaluation needs, and what a reader asks first."""
        return {
            "method": selection.method,
            "post_processing": selection.post_processing,
            "least_cosine": selection.least_cosine,
            "objective": selection.objective,
            "best_value": self.best_value,
            "parameters": self.best,
            "frozen_range": self.frozen_range,
            "importances": self.importances,
            "num_trials": len(self.trials),
        }


def search_thresholds(objective: Objective, params: OptimiseThresholdsParams) -> Study:
    """Search the best parameters; the same seed gives the same study.

    Args:
        objective: on the train split.
        params: number of trials and seed.
    """

    def value_of(trial: "optuna.Trial") -> float:
        return objective({name: _suggest(trial, name, objective) for name in objective.ranges})

    import optuna  # where there is something to search: a dataset without moments starts no study

    study = _run_study(value_of, params)
    importances = {}
    if len(objective.ranges) > 1 and len({trial.value for trial in study.trials}) > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=params.seed)
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    trials = [{"number": trial.number, "value": trial.value, **trial.params} for trial in study.trials]
    return Study(study.best_params, study.best_value, trials, importances, objective.frozen_range)


def _suggest(trial: "optuna.Trial", name: str, objective: Objective) -> float | int:
    values = objective.ranges[name]
    if values.step is not None:
        return trial.suggest_int(name, int(values.low), int(values.high), step=values.step)
    return trial.suggest_float(name, values.low, values.high)


def _run_study(value_of: Callable[["optuna.Trial"], float], params: OptimiseThresholdsParams) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The first tenth is drawn at random; several values at a time are modelled together.
    sampler = optuna.samplers.TPESampler(
        seed=params.seed, n_startup_trials=max(10, params.trials // 10), multivariate=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(value_of, n_trials=params.trials)
    return study
