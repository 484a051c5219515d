import io
import os
from fractions import Fraction

import av
import numpy as np
import pytest

from stillmotion.video.probe import VideoError, probe_video, video_digest
from stillmotion.video.stated_bytes import missing_bytes


def reason(path) -> str:
    with pytest.raises(VideoError) as caught:
        probe_video(path)
    assert str(path) not in caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_a_probe_says_what_was_encoded(make_video, tmp_path):
    probe = probe_video(make_video(tmp_path / "a.mp4", num_frames=60, rate=20, size=(128, 96)))
    assert (probe.num_frames, probe.width, probe.height, probe.codec) == (60, 128, 96, "h264")
    assert probe.duration == pytest.approx(3.0)
    assert probe.fps == pytest.approx(20.0)
    assert (probe.orientation, probe.decoder) == ((False, 0), "pyav")
    np.testing.assert_allclose(probe.timestamps, np.arange(60) / 20)


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4", "late.ts"])
def test_a_file_of_pictures_alone_starts_with_the_first_whatever_its_stamp(make_video, tmp_path, name):
    times_ms = (5000 + 50 * np.arange(40)).tolist()
    probe = probe_video(make_video(tmp_path / name, num_frames=40, times_ms=times_ms))
    np.testing.assert_allclose(probe.timestamps, np.arange(40) / 20, atol=2e-3)
    assert probe.duration == pytest.approx(2.0, abs=0.06)


def test_a_variable_frame_rate_is_kept(make_video, tmp_path):
    times_ms = np.cumsum([0] + [20, 20, 400, 33, 10] * 8)[:40].tolist()
    probe = probe_video(make_video(tmp_path / "vfr.mp4", num_frames=40, times_ms=times_ms))
    np.testing.assert_allclose(probe.timestamps, np.array(times_ms) / 1000, atol=1e-4)
    assert probe.fps == pytest.approx(40 / probe.duration)


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_width_and_height_are_those_of_the_upright_picture(make_video, tmp_path, turned):
    probe = probe_video(make_video(tmp_path / "t.mp4", num_frames=4, size=(128, 96), turned=turned))
    assert probe.orientation == (False, turned)
    assert (probe.width, probe.height) == ((128, 96) if turned == 180 else (96, 128))


def test_pixels_count_as_square(make_video, tmp_path):
    path = make_video(tmp_path / "wide.mp4", num_frames=4, size=(128, 96), sample_aspect_ratio=Fraction(4, 3))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    probe = probe_video(path)
    assert (probe.width, probe.height) == (128, 96)


@pytest.mark.parametrize(
    ("codec", "name", "decoder"),
    [
        ("libx264", "a.mp4", "pyav"),
        ("libx265", "a.mp4", "pyav"),
        ("libvpx-vp9", "a.webm", "decord"),
        ("libvpx-vp9", "a.mp4", "decord"),
        ("libvpx", "a.webm", "pyav"),
        ("mpeg4", "a.avi", "pyav"),
    ],
)
def test_the_decoder_is_chosen_by_codec(make_video, tmp_path, codec, name, decoder):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    assert probe_video(make_video(tmp_path / name, codec, num_frames=4, options=options)).decoder == decoder


def test_an_empty_file_is_called_that(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert reason(tmp_path / "a.mp4") == "empty file"


def test_a_missing_file_is_called_that(tmp_path):
    assert reason(tmp_path / "a.mp4") == "no such file"


@pytest.mark.parametrize("read", [probe_video, video_digest])
def test_a_pipe_that_nobody_writes_to_keeps_no_reader_waiting(tmp_path, read):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"^not a regular file \(a pipe, a socket or a device\)$"):
        read(tmp_path / "a.mp4")


def test_a_name_that_no_file_can_have_is_told_like_another(tmp_path):
    assert reason(tmp_path / ("a" * 300)) == "not a readable file (file name too long)"


def test_a_folder_is_no_video(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    assert reason(tmp_path / "a.mp4") == "not a readable file"


@pytest.mark.parametrize("content", [b"hello\n" * 400, bytes(range(256)) * 64, b"\0" * 4096])
def test_another_kind_of_file_under_a_video_name_is_not_a_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    assert reason(tmp_path / "a.mp4").startswith("not a video")


@pytest.mark.parametrize("name", ["a.mp4", "notes.txt"])
def test_text_and_pictures_are_no_videos(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello\n" * 400)
    assert reason(tmp_path / name).startswith("not a video")
    picture = io.BytesIO()
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    frame.to_image().save(picture, "JPEG")
    (tmp_path / name).write_bytes(picture.getvalue())
    assert reason(tmp_path / name).startswith("not a video")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert reason(path) == "no video stream"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_stream_without_frames_is_called_that(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.start_encoding()
    # Matroska and MP4 leave out what a stream with nothing in it would need to be found: that looks as if cut.
    assert reason(tmp_path / name) in (
        "no frames",
        "truncated: its header names no stream",
        "truncated: it ends before its first frame",
    )


@pytest.mark.parametrize(
    ("chroma", "size", "num_bytes"),
    [("420jpeg", (5, 3), 27), ("422", (5, 3), 33), ("444p12", (5, 3), 90), ("411", (8, 2), 24)]
    + [("mono", (5, 3), 15), ("444alpha", (5, 3), 60), ("420p10", (4, 2), 24), ("mono16", (5, 3), 30)],
)
def test_frames_of_yuv4mpeg_are_of_one_size(tmp_path, chroma, size, num_bytes):
    path = tmp_path / "a.y4m"
    head = f"YUV4MPEG2 W{size[0]} H{size[1]} F20:1 Ip A1:1 C{chroma} XCOLORRANGE=FULL\n".encode()
    content = head + 3 * (b"FRAME\n" + bytes([100]) * num_bytes)
    for cut, missing in ((0, 0), (1, 1), (num_bytes, num_bytes), (num_bytes + 1, 1), (num_bytes + 6, 0)):
        path.write_bytes(content[: len(content) - cut])
        assert missing_bytes(path, "yuv4mpegpipe") == missing


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx264", "a.mp4", {}),
        ("libx264", "a.mov", {"movflags": "faststart"}),
        ("msmpeg4", "a.wmv", {}),
        ("mpeg2video", "a.mxf", {}),
    ],
)
def test_of_two_joined_files_the_second_is_not_silently_gone(make_video, tmp_path, codec, name, options):
    path = make_video(tmp_path / name, codec, num_frames=50, rate=25, container_options=options)
    content = path.read_bytes()
    assert probe_video(path).num_frames == 50
    path.write_bytes(content + content)
    assert reason(path) == "corrupt: a second file is joined to it, which is not read"
    # What else stands behind it, such as a camera's own data, is no second file.
    path.write_bytes(content + b"some more" * 9)
    assert probe_video(path).num_frames == 50


def test_of_two_joined_files_of_yuv4mpeg_the_second_is_not_silently_gone(make_video, tmp_path):
    path = make_video(tmp_path / "a.y4m", "wrapped_avframe", num_frames=5)
    path.write_bytes(2 * path.read_bytes())
    assert reason(path) == "truncated: reading stops with 'Invalid data found when processing input'"


def test_a_file_all_of_whose_packets_are_empty_has_no_frames(tmp_path):
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W64 H64 F20:1 Ip A1:1 C420jpeg\n")
    assert reason(path) == "no frames"


@pytest.mark.parametrize("share", [0.7, 0.5, 0.2])
@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx264", "a.mp4", {}),
        ("libx264", "a.mov", {"movflags": "faststart"}),
        ("libx264", "a.mkv", {}),
        ("libvpx-vp9", "a.webm", {}),
        ("mpeg4", "a.avi", {}),
        ("msmpeg4", "a.wmv", {}),
        ("libx264", "a.flv", {}),
        ("libvpx", "a.ogg", {}),
        ("libvpx", "a.ivf", {}),
        ("wrapped_avframe", "a.y4m", {}),
    ],
)
def test_a_file_that_was_cut_off_is_truncated(make_video, tmp_path, codec, name, options, share):
    path = make_video(tmp_path / name, codec, num_frames=100, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx264", "a.mkv", {"bf": "0"}),
        ("libvpx", "a.webm", {"deadline": "realtime", "cpu-used": "8"}),
        ("msmpeg4", "a.wmv", {"qmax": "2"}),
        ("libx264", "a.flv", {"bf": "0"}),
        ("libvpx", "a.ogg", {"deadline": "realtime", "cpu-used": "8"}),
    ],
)
def test_the_last_seconds_of_a_long_video_are_not_silently_gone(make_video, tmp_path, codec, name, options):
    path = make_video(tmp_path / name, codec, num_frames=1000, rate=10, options=options)
    assert probe_video(path).num_frames == 1000
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.975)])
    assert reason(path).startswith("truncated: ")
    # Its room was taken before it had come: by length it is whole.
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert name == "a.ogg" or reason(path).startswith("truncated: ")


@pytest.mark.parametrize(
    ("codec", "name", "damages"),
    [
        ("libx264", "a.mkv", ["gone", "zeros", "noise"]),
        ("libvpx", "a.webm", ["gone", "zeros", "noise"]),
        ("libvpx", "a.ogg", ["gone", "zeros", "noise"]),
        ("mjpeg", "a.avi", ["gone"]),
    ],
)
def test_a_file_that_is_damaged_in_its_middle_is_not_silently_short(make_video, tmp_path, codec, name, damages):
    # FFmpeg goes on where it finds a part that it knows, as of Matroska the next cluster.
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"g": "10", "deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {"g": "10"}
    path = make_video(tmp_path / name, codec, num_frames=100, pix_fmt=pix_fmt, options=options)
    assert probe_video(path).num_frames == 100
    content = path.read_bytes()
    half, num = len(content) // 2, 1000
    middles = {"gone": b"", "zeros": bytes(num), "noise": np.random.default_rng(0).bytes(num)}
    for damage in damages:
        path.write_bytes(content[:half] + middles[damage] + content[half + num :])
        assert reason(path).startswith(("truncated: ", "corrupt: ")), damage


@pytest.mark.parametrize("stated", [0, 500])
def test_matroska_whose_length_was_never_mended_is_whole(make_video, tmp_path, stated):
    path = make_video(tmp_path / "a.mkv", num_frames=100)
    content = bytearray(path.read_bytes())
    length = content.index(b"\x18\x53\x80\x67") + 5  # of the segment, behind the byte that says how long it is
    content[length : length + 7] = stated.to_bytes(7, "big")
    path.write_bytes(content + b"TAG" + bytes(range(125)))
    assert probe_video(path).num_frames == 100


@pytest.mark.parametrize(
    ("codec", "name", "pix_fmt", "options"),
    [
        ("libx264", "a.mp4", "yuv420p", {"movflags": "frag_every_frame+empty_moov"}),
        ("gif", "a.gif", "bgr8", {}),
    ],
)
def test_a_file_that_ends_in_a_block_is_truncated_wherever_that_is(make_video, tmp_path, codec, name, pix_fmt, options):
    path = make_video(tmp_path / name, codec, num_frames=40, pix_fmt=pix_fmt, container_options=options)
    assert probe_video(path).num_frames == 40
    content = path.read_bytes()
    for share in np.linspace(0.2, 0.9, 30):
        path.write_bytes(content[: int(len(content) * share)])
        assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mkv"), ("msmpeg4", "a.wmv"), ("libx264", "a.flv")])
def test_a_whole_file_whose_last_frame_stands_for_long_is_no_truncated_one(make_video, tmp_path, codec, name):
    path, options = tmp_path / name, {"bf": "0"} if codec == "libx264" else {"qmax": "2"}
    with av.open(str(make_video(tmp_path / "given.mkv", codec, num_frames=100, options=options))) as given:
        video, packets = given.streams.video[0], [packet for packet in given.demux() if packet.size]
        packets[-1].duration = round(9 / video.time_base)
        with av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(video)
            for packet in packets:
                packet.stream = stream
                output.mux(packet)
    with av.open(str(path)) as container:
        assert container.duration > 9 * av.time_base
    assert probe_video(path).num_frames == 100
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.5)])
    assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize("options", [{}, {"movflags": "frag_every_frame+empty_moov"}])
@pytest.mark.parametrize("behind", [b"\n", b"\0\0", b"abc", b"end\n", b"\0" * 9, b"appended by a tool\n" * 9])
def test_what_stands_behind_the_last_box_of_mp4_is_no_cut(make_video, tmp_path, options, behind):
    path = make_video(tmp_path / "a.mp4", num_frames=10, container_options=options)
    path.write_bytes(path.read_bytes() + behind)
    assert probe_video(path).num_frames == 10


def test_mp4_that_ends_between_two_fragments_is_held_to_the_duration_that_it_states(make_video, tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov+global_sidx+default_base_moof"}
    path = make_video(tmp_path / "a.mp4", num_frames=400, options={"g": "20"}, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moof", 0, len(content) // 2) - 4])
    assert reason(path).startswith("truncated: ")


def test_names_with_spaces_unicode_and_leading_dashes_are_read(make_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ["two words.mp4", "-dash.mp4", "Übung 動画 🎬.mp4", "50%.mp4", "http:x.mp4"]:
        path = make_video(tmp_path / name, num_frames=3)
        assert probe_video(path).num_frames == 3
        assert probe_video(path.relative_to(tmp_path)).num_frames == 3


def test_metadata_that_is_not_utf8_is_no_obstacle(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", num_frames=3, title="x" * 12)
    path.write_bytes(path.read_bytes().replace(b"x" * 12, b"\xe9" * 12))
    assert probe_video(path).num_frames == 3
