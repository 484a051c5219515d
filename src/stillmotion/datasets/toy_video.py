"""The videos of the built-in dataset as H.264 files."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from stillmotion.datasets.toy_scene import draw, draw_card
from stillmotion.datasets.toy_story import Story
from stillmotion.io.memo import Memo
from stillmotion.provenance import code_version
from stillmotion.stage import Progress
from stillmotion.video.workers import run_in_workers

KEYFRAME_INTERVAL_S = 5
"""As in usual files: nobody can seek to any frame for nothing."""
ENCODER_OPTIONS = {
    "preset": "veryfast",
    "crf": "18",
    "bf": "2",
    # Macroblock-tree rate control reads memory that it never wrote where a frame is a few macroblocks wide: one
    # run in about five gave other bytes (x264 core 165, 64 px).
    "x264-params": "mbtree=0",
}


def story_frames(story: Story, *, size_px: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames in order, each RGB of shape (size_px, size_px, 3)."""
    for event in story.events:
        for frame in range(event.first_frame, event.first_frame + event.num_frames):
            if event.described:
                yield draw(event.subject, event.pose_at(frame, fps=story.fps), size_px)
            else:
                yield draw_card(event.subject.color, event.subject.background, frame, size_px)


def write_video(story: Story, path: Path, *, size_px: int) -> None:
    """Encode a story as H.264 in MP4, with B-frames; the same bytes each time."""
    with av.open(str(path), "w", format="mp4") as container:
        options = {**ENCODER_OPTIONS, "g": str(KEYFRAME_INTERVAL_S * story.fps)}
        stream = container.add_stream("libx264", rate=story.fps, options=options)
        stream.width = stream.height = size_px
        stream.pix_fmt = "yuv420p"
        # x264 cuts a frame into slices where it has threads: other bytes on another machine.
        stream.thread_count = 1
        for image in story_frames(story, size_px=size_px):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _fetch_video(story: Story, *, folder: Path, size_px: int, memo: Memo) -> None:
    key = {
        "events": [asdict(event) for event in story.events],
        "fps": story.fps,
        "size_px": size_px,
        "av": av.__version__,
        "code": code_version(__file__),
    }
    target = folder / f"{story.video_id}.mp4"
    memo.fetch("toy_videos", key, target, partial(write_video, story, size_px=size_px), suffix=".mp4")


def write_videos(stories: list[Story], folder: Path, *, size_px: int, workers: int, memo: Memo) -> None:
    """Write `<video_id>.mp4` below `folder` for each story, in worker processes."""
    fetch = partial(_fetch_video, folder=folder, size_px=size_px, memo=memo)
    with Progress("videos drawn", len(stories)) as progress:
        for story, lost in run_in_workers(fetch, stories, workers=workers, timeout_s=math.inf):
            if lost is not None:
                raise RuntimeError(f"{story.video_id} could not be written: {lost}")
            progress.advance()
