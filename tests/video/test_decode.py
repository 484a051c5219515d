"""That each frame asked for is the frame that comes back, whatever file it is in."""

from dataclasses import replace

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from PIL import Image

from stillmotion.video.decode import centre_crop, decode_frames, resized_shape
from stillmotion.video.probe import VideoError, probe_video
from stillmotion.video.sampling import frames_shown_at, segment_times

X264_OPEN_GOP = {"x264-params": "open-gop=1:keyint=10:bframes=3:b-pyramid=normal:scenecut=0"}
X265_OPEN_GOP = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:bframes=4:scenecut=0:pools=none:log-level=none"}
VP9_HIDDEN_FRAMES = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}
B_FRAMES = {"bf": "3", "g": "12"}

ENCODINGS = {
    "h264_b_frames.mp4": ("libx264", B_FRAMES),
    "h264_open_gop.mkv": ("libx264", X264_OPEN_GOP),
    "h264_open_gop.mp4": ("libx264", X264_OPEN_GOP),
    "h264_b_frames.ts": ("libx264", B_FRAMES),
    "h264_b_frames.avi": ("libx264", B_FRAMES),
    "h264_b_frames.flv": ("libx264", B_FRAMES),
    "h264_no_container.h264": ("libx264", B_FRAMES),
    "h264_10_bit.mp4": ("libx264", {"pix_fmt": "yuv420p10le"}),
    "h264_444_odd_size.mp4": ("libx264", {"pix_fmt": "yuv444p", "size": (131, 97)}),
    "hevc_open_gop.mp4": ("libx265", X265_OPEN_GOP),
    "vp9_hidden_frames.webm": ("libvpx-vp9", VP9_HIDDEN_FRAMES),
    "vp9_odd_size.mp4": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "size": (131, 97)}),
    "vp9_turned.mp4": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "turned": 90}),
    "vp8_hidden_frames.webm": ("libvpx", VP9_HIDDEN_FRAMES),
    "av1.mp4": ("libsvtav1", {"preset": "8", "svtav1-params": "lp=1"}),
    "mpeg4_b_frames.avi": ("mpeg4", {"bf": "2"}),
    "mpeg4.avi": ("mpeg4", {}),
    "mpeg4_b_frames.mp4": ("mpeg4", {"bf": "2"}),
    "mpeg2_b_frames.mpg": ("mpeg2video", {"bf": "2", "rate": 25}),
    "mpeg2_b_frames.ts": ("mpeg2video", {"bf": "2", "rate": 25}),
    "mpeg1_b_frames.mpg": ("mpeg1video", {"bf": "2", "rate": 25}),
    "motion_jpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p"}),
    "wmv.wmv": ("wmv2", {}),
    "late_start.mkv": ("libx264", {"times_ms": (5000 + 50 * np.arange(60)).tolist()}),
    "variable_rate.mp4": ("libx264", {"times_ms": np.cumsum([20, 20, 400, 33, 10] * 12).tolist()}),
    "turned_90.mp4": ("libx264", {"turned": 90}),
    "turned_180.mov": ("libx264", {"turned": 180}),
    "turned_270.mkv": ("libx264", {"turned": 270}),
}
MAKER_SETTINGS = {"pix_fmt", "size", "turned", "times_ms", "rate"}


@pytest.mark.parametrize("name", ENCODINGS)
def test_each_frame_is_the_one_with_its_number(make_video, number_of, tmp_path, name):
    codec, settings = ENCODINGS[name]
    options = {key: value for key, value in settings.items() if key not in MAKER_SETTINGS}
    settings = {key: value for key, value in settings.items() if key in MAKER_SETTINGS}
    path = make_video(tmp_path / name, codec, num_frames=60, options=options, **settings)
    probe = probe_video(path)
    assert probe.num_frames == 60
    # Frames just before and after the key frames, lone frames far apart, and the ends.
    for indices in ([0, 1, 2, 9, 10, 11, 12, 19, 20, 21, 33, 58, 59], [7], [59], [4, 30], list(range(60))):
        frames = decode_frames(path, probe, indices, 64, "squash")
        assert [number_of(frame) for frame in frames] == indices


def test_frames_that_nobody_asks_for_change_no_pixel_of_the_others(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=60, options=B_FRAMES)
    probe = probe_video(path)
    everything = decode_frames(path, probe, range(60), 64, "crop")
    for indices in ([3, 17, 40], [1, 2, 3, 5, 8, 13, 21, 34, 55], [58]):
        np.testing.assert_array_equal(decode_frames(path, probe, indices, 64, "crop"), everything[indices])


def test_frames_go_into_the_array_that_is_given(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=4)
    out = np.zeros((2, 32, 32, 3), np.uint8)
    assert decode_frames(path, probe_video(path), [0, 3], 32, "squash", out=out) is out
    assert out.any()


@pytest.mark.parametrize(
    ("width", "height", "size_px", "expected"),
    [
        (640, 360, 224, (398, 224)),  # 398.2
        (360, 640, 224, (224, 398)),
        (340, 256, 224, (297, 224)),  # 297.5
        (64, 64, 64, (64, 64)),
        (320, 240, 256, (341, 256)),  # 341.3
    ],
)
def test_the_longer_side_is_rounded_down_as_in_clips_transform(width, height, size_px, expected):
    transforms = pytest.importorskip("torchvision.transforms")
    assert resized_shape(width, height, size_px, "crop") == expected
    assert transforms.Resize(size_px)(Image.new("RGB", (width, height))).size == expected
    assert resized_shape(width, height, size_px, "squash") == (size_px, size_px)


@pytest.mark.parametrize("shape", [(64, 79), (64, 80), (64, 81), (64, 82), (83, 64), (64, 64)])
def test_the_centre_crop_is_torchvisions(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = np.asarray(transforms.CenterCrop(64)(Image.fromarray(image)))
    np.testing.assert_array_equal(centre_crop(image, 64), expected)


def corrupted(path, packets):
    """Overwrite the content of some packets of an MP4 file; its index still promises them."""
    with av.open(str(path)) as container:
        found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in packets:
        position, size = found[number]
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def test_a_video_whose_last_frames_do_not_decode_is_corrupt(make_video, tmp_path):
    path = corrupted(make_video(tmp_path / "a.mp4", num_frames=60), range(50, 60))
    probe = probe_video(path)
    assert probe.num_frames == 60
    with pytest.raises(VideoError, match="^corrupt: "):
        decode_frames(path, probe, [0, 30, 59], 64, "crop")


def test_damage_after_the_last_frame_asked_for_is_never_met(make_video, number_of, tmp_path):
    path = corrupted(make_video(tmp_path / "a.mp4", num_frames=60, options={"bf": "0"}), range(50, 60))
    frames = decode_frames(path, probe_video(path), [0, 30], 64, "squash")
    assert [number_of(frame) for frame in frames] == [0, 30]


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("libvpx-vp9", "a.webm")])
def test_a_frame_count_that_lies_gives_no_repeated_frame(make_video, tmp_path, codec, name):
    path = make_video(tmp_path / name, codec, num_frames=20)
    probe = probe_video(path)
    gap = probe.pts[1] - probe.pts[0]
    lie = replace(
        probe,
        num_frames=40,
        timestamps=np.arange(40) / 20,
        pts=probe.pts[0] + gap * np.arange(40),
    )
    with pytest.raises(VideoError, match="^corrupt: "):
        decode_frames(path, lie, [0, 10, 39], 64, "crop")


def test_the_reason_names_the_time_from_which_frames_are_missing(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=20, rate=20)
    probe = probe_video(path)
    lie = replace(probe, num_frames=40, timestamps=np.arange(40) / 20, pts=probe.pts[0] + 512 * np.arange(40))
    with pytest.raises(VideoError, match="from 1.50 s on"):
        decode_frames(path, lie, [0, 30, 39], 64, "crop")


def reference(frame: av.VideoFrame, rotation: int, size_px: int) -> np.ndarray:
    """The frame as PyAV converts it at full size, and Pillow's bicubic resize of that."""
    precise = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    upright = np.rot90(frame.reformat(format="rgb24", interpolation=precise).to_ndarray(), k=-rotation // 90)
    shape = resized_shape(upright.shape[1], upright.shape[0], size_px, "crop")
    return centre_crop(np.asarray(Image.fromarray(upright).resize(shape, Image.Resampling.BICUBIC)), size_px)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


# Two bicubic scalers, one of which works before the conversion to RGB and the other after, differ by rounding:
# half a level, and up to 1 where 4:2:0 chroma is enlarged. decord's scaler is an older one: see probe.py.
TOLERANCE = {"pyav": 1.0, "decord": 4.0}


@pytest.mark.real
@pytest.mark.slow
def test_real_videos_give_the_frame_that_pyav_decodes_at_that_time(real_material):
    compared = neighbours = 0
    for path in sorted((real_material / "videos").iterdir()):
        probe = probe_video(path)
        wanted = np.unique(frames_shown_at(probe.timestamps, segment_times(probe.duration, 6))).tolist()
        if path.name == "decord__corrupted.mp4":
            with pytest.raises(VideoError, match="before the frame at"):
                decode_frames(path, probe, wanted, 224, "crop")
            continue
        frames = dict(zip(wanted, decode_frames(path, probe, wanted, 224, "crop"), strict=True))
        near = {number + offset for number in wanted for offset in (-1, 0, 1)}
        pts, references = [], {}
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                pts.append(frame.pts)
                if number in near:
                    references[number] = reference(frame, probe.orientation.rotation, 224)
        assert probe.num_frames == len(pts), path.name
        assert probe.pts is None or probe.pts.tolist() == pts, path.name
        tolerance = TOLERANCE[probe.decoder]
        for number, frame in frames.items():
            assert distance(frame, references[number]) < tolerance, (path.name, number)
            compared += 1
            for neighbour in (number - 1, number + 1):
                # Where the frames beside it differ at all, taking one of them would have failed.
                other = references.get(neighbour, references[number])
                if distance(references[number], other) > 2 * tolerance:
                    assert distance(frame, other) > tolerance, (path.name, number)
                    neighbours += 1
    assert compared > 300
    assert neighbours > 300


def exact_rgb(frame: av.VideoFrame, *, red: float, blue: float) -> np.ndarray:
    """An 8-bit frame of limited range in float64, by the weights of red and blue in the luma; chroma is repeated."""
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)
        for plane in frame.planes
    ]
    luma = (planes[0] - 16) / 219
    factor = planes[0].shape[0] // planes[1].shape[0]
    to_blue, to_red = (np.kron((plane - 128) / 224, np.ones((factor, factor))) for plane in planes[1:])
    r, b = luma + 2 * (1 - red) * to_red, luma + 2 * (1 - blue) * to_blue
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return 255 * np.clip(np.stack([r, g, b], axis=-1), 0, 1)


def mean_bias(path, number, frame: av.VideoFrame, *, red: float, blue: float, size_px: int) -> np.ndarray:
    """Of the three colours in levels, against the bicubic resize of the exact frame."""
    (found,) = decode_frames(path, probe_video(path), [number], size_px, "squash")
    colours = [
        Image.fromarray(colour.astype(np.float32)) for colour in np.moveaxis(exact_rgb(frame, red=red, blue=blue), 2, 0)
    ]
    wanted = [np.asarray(colour.resize((size_px, size_px), Image.Resampling.BICUBIC)) for colour in colours]
    return found.mean((0, 1)) - np.clip(wanted, 0, 255).mean((1, 2), dtype=float)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_stored_colours_are_not_shifted(tmp_path, pix_fmt):
    """A frame that no step clips, coded without loss, in BT.601."""
    frame = av.VideoFrame(160, 120, pix_fmt)
    for plane, (level, swing) in zip(frame.planes, ((130, 40), (128, 20), (120, 20)), strict=True):
        rows, columns = np.ogrid[: plane.height, : plane.line_size]
        values = level + swing * np.sin(rows / plane.height * 9 + level) * np.cos(columns / plane.width * 7)
        plane.update(values.round().astype(np.uint8))
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=20, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, pix_fmt
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert np.abs(mean_bias(path, 0, frame, red=0.299, blue=0.114, size_px=64)).max() < 0.1


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "red", "blue"),
    [
        ("univtg__charades.mp4", 0.299, 0.114),
        ("video_features__v_GGSY1Qvo990.mp4", 0.299, 0.114),
        ("videollama2__sample_demo_3.mp4", 0.2126, 0.0722),
    ],
)
def test_stored_colours_of_real_videos_are_not_shifted(real_material, name, red, blue):
    path = real_material / "videos" / name
    with av.open(str(path)) as container:
        frame = next(frame for number, frame in enumerate(container.decode(video=0)) if number == 20)
    assert np.abs(mean_bias(path, 20, frame, red=red, blue=blue, size_px=224)).max() < 0.1


def test_colours_that_swscale_cannot_convert_are_not_called_damage(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=2, options={"colorspace": "ycgco"})
    with pytest.raises(VideoError, match=r"^no conversion of its frames to RGB \('Operation not supported'\)$"):
        decode_frames(path, probe_video(path), [0], 16, "crop")


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("libvpx-vp9", ".webm")])
@pytest.mark.parametrize("stem", ["two words", "-dash", "Übung 動画 🎬", "50%", "http:x"])
def test_any_file_name_is_decoded(make_video, tmp_path, monkeypatch, codec, suffix, stem):
    monkeypatch.chdir(tmp_path)
    path = make_video(tmp_path / (stem + suffix), codec, num_frames=3).relative_to(tmp_path)
    assert decode_frames(path, probe_video(path), [0, 2], 16, "crop").shape == (2, 16, 16, 3)
