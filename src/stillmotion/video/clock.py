"""The clock of a file, which is its player's: when each frame is shown, in seconds from the start of the container.

Time stamps that start again or jump, as in joined files and recordings, go on there.

Shapes: F frames in the order of display, N packets of other streams.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stillmotion.video.packets import Packets, keeps_no_pts

JUMP_S = 10.0
"""A longer step between neighbours is a jump; FFmpeg's own threshold for transport streams."""
_BACK_S = 0.1
"""Stamps that step back by less are merely out of order."""
_STILL_S = 600.0
"""A frame that is said to last longer is believed where another stream goes on, or most of the video is such."""
_USUAL_S = 1 / 25
"""How long a frame lasts where nothing says it."""
_NO_LENGTH_S = 0.001
"""What FFmpeg may say of a last frame in ASF and FLV, which say nothing of it."""
_RECORDED = ("mpegts", "mpeg", "flv")
"""Containers of broadcasts and streams, whose clock may jump at any time."""


class Timeline(NamedTuple):
    """When the frames of a file are shown."""

    timestamps: NDArray[np.float64]
    """(F,) seconds, ascending."""
    pts: NDArray[np.int64] | None
    """(F,) stamps that tell the frames apart; None where they must be counted."""
    duration: float
    """When the last frame ends."""
    num_mends: int
    """Where stamps started again or jumped."""


def mended_times(
    times_F: NDArray[np.float64], lasts_F: NDArray[np.float64], others_N: NDArray[np.float64], *, one_clock: bool
) -> tuple[NDArray[np.float64], int]:
    """Stamps without steps back and jumps: across each, a frame lasts as long as most do.

    A long step is no jump where the frame is said to last so long, or where another stream goes on meanwhile.

    Example: 0, 1, 2, 0, 1 is 0, 1, 2, 3, 4, with one mend.

    Args:
        times_F: Seconds as stamped.
        lasts_F: Seconds that each frame is said to last, 0 where that is not known.
        others_N: Seconds of the other streams' stamps, ascending.
        one_clock: The container has one clock, so a still is likelier than a jump: only a step longer than all
            others together is one.

    Returns:
        (F,) seconds, ascending from the first stamp on, and the number of mends.
    """
    steps = np.diff(times_F)
    ahead = steps - np.minimum(lasts_F[:-1], _STILL_S) > JUMP_S
    if (steps > JUMP_S).all():
        ahead[:] = False  # a few frames a minute: nothing tells a jump
    if one_clock:
        ahead &= steps > steps[steps > 0].sum() / 2
    for at in np.flatnonzero(ahead):
        low, high = np.searchsorted(others_N, times_F[at : at + 2])
        ahead[at] = np.diff([times_F[at], *others_N[low:high], times_F[at + 1]]).max() > JUMP_S
    broken = ahead | (steps < -_BACK_S)
    if not broken.any():
        return np.maximum.accumulate(times_F), 0
    sound = steps[~broken & (steps > 0)]
    usual = np.median(sound) if len(sound) else np.where(lasts_F[:-1] > 0, lasts_F[:-1], _USUAL_S)
    shift = np.cumsum(np.where(broken, steps - usual, 0.0))
    return np.maximum.accumulate(times_F - np.concatenate([[0.0], shift])), int(broken.sum())


def frame_timeline(
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    pts: Sequence[int | None],
    dts: Sequence[int | None],
) -> Timeline:
    """When each frame is shown.

    Args:
        container: Where `stream` is.
        stream: The video.
        packets: All its packets.
        pts: (F,) of the frames in the order of display.
        dts: Of the frames, or of all packets where these stand for the frames.
    """
    unit = stream.time_base or Fraction(0)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    known = [value for value in pts if value is not None]
    misordered = known != sorted(known) and packets.dts_rise
    if misordered:  # stamped when they are decoded, as ASF keeps them, or rounded to a coarse clock
        known.sort()
    stamps: NDArray[np.int64] | None = None
    if len(known) < len(pts) or keeps_no_pts(container, stream):
        times = np.arange(len(pts)) / rate
        for source in (packets.dts, dts):
            ticks = sorted({value for value in source if value is not None})[-len(pts) :]
            if len(ticks) == len(pts):
                times = (np.array(ticks) - ticks[0]) * float(unit)
        lasts, last, first = np.zeros(len(pts)), 0.0, stream.start_time
        if known and not keeps_no_pts(container, stream):  # Matroska gives none before time 0
            at = next(at for at, value in enumerate(pts) if value is not None)
            first = known[0] - round(times[at] / float(unit))
    else:
        first = known[0]
        times = (np.array(known) - first) * float(unit)
        stated = dict(packets.spans)
        lasts = np.array([stated.get(value, 0) for value in known]) * float(unit)
        # What holds no frame of its own, a second field or nothing at all, goes on showing the last one.
        begin = max((at for at, (value, _) in enumerate(packets.spans) if value == known[-1]), default=0)
        ends = [value + duration for value, duration in packets.spans[begin:] if value >= known[-1]]
        last = (max(ends, default=known[-1]) - known[-1]) * float(unit)
        if not misordered and len(set(known)) == len(known) and (np.diff(times) >= 0).all():
            stamps = np.array(known, dtype=np.int64)
    if last <= (_NO_LENGTH_S if container.format.name in ("asf", "flv") else 0.0):
        last = float(np.median(np.diff(times))) if len(times) > 1 else 1 / rate
    if container.format.name == "avi":
        lasts = np.diff(times, append=times[-1])  # it has no stamps that could jump, but chunks without data
    one_clock = container.format.name not in _RECORDED
    others = np.sort(packets.others_s) - (0.0 if first is None else float(first * unit))
    times, num_mends = mended_times(times, lasts, others, one_clock=one_clock)
    times = times + (0.0 if first is None else _gap_s(container, first * unit))
    return Timeline(times, stamps, float(times[-1]) + last, num_mends)


def _gap_s(container: InputContainer, first: Fraction) -> float:
    """Seconds from the start of the container to the first frame, of a stamp in seconds.

    The container starts with the earliest of its sound and pictures; MPEG-TS, to FFmpeg, with its first stream.
    """
    streams = [stream for stream in container.streams if stream.type in ("audio", "video")]
    if container.format.name == "mpegts":
        streams = streams[:1]
    starts = [
        stream.start_time * stream.time_base
        for stream in streams
        if not (stream.start_time is None or stream.time_base is None or stream.disposition & Disposition.attached_pic)
    ]
    return float(first - min([first, *starts]))
