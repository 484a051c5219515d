"""The built-in datasets: generated videos of drawn events; see data/sources/toy/README.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillmotion.config.data import ToyParams
from stillmotion.datasets.source import Annotations, SourceVideo
from stillmotion.datasets.toy_story import (
    Story,
    story_actions,
    story_captions,
    story_moments,
    tell_stories,
)
from stillmotion.datasets.toy_video import write_videos
from stillmotion.io.memo import Memo
from stillmotion.io.records import SPLITS, Video


@dataclass(frozen=True)
class ToySource:
    """A generated dataset; the same params give the same files."""

    params: ToyParams

    def _stories(self) -> list[Story]:
        return [story for split in SPLITS for story in tell_stories(self.params, split)]

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """Make the videos below `folder`/videos."""
        stories = self._stories()
        write_videos(stories, folder / "videos", size_px=self.params.size_px, workers=workers, memo=memo)
        return [
            SourceVideo(story.video_id, story.split, folder / "videos" / f"{story.video_id}.mp4") for story in stories
        ]

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """Paragraphs, dense captions, moments with ratings, and motions."""
        stories, shift_s = self._stories(), self.params.narration_shift_s
        moments = []
        for story in stories:
            duration = videos[story.video_id].duration
            # Nothing that was just encoded fails its probe.
            assert duration is not None
            moments += story_moments(story, seed=self.params.seed, duration=duration, clip_length_s=clip_length_s)
        return Annotations(
            captions=[
                caption
                for story in stories
                for caption in story_captions(story, seed=self.params.seed, narration_shift_s=shift_s)
            ],
            moments=moments,
            actions=[action for story in stories for action in story_actions(story)],
            notes=[],
        )
