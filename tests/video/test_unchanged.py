"""A video that is replaced or goes while it is looked at: what has its digest is never made of another."""

import shutil

import pytest

from stillmotion.errors import InputError
from stillmotion.io.memo import Memo, file_digest
from stillmotion.moments import shot_detection
from stillmotion.moments.shot_detection import DetectionTask, DetectorSettings, find_cuts
from stillmotion.video import packing
from stillmotion.video.packing import PackingTask, SamplingPlan, pack_video
from stillmotion.video.probe import VideoError

PLAN = SamplingPlan(16, "squash", 4, 1.0, "start", "raw")


@pytest.fixture
def videos(make_video, tmp_path):
    """Two that differ."""
    return make_video(tmp_path / "a.mp4", num_frames=20), make_video(tmp_path / "b.mp4", num_frames=40)


def frames(path, folder, sha256=None):
    task = PackingTask("v", path, folder / "v.npy", PLAN, Memo(folder / "memo"), "code", sha256=sha256)
    return pack_video(task).probed["num_frames"]


def cuts(path, folder, sha256=None):
    settings = DetectorSettings("content", 27.0, 0.6)
    return find_cuts(DetectionTask("v", path, settings, Memo(folder / "memo"), "code", sha256))


LOOKS = [(frames, packing, "decode_frames"), (cuts, shot_detection, "decoded_frames")]


@pytest.mark.parametrize(("look_at", "module", "decode"), LOOKS)
@pytest.mark.parametrize("fate", ["replaced", "gone"])
def test_of_a_video_that_does_not_stay_nothing_is_kept(videos, tmp_path, monkeypatch, look_at, module, decode, fate):
    mine, other = videos
    digest, decoded = file_digest(mine), getattr(module, decode)

    def and_meanwhile(*arguments, **options):
        if fate == "replaced":
            shutil.copyfile(other, mine)
            return decoded(*arguments, **options)
        mine.unlink()
        raise VideoError("no such file")

    monkeypatch.setattr(module, decode, and_meanwhile)
    with pytest.raises(InputError, match=r"a\.mp4: is gone, or another file than stage download saw"):
        look_at(mine, tmp_path, digest)
    assert [path for path in (tmp_path / "memo").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("look_at", [frames, cuts])
def test_a_video_that_download_did_not_see_like_this_is_refused(videos, tmp_path, look_at):
    mine, other = videos
    with pytest.raises(InputError, match=r"a\.mp4: is gone, or another .* \(dvc repro --force download\), then go on"):
        look_at(mine, tmp_path, file_digest(other))
    digest = file_digest(mine)
    mine.unlink()
    with pytest.raises(InputError, match=r"a\.mp4: is gone, or another"):
        look_at(mine, tmp_path, digest)


@pytest.mark.parametrize("look_at", [frames, cuts])
def test_a_broken_video_that_download_saw_like_this_is_lost_and_stops_nothing(tmp_path, look_at):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(VideoError, match="not a video"):
        look_at(broken, tmp_path, file_digest(broken))
