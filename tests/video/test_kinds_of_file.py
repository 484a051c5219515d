"""The kinds of file that public bug reports are about, made here; ../shared/real/awkward holds others of each kind."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.sidedata.sidedata import Type
from av.stream import Disposition
from PIL import ExifTags, Image

from stillmotion.io.memo import Memo
from stillmotion.moments.shot_detection import DetectionTask, DetectorSettings, find_cuts
from stillmotion.video.decode import decode_frames
from stillmotion.video.pictures import vp9_sizes
from stillmotion.video.probe import VideoError, open_video, probe_video, video_stream

B_FRAMES = {"bf": "3", "g": "12"}
X265 = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:bframes=4:scenecut=0:pools=none:log-level=none"}
REALTIME = {"deadline": "realtime", "cpu-used": "8", "g": "12"}


def remux(source, target, *, keep=lambda number, packet: True, before=lambda number: []):
    """Copy the packets that `keep` lets through; `before` gives the bytes of further ones before each."""
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
            if not keep(number, packet):
                continue
            for data in before(number):
                extra = av.Packet(data)
                extra.pts, extra.dts, extra.time_base, extra.stream = packet.pts, packet.dts, packet.time_base, copy
                extra.duration = packet.duration // 2
                output.mux(extra)
                packet.pts, packet.dts = packet.pts + extra.duration, packet.dts + extra.duration
                packet.duration -= extra.duration
            packet.stream = copy
            output.mux(packet)
    return target


# Time stamps that start again or jump


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("a.ts", "libx264", {"options": B_FRAMES}),
        ("a.ts", "libx265", {"options": X265}),
        ("a.ts", "mpeg2video", {"rate": 25, "options": {"bf": "2"}}),
        ("a.mpg", "mpeg2video", {"rate": 25, "options": {"bf": "2"}}),
        ("a.mpg", "mpeg1video", {"rate": 25}),
        ("a.flv", "libx264", {"options": B_FRAMES}),
        ("a.flv", "flv", {}),
        ("a.webm", "libvpx", {"options": REALTIME, "container_options": {"live": "1"}}),
    ],
)
def test_files_joined_end_to_end_are_one_video(make_video, numbers, tmp_path, name, codec, settings):
    parts = [
        make_video(tmp_path / f"{first}{name}", codec, num_frames=30, first=first, **settings) for first in (0, 30, 60)
    ]
    path = tmp_path / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    probe, rate = probe_video(path), settings.get("rate", 20)
    assert numbers(path) == list(range(90))
    assert probe.duration == pytest.approx(90 / rate, abs=1e-3)
    np.testing.assert_allclose(probe.timestamps, np.arange(90) / rate, atol=2e-3)
    assert probe.num_mends == 2


def test_of_joined_matroska_two_are_read_and_more_are_no_two(make_video, numbers, tmp_path):
    parts = [make_video(tmp_path / f"{first}.mkv", num_frames=30, first=first).read_bytes() for first in (0, 30, 60)]
    path = tmp_path / "a.mkv"
    path.write_bytes(b"".join(parts[:2]))
    assert numbers(path) == list(range(60))
    path.write_bytes(b"".join(parts))
    with pytest.raises(VideoError, match="^corrupt: its parts do not follow one another$"):
        probe_video(path)


def test_of_joined_mp4_in_fragments_no_fragment_is_silently_gone(make_video, numbers, tmp_path):
    # As of a live stream that was interrupted; FFmpeg hides what has the time of an earlier fragment.
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    settings = {"num_frames": 24, "options": {"bf": "0", "g": "12"}, "container_options": fragments}
    parts = [make_video(tmp_path / f"{first}.mp4", first=first, **settings).read_bytes() for first in (0, 24)]
    (tmp_path / "a.mp4").write_bytes(parts[0] + parts[1])
    with pytest.raises(VideoError, match="^corrupt: its parts do not follow one another$"):
        probe_video(tmp_path / "a.mp4")
    # The index before another fragment does no harm.
    second = parts[0].rindex(b"moof") - 4
    index = parts[0][parts[0].index(b"moov") - 4 : parts[0].index(b"moof") - 4]
    (tmp_path / "b.mp4").write_bytes(parts[0][:second] + index + parts[0][second:])
    assert numbers(tmp_path / "b.mp4") == list(range(24))


def test_a_part_of_flv_without_its_header_is_read_too(make_video, numbers, tmp_path):
    parts = [make_video(tmp_path / f"{first}.flv", num_frames=30, first=first) for first in (0, 30)]
    (tmp_path / "a.flv").write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[13:])
    assert numbers(tmp_path / "a.flv") == list(range(60))


@pytest.mark.parametrize("ahead_s", [12, 3600])
@pytest.mark.parametrize("name", ["a.ts", "a.flv", "a.mkv", "a.webm"])
def test_a_clock_that_jumps_ahead_goes_on(make_video, numbers, tmp_path, name, ahead_s):
    times_ms = 50 * np.arange(60) + 1000 * ahead_s * (np.arange(60) >= 30)
    codec, options = ("libvpx-vp9", REALTIME) if name == "a.webm" else ("libx264", B_FRAMES)
    path = make_video(tmp_path / name, codec, num_frames=60, times_ms=times_ms.tolist(), options=options)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, np.arange(60) / 20, atol=2e-3)
    assert (probe.duration, probe.num_mends) == (pytest.approx(3.0, abs=2e-3), 1)
    assert numbers(path) == list(range(60))


def test_a_clock_that_jumps_back_goes_on(make_video, numbers, tmp_path):
    late = make_video(tmp_path / "1.ts", num_frames=30, times_ms=(3_600_000 + 50 * np.arange(30)).tolist())
    early = make_video(tmp_path / "2.ts", num_frames=30, first=30)
    (tmp_path / "a.ts").write_bytes(late.read_bytes() + early.read_bytes())
    np.testing.assert_allclose(probe_video(tmp_path / "a.ts").timestamps, np.arange(60) / 20, atol=2e-3)
    assert numbers(tmp_path / "a.ts") == list(range(60))


def test_a_picture_that_a_file_says_to_stand_still_does(make_video, tmp_path):
    times_ms = (15_000 * np.arange(8)).tolist()
    probe = probe_video(make_video(tmp_path / "slides.mp4", num_frames=8, times_ms=times_ms))
    np.testing.assert_allclose(probe.timestamps, 15.0 * np.arange(8))
    assert probe.num_mends == 0


@pytest.mark.parametrize(
    ("name", "codec", "step_s"),
    [
        ("a.avi", "mpeg4", 10),
        ("a.wmv", "wmv2", 10),
        ("a.flv", "libx264", 10),
        ("a.flv", "flv", 60),
        ("a.ts", "libx264", 60),
    ],
)
def test_a_frame_or_six_a_minute_are_all_there(make_video, numbers, tmp_path, name, codec, step_s):
    path = make_video(tmp_path / name, codec, num_frames=4, rate=Fraction(1, step_s))
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, step_s * np.arange(4), atol=2e-3)
    assert (probe.duration, probe.num_mends) == (pytest.approx(4.0 * step_s, abs=2e-3), 0)
    assert numbers(path) == list(range(4))


def test_a_gap_in_avi_which_has_no_stamps_is_no_jump(make_video, numbers, tmp_path):
    times_ms = [50 * number + 20_000 * (number >= 5) for number in range(10)]
    path = make_video(tmp_path / "a.avi", "mpeg4", num_frames=10, times_ms=times_ms)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, np.array(times_ms) / 1000, atol=2e-3)
    assert probe.num_mends == 0
    assert numbers(path) == list(range(10))


def with_sound(path, times_s, *, sound_s):
    """A picture at each of the times, with sound from the first to the second of `sound_s`."""
    suffix = path.suffix
    with av.open(str(path), "w", options={"mpegts_copyts": "1"} if suffix == ".ts" else {}) as output:
        video = output.add_stream("wmv2" if suffix == ".wmv" else "libx264", rate=20)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 20)
        codec, layout = {".ts": ("mp2", "s16"), ".wmv": ("wmav2", "fltp")}.get(suffix, ("aac", "fltp"))
        sound = output.add_stream(codec, rate=16000, layout="mono")
        sound.bit_rate = 32000
        for time in times_s:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 100, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(20 * time), Fraction(1, 20)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        planes = np.zeros((1, 1600), np.int16 if layout == "s16" else np.float32)
        for number in range(int(10 * sound_s[0]), int(10 * sound_s[1])):
            frame = av.AudioFrame.from_ndarray(planes, format=layout, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 1600 * number, Fraction(1, 16000)
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def test_a_still_in_a_recording_that_starts_late_is_no_jump_where_the_sound_goes_on(tmp_path):
    times_s = np.array([1000.0, 1000.05, 1000.1, 1030.0, 1030.05])
    probe = probe_video(with_sound(tmp_path / "a.ts", times_s, sound_s=(1000, 1031)))
    np.testing.assert_allclose(probe.timestamps, times_s - 1000, atol=2e-3)
    assert probe.num_mends == 0


def test_stamps_rounded_out_of_order_by_a_coarse_clock_are_no_new_start(make_video, numbers, tmp_path):
    whole = make_video(tmp_path / "whole.mp4", num_frames=40, rate=10, options=B_FRAMES)
    path, written = tmp_path / "a.mp4", []
    with av.open(str(whole)) as given, av.open(str(path), "w", options={"video_track_timescale": "3"}) as output:
        copy = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                # Each is decoded a tick after the one before, as `ffmpeg` mends it, and shown no earlier than that.
                shown = round(3 * packet.pts * packet.time_base)
                packet.time_base, packet.dts, packet.duration, packet.stream = Fraction(1, 3), len(written) - 1, 1, copy
                packet.pts = max(packet.dts, shown)
                written.append(packet.pts)
                output.mux(packet)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, (np.sort(written) - min(written)) / 3, atol=1e-6)
    assert (probe.duration, probe.num_mends) == (pytest.approx((max(written) - min(written) + 1) / 3), 0)
    assert numbers(path) == list(range(40))


# Packets and stamps that yield no frame


@pytest.mark.parametrize("cut", [5, 11])
@pytest.mark.parametrize(
    ("name", "codec", "options", "gop"),
    [
        ("a.mkv", "libx264", B_FRAMES, 12),
        ("a.mp4", "libx264", B_FRAMES, 12),
        ("a.ts", "libx264", B_FRAMES, 12),
        ("a.flv", "libx264", B_FRAMES, 12),
        ("a.mkv", "libx265", X265, 10),
        ("a.ts", "libx265", X265, 10),
        ("a.ts", "mpeg2video", {"bf": "2"}, 12),
        ("a.webm", "libvpx", REALTIME, 12),
        ("a.webm", "libvpx-vp9", REALTIME, 12),
    ],
)
def test_a_stream_that_starts_inside_a_gop_begins_with_the_next(
    make_video, numbers, tmp_path, name, codec, options, gop, cut
):
    rate = 25 if codec == "mpeg2video" else 20
    whole = make_video(tmp_path / f"whole_{name}", codec, num_frames=60, rate=rate, options=options)
    path = remux(whole, tmp_path / name, keep=lambda number, packet: number >= cut)
    shown = numbers(path)
    assert shown == list(range(shown[0], 60))
    assert shown[0] % gop == 0
    assert probe_video(path).num_frames == len(shown)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_hevc_cut_at_an_open_gop_begins_with_its_key_frame(make_video, numbers, tmp_path, name):
    whole = make_video(tmp_path / f"whole_{name}", "libx265", num_frames=60, options=X265)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    second = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
    path = remux(whole, tmp_path / name, keep=lambda number, packet: number >= second)
    assert numbers(path) == list(range(10, 60))
    probe = probe_video(path)
    assert probe.duration == pytest.approx(2.5, abs=2e-3)
    assert probe.timestamps[0] == 0.0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_packets_with_a_message_alone_are_no_frames(make_video, numbers, tmp_path, name, codec):
    options = {"bf": "0"} if codec == "libx264" else {"x265-params": "bframes=0:log-level=none:pools=none"}
    whole = make_video(tmp_path / f"whole_{name}", codec, num_frames=20, rate=20, options=options)
    head = b"\x06" if codec == "libx264" else b"\x4e\x01"  # supplemental enhancement information
    message = head + b"\x05\x11" + bytes(range(17)) + b"\x80"
    data = len(message).to_bytes(4, "big") + message
    path = remux(whole, tmp_path / name, before=lambda number: [data] if number % 3 == 2 else [])
    assert numbers(path) == list(range(20))
    assert probe_video(path).duration == pytest.approx(1.0, abs=2e-3)


def test_packets_of_no_bytes_are_a_picture_that_stays(make_video, numbers, tmp_path):
    # FFmpeg's AVI writer fills a gap in the time stamps with them.
    times_ms = [50 * number for number in range(40) if number % 4 not in (1, 2)]
    path = make_video(tmp_path / "a.avi", "mpeg4", num_frames=20, times_ms=times_ms, rate=20)
    assert path.read_bytes().count(b"00dc" + bytes(4)) > 20
    assert numbers(path) == list(range(20))
    np.testing.assert_allclose(probe_video(path).timestamps, np.array(times_ms) / 1000, atol=1e-3)


@pytest.mark.parametrize(
    ("codec", "empty", "pix_fmt", "options"),
    [("mjpeg", (4, 5, 19), "yuvj420p", {}), ("libx264", (18, 19), "yuv420p", {"bf": "0"})],
)
def test_samples_of_no_bytes_in_mp4_are_no_missing_data(make_video, numbers, tmp_path, codec, empty, pix_fmt, options):
    whole = make_video(tmp_path / "whole.mov", codec, num_frames=20, pix_fmt=pix_fmt, options=options)
    with av.open(str(whole)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    content = bytearray(whole.read_bytes())
    table = content.index(b"stsz") + 16
    assert int.from_bytes(content[table : table + 4], "big") == sizes[0]
    for number in empty:
        content[table + 4 * number : table + 4 * number + 4] = bytes(4)
    # In a chunk each sample follows the one before, so their bytes go too.
    data = content.index(b"mdat")
    for number in reversed(empty):
        start = data + 4 + sum(sizes[:number])
        del content[start : start + sizes[number]]
        length = int.from_bytes(content[data - 4 : data], "big") - sizes[number]
        content[data - 4 : data] = length.to_bytes(4, "big")
    (tmp_path / "a.mov").write_bytes(content)
    assert numbers(tmp_path / "a.mov") == [number for number in range(20) if number not in empty]
    # FFmpeg hands out those of codecs without a parser alone.
    assert probe_video(tmp_path / "a.mov").duration == pytest.approx(1.0 if codec == "mjpeg" else 0.9)


def test_a_damaged_key_frame_is_damage_and_no_late_start(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=60, options=B_FRAMES)
    with av.open(str(path)) as container:
        first = next(container.demux(video=0))
        position, size = first.pos, first.size
    content = bytearray(path.read_bytes())
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(VideoError, match="^corrupt: its first key frame can't be decoded$"):
        probe_video(path)


def test_asf_that_keeps_no_stamps_of_reordered_frames_gives_each_frame_its_time(make_video, number_of, tmp_path):
    path = make_video(tmp_path / "a.wmv", options=B_FRAMES)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, np.arange(60) / 20, atol=2e-3)
    for wanted in (range(60), [2, 3, 31, 47]):
        frames = decode_frames(path, probe, wanted, 64, "squash")
        assert [number_of(frame) for frame in frames] == list(wanted)


def test_matroska_that_begins_before_time_0_keeps_the_time_of_each_frame(tmp_path):
    whole = with_sound(tmp_path / "whole.mp4", np.arange(40) / 20, sound_s=(0, 2))
    path = tmp_path / "a.mkv"
    with av.open(str(whole)) as given, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as output:
        copies = [output.add_stream_from_template(stream) for stream in given.streams]
        for packet in given.demux():
            if packet.size:
                ahead = round(0.47 / packet.time_base)
                packet.pts, packet.dts = packet.pts - ahead, packet.dts - ahead
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    with av.open(str(path)) as container:
        start_s = container.start_time / av.time_base
        assert None in [frame.pts for frame in container.decode(video=0)]
    np.testing.assert_allclose(probe_video(path).timestamps, np.arange(40) / 20 - 0.47 - start_s, atol=2e-3)


# Geometry


def upright_then_coded(coded, mirrored, turned):
    """The coded picture that mirroring left and right and then turning clockwise makes upright again."""
    back = np.rot90(coded, k=turned // 90)
    return back[:, ::-1] if mirrored else back


MATRICES = {  # (mirrored, turned): a, b, c, d of the display matrix, by hand; x' = a x + c y, y' = b x + d y
    (False, 0): (1, 0, 0, 1),
    (False, 90): (0, 1, -1, 0),
    (False, 180): (-1, 0, 0, -1),
    (False, 270): (0, -1, 1, 0),
    (True, 0): (-1, 0, 0, 1),
    (True, 90): (0, -1, -1, 0),
    (True, 180): (1, 0, 0, -1),
    (True, 270): (0, 1, 1, 0),
}


@pytest.mark.parametrize(("mirrored", "turned"), MATRICES)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_whole_display_matrix_is_applied(tmp_path, name, mirrored, turned):
    rng = np.random.default_rng(0)
    upright = np.kron(rng.integers(16, 236, (3, 4)), np.ones((32, 32)))[:, :, None].repeat(3, 2).astype(np.uint8)
    coded = np.ascontiguousarray(upright_then_coded(upright, mirrored, turned))
    a, b, c, d = (65536 * value for value in MATRICES[mirrored, turned])
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *coded.shape[:2], "yuv420p"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        output.mux(stream.encode(av.VideoFrame.from_ndarray(coded, format="rgb24")))
        output.mux(stream.encode(None))
    probe = probe_video(tmp_path / name)
    assert (probe.width, probe.height) == (128, 96)
    (frame,) = decode_frames(tmp_path / name, probe, [0], 96, "crop")
    assert np.abs(frame.astype(int) - upright[:, 16:112]).mean() < 4


def test_an_orientation_that_only_key_frames_state_is_that_of_all_frames(draw, numbers, tmp_path):
    # As phones send it live; the picture is to be turned anticlockwise.
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=20, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 128, "yuv420p"
        turning = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        for number in range(31):
            coded = np.ascontiguousarray(np.rot90(draw(number, 128, 96), k=-1))
            frame = av.VideoFrame.from_ndarray(coded, format="rgb24") if number < 30 else None
            for packet in stream.encode(frame):
                output.mux(turning.filter(packet))
    with av.open(str(path)) as container:
        assert sum("DISPLAYMATRIX" in frame.side_data for frame in container.decode(video=0)) == 3
    assert (probe_video(path).width, probe_video(path).height) == (128, 96)
    assert numbers(path) == list(range(30))


@pytest.mark.parametrize(("orientation", "mirrored", "turned"), [(1, False, 0), (6, False, 90), (2, True, 0)])
def test_jpegs_with_exif_data_are_frames_and_turned_as_it_says(draw, numbers, tmp_path, orientation, mirrored, turned):
    # Cameras write it into AVI; PyAV has no name for what FFmpeg makes of it.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.height, stream.width = (128, 96) if turned else (96, 128)
        stream.pix_fmt = "yuvj420p"
        for number in range(5):
            coded = upright_then_coded(draw(number, 128, 96), mirrored, turned)
            content = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(coded)).save(content, "JPEG", exif=exif)
            packet = av.Packet(content.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            output.mux(packet)
    assert (probe_video(path).width, probe_video(path).height) == (128, 96)
    assert numbers(path) == list(range(5))
    with pytest.raises(ValueError, match="is not a valid Type"):  # as PyAV alone has it
        Type(-1)


def with_clean_aperture(path, width, height):
    """Put a clean aperture, centred, into the sample entry of an MP4 file whose index is its last box."""
    numbers = (width, 1, height, 1, 0, 1, 0, 1)
    box = (40).to_bytes(4, "big") + b"clap" + b"".join(number.to_bytes(4, "big") for number in numbers)
    content = bytearray(path.read_bytes())
    at = {name: content.rindex(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")}
    assert content.index(b"mdat") < at[b"moov"]
    end = at[b"avc1"] + int.from_bytes(content[at[b"avc1"] : at[b"avc1"] + 4], "big")
    for start in at.values():
        content[start : start + 4] = (int.from_bytes(content[start : start + 4], "big") + 40).to_bytes(4, "big")
    content[end:end] = box
    path.write_bytes(content)


def with_pixel_crop(path):
    """Take 32 pixels off above, in place of the unit of a display size that FFmpeg writes into Matroska."""
    content = path.read_bytes()
    assert content.count(b"\x54\xb2\x81\x04") == 1
    path.write_bytes(content.replace(b"\x54\xb2\x81\x04", b"\x54\xbb\x81\x20"))


def test_a_clean_aperture_is_applied(make_video, number_of, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=4, size=(128, 160))
    with_clean_aperture(path, 96, 80)
    probe = probe_video(path)
    assert (probe.width, probe.height) == (96, 80)
    assert probe.crop == (16, 16, 40, 40)
    (frame,) = decode_frames(path, probe, [3], 80, "squash")
    # Columns 16 to 112 of 128 show bits 1 to 6 of 0b00000011, and the middle of the picture is still the middle.
    assert [bool(frame[20, 80 * (2 * column + 1) // 12].mean() > 128) for column in range(6)] == [False] * 5 + [True]
    assert frame[36, 5].mean() < 60
    assert frame[44, 5].mean() > 190


def test_the_crop_of_matroska_is_applied(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", num_frames=4)
    with_pixel_crop(path)
    probe = probe_video(path)
    assert (probe.width, probe.height) == (128, 64)
    assert probe.crop == (0, 0, 32, 0)
    (frame,) = decode_frames(path, probe, [0], 64, "squash")
    # Of 96 rows the black upper half ends at 48, which is row 16 of the 64 that are left.
    assert frame[12].mean() < 60
    assert frame[20].mean() > 190


def test_a_title_that_reads_like_a_crop_is_none(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", num_frames=2, title="x\n      Frame Cropping: 1/2/3/4")
    assert probe_video(path).crop == (0, 0, 0, 0)


# VP9


@pytest.mark.parametrize("name", ["a.webm", "a.mp4"])
def test_vp9_of_changing_size_is_not_distorted(make_video, numbers, tmp_path, name):
    small = make_video(tmp_path / f"small_{name}", "libvpx-vp9", num_frames=20, options=REALTIME)
    large = make_video(tmp_path / f"large_{name}", "libvpx-vp9", num_frames=20, first=20, size=(256, 96))
    with av.open(str(tmp_path / name), "w") as output:
        stream = None
        for part, source in enumerate((small, large)):
            with av.open(str(source)) as given:
                stream = stream or output.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = packet.pts + part * int(1 / packet.time_base)
                        packet.stream = stream
                        output.mux(packet)
    assert probe_video(tmp_path / name).decoder == "pyav"
    assert numbers(tmp_path / name) == list(range(40))


def test_vp9_without_a_duration_is_read(make_video, numbers, tmp_path):
    path = make_video(
        tmp_path / "a.webm", "libvpx-vp9", num_frames=30, options=REALTIME, container_options={"live": "1"}
    )
    with av.open(str(path)) as container:
        assert container.duration is None
    assert numbers(path) == list(range(30))
    assert probe_video(path).duration == pytest.approx(1.5, abs=2e-3)


def test_what_decord_cannot_read_pyav_does(make_video, numbers, tmp_path, monkeypatch):
    import decord

    def fails(*arguments, **settings):
        raise decord.DECORDError("[21:09:33] /opt/video_reader.cc:151: Check failed: 0x7f12")

    path = make_video(tmp_path / "a.webm", "libvpx-vp9", num_frames=30, options=REALTIME)
    assert probe_video(path).decoder == "decord"
    monkeypatch.setattr(decord, "VideoReader", fails)
    assert numbers(path) == list(range(30))


@pytest.mark.parametrize("options", [REALTIME, {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}])
def test_vp9_states_its_size_and_nothing_else(make_video, tmp_path, options):
    path = make_video(tmp_path / "a.webm", "libvpx-vp9", num_frames=60, size=(130, 98), options=options)
    with av.open(str(path)) as container:
        sizes = [vp9_sizes(packet) for packet in container.demux(video=0) if packet.size]
    assert sizes[0] == {(130, 98)}
    assert set().union(*sizes) == {(130, 98)}


def test_mpeg2_of_changing_size_gives_the_frames_that_its_decoder_does(make_video, numbers, number_of, tmp_path):
    settings = {"rate": 25, "num_frames": 10, "options": {"bf": "2"}}
    small = make_video(tmp_path / "small.m2v", "mpeg2video", **settings)
    large = make_video(tmp_path / "large.m2v", "mpeg2video", first=10, size=(256, 96), **settings)
    path = tmp_path / "a.m2v"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with av.open(str(path)) as container:
        expected = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert len(expected) < 20
    assert numbers(path) == expected


# The clock of the player


def test_sound_that_starts_after_the_picture_is_no_missing_data(tmp_path):
    probe = probe_video(with_sound(tmp_path / "a.wmv", np.arange(40) / 20, sound_s=(0.8, 2.0)))
    np.testing.assert_allclose(probe.timestamps, np.arange(40) / 20, atol=2e-3)
    assert probe.duration == pytest.approx(2.0, abs=2e-3)


def late_picture(path, *, first_s, num_frames=20):
    """Sound from 0 on, and a picture of 10 frames a second from `first_s` on."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=10, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = output.add_stream("mp2" if path.suffix == ".ts" else "aac", rate=44100, layout="mono")
        for number in range(num_frames):
            image = np.full((64, 64, 3), 20 + 200 * (number >= num_frames // 2), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number + round(10 * first_s), Fraction(1, 10)
            output.mux(video.encode(frame))
        for number in range(int(44.1 * (first_s + num_frames / 10))):
            planes = np.zeros((1, 1000), np.float32 if path.suffix != ".ts" else np.int16)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp" if path.suffix != ".ts" else "s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, 1000 * number, Fraction(1, 44100)
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.flv"])
def test_a_picture_that_starts_after_the_sound_keeps_its_place(tmp_path, name):
    path = late_picture(tmp_path / name, first_s=2.0)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.timestamps, 2 + np.arange(20) / 10, atol=0.03)
    assert probe.duration == pytest.approx(4.0, abs=0.03)
    assert probe.fps == pytest.approx(10.0, rel=1e-3)
    task = DetectionTask("v", path, DetectorSettings("content", 27.0, 0.6), Memo(None), "")
    assert find_cuts(task) == pytest.approx([3.0], abs=0.03)


def test_a_transport_stream_starts_with_its_first_stream(tmp_path):
    probe = probe_video(late_picture(tmp_path / "a.ts", first_s=2.0))
    np.testing.assert_allclose(probe.timestamps, np.arange(20) / 10, atol=1e-3)


# One stream for all stages


def test_cover_art_is_not_taken_for_the_video(tmp_path):
    picture = io.BytesIO()
    av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").to_image().save(picture, "JPEG")
    path = late_picture(tmp_path / "a.mp4", first_s=0.0)
    with av.open(str(path)) as given, av.open(str(tmp_path / "b.mp4"), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt, cover.disposition = "yuvj420p", Disposition.attached_pic
        copy = output.add_stream_from_template(given.streams.video[0])
        data = av.Packet(picture.getvalue())
        data.stream, data.pts, data.dts, data.time_base = cover, 0, 0, Fraction(1, 90000)
        output.mux(data)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with open_video(tmp_path / "b.mp4") as container:
        assert len(container.streams.video) == 2
        assert video_stream(container).codec_context.name == "h264"
    assert probe_video(tmp_path / "b.mp4").num_frames == 20
    task = DetectionTask("v", tmp_path / "b.mp4", DetectorSettings("content", 27.0, 0.6), Memo(None), "")
    assert find_cuts(task) == pytest.approx([1.0])
