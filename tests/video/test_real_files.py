"""Every real file against a plain loop of PyAV over the whole of it, which shares no code with ours."""

import importlib.util

import av
import numpy as np
import pytest

from stillmotion.moments.shot_detection import DetectorSettings, _detect
from stillmotion.video.decode import decode_frames
from stillmotion.video.probe import VideoError, probe_video

pytestmark = pytest.mark.real

ATTACHED_PICTURE = 1024  # AV_DISPOSITION_ATTACHED_PIC
JUMP_S = 10.0

BROKEN = {"decord__corrupted.mp4": "corrupt: 'Invalid data found when processing input' before the frame at "}
"""The files of which nothing is used, and why."""
THDUP = np.repeat(range(20), [2, 1, 3, 1, 2, 1, 1, 3, 1, 3, 1, 1, 2, 1, 3, 1, 2, 1, 1, 3]).tolist()
AWKWARD = {  # numbers that the frames show, seconds, when the first is shown, which way up: its README.md
    "cat.ts": (list(range(120)), 12.0, 0.0, "upright"),
    "clap.mp4": (list(range(60)), 6.0, 0.0, "upright"),
    "cover0.mp4": (list(range(60)), 6.0, 0.0, "upright"),
    "empty_samples.mov": ([number for number in range(60) if number % 3 != 2], 6.0, 0.0, "upright"),
    "hevc_cut.mkv": (list(range(50, 100)), 5.0, 0.0, "upright"),
    "hflip.mp4": (list(range(60)), 6.0, 0.0, "hflip"),
    "jump.ts": (list(range(120)), 12.0, 0.0, "upright"),
    "late.mp4": (list(range(60)), 8.0, 2.0, "upright"),
    "paff_small.ts": (list(range(6)), 0.6, 0.0, "upright"),
    "sei.mp4": (list(range(60)), 6.0, 0.0, "upright"),
    "thdup.ogv": (THDUP, 10.0, 0.0, "upright"),
    "vp9live.webm": (list(range(100)), 10.0, 0.0, "upright"),
}


def plain_decode(path):
    """How many frames come out, when the last ends, and how long most last: of the first stream that is no cover."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = next(one for one in container.streams.video if not int(one.disposition) & ATTACHED_PICTURE)
        stream.thread_type = "AUTO"
        unit, start = float(stream.time_base), (container.start_time or 0) / 1_000_000
        frames = []
        for packet in container.demux(stream):
            try:
                frames += [
                    (frame.pts, frame.duration) for frame in packet.decode() if packet.size or packet.dts is None
                ]
            except av.error.FFmpegError:
                if path.name != "sei.mp4":  # its messages without a picture are errors
                    raise
    times = np.array([pts for pts, _ in frames]) * unit
    if container.format.name == "avi":
        start = times[0]  # it holds no times at which reordered frames are shown
    steps = np.diff(times)
    usual = float(np.median(steps))
    steps[(steps < -0.1) | (steps > JUMP_S)] = usual
    return len(frames), times[0] - start + steps.sum() + frames[-1][1] * unit, usual


def all_files(material):
    files = [path for folder in ("videos", "awkward") for path in sorted((material / folder).iterdir())]
    return [path for path in files if path.suffix not in (".md", ".py", ".jsonl")]


@pytest.mark.slow
def test_no_real_file_is_silently_short(real_material):
    seen = 0
    for path in all_files(real_material):
        if path.name in BROKEN:
            with pytest.raises(av.error.FFmpegError):
                plain_decode(path)
            continue
        # A packet without bytes ends a loop of PyAV: of the two files with such, AWKWARD tells the number.
        probe = probe_video(path)
        if path.name not in ("empty_samples.mov", "thdup.ogv"):
            num_frames, duration, usual = plain_decode(path)
            assert probe.num_frames == num_frames, path.name
            assert probe.duration == pytest.approx(duration, abs=usual), path.name
            seen += 1
        assert probe.num_frames == len(probe.timestamps)
        assert (np.diff(probe.timestamps) > 0).all(), path.name
        assert 0 <= probe.timestamps[0] < probe.timestamps[-1] < probe.duration, path.name
    assert seen > 70


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_file_gives_the_frames_it_should(real_material, name):
    spec = importlib.util.spec_from_file_location("read_number", real_material / "awkward" / "read_number.py")
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    path = real_material / "awkward" / name
    numbers, duration, first_s, way_up = AWKWARD[name]
    probe = probe_video(path)
    assert probe.duration == pytest.approx(duration, abs=1e-3)
    assert probe.timestamps[0] == pytest.approx(first_s, abs=1e-3)
    assert (probe.width, probe.height) == (128, 128)
    frames = decode_frames(path, probe, range(probe.num_frames), 128, "crop")
    read = [reader.read(frame) for frame in frames]
    assert {orientation for _, orientation in read} == {way_up}
    assert [number for number, _ in read] == numbers


@pytest.mark.parametrize("name", ["paff.mkv", "paff.mp4"])
def test_field_pictures_in_packets_of_their_own_are_halves_of_frames(real_material, tmp_path, name):
    with (
        av.open(str(real_material / "awkward" / "paff_small.ts")) as given,
        av.open(str(tmp_path / name), "w") as output,
    ):
        copy = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    probe = probe_video(tmp_path / name)
    assert probe.num_frames == 6
    assert probe.duration == pytest.approx(0.6, abs=2e-3)
    source = real_material / "awkward" / "paff_small.ts"
    expected = decode_frames(source, probe_video(source), range(6), 64, "crop")
    for indices in (range(6), [1, 4]):
        np.testing.assert_array_equal(decode_frames(tmp_path / name, probe, indices, 64, "crop"), expected[indices])


def test_two_files_of_ogg_in_one_are_one_video(real_material, tmp_path):
    one = real_material / "awkward" / "thdup.ogv"
    (tmp_path / "two.ogv").write_bytes(2 * one.read_bytes())
    probe, single = probe_video(tmp_path / "two.ogv"), probe_video(one)
    assert (probe.num_frames, probe.num_mends) == (2 * single.num_frames, 1)
    frames = decode_frames(tmp_path / "two.ogv", probe, range(probe.num_frames), 64, "crop")
    np.testing.assert_array_equal(frames, np.tile(decode_frames(one, single, range(34), 64, "crop"), (2, 1, 1, 1)))


def test_a_broken_file_has_one_reason_in_every_run(real_material, tmp_path):
    for name, start in BROKEN.items():
        reasons = set()
        for folder in ("one", "another"):
            (tmp_path / folder).mkdir()
            path = tmp_path / folder / name
            path.write_bytes((real_material / "videos" / name).read_bytes())
            with pytest.raises(VideoError) as caught:
                decode_frames(path, probe_video(path), range(50), 64, "crop")
            reasons.add(caught.value.reason)
        (reason,) = reasons
        assert reason.startswith(start)
        assert str(tmp_path) not in reason


def test_the_cuts_of_an_awkward_file_come_from_the_stream_of_all_stages(real_material):
    cuts = _detect(real_material / "awkward" / "cover0.mp4", DetectorSettings("content", 5.0, 0.1))
    assert cuts == sorted(set(cuts))
    assert max(cuts) > 1
