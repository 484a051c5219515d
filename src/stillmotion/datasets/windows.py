"""Windows of time, and the clips of equal length that they cover."""

from collections.abc import Iterable, Sequence

from stillmotion.video.sampling import clip_times


def merge_windows(windows: Iterable[tuple[float, float]]) -> list[list[float]]:
    """Sort windows and join those that overlap, not those that only touch.

    Example:
        (8, 10), (0, 4), (3, 6) and (6, 7) become [0, 6], [6, 7] and [8, 10].
    """
    merged: list[list[float]] = []
    for start, end in sorted(windows):
        if merged and start < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def clip_coverage(windows: Sequence[Sequence[float]], clip: int, *, duration: float, clip_length_s: float) -> float:
    """Share of a clip that disjoint windows cover, 0 to 1, where the last clip ends with the video."""
    start, end = clip * clip_length_s, min((clip + 1) * clip_length_s, duration)
    overlap = sum(max(0.0, min(end, window[1]) - max(start, window[0])) for window in windows)
    return min(1.0, overlap / (end - start))


def covered_clips(windows: Sequence[Sequence[float]], *, duration: float, clip_length_s: float) -> list[int]:
    """Indices of the clips of which windows cover at least half.

    A window that covers half of no clip counts for the one that it covers most, so that no query is without
    a relevant clip.

    Example:
        With 2 s clips and a video of 9 s, the window [3, 6.5] covers half of clip 1, all of clip 2 and a
        quarter of clip 3: [1, 2]. The window [8.2, 8.6] covers 40 % of clip 4, which ends at 9 s: [4].
    """
    num_clips = len(clip_times(duration, clip_length_s=clip_length_s, position="start"))
    covered = set()
    for window in windows:
        first = min(num_clips - 1, int(window[0] / clip_length_s))
        last = min(num_clips - 1, int(window[1] / clip_length_s))
        shares = {
            clip: clip_coverage(windows, clip, duration=duration, clip_length_s=clip_length_s)
            for clip in range(first, last + 1)
        }
        half = {clip for clip, share in shares.items() if share >= 0.5 - 1e-9}
        covered |= half or {max(shares, key=lambda clip: (shares[clip], -clip))}
    return sorted(covered)
