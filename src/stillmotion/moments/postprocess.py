"""Post-processing of similarity curves: none, norm, adjust_norm, log_smooth_norm.

VClipper (Caravaca 2024), section 3; METHODS.md section 2. Every step works on each query alone and element by
element, so that neither the padding nor the other queries of the batch change a bit of the result.
"""

# Q queries, T frames (padded), M taps of the smoothing window, H taps of half of it.

from dataclasses import dataclass
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stillmotion.config.evaluation import PostProcessing
from stillmotion.errors import InputError
from stillmotion.moments.curves import Floats, Mask, valid_frames

POST_PROCESSINGS: tuple[PostProcessing, ...] = get_args(PostProcessing)

LEAST_COSINE = 1e-6
"""What a cosine of zero or below becomes before its logarithm is taken."""
POLYNOMIAL_ORDER = 2
CONSTANT_SPAN = 1e-9
"""A curve whose span is below this share of its largest magnitude is constant."""


@dataclass(frozen=True, slots=True)
class PostProcessed:
    """Curves that the thresholds are compared with."""

    sc_QT: Floats
    """Zero on padding."""
    num_clipped: int
    """Cosines that `log_smooth_norm` raised to its floor."""


def train_range(sc_QT: Floats, num_frames_Q: NDArray[np.int64]) -> tuple[float, float]:
    """Least and greatest similarity over all frames of the train split, for `adjust_norm`."""
    values = sc_QT[valid_frames(num_frames_Q, sc_QT.shape[1])]
    return float(values.min()), float(values.max())


def min_max(sc_QT: Floats, valid_QT: Mask) -> Floats:
    """Curves scaled to [0, 1] each, and to zeros where constant to nine digits.

    Without the tolerance a constant curve whose smoothing left a last bit would be blown up to noise.
    """
    low_Q1 = np.where(valid_QT, sc_QT, np.inf).min(axis=1, keepdims=True)
    high_Q1 = np.where(valid_QT, sc_QT, -np.inf).max(axis=1, keepdims=True)
    span_Q1 = high_Q1 - low_Q1
    varies_Q1 = span_Q1 > CONSTANT_SPAN * np.maximum(np.abs(low_Q1), np.abs(high_Q1))
    scaled_QT = (sc_QT - low_Q1) / np.where(varies_Q1, span_Q1, 1.0)
    return np.where(valid_QT & varies_Q1, scaled_QT, 0.0)


def log_curves(sc_QT: Floats, num_frames_Q: NDArray[np.int64], *, least_cosine: float = LEAST_COSINE) -> PostProcessed:
    """Natural logarithm of the similarities, those below `least_cosine` raised to it and counted.

    The part of `log_smooth_norm` that has no parameter: a search computes it once.
    """
    valid_QT = valid_frames(num_frames_Q, sc_QT.shape[1])
    clipped_QT = valid_QT & (sc_QT < least_cosine)
    log_QT = np.log(np.where(valid_QT, np.where(clipped_QT, least_cosine, sc_QT), 1.0))
    return PostProcessed(log_QT, int(clipped_QT.sum()))


def _fitted_ends(curves_QT: Floats, coefficients_HM: Floats) -> Floats:
    """The first H values of the polynomial through each curve's first M points, tap by tap."""
    half, window = coefficients_HM.shape
    taps_MQ = np.ascontiguousarray(curves_QT[:, :window].T)
    ends_HQ = np.zeros((half, len(curves_QT)))
    product_HQ = np.empty_like(ends_HQ)
    for tap in range(window):
        ends_HQ += np.multiply(coefficients_HM[:, tap, None], taps_MQ[tap], out=product_HQ)
    return ends_HQ.T


@cache
def _coefficients(window: int) -> tuple[Floats, Floats]:
    """Savitzky-Golay taps of the middle (M,), and of each of the first places (H, M); not to be written to."""
    # scipy.signal takes longer to import than a stage that does not smooth takes as a whole
    from scipy.signal import savgol_coeffs

    ends = [savgol_coeffs(window, POLYNOMIAL_ORDER, pos=pos, use="dot") for pos in range(window // 2)]
    return savgol_coeffs(window, POLYNOMIAL_ORDER, use="dot"), np.array(ends)


def _smooth_equal_lengths(curves_QT: Floats, window: int) -> Floats:
    """Savitzky-Golay of unpadded curves, the ends from the polynomial of the first and last window.

    `scipy.signal.savgol_filter(mode="interp")` but for rounding: there the least-squares fit of the ends lets
    the other queries of the batch change the last bits, and takes most of the time.
    """
    from scipy.ndimage import correlate1d  # here, as scipy.signal in _coefficients

    half = window // 2
    middle_M, ends_HM = _coefficients(window)
    smooth_QT = correlate1d(curves_QT, middle_M, axis=1, mode="constant")
    smooth_QT[:, :half] = _fitted_ends(curves_QT, ends_HM)
    smooth_QT[:, -half:] = _fitted_ends(curves_QT[:, ::-1], ends_HM)[:, ::-1]
    return smooth_QT


def smooth(curves_QT: Floats, num_frames_Q: NDArray[np.int64], *, window: int) -> Floats:
    """Savitzky-Golay filter of order 2 over each query's frames.

    In a video shorter than the window it shrinks to the longest odd length that fits; below 3 frames the
    curve stays as it is.

    Args:
        curves_QT: padded curves.
        num_frames_Q: frames of each.
        window: M, odd and greater than 2.

    Raises:
        InputError: M is even or less than 3.
    """
    if window < 3 or window % 2 == 0:
        raise InputError(f"smoothing window is {window}; give an odd number of at least 3")
    smooth_QT = curves_QT.copy()
    for num_frames in np.unique(num_frames_Q):
        fitting = min(window, num_frames - 1 + num_frames % 2)
        if fitting >= 3:
            rows = np.flatnonzero(num_frames_Q == num_frames)
            smooth_QT[rows, :num_frames] = _smooth_equal_lengths(curves_QT[rows, :num_frames], fitting)
    return smooth_QT


def postprocess(
    sc_QT: Floats,
    num_frames_Q: NDArray[np.int64],
    *,
    method: PostProcessing,
    window: int | None = None,
    frozen_range: tuple[float, float] | None = None,
    least_cosine: float = LEAST_COSINE,
) -> PostProcessed:
    """Post-process each query's curve.

    - `none`: as it is.
    - `norm`: (Sc - min) / (max - min) of the query; a constant curve becomes zeros.
    - `adjust_norm`: the same with the train split's minimum and maximum, so values may leave [0, 1].
    - `log_smooth_norm`: logarithm, Savitzky-Golay of window M, `norm`.

    Example: [0.2, 0.3, 0.25] by `norm` is [0, 1, 0.5].

    Args:
        sc_QT: padded similarities.
        num_frames_Q: frames of each query.
        method: which of them.
        window: M of `log_smooth_norm`.
        frozen_range: `train_range` of the train split, for `adjust_norm`.
        least_cosine: floor of the logarithm of `log_smooth_norm`.

    Raises:
        InputError: the method is unknown or its parameter missing or wrong.
    """
    valid_QT = valid_frames(num_frames_Q, sc_QT.shape[1])
    if method == "none":
        return PostProcessed(np.where(valid_QT, sc_QT, 0.0), 0)
    if method == "norm":
        return PostProcessed(min_max(sc_QT, valid_QT), 0)
    if method == "adjust_norm":
        if frozen_range is None or not frozen_range[0] <= frozen_range[1]:
            raise InputError(f"adjust_norm: range {frozen_range}; give the train split's minimum and maximum")
        low, high = frozen_range
        if low == high:
            return PostProcessed(np.zeros_like(sc_QT), 0)
        return PostProcessed(np.where(valid_QT, (sc_QT - low) / (high - low), 0.0), 0)
    if method == "log_smooth_norm":
        if window is None:
            raise InputError("log_smooth_norm: no smoothing window; give M, an odd number of at least 3")
        return smooth_norm(log_curves(sc_QT, num_frames_Q, least_cosine=least_cosine), num_frames_Q, window=window)
    raise InputError(f"post-processing is {method!r}; give one of {', '.join(POST_PROCESSINGS)}")


def smooth_norm(logs: PostProcessed, num_frames_Q: NDArray[np.int64], *, window: int) -> PostProcessed:
    """`log_smooth_norm` from its logarithm: what a search repeats for each M."""
    smooth_QT = smooth(logs.sc_QT, num_frames_Q, window=window)
    return PostProcessed(min_max(smooth_QT, valid_frames(num_frames_Q, smooth_QT.shape[1])), logs.num_clipped)
