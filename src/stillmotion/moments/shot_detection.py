"""Cuts in the pixels of a video file, found by PySceneDetect, and the shots between them.

Its PyAV backend alone is used: where that can't open a file, PySceneDetect's own front door would take OpenCV,
and the answer would depend on what is installed.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from stillmotion.io.memo import Memo, file_digest
from stillmotion.io.tables import read_json, write_json
from stillmotion.video.probe import VideoError


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """Which detector, and how sensitive: the params of the stage."""

    detector: Literal["content", "adaptive"]
    threshold: float
    """ContentDetector's change of pixels from 0 to 255, or AdaptiveDetector's ratio of it to its surroundings."""
    min_shot_s: float


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """A video and how to cut it."""

    video_id: str
    path: Path
    settings: DetectorSettings
    memo: Memo
    code: str
    """Digest of the source that decides the cuts."""


def _detect(path: Path, settings: DetectorSettings) -> list[float]:
    # in the processes that look at frames alone: the one that hands out the videos needs none of these
    import av
    import cv2
    from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, VideoOpenFailure, VideoStreamAv

    logging.getLogger("pyscenedetect").setLevel(logging.CRITICAL)
    cv2.setNumThreads(1)  # each process has its CPU
    try:
        video = VideoStreamAv(path, suppress_output=True)
        manager = SceneManager()
        if settings.detector == "content":
            manager.add_detector(ContentDetector(settings.threshold, min_scene_len=settings.min_shot_s))
        else:
            manager.add_detector(AdaptiveDetector(settings.threshold, min_scene_len=settings.min_shot_s))
        num_frames = manager.detect_scenes(video)
    except (VideoOpenFailure, av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
        reason = " ".join((str(error) or type(error).__name__).replace(str(path), "the file").split())
        raise VideoError(f"PySceneDetect can't read it ({reason})") from None
    if num_frames < 1:
        raise VideoError("PySceneDetect reads no frames, or frames without times")
    scenes = manager.get_scene_list(start_in_scene=True)
    first_s = scenes[0][0].seconds
    return [start.seconds - first_s for start, _ in scenes[1:]]


def find_cuts(task: DetectionTask) -> list[float]:
    """Seconds from the first frame at which each shot but the first starts, from the memo where they are there.

    Raises:
        VideoError: PySceneDetect reads no frame of the video.
    """
    key = {
        "content": file_digest(task.path) if task.memo.root is not None else None,
        "settings": asdict(task.settings),
        "code": task.code,
        "versions": {name: version(name) for name in ("av", "opencv-python-headless", "scenedetect-headless")},
    }
    found: list[float] | None = task.memo.read("shots", key, read_json, suffix=".json")
    if found is not None:
        return found
    cuts = _detect(task.path, task.settings)
    task.memo.store("shots", key, lambda entry: write_json(entry, cuts), suffix=".json")
    return cuts


def shots_between(cuts: Sequence[float], duration: float) -> list[list[float]]:
    """The shots that cuts make of a video, which cover it without gaps.

    Example: cuts at 4 and 12 s in a video of 10 s: [0, 4] and [4, 10].

    Args:
        cuts: seconds; what lies outside the video, or twice, cuts nothing.
        duration: seconds of the video.
    """
    inside = sorted({float(cut) for cut in cuts if 0 < cut < duration})
    edges = [0.0, *inside, float(duration)]
    return [[start, end] for start, end in zip(edges, edges[1:], strict=False)]
