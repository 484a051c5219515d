"""One video into the frames store: probe, choose the frames, decode them once.

Shapes: F stored frames, U uniform frames, L clips.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillmotion.io.arrays import load_array, save_array, writable_map
from stillmotion.io.memo import Memo
from stillmotion.video.decode import Geometry, decode_frames
from stillmotion.video.jpeg import codec_version, encode_jpegs
from stillmotion.video.packed import PackedVideo
from stillmotion.video.probe import Probe, probe_video, video_digest
from stillmotion.video.sampling import clip_times, frames_shown_at, segment_times
from stillmotion.video.unchanged import unchanged


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Which frames of a video are stored, and how large: the params of the stage."""

    size_px: int
    geometry: Geometry
    num_uniform: int
    clip_length_s: float
    clip_position: Literal["start", "middle"]
    format: Literal["raw", "jpeg"]


@dataclass(frozen=True, slots=True)
class PackingTask:
    """A video and where its frames go."""

    video_id: str
    path: Path
    target: Path
    plan: SamplingPlan
    memo: Memo
    code: str
    """Digest of the source that decides the bytes."""
    duration: float | None = None
    """Seconds from the start that the dataset uses; None: all."""
    sha256: str | None = None
    """Of the file, where it is stated."""


def planned_frames(probe: Probe, plan: SamplingPlan) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which frames of a video to store.

    Returns:
        (F,) frames of the video, ascending, each once; (U,) and (L,) which of those F are the uniform ones
        and the ones that stand for the clips.
    """
    uniform_U = frames_shown_at(probe.timestamps, segment_times(probe.duration, plan.num_uniform))
    times_L = clip_times(probe.duration, clip_length_s=plan.clip_length_s, position=plan.clip_position)
    clips_L = frames_shown_at(probe.timestamps, times_L)
    stored_F = np.union1d(uniform_U, clips_L)
    return stored_F, np.searchsorted(stored_F, uniform_U), np.searchsorted(stored_F, clips_L)


def _decode_to_file(path: Path, target: Path, probe: Probe, stored_F: NDArray[np.int64], plan: SamplingPlan) -> None:
    """Fill a `.npy` file with frames; memory grows with their number by that of their JPEGs alone."""
    shape = (len(stored_F), plan.size_px, plan.size_px, 3)
    raw = target if plan.format == "raw" else target.with_name(f"{target.name}.raw")
    try:
        frames = writable_map(raw, np.uint8, shape)
        decode_frames(path, probe, stored_F, plan.size_px, plan.geometry, out=frames)
        if plan.format == "raw":
            frames.flush()
        else:
            save_array(target, encode_jpegs(frames))
    finally:
        if raw != target:
            raw.unlink(missing_ok=True)


def pack_video(task: PackingTask) -> PackedVideo:
    """Put the frames of one video at `task.target`, from the memo where they are there already.

    Raises:
        VideoError: the video can't be used; there is then no file at the target.
        InputError: see `unchanged`.
    """
    with unchanged(task.path, task.sha256) as look:
        return _pack_video(task, look)


def _pack_video(task: PackingTask, look: Callable[[], None]) -> PackedVideo:
    probe = probe_video(task.path)
    shortened = {}
    if task.duration is not None and task.duration < probe.duration:
        shortened = {"duration": task.duration}
        probe = replace(probe, duration=task.duration)
    stored_F, uniform_U, clips_L = planned_frames(probe, task.plan)
    key = {
        "content": task.sha256 or (video_digest(task.path) if task.memo.root is not None else None),
        "plan": asdict(task.plan) | shortened,
        "code": task.code,
        "versions": {name: version(name) for name in ("av", "decord", "numpy")},
        "codec": codec_version() if task.plan.format == "jpeg" else None,
    }

    def decode(target: Path) -> None:
        _decode_to_file(task.path, target, probe, stored_F, task.plan)
        look()

    from_memo = task.memo.fetch("frames", key, task.target, decode, suffix=".npy")
    columns = ("duration", "fps", "num_frames", "width", "height", "codec")
    return PackedVideo(
        probed={name: getattr(probe, name) for name in columns},
        timestamps=probe.timestamps[stored_F],
        uniform=uniform_U,
        clips=clips_L,
        from_memo=from_memo,
        num_bytes=len(load_array(task.target)) if task.plan.format == "jpeg" else None,
    )
