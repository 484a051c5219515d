import math
from dataclasses import replace

import av
import numpy as np
import pytest

from stillmotion.datasets import toy_video
from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, Course, Subject
from stillmotion.datasets.toy_story import Event, Story, story_moments, tell_stories
from stillmotion.datasets.toy_video import write_video, write_videos
from stillmotion.io.memo import Memo


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def nearest(colors: dict[str, tuple[int, int, int]], pixels: np.ndarray) -> list[str]:
    names = list(colors)
    distances = np.abs(pixels[:, None].astype(int) - np.asarray(list(colors.values()))).sum(axis=2)
    return [names[index] for index in distances.argmin(axis=1)]


def test_two_generations_give_the_same_bytes(toy_params, tmp_path):
    stories = tell_stories(toy_params(), "test")
    for name in ("first", "second"):
        write_videos(stories, tmp_path / name, size_px=64, workers=2, memo=Memo(None))
    files = sorted((tmp_path / "first").iterdir())
    assert [file.name for file in files] == ["test-0000.mp4", "test-0001.mp4", "test-0002.mp4"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_the_memo_gives_the_bytes_that_generation_gives(toy_params, tmp_path):
    stories = tell_stories(toy_params(), "test")[:1]
    memo = Memo(tmp_path / "memo")
    for name in ("first", "second"):
        write_videos(stories, tmp_path / name, size_px=64, workers=1, memo=memo)
    write_video(stories[0], tmp_path / "alone.mp4", size_px=64)
    assert len([file for file in (tmp_path / "memo").rglob("*.mp4")]) == 1
    for name in ("first", "second"):
        assert (tmp_path / name / "test-0000.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()


def test_a_finished_video_is_not_drawn_again(toy_params, tmp_path, monkeypatch):
    story = tell_stories(toy_params(), "test")[0]
    fetch = {"size_px": 64, "memo": Memo(tmp_path / "memo")}
    toy_video._fetch_video(story, folder=tmp_path / "first", **fetch)

    def fail(*args, **kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr(toy_video, "write_video", fail)
    toy_video._fetch_video(story, folder=tmp_path / "second", **fetch)
    assert (tmp_path / "second" / "test-0000.mp4").is_file()


def test_a_video_that_cannot_be_written_stops_the_run(toy_params, tmp_path):
    story = tell_stories(toy_params(), "test")[0]
    broken = replace(story, events=(replace(story.events[0], motion="jumps"),))
    with pytest.raises(RuntimeError, match="jumps"):
        write_videos([broken], tmp_path, size_px=64, workers=1, memo=Memo(None))


def test_the_files_look_like_usual_ones(toy_params, tmp_path):
    story = tell_stories(toy_params(min_duration=20.0, max_duration=20.0), "test")[0]
    write_video(story, tmp_path / "video.mp4", size_px=64)
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 8)
        assert len(packets) == 160
        keyframes = [packet.pts for packet in packets if packet.is_keyframe]
        assert np.diff(keyframes).max() * float(stream.time_base) <= 5
        assert len(keyframes) < 16
        assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)


def test_decoded_frames_show_the_event_from_its_first_frame_to_its_last(toy_params, tmp_path):
    for story in tell_stories(toy_params(), "train"):
        write_video(story, tmp_path / "video.mp4", size_px=64)
        frames = decode(tmp_path / "video.mp4")
        assert len(frames) == story.num_frames
        moments = story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        for moment in moments:
            subject = next(event.subject for event in story.events if event.text == moment.query)
            for start, end in moment.relevant_windows:
                for index in (round(start * 8), round(end * 8) - 1):
                    corner = frames[index][:3, :3].reshape(-1, 3).mean(axis=0, keepdims=True)
                    assert nearest(BACKGROUNDS, corner) == [subject.background]
                if "blinks" not in moment.query:
                    for index in (round(start * 8), round(end * 8) - 1):
                        assert_shows(frames[index], subject)


def assert_shows(frame: np.ndarray, subject: Subject) -> None:
    """The color is in the frame, and nothing else that is neither its shade nor the background."""
    pixels = frame.reshape(-1, 3)
    near = np.abs(pixels.astype(int) - np.asarray(COLORS[subject.color])).sum(axis=1)
    # A large circle covers 18 % of the frame, the smallest star 0.5 %; 4:2:0 blurs the color of its rim.
    assert (near < 120).sum() >= 8
    strongest = pixels[near.argmin()][None]
    assert nearest(COLORS | BACKGROUNDS, strongest) == [subject.color]


def test_a_move_is_where_its_progress_says_after_decoding(tmp_path):
    subject = Subject("large", "yellow", "circle", "black")
    course = Course(x=0.5, y=0.5, angle=0.0, phase=0.0, period=1.5)
    left = Event(subject, "moves left", course, 0, 24, True)
    right = Event(replace(subject, color="cyan"), "moves down", course, 24, 33, True)
    story = Story("x", "train", 0, 8, (left, right), "")
    write_video(story, tmp_path / "video.mp4", size_px=64)
    frames = decode(tmp_path / "video.mp4").astype(int)
    for index, frame in enumerate(frames):
        rows, columns = np.nonzero(frame.max(axis=2) > 110)
        x, y = (columns.mean() + 0.5) / 64, (rows.mean() + 0.5) / 64
        if index < 24:
            assert x == pytest.approx(0.78 - 0.56 * index / 23, abs=0.05)
            assert frame[rows, columns, 2].mean() < 110
        else:
            assert y == pytest.approx(0.22 + 0.56 * (index - 24) / 32, abs=0.05)
            assert frame[rows, columns, 2].mean() > 130


def test_a_blink_is_in_the_decoded_frames(tmp_path):
    subject = Subject("large", "red", "square", "white")
    course = Course(x=0.5, y=0.5, angle=0.0, phase=0.0, period=1.5)
    story = Story("x", "train", 0, 8, (Event(subject, "blinks", course, 0, 36, True),), "")
    write_video(story, tmp_path / "video.mp4", size_px=64)
    for index, frame in enumerate(decode(tmp_path / "video.mp4").astype(int)):
        there = bool(frame[30:34, 26:30, 1].mean() < 120)
        assert there == (math.fmod(index / 8 / 1.5, 1) < 0.6)
