"""Few-shot linear probes: multinomial logistic regression on frozen embeddings.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.2.4, after Radford et al. 2021; METHODS.md
section 4. Solver: scikit-learn's L-BFGS.

Shapes: N samples, K classes, D embedding dimensions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillmotion.config.training import LinearProbeParams

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 1000
TOLERANCE = 1e-8
"""Of the gradient. On unit vectors the solver's own, 1e-4, is met after one step where C is small, which is then chosen
for what it has not come to."""


@dataclass(frozen=True)
class Probe:
    """A fitted probe and how it came about."""

    shots: int
    seed: int
    num_samples: int
    """Fewer than shots × classes where a class has fewer samples."""
    c: float
    validation_top1: float | None
    """Percent; null where the validation split has no samples: c is then the middle of the grid."""
    weights_KD1: np.ndarray
    """A row a class, the bias last; a class without a sample has the bias -inf replaced by -1e9."""

    def scores(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """Class scores (N, K)."""
        return embeddings_ND @ self.weights_KD1[:, :-1].T + self.weights_KD1[:, -1]


def c_grid(params: LinearProbeParams) -> np.ndarray:
    """Inverse regularisation strengths, rising: evenly spaced in the logarithm, or literally."""
    if params.spacing == "log":
        return np.geomspace(params.min_c, params.max_c, params.num_c)
    return np.linspace(params.min_c, params.max_c, params.num_c)


def few_shot_rows(labels_N: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of up to `shots` samples of each class, drawn without replacement, sorted.

    More shots of the same seed contain the fewer ones.
    """
    rng = np.random.default_rng([seed])
    rows = []
    for label in np.unique(labels_N):
        own = np.flatnonzero(labels_N == label)
        rows.append(rng.permutation(own)[:shots])
    return np.sort(np.concatenate(rows))


def _weights(model: "LogisticRegression", num_classes: int) -> np.ndarray:
    coefficients, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, bias = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.array([-bias[0], bias[0]]) / 2,
        )
    weights = np.zeros((num_classes, coefficients.shape[1] + 1))
    weights[:, -1] = -1e9
    weights[model.classes_] = np.concatenate([coefficients, bias[:, None]], axis=1)
    return weights


def fit_probe(
    train_ND: np.ndarray,
    train_labels_N: np.ndarray,
    validation_ND: np.ndarray,
    validation_labels_N: np.ndarray,
    params: LinearProbeParams,
    *,
    num_classes: int,
    shots: int,
    seed: int,
) -> Probe:
    """Fit a probe on `shots` samples a class, with the C that does best on validation (the least of equals).

    Args:
        train_ND: embeddings to draw the samples from; at least two classes among them.
        train_labels_N: class indices.
        validation_ND: embeddings that choose C; may be empty.
        validation_labels_N: class indices.
        params: the grid.
        num_classes: K.
        shots: samples a class.
        seed: of the draw.
    """
    # scikit-learn is most of what a start would take, and a dataset without actions fits no probe
    from sklearn.linear_model import LogisticRegression

    rows = few_shot_rows(train_labels_N, shots, seed)
    samples, labels = train_ND[rows], train_labels_N[rows]
    grid = c_grid(params)
    if not len(validation_ND):
        grid = grid[[len(grid) // 2]]
    best: tuple[float, float, np.ndarray] | None = None
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=TOLERANCE, warm_start=True)
    for c in grid:
        model.set_params(C=float(c)).fit(samples, labels)
        weights = _weights(model, num_classes)
        predicted = (validation_ND @ weights[:, :-1].T + weights[:, -1]).argmax(axis=1)
        top1 = float(100 * (predicted == validation_labels_N).mean()) if len(validation_ND) else 0.0
        if best is None or top1 > best[1]:
            best = (float(c), top1, weights)
    assert best is not None
    return Probe(shots, seed, len(rows), best[0], best[1] if len(validation_ND) else None, best[2])
