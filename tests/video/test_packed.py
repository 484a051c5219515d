import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo
from stillmotion.io.records import Video
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.packing import PackingTask, SamplingPlan, pack_video
from stillmotion.video.probe import VideoError
from stillmotion.video.shards import NUM_SHARDS, Shards, join_parts, part_file, shard_file

PLAN = SamplingPlan(
    size_px=32, geometry="squash", num_uniform=8, clip_length_s=1.0, clip_position="middle", format="raw"
)
AWKWARD_IDS = ["-dash", "a/b/../c", "two words", "Übung 動画 🎬", "x" * 300, "abc", "ABC", "", ".", "50%"]


def video(video_id: str, path: Path, status: str = "ok") -> Video:
    return Video(video_id, str(path), "train", None, None, None, None, None, None, status)


def pack(folder: Path, video_id: str, path: Path, memo: Memo, plan: SamplingPlan = PLAN):
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    return pack_video(PackingTask(video_id, path, folder / part_file(video_id), plan, memo, "code"))


@pytest.fixture
def store(make_video, tmp_path):
    """A video of 3 s at 20 frames a second, one of three frames, and one that is lost."""
    return make_store(make_video, tmp_path, PLAN)


def make_store(make_video, tmp_path, plan):
    tmp_path.mkdir(exist_ok=True)
    paths = {
        "long": make_video(tmp_path / "long.mp4", num_frames=60),
        "short": make_video(tmp_path / "short.mp4", num_frames=3),
    }
    folder = tmp_path / "store"
    packed = {video_id: pack(folder, video_id, path, Memo(None), plan) for video_id, path in paths.items()}
    videos = [video(video_id, path) for video_id, path in paths.items()] + [video("lost", tmp_path / "no.mp4")]
    join_parts(folder, packed)
    write_tables(folder, videos, packed, {"lost": "no such file"})
    return PackedFrames(folder)


def test_uniform_frames_are_the_middles_of_equal_segments(store, number_of):
    # Segments of 0.375 s: middles 0.1875, 0.5625, … at 20 frames a second.
    assert [number_of(frame) for frame in store.uniform("long")] == [3, 11, 18, 26, 33, 41, 48, 56]


def test_each_clip_has_the_frame_at_its_middle(store, number_of):
    assert [number_of(frame) for frame in store.clips("long")] == [10, 30, 50]


def test_of_a_video_whose_start_alone_is_used_no_later_frame_is_stored(make_video, number_of, tmp_path):
    path, memo = make_video(tmp_path / "long.mp4", num_frames=60), Memo(tmp_path / "memo")
    for video_id, seconds in (("start", 1.5), ("all", 3.0), ("more", 30.0)):
        target = tmp_path / "store" / part_file(video_id)
        packed = pack_video(PackingTask(video_id, path, target, PLAN, memo, "code", duration=seconds))
        frames = [number_of(frame) for frame in np.load(target)]
        if video_id == "start":
            assert packed.probed["duration"] == 1.5
            # Middles of eighths of 1.5 s, and of the clips [0, 1] and [1, 1.5], at 20 frames a second.
            assert frames == [1, 5, 9, 10, 13, 16, 20, 24, 25, 28]
        else:
            assert packed.probed["duration"] == pytest.approx(3.0)
            assert frames == [3, 10, 11, 18, 26, 30, 33, 41, 48, 50, 56]
            assert packed.from_memo == (video_id == "more")


def test_every_stored_frame_is_stored_once_with_its_time(store, number_of):
    frames = store.all("long")
    numbers = [number_of(frame) for frame in frames]
    assert numbers == [3, 10, 11, 18, 26, 30, 33, 41, 48, 50, 56]
    np.testing.assert_allclose(store.timestamps("long"), np.array(numbers) / 20)
    assert isinstance(frames, np.memmap)
    assert frames.shape == (11, 32, 32, 3)


def test_a_span_has_the_stored_frames_nearest_to_its_segments(store, number_of):
    # Middles 1.25 and 1.75: stored are 1.3, and 1.65 before 2.05.
    assert [number_of(frame) for frame in store.span("long", 1.0, 2.0, 2)] == [26, 33]
    drawn = store.span("long", 0.0, 3.0, 4, rng=np.random.default_rng(0))
    assert drawn.shape == (4, 32, 32, 3)
    assert np.array_equal(drawn, store.span("long", 0.0, 3.0, 4, rng=np.random.default_rng(0)))


def test_a_short_video_repeats_its_frames(store, number_of):
    assert [number_of(frame) for frame in store.uniform("short")] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert len(store.all("short")) == 3
    assert len(store.clips("short")) == 1


def test_the_records_hold_what_was_probed_and_why_a_video_is_lost(store):
    assert [row.video_id for row in store.videos] == ["long", "short"]
    assert store.videos[0].duration == pytest.approx(3.0)
    assert (store.videos[0].num_frames, store.videos[0].codec) == (60, "h264")
    assert [(row.video_id, row.status) for row in store.skipped] == [("lost", "no such file")]
    assert "long" in store
    assert "lost" not in store


def test_frames_of_a_lost_video_are_a_clear_error(store):
    with pytest.raises(InputError, match="no frames of video 'lost'"):
        store.uniform("lost")


def test_any_id_has_safe_files(make_video, tmp_path):
    folder, memo = tmp_path / "store", Memo(tmp_path / "memo")
    path = make_video(tmp_path / "a.mp4", num_frames=4)
    packed = {video_id: pack(folder, video_id, path, memo) for video_id in AWKWARD_IDS}
    parts = [file.name.lower() for file in (folder / "parts").iterdir()]
    assert len(set(parts)) == len(parts) == len(AWKWARD_IDS)
    join_parts(folder, AWKWARD_IDS)
    write_tables(folder, [video(video_id, path) for video_id in AWKWARD_IDS], packed, {})
    store = PackedFrames(folder)
    assert {file.parent for file in folder.rglob("*.npy")} == {folder / "frames"}
    assert all(store.uniform(video_id).shape == (8, 32, 32, 3) for video_id in AWKWARD_IDS)


def of_one_shard(count: int) -> list[str]:
    shard = shard_file("0")
    found = (str(number) for number in itertools.count() if shard_file(str(number)) == shard)
    return list(itertools.islice(found, count))


def test_videos_of_a_shard_lie_in_order_of_their_ids_whenever_they_were_decoded(tmp_path):
    ids = of_one_shard(4)
    contents = {}
    for order in ([0, 1, 2, 3], [3, 0, 2, 1]):
        folder = tmp_path / str(order[0])
        shards = Shards(folder, ids)
        for number in order:
            assert not (folder / "frames").exists()
            frames = np.full((number + 1, 2, 2, 3), number, np.uint8)
            save_array(folder / part_file(ids[number]), frames)
            shards.settle(ids[number], decoded=number != 1)  # a lost one may have left its part
        assert [file.name for file in (folder / "parts").iterdir()] == [Path(part_file(ids[1])).name]
        contents[folder] = (folder / shard_file("0")).read_bytes()
    one, two = contents.values()
    assert one == two
    # what numpy itself writes of the whole, the ids sorted as text
    numbers = [ids.index(name) for name in sorted(ids) if name != ids[1]]
    wanted = [np.full((number + 1, 2, 2, 3), number, np.uint8) for number in numbers]
    np.save(tmp_path / "whole.npy", np.concatenate(wanted))
    assert one == (tmp_path / "whole.npy").read_bytes()

    left = sorted(set(ids) - {ids[1]})
    packed = {}
    for name in left:
        times = np.arange(ids.index(name) + 1.0)
        packed[name] = PackedVideo({}, times, np.array([0]), np.array([0]), False)
    write_tables(folder, [video(name, Path("x.mp4")) for name in left], packed, {})
    store = PackedFrames(folder)
    for name in left:
        assert store.all(name).tolist() == np.full((ids.index(name) + 1, 2, 2, 3), ids.index(name)).tolist()
    assert len({store.digest(name) for name in left}) == 3


def test_ten_thousand_videos_lie_in_256_files_of_about_39_each():
    counts = Counter(shard_file(f"video{number}") for number in range(10_000))
    assert len(counts) == NUM_SHARDS == 256
    assert max(counts.values()) < 70  # 39 ± 6 as a rule


def test_frames_stored_as_jpegs_are_read_like_raw_ones(make_video, store, number_of, tmp_path):
    jpegs = make_store(make_video, tmp_path / "jpeg", replace(PLAN, format="jpeg"))
    assert [file.parent.name for file in jpegs.folder.rglob("*.npy")] == ["frames", "frames"]
    for name in ("long", "short"):
        assert jpegs.all(name).shape == store.all(name).shape
        errors = jpegs.all(name).astype(float) - store.all(name)
        assert 0 < np.abs(errors).mean() < 4  # columns of black and white are what JPEG is worst at
        assert jpegs.timestamps(name).tolist() == store.timestamps(name).tolist()
        assert [number_of(frame) for frame in jpegs.uniform(name)] == [
            number_of(frame) for frame in store.uniform(name)
        ]
    assert [number_of(frame) for frame in jpegs.span("long", 1.0, 2.0, 2)] == [26, 33]
    assert len({stored.digest(name) for stored in (jpegs, store) for name in ("long", "short")}) == 4


def test_a_shard_that_was_cut_is_an_error_that_names_it(store):
    path = store.folder / shard_file("long")
    frames = np.load(path)
    path.unlink()
    np.save(path, frames[:3])
    with pytest.raises(InputError, match=r"frames/[0-9a-f]{2}\.npy: lacks frames of 'long'"):
        store.all("long")


def test_the_memo_gives_the_same_bytes_without_decoding(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=20)
    first, second = (pack(tmp_path / name, "a", path, Memo(tmp_path / "memo")) for name in ("one", "two"))
    without = pack(tmp_path / "three", "a", path, Memo(None))
    assert (first.from_memo, second.from_memo, without.from_memo) == (False, True, False)
    contents = {(tmp_path / name / part_file("a")).read_bytes() for name in ("one", "two", "three")}
    assert len(contents) == 1


def test_a_video_that_fails_leaves_no_file(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=20, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + 100
    content[middle : middle + 600] = b"\xff" * 600
    path.write_bytes(content)
    with pytest.raises(VideoError):
        pack(tmp_path / "store", "a", path, Memo(None))
    assert list((tmp_path / "store" / "parts").iterdir()) == []


def test_ten_thousand_videos_open_without_reading_their_pixels(tmp_path):
    times = np.arange(4) / 2
    packed = {f"v{number:05}": PackedVideo({}, times, np.arange(4), np.arange(2), False) for number in range(10_000)}
    write_tables(tmp_path, [video(video_id, Path("x.mp4")) for video_id in packed], packed, {})
    store = PackedFrames(tmp_path)
    assert len(store.videos) == 10_000
    assert store.timestamps("v09999").tolist() == times.tolist()
