import numpy as np
import pytest
from PIL import Image

from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Video
from stillmotion.search.frames import check_folder, write_frames
from stillmotion.search.ranking import FoundMoment
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

VIDEO_ID = "My Films/Ünten: 1"


@pytest.fixture
def packed(tmp_path):
    """A video of five stored frames, each of one color; clips 0 to 2 are frames 1, 3 and 4."""
    folder = tmp_path / "store"
    frames = np.stack([np.full((8, 8, 3), 40 * number, dtype=np.uint8) for number in range(5)])
    save_array(folder / part_file(VIDEO_ID), frames)
    join_parts(folder, [VIDEO_ID])
    probed = {"duration": 5.0, "fps": 1.0, "num_frames": 5, "width": 8, "height": 8, "codec": "h264"}
    video = PackedVideo(probed, np.array([0.0, 1.0, 2.0, 3.0, 4.25]), np.array([0, 2]), np.array([1, 3, 4]), False)
    empty = {name: None for name in probed}
    write_tables(folder, [Video(VIDEO_ID, "v.mp4", "test", **empty, status="ok")], {VIDEO_ID: video}, {})
    return PackedFrames(folder)


def moment(first_clip, end_clip):
    return FoundMoment(VIDEO_ID, 2.0 * first_clip, min(2.0 * end_clip, 5.0), 0.5, first_clip, end_clip)


def test_each_clip_of_a_moment_is_a_file_named_by_rank_video_and_time(packed, tmp_path):
    assert write_frames(tmp_path / "out", [moment(1, 3), moment(0, 1)], packed) == 3
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [
        "01_My_Films_Ünten__1_00003.00s.png",
        "01_My_Films_Ünten__1_00004.25s.png",
        "02_My_Films_Ünten__1_00001.00s.png",
    ]
    assert [np.asarray(Image.open(path)).tolist()[0][0] for path in files] == [[120] * 3, [160] * 3, [40] * 3]


def test_a_long_id_fits_in_a_file_name(packed, tmp_path):
    long = "界" * 60
    row = packed._rows.pop(VIDEO_ID)
    packed._rows[long] = row
    write_frames(tmp_path / "out", [FoundMoment(long, 0.0, 2.0, 0.5, 0, 1)], packed)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["01_" + "界" * 40 + "_00001.00s.png"]


def test_frames_do_not_mix_with_other_files(tmp_path):
    check_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="is there and not an empty folder; name a new one"):
            check_folder(path)


def test_frames_of_an_older_store_are_refused(packed, tmp_path):
    with pytest.raises(InputError, match="fewer frames of .* than are embedded; run `dvc repro`"):
        write_frames(tmp_path / "out", [moment(2, 4)], packed)
