from collections.abc import Callable

import pytest

from stillmotion.config.data import BenchmarksParams, ToyParams
from stillmotion.datasets.source import Annotations, Source
from stillmotion.io.memo import Memo
from stillmotion.io.records import MISSING, Video

SMALL = {
    "seed": 0,
    "num_train": 6,
    "num_validation": 2,
    "num_test": 3,
    "size_px": 64,
    "fps": 8,
    "min_duration": 8.0,
    "max_duration": 12.0,
    "min_events": 3,
    "max_events": 4,
    "distractor_rate": 0.5,
    "return_rate": 0.5,
    "mismatch_rate": 0.5,
    "similarity_rate": 0.5,
    "undescribed_rate": 0.0,
    "narration_shift_s": 0.0,
}


@pytest.fixture(scope="session")
def toy_params() -> Callable[..., ToyParams]:
    """Params of a small generated dataset, with changes."""
    return lambda **changes: ToyParams(**{**SMALL, **changes})


@pytest.fixture(scope="session")
def benchmark_params() -> Callable[..., BenchmarksParams]:
    """Params of public benchmarks, with changes."""
    return lambda **changes: BenchmarksParams(**{"validation_fraction": 0.1, "activitynet_test": "val_1", **changes})


@pytest.fixture(scope="session")
def annotate() -> Callable[..., tuple[dict[str, Video], Annotations]]:
    """The videos of a source and their annotations, with the durations that its files would have."""

    def read(source: Source, *, clip_length_s: float = 2.0, **durations: float):
        videos = {}
        for video in source.collect(None, workers=1, memo=Memo(None)):
            seconds = durations.get(video.video_id)
            status = "ok" if seconds is not None else MISSING
            videos[video.video_id] = Video(video.video_id, "", video.split, seconds, *[None] * 5, status=status)
        return videos, source.annotate(videos, clip_length_s=clip_length_s)

    return read
