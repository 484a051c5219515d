"""What is known of a dataset's videos beside their vectors: records, captions, stored frames, and where they may be."""

from collections import defaultdict
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stillmotion.io.records import Caption, Moment, Video, load_records
from stillmotion.video.packed import PackedFrames

PICTURE_PX = 320
QUALITY = 80
EXAMPLES = 6
LONGEST_EXAMPLE = 90


class Catalogue:
    """The tables of a dataset, read when it is opened."""

    def __init__(self, root: Path, dataset: str):
        """Read the tables.

        Raises:
            InputError: one is missing or damaged.
        """
        self.root, self.dataset = root, dataset
        tables = root / "data" / "raw" / dataset / "tables"
        self.videos = {video.video_id: video for video in load_records(tables, Video)}
        self._captions: dict[str, list[Caption]] = defaultdict(list)
        for caption in load_records(tables, Caption) if (tables / "captions.jsonl").is_file() else []:
            self._captions[caption.video_id].append(caption)
        self._moments = load_records(tables, Moment) if (tables / "moments.jsonl").is_file() else []

    def captions(self, video_id: str, start: float, end: float) -> list[str]:
        """What is said of the span of a video, or where nothing is, of the whole."""
        said = self._captions.get(video_id, [])
        within = [each.text for each in said if each.start is not None and each.end is not None]
        timed = [
            each.text for each in said if each.start is not None and each.start < end and (each.end or end) > start
        ]
        return timed or ([] if within else [each.text for each in said])

    @property
    def examples(self) -> list[str]:
        """A few texts of the test split's videos, or of any, that may be looked for."""
        texts = [(each.query, each.vid) for each in self._moments]
        texts += [(each.text, video_id) for video_id, said in self._captions.items() for each in said]
        short = [(text, video_id) for text, video_id in texts if 0 < len(text) <= LONGEST_EXAMPLE]
        of_test = [text for text, video_id in short if (video := self.videos.get(video_id)) and video.split == "test"]
        distinct = sorted(set(of_test or [text for text, _ in short]))
        places = np.linspace(0, len(distinct) - 1, min(EXAMPLES, len(distinct))).astype(int)
        return [distinct[place] for place in places]

    @cached_property
    def _frames(self) -> PackedFrames | None:
        folder = self.root / "data" / "frames" / self.dataset
        return PackedFrames(folder) if (folder / "frames.jsonl").is_file() else None

    def has_pictures(self, video_id: str) -> bool:
        """Whether frames of a video are stored."""
        return self._frames is not None and video_id in self._frames

    def picture(self, video_id: str, clip: int) -> bytes | None:
        """The stored frame of a clip as a JPEG; None where there is none."""
        if self._frames is None or not self.has_pictures(video_id):
            return None
        clips = self._frames.clip_indices(video_id)
        if not 0 <= clip < len(clips):
            return None
        picture = Image.fromarray(self._frames.at(video_id, clips[clip : clip + 1])[0])
        picture.thumbnail((PICTURE_PX, PICTURE_PX))
        file = BytesIO()
        picture.save(file, format="JPEG", quality=QUALITY)
        return file.getvalue()
