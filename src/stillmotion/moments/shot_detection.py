"""Cuts in the pixels of a video file, found by PySceneDetect, and the shots between them.

Its detectors alone are used, on the frames and times that every other stage has: its own readers take any stream,
count from the first frame, and depend on what is installed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stillmotion.config.evaluation import Detector
from stillmotion.io.memo import Memo
from stillmotion.io.tables import read_json, write_json
from stillmotion.video.decode import decoded_frames
from stillmotion.video.probe import VideoError, probe_video, video_digest
from stillmotion.video.unchanged import unchanged


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """Which detector, and how sensitive: the params of the stage."""

    detector: Detector
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
    sha256: str | None = None
    """Of the file, where it is stated."""


def _detect(path: Path, settings: DetectorSettings) -> list[float]:
    # in the processes that look at frames alone: the one that hands out the videos needs none of these
    import cv2
    from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
    from scenedetect.common import Timecode
    from scenedetect.scene_manager import compute_downscale_factor

    cv2.setNumThreads(1)  # each process has its CPU
    detectors = {"content": ContentDetector, "adaptive": AdaptiveDetector}
    detector = detectors[settings.detector](settings.threshold, min_scene_len=settings.min_shot_s)
    probe = probe_video(path)
    cuts: list[FrameTimecode] = []
    size: tuple[int, int] | None = None
    for index, frame in decoded_frames(path, probe, range(probe.num_frames), lenient=True):
        size = size or (frame.width, frame.height)
        image: NDArray[Any] = frame.to_ndarray(format="bgr24", width=size[0], height=size[1])
        factor = compute_downscale_factor(max(size))
        if factor > 1:
            small = (max(1, round(size[0] / factor)), max(1, round(size[1] / factor)))
            image = cv2.resize(image, small, interpolation=cv2.INTER_LINEAR)
        seconds = Fraction(probe.timestamps[index]).limit_denominator(1_000_000)
        time = FrameTimecode(Timecode(seconds.numerator, Fraction(1, seconds.denominator)), probe.fps)
        cuts += detector.process_frame(time, image)
    if size is None:
        raise VideoError("corrupt: no frame can be decoded")
    return sorted({cut.seconds for cut in cuts + detector.post_process(time)})


def find_cuts(task: DetectionTask) -> list[float]:
    """Seconds from the start of the file at which each shot but the first starts, from the memo where they are there.

    Raises:
        VideoError: the video can't be used.
        InputError: see `unchanged`.
    """
    key = {
        "content": task.sha256 or (video_digest(task.path) if task.memo.root is not None else None),
        "settings": asdict(task.settings),
        "code": task.code,
        "versions": {name: version(name) for name in ("av", "opencv-python-headless", "scenedetect-headless")},
    }

    def detect() -> list[float]:
        with unchanged(task.path, task.sha256):
            return _detect(task.path, task.settings)

    cuts, _ = task.memo.recall("shots", key, detect, load=read_json, save=write_json, suffix=".json")
    return list(cuts)


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
