"""Which of the stored frames are seen in training and after it: those of a video hold their own number as a color."""

import numpy as np
import pytest

from stillmotion.embedding.embedder import Embedder
from stillmotion.embedding.writer import write_videos
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo
from stillmotion.io.records import Action, Video
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.pairs import Pair
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_EPOCHS = 40
IDS = ("a", "b")


@pytest.fixture
def numbered(tmp_path):
    """Two videos of 4 s, 40 stored frames each."""
    packed = {}
    for name in IDS:
        packed[name] = PackedVideo({}, np.arange(40) / 10, np.arange(40), np.array([10, 30]), from_memo=False)
        frames = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 16, 16, 3))
        save_array(tmp_path / part_file(name), np.ascontiguousarray(frames))
    videos = [Video(name, f"{name}.mp4", "train", 4.0, 10.0, 40, 16, 16, "h264", "ok") for name in IDS]
    join_parts(tmp_path, IDS)
    write_tables(tmp_path, videos, packed, {})
    return PackedFrames(tmp_path)


@pytest.fixture
def seen(numbered, new_backbone, new_recipe, monkeypatch):
    """Trains with 4 frames on the span from 0 to `end`: the numbers (times, 4) of the frames in training, and in
    validation."""

    def train(end):
        backbone = new_backbone()
        pixels, numbers = backbone.pixels, {True: [], False: []}

        def watched(frames):
            numbers[backbone.training].append(frames[:, 0, 0, 0].tolist())
            return pixels(frames)

        monkeypatch.setattr(backbone, "pixels", watched)
        pairs = [Pair(name, name, 0.0, end) for name in IDS]
        recipe = new_recipe(epochs=NUM_EPOCHS, batch_size=2, num_frames=4)
        finetune(FineTuning(backbone, numbered, pairs, pairs, recipe), memo=Memo(None), key={})
        return np.array(numbers[True]), np.array(numbers[False])

    return train


def test_training_draws_a_frame_of_each_segment_anew_for_each_epoch_and_video(seen):
    drawn, _ = seen(4.0)
    assert drawn.shape == (2 * NUM_EPOCHS, 4)
    # Segment k is from k to k + 1 s; the frame nearest to a time in it may be the first of the next one.
    offsets = drawn - np.array([0, 10, 20, 30])
    assert offsets.min() >= 0
    assert offsets.max() <= 10
    for segment in offsets.T:
        assert len(set(segment.tolist())) >= 10
        assert abs(segment.mean() - 5) < 1.2
    # No two of the 80 draws are the same in all segments, and the segments are drawn independently.
    assert len({tuple(row) for row in drawn.tolist()}) == len(drawn)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(4)).max() < 0.4


def test_validation_takes_the_middle_frame_of_each_segment_each_time(seen):
    _, middles = seen(4.0)
    assert len(middles) == 2 * NUM_EPOCHS
    assert {tuple(row) for row in middles.tolist()} == {(5, 15, 25, 35)}


def test_the_segments_are_those_of_the_span_and_not_of_the_video(seen):
    drawn, middles = seen(1.6)
    assert {tuple(row) for row in middles.tolist()} == {(2, 6, 10, 14)}
    assert drawn.max() <= 16


def test_embedding_takes_the_middle_frames_that_validation_takes(numbered, new_backbone, monkeypatch, tmp_path):
    embed, numbers = Embedder.video, []

    def watched(embedder, frames_THWC, frames_digest, clips_NF, **settings):
        numbers.append(frames_THWC[clips_NF][..., 0, 0, 0].tolist())
        return embed(embedder, frames_THWC, frames_digest, clips_NF, **settings)

    monkeypatch.setattr(Embedder, "video", watched)
    embedder = Embedder(new_backbone(), Memo(None), {}, "fp32")
    actions = [Action("b", "spins", 1.0, 3.0)]
    write_videos(
        tmp_path, embedder, numbered, numbered.videos, actions, clip_counts=[1, 2], clip_frames=4, span_views=1
    )
    whole = [[5, 15, 25, 35], [2, 7, 12, 17], [22, 27, 32, 37]]
    # The middles of quarters of the span are at 1.25, 1.75, … s: as near to one frame as to the next.
    assert numbers[0] == whole
    assert numbers[1][:3] == whole
    assert np.abs(np.array(numbers[1][3]) - [12.5, 17.5, 22.5, 27.5]).max() == 0.5
