"""Which stream of a file is its video, and what becomes of files in which several of them take turns."""

import contextlib

import av
import pytest

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
