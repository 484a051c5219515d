"""Which stream of a file is its video, and what becomes of files in which several of them take turns."""

import contextlib

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from stillmotion.video.probe import VideoError, probe_video


@pytest.mark.parametrize(
    "numbering",
    [
        {"mpegts_start_pid": "300"},
        {"mpegts_start_pid": "300", "mpegts_pmt_start_pid": "4100", "mpegts_service_id": "2"},
    ],
    ids=["another number in the program", "another program"],
)
def test_a_picture_that_goes_on_in_another_stream_is_not_half_read(make_video, tmp_path, numbering):
    # As around advertisements; PyAV gives the first half, and for another program an IndexError at its end.
    parts = [
        make_video(tmp_path / f"{number}.ts", num_frames=30, first=30 * number, container_options=options)
        for number, options in enumerate(({}, numbering))
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match="^corrupt: its picture goes on in another stream$"):
        probe_video(tmp_path / "a.ts")


def beside_each_other(path, sources, disposition=None):
    """The videos of several files as streams of one, the first with `disposition`."""
    with contextlib.ExitStack() as opened, av.open(str(path), "w") as output:
        packets = []
        for number, source in enumerate(sources):
            given = opened.enter_context(av.open(str(source)))
            copy = output.add_stream_from_template(given.streams.video[0])
            if disposition is not None and number == 0:
                copy.disposition = disposition
            packets += [(packet, copy) for packet in given.demux(video=0) if packet.size]
        for packet, copy in sorted(packets, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = copy
            output.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
def test_of_two_pictures_beside_each_other_the_first_is_the_video(make_video, numbers, tmp_path, name):
    parts = [make_video(tmp_path / f"{first}.mp4", num_frames=30, first=first) for first in (0, 30)]
    assert numbers(beside_each_other(tmp_path / name, parts)) == list(range(30))


@pytest.mark.parametrize("disposition", [Disposition(0), Disposition.timed_thumbnails])
def test_a_still_before_the_video_is_not_taken_for_it(make_video, numbers, tmp_path, disposition):
    # Cameras put a thumbnail there, which not all of them mark.
    still = make_video(tmp_path / "still.mp4", "mjpeg", num_frames=1, first=200, pix_fmt="yuvj420p")
    film = make_video(tmp_path / "film.mp4", num_frames=20)
    path = beside_each_other(tmp_path / "a.mp4", (still, film), disposition)
    with av.open(str(path)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "h264"]
    assert numbers(path) == list(range(20))


def test_of_two_pictures_in_vp9_the_first_is_the_video_though_the_second_is_larger(make_video, numbers, tmp_path):
    # decord takes the second, of as many frames.
    settings = {"codec": "libvpx-vp9", "num_frames": 20, "options": {"deadline": "realtime", "cpu-used": "8"}}
    small = make_video(tmp_path / "small.webm", **settings)
    large = make_video(tmp_path / "large.webm", first=20, size=(256, 192), **settings)
    assert numbers(beside_each_other(tmp_path / "a.mp4", (small, large))) == list(range(20))


def images(draw, num):
    return [Image.fromarray(draw(number, 128, 96)) for number in range(num)]


def test_an_animated_avif_is_its_animation_and_not_the_still_before_it(draw, numbers, tmp_path):
    first, *others = images(draw, 10)
    first.save(tmp_path / "a.avif", save_all=True, append_images=others, duration=100)
    assert numbers(tmp_path / "a.avif") == list(range(10))
    np.testing.assert_allclose(probe_video(tmp_path / "a.avif").timestamps, np.arange(10) / 10)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("avif", r"not a video \(FFmpeg reads it as avif\)"),
        ("ico", r"not a video \(FFmpeg reads it as ico\)"),
        ("pdf", r"not a video \(it has pictures in it\)"),
    ],
)
def test_an_image_or_a_document_of_images_under_a_video_name_is_no_video(draw, tmp_path, kind, reason):
    images(draw, 1)[0].save(tmp_path / f"a.{kind}")
    path = (tmp_path / f"a.{kind}").rename(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=f"^{reason}$"):
        probe_video(path)
