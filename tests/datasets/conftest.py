import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stillmotion.config.data import BenchmarksParams, ToyParams
from stillmotion.datasets.source import Annotations, Source
from stillmotion.errors import InputError
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


@pytest.fixture
def make_source(tmp_path) -> Callable[..., Path]:
    """A folder with these annotation files, texts or JSON by their paths, and empty videos."""

    def make(files: dict[str, Any], videos: Sequence[str] = ()) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        for name in videos:
            (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "videos" / name).touch()
        return tmp_path

    return make


@pytest.fixture
def fault_of(make_source) -> Callable[..., str]:
    """The one line with which a reader refuses annotation files."""

    def fault(read: Callable[..., Source], files: dict[str, Any], params: BenchmarksParams) -> str:
        with pytest.raises(InputError) as caught:
            read(make_source(files, ["a.mp4"]), params)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return fault
